//! Restoring: a plan carried out step by step, with a journal.
//!
//! Knows plan, archive, target and journal, and what must hold between them. Must not know arguments, progress bars or exit codes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};

use crate::archive_file::{ArchiveError, ArchiveFile};
use crate::entities;
use crate::entity::rewrite::{Rewrite, ToProject};
use crate::journal::{self, JOURNAL_FORMAT, Position, StepState};
use crate::journal_file::{JournalFile, JournalFileError};
use crate::model::{EntryItem, PIECE_LEN_BYTES, Pair};
use crate::observe::{Event, Observer};
use crate::plan::{ArchiveRef, Environment, Into, Plan, PlanError, Step, TargetSpec};
use crate::target::{Encoder, Encoding, Progress, StepInfo, Target, TargetError};
use crate::workers::Workers;

/// A count is asked for this often before it is believed to be wrong: an emulator may answer queries a little late.
const COUNT_TRIES: u32 = 6;

/// Entities that are handed over at once.
const BATCH_MAX: usize = 500;

/// Bytes of them, unless one is larger.
const BATCH_MAX_BYTES: usize = 1 << 20;

/// What is asked of the target after each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    None,
    /// How many entities it holds.
    Counts,
    /// Every entity.
    All,
}

/// How a plan is carried out.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether the other steps are run when one fails.
    pub keep_going: bool,
    /// How many steps are run at most.
    pub max_steps: Option<u32>,
    /// What is asked of the target after each step.
    pub check: Check,
    /// Whether the restore begins anew where the target is empty again, whatever the journal says.
    pub begin_anew: bool,
}

/// How a restore ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Steps that are done, those of earlier runs included.
    pub steps: u64,
    /// Entities restored by them.
    pub entities: u64,
    /// Steps that are left.
    pub left: u64,
    /// Whether there was nothing to do.
    pub was_done: bool,
}

/// Why a restore stopped.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The plan does not fit the archive or the environment, or was edited.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalFileError),
    /// The archive cannot be read, or is damaged.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The target failed or refused.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A step failed.
    #[error("{pair}: {error}")]
    Step {
        /// Which, in the target.
        pair: Pair,
        /// Why.
        error: Box<RestoreError>,
    },
    /// The target holds entities where it must be empty.
    #[error("target {target}: expected no entities of the plan's kinds, found {}", spell(.found))]
    NotEmpty {
        /// The target.
        target: String,
        /// Which, and how many.
        found: Vec<(Pair, u64)>,
    },
    /// The journal says that steps are done, the target does not hold their entities.
    #[error("target {target}: expected what the journal says is done, found {}", spell(.found))]
    Forgotten {
        /// The target.
        target: String,
        /// Which, and how many are there.
        found: Vec<(Pair, u64)>,
    },
    /// A step brought another number of entities than planned.
    #[error("{pair}: expected {expected} entities {place}, found {found}")]
    WrongCount {
        /// Which.
        pair: Pair,
        /// Entities by the plan.
        expected: u64,
        /// Entities that there are.
        found: u64,
        /// Where they were counted.
        place: &'static str,
    },
    /// Entities in the target are not what they should be.
    #[error("{pair}: expected every entity as the archive has it, found {differing} that differ or are missing")]
    Differing {
        /// Which.
        pair: Pair,
        /// How many.
        differing: u64,
    },
    /// Some steps failed, the others were run.
    #[error("expected every step to succeed, found that {failed} failed")]
    SomeFailed {
        /// How many.
        failed: u64,
    },
}

fn spell(found: &[(Pair, u64)]) -> String {
    const SHOWN: usize = 5;
    let mut shown: Vec<String> = found.iter().take(SHOWN).map(|(pair, count)| format!("{count} of {pair}")).collect();
    if found.len() > SHOWN {
        shown.push(format!("and {} more kinds", found.len() - SHOWN));
    }
    shown.join(", ")
}

/// A plan, bound to its archive and target.
struct Run<'a> {
    /// The plan as it is to be run.
    plan: Plan,
    archive: &'a Arc<ArchiveFile>,
    target: Arc<dyn Target>,
    rewrite: Rewrite,
    options: &'a Options,
    workers: &'a Workers,
    observer: &'a dyn Observer,
}

/// Runs exactly what `plan` says, or refuses.
///
/// # Errors
/// [`RestoreError`]; the journal then says what is done, and the same call goes on from there.
#[expect(clippy::too_many_arguments, reason = "each is one of the things that a restore stands between")]
pub async fn restore(
    plan: &Plan,
    archive: &Arc<ArchiveFile>,
    archive_ref: &ArchiveRef,
    environment: &Environment,
    target: Arc<dyn Target>,
    journal: &mut JournalFile,
    options: &Options,
    workers: &Workers,
    observer: &dyn Observer,
) -> Result<Outcome, RestoreError> {
    let resolved = plan.check_against(archive.manifest(), archive_ref, environment)?;
    let target_name = resolved.target.to_string();
    journal.journal().check(plan.sha256(), &target_name).map_err(|error| journal.content_error(error))?;
    let rewrite = rewrite_of(&resolved, archive);
    let run = Run { plan: resolved, archive, target, rewrite, options, workers, observer };
    if run.ask_about_done(journal).await? {
        journal.forget()?;
    }
    if journal.journal().finished.is_some() {
        return Ok(Outcome { steps: journal.journal().done(), entities: journal.journal().entities(), left: 0, was_done: true });
    }
    run.refuse_what_is_not_empty(journal).await?;
    if journal.journal().opened.is_none() {
        let opened = journal::Event::Opened {
            format: JOURNAL_FORMAT.to_owned(),
            plan_sha256: plan.sha256(),
            target: target_name,
            steps: run.plan.steps.iter().map(|step| step.id).collect(),
            tool: concat!("kindpack ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        journal.append(opened).await?;
    }
    run.steps(journal).await
}

/// References and keys of the source project follow the entities; those of other projects stay.
fn rewrite_of(plan: &Plan, archive: &ArchiveFile) -> Rewrite {
    let to = match &plan.target {
        TargetSpec::Emulator { project, .. } => Some(ToProject { project: project.clone(), database: String::new() }),
        TargetSpec::Datastore { project, database } => {
            Some(ToProject { project: project.clone(), database: database.clone().unwrap_or_default() })
        }
        TargetSpec::Dir(_) | TargetSpec::Ndjson(_) => None,
    };
    let backup = &archive.manifest().backup;
    Rewrite { from_project: backup.project.clone(), from_database: backup.database.clone(), to, namespaces: plan.maps.clone() }
}

fn state(journal: &JournalFile, step: &Step) -> StepState {
    journal.journal().steps.get(&step.id).map_or(StepState::Waiting, |status| status.state)
}

impl Run<'_> {
    /// Whether the target still holds what the journal says is there. `true` means that it holds nothing at all, and that the restore is to
    /// begin anew: an emulator that keeps everything in memory was started again.
    async fn ask_about_done(&self, journal: &JournalFile) -> Result<bool, RestoreError> {
        let mut short = Vec::new();
        let mut any = false;
        for step in &self.plan.steps {
            let Some(status) = journal.journal().steps.get(&step.id) else { continue };
            let is_done = status.state == StepState::Done;
            // Where a step is gone on with in its middle, its beginning must be there, whatever is asked afterwards.
            let expected = match is_done {
                true if self.options.check == Check::None => 0,
                true => step.entities,
                false => status.entities,
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

    /// Asks about the kinds of the plan's steps that no earlier run has begun.
    async fn refuse_what_is_not_empty(&self, journal: &JournalFile) -> Result<(), RestoreError> {
        if self.plan.into != Into::Empty {
            return Ok(());
        }
        let mut found = Vec::new();
        for step in self.plan.steps.iter().filter(|step| state(journal, step) == StepState::Waiting) {
            let count = self.target.count(&step.to_pair()).await?;
            if count > 0 {
                found.push((step.to_pair(), count));
            }
        }
        if found.is_empty() { Ok(()) } else { Err(RestoreError::NotEmpty { target: self.plan.target.to_string(), found }) }
    }

    async fn steps(&self, journal: &mut JournalFile) -> Result<Outcome, RestoreError> {
        let waiting: Vec<&Step> = self.plan.steps.iter().filter(|step| state(journal, step) != StepState::Done).collect();
        self.observer.begin("restoring", waiting.iter().fold(0, |sum, step| step.entities.saturating_add(sum)));
        let most = self.options.max_steps.map_or(usize::MAX, |most| most as usize);
        let mut failed = 0;
        for step in waiting.into_iter().take(most) {
            let status = journal.journal().steps.get(&step.id).cloned().unwrap_or_default();
            let outputs = self.outputs(step);
            let done = match status.position.filter(|_| self.resumes_within(&outputs)) {
                Some(position) => {
                    Progress { pieces: pieces_before(&outputs, position), records: position.records, entities: status.entities }
                }
                None => Progress::default(),
            };
            let started = journal::Event::StepStarted {
                step: step.id,
                namespace: step.namespace.clone(),
                kind: step.kind.clone(),
                attempt: status.attempts + 1,
            };
            journal.append(started).await?;
            let (namespace, kind) = (step.to_namespace.clone(), step.kind.clone());
            self.observer.event(Event::StepStarted { step: step.id, namespace, kind, entities: step.entities, resumed: done.entities });
            self.observer.advance(done.entities, 0);
            match self.step(step, &outputs, done, journal).await {
                Ok((entities, counted)) => {
                    journal.append(journal::Event::StepFinished { step: step.id, entities, counted }).await?;
                    let (namespace, kind) = (step.to_namespace.clone(), step.kind.clone());
                    self.observer.event(Event::StepFinished { step: step.id, namespace, kind, entities, counted });
                }
                // Of a journal that cannot be written nothing more can be told.
                Err(error @ RestoreError::Journal(_)) => return Err(error),
                Err(error) => {
                    let sentence = error.to_string();
                    journal.append(journal::Event::StepFailed { step: step.id, error: sentence.clone() }).await?;
                    let (namespace, kind) = (step.to_namespace.clone(), step.kind.clone());
                    self.observer.event(Event::StepFailed { step: step.id, namespace, kind, error: sentence });
                    if !self.options.keep_going {
                        return Err(RestoreError::Step { pair: step.to_pair(), error: Box::new(error) });
                    }
                    failed += 1;
                }
            }
        }
        self.observer.end();
        if failed > 0 {
            return Err(RestoreError::SomeFailed { failed });
        }
        let outcome = Outcome {
            steps: journal.journal().done(),
            entities: journal.journal().entities(),
            left: (self.plan.steps.len() as u64).saturating_sub(journal.journal().done()),
            was_done: false,
        };
        if outcome.left == 0 {
            journal.append(journal::Event::Finished { steps: outcome.steps, entities: outcome.entities }).await?;
        }
        Ok(outcome)
    }

    fn outputs(&self, step: &Step) -> Vec<EntryItem> {
        self.archive.manifest().kind(&step.pair()).map(|kind| kind.outputs().cloned().collect()).unwrap_or_default()
    }

    fn encoder(&self, encoding: Encoding, step: &Step) -> Encoder {
        Encoder::new(encoding, self.rewrite.clone(), step.pair())
    }

    /// Carries one step out. Gives the entities that it brought, over all runs, and what the target counts.
    async fn step(
        &self,
        step: &Step,
        outputs: &[EntryItem],
        done: Progress,
        journal: &mut JournalFile,
    ) -> Result<(u64, Option<u64>), RestoreError> {
        let item = self.archive.manifest().kind(&step.pair());
        let begun_before = journal.journal().steps.get(&step.id).is_some_and(|status| status.attempts > 1);
        let info = StepInfo {
            pair: step.to_pair(),
            begun_before,
            started: item.and_then(|item| item.started),
            finished: item.and_then(|item| item.finished),
        };
        let mut sink = self.target.open(&info, done).await?;
        let pieces = entities::read(self.archive, outputs, self.encoder(self.target.encoding(), step), done.pieces, self.workers);
        pin_mut!(pieces);
        let mut safe = done;
        let mut behind = done.records;
        while let Some(piece) = pieces.next().await {
            let mut piece = piece?;
            piece.drop_first(usize::try_from(std::mem::take(&mut behind)).unwrap_or(usize::MAX));
            for batch in piece.split(BATCH_MAX, BATCH_MAX_BYTES) {
                self.observer.advance(batch.len() as u64, 0);
                let progress = sink.write(batch).await?;
                if progress > safe && self.resumes_within(outputs) {
                    safe = progress;
                    let position = Position { records: safe.records, ..position_after(outputs, safe.pieces) };
                    journal.append(journal::Event::Checkpoint { step: step.id, entities: safe.entities, position }).await?;
                }
            }
            sink.end_piece();
        }
        let brought = sink.finish().await?.entities;
        if brought != step.entities {
            return Err(RestoreError::WrongCount { pair: step.pair(), expected: step.entities, found: brought, place: "in the archive" });
        }
        let counted = match self.options.check {
            Check::None => None,
            Check::Counts | Check::All => Some(self.count(step).await?),
        };
        if self.options.check == Check::All {
            self.compare(step, outputs).await?;
        }
        Ok((brought, counted))
    }

    /// Whether a step of these outputs can go on in its middle.
    fn resumes_within(&self, outputs: &[EntryItem]) -> bool {
        self.target.resumes_within_steps() && entities::are_in_pieces(outputs)
    }

    /// Counts what the target holds of a step's kind: as many as were brought, or at least as many where others may stand beside them.
    async fn count(&self, step: &Step) -> Result<u64, RestoreError> {
        let mut tries = 0;
        loop {
            let found = self.target.count(&step.to_pair()).await?;
            let right = if self.plan.into == Into::Empty { found == step.entities } else { found >= step.entities };
            if right {
                return Ok(found);
            }
            tries += 1;
            if tries == COUNT_TRIES {
                return Err(RestoreError::WrongCount { pair: step.to_pair(), expected: step.entities, found, place: "in the target" });
            }
            tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(tries)).await;
        }
    }

    /// Reads every entity back and compares it.
    async fn compare(&self, step: &Step, outputs: &[EntryItem]) -> Result<(), RestoreError> {
        let pieces = entities::read(self.archive, outputs, self.encoder(Encoding::JsonLine, step), 0, self.workers);
        pin_mut!(pieces);
        let mut differing = 0;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let entities = piece.len();
            let parse = move || piece.iter().filter_map(|(line, _)| serde_json::from_slice(line).ok()).collect::<Vec<serde_json::Value>>();
            let wanted = Workers::aside(parse).await.map_err(TargetError::from)?;
            differing += (entities - wanted.len()) as u64;
            match self.target.differing(wanted).await? {
                Some(found) => differing += found,
                None => break,
            }
        }
        if differing == 0 { Ok(()) } else { Err(RestoreError::Differing { pair: step.to_pair(), differing }) }
    }
}

fn piece_count(output: &EntryItem) -> u64 {
    output.bytes.div_ceil(PIECE_LEN_BYTES as u64).max(1)
}

/// How many pieces lie before a position.
fn pieces_before(outputs: &[EntryItem], position: Position) -> u64 {
    outputs.iter().take(position.entry as usize).map(piece_count).sum::<u64>() + u64::from(position.piece)
}

/// The position behind that many pieces.
fn position_after(outputs: &[EntryItem], mut pieces: u64) -> Position {
    let mut entry = 0;
    for output in outputs {
        if pieces < piece_count(output) {
            break;
        }
        pieces -= piece_count(output);
        entry += 1;
    }
    Position { entry, piece: u32::try_from(pieces).unwrap_or(u32::MAX), records: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Crc32c, EntryRole, Sha256};

    #[test]
    fn positions_and_counts_of_pieces_are_each_others_inverse() {
        let output = |bytes| EntryItem {
            name: String::new(),
            role: EntryRole::Output,
            content_encoding: None,
            bytes,
            sha256: Sha256([0; 32]),
            crc32c: Crc32c(0),
            packed_crc32c: None,
            pieces: Vec::new(),
        };
        let piece = PIECE_LEN_BYTES as u64;
        let outputs = [output(3 * piece), output(0), output(1), output(2 * piece + 1)];
        for pieces in 0..=8 {
            let position = position_after(&outputs, pieces);
            assert_eq!(pieces_before(&outputs, position), pieces, "{position:?}");
        }
        assert_eq!(position_after(&outputs, 4), Position { entry: 2, piece: 0, records: 0 });
    }
}
