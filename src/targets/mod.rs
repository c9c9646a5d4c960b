//! Targets: who carries a step out. A Datastore emulator by commits, a folder of managed exports, a
//! folder to read, a dry run.
//!
//! Knows entities on their way out. Must not know plans, journals or archives.

mod datastore;
mod dry_run;
mod export_dir;
mod files;
mod key_set;
mod ndjson;
mod open;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use datastore::{CommitTarget, Lease, ServiceTimes};
pub use dry_run::DryRun;
pub use export_dir::DirTarget;
pub use key_set::KeySet;
pub use ndjson::NdjsonTarget;
pub use open::{RETRY_TIMEOUT, Timeouts, open};

use crate::datastore::error::DatastoreError;
use crate::model::{Kind, KindRef, Timestamp};
use crate::store::name_limits::NameFault;
use crate::transform::{Encoded, Encoding};

/// What a target needs to know of a step.
#[derive(Debug, Clone)]
pub struct StepContext {
    /// Kind and namespace in the target.
    pub pair: KindRef,
    /// Whether an earlier run has begun the step: what it left half done is the step's own.
    pub begun_before: bool,
    /// Start of the step's export.
    pub started: Option<Timestamp>,
    /// End of the step's export.
    pub finished: Option<Timestamp>,
}

/// How far a step has come: what of its outputs is in the target for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepProgress {
    /// Pieces whose entities are all there, counted over all outputs of the step.
    pub pieces: u64,
    /// Entities of the next piece that are there as well, from its beginning.
    pub records: u64,
    /// Entities in all of these.
    pub entities: u64,
}

impl StepProgress {
    /// With so many more entities of the piece that has begun.
    fn and(self, entities: u64) -> Self {
        StepProgress {
            records: self.records + entities,
            entities: self.entities + entities,
            ..self
        }
    }

    /// With the piece that has begun at its end.
    fn plus_piece(self) -> Self {
        StepProgress {
            pieces: self.pieces + 1,
            records: 0,
            ..self
        }
    }
}

/// What a target can answer instead of done.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum TargetError {
    /// A call of Datastore failed.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// The target does not do what it is asked to do.
    #[error("{call} is not possible: {reason}")]
    Refused {
        /// What was requested.
        call: String,
        /// Why not.
        reason: String,
    },
    /// A service refused one entity.
    #[error("the target refuses entity {number} of kind {kind}: {reason}")]
    EntityRejected {
        /// Its kind.
        kind: Kind,
        /// Its place among the entities of its step.
        number: u64,
        /// What the service answered.
        reason: String,
    },
    /// Somebody else restores into the same target.
    #[error("{target} is locked by another restore: {holder}, until {until}")]
    Locked {
        /// The target.
        target: String,
        /// Who.
        holder: String,
        /// Until when, unless the other one goes on.
        until: Timestamp,
    },
    /// An entity that the target cannot hold.
    #[error(
        "entity {number} of kind {kind} is too large: {part} has {bytes} bytes, the limit is {limit}"
    )]
    TooLarge {
        /// Its kind.
        kind: Kind,
        /// Its place among the entities of its step.
        number: u64,
        /// What of it is too large.
        part: String,
        /// How long that is.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Something has the name that the step would write.
    #[error("{name} already exists")]
    AlreadyExists {
        /// The file or folder.
        name: String,
    },
    /// A name that the file system cannot hold.
    #[error("{name}: {fault}")]
    UnsupportedName {
        /// The file.
        name: String,
        /// Why not.
        fault: NameFault,
    },
    /// What the target holds cannot be understood.
    #[error("{name} is damaged: {fault}")]
    Unreadable {
        /// The file.
        name: String,
        /// What is wrong with it.
        fault: String,
    },
    /// Work on local objects failed.
    #[error("{deed} {name} failed: {source}")]
    Io {
        /// The object or folder.
        name: String,
        /// What was tried.
        deed: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A worker was lost.
    #[error(transparent)]
    Worker(#[from] crate::runtime::workers::WorkerPanicked),
}

impl TargetError {
    /// Whether the target answers, and what it has makes no sense.
    pub fn is_unreadable(&self) -> bool {
        matches!(
            self,
            TargetError::Unreadable { .. }
                | TargetError::Datastore(DatastoreError::UnexpectedResponse { .. })
        )
    }
}

/// How long an emulator is tried, unless the user says otherwise: where it was just started, its
/// Java takes some seconds.
pub const EMULATOR_RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Entities that are looked up at once.
pub const MAX_LOOKUP_KEYS: usize = 300;

/// Bytes of them, unless one is larger: the answer holds them as they are.
pub const MAX_LOOKUP_BYTES: usize = 1 << 20;

/// Where entities go.
#[async_trait]
pub trait Target: fmt::Debug + Send + Sync {
    /// The form in which the target takes entities.
    fn encoding(&self) -> Encoding;

    /// Whether a step that was cut goes on where it stood; otherwise it begins anew.
    fn resumes_within_steps(&self) -> bool;

    /// How many entities of that kind and namespace the target holds now.
    async fn count(&self, pair: &KindRef) -> Result<u64, TargetError>;

    /// Refuses a step that no earlier run has begun where its names are taken, whatever they hold,
    /// or cannot be.
    async fn check_names(&self, step: &StepContext) -> Result<(), TargetError> {
        let _ = step;
        Ok(())
    }

    /// Whether entities can be looked up by their keys: that is always right, where a count may be
    /// late.
    fn is_looked_up(&self) -> bool {
        false
    }

    /// How many of these entities, encoded for this target, are there under their keys. At most
    /// [`MAX_LOOKUP_KEYS`] entities are requested at once.
    ///
    /// The default knows none: see [`Target::is_looked_up`].
    async fn lookup(&self, entities: Encoded) -> Result<u64, TargetError> {
        let _ = entities;
        Ok(0)
    }

    /// Brings the target to count what was written just before, as far as it can be brought to.
    async fn finish_cleanup(&self) -> Result<(), TargetError> {
        Ok(())
    }

    /// Sees to it that the target hands the ids of these entities, encoded for it, to no new ones:
    /// they came there in another way than by
    /// [`Target::open`].
    async fn reserve_ids(&self, pair: &KindRef, entities: Encoded) -> Result<(), TargetError> {
        let _ = (pair, entities);
        Ok(())
    }

    /// How many kinds have restored ids that the target may hand to new entities all the same.
    fn unreserved_kinds(&self) -> usize {
        0
    }

    /// Deletes what the target holds of `pair` beside what `keep` holds, as far as `keep` is asked.
    /// Gives how many.
    ///
    /// The default refuses: such a target is written whole.
    async fn delete_others(&self, pair: &KindRef, keep: &KeySet) -> Result<u64, TargetError> {
        let _ = keep;
        Err(TargetError::Refused {
            call: format!("deleting {pair}"),
            reason: "this target deletes nothing".to_owned(),
        })
    }

    /// Sees to it that nobody else restores into the target, as far as the target itself can hold
    /// such a mark; `None` where it cannot.
    ///
    /// `holder` is told to whoever comes meanwhile. A mark of that very holder, which a killed run
    /// left, is taken over: so the name must not be that of a restore that may run beside this one.
    async fn lease(&self, holder: &str) -> Result<Option<Lease>, TargetError> {
        let _ = holder;
        Ok(None)
    }

    /// Begins a step, or goes on with it after `done`: the first `done.records` entities of the
    /// next piece are not handed over again.
    async fn open(
        &self,
        step: &StepContext,
        done: StepProgress,
    ) -> Result<Box<dyn StepWriter>, TargetError>;

    /// Which of these entities (REST JSON, as they should be) are not in the target as they should
    /// be; `None` where it cannot be asked.
    async fn differing(&self, wanted: Vec<serde_json::Value>) -> Result<Option<u64>, TargetError>;
}

/// A step that is being carried out. Dropped before its end, it is cut, and can be gone on with.
#[async_trait]
pub trait StepWriter: fmt::Debug + Send {
    /// Takes the next entities, all of one piece. May wait until there is room. Returns how far the
    /// step has come for good, which may lie behind what was taken, but not by more than a few
    /// calls.
    async fn write(&mut self, batch: Encoded) -> Result<StepProgress, TargetError>;

    /// Tells that all entities of a piece were handed over, a piece without any as well. What
    /// follows belongs to the next one.
    fn end_piece(&mut self);

    /// Waits for what is under way, where the step is to stop before its end. Returns how far it
    /// has come for good.
    ///
    /// The default waits for nothing: of a step that begins anew nothing is kept.
    async fn flush(&mut self) -> Result<StepProgress, TargetError> {
        Ok(StepProgress::default())
    }

    /// Ends the step: all that was taken is there for good.
    async fn finish(self: Box<Self>) -> Result<StepProgress, TargetError>;
}
