//! `kindpack backup`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::values::PrefixParser;
use super::{ArchiveOptions, KeepArgs, NotifyArgs};
use crate::backup::{BackupSource, QueueFileRef, Rate, SnapshotTime};
use crate::model::{Selector, read_duration};
use crate::store::Location;

/// What belongs to a single backup, not beside a configuration. Each option is named, so that clap
/// names the one that was typed.
const OF_ONE_BACKUP: [&str; 32] = [
    "from",
    "operation_timeout",
    "max_spread",
    "accept_count",
    "with",
    "sign",
    "encrypt_to",
    "method",
    "level",
    "overwrite",
    "storage_class",
    "kms_key",
    "keep_parts",
    "upload_cutoff",
    "upload_chunk_size",
    "keep_last",
    "keep_daily",
    "keep_weekly",
    "keep_monthly",
    "keep_yearly",
    "notify_on",
    "notify_mail_to",
    "notify_mail_from",
    "notify_mail_host",
    "notify_mail_port",
    "notify_mail_security",
    "notify_mail_username",
    "notify_mail_password_env",
    "notify_mail_password_file",
    "notify_mail_ca_file",
    "notify_webhook_env",
    "notify_webhook_file",
];

#[derive(Debug, Args)]
#[command(mut_group("ArchiveOptions", |group| group.requires("from")))]
#[command(mut_group("KeepArgs", |group| group.requires("from")))]
#[command(mut_group("NotifyArgs", |group| group.requires("from")))]
pub struct BackupArgs {
    /// Datastore to back up: datastore:PROJECT[/DATABASE] or emulator:PROJECT[@HOST:PORT]
    #[arg(requires = "archive", value_parser = PrefixParser::<BackupSource>::datastore(), hide_possible_values = true)]
    pub from: Option<BackupSource>,
    /// Folder for the exports: gs://BUCKET/NAME, or a local path for an emulator
    #[arg(value_hint = ValueHint::AnyPath)]
    pub exports: Option<Location>,
    /// Archive to write; for a folder ending in `/`, kindpack chooses the name
    #[arg(value_hint = ValueHint::AnyPath)]
    pub archive: Option<Location>,
    /// Show what would be exported and its cost; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Configuration file to use instead of FROM [default: kindpack.toml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = OF_ONE_BACKUP)]
    pub config: Option<PathBuf>,
    /// Back up only this application of the file (repeatable)
    #[arg(long, value_name = "NAME", conflicts_with_all = OF_ONE_BACKUP)]
    pub app: Vec<String>,
    /// Start a new backup instead of resuming an unfinished one
    #[arg(long)]
    pub new: bool,
    /// Delete the exports after the archive has been verified
    #[arg(long, requires = "from")]
    pub delete_exports: bool,
    /// Back up only this namespace (repeatable)
    ///
    /// The default namespace is written `(default)`.
    #[arg(
        long,
        value_name = "NAMESPACE",
        requires = "from",
        help_heading = "Selection"
    )]
    pub namespace: Vec<String>,
    /// Back up only these kinds: KIND or NAMESPACE/KIND (repeatable)
    #[arg(
        long,
        value_name = "SELECTOR",
        requires = "from",
        help_heading = "Selection"
    )]
    pub only: Vec<Selector>,
    /// Leave these kinds out (repeatable)
    #[arg(
        long,
        value_name = "SELECTOR",
        requires = "from",
        help_heading = "Selection"
    )]
    pub exclude: Vec<Selector>,
    /// Write the archive even if these kinds cannot be exported (repeatable)
    #[arg(
        long,
        hide_short_help = true,
        value_name = "SELECTOR",
        requires = "from",
        help_heading = "Selection"
    )]
    pub allow_missing: Vec<Selector>,
    /// Export the data of one instant: `now`, or a minute such as 2026-01-31T02:15:00Z
    #[arg(
        long,
        hide_short_help = true,
        value_name = "TIME",
        requires = "from",
        help_heading = "Selection"
    )]
    pub snapshot_time: Option<SnapshotTime>,
    /// Read rate, bucket size, concurrency and retries from an App Engine queue.yaml
    #[arg(long, value_name = "FILE[:NAME]", requires = "from", value_hint = ValueHint::FilePath, help_heading = "Pace of the exports", hide_short_help = true)]
    pub queue: Option<QueueFileRef>,
    /// Start exports at this average rate [default: 10/s]
    #[arg(
        long,
        value_name = "RATE",
        requires = "from",
        help_heading = "Pace of the exports",
        hide_short_help = true
    )]
    pub rate: Option<Rate>,
    /// Start up to N exports at once after a pause [default: 1]
    #[arg(
        long,
        value_name = "N",
        requires = "from",
        help_heading = "Pace of the exports",
        hide_short_help = true
    )]
    pub bucket_size: Option<NonZeroU32>,
    /// Run up to N exports at once [default: 1]
    #[arg(
        long,
        value_name = "N",
        requires = "from",
        help_heading = "Pace of the exports"
    )]
    pub max_concurrent: Option<NonZeroU32>,
    /// Try the export of each kind up to N times [default: 10]
    #[arg(
        long,
        value_name = "N",
        requires = "from",
        help_heading = "Pace of the exports",
        hide_short_help = true
    )]
    pub max_attempts: Option<NonZeroU32>,
    /// Wait up to this long for each export [default: 24h]
    ///
    /// The export continues in the service; the same command waits for it again.
    #[arg(long, value_name = "DURATION", requires = "from", value_parser = read_duration, help_heading = "Pace of the exports", hide_short_help = true)]
    pub operation_timeout: Option<Duration>,
    #[command(flatten)]
    pub shape: ArchiveOptions,
    #[command(flatten)]
    pub keep: KeepArgs,
    #[command(flatten)]
    pub notify: NotifyArgs,
}
