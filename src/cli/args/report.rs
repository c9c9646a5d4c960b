//! `kindpack report`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::store::Location;

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Archive, or plan that `kindpack plan -o` wrote; a folder ending in `/` means the newest archive in it
    #[arg(value_name = "ARCHIVE|PLAN", value_hint = ValueHint::AnyPath)]
    pub archive_or_plan: Location,
    /// Choose among archives of this namespace, if ARCHIVE ends in `/`
    #[arg(
        long,
        value_name = "NAMESPACE",
        hide_short_help = true,
        help_heading = "Selection"
    )]
    pub namespace: Option<String>,
    /// Write the page to this file [default: standard output]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Journal of the restore [default: PLAN.journal]
    #[arg(long, value_name = "DEST", value_hint = ValueHint::FilePath, hide_short_help = true)]
    pub journal: Option<PathBuf>,
}
