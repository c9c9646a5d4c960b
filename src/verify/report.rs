//! What a verification found.

use std::collections::BTreeSet;

use crate::model::{AcceptedCount, KindRef, MissingKind, Sha256, Timestamp};
use crate::progress::{Event, Observer};

/// What a verification found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Entries read (quick: seen).
    pub entries: u64,
    /// Entities counted (quick: by the manifest).
    pub entities: u64,
    /// How many of those entries are companions.
    pub companions: u64,
    /// The digest of the whole archive, where it was read and compared.
    pub sha256: Option<Sha256>,
    /// All that is wrong, one sentence each.
    pub problems: Vec<String>,
    /// The kinds whose entries are damaged.
    pub damaged_kinds: BTreeSet<KindRef>,
    /// What contradicts the exports' metadata and was accepted when the archive was packed.
    pub accepted_counts: Vec<AcceptedCount>,
    /// Kinds that the backup lacks.
    pub missing: Vec<MissingKind>,
    /// The instant that all exports show, where one was requested.
    pub snapshot_time: Option<Timestamp>,
    /// Whether this is a zip that kindpack did not make.
    pub is_foreign: bool,
}

impl VerifyReport {
    /// Adds a problem, and reports it at once.
    pub(super) fn add_problem(&mut self, observer: &dyn Observer, archive: &str, problem: String) {
        observer.event(Event::Problem {
            class: "damaged",
            of: archive.to_owned(),
            problem: problem.clone(),
        });
        self.problems.push(problem);
    }
}
