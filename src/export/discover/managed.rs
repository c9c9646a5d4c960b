//! Managed exports: an `*.overall_export_metadata` names the metadata of each part, which names the
//! outputs.
//!
//! Knows the layout of the emulator and of production (`docs/formats.md` 2). Must not read outputs.

use std::collections::{BTreeMap, BTreeSet};

use super::lookup::{self, Match, MissingObject};
use super::{
    Export, ExportPart, Listing, Problem, base, below, folder, invalid_namespace, output_number,
    stays_inside, title,
};
use crate::export::metadata::{ExportMetadata, NamespaceSpec, OverallMetadata, PartPointer};
use crate::model::{ExportFormat, Kind, Namespace};

fn outside(path: &str) -> String {
    format!("{path:?} is not a path inside the folder of the export")
}
const OVERALL: &str = ".overall_export_metadata";
const PER_KIND: &str = ".export_metadata";

/// Each record of an output has a header of at least so many bytes, so that files are always longer
/// than their records.
const RECORD_HEADER_BYTES: u64 = 7;

pub(super) fn is_metadata(name: &str) -> bool {
    name.ends_with(OVERALL) || name.ends_with(PER_KIND)
}

/// Whether the bytes of an object are what its name promises.
pub(super) fn is_sound(name: &str, bytes: &[u8]) -> bool {
    if name.ends_with(OVERALL) {
        OverallMetadata::parse(bytes).is_ok()
    } else {
        ExportMetadata::parse(bytes).is_ok()
    }
}

/// An export whose completion marker was found.
struct ExportDraft<'a> {
    mark: &'a str,
    /// The folder of the completion marker.
    around: &'a str,
    /// How a download tool may have begun the names of the files, and what the export's folder was
    /// called.
    flat: Vec<(String, String)>,
    /// The prefixes alone.
    prefixes: Vec<String>,
    export: Export,
    /// Whether the completion marker cannot be read.
    is_unread: bool,
    /// Paths that the metadata give, each with objects that may be meant by it.
    doubtful: Vec<(String, Vec<&'a str>)>,
}

/// What one pointer of a completion marker stands for.
struct ReferencedPart {
    draft: usize,
    pointer: PartPointer,
    /// The object of its metadata, where that was found.
    metadata: Option<String>,
    /// The path that the completion marker gives, with `/` between folders.
    path: String,
    outputs: Vec<super::ListedObject>,
    /// Outputs that are not stored under the names that the metadata give.
    missing: Vec<String>,
    /// Whether all that the metadata list is there, once.
    is_whole: bool,
}

impl ReferencedPart {
    fn new(draft: usize, pointer: PartPointer) -> Self {
        ReferencedPart {
            draft,
            path: pointer.metadata_file.clone(),
            pointer,
            metadata: None,
            outputs: Vec::new(),
            missing: Vec::new(),
            is_whole: false,
        }
    }
}

/// Every export that has its completion marker.
pub(super) fn discover(view: &mut Listing<'_>) -> Vec<Export> {
    let (mut drafts, mut parts) = read_marks(view);
    find_metadata(view, &mut drafts, &mut parts);
    // Where it cannot be told what is listed: the metadata that would say it are missing or
    // damaged, which is reported by itself.
    let mut unread: BTreeSet<String> = drafts
        .iter()
        .filter(|draft| draft.is_unread)
        .map(|draft| draft.around.to_owned())
        .collect();
    for part in &mut parts {
        read_part(view, &mut drafts, part, &mut unread);
    }
    find_outputs(view, &mut drafts, &mut parts);
    for part in parts {
        finish_part(&mut drafts, part);
    }
    refuse_unlisted(view, &mut drafts, &unread);
    drafts.into_iter().map(ExportDraft::into_export).collect()
}

/// Outputs and per-kind metadata that no completion marker stands for, grouped into the folders that the
/// exports would have. Where the metadata that names the kind is not there yet, the path does.
pub(super) fn unfinished(
    view: &mut Listing<'_>,
    new: &mut dyn FnMut(&str) -> Export,
) -> Vec<Export> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in view.unclaimed(|name| is_metadata(name) || is_output(name)) {
        // EXPORT/NAMESPACE/KIND/output-0
        folders
            .entry(folder(folder(folder(name))))
            .or_default()
            .push(name);
    }
    let mut exports = Vec::new();
    for (around, names) in folders {
        let mut export = new(title(around));
        let reason = format!(
            "the completion marker *{OVERALL} is missing; {} objects are there, such as {}",
            names.len(),
            names.first().expect("each folder is that of a name")
        );
        export
            .faults
            .push(Problem::incomplete(title(around), reason));
        add_unfinished(view, &mut export, &names);
        exports.push(export);
    }
    exports
}

/// Adds what the objects of an unfinished export say of its kinds.
fn add_unfinished<'a>(view: &mut Listing<'a>, export: &mut Export, names: &[&'a str]) {
    let mut kinds: BTreeMap<&str, Vec<Kind>> = BTreeMap::new();
    for name in names {
        view.claim(name);
        let known = kinds.entry(folder(name)).or_default();
        let Ok(Ok(metadata)) = view.bytes(name).map(|bytes| ExportMetadata::parse(&bytes)) else {
            continue;
        };
        export.started = export.started.into_iter().chain(metadata.started).min();
        let named = metadata.kinds.into_iter().map(|kind| kind.kind);
        known.extend(named.filter(|kind| !kind.is_empty()).map(Kind::new));
    }
    for (folder, known) in kinds {
        let (namespace, kind) = labels(folder);
        let open = known.is_empty().then_some(kind);
        let kinds = known.into_iter().map(Some).chain(open);
        export
            .groups
            .extend(kinds.map(|kind| ExportPart::new(namespace.clone(), kind)));
    }
}

/// The namespace and the kind that the path of an unfinished export names, unless it says that it
/// holds all of them, or nothing.
fn labels(kind_folder: &str) -> (Option<Namespace>, Option<Kind>) {
    let namespace = match base(folder(kind_folder)) {
        "default_namespace" => Some(Namespace::default()),
        label => label.strip_prefix("namespace_").map(Namespace::new),
    };
    (
        namespace,
        base(kind_folder)
            .strip_prefix("kind_")
            .filter(|kind| !kind.is_empty())
            .map(Kind::new),
    )
}

fn is_output(name: &str) -> bool {
    output_number(base(name)).is_some()
}

impl<'a> ExportDraft<'a> {
    fn new(view: &mut Listing<'a>, mark: &'a str, title: &str) -> Self {
        let mut export = Export::new(title, ExportFormat::ManagedExport);
        export.mark = view.claim(mark);
        let name = base(mark).strip_suffix(OVERALL);
        let flat = lookup::flat_prefixes(name.expect("a mark is found by the end of its name"));
        let prefixes = flat.iter().map(|(prefix, _)| prefix.clone()).collect();
        ExportDraft {
            mark,
            around: folder(mark),
            flat,
            prefixes,
            export,
            is_unread: false,
            doubtful: Vec::new(),
        }
    }

    /// The parts that the completion marker names, each once. `number` is the draft's own.
    fn parts(&mut self, number: usize, pointers: Vec<PartPointer>) -> Vec<ReferencedPart> {
        let mut named = BTreeSet::new();
        let mut parts = Vec::new();
        for pointer in pointers {
            if named.insert(pointer.metadata_file.clone()) {
                parts.push(ReferencedPart::new(number, pointer));
            } else {
                self.export.faults.push(Problem::damaged(
                    self.mark,
                    format!("it names {:?} twice", pointer.metadata_file),
                ));
            }
        }
        parts
    }

    fn wanted(&self, path: &str) -> MissingObject<'_> {
        MissingObject {
            around: self.around,
            prefixes: &self.prefixes,
            path: path.to_owned(),
        }
    }

    /// Takes what was found for a path of the metadata; `None` where nothing can be taken.
    fn take(
        &mut self,
        view: &mut Listing<'a>,
        path: &str,
        found: &Match<'a>,
    ) -> Option<super::ListedObject> {
        match found {
            Match::One(name) => {
                let listed = view.claim(name)?;
                self.export
                    .listed_as
                    .insert(listed.name.clone(), below(self.around, path));
                Some(listed)
            }
            Match::Doubtful(candidates) => {
                candidates.iter().for_each(|name| drop(view.claim(name)));
                self.doubtful.push((path.to_owned(), candidates.clone()));
                None
            }
            Match::Absent => None,
        }
    }

    /// Refuses an object that the metadata do not list, where they can be read.
    fn refuse(&mut self, name: &str, unread: &BTreeSet<String>) {
        if self.is_unread || !self.doubtful.is_empty() || unread.contains(folder(name)) {
            return;
        }
        let reason = if is_metadata(name) {
            "the completion marker does not name these metadata"
        } else {
            "the export's metadata do not list this output"
        };
        self.export.faults.push(Problem::damaged(name, reason));
    }

    fn into_export(mut self) -> Export {
        if let Some((path, candidates)) = self.doubtful.first() {
            // One line for all of them: that they are not there under their names has one cause.
            let reason = format!(
                "{} files have other names than the metadata give, probably since a download or an archiver renamed them: {path:?} could be {:?}, and it is not clear which",
                self.doubtful.len(),
                candidates.join(" or "),
            );
            let fault = Problem::incomplete(&self.export.title, reason);
            self.export.faults.push(fault);
        }
        self.restore_flat_folder();
        self.export
    }

    /// Where all files of an export were written into one folder, the names that the metadata give
    /// are below the export's own folder.
    fn restore_flat_folder(&mut self) {
        let is_flat = |prefix: &str| {
            let around = if self.around.is_empty() {
                String::new()
            } else {
                lookup::skeleton(self.around) + "_"
            };
            let begin = format!("{around}{prefix}");
            !self.export.listed_as.is_empty()
                && self
                    .export
                    .listed_as
                    .keys()
                    .all(|name| lookup::skeleton(name).starts_with(&begin))
        };
        let Some((_, name)) = self.flat.iter().find(|(prefix, _)| is_flat(prefix)) else {
            return;
        };
        let home = below(self.around, name);
        for listed_as in self.export.listed_as.values_mut() {
            let path = if self.around.is_empty() {
                Some(&**listed_as)
            } else {
                listed_as.strip_prefix(self.around)
            };
            *listed_as = format!(
                "{home}/{}",
                path.unwrap_or(listed_as).trim_start_matches('/')
            );
        }
        self.export
            .listed_as
            .insert(self.mark.to_owned(), format!("{home}/{name}{OVERALL}"));
    }
}

/// Reads every completion marker.
fn read_marks<'a>(view: &mut Listing<'a>) -> (Vec<ExportDraft<'a>>, Vec<ReferencedPart>) {
    let marks = view.unclaimed(|name| name.ends_with(OVERALL));
    let mut in_folder: BTreeMap<&str, usize> = BTreeMap::new();
    for mark in &marks {
        *in_folder.entry(folder(mark)).or_default() += 1;
    }
    let (mut drafts, mut parts) = (Vec::new(), Vec::new());
    for mark in marks {
        // Two exports in one folder are told apart by their completion markers.
        let is_alone = in_folder.get(folder(mark)) == Some(&1);
        let mut draft = ExportDraft::new(
            view,
            mark,
            if is_alone { title(folder(mark)) } else { mark },
        );
        let overall = view.bytes(mark).and_then(|bytes| {
            OverallMetadata::parse(&bytes)
                .map_err(|error| Problem::damaged(mark, error.to_string()))
        });
        match overall {
            Ok(overall) => parts.extend(draft.parts(drafts.len(), overall.pointers)),
            Err(fault) => {
                draft.is_unread = true;
                draft.export.faults.push(fault);
            }
        }
        drafts.push(draft);
    }
    (drafts, parts)
}

/// Finds the metadata of each part: first what is stored under its name, in all exports, then what
/// is not.
fn find_metadata<'a>(
    view: &mut Listing<'a>,
    drafts: &mut [ExportDraft<'a>],
    parts: &mut [ReferencedPart],
) {
    let mut missing = Vec::new();
    for part in parts.iter_mut() {
        let Some(draft) = drafts.get_mut(part.draft) else {
            continue;
        };
        if !stays_inside(&part.path) {
            let fault = Problem::damaged(draft.mark, outside(&part.path));
            draft.export.faults.push(fault);
            continue;
        }
        let name = below(draft.around, &part.path);
        match view.claim(&name) {
            Some(_) => part.metadata = Some(name),
            None => missing.push(part),
        }
    }
    let wanted: Vec<MissingObject<'_>> = missing
        .iter()
        .filter_map(|part| Some(drafts.get(part.draft)?.wanted(&part.path)))
        .collect();
    let matches = lookup::locate(view, &wanted);
    for (part, found) in missing.into_iter().zip(matches) {
        if let Some(draft) = drafts.get_mut(part.draft) {
            take_metadata(view, draft, part, &found);
        }
    }
}

/// Takes what was found in place of the metadata of a part.
fn take_metadata<'a>(
    view: &mut Listing<'a>,
    draft: &mut ExportDraft<'a>,
    part: &mut ReferencedPart,
    found: &Match<'a>,
) {
    let listed = draft.take(view, &part.path, found);
    part.metadata = listed.map(|listed| listed.name);
    if matches!(found, Match::Absent) {
        draft.export.faults.push(Problem::incomplete(
            &below(draft.around, &part.path),
            "no such object, although the completion marker names it",
        ));
    }
    if part.metadata.is_some() && !part.path.contains('/') {
        part.path = part.path.replace('\\', "/");
    }
}

/// Reads the metadata of a part, and claims the outputs that are stored under their names.
fn read_part<'a>(
    view: &mut Listing<'a>,
    drafts: &mut [ExportDraft<'a>],
    part: &mut ReferencedPart,
    unread: &mut BTreeSet<String>,
) {
    let Some(draft) = drafts.get_mut(part.draft) else {
        return;
    };
    let export = &mut draft.export;
    let Some(name) = &part.metadata else {
        unread.insert(folder(&below(draft.around, &part.path.replace('\\', "/"))).to_owned());
        return;
    };
    if let Some(listed) = view.objects.get(name.as_str()) {
        export.metadata.insert(name.clone(), listed.len);
    }
    let metadata = match parse_metadata(view, name) {
        Ok(metadata) => metadata,
        Err(fault) => {
            export.faults.push(fault);
            unread.insert(folder(name).to_owned());
            return;
        }
    };
    export.started = export.started.into_iter().chain(metadata.started).min();
    export.finished = export.finished.into_iter().chain(metadata.finished).max();
    let before = export.faults.len();
    claim_outputs(view, draft, part, &metadata);
    part.is_whole = draft.export.faults.len() == before;
}

fn parse_metadata(view: &Listing<'_>, name: &str) -> Result<ExportMetadata, Problem> {
    let bytes = view.bytes(name)?;
    ExportMetadata::parse(&bytes).map_err(|error| Problem::damaged(name, error.to_string()))
}

const HAS_METADATA: &str = "the part was read from its metadata";

/// Claims what the metadata of a part list.
fn claim_outputs<'a>(
    view: &mut Listing<'a>,
    draft: &mut ExportDraft<'a>,
    part: &mut ReferencedPart,
    metadata: &ExportMetadata,
) {
    let name = part.metadata.clone().expect(HAS_METADATA);
    let export = &mut draft.export;
    // A pointer without a kind stands for all kinds.
    let want = part.pointer.kind.clone().unwrap_or_default();
    // Beside the completion marker, outputs of all kinds have the same names.
    let is_without_folders = folder(&name) == draft.around && !folder(&part.path).is_empty();
    let mut listed = BTreeSet::new();
    for kind in &metadata.kinds {
        if kind.kind != want {
            let reason = format!(
                "expected {} as in the completion marker, found {}",
                kind_or_all(&want),
                kind_or_all(&kind.kind)
            );
            export.faults.push(Problem::damaged(&name, reason));
        }
        for file in &kind.files {
            if !stays_inside(file) {
                export.faults.push(Problem::damaged(&name, outside(file)));
            } else if is_without_folders {
                part.missing.push(file.clone());
            } else if listed.insert(file) {
                claim_output(view, draft.around, export, part, file);
            } else {
                let reason = format!("it lists {file:?} twice");
                export.faults.push(Problem::damaged(&name, reason));
            }
        }
    }
}

fn kind_or_all(kind: &str) -> String {
    if kind.is_empty() {
        "all kinds".to_owned()
    } else {
        format!("kind {kind:?}")
    }
}

/// Claims an output of a part by the name that its metadata give.
fn claim_output(
    view: &mut Listing<'_>,
    around: &str,
    export: &mut Export,
    part: &mut ReferencedPart,
    file: &str,
) {
    let metadata = part.metadata.as_deref().expect(HAS_METADATA);
    let output = below(folder(metadata), file);
    let is_of_another = view.is_claimed(&output);
    match view.claim(&output) {
        Some(_) if is_of_another => {
            let fault = Problem::damaged(&output, "two exports list this output");
            export.faults.push(fault);
        }
        None => part.missing.push(file.to_owned()),
        Some(listed) => {
            // The folder was renamed, and the metadata in it were found all the same.
            let listed_as = below(around, &below(folder(&part.path), file));
            if listed_as != listed.name {
                export.listed_as.insert(listed.name.clone(), listed_as);
            }
            part.outputs.push(listed);
        }
    }
}

/// Finds the outputs that are not stored under the names that the metadata give.
fn find_outputs<'a>(
    view: &mut Listing<'a>,
    drafts: &mut [ExportDraft<'a>],
    parts: &mut [ReferencedPart],
) {
    let missing: Vec<(usize, String)> = parts
        .iter()
        .enumerate()
        .flat_map(|(index, part)| {
            part.missing
                .iter()
                .map(move |file| (index, below(folder(&part.path), file)))
        })
        .collect();
    let wanted = missing
        .iter()
        .filter_map(|(index, path)| Some(drafts.get(parts.get(*index)?.draft)?.wanted(path)));
    let matches = lookup::locate(view, &wanted.collect::<Vec<_>>());
    for ((index, path), found) in missing.into_iter().zip(matches) {
        let Some(part) = parts.get_mut(index) else {
            continue;
        };
        let Some(draft) = drafts.get_mut(part.draft) else {
            continue;
        };
        match draft.take(view, &path, &found) {
            Some(listed) => part.outputs.push(listed),
            None => part.is_whole = false,
        }
        if matches!(found, Match::Absent) {
            let name = below(draft.around, &path);
            draft.export.faults.push(Problem::incomplete(
                &name,
                "no such object, although the metadata list it",
            ));
        }
    }
}

/// Makes the group of a part, and compares the bytes in it with those that the completion marker counts.
fn finish_part(drafts: &mut [ExportDraft<'_>], part: ReferencedPart) {
    let Some(draft) = drafts.get_mut(part.draft) else {
        return;
    };
    let ReferencedPart {
        pointer,
        metadata,
        mut outputs,
        is_whole,
        ..
    } = part;
    let export = &mut draft.export;
    outputs.sort_by(|a, b| {
        (output_number(base(&a.name)), &a.name).cmp(&(output_number(base(&b.name)), &b.name))
    });
    // Where an output is missing or listed twice, the sum says nothing new; of what is encoded the
    // length says nothing at all.
    let is_comparable = is_whole && !outputs.iter().any(|output| output.is_encoded);
    let group = ExportPart {
        kind: pointer.kind.map(Kind::new),
        namespace: match pointer.namespace {
            NamespaceSpec::All => None,
            NamespaceSpec::One(namespace) => Some(namespace),
        },
        entities: Some(pointer.entities),
        bytes: is_comparable.then_some(pointer.bytes),
        metadata,
        outputs,
    };
    let namespace = group.namespace.as_ref();
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_valid()) {
        let fault = Problem::damaged(draft.mark, invalid_namespace(namespace));
        export.faults.push(fault);
    }
    export.faults.extend(short_fault(&group));
    export.groups.push(group);
}

/// Whether the outputs of a group are shorter than either way of counting allows. What is longer
/// than the metadata say may be right: the service counts the bytes of records, which are known
/// when the data are read.
fn short_fault(group: &ExportPart) -> Option<Problem> {
    let (bytes, found, name) = (group.bytes?, group.file_bytes(), group.metadata.as_deref()?);
    let headers = group.entities?.saturating_mul(RECORD_HEADER_BYTES);
    if found == bytes || found >= bytes.saturating_add(headers) {
        return None;
    }
    let fault = Problem::count(name, group, short_words(group, bytes, found));
    Some(Problem {
        may_ripen: true,
        ..fault
    })
}

/// What is said of outputs that are too short. The marker may count less than files have: records
/// alone.
fn short_words(group: &ExportPart, bytes: u64, found: u64) -> String {
    let kind = group.path();
    if found < bytes {
        return format!(
            "{kind} is cut off: its files have {found} bytes, and the completion marker counts {bytes}"
        );
    }
    format!("{kind}: expected outputs of {bytes} bytes as in the completion marker, found {found}")
}

/// What lies below an export's folder and is listed nowhere belongs to the nearest export around
/// it.
fn refuse_unlisted(
    view: &mut Listing<'_>,
    drafts: &mut [ExportDraft<'_>],
    unread: &BTreeSet<String>,
) {
    let folders = folders_of(drafts);
    let mut unlisted = Vec::new();
    for name in view.unclaimed(|name| is_metadata(name) || is_output(name)) {
        // A legacy data object may be beside managed exports; the discovery of legacy backups looks
        // at it.
        let home = nearest(&folders, name).filter(|_| !name.contains("datastore_backup_"));
        unlisted.extend(home.map(|home| (name, home)));
    }
    unlisted.extend(lookup::outputs_with_prefixes(view, &flat_prefixes(drafts)));
    for (name, home) in unlisted {
        if view.is_claimed(name) {
            continue;
        }
        view.claim(name);
        if let Some(draft) = drafts.get_mut(home) {
            draft.refuse(name, unread);
        }
    }
}

/// The exports by their folders. Of two in one folder the one that cannot be read counts: it may
/// list what is there.
fn folders_of<'a>(drafts: &[ExportDraft<'a>]) -> BTreeMap<&'a str, usize> {
    let (read, not_read): (Vec<_>, Vec<_>) = drafts
        .iter()
        .enumerate()
        .partition(|(_, draft)| !draft.is_unread);
    read.into_iter()
        .chain(not_read)
        .map(|(index, draft)| (draft.around, index))
        .collect()
}

/// The export in the nearest folder around an object.
fn nearest(folders: &BTreeMap<&str, usize>, name: &str) -> Option<usize> {
    let mut around = folder(name);
    loop {
        match folders.get(around) {
            Some(index) => return Some(*index),
            None if around.is_empty() => return None,
            None => around = folder(around),
        }
    }
}

/// The beginnings of flat names of outputs, which say whose they are.
fn flat_prefixes(drafts: &[ExportDraft<'_>]) -> Vec<(String, usize)> {
    let is_flat = |draft: &ExportDraft<'_>| {
        draft
            .export
            .listed_as
            .keys()
            .any(|name| folder(name) == draft.around)
    };
    drafts
        .iter()
        .enumerate()
        .filter(|(_, draft)| is_flat(draft))
        .flat_map(|(index, draft)| {
            let around = if draft.around.is_empty() {
                String::new()
            } else {
                lookup::skeleton(draft.around) + "_"
            };
            draft
                .prefixes
                .iter()
                .map(move |prefix| (format!("{around}{prefix}"), index))
        })
        .collect()
}
