//! The archive that a command reads.

use clap::{Args, ValueHint};

use crate::store::Location;

#[derive(Debug, Args)]
pub struct ArchiveArg {
    /// Path or gs:// address of the archive; a folder ending in `/` means the newest one in it
    #[arg(value_hint = ValueHint::AnyPath)]
    pub archive: Location,
    /// Choose among archives of this namespace, if ARCHIVE ends in `/`
    #[arg(
        long,
        value_name = "NAMESPACE",
        hide_short_help = true,
        help_heading = "Selection"
    )]
    pub namespace: Option<String>,
}
