//! What the tests share: an archive, a plan for it, and its steps by import through the library.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kindpack::archive::Archive;
use kindpack::datastore::admin::Importer;
use kindpack::model::{Sha256, Timestamp};
use kindpack::plan::{ArchiveRef, Choices, Environment, Plan, Step, plan};
use kindpack::progress::{Event, Observer};
use kindpack::restore::import::{self, ImportError, ImportResult, Staging, StepImport};
use kindpack::runtime::workers::Workers;
use kindpack::store::{DirStore, Store as _};
use tokio::runtime::Runtime;

use crate::support::TestDir;

/// How long an operation is waited for: longer than any test lasts.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// An archive with a plan that restores all of it.
pub struct ImportFixture {
    pub desk: TestDir,
    pub archive: Arc<Archive>,
    pub plan: Plan,
    /// When the journal was opened.
    pub run: Timestamp,
    runtime: Runtime,
    workers: Workers,
}

/// What was told of the work.
#[derive(Default)]
pub struct Told {
    /// Entities, one number for each time that something was said.
    pub entities: Mutex<Vec<u64>>,
}

impl Observer for Told {
    fn event(&self, _: Event) {}
    fn start_phase(&self, _: &'static str, _: u64) {}
    fn start_entry(&self, _: &str) {}
    fn advance(&self, done: u64, _: u64) {
        if done > 0 {
            self.entities.lock().unwrap().push(done);
        }
    }
    fn finish_phase(&self) {}
}

/// What an earlier run has left.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    pub begun: bool,
    pub operation: Option<String>,
}

impl ImportFixture {
    /// Packs a folder with the program.
    pub fn of_folder(source: &str, target: &str) -> Self {
        let desk = TestDir::new();
        desk.pack(source);
        ImportFixture::of_desk(desk, target)
    }

    /// The `set.zip` of a desk.
    pub fn of_desk(desk: TestDir, target: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let store = Arc::new(DirStore::new(desk.work()));
        let archive = runtime.block_on(async {
            let object = store.stat("set.zip").await.unwrap();
            Arc::new(
                Archive::open(store.clone(), object, "set.zip".to_owned())
                    .await
                    .unwrap(),
            )
        });
        let choices = Choices::new(target.parse().unwrap());
        let archive_ref = ArchiveRef {
            location: "set.zip".to_owned(),
            sha256: Sha256([7; 32]),
            generation: None,
        };
        let plan = plan(
            archive.manifest(),
            &archive_ref,
            &choices,
            &Environment::default(),
        )
        .unwrap();
        let run = Timestamp::from_micros(1_763_805_601_234_567).unwrap();
        ImportFixture {
            desk,
            archive,
            plan,
            run,
            runtime,
            workers: Workers::new(2, 64 << 20),
        }
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The step of that kind, in the default namespace.
    pub fn step(&self, kind: &str) -> &Step {
        self.plan
            .steps
            .iter()
            .find(|step| step.kind.as_str() == kind)
            .unwrap()
    }

    /// The first half: up to an operation.
    pub async fn start(
        &self,
        step: &Step,
        importer: &Arc<dyn Importer>,
        staging: &Staging,
        earlier: Earlier,
        told: &Told,
    ) -> Result<import::RunningImport, ImportError> {
        let Earlier { begun, operation } = earlier;
        let job = StepImport {
            archive: &self.archive,
            step,
            plan: self.plan.sha256(),
            run: self.run,
            begun_before: begun,
            operation,
        };
        import::start(&job, importer, staging, &self.workers, told).await
    }

    /// A step from begin to end.
    pub fn import(
        &self,
        step: &Step,
        importer: &Arc<dyn Importer>,
        staging: &Staging,
    ) -> Result<ImportResult, ImportError> {
        self.import_after(step, importer, staging, Earlier::default())
    }

    pub fn import_after(
        &self,
        step: &Step,
        importer: &Arc<dyn Importer>,
        staging: &Staging,
        earlier: Earlier,
    ) -> Result<ImportResult, ImportError> {
        self.block_on(async {
            let told = Told::default();
            self.start(step, importer, staging, earlier, &told)
                .await?
                .finish(PATIENCE, &told)
                .await
        })
    }
}
