//! `kindpack extract`.

use clap::{Args, ValueEnum, ValueHint};

use super::ArchiveArg;
use crate::model::Selector;
use crate::store::Location;

#[derive(Debug, Args)]
pub struct ExtractArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Folder or bucket to write to; existing files are never overwritten
    #[arg(value_hint = ValueHint::AnyPath)]
    pub dest: Location,
    /// Extract only these kinds: KIND or NAMESPACE/KIND (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub only: Vec<Selector>,
    /// Format of the extracted exports
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "original")]
    pub format: FormatArg,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum FormatArg {
    /// The files as they were packed
    Original,
    /// Exports that Google's import accepts; converts legacy backups
    Managed,
}
