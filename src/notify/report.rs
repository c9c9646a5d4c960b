//! What a notification is about: a backup, and the one before it.

use serde::Serialize;

use crate::model::{Kind, KindRef, Namespace, Sha256, Timestamp};

/// How a backup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupOutcome {
    /// There is an archive, and it holds every kind.
    Success,
    /// There is an archive, and kinds are missing in it.
    Incomplete,
    /// There is no archive.
    Failure,
}

/// What became of one backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupReport {
    /// The application, by its name in the configuration.
    pub app: Option<String>,
    /// The Datastore.
    pub source: String,
    /// The backup id.
    pub id: Option<String>,
    /// The archive.
    pub archive: Option<String>,
    /// Its SHA-256.
    pub sha256: Option<Sha256>,
    /// Its length.
    pub bytes: Option<u64>,
    /// The kinds that were exported.
    pub kinds: Vec<KindReport>,
    /// The kinds whose export failed.
    pub failed: Vec<KindFailure>,
    /// The kinds that the archive lacks by permission.
    pub missing: Vec<KindRef>,
    /// When the run started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// The instant that all exports show.
    pub snapshot_time: Option<Timestamp>,
    /// Why there is no archive, on one line.
    pub error: Option<String>,
    /// What else should be known, one line each.
    pub remarks: Vec<String>,
}

/// A kind that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindReport {
    /// Its namespace.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// Its entities.
    pub entities: Option<u64>,
    /// Bytes of its entities.
    pub bytes: Option<u64>,
    /// How long its export took.
    pub seconds: Option<u64>,
}

/// A kind whose export failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindFailure {
    /// Its namespace.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// Why, and what may help.
    pub error: String,
}

/// A backup to notify about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// The backup.
    pub report: BackupReport,
    /// The one before it, where there is one.
    pub previous: Option<BackupReport>,
}

/// A kind beside the same kind of the previous backup.
#[derive(Debug, Clone, Copy)]
pub(super) struct KindChange<'a> {
    pub(super) kind: &'a KindReport,
    pub(super) previous: Option<&'a KindReport>,
}

impl KindReport {
    pub(super) fn pair(&self) -> KindRef {
        KindRef {
            namespace: self.namespace.clone(),
            kind: self.kind.clone(),
        }
    }
}

impl BackupReport {
    /// How the backup ended.
    pub fn outcome(&self) -> BackupOutcome {
        if self.archive.is_none() || self.error.is_some() {
            BackupOutcome::Failure
        } else if self.failed.is_empty() && self.missing.is_empty() {
            BackupOutcome::Success
        } else {
            BackupOutcome::Incomplete
        }
    }

    pub(super) fn entities(&self) -> u64 {
        self.kinds.iter().filter_map(|kind| kind.entities).sum()
    }

    /// How long the run took.
    pub(super) fn seconds(&self) -> Option<u64> {
        Some(self.finished?.since(self.started?).as_secs())
    }
}

impl KindChange<'_> {
    /// Whether the kind has lost half of its entities or bytes, or more.
    pub(super) fn has_shrunk(&self) -> bool {
        let is_half = |now: Option<u64>, then: Option<u64>| match (now, then) {
            (Some(now), Some(then)) => then > 0 && now <= then / 2,
            _ => false,
        };
        self.previous.is_some_and(|then| {
            is_half(self.kind.entities, then.entities) || is_half(self.kind.bytes, then.bytes)
        })
    }
}

impl Notification {
    /// Each kind beside the same one of the previous backup.
    pub(super) fn changes(&self) -> Vec<KindChange<'_>> {
        let previous: std::collections::BTreeMap<KindRef, &KindReport> = self
            .previous
            .iter()
            .flat_map(|report| &report.kinds)
            .map(|kind| (kind.pair(), kind))
            .collect();
        let change = |kind| KindChange {
            kind,
            previous: previous.get(&KindReport::pair(kind)).copied(),
        };
        self.report.kinds.iter().map(change).collect()
    }

    /// The kinds of the previous backup that this one neither holds nor names.
    pub(super) fn vanished(&self) -> Vec<KindRef> {
        let report = &self.report;
        let failed = report.failed.iter().map(|kind| KindRef {
            namespace: kind.namespace.clone(),
            kind: kind.kind.clone(),
        });
        let known: std::collections::BTreeSet<KindRef> = report
            .kinds
            .iter()
            .map(KindReport::pair)
            .chain(failed)
            .chain(report.missing.iter().cloned())
            .collect();
        let previous = self.previous.iter().flat_map(|previous| &previous.kinds);
        previous
            .map(KindReport::pair)
            .filter(|pair| !known.contains(pair))
            .collect()
    }
}
