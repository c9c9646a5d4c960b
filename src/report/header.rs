//! The top of the page: what it is about, the sums, and what somebody should know first.

use super::values::{bytes, count, counted, duration, text, time};
use crate::model::{KindCounts, Manifest};
use crate::plan::Plan;
use crate::restore::journal::Journal;

/// The top of the page.
#[derive(Debug, Clone, PartialEq)]
pub struct PageHeader {
    pub title: String,
    pub subtitle: String,
    pub badge: Option<Badge>,
    pub figures: Vec<Figure>,
    /// Where the data is, and its digest.
    pub origin: Vec<Origin>,
    pub notices: Vec<Notice>,
}

/// How a restore stands, in a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Badge {
    pub mood: Mood,
    pub text: String,
}

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Good,
    Neutral,
    Bad,
}

impl Mood {
    /// The class in the page's style.
    pub fn class(self) -> &'static str {
        match self {
            Mood::Good => "good",
            Mood::Neutral => "neutral",
            Mood::Bad => "bad",
        }
    }
}

/// A large number with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    pub value: String,
    pub label: String,
    pub note: String,
}

/// A place or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub label: &'static str,
    pub value: String,
}

/// What somebody should know first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub mood: Mood,
    pub text: String,
}

impl Notice {
    pub fn warning(sentence: &str) -> Self {
        Notice {
            mood: Mood::Neutral,
            text: text(sentence),
        }
    }

    pub fn problem(sentence: &str) -> Self {
        Notice {
            mood: Mood::Bad,
            text: text(sentence),
        }
    }
}

impl Figure {
    fn new(value: String, label: &str, note: impl Into<String>) -> Self {
        Figure {
            value,
            label: label.to_owned(),
            note: note.into(),
        }
    }
}

impl PageHeader {
    /// The top of a page about an archive.
    pub fn from_archive(manifest: &Manifest, plan: &Plan) -> Self {
        PageHeader {
            title: format!("Backup {}", text(&manifest.backup.id)),
            subtitle: subtitle_of(manifest),
            badge: None,
            figures: archive_figures(manifest),
            origin: origin(plan, Some(manifest)),
            notices: archive_notices(manifest),
        }
    }

    /// The top of a page about a plan, or about a restore that has begun.
    pub fn from_plan(plan: &Plan, manifest: Option<&Manifest>, has_begun: bool) -> Self {
        let choices = &plan.head.choices;
        let mut notices: Vec<Notice> = plan
            .warnings
            .iter()
            .map(|line| Notice::warning(line))
            .collect();
        if manifest.is_none() {
            notices.push(Notice::warning(
                "The archive of this plan is gone or has changed: this page shows what the plan says of it.",
            ));
        }
        PageHeader {
            title: if has_begun { "Restore" } else { "Restore plan" }.to_owned(),
            subtitle: format!(
                "{} into {}",
                project(&plan.head.project),
                text(&choices.target.to_string())
            ),
            badge: None,
            figures: plan_figures(plan),
            origin: origin(plan, manifest),
            notices,
        }
    }
}

/// How a restore stands by its journal.
pub fn badge_of(journal: &Journal, steps: usize) -> Option<Badge> {
    journal.opened.as_ref()?;
    let done = journal.done();
    let (mood, text) = if journal.is_complete() {
        (Mood::Good, "done".to_owned())
    } else if journal.steps.values().any(|step| step.error.is_some()) {
        (
            Mood::Bad,
            format!("failed, {} of {steps} steps done", count(done)),
        )
    } else {
        (
            Mood::Neutral,
            format!("{} of {steps} steps done", count(done)),
        )
    };
    Some(Badge { mood, text })
}

fn project(project: &str) -> String {
    match project {
        "" => "no project".to_owned(),
        project => format!("project {}", text(project)),
    }
}

fn subtitle_of(manifest: &Manifest) -> String {
    let backup = &manifest.backup;
    match backup.database.as_str() {
        "" => project(&backup.project),
        database => format!("{}, database {}", project(&backup.project), text(database)),
    }
}

fn archive_figures(manifest: &Manifest) -> Vec<Figure> {
    let totals = &manifest.totals;
    let counts = KindCounts::from_manifest(manifest);
    let files = counted(
        usize::try_from(totals.entries).unwrap_or(usize::MAX),
        "file",
        "files",
    );
    let mut figures = vec![
        Figure::new(
            count(counts.kinds),
            noun(counts.kinds, "kind", "kinds"),
            namespaces(&counts),
        ),
        Figure::new(
            count(totals.entities),
            noun(totals.entities, "entity", "entities"),
            "",
        ),
        Figure::new(bytes(totals.bytes), "of exports", files),
    ];
    figures.extend(companion_figure(manifest));
    figures.extend(time_figure(manifest));
    figures
}

fn companion_figure(manifest: &Manifest) -> Option<Figure> {
    let companions = &manifest.companions;
    let sizes = companions.iter().map(|entry| entry.bytes);
    let size = sizes.fold(0, u64::saturating_add);
    let number = companions.len() as u64;
    let label = noun(number, "companion file", "companion files");
    (number > 0).then(|| Figure::new(count(number), label, bytes(size)))
}

fn noun(number: u64, one: &'static str, many: &'static str) -> &'static str {
    if number == 1 { one } else { many }
}

fn namespaces(counts: &KindCounts) -> String {
    match counts.namespaces {
        0 | 1 => String::new(),
        many => format!(
            "in {} namespaces, {} exports",
            count(many),
            count(counts.exports)
        ),
    }
}

/// How far the set is from one instant.
fn time_figure(manifest: &Manifest) -> Option<Figure> {
    let times = manifest.export_times();
    let since = format!("since {} UTC", time(Some(times.started?)));
    Some(match times.snapshot_time {
        Some(instant) => Figure::new(
            "1 instant".to_owned(),
            "shown by all exports",
            instant.to_string(),
        ),
        None => {
            let spread = match times.spread_seconds {
                0 => "<1 s".to_owned(),
                seconds => duration(std::time::Duration::from_secs(seconds)),
            };
            Figure::new(spread, "between first and last start", since)
        }
    })
}

fn plan_figures(plan: &Plan) -> Vec<Figure> {
    let totals = &plan.totals;
    let about = std::time::Duration::from_secs(totals.seconds);
    let choices = &plan.head.choices;
    let skipped = match plan.skipped.len() {
        0 => String::new(),
        some => format!("{} left out", counted(some, "kind", "kinds")),
    };
    let existing = format!("existing entities: {}", choices.on_existing);
    vec![
        Figure::new(
            count(totals.steps),
            noun(totals.steps, "step", "steps"),
            skipped,
        ),
        Figure::new(
            count(totals.entities),
            noun(totals.entities, "entity", "entities"),
            existing,
        ),
        Figure::new(
            bytes(totals.bytes),
            "of records",
            format!("written by {}", choices.via),
        ),
        Figure::new(format!("≈ {}", duration(about)), "planned duration", ""),
    ]
}

fn origin(plan: &Plan, manifest: Option<&Manifest>) -> Vec<Origin> {
    let archive = &plan.head.archive;
    let mut origin = vec![
        Origin {
            label: "Archive",
            value: text(&archive.location),
        },
        Origin {
            label: "SHA-256",
            value: archive.sha256.to_string(),
        },
    ];
    if let Some(manifest) = manifest {
        let tool = &manifest.tool;
        let value = format!("{} {}", text(&tool.name), text(&tool.version));
        origin.push(Origin {
            label: "Packed by",
            value,
        });
    }
    origin
}

/// What is not as usual: missing kinds, accepted counts, empty exports.
fn archive_notices(manifest: &Manifest) -> Vec<Notice> {
    let mut notices = Vec::new();
    if !manifest.missing.is_empty() {
        let kinds = counted(manifest.missing.len(), "kind is", "kinds are");
        notices.push(Notice::problem(&format!(
            "{kinds} missing from this backup; see below."
        )));
    }
    let accepted = manifest.accepted_counts();
    notices.extend(
        accepted
            .iter()
            .map(|count| Notice::warning(&format!("{count}."))),
    );
    if !manifest.empty_exports.is_empty() {
        let exports = counted(manifest.empty_exports.len(), "export holds", "exports hold");
        let sentence = format!("{exports} no entity; which kind is recorded nowhere.");
        notices.push(Notice::warning(&sentence));
    }
    notices
}
