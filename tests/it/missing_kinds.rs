//! Backups that lack kinds, and backups of one instant. The program cannot make them by `pack`
//! alone, so they are packed by the library; everything else is the program's.

use std::sync::Arc;

use kindpack::model::{Kind, KindRef, MissingKind, Namespace};
use kindpack::pack::{ArchiveName, PackError, PackRequest, PackResult, pack};
use kindpack::progress::NoProgress;
use kindpack::runtime::workers::Workers;
use kindpack::store::{DirStore, Store};

use crate::schemas::{assert_holds, schema};
use crate::support::TestDir;
use crate::support::fixtures::managed;
use crate::support::zips;

const INSTANT: &str = "2026-11-22T07:05:00Z";

fn missing(namespace: &str, kind: &str, reason: &str) -> MissingKind {
    MissingKind {
        namespace: Namespace::new(namespace),
        kind: Kind::new(kind),
        reason: reason.to_owned(),
    }
}

/// Packs the fixture into `set.zip`, without what it is said to lack.
fn pack_without(desk: &TestDir, missing: Vec<MissingKind>) -> Result<PackResult, Box<PackError>> {
    let source: Arc<dyn Store> = Arc::new(DirStore::new(managed().source));
    let dest: Arc<dyn Store> = Arc::new(DirStore::new(desk.work()));
    let request = PackRequest {
        missing,
        snapshot_time: Some(INSTANT.parse().unwrap()),
        ..PackRequest::default()
    };
    let name = ArchiveName::Explicit("set.zip".to_owned());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let workers = Workers::new(2, 64 << 20);
    let packed = runtime.block_on(pack(&source, &dest, name, &request, &workers, &NoProgress));
    packed.map_err(Box::new)
}

fn packed_without_cache_and_draft() -> TestDir {
    let desk = TestDir::new();
    let lacking = vec![
        missing("acme", "Draft", "the service said INTERNAL 5 times"),
        missing("", "Cache", "too large"),
        missing("", "Cache", "too large"),
    ];
    pack_without(&desk, lacking).unwrap();
    desk
}

#[test]
fn an_archive_says_what_it_lacks_everywhere() {
    let desk = packed_without_cache_and_draft();
    let lines = [
        "(default)/Cache is missing from this backup: too large",
        "acme/Draft is missing from this backup: the service said INTERNAL 5 times",
    ];
    let target = ["--target", "ndjson:out"];
    for args in [
        vec!["list", "set.zip"],
        vec!["verify", "set.zip"],
        vec!["verify", "set.zip", "--quick"],
        [&["plan", "set.zip"], &target[..]].concat(),
    ] {
        let text = desk.expect(0, &args).text();
        assert!(text.contains(INSTANT), "{args:?}: {text}");
        // A plan wraps its warnings.
        let words: Vec<&str> = text.split_whitespace().collect();
        let words = words.join(" ");
        for line in lines {
            assert!(words.contains(line), "{args:?}: {text}");
        }
    }
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    let restored = desk.expect(0, &["restore", "plan.json"]);
    for line in lines {
        assert!(restored.err.contains(line), "{}", restored.err);
    }
}

#[test]
fn excluded_missing_kind_gives_no_warning() {
    let desk = packed_without_cache_and_draft();
    let choices = ["--exclude", "acme/*"];
    let plan = desk.plan("set.zip", "ndjson:out", "plan.json", &choices);
    let warnings = plan["warnings"].to_string();
    assert!(warnings.contains("Cache"), "{warnings}");
    assert!(!warnings.contains("Draft"), "{warnings}");
    let restored = desk.expect(0, &["restore", "plan.json"]);
    assert!(!restored.err.contains("Draft"), "{}", restored.err);
}

#[test]
fn missing_kinds_are_sorted_and_match_schemas() {
    let desk = packed_without_cache_and_draft();
    let manifest = zips::manifest(&desk.path("set.zip"));
    assert_holds(&schema("manifest"), &manifest, "missing kinds");
    let kinds: Vec<&str> = manifest["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|missing| missing["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["Cache", "Draft"]);
    assert_eq!(manifest["backup"]["snapshot_time"], INSTANT);
    let plan = desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    assert_holds(&schema("plan"), &plan, "snapshot time");
    let verified = desk.json(0, &["verify", "set.zip"]);
    assert_holds(&schema("events"), &verified, "missing kinds");
    assert_eq!(verified["missing"].as_array().unwrap().len(), 2);
    assert_eq!(verified["snapshot_time"], INSTANT);
}

#[test]
fn a_kind_cannot_be_missing_and_there() {
    let desk = TestDir::new();
    let there = vec![missing("acme", "Customer", "never exported")];
    let refused = pack_without(&desk, there).unwrap_err();
    assert!(
        matches!(&*refused, PackError::NotMissing(pair) if *pair == KindRef::new("acme", "Customer")),
        "{refused}"
    );
    assert!(!desk.path("set.zip").exists());
}
