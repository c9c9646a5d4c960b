//! From a target's spelling to the target.

use crate::model::TargetSpec;
use std::sync::Arc;
use std::time::Duration;

use super::{
    CommitTarget, DirTarget, EMULATOR_RETRY_TIMEOUT, NdjsonTarget, ServiceTimes, Target,
    TargetError,
};
use crate::google::{self, Credentials};

/// How long a call to a service is tried, unless the user says otherwise. An emulator, which is
/// near, has a time of its own.
pub const RETRY_TIMEOUT: Duration = Duration::from_secs(300);

/// How patient calls of a Datastore are.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// How long one is tried while nothing comes through, where the user says so.
    pub retry: Option<Duration>,
    /// How long one may be silent.
    pub idle: Duration,
}

impl Timeouts {
    /// How long a call to an emulator is tried.
    pub fn emulator_retry(&self) -> Duration {
        self.retry.unwrap_or(EMULATOR_RETRY_TIMEOUT)
    }

    /// How long a call to the service is tried.
    pub fn service_retry(&self) -> Duration {
        self.retry.unwrap_or(RETRY_TIMEOUT)
    }
}

/// Opens a target, without a call to it. An emulator is spelled with its address.
///
/// # Errors
/// When the address is none that may be called.
pub fn open(spec: &TargetSpec, timeouts: Timeouts) -> Result<Arc<dyn Target>, TargetError> {
    Ok(match spec {
        TargetSpec::Emulator { project, host } => {
            let host = host.as_deref().ok_or_else(|| no_address(project))?;
            let retry = timeouts.emulator_retry();
            Arc::new(CommitTarget::emulator(host, project, retry)?)
        }
        TargetSpec::Dir(path) => Arc::new(DirTarget::new(path)),
        TargetSpec::Ndjson(path) => Arc::new(NdjsonTarget::new(path)),
        TargetSpec::Datastore { project, database } => {
            let database = database.as_deref().unwrap_or("");
            Arc::new(open_service(project, database, timeouts)?)
        }
    })
}

fn open_service(
    project: &str,
    database: &str,
    timeouts: Timeouts,
) -> Result<CommitTarget, TargetError> {
    let times = ServiceTimes {
        retry: timeouts.service_retry(),
        call: timeouts.idle,
        ..ServiceTimes::default()
    };
    let credentials = Arc::new(Credentials::new(google::DATASTORE_SCOPE));
    let endpoint = google::datastore_endpoint();
    Ok(CommitTarget::service(
        project,
        database,
        credentials,
        &endpoint,
        times,
    )?)
}

/// The planner fills the address in; a plan of another origin may lack it.
fn no_address(project: &str) -> TargetError {
    TargetError::Refused {
        call: format!("emulator:{project}"),
        reason: "the plan names no address of the emulator".to_owned(),
    }
}
