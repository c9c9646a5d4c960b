//! A folder of this machine as a store.
//!
//! A new object is written under a working name and gets its own when it is whole
//! ([`crate::runtime::working_file`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use crate::runtime::buffers::Buffer;
use crate::runtime::private_files::create_private_folders;
use crate::runtime::working_file::{WorkingFile, WorkingFiles, folder_of};
use crate::store::name_limits::{NameFault, NameLimits, file_and_folder};

use super::{
    ObjectInfo, ObjectMetadata, ObjectWriter, ReadRange, SmallObject, Store, StoreError,
    WriteOptions, stat_if_there,
};

/// Folders deeper than this are refused; no real export comes near.
const MAX_DEPTH: usize = 256;

/// Objects below one folder.
#[derive(Debug, Clone)]
pub struct DirStore {
    root: PathBuf,
    working: WorkingFiles,
}

impl DirStore {
    /// The store of what lies below `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        DirStore {
            root: root.into(),
            working: WorkingFiles::default(),
        }
    }

    /// The path of an object.
    fn path(&self, name: &str) -> PathBuf {
        // Without the `./` that nobody typed: paths stand in messages.
        if self.root == Path::new(".") {
            PathBuf::from(name)
        } else {
            self.root.join(name)
        }
    }
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|error| {
        Err(StoreError::Io {
            name: "file work".to_owned(),
            deed: "running",
            source: io::Error::other(error),
        })
    })
}

fn failed(name: impl AsRef<Path>, deed: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let name = name.as_ref().display().to_string();
    move |source| match source.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { name, what: "file" },
        io::ErrorKind::NotADirectory => StoreError::NotAFile {
            name,
            fault: "leads through a file, not a folder",
        },
        _ => StoreError::Io { name, deed, source },
    }
}

#[async_trait]
impl Store for DirStore {
    async fn list(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        let root = self.root.clone();
        blocking(move || {
            let mut objects = Vec::new();
            walk(&root, "", 0, &mut objects)?;
            objects.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(objects)
        })
        .await
    }

    async fn list_folder(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        let root = self.root.clone();
        blocking(move || {
            // Links that lead nowhere or to folders are no archives: nothing is lost without them.
            let mut objects = Vec::new();
            for entry in entries_of(&root)? {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let meta = fs::metadata(entry.path());
                objects.extend(
                    meta.ok()
                        .filter(fs::Metadata::is_file)
                        .map(|meta| info(name, &meta)),
                );
            }
            objects.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(objects)
        })
        .await
    }

    async fn stat(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        let (path, name) = (self.path(name), name.to_owned());
        blocking(move || inspect(&path, name)).await
    }

    async fn stat_all(&self, names: &[String]) -> Result<Vec<Option<ObjectInfo>>, StoreError> {
        let names: Vec<(PathBuf, String)> = names
            .iter()
            .map(|name| (self.path(name), name.clone()))
            .collect();
        blocking(move || {
            names
                .into_iter()
                .map(|(path, name)| stat_if_there(inspect(&path, name)))
                .collect()
        })
        .await
    }

    async fn read(
        &self,
        object: &ObjectInfo,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, StoreError> {
        let (path, part) = (
            self.path(&object.name),
            ReadRange {
                object: object.clone(),
                offset,
                len,
            },
        );
        blocking(move || read_part(&path, &part)).await
    }

    async fn read_all(&self, parts: &[ReadRange]) -> Result<Vec<Bytes>, StoreError> {
        let paths: Vec<(PathBuf, ReadRange)> = parts
            .iter()
            .map(|part| (self.path(&part.object.name), part.clone()))
            .collect();
        blocking(move || {
            paths
                .iter()
                .map(|(path, part)| read_part(path, part))
                .collect()
        })
        .await
    }

    async fn check_names(&self, names: &[&str]) -> Result<(), StoreError> {
        let limits = NameLimits::at(&self.root);
        let unfit = |name: &str, fault| StoreError::UnsupportedName {
            name: self.display_name(name),
            fault,
        };
        let too_long = names.iter().find_map(|name| {
            limits
                .check(&self.path(name))
                .err()
                .map(|fault| unfit(name, fault))
        });
        let found = too_long
            .or_else(|| file_and_folder(names).map(|name| unfit(name, NameFault::FileAndFolder)));
        found.map_or(Ok(()), Err)
    }

    async fn create(
        &self,
        name: &str,
        making: WriteOptions,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        let (path, working) = (self.path(name), self.working.clone());
        blocking(move || {
            make_folder(folder_of(&path))?;
            Ok(
                Box::new(DirWriter::create_working_file(&working, path, making)?)
                    as Box<dyn ObjectWriter>,
            )
        })
        .await
    }

    async fn create_all(&self, objects: Vec<SmallObject>) -> Result<(), StoreError> {
        let objects: Vec<(PathBuf, Bytes, WriteOptions)> = objects
            .into_iter()
            .map(|whole| (self.path(&whole.name), whole.bytes, whole.making))
            .collect();
        let working = self.working.clone();
        blocking(move || {
            let mut made = BTreeSet::new();
            for (path, bytes, making) in objects {
                let folder = folder_of(&path).to_owned();
                if !made.contains(&folder) {
                    make_folder(&folder)?;
                    made.insert(folder);
                }
                let writer = DirWriter::create_working_file(&working, path, making)?;
                writer.write_all(&bytes)?;
                writer.end()?;
            }
            Ok(())
        })
        .await
    }

    async fn sync(&self, names: &[String]) -> Result<(), StoreError> {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        blocking(move || settle(&paths)).await
    }

    async fn remove(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        let (path, version_then) = (self.path(&object.name), object.version);
        blocking(move || {
            if fs::metadata(&path).is_ok_and(|meta| version(&meta) != version_then) {
                return Ok(());
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(failed(&path, "removing")(error))
                }
                _ => Ok(()),
            }
        })
        .await
    }

    async fn delete_unchanged(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        let (path, listed_version) = (self.path(&object.name), object.version);
        blocking(move || {
            let meta = fs::metadata(&path).map_err(failed(&path, "reading"))?;
            if version(&meta) != listed_version {
                let name = path.display().to_string();
                return Err(StoreError::Changed { name });
            }
            fs::remove_file(&path).map_err(failed(&path, "removing"))
        })
        .await
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn display_name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// A file as a listing shows it. Folders keep nothing of a file besides its bytes.
fn info(name: String, meta: &fs::Metadata) -> ObjectInfo {
    ObjectInfo {
        name,
        len: meta.len(),
        version: version(meta),
        crc32c: None,
        content_encoding: None,
        content_type: None,
        attributes: BTreeMap::new(),
    }
}

/// What stands directly in a folder.
fn entries_of(folder: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    let entries = fs::read_dir(folder).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound {
            name: folder.display().to_string(),
            what: "folder",
        },
        io::ErrorKind::NotADirectory => StoreError::NotAFile {
            name: folder.display().to_string(),
            fault: "is a file, not a folder",
        },
        _ => StoreError::Io {
            name: folder.display().to_string(),
            deed: "listing",
            source,
        },
    })?;
    entries
        .map(|entry| entry.map_err(failed(folder, "listing")))
        .collect()
}

/// Depth first; links to files count as files, links to folders or to nothing are refused: to skip
/// them silently would pack half a set.
fn walk(
    folder: &Path,
    prefix: &str,
    depth: usize,
    objects: &mut Vec<ObjectInfo>,
) -> Result<(), StoreError> {
    if depth > MAX_DEPTH {
        return Err(not_a_file(folder, "is more than 256 folders deep"));
    }
    for entry in entries_of(folder)? {
        let path = entry.path();
        let name = name_below(prefix, &entry)?;
        let kind = entry.file_type().map_err(failed(&path, "reading"))?;
        if kind.is_dir() {
            walk(&path, &name, depth + 1, objects)?;
        } else {
            objects.extend(file_at(&path)?.map(|meta| info(name, &meta)));
        }
    }
    Ok(())
}

/// The object's name of an entry of the folder `prefix`.
fn name_below(prefix: &str, entry: &fs::DirEntry) -> Result<String, StoreError> {
    let base = entry
        .file_name()
        .into_string()
        .map_err(|_| StoreError::InvalidName {
            name: entry.path().display().to_string(),
        })?;
    if prefix.is_empty() {
        return Ok(base);
    }
    Ok(format!("{prefix}/{base}"))
}

/// The file at a path, where a link may lead to it; none where it was removed meanwhile, and for
/// devices and pipes.
fn file_at(path: &Path) -> Result<Option<fs::Metadata>, StoreError> {
    let refused = |fault| Err(not_a_file(path, fault));
    match fs::metadata(path) {
        Err(_) if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) => {
            refused("is a link that cannot be followed")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "reading")(error)),
        Ok(meta) if meta.is_dir() => refused("is a link to a folder, which is not followed"),
        Ok(meta) => Ok(Some(meta).filter(fs::Metadata::is_file)),
    }
}

fn not_a_file(path: &Path, fault: &'static str) -> StoreError {
    StoreError::NotAFile {
        name: path.display().to_string(),
        fault,
    }
}

/// Changes with every write and every replacement of the file.
fn version(meta: &fs::Metadata) -> u64 {
    let time = (meta.mtime() as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(meta.mtime_nsec() as u64);
    time ^ meta.ino().rotate_left(40)
}

fn make_folder(folder: &Path) -> Result<(), StoreError> {
    create_private_folders(folder).map_err(|source| match source.kind() {
        // A folder that is to be made is not missing.
        io::ErrorKind::NotFound => StoreError::Io {
            name: folder.display().to_string(),
            deed: "creating the folder",
            source,
        },
        _ => failed(folder, "creating the folder")(source),
    })
}

fn inspect(path: &Path, name: String) -> Result<ObjectInfo, StoreError> {
    let meta = fs::metadata(path).map_err(failed(path, "reading"))?;
    if !meta.is_file() {
        let fault = if meta.is_dir() {
            "is a folder, not a file"
        } else {
            "is not a regular file"
        };
        return Err(not_a_file(path, fault));
    }
    Ok(info(name, &meta))
}

fn read_part(path: &Path, part: &ReadRange) -> Result<Bytes, StoreError> {
    let changed = || StoreError::Changed {
        name: path.display().to_string(),
    };
    let file = File::open(path).map_err(failed(path, "opening"))?;
    let meta = file.metadata().map_err(failed(path, "reading"))?;
    if !is_as_listed(&meta, part) {
        return Err(changed());
    }
    let mut bytes = Buffer::with_len(part.len);
    file.read_exact_at(&mut bytes, part.offset)
        .map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => StoreError::Io {
                name: path.display().to_string(),
                deed: "reading",
                source,
            },
        })?;
    Ok(bytes.freeze())
}

/// Whether a file is the one that was listed, and has that part.
fn is_as_listed(meta: &fs::Metadata, part: &ReadRange) -> bool {
    let ReadRange {
        object,
        offset,
        len,
    } = part;
    let left = object.len.checked_sub(*offset);
    meta.len() == object.len
        && version(meta) == object.version
        && left.is_some_and(|left| left >= *len as u64)
}

/// More files than these are not synced one by one: each costs the file system about as much as all
/// together do.
#[cfg(target_os = "linux")]
const MAX_SYNCED_BY_ONE: usize = 64;

/// Makes files and their names survive a power cut.
fn settle(paths: &[PathBuf]) -> Result<(), StoreError> {
    let folders: BTreeSet<&Path> = paths.iter().map(|path| folder_of(path)).collect();
    #[cfg(target_os = "linux")]
    if paths.len() > MAX_SYNCED_BY_ONE {
        return sync_file_systems(&folders);
    }
    for path in paths {
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(failed(path, "writing"))?;
    }
    // The folders may be new themselves, up to any height.
    let with_parents: BTreeSet<&Path> = folders
        .into_iter()
        .flat_map(Path::ancestors)
        .map(or_working_folder)
        .collect();
    with_parents.into_iter().for_each(sync_folder);
    Ok(())
}

/// The path to open a folder by.
fn or_working_folder(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    }
}

/// Makes all that is in the file systems of these folders survive a power cut. Other file systems
/// may be mounted below the root.
#[cfg(target_os = "linux")]
fn sync_file_systems(folders: &BTreeSet<&Path>) -> Result<(), StoreError> {
    let mut synced = BTreeSet::new();
    for folder in folders {
        let opened = File::open(folder).map_err(failed(folder, "opening the folder"))?;
        let meta = opened.metadata().map_err(failed(folder, "reading"))?;
        if synced.insert(meta.dev()) {
            rustix::fs::syncfs(&opened).map_err(|error| failed(folder, "writing")(error.into()))?;
        }
    }
    Ok(())
}

/// A name must survive a power cut as well; a file system that cannot sync folders has done what it
/// can.
fn sync_folder(folder: &Path) {
    File::open(folder).and_then(|folder| folder.sync_all()).ok();
}

/// Why a file did not get its name.
fn unpublished(path: &Path, source: io::Error) -> StoreError {
    let name = path.display().to_string();
    match source.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory => {
            StoreError::AlreadyExists { name }
        }
        _ => StoreError::Io {
            name,
            deed: "writing",
            source,
        },
    }
}

#[derive(Debug)]
struct DirWriter {
    working: WorkingFile,
    path: PathBuf,
    making: WriteOptions,
}

impl DirWriter {
    fn create_working_file(
        working: &WorkingFiles,
        path: PathBuf,
        making: WriteOptions,
    ) -> Result<Self, StoreError> {
        let working = working
            .create(&path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::ResourceBusy => StoreError::Busy {
                    name: path.display().to_string(),
                },
                _ => failed(&path, "creating")(source),
            })?;
        Ok(DirWriter {
            working,
            path,
            making,
        })
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.working
            .file()
            .write_all(bytes)
            .map_err(failed(&self.path, "writing"))
    }

    /// Gives the file its name.
    fn end(self) -> Result<(), StoreError> {
        let DirWriter {
            working,
            path,
            making,
        } = self;
        if !making.sync_later {
            working
                .file()
                .sync_all()
                .map_err(failed(&path, "writing"))?;
        }
        working
            .publish(making.overwrite)
            .map_err(|error| unpublished(&path, error))?;
        if !making.sync_later {
            sync_folder(folder_of(&path));
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectWriter for DirWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let (file, path) = (self.working.file().try_clone(), self.path.clone());
        blocking(move || {
            file.and_then(|mut file| file.write_all(&bytes))
                .map_err(failed(path, "writing"))
        })
        .await
    }

    async fn publish(self: Box<Self>, _: ObjectMetadata) -> Result<(), StoreError> {
        blocking(move || self.end()).await
    }
}
