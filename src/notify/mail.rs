//! A notification as a mail.

use std::error::Error as _;
use std::path::PathBuf;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{AsyncSmtpTransportBuilder, Error as SmtpError};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use super::error::NotifyError;
use super::report::Notification;
use super::secret::SecretSource;
use super::text::one_line;
use super::{ATTEMPT_TIMEOUT, retry_loop};
use crate::google::http::no_answer_within;
use crate::google::retry::AttemptError;
use crate::progress::Observer;

/// How the connection to a mail server is secured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum MailSecurity {
    /// By STARTTLS, which the server must offer.
    #[default]
    StartTls,
    /// By TLS from the first byte.
    Tls,
    /// Not at all: for a server on this machine.
    None,
}

impl MailSecurity {
    /// The port that is usual for it.
    pub fn default_port(self) -> u16 {
        match self {
            MailSecurity::StartTls => 587,
            MailSecurity::Tls => 465,
            MailSecurity::None => 25,
        }
    }
}

/// A mail server, and who gets mails through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailOptions {
    /// The host of the server.
    pub host: String,
    /// Its port; the usual one without it.
    pub port: Option<u16>,
    /// How the connection is secured.
    pub security: MailSecurity,
    /// Who signs in, with which password; nobody without it.
    pub login: Option<(String, SecretSource)>,
    /// Who sends.
    pub from: Mailbox,
    /// Who gets mails; at least one.
    pub to: Vec<Mailbox>,
    /// A certificate authority that is trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
}

impl MailOptions {
    /// Whether a password would be sent without encryption.
    pub fn exposes_password(&self) -> bool {
        self.login.is_some() && self.security == MailSecurity::None
    }
}

/// Sends a notification.
pub(super) async fn send(
    options: &MailOptions,
    notification: &Notification,
    observer: &dyn Observer,
) -> Result<(), NotifyError> {
    let message = message(options, notification)?;
    let transport: AsyncSmtpTransport<Tokio1Executor> = transport(options)?.build();
    let port = options.port.unwrap_or(options.security.default_port());
    let call = format!("the mail through {}:{port}", options.host);
    let mut retry = retry_loop(&call, observer);
    loop {
        let sent = tokio::time::timeout(ATTEMPT_TIMEOUT, transport.send(message.clone())).await;
        let failed = match sent {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => failed_attempt(&error, &call),
            Err(_) => AttemptError::transient(no_answer_within(ATTEMPT_TIMEOUT)),
        };
        retry.failed(failed).await?;
    }
}

fn message(options: &MailOptions, notification: &Notification) -> Result<Message, NotifyError> {
    let to = options.to.iter().cloned();
    let builder = to.fold(Message::builder(), lettre::message::MessageBuilder::to);
    builder
        .from(options.from.clone())
        .subject(notification.subject())
        .message_id(None)
        .user_agent(concat!("kindpack/", env!("CARGO_PKG_VERSION")).to_owned())
        .header(ContentType::TEXT_PLAIN)
        .body(notification.body())
        .map_err(|error| setup("mail", &error))
}

fn transport(options: &MailOptions) -> Result<AsyncSmtpTransportBuilder, NotifyError> {
    let host = options.host.as_str();
    let port = options.port.unwrap_or(options.security.default_port());
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(port)
        .hello_name(client_id())
        .timeout(Some(ATTEMPT_TIMEOUT))
        .tls(tls(options)?);
    if let Some((username, password)) = &options.login {
        let password = password.read()?.reveal().to_owned();
        builder = builder.credentials(Credentials::new(username.clone(), password));
    }
    Ok(builder)
}

/// How this machine names itself to the server.
fn client_id() -> ClientId {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if !name.is_empty() && name.chars().all(is_name) {
        ClientId::Domain(name)
    } else {
        ClientId::default()
    }
}

fn tls(options: &MailOptions) -> Result<Tls, NotifyError> {
    let parameters = || {
        let mut builder = TlsParameters::builder(options.host.clone());
        if let Some(path) = &options.ca_file {
            let what = path.display().to_string();
            let pem = std::fs::read(path).map_err(|error| setup(&what, &error))?;
            let certificate = Certificate::from_pem(&pem).map_err(|error| setup(&what, &error))?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build().map_err(|error| setup("TLS", &error))
    };
    Ok(match options.security {
        MailSecurity::StartTls => Tls::Required(parameters()?),
        MailSecurity::Tls => Tls::Wrapper(parameters()?),
        MailSecurity::None => Tls::None,
    })
}

fn setup(what: &str, error: &dyn std::error::Error) -> NotifyError {
    NotifyError::Setup {
        what: what.to_owned(),
        reason: one_line(&error.to_string()),
    }
}

/// What a failed attempt means. Of the server's words only the code is shown: it may repeat what it
/// was sent.
fn failed_attempt(error: &SmtpError, call: &str) -> AttemptError<NotifyError> {
    if let Some(code) = error.status() {
        let found = format!("SMTP {code}");
        if error.is_transient() {
            return AttemptError::transient(found);
        }
        return refused(call, found);
    }
    if error.is_client() || error.is_response() || error.is_tls() || is_tls_refusal(error) {
        return refused(call, cause(error));
    }
    AttemptError::transient(cause(error))
}

/// Whether the two ends do not agree on TLS, as with an unknown certificate.
fn is_tls_refusal(error: &SmtpError) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        let io_error = inner.downcast_ref::<std::io::Error>();
        if io_error.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData) {
            return true;
        }
        cause = inner.source();
    }
    false
}

fn refused(call: &str, reason: String) -> AttemptError<NotifyError> {
    AttemptError::Permanent(NotifyError::Refused {
        call: call.to_owned(),
        reason,
    })
}

/// The innermost reason.
fn cause(error: &SmtpError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let reason = if error.is_response() {
        "an answer that is no SMTP".to_owned()
    } else {
        cause.to_string()
    };
    one_line(&reason)
}
