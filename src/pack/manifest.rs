//! From what the entries hold to the manifest, or to all that is wrong with the set. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ExportFault, PackError};
use super::options::PackRequest;
use super::pipeline::InspectedEntry;
use super::select;
use crate::entity::scan::ScanResult;
use crate::export::discover::{Export, ExportPart, Problem};
use crate::export::inspect;
use crate::model::{
    BackupInfo, Crc32c, EmptyExport, EntryInfo, EntryRole, KindInfo, KindRef, MANIFEST_FORMAT,
    Manifest, MissingKind, SUMS_NAME, Selector, Sha256, Timestamp, ToolInfo, Totals,
};

/// Compares every entry with what its export says, and makes the manifest of the set. (`sums` is
/// filled in when that entry is written.)
///
/// The request says what the set lacks, and of which pairs the entities may be more or fewer than
/// the metadata count.
pub(super) fn assemble(
    exports: &[Export],
    entries: Vec<InspectedEntry>,
    request: &PackRequest,
) -> Result<Manifest, PackError> {
    let mut entries: BTreeMap<String, InspectedEntry> = entries
        .into_iter()
        .map(|entry| (entry.name.clone(), entry))
        .collect();
    let mut collector = KindCollector::new(&request.accept_count);
    for export in exports {
        collector.add_export(&ExportEntries::from_export(export, &mut entries));
    }
    collector.finish(exports, request)
}

/// The entries of one export, each with the group that lists it; those that belong to the export as
/// a whole have none.
struct ExportEntries<'a> {
    export: &'a Export,
    entries: Vec<(Option<usize>, InspectedEntry)>,
}

impl<'a> ExportEntries<'a> {
    fn from_export(export: &'a Export, entries: &mut BTreeMap<String, InspectedEntry>) -> Self {
        let entries = export
            .objects()
            .into_iter()
            .filter_map(|object| {
                let entry = entries.remove(&format!("exports/{}", object.name))?;
                Some((object.group, entry))
            })
            .collect();
        ExportEntries { export, entries }
    }

    /// All of them as the manifest lists them.
    fn all_items(&self) -> Vec<EntryInfo> {
        self.entries
            .iter()
            .map(|(_, entry)| self.item(entry))
            .collect()
    }

    /// Those of one group and of the export as a whole.
    fn items_of(&self, group: usize) -> Vec<EntryInfo> {
        self.entries
            .iter()
            .filter(|(of, _)| of.is_none_or(|of| of == group))
            .map(|(_, entry)| self.item(entry))
            .collect()
    }

    fn item(&self, entry: &InspectedEntry) -> EntryInfo {
        let listed_as = entry
            .name
            .strip_prefix("exports/")
            .and_then(|name| self.export.listed_as.get(name));
        EntryInfo {
            listed_as: listed_as.map(|name| format!("exports/{name}")),
            ..entry.item()
        }
    }

    fn outputs_of(&self, group: usize) -> impl Iterator<Item = &InspectedEntry> {
        self.entries
            .iter()
            .filter(move |(of, entry)| *of == Some(group) && entry.role == EntryRole::Output)
            .map(|(_, entry)| entry)
    }
}

/// Collects the kinds of all exports, and what is wrong with them.
struct KindCollector<'a> {
    accepted: &'a [Selector],
    faults: Vec<ExportFault>,
    duplicates: Vec<ExportFault>,
    /// Each pair, with the export that holds it.
    kinds: BTreeMap<KindRef, (KindInfo, String)>,
    empty_exports: Vec<EmptyExport>,
    origins: BTreeSet<(String, String)>,
    totals: Totals,
}

impl<'a> KindCollector<'a> {
    fn new(accepted: &'a [Selector]) -> Self {
        KindCollector {
            accepted,
            faults: Vec::new(),
            duplicates: Vec::new(),
            kinds: BTreeMap::new(),
            empty_exports: Vec::new(),
            origins: BTreeSet::new(),
            totals: Totals {
                kinds: 0,
                entities: 0,
                entries: 0,
                bytes: 0,
            },
        }
    }

    fn add_export(&mut self, entries: &ExportEntries<'_>) {
        self.count(entries);
        let mut kinds = BTreeMap::new();
        for (index, group) in entries.export.groups.iter().enumerate() {
            self.add_group(entries, index, group, &mut kinds);
        }
        if kinds.is_empty() {
            let entries = entries.all_items();
            self.empty_exports.push(EmptyExport { entries });
        }
        for (pair, item) in kinds {
            self.add_kind(pair, item, &entries.export.title);
        }
    }

    fn count(&mut self, entries: &ExportEntries<'_>) {
        let bytes = entries.entries.iter().map(|(_, entry)| entry.inspected.len);
        self.totals.entries += entries.entries.len() as u64;
        self.totals.bytes += bytes.sum::<u64>();
    }

    /// Adds a pair of an export; one that another export holds already is a fault.
    fn add_kind(&mut self, pair: KindRef, item: KindInfo, title: &str) {
        let before = self.kinds.insert(pair.clone(), (item, title.to_owned()));
        if let Some((_, other)) = before {
            let duplicate = select::duplicate(&pair, &other, title);
            self.duplicates.push(duplicate);
        }
    }

    /// Adds what a group of an export holds to the export's kinds.
    fn add_group(
        &mut self,
        entries: &ExportEntries<'_>,
        index: usize,
        group: &ExportPart,
        kinds: &mut BTreeMap<KindRef, KindInfo>,
    ) {
        let scan = self.check_group(entries, index, group);
        self.origins.extend(scan.found.origins.iter().cloned());
        for pair in pairs_of(group, &scan.found) {
            let item = kinds.entry(pair.clone());
            let item = item.or_insert_with(|| new_item(&pair, entries.export));
            add(item, &scan.found, &pair);
            add_announced(item, scan.announced);
            add_entries(item, entries.items_of(index));
        }
    }

    /// Checks the outputs of a group: readable, of its kind and namespace, as many entities as its
    /// metadata count.
    fn check_group(
        &mut self,
        entries: &ExportEntries<'_>,
        index: usize,
        group: &ExportPart,
    ) -> GroupScan {
        let title = &entries.export.title;
        let (mut scan, mut is_readable) = (ScanResult::default(), true);
        for output in entries.outputs_of(index) {
            self.check_output(output, group, title);
            is_readable &= output.inspected.fault.is_none();
            scan.merge(&output.inspected.scan);
        }
        // Of a log that cannot be read to its end the count says nothing new.
        let announced = match is_readable {
            true => self.check_count(group, &scan, title),
            false => None,
        };
        let found = scan;
        GroupScan { found, announced }
    }

    fn check_output(&mut self, output: &InspectedEntry, group: &ExportPart, title: &str) {
        let name = output.name.strip_prefix("exports/").unwrap_or(&output.name);
        let faults = inspect::output_faults(name, &output.inspected, group);
        for fault in faults {
            self.add_fault(title, fault);
        }
    }

    /// Compares the entities of a group with the count of its metadata; gives the count where it is
    /// wrong and accepted.
    fn check_count(&mut self, group: &ExportPart, scan: &ScanResult, title: &str) -> Option<u64> {
        let metadata = group.metadata.as_deref().unwrap_or(title);
        let fault = inspect::sum_fault(metadata, group, scan)?;
        if fault.count_of.is_some() && inspect::accepts(self.accepted, scan) {
            return group.entities;
        }
        self.add_fault(title, fault);
        None
    }

    fn add_fault(&mut self, title: &str, fault: Problem) {
        let export = title.to_owned();
        self.faults.push(ExportFault { export, fault });
    }

    /// The manifest, unless anything is wrong.
    fn finish(mut self, exports: &[Export], request: &PackRequest) -> Result<Manifest, PackError> {
        self.refuse_faults()?;
        let missing = self.missing_of(request)?;
        let kinds: Vec<KindInfo> = self.kinds.into_values().map(|(item, _)| item).collect();
        self.totals.kinds = kinds.len() as u64;
        self.totals.entities = kinds.iter().map(|kind| kind.entities).sum();
        Ok(Manifest {
            format: MANIFEST_FORMAT.to_owned(),
            tool: this_tool(),
            backup: backup(exports, self.origins, request.snapshot_time)?,
            kinds,
            empty_exports: self.empty_exports,
            missing,
            companions: Vec::new(),
            sums: unwritten_sums(),
            options: request.recorded(),
            totals: self.totals,
        })
    }

    fn refuse_faults(&mut self) -> Result<(), PackError> {
        if self.faults.is_empty() && self.duplicates.is_empty() {
            return Ok(());
        }
        Err(PackError::IncompleteSet {
            faults: std::mem::take(&mut self.faults),
            unnamed: Vec::new(),
            duplicates: std::mem::take(&mut self.duplicates),
            missing: Vec::new(),
            stale: Vec::new(),
            is_latest: false,
        })
    }

    /// The kinds that the set lacks, in order. One of which there is an export is not missing.
    fn missing_of(&self, request: &PackRequest) -> Result<Vec<MissingKind>, PackError> {
        let mut missing = request.missing.clone();
        missing.sort_by_key(MissingKind::pair);
        missing.dedup_by_key(|kind| kind.pair());
        let is_there = |kind: &&MissingKind| self.kinds.contains_key(&kind.pair());
        match missing.iter().find(is_there) {
            Some(kind) => Err(PackError::NotMissing(kind.pair())),
            None => Ok(missing),
        }
    }
}

/// What the outputs of a group hold.
struct GroupScan {
    found: ScanResult,
    /// The count of the metadata, where it is wrong and accepted.
    announced: Option<u64>,
}

/// The pairs of a group; where nothing was exported, the one that its metadata name.
fn pairs_of(group: &ExportPart, scan: &ScanResult) -> Vec<KindRef> {
    if !scan.pairs.is_empty() {
        return scan.pairs.keys().cloned().collect();
    }
    let named = group.kind.clone().map(|kind| KindRef {
        // Of which namespace it is, nothing says: the default one stands for it.
        namespace: group.namespace.clone().unwrap_or_default(),
        kind,
    });
    named.into_iter().collect()
}

/// The backup as a whole.
fn backup(
    exports: &[Export],
    origins: BTreeSet<(String, String)>,
    snapshot_time: Option<Timestamp>,
) -> Result<BackupInfo, PackError> {
    let (project, database) = only_origin(origins)?;
    let starts = || exports.iter().filter_map(|export| export.started);
    Ok(BackupInfo {
        id: backup_id(starts().max()),
        project,
        database,
        started: starts().min(),
        finished: exports.iter().filter_map(|export| export.finished).max(),
        snapshot_time,
    })
}

/// The project and database of all entities. A set without entities is of no project.
fn only_origin(mut origins: BTreeSet<(String, String)>) -> Result<(String, String), PackError> {
    if origins.len() > 1 {
        let names = origins.into_iter().map(display_origin);
        return Err(PackError::MultipleProjects(names.collect()));
    }
    Ok(origins.pop_first().unwrap_or_default())
}

fn display_origin((project, database): (String, String)) -> String {
    match database.as_str() {
        "" => project,
        database => format!("{project}/{database}"),
    }
}

fn this_tool() -> ToolInfo {
    ToolInfo {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The id of a backup: when its newest export began.
pub(super) fn backup_id(newest_start: Option<Timestamp>) -> String {
    newest_start.map_or_else(|| "19800101000000".to_owned(), Timestamp::to_archive_id)
}

/// `SHA256SUMS` before it is written.
fn unwritten_sums() -> EntryInfo {
    EntryInfo {
        name: SUMS_NAME.to_owned(),
        role: EntryRole::Sums,
        listed_as: None,
        content_encoding: None,
        content_type: None,
        bytes: 0,
        sha256: Sha256([0; 32]),
        crc32c: Crc32c(0),
        packed_crc32c: None,
        pieces: Vec::new(),
    }
}

fn new_item(pair: &KindRef, export: &Export) -> KindInfo {
    KindInfo {
        namespace: pair.namespace.clone(),
        kind: pair.kind.clone(),
        format: export.format,
        entities: 0,
        announced_entities: None,
        bytes: 0,
        started: export.started,
        finished: export.finished,
        parents: Vec::new(),
        references: Vec::new(),
        reference_pairs: Vec::new(),
        reference_counts: Some(Vec::new()),
        entries: Vec::new(),
    }
}

/// Adds what the outputs of one group hold of a pair.
fn add(item: &mut KindInfo, scan: &ScanResult, pair: &KindRef) {
    let Some(found) = scan.pairs.get(pair) else {
        return;
    };
    item.entities += found.entities;
    item.bytes += found.bytes;
    merge_sorted(&mut item.parents, &found.parents);
    add_references(item, &found.references);
}

/// Adds what properties refer to.
fn add_references(item: &mut KindInfo, found: &BTreeMap<KindRef, u64>) {
    let known = item.counted_references();
    let known = known.map(|(pair, count)| (pair.clone(), count.unwrap_or_default()));
    let mut counts: BTreeMap<KindRef, u64> = known.collect();
    for (pair, count) in found {
        *counts.entry(pair.clone()).or_default() += count;
    }
    let kinds: BTreeSet<_> = counts.keys().map(|pair| pair.kind.clone()).collect();
    item.references = kinds.into_iter().collect();
    let (pairs, counts) = counts.into_iter().unzip();
    (item.reference_pairs, item.reference_counts) = (pairs, Some(counts));
}

/// Adds items to others, each once and in order.
fn merge_sorted<T: Ord + Clone>(items: &mut Vec<T>, more: &BTreeSet<T>) {
    let all: BTreeSet<T> = items.drain(..).chain(more.iter().cloned()).collect();
    items.extend(all);
}

fn add_announced(item: &mut KindInfo, announced: Option<u64>) {
    if let Some(announced) = announced {
        *item.announced_entities.get_or_insert(0) += announced;
    }
}

/// Adds the entries that the item does not list yet.
fn add_entries(item: &mut KindInfo, entries: Vec<EntryInfo>) {
    let known = item.entries.iter().map(|entry| entry.name.clone());
    let known: BTreeSet<String> = known.collect();
    let new = entries.into_iter();
    let new = new.filter(|entry| !known.contains(&entry.name));
    item.entries.extend(new);
}
