//! From what the entries told to the manifest, or to all that is wrong with the set. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{ExportFault, PackError, backup_id, select};
use crate::entity::scan::Scanned;
use crate::export::discover::Export;
use crate::export::inspect;
use crate::model::{
    BackupItem, Crc32c, EmptyExportItem, EntryItem, EntryRole, KindItem, MANIFEST_FORMAT, Manifest,
    PackOptions, Pair, SUMS_NAME, Selector, Sha256, ToolItem, Totals,
};
use crate::pack::stream::Looked;

/// Holds every entry against what its export says, and makes the manifest of the set. (`sums` is
/// filled in when that entry is sealed.)
///
/// `accepted` chooses the pairs of which the entities may be more or fewer than the metadata count.
pub(super) fn assemble(
    exports: &[Export],
    looked: Vec<Looked>,
    options: &PackOptions,
    accepted: &[Selector],
) -> Result<Manifest, PackError> {
    let mut looked: BTreeMap<String, Looked> = looked
        .into_iter()
        .map(|looked| (looked.name.clone(), looked))
        .collect();
    let (mut faults, mut duplicates) = (Vec::new(), Vec::new());
    let mut kinds: BTreeMap<Pair, (KindItem, &str)> = BTreeMap::new();
    let mut empty_exports = Vec::new();
    let mut origins = BTreeSet::new();
    let mut totals = Totals {
        kinds: 0,
        entities: 0,
        entries: 0,
        bytes: 0,
    };
    for export in exports {
        let objects: Vec<(usize, Looked)> = export
            .objects()
            .into_iter()
            .filter_map(|object| {
                Some((
                    object.group.unwrap_or(usize::MAX),
                    looked.remove(&format!("exports/{}", object.name))?,
                ))
            })
            .collect();
        totals.entries += objects.len() as u64;
        totals.bytes += objects
            .iter()
            .map(|(_, looked)| looked.inspected.len)
            .sum::<u64>();
        let items = |group: Option<usize>| -> Vec<EntryItem> {
            objects
                .iter()
                .filter(|(of, _)| group.is_none_or(|group| *of == group || *of == usize::MAX))
                .map(|(_, looked)| {
                    let listed_as = looked
                        .name
                        .strip_prefix("exports/")
                        .and_then(|name| export.listed_as.get(name));
                    EntryItem {
                        listed_as: listed_as.map(|name| format!("exports/{name}")),
                        ..looked.item()
                    }
                })
                .collect()
        };
        let fault = |fault| ExportFault {
            export: export.title.clone(),
            fault,
        };

        let mut found: BTreeMap<Pair, KindItem> = BTreeMap::new();
        for (index, group) in export.groups.iter().enumerate() {
            let mut scan = Scanned::default();
            let mut readable = true;
            for (_, output) in objects
                .iter()
                .filter(|(of, looked)| *of == index && looked.role == EntryRole::Output)
            {
                let name = output.name.strip_prefix("exports/").unwrap_or(&output.name);
                faults.extend(
                    inspect::output_faults(name, &output.inspected, group)
                        .into_iter()
                        .map(fault),
                );
                readable &= output.inspected.fault.is_none();
                scan.merge(&output.inspected.scan);
            }
            // Of a log that cannot be read to its end the count says nothing new.
            let mark = group.metadata.as_deref().unwrap_or(&export.title);
            let sum_fault = readable
                .then(|| inspect::sum_fault(mark, group, &scan))
                .flatten();
            let is_accepted = sum_fault
                .as_ref()
                .is_some_and(|fault| fault.count_of.is_some())
                && inspect::accepts(accepted, &scan);
            let announced = group.entities.filter(|_| is_accepted);
            faults.extend(sum_fault.filter(|_| !is_accepted).map(fault));
            origins.extend(scan.origins.iter().cloned());
            let nothing = scan.pairs.is_empty().then(|| {
                group.kind.clone().map(|kind| Pair {
                    namespace: group.namespace.clone().unwrap_or_default(),
                    kind,
                })
            });
            for pair in scan.pairs.keys().cloned().chain(nothing.flatten()) {
                let item = found
                    .entry(pair.clone())
                    .or_insert_with(|| new_item(&pair, export));
                add(item, &scan, &pair);
                item.announced_entities = announced
                    .map(|announced| item.announced_entities.unwrap_or_default() + announced)
                    .or(item.announced_entities);
                let known: BTreeSet<String> = item
                    .entries
                    .iter()
                    .map(|entry| entry.name.clone())
                    .collect();
                item.entries.extend(
                    items(Some(index))
                        .into_iter()
                        .filter(|entry| !known.contains(&entry.name)),
                );
            }
        }
        if found.is_empty() {
            empty_exports.push(EmptyExportItem {
                entries: items(None),
            });
        }
        for (pair, item) in found {
            if let Some((_, other)) = kinds.insert(pair.clone(), (item, &export.title)) {
                duplicates.push(select::duplicate(&pair, other, &export.title));
            }
        }
    }
    if !faults.is_empty() || !duplicates.is_empty() {
        return Err(PackError::NotWhole {
            faults,
            unnamed: Vec::new(),
            duplicates,
            missing: Vec::new(),
            stale: Vec::new(),
            is_latest: false,
        });
    }
    if origins.len() > 1 {
        let spelled = origins.into_iter().map(|(project, database)| {
            if database.is_empty() {
                project
            } else {
                format!("{project}/{database}")
            }
        });
        return Err(PackError::SeveralOrigins(spelled.collect()));
    }
    let (project, database) = origins.pop_first().unwrap_or_default();
    let kinds: Vec<KindItem> = kinds.into_values().map(|(item, _)| item).collect();
    totals.kinds = kinds.len() as u64;
    totals.entities = kinds.iter().map(|kind| kind.entities).sum();
    Ok(Manifest {
        format: MANIFEST_FORMAT.to_owned(),
        tool: ToolItem {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        backup: BackupItem {
            id: backup_id(exports.iter().filter_map(|export| export.started).max()),
            project,
            database,
            started: exports.iter().filter_map(|export| export.started).min(),
            finished: exports.iter().filter_map(|export| export.finished).max(),
        },
        kinds,
        empty_exports,
        companions: Vec::new(),
        sums: EntryItem {
            name: SUMS_NAME.to_owned(),
            role: EntryRole::Sums,
            listed_as: None,
            content_encoding: None,
            bytes: 0,
            sha256: Sha256([0; 32]),
            crc32c: Crc32c(0),
            packed_crc32c: None,
            pieces: Vec::new(),
        },
        options: options.clone(),
        totals,
    })
}

fn new_item(pair: &Pair, export: &Export) -> KindItem {
    KindItem {
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
        entries: Vec::new(),
    }
}

/// Adds what one group's outputs told about a pair.
fn add(item: &mut KindItem, scan: &Scanned, pair: &Pair) {
    let Some(told) = scan.pairs.get(pair) else {
        return;
    };
    item.entities += told.entities;
    item.bytes += told.bytes;
    let parents: BTreeSet<_> = item
        .parents
        .drain(..)
        .chain(told.parents.iter().cloned())
        .collect();
    let pairs: BTreeSet<_> = item
        .reference_pairs
        .drain(..)
        .chain(told.references.iter().cloned())
        .collect();
    let references: BTreeSet<_> = pairs.iter().map(|pair| pair.kind.clone()).collect();
    item.parents = parents.into_iter().collect();
    item.references = references.into_iter().collect();
    item.reference_pairs = pairs.into_iter().collect();
}
