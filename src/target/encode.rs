//! Entities on their way out: the form that a target takes, made on the workers, piece by piece. Pure.

use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Range;

use crate::entity::proto::{Entity, ProtoError};
use crate::entity::rewrite::Rewrite;
use crate::entity::{json, proto, v1};
use crate::model::Pair;

/// The form in which a target takes entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A `google.datastore.v1.Entity`, as commits carry it.
    Message,
    /// One line of REST JSON.
    JsonLine,
    /// An `EntityProto`, as exports hold them.
    Record,
}

/// Encodes the entities of one pair, as rewritten.
#[derive(Debug, Clone)]
pub struct Encoder {
    encoding: Encoding,
    rewrite: Rewrite,
    pair: Pair,
}

/// Encoded entities of a piece.
#[derive(Debug, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    range: Range<usize>,
    /// A hash of the key, where one request must not hold the same key twice.
    key: u64,
}

/// A hash of a serialized `google.datastore.v1.Key`, as `v1::key_of` writes it. The same in every run of one version.
pub fn key_hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

impl Encoder {
    /// An encoder of the entities of `pair` (as the archive has it); others are passed over.
    pub fn new(encoding: Encoding, rewrite: Rewrite, pair: Pair) -> Self {
        Encoder { encoding, rewrite, pair }
    }

    /// Appends the entity of a record, unless it is of another pair.
    ///
    /// # Errors
    /// [`ProtoError`] when the record is no entity.
    pub fn add(&self, record: &[u8], out: &mut Encoded) -> Result<(), ProtoError> {
        let entity = Entity::parse(record)?;
        let ours = entity.key.as_ref().is_some_and(|key| {
            key.namespace == self.pair.namespace.as_str() && key.path.last().is_some_and(|last| last.kind == self.pair.kind.as_str())
        });
        if !ours {
            return Ok(());
        }
        let start = out.bytes.len();
        let mut key = 0;
        match self.encoding {
            Encoding::Message => {
                key = key_hash(&v1::key_of(&entity, &self.rewrite));
                v1::write_entity(&entity, &self.rewrite, &mut out.bytes);
            }
            Encoding::JsonLine => {
                json::write_entity(&entity, &self.rewrite, &mut out.bytes);
                out.bytes.push(b'\n');
            }
            Encoding::Record => proto::write_entity(&entity, &self.rewrite, &mut out.bytes),
        }
        out.items.push(Item { range: start..out.bytes.len(), key });
        Ok(())
    }
}

impl Encoded {
    /// How many entities there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Each entity's bytes, with the hash of its key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.items.iter().filter_map(|item| Some((self.bytes.get(item.range.clone())?, item.key)))
    }

    /// All bytes, one entity behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts the entities of another one behind these.
    pub fn append(&mut self, other: Encoded) {
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.items
            .extend(other.items.into_iter().map(|item| Item { range: item.range.start + shift..item.range.end + shift, key: item.key }));
    }
}
