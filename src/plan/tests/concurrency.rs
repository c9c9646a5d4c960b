//! Who waits for whom, where several steps run at once.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Which steps are over when each may start at the earliest: those that it waits for, through
/// others too.
fn waits_of(plan: &Plan, is_over: impl Fn(usize) -> bool + Copy) -> BTreeMap<String, Vec<String>> {
    let name = |at: usize| plan.steps[at].pair().to_string();
    let waits = plan.waits(&shop()).unwrap();
    let awaited = |wanted: usize| {
        // A step is awaited if the wanted one cannot start while only that one has not ended.
        let is_awaited = |held: usize| {
            let mut turns = waits.clone().into_queue(is_over);
            while let Some(at) = turns.next_ready() {
                if at == wanted {
                    return false;
                }
                if at != held {
                    turns.finish(at);
                }
            }
            true
        };
        (0..plan.steps.len())
            .filter(|held| *held != wanted && is_awaited(*held))
            .map(name)
            .collect()
    };
    (0..plan.steps.len())
        .filter(|at| !is_over(*at))
        .map(|at| (name(at), awaited(at)))
        .collect()
}

fn waits(plan: &Plan) -> BTreeMap<String, Vec<String>> {
    waits_of(plan, |_| false)
}

#[test]
fn step_waits_for_its_dependencies() {
    let plan = planned(&shop(), &to_emulator()).unwrap();
    let waits = waits(&plan);
    assert_eq!(waits["(default)/Setting"], [""; 0]);
    assert_eq!(waits["acme/Customer"], ["(default)/Product"]);
    assert!(
        !waits["(default)/Invoice"].contains(&"(default)/Order".to_owned()),
        "Order comes later: {waits:?}"
    );
    let order = &waits["(default)/Order"];
    for needed in ["(default)/Invoice", "(default)/Customer"] {
        assert!(order.contains(&needed.to_owned()), "in a cycle: {waits:?}");
    }
    assert!(
        waits["(default)/OrderLine"].contains(&"(default)/Account".to_owned()),
        "through Order: {waits:?}"
    );
}

#[test]
fn a_step_that_is_over_is_waited_through() {
    let plan = planned(&shop(), &to_emulator()).unwrap();
    let order = plan
        .steps
        .iter()
        .position(|step| step.kind.as_str() == "Order")
        .unwrap();
    let waits = waits_of(&plan, |at| at == order);
    assert!(
        waits["(default)/OrderLine"].contains(&"(default)/Account".to_owned()),
        "{waits:?}"
    );
}

#[test]
fn words_and_moved_steps_are_waited_for() {
    let plan = planned(
        &shop(),
        &choices(|s| s.depends_on = depends_on(&["Setting=Product"])),
    )
    .unwrap();
    assert_eq!(waits(&plan)["(default)/Setting"], ["(default)/Product"]);
    let mut moved = planned(&shop(), &to_emulator()).unwrap();
    let last = moved.steps.pop().unwrap();
    moved.steps.insert(0, last.clone());
    let waits = waits(&moved);
    let name = last.pair().to_string();
    assert_eq!(waits[&name], [""; 0]);
    assert!(
        waits
            .iter()
            .all(|(of, on)| *of == name || on.contains(&name)),
        "{waits:?}"
    );
}

#[test]
fn many_dependencies_need_little_memory() {
    let names: Vec<String> = (0..20_000).map(|number| format!("K{number:05}")).collect();
    let before = std::iter::once(None).chain(names.iter().map(Some));
    let items = names.iter().zip(before).map(|(name, before)| {
        item(
            "",
            name,
            1,
            &before.map(String::as_str).into_iter().collect::<Vec<_>>(),
            &[],
        )
    });
    let manifest = manifest(items.collect());
    let plan = planned(
        &manifest,
        &choices(|s| s.depends_on = depends_on(&["K1*=K0*"])),
    )
    .unwrap();
    let waits = plan.waits(&manifest).unwrap();
    assert!(waits.links() < 3 * names.len(), "{}", waits.links());
    let mut turns = waits.into_queue(|_| false);
    for at in 0..names.len() {
        assert_eq!(turns.next_ready(), Some(at));
        assert_eq!(turns.next_ready(), None);
        turns.finish(at);
    }
    assert!(!turns.is_any_left());
}

proptest! {
    #[test]
    fn every_step_runs_once_after_dependencies(
        needs in prop::collection::vec((0..12_usize, 0..12_usize), 0..30), moved in prop::collection::vec((0..12_usize, 0..12_usize), 0..4),
        words in prop::collection::vec((0..12_usize, 0..12_usize), 0..3), over in prop::collection::vec(0..12_usize, 0..4),
        order in prop::collection::vec(0..64_usize, 12),
    ) {
        let name = |number: usize| format!("K{number:02}");
        let items = (0..12).map(|number| {
            let of: Vec<String> = needs.iter().filter(|(by, of)| *by == number && of != by).map(|(_, of)| name(*of)).collect();
            item("", &name(number), 1, &[], &of.iter().map(|kind| ("", kind.as_str())).collect::<Vec<_>>())
        });
        let manifest = manifest(items.collect());
        let said: Vec<String> = words.iter().filter(|(a, b)| a != b).map(|(a, b)| format!("{}={}", name(*a), name(*b))).collect();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let Ok(mut plan) = planned(&manifest, &choices(|s| s.depends_on = depends_on(&said))) else { return Ok(()) };
        for (from, to) in moved {
            let step = plan.steps.remove(from);
            plan.steps.insert(to, step);
        }
        let place = |number: usize| plan.steps.iter().position(|step| step.kind.as_str() == name(number)).unwrap();
        let over: BTreeSet<usize> = over.into_iter().collect();
        let mut must: Vec<(usize, usize)> = needs.iter().chain(&words).map(|(by, of)| (place(*of), place(*by))).collect();
        for (at, step) in plan.steps.iter().enumerate() {
            must.extend((0..at).filter(|earlier| plan.steps[*earlier].id > step.id).map(|earlier| (earlier, at)));
        }
        let mut turns = plan.waits(&manifest).unwrap().into_queue(|at| over.contains(&at));
        let (mut running, mut ended, mut started) = (Vec::new(), over.clone(), BTreeSet::new());
        for choice in order.iter().cycle() {
            while let Some(at) = turns.next_ready() {
                prop_assert!(started.insert(at) && !over.contains(&at));
                prop_assert!(must.iter().all(|(before, after)| *after != at || before >= after || ended.contains(before)), "{at}");
                running.push(at);
            }
            if running.is_empty() {
                break;
            }
            let at = running.remove(choice % running.len());
            turns.finish(at);
            ended.insert(at);
        }
        prop_assert!(!turns.is_any_left());
        prop_assert_eq!(ended.len(), plan.steps.len());
    }
}
