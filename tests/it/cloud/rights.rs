//! Least rights: a pack works with exactly what the documentation lists, and says which one is
//! missing.

use crate::cloud::fixture::{ARCHIVE, BucketFixture, SIDECAR, SOURCE, STORED};
use crate::support::gcs_server::{Call, Right};

const PACK: [&str; 3] = ["pack", SOURCE, ARCHIVE];
const PACK_IN_PARTS: [&str; 7] = [
    "pack",
    SOURCE,
    ARCHIVE,
    "--upload-cutoff",
    "1",
    "--upload-chunk-size",
    "20KiB",
];

const PARTS: &str = "sets/kindpack-parts/";

/// A permission without what all of them begin with, and the names for which it is given.
type Given = (&'static str, &'static str);
type Rights = Vec<Given>;

fn viewer_of_the_source() -> Rights {
    vec![("list", "nightly/"), ("get", "nightly/")]
}

/// Viewer of the source, creator of archive and sidecar.
fn least() -> Rights {
    [viewer_of_the_source(), vec![("create", STORED)]].concat()
}

/// As [`least`], and what the service asks for of whoever joins parts and takes them away.
fn least_with_parts() -> Rights {
    [
        least(),
        ["create", "get", "list", "delete"]
            .map(|word| (word, PARTS))
            .to_vec(),
    ]
    .concat()
}

fn allow(shop: &BucketFixture, rights: &[(&str, &str)]) {
    let right = |(word, prefix): &(&str, &str)| {
        let permissions = [
            "storage.objects.list",
            "storage.objects.get",
            "storage.objects.create",
            "storage.objects.delete",
        ];
        let permission = permissions
            .into_iter()
            .find(|permission| permission.ends_with(word))
            .unwrap();
        Right {
            permission,
            prefix: (*prefix).to_owned(),
        }
    };
    shop.server.allow_only(rights.iter().map(right).collect());
}

fn small() -> BucketFixture {
    BucketFixture::of_kinds(&[("Note", 20, 20_000), ("Image", 20, 20_000)])
}

fn large() -> BucketFixture {
    BucketFixture::of_kinds(&[("Image", 9, 1_000_000)])
}

/// What is wrong after a pack, where nobody could write the metadata of an object that is there
/// already.
fn flaws_besides_metadata(shop: &BucketFixture) -> Vec<String> {
    shop.flaws()
        .into_iter()
        .filter(|flaw| !flaw.contains("metadata"))
        .collect()
}

#[test]
fn viewer_and_creator_roles_are_enough() {
    for shop in [small(), large()] {
        shop.local();
        allow(&shop, &least());
        shop.expect(0, &PACK);
        assert_eq!(flaws_besides_metadata(&shop), [""; 0]);
        assert_eq!(shop.server.open_sessions(), 0);
        // A taken name is found out by who may not look, too.
        shop.says(5, &PACK, &["gs://vault/sets/set.zip already exists"]);
    }
}

#[test]
fn multipart_pack_needs_only_compose_rights() {
    let shop = small();
    shop.local();
    allow(&shop, &least_with_parts());
    shop.expect(0, &PACK_IN_PARTS);
    shop.assert_packed();
    assert!(shop.server.count(Call::Compose) > 1);
}

#[test]
fn multipart_pack_needs_create_and_delete_only() {
    // A service that joins for whoever may create: then nothing of the program's own asks for more.
    let shop = small();
    shop.local();
    shop.server.joins_freely();
    allow(
        &shop,
        &[least(), vec![("create", PARTS), ("delete", PARTS)]].concat(),
    );
    shop.expect(0, &PACK_IN_PARTS);
    shop.assert_packed();
    assert!(shop.server.count(Call::Compose) > 1);
}

#[test]
fn each_missing_right_is_named_with_its_object() {
    let (small, large) = (small(), large());
    let cases: [(&BucketFixture, &[&str], Rights, Given, &str); 10] = [
        (
            &small,
            &PACK,
            least(),
            ("list", "nightly/"),
            "gs://shop/nightly/: the permission storage.objects.list",
        ),
        (
            &small,
            &PACK,
            least(),
            ("get", "nightly/"),
            "metadata: the permission storage.objects.get",
        ),
        (
            &small,
            &PACK,
            least(),
            ("create", STORED),
            "gs://vault/sets/set.zip: the permission storage.objects.create",
        ),
        (
            &large,
            &PACK,
            least(),
            ("create", STORED),
            "gs://vault/sets/set.zip: the permission storage.objects.create",
        ),
        (
            &small,
            &PACK_IN_PARTS,
            least_with_parts(),
            ("list", "nightly/"),
            "the permission storage.objects.list",
        ),
        (
            &small,
            &PACK_IN_PARTS,
            least_with_parts(),
            ("get", "nightly/"),
            "the permission storage.objects.get",
        ),
        (
            &small,
            &PACK_IN_PARTS,
            least_with_parts(),
            ("create", STORED),
            "gs://vault/sets/set.zip: the permission storage.objects.create",
        ),
        (
            &small,
            &PACK_IN_PARTS,
            least_with_parts(),
            ("create", PARTS),
            "gs://vault/sets/kindpack-parts/",
        ),
        (
            &small,
            &PACK_IN_PARTS,
            least_with_parts(),
            ("create", PARTS),
            "the permission storage.objects.create",
        ),
        (
            &small,
            &PACK_IN_PARTS,
            least_with_parts(),
            ("get", PARTS),
            "storage.objects.get",
        ),
    ];
    for (shop, args, rights, missing, words) in cases {
        let shop = shop.another();
        let rights: Rights = rights
            .into_iter()
            .filter(|right| *right != missing)
            .collect();
        allow(&shop, &rights);
        shop.says(6, args, &[words]);
        let left: Vec<String> = shop
            .server
            .names("vault")
            .into_iter()
            .filter(|name| !name.starts_with(PARTS))
            .collect();
        assert_eq!(left, [""; 0], "without {missing:?}");
        assert_eq!(shop.server.open_sessions(), 0, "without {missing:?}");
    }
}

#[test]
fn missing_list_or_delete_right_is_tolerated() {
    let shop = small();
    shop.local();
    let without = |word: &str| -> Rights {
        least_with_parts()
            .into_iter()
            .filter(|right| *right != (word, PARTS))
            .collect()
    };
    allow(&shop, &without("list"));
    shop.expect(0, &PACK_IN_PARTS);
    shop.assert_packed();

    let shop = shop.another();
    allow(&shop, &without("delete"));
    shop.expect(0, &PACK_IN_PARTS);
    assert!(shop.stored().unwrap() == shop.local());
    assert!(shop.server.get("vault", SIDECAR).is_some());
    assert!(shop.server.names("vault").len() > 32);
}

#[test]
fn extract_needs_create_and_get() {
    let shop = small();
    shop.expect(0, &PACK);
    let args = ["extract", ARCHIVE, "gs://vault/back/"];
    let rights = [("get", STORED), ("get", "back/"), ("create", "back/")];
    for missing in &rights[1..] {
        allow(
            &shop,
            &rights
                .iter()
                .copied()
                .filter(|right| right != missing)
                .collect::<Rights>(),
        );
        shop.says(
            6,
            &args,
            &[
                "gs://vault/back/",
                &format!("storage.objects.{}", missing.0),
            ],
        );
    }
    allow(&shop, &rights);
    shop.expect(0, &args);
}

#[test]
fn viewer_reads_archives_and_listing_needs_list() {
    let shop = small();
    shop.expect(0, &PACK);
    shop.expect(0, &["pack", SOURCE, "gs://vault/sets/"]);
    allow(&shop, &[("get", "sets/")]);
    for args in [
        &["list", ARCHIVE][..],
        &["verify", ARCHIVE],
        &["cat", ARCHIVE, "Note"],
        &["plan", ARCHIVE, "--target", "ndjson:x"],
    ] {
        shop.expect(0, args);
    }
    shop.says(
        6,
        &["list", "gs://vault/sets/"],
        &["gs://vault/sets/: the permission storage.objects.list"],
    );
    allow(&shop, &[("get", "sets/"), ("list", "sets/")]);
    shop.expect(0, &["list", "gs://vault/sets/"]);
    allow(&shop, &[("list", "sets/")]);
    shop.says(
        6,
        &["list", ARCHIVE],
        &["gs://vault/sets/set.zip: the permission storage.objects.get"],
    );
}
