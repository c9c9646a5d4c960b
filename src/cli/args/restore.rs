//! `kindpack restore`.

use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};

use super::PlanChoices;
use crate::model::read_duration;
use crate::store::Location;

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Plan that `kindpack plan -o` wrote, or an archive together with --target
    #[arg(value_hint = ValueHint::AnyPath)]
    pub plan_or_archive: Location,
    /// Choose among archives of this namespace, if ARCHIVE ends in `/`
    #[arg(
        long,
        value_name = "NAMESPACE",
        hide_short_help = true,
        help_heading = "Selection"
    )]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub choices: PlanChoices,
    /// Read and convert all entities; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Confirm the target project by name (for `datastore:`)
    #[arg(long, value_name = "PROJECT")]
    pub confirm: Option<String>,
    /// What to verify after each step
    #[arg(long, value_enum, default_value = "counts", help_heading = "Run")]
    pub check: CheckArg,
    /// Restore up to N kinds in parallel when they do not depend on each other
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        hide_default_value = true,
        hide_short_help = true,
        help_heading = "Run"
    )]
    pub parallel: NonZeroU8,
    /// Continue with the next kind when one fails
    #[arg(long, help_heading = "Run")]
    pub keep_going: bool,
    /// Run only the steps that failed before
    #[arg(long, help_heading = "Run", hide_short_help = true)]
    pub retry_failed: bool,
    /// Restore everything again, even what is already done
    #[arg(long, conflicts_with = "retry_failed", help_heading = "Run")]
    pub again: bool,
    /// Stop after N steps
    #[arg(long, value_name = "N", help_heading = "Run", hide_short_help = true)]
    pub max_steps: Option<u32>,
    /// Limit for each command of --before-step, --after-step and --after-all
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = read_duration, help_heading = "Hooks", hide_short_help = true)]
    pub hook_timeout: Duration,
    /// Wait up to this long for each operation of --via import
    ///
    /// The operation continues in the service; the same command waits for it again.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = read_duration, help_heading = "Writing", hide_short_help = true)]
    pub operation_timeout: Duration,
    /// Copy the companion files to this folder after the last step; overwrite nothing
    #[arg(long, value_name = "DEST", value_hint = ValueHint::AnyPath, help_heading = "Output", hide_short_help = true)]
    pub companions: Option<Location>,
    /// Write a report to FILE: HTML or JUnit XML if it ends in .html or .xml, else JSON (repeatable)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output", hide_short_help = true)]
    pub report: Vec<PathBuf>,
    /// Journal of the restore [default: PLAN.journal]
    #[arg(long, value_name = "DEST", value_hint = ValueHint::FilePath, help_heading = "Output", hide_short_help = true)]
    pub journal: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum CheckArg {
    /// Verify nothing
    None,
    /// Compare the number of entities of each kind
    Counts,
    /// Compare every entity
    Entities,
}
