//! Exports of the real service: long-running operations, known again by their labels and by the
//! prefix that they write to.
//!
//! Knows both of Google's APIs by `api.rs`. Must not know queues: a start is one attempt, and the
//! quotas are the caller's to keep.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::api::AdminApi;
use super::client::{AdminAttemptError, Call, Outcome};
use super::export::{
    ExportError, ExportErrorClass, ExportRequest, Exporter, FoundOperation, StartedExport,
};
use super::operation::{Operation, OperationState};
use super::operations::Operations;
use super::options::ServiceOptions;
use crate::datastore::error::DatastoreError;
use crate::datastore::status::Code;
use crate::google::Credentials;
use crate::google::retry::Backoff;

/// What is said of a snapshot time that Datastore Admin cannot heed.
const NO_SNAPSHOT: &str = "Datastore Admin exports show no earlier instant";

/// The exporter of one database of the real service.
#[derive(Debug)]
pub struct ServiceExporter {
    operations: Operations,
}

impl ServiceExporter {
    /// The default database by Datastore Admin at `endpoint`, such as
    /// `https://datastore.googleapis.com`. Without credentials, calls are made by nobody: for test
    /// servers.
    ///
    /// # Errors
    /// [`DatastoreError::Unauthorized`] where a token would go over the net as it is, and when no
    /// HTTP client can be made.
    pub fn with_datastore_admin(
        project: &str,
        endpoint: &str,
        credentials: Option<Arc<Credentials>>,
        options: ServiceOptions,
    ) -> Result<Self, DatastoreError> {
        let api = AdminApi::datastore(project);
        let operations = Operations::new(api, endpoint, credentials, options)?;
        Ok(ServiceExporter { operations })
    }

    /// A database by Firestore Admin at `endpoint`, such as `https://firestore.googleapis.com`: a
    /// named one, or the default one where exports are to show an earlier instant.
    ///
    /// # Errors
    /// As [`ServiceExporter::with_datastore_admin`].
    pub fn with_firestore_admin(
        project: &str,
        database: Option<&str>,
        endpoint: &str,
        credentials: Option<Arc<Credentials>>,
        options: ServiceOptions,
    ) -> Result<Self, DatastoreError> {
        let api = AdminApi::firestore(project, database);
        let operations = Operations::new(api, endpoint, credentials, options)?;
        Ok(ServiceExporter { operations })
    }

    /// One attempt, and another one with a new token where the token is not accepted.
    async fn attempt(&self, call: &Call, body: &Value) -> Result<String, ExportError> {
        let verb = self.operations.api.export_verb();
        let mut retry = self.operations.retry_loop(call);
        loop {
            match self.operations.start(call, verb, body).await {
                Ok(operation) => return Ok(operation),
                Err(error) if error.outcome == Outcome::Unauthorized => {
                    let renewed = retry.failed(error).await;
                    renewed.map_err(|error| ExportError::unauthorized(&call.title, &error))?;
                }
                Err(error) => return Err(ExportError::from_attempt(&call.title, error)),
            }
        }
    }

    /// The operations that write to the prefix of this request.
    async fn known(&self, request: &ExportRequest) -> Result<Vec<Operation>, DatastoreError> {
        let has_labels = self.operations.api.has_labels();
        self.operations
            .list(&request.label.filter(), |operation| {
                operation.is_export()
                    && operation.writes_to(&request.output_prefix)
                    && (!has_labels || request.label.matches(operation.labels()))
            })
            .await
    }
}

#[async_trait]
impl Exporter for ServiceExporter {
    fn supports_snapshot(&self) -> bool {
        !self.operations.api.has_labels()
    }

    fn has_quota(&self) -> bool {
        true
    }

    async fn start(&self, request: &ExportRequest) -> Result<StartedExport, ExportError> {
        let call = self.operations.call("export", "datastore.databases.export");
        if request.snapshot_time.is_some() && !self.supports_snapshot() {
            let error =
                AdminAttemptError::new(Outcome::Permanent, Code::InvalidArgument, NO_SNAPSHOT);
            return Err(ExportError::from_attempt(&call.title, error));
        }
        let body = self.operations.api.export_body(request);
        let operation = self.attempt(&call, &body).await?;
        Ok(StartedExport::Operation(operation))
    }

    async fn find(
        &self,
        request: &ExportRequest,
    ) -> Result<Option<FoundOperation>, DatastoreError> {
        Ok(FoundOperation::best_of(self.known(request).await?))
    }

    async fn find_after_start(
        &self,
        request: &ExportRequest,
    ) -> Result<Option<FoundOperation>, DatastoreError> {
        self.operations.settled(|| self.find(request)).await
    }

    async fn poll(&self, operation: &str) -> Result<OperationState, DatastoreError> {
        self.operations.poll(operation).await
    }

    fn poll_delays(&self) -> Backoff {
        self.operations.options.pauses()
    }
}

impl FoundOperation {
    /// The one that is worth most: one that goes on, else one that has succeeded, else a failed one.
    fn best_of(operations: Vec<Operation>) -> Option<Self> {
        let rank = |found: &FoundOperation| match found.state {
            OperationState::Running(_) => 2,
            OperationState::Succeeded => 1,
            OperationState::Failed(_) | OperationState::Unknown => 0,
        };
        let found = operations.into_iter().map(|operation| FoundOperation {
            state: operation.state(),
            name: operation.name,
        });
        found.max_by_key(rank)
    }
}

impl ExportError {
    pub(super) fn from_attempt(call: &str, error: AdminAttemptError) -> Self {
        let retry_after = error.retry_after;
        let message = match error.outcome {
            Outcome::Denied => format!("{} ({})", error.found, error.permission),
            _ => error.found,
        };
        let class = match error.outcome {
            Outcome::NotDone => ExportErrorClass::Transient { retry_after },
            Outcome::MaybeDone => ExportErrorClass::MaybeStarted { retry_after },
            _ => ExportErrorClass::Permanent,
        };
        ExportError {
            call: call.to_owned(),
            class,
            code: error.code,
            advice: error.advice.map(str::to_owned),
            message,
        }
    }

    fn unauthorized(call: &str, error: &DatastoreError) -> Self {
        let found = match error {
            DatastoreError::Unauthorized { fault, .. } => fault,
            _ => "HTTP 401",
        };
        let error = AdminAttemptError::new(Outcome::NoToken(found), Code::Unauthenticated, found);
        ExportError::from_attempt(call, error)
    }
}
