//! `--on-existing replace`: what the target holds of a step's kind and the archive does not is
//! deleted.

use futures_util::{StreamExt as _, pin_mut};

use super::RestoreError;
use super::scheduler::RestoreRun;
use crate::archive::entities;
use crate::model::EntryInfo;
use crate::plan::Step;
use crate::restore::journal;
use crate::targets::KeySet;
use crate::transform::Encoding;

/// What a key weighs in a set, its table's free places included.
const KEY_BYTES: u64 = 32;

impl RestoreRun<'_> {
    /// Reads the step's keys once more, and deletes the others. Where not all keys fit in memory,
    /// part by part.
    pub(super) async fn delete_others(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
        entities: u64,
    ) -> Result<(), RestoreError> {
        let parts = (entities.saturating_mul(KEY_BYTES))
            .div_ceil(self.workers.memory())
            .max(1);
        let before = self.status(step).await.deleted.unwrap_or_default();
        let mut deleted = before;
        for part in 0..parts {
            let mut keep = KeySet::new(part, parts);
            let pieces = entities::read(
                self.archive,
                outputs,
                self.encoder(Encoding::Message, step, 0),
                0,
                &self.workers,
            );
            pin_mut!(pieces);
            while let Some(piece) = pieces.next().await {
                self.check_cancelled().await?;
                piece?.iter().for_each(|(_, key)| keep.insert(key));
            }
            deleted += self
                .until_cancelled(self.target.delete_others(&step.to_pair(), &keep))
                .await?;
            self.note(step, |tally| tally.deleted = deleted);
        }
        self.append(journal::JournalEvent::OthersDeleted {
            step: step.id,
            deleted,
        })
        .await
    }
}
