//! Imports into an emulator: one call that answers when everything is there.
//!
//! Knows the emulator's ways (`docs/formats.md` 8 and 9). It has no operations, and one of its
//! faults is never to answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::client::{AdminAttemptError, AdminClient, Call, Outcome};
use super::{ExportStorage, ImportRequest, Importer, OperationState, StartedImport};
use crate::datastore::error::DatastoreError;
use crate::google::retry::{Backoff, LastAttempt, RetryPolicy};
use crate::model::address::is_this_machine;

/// An import is given at least so long, unless told otherwise; the emulator may just have been
/// started.
const LEAST_TIME: Duration = Duration::from_secs(120);

/// An emulator reads some 6 MB a second at the least; a loaded machine is given ten times as long.
const BYTES_PER_SECOND: u64 = 600_000;

/// The pause between tries of an emulator that cannot be reached.
const PAUSE: Duration = Duration::from_millis(500);

/// The importer of one project in an emulator.
#[derive(Debug)]
pub struct EmulatorImporter {
    client: AdminClient,
    project: String,
    reads: ExportStorage,
    least_time: Duration,
    retry_timeout: Duration,
    at_once: Arc<Semaphore>,
}

impl EmulatorImporter {
    /// The emulator at `host`, such as `127.0.0.1:8081`, and a project in it. One that cannot be
    /// reached is tried for `retry_timeout`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(host: &str, project: &str, retry_timeout: Duration) -> Result<Self, DatastoreError> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let reads = if is_this_machine(name) {
            ExportStorage::LocalDir
        } else {
            ExportStorage::RemoteDir
        };
        let client = AdminClient::new(format!("http://{host}"), None)?;
        // Several at once gain nothing there, and each holds its whole export in memory.
        Ok(EmulatorImporter {
            client,
            project: project.to_owned(),
            reads,
            least_time: LEAST_TIME,
            retry_timeout,
            at_once: Arc::new(Semaphore::new(1)),
        })
    }

    /// An import is given at least so long, and longer the larger it is.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn with_least_time(self, least_time: Duration) -> Self {
        EmulatorImporter { least_time, ..self }
    }

    fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            first_delay: PAUSE,
            max_delay: PAUSE,
            timeout: self.retry_timeout,
            last_attempt: LastAttempt::BeforeTimeout { min_attempts: 1 },
        }
    }

    /// One attempt; says whether the import is done.
    async fn attempt(
        &self,
        call: &Call,
        import: &ImportRequest,
    ) -> Result<bool, AdminAttemptError> {
        let product = self.client.emulator_product(call, &self.project).await?;
        let (path, body) = product.import_request(&self.project, &import.input_url);
        let timeout = self.least_time + Duration::from_secs(import.bytes / BYTES_PER_SECOND);
        let answer = self.client.post_to(call, &path, &body, timeout).await?;
        Ok(product.is_import_done(&answer))
    }

    fn call(&self) -> Call {
        Call {
            resource: "import",
            title: format!(
                "import of project {} at {}",
                self.project,
                self.client.display_base()
            ),
            permission: "",
        }
    }
}

impl Importer for EmulatorImporter {
    fn reads(&self) -> ExportStorage {
        self.reads
    }

    fn reserves_ids(&self) -> bool {
        false
    }

    fn matches_by_folder(&self) -> bool {
        false
    }

    fn concurrency(&self) -> &Arc<Semaphore> {
        &self.at_once
    }

    fn start<'a>(
        &'a self,
        import: &'a ImportRequest,
    ) -> BoxFuture<'a, Result<StartedImport, DatastoreError>> {
        Box::pin(async move {
            let call = self.call();
            let mut retry = self.client.retry_loop(&call, self.retry_policy());
            loop {
                match self.attempt(&call, import).await {
                    Ok(true) => return Ok(StartedImport::Done),
                    Ok(false) => {
                        return Err(DatastoreError::UnexpectedResponse {
                            call: call.title,
                            missing: "finished import",
                        });
                    }
                    Err(error)
                        if matches!(error.outcome, Outcome::Unsupported | Outcome::Missing) =>
                    {
                        return Err(DatastoreError::NoImport { call: call.title });
                    }
                    // It may hang for ever: a second one would only hang as well.
                    Err(error) if error.outcome == Outcome::MaybeDone => {
                        return Err(retry.give_up(error.found));
                    }
                    Err(error) => retry.failed(error).await?,
                }
            }
        })
    }

    fn find<'a>(
        &'a self,
        _: &'a ImportRequest,
    ) -> BoxFuture<'a, Result<Option<String>, DatastoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn poll<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<OperationState, DatastoreError>> {
        Box::pin(async { Ok(OperationState::Unknown) })
    }

    fn poll_backoff(&self) -> Backoff {
        Backoff::new(PAUSE, PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::datastore::admin::Label;
    use crate::model::{Sha256, Timestamp};

    #[tokio::test]
    async fn an_emulator_that_answers_404_has_no_import() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            // Which emulator it is, and the import.
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4_096];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\nconnection: close\r\n\r\nNot Found").unwrap();
            }
        });
        let importer = EmulatorImporter::new(&host, "shop", Duration::from_secs(1)).unwrap();
        let label = Label::new(Sha256([0; 32]), 1, Timestamp::from_micros(1).unwrap());
        let import = ImportRequest {
            label,
            input_url: "/x/x.overall_export_metadata".to_owned(),
            bytes: 1,
        };
        assert!(matches!(
            importer.start(&import).await,
            Err(DatastoreError::NoImport { .. })
        ));
        server.join().unwrap();
    }
}
