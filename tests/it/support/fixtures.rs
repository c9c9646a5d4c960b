//! The fixtures of the repository as sets with their truth.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::entities::{kind_of, namespace_of};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// A SOURCE and what is in it.
pub struct Set {
    pub name: &'static str,
    /// The folder.
    pub source: String,
    /// The project of its keys; empty where there is no entity.
    pub project: &'static str,
    pub truth: Vec<Value>,
    /// Whether it holds backups of the Datastore Admin.
    pub legacy: bool,
    /// The name that ARCHIVE gets where it is to be chosen.
    pub chosen_name: &'static str,
}

/// A path below the fixtures.
pub fn fixture(name: &str) -> String {
    format!("{FIXTURES}/{name}")
}

fn truth(name: &str) -> Vec<Value> {
    serde_json::from_slice(&fs::read(Path::new(FIXTURES).join(name)).unwrap()).unwrap()
}

pub fn managed() -> Set {
    Set {
        name: "managed",
        source: fixture("managed"),
        project: "demo-src",
        truth: truth("entities.json"),
        legacy: false,
        chosen_name: "all_backup_20261122070742.zip",
    }
}

/// The exports that `kindpack demo` carries: the folder of their only run.
pub fn shop() -> PathBuf {
    let runs = fs::read_dir(fixture("shop/exports")).unwrap();
    let runs: Vec<PathBuf> = runs.map(|run| run.unwrap().path()).collect();
    let [run] = &runs[..] else {
        panic!("one run expected: {runs:?}")
    };
    run.clone()
}

pub fn legacy() -> Set {
    Set {
        name: "legacy",
        source: fixture("legacy"),
        project: "myapp",
        truth: truth("legacy/entities.json"),
        legacy: true,
        chosen_name: "all_backup_20151231052640.zip",
    }
}

/// Every set of the fixtures.
pub fn sets() -> Vec<Set> {
    let variant =
        |name: &'static str, chosen_name: &'static str, keep: &dyn Fn(&str, &str) -> bool| Set {
            name,
            source: fixture(&format!("managed-variants/{name}")),
            project: "demo-src",
            truth: truth("entities.json")
                .into_iter()
                .filter(|entity| keep(namespace_of(entity), kind_of(entity)))
                .collect(),
            legacy: false,
            chosen_name,
        };
    let hit = |n: u64| {
        json!({"key": {"partitionId": {"projectId": "demo-shard"}, "path": [{"kind": "Hit", "id": n.to_string()}]},
               "properties": {"n": {"integerValue": n.to_string()}}})
    };
    const BORDER: &str = "ends_2_bytes_before_block_border";
    vec![
        managed(),
        legacy(),
        variant(
            "all_namespaces_one_kind",
            "all_backup_20261122070743.zip",
            &|_, kind| kind == "Customer",
        ),
        variant(
            "two_kinds_two_namespaces",
            "all_backup_20261122070743.zip",
            &|namespace, kind| namespace != "beta" && matches!(kind, "Customer" | "Product"),
        ),
        variant(
            "everything_no_filter",
            "all_backup_20261122070743.zip",
            &|_, _| true,
        ),
        variant(
            "one_namespace_all_kinds",
            "beta_backup_20261122070743.zip",
            &|namespace, _| namespace == "beta",
        ),
        Set {
            project: "",
            ..variant(
                "kind_without_entities",
                "default_backup_19800101000000.zip",
                &|_, _| false,
            )
        },
        Set {
            project: "demo-shard",
            truth: (1..=5003).map(hit).collect(),
            ..variant(
                "sharded_5003_hits",
                "default_backup_20261122070743.zip",
                &|_, _| false,
            )
        },
        variant(
            "gcs_layout",
            "acme_backup_20131012010000.zip",
            &|namespace, kind| namespace == "acme" && matches!(kind, "Customer" | "Order"),
        ),
        Set {
            truth: truth(&format!("managed-variants/{BORDER}/entities.json")),
            ..variant(BORDER, "default_backup_20131012010000.zip", &|_, _| false)
        },
    ]
}

/// Whether a file's name is that of a part of an export.
pub fn is_export_file(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap();
    let is_metadata = [
        ".overall_export_metadata",
        ".export_metadata",
        ".backup_info",
    ]
    .iter()
    .any(|end| base.ends_with(end));
    let number = base.strip_prefix("output-").is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    is_metadata || number || (base.starts_with("datastore_backup_") && base.contains("-output-"))
}
