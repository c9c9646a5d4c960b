//! From a Datastore's spelling to who exports it and who lists its kinds.

use std::sync::Arc;

use super::error::BackupError;
use super::request::{BackupRequest, BackupSource};
use crate::datastore::admin::{EmulatorExporter, Exporter, ServiceExporter, ServiceOptions};
use crate::datastore::error::DatastoreError;
use crate::datastore::kinds::KindReader;
use crate::google::{self, Credentials};
use crate::model::TargetSpec;
use crate::plan::{Environment, resolve_address};
use crate::targets::Timeouts;

/// A Datastore that is backed up.
#[derive(Debug)]
pub struct OpenSource {
    /// Who exports it.
    pub exporter: Arc<dyn Exporter>,
    /// Who lists its kinds.
    pub kinds: KindReader,
}

impl BackupSource {
    /// The same with the emulator's address filled in from the environment.
    ///
    /// # Errors
    /// [`BackupError::Source`] where another Datastore may be meant than the one that is named.
    pub fn resolve(self, environment: &Environment) -> Result<Self, BackupError> {
        match resolve_address(&self.into(), environment)? {
            TargetSpec::Datastore { project, database } => {
                Ok(BackupSource::Datastore { project, database })
            }
            TargetSpec::Emulator { project, host } => Ok(BackupSource::Emulator { project, host }),
            other => Err(BackupError::Location {
                location: other.to_string(),
                reason: "the location is not a Datastore",
            }),
        }
    }
}

/// Opens the Datastore of a request, without a call to it. An emulator is spelled with its address.
///
/// # Errors
/// When the address is none that may be called.
pub fn open_source(
    request: &BackupRequest,
    timeouts: Timeouts,
) -> Result<OpenSource, DatastoreError> {
    match &request.source {
        BackupSource::Emulator { project, host } => {
            let host = host.as_deref().unwrap_or_default();
            let kinds = KindReader::with_emulator(host, project, timeouts.emulator_retry())?;
            let exporter = EmulatorExporter::new(host, project)?;
            Ok(OpenSource {
                exporter: Arc::new(exporter),
                kinds,
            })
        }
        BackupSource::Datastore { project, database } => {
            let database = database.as_deref();
            let has_snapshot = request.snapshot_time.is_some();
            let credentials = Arc::new(Credentials::new(google::DATASTORE_SCOPE));
            let kinds = KindReader::with_service(
                project,
                database,
                &google::datastore_endpoint(),
                credentials.clone(),
                timeouts.idle,
                timeouts.service_retry(),
            )?;
            let exporter = open_exporter(project, database, has_snapshot, timeouts, credentials)?;
            Ok(OpenSource {
                exporter: Arc::new(exporter),
                kinds,
            })
        }
    }
}

/// Datastore Admin exports the default database. Named databases and earlier instants are Firestore
/// Admin's.
fn open_exporter(
    project: &str,
    database: Option<&str>,
    has_snapshot: bool,
    timeouts: Timeouts,
    credentials: Arc<Credentials>,
) -> Result<ServiceExporter, DatastoreError> {
    let options = ServiceOptions {
        retry_timeout: timeouts.service_retry(),
        call_time: timeouts.idle,
        ..ServiceOptions::default()
    };
    let credentials = Some(credentials);
    if database.is_none() && !has_snapshot {
        let endpoint = google::datastore_endpoint();
        return ServiceExporter::with_datastore_admin(project, &endpoint, credentials, options);
    }
    let endpoint = google::firestore_endpoint();
    ServiceExporter::with_firestore_admin(project, database, &endpoint, credentials, options)
}
