//! The manifest: what an archive holds, in order, with lengths and digests.
//! `docs/archive-format.md` tells it field by field.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Crc32c, Kind, KindRef, Namespace, Sha256, Timestamp, spelled_duration};

/// The value of `format` in every manifest of this version.
pub const MANIFEST_FORMAT: &str = "kindpack/1";
/// The name of the last entry.
pub const MANIFEST_NAME: &str = "manifest.json";
/// The name of the entry that `sha256sum -c` reads.
pub const SUMS_NAME: &str = "SHA256SUMS";
/// The folder of the entries that hold the objects of SOURCE.
pub const EXPORTS_FOLDER: &str = "exports/";
/// The folder of the entries that hold companions.
pub const COMPANIONS_FOLDER: &str = "companions/";
/// Entries are cut into pieces of this many bytes before they are deflated; a multiple of the log's
/// block.
pub const PIECE_LEN_BYTES: usize = 4 << 20;

/// What an archive holds. Nothing in it depends on where or when it was packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`MANIFEST_FORMAT`].
    pub format: String,
    /// Who wrote it.
    pub tool: ToolInfo,
    /// The backup as a whole.
    pub backup: BackupInfo,
    /// One item per (namespace, kind), in that order.
    pub kinds: Vec<KindInfo>,
    /// Finished exports that hold no entity; which kind they were of is written nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_exports: Vec<EmptyExport>,
    /// Kinds that the backup lacks, by namespace and kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingKind>,
    /// Companion objects, such as images.
    pub companions: Vec<EntryInfo>,
    /// The entry `SHA256SUMS`.
    pub sums: EntryInfo,
    /// How the archive was made.
    pub options: PackOptions,
    /// Sums over everything.
    pub totals: Totals,
}

/// The program that wrote the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolInfo {
    /// `kindpack`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The backup as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupInfo {
    /// Start of the newest export as `YYYYMMDDHHMMSS`, UTC.
    pub id: String,
    /// The project that the keys name, without a leading `s~`. Empty when the set holds no entity.
    pub project: String,
    /// The database that the keys name; left out for the default one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub database: String,
    /// Start of the first export.
    pub started: Option<Timestamp>,
    /// End of the last export.
    pub finished: Option<Timestamp>,
    /// The instant that all exports show, where one was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Timestamp>,
}

/// A kind that the backup should hold and lacks: its export failed, and the user allowed that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingKind {
    /// The namespace; empty for the default one.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// Why its export failed, in one sentence.
    pub reason: String,
}

impl MissingKind {
    /// The pair that is missing.
    pub fn pair(&self) -> KindRef {
        KindRef {
            namespace: self.namespace.clone(),
            kind: self.kind.clone(),
        }
    }
}

impl fmt::Display for MissingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is missing from this backup: {}",
            self.pair(),
            self.reason
        )
    }
}

/// How an export was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// A managed export (since 2017).
    ManagedExport,
    /// A Datastore Admin backup (2012 to 2018).
    LegacyBackup,
}

/// One kind in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindInfo {
    /// The namespace; empty for the default one.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// How its export was made.
    pub format: ExportFormat,
    /// How many entities of this pair the entries hold.
    pub entities: u64,
    /// How many entities the export's metadata announce for what the entries hold, where that is
    /// another number and was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_entities: Option<u64>,
    /// Bytes of the entity records of this pair, without framing.
    pub bytes: u64,
    /// Start of its export.
    pub started: Option<Timestamp>,
    /// End of its export.
    pub finished: Option<Timestamp>,
    /// Kinds that stand as ancestors in its keys, sorted.
    pub parents: Vec<Kind>,
    /// Kinds of this project that its properties refer to, in whatever namespace, sorted.
    pub references: Vec<Kind>,
    /// The same references with their namespaces, sorted.
    pub reference_pairs: Vec<KindRef>,
    /// How many property values refer to each of `reference_pairs`, in that order. Archives of
    /// earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_counts: Option<Vec<u64>>,
    /// The entries of its export: outputs by number, then the metadata. Exports of several pairs
    /// stand under each.
    pub entries: Vec<EntryInfo>,
}

impl KindInfo {
    /// The pair that the item is about.
    pub fn pair(&self) -> KindRef {
        KindRef {
            namespace: self.namespace.clone(),
            kind: self.kind.clone(),
        }
    }

    /// What its entities need, as their keys and properties name it, and whether as a parent.
    pub fn needs(&self) -> impl Iterator<Item = (KindRef, bool)> {
        let parents = self.parents.iter().map(|kind| {
            (
                KindRef {
                    namespace: self.namespace.clone(),
                    kind: kind.clone(),
                },
                true,
            )
        });
        parents.chain(
            self.reference_pairs
                .iter()
                .map(|pair| (pair.clone(), false)),
        )
    }

    /// What its properties refer to, and how many values do, where the archive says so.
    pub fn counted_references(&self) -> impl Iterator<Item = (&KindRef, Option<u64>)> {
        let counts = self.reference_counts.iter().flatten().copied().map(Some);
        let counts = counts.chain(std::iter::repeat(None));
        self.reference_pairs.iter().zip(counts)
    }

    /// Whether `reference_counts` says nothing, or one number for each of `reference_pairs`.
    pub fn has_a_count_for_each_reference(&self) -> bool {
        let counts = self.reference_counts.as_ref();
        counts.is_none_or(|counts| counts.len() == self.reference_pairs.len())
    }

    /// The entries that hold entities, in order.
    pub fn outputs(&self) -> impl Iterator<Item = &EntryInfo> {
        self.entries
            .iter()
            .filter(|entry| entry.role == EntryRole::Output)
    }

    /// The names of the completion markers of the export.
    pub fn completion_markers(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|entry| entry.role == EntryRole::ExportMetadata)
            .map(|entry| entry.name.as_str())
    }
}

/// A finished export without entities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyExport {
    /// Its entries.
    pub entries: Vec<EntryInfo>,
}

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryRole {
    /// A log of entities.
    Output,
    /// Metadata of one kind: `*.export_metadata` or `*.KIND.backup_info`.
    KindMetadata,
    /// Metadata of the whole export, the completion marker: `*.overall_export_metadata` or
    /// `*.backup_info`.
    ExportMetadata,
    /// A companion object.
    Companion,
    /// `SHA256SUMS`.
    Sums,
}

/// How an entry's bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Deflated in pieces.
    Deflate,
    /// As they are.
    Store,
}

/// One member of the zip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryInfo {
    /// Its name in the zip, such as `exports/…/output-0`.
    pub name: String,
    /// What it is for.
    pub role: EntryRole,
    /// The name that the export's metadata give it, below `exports/`, where it was stored under
    /// another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_as: Option<String>,
    /// How its bytes are encoded, where the store said so of the object, such as `gzip`. They are
    /// packed as they were stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// What its bytes are, such as `image/png`, where it is a companion and its store said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Its length, inflated.
    pub bytes: u64,
    /// SHA-256 of its bytes, inflated.
    pub sha256: Sha256,
    /// CRC-32C of its bytes, inflated.
    pub crc32c: Crc32c,
    /// CRC-32C of its data as they lie in the zip, for deflated entries: even a bit that inflating
    /// passes over is covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed_crc32c: Option<Crc32c>,
    /// Deflated lengths of its pieces, in order; each piece holds [`PIECE_LEN_BYTES`] bytes but the
    /// last. Empty when the entry is stored or has no bytes. The two bytes that end the deflate
    /// stream are not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<u32>,
}

/// Choices that shape the archive's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackOptions {
    /// How entries are kept.
    pub method: Method,
    /// Deflate level, 1 to 9; left out for stored entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// Bytes in a piece, inflated.
    pub piece_bytes: u64,
}

/// Sums over the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Items in `kinds`.
    pub kinds: u64,
    /// Entities of all kinds.
    pub entities: u64,
    /// Objects packed: entries below `exports/` and `companions/`.
    pub entries: u64,
    /// Bytes of those objects.
    pub bytes: u64,
}

/// When the exports of an archive were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportTimes {
    /// Start of the first one.
    #[serde(deserialize_with = "Option::deserialize")]
    // Null is allowed, nothing at all is not.
    pub started: Option<Timestamp>,
    /// End of the last one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub finished: Option<Timestamp>,
    /// From the start of the first one to that of the newest, in seconds.
    pub spread_seconds: u64,
    /// The instant that all of them show, where one was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_time: Option<Timestamp>,
}

impl fmt::Display for ExportTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(started), Some(finished)) = (self.started, self.finished) else {
            return f.write_str("exports of unknown times");
        };
        let (started, finished) = (started.to_seconds_text(), finished.to_seconds_text());
        if started == finished {
            write!(f, "exported at {started} UTC")?;
        } else {
            write!(f, "exported from {started} to {finished} UTC")?;
        }
        match self.snapshot_time {
            Some(instant) => write!(f, "; all show the data of {instant}"),
            None => self.fmt_spread(f),
        }
    }
}

impl ExportTimes {
    fn fmt_spread(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.spread_seconds == 0 {
            return Ok(());
        }
        let spread = spelled_duration(Duration::from_secs(self.spread_seconds));
        write!(f, "; the last export started {spread} after the first")
    }
}

/// A number of entities that contradicts the export's metadata, and that the user accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AcceptedCount {
    /// The kinds that the number is about.
    pub kinds: Vec<KindRef>,
    /// Entities that the metadata announce.
    pub announced_entities: u64,
    /// Entities that there are.
    pub entities: u64,
}

impl fmt::Display for AcceptedCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self.kinds.iter().take(3).map(KindRef::to_string).collect();
        f.write_str(&named.join(", "))?;
        if self.kinds.len() > named.len() {
            write!(f, " and {} more", self.kinds.len() - named.len())?;
        }
        let AcceptedCount {
            announced_entities,
            entities,
            ..
        } = self;
        write!(
            f,
            ": the export announces {announced_entities} entities and holds {entities}; it was packed with --accept-count"
        )
    }
}

impl Manifest {
    /// When the exports were made: nobody has to add up the items for that.
    pub fn export_times(&self) -> ExportTimes {
        let starts = || self.kinds.iter().filter_map(|kind| kind.started);
        let spread = starts()
            .max()
            .zip(starts().min())
            .map(|(last, first)| last.since(first).as_secs());
        ExportTimes {
            started: self.backup.started,
            finished: self.backup.finished,
            spread_seconds: spread.unwrap_or_default(),
            snapshot_time: self.backup.snapshot_time,
        }
    }

    /// Every entry that holds a packed object, each once, in the order of the zip's names as they
    /// are listed here.
    pub fn objects(&self) -> Vec<&EntryInfo> {
        let mut seen = std::collections::HashSet::new();
        let exports = self
            .kinds
            .iter()
            .flat_map(|kind| &kind.entries)
            .chain(self.empty_exports.iter().flat_map(|export| &export.entries));
        exports
            .chain(&self.companions)
            .filter(|entry| seen.insert(entry.name.as_str()))
            .collect()
    }

    /// Every export of which the metadata announce another number of entities than there are.
    pub fn accepted_counts(&self) -> Vec<AcceptedCount> {
        let mut counts: BTreeMap<(Vec<&str>, u64), AcceptedCount> = BTreeMap::new();
        for kind in &self.kinds {
            let Some(announced) = kind.announced_entities else {
                continue;
            };
            // Kinds that share their entries share the number.
            let entries = kind
                .entries
                .iter()
                .map(|entry| entry.name.as_str())
                .collect();
            let none = AcceptedCount {
                kinds: Vec::new(),
                announced_entities: announced,
                entities: 0,
            };
            let count = counts.entry((entries, announced)).or_insert(none);
            count.kinds.push(kind.pair());
            count.entities = count.entities.saturating_add(kind.entities);
        }
        counts.into_values().collect()
    }

    /// The manifest as it stands in the archive: indented JSON that ends with a line feed.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("a manifest has no map whose keys are not texts");
        text.push('\n');
        text
    }
}
