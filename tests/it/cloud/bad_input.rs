//! Bad places and odd objects: a clear sentence and an exit code each.

use std::io::Write as _;

use serde_json::Value;

use crate::cloud::fixture::{ARCHIVE, BucketFixture, SOURCE, STORED, last, try_all};
use crate::support::fixtures::managed;

fn small() -> BucketFixture {
    BucketFixture::of_kinds(&[("Note", 5, 100)])
}

#[test]
fn bad_places_are_told_in_a_sentence_each() {
    let shop = small();
    for command in ["list", "verify", "cat", "extract", "plan", "restore"] {
        let more: &[&str] = match command {
            "cat" => &["*"],
            "extract" => &["out"],
            "plan" | "restore" => &["--target", "ndjson:out"],
            _ => &[],
        };
        let said = |archive: &str, words: &str| {
            shop.says(2, &[&[command, archive][..], more].concat(), &[words])
        };
        said("gs://", "names no bucket");
        said("gs:///x.zip", "names no bucket");
        said("gs://absent/x.zip", "gs://absent: no such bucket");
        said("gs://vault/none.zip", "gs://vault/none.zip: no such object");
        said("gs://vault/none/", "gs://vault/none/");
        assert_eq!(
            shop.desk.names_in("."),
            ["exports", "key.json"],
            "{command}"
        );
    }
    let said = |args: &[&str], code: i32, words: &str| shop.says(code, args, &[words]);
    said(&["pack", "gs://", ARCHIVE], 2, "names no bucket");
    said(&["pack", "gs:///x", ARCHIVE], 2, "names no bucket");
    said(&["pack", SOURCE, "gs://"], 2, "names no bucket");
    said(
        &["pack", "s3://shop/nightly/", ARCHIVE],
        2,
        "has an unknown scheme",
    );
    said(
        &["pack", "gs://absent/x", ARCHIVE],
        2,
        "gs://absent: no such bucket",
    );
    said(
        &["pack", SOURCE, "gs://absent/x.zip"],
        2,
        "gs://absent: no such bucket",
    );
    said(
        &["pack", SOURCE, "gs://absent/"],
        2,
        "gs://absent: no such bucket",
    );
    said(
        &["pack", "gs://shop/nothing/", ARCHIVE],
        2,
        "gs://shop/nothing/: no such folder",
    );
    // A prefix is a folder: what only begins like it is not below it.
    said(
        &["pack", "gs://shop/night", ARCHIVE],
        2,
        "gs://shop/night/: no such folder",
    );
    shop.server.put("shop", "letters/a.txt", "no export");
    said(
        &["pack", "gs://shop/letters/", ARCHIVE],
        3,
        "gs://shop/letters/ holds no export",
    );
    for archive in [
        "gs://shop/nightly/set.zip",
        "gs://shop/nightly/",
        "gs://shop/nightly/deep/er/set.zip",
    ] {
        said(&["pack", SOURCE, archive], 2, "would be inside SOURCE");
        said(
            &["pack", "gs://shop/nightly", archive],
            2,
            "would be inside SOURCE",
        );
        said(&["pack", "gs://shop", archive], 2, "would be inside SOURCE");
    }
    assert_eq!(shop.server.names("vault"), [""; 0]);
    // Beside SOURCE is not inside, however much the names are alike.
    shop.expect(0, &["pack", SOURCE, "gs://shop/nightly.zip"]);
    shop.expect(0, &["pack", SOURCE, "gs://shop/nightly-sets/set.zip"]);
}

#[test]
fn requester_pays_bucket_needs_a_billing_project() {
    let shop = BucketFixture::of_kinds(&[("Image", 9, 1_000_000)]);
    shop.local();
    shop.server.requester_pays();
    let words = ["the requester pays for this bucket", "--billing-project"];
    shop.says(2, &["pack", SOURCE, ARCHIVE], &words);
    assert_eq!(shop.server.names("vault"), [""; 0]);
    for more in [
        &[][..],
        &["--upload-cutoff", "1", "--upload-chunk-size", "1MiB"],
    ] {
        let shop = shop.another();
        shop.server.requester_pays();
        shop.expect(
            0,
            &[
                &["pack", SOURCE, ARCHIVE, "--billing-project", "payer"][..],
                more,
            ]
            .concat(),
        );
        shop.assert_packed();
        shop.expect(0, &["verify", ARCHIVE, "--billing-project", "payer"]);
        shop.expect(
            0,
            &[
                "extract",
                ARCHIVE,
                "gs://vault/back/",
                "--billing-project",
                "payer",
            ],
        );
        shop.says(2, &["verify", ARCHIVE], &words);
    }
}

/// A shop whose exports lie below this folder.
fn below(folder: &str) -> BucketFixture {
    let shop = small();
    shop.local();
    for name in shop.server.names("shop") {
        let bytes = shop.server.get("shop", &name).unwrap().bytes();
        shop.server.remove("shop", &name);
        shop.server.put(
            "shop",
            &name.replacen("nightly/", &format!("nightly/{folder}"), 1),
            bytes,
        );
    }
    shop
}

#[test]
fn names_that_no_folder_could_take_are_refused() {
    for (folder, shown) in [
        ("../", "exports/../"),
        ("a/../", "exports/a/../"),
        ("./", "exports/./"),
        ("a//b/", "exports/a//b/"),
        ("/", "exports//"),
        ("new\nline/", r"exports/new\nline/"),
        ("tab\t/", r"exports/tab\t/"),
    ] {
        let shop = below(folder);
        let run = shop.run(&["pack", SOURCE, ARCHIVE]);
        let told = ["kindpack: cannot pack: ", shown, ": its name "]
            .iter()
            .all(|words| run.err.contains(words));
        assert!(run.code == 4 && told, "{folder:?}: {}", run.brief());
        assert_eq!(shop.server.names("vault"), [""; 0], "{folder:?}");
    }
}

#[test]
fn odd_names_are_packed_and_come_back() {
    // An archive's name may have 4,095 bytes, an object's 1,024: nothing is too long.
    let long = |shop: &BucketFixture| {
        let longest = shop
            .server
            .names("shop")
            .iter()
            .map(String::len)
            .max()
            .unwrap();
        format!("{}/", "x".repeat(1_024 - longest - 1))
    };
    let long = long(&small());
    for folder in [
        "with spaces /",
        r"back\slash/",
        "perc%2Fent/",
        "quest?ion#mark/",
        "ünïcödé/",
        "star*[x]/",
        &long,
    ] {
        let shop = below(folder);
        assert!(
            shop.server
                .names("shop")
                .iter()
                .all(|name| name.len() <= 1_024)
        );
        shop.expect(0, &["pack", SOURCE, ARCHIVE]);
        shop.expect(0, &["verify", ARCHIVE]);
        shop.expect(0, &["extract", ARCHIVE, "gs://vault/back/"]);
        for name in shop.server.names("shop") {
            let back = shop
                .server
                .get("vault", &name.replacen("nightly/", "back/", 1))
                .map(|object| object.bytes());
            assert!(
                back == Some(shop.server.get("shop", &name).unwrap().bytes()),
                "{name:?}"
            );
        }
    }
}

#[test]
fn an_archive_may_have_an_odd_name_too() {
    let shop = small();
    shop.local();
    let names = [
        "a//b.zip",
        "/a.zip",
        "//",
        "../up.zip",
        "./here.zip",
        "new\nline.zip",
        "perc%2Fent ?#&=+.zip",
        "ünï.zip",
        &"x".repeat(1_017),
    ];
    try_all(&names, |name| {
        let shop = shop.another();
        let archive = format!("gs://vault/{name}");
        let packed = shop.run(&["pack", SOURCE, &archive, "--json"]);
        // Where it ends in a slash its name is chosen.
        let name = if name.ends_with('/') {
            format!("{name}default_backup_20131012063742.zip")
        } else {
            (*name).to_owned()
        };
        let mut flaws = Vec::new();
        flaws.extend(
            (packed.code != 0 || last(&packed)["archive"] != format!("gs://vault/{name}"))
                .then(|| packed.text()),
        );
        let expected = [name.clone(), format!("{name}.sha256")];
        let names = shop.server.names("vault");
        flaws.extend((names != expected).then(|| format!("in the vault there is {names:?}")));
        for args in [["verify", &archive], ["list", &archive]] {
            let read = shop.run(&args);
            flaws.extend((read.code != 0).then(|| format!("{}: {}", args[0], read.brief())));
        }
        flaws
            .into_iter()
            .map(|flaw| format!("{name:?}: {flaw}"))
            .collect()
    });
}

#[test]
fn folder_marker_is_no_object() {
    let shop = small();
    shop.local();
    for name in ["nightly/", "nightly/deeper/"] {
        shop.server.put("shop", name, "");
    }
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    shop.assert_packed();
}

#[test]
fn compressed_objects_are_packed_as_stored() {
    let shop = BucketFixture::of_set(&managed());
    let entities = |archive: &str| shop.expect(0, &["cat", archive, "*"]).out;
    shop.local();
    let expected = entities("local.zip");
    let name = shop.object("namespace_acme/kind_Customer/output-0");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&shop.server.get("shop", &name).unwrap().bytes())
        .unwrap();
    let compressed = gzip.finish().unwrap();
    shop.server.put("shop", &name, compressed.clone());
    shop.server.alter("shop", &name, |object| {
        object.content_encoding = Some("gzip".to_owned())
    });

    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    assert!(shop.server.get("vault", STORED).is_some());
    let manifest: Value =
        serde_json::from_slice(&shop.expect(0, &["list", ARCHIVE, "--json"]).out).unwrap();
    let entries: Vec<&Value> = manifest["kinds"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|kind| kind["entries"].as_array().unwrap())
        .collect();
    let encoded: Vec<&&Value> = entries
        .iter()
        .filter(|entry| !entry["content_encoding"].is_null())
        .collect();
    assert_eq!(encoded.len(), 1, "only that one is told to be compressed");
    assert_eq!(
        (
            &encoded[0]["content_encoding"],
            encoded[0]["bytes"].as_u64()
        ),
        (&"gzip".into(), Some(compressed.len() as u64))
    );
    assert!(
        encoded[0]["name"]
            .as_str()
            .unwrap()
            .ends_with("kind_Customer/output-0")
    );
    shop.expect(0, &["verify", ARCHIVE]);
    assert!(entities(ARCHIVE) == expected, "cat reads through it");
    shop.expect(
        0,
        &[
            "restore",
            ARCHIVE,
            "--target",
            "ndjson:out",
            "--only",
            "acme/Customer",
        ],
    );
    shop.expect(
        0,
        &[
            "restore",
            "local.zip",
            "--target",
            "ndjson:expected",
            "--only",
            "acme/Customer",
        ],
    );
    assert_eq!(
        shop.desk.read("out/acme/Customer.ndjson"),
        shop.desk.read("expected/acme/Customer.ndjson")
    );
    shop.expect(0, &["extract", ARCHIVE, "back"]);
    assert_eq!(
        shop.desk.read(&name.replacen("nightly/", "back/", 1)),
        compressed,
        "extract gives back what was stored"
    );
}
