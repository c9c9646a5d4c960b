//! A backup as a command runs it: with its locks, and with every problem as an event.

use std::path::PathBuf;

use super::context::Context;
use super::failure::Failure;
use super::packing::report_problems;
use crate::backup::{
    BackupError, BackupRequest, BackupServices, CompletedBackup, OpenSource, backup, open_source,
};
use crate::progress::Observer as _;
use crate::store::StoreRegistry;

/// Opens the Datastore that is backed up.
pub fn open(context: &Context, request: &BackupRequest) -> Result<OpenSource, Failure> {
    open_source(request, context.timeouts).map_err(|error| Failure::from(BackupError::from(error)))
}

/// Backs up, into these stores. The run is still to be closed.
pub async fn start(
    context: &Context,
    stores: &StoreRegistry,
    request: &BackupRequest,
    source: &OpenSource,
) -> Result<CompletedBackup, Failure> {
    let services = BackupServices {
        exporter: source.exporter.as_ref(),
        kinds: &source.kinds,
        stores,
        workers: &context.workers,
        identities: context.identities.read().await?,
        locks: &locks(context)?,
        observer: context.ui.as_ref(),
    };
    let completed = backup(services, request).await.map_err(|error| {
        if let BackupError::Pack(error) = &error {
            report_problems(context, error);
        }
        Failure::from(error)
    })?;
    context.ui.finish_phase();
    Ok(completed)
}

/// The folder of this user's locks.
fn locks(context: &Context) -> Result<PathBuf, Failure> {
    Ok(context.state.open(&context.ui)?.join("backups"))
}
