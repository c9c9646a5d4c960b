//! The plan as a document: JSON that people may read, and in which they may remove or move steps.
//!
//! Knows the form and what must not change in it. How the steps come about is the planner's affair.
//!
//! ```json
//! {"format": "kindpack-plan/1", "tool": "kindpack 0.1.0", "archive": {"location": "…", "sha256": "…"}, "project": "shop",
//!  "exports": {"started": "…Z", "finished": "…Z", "spread_seconds": 1800},
//!  "target": "emulator:shop-test@localhost:8081", "via": "commit", "on_existing": "fail", "maps": {"": "acme"},
//!  "choices": {"only": [], "exclude": ["Session"], "first": [], "last": [], "depends_on": ["Order=User"], "disaster_recovery": false},
//!  "steps": [{"id": 1, "namespace": "", "kind": "Product", "to_namespace": "acme", "entities": 9, "bytes": 2345,
//!             "reason": "referenced by Customer (812 references)", "later": [{"namespace": "", "kind": "Category", "references": 1}]}],
//!  "skipped": [{"namespace": "", "kind": "Session", "reason": "--exclude Session"}],
//!  "cycles": [{"kinds": [{"namespace": "", "kind": "Product"}, {"namespace": "", "kind": "Category"}], "references": 41, "later": 1}],
//!  "warnings": [], "totals": {"steps": 1, "entities": 9, "bytes": 2345, "seconds": 1}, "seal": "…"}
//! ```

use std::collections::{HashMap, HashSet};
use std::{fmt, io};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::cycles::KindCycle;
use super::selected::{SelectedKind, SkippedKind};
use super::words::{counted_references, pointing_forward, shortened};
use super::{Choices, Environment, PlanClass, PlanError, WriteMethod, estimate, plan};
use crate::model::{ExportTimes, Kind, KindRef, Manifest, Namespace, Sha256, TargetSpec};

/// The value of `format` in every plan of this version.
pub const PLAN_FORMAT: &str = "kindpack-plan/1";

/// What wrote the plan, as plans name it.
const TOOL: &str = concat!("kindpack ", env!("CARGO_PKG_VERSION"));

/// Which archive a plan is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveRef {
    /// Where it was when the plan was made. The digest tells whether it is the same one, not the
    /// location.
    pub location: String,
    /// The digest of the whole archive.
    pub sha256: Sha256,
    /// The object's generation, where the archive lies in a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
}

/// What a plan was made of: all that its seal covers. As JSON, nothing is left out: the seal is a
/// digest of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanHead {
    /// Always [`PLAN_FORMAT`].
    pub format: String,
    /// The program and version that made the plan.
    pub tool: String,
    /// The archive.
    pub archive: ArchiveRef,
    /// The project that the backup was made of.
    pub project: String,
    /// When the exports of the archive were made.
    pub exports: ExportTimes,
    /// The user's choices; an emulator always with its address.
    #[serde(flatten)]
    pub choices: Choices,
}

impl PlanHead {
    /// The head of a plan by these choices, for the target that they lead to.
    pub(super) fn new(
        manifest: &Manifest,
        archive: &ArchiveRef,
        target: TargetSpec,
        choices: &Choices,
    ) -> Self {
        PlanHead {
            format: PLAN_FORMAT.to_owned(),
            tool: TOOL.to_owned(),
            archive: archive.clone(),
            project: manifest.backup.project.clone(),
            exports: manifest.export_times(),
            choices: Choices {
                target,
                ..choices.clone()
            },
        }
    }

    /// What the plan's `seal` must be: it shows that neither target nor choices were changed by
    /// hand.
    pub(crate) fn digest(&self) -> Sha256 {
        let json = serde_json::to_vec(self).expect(SERIALIZES);
        Sha256(sha2::Sha256::digest(json).into())
    }
}

/// An archive put in order for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it was made of.
    pub head: PlanHead,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// What the archive holds and the plan leaves out, by namespace and kind.
    pub skipped: Vec<SkippedKind>,
    /// Kinds that need one another in a circle.
    pub cycles: Vec<Cycle>,
    /// What the plan does not do although somebody may expect it.
    pub warnings: Vec<String>,
    /// Sums over the steps, as planned.
    pub totals: PlanTotals,
    /// SHA-256 over the head as compact JSON.
    pub seal: Sha256,
}

/// The restore of one pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Names the step in the journal; counts from 1 in planned order and stays when steps are
    /// moved.
    pub id: u32,
    /// The namespace in the archive.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// The namespace in the target.
    pub to_namespace: Namespace,
    /// How many entities are restored; an estimate where a share is taken, or what others need.
    pub entities: u64,
    /// How many the archive holds of the pair, where a sample is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_entities: Option<u64>,
    /// Bytes of their records.
    pub bytes: u64,
    /// Whether what the target holds of the pair, and the archive does not, is deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletes: bool,
    /// Why the step stands where it stands, as planned.
    pub reason: String,
    /// The kinds that it refers to and that are restored later, as planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later: Vec<LaterKind>,
}

/// A kind that is restored after one that refers to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaterKind {
    /// The namespace in the archive.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// How many references point at it. Archives of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<u64>,
}

impl LaterKind {
    /// The pair in the archive.
    pub fn pair(&self) -> KindRef {
        KindRef {
            namespace: self.namespace.clone(),
            kind: self.kind.clone(),
        }
    }
}

impl fmt::Display for LaterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pair())?;
        let count = self.references.map(counted_references);
        count.map_or(Ok(()), |count| write!(f, " ({count})"))
    }
}

impl Step {
    /// The pair in the archive.
    pub fn pair(&self) -> KindRef {
        KindRef {
            namespace: self.namespace.clone(),
            kind: self.kind.clone(),
        }
    }

    /// The pair in the target.
    pub fn to_pair(&self) -> KindRef {
        KindRef {
            namespace: self.to_namespace.clone(),
            kind: self.kind.clone(),
        }
    }
}

impl Step {
    /// Holds a step against what the planner makes of its kind.
    fn check_against(&self, planned: &Step, same_tool: bool) -> Result<(), PlanError> {
        let field = |field: &str| format!("{}: {field}", name(self));
        same(
            field("to_namespace"),
            &planned.to_namespace,
            &self.to_namespace,
        )?;
        same(field("entities"), &planned.entities, &self.entities)?;
        same(
            field("of_entities"),
            &display_count(planned.of_entities),
            &display_count(self.of_entities),
        )?;
        same(field("bytes"), &planned.bytes, &self.bytes)?;
        same(field("deletes"), &planned.deletes, &self.deletes)?;
        if same_tool {
            same(field("id"), &planned.id, &self.id)?;
            same(field("reason"), &planned.reason, &self.reason)?;
            same_list(&field("later"), planned.later.iter(), self.later.iter())?;
        }
        Ok(())
    }
}

/// Kinds that need one another in a circle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cycle {
    /// The kinds, in the order of their steps as planned.
    pub kinds: Vec<CycleMember>,
    /// References between them. Archives of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<u64>,
    /// Those of the references that point forward, at a kind that is restored later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later: Option<u64>,
}

impl Cycle {
    /// A cycle of numbered steps.
    pub(super) fn from_steps(cycle: &KindCycle, taken: &[SelectedKind<'_>]) -> Self {
        let members = cycle.members.iter();
        let taken = members.filter_map(|&step| taken.get(step));
        Cycle {
            kinds: taken
                .map(|taken| CycleMember::from_pair(&taken.pair))
                .collect(),
            references: cycle.references,
            later: cycle.references.and(cycle.later),
        }
    }

    /// Such as `1 of 41 references points forward`, where the archive counts them.
    pub fn pointing_forward(&self) -> Option<String> {
        pointing_forward(self.later, self.references)
    }
}

/// A pair that is part of a cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CycleMember {
    /// The namespace.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
}

impl CycleMember {
    /// The pair as a member.
    pub fn from_pair(pair: &KindRef) -> Self {
        CycleMember {
            namespace: pair.namespace.clone(),
            kind: pair.kind.clone(),
        }
    }

    /// The pair.
    pub fn pair(&self) -> KindRef {
        KindRef {
            namespace: self.namespace.clone(),
            kind: self.kind.clone(),
        }
    }
}

/// Sums over steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanTotals {
    /// How many.
    pub steps: u64,
    /// Their entities.
    pub entities: u64,
    /// Bytes of the records.
    pub bytes: u64,
    /// How long the restore may take, about.
    pub seconds: u64,
    /// Entity writes that the real service bills, about where a sample is taken; index writes and
    /// deletions are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_writes: Option<u64>,
}

impl PlanTotals {
    /// Adds up steps; what would not fit a number stays at its largest.
    pub(super) fn from_steps(steps: &[Step], target: &TargetSpec, via: WriteMethod) -> Self {
        let entities = steps
            .iter()
            .fold(0u64, |sum, step| sum.saturating_add(step.entities));
        let bytes = steps
            .iter()
            .fold(0u64, |sum, step| sum.saturating_add(step.bytes));
        PlanTotals {
            steps: steps.len() as u64,
            entities,
            bytes,
            seconds: estimate::seconds(target, via, steps.len() as u64, entities, bytes),
            billed_writes: target.is_real_service().then_some(entities),
        }
    }
}

impl fmt::Display for PlanTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} steps, {} entities, {} bytes, {} s",
            self.steps, self.entities, self.bytes, self.seconds
        )?;
        self.billed_writes
            .map_or(Ok(()), |writes| write!(f, ", {writes} writes"))
    }
}

/// A plan that may be run: it fits its archive and its environment, and people did no more to it
/// than to remove or move steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedPlan(Plan);

impl CheckedPlan {
    /// What the planner has just made of the archive that is there.
    pub fn from_planner(plan: Plan) -> Self {
        CheckedPlan(plan)
    }

    /// Checks a plan that was read, by [`Plan::check_against`].
    ///
    /// # Errors
    /// As [`Plan::check_against`].
    pub fn check(
        plan: &Plan,
        manifest: &Manifest,
        archive: &ArchiveRef,
        environment: &Environment,
    ) -> Result<Self, PlanError> {
        plan.check_against(manifest, archive, environment)
            .map(CheckedPlan)
    }

    /// The plan as it is to be run.
    pub fn into_plan(self) -> Plan {
        self.0
    }
}

/// Why a plan can be written as JSON, into memory or a digest.
const SERIALIZES: &str = "the keys of every map are texts, and neither memory nor a digest fails";

/// The one field that is read before all others.
#[derive(Deserialize)]
struct FormatField {
    format: String,
}

/// Why a text is no plan.
fn fault_of_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.is_eof() {
        format!("it is cut off in line {}", error.line())
    } else if text.starts_with("missing field `format`") {
        "it is JSON of another kind".to_owned()
    } else {
        text
    }
}

impl Plan {
    /// The plan as indented JSON that ends with a line feed.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect(SERIALIZES);
        text.push('\n');
        text
    }

    /// Reads a plan and checks all that can be checked without the archive: the version, each
    /// field, that no step stands twice, and that nothing in the head was changed since the planner
    /// wrote it.
    pub fn parse(text: &str) -> Result<Plan, PlanError> {
        let not_a_plan = |error: serde_json::Error| PlanError::NotAPlan {
            fault: fault_of_json(&error),
        };
        let FormatField { format } = serde_json::from_str(text).map_err(not_a_plan)?;
        if format != PLAN_FORMAT {
            return Err(PlanError::UnknownFormat {
                expected: PLAN_FORMAT,
                found: format,
            });
        }
        let plan: Plan = serde_json::from_str(text).map_err(not_a_plan)?;
        plan.check_steps_once()?;
        if plan.head.digest() != plan.seal {
            return Err(PlanError::HeadModified);
        }
        Ok(plan)
    }

    fn check_steps_once(&self) -> Result<(), PlanError> {
        let (mut ids, mut pairs) = (HashSet::new(), HashSet::new());
        for step in &self.steps {
            if step.id == 0 || !ids.insert(step.id) {
                let found = format!("id {} twice", step.id);
                return Err(edited(name(step), "an id of its own, from 1", found));
            }
            if !pairs.insert(step.pair()) {
                return Err(edited(name(step), "each kind once", "the same kind again"));
            }
        }
        Ok(())
    }

    /// What a journal calls this plan by: the SHA-256 of [`Plan::to_json`]. How the document was
    /// indented does not matter.
    pub fn sha256(&self) -> Sha256 {
        let mut digest = sha2::Sha256::new();
        serde_json::to_writer_pretty(io::BufWriter::new(DigestWriter(&mut digest)), self)
            .expect(SERIALIZES);
        digest.update(b"\n");
        Sha256(digest.finalize().into())
    }

    /// Proves that the plan may be run on this archive in this environment: that it was made for
    /// these bytes, that its guards still hold, and that people did no more to it than to remove or
    /// move steps.
    ///
    /// Returns the plan as it is to be run: the steps in the document's order, the totals theirs,
    /// removed steps under `skipped`. The journal goes by the document (`self`), not by this.
    ///
    /// Reasons, ids and cycles are compared only when this very version made the plan, as another
    /// one may word or order differently; what each step does is compared always.
    pub fn check_against(
        &self,
        manifest: &Manifest,
        archive: &ArchiveRef,
        environment: &Environment,
    ) -> Result<Plan, PlanError> {
        let whole = self.plan_again(manifest, archive, environment)?;
        let same_tool = self.head.tool == whole.head.tool;
        let removed = self.check_steps(&whole, same_tool)?;
        self.check_rest(&whole, same_tool)?;
        Ok(self.without(removed.into_iter()))
    }

    /// What the planner makes of the same archive and choices.
    fn plan_again(
        &self,
        manifest: &Manifest,
        archive: &ArchiveRef,
        environment: &Environment,
    ) -> Result<Plan, PlanError> {
        let PlanHead {
            archive: planned,
            choices,
            ..
        } = &self.head;
        if planned.sha256 != archive.sha256 {
            return Err(PlanError::ArchiveChanged {
                location: planned.location.clone(),
                expected: planned.sha256,
                found: archive.sha256,
            });
        }
        plan(manifest, planned, choices, environment).map_err(|error| match error.class() {
            PlanClass::Usage => edited("choices", "choices that fit the archive", error),
            PlanClass::Refused => error,
        })
    }

    /// Holds each step against the planned one; gives the steps that were removed.
    fn check_steps<'a>(
        &self,
        whole: &'a Plan,
        same_tool: bool,
    ) -> Result<Vec<&'a Step>, PlanError> {
        let mut planned: HashMap<KindRef, &Step> =
            whole.steps.iter().map(|step| (step.pair(), step)).collect();
        for step in &self.steps {
            let expected = "a kind of the original plan";
            let planned = planned
                .remove(&step.pair())
                .ok_or_else(|| edited(format!("step {}", step.id), expected, step.pair()))?;
            step.check_against(planned, same_tool)?;
        }
        let removed = whole.steps.iter();
        Ok(removed
            .filter(|step| planned.contains_key(&step.pair()))
            .collect())
    }

    /// Holds all but the steps against the plan that the planner makes.
    fn check_rest(&self, whole: &Plan, same_tool: bool) -> Result<(), PlanError> {
        same("project", &whole.head.project, &self.head.project)?;
        same_list(
            "skipped",
            whole.skipped.iter().map(SkippedKind::pair),
            self.skipped.iter().map(SkippedKind::pair),
        )?;
        if !same_tool {
            return Ok(());
        }
        same_list(
            "skipped: reason",
            whole.skipped.iter().map(|s| &s.reason),
            self.skipped.iter().map(|s| &s.reason),
        )?;
        same_list(
            "cycles",
            whole.cycles.iter().map(cycle),
            self.cycles.iter().map(cycle),
        )?;
        same_list("warnings", whole.warnings.iter(), self.warnings.iter())?;
        same("totals", &whole.totals, &self.totals)
    }

    /// The plan with the totals of its steps, and the removed ones under `skipped`.
    fn without<'a>(&self, removed: impl Iterator<Item = &'a Step>) -> Plan {
        let removed = removed.map(|step| SkippedKind {
            namespace: step.namespace.clone(),
            kind: step.kind.clone(),
            reason: "removed from the plan".to_owned(),
        });
        let mut skipped: Vec<SkippedKind> = self.skipped.iter().cloned().chain(removed).collect();
        skipped.sort_by_key(SkippedKind::pair);
        Plan {
            skipped,
            totals: PlanTotals::from_steps(
                &self.steps,
                &self.head.choices.target,
                self.head.choices.via,
            ),
            ..self.clone()
        }
    }
}

/// Takes bytes into a digest.
struct DigestWriter<'a>(&'a mut sha2::Sha256);

impl io::Write for DigestWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn name(step: &Step) -> String {
    format!("step {} ({})", step.id, step.pair())
}

fn display_count(number: Option<u64>) -> String {
    number.map_or_else(|| "none".to_owned(), |number| number.to_string())
}

/// All that a cycle says, its members in full.
fn cycle(cycle: &Cycle) -> String {
    let names = cycle.kinds.iter().map(|member| member.pair().to_string());
    let names = shortened(names, cycle.kinds.len(), usize::MAX);
    let [later, references] = [cycle.later, cycle.references].map(display_count);
    format!("{names} ({later} of {references})")
}

fn edited(
    what: impl fmt::Display,
    expected: impl fmt::Display,
    found: impl fmt::Display,
) -> PlanError {
    PlanError::PlanModified {
        what: what.to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

fn same<T: PartialEq + fmt::Display>(
    what: impl fmt::Display,
    expected: &T,
    found: &T,
) -> Result<(), PlanError> {
    if expected == found {
        Ok(())
    } else {
        Err(edited(what, expected, found))
    }
}

/// Names the first place where two lists differ.
fn same_list<T: PartialEq + fmt::Display>(
    what: &str,
    mut expected: impl Iterator<Item = T>,
    mut found: impl Iterator<Item = T>,
) -> Result<(), PlanError> {
    let text = |item: Option<T>| item.map_or("nothing more".to_owned(), |item| item.to_string());
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return Ok(()),
            (expected, found) if expected == found => {}
            (expected, found) => return Err(edited(what, text(expected), text(found))),
        }
    }
}
