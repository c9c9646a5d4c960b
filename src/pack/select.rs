//! Selects exports: which are taken, and whether each is finished, whole, wanted and of the same
//! night as the others.
//!
//! Decides by a discovery, selectors and the pairs that undeclared exports turned out to hold. Reads
//! nothing itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use super::error::{ExportFault, PackError, StaleExport};
use super::options::SelectionOptions;
use crate::export::discover::{Discovery, Export, ExportPart, Problem};
use crate::model::{
    ExportFormat, Kind, KindRef, Namespace, Selector, Timestamp, UnmatchedSelector,
    spelled_duration,
};

/// How many kinds of a stale export are named.
const KINDS_NAMED: usize = 3;

/// For how many missing selectors the nearest kind is sought, which takes a look at every kind.
const NEAREST_SOUGHT: usize = 10;

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

    /// The pair that it is, if it is one.
    fn pair(&self) -> Option<KindRef> {
        Some(KindRef {
            namespace: self.namespace.clone()?,
            kind: self.kind.clone()?,
        })
    }

    /// Whether a selector chooses it; `None` where that differs within it.
    fn chosen_by(&self, selector: &Selector) -> Option<bool> {
        selector.chooses(self.namespace.as_ref(), self.kind.as_ref())
    }

    /// Whether it is one pair.
    fn is_pair(&self) -> bool {
        self.namespace.is_some() && self.kind.is_some()
    }

    /// The scopes that hold all of this one, itself included.
    fn covers(&self) -> impl Iterator<Item = KindScope> {
        let namespaces = and_all(&self.namespace);
        let kinds: Vec<Option<Kind>> = and_all(&self.kind).collect();
        namespaces.flat_map(move |namespace| {
            let scope = move |kind| KindScope {
                namespace: namespace.clone(),
                kind,
            };
            kinds.clone().into_iter().map(scope)
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
        if let Some(pair) = self.pair() {
            return pair.fmt(f);
        }
        match (&self.namespace, &self.kind) {
            (_, Some(kind)) => kind.fmt(f),
            (Some(namespace), None) => write!(f, "all kinds of {namespace}"),
            (None, None) => f.write_str("all kinds"),
        }
    }
}

impl SelectionOptions {
    /// Whether what a scope holds is wanted; `None` where that differs within the scope.
    fn takes(&self, scope: &KindScope) -> Option<bool> {
        let only = match self.only.as_slice() {
            [] => Some(true),
            only => any(only, scope),
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
            let index = answers.iter().position(|answer| *answer == Some(wanted));
            index.and_then(|index| scopes.get(index))
        };
        match (first(true), first(false)) {
            _ if answers.contains(&None) => SelectorMatch::Unknown,
            (Some(wanted), Some(unwanted)) => SelectorMatch::partial(wanted, unwanted),
            (None, Some(_)) => SelectorMatch::Excluded,
            (_, None) => SelectorMatch::Selected,
        }
    }
}

/// Whether one of the selectors chooses a scope.
fn any(selectors: &[Selector], scope: &KindScope) -> Option<bool> {
    let mut answer = Some(false);
    for selector in selectors {
        match scope.chosen_by(selector) {
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

impl SelectorMatch {
    fn partial(wanted: &KindScope, unwanted: &KindScope) -> Self {
        SelectorMatch::Partial {
            wanted: wanted.to_string(),
            unwanted: unwanted.to_string(),
        }
    }
}

/// The pairs of exports, by title, that were found by reading their data.
pub type KnownKinds = BTreeMap<String, BTreeSet<KindRef>>;

/// The pairs of an export: declared by its metadata, or found by reading its data; `None` where
/// only its data can tell.
pub(super) fn known_pairs(export: &Export, pairs: &KnownKinds) -> Option<BTreeSet<KindRef>> {
    let found = pairs.get(&export.title).cloned();
    found.or_else(|| export.declared_pairs())
}

/// A part of a scope, and all that it may belong to; all of them alone where it is open.
fn and_all<T: Clone>(part: &Option<T>) -> impl Iterator<Item = Option<T>> + use<T> {
    let both = [part.clone(), None].into_iter();
    both.skip(usize::from(part.is_none()))
}

/// An export while it is judged.
struct Candidate<'a> {
    index: usize,
    export: &'a Export,
    /// The pairs, where they are known, else what the groups leave open.
    scopes: Vec<KindScope>,
    is_complete: bool,
}

/// The selectors that can match nothing of what was found.
pub(super) fn idle_selectors(
    selectors: &[Selector],
    discovery: &Discovery,
    pairs: &KnownKinds,
) -> Vec<UnmatchedSelector> {
    let exports = discovery.exports.iter().enumerate();
    let candidates = exports.map(|(index, export)| Candidate::new(index, export, pairs));
    let scopes: Vec<KindScope> = candidates.flat_map(|one| one.scopes).collect();
    let is_idle = |selector: &&Selector| {
        let mut scopes = scopes.iter();
        scopes.all(|scope| scope.chosen_by(selector) == Some(false))
    };
    let idle = selectors.iter().filter(is_idle);
    let known = || scopes.iter().filter_map(KindScope::pair);
    idle.map(|selector| UnmatchedSelector::new(selector, known()))
        .collect()
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

    fn distinct_kinds(&self) -> BTreeSet<Option<&Kind>> {
        let scopes = self.scopes.iter();
        scopes.map(|scope| scope.kind.as_ref()).collect()
    }

    /// The date in the path of an unfinished export. Nothing is packed of such a one: the date is
    /// enough to see that it is left over.
    fn left_over_date(&self) -> Option<String> {
        path_date(&self.export.title).filter(|_| !self.is_complete)
    }

    fn cannot_split(&self, wanted: String, unwanted: String) -> PackError {
        PackError::CannotSplitExport {
            export: self.export.title.clone(),
            wanted,
            unwanted,
        }
    }

    fn stale(&self, started: Timestamp, newest: Timestamp) -> StaleExport {
        StaleExport {
            kinds: self.kinds(),
            export: self.export.title.clone(),
            started,
            newest,
        }
    }

    /// Its kinds, for people.
    fn kinds(&self) -> String {
        let named = self.scopes.iter().take(KINDS_NAMED);
        let named: Vec<String> = named.map(ToString::to_string).collect();
        match self.scopes.len().saturating_sub(KINDS_NAMED) {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }

    fn has_plausible_start(&self) -> bool {
        self.export.plausible_start().is_some()
    }

    /// Whether all its kinds are named.
    fn is_named(&self) -> bool {
        !self.scopes.is_empty() && self.scopes.iter().all(|scope| scope.kind.is_some())
    }

    /// Whether a selector chooses something of the export, as far as that can be told.
    fn may_hold(&self, selector: &Selector) -> bool {
        let chooses = |scope: &KindScope| scope.chosen_by(selector) != Some(false);
        (self.scopes.is_empty() && !self.is_complete) || self.scopes.iter().any(chooses)
    }

    /// All that the export stands for: of all namespaces it holds also those in which it found
    /// nothing.
    fn held(&self) -> impl Iterator<Item = KindScope> {
        let groups = self.export.groups.iter().map(KindScope::from_part);
        self.scopes.iter().cloned().chain(groups)
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
    pub missing: Vec<UnmatchedSelector>,
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
        let missing = self.missing.iter();
        let missing = missing.map(|missing| missing.selector.to_string());
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
    let mut candidates = candidates_of(discovery, pairs);
    let is_any = !candidates.is_empty();
    check_selectors(&candidates, &wanted.only)?;
    retain_wanted(&mut candidates, wanted, &mut verdict)?;
    if wanted.latest {
        retain_newest(&mut candidates, discovery, &mut verdict);
    }
    for candidate in &candidates {
        record_problems(candidate, &mut verdict);
    }
    candidates.retain(|candidate| candidate.is_complete);
    if candidates.is_empty() && verdict.faults.is_empty() && wanted.expect.is_empty() {
        return Err(nothing_selected(is_any));
    }
    verdict.duplicates = duplicates(&candidates, wanted.latest);
    expect(&candidates, &wanted.expect, &mut verdict);
    check_spread(&candidates, wanted, &mut verdict);
    verdict.exports = candidates.iter().map(|candidate| candidate.index).collect();
    Ok(verdict)
}

fn candidates_of<'a>(discovery: &'a Discovery, pairs: &KnownKinds) -> Vec<Candidate<'a>> {
    let exports = discovery.exports.iter().enumerate();
    exports
        .map(|(index, export)| Candidate::new(index, export, pairs))
        .collect()
}

/// Checks that each selector chooses something, where there is anything at all.
fn check_selectors(candidates: &[Candidate<'_>], only: &[Selector]) -> Result<(), PackError> {
    let is_used = |selector| candidates.iter().any(|other| other.may_hold(selector));
    match only.iter().find(|selector| !is_used(selector)) {
        Some(idle) if !candidates.is_empty() => {
            let scopes = candidates.iter().flat_map(|candidate| &candidate.scopes);
            let pairs = scopes.filter_map(KindScope::pair);
            Err(UnmatchedSelector::new(idle, pairs).into())
        }
        _ => Ok(()),
    }
}

fn nothing_selected(is_any: bool) -> PackError {
    match is_any {
        true => PackError::EmptySelection,
        false => PackError::NoExport,
    }
}

/// Keeps the candidates of which something is wanted.
fn retain_wanted(
    candidates: &mut Vec<Candidate<'_>>,
    wanted: &SelectionOptions,
    verdict: &mut SelectionResult,
) -> Result<(), PackError> {
    let mut divided = None;
    candidates.retain(|candidate| {
        match wanted.match_selectors(&candidate.scopes) {
            SelectorMatch::Excluded => return false,
            // What is unfinished is not packed; that it holds something wanted is enough to miss it.
            _ if !candidate.is_complete => {}
            SelectorMatch::Partial { wanted, unwanted } => {
                divided.get_or_insert_with(|| candidate.cannot_split(wanted, unwanted));
                return false;
            }
            SelectorMatch::Unknown => {
                verdict.undecided.insert(candidate.index);
            }
            SelectorMatch::Selected => {}
        }
        true
    });
    divided.map_or(Ok(()), Err)
}

/// Keeps the candidates that newer ones do not supersede.
fn retain_newest(
    candidates: &mut Vec<Candidate<'_>>,
    discovery: &Discovery,
    verdict: &mut SelectionResult,
) {
    let superseded = superseded(candidates);
    let is_kept = |index: &usize| !superseded.contains(index);
    candidates.retain(|candidate| is_kept(&candidate.index));
    verdict.superseded = titles_of(&superseded, discovery);
    verdict.undecided.retain(is_kept);
    verdict.undecided.extend(overlapping(candidates));
}

/// The titles of exports, each once and in order.
fn titles_of(exports: &BTreeSet<usize>, discovery: &Discovery) -> Vec<String> {
    let exports = exports.iter();
    let exports = exports.filter_map(|index| discovery.exports.get(*index));
    let titles: BTreeSet<&String> = exports.map(|export| &export.title).collect();
    titles.into_iter().cloned().collect()
}

/// Records what is wrong with a candidate.
fn record_problems(candidate: &Candidate<'_>, verdict: &mut SelectionResult) {
    let export = candidate.export;
    let faults = export.faults.iter().map(|fault| ExportFault {
        export: export.title.clone(),
        fault: fault.clone(),
    });
    verdict.faults.extend(faults);
    if !candidate.is_complete && !candidate.is_named() {
        verdict.unnamed.push(export.title.clone());
    }
}

/// The exports of which newer, finished ones hold everything, by index. An export steps back only
/// as a whole: it cannot be divided.
fn superseded(candidates: &[Candidate<'_>]) -> BTreeSet<usize> {
    let newest = NewestHolders::new(candidates);
    let superseded = candidates.iter().filter(|each| newest.supersede(each));
    superseded.map(|candidate| candidate.index).collect()
}

/// The newest finished export of each scope. Of two that are as old as each other neither is the
/// newest, and one without a start is neither older nor newer than another.
#[derive(Default)]
struct NewestHolders<'a>(HashMap<KindScope, (ExportSpan, &'a Candidate<'a>)>);

impl<'a> NewestHolders<'a> {
    fn new(candidates: &'a [Candidate<'a>]) -> Self {
        let mut newest = NewestHolders::default();
        for candidate in candidates.iter().filter(|each| each.is_complete) {
            if let Some(age) = candidate.age() {
                newest.add(candidate, age);
            }
        }
        newest
    }

    fn add(&mut self, candidate: &'a Candidate<'a>, age: ExportSpan) {
        for scope in candidate.held() {
            let known = self.0.entry(scope).or_insert((age, candidate));
            if known.0 < age {
                *known = (age, candidate);
            }
        }
    }

    /// Whether newer exports hold everything that this one stands for.
    fn supersede(&self, candidate: &Candidate<'_>) -> bool {
        let date = candidate.left_over_date();
        let date = date.as_deref();
        let holds = |cover: &KindScope| self.has_newer(cover, candidate, date);
        let is_held = |scope: &KindScope| scope.covers().any(|cover| holds(&cover));
        !candidate.scopes.is_empty() && candidate.scopes.iter().all(is_held)
    }

    fn has_newer(&self, scope: &KindScope, old: &Candidate<'_>, date: Option<&str>) -> bool {
        let Some((age, newer)) = self.0.get(scope) else {
            return false;
        };
        let is_older = match (old.age(), date) {
            (Some(own), _) => own < *age,
            (None, Some(own)) => is_before(own, &newer.export.title, age.0),
            (None, None) => false,
        };
        is_older && (!old.is_complete || newer.surely_holds(scope))
    }
}

/// The exports of which only the data can tell whether another one holds the same pair, by index.
fn overlapping(candidates: &[Candidate<'_>]) -> BTreeSet<usize> {
    let is_judged = |each: &&Candidate<'_>| each.is_complete && !each.scopes.is_empty();
    let complete: Vec<&Candidate<'_>> = candidates.iter().filter(is_judged).collect();
    let holders = KindHolders::new(&complete);
    let is_undecided = |scope: &KindScope| !scope.is_pair() && holders.has_another(scope);
    let undecided = complete
        .iter()
        .filter(|candidate| candidate.scopes.iter().any(is_undecided));
    undecided.map(|candidate| candidate.index).collect()
}

/// How many exports hold each kind; `None` stands for all kinds.
struct KindHolders<'a> {
    all: usize,
    by_kind: HashMap<Option<&'a Kind>, usize>,
}

impl<'a> KindHolders<'a> {
    fn new(candidates: &[&'a Candidate<'_>]) -> Self {
        let mut by_kind = HashMap::new();
        for kind in candidates.iter().flat_map(|each| each.distinct_kinds()) {
            *by_kind.entry(kind).or_default() += 1;
        }
        let all = candidates.len();
        KindHolders { all, by_kind }
    }

    fn count(&self, kind: Option<&Kind>) -> usize {
        self.by_kind.get(&kind).copied().unwrap_or(0)
    }

    /// Whether an export that holds a scope may hold the same as another one.
    fn has_another(&self, scope: &KindScope) -> bool {
        match &scope.kind {
            Some(kind) => self.count(Some(kind)) > 1 || self.count(None) > 0,
            None => self.all > 1,
        }
    }
}

fn duplicates(candidates: &[Candidate<'_>], latest: bool) -> Vec<ExportFault> {
    let mut holders: HashMap<KindRef, &Export> = HashMap::new();
    let mut duplicates = Vec::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.is_open()) {
        let export = candidate.export;
        for pair in candidate.scopes.iter().filter_map(KindScope::pair) {
            if let Some(other) = holders.insert(pair.clone(), export) {
                duplicates.push(duplicate_of(&pair, other, export, latest));
            }
        }
    }
    duplicates
}

/// The fault that two exports hold one pair, and why neither is taken as the newer one.
fn duplicate_of(pair: &KindRef, other: &Export, export: &Export, latest: bool) -> ExportFault {
    let mut duplicate = duplicate(pair, &other.title, &export.title);
    let mut both = [export, other].into_iter();
    let doubtful = both.find(|export| export.plausible_start().is_none());
    if let Some(doubtful) = doubtful.filter(|_| latest) {
        duplicate.fault.reason += &doubtful_start(doubtful);
    }
    duplicate
}

fn doubtful_start(export: &Export) -> String {
    let started = export
        .started
        .map_or_else(|| "unknown".to_owned(), |started| started.to_string());
    format!(
        "; the start of {} cannot be true ({started}), so neither is known to be newer",
        export.title
    )
}

/// The fault that one pair was exported twice.
pub(super) fn duplicate(pair: &KindRef, one: &str, other: &str) -> ExportFault {
    ExportFault {
        export: other.to_owned(),
        fault: Problem::incomplete(
            other,
            format!("{pair} was exported twice: {one} and {other}"),
        ),
    }
}

/// Checks that what is expected is there.
fn expect(candidates: &[Candidate<'_>], expected: &[Selector], verdict: &mut SelectionResult) {
    if expected.is_empty() {
        return;
    }
    let index = ScopeIndex::new(candidates);
    for selector in expected {
        match index.find(selector) {
            ScopeAnswer::Found => {}
            ScopeAnswer::Missing if verdict.missing.len() < NEAREST_SOUGHT => {
                verdict.missing.push(missing(candidates, selector));
            }
            ScopeAnswer::Missing => verdict.missing.push(UnmatchedSelector::alone(selector)),
            ScopeAnswer::Open(exports) => verdict.undecided.extend(exports),
        }
    }
}

/// A missing selector, with the nearest kind that was found.
fn missing(candidates: &[Candidate<'_>], selector: &Selector) -> UnmatchedSelector {
    let scopes = candidates.iter().flat_map(|candidate| &candidate.scopes);
    UnmatchedSelector::new(selector, scopes.filter_map(KindScope::pair))
}

/// A scope, and the index of the export that holds it.
type HeldScope<'a> = (usize, &'a KindScope);

/// The scopes of candidates by kind. Whoever expects many kinds names them: those are looked up and
/// not searched for.
#[derive(Default)]
struct ScopeIndex<'a> {
    all: Vec<HeldScope<'a>>,
    by_kind: HashMap<&'a str, Vec<HeldScope<'a>>>,
    of_all_kinds: Vec<HeldScope<'a>>,
}

/// Whether some export holds what a selector chooses.
enum ScopeAnswer {
    Found,
    Missing,
    /// Only the data of these exports can tell.
    Open(Vec<usize>),
}

impl<'a> ScopeIndex<'a> {
    fn new(candidates: &'a [Candidate<'_>]) -> Self {
        let mut index = ScopeIndex::default();
        for candidate in candidates {
            let scopes = candidate.scopes.iter();
            scopes.for_each(|scope| index.add((candidate.index, scope)));
        }
        index
    }

    fn add(&mut self, held: HeldScope<'a>) {
        self.all.push(held);
        match &held.1.kind {
            Some(kind) => self.by_kind.entry(kind.as_str()).or_default().push(held),
            None => self.of_all_kinds.push(held),
        }
    }

    /// The scopes that may hold what a selector chooses.
    fn scopes_for(&self, selector: &Selector) -> Vec<HeldScope<'a>> {
        let Some(kind) = selector.exact_kind() else {
            return self.all.clone();
        };
        let named = self.by_kind.get(kind.as_str()).into_iter().flatten();
        named.chain(&self.of_all_kinds).copied().collect()
    }

    fn find(&self, selector: &Selector) -> ScopeAnswer {
        let scopes = self.scopes_for(selector);
        let answers = || scopes.iter().map(|(_, scope)| scope.chosen_by(selector));
        if answers().any(|answer| answer == Some(true)) {
            return ScopeAnswer::Found;
        }
        let open = scopes.iter().zip(answers());
        let open = open.filter(|(_, answer)| answer.is_none());
        match open.map(|((index, _), _)| *index).collect::<Vec<usize>>() {
            open if open.is_empty() => ScopeAnswer::Missing,
            open => ScopeAnswer::Open(open),
        }
    }
}

/// Holds the starts of the exports against one another. An export of which metadata names no kind
/// has no start either.
fn check_spread(
    candidates: &[Candidate<'_>],
    wanted: &SelectionOptions,
    verdict: &mut SelectionResult,
) {
    let Some(spread) = StartSpread::new(candidates) else {
        return;
    };
    if wanted.latest {
        verdict.warnings.extend(undated_warnings(candidates));
    }
    if spread.len() <= wanted.max_spread {
        return;
    }
    if wanted.latest {
        verdict.stale.extend(spread.stale(wanted.max_spread));
    } else {
        verdict.warnings.push(spread.warning());
    }
}

/// Candidates with their starts.
struct StartSpread<'a> {
    started: Vec<(Timestamp, &'a Candidate<'a>)>,
    oldest: (Timestamp, &'a Candidate<'a>),
    newest: (Timestamp, &'a Candidate<'a>),
}

impl<'a> StartSpread<'a> {
    /// None where no candidate has a start.
    fn new(candidates: &'a [Candidate<'a>]) -> Option<Self> {
        let started = candidates.iter();
        let started = started.filter_map(|each| Some((each.export.plausible_start()?, each)));
        let started: Vec<_> = started.collect();
        Some(StartSpread {
            oldest: *started.iter().min_by_key(|(started, _)| *started)?,
            newest: *started.iter().max_by_key(|(started, _)| *started)?,
            started,
        })
    }

    fn len(&self) -> Duration {
        self.newest.0.since(self.oldest.0)
    }

    /// The candidates that began longer than `max` before the newest one.
    fn stale(&self, max: Duration) -> impl Iterator<Item = StaleExport> {
        let newest = self.newest.0;
        let started = self.started.iter();
        let stale = started.filter(move |(started, _)| newest.since(*started) > max);
        stale.map(move |(started, candidate)| candidate.stale(*started, newest))
    }

    fn warning(&self) -> String {
        format!(
            "the exports were not made in one night: {} started {} before {}",
            self.oldest.1.export.title,
            spelled_duration(self.len()),
            self.newest.1.export.title
        )
    }
}

/// Warnings of candidates of which no time tells how old they are.
fn undated_warnings(candidates: &[Candidate<'_>]) -> impl Iterator<Item = String> {
    let candidates = candidates.iter();
    let undated = candidates.filter(|each| !each.has_plausible_start() && !each.scopes.is_empty());
    undated.map(|candidate| {
        format!(
            "{} may be stale: no time tells when its export, {}, started",
            candidate.kinds(),
            candidate.export.title
        )
    })
}

/// Whether a date of a path is before that in another path, or well before a start: nobody knows of
/// which time zone such a date is.
fn is_before(date: &str, other: &str, started: Timestamp) -> bool {
    let other = path_date(other).filter(|other| other.len() == date.len());
    let other = other.or_else(|| day_before(started));
    let other = other.as_deref().and_then(|other| other.get(..date.len()));
    other.is_some_and(|other| date < other)
}

fn day_before(time: Timestamp) -> Option<String> {
    let micros = time.micros().saturating_sub(DAY_MICROS);
    Timestamp::from_micros(micros).map(Timestamp::to_archive_id)
}

/// The date in the last part of a path that has one, as digits, with the time where one follows it:
/// `20131012` for `2013-10-12/User`.
fn path_date(path: &str) -> Option<String> {
    path.rsplit('/')
        .find_map(|segment| (0..segment.len()).find_map(|at| date_at(segment.as_bytes(), at)))
}

fn date_at(text: &[u8], at: usize) -> Option<String> {
    if at > 0 && is_digit(text, at - 1) {
        return None;
    }
    let year = digits(text, at, 4);
    let mut date = year.filter(|year| year.starts_with("19") || year.starts_with("20"))?;
    let mut next = at + 4;
    for (least, most) in DATE_PARTS {
        let from = next + usize::from(!is_digit(text, next));
        let part = digits(text, from, 2);
        let Some(part) = part.filter(|part| (least..=most).contains(&part.as_str())) else {
            break;
        };
        date.push_str(&part);
        next = from + 2;
    }
    (date.len() >= 8).then_some(date)
}

/// The least and the greatest month, day, hour, minute and second.
const DATE_PARTS: [(&str, &str); 5] = [
    ("01", "12"),
    ("01", "31"),
    ("00", "23"),
    ("00", "59"),
    ("00", "60"),
];

fn is_digit(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_digit)
}

/// The `len` digits at a place.
fn digits(text: &[u8], at: usize, len: usize) -> Option<String> {
    let digits = text.get(at..at.checked_add(len)?)?;
    let are_digits = digits.iter().all(u8::is_ascii_digit);
    String::from_utf8(digits.to_vec())
        .ok()
        .filter(|_| are_digits)
}

#[cfg(test)]
mod tests;
