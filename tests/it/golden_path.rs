//! The main way from outside, on every fixture, with nothing but the program: pack, list, verify,
//! cat, extract, plan, restore into files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::entities::{
    ancestors, assert_same, by_pair, of_lines, pair_of, references, selector,
};
use crate::support::fixtures::{Set, fixture, is_export_file, legacy, managed, sets};
use crate::support::zips::{self, contents};
use crate::support::{Running, TestDir, copy_folder, files_below, outside_program, sha256};

/// A TARGET for plans that are never run: nobody listens there.
const NOWHERE: &str = "emulator:some-project@127.0.0.1:9";

/// A set, packed as `set.zip` on a desk of its own.
fn packed(set: &Set) -> TestDir {
    let desk = TestDir::new();
    desk.pack(&set.source);
    desk
}

fn len(list: &Value) -> usize {
    list.as_array().unwrap().len()
}

// ----------------------------------------------------------------------------------------------------------------------------
// pack

#[test]
fn pack_leaves_only_archive_and_sidecar() {
    for set in sets() {
        let desk = TestDir::new();
        let event = desk.pack(&set.source);
        let archive = desk.read("set.zip");
        assert_eq!(
            desk.names_in("."),
            ["set.zip", "set.zip.sha256"],
            "{}",
            set.name
        );
        assert!(
            event["archive"].as_str().unwrap().ends_with("set.zip"),
            "{}: {event}",
            set.name
        );
        assert_eq!(event["sha256"], sha256(&archive), "{}", set.name);
        assert_eq!(event["bytes"], archive.len(), "{}", set.name);
        assert_eq!(event["entities"], set.truth.len(), "{}", set.name);
        assert_eq!(event["kinds"], by_pair(&set.truth).len(), "{}", set.name);
        let sidecar = String::from_utf8(desk.read("set.zip.sha256")).unwrap();
        let lines: Vec<&str> = sidecar
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert_eq!(
            lines,
            [format!("{}  set.zip", sha256(&archive))],
            "{}",
            set.name
        );
    }
}

#[test]
fn folder_with_archive_name_is_never_replaced() {
    let source = legacy().source;
    let desk = TestDir::new();
    desk.write("set.zip/keep", "me");
    for overwrite in [&[][..], &["--overwrite"]] {
        let args: Vec<&str> = ["pack", &source, "set.zip"]
            .iter()
            .chain(overwrite)
            .copied()
            .collect();
        let run = desk.run(&args);
        assert!(matches!(run.code, 2 | 5), "{}", run.brief());
        assert_eq!(desk.names_in("."), ["set.zip"]);
        assert_eq!(desk.read("set.zip/keep"), b"me");
    }
}

#[test]
fn overwrite_replaces_with_the_same_bytes() {
    let desk = packed(&legacy());
    desk.write("over.zip", "something else");
    desk.write("over.zip.sha256", "something else");
    desk.json(0, &["pack", &legacy().source, "over.zip", "--overwrite"]);
    assert_eq!(desk.read("over.zip"), desk.read("set.zip"));
    assert!(
        desk.read("over.zip.sha256")
            .starts_with(sha256(&desk.read("set.zip")).as_bytes())
    );
    assert_eq!(
        desk.names_in("."),
        ["over.zip", "over.zip.sha256", "set.zip", "set.zip.sha256"]
    );
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    for set in [managed(), legacy()] {
        let desk = TestDir::new();
        let event = desk.json(0, &["pack", &set.source, "set.zip", "--dry-run"]);
        assert_eq!(desk.names_in("."), [""; 0], "{}", set.name);
        if !set.legacy {
            // Backups of the Datastore Admin count nothing.
            assert_eq!(
                (&event["kinds"], &event["entities"]),
                (&json!(27), &json!(258)),
                "{}",
                set.name
            );
        }
    }
}

#[test]
fn equal_sources_give_equal_bytes() {
    for set in sets() {
        let desk = packed(&set);
        let expected = sha256(&desk.read("set.zip"));
        copy_folder(Path::new(&set.source), &desk.path("else where/копия"));
        for (name, args) in [
            ("1.zip", &[&*set.source, "1.zip", "--jobs", "1"][..]),
            (
                "2.zip",
                &[&*set.source, "2.zip", "--jobs", "2", "--memory", "9MiB"],
            ),
            ("7.zip", &["else where/копия", "7.zip", "--jobs", "7"]),
        ] {
            let args: Vec<&str> = ["pack"].iter().chain(args).copied().collect();
            desk.expect(0, &args);
            assert_eq!(sha256(&desk.read(name)), expected, "{} as {name}", set.name);
        }
    }
}

#[test]
fn archive_folder_names_the_archive() {
    for set in sets() {
        let desk = TestDir::new();
        let event = desk.json(0, &["pack", &set.source, "archives/"]);
        let name = event["archive"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        assert_eq!(name, set.chosen_name, "{}", set.name);
        assert_eq!(
            desk.names_in("archives"),
            [name.clone(), format!("{name}.sha256")],
            "{}",
            set.name
        );
    }
}

#[test]
fn folder_as_archive_means_the_newest() {
    let desk = TestDir::new();
    desk.json(0, &["pack", &legacy().source, "archives/"]);
    desk.json(
        0,
        &[
            "pack",
            &fixture("managed-variants/one_namespace_all_kinds"),
            "archives/",
        ],
    );
    desk.json(
        0,
        &["pack", &fixture("managed-variants/gcs_layout"), "archives/"],
    );
    desk.write(
        "archives/zzz_backup_20991231235959.zip.partial",
        "no archive",
    );
    desk.write("archives/notes.zip", "no archive either");

    let chosen = |options: &[&str]| {
        let args: Vec<&str> = ["verify", "archives/", "--json"]
            .iter()
            .chain(options)
            .copied()
            .collect();
        let events = desk.expect(0, &args).events();
        assert_eq!(events[0]["event"], "chosen");
        assert_eq!(events[0]["archive"], events.last().unwrap()["archive"]);
        events[0]["archive"].as_str().unwrap().to_owned()
    };
    assert!(chosen(&[]).ends_with("beta_backup_20261122070743.zip"));
    assert!(chosen(&["--namespace", "acme"]).ends_with("acme_backup_20131012010000.zip"));
    assert!(chosen(&["--namespace", "all"]).ends_with(legacy().chosen_name));
    let run = desk.expect(0, &["list", "archives/"]);
    assert!(
        run.err.contains("beta_backup_20261122070743.zip"),
        "the choice is printed: {}",
        run.err
    );
    desk.json(2, &["verify", "archives/", "--namespace", "nobody"]);
    desk.json(2, &["verify", "empty/"]);
}

#[test]
fn only_exclude_and_expect_select_exports() {
    let desk = TestDir::new();
    let kinds = |archive: &str| -> BTreeSet<String> {
        let manifest = zips::manifest(&desk.path(archive));
        manifest["kinds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| format!("{}/{}", kind["namespace"], kind["kind"]).replace('"', ""))
            .collect()
    };
    let source = &managed().source;
    desk.json(
        0,
        &[
            "pack",
            source,
            "only.zip",
            "--only",
            "acme/*",
            "--only",
            "(default)/Order",
            "--exclude",
            "EdgeCase",
        ],
    );
    assert_eq!(
        kinds("only.zip"),
        [
            "/Order",
            "acme/AuditLog",
            "acme/Customer",
            "acme/Media",
            "acme/Order",
            "acme/OrderLine",
            "acme/Product",
            "acme/Review",
            "acme/Session"
        ]
        .map(str::to_owned)
        .into()
    );
    desk.json(2, &["pack", source, "none.zip", "--only", "NoSuchKind"]);

    desk.write("expect", "acme/Order\n\nReview\n*Line\n");
    desk.json(0, &["pack", source, "expected.zip", "--expect", "expect"]);
    desk.write("expect", "acme/Order\nNoSuchKind\nacme/No*\n");
    let run = desk.expect(3, &["pack", source, "missing.zip", "--expect", "expect"]);
    assert!(
        run.err.contains("NoSuchKind") && run.err.contains("acme/No*"),
        "all that is missing is named: {}",
        run.err
    );
    assert!(!desk.path("missing.zip").exists() && !desk.path("none.zip").exists());
}

#[test]
fn wait_waits_until_what_is_expected_is_finished() {
    let desk = TestDir::new();
    let set = fixture("managed-variants/gcs_layout");
    copy_folder(Path::new(&set), &desk.path("exports"));
    let mark = desk.path("exports/backups/20131012/Order/Order.overall_export_metadata");
    fs::rename(&mark, desk.path("mark")).unwrap();
    let mut packing =
        Running::start(desk.kindpack(&["pack", "exports", "set.zip", "--wait", "60s", "--json"]));
    assert!(packing.wait_for_output("waiting"), "it did not wait");
    fs::rename(desk.path("mark"), mark).unwrap();
    let run = packing.wait();
    assert_eq!(run.code, 0, "{}", run.brief());
    let events = run.events();
    assert!(
        events.iter().any(|event| event["event"] == "waiting"),
        "{events:?}"
    );
    desk.json(0, &["pack", &set, "whole.zip"]);
    assert_eq!(desk.read("set.zip"), desk.read("whole.zip"));
}

// -------------------------------------------------------------------------------------------------------------------------
// archive

#[test]
fn archive_holds_every_file_and_manifest_last() {
    for set in sets() {
        let desk = packed(&set);
        let source: BTreeMap<String, Vec<u8>> = files_below(Path::new(&set.source))
            .into_iter()
            .filter(|(name, _)| is_export_file(name))
            .map(|(name, path)| (format!("exports/{name}"), fs::read(path).unwrap()))
            .collect();
        let mut entries = contents(&desk.path("set.zip"));
        assert_eq!(entries.pop().unwrap().0, "manifest.json", "{}", set.name);
        assert_eq!(entries.pop().unwrap().0, "SHA256SUMS", "{}", set.name);
        let count = entries.len();
        let entries: BTreeMap<String, Vec<u8>> = entries.into_iter().collect();
        assert_eq!(entries.len(), count, "{}: a name twice", set.name);
        assert_eq!(
            entries.keys().collect::<Vec<_>>(),
            source.keys().collect::<Vec<_>>(),
            "{}",
            set.name
        );
        assert!(entries == source, "{}: other bytes", set.name);
    }
}

#[test]
fn list_prints_the_stored_manifest() {
    for set in sets() {
        let desk = packed(&set);
        let listed = desk.expect(0, &["list", "set.zip", "--json"]);
        assert_eq!(
            listed.out,
            zips::entry(&desk.path("set.zip"), "manifest.json"),
            "{}",
            set.name
        );
        let table = desk.expect(0, &["list", "set.zip"]).text();
        for (namespace, kind) in by_pair(&set.truth).keys() {
            let namespace = if namespace.is_empty() {
                "(default)"
            } else {
                namespace
            };
            let row = table
                .lines()
                .any(|line| line.contains(namespace) && line.contains(kind.as_str()));
            assert!(
                row,
                "{}: no row for {namespace}/{kind} in\n{table}",
                set.name
            );
        }
    }
}

#[test]
fn the_manifest_counts_and_digests_what_is_there() {
    for set in sets() {
        let desk = packed(&set);
        let manifest = zips::manifest(&desk.path("set.zip"));
        let entries: BTreeMap<String, Vec<u8>> =
            contents(&desk.path("set.zip")).into_iter().collect();
        let pairs = by_pair(&set.truth);
        let kinds = manifest["kinds"].as_array().unwrap();

        let counts: BTreeMap<_, _> = kinds
            .iter()
            .map(|kind| {
                (
                    (text(&kind["namespace"]), text(&kind["kind"])),
                    kind["entities"].as_u64().unwrap(),
                )
            })
            .collect();
        let expected: BTreeMap<_, _> = pairs
            .iter()
            .map(|(pair, entities)| (pair.clone(), entities.len() as u64))
            .collect();
        assert_eq!(counts, expected, "{}", set.name);
        assert_eq!(kinds.len(), counts.len(), "{}: a kind twice", set.name);

        let mut seen = BTreeSet::new();
        let of_exports = manifest
            .get("empty_exports")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        for entry in kinds
            .iter()
            .chain(of_exports)
            .flat_map(|item| item["entries"].as_array().unwrap())
            .chain([&manifest["sums"]])
        {
            let name = text(&entry["name"]);
            let bytes = entries
                .get(&name)
                .unwrap_or_else(|| panic!("{}: {name} is not in the zip", set.name));
            assert_eq!(entry["bytes"], bytes.len(), "{}: {name}", set.name);
            assert_eq!(entry["sha256"], sha256(bytes), "{}: {name}", set.name);
            assert_eq!(
                entry["crc32c"],
                format!("{:08x}", crc32c::crc32c(bytes)),
                "{}: {name}",
                set.name
            );
            seen.insert(name);
        }
        assert_eq!(
            seen.len() + 1,
            entries.len(),
            "{}: every entry but the manifest is described",
            set.name
        );

        let totals = &manifest["totals"];
        let exports = entries
            .iter()
            .filter(|(name, _)| name.starts_with("exports/"));
        assert_eq!(totals["kinds"], kinds.len(), "{}", set.name);
        assert_eq!(totals["entities"], set.truth.len(), "{}", set.name);
        assert_eq!(totals["entries"], exports.clone().count(), "{}", set.name);
        assert_eq!(
            totals["bytes"],
            exports.map(|(_, bytes)| bytes.len()).sum::<usize>(),
            "{}",
            set.name
        );
        assert_eq!(manifest["format"], "kindpack/1");
        assert_eq!(manifest["backup"]["project"], set.project, "{}", set.name);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn parents_and_references_are_what_the_entities_say() {
    for set in sets() {
        let desk = packed(&set);
        let manifest = zips::manifest(&desk.path("set.zip"));
        let pairs = by_pair(&set.truth);
        for item in manifest["kinds"].as_array().unwrap() {
            let pair = (text(&item["namespace"]), text(&item["kind"]));
            let entities = &pairs[&pair];
            let parents: BTreeSet<String> = entities.iter().flat_map(ancestors).collect();
            let mut counts: BTreeMap<_, u64> = BTreeMap::new();
            entities
                .iter()
                .flat_map(|entity| references(&entity["properties"], set.project))
                .for_each(|pair| *counts.entry(pair).or_default() += 1);
            let pointed: BTreeSet<_> = counts.keys().cloned().collect();
            let kinds: BTreeSet<&String> = pointed.iter().map(|(_, kind)| kind).collect();
            assert_eq!(
                item["parents"],
                json!(parents),
                "{}: parents of {}",
                set.name,
                selector(&pair)
            );
            assert_eq!(
                item["references"],
                json!(kinds),
                "{}: references of {}",
                set.name,
                selector(&pair)
            );
            let pointed: Vec<Value> = pointed
                .iter()
                .map(|(namespace, kind)| json!({"namespace": namespace, "kind": kind}))
                .collect();
            assert_eq!(
                item["reference_pairs"],
                json!(pointed),
                "{}: references of {}",
                set.name,
                selector(&pair)
            );
            let counts: Vec<u64> = counts.into_values().collect();
            assert_eq!(
                item["reference_counts"],
                json!(counts),
                "{}: references of {}",
                set.name,
                selector(&pair)
            );
        }
    }
}

#[test]
fn sha256sum_agrees_after_unzip() {
    const TEST: &str = "sha256sum -c SHA256SUMS after unzip";
    let Some(unzip) = outside_program("unzip", &["unzip"], TEST) else {
        return;
    };
    let Some(sha256sum) = outside_program("sha256sum", &["sha256sum"], TEST) else {
        return;
    };
    for set in sets() {
        let desk = packed(&set);
        let unzipped =
            Running::start(desk.program(&unzip, &["-q", "set.zip", "-d", "unzipped"])).wait();
        assert_eq!(unzipped.code, 0, "{}: {}", set.name, unzipped.brief());
        let mut command = desk.program(&sha256sum, &["--quiet", "--strict", "-c", "SHA256SUMS"]);
        command.current_dir(desk.path("unzipped"));
        let summed = Running::start(command).wait();
        let nothing_packed = set.truth.is_empty() && summed.err.contains("no properly formatted");
        assert!(
            summed.code == 0 || nothing_packed,
            "{}: {}",
            set.name,
            summed.brief()
        );
        let lines = String::from_utf8(desk.read("unzipped/SHA256SUMS"))
            .unwrap()
            .lines()
            .count();
        assert_eq!(
            lines,
            files_below(&desk.path("unzipped/exports")).len(),
            "{}",
            set.name
        );
        let sidecar = Running::start(
            desk.program(&sha256sum, &["--quiet", "--strict", "-c", "set.zip.sha256"]),
        )
        .wait();
        assert_eq!(sidecar.code, 0, "{}: {}", set.name, sidecar.brief());
    }
}

#[test]
fn verify_reads_everything_and_finds_nothing_wrong() {
    for set in sets() {
        let desk = packed(&set);
        for options in [&[][..], &["--quick"], &["--jobs", "1"]] {
            let args: Vec<&str> = ["verify", "set.zip"]
                .iter()
                .chain(options)
                .copied()
                .collect();
            let event = desk.json(0, &args);
            assert_eq!(event["problems"], json!([]), "{} {options:?}", set.name);
            assert_eq!(
                event["entities"],
                set.truth.len(),
                "{} {options:?}",
                set.name
            );
            assert_eq!(
                event["entries"],
                contents(&desk.path("set.zip")).len(),
                "{} {options:?}",
                set.name
            );
        }
        desk.json(0, &["verify", "set.zip", "--any-zip"]);
    }
    let desk = packed(&managed());
    let event = desk.json(0, &["verify", "set.zip", "--only", "acme/Customer"]);
    assert_eq!(
        event["entities"],
        by_pair(&managed().truth)[&("acme".to_owned(), "Customer".to_owned())].len()
    );
    desk.json(2, &["verify", "set.zip", "--only", "NoSuchKind"]);
}

// -------------------------------------------------------------------------------------------------------------------
// cat and extract

#[test]
fn cat_prints_the_entities_of_every_kind() {
    for set in sets() {
        let desk = packed(&set);
        // Kind by kind for the two main sets; the others say the same in one run.
        let by_kind = if matches!(set.name, "managed" | "legacy") {
            by_pair(&set.truth)
        } else {
            BTreeMap::new()
        };
        for (pair, entities) in by_kind {
            let run = desk.expect(0, &["cat", "set.zip", &selector(&pair)]);
            assert_same(
                &entities,
                &of_lines(&run.out),
                false,
                &format!("{}: cat {}", set.name, selector(&pair)),
            );
        }
        if !set.truth.is_empty() {
            let run = desk.expect(0, &["cat", "set.zip", "*", "--jobs", "3"]);
            assert_same(
                &set.truth,
                &of_lines(&run.out),
                false,
                &format!("{}: cat *", set.name),
            );
        }
        desk.json(2, &["cat", "set.zip", "NoSuchKind"]);
    }
}

#[test]
fn extract_restores_source_files() {
    for set in sets() {
        let desk = packed(&set);
        let event = desk.json(0, &["extract", "set.zip", "out"]);
        let source: BTreeMap<String, Vec<u8>> = files_below(Path::new(&set.source))
            .into_iter()
            .filter(|(name, _)| is_export_file(name))
            .map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect();
        let found: BTreeMap<String, Vec<u8>> = files_below(&desk.path("out"))
            .into_iter()
            .map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect();
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            source.keys().collect::<Vec<_>>(),
            "{}",
            set.name
        );
        assert!(found == source, "{}: other bytes", set.name);
        assert_eq!(event["objects"], source.len(), "{}", set.name);
    }
}

#[test]
fn extract_overwrites_nothing() {
    let desk = packed(&legacy());
    desk.json(0, &["extract", "set.zip", "out"]);
    let files = files_below(&desk.path("out"));
    let victim = files.values().next_back().unwrap();
    fs::write(victim, "mine").unwrap();
    let others = files.values().next().unwrap();
    fs::remove_file(others).unwrap();
    desk.json(5, &["extract", "set.zip", "out"]);
    assert_eq!(fs::read(victim).unwrap(), b"mine");
    assert!(
        !others.exists(),
        "nothing is written where one name is taken"
    );
}

#[test]
fn extract_goes_on_where_an_earlier_run_stopped() {
    let desk = packed(&legacy());
    let whole = desk.json(0, &["extract", "set.zip", "out"]);
    let lost = files_below(&desk.path("out")).into_values().next().unwrap();
    fs::remove_file(&lost).unwrap();
    let rest = desk.json(0, &["extract", "set.zip", "out"]);
    assert_eq!(
        (
            whole["objects"].as_u64() > Some(1),
            rest["objects"].as_u64()
        ),
        (true, Some(1))
    );
    assert!(lost.exists());
}

#[test]
fn extract_never_divides_an_export() {
    let desk = TestDir::new();
    desk.pack(&fixture("managed-variants/two_kinds_two_namespaces"));
    desk.json(2, &["extract", "set.zip", "out", "--only", "acme/Customer"]);
    assert!(!desk.path("out").exists());
}

#[test]
fn newest_archive_ignores_subfolders() {
    let desk = TestDir::new();
    desk.json(0, &["pack", &legacy().source, "archives/"]);
    desk.json(0, &["pack", &managed().source, "archives/elsewhere/"]);
    let listed = desk.expect(0, &["list", "archives/", "--json"]);
    let manifest: Value = serde_json::from_slice(&listed.out).unwrap();
    assert_eq!(manifest["backup"]["project"], "myapp");
}

#[test]
fn extract_takes_only_the_chosen_kinds() {
    let desk = packed(&managed());
    desk.json(
        0,
        &[
            "extract",
            "set.zip",
            "out",
            "--only",
            "acme/Order",
            "--only",
            "Media",
        ],
    );
    let names: BTreeSet<String> = files_below(&desk.path("out"))
        .keys()
        .map(|name| name.split('/').take(2).collect::<Vec<_>>().join("/"))
        .collect();
    assert_eq!(
        names,
        ["acme/Media", "acme/Order", "beta/Media", "default/Media"]
            .map(str::to_owned)
            .into()
    );
    desk.json(2, &["extract", "set.zip", "out2", "--only", "NoSuchKind"]);
    assert!(!desk.path("out2").exists());
}

#[test]
fn managed_extract_converts_legacy_backups() {
    for set in [legacy(), managed()] {
        let desk = packed(&set);
        desk.json(0, &["extract", "set.zip", "out", "--format", "managed"]);
        let marks = files_below(&desk.path("out"))
            .keys()
            .filter(|name| name.ends_with(".overall_export_metadata"))
            .count();
        assert_eq!(marks, by_pair(&set.truth).len(), "{}", set.name);
        assert!(
            !files_below(&desk.path("out"))
                .keys()
                .any(|name| name.ends_with(".backup_info")),
            "{}",
            set.name
        );
        desk.json(0, &["pack", "out", "again.zip"]);
        let run = desk.expect(0, &["cat", "again.zip", "*"]);
        assert_same(&set.truth, &of_lines(&run.out), false, set.name);
        let formats: BTreeSet<String> = zips::manifest(&desk.path("again.zip"))["kinds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| text(&kind["format"]))
            .collect();
        assert_eq!(
            formats,
            ["managed-export".to_owned()].into(),
            "{}",
            set.name
        );
    }
}

// -------------------------------------------------------------------------------------------------------------
// restore into folders

#[test]
fn ndjson_files_hold_the_entities_one_kind_each() {
    for set in sets() {
        let desk = packed(&set);
        let event = desk.json(0, &["restore", "set.zip", "--target", "ndjson:out"]);
        assert_eq!(event["entities"], set.truth.len(), "{}", set.name);
        let pairs = by_pair(&set.truth);
        let expected: BTreeSet<String> = pairs
            .keys()
            .map(|pair| format!("{}.ndjson", selector(pair)))
            .collect();
        let files = if pairs.is_empty() {
            BTreeMap::new()
        } else {
            files_below(&desk.path("out"))
        };
        assert_eq!(
            files.keys().cloned().collect::<BTreeSet<_>>(),
            expected,
            "{}",
            set.name
        );
        for (pair, entities) in pairs {
            let found =
                of_lines(&fs::read(&files[&format!("{}.ndjson", selector(&pair))]).unwrap());
            assert_same(
                &entities,
                &found,
                false,
                &format!("{}: {}", set.name, selector(&pair)),
            );
        }
    }
}

#[test]
fn dir_holds_exports_with_the_entities() {
    for set in sets() {
        let desk = packed(&set);
        let event = desk.json(0, &["restore", "set.zip", "--target", "dir:out"]);
        assert_eq!(event["entities"], set.truth.len(), "{}", set.name);
        if set.truth.is_empty() {
            continue;
        }
        desk.json(0, &["pack", "out", "again.zip"]);
        let run = desk.expect(0, &["cat", "again.zip", "*"]);
        assert_same(&set.truth, &of_lines(&run.out), false, set.name);
        for (name, path) in files_below(&desk.path("out")) {
            // At such an end the emulator's own import never returns.
            let left = 32_768 - fs::metadata(path).unwrap().len() % 32_768;
            assert!(
                !name.contains("/output-") || !(1..7).contains(&left),
                "{}: {name} ends {left} bytes before a block's border",
                set.name
            );
        }
    }
}

#[test]
fn namespaces_are_mapped_in_files_too() {
    let set = managed();
    let desk = packed(&set);
    desk.json(
        0,
        &[
            "restore",
            "set.zip",
            "--target",
            "ndjson:out",
            "--map-namespace",
            "acme=acme2",
            "--map-namespace",
            "(default)=base",
        ],
    );
    let found: Vec<Value> = files_below(&desk.path("out"))
        .values()
        .flat_map(|path| of_lines(&fs::read(path).unwrap()))
        .collect();
    let expected = crate::support::entities::moved(
        &set.truth,
        "demo-src",
        "demo-src",
        &[("acme", "acme2"), ("", "base")],
    );
    assert_same(&expected, &found, false, "mapped");
    desk.json(
        2,
        &[
            "plan",
            "set.zip",
            "--target",
            NOWHERE,
            "--map-namespace",
            "nobody=acme",
        ],
    );
}

#[test]
fn nonempty_target_is_refused_and_unchanged() {
    for target in ["ndjson:out", "dir:out"] {
        let desk = packed(&legacy());
        desk.json(0, &["restore", "set.zip", "--target", target]);
        let before: BTreeMap<_, _> = files_below(&desk.path("out"))
            .into_iter()
            .map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect();
        desk.plan("set.zip", target, "anew.json", &[]);
        let failed = desk.json(5, &["restore", "anew.json"]);
        assert!(
            failed["error"]
                .as_str()
                .unwrap()
                .contains("production/User"),
            "{failed}"
        );
        let after: BTreeMap<_, _> = files_below(&desk.path("out"))
            .into_iter()
            .map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect();
        assert!(before == after, "{target}");
        desk.json(
            2,
            &[
                "restore",
                "set.zip",
                "--target",
                target,
                "--on-existing",
                "merge",
            ],
        );
    }
}

#[test]
fn restore_resumes_after_max_steps() {
    let set = managed();
    let desk = packed(&set);
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(0, &["status", "plan.json"]);
    desk.json(7, &["status", "plan.json", "--require-complete"]);
    assert!(
        !desk.path("plan.json.journal").exists(),
        "status writes nothing"
    );

    desk.json(7, &["restore", "plan.json", "--max-steps", "3"]);
    assert_eq!(files_below(&desk.path("out")).len(), 3);
    let run = desk.expect(7, &["status", "plan.json", "--require-complete", "--json"]);
    let states: Vec<String> = run
        .events()
        .iter()
        .filter(|event| event["event"] == "step")
        .map(|event| text(&event["state"]))
        .collect();
    assert_eq!(
        states.iter().filter(|state| *state == "done").count(),
        3,
        "{states:?}"
    );
    assert_eq!(states.len(), 27);

    let event = desk.json(0, &["restore", "plan.json"]);
    assert_eq!(
        (&event["steps"], &event["entities"]),
        (&json!(27), &json!(258))
    );
    let event = desk.json(0, &["status", "plan.json", "--require-complete"]);
    assert_eq!(event["left"], 0);
    let before: Vec<_> = files_below(&desk.path("out"))
        .values()
        .map(|path| fs::metadata(path).unwrap().modified().unwrap())
        .collect();
    let event = desk.json(0, &["restore", "plan.json"]);
    assert_eq!(
        (&event["already_done"], &event["entities"]),
        (&json!(true), &json!(258))
    );
    let said = desk.expect(0, &["restore", "plan.json"]).text();
    assert!(said.contains("already restored"), "{said}");
    let after: Vec<_> = files_below(&desk.path("out"))
        .values()
        .map(|path| fs::metadata(path).unwrap().modified().unwrap())
        .collect();
    assert_eq!(before, after, "nothing is written again");
}

#[test]
fn a_dry_run_of_a_restore_writes_nothing() {
    let desk = packed(&managed());
    for target in ["ndjson:out", "dir:out"] {
        let event = desk.json(0, &["restore", "set.zip", "--target", target, "--dry-run"]);
        assert_eq!(event["entities"], 258, "{target}");
    }
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(0, &["restore", "plan.json", "--dry-run"]);
    assert_eq!(
        desk.names_in("."),
        ["plan.json", "set.zip", "set.zip.sha256"]
    );
    assert!(
        !desk.home().join("state/kindpack").exists(),
        "no plan and no journal is kept"
    );
}

// ----------------------------------------------------------------------------------------------------------------------------
// plan

#[test]
fn a_plan_has_one_step_for_every_kind() {
    for set in sets() {
        let desk = packed(&set);
        let plan = desk.plan("set.zip", NOWHERE, "plan.json", &[]);
        let steps = plan["steps"].as_array().unwrap();
        let counts: BTreeMap<_, _> = steps
            .iter()
            .map(|step| {
                (
                    (text(&step["namespace"]), text(&step["kind"])),
                    step["entities"].as_u64().unwrap(),
                )
            })
            .collect();
        let expected: BTreeMap<_, _> = by_pair(&set.truth)
            .into_iter()
            .map(|(pair, entities)| (pair, entities.len() as u64))
            .collect();
        assert_eq!(counts, expected, "{}", set.name);
        assert_eq!(steps.len(), counts.len(), "{}: a step twice", set.name);
        assert_eq!(
            steps
                .iter()
                .map(|step| step["id"].as_u64().unwrap())
                .collect::<Vec<_>>(),
            (1..=steps.len() as u64).collect::<Vec<_>>()
        );
        assert!(
            steps
                .iter()
                .all(|step| step["to_namespace"] == step["namespace"]
                    && !text(&step["reason"]).is_empty()),
            "{}",
            set.name
        );
        assert_eq!(
            plan["archive"]["sha256"],
            sha256(&desk.read("set.zip")),
            "{}",
            set.name
        );
        assert_eq!(
            (&plan["target"], &plan["via"], &plan["on_existing"]),
            (&json!(NOWHERE), &json!("commit"), &json!("fail"))
        );
        desk.plan("set.zip", NOWHERE, "again.json", &["--jobs", "1"]);
        assert_eq!(
            desk.read("plan.json"),
            desk.read("again.json"),
            "{}: a plan can be made again",
            set.name
        );
    }
}

/// Which pairs of a set each pair needs: those above it in its keys, and those that it refers to.
fn needs(set: &Set) -> BTreeMap<(String, String), BTreeSet<(String, String)>> {
    let pairs: BTreeSet<_> = set.truth.iter().map(pair_of).collect();
    let mut needs: BTreeMap<_, BTreeSet<_>> = pairs
        .iter()
        .map(|pair| (pair.clone(), BTreeSet::new()))
        .collect();
    for entity in &set.truth {
        let pair = pair_of(entity);
        let parents = ancestors(entity)
            .into_iter()
            .map(|kind| (pair.0.clone(), kind));
        let all: Vec<_> = parents
            .chain(references(&entity["properties"], set.project))
            .filter(|need| *need != pair && pairs.contains(need))
            .collect();
        needs.get_mut(&pair).unwrap().extend(all);
    }
    needs
}

/// Whether `from` needs `to`, perhaps by way of others.
fn reaches(
    needs: &BTreeMap<(String, String), BTreeSet<(String, String)>>,
    from: &(String, String),
    to: &(String, String),
) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(pair) = open.pop() {
        for need in needs.get(pair).into_iter().flatten() {
            if need == to {
                return true;
            }
            if seen.insert(need) {
                open.push(need);
            }
        }
    }
    false
}

#[track_caller]
fn assert_ordered(set: &Set, plan: &Value) {
    let place: BTreeMap<(String, String), usize> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(index, step)| ((text(&step["namespace"]), text(&step["kind"])), index))
        .collect();
    let mut needs = needs(set);
    needs.retain(|pair, _| place.contains_key(pair));
    needs
        .values_mut()
        .for_each(|needs| needs.retain(|need| place.contains_key(need)));
    for (pair, own) in &needs {
        for need in own {
            let in_a_circle = reaches(&needs, need, pair);
            assert!(
                place[need] < place[pair] || in_a_circle,
                "{}: {} comes before {}, which it needs",
                set.name,
                selector(pair),
                selector(need)
            );
        }
    }
}

#[test]
fn every_step_comes_after_those_that_it_needs() {
    for set in sets() {
        let desk = packed(&set);
        let plan = desk.plan("set.zip", NOWHERE, "plan.json", &[]);
        assert_ordered(&set, &plan);
    }
    // Without the kinds that close circles nothing excuses a wrong order.
    let set = managed();
    let desk = packed(&set);
    for skip in [
        &["Customer"][..],
        &["Customer", "Order"],
        &["Customer", "EdgeCase", "Review"],
        &["acme/*", "Product"],
    ] {
        let options: Vec<&str> = skip.iter().flat_map(|skip| ["--exclude", skip]).collect();
        let plan = desk.plan("set.zip", NOWHERE, "plan.json", &options);
        assert_ordered(&set, &plan);
        assert_eq!(len(&plan["steps"]) + len(&plan["skipped"]), 27);
    }
}

#[test]
fn the_users_word_on_the_order_wins() {
    let desk = packed(&managed());
    let order = |options: &[&str]| -> Vec<String> {
        let plan = desk.plan("set.zip", NOWHERE, "plan.json", options);
        let steps = plan["steps"].as_array().unwrap();
        steps
            .iter()
            .map(|step| selector(&(text(&step["namespace"]), text(&step["kind"]))))
            .collect()
    };
    let steps = order(&["--first", "acme/AuditLog", "--last", "(default)/Product"]);
    assert_eq!(
        (
            steps.first().unwrap().as_str(),
            steps.last().unwrap().as_str()
        ),
        ("acme/AuditLog", "(default)/Product")
    );
    let steps = order(&[
        "--only",
        "beta/*",
        "--depends-on",
        "beta/Product=beta/Review",
    ]);
    let place = |name: &str| steps.iter().position(|step| step == name).unwrap();
    assert_eq!(steps.len(), 9);
    assert!(place("beta/Product") > place("beta/Review"), "{steps:?}");
    let plan = desk.plan(
        "set.zip",
        NOWHERE,
        "plan.json",
        &["--exclude", "acme/Session"],
    );
    assert_eq!(len(&plan["skipped"]), 1);
    assert_eq!(
        (
            &plan["skipped"][0]["namespace"],
            &plan["skipped"][0]["kind"]
        ),
        (&json!("acme"), &json!("Session"))
    );
    desk.json(
        2,
        &[
            "plan",
            "set.zip",
            "--target",
            NOWHERE,
            "--depends-on",
            "acme/Order=acme/Review",
            "--depends-on",
            "acme/Review=acme/Order",
        ],
    );
    desk.json(
        2,
        &[
            "plan",
            "set.zip",
            "--target",
            NOWHERE,
            "--only",
            "NoSuchKind",
        ],
    );
}

#[test]
fn plan_exit_code_says_whether_steps_remain() {
    let desk = packed(&legacy());
    desk.json(
        8,
        &[
            "plan",
            "set.zip",
            "--target",
            NOWHERE,
            "--detailed-exitcode",
        ],
    );
    desk.json(0, &["plan", "set.zip", "--target", NOWHERE]);
    let desk = packed(&sets().into_iter().find(|set| set.truth.is_empty()).unwrap());
    desk.json(
        0,
        &[
            "plan",
            "set.zip",
            "--target",
            NOWHERE,
            "--detailed-exitcode",
        ],
    );
}
