use std::fs;
use std::path::Path;

use super::*;
use crate::entity::metadata::{ExportMetadata, KindFiles, NamespaceSpec, OverallMetadata, Pointer};

/// A listing that can be spoilt: names with their bytes.
type Objects = BTreeMap<String, Vec<u8>>;

fn fixture(folder: &str) -> Objects {
    fn walk(folder: &Path, prefix: &str, objects: &mut Objects) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = below(prefix, path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() { walk(&path, &name, objects) } else { drop(objects.insert(name, fs::read(&path).unwrap())) }
        }
    }
    let mut objects = Objects::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder), "", &mut objects);
    objects
}

fn look(objects: &Objects) -> Discovery {
    let listing: Vec<Listed> =
        objects.iter().map(|(name, bytes)| Listed { name: name.clone(), len: bytes.len() as u64, is_encoded: false }).collect();
    let metadata = metadata_objects(&listing).map(|object| (object.name.clone(), objects[&object.name].clone())).collect();
    discover(&listing, &metadata)
}

fn faults(objects: &Objects) -> Vec<(FaultClass, String)> {
    look(objects).exports.into_iter().flat_map(|export| export.faults).map(|fault| (fault.class, fault.to_string())).collect()
}

/// One managed export of one kind with two outputs.
fn small() -> Objects {
    export_of(&["output-0", "output-1"], 5, 10)
}

fn export_of(files: &[&str], entities: u64, bytes: u64) -> Objects {
    let metadata_file = "default_namespace/kind_User/default_namespace_kind_User.export_metadata";
    let pointer = Pointer {
        kind: Some("User".into()),
        namespace: NamespaceSpec::One(Namespace::default()),
        metadata_file: metadata_file.into(),
        entities,
        bytes,
    };
    let kinds = vec![KindFiles { kind: "User".into(), files: files.iter().map(|file| (*file).to_owned()).collect() }];
    let metadata = ExportMetadata { name: "x".into(), started: Timestamp::from_micros(1), finished: Timestamp::from_micros(2), kinds };
    let mut objects = Objects::from([
        ("a/x/x.overall_export_metadata".to_owned(), OverallMetadata { pointers: vec![pointer] }.encode()),
        (format!("a/x/{metadata_file}"), metadata.encode()),
    ]);
    for file in files.iter().filter(|file| stays_inside(file)) {
        objects.insert(format!("a/x/default_namespace/kind_User/{file}"), vec![0; 5]);
    }
    objects
}

#[test]
fn every_fixture_is_found_whole_and_nothing_of_it_is_passed_over() {
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
        ("", 40, 5),
    ] {
        let found = look(&fixture(folder));
        assert_eq!(found.exports.iter().flat_map(|export| &export.faults).collect::<Vec<_>>(), [] as [&Fault; 0], "{folder}");
        assert_eq!((found.exports.len(), found.foreign.len()), (exports, foreign), "{folder}: {:?}", found.foreign);
    }
}

#[test]
fn pairs_are_declared_by_metadata_and_left_open_where_it_leaves_them_open() {
    let pairs = |folder: &str| look(&fixture(folder)).exports[0].declared_pairs();
    let four =
        [("", "Customer"), ("", "Product"), ("acme", "Customer"), ("acme", "Product")].map(|(namespace, kind)| Pair::new(namespace, kind));
    assert_eq!(pairs("managed-variants/two_kinds_two_namespaces"), Some(BTreeSet::from(four)));
    assert_eq!(pairs("managed-variants/all_namespaces_one_kind"), None);
    assert_eq!(pairs("managed-variants/everything_no_filter"), None);
    assert_eq!(pairs("managed-variants/kind_without_entities"), Some(BTreeSet::new()));
}

#[test]
fn outputs_stand_by_number_and_the_finish_mark_comes_last() {
    let objects = export_of(&["output-10", "output-9", "output-0"], 5, 15);
    let export = &look(&objects).exports[0];
    let names: Vec<&str> = export.objects().iter().map(|object| base(object.name)).collect();
    assert_eq!(names[..3], ["output-0", "output-9", "output-10"]);
    assert!(names.last().unwrap().ends_with(".overall_export_metadata"));
    assert_eq!(export.faults, []);
}

#[test]
fn each_deed_is_told_with_its_object_and_its_class() {
    type Deed = fn(&mut Objects);
    const OUTPUT: &str = "a/x/default_namespace/kind_User/output-1";
    const METADATA: &str = "a/x/default_namespace/kind_User/default_namespace_kind_User.export_metadata";
    const MARK: &str = "a/x/x.overall_export_metadata";
    let deeds: [(&str, FaultClass, &str, Deed); 8] = [
        ("the finish mark is not there yet", FaultClass::Incomplete, "a/x: expected a finish mark", |objects| drop(objects.remove(MARK))),
        ("a listed output is missing", FaultClass::Incomplete, OUTPUT, |objects| drop(objects.remove(OUTPUT))),
        ("the metadata of a kind is missing", FaultClass::Incomplete, METADATA, |objects| drop(objects.remove(METADATA))),
        ("an output is not listed", FaultClass::Damaged, "kind_User/output-2: ", |objects| {
            objects.insert("a/x/default_namespace/kind_User/output-2".into(), Vec::new());
        }),
        ("an output has another length", FaultClass::Damaged, "outputs of 10 bytes", |objects| objects.get_mut(OUTPUT).unwrap().push(0)),
        ("the finish mark is cut", FaultClass::Damaged, MARK, |objects| objects.get_mut(MARK).unwrap().truncate(40)),
        ("the metadata is something else", FaultClass::Damaged, METADATA, |objects| *objects.get_mut(METADATA).unwrap() = b"no".to_vec()),
        ("an unknown version", FaultClass::Damaged, MARK, |objects| {
            let mut out = Vec::new();
            let mut log = crate::entity::LogWriter::new();
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
        assert!(found.iter().any(|(found, text)| *found == class && text.contains(told)), "{deed}: {found:?}");
    }
}

#[test]
fn a_path_that_leaves_its_folder_is_damage() {
    for path in ["../output-0", "/etc/passwd", "a//b", "./output-0"] {
        let found = faults(&export_of(&[path], 0, 0));
        assert!(
            found.iter().any(|(class, text)| *class == FaultClass::Damaged && text.contains("inside the export's folder")),
            "{path}: {found:?}"
        );
    }
}

#[test]
fn the_kind_of_an_unfinished_export_is_told_where_its_metadata_is_there() {
    let mut objects = small();
    objects.remove("a/x/x.overall_export_metadata");
    let export = &look(&objects).exports[0];
    assert_eq!(export.groups.iter().map(|group| group.kind.clone()).collect::<Vec<_>>(), [Some(Kind::new("User"))]);
    assert!(!export.is_complete());
}

#[test]
fn a_legacy_backup_is_found_wherever_it_was_moved() {
    for place in ["", "elsewhere/deep"] {
        let objects: Objects = fixture("legacy/myapp-backups").into_iter().map(|(name, bytes)| (below(place, &name), bytes)).collect();
        let found = look(&objects);
        assert_eq!(faults(&objects), [], "{place}");
        assert_eq!(found.exports.len(), 3);
        let shards: Vec<usize> = found.exports.iter().flat_map(|export| &export.groups).map(|group| group.outputs.len()).collect();
        assert_eq!(shards.iter().sum::<usize>(), 6, "a shard of no bytes counts as well");
    }
}

#[test]
fn a_legacy_backup_without_a_shard_or_with_one_too_many_is_told() {
    let whole = fixture("legacy/myapp-backups");
    let shard = whole.keys().find(|name| name.contains("Photo") && name.contains("-output-1-")).unwrap().clone();

    let mut missing = whole.clone();
    missing.remove(&shard);
    assert!(faults(&missing).iter().any(|(class, text)| *class == FaultClass::Incomplete && text.starts_with(&shard)));

    let mut unlisted = whole.clone();
    unlisted.insert(shard.replace("-output-1-", "-output-7-"), Vec::new());
    assert!(faults(&unlisted).iter().any(|(class, text)| *class == FaultClass::Damaged && text.contains("-output-7-")));

    let mut retried = whole.clone();
    retried.insert(shard.replace("-attempt-1", "-attempt-2"), Vec::new());
    assert_eq!(faults(&retried), [], "what a failed attempt left is not part of the backup");

    let mut begun = whole;
    begun.retain(|name, _| !name.ends_with(".backup_info"));
    assert!(faults(&begun).iter().all(|(class, _)| *class == FaultClass::Incomplete));
    assert_eq!(look(&begun).foreign, [] as [String; 0]);
}

#[test]
fn metadata_past_the_limit_is_refused_unread() {
    let mut objects = small();
    let mark = "a/x/x.overall_export_metadata";
    let listing: Vec<Listed> = objects
        .iter()
        .map(|(name, bytes)| Listed {
            name: name.clone(),
            len: if name == mark { METADATA_MAX_BYTES + 1 } else { bytes.len() as u64 },
            is_encoded: false,
        })
        .collect();
    assert!(metadata_objects(&listing).all(|object| object.name != mark));
    objects.remove(mark);
    let found = discover(&listing, &objects);
    assert!(found.exports[0].faults.iter().any(|fault| fault.object == mark && fault.class == FaultClass::Damaged));
}

proptest::proptest! {
    #[test]
    fn every_object_of_any_listing_belongs_to_an_export_or_is_foreign(
        names in proptest::collection::btree_set("(a|b|x)(/(a|kind_X|output-1|datastore_backup_A_B-1-output-0-attempt-1|k.backup_info|k.K.backup_info|x.overall_export_metadata|m.export_metadata)){0,4}", 0..12),
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
    ) {
        let objects: Objects = names.into_iter().map(|name| (name, bytes.clone())).collect();
        let found = look(&objects);
        let mut told: BTreeSet<String> = found.foreign.iter().cloned().collect();
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
