//! What Datastore v1 answers: refusals, as `google.rpc.Status` in protobuf or JSON, and keys.
//!
//! Knows bytes. Must not know what is done about an answer.

use std::fmt;
use std::time::Duration;

use prost::Message as _;
use serde_json::Value;

use crate::entity::message;
use crate::entity::rewrite::KeyMapping;
use crate::entity::wire::{Field, Fields};
use crate::entity::{Id, Key, PathElement};

/// No answer makes anybody wait longer.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The codes of gRPC that we tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request can never be done.
    InvalidArgument,
    /// It took too long.
    DeadlineExceeded,
    /// What it is about is not there.
    NotFound,
    /// What it would make is there already.
    AlreadyExists,
    /// The credentials do not allow it.
    PermissionDenied,
    /// Too much, for now.
    ResourceExhausted,
    /// The state of what it is about does not allow it.
    FailedPrecondition,
    /// Somebody else was at it at the same time.
    Aborted,
    /// There is no such call.
    Unimplemented,
    /// The service is not well.
    Internal,
    /// The service is not there.
    Unavailable,
    /// Without good credentials.
    Unauthenticated,
    /// All others.
    Other,
}

/// Their numbers in gRPC and their names, which JSON answers give.
const CODES: [(u64, &str, Code); 12] = [
    (3, "INVALID_ARGUMENT", Code::InvalidArgument),
    (4, "DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    (5, "NOT_FOUND", Code::NotFound),
    (6, "ALREADY_EXISTS", Code::AlreadyExists),
    (7, "PERMISSION_DENIED", Code::PermissionDenied),
    (8, "RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    (9, "FAILED_PRECONDITION", Code::FailedPrecondition),
    (10, "ABORTED", Code::Aborted),
    (12, "UNIMPLEMENTED", Code::Unimplemented),
    (13, "INTERNAL", Code::Internal),
    (14, "UNAVAILABLE", Code::Unavailable),
    (16, "UNAUTHENTICATED", Code::Unauthenticated),
];

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            CODES
                .iter()
                .find(|(_, _, code)| code == self)
                .map_or("UNKNOWN", |(_, name, _)| name),
        )
    }
}

impl Code {
    /// The code of a number of gRPC.
    pub fn from_number(number: u64) -> Self {
        CODES
            .iter()
            .find(|(of_code, ..)| *of_code == number)
            .map_or(Code::Other, |(_, _, code)| *code)
    }

    fn from_name(name: &str) -> Self {
        CODES
            .iter()
            .find(|(_, of_code, _)| *of_code == name)
            .map_or(Code::Other, |(_, _, code)| *code)
    }

    /// What a status of HTTP means where nothing else is said. Front ends answer without a word of
    /// the service itself.
    pub fn from_http(status: u16) -> Self {
        match status {
            400 | 413 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            408 | 504 => Code::DeadlineExceeded,
            409 => Code::Aborted,
            429 => Code::ResourceExhausted,
            501 => Code::Unimplemented,
            500 => Code::Internal,
            502 | 503 => Code::Unavailable,
            _ => Code::Other,
        }
    }
}

/// A refusal, in the service's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which one.
    pub code: Code,
    /// In words. They may quote keys and values.
    pub message: String,
    /// When another try makes sense (`google.rpc.RetryInfo`).
    pub retry_after: Option<Duration>,
}

impl Status {
    /// Reads the body of an answer that is no success; none where it holds no status.
    pub fn parse(body: &[u8]) -> Option<Self> {
        if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
            Self::from_json(body)
        } else {
            Self::from_message(body)
        }
    }

    fn from_json(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let error = value
            .pointer("/error")
            .or_else(|| value.pointer("/0/error"))?;
        let details = error.get("details").and_then(Value::as_array);
        let message = error.get("message").and_then(Value::as_str);
        Some(Status {
            code: code_of_json(error),
            message: message.unwrap_or_default().to_owned(),
            retry_after: details.into_iter().flatten().find_map(retry_delay_of_json),
        })
    }

    fn from_message(body: &[u8]) -> Option<Self> {
        let StatusMessage {
            code,
            message,
            details,
        } = StatusMessage::decode(body).ok()?;
        if code.is_none() && message.is_none() && details.is_empty() {
            return None;
        }
        Some(Status {
            code: code.map_or(Code::Other, Code::from_number),
            message: message.unwrap_or_default(),
            retry_after: details.iter().rev().find_map(|any| retry_delay(any)),
        })
    }
}

/// By name, or by the status of HTTP where the name says nothing.
fn code_of_json(error: &Value) -> Code {
    let name = error.get("status").and_then(Value::as_str);
    let number = error.get("code").and_then(Value::as_u64);
    let http = number.and_then(|number| u16::try_from(number).ok());
    match name.map_or(Code::Other, Code::from_name) {
        Code::Other => http.map_or(Code::Other, Code::from_http),
        named => named,
    }
}

fn retry_delay_of_json(detail: &Value) -> Option<Duration> {
    let delay = detail.get("retryDelay")?.as_str()?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds.min(MAX_WAIT.as_secs_f64())).ok()
}

/// `google.rpc.Status`. Numbers are as wide as the wire has them, so that none is cut to one that
/// means something; details are read one by one, so that one of them spoils no other.
#[derive(prost::Message)]
struct StatusMessage {
    #[prost(uint64, optional, tag = "1")]
    code: Option<u64>,
    #[prost(string, optional, tag = "2")]
    message: Option<String>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    details: Vec<Vec<u8>>,
}

/// `google.protobuf.Any`.
#[derive(prost::Message)]
struct AnyMessage {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<DurationMessage>,
}

/// `google.protobuf.Duration`.
#[derive(prost::Message)]
struct DurationMessage {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int64, tag = "2")]
    nanos: i64,
}

fn field(message: Fields<'_>, number: u32) -> Option<Field<'_>> {
    message
        .filter_map(Result::ok)
        .find(|field| field.number == number)
}

/// The delay in a `google.protobuf.Any`, where it is a `google.rpc.RetryInfo`. A negative one is
/// none.
fn retry_delay(any: &[u8]) -> Option<Duration> {
    let any = AnyMessage::decode(any).ok()?;
    if !any.type_url.ends_with("google.rpc.RetryInfo") {
        return None;
    }
    let delay = RetryInfo::decode(&any.value[..]).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    let nanos = u32::try_from(delay.nanos).ok()?;
    Some(Duration::from_secs(seconds.min(MAX_WAIT.as_secs())) + Duration::from_nanos(nanos.into()))
}

/// How many mutations a `google.datastore.v1.CommitResponse` answers; none where the bytes are no
/// such message.
pub fn mutation_results(body: &[u8]) -> Option<usize> {
    let mut results = 0;
    for field in Fields::new(body) {
        let field = field.ok()?;
        if field.number == 3 {
            field.bytes().ok()?;
            results += 1;
        }
    }
    Some(results)
}

/// The key of an entity in REST JSON as a `google.datastore.v1.Key`, in the very bytes in which
/// `v1::key_of` writes it.
pub fn key_of_json(key: &Value) -> Option<Vec<u8>> {
    let partition = |field: &str| {
        key.pointer(&format!("/partitionId/{field}"))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let elements = key.get("path")?.as_array()?;
    let path = elements.iter().map(path_element).collect::<Option<_>>()?;
    let key = Key {
        app: partition("projectId"),
        namespace: partition("namespaceId"),
        database: partition("databaseId"),
        path,
    };
    Some(message::key_message(&key, &KeyMapping::identity()))
}

fn path_element(element: &Value) -> Option<PathElement<'_>> {
    let id = match (element.get("id"), element.get("name")) {
        (Some(id), _) => {
            let spelled = id.as_str().and_then(|id| id.parse().ok());
            Id::Number(spelled.or_else(|| id.as_i64())?)
        }
        (None, name) => Id::Name(name?.as_str()?),
    };
    let kind = element.get("kind")?.as_str()?;
    Some(PathElement { kind, id })
}

/// What a `google.datastore.v1.LookupResponse` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LookupAnswer {
    /// Entities that are there.
    pub found: usize,
    /// Keys under which there is none.
    pub missing: usize,
    /// Keys that are to be requested again, serialized.
    pub deferred: Vec<Vec<u8>>,
}

impl LookupAnswer {
    /// Reads an answer; none where the bytes are no such message.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut answer = LookupAnswer::default();
        for field in Fields::new(body) {
            let field = field.ok()?;
            match field.number {
                1 => answer.found += field.bytes().map(|_| 1).ok()?,
                2 => answer.missing += field.bytes().map(|_| 1).ok()?,
                3 => answer.deferred.push(field.bytes().ok()?.bytes().to_vec()),
                _ => {}
            }
        }
        Some(answer)
    }
}

/// The key of a serialized `google.datastore.v1.Entity`.
pub fn key_of_message(entity: &[u8]) -> Option<&[u8]> {
    Some(field(Fields::new(entity), 1)?.bytes().ok()?.bytes())
}

/// The ids in a serialized `google.datastore.v1.Key`, those of ancestors included.
pub fn ids_of_key(key: &[u8]) -> impl Iterator<Item = i64> {
    let elements = Fields::new(key)
        .filter_map(Result::ok)
        .filter(|field| field.number == 2);
    elements.filter_map(|element| {
        Some(
            field(element.bytes().ok()?, 2)?
                .varint()
                .ok()?
                .cast_signed(),
        )
    })
}

/// The key of a serialized `google.datastore.v1.Entity`, if it ends in a number.
pub fn numbered_key(entity: &[u8]) -> Option<&[u8]> {
    let key = field(Fields::new(entity), 1)?.bytes().ok()?;
    let last = key
        .filter_map(Result::ok)
        .filter(|field| field.number == 2)
        .last()?
        .bytes()
        .ok()?;
    field(last, 2).map(|_| key.bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::Entity;
    use crate::entity::testing::{records, to_json};

    #[test]
    fn a_refusal_is_read_from_both_forms() {
        let delay = b"\x0a\x04\x08\x07\x10\x05";
        let any = [
            &b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x06"[..],
            delay,
        ]
        .concat();
        let message = [&b"\x08\x0a\x12\x02no\x1a"[..], &[any.len() as u8], &any].concat();
        let expected = Status {
            code: Code::Aborted,
            message: "no".to_owned(),
            retry_after: Some(Duration::new(7, 5)),
        };
        assert_eq!(Status::parse(&message), Some(expected.clone()));
        let error = json!({"error": {"code": 409, "message": "no", "status": "ABORTED", "details": [
            {"@type": "type.googleapis.com/google.rpc.Help"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.000000005s"},
        ]}});
        assert_eq!(
            Status::parse(error.to_string().as_bytes()),
            Some(expected.clone())
        );
        assert_eq!(
            Status::parse(json!([error]).to_string().as_bytes()),
            Some(expected)
        );
        assert_eq!(
            Status::parse(br#"{"error": {"code": 429}}"#).map(|status| status.code),
            Some(Code::ResourceExhausted)
        );
        for nothing in [&b""[..], b"Not Found", b"<html>", b"{}", b"{", b"\xff\xff"] {
            assert_eq!(Status::parse(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn no_requested_wait_exceeds_a_day() {
        let asked = |delay: &[u8]| {
            let info = [&[0x0a, delay.len() as u8], delay].concat();
            let any = [
                &b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12"[..],
                &[info.len() as u8],
                &info,
            ]
            .concat();
            Status::parse(&[&b"\x08\x0e\x1a"[..], &[any.len() as u8], &any].concat())
                .unwrap()
                .retry_after
        };
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(
            asked(&[&[0x08][..], &most, &[0x10, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat()),
            None,
            "a negative delay"
        );
        let longest = asked(
            &[
                &[0x08][..],
                &most[..8],
                &[0x7f, 0x10, 0xff, 0xff, 0xff, 0xff, 0x0f],
            ]
            .concat(),
        );
        assert!(
            longest.is_some_and(|wait| wait >= MAX_WAIT && wait < MAX_WAIT * 2),
            "{longest:?}"
        );
        for (text, expected) in [
            ("18446744073709551615s", Some(MAX_WAIT)),
            ("infs", Some(MAX_WAIT)),
            ("-1s", None),
            ("NaNs", Some(MAX_WAIT)),
        ] {
            let error = json!({"error": {"code": 503, "details": [{"retryDelay": text}]}});
            assert_eq!(
                Status::parse(error.to_string().as_bytes())
                    .unwrap()
                    .retry_after,
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn only_a_commit_response_answers_mutations() {
        assert_eq!(mutation_results(b""), Some(0));
        assert_eq!(
            mutation_results(b"\x1a\x02\x20\x08\x1a\x00\x20\x03"),
            Some(2)
        );
        for nonsense in [&[0; 1000][..], b"{\"x\":[[[", b"\x1a\x05\x20", b"\x18\x01"] {
            assert_eq!(mutation_results(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_lookup_is_understood_or_no_answer() {
        let answer = b"\x0a\x00\x12\x00\x12\x00\x1a\x02\x12\x00\x3a\x00";
        let expected = LookupAnswer {
            found: 1,
            missing: 2,
            deferred: vec![b"\x12\x00".to_vec()],
        };
        assert_eq!(LookupAnswer::parse(answer), Some(expected));
        for nonsense in [&[0; 9][..], b"{\"found\": [[[", b"\x0a\x05", b"\x08\x01"] {
            assert_eq!(LookupAnswer::parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn json_key_equals_entity_key_bytes() {
        let rewrite = KeyMapping::identity();
        let mut numbered = 0;
        for record in ["managed", "legacy"].into_iter().flat_map(records) {
            let entity = Entity::parse(&record).unwrap();
            let mut message = Vec::new();
            message::write_entity(&entity, &rewrite, &mut message);
            let key = message::key_of(&entity, &rewrite);
            assert_eq!(
                key_of_json(&to_json(&entity, &rewrite)["key"]).unwrap(),
                key
            );
            let has_number = matches!(
                entity.key.as_ref().unwrap().path.last().unwrap().id,
                Id::Number(_)
            );
            numbered += usize::from(has_number);
            assert_eq!(numbered_key(&message), has_number.then_some(&key[..]));
            assert_eq!(key_of_message(&message), Some(&key[..]));
            let ids =
                entity
                    .key
                    .as_ref()
                    .unwrap()
                    .path
                    .iter()
                    .filter_map(|element| match element.id {
                        Id::Number(id) => Some(id),
                        _ => None,
                    });
            assert!(ids_of_key(&key).eq(ids));
        }
        assert!(numbered > 10);
        assert_eq!(key_of_json(&json!({"path": [{"kind": "K"}]})), None);
    }
}
