//! The calls over HTTP: JSON, which asks, and protobuf bodies, which write.
//!
//! Knows addresses, statuses and bodies. Must not know what is asked.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;

use super::CALL_TIMEOUT;
use super::patience::{patiently, rejected};
use crate::entity::v1;
use crate::target::TargetError;

/// A project of a Datastore service.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    base: String,
    project: String,
}

/// What a JSON call gave.
pub(super) enum Answer {
    Ok(Value),
    /// The service does not know this call.
    Unavailable,
}

impl Http {
    pub(super) fn new(base: String, project: String) -> Result<Self, TargetError> {
        let client = Client::builder()
            .user_agent(concat!("kindpack/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .timeout(CALL_TIMEOUT)
            // What a proxy would do to a target on this machine nobody wants.
            .no_proxy()
            .build();
        let client = client.map_err(|error| TargetError::Rejected { call: "HTTP client".to_owned(), found: error.to_string() })?;
        Ok(Http { client, base, project })
    }

    pub(super) fn project(&self) -> &str {
        &self.project
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    fn post(&self, method: &str) -> RequestBuilder {
        self.client.post(format!("{}/v1/projects/{}:{method}", self.base, self.project))
    }

    /// Sends a commit. Upserts may be sent twice, so it is tried again whatever became of the first try.
    pub(super) async fn commit(&self, body: Bytes) -> Result<(), TargetError> {
        let request = || self.post("commit").header("content-type", "application/x-protobuf").body(body.clone());
        let (status, answer) = self.send("commit", request).await?;
        match status.is_success() {
            true => Ok(()),
            false => Err(self.rejected("commit", status, &v1::status_message(&answer).unwrap_or_default())),
        }
    }

    /// Sends a JSON call that only reads.
    pub(super) async fn json(&self, method: &str, body: &Value) -> Result<Answer, TargetError> {
        let body = Bytes::from(body.to_string());
        let request = || self.post(method).header("content-type", "application/json").body(body.clone());
        let (status, answer) = self.send(method, request).await?;
        if matches!(status, StatusCode::NOT_IMPLEMENTED | StatusCode::NOT_FOUND) {
            return Ok(Answer::Unavailable);
        }
        match serde_json::from_slice::<Value>(&answer).ok() {
            Some(value) if status.is_success() => Ok(Answer::Ok(value)),
            value => {
                let words = value.as_ref().and_then(|value| value.pointer("/error/message")).and_then(Value::as_str).unwrap_or_default();
                Err(self.rejected(method, status, words))
            }
        }
    }

    fn rejected(&self, method: &str, status: StatusCode, words: &str) -> TargetError {
        rejected(self.call(method), &format!("HTTP {}", status.as_u16()), words)
    }

    /// A call as messages name it.
    pub(super) fn call(&self, method: &str) -> String {
        format!("{method} of project {} at {}", self.project, self.base)
    }

    /// Sends a request until it is answered to the last byte, or no try is left.
    async fn send(&self, method: &str, request: impl Fn() -> RequestBuilder) -> Result<(StatusCode, Bytes), TargetError> {
        let attempt = || async {
            match answer(request()).await {
                Ok((status, bytes)) if !may_pass(status) => Ok((status, bytes)),
                Ok((status, _)) => Err(format!("HTTP {}", status.as_u16())),
                Err(error) => Err(words_of(&error)),
            }
        };
        patiently(&self.call(method), attempt).await
    }
}

async fn answer(request: RequestBuilder) -> reqwest::Result<(StatusCode, Bytes)> {
    let answer = request.send().await?;
    Ok((answer.status(), answer.bytes().await?))
}

/// Whether the same call may succeed later.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 409 | 429 | 500 | 502 | 503 | 504)
}

/// The innermost cause, which says more than its wrappers.
fn words_of(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() { format!("no answer within {} s", CALL_TIMEOUT.as_secs()) } else { cause.to_string() }
}
