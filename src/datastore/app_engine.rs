//! App Engine's own interface, which the emulator serves for App Engine's development server:
//! counting, and setting ids aside.
//!
//! A query of Datastore v1 gives the emulator 300 entities at the most, and makes it go through all
//! of the kind each time; here it goes through them once and is then asked for what is left.
//! Messages only: must not know how they are sent. Nothing about it is promised, so whatever is not
//! as expected counts as no answer.
//!
//! New ids come from one counter for all projects and kinds, which knows nothing of ids that were
//! restored. `reserveIds` of Datastore v1 leaves it as it is; the call here moves it.

use crate::entity::wire::{Fields, put_bytes, put_int, put_message, put_uint};
use crate::model::KindRef;

/// How the interface is called.
pub const CALL: &str = "/apphosting.tools.devappserver2.CallHandler/HandleCall";

/// Passing over entities is counting them: so many are passed over as there can ever be.
const ALL: u64 = i32::MAX as u64;

/// Ids below are handed out one after the other. Above, the emulator hands the counter's bits out
/// in reverse order, so that ids are scattered.
const SCATTERED_FROM: i64 = 1 << 52;

/// The counter must not come nearer to its end, 2^51: from there the emulator hands no scattered
/// ids out.
const COUNTER_MAX: i64 = (1 << 51) - (1 << 40);

/// Where the emulator's counter stands when it hands that id out; none for an id to which it does
/// not get.
pub fn counter_of(id: i64) -> Option<i64> {
    let counter = match id {
        ..=0 => return None,
        1..SCATTERED_FROM => id,
        _ => (((id - SCATTERED_FROM) as u64) << 13)
            .reverse_bits()
            .cast_signed(),
    };
    (1..=COUNTER_MAX).contains(&counter).then_some(counter)
}

/// Returns a request to hand out no id up to that place of the counter.
pub fn reserve(project: &str, counter: i64) -> Vec<u8> {
    let mut request = Vec::new();
    // Any key will do: the counter is one for all.
    put_message(&mut request, 1, |out| {
        put_bytes(out, 13, project.as_bytes());
        put_bytes(out, 14, b"\x0b\x12\x01K\x0c");
    });
    put_int(&mut request, 3, counter);
    call("AllocateIds", &request)
}

/// Whether an answer says that ids up to that place of the counter are taken.
pub fn is_reserved(answer: &[u8], counter: i64) -> bool {
    let result = Fields::new(answer)
        .filter_map(Result::ok)
        .find(|field| field.number == 1)
        .and_then(|field| field.bytes().ok());
    let end = result.and_then(|result| {
        result
            .filter_map(Result::ok)
            .find(|field| field.number == 2)
    });
    end.and_then(|end| end.varint().ok())
        .is_some_and(|end| end.cast_signed() >= counter)
}

/// A count that is under way.
#[derive(Debug, Default)]
pub struct CountCall {
    passed: u64,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum CountStep {
    /// This request is to be sent.
    Request(Vec<u8>),
    /// There were so many entities.
    Done(u64),
}

impl CountCall {
    /// Begins to count what `project` holds of a pair; gives the request that is to be sent.
    pub fn start(project: &str, pair: &KindRef) -> (Self, Vec<u8>) {
        let mut query = Vec::new();
        put_bytes(&mut query, 1, project.as_bytes());
        put_bytes(&mut query, 3, pair.kind.as_str().as_bytes());
        put_uint(&mut query, 12, ALL);
        put_uint(&mut query, 21, 1);
        if !pair.namespace.is_default() {
            put_bytes(&mut query, 29, pair.namespace.as_str().as_bytes());
        }
        (CountCall::default(), call("RunQuery", &query))
    }

    /// Takes an answer; none where it makes no sense.
    pub fn receive(&mut self, answer: &[u8]) -> Option<CountStep> {
        let result = Fields::new(answer)
            .filter_map(Result::ok)
            .find(|field| field.number == 1)?
            .bytes()
            .ok()?;
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
            (false, _) => Some(CountStep::Done(self.passed)),
            (true, Some(cursor)) if passed > 0 => Some(CountStep::Request(self.next(&cursor))),
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
    for (field, bytes) in [
        (2, "datastore_v3".as_bytes()),
        (3, method.as_bytes()),
        (4, request),
        (5, b"count"),
    ] {
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
        let (mut count, first) = CountCall::start("p", &KindRef::new("acme", "Song"));
        assert!(first.windows(8).any(|part| part == b"RunQuery"));
        assert!(
            matches!(count.receive(&answer(300, true)), Some(CountStep::Request(next)) if next.windows(6).any(|part| part == b"cursor"))
        );
        assert_eq!(
            count.receive(&answer(17, false)),
            Some(CountStep::Done(317))
        );
    }

    #[test]
    fn counter_is_found_for_both_id_types() {
        // As Google's emulator and the service hand them out: the first six scattered ones.
        let scattered = [
            5_629_499_534_213_120,
            5_066_549_580_791_808,
            6_192_449_487_634_432,
            4_785_074_604_081_152,
            5_910_974_510_923_776,
        ];
        for (place, id) in (1..).zip(scattered) {
            assert_eq!(counter_of(id), Some(place), "{id}");
        }
        for id in [1, 36, 1_000_001, COUNTER_MAX] {
            assert_eq!(counter_of(id), Some(id));
        }
        for id in [i64::MIN, -1, 0, COUNTER_MAX + 1, SCATTERED_FROM, i64::MAX] {
            assert_eq!(counter_of(id), None, "{id}");
        }
    }

    #[test]
    fn ids_are_reserved_only_when_confirmed() {
        let answer = |end: i64| {
            let (mut result, mut answer) = (Vec::new(), Vec::new());
            put_int(&mut result, 1, 7);
            put_int(&mut result, 2, end);
            put_bytes(&mut answer, 1, &result);
            answer
        };
        assert!(is_reserved(&answer(20), 20) && is_reserved(&answer(21), 20));
        assert!(!is_reserved(&answer(19), 20));
        for nonsense in [&b""[..], b"\x0a\x00", b"\x12\x03abc", b"\xff\xff\xff"] {
            assert!(!is_reserved(nonsense, 1), "{nonsense:?}");
        }
        assert!(
            reserve("p", 20)
                .windows(11)
                .any(|part| part == b"AllocateIds")
        );
    }

    #[test]
    fn what_makes_no_sense_is_no_answer() {
        for nonsense in [
            &b""[..],
            b"\x0a",
            b"\x0a\x00",
            b"\x12\x03abc",
            b"\xff\xff\xff",
            &answer(0, true),
        ] {
            let (mut count, _) = CountCall::start("p", &KindRef::new("", "Song"));
            assert_eq!(count.receive(nonsense), None, "{nonsense:?}");
        }
        assert!(answer(300, true).len() > 4, "and a torn one is none either");
        for cut in 0..answer(300, true).len() {
            let (mut count, _) = CountCall::start("p", &KindRef::new("", "Song"));
            assert_eq!(count.receive(&answer(300, true)[..cut]), None, "{cut}");
        }
    }
}
