//! Labels of imports and exports: by what a later run knows the operations of a restore or of a
//! backup again. Pure.
//!
//! Lower-case letters, digits and `_` only: all of Google's services take those, and a filter needs
//! no quotes around such a name.

use std::collections::BTreeMap;

use crate::model::{Sha256, Timestamp};

/// The labels' names.
const PLAN: &str = "kindpack_plan";
const STEP: &str = "kindpack_step";
const RUN: &str = "kindpack_run";
const BACKUP: &str = "kindpack_backup";
const EXPORT: &str = "kindpack_export";

/// Where an operation of Datastore Admin has its labels.
const LABELS: &str = "metadata.common.labels";

/// Hex digits of the plan's digest that are enough to tell plans apart.
const PLAN_DIGITS: usize = 16;

/// A step of a plan, in one restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    plan: String,
    step: u32,
    run: i64,
}

impl Label {
    /// `run` tells restores by the same plan apart: when the journal was opened.
    pub fn new(plan: Sha256, step: u32, run: Timestamp) -> Self {
        Label {
            plan: plan_id(plan),
            step,
            run: run.micros(),
        }
    }

    /// The labels as they are sent.
    pub fn pairs(&self) -> BTreeMap<&'static str, String> {
        [
            (PLAN, self.plan.clone()),
            (STEP, self.step.to_string()),
            (RUN, self.run.to_string()),
        ]
        .into()
    }

    /// What narrows a listing to the operations of this step, in whatever restore by this plan.
    pub(super) fn filter(&self) -> String {
        format!(
            "{LABELS}.{PLAN}=\"{}\" AND {LABELS}.{STEP}=\"{}\"",
            self.plan, self.step
        )
    }

    /// Whether an operation with these labels is of this step, in whatever restore by this plan.
    pub(super) fn is_of_step(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(PLAN) == Some(&self.plan) && labels.get(STEP) == Some(&self.step.to_string())
    }

    /// Whether an operation of this step is of this very restore.
    pub(super) fn is_of_run(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(RUN) == Some(&self.run.to_string())
    }
}

/// An export of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportLabel {
    backup: String,
    export: u32,
}

impl ExportLabel {
    /// The backup's id, such as `20251122063742`, and the number of the export in it.
    pub fn new(backup: &str, export: u32) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        ExportLabel {
            backup: backup.to_ascii_lowercase().chars().map(plain).collect(),
            export,
        }
    }

    /// The labels as they are sent.
    pub fn pairs(&self) -> BTreeMap<&'static str, String> {
        [
            (BACKUP, self.backup.clone()),
            (EXPORT, self.export.to_string()),
        ]
        .into()
    }

    /// What narrows a listing to the operations of this export.
    pub(super) fn filter(&self) -> String {
        format!(
            "{LABELS}.{BACKUP}=\"{}\" AND {LABELS}.{EXPORT}=\"{}\"",
            self.backup, self.export
        )
    }

    /// Whether an operation with these labels is one of this export.
    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.pairs()
            .iter()
            .all(|(name, value)| labels.get(*name) == Some(value))
    }
}

/// A plan in a few hex digits, for names and labels.
pub fn plan_id(plan: Sha256) -> String {
    plan.to_string().chars().take(PLAN_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(step: u32, run: i64) -> Label {
        Label::new(
            Sha256([0xab; 32]),
            step,
            Timestamp::from_micros(run).unwrap(),
        )
    }

    fn sent(label: &Label) -> BTreeMap<String, String> {
        label
            .pairs()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    #[test]
    fn labels_fit_every_service() {
        for (name, value) in sent(&label(u32::MAX, 1_763_805_601_234_567)) {
            for text in [&name, &value] {
                assert!(!text.is_empty() && text.len() <= 63, "{text}");
                assert!(
                    text.bytes()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'),
                    "{text}"
                );
            }
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        }
    }

    #[test]
    fn label_identifies_step_plan_and_restore() {
        let mine = label(3, 1);
        assert!(mine.is_of_step(&sent(&mine)) && mine.is_of_run(&sent(&mine)));
        let another_day = sent(&label(3, 2));
        assert!(mine.is_of_step(&another_day) && !mine.is_of_run(&another_day));
        assert!(!mine.is_of_step(&sent(&label(30, 1))));
        assert!(!mine.is_of_step(&BTreeMap::new()));
    }

    #[test]
    fn the_filter_names_plan_and_step() {
        let expected = "metadata.common.labels.kindpack_plan=\"abababababababab\" AND metadata.common.labels.kindpack_step=\"3\"";
        assert_eq!(label(3, 1).filter(), expected);
    }
}
