//! An archive is read where it lies: few requests, only the bytes that are needed, all of one
//! generation.

use std::collections::BTreeSet;
use std::fs;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;

use crate::cloud::fixture::{ARCHIVE, BucketFixture, SOURCE, STORED, try_all};
use crate::support::gcs_server::{Call, Deed, REPLACED, Right};
use crate::support::{files_below, sound};

/// Many kinds, one of them large: an archive of some MiB whose directory does not fit into its last
/// 64 KiB with the manifest.
fn stocked() -> BucketFixture {
    stocked_with(&[])
}

fn stocked_with(options: &[&str]) -> BucketFixture {
    let names: Vec<String> = (0..150).map(|number| format!("Kind{number:03}")).collect();
    let mut kinds: Vec<(&str, u64, usize)> =
        names.iter().map(|name| (name.as_str(), 2, 100)).collect();
    kinds.push(("Image", 6, 1_000_000));
    let shop = BucketFixture::of_kinds(&kinds);
    shop.server.page(1_000);
    shop.expect(0, &[&["pack", SOURCE, ARCHIVE][..], options].concat());
    shop.server.forget();
    shop
}

#[test]
fn encrypted_archive_is_read_in_few_ranges() {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let shop = stocked_with(&["--encrypt-to", &recipient]);
    assert_eq!(shop.stored(), None, "no plain archive");
    let secret = identity.to_string();
    fs::write(shop.path("identity"), secret.expose_secret()).unwrap();
    let archive = format!("{ARCHIVE}.age");
    for args in [
        &["list", &archive][..],
        &["plan", &archive, "--target", "ndjson:x"],
        &["cat", &archive, "Kind077"],
    ] {
        shop.server.forget();
        shop.expect(0, &[args, &["--identity", "identity"]].concat());
        let (requests, bytes) = (shop.server.seen().len(), shop.bytes_sent());
        assert!(requests <= 12, "{args:?}: {requests} requests");
        assert!(bytes < 2 << 20, "{args:?}: {bytes} bytes");
    }
    shop.expect(5, &["list", &archive]);
    let verify = ["verify", &archive, "--identity", "identity"];
    shop.expect(0, &verify);
}

#[test]
fn archive_opens_with_few_requests() {
    let shop = stocked();
    let len = shop.server.get("vault", STORED).unwrap().len();
    assert!(len > 6_000_000, "{len}");
    let quick: [&[&str]; 4] = [
        &["list", ARCHIVE],
        &["list", ARCHIVE, "--json"],
        &["plan", ARCHIVE, "--target", "ndjson:x", "-o", "plan.json"],
        &["verify", ARCHIVE, "--quick"],
    ];
    for args in quick {
        shop.server.forget();
        shop.expect(0, args);
        let seen = shop.server.seen();
        assert!(seen.len() <= 4, "{args:?}: {} requests", seen.len());
        assert!(
            seen.iter()
                .all(|seen| matches!(seen.call, Call::Stat | Call::Read)),
            "{args:?}: {seen:?}"
        );
        assert!(
            shop.bytes_sent() <= 1 << 20,
            "{args:?}: {} bytes",
            shop.bytes_sent()
        );
    }
    // Of one small kind nothing else is read, not even the gaps.
    let opened = shop.bytes_sent();
    for args in [
        &["cat", ARCHIVE, "Kind077"][..],
        &[
            "restore",
            ARCHIVE,
            "--target",
            "ndjson:one",
            "--only",
            "Kind077",
        ],
    ] {
        shop.server.forget();
        shop.expect(0, args);
        assert!(
            shop.bytes_sent() < 2 * opened + (64 << 10),
            "{args:?}: {} bytes",
            shop.bytes_sent()
        );
        assert!(
            shop.server.seen().len() <= 12,
            "{args:?}: {} requests",
            shop.server.seen().len()
        );
    }
    // Of all but that kind nearly everything is read, and nothing twice.
    shop.server.forget();
    shop.expect(0, &["cat", ARCHIVE, "Image"]);
    assert!(
        shop.bytes_sent() > 6_000_000 && shop.bytes_sent() < len + opened,
        "{} bytes",
        shop.bytes_sent()
    );
    // The entries once, and the archive once more for its sidecar.
    shop.server.forget();
    shop.expect(0, &["verify", ARCHIVE]);
    assert!(
        shop.bytes_sent() < 2 * (len + opened),
        "{} bytes of {len}",
        shop.bytes_sent()
    );
}

#[test]
fn every_read_of_an_archive_names_one_generation() {
    let shop = stocked();
    let generation = shop.server.get("vault", STORED).unwrap().generation;
    for args in [
        &["verify", ARCHIVE][..],
        &["cat", ARCHIVE, "*"],
        &["restore", ARCHIVE, "--target", "ndjson:all"],
    ] {
        shop.server.forget();
        shop.expect(0, args);
        let seen = shop.server.seen();
        let asked: BTreeSet<Option<String>> = seen
            .into_iter()
            .filter(|seen| seen.call == Call::Read && seen.name == STORED)
            .map(|seen| {
                seen.query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("generation="))
                    .map(str::to_owned)
            })
            .collect();
        assert_eq!(asked, [Some(generation.to_string())].into(), "{args:?}");
    }
}

#[test]
fn archive_replaced_while_reading_is_refused() {
    let shop = BucketFixture::of_kinds(&[("Image", 9, 1_000_000), ("Note", 5, 1_000)]);
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    let archive = shop.server.get("vault", STORED).unwrap().bytes();
    let ready = || {
        let shop = shop.another();
        shop.server.put("vault", STORED, archive.clone());
        shop
    };
    let commands = ["verify", "cat", "extract", "restore"];
    // Each case has outputs of its own: what is there already need not be read.
    let args = |command: &'static str, out: &str| -> Vec<String> {
        let more = match command {
            "cat" => vec!["*".to_owned()],
            "extract" => vec![out.to_owned()],
            "restore" => vec!["--target".to_owned(), format!("ndjson:{out}")],
            _ => Vec::new(),
        };
        [vec![command.to_owned(), ARCHIVE.to_owned()], more].concat()
    };
    let run = |shop: &BucketFixture, args: &[String]| {
        shop.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut cases = Vec::new();
    for command in commands {
        let whole = ready();
        assert_eq!(
            run(&whole, &args(command, &format!("whole-{command}"))).code,
            0
        );
        let reads = whole.server.count(Call::Read);
        assert!(reads > 3, "{command}: {reads}");
        cases.extend([1, reads / 2, reads - 1].map(|number| (command, number)));
    }
    try_all(&cases, |(command, number)| {
        let shop = ready();
        // The sidecar is read last; it is another object.
        let reads = shop.server.count(Call::Read);
        shop.server.plan(Call::Read, reads + number, Deed::Replace);
        let run = run(&shop, &args(command, &format!("{command}-{number}")));
        let of_archive = shop.server.get("vault", STORED).unwrap().bytes() == REPLACED;
        let told = matches!(run.code, 5 | 7)
            && run.err.contains(ARCHIVE)
            && run.err.contains("changed while it was read");
        let flaw = !shop.server.unfired().is_empty() || (of_archive && !told);
        flaw.then(|| format!("{command}, replaced before read {number}: {}", run.brief()))
            .into_iter()
            .collect()
    });
}

#[test]
fn damaged_download_is_reported_as_damage() {
    let shop = BucketFixture::of_kinds(&[("Image", 9, 1_000_000)]);
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    let mut bytes = shop.server.get("vault", STORED).unwrap().bytes();
    bytes[4_000_000] ^= 1;
    shop.server.put("vault", STORED, bytes);
    shop.says(4, &["verify", ARCHIVE], &["exports/"]);
    shop.says(4, &["cat", ARCHIVE, "Image"], &["exports/"]);
    shop.expect(0, &["verify", ARCHIVE, "--quick"]);
}

#[test]
fn failed_batch_costs_one_retry_budget() {
    let shop = stocked();
    // A refusal ends it at once, an outage when the time is over.
    for (status, most) in [(403, 12), (503, 60)] {
        let out = format!("out-{status}");
        for command in [
            &["verify", ARCHIVE][..],
            &["extract", ARCHIVE, &out],
            &["cat", ARCHIVE, "*"],
        ] {
            shop.server.forget();
            // The archive is opened before.
            shop.server
                .plan_many(Call::Read, 3, usize::MAX, Deed::Status(status));
            shop.expect(
                6,
                &[command, &["--jobs", "2", "--retry-timeout", "1s"]].concat(),
            );
            assert!(shop.server.unfired().is_empty());
            let reads = shop.server.count(Call::Read);
            assert!(reads <= most, "{command:?}, HTTP {status}: {reads} reads");
        }
    }
}

#[test]
fn byte_corrupted_on_the_way_is_read_again() {
    let shop = BucketFixture::of_kinds(&[("Image", 9, 1_000_000), ("Note", 5, 1_000)]);
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    let archive = shop.server.get("vault", STORED).unwrap().bytes();
    let names = shop.server.names("shop").len();
    let ready = || {
        let shop = shop.another();
        shop.server.put("vault", STORED, archive.clone());
        shop
    };
    let args = |command: &'static str, out: &str| -> Vec<String> {
        let more = match command {
            "cat" => vec!["*".to_owned()],
            "extract" => vec![out.to_owned()],
            "restore" => vec!["--target".to_owned(), format!("ndjson:{out}")],
            _ => Vec::new(),
        };
        [vec![command.to_owned(), ARCHIVE.to_owned()], more].concat()
    };
    let run = |shop: &BucketFixture, args: &[String]| {
        shop.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut cases = Vec::new();
    for command in ["verify", "cat", "extract", "restore"] {
        let whole = ready();
        let sound = run(&whole, &args(command, &format!("sound-{command}")));
        assert_eq!(sound.code, 0, "{command}: {}", sound.brief());
        let text = if command == "cat" {
            sound.text()
        } else {
            String::new()
        };
        for number in 0..whole.server.count(Call::Read) {
            // In a header, in the data, and in the directory or what is next to it.
            cases.extend([5, 100_000, 523_500].map(|at| (command, number, at, text.clone())));
        }
    }
    try_all(&cases, |(command, number, at, text)| {
        let shop = ready();
        shop.server
            .plan(Call::Read, *number, Deed::CorruptByte(*at));
        let out = format!("{command}-{number}-{at}");
        let run = run(&shop, &args(command, &out));
        let is_same = *command != "cat" || run.text() == *text;
        let is_whole = *command != "extract" || files_below(&shop.path(&out)).len() == names;
        let flaw = run.code != 0 || !is_same || !is_whole || !shop.server.unfired().is_empty();
        flaw.then(|| format!("{command}, byte {at} of read {number}: {}", run.brief()))
            .into_iter()
            .collect()
    });
}

#[test]
fn corrupt_byte_of_source_is_read_again_alone() {
    let shop = BucketFixture::of_kinds(&[("Image", 9, 1_000_000)]);
    shop.local();
    let large = shop.object("output-0");
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    let whole = shop.server.seen();
    let is_large = |name: &str| name == large;
    let reads = whole
        .iter()
        .filter(|seen| seen.call == Call::Read && is_large(&seen.name))
        .count();
    let first = whole
        .iter()
        .filter(|seen| seen.call == Call::Read)
        .position(|seen| is_large(&seen.name))
        .unwrap();
    shop.clear();
    shop.server
        .plan(Call::Read, first, Deed::CorruptByte(100_000));
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    assert!(shop.server.unfired().is_empty());
    shop.assert_packed();
    let again = shop
        .server
        .seen()
        .iter()
        .filter(|seen| seen.call == Call::Read && is_large(&seen.name))
        .count();
    assert_eq!(
        again,
        reads + 1,
        "the one piece is read again, and the pack is not begun anew"
    );
}

#[test]
fn verify_compares_digest_in_object_metadata() {
    let shop = BucketFixture::of_kinds(&[("Note", 5, 1_000)]);
    shop.expect(0, &["pack", SOURCE, ARCHIVE]);
    shop.server.remove("vault", &format!("{STORED}.sha256"));
    shop.expect(0, &["verify", ARCHIVE]);
    let say = |digest: &str| {
        shop.server.alter("vault", STORED, |object| {
            object
                .metadata
                .insert("kindpack-sha256".to_owned(), digest.to_owned());
        });
    };
    say(&"0".repeat(64));
    shop.says(4, &["verify", ARCHIVE], &["as in its metadata"]);
    say("x");
    shop.says(4, &["verify", ARCHIVE], &["kindpack-sha256"]);
}

#[test]
fn extract_again_lists_instead_of_reading() {
    let shop = stocked();
    let back = ["extract", ARCHIVE, "gs://vault/back/"];
    shop.expect(0, &back);
    let uploads = shop.server.count(Call::Insert);
    assert!(uploads > 400, "{uploads}");
    shop.server.forget();
    shop.expect(0, &back);
    let counts = shop.counts();
    let few = |call: Call, most: usize| counts.get(&call).copied().unwrap_or_default() <= most;
    assert!(
        few(Call::Stat, 1) && few(Call::Read, 3) && few(Call::List, 2) && few(Call::Insert, 0),
        "{counts:?}"
    );
    // One object fewer is made again, and another one is refused.
    let name = shop
        .server
        .names("vault")
        .into_iter()
        .find(|name| name.ends_with("output-0"))
        .unwrap();
    shop.server.remove("vault", &name);
    shop.server.forget();
    shop.expect(0, &back);
    assert_eq!(shop.server.count(Call::Insert), 1);
    let mut bytes = shop.server.get("vault", &name).unwrap().bytes();
    bytes[9] ^= 1;
    shop.server.put("vault", &name, bytes);
    shop.says(5, &back, &["already exists"]);
}

#[test]
fn extract_needs_no_right_to_list() {
    let shop = stocked();
    let rights = [
        ("storage.objects.get", ""),
        ("storage.objects.create", "back/"),
    ];
    shop.server.allow_only(
        rights
            .map(|(permission, prefix)| Right {
                permission,
                prefix: prefix.to_owned(),
            })
            .to_vec(),
    );
    shop.expect(0, &["extract", ARCHIVE, "gs://vault/back/"]);
    shop.expect(0, &["extract", ARCHIVE, "gs://vault/back/"]);
}

#[test]
fn extract_asks_singly_where_others_crowd_the_listing() {
    let shop = stocked();
    let first = shop.server.names("shop").into_iter().next().unwrap();
    let folder = first.split('/').nth(1).unwrap();
    for number in 0..3_000 {
        shop.server
            .put("vault", &format!("back/{folder}/0{number}"), "x");
    }
    shop.server.page(20);
    shop.server.forget();
    shop.expect(0, &["extract", ARCHIVE, "gs://vault/back/"]);
    let counts = shop.counts();
    assert!(
        counts[&Call::List] < 40 && counts[&Call::Stat] > 400,
        "{counts:?}"
    );
}

#[test]
fn small_kinds_share_reads_or_overlap() {
    let shop = stocked();
    let opened = 4;
    shop.server.forget();
    shop.expect(0, &["cat", ARCHIVE, "*"]);
    let requests = shop.server.seen().len();
    assert!(requests < opened + 20, "{requests} requests for 151 kinds");
    // Kinds that do not follow each other in the archive are waited for side by side.
    let order: Vec<String> = (0..150)
        .map(|number| format!("\"Kind{:03}\"", number * 37 % 150))
        .collect();
    shop.desk
        .write("order", format!("first = [{}]", order.join(", ")));
    shop.server.forget();
    shop.server.plan_many(Call::Read, 3, usize::MAX, Deed::Wait);
    let args = [
        "restore",
        ARCHIVE,
        "--target",
        "ndjson:apart",
        "--order-file",
        "order",
        "--exclude",
        "Image",
    ];
    let mut running = shop.start(&args);
    running.wait_until(|| shop.server.held() >= 16);
    assert!(
        shop.server.held() >= 16,
        "{} reads at once",
        shop.server.held()
    );
    shop.server.release();
    assert_eq!(sound(running.wait(), &args).code, 0);
}
