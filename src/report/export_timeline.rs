//! When each kind was exported: how far the set is from one instant.

use std::cmp::Reverse;

use super::axis::{Bar, Tick, TimeAxis};
use super::values::{KindName, Percent, counted, duration_between, time};
use crate::model::{KindInfo, Manifest, Timestamp};

/// Rows with a name. Where there are more kinds, the longest exports are named below a chart of
/// all.
const MAX_NAMED: usize = 30;

/// How many exports are named where there are more than that.
const LONGEST: usize = 12;

/// The height of a row in the chart of all exports, in pixels, and the chart's largest height.
const ROW_HEIGHT: f64 = 4.0;
const MAX_HEIGHT: f64 = 440.0;

/// The exports in time.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportTimeline {
    /// One sentence that says it all.
    pub summary: String,
    pub ticks: Vec<Tick>,
    /// All exports without their names, where there are many.
    pub overview: Option<Overview>,
    pub rows: Vec<ExportRow>,
    /// How many of the exports have a row.
    pub rows_note: Option<String>,
    /// Where the first and the last export start.
    pub spread: Option<Bar>,
    /// The instant that all exports show, where it is within the chart.
    pub snapshot: Option<Percent>,
    /// What is said of exports without times.
    pub unknown_note: Option<String>,
}

/// All exports as thin lines, in the order of their starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    pub height: f64,
    pub row_height: f64,
    pub bars: Vec<OverviewBar>,
}

/// An export as a thin line.
#[derive(Debug, Clone, PartialEq)]
pub struct OverviewBar {
    pub y: f64,
    pub bar: Bar,
    pub title: String,
}

/// An export with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportRow {
    pub name: KindName,
    pub bar: Bar,
    pub started: String,
    pub took: String,
}

/// An export whose times are known.
#[derive(Clone, Copy)]
struct TimedExport<'a> {
    kind: &'a KindInfo,
    started: Timestamp,
    finished: Timestamp,
}

impl<'a> TimedExport<'a> {
    /// Some emulators write times that cannot be true.
    fn new(kind: &'a KindInfo) -> Option<Self> {
        let started = kind.started.filter(|at| at.is_plausible())?;
        let finished = kind.finished.filter(|at| at.is_plausible());
        Some(TimedExport {
            kind,
            started,
            finished: finished.unwrap_or(started).max(started),
        })
    }

    fn row(&self, axis: &TimeAxis) -> ExportRow {
        ExportRow {
            name: KindName::new(&self.kind.namespace, &self.kind.kind),
            bar: axis.bar(self.started, self.finished),
            started: time(Some(self.started)),
            took: self.took(),
        }
    }

    fn took(&self) -> String {
        duration_between(Some(self.started), Some(self.finished))
    }
}

impl ExportTimeline {
    /// The exports in time; none where no export says when it was.
    pub fn from_manifest(manifest: &Manifest) -> Option<Self> {
        let mut exports: Vec<TimedExport<'_>> =
            manifest.kinds.iter().filter_map(TimedExport::new).collect();
        exports.sort_by_key(|export| (export.started, export.finished));
        let times = exports
            .iter()
            .flat_map(|export| [export.started, export.finished]);
        let axis = TimeAxis::from_times(times)?;
        let unknown = manifest.kinds.len() - exports.len();
        let named = named(&exports);
        Some(ExportTimeline {
            summary: summary(manifest),
            ticks: axis.ticks(),
            overview: (named.len() < exports.len()).then(|| overview(&exports, &axis)),
            rows_note: (named.len() < exports.len()).then(|| rows_note(named.len(), exports.len())),
            rows: named.iter().map(|export| export.row(&axis)).collect(),
            spread: spread(&exports, &axis),
            snapshot: snapshot(manifest, &exports, &axis),
            unknown_note: (unknown > 0).then(|| unknown_note(unknown)),
        })
    }
}

/// The exports that have a row of their own, by their starts.
fn named<'a>(exports: &[TimedExport<'a>]) -> Vec<TimedExport<'a>> {
    let mut named = exports.to_vec();
    if named.len() > MAX_NAMED {
        named.sort_by_key(|export| Reverse(export.finished.since(export.started)));
        named.truncate(LONGEST);
        named.sort_by_key(|export| (export.started, export.finished));
    }
    named
}

fn rows_note(named: usize, all: usize) -> String {
    format!(
        "The {named} longest of {}; the table of kinds lists all.",
        counted(all, "export", "exports")
    )
}

fn unknown_note(unknown: usize) -> String {
    format!(
        "The time of {} is not known.",
        counted(unknown, "export", "exports")
    )
}

fn overview(exports: &[TimedExport<'_>], axis: &TimeAxis) -> Overview {
    let row_height = (MAX_HEIGHT / exports.len() as f64).min(ROW_HEIGHT);
    let bars = exports.iter().enumerate().map(|(number, export)| {
        let name = KindName::new(&export.kind.namespace, &export.kind.kind);
        let started = time(Some(export.started));
        OverviewBar {
            y: number as f64 * row_height,
            bar: axis.bar(export.started, export.finished),
            title: format!("{name}: {started} UTC, {}", export.took()),
        }
    });
    Overview {
        height: row_height * exports.len() as f64,
        row_height: row_height * 0.8,
        bars: bars.collect(),
    }
}

/// From the start of the first export to that of the last one, where they differ.
fn spread(exports: &[TimedExport<'_>], axis: &TimeAxis) -> Option<Bar> {
    let (first, last) = (exports.first()?.started, exports.last()?.started);
    (first < last).then(|| axis.bar(first, last))
}

fn snapshot(manifest: &Manifest, exports: &[TimedExport<'_>], axis: &TimeAxis) -> Option<Percent> {
    let instant = manifest.backup.snapshot_time?;
    let first = exports.first()?.started;
    let last = exports.iter().map(|export| export.finished).max()?;
    (first..=last)
        .contains(&instant)
        .then(|| axis.position(instant))
}

/// What the times mean for somebody who restores.
fn summary(manifest: &Manifest) -> String {
    let times = manifest.export_times();
    let meaning = match (times.snapshot_time, times.spread_seconds) {
        (Some(_), _) => "The set shows one instant.",
        (None, 0) => "All exports started within a second of one another.",
        (None, _) => "Each kind shows the data of its own export's time.",
    };
    format!("{}. {meaning}", capitalized(&times.to_string()))
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}
