//! The archive that a command reads.

use clap::Args;

use crate::store::Location;

#[derive(Debug, Args)]
pub struct ArchiveArg {
    /// The archive; ending in `/`, the newest one in that folder
    pub archive: Location,
    /// With ARCHIVE ending in `/`: only archives of this namespace (`(default)` for the default
    /// one)
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}
