//! The result of a backup as a notification.

use super::failure::Failure;
use crate::backup::BackupResult;
use crate::config::AppConfig;
use crate::notify::{BackupReport, KindFailure, KindReport};

/// The report of a backup that has a result.
pub fn report_result(app: &AppConfig, result: &BackupResult) -> BackupReport {
    let kinds = result.kinds.iter().map(|kind| KindReport {
        namespace: kind.namespace.clone(),
        kind: kind.kind.clone(),
        entities: kind.entities,
        bytes: kind.bytes,
        seconds: Some(kind.seconds),
    });
    let failed = result.failed.iter().map(|kind| KindFailure {
        namespace: kind.namespace.clone(),
        kind: kind.kind.clone(),
        error: match &kind.advice {
            Some(advice) => format!("{} ({advice})", kind.error),
            None => kind.error.clone(),
        },
    });
    BackupReport {
        id: Some(result.id.clone()),
        archive: result.archive.clone(),
        sha256: result.sha256,
        bytes: result.bytes,
        kinds: kinds.collect(),
        failed: failed.collect(),
        missing: result.missing.clone(),
        started: Some(result.started),
        finished: Some(result.finished),
        snapshot_time: result.snapshot_time,
        ..new_report(app)
    }
}

/// The report of a backup that ended before it had a result.
pub fn report_failure(app: &AppConfig, failure: &Failure) -> BackupReport {
    BackupReport {
        error: Some(failure.sentence()),
        ..new_report(app)
    }
}

fn new_report(app: &AppConfig) -> BackupReport {
    BackupReport {
        app: Some(app.name.clone()).filter(|name| !name.is_empty()),
        source: app.backup.source.to_string(),
        ..BackupReport::default()
    }
}
