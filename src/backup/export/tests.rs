use std::num::NonZeroU32;

use tokio::time::Instant;

use super::*;
use crate::backup::OPERATION_TIMEOUT;
use crate::backup::journal::{BACKUP_JOURNAL_FORMAT, BackupKey, find_runs};
use crate::backup::queue::{SERVICE_WINDOW, ServiceLimits};
use crate::backup::testing::{Attempt, FakeExporter, failure, permanent, refused, transient};
use crate::progress::NoProgress;
use crate::store::{GcsOptions, Location, StoreRegistry};

/// A run of some kinds in a folder of its own.
struct Fixture {
    folder: tempfile::TempDir,
    exporter: FakeExporter,
    options: QueueOptions,
    operation_timeout: Duration,
    snapshot_time: Option<Timestamp>,
}

fn key() -> BackupKey {
    BackupKey {
        source: "datastore:shop".to_owned(),
        archive: "out.zip".to_owned(),
        namespaces: Vec::new(),
        only: Vec::new(),
        exclude: Vec::new(),
        snapshot_time: None,
    }
}

impl Fixture {
    fn new() -> Self {
        Fixture {
            folder: tempfile::tempdir().unwrap(),
            exporter: FakeExporter::new(),
            options: QueueOptions::default(),
            operation_timeout: OPERATION_TIMEOUT,
            snapshot_time: None,
        }
    }

    fn at_once(mut self, max_concurrent: u32) -> Self {
        self.options.max_concurrent = NonZeroU32::new(max_concurrent).unwrap();
        self
    }

    fn attempts(mut self, max_attempts: u32) -> Self {
        self.options.max_attempts = NonZeroU32::new(max_attempts).unwrap();
        self
    }

    fn exports(&self) -> ExportsFolder {
        let location = Location::Local(self.folder.path().to_owned());
        ExportsFolder::new(StoreRegistry::new(GcsOptions::default()), location)
    }

    async fn journal(&self, kinds: &[&str]) -> BackupJournal {
        let opened = BackupEvent::Opened {
            format: BACKUP_JOURNAL_FORMAT.to_owned(),
            backup: key(),
            snapshot_time: self.snapshot_time,
            tool: "kindpack".to_owned(),
            process: 1,
        };
        let mut journal = BackupJournal::create(self.exports(), opened).await.unwrap();
        let kinds = kinds.iter().map(|kind| KindRef::new("", *kind)).collect();
        let listed = BackupEvent::KindsListed { kinds };
        journal.append(listed).await.unwrap();
        journal
    }

    /// The journal as another process reads it.
    async fn read(&self) -> BackupJournal {
        let runs = find_runs(&self.exports()).await.unwrap();
        BackupJournal::open(self.exports(), &runs[0]).await.unwrap()
    }

    /// Carries the run out, for so long.
    async fn run_for(
        &self,
        journal: BackupJournal,
        limit: Duration,
    ) -> (BackupJournal, Option<Result<(), BackupError>>) {
        let limits = match self.exporter.has_quota {
            true => ServiceLimits::Hold,
            false => ServiceLimits::None,
        };
        let queue = StartQueue::new(&self.options, limits);
        let exports = self.exports();
        let id = journal.id().to_owned();
        let journal = Mutex::new(journal);
        let run = ExportRun {
            exporter: &self.exporter,
            exports: &exports,
            queue: &queue,
            options: &self.options,
            operation_timeout: self.operation_timeout,
            journal: &journal,
            id,
            snapshot_time: self.snapshot_time,
        };
        let ended = tokio::time::timeout(limit, run.run(&NoProgress)).await.ok();
        // A process that is gone writes no more. Virtual time stands still while a file is being
        // written, so this wait ends after the last write.
        tokio::time::sleep(Duration::from_millis(1)).await;
        (journal.into_inner(), ended)
    }

    async fn run(&self, kinds: &[&str]) -> (BackupJournal, Result<(), BackupError>) {
        let journal = self.journal(kinds).await;
        let (journal, ended) = self.run_for(journal, Duration::from_secs(86_400)).await;
        (journal, ended.unwrap())
    }
}

fn states(journal: &BackupJournal) -> Vec<&'static str> {
    let name = |export: &ExportStatus| match export.state {
        ExportState::Pending => "pending",
        ExportState::Running { .. } => "running",
        ExportState::Done => "done",
        ExportState::Failed { .. } => "failed",
    };
    journal.state().exports().iter().map(name).collect()
}

#[tokio::test(start_paused = true)]
async fn exports_never_overlap_with_concurrency_one() {
    for (allowed, begin) in [(1, Instant::now()), (3, Instant::now())] {
        let fixture = Fixture::new().at_once(allowed);
        let (journal, ended) = fixture.run(&["A", "B", "C", "D", "E", "F"]).await;
        ended.unwrap();
        assert_eq!(states(&journal), ["done"; 6]);
        assert_eq!(fixture.exporter.most_at_once(), allowed as usize);
        assert!(begin.elapsed() >= Duration::from_secs(60 / u64::from(allowed)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_sees_twenty_starts_a_minute() {
    let mut fixture = Fixture::new().at_once(50);
    fixture.exporter.has_quota = true;
    let kinds: Vec<String> = (0..100).map(|number| format!("Kind{number}")).collect();
    for kind in &kinds[..10] {
        fixture.exporter.script(kind, [transient(Code::Aborted)]);
    }
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let (journal, ended) = fixture.run(&kinds).await;
    ended.unwrap();
    assert_eq!(journal.state().finished().count(), 100);
    let starts: Vec<Instant> = fixture.exporter.starts().iter().map(|one| one.at).collect();
    assert_eq!(starts.len(), 110);
    for window in starts.windows(21) {
        assert!(window[20] - window[0] >= SERVICE_WINDOW);
    }
}

#[tokio::test(start_paused = true)]
async fn transient_error_retries_in_another_folder() {
    let codes = [
        Code::Aborted,
        Code::Unavailable,
        Code::Internal,
        Code::DeadlineExceeded,
        Code::ResourceExhausted,
    ];
    let fixture = Fixture::new();
    let refusals = codes.into_iter().map(transient);
    fixture
        .exporter
        .script("A", refusals.chain([failure(Code::Aborted, true)]));
    let (journal, ended) = fixture.run(&["A"]).await;
    ended.unwrap();
    assert_eq!(states(&journal), ["done"]);
    assert_eq!(journal.state().exports()[0].attempts, 7);
    let mut prefixes: Vec<String> = fixture
        .exporter
        .starts()
        .into_iter()
        .map(|start| start.request.output_prefix)
        .collect();
    assert!(prefixes[0].ends_with("/(default)/A") && prefixes[6].ends_with("/(default)~7/A"));
    prefixes.dedup();
    assert_eq!(prefixes.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn attempts_end_at_their_number() {
    let fixture = Fixture::new().attempts(3);
    let aborted = std::iter::repeat_with(|| transient(Code::Aborted));
    fixture.exporter.script("A", aborted.take(9));
    let (journal, ended) = fixture.run(&["A", "B"]).await;
    ended.unwrap();
    assert_eq!(states(&journal), ["failed", "done"]);
    assert_eq!(fixture.exporter.starts().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_refused_kind_fails_alone_with_its_advice() {
    for refusal in [
        permanent(Code::PermissionDenied),
        permanent(Code::NotFound),
        permanent(Code::InvalidArgument),
        failure(Code::InvalidArgument, false),
    ] {
        let fixture = Fixture::new();
        let has_advice = matches!(refusal, Attempt::Refused(_));
        fixture.exporter.script("A", [refusal]);
        let (journal, ended) = fixture.run(&["A", "B"]).await;
        ended.unwrap();
        assert_eq!(states(&journal), ["failed", "done"]);
        assert_eq!(fixture.exporter.started_kinds(), ["A", "B"]);
        let ExportState::Failed { advice, .. } = &journal.state().exports()[0].state else {
            panic!("{journal:?}");
        };
        assert_eq!(advice.is_some(), has_advice);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_starts_nothing_twice() {
    let fixture = Fixture::new();
    fixture.exporter.script("A", [Attempt::AnswerLost]);
    fixture.exporter.script("B", [Attempt::RequestLost]);
    let (journal, ended) = fixture.run(&["A", "B"]).await;
    ended.unwrap();
    assert_eq!(states(&journal), ["done", "done"]);
    let mut kinds = fixture.exporter.started_kinds();
    kinds.sort();
    assert_eq!(kinds, ["A", "B", "B"]);
}

#[tokio::test(start_paused = true)]
async fn requested_wait_is_kept() {
    let fixture = Fixture::new().at_once(2);
    let class = ExportErrorClass::Transient {
        retry_after: Some(Duration::from_secs(100)),
    };
    let exhausted = Attempt::Refused(refused(class, Code::ResourceExhausted));
    fixture.exporter.script("A", [exhausted]);
    let (_, ended) = fixture.run(&["A", "B"]).await;
    ended.unwrap();
    let starts = fixture.exporter.starts();
    assert_eq!(starts.len(), 3);
    assert!(starts[1].at - starts[0].at >= Duration::from_secs(100));
}

#[tokio::test(start_paused = true)]
async fn an_instant_that_is_refused_ends_the_run() {
    let mut fixture = Fixture::new();
    fixture.snapshot_time = Timestamp::from_micros(60_000_000);
    fixture
        .exporter
        .script("A", [permanent(Code::InvalidArgument)]);
    let (_, ended) = fixture.run(&["A", "B"]).await;
    assert!(matches!(ended, Err(BackupError::SnapshotRefused { .. })));
    assert_eq!(fixture.exporter.started_kinds(), ["A"]);
}

#[tokio::test(start_paused = true)]
async fn another_process_goes_on_where_one_stopped() {
    for seconds in 0..60 {
        let fixture = Fixture::new().at_once(2);
        fixture
            .exporter
            .script("B", [transient(Code::Aborted), Attempt::Succeeds(17)]);
        fixture.exporter.script("C", [Attempt::AnswerLost]);
        fixture
            .exporter
            .script("D", [failure(Code::Internal, true)]);
        let journal = fixture.journal(&["A", "B", "C", "D", "E"]).await;
        let (journal, _) = fixture.run_for(journal, Duration::from_secs(seconds)).await;
        drop(journal);
        let journal = fixture.read().await;
        let (journal, ended) = fixture.run_for(journal, Duration::from_secs(86_400)).await;
        ended.unwrap().unwrap();
        assert_eq!(states(&journal), ["done"; 5], "{seconds}");
        // Each kind once, and the two that failed once more.
        assert_eq!(fixture.exporter.starts().len(), 7, "{seconds}");
        assert!(fixture.exporter.most_at_once() <= 2, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn next_process_retries_failed_kind() {
    let fixture = Fixture::new();
    fixture
        .exporter
        .script("A", [permanent(Code::PermissionDenied)]);
    let (journal, _) = fixture.run(&["A", "B"]).await;
    assert_eq!(states(&journal), ["failed", "done"]);
    let journal = fixture.read().await;
    let (journal, _) = fixture.run_for(journal, Duration::from_secs(600)).await;
    assert_eq!(states(&journal), ["done", "done"]);
    assert_eq!(fixture.exporter.started_kinds(), ["A", "B", "A"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_process_stops_the_first() {
    let fixture = Fixture::new();
    let first = fixture.journal(&["A", "B", "C"]).await;
    let mut second = fixture.read().await;
    let resumed = BackupEvent::Resumed {
        tool: "kindpack".to_owned(),
        process: 2,
    };
    second.append(resumed).await.unwrap();
    let (_, ended) = fixture.run_for(first, Duration::from_secs(600)).await;
    assert!(matches!(ended, Some(Err(BackupError::Journal(_)))));
    assert!(fixture.exporter.starts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn operation_is_waited_for_as_asked() {
    let mut fixture = Fixture::new();
    fixture.operation_timeout = Duration::from_secs(60);
    fixture.exporter.script("A", [Attempt::Succeeds(3_600)]);
    let (_, ended) = fixture.run(&["A"]).await;
    let error = ended.unwrap_err().to_string();
    assert!(error.ends_with("is still running after 1m"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn endless_operation_ends_the_run_resumably() {
    let fixture = Fixture::new();
    let days = 3 * 86_400;
    fixture
        .exporter
        .script("A", [Attempt::Succeeds(days - 43_200)]);
    let journal = fixture.journal(&["A"]).await;
    let limit = Duration::from_secs(2 * 86_400);
    let (journal, ended) = fixture.run_for(journal, limit).await;
    let error = ended.unwrap().unwrap_err();
    assert!(matches!(
        error,
        BackupError::OperationTimeout { timeout, .. } if timeout == OPERATION_TIMEOUT
    ));
    assert_eq!(states(&journal), ["running"]);
    let (journal, ended) = fixture
        .run_for(fixture.read().await, Duration::from_secs(days))
        .await;
    // It has not ended yet, and is not started again.
    assert!(ended.unwrap().is_err());
    assert_eq!(fixture.exporter.starts().len(), 1);
    let (journal, ended) = fixture.run_for(journal, Duration::from_secs(days)).await;
    ended.unwrap().unwrap();
    assert_eq!(states(&journal), ["done"]);
}
