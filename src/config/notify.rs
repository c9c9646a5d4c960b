//! `notify`: who is told how a backup ended. Secrets are named, never written.

use std::path::{Path, PathBuf};

use lettre::message::Mailbox;
use serde::Deserialize;
use toml::Spanned;

use crate::notify::{
    MailOptions, MailSecurity, NotifyOptions, NotifyWhen, SecretSource, WebhookOptions,
};
use crate::plan::profile::{ConfigFault, Parsed, values};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenNotify {
    on: Option<NotifyWhen>,
    mail: Option<Spanned<WrittenMail>>,
    webhook: Option<Spanned<WrittenWebhook>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMail {
    host: String,
    port: Option<u16>,
    security: Option<MailSecurity>,
    username: Option<String>,
    password_env: Option<String>,
    password_file: Option<PathBuf>,
    from: Parsed<Mailbox>,
    to: Vec<Parsed<Mailbox>>,
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWebhook {
    url_env: Option<String>,
    url_file: Option<PathBuf>,
}

impl WrittenNotify {
    pub(super) fn finish(self, place: usize, folder: &Path) -> Result<NotifyOptions, ConfigFault> {
        if self.mail.is_none() && self.webhook.is_none() {
            return Err((place, "notify: mail or webhook is needed".to_owned()));
        }
        let mail = self.mail.map(|mail| {
            let place = mail.span().start;
            let finished = mail.into_inner().finish(folder);
            finished.map_err(|fault| (place, fault))
        });
        let webhook = self.webhook.map(|webhook| {
            let place = webhook.span().start;
            let finished = webhook.into_inner().finish(folder);
            finished.map_err(|fault| (place, fault))
        });
        Ok(NotifyOptions {
            on: self.on.unwrap_or_default(),
            mail: mail.transpose()?,
            webhook: webhook.transpose()?,
        })
    }
}

impl WrittenMail {
    fn finish(self, folder: &Path) -> Result<MailOptions, String> {
        let security = self.security.unwrap_or_default();
        let password = secret("password", self.password_env, self.password_file, folder)?;
        let login = match (self.username, password) {
            (Some(username), Some(password)) => Some((username, password)),
            (None, None) => None,
            (Some(_), None) => {
                return Err("mail: username needs password_env or password_file".to_owned());
            }
            (None, Some(_)) => return Err("mail: a password needs username".to_owned()),
        };
        if self.to.is_empty() {
            return Err("mail: to needs an address".to_owned());
        }
        let options = MailOptions {
            host: self.host,
            port: self.port,
            security,
            login,
            from: self.from.0,
            to: values(self.to),
            ca_file: self.ca_file.map(|path| folder.join(path)),
        };
        if options.exposes_password() {
            return Err("mail: no password is sent with security = \"none\"".to_owned());
        }
        Ok(options)
    }
}

impl WrittenWebhook {
    fn finish(self, folder: &Path) -> Result<WebhookOptions, String> {
        let url = secret("url", self.url_env, self.url_file, folder)?;
        let url = url.ok_or("webhook: url_env or url_file is needed")?;
        Ok(WebhookOptions { url })
    }
}

/// Where a secret is, by `…_env` or `…_file`.
fn secret(
    key: &str,
    env: Option<String>,
    file: Option<PathBuf>,
    folder: &Path,
) -> Result<Option<SecretSource>, String> {
    match (env, file) {
        (Some(_), Some(_)) => Err(format!("{key}_env and {key}_file exclude one another")),
        (Some(name), None) => Ok(Some(SecretSource::Env(name))),
        (None, Some(path)) => Ok(Some(SecretSource::File(folder.join(path)))),
        (None, None) => Ok(None),
    }
}
