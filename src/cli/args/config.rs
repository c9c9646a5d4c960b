//! `kindpack config`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::guide::after_help;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration file and show what it would run
    #[command(after_long_help = after_help("config check"))]
    Check(ConfigCheckArgs),
}

#[derive(Debug, Args)]
pub struct ConfigCheckArgs {
    /// Configuration file to check
    #[arg(long, value_name = "FILE", default_value = "kindpack.toml", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// Also check that the folders and buckets can be listed
    #[arg(long)]
    pub online: bool,
}
