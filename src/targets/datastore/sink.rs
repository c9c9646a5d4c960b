//! One step by commits: batches go out side by side, and are told to be safe in the order in which
//! they came.
//!
//! Knows how many may be under way, and that of two writes of one key the last one is to win. Must
//! not know how one is sent.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::writer::{Batch, Writer};
use crate::entity::message::Mutation;
use crate::model::KindRef;
use crate::runtime::workers::WorkerPanicked;
use crate::targets::{StepProgress, StepWriter, TargetError};
use crate::transform::Encoded;

/// The service's limit, which the emulator does not enforce.
pub(super) const MAX_MUTATIONS: usize = 500;

/// Commits that are under way at once.
const IN_FLIGHT: usize = 8;

/// What a mutation has besides its entity: a tag and a length of up to five bytes, twice.
const MUTATION_EXTRA_BYTES: usize = 12;

/// A commit that is under way.
#[derive(Debug)]
struct InFlightCommit {
    task: JoinHandle<Result<(), TargetError>>,
    /// How far the step has come when this and all before it are done.
    then: StepProgress,
    /// What it writes, by the hashes of the keys.
    keys: HashSet<u64>,
}

/// Takes the entities of one step, or keys of what is to be deleted.
#[derive(Debug)]
pub(super) struct CommitSink {
    writer: Arc<Writer>,
    pair: Arc<KindRef>,
    deed: Mutation,
    flights: VecDeque<InFlightCommit>,
    done: StepProgress,
}

impl CommitSink {
    pub(super) fn new(
        writer: Arc<Writer>,
        pair: KindRef,
        deed: Mutation,
        done: StepProgress,
    ) -> Self {
        CommitSink {
            writer,
            pair: Arc::new(pair),
            deed,
            flights: VecDeque::new(),
            done,
        }
    }

    /// Waits for the oldest commit.
    async fn await_oldest(&mut self) -> Result<(), TargetError> {
        let Some(flight) = self.flights.front_mut() else {
            return Ok(());
        };
        let landed = (&mut flight.task).await.map_err(WorkerPanicked)?;
        let then = self.flights.pop_front().map(|flight| flight.then);
        landed?;
        self.done = then.unwrap_or(self.done);
        Ok(())
    }

    /// How far the step will have come when all that is under way is done.
    fn progress_if_all_succeed(&self) -> StepProgress {
        self.flights.back().map_or(self.done, |flight| flight.then)
    }

    /// Sends a commit as soon as there is room, and nothing under way writes the same key.
    async fn send(&mut self, batch: Batch, keys: HashSet<u64>) -> Result<(), TargetError> {
        while self.flights.len() >= IN_FLIGHT
            || self
                .flights
                .iter()
                .any(|flight| !flight.keys.is_disjoint(&keys))
        {
            self.await_oldest().await?;
        }
        let then = self.progress_if_all_succeed().and(batch.range.len() as u64);
        let task = tokio::spawn(self.writer.clone().send(batch));
        self.flights.push_back(InFlightCommit { task, then, keys });
        Ok(())
    }
}

impl Drop for CommitSink {
    fn drop(&mut self) {
        // A step that is given up sends nothing more.
        self.flights.iter().for_each(|flight| flight.task.abort());
    }
}

#[async_trait]
impl StepWriter for CommitSink {
    async fn write(&mut self, batch: Encoded) -> Result<StepProgress, TargetError> {
        let before = self.progress_if_all_succeed().entities;
        if self.deed == Mutation::Upsert {
            let has_service_limits = self.writer.has_service_limits().await?;
            for (number, (entity, _)) in (before + 1..).zip(batch.iter()) {
                self.writer
                    .check(&self.pair, number, entity, has_service_limits)?;
            }
        }
        let items = Arc::new(batch);
        for (range, keys) in commits(&items, self.writer.request_max_bytes()) {
            let batch = Batch {
                pair: self.pair.clone(),
                deed: self.deed,
                items: items.clone(),
                range,
                before,
            };
            self.send(batch, keys).await?;
        }
        // Whoever writes down what is safe does so before the next call: no more than the
        // window is ever in doubt.
        while self.flights.len() >= IN_FLIGHT {
            self.await_oldest().await?;
        }
        Ok(self.done)
    }

    fn end_piece(&mut self) {
        match self.flights.back_mut() {
            Some(flight) => flight.then = flight.then.plus_piece(),
            None => self.done = self.done.plus_piece(),
        }
    }

    async fn flush(&mut self) -> Result<StepProgress, TargetError> {
        while !self.flights.is_empty() {
            self.await_oldest().await?;
        }
        Ok(self.done)
    }

    async fn finish(mut self: Box<Self>) -> Result<StepProgress, TargetError> {
        self.flush().await
    }
}

/// Divides a batch into commits: within the limits, and no key twice in one. Each with its keys.
fn commits(items: &Encoded, max_bytes: usize) -> Vec<(Range<usize>, HashSet<u64>)> {
    let mut commits = Vec::new();
    let (mut start, mut bytes, mut keys) = (0, 0, HashSet::new());
    for (number, (item, key)) in items.iter().enumerate() {
        let len = item.len() + MUTATION_EXTRA_BYTES;
        if number > start
            && (keys.len() >= MAX_MUTATIONS || bytes + len > max_bytes || keys.contains(&key))
        {
            commits.push((start..number, std::mem::take(&mut keys)));
            (start, bytes) = (number, 0);
        }
        keys.insert(key);
        bytes += len;
    }
    if items.len() > start {
        commits.push((start..items.len(), keys));
    }
    commits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_splits_by_count_length_and_key() {
        let mut items = Encoded::default();
        for (len, key) in [(1, 1), (1, 2), (1, 1), (100, 3), (300, 4), (1, 5)] {
            items.push(&vec![b'x'; len], key);
        }
        let ranges = |items: &Encoded, max| {
            commits(items, max)
                .into_iter()
                .map(|(range, _)| range)
                .collect::<Vec<_>>()
        };
        assert_eq!(ranges(&items, 400), [0..2, 2..4, 4..6]);
        assert_eq!(ranges(&items, 100), [0..2, 2..3, 3..4, 4..5, 5..6]);
        let mut many = Encoded::default();
        (0..1_001).for_each(|key| many.push(b"x", key));
        assert_eq!(ranges(&many, 1 << 20), [0..500, 500..1_000, 1_000..1_001]);
        assert!(ranges(&Encoded::default(), 1).is_empty());
    }
}
