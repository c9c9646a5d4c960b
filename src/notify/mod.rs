//! Tells people and programs how a backup ended: by mail and by webhook.
//!
//! A notification that cannot be sent is a warning, never the loss of a backup. Each attempt has a
//! time limit, and the attempts have an end.

mod error;
mod mail;
mod report;
mod secret;
mod text;
mod webhook;

use std::time::Duration;

pub use error::NotifyError;
pub use mail::{MailOptions, MailSecurity};
pub use report::{BackupOutcome, BackupReport, KindFailure, KindReport, Notification};
pub use secret::{Secret, SecretSource};
pub use webhook::WebhookOptions;

use crate::google::retry::{LastAttempt, RetryLoop, RetryPolicy};
use crate::progress::Observer;

/// No attempt takes longer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one notification is tried.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    first_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(10),
    timeout: Duration::from_secs(60),
    last_attempt: LastAttempt::BeforeTimeout { min_attempts: 2 },
};

/// When somebody is notified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum NotifyWhen {
    /// After each backup.
    #[default]
    Always,
    /// After a backup that failed, or lacks kinds.
    Failure,
}

/// Who is notified, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifyOptions {
    /// When.
    pub on: NotifyWhen,
    /// By mail.
    pub mail: Option<MailOptions>,
    /// By webhook.
    pub webhook: Option<WebhookOptions>,
}

impl NotifyOptions {
    /// Whether a backup that ended so is one to notify about.
    pub fn is_due(&self, outcome: BackupOutcome) -> bool {
        self.on == NotifyWhen::Always || outcome != BackupOutcome::Success
    }

    /// The secrets that cannot be read here and now.
    pub fn missing_secrets(&self) -> impl Iterator<Item = &SecretSource> {
        let login = self.mail.as_ref().and_then(|mail| mail.login.as_ref());
        let url = self.webhook.as_ref().map(|webhook| &webhook.url);
        let secrets = login.map(|(_, password)| password).into_iter().chain(url);
        secrets.filter(|secret| secret.read().is_err())
    }
}

/// Sends a notification by all ways, and gives what went wrong.
pub async fn notify(
    options: &NotifyOptions,
    notification: &Notification,
    observer: &dyn Observer,
) -> Vec<NotifyError> {
    if !options.is_due(notification.report.outcome()) {
        return Vec::new();
    }
    let mail = async {
        match &options.mail {
            Some(options) => mail::send(options, notification, observer).await,
            None => Ok(()),
        }
    };
    let webhook = async {
        match &options.webhook {
            Some(options) => webhook::post(options, notification, observer).await,
            None => Ok(()),
        }
    };
    let (mail, webhook) = tokio::join!(mail, webhook);
    mail.err().into_iter().chain(webhook.err()).collect()
}

/// The attempts of one notification.
fn retry_loop<'a>(call: &str, observer: &'a dyn Observer) -> RetryLoop<'a> {
    RetryLoop::new(call, RETRY_POLICY, None).observed_by(observer)
}
