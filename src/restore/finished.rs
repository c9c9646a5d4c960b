//! What an earlier run of the same plan means for this one, and whether a restore that has finished
//! is still true.

use super::scheduler::{RestoreRun, Resumption};
use super::{Check, Difference, RestoreError};
use crate::plan::{OnExisting, Step};

impl RestoreRun<'_> {
    /// Decides what this run does, by the journal and, where that says that something is done, by
    /// the target.
    pub(super) async fn resumption(&mut self) -> Result<Resumption, RestoreError> {
        let journal = self.journal.get_mut().journal();
        let (has_begun, has_finished) = (journal.opened.is_some(), journal.finished.is_some());
        if !has_begun {
            return Ok(Resumption::Continue);
        }
        if self.options.again {
            return Ok(Resumption::Restart);
        }
        if !has_finished {
            return Ok(if self.verify_finished_steps().await? {
                Resumption::Restart
            } else {
                Resumption::Continue
            });
        }
        // Of a finished restore nothing has failed.
        if self.plan.head.choices.on_existing != OnExisting::Fail && !self.options.retry_failed {
            return Ok(Resumption::Restart);
        }
        self.verify_finished().await
    }

    /// Asks the target whether it still holds what the finished restore brought.
    async fn verify_finished(&self) -> Result<Resumption, RestoreError> {
        let mut differences = Vec::new();
        let mut is_empty = true;
        for step in &self.plan.steps {
            self.check_cancelled().await?;
            let expected = self.status(step).await.entities;
            match self
                .until_cancelled(self.target.count(&step.to_pair()))
                .await
            {
                Ok(found) => {
                    is_empty &= found == 0;
                    if found != expected {
                        differences.push((
                            step,
                            Difference::Count {
                                pair: step.to_pair(),
                                expected,
                                found,
                            },
                        ));
                    }
                }
                Err(RestoreError::Target(error)) if error.is_unreadable() => {
                    is_empty = false;
                    differences.push((
                        step,
                        Difference::Unreadable {
                            error: error.to_string(),
                        },
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        if !differences.is_empty() && is_empty && self.options.restart_if_empty {
            return Ok(Resumption::Restart);
        }
        // A count may be late. Those that are right after a while are none; the first that stays
        // wrong settles it.
        while let Some((step, Difference::Count { expected, .. })) = differences.first() {
            match self.count(step, *expected).await {
                Ok(_) => drop(differences.remove(0)),
                Err(error @ (RestoreError::Target(_) | RestoreError::Stopped { .. })) => {
                    return Err(error);
                }
                Err(_) => break,
            }
        }
        if differences.is_empty() && self.options.check == Check::Entities {
            for step in &self.plan.steps {
                match self.compare(step, &self.outputs(step)).await {
                    Ok(()) => {}
                    Err(RestoreError::Mismatch { pair, differing }) => {
                        differences.push((step, Difference::Entities { pair, differing }))
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.note_differences(&differences);
        if differences.is_empty() {
            return Ok(Resumption::Nothing);
        }
        let differences = differences
            .into_iter()
            .map(|(_, difference)| difference)
            .collect();
        Err(RestoreError::TargetChanged {
            target: self.plan.head.choices.target.clone(),
            differences,
        })
    }

    fn note_differences(&self, differences: &[(&Step, Difference)]) {
        for (step, difference) in differences {
            self.note(step, |tally| {
                if let Difference::Count { found, .. } = difference {
                    tally.counted = Some(*found);
                }
                tally.error = Some(difference.to_string());
            });
        }
    }
}
