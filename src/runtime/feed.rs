//! Bytes that come piece by piece, for code that reads from a `Read`.
//!
//! A reader that ends early is an error for the code: it never takes a part for the whole.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::{Buf as _, Bytes};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::workers::{WorkerPanicked, Workers};

/// How many pieces wait for the reader.
const MAX_WAITING_PIECES: usize = 2;

enum Message {
    Piece(Bytes),
    End,
}

/// Gives bytes to code that runs beside everything else, and then its answer.
pub struct ByteFeed<T> {
    sender: mpsc::Sender<Message>,
    working: BoxFuture<'static, Result<T, WorkerPanicked>>,
}

impl<T: Send + 'static> ByteFeed<T> {
    /// Begins `work`, which reads what will be pushed.
    pub fn start(work: impl FnOnce(FeedReader) -> T + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING_PIECES);
        let reader = FeedReader {
            receiver,
            piece: Bytes::new(),
            has_ended: false,
        };
        ByteFeed {
            sender,
            working: Box::pin(Workers::run_blocking(move || work(reader))),
        }
    }

    /// Gives the next bytes. Work that has ended already needs no more of them.
    pub async fn push(&self, bytes: Bytes) {
        self.sender.send(Message::Piece(bytes)).await.ok();
    }

    /// The answer, now that all bytes have come.
    ///
    /// # Errors
    /// [`WorkerPanicked`] when the work panicked.
    pub async fn finish(self) -> Result<T, WorkerPanicked> {
        self.sender.send(Message::End).await.ok();
        self.working.await
    }
}

/// Reads what is pushed into a [`ByteFeed`], once and in order.
pub struct FeedReader {
    receiver: mpsc::Receiver<Message>,
    piece: Bytes,
    has_ended: bool,
}

impl FeedReader {
    /// Waits for bytes, where there are none and more may come.
    fn fill(&mut self) -> io::Result<()> {
        while self.piece.is_empty() && !self.has_ended {
            match self.receiver.blocking_recv() {
                Some(Message::Piece(bytes)) => self.piece = bytes,
                Some(Message::End) => self.has_ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(())
    }
}

impl Read for FeedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let len = buffer.len().min(self.piece.len());
        let piece = self.piece.split_to(len);
        piece.reader().read_exact(buffer.split_at_mut(len).0)?;
        Ok(len)
    }
}

/// There is no way back: for code that asks for [`Seek`] and does not use it.
impl Seek for FeedReader {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut reader: FeedReader) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    }

    #[tokio::test]
    async fn reader_gets_all_bytes_in_order() {
        let feed = ByteFeed::start(read_all);
        for piece in ["", "one ", "two ", "", "three"] {
            feed.push(Bytes::from_static(piece.as_bytes())).await;
        }
        let read = feed.finish().await.unwrap().unwrap();
        assert_eq!(read, b"one two three");
    }

    #[tokio::test]
    async fn feed_dropped_early_is_no_end() {
        let (told, answer) = std::sync::mpsc::channel();
        let feed = ByteFeed::start(move |reader| told.send(read_all(reader)).unwrap());
        feed.push(Bytes::from_static(b"half")).await;
        drop(feed);
        assert!(answer.recv().unwrap().is_err());
    }

    #[tokio::test]
    async fn work_that_ends_early_stops_nobody() {
        let feed = ByteFeed::start(|_| 7);
        for _ in 0..10 {
            feed.push(Bytes::from_static(b"more")).await;
        }
        assert_eq!(feed.finish().await.unwrap(), 7);
    }
}
