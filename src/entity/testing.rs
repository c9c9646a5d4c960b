//! What several modules need in their tests: fixtures, made-up entities, and small
//! builders.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

/// The path of a fixture.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).join(name)
}

/// The objects below a fixture folder whose path `is_wanted`, in the order of their paths.
pub fn objects(folder: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
    let mut folders = vec![fixture(folder)];
    let mut objects = Vec::new();
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if is_wanted(path.to_str().unwrap()) {
                objects.push((
                    path.to_str().unwrap().to_owned(),
                    std::fs::read(path).unwrap(),
                ));
            }
        }
    }
    objects.sort();
    assert!(!objects.is_empty(), "no such object in {folder}");
    objects
}

/// The records of all outputs below a fixture folder.
pub fn records(folder: &str) -> Vec<Vec<u8>> {
    objects(folder, |path| {
        path.rsplit('/')
            .next()
            .is_some_and(|name| name.contains("output-"))
    })
    .iter()
    .flat_map(|(_, log)| records_of(log))
    .collect()
}

/// The records of a sound log. Its checksums are not checked.
fn records_of(log: &[u8]) -> Vec<Vec<u8>> {
    const BLOCK_LEN_BYTES: usize = 32 * 1024;
    const PADDING: u8 = 0;
    const FULL: u8 = 1;
    const LAST: u8 = 4;
    let (mut records, mut record) = (Vec::new(), Vec::new());
    for block in log.chunks(BLOCK_LEN_BYTES) {
        let mut rest = block;
        while let [_, _, _, _, low, high, fragment, after @ ..] = rest
            && *fragment != PADDING
        {
            let (data, next) = after.split_at(usize::from(u16::from_le_bytes([*low, *high])));
            record.extend_from_slice(data);
            if [FULL, LAST].contains(fragment) {
                records.push(std::mem::take(&mut record));
            }
            rest = next;
        }
    }
    records
}

/// An entity as the REST JSON of this crate, read back by another reader.
pub fn to_json(entity: &Entity<'_>, rewrite: &KeyMapping) -> Json {
    let mut out = Vec::new();
    json::write_entity(entity, rewrite, &mut out);
    serde_json::from_slice(&out).unwrap()
}

/// The same JSON, with every number as a double: `3` and `3.0` are one value.
pub fn numbers_by_value(json: Json) -> Json {
    match json {
        Json::Number(number) => number.as_f64().unwrap().into(),
        Json::Array(items) => items.into_iter().map(numbers_by_value).collect(),
        Json::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, numbers_by_value(value)))
            .collect(),
        other => other,
    }
}

/// A key of one element.
pub fn key<'a>(app: &'a str, namespace: &'a str, kind: &'a str, id: Id<'a>) -> Key<'a> {
    Key {
        app,
        namespace,
        database: "",
        path: vec![PathElement { kind, id }],
    }
}

/// An indexed property of no meaning.
pub fn property<'a>(name: &'a str, value: Value<'a>) -> Property<'a> {
    Property {
        name,
        indexed: true,
        multiple: false,
        meaning: 0,
        meaning_uri: "",
        value,
    }
}

/// A property that holds an entity.
pub fn embedded<'a>(name: &'a str, entity: Entity<'a>) -> Property<'a> {
    Property {
        meaning: 19,
        ..property(name, Value::Entity(Box::new(entity)))
    }
}

/// An entity's record.
pub fn record_of(entity: &Entity<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode::write_entity(entity, &KeyMapping::identity(), &mut out);
    out
}

/// A record that holds entities in entities, `levels` deep.
pub fn nested_record(levels: usize) -> Vec<u8> {
    let mut record = Vec::new();
    for _ in 0..levels {
        let mut outer = Vec::new();
        wire::put_message(&mut outer, 14, |out| {
            wire::put_uint(out, 1, 19);
            wire::put_message(out, 5, |out| wire::put_bytes(out, 3, &record));
        });
        record = outer;
    }
    record
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "b", "tags", "Größe", "with \"quotes\"\n"])
}

fn any_key() -> impl Strategy<Value = Key<'static>> {
    let id = prop_oneof![
        Just(Id::None),
        any::<i64>().prop_map(Id::Number),
        word().prop_map(Id::Name)
    ];
    let path = prop::collection::vec(
        (word(), id).prop_map(|(kind, id)| PathElement { kind, id }),
        0..4,
    );
    let app = prop::sample::select(vec!["", "src", "s~src", "third"]);
    (app, word(), word(), path).prop_map(|(app, namespace, database, path)| Key {
        app,
        namespace,
        database,
        path,
    })
}

fn any_user() -> impl Strategy<Value = User<'static>> {
    let text = || prop::option::of(word());
    (
        text(),
        text(),
        text(),
        prop::option::of(any::<i64>()),
        text(),
        text(),
        text(),
    )
        .prop_map(
            |(
                email,
                auth_domain,
                nickname,
                gaiaid,
                obfuscated_gaiaid,
                federated_identity,
                federated_provider,
            )| User {
                email,
                auth_domain,
                nickname,
                gaiaid,
                obfuscated_gaiaid,
                federated_identity,
                federated_provider,
            },
        )
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("not a number is not equal to itself", |double| !double
            .is_nan()),
        Just(0.0),
        Just(1e300)
    ]
}

/// Entities of every shape, embedded ones included, that come back equal from their records.
pub fn any_entity() -> impl Strategy<Value = Entity<'static>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        finite().prop_map(Value::Double),
        any_key().prop_map(Value::Reference),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(Cow::Owned(bytes))),
        word().prop_map(|text| Value::Bytes(Cow::Borrowed(text.as_bytes()))),
        (finite(), finite()).prop_map(|(x, y)| Value::Point { x, y }),
        any_user().prop_map(|user| Value::User(Box::new(user))),
    ];
    let leaf = (
        leaf,
        word(),
        any::<(bool, bool)>(),
        prop::sample::select(vec![0, 0, 1, 4, 7, 9, 13, 14, 15, 16, 18, 24, 99]),
        prop::sample::select(vec!["", "", "ZLIB"]),
    );
    let leaf = leaf
        .prop_map(
            |(value, name, (indexed, multiple), meaning, meaning_uri)| Property {
                name,
                indexed,
                multiple,
                meaning,
                meaning_uri,
                value,
            },
        )
        .boxed();
    entity_of(leaf.clone()).prop_recursive(3, 30, 6, move |inner| {
        let embedded = (inner, word(), any::<(bool, bool)>()).prop_map(
            |(entity, name, (indexed, multiple))| Property {
                indexed,
                multiple,
                ..embedded(name, entity)
            },
        );
        entity_of(prop_oneof![leaf.clone(), embedded].boxed())
    })
}

fn entity_of(property: BoxedStrategy<Property<'static>>) -> impl Strategy<Value = Entity<'static>> {
    (
        prop::option::of(any_key()),
        prop::collection::vec(property, 0..6),
    )
        .prop_map(|(key, mut properties)| {
            properties.sort_by_key(|property| !property.indexed);
            Entity { key, properties }
        })
}

/// A real or made-up record with some bytes changed.
pub fn damaged_record() -> impl Strategy<Value = Vec<u8>> {
    let edge_cases = records("managed/default/EdgeCase")
        .into_iter()
        .filter(|record| record.len() < 2_000)
        .collect::<Vec<_>>();
    let sound = prop_oneof![
        prop::sample::select(edge_cases),
        any_entity().prop_map(|entity| record_of(&entity))
    ];
    (
        sound,
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    )
        .prop_map(|(mut record, changes)| {
            for (at, byte) in changes {
                if !record.is_empty() {
                    let at = at.index(record.len());
                    record[at] = byte;
                }
            }
            record
        })
}
