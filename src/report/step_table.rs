//! The steps of a plan: in which order the kinds are restored, and why.

use super::values::{KindName, bytes, count, text};
use crate::plan::{LaterKind, Plan, Step};

/// The steps of a plan, and what it leaves out.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTable {
    pub rows: Vec<StepRow>,
    /// Whether kinds land in another namespace.
    pub is_mapped: bool,
    pub skipped: Vec<SkippedRow>,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRow {
    pub id: u32,
    pub name: KindName,
    pub to_namespace: String,
    pub entities: String,
    pub bytes: String,
    pub reason: String,
    /// What it refers to that is restored later.
    pub later: Vec<String>,
}

/// A kind that the plan leaves out.
#[derive(Debug, Clone, PartialEq)]
pub struct SkippedRow {
    pub name: KindName,
    pub reason: String,
}

impl StepTable {
    pub fn from_plan(plan: &Plan) -> Self {
        let is_moved = |step: &Step| step.namespace != step.to_namespace;
        let skipped = plan.skipped.iter().map(|skipped| SkippedRow {
            name: KindName::new(&skipped.namespace, &skipped.kind),
            reason: text(&skipped.reason),
        });
        StepTable {
            rows: plan.steps.iter().map(row).collect(),
            is_mapped: plan.steps.iter().any(is_moved),
            skipped: skipped.collect(),
        }
    }
}

fn row(step: &Step) -> StepRow {
    let of = step.of_entities.map(|of| format!(" of {}", count(of)));
    let later = step.later.iter().map(LaterKind::to_string);
    StepRow {
        id: step.id,
        name: KindName::new(&step.namespace, &step.kind),
        to_namespace: text(&step.to_namespace.to_string()),
        entities: count(step.entities) + &of.unwrap_or_default(),
        bytes: bytes(step.bytes),
        reason: text(&step.reason),
        later: later.map(|later| text(&later)).collect(),
    }
}
