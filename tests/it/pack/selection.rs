//! What a pack selects, what it does when its archive is there already, and which sets it takes for
//! one night.

use std::fs;
use std::path::{Path, PathBuf};

use kindpack::model::KindRef;
use serde_json::{Value, json};

use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::fixtures::{fixture, legacy, managed};
use crate::support::{TestDir, copy_folder, files_below, sha256};

const HOUR_MICROS: i64 = 3_600_000_000;

/// Writes an export of one kind, so many hours after the first night began. Gives its folder.
fn write_kind(desk: &TestDir, folder: &str, kind: &str, hour: i64, count: u64) -> PathBuf {
    let records: Vec<Vec<u8>> = made("demo-src", "", kind, count, 10)
        .iter()
        .map(Made::record)
        .collect();
    let folder = desk.path(folder).join(kind);
    let name = write_export(
        &folder,
        &KindRef::new("", kind),
        STARTED_MICROS + hour * HOUR_MICROS,
        &records,
        1,
    );
    folder.join(name)
}

/// Removes the files of an export whose names end like this.
fn remove(folder: &Path, end: &str) {
    let files: Vec<PathBuf> = files_below(folder)
        .into_iter()
        .filter(|(name, _)| name.ends_with(end))
        .map(|(_, path)| path)
        .collect();
    assert!(!files.is_empty(), "{end}");
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
}

/// The kinds that an archive holds, with their entities.
fn kinds(desk: &TestDir, archive: &str) -> Vec<(String, u64)> {
    let manifest: Value =
        serde_json::from_slice(&desk.expect(0, &["list", archive, "--json"]).out).unwrap();
    let kinds = manifest["kinds"].as_array().unwrap().iter();
    kinds
        .map(|kind| {
            (
                kind["kind"].as_str().unwrap().to_owned(),
                kind["entities"].as_u64().unwrap(),
            )
        })
        .collect()
}

// ---------------------------------------------------------------------------------------------------------------
// the archive is there

#[test]
fn packing_the_same_set_again_succeeds() {
    for archive in ["out/set.zip", "out/"] {
        let desk = TestDir::new();
        let first = desk.json(0, &["pack", &legacy().source, archive]);
        let files = || {
            files_below(&desk.path("out"))
                .into_iter()
                .map(|(name, path)| (name, fs::read(path).unwrap()))
                .collect::<Vec<_>>()
        };
        let before = files();
        let again = desk.json(0, &["pack", &legacy().source, archive]);
        assert_eq!(
            (&again["was_there"], &first["was_there"]),
            (&json!(true), &json!(false))
        );
        for field in ["archive", "sha256", "bytes", "kinds", "entities", "objects"] {
            assert_eq!(again[field], first[field], "{field}");
        }
        assert_eq!(files(), before);
        let run = desk.expect(0, &["pack", &legacy().source, archive]);
        assert!(
            run.text().contains("already exists with the same contents"),
            "{}",
            run.text()
        );
    }
}

#[test]
fn a_name_with_other_bytes_is_taken() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    let before = (desk.read("set.zip"), desk.read("set.zip.sha256"));
    let variants = fixture("managed-variants/gcs_layout");
    for args in [
        &["pack", &legacy().source, "set.zip", "--method", "store"][..],
        &["pack", &legacy().source, "set.zip", "--level", "1"],
        &["pack", &variants, "set.zip"],
        &["pack", &variants, "set.zip", "--dry-run"],
    ] {
        let event = desk.json(5, args);
        assert!(
            event["error"].as_str().unwrap().contains("set.zip"),
            "{event}"
        );
        assert_eq!(
            (desk.read("set.zip"), desk.read("set.zip.sha256")),
            before,
            "{args:?}"
        );
    }
    desk.write("other.zip", "no archive");
    desk.json(5, &["pack", &legacy().source, "other.zip"]);
    assert_eq!(desk.read("other.zip"), b"no archive");
    assert_eq!(
        desk.names_in("."),
        ["other.zip", "set.zip", "set.zip.sha256"]
    );
}

#[test]
fn equal_lengths_are_not_taken_for_equal_bytes() {
    let desk = TestDir::new();
    let source = desk.path("source");
    copy_folder(Path::new(&fixture("managed-variants/gcs_layout")), &source);
    desk.pack("source");
    // The archive there says of itself that it holds the same objects; a byte of its data is
    // another one.
    let mut bytes = desk.read("set.zip");
    bytes[100] ^= 1;
    desk.write("set.zip", &bytes);
    desk.json(5, &["pack", "source", "set.zip"]);
    assert_eq!(desk.read("set.zip"), bytes);
}

#[test]
fn missing_or_wrong_sidecar_is_written() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    let (archive, sidecar) = (desk.read("set.zip"), desk.read("set.zip.sha256"));
    fs::remove_file(desk.path("set.zip.sha256")).unwrap();
    desk.json(
        5,
        &["pack", &fixture("managed-variants/gcs_layout"), "set.zip"],
    );
    assert_eq!(
        desk.names_in("."),
        ["set.zip"],
        "another set writes no sidecar"
    );
    desk.json(0, &["pack", &legacy().source, "set.zip"]);
    assert_eq!(
        (desk.read("set.zip"), desk.read("set.zip.sha256")),
        (archive.clone(), sidecar.clone())
    );
    desk.write(
        "set.zip.sha256",
        format!("{}  set.zip\n", sha256(b"something else")),
    );
    desk.json(0, &["pack", &legacy().source, "set.zip"]);
    assert_eq!(
        (desk.read("set.zip"), desk.read("set.zip.sha256")),
        (archive, sidecar)
    );
}

#[test]
fn dry_run_reports_existing_archive() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    let run = desk.expect(0, &["pack", &legacy().source, "set.zip", "--dry-run"]);
    assert!(
        run.text().contains("set.zip already exists"),
        "{}",
        run.text()
    );
}

#[test]
fn a_failed_overwrite_leaves_archive_and_sidecar() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    let before = (desk.read("set.zip"), desk.read("set.zip.sha256"));
    copy_folder(Path::new(&managed().source), &desk.path("source"));
    remove(&desk.path("source/acme/Order"), ".overall_export_metadata");
    desk.json(3, &["pack", "source", "set.zip", "--overwrite"]);
    assert_eq!((desk.read("set.zip"), desk.read("set.zip.sha256")), before);
    desk.json(0, &["pack", &managed().source, "set.zip", "--overwrite"]);
    let sidecar = String::from_utf8(desk.read("set.zip.sha256")).unwrap();
    assert!(
        sidecar.starts_with(&sha256(&desk.read("set.zip"))),
        "{sidecar}"
    );
}

// ----------------------------------------------------------------------------------------------------------------
// one run, one night

#[test]
fn yesterdays_kind_is_not_packed_with_tonights() {
    let desk = TestDir::new();
    write_kind(&desk, "source/1", "User", 0, 3);
    write_kind(&desk, "source/1", "Order", 0, 3);
    write_kind(&desk, "source/2", "Order", 25, 5);
    desk.write("expected", "User\nOrder\n");
    let run = desk.expect(
        3,
        &[
            "pack", "source", "set.zip", "--latest", "--expect", "expected",
        ],
    );
    assert!(
        run.err.contains("(default)/User is stale")
            && run.err.contains("25h")
            && run.err.contains("--exclude"),
        "{}",
        run.err
    );
    assert!(!run.err.contains("Order is stale"), "{}", run.err);
    assert_eq!(desk.names_in("."), ["expected", "source"]);

    desk.json(
        0,
        &[
            "pack",
            "source",
            "tonight.zip",
            "--latest",
            "--exclude",
            "User",
        ],
    );
    assert_eq!(kinds(&desk, "tonight.zip"), [("Order".to_owned(), 5)]);
    desk.json(
        0,
        &[
            "pack",
            "source",
            "both.zip",
            "--latest",
            "--max-spread",
            "2d",
        ],
    );
    assert_eq!(
        kinds(&desk, "both.zip"),
        [("Order".to_owned(), 5), ("User".to_owned(), 3)]
    );
    for args in [
        &["list", "both.zip"][..],
        &["plan", "both.zip", "--target", "ndjson:out"],
    ] {
        let text = desk.expect(0, args).text();
        assert!(
            text.contains("exported from 2013-10-12 06:37:42 to 2013-10-13 07:37:47 UTC"),
            "{text}"
        );
        assert!(
            text.contains("; the last export started 25h after the first"),
            "{text}"
        );
    }
    assert_eq!(
        desk.plan("both.zip", "ndjson:out", "plan.json", &[])["exports"],
        json!({"started": "2013-10-12T06:37:42.287Z", "finished": "2013-10-13T07:37:47.287Z", "spread_seconds": 90_000})
    );
}

#[test]
fn wide_spread_without_latest_warns() {
    let desk = TestDir::new();
    write_kind(&desk, "source/1", "User", 0, 3);
    write_kind(&desk, "source/2", "Order", 25, 5);
    let run = desk.expect(0, &["pack", "source", "set.zip"]);
    assert!(
        run.err
            .contains("warning: the exports were not made in one night"),
        "{}",
        run.err
    );
    let run = desk.expect(0, &["pack", "source", "json.zip", "--json"]);
    assert!(
        run.events().iter().any(|event| event["event"] == "warning"),
        "{}",
        run.text()
    );
    let run = desk.expect(0, &["pack", "source", "wide.zip", "--max-spread", "26h"]);
    assert!(!run.err.contains("warning"), "{}", run.err);
}

#[test]
fn leftover_export_does_not_block_next_night() {
    let desk = TestDir::new();
    let left_over = write_kind(&desk, "source/1", "User", 0, 3);
    write_kind(&desk, "source/2", "User", 24, 5);
    write_kind(&desk, "source/2", "Order", 24, 5);
    remove(&left_over, ".overall_export_metadata");
    let run = desk.expect(0, &["pack", "source", "set.zip", "--latest"]);
    assert!(
        run.err.contains("a newer export is packed: 1/"),
        "{}",
        run.err
    );
    assert_eq!(
        kinds(&desk, "set.zip"),
        [("Order".to_owned(), 5), ("User".to_owned(), 5)]
    );
    // Neither does it where its metadata was never written: its folder is named by its start.
    remove(&left_over, ".export_metadata");
    desk.json(0, &["pack", "source", "bare.zip", "--latest"]);
    assert_eq!(desk.read("bare.zip"), desk.read("set.zip"));
    desk.json(3, &["pack", "source", "all.zip"]);
}

#[test]
fn an_unfinished_export_blocks_its_own_kind_only() {
    for ends in [
        &[".overall_export_metadata"][..],
        &[".overall_export_metadata", ".export_metadata"],
    ] {
        let desk = TestDir::new();
        write_kind(&desk, "source", "User", 0, 3);
        let tonight = write_kind(&desk, "source", "Order", 1, 5);
        ends.iter().for_each(|end| remove(&tonight, end));
        let run = desk.expect(3, &["pack", "source", "set.zip", "--latest"]);
        assert!(
            run.err.contains("leave kinds out with --exclude"),
            "{}",
            run.err
        );
        for (number, choice) in [
            ["--exclude", "Order"],
            ["--exclude", "(default)/Ord*"],
            ["--only", "User"],
        ]
        .into_iter()
        .enumerate()
        {
            let archive = format!("{number}.zip");
            desk.json(0, &["pack", "source", &archive, choice[0], choice[1]]);
            assert_eq!(kinds(&desk, &archive), [("User".to_owned(), 3)]);
        }
    }
}

#[test]
fn tonights_unfinished_export_is_not_replaced_by_yesterdays() {
    let desk = TestDir::new();
    write_kind(&desk, "source/1", "User", 0, 3);
    let tonight = write_kind(&desk, "source/2", "User", 23, 5);
    remove(&tonight, ".overall_export_metadata");
    desk.json(3, &["pack", "source", "set.zip", "--latest"]);
    assert_eq!(desk.names_in("."), ["source"]);
}

#[test]
fn unfinished_export_without_kind_gives_hint() {
    let desk = TestDir::new();
    write_kind(&desk, "source", "User", 0, 3);
    desk.write("source/odd/place/of/output-0", [0; 10]);
    let run = desk.expect(3, &["pack", "source", "set.zip", "--exclude", "Order"]);
    assert!(
        run.err.contains("hint: move odd out of SOURCE"),
        "{}",
        run.err
    );
}

#[test]
fn an_unfinished_legacy_backup_names_its_kind() {
    let desk = TestDir::new();
    write_kind(&desk, "source", "User", 0, 3);
    desk.write(
        "source/datastore_backup_Order2013_10_12_Order-1573A-output-0-attempt-1",
        [],
    );
    desk.write(
        "source/datastore_backup_Order2013_10_12_Order/1573A/output-0",
        [],
    );
    desk.json(3, &["pack", "source", "set.zip"]);
    desk.json(0, &["pack", "source", "set.zip", "--exclude", "Order"]);
}

// -------------------------------------------------------------------------------------------------------------------
// what is refused

#[test]
fn a_link_that_cannot_be_followed_is_named() {
    for target in ["/nonexistent/Order", "Order"] {
        let desk = TestDir::new();
        write_kind(&desk, "source", "User", 0, 3);
        std::os::unix::fs::symlink(target, desk.path("source/Order")).unwrap();
        let run = desk.expect(2, &["pack", "source", "set.zip"]);
        assert!(
            run.err.contains("source/Order") && run.err.contains("link"),
            "{}",
            run.err
        );
        assert_eq!(desk.names_in("."), ["source"]);
    }
}

#[test]
fn a_dangling_link_beside_archives_harms_nobody() {
    let desk = TestDir::new();
    desk.json(0, &["pack", &legacy().source, "out/"]);
    std::os::unix::fs::symlink("gone.zip", desk.path("out/latest.zip")).unwrap();
    std::os::unix::fs::symlink(".", desk.path("out/self")).unwrap();
    desk.json(0, &["archives", "out"]);
    desk.json(0, &["verify", "out/"]);
}

#[test]
fn durations_that_no_clock_can_add_are_refused() {
    let desk = TestDir::new();
    for option in [
        "--wait",
        "--max-spread",
        "--retry-timeout",
        "--idle-timeout",
    ] {
        let run = desk.expect(
            2,
            &[
                "pack",
                &managed().source,
                "set.zip",
                option,
                "9223372036854775807s",
            ],
        );
        assert!(
            run.err.contains("at most 366 days") || run.err.contains("is not a duration"),
            "{option}: {}",
            run.err
        );
    }
    assert_eq!(desk.names_in("."), [""; 0]);
}
