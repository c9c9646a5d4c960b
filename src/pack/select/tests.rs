use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn hours(hours: i64) -> Option<Timestamp> {
    // 2013-10-12T00:00:00Z
    Timestamp::from_micros(1_381_536_000_000_000 + hours * 3_600_000_000)
}

/// A finished managed export of one kind; the namespace `*` stands for all.
fn export(title: &str, namespace: &str, kind: &str, started: Option<Timestamp>) -> Export {
    let mut export = Export::new(title, ExportFormat::ManagedExport);
    (export.started, export.finished) = (started, started);
    let [namespace, kind] = [namespace, kind].map(|name| (name != "*").then_some(name));
    export.groups.push(ExportPart::new(
        namespace.map(Namespace::new),
        kind.map(Kind::new),
    ));
    export
}

fn unfinished(export: Export) -> Export {
    let fault = Problem::incomplete(&export.title, "no completion marker");
    Export {
        finished: None,
        faults: vec![fault],
        ..export
    }
}

fn damaged(export: Export) -> Export {
    let fault = Problem::damaged(&export.title, "another length");
    Export {
        faults: vec![fault],
        ..export
    }
}

fn selectors(texts: &[&str]) -> Vec<Selector> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn latest() -> SelectionOptions {
    SelectionOptions {
        latest: true,
        max_spread: 24 * HOUR,
        ..SelectionOptions::default()
    }
}

fn verdict(exports: &[Export], wanted: &SelectionOptions) -> SelectionResult {
    let discovery = Discovery {
        exports: exports.to_vec(),
        unrelated: Vec::new(),
    };
    select(&discovery, wanted, &KnownKinds::new()).unwrap()
}

fn faulty(verdict: &SelectionResult) -> Vec<&str> {
    verdict
        .faults
        .iter()
        .map(|fault| fault.export.as_str())
        .collect()
}

#[test]
fn latest_refuses_exports_of_another_night() {
    let exports = [
        export("1/User", "", "User", hours(0)),
        export("2/Order", "", "Order", hours(25)),
    ];
    let stale = verdict(&exports, &latest());
    assert_eq!(stale.stale.len(), 1);
    assert_eq!(
        stale.stale[0].to_string(),
        "(default)/User is stale: its newest export, 1/User, started 25h before the newest export of all"
    );
    assert!(stale.may_resolve() && stale.waiting_for() == ["(default)/User"]);
    assert!(
        verdict(
            &exports,
            &SelectionOptions {
                exclude: selectors(&["User"]),
                ..latest()
            }
        )
        .is_whole()
    );
    assert!(
        verdict(
            &exports,
            &SelectionOptions {
                max_spread: 25 * HOUR,
                ..latest()
            }
        )
        .is_whole()
    );
    let expected = verdict(
        &exports,
        &SelectionOptions {
            expect: selectors(&["User", "Order"]),
            ..latest()
        },
    );
    assert!(!expected.is_whole() && expected.missing.is_empty());
}

#[test]
fn a_wide_spread_without_latest_is_a_warning() {
    let exports = [
        export("1/User", "", "User", hours(0)),
        export("2/Order", "", "Order", hours(25)),
    ];
    let wide = verdict(
        &exports,
        &SelectionOptions {
            latest: false,
            ..latest()
        },
    );
    assert!(wide.is_whole());
    assert_eq!(
        wide.warnings,
        ["the exports were not made in one night: 1/User started 25h before 2/Order"]
    );
    assert_eq!(
        verdict(
            &exports[..1],
            &SelectionOptions {
                latest: false,
                ..latest()
            }
        )
        .warnings,
        [""; 0]
    );
}

#[test]
fn a_superseded_export_is_not_stale() {
    let exports = [
        export("1", "", "User", hours(0)),
        export("2", "", "User", hours(50)),
        export("3", "", "Order", hours(51)),
    ];
    let verdict = verdict(&exports, &latest());
    assert!(verdict.is_whole());
    assert_eq!(
        (verdict.superseded, verdict.exports),
        (vec!["1".to_owned()], vec![1, 2])
    );
}

#[test]
fn latest_passes_over_older_unfinished_exports_only() {
    let finished = export("b", "", "User", hours(5));
    let older = unfinished(export("a", "", "User", hours(0)));
    let newer = unfinished(export("c", "", "User", hours(9)));
    let other = unfinished(export("d", "", "Order", hours(0)));
    let passed = verdict(&[older.clone(), finished.clone()], &latest());
    assert!(passed.is_whole() && passed.superseded == ["a"]);
    assert_eq!(
        faulty(&verdict(&[finished.clone(), newer], &latest())),
        ["c"]
    );
    assert_eq!(
        faulty(&verdict(&[finished.clone(), other], &latest())),
        ["d"]
    );
    // Without --latest nobody has said that the older one does not count.
    assert_eq!(
        faulty(&verdict(
            &[older, finished],
            &SelectionOptions {
                latest: false,
                ..latest()
            }
        )),
        ["a"]
    );
}

#[test]
fn path_date_shows_unfinished_export_is_older() {
    for (left_over, finished, passes) in [
        ("20131011/User", "20131012/User", true),
        (
            "nightly/2013-10-11T02:00:00_17/User",
            "nightly/2013-10-12T02:00:00_5/User",
            true,
        ),
        ("20131010/User", "User", true),
        ("20131011/User", "User", false),
        ("20131012/User", "20131012/User", false),
        ("20131013/User", "20131012/User", false),
        ("old/User", "new/User", false),
    ] {
        let exports = [
            unfinished(export(left_over, "", "User", None)),
            export(finished, "", "User", hours(2)),
        ];
        assert_eq!(
            verdict(&exports, &latest()).is_whole(),
            passes,
            "{left_over} {finished}"
        );
    }
}

#[test]
fn exclude_leaves_unfinished_exports_out() {
    let exports = [
        export("a", "", "User", hours(0)),
        unfinished(export("b", "*", "Order", None)),
    ];
    let excluded = |texts: &[&str]| {
        verdict(
            &exports,
            &SelectionOptions {
                exclude: selectors(texts),
                ..SelectionOptions::default()
            },
        )
    };
    assert!(excluded(&["Order"]).is_whole() && excluded(&["*/Order"]).is_whole());
    // Of all namespaces one is excluded: the others are missed.
    assert_eq!(faulty(&excluded(&["acme/Order"])), ["b"]);
    assert_eq!(excluded(&[]).unnamed, [""; 0]);
    let unknown = Export {
        groups: Vec::new(),
        ..exports[1].clone()
    };
    assert_eq!(
        verdict(&[exports[0].clone(), unknown], &latest()).unnamed,
        ["b"]
    );
}

#[test]
fn damaged_export_counts_unless_newer_exists() {
    let (good, bad) = (
        |at| export("good", "", "User", hours(at)),
        |at| damaged(export("bad", "", "User", hours(at))),
    );
    assert!(verdict(&[bad(0), good(1)], &latest()).is_whole());
    assert_eq!(faulty(&verdict(&[good(0), bad(1)], &latest())), ["bad"]);
}

#[test]
fn all_namespace_exports_compare_without_data() {
    let newer = verdict(
        &[
            export("1", "*", "User", hours(0)),
            export("2", "*", "User", hours(1)),
        ],
        &latest(),
    );
    assert!(newer.is_whole() && newer.undecided.is_empty() && newer.superseded == ["1"]);
    let wider = verdict(
        &[
            export("1", "acme", "User", hours(0)),
            export("2", "*", "*", hours(1)),
        ],
        &latest(),
    );
    assert!(wider.is_whole() && wider.undecided.is_empty() && wider.superseded == ["1"]);
    // What else the older one of all namespaces holds only its data can tell.
    let narrower = verdict(
        &[
            export("1", "*", "User", hours(0)),
            export("2", "acme", "User", hours(1)),
        ],
        &latest(),
    );
    assert_eq!(
        (narrower.superseded.len(), narrower.undecided),
        (0, BTreeSet::from([0]))
    );
    let others = verdict(
        &[
            export("1", "*", "User", hours(0)),
            export("2", "*", "Order", hours(1)),
        ],
        &latest(),
    );
    assert_eq!(others.undecided, BTreeSet::new());
}

#[test]
fn legacy_backup_supersedes_only_its_own_kinds() {
    let backup = |title: &str, at| Export {
        format: ExportFormat::LegacyBackup,
        ..export(title, "*", "User", hours(at))
    };
    let open = verdict(&[backup("1", 0), backup("2", 1)], &latest());
    assert_eq!(
        (open.superseded.len(), open.undecided),
        (0, BTreeSet::from([0, 1]))
    );
    let pairs = KnownKinds::from(["1", "2"].map(|title| {
        (
            title.to_owned(),
            BTreeSet::from([KindRef::new("acme", "User")]),
        )
    }));
    let discovery = Discovery {
        exports: vec![backup("1", 0), backup("2", 1)],
        unrelated: Vec::new(),
    };
    assert_eq!(
        select(&discovery, &latest(), &pairs).unwrap().superseded,
        ["1"]
    );
    assert!(verdict(&[unfinished(backup("1", 0)), backup("2", 1)], &latest()).is_whole());
}

#[test]
fn times_that_cannot_be_true_decide_nothing() {
    let early = Timestamp::from_micros(1_639_071_612);
    for other in [early, None] {
        let verdict = verdict(
            &[
                export("1", "", "User", other),
                export("2", "", "User", hours(1)),
            ],
            &latest(),
        );
        assert_eq!((verdict.superseded.len(), verdict.duplicates.len()), (0, 1));
        assert!(verdict.stale.is_empty() && !verdict.may_resolve());
    }
    let alone = verdict(
        &[
            export("1", "", "User", early),
            export("2", "", "Order", hours(1)),
        ],
        &latest(),
    );
    assert!(
        alone.is_whole() && alone.warnings.len() == 1,
        "{:?}",
        alone.warnings
    );
}

#[test]
fn expected_kinds_are_found_by_metadata() {
    let exports = [
        export("1", "*", "User", hours(0)),
        export("2", "acme", "Order", hours(0)),
    ];
    let expected = |texts: &[&str]| {
        verdict(
            &exports,
            &SelectionOptions {
                expect: selectors(texts),
                ..SelectionOptions::default()
            },
        )
    };
    assert!(expected(&["User", "Order", "acme/Order", "Us*", "*/User"]).is_whole());
    let typo = expected(&["Usr", "beta/Order", "Or?"]);
    let missing: Vec<String> = typo
        .missing
        .iter()
        .map(|it| it.selector.to_string())
        .collect();
    assert_eq!(missing, ["Usr", "beta/Order", "Or?"]);
    assert!(typo.undecided.is_empty());
    let open = expected(&["acme/User"]);
    assert!(open.is_whole() && open.undecided == BTreeSet::from([0]));
}

#[test]
fn partially_selected_export_is_refused() {
    let mut export = export("1", "", "User", hours(0));
    export.groups.push(ExportPart {
        kind: Some(Kind::new("Order")),
        ..export.groups[0].clone()
    });
    let discovery = Discovery {
        exports: vec![export],
        unrelated: Vec::new(),
    };
    let error = select(
        &discovery,
        &SelectionOptions {
            only: selectors(&["User"]),
            ..SelectionOptions::default()
        },
        &KnownKinds::new(),
    )
    .unwrap_err();
    assert!(
        matches!(error, PackError::CannotSplitExport { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("(default)/User")
            && error.to_string().contains("(default)/Order"),
        "{error}"
    );
}

#[test]
fn path_date_is_read_in_common_forms() {
    for (path, date) in [
        ("backups/20131012/User", Some("20131012")),
        ("backups/20131012063742/User", Some("20131012063742")),
        ("2017-05-25T23:54:39_76544", Some("20170525235439")),
        (
            "x/datastore_backup_User2013_10_12_User-1573A-output-0-attempt-1",
            Some("20131012"),
        ),
        ("2012-01-01/2013-10-12/User", Some("20131012")),
        ("2013-13-12/User", None),
        ("120131012/User", None),
        ("User/output-0", None),
        ("", None),
    ] {
        assert_eq!(path_date(path).as_deref(), date, "{path}");
    }
}
