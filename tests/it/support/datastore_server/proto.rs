//! Messages of Datastore v1 by their numbers, to JSON and back, after the published definition and
//! independent of the code under test.
//!
//! So the server answers both forms with one implementation, which knows JSON only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kindpack::model::Timestamp;
use serde_json::{Map, Value, json};

/// What a field holds.
#[derive(Debug, Clone, Copy)]
enum Type {
    Text,
    Blob,
    /// A number that JSON spells as text.
    Long,
    Int,
    Bool,
    Double,
    Null,
    /// Names of an enumeration, by number.
    Names(&'static [&'static str]),
    Message(&'static [Field]),
    /// `google.protobuf.Timestamp`.
    Time,
    /// `google.protobuf.Int32Value`.
    Wrapped,
    /// A map from texts to messages.
    MapOf(&'static [Field]),
}

/// Number, name in JSON, type, whether it is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Field(u32, &'static str, Type, bool);

const fn one(number: u32, name: &'static str, holds: Type) -> Field {
    Field(number, name, holds, false)
}

const fn many(number: u32, name: &'static str, holds: Type) -> Field {
    Field(number, name, holds, true)
}

static PARTITION: [Field; 3] = [
    one(2, "projectId", Type::Text),
    one(3, "databaseId", Type::Text),
    one(4, "namespaceId", Type::Text),
];
static ELEMENT: [Field; 3] = [
    one(1, "kind", Type::Text),
    one(2, "id", Type::Long),
    one(3, "name", Type::Text),
];
static KEY: [Field; 2] = [
    one(1, "partitionId", Type::Message(&PARTITION)),
    many(2, "path", Type::Message(&ELEMENT)),
];
static POINT: [Field; 2] = [
    one(1, "latitude", Type::Double),
    one(2, "longitude", Type::Double),
];
static ARRAY: [Field; 1] = [many(1, "values", Type::Message(&VALUE))];
static VALUE: [Field; 13] = [
    one(11, "nullValue", Type::Null),
    one(1, "booleanValue", Type::Bool),
    one(2, "integerValue", Type::Long),
    one(3, "doubleValue", Type::Double),
    one(10, "timestampValue", Type::Time),
    one(5, "keyValue", Type::Message(&KEY)),
    one(17, "stringValue", Type::Text),
    one(18, "blobValue", Type::Blob),
    one(8, "geoPointValue", Type::Message(&POINT)),
    one(6, "entityValue", Type::Message(&ENTITY)),
    one(9, "arrayValue", Type::Message(&ARRAY)),
    one(14, "meaning", Type::Int),
    one(19, "excludeFromIndexes", Type::Bool),
];
static ENTITY: [Field; 2] = [
    one(1, "key", Type::Message(&KEY)),
    one(3, "properties", Type::MapOf(&VALUE)),
];
static MUTATION: [Field; 5] = [
    one(4, "insert", Type::Message(&ENTITY)),
    one(5, "update", Type::Message(&ENTITY)),
    one(6, "upsert", Type::Message(&ENTITY)),
    one(7, "delete", Type::Message(&KEY)),
    one(8, "baseVersion", Type::Long),
];
static MUTATION_RESULT: [Field; 5] = [
    one(3, "key", Type::Message(&KEY)),
    one(4, "version", Type::Long),
    one(5, "conflictDetected", Type::Bool),
    one(6, "updateTime", Type::Time),
    one(7, "createTime", Type::Time),
];
static KIND: [Field; 1] = [one(1, "name", Type::Text)];
static PROPERTY: [Field; 1] = [one(2, "name", Type::Text)];
static PROJECTION: [Field; 1] = [one(1, "property", Type::Message(&PROPERTY))];
static QUERY: [Field; 4] = [
    many(2, "projection", Type::Message(&PROJECTION)),
    many(3, "kind", Type::Message(&KIND)),
    one(7, "startCursor", Type::Blob),
    one(12, "limit", Type::Wrapped),
];
static RESULT: [Field; 4] = [
    one(1, "entity", Type::Message(&ENTITY)),
    one(3, "cursor", Type::Blob),
    one(4, "version", Type::Long),
    one(5, "updateTime", Type::Time),
];
static BATCH: [Field; 5] = [
    one(
        1,
        "entityResultType",
        Type::Names(&["", "FULL", "PROJECTION", "KEY_ONLY"]),
    ),
    many(2, "entityResults", Type::Message(&RESULT)),
    one(4, "endCursor", Type::Blob),
    one(
        5,
        "moreResults",
        Type::Names(&[
            "",
            "NOT_FINISHED",
            "MORE_RESULTS_AFTER_LIMIT",
            "NO_MORE_RESULTS",
            "MORE_RESULTS_AFTER_CURSOR",
        ]),
    ),
    one(8, "readTime", Type::Time),
];
static COUNT: [Field; 0] = [];
static AGGREGATION: [Field; 2] = [
    one(1, "count", Type::Message(&COUNT)),
    one(7, "alias", Type::Text),
];
static AGGREGATION_QUERY: [Field; 2] = [
    one(1, "nestedQuery", Type::Message(&QUERY)),
    many(3, "aggregations", Type::Message(&AGGREGATION)),
];
static AGGREGATION_RESULT: [Field; 1] = [one(2, "aggregateProperties", Type::MapOf(&VALUE))];
static AGGREGATION_BATCH: [Field; 3] = [
    many(1, "aggregationResults", Type::Message(&AGGREGATION_RESULT)),
    one(
        2,
        "moreResults",
        Type::Names(&[
            "",
            "NOT_FINISHED",
            "MORE_RESULTS_AFTER_LIMIT",
            "NO_MORE_RESULTS",
        ]),
    ),
    one(3, "readTime", Type::Time),
];
static ANY: [Field; 2] = [one(1, "@type", Type::Text), one(2, "value", Type::Blob)];
static STATUS: [Field; 3] = [
    one(1, "code", Type::Int),
    one(2, "message", Type::Text),
    many(3, "details", Type::Message(&ANY)),
];

static COMMIT: [Field; 4] = [
    one(8, "projectId", Type::Text),
    one(9, "databaseId", Type::Text),
    one(
        5,
        "mode",
        Type::Names(&["", "TRANSACTIONAL", "NON_TRANSACTIONAL"]),
    ),
    many(6, "mutations", Type::Message(&MUTATION)),
];
static COMMIT_ANSWER: [Field; 3] = [
    many(3, "mutationResults", Type::Message(&MUTATION_RESULT)),
    one(4, "indexUpdates", Type::Int),
    one(8, "commitTime", Type::Time),
];
static KEYS: [Field; 3] = [
    one(8, "projectId", Type::Text),
    one(9, "databaseId", Type::Text),
    many(1, "keys", Type::Message(&KEY)),
];
static LOOKUP: [Field; 3] = [
    one(8, "projectId", Type::Text),
    one(9, "databaseId", Type::Text),
    many(3, "keys", Type::Message(&KEY)),
];
static LOOKUP_ANSWER: [Field; 4] = [
    many(1, "found", Type::Message(&RESULT)),
    many(2, "missing", Type::Message(&RESULT)),
    many(3, "deferred", Type::Message(&KEY)),
    one(7, "readTime", Type::Time),
];
static RUN_QUERY: [Field; 4] = [
    one(8, "projectId", Type::Text),
    one(9, "databaseId", Type::Text),
    one(2, "partitionId", Type::Message(&PARTITION)),
    one(3, "query", Type::Message(&QUERY)),
];
static RUN_QUERY_ANSWER: [Field; 1] = [one(1, "batch", Type::Message(&BATCH))];
static RUN_AGGREGATION: [Field; 4] = [
    one(8, "projectId", Type::Text),
    one(9, "databaseId", Type::Text),
    one(2, "partitionId", Type::Message(&PARTITION)),
    one(3, "aggregationQuery", Type::Message(&AGGREGATION_QUERY)),
];
static RUN_AGGREGATION_ANSWER: [Field; 1] = [one(1, "batch", Type::Message(&AGGREGATION_BATCH))];
static NOTHING: [Field; 0] = [];

/// The messages of a method: what is asked, and what is answered.
pub fn messages(method: &str) -> Option<(&'static [Field], &'static [Field])> {
    Some(match method {
        "commit" => (&COMMIT, &COMMIT_ANSWER),
        "lookup" => (&LOOKUP, &LOOKUP_ANSWER),
        "runQuery" => (&RUN_QUERY, &RUN_QUERY_ANSWER),
        "runAggregationQuery" => (&RUN_AGGREGATION, &RUN_AGGREGATION_ANSWER),
        "reserveIds" => (&KEYS, &NOTHING),
        "allocateIds" => (&KEYS, &KEYS),
        _ => return None,
    })
}

/// A `google.rpc.Status`, perhaps with a `RetryInfo` of so many milliseconds.
pub fn status(code: u32, message: &str, retry_millis: Option<u64>) -> Vec<u8> {
    let mut value = json!({"code": code, "message": message});
    if let Some(millis) = retry_millis {
        let (mut delay, mut info) = (Vec::new(), Vec::new());
        put(&mut delay, 1, 0, &varint(millis / 1_000));
        put(&mut delay, 2, 0, &varint(millis % 1_000 * 1_000_000));
        put(&mut info, 1, 2, &delay);
        value["details"] = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "value": STANDARD.encode(info)}]);
    }
    encode(&value, &STATUS)
}

/// Whether the JSON of a message has fields that are not in its definition: the service refuses
/// those.
pub fn is_foreign(value: &Value, fields: &[Field]) -> bool {
    let Some(object) = value.as_object() else {
        return true;
    };
    object.iter().any(|(name, value)| {
        let Some(Field(_, _, holds, repeated)) = fields.iter().find(|field| field.1 == name) else {
            return true;
        };
        let foreign = |value: &Value| match holds {
            Type::Message(fields) => is_foreign(value, fields),
            Type::MapOf(fields) => value
                .as_object()
                .is_none_or(|map| map.values().any(|value| is_foreign(value, fields))),
            _ => false,
        };
        if *repeated {
            value
                .as_array()
                .is_none_or(|values| values.iter().any(foreign))
        } else {
            foreign(value)
        }
    })
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A field of a wire type; bytes get their length.
fn put(out: &mut Vec<u8>, number: u32, wire: u8, body: &[u8]) {
    out.extend(varint(u64::from(number << 3 | u32::from(wire))));
    if wire == 2 {
        out.extend(varint(body.len() as u64));
    }
    out.extend_from_slice(body);
}

pub fn encode(value: &Value, fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field(number, name, holds, repeated) in fields {
        match value.get(name) {
            None => {}
            Some(Value::Array(values)) if *repeated => values
                .iter()
                .for_each(|value| put_value(&mut out, *number, holds, value)),
            Some(value) => put_value(&mut out, *number, holds, value),
        }
    }
    out
}

fn put_value(out: &mut Vec<u8>, number: u32, holds: &Type, value: &Value) {
    let text = || value.as_str().unwrap_or_default();
    let long = || {
        value
            .as_i64()
            .or_else(|| text().parse().ok())
            .unwrap_or_default() as u64
    };
    match holds {
        Type::Text => put(out, number, 2, text().as_bytes()),
        Type::Blob => put(out, number, 2, &STANDARD.decode(text()).unwrap()),
        Type::Long | Type::Int => put(out, number, 0, &varint(long())),
        Type::Bool => put(
            out,
            number,
            0,
            &varint(u64::from(value == &Value::Bool(true))),
        ),
        Type::Null => put(out, number, 0, &[0]),
        Type::Double => {
            let double = value.as_f64().unwrap_or_else(|| text().parse().unwrap());
            put(out, number, 1, &double.to_le_bytes());
        }
        Type::Names(names) => put(
            out,
            number,
            0,
            &varint(names.iter().position(|name| *name == text()).unwrap() as u64),
        ),
        Type::Message(fields) => put(out, number, 2, &encode(value, fields)),
        Type::Time => {
            let micros = text().parse::<Timestamp>().unwrap().micros();
            let (seconds, nanos) = (
                micros.div_euclid(1_000_000),
                micros.rem_euclid(1_000_000) * 1_000,
            );
            let mut body = Vec::new();
            put(&mut body, 1, 0, &varint(seconds.cast_unsigned()));
            put(&mut body, 2, 0, &varint(nanos.cast_unsigned()));
            put(out, number, 2, &body);
        }
        Type::Wrapped => {
            let mut body = Vec::new();
            put(&mut body, 1, 0, &varint(long()));
            put(out, number, 2, &body);
        }
        Type::MapOf(fields) => {
            for (name, value) in value.as_object().unwrap() {
                let mut entry = Vec::new();
                put(&mut entry, 1, 2, name.as_bytes());
                put(&mut entry, 2, 2, &encode(value, fields));
                put(out, number, 2, &entry);
            }
        }
    }
}

/// A cursor over bytes of a message.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if *byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn cut(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

/// The JSON of a message; none where it is no such message. Unknown fields are passed over.
pub fn decode(bytes: &[u8], fields: &[Field]) -> Option<Value> {
    let mut out = Map::new();
    let mut bytes = Bytes(bytes);
    while !bytes.0.is_empty() {
        let tag = bytes.varint()?;
        let (number, body) = match tag & 7 {
            0 => (bytes.varint()?, &[][..]),
            1 => (u64::from_le_bytes(bytes.cut(8)?.try_into().ok()?), &[][..]),
            2 => {
                let len = bytes.varint()?;
                (0, bytes.cut(usize::try_from(len).ok()?)?)
            }
            5 => (0, bytes.cut(4)?),
            _ => return None,
        };
        let Some(Field(_, name, holds, repeated)) =
            fields.iter().find(|field| u64::from(field.0) == tag >> 3)
        else {
            continue;
        };
        if let Type::MapOf(of) = holds {
            let entry = decode(
                body,
                &[
                    one(1, "name", Type::Text),
                    one(2, "value", Type::Message(of)),
                ],
            )?;
            let map = out.entry(*name).or_insert_with(|| json!({}));
            map[entry["name"].as_str().unwrap_or_default()] =
                entry.get("value").cloned().unwrap_or_else(|| json!({}));
            continue;
        }
        let value = value_of(number, body, holds)?;
        if *repeated {
            out.entry(*name)
                .or_insert_with(|| json!([]))
                .as_array_mut()?
                .push(value);
        } else {
            out.insert((*name).to_owned(), value);
        }
    }
    Some(out.into())
}

fn value_of(number: u64, body: &[u8], holds: &Type) -> Option<Value> {
    Some(match holds {
        Type::Text => String::from_utf8(body.to_vec()).ok()?.into(),
        Type::Blob => STANDARD.encode(body).into(),
        Type::Long => number.cast_signed().to_string().into(),
        Type::Int => number.into(),
        Type::Bool => (number != 0).into(),
        Type::Null => Value::Null,
        Type::Double => {
            let double = f64::from_bits(number);
            if double.is_nan() {
                "NaN".into()
            } else if double.is_infinite() {
                if double > 0.0 {
                    "Infinity".into()
                } else {
                    "-Infinity".into()
                }
            } else {
                double.into()
            }
        }
        Type::Names(names) => (*names.get(usize::try_from(number).ok()?)?).into(),
        Type::Message(fields) => decode(body, fields)?,
        Type::Time => {
            let parts = decode(
                body,
                &[one(1, "seconds", Type::Long), one(2, "nanos", Type::Long)],
            )?;
            let part = |name: &str| {
                parts[name]
                    .as_str()
                    .map_or(0, |text| text.parse::<i64>().unwrap())
            };
            let time = Timestamp::from_micros(part("seconds") * 1_000_000 + part("nanos") / 1_000)?;
            time.to_string().into()
        }
        Type::Wrapped => {
            let parts = decode(body, &[one(1, "value", Type::Long)])?;
            parts["value"]
                .as_str()
                .map_or(0, |text| text.parse::<i64>().unwrap())
                .into()
        }
        Type::MapOf(_) => return None,
    })
}
