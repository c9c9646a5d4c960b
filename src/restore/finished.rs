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
        match has_begun {
            false => Ok(Resumption::Continue),
            true if self.options.again => Ok(Resumption::Restart),
            true if has_finished => self.resumption_of_finished().await,
            true => self.resumption_of_begun().await,
        }
    }

    async fn resumption_of_begun(&self) -> Result<Resumption, RestoreError> {
        Ok(if self.verify_finished_steps().await? {
            Resumption::Restart
        } else {
            Resumption::Continue
        })
    }

    /// Of a finished restore nothing has failed.
    async fn resumption_of_finished(&self) -> Result<Resumption, RestoreError> {
        if self.plan.head.choices.on_existing != OnExisting::Fail && !self.options.retry_failed {
            return Ok(Resumption::Restart);
        }
        self.verify_finished().await
    }

    /// Asks the target whether it still holds what the finished restore brought.
    async fn verify_finished(&self) -> Result<Resumption, RestoreError> {
        let mut counts = self.compare_counts().await?;
        if counts.asks_for_restart(self.options.restart_if_empty) {
            return Ok(Resumption::Restart);
        }
        self.settle_counts(&mut counts.differences).await?;
        let mut differences = counts.differences;
        if differences.is_empty() && self.options.check == Check::Entities {
            differences = self.compare_all().await?;
        }
        self.note_differences(&differences);
        self.judge(differences)
    }

    /// Counts every step's kind in the target.
    async fn compare_counts(&self) -> Result<ComparedCounts<'_>, RestoreError> {
        let mut counts = ComparedCounts {
            differences: Vec::new(),
            is_empty: true,
        };
        for step in &self.plan.steps {
            self.check_cancelled().await?;
            let expected = self.status(step).await.entities;
            counts.add(step, expected, self.count_once(step).await)?;
        }
        Ok(counts)
    }

    /// Counts again what differs. A count may be late. Those that are right after a while are none;
    /// the first that stays wrong settles it.
    async fn settle_counts(
        &self,
        differences: &mut Vec<(&Step, Difference)>,
    ) -> Result<(), RestoreError> {
        while let Some((step, Difference::Count { expected, .. })) = differences.first() {
            match self.count(step, *expected).await {
                Ok(_) => drop(differences.remove(0)),
                Err(error @ (RestoreError::Target(_) | RestoreError::Stopped { .. })) => {
                    return Err(error);
                }
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Compares every entity of every step.
    async fn compare_all(&self) -> Result<Vec<(&Step, Difference)>, RestoreError> {
        let mut differences = Vec::new();
        for step in &self.plan.steps {
            match self.compare(step, &self.outputs(step)).await {
                Ok(()) => {}
                Err(RestoreError::Mismatch { pair, differing }) => {
                    differences.push((step, Difference::Entities { pair, differing }))
                }
                Err(error) => return Err(error),
            }
        }
        Ok(differences)
    }

    fn judge(&self, differences: Vec<(&Step, Difference)>) -> Result<Resumption, RestoreError> {
        if differences.is_empty() {
            return Ok(Resumption::Nothing);
        }
        Err(RestoreError::TargetChanged {
            target: self.plan.head.choices.target.clone(),
            differences: differences.into_iter().map(|(_, found)| found).collect(),
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

/// What counts of the target say of a finished restore.
struct ComparedCounts<'a> {
    differences: Vec<(&'a Step, Difference)>,
    /// Whether the target holds nothing of any step.
    is_empty: bool,
}

impl<'a> ComparedCounts<'a> {
    /// Takes in the count of one step's kind.
    fn add(
        &mut self,
        step: &'a Step,
        expected: u64,
        counted: Result<u64, RestoreError>,
    ) -> Result<(), RestoreError> {
        match counted {
            Ok(found) => self.add_count(step, expected, found),
            Err(RestoreError::Target(error)) if error.is_unreadable() => {
                self.add_unreadable(step, error.to_string())
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn add_count(&mut self, step: &'a Step, expected: u64, found: u64) {
        self.is_empty &= found == 0;
        if found != expected {
            let pair = step.to_pair();
            let difference = Difference::Count {
                pair,
                expected,
                found,
            };
            self.differences.push((step, difference));
        }
    }

    fn add_unreadable(&mut self, step: &'a Step, error: String) {
        self.is_empty = false;
        let difference = Difference::Unreadable { error };
        self.differences.push((step, difference));
    }

    fn asks_for_restart(&self, restart_if_empty: bool) -> bool {
        !self.differences.is_empty() && self.is_empty && restart_if_empty
    }
}
