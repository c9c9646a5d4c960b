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

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};
use tracing::level_filters::LevelFilter;

use crate::runtime::workers::Workers;
use crate::store::{GcsClient, StoreRegistry};
use crate::targets::Timeouts;
use args::{Cli, Command};
use context::{CommandResult, Context};
pub use exit::ExitCode;
pub use failure::Failure;
use output::Ui;
use signals::{Signals, StopRequest};
use state_dir::StateFolder;
use text::Text;

/// The definition of the command line, which the documents are held against.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the arguments, runs the command, chooses the exit code.
pub fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
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
        Err(failure) => ui.fail(&failure),
    }
}

fn output_full() -> Failure {
    Failure::new(ExitCode::Service, "standard output took no more").prefix("cannot print")
}

/// Runs a command, until it ends or a signal ends it.
async fn run_until_stopped(context: &Context, command: Command) -> CommandResult {
    // A restore brings what is under way to its end; the others have nothing half written under a
    // final name.
    let stops_by_itself = matches!(command, Command::Restore(_));

    let mut signals = Signals::new();
    let mut command = pin!(commands::run(context, command));
    let code = tokio::select! {
        biased;
        code = signals.next() => code,
        ended = &mut command => return ended,
    };
    context.stop.request(code);
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

/// What clap says of wrong arguments, also as an event where events are requested.
fn usage(error: &clap::Error) -> std::process::ExitCode {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    match error.kind() {
        // A reader of the help may have seen enough of it.
        DisplayHelp | DisplayVersion => {
            error.print().ok();
            return ExitCode::Done.into();
        }
        DisplayHelpOnMissingArgumentOrSubcommand => drop(error.print()),
        _ => print_usage(error),
    }
    if std::env::args_os().any(|arg| arg == "--json") {
        output::print_event(&usage_event(&usage_text(error)));
    }
    ExitCode::Usage.into()
}

/// The last event of a command whose arguments are wrong. What clap says is a sentence, then
/// paragraphs with values, tips and the usage.
fn usage_event(text: &str) -> serde_json::Value {
    let mut paragraphs = text.split("\n\n").map(one_line);
    let sentence = paragraphs.next().unwrap_or_default();
    let hint: Vec<String> = paragraphs.collect();
    let mut event = serde_json::json!({
        "event": "failed", "code": ExitCode::Usage as u8, "error": sentence, "reasons": [sentence],
    });
    if let Some(fields) = event.as_object_mut().filter(|_| !hint.is_empty()) {
        fields.insert("hint".to_owned(), hint.join("; ").into());
    }
    event
}

/// A paragraph on one line.
fn one_line(paragraph: &str) -> String {
    let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
    lines.join(" ").trim().to_owned()
}

fn print_usage(error: &clap::Error) {
    let text = format!("kindpack: command line: {}", usage_text(error));
    output::print_error(Text::lines(text.lines()));
}

/// What clap says, without its own prefix. Of a value that cannot be read our own sentence says
/// all; clap would repeat the value.
fn usage_text(error: &clap::Error) -> String {
    invalid_value(error).unwrap_or_else(|| {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        with_own_tip(error, text)
    })
}

/// What clap says, with a tip of our own where an argument is one that another place takes. Clap's
/// tip to pass an unknown option as a value helps nobody.
fn with_own_tip(error: &clap::Error, text: &str) -> String {
    let is_useless = |line: &str| line.trim_start().starts_with("tip: to pass '");
    let text = text
        .split("\n\n")
        .filter(|paragraph| !is_useless(paragraph));
    let mut paragraphs: Vec<String> = text.map(|text| text.trim_end().to_owned()).collect();
    if let Some(tip) = own_tip(error) {
        paragraphs.insert(1.min(paragraphs.len()), format!("  tip: {tip}"));
    }
    paragraphs.join("\n\n")
}

/// What to write instead of an argument that is not known.
fn own_tip(error: &clap::Error) -> Option<String> {
    let ContextValue::String(found) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    let target = ["emulator:", "datastore:", "dir:", "ndjson:"];
    match found.as_str() {
        "--force" if has_option("overwrite") => Some("write --overwrite".to_owned()),
        "-n" if has_option("dry-run") => Some("write --dry-run".to_owned()),
        found if target.iter().any(|word| found.starts_with(word)) && has_option("target") => {
            Some(format!("write --target {found}"))
        }
        _ => None,
    }
}

/// Whether the command that was typed has a long option.
fn has_option(long: &str) -> bool {
    let root = command();
    let mut words = std::env::args_os().skip(1);
    let command = words.find_map(|word| root.find_subcommand(word).cloned());
    command.is_some_and(|command| {
        let mut options = command.get_arguments();
        options.any(|option| option.get_long() == Some(long))
    })
}

/// The sentence of a value that cannot be read.
fn invalid_value(error: &clap::Error) -> Option<String> {
    let source = std::error::Error::source(error)?.to_string();
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    };
    let (arg, value) = (
        text(ContextKind::InvalidArg)?,
        text(ContextKind::InvalidValue)?,
    );
    let name = arg.split(' ').next().unwrap_or(arg);
    let name = name.trim_matches(['<', '>', '[', ']', '.']);
    let is_no_number = [
        "invalid digit found in string",
        "number would be zero for non-zero type",
    ];
    if is_no_number.contains(&source.as_str()) {
        Some(format!(
            "{name}: {value:?} is not a whole number of at least 1"
        ))
    } else if source.contains(value.as_str()) {
        Some(format!("{name}: {source}"))
    } else {
        Some(format!("{name} {value:?}: {source}"))
    }
}
