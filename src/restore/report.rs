//! The report of a restore, for programs: JSON, and JUnit XML as CI systems show it.
//!
//! Knows what became of each step. Must not know how a restore runs, nor hold a value of any
//! property.

use std::time::Duration;

use quick_junit::{
    NonSuccessKind, Report as JUnit, SerializeError, TestCase, TestCaseStatus, TestSuite,
};
use serde::Serialize;

use crate::model::{Kind, Namespace, Sha256, Timestamp};
use crate::plan::{ArchiveRef, OnExisting, Plan, WriteMethod};
use crate::restore::journal::StepState;
use crate::restore::{Check, CompanionStats, StepOutcome};

/// The value of `format` in every report of this version.
pub const REPORT_FORMAT: &str = "kindpack-report/1";

/// The class of all test cases, by which CI systems group them.
const JUNIT_CLASS: &str = "kindpack.restore";

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestoreReport {
    format: &'static str,
    tool: &'static str,
    plan_sha256: Sha256,
    archive: ArchiveRef,
    target: String,
    via: WriteMethod,
    on_existing: OnExisting,
    check: &'static str,
    dry_run: bool,
    started: Timestamp,
    seconds: f64,
    code: u8,
    error: Option<String>,
    totals: ReportTotals,
    companions: Option<CompanionStats>,
    kinds: Vec<KindReport>,
}

/// What a report holds besides the plan and its steps.
#[derive(Debug, Clone)]
pub struct RunInfo {
    /// What was asked of the target.
    pub check: Check,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// When the run began.
    pub started: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The exit code.
    pub code: u8,
    /// Why it is not 0.
    pub error: Option<String>,
    /// What became of the companions; none where the run ended before it had copied them all.
    pub companions: Option<CompanionStats>,
}

/// Sums over all kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReportTotals {
    /// Kinds of the plan, each in its namespace.
    pub kinds: u64,
    /// Of these, the ones that are wholly in the target.
    pub done: u64,
    /// Entities that this run has written.
    pub restored: u64,
    /// Entities that an earlier run of the same restore had written.
    pub already_there: u64,
    /// Entities deleted because the archive does not hold them.
    pub deleted: u64,
    /// Entities that are not as the archive has them; none where they were not compared.
    pub differing: Option<u64>,
}

impl ReportTotals {
    /// Adds up steps.
    pub fn from_outcomes(steps: &[StepOutcome]) -> Self {
        let sum = |of: fn(&StepOutcome) -> u64| steps.iter().map(of).fold(0, u64::saturating_add);
        ReportTotals {
            kinds: steps.len() as u64,
            done: sum(|step| u64::from(step.end == StepState::Done)),
            restored: sum(|step| step.restored),
            already_there: sum(|step| step.already_there),
            deleted: sum(|step| step.deleted),
            differing: steps
                .iter()
                .filter_map(|step| step.differing)
                .reduce(u64::saturating_add),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct KindReport {
    step: u32,
    namespace: Namespace,
    kind: Kind,
    to_namespace: Namespace,
    state: StepState,
    planned: u64,
    restored: u64,
    already_there: u64,
    deleted: u64,
    counted: Option<u64>,
    differing: Option<u64>,
    seconds: f64,
    error: Option<String>,
}

impl KindReport {
    fn from_outcome(step: &StepOutcome) -> Self {
        KindReport {
            step: step.step,
            namespace: step.namespace.clone(),
            kind: step.kind.clone(),
            to_namespace: step.to_namespace.clone(),
            state: step.end,
            planned: step.planned,
            restored: step.restored,
            already_there: step.already_there,
            deleted: step.deleted,
            counted: step.counted,
            differing: step.differing,
            seconds: step.seconds,
            error: step.error.clone(),
        }
    }

    fn to_test_case(&self) -> TestCase {
        let name = format!("{}/{}", self.to_namespace, self.kind);
        let mut case = TestCase::new(name, self.test_status());
        case.set_classname(JUNIT_CLASS)
            .set_time(duration_of(self.seconds))
            .set_system_out(self.summary());
        case
    }

    fn test_status(&self) -> TestCaseStatus {
        let mut status = status_of(self.state);
        if let Some(error) = &self.error {
            status.set_message(error.as_str());
        } else if self.state != StepState::Done {
            status.set_message(<&str>::from(self.state));
        }
        status
    }

    fn summary(&self) -> String {
        let differing = self.differing.map(|count| format!(", {count} differing"));
        format!(
            "{} planned, {} restored, {} already there, {} deleted{}",
            self.planned,
            self.restored,
            self.already_there,
            self.deleted,
            differing.unwrap_or_default()
        )
    }
}

fn status_of(state: StepState) -> TestCaseStatus {
    match state {
        StepState::Done => TestCaseStatus::success(),
        StepState::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        StepState::Pending | StepState::Running => TestCaseStatus::skipped(),
    }
}

fn check_name(check: Check) -> &'static str {
    match check {
        Check::None => "none",
        Check::Counts => "counts",
        Check::Entities => "entities",
    }
}

fn duration_of(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

impl RestoreReport {
    /// The report of one run of a plan.
    pub fn new(plan: &Plan, steps: &[StepOutcome], frame: RunInfo) -> Self {
        RestoreReport {
            format: REPORT_FORMAT,
            tool: concat!("kindpack ", env!("CARGO_PKG_VERSION")),
            plan_sha256: plan.sha256(),
            archive: plan.head.archive.clone(),
            target: plan.head.choices.target.to_string(),
            via: plan.head.choices.via,
            on_existing: plan.head.choices.on_existing,
            check: check_name(frame.check),
            dry_run: frame.dry_run,
            started: frame.started,
            seconds: frame.took.as_secs_f64(),
            code: frame.code,
            error: frame.error,
            totals: ReportTotals::from_outcomes(steps),
            companions: frame.companions,
            kinds: steps.iter().map(KindReport::from_outcome).collect(),
        }
    }

    /// The report as indented JSON that ends with a line feed.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("texts and numbers can be written as JSON");
        text.push('\n');
        text
    }

    /// The report as JUnit XML: a case for each kind, and one for the restore as a whole.
    ///
    /// # Errors
    /// When a name holds what XML cannot.
    pub fn to_junit(&self) -> Result<String, SerializeError> {
        let took = duration_of(self.seconds);
        let mut suite = TestSuite::new(format!("kindpack restore into {}", self.target));
        suite.set_time(took);
        suite.add_test_cases(self.kinds.iter().map(KindReport::to_test_case));
        suite.add_test_case(self.whole_test_case());
        let mut report = JUnit::new("kindpack");
        report.set_time(took).add_test_suite(suite);
        report.to_string()
    }

    /// The test case of the restore as a whole, for failures that are no step's.
    fn whole_test_case(&self) -> TestCase {
        let mut case = TestCase::new("all of it", self.whole_status());
        case.set_classname(JUNIT_CLASS)
            .set_time(duration_of(self.seconds));
        case
    }

    fn whole_status(&self) -> TestCaseStatus {
        let Some(error) = &self.error else {
            return TestCaseStatus::success();
        };
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        let kind = format!("exit {}", self.code);
        status.set_message(error.as_str()).set_type(kind);
        status
    }
}
