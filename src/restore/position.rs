//! Places in the outputs of a step: the journal's positions, and pieces counted over all outputs.

use crate::model::{EntryInfo, PIECE_LEN_BYTES};
use crate::restore::journal::StepPosition;
use crate::targets::StepProgress;

fn piece_count(output: &EntryInfo) -> u64 {
    output.bytes.div_ceil(PIECE_LEN_BYTES as u64).max(1)
}

/// How far a step has come that goes on at a position, with so many entities before it.
pub(super) fn progress_at(
    outputs: &[EntryInfo],
    position: StepPosition,
    entities: u64,
) -> StepProgress {
    let before = outputs
        .iter()
        .take(position.entry as usize)
        .map(piece_count)
        .sum::<u64>();
    StepProgress {
        pieces: before + u64::from(position.piece),
        records: position.records,
        entities,
    }
}

/// The position of a step that has come so far.
pub(super) fn position_of(outputs: &[EntryInfo], progress: StepProgress) -> StepPosition {
    let mut pieces = progress.pieces;
    let mut entry = 0;
    for output in outputs {
        if pieces < piece_count(output) {
            break;
        }
        pieces -= piece_count(output);
        entry += 1;
    }
    StepPosition {
        entry,
        piece: u32::try_from(pieces).expect("pieces of an output are numbered by u32"),
        records: progress.records,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Crc32c, EntryRole, Sha256};

    #[test]
    fn positions_and_progress_are_each_others_inverse() {
        let output = |bytes| EntryInfo {
            name: String::new(),
            role: EntryRole::Output,
            listed_as: None,
            content_encoding: None,
            content_type: None,
            bytes,
            sha256: Sha256([0; 32]),
            crc32c: Crc32c(0),
            packed_crc32c: None,
            pieces: Vec::new(),
        };
        let piece = PIECE_LEN_BYTES as u64;
        let outputs = [
            output(3 * piece),
            output(0),
            output(1),
            output(2 * piece + 1),
        ];
        for pieces in 0..=8 {
            let progress = StepProgress {
                pieces,
                records: 7,
                entities: 9,
            };
            let position = position_of(&outputs, progress);
            assert_eq!(progress_at(&outputs, position, 9), progress, "{position:?}");
        }
        let position = position_of(
            &outputs,
            StepProgress {
                pieces: 4,
                records: 5,
                entities: 9,
            },
        );
        assert_eq!(
            position,
            StepPosition {
                entry: 2,
                piece: 0,
                records: 5
            }
        );
    }
}
