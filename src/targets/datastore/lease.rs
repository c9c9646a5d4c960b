//! A mark in the target itself: who restores into it, and until when. Renewed while the restore
//! runs, taken away at its end.
//!
//! Knows one entity and its versions. Where it stands, and that it is not restored, the module above
//! knows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::nonsense;
use crate::datastore::client::{DatastoreAttemptError, DatastoreClient, JsonResponse};
use crate::datastore::error::DatastoreError;
use crate::datastore::status::Code;
use crate::model::{LEASE_KIND, Timestamp};
use crate::targets::TargetError;

/// Its name.
const NAME: &str = "restore";

/// How often two that want the mark at the same moment may get into each other's way.
const MAX_CONFLICTS: u32 = 8;

/// How long the end of a restore waits for the mark to be taken away. It ends by itself.
const MAX_RELEASE_TIME: Duration = Duration::from_secs(10);

/// One holder's view of the mark.
#[derive(Debug)]
struct LeaseEntity {
    api: Arc<DatastoreClient>,
    holder: String,
    /// Tells this process from all others.
    token: String,
    time: Duration,
}

/// The mark as it was found.
struct StoredLease {
    version: String,
    holder: String,
    token: String,
    until: Timestamp,
}

#[derive(Debug)]
struct LeaseState {
    lost: AtomicBool,
    /// Until when nobody else takes it.
    until: Mutex<Instant>,
}

/// The right to be the only one who restores into a target. It is renewed by itself; dropped
/// without a release, it ends after a while.
#[derive(Debug)]
pub struct Lease {
    mark: Arc<LeaseEntity>,
    held: Arc<LeaseState>,
    renewing: JoinHandle<()>,
}

/// The time by this machine's clock.
fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
        .expect("no system counts time from before the year 1, and jiff ends with 9999")
}

/// Takes the mark for `time`, and renews it from then on.
pub(super) async fn take(
    api: Arc<DatastoreClient>,
    holder: &str,
    time: Duration,
) -> Result<Lease, TargetError> {
    let token = format!("{:x}-{:x}", std::process::id(), now().micros());
    let mark = Arc::new(LeaseEntity {
        api,
        holder: holder.to_owned(),
        token,
        time,
    });
    let begun = Instant::now();
    mark.claim().await?;
    let held = Arc::new(LeaseState {
        lost: AtomicBool::new(false),
        until: Mutex::new(begun + time),
    });
    let renewing = tokio::spawn(renew(mark.clone(), held.clone()));
    Ok(Lease {
        mark,
        held,
        renewing,
    })
}

async fn renew(mark: Arc<LeaseEntity>, held: Arc<LeaseState>) {
    while !held.is_over() {
        tokio::time::sleep(mark.time / 3).await;
        let begun = Instant::now();
        match tokio::time::timeout_at(held.until(), mark.claim()).await {
            Ok(Ok(())) => {
                *held.until.lock().unwrap_or_else(PoisonError::into_inner) = begun + mark.time
            }
            Ok(Err(TargetError::Locked { .. })) => held.lost.store(true, Ordering::Relaxed),
            // As long as it holds, another try may help.
            Ok(Err(_)) | Err(_) => {}
        }
    }
    held.lost.store(true, Ordering::Relaxed);
}

impl LeaseState {
    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.lost.load(Ordering::Relaxed) || Instant::now() >= self.until()
    }
}

impl Lease {
    /// Whether somebody else may hold it by now. Then nothing more may be written.
    pub fn is_lost(&self) -> bool {
        self.held.is_over()
    }

    /// Gives it back.
    pub async fn release(self) {
        self.renewing.abort();
        tokio::time::timeout(MAX_RELEASE_TIME, self.mark.remove())
            .await
            .ok();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// A time in JSON.
fn time_of(value: Option<&Value>) -> Option<Timestamp> {
    let time: jiff::Timestamp = value?.as_str()?.parse().ok()?;
    Timestamp::from_micros(time.as_microsecond())
}

impl StoredLease {
    fn parse(found: &Value) -> Self {
        // JSON of protocol buffers leaves empty texts out.
        let text = |pointer: &str| {
            let text = found.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or("").to_owned()
        };
        let until = time_of(found.pointer("/entity/properties/expires/timestampValue"));
        StoredLease {
            version: text("/version"),
            holder: text("/entity/properties/holder/stringValue"),
            token: text("/entity/properties/token/stringValue"),
            // A mark that does not say until when is none that we can judge.
            until: until.unwrap_or(Timestamp::MAX),
        }
    }
}

impl LeaseEntity {
    fn key(&self) -> Value {
        json!({"partitionId": self.api.partition(""), "path": [{"kind": LEASE_KIND, "name": NAME}]})
    }

    /// The mark as it stands, and the service's own time.
    async fn read(&self) -> Result<(Option<StoredLease>, Timestamp), DatastoreError> {
        let JsonResponse::Ok(answer) = self
            .api
            .json("lookup", &json!({"keys": [self.key()]}))
            .await?
        else {
            return Err(nonsense("lookup", "result"));
        };
        let now = time_of(answer.get("readTime")).unwrap_or_else(now);
        let found = answer.pointer("/found/0").map(StoredLease::parse);
        Ok((found, now))
    }

    /// Until when a mark of ours holds that is made now.
    fn until(&self, now: Timestamp) -> Timestamp {
        let micros = now.micros().saturating_add(self.time.as_micros() as i64);
        Timestamp::from_micros(micros).unwrap_or(Timestamp::MAX)
    }

    /// Refuses a mark that is somebody else's, and holds.
    fn check_free(&self, found: &StoredLease, now: Timestamp) -> Result<(), TargetError> {
        let is_ours = found.token == self.token || found.holder == self.holder;
        if is_ours || found.until <= now {
            return Ok(());
        }
        Err(TargetError::Locked {
            target: self.api.name(),
            holder: found.holder.clone(),
            until: found.until,
        })
    }

    /// Makes the mark ours, or ours for longer.
    async fn claim(&self) -> Result<(), TargetError> {
        let mut retry = self.api.retry_loop("commit");
        for _ in 0..MAX_CONFLICTS {
            let (found, now) = self.read().await?;
            if let Some(found) = &found {
                self.check_free(found, now)?;
            }
            let until = self.until(now);
            let mutation = match found {
                None => json!({"insert": self.entity(until)}),
                Some(found) => json!({"update": self.entity(until), "baseVersion": found.version}),
            };
            match self.commit(mutation).await {
                Ok(true) => return Ok(()),
                // Somebody was faster; or an earlier try was done and its answer lost, and then the
                // mark is ours.
                Ok(false) => {}
                Err(error) => retry.failed(error).await?,
            }
        }
        Err(self.too_many_races().into())
    }

    fn too_many_races(&self) -> DatastoreError {
        DatastoreError::Service {
            call: format!("lease of {}", self.api.name()),
            tries: MAX_CONFLICTS,
            seconds: 0,
            found: "other processes take it at the same time".to_owned(),
            is_emulator: false,
        }
    }

    /// Makes a commit of one mutation once. Whether it was done, and not too late.
    async fn commit(&self, mutation: Value) -> Result<bool, DatastoreAttemptError> {
        let body = json!({"mode": "NON_TRANSACTIONAL", "mutations": [mutation]});
        match self.api.json_once("commit", &body).await {
            Ok(answer) => {
                Ok(answer.pointer("/mutationResults/0/conflictDetected")
                    != Some(&Value::Bool(true)))
            }
            Err(DatastoreAttemptError::Refused {
                code: Code::AlreadyExists | Code::NotFound,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn entity(&self, until: Timestamp) -> Value {
        let text = |text: &str| json!({"stringValue": text, "excludeFromIndexes": true});
        json!({"key": self.key(), "properties": {
            "holder": text(&self.holder),
            "token": text(&self.token),
            "tool": text(crate::google::USER_AGENT),
            "expires": {"timestampValue": until.to_string(), "excludeFromIndexes": true},
        }})
    }

    /// Takes the mark away, if it is still ours.
    async fn remove(&self) {
        if let Ok((Some(found), _)) = self.read().await
            && found.token == self.token
        {
            self.commit(json!({"delete": self.key(), "baseVersion": found.version}))
                .await
                .ok();
        }
    }
}
