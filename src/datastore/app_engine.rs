//! App Engine's own interface, which the emulator serves for App Engine's development server:
//! counting, and setting ids aside.
//!
//! A query of Datastore v1 gives the emulator 300 entities at the most, and makes it go through all
//! of the kind each time; here it goes through them once and is then asked what is left.
//! Messages only: must not know how they are sent. Nothing about it is promised, so whatever is not
//! as expected counts as no answer.
//!
//! New ids come from one counter for all projects and kinds, which knows nothing of ids that were
//! restored. `reserveIds` of Datastore v1 leaves it as it is; the call here moves it.

use prost::Message;

use crate::model::KindRef;

/// How the interface is called.
pub const CALL: &str = "/apphosting.tools.devappserver2.CallHandler/HandleCall";

/// Passing over entities is counting them: so many are passed over as there can ever be.
const ALL: u64 = i32::MAX as u64;

/// Ids below are handed out one after the other. Above, the emulator hands the counter's bits out
/// in reverse order, so that ids are scattered.
const SCATTERED_FROM: i64 = 1 << 52;

/// No scattered id is as large.
const SCATTERED_TO: i64 = 1 << 53;

/// The counter must not come nearer to its end, 2^51: from there the emulator hands no scattered
/// ids out.
const MAX_COUNTER: i64 = (1 << 51) - (1 << 40);

/// Where the emulator's counter stands when it hands that id out; none for an id to which it does
/// not get.
pub fn counter_of(id: i64) -> Option<i64> {
    let counter = match id {
        1..SCATTERED_FROM => id,
        SCATTERED_FROM..SCATTERED_TO => (((id - SCATTERED_FROM) as u64) << 13)
            .reverse_bits()
            .cast_signed(),
        _ => return None,
    };
    (1..=MAX_COUNTER).contains(&counter).then_some(counter)
}

/// Returns a request to hand out no id up to that place of the counter.
pub fn reserve(project: &str, counter: i64) -> Vec<u8> {
    // Any key will do: the counter is one for all.
    let model_key = Reference {
        app: project.to_owned(),
        path: b"\x0b\x12\x01K\x0c".to_vec(),
    };
    let request = AllocateIdsRequest {
        model_key: Some(model_key),
        max: counter,
    };
    call("AllocateIds", &request)
}

/// Whether an answer says that ids up to that place of the counter are taken.
pub fn is_reserved(answer: &[u8], counter: i64) -> bool {
    response::<AllocateIdsResponse>(answer)
        .and_then(|response| response.end)
        .is_some_and(|end| end >= counter)
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
        let namespace = Some(pair.namespace.as_str().to_owned());
        let query = Query {
            app: project.to_owned(),
            kind: pair.kind.as_str().to_owned(),
            offset: ALL,
            keys_only: true,
            name_space: namespace.filter(|_| !pair.namespace.is_default()),
        };
        (CountCall::default(), call("RunQuery", &query))
    }

    /// Takes an answer; none where it makes no sense.
    pub fn receive(&mut self, answer: &[u8]) -> Option<CountStep> {
        let result: QueryResult = response(answer)?;
        // Nothing is to be given before everything was passed over.
        if !result.results.is_empty() {
            return None;
        }
        self.passed = self.passed.checked_add(result.skipped_results)?;
        match (result.more_results?, result.cursor) {
            (false, _) => Some(CountStep::Done(self.passed)),
            (true, Some(cursor)) if result.skipped_results > 0 => {
                Some(CountStep::Request(self.next(cursor)))
            }
            (true, _) => None,
        }
    }

    fn next(&self, cursor: Vec<u8>) -> Vec<u8> {
        // The emulator holds the number against what it has still to pass over.
        let offset = ALL.saturating_sub(self.passed);
        call("Next", &NextRequest { cursor, offset })
    }
}

fn call(method: &str, request: &impl Message) -> Vec<u8> {
    let call = ApiRequest {
        service_name: "datastore_v3".to_owned(),
        method: method.to_owned(),
        request: request.encode_to_vec(),
        request_id: "count".to_owned(),
    };
    call.encode_to_vec()
}

/// What an answer carries; none where it carries nothing, or something else.
fn response<M: Message + Default>(answer: &[u8]) -> Option<M> {
    let response = ApiResponse::decode(answer).ok()?.response?;
    M::decode(&response[..]).ok()
}

/// `remote_api.Request`.
#[derive(prost::Message)]
struct ApiRequest {
    #[prost(string, required, tag = "2")]
    service_name: String,
    #[prost(string, required, tag = "3")]
    method: String,
    #[prost(bytes = "vec", required, tag = "4")]
    request: Vec<u8>,
    #[prost(string, required, tag = "5")]
    request_id: String,
}

/// `remote_api.Response`.
#[derive(prost::Message)]
struct ApiResponse {
    #[prost(bytes = "vec", optional, tag = "1")]
    response: Option<Vec<u8>>,
}

/// `datastore_v3.Query`.
#[derive(prost::Message)]
struct Query {
    #[prost(string, required, tag = "1")]
    app: String,
    #[prost(string, required, tag = "3")]
    kind: String,
    #[prost(uint64, required, tag = "12")]
    offset: u64,
    #[prost(bool, required, tag = "21")]
    keys_only: bool,
    #[prost(string, optional, tag = "29")]
    name_space: Option<String>,
}

/// `datastore_v3.NextRequest`; the cursor is as it was given.
#[derive(prost::Message)]
struct NextRequest {
    #[prost(bytes = "vec", required, tag = "1")]
    cursor: Vec<u8>,
    #[prost(uint64, required, tag = "4")]
    offset: u64,
}

/// `datastore_v3.QueryResult`.
#[derive(prost::Message)]
struct QueryResult {
    #[prost(bytes = "vec", optional, tag = "1")]
    cursor: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    results: Vec<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    more_results: Option<bool>,
    #[prost(uint64, tag = "7")]
    skipped_results: u64,
}

/// `storage_onestore_v3.Reference`; the path is as it stands on the wire.
#[derive(prost::Message)]
struct Reference {
    #[prost(string, required, tag = "13")]
    app: String,
    #[prost(bytes = "vec", required, tag = "14")]
    path: Vec<u8>,
}

/// `datastore_v3.AllocateIdsRequest`.
#[derive(prost::Message)]
struct AllocateIdsRequest {
    #[prost(message, optional, tag = "1")]
    model_key: Option<Reference>,
    #[prost(int64, required, tag = "3")]
    max: i64,
}

/// `datastore_v3.AllocateIdsResponse`.
#[derive(prost::Message)]
struct AllocateIdsResponse {
    #[prost(int64, optional, tag = "2")]
    end: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::wire::{put_bytes, put_int, put_uint};

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
    fn counts_beyond_any_number_make_no_sense() {
        let (mut count, _) = CountCall::start("p", &KindRef::new("acme", "Song"));
        assert!(count.receive(&answer(1 << 63, true)).is_some());
        assert_eq!(count.receive(&answer(1 << 63, true)), None);
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
        for id in [1, 36, 1_000_001, MAX_COUNTER] {
            assert_eq!(counter_of(id), Some(id));
        }
        for id in [i64::MIN, -1, 0, MAX_COUNTER + 1, SCATTERED_FROM, i64::MAX] {
            assert_eq!(counter_of(id), None, "{id}");
        }
        // Such ids are restored, but never handed out.
        for id in [SCATTERED_TO, SCATTERED_TO + 1, SCATTERED_TO + (1 << 51)] {
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
