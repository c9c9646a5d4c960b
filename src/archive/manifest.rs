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
const MANIFEST_MAX_BYTES: u64 = 1 << 30;

/// What a piece can deflate to at the most: nine bits for each byte, which the fastest level needs
/// for data that cannot be deflated.
const DEFLATED_PIECE_MAX_BYTES: usize = PIECE_LEN_BYTES + (PIECE_LEN_BYTES >> 3) + 4096;

/// A local header with the longest name and all extra fields that kindpack writes.
const HEADER_MAX_BYTES: u64 = 30 + 65_535 + 64;

/// An error of the manifest.
fn bad(archive: &str, expected: impl Into<String>, found: impl Into<String>) -> ArchiveError {
    ArchiveError::BadManifest {
        archive: archive.to_owned(),
        expected: expected.into(),
        found: found.into(),
    }
}

/// The manifest's entry: stored, and the last one.
pub(super) fn find(
    archive: &str,
    entries: &[DirectoryEntry],
) -> Result<DirectoryEntry, ArchiveError> {
    let found = match entries.last() {
        Some(last)
            if last.name == MANIFEST_NAME
                && last.method == Method::Store
                && last.len <= MANIFEST_MAX_BYTES =>
        {
            return Ok(last.clone());
        }
        Some(last) => format!("{:?}, {:?} of {} bytes", last.name, last.method, last.len),
        None => "no entry at all".to_owned(),
    };
    Err(ArchiveError::NoManifest {
        archive: archive.to_owned(),
        found,
    })
}

/// Parses a manifest, its format first.
pub(super) fn parse(archive: &str, bytes: &[u8]) -> Result<Manifest, ArchiveError> {
    #[derive(serde::Deserialize)]
    struct FormatField {
        format: String,
    }
    let not_a_manifest = |error: serde_json::Error| bad(archive, "a manifest", error.to_string());
    let FormatField { format } = serde_json::from_slice(bytes).map_err(not_a_manifest)?;
    if format != MANIFEST_FORMAT {
        let expected = format!("format {MANIFEST_FORMAT:?}");
        return Err(bad(archive, expected, format!("{format:?}")));
    }
    serde_json::from_slice(bytes).map_err(not_a_manifest)
}

/// Checks that manifest and directory list the same entries. Gives the entries that are listed more
/// than once.
pub(super) fn check(
    manifest: &Manifest,
    reader: &PieceReader,
) -> Result<HashSet<String>, ArchiveError> {
    let archive = reader.container.title();
    check_roles(archive, manifest)?;
    let mut listed: HashMap<&str, &EntryInfo> = HashMap::new();
    let mut shared = HashSet::new();
    for item in all_items(manifest) {
        if let Some(other) = listed.insert(&item.name, item) {
            if other != item {
                return Err(bad(
                    archive,
                    format!("one description of {:?}", item.name),
                    format!("{} bytes and {} bytes", other.bytes, item.bytes),
                ));
            }
            if !shared.contains(&item.name) {
                shared.insert(item.name.clone());
            }
            continue;
        }
        let Some(entry) = reader.entry(&item.name) else {
            return Err(bad(
                archive,
                "entries that are in the archive",
                format!("{:?}, which is not", item.name),
            ));
        };
        check_item(archive, item, entry)?;
    }
    let entries = reader.container.entries();
    let is_unlisted = |entry: &&DirectoryEntry| {
        entry.name != MANIFEST_NAME && !listed.contains_key(entry.name.as_str())
    };
    if let Some(entry) = entries.iter().find(is_unlisted) {
        let found = format!("no word of {:?}", entry.name);
        return Err(bad(archive, "every entry of the archive", found));
    }
    if manifest.sums.name != SUMS_NAME || listed.len() + 1 != entries.len() {
        return Err(bad(
            archive,
            format!("{SUMS_NAME} and each entry once"),
            format!("{} entries of {}", listed.len() + 1, entries.len()),
        ));
    }
    Ok(shared)
}

/// Checks that companions are in their folder, and nothing else is.
fn check_roles(archive: &str, manifest: &Manifest) -> Result<(), ArchiveError> {
    let of_kinds = manifest.kinds.iter().flat_map(|kind| &kind.entries);
    let empty = manifest.empty_exports.iter();
    let mut of_exports = of_kinds.chain(empty.flat_map(|export| &export.entries));
    let is_companion = |item: &&EntryInfo| item.name.starts_with(COMPANIONS_FOLDER);
    if let Some(item) = of_exports.find(is_companion) {
        let found = format!("{:?}", item.name);
        return Err(bad(
            archive,
            "entries of exports outside companions/",
            found,
        ));
    }
    let is_stray = |item: &&EntryInfo| !is_companion(item) || item.role != EntryRole::Companion;
    match manifest.companions.iter().find(is_stray) {
        Some(item) => {
            let expected = format!("companions below {COMPANIONS_FOLDER}");
            Err(bad(archive, expected, format!("{:?}", item.name)))
        }
        None => Ok(()),
    }
}

fn all_items(manifest: &Manifest) -> impl Iterator<Item = &EntryInfo> {
    let of_kinds = manifest.kinds.iter().flat_map(|kind| &kind.entries);
    let of_empty_exports = manifest
        .empty_exports
        .iter()
        .flat_map(|export| &export.entries);
    of_kinds
        .chain(of_empty_exports)
        .chain(&manifest.companions)
        .chain([&manifest.sums])
}

/// Checks that the lengths and pieces of an item fit its entry.
fn check_item(archive: &str, item: &EntryInfo, entry: &DirectoryEntry) -> Result<(), ArchiveError> {
    let (pieces, compressed) = match entry.method {
        Method::Store => (0, item.bytes),
        Method::Deflate => (
            item.bytes.div_ceil(PIECE_LEN_BYTES as u64),
            item.pieces.iter().map(|len| u64::from(*len)).sum::<u64>() + STREAM_END.len() as u64,
        ),
    };
    // What is read at once is bounded by what a piece can deflate to, whatever the manifest says.
    if let Some(long) = item
        .pieces
        .iter()
        .find(|len| **len as usize > DEFLATED_PIECE_MAX_BYTES)
    {
        let name = &item.name;
        let expected = format!("pieces of {name:?} of at most {DEFLATED_PIECE_MAX_BYTES} bytes");
        return Err(bad(archive, expected, long.to_string()));
    }
    if entry.sealed_data_offset() - entry.header_offset > HEADER_MAX_BYTES {
        return Err(bad(
            archive,
            format!("data of {:?} behind its header", item.name),
            format!("them at {}", entry.sealed_data_offset()),
        ));
    }
    if item.bytes == entry.len
        && compressed == entry.compressed_len
        && pieces == item.pieces.len() as u64
    {
        return Ok(());
    }
    Err(bad(
        archive,
        format!(
            "{:?} of {} bytes, deflated to {}",
            item.name, entry.len, entry.compressed_len
        ),
        format!(
            "{} bytes in {} pieces of {compressed}",
            item.bytes,
            item.pieces.len()
        ),
    ))
}
