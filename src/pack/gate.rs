//! The gate before packing: which exports are taken, and whether each is finished, whole and wanted.
//!
//! Decides over a discovery, selectors and the pairs that undeclared exports turned out to hold. Reads nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{ExportFault, PackError};
use crate::model::{Pair, Selector};
use crate::set::{Discovery, Export, Fault};

/// Which exports of a SOURCE are wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only these, unless empty.
    pub only: Vec<Selector>,
    /// Not these.
    pub exclude: Vec<Selector>,
    /// Each of these must be there and finished.
    pub expect: Vec<Selector>,
    /// Of two exports of one pair the newest is taken.
    pub latest: bool,
}

impl Wanted {
    /// Whether the pairs of every export must be known before packing, and not only while its data is read.
    pub fn asks_for_pairs(&self) -> bool {
        self.latest || !(self.only.is_empty() && self.exclude.is_empty() && self.expect.is_empty())
    }

    fn takes(&self, pair: &Pair) -> bool {
        (self.only.is_empty() || self.only.iter().any(|selector| selector.matches(pair)))
            && !self.exclude.iter().any(|selector| selector.matches(pair))
    }

    /// Whether an unfinished export could hold something that is wanted; where its kind is not known, it could.
    fn may_take(&self, export: &Export) -> bool {
        let kinds: Option<Vec<&str>> = export.groups.iter().map(|group| group.kind.as_ref().map(|kind| kind.as_str())).collect();
        match (export.declared_pairs().filter(|pairs| !pairs.is_empty()), kinds.filter(|kinds| !kinds.is_empty())) {
            (Some(pairs), _) => pairs.iter().any(|pair| self.takes(pair)),
            (None, Some(kinds)) => kinds.iter().any(|kind| {
                let only = self.only.is_empty() || self.only.iter().any(|selector| selector.matches_kind(kind));
                only && !self.exclude.iter().any(|selector| selector.covers_kind(kind))
            }),
            (None, None) => true,
        }
    }
}

/// The pairs of each export, by title: declared by its metadata, or found by reading its data.
pub type Pairs = BTreeMap<String, BTreeSet<Pair>>;

/// What the gate lets through, or what keeps it shut.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The exports to pack, in order.
    pub exports: Vec<Export>,
    /// All that is wrong with what is wanted.
    pub faults: Vec<ExportFault>,
    /// Pairs that were exported twice.
    pub duplicates: Vec<ExportFault>,
    /// Expected selectors that no finished export answers yet.
    pub missing: Vec<Selector>,
    /// Older exports left out because a newer one of the same pair is taken, by title.
    pub superseded: Vec<String>,
}

impl Verdict {
    /// Whether only time can help: nothing damaged, nothing there twice, something unfinished or missing.
    pub fn may_ripen(&self) -> bool {
        self.duplicates.is_empty()
            && (!self.missing.is_empty() || !self.faults.is_empty())
            && self.faults.iter().all(|fault| fault.fault.may_ripen)
    }

    /// What is still waited for, one line each.
    pub fn waiting_for(&self) -> Vec<String> {
        self.missing.iter().map(ToString::to_string).chain(self.faults.iter().map(|fault| fault.export.clone())).collect()
    }

    /// The error that the verdict amounts to, if any.
    pub fn into_exports(self) -> Result<(Vec<Export>, Vec<String>), PackError> {
        if !(self.missing.is_empty() && self.faults.is_empty() && self.duplicates.is_empty()) {
            return Err(PackError::NotWhole { faults: self.faults, duplicates: self.duplicates, missing: self.missing });
        }
        Ok((self.exports, self.superseded))
    }
}

/// Judges a discovery.
///
/// # Errors
/// [`PackError::Indivisible`] where an export holds wanted and unwanted pairs, [`PackError::NoExport`] where there is nothing at all.
pub fn judge(discovery: Discovery, wanted: &Wanted, pairs: &Pairs) -> Result<Verdict, PackError> {
    let mut verdict = Verdict::default();
    let any = !discovery.exports.is_empty();
    if let Some(idle) = wanted.only.iter().find(|selector| any && !discovery.exports.iter().any(|export| may_hold(export, selector, pairs)))
    {
        return Err(PackError::ChoosesNothing(idle.clone()));
    }
    let mut taken: Vec<Export> = Vec::new();
    for export in discovery.exports {
        if !export.is_complete() {
            if wanted.may_take(&export) {
                fault_all(&mut verdict.faults, &export);
            }
            continue;
        }
        let known = pairs.get(&export.title).cloned().or_else(|| export.declared_pairs());
        if let Some(known) = known.filter(|known| wanted.asks_for_pairs() && !known.is_empty()) {
            let unwanted = known.iter().find(|pair| !wanted.takes(pair));
            match (unwanted, known.iter().find(|pair| wanted.takes(pair))) {
                (Some(_), None) => continue,
                (Some(unwanted), Some(wanted)) => {
                    return Err(PackError::Indivisible { export: export.title, wanted: wanted.clone(), unwanted: unwanted.clone() });
                }
                (None, _) => {}
            }
        }
        fault_all(&mut verdict.faults, &export);
        taken.push(export);
    }
    if taken.is_empty() && verdict.faults.is_empty() && wanted.expect.is_empty() {
        return Err(if any { PackError::NothingChosen } else { PackError::NoExport });
    }

    let of = |export: &Export| pairs.get(&export.title).cloned().or_else(|| export.declared_pairs()).unwrap_or_default();
    resolve_duplicates(&mut taken, wanted.latest, of, &mut verdict);
    let there: BTreeSet<Pair> = taken.iter().flat_map(of).collect();
    let missing = wanted.expect.iter().filter(|selector| !there.iter().any(|pair| selector.matches(pair)));
    verdict.missing.extend(missing.cloned());
    verdict.exports = taken;
    Ok(verdict)
}

/// Whether a selector chooses something of an export, as far as that can be told.
fn may_hold(export: &Export, selector: &Selector, pairs: &Pairs) -> bool {
    match pairs.get(&export.title).cloned().or_else(|| export.declared_pairs()) {
        Some(pairs) if export.is_complete() => pairs.iter().any(|pair| selector.matches(pair)),
        _ => {
            export.groups.is_empty()
                || export.groups.iter().any(|group| group.kind.as_ref().is_none_or(|kind| selector.matches_kind(kind.as_str())))
        }
    }
}

fn fault_all(faults: &mut Vec<ExportFault>, export: &Export) {
    faults.extend(export.faults.iter().map(|fault| ExportFault { export: export.title.clone(), fault: fault.clone() }));
}

/// Leaves one export of each pair, or says which two there are.
fn resolve_duplicates(taken: &mut Vec<Export>, newest: bool, of: impl Fn(&Export) -> BTreeSet<Pair>, verdict: &mut Verdict) {
    if newest {
        // An export steps back only when newer ones hold all of its pairs: it cannot be divided.
        let mut by_age: Vec<usize> = (0..taken.len()).collect();
        by_age.sort_by_key(|index| taken.get(*index).map(|export| (export.started, export.finished, export.title.clone())));
        let mut held: BTreeMap<Pair, _> = BTreeMap::new();
        let mut superseded = BTreeSet::new();
        for index in by_age.into_iter().rev() {
            let Some(export) = taken.get(index) else { continue };
            let (pairs, age) = (of(export), (export.started, export.finished));
            // Of two that are as old as each other neither is the newest.
            if !pairs.is_empty() && pairs.iter().all(|pair| held.get(pair).is_some_and(|newer| *newer > age)) {
                superseded.insert(export.title.clone());
            } else {
                held.extend(pairs.into_iter().map(|pair| (pair, age)));
            }
        }
        taken.retain(|export| !superseded.contains(&export.title));
        verdict.superseded.extend(superseded);
    }
    let mut holders: BTreeMap<Pair, String> = BTreeMap::new();
    for export in taken.iter() {
        for pair in of(export) {
            if let Some(other) = holders.insert(pair.clone(), export.title.clone()) {
                verdict.duplicates.push(duplicate(&pair, &other, &export.title));
            }
        }
    }
}

/// The fault that one pair was exported twice.
pub(super) fn duplicate(pair: &Pair, one: &str, other: &str) -> ExportFault {
    ExportFault {
        export: other.to_owned(),
        fault: Fault::incomplete(other, format!("one export of {pair}"), format!("another one in {one}")),
    }
}
