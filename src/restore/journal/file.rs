//! The journal of a restore on disk: read once, then appended to, each event flushed before the
//! next act.
//!
//! One process at a time writes it. What happened means is told by `journal`; here are only the
//! file and its lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::model::Timestamp;
use crate::restore::journal::{
    self, InvalidTransition, Journal, JournalError, JournalEvent, JournalReplay,
};
use crate::runtime::private_files::{create_private_folders, private_file_options};
use crate::runtime::workers::{WorkerPanicked, Workers};

/// Journals longer than this are refused; a line is written for every batch of entities.
const MAX_JOURNAL_BYTES: u64 = 1 << 30;

/// A longer line is none of a journal; the longest names a million steps.
const MAX_LINE_BYTES: u64 = 32 << 20;

/// Somebody else may rename or remove a journal just when it is opened, but not this often.
const MAX_OPEN_ATTEMPTS: u32 = 10;

/// Opening a pipe or a device must not wait for another process; files do not know the flag.
const OPEN_FLAGS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// Checkpoints are made to last this often at most. What a power cut takes of them is written into
/// the target once more.
const SYNC_PAUSE: Duration = Duration::from_secs(1);

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum JournalFileError {
    /// The file cannot be read or written.
    #[error("{deed} {path} failed: {source}")]
    Io {
        /// The journal's path.
        path: String,
        /// What was tried.
        deed: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A pipe, a device or a folder.
    #[error("{path} is not a regular file, as a journal must be")]
    NotAFile {
        /// The journal's path.
        path: String,
    },
    /// Another restore is writing it.
    #[error("another restore is using the journal {path}")]
    Busy {
        /// The journal's path.
        path: String,
    },
    /// What stands in it is no journal of this plan.
    #[error("{path}: {source}")]
    Content {
        /// The journal's path.
        path: String,
        /// What is wrong.
        source: JournalError,
    },
    /// A fault of kindpack's own: an event that cannot follow.
    #[error("journal: {0}")]
    InvalidTransition(#[from] InvalidTransition),
    /// A worker was lost.
    #[error(transparent)]
    Worker(#[from] WorkerPanicked),
}

/// A journal that is open for writing, or one that is kept in memory only, for dry runs.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: Option<Arc<File>>,
    /// Bytes of whole lines in the file.
    len: u64,
    journal: Journal,
    /// Whether the next event takes the place of all that is in the file.
    restarts: bool,
    synced: Instant,
    /// Whether an event could not be written: what would follow it has no meaning without it.
    lost: bool,
}

impl JournalFile {
    /// Reads the journal at `path`, or begins one there, and keeps others from writing it. A torn
    /// last line is cut off.
    ///
    /// # Errors
    /// [`JournalFileError`].
    pub fn open(path: &Path) -> Result<Self, JournalFileError> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            create_private_folders(folder).map_err(failed(folder, "creating the folder of"))?;
        }
        let file = open_locked(path, true)?;
        JournalFile::from_locked(file, path)
    }

    /// As [`JournalFile::open`], but makes none.
    ///
    /// # Errors
    /// [`JournalFileError`].
    pub fn open_existing(path: &Path) -> Result<Option<Self>, JournalFileError> {
        match open_locked(path, false) {
            Err(JournalFileError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            file => JournalFile::from_locked(file?, path).map(Some),
        }
    }

    fn from_locked(mut file: File, path: &Path) -> Result<Self, JournalFileError> {
        let journal = read(&mut file, path)?;
        // What a crash tore is gone before anything is written behind it.
        file.set_len(journal.valid_len)
            .map_err(failed(path, "cannot cut the journal's torn end"))?;
        file.seek(SeekFrom::End(0))
            .map_err(failed(path, "writing"))?;
        sync_folder(path);
        let len = journal.valid_len;
        Ok(JournalFile {
            file: Some(Arc::new(file)),
            path: path.to_owned(),
            len,
            ..JournalFile::in_memory(journal)
        })
    }

    /// A journal that goes on in memory only.
    pub fn in_memory(journal: Journal) -> Self {
        JournalFile {
            path: PathBuf::new(),
            file: None,
            len: 0,
            journal,
            restarts: false,
            synced: Instant::now(),
            lost: false,
        }
    }

    /// Reads a journal without writing it; none there is an empty one.
    ///
    /// # Errors
    /// [`JournalFileError`].
    pub fn read(path: &Path) -> Result<Journal, JournalFileError> {
        match OpenOptions::new()
            .read(true)
            .custom_flags(OPEN_FLAGS.bits().cast_signed())
            .open(path)
        {
            Ok(mut file) => read(&mut file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Journal::default()),
            Err(source) => Err(failed(path, "opening")(source)),
        }
    }

    /// Where each step stands.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Where the journal is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with the journal's content, as an error that names it.
    pub fn content_error(&self, source: JournalError) -> JournalFileError {
        JournalFileError::Content {
            path: self.path.display().to_string(),
            source,
        }
    }

    /// Begins anew. The file keeps what it says until the next event is written: if the new restore
    /// is refused, nothing has changed.
    pub fn restart(&mut self) {
        self.journal = Journal::default();
        self.restarts = true;
    }

    /// Gives the journal another name beside its own, so that a new one may begin there. Gives the
    /// new name.
    ///
    /// # Errors
    /// [`JournalFileError::Io`].
    pub fn set_aside(self) -> Result<PathBuf, JournalFileError> {
        let free = self.free_name();
        fs::rename(&self.path, &free).map_err(failed(&self.path, "renaming"))?;
        sync_folder(&self.path);
        Ok(free)
    }

    /// A name beside the journal's own that nothing has. Who holds the lock of the journal is the
    /// only one who makes such names.
    fn free_name(&self) -> PathBuf {
        let opened = self.journal.opened.as_ref();
        let began = opened.map(|opened| opened.at.to_archive_id());
        let began = began.unwrap_or_default();
        let mut names = (1..).map(|number| name_beside(&self.path, &began, number));
        let free = names.find(|name| fs::symlink_metadata(name).is_err());
        free.unwrap_or_default()
    }

    /// Removes the file, where nothing was ever written to it.
    pub fn remove_if_empty(&self) {
        if self.file.is_some() && self.len == 0 {
            fs::remove_file(&self.path).ok();
        }
    }

    /// Writes an event down: it is in the file when this returns. It also outlasts a power cut,
    /// unless it is a checkpoint that follows another one within a second.
    ///
    /// # Errors
    /// [`JournalFileError::Io`], after which nothing more may be written; [`JournalFileError::InvalidTransition`] for an event that cannot follow,
    /// which is not written.
    pub async fn append(&mut self, event: JournalEvent) -> Result<(), JournalFileError> {
        self.check_written()?;
        let at = now();
        self.journal.apply(&event, at)?;
        let Some(file) = self.file.clone() else {
            return Ok(());
        };
        self.empty_if_restarted(&file)?;
        let lasts = self.must_last(&event);
        // Until it is known to be written, it is not: also where nobody waits for the answer any
        // more.
        self.lost = true;
        self.write(file, journal::encode(&event, at), lasts).await?;
        self.lost = false;
        if lasts {
            self.synced = Instant::now();
        }
        Ok(())
    }

    /// Refuses to go on after an event that could not be written.
    fn check_written(&self) -> Result<(), JournalFileError> {
        if !self.lost {
            return Ok(());
        }
        let source = io::Error::other("an event before this one could not be written");
        Err(failed(&self.path, "writing")(source))
    }

    fn empty_if_restarted(&mut self, file: &File) -> Result<(), JournalFileError> {
        if std::mem::take(&mut self.restarts) {
            cut(file, 0).map_err(failed(&self.path, "emptying"))?;
            self.len = 0;
        }
        Ok(())
    }

    /// Whether an event must outlast a power cut.
    fn must_last(&self, event: &JournalEvent) -> bool {
        let is_checkpoint = matches!(event, JournalEvent::Checkpoint { .. });
        !is_checkpoint || self.synced.elapsed() >= SYNC_PAUSE
    }

    async fn write(
        &mut self,
        file: Arc<File>,
        line: String,
        lasts: bool,
    ) -> Result<(), JournalFileError> {
        let len = self.len;
        self.len += line.len() as u64;
        let written = Workers::run_blocking(move || write_line(&file, &line, len, lasts));
        written.await?.map_err(failed(&self.path, "writing"))
    }
}

/// Opens a journal for writing and keeps others from it.
fn open_locked(path: &Path, creates: bool) -> Result<File, JournalFileError> {
    for _ in 0..MAX_OPEN_ATTEMPTS {
        let file = open_file(path, creates).map_err(failed(path, "opening"))?;
        let opened = file.metadata();
        let opened = opened.map_err(failed(path, "reading"))?;
        if !opened.is_file() {
            return Err(not_a_file(path));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(source)) => {
                return Err(failed(path, "locking")(source));
            }
        }
        // Who held the lock may have given the file another name since it was opened.
        if is_named(&opened, path) {
            return Ok(file);
        }
    }
    Err(busy(path))
}

fn open_file(path: &Path, creates: bool) -> io::Result<File> {
    let mut options = private_file_options();
    options.read(true).write(true);
    options.create(creates).truncate(false);
    options.custom_flags(OPEN_FLAGS.bits().cast_signed());
    options.open(path)
}

fn not_a_file(path: &Path) -> JournalFileError {
    JournalFileError::NotAFile {
        path: path.display().to_string(),
    }
}

fn busy(path: &Path) -> JournalFileError {
    JournalFileError::Busy {
        path: path.display().to_string(),
    }
}

/// Whether a path still names an open file.
fn is_named(opened: &fs::Metadata, path: &Path) -> bool {
    let named = fs::metadata(path);
    named.is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino()))
}

/// Refuses what is no file, and one that is too long for a journal.
fn check_file(file: &File, path: &Path) -> Result<(), JournalFileError> {
    let metadata = file.metadata();
    let metadata = metadata.map_err(failed(path, "reading"))?;
    if !metadata.is_file() {
        return Err(not_a_file(path));
    }
    check_len(metadata.len()).map_err(failed(path, "reading"))
}

fn check_len(found: u64) -> io::Result<()> {
    if found <= MAX_JOURNAL_BYTES {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "it has {found} bytes, more than {MAX_JOURNAL_BYTES}"
    )))
}

/// Reads the next line, with its line feed; an empty one at the end.
fn read_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    lines.take(MAX_LINE_BYTES + 1).read_until(b'\n', line)
}

fn check_line_len(line: u64, len: usize) -> Result<(), JournalError> {
    let max_bytes = MAX_LINE_BYTES;
    if len as u64 > max_bytes {
        return Err(JournalError::TooLong { line, max_bytes });
    }
    Ok(())
}

/// Writes a line at the end of a journal of `len` bytes. A line that is half written must not stand
/// before others.
fn write_line(mut file: &File, line: &str, len: u64, lasts: bool) -> io::Result<()> {
    let written = file
        .write_all(line.as_bytes())
        .and_then(|()| if lasts { file.sync_data() } else { Ok(()) });
    if written.is_err() {
        cut(file, len).ok();
    }
    written
}

/// Cuts a file, and goes on writing there.
fn cut(mut file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)?;
    file.seek(SeekFrom::Start(len)).map(drop)
}

/// A name beside that of a journal which began at `began`.
fn name_beside(path: &Path, began: &str, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(match number {
        1 => format!(".{began}"),
        _ => format!(".{began}-{number}"),
    });
    PathBuf::from(name)
}

fn read(file: &mut File, path: &Path) -> Result<Journal, JournalFileError> {
    check_file(file, path)?;
    let content = |source| JournalFileError::Content {
        path: path.display().to_string(),
        source,
    };
    let mut lines = BufReader::new(file).take(MAX_JOURNAL_BYTES);
    let (mut replay, mut line, mut number) = (JournalReplay::default(), Vec::new(), 0);
    loop {
        number += 1;
        let len = read_line(&mut lines, &mut line);
        if len.map_err(failed(path, "reading"))? == 0 {
            return Ok(replay.finish());
        }
        check_line_len(number, line.len()).map_err(content)?;
        replay.push(&line).map_err(content)?;
    }
}

fn failed(path: &Path, deed: &'static str) -> impl FnOnce(io::Error) -> JournalFileError {
    let path = path.display().to_string();
    move |source| JournalFileError::Io { path, deed, source }
}

/// Makes a new name in a folder survive a power cut, as far as the file system can.
fn sync_folder(path: &Path) {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")));
    folder.and_then(|folder| folder.sync_all()).ok();
}

/// The time of an event, for people; nothing is decided by it.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros())
        .ok()
        .and_then(Timestamp::from_micros)
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sha256;
    use crate::restore::journal::{JOURNAL_FORMAT, StepPosition};

    fn opened(target: &str) -> JournalEvent {
        JournalEvent::Opened {
            format: JOURNAL_FORMAT.to_owned(),
            plan_sha256: Sha256([7; 32]),
            target: target.to_owned(),
            steps: Vec::new(),
            tool: "kindpack".to_owned(),
        }
    }

    #[tokio::test]
    async fn restart_keeps_the_file_until_the_next_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = JournalFile::open(&path).unwrap();
        journal
            .append(opened("dir:a long name of a target"))
            .await
            .unwrap();
        journal
            .append(JournalEvent::Finished {
                steps: 0,
                entities: 0,
            })
            .await
            .unwrap();
        let before = fs::read(&path).unwrap();
        journal.restart();
        assert_eq!(journal.journal(), &Journal::default());
        assert!(fs::read(&path).unwrap() == before);
        journal.remove_if_empty();
        journal.append(opened("dir:b")).await.unwrap();
        drop(journal);
        let read = JournalFile::read(&path).unwrap();
        assert_eq!(
            (read.opened.unwrap().target.as_str(), read.finished),
            ("dir:b", None)
        );
    }

    #[tokio::test]
    async fn journal_set_aside_takes_no_other_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut names = Vec::new();
        for target in ["dir:a", "dir:b"] {
            let mut journal = JournalFile::open(&path).unwrap();
            journal.append(opened(target)).await.unwrap();
            // Two restores may begin within one second.
            journal.journal.opened.as_mut().unwrap().at = Timestamp::from_micros(0).unwrap();
            names.push(journal.set_aside().unwrap());
            assert!(!path.exists());
        }
        let targets = names
            .iter()
            .map(|name| JournalFile::read(name).unwrap().opened.unwrap().target);
        assert_eq!(targets.collect::<Vec<_>>(), ["dir:a", "dir:b"]);
        assert!(JournalFile::open_existing(&path).unwrap().is_none());
        JournalFile::open(&path).unwrap().remove_if_empty();
        assert!(!path.exists());
    }

    fn checkpoint() -> JournalEvent {
        JournalEvent::Checkpoint {
            step: 1,
            entities: 0,
            position: StepPosition::default(),
        }
    }

    /// A journal with its first event, in a folder that it makes.
    async fn begun(folder: &Path) -> (PathBuf, JournalFile) {
        let path = folder.join("runs/one/journal");
        let mut journal = JournalFile::open(&path).unwrap();
        journal.append(opened("dir:a")).await.unwrap();
        (path, journal)
    }

    #[tokio::test]
    async fn existing_journal_is_opened_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (path, journal) = begun(folder.path()).await;
        let known = journal.journal().clone();
        assert_eq!(known.opened.as_ref().unwrap().target, "dir:a");
        assert!(matches!(
            JournalFile::open_existing(&path),
            Err(JournalFileError::Busy { .. })
        ));
        drop(journal);
        let journal = JournalFile::open_existing(&path).unwrap().unwrap();
        let opened_again = journal.journal().opened.as_ref();
        assert_eq!(opened_again.unwrap().target, "dir:a");
        journal.remove_if_empty();
        assert!(path.exists());
    }

    #[tokio::test]
    async fn only_a_missing_journal_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert_eq!(JournalFile::read(&missing).unwrap(), Journal::default());
        assert!(JournalFile::open_existing(&missing).unwrap().is_none());
        let (path, journal) = begun(folder.path()).await;
        drop(journal);
        let below_a_file = path.join("journal");
        for failed in [
            JournalFile::read(&below_a_file).map(drop),
            JournalFile::open_existing(&below_a_file).map(drop),
        ] {
            assert!(matches!(failed, Err(JournalFileError::Io { .. })));
        }
        let of_folder = JournalFile::read(folder.path());
        assert!(matches!(of_folder, Err(JournalFileError::NotAFile { .. })));
    }

    #[tokio::test]
    async fn nothing_follows_an_event_that_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut journal) = begun(folder.path()).await;
        let before = fs::read(&path).unwrap();
        let finished = JournalEvent::Finished {
            steps: 0,
            entities: 0,
        };
        let writable = journal.file.replace(Arc::new(File::open(&path).unwrap()));
        assert!(journal.append(finished.clone()).await.is_err());
        journal.file = writable;
        journal.journal.finished = None;
        let error = journal.append(finished).await.unwrap_err().to_string();
        assert!(error.ends_with("an event before this one could not be written"));
        assert!(fs::read(&path).unwrap() == before);
    }

    #[tokio::test]
    async fn checkpoints_last_once_a_pause_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let (_, mut journal) = begun(folder.path()).await;
        journal.synced = Instant::now() + SYNC_PAUSE * 1_000;
        assert!(!journal.must_last(&checkpoint()) && journal.must_last(&opened("dir:a")));
        journal.synced = Instant::now().checked_sub(SYNC_PAUSE).unwrap();
        assert!(journal.must_last(&checkpoint()) && journal.must_last(&opened("dir:a")));
    }

    #[tokio::test]
    async fn overlong_line_is_refused_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let (path, journal) = begun(folder.path()).await;
        let file = journal.file.as_deref().unwrap();
        file.set_len(journal.len + MAX_LINE_BYTES + 1).unwrap();
        drop(journal);
        let error = JournalFile::read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with(": line 2 is longer than 33554432 bytes"),
            "{error}"
        );
    }

    #[test]
    fn lengths_are_bounded_to_the_byte() {
        let longest = usize::try_from(MAX_LINE_BYTES).unwrap();
        assert_eq!(check_line_len(7, longest), Ok(()));
        let refused = check_line_len(7, longest + 1);
        assert!(matches!(
            refused,
            Err(JournalError::TooLong { line: 7, .. })
        ));
        assert!(check_len(MAX_JOURNAL_BYTES).is_ok());
        assert!(check_len(MAX_JOURNAL_BYTES + 1).is_err());
    }

    #[test]
    fn another_file_of_the_same_name_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        fs::write(&one, "").unwrap();
        fs::write(&other, "").unwrap();
        let opened = fs::metadata(&one).unwrap();
        assert!(is_named(&opened, &one));
        fs::rename(&other, &one).unwrap();
        assert!(!is_named(&opened, &one) && !is_named(&opened, &other));
    }

    #[test]
    fn names_beside_a_journal_are_numbered() {
        let names = [1, 2].map(|number| name_beside(Path::new("journal"), "20251122", number));
        assert_eq!(
            names,
            ["journal.20251122", "journal.20251122-2"].map(PathBuf::from)
        );
    }
}
