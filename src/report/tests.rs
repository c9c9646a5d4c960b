//! The page as a whole, of sets that are made here.

use std::time::Duration;

use super::*;
use crate::model::{
    BackupInfo, Crc32c, EntryInfo, EntryRole, ExportFormat, Kind, KindInfo, KindRef,
    MANIFEST_FORMAT, Manifest, Method, MissingKind, Namespace, PackOptions, Sha256, Timestamp,
    ToolInfo, Totals,
};
use crate::plan::{ArchiveRef, Plan};
use crate::restore::journal::{JOURNAL_FORMAT, Journal, JournalEvent};
use crate::restore::report::RunInfo;
use crate::restore::{Check, StepOutcome};

/// Names that would be more than names on a careless page.
const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=1>",
    "'&amp;&lt; & </style></svg></foreignObject>",
    "a\u{202e}b\u{2066}c\u{0}d\ne",
    "価格表{{ page }}{% raw %}",
    "]]>--><!--",
];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_700_000_000 + seconds) * 1_000_000).unwrap()
}

fn entry(name: &str, bytes: u64) -> EntryInfo {
    EntryInfo {
        name: name.to_owned(),
        role: EntryRole::Output,
        listed_as: None,
        content_encoding: None,
        content_type: None,
        bytes,
        sha256: Sha256([7; 32]),
        crc32c: Crc32c(7),
        packed_crc32c: None,
        pieces: Vec::new(),
    }
}

/// A kind that was exported for a minute, from a minute of its own on.
fn kind(number: u64, namespace: &str, name: &str, references: &[(&str, &str)]) -> KindInfo {
    let mut pairs: Vec<KindRef> = references
        .iter()
        .map(|(ns, kind)| KindRef::new(*ns, *kind))
        .collect();
    pairs.sort();
    let started = at(60 * i64::try_from(number).unwrap());
    KindInfo {
        namespace: Namespace::new(namespace),
        kind: Kind::new(name),
        format: ExportFormat::ManagedExport,
        entities: 10 + number,
        announced_entities: None,
        bytes: 1_000 * (number + 1) * (number + 1),
        started: Some(started),
        finished: Timestamp::from_micros(started.micros() + 60_000_000),
        parents: Vec::new(),
        references: pairs.iter().map(|pair| pair.kind.clone()).collect(),
        reference_counts: Some(vec![5; pairs.len()]),
        reference_pairs: pairs,
        entries: vec![entry("exports/output-0", 4_000)],
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
            id: "20231114221320".to_owned(),
            project: "shop".to_owned(),
            database: String::new(),
            started: kinds.iter().filter_map(|kind| kind.started).min(),
            finished: kinds.iter().filter_map(|kind| kind.finished).max(),
            snapshot_time: None,
        },
        totals: Totals {
            kinds: kinds.len() as u64,
            entities: kinds.iter().map(|kind| kind.entities).sum(),
            entries: kinds.len() as u64,
            bytes: kinds.iter().map(|kind| kind.bytes).sum(),
        },
        kinds,
        empty_exports: Vec::new(),
        missing: Vec::new(),
        companions: Vec::new(),
        sums: entry("SHA256SUMS", 10),
        options: PackOptions {
            method: Method::Store,
            level: None,
            piece_bytes: 4 << 20,
        },
    }
}

/// A shop with a cycle and a kind that refers to itself.
fn shop() -> Manifest {
    let mut order = kind(2, "", "Order", &[("", "Invoice")]);
    order.parents = vec![Kind::new("Customer")];
    let category = ("", "Category");
    manifest(vec![
        kind(0, "", "Category", &[category]),
        kind(1, "", "Customer", &[]),
        kind(3, "", "Invoice", &[("", "Order"), category]),
        order,
    ])
}

fn order_of(manifest: &Manifest) -> Plan {
    let archive = ArchiveRef {
        location: "gs://shop-archive/a&b.zip".to_owned(),
        sha256: Sha256([1; 32]),
        generation: None,
    };
    default_order(manifest, &archive).unwrap()
}

fn archive_page(manifest: &Manifest) -> String {
    to_html(&ReportPage::from_archive(manifest, &order_of(manifest)))
}

fn plan_page(
    manifest: Option<&Manifest>,
    plan: &Plan,
    journal: &Journal,
    run: Option<FinishedRun<'_>>,
) -> String {
    to_html(&ReportPage::from_plan(&PlanPageSource {
        plan,
        manifest,
        journal,
        run,
    }))
}

/// The journal of these events, one a second.
fn journal(plan: &Plan, events: &[JournalEvent]) -> Journal {
    let opened = JournalEvent::Opened {
        format: JOURNAL_FORMAT.to_owned(),
        plan_sha256: plan.sha256(),
        target: plan.head.choices.target.to_string(),
        steps: plan.steps.iter().map(|step| step.id).collect(),
        tool: "kindpack 0.1.0".to_owned(),
    };
    let mut journal = Journal::default();
    for (event, second) in std::iter::once(&opened).chain(events).zip(0..) {
        journal.apply(event, at(second)).unwrap();
    }
    journal
}

fn started(plan: &Plan, index: usize, attempt: u32) -> JournalEvent {
    let step = &plan.steps[index];
    JournalEvent::StepStarted {
        step: step.id,
        namespace: step.namespace.clone(),
        kind: step.kind.clone(),
        attempt,
    }
}

/// The elements and attributes of a page. A page whose tags do not match fails.
fn elements(html: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = html
        .strip_prefix("<!DOCTYPE html>")
        .expect("a page begins with its type");
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{open:?}");
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let name = name.trim_end_matches('/').to_owned();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
        if !tag.ends_with('/') {
            open.push(name.clone());
        }
        found.push((name, attributes_of(attributes.trim_end_matches('/'))));
    }
    assert!(open.is_empty(), "{open:?}");
    found
}

fn attributes_of(text: &str) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"').expect("a value ends");
        attributes.push((name.trim().to_owned(), value.to_owned()));
        rest = after.trim_start();
    }
    assert_eq!(rest, "", "all attributes have quoted values");
    attributes
}

/// Checks that tags match, and that the page can load, send and run nothing.
#[track_caller]
fn assert_is_harmless(html: &str) {
    let known = [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "section",
        "footer",
        "nav",
        "a",
        "div",
        "p",
        "h1",
        "h2",
        "h3",
        "span",
        "bdi",
        "dl",
        "dt",
        "dd",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "fieldset",
        "legend",
        "input",
        "label",
        "svg",
        "g",
        "rect",
        "line",
        "path",
        "text",
        "defs",
        "marker",
        "foreignObject",
        "details",
        "summary",
    ];
    for (name, attributes) in elements(html) {
        assert!(known.contains(&name.as_str()), "{name}");
        for (attribute, value) in attributes {
            assert!(!attribute.starts_with("on"), "{attribute}");
            assert!(
                !["src", "srcset", "action", "data", "xlink:href"].contains(&attribute.as_str())
            );
            let is_local = !value.contains("url(") || value.starts_with("url(#");
            assert!(is_local, "{value}");
            if attribute == "href" {
                assert!(value.starts_with('#'), "{value}");
            }
        }
    }
    let style = html
        .split_once("<style>")
        .unwrap()
        .1
        .split_once("</style>")
        .unwrap()
        .0;
    assert!(!style.contains("url(") && !style.contains("@import"));
    let steers = |c: &char| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c);
    assert_eq!(html.chars().find(steers), None);
}

#[test]
fn hostile_names_stay_text() {
    let long = "x".repeat(1_500);
    let mut kinds = Vec::new();
    for (number, name) in HOSTILE.into_iter().chain([long.as_str()]).enumerate() {
        let other = HOSTILE[(number + 1) % HOSTILE.len()];
        let mut kind = kind(number as u64, HOSTILE[0], name, &[(HOSTILE[0], other)]);
        kind.parents = vec![Kind::new(other)];
        kinds.push(kind);
    }
    // In a cycle parents alone cannot be put in order.
    kinds
        .iter_mut()
        .skip(1)
        .for_each(|kind| kind.parents.clear());
    let mut manifest = manifest(kinds);
    manifest.backup.project = HOSTILE[1].to_owned();
    manifest.backup.id = HOSTILE[2].to_owned();
    manifest.missing = vec![MissingKind {
        namespace: Namespace::new(HOSTILE[3]),
        kind: Kind::new(HOSTILE[4]),
        reason: HOSTILE[5].to_owned(),
    }];
    let html = archive_page(&manifest);
    assert_is_harmless(&html);
    assert!(html.contains("&#60;script&#62;alert(1)&#60;/script&#62;"));
    assert!(html.contains(r"a\u{202e}b\u{2066}c\u{0}d\ne") && html.contains(&long));

    let plan = order_of(&manifest);
    let failed = JournalEvent::StepFailed {
        step: plan.steps[0].id,
        error: HOSTILE[0].to_owned(),
    };
    let journal = journal(&plan, &[started(&plan, 0, 1), failed]);
    assert_is_harmless(&plan_page(Some(&manifest), &plan, &journal, None));
}

#[test]
fn archive_page_shows_its_parts() {
    let html = archive_page(&shop());
    assert_is_harmless(&html);
    for part in ["sizes", "exports", "dependencies", "kinds"] {
        assert!(html.contains(&format!(r#"id="{part}""#)), "{part}");
    }
    for text in [
        "Backup 20231114221320",
        "project shop",
        "gs://shop-archive/a&#38;b.zip",
        "Each kind shows the data of its own export",
        "(default)/Order has parent (default)/Customer",
        "need one another",
        "refers to a kind that is restored later",
        "↻",
    ] {
        assert!(html.contains(text), "{text}");
    }
    for part in ["restore", "plan", "missing"] {
        assert!(!html.contains(&format!(r#"id="{part}""#)), "{part}");
    }
}

#[test]
fn page_begins_as_others_know_it() {
    let head: String = archive_page(&shop()).split_whitespace().collect();
    assert!(head.starts_with(PAGE_HEAD));
}

#[test]
fn empty_archive_has_a_page() {
    let html = archive_page(&manifest(Vec::new()));
    assert_is_harmless(&html);
    assert!(!html.contains("<section"));
    let mut empty = kind(0, "", "Empty", &[]);
    (empty.entities, empty.bytes, empty.started, empty.finished) = (0, 0, None, None);
    let html = archive_page(&manifest(vec![empty]));
    assert_is_harmless(&html);
    assert!(html.contains(r#"id="kinds""#) && !html.contains(r#"id="sizes""#));
}

#[test]
fn missing_kinds_companions_and_counts_are_shown() {
    let mut manifest = shop();
    manifest.missing = vec![MissingKind {
        namespace: Namespace::default(),
        kind: Kind::new("Session"),
        reason: "the export failed: NOT_FOUND".to_owned(),
    }];
    manifest.companions = vec![entry("companions/a.png", 2_048)];
    manifest.kinds[0].announced_entities = Some(99);
    let html = archive_page(&manifest);
    assert_is_harmless(&html);
    for text in [
        "1 kind is missing from this backup",
        "the export failed: NOT_FOUND",
        "companion file",
        "2.00 KiB",
        "the export announces 99 entities and holds 10",
    ] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn snapshot_time_is_on_the_line() {
    let mut manifest = shop();
    manifest.backup.snapshot_time = Some(at(100));
    let html = archive_page(&manifest);
    assert!(
        html.contains(r#"<line class="snapshot""#) && html.contains("The set shows one instant.")
    );
    manifest.backup.snapshot_time = Some(at(-10_000));
    let html = archive_page(&manifest);
    assert!(!html.contains(r#"<line class="snapshot""#) && html.contains("1 instant"));
}

#[test]
fn impossible_times_are_left_out() {
    let mut manifest = shop();
    manifest.kinds[0].started = Some(Timestamp::MIN);
    manifest.kinds[1].finished = Some(Timestamp::MAX);
    let html = archive_page(&manifest);
    assert_is_harmless(&html);
    assert!(html.contains("The time of 1 export is not known."));
}

#[test]
fn plan_without_archive_has_a_page() {
    let plan = order_of(&shop());
    let html = plan_page(None, &plan, &Journal::default(), None);
    assert_is_harmless(&html);
    assert!(html.contains(r#"id="plan""#) && html.contains("is gone or has changed"));
    assert!(!html.contains(r#"id="exports""#) && !html.contains(r#"id="restore""#));
}

#[test]
fn journal_shows_states_rates_and_retries() {
    let manifest = shop();
    let plan = order_of(&manifest);
    let [first, second] = [0, 1].map(|index| (plan.steps[index].id, plan.steps[index].entities));
    let journal = journal(
        &plan,
        &[
            started(&plan, 0, 1),
            JournalEvent::StepFailed {
                step: first.0,
                error: "the service went away".to_owned(),
            },
            started(&plan, 0, 2),
            JournalEvent::StepFinished {
                step: first.0,
                entities: first.1,
                counted: Some(first.1 + 1),
            },
            started(&plan, 1, 1),
            JournalEvent::StepFinished {
                step: second.0,
                entities: second.1,
                counted: Some(second.1),
            },
            started(&plan, 2, 1),
            JournalEvent::StepFailed {
                step: plan.steps[2].id,
                error: "no & more".to_owned(),
            },
        ],
    );
    let html = plan_page(Some(&manifest), &plan, &journal, None);
    assert_is_harmless(&html);
    let found = format!("expected {} in the target, found {}", first.1, first.1 + 1);
    for text in [
        "failed, 2 of 4 steps done",
        "2 of 4 steps done",
        "1 step was started again",
        "2 attempts",
        "no &#38; more",
        &found,
        &format!("{}/s", second.1),
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(!html.contains("the service went away"));
}

#[test]
fn run_shows_differences_and_its_end() {
    let manifest = shop();
    let plan = order_of(&manifest);
    let outcomes: Vec<StepOutcome> = plan
        .steps
        .iter()
        .map(|step| StepOutcome {
            step: step.id,
            namespace: step.namespace.clone(),
            kind: step.kind.clone(),
            to_namespace: step.to_namespace.clone(),
            end: crate::restore::journal::StepState::Done,
            planned: step.entities,
            restored: step.entities,
            already_there: 0,
            deleted: 2,
            counted: None,
            differing: Some(3),
            seconds: 0.5,
            error: None,
        })
        .collect();
    let info = RunInfo {
        check: Check::Entities,
        dry_run: false,
        started: at(0),
        took: Duration::from_secs(2),
        code: 5,
        error: Some("the target is not as the archive <has> it".to_owned()),
        companions: None,
    };
    let run = FinishedRun {
        steps: &outcomes,
        info: &info,
    };
    let html = plan_page(Some(&manifest), &plan, &Journal::default(), Some(run));
    assert_is_harmless(&html);
    for text in [
        "ended with exit code 5",
        "the archive &#60;has&#62; it",
        "3 entities differ from the archive",
        "2 entities that the archive does not hold deleted",
    ] {
        assert!(html.contains(text), "{text}");
    }
    let dry = RunInfo {
        dry_run: true,
        error: None,
        ..info
    };
    let run = FinishedRun {
        steps: &outcomes,
        info: &dry,
    };
    let html = plan_page(Some(&manifest), &plan, &Journal::default(), Some(run));
    assert!(html.contains("dry run: nothing was written"));
}

/// Kinds in thirty namespaces, each referring to some before it and one after it.
fn many_kinds(number: u64) -> Manifest {
    let names: Vec<(String, String)> = (0..number)
        .map(|number| {
            (
                format!("tenant-{:02}", number / 20),
                format!("Kind{:02}", number % 20),
            )
        })
        .collect();
    let kinds = names.iter().enumerate().map(|(index, (namespace, name))| {
        let near = [
            index / 2,
            index.saturating_sub(3),
            (index + 1) % names.len(),
        ];
        let references = near.map(|near| (names[near].0.as_str(), names[near].1.as_str()));
        kind(index as u64, namespace, name, &references)
    });
    manifest(kinds.collect())
}

#[test]
fn page_of_600_kinds_stays_small() {
    let manifest = many_kinds(600);
    let html = archive_page(&manifest);
    assert_is_harmless(&html);
    assert!(html.len() < 3 << 20, "{} bytes", html.len());
    assert_eq!(
        html.matches("<tr style=").count(),
        600,
        "the table holds every kind"
    );
    assert!(html.contains("more</bdi>") && html.contains("Drawn are"));
    let plan = order_of(&manifest);
    let html = plan_page(Some(&manifest), &plan, &journal(&plan, &[]), None);
    assert!(html.len() < 3 << 20, "{} bytes", html.len());
}

#[test]
fn same_set_gives_the_same_page() {
    let manifest = many_kinds(80);
    assert_eq!(archive_page(&manifest), archive_page(&manifest.clone()));
}
