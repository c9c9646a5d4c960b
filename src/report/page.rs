//! The page as a value.

use super::export_timeline::ExportTimeline;
use super::graph::DependencyGraph;
use super::header::{Badge, Mood, Notice, PageHeader, badge_of};
use super::kind_table::{KindTable, sizes_of_manifest, sizes_of_plan};
use super::restore_section::RestoreSection;
use super::step_table::StepTable;
use super::treemap::Treemap;
use super::values::{KindName, text};
use crate::model::{Manifest, TargetSpec};
use crate::plan::{ArchiveRef, Choices, Environment, Plan, PlanError, plan};
use crate::restore::StepOutcome;
use crate::restore::journal::Journal;
use crate::restore::report::RunInfo;

/// All that the page shows. It holds names and numbers, and no value of any property.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportPage {
    pub(super) header: PageHeader,
    pub(super) restore: Option<RestoreSection>,
    pub(super) steps: Option<StepTable>,
    pub(super) treemap: Option<Treemap>,
    pub(super) timeline: Option<ExportTimeline>,
    pub(super) graph: Option<DependencyGraph>,
    pub(super) kinds: KindTable,
    pub(super) missing: Vec<MissingRow>,
    /// Whether a kind's name says too little without its namespace.
    pub(super) shows_namespaces: bool,
}

/// A kind that the backup lacks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MissingRow {
    pub name: KindName,
    pub reason: String,
}

/// What a page about a plan is made of.
#[derive(Debug, Clone, Copy)]
pub struct PlanPageSource<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The manifest of its archive, where that could be read.
    pub manifest: Option<&'a Manifest>,
    /// The journal of its restore, where one has begun.
    pub journal: &'a Journal,
    /// The run that has just ended, if any.
    pub run: Option<FinishedRun<'a>>,
}

/// A run of a restore that has ended.
#[derive(Debug, Clone, Copy)]
pub struct FinishedRun<'a> {
    /// What became of each step.
    pub steps: &'a [StepOutcome],
    /// The run as a whole.
    pub info: &'a RunInfo,
}

/// The plan by which all kinds of an archive would be restored. Its order does not depend on the
/// target, so any target will do.
///
/// # Errors
/// As [`plan`].
pub fn default_order(manifest: &Manifest, archive: &ArchiveRef) -> Result<Plan, PlanError> {
    let target = TargetSpec::Emulator {
        project: "any".to_owned(),
        host: Some("localhost:1".to_owned()),
    };
    plan(
        manifest,
        archive,
        &Choices::new(target),
        &Environment::default(),
    )
}

impl ReportPage {
    /// The page of an archive, with the order of a restore as [`default_order`] gives it.
    pub fn from_archive(manifest: &Manifest, order: &Plan) -> Self {
        ReportPage {
            header: PageHeader::from_archive(manifest, order),
            restore: None,
            steps: None,
            ..ReportPage::of_kinds(order, Some(manifest))
        }
    }

    /// The page of a plan, and of its restore if that has begun.
    pub fn from_plan(source: &PlanPageSource<'_>) -> Self {
        let PlanPageSource {
            plan,
            manifest,
            journal,
            run,
        } = *source;
        let has_begun = journal.opened.is_some() || run.is_some();
        let outcomes = run.map(|run| run.steps).unwrap_or_default();
        let mut header = PageHeader::from_plan(plan, manifest, has_begun);
        header.badge = badge_of(journal, plan.steps.len());
        if let Some(run) = run {
            show_run(&mut header, run.info);
        }
        ReportPage {
            header,
            restore: has_begun.then(|| RestoreSection::new(plan, journal, outcomes)),
            steps: Some(StepTable::from_plan(plan)),
            ..ReportPage::of_kinds(plan, manifest)
        }
    }

    /// The parts that are about kinds.
    fn of_kinds(plan: &Plan, manifest: Option<&Manifest>) -> Self {
        let sizes = manifest.map_or_else(|| sizes_of_plan(plan), sizes_of_manifest);
        let is_default = |name: &KindName| name.namespace == crate::model::DEFAULT_NAMESPACE;
        ReportPage {
            header: PageHeader::from_plan(plan, manifest, false),
            restore: None,
            steps: None,
            treemap: Treemap::from_kinds(&sizes),
            timeline: manifest.and_then(ExportTimeline::from_manifest),
            graph: manifest.and_then(|manifest| DependencyGraph::new(manifest, plan)),
            kinds: manifest.map(KindTable::from_manifest).unwrap_or_default(),
            missing: manifest.map(missing).unwrap_or_default(),
            shows_namespaces: !sizes.iter().all(|kind| is_default(&kind.name)),
        }
    }
}

/// Says how a run ended.
fn show_run(header: &mut PageHeader, run: &RunInfo) {
    if run.dry_run {
        let text = "dry run: nothing was written".to_owned();
        header.badge = Some(Badge {
            mood: Mood::Neutral,
            text,
        });
    }
    if let Some(error) = &run.error {
        let text = format!("ended with exit code {}", run.code);
        header.badge = Some(Badge {
            mood: Mood::Bad,
            text,
        });
        header.notices.insert(0, Notice::problem(error));
    }
}

fn missing(manifest: &Manifest) -> Vec<MissingRow> {
    let missing = manifest.missing.iter().map(|missing| MissingRow {
        name: KindName::new(&missing.namespace, &missing.kind),
        reason: text(&missing.reason),
    });
    missing.collect()
}
