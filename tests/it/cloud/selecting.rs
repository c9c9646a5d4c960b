//! What a pack asks a bucket for, and how often: the archive's name first, metadata once, data only
//! of a set that can be packed.

use crate::cloud::fixture::{ARCHIVE, BucketFixture, SIDECAR, SOURCE, STORED, discreet};
use crate::support::gcs_server::{Call, Deed, REPLACED};
use crate::support::{sha256, sound};

const PACK: [&str; 3] = ["pack", SOURCE, ARCHIVE];

fn shop() -> BucketFixture {
    BucketFixture::of_kinds(&[("Note", 20, 2_000), ("Image", 20, 2_000)])
}

/// The names of what was read below SOURCE, each as often as it was.
fn read_below_source(shop: &BucketFixture) -> Vec<String> {
    shop.server
        .seen()
        .into_iter()
        .filter(|seen| seen.call == Call::Read && seen.name.starts_with("nightly/"))
        .map(|seen| seen.name)
        .collect()
}

fn is_output(name: &str) -> bool {
    name.contains("/output-")
}

#[test]
fn incomplete_set_is_not_downloaded() {
    let shop = shop();
    shop.desk.write("expected", "Note\nImgae\n");
    let args = ["pack", SOURCE, ARCHIVE, "--expect", "expected"];
    for more in [&[][..], &["--dry-run"]] {
        shop.server.forget();
        shop.says(
            3,
            &[&args[..], more].concat(),
            &["Imgae: there is no finished export of it"],
        );
        assert!(
            !read_below_source(&shop).iter().any(|name| is_output(name)),
            "{more:?}"
        );
    }
    // A fault that the listing shows is no reason either.
    shop.server.remove("shop", &shop.object("/output-0"));
    shop.server.forget();
    shop.expect(3, &PACK);
    assert!(!read_below_source(&shop).iter().any(|name| is_output(name)));
    shop.expect(3, &[&PACK[..], &["--all-faults"]].concat());
    assert!(read_below_source(&shop).iter().any(|name| is_output(name)));
}

#[test]
fn a_dry_run_reads_metadata_only() {
    let shop = shop();
    shop.expect(0, &[&PACK[..], &["--dry-run"]].concat());
    shop.expect(0, &["pack", SOURCE, "gs://vault/sets/", "--dry-run"]);
    let read = read_below_source(&shop);
    assert!(
        !read.is_empty() && !read.iter().any(|name| is_output(name)),
        "{read:?}"
    );
}

#[test]
fn all_objects_are_read_once() {
    let shop = shop();
    shop.expect(0, &PACK);
    shop.assert_packed();
    let mut read = read_below_source(&shop);
    read.sort();
    assert_eq!(read, shop.server.names("shop"));
}

#[test]
fn taken_name_is_found_before_reading() {
    let shop = shop();
    shop.server.put("vault", STORED, "no archive");
    shop.says(5, &PACK, &["gs://vault/sets/set.zip already exists"]);
    assert_eq!(
        (
            shop.server.count(Call::List),
            read_below_source(&shop).len()
        ),
        (0, 0)
    );
    // Nor is anything asked where the archive there was packed otherwise.
    shop.expect(
        0,
        &[
            "pack",
            SOURCE,
            "gs://vault/sets/stored.zip",
            "--method",
            "store",
        ],
    );
    shop.server.forget();
    shop.expect(5, &["pack", SOURCE, "gs://vault/sets/stored.zip"]);
    assert_eq!(
        (
            shop.server.count(Call::List),
            read_below_source(&shop).len()
        ),
        (0, 0)
    );
    // An archive of other objects needs no more than a listing.
    shop.expect(
        0,
        &["pack", SOURCE, ARCHIVE, "--only", "Note", "--overwrite"],
    );
    let (archive, sidecar) = (
        shop.stored(),
        shop.server.get("vault", SIDECAR).unwrap().bytes(),
    );
    shop.server.forget();
    shop.expect(5, &["pack", SOURCE, ARCHIVE, "--only", "Image"]);
    assert!(!read_below_source(&shop).iter().any(|name| is_output(name)));
    shop.server
        .put("shop", &shop.object("kind_Note/output-0"), "another one");
    shop.server.forget();
    shop.expect(5, &["pack", SOURCE, ARCHIVE, "--only", "Note"]);
    assert_eq!(read_below_source(&shop), [""; 0]);
    assert_eq!(
        (
            shop.stored(),
            shop.server.get("vault", SIDECAR).unwrap().bytes()
        ),
        (archive, sidecar)
    );
}

#[test]
fn repeated_pack_succeeds_and_writes_nothing() {
    let shop = shop();
    shop.expect(0, &PACK);
    shop.server.forget();
    let run = shop.expect(0, &PACK);
    assert!(
        run.text().contains("already exists with the same contents"),
        "{}",
        run.text()
    );
    shop.assert_packed();
    let writes = [
        Call::Insert,
        Call::Begin,
        Call::Put,
        Call::Compose,
        Call::Delete,
        Call::Patch,
    ];
    assert_eq!(writes.map(|call| shop.server.count(call)), [0; 6]);
    // A sidecar that is wrong is written anew.
    shop.server.put(
        "vault",
        SIDECAR,
        format!("{}  set.zip\n", sha256(b"something else")),
    );
    shop.expect(0, &PACK);
    shop.assert_packed();
    // The digest that stands beside the archive is not believed: the bytes are others.
    let mut bytes = shop.stored().unwrap();
    let metadata = shop.server.get("vault", STORED).unwrap().metadata;
    bytes[100] ^= 1;
    shop.server.put("vault", STORED, bytes);
    shop.server
        .alter("vault", STORED, |object| object.metadata = metadata);
    shop.says(5, &PACK, &["gs://vault/sets/set.zip already exists"]);
}

#[test]
fn an_overwrite_that_fails_leaves_the_archive() {
    let shop = shop();
    shop.expect(0, &["pack", SOURCE, ARCHIVE, "--only", "Note"]);
    let before = shop.stored();
    shop.server.forget();
    shop.server
        .plan_many(Call::Insert, 0, usize::MAX, Deed::Status(503));
    shop.expect(
        6,
        &[&PACK[..], &["--overwrite", "--retry-timeout", "1s"]].concat(),
    );
    assert_eq!(shop.stored(), before);
    shop.server.forget();
    // Its sidecar is gone, and what the object says of itself is enough.
    shop.expect(0, &["verify", ARCHIVE]);
    shop.expect(0, &[&PACK[..], &["--overwrite"]].concat());
    shop.assert_packed();
}

#[test]
fn waiting_reads_each_metadata_object_once() {
    let shop = shop();
    shop.local();
    let mark = shop
        .server
        .names("shop")
        .into_iter()
        .find(|name| name.ends_with(".overall_export_metadata"))
        .unwrap();
    let bytes = shop.server.get("shop", &mark).unwrap().bytes();
    shop.server.remove("shop", &mark);
    let args = [&PACK[..], &["--wait", "90s", "--json"]].concat();
    let mut running = shop.start(&args);
    assert!(running.wait_for_output(r#""event":"waiting""#), "it waits");
    let looked = shop.server.count(Call::List);
    assert!(
        running.wait_until(|| shop.server.count(Call::List) > 2 * looked),
        "it looks again"
    );
    shop.server.put("shop", &mark, bytes);
    let run = discreet(sound(running.wait(), &args));
    assert_eq!(run.code, 0, "{}", run.brief());
    shop.assert_packed();
    let mut read = read_below_source(&shop);
    read.sort();
    assert_eq!(read, shop.server.names("shop"));
}

#[test]
fn metadata_changed_while_waiting_is_reread() {
    let shop = shop();
    shop.local();
    shop.server.plan(Call::Read, 0, Deed::Replace);
    let before: Vec<(String, Vec<u8>)> = shop
        .server
        .names("shop")
        .into_iter()
        .map(|name| {
            (
                name.clone(),
                shop.server.get("shop", &name).unwrap().bytes(),
            )
        })
        .collect();
    let args = [&PACK[..], &["--wait", "90s", "--json"]].concat();
    let mut running = shop.start(&args);
    assert!(running.wait_for_output(r#""event":"waiting""#), "it waits");
    for (name, bytes) in before {
        if shop.server.get("shop", &name).unwrap().bytes() == REPLACED {
            shop.server.put("shop", &name, bytes);
        }
    }
    let run = discreet(sound(running.wait(), &args));
    assert_eq!(run.code, 0, "{}", run.brief());
    shop.assert_packed();
}
