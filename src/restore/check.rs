//! What is asked of the target: before the first step, and behind each one.

use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};

use super::scheduler::RestoreRun;
use super::{Check, RestoreError};
use crate::archive::entities;
use crate::model::EntryInfo;
use crate::plan::{OnExisting, Step};
use crate::restore::journal::StepState;
use crate::runtime::workers::Workers;
use crate::targets::{LOOKUP_MAX, LOOKUP_MAX_BYTES, TargetError};
use crate::transform::Encoding;

/// A count that is wrong is asked for again until it has come no nearer this often. An emulator
/// that is eventually consistent, as `gcloud` starts it, shows a few waiting writes more at each
/// query.
const STANDSTILLS_MAX: u32 = 3;

/// A count that always comes nearer is asked for this often.
const COUNTS_MAX: u32 = 60;

/// The first pause between two counts; each is twice as long as the one before, until the count
/// comes nearer.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

impl RestoreRun<'_> {
    /// Whether the target still holds what the journal says is there. `true` means that it holds
    /// nothing at all, and that the restore is to begin anew: an emulator that keeps everything in
    /// memory was started again.
    pub(super) async fn verify_finished_steps(&self) -> Result<bool, RestoreError> {
        let mut short = Vec::new();
        let mut any = false;
        for step in &self.plan.steps {
            let status = self.status(step).await;
            // Where a step is gone on with in its middle, its beginning must be there, whatever is
            // asked afterwards.
            let expected = match status.state {
                StepState::Done if self.options.check == Check::None => 0,
                _ => status.entities,
            };
            if expected == 0 {
                continue;
            }
            let found = self
                .until_cancelled(self.target.count(&step.to_pair()))
                .await?;
            any |= found > 0;
            if found < expected {
                short.push((step, expected));
            }
        }
        // Where nothing is there at all, one look is enough: the first entities that were written
        // are not there either.
        if let (false, Some((step, _))) = (any, short.first()) {
            any = self
                .lookup_first(step)
                .await?
                .is_some_and(|found| found > 0);
            if !any && self.options.restart_if_empty {
                return Ok(true);
            }
        }
        let mut found = Vec::new();
        for (step, expected) in short {
            let count = self
                .settled_count(step, expected, |count| count >= expected)
                .await?;
            if count < expected {
                found.push((step.to_pair(), count));
            }
        }
        if found.is_empty() {
            Ok(false)
        } else {
            Err(RestoreError::TargetLostData {
                target: self.plan.head.choices.target.to_string(),
                found,
            })
        }
    }

    /// Asks about the kinds of the plan's steps that no earlier run has begun, and about the names
    /// that they get.
    pub(super) async fn check_target_empty(&self) -> Result<(), RestoreError> {
        if self.plan.head.choices.on_existing != OnExisting::Fail {
            return Ok(());
        }
        self.until_cancelled(self.target.finish_cleanup()).await?;
        let mut found = Vec::new();
        let mut taken = None;
        for step in &self.plan.steps {
            if self.status(step).await.state != StepState::Pending {
                continue;
            }
            let count = match self
                .until_cancelled(self.target.check_names(&self.info(step, false)))
                .await
            {
                // What has the name may hold no entities, or be none that could be counted.
                Err(RestoreError::Target(error @ TargetError::AlreadyExists { .. })) => {
                    taken.get_or_insert(error);
                    self.until_cancelled(self.target.count(&step.to_pair()))
                        .await
                        .unwrap_or_default()
                }
                checked => {
                    checked?;
                    match self
                        .until_cancelled(self.target.count(&step.to_pair()))
                        .await?
                    {
                        0 => self.lookup_first(step).await?.unwrap_or_default(),
                        count => count,
                    }
                }
            };
            if count > 0 {
                found.push((step.to_pair(), count));
            }
        }
        if !found.is_empty() {
            return Err(RestoreError::NotEmpty {
                target: self.plan.head.choices.target.to_string(),
                found,
            });
        }
        taken.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Counts what the target holds of a step's kind: as many as were brought, or at least as many
    /// where others may stand beside them.
    pub(super) async fn count(&self, step: &Step, brought: u64) -> Result<u64, RestoreError> {
        let merges = self.plan.head.choices.on_existing == OnExisting::Merge;
        let is_right = |found| {
            if merges {
                found >= brought
            } else {
                found == brought
            }
        };
        let found = self.settled_count(step, brought, is_right).await?;
        if is_right(found) {
            Ok(found)
        } else if found < brought && self.target.is_looked_up() {
            Err(RestoreError::TooFew {
                pair: step.to_pair(),
                expected: brought,
                found,
            })
        } else {
            Err(RestoreError::WrongCount {
                pair: step.to_pair(),
                expected: brought,
                found,
                place: "in the target",
            })
        }
    }

    /// Counts until the count is right, or comes no nearer to what is expected. Where it stays too
    /// small, the first `expected` entities of the step are looked up by their keys: a lookup is
    /// always right, and an emulator then counts what it found.
    async fn settled_count(
        &self,
        step: &Step,
        expected: u64,
        is_right: impl Fn(u64) -> bool,
    ) -> Result<u64, RestoreError> {
        let pair = step.to_pair();
        let mut may_look_up = self.target.is_looked_up();
        let (mut counts, mut standstills) = (1, 0);
        let mut found = self.until_cancelled(self.target.count(&pair)).await?;
        while !is_right(found) {
            if standstills == STANDSTILLS_MAX || counts == COUNTS_MAX {
                if !std::mem::take(&mut may_look_up) || found >= expected {
                    break;
                }
                self.lookup(step, expected).await?;
                (counts, standstills) = (0, 0);
            } else {
                tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(standstills)).await;
            }
            self.check_cancelled().await?;
            let now = self.until_cancelled(self.target.count(&pair)).await?;
            let is_nearer = now.abs_diff(expected) < found.abs_diff(expected);
            (counts, standstills, found) =
                (counts + 1, if is_nearer { 0 } else { standstills + 1 }, now);
        }
        Ok(found)
    }

    /// Looks the first `entities` of a step up by their keys.
    async fn lookup(&self, step: &Step, entities: u64) -> Result<(), RestoreError> {
        let outputs = self.outputs(step);
        let pieces = entities::read(
            self.archive,
            &outputs,
            self.encoder(self.target.encoding(), step, 0),
            0,
            &self.workers,
        );
        pin_mut!(pieces);
        let mut left = usize::try_from(entities).unwrap_or(usize::MAX);
        while let Some(mut piece) = pieces.next().await.transpose()?.filter(|_| left > 0) {
            self.check_cancelled().await?;
            piece.truncate(left);
            left -= piece.len();
            // One after the other: an emulator holds each against all writes that wait.
            for batch in piece.split(LOOKUP_MAX, LOOKUP_MAX_BYTES) {
                self.until_cancelled(self.target.lookup(batch)).await?;
            }
        }
        Ok(())
    }

    /// How many of the first few entities of a step are in the target, by their keys; none where it
    /// cannot be asked.
    async fn lookup_first(&self, step: &Step) -> Result<Option<u64>, RestoreError> {
        if !self.target.is_looked_up() {
            return Ok(None);
        }
        let outputs = self.outputs(step);
        let pieces = entities::read(
            self.archive,
            &outputs,
            self.encoder(self.target.encoding(), step, 0),
            0,
            &self.workers,
        );
        pin_mut!(pieces);
        while let Some(piece) = pieces.next().await.transpose()? {
            if let Some(batch) = piece.split(LOOKUP_MAX, LOOKUP_MAX_BYTES).next() {
                return Ok(Some(self.until_cancelled(self.target.lookup(batch)).await?));
            }
        }
        Ok(Some(0))
    }

    /// Reads every entity back and compares it.
    pub(super) async fn compare(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
    ) -> Result<(), RestoreError> {
        let pieces = entities::read(
            self.archive,
            outputs,
            self.encoder(Encoding::JsonLine, step, 0),
            0,
            &self.workers,
        );
        pin_mut!(pieces);
        let mut differing = 0;
        while let Some(piece) = pieces.next().await {
            self.check_cancelled().await?;
            let piece = piece?;
            let entities = piece.len();
            let parse = move || {
                piece
                    .iter()
                    .filter_map(|(line, _)| serde_json::from_slice(line).ok())
                    .collect::<Vec<serde_json::Value>>()
            };
            let wanted = Workers::run_blocking(parse)
                .await
                .map_err(TargetError::from)?;
            differing += (entities - wanted.len()) as u64;
            match self.until_cancelled(self.target.differing(wanted)).await? {
                Some(found) => differing += found,
                // A target that cannot be asked for its entities.
                None => return Ok(()),
            }
            self.note(step, |tally| tally.differing = Some(differing));
        }
        self.note(step, |tally| tally.differing = Some(differing));
        if differing == 0 {
            Ok(())
        } else {
            Err(RestoreError::Mismatch {
                pair: step.to_pair(),
                differing,
            })
        }
    }
}
