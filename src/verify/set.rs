//! Proves the set: totals, kinds, counts, completion markers and names, held against one another.

use std::collections::{BTreeMap, BTreeSet};

use sha2::Digest as _;

use super::entries::EntryReport;
use super::error::VerifyError;
use crate::archive::{Archive, checksums};
use crate::entity::scan::{KindStats, ScanResult};
use crate::export::discover::{self, Discovery, ExportPart, ListedObject};
use crate::export::inspect;
use crate::export::stored_metadata::MetadataStore;
use crate::model::{EntryInfo, KindRef, MissingKind, SUMS_NAME, Selector, Sha256, Timestamp};

/// Compares the manifest's totals with its items.
pub(super) fn check_totals(archive: &Archive) -> Vec<String> {
    let manifest = archive.manifest();
    let objects = manifest.objects();
    let sums = [
        ("kinds", manifest.totals.kinds, manifest.kinds.len() as u64),
        (
            "entities",
            manifest.totals.entities,
            manifest
                .kinds
                .iter()
                .fold(0, |sum, kind| kind.entities.saturating_add(sum)),
        ),
        ("entries", manifest.totals.entries, objects.len() as u64),
        (
            "bytes",
            manifest.totals.bytes,
            objects
                .iter()
                .fold(0, |sum, item| item.bytes.saturating_add(sum)),
        ),
    ];
    let wrong = sums.into_iter().filter(|(_, total, sum)| total != sum);
    wrong
        .map(|(what, total, sum)| {
            format!("manifest.json: totals.{what}: expected {sum}, found {total}")
        })
        .collect()
}

/// Finds kinds that the manifest lists as missing and as there.
pub(super) fn check_missing(archive: &Archive) -> impl Iterator<Item = String> {
    let missing = archive.manifest().missing.iter().map(MissingKind::pair);
    let there = missing.filter(|pair| archive.kind(pair).is_some());
    there.map(|pair| format!("manifest.json: {pair} is listed as missing and is there"))
}

/// Compares what the manifest says of each pair with what its outputs hold.
pub(super) fn check_kinds(
    archive: &Archive,
    reports: &BTreeMap<String, EntryReport>,
    of: impl Fn(&KindRef) -> bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    for kind in &archive.manifest().kinds {
        let pair = kind.pair();
        if !of(&pair)
            || kind
                .outputs()
                .any(|output| !reports.contains_key(&output.name))
        {
            // What could not be read was reported already.
            continue;
        }
        let mut scan = KindStats::default();
        for output in kind
            .outputs()
            .filter_map(|output| reports.get(&output.name))
        {
            if let Some(found) = output.inspected.scan.pairs.get(&pair) {
                scan.merge(found);
            }
        }
        let mut check = |what: &str, expected: String, found: String| {
            if expected != found {
                problems.push(format!(
                    "manifest.json: {what} of {pair}: expected {expected}, found {found}"
                ));
            }
        };
        let reference_kinds: BTreeSet<_> = scan.references.iter().map(|pair| &pair.kind).collect();
        check(
            "entities",
            scan.entities.to_string(),
            kind.entities.to_string(),
        );
        check("bytes", scan.bytes.to_string(), kind.bytes.to_string());
        check(
            "parents",
            join_names(&scan.parents),
            join_names(&kind.parents),
        );
        check(
            "references",
            join_names(&scan.references),
            join_names(&kind.reference_pairs),
        );
        check(
            "references",
            join_names(reference_kinds),
            join_names(&kind.references),
        );
    }
    problems
}

fn join_names<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

/// Proves the set anew, without the manifest's word: completion markers, listed objects, counts,
/// kinds and namespaces of the keys.
pub(super) fn check_set(
    archive: &Archive,
    reports: &BTreeMap<String, EntryReport>,
    metadata: &MetadataStore,
) -> Result<Vec<String>, VerifyError> {
    let mut problems = Vec::new();
    let sums = || Sha256(sha2::Sha256::digest(checksums::from_entries(archive.manifest())).into());
    if reports
        .get(SUMS_NAME)
        .is_some_and(|report| report.inspected.sha256 != sums())
    {
        problems.push(format!("{SUMS_NAME}: expected a line for each entry, with the manifest's digests, found other lines"));
    }
    if reports.len() != archive.manifest().objects().len() + 1 {
        // Some entry could not be read: what is missing now is no news.
        return Ok(problems);
    }
    let accepted: Vec<Selector> = archive
        .manifest()
        .kinds
        .iter()
        .filter(|kind| kind.announced_entities.is_some())
        .map(|kind| Selector::from(&kind.pair()))
        .collect();
    let discovery = discover_entries(reports, metadata, &accepted)?;
    problems.extend(discovery.unrelated.iter().map(|name| {
        format!("exports/{name}: expected objects of exports, found one that belongs to none")
    }));
    problems.extend(check_backup(archive, &discovery, reports));
    let mut groups = GroupChecker {
        reports,
        accepted: &accepted,
        pairs: BTreeSet::new(),
        announced: BTreeMap::new(),
    };
    for export in &discovery.exports {
        problems.extend(export.faults.iter().map(|fault| format!("exports/{fault}")));
        for group in &export.groups {
            problems.extend(groups.check(group, &export.title));
        }
    }
    problems.extend(check_names(archive, &discovery));
    problems.extend(groups.check_manifest(archive));
    Ok(problems)
}

/// Discovers the exports among the entries.
fn discover_entries(
    reports: &BTreeMap<String, EntryReport>,
    metadata: &MetadataStore,
    accepted: &[Selector],
) -> Result<Discovery, VerifyError> {
    let listing: Vec<ListedObject> = reports
        .values()
        .filter_map(|report| {
            let name = report.item.name.strip_prefix("exports/")?;
            Some(listed(name.to_owned(), &report.item))
        })
        .collect();
    let mut discovery = discover::discover(&listing, metadata);
    discovery
        .exports
        .iter_mut()
        .for_each(|export| export.accept_counts(accepted));
    match metadata.lacking(&discovery) {
        Some(name) => Err(VerifyError::MemoryTooSmall {
            name: format!("exports/{name}"),
        }),
        None => Ok(discovery),
    }
}

fn listed(name: String, item: &EntryInfo) -> ListedObject {
    ListedObject {
        name,
        len: item.bytes,
        is_encoded: item.content_encoding.is_some(),
    }
}

/// Compares what the manifest says of the backup as a whole with keys and metadata.
fn check_backup(
    archive: &Archive,
    discovery: &Discovery,
    reports: &BTreeMap<String, EntryReport>,
) -> Vec<String> {
    let backup = &archive.manifest().backup;
    let origins: BTreeSet<&(String, String)> = reports
        .values()
        .flat_map(|report| &report.inspected.scan.origins)
        .collect();
    let origin = |(project, database): &(String, String)| {
        if database.is_empty() {
            project.clone()
        } else {
            format!("{project}/{database}")
        }
    };
    let time =
        |time: Option<Timestamp>| time.map_or_else(|| "none".to_owned(), |time| time.to_string());
    let starts = || discovery.exports.iter().filter_map(|export| export.started);
    let expected = [
        (
            "project",
            join_names(origins.into_iter().map(origin)),
            origin(&(backup.project.clone(), backup.database.clone())),
        ),
        ("started", time(starts().min()), time(backup.started)),
        (
            "finished",
            time(
                discovery
                    .exports
                    .iter()
                    .filter_map(|export| export.finished)
                    .max(),
            ),
            time(backup.finished),
        ),
        (
            "id",
            starts()
                .max()
                .map_or_else(|| backup.id.clone(), Timestamp::to_archive_id),
            backup.id.clone(),
        ),
    ];
    let wrong = expected.into_iter().filter(|(_, expected, found)| {
        expected != found && !(expected == "none" && found.is_empty())
    });
    wrong
        .map(|(what, expected, found)| {
            format!("manifest.json: backup.{what}: expected {expected}, found {found}")
        })
        .collect()
}

/// Compares the names that the manifest says the metadata give with those that they do give.
fn check_names(archive: &Archive, discovery: &Discovery) -> Vec<String> {
    let listed_as: BTreeMap<&String, &String> = discovery
        .exports
        .iter()
        .flat_map(|export| &export.listed_as)
        .collect();
    let mut problems = Vec::new();
    for item in archive.manifest().objects() {
        let name = item.name.strip_prefix("exports/").unwrap_or(&item.name);
        let expected = listed_as
            .get(&name.to_owned())
            .map(|name| format!("exports/{name}"));
        if item.listed_as != expected {
            let spelled = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
            let (expected, found) = (spelled(&expected), spelled(&item.listed_as));
            problems.push(format!(
                "manifest.json: listed_as of {}: expected {expected}, found {found}",
                item.name
            ));
        }
    }
    problems
}

/// Checks the groups of exports, and collects what they hold.
struct GroupChecker<'a> {
    reports: &'a BTreeMap<String, EntryReport>,
    accepted: &'a [Selector],
    pairs: BTreeSet<KindRef>,
    /// Counts of metadata that are wrong and accepted.
    announced: BTreeMap<KindRef, u64>,
}

impl GroupChecker<'_> {
    /// Checks that the outputs of a group hold what its metadata say.
    fn check(&mut self, group: &ExportPart, title: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let mut scan = ScanResult::default();
        for output in &group.outputs {
            let Some(report) = self.reports.get(&format!("exports/{}", output.name)) else {
                continue;
            };
            let inspected = &report.inspected;
            scan.merge(&inspected.scan);
            self.pairs.extend(inspected.scan.pairs.keys().cloned());
            // That a log cannot be read was reported with its entry.
            let strange = inspect::output_faults(&output.name, inspected, group)
                .into_iter()
                .skip(usize::from(inspected.fault.is_some()));
            problems.extend(strange.map(|fault| format!("exports/{fault}")));
        }
        match inspect::sum_fault(group.metadata.as_deref().unwrap_or(title), group, &scan) {
            Some(fault) if fault.count_of.is_some() && inspect::accepts(self.accepted, &scan) => {
                let announced = group.entities.expect("only a count can be contradicted");
                for pair in scan.pairs.into_keys() {
                    *self.announced.entry(pair).or_default() += announced;
                }
            }
            fault => problems.extend(fault.map(|fault| format!("exports/{fault}"))),
        }
        problems
    }

    /// Compares the manifest with all that the groups hold.
    fn check_manifest(mut self, archive: &Archive) -> Vec<String> {
        let mut problems = Vec::new();
        let kinds = &archive.manifest().kinds;
        let display =
            |count: Option<u64>| count.map_or_else(|| "none".to_owned(), |count| count.to_string());
        for kind in kinds {
            let pair = kind.pair();
            let expected = self.announced.remove(&pair);
            if kind.announced_entities != expected {
                let (expected, found) = (display(expected), display(kind.announced_entities));
                problems.push(format!(
                    "manifest.json: announced_entities of {pair}: expected {expected}, found {found}"
                ));
            }
        }
        let listed: BTreeSet<KindRef> = kinds.iter().map(|kind| kind.pair()).collect();
        problems.extend(
            self.pairs
                .difference(&listed)
                .map(|pair| format!("manifest.json: expected an item for {pair}, found none")),
        );
        problems
    }
}
