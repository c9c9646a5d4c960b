//! Redaction and samples on real exports: what leaves an archive shows nothing of what was
//! redacted, all else is as it was, and a sample brings what it needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kindpack::archive::{Archive, entities};
use kindpack::entity::{Entity, KeyMapping};
use kindpack::model::{EntryInfo, Kind, KindRef, Sample};
use kindpack::restore::{dependencies, rule_matches};
use kindpack::runtime::workers::Workers;
use kindpack::store::{DirStore, Store};
use kindpack::transform::redact::{RedactKey, RedactRule, Redactor, RuleSet};
use kindpack::transform::sample::Sampler;
use kindpack::transform::{Encoder, Encoding};
use serde_json::{Value, json};

use crate::support::TestDir;
use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::entities::{assert_same, by_pair, kind_of, pair_of};
use crate::support::fixtures::{Set, legacy, managed};

const SECRET: &[u8] = b"the secret of these tests";

struct Packed {
    archive: Arc<Archive>,
    workers: Workers,
    _desk: TestDir,
}

async fn packed(desk: TestDir, source: &str) -> Packed {
    desk.pack(source);
    let store: Arc<dyn Store> = Arc::new(DirStore::new(desk.work()));
    let object = store.stat("set.zip").await.unwrap();
    let archive = Arc::new(
        Archive::open(store, object, "set.zip".to_owned())
            .await
            .unwrap(),
    );
    Packed {
        archive,
        workers: Workers::new(2, 1 << 28),
        _desk: desk,
    }
}

impl Packed {
    fn pairs(&self) -> Vec<KindRef> {
        self.archive
            .manifest()
            .kinds
            .iter()
            .map(|kind| kind.pair())
            .collect()
    }

    fn kinds(&self) -> Vec<Kind> {
        self.pairs().into_iter().map(|pair| pair.kind).collect()
    }

    fn outputs(&self, pair: &KindRef) -> Vec<EntryInfo> {
        self.archive
            .kind(pair)
            .unwrap()
            .outputs()
            .cloned()
            .collect()
    }

    fn encoder(&self, encoding: Encoding, pair: &KindRef) -> Encoder {
        let rewrite = KeyMapping {
            from_project: self.archive.manifest().backup.project.clone(),
            ..KeyMapping::default()
        };
        Encoder::new(encoding, rewrite, pair.clone())
    }

    fn redactor(&self, rules: &[&str]) -> Arc<Redactor> {
        let rules: Vec<RedactRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Arc::new(
            Redactor::new(&rules, &self.kinds(), Some(&RedactKey::from_secret(SECRET))).unwrap(),
        )
    }

    /// The bytes of each entity that comes out of a pair, piece by piece.
    async fn read(&self, encoder: Encoder, pair: &KindRef, skip: u64) -> Vec<Vec<Vec<u8>>> {
        let outputs = self.outputs(pair);
        let pieces = entities::read(&self.archive, &outputs, encoder, skip, &self.workers);
        let entities =
            pieces.map_ok(|piece| piece.iter().map(|(bytes, _)| bytes.to_vec()).collect());
        entities.try_collect().await.unwrap()
    }

    /// All entities as JSON, redacted.
    async fn redacted(&self, rules: &[&str]) -> Vec<Value> {
        let redactor = self.redactor(rules);
        let mut entities = Vec::new();
        for pair in self.pairs() {
            let encoder = self
                .encoder(Encoding::JsonLine, &pair)
                .redacting(redactor.clone());
            let lines = self.read(encoder, &pair, 0).await;
            entities.extend(
                lines
                    .iter()
                    .flatten()
                    .map(|line| serde_json::from_slice::<Value>(line).unwrap()),
            );
        }
        entities
    }

    /// The keys of all entities that a sample takes.
    async fn sampled(&self, pickers: &HashMap<KindRef, Arc<Sampler>>) -> Vec<Value> {
        let mut entities = Vec::new();
        for pair in self.pairs() {
            let encoder = self
                .encoder(Encoding::JsonLine, &pair)
                .picking(pickers[&pair].clone(), 0);
            let lines = self.read(encoder, &pair, 0).await;
            entities.extend(
                lines
                    .iter()
                    .flatten()
                    .map(|line| serde_json::from_slice::<Value>(line).unwrap()),
            );
        }
        entities
    }
}

fn hash(text: &str) -> String {
    let mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET)
        .unwrap()
        .chain_update(text)
        .finalize()
        .into_bytes();
    mac[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Each value of a property wherever it stands in an entity, elements of arrays one by one.
fn each_value<'a>(value: &'a mut Value, on_value: &mut dyn FnMut(&mut Value)) {
    if let Some(values) = value.pointer_mut("/arrayValue/values") {
        values.as_array_mut().unwrap().iter_mut().for_each(on_value);
    } else {
        on_value(value);
    }
}

/// Hashes the names of Customers in every key, by the book: wherever a path stands.
fn hash_customers(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(path) = members.get_mut("path").and_then(Value::as_array_mut) {
                for element in path
                    .iter_mut()
                    .filter(|element| element["kind"] == "Customer")
                {
                    element["name"] =
                        hash(element["name"].as_str().expect("customers have names")).into();
                }
            } else {
                members.values_mut().for_each(hash_customers);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hash_customers),
        _ => {}
    }
}

#[tokio::test]
async fn rules_redact_everywhere_and_nothing_else() {
    let Set { source, truth, .. } = managed();
    let packed = packed(TestDir::new(), &source).await;
    let found = packed
        .redacted(&[
            "*.title=mask",
            "Customer.body=hash",
            "Cust*.address.*=null",
            "Order.mixed=drop",
            "Customer.__key__=hash",
        ])
        .await;
    let mut expected = truth;
    for entity in &mut expected {
        hash_customers(entity);
        let kind = kind_of(entity).to_owned();
        let Some(properties) = entity.get_mut("properties") else {
            continue;
        };
        if let Some(title) = properties.get_mut("title") {
            each_value(title, &mut |value| {
                if let Some(text) = value["stringValue"].as_str() {
                    value["stringValue"] = "*".repeat(text.chars().count()).into();
                }
            });
        }
        if kind == "Customer" {
            if let Some(text) = properties
                .get_mut("body")
                .and_then(|body| body.get_mut("stringValue"))
            {
                *text = hash(text.as_str().unwrap()).into();
            }
            let parts = properties
                .pointer_mut("/address/entityValue/properties")
                .and_then(Value::as_object_mut);
            for part in parts.into_iter().flat_map(|parts| parts.values_mut()) {
                each_value(part, &mut |value| {
                    let excluded = value.get("excludeFromIndexes").cloned();
                    *value = json!({"nullValue": null});
                    excluded
                        .into_iter()
                        .for_each(|excluded| value["excludeFromIndexes"] = excluded);
                });
            }
        }
        if kind == "Order" {
            properties.as_object_mut().unwrap().remove("mixed");
        }
    }
    assert_same(&expected, &found, false, "redacted");
}

#[tokio::test]
async fn redacted_kind_leaves_no_value() {
    for Set { source, truth, .. } in [managed(), legacy()] {
        let kind = kind_of(
            truth
                .iter()
                .find(|entity| {
                    entity["properties"]
                        .as_object()
                        .is_some_and(|p| p.len() > 2)
                })
                .unwrap(),
        )
        .to_owned();
        let packed = packed(TestDir::new(), &source).await;
        let mut secrets = BTreeSet::new();
        for entity in truth.iter().filter(|entity| kind_of(entity) == kind) {
            collect_texts(&entity["properties"], &mut secrets);
        }
        assert!(secrets.len() > 5, "{secrets:?}");
        for action in ["drop", "null", "hash", "mask", "fake"] {
            let redactor = packed.redactor(&[&format!("{kind}.*={action}")]);
            for pair in packed
                .pairs()
                .iter()
                .filter(|pair| pair.kind.as_str() == kind)
            {
                for encoding in [Encoding::Message, Encoding::JsonLine, Encoding::Record] {
                    let encoder = packed.encoder(encoding, pair).redacting(redactor.clone());
                    for entity in packed.read(encoder, pair, 0).await.iter().flatten() {
                        let told = secrets.iter().find(|secret| {
                            entity
                                .windows(secret.len())
                                .any(|window| window == secret.as_bytes())
                        });
                        assert_eq!(told, None, "{pair} {action} {encoding:?}");
                    }
                }
            }
        }
    }
}

/// Texts and blobs that are long enough not to stand somewhere by chance.
fn collect_texts(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            let texts = ["stringValue", "blobValue"]
                .into_iter()
                .filter_map(|name| members.get(name)?.as_str());
            found.extend(
                texts
                    .filter(|text| text.chars().count() >= 12)
                    .map(str::to_owned),
            );
            members
                .values()
                .for_each(|value| collect_texts(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_texts(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn exports_and_commits_carry_the_same_redacted_entities() {
    let Set { source, .. } = managed();
    let packed = packed(TestDir::new(), &source).await;
    let redactor = packed.redactor(&["*.*=hash", "*.__key__=hash"]);
    for pair in packed.pairs() {
        let encoder = |encoding| packed.encoder(encoding, &pair).redacting(redactor.clone());
        let lines = packed
            .read(encoder(Encoding::JsonLine), &pair, 0)
            .await
            .concat();
        let records = packed
            .read(encoder(Encoding::Record), &pair, 0)
            .await
            .concat();
        assert_eq!(lines.len(), records.len());
        for (line, record) in lines.iter().zip(&records) {
            let mut again = Vec::new();
            kindpack::entity::json::write_entity(
                &Entity::parse(record).unwrap(),
                &KeyMapping::identity(),
                &mut again,
            );
            again.push(b'\n');
            assert_eq!(
                String::from_utf8_lossy(&again),
                String::from_utf8_lossy(line)
            );
        }
    }
}

#[tokio::test]
async fn unmatched_rules_suggest_existing_names() {
    let Set { source, .. } = managed();
    let packed = packed(TestDir::new(), &source).await;
    let rules = [
        "*.address.str*=mask",
        "Customer.emial=mask",
        "Customer.tit*=null",
        "Customer.__key__=hash",
    ];
    let rules: Vec<RedactRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    let resolved = RuleSet::new(&rules, &packed.kinds()).unwrap();
    let pairs: Vec<KindRef> = packed
        .pairs()
        .into_iter()
        .filter(|pair| ["Customer", "Order"].contains(&pair.kind.as_str()))
        .collect();
    let matches = rule_matches::matches(&packed.archive, &pairs, &resolved, &packed.workers)
        .await
        .unwrap();
    let found: Vec<(String, Vec<String>)> = matches
        .into_iter()
        .map(|found| (found.rule.to_string(), found.properties))
        .collect();
    let expected: [(&str, &[&str]); 4] = [
        (
            "*.address.str*=mask",
            &["Customer.address.street", "Order.address.street"],
        ),
        ("Customer.emial=mask", &[]),
        ("Customer.tit*=null", &["Customer.title"]),
        ("Customer.__key__=hash", &["Customer.__key__"]),
    ];
    let owned = |names: &[&str]| {
        names
            .iter()
            .map(|name| name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found,
        expected.map(|(rule, names)| (rule.to_owned(), owned(names)))
    );
}

/// The keys that an entity needs, as text: its ancestors and what it refers to, itself left out.
fn needs(entity: &Value) -> BTreeSet<String> {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(key) = members.get("keyValue") {
                    found.insert(key.to_string());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    references(&entity["properties"], &mut found);
    let path = entity["key"]["path"].as_array().unwrap();
    for len in 1..path.len() {
        let mut key = entity["key"].clone();
        key["path"].as_array_mut().unwrap().truncate(len);
        found.insert(key.to_string());
    }
    found
}

#[tokio::test]
async fn sample_brings_dependencies_on_request() {
    let Set { source, truth, .. } = managed();
    let packed = packed(TestDir::new(), &source).await;
    let pairs = packed.pairs();
    let all: BTreeMap<String, &Value> = truth
        .iter()
        .map(|entity| (entity["key"].to_string(), entity))
        .collect();
    for sample in ["1", "3", "5%", "30%", "100%"] {
        let sample: Sample = sample.parse().unwrap();
        let sampled: Vec<(KindRef, Sample)> =
            pairs.iter().map(|pair| (pair.clone(), sample)).collect();
        let pick = |with_dependencies| {
            dependencies::samplers(
                &packed.archive,
                &sampled,
                with_dependencies,
                &packed.workers,
            )
        };
        let plain = packed.sampled(&pick(false).await.unwrap()).await;
        let whole = packed.sampled(&pick(true).await.unwrap()).await;
        let keys = |entities: &[Value]| {
            entities
                .iter()
                .map(|entity| entity["key"].to_string())
                .collect::<BTreeSet<_>>()
        };
        let mut expected = keys(&plain);
        let mut to_do: Vec<String> = expected.iter().cloned().collect();
        while let Some(key) = to_do.pop() {
            to_do.extend(
                needs(all[&key])
                    .into_iter()
                    .filter(|key| all.contains_key(key) && expected.insert(key.clone())),
            );
        }
        assert_eq!(keys(&whole), expected, "{sample}");
        assert_eq!(whole.len(), expected.len(), "{sample}");
        if let Sample::Limit(limit) = sample {
            for (pair, entities) in by_pair(&plain) {
                let of_pair = truth
                    .iter()
                    .filter(|entity| pair_of(entity) == pair)
                    .count();
                assert_eq!(entities.len(), of_pair.min(limit as usize), "{pair:?}");
            }
        }
        if sample == Sample::Share(1_000_000) {
            assert_eq!(plain.len(), truth.len());
        }
    }
}

#[tokio::test]
async fn resumed_sample_brings_equal_entities() {
    let desk = TestDir::new();
    let records: Vec<Vec<u8>> = made("demo-src", "acme", "Song", 16, 1_000_000)
        .iter()
        .map(Made::record)
        .collect();
    let pair = KindRef::new("acme", "Song");
    write_export(&desk.path("source"), &pair, STARTED_MICROS, &records, 2);
    let packed = packed(desk, "source").await;
    for (sample, with_dependencies) in [("9", false), ("9", true), ("40%", false)] {
        let sample: Sample = sample.parse().unwrap();
        let pickers = dependencies::samplers(
            &packed.archive,
            &[(pair.clone(), sample)],
            with_dependencies,
            &packed.workers,
        )
        .await
        .unwrap();
        let read = |skip, before| {
            packed.read(
                packed
                    .encoder(Encoding::Record, &pair)
                    .picking(pickers[&pair].clone(), before),
                &pair,
                skip,
            )
        };
        let whole = read(0, 0).await;
        assert!(whole.len() > 2, "{sample}");
        if let Sample::Limit(limit) = sample {
            assert_eq!(whole.concat().len() as u64, limit);
        }
        for skip in 1..whole.len() {
            let before = whole[..skip].iter().map(Vec::len).sum::<usize>() as u64;
            assert!(
                read(skip as u64, before).await.concat() == whole[skip..].concat(),
                "{sample} behind {skip} pieces"
            );
        }
    }
}
