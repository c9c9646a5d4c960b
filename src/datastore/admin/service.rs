//! Imports into the real service: long-running operations, known again by their labels or by the
//! folder that they read.
//!
//! Knows the quotas (`docs/formats.md` 10). Must not know how an export came into its bucket.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::api::AdminApi;
use super::client::{AdminAttemptError, Outcome};
use super::operation::Operation;
use super::operations::Operations;
use super::options::ServiceOptions;
use super::{ExportStorage, ImportRequest, Importer, OperationState, StartedImport};
use crate::datastore::error::DatastoreError;
use crate::google::Credentials;
use crate::google::rate_limit::RateLimit;
use crate::google::retry::Backoff;

/// The importer of one database of the real service.
#[derive(Debug)]
pub struct ServiceImporter {
    operations: Operations,
    at_once: Arc<Semaphore>,
    pace: Mutex<RateLimit>,
}

impl ServiceImporter {
    /// The default database by Datastore Admin at `endpoint`, such as
    /// `https://datastore.googleapis.com`; a named one by Firestore Admin at `endpoint`, such as
    /// `https://firestore.googleapis.com`. Without credentials, calls are made by nobody: for test
    /// servers.
    ///
    /// # Errors
    /// [`DatastoreError::Unauthorized`] where a token would go over the net as it is, and when no
    /// HTTP client can be made.
    pub fn new(
        project: &str,
        database: Option<&str>,
        endpoint: &str,
        credentials: Option<Arc<Credentials>>,
        options: ServiceOptions,
    ) -> Result<Self, DatastoreError> {
        let api = match database {
            None => AdminApi::datastore(project),
            Some(_) => AdminApi::firestore(project, database),
        };
        Ok(ServiceImporter {
            at_once: Arc::new(Semaphore::new(options.at_once.max(1))),
            pace: Mutex::new(RateLimit::new(options.starts, options.within)),
            operations: Operations::new(api, endpoint, credentials, options)?,
        })
    }

    /// Waits until one more import may be started.
    async fn paced(&self) {
        loop {
            let wait = self
                .pace
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .acquire(Instant::now());
            match wait {
                None => return,
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// No other step need try meanwhile.
    fn pause(&self, wait: Duration) {
        self.pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pause_until(Instant::now(), wait);
    }

    /// The operations of a step that the service knows of, in whatever restore by the plan.
    async fn known(&self, import: &ImportRequest) -> Result<Vec<Operation>, DatastoreError> {
        let api = &self.operations.api;
        let address = api.import_address(&import.input_url);
        let is_of_step = |operation: &Operation| {
            if api.has_labels() {
                import.label.is_of_step(operation.labels())
            } else {
                operation.reads_from(address)
            }
        };
        self.operations
            .list(&import.label.filter(), |operation| {
                operation.is_import() && is_of_step(operation)
            })
            .await
    }

    /// Whether an operation of the step is of this very restore. Where there are no labels, every
    /// restore has a folder of its own.
    fn is_of_run(&self, operation: &Operation, import: &ImportRequest) -> bool {
        !self.operations.api.has_labels() || import.label.is_of_run(operation.labels())
    }

    async fn try_start(&self, import: &ImportRequest) -> Result<StartedImport, DatastoreError> {
        let api = &self.operations.api;
        let call = self.operations.call("import", "datastore.databases.import");
        let body = api.import_body(import);
        let known = self.known(import).await?;
        let before: BTreeSet<String> = known.into_iter().map(|known| known.name).collect();
        let mut retry = self.operations.retry_loop(&call);
        loop {
            self.paced().await;
            let started = self.operations.start(&call, api.import_verb(), &body).await;
            let error = match started {
                Ok(operation) => return Ok(StartedImport::Operation(operation)),
                Err(error) => error,
            };
            if let Some(operation) = self.after_failure(&error, import, &before).await? {
                return Ok(StartedImport::Operation(operation));
            }
            retry.failed(error).await?;
        }
    }

    /// The operation that a failed start has started all the same: it must not be started twice.
    async fn after_failure(
        &self,
        error: &AdminAttemptError,
        import: &ImportRequest,
        before: &BTreeSet<String>,
    ) -> Result<Option<String>, DatastoreError> {
        match error.outcome {
            Outcome::NotDone => {
                let pause = self.operations.options.first_pause;
                self.pause(error.retry_after.unwrap_or(pause));
                Ok(None)
            }
            Outcome::MaybeDone => {
                let look = || self.newer(import, before);
                self.operations.settled(look).await
            }
            _ => Ok(None),
        }
    }

    async fn newer(
        &self,
        import: &ImportRequest,
        before: &BTreeSet<String>,
    ) -> Result<Option<String>, DatastoreError> {
        let mut names = self
            .known(import)
            .await?
            .into_iter()
            .map(|known| known.name);
        Ok(names.find(|name| !before.contains(name)))
    }

    async fn going_on(&self, import: &ImportRequest) -> Result<Option<String>, DatastoreError> {
        let mut succeeded = None;
        for operation in self.known(import).await? {
            match operation.state() {
                OperationState::Running(_) => return Ok(Some(operation.name)),
                // What another restore by this plan had done may be gone from the target since.
                OperationState::Succeeded if self.is_of_run(&operation, import) => {
                    succeeded = Some(operation.name)
                }
                _ => {}
            }
        }
        Ok(succeeded)
    }
}

impl Importer for ServiceImporter {
    fn reads(&self) -> ExportStorage {
        ExportStorage::Bucket
    }

    fn reserves_ids(&self) -> bool {
        true
    }

    fn matches_by_folder(&self) -> bool {
        !self.operations.api.has_labels()
    }

    fn concurrency(&self) -> &Arc<Semaphore> {
        &self.at_once
    }

    fn start<'a>(
        &'a self,
        import: &'a ImportRequest,
    ) -> BoxFuture<'a, Result<StartedImport, DatastoreError>> {
        Box::pin(self.try_start(import))
    }

    fn find<'a>(
        &'a self,
        import: &'a ImportRequest,
    ) -> BoxFuture<'a, Result<Option<String>, DatastoreError>> {
        Box::pin(self.going_on(import))
    }

    fn poll<'a>(
        &'a self,
        operation: &'a str,
    ) -> BoxFuture<'a, Result<OperationState, DatastoreError>> {
        Box::pin(self.operations.poll(operation))
    }

    fn poll_backoff(&self) -> Backoff {
        self.operations.options.pauses()
    }
}
