//! Every command under every fault: each call to a store, a target or an exporter is numbered, and
//! at each number one thing goes wrong. Then pairs of faults, by numbers that are the same in every
//! run.
//!
//! After each fault the same holds: what has a final name is whole, nothing that differs is
//! reported as good, the exit code says what happened, and the same command ends as if nothing had
//! been.

mod backup;
mod extract;
mod pack;
mod prune;
mod restore;
mod stage;

use std::collections::BTreeMap;
use std::fmt;

use kindpack::cli::{ExitCode, Failure};

use crate::cloud::fixture::try_all;
use crate::support::data::noise;
use crate::support::faults::{Call, Deed, Faults, Spot};

/// Calls that a command makes more than it makes undisturbed, where it tries again.
const MAX_MORE_CALLS: usize = 400;

/// Calls that may be under way at once.
const MAX_UNDER_WAY: usize = 64;

/// Bytes of one read: a piece with what surrounds it in the archive.
const MAX_READ_BYTES: usize = 5 << 20;

/// A run that meets a lock is repeated so often.
const MAX_LOCKED_RUNS: usize = 100;

/// What a restore and a backup say of a lock that another process holds.
const LOCKED: [&str; 2] = ["is using the journal", "another process is running backup"];

/// The variable that names one case, so that it is tried alone.
const ONLY: &str = "KINDPACK_TESTS_FAULT";

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ended {
    Done,
    /// With an exit code, and what the last event says.
    Failed(ExitCode, String),
    Killed,
}

impl Ended {
    fn new<T>(ended: Option<Result<T, impl Into<Failure>>>) -> Self {
        match ended {
            None => Ended::Killed,
            Some(Ok(_)) => Ended::Done,
            Some(Err(error)) => {
                let failure: Failure = error.into();
                Ended::Failed(failure.code, failure.sentence())
            }
        }
    }
}

impl Ended {
    /// Whether a lock is held. Where another test starts a program, the new process holds all files
    /// of this one, locks included, for the moment until it is that program.
    fn is_locked_out(&self) -> bool {
        let is_of_lock = |sentence: &str| LOCKED.iter().any(|words| sentence.contains(words));
        matches!(self, Ended::Failed(ExitCode::Refused, sentence) if is_of_lock(sentence))
    }
}

/// A command with all that it works on.
trait Scene: Send + Sync + Sized {
    /// Where nothing has happened yet.
    fn new() -> Self;

    /// Another one with the same contents.
    fn copy(&self) -> Self;

    /// Runs the command, which stops where it is killed.
    async fn run(&self, faults: &Faults) -> Ended;

    /// What is wrong after a run, however it ended.
    fn flaws(&self, ended: &Ended) -> Vec<String>;

    /// What is left to do after a run to which nothing happened.
    fn unfinished(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether a fault means something here, beyond what its call says.
    fn applies(_spot: Spot, _deed: Deed) -> bool {
        true
    }

    /// Whether an exit code says the truth about a fault.
    fn may_fail_with(deed: Deed, code: ExitCode) -> bool {
        may_fail_with(deed, code)
    }

    /// Whether time is virtual, so that a stalled call costs none.
    const HAS_VIRTUAL_TIME: bool = true;
}

/// Whether an exit code says the truth about a fault of a store or a target.
fn may_fail_with(deed: Deed, code: ExitCode) -> bool {
    match deed {
        Deed::Fail | Deed::FailForever | Deed::LoseAnswer | Deed::DiskFull => {
            code == ExitCode::Service
        }
        // A folder refuses, a service says which right is missing.
        Deed::Deny => matches!(code, ExitCode::Refused | ExitCode::Service),
        Deed::ShortRead | Deed::FlipBit => matches!(
            code,
            ExitCode::Damaged | ExitCode::Incomplete | ExitCode::Refused | ExitCode::Service
        ),
        Deed::Stall | Deed::KillBefore | Deed::KillAfter => false,
    }
}

/// A fault at a numbered call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    spot: Spot,
    number: usize,
    deed: Deed,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} {}", self.deed, self.spot, self.number)
    }
}

/// The deeds that mean something for a call.
fn deeds(call: Call) -> Vec<Deed> {
    let mut deeds = vec![
        Deed::Fail,
        Deed::FailForever,
        Deed::Stall,
        Deed::Deny,
        Deed::KillBefore,
    ];
    match call {
        Call::Read => deeds.extend([Deed::ShortRead, Deed::FlipBit]),
        Call::Create | Call::Write | Call::Publish | Call::Open | Call::Send | Call::Finish => {
            deeds.push(Deed::DiskFull);
        }
        _ => {}
    }
    if call.changes() {
        deeds.extend([Deed::LoseAnswer, Deed::KillAfter]);
    }
    deeds
}

/// Every fault at every call of a run.
fn cases_of<S: Scene>(counts: &BTreeMap<Spot, usize>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (&spot, &count) in counts {
        let applicable = deeds(spot.call).into_iter().filter(|deed| {
            S::applies(spot, *deed) && (S::HAS_VIRTUAL_TIME || *deed != Deed::Stall)
        });
        let applicable: Vec<Deed> = applicable.collect();
        cases.extend((0..count).flat_map(|number| {
            let case = move |deed| Case { spot, number, deed };
            applicable.iter().copied().map(case)
        }));
    }
    cases
}

/// Runs a command in a runtime of its own: what it left running has ended afterwards.
fn run<S: Scene>(scene: &S, faults: &Faults) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(S::HAS_VIRTUAL_TIME)
        .build()
        .unwrap();
    runtime.block_on(scene.run(faults))
}

/// Runs a command over faults, again where it meets a lock.
fn run_unlocked<S: Scene>(scene: &S, cases: &[Case]) -> (Faults, Ended) {
    let mut runs = 1;
    loop {
        let faults = Faults::default();
        for case in cases {
            faults.plan(case.spot, case.number, case.deed);
        }
        let ended = run(scene, &faults);
        if !ended.is_locked_out() || runs == MAX_LOCKED_RUNS {
            return (faults, ended);
        }
        runs += 1;
    }
}

/// The calls of a run to which nothing happens, by sort.
fn undisturbed<S: Scene>(scene: &S) -> (BTreeMap<Spot, usize>, Vec<String>) {
    let (faults, ended) = run_unlocked(scene, &[]);
    // What explains the rest comes first.
    let failed = (ended != Ended::Done).then(|| format!("undisturbed: {ended:?}"));
    let mut flaws: Vec<String> = failed.into_iter().collect();
    flaws.extend(scene.flaws(&ended));
    flaws.extend(scene.unfinished());
    (faults.counts(), flaws)
}

/// Runs a command over faults. Gives how it ended and what is wrong with that.
fn disturbed<S: Scene>(scene: &S, cases: &[Case], calls: usize) -> (Ended, Vec<String>) {
    let (faults, ended) = run_unlocked(scene, cases);
    let mut flaws = scene.flaws(&ended);
    // Of two faults the first may end the run before the second.
    let may_miss = cases.len().saturating_sub(1) * usize::from(ended != Ended::Done);
    flaws.extend((faults.unfired() > may_miss).then(|| "a fault never fired".to_owned()));
    flaws.extend(wrong_code::<S>(&ended, cases));
    flaws.extend(excess(&faults, calls));
    (ended, flaws)
}

/// What is wrong with the exit code.
fn wrong_code<S: Scene>(ended: &Ended, cases: &[Case]) -> Option<String> {
    let is_kill = |case: &Case| matches!(case.deed, Deed::KillBefore | Deed::KillAfter);
    let is_true = match ended {
        Ended::Done => !cases.iter().all(is_kill),
        Ended::Killed => cases.iter().any(is_kill),
        Ended::Failed(code, _) => cases.iter().any(|case| S::may_fail_with(case.deed, *code)),
    };
    (!is_true).then(|| format!("it ended as {ended:?}"))
}

/// What a run used more of than it may.
fn excess(faults: &Faults, calls: usize) -> Vec<String> {
    let made: usize = faults.counts().values().sum();
    let checks = [
        ("calls", made, calls + MAX_MORE_CALLS),
        ("calls at once", faults.most_under_way(), MAX_UNDER_WAY),
        ("bytes in a read", faults.longest_read(), MAX_READ_BYTES),
    ];
    let excess = checks.into_iter().filter(|(_, found, max)| found > max);
    excess
        .map(|(what, found, max)| format!("{found} {what}, more than {max}"))
        .collect()
}

/// What is wrong with the same command after a fault.
fn repeated<S: Scene>(scene: &S) -> Vec<String> {
    let (_, flaws) = undisturbed(scene);
    let flaws = flaws.into_iter();
    flaws
        .map(|flaw| format!("the second time: {flaw}"))
        .collect()
}

/// Whether a case is to be tried: all are, unless one is named.
fn is_wanted(label: &str) -> bool {
    std::env::var(ONLY).map_or(true, |only| only == label)
}

fn label(flaws: Vec<String>, case: &str) -> Vec<String> {
    let flaws = flaws.into_iter();
    flaws.map(|flaw| format!("{case}: {flaw}")).collect()
}

/// Tries every fault at every call.
#[track_caller]
fn every_fault<S: Scene>() {
    let (counts, flaws) = undisturbed(&S::new());
    assert_eq!(flaws, [""; 0]);
    let mut cases = cases_of::<S>(&counts);
    cases.retain(|case| is_wanted(&case.to_string()));
    let calls = counts.values().sum();
    try_all(&cases, |case| {
        let scene = S::new();
        let (_, mut flaws) = disturbed(&scene, &[*case], calls);
        flaws.extend(repeated(&scene));
        label(flaws, &case.to_string())
    });
}

/// Numbers that are the same in every run.
struct Draw(Vec<u8>);

impl Draw {
    fn new(seed: u64) -> Self {
        Draw(noise(seed + 1, 64))
    }

    /// One of them, by chance.
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        let drawn = self.0.split_off(self.0.len() - 4);
        let number = u32::from_le_bytes(drawn.try_into().unwrap());
        of[number as usize % of.len()]
    }
}

/// Tries so many pairs of faults: the second one comes in the run that goes on after the first, or
/// in the same run where that survives the first.
#[track_caller]
fn pairs_of_faults<S: Scene>(pairs: u64) {
    let (counts, flaws) = undisturbed(&S::new());
    assert_eq!(flaws, [""; 0]);
    let cases = cases_of::<S>(&counts);
    let calls = counts.values().sum();
    let mut numbers: Vec<u64> = (0..pairs).collect();
    numbers.retain(|number| is_wanted(&format!("pair {number}")));
    try_all(&numbers, |number| {
        let mut draw = Draw::new(*number);
        let first = draw.one(&cases);
        let (second, flaws) = try_pair::<S>(first, &mut draw, calls);
        label(flaws, &format!("pair {number}, {first}, then {second:?}"))
    });
}

fn try_pair<S: Scene>(first: Case, draw: &mut Draw, calls: usize) -> (Option<Case>, Vec<String>) {
    let scene = S::new();
    let (ended, mut flaws) = disturbed(&scene, &[first], calls);
    if ended == Ended::Done {
        return try_together::<S>(first, draw, calls);
    }
    let (counts, _) = undisturbed(&scene.copy());
    let cases = cases_of::<S>(&counts);
    let second = (!cases.is_empty()).then(|| draw.one(&cases));
    if let Some(second) = second {
        flaws.extend(disturbed(&scene, &[second], calls).1);
    }
    flaws.extend(repeated(&scene));
    (second, flaws)
}

/// A fault that a run survives, and another one in the same run.
fn try_together<S: Scene>(
    first: Case,
    draw: &mut Draw,
    calls: usize,
) -> (Option<Case>, Vec<String>) {
    let (counts, _) = undisturbed(&S::new());
    let mut cases = cases_of::<S>(&counts);
    cases.retain(|case| (case.spot, case.number) != (first.spot, first.number));
    let second = draw.one(&cases);
    let scene = S::new();
    let (_, mut flaws) = disturbed(&scene, &[first, second], calls);
    flaws.extend(repeated(&scene));
    (Some(second), flaws)
}
