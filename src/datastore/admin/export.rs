//! Google's own export as the way out of a database: what is requested, and what may come of it.
//!
//! Knows exports by their output prefix and operations by their names. Must not know queues,
//! journals or archives: how often an export is attempted is for the caller to decide.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::label::ExportLabel;
use super::operation::OperationState;
use crate::datastore::error::DatastoreError;
use crate::datastore::status::Code;
use crate::google::retry::Backoff;
use crate::model::{Kind, Namespace, Timestamp};

/// An export of one kind of one namespace that is to be started.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// By which the operation is found again.
    pub label: ExportLabel,
    /// The namespace.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// Where the export is written: `gs://BUCKET/PREFIX`, or an absolute path that does not exist.
    /// Each attempt has its own.
    pub output_prefix: String,
    /// The instant that the export shows, a whole minute; the time of reading where there is none.
    pub snapshot_time: Option<Timestamp>,
}

/// What a start leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartedExport {
    /// The export is written.
    Done,
    /// The operation with this name writes it.
    Operation(String),
}

/// An operation that an earlier start of the same request has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundOperation {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: OperationState,
}

/// What a failed start means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportErrorClass {
    /// The export was not started. Another attempt may help.
    Transient {
        /// How long the service asks to wait.
        retry_after: Option<Duration>,
    },
    /// Nobody knows whether the export was started. [`Exporter::find_after_start`] does, before
    /// another attempt is made.
    MaybeStarted {
        /// How long the service asks to wait.
        retry_after: Option<Duration>,
    },
    /// The export was not started, and no other attempt can help.
    Permanent,
}

/// Why an export is not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {message}")]
pub struct ExportError {
    /// Which call.
    pub call: String,
    /// What it means for the next attempt.
    pub class: ExportErrorClass,
    /// The service's code; [`Code::Unavailable`] or [`Code::DeadlineExceeded`] where no answer came.
    pub code: Code,
    /// One line. Of the service's words only those that hold nobody's data.
    pub message: String,
    /// What to do about it: a sentence that begins with a verb.
    pub advice: Option<String>,
}

/// A service that writes exports of one database.
///
/// An operation goes on when nobody asks for it any more, and is never cancelled.
#[async_trait]
pub trait Exporter: fmt::Debug + Send + Sync {
    /// Whether an export can show an earlier instant.
    fn supports_snapshot(&self) -> bool;

    /// Whether the quotas of the real service apply: 20 starts a minute, 50 exports at once.
    fn has_quota(&self) -> bool;

    /// Starts an export. One attempt: only a token that is not accepted is renewed.
    ///
    /// # Errors
    /// [`ExportError`], whose class decides about another attempt.
    async fn start(&self, request: &ExportRequest) -> Result<StartedExport, ExportError>;

    /// The operation that an earlier run has started for this request, with this output prefix.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    async fn find(&self, request: &ExportRequest)
    -> Result<Option<FoundOperation>, DatastoreError>;

    /// The same right after a start whose answer is lost: asks again for a while, because a listing
    /// may show an operation a little late.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    async fn find_after_start(
        &self,
        request: &ExportRequest,
    ) -> Result<Option<FoundOperation>, DatastoreError>;

    /// Where an operation stands.
    ///
    /// # Errors
    /// [`DatastoreError`] after all retries.
    async fn poll(&self, operation: &str) -> Result<OperationState, DatastoreError>;

    /// How long to wait between two polls of an operation.
    fn poll_delays(&self) -> Backoff;
}

impl ExportError {
    /// Whether another attempt may help.
    pub fn is_transient(&self) -> bool {
        self.class != ExportErrorClass::Permanent
    }

    /// How long the service asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.class {
            ExportErrorClass::Transient { retry_after }
            | ExportErrorClass::MaybeStarted { retry_after } => retry_after,
            ExportErrorClass::Permanent => None,
        }
    }
}
