//! Decodes `EntityProto`, the form of an entity in an export (docs/formats.md, section 5), without
//! copying.

use std::borrow::Cow;

use super::types::{
    Entity, Id, Key, MEANING_EMPTY_LIST, MEANING_ENTITY, PathElement, Property, URI_ZLIB, User,
    Value,
};
use super::wire::{Fields, WireError, WireFault};

/// Entities inside entities that are read. Datastore itself ends at 20.
pub const MAX_EMBEDDED_DEPTH: usize = 32;

/// Properties, elements of arrays and elements of keys that an entity may have, in embedded ones
/// too. An entity of 1 MiB has room for about 120,000: the bound keeps a record of empty ones,
/// which take two bytes each, from filling the memory.
pub const MAX_PARTS: u32 = 500_000;

/// A record that is not an `EntityProto`. Says where and why, and never which value stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entity at byte {offset}: {reason}")]
pub struct ProtoError {
    /// Where the fault stands, in bytes from the record's start.
    pub offset: usize,
    /// What is wrong there.
    pub reason: ProtoFault,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum ProtoFault {
    /// The bytes are no protobuf message, or not this one.
    #[error(transparent)]
    Wire(WireFault),
    /// Entities embedded in entities, deeper than any that Datastore keeps.
    #[error("embedded entities are nested more than {MAX_EMBEDDED_DEPTH} levels deep")]
    TooDeep,
    /// More properties than any entity has.
    #[error("it has more than {MAX_PARTS} properties, elements of arrays and elements of keys")]
    TooManyParts,
    /// A path element with both, so that nobody knows which entity is meant.
    #[error("a key has both an id and a name")]
    IdAndName,
    /// An entity that cannot be addressed.
    #[error("the key is incomplete: it has no {missing}")]
    IncompleteKey {
        /// What the key lacks.
        missing: &'static str,
    },
}

impl From<WireError> for ProtoError {
    fn from(error: WireError) -> Self {
        ProtoError {
            offset: error.offset,
            reason: ProtoFault::Wire(error.reason),
        }
    }
}

pub(crate) const ENTITY_KEY: u32 = 13;
pub(crate) const ENTITY_PROPERTY: u32 = 14;
pub(crate) const ENTITY_RAW_PROPERTY: u32 = 15;

impl<'a> Entity<'a> {
    /// Reads one record of an output.
    ///
    /// Tolerant about keys: see [`Key::is_complete`]. Unknown fields are skipped. Of several values
    /// in one property the first of boolean, integer, double, reference, bytes, point, user counts,
    /// without its meaning, as in the emulator.
    pub fn parse(record: &'a [u8]) -> Result<Self, ProtoError> {
        Entity::read(Fields::new(record), 0, &mut PartBudget::new())
    }

    fn read(fields: Fields<'a>, depth: usize, room: &mut PartBudget) -> Result<Self, ProtoError> {
        check_depth(&fields, depth)?;
        let mut entity = Entity::default();
        for field in fields {
            let field = field?;
            match field.number {
                ENTITY_KEY => entity.key = Some(Key::read(field.bytes()?, KeyForm::Message, room)?),
                ENTITY_PROPERTY => {
                    entity
                        .properties
                        .push(Property::read(field.bytes()?, true, depth, room)?)
                }
                ENTITY_RAW_PROPERTY => {
                    entity
                        .properties
                        .push(Property::read(field.bytes()?, false, depth, room)?)
                }
                _ => {}
            }
        }
        entity.properties.sort_by_key(|property| !property.indexed);
        Ok(entity)
    }
}

pub(crate) fn check_depth(fields: &Fields<'_>, depth: usize) -> Result<(), ProtoError> {
    if depth > MAX_EMBEDDED_DEPTH {
        return Err(ProtoError {
            offset: fields.offset(),
            reason: ProtoFault::TooDeep,
        });
    }
    Ok(())
}

/// How many parts an entity may still have.
#[derive(Debug)]
pub(crate) struct PartBudget(u32);

impl PartBudget {
    /// Room for a whole entity.
    pub fn new() -> Self {
        PartBudget(MAX_PARTS)
    }

    /// Takes room for the part that begins at `offset`.
    pub fn take(&mut self, offset: usize) -> Result<(), ProtoError> {
        self.0 = self.0.checked_sub(1).ok_or(ProtoError {
            offset,
            reason: ProtoFault::TooManyParts,
        })?;
        Ok(())
    }
}

impl<'a> Key<'a> {
    fn read(fields: Fields<'a>, form: KeyForm, room: &mut PartBudget) -> Result<Self, ProtoError> {
        let mut path = Vec::new();
        let partition = read_key(fields, form, room, |element| path.push(element))?;
        Ok(Key {
            app: partition.app,
            namespace: partition.namespace,
            database: partition.database,
            path,
        })
    }
}

/// The two forms of a key: a message of its own, and a group in a value, with other numbers for the
/// same things.
#[derive(Clone, Copy)]
pub(crate) enum KeyForm {
    Message,
    Group,
}

/// Where a key belongs.
#[derive(Default)]
pub(crate) struct Partition<'a> {
    pub app: &'a str,
    pub namespace: &'a str,
    pub database: &'a str,
}

/// Reads a key, handing out its path element by element.
pub(crate) fn read_key<'a>(
    fields: Fields<'a>,
    form: KeyForm,
    room: &mut PartBudget,
    mut on_element: impl FnMut(PathElement<'a>),
) -> Result<Partition<'a>, ProtoError> {
    let mut partition = Partition::default();
    for field in fields {
        let field = field?;
        match (field.number, form) {
            (13, _) => partition.app = field.text()?,
            (20, _) => partition.namespace = field.text()?,
            (23, _) => partition.database = field.text()?,
            (14, KeyForm::Group) => {
                room.take(field.offset)?;
                on_element(read_element(field.group()?, [15, 16, 17])?);
            }
            (14, KeyForm::Message) => {
                for element in field.bytes()? {
                    let element = element?;
                    if element.number == 1 {
                        room.take(element.offset)?;
                        on_element(read_element(element.group()?, [2, 3, 4])?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(partition)
}

fn read_element<'a>(
    fields: Fields<'a>,
    [kind, id, name]: [u32; 3],
) -> Result<PathElement<'a>, ProtoError> {
    let mut element = PathElement {
        kind: "",
        id: Id::None,
    };
    let (mut number, mut text) = (None, None);
    for field in fields {
        let field = field?;
        match field.number {
            n if n == kind => element.kind = field.text()?,
            n if n == id => number = Some(field.signed()?),
            n if n == name => text = Some(field.text()?),
            _ => {}
        }
    }
    element.id = match (number, text) {
        (None, None) => Id::None,
        (Some(number), None) => Id::Number(number),
        (None, Some(name)) => Id::Name(name),
        (Some(_), Some(_)) => {
            return Err(ProtoError {
                offset: fields.offset(),
                reason: ProtoFault::IdAndName,
            });
        }
    };
    Ok(element)
}

/// A property whose value is found but not yet decoded: what the decoder and the scan have in
/// common.
pub(crate) struct RawProperty<'a> {
    name: &'a str,
    multiple: bool,
    meaning: u64,
    meaning_uri: &'a str,
    pub value: RawValue<'a>,
}

pub(crate) enum RawValue<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Reference(Fields<'a>),
    Bytes(Fields<'a>),
    Entity(Fields<'a>),
    Point { x: f64, y: f64 },
    User(Fields<'a>),
}

impl<'a> RawProperty<'a> {
    pub fn read(fields: Fields<'a>, room: &mut PartBudget) -> Result<Self, ProtoError> {
        room.take(fields.offset())?;
        let mut property = RawProperty {
            name: "",
            multiple: false,
            meaning: 0,
            meaning_uri: "",
            value: RawValue::Null,
        };
        let mut several = false;
        for field in fields {
            let field = field?;
            match field.number {
                1 => property.meaning = field.varint()?,
                2 => property.meaning_uri = field.text()?,
                3 => property.name = field.text()?,
                4 => property.multiple = field.varint()? != 0,
                5 => (property.value, several) = RawValue::read(field.bytes()?)?,
                _ => {}
            }
        }
        if several && property.meaning != MEANING_EMPTY_LIST {
            (property.meaning, property.meaning_uri) = (0, "");
        }
        if let RawValue::Bytes(bytes) = property.value
            && property.meaning == MEANING_ENTITY
            && property.meaning_uri != URI_ZLIB
        {
            property.value = RawValue::Entity(bytes);
        }
        Ok(property)
    }
}

impl<'a> RawValue<'a> {
    /// Reads a value, and whether there was more than one; of several the one with the lowest rank
    /// counts.
    fn read(fields: Fields<'a>) -> Result<(Self, bool), ProtoError> {
        let mut best = (u8::MAX, RawValue::Null);
        let mut several = false;
        for field in fields {
            let field = field?;
            let (rank, value) = match field.number {
                2 => (0, RawValue::Boolean(field.varint()? != 0)),
                1 => (1, RawValue::Integer(field.signed()?)),
                4 => (2, RawValue::Double(field.double()?)),
                12 => (3, RawValue::Reference(field.group()?)),
                3 => (4, RawValue::Bytes(field.bytes()?)),
                5 => (5, RawValue::point(field.group()?)?),
                8 => (6, RawValue::User(field.group()?)),
                _ => continue,
            };
            several |= best.0 != u8::MAX && best.0 != rank;
            if rank <= best.0 {
                best = (rank, value);
            }
        }
        Ok((best.1, several))
    }

    fn point(fields: Fields<'a>) -> Result<Self, WireError> {
        let (mut x, mut y) = (0.0, 0.0);
        for field in fields {
            let field = field?;
            match field.number {
                6 => x = field.double()?,
                7 => y = field.double()?,
                _ => {}
            }
        }
        Ok(RawValue::Point { x, y })
    }
}

impl<'a> Property<'a> {
    fn read(
        fields: Fields<'a>,
        indexed: bool,
        depth: usize,
        room: &mut PartBudget,
    ) -> Result<Self, ProtoError> {
        let RawProperty {
            name,
            multiple,
            meaning,
            meaning_uri,
            value,
        } = RawProperty::read(fields, room)?;
        let value = match value {
            RawValue::Null => Value::Null,
            RawValue::Boolean(boolean) => Value::Boolean(boolean),
            RawValue::Integer(integer) => Value::Integer(integer),
            RawValue::Double(double) => Value::Double(double),
            RawValue::Reference(fields) => {
                Value::Reference(Key::read(fields, KeyForm::Group, room)?)
            }
            RawValue::Bytes(bytes) => Value::Bytes(Cow::Borrowed(bytes.bytes())),
            RawValue::Entity(fields) => {
                Value::Entity(Box::new(Entity::read(fields, depth + 1, room)?))
            }
            RawValue::Point { x, y } => Value::Point { x, y },
            RawValue::User(fields) => Value::User(Box::new(User::read(fields)?)),
        };
        Ok(Property {
            name,
            indexed,
            multiple,
            meaning,
            meaning_uri,
            value,
        })
    }
}

impl<'a> User<'a> {
    pub(crate) fn read(fields: Fields<'a>) -> Result<Self, ProtoError> {
        let mut user = User::default();
        for field in fields {
            let field = field?;
            match field.number {
                9 => user.email = Some(field.text()?),
                10 => user.auth_domain = Some(field.text()?),
                11 => user.nickname = Some(field.text()?),
                18 => user.gaiaid = Some(field.signed()?),
                19 => user.obfuscated_gaiaid = Some(field.text()?),
                21 => user.federated_identity = Some(field.text()?),
                22 => user.federated_provider = Some(field.text()?),
                _ => {}
            }
        }
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entity::encode::write_entity;
    use crate::entity::rewrite::KeyMapping;
    use crate::entity::testing::{
        any_entity, damaged_record, embedded, key, nested_record, property, record_of, records,
        to_json,
    };
    use crate::entity::wire::{put_bytes, put_double, put_group, put_int, put_message, put_uint};
    use crate::entity::{json, message};

    #[test]
    fn emulator_records_decode_unchanged() {
        let records = records("managed");
        assert_eq!(records.len(), 258);
        for record in records {
            assert!(record_of(&Entity::parse(&record).unwrap()) == record);
        }
    }

    #[test]
    fn the_sample_of_the_format_is_read() {
        let record: Vec<u8> = [
            &[0x6a, 0x1f, 0x6a, 8][..],
            b"demo-src",
            &[0x72, 0x0c, 0x0b, 0x12, 6],
            b"Author",
            &[0x18, 9, 0x0c, 0xa2, 1, 4],
            b"ns-a",
            &[0x72, 0x11, 0x1a, 4],
            b"name",
            &[0x20, 0, 0x2a, 7, 0x1a, 5],
            b"NsAnn",
            &[0x82, 1, 0x0c, 0x0b, 0x12, 6],
            b"Author",
            &[0x18, 9, 0x0c],
        ]
        .concat();
        assert_eq!(record.len(), 67);
        let entity = Entity {
            key: Some(key("demo-src", "ns-a", "Author", Id::Number(9))),
            properties: vec![property("name", Value::Bytes(b"NsAnn"[..].into()))],
        };
        assert_eq!(Entity::parse(&record), Ok(entity.clone()));
        assert_eq!(record_of(&entity), record);
    }

    #[test]
    fn unknown_fields_are_skipped_groups_included() {
        let entity = Entity {
            key: Some(key("p", "", "K", Id::Name("n"))),
            properties: vec![property("a", Value::Integer(1))],
        };
        let mut record = record_of(&entity);
        put_int(&mut record, 99, 5);
        put_group(&mut record, 98, |out| {
            put_group(out, 1, |out| put_bytes(out, 2, b"x"))
        });
        put_double(&mut record, 97, 1.0);
        assert_eq!(Entity::parse(&record), Ok(entity));
    }

    #[test]
    fn unindexed_values_follow_indexed_ones() {
        let mut record = Vec::new();
        for (field, name) in [(15, "b"), (14, "a"), (15, "d"), (14, "c")] {
            put_message(&mut record, field, |out| put_bytes(out, 3, name.as_bytes()));
        }
        let names: Vec<_> = Entity::parse(&record)
            .unwrap()
            .properties
            .iter()
            .map(|property| (property.name, property.indexed))
            .collect();
        assert_eq!(
            names,
            [("a", true), ("c", true), ("b", false), ("d", false)]
        );
    }

    #[test]
    fn first_value_without_meaning_wins() {
        let of = |meaning, fill: &dyn Fn(&mut Vec<u8>)| {
            let mut record = Vec::new();
            put_message(&mut record, 14, |out| {
                put_message(out, 5, fill);
                put_uint(out, 1, meaning);
            });
            Entity::parse(&record)
                .map(|entity| {
                    (
                        entity.properties[0].value.clone().into_static(),
                        entity.properties[0].meaning,
                    )
                })
                .unwrap()
        };
        let both = |out: &mut Vec<u8>| {
            put_bytes(out, 3, b"text");
            put_int(out, 1, 5);
        };
        assert_eq!(of(7, &both), (Value::Integer(5), 0));
        assert_eq!(of(24, &both), (Value::Integer(5), 24));
        let text_and_point = |out: &mut Vec<u8>| {
            put_group(out, 5, |_| {});
            put_bytes(out, 3, b"no entity");
        };
        assert_eq!(
            of(19, &text_and_point),
            (Value::Bytes(b"no entity"[..].into()), 0)
        );
        let twice = |out: &mut Vec<u8>| {
            put_int(out, 1, 5);
            put_int(out, 1, 6);
        };
        assert_eq!(of(7, &twice), (Value::Integer(6), 7));
    }

    impl Value<'_> {
        /// A copy of a value that borrows nothing, for values without texts of their own.
        fn into_static(self) -> Value<'static> {
            match self {
                Value::Integer(integer) => Value::Integer(integer),
                Value::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
                _ => Value::Null,
            }
        }
    }

    #[test]
    fn compressed_value_is_always_bytes() {
        let compressed = Property {
            meaning: MEANING_ENTITY,
            meaning_uri: URI_ZLIB,
            ..property("z", Value::Bytes(b"x\x9c\xff"[..].into()))
        };
        let entity = Entity {
            key: None,
            properties: vec![compressed],
        };
        assert_eq!(Entity::parse(&record_of(&entity)), Ok(entity.clone()));
        let plain = Entity {
            key: None,
            properties: vec![Property {
                meaning_uri: "",
                ..entity.properties[0].clone()
            }],
        };
        assert!(Entity::parse(&record_of(&plain)).is_err());
    }

    #[test]
    fn complete_path_element_has_kind_and_id() {
        let is_complete = |kind, id| PathElement { kind, id }.is_complete();
        assert!(is_complete("A", Id::Name("a")) && is_complete("B", Id::Number(-5)));
        for (kind, id) in [
            ("A", Id::None),
            ("", Id::Number(1)),
            ("A", Id::Number(0)),
            ("A", Id::Name("")),
        ] {
            assert!(!is_complete(kind, id), "{kind} {id:?}");
        }
    }

    #[test]
    fn an_element_with_id_and_name_is_refused() {
        let mut record = Vec::new();
        put_message(&mut record, 13, |out| {
            put_message(out, 14, |out| {
                put_group(out, 1, |out| {
                    put_int(out, 3, 1);
                    put_bytes(out, 4, b"n");
                });
            });
        });
        assert_eq!(
            Entity::parse(&record),
            Err(ProtoError {
                offset: 5,
                reason: ProtoFault::IdAndName
            })
        );
    }

    #[test]
    fn error_gives_position_but_no_value() {
        let mut record = record_of(&Entity {
            key: None,
            properties: vec![property("secret", Value::Bytes(b"hidden"[..].into()))],
        });
        let at = record
            .windows(6)
            .position(|window| window == b"secret")
            .unwrap();
        record[at] = 0xff;
        let error = Entity::parse(&record).unwrap_err();
        assert_eq!(
            error,
            ProtoError {
                offset: at - 2,
                reason: ProtoFault::Wire(WireFault::NotText { field: 3 })
            }
        );
        assert_eq!(
            error.to_string(),
            format!("entity at byte {}: field 3 is not UTF-8", at - 2)
        );
    }

    #[test]
    fn nested_entities_are_bounded() {
        assert!(Entity::parse(&nested_record(MAX_EMBEDDED_DEPTH)).is_ok());
        for levels in [MAX_EMBEDDED_DEPTH + 1, 10_000] {
            assert_eq!(
                Entity::parse(&nested_record(levels)).unwrap_err().reason,
                ProtoFault::TooDeep
            );
        }
        assert_eq!(
            Entity::parse(&[0x0b; 10_000]).unwrap_err().reason,
            ProtoFault::Wire(WireFault::GroupsTooDeep)
        );
    }

    #[test]
    fn an_entity_of_too_many_parts_is_refused() {
        let of = |count: usize, part: &[u8]| {
            Entity::parse(&part.repeat(count)).map(|entity| entity.properties.len())
        };
        let max = MAX_PARTS as usize;
        // An empty property, indexed and not, and a reference with an empty element.
        for (part, parts) in [
            (&b"\x72\x00"[..], 1),
            (b"\x7a\x00", 1),
            (b"\x72\x06\x2a\x04\x63\x73\x74\x64", 2),
        ] {
            assert_eq!(of(max / parts, part), Ok(max / parts));
            assert_eq!(
                of(max / parts + 1, part).unwrap_err().reason,
                ProtoFault::TooManyParts
            );
        }
    }

    #[test]
    fn key_keeps_its_app_unless_project_changes() {
        use crate::entity::DestinationProject;
        let entity = Entity {
            key: Some(key("s~src", "", "K", Id::Number(1))),
            properties: vec![embedded(
                "e",
                Entity {
                    key: Some(Key::default()),
                    properties: vec![],
                },
            )],
        };
        let to = |project: &str| KeyMapping {
            from_project: "src".to_owned(),
            from_database: String::new(),
            to: Some(DestinationProject {
                project: project.to_owned(),
                database: String::new(),
            }),
            ..KeyMapping::default()
        };
        let app_in = |project| {
            let mut out = Vec::new();
            write_entity(&entity, &to(project), &mut out);
            Entity::parse(&out).unwrap().key.unwrap().app.to_owned()
        };
        assert_eq!(
            (app_in("src").as_str(), app_in("dst").as_str()),
            ("s~src", "dst")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_entity_comes_back_from_its_record(entity in any_entity()) {
            let record = record_of(&entity);
            prop_assert_eq!(Entity::parse(&record), Ok(entity));
        }

        #[test]
        fn damaged_input_still_encodes_in_every_form(record in damaged_record()) {
            if let Ok(entity) = Entity::parse(&record) {
                let identity = KeyMapping::identity();
                let again = record_of(&entity);
                prop_assert_eq!(to_json(&Entity::parse(&again).unwrap(), &identity), to_json(&entity, &identity));
                let mut out = Vec::new();
                message::write_entity(&entity, &identity, &mut out);
                json::write_entity(&entity, &identity, &mut out);
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entity::parse(&bytes);
        }
    }
}
