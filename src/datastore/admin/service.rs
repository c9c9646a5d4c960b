//! Imports into the real service: long-running operations of Datastore Admin v1, known again by
//! their labels.
//!
//! Knows its calls and quotas (`docs/formats.md` 10). Must not know how an export came into its
//! bucket.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::client::{AdminAttemptError, AdminClient, Call};
use super::operation::Operation;
use super::{ImportRequest, ImportSource, Importer, Label, OperationState, StartedImport};
use crate::datastore::error::DatastoreError;
use crate::google::rate_limit::RateLimit;
use crate::google::retry::{Backoff, LastAttempt, RetryPolicy};
use crate::google::{Credentials, may_see_tokens};
use crate::model::address::without_user;
use crate::progress::Observer;

/// Operations a page of a listing.
const PAGE: &str = "100";

/// How the service is used.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// How many imports are started within [`ServiceOptions::within`]. The service takes 20 a
    /// minute, exports included.
    pub starts: usize,
    /// See [`ServiceOptions::starts`].
    pub within: Duration,
    /// How many go on at once. The service takes 50, exports included.
    pub at_once: usize,
    /// How long one call may last.
    pub call_time: Duration,
    /// How long a call is tried.
    pub retry_timeout: Duration,
    /// How long an operation is looked for when the answer to its start was lost, before it counts
    /// as never started.
    pub settle_time: Duration,
    /// The first pause between tries and between questions after an operation; each is about twice
    /// as long as the one before.
    pub first_pause: Duration,
    /// No pause is longer, unless the service asks for it.
    pub longest_pause: Duration,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        ServiceOptions {
            starts: 15,
            within: Duration::from_secs(60),
            at_once: 40,
            call_time: Duration::from_secs(60),
            retry_timeout: Duration::from_secs(600),
            settle_time: Duration::from_secs(60),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
        }
    }
}

impl ServiceOptions {
    fn pauses(&self) -> Backoff {
        Backoff::new(self.first_pause, self.longest_pause)
    }

    fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            first_delay: self.first_pause,
            max_delay: self.longest_pause,
            timeout: self.retry_timeout,
            last_attempt: LastAttempt::BeforeTimeout { min_attempts: 1 },
        }
    }
}

/// The importer of one project of the real service. Its default database only: Datastore Admin v1
/// knows no other.
#[derive(Debug)]
pub struct ServiceImporter {
    client: AdminClient,
    project: String,
    options: ServiceOptions,
    at_once: Arc<Semaphore>,
    pace: Mutex<RateLimit>,
}

/// A page of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OperationPage {
    operations: Vec<Operation>,
    next_page_token: String,
}

impl ServiceImporter {
    /// The project at `endpoint`, such as `https://datastore.googleapis.com`. Without credentials,
    /// calls are made by nobody: for test servers.
    ///
    /// # Errors
    /// [`DatastoreError::Refused`] for a named database, [`DatastoreError::Unauthorized`] where a token would go over the net as it is, and when
    /// no HTTP client can be made.
    pub fn new(
        project: &str,
        database: Option<&str>,
        endpoint: &str,
        credentials: Option<Arc<Credentials>>,
        options: ServiceOptions,
    ) -> Result<Self, DatastoreError> {
        if let Some(database) = database {
            let found = format!("database {database}, where imports go into the default one only");
            return Err(DatastoreError::Refused {
                call: format!("import of project {project}"),
                found,
            });
        }
        let endpoint = endpoint
            .trim_end_matches('/')
            .trim_end_matches("/v1")
            .to_owned();
        if credentials.is_some() && !may_see_tokens(&endpoint) {
            return Err(DatastoreError::Unauthorized {
                call: format!("import at {}", without_user(&endpoint)),
                found: "an address without TLS",
            });
        }
        Ok(ServiceImporter {
            client: AdminClient::new(endpoint, credentials)?,
            project: project.to_owned(),
            at_once: Arc::new(Semaphore::new(options.at_once.max(1))),
            pace: Mutex::new(RateLimit::new(options.starts, options.within)),
            options,
        })
    }

    /// The same, with somebody who is told of each request.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Self {
        ServiceImporter {
            client: self.client.observed_by(observer),
            ..self
        }
    }

    fn call(&self, what: &'static str, permission: &'static str) -> Call {
        Call {
            resource: what,
            title: format!(
                "{what} of project {} at {}",
                self.project,
                self.client.display_base()
            ),
            permission,
        }
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

    fn pause(&self, wait: Duration) {
        self.pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pause_until(Instant::now(), wait);
    }

    /// Whether a name is that of an operation of the project; it becomes a part of an address.
    fn is_operation(&self, name: &str) -> bool {
        let id = name.strip_prefix("projects/").and_then(|rest| {
            rest.strip_prefix(&self.project)?
                .strip_prefix("/operations/")
        });
        id.is_some_and(|id| {
            !id.is_empty()
                && id
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || b"-_=".contains(&c))
        })
    }

    /// The imports of a step that the service knows of, in whatever restore by the plan.
    async fn operations(&self, label: &Label) -> Result<Vec<Operation>, DatastoreError> {
        let filter = label.filter();
        let all = match self.pages(Some(&filter)).await {
            // A service that does not take the filter is asked without: what is of the step is
            // known by its labels.
            Err(DatastoreError::Refused { .. }) => self.pages(None).await?,
            listed => listed?,
        };
        let ours = |operation: &Operation| {
            operation.is_import()
                && label.is_of_step(operation.labels())
                && self.is_operation(&operation.name)
        };
        Ok(all.into_iter().filter(ours).collect())
    }

    async fn pages(&self, filter: Option<&str>) -> Result<Vec<Operation>, DatastoreError> {
        let call = self.call("list of operations", "datastore.operations.list");
        let path = format!("projects/{}/operations", self.project);
        let mut retry = self.client.retry_loop(&call, self.options.retry_policy());
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let mut query = vec![("pageSize", PAGE)];
            query.extend(filter.map(|filter| ("filter", filter)));
            query.extend((!token.is_empty()).then_some(("pageToken", token.as_str())));
            match self
                .client
                .get(&call, &path, &query, self.options.call_time)
                .await
            {
                Ok(answer) => {
                    let page: OperationPage = serde_json::from_value(answer)
                        .map_err(|_| nonsense(&call.title, "a page of operations"))?;
                    all.extend(page.operations);
                    if page.next_page_token.is_empty() {
                        return Ok(all);
                    }
                    if page.next_page_token == token {
                        return Err(nonsense(&call.title, "the next page"));
                    }
                    token = page.next_page_token;
                    retry = self.client.retry_loop(&call, self.options.retry_policy());
                }
                Err(error) => retry.failed(error).await?,
            }
        }
    }

    async fn try_start(&self, import: &ImportRequest) -> Result<StartedImport, DatastoreError> {
        let call = self.call("import", "datastore.databases.import");
        let path = format!("projects/{}:import", self.project);
        // Without a filter: what is in the export is all to be imported, and a filter would have to
        // be one that the export was made with.
        let body = json!({"inputUrl": import.input_url, "labels": import.label.pairs()});
        let before: BTreeSet<String> = self
            .operations(&import.label)
            .await?
            .into_iter()
            .map(|operation| operation.name)
            .collect();
        let mut retry = self.client.retry_loop(&call, self.options.retry_policy());
        loop {
            self.paced().await;
            let error = match self
                .client
                .post(&call, &path, &body, self.options.call_time)
                .await
            {
                Ok(answer) => match self.name_of(&answer) {
                    Some(operation) => return Ok(StartedImport::Operation(operation)),
                    None => AdminAttemptError::MaybeDone {
                        found: "an answer that names no operation".to_owned(),
                        retry_after: None,
                    },
                },
                Err(error) => error,
            };
            if let AdminAttemptError::NotDone { retry_after, .. } = &error {
                // No other step need try meanwhile.
                self.pause(retry_after.unwrap_or(self.options.first_pause));
            }
            // It may go on all the same: it must not be started twice.
            if let AdminAttemptError::MaybeDone { .. } = &error
                && let Some(operation) = self.find_started(&import.label, &before).await?
            {
                return Ok(StartedImport::Operation(operation));
            }
            retry.failed(error).await?;
        }
    }

    fn name_of(&self, answer: &Value) -> Option<String> {
        let name = answer.pointer("/name").and_then(Value::as_str)?;
        self.is_operation(name).then(|| name.to_owned())
    }

    /// The operation of a start whose answer was lost. A listing may show it a little late.
    async fn find_started(
        &self,
        label: &Label,
        before: &BTreeSet<String>,
    ) -> Result<Option<String>, DatastoreError> {
        let (begun, mut pauses) = (Instant::now(), self.options.pauses());
        loop {
            let new = self
                .operations(label)
                .await?
                .into_iter()
                .map(|operation| operation.name)
                .find(|name| !before.contains(name));
            let pause = pauses.next_delay(None);
            if new.is_some() || begun.elapsed().saturating_add(pause) > self.options.settle_time {
                return Ok(new);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn nonsense(call: &str, expected: &'static str) -> DatastoreError {
    DatastoreError::UnexpectedResponse {
        call: call.to_owned(),
        expected,
        found: "an answer of another form".to_owned(),
    }
}

impl Importer for ServiceImporter {
    fn reads(&self) -> ImportSource {
        ImportSource::Bucket
    }

    fn reserves_ids(&self) -> bool {
        true
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
        label: &'a Label,
    ) -> BoxFuture<'a, Result<Option<String>, DatastoreError>> {
        Box::pin(async move {
            let mut succeeded = None;
            for operation in self.operations(label).await? {
                match operation.state() {
                    OperationState::Running(_) => return Ok(Some(operation.name)),
                    // What another restore by this plan had done may be gone from the target since.
                    OperationState::Succeeded if label.is_of_run(operation.labels()) => {
                        succeeded = Some(operation.name)
                    }
                    _ => {}
                }
            }
            Ok(succeeded)
        })
    }

    fn poll<'a>(
        &'a self,
        operation: &'a str,
    ) -> BoxFuture<'a, Result<OperationState, DatastoreError>> {
        Box::pin(async move {
            if !self.is_operation(operation) {
                return Ok(OperationState::Unknown);
            }
            let call = self.call("look at an operation", "datastore.operations.get");
            let mut retry = self.client.retry_loop(&call, self.options.retry_policy());
            loop {
                match self
                    .client
                    .get(&call, operation, &[], self.options.call_time)
                    .await
                {
                    Ok(answer) => {
                        let operation: Operation = serde_json::from_value(answer)
                            .map_err(|_| nonsense(&call.title, "an operation"))?;
                        return Ok(operation.state());
                    }
                    Err(AdminAttemptError::Missing(_)) => return Ok(OperationState::Unknown),
                    Err(error) => retry.failed(error).await?,
                }
            }
        })
    }

    fn poll_backoff(&self) -> Backoff {
        self.options.pauses()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_database_and_plain_token_are_refused() {
        let credentials = Some(Arc::new(Credentials::new("scope")));
        let new = |database, endpoint| {
            ServiceImporter::new(
                "shop",
                database,
                endpoint,
                credentials.clone(),
                ServiceOptions::default(),
            )
        };
        assert!(new(None, "https://datastore.googleapis.com").is_ok());
        assert!(matches!(
            new(Some("orders"), "https://datastore.googleapis.com"),
            Err(DatastoreError::Refused { .. })
        ));
        assert!(matches!(
            new(None, "http://datastore.googleapis.com"),
            Err(DatastoreError::Unauthorized { .. })
        ));
    }

    #[test]
    fn foreign_operation_names_are_refused() {
        let importer = ServiceImporter::new(
            "shop",
            None,
            "http://127.0.0.1:1/v1/",
            None,
            ServiceOptions::default(),
        )
        .unwrap();
        assert!(
            importer
                .is_operation("projects/shop/operations/ASA1MTAwNDQxNAgadGx1YWZlZAcSYWx0cm-fdr_5=")
        );
        for name in [
            "",
            "projects/shop/operations/",
            "projects/other/operations/a",
            "projects/shop-2/operations/a",
            "projects/shop/operations/../../other/operations/a",
            "projects/shop/operations/a?alt=media",
            "projects/shop/operations/a:cancel",
        ] {
            assert!(!importer.is_operation(name), "{name}");
        }
    }
}
