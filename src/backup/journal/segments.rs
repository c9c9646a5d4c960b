//! The segments of a journal in a store.
//!
//! A run is `ID.backup.json`, which holds its first event, then `ID.journal/NNNNNN.json` from
//! number 1, and at its end `ID.done.json`. Each object is created, never overwritten. So a listing
//! of one folder shows the runs and which of them are over.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{BackupEvent, BackupJournalError, BackupKey, RunState};
use crate::backup::exports::ExportsFolder;
use crate::backup::request::BackupResult;
use crate::model::Timestamp;
use crate::store::{ObjectInfo, Store, StoreError, read_object, write_object};

const OPENED_SUFFIX: &str = ".backup.json";
const DONE_SUFFIX: &str = ".done.json";
const SEGMENT_SUFFIX: &str = ".json";

/// How long the name of a run is: `YYYYMMDDHHMMSS`.
const ID_LEN: usize = 14;

/// Several runs may start within one second, but not this many.
const MAX_ID_ATTEMPTS: i64 = 100;

/// A longer segment is not one of a journal: the longest names a million kinds.
const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// A segment as it is written.
#[derive(Serialize, Deserialize)]
struct Segment<E> {
    at: Timestamp,
    #[serde(flatten)]
    event: E,
}

/// A run that stands in a listing.
#[derive(Debug, Clone)]
pub(in crate::backup) struct RunName {
    /// Its id.
    pub id: String,
    /// Its first event.
    opened: ObjectInfo,
    /// Its last event, where the run is over.
    done: Option<ObjectInfo>,
}

impl RunName {
    /// Whether the run is over.
    pub(in crate::backup) fn is_done(&self) -> bool {
        self.done.is_some()
    }

    /// What the run backs up, and when it started.
    pub(in crate::backup) async fn read_key(
        &self,
        exports: &ExportsFolder,
    ) -> Result<Option<(BackupKey, Timestamp)>, BackupJournalError> {
        let mut state = RunState::default();
        replay(&mut state, exports.root().as_ref(), &self.opened).await?;
        Ok(state.key.zip(state.started))
    }

    /// What the run has come to, where it is over.
    pub(in crate::backup) async fn read_result(
        &self,
        exports: &ExportsFolder,
    ) -> Result<Option<BackupResult>, BackupJournalError> {
        let Some(done) = &self.done else {
            return Ok(None);
        };
        let store = exports.root();
        match read_segment(store.as_ref(), done).await? {
            (_, BackupEvent::Done { result }) => Ok(Some(result)),
            (_, event) => Err(malformed(store.as_ref(), done, event.name())),
        }
    }
}

/// The runs below a folder of exports, the newest first.
pub(in crate::backup) async fn find_runs(
    exports: &ExportsFolder,
) -> Result<Vec<RunName>, BackupJournalError> {
    let listed = match exports.root().list_folder().await {
        Err(StoreError::NotFound { .. }) => Vec::new(),
        listed => listed?,
    };
    let find = |name: String| listed.iter().find(|object| object.name == name).cloned();
    let mut runs: Vec<RunName> = listed
        .iter()
        .filter_map(|object| {
            let id = object.name.strip_suffix(OPENED_SUFFIX)?;
            is_id(id).then(|| RunName {
                id: id.to_owned(),
                opened: object.clone(),
                done: find(format!("{id}{DONE_SUFFIX}")),
            })
        })
        .collect();
    runs.sort_by(|a, b| b.id.cmp(&a.id));
    Ok(runs)
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LEN && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The journal of a run that this process carries out.
#[derive(Debug)]
pub(in crate::backup) struct BackupJournal {
    exports: ExportsFolder,
    id: String,
    /// The number of the next segment.
    next: u32,
    state: RunState,
    /// Whether an event could not be written: what follows it has no meaning without it.
    is_lost: bool,
}

impl BackupJournal {
    /// Starts a run. Its id is the time at which it starts, or the next second that is free.
    pub(in crate::backup) async fn create(
        exports: ExportsFolder,
        opened: BackupEvent,
    ) -> Result<Self, BackupJournalError> {
        let at = now();
        let mut state = RunState::default();
        state.apply(&opened, at)?;
        let bytes = encode(&opened, at);
        let id = claim_id(exports.root().as_ref(), at, &bytes).await?;
        Ok(BackupJournal {
            exports,
            id,
            next: 1,
            state,
            is_lost: false,
        })
    }

    /// Reads the journal of a run in order to go on with it.
    pub(in crate::backup) async fn open(
        exports: ExportsFolder,
        run: &RunName,
    ) -> Result<Self, BackupJournalError> {
        let mut state = RunState::default();
        replay(&mut state, exports.root().as_ref(), &run.opened).await?;
        let store = exports.journal(&run.id);
        let segments = numbered_segments(store.as_ref()).await?;
        for (expected, (number, object)) in (1..).zip(&segments) {
            if *number != expected {
                return Err(BackupJournalError::Gap(
                    store.display_name(&segment_name(expected)),
                ));
            }
            replay(&mut state, store.as_ref(), object).await?;
        }
        Ok(BackupJournal {
            exports,
            id: run.id.clone(),
            next: u32::try_from(segments.len())
                .unwrap_or(u32::MAX)
                .saturating_add(1),
            state,
            is_lost: false,
        })
    }

    /// The id of the run.
    pub(in crate::backup) fn id(&self) -> &str {
        &self.id
    }

    /// Where the run stands.
    pub(in crate::backup) fn state(&self) -> &RunState {
        &self.state
    }

    /// Writes an event: it is in the store when this returns.
    ///
    /// # Errors
    /// [`BackupJournalError::Busy`] where another process has written the segment; after an error
    /// nothing more is written.
    pub(in crate::backup) async fn append(
        &mut self,
        event: BackupEvent,
    ) -> Result<(), BackupJournalError> {
        if self.is_lost {
            return Err(BackupJournalError::Busy(self.id.clone()));
        }
        let at = now();
        self.state.apply(&event, at)?;
        // Until the event is known to be written, it is lost: also where nobody waits for it.
        self.is_lost = true;
        self.write(&event, encode(&event, at)).await?;
        self.is_lost = false;
        Ok(())
    }

    async fn write(&mut self, event: &BackupEvent, bytes: Bytes) -> Result<(), BackupJournalError> {
        let (store, name) = match event {
            BackupEvent::Done { .. } => (self.exports.root(), format!("{}{DONE_SUFFIX}", self.id)),
            _ => (self.exports.journal(&self.id), segment_name(self.next)),
        };
        match write_object(store.as_ref(), &name, bytes, false).await {
            Err(StoreError::AlreadyExists { .. } | StoreError::Busy { .. }) => {
                Err(BackupJournalError::Busy(self.id.clone()))
            }
            Err(error) => Err(error.into()),
            Ok(()) => {
                self.next = self.next.saturating_add(1);
                Ok(())
            }
        }
    }
}

/// Writes the first event under the first free id.
async fn claim_id(
    store: &dyn Store,
    at: Timestamp,
    bytes: &Bytes,
) -> Result<String, BackupJournalError> {
    let mut taken = String::new();
    for seconds in 0..MAX_ID_ATTEMPTS {
        let time = Timestamp::from_micros(at.micros().saturating_add(seconds * 1_000_000));
        let id = time.unwrap_or(at).to_archive_id();
        let name = format!("{id}{OPENED_SUFFIX}");
        match write_object(store, &name, bytes.clone(), false).await {
            Err(StoreError::AlreadyExists { .. } | StoreError::Busy { .. }) => taken = id,
            written => return written.map(|()| id).map_err(Into::into),
        }
    }
    Err(BackupJournalError::Busy(taken))
}

fn segment_name(number: u32) -> String {
    format!("{number:06}{SEGMENT_SUFFIX}")
}

/// The segments of a journal with their numbers, in order. Other objects are passed over.
async fn numbered_segments(
    store: &dyn Store,
) -> Result<Vec<(u32, ObjectInfo)>, BackupJournalError> {
    let listed = match store.list_folder().await {
        Err(StoreError::NotFound { .. }) => Vec::new(),
        listed => listed?,
    };
    let mut segments: Vec<(u32, ObjectInfo)> = listed
        .into_iter()
        .filter_map(|object| {
            let number = object.name.strip_suffix(SEGMENT_SUFFIX)?.parse().ok()?;
            Some((number, object))
        })
        .collect();
    segments.sort_by_key(|(number, _)| *number);
    Ok(segments)
}

/// Reads a segment and applies its event.
async fn replay(
    state: &mut RunState,
    store: &dyn Store,
    object: &ObjectInfo,
) -> Result<(), BackupJournalError> {
    let (at, event) = read_segment(store, object).await?;
    state
        .apply(&event, at)
        .map_err(|source| BackupJournalError::Contradiction {
            segment: store.display_name(&object.name),
            source,
        })
}

async fn read_segment(
    store: &dyn Store,
    object: &ObjectInfo,
) -> Result<(Timestamp, BackupEvent), BackupJournalError> {
    if object.len > MAX_SEGMENT_BYTES {
        return Err(malformed(store, object, "it is too long"));
    }
    let bytes = read_object(store, object).await?;
    parse(&bytes).map_err(|error| malformed(store, object, &error.to_string()))
}

fn parse(bytes: &[u8]) -> Result<(Timestamp, BackupEvent), serde_json::Error> {
    let segment: Segment<BackupEvent> = serde_json::from_slice(bytes)?;
    Ok((segment.at, segment.event))
}

/// Replays segments up to the first that is none or cannot have happened: for `fuzzing`.
#[cfg(feature = "test-util")]
pub(crate) fn replay_segments<'a>(segments: impl Iterator<Item = &'a [u8]>) {
    let mut state = RunState::default();
    for segment in segments {
        let Ok((at, event)) = parse(segment) else {
            return;
        };
        if state.apply(&event, at).is_err() {
            return;
        }
    }
}

fn malformed(store: &dyn Store, object: &ObjectInfo, reason: &str) -> BackupJournalError {
    BackupJournalError::Malformed {
        segment: store.display_name(&object.name),
        reason: reason.to_owned(),
    }
}

fn encode(event: &BackupEvent, at: Timestamp) -> Bytes {
    let segment = Segment { at, event };
    serde_json::to_vec(&segment)
        .expect("an event has no map whose keys are not texts")
        .into()
}

/// The time of an event.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros())
        .ok()
        .and_then(Timestamp::from_micros)
        .unwrap_or(Timestamp::MAX)
}
