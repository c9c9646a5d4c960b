//! Bytes of an object that are read before they are requested, so that a service's latency is not
//! waited for once for each of them.
//!
//! Knows stores only. What is held is bounded in number and in bytes; what nobody asks for is
//! dropped.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::store::{ObjectInfo, Store, StoreError, read_exact};

/// Blocks that are read or held beyond the one that was requested last.
const BLOCKS_AHEAD: usize = 32;

/// Blocks that stay behind it: what is read twice, or a little out of order, is found there.
const BLOCKS_BEHIND: usize = 4;

/// What of an object is read ahead.
#[derive(Debug)]
pub struct ReadAhead {
    store: Arc<dyn Store>,
    object: ObjectInfo,
    plan: Mutex<ReadQueue>,
}

#[derive(Debug, Default)]
struct ReadQueue {
    /// What is not begun yet, in the order in which it will be requested.
    coming: VecDeque<Range<u64>>,
    blocks: VecDeque<Arc<Block>>,
    bytes_max: u64,
}

/// A part of the object.
#[derive(Debug)]
struct Block {
    range: Range<u64>,
    state: tokio::sync::Mutex<BlockState>,
}

#[derive(Debug)]
enum BlockState {
    Reading(JoinHandle<Result<Bytes, StoreError>>),
    Read(Bytes),
    /// The error was handed on to whoever asked first.
    Failed,
}

impl Drop for BlockState {
    fn drop(&mut self) {
        if let BlockState::Reading(reading) = self {
            reading.abort();
        }
    }
}

impl Block {
    /// Bytes of the block, when it is read; `None` where it cannot be had.
    async fn slice(&self, range: Range<usize>) -> Option<Result<Bytes, StoreError>> {
        let mut state = self.state.lock().await;
        if let BlockState::Reading(reading) = &mut *state {
            match reading.await {
                Ok(Ok(bytes)) => *state = BlockState::Read(bytes),
                Ok(Err(error)) => {
                    *state = BlockState::Failed;
                    return Some(Err(error));
                }
                Err(_) => *state = BlockState::Failed,
            }
        }
        match &*state {
            BlockState::Read(bytes) if range.end <= bytes.len() => Some(Ok(bytes.slice(range))),
            _ => None,
        }
    }
}

impl ReadAhead {
    /// Reads nothing before [`ReadAhead::start`].
    pub fn new(store: Arc<dyn Store>, object: ObjectInfo) -> Self {
        ReadAhead {
            store,
            object,
            plan: Mutex::default(),
        }
    }

    /// Begins to read ranges that will be requested, wholly or in parts, in about this order.
    /// Together the bytes ahead stay below `bytes_max`, unless a single range is longer.
    pub fn start(&self, ranges: impl IntoIterator<Item = Range<u64>>, bytes_max: u64) {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        *plan = ReadQueue {
            coming: ranges.into_iter().collect(),
            blocks: VecDeque::new(),
            bytes_max,
        };
        self.read_next(&mut plan, 0);
    }

    /// The bytes of a range that is read ahead; `None` where it is not.
    pub async fn take(&self, start: u64, len: usize) -> Option<Result<Bytes, StoreError>> {
        let end = start.checked_add(len as u64)?;
        let block = {
            let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
            let number = plan
                .blocks
                .iter()
                .position(|block| block.range.start <= start && end <= block.range.end)?;
            let block = plan.blocks.get(number)?.clone();
            let passed = number.saturating_sub(BLOCKS_BEHIND);
            plan.blocks.drain(..passed);
            self.read_next(&mut plan, number - passed + 1);
            block
        };
        let from = usize::try_from(start - block.range.start).ok()?;
        block.slice(from..from + len).await
    }

    /// Begins to read as much as may be held beyond the first `behind` blocks.
    fn read_next(&self, plan: &mut ReadQueue, behind: usize) {
        let len = |range: &Range<u64>| range.end - range.start;
        let mut ahead: u64 = plan
            .blocks
            .iter()
            .skip(behind)
            .map(|block| len(&block.range))
            .sum();
        while plan.blocks.len().saturating_sub(behind) < BLOCKS_AHEAD
            && let Some(range) = plan
                .coming
                .pop_front_if(|range| ahead == 0 || ahead + len(range) <= plan.bytes_max)
        {
            ahead += len(&range);
            let (store, object, range_len) = (
                self.store.clone(),
                self.object.clone(),
                usize::try_from(len(&range)).expect("what is read ahead is bounded by the memory"),
            );
            let start = range.start;
            let reading =
                tokio::spawn(
                    async move { read_exact(store.as_ref(), &object, start, range_len).await },
                );
            plan.blocks.push_back(Arc::new(Block {
                range,
                state: tokio::sync::Mutex::new(BlockState::Reading(reading)),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DirStore;

    async fn object_of(bytes: &[u8]) -> (tempfile::TempDir, Arc<dyn Store>, ObjectInfo) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), bytes).unwrap();
        let store: Arc<dyn Store> = Arc::new(DirStore::new(folder.path()));
        let object = store.stat("x").await.unwrap();
        (folder, store, object)
    }

    fn held(ahead: &ReadAhead) -> (usize, usize) {
        let plan = ahead.plan.lock().unwrap();
        (plan.blocks.len(), plan.coming.len())
    }

    #[tokio::test]
    async fn ranges_come_in_parts_from_bounded_blocks() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        let (_folder, store, object) = object_of(&bytes).await;
        let ahead = ReadAhead::new(store, object);
        ahead.start((0..100).map(|i| i * 100..i * 100 + 100), 1_000_000);
        assert_eq!(held(&ahead), (BLOCKS_AHEAD, 100 - BLOCKS_AHEAD));
        for start in (0..10_000).step_by(50) {
            let taken = ahead.take(start, 50).await.unwrap().unwrap();
            assert_eq!(taken, bytes[start as usize..start as usize + 50]);
            assert!(held(&ahead).0 <= BLOCKS_BEHIND + 1 + BLOCKS_AHEAD);
        }
        assert!(ahead.take(0, 50).await.is_none(), "it was passed long ago");
        assert!(ahead.take(9_950, 51).await.is_none() && ahead.take(u64::MAX, 2).await.is_none());
    }

    #[tokio::test]
    async fn bytes_ahead_stay_below_their_limit() {
        let (_folder, store, object) = object_of(&[7; 10_000]).await;
        let ahead = ReadAhead::new(store, object);
        ahead.start((0..100).map(|i| i * 100..i * 100 + 100), 350);
        assert_eq!(held(&ahead).0, 3);
        ahead.start((0..10).map(|i| i * 1000..i * 1000 + 1000), 350);
        assert_eq!(
            held(&ahead).0,
            1,
            "one that is longer than all may be is read by itself"
        );
        assert!(ahead.take(10, 20).await.unwrap().is_ok());
        assert_eq!(held(&ahead).0, 2);
    }

    #[tokio::test]
    async fn failure_is_given_once_and_then_read_anew() {
        let (folder, store, object) = object_of(&[7; 100]).await;
        let ahead = ReadAhead::new(store, object);
        std::fs::remove_file(folder.path().join("x")).unwrap();
        ahead.start(std::iter::once(0..100), 1_000);
        assert!(ahead.take(0, 10).await.unwrap().is_err());
        assert!(ahead.take(10, 10).await.is_none());
    }
}
