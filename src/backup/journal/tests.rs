use super::*;
use crate::backup::exports::ExportsFolder;
use crate::model::Kind;
use crate::store::{GcsOptions, Location, StoreRegistry};

fn opened() -> BackupEvent {
    BackupEvent::Opened {
        format: BACKUP_JOURNAL_FORMAT.to_owned(),
        backup: BackupKey {
            source: "datastore:shop".to_owned(),
            archive: "out.zip".to_owned(),
            namespaces: Vec::new(),
            only: Vec::new(),
            exclude: Vec::new(),
            snapshot_time: None,
        },
        snapshot_time: None,
        tool: "kindpack 1".to_owned(),
        process: 7,
    }
}

fn listed() -> BackupEvent {
    BackupEvent::KindsListed {
        kinds: vec![KindRef::new("", "A"), KindRef::new("acme", "B/1")],
    }
}

fn started(export: u32, attempt: u32) -> BackupEvent {
    BackupEvent::ExportStarted {
        export,
        attempt,
        folder: format!("{export}-{attempt}"),
    }
}

fn operation(export: u32) -> BackupEvent {
    let operation = format!("projects/shop/operations/{export}");
    BackupEvent::OperationStarted { export, operation }
}

fn finished(export: u32) -> BackupEvent {
    BackupEvent::ExportFinished { export }
}

fn attempt_failed(export: u32) -> BackupEvent {
    let error = "ABORTED".to_owned();
    BackupEvent::AttemptFailed { export, error }
}

fn failed(export: u32) -> BackupEvent {
    BackupEvent::ExportFailed {
        export,
        error: "PERMISSION_DENIED".to_owned(),
        advice: Some("Grant the role.".to_owned()),
    }
}

fn packed() -> BackupEvent {
    BackupEvent::Packed {
        archive: "out.zip".to_owned(),
        sha256: Sha256([7; 32]),
        bytes: 12,
    }
}

fn verified(is_full: bool) -> BackupEvent {
    BackupEvent::Verified { is_full }
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn done() -> BackupEvent {
    BackupEvent::Done {
        result: BackupResult {
            id: "20260131021500".to_owned(),
            archive: Some("out.zip".to_owned()),
            sha256: Some(Sha256([7; 32])),
            bytes: Some(12),
            kinds: vec![crate::backup::ExportedKind {
                namespace: crate::model::Namespace::new("acme"),
                kind: Kind::new("B/1"),
                entities: Some(3),
                bytes: None,
                seconds: 60,
                attempts: 2,
            }],
            failed: Vec::new(),
            missing: Vec::new(),
            started: time(1),
            finished: time(2),
            snapshot_time: None,
        },
    }
}

/// A whole run, with everything that may happen in it.
fn whole_run() -> Vec<BackupEvent> {
    vec![
        opened(),
        listed(),
        started(0, 1),
        operation(0),
        started(1, 1),
        finished(0),
        attempt_failed(1),
        started(1, 2),
        failed(1),
        BackupEvent::Resumed {
            tool: "kindpack 2".to_owned(),
            process: 8,
        },
        started(1, 3),
        operation(1),
        finished(1),
        packed(),
        verified(true),
        BackupEvent::ExportsDeleted,
        BackupEvent::Notified,
        done(),
    ]
}

fn apply(events: &[BackupEvent]) -> Result<RunState, ImpossibleEvent> {
    let mut state = RunState::default();
    for (event, micros) in events.iter().zip(1..) {
        state.apply(event, time(micros * 1_000_000))?;
    }
    Ok(state)
}

#[test]
fn a_run_is_what_its_events_say() {
    let state = apply(&whole_run()).unwrap();
    let exports = state.exports();
    assert_eq!((exports[0].attempts, exports[1].attempts), (1, 3));
    assert_eq!(exports[0].duration().as_secs(), 3);
    assert_eq!(exports[1].folder, "1-3");
    assert!(state.are_exports_deleted && state.is_notified && state.result.is_some());
    assert_eq!(state.finished().count(), 2);
}

#[test]
fn what_cannot_have_happened_is_refused() {
    let run = |events: &[BackupEvent]| [&[opened(), listed()], events].concat();
    let over = [started(0, 1), finished(0), started(1, 1), failed(1)];
    let sealed = [&over[..], &[packed(), verified(false)]].concat();
    for events in [
        vec![listed()],
        vec![opened(), opened()],
        vec![opened(), started(0, 1)],
        run(&[listed()]),
        run(&[started(2, 1)]),
        run(&[started(0, 2)]),
        run(&[finished(0)]),
        run(&[operation(0)]),
        run(&[started(0, 1), started(0, 2)]),
        run(&[started(0, 1), finished(0), started(0, 2)]),
        run(&[started(0, 1), attempt_failed(0), attempt_failed(0)]),
        run(&[packed()]),
        run(&[&over[..3], &[packed()]].concat()),
        run(&[&over[..], &[verified(true)]].concat()),
        run(&[&over[..], &[packed(), BackupEvent::Notified]].concat()),
        run(&[&over[..], &[packed(), done()]].concat()),
        run(&[&sealed[..], &[BackupEvent::ExportsDeleted]].concat()),
        run(&[&sealed[..], &[done(), BackupEvent::Notified]].concat()),
    ] {
        assert!(apply(&events).is_err(), "{events:?}");
    }
    assert!(apply(&run(&sealed)).is_ok());
}

#[test]
fn refused_event_says_what_it_needs() {
    let whole = whole_run();
    for (before, event, expected) in [
        (
            &whole[..0],
            listed(),
            "event kinds-listed is not possible here: expected the event opened first, found no event",
        ),
        (
            &whole[..2],
            finished(0),
            "event export-finished is not possible here: expected a running export, found a pending export",
        ),
        (
            &whole[..3],
            started(0, 2),
            "event export-started is not possible here: expected an export that is neither running nor finished, found a running export",
        ),
        (
            &whole[..6],
            attempt_failed(0),
            "event attempt-failed is not possible here: expected a running export, found a finished export",
        ),
        (
            &whole[..9],
            operation(1),
            "event operation-started is not possible here: expected a running export, found a failed export",
        ),
        (
            &whole[..14],
            BackupEvent::Notified,
            "event notified is not possible here: expected an archive that is verified, found none",
        ),
        (
            &whole[..],
            BackupEvent::ExportsDeleted,
            "event exports-deleted is not possible here: expected nothing more, found an event after the end",
        ),
    ] {
        let events = [before, &[event]].concat();
        assert_eq!(apply(&events).unwrap_err().to_string(), expected);
    }
}

#[test]
fn event_has_the_name_of_its_segment() {
    for event in whole_run() {
        let segment = serde_json::to_value(&event).unwrap();
        assert_eq!(segment["event"], event.name());
    }
}

#[tokio::test]
async fn run_names_what_it_backs_up() {
    let temp = tempfile::tempdir().unwrap();
    let journal = BackupJournal::create(folder(&temp), opened())
        .await
        .unwrap();
    let runs = find_runs(&folder(&temp)).await.unwrap();
    let (key, started) = runs[0].read_key(&folder(&temp)).await.unwrap().unwrap();
    assert_eq!(Some(&key), journal.state().key.as_ref());
    assert_eq!(Some(started), journal.state().started);
}

#[tokio::test]
async fn other_files_are_no_runs() {
    let temp = tempfile::tempdir().unwrap();
    for id in [
        "2026013102150",
        "202601310215000",
        "notes",
        "2026013102150x",
    ] {
        std::fs::write(temp.path().join(format!("{id}.backup.json")), "{}").unwrap();
    }
    assert!(find_runs(&folder(&temp)).await.unwrap().is_empty());
}

#[tokio::test]
async fn overlong_segment_is_refused_unread() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("20260131021500.backup.json");
    let file = std::fs::File::create(path).unwrap();
    for (len, reason) in [
        (64 << 20, "expected value"),
        ((64 << 20) + 1, "it is too long"),
    ] {
        file.set_len(len).unwrap();
        let runs = find_runs(&folder(&temp)).await.unwrap();
        let refused = runs[0].read_key(&folder(&temp)).await.unwrap_err();
        assert!(refused.to_string().contains(reason), "{refused}");
    }
}

fn folder(folder: &tempfile::TempDir) -> ExportsFolder {
    let location = Location::Local(folder.path().to_owned());
    ExportsFolder::new(StoreRegistry::new(GcsOptions::default()), location)
}

#[tokio::test]
async fn a_journal_reads_back_what_was_written() {
    let temp = tempfile::tempdir().unwrap();
    let exports = folder(&temp);
    assert!(find_runs(&exports).await.unwrap().is_empty());
    let mut journal = BackupJournal::create(exports.clone(), opened())
        .await
        .unwrap();
    for event in &whole_run()[1..17] {
        journal.append(event.clone()).await.unwrap();
        let runs = find_runs(&exports).await.unwrap();
        assert_eq!((runs.len(), runs[0].is_done()), (1, false));
        let read = BackupJournal::open(exports.clone(), &runs[0])
            .await
            .unwrap();
        assert_eq!(read.state(), journal.state(), "{event:?}");
    }
    journal.append(done()).await.unwrap();
    let runs = find_runs(&exports).await.unwrap();
    assert!(runs[0].is_done() && runs[0].id == journal.id());
    let result = runs[0].read_result(&exports).await.unwrap();
    assert_eq!(result, journal.state().result);
}

#[tokio::test]
async fn runs_of_one_second_have_distinct_ids() {
    let temp = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let journal = BackupJournal::create(folder(&temp), opened())
            .await
            .unwrap();
        ids.push(journal.id().to_owned());
    }
    let found = find_runs(&folder(&temp)).await.unwrap();
    let found: Vec<String> = found.into_iter().rev().map(|run| run.id).collect();
    assert_eq!(found, ids);
}

#[tokio::test]
async fn of_two_processes_one_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let mut first = BackupJournal::create(folder(&temp), opened())
        .await
        .unwrap();
    let runs = find_runs(&folder(&temp)).await.unwrap();
    let mut second = BackupJournal::open(folder(&temp), &runs[0]).await.unwrap();
    first.append(listed()).await.unwrap();
    for event in [listed(), started(0, 1)] {
        let refused = second.append(event).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    first.append(started(0, 1)).await.unwrap();
}

#[tokio::test]
async fn a_damaged_journal_is_refused_by_name() {
    let damages: [(&str, &[u8]); 4] = [
        ("000002.json", b"{"),
        (
            "000002.json",
            b"{\"at\":\"2026-01-31T02:15:00Z\",\"event\":\"later\"}",
        ),
        (
            "000002.json",
            b"{\"at\":\"2026-01-31T02:15:00Z\",\"event\":\"notified\"}",
        ),
        ("000003.json", b"{}"),
    ];
    for (name, bytes) in damages {
        let temp = tempfile::tempdir().unwrap();
        let mut journal = BackupJournal::create(folder(&temp), opened())
            .await
            .unwrap();
        journal.append(listed()).await.unwrap();
        let segments = temp.path().join(format!("{}.journal", journal.id()));
        std::fs::write(segments.join(name), bytes).unwrap();
        let runs = find_runs(&folder(&temp)).await.unwrap();
        let refused = BackupJournal::open(folder(&temp), &runs[0])
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("000002.json"), "{refused}");
    }
}
