//! Entities as the JSON of the Datastore REST API, one line each.
//!
//! Knows JSON's spelling of the API's values. Must not know what a stored value becomes there: that
//! is for `api_value`.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::api_value::{ApiValue, ApiValueKind, GroupedProperties};
use super::rewrite::KeyMapping;
use super::types::{Entity, Id, Key};

/// Appends `entity` to `out` as a REST `Entity` without spaces or line feed, its keys and
/// references moved by `rewrite`.
///
/// Properties stand in the order of their first appearance.
pub fn write_entity(entity: &Entity<'_>, rewrite: &KeyMapping, out: &mut Vec<u8>) {
    let mut members = MemberWriter::open(out);
    if let Some(key) = entity.own_key() {
        write_key(key, rewrite, members.name("key"));
    }
    if !entity.properties.is_empty() {
        let out = members.name("properties");
        let mut properties = MemberWriter::open(out);
        for group in GroupedProperties::of(entity).groups() {
            let out = properties.name(group.name);
            if group.is_array {
                out.extend_from_slice(b"{\"arrayValue\":{\"values\":");
                write_list(group.values(), out, |value, out| {
                    write_value(&value, rewrite, out)
                });
                out.extend_from_slice(b"}}");
            } else {
                group
                    .values()
                    .for_each(|value| write_value(&value, rewrite, out));
            }
        }
        properties.close();
    }
    members.close();
}

fn write_key(key: &Key<'_>, rewrite: &KeyMapping, out: &mut Vec<u8>) {
    let (project, namespace, database) = rewrite.partition(key);
    out.extend_from_slice(b"{\"partitionId\":");
    let mut members = MemberWriter::open(out);
    write_text(project, members.name("projectId"));
    for (name, text) in [("namespaceId", namespace), ("databaseId", database)] {
        if !text.is_empty() {
            write_text(text, members.name(name));
        }
    }
    members.close();
    out.extend_from_slice(b",\"path\":");
    write_list(key.path.iter(), out, |element, out| {
        let mut members = MemberWriter::open(out);
        write_text(element.kind, members.name("kind"));
        match element.id {
            Id::None => {}
            Id::Number(number) => write_number_as_text(number, members.name("id")),
            Id::Name(name) => write_text(name, members.name("name")),
        }
        members.close();
    });
    out.push(b'}');
}

fn write_value(value: &ApiValue<'_>, rewrite: &KeyMapping, out: &mut Vec<u8>) {
    let mut members = MemberWriter::open(out);
    match &value.value {
        ApiValueKind::Null => members.name("nullValue").extend_from_slice(b"null"),
        ApiValueKind::Boolean(boolean) => members
            .name("booleanValue")
            .extend_from_slice(if *boolean { b"true" } else { b"false" }),
        ApiValueKind::Integer(integer) => {
            write_number_as_text(*integer, members.name("integerValue"))
        }
        ApiValueKind::Double(double) => write_double(*double, members.name("doubleValue")),
        ApiValueKind::Timestamp(time) => {
            print(members.name("timestampValue"), format_args!("\"{time}\""))
        }
        ApiValueKind::Key(key) => write_key(key, rewrite, members.name("keyValue")),
        ApiValueKind::Text(text) => write_text(text, members.name("stringValue")),
        ApiValueKind::Blob(bytes) => print(
            members.name("blobValue"),
            format_args!("\"{}\"", STANDARD.encode(bytes)),
        ),
        ApiValueKind::Point {
            latitude,
            longitude,
        } => {
            let mut members = MemberWriter::open(members.name("geoPointValue"));
            for (name, degrees) in [("latitude", *latitude), ("longitude", *longitude)] {
                if degrees != 0.0 {
                    write_double(degrees, members.name(name));
                }
            }
            members.close();
        }
        ApiValueKind::Entity(entity) => write_entity(entity, rewrite, members.name("entityValue")),
        ApiValueKind::EmptyArray => members.name("arrayValue").extend_from_slice(b"{}"),
    }
    if value.meaning != 0 {
        print(members.name("meaning"), format_args!("{}", value.meaning));
    }
    if value.exclude_from_indexes {
        members
            .name("excludeFromIndexes")
            .extend_from_slice(b"true");
    }
    members.close();
}

fn write_list<T>(
    items: impl Iterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// The members of an object, with commas where they belong.
struct MemberWriter<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

impl<'o> MemberWriter<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        MemberWriter {
            out,
            is_first: true,
        }
    }

    /// Begins a member; its value goes to what is returned.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        write_text(name, self.out);
        self.out.push(b':');
        self.out
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

/// 64-bit integers are text in JSON: readers may keep numbers as doubles.
fn write_number_as_text(number: i64, out: &mut Vec<u8>) {
    print(out, format_args!("\"{number}\""));
}

fn write_double(double: f64, out: &mut Vec<u8>) {
    if double.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if double.is_infinite() {
        out.extend_from_slice(if double > 0.0 {
            b"\"Infinity\""
        } else {
            b"\"-Infinity\""
        });
    } else {
        // `Debug` gives the fewest digits that read back as the same number, in the form of a JSON
        // number.
        print(out, format_args!("{double:?}"));
    }
}

fn print(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest
        .iter()
        .position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'))
    {
        let (plain, escaped) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = escaped.split_first() else {
            break;
        };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => print(out, format_args!("\\u{byte:04x}")),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use serde_json::{Value as Json, json};

    use super::*;
    use crate::entity::testing::{
        embedded, fixture, key, numbers_by_value, property, records, to_json,
    };
    use crate::entity::{DestinationProject, PathElement, Property, User, Value};
    use crate::model::Namespace;

    fn truth(name: &str) -> BTreeMap<String, Json> {
        let entities: Vec<Json> =
            serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap();
        by_key(entities)
    }

    fn decoded(folder: &str) -> BTreeMap<String, Json> {
        by_key(
            records(folder)
                .iter()
                .map(|record| to_json(&Entity::parse(record).unwrap(), &KeyMapping::identity()))
                .collect(),
        )
    }

    fn by_key(entities: Vec<Json>) -> BTreeMap<String, Json> {
        let count = entities.len();
        let map: BTreeMap<_, _> = entities
            .into_iter()
            .map(|entity| (entity["key"].to_string(), numbers_by_value(entity)))
            .collect();
        assert_eq!(map.len(), count, "a key twice");
        map
    }

    fn assert_same(found: &BTreeMap<String, Json>, expected: &BTreeMap<String, Json>) {
        for (key, entity) in expected {
            assert_eq!(found.get(key), Some(entity), "{key}");
        }
        assert_eq!(found.len(), expected.len());
    }

    #[test]
    fn emulator_entities_match_its_answers() {
        let expected = truth("entities.json");
        assert_eq!(expected.len(), 258);
        assert_same(&decoded("managed"), &expected);
        assert_same(&decoded("managed-variants/everything_no_filter"), &expected);
    }

    #[test]
    fn export_variants_hold_equal_entities() {
        let all = truth("entities.json");
        let of = |is_wanted: &dyn Fn(&str, &str) -> bool| -> BTreeMap<String, Json> {
            let wanted = |entity: &Json| {
                let key = &entity["key"];
                let kind = key["path"].as_array().unwrap().last().unwrap()["kind"]
                    .as_str()
                    .unwrap();
                is_wanted(
                    key["partitionId"]["namespaceId"]
                        .as_str()
                        .unwrap_or_default(),
                    kind,
                )
            };
            all.iter()
                .filter(|(_, entity)| wanted(entity))
                .map(|(key, entity)| (key.clone(), entity.clone()))
                .collect()
        };
        assert_same(
            &decoded("managed-variants/all_namespaces_one_kind"),
            &of(&|_, kind| kind == "Customer"),
        );
        assert_same(
            &decoded("managed-variants/two_kinds_two_namespaces"),
            &of(&|namespace, kind| namespace != "beta" && ["Customer", "Product"].contains(&kind)),
        );
        assert_same(
            &decoded("managed-variants/one_namespace_all_kinds"),
            &of(&|namespace, _| namespace == "beta"),
        );
        assert_same(
            &decoded("managed-variants/gcs_layout"),
            &of(&|namespace, kind| namespace == "acme" && ["Customer", "Order"].contains(&kind)),
        );
        let edge = "managed-variants/ends_2_bytes_before_block_border";
        assert_same(&decoded(edge), &truth(&format!("{edge}/entities.json")));
    }

    #[test]
    fn the_hits_of_two_outputs_are_all_there() {
        let hits = records("managed-variants/sharded_5003_hits");
        let mut ids: Vec<i64> = hits
            .iter()
            .map(|record| {
                let entity = Entity::parse(record).unwrap();
                let Id::Number(id) = entity.key.unwrap().path[0].id else {
                    panic!()
                };
                assert_eq!(
                    (entity.properties[0].name, &entity.properties[0].value),
                    ("n", &Value::Integer(id))
                );
                id
            })
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=5003).collect::<Vec<_>>());
    }

    #[test]
    fn entities_of_legacy_backups_are_read() {
        let expected = truth("legacy/entities.json");
        assert_eq!(expected.len(), 58);
        assert_same(&decoded("legacy"), &expected);
    }

    fn bytes(bytes: &'static [u8]) -> Value<'static> {
        Value::Bytes(Cow::Borrowed(bytes))
    }

    /// Each row of the table in docs/formats.md, section 6: meaning, value, then what comes of it
    /// indexed and unindexed. `excludeFromIndexes` is left out of the second unless it must not be
    /// there.
    #[test]
    fn every_row_of_the_table_holds() {
        let who = User {
            email: Some("u@x"),
            auth_domain: Some("x"),
            nickname: Some("nick"),
            gaiaid: Some(5),
            obfuscated_gaiaid: Some("42"),
            ..User::default()
        };
        let text = |text: &str| json!({"stringValue": text, "excludeFromIndexes": true});
        let user = json!({"entityValue": {"properties": {"email": text("u@x"), "auth_domain": text("x"), "user_id": text("42")}}, "meaning": 20});
        let mut rows = vec![
            (
                24,
                Value::Null,
                json!({"arrayValue": {}}),
                json!({"arrayValue": {}}),
            ),
            (
                24,
                Value::Integer(5),
                json!({"arrayValue": {}}),
                json!({"arrayValue": {}}),
            ),
        ];
        let mut both = |meaning: u64, value: Value<'static>, indexed: Json, unindexed: Json| {
            let mut unindexed = unindexed;
            unindexed["excludeFromIndexes"] = true.into();
            rows.push((meaning, value, indexed, unindexed));
        };
        let mut same = |meaning, value, json: Json| both(meaning, value, json.clone(), json);
        same(0, Value::Null, json!({"nullValue": null}));
        same(7, Value::Null, json!({"nullValue": null}));
        same(0, Value::Boolean(true), json!({"booleanValue": true}));
        same(15, Value::Boolean(false), json!({"booleanValue": false}));
        same(
            7,
            Value::Integer(0),
            json!({"timestampValue": "1970-01-01T00:00:00Z"}),
        );
        same(
            7,
            Value::Integer(-62_135_596_800_000_000),
            json!({"timestampValue": "0001-01-01T00:00:00Z"}),
        );
        same(
            7,
            Value::Integer(253_402_300_799_999_999),
            json!({"timestampValue": "9999-12-31T23:59:59.999999Z"}),
        );
        same(
            7,
            Value::Integer(1_381_539_723_456_000),
            json!({"timestampValue": "2013-10-12T01:02:03.456Z"}),
        );
        same(
            7,
            Value::Integer(-62_135_596_800_000_001),
            json!({"integerValue": "-62135596800000001", "meaning": 7}),
        );
        same(
            7,
            Value::Integer(253_402_300_800_000_000),
            json!({"integerValue": "253402300800000000", "meaning": 7}),
        );
        same(
            13,
            Value::Integer(55),
            json!({"integerValue": "55", "meaning": 13}),
        );
        same(
            4,
            Value::Integer(1),
            json!({"integerValue": "1", "meaning": 29}),
        );
        same(
            5,
            Value::Integer(1),
            json!({"integerValue": "1", "meaning": 30}),
        );
        same(
            0,
            Value::Integer(i64::MIN),
            json!({"integerValue": "-9223372036854775808"}),
        );
        same(18, Value::Integer(1), json!({"integerValue": "1"}));
        same(15, Value::Integer(1), json!({"integerValue": "1"}));
        same(0, Value::Double(3.0), json!({"doubleValue": 3.0}));
        same(7, Value::Double(1e300), json!({"doubleValue": 1e300}));
        same(0, Value::Double(5e-324), json!({"doubleValue": 5e-324}));
        same(0, Value::Double(f64::NAN), json!({"doubleValue": "NaN"}));
        same(
            0,
            Value::Double(f64::INFINITY),
            json!({"doubleValue": "Infinity"}),
        );
        same(
            0,
            Value::Double(f64::NEG_INFINITY),
            json!({"doubleValue": "-Infinity"}),
        );
        let reference = json!({"keyValue": {"partitionId": {"projectId": "p", "namespaceId": "n"}, "path": [{"kind": "K", "id": "-5"}]}});
        same(
            0,
            Value::Reference(key("s~p", "n", "K", Id::Number(-5))),
            reference,
        );
        same(14, bytes(b"\xff\0"), json!({"blobValue": "/wA="}));
        same(14, bytes(b"text"), json!({"blobValue": "dGV4dA=="}));
        for meaning in [1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 17] {
            same(
                meaning,
                bytes(b"t"),
                json!({"stringValue": "t", "meaning": meaning}),
            );
        }
        for meaning in [0, 7, 9, 13, 18, 20, 99] {
            same(
                meaning,
                bytes("\u{17c} \"\\\u{1}".as_bytes()),
                json!({"stringValue": "\u{17c} \"\\\u{1}"}),
            );
        }
        same(
            9,
            Value::Point { x: 1.5, y: -2.5 },
            json!({"geoPointValue": {"latitude": 1.5, "longitude": -2.5}}),
        );
        same(
            9,
            Value::Point { x: 0.0, y: -0.0 },
            json!({"geoPointValue": {}}),
        );
        same(
            0,
            Value::Point { x: 0.0, y: 1.0 },
            json!({"geoPointValue": {"longitude": 1.0}, "meaning": 23}),
        );
        same(20, Value::User(Box::new(who.clone())), user.clone());
        same(0, Value::User(Box::new(who)), user);
        same(
            19,
            Value::Entity(Box::default()),
            json!({"entityValue": {}}),
        );
        both(
            16,
            bytes(b"t"),
            json!({"blobValue": "dA=="}),
            json!({"blobValue": "dA==", "meaning": 16}),
        );
        both(
            15,
            bytes(b"t"),
            json!({"stringValue": "t"}),
            json!({"stringValue": "t", "meaning": 15}),
        );
        for meaning in [0, 1, 15, 99] {
            both(
                meaning,
                bytes(b"\xff"),
                json!({"blobValue": "/w=="}),
                json!({"blobValue": "/w==", "meaning": 16}),
            );
        }
        for (meaning, value, indexed, unindexed) in rows {
            for (indexed, expected) in [(true, indexed), (false, unindexed)] {
                let entity = Entity {
                    key: None,
                    properties: vec![Property {
                        indexed,
                        meaning,
                        ..property("p", value.clone())
                    }],
                };
                assert_eq!(
                    to_json(&entity, &KeyMapping::identity()),
                    json!({"properties": {"p": expected}}),
                    "meaning {meaning}, indexed {indexed}"
                );
            }
        }
        for meaning in [0, 14, 19, 22] {
            let zlib = Property {
                meaning,
                meaning_uri: "ZLIB",
                ..property("p", bytes(b"t"))
            };
            assert_eq!(
                to_json(
                    &Entity {
                        key: None,
                        properties: vec![zlib]
                    },
                    &KeyMapping::identity()
                ),
                json!({"properties": {"p": {"blobValue": "dA==", "meaning": 22}}})
            );
        }
    }

    #[test]
    fn repeated_name_becomes_array_at_first_place() {
        let unindexed = |name, n| Property {
            indexed: false,
            ..property(name, Value::Integer(n))
        };
        let properties = vec![
            property("b", Value::Integer(1)),
            Property {
                multiple: true,
                ..property("a", Value::Null)
            },
            unindexed("b", 2),
            unindexed("c", 3),
        ];
        let mut out = Vec::new();
        write_entity(
            &Entity {
                key: None,
                properties,
            },
            &KeyMapping::identity(),
            &mut out,
        );
        let expected = concat!(
            r#"{"properties":{"b":{"arrayValue":{"values":[{"integerValue":"1"},{"integerValue":"2","excludeFromIndexes":true}]}},"#,
            r#""a":{"arrayValue":{"values":[{"nullValue":null}]}},"c":{"integerValue":"3","excludeFromIndexes":true}}}"#
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn keys_are_written_as_far_as_they_go() {
        let path = vec![
            PathElement {
                kind: "A",
                id: Id::Name("\n\"x\""),
            },
            PathElement {
                kind: "B",
                id: Id::Number(7),
            },
            PathElement {
                kind: "C",
                id: Id::None,
            },
        ];
        let entity = Entity {
            key: Some(Key {
                app: "e~p",
                namespace: "n",
                database: "d",
                path,
            }),
            properties: Vec::new(),
        };
        let mut out = Vec::new();
        write_entity(&entity, &KeyMapping::identity(), &mut out);
        let expected = r#"{"key":{"partitionId":{"projectId":"p","namespaceId":"n","databaseId":"d"},"path":[{"kind":"A","name":"\n\"x\""},{"kind":"B","id":"7"},{"kind":"C"}]}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn every_character_of_a_text_comes_back() {
        let text: String = (0..0x250)
            .chain([0x2028, 0xffff, 0x1f434])
            .filter_map(char::from_u32)
            .collect();
        let mut out = Vec::new();
        write_text(&text, &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        assert!(!out.contains(&b'\n'));
    }

    #[test]
    fn rewrite_reaches_every_key_of_the_project() {
        fn entity_in<'a>(project: &'a str, namespace: &'a str) -> Entity<'a> {
            let reference = |name, indexed| Property {
                indexed,
                ..property(
                    name,
                    Value::Reference(key(project, namespace, "K", Id::Number(1))),
                )
            };
            let third = property(
                "third",
                Value::Reference(key("s~third", "acme", "K", Id::Number(1))),
            );
            let with_key = |properties| Entity {
                key: Some(key(project, namespace, "E", Id::None)),
                properties,
            };
            let inner = embedded(
                "inner",
                with_key(vec![
                    reference("r", true),
                    third.clone(),
                    reference("u", false),
                ]),
            );
            let outer = embedded("outer", with_key(vec![inner, reference("r", true)]));
            let element = |indexed| Property {
                multiple: true,
                ..reference("list", indexed)
            };
            let properties = vec![
                reference("r", true),
                element(true),
                element(true),
                outer,
                third,
                element(false),
                reference("u", false),
            ];
            Entity {
                key: Some(key(project, namespace, "Own", Id::Name("n"))),
                properties,
            }
        }
        let rewrite = KeyMapping {
            from_project: "src".to_owned(),
            from_database: String::new(),
            to: Some(DestinationProject {
                project: "dst".to_owned(),
                database: String::new(),
            }),
            namespaces: [(Namespace::new("acme"), Namespace::new("beta"))].into(),
        };
        let moved = entity_in("s~src", "acme");
        let target = entity_in("dst", "beta");
        let identity = KeyMapping::identity();
        assert_eq!(to_json(&moved, &rewrite), to_json(&target, &identity));
        assert_eq!(to_json(&target, &rewrite), to_json(&target, &identity));
        type Write = fn(&Entity<'_>, &KeyMapping, &mut Vec<u8>);
        for write in [
            crate::entity::message::write_entity as Write,
            crate::entity::encode::write_entity,
        ] {
            let written = |entity: &Entity<'_>, rewrite: &KeyMapping| {
                let mut out = Vec::new();
                write(entity, rewrite, &mut out);
                out
            };
            assert_eq!(written(&moved, &rewrite), written(&target, &identity));
            assert_ne!(written(&moved, &identity), written(&target, &identity));
        }
    }
}
