//! Which properties of an archive redaction rules name: a rule that names none is most likely
//! misspelt.
//!
//! Knows archives and rules, and gives names only. Must not know what the rules do, nor who is
//! told.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::TryStreamExt as _;

use crate::archive::entities::{self, RecordCollector};
use crate::archive::{Archive, ArchiveError};
use crate::entity::{Entity, ProtoError};
use crate::model::{EntryInfo, Kind, KindInfo, KindRef};
use crate::plan::RuleMatch;
use crate::runtime::workers::Workers;
use crate::transform::redact::{RedactRule, RuleSet};

/// Names that are kept of one rule. There may be as many as entities, where names are made of data.
const MAX_NAMES: usize = 10_000;

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
    let kinds = kinds_of_keys(archive, pairs);
    rules.for_each_key(kinds, |rule, name| found.insert(rule, &name));
    let is_named = |pair: &&KindRef| rules.names_properties_of(&pair.kind);
    let named = || pairs.iter().filter(is_named).cloned();
    archive.read_ahead(named(), workers);
    for pair in named() {
        let rules = rules.clone();
        let names = NameCollector { rules, pair };
        names.collect(archive, workers, &mut found).await?;
    }
    Ok(found.into_matches(rules.rules()))
}

/// The kinds whose keys an entity of these pairs may hold. The keys of a kind change wherever they
/// occur: in references and as ancestors as well.
fn kinds_of_keys<'a>(archive: &'a Archive, pairs: &'a [KindRef]) -> BTreeSet<&'a Kind> {
    let items = pairs.iter().filter_map(|pair| archive.kind(pair));
    let own = pairs.iter().map(|pair| &pair.kind);
    own.chain(items.flat_map(kinds_needed_by)).collect()
}

fn kinds_needed_by(item: &KindInfo) -> impl Iterator<Item = &Kind> {
    let elsewhere = item.reference_pairs.iter().map(|pair| &pair.kind);
    let here = item.parents.iter().chain(&item.references);
    here.chain(elsewhere)
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
            && names.len() < MAX_NAMES
            && !names.contains(name)
        {
            names.insert(name.to_owned());
        }
    }

    /// The names as matches of the rules.
    fn into_matches(self, rules: &[RedactRule]) -> Vec<RuleMatch> {
        let names = self.0.into_iter();
        let of_rule = |(rule, names): (&RedactRule, BTreeSet<String>)| RuleMatch {
            rule: rule.clone(),
            properties: names.into_iter().collect(),
            left_out: Vec::new(),
        };
        rules.iter().zip(names).map(of_rule).collect()
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

impl NameCollector {
    /// Reads the entities of the pair, and adds the names in them.
    async fn collect(
        self,
        archive: &Arc<Archive>,
        workers: &Workers,
        found: &mut MatchedNames,
    ) -> Result<(), ArchiveError> {
        let kind = archive.kind(&self.pair);
        let outputs = kind.map(|kind| kind.outputs().cloned().collect());
        let outputs: Vec<EntryInfo> = outputs.unwrap_or_default();
        let mut pieces = entities::read(archive, &outputs, self, 0, workers);
        while let Some(piece) = pieces.try_next().await? {
            found.append(piece);
        }
        Ok(())
    }
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
