//! Every kind with its numbers, and its place in each order that the table can be sorted by.

use std::cmp::Reverse;
use std::time::Duration;

use super::values::{
    KindName, Percent, bytes, count, duration_between, percent_of, ranks, share, time,
};
use crate::model::{ExportFormat, KindInfo, Manifest};
use crate::plan::Plan;

/// What the charts need of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindSize {
    pub name: KindName,
    pub entities: u64,
    pub bytes: u64,
}

/// All kinds of an archive.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KindTable {
    pub rows: Vec<KindRow>,
}

/// A kind with its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct KindRow {
    pub name: KindName,
    pub entities: String,
    pub bytes: String,
    pub share: String,
    pub share_bar: Percent,
    pub files: String,
    pub format: &'static str,
    pub started: String,
    pub took: String,
    pub place: KindPlaces,
}

/// The place of a row in each order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindPlaces {
    pub by_name: usize,
    pub by_entities: usize,
    pub by_bytes: usize,
    pub by_start: usize,
    pub by_duration: usize,
}

/// The kinds of an archive.
pub fn sizes_of_manifest(manifest: &Manifest) -> Vec<KindSize> {
    let kinds = manifest.kinds.iter().map(|kind| KindSize {
        name: KindName::new(&kind.namespace, &kind.kind),
        entities: kind.entities,
        bytes: kind.bytes,
    });
    kinds.collect()
}

/// The kinds of a plan, for archives that cannot be looked at.
pub fn sizes_of_plan(plan: &Plan) -> Vec<KindSize> {
    let steps = plan.steps.iter().map(|step| KindSize {
        name: KindName::new(&step.namespace, &step.kind),
        entities: step.entities,
        bytes: step.bytes,
    });
    steps.collect()
}

impl KindTable {
    pub fn from_manifest(manifest: &Manifest) -> Self {
        let kinds = &manifest.kinds;
        let total = kinds
            .iter()
            .fold(0u64, |sum, kind| sum.saturating_add(kind.bytes));
        let places = places(kinds);
        let rows = kinds.iter().zip(places);
        KindTable {
            rows: rows.map(|(kind, place)| row(kind, total, place)).collect(),
        }
    }
}

fn row(kind: &KindInfo, total: u64, place: KindPlaces) -> KindRow {
    KindRow {
        name: KindName::new(&kind.namespace, &kind.kind),
        entities: count(kind.entities),
        bytes: bytes(kind.bytes),
        share: share(kind.bytes, total),
        share_bar: percent_of(kind.bytes, total),
        files: count(kind.entries.len() as u64),
        format: match kind.format {
            ExportFormat::ManagedExport => "managed",
            ExportFormat::LegacyBackup => "legacy",
        },
        started: time(kind.started),
        took: duration_between(kind.started, kind.finished),
        place,
    }
}

/// How long the export of a kind took.
fn took(kind: &KindInfo) -> Option<Duration> {
    let (started, finished) = (kind.started?, kind.finished?);
    Some(finished.since(started))
}

fn places(kinds: &[KindInfo]) -> Vec<KindPlaces> {
    let of = |item: usize| kinds.get(item);
    let by_name = ranks(kinds.len(), |item| {
        of(item).map(|kind| (kind.kind.as_str().to_lowercase(), &kind.namespace))
    });
    let by_entities = ranks(kinds.len(), |item| {
        Reverse(of(item).map(|kind| kind.entities))
    });
    let by_bytes = ranks(kinds.len(), |item| Reverse(of(item).map(|kind| kind.bytes)));
    let by_start = ranks(kinds.len(), |item| of(item).map(|kind| kind.started));
    let by_duration = ranks(kinds.len(), |item| Reverse(of(item).map(took)));
    let named = by_name.into_iter().zip(by_entities).zip(by_bytes);
    named
        .zip(by_start.into_iter().zip(by_duration))
        .map(
            |(((by_name, by_entities), by_bytes), (by_start, by_duration))| KindPlaces {
                by_name,
                by_entities,
                by_bytes,
                by_start,
                by_duration,
            },
        )
        .collect()
}
