//! `kindpack verify`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::ArchiveArg;
use crate::model::Selector;

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Check structure and manifest only; read no entity
    #[arg(long)]
    pub quick: bool,
    /// Check only the entries of these kinds: KIND or NAMESPACE/KIND (repeatable)
    #[arg(long, value_name = "SELECTOR", conflicts_with = "quick")]
    pub only: Vec<Selector>,
    /// Require a good signature in ARCHIVE.minisig by this minisign public key
    #[arg(long, value_name = "PUBKEYFILE", value_hint = ValueHint::FilePath)]
    pub trusted: Option<PathBuf>,
    /// Check structure and checksums of a zip made by another tool
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    pub any_zip: bool,
}
