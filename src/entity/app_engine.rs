//! Counting by App Engine's own interface, which the emulator serves for App Engine's development server.
//!
//! A query of Datastore v1 gives the emulator 300 entities at the most, and makes it go through all of the kind each time; here it goes
//! through them once and is then asked for what is left. Messages only: must not know how they are sent. Nothing about it is promised, so
//! whatever is not as expected counts as no answer.

use super::wire::{Fields, put_bytes, put_uint};
use crate::model::Pair;

/// How the interface is called.
pub const CALL: &str = "/apphosting.tools.devappserver2.CallHandler/HandleCall";

/// Passing over entities is counting them: so many are passed over as there can ever be.
const ALL: u64 = i32::MAX as u64;

/// A count that is under way.
#[derive(Debug, Default)]
pub struct Count {
    passed: u64,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This request is to be sent.
    Ask(Vec<u8>),
    /// There were so many entities.
    Done(u64),
}

impl Count {
    /// Begins to count what `project` holds of a pair; gives the request that is to be sent.
    pub fn begin(project: &str, pair: &Pair) -> (Self, Vec<u8>) {
        let mut query = Vec::new();
        put_bytes(&mut query, 1, project.as_bytes());
        put_bytes(&mut query, 3, pair.kind.as_str().as_bytes());
        put_uint(&mut query, 12, ALL);
        put_uint(&mut query, 21, 1);
        if !pair.namespace.is_default() {
            put_bytes(&mut query, 29, pair.namespace.as_str().as_bytes());
        }
        (Count::default(), call("RunQuery", &query))
    }

    /// Takes an answer; none where it makes no sense.
    pub fn take(&mut self, answer: &[u8]) -> Option<Next> {
        let result = Fields::new(answer).filter_map(Result::ok).find(|field| field.number == 1)?.bytes().ok()?;
        let (mut passed, mut more, mut cursor) = (0, None, None);
        for field in result {
            let field = field.ok()?;
            match field.number {
                1 => cursor = Some(field.bytes().ok()?.bytes().to_vec()),
                // Nothing is to be given before everything was passed over.
                2 => return None,
                3 => more = Some(field.varint().ok()? != 0),
                7 => passed = field.varint().ok()?,
                _ => {}
            }
        }
        self.passed += passed;
        match (more?, cursor) {
            (false, _) => Some(Next::Done(self.passed)),
            (true, Some(cursor)) if passed > 0 => Some(Next::Ask(self.next(&cursor))),
            (true, _) => None,
        }
    }

    fn next(&self, cursor: &[u8]) -> Vec<u8> {
        let mut next = Vec::new();
        put_bytes(&mut next, 1, cursor);
        // The emulator holds it against what it has still to pass over.
        put_uint(&mut next, 4, ALL.saturating_sub(self.passed));
        call("Next", &next)
    }
}

fn call(method: &str, request: &[u8]) -> Vec<u8> {
    let mut call = Vec::new();
    for (field, bytes) in [(2, "datastore_v3".as_bytes()), (3, method.as_bytes()), (4, request), (5, b"count")] {
        put_bytes(&mut call, field, bytes);
    }
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that passed over so many, with a cursor if there are more.
    fn answer(passed: u64, more: bool) -> Vec<u8> {
        let (mut result, mut answer) = (Vec::new(), Vec::new());
        put_bytes(&mut result, 1, b"cursor");
        put_uint(&mut result, 7, passed);
        put_uint(&mut result, 3, u64::from(more));
        put_bytes(&mut answer, 1, &result);
        answer
    }

    #[test]
    fn what_was_passed_over_is_the_count() {
        let (mut count, first) = Count::begin("p", &Pair::new("acme", "Song"));
        assert!(first.windows(8).any(|part| part == b"RunQuery"));
        assert!(matches!(count.take(&answer(300, true)), Some(Next::Ask(next)) if next.windows(6).any(|part| part == b"cursor")));
        assert_eq!(count.take(&answer(17, false)), Some(Next::Done(317)));
    }

    #[test]
    fn what_makes_no_sense_is_no_answer() {
        for nonsense in [&b""[..], b"\x0a", b"\x0a\x00", b"\x12\x03abc", b"\xff\xff\xff", &answer(0, true)] {
            let (mut count, _) = Count::begin("p", &Pair::new("", "Song"));
            assert_eq!(count.take(nonsense), None, "{nonsense:?}");
        }
        assert!(answer(300, true).len() > 4, "and a torn one is none either");
        for cut in 0..answer(300, true).len() {
            let (mut count, _) = Count::begin("p", &Pair::new("", "Song"));
            assert_eq!(count.take(&answer(300, true)[..cut]), None, "{cut}");
        }
    }
}
