//! Lines of a journal: writing one, and reading them all back.

use serde::{Deserialize, Serialize};

use super::{Journal, JournalError, JournalEvent};
use crate::model::{Crc32c, Timestamp};

/// All of a line but its checksum.
#[derive(Serialize, Deserialize)]
struct LineBody<E> {
    at: Timestamp,
    #[serde(flatten)]
    event: E,
}

const CRC_FIELD: &str = "{\"crc\":\"";
const CRC_DIGITS: usize = 8;

/// Writes an event as one line, its line feed included.
pub fn encode(event: &JournalEvent, at: Timestamp) -> String {
    let object = serde_json::to_string(&LineBody { at, event })
        .expect("an event has no map whose keys are not texts");
    let rest = object.strip_prefix('{').expect("an event is an object");
    format!(
        "{CRC_FIELD}{}\",{rest}\n",
        Crc32c(crc32c::crc32c(rest.as_bytes()))
    )
}

/// Reads a journal: replays its events, one line after the other.
///
/// # Errors
/// As [`JournalReplay::push`].
#[cfg(any(test, feature = "test-util"))]
pub fn read(text: &[u8]) -> Result<Journal, JournalError> {
    let mut replay = JournalReplay::default();
    text.split_inclusive(|byte| *byte == b'\n')
        .try_for_each(|line| replay.push(line))?;
    Ok(replay.finish())
}

/// A journal that is read line by line, and never held as a whole.
///
/// A torn last line is dropped and told of in [`Journal::torn`]; who writes on cuts the journal to
/// [`Journal::valid_len`] bytes first. No bytes at all are the journal of a restore that has not begun.
#[derive(Debug, Default)]
pub struct JournalReplay {
    journal: Journal,
    /// Lines so far.
    lines: u64,
    /// What is wrong with the last line, if it is not the last after all.
    torn: Option<JournalError>,
}

impl JournalReplay {
    /// Takes the next line, its line feed included; only the last one may be without.
    ///
    /// # Errors
    /// When a line before the last is damaged, when a whole line is no event, or when an event
    /// cannot have happened where it stands.
    pub fn push(&mut self, line: &[u8]) -> Result<(), JournalError> {
        if let Some(error) = self.torn.take() {
            return Err(error);
        }
        self.lines += 1;
        let Some(text) = line.strip_suffix(b"\n") else {
            return self.tear(line, no_crc());
        };
        match checked(text) {
            Ok(body) => self.apply(body)?,
            Err(mismatch) => return self.tear(text, mismatch),
        }
        self.journal.valid_len += line.len() as u64;
        Ok(())
    }

    /// Drops a line that a crash may have torn; an error once another line follows it.
    fn tear(&mut self, line: &[u8], mismatch: Mismatch) -> Result<(), JournalError> {
        let error = damaged(self.lines, mismatch);
        if !is_torn(line) {
            return Err(error);
        }
        self.torn = Some(error);
        Ok(())
    }

    fn apply(&mut self, body: &[u8]) -> Result<(), JournalError> {
        let line = self.lines;
        let LineBody { at, event } = parse(body).map_err(|error| not_an_event(line, &error))?;
        let applied = self.journal.apply(&event, at);
        applied.map_err(|source| JournalError::InvalidTransition { line, source })
    }

    /// Ends the reading.
    pub fn finish(self) -> Journal {
        Journal {
            torn: self.torn.is_some(),
            ..self.journal
        }
    }
}

/// Whether bytes at the end can be what a crash left of a line: the beginning of one, or the zeros
/// of a block that was never written.
fn is_torn(line: &[u8]) -> bool {
    let len = line.len().min(CRC_FIELD.len());
    line.get(..len) == CRC_FIELD.as_bytes().get(..len) || line.iter().all(|byte| *byte == 0)
}

/// What is wrong with a line: the checksum that it should have, and the one that it has.
type Mismatch = (String, String);

fn damaged(line: u64, (expected, found): Mismatch) -> JournalError {
    JournalError::Damaged {
        line,
        expected,
        found,
    }
}

fn no_crc() -> Mismatch {
    ("a crc at the beginning".to_owned(), "other text".to_owned())
}

fn not_an_event(line: u64, error: &serde_json::Error) -> JournalError {
    let fault = error.to_string();
    JournalError::NotAnEvent { line, fault }
}

/// What follows the checksum, if the checksum is right; otherwise the checksum that it has and what
/// stands in its place.
fn checked(line: &[u8]) -> Result<&[u8], Mismatch> {
    let (digits, rest) = split_crc(line).ok_or_else(no_crc)?;
    let actual = Crc32c(crc32c::crc32c(rest)).to_string();
    if actual.as_bytes() == digits {
        return Ok(rest);
    }
    let found = format!("crc {}", digits.escape_ascii());
    Err((format!("crc {actual}"), found))
}

/// The digits of a line's checksum, and what follows them.
fn split_crc(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let field = line.strip_prefix(CRC_FIELD.as_bytes())?;
    let (digits, rest) = field.split_at_checked(CRC_DIGITS)?;
    Some((digits, rest.strip_prefix(b"\",")?))
}

fn parse(rest: &[u8]) -> Result<LineBody<JournalEvent>, serde_json::Error> {
    serde_json::from_slice(&[b"{", rest].concat())
}
