//! The command line: arguments in; tables, progress, events, hints and exit codes out. The only
//! place that prints.

mod app_backup;
mod app_config;
mod args;
mod backup_report;
mod backup_run;
mod commands;
mod confirm;
mod context;
mod exit;
mod failure;
mod file_head;
mod input_file;
mod kept_plans;
mod keys;
mod load_plan;
mod numbers;
mod open_archive;
mod output;
mod output_file;
mod packing;
mod phase;
mod plan_options;
mod plan_view;
mod progress_line;
mod prune_view;
mod restore_summary;
mod signals;
mod state_dir;
mod table;
mod text;
mod trace;
mod usage;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use clap::{CommandFactory as _, Parser as _};
use tracing::level_filters::LevelFilter;

use crate::runtime::workers::Workers;
use crate::store::{GcsClient, StoreRegistry};
use crate::targets::Timeouts;
use args::{Cli, Command};
use context::{CommandResult, Context};
pub use exit::ExitCode;
pub use failure::Failure;
use failure::PlaceNames;
use keys::IdentityFiles;
use output::Ui;
use signals::{Signals, StopRequest};
use state_dir::StateFolder;

/// The definition of the command line, which the documents are held against.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the arguments, runs the command, chooses the exit code.
pub fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error),
    };
    let ui = Arc::new(Ui::new(
        &cli.global,
        matches!(cli.command, Command::List { .. }),
    ));
    let level = match cli.global.verbose {
        0 | 1 => LevelFilter::WARN,
        _ => LevelFilter::DEBUG,
    };
    trace::print_events(&ui, level);
    let jobs = cli.global.jobs.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    let context = Context {
        ui: ui.clone(),
        workers: Workers::new(jobs, cli.global.memory),
        stores: StoreRegistry::with(GcsClient::new(cli.cloud_options()).observed_by(ui.clone()))
            .with_upload(cli.upload_options()),
        stop: StopRequest::default(),
        state: StateFolder::default(),
        identities: IdentityFiles::new(cli.global.identity.clone()),
        names: PlaceNames::default(),
        timeouts: Timeouts {
            retry: cli.global.retry_timeout,
            idle: cli.global.idle_timeout,
        },
    };
    // A worker a core, and some threads for reads, writes and hashing: more would only hold memory.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(jobs.min(4))
        .max_blocking_threads(jobs + 6)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return ui.fail(&Failure::internal(error.to_string()).prefix("cannot start")),
    };
    if ui.prints_progress_lines() {
        let ui = ui.clone();
        runtime.spawn(phase::print_regularly(move || ui.print_progress_line()));
    }
    let ended = runtime.block_on(run_until_stopped(&context, cli.command));
    runtime.block_on(context.stores.finish_cleanup());
    // Work that is still under way writes nothing under a final name; it is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(_) if output::output_lost() => ui.fail(&output_full()),
        Ok(code) => code.into(),
        Err(failure) => ui.fail(&failure.with_names(&context.names)),
    }
}

fn output_full() -> Failure {
    Failure::new(ExitCode::Service, "cannot write to standard output").prefix("cannot print")
}

/// What helps after a stop where nothing is kept that a second run could continue.
const START_ANEW: &str = "run the same command again; it starts from the beginning";

/// Runs a command, until it ends or a signal ends it.
async fn run_until_stopped(context: &Context, command: Command) -> CommandResult {
    // A restore brings what is under way to its end; the others have nothing half written under a
    // final name.
    let stops_by_itself = matches!(command, Command::Restore(_));
    let is_backup = matches!(command, Command::Backup(_));
    let starts_anew = !matches!(
        command,
        Command::Restore(_) | Command::Backup(_) | Command::Extract(_)
    );

    let mut signals = Signals::new();
    let mut command = pin!(commands::run(context, command));
    let code = tokio::select! {
        biased;
        code = signals.next() => code,
        ended = &mut command => return ended,
    };
    context.stop.request(code);
    if starts_anew {
        return Err(context.stop.failure().hint(START_ANEW));
    }
    if is_backup {
        return Err(context
            .stop
            .failure_of("stopped; the exports that are finished are kept"));
    }
    if !stops_by_itself {
        return Err(context.stop.failure());
    }
    // What waits for an answer at the terminal, or reads its arguments, ends at once.
    if let Poll::Ready(ended) = futures_util::poll!(&mut command) {
        return ended;
    }
    context
        .ui
        .note("finishing what is running (press Ctrl-C again to stop now)");
    tokio::select! {
        biased;
        _ = signals.next() => Err(context.stop.failure_of("stopped at once: the journal knows what is safe, and a batch may be written twice")),
        ended = &mut command => ended,
    }
}
