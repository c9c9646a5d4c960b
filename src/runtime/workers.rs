//! Processor work off the async threads, one worker a core.
//!
//! Knows closures and nothing else. Order and bounds are the caller's: `buffered` gives both.

use std::num::NonZeroUsize;
use std::sync::Arc;

use futures_util::future::BoxFuture;
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
#[error("a worker thread failed: {0}")]
pub struct WorkerPanicked(#[source] pub tokio::task::JoinError);

impl Workers {
    /// Workers for `jobs` things at once (at least one); their buffers together should stay below
    /// `memory` bytes.
    pub fn new(jobs: usize, memory: u64) -> Self {
        let jobs = jobs.clamp(1, Semaphore::MAX_PERMITS);
        Workers {
            permits: Arc::new(Semaphore::new(jobs)),
            jobs,
            memory,
        }
    }

    /// The same workers for one of `users` that run side by side: together their buffers stay below
    /// the memory of all.
    pub fn split(&self, users: NonZeroUsize) -> Self {
        Workers {
            memory: (self.memory / users.get() as u64).max(1),
            ..self.clone()
        }
    }

    /// What the buffers should stay below.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// How many pieces of `piece_bytes` bytes may be in flight: two a worker, so that none waits
    /// for a read, if memory allows.
    pub fn window(&self, piece_bytes: u64) -> usize {
        let fitting = usize::try_from(self.memory / piece_bytes.max(1)).unwrap_or(usize::MAX);
        (2 * self.jobs + 1).min(fitting).max(1)
    }

    /// Runs `work` on a worker and waits for its answer.
    ///
    /// # Errors
    /// [`WorkerPanicked`] when the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkerPanicked> {
        // The semaphore is never closed.
        let permit = self.permits.clone().acquire_owned().await.ok();
        tokio::task::spawn_blocking(move || {
            let answer = work();
            drop(permit);
            answer
        })
        .await
        .map_err(WorkerPanicked)
    }

    /// Begins short work that everything else waits for, such as hashing in order, beside the
    /// workers and not behind their queue. Who needs the answer may wait for it later.
    ///
    /// # Errors
    /// [`WorkerPanicked`] when the work panicked.
    pub fn run_blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, WorkerPanicked>> + Send {
        let working = tokio::task::spawn_blocking(work);
        async { working.await.map_err(WorkerPanicked) }
    }
}

/// A value that is worked on beside everything else, by one thing after the other.
pub enum InOrder<T> {
    /// Nothing is done with it.
    Ready(T),
    /// What comes of it.
    Running(BoxFuture<'static, Result<T, WorkerPanicked>>),
}

impl<T: Default> Default for InOrder<T> {
    fn default() -> Self {
        InOrder::Ready(T::default())
    }
}

impl<T: Default + Send + 'static> InOrder<T> {
    /// Begins `work` when what was begun before is done, and does not wait for it.
    ///
    /// # Errors
    /// [`WorkerPanicked`] when earlier work panicked.
    pub async fn enqueue(
        &mut self,
        work: impl FnOnce(T) -> T + Send + 'static,
    ) -> Result<(), WorkerPanicked> {
        let value = self.join().await?;
        *self = InOrder::Running(Box::pin(Workers::run_blocking(move || work(value))));
        Ok(())
    }

    /// The value, when all that was begun is done; a new one takes its place.
    ///
    /// # Errors
    /// [`WorkerPanicked`] when the work panicked.
    pub async fn join(&mut self) -> Result<T, WorkerPanicked> {
        match std::mem::take(self) {
            InOrder::Ready(value) => Ok(value),
            InOrder::Running(working) => working.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn enqueued_work_runs_in_order() {
        let mut numbers = InOrder::<Vec<u32>>::default();
        for number in 0..100 {
            let push = move |mut numbers: Vec<u32>| {
                numbers.push(number);
                numbers
            };
            numbers.enqueue(push).await.unwrap();
        }
        assert_eq!(numbers.join().await.unwrap(), (0..100).collect::<Vec<_>>());
        assert!(numbers.join().await.unwrap().is_empty());
        numbers.enqueue(|_| panic!("a fault")).await.unwrap();
        assert!(numbers.join().await.is_err());
    }
}
