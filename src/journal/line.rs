//! Lines of a journal: writing one, and reading them all back.

use serde::{Deserialize, Serialize};

use super::{Event, Journal, JournalError};
use crate::model::{Crc32c, Timestamp};

/// All of a line but its checksum.
#[derive(Serialize, Deserialize)]
struct Body<E> {
    at: Timestamp,
    #[serde(flatten)]
    event: E,
}

const CRC_FIELD: &str = "{\"crc\":\"";
const CRC_DIGITS: usize = 8;

/// Writes an event as one line, its line feed included.
pub fn encode(event: &Event, at: Timestamp) -> String {
    // Serializing an event cannot fail: no map has keys that are not text.
    let object = serde_json::to_string(&Body { at, event }).unwrap_or_default();
    let rest = object.strip_prefix('{').unwrap_or_default();
    format!("{CRC_FIELD}{}\",{rest}\n", Crc32c(crc32c::crc32c(rest.as_bytes())))
}

/// Reads a journal: replays its events, one line after the other.
///
/// A torn last line is dropped and told of in [`Journal::torn`]; who writes on cuts the journal to
/// [`Journal::valid_len`] bytes first. No bytes at all are the journal of a restore that has not begun.
///
/// # Errors
/// When a line before the last is damaged, when a whole line is no event, or when an event cannot have happened where it stands.
pub fn read(text: &[u8]) -> Result<Journal, JournalError> {
    let mut journal = Journal::default();
    let mut rest = text;
    let mut line = 0;
    while !rest.is_empty() {
        line += 1;
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            if !is_torn(rest) {
                return Err(foreign(line));
            }
            journal.torn = true;
            break;
        };
        let (this, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        let behind = behind.split_first().map_or(&[][..], |(_, behind)| behind);
        let body = match checked(this) {
            Ok(body) => body,
            Err(_) if behind.is_empty() && is_torn(this) => {
                journal.torn = true;
                break;
            }
            Err((expected, found)) => return Err(JournalError::Damaged { line, expected, found }),
        };
        let Body { at, event } = parse(body).map_err(|error| JournalError::NotAnEvent { line, found: error.to_string() })?;
        journal.apply(&event, at).map_err(|source| JournalError::Impossible { line, source })?;
        journal.valid_len += this.len() as u64 + 1;
        rest = behind;
    }
    Ok(journal)
}

/// Whether bytes at the end can be what a crash left of a line: the beginning of one, or the zeros of a block that was never written.
fn is_torn(line: &[u8]) -> bool {
    let len = line.len().min(CRC_FIELD.len());
    line.get(..len) == CRC_FIELD.as_bytes().get(..len) || line.iter().all(|byte| *byte == 0)
}

fn foreign(line: u64) -> JournalError {
    JournalError::Damaged { line, expected: "a crc at the beginning".to_owned(), found: "none".to_owned() }
}

/// What follows the checksum, if the checksum is right; otherwise the checksum that it has and what stands in its place.
fn checked(line: &[u8]) -> Result<&[u8], (String, String)> {
    let field = line.strip_prefix(CRC_FIELD.as_bytes()).and_then(|rest| rest.split_at_checked(CRC_DIGITS));
    let Some((digits, rest)) = field.and_then(|(digits, rest)| Some((digits, rest.strip_prefix(b"\",")?))) else {
        return Err(("a crc at the beginning".to_owned(), "none".to_owned()));
    };
    let actual = Crc32c(crc32c::crc32c(rest)).to_string();
    if actual.as_bytes() == digits { Ok(rest) } else { Err((format!("crc {actual}"), format!("crc {}", digits.escape_ascii()))) }
}

fn parse(rest: &[u8]) -> Result<Body<Event>, serde_json::Error> {
    serde_json::from_slice(&[b"{", rest].concat())
}
