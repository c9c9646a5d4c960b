//! Selects exports: which are taken, and whether each is finished, whole, wanted and of the same
//! night as the others.
//!
//! Decides by a discovery, selectors and the pairs that undeclared exports turned out to hold. Reads
//! nothing itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::error::{ExportFault, PackError, StaleExport};
use super::options::SelectionOptions;
use crate::export::discover::{Discovery, Export, ExportPart, Problem};
use crate::model::{ExportFormat, Kind, KindRef, Namespace, Selector, Timestamp, spelled_duration};

/// How many kinds of a stale export are named.
const KINDS_NAMED: usize = 3;

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// One kind in one namespace; `None` stands for all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindScope {
    namespace: Option<Namespace>,
    kind: Option<Kind>,
}

impl KindScope {
    fn from_part(group: &ExportPart) -> Self {
        KindScope {
            namespace: group.namespace.clone(),
            kind: group.kind.clone(),
        }
    }

    /// Whether it is one pair.
    fn is_pair(&self) -> bool {
        self.namespace.is_some() && self.kind.is_some()
    }

    /// The scopes that hold all of this one, itself included.
    fn covers(&self) -> impl Iterator<Item = KindScope> {
        let namespaces = [self.namespace.clone(), None];
        let kinds = [self.kind.clone(), None];
        let namespaces = namespaces
            .into_iter()
            .skip(usize::from(self.namespace.is_none()));
        let kinds: Vec<_> = kinds
            .into_iter()
            .skip(usize::from(self.kind.is_none()))
            .collect();
        namespaces.flat_map(move |namespace| {
            kinds.clone().into_iter().map(move |kind| KindScope {
                namespace: namespace.clone(),
                kind,
            })
        })
    }
}

impl From<KindRef> for KindScope {
    fn from(pair: KindRef) -> Self {
        KindScope {
            namespace: Some(pair.namespace),
            kind: Some(pair.kind),
        }
    }
}

impl fmt::Display for KindScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.namespace, &self.kind) {
            (Some(namespace), Some(kind)) => KindRef {
                namespace: namespace.clone(),
                kind: kind.clone(),
            }
            .fmt(f),
            (None, Some(kind)) => kind.fmt(f),
            (Some(namespace), None) => write!(f, "all kinds of {namespace}"),
            (None, None) => f.write_str("all kinds"),
        }
    }
}

impl SelectionOptions {
    /// Whether what a scope holds is wanted; `None` where that differs within the scope.
    fn takes(&self, scope: &KindScope) -> Option<bool> {
        let only = if self.only.is_empty() {
            Some(true)
        } else {
            any(&self.only, scope)
        };
        match (only, any(&self.exclude, scope)) {
            (Some(false), _) | (_, Some(true)) => Some(false),
            (Some(true), Some(false)) => Some(true),
            _ => None,
        }
    }

    fn match_selectors(&self, scopes: &[KindScope]) -> SelectorMatch {
        let answers: Vec<Option<bool>> = scopes.iter().map(|scope| self.takes(scope)).collect();
        let first = |wanted| {
            answers
                .iter()
                .position(|answer| *answer == Some(wanted))
                .and_then(|index| scopes.get(index))
        };
        match (first(true), first(false)) {
            _ if answers.contains(&None) => SelectorMatch::Unknown,
            (Some(wanted), Some(unwanted)) => SelectorMatch::Partial {
                wanted: wanted.to_string(),
                unwanted: unwanted.to_string(),
            },
            (None, Some(_)) => SelectorMatch::Excluded,
            (_, None) => SelectorMatch::Selected,
        }
    }
}

/// Whether one of the selectors chooses a scope.
fn any(selectors: &[Selector], scope: &KindScope) -> Option<bool> {
    let mut answer = Some(false);
    for selector in selectors {
        match selector.chooses(scope.namespace.as_ref(), scope.kind.as_ref()) {
            Some(true) => return Some(true),
            None => answer = None,
            Some(false) => {}
        }
    }
    answer
}

/// What the selectors say of an export.
enum SelectorMatch {
    Selected,
    Excluded,
    /// Some of it is wanted, some is not.
    Partial {
        wanted: String,
        unwanted: String,
    },
    /// Only its data can tell.
    Unknown,
}

/// The pairs of exports, by title, that were found by reading their data.
pub type KnownKinds = BTreeMap<String, BTreeSet<KindRef>>;

/// The pairs of an export: declared by its metadata, or found by reading its data; `None` where
/// only its data can tell.
pub(super) fn known_pairs(export: &Export, pairs: &KnownKinds) -> Option<BTreeSet<KindRef>> {
    pairs
        .get(&export.title)
        .cloned()
        .or_else(|| export.declared_pairs())
}

/// An export while it is judged.
struct Candidate<'a> {
    index: usize,
    export: &'a Export,
    /// The pairs, where they are known, else what the groups leave open.
    scopes: Vec<KindScope>,
    is_complete: bool,
}

impl<'a> Candidate<'a> {
    fn new(index: usize, export: &'a Export, pairs: &KnownKinds) -> Self {
        let scopes = match known_pairs(export, pairs) {
            Some(pairs) => pairs.into_iter().map(KindScope::from).collect(),
            None => export.groups.iter().map(KindScope::from_part).collect(),
        };
        Candidate {
            index,
            export,
            scopes,
            is_complete: export.is_complete(),
        }
    }

    /// Start and end, where the start is known.
    fn age(&self) -> Option<ExportSpan> {
        Some((self.export.plausible_start()?, self.export.finished))
    }

    fn is_open(&self) -> bool {
        !self.scopes.iter().all(KindScope::is_pair)
    }

    /// Its kinds, for people.
    fn kinds(&self) -> String {
        let named: Vec<String> = self
            .scopes
            .iter()
            .take(KINDS_NAMED)
            .map(ToString::to_string)
            .collect();
        let more = self.scopes.len().saturating_sub(KINDS_NAMED);
        if more > 0 {
            format!("{} and {more} more", named.join(", "))
        } else {
            named.join(", ")
        }
    }

    /// Whether a selector chooses something of the export, as far as that can be told.
    fn may_hold(&self, selector: &Selector) -> bool {
        let chooses = |scope: &KindScope| {
            selector.chooses(scope.namespace.as_ref(), scope.kind.as_ref()) != Some(false)
        };
        (self.scopes.is_empty() && !self.is_complete) || self.scopes.iter().any(chooses)
    }

    /// All that the export stands for: of all namespaces it holds also those in which it found
    /// nothing.
    fn held(&self) -> impl Iterator<Item = KindScope> {
        self.scopes
            .iter()
            .cloned()
            .chain(self.export.groups.iter().map(KindScope::from_part))
    }

    /// Whether the export is known to hold all of a scope that it stands for. A backup of several
    /// namespaces looks like one of all of them.
    fn surely_holds(&self, scope: &KindScope) -> bool {
        scope.is_pair() || self.export.format == ExportFormat::ManagedExport
    }
}

/// When an export began and ended.
type ExportSpan = (Timestamp, Option<Timestamp>);

/// What is selected, and what is wrong with it.
#[derive(Debug, Default)]
pub struct SelectionResult {
    /// The exports to pack, in order, by their index in the discovery.
    pub exports: Vec<usize>,
    /// All that is wrong with what is wanted.
    pub faults: Vec<ExportFault>,
    /// Unfinished exports of which nothing says which kinds they hold, by title.
    pub unnamed: Vec<String>,
    /// Pairs that were exported twice.
    pub duplicates: Vec<ExportFault>,
    /// Expected selectors that no finished export answers yet.
    pub missing: Vec<Selector>,
    /// Exports of another night.
    pub stale: Vec<StaleExport>,
    /// Older exports left out because a newer one of the same pair is taken, by title.
    pub superseded: Vec<String>,
    /// Exports of which only the data can tell whether they are wanted, expected or the newest, by
    /// their index.
    pub undecided: BTreeSet<usize>,
    /// What is worth a warning.
    pub warnings: Vec<String>,
}

impl SelectionResult {
    /// Whether nothing is wrong, as far as that was decided.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
            && self.faults.is_empty()
            && self.duplicates.is_empty()
            && self.stale.is_empty()
    }

    /// Whether only time can help: nothing damaged, nothing there twice, something unfinished,
    /// missing or stale.
    pub fn may_resolve(&self) -> bool {
        !self.is_whole()
            && self.duplicates.is_empty()
            && self.faults.iter().all(|fault| fault.fault.may_ripen)
    }

    /// What is still waited for, one line each.
    pub fn waiting_for(&self) -> Vec<String> {
        let missing = self.missing.iter().map(ToString::to_string);
        let unfinished = self.faults.iter().map(|fault| fault.export.clone());
        missing
            .chain(self.stale.iter().map(|stale| stale.kinds.clone()))
            .chain(unfinished)
            .collect()
    }

    /// The error that the verdict amounts to.
    pub fn into_error(self, is_latest: bool) -> PackError {
        let SelectionResult {
            faults,
            unnamed,
            duplicates,
            missing,
            stale,
            ..
        } = self;
        PackError::IncompleteSet {
            faults,
            unnamed,
            duplicates,
            missing,
            stale,
            is_latest,
        }
    }
}

/// Selects the exports of a discovery.
///
/// # Errors
/// [`PackError::CannotSplitExport`] where an export holds wanted and unwanted pairs,
/// [`PackError::NoExport`] where there is nothing at all.
pub fn select(
    discovery: &Discovery,
    wanted: &SelectionOptions,
    pairs: &KnownKinds,
) -> Result<SelectionResult, PackError> {
    let mut verdict = SelectionResult::default();
    let mut candidates: Vec<Candidate<'_>> = discovery
        .exports
        .iter()
        .enumerate()
        .map(|(index, export)| Candidate::new(index, export, pairs))
        .collect();
    let is_any = !candidates.is_empty();
    let is_idle = |selector: &&Selector| {
        !candidates
            .iter()
            .any(|candidate| candidate.may_hold(selector))
    };
    if let Some(idle) = wanted.only.iter().find(is_idle).filter(|_| is_any) {
        return Err(PackError::NoMatch(idle.clone()));
    }
    retain_wanted(&mut candidates, wanted, &mut verdict)?;
    if wanted.latest {
        retain_newest(&mut candidates, discovery, &mut verdict);
    }
    for candidate in &candidates {
        record_problems(candidate, &mut verdict);
    }
    candidates.retain(|candidate| candidate.is_complete);
    if candidates.is_empty() && verdict.faults.is_empty() && wanted.expect.is_empty() {
        return Err(if is_any {
            PackError::EmptySelection
        } else {
            PackError::NoExport
        });
    }
    verdict.duplicates = duplicates(&candidates, wanted.latest);
    expect(&candidates, &wanted.expect, &mut verdict);
    check_spread(&candidates, wanted, &mut verdict);
    verdict.exports = candidates.iter().map(|candidate| candidate.index).collect();
    Ok(verdict)
}

/// Keeps the candidates of which something is wanted.
fn retain_wanted(
    candidates: &mut Vec<Candidate<'_>>,
    wanted: &SelectionOptions,
    verdict: &mut SelectionResult,
) -> Result<(), PackError> {
    let mut divided = None;
    candidates.retain(
        |candidate| match wanted.match_selectors(&candidate.scopes) {
            SelectorMatch::Excluded => false,
            // What is unfinished is not packed; that it holds something wanted is enough to miss it.
            SelectorMatch::Partial { wanted, unwanted } if candidate.is_complete => {
                divided.get_or_insert(PackError::CannotSplitExport {
                    export: candidate.export.title.clone(),
                    wanted,
                    unwanted,
                });
                false
            }
            SelectorMatch::Unknown if candidate.is_complete => {
                verdict.undecided.insert(candidate.index);
                true
            }
            SelectorMatch::Selected | SelectorMatch::Partial { .. } | SelectorMatch::Unknown => {
                true
            }
        },
    );
    divided.map_or(Ok(()), Err)
}

/// Keeps the candidates that newer ones do not supersede.
fn retain_newest(
    candidates: &mut Vec<Candidate<'_>>,
    discovery: &Discovery,
    verdict: &mut SelectionResult,
) {
    let superseded = superseded(candidates);
    candidates.retain(|candidate| !superseded.contains(&candidate.index));
    let titles = superseded
        .iter()
        .filter_map(|index| discovery.exports.get(*index))
        .map(|export| export.title.clone());
    verdict.superseded = titles.collect::<BTreeSet<_>>().into_iter().collect();
    verdict
        .undecided
        .retain(|index| !superseded.contains(index));
    verdict.undecided.extend(overlapping(candidates));
}

/// Records what is wrong with a candidate.
fn record_problems(candidate: &Candidate<'_>, verdict: &mut SelectionResult) {
    let export = candidate.export;
    verdict
        .faults
        .extend(export.faults.iter().map(|fault| ExportFault {
            export: export.title.clone(),
            fault: fault.clone(),
        }));
    let is_named =
        !candidate.scopes.is_empty() && candidate.scopes.iter().all(|scope| scope.kind.is_some());
    if !candidate.is_complete && !is_named {
        verdict.unnamed.push(export.title.clone());
    }
}

/// The exports of which newer, finished ones hold everything, by index. An export steps back only
/// as a whole: it cannot be divided.
fn superseded(candidates: &[Candidate<'_>]) -> BTreeSet<usize> {
    // Of two that are as old as each other neither is the newest, and one without a start is
    // neither older nor newer than another.
    let mut newest: HashMap<KindScope, (ExportSpan, &Candidate<'_>)> = HashMap::new();
    for candidate in candidates.iter().filter(|candidate| candidate.is_complete) {
        let Some(age) = candidate.age() else { continue };
        for scope in candidate.held() {
            let known = newest.entry(scope).or_insert((age, candidate));
            if known.0 < age {
                *known = (age, candidate);
            }
        }
    }
    let is_superseded = |candidate: &&Candidate<'_>| {
        // Nothing is packed of an unfinished one: a date in its path is enough to see that it is
        // left over.
        let date = path_date(&candidate.export.title).filter(|_| !candidate.is_complete);
        let is_older = |age: ExportSpan, newer: &Candidate<'_>| match (candidate.age(), &date) {
            (Some(own), _) => own < age,
            (None, Some(own)) => is_before(own, &newer.export.title, age.0),
            (None, None) => false,
        };
        let holds = |cover: &KindScope| {
            newest.get(cover).is_some_and(|(age, newer)| {
                is_older(*age, newer) && (!candidate.is_complete || newer.surely_holds(cover))
            })
        };
        let is_held = |scope: &KindScope| scope.covers().any(|cover| holds(&cover));
        !candidate.scopes.is_empty() && candidate.scopes.iter().all(is_held)
    };
    candidates
        .iter()
        .filter(is_superseded)
        .map(|candidate| candidate.index)
        .collect()
}

/// The exports of which only the data can tell whether another one holds the same pair, by index.
fn overlapping(candidates: &[Candidate<'_>]) -> BTreeSet<usize> {
    let complete = || {
        candidates
            .iter()
            .filter(|candidate| candidate.is_complete && !candidate.scopes.is_empty())
    };
    let mut holders: HashMap<Option<&Kind>, usize> = HashMap::new();
    for candidate in complete() {
        for kind in candidate
            .scopes
            .iter()
            .map(|scope| scope.kind.as_ref())
            .collect::<BTreeSet<_>>()
        {
            *holders.entry(kind).or_default() += 1;
        }
    }
    let (all, of_all_kinds) = (complete().count(), holders.get(&None).copied().unwrap_or(0));
    let meets_another = |scope: &KindScope| match &scope.kind {
        Some(kind) => {
            holders.get(&Some(kind)).is_some_and(|holders| *holders > 1) || of_all_kinds > 0
        }
        None => all > 1,
    };
    let is_undecided = |candidate: &&Candidate<'_>| {
        candidate
            .scopes
            .iter()
            .any(|scope| !scope.is_pair() && meets_another(scope))
    };
    complete()
        .filter(is_undecided)
        .map(|candidate| candidate.index)
        .collect()
}

fn duplicates(candidates: &[Candidate<'_>], latest: bool) -> Vec<ExportFault> {
    let mut holders: HashMap<KindRef, &Export> = HashMap::new();
    let mut duplicates = Vec::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.is_open()) {
        for scope in &candidate.scopes {
            let KindScope {
                namespace: Some(namespace),
                kind: Some(kind),
            } = scope
            else {
                continue;
            };
            let pair = KindRef {
                namespace: namespace.clone(),
                kind: kind.clone(),
            };
            if let Some(other) = holders.insert(pair.clone(), candidate.export) {
                let mut duplicate = duplicate(&pair, &other.title, &candidate.export.title);
                let mut both = [candidate.export, other].into_iter();
                if let Some(doubtful) = both
                    .find(|export| export.plausible_start().is_none())
                    .filter(|_| latest)
                {
                    let started = doubtful
                        .started
                        .map_or_else(|| "unknown".to_owned(), |started| started.to_string());
                    duplicate.fault.found += &format!(
                        "; the start of {} cannot be true ({started}), so neither is known to be newer",
                        doubtful.title
                    );
                }
                duplicates.push(duplicate);
            }
        }
    }
    duplicates
}

/// The fault that one pair was exported twice.
pub(super) fn duplicate(pair: &KindRef, one: &str, other: &str) -> ExportFault {
    ExportFault {
        export: other.to_owned(),
        fault: Problem::incomplete(
            other,
            format!("one export of {pair}"),
            format!("another one in {one}"),
        ),
    }
}

/// Checks that what is expected is there.
fn expect(candidates: &[Candidate<'_>], expected: &[Selector], verdict: &mut SelectionResult) {
    if expected.is_empty() {
        return;
    }
    // Whoever expects many kinds names them: those are looked up and not searched for.
    let mut by_kind: HashMap<&str, Vec<(usize, &KindScope)>> = HashMap::new();
    let mut of_all_kinds = Vec::new();
    let mut all = Vec::new();
    for (candidate, scope) in candidates
        .iter()
        .flat_map(|candidate| candidate.scopes.iter().map(move |scope| (candidate, scope)))
    {
        all.push((candidate.index, scope));
        match &scope.kind {
            Some(kind) => by_kind
                .entry(kind.as_str())
                .or_default()
                .push((candidate.index, scope)),
            None => of_all_kinds.push((candidate.index, scope)),
        }
    }
    for selector in expected {
        let named = selector.exact_kind().map(|kind| {
            by_kind
                .get(kind.as_str())
                .into_iter()
                .flatten()
                .chain(&of_all_kinds)
                .collect()
        });
        let scopes: Vec<&(usize, &KindScope)> = named.unwrap_or_else(|| all.iter().collect());
        let answer =
            |scope: &KindScope| selector.chooses(scope.namespace.as_ref(), scope.kind.as_ref());
        if scopes.iter().any(|(_, scope)| answer(scope) == Some(true)) {
            continue;
        }
        let open: Vec<usize> = scopes
            .iter()
            .filter(|(_, scope)| answer(scope).is_none())
            .map(|(index, _)| *index)
            .collect();
        if open.is_empty() {
            verdict.missing.push(selector.clone());
        }
        verdict.undecided.extend(open);
    }
}

/// Holds the starts of the exports against one another. An export of which metadata names no kind
/// has no start either.
fn check_spread(
    candidates: &[Candidate<'_>],
    wanted: &SelectionOptions,
    verdict: &mut SelectionResult,
) {
    let started = || {
        candidates
            .iter()
            .filter_map(|candidate| Some((candidate.export.plausible_start()?, candidate)))
    };
    let (Some((first, oldest)), Some((last, newest))) = (
        started().min_by_key(|(started, _)| *started),
        started().max_by_key(|(started, _)| *started),
    ) else {
        return;
    };
    if wanted.latest {
        let unknown = candidates.iter().filter(|candidate| {
            candidate.export.plausible_start().is_none() && !candidate.scopes.is_empty()
        });
        verdict.warnings.extend(unknown.map(|candidate| {
            format!(
                "{} may be stale: no time tells when its export, {}, started",
                candidate.kinds(),
                candidate.export.title
            )
        }));
    }
    if last.since(first) <= wanted.max_spread {
        return;
    }
    if wanted.latest {
        verdict.stale.extend(
            started()
                .filter(|(started, _)| last.since(*started) > wanted.max_spread)
                .map(|(started, candidate)| StaleExport {
                    kinds: candidate.kinds(),
                    export: candidate.export.title.clone(),
                    started,
                    newest: last,
                }),
        );
    } else {
        verdict.warnings.push(format!(
            "the exports were not made in one night: {} started {} before {}",
            oldest.export.title,
            spelled_duration(last.since(first)),
            newest.export.title
        ));
    }
}

/// Whether a date of a path is before that in another path, or well before a start: nobody knows of
/// which time zone such a date is.
fn is_before(date: &str, other: &str, started: Timestamp) -> bool {
    let other = path_date(other).filter(|other| other.len() == date.len());
    let a_day_earlier = || {
        Timestamp::from_micros(started.micros().saturating_sub(DAY_MICROS))
            .map(Timestamp::to_archive_id)
    };
    other
        .or_else(a_day_earlier)
        .is_some_and(|other| other.get(..date.len()).is_some_and(|other| date < other))
}

/// The date in the last part of a path that has one, as digits, with the time where one follows it:
/// `20131012` for `2013-10-12/User`.
fn path_date(path: &str) -> Option<String> {
    path.rsplit('/')
        .find_map(|segment| (0..segment.len()).find_map(|at| date_at(segment.as_bytes(), at)))
}

fn date_at(text: &[u8], at: usize) -> Option<String> {
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let number = |at: usize, len: usize| {
        let digits = text
            .get(at..at.checked_add(len)?)
            .filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        String::from_utf8(digits.to_vec()).ok()
    };
    if at > 0 && is_digit(at - 1) {
        return None;
    }
    let mut date = number(at, 4).filter(|year| year.starts_with("19") || year.starts_with("20"))?;
    let mut next = at + 4;
    for (least, most) in [
        ("01", "12"),
        ("01", "31"),
        ("00", "23"),
        ("00", "59"),
        ("00", "60"),
    ] {
        let from = if is_digit(next) { next } else { next + 1 };
        let Some(part) = number(from, 2).filter(|part| (least..=most).contains(&part.as_str()))
        else {
            break;
        };
        date.push_str(&part);
        next = from + 2;
    }
    (date.len() >= 8).then_some(date)
}

#[cfg(test)]
mod tests;
