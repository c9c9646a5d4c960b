//! Entities as REST JSON: sorted into pairs, moved to another project, compared by value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Namespace (empty for the default one) and kind.
pub type PairName = (String, String);

pub fn namespace_of(entity: &Value) -> &str {
    entity["key"]["partitionId"]["namespaceId"]
        .as_str()
        .unwrap_or_default()
}

pub fn kind_of(entity: &Value) -> &str {
    entity["key"]["path"].as_array().unwrap().last().unwrap()["kind"]
        .as_str()
        .unwrap()
}

pub fn pair_of(entity: &Value) -> PairName {
    (namespace_of(entity).to_owned(), kind_of(entity).to_owned())
}

pub fn by_pair(entities: &[Value]) -> BTreeMap<PairName, Vec<Value>> {
    let mut pairs: BTreeMap<PairName, Vec<Value>> = BTreeMap::new();
    for entity in entities {
        pairs
            .entry(pair_of(entity))
            .or_default()
            .push(entity.clone());
    }
    pairs
}

/// The SELECTOR of one pair.
pub fn selector((namespace, kind): &PairName) -> String {
    format!(
        "{}/{kind}",
        if namespace.is_empty() {
            "(default)"
        } else {
            namespace
        }
    )
}

/// Entities that stand one a line.
#[track_caller]
pub fn of_lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("lines in UTF-8");
    text.lines()
        .map(|line| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("no entity: {line:?}: {error}"))
        })
        .collect()
}

/// Fails unless both hold the same entities, in whatever order. An emulator invents a `user_id` for
/// users that have none; `invented_users` forgives that.
#[track_caller]
pub fn assert_same(expected: &[Value], found: &[Value], invented_users: bool, what: &str) {
    let by_key = |entities: &[Value]| {
        let mut keyed = BTreeMap::new();
        for entity in entities {
            let key = key_of(entity);
            assert!(
                keyed.insert(key.clone(), entity.clone()).is_none(),
                "{what}: an entity twice: {key}"
            );
        }
        keyed
    };
    let (expected, found) = (by_key(expected), by_key(found));
    let keys =
        |entities: &BTreeMap<String, Value>| entities.keys().cloned().collect::<BTreeSet<_>>();
    let lost: Vec<String> = keys(&expected).difference(&keys(&found)).cloned().collect();
    let foreign: Vec<String> = keys(&found).difference(&keys(&expected)).cloned().collect();
    assert!(
        lost.is_empty() && foreign.is_empty(),
        "{what}: {} of {} entities lost, first {:?}; {} foreign, first {:?}",
        lost.len(),
        expected.len(),
        lost.first(),
        foreign.len(),
        foreign.first()
    );
    for (key, expected) in &expected {
        let mut found = found[key].clone();
        if invented_users {
            forget_invented_users(expected, &mut found);
        }
        if let Some(place) = difference(expected, &found) {
            panic!("{what}: entity {key} differs at {place}");
        }
    }
}

/// The key with its members in one order.
fn key_of(entity: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields: BTreeMap<&String, Value> = fields
                    .iter()
                    .map(|(name, value)| (name, sorted(value)))
                    .collect();
                fields
                    .into_iter()
                    .map(|(name, value)| (name.clone(), value))
                    .collect::<Map<_, _>>()
                    .into()
            }
            Value::Array(items) => items.iter().map(sorted).collect(),
            other => other.clone(),
        }
    }
    sorted(&entity["key"]).to_string()
}

/// Where two JSON values differ; numbers are compared by value, the order of members means nothing.
pub fn difference(expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            names
                .into_iter()
                .find_map(|name| match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => difference(a, b).map(|place| format!("/{name}{place}")),
                    (None, _) => Some(format!("/{name}: expected none")),
                    (_, None) => Some(format!("/{name}: found none")),
                })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(index, (a, b))| {
                difference(a, b).map(|place| format!("/{index}{place}"))
            })
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
        (a, b) if a == b => None,
        (a, b) => Some(format!(": expected {a:.80}, found {b:.80}")),
    }
}

fn forget_invented_users(expected: &Value, found: &mut Value) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let is_user = expected.get("meaning").and_then(Value::as_u64) == Some(20);
            if is_user
                && expected["entityValue"]["properties"]
                    .get("user_id")
                    .is_none()
            {
                found["entityValue"]["properties"]
                    .as_object_mut()
                    .unwrap()
                    .remove("user_id");
            }
            for (name, found) in found {
                if let Some(expected) = expected.get(name) {
                    forget_invented_users(expected, found);
                }
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected
                .iter()
                .zip(found)
                .for_each(|(expected, found)| forget_invented_users(expected, found));
        }
        _ => {}
    }
}

/// The entities as they must be in project `to`: keys and references of project `from` follow,
/// those of others stay. `namespaces` moves some of them.
pub fn moved(entities: &[Value], from: &str, to: &str, namespaces: &[(&str, &str)]) -> Vec<Value> {
    fn walk(value: &mut Value, from: &str, to: &str, namespaces: &[(&str, &str)]) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == "partitionId" && value["projectId"] == from {
                        value["projectId"] = to.into();
                        let namespace =
                            value["namespaceId"].as_str().unwrap_or_default().to_owned();
                        let namespace = namespaces
                            .iter()
                            .find(|(from, _)| *from == namespace)
                            .map_or(namespace, |(_, to)| (*to).to_owned());
                        let partition = value.as_object_mut().unwrap();
                        partition.remove("namespaceId");
                        if !namespace.is_empty() {
                            partition.insert("namespaceId".to_owned(), namespace.into());
                        }
                    } else {
                        walk(value, from, to, namespaces);
                    }
                }
            }
            Value::Array(items) => items
                .iter_mut()
                .for_each(|item| walk(item, from, to, namespaces)),
            _ => {}
        }
    }
    let mut entities = entities.to_vec();
    entities
        .iter_mut()
        .for_each(|entity| walk(entity, from, to, namespaces));
    entities
}

/// The pairs of `project` that a value refers to, at any depth, one for each reference; keys of embedded entities are none.
pub fn references(value: &Value, project: &str) -> Vec<PairName> {
    let mut found = Vec::new();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "keyValue" && value["partitionId"]["projectId"] == project {
                    let namespace = value["partitionId"]["namespaceId"]
                        .as_str()
                        .unwrap_or_default();
                    let kind = value["path"].as_array().unwrap().last().unwrap()["kind"]
                        .as_str()
                        .unwrap();
                    found.push((namespace.to_owned(), kind.to_owned()));
                } else if name != "key" {
                    found.extend(references(value, project));
                }
            }
        }
        Value::Array(items) => {
            found.extend(items.iter().flat_map(|item| references(item, project)))
        }
        _ => {}
    }
    found
}

/// The kinds above the entity in its key.
pub fn ancestors(entity: &Value) -> BTreeSet<String> {
    let path = entity["key"]["path"].as_array().unwrap();
    path[..path.len() - 1]
        .iter()
        .map(|step| step["kind"].as_str().unwrap().to_owned())
        .collect()
}
