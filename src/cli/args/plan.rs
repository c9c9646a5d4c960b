//! `kindpack plan`, and the choices that `kindpack restore ARCHIVE` takes as well.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::ArchiveArg;
use super::values::{PrefixParser, on_existing, share, via};
use crate::model::{Sample, Selector, TargetSpec};
use crate::plan::{DependencyRule, NamespaceMap, OnExisting, WriteMethod};
use crate::transform::redact::Action;

#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Write the plan as JSON to this file
    #[arg(short, long, value_name = "PLAN", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub choices: PlanChoices,
    /// Explain the place of these kinds (KIND or NAMESPACE/KIND) in the order; show no plan
    #[arg(long, value_name = "SELECTOR", help_heading = "Output")]
    pub explain: Option<Selector>,
    /// Exit with 8 if there are steps to run, with 0 if there are none
    #[arg(long, hide_short_help = true, help_heading = "Output")]
    pub detailed_exitcode: bool,
}

/// What shapes a plan; the same for `plan` and for `restore ARCHIVE`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct PlanChoices {
    /// Where to restore: emulator:PROJECT[@HOST:PORT], datastore:PROJECT[/DATABASE], dir:PATH or
    /// ndjson:PATH
    #[arg(long, value_parser = PrefixParser::<TargetSpec>::target(), hide_possible_values = true)]
    pub target: Option<TargetSpec>,
    /// What to do with existing entities of a kind [default: fail]
    #[arg(long, value_name = "HOW", value_parser = on_existing())]
    pub on_existing: Option<OnExisting>,
    /// Load options from [profile.NAME]; command-line options take precedence
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Configuration file that holds the profile [default: kindpack.toml]
    #[arg(long, value_name = "FILE", requires = "profile", value_hint = ValueHint::FilePath, hide_short_help = true)]
    pub config: Option<PathBuf>,
    /// Confirm that the source project of the archive may be overwritten
    #[arg(long, hide_short_help = true)]
    pub disaster_recovery: bool,
    /// Restore only these kinds: KIND or NAMESPACE/KIND (repeatable)
    #[arg(long, value_name = "SELECTOR", help_heading = "Selection")]
    pub only: Vec<Selector>,
    /// Leave these kinds out (repeatable)
    #[arg(long, value_name = "SELECTOR", help_heading = "Selection")]
    pub exclude: Vec<Selector>,
    /// Also restore the parents and referenced kinds
    #[arg(long, help_heading = "Selection")]
    pub with_dependencies: bool,
    /// Restore a share of each kind, such as 5%
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "limit", help_heading = "Selection")]
    pub sample: Option<Sample>,
    /// Restore at most N entities of each kind
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true, help_heading = "Selection")]
    pub limit: Option<u64>,
    #[arg(long, value_name = "RULE", help = redact_help(), help_heading = "Changes to entities")]
    pub redact: Vec<String>,
    /// Restore namespace FROM as TO, also in references (repeatable)
    #[arg(long, value_name = "FROM=TO", help_heading = "Changes to entities")]
    pub map_namespace: Vec<NamespaceMap>,
    /// Restore these kinds before all others (repeatable)
    #[arg(
        long,
        value_name = "SELECTOR",
        help_heading = "Order",
        hide_short_help = true
    )]
    pub first: Vec<Selector>,
    /// Restore these kinds after all others (repeatable)
    #[arg(
        long,
        value_name = "SELECTOR",
        help_heading = "Order",
        hide_short_help = true
    )]
    pub last: Vec<Selector>,
    /// Restore kind A after kind B (repeatable)
    #[arg(
        long,
        value_name = "A=B",
        help_heading = "Order",
        hide_short_help = true
    )]
    pub depends_on: Vec<DependencyRule>,
    /// Read more `first`, `last` and `depends_on` rules from a TOML file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Order", hide_short_help = true)]
    pub order_file: Option<PathBuf>,
    /// How to write to the target [default: commit]
    #[arg(long, value_name = "HOW", value_parser = via(), help_heading = "Writing", hide_short_help = true)]
    pub via: Option<WriteMethod>,
    /// Folder for exports during --via import: gs://BUCKET/NAME, or a local one for an emulator
    #[arg(
        long,
        value_name = "DEST",
        help_heading = "Writing",
        hide_short_help = true
    )]
    pub staging: Option<String>,
    /// Run a shell command before each step
    #[arg(
        long,
        value_name = "CMD",
        help_heading = "Hooks",
        hide_short_help = true
    )]
    pub before_step: Option<String>,
    /// Run a shell command after each step
    #[arg(
        long,
        value_name = "CMD",
        help_heading = "Hooks",
        hide_short_help = true
    )]
    pub after_step: Option<String>,
    /// Run a shell command after the last step
    #[arg(
        long,
        value_name = "CMD",
        help_heading = "Hooks",
        hide_short_help = true
    )]
    pub after_all: Option<String>,
}

impl PlanChoices {
    /// Whether any choice was made that a finished plan has already made.
    pub fn any(&self) -> bool {
        *self != PlanChoices::default()
    }
}

/// The help of `--redact`, with the word of each action.
fn redact_help() -> String {
    format!(
        "Change properties: KIND.property={}, or @FILE",
        Action::words()
    )
}
