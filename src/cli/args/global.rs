//! What every command takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueHint};

use crate::model::{read_duration, read_size};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print JSON, one event per line (`list`: the manifest)
    #[arg(long, global = true)]
    pub json: bool,
    /// Leave out progress, notes and summaries
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print more details; -vv also prints every request
    #[arg(long, short, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Hide the progress bar
    #[arg(long, global = true, hide_short_help = true)]
    pub no_progress: bool,
    /// Work on up to N pieces at once [default: the number of cores]
    #[arg(long, global = true, hide_short_help = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Limit for buffer memory
    #[arg(long, global = true, hide_short_help = true, value_name = "SIZE", default_value = "256MiB", value_parser = read_size)]
    pub memory: u64,
    /// age identity that opens encrypted archives (repeatable)
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identity: Vec<PathBuf>,
    /// Project to bill for requester-pays buckets
    #[arg(long, global = true, hide_short_help = true, value_name = "PROJECT")]
    pub billing_project: Option<String>,
    /// Give up on a request after this long without progress [default: 5m; emulator: 30s]
    #[arg(long, global = true, hide_short_help = true, value_name = "DURATION", value_parser = read_duration)]
    pub retry_timeout: Option<Duration>,
    /// Retry a request that has been idle for this long
    #[arg(long, global = true, hide_short_help = true, value_name = "DURATION", default_value = "30s", value_parser = read_duration)]
    pub idle_timeout: Duration,
}
