//! What must be refused: sets that are not whole, archives that are damaged, and command lines that
//! mean nothing. Never a panic, never half a file under a final name.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use kindpack::export::log::{self, LogError, LogWriter};
use kindpack::export::metadata::{ExportMetadata, OverallMetadata};
use kindpack::model::KindRef;
use kindpack::progress::NoProgress;
use kindpack::runtime::workers::Workers;
use kindpack::store::{DirStore, Store};
use kindpack::verify::{VerifyScope, verify};
use serde_json::{Value, json};

use crate::support::data::{Made, STARTED_MICROS, made, write_export};
use crate::support::fixtures::{fixture, legacy, managed};
use crate::support::{TestDir, copy_folder, files_below, write};

// ------------------------------------------------------------------------------------------------------
// what once went through

fn records(
    namespace: &'static str,
    kind: &'static str,
    count: u64,
    blob_len: usize,
) -> Vec<Vec<u8>> {
    made("demo-src", namespace, kind, count, blob_len)
        .iter()
        .map(Made::record)
        .collect()
}

#[test]
fn large_stored_outputs_are_inspected() {
    let desk = TestDir::new();
    let mut outputs = Vec::new();
    for kind in ["Song", "Film"] {
        let folder = desk.work().join("source").join(kind);
        write_export(
            &folder,
            &KindRef::new("", kind),
            STARTED_MICROS,
            &records("", kind, 12, 900_000),
            1,
        );
        let output = files_below(&folder)
            .into_iter()
            .find(|(name, _)| name.ends_with("output-0"))
            .unwrap()
            .1;
        assert!(fs::metadata(&output).unwrap().len() > 8 << 20);
        outputs.push(output);
    }
    let packed = desk.json(0, &["pack", "source", "set.zip", "--method", "store"]);
    assert_eq!(packed["entities"], 24);
    desk.json(0, &["verify", "set.zip"]);
    let mut bytes = fs::read(&outputs[1]).unwrap();
    bytes[5 << 20] ^= 1;
    fs::write(&outputs[1], bytes).unwrap();
    desk.json(4, &["pack", "source", "bad.zip", "--method", "store"]);
    assert!(!desk.path("bad.zip").exists() && !desk.path("bad.zip.sha256").exists());
}

#[test]
fn records_as_large_as_the_emulators_are_packed() {
    let pair = KindRef::new("acme", "Song");
    let mut record = records("acme", "Song", 1, 4_190_000).remove(0);
    // Unindexed, in one array, as the emulator stores them.
    record.extend(b"\x7a\x09\x1a\x01a\x20\x01\x2a\x02\x10\x01".repeat(150_000));
    let desk = TestDir::new();
    write_export(&desk.path("source"), &pair, STARTED_MICROS, &[record], 1);
    desk.pack("source");
    let line: Value =
        serde_json::from_slice(&desk.expect(0, &["cat", "set.zip", "Song"]).out).unwrap();
    assert_eq!(
        line["properties"]["a"]["arrayValue"]["values"]
            .as_array()
            .unwrap()
            .len(),
        150_000
    );
}

#[test]
fn records_larger_than_any_entity_are_damage() {
    let pair = KindRef::new("acme", "Song");
    let small = || records("acme", "Song", 1, 10).remove(0);
    let many_properties = [small(), b"\x72\x00".repeat(500_001)].concat();
    let large = records("acme", "Song", 1, (8 << 20) + 1).remove(0);
    for (record, words) in [
        (large, "a record has more than 8388608 bytes"),
        (many_properties, "more than 500000 properties"),
    ] {
        let desk = TestDir::new();
        write_export(
            &desk.path("source"),
            &pair,
            STARTED_MICROS,
            &[small(), record],
            1,
        );
        let run = desk.expect(4, &["pack", "source", "set.zip"]);
        assert!(run.err.contains(words), "{}", run.brief());
        assert!(!desk.path("set.zip").exists());
    }
}

#[test]
fn namespace_path_is_damage() {
    let desk = TestDir::new();
    for (number, namespace) in ["../../evil", "/evil", "a/b", "line\nbreak"]
        .into_iter()
        .enumerate()
    {
        let source = format!("source{number}");
        // The layout is written for a namespace that a folder can have; the metadata and the keys
        // name another.
        let folder = desk.work().join(&source);
        write_export(
            &folder,
            &KindRef::new("fine", "Song"),
            STARTED_MICROS,
            &records(namespace, "Song", 3, 10),
            1,
        );
        desk.json(4, &["pack", &source, "deep/er/archives/"]);
    }
    assert!(
        !desk
            .path("deep")
            .join("evil_backup_20131012063742.zip")
            .exists()
    );
    assert!(
        files_below(&desk.work())
            .keys()
            .all(|name| !name.ends_with(".zip"))
    );
}

#[test]
fn exports_of_equal_age_are_ambiguous() {
    let desk = TestDir::new();
    for (folder, count) in [("source/a", 3), ("source/b", 5)] {
        write_export(
            &desk.work().join(folder),
            &KindRef::new("", "Song"),
            STARTED_MICROS,
            &records("", "Song", count, 10),
            1,
        );
    }
    desk.json(3, &["pack", "source", "set.zip", "--latest"]);
    write_export(
        &desk.work().join("source/c"),
        &KindRef::new("", "Song"),
        STARTED_MICROS + 1_000_000,
        &records("", "Song", 7, 10),
        1,
    );
    assert_eq!(
        desk.json(0, &["pack", "source", "set.zip", "--latest"])["entities"],
        7
    );
}

#[test]
fn a_selector_that_chooses_nothing_packs_nothing() {
    let desk = TestDir::new();
    desk.json(
        2,
        &[
            "pack",
            &managed().source,
            "set.zip",
            "--only",
            "Customer",
            "--only",
            "Custmer",
        ],
    );
    assert!(!desk.path("set.zip").exists());
    desk.json(
        0,
        &[
            "pack",
            &managed().source,
            "set.zip",
            "--only",
            "Customer",
            "--exclude",
            "NotTonight",
        ],
    );
}

#[test]
fn a_file_of_somebody_else_is_no_journal() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    for theirs in ["my notes", "{\"key\": \"secret\"}\n"] {
        desk.write("notes", theirs);
        desk.json(5, &["restore", "plan.json", "--journal", "notes"]);
        assert_eq!(desk.read("notes"), theirs.as_bytes());
    }
}

// ------------------------------------------------------------------------------------------------------------------
// damaged exports

/// The two exports of `gcs_layout`, and where their parts lie.
const ORDER: &str = "backups/20131012/Order";
const ORDER_MARK: &str = "backups/20131012/Order/Order.overall_export_metadata";
const ORDER_METADATA: &str =
    "backups/20131012/Order/namespace_acme/kind_Order/namespace_acme_kind_Order.export_metadata";
const ORDER_OUTPUT: &str = "backups/20131012/Order/namespace_acme/kind_Order/output-0";
const CUSTOMER_OUTPUT: &str = "backups/20131012/Customer/namespace_acme/kind_Customer/output-0";
const CUSTOMER_MARK: &str = "backups/20131012/Customer/Customer.overall_export_metadata";

fn change(root: &Path, name: &str, deed: impl FnOnce(&mut Vec<u8>)) {
    let path = root.join(name);
    let mut bytes = fs::read(&path).unwrap();
    deed(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn change_mark(root: &Path, name: &str, deed: impl FnOnce(&mut OverallMetadata)) {
    change(root, name, |bytes| {
        let mut mark = OverallMetadata::parse(bytes).unwrap();
        deed(&mut mark);
        *bytes = mark.encode();
    });
}

fn change_metadata(root: &Path, name: &str, deed: impl FnOnce(&mut ExportMetadata)) {
    change(root, name, |bytes| {
        let mut metadata = ExportMetadata::parse(bytes).unwrap();
        deed(&mut metadata);
        *bytes = metadata.encode();
    });
}

/// Lets the completion marker tell the size that the outputs now have, so that only what is inside them
/// can tell.
fn correct_size(root: &Path, mark: &str, output: &str) {
    let len = fs::metadata(root.join(output)).unwrap().len();
    change_mark(root, mark, |mark| mark.pointers[0].bytes = len);
}

/// Where the records of a log end.
fn record_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while at + 7 <= bytes.len() {
        let len = usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        let ends_record = matches!(bytes[at + 6], 1 | 4);
        at += 7 + len;
        if ends_record {
            ends.push(at);
        }
        if 32_768 - at % 32_768 < 7 {
            at = at.next_multiple_of(32_768);
        }
    }
    ends
}

fn log_of(records: &[&[u8]]) -> Vec<u8> {
    let mut log = LogWriter::default();
    let mut out = Vec::new();
    records
        .iter()
        .for_each(|record| log.record(record, &mut out));
    log.finish(&mut out);
    out
}

/// What is done to a set, the exit code that follows, and what the error must name.
struct Case {
    name: &'static str,
    deed: fn(&Path),
    code: i32,
    names: &'static [&'static str],
}

fn case(name: &'static str, code: i32, names: &'static [&'static str], deed: fn(&Path)) -> Case {
    Case {
        name,
        deed,
        code,
        names,
    }
}

/// Deeds on `gcs_layout`.
fn managed_cases() -> Vec<Case> {
    vec![
        case(
            "no completion marker",
            3,
            &[ORDER, ".overall_export_metadata"],
            |root| fs::remove_file(root.join(ORDER_MARK)).unwrap(),
        ),
        case(
            "a listed output is missing",
            3,
            &[ORDER, ORDER_OUTPUT],
            |root| fs::remove_file(root.join(ORDER_OUTPUT)).unwrap(),
        ),
        case(
            "the metadata of the kind is missing",
            3,
            &[ORDER, ORDER_METADATA],
            |root| fs::remove_file(root.join(ORDER_METADATA)).unwrap(),
        ),
        case(
            "an output that nothing lists",
            4,
            &[ORDER, "kind_Order/output-1"],
            |root| {
                fs::copy(
                    root.join(ORDER_OUTPUT),
                    root.join(ORDER_OUTPUT.replace("output-0", "output-1")),
                )
                .unwrap();
            },
        ),
        case(
            "an empty output that nothing lists",
            4,
            &[ORDER, "kind_Order/output-12"],
            |root| {
                fs::write(root.join(ORDER_OUTPUT.replace("output-0", "output-12")), "").unwrap();
            },
        ),
        case(
            "metadata that nothing names",
            4,
            &[ORDER, "other.export_metadata"],
            |root| {
                fs::copy(
                    root.join(ORDER_METADATA),
                    root.join(ORDER)
                        .join("namespace_acme/kind_Order/other.export_metadata"),
                )
                .unwrap();
            },
        ),
        case(
            "a flipped bit in the data",
            4,
            &[ORDER, ORDER_OUTPUT, "c"],
            |root| change(root, ORDER_OUTPUT, |bytes| bytes[5_000] ^= 4),
        ),
        case(
            "a flipped bit in a checksum",
            4,
            &[ORDER, ORDER_OUTPUT],
            |root| change(root, ORDER_OUTPUT, |bytes| bytes[0] ^= 1),
        ),
        case(
            "a flipped bit in a length",
            4,
            &[ORDER, ORDER_OUTPUT],
            |root| change(root, ORDER_OUTPUT, |bytes| bytes[4] ^= 1),
        ),
        case(
            "a flipped bit in a type",
            4,
            &[ORDER, ORDER_OUTPUT],
            |root| change(root, ORDER_OUTPUT, |bytes| bytes[6] ^= 8),
        ),
        case(
            "a flipped bit in the last byte",
            4,
            &[ORDER, ORDER_OUTPUT],
            |root| {
                change(root, ORDER_OUTPUT, |bytes| {
                    *bytes.last_mut().unwrap() ^= 0x80
                });
            },
        ),
        case("a cut at the border of a record", 4, &[ORDER], |root| {
            change(root, ORDER_OUTPUT, |bytes| {
                bytes.truncate(record_ends(bytes)[2])
            });
        }),
        case(
            "a cut at the border of a record that only the count tells",
            4,
            &[ORDER, "3", "8"],
            |root| {
                change(root, ORDER_OUTPUT, |bytes| {
                    bytes.truncate(record_ends(bytes)[2])
                });
                correct_size(root, ORDER_MARK, ORDER_OUTPUT);
            },
        ),
        case("a cut in mid-fragment", 4, &[ORDER, ORDER_OUTPUT], |root| {
            change(root, ORDER_OUTPUT, |bytes| {
                bytes.truncate(record_ends(bytes)[2] + 40)
            });
            correct_size(root, ORDER_MARK, ORDER_OUTPUT);
        }),
        case(
            "a cut in a fragment's header",
            4,
            &[ORDER, ORDER_OUTPUT],
            |root| {
                change(root, ORDER_OUTPUT, |bytes| {
                    bytes.truncate(record_ends(bytes)[2] + 3)
                });
                correct_size(root, ORDER_MARK, ORDER_OUTPUT);
            },
        ),
        case(
            "a cut at a block's border inside a record",
            4,
            &["backups/20131012/Customer", CUSTOMER_OUTPUT],
            |root| {
                change(root, CUSTOMER_OUTPUT, |bytes| bytes.truncate(32_768));
                correct_size(root, CUSTOMER_MARK, CUSTOMER_OUTPUT);
            },
        ),
        case(
            "an empty output where entities are counted",
            4,
            &[ORDER],
            |root| change(root, ORDER_OUTPUT, Vec::clear),
        ),
        case(
            "an empty output where only entities are counted",
            4,
            &[ORDER, "8"],
            |root| {
                change(root, ORDER_OUTPUT, Vec::clear);
                correct_size(root, ORDER_MARK, ORDER_OUTPUT);
            },
        ),
        case("bytes behind the last record", 4, &[ORDER], |root| {
            change(root, ORDER_OUTPUT, |bytes| bytes.extend([1; 30]))
        }),
        case("a wrong count of entities", 4, &[ORDER, "9", "8"], |root| {
            change_mark(root, ORDER_MARK, |mark| mark.pointers[0].entities = 9)
        }),
        case(
            "a wrong sum of bytes",
            4,
            &[ORDER, "8848", "8849"],
            |root| change_mark(root, ORDER_MARK, |mark| mark.pointers[0].bytes += 1),
        ),
        case(
            "keys of another kind",
            4,
            &[ORDER, ORDER_OUTPUT, "acme/Customer"],
            |root| {
                fs::copy(root.join(CUSTOMER_OUTPUT), root.join(ORDER_OUTPUT)).unwrap();
                correct_size(root, ORDER_MARK, ORDER_OUTPUT);
                let count = OverallMetadata::parse(&fs::read(root.join(CUSTOMER_MARK)).unwrap())
                    .unwrap()
                    .pointers[0]
                    .entities;
                change_mark(root, ORDER_MARK, |mark| mark.pointers[0].entities = count);
            },
        ),
        case(
            "a key of another namespace",
            4,
            &["exports/2013-10-12T06:37:42_287", "output-0", "beta/Song"],
            |root| {
                let mut records: Vec<Vec<u8>> = made("demo-src", "acme", "Song", 5, 10)
                    .iter()
                    .map(Made::record)
                    .collect();
                records[3] = Made {
                    namespace: "beta",
                    ..made("demo-src", "acme", "Song", 1, 10).remove(0)
                }
                .record();
                write_export(
                    &root.join("exports"),
                    &KindRef::new("acme", "Song"),
                    STARTED_MICROS,
                    &records,
                    1,
                );
            },
        ),
        case(
            "a record that is no entity",
            4,
            &["exports/2013-10-12T06:37:42_287", "output-0"],
            |root| {
                write_export(
                    &root.join("exports"),
                    &KindRef::new("acme", "Song"),
                    STARTED_MICROS,
                    &[b"no entity".to_vec()],
                    1,
                );
            },
        ),
        case(
            "a path of the completion marker that leaves its folder",
            4,
            &[ORDER, ORDER_MARK, ".."],
            |root| {
                change_mark(root, ORDER_MARK, |mark| {
                    mark.pointers[0].metadata_file = "../Order/namespace_acme/kind_Order/namespace_acme_kind_Order.export_metadata".to_owned();
                });
            },
        ),
        case(
            "an absolute path in the completion marker",
            4,
            &[ORDER, ORDER_MARK],
            |root| {
                change_mark(root, ORDER_MARK, |mark| {
                    mark.pointers[0].metadata_file.insert(0, '/')
                });
            },
        ),
        case(
            "a path of the metadata that leaves its folder",
            4,
            &[ORDER, ORDER_METADATA, ".."],
            |root| {
                change_metadata(root, ORDER_METADATA, |metadata| {
                    metadata.kinds[0].files[0] = "../kind_Order/output-0".to_owned()
                });
            },
        ),
        case(
            "an absolute path in the metadata",
            4,
            &[ORDER, ORDER_METADATA],
            |root| {
                change_metadata(root, ORDER_METADATA, |metadata| {
                    metadata.kinds[0].files[0] = "/etc/hostname".to_owned()
                });
            },
        ),
        case(
            "an output that is listed twice",
            4,
            &[ORDER, ORDER_METADATA, "output-0"],
            |root| {
                change_metadata(root, ORDER_METADATA, |metadata| {
                    metadata.kinds[0].files.push("output-0".to_owned())
                });
            },
        ),
        case(
            "metadata of another kind than the completion marker says",
            4,
            &[ORDER, ORDER_METADATA, "Customer"],
            |root| {
                change_metadata(root, ORDER_METADATA, |metadata| {
                    metadata.kinds[0].kind = "Customer".to_owned()
                });
            },
        ),
        case("an unknown version", 4, &[ORDER, ORDER_MARK, "4"], |root| {
            change(root, ORDER_MARK, |bytes| {
                let records = log::read_all(bytes).unwrap();
                *bytes = log_of(&[b"4", &records[1]]);
            });
        }),
        case(
            "a completion marker of one record",
            4,
            &[ORDER, ORDER_MARK],
            |root| change(root, ORDER_MARK, |bytes| *bytes = log_of(&[b"3"])),
        ),
        case(
            "an empty completion marker",
            4,
            &[ORDER, ORDER_MARK],
            |root| change(root, ORDER_MARK, Vec::clear),
        ),
        case(
            "a flipped bit in the completion marker",
            4,
            &[ORDER, ORDER_MARK],
            |root| change(root, ORDER_MARK, |bytes| bytes[30] ^= 2),
        ),
        case(
            "a completion marker that is cut",
            4,
            &[ORDER, ORDER_MARK],
            |root| change(root, ORDER_MARK, |bytes| bytes.truncate(40)),
        ),
        case(
            "metadata that is none",
            4,
            &[ORDER, ORDER_METADATA],
            |root| change(root, ORDER_METADATA, |bytes| bytes.fill(0xff)),
        ),
        case("empty metadata", 4, &[ORDER, ORDER_METADATA], |root| {
            change(root, ORDER_METADATA, Vec::clear)
        }),
    ]
}

const KEY: &str = "myapp-backups/agdzfm15YXBwckALEhxfQUVfRGF0YXN0b3JlQWRtaW5fT3BlcmF0aW9uGNk2DAsSFl9BRV9CYWNrdXBfSW5mb3JtYXRpb24Y2jYM";
const USER_0: &str =
    "myapp-backups/datastore_backup_User2013_10_12_User-15813478302761A2B3C4D-output-0-attempt-1";
const USER_1: &str =
    "myapp-backups/datastore_backup_User2013_10_12_User-15813478302761A2B3C4D-output-1-attempt-1";
const USER_3: &str =
    "myapp-backups/datastore_backup_User2013_10_12_User-15813478302761A2B3C4D-output-3-attempt-1";
const TAG_0: &str =
    "myapp-backups/datastore_backup_Tag2013_10_12_Tag-158134782000077AA88BB-output-0-attempt-1";
const SETTING_1: &str =
    "myapp-backups-2015/datastore_backup_Setting2015_12_31_Setting/157493976228055E66F77/output-1";

/// The completion marker of the backup of kind User.
fn user_mark() -> String {
    format!("{KEY}.backup_info")
}

/// Rewrites the properties of the entity that tells of a legacy backup.
fn change_backup(root: &Path, deed: impl Fn(&str, Vec<u8>) -> Vec<u8>) {
    change(root, &user_mark(), |bytes| {
        let mut records = log::read_all(bytes).unwrap();
        records[1] = with_properties(&records[1], deed);
        *bytes = log_of(&records.iter().map(Vec::as_slice).collect::<Vec<_>>());
    });
}

/// An `EntityProto` with each property (14, 15) as `deed` makes it of name and bytes.
fn with_properties(record: &[u8], deed: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    fn varint(bytes: &[u8], at: &mut usize) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    fn put(out: &mut Vec<u8>, mut value: usize) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    let (mut at, mut out) = (0, Vec::new());
    while at < record.len() {
        let tag = varint(record, &mut at);
        assert_eq!(tag & 7, 2, "all fields of an entity have a length");
        let len = varint(record, &mut at);
        let mut field = record[at..at + len].to_vec();
        at += len;
        if matches!(tag >> 3, 14 | 15) {
            let name_at = field.windows(1).position(|byte| byte == [0x1a]).unwrap();
            let name =
                String::from_utf8(field[name_at + 2..][..usize::from(field[name_at + 1])].to_vec())
                    .unwrap();
            field = deed(&name, field);
        }
        put(&mut out, tag);
        put(&mut out, field.len());
        out.extend(field);
    }
    out
}

/// Deeds on `legacy`.
fn legacy_cases() -> Vec<Case> {
    vec![
        case(
            "a backup without a time of completion",
            3,
            &[KEY, "complete_time"],
            |root| {
                change_backup(root, |name, field| {
                    if name == "complete_time" {
                        renamed(field)
                    } else {
                        field
                    }
                });
            },
        ),
        case(
            "a backup whose time of completion is null",
            3,
            &[KEY, "complete_time"],
            |root| {
                change_backup(root, |name, field| {
                    if name == "complete_time" {
                        nulled(field)
                    } else {
                        field
                    }
                });
            },
        ),
        case("a listed shard is missing", 3, &[KEY, USER_1], |root| {
            fs::remove_file(root.join(USER_1)).unwrap()
        }),
        case(
            "the backup's own information is missing",
            3,
            &["User.backup_info"],
            |root| fs::remove_file(root.join(user_mark())).unwrap(),
        ),
        case("a shard that nothing lists", 4, &[KEY, USER_3], |root| {
            fs::copy(root.join(USER_1), root.join(USER_3)).unwrap();
        }),
        case(
            "a shard in a folder that nothing lists",
            4,
            &[SETTING_1],
            |root| write(&root.join(SETTING_1), [0; 32_768]),
        ),
        case("a flipped bit in a shard", 4, &[KEY, USER_0], |root| {
            change(root, USER_0, |bytes| bytes[100] ^= 1)
        }),
        case(
            "a shard that is cut in mid-fragment",
            4,
            &[KEY, USER_0],
            |root| change(root, USER_0, |bytes| bytes.truncate(50)),
        ),
        case(
            "keys of another kind in a shard",
            4,
            &[KEY, USER_0, "Tag"],
            |root| {
                fs::copy(root.join(TAG_0), root.join(USER_0)).unwrap();
            },
        ),
        case("an unknown version of the information", 4, &[KEY], |root| {
            change(root, &user_mark(), |bytes| {
                let mut records = log::read_all(bytes).unwrap();
                records[0] = b"2".to_vec();
                *bytes = log_of(&records.iter().map(Vec::as_slice).collect::<Vec<_>>());
            });
        }),
        case("a flipped bit in the information", 4, &[KEY], |root| {
            change(root, &user_mark(), |bytes| bytes[40] ^= 1)
        }),
        case("empty information", 4, &[KEY], |root| {
            change(root, &user_mark(), Vec::clear)
        }),
    ]
}

/// The property under another name.
fn renamed(mut field: Vec<u8>) -> Vec<u8> {
    let at = field.windows(4).position(|bytes| bytes == b"comp").unwrap();
    field[at] = b'k';
    field
}

/// The property with an empty value, which is null.
fn nulled(mut field: Vec<u8>) -> Vec<u8> {
    let at = field.windows(4).position(|bytes| bytes == b"comp").unwrap() + "complete_time".len();
    let value = at + field[at..].iter().position(|byte| *byte == 0x2a).unwrap();
    field.truncate(value);
    field.extend([0x2a, 0]);
    field
}

#[test]
fn incomplete_set_is_refused_without_traces() {
    let sets = [
        (fixture("managed-variants/gcs_layout"), managed_cases()),
        (legacy().source, legacy_cases()),
    ];
    let mut wrong = Vec::new();
    for (source, cases) in sets {
        for case in cases {
            let desk = TestDir::new();
            copy_folder(Path::new(&source), &desk.path("source"));
            (case.deed)(&desk.path("source"));
            let run = desk.run(&["pack", "source", "out/set.zip"]);
            let lacking: Vec<_> = case
                .names
                .iter()
                .filter(|name| !run.err.contains(*name))
                .collect();
            if run.code != case.code || !lacking.is_empty() {
                wrong.push(format!(
                    "{}: expected exit {} and {lacking:?} in the error, found {}",
                    case.name,
                    case.code,
                    run.brief()
                ));
            }
            let left = if desk.path("out").exists() {
                desk.names_in("out")
            } else {
                Vec::new()
            };
            if !left.is_empty() {
                wrong.push(format!("{}: left behind {left:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_undamaged_copy_is_packed() {
    // What the table above damages would be packed without the damage.
    for source in [fixture("managed-variants/gcs_layout"), legacy().source] {
        let desk = TestDir::new();
        copy_folder(Path::new(&source), &desk.path("source"));
        desk.pack("source");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let desk = TestDir::new();
    copy_folder(Path::new(&managed().source), &desk.path("source"));
    let root = desk.path("source");
    let find = |pair: &str, end: &str| {
        let names = files_below(&root).into_keys();
        names
            .into_iter()
            .find(|name| name.starts_with(pair) && name.ends_with(end))
            .unwrap()
    };
    let flipped = find("default/Customer/", "output-0");
    change(&root, &flipped, |bytes| bytes[20_000] ^= 1);
    let cut = find("acme/Order/", "output-0");
    change(&root, &cut, |bytes| bytes.truncate(record_ends(bytes)[1]));
    correct_size(
        &root,
        &find("acme/Order/", ".overall_export_metadata"),
        &cut,
    );
    let counted = find("beta/Product/", ".overall_export_metadata");
    change_mark(&root, &counted, |mark| mark.pointers[0].entities += 1);

    // What can be seen only in the data.
    let run = desk.expect(4, &["pack", "source", "set.zip", "--jobs", "2"]);
    for name in [&*flipped, "acme/Order", "beta/Product"] {
        assert!(run.err.contains(name), "{name} is not named: {}", run.err);
    }
    assert_eq!(desk.names_in("."), ["source"]);

    // And what can be seen in names and metadata, besides.
    fs::remove_file(root.join(find("acme/Review/", ".overall_export_metadata"))).unwrap();
    let missing = find("beta/Session/", "output-0");
    fs::remove_file(root.join(&missing)).unwrap();
    let run = desk.expect(4, &["pack", "source", "set.zip", "--json"]);
    let problems: Vec<Value> = run
        .events()
        .into_iter()
        .filter(|event| event["event"] == "problem")
        .collect();
    for name in [
        &*flipped,
        "acme/Order",
        "beta/Product",
        "acme/Review",
        &missing,
    ] {
        assert!(run.err.contains(name), "{name} is not named: {}", run.err);
        let told = problems.iter().any(|problem| {
            problem["problem"].as_str().unwrap().contains(name)
                || problem["of"].as_str().unwrap().contains(name)
        });
        assert!(told, "{name} has no event: {problems:?}");
    }
    assert_eq!(desk.names_in("."), ["source"]);
}

#[test]
fn duplicate_exports_need_latest() {
    let desk = TestDir::new();
    let records = |count| {
        made("demo-src", "acme", "Song", count, 10)
            .iter()
            .map(Made::record)
            .collect::<Vec<_>>()
    };
    let pair = KindRef::new("acme", "Song");
    let older = write_export(&desk.path("source"), &pair, STARTED_MICROS, &records(3), 1);
    let newer = write_export(
        &desk.path("source/nested"),
        &pair,
        STARTED_MICROS + 3_600_000_000,
        &records(4),
        2,
    );
    write_export(
        &desk.path("source"),
        &KindRef::new("beta", "Song"),
        STARTED_MICROS + 60_000_000,
        &made("demo-src", "beta", "Song", 2, 9)
            .iter()
            .map(Made::record)
            .collect::<Vec<_>>(),
        1,
    );

    let run = desk.expect(3, &["pack", "source", "set.zip"]);
    assert!(
        run.err.contains(&older) && run.err.contains(&format!("nested/{newer}")),
        "both are named: {}",
        run.err
    );
    assert!(
        run.err.contains("acme/Song") && run.err.contains("--latest"),
        "{}",
        run.err
    );
    assert!(!run.err.contains("beta/Song"), "{}", run.err);
    assert_eq!(desk.names_in("."), ["source"]);

    let event = desk.json(0, &["pack", "source", "set.zip", "--latest"]);
    assert_eq!(
        (&event["kinds"], &event["entities"]),
        (&json!(2), &json!(6))
    );
    let listed = desk.expect(0, &["list", "set.zip", "--json"]).text();
    assert!(
        listed.contains(&newer) && !listed.contains(&older),
        "{listed}"
    );
}

#[test]
fn retried_shard_is_ignored() {
    let desk = TestDir::new();
    copy_folder(Path::new(&legacy().source), &desk.path("source"));
    desk.write(
        &format!("source/{}", USER_0.replace("attempt-1", "attempt-2")),
        [1, 2, 3],
    );
    desk.pack("source");
    let direct = TestDir::new();
    direct.pack(&legacy().source);
    assert_eq!(desk.read("set.zip"), direct.read("set.zip"));
}

#[test]
fn exports_of_several_projects_are_not_packed_together() {
    let desk = TestDir::new();
    for (project, kind) in [("one", "Song"), ("two", "Album")] {
        let records: Vec<Vec<u8>> = made(project, "", kind, 2, 10)
            .iter()
            .map(Made::record)
            .collect();
        write_export(
            &desk.path("source").join(kind),
            &KindRef::new("", kind),
            STARTED_MICROS,
            &records,
            1,
        );
    }
    let run = desk.expect(2, &["pack", "source", "set.zip"]);
    assert!(
        run.err.contains("one") && run.err.contains("two"),
        "{}",
        run.err
    );
    assert_eq!(desk.names_in("."), ["source"]);
    desk.json(0, &["pack", "source", "set.zip", "--only", "Song"]);
}

#[test]
fn names_that_no_archive_can_carry_are_refused() {
    let desk = TestDir::new();
    copy_folder(
        Path::new(&fixture("managed-variants/gcs_layout")),
        &desk.path("source"),
    );
    let name = std::ffi::OsStr::from_bytes(b"output-\xff");
    fs::write(desk.path("source").join(name), "x").unwrap();
    desk.json(4, &["pack", "source", "set.zip"]);
    assert_eq!(desk.names_in("."), ["source"]);
}

// -----------------------------------------------------------------------------------------------------------------
// the command line

#[test]
fn missing_source_is_2_empty_is_3() {
    let desk = TestDir::new();
    desk.json(2, &["pack", "nowhere", "set.zip"]);
    desk.write("file", "x");
    desk.json(2, &["pack", "file", "set.zip"]);
    fs::create_dir(desk.path("empty")).unwrap();
    desk.json(3, &["pack", "empty", "set.zip"]);
    desk.write("notes/readme.txt", "no export");
    desk.json(3, &["pack", "notes", "set.zip"]);
    desk.json(2, &["pack", &legacy().source, "file/set.zip"]);
    copy_folder(Path::new(&legacy().source), &desk.path("source"));
    desk.json(2, &["pack", "source", "source/set.zip"]);
    desk.json(2, &["pack", "source", "set.zip", "--expect", "nowhere"]);
    desk.write("expect", "acme/\\\n");
    desk.json(2, &["pack", "source", "set.zip", "--expect", "expect"]);
    assert_eq!(
        desk.names_in("."),
        ["empty", "expect", "file", "notes", "source"]
    );
}

/// Every command that reads an archive, with `set.zip` in its place.
const READERS: [&[&str]; 7] = [
    &["list", "set.zip"],
    &["verify", "set.zip"],
    &["verify", "set.zip", "--quick"],
    &["cat", "set.zip", "*"],
    &["extract", "set.zip", "out"],
    &[
        "plan",
        "set.zip",
        "--target",
        "ndjson:out",
        "-o",
        "plan.json",
    ],
    &[
        "restore",
        "set.zip",
        "--target",
        "ndjson:out",
        "--journal",
        "plan.json",
    ],
];

#[test]
fn missing_archive_is_2_invalid_is_4() {
    let mut zip = Vec::new();
    {
        use std::io::Write as _;
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(&mut zip));
        writer
            .start_file("hello.txt", zip::write::SimpleFileOptions::default())
            .unwrap();
        writer.write_all(b"hello").unwrap();
        writer.finish().unwrap();
    }
    for args in READERS {
        let desk = TestDir::new();
        let missing = desk.json(2, args);
        assert!(
            missing["error"].as_str().unwrap().contains("set.zip"),
            "{missing}"
        );
        fs::create_dir(desk.path("set.zip")).unwrap();
        desk.json(2, args);
        fs::remove_dir(desk.path("set.zip")).unwrap();
        for bytes in [
            &b""[..],
            b"PK",
            b"no archive, but some text that goes on for a while, longer than an end record",
            &zip,
        ] {
            desk.write("set.zip", bytes);
            desk.json(4, args);
        }
        assert_eq!(desk.names_in("."), ["set.zip"], "{args:?}");
    }
    let desk = TestDir::new();
    desk.write("set.zip", &zip);
    desk.json(0, &["verify", "set.zip", "--any-zip"]);
}

#[test]
fn missing_plan_is_2_invalid_is_5() {
    let desk = TestDir::new();
    desk.json(2, &["restore", "plan.json"]);
    desk.json(2, &["status", "plan.json"]);
    // What does not even look like a plan may be meant as an archive: then the command line is
    // wrong.
    let texts: [(&[u8], i32); 9] = [
        (b"{", 5),
        (b"{}", 5),
        (br#"{"format":"kindpack-plan/9"}"#, 5),
        (br#"{"format":"kindpack-plan/1"}"#, 5),
        (b"{\xff\xfe", 5),
        (b"", 2),
        (b"[]", 2),
        (b"null", 2),
        (b"\0\x01", 2),
    ];
    for (text, code) in texts {
        desk.write("plan.json", text);
        desk.json(code, &["restore", "plan.json"]);
        desk.json(code, &["status", "plan.json"]);
    }
    fs::remove_file(desk.path("plan.json")).unwrap();
    fs::create_dir(desk.path("plan.json")).unwrap();
    desk.json(2, &["restore", "plan.json"]);
    assert_eq!(desk.names_in("."), ["plan.json"]);
}

#[test]
fn invalid_journal_is_refused_and_kept() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.plan("set.zip", "ndjson:elsewhere", "other.json", &[]);
    desk.json(0, &["restore", "other.json"]);
    let mut damaged = desk.read("other.json.journal");
    damaged[60] ^= 1;
    for journal in [&b"no journal\nat all\n"[..], &damaged] {
        desk.write("plan.json.journal", journal);
        desk.json(5, &["restore", "plan.json"]);
        desk.json(5, &["status", "plan.json"]);
        assert_eq!(desk.read("plan.json.journal"), journal);
    }
    assert!(!desk.path("out").exists());
}

#[test]
fn meaningless_command_lines_are_2() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    let lines: [&[&str]; 29] = [
        &[],
        &["frobnicate"],
        &["pack"],
        &["pack", "source"],
        &["pack", "source", "a.zip", "b.zip"],
        &["pack", "source", "a.zip", "--no-such-flag"],
        &["pack", "", "a.zip"],
        &["pack", "gs://", "a.zip"],
        &["pack", "s3://bucket/exports", "a.zip"],
        &["pack", "source", "a.zip", "--level", "0"],
        &["pack", "source", "a.zip", "--method", "lzma"],
        &["pack", "source", "a.zip", "--wait", "soon"],
        &["pack", "source", "a.zip", "--only", ""],
        &["pack", "source", "a.zip", "--jobs", "0"],
        &["pack", "source", "a.zip", "--memory", "much"],
        &["verify", "set.zip", "--quick", "--any-zip"],
        &["verify", "set.zip", "--namespace", "acme"],
        &["cat", "set.zip"],
        &["cat", "set.zip", "acme/"],
        &["cat", "set.zip", "trailing\\"],
        &["extract", "set.zip", "out", "--format", "tar"],
        &["plan", "set.zip"],
        &["plan", "set.zip", "--target", "nowhere"],
        &["plan", "set.zip", "--target", "emulator:p"],
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "--via",
            "import",
        ],
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "--redact",
            "User.email=blur",
        ],
        &[
            "plan",
            "set.zip",
            "--target",
            "ndjson:out",
            "--on-existing",
            "replace",
        ],
        &["restore", "set.zip"],
        &["backup"],
    ];
    for line in lines {
        let run = desk.run(line);
        assert_eq!(run.code, 2, "kindpack {}: {}", line.join(" "), run.brief());
        assert!(
            run.err.lines().next().is_some_and(|first| first.len() > 10),
            "kindpack {}: {}",
            line.join(" "),
            run.brief()
        );
        if !line.is_empty() {
            desk.json(2, line);
        }
    }
    desk.json(2, &["backup", "--config", "kindpack.toml"]);
    assert_eq!(desk.names_in("."), ["set.zip", "set.zip.sha256"]);
}

#[test]
fn real_service_and_source_project_are_guarded() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    desk.json(5, &["plan", "set.zip", "--target", "datastore:myapp"]);
    let mut command = desk.kindpack(&["plan", "set.zip", "--target", "datastore:other", "--json"]);
    command.env("DATASTORE_EMULATOR_HOST", "127.0.0.1:9");
    let run = crate::support::Running::start(command).wait();
    assert_eq!(run.code, 5, "{}", run.brief());
    assert_eq!(run.last_event()["code"], 5);
    desk.json(5, &["restore", "set.zip", "--target", "datastore:other"]);
}

#[test]
fn choices_beside_a_plan_are_refused() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(2, &["restore", "plan.json", "--target", "ndjson:out"]);
    desk.json(2, &["restore", "plan.json", "--only", "User"]);
    desk.json(2, &["restore", "plan.json", "--on-existing", "merge"]);
    assert!(!desk.path("out").exists());
}

// ------------------------------------------------------------------------------------------------------------------
// edited documents

/// What somebody does to a plan.
type Edit = fn(&mut Value);

#[test]
fn plan_steps_may_only_move_or_go() {
    let desk = TestDir::new();
    desk.pack(&managed().source);
    let plan = desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    let edits: [(&str, Edit); 13] = [
        ("target", |plan| plan["target"] = "ndjson:/elsewhere".into()),
        ("on_existing", |plan| plan["on_existing"] = "merge".into()),
        ("maps", |plan| plan["maps"]["acme"] = "beta".into()),
        ("project", |plan| plan["project"] = "other".into()),
        ("archive", |plan| {
            plan["archive"]["sha256"] = "0".repeat(64).into()
        }),
        ("choices", |plan| {
            plan["choices"]["exclude"] = json!(["Session"])
        }),
        ("a step's kind", |plan| {
            plan["steps"][0]["kind"] = "Order2".into()
        }),
        ("a step's count", |plan| {
            plan["steps"][0]["entities"] = 1_000.into()
        }),
        ("where a step goes", |plan| {
            plan["steps"][0]["to_namespace"] = "elsewhere".into()
        }),
        ("a step twice", |plan| {
            let step = plan["steps"][0].clone();
            plan["steps"].as_array_mut().unwrap().push(step);
        }),
        ("a step's number", |plan| plan["steps"][0]["id"] = 99.into()),
        ("an unknown field", |plan| plan["hello"] = 1.into()),
        ("the seal", |plan| plan["seal"] = "f".repeat(64).into()),
    ];
    for (what, edit) in edits {
        let mut edited = plan.clone();
        edit(&mut edited);
        desk.write(
            "edited.json",
            serde_json::to_string_pretty(&edited).unwrap(),
        );
        let run = desk.run(&["restore", "edited.json"]);
        assert_eq!(run.code, 5, "{what}: {}", run.brief());
        assert!(!desk.path("out").exists(), "{what}");
    }
    let mut edited = plan;
    let steps = edited["steps"].as_array_mut().unwrap();
    steps.reverse();
    steps.truncate(5);
    desk.write("edited.json", serde_json::to_string(&edited).unwrap());
    let event = desk.json(0, &["restore", "edited.json"]);
    assert_eq!(event["steps"], 5);
    assert_eq!(files_below(&desk.path("out")).len(), 5);
}

#[test]
fn replaced_archive_is_refused_after_planning() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    desk.plan("set.zip", "ndjson:out", "plan.json", &[]);
    desk.json(0, &["pack", &managed().source, "set.zip", "--overwrite"]);
    let failed = desk.json(5, &["restore", "plan.json"]);
    assert!(
        failed["error"].as_str().unwrap().contains("sha256"),
        "{failed}"
    );
    assert!(!desk.path("out").exists());
    fs::remove_file(desk.path("set.zip")).unwrap();
    desk.json(2, &["restore", "plan.json"]);
}

// -----------------------------------------------------------------------------------------------------------------
// damaged archives

/// Runs every reader on a damaged archive: `verify` says 4, no other one crashes, and what is
/// extracted is right.
fn read_damaged(desk: &TestDir, whole: &TestDir, what: &str) {
    fs::remove_file(desk.path("set.zip.sha256")).ok();
    desk.json(4, &["verify", "set.zip"]);
    for args in READERS.iter().filter(|args| args[0] != "verify") {
        let run = desk.run(args);
        assert!(
            matches!(run.code, 0 | 4),
            "{what}: kindpack {}: {}",
            args.join(" "),
            run.brief()
        );
        if args[0] == "extract" && desk.path("out").exists() {
            for (name, path) in files_below(&desk.path("out")) {
                let original = fs::read(whole.path("out").join(&name));
                assert!(
                    original.is_ok_and(|original| original == fs::read(path).unwrap()),
                    "{what}: extracted {name} is not the original"
                );
            }
        }
        for name in ["out", "plan.json"] {
            fs::remove_dir_all(desk.path(name))
                .or_else(|_| fs::remove_file(desk.path(name)))
                .ok();
        }
    }
}

#[test]
fn any_flipped_bit_is_found() {
    let whole = TestDir::new();
    whole.pack(&fixture("managed-variants/gcs_layout"));
    whole.json(0, &["extract", "set.zip", "out"]);
    let archive = whole.read("set.zip");
    let end = archive.len() - 1;
    // Evenly spread, and in the headers, the directory and the end besides.
    let near_the_end = [
        0, 1, 2, 3, 6, 9, 10, 13, 17, 20, 21, 22, 30, 50, 70, 100, 150, 200, 300, 400, 500,
    ]
    .map(|back| end - back);
    let begin = [0, 3, 4, 6, 8, 10, 14, 18, 22, 26, 28, 30, 60];
    let places = (0..30)
        .map(|part| end * part / 30)
        .chain(near_the_end)
        .chain(begin);
    let desk = TestDir::new();
    for place in places {
        let mut damaged = archive.clone();
        damaged[place] ^= 1 << (place % 8);
        desk.write("set.zip", &damaged);
        read_damaged(&desk, &whole, &format!("byte {place} of {}", archive.len()));
    }
}

#[test]
fn cut_or_extended_archive_is_found() {
    let whole = TestDir::new();
    whole.pack(&fixture("managed-variants/gcs_layout"));
    whole.json(0, &["extract", "set.zip", "out"]);
    let archive = whole.read("set.zip");
    let len = archive.len();
    let desk = TestDir::new();
    for keep in [
        len - 1,
        len - 2,
        len - 21,
        len - 22,
        len - 23,
        len - 100,
        len - 1_000,
        len / 2,
        100,
        30,
        4,
        1,
    ] {
        desk.write("set.zip", &archive[..keep]);
        read_damaged(&desk, &whole, &format!("cut to {keep} of {len}"));
    }
    for (what, bytes) in [
        ("a byte behind", [&archive[..], &[0]].concat()),
        ("a byte in front", [&[0], &archive[..]].concat()),
        (
            "an end record behind",
            [&archive[..], &archive[len - 22..]].concat(),
        ),
        ("the archive twice", archive.repeat(2)),
        (
            "a byte in the middle",
            [&archive[..len / 2], &[7], &archive[len / 2..]].concat(),
        ),
        (
            "a byte taken out",
            [&archive[..len / 2], &archive[len / 2 + 1..]].concat(),
        ),
    ] {
        desk.write("set.zip", bytes);
        read_damaged(&desk, &whole, what);
    }
}

#[tokio::test]
async fn no_byte_of_an_archive_can_change_unnoticed() {
    let whole = TestDir::new();
    whole.pack(&fixture("managed-variants/kind_without_entities"));
    let archive = whole.read("set.zip");
    let store: Arc<dyn Store> = Arc::new(DirStore::new(whole.work()));
    let workers = Workers::new(1, 1 << 28);
    let mut unnoticed = Vec::new();
    for place in 0..archive.len() {
        let mut damaged = archive.clone();
        damaged[place] ^= 1 << (place % 8);
        whole.write("damaged.zip", damaged);
        let object = store.stat("damaged.zip").await.unwrap();
        let report = verify(
            store.clone(),
            object,
            "damaged.zip".to_owned(),
            VerifyScope::Full,
            &workers,
            &NoProgress,
        )
        .await
        .unwrap();
        if report.problems.is_empty() {
            unnoticed.push(place);
        }
    }
    assert!(
        unnoticed.is_empty(),
        "of {} bytes: {unnoticed:?}",
        archive.len()
    );
}

#[test]
fn an_archive_that_its_sidecar_contradicts_is_found() {
    let desk = TestDir::new();
    desk.pack(&legacy().source);
    desk.write("set.zip.sha256", format!("{}  set.zip\n", "0".repeat(64)));
    let failed = desk.json(4, &["verify", "set.zip"]);
    assert!(
        failed["error"].as_str().unwrap().contains("sidecar"),
        "{failed}"
    );
    desk.write("set.zip.sha256", "nonsense");
    desk.json(4, &["verify", "set.zip"]);
}

#[test]
fn records_are_counted_as_the_library_counts_them() {
    // The table of deeds above cuts where `record_ends` says.
    let log =
        fs::read(Path::new(&fixture("managed-variants/gcs_layout")).join(CUSTOMER_OUTPUT)).unwrap();
    let mut records = 0;
    log::read_log(&log, |_| {
        records += 1;
        Ok::<_, LogError>(())
    })
    .unwrap();
    assert_eq!(record_ends(&log).len(), records);
}

#[test]
fn metadata_beyond_memory_names_the_option() {
    let desk = TestDir::new();
    let set = managed();
    desk.json(0, &["pack", &set.source, "set.zip"]);
    for args in [
        &["verify", "set.zip"][..],
        &["pack", &set.source, "other.zip"],
    ] {
        let run = desk.run(&[args, &["--memory", "400"]].concat());
        assert_eq!(run.code, 2, "{}", run.brief());
        assert!(
            run.err.contains("export_metadata") && run.err.contains("--memory"),
            "{}",
            run.brief()
        );
    }
    // What is damaged is damaged all the same.
    let mut bytes = desk.read("set.zip");
    bytes[100] ^= 1;
    desk.write("bad.zip", bytes);
    assert_eq!(desk.run(&["verify", "bad.zip", "--memory", "400"]).code, 4);
}
