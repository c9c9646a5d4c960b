//! The backup of an application of the configuration: what follows it is pruning and telling.

use super::app_config::with_queue_file;
use super::backup_report::{report_failure, report_result};
use super::backup_run::{open, start};
use super::context::Context;
use super::failure::Failure;
use super::keys::{read_recipients, read_signing_key};
use super::packing::{
    check_archive_location, check_companions, check_deletion, check_encrypted_name,
};
use super::prune_view::{show_plan, show_result};
use crate::backup::{BackupResult, CompletedBackup};
use crate::cli::plan_options::environment;
use crate::config::AppConfig;
use crate::notify::{BackupReport, Notification, NotifyOptions, notify};
use crate::progress::{Event, Observer};
use crate::prune::{KeepPolicy, PrunePlan, PruneResult};

/// The application with all that its backup needs: the numbers of its queue, the address of its
/// emulator, the stores of its companions, its keys.
pub async fn prepare(context: &Context, app: &AppConfig) -> Result<AppConfig, Failure> {
    let mut app = with_queue_file(app.clone()).await?;
    let backup = &mut app.backup;
    check_archive_location(context, &backup.archive)?;
    check_companions(
        ("exports", &backup.exports),
        &app.companions,
        &backup.archive,
    )?;
    backup.source = backup.source.clone().resolve(&environment())?;
    let companions = app
        .companions
        .iter()
        .map(|with| context.stores.folder(with));
    backup.pack.companions = companions.collect();
    backup.pack.recipients = read_recipients(&app.encrypt_to).await?;
    check_encrypted_name(&backup.archive, &backup.pack)?;
    if let Some(path) = &app.signing_key_file {
        backup.pack.signing_key = Some(read_signing_key(path).await?);
    }
    Ok(app)
}

/// Backs up an application, prunes its archives after a good backup, and notifies.
///
/// # Errors
/// When there is no archive, or the archives cannot be pruned. It has been notified about by then.
pub async fn back_up(context: &Context, app: &AppConfig) -> Result<BackupResult, Failure> {
    check_deletion(context, &app.backup)?;
    warn_of_missing_secrets(context, app);
    let source = open(context, &app.backup);
    let stores = context.stores.with_upload(app.upload.clone());
    let completed = match source {
        Ok(source) => start(context, &stores, &app.backup, &source).await,
        Err(failure) => Err(failure),
    };
    let mut completed = match completed {
        Ok(completed) => completed,
        Err(failure) => {
            tell(context, app, report_failure(app, &failure), None).await;
            return Err(failure);
        }
    };
    let pruned = prune_after(context, app, completed.result()).await;
    if !completed.is_notified() {
        tell_result(context, app, &completed, pruned.as_ref()).await;
        completed.record_notified().await?;
    }
    let result = completed.close().await?;
    pruned.map(|_| result)
}

/// Warns of secrets of the notification that cannot be read: before the work, not after it.
pub fn warn_of_missing_secrets(context: &Context, app: &AppConfig) {
    for secret in app.notify.iter().flat_map(NotifyOptions::missing_secrets) {
        let name = Some(&app.name).filter(|name| !name.is_empty());
        let of = name.map_or_else(String::new, |name| format!("{name}: "));
        context
            .ui
            .warn(format!("{of}cannot notify: cannot read {secret}"));
    }
}

/// Prunes the archives of the application's project, where the backup is good.
async fn prune_after(
    context: &Context,
    app: &AppConfig,
    result: &BackupResult,
) -> Result<PruneResult, Failure> {
    match &app.keep {
        Some(policy) if result.archive.is_some() && result.failed.is_empty() => {
            let pruned = prune(context, app, policy).await;
            pruned.map_err(|failure| failure.prefix("cannot prune"))
        }
        _ => Ok(PruneResult::default()),
    }
}

async fn prune(
    context: &Context,
    app: &AppConfig,
    policy: &KeepPolicy,
) -> Result<PruneResult, Failure> {
    let observer: &dyn Observer = context.ui.as_ref();
    let (ui, location) = (&context.ui, app.archive_folder());
    let folder = context.stores.folder(&location);
    let identities = context.identities.read().await?;
    let mut plan = PrunePlan::new(&folder, policy, None, identities).await?;
    let (project, database) = app.backup.source.database();
    plan.retain_database(project, database);
    let shows_table = plan.removals() > 0 && !ui.is_quiet();
    if ui.is_json() || shows_table {
        show_plan(ui, &location, &plan);
    }
    let verified = plan.verify_kept(&context.workers, observer).await?;
    let result = verified.remove(observer).await?;
    if shows_table {
        show_result(ui, &result);
    }
    Ok(result)
}

async fn tell_result(
    context: &Context,
    app: &AppConfig,
    completed: &CompletedBackup,
    pruned: Result<&PruneResult, &Failure>,
) {
    let mut report = report_result(app, completed.result());
    match pruned {
        Ok(pruned) => {
            let removed = pruned.removed.iter().map(|name| format!("removed {name}"));
            let held = pruned.held.iter().map(|(_, reason)| reason.clone());
            report.remarks.extend(removed.chain(held));
        }
        Err(failure) => report.remarks.push(failure.sentence()),
    }
    let previous = completed
        .previous()
        .map(|previous| report_result(app, previous));
    tell(context, app, report, previous).await;
}

/// Sends the application's notifications; one that cannot be sent is a warning.
async fn tell(
    context: &Context,
    app: &AppConfig,
    report: BackupReport,
    previous: Option<BackupReport>,
) {
    let Some(options) = &app.notify else {
        return;
    };
    let observer: &dyn Observer = context.ui.as_ref();
    let notification = Notification { report, previous };
    for error in notify(options, &notification, observer).await {
        observer.event(Event::Warning {
            warning: error.to_string(),
        });
    }
}
