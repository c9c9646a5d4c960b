//! SIGKILL in the middle of a restore, at moments that a seed chooses.

use kindpack::model::KindRef;
use serde_json::Value;

use super::fault_proxy::{FaultProxy, Side};
use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::emulator::emulator;
use crate::support::entities::{assert_same, moved};
use crate::support::{Running, TestDir};

const KILLS: usize = 12;

/// Commits that are under way at once: what may be done twice after a kill.
const WORKERS: usize = 8;

/// 20,000 entities of three kinds, in a bit more than 40 commits.
fn set(desk: &TestDir) -> Vec<Value> {
    let mut truth = Vec::new();
    for (namespace, kind, count) in [
        ("acme", "Song", 12_000),
        ("", "Artist", 7_000),
        ("acme", "Label", 1_000),
    ] {
        let entities = made("demo-src", namespace, kind, count, 700);
        let records: Vec<Vec<u8>> = entities.iter().map(Made::record).collect();
        write_export(
            &desk.path("source").join(kind),
            &KindRef::new(namespace, kind),
            STARTED_MICROS,
            &records,
            2,
        );
        truth.extend(entities.iter().map(Made::json));
    }
    truth
}

#[test]
fn twelve_kills_lose_and_duplicate_nothing() {
    let Some(emulator) = emulator("kills of a restore") else {
        return;
    };
    let desk = TestDir::new();
    let truth = set(&desk);
    desk.pack("source");
    let gate = FaultProxy::before(&emulator.host);
    let project = emulator.fresh_project();
    desk.plan(
        "set.zip",
        &format!("emulator:{project}@{}", gate.host),
        "plan.json",
        &[],
    );

    let mut seed: u64 = 20_131_012;
    for kill in 0..KILLS {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (number, side) = (
            1 + (seed >> 33) as usize % 11,
            if seed >> 63 == 0 {
                Side::Before
            } else {
                Side::After
            },
        );
        gate.begin_run(Some((number, side)));
        let mut restoring = Running::start(desk.kindpack(&["restore", "plan.json"]));
        let stopped = restoring.wait_until(|| gate.has_stopped());
        let run = restoring.kill();
        assert!(
            stopped,
            "kill {kill} at commit {number}: it had ended: {}",
            run.brief()
        );
    }
    gate.begin_run(None);
    desk.json(0, &["restore", "plan.json", "--check", "entities"]);

    let repeated = gate.repeated();
    assert!(
        repeated.iter().all(|batches| *batches <= WORKERS),
        "batches that were done twice, run by run: {repeated:?}"
    );
    assert!(
        repeated.iter().any(|batches| *batches > 0),
        "no kill came between a commit and its checkpoint: {repeated:?}"
    );
    assert_same(
        &moved(&truth, "demo-src", &project, &[]),
        &emulator.everything(&project),
        false,
        "after all kills",
    );
    desk.json(0, &["status", "plan.json", "--require-complete"]);
}
