//! Who is notified of a backup. Secrets are named by a variable or a file, never typed.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum, ValueHint};
use lettre::message::Mailbox;

use super::values::mail_address;
use crate::notify::{
    MailOptions, MailSecurity, NotifyOptions, NotifyWhen, SecretSource, WebhookOptions,
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Notification")]
#[command(group(ArgGroup::new("notify_way").multiple(true).args(["notify_mail_to", "notify_webhook_env", "notify_webhook_file"])))]
#[command(group(ArgGroup::new("notify_mail_password").args(["notify_mail_password_env", "notify_mail_password_file"])))]
pub struct NotifyArgs {
    /// When to notify [default: always]
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        requires = "notify_way",
        hide_short_help = true
    )]
    pub notify_on: Option<NotifyOnArg>,
    /// Send an email to this address (repeatable)
    #[arg(long, value_name = "ADDRESS", value_parser = mail_address, requires_all = ["notify_mail_from", "notify_mail_host"], hide_short_help = true)]
    pub notify_mail_to: Vec<Mailbox>,
    /// Sender of the email
    #[arg(
        long,
        value_name = "ADDRESS",
        value_parser = mail_address,
        requires = "notify_mail_to",
        hide_short_help = true
    )]
    pub notify_mail_from: Option<Mailbox>,
    /// Mail server
    #[arg(
        long,
        value_name = "HOST",
        requires = "notify_mail_to",
        hide_short_help = true
    )]
    pub notify_mail_host: Option<String>,
    /// Port of the mail server [default: 587, 465 or 25, depending on the security]
    #[arg(
        long,
        value_name = "PORT",
        requires = "notify_mail_to",
        hide_short_help = true
    )]
    pub notify_mail_port: Option<u16>,
    /// Security of the connection to the mail server [default: starttls]
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        requires = "notify_mail_to",
        hide_short_help = true
    )]
    pub notify_mail_security: Option<MailSecurityArg>,
    /// Name to sign in with at the mail server
    #[arg(long, value_name = "NAME", requires_all = ["notify_mail_to", "notify_mail_password"], hide_short_help = true)]
    pub notify_mail_username: Option<String>,
    /// Environment variable that holds the password of the mail server
    #[arg(
        long,
        value_name = "VAR",
        requires = "notify_mail_username",
        hide_short_help = true
    )]
    pub notify_mail_password_env: Option<String>,
    /// File that holds the password of the mail server
    #[arg(long, value_name = "FILE", requires = "notify_mail_username", value_hint = ValueHint::FilePath, hide_short_help = true)]
    pub notify_mail_password_file: Option<PathBuf>,
    /// File with a certificate authority to trust besides those of the system
    #[arg(long, value_name = "FILE", requires = "notify_mail_to", value_hint = ValueHint::FilePath, hide_short_help = true)]
    pub notify_mail_ca_file: Option<PathBuf>,
    /// Post JSON to the URL in this environment variable
    #[arg(
        long,
        value_name = "VAR",
        conflicts_with = "notify_webhook_file",
        hide_short_help = true
    )]
    pub notify_webhook_env: Option<String>,
    /// Post JSON to the URL in this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, hide_short_help = true)]
    pub notify_webhook_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum NotifyOnArg {
    /// After each backup
    Always,
    /// After a backup that failed or lacks kinds
    Failure,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MailSecurityArg {
    /// Switch to TLS with STARTTLS
    #[value(name = "starttls")]
    StartTls,
    /// Use TLS from the start
    Tls,
    /// Use no encryption, for a server on this machine
    None,
}

impl NotifyArgs {
    /// Who is notified; nobody where no option says so.
    pub fn options(&self) -> Option<NotifyOptions> {
        let (mail, webhook) = (self.mail(), self.webhook());
        (mail.is_some() || webhook.is_some()).then_some(NotifyOptions {
            on: match self.notify_on {
                Some(NotifyOnArg::Failure) => NotifyWhen::Failure,
                Some(NotifyOnArg::Always) | None => NotifyWhen::Always,
            },
            mail,
            webhook,
        })
    }

    /// The parser has made sure of sender and server where there is an address.
    fn mail(&self) -> Option<MailOptions> {
        if self.notify_mail_to.is_empty() {
            return None;
        }
        Some(MailOptions {
            host: self.notify_mail_host.clone()?,
            port: self.notify_mail_port,
            security: self.security(),
            login: self.notify_mail_username.clone().zip(self.password()),
            from: self.notify_mail_from.clone()?,
            to: self.notify_mail_to.clone(),
            ca_file: self.notify_mail_ca_file.clone(),
        })
    }

    fn security(&self) -> MailSecurity {
        match self.notify_mail_security {
            Some(MailSecurityArg::StartTls) | None => MailSecurity::StartTls,
            Some(MailSecurityArg::Tls) => MailSecurity::Tls,
            Some(MailSecurityArg::None) => MailSecurity::None,
        }
    }

    fn password(&self) -> Option<SecretSource> {
        secret(
            &self.notify_mail_password_env,
            &self.notify_mail_password_file,
        )
    }

    fn webhook(&self) -> Option<WebhookOptions> {
        let url = secret(&self.notify_webhook_env, &self.notify_webhook_file)?;
        Some(WebhookOptions { url })
    }
}

fn secret(env: &Option<String>, file: &Option<PathBuf>) -> Option<SecretSource> {
    let env = env.clone().map(SecretSource::Env);
    env.or_else(|| file.clone().map(SecretSource::File))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Cli, Command};

    /// What the options of a backup say of notifications.
    fn options(options: &[&str]) -> Option<NotifyOptions> {
        let backup = ["kindpack", "backup", "datastore:shop", "gs://e/", "gs://a/"];
        let cli = Cli::try_parse_from([&backup, options].concat()).unwrap();
        let Command::Backup(args) = cli.command else {
            panic!("not a backup");
        };
        args.notify.options()
    }

    #[test]
    fn mail_is_set_by_options() {
        let options = options(&[
            "--notify-on=failure",
            "--notify-mail-to=ops@example.com",
            "--notify-mail-to=Ann <ann@example.com>",
            "--notify-mail-from=backups@example.com",
            "--notify-mail-host=smtp.example.com",
            "--notify-mail-port=2525",
            "--notify-mail-security=tls",
            "--notify-mail-username=backups",
            "--notify-mail-password-env=SMTP_PASSWORD",
            "--notify-mail-ca-file=ca.pem",
        ]);
        let password = SecretSource::Env("SMTP_PASSWORD".to_owned());
        let mail = MailOptions {
            host: "smtp.example.com".to_owned(),
            port: Some(2525),
            security: MailSecurity::Tls,
            login: Some(("backups".to_owned(), password)),
            from: "backups@example.com".parse().unwrap(),
            to: vec![
                "ops@example.com".parse().unwrap(),
                "Ann <ann@example.com>".parse().unwrap(),
            ],
            ca_file: Some("ca.pem".into()),
        };
        let expected = NotifyOptions {
            on: NotifyWhen::Failure,
            mail: Some(mail),
            webhook: None,
        };
        assert_eq!(options, Some(expected));
    }

    #[test]
    fn webhook_is_set_by_an_option() {
        assert_eq!(options(&[]), None);
        let url = SecretSource::File("hook".into());
        let expected = NotifyOptions {
            webhook: Some(WebhookOptions { url }),
            ..NotifyOptions::default()
        };
        assert_eq!(options(&["--notify-webhook-file=hook"]), Some(expected));
    }
}
