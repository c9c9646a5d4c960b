//! What networks do, planned: every fault at every call of a pack, for each way in which an archive goes up.

use std::time::Duration;

use crate::cloud::shop::{ARCHIVE, SIDECAR, SOURCE, STORED, Shop, discreet, last, try_all};
use crate::gcs_server::{Call, Deed};
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
    let mut deeds =
        vec![Deed::Status(503), Deed::RetryAfter(429, 1), Deed::CutBefore, Deed::CutAfterBody, Deed::LoseAnswer, Deed::Stall(LONG)];
    match call {
        Call::Read => deeds.extend([Deed::BreakDownload(10), Deed::StallDownload(10, LONG)]),
        Call::List | Call::Stat => deeds.extend([Deed::BreakDownload(10), Deed::StallDownload(10, LONG)]),
        Call::Insert => deeds.extend([Deed::CutInBody(100), Deed::BreakDownload(10), Deed::CorruptByte(480)]),
        Call::Begin => deeds.extend([Deed::CutInBody(20)]),
        Call::Put => {
            deeds.extend([Deed::CutInBody(300_000), Deed::CorruptByte(777)]);
            deeds.extend([Deed::KeepPart(0), Deed::KeepPart(QUANTUM), Deed::AnswerLess(0), Deed::AnswerLess(QUANTUM)]);
            deeds.extend(is_last.then_some(Deed::BreakDownload(10)));
        }
        Call::Compose | Call::Patch => deeds.extend([Deed::CutInBody(20), Deed::BreakDownload(10)]),
        _ => {}
    }
    deeds
}

/// Tries every deed at the first, the middle and the last of each sort of call that an undisturbed pack makes.
fn every_fault(shop: &Shop, args: &[&str], demanded: &[Call]) {
    shop.local();
    shop.expect(0, args);
    shop.assert_packed();
    let counts = shop.counts();
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), demanded, "the calls of a pack");
    let mut cases = Vec::new();
    for (call, of) in counts {
        let mut numbers = vec![0, of / 2, of - 1];
        numbers.dedup();
        for number in numbers {
            cases.extend(deeds(call, number + 1 == of).into_iter().map(|deed| Case { call, number, of, deed }));
        }
        if call == Call::Read {
            // Which object comes when is left to chance; each is to be damaged once.
            cases.extend((0..of).map(|number| Case { call, number, of, deed: Deed::CorruptByte(7) }));
        }
    }
    try_all(&cases, |case| {
        // Only what waits for the idle time has a short one: on a machine that is busy, nothing else may be taken for silence.
        let waits = matches!(case.deed, Deed::Stall(_) | Deed::StallDownload(..));
        let all = [args, &["--retry-time", "60s", "--verbose", "--json", "--idle-time", if waits { "1s" } else { "30s" }]].concat();
        let shop = shop.another();
        shop.server.plan(case.call, case.number, case.deed);
        let flaws = outcome(&shop, &all, *case);
        flaws.into_iter().map(|flaw| format!("{:?} at {:?} {} of {}: {flaw}", case.deed, case.call, case.number, case.of)).collect()
    });
}

/// What is wrong with how a pack ended over one fault.
fn outcome(shop: &Shop, args: &[&str], case: Case) -> Vec<String> {
    let run = discreet(sound(shop.start(args).wait(), args));
    if !shop.server.unfired().is_empty() {
        return vec!["a fault that never fired tests nothing".to_owned()];
    }
    // The bytes of an upload that were damaged on their way cannot be had again; whatever else happens once passes by itself.
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
        flaws.push(format!("the second time: exit {}: {}", again.code, again.err.trim_end()));
    }
    flaws.extend(shop.flaws().into_iter().map(|flaw| format!("the second time: {flaw}")));
    flaws
}

/// Little, in several pages of a listing and several objects.
fn little() -> Shop {
    let shop = Shop::of_kinds(&[("Note", 40, 1_000), ("Image", 3, 20_000)]);
    shop.server.page(2);
    shop
}

/// Three requests of one session, and pieces of objects that are too large to be read as a whole.
fn much() -> Shop {
    let shop = Shop::of_kinds(&[("Note", 9, 1_000_000), ("Image", 9, 1_000_000)]);
    shop.server.page(2);
    shop
}

/// More parts than can be joined at once.
fn in_parts() -> (Shop, Vec<&'static str>) {
    let shop = Shop::of_kinds(&[("Note", 20, 20_000), ("Image", 20, 20_000)]);
    shop.server.page(20);
    (shop, vec!["pack", SOURCE, ARCHIVE, "--parts-above", "1", "--part-size", "20KiB"])
}

#[test]
fn a_pack_in_one_request_comes_over_every_planned_fault() {
    every_fault(&little(), &["pack", SOURCE, ARCHIVE], &[Call::List, Call::Stat, Call::Read, Call::Insert, Call::Delete]);
}

#[test]
fn a_pack_in_one_session_comes_over_every_planned_fault() {
    let calls = [Call::List, Call::Stat, Call::Read, Call::Insert, Call::Begin, Call::Put, Call::Patch, Call::Delete];
    every_fault(&much(), &["pack", SOURCE, ARCHIVE], &calls);
}

#[test]
fn a_pack_in_parts_comes_over_every_planned_fault() {
    let (shop, args) = in_parts();
    every_fault(&shop, &args, &[Call::List, Call::Stat, Call::Read, Call::Insert, Call::Compose, Call::Delete]);
}
