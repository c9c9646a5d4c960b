//! The long-running operations of one database: started once, listed, looked at.
//!
//! Knows both of Google's APIs by `api.rs`. Must not know what is exported or imported.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::api::AdminApi;
use super::client::{AdminAttemptError, AdminClient, Call, Outcome};
use super::operation::{Operation, OperationState};
use super::options::ServiceOptions;
use crate::datastore::error::DatastoreError;
use crate::google::retry::RetryLoop;
use crate::google::{Credentials, may_see_tokens};
use crate::model::address::without_user;

/// Operations a page of a listing.
const PAGE: &str = "100";

/// The operations of one database of the real service.
#[derive(Debug)]
pub(super) struct Operations {
    client: AdminClient,
    pub(super) api: AdminApi,
    pub(super) options: ServiceOptions,
}

/// A page of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OperationPage {
    operations: Vec<Operation>,
    next_page_token: String,
}

impl Operations {
    /// Those of an API at `endpoint`. Without credentials, calls are made by nobody: for test
    /// servers.
    pub(super) fn new(
        api: AdminApi,
        endpoint: &str,
        credentials: Option<Arc<Credentials>>,
        options: ServiceOptions,
    ) -> Result<Self, DatastoreError> {
        let endpoint = endpoint
            .trim_end_matches('/')
            .trim_end_matches("/v1")
            .to_owned();
        if credentials.is_some() && !may_see_tokens(&endpoint) {
            return Err(DatastoreError::Unauthorized {
                call: format!("operations at {}", without_user(&endpoint)),
                fault: "no token is sent to an address without TLS",
            });
        }
        Ok(Operations {
            client: AdminClient::new(endpoint, credentials)?,
            api,
            options,
        })
    }

    pub(super) fn call(&self, what: &'static str, permission: &'static str) -> Call {
        Call {
            resource: what,
            title: format!(
                "{what} of {} at {}",
                self.api.title(),
                self.client.display_base()
            ),
            permission,
        }
    }

    /// The attempts of a call.
    pub(super) fn retry_loop(&self, call: &Call) -> RetryLoop<'_> {
        self.client.retry_loop(call, self.options.retry_policy())
    }

    /// Starts an operation. One attempt; gives the operation's name.
    pub(super) async fn start(
        &self,
        call: &Call,
        verb: &str,
        body: &Value,
    ) -> Result<String, AdminAttemptError> {
        let path = format!("{}:{verb}", self.api.parent());
        let answer = self
            .client
            .post(call, &path, body, self.options.call_time)
            .await?;
        self.name_of(&answer)
            .ok_or_else(|| AdminAttemptError::maybe_done("an answer that names no operation"))
    }

    fn name_of(&self, answer: &Value) -> Option<String> {
        let name = answer.pointer("/name").and_then(Value::as_str)?;
        self.api.is_operation(name).then(|| name.to_owned())
    }

    /// The operations that `is_wanted`. `filter` narrows the listing where the API takes one.
    pub(super) async fn list(
        &self,
        filter: &str,
        is_wanted: impl Fn(&Operation) -> bool,
    ) -> Result<Vec<Operation>, DatastoreError> {
        let is_ours =
            |operation: &Operation| self.api.is_operation(&operation.name) && is_wanted(operation);
        if !self.api.has_labels() {
            return self.pages(None, is_ours).await;
        }
        match self.pages(Some(filter), is_ours).await {
            // A service that does not take the filter is asked without: what is wanted is known by
            // its labels.
            Err(DatastoreError::Refused { .. }) => self.pages(None, is_ours).await,
            listed => listed,
        }
    }

    async fn pages(
        &self,
        filter: Option<&str>,
        is_ours: impl Fn(&Operation) -> bool,
    ) -> Result<Vec<Operation>, DatastoreError> {
        let call = self.call("list of operations", "datastore.operations.list");
        let (mut ours, mut token) = (Vec::new(), String::new());
        loop {
            let page = self.page(&call, filter, &token).await?;
            ours.extend(page.operations.into_iter().filter(&is_ours));
            if page.next_page_token.is_empty() {
                return Ok(ours);
            }
            if page.next_page_token == token {
                return Err(nonsense(&call.title, "next page"));
            }
            token = page.next_page_token;
        }
    }

    async fn page(
        &self,
        call: &Call,
        filter: Option<&str>,
        token: &str,
    ) -> Result<OperationPage, DatastoreError> {
        let path = format!("{}/operations", self.api.parent());
        let mut query = vec![("pageSize", PAGE)];
        query.extend(filter.map(|filter| ("filter", filter)));
        query.extend((!token.is_empty()).then_some(("pageToken", token)));
        let mut retry = self.retry_loop(call);
        loop {
            let answer = self
                .client
                .get(call, &path, &query, self.options.call_time)
                .await;
            match answer {
                Ok(answer) => {
                    return serde_json::from_value(answer)
                        .map_err(|_| nonsense(&call.title, "operations"));
                }
                Err(error) => retry.failed(error).await?,
            }
        }
    }

    /// Where an operation stands.
    pub(super) async fn poll(&self, operation: &str) -> Result<OperationState, DatastoreError> {
        if !self.api.is_operation(operation) {
            return Ok(OperationState::Unknown);
        }
        let call = self.call("look at an operation", "datastore.operations.get");
        let mut retry = self.retry_loop(&call);
        loop {
            let answer = self
                .client
                .get(&call, operation, &[], self.options.call_time)
                .await;
            match answer {
                Ok(answer) => {
                    let operation: Operation = serde_json::from_value(answer)
                        .map_err(|_| nonsense(&call.title, "operation"))?;
                    return Ok(operation.state());
                }
                Err(error) if error.outcome == Outcome::Missing => {
                    return Ok(OperationState::Unknown);
                }
                Err(error) => retry.failed(error).await?,
            }
        }
    }

    /// Asks `look` until it finds something or the time is over in which a listing may not yet show
    /// an operation.
    pub(super) async fn settled<T, F>(
        &self,
        mut look: impl FnMut() -> F,
    ) -> Result<Option<T>, DatastoreError>
    where
        F: Future<Output = Result<Option<T>, DatastoreError>>,
    {
        let (started, mut pauses) = (Instant::now(), self.options.pauses());
        loop {
            let found = look().await?;
            let pause = pauses.next_delay(None);
            let is_over = started.elapsed().saturating_add(pause) > self.options.settle_time;
            if found.is_some() || is_over {
                return Ok(found);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn nonsense(call: &str, missing: &'static str) -> DatastoreError {
    DatastoreError::UnexpectedResponse {
        call: call.to_owned(),
        missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_without_tls_is_refused() {
        let credentials = Some(Arc::new(Credentials::new("scope")));
        let new = |endpoint| {
            let api = AdminApi::datastore("shop");
            Operations::new(
                api,
                endpoint,
                credentials.clone(),
                ServiceOptions::default(),
            )
        };
        assert!(new("https://datastore.googleapis.com").is_ok());
        assert!(matches!(
            new("http://datastore.googleapis.com"),
            Err(DatastoreError::Unauthorized { .. })
        ));
    }
}
