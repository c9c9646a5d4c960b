//! What Datastore v1 answers: refusals, as `google.rpc.Status` in protobuf or JSON, and keys.
//!
//! Knows bytes. Must not know what is done about an answer.

use std::time::Duration;

use serde_json::Value;

use super::proto::{Id, Key, PathElement};
use super::rewrite::Rewrite;
use super::v1;
use super::wire::{Field, Fields};

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

impl Code {
    /// The code of a number of gRPC.
    pub fn of_number(number: u64) -> Self {
        match number {
            3 => Code::InvalidArgument,
            4 => Code::DeadlineExceeded,
            5 => Code::NotFound,
            6 => Code::AlreadyExists,
            7 => Code::PermissionDenied,
            8 => Code::ResourceExhausted,
            10 => Code::Aborted,
            12 => Code::Unimplemented,
            13 => Code::Internal,
            14 => Code::Unavailable,
            16 => Code::Unauthenticated,
            _ => Code::Other,
        }
    }

    fn of_name(name: &str) -> Self {
        match name {
            "INVALID_ARGUMENT" => Code::InvalidArgument,
            "DEADLINE_EXCEEDED" => Code::DeadlineExceeded,
            "NOT_FOUND" => Code::NotFound,
            "ALREADY_EXISTS" => Code::AlreadyExists,
            "PERMISSION_DENIED" => Code::PermissionDenied,
            "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
            "ABORTED" => Code::Aborted,
            "UNIMPLEMENTED" => Code::Unimplemented,
            "INTERNAL" => Code::Internal,
            "UNAVAILABLE" => Code::Unavailable,
            "UNAUTHENTICATED" => Code::Unauthenticated,
            _ => Code::Other,
        }
    }

    /// What a status of HTTP means where nothing else is said. Front ends answer without a word of the service itself.
    pub fn of_http(status: u16) -> Self {
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
        if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) { Self::of_json(body) } else { Self::of_message(body) }
    }

    fn of_json(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let error = value.pointer("/error").or_else(|| value.pointer("/0/error"))?;
        let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
        let code = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let named = Code::of_name(text("status"));
        let details = error.get("details").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Some(Status {
            code: if named == Code::Other { code.map_or(Code::Other, Code::of_http) } else { named },
            message: text("message").to_owned(),
            retry_after: details.iter().find_map(|detail| {
                let seconds = detail.get("retryDelay")?.as_str()?.strip_suffix('s')?.parse().ok()?;
                Duration::try_from_secs_f64(seconds).ok()
            }),
        })
    }

    fn of_message(body: &[u8]) -> Option<Self> {
        let mut status = Status { code: Code::Other, message: String::new(), retry_after: None };
        let mut any = false;
        for field in Fields::new(body) {
            let field = field.ok()?;
            match field.number {
                1 => status.code = Code::of_number(field.varint().ok()?),
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
    message.filter_map(Result::ok).find(|field| field.number == number)
}

/// The delay in a `google.protobuf.Any`, where it is a `google.rpc.RetryInfo`.
fn retry_info(any: Fields<'_>) -> Option<Duration> {
    if !field(any, 1)?.text().ok()?.ends_with("google.rpc.RetryInfo") {
        return None;
    }
    let info = field(any, 2)?.bytes().ok()?;
    let delay = field(info, 1)?.bytes().ok()?;
    let number = |number| field(delay, number).and_then(|field| field.varint().ok()).unwrap_or_default();
    Some(Duration::new(number(1), u32::try_from(number(2)).ok()?))
}

/// The key of an entity in REST JSON as a `google.datastore.v1.Key`, in the very bytes in which `v1::key_of` writes it.
pub fn key_of_json(key: &Value) -> Option<Vec<u8>> {
    let partition = |field: &str| key.pointer(&format!("/partitionId/{field}")).and_then(Value::as_str).unwrap_or_default();
    let mut path = Vec::new();
    for element in key.get("path")?.as_array()? {
        let id = match (element.get("id"), element.get("name")) {
            (Some(id), _) => Id::Number(id.as_str().and_then(|id| id.parse().ok()).or_else(|| id.as_i64())?),
            (None, name) => Id::Name(name?.as_str()?),
        };
        path.push(PathElement { kind: element.get("kind")?.as_str()?, id });
    }
    let key = Key { app: partition("projectId"), namespace: partition("namespaceId"), database: partition("databaseId"), path };
    Some(v1::key_message(&key, &Rewrite::identity()))
}

/// The key of a serialized `google.datastore.v1.Entity`, if it ends in a number.
pub fn numbered_key(entity: &[u8]) -> Option<&[u8]> {
    let key = field(Fields::new(entity), 1)?.bytes().ok()?;
    let last = key.filter_map(Result::ok).filter(|field| field.number == 2).last()?.bytes().ok()?;
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
        let any = [&b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x06"[..], delay].concat();
        let message = [&b"\x08\x0a\x12\x02no\x1a"[..], &[any.len() as u8], &any].concat();
        let expected = Status { code: Code::Aborted, message: "no".to_owned(), retry_after: Some(Duration::new(7, 5)) };
        assert_eq!(Status::parse(&message), Some(expected.clone()));
        let error = json!({"error": {"code": 409, "message": "no", "status": "ABORTED", "details": [
            {"@type": "type.googleapis.com/google.rpc.Help"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.000000005s"},
        ]}});
        assert_eq!(Status::parse(error.to_string().as_bytes()), Some(expected.clone()));
        assert_eq!(Status::parse(json!([error]).to_string().as_bytes()), Some(expected));
        assert_eq!(Status::parse(br#"{"error": {"code": 429}}"#).map(|status| status.code), Some(Code::ResourceExhausted));
        for nothing in [&b""[..], b"Not Found", b"<html>", b"{}", b"{", b"\xff\xff"] {
            assert_eq!(Status::parse(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_key_in_json_has_the_bytes_of_the_same_key_in_an_entity() {
        let rewrite = Rewrite::identity();
        let mut numbered = 0;
        for record in ["managed", "legacy"].into_iter().flat_map(records) {
            let entity = Entity::parse(&record).unwrap();
            let mut message = Vec::new();
            v1::write_entity(&entity, &rewrite, &mut message);
            let key = v1::key_of(&entity, &rewrite);
            assert_eq!(key_of_json(&to_json(&entity, &rewrite)["key"]).unwrap(), key);
            let has_number = matches!(entity.key.as_ref().unwrap().path.last().unwrap().id, Id::Number(_));
            numbered += usize::from(has_number);
            assert_eq!(numbered_key(&message), has_number.then_some(&key[..]));
        }
        assert!(numbered > 10);
        assert_eq!(key_of_json(&json!({"path": [{"kind": "K"}]})), None);
    }
}
