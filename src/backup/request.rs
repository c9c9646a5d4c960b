//! What is backed up, how, and what came of it.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::model::{
    Kind, KindRef, Namespace, Selector, Sha256, TargetSpec, TargetSpecError, TimeError, Timestamp,
};
use crate::pack::PackRequest;
use crate::store::Location;

/// How long an export operation is waited for, unless the user says otherwise.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);

/// One backup that is to be made.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The Datastore.
    pub source: BackupSource,
    /// Where the exports are written: each run gets a folder below it, named by the backup id.
    pub exports: Location,
    /// The archive; ending in `/`, its name is chosen.
    pub archive: Location,
    /// Which kinds are backed up.
    pub kinds: KindSelection,
    /// How the exports are paced and retried.
    pub queue: QueueOptions,
    /// How long each export operation is waited for.
    pub operation_timeout: Duration,
    /// The instant that all exports show; none where each shows the time at which it ran.
    pub snapshot_time: Option<SnapshotTime>,
    /// Kinds that the archive may lack if their export fails.
    pub allow_missing: Vec<Selector>,
    /// Whether the exports are deleted once the archive has been verified in full.
    pub delete_exports: bool,
    /// Whether an unfinished run is left alone and another one is started.
    pub starts_anew: bool,
    /// How the archive is made. Its selection of exports is set by the run.
    pub pack: PackRequest,
}

/// The Datastore that is backed up: `datastore:PROJECT[/DATABASE]` or
/// `emulator:PROJECT[@HOST:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, SerializeDisplay, DeserializeFromStr)]
pub enum BackupSource {
    /// The real service.
    Datastore {
        /// The project.
        project: String,
        /// A named database; `None` is the default one.
        database: Option<String>,
    },
    /// A Datastore emulator.
    Emulator {
        /// The project in the emulator.
        project: String,
        /// `HOST:PORT`; `None` stands for the emulator that the environment names.
        host: Option<String>,
    },
}

/// A text that names no Datastore.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum BackupSourceError {
    /// It is not spelled as a Datastore is.
    #[error(transparent)]
    Spelling(#[from] TargetSpecError),
    /// It is a target that can only be written.
    #[error(
        "{0:?} is not a Datastore: write datastore:PROJECT[/DATABASE] or emulator:PROJECT[@HOST:PORT]"
    )]
    NotADatastore(String),
}

impl FromStr for BackupSource {
    type Err = BackupSourceError;

    fn from_str(text: &str) -> Result<Self, BackupSourceError> {
        let is_datastore = text.starts_with("datastore:") || text.starts_with("emulator:");
        match text.parse() {
            Ok(TargetSpec::Datastore { project, database }) => {
                Ok(BackupSource::Datastore { project, database })
            }
            Ok(TargetSpec::Emulator { project, host }) => {
                Ok(BackupSource::Emulator { project, host })
            }
            Ok(TargetSpec::Dir(_) | TargetSpec::Ndjson(_)) => {
                Err(BackupSourceError::NotADatastore(text.to_owned()))
            }
            Err(error) if is_datastore => Err(BackupSourceError::Spelling(error)),
            Err(TargetSpecError { text, .. }) => Err(BackupSourceError::NotADatastore(text)),
        }
    }
}

impl BackupSource {
    /// The project and the name of the database; the default one has none.
    pub fn database(&self) -> (&str, &str) {
        match self {
            BackupSource::Datastore { project, database } => {
                (project, database.as_deref().unwrap_or_default())
            }
            BackupSource::Emulator { project, .. } => (project, ""),
        }
    }
}

impl From<BackupSource> for TargetSpec {
    fn from(source: BackupSource) -> Self {
        match source {
            BackupSource::Datastore { project, database } => {
                TargetSpec::Datastore { project, database }
            }
            BackupSource::Emulator { project, host } => TargetSpec::Emulator { project, host },
        }
    }
}

impl fmt::Display for BackupSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TargetSpec::from(self.clone()).fmt(f)
    }
}

/// Which kinds are backed up. Kinds whose names start with `_` never are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindSelection {
    /// Only these namespaces, unless empty.
    pub namespaces: Vec<Namespace>,
    /// Only these kinds, unless empty.
    pub only: Vec<Selector>,
    /// Not these kinds.
    pub exclude: Vec<Selector>,
}

impl KindSelection {
    /// Whether a kind is backed up.
    pub fn chooses(&self, pair: &KindRef) -> bool {
        let is_any = |selectors: &[Selector]| selectors.iter().any(|one| one.matches(pair));
        is_data(pair)
            && (self.namespaces.is_empty() || self.namespaces.contains(&pair.namespace))
            && (self.only.is_empty() || is_any(&self.only))
            && !is_any(&self.exclude)
    }
}

/// Whether a kind is data: not one of the Datastore's own, nor the mark of a restore at work.
pub(super) fn is_data(pair: &KindRef) -> bool {
    !pair.kind.as_str().starts_with('_') && !pair.is_lease()
}

/// How exports are paced and retried: the three numbers of an App Engine queue, and the attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOptions {
    /// How often an export may be started on average.
    pub rate: Rate,
    /// How many exports may be started at once after a pause.
    pub bucket_size: NonZeroU32,
    /// How many exports may run at once.
    pub max_concurrent: NonZeroU32,
    /// How often the export of one kind is tried.
    pub max_attempts: NonZeroU32,
    /// The delay after the first failed attempt; each one is twice as long as the one before.
    pub min_backoff: Duration,
    /// No delay is longer, unless the service asks for it.
    pub max_backoff: Duration,
}

impl Default for QueueOptions {
    fn default() -> Self {
        QueueOptions {
            rate: Rate::default(),
            bucket_size: NonZeroU32::MIN,
            max_concurrent: NonZeroU32::MIN,
            max_attempts: NonZeroU32::MIN.saturating_add(9),
            min_backoff: Duration::from_secs(2),
            max_backoff: Duration::from_secs(300),
        }
    }
}

/// A number of starts per unit of time, such as `10/s`, as App Engine's `queue.yaml` spells it.
#[derive(Debug, Clone, Copy, PartialEq, SerializeDisplay, DeserializeFromStr)]
pub struct Rate {
    number: f64,
    unit: RateUnit,
}

/// The number is never NaN.
impl Eq for Rate {}

/// The time that a rate refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RateUnit {
    Second,
    Minute,
    Hour,
    Day,
}

impl RateUnit {
    const ALL: [RateUnit; 4] = [
        RateUnit::Second,
        RateUnit::Minute,
        RateUnit::Hour,
        RateUnit::Day,
    ];

    fn letter(self) -> &'static str {
        match self {
            RateUnit::Second => "s",
            RateUnit::Minute => "m",
            RateUnit::Hour => "h",
            RateUnit::Day => "d",
        }
    }

    fn seconds(self) -> f64 {
        match self {
            RateUnit::Second => 1.0,
            RateUnit::Minute => 60.0,
            RateUnit::Hour => 3_600.0,
            RateUnit::Day => 86_400.0,
        }
    }
}

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate such as 10/s, 20/m, 1/h or 5/d")]
pub struct RateError(String);

/// No rate is lower: two starts would be more than a year apart.
const MAX_INTERVAL_SECONDS: f64 = 366.0 * 86_400.0;

/// No rate is higher: two starts would be less than a nanosecond apart.
const MIN_INTERVAL_SECONDS: f64 = 1e-9;

impl Rate {
    /// The time between two starts.
    pub fn interval(self) -> Duration {
        Duration::from_secs_f64(self.interval_seconds())
    }

    fn interval_seconds(self) -> f64 {
        self.unit.seconds() / self.number
    }
}

/// Ten starts a second.
impl Default for Rate {
    fn default() -> Self {
        Rate {
            number: 10.0,
            unit: RateUnit::Second,
        }
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let wrong = || RateError(text.chars().take(80).collect());
        let (number, unit) = text.trim().split_once('/').ok_or_else(wrong)?;
        let unit = RateUnit::ALL
            .into_iter()
            .find(|known| known.letter() == unit.trim())
            .ok_or_else(wrong)?;
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let rate = Rate { number, unit };
        let interval = rate.interval_seconds();
        // Also false for what is no number.
        if number > 0.0 && (MIN_INTERVAL_SECONDS..=MAX_INTERVAL_SECONDS).contains(&interval) {
            Ok(rate)
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.unit.letter())
    }
}

/// The instant that all exports of a run show: `now` or a whole minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SerializeDisplay, DeserializeFromStr)]
pub enum SnapshotTime {
    /// The last whole minute that is over for certain.
    Now,
    /// A whole minute in the past.
    At(Timestamp),
}

/// A text that is no instant of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum SnapshotTimeError {
    /// It is no time.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// It is a time between two minutes.
    #[error(
        "snapshot time {0} is not a whole minute: write a time such as 2026-01-31T02:15:00Z, or now"
    )]
    NotAMinute(Timestamp),
}

const MINUTE_MICROS: i64 = 60_000_000;

/// A clock may be so much ahead of the service's, which refuses an instant of the future.
const CLOCK_SKEW_MICROS: i64 = 15_000_000;

impl SnapshotTime {
    /// The instant for a run that starts at `now`.
    pub fn instant(self, now: Timestamp) -> Timestamp {
        match self {
            SnapshotTime::At(time) => time,
            SnapshotTime::Now => {
                let past = now.micros().saturating_sub(CLOCK_SKEW_MICROS);
                let minute = past.saturating_sub(past.rem_euclid(MINUTE_MICROS));
                Timestamp::from_micros(minute).unwrap_or(now)
            }
        }
    }
}

impl FromStr for SnapshotTime {
    type Err = SnapshotTimeError;

    fn from_str(text: &str) -> Result<Self, SnapshotTimeError> {
        if text == "now" {
            return Ok(SnapshotTime::Now);
        }
        let time: Timestamp = text.parse()?;
        if time.micros().rem_euclid(MINUTE_MICROS) == 0 {
            Ok(SnapshotTime::At(time))
        } else {
            Err(SnapshotTimeError::NotAMinute(time))
        }
    }
}

impl fmt::Display for SnapshotTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotTime::Now => f.write_str("now"),
            SnapshotTime::At(time) => time.fmt(f),
        }
    }
}

/// What a run has come to. A run that failed has no archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupResult {
    /// The backup id: the UTC time at which the run started, `YYYYMMDDHHMMSS`.
    pub id: String,
    /// The archive.
    pub archive: Option<String>,
    /// Its SHA-256.
    pub sha256: Option<Sha256>,
    /// Its length.
    pub bytes: Option<u64>,
    /// The kinds that were exported.
    pub kinds: Vec<ExportedKind>,
    /// The kinds whose export failed, those of `missing` included.
    pub failed: Vec<FailedKind>,
    /// The kinds that the archive lacks by permission.
    pub missing: Vec<KindRef>,
    /// When the run started; where it was resumed, for the first time.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// The instant that all exports show.
    pub snapshot_time: Option<Timestamp>,
}

/// A kind that was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedKind {
    /// Its namespace.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// Entities, once they were packed.
    pub entities: Option<u64>,
    /// Bytes of the entities, once they were packed.
    pub bytes: Option<u64>,
    /// How long the export took.
    pub seconds: u64,
    /// How often it was tried.
    pub attempts: u32,
}

/// A kind whose export failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedKind {
    /// Its namespace.
    pub namespace: Namespace,
    /// The kind.
    pub kind: Kind,
    /// Why, in the service's words.
    pub error: String,
    /// What may help.
    pub advice: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_reads_as_queue_yaml_spells_it() {
        for (text, millis) in [
            ("10/s", 100),
            ("0.5/s", 2_000),
            ("20/m", 3_000),
            ("1/h", 3_600_000),
            ("5/d", 17_280_000),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.interval(), Duration::from_millis(millis), "{text}");
            assert_eq!(rate.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "", "10", "10/", "/s", "0/s", "-1/s", "NaN/s", "inf/s", "1e300/s", "1e-300/d", "10/S",
            "10/min", "ten/s",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_snapshot_is_taken_at_a_whole_minute() {
        let now: Timestamp = "2026-01-31T02:15:59.999999Z".parse().unwrap();
        let minute: Timestamp = "2026-01-31T02:15:00Z".parse().unwrap();
        assert_eq!(SnapshotTime::Now.instant(now), minute);
        let early: Timestamp = "2026-01-31T02:16:14.999999Z".parse().unwrap();
        assert_eq!(SnapshotTime::Now.instant(early), minute);
        assert_eq!("now".parse(), Ok(SnapshotTime::Now));
        assert_eq!("2026-01-31T02:15:00Z".parse(), Ok(SnapshotTime::At(minute)));
        for text in ["", "Now", "2026-01-31T02:15:01Z", "2026-01-31"] {
            assert!(text.parse::<SnapshotTime>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_a_datastore_can_be_backed_up() {
        for text in ["datastore:shop/orders", "emulator:shop@localhost:8081"] {
            assert_eq!(text.parse::<BackupSource>().unwrap().to_string(), text);
        }
        for text in ["dir:out", "ndjson:out", "gs://bucket/x", ""] {
            assert!(text.parse::<BackupSource>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn kinds_with_an_underscore_are_never_chosen() {
        let mut selection = KindSelection::default();
        assert!(selection.chooses(&KindRef::new("acme", "User")));
        assert!(!selection.chooses(&KindRef::new("", "_AE_Backup_Information")));
        assert!(!selection.chooses(&KindRef::new("", "__Stat_Kind__")));
        selection.only = vec!["_*".parse().unwrap(), "User".parse().unwrap()];
        selection.namespaces = vec![Namespace::new("")];
        assert!(selection.chooses(&KindRef::new("", "User")));
        assert!(!selection.chooses(&KindRef::new("acme", "User")));
        assert!(!selection.chooses(&KindRef::new("", "_Hidden")));
    }
}
