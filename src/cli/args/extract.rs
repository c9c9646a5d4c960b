//! `kindpack extract`.

use clap::{Args, ValueEnum};

use super::ArchiveArg;
use crate::model::Selector;
use crate::store::Location;

#[derive(Debug, Args)]
pub struct ExtractArgs {
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// The folder to write into; nothing there is overwritten
    pub dest: Location,
    /// Only these kinds (repeatable)
    #[arg(long, value_name = "SELECTOR")]
    pub only: Vec<Selector>,
    /// `original`: the objects as they were; `managed`: legacy backups become exports that Google's
    /// import accepts
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "original")]
    pub format: FormatArg,
}

#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum FormatArg {
    Original,
    Managed,
}
