//! What Datastore v1 answers: refusals, as `google.rpc.Status` in protobuf or JSON, and keys.
//!
//! Knows bytes. Must not know what is done about an answer.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::entity::message;
use crate::entity::rewrite::KeyMapping;
use crate::entity::wire::{Field, Fields};
use crate::entity::{Id, Key, PathElement};

/// No answer makes anybody wait longer.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

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
        let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
        let code = error
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|code| u16::try_from(code).ok());
        let named = Code::from_name(text("status"));
        let details = error
            .get("details")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        Some(Status {
            code: if named == Code::Other {
                code.map_or(Code::Other, Code::from_http)
            } else {
                named
            },
            message: text("message").to_owned(),
            retry_after: details.iter().find_map(|detail| {
                let seconds: f64 = detail
                    .get("retryDelay")?
                    .as_str()?
                    .strip_suffix('s')?
                    .parse()
                    .ok()?;
                Duration::try_from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())).ok()
            }),
        })
    }

    fn from_message(body: &[u8]) -> Option<Self> {
        let mut status = Status {
            code: Code::Other,
            message: String::new(),
            retry_after: None,
        };
        let mut any = false;
        for field in Fields::new(body) {
            let field = field.ok()?;
            match field.number {
                1 => status.code = Code::from_number(field.varint().ok()?),
                2 => field.text().ok()?.clone_into(&mut status.message),
                3 => status.retry_after = retry_info(field.bytes().ok()?).or(status.retry_after),
                _ => continue,
            }
            any = true;
        }
        any.then_some(status)
    }
}

fn field(message: Fields<'_>, number: u32) -> Option<Field<'_>> {
    message
        .filter_map(Result::ok)
        .find(|field| field.number == number)
}

/// The delay in a `google.protobuf.Any`, where it is a `google.rpc.RetryInfo`.
fn retry_info(any: Fields<'_>) -> Option<Duration> {
    if !field(any, 1)?
        .text()
        .ok()?
        .ends_with("google.rpc.RetryInfo")
    {
        return None;
    }
    let info = field(any, 2)?.bytes().ok()?;
    let delay = field(info, 1)?.bytes().ok()?;
    let number = |number| {
        field(delay, number)
            .and_then(|field| field.varint().ok())
            .unwrap_or_default()
    };
    // Both are signed: a negative delay is none.
    let (seconds, nanos) = (
        u64::try_from(number(1).cast_signed()).ok()?,
        u32::try_from(number(2)).ok()?,
    );
    Some(Duration::from_secs(seconds.min(WAIT_MAX.as_secs())) + Duration::from_nanos(nanos.into()))
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
    let mut path = Vec::new();
    for element in key.get("path")?.as_array()? {
        let id = match (element.get("id"), element.get("name")) {
            (Some(id), _) => Id::Number(
                id.as_str()
                    .and_then(|id| id.parse().ok())
                    .or_else(|| id.as_i64())?,
            ),
            (None, name) => Id::Name(name?.as_str()?),
        };
        path.push(PathElement {
            kind: element.get("kind")?.as_str()?,
            id,
        });
    }
    let key = Key {
        app: partition("projectId"),
        namespace: partition("namespaceId"),
        database: partition("databaseId"),
        path,
    };
    Some(message::key_message(&key, &KeyMapping::identity()))
}

/// What a `google.datastore.v1.LookupResponse` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LookupAnswer {
    /// Entities that are there.
    pub found: usize,
    /// Keys under which there is none.
    pub missing: usize,
    /// Keys that are to be asked for again, serialized.
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
            longest.is_some_and(|wait| wait >= WAIT_MAX && wait < WAIT_MAX * 2),
            "{longest:?}"
        );
        for (text, expected) in [
            ("18446744073709551615s", Some(WAIT_MAX)),
            ("infs", Some(WAIT_MAX)),
            ("-1s", None),
            ("NaNs", Some(WAIT_MAX)),
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
