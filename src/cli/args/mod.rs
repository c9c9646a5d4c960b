//! The arguments: names and forms are fixed by the contract in `docs/cli.md`, wording is free.

mod archive;
mod backup;
mod config;
mod extract;
mod global;
mod pack;
mod plan;
mod prune;
mod rehearse;
mod restore;
mod values;
mod verify;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::model::Selector;
use crate::store::{GcsOptions, Location, UploadOptions};
use crate::targets::RETRY_TIMEOUT;

pub use archive::ArchiveArg;
pub use backup::BackupArgs;
pub use config::{ConfigCheckArgs, ConfigCommand};
pub use extract::{ExtractArgs, FormatArg};
pub use global::Global;
pub use pack::{ArchiveOptions, MethodArg, PackArgs};
pub use plan::{PlanArgs, PlanChoices};
pub use prune::PruneArgs;
pub use rehearse::RehearseArgs;
pub use restore::{CheckArg, RestoreArgs};
pub use verify::VerifyArgs;

/// Packs the per-kind exports of Datastore into one checksummed zip, and restores them kind by
/// kind.
#[derive(Debug, Parser)]
#[command(
    name = "kindpack",
    version,
    propagate_version = true,
    max_term_width = 120
)]
#[command(
    after_help = "Exit codes: 0 done, 1 own fault, 2 wrong command line, 3 set incomplete, 4 damaged, 5 refused, 6 service failed, 7 partly done \
                        (the same command goes on), 130/143 interrupted.\nBegin with `kindpack demo`."
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
    /// Show the whole way on a bundled backup, with nothing installed
    Demo,
    /// Export each kind of a Datastore on its own, and pack the exports into one verified archive
    Backup(Box<BackupArgs>),
    /// Gather the finished per-kind exports below SOURCE into one zip
    Pack(PackArgs),
    /// Show what an archive holds
    List {
        #[command(flatten)]
        archive: ArchiveArg,
    },
    /// Show which archives lie in a folder
    Archives {
        /// The folder, gs://BUCKET/NAME or a local path
        location: Location,
        /// Only archives of this namespace (`(default)` for the default one)
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
    },
    /// Remove old archives by a keep policy
    Prune(PruneArgs),
    /// Read every byte of an archive and say all that is wrong
    Verify(VerifyArgs),
    /// Print entities, one REST JSON a line
    Cat {
        #[command(flatten)]
        archive: ArchiveArg,
        /// KIND (in every namespace) or NAMESPACE/KIND; `*` and `?` match
        selector: Selector,
    },
    /// Lay the entries down as objects again
    Extract(ExtractArgs),
    /// Make the ordered restore plan
    Plan(PlanArgs),
    /// Run a plan, or make and run one in one go
    Restore(RestoreArgs),
    /// Restore into a private emulator that is started for it, and compare every entity
    Rehearse(RehearseArgs),
    /// Show where a restore stands
    Status {
        /// The plan that `kindpack plan -o` wrote
        plan: PathBuf,
        /// Exit with 7 while anything is left to do
        #[arg(long)]
        require_complete: bool,
        /// Where the journal is (default: PLAN.journal)
        #[arg(long, value_name = "DEST")]
        journal: Option<PathBuf>,
    },
    /// Check the configuration of backups and restores
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script
    Completions { shell: Shell },
    /// Write manual pages into a folder
    Man {
        /// The folder; made when needed
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
