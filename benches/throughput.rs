//! How many bytes a second, on one core, each step does that touches every byte.
//!
//! `cargo bench` prints them; `docs/performance.md` says what was found. The data are made here: a
//! log of entities of about 600 bytes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark may fail loudly, and the macros make undocumented functions"
)]

use std::borrow::Cow;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kindpack::archive::deflate::{Deflater, INFLATE_ROOM_BYTES, Inflater, deflate_room};
use kindpack::entity::rewrite::KeyMapping;
use kindpack::entity::scan::Scan;
use kindpack::entity::{Entity, Id, Key, PathElement, Property, Value, encode};
use kindpack::entity::{json, message};
use kindpack::export::inspect::RecordError;
use kindpack::export::log::{self, LogError, LogWriter};
use kindpack::model::PIECE_LEN_BYTES;

const WORDS: [&str; 16] = [
    "order",
    "customer",
    "delivery",
    "invoice",
    "Kraków",
    "warehouse",
    "review",
    "session",
    "ticket",
    "Zürich",
    "refund",
    "spring",
    "image",
    "group",
    "value",
    "1999",
];

fn property<'a>(name: &'a str, indexed: bool, value: Value<'a>) -> Property<'a> {
    Property {
        name,
        indexed,
        multiple: false,
        meaning: 0,
        meaning_uri: "",
        value,
    }
}

/// A log as long as a piece, with entities that look like those of a shop.
fn piece() -> Vec<u8> {
    let (mut out, mut writer, mut record) = (Vec::new(), LogWriter::default(), Vec::new());
    let mut seed = 7_u64;
    let mut next = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    // An id of 0 makes no complete key.
    for id in 1.. {
        let text = |words: usize, next: &mut dyn FnMut() -> usize| {
            (0..words)
                .map(|_| WORDS[next() % WORDS.len()])
                .collect::<Vec<_>>()
                .join(" ")
        };
        let (title, body) = (text(4, &mut next), text(50, &mut next));
        let key = |kind: &'static str, id: i64| Key {
            app: "s~shop",
            namespace: "acme",
            database: "",
            path: vec![PathElement {
                kind,
                id: Id::Number(id),
            }],
        };
        let entity = Entity {
            key: Some(key("Order", id)),
            properties: vec![
                property("title", true, Value::Bytes(Cow::Borrowed(title.as_bytes()))),
                property("rank", true, Value::Integer(next() as i64)),
                property("score", true, Value::Double(next() as f64 / 7.0)),
                property("active", true, Value::Boolean(id % 2 == 0)),
                property(
                    "customer",
                    true,
                    Value::Reference(key("Customer", next() as i64 % 1000)),
                ),
                property("note", true, Value::Null),
                property("body", false, Value::Bytes(Cow::Borrowed(body.as_bytes()))),
            ],
        };
        record.clear();
        encode::write_entity(&entity, &KeyMapping::identity(), &mut record);
        if out.len() + record.len() + 64 > PIECE_LEN_BYTES {
            return out;
        }
        writer.record(&record, &mut out);
    }
    out
}

fn each_record(piece: &[u8], mut on_record: impl FnMut(&[u8])) {
    let ends = log::read_piece(piece, 0, |record| {
        on_record(record);
        Ok::<_, LogError>(())
    });
    black_box(ends.unwrap());
}

fn throughput(criterion: &mut Criterion) {
    let piece = piece();
    let mut group = criterion.benchmark_group("one core");
    group
        .throughput(Throughput::Bytes(piece.len() as u64))
        .sample_size(10);

    group.bench_function("log: framing and checksums", |bench| {
        bench.iter(|| {
            each_record(&piece, |record| {
                black_box(record.len());
            })
        })
    });
    group.bench_function("scan: keys and references", |bench| {
        bench.iter(|| {
            let mut scan = Scan::default();
            log::read_piece(&piece, 0, |record| {
                scan.add(record).map_err(RecordError::from)
            })
            .unwrap();
            black_box(scan.finish())
        });
    });
    group.bench_function("decode", |bench| {
        bench.iter(|| {
            each_record(&piece, |record| {
                drop(black_box(Entity::parse(record).unwrap()))
            })
        })
    });
    let mut out = Vec::with_capacity(4 * piece.len());
    group.bench_function("decode and write REST JSON", |bench| {
        bench.iter(|| {
            out.clear();
            each_record(&piece, |record| {
                json::write_entity(
                    &Entity::parse(record).unwrap(),
                    &KeyMapping::identity(),
                    &mut out,
                )
            });
            black_box(out.len())
        });
    });
    group.bench_function("decode and write Datastore v1", |bench| {
        bench.iter(|| {
            out.clear();
            each_record(&piece, |record| {
                message::write_entity(
                    &Entity::parse(record).unwrap(),
                    &KeyMapping::identity(),
                    &mut out,
                )
            });
            black_box(out.len())
        });
    });
    let mut room = vec![0; deflate_room(piece.len())];
    let mut len = 0;
    for level in [1, 3, 6, 9] {
        let mut deflater = Deflater::new(level);
        group.bench_function(format!("deflate a piece, level {level}"), |bench| {
            bench.iter(|| {
                len = deflater.piece_into(0, &piece, &mut room).unwrap();
            });
        });
    }
    let mut inflater = Inflater::default();
    let mut out = vec![0; piece.len() + INFLATE_ROOM_BYTES];
    group.bench_function("inflate a piece", |bench| {
        bench.iter(|| {
            inflater
                .piece_into(&room[..len], piece.len(), &mut out)
                .unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, throughput);
criterion_main!(benches);
