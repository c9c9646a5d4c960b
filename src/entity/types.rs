//! Entities, keys, properties and values as an export stores them (docs/formats.md, section 5).

use std::borrow::Cow;

use crate::model::KindRef;

/// Meanings that decoding itself needs; `api_value` knows the others.
pub(crate) const MEANING_ENTITY: u64 = 19;
pub(crate) const MEANING_EMPTY_LIST: u64 = 24;
/// The `meaning_uri` of a value that an old SDK compressed.
pub(crate) const URI_ZLIB: &str = "ZLIB";

/// An entity: a key and properties.
///
/// What is read nests at most [`MAX_EMBEDDED_DEPTH`](super::decode::MAX_EMBEDDED_DEPTH) levels, on which the writers rely; whoever
/// adds levels by hand keeps to that. `Debug` shows values, so it is for tests and never for
/// messages.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entity<'a> {
    /// The key. Embedded entities may have one whose app is empty, which counts as none.
    pub key: Option<Key<'a>>,
    /// The properties: indexed ones first, each group in stored order. An array is several
    /// properties with one name.
    pub properties: Vec<Property<'a>>,
}

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Key<'a> {
    /// The project, with a prefix such as `s~` in exports of the service.
    pub app: &'a str,
    /// The namespace; empty for the default one.
    pub namespace: &'a str,
    /// The database; empty for the default one.
    pub database: &'a str,
    /// From the root to the entity itself.
    pub path: Vec<PathElement<'a>>,
}

/// One step of a key's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathElement<'a> {
    /// The kind.
    pub kind: &'a str,
    /// The id or name.
    pub id: Id<'a>,
}

/// What tells entities of one kind and parent apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id<'a> {
    /// Nothing yet: an incomplete key, which only embedded entities may have.
    None,
    /// An id; negative ones occur.
    Number(i64),
    /// A name.
    Name(&'a str),
}

/// One value under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Property<'a> {
    /// The name.
    pub name: &'a str,
    /// Whether the value is in the indexes.
    pub indexed: bool,
    /// Whether it is an element of an array, even of an array of one.
    pub multiple: bool,
    /// The meaning's number (docs/formats.md, section 5); 0 is none.
    pub meaning: u64,
    /// `ZLIB` for a compressed blob, else empty.
    pub meaning_uri: &'a str,
    /// The value.
    pub value: Value<'a>,
}

/// A stored value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Null, and the value of an empty array.
    Null,
    /// A boolean.
    Boolean(bool),
    /// An integer, or microseconds since 1970.
    Integer(i64),
    /// A double.
    Double(f64),
    /// A reference to another entity.
    Reference(Key<'a>),
    /// Text or a blob; the meaning tells.
    Bytes(Cow<'a, [u8]>),
    /// An entity in this one.
    Entity(Box<Entity<'a>>),
    /// A place on the earth.
    Point {
        /// Latitude in degrees.
        x: f64,
        /// Longitude in degrees.
        y: f64,
    },
    /// A user of the old users service.
    User(Box<User<'a>>),
}

/// A user of the old users service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User<'a> {
    /// The address.
    pub email: Option<&'a str>,
    /// Who vouches for the address.
    pub auth_domain: Option<&'a str>,
    /// A name to show; the API has no place for it.
    pub nickname: Option<&'a str>,
    /// An internal number; the API refuses it.
    pub gaiaid: Option<i64>,
    /// The user's id as applications see it.
    pub obfuscated_gaiaid: Option<&'a str>,
    /// An `OpenID` identity.
    pub federated_identity: Option<&'a str>,
    /// Who vouches for that identity.
    pub federated_provider: Option<&'a str>,
}

impl<'a> Entity<'a> {
    /// Whether the entity is of that kind and namespace.
    pub fn is_of(&self, pair: &KindRef) -> bool {
        self.key.as_ref().is_some_and(|key| {
            key.namespace == pair.namespace.as_str()
                && key
                    .path
                    .last()
                    .is_some_and(|last| last.kind == pair.kind.as_str())
        })
    }

    /// The key, unless its app is empty: then the entity is embedded and has none.
    pub fn own_key(&self) -> Option<&Key<'a>> {
        self.key.as_ref().filter(|key| !key.app.is_empty())
    }
}

impl<'a> Key<'a> {
    /// The project, without a prefix such as `s~`.
    pub fn project(&self) -> &'a str {
        project_of(self.app)
    }
}

impl PathElement<'_> {
    /// Whether it has a kind and an id or name. Datastore has no id 0 and no empty name.
    pub fn is_complete(&self) -> bool {
        !self.kind.is_empty() && !matches!(self.id, Id::None | Id::Number(0) | Id::Name(""))
    }
}

pub(crate) fn project_of(app: &str) -> &str {
    app.split_once('~').map_or(app, |(_, project)| project)
}
