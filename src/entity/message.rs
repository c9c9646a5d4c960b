//! Entities as messages of `google.datastore.v1`, and the requests that carry them.
//!
//! Knows the numbers of that API's fields. Must not know what a stored value becomes there: that is
//! for `api_value`.

use prost::Message as _;

use super::api_value::{ApiValue, ApiValueKind, GroupedProperties, MEANING_PLACE};
use super::rewrite::KeyMapping;
use super::types::{Entity, Id, Key};
use super::wire::{
    Fields, put_bytes, put_double, put_int, put_message, put_uint, put_unless_empty,
};

/// What a commit does with each of its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Writes entities, whether they are there or not.
    Upsert,
    /// Deletes what stands under keys, if anything does.
    Delete,
}

/// `CommitRequest.Mode.NON_TRANSACTIONAL`.
const NON_TRANSACTIONAL: u64 = 2;

/// Appends `entity` to `out` as a `google.datastore.v1.Entity`, its keys and references moved by
/// `rewrite`.
pub fn write_entity(entity: &Entity<'_>, rewrite: &KeyMapping, out: &mut Vec<u8>) {
    if let Some(key) = entity.own_key() {
        put_message(out, 1, |out| put_key(key, rewrite, out));
    }
    for group in GroupedProperties::of(entity).groups() {
        put_message(out, 3, |out| {
            put_bytes(out, 1, group.name.as_bytes());
            put_message(out, 2, |out| {
                if group.is_array {
                    put_message(out, 9, |out| {
                        group.values().for_each(|value| {
                            put_message(out, 1, |out| put_value(&value, rewrite, out))
                        })
                    });
                } else {
                    group
                        .values()
                        .for_each(|value| put_value(&value, rewrite, out));
                }
            });
        });
    }
}

/// Returns the entity's key as a `google.datastore.v1.Key`, moved by `rewrite`; empty for an entity
/// without one.
///
/// Two entities of one target have the same key if and only if these bytes are the same.
pub fn key_of(entity: &Entity<'_>, rewrite: &KeyMapping) -> Vec<u8> {
    entity
        .own_key()
        .map(|key| key_message(key, rewrite))
        .unwrap_or_default()
}

/// Returns a key as a `google.datastore.v1.Key`, moved by `rewrite`.
pub fn key_message(key: &Key<'_>, rewrite: &KeyMapping) -> Vec<u8> {
    let mut out = Vec::new();
    put_key(key, rewrite, &mut out);
    out
}

/// `google.datastore.v1.LookupRequest`, keys serialized.
#[derive(prost::Message)]
struct LookupRequest {
    #[prost(bytes = "vec", repeated, tag = "3")]
    keys: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "5")]
    property_mask: Option<PropertyMask>,
    #[prost(string, tag = "8")]
    project_id: String,
    #[prost(string, tag = "9")]
    database_id: String,
}

/// `google.datastore.v1.PropertyMask`.
#[derive(prost::Message)]
struct PropertyMask {
    #[prost(string, repeated, tag = "1")]
    paths: Vec<String>,
}

/// Returns a `google.datastore.v1.LookupRequest` for no keys: whoever answers it speaks the
/// language.
pub fn empty_lookup(project: &str) -> Vec<u8> {
    let request = LookupRequest {
        project_id: project.to_owned(),
        ..LookupRequest::default()
    };
    request.encode_to_vec()
}

/// Returns a `google.datastore.v1.LookupRequest` for serialized keys, of which no more than the
/// keys is wanted, as far as the service heeds that. `database` is empty for the default one.
pub fn lookup_request<'a>(
    project: &str,
    database: &str,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let request = LookupRequest {
        keys: keys.map(<[u8]>::to_vec).collect(),
        property_mask: Some(PropertyMask {
            paths: vec!["__key__".to_owned()],
        }),
        project_id: project.to_owned(),
        database_id: database.to_owned(),
    };
    request.encode_to_vec()
}

/// Returns a serialized `google.datastore.v1.Entity` without the meaning 23 of its places, at any
/// depth; none where it has none.
///
/// It says only that the place was stored without a meaning. Datastore in its older form takes it,
/// Firestore in Datastore mode refuses it.
pub fn without_place_meanings(entity: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(entity.len());
    copy(entity, MessageLevel::Entity, &mut out)
        .filter(|left_out| *left_out)
        .map(|_| out)
}

/// The messages that stand around values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageLevel {
    Entity,
    Property,
    Value,
    Array,
}

impl MessageLevel {
    /// The message in a field of this one, if there can be places in it.
    fn inner(self, field: u32) -> Option<Self> {
        match (self, field) {
            (MessageLevel::Entity, 3) => Some(MessageLevel::Property),
            (MessageLevel::Property, 2) | (MessageLevel::Array, 1) => Some(MessageLevel::Value),
            (MessageLevel::Value, 6) => Some(MessageLevel::Entity),
            (MessageLevel::Value, 9) => Some(MessageLevel::Array),
            _ => None,
        }
    }
}

/// Copies a message without the meanings of places. Says whether any was left out; none where the
/// bytes are no message.
fn copy(message: &[u8], level: MessageLevel, out: &mut Vec<u8>) -> Option<bool> {
    let is_place = level == MessageLevel::Value
        && Fields::new(message)
            .filter_map(Result::ok)
            .any(|field| field.number == 8);
    let mut left_out = false;
    let mut fields = Fields::new(message);
    loop {
        let before = fields.bytes();
        let Some(field) = fields.next() else {
            return Some(left_out);
        };
        let field = field.ok()?;
        if is_place && field.number == 14 && field.varint().ok()? == MEANING_PLACE {
            left_out = true;
        } else if let Some(inner) = level.inner(field.number) {
            let mut copied = Vec::new();
            left_out |= copy(field.bytes().ok()?.bytes(), inner, &mut copied)?;
            put_bytes(out, field.number, &copied);
        } else {
            out.extend_from_slice(before.get(..before.len() - fields.bytes().len())?);
        }
    }
}

/// Returns a `google.datastore.v1.CommitRequest` that does `deed` to serialized entities, or keys,
/// without a transaction. `database` is empty for the default one.
pub fn commit_request<'a>(
    project: &str,
    database: &str,
    deed: Mutation,
    items: impl Iterator<Item = &'a [u8]> + Clone,
) -> Vec<u8> {
    let len: usize = items.clone().map(|item| item.len() + 16).sum();
    let mut out = Vec::with_capacity(len + project.len() + database.len() + 16);
    put_uint(&mut out, 5, NON_TRANSACTIONAL);
    let deed = match deed {
        Mutation::Upsert => 6,
        Mutation::Delete => 7,
    };
    for item in items {
        put_message(&mut out, 6, |out| put_bytes(out, deed, item));
    }
    put_unless_empty(&mut out, 8, project);
    put_unless_empty(&mut out, 9, database);
    out
}

/// `google.datastore.v1.ReserveIdsRequest`, keys serialized.
#[derive(prost::Message)]
struct ReserveIdsRequest {
    #[prost(bytes = "vec", repeated, tag = "1")]
    keys: Vec<Vec<u8>>,
    #[prost(string, tag = "8")]
    project_id: String,
    #[prost(string, tag = "9")]
    database_id: String,
}

/// Returns a `google.datastore.v1.ReserveIdsRequest` for serialized keys. `database` is empty for
/// the default one.
pub fn reserve_ids_request<'a>(
    project: &str,
    database: &str,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let request = ReserveIdsRequest {
        keys: keys.map(<[u8]>::to_vec).collect(),
        project_id: project.to_owned(),
        database_id: database.to_owned(),
    };
    request.encode_to_vec()
}

fn put_key(key: &Key<'_>, rewrite: &KeyMapping, out: &mut Vec<u8>) {
    let (project, namespace, database) = rewrite.partition(key);
    put_message(out, 1, |out| {
        put_unless_empty(out, 2, project);
        put_unless_empty(out, 3, database);
        put_unless_empty(out, 4, namespace);
    });
    for element in &key.path {
        put_message(out, 2, |out| {
            put_unless_empty(out, 1, element.kind);
            match element.id {
                Id::None => {}
                Id::Number(number) => put_int(out, 2, number),
                Id::Name(name) => put_bytes(out, 3, name.as_bytes()),
            }
        });
    }
}

/// Zeros and empty texts are written too: which field of the value is set is what tells its type.
fn put_value(value: &ApiValue<'_>, rewrite: &KeyMapping, out: &mut Vec<u8>) {
    match &value.value {
        ApiValueKind::Null => put_uint(out, 11, 0),
        ApiValueKind::Boolean(boolean) => put_uint(out, 1, u64::from(*boolean)),
        ApiValueKind::Integer(integer) => put_int(out, 2, *integer),
        ApiValueKind::Double(double) => put_double(out, 3, *double),
        ApiValueKind::Timestamp(time) => put_message(out, 10, |out| {
            let nanos = time.micros().rem_euclid(1_000_000) * 1_000;
            [(1, time.seconds()), (2, nanos)]
                .into_iter()
                .filter(|(_, number)| *number != 0)
                .for_each(|(field, number)| put_int(out, field, number));
        }),
        ApiValueKind::Key(key) => put_message(out, 5, |out| put_key(key, rewrite, out)),
        ApiValueKind::Text(text) => put_bytes(out, 17, text.as_bytes()),
        ApiValueKind::Blob(bytes) => put_bytes(out, 18, bytes),
        ApiValueKind::Point {
            latitude,
            longitude,
        } => put_message(out, 8, |out| {
            [(1, *latitude), (2, *longitude)]
                .into_iter()
                .filter(|(_, degrees)| *degrees != 0.0)
                .for_each(|(field, degrees)| put_double(out, field, degrees));
        }),
        ApiValueKind::Entity(entity) => {
            put_message(out, 6, |out| write_entity(entity, rewrite, out))
        }
        ApiValueKind::EmptyArray => put_bytes(out, 9, &[]),
    }
    if value.meaning != 0 {
        put_uint(out, 14, value.meaning);
    }
    if value.exclude_from_indexes {
        put_uint(out, 19, 1);
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::{Map, Value as Json, json};

    use super::*;
    use crate::entity::testing::{any_entity, key, numbers_by_value, property, records, to_json};
    use crate::entity::{DestinationProject, Property, User, Value};
    use crate::model::Timestamp;

    /// A second opinion: fields of a message by the book, independent of the code under test.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut number = 0;
            for shift in (0..70).step_by(7) {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                number |= u64::from(byte & 0x7f).wrapping_shl(shift);
                if byte < 0x80 {
                    break;
                }
            }
            number
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let (number, len) = match tag & 7 {
                0 => (varint(&mut bytes), 0),
                1 => (u64::from_le_bytes(bytes[..8].try_into().unwrap()), 8),
                2 => (0, varint(&mut bytes) as usize),
                other => panic!("wire type {other}"),
            };
            found.push((tag >> 3, number, bytes[..len].to_vec()));
            bytes = &bytes[len..];
        }
        found
    }

    fn text(bytes: &[u8]) -> Json {
        String::from_utf8(bytes.to_vec()).unwrap().into()
    }

    fn double(bits: u64) -> Json {
        let double = f64::from_bits(bits);
        if double.is_finite() {
            // By way of text, for the JSON reader takes some numbers one step off.
            serde_json::from_str(&format!("{double:?}")).unwrap()
        } else if double.is_nan() {
            "NaN".into()
        } else {
            if double > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            }
            .into()
        }
    }

    fn entity_json(bytes: &[u8]) -> Json {
        let mut entity = json!({});
        let mut properties = Map::new();
        for (field, _, body) in fields(bytes) {
            match field {
                1 => entity["key"] = key_json(&body),
                3 => {
                    let [(1, _, name), (2, _, value)] = &fields(&body)[..] else {
                        panic!()
                    };
                    let twice = properties
                        .insert(String::from_utf8(name.clone()).unwrap(), value_json(value));
                    assert_eq!(twice, None);
                }
                other => panic!("field {other}"),
            }
        }
        if !properties.is_empty() {
            entity["properties"] = properties.into();
        }
        entity
    }

    fn key_json(bytes: &[u8]) -> Json {
        let (mut partition, mut path) = (json!({"projectId": ""}), Vec::new());
        for (field, _, body) in fields(bytes) {
            if field == 1 {
                for (field, _, body) in fields(&body) {
                    partition[["", "", "projectId", "databaseId", "namespaceId"][field as usize]] =
                        text(&body);
                }
            } else {
                let mut element = json!({"kind": ""});
                for (field, number, body) in fields(&body) {
                    match field {
                        1 => element["kind"] = text(&body),
                        2 => element["id"] = (number as i64).to_string().into(),
                        3 => element["name"] = text(&body),
                        other => panic!("field {other}"),
                    }
                }
                path.push(element);
            }
        }
        json!({"partitionId": partition, "path": path})
    }

    fn value_json(bytes: &[u8]) -> Json {
        let mut value = json!({});
        for (field, number, body) in fields(bytes) {
            let signed = number as i64;
            match field {
                11 => value["nullValue"] = Json::Null,
                1 => value["booleanValue"] = (number == 1).into(),
                2 => value["integerValue"] = signed.to_string().into(),
                3 => value["doubleValue"] = double(number),
                10 => {
                    let part = |wanted| {
                        fields(&body)
                            .iter()
                            .find(|(field, ..)| *field == wanted)
                            .map_or(0, |(_, number, _)| *number as i64)
                    };
                    assert!((0..1_000_000_000).contains(&part(2)));
                    value["timestampValue"] =
                        Timestamp::from_micros(part(1) * 1_000_000 + part(2) / 1_000)
                            .unwrap()
                            .to_string()
                            .into();
                }
                5 => value["keyValue"] = key_json(&body),
                17 => value["stringValue"] = text(&body),
                18 => value["blobValue"] = STANDARD.encode(&body).into(),
                8 => {
                    value["geoPointValue"] = json!({});
                    fields(&body).iter().for_each(|(field, bits, _)| {
                        value["geoPointValue"][["", "latitude", "longitude"][*field as usize]] =
                            double(*bits)
                    });
                }
                6 => value["entityValue"] = entity_json(&body),
                9 if body.is_empty() => value["arrayValue"] = json!({}),
                9 => {
                    value["arrayValue"] = json!({"values": fields(&body).iter().map(|(_, _, body)| value_json(body)).collect::<Vec<_>>()})
                }
                14 => value["meaning"] = number.into(),
                19 => value["excludeFromIndexes"] = (number == 1).into(),
                other => panic!("field {other}"),
            }
        }
        value
    }

    fn written(entity: &Entity<'_>, rewrite: &KeyMapping) -> Vec<u8> {
        let mut out = Vec::new();
        write_entity(entity, rewrite, &mut out);
        out
    }

    #[test]
    fn both_forms_of_every_fixture_say_the_same() {
        let identity = KeyMapping::identity();
        for record in ["managed", "legacy"].into_iter().flat_map(records) {
            let entity = Entity::parse(&record).unwrap();
            assert_eq!(
                numbers_by_value(entity_json(&written(&entity, &identity))),
                numbers_by_value(to_json(&entity, &identity))
            );
        }
    }

    #[test]
    fn messages_match_the_public_definition() {
        let bytes_of = |value| {
            written(
                &Entity {
                    key: None,
                    properties: vec![property("p", value)],
                },
                &KeyMapping::identity(),
            )
        };
        let table: [(Value<'_>, &[u8]); 8] = [
            (Value::Null, &[0x58, 0]),
            (Value::Boolean(false), &[0x08, 0]),
            (Value::Integer(0), &[0x10, 0]),
            (
                Value::Integer(-1),
                &[
                    0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
                ],
            ),
            (Value::Double(1.0), &[0x19, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
            (Value::Bytes(b"t"[..].into()), &[0x8a, 1, 1, b't']),
            (Value::Bytes(b"\xff"[..].into()), &[0x92, 1, 1, 0xff]),
            (
                Value::Reference(key("p", "n", "K", Id::Number(5))),
                &[
                    0x2a, 15, 0x0a, 6, 0x12, 1, b'p', 0x22, 1, b'n', 0x12, 5, 0x0a, 1, b'K', 0x10,
                    5,
                ],
            ),
        ];
        for (value, expected) in table {
            let len = expected.len() as u8;
            assert_eq!(
                bytes_of(value),
                [&[0x1a, len + 5, 0x0a, 1, b'p', 0x12, len][..], expected].concat()
            );
        }
    }

    #[test]
    fn requests_carry_entities_and_keys_without_a_transaction() {
        let items = || [&b"E"[..], b"E"].into_iter();
        let request = commit_request("p", "d", Mutation::Upsert, items());
        assert_eq!(
            request,
            [
                &[0x28, 2][..],
                &[0x32, 3, 0x32, 1, b'E'].repeat(2),
                &[0x42, 1, b'p', 0x4a, 1, b'd']
            ]
            .concat()
        );
        let request = commit_request("p", "d", Mutation::Delete, items());
        assert_eq!(
            request,
            [
                &[0x28, 2][..],
                &[0x32, 3, 0x3a, 1, b'E'].repeat(2),
                &[0x42, 1, b'p', 0x4a, 1, b'd']
            ]
            .concat()
        );
        assert_eq!(
            commit_request("p", "", Mutation::Upsert, std::iter::empty()),
            [0x28, 2, 0x42, 1, b'p']
        );
        assert_eq!(
            reserve_ids_request("p", "d", items()),
            [0x0a, 1, b'E', 0x0a, 1, b'E', 0x42, 1, b'p', 0x4a, 1, b'd']
        );
    }

    #[test]
    fn meanings_of_geo_points_are_removed() {
        let place = |meaning| Property {
            meaning,
            ..property("place", Value::Point { x: 1.0, y: 2.0 })
        };
        let in_array = |meaning| Property {
            multiple: true,
            name: "places",
            ..place(meaning)
        };
        let user = Box::new(User {
            email: Some("ann@example.com"),
            ..User::default()
        });
        let embedded = |meaning| {
            property(
                "inner",
                Value::Entity(
                    Entity {
                        key: None,
                        properties: vec![place(meaning)],
                    }
                    .into(),
                ),
            )
        };
        let whole = |meaning| Entity {
            key: Some(key("p", "n", "K", Id::Number(5))),
            properties: vec![
                property("n", Value::Integer(-1)),
                place(meaning),
                in_array(meaning),
                in_array(meaning),
                embedded(meaning),
                property("user", Value::User(user.clone())),
            ],
        };
        let identity = KeyMapping::identity();
        let (bare, full) = (written(&whole(0), &identity), written(&whole(9), &identity));
        assert_ne!(bare, full);
        assert_eq!(without_place_meanings(&bare), Some(full.clone()));
        assert_eq!(without_place_meanings(&full), None, "nothing to leave out");
        assert_eq!(without_place_meanings(b"\xff"), None);
    }

    #[test]
    fn keys_are_distinguished_as_in_the_target() {
        let entity = |app, namespace, id| Entity {
            key: Some(key(app, namespace, "K", id)),
            properties: Vec::new(),
        };
        let merging = KeyMapping {
            from_project: "src".to_owned(),
            from_database: String::new(),
            to: Some(DestinationProject {
                project: "dst".to_owned(),
                database: "db".to_owned(),
            }),
            namespaces: [("a".to_owned(), "b".to_owned())]
                .map(|(from, to)| {
                    (
                        crate::model::Namespace::new(from),
                        crate::model::Namespace::new(to),
                    )
                })
                .into(),
        };
        let key_bytes = |app, namespace, id| key_of(&entity(app, namespace, id), &merging);
        assert_eq!(
            key_bytes("src", "a", Id::Number(1)),
            key_bytes("s~src", "b", Id::Number(1))
        );
        assert_ne!(
            key_bytes("src", "a", Id::Number(1)),
            key_bytes("src", "c", Id::Number(1))
        );
        assert_ne!(
            key_bytes("src", "a", Id::Number(1)),
            key_bytes("src", "a", Id::Name("1"))
        );
        assert!(key_of(&Entity::default(), &merging).is_empty());
        let whole = written(&entity("src", "a", Id::Number(1)), &merging);
        assert_eq!(fields(&whole)[0].2, key_bytes("src", "a", Id::Number(1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn both_forms_of_any_entity_say_the_same(entity in any_entity(), project in "[a-z]{1,5}") {
            let rewrite = KeyMapping { from_project: "src".to_owned(), from_database: String::new(), to: Some(DestinationProject { project, database: "db".to_owned() }), ..KeyMapping::default() };
            prop_assert_eq!(numbers_by_value(entity_json(&written(&entity, &rewrite))), numbers_by_value(to_json(&entity, &rewrite)));
        }
    }
}
