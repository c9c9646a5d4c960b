//! Generated manifests and choices: what holds of every plan.

use proptest::prelude::*;

use super::*;

/// What is reachable from what, by one step or more.
type Reach = BTreeMap<(KindRef, KindRef), bool>;

fn closure(pairs: &[KindRef], edges: &[(KindRef, KindRef)]) -> Reach {
    let mut reach: Reach = edges.iter().map(|edge| (edge.clone(), true)).collect();
    for via in pairs {
        for from in pairs {
            for to in pairs {
                if reaches(&reach, from, via) && reaches(&reach, via, to) {
                    reach.insert((from.clone(), to.clone()), true);
                }
            }
        }
    }
    reach
}

fn reaches(reach: &Reach, from: &KindRef, to: &KindRef) -> bool {
    reach.contains_key(&(from.clone(), to.clone()))
}

fn in_one_cycle(reach: &Reach, a: &KindRef, b: &KindRef) -> bool {
    reaches(reach, a, b) && reaches(reach, b, a)
}

/// What each pair needs among `pairs`, as (needed, by).
fn data_edges(manifest: &Manifest, pairs: &[KindRef]) -> Vec<(KindRef, KindRef)> {
    let mut edges = Vec::new();
    for item in &manifest.kinds {
        let by = item.pair();
        let needed = item.needs().map(|(of, _)| of);
        edges.extend(
            needed
                .filter(|of| *of != by && pairs.contains(of) && pairs.contains(&by))
                .map(|of| (of, by.clone())),
        );
    }
    edges
}

const KINDS: [&str; 6] = ["A", "B", "C", "D", "E", "F"];
const NAMESPACES: [&str; 2] = ["", "acme"];

prop_compose! {
    fn any_item(namespace: &'static str, kind: &'static str)(
        bytes in 0u64..4,
        parents in prop::collection::btree_set(0..KINDS.len(), 0..2),
        references in prop::collection::btree_set((0..NAMESPACES.len(), 0..KINDS.len()), 0..3),
    ) -> KindInfo {
        let parents: Vec<&str> = parents.into_iter().map(|k| KINDS[k]).collect();
        let references: Vec<(&str, &str)> = references.into_iter().map(|(n, k)| (NAMESPACES[n], KINDS[k])).collect();
        item(namespace, kind, bytes, &parents, &references)
    }
}

fn any_manifest() -> impl Strategy<Value = Manifest> {
    let all: Vec<_> = NAMESPACES
        .iter()
        .flat_map(|n| KINDS.iter().map(move |k| any_item(n, k)))
        .collect();
    (all, prop::collection::vec(prop::bool::weighted(0.8), 12)).prop_map(|(items, keep)| {
        let kept: Vec<KindInfo> = items
            .into_iter()
            .zip(keep)
            .filter(|(_, keep)| *keep)
            .map(|(item, _)| item)
            .collect();
        manifest(if kept.is_empty() {
            vec![item("", "A", 1, &[], &[])]
        } else {
            kept
        })
    })
}

/// Shops of up to seven kinds in two namespaces, with many references and with parents that form no
/// cycle.
fn any_cycle() -> impl Strategy<Value = Manifest> {
    let kinds = prop::sample::subsequence((0..12).collect::<Vec<_>>(), 2..=7).prop_shuffle();
    let references = prop::collection::btree_map((0..7_usize, 0..7_usize), 1..50_u64, 0..24);
    let parents = prop::collection::vec((0..7_usize, 0..7_usize), 0..5);
    (kinds, references, parents, prop::bool::weighted(0.8)).prop_map(
        |(kinds, references, parents, is_counted)| {
            let pair = |number: usize| {
                kinds
                    .get(number)
                    .map(|kind| (NAMESPACES[kind / 6], KINDS[kind % 6]))
            };
            let items = (0..kinds.len()).map(|by| {
                let (namespace, kind) = pair(by).unwrap();
                // A parent has a smaller number than its child.
                let parents = parents
                    .iter()
                    .filter(|(of, child)| *child == by && of < child);
                let parents =
                    parents.filter_map(|(of, _)| pair(*of).filter(|parent| parent.0 == namespace));
                let counts = references.iter().filter(|((from, _), _)| *from == by);
                let counts: BTreeMap<_, u64> = counts
                    .filter_map(|((_, to), count)| Some((pair(*to)?, *count)))
                    .collect();
                let mut item = item(
                    namespace,
                    kind,
                    10,
                    &parents.map(|parent| parent.1).collect::<Vec<_>>(),
                    &counts.keys().copied().collect::<Vec<_>>(),
                );
                item.reference_counts = is_counted.then(|| counts.into_values().collect());
                item
            });
            manifest(items.collect())
        },
    )
}

/// One need between two kinds of a manifest.
struct CountedNeed {
    of: KindRef,
    by: KindRef,
    is_parent: bool,
    references: Option<u64>,
}

fn counted_needs(manifest: &Manifest) -> Vec<CountedNeed> {
    let mut needs = Vec::new();
    for item in &manifest.kinds {
        let by = item.pair();
        let need = |of: KindRef, is_parent, references| CountedNeed {
            of,
            by: by.clone(),
            is_parent,
            references,
        };
        let parents = item.parents.iter().map(|kind| KindRef {
            namespace: by.namespace.clone(),
            kind: kind.clone(),
        });
        needs.extend(parents.map(|of| need(of, true, None)));
        let references = item.counted_references().filter(|(of, _)| **of != by);
        needs.extend(references.map(|(of, references)| need(of.clone(), false, references)));
    }
    needs
}

fn comes_before(order: &[KindRef], one: &KindRef, other: &KindRef) -> bool {
    let place = |pair| order.iter().position(|at| at == pair);
    place(one) < place(other)
}

/// The references that point forward.
fn forward<'a>(order: &[KindRef], needs: &'a [CountedNeed]) -> Vec<&'a CountedNeed> {
    let references = needs.iter().filter(|need| !need.is_parent);
    references
        .filter(|need| comes_before(order, &need.by, &need.of))
        .collect()
}

fn weight(forward: &[&CountedNeed]) -> u64 {
    forward
        .iter()
        .map(|need| need.references.unwrap_or(1))
        .sum()
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let shorter = permutations(last).into_iter();
    let longer = shorter.flat_map(|shorter| {
        (0..count).map(move |at| {
            let mut longer = shorter.clone();
            longer.insert(at, last);
            longer
        })
    });
    longer.collect()
}

fn any_pair(manifest: &Manifest, at: usize) -> String {
    manifest.kinds[at % manifest.kinds.len()].pair().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn unconstrained_plan_meets_dependencies_outside_cycles(
        manifest in any_manifest(), skip in prop::option::weighted(0.3, 0usize..12), turn in 0usize..12,
    ) {
        let chosen = choices(|s| s.exclude = skip.iter().map(|&at| any_pair(&manifest, at).parse().unwrap()).collect());
        let plan = planned(&manifest, &chosen).unwrap();
        let pairs: Vec<KindRef> = plan.steps.iter().map(Step::pair).collect();
        let place: BTreeMap<&KindRef, usize> = pairs.iter().zip(0..).collect();

        // Each pair once, numbered in order.
        prop_assert!(plan.steps.iter().map(|step| step.id).eq(1..=pairs.len() as u32));
        let mut everything: Vec<KindRef> = pairs.iter().cloned().chain(plan.skipped.iter().map(|s| KindRef { namespace: s.namespace.clone(), kind: s.kind.clone() })).collect();
        everything.sort();
        let mut expected: Vec<KindRef> = manifest.kinds.iter().map(KindInfo::pair).collect();
        expected.sort();
        prop_assert_eq!(everything, expected);

        let edges = data_edges(&manifest, &pairs);
        let reach = closure(&pairs, &edges);
        for (of, by) in &edges {
            prop_assert!(place[of] < place[by] || in_one_cycle(&reach, of, by), "{} before {}", by, of);
        }

        // Cycles together and named; whatever could have changed places goes small before big.
        let runs: Vec<&[KindRef]> = pairs.chunk_by(|a, b| in_one_cycle(&reach, a, b)).collect();
        for (at, run) in runs.iter().enumerate() {
            for other in &runs[at + 1..] {
                prop_assert!(!in_one_cycle(&reach, &run[0], &other[0]), "{} and {} are apart", run[0], other[0]);
            }
        }
        let named: Vec<Vec<KindRef>> = plan.cycles.iter().map(|cycle| cycle.kinds.iter().map(CycleMember::pair).collect()).collect();
        prop_assert_eq!(named, runs.iter().filter(|run| run.len() > 1).map(|run| run.to_vec()).collect::<Vec<_>>());
        let key = |run: &[KindRef]| (run.iter().map(|pair| manifest.kinds.iter().find(|item| item.pair() == *pair).unwrap().bytes).sum::<u64>(), run.iter().min().cloned());
        for two in runs.windows(2) {
            let bound = edges.iter().any(|(of, by)| two[0].contains(of) && two[1].contains(by));
            prop_assert!(bound || key(two[0]) < key(two[1]), "{:?} before {:?}", two[0], two[1]);
        }

        // The same plan from a manifest in another order, and back from its own document.
        let mut turned = manifest.clone();
        let middle = turn % turned.kinds.len();
        turned.kinds.rotate_left(middle);
        turned.kinds.iter_mut().for_each(|item| { item.parents.reverse(); item.references.reverse(); item.reference_pairs.reverse(); });
        prop_assert_eq!(planned(&turned, &chosen).unwrap().to_json(), plan.to_json());
        let read = Plan::parse(&plan.to_json()).unwrap();
        prop_assert_eq!(&read, &plan);
        prop_assert_eq!(read.check_against(&manifest, &archive(), &Environment::default()).unwrap(), plan);
    }

    #[test]
    fn as_few_references_as_possible_point_forward(manifest in any_cycle()) {
        let plan = planned(&manifest, &to_emulator()).unwrap();
        let order: Vec<KindRef> = plan.steps.iter().map(Step::pair).collect();
        let needs = counted_needs(&manifest);
        let parents_come_first = |order: &[KindRef]| needs.iter().all(|need| !need.is_parent || comes_before(order, &need.of, &need.by));
        prop_assert!(parents_come_first(&order), "{:?}", order);

        let forward_of = |order: &[KindRef]| forward(order, &needs);
        let forward = forward_of(&order);
        let possible = permutations(order.len()).into_iter().map(|places| places.into_iter().map(|at| order[at].clone()).collect::<Vec<_>>());
        let best = possible.filter(|order| parents_come_first(order)).map(|order| weight(&forward_of(&order))).min();
        prop_assert_eq!(Some(weight(&forward)), best, "{:?}", order);

        // The plan says exactly those, step by step and cycle by cycle.
        let mut said: Vec<(KindRef, KindRef, Option<u64>)> = plan.steps.iter().flat_map(|step| step.later.iter().map(|later| (step.pair(), later.pair(), later.references))).collect();
        said.sort();
        let mut expected: Vec<_> = forward.iter().map(|need| (need.by.clone(), need.of.clone(), need.references)).collect();
        expected.sort();
        prop_assert_eq!(said, expected);
        let later: Option<u64> = plan.cycles.iter().map(|cycle| cycle.later).sum();
        if needs.iter().all(|need| need.is_parent || need.references.is_some()) {
            prop_assert_eq!(later, Some(weight(&forward)));
        }
        for step in &plan.steps {
            let count: Option<u64> = step.later.iter().map(|later| later.references).sum();
            let cycle = plan.cycles.iter().find(|cycle| cycle.kinds.iter().any(|member| member.pair() == step.pair()));
            let words = count.zip(cycle.and_then(|cycle| cycle.references)).map(|(count, all)| format!(": {count} of {all} reference"));
            prop_assert!(step.later.is_empty() || (step.reason.starts_with("breaks the cycle with ") && words.is_none_or(|words| step.reason.contains(&words))), "{}", step.reason);
        }
    }

    #[test]
    fn large_cycles_keep_parents_first(
        parents in prop::collection::vec((0..40_usize, 0..40_usize), 0..30), references in prop::collection::vec((0..40_usize, 0..40_usize, 1..50_u64), 20..160),
    ) {
        let name = |number: usize| format!("K{number:02}");
        let items = (0..40).map(|by| {
            let parents: Vec<String> = parents.iter().filter(|(of, child)| *child == by && of < child).map(|(of, _)| name(*of)).collect();
            // A ring holds all of them together.
            let ring = ((by + 1) % 40, 1);
            let others = references.iter().filter(|(from, ..)| *from == by).map(|(_, to, count)| (*to, *count));
            let counts: BTreeMap<String, u64> = others.chain([ring]).map(|(to, count)| (name(to), count)).collect();
            let pairs: Vec<_> = counts.keys().map(|kind| ("", kind.as_str())).collect();
            let mut item = item("", &name(by), 10, &parents.iter().map(String::as_str).collect::<Vec<_>>(), &pairs);
            item.reference_counts = Some(counts.into_values().collect());
            item
        });
        let manifest = manifest(items.collect());
        let plan = planned(&manifest, &to_emulator()).unwrap();
        let order: Vec<KindRef> = plan.steps.iter().map(Step::pair).collect();
        let needs = counted_needs(&manifest);
        prop_assert!(needs.iter().filter(|need| need.is_parent).all(|need| comes_before(&order, &need.of, &need.by)), "{:?}", order);
        prop_assert_eq!(plan.cycles.len(), 1);
        prop_assert_eq!(plan.cycles[0].later, Some(weight(&forward(&order, &needs))));
        // By name, parents come before children too.
        let mut trivial = order.clone();
        trivial.sort();
        prop_assert!(plan.cycles[0].later <= Some(weight(&forward(&trivial, &needs))));
    }

    #[test]
    fn constraints_hold_and_other_dependencies_too(
        manifest in any_manifest(),
        first in prop::collection::vec(0usize..12, 0..3), last in prop::collection::vec(0usize..12, 0..3),
        after in prop::collection::vec((0usize..12, 0usize..12, any::<bool>()), 0..4),
    ) {
        let all: Vec<KindRef> = manifest.kinds.iter().map(KindInfo::pair).collect();
        let pick = |list: &[usize]| -> Vec<Selector> { list.iter().map(|&at| any_pair(&manifest, at).parse().unwrap()).collect() };
        let (first, last) = (pick(&first), pick(&last));
        // Some orders speak of a kind in every namespace.
        let side = |at: usize, wide: bool| { let pair = any_pair(&manifest, at); if wide { pair.split_once('/').unwrap().1.to_owned() } else { pair } };
        let after: Vec<DependencyRule> = after.iter().map(|&(a, b, wide)| format!("{}={}", side(a, wide), side(b, false)).parse().unwrap()).collect();

        let group = |pair: &KindRef| match (first.iter().position(|s| s.matches(pair)), last.iter().position(|s| s.matches(pair))) {
            (Some(at), _) => at,
            (None, None) => 100,
            (None, Some(at)) => 101 + at,
        };
        let mut wished = Vec::new();
        for a in &all {
            for b in &all {
                let (waits, is_awaited) = (|after: &&DependencyRule| after.step.matches(b), |after: &&DependencyRule| after.needs.matches(a));
                let both = |after: &&DependencyRule| after.step.matches(a) && after.needs.matches(b);
                if group(a) < group(b) || after.iter().any(|after| waits(&after) && is_awaited(&after) && !both(&after)) {
                    wished.push((a.clone(), b.clone()));
                }
            }
        }
        let user = closure(&all, &wished);
        let chosen = choices(|s| (s.first, s.last, s.depends_on) = (first.clone(), last.clone(), after.clone()));
        match planned(&manifest, &chosen) {
            Ok(plan) => {
                let place: BTreeMap<KindRef, usize> = plan.steps.iter().map(Step::pair).zip(0..).collect();
                for (a, b) in &wished {
                    prop_assert!(place[a] < place[b], "{} before {}", b, a);
                }
                let edges = data_edges(&manifest, &all);
                let reach = closure(&all, &[edges.clone(), wished].concat());
                for (of, by) in &edges {
                    prop_assert!(place[of] < place[by] || in_one_cycle(&reach, of, by), "{} before {}", by, of);
                }
            }
            Err(PlanError::ConstraintCycle { circle }) => {
                prop_assert!(all.iter().any(|pair| reaches(&user, pair, pair)));
                for (link, next) in circle.iter().zip(circle.iter().cycle().skip(1)) {
                    prop_assert!(reaches(&user, &link.pair, &next.pair) && !link.word.is_empty());
                }
            }
            Err(PlanError::FirstAndLast { pair, .. }) => {
                prop_assert!(first.iter().any(|s| s.matches(&pair)) && last.iter().any(|s| s.matches(&pair)));
            }
            Err(PlanError::EmptyConstraint { .. }) => {
                prop_assert!(after.iter().any(|after| all.iter().all(|pair| after.step.matches(pair) == after.needs.matches(pair))));
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn any_choices_plan_or_refuse_with_reason(
        manifest in any_manifest(), only in prop::collection::vec(0usize..12, 0..3), with_dependencies in any::<bool>(),
        (target, policy, via) in (0..5usize, 0..3usize, 0..2usize), staging in prop::option::of(0..2usize), sample in prop::option::of(1u64..9),
        rule in prop::option::of(0..4usize), key in any::<bool>(), hook in prop::option::of("\\PC{0,9}"), recovery in any::<bool>(),
    ) {
        let targets = ["emulator:shop-test@localhost:1", "datastore:shop-test", "datastore:demo-src", "dir:out", "ndjson:out"];
        let rules = ["A.x=hash", "*.y.*=null", "Nobody.x=drop", "B.__key__=hash"];
        let mut chosen = Choices::new(targets[target].parse().unwrap());
        (chosen.on_existing, chosen.via) = ([OnExisting::Fail, OnExisting::Merge, OnExisting::Replace][policy], [WriteMethod::Commit, WriteMethod::Import][via]);
        chosen.staging = staging.map(|at| ["gs://bucket/staging", "/staging"][at].to_owned());
        chosen.sample = sample.map(crate::model::Sample::Limit);
        chosen.redaction.rules = rule.iter().map(|&at| rules[at].parse().unwrap()).collect();
        chosen.redaction.key_id = (key && rule.is_some()).then(|| "0123456789abcdef".to_owned());
        chosen.hooks.before_step = hook;
        chosen.selection.only = only.iter().map(|&at| any_pair(&manifest, at).parse().unwrap()).collect();
        (chosen.selection.with_dependencies, chosen.selection.disaster_recovery) = (with_dependencies, recovery);
        match planned(&manifest, &chosen) {
            Err(error) => prop_assert!(!error.to_string().is_empty() && error.class() == if target == 2 && !recovery { PlanClass::Refused } else { PlanClass::Usage }, "{}", error),
            Ok(plan) => {
                prop_assert!(target != 2 || recovery);
                prop_assert!(via == 0 || (target < 3 && sample.is_none() && rule.is_none() && staging.map_or(target == 0, |at| (at == 0) == (target > 0))));
                prop_assert!(policy == 0 || target < 3);
                let read = Plan::parse(&plan.to_json()).unwrap();
                prop_assert_eq!(&read, &plan);
                prop_assert_eq!(read.check_against(&manifest, &archive(), &Environment::default()).unwrap(), plan.clone());
                // Nothing that is needed is left out, unless a word says so.
                let taken: Vec<KindRef> = plan.steps.iter().map(Step::pair).collect();
                if with_dependencies {
                    for item in manifest.kinds.iter().filter(|item| taken.contains(&item.pair())) {
                        let parents = item.parents.iter().map(|kind| KindRef { namespace: item.namespace.clone(), kind: kind.clone() });
                        for needed in parents.chain(item.reference_pairs.iter().cloned()).filter(|pair| manifest.kinds.iter().any(|item| item.pair() == *pair)) {
                            prop_assert!(taken.contains(&needed), "{} needs {}", item.pair(), needed);
                        }
                    }
                }
                // The seal covers each choice.
                let changes: [&dyn Fn(&mut PlanHead); 7] = [
                    &|head| head.choices.on_existing = if policy == 1 { OnExisting::Fail } else { OnExisting::Merge },
                    &|head| head.choices.via = if via == 0 { WriteMethod::Import } else { WriteMethod::Commit },
                    &|head| head.choices.staging = Some("gs://elsewhere".to_owned()),
                    &|head| head.choices.sample = Some(crate::model::Sample::Limit(10)),
                    &|head| head.choices.redaction = Redaction { rules: vec!["A.z=drop".parse().unwrap()], ..Redaction::default() },
                    &|head| head.choices.hooks = Hooks { after_all: Some("evil".to_owned()), ..Hooks::default() },
                    &|head| head.archive.generation = Some("7".to_owned()),
                ];
                for change in changes {
                    let mut changed = plan.clone();
                    change(&mut changed.head);
                    let refused = Plan::parse(&changed.to_json());
                    prop_assert!(matches!(refused, Err(PlanError::HeadModified)), "read");
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,60}", cut in 0usize..3000, with in "\\PC{0,3}") {
        _ = Plan::parse(&text);
        let whole = planned(&shop(), &to_emulator()).unwrap().to_json();
        let cut = (0..=cut.min(whole.len())).rev().find(|&at| whole.is_char_boundary(at)).unwrap();
        let changed = format!("{}{with}{}", &whole[..cut], &whole[cut..]);
        if let Ok(plan) = Plan::parse(&changed) {
            _ = plan.check_against(&shop(), &archive(), &Environment::default());
        }
    }
}
