//! Exports as the real service writes them, and as file systems, archivers and download tools leave
//! them: whole ones are packed, damaged ones are refused for the same reasons in each way of
//! counting.

use std::fs;
use std::path::Path;

use kindpack::export::metadata::{ExportMetadata, OverallMetadata};
use kindpack::model::Timestamp;
use serde_json::Value;

use crate::support::data::{Made, made};
use crate::support::emulator::{emulator, other_emulator_slot};
use crate::support::entities::{assert_same, of_lines};
use crate::support::service_exports::{BLOCK, FORMS, Form, Part, output, write_export_of};
use crate::support::{TestDir, copy_folder, files_below};

const FOLDER: &str = "source/2024-01-02T03:04:05_67890";

/// Entities, in outputs of so many each.
fn shards(namespace: &'static str, kind: &'static str, counts: &[u64]) -> Vec<Vec<Vec<u8>>> {
    let mut records = made("demo-src", namespace, kind, counts.iter().sum(), 20).into_iter();
    counts
        .iter()
        .map(|count| {
            records
                .by_ref()
                .take(*count as usize)
                .map(|made| made.record())
                .collect()
        })
        .collect()
}

fn truth(of: &[(&'static str, &'static str, u64)]) -> Vec<Value> {
    of.iter()
        .flat_map(|(namespace, kind, count)| made("demo-src", namespace, kind, *count, 20))
        .map(|made| made.json())
        .collect()
}

/// The entities that `ndjson:` has written below a folder.
fn restored(desk: &TestDir, folder: &str) -> Vec<Value> {
    let files = files_below(&desk.path(folder));
    files
        .values()
        .flat_map(|file| of_lines(&fs::read(file).unwrap()))
        .collect()
}

/// What a set holds, and how it is written.
struct Shape {
    name: &'static str,
    write: fn(Form, &Path),
    holds: Vec<(&'static str, &'static str, u64)>,
}

fn shapes() -> Vec<Shape> {
    let shape = |name, holds: &[_], write| Shape {
        name,
        write,
        holds: holds.to_vec(),
    };
    vec![
        shape(
            "one kind in three outputs, one of them empty",
            &[("", "Invoice", 5)],
            |form, root| {
                let shards = shards("", "Invoice", &[3, 0, 2]);
                write_export_of(
                    form,
                    &root.join("a"),
                    &[Part {
                        kind: Some("Invoice"),
                        namespace: Some(""),
                        shards,
                    }],
                );
            },
        ),
        shape(
            "a kind without entities",
            &[("", "Empty", 0)],
            |form, root| {
                write_export_of(
                    form,
                    &root.join("a"),
                    &[Part {
                        kind: Some("Empty"),
                        namespace: Some(""),
                        shards: vec![Vec::new()],
                    }],
                );
            },
        ),
        shape(
            "several kinds, a pointer each",
            &[("", "Order", 2), ("acme", "Order", 3), ("acme", "User", 1)],
            |form, root| {
                let part = |kind, namespace, count| Part {
                    kind: Some(kind),
                    namespace: Some(namespace),
                    shards: shards(namespace, kind, &[count]),
                };
                write_export_of(
                    form,
                    &root.join("deep/er"),
                    &[
                        part("Order", "", 2),
                        part("Order", "acme", 3),
                        part("User", "acme", 1),
                    ],
                );
            },
        ),
        shape(
            "all kinds of all namespaces",
            &[("", "Order", 2), ("acme", "Order", 3), ("acme", "User", 4)],
            |form, root| {
                let mut mixed = shards("", "Order", &[2]);
                mixed[0].extend(shards("acme", "Order", &[3]).remove(0));
                mixed.extend(shards("acme", "User", &[1, 3]));
                write_export_of(
                    form,
                    &root.join("all"),
                    &[Part {
                        kind: None,
                        namespace: None,
                        shards: mixed,
                    }],
                );
            },
        ),
        shape(
            "one kind of all namespaces",
            &[("", "Order", 2), ("beta", "Order", 3)],
            |form, root| {
                let mixed = shards("", "Order", &[2])
                    .into_iter()
                    .chain(shards("beta", "Order", &[3]))
                    .collect();
                write_export_of(
                    form,
                    &root.join("order"),
                    &[Part {
                        kind: Some("Order"),
                        namespace: None,
                        shards: mixed,
                    }],
                );
            },
        ),
        shape("hundreds of outputs", &[("", "Hit", 300)], |form, root| {
            write_export_of(
                form,
                &root.join("hits"),
                &[Part {
                    kind: Some("Hit"),
                    namespace: Some(""),
                    shards: shards("", "Hit", &[1; 300]),
                }],
            );
        }),
        shape(
            "records longer than a block",
            &[("", "Song", 0)],
            |form, root| {
                let records: Vec<Vec<u8>> = made("demo-src", "", "Song", 3, 70_000)
                    .iter()
                    .map(Made::record)
                    .collect();
                write_export_of(
                    form,
                    &root.join("songs"),
                    &[Part {
                        kind: Some("Song"),
                        namespace: Some(""),
                        shards: vec![records],
                    }],
                );
            },
        ),
    ]
}

#[test]
fn every_shape_is_packed_verified_extracted_and_restored() {
    for shape in shapes() {
        for form in FORMS {
            let what = format!("{}, {form:?}", shape.name);
            let desk = TestDir::new();
            (shape.write)(form, &desk.path("source"));
            let packed = desk.json(0, &["pack", "source", "set.zip"]);
            desk.json(0, &["verify", "set.zip"]);
            desk.expect(0, &["list", "set.zip"]);
            assert!(
                !String::from_utf8_lossy(&desk.expect(0, &["list", "set.zip", "--json"]).out)
                    .contains("__all__"),
                "{what}"
            );

            desk.json(0, &["extract", "set.zip", "original"]);
            let objects = |folder: &str| -> Vec<_> {
                files_below(&desk.path(folder))
                    .into_iter()
                    .map(|(name, path)| (name, fs::read(path).unwrap()))
                    .collect()
            };
            assert_eq!(objects("original"), objects("source"), "{what}");
            desk.json(0, &["extract", "set.zip", "managed", "--format", "managed"]);
            desk.json(0, &["pack", "managed", "managed.zip"]);

            desk.json(0, &["restore", "set.zip", "--target", "ndjson:out"]);
            let expected = truth(&shape.holds);
            if shape.name.starts_with("records longer") {
                assert_eq!(packed["entities"], 3, "{what}");
            } else {
                assert_same(&expected, &restored(&desk, "out"), false, &what);
                assert_eq!(packed["entities"], expected.len(), "{what}");
            }

            // What kindpack writes itself is a set again.
            desk.json(0, &["restore", "set.zip", "--target", "dir:exports"]);
            assert_eq!(
                desk.json(0, &["pack", "exports", "again.zip"])["entities"],
                packed["entities"],
                "{what}"
            );
        }
    }
}

#[test]
fn every_shape_is_rehearsed_with_each_entity_compared() {
    if emulator("rehearsals of the service's exports").is_none() {
        return;
    }
    let _slot = other_emulator_slot();
    for form in [Form::Service, Form::PaddedService] {
        let desk = TestDir::new();
        for (number, shape) in shapes()
            .into_iter()
            .enumerate()
            .filter(|(_, shape)| shape.name != "hundreds of outputs")
        {
            (shape.write)(form, &desk.path(&format!("source{number}")));
            let archive = format!("{number}.zip");
            let packed = desk.json(0, &["pack", &format!("source{number}"), &archive]);
            if packed["entities"] != 0 {
                assert_eq!(
                    desk.json(0, &["rehearse", &archive])["entities"],
                    packed["entities"],
                    "{}, {form:?}",
                    shape.name
                );
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------------------
// damaged exports

/// What is done to the export of 8 invoices in two outputs, the exit code, and what the error must
/// name.
struct Damage {
    name: &'static str,
    code: i32,
    names: &'static [&'static str],
    deed: fn(&Path, Form),
}

const OUTPUT: &str = "default_namespace/kind_Invoice/output-0";
const METADATA: &str =
    "default_namespace/kind_Invoice/default_namespace_kind_Invoice.export_metadata";

fn mark(root: &Path) -> std::path::PathBuf {
    root.join("2024-01-02T03:04:05_67890.overall_export_metadata")
}

fn change(path: &Path, deed: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    deed(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn change_mark(root: &Path, deed: impl FnOnce(&mut OverallMetadata)) {
    change(&mark(root), |bytes| {
        let mut overall = OverallMetadata::parse(bytes).unwrap();
        deed(&mut overall);
        *bytes = overall.encode();
    });
}

/// Where the first record ends and the second begins.
fn first_end(bytes: &[u8]) -> usize {
    7 + usize::from(u16::from_le_bytes([bytes[4], bytes[5]]))
}

/// The five invoices of the first output; the last one is longer than a block.
fn records() -> Vec<Vec<u8>> {
    let invoices = made("demo-src", "", "Invoice", 4, 20);
    let long = Made {
        blob: crate::support::data::noise(9, 40_000),
        ..made("demo-src", "", "Invoice", 5, 0).remove(4)
    };
    invoices
        .iter()
        .map(Made::record)
        .chain([long.record()])
        .collect()
}

fn damaged(form: Form, root: &Path) {
    let more = made("demo-src", "", "Invoice", 8, 20)
        .iter()
        .skip(5)
        .map(Made::record)
        .collect();
    write_export_of(
        form,
        root,
        &[Part {
            kind: Some("Invoice"),
            namespace: Some(""),
            shards: vec![records(), more],
        }],
    );
}

fn damages() -> Vec<Damage> {
    let damage = |name, code, names, deed| Damage {
        name,
        code,
        names,
        deed,
    };
    vec![
        damage(
            "no completion marker",
            3,
            &["completion marker"],
            |root, _| fs::remove_file(mark(root)).unwrap(),
        ),
        damage(
            "an empty completion marker",
            4,
            &["expected 2 or more records, found 0"],
            |root, _| fs::write(mark(root), "").unwrap(),
        ),
        damage(
            "a completion marker that is cut",
            4,
            &["overall_export_metadata"],
            |root, _| change(&mark(root), |bytes| bytes.truncate(30)),
        ),
        damage(
            "a flipped bit in the completion marker",
            4,
            &["overall_export_metadata"],
            |root, _| change(&mark(root), |bytes| bytes[30] ^= 1),
        ),
        damage("a missing output", 3, &[OUTPUT], |root, _| {
            fs::remove_file(root.join(OUTPUT)).unwrap()
        }),
        damage("missing metadata", 3, &[METADATA], |root, _| {
            fs::remove_file(root.join(METADATA)).unwrap()
        }),
        damage("empty metadata", 4, &[METADATA], |root, _| {
            fs::write(root.join(METADATA), "").unwrap()
        }),
        damage(
            "an output that nothing lists",
            4,
            &["output-2"],
            |root, form| {
                fs::write(
                    root.join(OUTPUT.replace("output-0", "output-2")),
                    output(&[], form == Form::PaddedService),
                )
                .unwrap();
            },
        ),
        damage("a flipped bit in the data", 4, &[OUTPUT], |root, _| {
            change(&root.join(OUTPUT), |bytes| bytes[40] ^= 4)
        }),
        damage("a flipped bit in a checksum", 4, &[OUTPUT], |root, _| {
            change(&root.join(OUTPUT), |bytes| bytes[0] ^= 1)
        }),
        damage("a flipped bit in a length", 4, &[OUTPUT], |root, _| {
            change(&root.join(OUTPUT), |bytes| bytes[4] ^= 1)
        }),
        damage("a flipped bit in a type", 4, &[OUTPUT], |root, _| {
            change(&root.join(OUTPUT), |bytes| bytes[6] ^= 2)
        }),
        damage("a cut in a fragment", 4, &["Invoice"], |root, _| {
            change(&root.join(OUTPUT), |bytes| {
                bytes.truncate(first_end(bytes) + 30)
            });
        }),
        damage("a cut in a header", 4, &["Invoice"], |root, _| {
            change(&root.join(OUTPUT), |bytes| {
                bytes.truncate(first_end(bytes) + 3)
            })
        }),
        damage(
            "a cut at the border of a record",
            4,
            &["Invoice"],
            |root, _| {
                change(&root.join(OUTPUT), |bytes| bytes.truncate(first_end(bytes)));
            },
        ),
        damage(
            "a cut at the border of a block inside a record",
            4,
            &["Invoice"],
            |root, _| {
                change(&root.join(OUTPUT), |bytes| bytes.truncate(BLOCK));
            },
        ),
        damage(
            "zeros from the border of a record on",
            4,
            &["Invoice"],
            |root, _| {
                change(&root.join(OUTPUT), |bytes| {
                    let end = first_end(bytes);
                    bytes.truncate(end);
                    bytes.resize(BLOCK, 0);
                });
            },
        ),
        damage(
            "zeros from the middle of a record on",
            4,
            &[OUTPUT],
            |root, _| {
                change(&root.join(OUTPUT), |bytes| {
                    let end = first_end(bytes) + 30;
                    bytes[end..].fill(0);
                });
            },
        ),
        damage(
            "a record that is there twice",
            4,
            &["Invoice"],
            |root, form| {
                let twice = records()
                    .into_iter()
                    .chain(records().into_iter().take(1))
                    .collect::<Vec<_>>();
                fs::write(
                    root.join(OUTPUT),
                    output(&twice, form == Form::PaddedService),
                )
                .unwrap();
            },
        ),
        damage(
            "another entity of another length",
            4,
            &["Invoice", "bytes"],
            |root, form| {
                let mut other = records();
                other[1] = made("demo-src", "", "Invoice", 2, 33).remove(1).record();
                fs::write(
                    root.join(OUTPUT),
                    output(&other, form == Form::PaddedService),
                )
                .unwrap();
            },
        ),
        damage("an empty output", 4, &["Invoice"], |root, _| {
            fs::write(root.join(OUTPUT), "").unwrap()
        }),
        damage(
            "an output that is only padding",
            4,
            &["Invoice"],
            |root, _| fs::write(root.join(OUTPUT), [0; BLOCK]).unwrap(),
        ),
        damage(
            "other bytes after the last record",
            4,
            &["Invoice"],
            |root, _| {
                change(&root.join(OUTPUT), |bytes| bytes.extend([1; 30]));
            },
        ),
        damage(
            "a count that is too high",
            4,
            &["9 entities", "found 8"],
            |root, _| change_mark(root, |mark| mark.pointers[0].entities = 9),
        ),
        damage(
            "a count that is too low",
            4,
            &["7 entities", "found 8"],
            |root, _| change_mark(root, |mark| mark.pointers[0].entities = 7),
        ),
        damage(
            "a sum of bytes that is too high",
            4,
            &["bytes"],
            |root, _| change_mark(root, |mark| mark.pointers[0].bytes += 1),
        ),
        damage(
            "a sum of bytes that is too low",
            4,
            &["bytes"],
            |root, _| change_mark(root, |mark| mark.pointers[0].bytes -= 1),
        ),
        damage(
            "metadata of another kind",
            4,
            &[METADATA, "Customer"],
            |root, _| {
                change(&root.join(METADATA), |bytes| {
                    let mut metadata = ExportMetadata::parse(bytes).unwrap();
                    metadata.kinds[0].kind = "Customer".to_owned();
                    *bytes = metadata.encode();
                });
            },
        ),
        damage(
            "a key of another kind",
            4,
            &[OUTPUT, "(default)/Customer"],
            |root, form| other_key(root, form, "", "Customer"),
        ),
        damage(
            "a key of another namespace",
            4,
            &[OUTPUT, "beta/Invoice"],
            |root, form| other_key(root, form, "beta", "Invoice"),
        ),
        damage("a record that is no entity", 4, &[OUTPUT], |root, form| {
            let mut other = records();
            other[1] = b"no entity".to_vec();
            rewrite(root, form, &other);
        }),
        damage("a path that leaves its folder", 4, &[".."], |root, _| {
            change_mark(root, |mark| {
                mark.pointers[0].metadata_file.insert_str(0, "../")
            });
        }),
    ]
}

fn other_key(root: &Path, form: Form, namespace: &'static str, kind: &'static str) {
    let mut other = records();
    other[1] = made("demo-src", namespace, kind, 2, 20).remove(1).record();
    rewrite(root, form, &other);
}

/// Writes other records into the first output, and lets the completion marker count their bytes.
fn rewrite(root: &Path, form: Form, records: &[Vec<u8>]) {
    let bytes_of = |records: &[Vec<u8>], output: usize| {
        if form == Form::Emulator {
            output
        } else {
            records.iter().map(Vec::len).sum()
        }
    };
    let before = bytes_of(&self::records(), fs::read(root.join(OUTPUT)).unwrap().len());
    let written = output(records, form == Form::PaddedService);
    change_mark(root, |mark| {
        mark.pointers[0].bytes =
            mark.pointers[0].bytes + bytes_of(records, written.len()) as u64 - before as u64
    });
    fs::write(root.join(OUTPUT), written).unwrap();
}

#[test]
fn every_damage_is_refused_in_both_countings() {
    let mut wrong = Vec::new();
    for form in FORMS {
        for Damage {
            name,
            code,
            names,
            deed,
        } in damages()
        {
            let desk = TestDir::new();
            damaged(form, &desk.path(FOLDER));
            deed(&desk.path(FOLDER), form);
            let run = desk.run(&["pack", "source", "out/set.zip"]);
            let lacking: Vec<_> = names
                .iter()
                .filter(|name| !run.err.contains(*name))
                .collect();
            if run.code != code || !lacking.is_empty() {
                wrong.push(format!(
                    "{name}, {form:?}: expected exit {code} and {lacking:?} in the error, found {}",
                    run.brief()
                ));
            }
            if desk.path("out").exists() && !desk.names_in("out").is_empty() {
                wrong.push(format!(
                    "{name}, {form:?}: left behind {:?}",
                    desk.names_in("out")
                ));
            }
        }
        let desk = TestDir::new();
        damaged(form, &desk.path(FOLDER));
        assert_eq!(desk.pack("source")["entities"], 8, "{form:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// --------------------------------------------------------------------------------------------------------------------
// accepted counts

/// An export of which the completion marker announces another number of entities and bytes.
fn miscounted(desk: &TestDir, form: Form, entities: u64) {
    damaged(form, &desk.path(FOLDER));
    change_mark(&desk.path(FOLDER), |mark| {
        mark.pointers[0].entities = entities;
        mark.pointers[0].bytes += 70_000;
    });
}

#[test]
fn an_accepted_count_is_packed_and_stays_visible() {
    for form in FORMS {
        let desk = TestDir::new();
        miscounted(&desk, form, 9);
        let refused = desk.expect(4, &["pack", "source", "set.zip"]);
        assert!(
            refused.err.contains("--accept-count '(default)/Invoice'"),
            "{}",
            refused.err
        );
        desk.json(4, &["pack", "source", "set.zip", "--accept-count", "Order"]);
        let packed = desk.json(
            0,
            &["pack", "source", "set.zip", "--accept-count", "Invoice"],
        );
        assert_eq!(packed["accepted_counts"][0]["announced_entities"], 9);

        let manifest: Value =
            serde_json::from_slice(&desk.expect(0, &["list", "set.zip", "--json"]).out).unwrap();
        let kind = &manifest["kinds"][0];
        assert_eq!(
            (&kind["entities"], &kind["announced_entities"]),
            (&8.into(), &9.into())
        );
        let listed = desk.expect(0, &["list", "set.zip"]).text();
        let verified = desk.expect(0, &["verify", "set.zip"]).text();
        let quick = desk.expect(0, &["verify", "set.zip", "--quick"]).text();
        let planned = desk
            .expect(0, &["plan", "set.zip", "--target", "ndjson:out"])
            .text();
        for text in [listed, verified, quick, planned] {
            assert!(text.contains("announces 9 entities and holds 8"), "{text}");
        }
        assert_eq!(
            desk.json(0, &["verify", "set.zip"])["accepted_counts"][0]["entities"],
            8
        );
        desk.json(0, &["restore", "set.zip", "--target", "ndjson:out"]);
        assert_eq!(restored(&desk, "out").len(), 8);
    }
}

#[test]
fn accepting_all_kinds_count_needs_all_kinds() {
    let desk = TestDir::new();
    let mixed = shards("", "Order", &[2])
        .into_iter()
        .chain(shards("acme", "User", &[3]))
        .collect();
    write_export_of(
        Form::Service,
        &desk.path(FOLDER),
        &[Part {
            kind: None,
            namespace: None,
            shards: mixed,
        }],
    );
    change_mark(&desk.path(FOLDER), |mark| mark.pointers[0].entities = 6);
    assert!(
        desk.expect(4, &["pack", "source", "set.zip"])
            .err
            .contains("--accept-count '*'")
    );
    desk.json(4, &["pack", "source", "set.zip", "--accept-count", "Order"]);
    let packed = desk.json(
        0,
        &[
            "pack",
            "source",
            "set.zip",
            "--accept-count",
            "Order",
            "--accept-count",
            "User",
        ],
    );
    assert_eq!(
        (
            &packed["accepted_counts"][0]["announced_entities"],
            &packed["accepted_counts"][0]["entities"]
        ),
        (&6.into(), &5.into())
    );
    desk.json(0, &["verify", "set.zip"]);
}

#[test]
fn nothing_but_a_count_is_accepted() {
    // Those that change a count and nothing else, as far as anybody can tell.
    const COUNTS: [&str; 8] = [
        "a cut at the border of a record",
        "zeros from the border of a record on",
        "a record that is there twice",
        "an empty output",
        "an output that is only padding",
        "a count that is too high",
        "a count that is too low",
        "a cut at the border of a block inside a record",
    ];
    for form in [Form::Service, Form::PaddedService] {
        for Damage {
            name, code, deed, ..
        } in damages()
            .into_iter()
            .filter(|damage| !COUNTS.contains(&damage.name))
        {
            let desk = TestDir::new();
            damaged(form, &desk.path(FOLDER));
            deed(&desk.path(FOLDER), form);
            let run = desk.run(&["pack", "source", "set.zip", "--accept-count", "*"]);
            assert_eq!(run.code, code, "{name}, {form:?}: {}", run.brief());
        }
    }
    let desk = TestDir::new();
    write_export_of(
        Form::Service,
        &desk.path(FOLDER),
        &[Part {
            kind: Some("Gone"),
            namespace: Some(""),
            shards: vec![Vec::new()],
        }],
    );
    change_mark(&desk.path(FOLDER), |mark| mark.pointers[0].entities = 3);
    desk.json(4, &["pack", "source", "set.zip", "--accept-count", "Gone"]);
}

#[test]
fn a_count_that_nobody_accepted_does_not_verify() {
    let desk = TestDir::new();
    miscounted(&desk, Form::Service, 9);
    desk.json(
        0,
        &["pack", "source", "set.zip", "--accept-count", "Invoice"],
    );
    let other = TestDir::new();
    damaged(Form::Service, &other.path(FOLDER));
    other.json(
        0,
        &["pack", "source", "plain.zip", "--accept-count", "Invoice"],
    );
    // Where the counts agree the option changes nothing.
    other.json(0, &["pack", "source", "same.zip"]);
    assert_eq!(other.read("plain.zip"), other.read("same.zip"));
}

#[test]
fn impossible_start_makes_no_export_newer() {
    // Seconds where microseconds belong; the year 2255; after its end.
    for (started, finished) in [
        (1_639_071_612, 1_639_071_839),
        (9_000_000_000_000_000, 9_000_000_001_000_000),
        (1_700_000_000_000_000, 1),
    ] {
        let desk = TestDir::new();
        for (folder, count) in [("source/old", 3), ("source/new", 5)] {
            let part = Part {
                kind: Some("Song"),
                namespace: Some(""),
                shards: shards("", "Song", &[count]),
            };
            write_export_of(Form::Service, &desk.path(folder), &[part]);
        }
        let metadata = desk.path(
            "source/new/default_namespace/kind_Song/default_namespace_kind_Song.export_metadata",
        );
        change(&metadata, |bytes| {
            let mut metadata = ExportMetadata::parse(bytes).unwrap();
            metadata.started = Timestamp::from_micros(started);
            metadata.finished = Timestamp::from_micros(finished);
            *bytes = metadata.encode();
        });
        let run = desk.expect(3, &["pack", "source", "set.zip", "--latest"]);
        assert!(run.err.contains("cannot be true"), "{}", run.err);
        desk.json(0, &["pack", "source/new", "new.zip"]);
    }
}

// ----------------------------------------------------------------------------------------------------------------
// selectors and names

#[test]
fn all_kinds_marker_is_no_kind() {
    let desk = TestDir::new();
    let mixed = shards("", "Invoice", &[1])
        .into_iter()
        .chain(shards("", "Customer", &[1]))
        .collect();
    write_export_of(
        Form::Service,
        &desk.path(FOLDER),
        &[Part {
            kind: None,
            namespace: None,
            shards: mixed,
        }],
    );
    assert_eq!(desk.pack("source")["kinds"], 2);
    desk.json(2, &["pack", "source", "other.zip", "--only", "__all__"]);
    fs::remove_file(mark(&desk.path(FOLDER))).unwrap();
    let run = desk.expect(3, &["pack", "source", "other.zip", "--only", "Invoice"]);
    assert!(!run.err.contains("__all__"), "{}", run.err);
}

#[test]
fn windows_exports_are_read_as_google_does() {
    for form in FORMS {
        let desk = TestDir::new();
        let mixed = shards("", "Invoice", &[1, 1])
            .into_iter()
            .chain(shards("", "Customer", &[2]))
            .collect();
        write_export_of(
            form,
            &desk.path(FOLDER),
            &[Part {
                kind: None,
                namespace: None,
                shards: mixed,
            }],
        );
        change_mark(&desk.path(FOLDER), |mark| {
            mark.pointers[0].metadata_file = mark.pointers[0].metadata_file.replace('/', "\\")
        });
        assert_eq!(desk.pack("source")["entities"], 4);
        desk.json(0, &["verify", "set.zip"]);
        desk.json(0, &["restore", "set.zip", "--target", "ndjson:out"]);
        assert_same(
            &truth(&[("", "Invoice", 2), ("", "Customer", 2)]),
            &restored(&desk, "out"),
            false,
            "from Windows",
        );
        desk.json(0, &["extract", "set.zip", "managed", "--format", "managed"]);
        let files = files_below(&desk.path("managed"));
        let (_, written) = files
            .iter()
            .find(|(name, _)| name.ends_with(".overall_export_metadata"))
            .unwrap();
        let overall = OverallMetadata::parse(&fs::read(written).unwrap()).unwrap();
        assert!(
            overall
                .pointers
                .iter()
                .all(|pointer| !pointer.metadata_file.contains('\\')),
            "{overall:?}"
        );
        desk.json(0, &["pack", "managed", "again.zip"]);
        let original = TestDir::new();
        copy_folder(&desk.path("source"), &original.path("source"));
        desk.json(0, &["extract", "set.zip", "original"]);
        assert_eq!(
            files_below(&desk.path("original")).len(),
            files_below(&original.path("source")).len()
        );
    }
}

#[test]
fn renamed_files_keep_their_own_names() {
    type Rename = fn(&str) -> String;
    let renames: [(&str, Rename); 3] = [
        ("characters that Windows cannot hold", |name| {
            name.replace(':', "_")
        }),
        ("folders written as underscores", |name| {
            format!("flat/{}", name.replace('/', "_"))
        }),
        ("folders dropped", |name| {
            format!("flat/{}", name.rsplit('/').next().unwrap())
        }),
    ];
    for (what, rename) in renames {
        let desk = TestDir::new();
        let shards = shards("", "Ask: why", &[1, 2]);
        write_export_of(
            Form::Service,
            &desk.path("whole/night/set"),
            &[Part {
                kind: Some("Ask: why"),
                namespace: Some(""),
                shards,
            }],
        );
        for (name, path) in files_below(&desk.path("whole")) {
            desk.write(
                &format!("source/{}", rename(&name)),
                fs::read(path).unwrap(),
            );
        }
        assert_eq!(desk.pack("source")["entities"], 3, "{what}");
        desk.json(0, &["verify", "set.zip"]);
        desk.json(0, &["extract", "set.zip", "original"]);
        assert_eq!(
            files_below(&desk.path("original"))
                .into_keys()
                .collect::<Vec<_>>(),
            files_below(&desk.path("source"))
                .into_keys()
                .collect::<Vec<_>>(),
            "{what}"
        );
        desk.json(0, &["extract", "set.zip", "managed", "--format", "managed"]);
        let manifest: Value =
            serde_json::from_slice(&desk.expect(0, &["list", "set.zip", "--json"]).out).unwrap();
        assert!(
            manifest["kinds"][0]["entries"][0]["listed_as"]
                .as_str()
                .is_some_and(|name| name.contains("kind_Ask: why/output-0")),
            "{what}"
        );
        desk.json(0, &["pack", "managed", "again.zip"]);
        let again: Value =
            serde_json::from_slice(&desk.expect(0, &["list", "again.zip", "--json"]).out).unwrap();
        assert!(
            again["kinds"][0]["entries"]
                .as_array()
                .unwrap()
                .iter()
                .all(|entry| entry["listed_as"].is_null()),
            "{what}"
        );
    }
}
