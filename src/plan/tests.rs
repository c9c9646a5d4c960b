use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{BackupItem, ExportFormat, Kind, MANIFEST_FORMAT, Method, Namespace, PackOptions, ToolItem, Totals};
use crate::model::{Crc32c, EntryItem, EntryRole};

fn item(namespace: &str, kind: &str, bytes: u64, parents: &[&str], references: &[(&str, &str)]) -> KindItem {
    let mut reference_pairs: Vec<Pair> = references.iter().map(|(namespace, kind)| Pair::new(*namespace, *kind)).collect();
    reference_pairs.sort();
    let mut references: Vec<Kind> = reference_pairs.iter().map(|pair| pair.kind.clone()).collect();
    references.sort();
    references.dedup();
    KindItem {
        namespace: Namespace::new(namespace),
        kind: Kind::new(kind),
        format: ExportFormat::ManagedExport,
        entities: bytes / 10,
        bytes,
        started: None,
        finished: None,
        parents: parents.iter().map(|kind| Kind::new(*kind)).collect(),
        references,
        reference_pairs,
        entries: Vec::new(),
    }
}

fn entry(name: &str, role: EntryRole) -> EntryItem {
    EntryItem {
        name: name.to_owned(),
        role,
        content_encoding: None,
        bytes: 5,
        sha256: Sha256([7; 32]),
        crc32c: Crc32c(7),
        packed_crc32c: Some(Crc32c(8)),
        pieces: vec![3],
    }
}

fn manifest(kinds: Vec<KindItem>) -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT.to_owned(),
        tool: ToolItem { name: "kindpack".to_owned(), version: "0.1.0".to_owned() },
        backup: BackupItem {
            id: "20131012063742".to_owned(),
            project: "demo-src".to_owned(),
            database: String::new(),
            started: Some("2013-10-12T06:37:42.287Z".parse().unwrap()),
            finished: None,
        },
        totals: Totals { kinds: kinds.len() as u64, entities: 0, entries: 0, bytes: 0 },
        kinds,
        empty_exports: Vec::new(),
        companions: Vec::new(),
        sums: entry("SHA256SUMS", EntryRole::Sums),
        options: PackOptions { method: Method::Deflate, level: Some(6), piece_bytes: 4 << 20 },
    }
}

/// A shop: a chain of parents, a cycle, a second namespace that refers to the first.
fn shop() -> Manifest {
    manifest(vec![
        item("", "Product", 900, &[], &[]),
        item("", "Customer", 200, &["Account"], &[("", "Product")]),
        item("", "Account", 300, &[], &[]),
        item("", "Session", 50, &[], &[("", "Customer")]),
        item("", "Order", 500, &["Account", "Customer"], &[("", "Invoice"), ("", "Product")]),
        item("", "Invoice", 400, &[], &[("", "Order")]),
        item("", "OrderLine", 100, &["Order"], &[("", "Product")]),
        item("", "Setting", 10, &[], &[]),
        item("acme", "Customer", 20, &[], &[("", "Product"), ("gone", "Plan")]),
    ])
}

fn archive() -> ArchiveRef {
    ArchiveRef { location: "gs://shop-archive/all_backup_20131012063742.zip".to_owned(), sha256: Sha256([0xab; 32]), generation: None }
}

fn to_emulator() -> Choices {
    Choices::new("emulator:shop-test@localhost:8081".parse().unwrap())
}

fn choices(change: impl FnOnce(&mut Selection)) -> Choices {
    let mut choices = to_emulator();
    change(&mut choices.selection);
    choices
}

fn planned(manifest: &Manifest, choices: &Choices) -> Result<Plan, PlanError> {
    plan(manifest, &archive(), choices, &Environment::default())
}

fn selectors(texts: &[&str]) -> Vec<Selector> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn afters(texts: &[&str]) -> Vec<After> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn kinds(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| if step.namespace.is_default() { step.kind.to_string() } else { step.pair().to_string() }).collect()
}

fn because(plan: &Plan, pair: &str) -> String {
    plan.steps.iter().find(|step| step.pair().to_string() == pair).unwrap().because.clone()
}

#[test]
fn the_shop_is_ordered_by_need_and_then_by_size_and_each_step_says_why() {
    let plan = planned(&shop(), &choices(|s| s.skip = selectors(&["Session"]))).unwrap();
    let steps: Vec<(String, &str)> = kinds(&plan).into_iter().zip(plan.steps.iter().map(|step| step.because.as_str())).collect();
    let expected = [
        ("Setting", "stands alone"),
        ("Account", "parent of Customer and 1 more"),
        ("Product", "referenced by acme/Customer and 3 more"),
        ("acme/Customer", "after (default)/Product"),
        ("Customer", "parent of Order"),
        ("Invoice", "in a cycle with Order"),
        ("Order", "in a cycle with Invoice"),
        ("OrderLine", "after Product, Order"),
    ];
    let steps: Vec<(&str, &str)> = steps.iter().map(|(kind, because)| (kind.as_str(), *because)).collect();
    assert_eq!(steps, expected);
    assert_eq!(plan.cycles.len(), 1);
    assert_eq!(plan.skipped[0].because, "--skip Session");
}

#[test]
fn the_document_is_the_golden_one() {
    let mut choices = choices(|s| {
        s.skip = selectors(&["Session"]);
        s.first = selectors(&["Setting"]);
        s.after = afters(&["acme/Customer=(default)/Customer"]);
    });
    choices.map_namespaces = NamespaceMap::join(["acme=acme-test".parse().unwrap()]).unwrap();
    let mut plan = planned(&shop(), &choices).unwrap();
    plan.tool = "kindpack 0.1.0".to_owned();
    plan.seal = plan.head_digest();
    assert_eq!(plan.to_json(), include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/plan.json")));
}

#[test]
fn the_users_word_wins_over_the_data() {
    let all = |change: fn(&mut Selection)| planned(&shop(), &choices(change)).unwrap();
    let plan = all(|s| (s.first, s.last) = (selectors(&["Order", "Customer"]), selectors(&["Product", "S*"])));
    assert_eq!(kinds(&plan), ["Order", "acme/Customer", "Customer", "OrderLine", "Account", "Invoice", "Product", "Setting", "Session"]);
    assert_eq!(because(&plan, "(default)/Order"), "--first Order");
    assert_eq!(because(&plan, "(default)/Session"), "--last S*");

    let plan = all(|s| s.after = afters(&["Account=OrderLine"]));
    assert_eq!(because(&plan, "(default)/Account"), "--after Account=OrderLine");
    let place = |kind: &str| kinds(&plan).iter().position(|k| k == kind).unwrap();
    assert!(
        place("Account") > place("OrderLine") && place("OrderLine") > place("Order") && place("Order") > place("Customer"),
        "{:?}",
        kinds(&plan)
    );

    let plan = all(|s| s.after = afters(&["*=Session"]));
    assert_eq!(kinds(&plan)[0], "Session");
    assert_eq!(because(&plan, "(default)/Session"), "--after *=Session");
}

#[test]
fn a_word_inside_a_cycle_opens_it() {
    let plan = planned(&shop(), &choices(|s| s.after = afters(&["Invoice=Order"]))).unwrap();
    assert!(plan.cycles.is_empty());
    let place = |kind: &str| kinds(&plan).iter().position(|k| k == kind).unwrap();
    assert!(place("Order") < place("Invoice"));
}

#[test]
fn words_that_contradict_one_another_are_named_in_full() {
    let fails = |change: fn(&mut Selection)| planned(&shop(), &choices(change)).unwrap_err();
    assert_eq!(
        fails(|s| (s.first, s.after) = (selectors(&["Order"]), afters(&["Order=Setting"]))).to_string(),
        "expected an order that can hold, found a circle: (default)/Order before (default)/Setting (--first Order), \
         (default)/Setting before (default)/Order (--after Order=Setting)"
    );
    let error = fails(|s| s.after = afters(&["Order=Setting", "Invoice=Order", "Setting=Invoice"]));
    let PlanError::Contradiction { circle } = &error else { panic!("{error}") };
    assert_eq!(
        circle.iter().map(|b| b.word.as_str()).collect::<Vec<_>>(),
        ["--after Setting=Invoice", "--after Order=Setting", "--after Invoice=Order"]
    );
    assert!(matches!(fails(|s| (s.first, s.last) = (selectors(&["Or*"]), selectors(&["*Line"]))), PlanError::FirstAndLast { .. }));
    assert!(matches!(fails(|s| s.after = afters(&["Order=Or?er"])), PlanError::OrdersNothing { .. }));
    assert_eq!(error.class(), PlanClass::Usage);
}

#[test]
fn a_misspelt_choice_does_not_pass_in_silence() {
    let fails = |start: &str, change: fn(&mut Selection)| {
        let error = planned(&shop(), &choices(change)).unwrap_err();
        assert!(error.to_string().starts_with(start) && error.class() == PlanClass::Usage, "{error}");
    };
    fails("--only Ordr: ", |s| s.only = selectors(&["Order", "Ordr"]));
    fails("--skip Ordr: ", |s| s.skip = selectors(&["Ordr"]));
    fails("--first Ordr: ", |s| s.first = selectors(&["Ordr"]));
    fails("--last beta/*: ", |s| s.last = selectors(&["beta/*"]));
    fails("--after Ordr: ", |s| s.after = afters(&["Ordr=Order"]));
    fails("--after Ordr: ", |s| s.after = afters(&["Order=Ordr"]));
    let mut mapped = to_emulator();
    mapped.map_namespaces = NamespaceMap::join(["acmee=x".parse().unwrap()]).unwrap();
    assert!(matches!(planned(&shop(), &mapped), Err(PlanError::UnknownNamespace { .. })));
    mapped.map_namespaces = NamespaceMap::join(["gone=x".parse().unwrap()]).unwrap();
    assert!(planned(&shop(), &mapped).is_ok(), "references into a namespace move too, even if none of its kinds is here");
    let skipped_word = choices(|s| (s.skip, s.first) = (selectors(&["Session"]), selectors(&["Session"])));
    assert!(planned(&shop(), &skipped_word).is_ok(), "what is skipped is in the archive all the same");
}

#[test]
fn only_and_skip_choose_and_say_so() {
    let plan = planned(&shop(), &choices(|s| (s.only, s.skip) = (selectors(&["Customer", "Order"]), selectors(&["acme/*"])))).unwrap();
    assert_eq!(kinds(&plan), ["Customer", "Order"]);
    let whys: Vec<&str> = plan.skipped.iter().map(|s| s.because.as_str()).collect();
    assert_eq!(whys, [["not chosen by --only"; 6].as_slice(), &["--skip acme/*"]].concat());
    assert_eq!(plan.totals, PlanTotals { steps: 2, entities: 70, bytes: 700 });
    assert!(planned(&shop(), &choices(|s| s.skip = selectors(&["*"]))).unwrap().steps.is_empty());
    assert!(planned(&manifest(vec![]), &to_emulator()).unwrap().steps.is_empty());
}

#[test]
fn two_steps_in_one_place_need_merge() {
    let mut choices = to_emulator();
    choices.map_namespaces = NamespaceMap::join(["acme=(default)".parse().unwrap()]).unwrap();
    let error = planned(&shop(), &choices).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kind Customer: expected a namespace of its own for each step, found that acme and (default) both go to (default)"
    );
    assert_eq!(error.class(), PlanClass::Usage);
    choices.into = Into::Merge;
    assert!(planned(&shop(), &choices).is_ok());
    choices.map_namespaces = NamespaceMap::join(["acme=(default)".parse().unwrap(), "(default)=acme".parse().unwrap()]).unwrap();
    choices.into = Into::Empty;
    assert!(planned(&shop(), &choices).is_ok(), "namespaces may change places");
}

#[test]
fn the_source_project_is_no_target_however_it_is_spelled() {
    let target = |text: &str, host: Option<&str>, change: fn(&mut Selection)| {
        let mut choices = Choices::new(text.parse().unwrap());
        change(&mut choices.selection);
        plan(&shop(), &archive(), &choices, &Environment { emulator_host: host.map(str::to_owned) })
    };
    for text in ["datastore:demo-src", "datastore:DEMO-src", "datastore:s~demo-src", "datastore:e~Demo-Src", "datastore:demo-src/other"] {
        let error = target(text, None, |_| {}).unwrap_err();
        assert!(matches!(error, PlanError::SourceProject { .. }) && error.class() == PlanClass::Refused, "{text}: {error}");
        assert!(target(text, None, |s| s.disaster_recovery = true).is_ok(), "{text}");
    }
    for text in ["datastore:shop-test", "datastore:example.com:demo-src", "emulator:demo-src@localhost:1", "dir:out", "ndjson:out"] {
        assert!(target(text, None, |_| {}).is_ok(), "{text}");
    }
    for host in ["localhost:8081", "localhost", ""] {
        let error = target("datastore:shop-test", Some(host), |s| s.disaster_recovery = true).unwrap_err();
        assert!(matches!(error, PlanError::Doubtful { .. }) && error.class() == PlanClass::Refused, "{error}");
    }
}

#[test]
fn an_emulators_address_comes_from_the_environment_and_into_the_plan() {
    let target = |text: &str, host: Option<&str>| {
        let environment = Environment { emulator_host: host.map(str::to_owned) };
        plan(&shop(), &archive(), &Choices::new(text.parse().unwrap()), &environment).map(|plan| plan.target.to_string())
    };
    assert_eq!(target("emulator:shop", Some("localhost:8081")).unwrap(), "emulator:shop@localhost:8081");
    assert_eq!(target("emulator:shop@localhost:9", Some("localhost:8081")).unwrap(), "emulator:shop@localhost:9");
    assert_eq!(
        target("emulator:shop", None).unwrap_err().to_string(),
        "target emulator:shop: expected emulator:shop@HOST:PORT or DATASTORE_EMULATOR_HOST, found neither"
    );
    for half in ["", "localhost", ":8081", "http://localhost:8081"] {
        assert_eq!(target("emulator:shop", Some(half)), Err(PlanError::BadEmulatorAddress { found: half.to_owned() }));
    }
}

#[test]
fn googles_own_addresses_are_no_emulator() {
    for host in ["datastore.googleapis.com:443", "eu-Datastore.GoogleAPIs.com.:443", "googleapis.com:80"] {
        let named = Choices::new(format!("emulator:shop@{host}").parse().unwrap());
        let environment = Environment { emulator_host: Some(host.to_owned()) };
        for outcome in [planned(&shop(), &named), plan(&shop(), &archive(), &Choices::new("emulator:shop".parse().unwrap()), &environment)]
        {
            assert!(matches!(outcome, Err(PlanError::RealService { .. })), "{host}");
        }
    }
    assert!(planned(&shop(), &Choices::new("emulator:shop@notgoogleapis.com:1".parse().unwrap())).is_ok());
}

#[test]
fn a_pair_that_a_manifest_lists_twice_is_refused() {
    let twice = manifest(vec![item("", "A", 1, &[], &[]), item("", "B", 1, &[], &[]), item("", "A", 2, &[], &[])]);
    assert_eq!(planned(&twice, &to_emulator()), Err(PlanError::RepeatedKind { pair: Pair::new("", "A") }));
}

#[test]
fn numbers_at_their_largest_neither_panic_nor_wrap() {
    let vast = manifest(["A", "B"].map(|kind| item("", kind, u64::MAX, &["A", "B"], &[])).to_vec());
    assert_eq!(planned(&vast, &to_emulator()).unwrap().totals.bytes, u64::MAX);
}

#[test]
fn steps_may_be_removed_and_moved() {
    let whole = planned(&shop(), &to_emulator()).unwrap();
    assert_eq!(whole.check_against(&shop(), &archive(), &Environment::default()), Ok(whole.clone()));
    let mut changed = whole.clone();
    changed.steps.reverse();
    let removed = changed.steps.remove(2);
    let read = Plan::parse(&changed.to_json()).unwrap();
    let elsewhere = ArchiveRef { location: "copy.zip".to_owned(), ..archive() };
    let to_run = read.check_against(&shop(), &elsewhere, &Environment::default()).unwrap();
    assert_eq!(to_run.steps, changed.steps);
    assert_eq!(to_run.totals, PlanTotals::of(&changed.steps));
    let left_out: Vec<(&Kind, &str)> = to_run.skipped.iter().map(|s| (&s.kind, s.because.as_str())).collect();
    assert_eq!(left_out, [(&removed.kind, "removed from the plan")]);
    assert_ne!(read.sha256(), whole.sha256());
}

/// Every leaf of the document, changed one at a time; arrays lengthened and objects given a field more.
fn edits(value: &serde_json::Value, path: &str) -> Vec<(String, serde_json::Value)> {
    use serde_json::{Value, json};
    match value {
        Value::Object(map) => {
            let mut all: Vec<(String, Value)> = Vec::new();
            for (key, inner) in map {
                let put = |new: Value| {
                    let mut map = map.clone();
                    map.insert(key.clone(), new);
                    Value::Object(map)
                };
                all.extend(edits(inner, &format!("{path}.{key}")).into_iter().map(|(path, new)| (path, put(new))));
            }
            for key in map.keys() {
                let mut fewer = map.clone();
                fewer.remove(key);
                all.push((format!("{path} without {key}"), Value::Object(fewer)));
            }
            let mut more = map.clone();
            more.insert("extra".to_owned(), json!("acme"));
            all.push((format!("{path} with more"), Value::Object(more)));
            all
        }
        Value::Array(list) => {
            let mut all = Vec::new();
            for (at, inner) in list.iter().enumerate() {
                let put = |new: Value| {
                    let mut list = list.clone();
                    list[at] = new;
                    Value::Array(list)
                };
                all.extend(edits(inner, &format!("{path}[{at}]")).into_iter().map(|(path, new)| (path, put(new))));
            }
            let more = [list.clone(), vec![list.first().cloned().unwrap_or(json!("Order"))]].concat();
            all.push((format!("{path} longer"), Value::Array(more)));
            all
        }
        Value::String(text) if text.len() == 64 => vec![(path.to_owned(), json!("0".repeat(64)))],
        Value::String(text) => vec![(path.to_owned(), json!(format!("{text}x"))), (path.to_owned(), json!(7))],
        Value::Number(number) => vec![(path.to_owned(), json!(number.as_u64().unwrap() + 1)), (path.to_owned(), json!(-1))],
        Value::Bool(bool) => vec![(path.to_owned(), json!(!bool))],
        Value::Null => vec![],
    }
}

#[test]
fn every_other_edit_is_refused() {
    let chosen = choices(|s| {
        s.skip = selectors(&["Session"]);
        s.first = selectors(&["Setting"]);
        s.last = selectors(&["Invoice"]);
        s.after = afters(&["acme/*=(default)/Customer"]);
    });
    let plan = planned(&shop(), &chosen).unwrap();
    let value = serde_json::to_value(&plan).unwrap();
    let all = edits(&value, "");
    assert!(all.len() > 200);
    for (path, edited) in all {
        let outcome = Plan::parse(&edited.to_string()).and_then(|plan| plan.check_against(&shop(), &archive(), &Environment::default()));
        let error = outcome.expect_err(&path);
        assert_eq!(error.class(), PlanClass::Refused, "{path}: {error}");
    }
}

#[test]
fn an_edit_is_named_with_what_was_expected_and_found() {
    let edit = |from: &str, to: &str| {
        let text = planned(&shop(), &to_emulator()).unwrap().to_json();
        assert!(text.contains(from), "{from}");
        let plan = Plan::parse(&text.replacen(from, to, 1));
        plan.and_then(|plan| plan.check_against(&shop(), &archive(), &Environment::default())).unwrap_err().to_string()
    };
    assert_eq!(
        edit("\"entities\": 90,", "\"entities\": 91,"),
        "plan: step 3 ((default)/Product): entities: expected 90, found 91; steps may be removed or moved, nothing else"
    );
    assert_eq!(
        edit("\"kind\": \"Product\"", "\"kind\": \"Product2\""),
        "plan: step 3: expected a kind that the archive holds and the choices take, found (default)/Product2; steps may be removed or moved, nothing else"
    );
    assert!(edit("emulator:shop-test@", "emulator:shop-prod@").starts_with("plan: seal over all before `steps`: expected "));
    assert!(edit("kindpack-plan/1", "kindpack-plan/2").starts_with("plan: expected format kindpack-plan/1, found \"kindpack-plan/2\""));
    assert!(edit("\"id\": 2", "\"id\": 1").contains("id 1 again"));
}

#[test]
fn a_plan_for_another_archive_is_stale_and_guards_hold_again_when_it_runs() {
    let plan = planned(&shop(), &Choices::new("datastore:shop-test".parse().unwrap())).unwrap();
    let other = ArchiveRef { sha256: Sha256([1; 32]), ..archive() };
    assert!(matches!(plan.check_against(&shop(), &other, &Environment::default()), Err(PlanError::Stale { .. })));
    let emulator = Environment { emulator_host: Some("localhost:8081".to_owned()) };
    assert!(matches!(plan.check_against(&shop(), &archive(), &emulator), Err(PlanError::Doubtful { .. })));
}

#[test]
fn a_plan_of_another_version_is_held_to_what_its_steps_do_not_to_its_words() {
    let mut plan = planned(&shop(), &to_emulator()).unwrap();
    plan.tool = "kindpack 0.0.9".to_owned();
    plan.seal = plan.head_digest();
    plan.steps.reverse();
    for (id, step) in (1..).zip(&mut plan.steps) {
        (step.id, step.because) = (id, "worded otherwise".to_owned());
    }
    let checked = |plan: &Plan| Plan::parse(&plan.to_json()).unwrap().check_against(&shop(), &archive(), &Environment::default());
    assert!(checked(&plan).is_ok());
    plan.steps[0].to_namespace = Namespace::new("acme");
    assert!(matches!(checked(&plan), Err(PlanError::Edited { .. })));
}

#[test]
fn what_is_no_plan_is_refused() {
    for text in ["", "{}", "[]", "null", "{\"format\": 1}", "{\"format\": \"kindpack-plan/1\"}", &"[".repeat(100_000)] {
        let error = Plan::parse(text).unwrap_err();
        assert!(matches!(error, PlanError::NotAPlan { .. }) && error.class() == PlanClass::Refused, "{error}");
    }
}

fn holds(schema: &str, document: &serde_json::Value) -> bool {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    validator.iter_errors(document).for_each(|error| println!("{}: {error}", error.instance_path()));
    validator.is_valid(document)
}

#[test]
fn plans_hold_to_their_schema_and_edited_ones_mostly_do_not() {
    let schema = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schemas/plan.schema.json"));
    let mut mapped = choices(|s| (s.first, s.after) = (selectors(&["Setting"]), afters(&["Order=Setting"])));
    mapped.map_namespaces = NamespaceMap::join(["(default)=copy".parse().unwrap()]).unwrap();
    for choices in [to_emulator(), mapped, choices(|s| s.skip = selectors(&["*"])), Choices::new("datastore:x/y".parse().unwrap())] {
        let plan = serde_json::to_value(planned(&shop(), &choices).unwrap()).unwrap();
        assert!(holds(schema, &plan));
        for (path, edited) in edits(&plan, "").into_iter().filter(|(path, _)| path.contains(" with") && !path.contains(".maps")) {
            assert!(!holds(schema, &edited), "{path}");
        }
    }
}

#[test]
fn manifests_hold_to_their_schema() {
    let schema = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schemas/manifest.schema.json"));
    let mut manifest = shop();
    assert!(holds(schema, &serde_json::to_value(&manifest).unwrap()));
    manifest.backup.database = "orders".to_owned();
    manifest.kinds[0].entries =
        vec![entry("exports/output-0", EntryRole::Output), entry("exports/x.export_metadata", EntryRole::KindMetadata)];
    manifest.kinds[1].format = ExportFormat::LegacyBackup;
    manifest.kinds[1].started = manifest.backup.started;
    manifest.empty_exports =
        vec![crate::model::EmptyExportItem { entries: vec![entry("exports/y.overall_export_metadata", EntryRole::ExportMetadata)] }];
    manifest.companions = vec![entry("companions/a.png", EntryRole::Companion)];
    manifest.companions[0].pieces.clear();
    manifest.options = PackOptions { method: Method::Store, level: None, piece_bytes: 4 << 20 };
    let value = serde_json::to_value(&manifest).unwrap();
    assert!(holds(schema, &value));
    for (path, edited) in edits(&value, "").into_iter().filter(|(path, _)| path.ends_with(" with more")) {
        assert!(!holds(schema, &edited), "{path}");
    }
}

/// What is reachable from what, by one step or more.
type Reach = BTreeMap<(Pair, Pair), bool>;

fn closure(pairs: &[Pair], edges: &[(Pair, Pair)]) -> Reach {
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

fn reaches(reach: &Reach, from: &Pair, to: &Pair) -> bool {
    reach.contains_key(&(from.clone(), to.clone()))
}

fn in_one_cycle(reach: &Reach, a: &Pair, b: &Pair) -> bool {
    reaches(reach, a, b) && reaches(reach, b, a)
}

/// What each pair needs among `pairs`, as (needed, by).
fn data_edges(manifest: &Manifest, pairs: &[Pair], other_namespaces: bool) -> Vec<(Pair, Pair)> {
    let mut edges = Vec::new();
    for item in &manifest.kinds {
        let by = item.pair();
        let here = item.parents.iter().chain(&item.references).map(|kind| Pair { namespace: by.namespace.clone(), kind: kind.clone() });
        let elsewhere = item.reference_pairs.iter().filter(|_| other_namespaces).cloned();
        edges.extend(here.chain(elsewhere).filter(|of| *of != by && pairs.contains(of) && pairs.contains(&by)).map(|of| (of, by.clone())));
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
    ) -> KindItem {
        let parents: Vec<&str> = parents.into_iter().map(|k| KINDS[k]).collect();
        let references: Vec<(&str, &str)> = references.into_iter().map(|(n, k)| (NAMESPACES[n], KINDS[k])).collect();
        item(namespace, kind, bytes, &parents, &references)
    }
}

fn any_manifest() -> impl Strategy<Value = Manifest> {
    let all: Vec<_> = NAMESPACES.iter().flat_map(|n| KINDS.iter().map(move |k| any_item(n, k))).collect();
    (all, prop::collection::vec(prop::bool::weighted(0.8), 12)).prop_map(|(items, keep)| {
        let kept: Vec<KindItem> = items.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(item, _)| item).collect();
        manifest(if kept.is_empty() { vec![item("", "A", 1, &[], &[])] } else { kept })
    })
}

fn any_pair(manifest: &Manifest, at: usize) -> String {
    manifest.kinds[at % manifest.kinds.len()].pair().to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn without_words_every_need_outside_a_cycle_is_met_and_cycles_stand_together(
        manifest in any_manifest(), skip in prop::option::weighted(0.3, 0usize..12), turn in 0usize..12,
    ) {
        let chosen = choices(|s| s.skip = skip.iter().map(|&at| any_pair(&manifest, at).parse().unwrap()).collect());
        let plan = planned(&manifest, &chosen).unwrap();
        let pairs: Vec<Pair> = plan.steps.iter().map(Step::pair).collect();
        let place: BTreeMap<&Pair, usize> = pairs.iter().zip(0..).collect();

        // Each pair once, numbered in order.
        prop_assert!(plan.steps.iter().map(|step| step.id).eq(1..=pairs.len() as u32));
        let mut everything: Vec<Pair> = pairs.iter().cloned().chain(plan.skipped.iter().map(|s| Pair { namespace: s.namespace.clone(), kind: s.kind.clone() })).collect();
        everything.sort();
        let mut expected: Vec<Pair> = manifest.kinds.iter().map(KindItem::pair).collect();
        expected.sort();
        prop_assert_eq!(everything, expected);

        // By kind names within each namespace, and by all that the data says.
        for other_namespaces in [false, true] {
            let edges = data_edges(&manifest, &pairs, other_namespaces);
            let reach = closure(&pairs, &edges);
            for (of, by) in &edges {
                prop_assert!(place[of] < place[by] || in_one_cycle(&reach, of, by), "{} before {}", by, of);
            }
        }

        // Cycles together and named; whatever could have changed places goes small before big.
        let edges = data_edges(&manifest, &pairs, true);
        let reach = closure(&pairs, &edges);
        let runs: Vec<&[Pair]> = pairs.chunk_by(|a, b| in_one_cycle(&reach, a, b)).collect();
        for (at, run) in runs.iter().enumerate() {
            for other in &runs[at + 1..] {
                prop_assert!(!in_one_cycle(&reach, &run[0], &other[0]), "{} and {} are apart", run[0], other[0]);
            }
        }
        let named: Vec<Vec<Pair>> = plan.cycles.iter().map(|c| c.iter().map(|m| Pair { namespace: m.namespace.clone(), kind: m.kind.clone() }).collect()).collect();
        prop_assert_eq!(named, runs.iter().filter(|run| run.len() > 1).map(|run| run.to_vec()).collect::<Vec<_>>());
        let key = |run: &[Pair]| (run.iter().map(|pair| manifest.kind(pair).unwrap().bytes).sum::<u64>(), run.iter().min().cloned());
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
    fn first_last_and_after_hold_wherever_they_can_and_the_rest_of_the_data_with_them(
        manifest in any_manifest(),
        first in prop::collection::vec(0usize..12, 0..3), last in prop::collection::vec(0usize..12, 0..3),
        after in prop::collection::vec((0usize..12, 0usize..12, any::<bool>()), 0..4),
    ) {
        let all: Vec<Pair> = manifest.kinds.iter().map(KindItem::pair).collect();
        let pick = |list: &[usize]| -> Vec<Selector> { list.iter().map(|&at| any_pair(&manifest, at).parse().unwrap()).collect() };
        let (first, last) = (pick(&first), pick(&last));
        // Some orders speak of a kind in every namespace.
        let side = |at: usize, wide: bool| { let pair = any_pair(&manifest, at); if wide { pair.split_once('/').unwrap().1.to_owned() } else { pair } };
        let after: Vec<After> = after.iter().map(|&(a, b, wide)| format!("{}={}", side(a, wide), side(b, false)).parse().unwrap()).collect();

        let group = |pair: &Pair| match (first.iter().position(|s| s.matches(pair)), last.iter().position(|s| s.matches(pair))) {
            (Some(at), _) => at,
            (None, None) => 100,
            (None, Some(at)) => 101 + at,
        };
        let mut wished = Vec::new();
        for a in &all {
            for b in &all {
                let (waits, is_awaited) = (|after: &&After| after.step.matches(b), |after: &&After| after.needs.matches(a));
                let both = |after: &&After| after.step.matches(a) && after.needs.matches(b);
                if group(a) < group(b) || after.iter().any(|after| waits(&after) && is_awaited(&after) && !both(&after)) {
                    wished.push((a.clone(), b.clone()));
                }
            }
        }
        let user = closure(&all, &wished);
        let chosen = choices(|s| (s.first, s.last, s.after) = (first.clone(), last.clone(), after.clone()));
        match planned(&manifest, &chosen) {
            Ok(plan) => {
                let place: BTreeMap<Pair, usize> = plan.steps.iter().map(Step::pair).zip(0..).collect();
                for (a, b) in &wished {
                    prop_assert!(place[a] < place[b], "{} before {}", b, a);
                }
                let edges = data_edges(&manifest, &all, true);
                let reach = closure(&all, &[edges.clone(), wished].concat());
                for (of, by) in &edges {
                    prop_assert!(place[of] < place[by] || in_one_cycle(&reach, of, by), "{} before {}", by, of);
                }
            }
            Err(PlanError::Contradiction { circle }) => {
                prop_assert!(all.iter().any(|pair| reaches(&user, pair, pair)));
                for (link, next) in circle.iter().zip(circle.iter().cycle().skip(1)) {
                    prop_assert!(reaches(&user, &link.pair, &next.pair) && !link.word.is_empty());
                }
            }
            Err(PlanError::FirstAndLast { pair, .. }) => {
                prop_assert!(first.iter().any(|s| s.matches(&pair)) && last.iter().any(|s| s.matches(&pair)));
            }
            Err(PlanError::OrdersNothing { .. }) => {
                prop_assert!(after.iter().any(|after| all.iter().all(|pair| after.step.matches(pair) == after.needs.matches(pair))));
            }
            Err(other) => prop_assert!(false, "{}", other),
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
    let plan = planned(&shop(), &choices(|s| s.after = afters(&["Setting=Product"]))).unwrap();
    assert_eq!(waits(&plan)["(default)/Setting"], ["(default)/Product"]);
    let mut moved = planned(&shop(), &to_emulator()).unwrap();
    let last = moved.steps.pop().unwrap();
    moved.steps.insert(0, last.clone());
    let waits = waits(&moved);
    assert_eq!(waits[&last.pair().to_string()], [""; 0]);
    assert!(waits.values().skip(1).all(|on| on.is_empty() || on.contains(&last.pair().to_string())), "{waits:?}");
    assert!(waits["(default)/Setting"].contains(&last.pair().to_string()));
}
