//! `kindpack config check`: what the configuration would run.

use std::path::Path;

use serde_json::{Value, json};

use crate::backup::{BackupRequest, QueueOptions, check_exports_location};
use crate::cli::app_backup::warn_of_missing_secrets;
use crate::cli::app_config::{read_config, with_queue_file};
use crate::cli::args::{ConfigCheckArgs, ConfigCommand};
use crate::cli::context::{CommandResult, Context};
use crate::cli::exit::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::plan_options::{all_rules, read_order};
use crate::config::{AppConfig, Config};
use crate::model::{Method, Selector, spelled_duration};
use crate::notify::NotifyOptions;
use crate::pack::PackRequest;
use crate::prune::{KeepPolicy, KeepRule};
use crate::store::{Location, StoreError, UploadOptions};

pub async fn run(context: &Context, command: ConfigCommand) -> CommandResult {
    let ConfigCommand::Check(args) = command;
    check(context, args).await
}

async fn check(context: &Context, args: ConfigCheckArgs) -> CommandResult {
    let ui = &context.ui;
    let config = read_config(&args.config).await;
    let config = config.map_err(|failure| failure_of_file(failure, &args.config))?;
    check_profiles(&config).await?;
    let profiles: Vec<&str> = config.profile_names().collect();
    if config.apps.is_empty() && profiles.is_empty() {
        let why = format!(
            "{} names no application and no profile",
            args.config.display()
        );
        return Err(Failure::usage(why)
            .hint("describe a backup as [app.NAME], or a restore as [profile.NAME]"));
    }
    for app in config.apps.values() {
        let app = with_queue_file(app.clone()).await?;
        if ui.is_json() {
            ui.json_event(&event(&app));
        } else {
            show(context, &app);
        }
        warn_of_missing_secrets(context, &app);
        check_exports_location(&app.backup)?;
        if args.online {
            check_online(context, &app).await?;
        }
    }
    if !profiles.is_empty() {
        ui.info(format!("profiles: {}", profiles.join(", ")));
    }
    let apps = output::counted(config.apps.len() as u64, "application", "applications");
    ui.info(format!("OK: {}: {apps}", args.config.display()));
    ui.done(json!({"apps": config.apps.len(), "profiles": profiles, "online": args.online}));
    Ok(ExitCode::Done)
}

/// The failure of a configuration, with what to do where there is none.
fn failure_of_file(failure: Failure, config: &Path) -> Failure {
    match config.exists() {
        true => failure,
        false => failure.hint("name another file with --config FILE; docs/nightly.md shows one"),
    }
}

/// Checks every profile, and reads the files that they name.
async fn check_profiles(config: &Config) -> Result<(), Failure> {
    for profile in config.profiles()? {
        read_order(profile.order_file.clone()).await?;
        all_rules(Vec::new(), profile.redact_file.as_deref(), &[]).await?;
    }
    Ok(())
}

/// Lists the places of an application; one that is not there yet is made by the first backup.
async fn check_online(context: &Context, app: &AppConfig) -> Result<(), Failure> {
    let places = [&app.backup.exports, &app.archive_folder()];
    for place in places {
        let listed = context.stores.folder(place).list_folder().await;
        match listed {
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn show(context: &Context, app: &AppConfig) {
    let ui = &context.ui;
    ui.info(ui.bold(&app.name));
    for (name, value) in facts(app) {
        ui.info(format!("  {name:<10} {value}"));
    }
}

/// What an application's backup is, in the words of the configuration.
fn facts(app: &AppConfig) -> Vec<(&'static str, String)> {
    let BackupRequest {
        source,
        exports,
        archive,
        kinds,
        queue,
        snapshot_time,
        ..
    } = &app.backup;
    let all_or = |names: Vec<String>| {
        if names.is_empty() {
            "all".to_owned()
        } else {
            names.join(", ")
        }
    };
    let optional = [
        ("exclude", join(&kinds.exclude)),
        ("snapshot", snapshot_time.map(|time| time.to_string())),
        (
            "missing",
            join(&app.backup.allow_missing).map(|kinds| format!("{kinds} may fail")),
        ),
        ("with", join(&app.companions)),
        ("keep", app.keep.as_ref().map(keep_words)),
        ("notify", app.notify.as_ref().map(notify_words)),
    ];
    let needed = [
        ("from", source.to_string()),
        ("exports", exports_words(exports, app.backup.delete_exports)),
        ("archive", archive.to_string()),
        ("pack", pack_words(app)),
        ("namespaces", all_or(strings(&kinds.namespaces))),
        kinds_fact(&kinds.only),
        ("queue", queue_words(queue)),
    ];
    let optional = optional
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    needed.into_iter().chain(optional).collect()
}

/// The kinds that are chosen, or that all of them are.
fn kinds_fact(only: &[Selector]) -> (&'static str, String) {
    match join(only) {
        Some(only) => ("only", only),
        None => ("kinds", "all".to_owned()),
    }
}

fn exports_words(exports: &Location, are_deleted: bool) -> String {
    if are_deleted {
        format!("{exports}, deleted after the archive is verified")
    } else {
        exports.to_string()
    }
}

/// The method, and each option that is not as it is by default.
fn pack_words(app: &AppConfig) -> String {
    let (pack, upload) = (&app.backup.pack, &app.upload);
    let (plain, plain_upload) = (PackRequest::default(), UploadOptions::default());
    let method = match pack.method {
        Method::Deflate => format!("deflate, level {}", pack.level),
        Method::Store => "store".to_owned(),
    };
    let accept_count = join(&pack.accept_count).map(|kinds| format!("any count of {kinds}"));
    let spread = pack.wanted.max_spread;
    let spread = (spread != plain.wanted.max_spread)
        .then(|| format!("starts within {}", spelled_duration(spread)));
    let class = upload.storage_class.as_ref();
    let key = upload.kms_key.as_ref();
    let signing_key = app.signing_key_file.as_ref();
    let optional = [
        (!app.encrypt_to.is_empty()).then(|| format!("encrypted to {}", app.encrypt_to.join(", "))),
        signing_key.map(|path| format!("signed with {}", path.display())),
        pack.overwrite.then(|| "overwrites".to_owned()),
        accept_count,
        spread,
        class.map(|class| format!("storage class {class}")),
        key.map(|key| format!("encrypted with {key}")),
        (upload.cutoff_bytes != plain_upload.cutoff_bytes)
            .then(|| format!("in parts above {}", output::bytes(upload.cutoff_bytes))),
        (upload.chunk_bytes != plain_upload.chunk_bytes)
            .then(|| format!("parts of {}", output::bytes(upload.chunk_bytes as u64))),
        upload.keep_parts.then(|| "keeps parts".to_owned()),
    ];
    let words = std::iter::once(method).chain(optional.into_iter().flatten());
    words.collect::<Vec<_>>().join(", ")
}

fn strings<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

fn join<T: ToString>(items: &[T]) -> Option<String> {
    (!items.is_empty()).then(|| strings(items).join(", "))
}

fn queue_words(queue: &QueueOptions) -> String {
    format!(
        "starts {} (bucket size {}), {} at once, {} attempts",
        queue.rate, queue.bucket_size, queue.max_concurrent, queue.max_attempts
    )
}

fn keep_words(policy: &KeepPolicy) -> String {
    let rules = policy.rules();
    let words = rules.map(|(rule, number)| format!("{number} {}", word(rule)));
    words.collect::<Vec<_>>().join(", ")
}

fn word(rule: KeepRule) -> &'static str {
    rule.into()
}

fn notify_words(options: &NotifyOptions) -> String {
    let mail = options.mail.as_ref().map(|mail| {
        let to: Vec<String> = mail.to.iter().map(|to| to.email.to_string()).collect();
        format!("mail to {} through {}", to.join(", "), mail.host)
    });
    let webhook = options.webhook.as_ref();
    let webhook = webhook.map(|webhook| format!("webhook in {}", webhook.url));
    let ways: Vec<String> = mail.into_iter().chain(webhook).collect();
    let when: &str = options.on.into();
    format!("{when}: {}", ways.join("; "))
}

fn event(app: &AppConfig) -> Value {
    let backup = &app.backup;
    json!({
        "event": "app",
        "app": app.name,
        "from": backup.source.to_string(),
        "exports": backup.exports.to_string(),
        "archive": backup.archive.to_string(),
        "namespaces": backup.kinds.namespaces,
        "only": strings(&backup.kinds.only),
        "exclude": strings(&backup.kinds.exclude),
        "queue": {
            "rate": backup.queue.rate,
            "bucket_size": backup.queue.bucket_size,
            "max_concurrent": backup.queue.max_concurrent,
            "max_attempts": backup.queue.max_attempts,
        },
        "snapshot": backup.snapshot_time,
        "allow_missing": strings(&backup.allow_missing),
        "delete_exports": backup.delete_exports,
        "pack": pack_words(app),
        "with": app.companions.iter().map(Location::to_string).collect::<Vec<_>>(),
        "keep": app.keep.as_ref().map(keep_words),
        "notify": app.notify.as_ref().map(notify_words),
    })
}
