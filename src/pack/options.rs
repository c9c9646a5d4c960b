//! What is packed, how, and under which name.

use std::sync::Arc;
use std::time::Duration;

use crate::encryption::{ENCRYPTED_SUFFIX, Recipients};
use crate::model::{Method, MissingKind, PIECE_LEN_BYTES, PackOptions, Selector, Timestamp};
use crate::signature::SigningKey;
use crate::store::Store;

/// How a set is packed.
#[derive(Debug, Clone)]
pub struct PackRequest {
    /// Which exports are wanted.
    pub wanted: SelectionOptions,
    /// Pairs of which the entities may be more or fewer than the metadata count.
    pub accept_count: Vec<Selector>,
    /// How long to wait for what is expected; zero looks once.
    pub wait: Duration,
    /// Whether entries are deflated or stored.
    pub method: Method,
    /// Deflate level, 1 to 9.
    pub level: u32,
    /// Whether an archive of that name may be replaced.
    pub overwrite: bool,
    /// Whether to stop before any data is read.
    pub dry_run: bool,
    /// Whether the data of an incomplete set in a bucket is read all the same, so that all of its
    /// faults are found.
    pub all_faults: bool,
    /// Kinds that the backup lacks; the manifest lists them.
    pub missing: Vec<MissingKind>,
    /// The instant that all exports show, where one was requested.
    pub snapshot_time: Option<Timestamp>,
    /// Where the companions are: each object there is packed under its name below its store.
    pub companions: Vec<Arc<dyn Store>>,
    /// The key that signs the archive; without one there is no signature.
    pub signing_key: Option<SigningKey>,
    /// Who can decrypt the archive; without recipients it is not encrypted.
    pub recipients: Option<Recipients>,
}

/// Everything that is there, deflated, under a free name.
impl Default for PackRequest {
    fn default() -> Self {
        PackRequest {
            wanted: SelectionOptions::default(),
            accept_count: Vec::new(),
            wait: Duration::ZERO,
            method: Method::Deflate,
            level: 6,
            overwrite: false,
            dry_run: false,
            all_faults: false,
            missing: Vec::new(),
            snapshot_time: None,
            companions: Vec::new(),
            signing_key: None,
            recipients: None,
        }
    }
}

impl PackRequest {
    /// The name of the archive's object: that of an encrypted one ends in `.age`.
    pub fn object_name(&self, name: &str) -> String {
        match self.recipients {
            Some(_) if !name.ends_with(ENCRYPTED_SUFFIX) => format!("{name}{ENCRYPTED_SUFFIX}"),
            _ => name.to_owned(),
        }
    }

    /// As the manifest records them.
    pub(super) fn recorded(&self) -> PackOptions {
        let level = (self.method == Method::Deflate).then_some(self.level);
        PackOptions {
            method: self.method,
            level,
            piece_bytes: PIECE_LEN_BYTES as u64,
        }
    }
}

/// The name that the archive gets.
#[derive(Debug, Clone)]
pub enum ArchiveName {
    /// This one.
    Explicit(String),
    /// `{namespace}_backup_{YYYYMMDDHHMMSS}.zip`.
    Automatic,
}

/// Which exports of a SOURCE are wanted.
#[derive(Debug, Clone)]
pub struct SelectionOptions {
    /// Only these, unless empty.
    pub only: Vec<Selector>,
    /// Not these.
    pub exclude: Vec<Selector>,
    /// Each of these must be there and finished.
    pub expect: Vec<Selector>,
    /// Of two exports of one pair the newest is taken.
    pub latest: bool,
    /// How much later than another export one may start: with `latest` an older one is stale, else
    /// a wider spread is worth a warning.
    pub max_spread: Duration,
}

/// Everything, of one night.
impl Default for SelectionOptions {
    fn default() -> Self {
        SelectionOptions {
            only: Vec::new(),
            exclude: Vec::new(),
            expect: Vec::new(),
            latest: false,
            max_spread: Duration::from_secs(24 * 60 * 60),
        }
    }
}
