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
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> + Clone {
        self.items.iter().filter_map(|item| Some((self.bytes.get(item.range.clone())?, item.key)))
    }

    /// All bytes, one entity behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts something of a target's own behind these, such as a key that is to be deleted.
    pub(super) fn push(&mut self, bytes: &[u8], key: u64) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.items.push(Item { range: start..self.bytes.len(), key });
    }

    /// Leaves out the first `entities`.
    pub fn drop_first(&mut self, entities: usize) {
        let dropped = self.items.drain(..entities.min(self.items.len())).next_back().map_or(0, |item| item.range.end);
        self.bytes.drain(..dropped);
        self.items.iter_mut().for_each(|item| item.range = item.range.start - dropped..item.range.end - dropped);
    }

    /// Cuts into batches of at most `max_items` entities (one at least) and, where none is larger by itself, `max_bytes` bytes.
    pub fn split(&self, max_items: usize, max_bytes: usize) -> impl Iterator<Item = Encoded> {
        let mut rest = self.items.as_slice();
        std::iter::from_fn(move || {
            let mut bytes = 0;
            let fits = |item: &&Item| {
                bytes += item.range.len();
                bytes <= max_bytes
            };
            let len = rest.iter().take(max_items).take_while(fits).count().max(1);
            let (batch, behind) = rest.split_at_checked(len)?;
            rest = behind;
            let (first, last) = (batch.first()?.range.start, batch.last()?.range.end);
            let items = batch.iter().map(|item| Item { range: item.range.start - first..item.range.end - first, key: item.key }).collect();
            Some(Encoded { bytes: self.bytes.get(first..last)?.to_vec(), items })
        })
    }

    /// Puts the entities of another one behind these.
    pub fn append(&mut self, other: Encoded) {
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.items
            .extend(other.items.into_iter().map(|item| Item { range: item.range.start + shift..item.range.end + shift, key: item.key }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entities of these lengths; each one's bytes and key are its number.
    fn encoded(lens: &[usize]) -> Encoded {
        let mut encoded = Encoded::default();
        for (number, len) in lens.iter().enumerate() {
            let start = encoded.bytes.len();
            encoded.bytes.resize(start + len, number as u8);
            encoded.items.push(Item { range: start..start + len, key: number as u64 });
        }
        encoded
    }

    #[test]
    fn a_piece_is_cut_into_batches_that_hold_all_of_it_in_order() {
        let mut whole = encoded(&[3, 3, 3, 9, 0, 1, 1, 1, 1]);
        whole.drop_first(1);
        let batches: Vec<Encoded> = whole.split(3, 6).collect();
        let lens: Vec<Vec<usize>> = batches.iter().map(|batch| batch.iter().map(|(bytes, _)| bytes.len()).collect()).collect();
        assert_eq!(lens, [vec![3, 3], vec![9], vec![0, 1, 1], vec![1, 1]]);
        let all: Vec<(Vec<u8>, u64)> =
            batches.iter().flat_map(|batch| batch.iter().map(|(bytes, key)| (bytes.to_vec(), key)).collect::<Vec<_>>()).collect();
        let expected: Vec<(Vec<u8>, u64)> = whole.iter().map(|(bytes, key)| (bytes.to_vec(), key)).collect();
        assert_eq!(all, expected);
        whole.drop_first(100);
        assert_eq!(whole.split(3, 6).count(), 0);
    }
}
