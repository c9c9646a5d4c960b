//! `kindpack restore`.

use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::PlanChoices;
use crate::model::read_duration;
use crate::store::Location;

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A plan that `kindpack plan -o` wrote; or an archive, together with --target
    pub plan_or_archive: Location,
    /// With ARCHIVE ending in `/`: only archives of this namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub choices: PlanChoices,
    /// Read and encode everything, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The project of the target once more; needed for `datastore:`
    #[arg(long, value_name = "PROJECT")]
    pub confirm: Option<String>,
    /// Run that many kinds side by side, as far as they do not wait for one another
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true)]
    pub parallel: NonZeroU8,
    /// Go on with the next kind when one fails
    #[arg(long)]
    pub keep_going: bool,
    /// Run only what has failed before
    #[arg(long)]
    pub retry_failed: bool,
    /// Restore from the beginning, whatever an earlier run has done
    #[arg(long, conflicts_with = "retry_failed")]
    pub again: bool,
    /// Stop after that many steps
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u32>,
    /// What is asked of the target after each step
    #[arg(long, value_enum, default_value = "counts")]
    pub check: CheckArg,
    /// How long a command of the plan's (--before-step, --after-step, --after-all) may take
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = read_duration)]
    pub hook_timeout: Duration,
    /// With --via import: how long to wait for one import operation. It goes on in the service, and
    /// the same command waits for it again
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = read_duration)]
    pub operation_timeout: Duration,
    /// Write what became of each kind to a file, also when it fails: JUnit XML for names that end
    /// in .xml, else JSON (repeatable)
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// Copy the companions of the archive to this folder when all steps are done; nothing there is
    /// overwritten
    #[arg(long, value_name = "DEST")]
    pub companions: Option<Location>,
    /// Where the journal is kept
    #[arg(long, value_name = "DEST")]
    pub journal: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum CheckArg {
    /// Nothing
    None,
    /// How many entities of the kind it holds
    Counts,
    /// Every entity
    Entities,
}
