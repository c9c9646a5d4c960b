//! One module a command: from arguments to the library, and from its answer to what is shown.

mod archives;
mod backup;
mod cat;
mod completions;
mod config;
mod demo;
mod extract;
mod list;
mod man;
mod pack;
mod plan;
mod prune;
mod rehearse;
mod report;
mod restore;
mod status;
mod verify;

use super::args::Command;
use super::context::{CommandResult, Context};

/// Runs a command.
pub async fn run(context: &Context, command: Command) -> CommandResult {
    let prefix = failure_prefix(&command);
    let result = dispatch(context, command).await;
    result.map_err(|failure| failure.or_prefix(prefix))
}

/// What a command could not do when it fails.
fn failure_prefix(command: &Command) -> &'static str {
    match command {
        Command::Demo(_) => "cannot show the demo",
        Command::Backup(_) => "cannot back up",
        Command::Pack(_) => "cannot pack",
        Command::List { .. } => "cannot list",
        Command::Archives { .. } => "cannot list archives",
        Command::Prune(_) => "cannot prune",
        Command::Verify(_) => "cannot verify",
        Command::Cat { .. } => "cannot print entities",
        Command::Extract(_) => "cannot extract",
        Command::Plan(_) => "cannot plan",
        Command::Restore(_) => "cannot restore",
        Command::Rehearse(_) => "cannot rehearse",
        Command::Status { .. } => "cannot show the status",
        Command::Report(_) => "cannot report",
        Command::Config(_) => "cannot check the configuration",
        Command::Completions { .. } => "cannot print completions",
        Command::Man { .. } => "cannot write manual pages",
    }
}

async fn dispatch(context: &Context, command: Command) -> CommandResult {
    match command {
        Command::Demo(args) => demo::run(context, args.emulator).await,
        Command::Backup(args) => backup::run(context, *args).await,
        Command::Pack(args) => pack::run(context, args).await,
        Command::List { archive } => list::run(context, &archive).await,
        Command::Archives {
            location,
            namespace,
        } => archives::run(context, &location, namespace.as_deref()).await,
        Command::Report(args) => report::run(context, args).await,
        Command::Prune(args) => prune::run(context, args).await,
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
        Command::Config(command) => config::run(context, command).await,
        Command::Completions { shell } => completions::run(context, shell),
        Command::Man { dir } => man::run(context, &dir),
    }
}
