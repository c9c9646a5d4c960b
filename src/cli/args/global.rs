//! What every command takes.

use std::time::Duration;

use clap::{ArgAction, Args};

use crate::model::{read_duration, read_size};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "For every command")]
pub struct Global {
    /// Print machine-readable JSON: one event a line (`list`: the manifest)
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more about what is done (repeatable)
    #[arg(long, short, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// How many things to do at once (default: the cores)
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Ceiling of the buffers
    #[arg(long, global = true, value_name = "SIZE", default_value = "256MiB", value_parser = read_size)]
    pub memory: u64,
    /// Draw no progress bar
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// The project that pays for requests to buckets whose requester pays
    #[arg(long, global = true, value_name = "PROJECT")]
    pub billing_project: Option<String>,
    /// How long a call to Cloud Storage or Datastore is tried while nothing comes through [default:
    /// 5m, an emulator 30s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = read_duration)]
    pub retry_timeout: Option<Duration>,
    /// How long a call to Cloud Storage or Datastore may be silent before it is tried again
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = read_duration)]
    pub idle_timeout: Duration,
}
