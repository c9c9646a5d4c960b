//! Where a run stands, as a function of its events.
//!
//! What cannot have happened is an error, not a guess.

use std::time::Duration;

use super::{BACKUP_JOURNAL_FORMAT, BackupEvent, BackupKey, ImpossibleEvent};
use crate::backup::request::BackupResult;
use crate::model::{KindRef, Sha256, Timestamp};

/// Where an export stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::backup) enum ExportState {
    /// Not started, or waiting for another attempt.
    #[default]
    Pending,
    /// Started. At the end of a journal this means that the process ended meanwhile.
    Running {
        /// The service's operation, where one is known.
        operation: Option<String>,
    },
    /// Written.
    Done,
    /// Given up.
    Failed {
        /// Why.
        error: String,
        /// What may help.
        advice: Option<String>,
    },
}

impl ExportState {
    fn name(&self) -> &'static str {
        match self {
            ExportState::Pending => "a pending export",
            ExportState::Running { .. } => "a running export",
            ExportState::Done => "a finished export",
            ExportState::Failed { .. } => "a failed export",
        }
    }

    /// The state that an event leads to, or what must hold for it.
    fn after(&self, event: &BackupEvent) -> Result<ExportState, &'static str> {
        let is_running = matches!(self, ExportState::Running { .. });
        match event {
            BackupEvent::ExportStarted { .. } if is_running || *self == ExportState::Done => {
                Err("an export that is neither running nor finished")
            }
            BackupEvent::ExportStarted { .. } => Ok(ExportState::Running { operation: None }),
            _ if !is_running => Err("a running export"),
            BackupEvent::OperationStarted { operation, .. } => Ok(ExportState::Running {
                operation: Some(operation.clone()),
            }),
            BackupEvent::AttemptFailed { .. } => Ok(ExportState::Pending),
            BackupEvent::ExportFinished { .. } => Ok(ExportState::Done),
            BackupEvent::ExportFailed { error, advice, .. } => Ok(ExportState::Failed {
                error: error.clone(),
                advice: advice.clone(),
            }),
            _ => Err("an event of an export"),
        }
    }
}

/// One export and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backup) struct ExportStatus {
    /// What is exported.
    pub pair: KindRef,
    /// Where it stands.
    pub state: ExportState,
    /// How often it was started.
    pub attempts: u32,
    /// Where the last attempt is written.
    pub folder: String,
    /// When the last attempt was started.
    pub started: Option<Timestamp>,
    /// When it was finished.
    pub finished: Option<Timestamp>,
}

impl ExportStatus {
    fn new(pair: KindRef) -> Self {
        ExportStatus {
            pair,
            state: ExportState::Pending,
            attempts: 0,
            folder: String::new(),
            started: None,
            finished: None,
        }
    }

    /// How long its last attempt took.
    pub(in crate::backup) fn duration(&self) -> Duration {
        match (self.started, self.finished) {
            (Some(started), Some(finished)) => finished.since(started),
            _ => Duration::ZERO,
        }
    }

    fn apply(&mut self, event: &BackupEvent, at: Timestamp) -> Result<(), Mismatch> {
        let found = self.state.name();
        let state = self.state.after(event);
        let state = state.map_err(|expected| (expected, found.to_owned()))?;
        match event {
            BackupEvent::ExportStarted {
                attempt, folder, ..
            } => self.start(*attempt, folder, at)?,
            BackupEvent::ExportFinished { .. } => self.finished = Some(at),
            _ => {}
        }
        self.state = state;
        Ok(())
    }

    fn start(&mut self, attempt: u32, folder: &str, at: Timestamp) -> Result<(), Mismatch> {
        if Some(attempt) != self.attempts.checked_add(1) {
            return Err(("the next attempt", format!("attempt {attempt}")));
        }
        (self.attempts, self.started) = (attempt, Some(at));
        folder.clone_into(&mut self.folder);
        Ok(())
    }
}

/// The archive of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::backup) struct RunArchive {
    /// Where it is.
    pub archive: String,
    /// Its SHA-256.
    pub sha256: Sha256,
    /// Its length.
    pub bytes: u64,
}

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::backup) struct RunState {
    /// What is backed up; none where nothing has happened yet.
    pub key: Option<BackupKey>,
    /// When the run started.
    pub started: Option<Timestamp>,
    /// The instant that all exports show.
    pub snapshot_time: Option<Timestamp>,
    /// The exports; none where the kinds are not known yet.
    pub exports: Option<Vec<ExportStatus>>,
    /// The archive, once it is written.
    pub packed: Option<RunArchive>,
    /// Whether the archive was verified, and whether that was in full.
    pub verified: Option<bool>,
    /// Whether the exports are deleted.
    pub are_exports_deleted: bool,
    /// Whether the result has been reported.
    pub is_notified: bool,
    /// What the run has come to.
    pub result: Option<BackupResult>,
}

/// What must hold for an event, and what holds.
type Mismatch = (&'static str, String);

fn mismatch(expected: &'static str, found: &str) -> Mismatch {
    (expected, found.to_owned())
}

impl RunState {
    /// Takes in one event, as it is written. Leaves everything as it is when the event cannot
    /// happen now.
    ///
    /// A process applies each event before it is written, so that an impossible journal never is.
    pub(in crate::backup) fn apply(
        &mut self,
        event: &BackupEvent,
        at: Timestamp,
    ) -> Result<(), ImpossibleEvent> {
        let changed = match event {
            _ if self.result.is_some() => Err(mismatch("nothing more", "an event after the end")),
            BackupEvent::Opened { .. } => self.open(event, at),
            _ if self.key.is_none() => Err(mismatch("the event opened first", "no event")),
            BackupEvent::Resumed { .. } => Ok(()),
            BackupEvent::KindsListed { kinds } => self.list(kinds),
            _ => self.apply_later(event, at),
        };
        changed.map_err(|(expected, found)| ImpossibleEvent {
            event: event.name(),
            expected,
            found,
        })
    }

    /// Applies an event that needs the list of exports.
    fn apply_later(&mut self, event: &BackupEvent, at: Timestamp) -> Result<(), Mismatch> {
        if let Some(export) = event.export() {
            return self.export_mut(export)?.apply(event, at);
        }
        match event {
            BackupEvent::Packed {
                archive,
                sha256,
                bytes,
            } => self.pack(archive, *sha256, *bytes),
            BackupEvent::Verified { is_full } => self.verify(*is_full),
            BackupEvent::ExportsDeleted => self.delete_exports(),
            BackupEvent::Notified => self.notify(),
            BackupEvent::Done { result } => self.end(result),
            _ => Err(mismatch("an event that can follow", "another")),
        }
    }

    fn open(&mut self, event: &BackupEvent, at: Timestamp) -> Result<(), Mismatch> {
        let BackupEvent::Opened {
            format,
            backup,
            snapshot_time,
            ..
        } = event
        else {
            return Err(mismatch("the event opened", "another"));
        };
        if self.key.is_some() {
            return Err(mismatch("one start", "another"));
        }
        if format != BACKUP_JOURNAL_FORMAT {
            return Err(("the format of this version", format!("{format:?}")));
        }
        self.key = Some(backup.clone());
        (self.started, self.snapshot_time) = (Some(at), *snapshot_time);
        Ok(())
    }

    fn list(&mut self, kinds: &[KindRef]) -> Result<(), Mismatch> {
        if self.exports.is_some() {
            return Err(mismatch("one list of kinds", "another"));
        }
        self.exports = Some(kinds.iter().cloned().map(ExportStatus::new).collect());
        Ok(())
    }

    fn export_mut(&mut self, export: u32) -> Result<&mut ExportStatus, Mismatch> {
        if self.are_exports_deleted {
            return Err(mismatch("exports that are kept", "deleted ones"));
        }
        let exports = self.exports.as_mut();
        let exports = exports.ok_or_else(|| mismatch("the kinds first", "none"))?;
        exports
            .get_mut(export as usize)
            .ok_or_else(|| ("an export of the list", format!("export {export}")))
    }

    fn pack(&mut self, archive: &str, sha256: Sha256, bytes: u64) -> Result<(), Mismatch> {
        if self.are_exports_deleted {
            return Err(mismatch("exports that are kept", "deleted ones"));
        }
        if !self.is_every_export_over() {
            return Err(mismatch("every export finished or failed", "an open one"));
        }
        let archive = archive.to_owned();
        (self.packed, self.verified) = (
            Some(RunArchive {
                archive,
                sha256,
                bytes,
            }),
            None,
        );
        Ok(())
    }

    fn verify(&mut self, is_full: bool) -> Result<(), Mismatch> {
        if self.packed.is_none() {
            return Err(mismatch("an archive", "none"));
        }
        self.verified = Some(is_full);
        Ok(())
    }

    fn delete_exports(&mut self) -> Result<(), Mismatch> {
        if self.verified != Some(true) {
            return Err(mismatch("an archive that is verified in full", "none"));
        }
        self.are_exports_deleted = true;
        Ok(())
    }

    fn notify(&mut self) -> Result<(), Mismatch> {
        if self.verified.is_none() {
            return Err(mismatch("an archive that is verified", "none"));
        }
        self.is_notified = true;
        Ok(())
    }

    fn end(&mut self, result: &BackupResult) -> Result<(), Mismatch> {
        if self.verified.is_none() {
            return Err(mismatch("an archive that is verified", "none"));
        }
        self.result = Some(result.clone());
        Ok(())
    }

    /// Whether the kinds are known and each export is finished or given up.
    pub(in crate::backup) fn is_every_export_over(&self) -> bool {
        self.exports.as_ref().is_some_and(|exports| {
            exports.iter().all(|export| {
                matches!(export.state, ExportState::Done | ExportState::Failed { .. })
            })
        })
    }

    /// The exports; none where the kinds are not known yet.
    pub(in crate::backup) fn exports(&self) -> &[ExportStatus] {
        self.exports.as_deref().unwrap_or_default()
    }

    /// The exports that are finished.
    pub(in crate::backup) fn finished(&self) -> impl Iterator<Item = &ExportStatus> {
        self.exports()
            .iter()
            .filter(|export| export.state == ExportState::Done)
    }
}
