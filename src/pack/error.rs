//! Why a set was not packed.

use std::fmt;

use crate::archive::deflate::DataError;
use crate::archive::zip::ZipWriteError;
use crate::export::discover::{Problem, Severity};
use crate::model::{KindRef, Timestamp, UnmatchedSelector, spelled_duration};
use crate::runtime::workers::WorkerPanicked;
use crate::store::StoreError;

/// A fault with the export that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFault {
    /// The export's title.
    pub export: String,
    /// What is wrong.
    pub fault: Problem,
}

/// An export that is older than the others allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleExport {
    /// Its kinds, for people.
    pub kinds: String,
    /// Its title.
    pub export: String,
    /// Its start.
    pub started: Timestamp,
    /// The start of the newest export of all.
    pub newest: Timestamp,
}

impl fmt::Display for StaleExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let older = spelled_duration(self.newest.since(self.started));
        write!(
            f,
            "{} is stale: its newest export, {}, started {older} before the newest export of all",
            self.kinds, self.export
        )
    }
}

/// Why a set was not packed.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum PackError {
    /// Something of the set is missing, unfinished or damaged. All of it is told.
    #[error("the set is incomplete")]
    IncompleteSet {
        /// All faults of single exports.
        faults: Vec<ExportFault>,
        /// Unfinished exports of unknown kinds, by title: no selector can exclude them.
        unnamed: Vec<String>,
        /// Pairs that were exported twice.
        duplicates: Vec<ExportFault>,
        /// Expected selectors that nothing answers.
        missing: Vec<UnmatchedSelector>,
        /// Exports that are too old for the others.
        stale: Vec<StaleExport>,
        /// Whether the latest of several exports was requested.
        is_latest: bool,
    },
    /// SOURCE is there, without a single export.
    #[error("SOURCE holds no export")]
    NoExport,
    /// There are exports, but the selectors leave none.
    #[error("the selectors leave no export")]
    EmptySelection,
    /// An export cannot be divided.
    #[error("{wanted} and {unwanted} share the export {export}")]
    CannotSplitExport {
        /// The export's title.
        export: String,
        /// What of it is chosen.
        wanted: String,
        /// What of it is not.
        unwanted: String,
    },
    /// The exports come from several projects or databases.
    #[error("the exports are of several projects or databases: {}", .0.join(", "))]
    MultipleProjects(Vec<String>),
    /// The name of the archive is taken.
    #[error("{0} already exists with other contents")]
    AlreadyExists(String),
    /// An object changed while it was packed.
    #[error("{0}")]
    SourceChanged(StoreError),
    /// SOURCE cannot be read.
    #[error(transparent)]
    Source(StoreError),
    /// ARCHIVE cannot be written.
    #[error(transparent)]
    Dest(StoreError),
    /// The container cannot hold it.
    #[error(transparent)]
    Zip(#[from] ZipWriteError),
    /// A fault was found and not told: a fault of kindpack's own.
    #[error("some entries were inspected and not packed")]
    IncompleteArchive,
    /// The metadata of the exports does not fit into memory.
    #[error("{name}: the metadata of all exports need more memory than --memory allows")]
    MemoryTooSmall {
        /// The metadata object that does not fit.
        name: String,
    },
    /// A selector chooses nothing that is there.
    #[error(transparent)]
    NoMatch(#[from] UnmatchedSelector),
    /// Two sources of companions hold an object of one name.
    #[error("two --with sources hold {0}")]
    SameCompanion(String),
    /// A kind that the caller says is missing, and that the set holds: a fault of the caller.
    #[error("{0} is in the set and was named as missing")]
    NotMissing(KindRef),
    /// The archive's signature is another one, and must not be replaced.
    #[error("{0} is a signature by another key, or of another archive")]
    OtherSignature(String),
    /// The system gives no random numbers for a signature: a fault of this machine.
    #[error("{0} could not be signed")]
    NotSigned(String),
    /// The system gives no random numbers for an encryption: a fault of this machine.
    #[error("{0} could not be encrypted")]
    NotEncrypted(String),
    /// A piece cannot be deflated: a fault of kindpack's own.
    #[error("a piece was not deflated: {0}")]
    Deflate(DataError),
    /// A fault of kindpack's own.
    #[error(transparent)]
    Worker(#[from] WorkerPanicked),
}

impl PackError {
    pub(super) fn source(error: StoreError) -> Self {
        match error {
            StoreError::Changed { .. } => PackError::SourceChanged(error),
            error => PackError::Source(error),
        }
    }

    /// What was listed and is gone has changed.
    pub(super) fn reading(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { name, .. } => {
                PackError::SourceChanged(StoreError::Changed { name })
            }
            error => PackError::source(error),
        }
    }

    /// Whether anything is damaged, and not only missing.
    pub fn is_damage(&self) -> bool {
        matches!(self, PackError::IncompleteSet { faults, .. } if faults.iter().any(|fault| fault.fault.class == Severity::Damaged))
    }
}
