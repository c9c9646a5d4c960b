//! What is asked of the target: before the first step, and behind each one.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::scheduler::RestoreRun;
use super::{Check, RestoreError};
use crate::model::{EntryInfo, KindRef};
use crate::plan::{OnExisting, Step};
use crate::restore::journal::StepState;
use crate::runtime::workers::Workers;
use crate::targets::{MAX_LOOKUP_BYTES, MAX_LOOKUP_KEYS, TargetError};
use crate::transform::{Encoded, Encoding};

/// A count that is wrong is requested again until it has come no nearer this often. An emulator
/// that is eventually consistent, as `gcloud` starts it, shows a few waiting writes more at each
/// query.
const MAX_STANDSTILLS: u32 = 3;

/// A count that always comes nearer is requested this often.
const MAX_COUNTS: u32 = 60;

/// The first pause between two counts; each is twice as long as the one before, until the count
/// comes nearer.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

impl RestoreRun<'_> {
    /// Whether the target still holds what the journal says is there. `true` means that it holds
    /// nothing at all, and that the restore is to begin anew: an emulator that keeps everything in
    /// memory was started again.
    pub(super) async fn verify_finished_steps(&self) -> Result<bool, RestoreError> {
        let kept = self.count_finished_steps().await?;
        // Where nothing is there at all, one look is enough: the first entities that were written
        // are not there either.
        if let (true, Some((step, _))) = (kept.is_empty, kept.short.first())
            && !self.has_first(step).await?
            && self.options.restart_if_empty
        {
            return Ok(true);
        }
        let lost = self.settle_short_counts(kept.short).await?;
        self.fail_if_lost(lost).map(|()| false)
    }

    /// Counts once what the journal says is in the target.
    async fn count_finished_steps(&self) -> Result<KeptSteps<'_>, RestoreError> {
        let mut kept = KeptSteps {
            short: Vec::new(),
            is_empty: true,
        };
        for step in &self.plan.steps {
            let expected = self.expected_in_target(step).await;
            if expected > 0 {
                kept.add(step, expected, self.count_once(step).await?);
            }
        }
        Ok(kept)
    }

    /// How many entities of a step must be in the target. Where a step is gone on with in its
    /// middle, its beginning must be there, whatever is asked afterwards.
    async fn expected_in_target(&self, step: &Step) -> u64 {
        let status = self.status(step).await;
        match status.state {
            StepState::Done if self.options.check == Check::None => 0,
            _ => status.entities,
        }
    }

    /// Whether any of the first entities of a step is in the target.
    async fn has_first(&self, step: &Step) -> Result<bool, RestoreError> {
        let found = self.lookup_first(step).await?;
        Ok(found.is_some_and(|found| found > 0))
    }

    /// Waits for counts that are too small. Gives those that stay so.
    async fn settle_short_counts(
        &self,
        short: Vec<(&Step, u64)>,
    ) -> Result<Vec<(KindRef, u64)>, RestoreError> {
        let mut lost = Vec::new();
        for (step, expected) in short {
            let is_right = |count| count >= expected;
            let count = self.settled_count(step, expected, is_right).await?;
            if !is_right(count) {
                lost.push((step.to_pair(), count));
            }
        }
        Ok(lost)
    }

    fn fail_if_lost(&self, found: Vec<(KindRef, u64)>) -> Result<(), RestoreError> {
        if found.is_empty() {
            return Ok(());
        }
        let target = self.plan.head.choices.target.to_string();
        Err(RestoreError::TargetLostData { target, found })
    }

    /// Counts what the target holds of a step's kind, without waiting for a late count.
    pub(super) async fn count_once(&self, step: &Step) -> Result<u64, RestoreError> {
        let pair = step.to_pair();
        self.until_cancelled(self.target.count(&pair)).await
    }

    /// Asks about the kinds of the plan's steps that no earlier run has begun, and about the names
    /// that they get.
    pub(super) async fn check_target_empty(&self) -> Result<(), RestoreError> {
        if self.plan.head.choices.on_existing != OnExisting::Fail {
            return Ok(());
        }
        self.until_cancelled(self.target.finish_cleanup()).await?;
        let mut existing = ExistingKinds::default();
        for step in &self.plan.steps {
            if self.status(step).await.state == StepState::Pending {
                self.find_existing(step, &mut existing).await?;
            }
        }
        existing.into_result(self.plan.head.choices.target.to_string())
    }

    /// Looks for a step's kind in the target.
    async fn find_existing(
        &self,
        step: &Step,
        existing: &mut ExistingKinds,
    ) -> Result<(), RestoreError> {
        let info = self.info(step, false);
        let count = match self.until_cancelled(self.target.check_names(&info)).await {
            // What has the name may hold no entities, or be none that could be counted.
            Err(RestoreError::Target(error @ TargetError::AlreadyExists { .. })) => {
                existing.taken_name.get_or_insert(error);
                self.count_once(step).await.unwrap_or_default()
            }
            Err(error) => return Err(error),
            Ok(_) => self.count_or_lookup(step).await?,
        };
        existing.add(step, count);
        Ok(())
    }

    /// Counts a step's kind; where the count is zero, looks for its first entities.
    async fn count_or_lookup(&self, step: &Step) -> Result<u64, RestoreError> {
        match self.count_once(step).await? {
            0 => Ok(self.lookup_first(step).await?.unwrap_or_default()),
            count => Ok(count),
        }
    }

    /// Counts what the target holds of a step's kind: as many as were brought, or at least as many
    /// where others may stand beside them.
    pub(super) async fn count(&self, step: &Step, brought: u64) -> Result<u64, RestoreError> {
        let is_right = |found| self.is_right_count(found, brought);
        let found = self.settled_count(step, brought, is_right).await?;
        if is_right(found) {
            return Ok(found);
        }
        Err(self.wrong_count(step, brought, found))
    }

    fn is_right_count(&self, found: u64, brought: u64) -> bool {
        if self.plan.head.choices.on_existing == OnExisting::Merge {
            found >= brought
        } else {
            found == brought
        }
    }

    fn wrong_count(&self, step: &Step, expected: u64, found: u64) -> RestoreError {
        let pair = step.to_pair();
        if found < expected && self.target.is_looked_up() {
            return RestoreError::TooFew {
                pair,
                expected,
                found,
            };
        }
        RestoreError::WrongCount {
            pair,
            expected,
            found,
            place: "in the target",
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
        let mut may_look_up = self.target.is_looked_up();
        let mut attempts = CountAttempts::default();
        attempts.add(true);
        let mut found = self.count_once(step).await?;
        while !is_right(found) {
            if !attempts.are_exhausted() {
                tokio::time::sleep(attempts.pause()).await;
            } else if std::mem::take(&mut may_look_up) && found < expected {
                self.lookup(step, expected).await?;
                attempts = CountAttempts::default();
            } else {
                break;
            }
            self.check_cancelled().await?;
            let now = self.count_once(step).await?;
            attempts.add(now.abs_diff(expected) < found.abs_diff(expected));
            found = now;
        }
        Ok(found)
    }

    /// Looks the first `entities` of a step up by their keys.
    async fn lookup(&self, step: &Step, entities: u64) -> Result<(), RestoreError> {
        let outputs = self.outputs(step);
        let mut pieces = self.read_entities(step, &outputs, self.target.encoding());
        let mut left = usize::try_from(entities).unwrap_or(usize::MAX);
        while let Some(mut piece) = pieces.next().await.transpose()?.filter(|_| left > 0) {
            self.check_cancelled().await?;
            piece.truncate(left);
            left -= piece.len();
            self.lookup_piece(&piece).await?;
        }
        Ok(())
    }

    /// Looks entities up, one batch after the other: an emulator holds each against all writes that
    /// wait.
    async fn lookup_piece(&self, piece: &Encoded) -> Result<(), RestoreError> {
        for batch in piece.split(MAX_LOOKUP_KEYS, MAX_LOOKUP_BYTES) {
            self.until_cancelled(self.target.lookup(batch)).await?;
        }
        Ok(())
    }

    /// How many of the first few entities of a step are in the target, by their keys; none where it
    /// cannot be asked.
    async fn lookup_first(&self, step: &Step) -> Result<Option<u64>, RestoreError> {
        if !self.target.is_looked_up() {
            return Ok(None);
        }
        let Some(batch) = self.first_batch(step).await? else {
            return Ok(Some(0));
        };
        self.until_cancelled(self.target.lookup(batch))
            .await
            .map(Some)
    }

    /// The first few entities of a step, where it has any.
    async fn first_batch(&self, step: &Step) -> Result<Option<Encoded>, RestoreError> {
        let outputs = self.outputs(step);
        let mut pieces = self.read_entities(step, &outputs, self.target.encoding());
        while let Some(piece) = pieces.next().await.transpose()? {
            if let Some(batch) = piece.split(MAX_LOOKUP_KEYS, MAX_LOOKUP_BYTES).next() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Reads every entity back and compares it.
    pub(super) async fn compare(
        &self,
        step: &Step,
        outputs: &[EntryInfo],
    ) -> Result<(), RestoreError> {
        let mut pieces = self.read_entities(step, outputs, Encoding::JsonLine);
        let mut differing = 0;
        while let Some(piece) = pieces.next().await {
            self.check_cancelled().await?;
            let Some(found) = self.count_differing(piece?).await? else {
                return Ok(());
            };
            differing += found;
            self.note(step, |tally| tally.differing = Some(differing));
        }
        self.note(step, |tally| tally.differing = Some(differing));
        fail_if_differing(step, differing)
    }

    /// How many entities of a piece differ; none for a target that cannot list its
    /// entities.
    async fn count_differing(&self, piece: Encoded) -> Result<Option<u64>, RestoreError> {
        let entities = piece.len();
        let parsed = Workers::run_blocking(move || parse_lines(&piece)).await;
        let wanted = parsed.map_err(TargetError::from)?;
        let unreadable = (entities - wanted.len()) as u64;
        let found = self.until_cancelled(self.target.differing(wanted)).await?;
        Ok(found.map(|found| found + unreadable))
    }
}

/// How often a count was requested, and how often it came no nearer.
#[derive(Default)]
struct CountAttempts {
    counts: u32,
    standstills: u32,
}

impl CountAttempts {
    fn are_exhausted(&self) -> bool {
        self.standstills == MAX_STANDSTILLS || self.counts == MAX_COUNTS
    }

    fn pause(&self) -> Duration {
        FIRST_PAUSE * 2_u32.pow(self.standstills)
    }

    fn add(&mut self, is_nearer: bool) {
        self.counts += 1;
        self.standstills = if is_nearer { 0 } else { self.standstills + 1 };
    }
}

fn fail_if_differing(step: &Step, differing: u64) -> Result<(), RestoreError> {
    if differing == 0 {
        return Ok(());
    }
    let pair = step.to_pair();
    Err(RestoreError::Mismatch { pair, differing })
}

/// The entities of a piece as JSON, without those that are none.
fn parse_lines(piece: &Encoded) -> Vec<serde_json::Value> {
    let lines = piece.iter();
    lines
        .filter_map(|(line, _)| serde_json::from_slice(line).ok())
        .collect()
}

/// What counts of the target say of the steps that the journal holds for done or begun.
struct KeptSteps<'a> {
    /// The steps of which too few entities were counted, with how many must be there.
    short: Vec<(&'a Step, u64)>,
    /// Whether the target holds nothing of any of them.
    is_empty: bool,
}

impl<'a> KeptSteps<'a> {
    fn add(&mut self, step: &'a Step, expected: u64, found: u64) {
        self.is_empty &= found == 0;
        if found < expected {
            self.short.push((step, expected));
        }
    }
}

/// What is in the target before the first step.
#[derive(Default)]
struct ExistingKinds {
    /// The kinds that hold entities, with how many.
    found: Vec<(KindRef, u64)>,
    /// The first name that something else has.
    taken_name: Option<TargetError>,
}

impl ExistingKinds {
    fn add(&mut self, step: &Step, count: u64) {
        if count > 0 {
            self.found.push((step.to_pair(), count));
        }
    }

    fn into_result(self, target: String) -> Result<(), RestoreError> {
        if !self.found.is_empty() {
            let found = self.found;
            return Err(RestoreError::NotEmpty { target, found });
        }
        let taken = self.taken_name;
        taken.map_or(Ok(()), |error| Err(error.into()))
    }
}
