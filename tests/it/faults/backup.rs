//! `backup` under every fault: of the Datastore, of the folder of exports, and of the vault.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kindpack::Store;
use kindpack::backup::{
    BackupRequest, BackupServices, KindSelection, KindSource, OPERATION_TIMEOUT, QueueOptions,
    backup,
};
use kindpack::cli::{ExitCode, Failure};
use kindpack::datastore::admin::{
    ExportError, ExportRequest, Exporter, FoundOperation, OperationProgress, OperationState,
    StartedExport,
};
use kindpack::datastore::error::DatastoreError;
use kindpack::datastore::kinds::KindStatistics;
use kindpack::google::retry::Backoff;
use kindpack::model::{Kind, KindRef, Namespace};
use kindpack::progress::NoProgress;
use kindpack::store::{DirStore, GcsOptions, Location, StoreLayer, StoreRegistry};
use kindpack::verify::{VerifyScope, verify};
use kindpack::{PackRequest, VerifyError};
use tempfile::TempDir;

use super::stage::{ARCHIVE, KINDS, SIDECAR, block_on, sidecar_of, temporary_folder, workers};
use super::{Ended, Scene, every_fault, may_fail_with, pairs_of_faults};
use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::faults::exporter::{FaultExporter, FaultKinds};
use crate::support::faults::store::FaultStore;
use crate::support::faults::{Deed, Faults};
use crate::support::{copy_folder, files_below};

/// The folder that requests name. Its stores are below a folder of the scene: so a copy of a scene
/// goes on with the same backup.
const STAGE: &str = "/stage";

/// A Datastore that exports what it holds as soon as an export is started.
#[derive(Debug, Clone)]
struct Service {
    /// What stands for [`STAGE`].
    root: PathBuf,
    /// The prefixes of what was started, with how often it was polled.
    started: Arc<Mutex<Vec<(String, u32)>>>,
}

impl Service {
    fn export(&self, request: &ExportRequest) {
        let pair = KindRef::new(request.namespace.as_str(), request.kind.as_str());
        let is_of = |(namespace, kind, ..): &&(&str, &str, u64, usize)| {
            pair == KindRef::new(*namespace, *kind)
        };
        let (namespace, kind, count, _) = KINDS.iter().find(is_of).unwrap();
        let records: Vec<Vec<u8>> = made("shop", namespace, kind, *count, 10)
            .iter()
            .map(Made::record)
            .collect();
        let prefix = Path::new(&request.output_prefix);
        let folder = self.root.join(prefix.strip_prefix(STAGE).unwrap());
        write_export(&folder, &pair, STARTED_MICROS, &records, 1);
    }

    /// Where an operation stands: it goes on when it is first polled.
    fn look_at(&self, prefix: &str) -> OperationState {
        let mut started = self.started.lock().unwrap();
        match started.iter_mut().find(|(one, _)| one == prefix) {
            None => OperationState::Unknown,
            Some((_, polls)) => {
                *polls += 1;
                match *polls {
                    1 => OperationState::Running(OperationProgress::default()),
                    _ => OperationState::Succeeded,
                }
            }
        }
    }
}

#[async_trait]
impl Exporter for Service {
    fn supports_snapshot(&self) -> bool {
        false
    }

    fn has_quota(&self) -> bool {
        false
    }

    async fn start(&self, request: &ExportRequest) -> Result<StartedExport, ExportError> {
        self.export(request);
        let prefix = request.output_prefix.clone();
        self.started.lock().unwrap().push((prefix.clone(), 0));
        Ok(StartedExport::Operation(prefix))
    }

    async fn find(
        &self,
        request: &ExportRequest,
    ) -> Result<Option<FoundOperation>, DatastoreError> {
        let name = request.output_prefix.clone();
        let state = self.look_at(&name);
        let is_known = state != OperationState::Unknown;
        Ok(is_known.then_some(FoundOperation { name, state }))
    }

    async fn find_after_start(
        &self,
        request: &ExportRequest,
    ) -> Result<Option<FoundOperation>, DatastoreError> {
        self.find(request).await
    }

    async fn poll(&self, operation: &str) -> Result<OperationState, DatastoreError> {
        Ok(self.look_at(operation))
    }

    fn poll_delays(&self) -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(1))
    }
}

#[async_trait]
impl KindSource for Service {
    async fn namespaces(&self) -> Result<Vec<Namespace>, DatastoreError> {
        Ok(vec![Namespace::new(""), Namespace::new("acme")])
    }

    async fn kinds(&self, namespace: &Namespace) -> Result<Vec<Kind>, DatastoreError> {
        let kinds = KINDS.iter().filter(|(one, ..)| *one == namespace.as_str());
        Ok(kinds.map(|(_, kind, ..)| Kind::new(*kind)).collect())
    }

    async fn statistics(
        &self,
        _: &Namespace,
        _: bool,
    ) -> Result<Vec<KindStatistics>, DatastoreError> {
        Ok(Vec::new())
    }
}

/// Opens the stores of a scene, each behind planned faults.
#[derive(Debug)]
struct Stage {
    root: PathBuf,
    faults: Faults,
}

impl StoreLayer for Stage {
    fn wrap(&self, location: &Location, _: Arc<dyn Store>) -> Arc<dyn Store> {
        let Location::Local(path) = location else {
            panic!("{location} is on no stage");
        };
        let path = path.strip_prefix(STAGE).unwrap();
        let place = match path.starts_with("vault") {
            true => "vault",
            false => "exports",
        };
        let store = Arc::new(DirStore::new(self.root.join(path)));
        FaultStore::wrap(store, place, &self.faults)
    }
}

/// A backup of all kinds, whose exports are deleted at its end.
struct Backup {
    folder: TempDir,
    service: Service,
}

impl Backup {
    fn of(started: &[(String, u32)]) -> Self {
        let folder = temporary_folder();
        let service = Service {
            root: folder.path().to_owned(),
            started: Arc::new(Mutex::new(started.to_vec())),
        };
        Backup { folder, service }
    }

    async fn back_up(&self, faults: &Faults) -> Result<(), Failure> {
        let layer = Stage {
            root: self.folder.path().to_owned(),
            faults: faults.clone(),
        };
        let stores = StoreRegistry::new(GcsOptions::default()).with_layer(Arc::new(layer));
        let exporter = FaultExporter {
            inner: Arc::new(self.service.clone()),
            faults: faults.clone(),
        };
        let kinds = FaultKinds {
            inner: self.service.clone(),
            faults: faults.clone(),
        };
        let (workers, locks) = (workers(), self.folder.path().join("locks"));
        let services = BackupServices {
            identities: None,
            exporter: &exporter,
            kinds: &kinds,
            stores: &stores,
            workers: &workers,
            locks: &locks,
            observer: &NoProgress,
        };
        let completed = backup(services, &request()).await?;
        let result = completed.close().await?;
        match result.archive {
            Some(_) => Ok(()),
            None => Err(Failure::new(ExitCode::Partial, "some exports failed")),
        }
    }

    /// What stands in the vault under the archive's name, and beside it.
    fn vault(&self) -> [Option<Vec<u8>>; 2] {
        let vault = self.folder.path().join("vault");
        [ARCHIVE, SIDECAR].map(|name| std::fs::read(vault.join(name)).ok())
    }

    /// What `verify` finds wrong with the archive, and how many entities it holds.
    async fn verified(&self) -> Result<(Vec<String>, u64), VerifyError> {
        let store: Arc<dyn Store> = Arc::new(DirStore::new(self.folder.path().join("vault")));
        let object = store.stat(ARCHIVE).await.map_err(VerifyError::Store)?;
        let (title, scope, workers) = (ARCHIVE.to_owned(), VerifyScope::Full, workers());
        let report = verify(store, object, title, scope, &workers, &NoProgress).await?;
        Ok((report.problems, report.entities))
    }
}

fn request() -> BackupRequest {
    let location = |name: &str| Location::Local(Path::new(STAGE).join(name));
    BackupRequest {
        source: "emulator:shop@localhost:8081".parse().unwrap(),
        exports: location("exports"),
        archive: location("vault").below(ARCHIVE),
        kinds: KindSelection::default(),
        queue: QueueOptions::default(),
        operation_timeout: OPERATION_TIMEOUT,
        snapshot_time: None,
        allow_missing: Vec::new(),
        delete_exports: true,
        starts_anew: false,
        pack: PackRequest {
            overwrite: true,
            ..PackRequest::default()
        },
    }
}

impl Scene for Backup {
    fn new() -> Self {
        Backup::of(&[])
    }

    fn copy(&self) -> Self {
        let copy = Backup::of(&self.service.started.lock().unwrap());
        copy_folder(self.folder.path(), copy.folder.path());
        copy
    }

    async fn run(&self, faults: &Faults) -> Ended {
        Ended::new(faults.run(self.back_up(faults)).await)
    }

    fn flaws(&self, ended: &Ended) -> Vec<String> {
        let [archive, sidecar] = self.vault();
        let mut flaws = Vec::new();
        let is_missing = *ended == Ended::Done && (archive.is_none() || sidecar.is_none());
        flaws.extend(is_missing.then(|| "archive or sidecar is missing".to_owned()));
        let of_archive = archive
            .as_ref()
            .map(|it| sidecar_of(it, ARCHIVE).into_bytes());
        let is_wrong = sidecar.is_some() && sidecar != of_archive;
        flaws.extend(is_wrong.then(|| "the sidecar belongs to no archive".to_owned()));
        if archive.is_some() {
            let (problems, entities) = block_on(self.verified()).unwrap();
            flaws.extend(problems);
            let is_other = entities != KINDS.iter().map(|(_, _, count, _)| count).sum::<u64>();
            flaws.extend(is_other.then(|| format!("the archive has {entities} entities")));
        }
        flaws
    }

    fn unfinished(&self) -> Vec<String> {
        let files = files_below(self.folder.path()).into_keys();
        let is_ours = |name: &str| {
            name.starts_with("locks/")
                || name.starts_with("vault/set.zip")
                || name.ends_with(".json")
        };
        let strays = files.filter(|name| !is_ours(name));
        strays.map(|name| format!("{name} is left")).collect()
    }

    fn may_fail_with(deed: Deed, code: ExitCode) -> bool {
        // What one export has come to does not stop the others.
        code == ExitCode::Partial || may_fail_with(deed, code)
    }
}

#[test]
fn backup_survives_every_fault() {
    every_fault::<Backup>();
}

#[test]
fn backup_survives_pairs_of_faults() {
    pairs_of_faults::<Backup>(60);
}
