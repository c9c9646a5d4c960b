//! A shop with its exports in one bucket and a vault for archives in another, and what a pack into
//! that vault must come to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use kindpack::model::KindRef;
use serde_json::{Value, json};

use crate::support::data::{self, Made};
use crate::support::fixtures::Set;
use crate::support::gcs_server::{Call, GcsServer};
use crate::support::{Run, Running, TestDir, copy_folder, sha256, sound};

pub const SOURCE: &str = "gs://shop/nightly/";
pub const ARCHIVE: &str = "gs://vault/sets/set.zip";
pub const STORED: &str = "sets/set.zip";
pub const SIDECAR: &str = "sets/set.zip.sha256";

/// What the service answers, and what lies in the credentials file: none of it may be seen in any
/// output.
const CANARIES: [&str; 3] = ["CANARY", "upload_id", "PRIVATE KEY"];

/// Names the service for whoever has credentials: `STORAGE_EMULATOR_HOST` stands for one that asks
/// for none.
const ENDPOINT: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE";

/// A certificate that signs nothing.
const NOBODY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/cloud/nobody.pem");

/// Packs that run at once: they mostly wait.
const AT_ONCE: usize = 8;

/// Two buckets and a place to run programs. The place, with the exports as a folder in it, is
/// shared by all shops of one test.
pub struct BucketFixture {
    pub server: GcsServer,
    pub desk: Arc<TestDir>,
    /// Options of every pack.
    choices: &'static [&'static str],
    local: Arc<OnceLock<(Vec<u8>, String)>>,
}

impl BucketFixture {
    /// A shop whose exports are those of a fixture.
    pub fn of_set(set: &Set) -> Self {
        BucketFixture::of_folder(&[], |desk| {
            copy_folder(set.source.as_ref(), &desk.path("exports"));
            // What the fixtures say of themselves is no part of an export.
            std::fs::remove_file(desk.path("exports/summary.json")).ok();
            std::fs::remove_file(desk.path("exports/entities.json")).ok();
        })
    }

    /// A shop with so many entities of each kind, with blobs of so many bytes that no deflater
    /// makes shorter.
    pub fn of_kinds(kinds: &[(&str, u64, usize)]) -> Self {
        // No level makes noise shorter, and the lowest one finds that out soonest.
        BucketFixture::of_folder(&["--level", "1"], |desk| {
            for (number, (kind, count, blob_len)) in kinds.iter().copied().enumerate() {
                let records: Vec<Vec<u8>> = data::made("shop", "", kind, count, blob_len)
                    .iter()
                    .map(Made::record)
                    .collect();
                let started_micros = data::STARTED_MICROS + number as i64 * 60_000_000;
                data::write_export(
                    &desk.path("exports"),
                    &KindRef::new("", kind),
                    started_micros,
                    &records,
                    1,
                );
            }
        })
    }

    fn of_folder(choices: &'static [&'static str], fill: impl FnOnce(&TestDir)) -> Self {
        let desk = TestDir::new();
        fill(&desk);
        let server = GcsServer::start(&["shop", "vault"]);
        desk.write("key.json", key(&server));
        server.put_folder("shop", "nightly/", &desk.path("exports"));
        BucketFixture {
            server,
            desk: Arc::new(desk),
            choices,
            local: Arc::default(),
        }
    }

    /// Another one with the same exports, and nothing in its vault.
    pub fn another(&self) -> Self {
        let server = self.server.with_bucket_of("shop", &["vault"]);
        BucketFixture {
            server,
            desk: self.desk.clone(),
            choices: self.choices,
            local: self.local.clone(),
        }
    }

    /// The program, for which there is no other service than the test server: it trusts nobody's
    /// certificates.
    fn program(&self, args: &[&str]) -> Command {
        let choices: &[&str] = if args.first() == Some(&"pack") {
            self.choices
        } else {
            &[]
        };
        let mut command = self.desk.kindpack(&[args, choices].concat());
        command
            .env("SSL_CERT_FILE", NOBODY)
            .env_remove("SSL_CERT_DIR");
        command.env("GOOGLE_APPLICATION_CREDENTIALS", self.desk.path("key.json"));
        command
    }

    pub fn kindpack(&self, args: &[&str]) -> Command {
        let mut command = self.program(args);
        command.env("STORAGE_EMULATOR_HOST", self.server.url());
        command
    }

    /// As [`BucketFixture::kindpack`], with the user's credentials.
    pub fn signed_in(&self, args: &[&str]) -> Command {
        let mut command = self.program(args);
        command.env(ENDPOINT, self.server.url());
        command
    }

    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(self.kindpack(args))
    }

    /// Runs `kindpack ARGS` to its end. Whatever it is, no secret may be printed.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Run {
        discreet(sound(self.start(args).wait(), args))
    }

    #[track_caller]
    pub fn expect(&self, code: i32, args: &[&str]) -> Run {
        let run = self.run(args);
        assert_eq!(
            run.code,
            code,
            "kindpack {}: {}",
            args.join(" "),
            run.brief()
        );
        run
    }

    /// As [`BucketFixture::expect`], and demands words on standard error.
    #[track_caller]
    pub fn says(&self, code: i32, args: &[&str], words: &[&str]) -> Run {
        let run = self.expect(code, args);
        for word in words {
            assert!(
                run.err.contains(word),
                "kindpack {}: {word:?} in {}",
                args.join(" "),
                run.brief()
            );
        }
        run
    }

    /// The archive of the same exports, packed on this machine.
    pub fn local(&self) -> &[u8] {
        &self.local_and_digest().0
    }

    fn local_and_digest(&self) -> &(Vec<u8>, String) {
        self.local.get_or_init(|| {
            self.expect(0, &["pack", "exports", "local.zip"]);
            let local = self.desk.read("local.zip");
            let digest = sha256(&local);
            (local, digest)
        })
    }

    /// The archive as it is stored.
    pub fn stored(&self) -> Option<Vec<u8>> {
        self.server
            .get("vault", STORED)
            .map(|object| object.bytes())
    }

    /// Empties the vault.
    pub fn clear(&self) {
        for name in self.server.names("vault") {
            self.server.remove("vault", &name);
        }
        self.server.forget();
    }

    /// How many requests of each sort there were.
    pub fn counts(&self) -> BTreeMap<Call, usize> {
        let mut counts = BTreeMap::new();
        for seen in self.server.seen() {
            *counts.entry(seen.call).or_default() += 1;
        }
        counts
    }

    /// What is not as it must be after a pack that ended well: the right bytes, a true sidecar, and
    /// nothing else in the vault.
    pub fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        let mut demand = |held: bool, flaw: &str| {
            if !held {
                flaws.push(flaw.to_owned());
            }
        };
        let (local, digest) = self.local_and_digest();
        let object = self.server.get("vault", STORED).unwrap_or_default();
        demand(
            object.bytes() == *local,
            "the stored archive holds other bytes",
        );
        demand(
            object.metadata.get("kindpack-sha256") == Some(digest),
            "the archive's metadata tell another digest",
        );
        let sidecar = self
            .server
            .get("vault", SIDECAR)
            .map(|object| object.bytes())
            .unwrap_or_default();
        let sidecar = String::from_utf8_lossy(&sidecar).into_owned();
        let lines: Vec<&str> = sidecar
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        demand(
            lines == [format!("{digest}  set.zip")],
            &format!("the sidecar says {sidecar:?}"),
        );
        let names = self.server.names("vault");
        let others: Vec<&String> = names
            .iter()
            .filter(|name| *name != STORED && *name != SIDECAR)
            .collect();
        demand(
            others.is_empty(),
            &format!(
                "{} other objects are left in the vault, the first is {:?}",
                others.len(),
                others.first()
            ),
        );
        flaws
    }

    /// Demands that a pack ended well.
    #[track_caller]
    pub fn assert_packed(&self) {
        assert_eq!(self.flaws(), [""; 0]);
    }

    /// The bytes of all answers so far.
    pub fn bytes_sent(&self) -> u64 {
        self.server.seen().iter().map(|seen| seen.sent).sum()
    }

    /// A path on the desk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.desk.path(name)
    }

    /// The name of the first object of the shop that ends like this.
    pub fn object(&self, end: &str) -> String {
        self.server
            .names("shop")
            .into_iter()
            .find(|name| name.ends_with(end))
            .unwrap()
    }
}

/// Credentials of a user, who gets tokens from the test server.
fn key(server: &GcsServer) -> String {
    let token_uri = format!("{}/token", server.url());
    json!({
        "type": "authorized_user", "client_id": "CANARY-CLIENT", "client_secret": "CANARY-SECRET", "refresh_token": "CANARY-REFRESH",
        "token_uri": token_uri,
    })
    .to_string()
}

/// Fails where anything was printed that nobody may see.
#[track_caller]
pub fn discreet(run: Run) -> Run {
    for canary in CANARIES {
        assert!(
            !run.text().contains(canary) && !run.err.contains(canary),
            "{canary} in {}\n{}",
            run.text(),
            run.err
        );
    }
    run
}

/// The last event of a run with `--json`.
pub fn last(run: &Run) -> Value {
    run.text()
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_default()
}

/// Tries all cases, several at once; fails with everything that is wrong with any of them.
#[track_caller]
pub fn try_all<T: Sync>(cases: &[T], try_one: impl Fn(&T) -> Vec<String> + Sync) {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let flaws = try_one(case);
                    found.lock().unwrap().extend(flaws);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(
        found.is_empty(),
        "{} flaws in {} cases:\n{}",
        found.len(),
        cases.len(),
        found.join("\n")
    );
}
