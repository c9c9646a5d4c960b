//! `kindpack backup FROM EXPORTS ARCHIVE`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::backup::{
    BackupEstimate, BackupRequest, BackupResult, ExportedKind, FailedKind, KindEstimate,
    KindSelection, OPERATION_TIMEOUT, QueueOptions, QueueSettings, check_archive_name,
    check_exports_location, estimate,
};
use crate::cli::app_backup;
use crate::cli::app_config::{CONFIG_FILE, read_config};
use crate::cli::args::BackupArgs;
use crate::cli::backup_run::open;
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::input_file::read_input_file;
use crate::cli::output;
use crate::cli::packing::{
    check_archive_location, check_companions, check_encrypted_name, pack_request,
};
use crate::cli::plan_options::environment;
use crate::cli::text::shell_quote;
use crate::config::AppConfig;
use crate::model::{KindCounts, KindRef, Namespace, spelled_duration};
use crate::notify::MailOptions;
use crate::prune::KeepPolicy;
use crate::store::Location;

/// Longer files are no `queue.yaml`.
const MAX_QUEUE_BYTES: u64 = 1 << 20;

pub async fn run(context: &Context, args: BackupArgs) -> CommandResult {
    if args.from.is_none() {
        return run_apps(context, &args).await;
    }
    let is_dry_run = args.dry_run;
    let app = single(context, args).await?;
    if is_dry_run {
        return print_dry_run(context, &app, true)
            .await
            .map(|()| ExitCode::Done);
    }
    let result = app_backup::back_up(context, &app).await?;
    print_result(context, &app.backup, &result)
}

/// Shows what a backup would export.
async fn print_dry_run(context: &Context, app: &AppConfig, is_last: bool) -> Result<(), Failure> {
    check_exports_location(&app.backup)?;
    check_archive_name(&context.stores, &app.backup).await?;
    app_backup::warn_of_missing_secrets(context, app);
    let source = open(context, &app.backup)?;
    let has_quota = source.exporter.has_quota();
    let estimate = estimate(&source.kinds, &app.backup, has_quota, context.ui.as_ref()).await?;
    print_estimate(context, &estimate, is_last);
    if let Some(policy) = &app.keep {
        context.ui.info(prune_line(&app.archive_folder(), policy));
    }
    Ok(())
}

/// What a dry run says of the keep policy.
fn prune_line(folder: &Location, policy: &KeepPolicy) -> String {
    let mut line = format!(
        "A good backup prunes afterwards. Show what would go: kindpack prune {} --dry-run",
        shell_quote(&folder.to_string())
    );
    for (rule, number) in policy.rules() {
        let rule: &str = rule.into();
        write!(line, " --keep-{rule} {number}").ok();
    }
    line
}

/// A backup that no configuration names.
async fn single(context: &Context, args: BackupArgs) -> Result<AppConfig, Failure> {
    let notify = args.notify.options();
    let mail = notify.as_ref().and_then(|notify| notify.mail.as_ref());
    if mail.is_some_and(MailOptions::exposes_password) {
        return Err(
            Failure::usage("a password cannot be sent with --notify-mail-security none")
                .hint("use --notify-mail-security starttls or tls"),
        );
    }
    let keep = Some(args.keep.policy()).filter(|policy| !policy.is_empty());
    let is_folder = args.archive.as_ref().is_none_or(Location::is_folder_name);
    if keep.is_some() && !is_folder {
        return Err(Failure::usage("--keep-… needs a folder of archives")
            .hint("write ARCHIVE as a folder that ends in /"));
    }
    Ok(AppConfig {
        name: String::new(),
        queue_file: None,
        companions: args.shape.with.clone(),
        encrypt_to: args.shape.encrypt_to.clone(),
        signing_key_file: args.shape.sign.clone(),
        upload: args.shape.upload_options(),
        keep,
        notify,
        backup: request(context, args).await?,
    })
}

/// What to type where nothing says what is backed up.
const PLACES_HINT: &str = "run `kindpack backup datastore:PROJECT gs://BUCKET/exports/ gs://BUCKET/archives/`, or describe the backup in kindpack.toml";

/// The backups that the configuration describes, one after the other. One that fails does not stop
/// the next.
async fn run_apps(context: &Context, args: &BackupArgs) -> CommandResult {
    let path = args.config.as_deref().unwrap_or(Path::new(CONFIG_FILE));
    let config = read_config(path).await.map_err(|failure| {
        // A file with a fault says what is wrong with it.
        match path.exists() {
            true => failure,
            false => failure.or_hint(PLACES_HINT),
        }
    })?;
    let apps = config.choose_apps(&args.app)?;
    let mut failures = Vec::new();
    for app in &apps {
        if let Err(failure) = run_app(context, app, args, apps.len() == 1).await {
            failures.push((app.name.as_str(), failure));
        }
    }
    match failures.len() {
        0 if apps.len() == 1 => Ok(ExitCode::Done),
        0 => {
            context.ui.done(json!({"apps": apps.len()}));
            Ok(ExitCode::Done)
        }
        _ => Err(join_failures(failures)),
    }
}

/// One backup of the configuration. The only one prints the last event.
async fn run_app(
    context: &Context,
    app: &AppConfig,
    args: &BackupArgs,
    is_only: bool,
) -> Result<(), Failure> {
    let ui = &context.ui;
    let mut app = app_backup::prepare(context, app).await?;
    app.backup.starts_anew = args.new;
    ui.info(ui.bold(&app.name));
    if args.dry_run {
        return print_dry_run(context, &app, is_only).await;
    }
    let result = app_backup::back_up(context, &app).await?;
    if is_only {
        return print_result(context, &app.backup, &result).map(drop);
    }
    let Some(archive) = &result.archive else {
        return Err(partial(&result));
    };
    show_result(context, &app.backup, &result, archive);
    ui.json_event(&json!({
        "event": "backup", "app": app.name, "backup": result.id, "archive": archive, "sha256": result.sha256,
        "kinds": result.kinds.len(), "missing": result.missing,
    }));
    Ok(())
}

/// All failures as one, with the highest of their codes.
fn join_failures(failures: Vec<(&str, Failure)>) -> Failure {
    let worst = failures.iter().map(|(_, failure)| failure.code);
    let code = worst.max_by_key(|code| *code as u8);
    let hint = failures
        .iter()
        .find_map(|(_, failure)| failure.hint.clone());
    let why = failures
        .iter()
        .flat_map(|(name, failure)| failure.why.iter().map(move |why| format!("{name}: {why}")));
    let mut joined = Failure::with_reasons(code.unwrap_or(ExitCode::Internal), why.collect());
    joined.hint = hint;
    joined
}

/// The backup that the arguments describe.
async fn request(context: &Context, args: BackupArgs) -> Result<BackupRequest, Failure> {
    let (Some(from), Some(exports), Some(archive)) = (&args.from, &args.exports, &args.archive)
    else {
        return Err(Failure::usage("FROM, EXPORTS and ARCHIVE are missing").hint(PLACES_HINT));
    };
    check_archive_location(context, archive)?;
    check_companions(("EXPORTS", exports), &args.shape.with, archive)?;
    let pack = pack_request(context, &args.shape).await?;
    check_encrypted_name(archive, &pack)?;
    let namespaces = args.namespace.iter();
    Ok(BackupRequest {
        source: from.clone().resolve(&environment())?,
        exports: exports.clone(),
        archive: archive.clone(),
        kinds: KindSelection {
            namespaces: namespaces.map(|it| Namespace::parse_display(it)).collect(),
            only: args.only.clone(),
            exclude: args.exclude.clone(),
        },
        queue: queue(&args).await?,
        operation_timeout: args.operation_timeout.unwrap_or(OPERATION_TIMEOUT),
        snapshot_time: args.snapshot_time,
        allow_missing: args.allow_missing.clone(),
        delete_exports: args.delete_exports,
        starts_anew: args.new,
        pack,
    })
}

/// The queue: what is typed, else what a file says, else the defaults.
async fn queue(args: &BackupArgs) -> Result<QueueOptions, Failure> {
    let mut options = QueueOptions::default();
    if let Some(file) = &args.queue {
        let text = read_input_file(&file.path, MAX_QUEUE_BYTES).await?;
        let settings = QueueSettings::read(&text, file.name.as_deref());
        let settings = settings.map_err(|error| {
            Failure::usage(format!("{}: {error}", file.path.display()))
                .hint("name one of its queues with --queue FILE:NAME")
        })?;
        options = settings.over(options);
    }
    Ok(QueueOptions {
        rate: args.rate.unwrap_or(options.rate),
        bucket_size: args.bucket_size.unwrap_or(options.bucket_size),
        max_concurrent: args.max_concurrent.unwrap_or(options.max_concurrent),
        max_attempts: args.max_attempts.unwrap_or(options.max_attempts),
        ..options
    })
}

fn print_result(
    context: &Context,
    request: &BackupRequest,
    result: &BackupResult,
) -> CommandResult {
    let Some(archive) = &result.archive else {
        return Err(partial(result));
    };
    let ui = &context.ui;
    show_result(context, request, result, archive);
    let quoted = shell_quote(archive);
    ui.info(format!(
        "Next: kindpack restore {quoted} --target emulator:PROJECT"
    ));
    ui.done(json!({
        "backup": result.id, "archive": archive, "sha256": result.sha256, "bytes": result.bytes.unwrap_or_default(),
        "kinds": held_counts(result).exports, "entities": entities(result), "missing": result.missing, "snapshot_time": result.snapshot_time,
        "started": result.started, "finished": result.finished, "seconds": seconds(result),
    }));
    Ok(ExitCode::Done)
}

/// What a backup has come to, for people.
fn show_result(context: &Context, request: &BackupRequest, result: &BackupResult, archive: &str) {
    let ui = &context.ui;
    for kind in &result.failed {
        ui.warn(format!("{} is missing: {}", pair(kind), kind.error));
    }
    ui.info(format!(
        "Backed up {}: {}",
        output::exports(&held_counts(result)),
        output::counted(entities(result), "entity", "entities")
    ));
    let bytes = result.bytes.unwrap_or_default();
    ui.info(format!("  into    {archive}, {}", output::bytes(bytes)));
    if let Some(sha256) = result.sha256 {
        ui.info(format!("  sha256  {sha256}"));
    }
    let exports = request.exports.below(&format!("{}/", result.id));
    let fate = if request.delete_exports {
        "exports deleted from"
    } else {
        "exports kept in"
    };
    ui.info(format!("  {fate} {exports}"));
    ui.info(format!("  in      {} s", seconds(result)));
}

fn entities(result: &BackupResult) -> u64 {
    result.kinds.iter().filter_map(|kind| kind.entities).sum()
}

fn seconds(result: &BackupResult) -> u64 {
    result.finished.since(result.started).as_secs()
}

/// What was exported and holds entities.
fn held_counts(result: &BackupResult) -> KindCounts {
    let held = |kind: &&ExportedKind| kind.entities.is_some_and(|count| count > 0);
    let held: Vec<&ExportedKind> = result.kinds.iter().filter(held).collect();
    KindCounts::new(
        held.len(),
        held.iter().map(|kind| (&kind.namespace, &kind.kind)),
    )
}

/// How a backup ends that lacks kinds which may not be missing.
fn partial(result: &BackupResult) -> Failure {
    let why = result.failed.iter().map(|kind| {
        let advice = kind.advice.iter().map(|advice| format!(" ({advice})"));
        format!(
            "{}: {}{}",
            pair(kind),
            kind.error,
            advice.collect::<String>()
        )
    });
    let allowed = result
        .failed
        .iter()
        .map(|kind| format!("--allow-missing {}", shell_quote(&pair(kind).to_string())));
    let allowed = allowed.collect::<Vec<_>>().join(" ");
    Failure::with_reasons(ExitCode::Partial, why.collect()).hint(format!(
        "run the same command again to retry what failed, or add {allowed} to make the archive without it"
    ))
}

fn pair(kind: &FailedKind) -> KindRef {
    KindRef {
        namespace: kind.namespace.clone(),
        kind: kind.kind.clone(),
    }
}

/// A table for people, an event a kind for machines.
fn print_estimate(context: &Context, estimate: &BackupEstimate, is_last: bool) {
    let ui = &context.ui;
    for kind in &estimate.kinds {
        ui.json_event(&json!({
            "event": "kind", "namespace": kind.namespace, "kind": kind.kind, "entities": kind.entities, "bytes": kind.bytes,
            "share": kind.share,
        }));
    }
    let has_statistics = estimate.statistics_time.is_some();
    let heads = ["NAMESPACE", "KIND", "ENTITIES", "BYTES", "SHARE"];
    let columns = if has_statistics { heads.len() } else { 2 };
    let rows = estimate.kinds.iter().map(|kind| {
        let mut row = estimate_row(kind);
        row.truncate(columns);
        row
    });
    let heads = heads.get(..columns).unwrap_or(&heads);
    ui.say_lines(ui.table(heads, &[2, 3, 4], rows));
    for line in estimate_lines(estimate) {
        ui.info(line);
    }
    if !is_last {
        return;
    }
    ui.done(json!({
        "dry_run": true, "kinds": estimate.kinds.len(), "billed_reads": estimate.billed_reads, "bytes": estimate.bytes,
        "uncounted_kinds": estimate.uncounted_kinds, "requests": estimate.requests, "queue_seconds": estimate.queue_seconds,
        "statistics_time": estimate.statistics_time,
    }));
}

fn estimate_row(kind: &KindEstimate) -> Vec<String> {
    let unknown = || "-".to_owned();
    vec![
        kind.namespace.to_string(),
        kind.kind.to_string(),
        kind.entities.map_or_else(unknown, output::count),
        kind.bytes.map_or_else(unknown, output::short_bytes),
        kind.share
            .map_or_else(unknown, |share| format!("{:.1} %", 100.0 * share)),
    ]
}

/// What the table comes to.
fn estimate_lines(estimate: &BackupEstimate) -> Vec<String> {
    let kinds = output::counted(estimate.kinds.len() as u64, "kind", "kinds");
    let requests = output::counted(estimate.requests, "export request", "export requests");
    let wait = match estimate.queue_seconds {
        seconds @ ..120 => output::counted(seconds, "second", "seconds"),
        seconds => output::counted(seconds.div_ceil(60), "minute", "minutes"),
    };
    let mut lines = vec![
        String::new(),
        format!("{kinds}, {requests}; the queue needs at least {wait} to start them"),
    ];
    let Some(time) = estimate.statistics_time else {
        lines.push(
            "There are no statistics: entities, bytes and billed reads are unknown.".to_owned(),
        );
        return lines;
    };
    let reads = output::counted(estimate.billed_reads, "billed read", "billed reads");
    let age = spelled_duration(crate::backup::now().since(time));
    lines.push(format!(
        "{reads}, {}, by statistics of {time} ({age} old)",
        output::bytes(estimate.bytes)
    ));
    if estimate.uncounted_kinds > 0 {
        let uncounted = output::counted(estimate.uncounted_kinds, "kind", "kinds");
        lines.push(format!(
            "{uncounted} without statistics are not in these sums"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn dry_run_names_the_matching_prune_command() {
        let policy = KeepPolicy {
            last: NonZeroU32::new(3),
            weekly: NonZeroU32::new(8),
            ..KeepPolicy::default()
        };
        let folder = "my archives/".parse().unwrap();
        assert_eq!(
            prune_line(&folder, &policy),
            "A good backup prunes afterwards. Show what would go: kindpack prune 'my archives/' \
             --dry-run --keep-last 3 --keep-weekly 8"
        );
    }
}
