//! App Engine's `queue.yaml`, read as it is: the numbers of one of its queues.
//!
//! What concerns task queues only, such as `target` or `mode`, is passed over.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde_with::{DeserializeFromStr, SerializeDisplay};

use super::request::{QueueOptions, Rate};

/// A `queue.yaml` and a queue in it: `FILE[:NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, SerializeDisplay, DeserializeFromStr)]
pub struct QueueFileRef {
    /// The file.
    pub path: PathBuf,
    /// The queue; none where the file holds only one.
    pub name: Option<String>,
}

impl FromStr for QueueFileRef {
    type Err = QueueFileError;

    fn from_str(text: &str) -> Result<Self, QueueFileError> {
        let (path, name) = match text.rsplit_once(':') {
            Some((path, name)) if is_queue_name(name) => (path, Some(name.to_owned())),
            _ => (text, None),
        };
        if path.is_empty() {
            return Err(QueueFileError::NoPath(text.to_owned()));
        }
        Ok(QueueFileRef {
            path: path.into(),
            name,
        })
    }
}

impl fmt::Display for QueueFileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)?;
        match &self.name {
            Some(name) => write!(f, ":{name}"),
            None => Ok(()),
        }
    }
}

/// Letters, digits and `-`, as App Engine demands.
fn is_queue_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Why a `queue.yaml` gives no queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum QueueFileError {
    /// No file is named.
    #[error("queue {0:?} names no file: write FILE or FILE:NAME")]
    NoPath(String),
    /// It is no `queue.yaml`.
    #[error("the file is not a queue.yaml: {0}")]
    Malformed(String),
    /// A queue has a rate that is none.
    #[error("queue {name}: {found:?} is not a rate such as 10/s")]
    BadRate {
        /// The queue.
        name: String,
        /// Its rate.
        found: String,
    },
    /// A queue has a time that is none.
    #[error("queue {name}: {found} is not a number of seconds")]
    BadSeconds {
        /// The queue.
        name: String,
        /// The number.
        found: String,
    },
    /// A queue is stopped by the rate 0.
    #[error("queue {0} is paused: its rate is 0")]
    Paused(String),
    /// There is no queue of that name.
    #[error("the file has no queue {name}; it has {}", .found.join(", "))]
    Missing {
        /// The name.
        name: String,
        /// The names that the file has.
        found: Vec<String>,
    },
    /// There are several queues, and none is named.
    #[error("the file has several queues: {}", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// There is no queue at all.
    #[error("the file has no queue")]
    Empty,
}

/// What a `queue.yaml` says of one queue. What it does not say is left to the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueSettings {
    rate: Option<Rate>,
    bucket_size: Option<NonZeroU32>,
    max_concurrent: Option<NonZeroU32>,
    max_attempts: Option<NonZeroU32>,
    min_backoff: Option<Duration>,
    max_backoff: Option<Duration>,
}

impl QueueSettings {
    /// Reads one queue of a `queue.yaml`; without a name, its only one.
    ///
    /// # Errors
    /// [`QueueFileError`].
    pub fn read(text: &str, name: Option<&str>) -> Result<Self, QueueFileError> {
        let file: QueueFile = serde_saphyr::from_str(text)
            .map_err(|error| QueueFileError::Malformed(first_line(&error.to_string())))?;
        let queues = file.queue.unwrap_or_default();
        let names = || queues.iter().map(|queue| queue.name.clone()).collect();
        let queue = match (name, queues.as_slice()) {
            (_, []) => return Err(QueueFileError::Empty),
            (None, [only]) => only,
            (None, _) => return Err(QueueFileError::Ambiguous(names())),
            (Some(name), queues) => {
                queues
                    .iter()
                    .find(|queue| queue.name == name)
                    .ok_or_else(|| QueueFileError::Missing {
                        name: name.to_owned(),
                        found: names(),
                    })?
            }
        };
        queue.settings()
    }

    /// Puts what the file says in the place of `options`.
    #[must_use]
    pub fn over(self, options: QueueOptions) -> QueueOptions {
        QueueOptions {
            rate: self.rate.unwrap_or(options.rate),
            bucket_size: self.bucket_size.unwrap_or(options.bucket_size),
            max_concurrent: self.max_concurrent.unwrap_or(options.max_concurrent),
            max_attempts: self.max_attempts.unwrap_or(options.max_attempts),
            min_backoff: self.min_backoff.unwrap_or(options.min_backoff),
            max_backoff: self.max_backoff.unwrap_or(options.max_backoff),
        }
    }
}

#[derive(Debug, Deserialize)]
struct QueueFile {
    queue: Option<Vec<QueueEntry>>,
}

#[derive(Debug, Deserialize)]
struct QueueEntry {
    name: String,
    rate: Option<String>,
    bucket_size: Option<NonZeroU32>,
    max_concurrent_requests: Option<NonZeroU32>,
    #[serde(default)]
    retry_parameters: RetryParameters,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RetryParameters {
    task_retry_limit: Option<u32>,
    min_backoff_seconds: Option<f64>,
    max_backoff_seconds: Option<f64>,
}

impl QueueEntry {
    fn settings(&self) -> Result<QueueSettings, QueueFileError> {
        let retry = &self.retry_parameters;
        // A task that is retried N times is tried once more than that.
        let attempts = |retries: u32| NonZeroU32::MIN.saturating_add(retries);
        Ok(QueueSettings {
            rate: self
                .rate
                .as_deref()
                .map(|text| self.rate_of(text))
                .transpose()?,
            bucket_size: self.bucket_size,
            max_concurrent: self.max_concurrent_requests,
            max_attempts: retry.task_retry_limit.map(attempts),
            min_backoff: self.seconds(retry.min_backoff_seconds)?,
            max_backoff: self.seconds(retry.max_backoff_seconds)?,
        })
    }

    fn rate_of(&self, text: &str) -> Result<Rate, QueueFileError> {
        let number = text.split('/').next().unwrap_or_default().trim();
        if number.parse() == Ok(0.0) {
            return Err(QueueFileError::Paused(self.name.clone()));
        }
        text.parse().map_err(|_| QueueFileError::BadRate {
            name: self.name.clone(),
            found: text.to_owned(),
        })
    }

    fn seconds(&self, seconds: Option<f64>) -> Result<Option<Duration>, QueueFileError> {
        let duration = |seconds: f64| {
            Duration::try_from_secs_f64(seconds).map_err(|_| QueueFileError::BadSeconds {
                name: self.name.clone(),
                found: seconds.to_string(),
            })
        };
        seconds.map(duration).transpose()
    }
}

/// What a parser says first: the rest draws the place in the file.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# The queues of the shop.
total_storage_limit: 120M
queue:
- name: default
  rate: 5/s
- name: backup
  rate: 10/s
  bucket_size: 1
  max_concurrent_requests: 1
  mode: push
  target: worker
  retry_parameters:
    task_retry_limit: 7
    task_age_limit: 2d
    min_backoff_seconds: 10
    max_backoff_seconds: 200.5
    max_doublings: 0
- name: held
  rate: 0
- name: odd
  rate: 1 a minute
";

    fn read(name: &str) -> Result<QueueSettings, QueueFileError> {
        QueueSettings::read(FILE, Some(name))
    }

    #[test]
    fn app_engine_queue_file_is_read() {
        let backup = QueueSettings {
            rate: Some("10/s".parse().unwrap()),
            bucket_size: NonZeroU32::new(1),
            max_concurrent: NonZeroU32::new(1),
            max_attempts: NonZeroU32::new(8),
            min_backoff: Some(Duration::from_secs(10)),
            max_backoff: Some(Duration::from_millis(200_500)),
        };
        assert_eq!(read("backup"), Ok(backup));
        let ours = QueueOptions::default();
        let theirs = read("default").unwrap().over(ours.clone());
        let rate = "5/s".parse().unwrap();
        assert_eq!(theirs, QueueOptions { rate, ..ours });
    }

    #[test]
    fn unusable_queue_is_refused_by_name() {
        assert_eq!(read("held"), Err(QueueFileError::Paused("held".to_owned())));
        for (name, words) in [
            ("odd", "queue odd: \"1 a minute\""),
            ("none", "default, backup"),
        ] {
            let error = read(name).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let unnamed = QueueSettings::read(FILE, None).unwrap_err();
        assert!(matches!(unnamed, QueueFileError::Ambiguous(_)), "{unnamed}");
    }

    #[test]
    fn what_is_no_queue_file_is_refused() {
        for text in [
            "queue: 7",
            "queue: [{rate: 1/s}]",
            "queue:\n- name: a\n  bucket_size: 0",
            "queue:\n- name: a\n  bucket_size: -1",
            "- name: a",
            "queue: [",
            "\u{0}",
        ] {
            let refused = QueueSettings::read(text, None);
            assert!(
                matches!(refused, Err(QueueFileError::Malformed(_))),
                "{text:?}: {refused:?}"
            );
        }
        for text in ["", "queue:", "queue: []", "total_storage_limit: 1M"] {
            assert_eq!(
                QueueSettings::read(text, None),
                Err(QueueFileError::Empty),
                "{text:?}"
            );
        }
        let negative = "queue: [{name: a, retry_parameters: {min_backoff_seconds: -1}}]";
        let refused = QueueSettings::read(negative, None).unwrap_err();
        assert!(refused.to_string().contains("-1"), "{refused}");
    }

    #[test]
    fn aliases_that_grow_without_end_are_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("a{level}: &a{level} [{before}]\n");
        }
        assert!(matches!(
            QueueSettings::read(&text, None),
            Err(QueueFileError::Malformed(_))
        ));
    }

    #[test]
    fn reference_names_file_and_optional_queue() {
        for (text, path, name) in [
            ("queue.yaml", "queue.yaml", None),
            ("queue.yaml:backup-1", "queue.yaml", Some("backup-1")),
            ("a:b/queue.yaml", "a:b/queue.yaml", None),
            ("queue.yaml:", "queue.yaml:", None),
        ] {
            let read: QueueFileRef = text.parse().unwrap();
            assert_eq!(
                (read.path.as_path(), read.name.as_deref()),
                (path.as_ref(), name)
            );
            assert_eq!(read.to_string(), text);
        }
        assert!("".parse::<QueueFileRef>().is_err() && ":a".parse::<QueueFileRef>().is_err());
    }
}
