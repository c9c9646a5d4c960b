//! Zips and manifests.

use std::io::{Cursor, Read as _};
use std::sync::{Arc, OnceLock};

use kindpack::archive::Container;
use kindpack::archive::zip::{DirectoryEntry, EntryHead, Strictness, ZipWriter};
use kindpack::model::{Manifest, Method};
use kindpack::plan::{ArchiveRef, Choices, Environment, Plan};
use kindpack::{Archive, Store};

use super::checksums::zip_with_checksums;
use super::memory_store::MemoryStore;
use super::run;

/// An archive whose entries stand around a manifest that is tried.
const SOUND: &[u8] = include_bytes!("../../fixtures/archives/kindpack-1-managed.zip");

const NAME: &str = "set.zip";

/// Entries longer than this are not compared.
const MAX_COMPARED_BYTES: u64 = 16 << 20;

/// A zip: what the strict reader accepts, the `zip` crate reads with the same names and bytes.
pub fn archive(bytes: &[u8]) {
    compare_readers(bytes);
    if let Some(repaired) = zip_with_checksums(bytes) {
        compare_readers(&repaired);
    }
}

fn compare_readers(bytes: &[u8]) {
    for strictness in [Strictness::OwnFormat, Strictness::AnyZip] {
        if let Some(entries) = run(strict_entries(bytes, strictness)) {
            assert_eq!(other_entries(bytes), Ok(entries), "{strictness:?}");
        }
    }
}

/// The manifest of a sound archive: what is accepted can be planned, and the plan is read back.
pub fn manifest(bytes: &[u8]) {
    let archive = with_manifest(bytes);
    if let Some(archive) = run(open(archive)) {
        check_plan(archive.manifest());
    }
}

/// The manifest of the sound archive.
pub fn sound_manifest() -> &'static Manifest {
    static MANIFEST: OnceLock<Manifest> = OnceLock::new();
    MANIFEST.get_or_init(|| {
        let archive = run(open(SOUND.to_vec()));
        archive.expect("the archive is sound").manifest().clone()
    })
}

async fn open(bytes: Vec<u8>) -> Option<Archive> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with(NAME, bytes));
    let object = store.stat(NAME).await.ok()?;
    Archive::open(store, object, NAME.to_owned()).await.ok()
}

/// A zip whose structure is sound.
pub async fn open_container(bytes: &[u8], strictness: Strictness) -> Option<Container> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with(NAME, bytes.to_vec()));
    let object = store.stat(NAME).await.ok()?;
    let container = Container::open(store, object, NAME.to_owned(), strictness).await;
    container.ok()
}

/// A name and the bytes of the entry.
type NamedBytes = (String, Vec<u8>);

/// All entries, where the strict reader accepts each of them.
async fn strict_entries(bytes: &[u8], strictness: Strictness) -> Option<Vec<NamedBytes>> {
    let container = open_container(bytes, strictness).await?;
    let mut entries = Vec::new();
    for entry in container.entries() {
        let read = strict_entry(&container, entry).await?;
        entries.push((entry.name.clone(), read));
    }
    Some(entries)
}

async fn strict_entry(container: &Container, entry: &DirectoryEntry) -> Option<Vec<u8>> {
    if entry.len > MAX_COMPARED_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    let mut sink = |piece: &[u8]| bytes.extend_from_slice(piece);
    container.read_entry(entry, &mut sink).await.ok()?;
    Some(bytes)
}

/// All entries as the `zip` crate reads them.
fn other_entries(bytes: &[u8]) -> Result<Vec<NamedBytes>, String> {
    let archive = zip::ZipArchive::new(Cursor::new(bytes));
    let mut archive = archive.map_err(|error| error.to_string())?;
    let numbers = 0..archive.len();
    let mut entry = |number| other_entry(&mut archive, number);
    numbers.map(&mut entry).collect()
}

fn other_entry(
    archive: &mut zip::ZipArchive<Cursor<&[u8]>>,
    number: usize,
) -> Result<NamedBytes, String> {
    let mut entry = archive
        .by_index(number)
        .map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    entry
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    // Names that are UTF-8 without saying so are taken as UTF-8.
    let name = match std::str::from_utf8(entry.name_raw()) {
        Ok(name) => name.to_owned(),
        Err(_) => entry
            .name()
            .map_err(|error| error.to_string())?
            .into_owned(),
    };
    Ok((name, bytes))
}

/// An entry of the sound archive.
struct SoundEntry {
    entry: DirectoryEntry,
    data: &'static [u8],
}

impl SoundEntry {
    fn new(entry: &DirectoryEntry) -> Self {
        let at = entry.sealed_data_offset() as usize;
        let data = &SOUND[at..at + entry.compressed_len as usize];
        let entry = entry.clone();
        SoundEntry { entry, data }
    }

    fn write(&self, writer: &mut ZipWriter, archive: &mut Vec<u8>) {
        let entry = &self.entry;
        let head = EntryHead {
            name: &entry.name,
            method: entry.method,
            modified: entry.modified,
        };
        write(writer, archive, head, (entry.crc32, entry.len), self.data);
    }
}

/// All entries of the sound archive but its manifest.
fn sound_entries() -> &'static [SoundEntry] {
    static ENTRIES: OnceLock<Vec<SoundEntry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let archive = run(open(SOUND.to_vec())).expect("the archive is sound");
        let entries = archive.container().entries();
        let (_, others) = entries.split_last().expect("it has a manifest");
        others.iter().map(SoundEntry::new).collect()
    })
}

/// The sound archive with another manifest.
fn with_manifest(bytes: &[u8]) -> Vec<u8> {
    let (mut writer, mut archive) = (ZipWriter::default(), Vec::new());
    for entry in sound_entries() {
        entry.write(&mut writer, &mut archive);
    }
    let head = EntryHead {
        name: "manifest.json",
        method: Method::Store,
        modified: None,
    };
    let sizes = (crc32fast::hash(bytes), bytes.len() as u64);
    write(&mut writer, &mut archive, head, sizes, bytes);
    archive.extend(writer.finish().expect("all entries are ended"));
    archive
}

fn write(
    writer: &mut ZipWriter,
    archive: &mut Vec<u8>,
    head: EntryHead<'_>,
    (crc32, len): (u32, u64),
    data: &[u8],
) {
    let data_len = data.len() as u64;
    let header = writer.begin_known(head, crc32, len, data_len);
    archive.extend(header.expect("names of a sound archive"));
    writer.data(data_len).expect("an entry is begun");
    archive.extend_from_slice(data);
    archive.extend(writer.end(crc32, len).expect("what was promised"));
}

fn check_plan(manifest: &Manifest) {
    let archive = ArchiveRef {
        location: NAME.to_owned(),
        sha256: kindpack::model::Sha256([7; 32]),
        generation: None,
    };
    let choices = Choices::new("ndjson:out".parse().expect("a target"));
    let planned = kindpack::plan(manifest, &archive, &choices, &Environment::default());
    if let Ok(plan) = planned {
        assert_eq!(Plan::parse(&plan.to_json()).as_ref(), Ok(&plan));
    }
}
