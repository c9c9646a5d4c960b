//! Archives that were made once and are never made again: every later version reads them. And
//! archives of formats that are yet to come.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::fixtures::fixture;
use crate::support::{TestDir, files_below, sha256, zips};
use kindpack::model::MANIFEST_FORMAT;

const MANAGED: &str = "archives/kindpack-1-managed.zip";

/// The archives by their names, each with what it gives.
fn archives() -> BTreeMap<String, Value> {
    serde_json::from_slice(&fs::read(fixture("archives/expected.json")).unwrap()).unwrap()
}

/// What an archive gives: the order of its plan, and digests of the files that a restore writes.
fn given_by(desk: &TestDir, archive: &str) -> Value {
    let plan = desk.plan(archive, "ndjson:lines", "plan.json", &[]);
    desk.json(0, &["restore", "plan.json"]);
    json!({"steps": steps(&plan), "lines": digests(&desk.path("lines"))})
}

fn steps(plan: &Value) -> Vec<String> {
    let steps = plan["steps"].as_array().unwrap().iter();
    let text = |step: &Value, field: &str| step[field].as_str().unwrap().to_owned();
    steps
        .map(|step| format!("{}/{}", text(step, "namespace"), text(step, "kind")))
        .collect()
}

fn digests(folder: &Path) -> BTreeMap<String, String> {
    let files = files_below(folder).into_iter();
    files
        .map(|(name, path)| (name, sha256(&fs::read(path).unwrap())))
        .collect()
}

#[test]
fn old_archives_restore_the_same_bytes() {
    for (name, expected) in archives() {
        let archive = fixture(&format!("archives/{name}"));
        let desk = TestDir::new();
        desk.json(0, &["verify", &archive]);
        let given = given_by(&desk, &archive);
        assert_eq!(given, expected, "{name}: {given:#}");
    }
}

#[test]
fn old_archives_list_their_kinds() {
    for (name, expected) in archives() {
        let desk = TestDir::new();
        let archive = fixture(&format!("archives/{name}"));
        let run = desk.expect(0, &["list", &archive]);
        for step in expected["steps"].as_array().unwrap() {
            let (_, kind) = step.as_str().unwrap().rsplit_once('/').unwrap();
            assert!(run.text().contains(kind), "{name}: {}", run.text());
        }
    }
}

#[test]
fn each_format_has_its_archives() {
    let (_, newest) = MANIFEST_FORMAT.rsplit_once('/').unwrap();
    let newest: u32 = newest.parse().unwrap();
    let mut kept: Vec<String> = files_below(Path::new(&fixture("archives")))
        .into_keys()
        .collect();
    kept.retain(|name| name.ends_with(".zip"));
    let listed: Vec<String> = archives().into_keys().collect();
    assert_eq!(kept, listed, "expected.json names each archive");
    for number in 1..=newest {
        let prefix = format!("kindpack-{number}-");
        assert!(
            kept.iter().any(|name| name.starts_with(&prefix)),
            "{prefix}"
        );
    }
}

#[test]
fn manifests_without_counts_verify() {
    let counts = |name: &str| {
        let manifest = zips::manifest(Path::new(&fixture(&format!("archives/{name}"))));
        let kinds = manifest["kinds"].as_array().unwrap().clone();
        kinds
            .iter()
            .any(|kind| kind.get("reference_counts").is_some())
    };
    assert!(!counts("kindpack-1-without-reference-counts.zip"));
    assert!(counts("kindpack-1-managed.zip"));
}

/// An archive whose manifest says another format of the same length; its checksums fit.
fn with_format(format: &str) -> Vec<u8> {
    let path = fixture(MANAGED);
    let mut archive = fs::read(&path).unwrap();
    let manifest = zips::entry(Path::new(&path), "manifest.json");
    let text = String::from_utf8(manifest.clone()).unwrap();
    let changed = text.replacen(MANIFEST_FORMAT, format, 1).into_bytes();
    assert_eq!(changed.len(), manifest.len());
    replace(&mut archive, &manifest, &changed);
    let crc32s = [&manifest, &changed].map(|bytes| crc32fast::hash(bytes).to_le_bytes());
    for _ in ["local header", "directory"] {
        replace(&mut archive, &crc32s[0], &crc32s[1]);
    }
    archive
}

/// Replaces the last occurrence.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let at = last(bytes, old);
    bytes[at..at + new.len()].copy_from_slice(new);
}

fn last(bytes: &[u8], wanted: &[u8]) -> usize {
    let mut windows = bytes.windows(wanted.len());
    windows.rposition(|window| window == wanted).unwrap()
}

#[test]
fn newer_format_is_refused_with_its_number() {
    let desk = TestDir::new();
    desk.write("newer.zip", with_format("kindpack/2"));
    // A later format may change the container, too.
    let mut other_container = with_format("kindpack/9");
    let made_by = last(&other_container, b"PK\x01\x02") + 4;
    other_container[made_by] ^= 1;
    desk.write("other.zip", other_container);
    for (archive, format) in [("newer.zip", "kindpack/2"), ("other.zip", "kindpack/9")] {
        let plan = ["plan", archive, "--target", "ndjson:out"];
        for args in [&["verify", archive][..], &["list", archive], &plan] {
            let run = desk.expect(4, args);
            let says = run.err.clone() + &run.text();
            assert!(
                says.contains(&format!("the format {format};")),
                "{args:?}: {says}"
            );
        }
    }
    assert!(!desk.path("out").exists());
}
