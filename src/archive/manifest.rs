//! The manifest of an archive: parsed, and held against the directory.

use std::collections::{HashMap, HashSet};

use crate::archive::deflate::STREAM_END;
use crate::archive::error::ArchiveError;
use crate::archive::pieces::PieceReader;
use crate::archive::zip::DirectoryEntry;
use crate::model::{
    COMPANIONS_FOLDER, EntryInfo, EntryRole, MANIFEST_FORMAT, MANIFEST_NAME, Manifest, Method,
    PIECE_LEN_BYTES, SUMS_NAME,
};

/// Manifests longer than this are refused: they are held in memory.
const MAX_MANIFEST_BYTES: u64 = 1 << 30;

/// What a piece can deflate to at the most: nine bits for each byte, which the fastest level needs
/// for data that cannot be deflated.
const MAX_DEFLATED_PIECE_BYTES: usize = PIECE_LEN_BYTES + (PIECE_LEN_BYTES >> 3) + 4096;

/// A local header with the longest name and all extra fields that kindpack writes.
const MAX_HEADER_BYTES: u64 = 30 + 65_535 + 64;

/// An error of the manifest.
fn bad(archive: &str, fault: impl Into<String>) -> ArchiveError {
    ArchiveError::BadManifest {
        archive: archive.to_owned(),
        fault: fault.into(),
    }
}

/// The manifest's entry: stored, and the last one.
pub(super) fn find(
    archive: &str,
    entries: &[DirectoryEntry],
) -> Result<DirectoryEntry, ArchiveError> {
    let is_manifest = |last: &&DirectoryEntry| {
        last.name == MANIFEST_NAME && last.method == Method::Store && last.len <= MAX_MANIFEST_BYTES
    };
    let manifest = entries.last().filter(is_manifest);
    let archive = archive.to_owned();
    manifest
        .cloned()
        .ok_or(ArchiveError::NoManifest { archive })
}

/// Parses a manifest, its format first.
pub(super) fn parse(archive: &str, bytes: &[u8]) -> Result<Manifest, ArchiveError> {
    check_format(archive, bytes)?;
    serde_json::from_slice(bytes).map_err(|error| bad(archive, error.to_string()))
}

/// Refuses a format that this version does not read.
pub(super) fn check_format(archive: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    #[derive(serde::Deserialize)]
    struct FormatField {
        format: String,
    }
    let parsed = serde_json::from_slice(bytes);
    let FormatField { format } = parsed.map_err(|error| bad(archive, error.to_string()))?;
    if format == MANIFEST_FORMAT {
        return Ok(());
    }
    if format_number(&format) > format_number(MANIFEST_FORMAT) {
        let archive = archive.to_owned();
        return Err(ArchiveError::NewerFormat { archive, format });
    }
    let fault = format!("expected format {MANIFEST_FORMAT:?}, found {format:?}");
    Err(bad(archive, fault))
}

/// The number of a format of kindpack's.
fn format_number(format: &str) -> Option<u64> {
    let number = format.strip_prefix("kindpack/")?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().ok())?
}

/// Checks that manifest and directory list the same entries. Gives the entries that are listed more
/// than once.
pub(super) fn check(
    manifest: &Manifest,
    reader: &PieceReader,
) -> Result<HashSet<String>, ArchiveError> {
    check_roles(reader.container.title(), manifest)?;
    check_reference_counts(reader.container.title(), manifest)?;
    let mut listing = Listing::new(reader);
    for item in all_items(manifest) {
        listing.add(item)?;
    }
    listing.check_complete(manifest)?;
    Ok(listing.shared)
}

/// The items of a manifest, held against the directory.
struct Listing<'a> {
    reader: &'a PieceReader,
    archive: &'a str,
    listed: HashMap<&'a str, &'a EntryInfo>,
    /// The names of items that are listed more than once.
    shared: HashSet<String>,
}

impl<'a> Listing<'a> {
    fn new(reader: &'a PieceReader) -> Self {
        Listing {
            reader,
            archive: reader.container.title(),
            listed: HashMap::new(),
            shared: HashSet::new(),
        }
    }

    fn add(&mut self, item: &'a EntryInfo) -> Result<(), ArchiveError> {
        match self.listed.insert(&item.name, item) {
            Some(other) => self.add_shared(item, other),
            None => check_item(self.archive, item, self.entry(item)?),
        }
    }

    /// Adds an item that was listed before: both must say the same.
    fn add_shared(&mut self, item: &EntryInfo, other: &EntryInfo) -> Result<(), ArchiveError> {
        if other != item {
            let fault = format!("it describes {:?} twice, and differently", item.name);
            return Err(bad(self.archive, fault));
        }
        if !self.shared.contains(&item.name) {
            self.shared.insert(item.name.clone());
        }
        Ok(())
    }

    fn entry(&self, item: &EntryInfo) -> Result<&'a DirectoryEntry, ArchiveError> {
        let fault = || format!("it lists {:?}, which is not in the archive", item.name);
        let entry = self.reader.entry(&item.name);
        entry.ok_or_else(|| bad(self.archive, fault()))
    }

    /// Checks that each entry of the archive is listed.
    fn check_complete(&self, manifest: &Manifest) -> Result<(), ArchiveError> {
        let entries = self.reader.container.entries();
        if let Some(entry) = entries.iter().find(|entry| self.lacks(entry)) {
            let fault = format!("it does not list {:?}, which is in the archive", entry.name);
            return Err(bad(self.archive, fault));
        }
        let listed = self.listed.len() + 1;
        if manifest.sums.name != SUMS_NAME || listed != entries.len() {
            let fault = format!(
                "expected {SUMS_NAME} and all {} entries, found {listed}",
                entries.len()
            );
            return Err(bad(self.archive, fault));
        }
        Ok(())
    }

    fn lacks(&self, entry: &DirectoryEntry) -> bool {
        entry.name != MANIFEST_NAME && !self.listed.contains_key(entry.name.as_str())
    }
}

/// Checks that companions are in their folder, and nothing else is.
fn check_roles(archive: &str, manifest: &Manifest) -> Result<(), ArchiveError> {
    let is_companion = |item: &&EntryInfo| item.name.starts_with(COMPANIONS_FOLDER);
    if let Some(item) = of_exports(manifest).find(is_companion) {
        let fault = format!("it lists {:?} as part of an export", item.name);
        return Err(bad(archive, fault));
    }
    let is_stray = |item: &&EntryInfo| !is_companion(item) || item.role != EntryRole::Companion;
    if let Some(item) = manifest.companions.iter().find(is_stray) {
        let fault = format!(
            "it lists {:?} as a companion, but companions are below {COMPANIONS_FOLDER}",
            item.name
        );
        return Err(bad(archive, fault));
    }
    Ok(())
}

/// Checks that each reference has its count, where there are counts.
fn check_reference_counts(archive: &str, manifest: &Manifest) -> Result<(), ArchiveError> {
    let mut kinds = manifest.kinds.iter();
    let Some(kind) = kinds.find(|kind| !kind.has_a_count_for_each_reference()) else {
        return Ok(());
    };
    let (references, pair) = (kind.reference_pairs.len(), kind.pair());
    let counts = kind.reference_counts.as_ref().map_or(0, Vec::len);
    let fault =
        format!("it has {counts} reference_counts for the {references} references of {pair}");
    Err(bad(archive, fault))
}

fn all_items(manifest: &Manifest) -> impl Iterator<Item = &EntryInfo> {
    let companions = manifest.companions.iter();
    let others = companions.chain([&manifest.sums]);
    of_exports(manifest).chain(others)
}

fn of_exports(manifest: &Manifest) -> impl Iterator<Item = &EntryInfo> {
    let of_kinds = manifest.kinds.iter().flat_map(|kind| &kind.entries);
    let empty = manifest.empty_exports.iter();
    of_kinds.chain(empty.flat_map(|export| &export.entries))
}

/// Checks that the lengths and pieces of an item fit its entry.
fn check_item(archive: &str, item: &EntryInfo, entry: &DirectoryEntry) -> Result<(), ArchiveError> {
    check_piece_lens(archive, item)?;
    if entry.sealed_data_offset() - entry.header_offset > MAX_HEADER_BYTES {
        let fault = format!("the data of {:?} are not right after its header", item.name);
        return Err(bad(archive, fault));
    }
    check_lens(archive, item, entry)
}

/// Checks that no piece is longer than what a piece can deflate to: what is read at once is bounded
/// by that, whatever the manifest says.
fn check_piece_lens(archive: &str, item: &EntryInfo) -> Result<(), ArchiveError> {
    let is_long = |len: &&u32| **len as usize > MAX_DEFLATED_PIECE_BYTES;
    let Some(long) = item.pieces.iter().find(is_long) else {
        return Ok(());
    };
    let name = &item.name;
    let fault =
        format!("a piece of {name:?} has {long} bytes, more than {MAX_DEFLATED_PIECE_BYTES}");
    Err(bad(archive, fault))
}

fn check_lens(archive: &str, item: &EntryInfo, entry: &DirectoryEntry) -> Result<(), ArchiveError> {
    let (pieces, compressed) = pieces_and_len(item, entry.method);
    let found = (item.bytes, compressed, item.pieces.len() as u64);
    if found == (entry.len, entry.compressed_len, pieces) {
        return Ok(());
    }
    let (name, pieces) = (&item.name, item.pieces.len());
    let (len, deflated) = (entry.len, entry.compressed_len);
    let fault = format!(
        "{name:?}: expected {len} bytes, deflated to {deflated}, found {} bytes in {pieces} pieces of {compressed}",
        item.bytes
    );
    Err(bad(archive, fault))
}

/// How many pieces an item must have, and the length of its data as the item says it.
fn pieces_and_len(item: &EntryInfo, method: Method) -> (u64, u64) {
    let deflated: u64 = item.pieces.iter().map(|len| u64::from(*len)).sum();
    let pieces = item.bytes.div_ceil(PIECE_LEN_BYTES as u64);
    match method {
        Method::Store => (0, item.bytes),
        Method::Deflate => (pieces, deflated + STREAM_END.len() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manifest of the fixture, after a change of the first kind.
    fn changed(change: fn(&mut serde_json::Map<String, serde_json::Value>)) -> Manifest {
        let golden = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/managed.manifest.json"
        ));
        let mut manifest: serde_json::Value = serde_json::from_str(golden).unwrap();
        change(manifest["kinds"][0].as_object_mut().unwrap());
        parse("set.zip", manifest.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn only_newer_formats_are_newer() {
        let refused = |format: &str| {
            let manifest = serde_json::json!({ "format": format }).to_string();
            check_format("set.zip", manifest.as_bytes()).unwrap_err()
        };
        for newer in ["kindpack/2", "kindpack/10", "kindpack/18446744073709551615"] {
            let error = refused(newer);
            assert!(matches!(error, ArchiveError::NewerFormat { .. }), "{error}");
            assert!(error.to_string().contains(newer), "{error}");
        }
        for other in [
            "kindpack/0",
            "kindpack/",
            "kindpack/+2",
            "kindpack/2a",
            "zip/2",
        ] {
            let error = refused(other);
            assert!(matches!(error, ArchiveError::BadManifest { .. }), "{error}");
        }
    }

    #[test]
    fn each_reference_needs_its_count() {
        let check = |manifest| check_reference_counts("set.zip", &manifest);
        assert!(check(changed(|_| {})).is_ok());
        let old = changed(|kind| _ = kind.remove("reference_counts"));
        assert_eq!(old.kinds[0].reference_counts, None);
        assert!(check(old).is_ok(), "archives of earlier versions have none");
        let error = check(changed(|kind| kind["reference_counts"] = vec![1].into())).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("2 references of (default)/AuditLog"),
            "{message}"
        );
    }
}
