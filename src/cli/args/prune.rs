//! `kindpack prune`.

use std::num::NonZeroU32;

use clap::{ArgGroup, Args};

use crate::prune::KeepPolicy;
use crate::store::Location;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("policy").required(true).multiple(true).args(["keep_last", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"])))]
pub struct PruneArgs {
    /// The folder of the archives, gs://BUCKET/NAME or a local path
    pub dest: Location,
    /// Keep the N newest archives of each namespace
    #[arg(long, value_name = "N")]
    pub keep_last: Option<NonZeroU32>,
    /// Keep the newest archive of each of the last N days that have one
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<NonZeroU32>,
    /// Keep the newest archive of each of the last N weeks that have one
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<NonZeroU32>,
    /// Keep the newest archive of each of the last N months that have one
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<NonZeroU32>,
    /// Keep the newest archive of each of the last N years that have one
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<NonZeroU32>,
    /// Only archives of this namespace (`(default)` for the default one, `all` for archives of
    /// several)
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl PruneArgs {
    /// The policy of these arguments.
    pub fn policy(&self) -> KeepPolicy {
        KeepPolicy {
            last: self.keep_last,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
        }
    }
}
