//! `prune`: what goes, what stays, and what is never touched, in a folder and in a bucket.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use kindpack::model::KindRef;
use serde_json::Value;

use crate::support::data::{Made, made, write_export};
use crate::support::gcs_server::{Call, Deed, GcsServer};
use crate::support::{Run, Running, TestDir, copy_folder, files_below, sound};

/// Nights in a row, from 1 January 2026 on.
const NIGHTS: i64 = 61;

/// 2026-01-01T01:00:00Z.
const FIRST_NIGHT_MICROS: i64 = 1_767_229_200_000_000;

const DAY_MICROS: i64 = 86_400_000_000;

const POLICY: [&str; 6] = [
    "--keep-daily",
    "7",
    "--keep-weekly",
    "4",
    "--keep-monthly",
    "3",
];

/// The nights of `acme` that [`POLICY`] keeps of all of them: 2 March 2026 is a Monday.
const KEPT: [&str; 10] = [
    "20260131", "20260215", "20260222", "20260224", "20260225", "20260226", "20260227", "20260228",
    "20260301", "20260302",
];

/// Names that no policy is about.
const STRANGERS: [&str; 5] = [
    "acme_backup_20250101010000.zip",
    "notes.txt",
    "other.zip",
    "other.zip.sha256",
    "unsealed.zip",
];

/// Packs one export of a night into an archive of the vault.
fn pack_night(desk: &TestDir, namespace: &str, night: i64, archive: &str) {
    let source = format!("source/{namespace}-{night}");
    let records: Vec<Vec<u8>> = made("demo-src", namespace, "User", 1, 10)
        .iter()
        .map(Made::record)
        .collect();
    write_export(
        &desk.path(&source),
        &KindRef::new(namespace, "User"),
        FIRST_NIGHT_MICROS + night * DAY_MICROS,
        &records,
        1,
    );
    desk.expect(0, &["pack", &source, archive]);
}

/// The archives of all nights with shuffled file times, two nights of another namespace, and files
/// of strangers.
fn vault() -> &'static TestDir {
    static VAULT: OnceLock<TestDir> = OnceLock::new();
    VAULT.get_or_init(|| {
        let desk = TestDir::kept("prune-vault");
        for night in 0..NIGHTS {
            pack_night(&desk, "acme", night, "vault/");
        }
        pack_night(&desk, "", 3, "vault/");
        pack_night(&desk, "", 4, "vault/");
        // Its name says a later time than its manifest.
        pack_night(&desk, "acme", 5, "vault/acme_backup_20990101010000.zip");
        add_strangers(&desk);
        shuffle_times(&desk.path("vault"));
        desk
    })
}

fn add_strangers(desk: &TestDir) {
    pack_night(desk, "acme", 6, "vault/unsealed.zip");
    fs::remove_file(desk.path("vault/unsealed.zip.sha256")).unwrap();
    let foreign = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    desk.write("vault/other.zip", foreign);
    let sidecar = format!("{}  other.zip\n", crate::support::sha256(foreign));
    desk.write("vault/other.zip.sha256", sidecar);
    desk.write("vault/acme_backup_20250101010000.zip", "no zip");
    desk.write("vault/notes.txt", "notes");
    desk.write("vault/acme_backup_20260101010000.zip.minisig", "signature");
}

/// Gives the files times that say nothing of their age.
fn shuffle_times(folder: &Path) {
    for (number, path) in files_below(folder).into_values().enumerate() {
        let seconds = 1_000_000_000 + (number as u64 * 7_919) % 1_009 * 86_400;
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .unwrap();
    }
}

/// A copy of the vault that a test may change.
fn own_vault() -> TestDir {
    let desk = TestDir::new();
    copy_folder(&vault().path("vault"), &desk.path("vault"));
    shuffle_times(&desk.path("vault"));
    desk
}

/// What should be in the vault once the policy has been applied.
fn remaining() -> BTreeSet<String> {
    let archives = KEPT
        .iter()
        .map(|night| format!("acme_backup_{night}010000.zip"))
        .chain(["20260104", "20260105"].map(|night| format!("default_backup_{night}010000.zip")));
    archives
        .flat_map(|name| [format!("{name}.sha256"), name])
        .chain(STRANGERS.map(str::to_owned))
        .collect()
}

fn names(desk: &TestDir) -> BTreeSet<String> {
    desk.names_in("vault").into_iter().collect()
}

fn decisions(run: &Run, decision: &str) -> usize {
    let events = run.events();
    let is_one = |event: &&Value| event["decision"] == decision;
    events.iter().filter(is_one).count()
}

#[test]
fn policy_keeps_archives_by_their_backup_ids() {
    let desk = own_vault();
    let args = [&["prune", "vault"][..], &POLICY].concat();
    let done = desk.json(0, &args);
    assert_eq!(names(&desk), remaining());
    assert_eq!(
        (
            &done["kept"],
            &done["removed"],
            &done["left"],
            &done["held"]
        ),
        (&12.into(), &52.into(), &3.into(), &0.into())
    );
    // Again, nothing goes.
    assert_eq!(desk.json(0, &args)["removed"], 0);
    assert_eq!(names(&desk), remaining());
}

/// A name in the vault, of a night of `acme`.
fn acme(night: &str, ending: &str) -> String {
    format!("acme_backup_{night}010000.zip{ending}")
}

#[test]
fn leftover_of_interrupted_prune_goes() {
    let desk = own_vault();
    let sidecar = |night: &str| format!("{}  {}\n", "0".repeat(64), acme(night, ""));
    for (night, ending, bytes) in [
        ("20251230", ".sha256", sidecar("20251230")),
        ("20251230", ".minisig", "signature".to_owned()),
        // No archive of its label stays that is newer; and what says something else.
        ("20990102", ".sha256", sidecar("20990102")),
        ("20251229", ".sha256", sidecar("20251228")),
    ] {
        desk.write(&format!("vault/{}", acme(night, ending)), bytes);
    }
    let args = [&["prune", "vault"][..], &POLICY].concat();
    assert_eq!(desk.json(0, &args)["removed"], 52);
    let mut expected = remaining();
    expected.extend(["20990102", "20251229"].map(|night| acme(night, ".sha256")));
    assert_eq!(names(&desk), expected);
}

#[test]
fn dry_run_shows_the_same_and_changes_nothing() {
    let desk = own_vault();
    let before = names(&desk);
    let args = [&["prune", "vault", "--dry-run", "--json"][..], &POLICY].concat();
    let run = desk.expect(0, &args);
    assert_eq!(names(&desk), before);
    assert_eq!(
        ["keep", "remove", "leave"].map(|decision| decisions(&run, decision)),
        [12, 52, 3]
    );
    assert_eq!(run.last_event()["removed"], 0);
}

#[test]
fn copy_with_the_usual_name_stays() {
    let desk = TestDir::new();
    pack_night(&desk, "acme", 1, "vault/");
    pack_night(&desk, "acme", 1, "vault/copy.zip");
    pack_night(&desk, "acme", 1, "vault/a.zip");
    desk.expect(0, &["prune", "vault", "--keep-last", "1"]);
    let name = "acme_backup_20260102010000.zip";
    let kept = [name.to_owned(), format!("{name}.sha256")];
    assert_eq!(names(&desk), BTreeSet::from(kept));
    desk.expect(0, &["list", "vault/"]);
}

#[test]
fn namespace_narrows_what_may_go() {
    let desk = own_vault();
    let before = names(&desk);
    let args = ["prune", "vault", "--keep-last", "1", "--namespace"];
    desk.expect(0, &[&args[..], &["(default)"]].concat());
    let gone: Vec<String> = before.difference(&names(&desk)).cloned().collect();
    let old = "default_backup_20260104010000.zip";
    assert_eq!(gone, [old.to_owned(), format!("{old}.sha256")]);
}

#[test]
fn policy_without_a_rule_is_refused() {
    let desk = TestDir::new();
    fs::create_dir(desk.path("vault")).unwrap();
    desk.expect(2, &["prune", "vault"]);
    desk.expect(2, &["prune", "vault", "--keep-last", "0"]);
    desk.expect(2, &["prune", "nowhere", "--keep-last", "1"]);
    desk.expect(0, &["prune", "vault", "--keep-last", "1"]);
}

#[test]
fn damaged_archive_that_stays_stops_every_removal() {
    // Cut off, changed in its manifest, changed in its directory.
    for damage in [0, 300, 30] {
        let desk = own_vault();
        let name = "vault/acme_backup_20260215010000.zip";
        let mut bytes = desk.read(name);
        match damage {
            0 => bytes.truncate(bytes.len() / 2),
            from_end => {
                let at = bytes.len() - from_end;
                bytes[at] ^= 0x55;
            }
        }
        desk.write(name, bytes);
        let before = names(&desk);
        let args = [&["prune", "vault"][..], &POLICY].concat();
        let run = desk.expect(4, &args);
        assert!(run.err.contains("20260215"), "{}", run.brief());
        assert_eq!(names(&desk), before, "damage {damage}");
    }
}

#[test]
fn damaged_archive_that_no_rule_keeps_is_left() {
    let desk = own_vault();
    let name = "vault/acme_backup_20260110010000.zip";
    let bytes = desk.read(name);
    desk.write(name, &bytes[..bytes.len() / 2]);
    let args = [&["prune", "vault"][..], &POLICY].concat();
    desk.expect(0, &args);
    assert!(names(&desk).is_superset(&remaining()));
    assert!(desk.path(name).exists());
}

/// The vault in a bucket.
fn bucket() -> (GcsServer, TestDir) {
    let server = GcsServer::start(&["vault"]);
    server.page(1_000);
    server.put_folder("vault", "sets/", &vault().path("vault"));
    (server, TestDir::new())
}

fn prune_bucket(server: &GcsServer, desk: &TestDir, code: i32) -> Run {
    let args = [&["prune", "gs://vault/sets/", "--json"][..], &POLICY].concat();
    let mut command = desk.kindpack(&args);
    command.env("STORAGE_EMULATOR_HOST", server.url());
    let run = sound(Running::start(command).wait(), &args);
    assert_eq!(run.code, code, "{}", run.brief());
    run
}

fn names_in_bucket(server: &GcsServer) -> BTreeSet<String> {
    let names = server.names("vault").into_iter();
    names
        .map(|name| name.trim_start_matches("sets/").to_owned())
        .collect()
}

#[test]
fn bucket_is_pruned_as_a_folder_is() {
    let (server, desk) = bucket();
    server.keep_versions();
    server.plan(Call::Delete, 3, Deed::LoseAnswer);
    server.plan(Call::Delete, 5, Deed::Status(503));
    let run = prune_bucket(&server, &desk, 0);
    assert_eq!(run.last_event()["removed"], 52);
    assert_eq!(names_in_bucket(&server), remaining());
    assert!(server.unfired().is_empty());
    // Each is deleted in the generation that was looked at, and stays as a noncurrent version.
    let seen = server.seen();
    let mut deletes = seen.iter().filter(|seen| seen.call == Call::Delete);
    assert!(deletes.all(|seen| seen.query.contains("ifGenerationMatch=")));
    assert_eq!(server.noncurrent().len(), 52 * 2 + 1);
}

#[test]
fn held_archive_is_reported_and_left() {
    let (server, desk) = bucket();
    let held = "sets/acme_backup_20260103010000.zip";
    server.alter("vault", held, |object| object.is_held = true);
    let run = prune_bucket(&server, &desk, 0);
    let done = run.last_event();
    assert_eq!((&done["removed"], &done["held"]), (&51.into(), &1.into()));
    let warning = run
        .events()
        .into_iter()
        .find(|event| event["event"] == "warning");
    let warning = warning.unwrap()["warning"].to_string();
    assert!(
        warning.contains(held) && warning.contains("temporary hold"),
        "{warning}"
    );
    let mut expected = remaining();
    let base = held.trim_start_matches("sets/");
    expected.extend([base.to_owned(), format!("{base}.sha256")]);
    assert_eq!(names_in_bucket(&server), expected);
}

#[test]
fn archive_replaced_meanwhile_is_left() {
    let (server, desk) = bucket();
    server.plan(Call::Delete, 0, Deed::Replace);
    let run = prune_bucket(&server, &desk, 0);
    assert_eq!(run.last_event()["held"], 1);
    assert!(names_in_bucket(&server).contains("acme_backup_20260101010000.zip"));
}

#[test]
fn missing_right_to_delete_is_a_failure() {
    let (server, desk) = bucket();
    let right = |permission| crate::support::gcs_server::Right {
        permission,
        prefix: String::new(),
    };
    server.allow_only(vec![
        right("storage.objects.list"),
        right("storage.objects.get"),
    ]);
    let run = prune_bucket(&server, &desk, 6);
    assert!(
        run.err.contains("storage.objects.delete"),
        "{}",
        run.brief()
    );
    assert_eq!(names_in_bucket(&server), names(vault()));
}
