//! What the commands work on: exports of three kinds, their archive, and folders and buckets to
//! write into.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kindpack::model::KindRef;
use kindpack::pack::ArchiveName;
use kindpack::progress::NoProgress;
use kindpack::runtime::workers::Workers;
use kindpack::store::DirStore;
use kindpack::{PackRequest, Store, pack};
use tempfile::TempDir;

use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::memory_store::MemoryStore;
use crate::support::{copy_folder, files_below, sha256};

pub const ARCHIVE: &str = "set.zip";
pub const SIDECAR: &str = "set.zip.sha256";

/// Namespace, kind, entities and the length of their blobs: one export is too large for a batch.
pub const KINDS: [(&str, &str, u64, usize); 3] = [
    ("", "User", 3, 20),
    ("acme", "Order", 2, 40),
    ("acme", "Photo", 2, 150_000),
];

pub fn workers() -> Workers {
    Workers::new(1, 64 << 20)
}

/// A folder of a test's own; in memory where the system has such, for nothing here asks whether a
/// power cut would be survived.
pub fn temporary_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }
    .unwrap()
}

/// Runs work of a test's own, to which nothing happens.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(work)
}

/// The folder of the exports.
pub fn exports() -> &'static Path {
    static EXPORTS: OnceLock<TempDir> = OnceLock::new();
    let folder = EXPORTS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for (number, (namespace, kind, count, blob_len)) in (0..).zip(KINDS) {
            let records: Vec<Vec<u8>> = made("shop", namespace, kind, count, blob_len)
                .iter()
                .map(Made::record)
                .collect();
            let started = STARTED_MICROS + number * 60_000_000;
            let pair = KindRef::new(namespace, kind);
            write_export(folder.path(), &pair, started, &records, 1);
        }
        folder
    });
    folder.path()
}

/// The exports by their names.
pub fn exported() -> &'static BTreeMap<String, Bytes> {
    static EXPORTED: OnceLock<BTreeMap<String, Bytes>> = OnceLock::new();
    EXPORTED.get_or_init(|| Place::Folder(exports().to_owned().into()).objects())
}

/// The exports as a bucket or a folder.
pub fn source(is_bucket: bool) -> Arc<dyn Store> {
    if !is_bucket {
        return Arc::new(DirStore::new(exports()));
    }
    let store = MemoryStore::bucket();
    for (name, bytes) in exported() {
        store.put(name, bytes.clone());
    }
    Arc::new(store)
}

/// The archive of the exports, packed with a level of its own.
pub fn packed(level: u32) -> Bytes {
    let memory = MemoryStore::default();
    let dest: Arc<dyn Store> = Arc::new(memory.clone());
    let name = ArchiveName::Explicit(ARCHIVE.to_owned());
    let request = PackRequest {
        level,
        ..PackRequest::default()
    };
    let (source, workers) = (source(false), workers());
    let packed = pack(&source, &dest, name, &request, &workers, &NoProgress);
    block_on(packed).unwrap();
    memory.objects()[ARCHIVE].clone()
}

/// The archive of the exports.
pub fn archive() -> &'static Bytes {
    static ARCHIVE: OnceLock<Bytes> = OnceLock::new();
    ARCHIVE.get_or_init(|| packed(6))
}

/// An archive of the same exports with other bytes.
pub fn other_archive() -> &'static Bytes {
    static ARCHIVE: OnceLock<Bytes> = OnceLock::new();
    ARCHIVE.get_or_init(|| packed(1))
}

/// The sidecar of an archive.
pub fn sidecar_of(archive: &[u8], name: &str) -> String {
    format!("{}  {name}\n", sha256(archive))
}

/// A folder that goes when it is dropped, or one that stays.
#[derive(Debug)]
pub enum Folder {
    Own(TempDir),
    Shared(std::path::PathBuf),
}

impl From<std::path::PathBuf> for Folder {
    fn from(path: std::path::PathBuf) -> Self {
        Folder::Shared(path)
    }
}

impl Folder {
    pub fn path(&self) -> &Path {
        match self {
            Folder::Own(folder) => folder.path(),
            Folder::Shared(path) => path,
        }
    }
}

/// A place that a command writes into.
#[derive(Debug)]
pub enum Place {
    Folder(Folder),
    Bucket(MemoryStore),
}

impl Place {
    /// An empty one.
    pub fn new(is_bucket: bool) -> Self {
        match is_bucket {
            true => Place::Bucket(MemoryStore::bucket()),
            false => Place::Folder(Folder::Own(temporary_folder())),
        }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        match self {
            Place::Folder(folder) => folder.path(),
            Place::Bucket(_) => panic!("a bucket has no path"),
        }
    }

    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Place::Folder(folder) => Arc::new(DirStore::new(folder.path())),
            Place::Bucket(store) => Arc::new(store.clone()),
        }
    }

    pub fn put(&self, name: &str, bytes: impl Into<Bytes>) {
        match self {
            Place::Folder(folder) => {
                crate::support::write(&folder.path().join(name), bytes.into());
            }
            Place::Bucket(store) => store.put(name, bytes),
        }
    }

    /// All that is there.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        match self {
            Place::Folder(folder) => {
                let files = files_below(folder.path()).into_iter();
                let read = |path| Bytes::from(std::fs::read(path).unwrap());
                files.map(|(name, path)| (name, read(path))).collect()
            }
            Place::Bucket(store) => store.objects(),
        }
    }

    pub fn copy(&self) -> Self {
        match self {
            Place::Folder(folder) => {
                let copy = temporary_folder();
                copy_folder(folder.path(), copy.path());
                Place::Folder(Folder::Own(copy))
            }
            Place::Bucket(store) => Place::Bucket(store.copy()),
        }
    }
}
