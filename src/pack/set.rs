//! The set that is packed: SOURCE listed, selected, and waited for until it is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::companions::{Companions, entry_name};
use super::error::{ExportFault, PackError};
use super::kinds::read_kinds;
use super::manifest::{assemble, backup_id};
use super::metadata::MetadataCache;
use super::options::{ArchiveName, PackRequest};
use super::pipeline::ArchiveWriter;
use super::place::Destination;
use super::select::{self, KnownKinds, SelectionResult, known_pairs};
use super::source::{Source, sources_of};
use crate::archive::zip::{ZipWriteError, check_places};
use crate::export::discover::{Discovery, Export};
use crate::model::{EXPORTS_FOLDER, KindRef, Method, Namespace, Timestamp};
use crate::progress::{Event, Observer};
use crate::runtime::workers::Workers;
use crate::store::{ObjectInfo, Store, StoreError};

/// What may be packed: the exports, where each object is, what was read of them, and the pairs of
/// exports that do not declare them.
pub(super) struct PackSet {
    pub(super) exports: Vec<Export>,
    pub(super) objects: BTreeMap<String, ObjectInfo>,
    pub(super) contents: BTreeMap<String, Bytes>,
    pub(super) pairs: KnownKinds,
    /// What is packed beside the exports.
    pub(super) companions: Companions,
}

impl PackSet {
    /// How many objects it has.
    pub(super) fn object_count(&self) -> u64 {
        let objects = self
            .exports
            .iter()
            .map(|export| export.objects().len() as u64);
        objects.sum::<u64>() + self.companions.count()
    }

    /// Bytes of its objects.
    pub(super) fn object_bytes(&self) -> u64 {
        let objects = self.exports.iter().flat_map(Export::objects);
        objects
            .map(|object| object.len)
            .fold(self.companions.bytes(), u64::saturating_add)
    }

    /// The name of each entry to be, with its object.
    pub(super) fn entries(&self) -> Vec<(String, &ObjectInfo)> {
        let exports = self.exports.iter().flat_map(Export::objects);
        let exports = exports.filter_map(|listed| {
            let object = self.objects.get(listed.name)?;
            Some((format!("{EXPORTS_FOLDER}{}", listed.name), object))
        });
        let companions = self.companions.objects();
        exports
            .chain(companions.map(|object| (entry_name(object), object)))
            .collect()
    }

    /// Refuses a set of which some name would be a file and a folder at once: buckets can hold
    /// that, disks cannot.
    pub(super) fn check_places(&self) -> Result<(), PackError> {
        let entries = self.entries();
        let names = entries.iter().map(|(name, _)| name.as_str());
        Ok(check_places(names).map_err(ZipWriteError::from)?)
    }

    /// When its last export ended.
    pub(super) fn finished(&self) -> Option<Timestamp> {
        let ends = self.exports.iter().filter_map(|export| export.finished);
        ends.max()
    }

    /// The id of the backup.
    pub(super) fn backup_id(&self) -> String {
        let starts = self.exports.iter().filter_map(|export| export.started);
        backup_id(starts.max())
    }

    /// `{namespace}_backup_{YYYYMMDDHHMMSS}.zip`, as the set itself says.
    pub(super) fn archive_name(&self) -> AutomaticName {
        let pairs = self.exports.iter();
        let pairs = pairs.map(|export| known_pairs(export, &self.pairs));
        let label = pairs.collect::<Option<Vec<_>>>();
        let label = label.map(|pairs| label_of(pairs.into_iter().flatten()));
        let id = self.backup_id();
        AutomaticName {
            is_open: label.is_none(),
            name: format!(
                "{}_backup_{id}.zip",
                label.as_deref().unwrap_or("NAMESPACE")
            ),
        }
    }
}

/// The name that a set gives its archive.
pub(super) struct AutomaticName {
    pub(super) name: String,
    /// Whether its namespace is still to be found in the data.
    pub(super) is_open: bool,
}

/// Looks at SOURCE until the set is complete.
pub(super) struct SetFinder<'a> {
    pub(super) source: &'a Arc<dyn Store>,
    pub(super) name: &'a ArchiveName,
    pub(super) place: Option<&'a Destination>,
    pub(super) options: &'a PackRequest,
    pub(super) workers: &'a Workers,
    pub(super) observer: &'a dyn Observer,
}

/// What one look at SOURCE came to.
enum SetState {
    /// The set is complete.
    Complete(PackSet),
    /// Only time can help.
    Waiting {
        waiting_for: Vec<String>,
        error: PackError,
    },
}

/// What the looks at SOURCE found out so far.
#[derive(Default)]
struct SetLook {
    metadata: MetadataCache,
    pairs: KnownKinds,
}

impl SetLook {
    fn take_set(&mut self, exports: Vec<Export>, objects: BTreeMap<String, ObjectInfo>) -> PackSet {
        PackSet {
            exports,
            contents: self.metadata.contents_of(&objects),
            objects,
            pairs: std::mem::take(&mut self.pairs),
            companions: Companions::default(),
        }
    }
}

/// How long the set is waited for, and what was reported of it.
struct SetWait {
    deadline: Option<Instant>,
    pause: Duration,
    reported: Vec<String>,
}

impl SetWait {
    fn new(wait: Duration) -> Self {
        SetWait {
            deadline: Instant::now().checked_add(wait),
            pause: Duration::from_secs(1),
            reported: Vec::new(),
        }
    }

    /// The time that is left; without a deadline there is no end.
    fn left(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Reports what is waited for, where that has changed.
    fn report(&mut self, waiting_for: Vec<String>, observer: &dyn Observer) {
        if waiting_for != self.reported {
            self.reported.clone_from(&waiting_for);
            observer.event(Event::Waiting { waiting_for });
        }
    }

    /// Waits, each time a little longer, and never past the deadline.
    async fn pause(&mut self) {
        let pause = self.left().map_or(self.pause, |left| self.pause.min(left));
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 3 / 2).min(Duration::from_secs(30));
    }
}

impl SetFinder<'_> {
    /// Looks until the set is complete, or the time is over, or no time can help.
    pub(super) async fn find(&self) -> Result<PackSet, PackError> {
        let mut wait = SetWait::new(self.options.wait);
        let mut look = SetLook::default();
        loop {
            let is_last = wait.is_over();
            let waiting_for = match self.examine(&mut look, is_last).await {
                Ok(SetState::Complete(set)) => return Ok(set),
                Ok(SetState::Waiting { error, .. }) if is_last => return Err(error),
                Ok(SetState::Waiting { waiting_for, .. }) => waiting_for,
                // Whoever waits lets others write there.
                Err(PackError::SourceChanged(error)) if !is_last => vec![error.to_string()],
                Err(error) => return Err(error),
            };
            wait.report(waiting_for, self.observer);
            wait.pause().await;
        }
    }

    /// Lists SOURCE, reads what is new of its metadata, and selects.
    async fn examine(&self, look: &mut SetLook, is_last: bool) -> Result<SetState, PackError> {
        let objects = self.list().await?;
        if let Some(place) = self.place.filter(|_| is_last) {
            place.check_foreign(&objects)?;
        }
        let discovery = self.discover(look, &objects).await?;
        let mut verdict = self.select(&discovery, &objects, &mut look.pairs).await?;
        if !verdict.is_whole() {
            let waiting_for = verdict.may_resolve().then(|| verdict.waiting_for());
            if (is_last || waiting_for.is_none()) && self.reports_all_faults() {
                self.add_faults(&mut verdict, &discovery, &objects, look)
                    .await?;
            }
            return self.refuse(verdict, waiting_for);
        }
        self.warn_of_idle_selectors(&discovery, &look.pairs);
        let exports = self.take_selected(discovery, verdict);
        Ok(SetState::Complete(look.take_set(exports, objects)))
    }

    /// Warns of selectors that match nothing: they may be mistyped.
    fn warn_of_idle_selectors(&self, discovery: &Discovery, pairs: &KnownKinds) {
        let options = [
            ("--exclude", &self.options.wanted.exclude),
            ("--accept-count", &self.options.accept_count),
        ];
        for (option, selectors) in options {
            for unmatched in select::idle_selectors(selectors, discovery, pairs) {
                let warning = unmatched.warning(option);
                self.observer.event(Event::Warning { warning });
            }
        }
    }

    /// The exports below SOURCE; reads what is new of their metadata.
    async fn discover(
        &self,
        look: &mut SetLook,
        objects: &BTreeMap<String, ObjectInfo>,
    ) -> Result<Discovery, PackError> {
        let memory = self.workers.memory();
        let discovered = look.metadata.discover(self.source, objects, memory);
        let mut discovery = discovered.await?;
        let accepted = &self.options.accept_count;
        let exports = discovery.exports.iter_mut();
        exports.for_each(|export| export.accept_counts(accepted));
        Ok(discovery)
    }

    /// The objects below SOURCE, by name.
    async fn list(&self) -> Result<BTreeMap<String, ObjectInfo>, PackError> {
        let may_come = self.source.is_remote() && self.options.wait > Duration::ZERO;
        let listed = match self.source.list().await {
            // Whoever waits may come before the first export: in a bucket a folder is there once
            // it holds an object.
            Err(StoreError::NotFound { .. }) if may_come => Vec::new(),
            listed => listed.map_err(PackError::source)?,
        };
        let named = |object: ObjectInfo| (object.name.clone(), object);
        Ok(listed.into_iter().map(named).collect())
    }

    /// Selects by metadata, and by data where only they say which kinds an export holds.
    async fn select(
        &self,
        discovery: &Discovery,
        objects: &BTreeMap<String, ObjectInfo>,
        pairs: &mut KnownKinds,
    ) -> Result<SelectionResult, PackError> {
        let wanted = &self.options.wanted;
        let mut verdict = select::select(discovery, wanted, pairs)?;
        // The data of a set that is known to be incomplete is not read for that.
        while !self.options.dry_run && verdict.is_whole() {
            let open = self.open_exports(discovery, &verdict, pairs);
            if open.is_empty() {
                break;
            }
            read_kinds(self.source, objects, &open, self.workers, pairs).await?;
            verdict = select::select(discovery, wanted, pairs)?;
        }
        Ok(verdict)
    }

    /// What an incomplete set comes to: to be waited for, or an error with all that is wrong.
    fn refuse(
        &self,
        verdict: SelectionResult,
        waiting_for: Option<Vec<String>>,
    ) -> Result<SetState, PackError> {
        let error = verdict.into_error(self.options.wanted.latest);
        match waiting_for {
            Some(waiting_for) => Ok(SetState::Waiting { waiting_for, error }),
            None => Err(error),
        }
    }

    /// Adds the faults in the data of an incomplete set.
    async fn add_faults(
        &self,
        verdict: &mut SelectionResult,
        discovery: &Discovery,
        objects: &BTreeMap<String, ObjectInfo>,
        look: &mut SetLook,
    ) -> Result<(), PackError> {
        let exports = faultless_exports(discovery, verdict);
        let contents = look.metadata.contents_of(objects);
        let sources = sources_of(&exports, objects, &contents, Method::Deflate);
        let problems = self.remaining_problems(&exports, sources).await?;
        verdict.faults.extend(problems);
        Ok(())
    }

    /// Whether the data of an incomplete set is read for all that is wrong with it.
    fn reports_all_faults(&self) -> bool {
        let is_asked = self.options.all_faults || !self.source.is_remote();
        is_asked && !self.options.dry_run
    }

    /// What else is wrong with an incomplete set: the faults in the data of those exports of which
    /// nothing is wrong so far.
    async fn remaining_problems(
        &self,
        exports: &[Export],
        sources: Vec<Source>,
    ) -> Result<Vec<ExportFault>, PackError> {
        let (source, workers) = (self.source.clone(), self.workers.clone());
        let mut inspector = ArchiveWriter::inspect_only(source, workers);
        let entries = inspector.entries(sources, self.observer).await?;
        match assemble(exports, entries, self.options) {
            Err(PackError::IncompleteSet { faults, .. }) => Ok(faults),
            // Whatever else there is to say comes when the set is complete.
            _ => Ok(Vec::new()),
        }
    }

    /// Reports a complete selection, and gives its exports.
    fn take_selected(&self, discovery: Discovery, mut verdict: SelectionResult) -> Vec<Export> {
        verdict.warnings.extend(open_warning(&discovery, &verdict));
        for warning in verdict.warnings {
            self.observer.event(Event::Warning { warning });
        }
        self.observer.event(Event::SetFound {
            exports: discovery.exports.len() as u64,
            chosen: verdict.exports.len() as u64,
            foreign: discovery.unrelated.len() as u64,
            superseded: verdict.superseded,
        });
        let mut all: BTreeMap<usize, Export> = discovery.exports.into_iter().enumerate().collect();
        let selected = verdict.exports.iter();
        selected.filter_map(|index| all.remove(index)).collect()
    }

    /// The exports whose data must be read before the set can be judged or named.
    fn open_exports<'d>(
        &self,
        discovery: &'d Discovery,
        verdict: &SelectionResult,
        pairs: &KnownKinds,
    ) -> Vec<&'d Export> {
        let is_unnamed = matches!(self.name, ArchiveName::Automatic);
        let unnamed = verdict.exports.iter().filter(|_| is_unnamed);
        let indices: BTreeSet<usize> = unnamed.chain(&verdict.undecided).copied().collect();
        let exports = exports_at(discovery, &indices);
        let open = exports.filter(|export| known_pairs(export, pairs).is_none());
        open.collect()
    }
}

/// The selected exports of which nothing is wrong so far.
fn faultless_exports(discovery: &Discovery, verdict: &SelectionResult) -> Vec<Export> {
    let exports = exports_at(discovery, &verdict.exports);
    let faultless = exports.filter(|export| export.faults.is_empty());
    faultless.cloned().collect()
}

fn exports_at<'d, 'i>(
    discovery: &'d Discovery,
    indices: impl IntoIterator<Item = &'i usize>,
) -> impl Iterator<Item = &'d Export> {
    let indices = indices.into_iter();
    indices.filter_map(|index| discovery.exports.get(*index))
}

/// The warning that a dry run does not read which kinds some exports hold.
fn open_warning(discovery: &Discovery, verdict: &SelectionResult) -> Option<String> {
    let open = exports_at(discovery, &verdict.undecided);
    let titles: Vec<&str> = open.map(|export| export.title.as_str()).collect();
    let titles = (!verdict.undecided.is_empty()).then(|| titles.join(", "))?;
    Some(format!(
        "only the data, which a dry run does not read, tells the kinds and namespaces of {titles}"
    ))
}

/// The word for the namespaces of pairs in the name of an archive.
fn label_of(pairs: impl Iterator<Item = KindRef>) -> String {
    let namespaces: BTreeSet<Namespace> = pairs.map(|pair| pair.namespace).collect();
    let mut namespaces = namespaces.iter();
    match (namespaces.next(), namespaces.next()) {
        (Some(only), None) if !only.is_default() => only.as_str().to_owned(),
        (Some(_), Some(_)) => "all".to_owned(),
        _ => "default".to_owned(),
    }
}
