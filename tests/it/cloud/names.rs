//! Names that a bucket holds and a file system does not.

use kindpack::export::log::LogWriter;
use kindpack::export::metadata::{
    ExportMetadata, KindFiles, NamespaceSpec, OverallMetadata, PartPointer,
};
use kindpack::model::{Namespace, Timestamp};
use serde_json::Value;

use crate::cloud::fixture::{BucketFixture, last};
use crate::support::data::{Made, STARTED_MICROS, made};
use crate::support::emulator::emulator;

/// Puts an export of three entities of a kind below a prefix of the shop's bucket, named as the
/// service names it.
fn put_export(shop: &BucketFixture, prefix: &str, kind: &str) {
    let mut log = LogWriter::default();
    let mut output = Vec::new();
    made("shop", "", kind, 3, 100)
        .iter()
        .map(Made::record)
        .for_each(|record| log.record(&record, &mut output));
    let bytes = log.finish(&mut output);
    let folder = format!("default_namespace/kind_{kind}");
    let metadata_file = format!("{folder}/default_namespace_kind_{kind}.export_metadata");
    let kinds = vec![KindFiles {
        kind: kind.to_owned(),
        files: vec!["output-0".to_owned()],
    }];
    let (started, finished) = (
        Timestamp::from_micros(STARTED_MICROS),
        Timestamp::from_micros(STARTED_MICROS + 1),
    );
    let metadata = ExportMetadata {
        name: "long".to_owned(),
        started,
        finished,
        kinds,
    };
    let namespace = NamespaceSpec::One(Namespace::new(""));
    let pointer = PartPointer {
        kind: Some(kind.to_owned()),
        namespace,
        metadata_file: metadata_file.clone(),
        entities: 3,
        bytes,
    };
    shop.server
        .put("shop", &format!("{prefix}{folder}/output-0"), output);
    shop.server.put(
        "shop",
        &format!("{prefix}{metadata_file}"),
        metadata.encode(),
    );
    shop.server.put(
        "shop",
        &format!("{prefix}long.overall_export_metadata"),
        OverallMetadata {
            pointers: vec![pointer],
        }
        .encode(),
    );
}

#[test]
fn long_kinds_are_written_with_shortened_names() {
    let kind = format!("Customer_{}", "x".repeat(291));
    let shop = BucketFixture::of_kinds(&[("Other", 1, 1)]);
    put_export(&shop, "long/", &kind);
    shop.expect(0, &["pack", "gs://shop/long/", "long.zip"]);
    shop.expect(0, &["verify", "long.zip"]);

    shop.says(
        5,
        &["extract", "long.zip", "out"],
        &["longer than 255 bytes", "--target dir:PATH"],
    );
    assert!(!shop.path("out").exists(), "nothing was written");
    shop.expect(
        0,
        &["extract", "long.zip", "managed", "--format", "managed"],
    );
    shop.expect(
        0,
        &["extract", "long.zip", "managed", "--format", "managed"],
    );
    shop.expect(0, &["restore", "long.zip", "--target", "dir:written"]);
    shop.expect(0, &["restore", "long.zip", "--target", "ndjson:lines"]);
    for folder in ["managed", "written"] {
        let archive = format!("{folder}.zip");
        let event = last(&shop.expect(0, &["pack", folder, &archive, "--json"]));
        assert_eq!(
            (&event["kinds"], &event["entities"]),
            (&1.into(), &3.into()),
            "{folder}"
        );
        let manifest: Value =
            serde_json::from_slice(&shop.expect(0, &["list", &archive, "--json"]).out).unwrap();
        assert_eq!(manifest["kinds"][0]["kind"], kind);
    }
    // Into a bucket it goes with its own names, as far as a bucket holds them.
    shop.expect(0, &["extract", "long.zip", "gs://vault/again"]);
    assert!(
        shop.server
            .get(
                "vault",
                &format!("again/default_namespace/kind_{kind}/output-0")
            )
            .is_some()
    );
    let prefix = format!("gs://vault/{}", "x".repeat(500));
    shop.says(
        5,
        &["extract", "long.zip", &prefix],
        &["longer than 1024 bytes"],
    );
}

#[test]
fn an_object_below_another_one_is_refused() {
    let shop = BucketFixture::of_kinds(&[("Other", 1, 1)]);
    put_export(&shop, "long/", "Order");
    put_export(
        &shop,
        "long/default_namespace/kind_Order/output-0/",
        "Product",
    );
    let pack = ["pack", "gs://shop/long/", "with.zip"];
    shop.says(4, &pack, &["it is a file, and", "is inside it"]);
    assert!(!shop.path("with.zip").exists(), "nothing was written");
}

#[test]
fn long_kinds_are_imported() {
    let Some(emulator) = emulator("an import of a long kind") else {
        return;
    };
    let kind = format!("Customer_{}", "x".repeat(291));
    let shop = BucketFixture::of_kinds(&[("Other", 1, 1)]);
    put_export(&shop, "long/", &kind);
    shop.expect(0, &["pack", "gs://shop/long/", "long.zip"]);
    let target = emulator.target(&emulator.fresh_project());
    shop.expect(
        0,
        &[
            "plan",
            "long.zip",
            "--target",
            &target,
            "--via",
            "import",
            "-o",
            "plan.json",
        ],
    );
    shop.expect(0, &["restore", "plan.json", "--check", "entities"]);
}
