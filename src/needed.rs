//! Which entities a sample takes: the sampled ones, and where that is wanted all that they need, their ancestors and what they refer to.
//!
//! Knows archives and keys. Goes over the kinds until nothing new is needed, and holds no more than 16 bytes of a key.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{TryStreamExt as _, pin_mut};

use crate::archive_file::{ArchiveError, ArchiveFile};
use crate::entities::{self, Gather};
use crate::entity::pick::{self, Picker};
use crate::entity::proto::{Entity, Key, PathElement, ProtoError, Value};
use crate::model::{EntryItem, Pair, Sample};
use crate::workers::Workers;

/// Keys that are held at the most: about two gigabytes of them, with what finds them again.
const NEEDED_MAX: usize = 64_000_000;

/// Why a sample cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum NeededError {
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The sample needs more than can be held.
    #[error("sample {sample}: expected it to need at most {NEEDED_MAX} entities besides, found more")]
    TooMany {
        /// The sample.
        sample: Sample,
    },
}

/// Who chooses the entities of each pair.
///
/// `pairs` are the plan's, in its order. With `with_needed` a chosen entity brings its ancestors and what its properties refer to, as far as
/// they are of these pairs; those bring theirs. Without it nothing is read.
///
/// # Errors
/// [`NeededError`].
pub async fn picked(
    archive: &Arc<ArchiveFile>,
    pairs: &[Pair],
    sample: Sample,
    with_needed: bool,
    workers: &Workers,
) -> Result<HashMap<Pair, Arc<Picker>>, NeededError> {
    let numbers: Arc<Numbers> = Arc::new(Numbers::of(pairs));
    let mut search = Search { sample, pairs: vec![Needed::default(); pairs.len()], held: 0 };
    let mut go_on = with_needed;
    while std::mem::take(&mut go_on) {
        // What is needed stands first in a plan: from behind, most is known by the time a kind is read.
        for (number, pair) in pairs.iter().enumerate().rev() {
            let Some(mut pass) = search.pass(number) else { continue };
            go_on = true;
            let outputs: Vec<EntryItem> = archive.manifest().kind(pair).map(|kind| kind.outputs().cloned().collect()).unwrap_or_default();
            let links = Links { numbers: numbers.clone(), pair: pair.clone() };
            let pieces = entities::read(archive, &outputs, links, 0, workers);
            pin_mut!(pieces);
            while let Some(piece) = pieces.try_next().await? {
                search.follow(&mut pass, &piece);
                if search.held > NEEDED_MAX {
                    return Err(NeededError::TooMany { sample });
                }
            }
        }
    }
    let picker = |needed: Needed| Arc::new(Picker::new(sample, needed.all));
    Ok(pairs.iter().cloned().zip(search.pairs.into_iter().map(picker)).collect())
}

/// The pairs' numbers, found by the texts of a key.
#[derive(Debug, Default)]
struct Numbers {
    by_namespace: HashMap<String, HashMap<String, usize>>,
}

impl Numbers {
    fn of(pairs: &[Pair]) -> Self {
        let mut numbers = Numbers::default();
        for (number, pair) in pairs.iter().enumerate() {
            let kinds = numbers.by_namespace.entry(pair.namespace.as_str().to_owned()).or_default();
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
struct Link {
    key: u128,
    needs: Vec<(usize, u128)>,
}

/// Reads links off the entities of one pair.
#[derive(Debug, Clone)]
struct Links {
    numbers: Arc<Numbers>,
    pair: Pair,
}

impl Gather for Links {
    type Piece = Vec<Link>;

    fn add(&self, record: &[u8], piece: &mut Vec<Link>) -> Result<(), ProtoError> {
        let entity = Entity::parse(record)?;
        let Some(key) = entity.key.as_ref().filter(|_| entity.is_of(&self.pair)) else { return Ok(()) };
        let mut needs = Vec::new();
        for len in 1..key.path.len() {
            self.need(key.namespace, key.path.get(..len).unwrap_or_default(), &mut needs);
        }
        self.references(key, &entity, &mut needs);
        piece.push(Link { key: pick::digest(key.namespace, &key.path), needs });
        Ok(())
    }

    fn append(piece: &mut Vec<Link>, later: Vec<Link>) {
        piece.extend(later);
    }
}

impl Links {
    fn need(&self, namespace: &str, path: &[PathElement<'_>], needs: &mut Vec<(usize, u128)>) {
        if let Some(number) = path.last().and_then(|last| self.numbers.get(namespace, last.kind)) {
            needs.push((number, pick::digest(namespace, path)));
        }
    }

    fn references(&self, own: &Key<'_>, entity: &Entity<'_>, needs: &mut Vec<(usize, u128)>) {
        for property in &entity.properties {
            match &property.value {
                Value::Reference(key) if key.project() == own.project() && key.database == own.database => {
                    self.need(key.namespace, &key.path, needs);
                }
                Value::Entity(entity) => self.references(own, entity, needs),
                _ => {}
            }
        }
    }
}

/// What is needed of one pair.
#[derive(Debug, Clone, Default)]
struct Needed {
    all: HashSet<u128>,
    /// Those whose own needs are not known yet.
    fresh: HashSet<u128>,
    /// Whether the pair was read: then the needs of its sampled entities are known.
    was_read: bool,
}

/// All that is needed, as far as it is known.
#[derive(Debug)]
struct Search {
    sample: Sample,
    pairs: Vec<Needed>,
    held: usize,
}

/// One reading of a pair.
#[derive(Debug)]
struct Pass {
    number: usize,
    is_first: bool,
    /// What is looked for. What is not met is not in the archive.
    wanted: HashSet<u128>,
    /// Entities that were read.
    place: u64,
}

impl Search {
    /// Begins to read a pair; `None` where that would bring nothing new.
    fn pass(&mut self, number: usize) -> Option<Pass> {
        let needed = self.pairs.get_mut(number)?;
        let is_first = !std::mem::replace(&mut needed.was_read, true);
        let wanted = std::mem::take(&mut needed.fresh);
        (is_first || !wanted.is_empty()).then_some(Pass { number, is_first, wanted, place: 0 })
    }

    /// Takes what the entities of the next piece need, of those that are taken themselves.
    fn follow(&mut self, pass: &mut Pass, piece: &[Link]) {
        let mut by_key = None;
        for link in piece {
            let sampled = match self.sample {
                Sample::Limit(limit) => pass.place < limit,
                Sample::Share(_) => pick::is_sampled(self.sample, link.key) == Some(true),
            };
            pass.place += 1;
            let is_wanted = pass.wanted.remove(&link.key) | self.take_fresh(pass.number, link.key);
            if !(is_wanted || (sampled && pass.is_first)) {
                continue;
            }
            // What stands in front of it in its own piece is followed at once, so that a chain needs no pass for each of its links.
            let mut to_follow = vec![link];
            while let Some(link) = to_follow.pop() {
                for (number, key) in &link.needs {
                    if self.need(*number, *key) && *number == pass.number {
                        let by_key = by_key.get_or_insert_with(|| piece.iter().map(|link| (link.key, link)).collect::<HashMap<_, _>>());
                        if let Some(other) = by_key.get(key) {
                            self.take_fresh(*number, *key);
                            to_follow.push(other);
                        }
                    }
                }
            }
        }
    }

    /// Notes that an entity is needed. Says whether that is news.
    fn need(&mut self, number: usize, key: u128) -> bool {
        // What the sample takes anyhow is followed when it is read.
        let Some(needed) = self.pairs.get_mut(number).filter(|_| pick::is_sampled(self.sample, key) != Some(true)) else { return false };
        let is_news = needed.all.insert(key);
        if is_news {
            needed.fresh.insert(key);
            self.held += 1;
        }
        is_news
    }

    /// Whether a key was waiting for its needs to be followed, which whoever asks does.
    fn take_fresh(&mut self, number: usize, key: u128) -> bool {
        self.pairs.get_mut(number).is_some_and(|needed| needed.fresh.remove(&key))
    }
}
