//! What ends, what is recognised and what is cleared up while an archive goes up: waits without an
//! end, requests that arrive twice, parts.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cloud::fixture::{ARCHIVE, BucketFixture, SIDECAR, SOURCE, STORED, discreet, try_all};
use crate::support::gcs_server::{Call, Deed, GcsServer, REPLACED, Right};
use crate::support::{Run, Running, sound};

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

/// An archive that goes up in one request.
fn little() -> BucketFixture {
    BucketFixture::of_kinds(&[("Note", 40, 1_000), ("Image", 3, 20_000)])
}

/// An archive that goes up in a session of two requests, of an object that is read in several
/// ranges.
fn much() -> BucketFixture {
    BucketFixture::of_kinds(&[("Image", 9, 1_000_000)])
}

/// An archive that goes up in more parts than one call joins.
fn many_parts() -> BucketFixture {
    let shop = BucketFixture::of_kinds(&[("Note", 20, 20_000), ("Image", 20, 20_000)]);
    shop.server.page(20);
    shop
}

fn with_json<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--json"]].concat()
}

fn events<'a>(run: &'a [Value], name: &str) -> Vec<&'a Value> {
    run.iter().filter(|event| event["event"] == name).collect()
}

/// Stops a pack before a call is done, changes something, and lets it go on.
fn meanwhile(
    shop: &BucketFixture,
    args: &[&str],
    call: Call,
    number: usize,
    change: impl FnOnce(&GcsServer),
) -> Run {
    shop.server.plan(call, number, Deed::Wait);
    let mut running = shop.start(args);
    assert!(
        running.wait_until(|| shop.server.is_holding()),
        "it comes to {call:?} {number}"
    );
    change(&shop.server);
    shop.server.release();
    discreet(sound(running.wait(), args))
}

fn parts_of(shop: &BucketFixture) -> Vec<String> {
    shop.server
        .names("vault")
        .into_iter()
        .filter(|name| name.contains("kindpack-parts/"))
        .collect()
}

// -------------------------------------------------------------------------------------------------------------
// waits without an end

#[test]
fn session_lost_at_every_piece_gives_up() {
    let shop = much();
    for status in [404, 410] {
        let shop = shop.another();
        shop.server
            .plan_many(Call::Put, 0, usize::MAX, Deed::LoseSession(status));
        let args = [&PACK[..], &["--retry-timeout", "2s"]].concat();
        shop.says(
            6,
            &args,
            &[
                "upload of gs://vault/sets/set.zip",
                "the upload session is lost",
                "tries in 2 s",
            ],
        );
        assert!(
            shop.server.count(Call::Begin) > 2,
            "another session may be good"
        );
        assert_eq!(shop.server.names("vault"), [""; 0]);
    }
}

#[test]
fn listings_without_an_end_are_given_up() {
    // Pages without anything, and the first page again and again.
    for after in ["\u{10ffff}", " "] {
        let shop = little();
        shop.server
            .plan_many(Call::List, 0, usize::MAX, Deed::MorePages(after));
        let args = [&PACK[..], &["--retry-timeout", "1s"]].concat();
        shop.says(
            6,
            &args,
            &[
                "list of gs://shop/nightly/",
                "pages without a new object",
                "tries in 1 s",
            ],
        );
    }
}

#[test]
fn empty_page_before_the_end_is_passed_over() {
    let shop = little();
    shop.server.page(1_000);
    shop.server
        .plan(Call::List, 0, Deed::MorePages("\u{10ffff}"));
    shop.expect(0, &PACK);
    shop.assert_packed();
    assert_eq!(shop.server.unfired(), []);
}

#[test]
fn outage_among_small_objects_is_waited_for_once() {
    let kinds: Vec<(String, u64, usize)> = (0..40)
        .map(|number| (format!("Kind{number}"), 1, 10))
        .collect();
    let kinds: Vec<(&str, u64, usize)> = kinds
        .iter()
        .map(|(kind, count, len)| (kind.as_str(), *count, *len))
        .collect();
    let shop = BucketFixture::of_kinds(&kinds);
    shop.server.page(1_000);
    shop.expect(0, &PACK);
    let reads = shop.server.count(Call::Read);
    // Metadata are read first, data after them.
    for from in [0, reads - 40] {
        let shop = shop.another();
        shop.server.page(1_000);
        shop.server
            .plan_many(Call::Read, from, usize::MAX, Deed::Status(503));
        shop.says(
            6,
            &[&PACK[..], &["--retry-timeout", "1s"]].concat(),
            &["read of gs://shop/nightly/", "tries in 1 s"],
        );
        let seen = shop.server.seen();
        let failed: BTreeSet<&String> = seen
            .iter()
            .filter(|seen| seen.status == 503)
            .map(|seen| &seen.name)
            .collect();
        assert!(
            (1..=64).contains(&failed.len()),
            "{} objects were tried for the whole time",
            failed.len()
        );
    }
}

#[test]
fn retry_after_without_measure_ends_in_a_sentence() {
    let shop = little();
    shop.server.plan(Call::List, 0, Deed::Status(503));
    shop.server
        .plan(Call::List, 1, Deed::RetryAfter(503, u64::MAX));
    shop.says(
        6,
        &PACK,
        &[
            "list of gs://shop/nightly/",
            "HTTP 503",
            "Retry-After 86400 s",
            "2 tries in ",
        ],
    );
}

#[test]
fn refused_connections_are_retried_until_answered() {
    let shop = little();
    shop.local();
    // No other test listens at this address.
    let port = std::net::TcpListener::bind("127.0.0.77:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.77:{port}");
    let mut command = shop.kindpack(&with_json(&PACK));
    command.env("STORAGE_EMULATOR_HOST", format!("http://{address}"));
    let mut running = Running::start(command);
    assert!(running.wait_for_output(r#""event":"retry""#), "it waits");
    let server = shop.server.with_bucket_of_at(&address, "shop", &["vault"]);
    let run = discreet(sound(running.wait(), &PACK));
    assert_eq!(run.code, 0, "{}", run.brief());
    assert!(server.get("vault", STORED).unwrap().bytes() == shop.local());
}

#[test]
fn retries_are_reported_as_events_and_lines() {
    let shop = little();
    let failing = || {
        let shop = shop.another();
        shop.server.plan_many(Call::List, 0, 2, Deed::Status(503));
        shop
    };
    let run = failing().expect(0, &with_json(&PACK));
    let all = run.events();
    let retries = events(&all, "retry");
    assert_eq!(retries.len(), 2, "{retries:?}");
    for (number, retry) in retries.iter().enumerate() {
        assert_eq!(
            (&retry["call"], &retry["attempt"]),
            (&"list of gs://shop/nightly/".into(), &(number + 1).into())
        );
        assert!(
            retry["reason"]
                .as_str()
                .is_some_and(|reason| reason.starts_with("HTTP 503")),
            "{retry}"
        );
        assert!(
            retry["pause_seconds"]
                .as_f64()
                .is_some_and(|pause| pause > 0.0),
            "{retry}"
        );
    }
    failing().says(
        0,
        &[&PACK[..], &["-v"]].concat(),
        &["list of gs://shop/nightly/: attempt 2: HTTP 503"],
    );
    assert_eq!(failing().expect(0, &PACK).err, "");
    // A document on standard output stays one document.
    let archive = failing();
    archive.expect(0, &PACK);
    archive.server.forget();
    archive.server.plan(Call::Stat, 0, Deed::Status(503));
    let list = archive.says(0, &["list", ARCHIVE, "--json", "-v"], &["attempt 1"]);
    assert!(
        serde_json::from_slice::<Value>(&list.out).is_ok(),
        "{}",
        list.text()
    );
}

#[test]
fn twice_verbose_shows_each_request_without_its_address() {
    let shop = much();
    let run = shop.expect(0, &[&PACK[..], &["-vv"]].concat());
    for line in [
        "GET list: 200 in ",
        "GET object bytes: done in ",
        "POST upload: 200 in ",
        "PUT upload session: 308 in ",
    ] {
        assert!(run.err.contains(line), "{line:?} in {}", run.brief());
    }
    assert!(!run.err.contains("http://"), "{}", run.brief());
}

// ------------------------------------------------------------------------------------------------
// its own archive, and that of others

#[test]
fn request_that_arrives_twice_is_no_taken_name() {
    let (little, much, parts) = (little(), much(), many_parts());
    for shop in [&little, &much, &parts] {
        shop.local();
    }
    let cases: [(&BucketFixture, &[&str], Call, usize); 5] = [
        (&little, &PACK, Call::Insert, 0),
        (&much, &PACK, Call::Put, 1),
        (&parts, &PACK_IN_PARTS, Call::Insert, 3),
        (&parts, &PACK_IN_PARTS, Call::Compose, 0),
        (&parts, &PACK_IN_PARTS, Call::Compose, 2),
    ];
    try_all(&cases, |(shop, args, call, number)| {
        let shop = shop.another();
        shop.server.plan(*call, *number, Deed::Twice);
        let run = shop.run(args);
        let mut flaws = shop.flaws();
        flaws.extend((run.code != 0 || !shop.server.unfired().is_empty()).then(|| run.brief()));
        flaws
            .into_iter()
            .map(|flaw| format!("{call:?} {number}: {flaw}"))
            .collect()
    });
}

#[test]
fn late_archive_of_killed_run_is_recognised() {
    let (little, much, parts) = (little(), much(), many_parts());
    let cases: [(&BucketFixture, &[&str], Call, usize); 5] = [
        (&little, &PACK, Call::Insert, 0),
        (&much, &PACK, Call::Begin, 0),
        (&much, &PACK, Call::Put, 1),
        (&parts, &PACK_IN_PARTS, Call::Compose, 0),
        (&parts, &PACK_IN_PARTS, Call::Compose, 2),
    ];
    for (shop, args, call, number) in cases {
        let local = shop.local().to_vec();
        let same = shop.another();
        let run = meanwhile(&same, args, call, number, |server| {
            server.put("vault", STORED, local.clone());
        });
        assert_eq!(run.code, 0, "{call:?} {number}: {}", run.brief());
        assert!(
            same.stored().unwrap() == local && same.server.get("vault", SIDECAR).is_some(),
            "{call:?} {number}"
        );
        assert_eq!(
            (parts_of(&same), same.server.open_sessions()),
            (Vec::new(), 0),
            "{call:?} {number}"
        );

        // As long, and another one all the same.
        let other = shop.another();
        let mut bytes = local;
        *bytes.last_mut().unwrap() ^= 1;
        let run = meanwhile(&other, args, call, number, |server| {
            server.put("vault", STORED, bytes.clone());
        });
        assert_eq!(run.code, 5, "{call:?} {number}: {}", run.brief());
        assert!(
            other.stored().unwrap() == bytes && other.server.get("vault", SIDECAR).is_none(),
            "{call:?} {number}"
        );
        assert_eq!(
            (parts_of(&other), other.server.open_sessions()),
            (Vec::new(), 0),
            "{call:?} {number}"
        );
    }
}

#[test]
fn loser_of_a_name_deletes_its_parts() {
    let shop = many_parts();
    let run = meanwhile(&shop, &PACK_IN_PARTS, Call::Compose, 2, |server| {
        server.put("vault", STORED, REPLACED);
    });
    assert_eq!(run.code, 5, "{}", run.brief());
    assert_eq!(shop.server.names("vault"), [STORED]);

    let shop = shop.another();
    let args = [&PACK_IN_PARTS[..], &["--keep-parts"]].concat();
    meanwhile(&shop, &args, Call::Compose, 2, |server| {
        server.put("vault", STORED, REPLACED);
    });
    assert!(parts_of(&shop).len() > 32, "unless they are to be kept");
}

#[test]
fn second_packer_recognises_archive_without_parts() {
    let shop = many_parts();
    shop.local();
    for number in 0..3 {
        let shop = shop.another();
        let run = meanwhile(&shop, &PACK_IN_PARTS, Call::Compose, number, |_| {
            shop.expect(0, &PACK_IN_PARTS);
        });
        assert_eq!(run.code, 0, "{number}: {}", run.brief());
        shop.assert_packed();
    }
}

#[test]
fn corrupt_piece_restarts_the_pack() {
    let shop = much();
    let local = shop.local();
    for (number, overwrite) in [(0, false), (1, false), (1, true)] {
        let shop = shop.another();
        shop.server.be_the_test_bench();
        if overwrite {
            shop.server.put("vault", STORED, REPLACED);
        }
        shop.server.plan(Call::Put, number, Deed::CorruptByte(777));
        let args = if overwrite {
            [&PACK[..], &["--overwrite"]].concat()
        } else {
            PACK.to_vec()
        };
        let run = shop.expect(0, &with_json(&args));
        assert_eq!(events(&run.events(), "again").len(), 1, "{}", run.text());
        assert!(shop.stored().unwrap() == local, "{number}");
        assert_eq!(shop.server.open_sessions(), 0);
    }
}

#[test]
fn stored_pack_begins_anew_after_a_corrupt_byte() {
    let shop = much();
    let args = [&PACK[..], &["--method", "store"]].concat();
    shop.expect(0, &args);
    let (archive, reads) = (shop.stored().unwrap(), shop.server.count(Call::Read));
    let numbers: Vec<usize> = (0..reads).collect();
    try_all(&numbers, |number| {
        let shop = shop.another();
        shop.server.plan(Call::Read, *number, Deed::CorruptByte(77));
        let run = shop.run(&args);
        let is_right = run.code == 0 && shop.stored().is_some_and(|stored| stored == archive);
        (!is_right)
            .then(|| format!("read {number} of {reads}: {}", run.brief()))
            .into_iter()
            .collect()
    });
}

#[test]
fn whole_object_for_a_range_is_detected() {
    let shop = much();
    shop.local();
    shop.expect(0, &PACK);
    let reads = shop.server.count(Call::Read);
    for number in 0..reads {
        let shop = shop.another();
        shop.server.plan(Call::Read, number, Deed::WholeObject);
        let run = shop.expect(0, &with_json(&PACK));
        assert_eq!(
            events(&run.events(), "again").len(),
            0,
            "read {number}: {}",
            run.text()
        );
        shop.assert_packed();
    }
}

// --------------------------------------------------------------------------------------------------------------
// parts, names, sessions

#[test]
fn parts_that_cannot_be_deleted_are_reported() {
    let shop = many_parts();
    shop.local();
    let rights = || {
        let all = [
            "storage.objects.list",
            "storage.objects.get",
            "storage.objects.create",
        ];
        all.map(|permission| Right {
            permission,
            prefix: String::new(),
        })
        .to_vec()
    };
    let forbids = |shop: &BucketFixture| shop.server.allow_only(rights());
    let fails = |shop: &BucketFixture| {
        shop.server
            .plan_many(Call::Delete, 3, usize::MAX, Deed::Status(503))
    };
    for prepare in [&forbids as &dyn Fn(&BucketFixture), &fails] {
        let shop = shop.another();
        prepare(&shop);
        let run = shop.expect(
            0,
            &with_json(&[&PACK_IN_PARTS[..], &["--retry-timeout", "1s"]].concat()),
        );
        let all = run.events();
        let told = events(&all, "parts-left");
        let left = parts_of(&shop);
        let bytes: u64 = left
            .iter()
            .map(|name| shop.server.get("vault", name).unwrap().len())
            .sum();
        assert_eq!(told.len(), 1, "{}", run.text());
        assert_eq!(
            (told[0]["objects"].as_u64(), told[0]["bytes"].as_u64()),
            (Some(left.len() as u64), Some(bytes))
        );
        assert_eq!(told[0]["folder"], "gs://vault/sets/kindpack-parts/");
        assert!(
            shop.stored().unwrap() == shop.local() && shop.server.get("vault", SIDECAR).is_some()
        );
    }
    let shop = shop.another();
    forbids(&shop);
    shop.says(
        0,
        &PACK_IN_PARTS,
        &["gs://vault/sets/kindpack-parts/: ", ": could not delete "],
    );
}

#[test]
fn versioned_bucket_keeps_no_part() {
    let shop = many_parts();
    shop.server.keep_versions();
    shop.server.put("vault", SIDECAR, "a stale one");
    shop.expect(0, &PACK_IN_PARTS);
    shop.assert_packed();
    assert_eq!(shop.server.noncurrent(), [""; 0]);
}

#[test]
fn parts_have_the_class_of_their_archive() {
    let shop = many_parts();
    shop.expect(
        0,
        &[
            &PACK_IN_PARTS[..],
            &["--storage-class", "NEARLINE", "--keep-parts"],
        ]
        .concat(),
    );
    for name in shop.server.names("vault") {
        assert_eq!(
            shop.server
                .get("vault", &name)
                .unwrap()
                .storage_class
                .as_deref(),
            Some("NEARLINE"),
            "{name}"
        );
    }
}

#[test]
fn sessions_get_no_token_wherever_they_are() {
    let shop = much();
    let elsewhere = GcsServer::start(&["vault"]);
    shop.server.wants_token();
    let pack = |shop: &BucketFixture| {
        let mut command = shop.signed_in(&PACK);
        command.args(["--retry-timeout", "1s"]);
        discreet(sound(Running::start(command).wait(), &PACK))
    };
    let run = pack(&shop);
    assert_eq!(run.code, 0, "{}", run.brief());
    for seen in shop
        .server
        .seen()
        .iter()
        .filter(|seen| seen.call != Call::Token)
    {
        assert_eq!(
            seen.has_token,
            !matches!(seen.call, Call::Put | Call::Query | Call::Cancel),
            "{:?}",
            seen.call
        );
    }
    shop.clear();
    shop.server.sessions_at(&elsewhere.url());
    shop.server
        .plan_many(Call::Begin, 0, usize::MAX, Deed::SessionElsewhere);
    let run = pack(&shop);
    assert_eq!(run.code, 6, "{}", run.brief());
    let seen = elsewhere.seen();
    assert!(
        !seen.is_empty() && seen.iter().all(|seen| !seen.has_token),
        "{seen:?}"
    );
}

#[test]
fn name_too_long_for_sidecar_is_refused() {
    let shop = little();
    for len in [1_018, 1_024, 1_025] {
        let archive = format!("gs://vault/{}", "x".repeat(len));
        shop.says(
            2,
            &["pack", SOURCE, &archive],
            &["longer than 1024 bytes", "choose a shorter name"],
        );
        assert_eq!(shop.server.names("vault"), [""; 0], "{len}");
    }
    // Names of parts are longer still: such an archive goes up in a session.
    let archive = format!("gs://vault/{}", "x".repeat(1_000));
    shop.expect(
        0,
        &[
            "pack",
            SOURCE,
            &archive,
            "--upload-cutoff",
            "1",
            "--upload-chunk-size",
            "20KiB",
        ],
    );
    assert_eq!(shop.server.count(Call::Compose), 0);
    assert_eq!(shop.server.names("vault").len(), 2);
}

#[test]
fn extract_refuses_names_too_long_before_it_writes() {
    let shop = little();
    shop.expect(0, &PACK);
    let dest = format!("gs://vault/{}/", "x".repeat(1_000));
    let run = shop.expect(5, &["extract", ARCHIVE, &dest]);
    assert!(
        run.err.contains("longer than 1024 bytes"),
        "{}",
        run.brief()
    );
    assert_eq!(shop.server.names("vault"), [STORED, SIDECAR]);
}
