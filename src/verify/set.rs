//! Proves the set: totals, kinds, counts, completion markers and names, held against one another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use sha2::Digest as _;

use super::entries::{EntryReport, EntryReports};
use super::error::VerifyError;
use crate::archive::{Archive, checksums};
use crate::entity::scan::{KindStats, ScanResult};
use crate::export::discover::{self, Discovery, ExportPart, ListedObject, Problem};
use crate::export::inspect::{self, ObjectDigest};
use crate::export::stored_metadata::MetadataStore;
use crate::model::{
    BackupInfo, EntryInfo, KindInfo, KindRef, Manifest, MissingKind, SUMS_NAME, Selector, Sha256,
    Timestamp, Totals,
};

/// Compares the manifest's totals with its items.
pub(super) fn check_totals(archive: &Archive) -> Vec<String> {
    let (totals, sums) = (&archive.manifest().totals, sums_of(archive.manifest()));
    let checks = [
        difference("totals.kinds", sums.kinds, totals.kinds),
        difference("totals.entities", sums.entities, totals.entities),
        difference("totals.entries", sums.entries, totals.entries),
        difference("totals.bytes", sums.bytes, totals.bytes),
    ];
    checks.into_iter().flatten().collect()
}

/// The totals that the items of a manifest come to.
fn sums_of(manifest: &Manifest) -> Totals {
    let objects = manifest.objects();
    let sum = |numbers: &mut dyn Iterator<Item = u64>| numbers.fold(0, u64::saturating_add);
    Totals {
        kinds: manifest.kinds.len() as u64,
        entities: sum(&mut manifest.kinds.iter().map(|kind| kind.entities)),
        entries: objects.len() as u64,
        bytes: sum(&mut objects.iter().map(|item| item.bytes)),
    }
}

/// The problem of a field of the manifest that has another value than expected.
fn difference<T>(field: &str, expected: T, found: T) -> Option<String>
where
    T: PartialEq + Display,
{
    let problem = || format!("manifest.json: {field}: expected {expected}, found {found}");
    (expected != found).then(problem)
}

/// Finds kinds that the manifest lists as missing and as there.
pub(super) fn check_missing(archive: &Archive) -> impl Iterator<Item = String> {
    let missing = archive.manifest().missing.iter().map(MissingKind::pair);
    let there = missing.filter(|pair| archive.kind(pair).is_some());
    there.map(|pair| format!("manifest.json: it lists {pair} as missing, which is there"))
}

/// Compares what the manifest says of each pair with what its outputs hold.
pub(super) fn check_kinds(
    archive: &Archive,
    reports: &EntryReports,
    of: impl Fn(&KindRef) -> bool,
) -> Vec<String> {
    let kinds = archive.manifest().kinds.iter();
    // What could not be read was reported already.
    let read = kinds.filter(|kind| of(&kind.pair()) && is_read(kind, reports));
    read.flat_map(|kind| check_kind(kind, &scan_of(kind, reports)))
        .collect()
}

fn is_read(kind: &KindInfo, reports: &EntryReports) -> bool {
    let mut outputs = kind.outputs();
    outputs.all(|output| reports.contains_key(&output.name))
}

/// What the outputs of a kind hold of it.
fn scan_of(kind: &KindInfo, reports: &EntryReports) -> KindStats {
    let (pair, mut scan) = (kind.pair(), KindStats::default());
    let outputs = kind.outputs();
    let read = outputs.filter_map(|output| reports.get(&output.name));
    read.filter_map(|report| report.inspected.scan.pairs.get(&pair))
        .for_each(|found| scan.merge(found));
    scan
}

fn check_kind(kind: &KindInfo, scan: &KindStats) -> Vec<String> {
    let pair = kind.pair();
    let compare = |what: &str, expected: String, found: String| {
        difference(&format!("{what} of {pair}"), expected, found)
    };
    let count =
        |what, expected: u64, found: u64| compare(what, expected.to_string(), found.to_string());
    let reference_kinds: BTreeSet<_> = scan.references.keys().map(|pair| &pair.kind).collect();
    let [parents, pairs, kinds] = [
        (join_names(&scan.parents), join_names(&kind.parents)),
        (
            join_names(scan.references.keys()),
            join_names(&kind.reference_pairs),
        ),
        (join_names(reference_kinds), join_names(&kind.references)),
    ];
    let checks = [
        count("entities", scan.entities, kind.entities),
        count("bytes", scan.bytes, kind.bytes),
        compare("parents", parents.0, parents.1),
        compare("references", pairs.0, pairs.1),
        compare("references", kinds.0, kinds.1),
        // Archives of earlier versions have none.
        kind.reference_counts.as_ref().and_then(|counts| {
            let expected = join_names(scan.references.values());
            compare("reference_counts", expected, join_names(counts))
        }),
    ];
    checks.into_iter().flatten().collect()
}

fn join_names<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.as_slice() {
        [] => "none".to_owned(),
        items => items.join(", "),
    }
}

/// Proves the set anew, without the manifest's word: completion markers, listed objects, counts,
/// kinds and namespaces of the keys.
pub(super) fn check_set(
    archive: &Archive,
    reports: &EntryReports,
    metadata: &MetadataStore,
) -> Result<Vec<String>, VerifyError> {
    let mut problems = Vec::from_iter(check_sums(archive, reports));
    if reports.len() != archive.manifest().objects().len() + 1 {
        // Some entry could not be read: what is missing now is no news.
        return Ok(problems);
    }
    let accepted = accepted_selectors(archive.manifest());
    let discovery = discover_entries(reports, metadata, &accepted)?;
    problems.extend(discovery.unrelated.iter().map(unrelated_problem));
    problems.extend(check_backup(archive, &discovery, reports));
    let mut groups = GroupChecker::new(reports, &accepted);
    problems.extend(groups.check_exports(&discovery));
    problems.extend(check_names(archive, &discovery));
    problems.extend(groups.check_manifest(archive));
    Ok(problems)
}

/// Compares the digest of `SHA256SUMS` with that of the lines that the manifest gives.
fn check_sums(archive: &Archive, reports: &EntryReports) -> Option<String> {
    let expected =
        || Sha256(sha2::Sha256::digest(checksums::from_entries(archive.manifest())).into());
    let report = reports.get(SUMS_NAME)?;
    (report.inspected.sha256 != expected())
        .then(|| format!("{SUMS_NAME}: its lines are not the digests that the manifest lists"))
}

/// The pairs whose counts in the metadata are wrong and accepted.
fn accepted_selectors(manifest: &Manifest) -> Vec<Selector> {
    let kinds = manifest.kinds.iter();
    let accepted = kinds.filter(|kind| kind.announced_entities.is_some());
    accepted.map(|kind| Selector::from(&kind.pair())).collect()
}

fn unrelated_problem(name: &String) -> String {
    format!("exports/{name}: it belongs to no export")
}

/// Discovers the exports among the entries.
fn discover_entries(
    reports: &EntryReports,
    metadata: &MetadataStore,
    accepted: &[Selector],
) -> Result<Discovery, VerifyError> {
    let listing: Vec<ListedObject> = reports.values().filter_map(listed).collect();
    let mut discovery = discover::discover(&listing, metadata);
    let exports = discovery.exports.iter_mut();
    exports.for_each(|export| export.accept_counts(accepted));
    match metadata.lacking(&discovery) {
        Some(name) => Err(VerifyError::MemoryTooSmall {
            name: format!("exports/{name}"),
        }),
        None => Ok(discovery),
    }
}

/// An entry of an export, as SOURCE listed it.
fn listed(report: &EntryReport) -> Option<ListedObject> {
    let item = &report.item;
    Some(ListedObject {
        name: item.name.strip_prefix("exports/")?.to_owned(),
        len: item.bytes,
        is_encoded: item.content_encoding.is_some(),
    })
}

/// Compares what the manifest says of the backup as a whole with keys and metadata.
fn check_backup(archive: &Archive, discovery: &Discovery, reports: &EntryReports) -> Vec<String> {
    let expected = expected_backup(discovery, reports, &archive.manifest().backup);
    let found = recorded_backup(&archive.manifest().backup);
    let fields = ["project", "started", "finished", "id"].into_iter();
    let pairs = fields.zip(expected.into_iter().zip(found));
    let wrong = pairs.filter(|(_, (expected, found))| !(expected == "none" && found.is_empty()));
    wrong
        .filter_map(|(field, (expected, found))| {
            difference(&format!("backup.{field}"), expected, found)
        })
        .collect()
}

/// Project, start, end and id of the backup, as the manifest has them.
fn recorded_backup(backup: &BackupInfo) -> [String; 4] {
    [
        display_origin(&backup.project, &backup.database),
        display_time(backup.started),
        display_time(backup.finished),
        backup.id.clone(),
    ]
}

/// The same, as keys and metadata give them.
fn expected_backup(
    discovery: &Discovery,
    reports: &EntryReports,
    recorded: &BackupInfo,
) -> [String; 4] {
    let exports = || discovery.exports.iter();
    let starts = || exports().filter_map(|export| export.started);
    let id = starts().max().map(Timestamp::to_archive_id);
    [
        join_names(origins_of(reports)),
        display_time(starts().min()),
        display_time(exports().filter_map(|export| export.finished).max()),
        id.unwrap_or_else(|| recorded.id.clone()),
    ]
}

/// Projects and databases of all keys, in order.
fn origins_of(reports: &EntryReports) -> impl Iterator<Item = String> {
    let origins = reports
        .values()
        .flat_map(|report| &report.inspected.scan.origins);
    let origins: BTreeSet<&(String, String)> = origins.collect();
    origins
        .into_iter()
        .map(|(project, database)| display_origin(project, database))
}

fn display_origin(project: &str, database: &str) -> String {
    match database {
        "" => project.to_owned(),
        database => format!("{project}/{database}"),
    }
}

fn display_time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "none".to_owned(), |time| time.to_string())
}

/// Compares the names that the manifest says the metadata give with those that they do give.
fn check_names(archive: &Archive, discovery: &Discovery) -> Vec<String> {
    let exports = discovery.exports.iter();
    let listed_as: BTreeMap<&String, &String> =
        exports.flat_map(|export| &export.listed_as).collect();
    let objects = archive.manifest().objects().into_iter();
    objects
        .filter_map(|item| check_name(item, &listed_as))
        .collect()
}

fn check_name(item: &EntryInfo, listed_as: &BTreeMap<&String, &String>) -> Option<String> {
    let name = item.name.strip_prefix("exports/").unwrap_or(&item.name);
    let expected = listed_as.get(&name.to_owned());
    let expected = expected.map(|name| format!("exports/{name}"));
    let display = |name: Option<String>| name.unwrap_or_else(|| "none".to_owned());
    let (expected, found) = (display(expected), display(item.listed_as.clone()));
    difference(&format!("listed_as of {}", item.name), expected, found)
}

/// Checks the groups of exports, and collects what they hold.
struct GroupChecker<'a> {
    reports: &'a EntryReports,
    accepted: &'a [Selector],
    pairs: BTreeSet<KindRef>,
    /// Counts of metadata that are wrong and accepted.
    announced: BTreeMap<KindRef, u64>,
}

impl<'a> GroupChecker<'a> {
    fn new(reports: &'a EntryReports, accepted: &'a [Selector]) -> Self {
        GroupChecker {
            reports,
            accepted,
            pairs: BTreeSet::new(),
            announced: BTreeMap::new(),
        }
    }

    fn check_exports(&mut self, discovery: &Discovery) -> Vec<String> {
        let mut problems = Vec::new();
        for export in &discovery.exports {
            problems.extend(export.faults.iter().map(|fault| format!("exports/{fault}")));
            let groups = export.groups.iter();
            problems.extend(groups.flat_map(|group| self.check(group, &export.title)));
        }
        problems
    }

    /// Checks that the outputs of a group hold what its metadata say.
    fn check(&mut self, group: &ExportPart, title: &str) -> Vec<String> {
        let (mut problems, mut scan) = (Vec::new(), ScanResult::default());
        for output in &group.outputs {
            problems.extend(self.check_output(&output.name, group, &mut scan));
        }
        let metadata = group.metadata.as_deref().unwrap_or(title);
        let fault = inspect::sum_fault(metadata, group, &scan);
        if self.is_accepted(fault.as_ref(), &scan) {
            self.add_announced(group, scan);
        } else {
            problems.extend(fault.map(|fault| format!("exports/{fault}")));
        }
        problems
    }

    /// Adds what an output holds to `scan`, and gives what is wrong with it.
    fn check_output(
        &mut self,
        name: &str,
        group: &ExportPart,
        scan: &mut ScanResult,
    ) -> Vec<String> {
        let Some(report) = self.reports.get(&format!("exports/{name}")) else {
            return Vec::new();
        };
        let inspected = &report.inspected;
        scan.merge(&inspected.scan);
        self.pairs.extend(inspected.scan.pairs.keys().cloned());
        output_problems(name, inspected, group)
    }

    fn is_accepted(&self, fault: Option<&Problem>, scan: &ScanResult) -> bool {
        fault.is_some_and(|fault| fault.count_of.is_some()) && inspect::accepts(self.accepted, scan)
    }

    /// Notes the count of the metadata for each pair of a group.
    fn add_announced(&mut self, group: &ExportPart, scan: ScanResult) {
        let announced = group.entities.expect("only a count can be contradicted");
        for pair in scan.pairs.into_keys() {
            *self.announced.entry(pair).or_default() += announced;
        }
    }

    /// Compares the manifest with all that the groups hold.
    fn check_manifest(mut self, archive: &Archive) -> Vec<String> {
        let kinds = &archive.manifest().kinds;
        let mut problems = Vec::new();
        problems.extend(kinds.iter().filter_map(|kind| self.check_announced(kind)));
        let listed: BTreeSet<KindRef> = kinds.iter().map(|kind| kind.pair()).collect();
        let unlisted = self.pairs.difference(&listed);
        problems.extend(
            unlisted.map(|pair| format!("manifest.json: it does not list {pair}, which is there")),
        );
        problems
    }

    fn check_announced(&mut self, kind: &KindInfo) -> Option<String> {
        let pair = kind.pair();
        let expected = display_count(self.announced.remove(&pair));
        let found = display_count(kind.announced_entities);
        difference(&format!("announced_entities of {pair}"), expected, found)
    }
}

fn display_count(count: Option<u64>) -> String {
    count.map_or_else(|| "none".to_owned(), |count| count.to_string())
}

fn output_problems(name: &str, inspected: &ObjectDigest, group: &ExportPart) -> Vec<String> {
    let faults = inspect::output_faults(name, inspected, group).into_iter();
    // That a log cannot be read was reported with its entry.
    let strange = faults.skip(usize::from(inspected.fault.is_some()));
    strange.map(|fault| format!("exports/{fault}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ExportFormat, Kind, Namespace};

    fn order(reference_counts: Option<Vec<u64>>) -> KindInfo {
        KindInfo {
            namespace: Namespace::default(),
            kind: Kind::new("Order"),
            format: ExportFormat::ManagedExport,
            entities: 0,
            announced_entities: None,
            bytes: 0,
            started: None,
            finished: None,
            parents: Vec::new(),
            references: ["Customer", "Product"].map(Kind::new).to_vec(),
            reference_pairs: ["Customer", "Product"]
                .map(|kind| KindRef::new("", kind))
                .to_vec(),
            reference_counts,
            entries: Vec::new(),
        }
    }

    #[test]
    fn wrong_reference_counts_are_problems() {
        let references = [("Customer", 7), ("Product", 41)];
        let references = references.map(|(kind, count)| (KindRef::new("", kind), count));
        let scan = KindStats {
            references: references.into(),
            ..KindStats::default()
        };
        let problems = |counts| check_kind(&order(counts), &scan);
        assert_eq!(problems(Some(vec![7, 41])), [""; 0]);
        assert_eq!(
            problems(Some(vec![41, 7])),
            ["manifest.json: reference_counts of (default)/Order: expected 7, 41, found 41, 7"]
        );
        assert_eq!(problems(None), [""; 0], "an archive of an earlier version");
    }
}
