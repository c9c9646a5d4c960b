//! `kindpack pack`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::model::{Selector, read_duration, read_size};
use crate::store::{Location, UploadOptions};

#[derive(Debug, Args)]
pub struct PackArgs {
    /// The folder that the exports lie below, at any depth
    pub source: Location,
    /// The archive to make; ending in `/`, its name is chosen
    pub archive: Location,
    /// A list of selectors, one a line: each must be there and finished
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Wait that long for what is unfinished or missing, such as 2h or 90s
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = read_duration, hide_default_value = true)]
    pub wait: Duration,
    /// Pack only these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub only: Vec<Selector>,
    /// Do not pack these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub exclude: Vec<Selector>,
    /// Of two exports of one kind and namespace, take the newest
    #[arg(long)]
    pub latest: bool,
    /// Judge the set by its metadata, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Read the data of an incomplete set in a bucket all the same, to report every fault
    #[arg(long, conflicts_with = "dry_run")]
    pub all_faults: bool,
    #[command(flatten)]
    pub shape: ArchiveOptions,
}

/// What shapes an archive, in `pack` and in `backup`.
#[derive(Debug, Args)]
pub struct ArchiveOptions {
    /// How far apart the exports may start: with `pack --latest` an older one is refused, else
    /// there is a warning; an older unfinished backup is not resumed
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = read_duration)]
    pub max_spread: Duration,
    /// Pack these kinds even if their files hold more or fewer entities than the export's metadata
    /// count (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub accept_count: Vec<Selector>,
    /// Pack every object below this folder beside the exports, such as images (repeatable)
    #[arg(long, value_name = "SOURCE")]
    pub with: Vec<Location>,
    /// How entries are kept
    #[arg(long, value_enum, default_value = "deflate")]
    pub method: MethodArg,
    /// Deflate level: 1 is fast, 9 is small
    #[arg(long, value_name = "N", default_value = "6", value_parser = clap::value_parser!(u32).range(1..=9))]
    pub level: u32,
    /// Replace an archive of that name
    #[arg(long)]
    pub overwrite: bool,
    /// The storage class of an archive in a bucket (default: the bucket's own)
    #[arg(long, value_name = "CLASS")]
    pub storage_class: Option<String>,
    /// The Cloud KMS key that an archive in a bucket is encrypted with (default: the bucket's own)
    #[arg(long, value_name = "KEY")]
    pub kms_key: Option<String>,
    /// Leave the parts of an archive in a bucket there when it is finished
    #[arg(long)]
    pub keep_parts: bool,
    /// Archives in a bucket that may grow longer than this go up in parts
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = read_size)]
    pub upload_cutoff: u64,
    /// How long such a part is; five of them are in memory at once
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = read_size)]
    pub upload_chunk_size: u64,
}

impl ArchiveOptions {
    /// How an archive in a bucket is written.
    pub fn upload_options(&self) -> UploadOptions {
        UploadOptions {
            storage_class: self.storage_class.clone(),
            kms_key: self.kms_key.clone(),
            cutoff_bytes: self.upload_cutoff,
            chunk_bytes: usize::try_from(self.upload_chunk_size).unwrap_or(usize::MAX),
            keep_parts: self.keep_parts,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MethodArg {
    Deflate,
    Store,
}
