//! The calls over HTTP: retried with growing pauses while that can help, within a bounded number of tries.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::CALL_TIMEOUT;
use crate::entity::v1;
use crate::target::TargetError;

/// How often a call is tried.
const TRIES: u32 = 6;

/// The first pause; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Longer words of a service are cut: they may go on with what is nobody's business.
const WORDS_MAX_CHARS: usize = 200;

/// A project of a Datastore service.
#[derive(Debug)]
pub(super) struct Api {
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

impl Api {
    pub(super) fn new(base: String, project: String) -> Result<Self, TargetError> {
        let client = Client::builder()
            .user_agent(concat!("kindpack/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .timeout(CALL_TIMEOUT)
            // What a proxy would do to a target on this machine nobody wants.
            .no_proxy()
            .build();
        let client = client.map_err(|error| TargetError::Rejected { call: "HTTP client".to_owned(), found: error.to_string() })?;
        Ok(Api { client, base, project })
    }

    pub(super) fn project(&self) -> &str {
        &self.project
    }

    fn post(&self, method: &str) -> RequestBuilder {
        self.client.post(format!("{}/v1/projects/{}:{method}", self.base, self.project))
    }

    /// Sends a commit. Upserts may be sent twice, so it is tried again whatever became of the first try.
    pub(super) async fn commit(&self, body: Vec<u8>) -> Result<(), TargetError> {
        let body = Bytes::from(body);
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
        let words = told(words);
        TargetError::Rejected { call: self.call(method), found: format!("HTTP {} {words}", status.as_u16()).trim_end().to_owned() }
    }

    fn call(&self, method: &str) -> String {
        format!("{method} of project {} at {}", self.project, self.base)
    }

    /// Sends a request until it is answered to the last byte, or no try is left.
    async fn send(&self, method: &str, request: impl Fn() -> RequestBuilder) -> Result<(StatusCode, Bytes), TargetError> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut tries = 0;
        loop {
            tries += 1;
            let found = match answer(request()).await {
                Ok((status, bytes)) if !may_pass(status) => return Ok((status, bytes)),
                Ok((status, _)) => format!("HTTP {}", status.as_u16()),
                Err(error) => words_of(&error),
            };
            if tries == TRIES {
                return Err(TargetError::Service { call: self.call(method), tries, seconds: begun.elapsed().as_secs(), found });
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

async fn answer(request: RequestBuilder) -> reqwest::Result<(StatusCode, Bytes)> {
    let answer = request.send().await?;
    Ok((answer.status(), answer.bytes().await?))
}

/// As much of a service's words as may be told.
pub(in crate::target) fn told(words: &str) -> String {
    masked(words.lines().next().unwrap_or_default()).chars().take(WORDS_MAX_CHARS).collect()
}

/// A service's words without what it quotes: that may be a key or a value. Names of kinds and properties stay.
fn masked(words: &str) -> String {
    let mut out = String::new();
    for (number, part) in words.split('"').enumerate() {
        let quoted = number % 2 == 1;
        let is_name = out.ends_with("property \"") || out.ends_with("kind \"");
        out.push_str(if quoted && !is_name { "…" } else { part });
        out.push('"');
    }
    out.pop();
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_quotes_is_not_told_unless_it_is_the_name_of_a_kind_or_property() {
        let words = r#"The value of property "mail" is longer than 1500 bytes: "ann@example.com"."#;
        assert_eq!(masked(words), r#"The value of property "mail" is longer than 1500 bytes: "…"."#);
        assert_eq!(masked(r#"The kind "__bad__" is reserved."#), r#"The kind "__bad__" is reserved."#);
        assert_eq!(masked("nothing quoted"), "nothing quoted");
    }
}
