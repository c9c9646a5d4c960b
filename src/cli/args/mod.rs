//! The arguments: names and forms are fixed by the contract in `docs/cli.md`, wording is free.

mod archive;
mod backup;
mod config;
mod extract;
mod global;
mod guide;
mod keep;
mod notify;
mod pack;
mod plan;
mod prune;
mod rehearse;
mod report;
mod restore;
mod values;
mod verify;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::model::Selector;
use crate::store::{GcsOptions, Location, UploadOptions};
use crate::targets::RETRY_TIMEOUT;

pub use archive::ArchiveArg;
pub use backup::BackupArgs;
pub use config::{ConfigCheckArgs, ConfigCommand};
pub use extract::{ExtractArgs, FormatArg};
pub use global::Global;
pub use guide::{Example, guide, wrapped};
pub use keep::KeepArgs;
pub use notify::NotifyArgs;
pub use pack::{ArchiveOptions, MethodArg, PackArgs};
pub use plan::{PlanArgs, PlanChoices};
pub use prune::PruneArgs;
pub use rehearse::{EmulatorArg, RehearseArgs};
pub use report::ReportArgs;
pub use restore::{CheckArg, RestoreArgs};
pub use verify::VerifyArgs;

/// Back up Google Cloud Datastore into one verified zip, and restore it kind by kind
///
/// kindpack packs the exports of all kinds into one archive with checksums. It restores the archive
/// into a Datastore, an emulator or files, in the order of parents and references.
#[derive(Debug, Parser)]
#[command(
    name = "kindpack",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Begin with `kindpack demo`. `kindpack help COMMAND` shows examples.",
    after_long_help = guide::main_help()
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// How Cloud Storage is used by this command.
    pub fn cloud_options(&self) -> GcsOptions {
        GcsOptions {
            billing_project: self.global.billing_project.clone(),
            retry_timeout: self.global.retry_timeout.unwrap_or(RETRY_TIMEOUT),
            idle_timeout: self.global.idle_timeout,
        }
    }

    /// How this command writes archives to Cloud Storage.
    pub fn upload_options(&self) -> UploadOptions {
        match &self.command {
            Command::Pack(pack) => pack.shape.upload_options(),
            Command::Backup(backup) => backup.shape.upload_options(),
            _ => UploadOptions::default(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show all steps on a bundled backup; needs nothing installed
    #[command(after_long_help = guide::after_help("demo"))]
    Demo(EmulatorArg),
    /// Export all kinds of a Datastore and pack them into one verified archive
    #[command(after_long_help = guide::after_help("backup"))]
    Backup(Box<BackupArgs>),
    /// Pack finished exports into one archive
    #[command(after_long_help = guide::after_help("pack"))]
    Pack(PackArgs),
    /// List the kinds in an archive
    #[command(after_long_help = guide::after_help("list"))]
    List {
        #[command(flatten)]
        archive: ArchiveArg,
    },
    /// List the archives in a folder or bucket
    ///
    /// An archive is sealed when it is complete and its sidecar, the checksum file ARCHIVE.sha256,
    /// belongs to it.
    #[command(after_long_help = guide::after_help("archives"))]
    Archives {
        /// Folder or bucket that holds the archives
        #[arg(value_hint = ValueHint::AnyPath)]
        location: Location,
        /// List only archives of this namespace; `(default)` is the default one
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
    },
    /// Check every byte of an archive and list every problem
    #[command(after_long_help = guide::after_help("verify"))]
    Verify(VerifyArgs),
    /// Print the entities of a kind as JSON, one per line
    #[command(after_long_help = guide::after_help("cat"))]
    Cat {
        #[command(flatten)]
        archive: ArchiveArg,
        /// KIND (in every namespace) or NAMESPACE/KIND; `*` and `?` match
        selector: Selector,
    },
    /// Extract the exports to a folder or bucket
    #[command(after_long_help = guide::after_help("extract"))]
    Extract(ExtractArgs),
    /// Show the order in which an archive would be restored, and why
    #[command(override_usage = "kindpack plan [OPTIONS] --target <TARGET> <ARCHIVE>", after_long_help = guide::after_help("plan"))]
    Plan(PlanArgs),
    /// Restore an archive, or run a saved plan
    #[command(after_long_help = guide::after_help("restore"))]
    Restore(RestoreArgs),
    /// Test restore: load the archive into a private emulator and compare every entity
    #[command(after_long_help = guide::after_help("rehearse"))]
    Rehearse(RehearseArgs),
    /// Show the progress of a restore
    #[command(after_long_help = guide::after_help("status"))]
    Status {
        /// Plan that `kindpack plan -o` wrote
        #[arg(value_hint = ValueHint::FilePath)]
        plan: PathBuf,
        /// Exit with 7 if the restore is not complete
        #[arg(long)]
        require_complete: bool,
        /// Journal of the restore [default: PLAN.journal]
        #[arg(long, value_name = "DEST", value_hint = ValueHint::FilePath)]
        journal: Option<PathBuf>,
    },
    /// Write one HTML page about an archive, a plan or a restore
    #[command(after_long_help = guide::after_help("report"))]
    Report(ReportArgs),
    /// Remove old archives according to a keep policy
    #[command(
        override_usage = "kindpack prune [OPTIONS] --keep-daily <N> <DEST>",
        after_long_help = guide::after_help("prune")
    )]
    Prune(PruneArgs),
    /// Check the configuration file
    #[command(subcommand, after_long_help = guide::after_help("config"))]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    #[command(after_long_help = guide::after_help("completions"))]
    Completions {
        /// Shell to complete in
        shell: Shell,
    },
    /// Write manual pages to a folder
    #[command(after_long_help = guide::after_help("man"))]
    Man {
        /// Folder for the pages; created if needed
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
