//! Datastore Admin backups of 2012 to 2018: a `<KEY>.backup_info` lists the data objects by their
//! absolute names of that time.
//!
//! Knows the three ways in which data objects were named (`docs/formats.md` 7), and that backups
//! get moved to other folders.

use std::collections::{BTreeMap, BTreeSet};

use super::{Export, ExportPart, Listing, Problem, base, below, folder, output_number, title};
use crate::export::metadata::{ExportMetadata, LegacyBackup};
use crate::model::{ExportFormat, Kind};

const INFO: &str = ".backup_info";
const DATA: &str = "datastore_backup_";

pub(super) fn is_metadata(name: &str) -> bool {
    name.ends_with(INFO)
}

/// Whether bytes are the information of a backup or of one of its kinds.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    LegacyBackup::parse(bytes).is_ok() || ExportMetadata::parse(bytes).is_ok()
}

/// Every legacy backup, finished or not.
pub(super) fn discover(view: &mut Listing<'_>) -> Vec<Export> {
    let mut unread = UnreadableBackups::default();
    let mut exports = read_backups(view, &mut unread);
    exports.extend(unfinished_backups(view, &unread));
    refuse_unlisted(view, &unread, &mut exports);
    exports
}

/// Keys and folders of backups that cannot be read: what belongs to them cannot be told, and is no
/// fault of its own.
#[derive(Default)]
struct UnreadableBackups<'a> {
    keys: BTreeSet<&'a str>,
    folders: BTreeSet<&'a str>,
}

impl UnreadableBackups<'_> {
    /// Whether one of them may list a data object: that is beside its backup's information, or two
    /// folders below.
    fn may_list(&self, name: &str) -> bool {
        let around = [folder(name), folder(folder(folder(name)))];
        around.iter().any(|folder| self.folders.contains(folder))
    }
}

/// The backups that have information of their own.
fn read_backups<'a>(view: &mut Listing<'a>, unread: &mut UnreadableBackups<'a>) -> Vec<Export> {
    // A kind may hold `/`: then its metadata are a folder deeper and look like a backup's own.
    // Backups that are higher claim theirs first.
    let mut marks = view.unclaimed(|name| key_of(name).is_some());
    marks.sort_by_key(|name| name.matches('/').count());
    let mut exports = Vec::new();
    for mark in marks {
        if view.is_claimed(mark) {
            continue;
        }
        let mut export = Export::new(mark, ExportFormat::LegacyBackup);
        export.mark = view.claim(mark);
        match view
            .bytes(mark)
            .and_then(|bytes| read_information(mark, &bytes))
        {
            Ok(backup) => read_backup(view, mark, backup, &mut export),
            Err(fault) => {
                export.faults.push(fault);
                unread.keys.extend(mark.strip_suffix(INFO));
                unread.folders.insert(folder(mark));
            }
        }
        exports.push(export);
    }
    exports
}

/// The backups of which only the information of kinds is there.
fn unfinished_backups(view: &mut Listing<'_>, unread: &UnreadableBackups<'_>) -> Vec<Export> {
    let mut exports = Vec::new();
    for name in view.unclaimed(is_metadata) {
        view.claim(name);
        // KEY.KIND.backup_info; no key holds a dot.
        let key = base(name)
            .split_once('.')
            .map(|(key, _)| below(folder(name), key));
        if key.is_some_and(|key| unread.keys.contains(key.as_str())) {
            continue;
        }
        let mut export = Export::new(name, ExportFormat::LegacyBackup);
        if let Some(metadata) = view
            .bytes(name)
            .ok()
            .and_then(|bytes| ExportMetadata::parse(&bytes).ok())
        {
            export.started = metadata.started;
            export
                .groups
                .extend(metadata.kinds.first().map(|kind| open_group(&kind.kind)));
        }
        export.faults.push(Problem::incomplete(
            name,
            format!("the backup's own <KEY>{INFO} is missing beside it"),
        ));
        exports.push(export);
    }
    exports
}

/// Refuses data objects that no backup lists.
fn refuse_unlisted(
    view: &mut Listing<'_>,
    unread: &UnreadableBackups<'_>,
    exports: &mut Vec<Export>,
) {
    let mut listed = BTreeSet::new();
    // Each run, and the first backup that lists an output of it.
    let mut homes = BTreeMap::new();
    for (at, export) in exports.iter().enumerate() {
        let outputs = export.groups.iter().flat_map(|group| &group.outputs);
        for (run, number) in outputs.filter_map(|output| shard(&output.name)) {
            homes.entry(run.clone()).or_insert(at);
            listed.insert((run, number));
        }
    }
    for name in view.unclaimed(is_data) {
        let Some((run, number)) = shard(name) else {
            continue;
        };
        // The same shard in another attempt is what a failed try left; the backup lists the try
        // that counts.
        if listed.contains(&(run.clone(), number)) && name.contains("-output-") {
            continue;
        }
        view.claim(name);
        match homes.get(&run).and_then(|at| exports.get_mut(*at)) {
            Some(export) => export.faults.push(Problem::damaged(
                name,
                "the backup does not list this data object",
            )),
            None if unread.may_list(name) => {}
            None => exports.push(unlisted(name)),
        }
    }
}

/// The backup of a data object that none lists.
fn unlisted(name: &str) -> Export {
    let mut export = Export::new(name, ExportFormat::LegacyBackup);
    export.groups.extend(named_kind(name).map(open_group));
    export.faults.push(Problem::incomplete(
        name,
        format!("no finished backup (<KEY>{INFO}) lists this data object"),
    ));
    export
}

/// The KEY of a backup's own `<KEY>.backup_info`; `None` for the per-kind ones.
fn key_of(name: &str) -> Option<&str> {
    base(name)
        .strip_suffix(INFO)
        .filter(|key| !key.is_empty() && !key.contains('.'))
}

fn is_data(name: &str) -> bool {
    base(name).starts_with(DATA) && base(name).contains("-output-")
        || (output_number(base(name)).is_some() && base(folder(folder(name))).starts_with(DATA))
}

/// The run that a data object belongs to and its shard number: the same for all attempts at one
/// shard.
fn shard(name: &str) -> Option<(String, u64)> {
    if let Some(number) = output_number(base(name)) {
        return Some((folder(name).to_owned(), number));
    }
    let (run, rest) = name.rsplit_once("-output-")?;
    let digits = rest.split('-').next()?;
    Some((run.to_owned(), digits.parse().ok()?))
}

/// The kind that a data object's name gives, where the backup's own name ends in its date:
/// `datastore_backup_User2013_10_12_User-…`.
fn named_kind(name: &str) -> Option<&str> {
    let run = match base(name).rsplit_once("-output-") {
        Some((run, _)) => run.rsplit_once('-')?.0,
        None => base(folder(folder(name))),
    };
    let is_date = |text: &str| {
        text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| {
                if matches!(at, 4 | 7) {
                    byte == b'_'
                } else {
                    byte.is_ascii_digit()
                }
            })
    };
    let after_date = (0..run.len())
        .find_map(|at| {
            run.get(at..)?
                .split_at_checked(10)
                .filter(|(date, _)| is_date(date))
        })?
        .1;
    after_date
        .strip_prefix('_')
        .filter(|kind| !kind.is_empty() && !kind.starts_with(|c: char| c.is_ascii_digit()))
}

fn open_group(kind: &str) -> ExportPart {
    ExportPart::new(None, Some(Kind::new(kind)))
}

fn read_information(mark: &str, bytes: &[u8]) -> Result<LegacyBackup, Problem> {
    LegacyBackup::parse(bytes).map_err(|error| Problem::damaged(mark, error.to_string()))
}

fn read_backup(view: &mut Listing<'_>, mark: &str, backup: LegacyBackup, export: &mut Export) {
    export.started = backup.started;
    export.finished = backup.finished;
    if backup.finished.is_none() {
        export.faults.push(Problem::incomplete(
            mark,
            "the backup is not finished: it has no complete_time",
        ));
    }
    let namespace = match backup.namespaces.as_deref() {
        Some([only]) => Some(only.clone()),
        _ => None,
    };
    for part in &backup.kinds {
        let mut group = ExportPart {
            namespace: namespace.clone(),
            ..open_group(&part.kind)
        };
        let handle = backup.handle.as_deref();
        for file in &part.files {
            let output = locate(view, mark, handle, file);
            match output.and_then(|output| listed_once(output, &group, mark, file)) {
                Ok(output) => group.outputs.push(output),
                Err(fault) => export.faults.push(fault),
            }
        }
        group.outputs.sort_by_cached_key(|output| {
            let number = shard(&output.name).map(|(_, number)| number);
            (number, output.name.clone())
        });
        if let Some(key) = mark.strip_suffix(INFO) {
            let name = format!("{key}.{}{INFO}", part.kind);
            read_kind_info(view, &name, &mut group, export);
        }
        export.groups.push(group);
    }
}

fn listed_once(
    output: super::ListedObject,
    group: &ExportPart,
    mark: &str,
    file: &str,
) -> Result<super::ListedObject, Problem> {
    if group.outputs.contains(&output) {
        return Err(Problem::damaged(mark, format!("it lists {file:?} twice")));
    }
    Ok(output)
}

/// The per-kind metadata beside the backup, where there is one: it must be of that kind.
fn read_kind_info(view: &mut Listing<'_>, name: &str, group: &mut ExportPart, export: &mut Export) {
    let Some(listed) = view.claim(name) else {
        return;
    };
    group.metadata = Some(listed.name.clone());
    export.metadata.insert(listed.name, listed.len);
    match view.bytes(name).map(|bytes| ExportMetadata::parse(&bytes)) {
        Err(fault) => export.faults.push(fault),
        Ok(Err(error)) => export
            .faults
            .push(Problem::damaged(name, error.to_string())),
        Ok(Ok(metadata)) => {
            for other in metadata
                .kinds
                .iter()
                .filter(|other| Some(other.kind.as_str()) != group.kind.as_ref().map(Kind::as_str))
            {
                export.faults.push(Problem::damaged(
                    name,
                    format!(
                        "expected kind {:?}, found {:?}",
                        group.kind.as_ref().map_or("", Kind::as_str),
                        other.kind
                    ),
                ));
            }
        }
    }
}

/// The names by which a data object may be found below the folder of its backup, the best first.
fn ends_of<'a>(object: &'a str, beside: Option<&'a str>) -> Vec<&'a str> {
    let mut ends = vec![beside.unwrap_or(object)];
    let mut end = object;
    while let Some((_, shorter)) = end.split_once('/') {
        // `output-0` alone says nothing: every run has one.
        if output_number(shorter).is_none() {
            ends.push(shorter);
        }
        end = shorter;
    }
    ends
}

/// Where a data object that the backup lists as `/gs/BUCKET/OBJECT` lies now: as far from the
/// completion marker as it was then, or else the longest end of its name that lies below the mark's
/// folder.
fn locate(
    view: &mut Listing<'_>,
    mark: &str,
    handle: Option<&str>,
    file: &str,
) -> Result<super::ListedObject, Problem> {
    let Some(object) = file
        .strip_prefix("/gs/")
        .filter(|object| super::stays_inside(object))
    else {
        return Err(Problem::damaged(
            mark,
            format!("it lists {file:?}, which is not of the form /gs/BUCKET/OBJECT"),
        ));
    };
    let around = folder(mark);
    let was = handle
        .and_then(|handle| handle.strip_prefix("/gs/"))
        .map(folder);
    let beside = was
        .and_then(|was| object.strip_prefix(was))
        .and_then(|rest| rest.strip_prefix('/'));
    let ends = ends_of(object, beside);
    let free = ends
        .iter()
        .map(|end| below(around, end))
        .find(|name| view.objects.contains_key(name.as_str()) && !view.is_claimed(name));
    let found = free
        .or_else(|| ends.first().map(|end| below(around, end)))
        .and_then(|name| view.claim(&name));
    found.ok_or_else(|| {
        Problem::incomplete(
            &below(around, beside.unwrap_or(object)),
            format!("no such object, although {} lists it", title(base(mark))),
        )
    })
}
