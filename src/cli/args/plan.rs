//! `kindpack plan`, and the choices that `kindpack restore ARCHIVE` takes as well.

use std::path::PathBuf;

use clap::Args;

use super::ArchiveArg;
use super::values::share;
use crate::model::{Sample, Selector, TargetSpec};
use crate::plan::{DependencyRule, NamespaceMap, OnExisting, WriteMethod};
use crate::transform::redact::Action;

#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    #[command(flatten)]
    pub choices: PlanChoices,
    /// Write the plan as JSON to this file
    #[arg(short, long, value_name = "PLAN")]
    pub output: Option<PathBuf>,
    /// Exit with 8 when there are steps to run, 0 when there are none
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Tell why these kinds stand where they stand, instead of showing the plan
    #[arg(long, value_name = "SELECTOR")]
    pub explain: Option<Selector>,
}

/// What shapes a plan; the same for `plan` and for `restore ARCHIVE`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct PlanChoices {
    /// emulator:PROJECT[@HOST:PORT], datastore:PROJECT[/DATABASE], dir:PATH or ndjson:PATH
    #[arg(long)]
    pub target: Option<TargetSpec>,
    /// Restore only these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub only: Vec<Selector>,
    /// Do not restore these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub exclude: Vec<Selector>,
    /// With --only or a sample: restore the parents of what is chosen too, and what it refers to
    #[arg(long)]
    pub with_dependencies: bool,
    /// Restore these before all others (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub first: Vec<Selector>,
    /// Restore these after all others (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub last: Vec<Selector>,
    /// A=B restores A once B is done (repeatable)
    #[arg(long, value_name = "A=B")]
    pub depends_on: Vec<DependencyRule>,
    /// A TOML file with lists `first`, `last` and `depends_on`, which join those of the command line
    #[arg(long, value_name = "FILE")]
    pub order_file: Option<PathBuf>,
    /// FROM=TO moves entities of one namespace, and references to them, to another (repeatable)
    #[arg(long, value_name = "FROM=TO")]
    pub map_namespace: Vec<NamespaceMap>,
    /// `fail` (default) refuses kinds that hold entities, `merge` overwrites the same keys and
    /// leaves others, `replace` deletes others
    #[arg(long, value_name = "HOW")]
    pub on_existing: Option<OnExisting>,
    /// How entities get into the target: `commit` (default), or `import`, the target's own
    #[arg(long, value_name = "HOW")]
    pub via: Option<WriteMethod>,
    /// With --via import: where exports are laid down meanwhile, gs://BUCKET/NAME for datastore:, a
    /// folder for emulator:
    #[arg(long, value_name = "DEST")]
    pub staging: Option<String>,
    #[arg(long, value_name = "RULE", help = redact_help())]
    pub redact: Vec<String>,
    /// Restore a share of each kind's entities, such as 5%
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "limit")]
    pub sample: Option<Sample>,
    /// Restore at most N entities of each kind; with --only and --with-dependencies, of each chosen
    /// kind
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Run a command before each step, through `sh -c`
    #[arg(long, value_name = "CMD")]
    pub before_step: Option<String>,
    /// Run a command behind each step
    #[arg(long, value_name = "CMD")]
    pub after_step: Option<String>,
    /// Run a command when all steps are done
    #[arg(long, value_name = "CMD")]
    pub after_all: Option<String>,
    /// Declare that the archive's source project itself is to be overwritten
    #[arg(long)]
    pub disaster_recovery: bool,
    /// Take choices from [profile.NAME] of the configuration; what is given here beats them
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// The configuration that holds the profile (default: kindpack.toml)
    #[arg(long, value_name = "FILE", requires = "profile")]
    pub config: Option<PathBuf>,
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
        "KIND.property={}, `*` in both places, `?` before it if it may match nothing; \
         or @FILE with a rule a line (repeatable)",
        Action::words()
    )
}
