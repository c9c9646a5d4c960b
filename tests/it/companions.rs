//! Companions: objects that are packed beside the exports, and come back with them.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::schemas::{assert_holds, schema};
use crate::support::fixtures::fixture;
use crate::support::gcs_server::{Call, Deed, GcsServer};
use crate::support::{TestDir, copy_folder, files_below, outside_program, zips};

/// An exports folder of a few kinds.
const EXPORTS: &str = "managed-variants/one_namespace_all_kinds";

/// More than two pieces.
const LARGE_BYTES: usize = 9_000_000;

/// Bytes that nothing deflates, the same each time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Objects with the names that companions have, and their bytes.
fn objects() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("shop/a b.png", b"\x89PNG with a space".to_vec()),
        ("shop/100%.jpg", b"a per cent".to_vec()),
        ("画像/写真 1.png", "写真".as_bytes().to_vec()),
        ("empty.bin", Vec::new()),
        ("large.bin", noise(LARGE_BYTES)),
    ])
}

/// A desk with `exports` and `images`.
fn desk() -> TestDir {
    let desk = TestDir::new();
    copy_folder(fixture(EXPORTS).as_ref(), &desk.path("exports"));
    for (name, bytes) in objects() {
        desk.write(&format!("images/{name}"), bytes);
    }
    desk
}

/// The same with `set.zip`, which holds both.
fn packed() -> TestDir {
    let desk = desk();
    let args = ["pack", "exports", "set.zip", "--with", "images"];
    let done = desk.json(0, &args);
    assert_holds(&schema("events"), &done, "pack --with");
    assert_eq!(done["companions"], 5);
    desk
}

/// The bytes of all files below a folder, by name.
fn bytes_below(desk: &TestDir, folder: &str) -> BTreeMap<String, Vec<u8>> {
    files_below(&desk.path(folder))
        .into_iter()
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

#[track_caller]
fn assert_are_objects(found: &BTreeMap<String, Vec<u8>>) {
    let objects = objects();
    assert!(found.keys().eq(objects.keys()), "{:?}", found.keys());
    for (name, bytes) in &objects {
        assert!(found[*name] == *bytes, "{name}");
    }
}

fn companions_of(manifest: &Value) -> &Vec<Value> {
    manifest["companions"].as_array().unwrap()
}

#[test]
fn companions_are_packed_listed_and_verified() {
    let desk = packed();
    let manifest = zips::manifest(&desk.path("set.zip"));
    assert_holds(&schema("manifest"), &manifest, "companions");
    let entries = zips::contents(&desk.path("set.zip")).into_iter();
    let found = entries
        .filter_map(|(name, bytes)| Some((name.strip_prefix("companions/")?.to_owned(), bytes)));
    assert_are_objects(&found.collect());
    for companion in companions_of(&manifest) {
        assert_eq!(companion["role"], "companion");
        assert!(companion.get("content_type").is_none(), "{companion}");
    }
    let listed = desk.expect(0, &["list", "set.zip"]).text();
    assert!(listed.contains("5 companions among them"), "{listed}");
    let verified = desk.json(0, &["verify", "set.zip"]);
    assert_holds(&schema("events"), &verified, "verify");
    assert_eq!(verified["companions"], 5);
    let objects = manifest["totals"]["entries"].as_u64().unwrap();
    assert_eq!(verified["entries"], objects + 2);
    let quick = desk.expect(0, &["verify", "set.zip", "--quick"]).text();
    assert!(quick.contains("5 companions"), "{quick}");
}

#[test]
fn one_flipped_byte_of_a_companion_is_damage() {
    let desk = packed();
    let mut bytes = desk.read("set.zip");
    let tail = &noise(LARGE_BYTES)[LARGE_BYTES - 64..];
    let at = bytes.windows(64).rposition(|window| window == tail);
    bytes[at.expect("noise is stored as it is")] ^= 1;
    desk.write("set.zip", bytes);
    let run = desk.expect(4, &["verify", "set.zip"]);
    assert!(run.err.contains("companions/large.bin"), "{}", run.err);
    let run = desk.expect(4, &["extract", "set.zip", "out"]);
    assert!(run.err.contains("companions/large.bin"), "{}", run.err);
    assert!(!desk.path("out/companions/large.bin").exists());
}

#[test]
fn the_same_companions_give_the_same_bytes() {
    let desk = packed();
    desk.write("logos/logo.svg", "<svg/>");
    let pack = |name: &str, options: &[&str]| {
        let args = [&["pack", "exports", name], options].concat();
        desk.expect(0, &args);
        desk.read(name)
    };
    let one = pack("1.zip", &["--with", "images", "--jobs", "1"]);
    let four = pack("4.zip", &["--with", "images/", "--jobs", "4"]);
    assert!(one == four && one == desk.read("set.zip"));
    let there = pack("x.zip", &["--with", "images", "--with", "logos"]);
    let back = pack("y.zip", &["--with", "logos", "--with", "images"]);
    assert!(there == back && there != one);
    pack("stored.zip", &["--with", "images", "--method", "store"]);
    desk.expect(0, &["verify", "stored.zip"]);
}

#[test]
fn packing_again_compares_the_companions_too() {
    let desk = packed();
    let args = ["pack", "exports", "set.zip", "--with", "images"];
    assert_eq!(desk.json(0, &args)["was_there"], true);
    desk.expect(5, &["pack", "exports", "set.zip"]);
    desk.write("images/empty.bin", "full");
    desk.expect(5, &args);
    desk.json(0, &["pack", "exports", "plain.zip"]);
    desk.expect(5, &["pack", "exports", "plain.zip", "--with", "images"]);
}

#[test]
fn companions_are_extracted_beside_the_exports() {
    let desk = packed();
    desk.json(0, &["extract", "set.zip", "out"]);
    let (companions, exports): (BTreeMap<_, _>, BTreeMap<_, _>) = bytes_below(&desk, "out")
        .into_iter()
        .partition(|(name, _)| name.starts_with("companions/"));
    assert_eq!(exports, bytes_below(&desk, "exports"));
    let strip = |(name, bytes): (String, Vec<u8>)| {
        let name = name.strip_prefix("companions/").unwrap().to_owned();
        (name, bytes)
    };
    assert_are_objects(&companions.into_iter().map(strip).collect());
    // Again: everything is there already.
    assert_eq!(desk.json(0, &["extract", "set.zip", "out"])["objects"], 0);
    desk.json(0, &["extract", "set.zip", "kinds", "--only", "*"]);
    assert!(!desk.path("kinds/companions").exists());
}

#[test]
fn exports_are_not_extracted_among_the_companions() {
    let desk = desk();
    fs::rename(desk.path("exports"), desk.path("inner")).unwrap();
    copy_folder(&desk.path("inner"), &desk.path("exports/companions"));
    desk.json(0, &["pack", "exports", "set.zip", "--with", "images"]);
    desk.expect(0, &["verify", "set.zip"]);
    let run = desk.expect(5, &["extract", "set.zip", "out"]);
    assert!(run.err.contains("companions/"), "{}", run.err);
    assert!(run.err.contains("--only"), "{}", run.err);
    assert!(!desk.path("out").exists());
    desk.json(0, &["extract", "set.zip", "out", "--only", "*"]);
}

#[test]
fn unzip_and_sha256sum_read_the_companions() {
    const TEST: &str = "sha256sum -c of companions after unzip";
    let found = |name| outside_program(name, &[name], TEST);
    let (Some(unzip), Some(sha256sum)) = (found("unzip"), found("sha256sum")) else {
        return;
    };
    let desk = packed();
    let mut unzip = desk.program(unzip, &["-q", "set.zip", "-d", "unzipped"]);
    assert!(unzip.status().unwrap().success());
    assert_are_objects(&bytes_below(&desk, "unzipped/companions"));
    let mut check = desk.program(sha256sum, &["--quiet", "--strict", "-c", "SHA256SUMS"]);
    let checked = check.current_dir(desk.path("unzipped")).status().unwrap();
    assert!(checked.success());
    let sums = String::from_utf8(desk.read("unzipped/SHA256SUMS")).unwrap();
    assert_eq!(sums.matches("  companions/").count(), 5);
}

#[test]
fn sources_that_share_objects_are_refused() {
    let desk = desk();
    desk.write("exports/images/a.png", "a");
    desk.write("other/empty.bin", "another");
    for (words, options) in [
        ("exports", &["--with", "exports/images"][..]),
        ("exports", &["--with", "exports"]),
        ("inside --with .", &["--with", "."]),
        (
            "share objects",
            &["--with", "images", "--with", "images/shop"],
        ),
        ("empty.bin", &["--with", "images", "--with", "other"]),
        ("nowhere", &["--with", "nowhere"]),
        ("gs://b/x", &["--with", "gs://b/x", "--with", "gs://b/x/y/"]),
    ] {
        let args = [&["pack", "exports", "set.zip"], options].concat();
        let run = desk.expect(2, &args);
        assert!(run.err.contains(words), "{options:?}: {}", run.err);
    }
    let inside = ["pack", "exports", "images/new/set.zip", "--with", "images"];
    desk.expect(2, &inside);
    assert!(!desk.path("set.zip").exists());
}

#[test]
fn companions_that_no_archive_can_name_are_refused() {
    let desk = desk();
    desk.write("images/two\nlines.png", "x");
    let args = ["pack", "exports", "set.zip", "--with", "images"];
    let run = desk.expect(4, &args);
    assert!(run.err.contains("control character"), "{}", run.err);
    assert!(!desk.path("set.zip").exists());
}

#[test]
fn objects_that_are_file_and_folder_are_refused() {
    let desk = desk();
    let server = bucket(&desk);
    server.put("shop", "images/logo", b"a file".to_vec());
    server.put("shop", "images/logo/small.png", b"inside it".to_vec());
    let args = ["pack", "exports", "set.zip", "--with", "gs://shop/images/"];
    let run = with_bucket(&desk, &server, &args);
    assert_eq!(run.code, 4, "{}", run.err);
    let words = "companions/logo: it is a file, and companions/logo/small.png is inside it";
    assert!(run.err.contains(words), "{}", run.err);
    assert!(!desk.path("set.zip").exists());
}

#[test]
fn a_dry_run_counts_companions() {
    let desk = desk();
    let args = ["pack", "exports", "set.zip", "--with", "images"];
    let done = desk.json(0, &[&args[..], &["--dry-run"]].concat());
    assert_holds(&schema("events"), &done, "pack --dry-run");
    assert_eq!(done["companions"], 5);
    assert!(done["bytes"].as_u64().unwrap() > LARGE_BYTES as u64);
    assert!(!desk.path("set.zip").exists());
}

/// A bucket `shop` with `exports/` and `images/`.
fn bucket(desk: &TestDir) -> GcsServer {
    let server = GcsServer::start(&["shop", "vault"]);
    server.put_folder("shop", "exports/", &desk.path("exports"));
    server.put_folder("shop", "images/", &desk.path("images"));
    server
}

fn with_bucket(desk: &TestDir, server: &GcsServer, args: &[&str]) -> crate::support::Run {
    let mut command = desk.kindpack(args);
    command.env("STORAGE_EMULATOR_HOST", server.url());
    crate::support::Running::start(command).wait()
}

const PACK: [&str; 5] = [
    "pack",
    "gs://shop/exports/",
    "gs://vault/set.zip",
    "--with",
    "gs://shop/images/",
];

#[test]
fn companions_of_a_bucket_keep_their_content_type() {
    let desk = desk();
    let server = bucket(&desk);
    server.put("shop", "images/", Vec::new());
    server.alter("shop", "images/shop/a b.png", |object| {
        object.content_type = Some("image/png".to_owned());
    });
    let run = with_bucket(&desk, &server, &PACK);
    assert_eq!(run.code, 0, "{}", run.brief());
    desk.write("set.zip", server.get("vault", "set.zip").unwrap().bytes());
    let manifest = zips::manifest(&desk.path("set.zip"));
    assert_holds(&schema("manifest"), &manifest, "companions of a bucket");
    let types: BTreeMap<&str, &Value> = companions_of(&manifest)
        .iter()
        .map(|companion| {
            (
                companion["name"].as_str().unwrap(),
                &companion["content_type"],
            )
        })
        .collect();
    assert_eq!(types.len(), 5);
    assert_eq!(types["companions/shop/a b.png"], "image/png");
    let exports = manifest["kinds"][0]["entries"].as_array().unwrap();
    assert!(exports.iter().all(|entry| entry["content_type"].is_null()));
}

#[test]
fn a_companion_that_changes_meanwhile_is_refused() {
    let desk = desk();
    let server = bucket(&desk);
    assert_eq!(with_bucket(&desk, &server, &PACK).code, 0);
    let reads = server
        .seen()
        .into_iter()
        .filter(|seen| seen.call == Call::Read);
    let names: Vec<String> = reads.map(|seen| seen.name).collect();
    let number = names.iter().position(|name| name.ends_with("large.bin"));
    server.remove("vault", "set.zip");
    server.remove("vault", "set.zip.sha256");
    server.forget();
    server.plan(Call::Read, number.unwrap(), Deed::Replace);
    let run = with_bucket(&desk, &server, &PACK);
    assert_eq!(run.code, 3, "{}", run.brief());
    assert!(run.err.contains("changed while it was read"), "{}", run.err);
    assert_eq!(server.names("vault"), [""; 0]);
}

// ------------------------------------------------------------------------------------------------------
// restored

const RESTORE: [&str; 6] = [
    "restore",
    "set.zip",
    "--target",
    "ndjson:out",
    "--companions",
    "copied",
];

#[test]
fn companions_are_copied_after_the_last_step() {
    let desk = packed();
    let stopped = [&RESTORE[..], &["--max-steps", "1"]].concat();
    desk.expect(7, &stopped);
    assert!(!desk.path("copied").exists());
    let reported = [&RESTORE[..], &["--report", "report.json"]].concat();
    let done = desk.json(0, &reported);
    assert_holds(&schema("events"), &done, "restore --companions");
    assert_eq!(done["companions_copied"], 5);
    let report = desk.json_file("report.json");
    assert_holds(&schema("report"), &report, "report");
    assert_eq!(report["companions"]["copied"], 5);
    assert_are_objects(&bytes_below(&desk, "copied"));
    // Again: the steps are done, and so are the companions.
    fs::remove_file(desk.path("copied/empty.bin")).unwrap();
    let done = desk.json(0, &RESTORE);
    assert_eq!(done["companions_copied"], 1);
    assert_eq!(done["companions_already_there"], 4);
    assert_are_objects(&bytes_below(&desk, "copied"));
}

#[test]
fn the_journal_says_that_companions_are_copied() {
    let desk = packed();
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    let restore = ["restore", "plan.json", "--companions", "copied"];
    desk.expect(0, &restore);
    let journal = String::from_utf8(desk.read("plan.json.journal")).unwrap();
    let lines: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let copied = &lines[lines.len() - 2];
    assert_eq!(copied["event"], "companions-copied");
    assert_eq!(copied["objects"], 5);
    assert_holds(&schema("journal"), copied, "companions-copied");
}

#[test]
fn a_dry_run_of_a_restore_counts_companions() {
    let desk = packed();
    let done = desk.json(0, &[&RESTORE[..], &["--dry-run"]].concat());
    assert_eq!(done["companions_copied"], 5);
    assert!(!desk.path("copied").exists());
}

#[test]
fn foreign_object_with_companion_name_stays() {
    let desk = packed();
    desk.write("copied/shop/a b.png", "another");
    let run = desk.expect(5, &RESTORE);
    assert!(run.err.contains("shop/a b.png"), "{}", run.err);
    assert_eq!(desk.read("copied/shop/a b.png"), b"another");
    assert!(!desk.path("out").exists(), "no step was run");
    fs::remove_file(desk.path("copied/shop/a b.png")).unwrap();
    desk.expect(0, &RESTORE);
    assert_are_objects(&bytes_below(&desk, "copied"));
}

/// An archive on this machine that was packed from a bucket, and an empty bucket `site`.
fn packed_from_bucket() -> (TestDir, GcsServer) {
    let desk = desk();
    let server = GcsServer::start(&["shop", "vault", "site"]);
    server.put_folder("shop", "images/", &desk.path("images"));
    server.alter("shop", "images/large.bin", |object| {
        object.content_type = Some("video/mp4".to_owned());
    });
    let args = ["pack", "exports", "set.zip", "--with", "gs://shop/images"];
    let run = with_bucket(&desk, &server, &args);
    assert_eq!(run.code, 0, "{}", run.brief());
    server.forget();
    (desk, server)
}

const RESTORE_TO_BUCKET: [&str; 6] = [
    "restore",
    "set.zip",
    "--target",
    "ndjson:out",
    "--companions",
    "gs://site/images",
];

#[track_caller]
fn assert_copied(server: &GcsServer) {
    let names = server.names("site");
    let bytes = |name: &String| server.get("site", name).unwrap().bytes();
    let short = |name: &String| name.strip_prefix("images/").unwrap().to_owned();
    let found = names.iter().map(|name| (short(name), bytes(name)));
    assert_are_objects(&found.collect());
    let large = server.get("site", "images/large.bin").unwrap();
    assert_eq!(large.content_type.as_deref(), Some("video/mp4"));
}

#[test]
fn companions_keep_their_type_in_buckets() {
    let (desk, server) = packed_from_bucket();
    let run = with_bucket(&desk, &server, &RESTORE_TO_BUCKET);
    assert_eq!(run.code, 0, "{}", run.brief());
    assert_copied(&server);
}

#[test]
fn a_killed_copy_of_companions_goes_on() {
    let (desk, server) = packed_from_bucket();
    server.plan(Call::Insert, 1, Deed::HoldBefore);
    let mut command = desk.kindpack(&RESTORE_TO_BUCKET);
    command.env("STORAGE_EMULATOR_HOST", server.url());
    let mut running = crate::support::Running::start(command);
    assert!(running.wait_until(|| server.is_holding()));
    running.kill();
    assert!(server.names("site").len() < 5);
    let run = with_bucket(&desk, &server, &RESTORE_TO_BUCKET);
    assert_eq!(run.code, 0, "{}", run.brief());
    assert_copied(&server);
}
