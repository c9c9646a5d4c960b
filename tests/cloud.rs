//! Cloud Storage from outside: the program packs from and to buckets, reads archives where they lie, and comes over what networks do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod gcs_server;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gcs_server::{Call, Deed, GcsServer, Right};
use kindpack::model::Pair;
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
const SOURCE: &str = "gs://shop/nightly/";
const ARCHIVE: &str = "gs://vault/sets/set.zip";

/// What the service answers with a canary, and what lies in the credentials file: neither may be seen in any output.
const CANARIES: [&str; 3] = ["CANARY-UPLOAD", "CANARY-KEY", "upload_id"];

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ran = Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) };
        for canary in CANARIES {
            assert!(!ran.out.contains(canary) && !ran.err.contains(canary), "{canary} in\n{}\n{}", ran.out, ran.err);
        }
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        ran
    }

    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }

    /// The last event.
    fn last(&self) -> Value {
        serde_json::from_str(self.out.lines().last().unwrap_or_default()).unwrap_or_default()
    }
}

struct Shop {
    server: GcsServer,
    folder: tempfile::TempDir,
}

impl Shop {
    /// A bucket with the exports of the fixture, and an empty one.
    fn open() -> Self {
        let server = GcsServer::start(&["shop", "vault"]);
        server.put_folder("shop", "nightly/", &Path::new(FIXTURES).join("managed"));
        server.remove("shop", "nightly/summary.json");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key.json"), r#"{"type": "service_account", "private_key": "CANARY-KEY"}"#).unwrap();
        Shop { server, folder }
    }

    /// As [`Shop::open`], with some megabytes that no deflater makes shorter: objects of several pieces.
    fn large() -> Self {
        Shop::of_entities(&[("Image", 9), ("Note", 11)])
    }

    /// So many entities of a megabyte of each kind.
    fn of_entities(kinds: &[(&str, u64)]) -> Self {
        let shop = Shop { server: GcsServer::start(&["shop", "vault"]), folder: tempfile::tempdir().unwrap() };
        std::fs::write(shop.path("key.json"), "CANARY-KEY").unwrap();
        for (number, (kind, count)) in kinds.iter().copied().enumerate() {
            let records: Vec<Vec<u8>> =
                support::data::made("shop", "", kind, count, 1_000_000).iter().map(support::data::Made::record).collect();
            let pair = Pair::new("", kind);
            support::data::write_export(&shop.path("copy"), &pair, support::data::STARTED_MICROS + number as i64 * 60_000_000, &records, 1);
        }
        shop.server.put_folder("shop", "nightly/", &shop.path("copy"));
        shop.run(&["pack", "copy", "local.zip"]).ok();
        shop
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindpack"));
        command.args(args).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.folder.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("STORAGE_EMULATOR_HOST", self.server.url()).env("GOOGLE_APPLICATION_CREDENTIALS", self.folder.path().join("key.json"));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::new(self.command(args).output().unwrap())
    }

    /// As [`Shop::run`], with little patience, so that a test need not wait.
    fn hurried(&self, args: &[&str]) -> Ran {
        let mut all = args.to_vec();
        all.extend(["--retry-time", "10s", "--idle-time", "600ms", "--verbose", "--json"]);
        self.run(&all)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The archive of the same set, packed on this machine.
    fn local_pack(&self) -> Vec<u8> {
        let source = Path::new(FIXTURES).join("managed");
        let copy = self.path("copy");
        if !copy.exists() {
            copy_folder(&source, &copy);
            std::fs::remove_file(copy.join("summary.json")).unwrap();
            self.run(&["pack", "copy", "local.zip"]).ok();
        }
        std::fs::read(self.path("local.zip")).unwrap()
    }

    fn stored(&self) -> Option<Vec<u8>> {
        self.server.get("vault", "sets/set.zip").map(|object| object.bytes())
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy_folder(&entry.path(), &target) } else { std::fs::copy(entry.path(), target).map(|_| ()).unwrap() }
    }
}

#[test]
fn a_set_goes_from_bucket_to_bucket_and_is_read_where_it_lies() {
    let shop = Shop::open();
    shop.run(&["pack", SOURCE, ARCHIVE]).ok();
    let local = shop.local_pack();
    assert!(shop.stored().unwrap() == local, "the bytes are those of the local pack");
    let object = shop.server.get("vault", "sets/set.zip").unwrap();
    let sidecar = shop.server.get("vault", "sets/set.zip.sha256").unwrap();
    assert_eq!(object.metadata["kindpack-sha256"], String::from_utf8(sidecar.bytes()).unwrap()[..64]);
    let (offset, len) = object.metadata["kindpack-manifest"].split_once('+').unwrap();
    let (offset, len): (usize, usize) = (offset.parse().unwrap(), len.parse().unwrap());
    let manifest: Value = serde_json::from_slice(&local[offset..offset + len]).unwrap();
    assert_eq!(object.metadata["kindpack-backup-id"], manifest["backup"]["id"]);
    assert_eq!(object.content_type.as_deref(), Some("application/zip"));

    let listed = shop.run(&["list", ARCHIVE, "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&listed.out).unwrap(), manifest);
    assert_eq!(listed.out, shop.run(&["list", "local.zip", "--json"]).ok().out);
    shop.run(&["verify", ARCHIVE]).ok();
    assert_eq!(shop.run(&["cat", ARCHIVE, "*"]).ok().out, shop.run(&["cat", "local.zip", "*"]).ok().out);
    shop.run(&["extract", ARCHIVE, "gs://vault/back/"]).ok();
    for name in shop.server.names("shop") {
        let back = name.replace("nightly/", "back/");
        assert_eq!(shop.server.get("vault", &back).unwrap().bytes(), shop.server.get("shop", &name).unwrap().bytes(), "{back}");
    }
    shop.run(&["plan", ARCHIVE, "--target", "ndjson:out", "-o", "plan.json"]).ok();
    let plan: Value = serde_json::from_slice(&std::fs::read(shop.path("plan.json")).unwrap()).unwrap();
    assert_eq!(plan["archive"]["location"], ARCHIVE);
    shop.run(&["restore", "plan.json"]).ok();
    shop.run(&["restore", "local.zip", "--target", "ndjson:out2"]).ok();
    let files = |name: &str| {
        let output = Command::new("find").arg(".").args(["-type", "f"]).current_dir(shop.path(name)).output().unwrap();
        let mut names: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        names.sort();
        names.into_iter().map(|file| (std::fs::read(shop.path(name).join(&file)).unwrap(), file)).collect::<Vec<_>>()
    };
    assert!(files("out") == files("out2") && !files("out").is_empty());
    assert_eq!(shop.run(&["pack", SOURCE, ARCHIVE]).code, 5, "the name is taken");
    assert!(shop.server.seen().iter().all(|seen| seen.agent.contains("kindpack/")), "every request says who asks");
}

#[test]
fn an_archive_that_ends_in_a_slash_is_named_by_its_set_and_found_again() {
    let shop = Shop::open();
    // A bucket alone is a folder, too: no object has its name.
    shop.run(&["pack", SOURCE, "gs://vault", "--dry-run"]).ok();
    assert_eq!(shop.server.names("vault"), [""; 0]);
    let packed = shop.run(&["pack", SOURCE, "gs://vault/", "--json"]).ok().last();
    let name = packed["archive"].as_str().unwrap().strip_prefix("gs://vault/").unwrap().to_owned();
    assert!(name.starts_with("all_backup_"), "{name}");
    assert!(shop.server.get("vault", &name).is_some());
    assert!(shop.run(&["list", "gs://vault/"]).ok().err.contains(&name));
}

#[test]
fn an_archive_is_opened_with_few_requests_and_little_read() {
    let shop = Shop::open();
    shop.run(&["pack", SOURCE, ARCHIVE]).ok();
    for args in [vec!["list", ARCHIVE], vec!["plan", ARCHIVE, "--target", "ndjson:x"]] {
        shop.server.forget();
        shop.run(&args).ok();
        let seen = shop.server.seen();
        assert!(seen.len() <= 4 && seen.iter().map(|seen| seen.sent).sum::<u64>() <= 2 << 20, "{args:?}: {seen:?}");
    }
    shop.server.forget();
    shop.run(&["cat", ARCHIVE, "acme/*"]).ok();
    let read: u64 = shop.server.seen().iter().map(|seen| seen.sent).sum();
    assert!(read < 128 << 10, "{read} bytes for the kinds of one namespace");
}

#[test]
fn a_large_archive_goes_up_in_parts_that_are_joined_and_taken_away() {
    let shop = Shop::open();
    let local = shop.local_pack();
    let parts = ["--parts-above", "1", "--part-size", "1KiB"];
    let count = local.len().div_ceil(1 << 10);
    assert!(count > 64, "the tree of joins is to have several levels: {count} parts");
    let ran = shop.run(&[&["pack", SOURCE, ARCHIVE, "--storage-class", "NEARLINE", "--kms-key", "projects/p/k"][..], &parts].concat());
    ran.ok();
    assert!(shop.stored().unwrap() == local);
    let object = shop.server.get("vault", "sets/set.zip").unwrap();
    assert_eq!((object.md5, object.storage_class.as_deref(), object.kms_key.as_deref()), (None, Some("NEARLINE"), Some("projects/p/k")));
    assert!(object.metadata.contains_key("kindpack-sha256"));
    assert_eq!(shop.server.names("vault"), ["sets/set.zip", "sets/set.zip.sha256"]);
    let inserted = shop.server.count(Call::Insert);

    // A pack that comes to its end with the parts there uploads none of them again.
    shop.run(&[&["pack", SOURCE, ARCHIVE, "--overwrite", "--keep-parts"][..], &parts].concat()).ok();
    assert!(shop.server.names("vault").len() > count);
    shop.server.remove("vault", "sets/set.zip");
    shop.server.remove("vault", "sets/set.zip.sha256");
    shop.server.forget();
    shop.run(&[&["pack", SOURCE, ARCHIVE][..], &parts].concat()).ok();
    assert_eq!((shop.server.count(Call::Insert), shop.server.count(Call::Put)), (1, 0), "only the sidecar goes up, not {inserted} objects");
    assert!(shop.stored().unwrap() == local);
    assert_eq!(shop.server.names("vault"), ["sets/set.zip", "sets/set.zip.sha256"]);
}

#[test]
fn bad_places_are_told_in_a_sentence_each() {
    let shop = Shop::open();
    let said = |args: &[&str], code: i32, words: &str| {
        let ran = shop.run(args);
        assert!(ran.code == code && ran.err.contains(words), "{args:?}: {} {}", ran.code, ran.err);
    };
    said(&["pack", "gs:///x", ARCHIVE], 2, "found no bucket");
    said(&["pack", "gs://absent/x", ARCHIVE], 2, "gs://absent: expected a bucket, found none");
    said(&["pack", SOURCE, "gs://absent/x.zip"], 2, "gs://absent: expected a bucket, found none");
    said(&["pack", "gs://shop/nothing/", ARCHIVE], 2, "gs://shop/nothing/: expected objects below this prefix, found none");
    said(&["pack", SOURCE, "gs://shop/nightly/set.zip"], 2, "expected an ARCHIVE outside SOURCE");
    said(&["pack", SOURCE, "gs://shop/nightly/"], 2, "expected an ARCHIVE outside SOURCE");
    said(&["pack", "gs://shop", "gs://shop/x.zip"], 2, "expected an ARCHIVE outside SOURCE");
    said(&["list", "gs://vault/none.zip"], 2, "gs://vault/none.zip: expected an object, found none");
    shop.server.requester_pays();
    said(&["pack", SOURCE, ARCHIVE], 2, "expected a project that pays for the requests, found none");
    assert_eq!(shop.server.names("vault"), [""; 0]);
    shop.run(&["pack", SOURCE, ARCHIVE, "--billing-project", "payer"]).ok();
}

#[test]
fn viewer_of_the_source_and_creator_of_the_archive_are_rights_enough() {
    let shop = Shop::open();
    let right = |permission: &'static str, prefix: &str| Right { permission, prefix: prefix.to_owned() };
    let viewer = [right("storage.objects.get", "nightly/"), right("storage.objects.list", "nightly/")];
    shop.server.allow_only(viewer.to_vec());
    let denied = shop.run(&["pack", SOURCE, ARCHIVE]);
    assert!(denied.code == 6 && denied.err.contains("storage.objects.create"), "{}", denied.err);
    shop.server.allow_only([&viewer[..], &[right("storage.objects.create", "sets/")]].concat());
    shop.run(&["pack", SOURCE, ARCHIVE]).ok();
    assert!(shop.stored().unwrap() == shop.local_pack());
    assert_eq!(shop.run(&["pack", SOURCE, ARCHIVE]).code, 5);
}

/// What a faulty pack may come to: the right bytes, or the right exit code and nothing under the final name.
fn packs_or_stops_cleanly(shop: &Shop, args: &[&str], what: &str) -> i32 {
    let local = shop.local_pack();
    let ran = shop.hurried(args);
    assert_eq!(shop.server.unfired(), [], "{what}: a fault that never fired tests nothing");
    match ran.code {
        0 => assert!(shop.stored().as_ref() == Some(&local), "{what}: the bytes are the right ones"),
        code => {
            assert!([3, 4, 5, 6].contains(&code), "{what}: {code} {}", ran.err);
            assert_eq!(shop.stored(), None, "{what}: nothing stands under the final name");
            assert_eq!(ran.last()["code"], code, "{what}");
        }
    }
    // Whatever it was, the same command brings it to its end.
    if ran.code != 0 {
        shop.server.forget();
        shop.hurried(args).ok();
        assert!(shop.stored().as_ref() == Some(&local), "{what}: the second time");
    }
    ran.code
}

/// Whether a deed means anything for a call.
fn fits(call: Call, deed: Deed) -> bool {
    match deed {
        Deed::BreakDownload(_) | Deed::StallDownload(..) => matches!(call, Call::Read | Call::Stat | Call::List),
        Deed::CorruptByte(_) => matches!(call, Call::Read | Call::Insert | Call::Put),
        Deed::KeepPart(_) | Deed::AnswerLess(_) => call == Call::Put,
        Deed::CutInBody(_) => matches!(call, Call::Insert | Call::Put | Call::Begin | Call::Compose | Call::Patch),
        _ => true,
    }
}

/// Every planned fault at the first, the middle and the last of each sort of call.
fn fault_matrix(args: &[&str], shop: &Shop, calls: &[Call], deeds: &[Deed], may_damage: bool) {
    shop.local_pack();
    shop.hurried(args).ok();
    let counts: Vec<(Call, usize)> = calls.iter().map(|call| (*call, shop.server.count(*call))).collect();
    assert!(counts.iter().all(|(_, count)| *count > 0), "{counts:?}");
    let mut tried = 0;
    for (call, count) in counts {
        let mut numbers = vec![0, count / 2, count - 1];
        numbers.dedup();
        for number in numbers {
            for deed in deeds.iter().copied().filter(|deed| fits(call, *deed)) {
                for name in shop.server.names("vault") {
                    shop.server.remove("vault", &name);
                }
                shop.server.forget();
                shop.server.plan(call, number, deed);
                let what = format!("{deed:?} at {call:?} {number} of {count}");
                let code = packs_or_stops_cleanly(shop, args, &what);
                // What passes by itself must not stop a pack. Damage within a small object is read or sent again.
                let expected = if may_damage && matches!(deed, Deed::CorruptByte(_)) && matches!(call, Call::Read | Call::Put) {
                    vec![0, 4]
                } else {
                    vec![0]
                };
                assert!(expected.contains(&code), "{what}: {code}");
                tried += 1;
            }
        }
    }
    assert!(tried > 30, "{tried} faults");
}

const LONG: std::time::Duration = std::time::Duration::from_millis(900);

const DEEDS: [Deed; 11] = [
    Deed::Status(503),
    Deed::Status(429),
    Deed::RetryAfter(503, 1),
    Deed::CutBefore,
    Deed::CutInBody(100),
    Deed::CutAfterBody,
    Deed::LoseAnswer,
    Deed::Stall(LONG),
    Deed::BreakDownload(10),
    Deed::StallDownload(10, LONG),
    Deed::CorruptByte(77),
];

#[test]
fn a_small_pack_comes_over_every_planned_fault() {
    fault_matrix(&["pack", SOURCE, ARCHIVE], &Shop::open(), &[Call::List, Call::Stat, Call::Read, Call::Insert], &DEEDS, false);
}

#[test]
fn a_pack_in_parts_comes_over_every_planned_fault() {
    fault_matrix(
        &["pack", SOURCE, ARCHIVE, "--parts-above", "1", "--part-size", "4KiB"],
        &Shop::open(),
        &[Call::Insert, Call::Compose, Call::Delete],
        &DEEDS,
        false,
    );
}

const QUANTUM: u64 = 256 << 10;

#[test]
fn a_pack_in_one_session_comes_over_every_planned_fault() {
    let deeds = [
        Deed::Status(503),
        Deed::CutBefore,
        Deed::CutInBody(1_000_000),
        Deed::CutAfterBody,
        Deed::KeepPart(0),
        Deed::KeepPart(5 * QUANTUM),
        Deed::AnswerLess(0),
        Deed::AnswerLess(3 * QUANTUM),
        Deed::LoseAnswer,
        Deed::Stall(LONG),
        Deed::BreakDownload(1_000_000),
        Deed::CorruptByte(777),
    ];
    fault_matrix(&["pack", SOURCE, ARCHIVE], &Shop::large(), &[Call::Read, Call::Begin, Call::Put, Call::Patch], &deeds, true);
}

#[test]
fn a_service_that_stays_away_is_given_up_within_the_time_and_named() {
    let shop = Shop::open();
    for (call, words) in [
        (Call::List, "list of gs://shop/nightly/"),
        (Call::Read, "read of gs://shop/nightly/"),
        (Call::Insert, "upload of gs://vault/sets/set.zip"),
    ] {
        shop.server.forget();
        shop.server.plan_many(call, 0, usize::MAX, Deed::Status(503));
        let begun = std::time::Instant::now();
        let ran = shop.run(&["pack", SOURCE, ARCHIVE, "--retry-time", "3s", "--idle-time", "1s", "--verbose"]);
        assert!(ran.code == 6 && ran.err.contains(words) && ran.err.contains("tries in"), "{call:?}: {} {}", ran.code, ran.err);
        assert!(begun.elapsed().as_secs() < 15, "{call:?}: {:?}", begun.elapsed());
        assert!(shop.server.count(call) > 3, "{call:?}: {} tries", shop.server.count(call));
        assert_eq!(shop.server.names("vault"), [""; 0]);
    }
}

#[test]
fn the_time_that_the_service_asks_for_is_given() {
    let shop = Shop::open();
    shop.server.plan(Call::List, 0, Deed::RetryAfter(429, 2));
    let begun = std::time::Instant::now();
    shop.hurried(&["pack", SOURCE, ARCHIVE]).ok();
    assert!(begun.elapsed().as_secs() >= 2);
}

#[test]
fn a_token_that_is_not_accepted_is_asked_for_once_more() {
    let shop = Shop::open();
    for (call, number) in [(Call::List, 1), (Call::Read, 3), (Call::Insert, 0)] {
        shop.server.plan(call, number, Deed::Status(401));
    }
    shop.hurried(&["pack", SOURCE, ARCHIVE]).ok();
    assert_eq!(shop.server.unfired(), []);
    shop.server.plan_many(Call::List, 0, usize::MAX, Deed::Status(401));
    shop.server.forget();
    shop.server.plan_many(Call::List, 0, usize::MAX, Deed::Status(401));
    let refused = shop.hurried(&["pack", SOURCE, "gs://vault/other.zip"]);
    assert!(refused.code == 6 && refused.err.contains("expected usable credentials"), "{} {}", refused.code, refused.err);
    assert_eq!(shop.server.count(Call::List), 2);
}

#[test]
fn an_object_that_changes_while_it_is_packed_stops_the_pack() {
    let shop = Shop::large();
    let name = shop.server.names("shop").into_iter().find(|name| name.ends_with("output-0")).unwrap();
    let bytes = shop.server.get("shop", &name).unwrap().bytes();
    // The first piece of the object waits long enough for it to be replaced.
    shop.server.plan_many(Call::Read, 4, 6, Deed::Stall(std::time::Duration::from_millis(800)));
    let mut command = shop.command(&["pack", SOURCE, ARCHIVE, "--idle-time", "2s"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while shop.server.count(Call::Read) < 5 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    shop.server.put("shop", &name, bytes);
    let ran = Ran::new(child.wait_with_output().unwrap());
    assert!(ran.code == 3 && ran.err.contains("source changed") && ran.err.contains(&name), "{} {}", ran.code, ran.err);
    assert_eq!(shop.server.names("vault"), [""; 0]);
}

#[test]
fn damage_that_stays_is_told_and_stops_the_pack() {
    let shop = Shop::open();
    let name = shop.server.names("shop").into_iter().find(|name| name.ends_with("output-0")).unwrap();
    shop.server.alter("shop", &name, |object| object.crc32c ^= 1);
    let ran = shop.hurried(&["pack", SOURCE, ARCHIVE]);
    assert!(ran.code == 4 && ran.err.contains(&name) && ran.err.contains("expected crc32c"), "{} {}", ran.code, ran.err);
    let reads = shop.server.seen().iter().filter(|seen| seen.call == Call::Read && seen.name == name).count();
    assert!(reads >= 2, "it is read again first");
    assert_eq!(shop.server.names("vault"), [""; 0]);
}

#[test]
fn whoever_comes_second_to_a_name_is_refused_and_leaves_nothing() {
    let shop = Shop::open();
    // The other one finishes while our upload is on its way.
    for args in [vec![], vec!["--parts-above", "1", "--part-size", "8KiB"]] {
        shop.server.forget();
        let call = if args.is_empty() { Call::Insert } else { Call::Compose };
        let number = 0;
        shop.server.plan(call, number, Deed::Stall(std::time::Duration::from_millis(700)));
        let all = [&["pack", SOURCE, ARCHIVE][..], &args].concat();
        let child = shop.command(&all).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        while shop.server.count(call) == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        shop.server.put("vault", "sets/set.zip", "of another one");
        let ran = Ran::new(child.wait_with_output().unwrap());
        assert_eq!(ran.code, 5, "{args:?}: {}", ran.err);
        assert_eq!(shop.stored().unwrap(), b"of another one");
        assert!(shop.server.get("vault", "sets/set.zip.sha256").is_none());
        shop.server.remove("vault", "sets/set.zip");
    }
}

#[test]
fn a_pack_that_is_killed_at_any_moment_goes_on_with_what_is_there() {
    let shop = Shop::large();
    let local = shop.local_pack();
    let args = ["pack", SOURCE, ARCHIVE, "--parts-above", "1", "--part-size", "512KiB", "--no-progress"];
    let begun = std::time::Instant::now();
    shop.run(&args).ok();
    let whole = begun.elapsed();
    let parts = local.len().div_ceil(512 << 10);
    let mut killed = 0;
    for moment in 1..=20 {
        for name in shop.server.names("vault") {
            shop.server.remove("vault", &name);
        }
        shop.server.forget();
        let mut child = shop.command(&args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * moment / 21);
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(stored) = shop.stored() {
            assert!(stored == local, "moment {moment}: under the final name there is nothing or a whole archive");
        }
        let ran = shop.run(&args);
        // Killed behind the sidecar, all is done: then the name is taken.
        assert!(ran.code == 0 || ran.code == 5, "moment {moment}: {} {}", ran.code, ran.err);
        assert!(shop.stored().unwrap() == local, "moment {moment}");
        let names = shop.server.names("vault");
        if ran.code == 0 && shop.server.count(Call::Insert) > 1 {
            // Four parts are on their way at most when the process ends; one more is the sidecar.
            let inserted = shop.server.count(Call::Insert);
            assert!(inserted <= parts + 4 + 2, "moment {moment}: {inserted} uploads for {parts} parts");
            assert_eq!(names, ["sets/set.zip", "sets/set.zip.sha256"], "moment {moment}: nothing is left over");
        }
    }
    assert!(killed >= 10, "{killed} of 20 were killed while they ran");
}

#[test]
fn a_pack_waits_for_exports_that_are_still_written_and_says_for_which() {
    let shop = Shop::open();
    let mark = shop.server.names("shop").into_iter().find(|name| name.ends_with(".overall_export_metadata")).unwrap();
    let bytes = shop.server.get("shop", &mark).unwrap().bytes();
    shop.server.remove("shop", &mark);
    let over = shop.run(&["pack", SOURCE, ARCHIVE, "--wait", "2s", "--json"]);
    assert!(over.code == 3 && over.out.contains("\"event\":\"waiting\""), "{} {}", over.code, over.out);
    assert_eq!(shop.server.names("vault"), [""; 0]);

    shop.server.forget();
    let mut command = shop.command(&["pack", SOURCE, ARCHIVE, "--wait", "1m"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let pages = shop.server.names("shop").len().div_ceil(3);
    while shop.server.count(Call::List) <= pages {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    shop.server.put("shop", &mark, bytes);
    Ran::new(child.wait_with_output().unwrap()).ok();
    assert!(shop.stored().unwrap() == shop.local_pack());
}

#[test]
#[ignore = "packs half a gigabyte twice"]
fn memory_stays_flat_whatever_the_size() {
    let shop = Shop::of_entities(&[("A", 130), ("B", 130), ("C", 130), ("D", 130)]);
    let local = shop.local_pack();
    for args in [vec![], vec!["--parts-above", "1GiB", "--overwrite"]] {
        let all = [&["pack", SOURCE, ARCHIVE, "--no-progress", "--jobs", "8"][..], &args].concat();
        let mut child = shop.command(&all).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let mut peak_kib = 0;
        let ended = loop {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            peak_kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default().max(peak_kib);
            match child.try_wait().unwrap() {
                Some(ended) => break ended,
                None => std::thread::sleep(std::time::Duration::from_millis(20)),
            }
        };
        assert!(ended.success() && shop.stored().unwrap() == local, "{args:?}");
        assert!(peak_kib > 0 && peak_kib < 400 << 10, "{args:?}: {} MiB", peak_kib >> 10);
        println!("{args:?}: {} MiB", peak_kib >> 10);
    }
}
