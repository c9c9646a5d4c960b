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
use crate::restore::{Check, StepOutcome};

/// The value of `format` in every report of this version.
pub const REPORT_FORMAT: &str = "kindpack-report/1";

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

impl RestoreReport {
    /// The report of one run of a plan.
    pub fn new(plan: &Plan, steps: &[StepOutcome], frame: RunInfo) -> Self {
        let kinds = steps.iter().map(|step| KindReport {
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
        });
        RestoreReport {
            format: REPORT_FORMAT,
            tool: concat!("kindpack ", env!("CARGO_PKG_VERSION")),
            plan_sha256: plan.sha256(),
            archive: plan.head.archive.clone(),
            target: plan.head.choices.target.to_string(),
            via: plan.head.choices.via,
            on_existing: plan.head.choices.on_existing,
            check: match frame.check {
                Check::None => "none",
                Check::Counts => "counts",
                Check::Entities => "entities",
            },
            dry_run: frame.dry_run,
            started: frame.started,
            seconds: frame.took.as_secs_f64(),
            code: frame.code,
            error: frame.error,
            totals: ReportTotals::from_outcomes(steps),
            kinds: kinds.collect(),
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
        let mut suite = TestSuite::new(format!("kindpack restore into {}", self.target));
        let took = Duration::try_from_secs_f64(self.seconds).unwrap_or_default();
        suite.set_time(took);
        for kind in &self.kinds {
            let mut status = match kind.state {
                StepState::Done => TestCaseStatus::success(),
                StepState::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
                StepState::Pending | StepState::Running => TestCaseStatus::skipped(),
            };
            if let Some(error) = &kind.error {
                status.set_message(error.as_str());
            } else if kind.state != StepState::Done {
                status.set_message(<&str>::from(kind.state));
            }
            let mut case = TestCase::new(format!("{}/{}", kind.to_namespace, kind.kind), status);
            case.set_classname("kindpack.restore")
                .set_time(Duration::try_from_secs_f64(kind.seconds).unwrap_or_default());
            case.set_system_out(format!(
                "{} planned, {} restored, {} already there, {} deleted{}",
                kind.planned,
                kind.restored,
                kind.already_there,
                kind.deleted,
                kind.differing
                    .map(|differing| format!(", {differing} differing"))
                    .unwrap_or_default()
            ));
            suite.add_test_case(case);
        }
        let whole = match &self.error {
            None => TestCaseStatus::success(),
            Some(error) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                status
                    .set_message(error.as_str())
                    .set_type(format!("exit {}", self.code));
                status
            }
        };
        let mut case = TestCase::new("all of it", whole);
        case.set_classname("kindpack.restore").set_time(took);
        suite.add_test_case(case);
        let mut report = JUnit::new("kindpack");
        report.set_time(took).add_test_suite(suite);
        report.to_string()
    }
}
