//! `kindpack rehearse`.

use std::num::NonZeroU8;
use std::path::PathBuf;

use clap::Args;

use super::ArchiveArg;

#[derive(Debug, Args)]
pub struct RehearseArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Run that many kinds side by side, as far as they do not wait for one another
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true)]
    pub parallel: NonZeroU8,
    /// Write what became of each kind to a file, also when it fails: JUnit XML for names that end
    /// in .xml, else JSON (repeatable)
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
}
