//! What is asked of the target: before the first step, and behind each one.

use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};

use super::run::Run;
use super::{Check, RestoreError};
use crate::entities;
use crate::journal::StepState;
use crate::model::EntryItem;
use crate::plan::{OnExisting, Step};
use crate::target::{Encoding, TargetError};
use crate::workers::Workers;

/// A count is asked for this often before it is believed to be wrong: an emulator may answer queries a little late.
const COUNT_TRIES: u32 = 6;

impl Run<'_> {
    /// Whether the target still holds what the journal says is there. `true` means that it holds nothing at all, and that the restore is to
    /// begin anew: an emulator that keeps everything in memory was started again.
    pub(super) async fn ask_about_done(&self) -> Result<bool, RestoreError> {
        let mut short = Vec::new();
        let mut any = false;
        for step in &self.plan.steps {
            let status = self.status(step).await;
            // Where a step is gone on with in its middle, its beginning must be there, whatever is asked afterwards.
            let expected = match status.state {
                StepState::Done if self.options.check == Check::None => 0,
                _ => status.entities,
            };
            if expected == 0 {
                continue;
            }
            let found = self.target.count(&step.to_pair()).await?;
            any |= found > 0;
            if found < expected {
                short.push((step.to_pair(), found));
            }
        }
        if short.is_empty() {
            return Ok(false);
        }
        if self.options.begin_anew && !any {
            return Ok(true);
        }
        Err(RestoreError::Forgotten { target: self.plan.target.to_string(), found: short })
    }

    /// Asks about the kinds of the plan's steps that no earlier run has begun, and about the names that they get.
    pub(super) async fn refuse_what_is_not_empty(&self) -> Result<(), RestoreError> {
        if self.plan.on_existing != OnExisting::Fail {
            return Ok(());
        }
        let mut found = Vec::new();
        let mut taken = None;
        for step in &self.plan.steps {
            if self.status(step).await.state != StepState::Pending {
                continue;
            }
            let count = match self.target.check_names(&self.info(step, false)).await {
                // What has the name may hold no entities, or be none that could be counted.
                Err(error @ TargetError::Taken { .. }) => {
                    taken.get_or_insert(error);
                    self.target.count(&step.to_pair()).await.unwrap_or_default()
                }
                checked => {
                    checked?;
                    self.target.count(&step.to_pair()).await?
                }
            };
            if count > 0 {
                found.push((step.to_pair(), count));
            }
        }
        if !found.is_empty() {
            return Err(RestoreError::NotEmpty { target: self.plan.target.to_string(), found });
        }
        taken.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Counts what the target holds of a step's kind: as many as were brought, or at least as many where others may stand beside them.
    pub(super) async fn count(&self, step: &Step, brought: u64) -> Result<u64, RestoreError> {
        let mut tries = 0;
        loop {
            let found = self.target.count(&step.to_pair()).await?;
            let right = if self.plan.on_existing == OnExisting::Merge { found >= brought } else { found == brought };
            if right {
                return Ok(found);
            }
            tries += 1;
            if tries == COUNT_TRIES {
                return Err(RestoreError::WrongCount { pair: step.to_pair(), expected: brought, found, place: "in the target" });
            }
            tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(tries)).await;
        }
    }

    /// Reads every entity back and compares it.
    pub(super) async fn compare(&self, step: &Step, outputs: &[EntryItem]) -> Result<(), RestoreError> {
        let pieces = entities::read(self.archive, outputs, self.encoder(Encoding::JsonLine, step, 0), 0, &self.workers);
        pin_mut!(pieces);
        let mut differing = 0;
        while let Some(piece) = pieces.next().await {
            self.go_on().await?;
            let piece = piece?;
            let entities = piece.len();
            let parse = move || piece.iter().filter_map(|(line, _)| serde_json::from_slice(line).ok()).collect::<Vec<serde_json::Value>>();
            let wanted = Workers::aside(parse).await.map_err(TargetError::from)?;
            differing += (entities - wanted.len()) as u64;
            match self.target.differing(wanted).await? {
                Some(found) => differing += found,
                // A target that cannot be asked for its entities.
                None => return Ok(()),
            }
            self.note(step, |tally| tally.differing = Some(differing));
        }
        self.note(step, |tally| tally.differing = Some(differing));
        if differing == 0 { Ok(()) } else { Err(RestoreError::Differing { pair: step.to_pair(), differing }) }
    }
}
