//! `--on-existing replace`: what the target holds of a step's kind and the archive does not is
//! deleted.

use futures_util::StreamExt as _;

use super::RestoreError;
use super::scheduler::RestoreRun;
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
        let parts = self.key_parts(entities);
        let mut deleted = self.status(step).await.deleted.unwrap_or_default();
        for part in 0..parts {
            let keep = KeySet::new(part, parts);
            let keep = self.collect_keys(step, outputs, keep).await?;
            let pair = step.to_pair();
            let others = self.target.delete_others(&pair, &keep);
            deleted += self.until_cancelled(others).await?;
            self.note(step, |tally| tally.deleted = deleted);
        }
        let step = step.id;
        self.append(journal::JournalEvent::OthersDeleted { step, deleted })
            .await
    }

    /// In how many parts the keys of so many entities are held, one after the other.
    fn key_parts(&self, entities: u64) -> u64 {
        let bytes = entities.saturating_mul(KEY_BYTES);
        bytes.div_ceil(self.workers.memory()).max(1)
    }

    /// Adds the keys of a step's entities to those that stay.
    async fn collect_keys(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
        mut keep: KeySet,
    ) -> Result<KeySet, RestoreError> {
        let mut pieces = self.read_entities(step, outputs, Encoding::Message);
        while let Some(piece) = pieces.next().await {
            self.check_cancelled().await?;
            piece?.iter().for_each(|(_, key)| keep.insert(key));
        }
        Ok(keep)
    }
}
