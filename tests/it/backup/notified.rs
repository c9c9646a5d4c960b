//! Notifications of backups of the service, after failures and after kills, and that no secret is
//! in anything that a backup leaves.

use std::process::Command;

use serde_json::Value;

use super::service::Site;
use crate::notify::{Hook, decoded};
use crate::support::gcs_server::{Call as Gcs, Deed as GcsDeed};
use crate::support::mail_server::{MailServer, PASSWORD};
use crate::support::operations::{Call, Deed};
use crate::support::{Run, Running, sound};

/// Each secret of these tests holds this word: password, webhook, credentials and tokens.
const SECRET_MARK: &str = "CANARY";

/// A site whose configuration notifies by mail and by webhook.
struct NotifiedSite<'a> {
    site: Site,
    hook: Hook,
    mail_server: &'a MailServer,
    mails_before: usize,
}

impl<'a> NotifiedSite<'a> {
    fn new(mail_server: &'a MailServer) -> Self {
        let site = Site::new();
        let password = mail_server.write("password", &format!("{PASSWORD}\n"));
        let mail = format!(
            r#"{{ host = "localhost", port = {}, security = "starttls", username = "kindpack", password_file = {password:?}, from = "backups@example.com", to = ["ops@example.com"], ca_file = {:?} }}"#,
            mail_server.port,
            mail_server.ca_file(),
        );
        site.desk.write(
            "kindpack.toml",
            format!(
                r#"
[app.shop]
from = "datastore:shop"
exports = "gs://exports/nightly/"
archive = "gs://vault/archives/"
queue = "queue.yaml"
notify = {{ mail = {mail}, webhook = {{ url_env = "TEST_HOOK" }} }}
"#
            ),
        );
        NotifiedSite {
            site,
            hook: Hook::start(&[]),
            mails_before: mail_server.mails().len(),
            mail_server,
        }
    }

    fn command(&self) -> Command {
        let mut command = self.site.command(&["backup", "--json", "-vv"]);
        command.env("TEST_HOOK", self.hook.url());
        command
    }

    #[track_caller]
    fn back_up(&self, code: i32) -> Run {
        let run = sound(Running::start(self.command()).wait(), &["backup"]);
        assert_eq!(run.code, code, "{}", run.brief());
        assert_secret_free("the output", &(run.text() + &run.err));
        run
    }

    /// Kills a backup while the request that writes an object is held.
    #[track_caller]
    fn kill_at(&self, number: usize, deed: GcsDeed) {
        self.site.gcs.plan(Gcs::Insert, number, deed);
        let mut running = Running::start(self.command());
        let is_held = running.wait_until(|| self.site.gcs.is_holding());
        assert!(is_held, "{number} {deed:?}");
        let run = running.kill();
        assert_secret_free("the output", &(run.text() + &run.err));
        self.site.gcs.forget();
    }

    /// The outcomes that were posted. Each came by mail, too.
    #[track_caller]
    fn outcomes(&self) -> Vec<String> {
        let posts = self.hook.posts();
        let mails = self.mails();
        assert_eq!(posts.len(), mails.len());
        let outcome = |(_, body): &(String, Value)| body["outcome"].as_str().unwrap().to_owned();
        posts.iter().map(outcome).collect()
    }

    /// The mails of this site.
    fn mails(&self) -> Vec<String> {
        let mails = self.mail_server.mails();
        mails[self.mails_before..].iter().map(decoded).collect()
    }

    #[track_caller]
    fn assert_no_secrets(&self) {
        for mail in self.mails() {
            assert_secret_free("a mail", &mail);
        }
        for (_, body) in self.hook.posts() {
            assert_secret_free("a post", &body.to_string());
        }
        for bucket in ["exports", "vault"] {
            for name in self.site.gcs.names(bucket) {
                let object = self.site.gcs.get(bucket, &name).unwrap();
                assert_secret_free(&name, &String::from_utf8_lossy(&object.bytes()));
            }
        }
    }
}

#[track_caller]
fn assert_secret_free(what: &str, text: &str) {
    assert!(!text.contains(SECRET_MARK), "{what}: {text}");
}

#[test]
fn failed_kind_is_named_in_every_notification() {
    let Some(mail_server) = MailServer::start("starttls", 0, "mail about a failed kind") else {
        return;
    };
    let shop = NotifiedSite::new(&mail_server);
    let refusal = Deed::Refuse(403, "The caller lacks a permission.");
    shop.site.operations.plan(Call::Export, 0, refusal);
    shop.back_up(7);
    assert_eq!(shop.outcomes(), ["failure"]);
    let mail = &shop.mails()[0];
    assert!(mail.contains("FAILED: backup of shop"), "{mail}");
    assert!(mail.contains("  (default)/User: "), "{mail}");
    let (failed, _) = mail.split_once("Kinds:").unwrap();
    assert!(!failed.contains("acme/Order"), "{mail}");
    let (_, post) = &shop.hook.posts()[0];
    assert_eq!(post["failed"][0]["kind"], "User", "{post:#}");
    assert!(post["text"].as_str().unwrap().contains("(default)/User"));

    shop.back_up(0);
    assert_eq!(shop.outcomes(), ["failure", "success"]);
    let mail = &shop.mails()[1];
    assert!(mail.contains("OK: backup of shop, 2 kinds"), "{mail}");
    shop.assert_no_secrets();
}

#[test]
fn killed_backup_notifies_of_success_once() {
    let Some(mail_server) = MailServer::start("starttls", 0, "mail after a kill") else {
        return;
    };
    let whole = NotifiedSite::new(&mail_server);
    whole.back_up(0);
    assert_eq!(whole.outcomes(), ["success"]);
    // The last segments of the journal: packed, verified, notified, done.
    let done = whole.site.gcs.count(Gcs::Insert) - 1;
    let notified = done - 1;
    for (number, deed, count) in [
        (notified - 2, GcsDeed::HoldBefore, 1),
        (notified - 2, GcsDeed::HoldAfter, 1),
        (notified - 1, GcsDeed::HoldBefore, 1),
        (notified - 1, GcsDeed::HoldAfter, 1),
        // It is sent, and nobody has recorded that.
        (notified, GcsDeed::HoldBefore, 2),
        (notified, GcsDeed::HoldAfter, 1),
        (done, GcsDeed::HoldBefore, 1),
    ] {
        let shop = NotifiedSite::new(&mail_server);
        shop.kill_at(number, deed);
        let is_sent = number >= notified;
        assert_eq!(shop.outcomes().len(), usize::from(is_sent), "{number}");
        shop.back_up(0);
        let expected = vec!["success"; count];
        assert_eq!(shop.outcomes(), expected, "{number} {deed:?}");
        shop.assert_no_secrets();
    }
}
