//! The files of an export: logs, records, metadata.

use kindpack::entity::{Entity, KeyMapping, Scan, encode, json, message};
use kindpack::export::log::{LogError, LogWriter, RecordJoiner, read_all, read_piece};
use kindpack::export::{ExportMetadata, LegacyBackup, OverallMetadata};

use super::checksums::log_with_checksums;

/// A piece of one block: the shortest that a log can be cut into.
const PIECE_BYTES: usize = 32 << 10;

/// A log: cut into pieces it has the same records, and so it has when it was written again.
pub fn log(bytes: &[u8]) {
    check_log(bytes);
    check_log(&log_with_checksums(bytes));
}

fn check_log(bytes: &[u8]) {
    let whole = read_all(bytes);
    let pieces = read_pieces(bytes);
    assert_eq!(whole.is_ok(), pieces.is_ok(), "{whole:?} and {pieces:?}");
    if let Ok(mut records) = whole {
        assert_eq!(read_all(&written(&records)).as_ref(), Ok(&records));
        let mut pieces = pieces.expect("just compared");
        // A record that crosses pieces is known when it ends.
        records.sort();
        pieces.sort();
        assert_eq!(pieces, records);
    }
}

fn read_pieces(bytes: &[u8]) -> Result<Vec<Vec<u8>>, LogError> {
    let (mut records, mut joiner) = (Vec::new(), RecordJoiner::default());
    for (number, piece) in (0..).zip(bytes.chunks(PIECE_BYTES)) {
        let boundary = read_piece(piece, number * PIECE_BYTES as u64, |record| {
            records.push(record.to_vec());
            Ok::<_, LogError>(())
        })?;
        records.extend(joiner.push(boundary)?);
    }
    joiner.finish().map(|()| records)
}

fn written(records: &[Vec<u8>]) -> Vec<u8> {
    let (mut writer, mut log) = (LogWriter::default(), Vec::new());
    for record in records {
        writer.record(record, &mut log);
    }
    writer.finish(&mut log);
    log
}

/// A record: the scan agrees with the decoder, and an entity keeps its values in each form.
pub fn entity(bytes: &[u8]) {
    let scanned = Scan::default().add(bytes);
    let Ok(entity) = Entity::parse(bytes) else {
        assert!(
            scanned.is_err(),
            "the scan accepts what the decoder refuses"
        );
        return;
    };
    let identity = KeyMapping::identity();
    let line = to_json(&entity);
    let mut again = Vec::new();
    encode::write_entity(&entity, &identity, &mut again);
    let parsed = Entity::parse(&again).expect("what was written is read");
    assert_eq!(to_json(&parsed), line);
    message::write_entity(&entity, &identity, &mut again);
}

fn to_json(entity: &Entity<'_>) -> serde_json::Value {
    let mut line = Vec::new();
    json::write_entity(entity, &KeyMapping::identity(), &mut line);
    serde_json::from_slice(&line).expect("valid JSON")
}

/// Metadata of all three forms: what is read is the same when it was written again.
pub fn metadata(bytes: &[u8]) {
    check_metadata(bytes);
    check_metadata(&log_with_checksums(bytes));
}

fn check_metadata(bytes: &[u8]) {
    if let Ok(part) = ExportMetadata::parse(bytes) {
        assert_eq!(ExportMetadata::parse(&part.encode()).as_ref(), Ok(&part));
    }
    if let Ok(overall) = OverallMetadata::parse(bytes) {
        let again = OverallMetadata::parse(&overall.encode());
        assert_eq!(again.as_ref(), Ok(&overall));
    }
    // Nothing writes backups of the Datastore Admin.
    LegacyBackup::parse(bytes).ok();
}
