//! `kindpack verify`.

use clap::Args;

use super::ArchiveArg;
use crate::model::Selector;

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Structure and manifest only; no entry is read
    #[arg(long)]
    pub quick: bool,
    /// Read only the entries of these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR", conflicts_with = "quick")]
    pub only: Vec<Selector>,
    /// Structure and checksums of a zip that kindpack did not make
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    pub any_zip: bool,
}
