//! `kindpack pack`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};

use crate::model::{Selector, read_duration, read_size};
use crate::store::{Location, UploadOptions};

#[derive(Debug, Args)]
pub struct PackArgs {
    /// Folder or bucket prefix that contains the exports (searched recursively)
    #[arg(value_hint = ValueHint::AnyPath)]
    pub source: Location,
    /// Archive to write; for a folder ending in `/`, kindpack chooses the name
    #[arg(value_hint = ValueHint::AnyPath)]
    pub archive: Location,
    /// Check that the backup is complete; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait up to this long for exports that are missing or unfinished
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = read_duration, hide_default_value = true)]
    pub wait: Duration,
    /// Pack only these kinds: KIND or NAMESPACE/KIND (repeatable)
    #[arg(long, value_name = "SELECTOR", help_heading = "Selection")]
    pub only: Vec<Selector>,
    /// Leave these kinds out (repeatable)
    #[arg(long, value_name = "SELECTOR", help_heading = "Selection")]
    pub exclude: Vec<Selector>,
    /// Use the newest export where a kind was exported several times
    #[arg(long, help_heading = "Selection")]
    pub latest: bool,
    /// Require a finished export for each line (SELECTOR) of FILE
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Selection")]
    pub expect: Option<PathBuf>,
    /// Read all data of an incomplete backup in a bucket, to report every problem
    #[arg(
        long,
        conflicts_with = "dry_run",
        hide_short_help = true,
        help_heading = "Selection"
    )]
    pub all_faults: bool,
    #[command(flatten)]
    pub shape: ArchiveOptions,
}

/// What shapes an archive, in `pack` and in `backup`.
#[derive(Debug, Args)]
pub struct ArchiveOptions {
    /// Replace an existing archive
    #[arg(long, help_heading = "Archive")]
    pub overwrite: bool,
    /// Also pack all files in this folder, such as images (repeatable)
    #[arg(long, value_name = "SOURCE", value_hint = ValueHint::AnyPath, help_heading = "Archive")]
    pub with: Vec<Location>,
    /// Sign the archive with this minisign secret key; writes ARCHIVE.minisig
    #[arg(long, value_name = "KEYFILE", value_hint = ValueHint::FilePath, help_heading = "Archive", hide_short_help = true)]
    pub sign: Option<PathBuf>,
    /// Encrypt the archive to this age recipient or file of recipients; writes ARCHIVE.age
    /// (repeatable)
    #[arg(
        long,
        value_name = "RECIPIENT",
        help_heading = "Archive",
        hide_short_help = true
    )]
    pub encrypt_to: Vec<String>,
    /// Compression method
    #[arg(
        long,
        value_enum,
        default_value = "deflate",
        hide_short_help = true,
        help_heading = "Archive"
    )]
    pub method: MethodArg,
    /// Compression level: 1 is fastest, 9 is smallest
    #[arg(long, value_name = "N", default_value = "6", value_parser = clap::value_parser!(u32).range(1..=9), hide_short_help = true, help_heading = "Archive")]
    pub level: u32,
    /// Limit for the time between the first and the last export
    ///
    /// With `pack --latest`, older exports are refused; without it, they cause a warning. `backup`
    /// resumes an unfinished backup only if it started less than this long ago.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = read_duration, hide_short_help = true, help_heading = "Archive")]
    pub max_spread: Duration,
    /// Pack these kinds even if the entity count differs from the metadata (repeatable)
    #[arg(
        long,
        value_name = "SELECTOR",
        hide_short_help = true,
        help_heading = "Archive"
    )]
    pub accept_count: Vec<Selector>,
    /// Storage class of the archive [default: that of the bucket]
    #[arg(
        long,
        value_name = "CLASS",
        hide_short_help = true,
        help_heading = "Upload"
    )]
    pub storage_class: Option<String>,
    /// Cloud KMS key that encrypts the archive [default: that of the bucket]
    #[arg(
        long,
        value_name = "KEY",
        hide_short_help = true,
        help_heading = "Upload"
    )]
    pub kms_key: Option<String>,
    /// Upload archives larger than this in parts
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = read_size, hide_short_help = true, help_heading = "Upload")]
    pub upload_cutoff: u64,
    /// Size of each part; up to five parts are in memory at once
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = read_size, hide_short_help = true, help_heading = "Upload")]
    pub upload_chunk_size: u64,
    /// Keep the parts after the upload
    #[arg(long, hide_short_help = true, help_heading = "Upload")]
    pub keep_parts: bool,
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
    /// Compress every entry
    Deflate,
    /// Store entries without compression
    Store,
}
