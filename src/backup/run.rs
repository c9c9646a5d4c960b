//! One run: from the list of kinds to an archive that is verified.
//!
//! Each step is recorded when it is done, so that the same command goes on where a process ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::error::BackupError;
use super::export::ExportRun;
use super::exports::{ExportsFolder, FinishedExports};
use super::journal::{
    BACKUP_JOURNAL_FORMAT, BackupEvent, BackupJournal, BackupJournalError, BackupKey, ExportState,
    ExportStatus, RunName, RunState, find_runs, now,
};
use super::kinds::{KindSource, list_kinds};
use super::lock::RunLock;
use super::queue::{SERVICE_WINDOW, ServiceLimits, StartQueue};
use super::request::{
    BackupRequest, BackupResult, BackupSource, ExportedKind, FailedKind, SnapshotTime,
};
use crate::archive::{Archive, ArchiveError, digest_of};
use crate::datastore::admin::Exporter;
use crate::encryption::{ENCRYPTED_SUFFIX, Identities};
use crate::model::{KindInfo, KindRef, MissingKind, Timestamp};
use crate::pack::{ArchiveName, PackError, PackRequest, SelectionOptions, pack};
use crate::progress::{Event, Observer};
use crate::runtime::workers::Workers;
use crate::store::{
    Location, ObjectInfo, Store, StoreError, StoreRegistry, UploadOptions, open_object,
};
use crate::verify::{VerifyError, VerifyScope, verify};

/// Runs that are looked through for the one before this.
const MAX_PREVIOUS_RUNS: usize = 100;

/// How journals name the program.
const TOOL: &str = concat!("kindpack ", env!("CARGO_PKG_VERSION"));

/// What a backup works with.
#[derive(Clone, Copy)]
pub struct BackupServices<'a> {
    /// Who exports.
    pub exporter: &'a dyn Exporter,
    /// Who lists the kinds.
    pub kinds: &'a dyn KindSource,
    /// Folders and buckets.
    pub stores: &'a StoreRegistry,
    /// Where the archive is made.
    pub workers: &'a Workers,
    /// Open the archive if it is encrypted.
    pub identities: Option<&'a Identities>,
    /// The folder of this user's locks.
    pub locks: &'a Path,
    /// Receives progress and events.
    pub observer: &'a dyn Observer,
}

/// A run whose work is done. It is over for good once it is closed.
#[derive(Debug)]
pub struct CompletedBackup {
    result: BackupResult,
    previous: Option<BackupResult>,
    journal: BackupJournal,
    _lock: RunLock,
}

impl CompletedBackup {
    /// What the run has come to.
    pub fn result(&self) -> &BackupResult {
        &self.result
    }

    /// What the run before it has come to.
    pub fn previous(&self) -> Option<&BackupResult> {
        self.previous.as_ref()
    }

    /// Whether an earlier process has reported the result to people.
    pub fn is_notified(&self) -> bool {
        self.journal.state().is_notified
    }

    /// Records that the result has been reported to people. Without an archive it is reported by
    /// each process.
    ///
    /// # Errors
    /// [`BackupError::Journal`].
    pub async fn record_notified(&mut self) -> Result<(), BackupError> {
        if self.result.archive.is_some() {
            self.journal.append(BackupEvent::Notified).await?;
        }
        Ok(())
    }

    /// Ends the run. One without an archive stays open, so that the same command tries again what
    /// has failed.
    ///
    /// # Errors
    /// [`BackupError::Journal`].
    pub async fn close(mut self) -> Result<BackupResult, BackupError> {
        if self.result.archive.is_some() {
            let result = self.result.clone();
            self.journal.append(BackupEvent::Done { result }).await?;
        }
        Ok(self.result)
    }
}

/// Backs up every chosen kind, or goes on with a backup that was interrupted.
///
/// A kind whose export fails does not stop the others: the result names it, and has no archive
/// unless the request allows the kind to be missing.
///
/// # Errors
/// [`BackupError`]. The same request goes on later.
pub async fn backup(
    services: BackupServices<'_>,
    request: &BackupRequest,
) -> Result<CompletedBackup, BackupError> {
    let run = Run::open(services, request).await?;
    if run.state().await.packed.is_none() {
        run.export_kinds().await?;
        if !run.can_be_packed().await {
            return run.complete(None).await;
        }
        run.pack().await?;
    }
    run.verify().await?;
    let kinds = run.packed_kinds().await?;
    run.delete_exports().await?;
    run.complete(Some(kinds)).await
}

/// What an archive holds; nothing where it is encrypted and cannot be opened here.
struct PackedKinds(Option<Vec<KindInfo>>);

/// A run that this process carries out.
struct Run<'a> {
    services: BackupServices<'a>,
    request: &'a BackupRequest,
    exports: ExportsFolder,
    journal: Mutex<BackupJournal>,
    lock: RunLock,
    previous: Option<BackupResult>,
    id: String,
}

impl<'a> Run<'a> {
    async fn open(
        services: BackupServices<'a>,
        request: &'a BackupRequest,
    ) -> Result<Self, BackupError> {
        let exports = exports_folder(services, request)?;
        check_snapshot(services.exporter, request)?;
        let runs = find_runs(&exports).await?;
        let key = key_of(request)?;
        let unfinished = find_unfinished(&exports, &runs, &key, request).await?;
        let (journal, lock) = match unfinished {
            Some(run) => resume(services, &exports, run).await?,
            None => {
                check_archive_name(services.stores, request).await?;
                start(services, &exports, key.clone(), request).await?
            }
        };
        let id = journal.id().to_owned();
        let previous = find_previous(&exports, &runs, &key).await?;
        let run = Run {
            services,
            request,
            exports,
            journal: Mutex::new(journal),
            lock,
            previous,
            id,
        };
        run.list_kinds().await?;
        Ok(run)
    }

    async fn state(&self) -> RunState {
        self.journal.lock().await.state().clone()
    }

    async fn record(&self, event: BackupEvent) -> Result<(), BackupError> {
        Ok(self.journal.lock().await.append(event).await?)
    }

    /// Sees to the list of kinds, and reports how far the run is.
    async fn list_kinds(&self) -> Result<(), BackupError> {
        if self.state().await.exports.is_none() {
            let kinds = listed(self.services, self.request).await?;
            self.record(BackupEvent::KindsListed { kinds }).await?;
        }
        let state = self.state().await;
        self.services.observer.event(Event::BackupStarted {
            backup: self.id.clone(),
            kinds: state.exports().len() as u64,
            finished: state.finished().count() as u64,
            snapshot_time: state.snapshot_time,
        });
        Ok(())
    }

    async fn export_kinds(&self) -> Result<(), BackupError> {
        let exporter = self.services.exporter;
        let limits = match exporter.has_quota() {
            true => ServiceLimits::Hold,
            false => ServiceLimits::None,
        };
        let queue = StartQueue::new(&self.request.queue, limits);
        let state = self.state().await;
        count_earlier_starts(&queue, state.exports());
        let run = ExportRun {
            exporter,
            exports: &self.exports,
            queue: &queue,
            options: &self.request.queue,
            operation_timeout: self.request.operation_timeout,
            journal: &self.journal,
            id: self.id.clone(),
            snapshot_time: state.snapshot_time,
        };
        run.run(self.services.observer).await
    }

    /// Whether there is something to pack, and everything that failed may be missing.
    async fn can_be_packed(&self) -> bool {
        let state = self.state().await;
        let allowed = &self.request.allow_missing;
        let is_allowed = |pair: &KindRef| allowed.iter().any(|one| one.matches(pair));
        state.finished().next().is_some()
            && failed(&state).all(|(export, ..)| is_allowed(&export.pair))
    }

    async fn pack(&self) -> Result<(), BackupError> {
        let state = self.state().await;
        let folders: BTreeSet<String> = state.finished().map(|one| one.folder.clone()).collect();
        let source = FinishedExports::new(self.exports.run(&self.id), folders);
        let source: Arc<dyn Store> = Arc::new(source);
        let archive = absolute(&self.request.archive)?;
        let (folder, dest, name) = destination(self.services.stores, &archive)?;
        let packed = pack(
            &source,
            &dest,
            name,
            &pack_request(self.request, &state),
            self.services.workers,
            self.services.observer,
        )
        .await
        .map_err(|error| name_taken(error, &self.request.archive))?;
        let sealed = packed.sealed.ok_or(BackupError::Location {
            location: folder.to_string(),
            reason: "kindpack wrote no archive",
        })?;
        self.record(BackupEvent::Packed {
            archive: folder.below(&packed.name).to_string(),
            sha256: sealed.sha256,
            bytes: sealed.bytes,
        })
        .await
    }

    /// Verifies the archive: in full before its exports are deleted.
    async fn verify(&self) -> Result<(), BackupError> {
        let is_full = self.request.delete_exports;
        let (store, object, archive) = self.find_archive().await?;
        let opened = open_object(store.clone(), object.clone(), self.services.identities).await;
        let (store, object) = match opened {
            // Exports are deleted only for an archive that was read.
            Err(error) if error.needs_identity() && !is_full => {
                self.check_digest(store.as_ref(), &object, &archive).await?;
                return self.record(BackupEvent::Verified { is_full }).await;
            }
            opened => opened.map_err(VerifyError::Store)?,
        };
        let scope = match is_full {
            true => VerifyScope::Full,
            false => VerifyScope::Quick,
        };
        let BackupServices {
            workers, observer, ..
        } = self.services;
        let report = verify(store, object, archive.clone(), scope, workers, observer).await?;
        if !report.problems.is_empty() {
            return Err(BackupError::Damaged {
                archive,
                problems: report.problems,
            });
        }
        self.record(BackupEvent::Verified { is_full }).await
    }

    /// Compares the bytes of an encrypted archive that cannot be opened here with what was packed.
    async fn check_digest(
        &self,
        store: &dyn Store,
        object: &ObjectInfo,
        archive: &str,
    ) -> Result<(), BackupError> {
        let expected = self.state().await.packed.map(|packed| packed.sha256);
        let found = digest_of(store, object).await.map_err(VerifyError::Store)?;
        if expected == Some(found) {
            return Ok(());
        }
        Err(BackupError::Damaged {
            archive: archive.to_owned(),
            problems: vec![format!("{archive}: other bytes than were packed")],
        })
    }

    /// The archive of the run: its store, its object and what to call it.
    async fn find_archive(&self) -> Result<(Arc<dyn Store>, ObjectInfo, String), BackupError> {
        let archive = self.state().await.packed.map(|packed| packed.archive);
        let archive = archive.unwrap_or_default();
        let location: Result<Location, _> = archive.parse();
        let found = location
            .ok()
            .and_then(|it| self.services.stores.object(&it));
        let (store, name) = found.ok_or_else(|| BackupError::Location {
            location: archive.clone(),
            reason: "the location names no archive",
        })?;
        let object = store.stat(&name).await.map_err(VerifyError::Store)?;
        Ok((store, object, archive))
    }

    /// What the archive holds, as far as it can be opened here.
    async fn packed_kinds(&self) -> Result<PackedKinds, BackupError> {
        let (store, object, title) = self.find_archive().await?;
        let opened = open_object(store, object, self.services.identities).await;
        let (store, object) = match opened {
            Err(error) if error.needs_identity() => return Ok(PackedKinds(None)),
            opened => opened.map_err(VerifyError::Store)?,
        };
        match Archive::open(store, object, title.clone()).await {
            Ok(archive) => Ok(PackedKinds(Some(archive.manifest().kinds.clone()))),
            Err(ArchiveError::Store(error)) => Err(VerifyError::Store(error).into()),
            Err(error) => Err(BackupError::Damaged {
                archive: title,
                problems: vec![error.to_string()],
            }),
        }
    }

    async fn delete_exports(&self) -> Result<(), BackupError> {
        let state = self.state().await;
        if !self.request.delete_exports || state.are_exports_deleted {
            return Ok(());
        }
        let deleted = self.exports.delete_run(&self.id).await;
        deleted.map_err(BackupError::Exports)?;
        self.record(BackupEvent::ExportsDeleted).await
    }

    async fn complete(self, packed: Option<PackedKinds>) -> Result<CompletedBackup, BackupError> {
        let journal = self.journal.into_inner();
        let mut result = result_of(&self.id, journal.state(), packed.as_ref());
        result.archive = result
            .archive
            .map(|it| as_typed(&self.request.archive, &it));
        Ok(CompletedBackup {
            result,
            previous: self.previous,
            journal,
            _lock: self.lock,
        })
    }
}

async fn start(
    services: BackupServices<'_>,
    exports: &ExportsFolder,
    key: BackupKey,
    request: &BackupRequest,
) -> Result<(BackupJournal, RunLock), BackupError> {
    // Nothing is written where nothing is to be exported.
    let kinds = listed(services, request).await?;
    let opened = BackupEvent::Opened {
        format: BACKUP_JOURNAL_FORMAT.to_owned(),
        backup: key,
        snapshot_time: request.snapshot_time.map(|time| time.instant(now())),
        tool: TOOL.to_owned(),
        process: std::process::id(),
    };
    let mut journal = BackupJournal::create(exports.clone(), opened).await?;
    let lock = RunLock::acquire(services.locks, &exports.name(), journal.id())?;
    journal.append(BackupEvent::KindsListed { kinds }).await?;
    Ok((journal, lock))
}

async fn resume(
    services: BackupServices<'_>,
    exports: &ExportsFolder,
    run: &RunName,
) -> Result<(BackupJournal, RunLock), BackupError> {
    let lock = RunLock::acquire(services.locks, &exports.name(), &run.id)?;
    let mut journal = BackupJournal::open(exports.clone(), run).await?;
    let (tool, process) = (TOOL.to_owned(), std::process::id());
    let resumed = BackupEvent::Resumed { tool, process };
    journal.append(resumed).await?;
    Ok((journal, lock))
}

/// The kinds that a request chooses.
async fn listed(
    services: BackupServices<'_>,
    request: &BackupRequest,
) -> Result<Vec<KindRef>, BackupError> {
    let name = request.source.to_string();
    list_kinds(services.kinds, &request.kinds, &name, services.observer).await
}

/// The last run of a backup, where it is not over and the spread of its exports would still be
/// allowed.
async fn find_unfinished<'r>(
    exports: &ExportsFolder,
    runs: &'r [RunName],
    key: &BackupKey,
    request: &BackupRequest,
) -> Result<Option<&'r RunName>, BackupError> {
    if request.starts_anew {
        return Ok(None);
    }
    let oldest = before(now(), request.pack.wanted.max_spread).to_archive_id();
    for run in runs.iter().take_while(|run| run.id >= oldest) {
        match run.read_key(exports).await? {
            Some((of, _)) if of == *key => return Ok(Some(run).filter(|run| !run.is_done())),
            _ => {}
        }
    }
    Ok(None)
}

/// What the last run of a backup that is over has come to.
async fn find_previous(
    exports: &ExportsFolder,
    runs: &[RunName],
    key: &BackupKey,
) -> Result<Option<BackupResult>, BackupError> {
    let done = runs.iter().filter(|run| run.is_done());
    for run in done.take(MAX_PREVIOUS_RUNS) {
        match run.read_key(exports).await {
            Ok(Some((of, _))) if of == *key => return Ok(run.read_result(exports).await?),
            // A journal that nobody can read is not the one that is looked for.
            Ok(_) | Err(BackupJournalError::Malformed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn before(time: Timestamp, duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(time.micros().saturating_sub(micros)).unwrap_or(Timestamp::MIN)
}

fn key_of(request: &BackupRequest) -> Result<BackupKey, BackupError> {
    let kinds = &request.kinds;
    let texts =
        |selectors: &[crate::model::Selector]| selectors.iter().map(ToString::to_string).collect();
    Ok(BackupKey {
        source: request.source.to_string(),
        archive: absolute(&request.archive)?.to_string(),
        namespaces: kinds.namespaces.iter().map(ToString::to_string).collect(),
        only: texts(&kinds.only),
        exclude: texts(&kinds.exclude),
        snapshot_time: request.snapshot_time.as_ref().map(SnapshotTime::to_string),
    })
}

/// Checks that the Datastore can write exports where they are to go.
///
/// # Errors
/// [`BackupError::Location`].
pub fn check_exports_location(request: &BackupRequest) -> Result<(), BackupError> {
    let reason = match (&request.source, &request.exports) {
        (BackupSource::Datastore { .. }, Location::Local(_)) => {
            "the service exports to gs://BUCKET/NAME only"
        }
        (BackupSource::Emulator { .. }, Location::Bucket { .. }) => {
            "an emulator exports to a folder of its own machine only"
        }
        (BackupSource::Datastore { .. }, Location::Bucket { .. })
        | (BackupSource::Emulator { .. }, Location::Local(_)) => return Ok(()),
    };
    Err(BackupError::Location {
        location: request.exports.to_string(),
        reason,
    })
}

/// The folder of the exports, where the Datastore can write to it.
fn exports_folder(
    services: BackupServices<'_>,
    request: &BackupRequest,
) -> Result<ExportsFolder, BackupError> {
    check_exports_location(request)?;
    Ok(ExportsFolder::new(
        // The journal is written as the bucket has it: class and key are for the archive.
        services.stores.with_upload(UploadOptions::default()),
        absolute(&request.exports)?,
    ))
}

/// A location that means the same in another folder and in a request.
fn absolute(location: &Location) -> Result<Location, BackupError> {
    let Location::Local(path) = location else {
        return Ok(location.clone());
    };
    let refused = |reason| BackupError::Location {
        location: location.to_string(),
        reason,
    };
    if path.to_str().is_none() {
        return Err(refused("the path is not UTF-8"));
    }
    let absolute = std::path::absolute(path);
    Ok(Location::Local(
        absolute.map_err(|_| refused("the path is empty"))?,
    ))
}

fn check_snapshot(exporter: &dyn Exporter, request: &BackupRequest) -> Result<(), BackupError> {
    if request.snapshot_time.is_some() && !exporter.supports_snapshot() {
        return Err(BackupError::NoSnapshots(request.source.to_string()));
    }
    Ok(())
}

/// Where the archive is made: the folder as a location and as a store, and the name there.
fn destination(
    stores: &StoreRegistry,
    archive: &Location,
) -> Result<(Location, Arc<dyn Store>, ArchiveName), BackupError> {
    if archive.is_folder_name() {
        let store = stores.folder(archive);
        return Ok((archive.clone(), store, ArchiveName::Automatic));
    }
    let found = stores.object(archive);
    let (store, name) = found.ok_or_else(|| BackupError::Location {
        location: archive.to_string(),
        reason: "the location names no archive",
    })?;
    Ok((archive.folder(), store, ArchiveName::Explicit(name)))
}

/// Refuses a new backup of which the archive has a name that is taken.
///
/// # Errors
/// [`BackupError::Pack`] where something has that name or it cannot be looked at,
/// [`BackupError::Location`] where there is no name.
pub async fn check_archive_name(
    stores: &StoreRegistry,
    request: &BackupRequest,
) -> Result<(), BackupError> {
    let (_, dest, name) = destination(stores, &request.archive)?;
    let ArchiveName::Explicit(name) = name else {
        return Ok(());
    };
    if request.pack.overwrite {
        return Ok(());
    }
    let name = request.pack.object_name(&name);
    match dest.stat(&name).await {
        Ok(_) => Err(name_taken(PackError::AlreadyExists(name), &request.archive)),
        // Who may only write learns of it when the archive is written.
        Err(StoreError::NotFound { .. } | StoreError::Denied { .. }) => Ok(()),
        Err(error) => Err(PackError::Dest(error).into()),
    }
}

/// An archive as people spell it.
fn as_typed(typed: &Location, archive: &str) -> String {
    let typed_name = typed.to_string();
    match archive.rsplit_once('/') {
        Some((_, name)) if typed.is_folder_name() => typed.below(name).to_string(),
        Some((_, name))
            if name
                .strip_suffix(ENCRYPTED_SUFFIX)
                .is_some_and(|name| typed_name.ends_with(name)) =>
        {
            typed_name + ENCRYPTED_SUFFIX
        }
        _ => typed_name,
    }
}

/// People know a path, the store only a name.
fn name_taken(error: PackError, typed: &Location) -> BackupError {
    match error {
        PackError::AlreadyExists(name) => {
            PackError::AlreadyExists(as_typed(typed, &format!("/{name}"))).into()
        }
        error => error.into(),
    }
}

/// How the exports of a run are packed: all of them, and what failed is recorded as missing.
fn pack_request(request: &BackupRequest, state: &RunState) -> PackRequest {
    let missing = failed(state).map(|(export, error, _)| MissingKind {
        namespace: export.pair.namespace.clone(),
        kind: export.pair.kind.clone(),
        reason: error.to_owned(),
    });
    PackRequest {
        missing: missing.collect(),
        snapshot_time: state.snapshot_time,
        wanted: SelectionOptions {
            max_spread: request.pack.wanted.max_spread,
            ..SelectionOptions::default()
        },
        wait: Duration::ZERO,
        dry_run: false,
        ..request.pack.clone()
    }
}

/// The exports that have failed, why, and what may help.
fn failed(state: &RunState) -> impl Iterator<Item = (&ExportStatus, &str, Option<&str>)> {
    state
        .exports()
        .iter()
        .filter_map(|export| match &export.state {
            ExportState::Failed { error, advice } => {
                Some((export, error.as_str(), advice.as_deref()))
            }
            _ => None,
        })
}

/// The service counts what an earlier process started.
fn count_earlier_starts(queue: &StartQueue, exports: &[ExportStatus]) {
    let now = now();
    let starts = exports.iter().filter_map(|export| export.started);
    let mut ages: Vec<Duration> = starts
        .map(|start| now.since(start))
        .filter(|age| *age < SERVICE_WINDOW)
        .collect();
    ages.sort_by(|a, b| b.cmp(a));
    ages.into_iter()
        .for_each(|age| queue.count_earlier_start(age));
}

/// What a run has come to. `packed` is what its archive holds, where there is one.
fn result_of(id: &str, state: &RunState, packed: Option<&PackedKinds>) -> BackupResult {
    let counts: Option<BTreeMap<KindRef, &KindInfo>> = packed
        .and_then(|packed| packed.0.as_ref())
        .map(|kinds| kinds.iter().map(|kind| (kind.pair(), kind)).collect());
    let archive = state.packed.as_ref().filter(|_| packed.is_some());
    let failures: Vec<FailedKind> = failed(state)
        .map(|(export, error, advice)| failed_kind(export, error, advice))
        .collect();
    let missing = match archive {
        Some(_) => failed(state)
            .map(|(export, ..)| export.pair.clone())
            .collect(),
        None => Vec::new(),
    };
    BackupResult {
        id: id.to_owned(),
        archive: archive.map(|archive| archive.archive.clone()),
        sha256: archive.map(|archive| archive.sha256),
        bytes: archive.map(|archive| archive.bytes),
        kinds: state
            .finished()
            .map(|export| exported_kind(export, counts.as_ref()))
            .collect(),
        failed: failures,
        missing,
        started: state.started.unwrap_or_else(now),
        finished: now(),
        snapshot_time: state.snapshot_time,
    }
}

fn exported_kind(
    export: &ExportStatus,
    counts: Option<&BTreeMap<KindRef, &KindInfo>>,
) -> ExportedKind {
    // A kind that lost its last entity since it was listed is not in the archive.
    let count = |of: fn(&KindInfo) -> u64| {
        counts.map(|counts| counts.get(&export.pair).map_or(0, |kind| of(kind)))
    };
    ExportedKind {
        namespace: export.pair.namespace.clone(),
        kind: export.pair.kind.clone(),
        entities: count(|kind| kind.entities),
        bytes: count(|kind| kind.bytes),
        seconds: export.duration().as_secs(),
        attempts: export.attempts,
    }
}

fn failed_kind(export: &ExportStatus, error: &str, advice: Option<&str>) -> FailedKind {
    FailedKind {
        namespace: export.pair.namespace.clone(),
        kind: export.pair.kind.clone(),
        error: error.to_owned(),
        advice: advice.map(ToOwned::to_owned),
        attempts: export.attempts,
    }
}
