//! A notification as JSON to an address: `text` as Slack reads it, and fields for programs.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::error::NotifyError;
use super::report::{KindChange, KindFailure, Notification};
use super::secret::{Secret, SecretSource};
use super::{ATTEMPT_TIMEOUT, retry_loop};
use crate::google::http::{HttpClient, HttpRequest, TimeLimit, is_loopback, retry_after};
use crate::google::retry::AttemptError;
use crate::progress::Observer;

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookOptions {
    /// Where its URL is: whoever knows it may post.
    pub url: SecretSource,
}

/// Posts a notification.
pub(super) async fn post(
    options: &WebhookOptions,
    notification: &Notification,
    observer: &dyn Observer,
) -> Result<(), NotifyError> {
    let url = options.url.read()?;
    let url = usable_url(&url).ok_or_else(|| NotifyError::Setup {
        what: format!("the webhook in {}", options.url),
        reason: "it is not an http or https URL".to_owned(),
    })?;
    // No proxy leads to this machine.
    let use_proxy = !is_loopback(url.as_str());
    let client = HttpClient::new(ATTEMPT_TIMEOUT, use_proxy);
    let client = client.map_err(|error| NotifyError::Setup {
        what: "webhook".to_owned(),
        reason: error.without_url().to_string(),
    })?;
    let call = format!("the post to the webhook in {}", options.url);
    let body = Bytes::from(payload(notification).to_string());
    let mut retry = retry_loop(&call, observer);
    loop {
        match attempt(&client, &url, body.clone(), &call).await {
            Ok(()) => return Ok(()),
            Err(failed) => retry.failed(failed).await?,
        }
    }
}

fn usable_url(url: &Secret) -> Option<Url> {
    let url = Url::parse(url.reveal().trim()).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

async fn attempt(
    client: &HttpClient,
    url: &Url,
    body: Bytes,
    call: &str,
) -> Result<(), AttemptError<NotifyError>> {
    let json = HeaderValue::from_static("application/json");
    let request = HttpRequest {
        method: Method::POST,
        url: url.as_str(),
        resource: "webhook",
        headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]),
        body: vec![body],
        limit: TimeLimit::Total(ATTEMPT_TIMEOUT),
    };
    let response = client.send(request).await;
    let response = response.map_err(|error| AttemptError::transient(error.found))?;
    let found = format!("HTTP {}", response.status);
    match response.status {
        200..=299 => Ok(()),
        408 | 429 | 500..=599 => Err(AttemptError::Transient {
            found,
            retry_after: retry_after(&response.headers),
        }),
        _ => Err(AttemptError::Permanent(NotifyError::Refused {
            call: call.to_owned(),
            reason: found,
        })),
    }
}

/// What is posted.
fn payload(notification: &Notification) -> Value {
    let report = &notification.report;
    let previous = notification.previous.as_ref();
    let changes = notification.changes();
    let shrunk: Vec<Value> = changes
        .iter()
        .filter(|change| change.has_shrunk())
        .map(shrunk_value)
        .collect();
    json!({
        "text": for_slack(&notification.summary()),
        "event": "backup",
        "outcome": report.outcome(),
        "app": report.app,
        "source": report.source,
        "backup": report.id,
        "archive": report.archive,
        "sha256": report.sha256,
        "bytes": report.bytes,
        "kinds": report.kinds.len(),
        "entities": report.entities(),
        "started": report.started,
        "finished": report.finished,
        "seconds": report.seconds(),
        "snapshot_time": report.snapshot_time,
        "error": report.error,
        "failed": report.failed.iter().map(failure_value).collect::<Vec<_>>(),
        "missing": report.missing,
        "shrunk": shrunk,
        "vanished": notification.vanished(),
        "remarks": report.remarks,
        "previous": previous.map(|previous| json!({
            "backup": previous.id,
            "bytes": previous.bytes,
            "kinds": previous.kinds.len(),
            "entities": previous.entities(),
            "seconds": previous.seconds(),
        })),
    })
}

fn failure_value(failure: &KindFailure) -> Value {
    let KindFailure {
        namespace,
        kind,
        error,
    } = failure;
    json!({"namespace": namespace, "kind": kind, "error": error})
}

fn shrunk_value(change: &KindChange<'_>) -> Value {
    let KindChange { kind, previous } = change;
    json!({
        "namespace": kind.namespace, "kind": kind.kind,
        "entities": kind.entities, "previous_entities": previous.and_then(|then| then.entities),
        "bytes": kind.bytes, "previous_bytes": previous.and_then(|then| then.bytes),
    })
}

/// A text in which Slack sees no command, such as one that calls everybody of a channel.
fn for_slack(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, Namespace};
    use crate::notify::{BackupReport, KindReport};

    #[test]
    fn names_call_nobody_in_slack() {
        let report = BackupReport {
            app: Some("<!channel> & co".to_owned()),
            ..BackupReport::default()
        };
        let payload = payload(&Notification {
            report,
            previous: None,
        });
        let text = payload["text"].as_str().unwrap();
        assert!(text.contains("&lt;!channel&gt; &amp; co"), "{text}");
        assert_eq!(payload["app"], "<!channel> & co");
        assert_eq!(payload["outcome"], "failure");
    }

    #[test]
    fn shrunk_kind_is_posted_with_both_sizes() {
        let report = |entities: u64| BackupReport {
            archive: Some("set.zip".to_owned()),
            kinds: vec![KindReport {
                namespace: Namespace::new("acme"),
                kind: Kind::new("Order"),
                entities: Some(entities),
                bytes: None,
                seconds: Some(1),
            }],
            ..BackupReport::default()
        };
        let shrunk = |now: u64| {
            let notification = Notification {
                report: report(now),
                previous: Some(report(10)),
            };
            payload(&notification)["shrunk"].clone()
        };
        assert_eq!(shrunk(6), json!([]));
        assert_eq!(shrunk(5)[0]["previous_entities"], 10);
        assert_eq!(shrunk(0)[0]["entities"], 0);
    }

    #[test]
    fn only_http_urls_are_posted_to() {
        let usable = |url: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("url");
            std::fs::write(&path, url).unwrap();
            usable_url(&SecretSource::File(path).read().unwrap()).is_some()
        };
        assert!(usable("https://hooks.example.com/T0/B0\n"));
        assert!(!usable("hooks.example.com/T0") && !usable("file:///etc/passwd"));
    }
}
