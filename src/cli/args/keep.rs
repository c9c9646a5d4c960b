//! Which archives are kept, in `prune` and in `backup`.

use std::num::NonZeroU32;

use clap::Args;

use crate::prune::KeepPolicy;

/// A keep policy; empty where no option is given.
#[derive(Debug, Args)]
#[command(next_help_heading = "Keep policy")]
pub struct KeepArgs {
    /// Keep the N newest archives
    #[arg(long, value_name = "N")]
    pub keep_last: Option<NonZeroU32>,
    /// Keep the newest archive of each of the last N days
    ///
    /// A day without an archive does not count.
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<NonZeroU32>,
    /// Keep the newest archive of each of the last N weeks
    ///
    /// A week without an archive does not count.
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub keep_weekly: Option<NonZeroU32>,
    /// Keep the newest archive of each of the last N months
    ///
    /// A month without an archive does not count.
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub keep_monthly: Option<NonZeroU32>,
    /// Keep the newest archive of each of the last N years
    ///
    /// A year without an archive does not count.
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub keep_yearly: Option<NonZeroU32>,
}

impl KeepArgs {
    /// The policy of these options.
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
