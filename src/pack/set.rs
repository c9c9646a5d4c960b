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
use super::source::sources_of;
use crate::export::discover::{Discovery, Export};
use crate::model::{EXPORTS_FOLDER, Method, Namespace, Timestamp};
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

    /// When its last export ended.
    pub(super) fn finished(&self) -> Option<Timestamp> {
        self.exports
            .iter()
            .filter_map(|export| export.finished)
            .max()
    }

    /// `{namespace}_backup_{YYYYMMDDHHMMSS}.zip`, as the set itself says.
    pub(super) fn archive_name(&self) -> AutomaticName {
        let pairs = || {
            self.exports
                .iter()
                .map(|export| known_pairs(export, &self.pairs))
        };
        let is_open = pairs().any(|pairs| pairs.is_none());
        let namespaces: BTreeSet<Namespace> = pairs()
            .flatten()
            .flatten()
            .map(|pair| pair.namespace)
            .collect();
        let mut namespaces = namespaces.iter();
        let namespace = match (namespaces.next(), namespaces.next()) {
            _ if is_open => "NAMESPACE",
            (Some(only), None) if !only.is_default() => only.as_str(),
            (Some(_), Some(_)) => "all",
            _ => "default",
        };
        let id = backup_id(
            self.exports
                .iter()
                .filter_map(|export| export.started)
                .max(),
        );
        AutomaticName {
            name: format!("{namespace}_backup_{id}.zip"),
            is_open,
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

impl SetFinder<'_> {
    /// Looks until the set is complete, or the time is over, or no time can help.
    pub(super) async fn find(&self) -> Result<PackSet, PackError> {
        let deadline = Instant::now().checked_add(self.options.wait);
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut pause = Duration::from_secs(1);
        let mut reported = Vec::new();
        let mut metadata = MetadataCache::default();
        let mut pairs = KnownKinds::new();
        loop {
            let is_last = left().is_some_and(|left| left.is_zero());
            let waiting_for = match self.examine(&mut metadata, &mut pairs, is_last).await {
                Ok(SetState::Complete(set)) => return Ok(set),
                Ok(SetState::Waiting { error, .. }) if is_last => return Err(error),
                Ok(SetState::Waiting { waiting_for, .. }) => waiting_for,
                // Whoever waits lets others write there.
                Err(PackError::SourceChanged(error)) if !is_last => vec![error.to_string()],
                Err(error) => return Err(error),
            };
            if waiting_for != reported {
                self.observer.event(Event::Waiting {
                    waiting_for: waiting_for.clone(),
                });
                reported = waiting_for;
            }
            tokio::time::sleep(left().map_or(pause, |left| pause.min(left))).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(30));
        }
    }

    /// Lists SOURCE, reads what is new of its metadata, and selects.
    async fn examine(
        &self,
        metadata: &mut MetadataCache,
        pairs: &mut KnownKinds,
        is_last: bool,
    ) -> Result<SetState, PackError> {
        let objects = self.list().await?;
        if let Some(place) = self.place.filter(|_| is_last) {
            place.check_foreign(&objects)?;
        }
        let mut discovery = metadata
            .discover(self.source, &objects, self.workers.memory())
            .await?;
        discovery
            .exports
            .iter_mut()
            .for_each(|export| export.accept_counts(&self.options.accept_count));
        let verdict = self.select(&discovery, &objects, pairs).await?;
        if !verdict.is_whole() {
            return self
                .refuse(verdict, &discovery, &objects, metadata, is_last)
                .await;
        }
        let exports = self.take_selected(discovery, verdict);
        Ok(SetState::Complete(PackSet {
            exports,
            contents: metadata.contents_of(&objects),
            objects,
            pairs: std::mem::take(pairs),
            companions: Companions::default(),
        }))
    }

    /// The objects below SOURCE, by name.
    async fn list(&self) -> Result<BTreeMap<String, ObjectInfo>, PackError> {
        let listed = match self.source.list().await {
            // Whoever waits may come before the first export: in a bucket a folder is there once
            // it holds an object.
            Err(StoreError::NotFound { .. })
                if self.source.is_remote() && self.options.wait > Duration::ZERO =>
            {
                Vec::new()
            }
            listed => listed.map_err(PackError::source)?,
        };
        Ok(listed
            .into_iter()
            .map(|object| (object.name.clone(), object))
            .collect())
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
    async fn refuse(
        &self,
        mut verdict: SelectionResult,
        discovery: &Discovery,
        objects: &BTreeMap<String, ObjectInfo>,
        metadata: &mut MetadataCache,
        is_last: bool,
    ) -> Result<SetState, PackError> {
        let waiting_for = verdict.waiting_for();
        let may_ripen = verdict.may_resolve();
        let is_asked = self.options.all_faults || !self.source.is_remote();
        if (is_last || !may_ripen) && is_asked && !self.options.dry_run {
            let selected = verdict
                .exports
                .iter()
                .filter_map(|index| discovery.exports.get(*index))
                .cloned()
                .collect();
            let contents = metadata.contents_of(objects);
            let problems = self
                .remaining_problems(selected, objects, &contents)
                .await?;
            verdict.faults.extend(problems);
        }
        let error = verdict.into_error(self.options.wanted.latest);
        if may_ripen {
            Ok(SetState::Waiting { waiting_for, error })
        } else {
            Err(error)
        }
    }

    /// What else is wrong with an incomplete set: the faults in the data of those exports of which
    /// nothing is wrong so far.
    async fn remaining_problems(
        &self,
        exports: Vec<Export>,
        objects: &BTreeMap<String, ObjectInfo>,
        contents: &BTreeMap<String, Bytes>,
    ) -> Result<Vec<ExportFault>, PackError> {
        let exports: Vec<Export> = exports
            .into_iter()
            .filter(|export| export.faults.is_empty())
            .collect();
        let sources = sources_of(&exports, objects, contents, Method::Deflate);
        let mut inspector = ArchiveWriter::inspect_only(self.source.clone(), self.workers.clone());
        let entries = inspector.entries(sources, self.observer).await?;
        match assemble(&exports, entries, self.options) {
            Err(PackError::IncompleteSet { faults, .. }) => Ok(faults),
            // Whatever else there is to say comes when the set is complete.
            _ => Ok(Vec::new()),
        }
    }

    /// Reports a complete selection, and gives its exports.
    fn take_selected(&self, discovery: Discovery, mut verdict: SelectionResult) -> Vec<Export> {
        if !verdict.undecided.is_empty() {
            let open = verdict
                .undecided
                .iter()
                .filter_map(|index| discovery.exports.get(*index))
                .map(|export| export.title.as_str());
            let open = open.collect::<Vec<_>>().join(", ");
            verdict.warnings.push(format!("only the data, which a dry run does not read, tells the kinds and namespaces of {open}"));
        }
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
        verdict
            .exports
            .iter()
            .filter_map(|index| all.remove(index))
            .collect()
    }

    /// The exports whose data must be read before the set can be judged or named.
    fn open_exports<'d>(
        &self,
        discovery: &'d Discovery,
        verdict: &SelectionResult,
        pairs: &KnownKinds,
    ) -> Vec<&'d Export> {
        let unnamed = verdict
            .exports
            .iter()
            .filter(|_| matches!(self.name, ArchiveName::Automatic));
        let indices: BTreeSet<usize> = unnamed.chain(&verdict.undecided).copied().collect();
        let exports = indices
            .into_iter()
            .filter_map(|index| discovery.exports.get(index));
        exports
            .filter(|export| known_pairs(export, pairs).is_none())
            .collect()
    }
}
