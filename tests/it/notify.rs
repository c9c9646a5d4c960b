//! Notifications about backups: mails through a real server, posts to a webhook, and what is never
//! in any message.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kindpack::model::{Kind, Namespace, Timestamp};
use kindpack::notify::{
    BackupReport, KindReport, MailOptions, MailSecurity, Notification, NotifyOptions, NotifyWhen,
    SecretSource, WebhookOptions, notify,
};
use kindpack::progress::{Event, Observer};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::http_server::{HttpServer, read_body, respond};
use crate::support::mail_server::{MailServer, PASSWORD};

/// A path of a webhook that nobody may see.
const HOOK: &str = "/services/CANARY-TOKEN";

/// A backup that went well, or did not.
fn notification(is_good: bool) -> Notification {
    let time = |text: &str| -> Option<Timestamp> { Some(text.parse().unwrap()) };
    let report = BackupReport {
        app: Some("Läden".to_owned()),
        source: "datastore:shop".to_owned(),
        id: Some("20260302010000".to_owned()),
        archive: is_good.then(|| "gs://vault/all_backup_20260302010000.zip".to_owned()),
        kinds: vec![KindReport {
            namespace: Namespace::new("acme"),
            kind: Kind::new("Größe 表"),
            entities: Some(7),
            bytes: Some(700),
            seconds: Some(3),
        }],
        started: time("2026-03-02T01:00:00Z"),
        finished: time("2026-03-02T01:00:09Z"),
        ..BackupReport::default()
    };
    Notification {
        report,
        previous: None,
    }
}

/// Keeps what is observed.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }

    fn start_phase(&self, _: &'static str, _: u64) {}

    fn start_entry(&self, _: &str) {}

    fn advance(&self, _: u64, _: u64) {}

    fn finish_phase(&self) {}
}

/// Sends a notification; gives the warnings. No secret may be in them, or in what was observed.
#[track_caller]
fn send(options: &NotifyOptions, notification: &Notification) -> Vec<String> {
    let log = Log::default();
    let errors = Runtime::new()
        .unwrap()
        .block_on(notify(options, notification, &log));
    let seen = format!("{errors:?} {:?} {options:?}", log.0.lock().unwrap());
    assert!(!seen.contains("CANARY"), "{seen}");
    errors.iter().map(ToString::to_string).collect()
}

fn mail(server: &MailServer, security: MailSecurity) -> NotifyOptions {
    let password = server.write("password", &format!("{PASSWORD}\n"));
    let mail = MailOptions {
        host: "localhost".to_owned(),
        port: Some(server.port),
        security,
        login: Some(("kindpack".to_owned(), SecretSource::File(password))),
        from: "Backups <backups@example.com>".parse().unwrap(),
        to: vec![
            "ops@example.com".parse().unwrap(),
            "Ann <ann@example.com>".parse().unwrap(),
        ],
        ca_file: Some(server.ca_file()),
    };
    NotifyOptions {
        on: NotifyWhen::Always,
        mail: Some(mail),
        webhook: None,
    }
}

/// The header of a mail, and its text.
pub fn decoded(mail: &Value) -> String {
    let content = mail["content"].as_str().unwrap().replace("=\r\n", "");
    content.replace("=C3=B6", "ö").replace("=C3=9F", "ß")
}

#[test]
fn mail_arrives_over_starttls_and_tls() {
    for (security, word) in [
        (MailSecurity::StartTls, "starttls"),
        (MailSecurity::Tls, "tls"),
    ] {
        let Some(server) = MailServer::start(word, 0, "mail over TLS") else {
            return;
        };
        assert_eq!(send(&mail(&server, security), &notification(true)), [""; 0]);
        let mails = server.mails();
        assert_eq!(mails.len(), 1);
        let mail = &mails[0];
        assert_eq!(
            (&mail["security"], &mail["login"], &mail["from"]),
            (
                &word.into(),
                &"kindpack".into(),
                &"backups@example.com".into()
            )
        );
        assert_eq!(mail["to"].as_array().unwrap().len(), 2);
        let text = decoded(mail);
        assert!(text.contains("Subject: kindpack: OK: backup of "), "{text}");
        assert!(text.contains("acme/Größe"), "{text}");
        assert!(
            text.contains("Date: ") && !text.contains("CANARY"),
            "{text}"
        );
    }
}

#[test]
fn unknown_certificate_stops_the_mail() {
    let Some(server) = MailServer::start("starttls", 0, "mail with an unknown certificate") else {
        return;
    };
    let mut options = mail(&server, MailSecurity::StartTls);
    options.mail.as_mut().unwrap().ca_file = None;
    let warnings = send(&options, &notification(true));
    assert!(warnings[0].contains("certificate"), "{warnings:?}");
    assert_eq!(server.mails().len(), 0);
}

#[test]
fn server_without_starttls_gets_no_password() {
    let Some(server) = MailServer::start("none", 0, "mail without STARTTLS") else {
        return;
    };
    let warnings = send(&mail(&server, MailSecurity::StartTls), &notification(true));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(server.mails().len(), 0);
}

#[test]
fn wrong_password_is_one_warning() {
    let Some(server) = MailServer::start("tls", 0, "mail with a wrong password") else {
        return;
    };
    let options = mail(&server, MailSecurity::Tls);
    server.write("password", "CANARY-WRONG");
    let warnings = send(&options, &notification(true));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("SMTP 535"), "{warnings:?}");
    assert_eq!(server.mails().len(), 0);
}

#[test]
fn mail_refused_for_now_is_sent_again() {
    let Some(server) = MailServer::start("starttls", 1, "mail that is sent again") else {
        return;
    };
    let options = mail(&server, MailSecurity::StartTls);
    assert_eq!(send(&options, &notification(true)), [""; 0]);
    assert_eq!(server.mails().len(), 1);
}

/// A webhook, and what was posted to it.
pub struct Hook {
    server: HttpServer,
    posts: Arc<Mutex<Vec<(String, Value)>>>,
    folder: tempfile::TempDir,
}

impl Hook {
    /// A webhook that answers with these statuses, then with 200.
    pub fn start(statuses: &[u16]) -> Self {
        let posts: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (kept, statuses) = (posts.clone(), statuses.to_vec());
        let server = HttpServer::serve(HttpServer::bind("127.0.0.1:0"), move |request| {
            let (kept, statuses) = (kept.clone(), statuses.clone());
            async move {
                let path = request.uri().path().to_owned();
                let body = read_body(request.into_body()).await?;
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let mut kept = kept.lock().unwrap();
                kept.push((path, body));
                let status = statuses.get(kept.len() - 1).copied().unwrap_or(200);
                let elsewhere = ("location", "http://127.0.0.1:9/CANARY".to_owned());
                Ok(respond(status, [elsewhere], "CANARY-WORDS"))
            }
        });
        Hook {
            server,
            posts,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The URL of the webhook.
    pub fn url(&self) -> String {
        format!("{}{HOOK}", self.server.url())
    }

    fn options(&self, on: NotifyWhen) -> NotifyOptions {
        let path: PathBuf = self.folder.path().join("url");
        std::fs::write(&path, format!("{}\n", self.url())).unwrap();
        let webhook = WebhookOptions {
            url: SecretSource::File(path),
        };
        NotifyOptions {
            on,
            mail: None,
            webhook: Some(webhook),
        }
    }

    /// What was posted: the path and the body.
    pub fn posts(&self) -> Vec<(String, Value)> {
        self.posts.lock().unwrap().clone()
    }
}

#[test]
fn webhook_gets_text_and_fields() {
    let hook = Hook::start(&[503]);
    let options = hook.options(NotifyWhen::Always);
    assert_eq!(send(&options, &notification(true)), [""; 0]);
    let posts = hook.posts();
    assert_eq!(posts.len(), 2, "one that failed, and one that did not");
    let (path, body) = &posts[1];
    assert_eq!(path, HOOK);
    assert!(body["text"].as_str().unwrap().starts_with("kindpack: OK: "));
    assert_eq!(
        (&body["event"], &body["outcome"], &body["entities"]),
        (&"backup".into(), &"success".into(), &7.into())
    );
    assert_eq!(body["archive"], "gs://vault/all_backup_20260302010000.zip");
}

#[test]
fn refusing_webhook_warns_without_its_url() {
    for status in [404, 302] {
        let hook = Hook::start(&[status]);
        let warnings = send(&hook.options(NotifyWhen::Always), &notification(true));
        assert!(
            warnings[0].ends_with(&format!("HTTP {status}")),
            "{warnings:?}"
        );
        assert_eq!(hook.posts().len(), 1);
    }
}

#[test]
fn success_is_silent_where_only_failures_count() {
    let hook = Hook::start(&[]);
    let options = hook.options(NotifyWhen::Failure);
    send(&options, &notification(true));
    assert_eq!(hook.posts().len(), 0);
    send(&options, &notification(false));
    assert_eq!(hook.posts()[0].1["outcome"], "failure");
}

#[test]
fn missing_secret_is_a_warning() {
    let options = NotifyOptions {
        webhook: Some(WebhookOptions {
            url: SecretSource::File("/nonexistent/url".into()),
        }),
        ..NotifyOptions::default()
    };
    let warnings = send(&options, &notification(true));
    assert!(warnings[0].contains("/nonexistent/url"), "{warnings:?}");
}
