//! A pack of several parts is killed at moments over its whole run, and the same command goes on
//! with what is there.

use crate::cloud::fixture::{ARCHIVE, BucketFixture, SIDECAR, SOURCE, STORED, discreet, try_all};
use crate::support::gcs_server::{Call, Deed};

/// Where a pack is when it is killed: before that call is done, or after it, but before its answer.
#[derive(Debug, Clone, Copy)]
struct Moment {
    call: Call,
    number: usize,
    deed: Deed,
}

const ARGS: [&str; 8] = [
    "pack",
    SOURCE,
    ARCHIVE,
    "--upload-cutoff",
    "1",
    "--upload-chunk-size",
    "64KiB",
    "--no-progress",
];

/// Twenty moments: those between the last join and the end, which are few and matter most, and the
/// rest spread over all requests before.
fn moments(shop: &BucketFixture) -> Vec<Moment> {
    let seen = shop.server.seen();
    let moment = |index: usize, deed| {
        let call = seen[index].call;
        Moment {
            call,
            number: seen[..index]
                .iter()
                .filter(|seen| seen.call == call)
                .count(),
            deed,
        }
    };
    let at = |call: Call, name: &str| {
        seen.iter()
            .position(|seen| seen.call == call && seen.name == name)
            .unwrap()
    };
    let (joined, sidecar) = (at(Call::Compose, STORED), at(Call::Insert, SIDECAR));
    let cleaned: Vec<usize> = (joined..sidecar)
        .filter(|index| seen[*index].call == Call::Delete)
        .collect();
    let read_back = (joined..sidecar)
        .find(|index| seen[*index].call == Call::Read)
        .unwrap();
    let mut moments = vec![
        moment(joined, Deed::HoldBefore),
        moment(joined, Deed::HoldAfter),
        moment(read_back, Deed::HoldBefore),
        moment(cleaned[0], Deed::HoldBefore),
        moment(cleaned[cleaned.len() / 2], Deed::HoldAfter),
        moment(cleaned[cleaned.len() - 1], Deed::HoldAfter),
        moment(sidecar, Deed::HoldBefore),
        moment(sidecar, Deed::HoldAfter),
    ];
    let rest = 20 - moments.len();
    moments.extend((0..rest).map(|number| {
        moment(
            number * joined / rest,
            if number % 2 == 0 {
                Deed::HoldBefore
            } else {
                Deed::HoldAfter
            },
        )
    }));
    moments
}

#[test]
fn killed_pack_resumes_at_any_moment() {
    let shop = BucketFixture::of_kinds(&[("Note", 6, 250_000), ("Image", 6, 250_000)]);
    shop.server.page(20);
    shop.expect(0, &ARGS);
    shop.assert_packed();
    let parts = shop.local().len().div_ceil(64 << 10);
    assert!(parts > 32, "a tree of joins of {parts} parts");
    let moments = moments(&shop);
    assert_eq!(moments.len(), 20);
    try_all(&moments, |moment| {
        killed(&shop.another(), *moment)
            .into_iter()
            .map(|flaw| format!("{moment:?}: {flaw}"))
            .collect()
    });
}

/// What is wrong after a kill at that moment and a second run.
fn killed(shop: &BucketFixture, moment: Moment) -> Vec<String> {
    shop.server.plan(moment.call, moment.number, moment.deed);
    let mut running = shop.start(&ARGS);
    if !running.wait_until(|| shop.server.is_holding()) {
        return vec![format!(
            "ended before its moment: {}",
            running.wait().brief()
        )];
    }
    running.kill();
    while !shop.server.is_idle() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let mut flaws = Vec::new();
    let there = shop.server.names("vault");
    let had_archive = shop.stored().is_some();
    if shop.stored().is_some_and(|stored| stored != shop.local()) {
        flaws.push("a torso stands under the final name".to_owned());
    }

    shop.server.forget();
    let run = shop.run(&ARGS);
    if run.code != 0 {
        flaws.push(format!("the second run: {}", run.brief()));
    }
    flaws.extend(shop.flaws());
    let uploaded: Vec<String> = shop
        .server
        .seen()
        .into_iter()
        .filter(|seen| seen.call == Call::Insert)
        .map(|seen| seen.name)
        .collect();
    let twice: Vec<&String> = uploaded
        .iter()
        .filter(|name| there.contains(name))
        .collect();
    if !twice.is_empty() {
        flaws.push(format!(
            "{} of {} uploads were there already: {twice:?}",
            twice.len(),
            uploaded.len()
        ));
    }
    let needless = uploaded.iter().filter(|name| *name != SIDECAR).count();
    if had_archive && needless > 0 {
        flaws.push(format!(
            "{needless} parts of an archive that stands were uploaded"
        ));
    }
    flaws
}

#[test]
fn interrupted_pack_stops_cleanly_and_resumes() {
    let small = BucketFixture::of_kinds(&[("Note", 6, 250_000), ("Image", 6, 250_000)]);
    let large = BucketFixture::of_kinds(&[("Image", 9, 1_000_000)]);
    small.local();
    large.local();
    let session = ["pack", SOURCE, ARCHIVE];
    let cases: Vec<_> = [("INT", 130), ("TERM", 143)]
        .into_iter()
        .flat_map(|signal| {
            [
                (&small, &session[..], Call::Read, signal),
                (&small, &session, Call::Insert, signal),
                (&large, &session, Call::Put, signal),
                (&small, &ARGS, Call::Insert, signal),
                (&small, &ARGS, Call::Compose, signal),
            ]
        })
        .collect();
    try_all(&cases, |(shop, args, call, (signal, code))| {
        let shop = shop.another();
        shop.server.plan(
            *call,
            1.min(usize::from(*args != &session[..])),
            Deed::HoldBefore,
        );
        let mut running = shop.start(args);
        let held = running.wait_until(|| shop.server.is_holding());
        running.signal(signal);
        let run = discreet(running.wait());
        let mut flaws = Vec::new();
        flaws.extend((!held || run.code != *code).then(|| run.brief()));
        flaws.extend(
            shop.stored()
                .map(|_| "something stands under the final name".to_owned()),
        );
        flaws
            .extend((shop.server.open_sessions() > 0).then(|| "a session is left open".to_owned()));
        shop.server.forget();
        let again = shop.run(args);
        flaws.extend((again.code != 0).then(|| format!("the second run: {}", again.brief())));
        flaws.extend(shop.flaws());
        flaws
            .into_iter()
            .map(|flaw| format!("{signal} at {call:?} of {args:?}: {flaw}"))
            .collect()
    });
}
