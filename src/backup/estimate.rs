//! What a backup would export, and what that costs, by the Datastore's own statistics.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::error::BackupError;
use super::kinds::{KindSource, chosen_namespaces, list_kinds};
use super::queue::{SERVICE_STARTS, SERVICE_WINDOW};
use super::request::{BackupRequest, QueueOptions};
use crate::datastore::kinds::KindStatistics;
use crate::model::{Kind, KindRef, Namespace, Timestamp};
use crate::progress::Observer;

/// One kind that would be exported.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindEstimate {
    /// Its namespace.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// Its entities; none where no statistics count them.
    pub entities: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// Its part of all bytes, from 0 to 1.
    pub share: Option<f64>,
}

/// What a backup would export.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupEstimate {
    /// The kinds, those with the most bytes first.
    pub kinds: Vec<KindEstimate>,
    /// Entities of all kinds that are counted. Each is billed as one read.
    pub billed_reads: u64,
    /// Bytes of all kinds that are counted.
    pub bytes: u64,
    /// Kinds that no statistics count.
    pub uncounted_kinds: u64,
    /// Exports that are started.
    pub requests: u64,
    /// How long the queue needs to start them. The exports' own time is not in it.
    pub queue_seconds: u64,
    /// When the oldest of the statistics were made.
    pub statistics_time: Option<Timestamp>,
}

/// Estimates a backup. Nothing is changed anywhere.
///
/// # Errors
/// [`BackupError`] where the kinds cannot be listed, or none is chosen.
pub async fn estimate(
    source: &dyn KindSource,
    request: &BackupRequest,
    has_quota: bool,
    observer: &dyn Observer,
) -> Result<BackupEstimate, BackupError> {
    let name = request.source.to_string();
    let kinds = list_kinds(source, &request.kinds, &name, observer).await?;
    let namespaces = chosen_namespaces(source, &request.kinds).await?;
    let mut counted = BTreeMap::new();
    for namespace in &namespaces {
        let statistics = source.statistics(namespace, namespaces.len() == 1).await?;
        counted.extend(statistics.into_iter().map(|one| {
            let pair = KindRef {
                namespace: one.namespace.clone(),
                kind: one.kind.clone(),
            };
            (pair, one)
        }));
    }
    let wait = queue_time(kinds.len() as u64, &request.queue, has_quota);
    Ok(sum(kinds, &counted, wait))
}

fn sum(
    kinds: Vec<KindRef>,
    counted: &BTreeMap<KindRef, KindStatistics>,
    wait: Duration,
) -> BackupEstimate {
    let known = || kinds.iter().filter_map(|pair| counted.get(pair));
    let bytes = known().fold(0, |sum: u64, one| sum.saturating_add(one.bytes));
    let billed_reads = known().fold(0, |sum: u64, one| sum.saturating_add(one.entities));
    let (requests, statistics_time) = (kinds.len() as u64, known().map(|one| one.time).min());
    let uncounted_kinds = requests - known().count() as u64;
    let mut kinds: Vec<KindEstimate> = kinds
        .into_iter()
        .map(|pair| estimate_kind(counted.get(&pair), pair, bytes))
        .collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.bytes));
    BackupEstimate {
        kinds,
        billed_reads,
        bytes,
        uncounted_kinds,
        requests,
        queue_seconds: wait.as_secs_f64().ceil() as u64,
        statistics_time,
    }
}

fn estimate_kind(counted: Option<&KindStatistics>, pair: KindRef, all_bytes: u64) -> KindEstimate {
    let share = |one: &KindStatistics| one.bytes as f64 / all_bytes.max(1) as f64;
    KindEstimate {
        namespace: pair.namespace,
        kind: pair.kind,
        entities: counted.map(|one| one.entities),
        bytes: counted.map(|one| one.bytes),
        share: counted.map(share),
    }
}

/// How long the queue needs for so many starts, from the first to the last.
fn queue_time(starts: u64, options: &QueueOptions, has_quota: bool) -> Duration {
    let after_burst = starts.saturating_sub(u64::from(options.bucket_size.get()));
    let user = options
        .rate
        .interval()
        .saturating_mul(u32::try_from(after_burst).unwrap_or(u32::MAX));
    if !has_quota {
        return user;
    }
    let windows = starts.saturating_sub(1) / SERVICE_STARTS as u64;
    let service = SERVICE_WINDOW.saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX));
    user.max(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_of_both_limits_counts() {
        let mut options = QueueOptions::default();
        for (starts, has_quota, seconds) in [
            (0, true, 0.0),
            (1, true, 0.0),
            (20, true, 1.9),
            (21, true, 60.0),
            (60, true, 120.0),
            (61, false, 6.0),
        ] {
            let wait = queue_time(starts, &options, has_quota);
            assert_eq!(wait.as_secs_f64(), seconds, "{starts}");
        }
        options.rate = "1/m".parse().unwrap();
        assert_eq!(queue_time(61, &options, true).as_secs(), 3_600);
    }

    #[test]
    fn what_is_not_counted_is_not_guessed() {
        let kinds = vec![
            KindRef::new("", "A"),
            KindRef::new("", "B"),
            KindRef::new("", "C"),
        ];
        let time = Timestamp::from_micros(7).unwrap();
        let count = |kind: &str, entities, bytes| {
            let statistics = KindStatistics {
                namespace: Namespace::default(),
                kind: Kind::new(kind),
                entities,
                bytes,
                time,
            };
            (KindRef::new("", kind), statistics)
        };
        let counted = BTreeMap::from([count("A", 10, 100), count("C", 90, 900), count("X", 1, 1)]);
        let estimate = sum(kinds, &counted, Duration::from_millis(1_001));
        let shares: Vec<_> = estimate
            .kinds
            .iter()
            .map(|one| (one.kind.as_str(), one.share))
            .collect();
        assert_eq!(shares, [("C", Some(0.9)), ("A", Some(0.1)), ("B", None)]);
        assert_eq!((estimate.billed_reads, estimate.uncounted_kinds), (100, 1));
        assert_eq!(
            (estimate.queue_seconds, estimate.statistics_time),
            (2, Some(time))
        );
    }
}
