//! `kindpack backup`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

use super::ArchiveOptions;
use crate::backup::{BackupSource, QueueFileRef, Rate, SnapshotTime};
use crate::model::Selector;
use crate::store::Location;

/// What belongs to a single backup, not beside a configuration. Each option is named, so that clap
/// names the one that was typed.
const OF_ONE_BACKUP: [&str; 12] = [
    "from",
    "max_spread",
    "accept_count",
    "with",
    "method",
    "level",
    "overwrite",
    "storage_class",
    "kms_key",
    "keep_parts",
    "upload_cutoff",
    "upload_chunk_size",
];

#[derive(Debug, Args)]
#[command(mut_group("ArchiveOptions", |group| group.requires("from")))]
pub struct BackupArgs {
    /// The Datastore: datastore:PROJECT[/DATABASE] or emulator:PROJECT[@HOST:PORT]
    #[arg(requires = "archive")]
    pub from: Option<BackupSource>,
    /// The folder of the exports: gs://BUCKET/NAME, for an emulator a local path
    pub exports: Option<Location>,
    /// The archive to make; ending in `/`, its name is chosen
    pub archive: Option<Location>,
    /// Back up the applications of this configuration, where FROM is not given [default:
    /// kindpack.toml]
    #[arg(long, value_name = "FILE", conflicts_with_all = OF_ONE_BACKUP)]
    pub config: Option<PathBuf>,
    /// Back up only this application of the configuration (repeatable)
    #[arg(long, value_name = "NAME", conflicts_with_all = OF_ONE_BACKUP)]
    pub app: Vec<String>,
    /// Back up only this namespace; `(default)` is the default one (repeatable)
    #[arg(long, value_name = "NAMESPACE", requires = "from")]
    pub namespace: Vec<String>,
    /// Back up only these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR", requires = "from")]
    pub only: Vec<Selector>,
    /// Do not back up these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR", requires = "from")]
    pub exclude: Vec<Selector>,
    /// Take the numbers of the queue from an App Engine queue.yaml
    #[arg(long, value_name = "FILE[:NAME]", requires = "from")]
    pub queue: Option<QueueFileRef>,
    /// Start exports at this rate on average [default: 10/s]
    #[arg(long, value_name = "RATE", requires = "from")]
    pub rate: Option<Rate>,
    /// Start up to N exports at once after a pause [default: 1]
    #[arg(long, value_name = "N", requires = "from")]
    pub bucket_size: Option<NonZeroU32>,
    /// Run up to N exports at once [default: 1]
    #[arg(long, value_name = "N", requires = "from")]
    pub max_concurrent: Option<NonZeroU32>,
    /// Try the export of a kind up to N times [default: 10]
    #[arg(long, value_name = "N", requires = "from")]
    pub max_attempts: Option<NonZeroU32>,
    /// Export the data of one instant: `now`, or a whole minute such as 2026-01-31T02:15:00Z
    #[arg(long, value_name = "TIME", requires = "from")]
    pub snapshot_time: Option<SnapshotTime>,
    /// Make the archive even if the export of these kinds fails (repeatable)
    #[arg(long, value_name = "SELECTOR", requires = "from")]
    pub allow_missing: Vec<Selector>,
    /// Delete the exports once the archive has been verified in full
    #[arg(long, requires = "from")]
    pub delete_exports: bool,
    /// Start another backup, even if one is unfinished
    #[arg(long)]
    pub new: bool,
    /// Show what would be exported and what it costs; change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub shape: ArchiveOptions,
}
