//! Which properties of an archive redaction rules name: a rule that names none is most likely
//! misspelt.
//!
//! Knows archives and rules, and gives names only. Must not know what the rules do, nor who is
//! told.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{TryStreamExt as _, pin_mut};

use crate::archive::entities::{self, RecordCollector};
use crate::archive::{Archive, ArchiveError};
use crate::entity::{Entity, ProtoError};
use crate::model::{EntryInfo, Kind, KindRef};
use crate::plan::RuleMatch;
use crate::runtime::workers::Workers;
use crate::transform::redact::RuleSet;

/// Names that are kept of one rule. There may be as many as entities, where names are made of data.
const NAMES_MAX: usize = 10_000;

/// The properties that each rule names in entities of `pairs`, in the order of the rules: each
/// property spelled as the left side of a rule for it alone, in order; keys as `KIND.__key__`. Of
/// very many the first that were found.
///
/// Reads the entities of kinds that rules name, and no others.
///
/// # Errors
/// [`ArchiveError`] when the archive cannot be read.
pub async fn matches(
    archive: &Arc<Archive>,
    pairs: &[KindRef],
    rules: &RuleSet,
    workers: &Workers,
) -> Result<Vec<RuleMatch>, ArchiveError> {
    let rules = Arc::new(rules.clone());
    let mut found = MatchedNames::for_rules(&rules);
    // The keys of a kind change wherever they occur: in references and as ancestors as well.
    let needed = pairs
        .iter()
        .filter_map(|pair| archive.kind(pair))
        .flat_map(|item| {
            let elsewhere = item.reference_pairs.iter().map(|pair| &pair.kind);
            item.parents.iter().chain(&item.references).chain(elsewhere)
        });
    let kinds: BTreeSet<&Kind> = pairs.iter().map(|pair| &pair.kind).chain(needed).collect();
    rules.for_each_key(kinds, |rule, name| found.insert(rule, &name));
    let named = || {
        pairs
            .iter()
            .filter(|pair| rules.names_properties_of(&pair.kind))
    };
    archive.read_ahead(named().cloned(), workers);
    for pair in named() {
        let outputs: Vec<EntryInfo> = archive
            .kind(pair)
            .map(|kind| kind.outputs().cloned().collect())
            .unwrap_or_default();
        let names = NameCollector {
            rules: rules.clone(),
            pair: pair.clone(),
        };
        let pieces = entities::read(archive, &outputs, names, 0, workers);
        pin_mut!(pieces);
        while let Some(piece) = pieces.try_next().await? {
            found.append(piece);
        }
    }
    let names = found.0.into_iter().map(|names| names.into_iter().collect());
    Ok(rules
        .rules()
        .iter()
        .cloned()
        .zip(names)
        .map(|(rule, properties)| RuleMatch {
            rule,
            properties,
            left_out: Vec::new(),
        })
        .collect())
}

/// The names that each rule names, by the rules' numbers.
#[derive(Debug, Default)]
struct MatchedNames(Vec<BTreeSet<String>>);

impl MatchedNames {
    fn for_rules(rules: &RuleSet) -> Self {
        MatchedNames(vec![BTreeSet::new(); rules.rules().len()])
    }

    fn insert(&mut self, rule: usize, name: &str) {
        if self.0.len() <= rule {
            self.0.resize_with(rule + 1, BTreeSet::new);
        }
        if let Some(names) = self.0.get_mut(rule)
            && names.len() < NAMES_MAX
            && !names.contains(name)
        {
            names.insert(name.to_owned());
        }
    }

    fn append(&mut self, other: MatchedNames) {
        for (rule, names) in other.0.into_iter().enumerate() {
            names.iter().for_each(|name| self.insert(rule, name));
        }
    }
}

/// Looks for names in the entities of one pair.
#[derive(Debug, Clone)]
struct NameCollector {
    rules: Arc<RuleSet>,
    pair: KindRef,
}

impl RecordCollector for NameCollector {
    type Piece = MatchedNames;

    fn push(&self, record: &[u8], piece: &mut MatchedNames) -> Result<(), ProtoError> {
        let entity = Entity::parse(record)?;
        if entity.is_of(&self.pair) {
            self.rules
                .each_property(&self.pair.kind, &entity, &mut |rule, name| {
                    piece.insert(rule, name)
                });
        }
        Ok(())
    }

    fn merge(piece: &mut MatchedNames, later: MatchedNames) {
        piece.append(later);
    }
}
