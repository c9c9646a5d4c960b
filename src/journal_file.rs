//! The journal of a restore on disk: read once, then appended to, each event flushed before the next act.
//!
//! One process at a time writes it. What happened means is told by `journal`; here are only the file and its lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::journal::{self, Event, Impossible, Journal, JournalError};
use crate::model::Timestamp;
use crate::workers::{WorkerLost, Workers};

/// Journals longer than this are refused; a line is written for every batch of entities.
const JOURNAL_MAX_BYTES: u64 = 1 << 30;

/// Checkpoints are made to last this often at most. What a power cut takes of them is written into the target once more.
const SYNC_PAUSE: Duration = Duration::from_secs(1);

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalFileError {
    /// The file cannot be read or written.
    #[error("{path}: {deed}: {source}")]
    Io {
        /// The journal's path.
        path: String,
        /// What was tried.
        deed: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another restore is writing it.
    #[error("{path}: expected to be the only restore with this journal, found another one at work")]
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
    Impossible(#[from] Impossible),
    /// A worker was lost.
    #[error(transparent)]
    Worker(#[from] WorkerLost),
}

/// A journal that is open for writing, or one that is kept in memory only, for dry runs.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: Option<Arc<File>>,
    /// Bytes of whole lines in the file.
    len: u64,
    journal: Journal,
    synced: Instant,
    /// Whether an event could not be written: what would follow it has no meaning without it.
    lost: bool,
}

impl JournalFile {
    /// Reads the journal at `path`, or begins one there, and keeps others from writing it. A torn last line is cut off.
    ///
    /// # Errors
    /// [`JournalFileError`].
    pub fn open(path: &Path) -> Result<Self, JournalFileError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed(folder, "cannot make the folder"))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed(path, "cannot open the journal"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalFileError::Busy { path: path.display().to_string() }),
            Err(TryLockError::Error(source)) => return Err(failed(path, "cannot lock the journal")(source)),
        }
        let journal = read(&mut file, path)?;
        // What a crash tore is gone before anything is written behind it.
        file.set_len(journal.valid_len).map_err(failed(path, "cannot cut the journal's torn end"))?;
        file.seek(SeekFrom::End(0)).map_err(failed(path, "cannot write the journal"))?;
        sync_folder(path);
        let len = journal.valid_len;
        Ok(JournalFile { path: path.to_owned(), file: Some(Arc::new(file)), len, journal, synced: Instant::now(), lost: false })
    }

    /// A journal that goes on in memory only.
    pub fn in_memory(journal: Journal) -> Self {
        JournalFile { path: PathBuf::new(), file: None, len: 0, journal, synced: Instant::now(), lost: false }
    }

    /// Reads a journal without writing it; none there is an empty one.
    ///
    /// # Errors
    /// [`JournalFileError`].
    pub fn look(path: &Path) -> Result<Journal, JournalFileError> {
        match File::open(path) {
            Ok(mut file) => read(&mut file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Journal::default()),
            Err(source) => Err(failed(path, "cannot open the journal")(source)),
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
        JournalFileError::Content { path: self.path.display().to_string(), source }
    }

    /// Begins anew: what the journal said is forgotten.
    ///
    /// # Errors
    /// [`JournalFileError::Io`].
    pub fn forget(&mut self) -> Result<(), JournalFileError> {
        if let Some(mut file) = self.file.as_deref() {
            let emptied = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
            emptied.map_err(failed(&self.path, "cannot empty the journal"))?;
        }
        self.journal = Journal::default();
        self.len = 0;
        Ok(())
    }

    /// Writes an event down: it is in the file when this returns. It also outlasts a power cut, unless it is a checkpoint that follows
    /// another one within a second.
    ///
    /// # Errors
    /// [`JournalFileError::Io`], after which nothing more may be written; [`JournalFileError::Impossible`] for an event that cannot follow,
    /// which is not written.
    pub async fn append(&mut self, event: Event) -> Result<(), JournalFileError> {
        if self.lost {
            let source = io::Error::other("an event before this one could not be written");
            return Err(failed(&self.path, "cannot write the journal")(source));
        }
        let at = now();
        self.journal.apply(&event, at)?;
        let Some(file) = self.file.clone() else { return Ok(()) };
        let line = journal::encode(&event, at);
        let lasts = !matches!(event, Event::Checkpoint { .. }) || self.synced.elapsed() >= SYNC_PAUSE;
        let (path, len) = (self.path.clone(), self.len);
        self.len += line.len() as u64;
        let written = Workers::aside(move || {
            let mut file = file.as_ref();
            let written = file.write_all(line.as_bytes()).and_then(|()| if lasts { file.sync_data() } else { Ok(()) });
            written.map_err(|error| {
                // A line that is half written must not stand before others.
                file.set_len(len).and_then(|()| file.seek(SeekFrom::Start(len))).ok();
                failed(&path, "cannot write the journal")(error)
            })
        });
        // Until it is known to be written, it is not: also where nobody waits for the answer any more.
        self.lost = true;
        written.await??;
        self.lost = false;
        if lasts {
            self.synced = Instant::now();
        }
        Ok(())
    }
}

fn read(file: &mut File, path: &Path) -> Result<Journal, JournalFileError> {
    let len = file.metadata().map_err(failed(path, "cannot look at the journal"))?.len();
    if len > JOURNAL_MAX_BYTES {
        let source = io::Error::other(format!("expected at most {JOURNAL_MAX_BYTES} bytes, found {len}"));
        return Err(failed(path, "cannot read the journal")(source));
    }
    let mut bytes = Vec::new();
    file.take(JOURNAL_MAX_BYTES).read_to_end(&mut bytes).map_err(failed(path, "cannot read the journal"))?;
    journal::read(&bytes).map_err(|source| JournalFileError::Content { path: path.display().to_string(), source })
}

fn failed(path: &Path, deed: &'static str) -> impl FnOnce(io::Error) -> JournalFileError {
    let path = path.display().to_string();
    move |source| JournalFileError::Io { path, deed, source }
}

/// Makes a new name in a folder survive a power cut, as far as the file system can.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).ok();
}

/// The time of an event, for people; nothing is decided by it.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).ok().and_then(Timestamp::from_micros).unwrap_or(Timestamp::MAX)
}
