use std::fs;
use std::path::Path;

use super::*;
use crate::export::metadata::{
    ExportMetadata, KindFiles, NamespaceSpec, OverallMetadata, PartPointer,
};

/// A listing that can be spoilt: names with their bytes.
type Objects = BTreeMap<String, Vec<u8>>;

fn fixture(folder: &str) -> Objects {
    fn walk(folder: &Path, prefix: &str, objects: &mut Objects) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = below(prefix, path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                walk(&path, &name, objects)
            } else {
                drop(objects.insert(name, fs::read(&path).unwrap()))
            }
        }
    }
    let mut objects = Objects::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures")
            .join(folder),
        "",
        &mut objects,
    );
    objects
}

fn look(objects: &Objects) -> Discovery {
    let listing: Vec<ListedObject> = objects
        .iter()
        .map(|(name, bytes)| ListedObject {
            name: name.clone(),
            len: bytes.len() as u64,
            is_encoded: false,
        })
        .collect();
    let metadata: Objects = metadata_objects(&listing)
        .map(|object| (object.name.clone(), objects[&object.name].clone()))
        .collect();
    discover(&listing, &metadata)
}

fn faults(objects: &Objects) -> Vec<(Severity, String)> {
    look(objects)
        .exports
        .into_iter()
        .flat_map(|export| export.faults)
        .map(|fault| (fault.class, fault.to_string()))
        .collect()
}

/// One managed export of one kind with two outputs.
fn small() -> Objects {
    export_of(&["output-0", "output-1"], 5, 10)
}

fn export_of(files: &[&str], entities: u64, bytes: u64) -> Objects {
    let metadata_file = "default_namespace/kind_User/default_namespace_kind_User.export_metadata";
    let pointer = PartPointer {
        kind: Some("User".into()),
        namespace: NamespaceSpec::One(Namespace::default()),
        metadata_file: metadata_file.into(),
        entities,
        bytes,
    };
    let kinds = vec![KindFiles {
        kind: "User".into(),
        files: files.iter().map(|file| (*file).to_owned()).collect(),
    }];
    let metadata = ExportMetadata {
        name: "x".into(),
        started: Timestamp::from_micros(1),
        finished: Timestamp::from_micros(2),
        kinds,
    };
    let mut objects = Objects::from([
        (
            "a/x/x.overall_export_metadata".to_owned(),
            OverallMetadata {
                pointers: vec![pointer],
            }
            .encode(),
        ),
        (format!("a/x/{metadata_file}"), metadata.encode()),
    ]);
    for file in files.iter().filter(|file| stays_inside(file)) {
        objects.insert(
            format!("a/x/default_namespace/kind_User/{file}"),
            vec![0; 5],
        );
    }
    objects
}

#[test]
fn every_fixture_is_found_complete() {
    for (folder, exports, foreign) in [
        ("managed", 27, 1),
        ("legacy", 4, 1),
        ("managed-variants/all_namespaces_one_kind", 1, 0),
        ("managed-variants/two_kinds_two_namespaces", 1, 0),
        ("managed-variants/one_namespace_all_kinds", 1, 0),
        ("managed-variants/everything_no_filter", 1, 0),
        ("managed-variants/kind_without_entities", 1, 0),
        ("managed-variants/sharded_5003_hits", 1, 0),
        ("managed-variants/gcs_layout", 2, 0),
        ("managed-variants/ends_2_bytes_before_block_border", 1, 1),
        ("", 58, 6),
    ] {
        let found = look(&fixture(folder));
        assert_eq!(
            found
                .exports
                .iter()
                .flat_map(|export| &export.faults)
                .collect::<Vec<_>>(),
            [] as [&Problem; 0],
            "{folder}"
        );
        // Zips of other tools and archives are kept there as well.
        let unrelated: Vec<&String> = found
            .unrelated
            .iter()
            .filter(|name| !name.starts_with("zip/") && !name.starts_with("archives/"))
            .collect();
        assert_eq!(
            (found.exports.len(), unrelated.len()),
            (exports, foreign),
            "{folder}: {unrelated:?}"
        );
    }
}

#[test]
fn kinds_come_from_metadata_or_stay_open() {
    let pairs = |folder: &str| look(&fixture(folder)).exports[0].declared_pairs();
    let four = [
        ("", "Customer"),
        ("", "Product"),
        ("acme", "Customer"),
        ("acme", "Product"),
    ]
    .map(|(namespace, kind)| KindRef::new(namespace, kind));
    assert_eq!(
        pairs("managed-variants/two_kinds_two_namespaces"),
        Some(BTreeSet::from(four))
    );
    assert_eq!(pairs("managed-variants/all_namespaces_one_kind"), None);
    assert_eq!(pairs("managed-variants/everything_no_filter"), None);
    assert_eq!(
        pairs("managed-variants/kind_without_entities"),
        Some(BTreeSet::new())
    );
}

#[test]
fn outputs_are_numbered_and_marker_comes_last() {
    let objects = export_of(&["output-10", "output-9", "output-0"], 5, 15);
    let export = &look(&objects).exports[0];
    let names: Vec<&str> = export
        .objects()
        .iter()
        .map(|object| base(object.name))
        .collect();
    assert_eq!(names[..3], ["output-0", "output-9", "output-10"]);
    assert!(names.last().unwrap().ends_with(".overall_export_metadata"));
    assert_eq!(export.faults, []);
}

#[test]
fn each_damage_names_object_and_severity() {
    type Deed = fn(&mut Objects);
    const OUTPUT: &str = "a/x/default_namespace/kind_User/output-1";
    const METADATA: &str =
        "a/x/default_namespace/kind_User/default_namespace_kind_User.export_metadata";
    const MARK: &str = "a/x/x.overall_export_metadata";
    let deeds: [(&str, Severity, &str, Deed); 8] = [
        (
            "the completion marker is not there yet",
            Severity::Incomplete,
            "a/x: the completion marker *.overall_export_metadata is missing",
            |objects| drop(objects.remove(MARK)),
        ),
        (
            "a listed output is missing",
            Severity::Incomplete,
            OUTPUT,
            |objects| drop(objects.remove(OUTPUT)),
        ),
        (
            "the metadata of a kind is missing",
            Severity::Incomplete,
            METADATA,
            |objects| drop(objects.remove(METADATA)),
        ),
        (
            "an output is not listed",
            Severity::Damaged,
            "kind_User/output-2: ",
            |objects| {
                objects.insert(
                    "a/x/default_namespace/kind_User/output-2".into(),
                    Vec::new(),
                );
            },
        ),
        (
            "an output has another length",
            Severity::Damaged,
            "outputs of 10 bytes",
            |objects| objects.get_mut(OUTPUT).unwrap().push(0),
        ),
        (
            "the completion marker is cut",
            Severity::Damaged,
            MARK,
            |objects| objects.get_mut(MARK).unwrap().truncate(40),
        ),
        (
            "the metadata is something else",
            Severity::Damaged,
            METADATA,
            |objects| *objects.get_mut(METADATA).unwrap() = b"no".to_vec(),
        ),
        ("an unknown version", Severity::Damaged, MARK, |objects| {
            let mut out = Vec::new();
            let mut log = crate::export::LogWriter::default();
            log.record(b"4", &mut out);
            log.record(b"", &mut out);
            *objects.get_mut(MARK).unwrap() = out;
        }),
    ];
    assert_eq!(faults(&small()), []);
    for (deed, class, told, spoil) in deeds {
        let mut objects = small();
        spoil(&mut objects);
        let found = faults(&objects);
        assert!(
            found
                .iter()
                .any(|(found, text)| *found == class && text.contains(told)),
            "{deed}: {found:?}"
        );
    }
}

#[test]
fn a_path_that_leaves_its_folder_is_damage() {
    for path in ["../output-0", "/etc/passwd", "a//b", "./output-0"] {
        let found = faults(&export_of(&[path], 0, 0));
        assert!(
            found.iter().any(|(class, text)| *class == Severity::Damaged
                && text.contains("is not a path inside the folder of the export")),
            "{path}: {found:?}"
        );
    }
}

#[test]
fn unfinished_export_names_its_kind() {
    let mut objects = small();
    objects.remove("a/x/x.overall_export_metadata");
    let export = &look(&objects).exports[0];
    assert_eq!(
        export
            .groups
            .iter()
            .map(|group| group.kind.clone())
            .collect::<Vec<_>>(),
        [Some(Kind::new("User"))]
    );
    assert!(!export.is_complete());
}

#[test]
fn moved_legacy_backup_is_found() {
    for place in ["", "elsewhere/deep"] {
        let objects: Objects = fixture("legacy/myapp-backups")
            .into_iter()
            .map(|(name, bytes)| (below(place, &name), bytes))
            .collect();
        let found = look(&objects);
        assert_eq!(faults(&objects), [], "{place}");
        assert_eq!(found.exports.len(), 3);
        let shards: Vec<usize> = found
            .exports
            .iter()
            .flat_map(|export| &export.groups)
            .map(|group| group.outputs.len())
            .collect();
        assert_eq!(
            shards.iter().sum::<usize>(),
            6,
            "a shard of no bytes counts as well"
        );
    }
}

#[test]
fn legacy_backup_with_wrong_shards_is_reported() {
    let whole = fixture("legacy/myapp-backups");
    let shard = whole
        .keys()
        .find(|name| name.contains("Photo") && name.contains("-output-1-"))
        .unwrap()
        .clone();

    let mut missing = whole.clone();
    missing.remove(&shard);
    assert!(
        faults(&missing)
            .iter()
            .any(|(class, text)| *class == Severity::Incomplete && text.starts_with(&shard))
    );

    let mut unlisted = whole.clone();
    unlisted.insert(shard.replace("-output-1-", "-output-7-"), Vec::new());
    assert!(
        faults(&unlisted)
            .iter()
            .any(|(class, text)| *class == Severity::Damaged && text.contains("-output-7-"))
    );

    let mut retried = whole.clone();
    retried.insert(shard.replace("-attempt-1", "-attempt-2"), Vec::new());
    assert_eq!(
        faults(&retried),
        [],
        "what a failed attempt left is not part of the backup"
    );

    let mut begun = whole;
    begun.retain(|name, _| !name.ends_with(".backup_info"));
    assert!(
        faults(&begun)
            .iter()
            .all(|(class, _)| *class == Severity::Incomplete)
    );
    assert_eq!(look(&begun).unrelated, [] as [String; 0]);
}

#[test]
fn metadata_past_the_limit_is_refused_unread() {
    let mut objects = small();
    let mark = "a/x/x.overall_export_metadata";
    let listing: Vec<ListedObject> = objects
        .iter()
        .map(|(name, bytes)| ListedObject {
            name: name.clone(),
            len: if name == mark {
                MAX_METADATA_BYTES + 1
            } else {
                bytes.len() as u64
            },
            is_encoded: false,
        })
        .collect();
    assert!(metadata_objects(&listing).all(|object| object.name != mark));
    objects.remove(mark);
    let found = discover(&listing, &objects);
    assert!(
        found.exports[0]
            .faults
            .iter()
            .any(|fault| fault.object == mark && fault.class == Severity::Damaged)
    );
}

// ------------------------------------------------------------------------------------------- what
// file systems and tools do to exports

/// Objects under the names that `rename` makes of theirs.
fn renamed(objects: &Objects, rename: impl Fn(&str) -> String) -> Objects {
    objects
        .iter()
        .map(|(name, bytes)| (rename(name), bytes.clone()))
        .collect()
}

/// The completion marker, with other paths to the metadata.
fn change_paths(objects: &mut Objects, mark: &str, change: impl Fn(&str) -> String) {
    let mut overall = OverallMetadata::parse(&objects[mark]).unwrap();
    overall
        .pointers
        .iter_mut()
        .for_each(|pointer| pointer.metadata_file = change(&pointer.metadata_file));
    objects.insert(mark.to_owned(), overall.encode());
}

/// A finished export of a kind in the default namespace, two outputs.
fn kind_export(folder: &str, kind: &str) -> Objects {
    let name = base(folder);
    let labels = format!("default_namespace/kind_{kind}");
    let metadata_file = format!("{labels}/default_namespace_kind_{kind}.export_metadata");
    let pointer = PartPointer {
        kind: Some(kind.into()),
        namespace: NamespaceSpec::One(Namespace::default()),
        metadata_file: metadata_file.clone(),
        entities: 1,
        bytes: 10,
    };
    let kinds = vec![KindFiles {
        kind: kind.into(),
        files: vec!["output-0".into(), "output-1".into()],
    }];
    let metadata = ExportMetadata {
        name: name.into(),
        started: Timestamp::from_micros(1),
        finished: Timestamp::from_micros(2),
        kinds,
    };
    Objects::from([
        (
            format!("{folder}/{name}.overall_export_metadata"),
            OverallMetadata {
                pointers: vec![pointer],
            }
            .encode(),
        ),
        (format!("{folder}/{metadata_file}"), metadata.encode()),
        (format!("{folder}/{labels}/output-0"), vec![0; 5]),
        (format!("{folder}/{labels}/output-1"), vec![1; 5]),
    ])
}

/// Fails unless the objects are exports of those kinds, with two outputs each, and nothing is wrong
/// with them.
#[track_caller]
fn assert_whole(objects: &Objects, kinds: &[&str], foreign: usize, what: &str) {
    let found = look(objects);
    assert_eq!(faults(objects), [], "{what}");
    let groups: Vec<&ExportPart> = found
        .exports
        .iter()
        .flat_map(|export| &export.groups)
        .collect();
    assert_eq!(
        groups
            .iter()
            .map(|group| group.kind.as_ref().unwrap().as_str())
            .collect::<Vec<_>>(),
        kinds,
        "{what}"
    );
    for group in groups {
        let outputs: Vec<&[u8]> = group
            .outputs
            .iter()
            .map(|output| objects[&output.name].as_slice())
            .collect();
        assert_eq!(outputs, [[0; 5], [1; 5]], "{what}");
    }
    assert_eq!(
        found.unrelated.len(),
        foreign,
        "{what}: {:?}",
        found.unrelated
    );
}

const STAMP: &str = "set/2024-01-02T03:04:05_678";

#[test]
fn names_changed_by_a_tool_are_found_again() {
    let export = kind_export(STAMP, "Größe: x");
    type Rename = fn(&str) -> String;
    let renames: [(&str, Rename); 9] = [
        ("as it is", str::to_owned),
        ("another stamp", |name| {
            name.replace("2024-01-02T03:04:05_678", "monday")
        }),
        ("characters that Windows cannot hold", |name| {
            name.replace(':', "_")
        }),
        ("percent-encoded", |name| {
            name.replace(':', "%3A").replace('ö', "%C3%B6")
        }),
        ("decomposed by macOS", |name| name.replace('ö', "o\u{308}")),
        ("private characters of a share", |name| {
            name.replace(':', "\u{f03a}")
        }),
        ("backslashes in names", |name| name.replace('/', "\\")),
        ("folders written as underscores", |name| {
            name.replace(['/', ':'], "_")
        }),
        ("folders dropped", |name| format!("set/{}", base(name))),
    ];
    for (what, rename) in renames {
        assert_whole(&renamed(&export, rename), &["Größe: x"], 0, what);
    }
}

#[test]
fn flat_exports_are_separated_by_prefix() {
    let objects: Objects = kind_export("set/User", "User")
        .into_iter()
        .chain(kind_export("set/Order", "Order"))
        .collect();
    let flat = renamed(&objects, |name| name.replace('/', "_"));
    assert_whole(&flat, &["Order", "User"], 0, "flat");
    let listed: BTreeMap<String, String> = look(&flat)
        .exports
        .into_iter()
        .flat_map(|export| export.listed_as)
        .collect();
    assert_eq!(
        listed["set_User_default_namespace_kind_User_output-0"],
        "User/default_namespace/kind_User/output-0"
    );
    assert_eq!(
        listed["set_User_User.overall_export_metadata"],
        "User/User.overall_export_metadata"
    );
    let mut unlisted = flat;
    unlisted.insert(
        "set_User_default_namespace_kind_User_output-2".to_owned(),
        Vec::new(),
    );
    assert!(
        faults(&unlisted)
            .iter()
            .any(|(class, text)| *class == Severity::Damaged && text.contains("output-2"))
    );
}

#[test]
fn windows_export_is_read_by_backslashes() {
    let mut objects = small();
    change_paths(&mut objects, "a/x/x.overall_export_metadata", |path| {
        path.replace('/', "\\")
    });
    assert_eq!(faults(&objects), []);
    assert_eq!(look(&objects).unrelated, [] as [String; 0]);
    // A kind may hold a backslash: the name as it is written goes first.
    let objects = kind_export("a/x", "a\\b");
    assert_whole(&objects, &["a\\b"], 0, "a kind with a backslash");
    let mut outside = small();
    change_paths(&mut outside, "a/x/x.overall_export_metadata", |_| {
        "..\\y\\m.export_metadata".to_owned()
    });
    outside.insert("a/y/m.export_metadata".to_owned(), Vec::new());
    assert!(
        look(&outside)
            .exports
            .iter()
            .any(|export| !export.is_complete()),
        "a path out of the folder finds nothing"
    );
}

#[test]
fn system_files_belong_to_no_export() {
    let mac = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ".to_vec();
    let mut objects: Objects = small()
        .into_iter()
        .chain(fixture("legacy/myapp-backups"))
        .collect();
    let whole = look(&objects).exports.len();
    let names: Vec<String> = objects.keys().cloned().collect();
    for name in &names {
        objects.insert(
            below(folder(name), &format!("._{}", base(name))),
            mac.clone(),
        );
        objects.insert(
            format!(
                "__MACOSX/{}",
                below(folder(name), &format!("._{}", base(name)))
            ),
            Vec::new(),
        );
    }
    for stray in [
        "a/x/.DS_Store",
        "a/Thumbs.db",
        "a/x/default_namespace/desktop.ini",
        "a/x/default_namespace/kind_User/output-0:Zone.Identifier",
    ] {
        objects.insert(stray.to_owned(), b"x".to_vec());
    }
    assert_eq!(faults(&objects), []);
    assert_eq!(
        (look(&objects).exports.len(), look(&objects).unrelated.len()),
        (whole, 2 * names.len() + 4)
    );
    // An export that is really called so is one.
    assert_whole(
        &kind_export("a/._x", "User"),
        &["User"],
        0,
        "an export of that name",
    );
}

#[test]
fn copied_file_does_not_make_export_ambiguous() {
    let mut objects = small();
    for name in objects.keys().cloned().collect::<Vec<_>>() {
        let bytes = objects[&name].clone();
        let copy = match name.split_once(".") {
            Some((stem, ending)) => format!("{stem} (1).{ending}"),
            None => format!("{name} (1)"),
        };
        objects.insert(copy, bytes);
    }
    assert_eq!(faults(&objects), []);
    // The only file that may be meant is taken, and of two neither.
    let output = "a/x/default_namespace/kind_User/output-0";
    objects.remove(output);
    assert_eq!(faults(&objects), []);
    objects.insert(format!("{output} (2)"), vec![0; 5]);
    let found = faults(&objects);
    assert!(
        matches!(&found[..], [(Severity::Incomplete, text)] if text.contains("is not clear which")),
        "{found:?}"
    );
}

#[test]
fn merged_folders_of_two_kinds_are_one_line() {
    let objects: Objects = kind_export("set/x", "User")
        .into_iter()
        .chain(kind_export("set/x", "Order"))
        .collect();
    let mut objects = objects;
    let pointers: Vec<PartPointer> = ["User", "Order"]
        .iter()
        .flat_map(|kind| {
            OverallMetadata::parse(&kind_export("set/x", kind)["set/x/x.overall_export_metadata"])
                .unwrap()
                .pointers
        })
        .collect();
    objects.insert(
        "set/x/x.overall_export_metadata".to_owned(),
        OverallMetadata { pointers }.encode(),
    );
    assert_whole(&objects, &["Order", "User"], 0, "in folders");
    let found = faults(&renamed(&objects, |name| base(name).to_owned()));
    assert!(
        matches!(&found[..], [(Severity::Incomplete, text)] if text.contains("is not clear which")),
        "{found:?}"
    );
}

#[test]
fn unreadable_marker_is_the_only_problem() {
    for spoil in [
        Vec::clear as fn(&mut Vec<u8>),
        |bytes| bytes.truncate(40),
        |bytes| bytes[10] ^= 1,
    ] {
        let mut objects = small();
        spoil(objects.get_mut("a/x/x.overall_export_metadata").unwrap());
        assert_eq!(faults(&objects).len(), 1, "{:?}", faults(&objects));
    }
    let mut legacy = fixture("legacy/myapp-backups");
    let mark = legacy
        .keys()
        .find(|name| base(name).matches('.').count() == 1)
        .unwrap()
        .clone();
    legacy.get_mut(&mark).unwrap().clear();
    assert_eq!(faults(&legacy).len(), 1, "{:?}", faults(&legacy));
}

#[test]
fn long_outputs_may_be_right_short_ones_grow() {
    // Five entities of ten bytes have five headers of seven.
    let bytes_of = |len: usize| {
        let mut objects = small();
        objects.insert(
            "a/x/default_namespace/kind_User/output-1".to_owned(),
            vec![0; len],
        );
        look(&objects).exports.remove(0).faults
    };
    assert_eq!(bytes_of(5), []);
    assert_eq!(bytes_of(40), []);
    assert_eq!(bytes_of(32_763), []);
    for short in [0, 4, 39] {
        assert!(
            matches!(&bytes_of(short)[..], [fault] if fault.may_ripen && fault.class == Severity::Damaged),
            "{short}"
        );
    }
}

#[test]
fn accepted_counts_leave_every_other_fault() {
    let mut objects = small();
    objects.insert(
        "a/x/default_namespace/kind_User/output-1".to_owned(),
        Vec::new(),
    );
    let mut export = look(&objects).exports.remove(0);
    export.accept_counts(&["Order".parse().unwrap()]);
    assert_eq!(export.faults.len(), 1);
    export.accept_counts(&["Us*".parse().unwrap()]);
    assert_eq!(export.faults, []);
    objects.remove("a/x/default_namespace/kind_User/output-1");
    let mut export = look(&objects).exports.remove(0);
    export.accept_counts(&[Selector::everything()]);
    assert_eq!(export.faults.len(), 1);
}

proptest::proptest! {
    #[test]
    fn every_object_belongs_somewhere_or_is_unrelated(
        names in proptest::collection::btree_set("(a|b|x)(/(a|kind_X|output-1|datastore_backup_A_B-1-output-0-attempt-1|k.backup_info|k.K.backup_info|x.overall_export_metadata|m.export_metadata)){0,4}", 0..12),
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
    ) {
        let objects: Objects = names.into_iter().map(|name| (name, bytes.clone())).collect();
        let found = look(&objects);
        let mut told: BTreeSet<String> = found.unrelated.iter().cloned().collect();
        for export in &found.exports {
            told.extend(export.objects().iter().map(|object| object.name.to_owned()));
            // An export of which nothing can be packed must say why.
            assert!(!export.faults.is_empty() || export.mark.is_some());
        }
        for name in objects.keys() {
            let home = told.contains(name) || found.exports.iter().any(|export| !export.faults.is_empty());
            assert!(home, "{name} is passed over: {found:?}");
        }
    }
}
