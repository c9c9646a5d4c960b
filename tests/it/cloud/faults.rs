//! What networks do, planned: every fault at every call of a pack, for each way in which an archive
//! goes up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::cloud::fixture::{
    ARCHIVE, BucketFixture, SIDECAR, SOURCE, STORED, discreet, last, try_all,
};
use crate::support::gcs_server::{Call, Deed, REPLACED};
use crate::support::sound;

const QUANTUM: u64 = 256 << 10;

/// Longer than the idle time of the packs below.
const LONG: Duration = Duration::from_millis(2_500);

/// A fault and the shape of pack that it happens to.
#[derive(Debug, Clone, Copy)]
struct Case {
    call: Call,
    number: usize,
    of: usize,
    deed: Deed,
}

/// The deeds that mean something for a call; `is_last` is the last one of its sort.
fn deeds(call: Call, is_last: bool) -> Vec<Deed> {
    let mut deeds = vec![
        Deed::Status(503),
        Deed::RetryAfter(429, 1),
        Deed::CutBefore,
        Deed::CutAfterBody,
        Deed::LoseAnswer,
        Deed::Stall(LONG),
    ];
    match call {
        Call::Read => deeds.extend([
            Deed::BreakDownload(10),
            Deed::BreakDownload(700_000),
            Deed::StallDownload(10, LONG),
        ]),
        Call::List | Call::Stat => {
            deeds.extend([Deed::BreakDownload(10), Deed::StallDownload(10, LONG)])
        }
        Call::Insert => deeds.extend([
            Deed::CutInBody(100),
            Deed::BreakDownload(10),
            Deed::CorruptEnd(100),
        ]),
        Call::Begin => deeds.extend([Deed::CutInBody(20)]),
        Call::Put => {
            deeds.extend([Deed::CutInBody(300_000), Deed::CorruptByte(777)]);
            deeds.extend([
                Deed::KeepPart(0),
                Deed::KeepPart(QUANTUM),
                Deed::AnswerLess(0),
                Deed::AnswerLess(QUANTUM),
            ]);
            deeds.extend(is_last.then_some(Deed::BreakDownload(10)));
        }
        Call::Compose | Call::Patch => deeds.extend([Deed::CutInBody(20), Deed::BreakDownload(10)]),
        _ => {}
    }
    deeds
}

/// Tries every deed at the first, the middle and the last of each sort of call that an undisturbed
/// pack makes.
fn every_fault(shop: &BucketFixture, args: &[&str], demanded: &[Call]) {
    let counts = undisturbed(shop, args);
    assert!(
        demanded.iter().all(|call| counts.contains_key(call)),
        "the calls of a pack: {counts:?}"
    );
    try_cases(shop, args, &cases(counts));
}

/// The calls of a pack to which nothing happens.
fn undisturbed(shop: &BucketFixture, args: &[&str]) -> BTreeMap<Call, usize> {
    shop.local();
    shop.expect(0, args);
    shop.assert_packed();
    shop.counts()
}

fn cases(counts: BTreeMap<Call, usize>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (call, of) in counts {
        let mut numbers = vec![0, of / 2, of - 1];
        numbers.dedup();
        for number in numbers {
            cases.extend(deeds(call, number + 1 == of).into_iter().map(|deed| Case {
                call,
                number,
                of,
                deed,
            }));
        }
        if call == Call::Read {
            // Which object comes when is left to chance; each is to be damaged once.
            cases.extend((0..of).map(|number| Case {
                call,
                number,
                of,
                deed: Deed::CorruptByte(7),
            }));
        }
    }
    cases
}

fn try_cases(shop: &BucketFixture, args: &[&str], cases: &[Case]) {
    try_all(cases, |case| {
        // Only what waits for the idle time has a short one: on a machine that is busy, nothing
        // else may be taken for silence.
        let waits = matches!(case.deed, Deed::Stall(_) | Deed::StallDownload(..));
        let all = [
            args,
            &[
                "--retry-timeout",
                "60s",
                "--verbose",
                "--json",
                "--idle-timeout",
                if waits { "1s" } else { "30s" },
            ],
        ]
        .concat();
        let shop = shop.another();
        shop.server.plan(case.call, case.number, case.deed);
        let flaws = outcome(&shop, &all, *case);
        flaws
            .into_iter()
            .map(|flaw| {
                format!(
                    "{:?} at {:?} {} of {}: {flaw}",
                    case.deed, case.call, case.number, case.of
                )
            })
            .collect()
    });
}

/// What is wrong with how a pack ended over one fault.
fn outcome(shop: &BucketFixture, args: &[&str], case: Case) -> Vec<String> {
    let run = discreet(sound(shop.start(args).wait(), args));
    if !shop.server.unfired().is_empty() {
        return vec!["a fault that never fired tests nothing".to_owned()];
    }
    // The bytes of an upload that were damaged on their way cannot be had again; whatever else
    // happens once passes by itself.
    let may_stop = (case.call, case.deed) == (Call::Put, Deed::CorruptByte(777));
    if run.code == 0 {
        let mut flaws = shop.flaws();
        // Of a session whose begin was not answered nobody has the address.
        let unknown = usize::from((case.call, case.deed) == (Call::Begin, Deed::LoseAnswer));
        if shop.server.open_sessions() > unknown {
            flaws.push("a session is left open".to_owned());
        }
        return flaws;
    }
    let mut flaws = Vec::new();
    if !(may_stop && run.code == 4) {
        flaws.push(format!("exit {}: {}", run.code, run.err.trim_end()));
    }
    if last(&run)["code"] != run.code {
        flaws.push(format!("the last event is {}", last(&run)));
    }
    let names = shop.server.names("vault");
    if names.iter().any(|name| name == STORED || name == SIDECAR) {
        flaws.push(format!("after a failure there is {names:?}"));
    }
    // Whatever it was, the same command brings it to its end.
    shop.server.forget();
    let again = discreet(sound(shop.start(args).wait(), args));
    if again.code != 0 {
        flaws.push(format!(
            "the second time: exit {}: {}",
            again.code,
            again.err.trim_end()
        ));
    }
    flaws.extend(
        shop.flaws()
            .into_iter()
            .map(|flaw| format!("the second time: {flaw}")),
    );
    flaws
}

/// Little, in several pages of a listing and several objects.
fn little() -> BucketFixture {
    let shop = BucketFixture::of_kinds(&[("Note", 40, 1_000), ("Image", 3, 20_000)]);
    shop.server.page(2);
    shop
}

/// A session of two requests, and an object that is too large to be read as a whole.
fn much() -> BucketFixture {
    let shop = BucketFixture::of_kinds(&[("Image", 9, 1_000_000)]);
    shop.server.page(1);
    shop
}

/// As much in parts: more of them than can be joined at once.
fn many_parts() -> BucketFixture {
    let shop = BucketFixture::of_kinds(&[("Note", 20, 20_000), ("Image", 20, 20_000)]);
    shop.server.page(20);
    shop
}

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

// ------------------------------------------------------------------------------------------------------------
// once, at every call

#[test]
fn single_request_upload_survives_every_fault() {
    every_fault(
        &little(),
        &PACK,
        &[Call::List, Call::Stat, Call::Read, Call::Insert],
    );
}

#[test]
fn session_upload_survives_every_fault() {
    let calls = [
        Call::List,
        Call::Stat,
        Call::Read,
        Call::Insert,
        Call::Begin,
        Call::Put,
        Call::Patch,
    ];
    every_fault(&much(), &PACK, &calls);
}

#[test]
fn session_survives_every_fault_midway() {
    let shop = BucketFixture::of_kinds(&[("Note", 9, 1_000_000), ("Image", 9, 1_000_000)]);
    let mut cases = cases(undisturbed(&shop, &PACK));
    cases.retain(|case| case.call == Call::Put && case.number == 1);
    assert!(
        cases.iter().all(|case| case.of == 3) && !cases.is_empty(),
        "{cases:?}"
    );
    try_cases(&shop, &PACK, &cases);
}

#[test]
fn multipart_upload_survives_every_fault() {
    every_fault(
        &many_parts(),
        &PACK_IN_PARTS,
        &[
            Call::List,
            Call::Stat,
            Call::Read,
            Call::Insert,
            Call::Compose,
            Call::Delete,
        ],
    );
}

#[test]
fn session_survives_faults_during_status_queries() {
    let shop = much();
    shop.local();
    let deeds = [
        Deed::Status(503),
        Deed::RetryAfter(429, 1),
        Deed::CutBefore,
        Deed::LoseAnswer,
        Deed::Stall(LONG),
        Deed::LoseSession(404),
        Deed::LoseSession(410),
    ];
    // The question comes after a piece of which nothing was kept, or a part, or all.
    let before = [
        Deed::CutAfterBody,
        Deed::KeepPart(QUANTUM),
        Deed::LoseAnswer,
    ];
    let cases: Vec<_> = before
        .iter()
        .flat_map(|before| deeds.iter().map(move |deed| (*before, *deed)))
        .collect();
    try_all(&cases, |(before, deed)| {
        let shop = shop.another();
        shop.server.plan(Call::Put, 0, *before);
        shop.server.plan(Call::Query, 0, *deed);
        let run = shop.run(&[&PACK[..], &["--idle-timeout", "1s"]].concat());
        let mut flaws = shop.flaws();
        flaws.extend((run.code != 0).then(|| run.brief()));
        flaws.extend(
            (!shop.server.unfired().is_empty())
                .then(|| "a fault that never fired tests nothing".to_owned()),
        );
        flaws
            .into_iter()
            .map(|flaw| format!("{before:?}, then {deed:?}: {flaw}"))
            .collect()
    });
}

#[test]
fn a_session_that_is_lost_is_begun_anew() {
    let shop = much();
    shop.local();
    let cases: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|number| [404, 410].map(|status| (number, status)))
        .collect();
    try_all(&cases, |(number, status)| {
        let shop = shop.another();
        shop.server
            .plan(Call::Put, *number, Deed::LoseSession(*status));
        let run = shop.run(&[&PACK[..], &["--json"]].concat());
        let mut flaws = shop.flaws();
        flaws.extend((run.code != 0).then(|| run.brief()));
        // What was not confirmed yet is still in memory: then nothing else begins anew.
        let events = run.events();
        let told: Vec<_> = events
            .iter()
            .filter(|event| event["event"] == "again")
            .collect();
        let is_told = told.iter().all(|event| {
            event.as_object().unwrap().len() == 2 && event["reason"].to_string().contains(ARCHIVE)
        });
        flaws.extend((told.len() != *number || !is_told).then(|| format!("told {told:?}")));
        flaws.extend(
            (shop.server.count(Call::Begin) != 2).then(|| "there is no second session".to_owned()),
        );
        flaws
            .into_iter()
            .map(|flaw| format!("{status} at piece {number}: {flaw}"))
            .collect()
    });
}

#[test]
fn wrong_read_back_is_repeated_once() {
    let shop = BucketFixture::of_kinds(&[("Image", 9, 1_000_000)]);
    let args = [
        "pack",
        SOURCE,
        ARCHIVE,
        "--upload-cutoff",
        "1",
        "--upload-chunk-size",
        "1MiB",
    ];
    shop.local();
    shop.expect(0, &args);
    let seen = shop.server.seen();
    let reads: Vec<&String> = seen
        .iter()
        .filter(|seen| seen.call == Call::Read)
        .map(|seen| &seen.name)
        .collect();
    let back: Vec<usize> = (0..reads.len())
        .filter(|number| reads[*number] == STORED)
        .collect();
    assert!(back.len() > 1, "it is read in several ranges");
    try_all(&back, |number| {
        let shop = shop.another();
        shop.server.plan(Call::Read, *number, Deed::CorruptByte(77));
        let run = shop.run(&args);
        let mut flaws = shop.flaws();
        flaws.extend((run.code != 0).then(|| run.brief()));
        flaws
            .into_iter()
            .map(|flaw| format!("read {number}: {flaw}"))
            .collect()
    });
}

#[test]
fn an_archive_is_read_over_every_planned_fault() {
    let shop = little();
    shop.expect(0, &PACK);
    shop.expect(0, &["extract", ARCHIVE, "gs://vault/back/"]);
    let back = |shop: &BucketFixture| -> Vec<_> {
        let names = shop
            .server
            .names("vault")
            .into_iter()
            .filter(|name| name.starts_with("back/"));
        names
            .map(|name| (shop.server.get("vault", &name).unwrap().bytes(), name))
            .collect()
    };
    let expected = back(&shop);
    let objects = shop.server.get("vault", STORED).unwrap().bytes();
    for args in [
        &["verify", ARCHIVE][..],
        &["cat", ARCHIVE, "*"],
        &["extract", ARCHIVE, "gs://vault/back/"],
    ] {
        let ready = || {
            let shop = shop.another();
            shop.server.put("vault", STORED, objects.clone());
            shop
        };
        let whole = ready();
        let out = whole.expect(0, args).out;
        let mut cases = Vec::new();
        for (call, of) in whole.counts() {
            let numbers: BTreeSet<usize> = [0, of / 2, of - 1].into();
            for number in numbers {
                cases.extend(
                    [
                        Deed::Status(503),
                        Deed::CutBefore,
                        Deed::LoseAnswer,
                        Deed::Stall(LONG),
                    ]
                    .map(|deed| (call, number, deed)),
                );
                if call == Call::Read {
                    cases.extend(
                        [Deed::BreakDownload(10), Deed::StallDownload(10, LONG)]
                            .map(|deed| (call, number, deed)),
                    );
                }
            }
        }
        try_all(&cases, |(call, number, deed)| {
            let shop = ready();
            shop.server.plan(*call, *number, *deed);
            let run = shop.run(&[args, &["--idle-timeout", "1s"]].concat());
            let same = run.code == 0
                && (args[0] != "cat" || run.out == out)
                && (args[0] != "extract" || back(&shop) == expected);
            let fired = shop.server.unfired().is_empty();
            (!(same && fired))
                .then(|| {
                    format!(
                        "{args:?}: {deed:?} at {call:?} {number}: fired: {fired}, {}",
                        run.brief()
                    )
                })
                .into_iter()
                .collect()
        });
    }
}

// ---------------------------------------------------------------------------------------------------------------
// what does not pass

#[test]
fn permanent_fault_gives_up_and_is_named() {
    let (little, much, parts) = (little(), much(), many_parts());
    for shop in [&little, &much, &parts] {
        shop.local();
    }
    let listed = undisturbed(&parts, &PACK_IN_PARTS)[&Call::List];
    let reads = parts.counts()[&Call::Read];
    // Parts are listed before they go up and when they are taken away; the last pages are those of
    // the second listing.
    let cases: [(&BucketFixture, &[&str], Call, usize, &str); 13] = [
        (&little, &PACK, Call::List, 0, "list of gs://shop/nightly/"),
        (&little, &PACK, Call::List, 2, "list of gs://shop/nightly/"),
        (
            &little,
            &PACK,
            Call::Stat,
            0,
            "look at gs://vault/sets/set.zip",
        ),
        (&little, &PACK, Call::Read, 0, "read of gs://shop/nightly/"),
        (&little, &PACK, Call::Read, 4, "read of gs://shop/nightly/"),
        (
            &little,
            &PACK,
            Call::Insert,
            0,
            "upload of gs://vault/sets/set.zip",
        ),
        (
            &much,
            &PACK,
            Call::Begin,
            0,
            "upload of gs://vault/sets/set.zip",
        ),
        (
            &much,
            &PACK,
            Call::Put,
            0,
            "upload of gs://vault/sets/set.zip",
        ),
        (
            &much,
            &PACK,
            Call::Put,
            1,
            "upload of gs://vault/sets/set.zip",
        ),
        (
            &parts,
            &PACK_IN_PARTS,
            Call::Insert,
            20,
            "upload of gs://vault/sets/kindpack-parts/set.zip/",
        ),
        (
            &parts,
            &PACK_IN_PARTS,
            Call::Compose,
            0,
            "joining of 32 objects to gs://vault/sets/kindpack-parts/set.zip/",
        ),
        (
            &parts,
            &PACK_IN_PARTS,
            Call::Compose,
            2,
            "objects to gs://vault/sets/set.zip",
        ),
        (
            &parts,
            &PACK_IN_PARTS,
            Call::List,
            listed - 2,
            "list of gs://vault/sets/kindpack-parts/",
        ),
    ];
    assert!(reads > 6);
    let cases: Vec<_> = cases
        .into_iter()
        .flat_map(|case| {
            [Deed::Status(503), Deed::CutBefore, Deed::Stall(LONG)].map(|deed| (case, deed))
        })
        // A piece of eight megabytes is given a minute.
        .filter(|((_, _, call, ..), deed)| !matches!((call, deed), (Call::Put, Deed::Stall(_))))
        .collect();
    try_all(&cases, |((shop, args, call, number, words), deed)| {
        let shop = shop.another();
        shop.server.plan_many(*call, *number, usize::MAX, *deed);
        let run = shop.run(
            &[
                args,
                &[
                    "--retry-timeout",
                    "2s",
                    "--idle-timeout",
                    "500ms",
                    "--verbose",
                ][..],
            ]
            .concat(),
        );
        let told =
            run.err.contains(words) && run.err.contains(" tries in ") && run.err.contains(" s: ");
        let mut flaws = Vec::new();
        if run.code != 6 || !told {
            flaws.push(run.brief());
        }
        if shop.server.count(*call) < number + 2 {
            flaws.push(format!("{} calls", shop.server.count(*call)));
        }
        let names = shop.server.names("vault");
        if names.iter().any(|name| !name.contains("kindpack-parts/")) {
            flaws.push(format!("after a failure there is {names:?}"));
        }
        if shop.server.open_sessions()
            > usize::from(*call == Call::Put && *deed == Deed::LoseAnswer)
        {
            flaws.push("a session is left open".to_owned());
        }
        shop.server.forget();
        let again = shop.run(args);
        flaws.extend((again.code != 0).then(|| format!("the second time: {}", again.brief())));
        flaws.extend(shop.flaws());
        flaws
            .into_iter()
            .map(|flaw| format!("{deed:?} at {call:?} from {number} on: {flaw}"))
            .collect()
    });
}

#[test]
fn optional_calls_never_stop_a_pack() {
    // Metadata of a session's object, and the end of the parts of an archive that stands.
    for (shop, args, call, number) in [
        (much(), &PACK[..], Call::Patch, 0),
        (many_parts(), &PACK_IN_PARTS, Call::Delete, 1),
    ] {
        shop.local();
        shop.server
            .plan_many(call, number, usize::MAX, Deed::Status(503));
        shop.expect(0, &[args, &["--retry-timeout", "1s"]].concat());
        assert!(shop.stored().unwrap() == shop.local(), "{call:?}");
        assert!(shop.server.get("vault", SIDECAR).is_some());
    }
}

#[test]
fn refused_deletes_are_not_repeated_per_part() {
    // Else the patience for each of thousands of parts would add up to days.
    let shop = many_parts();
    shop.local();
    shop.server
        .plan_many(Call::Delete, 1, usize::MAX, Deed::Status(503));
    shop.expect(
        0,
        &[&PACK_IN_PARTS[..], &["--retry-timeout", "1s"]].concat(),
    );
    let seen = shop.server.seen();
    let asked: BTreeSet<&String> = seen
        .iter()
        .filter(|seen| seen.call == Call::Delete)
        .map(|seen| &seen.name)
        .collect();
    assert!(
        asked.len() < 20,
        "{} of {} parts",
        asked.len(),
        shop.server.count(Call::Insert)
    );
}

#[test]
fn missing_sidecar_is_written_by_next_run() {
    let shop = little();
    shop.local();
    shop.server
        .plan_many(Call::Insert, 1, usize::MAX, Deed::Status(503));
    let words = ["upload of gs://vault/sets/set.zip.sha256", " tries in "];
    shop.says(6, &[&PACK[..], &["--retry-timeout", "1s"]].concat(), &words);
    assert!(
        shop.stored().unwrap() == shop.local(),
        "the archive itself is whole"
    );
    shop.server.forget();
    shop.expect(0, &PACK);
    shop.assert_packed();
}

#[test]
fn replaced_archive_never_keeps_the_old_sidecar() {
    let shop = little();
    shop.expect(0, &PACK);
    let replace = [&PACK[..], &["--overwrite", "--method", "store"]].concat();
    shop.server.forget();
    shop.server.plan_many(Call::Insert, 1, 9, Deed::Status(403));
    shop.expect(6, &replace);
    assert_eq!(shop.server.names("vault"), [STORED]);
    shop.server.forget();
    shop.expect(0, &["verify", ARCHIVE]);
    shop.expect(0, &replace);
    assert_eq!(shop.server.names("vault"), [STORED, SIDECAR]);
    shop.expect(0, &["verify", ARCHIVE]);
}

#[test]
fn a_sidecar_without_its_archive_never_lies() {
    let shop = little();
    shop.local();
    shop.server.put("vault", SIDECAR, "a stale one");
    shop.server
        .plan_many(Call::Delete, 0, usize::MAX, Deed::Status(503));
    let words = ["delete of gs://vault/sets/set.zip.sha256", " tries in "];
    shop.says(6, &[&PACK[..], &["--retry-timeout", "1s"]].concat(), &words);
    assert!(
        shop.stored().is_none(),
        "there is no archive that it does not tell of"
    );
    shop.server.forget();
    shop.expect(0, &PACK);
    shop.assert_packed();
}

#[test]
fn requested_retry_delay_is_granted() {
    let shop = little();
    shop.server.plan(Call::List, 0, Deed::RetryAfter(429, 2));
    let begun = Instant::now();
    shop.expect(0, &PACK);
    // A lower bound: it cannot fail because a machine is slow.
    assert!(begun.elapsed() >= Duration::from_secs(2));
    // More time than there is: given up at once instead of a try too early.
    shop.clear();
    shop.server
        .plan_many(Call::List, 0, usize::MAX, Deed::RetryAfter(503, 3_600));
    shop.says(
        6,
        &[&PACK[..], &["--retry-timeout", "5s"]].concat(),
        &["list of gs://shop/nightly/", "HTTP 503"],
    );
    assert_eq!(shop.server.count(Call::List), 1);
}

#[test]
fn gcs_token_refused_once_is_renewed() {
    let shapes = [
        (
            little(),
            &PACK[..],
            vec![
                (Call::List, 1),
                (Call::Stat, 0),
                (Call::Read, 3),
                (Call::Insert, 0),
                (Call::Insert, 1),
            ],
        ),
        (
            much(),
            &PACK,
            vec![
                (Call::Begin, 0),
                (Call::Put, 0),
                (Call::Put, 1),
                (Call::Patch, 0),
            ],
        ),
        (
            many_parts(),
            &PACK_IN_PARTS,
            vec![
                (Call::Insert, 7),
                (Call::Compose, 0),
                (Call::Compose, 2),
                (Call::Delete, 5),
            ],
        ),
    ];
    for (shop, args, calls) in shapes {
        shop.local();
        try_all(&calls, |(call, number)| {
            let once = shop.another();
            once.server.plan(*call, *number, Deed::Status(401));
            let run = once.run(args);
            let mut flaws = once.flaws();
            flaws.extend((run.code != 0).then(|| run.brief()));
            flaws.extend(
                (!once.server.unfired().is_empty())
                    .then(|| "a fault that never fired tests nothing".to_owned()),
            );

            let always = shop.another();
            always
                .server
                .plan_many(*call, *number, usize::MAX, Deed::Status(401));
            let run = always.run(args);
            // An archive that stands is not given up for its adornments.
            let stops = !matches!((call, number), (Call::Patch, _) | (Call::Delete, 5));
            if stops
                && (run.code != 6 || !run.err.contains("no token of these credentials (HTTP 401)"))
            {
                flaws.push(format!("for ever: {}", run.brief()));
            }
            if always.stored().is_some_and(|stored| stored != shop.local()) {
                flaws.push("for ever: a torso stands under the final name".to_owned());
            }
            flaws
                .into_iter()
                .map(|flaw| format!("401 at {call:?} {number}: {flaw}"))
                .collect()
        });
    }
}

#[test]
fn forbidden_or_unknown_is_reported_at_once() {
    let shop = little();
    let cases = [
        (
            Call::List,
            403,
            6,
            "gs://shop/nightly/: the permission storage.objects.list is missing",
        ),
        (
            Call::Read,
            403,
            6,
            ": the permission storage.objects.get is missing",
        ),
        (
            Call::Insert,
            403,
            6,
            "gs://vault/sets/set.zip: the permission storage.objects.create is missing",
        ),
        (Call::Read, 404, 3, "changed while it was read"),
        (
            Call::Insert,
            400,
            6,
            "gs://vault/sets/set.zip: the service refuses the request: HTTP 400",
        ),
        (
            Call::List,
            418,
            6,
            "gs://shop/nightly/: the service refuses the request: HTTP 418",
        ),
    ];
    for (call, status, code, words) in cases {
        shop.clear();
        // Reads of data come behind those of metadata; the last one is an object that is packed.
        let number = if call == Call::Read {
            undisturbed(&shop, &PACK)[&call] - 1
        } else {
            0
        };
        shop.clear();
        shop.server
            .plan_many(call, number, usize::MAX, Deed::Status(status));
        shop.says(code, &PACK, &[words]);
        let expected = number + if status == 400 { 2 } else { 1 };
        assert!(
            shop.server.count(call) <= expected,
            "{call:?}: {} tries of {status}",
            shop.server.count(call) - number
        );
        assert_eq!(shop.server.names("vault"), [""; 0]);
    }
}

// ---------------------------------------------------------------------------------------------------------
// others are at work there

#[test]
fn object_changed_after_listing_stops_pack() {
    for (shop, deeds) in [
        (little(), vec![Deed::Replace, Deed::Vanish]),
        (much(), vec![Deed::Replace]),
    ] {
        let reads = undisturbed(&shop, &PACK)[&Call::Read];
        let cases: Vec<_> = (0..reads)
            .flat_map(|number| deeds.iter().map(move |deed| (number, *deed)))
            .collect();
        try_all(&cases, |(number, deed)| {
            let shop = shop.another();
            shop.server.plan(Call::Read, *number, *deed);
            let run = shop.run(&[&PACK[..], &["--json"]].concat());
            let name = shop
                .server
                .seen()
                .into_iter()
                .filter(|seen| seen.call == Call::Read)
                .nth(*number)
                .unwrap()
                .name;
            let error = last(&run)["error"].to_string();
            let told = run.code == 3
                && error.contains("changed while it was read")
                && error.contains(&name)
                && shop.server.names("vault").is_empty();
            (!told)
                .then(|| {
                    format!(
                        "{deed:?} at read {number} of {reads}, {name}: {}",
                        run.brief()
                    )
                })
                .into_iter()
                .collect()
        });
    }
}

#[test]
fn permanent_damage_is_reported_and_stops_pack() {
    let (little, much) = (little(), much());
    let ends = ["output-0", ".overall_export_metadata"];
    let cases: Vec<_> = [&little, &much]
        .into_iter()
        .flat_map(|shop| ends.map(|end| (shop, shop.object(end))))
        .collect();
    try_all(&cases, |(shop, name)| {
        let shop = shop.another();
        shop.server.alter("shop", name, |object| object.crc32c ^= 1);
        let run = shop.run(&PACK);
        let told = [&format!("gs://shop/{name}"), "expected crc32c"]
            .iter()
            .all(|words| run.err.contains(*words));
        let reads = shop
            .server
            .seen()
            .iter()
            .filter(|seen| seen.call == Call::Read && seen.name == *name)
            .count();
        let mut flaws = Vec::new();
        flaws.extend((run.code != 4 || !told).then(|| run.brief()));
        flaws.extend((reads < 2).then(|| "it was not read again".to_owned()));
        flaws.extend(
            (!shop.server.names("vault").is_empty())
                .then(|| "something stands in the vault".to_owned()),
        );
        flaws
            .into_iter()
            .map(|flaw| format!("{name} of {reads} reads: {flaw}"))
            .collect()
    });
}

#[test]
fn second_writer_is_refused_without_traces() {
    let cases: [(BucketFixture, &[&str], Call, usize); 5] = [
        (little(), &PACK, Call::Insert, 0),
        (much(), &PACK, Call::Begin, 0),
        (much(), &PACK, Call::Put, 0),
        (much(), &PACK, Call::Put, 1),
        (many_parts(), &PACK_IN_PARTS, Call::Compose, 2),
    ];
    for (shop, args, call, number) in cases {
        shop.server.plan(call, number, Deed::Replace);
        let run = shop.says(5, args, &["gs://vault/sets/set.zip already exists"]);
        assert_eq!(shop.server.unfired(), [], "{call:?} {}", run.brief());
        assert_eq!(shop.stored().unwrap(), REPLACED, "{call:?}");
        assert!(shop.server.get("vault", SIDECAR).is_none(), "{call:?}");
        assert_eq!(shop.server.open_sessions(), 0, "{call:?}");
    }
}

#[test]
fn foreign_object_is_not_mistaken_for_ours() {
    let cases: [(BucketFixture, &[&str], Call, usize); 3] = [
        (little(), &PACK, Call::Insert, 0),
        (much(), &PACK, Call::Put, 1),
        (many_parts(), &PACK_IN_PARTS, Call::Compose, 2),
    ];
    for (shop, args, call, number) in cases {
        shop.server.plan(call, number, Deed::CutAfterBody);
        shop.server.plan(call, number + 1, Deed::Replace);
        shop.says(5, args, &["gs://vault/sets/set.zip already exists"]);
        assert_eq!(shop.server.unfired(), [], "{call:?}");
        assert_eq!(shop.stored().unwrap(), REPLACED, "{call:?}");
        assert!(shop.server.get("vault", SIDECAR).is_none(), "{call:?}");
    }
}

#[test]
fn one_of_two_equal_packs_publishes() {
    let shop = many_parts();
    shop.local();
    // What comes first is left to chance, so there are several rounds.
    let rounds: Vec<&[&str]> = [&PACK[..], &PACK_IN_PARTS].repeat(4);
    try_all(&rounds, |args| {
        let shop = shop.another();
        let both = [shop.start(args), shop.start(args)]
            .map(|running| discreet(sound(running.wait(), args)));
        let codes = both.each_ref().map(|run| run.code);
        let mut flaws = Vec::new();
        // Whoever comes second finds an archive that is the same.
        if codes != [0, 0] {
            flaws.push(format!("{} {}", both[0].brief(), both[1].brief()));
        }
        flaws.extend(
            shop.flaws()
                .into_iter()
                .filter(|flaw| !flaw.contains("other objects")),
        );
        flaws
            .into_iter()
            .map(|flaw| format!("{args:?}: {flaw}"))
            .collect()
    });
}

#[test]
fn second_packer_keeps_the_first_sidecar() {
    for (shop, args) in [
        (little(), &PACK[..]),
        (much(), &PACK),
        (many_parts(), &PACK_IN_PARTS),
    ] {
        // One without its archive is to be taken away; while that is under way, another pack comes
        // to its end.
        shop.server.put("vault", SIDECAR, "a stale one");
        shop.server.plan(Call::Delete, 0, Deed::Wait);
        let mut second = shop.start(args);
        assert!(second.wait_until(|| shop.server.is_holding()));
        shop.server.put("vault", STORED, REPLACED);
        shop.server.put("vault", SIDECAR, "its sidecar");
        shop.server.release();
        let run = discreet(sound(second.wait(), args));
        assert_eq!(run.code, 5, "{}", run.brief());
        assert_eq!(shop.stored().unwrap(), REPLACED);
        assert_eq!(
            shop.server
                .get("vault", SIDECAR)
                .map(|object| object.bytes())
                .as_deref(),
            Some(&b"its sidecar"[..]),
            "{args:?}"
        );
    }
}

#[test]
fn second_packer_finds_name_taken_without_parts() {
    let shop = many_parts();
    shop.local();
    let cases = [
        (Call::Insert, 3),
        (Call::Compose, 0),
        (Call::Compose, 1),
        (Call::Compose, 2),
    ];
    try_all(&cases, |(call, number)| {
        let shop = shop.another();
        shop.server.plan(*call, *number, Deed::Wait);
        let mut second = shop.start(&PACK_IN_PARTS);
        assert!(second.wait_until(|| shop.server.is_holding()));
        // The first one ends meanwhile and takes the parts away, which have the same names.
        let first = shop.run(&PACK_IN_PARTS);
        shop.server.release();
        let second = discreet(sound(second.wait(), &PACK_IN_PARTS));
        let mut flaws: Vec<String> = shop
            .flaws()
            .into_iter()
            .filter(|flaw| !flaw.contains("other objects"))
            .collect();
        flaws.extend((first.code != 0).then(|| format!("the first one: {}", first.brief())));
        flaws.extend((second.code != 0).then(|| format!("the second one: {}", second.brief())));
        flaws
            .into_iter()
            .map(|flaw| format!("{call:?} {number}: {flaw}"))
            .collect()
    });
}

#[test]
fn unexplained_412_is_refused_or_passes() {
    // Somebody made an object and took it away again: nobody knows what it was.
    let (little, much, parts) = (little(), much(), many_parts());
    for shop in [&little, &much, &parts] {
        shop.local();
    }
    let cases: [(&BucketFixture, &[&str], Call, usize); 4] = [
        (&little, &PACK, Call::Insert, 0),
        (&much, &PACK, Call::Begin, 0),
        (&much, &PACK, Call::Put, 1),
        (&parts, &PACK_IN_PARTS, Call::Compose, 2),
    ];
    try_all(&cases, |(shop, args, call, number)| {
        let shop = shop.another();
        shop.server.plan(*call, *number, Deed::Status(412));
        let run = shop.run(args);
        let flaws = match run.code {
            0 => shop.flaws(),
            5 if shop.stored().is_none() => Vec::new(),
            _ => vec![run.brief()],
        };
        flaws
            .into_iter()
            .map(|flaw| format!("{call:?} {number}: {flaw}"))
            .collect()
    });
}
