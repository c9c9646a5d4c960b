//! The partial decoder of pack and verify: counts entities and finds which kinds their keys and
//! references name.
//!
//! Knows where keys stand in a record, and checks the structure of the rest. Must not know what
//! values mean, and keeps none.

use std::collections::{BTreeMap, BTreeSet};

use super::decode::{
    ENTITY_KEY, ENTITY_PROPERTY, ENTITY_RAW_PROPERTY, KeyForm, PartBudget, Partition, ProtoError,
    ProtoFault, RawProperty, RawValue, check_depth, read_key,
};
use super::types::{Id, PathElement, User, project_of};
use super::wire::Fields;
use crate::model::{Kind, KindRef};

/// What the records of one pair add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindStats {
    /// How many records there are.
    pub entities: u64,
    /// Bytes of the records, without framing.
    pub bytes: u64,
    /// Kinds of all ancestors in the entities' keys.
    pub parents: BTreeSet<Kind>,
    /// What the properties refer to in the entities' own project, and how many values do. Indexed
    /// or not, in lists and in embedded entities at any depth too. The keys of embedded entities
    /// are no references.
    pub references: BTreeMap<KindRef, u64>,
}

impl KindStats {
    /// Adds what another scan found of the same pair.
    pub fn merge(&mut self, other: &KindStats) {
        self.entities += other.entities;
        self.bytes += other.bytes;
        self.parents.extend(other.parents.iter().cloned());
        for (pair, count) in &other.references {
            *self.references.entry(pair.clone()).or_default() += count;
        }
    }
}

/// What a finished scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanResult {
    /// Each pair that an entity was of.
    pub pairs: BTreeMap<KindRef, KindStats>,
    /// The projects, without a prefix such as `s~`, and databases of the entities' keys.
    pub origins: BTreeSet<(String, String)>,
}

impl ScanResult {
    /// Entities of all pairs.
    pub fn entities(&self) -> u64 {
        self.pairs.values().map(|pair| pair.entities).sum()
    }

    /// Bytes of the records of all pairs.
    pub fn bytes(&self) -> u64 {
        self.pairs.values().map(|pair| pair.bytes).sum()
    }

    /// Adds what another scan found.
    pub fn merge(&mut self, other: &ScanResult) {
        for (pair, found) in &other.pairs {
            self.pairs.entry(pair.clone()).or_default().merge(found);
        }
        self.origins.extend(other.origins.iter().cloned());
    }
}

/// A scan under way. Scans of several pieces may run at once and be merged in any order.
#[derive(Debug, Default)]
pub struct Scan {
    /// By namespace, then kind: texts, so that a record is found in it without making a [`KindRef`].
    pairs: BTreeMap<String, BTreeMap<String, KindCounter>>,
    /// The pair of the last record, which is mostly that of the next: it is not in `pairs`
    /// meanwhile.
    current: Option<Box<LastKind>>,
    origins: StringPairCounts,
}

#[derive(Debug)]
struct LastKind {
    namespace: String,
    kind: String,
    tally: KindCounter,
}

#[derive(Debug, Default)]
struct KindCounter {
    entities: u64,
    bytes: u64,
    parents: BTreeSet<String>,
    references: StringPairCounts,
}

impl Scan {
    /// Adds one record.
    ///
    /// Fails where [`super::Entity::parse`] does, and on an entity without a complete key. A record
    /// whose key can be read is counted even if this fails, so that one damaged record is one
    /// problem.
    pub fn add(&mut self, record: &[u8]) -> Result<(), ProtoError> {
        let entity = Fields::new(record);
        let mut room = PartBudget::new();
        let key = RecordKey::parse(entity, &mut room)?;
        self.origins
            .add(project_of(key.partition.app), key.partition.database, 1);
        let tally = self.tally(key.partition.namespace, key.kind);
        tally.entities += 1;
        tally.bytes += record.len() as u64;
        key.each_parent(|kind| insert(&mut tally.parents, kind))?;
        let project = project_of(key.partition.app);
        each_reference(entity, 0, &mut room, &mut |partition, kind| {
            if project_of(partition.app) == project {
                tally.references.add(partition.namespace, kind, 1);
            }
        })
    }

    fn tally(&mut self, namespace: &str, kind: &str) -> &mut KindCounter {
        let is_current = self
            .current
            .as_ref()
            .is_some_and(|current| current.kind == kind && current.namespace == namespace);
        if !is_current {
            self.put_back();
        }
        let pairs = &mut self.pairs;
        let current = self.current.get_or_insert_with(|| {
            let tally = pairs
                .get_mut(namespace)
                .and_then(|kinds| kinds.remove(kind))
                .unwrap_or_default();
            Box::new(LastKind {
                namespace: namespace.to_owned(),
                kind: kind.to_owned(),
                tally,
            })
        });
        &mut current.tally
    }

    fn put_back(&mut self) {
        if let Some(current) = self.current.take() {
            let LastKind {
                namespace,
                kind,
                tally,
            } = *current;
            self.pairs.entry(namespace).or_default().insert(kind, tally);
        }
    }

    /// Adds what another scan found.
    pub fn merge(&mut self, mut other: Scan) {
        self.put_back();
        other.put_back();
        for (namespace, kinds) in other.pairs {
            let known = self.pairs.entry(namespace).or_default();
            for (kind, tally) in kinds {
                let sum = known.entry(kind).or_default();
                sum.entities += tally.entities;
                sum.bytes += tally.bytes;
                sum.parents.extend(tally.parents);
                sum.references.merge(tally.references);
            }
        }
        self.origins.merge(other.origins);
    }

    /// Ends the scan.
    pub fn finish(mut self) -> ScanResult {
        self.put_back();
        let pairs = self.pairs.into_iter().flat_map(|(namespace, kinds)| {
            kinds.into_iter().map(move |(kind, tally)| {
                let pair = KindRef::new(namespace.clone(), kind);
                (pair, tally.into_stats())
            })
        });
        let origins = self.origins.into_iter();
        ScanResult {
            pairs: pairs.collect(),
            origins: origins
                .map(|(project, database, _)| (project, database))
                .collect(),
        }
    }
}

impl KindCounter {
    fn into_stats(self) -> KindStats {
        let references = self.references.into_iter();
        KindStats {
            entities: self.entities,
            bytes: self.bytes,
            parents: self.parents.into_iter().map(Kind::new).collect(),
            references: references
                .map(|(namespace, kind, count)| (KindRef::new(namespace, kind), count))
                .collect(),
        }
    }
}

/// The key of a record, complete and not decoded further than counting needs.
struct RecordKey<'a> {
    fields: Fields<'a>,
    partition: Partition<'a>,
    path_len: usize,
    kind: &'a str,
}

impl<'a> RecordKey<'a> {
    fn parse(entity: Fields<'a>, room: &mut PartBudget) -> Result<Self, ProtoError> {
        let mut key = None;
        for field in entity {
            let field = field?;
            if field.number == ENTITY_KEY
                && let Some(earlier) = key.replace(field.bytes()?)
            {
                // Of several keys the last one counts, but each must be one.
                read_key(earlier, KeyForm::Message, room, |_| {})?;
            }
        }
        let incomplete = |missing| ProtoError {
            offset: key.map_or(0, |key: Fields<'_>| key.offset()),
            reason: ProtoFault::IncompleteKey { missing },
        };
        let fields = key.ok_or_else(|| incomplete("project"))?;
        let (mut path_len, mut kind, mut fault) = (0, "", None);
        let partition = read_key(fields, KeyForm::Message, room, |element| {
            path_len += 1;
            kind = element.kind;
            fault = fault.or_else(|| lack(&element));
        })?;
        if partition.app.is_empty() {
            return Err(incomplete("project"));
        }
        if path_len == 0 {
            return Err(incomplete("path"));
        }
        match fault {
            Some(fault) => Err(incomplete(fault)),
            None => Ok(RecordKey {
                fields,
                partition,
                path_len,
                kind,
            }),
        }
    }

    fn each_parent(&self, mut on_kind: impl FnMut(&'a str)) -> Result<(), ProtoError> {
        if self.path_len > 1 {
            let mut index = 0;
            read_key(
                self.fields,
                KeyForm::Message,
                &mut PartBudget::new(),
                |element| {
                    index += 1;
                    if index < self.path_len {
                        on_kind(element.kind);
                    }
                },
            )?;
        }
        Ok(())
    }
}

fn lack(element: &PathElement<'_>) -> Option<&'static str> {
    match element {
        element if element.is_complete() => None,
        PathElement { kind: "", .. } => Some("kind"),
        PathElement { id: Id::None, .. } => Some("id or name"),
        _ => Some("one with an id of 0 or an empty name"),
    }
}

/// Walks the values of an entity, hands out where each reference in it leads to, and checks what
/// [`super::Entity::parse`] checks.
fn each_reference<'a>(
    entity: Fields<'a>,
    depth: usize,
    room: &mut PartBudget,
    on_reference: &mut impl FnMut(Partition<'a>, &'a str),
) -> Result<(), ProtoError> {
    check_depth(&entity, depth)?;
    for field in entity {
        let field = field?;
        match field.number {
            // The entity's own key has been read by the time its values are.
            ENTITY_KEY if depth > 0 => {
                read_key(field.bytes()?, KeyForm::Message, room, |_| {})?;
            }
            ENTITY_PROPERTY | ENTITY_RAW_PROPERTY => match RawProperty::read(field.bytes()?, room)?
                .value
            {
                RawValue::Reference(fields) => {
                    let mut last = "";
                    let partition =
                        read_key(fields, KeyForm::Group, room, |element| last = element.kind)?;
                    on_reference(partition, last);
                }
                RawValue::Entity(fields) => each_reference(fields, depth + 1, room, on_reference)?,
                RawValue::User(fields) => {
                    User::read(fields)?;
                }
                RawValue::Null
                | RawValue::Boolean(_)
                | RawValue::Integer(_)
                | RawValue::Double(_)
                | RawValue::Bytes(_)
                | RawValue::Point { .. } => {}
            },
            _ => {}
        }
    }
    Ok(())
}

/// How often each pair of texts was met. A pair that is there already is found without an
/// allocation.
#[derive(Debug, Default)]
struct StringPairCounts {
    /// The first few: nearly always all there are, and found by comparing lengths.
    few: Vec<(String, String, u64)>,
    all: BTreeMap<String, BTreeMap<String, u64>>,
}

/// More would be looked through in vain where there are many.
const FEW: usize = 8;

impl StringPairCounts {
    fn add(&mut self, outer: &str, inner: &str, count: u64) {
        match self.count_mut(outer, inner) {
            Some(known) => *known += count,
            None => self.insert(outer.to_owned(), inner.to_owned(), count),
        }
    }

    fn count_mut(&mut self, outer: &str, inner: &str) -> Option<&mut u64> {
        let mut few = self.few.iter_mut();
        let few = few.find(|few| few.1 == inner && few.0 == outer);
        match few {
            Some((_, _, count)) => Some(count),
            None => self.all.get_mut(outer)?.get_mut(inner),
        }
    }

    fn insert(&mut self, outer: String, inner: String, count: u64) {
        if self.few.len() < FEW {
            self.few.push((outer, inner, count));
        } else {
            self.all.entry(outer).or_default().insert(inner, count);
        }
    }

    fn merge(&mut self, other: StringPairCounts) {
        other
            .into_iter()
            .for_each(|(outer, inner, count)| self.add(&outer, &inner, count));
    }

    fn into_iter(self) -> impl Iterator<Item = (String, String, u64)> {
        let all = self.all.into_iter().flat_map(|(outer, inners)| {
            let inners = inners.into_iter();
            inners.map(move |(inner, count)| (outer.clone(), inner, count))
        });
        self.few.into_iter().chain(all)
    }
}

fn insert(names: &mut BTreeSet<String>, name: &str) {
    if !names.contains(name) {
        names.insert(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entity::testing::{
        any_entity, damaged_record, embedded, key, nested_record, objects, property, record_of,
        records,
    };
    use crate::entity::{Entity, Key, Property, Value};

    fn scan<'r>(records: impl IntoIterator<Item = &'r Vec<u8>>) -> Scan {
        let mut scan = Scan::default();
        records
            .into_iter()
            .for_each(|record| scan.add(record).unwrap());
        scan
    }

    /// What the full decoder says of a record: slow, plain, and by another way.
    fn by_the_full_decoder(record: &[u8]) -> Option<ScanResult> {
        fn references(entity: &Entity<'_>, project: &str, found: &mut BTreeMap<KindRef, u64>) {
            for property in &entity.properties {
                match &property.value {
                    Value::Reference(key) if key.project() == project => {
                        let kind = key.path.last().map_or("", |element| element.kind);
                        let pair = KindRef::new(key.namespace, kind);
                        *found.entry(pair).or_default() += 1;
                    }
                    Value::Entity(entity) => references(entity, project, found),
                    _ => {}
                }
            }
        }
        let entity = Entity::parse(record).ok()?;
        let key = entity.own_key()?;
        let (last, ancestors) = key.path.split_last()?;
        if !key.path.iter().all(PathElement::is_complete) {
            return None;
        }
        let mut pair = KindStats {
            entities: 1,
            bytes: record.len() as u64,
            ..KindStats::default()
        };
        pair.parents = ancestors
            .iter()
            .map(|element| Kind::new(element.kind))
            .collect();
        references(&entity, key.project(), &mut pair.references);
        let pairs = [(KindRef::new(key.namespace, last.kind), pair)].into();
        Some(ScanResult {
            pairs,
            origins: [(key.project().to_owned(), key.database.to_owned())].into(),
        })
    }

    #[test]
    fn the_fixtures_hold_what_their_summary_says() {
        let summary: serde_json::Value = serde_json::from_slice(
            &objects("managed", |path| path.ends_with("/summary.json"))[0].1,
        )
        .unwrap();
        let found = scan(&records("managed")).finish();
        assert_eq!(
            found.origins,
            [("demo-src".to_owned(), String::new())].into()
        );
        let exports = summary["exports"].as_array().unwrap();
        assert_eq!(found.pairs.len(), exports.len());
        for export in exports {
            let pair = KindRef::new(
                export["namespace"].as_str().unwrap(),
                export["kind"].as_str().unwrap(),
            );
            assert_eq!(
                found.pairs[&pair].entities,
                export["entities"].as_u64().unwrap(),
                "{pair}"
            );
        }
    }

    #[test]
    fn scan_finds_nested_parents_and_references() {
        let reference = |app, namespace, kind, indexed| Property {
            indexed,
            ..property(
                "r",
                Value::Reference(key(app, namespace, kind, Id::Number(1))),
            )
        };
        let inner = Entity {
            key: Some(key("src", "", "NoReference", Id::Name("n"))),
            properties: vec![reference("src", "other", "Deep", false)],
        };
        let middle = Entity {
            key: None,
            properties: vec![
                embedded("e", inner),
                reference("third", "", "Foreign", true),
            ],
        };
        let path = ["Root", "Mid", "Mid", "Own"]
            .map(|kind| PathElement {
                kind,
                id: Id::Number(7),
            })
            .to_vec();
        let entity = Entity {
            key: Some(Key {
                app: "s~src",
                namespace: "ns",
                database: "db",
                path,
            }),
            properties: vec![
                reference("src", "", "A", true),
                embedded("e", middle),
                reference("e~src", "ns", "B", false),
                // Two values of one list, and an entity of its own kind.
                reference("s~src", "ns", "B", true),
                reference("src", "ns", "Own", true),
            ],
        };
        let record = record_of(&entity);
        let found = scan([&record, &record]).finish();
        let pair = KindStats {
            entities: 2,
            bytes: 2 * record.len() as u64,
            parents: ["Mid", "Root"].map(Kind::new).into(),
            references: [
                ("", "A", 2),
                ("other", "Deep", 2),
                ("ns", "B", 4),
                ("ns", "Own", 2),
            ]
            .map(|(namespace, kind, count)| (KindRef::new(namespace, kind), count))
            .into(),
        };
        assert_eq!(found.pairs, [(KindRef::new("ns", "Own"), pair)].into());
        assert_eq!(found.origins, [("src".to_owned(), "db".to_owned())].into());
    }

    #[test]
    fn incomplete_key_is_refused_with_reason() {
        let of = |key| {
            Scan::default()
                .add(&record_of(&Entity {
                    key,
                    properties: Vec::new(),
                }))
                .unwrap_err()
                .reason
        };
        let lacking = |missing| ProtoFault::IncompleteKey { missing };
        assert_eq!(of(None), lacking("project"));
        assert_eq!(
            of(Some(key("", "", "K", Id::Number(1)))),
            lacking("project")
        );
        assert_eq!(
            of(Some(Key {
                app: "p",
                ..Key::default()
            })),
            lacking("path")
        );
        assert_eq!(of(Some(key("p", "", "", Id::Number(1)))), lacking("kind"));
        assert_eq!(of(Some(key("p", "", "K", Id::None))), lacking("id or name"));
        assert_eq!(
            of(Some(key("p", "", "K", Id::Number(0)))),
            lacking("one with an id of 0 or an empty name")
        );
        assert_eq!(
            Scan::default().add(&[]).unwrap_err().reason,
            lacking("project")
        );
    }

    #[test]
    fn damaged_embedded_key_is_detected() {
        let inner = Entity {
            key: Some(key("p", "", "spoilt", Id::Name("n"))),
            properties: Vec::new(),
        };
        let outer = Entity {
            key: Some(key("p", "", "K", Id::Number(1))),
            properties: vec![embedded("e", inner)],
        };
        let mut record = record_of(&outer);
        assert_eq!(Scan::default().add(&record), Ok(()));
        let at = record
            .windows(6)
            .position(|window| window == b"spoilt")
            .unwrap();
        record[at] = 0xff;
        assert!(Scan::default().add(&record).is_err() && Entity::parse(&record).is_err());
    }

    #[test]
    fn record_counts_once_its_key_is_read() {
        let mut record = record_of(&Entity {
            key: Some(key("p", "", "K", Id::Number(1))),
            properties: Vec::new(),
        });
        record.extend(nested_record(10_000));
        let mut scan = Scan::default();
        assert_eq!(scan.add(&record).unwrap_err().reason, ProtoFault::TooDeep);
        assert_eq!(scan.finish().pairs[&KindRef::new("", "K")].entities, 1);
    }

    #[test]
    fn many_referenced_kinds_are_counted_exactly() {
        let kinds: Vec<String> = (0..3 * FEW).map(|kind| format!("K{kind:02}")).collect();
        let references = kinds.iter().chain(kinds.iter().skip(1)).map(|kind| {
            let target = key("src", "", kind, Id::Number(1));
            property("r", Value::Reference(target))
        });
        let record = record_of(&Entity {
            key: Some(key("src", "", "Own", Id::Number(1))),
            properties: references.collect(),
        });
        let mut merged = scan([&record]);
        merged.merge(scan([&record, &record]));
        let found = merged.finish();
        let counts = found.pairs[&KindRef::new("", "Own")].references.values();
        let expected = [3].into_iter().chain([6; 3 * FEW - 1]);
        assert!(counts.copied().eq(expected), "{found:?}");
    }

    #[test]
    fn scans_of_pieces_merge() {
        let records = records("managed");
        let whole = scan(&records).finish();
        for size in [1, 7, 100] {
            let mut merged = Scan::default();
            records
                .chunks(size)
                .rev()
                .for_each(|piece| merged.merge(scan(piece)));
            assert_eq!(merged.finish(), whole);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn scan_agrees_with_the_decoder(entity in any_entity(), own in "[a-zA-Z]{1,3}") {
            let mut entity = entity;
            entity.key = Some(key("s~src", "ns", &own, Id::Number(1)));
            let record = record_of(&entity);
            prop_assert_eq!(Some(scan([&record]).finish()), by_the_full_decoder(&record));
        }

        #[test]
        fn scan_refuses_what_the_decoder_refuses(record in damaged_record()) {
            let mut scan = Scan::default();
            let found = scan.add(&record).is_ok().then(|| scan.finish());
            prop_assert_eq!(found, by_the_full_decoder(&record));
        }

        #[test]
        fn no_bytes_make_the_scan_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Scan::default().add(&bytes);
        }
    }
}
