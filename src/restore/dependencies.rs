//! Which entities a sample takes: the sampled ones, and where that is wanted all that they need,
//! their ancestors and what they refer to.
//!
//! Knows archives and keys. Goes over the kinds until nothing new is needed, and holds no more than
//! 16 bytes of a key.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures_util::TryStreamExt as _;

use crate::archive::entities::{self, RecordCollector};
use crate::archive::{Archive, ArchiveError};
use crate::entity::{Entity, Key, PathElement, ProtoError, Value};
use crate::model::{EntryInfo, KindRef, Sample};
use crate::runtime::workers::Workers;
use crate::transform::sample::{self, Sampler};

/// Keys that are held at the most: about two gigabytes of them, with what finds them again.
const MAX_REQUIRED: usize = 64_000_000;

/// Why a sample cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum DependencyError {
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The sample needs more than can be held.
    #[error("the sample needs more than {MAX_REQUIRED} other entities")]
    TooMany,
}

/// Who chooses the entities of each pair.
///
/// `pairs` are the plan's, in its order, each with the sample that is taken of it. With
/// `with_needed` a chosen entity brings its ancestors and what its properties refer to, as far as
/// they are of these pairs; those bring theirs. Without it nothing is read.
///
/// # Errors
/// [`DependencyError`].
pub async fn samplers(
    archive: &Arc<Archive>,
    pairs: &[(KindRef, Sample)],
    with_needed: bool,
    workers: &Workers,
) -> Result<HashMap<KindRef, Arc<Sampler>>, DependencyError> {
    let mut search = DependencySearch::new(pairs.iter().map(|(_, sample)| *sample));
    if with_needed {
        search_all(archive, pairs, workers, &mut search).await?;
    }
    let pairs = pairs.iter().map(|(pair, _)| pair.clone());
    Ok(pairs.zip(search.into_samplers()).collect())
}

/// Reads kinds until nothing new is needed.
async fn search_all(
    archive: &Arc<Archive>,
    pairs: &[(KindRef, Sample)],
    workers: &Workers,
    search: &mut DependencySearch,
) -> Result<(), DependencyError> {
    let numbers = KindIndex::from_pairs(pairs.iter().map(|(pair, _)| pair));
    let numbers = Arc::new(numbers);
    // What is needed stands first in a plan: from its end, most is known by the time a kind is
    // read.
    archive.read_ahead(pairs.iter().rev().map(|(pair, _)| pair.clone()), workers);
    while let Some(pass) = search.pass() {
        let Some((pair, _)) = pairs.get(pass.number) else {
            continue;
        };
        let (numbers, pair) = (numbers.clone(), pair.clone());
        let links = LinkCollector { numbers, pair };
        links.scan(archive, workers, search, pass).await?;
    }
    Ok(())
}

/// The pairs' numbers, found by the texts of a key.
#[derive(Debug, Default)]
struct KindIndex {
    by_namespace: HashMap<String, HashMap<String, usize>>,
}

impl KindIndex {
    fn from_pairs<'a>(pairs: impl Iterator<Item = &'a KindRef>) -> Self {
        let mut numbers = KindIndex::default();
        for (number, pair) in pairs.enumerate() {
            let kinds = numbers
                .by_namespace
                .entry(pair.namespace.as_str().to_owned())
                .or_default();
            kinds.insert(pair.kind.as_str().to_owned(), number);
        }
        numbers
    }

    fn get(&self, namespace: &str, kind: &str) -> Option<usize> {
        self.by_namespace.get(namespace)?.get(kind).copied()
    }
}

/// An entity, and which others it needs: the number of their pair, and their keys' digests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EntityLinks {
    key: u128,
    needs: Vec<(usize, u128)>,
}

/// Reads links off the entities of one pair.
#[derive(Debug, Clone)]
struct LinkCollector {
    numbers: Arc<KindIndex>,
    pair: KindRef,
}

impl LinkCollector {
    /// Reads the pair once, and follows what its entities need.
    async fn scan(
        self,
        archive: &Arc<Archive>,
        workers: &Workers,
        search: &mut DependencySearch,
        mut pass: KindScan,
    ) -> Result<(), DependencyError> {
        let kind = archive.kind(&self.pair);
        let outputs = kind.map(|kind| kind.outputs().cloned().collect());
        let outputs: Vec<EntryInfo> = outputs.unwrap_or_default();
        let mut pieces = entities::read(archive, &outputs, self, 0, workers);
        while let Some(piece) = pieces.try_next().await? {
            search.follow(&mut pass, &piece);
            search.check_size()?;
        }
        Ok(())
    }
}

impl RecordCollector for LinkCollector {
    type Piece = Vec<EntityLinks>;

    fn push(&self, record: &[u8], piece: &mut Vec<EntityLinks>) -> Result<(), ProtoError> {
        let entity = Entity::parse(record)?;
        let Some(key) = entity.key.as_ref().filter(|_| entity.is_of(&self.pair)) else {
            return Ok(());
        };
        let mut needs = Vec::new();
        for len in 1..key.path.len() {
            self.need(
                key.namespace,
                key.path.get(..len).unwrap_or_default(),
                &mut needs,
            );
        }
        self.references(key, &entity, &mut needs);
        piece.push(EntityLinks {
            key: sample::digest(key.namespace, &key.path),
            needs,
        });
        Ok(())
    }

    fn merge(piece: &mut Vec<EntityLinks>, later: Vec<EntityLinks>) {
        piece.extend(later);
    }
}

impl LinkCollector {
    fn need(&self, namespace: &str, path: &[PathElement<'_>], needs: &mut Vec<(usize, u128)>) {
        if let Some(number) = path
            .last()
            .and_then(|last| self.numbers.get(namespace, last.kind))
        {
            needs.push((number, sample::digest(namespace, path)));
        }
    }

    fn references(&self, own: &Key<'_>, entity: &Entity<'_>, needs: &mut Vec<(usize, u128)>) {
        for property in &entity.properties {
            match &property.value {
                Value::Reference(key)
                    if key.project() == own.project() && key.database == own.database =>
                {
                    self.need(key.namespace, &key.path, needs);
                }
                Value::Entity(entity) => self.references(own, entity, needs),
                _ => {}
            }
        }
    }
}

/// What is needed of one pair.
#[derive(Debug)]
struct RequiredEntities {
    /// What is taken whether it is needed or not.
    sample: Sample,
    all: HashSet<u128>,
    /// Those whose own needs are not known yet.
    fresh: HashSet<u128>,
    /// Whether the needs of its sampled entities are known, or there are none.
    was_read: bool,
}

/// The entities of one piece by their keys, found once they are requested.
struct PieceIndex<'a> {
    piece: &'a [EntityLinks],
    by_key: Option<HashMap<u128, &'a EntityLinks>>,
}

impl<'a> PieceIndex<'a> {
    fn new(piece: &'a [EntityLinks]) -> Self {
        let by_key = None;
        PieceIndex { piece, by_key }
    }

    fn get(&mut self, key: u128) -> Option<&'a EntityLinks> {
        let links = self.piece.iter().map(|link| (link.key, link));
        let by_key = self.by_key.get_or_insert_with(|| links.collect());
        by_key.get(&key).copied()
    }
}

/// All that is needed, as far as it is known.
#[derive(Debug)]
struct DependencySearch {
    pairs: Vec<RequiredEntities>,
    /// The pairs that are to be read.
    to_read: BTreeSet<usize>,
    /// The pair that was read last.
    last_read: usize,
    held: usize,
}

/// One reading of a pair.
#[derive(Debug)]
struct KindScan {
    number: usize,
    is_first: bool,
    /// What is looked for. What is not met is not in the archive.
    wanted: HashSet<u128>,
    /// Entities that were read.
    place: u64,
}

impl DependencySearch {
    /// A search that begins with all pairs of which a sample is taken.
    fn new(samples: impl Iterator<Item = Sample>) -> Self {
        let needed = |sample| RequiredEntities {
            sample,
            all: HashSet::new(),
            fresh: HashSet::new(),
            was_read: sample == Sample::NONE,
        };
        let pairs: Vec<RequiredEntities> = samples.map(needed).collect();
        let to_read = pairs
            .iter()
            .enumerate()
            .filter(|(_, pair)| !pair.was_read)
            .map(|(number, _)| number)
            .collect();
        DependencySearch {
            last_read: pairs.len(),
            pairs,
            to_read,
            held: 0,
        }
    }

    fn check_size(&self) -> Result<(), DependencyError> {
        if self.held > MAX_REQUIRED {
            return Err(DependencyError::TooMany);
        }
        Ok(())
    }

    /// Who chooses the entities of each pair, in the order of the pairs.
    fn into_samplers(self) -> impl Iterator<Item = Arc<Sampler>> {
        let sampler = |needed: RequiredEntities| Sampler::new(needed.sample, needed.all);
        self.pairs
            .into_iter()
            .map(move |needed| Arc::new(sampler(needed)))
    }

    /// Begins to read the next pair that brings something new, if there is one.
    ///
    /// What is needed comes first in a plan: from its end, most is known by the time a kind is
    /// read. From the front it begins at the end again.
    fn pass(&mut self) -> Option<KindScan> {
        let number = *self
            .to_read
            .range(..self.last_read)
            .next_back()
            .or_else(|| self.to_read.last())?;
        self.to_read.remove(&number);
        self.last_read = number;
        let needed = self.pairs.get_mut(number)?;
        let is_first = !std::mem::replace(&mut needed.was_read, true);
        let wanted = std::mem::take(&mut needed.fresh);
        Some(KindScan {
            number,
            is_first,
            wanted,
            place: 0,
        })
    }

    /// Takes what the entities of the next piece need, of those that are taken themselves.
    fn follow(&mut self, pass: &mut KindScan, piece: &[EntityLinks]) {
        let mut by_key = PieceIndex::new(piece);
        for link in piece {
            let is_sampled = self.is_in_sample(pass, link);
            pass.place += 1;
            let is_wanted = pass.wanted.remove(&link.key) | self.take_fresh(pass.number, link.key);
            if is_wanted || (is_sampled && pass.is_first) {
                self.follow_links(pass.number, link, &mut by_key);
            }
        }
    }

    /// Whether the sample takes the entity that is read.
    fn is_in_sample(&self, pass: &KindScan, link: &EntityLinks) -> bool {
        let pair = self.pairs.get(pass.number);
        match pair.map_or(Sample::NONE, |pair| pair.sample) {
            Sample::Limit(limit) => pass.place < limit,
            sample @ Sample::Share(_) => sample::is_sampled(sample, link.key) == Some(true),
        }
    }

    /// Takes what an entity needs. What stands in front of it in its own piece is followed at once,
    /// so that a chain needs no pass for each of its links.
    fn follow_links<'a>(
        &mut self,
        number: usize,
        link: &'a EntityLinks,
        by_key: &mut PieceIndex<'a>,
    ) {
        let mut to_follow = vec![link];
        while let Some(link) = to_follow.pop() {
            for &(needed, key) in &link.needs {
                if self.need(needed, key)
                    && needed == number
                    && let Some(other) = by_key.get(key)
                {
                    self.take_fresh(needed, key);
                    to_follow.push(other);
                }
            }
        }
    }

    /// Notes that an entity is needed. Says whether that is news.
    fn need(&mut self, number: usize, key: u128) -> bool {
        // What the sample takes anyhow is followed when it is read.
        let Some(needed) = self
            .pairs
            .get_mut(number)
            .filter(|pair| sample::is_sampled(pair.sample, key) != Some(true))
        else {
            return false;
        };
        let is_news = needed.all.insert(key);
        if is_news {
            needed.fresh.insert(key);
            self.to_read.insert(number);
            self.held += 1;
        }
        is_news
    }

    /// Whether a key was waiting for its needs to be followed, which whoever asks does.
    fn take_fresh(&mut self, number: usize, key: u128) -> bool {
        let Some(needed) = self.pairs.get_mut(number) else {
            return false;
        };
        let was_fresh = needed.fresh.remove(&key);
        if was_fresh && needed.fresh.is_empty() && needed.was_read {
            self.to_read.remove(&number);
        }
        was_fresh
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Kinds of entities, each with what it needs, by kind and place.
    type EntityNeeds = Vec<Vec<Vec<(usize, usize)>>>;

    /// Stands for an entity; its upper half is drawn evenly, as that of a digest.
    fn digest(kind: usize, place: usize) -> u128 {
        let mixed = ((kind * 1_000 + place) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u128::from(mixed) << 64 | (kind * 1_000 + place) as u128
    }

    fn links(made: &EntityNeeds, kind: usize) -> Vec<EntityLinks> {
        let needs = |needs: &Vec<(usize, usize)>| {
            needs
                .iter()
                .map(|(kind, place)| (*kind, digest(*kind, *place)))
                .collect()
        };
        made[kind]
            .iter()
            .enumerate()
            .map(|(place, needed)| EntityLinks {
                key: digest(kind, place),
                needs: needs(needed),
            })
            .collect()
    }

    /// What a search finds that reads kinds in pieces, and how often it read one.
    fn searched(
        made: &EntityNeeds,
        samples: &[Sample],
        piece_len: usize,
    ) -> (Vec<HashSet<u128>>, usize) {
        let mut search = DependencySearch::new(samples.iter().copied());
        let mut passes = 0;
        while let Some(mut pass) = search.pass() {
            passes += 1;
            links(made, pass.number)
                .chunks(piece_len)
                .for_each(|piece| search.follow(&mut pass, piece));
        }
        assert_eq!(
            search.held,
            search
                .pairs
                .iter()
                .map(|needed| needed.all.len())
                .sum::<usize>()
        );
        (
            search.pairs.into_iter().map(|needed| needed.all).collect(),
            passes,
        )
    }

    fn is_sampled(sample: Sample, kind: usize, place: usize) -> bool {
        match sample {
            Sample::Limit(limit) => (place as u64) < limit,
            Sample::Share(_) => sample::is_sampled(sample, digest(kind, place)) == Some(true),
        }
    }

    /// The same by the book: from entity to entity.
    fn taken(made: &EntityNeeds, samples: &[Sample]) -> HashSet<(usize, usize)> {
        let all = made
            .iter()
            .enumerate()
            .flat_map(|(kind, entities)| (0..entities.len()).map(move |place| (kind, place)));
        let mut to_do: Vec<_> = all
            .filter(|(kind, place)| is_sampled(samples[*kind], *kind, *place))
            .collect();
        let mut taken = HashSet::new();
        while let Some((kind, place)) = to_do.pop() {
            if made[kind].get(place).is_some() && taken.insert((kind, place)) {
                to_do.extend(&made[kind][place]);
            }
        }
        taken
    }

    #[test]
    fn chain_within_a_kind_is_read_once() {
        let passes = |needs: &dyn Fn(usize) -> usize| {
            let made: EntityNeeds = vec![(0..300).map(|place| vec![(0, needs(place))]).collect()];
            let (needed, passes) = searched(&made, &[Sample::Limit(1)], 10);
            assert_eq!(needed[0].len(), 300 - usize::from(needs(299) == 299));
            passes
        };
        assert_eq!(passes(&|place| (place + 1).min(299)), 1);
        // From the first to the last, and back from there: a reading for each piece.
        assert!(passes(&|place| if place == 0 { 299 } else { place - 1 }) <= 31);
    }

    #[test]
    fn only_kinds_that_something_needs_are_read() {
        // Each kind needs the next one, and nothing needs the last.
        let count = 2_000;
        let mut made: EntityNeeds = (0..count)
            .map(|kind| vec![vec![(kind + 1, 0)], vec![]])
            .collect();
        made.extend([vec![vec![]], vec![vec![]]]);
        let mut samples = vec![Sample::NONE; made.len()];
        samples[0] = Sample::Limit(1);
        let (needed, passes) = searched(&made, &samples, 10);
        assert_eq!(passes, count + 1);
        assert_eq!(
            needed.iter().map(HashSet::len).sum::<usize>(),
            count,
            "one of each kind"
        );
        assert_eq!(needed[count + 1].len(), 0);
    }

    proptest! {
        #[test]
        fn search_finds_exactly_what_is_required(
            made in prop::collection::vec(prop::collection::vec(prop::collection::vec((0..4_usize, 0..12_usize), 0..3), 0..10), 4),
            samples in prop::collection::vec(prop_oneof![(0..4_u64).prop_map(Sample::Limit), (1..1_000_000_u32).prop_map(Sample::Share)], 4),
            piece_len in 1..12_usize,
        ) {
            let (found, _) = searched(&made, &samples, piece_len);
            let taken = taken(&made, &samples);
            for (kind, entities) in made.iter().enumerate() {
                for place in 0..entities.len() {
                    let is_found = is_sampled(samples[kind], kind, place) || found[kind].contains(&digest(kind, place));
                    prop_assert_eq!(is_found, taken.contains(&(kind, place)), "{} {}", kind, place);
                }
            }
        }
    }
}
