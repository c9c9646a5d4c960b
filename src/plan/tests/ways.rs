//! Ways into a target: what they can do, what is said of them, and what is refused before anything
//! runs.

use super::*;
use crate::model::{MissingKind, Sample};

fn refused(manifest: &Manifest, target: &str, change: impl FnOnce(&mut Choices)) -> PlanError {
    way(manifest, target, change).unwrap_err()
}

fn way(
    manifest: &Manifest,
    target: &str,
    change: impl FnOnce(&mut Choices),
) -> Result<Plan, PlanError> {
    let mut choices = Choices::new(target.parse().unwrap());
    change(&mut choices);
    planned(manifest, &choices)
}

const EMULATOR: &str = "emulator:shop-test@localhost:8081";
const SERVICE: &str = "datastore:shop-test";

fn import(choices: &mut Choices) {
    choices.via = WriteMethod::Import;
}

fn staged(choices: &mut Choices) {
    choices.via = WriteMethod::Import;
    choices.staging = Some("gs://bucket/staging".to_owned());
}

fn redaction(rules: &[&str]) -> Redaction {
    let rules: Vec<_> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    let key_id = Some("0123456789abcdef".to_owned());
    Redaction {
        rules,
        key_id,
        key_is_short: false,
        matches: Vec::new(),
    }
}

/// Each item with entries of its own.
fn exported() -> Manifest {
    let mut manifest = shop();
    for item in &mut manifest.kinds {
        let folder = format!("exports/{}/{}", item.namespace, item.kind);
        item.entries = vec![
            entry(&format!("{folder}/output-0"), EntryRole::Output),
            entry(
                &format!("{folder}/x.export_metadata"),
                EntryRole::KindMetadata,
            ),
        ];
    }
    manifest
}

#[test]
fn import_takes_only_unchanged_exports() {
    let shop = exported();
    assert!(way(&shop, EMULATOR, import).is_ok() && way(&shop, SERVICE, staged).is_ok());
    assert!(
        way(&shop, EMULATOR, |c| (c.via, c.staging) =
            (WriteMethod::Import, Some("/var/staging".to_owned())))
        .is_ok()
    );
    for (target, change) in [
        ("dir:out", import as fn(&mut Choices)),
        ("ndjson:out", import),
        (EMULATOR, |c| {
            (c.via, c.redaction) = (WriteMethod::Import, redaction(&["Customer.email=mask"]))
        }),
        (EMULATOR, |c| {
            (c.via, c.sample) = (WriteMethod::Import, Some(Sample::Limit(3)))
        }),
        (EMULATOR, |c| {
            (c.via, c.map_namespaces) = (
                WriteMethod::Import,
                NamespaceMap::join(["acme=x".parse().unwrap()]).unwrap(),
            )
        }),
    ] {
        let error = refused(&shop, target, change);
        assert!(
            matches!(error, PlanError::NoImport { .. }) && error.class() == PlanClass::Usage,
            "{target}: {error}"
        );
    }
    for (target, change) in [
        (SERVICE, import as fn(&mut Choices)),
        (SERVICE, |c| {
            (c.via, c.staging) = (WriteMethod::Import, Some("/var/staging".to_owned()))
        }),
        (EMULATOR, staged),
        (SERVICE, |c| {
            c.staging = Some("gs://bucket/staging".to_owned())
        }),
    ] {
        let error = refused(&shop, target, change);
        assert!(
            matches!(error, PlanError::Staging { .. }) && error.class() == PlanClass::Usage,
            "{target}: {error}"
        );
    }
}

#[test]
fn unimportable_export_is_named() {
    type Change = fn(&mut Manifest);
    let cases: [(Change, &str); 3] = [
        (
            |m| m.kinds[1].format = ExportFormat::LegacyBackup,
            "(default)/Customer is a backup of the old Datastore Admin",
        ),
        (
            |m| {
                let shared = m.kinds[0].entries[0].clone();
                m.kinds[1].entries.push(shared);
            },
            "the export of (default)/Customer holds (default)/Product as well",
        ),
        (
            |m| m.kinds[1].entries[0].content_encoding = Some("gzip".to_owned()),
            "exports/(default)/Customer/output-0 of (default)/Customer is stored encoded",
        ),
    ];
    for (change, found) in cases {
        let mut manifest = exported();
        change(&mut manifest);
        let error = refused(&manifest, EMULATOR, import).to_string();
        assert!(error.ends_with(found), "{error}");
        assert!(way(&manifest, EMULATOR, |_| {}).is_ok(), "commits take it");
        let elsewhere = |c: &mut Choices| {
            (c.via, c.selection.only) = (WriteMethod::Import, selectors(&["Setting"]))
        };
        assert!(
            way(&manifest, EMULATOR, elsewhere).is_ok(),
            "it is not requested"
        );
    }
}

#[test]
fn write_once_target_neither_merges_nor_deletes() {
    for target in ["dir:out", "ndjson:out"] {
        for policy in [OnExisting::Merge, OnExisting::Replace] {
            let error = refused(&shop(), target, |c| c.on_existing = policy);
            assert!(
                matches!(error, PlanError::WriteOnceTarget { .. })
                    && error.class() == PlanClass::Usage,
                "{error}"
            );
        }
    }
}

#[test]
fn replacing_steps_announce_deletes_and_stay_apart() {
    let plan = way(&shop(), EMULATOR, |c| c.on_existing = OnExisting::Replace).unwrap();
    assert!(plan.steps.iter().all(|step| step.deletes));
    assert!(plan.to_json().contains("\"deletes\": true"));
    assert!(
        !planned(&shop(), &to_emulator())
            .unwrap()
            .to_json()
            .contains("deletes")
    );
    let error = refused(&shop(), EMULATOR, |c| {
        c.on_existing = OnExisting::Replace;
        c.map_namespaces = NamespaceMap::join(["acme=(default)".parse().unwrap()]).unwrap();
    });
    assert!(matches!(error, PlanError::Collision { .. }), "{error}");
}

#[test]
fn only_the_real_service_bills_writes() {
    let writes = |target: &str, change: fn(&mut Choices)| {
        way(&shop(), target, change).unwrap().totals.billed_writes
    };
    assert_eq!(writes(SERVICE, |_| {}), Some(248));
    assert_eq!(
        writes(SERVICE, |c| c.sample = Some(Sample::Limit(10))),
        Some(68)
    );
    assert_eq!(
        (writes(EMULATOR, |_| {}), writes("dir:out", |_| {})),
        (None, None)
    );
}

#[test]
fn dependencies_come_along_with_reason() {
    let needed = |change: fn(&mut PlanSelection)| {
        planned(
            &shop(),
            &choices(|s| {
                s.with_dependencies = true;
                change(s);
            }),
        )
    };
    let plan = needed(|s| s.only = selectors(&["OrderLine"])).unwrap();
    assert_eq!(
        kinds(&plan),
        [
            "Account",
            "Product",
            "Customer",
            "Invoice",
            "Order",
            "OrderLine"
        ]
    );
    assert_eq!(reason(&plan, "(default)/Order"), "needed by OrderLine");
    assert_eq!(reason(&plan, "(default)/Account"), "needed by Order");
    assert_eq!(reason(&plan, "(default)/OrderLine"), "after Order, Product");
    let plan = needed(|s| {
        (s.only, s.exclude, s.first) = (
            selectors(&["acme/*"]),
            selectors(&["Account"]),
            selectors(&["acme/Customer"]),
        )
    })
    .unwrap();
    assert_eq!(kinds(&plan), ["acme/Customer", "Product"]);
    assert_eq!(
        reason(&plan, "(default)/Product"),
        "needed by acme/Customer"
    );
    let plan = needed(|s| {
        (s.only, s.exclude) = (selectors(&["Customer"]), selectors(&["acme/*", "Account"]))
    })
    .unwrap();
    assert_eq!(
        kinds(&plan),
        ["Product", "Customer"],
        "who is skipped by name stays out"
    );
    assert_eq!(
        plan.warnings,
        [
            "some keys and references lead nowhere after the restore, to kinds that are left out: (default)/Account (from (default)/Customer)"
        ]
    );
    let error = needed(|_| {}).unwrap_err();
    assert!(matches!(error, PlanError::NothingToAdd) && error.class() == PlanClass::Usage);
}

#[test]
fn order_file_and_options_join() {
    let file = |first: &[&str], last: &[&str], after: &[&str]| {
        Some(OrderFile {
            file: "order.toml".to_owned(),
            first: selectors(first),
            last: selectors(last),
            depends_on: depends_on(after),
        })
    };
    let plan = planned(
        &shop(),
        &choices(|s| {
            (s.first, s.order_file) = (
                selectors(&["Setting"]),
                file(&["Session"], &["Product"], &[]),
            )
        }),
    )
    .unwrap();
    assert_eq!(kinds(&plan)[..2], ["Setting", "Session"]);
    assert_eq!(
        (
            reason(&plan, "(default)/Session"),
            reason(&plan, "(default)/Product")
        ),
        (
            "order.toml: first Session".to_owned(),
            "order.toml: last Product".to_owned()
        )
    );
    let fails = |selection: PlanSelection| {
        let chosen = Choices {
            selection,
            ..to_emulator()
        };
        planned(&shop(), &chosen).unwrap_err().to_string()
    };
    let typed = |after: &[&str]| PlanSelection {
        depends_on: depends_on(after),
        ..PlanSelection::default()
    };
    assert_eq!(
        fails(PlanSelection {
            order_file: file(&[], &[], &["Setting=Session"]),
            ..typed(&["Session=Setting"])
        }),
        "the given order contradicts itself: (default)/Session before (default)/Setting (order.toml: depends_on Setting=Session), \
         (default)/Setting before (default)/Session (--depends-on Session=Setting)"
    );
    assert_eq!(
        fails(PlanSelection {
            last: selectors(&["Setting"]),
            order_file: file(&["Setting"], &[], &[]),
            ..PlanSelection::default()
        }),
        "(default)/Setting cannot be both first and last: order.toml: first Setting, --last Setting"
    );
    assert_eq!(
        fails(PlanSelection {
            order_file: file(&["Settings"], &[], &[]),
            ..PlanSelection::default()
        }),
        "order.toml: first: selector Settings matches no kind"
    );
    assert!(
        fails(PlanSelection {
            order_file: file(&[], &[], &["Order=Order"]),
            ..PlanSelection::default()
        })
        .starts_with("order.toml: depends_on Order=Order names ")
    );
}

#[test]
fn rules_are_checked_and_need_a_key() {
    let error = refused(&shop(), EMULATOR, |c| {
        c.redaction = redaction(&["Custmer.email=mask"])
    });
    assert!(
        matches!(error, PlanError::Redact(_)) && error.class() == PlanClass::Usage,
        "{error}"
    );
    let keyless = |rule: &str| Redaction {
        key_id: None,
        ..redaction(&[rule])
    };
    let error = refused(&shop(), EMULATOR, |c| {
        c.redaction = keyless("Customer.email=hash")
    });
    assert!(
        matches!(error, PlanError::NoRedactKey { .. }) && error.class() == PlanClass::Usage,
        "{error}"
    );
    assert!(
        way(&shop(), EMULATOR, |c| c.redaction =
            keyless("Customer.email=null"))
        .is_ok()
    );
}

fn found(rule: &str, properties: &[&str], left_out: &[&str]) -> RuleMatch {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    RuleMatch {
        rule: rule.parse().unwrap(),
        properties: names(properties),
        left_out: names(left_out),
    }
}

/// What comes of rules that match so much.
fn redacted(manifest: &Manifest, matches: Vec<RuleMatch>) -> Result<Plan, PlanError> {
    let rules = matches.iter().map(|found| found.rule.clone()).collect();
    let redaction = Redaction {
        rules,
        matches,
        ..Redaction::default()
    };
    way(manifest, EMULATOR, |c| {
        (c.redaction, c.selection.exclude) = (redaction, selectors(&["acme/*"]))
    })
}

#[test]
fn a_rule_that_matches_nothing_is_an_error() {
    let good = || found("Customer.email=mask", &["Customer.email"], &[]);
    for rule in ["Customer.emial=mask", "*.emial=mask"] {
        let error = redacted(&shop(), vec![good(), found(rule, &[], &[])]).unwrap_err();
        assert_eq!(
            error,
            PlanError::RuleMatchesNothing {
                rule: rule.to_owned(),
                nearest: None,
            }
        );
        assert_eq!(error.class(), PlanClass::Usage);
    }
    let plan = redacted(
        &shop(),
        vec![
            good(),
            found("?Customer.emial=mask", &[], &[]),
            found("?Custmer.email=mask", &[], &[]),
        ],
    )
    .unwrap();
    assert_eq!(
        plan.warnings,
        [
            "--redact ?Customer.emial=mask matches no property of the archive",
            "--redact ?Custmer.email=mask matches no property of the archive"
        ]
    );
    assert_eq!(Plan::parse(&plan.to_json()), Ok(plan));
}

#[test]
fn rule_for_skipped_kind_is_a_warning() {
    let plan = redacted(
        &shop(),
        vec![found("*.email=mask", &[], &["Customer.email"])],
    )
    .unwrap();
    assert_eq!(
        plan.warnings,
        ["--redact *.email=mask matches only what is not restored: Customer.email"]
    );
    let mut manifest = shop();
    manifest
        .kinds
        .iter_mut()
        .filter(|item| item.kind.as_str() == "Setting")
        .for_each(|item| item.entities = 0);
    let plan = redacted(&manifest, vec![found("Setting.email=mask", &[], &[])]).unwrap();
    assert_eq!(
        plan.warnings,
        ["--redact Setting.email=mask matches no property of the archive"],
        "it has no entities"
    );
}

#[test]
fn a_short_secret_is_a_warning() {
    let redaction = Redaction {
        key_is_short: true,
        ..redaction(&["Customer.email=hash"])
    };
    let plan = way(&shop(), EMULATOR, |c| {
        (c.redaction, c.selection.exclude) = (redaction, selectors(&["acme/*"]))
    })
    .unwrap();
    assert!(
        plan.warnings[0].starts_with("KINDPACK_REDACT_KEY is short"),
        "{:?}",
        plan.warnings
    );
    assert_eq!(
        plan.check_against(&shop(), &archive(), &Environment::default()),
        Ok(plan)
    );
}

#[test]
fn a_sample_shows_how_much_it_takes() {
    let sizes = |sample: &str, change: fn(&mut PlanSelection)| {
        let plan = way(&shop(), EMULATOR, |c| {
            c.sample = Some(sample.parse().unwrap());
            change(&mut c.selection);
        });
        let steps = plan.unwrap().steps.into_iter();
        steps
            .map(|step| (step.pair().to_string(), (step.entities, step.of_entities)))
            .collect::<BTreeMap<_, _>>()
    };
    let limited = sizes("3", |_| {});
    assert_eq!(
        (limited["(default)/Product"], limited["acme/Customer"]),
        ((3, Some(90)), (2, Some(2)))
    );
    assert_eq!(sizes("10%", |_| {})["(default)/Product"], (9, Some(90)));
    // What comes along is not sampled: about as much as the chosen ones need.
    let needed = sizes("3", |s| {
        (s.only, s.with_dependencies) = (selectors(&["OrderLine", "Session"]), true)
    });
    assert_eq!(
        (needed["(default)/OrderLine"], needed["(default)/Product"]),
        ((3, Some(10)), (6, Some(90)))
    );
}

#[test]
fn samples_and_recoveries_are_warned_of() {
    let warnings = |target: &str, change: fn(&mut Choices)| {
        let plan = way(&shop(), target, |c| {
            c.selection.exclude = selectors(&["acme/*"]);
            change(c);
        });
        plan.unwrap().warnings
    };
    assert_eq!(warnings(EMULATOR, |_| {}).len(), 0);
    assert_eq!(
        warnings(EMULATOR, |c| c.sample = Some(Sample::Share(50_000))).len(),
        1
    );
    assert_eq!(
        warnings(EMULATOR, |c| (c.sample, c.on_existing) =
            (Some(Sample::Share(50_000)), OnExisting::Replace))
        .len(),
        2
    );
    assert_eq!(
        warnings(EMULATOR, |c| (c.sample, c.selection.with_dependencies) =
            (Some(Sample::Limit(1)), true))
        .len(),
        0
    );
    assert!(
        warnings("datastore:demo-src", |c| c.selection.disaster_recovery =
            true)[0]
            .starts_with("--disaster-recovery: ")
    );
    let elsewhere = warnings(EMULATOR, |c| c.selection.disaster_recovery = true);
    assert_eq!(elsewhere.len(), 0);
    assert_eq!(warnings("datastore:shop-test", |_| {}).len(), 0);
}

#[test]
fn empty_restore_is_worth_a_warning() {
    let warnings = |manifest: &Manifest, exclude: &[&str]| {
        let choices = choices(|s| s.exclude = selectors(exclude));
        planned(manifest, &choices).unwrap().warnings
    };
    assert_eq!(warnings(&shop(), &["*"]), ["nothing is left to restore"]);
    assert_eq!(warnings(&manifest(Vec::new()), &[]), [""; 0]);
}

#[test]
fn kinds_that_the_backup_lacks_are_named() {
    let mut shop = shop();
    shop.missing = vec![MissingKind {
        namespace: Namespace::new("acme"),
        kind: Kind::new("Lost"),
        reason: "PERMISSION_DENIED".to_owned(),
    }];
    let warnings = |exclude: &[&str]| {
        let choices = choices(|s| s.exclude = selectors(exclude));
        planned(&shop, &choices).unwrap().warnings
    };
    let named = "acme/Lost is missing from this backup: PERMISSION_DENIED".to_owned();
    assert!(warnings(&[]).contains(&named));
    assert!(!warnings(&["acme/*"]).contains(&named));
}

#[test]
fn accepted_counts_of_what_is_restored_are_named() {
    let mut shop = shop();
    shop.kinds[7].announced_entities = Some(5);
    let warnings = |exclude: &[&str]| {
        let choices = choices(|s| s.exclude = selectors(exclude));
        planned(&shop, &choices).unwrap().warnings
    };
    let named = |warnings: Vec<String>| warnings.iter().any(|one| one.contains("Setting"));
    assert!(named(warnings(&[])) && !named(warnings(&["Setting"])));
}

#[test]
fn kind_is_explained_up_to_its_roots() {
    let told = |change: fn(&mut PlanSelection), selector: &str| {
        explain(&shop(), &choices(change), &selector.parse().unwrap())
    };
    let explained = told(|_| {}, "(default)/OrderLine").unwrap();
    let [one] = explained.as_slice() else {
        panic!("{explained:?}")
    };
    let chain: Vec<String> = one
        .after
        .iter()
        .map(|link| format!("{} {} {}", link.depth, link.kind, link.by))
        .collect();
    assert_eq!(
        chain,
        [
            "1 Product 7 references",
            "1 Order parent",
            "2 Account parent",
            "2 Product 812 references",
            "2 Customer parent",
            "3 Account parent",
            "3 Product 7 references",
            "2 Invoice 40 references"
        ]
    );
    assert!(one.before.is_empty() && one.cycle.is_none() && one.words.is_empty());
    assert!(one.later.is_empty() && one.earlier.is_empty());
    let plan = planned(&shop(), &to_emulator()).unwrap();
    for link in &one.after {
        let step = plan
            .steps
            .iter()
            .find(|step| step.kind == link.kind && step.namespace == link.namespace)
            .unwrap();
        assert_eq!(step.id, link.step);
    }

    let explained = told(|s| s.depends_on = depends_on(&["Account=*"]), "Account").unwrap();
    assert_eq!(explained[0].words, ["--depends-on Account=*"]);
    assert_eq!(
        (
            explained[0].after[0].kind.as_str(),
            explained[0].after[0].by.as_str()
        ),
        ("Setting", "--depends-on Account=*")
    );
    assert!(explained[0].before.is_empty() && !explained[0].earlier.is_empty());
    assert!(
        explained[0]
            .earlier
            .iter()
            .all(|link| link.broken_by == Some("because of your order"))
    );
    let explained = told(|s| s.exclude = selectors(&["Session"]), "Session").unwrap();
    assert_eq!(
        (explained[0].step, explained[0].reason.as_str()),
        (None, "--exclude Session")
    );
    assert_eq!(told(|_| {}, "Customer").unwrap().len(), 2);
    assert!(matches!(
        told(|_| {}, "Custmer"),
        Err(PlanError::EmptySelection { .. })
    ));
}

#[test]
fn explanation_says_what_the_plan_says() {
    let plan = planned(&shop(), &to_emulator()).unwrap();
    let explained = explain(&shop(), &to_emulator(), &"*".parse().unwrap()).unwrap();
    for (step, one) in plan.steps.iter().zip(&explained) {
        assert_eq!((Some(step.id), &step.reason), (one.step, &one.reason));
        let later = one.later.iter().map(|link| LaterKind {
            namespace: link.namespace.clone(),
            kind: link.kind.clone(),
            references: link.references,
        });
        assert!(later.eq(step.later.iter().cloned()), "{one:?}");
        let after = one.after.iter().chain(&one.earlier);
        assert!(after.clone().all(|link| link.step < step.id), "{one:?}");
        let before = one.before.iter().chain(&one.later);
        assert!(before.clone().all(|link| link.step > step.id), "{one:?}");
        let cycle = plan.cycles.iter().find(|cycle| {
            let mut kinds = cycle.kinds.iter();
            kinds.any(|member| member.pair() == step.pair())
        });
        assert_eq!(cycle, one.cycle.as_ref());
    }
    let broken = explained.iter().flat_map(|one| &one.later);
    let broken: Vec<_> = broken
        .map(|link| (link.by.as_str(), link.broken_by))
        .collect();
    assert_eq!(broken, [("1 reference", Some("to break the cycle"))]);
}

#[test]
fn explanation_shows_both_directions_with_counts() {
    let told = |selector: &str| {
        let explained = explain(&shop(), &to_emulator(), &selector.parse().unwrap());
        explained.unwrap().remove(0)
    };
    let product = told("(default)/Product");
    let before = product.before.iter();
    let before = before.map(|link| (link.kind.as_str(), link.references));
    assert_eq!(
        before.collect::<Vec<_>>(),
        [
            ("Customer", Some(7)),
            ("Customer", Some(7)),
            ("Order", Some(812)),
            ("OrderLine", Some(7)),
        ]
    );
    let line = told("(default)/OrderLine");
    let after = line.after.iter();
    let after = after.map(|link| (link.kind.as_str(), link.references, link.is_shown_above));
    assert_eq!(
        after.collect::<Vec<_>>(),
        [
            ("Product", Some(7), false),
            ("Order", None, false),
            ("Account", None, false),
            ("Product", Some(812), false),
            ("Customer", None, false),
            ("Account", None, false),
            ("Product", Some(7), false),
            ("Invoice", Some(40), false),
        ]
    );
    let all = explain(&shop(), &to_emulator(), &"*".parse().unwrap()).unwrap();
    let shown = all.iter().flat_map(|one| &one.after);
    let shown = shown.filter(|link| link.is_shown_above);
    let shown: BTreeSet<&str> = shown.map(|link| link.kind.as_str()).collect();
    assert_eq!(shown, BTreeSet::from(["Customer", "Order"]));
}

#[test]
fn word_about_one_kind_breaks_its_needs() {
    let first = choices(|s| s.first = selectors(&["Order"]));
    let explained = explain(&shop(), &first, &"(default)/Order".parse().unwrap()).unwrap();
    assert_eq!(explained[0].words, ["--first Order"]);
    let later = explained[0].later.iter();
    let later = later.map(|link| (link.kind.as_str(), link.broken_by));
    let because = Some("because of your order");
    let kinds = ["Account", "Product", "Customer", "Invoice"];
    let mut later: Vec<_> = later.collect();
    later.sort();
    let mut expected = kinds.map(|kind| (kind, because));
    expected.sort();
    assert_eq!(later, expected);
}

#[test]
fn long_chain_is_explained_without_recursion() {
    let names: Vec<String> = (0..5_000).map(|number| format!("K{number:05}")).collect();
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
    let explained = explain(
        &manifest(items.collect()),
        &to_emulator(),
        &"K04999".parse().unwrap(),
    )
    .unwrap();
    assert_eq!(explained[0].after.len(), 4_999);
}
