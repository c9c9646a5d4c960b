//! `kindpack config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration, and show what it would run
    Check(ConfigCheckArgs),
}

#[derive(Debug, Args)]
pub struct ConfigCheckArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "kindpack.toml")]
    pub config: PathBuf,
    /// Check too that the folders and buckets of archives can be listed
    #[arg(long)]
    pub online: bool,
}
