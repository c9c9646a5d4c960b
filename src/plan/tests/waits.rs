//! Who waits for whom, where steps may run side by side.
use super::*;
/// Whom each step waits for, by the names of their kinds.
fn waits(plan: &Plan) -> BTreeMap<String, Vec<String>> {
    let name = |id: &u32| plan.steps.iter().find(|step| step.id == *id).map(|step| step.pair().to_string()).unwrap();
    let waits = plan.waits_for(&shop()).unwrap();
    waits.iter().map(|(id, on)| (name(id), on.iter().map(name).collect())).collect()
}

#[test]
fn a_step_waits_for_what_it_needs_through_others_too_and_for_nothing_that_stands_behind_it() {
    let plan = planned(&shop(), &to_emulator()).unwrap();
    let waits = waits(&plan);
    assert_eq!(waits["(default)/Setting"], [""; 0]);
    assert_eq!(waits["acme/Customer"], ["(default)/Product"]);
    assert_eq!(waits["(default)/Invoice"], ["(default)/Account", "(default)/Product", "(default)/Customer"], "Order stands behind it");
    assert!(waits["(default)/OrderLine"].contains(&"(default)/Account".to_owned()), "through Order: {waits:?}");
}

#[test]
fn words_and_moved_steps_are_waited_for_as_well() {
    let plan = planned(&shop(), &choices(|s| s.depends_on = depends_on(&["Setting=Product"]))).unwrap();
    assert_eq!(waits(&plan)["(default)/Setting"], ["(default)/Product"]);
    let mut moved = planned(&shop(), &to_emulator()).unwrap();
    let last = moved.steps.pop().unwrap();
    moved.steps.insert(0, last.clone());
    let waits = waits(&moved);
    assert_eq!(waits[&last.pair().to_string()], [""; 0]);
    assert!(waits.values().skip(1).all(|on| on.is_empty() || on.contains(&last.pair().to_string())), "{waits:?}");
    assert!(waits["(default)/Setting"].contains(&last.pair().to_string()));
}
