//! The fields of a plan as its document holds them: in one row, without those that say nothing.
//!
//! Serde cannot flatten a group of fields and refuse unknown ones at the same time, so the row is
//! spelled out here, and only here. An option that is forgotten here does not compile.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::selected::SkippedKind;
use super::{
    ArchiveRef, Choices, Cycle, Hooks, OnExisting, Plan, PlanHead, PlanSelection, PlanTotals,
    Redaction, Step, WriteMethod,
};
use crate::model::{ExportTimes, Namespace, Sample, Sha256, TargetSpec};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "struct Plan")]
struct PlanFields<'a> {
    format: Cow<'a, str>,
    tool: Cow<'a, str>,
    archive: Cow<'a, ArchiveRef>,
    project: Cow<'a, str>,
    exports: ExportTimes,
    target: Cow<'a, TargetSpec>,
    via: WriteMethod,
    on_existing: OnExisting,
    maps: Cow<'a, BTreeMap<Namespace, Namespace>>,
    choices: Cow<'a, PlanSelection>,
    #[serde(default, skip_serializing_if = "is_default")]
    staging: Cow<'a, Option<String>>,
    #[serde(default, skip_serializing_if = "is_default")]
    redaction: Cow<'a, Redaction>,
    #[serde(default, skip_serializing_if = "is_default")]
    sample: Option<Sample>,
    #[serde(default, skip_serializing_if = "is_default")]
    hooks: Cow<'a, Hooks>,
    steps: Cow<'a, [Step]>,
    skipped: Cow<'a, [SkippedKind]>,
    cycles: Cow<'a, [Cycle]>,
    warnings: Cow<'a, [String]>,
    totals: PlanTotals,
    seal: Sha256,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl<'a> From<&'a Plan> for PlanFields<'a> {
    fn from(plan: &'a Plan) -> Self {
        let Plan { head, .. } = plan;
        let choices = &head.choices;
        PlanFields {
            format: Cow::Borrowed(&head.format),
            tool: Cow::Borrowed(&head.tool),
            archive: Cow::Borrowed(&head.archive),
            project: Cow::Borrowed(&head.project),
            exports: head.exports,
            target: Cow::Borrowed(&choices.target),
            via: choices.via,
            on_existing: choices.on_existing,
            maps: Cow::Borrowed(&choices.map_namespaces),
            choices: Cow::Borrowed(&choices.selection),
            staging: Cow::Borrowed(&choices.staging),
            redaction: Cow::Borrowed(&choices.redaction),
            sample: choices.sample,
            hooks: Cow::Borrowed(&choices.hooks),
            steps: Cow::Borrowed(&plan.steps),
            skipped: Cow::Borrowed(&plan.skipped),
            cycles: Cow::Borrowed(&plan.cycles),
            warnings: Cow::Borrowed(&plan.warnings),
            totals: plan.totals,
            seal: plan.seal,
        }
    }
}

impl From<PlanFields<'_>> for Plan {
    fn from(fields: PlanFields<'_>) -> Self {
        let choices = Choices {
            target: fields.target.into_owned(),
            via: fields.via,
            on_existing: fields.on_existing,
            map_namespaces: fields.maps.into_owned(),
            selection: fields.choices.into_owned(),
            staging: fields.staging.into_owned(),
            redaction: fields.redaction.into_owned(),
            sample: fields.sample,
            hooks: fields.hooks.into_owned(),
        };
        Plan {
            head: PlanHead {
                format: fields.format.into_owned(),
                tool: fields.tool.into_owned(),
                archive: fields.archive.into_owned(),
                project: fields.project.into_owned(),
                exports: fields.exports,
                choices,
            },
            steps: fields.steps.into_owned(),
            skipped: fields.skipped.into_owned(),
            cycles: fields.cycles.into_owned(),
            warnings: fields.warnings.into_owned(),
            totals: fields.totals,
            seal: fields.seal,
        }
    }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        PlanFields::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Plan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PlanFields::deserialize(deserializer).map(Plan::from)
    }
}
