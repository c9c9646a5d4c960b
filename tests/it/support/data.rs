//! Exports of the tests' own: entities written by hand as protobuf, framed and described by the
//! library.

use std::path::Path;

use base64::Engine as _;
use kindpack::export::layout::ManagedExport;
use kindpack::export::log::LogWriter;
use kindpack::model::{KindRef, Timestamp};
use serde_json::{Value, json};

/// An entity with a number and a blob, its own record and its own truth.
#[derive(Clone)]
pub struct Made<'a> {
    pub project: &'a str,
    pub namespace: &'a str,
    pub kind: &'a str,
    pub id: u64,
    pub blob: Vec<u8>,
}

impl Made<'_> {
    /// `EntityProto`: key 13, an indexed property `n` (14) of the id, an unindexed property `blob`
    /// (15), entity group 16.
    pub fn record(&self) -> Vec<u8> {
        self.record_in("")
    }

    /// The same in a database; the default one has no name.
    pub fn record_in(&self, database: &str) -> Vec<u8> {
        let mut element = vec![0x0b];
        put(&mut element, 2, self.kind.as_bytes());
        varint(&mut element, 3 << 3);
        varint(&mut element, self.id);
        element.push(0x0c);
        let mut key = Vec::new();
        put(&mut key, 13, self.project.as_bytes());
        put(&mut key, 14, &element);
        if !self.namespace.is_empty() {
            put(&mut key, 20, self.namespace.as_bytes());
        }
        if !database.is_empty() {
            put(&mut key, 23, database.as_bytes());
        }
        let mut number = vec![0x08];
        varint(&mut number, self.id);
        let mut blob = Vec::new();
        put(&mut blob, 3, &self.blob);
        let mut record = Vec::new();
        put(&mut record, 13, &key);
        put(&mut record, 14, &property(0, "n", &number));
        put(&mut record, 15, &property(14, "blob", &blob));
        put(&mut record, 16, &element);
        record
    }

    /// The same as REST JSON.
    pub fn json(&self) -> Value {
        let mut partition = json!({"projectId": self.project});
        if !self.namespace.is_empty() {
            partition["namespaceId"] = self.namespace.into();
        }
        let blob = base64::engine::general_purpose::STANDARD.encode(&self.blob);
        json!({
            "key": {"partitionId": partition, "path": [{"kind": self.kind, "id": self.id.to_string()}]},
            "properties": {"n": {"integerValue": self.id.to_string()}, "blob": {"blobValue": blob, "excludeFromIndexes": true}},
        })
    }
}

fn property(meaning: u64, name: &str, value: &[u8]) -> Vec<u8> {
    let mut property = Vec::new();
    if meaning > 0 {
        property.push(1 << 3);
        varint(&mut property, meaning);
    }
    put(&mut property, 3, name.as_bytes());
    property.extend([4 << 3, 0]);
    put(&mut property, 5, value);
    property
}

pub fn put(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that no deflater makes shorter, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Entities of one pair, numbered from 1, each with a blob of `blob_len` bytes.
pub fn made<'a>(
    project: &'a str,
    namespace: &'a str,
    kind: &'a str,
    count: u64,
    blob_len: usize,
) -> Vec<Made<'a>> {
    (1..=count)
        .map(|id| Made {
            project,
            namespace,
            kind,
            id,
            blob: noise(id, blob_len),
        })
        .collect()
}

/// When the tests' own exports began: 2013-10-12T06:37:42.287Z.
pub const STARTED_MICROS: i64 = 1_381_559_862_287_000;

/// Writes a finished managed export of `records` below `folder`, in a folder of its own name,
/// `shards` outputs of about one size each. Gives the name of that folder.
pub fn write_export(
    folder: &Path,
    pair: &KindRef,
    started_micros: i64,
    records: &[Vec<u8>],
    shards: usize,
) -> String {
    let time = |micros| Some(Timestamp::from_micros(micros).unwrap());
    let export =
        ManagedExport::from_pair(pair, time(started_micros), time(started_micros + 5_000_000));
    let around = folder.join(export.name());
    let mut bytes = 0;
    for (number, records) in records
        .chunks(records.len().div_ceil(shards).max(1))
        .enumerate()
    {
        let mut log = LogWriter::default();
        let mut out = Vec::new();
        for record in records {
            log.record(record, &mut out);
        }
        bytes += log.finish(&mut out);
        super::write(&around.join(export.output_path(number)), out);
    }
    super::write(
        &around.join(export.metadata_path()),
        export.metadata(shards),
    );
    super::write(
        &around.join(export.overall_path()),
        export.overall(records.len() as u64, bytes),
    );
    export.name()
}
