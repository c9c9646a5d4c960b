//! Processor work off the async threads, one worker a core.
//!
//! Knows closures and nothing else. Order and bounds are the caller's: `buffered` gives both.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// A bounded set of workers. Clones share the same ones.
#[derive(Debug, Clone)]
pub struct Workers {
    permits: Arc<Semaphore>,
    jobs: usize,
    memory: u64,
}

/// A worker ended without an answer: a fault of kindpack's own.
#[derive(Debug, thiserror::Error)]
#[error("a worker ended without an answer: {0}")]
pub struct WorkerLost(#[source] pub tokio::task::JoinError);

impl Workers {
    /// Workers for `jobs` things at once (at least one); their buffers together should stay below `memory` bytes.
    pub fn new(jobs: usize, memory: u64) -> Self {
        let jobs = jobs.clamp(1, Semaphore::MAX_PERMITS);
        Workers { permits: Arc::new(Semaphore::new(jobs)), jobs, memory }
    }

    /// The same workers for one of `users` that run side by side: together their buffers stay below the memory of all.
    pub fn divided(&self, users: NonZeroUsize) -> Self {
        Workers { memory: (self.memory / users.get() as u64).max(1), ..self.clone() }
    }

    /// What the buffers should stay below.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// How many pieces of `piece_bytes` bytes may be in flight: two a worker, so that none waits for a read, if memory allows.
    pub fn window(&self, piece_bytes: u64) -> usize {
        let fitting = usize::try_from(self.memory / piece_bytes.max(1)).unwrap_or(usize::MAX);
        (2 * self.jobs + 1).min(fitting).max(1)
    }

    /// Runs `work` on a worker and waits for its answer.
    ///
    /// # Errors
    /// [`WorkerLost`] when the work panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, WorkerLost> {
        // The semaphore is never closed.
        let permit = self.permits.clone().acquire_owned().await.ok();
        tokio::task::spawn_blocking(move || {
            let answer = work();
            drop(permit);
            answer
        })
        .await
        .map_err(WorkerLost)
    }

    /// Runs short work that everything else waits for, such as hashing in order, beside the workers and not behind their queue.
    ///
    /// # Errors
    /// [`WorkerLost`] when the work panicked.
    pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WorkerLost> {
        tokio::task::spawn_blocking(work).await.map_err(WorkerLost)
    }
}
