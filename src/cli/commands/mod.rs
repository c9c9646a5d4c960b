//! One module a command: from arguments to the library, and from its answer to what is shown.

pub mod archive;
mod archives;
mod cat;
mod demo;
mod docs;
mod extract;
mod list;
pub mod pack;
pub mod plan;
pub mod rehearse;
pub mod restore;
mod status;
mod verify;

pub use crate::cli::plan_options::KEY_HINT;
pub use pack::shell;

use super::args::Command;
use super::failure::Failure;
use super::{Context, Ended};

/// Runs a command.
pub async fn run(context: &Context, command: Command) -> Ended {
    match command {
        Command::Demo => demo::run(context).await,
        Command::Backup { .. } => Err(Failure::not_yet("cannot back up", "backup")
            .hint("`kindpack pack` packs exports that are there")),
        Command::Pack(args) => pack::run(context, args).await,
        Command::List { archive } => list::run(context, &archive).await,
        Command::Archives {
            location,
            namespace,
        } => archives::run(context, &location, namespace.as_deref()).await,
        Command::Verify(args) => verify::run(context, args).await,
        Command::Cat { archive, selector } => cat::run(context, &archive, selector).await,
        Command::Extract(args) => extract::run(context, args).await,
        Command::Plan(args) => plan::run(context, args).await,
        Command::Restore(args) => restore::run(context, args).await,
        Command::Rehearse(args) => rehearse::run(context, args).await,
        Command::Status {
            plan,
            require_complete,
            journal,
        } => status::run(context, &plan, require_complete, journal).await,
        Command::Completions { shell } => docs::completions(context, shell),
        Command::Man { dir } => docs::man(context, &dir),
    }
}
