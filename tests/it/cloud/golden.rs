//! The golden way with buckets in place of folders.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::fixture::{ARCHIVE, BucketFixture, SIDECAR, SOURCE, STORED, last};
use crate::support::emulator::emulator;
use crate::support::entities::{assert_same, by_pair, moved, of_lines};
use crate::support::fixtures::{Set, legacy, managed};
use crate::support::gcs_server::Call;
use crate::support::{files_below, sha256};

/// How much memory a pack may take, whatever its size.
const MEMORY_MAX_KIB: u64 = 400 << 10;

/// Every fixture with the SELECTOR of one of its kinds, and what the names of its archives begin
/// with.
fn sets() -> [(Set, &'static str); 2] {
    [(managed(), "acme/Order"), (legacy(), "production/User")]
}

#[test]
fn set_goes_from_bucket_to_bucket() {
    for (set, selector) in sets() {
        let shop = BucketFixture::of_set(&set);
        let done = last(&shop.expect(0, &["pack", SOURCE, ARCHIVE, "--json"]));
        shop.assert_packed();
        assert_eq!(
            (&done["event"], &done["archive"]),
            (&json!("done"), &json!(ARCHIVE))
        );
        assert_eq!(
            (&done["sha256"], &done["bytes"]),
            (&json!(sha256(shop.local())), &json!(shop.local().len()))
        );
        let object = shop.server.get("vault", STORED).unwrap();
        assert_eq!(object.content_type.as_deref(), Some("application/zip"));

        // What the object says of itself is true: the manifest lies there.
        let listed = shop.expect(0, &["list", ARCHIVE, "--json"]);
        let manifest: Value = serde_json::from_slice(&listed.out).unwrap();
        let (offset, len) = object.metadata["kindpack-manifest"]
            .split_once('+')
            .unwrap();
        let (offset, len): (usize, usize) = (offset.parse().unwrap(), len.parse().unwrap());
        assert_eq!(
            serde_json::from_slice::<Value>(&shop.local()[offset..offset + len]).unwrap(),
            manifest
        );
        assert_eq!(
            object.metadata["kindpack-backup-id"],
            manifest["backup"]["id"]
        );

        for args in [
            &["list", "", "--json"][..],
            &["list", ""],
            &["cat", "", "*"],
            &["cat", "", selector],
        ] {
            let of = |archive| {
                args.iter()
                    .map(|arg| if arg.is_empty() { archive } else { *arg })
                    .collect::<Vec<_>>()
            };
            assert!(
                shop.expect(0, &of(ARCHIVE)).out == shop.expect(0, &of("local.zip")).out,
                "{args:?}"
            );
        }
        assert_same(
            &set.truth,
            &of_lines(&shop.expect(0, &["cat", ARCHIVE, "*"]).out),
            false,
            set.name,
        );
        for args in [
            &["verify", ARCHIVE][..],
            &["verify", ARCHIVE, "--quick"],
            &["verify", ARCHIVE, "--only", selector],
        ] {
            let event = last(&shop.expect(0, &[args, &["--json"]].concat()));
            assert_eq!(
                (&event["archive"], &event["problems"]),
                (&json!(ARCHIVE), &json!([])),
                "{args:?}"
            );
        }
        shop.says(
            5,
            &["pack", SOURCE, ARCHIVE, "--method", "store"],
            &["gs://vault/sets/set.zip already exists"],
        );
        assert!(
            shop.server
                .seen()
                .iter()
                .all(|seen| seen.agent.contains("kindpack/")),
            "every request says who asks"
        );
    }
}

#[test]
fn extracted_objects_equal_packed_ones() {
    for (set, selector) in sets() {
        let shop = BucketFixture::of_set(&set);
        shop.expect(0, &["pack", SOURCE, ARCHIVE]);
        let manifest: Value =
            serde_json::from_slice(&shop.expect(0, &["list", ARCHIVE, "--json"]).out).unwrap();
        shop.expect(0, &["extract", ARCHIVE, "gs://vault/back/"]);
        shop.expect(0, &["extract", ARCHIVE, "back"]);
        let files = files_below(&shop.path("back"));
        let mut packed = 0;
        for name in shop.server.names("shop") {
            let original = shop.server.get("shop", &name).unwrap().bytes();
            let name = name.strip_prefix("nightly/").unwrap();
            let Some(back) = shop.server.get("vault", &format!("back/{name}")) else {
                continue;
            };
            packed += 1;
            assert!(
                back.bytes() == original && std::fs::read(&files[name]).unwrap() == original,
                "{name}"
            );
        }
        assert_eq!(
            (packed, packed),
            (
                manifest["totals"]["entries"].as_u64().unwrap() as usize,
                files.len()
            ),
            "{}",
            set.name
        );
        // What is there already is as good, unless it is another object.
        shop.expect(0, &["extract", ARCHIVE, "gs://vault/back/"]);
        let other = shop
            .server
            .names("vault")
            .into_iter()
            .find(|name| name.starts_with("back/") && name.contains("output-0"))
            .unwrap();
        shop.server.put("vault", &other, "of another one");
        shop.says(
            5,
            &["extract", ARCHIVE, "gs://vault/back/"],
            &[&format!("{} already exists", &other["back/".len()..])],
        );
        assert_eq!(
            shop.server.get("vault", &other).unwrap().bytes(),
            b"of another one"
        );
        shop.expect(
            0,
            &["extract", ARCHIVE, "gs://vault/some", "--only", selector],
        );
        let some = shop
            .server
            .names("vault")
            .into_iter()
            .filter(|name| name.starts_with("some/"))
            .count();
        assert!(some > 0 && some < packed, "{some} of {packed}");
    }
}

#[test]
fn extracted_bucket_is_a_source_again() {
    let shop = BucketFixture::of_set(&legacy());
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    shop.expect(
        0,
        &[
            "extract",
            ARCHIVE,
            "gs://vault/back/",
            "--format",
            "managed",
        ],
    );
    shop.expect(0, &["pack", "gs://vault/back/", "gs://vault/managed.zip"]);
    let entities = |archive| of_lines(&shop.expect(0, &["cat", archive, "*"]).out);
    assert_same(
        &entities(ARCHIVE),
        &entities("gs://vault/managed.zip"),
        false,
        "legacy backups as managed exports",
    );
}

#[test]
fn bucket_archive_restores_into_files() {
    for (set, selector) in sets() {
        let shop = BucketFixture::of_set(&set);
        shop.expect(0, &["pack", SOURCE, ARCHIVE]);
        shop.local();
        shop.expect(
            0,
            &["plan", ARCHIVE, "--target", "ndjson:out", "-o", "plan.json"],
        );
        let plan = shop.desk.json_file("plan.json");
        assert_eq!(
            (&plan["archive"]["location"], &plan["archive"]["sha256"]),
            (&json!(ARCHIVE), &json!(sha256(shop.local())))
        );
        shop.expect(0, &["restore", "plan.json"]);
        shop.expect(0, &["restore", "local.zip", "--target", "ndjson:expected"]);
        shop.expect(0, &["restore", ARCHIVE, "--target", "dir:exports-again"]);
        shop.expect(
            0,
            &["restore", "local.zip", "--target", "dir:exports-expected"],
        );
        let files = |folder: &str| -> Vec<(String, Vec<u8>)> {
            files_below(&shop.path(folder))
                .into_iter()
                .map(|(name, path)| (name, std::fs::read(path).unwrap()))
                .collect()
        };
        assert!(
            files("out") == files("expected") && !files("out").is_empty(),
            "{}",
            set.name
        );
        assert!(
            files("exports-again") == files("exports-expected")
                && !files("exports-again").is_empty(),
            "{}",
            set.name
        );
        shop.expect(
            0,
            &[
                "restore",
                ARCHIVE,
                "--target",
                "ndjson:one",
                "--only",
                selector,
            ],
        );
        let one = files("one");
        let (namespace, kind) = selector.split_once('/').unwrap();
        let expected = &by_pair(&set.truth)[&(namespace.to_owned(), kind.to_owned())];
        assert_eq!(one.len(), 1, "{}", set.name);
        assert_same(expected, &of_lines(&one[0].1), false, set.name);
    }
}

#[test]
fn bucket_archive_restores_into_the_emulator() {
    let Some(emulator) = emulator("restores from a bucket") else {
        return;
    };
    for (set, selector) in sets() {
        let shop = BucketFixture::of_set(&set);
        shop.expect(0, &["pack", SOURCE, ARCHIVE]);
        let project = emulator.fresh_project();
        shop.expect(
            0,
            &[
                "plan",
                ARCHIVE,
                "--target",
                &emulator.target(&project),
                "-o",
                "plan.json",
            ],
        );
        let event = last(&shop.expect(0, &["restore", "plan.json", "--json"]));
        assert_eq!(
            (&event["steps"], &event["entities"]),
            (&json!(by_pair(&set.truth).len()), &json!(set.truth.len())),
            "{}",
            set.name
        );
        assert_same(
            &moved(&set.truth, set.project, &project, &[]),
            &emulator.everything(&project),
            set.legacy,
            set.name,
        );
        shop.expect(0, &["status", "plan.json", "--require-complete"]);

        let project = emulator.fresh_project();
        shop.expect(
            0,
            &[
                "restore",
                ARCHIVE,
                "--target",
                &emulator.target(&project),
                "--only",
                selector,
                "--check",
                "entities",
            ],
        );
        let (namespace, kind) = selector.split_once('/').unwrap();
        assert_eq!(
            emulator.pairs(&project),
            [(namespace.to_owned(), kind.to_owned())],
            "{}",
            set.name
        );
    }
}

#[test]
fn plan_is_stale_when_archive_is_replaced() {
    let shop = BucketFixture::of_set(&managed());
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    shop.expect(
        0,
        &["plan", ARCHIVE, "--target", "ndjson:out", "-o", "plan.json"],
    );
    shop.expect(
        0,
        &["pack", SOURCE, ARCHIVE, "--only", "acme/*", "--overwrite"],
    );
    shop.says(5, &["restore", "plan.json"], &[ARCHIVE]);
    assert!(!shop.path("out").exists());
}

#[test]
fn archive_folder_names_and_finds_newest() {
    let (of_managed, of_legacy) = (managed(), legacy());
    let shop = BucketFixture::of_set(&of_managed);
    // A bucket alone is a folder, too: no object has its name.
    shop.expect(0, &["pack", SOURCE, "gs://vault", "--dry-run"]);
    assert_eq!(shop.server.names("vault"), [""; 0]);
    let packed = last(&shop.expect(0, &["pack", SOURCE, "gs://vault/", "--json"]));
    assert_eq!(
        packed["archive"],
        format!("gs://vault/{}", of_managed.chosen_name)
    );
    shop.expect(0, &["pack", &of_legacy.source, "gs://vault/"]);
    shop.expect(0, &["pack", SOURCE, "gs://vault/", "--only", "acme/*"]);
    // What is no archive by its name, or lies deeper, is passed over.
    shop.server
        .put("vault", "zzz_backup_20991231235959.txt", "no archive");
    shop.server.put(
        "vault",
        "deeper/all_backup_20991231235959.zip",
        "somebody else's",
    );
    let names = shop.server.names("vault");
    assert!(
        names.contains(&of_legacy.chosen_name.to_owned())
            && names
                .iter()
                .any(|name| name.starts_with("acme_backup_2026")),
        "{names:?}"
    );

    let chosen = |args: &[&str]| {
        let run = shop.expect(0, &[args, &["--json"]].concat());
        run.events()
            .into_iter()
            .find(|event| event["event"] == "chosen")
            .unwrap()["archive"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    // Of two of the same age the later name.
    let newest = chosen(&["verify", "gs://vault/", "--quick"]);
    assert!(
        newest.ends_with(of_managed.chosen_name) && newest.contains("gs://vault/all_"),
        "{newest}"
    );
    let acme = chosen(&["verify", "gs://vault/", "--quick", "--namespace", "acme"]);
    assert!(acme.starts_with("gs://vault/acme_backup_2026"), "{acme}");
    shop.says(
        0,
        &["list", "gs://vault/"],
        &[&format!("gs://vault/{}", of_managed.chosen_name)],
    );
    shop.says(
        0,
        &["list", "gs://vault/", "--namespace", "acme"],
        &["gs://vault/acme_backup_2026"],
    );
    let plan = [
        "plan",
        "gs://vault/",
        "--namespace",
        "acme",
        "--target",
        "ndjson:x",
        "-o",
        "plan.json",
    ];
    shop.expect(0, &plan);
    assert_eq!(
        shop.desk.json_file("plan.json")["archive"]["location"],
        acme
    );
    shop.says(
        2,
        &["list", "gs://vault/", "--namespace", "beta"],
        &["gs://vault/ holds no archive named beta_backup_YYYYMMDDHHMMSS.zip"],
    );
    shop.says(
        2,
        &["list", ARCHIVE, "--namespace", "beta"],
        &["--namespace"],
    );
}

#[test]
fn folders_and_buckets_give_equal_bytes() {
    let shop = BucketFixture::of_set(&legacy());
    shop.expect(0, &["pack", "exports", ARCHIVE]);
    shop.assert_packed();
    shop.expect(0, &["pack", SOURCE, "here.zip", "--jobs", "1"]);
    assert!(shop.desk.read("here.zip") == shop.local());
    shop.expect(0, &["pack", SOURCE, ARCHIVE, "--overwrite", "--jobs", "7"]);
    shop.assert_packed();
    shop.expect(
        0,
        &[
            "pack",
            SOURCE,
            ARCHIVE,
            "--overwrite",
            "--upload-cutoff",
            "1",
            "--upload-chunk-size",
            "1KiB",
        ],
    );
    shop.assert_packed();
}

#[test]
fn large_archive_is_composed_of_parts() {
    let shop = BucketFixture::of_set(&managed());
    let parts = ["--upload-cutoff", "1", "--upload-chunk-size", "1KiB"];
    let count = shop.local().len().div_ceil(1 << 10);
    assert!(
        count > 64,
        "the tree of joins is to have several groups: {count} parts"
    );
    let choices = ["--storage-class", "NEARLINE", "--kms-key", "projects/p/k"];
    shop.expect(
        0,
        &[&["pack", SOURCE, ARCHIVE][..], &choices, &parts].concat(),
    );
    shop.assert_packed();
    let object = shop.server.get("vault", STORED).unwrap();
    assert_eq!(
        (
            object.md5,
            object.storage_class.as_deref(),
            object.kms_key.as_deref()
        ),
        (None, Some("NEARLINE"), Some("projects/p/k"))
    );

    // Parts that are kept are found by the next pack, and by nobody else who reads there.
    shop.expect(
        0,
        &[
            &["pack", SOURCE, ARCHIVE, "--overwrite", "--keep-parts"][..],
            &parts,
        ]
        .concat(),
    );
    assert!(shop.server.names("vault").len() > count);
    shop.server.remove("vault", STORED);
    shop.server.remove("vault", SIDECAR);
    shop.server.forget();
    shop.expect(0, &[&["pack", SOURCE, ARCHIVE][..], &parts].concat());
    assert_eq!(
        (
            shop.server.count(Call::Insert),
            shop.server.count(Call::Put)
        ),
        (1, 0),
        "only the sidecar goes up"
    );
    shop.assert_packed();
}

#[test]
fn foreign_parts_stay_unless_abandoned() {
    let shop = BucketFixture::of_kinds(&[("Note", 9, 9_000)]);
    // As long as an archive gets new parts, somebody is at work on it, and the old ones may be
    // needed.
    let [young, old, left] = [
        "sets/kindpack-parts/other.zip/young",
        "sets/kindpack-parts/other.zip/old",
        "sets/kindpack-parts/left.zip/old",
    ];
    let beside = "kindpack-parts/left.zip/old";
    for name in [young, old, left, beside] {
        shop.server.put("vault", name, "of another pack");
    }
    for name in [old, left, beside] {
        shop.server.alter("vault", name, |object| {
            object.updated = Some("2026-01-01T03:04:00.000Z")
        });
    }
    shop.expect(
        0,
        &[
            "pack",
            SOURCE,
            ARCHIVE,
            "--upload-cutoff",
            "1",
            "--upload-chunk-size",
            "20KiB",
        ],
    );
    assert_eq!(
        shop.server.names("vault"),
        [beside, old, young, STORED, SIDECAR]
    );
}

#[test]
fn storage_class_and_key_are_passed_on() {
    for shop in [
        BucketFixture::of_kinds(&[("Note", 9, 1_000)]),
        BucketFixture::of_kinds(&[("Image", 9, 1_000_000)]),
    ] {
        shop.expect(
            0,
            &[
                "pack",
                SOURCE,
                ARCHIVE,
                "--storage-class",
                "COLDLINE",
                "--kms-key",
                "projects/p/k",
            ],
        );
        shop.assert_packed();
        for name in [STORED, SIDECAR] {
            let object = shop.server.get("vault", name).unwrap();
            assert_eq!(
                (object.storage_class.as_deref(), object.kms_key.as_deref()),
                (Some("COLDLINE"), Some("projects/p/k")),
                "{name}"
            );
        }
    }
}

#[test]
#[ignore = "packs half a gigabyte twice"]
fn memory_stays_flat_whatever_the_size() {
    let shop = BucketFixture::of_kinds(&[
        ("A", 130, 1_000_000),
        ("B", 130, 1_000_000),
        ("C", 130, 1_000_000),
        ("D", 130, 1_000_000),
    ]);
    shop.local();
    for more in [&[][..], &["--upload-cutoff", "1GiB", "--overwrite"]] {
        let mut command = shop.kindpack(
            &[
                &["pack", SOURCE, ARCHIVE, "--no-progress", "--jobs", "8"][..],
                more,
            ]
            .concat(),
        );
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut peak_kib = 0;
        let ended = loop {
            let status =
                std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            peak_kib = line
                .and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
                .unwrap_or_default()
                .max(peak_kib);
            match child.try_wait().unwrap() {
                Some(ended) => break ended,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(ended.success(), "{more:?}");
        shop.assert_packed();
        assert!(
            peak_kib > 0 && peak_kib < MEMORY_MAX_KIB,
            "{more:?}: {} MiB",
            peak_kib >> 10
        );
    }
}
