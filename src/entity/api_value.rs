//! What the Datastore v1 API makes of stored properties (docs/formats.md, section 6): the one place
//! of that table.
//!
//! Knows meanings. Must not know how the API's values are written: `json` and `message` do, each in
//! its own spelling.

use std::borrow::Cow;

use super::types::{Entity, Key, MEANING_EMPTY_LIST, Property, URI_ZLIB, User, Value};
use crate::model::Timestamp;

/// A time; `redact` needs it as well.
pub(crate) const MEANING_WHEN: u64 = 7;
const MEANING_POINT: u64 = 9;
const MEANING_RATING: u64 = 13;
const MEANING_BLOB: u64 = 14;
const MEANING_TEXT: u64 = 15;
const MEANING_BYTE_STRING: u64 = 16;
const MEANING_USER: u64 = 20;
/// A place that is stored without a meaning.
pub(crate) const MEANING_PLACE: u64 = 23;

/// A value as the API has it.
#[derive(Debug, PartialEq)]
pub(crate) struct ApiValue<'e> {
    pub value: ApiValueKind<'e>,
    /// The meaning to send; 0 is none.
    pub meaning: u64,
    pub exclude_from_indexes: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum ApiValueKind<'e> {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Timestamp(Timestamp),
    Key(&'e Key<'e>),
    Text(&'e str),
    Blob(&'e [u8]),
    Point { latitude: f64, longitude: f64 },
    Entity(Cow<'e, Entity<'e>>),
    EmptyArray,
}

/// Maps one stored value.
pub(crate) fn rest_value<'e>(property: &'e Property<'_>) -> ApiValue<'e> {
    // An array itself is never excluded from indexes, its elements are.
    if property.meaning == MEANING_EMPTY_LIST {
        return ApiValue {
            value: ApiValueKind::EmptyArray,
            meaning: 0,
            exclude_from_indexes: false,
        };
    }
    let (value, meaning) = match &property.value {
        Value::Null => (ApiValueKind::Null, 0),
        Value::Boolean(boolean) => (ApiValueKind::Boolean(*boolean), 0),
        Value::Integer(integer) => integer_value(*integer, property.meaning),
        Value::Double(double) => (ApiValueKind::Double(*double), 0),
        Value::Reference(key) => (ApiValueKind::Key(key), 0),
        Value::Bytes(bytes) => bytes_value(bytes, property),
        Value::Entity(entity) => (ApiValueKind::Entity(Cow::Borrowed(entity)), 0),
        Value::Point { x, y } => (
            ApiValueKind::Point {
                latitude: *x,
                longitude: *y,
            },
            if property.meaning == MEANING_POINT {
                0
            } else {
                MEANING_PLACE
            },
        ),
        Value::User(user) => (
            ApiValueKind::Entity(Cow::Owned(user_entity(user))),
            MEANING_USER,
        ),
    };
    ApiValue {
        value,
        meaning,
        exclude_from_indexes: !property.indexed,
    }
}

fn integer_value<'e>(integer: i64, meaning: u64) -> (ApiValueKind<'e>, u64) {
    match (meaning, Timestamp::from_micros(integer)) {
        (MEANING_WHEN, Some(time)) => (ApiValueKind::Timestamp(time), 0),
        (MEANING_WHEN, None) => (ApiValueKind::Integer(integer), MEANING_WHEN),
        (MEANING_RATING, _) => (ApiValueKind::Integer(integer), MEANING_RATING),
        (4, _) => (ApiValueKind::Integer(integer), 29),
        (5, _) => (ApiValueKind::Integer(integer), 30),
        _ => (ApiValueKind::Integer(integer), 0),
    }
}

fn bytes_value<'e>(bytes: &'e [u8], property: &Property<'_>) -> (ApiValueKind<'e>, u64) {
    let if_unindexed = |meaning| if property.indexed { 0 } else { meaning };
    match property.meaning {
        _ if property.meaning_uri == URI_ZLIB => (ApiValueKind::Blob(bytes), 22),
        MEANING_BLOB => (ApiValueKind::Blob(bytes), 0),
        MEANING_BYTE_STRING => (ApiValueKind::Blob(bytes), if_unindexed(MEANING_BYTE_STRING)),
        meaning => match std::str::from_utf8(bytes) {
            Ok(text) => {
                let meaning = match meaning {
                    1..=6 | 8 | 10 | 11 | 12 | 17 => meaning,
                    MEANING_TEXT => if_unindexed(MEANING_TEXT),
                    _ => 0,
                };
                (ApiValueKind::Text(text), meaning)
            }
            Err(_) => (ApiValueKind::Blob(bytes), if_unindexed(MEANING_BYTE_STRING)),
        },
    }
}

/// What the parts of a user are called.
pub(crate) const USER_NAMES: [&str; 5] = [
    "email",
    "auth_domain",
    "user_id",
    "federated_identity",
    "federated_provider",
];

/// The entity that a user becomes: unindexed texts only.
fn user_entity<'e>(user: &User<'e>) -> Entity<'e> {
    let texts = [
        user.email,
        user.auth_domain,
        user.obfuscated_gaiaid,
        user.federated_identity,
        user.federated_provider,
    ];
    let property = |(name, text): (_, Option<&'e str>)| {
        let value = Value::Bytes(Cow::Borrowed(text?.as_bytes()));
        Some(Property {
            name,
            indexed: false,
            multiple: false,
            meaning: 0,
            meaning_uri: "",
            value,
        })
    };
    Entity {
        key: None,
        properties: USER_NAMES
            .into_iter()
            .zip(texts)
            .filter_map(property)
            .collect(),
    }
}

/// The values of each name, names in the order of their first appearance: what the API calls
/// properties.
pub(crate) struct GroupedProperties<'e> {
    sorted: Vec<(usize, &'e Property<'e>)>,
}

impl<'e> GroupedProperties<'e> {
    pub fn of(entity: &'e Entity<'e>) -> Self {
        let mut sorted: Vec<_> = entity.properties.iter().enumerate().collect();
        sorted.sort_by_key(|(_, property)| property.name);
        GroupedProperties { sorted }
    }

    pub fn groups(&self) -> Vec<PropertyGroup<'_, 'e>> {
        let mut groups: Vec<_> = self
            .sorted
            .chunk_by(|(_, a), (_, b)| a.name == b.name)
            .filter_map(PropertyGroup::of)
            .collect();
        groups.sort_by_key(|group| group.first);
        groups
    }
}

/// All values of one name.
pub(crate) struct PropertyGroup<'s, 'e> {
    first: usize,
    pub name: &'e str,
    /// Whether they make an array, if only of one.
    pub is_array: bool,
    members: &'s [(usize, &'e Property<'e>)],
}

impl<'s, 'e> PropertyGroup<'s, 'e> {
    fn of(members: &'s [(usize, &'e Property<'e>)]) -> Option<Self> {
        let (first, property) = members.first()?;
        Some(PropertyGroup {
            first: *first,
            name: property.name,
            is_array: members.len() > 1 || property.multiple,
            members,
        })
    }

    pub fn values(&self) -> impl Iterator<Item = ApiValue<'e>> {
        self.members
            .iter()
            .map(|(_, property)| rest_value(property))
    }
}
