//! A folder of this machine as a store.
//!
//! A new object is written beside its name as `.NAME.partial`, under a lock, and linked to its name when it is whole. What a killed
//! process leaves is that one file, and the next writer of the same name takes it over.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tempfile::TempPath;

use crate::buffers::Buffer;
use crate::model::bounded;

use super::{About, Making, ObjectInfo, ObjectWriter, Store, StoreError};

/// Folders deeper than this are refused; no real export comes near.
const DEPTH_MAX: usize = 256;

/// Objects below one folder.
#[derive(Debug, Clone)]
pub struct DirStore {
    root: PathBuf,
}

impl DirStore {
    /// The store of what lies below `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        DirStore { root: root.into() }
    }

    /// The path of an object.
    fn path(&self, name: &str) -> PathBuf {
        // Without the `./` that nobody typed: paths stand in messages.
        if self.root == Path::new(".") { PathBuf::from(name) } else { self.root.join(name) }
    }
}

/// Runs file work off the async threads.
fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(async move {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Io { name: "file work".to_owned(), deed: "cannot run", source: io::Error::other(error) }),
        }
    })
}

fn failed(name: impl AsRef<Path>, deed: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let name = name.as_ref().display().to_string();
    move |source| match source.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { name, expected: "an object or a folder" },
        io::ErrorKind::NotADirectory => StoreError::NotAnObject { name, expected: "a path through folders", found: "a file in its way" },
        _ => StoreError::Io { name, deed, source },
    }
}

impl Store for DirStore {
    fn list(&self) -> BoxFuture<'_, Result<Vec<ObjectInfo>, StoreError>> {
        let root = self.root.clone();
        blocking(move || {
            let mut objects = Vec::new();
            walk(&root, "", 0, &mut objects)?;
            objects.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(objects)
        })
    }

    fn stat<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<ObjectInfo, StoreError>> {
        let (path, name) = (self.path(name), name.to_owned());
        blocking(move || {
            let meta = fs::metadata(&path).map_err(failed(&path, "cannot look at it"))?;
            if !meta.is_file() {
                let found = if meta.is_dir() { "a folder" } else { "something else" };
                return Err(StoreError::NotAnObject { name: path.display().to_string(), expected: "an object", found });
            }
            Ok(info(name, &meta))
        })
    }

    fn read<'a>(&'a self, object: &'a ObjectInfo, offset: u64, len: usize) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        let (path, object) = (self.path(&object.name), object.clone());
        blocking(move || {
            let file = File::open(&path).map_err(failed(&path, "cannot open it"))?;
            let meta = file.metadata().map_err(failed(&path, "cannot look at it"))?;
            if meta.len() != object.len
                || version(&meta) != object.version
                || object.len.checked_sub(offset).is_none_or(|rest| rest < len as u64)
            {
                return Err(StoreError::Changed { name: path.display().to_string() });
            }
            let mut bytes = Buffer::of_len(len);
            file.read_exact_at(&mut bytes, offset).map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => StoreError::Changed { name: path.display().to_string() },
                _ => StoreError::Io { name: path.display().to_string(), deed: "cannot read it", source },
            })?;
            Ok(bytes.freeze())
        })
    }

    fn create<'a>(&'a self, name: &'a str, making: Making) -> BoxFuture<'a, Result<Box<dyn ObjectWriter>, StoreError>> {
        let path = self.path(name);
        blocking(move || {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
            fs::create_dir_all(&folder).map_err(failed(&folder, "cannot make the folder"))?;
            let base = path.file_name().unwrap_or_default().to_string_lossy();
            let partial = folder.join(format!(".{}.partial", bounded(base.into_owned())));
            let file =
                OpenOptions::new().create(true).truncate(false).write(true).open(&partial).map_err(failed(&partial, "cannot create it"))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(StoreError::Busy { name: path.display().to_string() }),
                Err(TryLockError::Error(source)) => {
                    return Err(StoreError::Io { name: partial.display().to_string(), deed: "cannot lock it", source });
                }
            }
            // The writer before us may have published this very file between our open and our lock: then it is no longer ours to empty.
            let ours = file.metadata().map_err(failed(&partial, "cannot look at it"))?;
            if fs::metadata(&partial).ok().is_none_or(|there| (there.dev(), there.ino()) != (ours.dev(), ours.ino())) {
                return Err(StoreError::Busy { name: path.display().to_string() });
            }
            file.set_len(0).map_err(failed(&partial, "cannot empty it"))?;
            let temp = TempPath::try_from_path(&partial).map_err(failed(&partial, "cannot use it"))?;
            Ok(Box::new(DirWriter { temp, file, path, folder, overwrite: making.overwrite }) as Box<dyn ObjectWriter>)
        })
    }

    fn remove<'a>(&'a self, object: &'a ObjectInfo) -> BoxFuture<'a, Result<(), StoreError>> {
        let (path, version_then) = (self.path(&object.name), object.version);
        blocking(move || {
            if fs::metadata(&path).is_ok_and(|meta| version(&meta) != version_then) {
                return Ok(());
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, "cannot remove it")(error)),
                _ => Ok(()),
            }
        })
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// A file as a listing shows it. Folders keep nothing of a file besides its bytes.
fn info(name: String, meta: &fs::Metadata) -> ObjectInfo {
    let (crc32c, content_encoding, attributes) = (None, None, BTreeMap::new());
    ObjectInfo { name, len: meta.len(), version: version(meta), crc32c, content_encoding, attributes }
}

/// Depth first; links to files count as files, links to folders are refused: to skip them silently would pack half a set.
fn walk(folder: &Path, prefix: &str, depth: usize, objects: &mut Vec<ObjectInfo>) -> Result<(), StoreError> {
    if depth > DEPTH_MAX {
        return Err(StoreError::NotAnObject {
            name: folder.display().to_string(),
            expected: "folders at most 256 deep",
            found: "a deeper one",
        });
    }
    let entries = fs::read_dir(folder).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { name: folder.display().to_string(), expected: "a folder" },
        io::ErrorKind::NotADirectory => {
            StoreError::NotAnObject { name: folder.display().to_string(), expected: "a folder", found: "a file" }
        }
        _ => StoreError::Io { name: folder.display().to_string(), deed: "cannot list it", source },
    })?;
    for entry in entries {
        let entry = entry.map_err(failed(folder, "cannot list it"))?;
        let path = entry.path();
        let Ok(base) = entry.file_name().into_string() else {
            return Err(StoreError::BadName { name: path.display().to_string() });
        };
        let name = if prefix.is_empty() { base } else { format!("{prefix}/{base}") };
        let kind = entry.file_type().map_err(failed(&path, "cannot look at it"))?;
        if kind.is_dir() {
            walk(&path, &name, depth + 1, objects)?;
            continue;
        }
        let meta = match fs::metadata(&path) {
            // A link to nothing, or an object that was taken away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta.map_err(failed(&path, "cannot look at it"))?,
        };
        if meta.is_dir() {
            return Err(StoreError::NotAnObject {
                name: path.display().to_string(),
                expected: "files and folders",
                found: "a link to a folder",
            });
        }
        if meta.is_file() {
            objects.push(info(name, &meta));
        }
    }
    Ok(())
}

/// Changes with every write and every replacement of the file.
fn version(meta: &fs::Metadata) -> u64 {
    let time = (meta.mtime() as u64).wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec() as u64);
    time ^ meta.ino().rotate_left(40)
}

/// The fields go in this order: the partial file is removed before its lock is given back.
#[derive(Debug)]
struct DirWriter {
    temp: TempPath,
    file: File,
    path: PathBuf,
    folder: PathBuf,
    overwrite: bool,
}

impl ObjectWriter for DirWriter {
    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<(), StoreError>> {
        let (file, path) = (self.file.try_clone(), self.path.clone());
        blocking(move || file.and_then(|mut file| file.write_all(&bytes)).map_err(failed(path, "cannot write it")))
    }

    fn publish(self: Box<Self>, _: About) -> BoxFuture<'static, Result<(), StoreError>> {
        blocking(move || {
            let DirWriter { temp, file, path, folder, overwrite } = *self;
            file.sync_all().map_err(failed(&path, "cannot write it"))?;
            let published = if overwrite { temp.persist(&path) } else { temp.persist_noclobber(&path) };
            published.map_err(|error| match error.error.kind() {
                io::ErrorKind::AlreadyExists => StoreError::Exists { name: path.display().to_string(), found: "another object there" },
                io::ErrorKind::IsADirectory => StoreError::Exists { name: path.display().to_string(), found: "a folder there" },
                _ => StoreError::Io { name: path.display().to_string(), deed: "cannot publish it", source: error.error },
            })?;
            // The name itself must survive a power cut; a file system that cannot sync folders has done what it can.
            if let Ok(folder) = File::open(&folder) {
                folder.sync_all().ok();
            }
            Ok(())
        })
    }
}
