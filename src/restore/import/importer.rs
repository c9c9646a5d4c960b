//! From a target's spelling to who imports there.

use crate::model::{TargetPlace, TargetSpec};
use std::sync::Arc;

use crate::datastore::admin::{EmulatorImporter, Importer, ServiceImporter, ServiceOptions};
use crate::datastore::error::DatastoreError;
use crate::google::{self, Credentials};
use crate::targets::Timeouts;

/// Opens the importer of a target, without a call to it; none where the target has no import.
///
/// # Errors
/// When the address is none that may be called.
pub fn open_importer(
    target: &TargetSpec,
    timeouts: Timeouts,
) -> Result<Option<Arc<dyn Importer>>, DatastoreError> {
    Ok(match target.place() {
        TargetPlace::Emulator { project, host } => {
            let host = host.unwrap_or("");
            let retry = timeouts.emulator_retry();
            let importer = EmulatorImporter::new(host, project, retry)?;
            Some(Arc::new(importer))
        }
        TargetPlace::Service { project, database } => {
            let options = ServiceOptions {
                retry_timeout: timeouts.service_retry(),
                call_time: timeouts.idle,
                ..ServiceOptions::default()
            };
            let database = Some(database).filter(|database| !database.is_empty());
            let endpoint = match database {
                None => google::datastore_endpoint(),
                Some(_) => google::firestore_endpoint(),
            };
            let importer = ServiceImporter::new(
                project,
                database,
                &endpoint,
                Some(Arc::new(Credentials::new(google::DATASTORE_SCOPE))),
                options,
            )?;
            Some(Arc::new(importer))
        }
        TargetPlace::Folder { .. } => None,
    })
}
