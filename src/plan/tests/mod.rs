mod concurrency;
mod edits;
mod guards;
mod properties;
mod ways;

use std::collections::BTreeMap;

use super::*;
use crate::model::{
    BackupInfo, ExportFormat, KindInfo, KindRef, MANIFEST_FORMAT, Method, Namespace, PackOptions,
    Selector, ToolInfo, Totals,
};
use crate::model::{Crc32c, EntryInfo, EntryRole, Sha256};

fn item(
    namespace: &str,
    kind: &str,
    bytes: u64,
    parents: &[&str],
    references: &[(&str, &str)],
) -> KindInfo {
    let mut reference_pairs: Vec<KindRef> = references
        .iter()
        .map(|(namespace, kind)| KindRef::new(*namespace, *kind))
        .collect();
    reference_pairs.sort();
    let mut references: Vec<Kind> = reference_pairs
        .iter()
        .map(|pair| pair.kind.clone())
        .collect();
    references.sort();
    references.dedup();
    KindInfo {
        namespace: Namespace::new(namespace),
        kind: Kind::new(kind),
        format: ExportFormat::ManagedExport,
        entities: bytes / 10,
        announced_entities: None,
        bytes,
        started: None,
        finished: None,
        parents: parents.iter().map(|kind| Kind::new(*kind)).collect(),
        references,
        reference_pairs,
        reference_counts: None,
        entries: Vec::new(),
    }
}

fn entry(name: &str, role: EntryRole) -> EntryInfo {
    EntryInfo {
        name: name.to_owned(),
        role,
        listed_as: None,
        content_encoding: None,
        content_type: None,
        bytes: 5,
        sha256: Sha256([7; 32]),
        crc32c: Crc32c(7),
        packed_crc32c: Some(Crc32c(8)),
        pieces: vec![3],
    }
}

fn manifest(kinds: Vec<KindInfo>) -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT.to_owned(),
        tool: ToolInfo {
            name: "kindpack".to_owned(),
            version: "0.1.0".to_owned(),
        },
        backup: BackupInfo {
            id: "20131012063742".to_owned(),
            project: "demo-src".to_owned(),
            database: String::new(),
            started: Some("2013-10-12T06:37:42.287Z".parse().unwrap()),
            finished: None,
            snapshot_time: None,
        },
        totals: Totals {
            kinds: kinds.len() as u64,
            entities: 0,
            entries: 0,
            bytes: 0,
        },
        kinds,
        empty_exports: Vec::new(),
        missing: Vec::new(),
        companions: Vec::new(),
        sums: entry("SHA256SUMS", EntryRole::Sums),
        options: PackOptions {
            method: Method::Deflate,
            level: Some(6),
            piece_bytes: 4 << 20,
        },
    }
}

/// A shop: a chain of parents, a cycle, a second namespace that refers to the first.
fn shop() -> Manifest {
    let mut shop = uncounted_shop();
    for item in &mut shop.kinds {
        let counts =
            item.reference_pairs
                .iter()
                .map(|of| match (item.kind.as_str(), of.kind.as_str()) {
                    ("Invoice", "Order") => 1,
                    ("Order", "Invoice") => 40,
                    ("Order", "Product") => 812,
                    _ => 7,
                });
        item.reference_counts = Some(counts.collect());
    }
    shop
}

/// The same shop in an archive of an earlier version.
fn uncounted_shop() -> Manifest {
    manifest(vec![
        item("", "Product", 900, &[], &[]),
        item("", "Customer", 200, &["Account"], &[("", "Product")]),
        item("", "Account", 300, &[], &[]),
        item("", "Session", 50, &[], &[("", "Customer")]),
        item(
            "",
            "Order",
            500,
            &["Account", "Customer"],
            &[("", "Invoice"), ("", "Product")],
        ),
        item("", "Invoice", 400, &[], &[("", "Order")]),
        item("", "OrderLine", 100, &["Order"], &[("", "Product")]),
        item("", "Setting", 10, &[], &[]),
        item(
            "acme",
            "Customer",
            20,
            &[],
            &[("", "Product"), ("gone", "Plan")],
        ),
    ])
}

fn archive() -> ArchiveRef {
    ArchiveRef {
        location: "gs://shop-archive/all_backup_20131012063742.zip".to_owned(),
        sha256: Sha256([0xab; 32]),
        generation: None,
    }
}

fn to_emulator() -> Choices {
    Choices::new("emulator:shop-test@localhost:8081".parse().unwrap())
}

fn choices(change: impl FnOnce(&mut PlanSelection)) -> Choices {
    let mut choices = to_emulator();
    change(&mut choices.selection);
    choices
}

fn emulator_at(host: Option<&str>) -> Environment {
    Environment {
        emulator_host: host.map(str::to_owned),
        half_set: None,
    }
}

fn planned(manifest: &Manifest, choices: &Choices) -> Result<Plan, PlanError> {
    plan(manifest, &archive(), choices, &Environment::default())
}

fn selectors(texts: &[&str]) -> Vec<Selector> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn depends_on(texts: &[&str]) -> Vec<DependencyRule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn kinds(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| {
            if step.namespace.is_default() {
                step.kind.to_string()
            } else {
                step.pair().to_string()
            }
        })
        .collect()
}

fn reason(plan: &Plan, pair: &str) -> String {
    plan.steps
        .iter()
        .find(|step| step.pair().to_string() == pair)
        .unwrap()
        .reason
        .clone()
}

/// What each step refers to that is restored later.
fn later(plan: &Plan) -> Vec<String> {
    let steps = plan.steps.iter();
    let later = steps.flat_map(|step| {
        let later = step.later.iter();
        later.map(|later| format!("{}: {later}", step.kind))
    });
    later.collect()
}

#[test]
fn shop_is_ordered_by_dependency_and_size() {
    let plan = planned(&shop(), &choices(|s| s.exclude = selectors(&["Session"]))).unwrap();
    let steps: Vec<(String, &str)> = kinds(&plan)
        .into_iter()
        .zip(plan.steps.iter().map(|step| step.reason.as_str()))
        .collect();
    let expected = [
        ("Setting", "independent"),
        ("Account", "parent of Customer and 1 more"),
        ("Product", "referenced by Order (812 references) and 3 more"),
        ("acme/Customer", "after (default)/Product"),
        ("Customer", "parent of Order"),
        (
            "Invoice",
            "breaks the cycle with Order: 1 of 41 references points forward",
        ),
        ("Order", "parent of OrderLine"),
        ("OrderLine", "after Order, Product"),
    ];
    let steps: Vec<(&str, &str)> = steps
        .iter()
        .map(|(kind, reason)| (kind.as_str(), *reason))
        .collect();
    assert_eq!(steps, expected);
    let [cycle] = plan.cycles.as_slice() else {
        panic!("{:?}", plan.cycles)
    };
    assert_eq!((cycle.references, cycle.later), (Some(41), Some(1)));
    assert_eq!(plan.skipped[0].reason, "--exclude Session");
}

#[test]
fn the_document_is_the_golden_one() {
    let mut choices = choices(|s| {
        s.exclude = selectors(&["Session"]);
        s.first = selectors(&["Setting"]);
        s.depends_on = depends_on(&["acme/Customer=(default)/Customer"]);
    });
    choices.map_namespaces = NamespaceMap::join(["acme=acme-test".parse().unwrap()]).unwrap();
    let mut plan = planned(&shop(), &choices).unwrap();
    plan.head.tool = "kindpack 0.1.0".to_owned();
    plan.seal = plan.head.digest();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/plan.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, plan.to_json()).unwrap();
    }
    assert_eq!(
        plan.to_json(),
        std::fs::read_to_string(golden).unwrap(),
        "UPDATE_GOLDEN=1 writes it anew, if that is meant"
    );
}

#[test]
fn the_users_word_wins_over_the_data() {
    let all = |change: fn(&mut PlanSelection)| planned(&shop(), &choices(change)).unwrap();
    let plan = all(|s| {
        (s.first, s.last) = (
            selectors(&["Order", "Customer"]),
            selectors(&["Product", "S*"]),
        )
    });
    assert_eq!(
        kinds(&plan),
        [
            "Order",
            "acme/Customer",
            "Customer",
            "OrderLine",
            "Account",
            "Invoice",
            "Product",
            "Setting",
            "Session"
        ]
    );
    assert_eq!(reason(&plan, "(default)/Order"), "--first Order");
    assert_eq!(reason(&plan, "(default)/Session"), "--last S*");

    let plan = all(|s| s.depends_on = depends_on(&["Account=OrderLine"]));
    assert_eq!(
        reason(&plan, "(default)/Account"),
        "--depends-on Account=OrderLine"
    );
    let place = |kind: &str| kinds(&plan).iter().position(|k| k == kind).unwrap();
    assert!(place("Account") > place("OrderLine"));
    // One parent gives way, and no more.
    assert!(place("Order") > place("Customer") && place("Customer") > place("Account"));
    assert_eq!(
        plan.warnings[0],
        "restored before their parents, because of your order: (default)/OrderLine (parent Order)"
    );

    let plan = all(|s| s.depends_on = depends_on(&["*=Session"]));
    assert_eq!(kinds(&plan)[0], "Session");
    assert_eq!(reason(&plan, "(default)/Session"), "--depends-on *=Session");
    // The word is about all others, not about what both sides choose.
    let about = |kind: &str| {
        let turned = choices(|s| s.depends_on = depends_on(&["*=Session"]));
        let explained = explain(&shop(), &turned, &kind.parse().unwrap()).unwrap();
        (explained[0].words.clone(), explained[0].after.len())
    };
    assert_eq!(about("Session").1, 0);
    let plan = all(|s| s.depends_on = depends_on(&["*=Account"]));
    let account = reason(&plan, "(default)/Account");
    assert!(account.starts_with("parent of "), "{account}");
    assert_eq!(
        about("Setting"),
        (vec!["--depends-on *=Session".to_owned()], 1)
    );
}

#[test]
fn a_word_decides_where_a_cycle_breaks() {
    let turned = choices(|s| s.depends_on = depends_on(&["Invoice=Order"]));
    let plan = planned(&shop(), &turned).unwrap();
    assert_eq!(later(&plan), ["Order: (default)/Invoice (40 references)"]);
    assert_eq!(
        (plan.cycles[0].references, plan.cycles[0].later),
        (Some(41), Some(40))
    );
    assert_eq!(
        reason(&plan, "(default)/Order"),
        "breaks the cycle with Invoice: 40 of 41 references point forward"
    );
}

#[test]
fn without_counts_the_words_have_no_numbers() {
    let plan = planned(&uncounted_shop(), &to_emulator()).unwrap();
    assert_eq!(later(&plan), ["Invoice: (default)/Order"]);
    let cycle = &plan.cycles[0];
    assert_eq!((cycle.references, cycle.later), (None, None));
    assert_eq!(
        reason(&plan, "(default)/Invoice"),
        "breaks the cycle with Order"
    );
    assert_eq!(
        reason(&plan, "(default)/Product"),
        "referenced by acme/Customer and 3 more"
    );
    assert!(!plan.to_json().contains("\"references\""));
}

#[test]
fn parents_in_a_cycle_are_a_warning() {
    let parents = [("Post", "Comment"), ("Comment", "Post")];
    let items = parents.map(|(kind, parent)| item("", kind, 10, &[parent], &[]));
    let plan = planned(&manifest(items.to_vec()), &to_emulator()).unwrap();
    assert_eq!(kinds(&plan), ["Comment", "Post"]);
    assert_eq!(
        plan.warnings,
        [
            "restored before their parents, because of a cycle of parents: (default)/Comment (parent Post)"
        ]
    );
    assert_eq!(
        reason(&plan, "(default)/Comment"),
        "breaks the cycle with Post"
    );
    let turned = choices(|s| s.first = selectors(&["OrderLine"]));
    assert_eq!(
        planned(&shop(), &turned).unwrap().warnings[0],
        "restored before their parents, because of your order: (default)/OrderLine (parent Order)"
    );
}

#[test]
fn contradicting_constraints_are_named_in_full() {
    let fails = |change: fn(&mut PlanSelection)| planned(&shop(), &choices(change)).unwrap_err();
    assert_eq!(
        fails(|s| (s.first, s.depends_on) = (selectors(&["Order"]), depends_on(&["Order=Setting"]))).to_string(),
        "the given order contradicts itself: (default)/Order before (default)/Setting (--first Order), \
         (default)/Setting before (default)/Order (--depends-on Order=Setting)"
    );
    let error = fails(|s| {
        s.depends_on = depends_on(&["Order=Setting", "Invoice=Order", "Setting=Invoice"])
    });
    let PlanError::ConstraintCycle { circle } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        circle.iter().map(|b| b.word.as_str()).collect::<Vec<_>>(),
        [
            "--depends-on Setting=Invoice",
            "--depends-on Order=Setting",
            "--depends-on Invoice=Order"
        ]
    );
    assert!(matches!(
        fails(|s| (s.first, s.last) = (selectors(&["Or*"]), selectors(&["*Line"]))),
        PlanError::FirstAndLast { .. }
    ));
    assert!(matches!(
        fails(|s| s.depends_on = depends_on(&["Order=Or?er"])),
        PlanError::EmptyConstraint { .. }
    ));
    assert_eq!(error.class(), PlanClass::Usage);
}

#[test]
fn a_misspelt_choice_does_not_pass_in_silence() {
    let fails = |start: &str, change: fn(&mut PlanSelection)| {
        let error = planned(&shop(), &choices(change)).unwrap_err();
        assert!(
            error.to_string().starts_with(start) && error.class() == PlanClass::Usage,
            "{error}"
        );
    };
    fails("--only: selector Ordr ", |s| {
        s.only = selectors(&["Order", "Ordr"])
    });
    fails("--exclude: selector Ordr ", |s| {
        s.exclude = selectors(&["Ordr"])
    });
    fails("--first: selector Ordr ", |s| {
        s.first = selectors(&["Ordr"])
    });
    fails("--last: selector beta/* ", |s| {
        s.last = selectors(&["beta/*"])
    });
    fails("--depends-on: selector Ordr ", |s| {
        s.depends_on = depends_on(&["Ordr=Order"])
    });
    fails("--depends-on: selector Ordr ", |s| {
        s.depends_on = depends_on(&["Order=Ordr"])
    });
    let mut mapped = to_emulator();
    mapped.map_namespaces = NamespaceMap::join(["acmee=x".parse().unwrap()]).unwrap();
    assert!(matches!(
        planned(&shop(), &mapped),
        Err(PlanError::UnknownNamespace { .. })
    ));
    mapped.map_namespaces = NamespaceMap::join(["gone=x".parse().unwrap()]).unwrap();
    assert!(
        planned(&shop(), &mapped).is_ok(),
        "references into a namespace move too, even if none of its kinds is here"
    );
    let skipped_word =
        choices(|s| (s.exclude, s.first) = (selectors(&["Session"]), selectors(&["Session"])));
    assert!(
        planned(&shop(), &skipped_word).is_ok(),
        "what is skipped is in the archive all the same"
    );
}

#[test]
fn only_and_skip_choose_and_say_so() {
    let plan = planned(
        &shop(),
        &choices(|s| {
            (s.only, s.exclude) = (selectors(&["Customer", "Order"]), selectors(&["acme/*"]))
        }),
    )
    .unwrap();
    assert_eq!(kinds(&plan), ["Customer", "Order"]);
    let whys: Vec<&str> = plan.skipped.iter().map(|s| s.reason.as_str()).collect();
    assert_eq!(
        whys,
        [
            ["not chosen by --only"; 6].as_slice(),
            &["--exclude acme/*"]
        ]
        .concat()
    );
    assert_eq!(
        plan.totals,
        PlanTotals {
            steps: 2,
            entities: 70,
            bytes: 700,
            seconds: 1,
            billed_writes: None
        }
    );
    assert!(
        planned(&shop(), &choices(|s| s.exclude = selectors(&["*"])))
            .unwrap()
            .steps
            .is_empty()
    );
    assert!(
        planned(&manifest(vec![]), &to_emulator())
            .unwrap()
            .steps
            .is_empty()
    );
}

#[test]
fn two_steps_in_one_place_need_merge() {
    let mut choices = to_emulator();
    choices.map_namespaces = NamespaceMap::join(["acme=(default)".parse().unwrap()]).unwrap();
    let error = planned(&shop(), &choices).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kind Customer of acme and of (default) would both go to namespace (default)"
    );
    assert_eq!(error.class(), PlanClass::Usage);
    choices.on_existing = OnExisting::Merge;
    assert!(planned(&shop(), &choices).is_ok());
    choices.map_namespaces = NamespaceMap::join([
        "acme=(default)".parse().unwrap(),
        "(default)=acme".parse().unwrap(),
    ])
    .unwrap();
    choices.on_existing = OnExisting::Fail;
    assert!(
        planned(&shop(), &choices).is_ok(),
        "namespaces may change places"
    );
}

#[test]
fn repeated_manifest_pair_is_refused() {
    let twice = manifest(vec![
        item("", "A", 1, &[], &[]),
        item("", "B", 1, &[], &[]),
        item("", "A", 2, &[], &[]),
    ]);
    assert_eq!(
        planned(&twice, &to_emulator()),
        Err(PlanError::RepeatedKind {
            pair: KindRef::new("", "A")
        })
    );
}

#[test]
fn numbers_at_their_largest_neither_panic_nor_wrap() {
    let vast = manifest(
        ["A", "B"]
            .map(|kind| item("", kind, u64::MAX, &["A", "B"], &[]))
            .to_vec(),
    );
    assert_eq!(
        planned(&vast, &to_emulator()).unwrap().totals.bytes,
        u64::MAX
    );
}
