//! Exports of an emulator: one call that answers when everything is written to a folder.
//!
//! Knows the emulator's ways (`docs/formats.md` 8): it has no operations, wants a folder that does
//! not exist, and writes a kind's name into a path as it is.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::client::{AdminAttemptError, AdminClient, Call, Outcome};
use super::export::{ExportError, ExportRequest, Exporter, FoundOperation, StartedExport};
use super::operation::OperationState;
use crate::datastore::error::DatastoreError;
use crate::datastore::status::Code;
use crate::google::retry::Backoff;

/// How long an export may take, unless told otherwise. An emulator writes some 6 MB a second at the
/// least, and holds everything in memory.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The pause between two polls, which an emulator never needs.
const PAUSE: Duration = Duration::from_millis(500);

const SLASH: &str = "Leave the kind out (--exclude): the emulator cannot export a kind with \"/\" in its name. The real service can.";
const NO_EXPORT: &str = "Use Google's Datastore emulator: this one has no export.";

/// The exporter of one project in an emulator.
#[derive(Debug)]
pub struct EmulatorExporter {
    client: AdminClient,
    project: String,
    timeout: Duration,
}

impl EmulatorExporter {
    /// The emulator at `host`, such as `127.0.0.1:8081`, and a project in it.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(host: &str, project: &str) -> Result<Self, DatastoreError> {
        Ok(EmulatorExporter {
            client: AdminClient::new(format!("http://{host}"), None)?,
            project: project.to_owned(),
            timeout: EXPORT_TIMEOUT,
        })
    }

    fn call(&self) -> Call {
        Call {
            resource: "export",
            title: format!(
                "export of project {} at {}",
                self.project,
                self.client.display_base()
            ),
            permission: "",
        }
    }

    /// One attempt.
    async fn attempt(&self, call: &Call, request: &ExportRequest) -> Result<(), AdminAttemptError> {
        let filter = json!({
            "kinds": [request.kind.as_str()],
            "namespaceIds": [request.namespace.as_str()],
        });
        let body = json!({"outputUrlPrefix": request.output_prefix, "entityFilter": filter});
        let path = format!("projects/{}:export", self.project);
        let answer = self.client.post(call, &path, &body, self.timeout).await?;
        if answer.pointer("/done") == Some(&true.into()) {
            Ok(())
        } else {
            Err(AdminAttemptError::maybe_done("an export that is not done"))
        }
    }
}

/// What the emulator's answers mean beyond what the service's would.
fn judge(request: &ExportRequest, error: AdminAttemptError) -> AdminAttemptError {
    let has_slash = request.kind.as_str().contains('/');
    match error.outcome {
        Outcome::MaybeDone if error.code == Code::Internal && has_slash => error.permanent(SLASH),
        Outcome::Unsupported | Outcome::Missing => error.permanent(NO_EXPORT),
        _ => error,
    }
}

#[async_trait]
impl Exporter for EmulatorExporter {
    fn supports_snapshot(&self) -> bool {
        false
    }

    fn has_quota(&self) -> bool {
        false
    }

    async fn start(&self, request: &ExportRequest) -> Result<StartedExport, ExportError> {
        let call = self.call();
        let done = self.attempt(&call, request).await;
        done.map(|()| StartedExport::Done)
            .map_err(|error| ExportError::from_attempt(&call.title, judge(request, error)))
    }

    async fn find(&self, _: &ExportRequest) -> Result<Option<FoundOperation>, DatastoreError> {
        Ok(None)
    }

    async fn find_after_start(
        &self,
        _: &ExportRequest,
    ) -> Result<Option<FoundOperation>, DatastoreError> {
        Ok(None)
    }

    async fn poll(&self, _: &str) -> Result<OperationState, DatastoreError> {
        Ok(OperationState::Unknown)
    }

    fn poll_delays(&self) -> Backoff {
        Backoff::new(PAUSE, PAUSE)
    }
}
