//! `kindpack prune`.

use clap::{ArgGroup, Args, ValueHint};

use super::KeepArgs;
use crate::store::Location;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("policy").required(true).multiple(true).args(["keep_last", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"])))]
pub struct PruneArgs {
    /// Folder or bucket that holds the archives
    #[arg(value_hint = ValueHint::AnyPath)]
    pub dest: Location,
    /// Show what would be removed; remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Prune only archives of this namespace (`all`: archives of several namespaces)
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub keep: KeepArgs,
}
