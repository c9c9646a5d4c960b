//! Whether a transfer still moves: the time of its last sign of life, and a wait that ends when
//! there was none for too long.
//!
//! A transfer may take as long as it needs; only silence ends it. Knows no addresses and no
//! objects.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// What is handed to a connection at once. Short, so that a slow connection shows that it is alive.
const CHUNK_BYTES: usize = 64 << 10;

/// The last sign of life of one transfer.
#[derive(Debug, Clone)]
pub struct IdleTimer(Arc<Mutex<Instant>>);

impl IdleTimer {
    pub fn new() -> Self {
        IdleTimer(Arc::new(Mutex::new(Instant::now())))
    }

    /// Something moved.
    pub fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the transfer comes to; nothing if it was silent for `idle`.
    pub async fn watch<T>(&self, idle: Duration, transfer: impl Future<Output = T>) -> Option<T> {
        let mut transfer = pin!(transfer);
        loop {
            match tokio::time::timeout(
                idle.saturating_sub(self.last().elapsed()),
                transfer.as_mut(),
            )
            .await
            {
                Ok(done) => return Some(done),
                Err(_) if self.last().elapsed() >= idle => return None,
                Err(_) => {}
            }
        }
    }
}

/// Bytes on their way up, in pieces that follow each other: each chunk that is taken is a sign of
/// life.
#[derive(Debug)]
pub struct ChunkedBody {
    rest: VecDeque<Bytes>,
    timer: IdleTimer,
}

impl ChunkedBody {
    pub fn new(pieces: Vec<Bytes>, timer: IdleTimer) -> Self {
        ChunkedBody {
            rest: pieces.into(),
            timer,
        }
    }
}

impl Iterator for ChunkedBody {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.timer.reset();
        while self.rest.front().is_some_and(Bytes::is_empty) {
            self.rest.pop_front();
        }
        let first = self.rest.front_mut()?;
        Some(first.split_to(CHUNK_BYTES.min(first.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_give_every_byte_once() {
        let bytes = Bytes::from(
            (0..CHUNK_BYTES * 2 + 7)
                .map(|byte| byte as u8)
                .collect::<Vec<_>>(),
        );
        let chunks = ChunkedBody::new(
            vec![
                Bytes::new(),
                bytes.slice(..5),
                Bytes::new(),
                bytes.slice(5..),
                Bytes::new(),
            ],
            IdleTimer::new(),
        );
        assert_eq!(
            chunks
                .map(|chunk| chunk.to_vec())
                .collect::<Vec<_>>()
                .concat(),
            bytes
        );
        assert_eq!(ChunkedBody::new(Vec::new(), IdleTimer::new()).next(), None);
    }

    #[tokio::test]
    async fn silent_transfer_ends_and_moving_one_continues() {
        let idle = Duration::from_secs(1);
        let timer = IdleTimer::new();
        let moving = async {
            for _ in 0..6 {
                tokio::time::sleep(idle / 4).await;
                timer.reset();
            }
        };
        assert_eq!(timer.watch(idle, moving).await, Some(()));
        assert_eq!(
            timer.watch(idle / 10, std::future::pending::<()>()).await,
            None
        );
    }
}
