//! What the long-running verbs tell while they run: events for machines, progress for people.
//!
//! Knows no terminal. The command line prints both; tests listen.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::model::{Kind, Namespace, Timestamp};

/// One thing that happened. Printed as one JSON object a line with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// SOURCE was listed and judged.
    #[serde(rename = "set")]
    SetFound {
        /// Exports found.
        exports: u64,
        /// Exports that are packed.
        chosen: u64,
        /// Objects that belong to no export.
        foreign: u64,
        /// Exports left out because a newer one of the same kind is packed.
        superseded: Vec<String>,
    },
    /// Something may not be as it should be, and does not keep the command from its work.
    Warning {
        /// What.
        warning: String,
    },
    /// Something expected is not finished yet.
    Waiting {
        /// Selectors and exports.
        waiting_for: Vec<String>,
    },
    /// A call to a service failed and is made again.
    Retry {
        /// The call, such as `list of gs://bucket/`.
        call: String,
        /// How many attempts have failed since something came through.
        attempt: u32,
        /// What the last one came to.
        reason: String,
        /// How long the next one waits.
        pause_seconds: f64,
    },
    /// Parts of an archive in a bucket could not be deleted. They do no harm, but they cost money.
    PartsLeft {
        /// The folder that holds them.
        folder: String,
        /// How many they are.
        objects: u64,
        /// Their length together.
        bytes: u64,
        /// Why the first of them could not be deleted.
        reason: String,
    },
    /// Bytes got lost or damaged on their way: all begins anew.
    #[serde(rename = "again")]
    UploadRestarted {
        /// What happened, as `THING: expected …, found …`.
        reason: String,
    },
    /// A backup has begun, or goes on.
    BackupStarted {
        /// Its id, which names the folder of its exports.
        backup: String,
        /// Kinds that are exported.
        kinds: u64,
        /// Kinds that an earlier process has exported already.
        finished: u64,
        /// The instant that all exports show.
        #[serde(skip_serializing_if = "Option::is_none")]
        snapshot_time: Option<Timestamp>,
    },
    /// The export of a kind is about to be started, or goes on.
    ExportStarted {
        /// Its namespace.
        namespace: Namespace,
        /// The kind.
        kind: Kind,
        /// Counts from 1.
        attempt: u32,
    },
    /// The export of a kind is written.
    ExportFinished {
        /// Its namespace.
        namespace: Namespace,
        /// The kind.
        kind: Kind,
        /// How long the last attempt took.
        seconds: f64,
        /// How often it was tried.
        attempts: u32,
    },
    /// The export of a kind has failed for good.
    ExportFailed {
        /// Its namespace.
        namespace: Namespace,
        /// The kind.
        kind: Kind,
        /// Why.
        error: String,
        /// What may help.
        advice: Option<String>,
    },
    /// Something is wrong.
    Problem {
        /// `incomplete` or `damaged`.
        class: &'static str,
        /// The export or archive.
        of: String,
        /// What exactly, as `THING: expected …, found …`.
        problem: String,
    },
    /// An entry was written by `extract`.
    Extracted {
        /// Its name, relative to DEST.
        name: String,
        /// Its length.
        bytes: u64,
    },
    /// A restore has begun, or goes on, whose plan the user does not keep.
    #[serde(rename = "kept")]
    CopyKept {
        /// Where the plan is.
        plan: String,
        /// Where its journal is.
        journal: String,
    },
    /// A step begins.
    StepStarted {
        /// The step's id.
        step: u32,
        /// Its namespace in the target.
        namespace: Namespace,
        /// Its kind.
        kind: Kind,
        /// Entities in it.
        entities: u64,
        /// Entities that an earlier run has restored already.
        resumed: u64,
        /// Its place in the plan, from 1.
        number: u64,
        /// Steps in the plan.
        steps: u64,
    },
    /// A step is done.
    StepFinished {
        /// The step's id.
        step: u32,
        /// Its namespace in the target.
        namespace: Namespace,
        /// Its kind.
        kind: Kind,
        /// Entities restored.
        entities: u64,
        /// Entities of that kind that the target counts now, where it was asked.
        counted: Option<u64>,
    },
    /// What was laid down for the import of a step could not be taken away again.
    #[serde(rename = "left")]
    StagingLeft {
        /// The step's id.
        step: u32,
        /// Why not, and what.
        reason: String,
    },
    /// The target may hand ids of restored entities to new ones, which then take their place.
    IdsNotReserved {
        /// How many kinds have such ids.
        kinds: u64,
    },
    /// A step failed.
    StepFailed {
        /// The step's id.
        step: u32,
        /// Its namespace in the target.
        namespace: Namespace,
        /// Its kind.
        kind: Kind,
        /// Why.
        error: String,
    },
}

/// One request to a service, without anything that must stay secret.
#[derive(Debug, Clone, Copy)]
pub struct RequestReport {
    /// Its method, such as `GET`.
    pub method: &'static str,
    /// What it was about, such as `upload session`.
    pub resource: &'static str,
    /// How it ended.
    pub outcome: RequestOutcome,
    /// How long it took.
    pub duration: Duration,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// With an answer of that status.
    Status(u16),
    /// With all that was requested, by a client that does not show the status.
    Done,
    /// Without an answer, or without one that a client shows.
    Failed,
}

impl RequestReport {
    /// Reports the request as a `tracing` event of the level `DEBUG`.
    pub(crate) fn trace(self) {
        let RequestReport {
            method,
            resource,
            outcome,
            duration,
        } = self;
        tracing::debug!(
            "{method} {resource}: {outcome} in {} ms",
            duration.as_millis()
        );
    }
}

impl fmt::Display for RequestOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestOutcome::Status(status) => write!(f, "{status}"),
            RequestOutcome::Done => f.write_str("done"),
            RequestOutcome::Failed => f.write_str("failed"),
        }
    }
}

/// Listens to a verb.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);

    /// A phase begins that goes through `total` units (bytes, or entities for a restore).
    fn start_phase(&self, phase: &'static str, total: u64);

    /// An entry of the archive is read or written from now on.
    fn start_entry(&self, name: &str);

    /// The phase went on by `done` units, and brought out `out` bytes.
    fn advance(&self, done: u64, out: u64);

    /// So many units of the phase were done before it began.
    fn skip(&self, _done: u64) {}

    /// The phase is over.
    fn finish_phase(&self);
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoProgress;

impl Observer for NoProgress {
    fn event(&self, _: Event) {}
    fn start_phase(&self, _: &'static str, _: u64) {}
    fn start_entry(&self, _: &str) {}
    fn advance(&self, _: u64, _: u64) {}
    fn finish_phase(&self) {}
}
