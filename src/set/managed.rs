//! Managed exports: an `*.overall_export_metadata` names the metadata of each part, which names the outputs.
//!
//! Knows the layout of the emulator and of production (`docs/formats.md` 2). Must not read outputs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Export, Fault, Group, POSSIBLE, View, base, below, folder, output_number, stays_inside, title};
use crate::entity::metadata::{ExportMetadata, NamespaceSpec, OverallMetadata, Pointer};
use crate::model::{ExportFormat, Kind, Namespace};

const OVERALL: &str = ".overall_export_metadata";
const PER_KIND: &str = ".export_metadata";

pub(super) fn is_metadata(name: &str) -> bool {
    name.ends_with(OVERALL) || name.ends_with(PER_KIND)
}

/// Every export that has its finish mark.
pub(super) fn discover(view: &mut View<'_>) -> Vec<Export> {
    let marks = view.unclaimed(|name| name.ends_with(OVERALL));
    let mut exports: Vec<(&str, Export)> = Vec::new();
    let mut unread = BTreeSet::new();
    let mut in_folder: BTreeMap<&str, usize> = BTreeMap::new();
    for mark in &marks {
        *in_folder.entry(folder(mark)).or_default() += 1;
    }
    for mark in &marks {
        // Two exports in one folder are told apart by their finish marks.
        let alone = in_folder.get(folder(mark)) == Some(&1);
        exports.push((folder(mark), read_export(view, mark, if alone { title(folder(mark)) } else { mark }, &mut unread)));
    }

    // What lies below an export's folder and is listed nowhere belongs to the nearest export around it.
    let folders: BTreeMap<&str, usize> = exports.iter().enumerate().map(|(index, (folder, _))| (*folder, index)).collect();
    for name in view.unclaimed(|name| is_metadata(name) || is_output(name)) {
        let mut around = folder(name);
        let home = loop {
            match folders.get(around) {
                Some(index) => break Some(*index),
                None if around.is_empty() => break None,
                None => around = folder(around),
            }
        };
        // A legacy data object may lie beside managed exports; the legacy half of the house looks at it.
        let Some((_, export)) = home.filter(|_| !name.contains("datastore_backup_")).and_then(|index| exports.get_mut(index)) else {
            continue;
        };
        view.claim(name);
        if unread.contains(folder(name)) {
            // Whether it is listed cannot be told: the metadata that would list it are missing or damaged, which is told already.
            continue;
        }
        let what = if is_output(name) { "an output that the export's metadata lists" } else { "metadata that the finish mark names" };
        export.faults.push(Fault::damaged(name, what, "one that nothing lists"));
    }
    exports.into_iter().map(|(_, export)| export).collect()
}

/// Outputs and per-kind metadata that no finish mark stands for, grouped into the folders that the exports would have. Where the metadata that
/// names the kind is not there yet, the path does.
pub(super) fn unfinished(view: &mut View<'_>, new: &mut dyn FnMut(&str) -> Export) -> Vec<Export> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in view.unclaimed(|name| is_metadata(name) || is_output(name)) {
        // EXPORT/NAMESPACE/KIND/output-0
        folders.entry(folder(folder(folder(name)))).or_default().push(name);
    }
    let mut exports = Vec::new();
    for (around, names) in folders {
        let mut export = new(title(around));
        let found = format!("{} objects without one, such as {}", names.len(), names.first().copied().unwrap_or_default());
        export.faults.push(Fault::incomplete(title(around), format!("a finish mark, *{OVERALL}"), found));
        let mut kinds: BTreeMap<&str, Vec<Kind>> = BTreeMap::new();
        for name in names {
            view.claim(name);
            let known = kinds.entry(folder(name)).or_default();
            let Ok(Ok(metadata)) = view.bytes(name).map(|bytes| ExportMetadata::parse(&bytes)) else { continue };
            export.started = export.started.into_iter().chain(metadata.started).min();
            known.extend(metadata.kinds.into_iter().filter(|kind| !kind.kind.is_empty()).map(|kind| Kind::new(kind.kind)));
        }
        for (folder, known) in kinds {
            let (namespace, kind) = labels(folder);
            let open = known.is_empty().then_some(kind);
            export.groups.extend(known.into_iter().map(Some).chain(open).map(|kind| Group::of(namespace.clone(), kind)));
        }
        exports.push(export);
    }
    exports
}

/// The namespace and the kind that the path of an unfinished export names, unless it says that it holds all of them, or nothing.
fn labels(kind_folder: &str) -> (Option<Namespace>, Option<Kind>) {
    let namespace = match base(folder(kind_folder)) {
        "default_namespace" => Some(Namespace::default()),
        label => label.strip_prefix("namespace_").map(Namespace::new),
    };
    (namespace, base(kind_folder).strip_prefix("kind_").filter(|kind| !kind.is_empty()).map(Kind::new))
}

fn is_output(name: &str) -> bool {
    output_number(base(name)).is_some()
}

/// `unread` takes the folders of metadata that could not be read.
fn read_export(view: &mut View<'_>, mark: &str, title: &str, unread: &mut BTreeSet<String>) -> Export {
    let around = folder(mark);
    let mut export = Export::new(title, ExportFormat::ManagedExport);
    export.mark = view.claim(mark);
    let overall = view.bytes(mark).and_then(|bytes| {
        OverallMetadata::parse(&bytes).map_err(|error| Fault::damaged(mark, "the metadata of an export", error.to_string()))
    });
    match overall {
        Err(fault) => export.faults.push(fault),
        Ok(overall) => {
            let mut named = BTreeSet::new();
            for pointer in &overall.pointers {
                if named.insert(pointer.metadata_file.clone()) {
                    read_group(view, mark, around, pointer, &mut export, unread);
                } else {
                    export.faults.push(Fault::damaged(
                        mark,
                        "each part's metadata named once",
                        format!("{:?} named twice", pointer.metadata_file),
                    ));
                }
            }
        }
    }
    export
}

fn read_group(view: &mut View<'_>, mark: &str, around: &str, pointer: &Pointer, export: &mut Export, unread: &mut BTreeSet<String>) {
    let mut group = Group {
        kind: pointer.kind.clone().map(Kind::new),
        namespace: match &pointer.namespace {
            NamespaceSpec::All => None,
            NamespaceSpec::One(namespace) => Some(Namespace::new(namespace.as_str())),
        },
        entities: Some(pointer.entities),
        metadata: None,
        outputs: Vec::new(),
    };
    if let Some(namespace) = group.namespace.as_ref().filter(|namespace| !namespace.is_possible()) {
        export.faults.push(Fault::damaged(mark, POSSIBLE, format!("{:?}", namespace.as_str())));
    }
    if !stays_inside(&pointer.metadata_file) {
        export.faults.push(Fault::damaged(mark, "a path inside the export's folder", format!("{:?}", pointer.metadata_file)));
        export.groups.push(group);
        return;
    }
    let name = below(around, &pointer.metadata_file);
    let Some(metadata) = view.claim(&name) else {
        export.faults.push(Fault::incomplete(&name, "the metadata that the finish mark names", "no such object"));
        unread.insert(folder(&name).to_owned());
        export.groups.push(group);
        return;
    };
    export.metadata.insert(name.clone(), metadata.len);
    group.metadata = Some(name.clone());
    let parsed = view.bytes(&name).and_then(|bytes| {
        ExportMetadata::parse(&bytes).map_err(|error| Fault::damaged(&name, "the metadata of a kind", error.to_string()))
    });
    match parsed {
        Err(fault) => {
            export.faults.push(fault);
            unread.insert(folder(&name).to_owned());
        }
        Ok(parsed) => {
            export.started = export.started.into_iter().chain(parsed.started).min();
            export.finished = export.finished.into_iter().chain(parsed.finished).max();
            read_outputs(view, &name, &parsed, pointer, &mut group, &mut export.faults);
        }
    }
    export.groups.push(group);
}

fn read_outputs(view: &mut View<'_>, name: &str, metadata: &ExportMetadata, pointer: &Pointer, group: &mut Group, faults: &mut Vec<Fault>) {
    let before = faults.len();
    let want = pointer.kind.as_deref().unwrap_or_default();
    for part in &metadata.kinds {
        if part.kind != want {
            faults.push(Fault::damaged(name, format!("kind {want:?}, as the finish mark says"), format!("kind {:?}", part.kind)));
        }
        for file in &part.files {
            if !stays_inside(file) {
                faults.push(Fault::damaged(name, "a path inside the export's folder", format!("{file:?}")));
                continue;
            }
            let output = below(folder(name), file);
            let elsewhere = view.is_claimed(&output) && !group.outputs.iter().any(|known| known.name == output);
            match view.claim(&output) {
                Some(_) if elsewhere => faults.push(Fault::damaged(&output, "an output that one export lists", "one that two list")),
                None => faults.push(Fault::incomplete(&output, "an output that the metadata lists", "no such object")),
                Some(listed) if group.outputs.contains(&listed) => {
                    faults.push(Fault::damaged(name, "each output listed once", format!("{file:?} listed twice")))
                }
                Some(listed) => group.outputs.push(listed),
            }
        }
    }
    group.outputs.sort_by(|a, b| (output_number(base(&a.name)), &a.name).cmp(&(output_number(base(&b.name)), &b.name)));
    let bytes: u64 = group.outputs.iter().map(|output| output.len).sum();
    if group.outputs.iter().any(|output| output.is_encoded) {
        return;
    }
    // Where an output is missing or listed twice, the sum says nothing new.
    if faults.len() == before && bytes != pointer.bytes {
        let fault = Fault::damaged(name, format!("outputs of {} bytes, as the finish mark says", pointer.bytes), format!("{bytes} bytes"));
        faults.push(Fault { may_ripen: bytes < pointer.bytes, ..fault });
    }
}
