//! Files and folders that are written under a working name, and get their own name when they are
//! whole.
//!
//! A working name stands beside the name: `.NAME.TIME-INODE.partial`. It is created exclusively, so
//! no link is followed and no file is emptied. Its writer keeps it locked. It holds the number of
//! its own inode, which neither another file nor an entry of an archive does: so whatever a killed
//! process left is recognised, and nothing else is removed.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::TempPath;

use super::private_files::{PRIVATE_FILE_MODE, PRIVATE_FOLDER_MODE};
use crate::model::shortened;

/// How working names end.
const ENDING: &str = ".partial";

/// How names begin whose inode is not known yet, and the number of random letters after it.
const RANDOM_PREFIX: &str = ".kindpack-";
const RANDOM_LENGTH: usize = 16;

/// The part of a working name that names the file: so short that file systems with short names hold
/// the whole.
const MAX_LABEL_BYTES: usize = 100;

/// The length of the longest working name.
pub const MAX_WORKING_NAME_BYTES: usize = 143;

/// More folders than these are not remembered: a folder may be looked through again.
const MAX_FOLDERS: usize = 4_096;

/// The mode of files that everybody may read, as far as the umask allows it.
const PUBLIC_FILE_MODE: u32 = 0o666;

/// Files are compared in pieces of this length.
const COMPARED_BYTES: u64 = 1 << 20;

/// Makes working files. The first one in a folder removes what killed processes left there.
#[derive(Debug, Clone, Default)]
pub struct WorkingFiles {
    tidied: Arc<Mutex<HashSet<PathBuf>>>,
}

impl WorkingFiles {
    /// Begins the file `path`, which only its owner may read; its folder must exist.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] while another process, which began earlier, writes a file of that name.
    pub fn create(&self, path: &Path) -> io::Result<WorkingFile> {
        let file = WorkingFile::create(path, PRIVATE_FILE_MODE)?;
        let folder = folder_of(path);
        if !self.folders().contains(folder) {
            if remove_leftovers(folder)
                .iter()
                .any(|other| other.label == file.name.label && other.stamp() < file.name.stamp())
            {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            let mut folders = self.folders();
            if folders.len() >= MAX_FOLDERS {
                folders.clear();
            }
            folders.insert(folder.to_owned());
        }
        Ok(file)
    }

    fn folders(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.tidied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is being written. Dropped before it is published, it leaves nothing.
///
/// The fields go in this order: the file is removed before its lock is given back.
#[derive(Debug)]
pub struct WorkingFile {
    temp: TempPath,
    file: File,
    name: WorkingName,
    path: PathBuf,
}

impl WorkingFile {
    fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let folder = folder_of(path);
        if let Some(file) = create_unnamed(folder, mode) {
            file.try_lock().ok();
            let name = WorkingName::new(path, &file.metadata()?);
            let working = folder.join(name.to_string());
            if name_file(&file, &working).is_ok() {
                return Ok(WorkingFile {
                    temp: TempPath::try_from_path(working)?,
                    file,
                    name,
                    path: path.to_owned(),
                });
            }
        }
        Self::create_renamed(path, mode)
    }

    /// As [`WorkingFile::create`], where files without a name cannot be made. A process that is
    /// killed between the two names leaves an empty file.
    fn create_renamed(path: &Path, mode: u32) -> io::Result<Self> {
        let folder = folder_of(path);
        let create = |path: &Path| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(path)
        };
        let (file, temp) = builder().make_in(folder, create)?.into_parts();
        // Locked before it has the name that others look for. Where nothing can be locked, nobody
        // else can lock it to remove it.
        file.try_lock().ok();
        let name = WorkingName::new(path, &file.metadata()?);
        let working = folder.join(name.to_string());
        temp.persist_noclobber(&working)
            .map_err(|error| error.error)?;
        Ok(WorkingFile {
            temp: TempPath::try_from_path(working)?,
            file,
            name,
            path: path.to_owned(),
        })
    }

    /// The file, to be written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where something has the name and is not to be overwritten. A folder, a device or a pipe, also one
    /// behind a link, is never overwritten.
    pub fn publish(self, overwrite: bool) -> io::Result<()> {
        if overwrite {
            refuse_special(&self.path)?;
            return self.temp.persist(&self.path).map_err(|error| error.error);
        }
        self.temp
            .persist_noclobber(&self.path)
            .map_err(|error| error.error)
    }

    /// As [`WorkingFile::publish`] without overwriting, but a file of the same bytes may be there
    /// already.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where something else has the name.
    pub fn publish_or_match(self) -> io::Result<()> {
        match self.temp.persist_noclobber(&self.path) {
            Err(error)
                if error.error.kind() == io::ErrorKind::AlreadyExists
                    && is_same_file(&error.path, &self.path)? =>
            {
                Ok(())
            }
            published => published.map_err(|error| error.error),
        }
    }
}

/// A folder that is being filled. Dropped before it is published, it leaves nothing.
#[derive(Debug)]
pub struct WorkingFolder {
    working: PathBuf,
    path: PathBuf,
    /// Keeps it locked.
    _folder: File,
}

impl WorkingFolder {
    /// Begins the folder `path`, and removes what killed processes left beside it. The folder
    /// around it must exist.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path) -> io::Result<Self> {
        // Another process may remove the folder before it is locked.
        let mut attempts = 0;
        loop {
            match Self::create_once(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < 3 => {
                    attempts += 1;
                }
                created => return created,
            }
        }
    }

    fn create_once(path: &Path) -> io::Result<Self> {
        let around = folder_of(path);
        let temp = builder()
            .permissions(Permissions::from_mode(PRIVATE_FOLDER_MODE))
            .tempdir_in(around)?;
        let folder = File::open(temp.path())?;
        folder.try_lock().ok();
        let working = around.join(WorkingName::new(path, &folder.metadata()?).to_string());
        fs::rename(temp.path(), &working)?;
        // It has another name by now.
        let _ = temp.keep();
        remove_leftovers(around);
        Ok(WorkingFolder {
            working,
            path: path.to_owned(),
            _folder: folder,
        })
    }

    /// Where the folder is until it is published.
    pub fn working_path(&self) -> &Path {
        &self.working
    }

    /// Gives the folder its name. A folder that holds the same files may be there already where
    /// `or_match` says so.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where something else has the name.
    pub fn publish(self, or_match: bool) -> io::Result<()> {
        // Nothing gives way to a folder but an empty one.
        match fs::rename(&self.working, &self.path) {
            Err(error) if fs::symlink_metadata(&self.path).is_err() => Err(error),
            Err(_) if or_match && holds_same_files(&self.working, &self.path)? => Ok(()),
            Err(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Ok(()) => Ok(()),
        }
    }
}

impl Drop for WorkingFolder {
    fn drop(&mut self) {
        // After it was published there is none.
        fs::remove_dir_all(&self.working).ok();
    }
}

/// Writes a whole file that only its owner may read, or replaces one. A link of that name is
/// replaced, not followed.
///
/// # Errors
/// Those of the file system.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_all(WorkingFiles::default().create(path)?, bytes)
}

/// As [`write_file`], of a file that everybody may read.
///
/// # Errors
/// Those of the file system.
pub fn write_public_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_all(WorkingFile::create(path, PUBLIC_FILE_MODE)?, bytes)
}

fn write_all(working: WorkingFile, bytes: &[u8]) -> io::Result<()> {
    io::Write::write_all(&mut working.file(), bytes)?;
    working.file().sync_all()?;
    working.publish(true)
}

/// Whether that is a working file or folder, of a process that goes on or was killed.
pub fn is_working(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(WorkingName::parse);
    name.is_some_and(|name| fs::symlink_metadata(path).is_ok_and(|meta| name.is_of(&meta)))
}

/// The parts of a working name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WorkingName {
    label: String,
    /// When it was begun, in milliseconds since 1970.
    begun: u64,
    inode: u64,
}

impl WorkingName {
    fn new(path: &Path, meta: &fs::Metadata) -> Self {
        let label = shortened(
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            MAX_LABEL_BYTES,
        );
        // A clock before 1970 orders nothing, and does no harm.
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        WorkingName {
            label,
            // As many digits as a working name has room for.
            begun: since.as_millis() as u64 & 0xffff_ffff_ffff,
            inode: meta.ino(),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let (label, stamp) = name
            .strip_prefix('.')?
            .strip_suffix(ENDING)?
            .rsplit_once('.')?;
        let (begun, inode) = stamp.split_once('-')?;
        let [begun, inode] = [begun, inode].map(|hex| u64::from_str_radix(hex, 16));
        let name_of = WorkingName {
            label: label.to_owned(),
            begun: begun.ok()?,
            inode: inode.ok()?,
        };
        (name_of.to_string() == name).then_some(name_of)
    }

    /// What orders those that write one file: who began first goes on.
    fn stamp(&self) -> (u64, u64) {
        (self.begun, self.inode)
    }

    /// Whether that is what the name was made for: by this user, and under no other name.
    fn is_of(&self, meta: &fs::Metadata) -> bool {
        let is_whole = meta.is_dir() || meta.is_file() && meta.nlink() == 1;
        is_whole && meta.ino() == self.inode && meta.uid() == rustix::process::geteuid().as_raw()
    }
}

impl fmt::Display for WorkingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            ".{}.{:012x}-{:x}{ENDING}",
            self.label, self.begun, self.inode
        )
    }
}

/// Names that nobody can guess, until the inode is known.
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(RANDOM_PREFIX)
        .suffix(ENDING)
        .rand_bytes(RANDOM_LENGTH);
    builder
}

/// Whether that is the name of a folder whose inode was not known yet.
fn is_random(name: &str) -> bool {
    let random = name
        .strip_prefix(RANDOM_PREFIX)
        .and_then(|rest| rest.strip_suffix(ENDING));
    random.is_some_and(|random| {
        random.len() == RANDOM_LENGTH && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Makes a file that has no name yet, so that a killed process leaves nothing. Not every file
/// system can do that.
#[cfg(target_os = "linux")]
fn create_unnamed(folder: &Path, mode: u32) -> Option<File> {
    let opened = rustix::fs::open(
        folder,
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::from_raw_mode(mode),
    );
    opened.ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn create_unnamed(_folder: &Path, _mode: u32) -> Option<File> {
    None
}

/// Gives a file of [`create_unnamed`] a name that is free.
fn name_file(file: &File, path: &Path) -> io::Result<()> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(())
}

/// Removes what killed processes left in a folder, as far as that can be. Gives the names of those
/// that go on.
fn remove_leftovers(folder: &Path) -> Vec<WorkingName> {
    let mut at_work = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return at_work;
    };
    at_work.extend(
        entries
            .flatten()
            .filter_map(|entry| remove_leftover(&entry)),
    );
    at_work
}

/// Removes what is left of a killed process. Gives its name where its writer goes on.
fn remove_leftover(entry: &fs::DirEntry) -> Option<WorkingName> {
    let (path, name) = (entry.path(), entry.file_name());
    let name = name.to_str()?;
    if is_random(name) {
        remove_empty_folder(&path);
    }
    let name = WorkingName::parse(name)?;
    let meta = fs::symlink_metadata(&path).ok();
    let meta = meta.filter(|meta| name.is_of(meta))?;
    let file = open(&path, meta.is_dir())?;
    match file.try_lock() {
        // Its writer may have published it meanwhile.
        Ok(()) if is_working(&path) => {
            let is_folder = file.metadata().is_ok_and(|meta| meta.is_dir());
            let removed = if is_folder {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.ok();
            None
        }
        Err(TryLockError::WouldBlock) => Some(name),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// Removes a folder that a process made and was killed before it gave it its working name.
fn remove_empty_folder(path: &Path) {
    let is_ours = fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw());
    if let Some(folder) = is_ours.then(|| open(path, true)).flatten()
        && folder.try_lock().is_ok()
    {
        // Only what is empty is removed.
        fs::remove_dir(path).ok();
    }
}

/// Opens what is to be locked: some file systems lock only what may be written.
fn open(path: &Path, is_folder: bool) -> Option<File> {
    let access = if is_folder {
        OFlags::RDONLY | OFlags::DIRECTORY
    } else {
        OFlags::WRONLY
    };
    let opened = rustix::fs::open(
        path,
        access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    );
    opened.ok().map(File::from)
}

/// A device or a pipe must not become a file, not even by the link that names it.
fn refuse_special(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(meta) if !meta.is_file() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "is no file"))
        }
        _ => Ok(()),
    }
}

/// Whether two files, none of them a link, hold the same bytes.
fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let metas = [one, other].map(fs::symlink_metadata);
    if !matches!(&metas, [Ok(one), Ok(other)] if one.is_file() && other.is_file() && one.len() == other.len())
    {
        return Ok(false);
    }
    let [one, other] = [File::open(one)?, File::open(other)?];
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        for (file, bytes) in [(&one, &mut left), (&other, &mut right)] {
            bytes.clear();
            file.take(COMPARED_BYTES).read_to_end(bytes)?;
        }
        if left != right || left.is_empty() {
            return Ok(left == right);
        }
    }
}

/// Whether all files of a folder are in another one as well, and are the same there.
fn holds_same_files(folder: &Path, other: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (one, other) = (entry.path(), other.join(entry.file_name()));
        let is_same = if entry.file_type()?.is_dir() {
            holds_same_files(&one, &other)?
        } else {
            is_same_file(&one, &other)?
        };
        if !is_same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The folder in which a path stands.
pub fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn working_files_are_private_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zip");
        let make = [WorkingFile::create, WorkingFile::create_renamed];
        for make in make {
            let working = make(&path, PRIVATE_FILE_MODE).unwrap();
            let mode = working.file().metadata().unwrap().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let working = WorkingFolder::create(&folder.path().join("y")).unwrap();
        let mode = fs::metadata(working.working_path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn leftovers_of_killed_processes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zip");
        let left = WorkingFile::create(&path, PRIVATE_FILE_MODE).unwrap();
        let WorkingFile { temp, file, .. } = left;
        // As a kill does: the name stays, the lock goes.
        temp.keep().unwrap();
        drop(file);
        let left = WorkingFolder::create(&folder.path().join("y")).unwrap();
        fs::write(left.working_path().join("half"), "half").unwrap();
        assert_eq!(names(folder.path()).len(), 1, "the file is gone");

        WorkingFiles::default().create(&path).unwrap();
        assert!(
            left.working_path().join("half").exists(),
            "its writer goes on"
        );
        left._folder.unlock().unwrap();
        std::mem::forget(left);
        WorkingFiles::default()
            .create(&path)
            .unwrap()
            .publish(false)
            .unwrap();
        assert_eq!(names(folder.path()), ["x.zip"], "the folder is gone");
    }

    #[test]
    fn files_without_inode_names_are_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let working = WorkingFile::create_renamed(&path, PRIVATE_FILE_MODE).unwrap();
        assert!(is_working(working.temp.as_ref()));
        working.publish(false).unwrap();
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[test]
    fn unnamed_folders_of_killed_processes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, file) in [
            (".kindpack-aaaaaaaaaaaaaaaa.partial", None),
            (".kindpack-bbbbbbbbbbbbbbbb.partial", Some("mine")),
            (".kindpack-short.partial", None),
        ] {
            fs::create_dir(folder.path().join(name)).unwrap();
            if let Some(file) = file {
                fs::write(folder.path().join(name).join(file), "").unwrap();
            }
        }
        fs::write(folder.path().join(".kindpack-cccccccccccccccc.partial"), "").unwrap();
        drop(WorkingFolder::create(&folder.path().join("x")).unwrap());
        assert_eq!(
            names(folder.path()),
            [
                ".kindpack-bbbbbbbbbbbbbbbb.partial",
                ".kindpack-cccccccccccccccc.partial",
                ".kindpack-short.partial"
            ]
        );
    }

    #[test]
    fn files_called_like_leftovers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let named = |inode: u64| {
            WorkingName {
                label: "x".to_owned(),
                begun: 1,
                inode,
            }
            .to_string()
        };
        fs::write(folder.path().join("mine"), "mine").unwrap();
        let inode = fs::metadata(folder.path().join("mine")).unwrap().ino();
        // A link to it, a second name of it, a file of another inode, and a name that only looks
        // like one.
        symlink("mine", folder.path().join(named(inode + 1))).unwrap();
        fs::hard_link(folder.path().join("mine"), folder.path().join(named(inode))).unwrap();
        fs::write(folder.path().join(named(inode + 2_000_000)), "entry").unwrap();
        fs::write(folder.path().join(".x.partial"), "mine").unwrap();
        let before = names(folder.path());
        let mut working = WorkingFiles::default().create(&path).unwrap();
        working.file.write_all(b"whole").unwrap();
        working.publish(false).unwrap();
        let after: Vec<String> = names(folder.path())
            .into_iter()
            .filter(|name| name != "x")
            .collect();
        assert_eq!(after, before);
        assert_eq!(fs::read(folder.path().join("mine")).unwrap(), b"mine");
    }

    #[test]
    fn who_began_later_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let other = WorkingFile::create(&path, PRIVATE_FILE_MODE).unwrap();
        let WorkingFile {
            temp,
            file: _locked,
            name,
            ..
        } = other;
        let mut working = temp.keep().unwrap();
        for (begun, expected) in [
            (1, Some(io::ErrorKind::ResourceBusy)),
            (0xffff_ffff_ffff, None),
        ] {
            let renamed = folder.path().join(
                WorkingName {
                    begun,
                    ..name.clone()
                }
                .to_string(),
            );
            fs::rename(&working, &renamed).unwrap();
            working = renamed;
            assert_eq!(
                WorkingFiles::default()
                    .create(&path)
                    .map_err(|error| error.kind())
                    .err(),
                expected,
                "begun at {begun}"
            );
        }
        assert!(
            WorkingFiles::default()
                .create(&folder.path().join("y"))
                .is_ok()
        );
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn existing_name_stays_unless_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let [path, victim] = ["x", "victim"].map(|name| folder.path().join(name));
        fs::write(&victim, "mine").unwrap();
        symlink("victim", &path).unwrap();
        let write = || {
            let working = WorkingFiles::default().create(&path).unwrap();
            working.file().write_all(b"whole").unwrap();
            working
        };
        assert_eq!(
            write().publish(false).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(
            write().publish_or_match().unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        write().publish(true).unwrap();
        assert_eq!(
            (fs::read(&victim).unwrap(), fs::read(&path).unwrap()),
            (b"mine".to_vec(), b"whole".to_vec())
        );
        write().publish_or_match().unwrap();
        fs::write(&path, "other").unwrap();
        assert_eq!(
            write().publish_or_match().unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        fs::remove_file(&path).unwrap();
        symlink("/dev/null", &path).unwrap();
        assert_eq!(
            write().publish(true).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(names(folder.path()), ["victim", "x"]);
    }

    #[test]
    fn folders_appear_whole_and_replace_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let fill = |text: &str| {
            let working = WorkingFolder::create(&path).unwrap();
            fs::create_dir(working.working_path().join("in")).unwrap();
            fs::write(working.working_path().join("in/side"), text).unwrap();
            working
        };
        drop(fill("half"));
        fill("whole").publish(false).unwrap();
        assert_eq!(
            fill("whole").publish(false).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(
            fill("other").publish(true).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        fill("whole").publish(true).unwrap();
        assert_eq!(
            (
                names(folder.path()),
                fs::read(path.join("in/side")).unwrap()
            ),
            (vec!["x".to_owned()], b"whole".to_vec())
        );
    }

    #[test]
    fn working_names_fit_short_file_systems() {
        let meta = fs::metadata(".").unwrap();
        let name = WorkingName {
            inode: u64::MAX,
            ..WorkingName::new(Path::new(&"x".repeat(255)), &meta)
        };
        assert!(name.to_string().len() <= MAX_WORKING_NAME_BYTES, "{name}");
        assert_eq!(WorkingName::parse(&name.to_string()), Some(name));
    }
}
