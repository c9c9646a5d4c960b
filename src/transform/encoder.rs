//! Entities on their way out: the form that a target takes, made on the workers, piece by piece.
//! Pure.

use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Range;
use std::sync::Arc;

use crate::entity::rewrite::KeyMapping;
use crate::entity::{Entity, ProtoError, encode};
use crate::entity::{json, message};
use crate::model::KindRef;
use crate::transform::redact::Redactor;
use crate::transform::sample::{Decision, Sampler};

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

/// Encodes the entities of one pair, as rewritten: all or the chosen ones, as they are or redacted.
#[derive(Debug, Clone)]
pub struct Encoder {
    encoding: Encoding,
    rewrite: KeyMapping,
    pair: KindRef,
    redactor: Option<Arc<Redactor>>,
    picker: Option<Arc<Sampler>>,
    /// Entities that were taken so far, as far as they are counted: see [`Encoder::finish_piece`].
    taken: u64,
}

/// Encoded entities of a piece.
#[derive(Debug, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    items: Vec<EncodedEntity>,
}

#[derive(Debug)]
struct EncodedEntity {
    range: Range<usize>,
    /// A hash of the key, where one request must not hold the same key twice.
    key: u64,
    /// Whether it is taken only as one of the first.
    if_first: bool,
}

/// A hash of a serialized `google.datastore.v1.Key`, as `v1::key_of` writes it. The same in every
/// run of one version.
pub fn key_hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

impl Encoder {
    /// An encoder of the entities of `pair` (as the archive has it); others are passed over.
    pub fn new(encoding: Encoding, rewrite: KeyMapping, pair: KindRef) -> Self {
        Encoder {
            encoding,
            rewrite,
            pair,
            redactor: None,
            picker: None,
            taken: 0,
        }
    }

    /// Redacts the entities. Where nothing of the pair's kind is redacted it costs nothing.
    pub fn redacting(self, redactor: Arc<Redactor>) -> Self {
        let redactor = Some(redactor).filter(|redactor| redactor.applies_to(&self.pair.kind));
        Encoder { redactor, ..self }
    }

    /// Takes the chosen entities only. `before` says how many of them earlier pieces brought, which
    /// are not read now.
    pub fn picking(self, picker: Arc<Sampler>, before: u64) -> Self {
        Encoder {
            picker: Some(picker),
            taken: before,
            ..self
        }
    }

    /// Appends the entity of a record, unless it is of another pair.
    ///
    /// # Errors
    /// [`ProtoError`] when the record is no entity.
    pub fn add(&self, record: &[u8], out: &mut Encoded) -> Result<(), ProtoError> {
        let entity = Entity::parse(record)?;
        if !entity.is_of(&self.pair) {
            return Ok(());
        }
        let picked = match (&self.picker, &entity.key) {
            (Some(picker), Some(key)) => picker.pick(key),
            _ => Decision::Take,
        };
        if picked == Decision::Skip {
            return Ok(());
        }
        let if_first = picked == Decision::TakeIfWithinLimit;
        match &self.redactor {
            Some(redactor) => redactor.redact(entity, &self.rewrite.from_project, |entity| {
                self.encode(entity, if_first, out)
            }),
            None => self.encode(&entity, if_first, out),
        }
        Ok(())
    }

    fn encode(&self, entity: &Entity<'_>, if_first: bool, out: &mut Encoded) {
        let start = out.bytes.len();
        let mut key = 0;
        match self.encoding {
            Encoding::Message => {
                key = key_hash(&message::key_of(entity, &self.rewrite));
                message::write_entity(entity, &self.rewrite, &mut out.bytes);
            }
            Encoding::JsonLine => {
                json::write_entity(entity, &self.rewrite, &mut out.bytes);
                out.bytes.push(b'\n');
            }
            Encoding::Record => encode::write_entity(entity, &self.rewrite, &mut out.bytes),
        }
        out.items.push(EncodedEntity {
            range: start..out.bytes.len(),
            key,
            if_first,
        });
    }

    /// Leaves out of a piece what is taken only among the first, and comes later. Pieces must come
    /// in order. Says whether any more can follow.
    pub fn finish_piece(&mut self, piece: &mut Encoded) -> bool {
        let Some((picker, limit)) = self
            .picker
            .as_ref()
            .and_then(|picker| Some((picker, picker.limit()?)))
        else {
            return true;
        };
        // Up to the limit every entity is taken, so that the number of those taken is the place of
        // the next one.
        let first = piece
            .items
            .len()
            .min(usize::try_from(limit.saturating_sub(self.taken)).unwrap_or(usize::MAX));
        piece.drop_behind(first);
        self.taken += piece.items.len() as u64;
        self.taken < limit || !picker.ends_at_limit()
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
        self.items.iter().map(|item| (self.entity(item), item.key))
    }

    fn entity(&self, item: &EncodedEntity) -> &[u8] {
        let range = item.range.clone();
        self.bytes
            .get(range)
            .expect("the range was written into these bytes")
    }

    /// All bytes, one entity behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Leaves out what is taken only as one of the first, if it stands behind the first `entities`.
    fn drop_behind(&mut self, entities: usize) {
        if self.items.iter().skip(entities).all(|item| !item.if_first) {
            return;
        }
        let mut left = Encoded::default();
        for (_, item) in self
            .items
            .iter()
            .enumerate()
            .filter(|(place, item)| *place < entities || !item.if_first)
        {
            let start = left.bytes.len();
            left.bytes.extend_from_slice(self.entity(item));
            left.items.push(EncodedEntity {
                range: start..left.bytes.len(),
                ..*item
            });
        }
        *self = left;
    }

    /// Puts something of a target's own behind these, such as a key that is to be deleted.
    pub(crate) fn push(&mut self, bytes: &[u8], key: u64) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.items.push(EncodedEntity {
            range: start..self.bytes.len(),
            key,
            if_first: false,
        });
    }

    /// Leaves out all but the first `entities`.
    pub fn truncate(&mut self, entities: usize) {
        self.items.truncate(entities);
        self.bytes
            .truncate(self.items.last().map_or(0, |item| item.range.end));
    }

    /// Leaves out the first `entities`.
    pub fn drop_first(&mut self, entities: usize) {
        let dropped = self
            .items
            .drain(..entities.min(self.items.len()))
            .next_back()
            .map_or(0, |item| item.range.end);
        self.bytes.drain(..dropped);
        self.items
            .iter_mut()
            .for_each(|item| item.range = item.range.start - dropped..item.range.end - dropped);
    }

    /// Cuts into batches of at most `max_items` entities (one at least) and, where none is larger
    /// by itself, `max_bytes` bytes.
    pub fn split(&self, max_items: usize, max_bytes: usize) -> impl Iterator<Item = Encoded> {
        let mut rest = self.items.as_slice();
        std::iter::from_fn(move || {
            let mut bytes = 0;
            let fits = |item: &&EncodedEntity| {
                bytes += item.range.len();
                bytes <= max_bytes
            };
            let len = rest.iter().take(max_items).take_while(fits).count().max(1);
            let (batch, behind) = rest.split_at_checked(len)?;
            rest = behind;
            let (first, last) = (batch.first()?.range.start, batch.last()?.range.end);
            let items = batch
                .iter()
                .map(|item| EncodedEntity {
                    range: item.range.start - first..item.range.end - first,
                    ..*item
                })
                .collect();
            Some(Encoded {
                bytes: self.bytes.get(first..last)?.to_vec(),
                items,
            })
        })
    }

    /// Puts the entities of another one behind these.
    pub fn append(&mut self, other: Encoded) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.items
            .extend(other.items.into_iter().map(|item| EncodedEntity {
                range: item.range.start + shift..item.range.end + shift,
                ..item
            }));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::entity::Id;
    use crate::entity::testing::{key, record_of};
    use crate::model::{Kind, Sample};
    use crate::transform::redact::RedactKey;
    use crate::transform::sample;

    /// Entities of these lengths; each one's bytes and key are its number.
    fn encoded(lens: &[usize]) -> Encoded {
        let mut encoded = Encoded::default();
        for (number, len) in lens.iter().enumerate() {
            let start = encoded.bytes.len();
            encoded.bytes.resize(start + len, number as u8);
            encoded.items.push(EncodedEntity {
                range: start..start + len,
                key: number as u64,
                if_first: number % 2 == 0,
            });
        }
        encoded
    }

    #[test]
    fn piece_splits_into_complete_ordered_batches() {
        let mut whole = encoded(&[3, 3, 3, 9, 0, 1, 1, 1, 1]);
        whole.drop_first(1);
        let batches: Vec<Encoded> = whole.split(3, 6).collect();
        let lens: Vec<Vec<usize>> = batches
            .iter()
            .map(|batch| batch.iter().map(|(bytes, _)| bytes.len()).collect())
            .collect();
        assert_eq!(lens, [vec![3, 3], vec![9], vec![0, 1, 1], vec![1, 1]]);
        let all: Vec<(Vec<u8>, u64)> = batches
            .iter()
            .flat_map(|batch| {
                batch
                    .iter()
                    .map(|(bytes, key)| (bytes.to_vec(), key))
                    .collect::<Vec<_>>()
            })
            .collect();
        let expected: Vec<(Vec<u8>, u64)> = whole
            .iter()
            .map(|(bytes, key)| (bytes.to_vec(), key))
            .collect();
        assert_eq!(all, expected);
        whole.drop_first(100);
        assert_eq!(whole.split(3, 6).count(), 0);
    }

    /// The ids of the entities that are taken of 20, handed over in pieces of these lengths, and in
    /// which piece no more was wanted.
    fn taken(picker: Sampler, before: u64, lens: &[i64]) -> (Vec<i64>, Option<usize>) {
        let pair = KindRef::new("", "K");
        let mut encoder = Encoder::new(Encoding::Record, KeyMapping::identity(), pair)
            .picking(Arc::new(picker), before);
        let (mut ids, mut ended, mut next) = (Vec::new(), None, 1 + before as i64);
        for (number, len) in lens.iter().enumerate() {
            let mut piece = Encoded::default();
            for id in next..next + len {
                encoder.add(&record_of(&entity_of(id)), &mut piece).unwrap();
            }
            next += len;
            let more = encoder.finish_piece(&mut piece);
            ids.extend(piece.iter().map(|(record, _)| {
                let Some(Id::Number(id)) =
                    Entity::parse(record).unwrap().key.map(|key| key.path[0].id)
                else {
                    panic!()
                };
                id
            }));
            if !more && ended.is_none() {
                ended = Some(number);
            }
        }
        (ids, ended)
    }

    fn entity_of(id: i64) -> Entity<'static> {
        Entity {
            key: Some(key("src", "", "K", Id::Number(id))),
            properties: Vec::new(),
        }
    }

    #[test]
    fn limit_takes_first_entities_across_pieces() {
        for lens in [&[20][..], &[7, 7, 6], &[0, 1, 19], &[5, 15]] {
            let (ids, ended) = taken(Sampler::new(Sample::Limit(5), HashSet::new()), 0, lens);
            assert_eq!(ids, [1, 2, 3, 4, 5], "{lens:?}");
            assert!(ended.is_some());
        }
        // The first three were brought by an earlier run.
        assert_eq!(
            taken(Sampler::new(Sample::Limit(5), HashSet::new()), 3, &[1, 16]).0,
            [4, 5]
        );
        assert_eq!(
            taken(Sampler::new(Sample::Limit(5), HashSet::new()), 5, &[15]),
            (vec![], Some(0))
        );
    }

    #[test]
    fn required_entities_pass_the_limit() {
        let needed = [2, 9, 17].map(|id| {
            entity_of(id)
                .key
                .map_or(0, |key| sample::digest("", &key.path))
        });
        let (ids, ended) = taken(
            Sampler::new(Sample::Limit(3), needed.into()),
            0,
            &[5, 5, 10],
        );
        assert_eq!((ids, ended), (vec![1, 2, 3, 9, 17], None));
    }

    #[test]
    fn keys_are_compared_as_they_are_written() {
        let rules = ["K.__key__=hash".parse().unwrap()];
        let redactor = Redactor::new(
            &rules,
            &[Kind::new("K")],
            Some(&RedactKey::from_secret(b"s")),
        )
        .unwrap();
        let to = KeyMapping {
            from_project: "src".to_owned(),
            ..KeyMapping::default()
        };
        let encoder = Encoder::new(Encoding::Message, to, KindRef::new("", "K"));
        let hash_of = |encoder: Encoder, id| {
            let mut piece = Encoded::default();
            encoder.add(&record_of(&entity_of(id)), &mut piece).unwrap();
            piece.iter().next().unwrap().1
        };
        let hashed = hash_of(encoder.clone().redacting(Arc::new(redactor.clone())), 7);
        let id = redactor.redact(entity_of(7), "src", |entity| {
            match entity.key.as_ref().unwrap().path[0].id {
                Id::Number(id) => id,
                _ => panic!(),
            }
        });
        assert_ne!(id, 7);
        assert_eq!(hashed, hash_of(encoder, id));
    }
}
