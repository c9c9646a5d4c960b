//! `[app.NAME]`: the backup of one application, with what follows it.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::Error as _;
use toml::Spanned;

use super::notify::WrittenNotify;
use crate::backup::{
    BackupRequest, BackupSource, KindSelection, OPERATION_TIMEOUT, QueueFileRef, QueueOptions,
    Rate, SnapshotTime,
};
use crate::model::{Method, Namespace, Selector, read_duration, read_size};
use crate::notify::NotifyOptions;
use crate::pack::{PackRequest, SelectionOptions};
use crate::plan::profile::{ConfigFault, Parsed, values};
use crate::prune::KeepPolicy;
use crate::store::{Location, UploadOptions};

/// The backup of an application.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// Its name; empty for a backup that no configuration names.
    pub name: String,
    /// What is backed up, and how.
    pub backup: BackupRequest,
    /// A `queue.yaml` that paces the exports instead of [`BackupRequest::queue`].
    pub queue_file: Option<QueueFileRef>,
    /// Where the archive's companions are.
    pub companions: Vec<Location>,
    /// Recipients of the archive, and files of recipients; without any it is not encrypted.
    pub encrypt_to: Vec<String>,
    /// The file of the key that signs the archive.
    pub signing_key_file: Option<PathBuf>,
    /// How an archive in a bucket is written.
    pub upload: UploadOptions,
    /// Which archives are kept after a good backup; all of them without a policy.
    pub keep: Option<KeepPolicy>,
    /// Who is notified.
    pub notify: Option<NotifyOptions>,
}

impl AppConfig {
    /// The folder of the archive, in which older ones are pruned.
    pub fn archive_folder(&self) -> Location {
        let archive = &self.backup.archive;
        if archive.is_folder_name() {
            archive.clone()
        } else {
            archive.folder()
        }
    }
}

/// A table as it is written. What is left out is taken from `[defaults]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenApp {
    from: Option<Parsed<BackupSource>>,
    exports: Option<Parsed<Location>>,
    archive: Option<Parsed<Location>>,
    namespaces: Option<Vec<String>>,
    only: Option<Vec<Parsed<Selector>>>,
    exclude: Option<Vec<Parsed<Selector>>>,
    queue: Option<WrittenQueue>,
    operation_timeout: Option<Parsed<WrittenDuration>>,
    snapshot: Option<Parsed<SnapshotTime>>,
    allow_missing: Option<Vec<Parsed<Selector>>>,
    delete_exports: Option<bool>,
    pack: Option<WrittenPack>,
    keep: Option<Spanned<WrittenKeep>>,
    notify: Option<Spanned<WrittenNotify>>,
}

/// The numbers of a queue, or a `queue.yaml`.
#[derive(Debug, Clone)]
enum WrittenQueue {
    File(QueueFileRef),
    Numbers(QueueNumbers),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueNumbers {
    rate: Option<Parsed<Rate>>,
    bucket_size: Option<NonZeroU32>,
    max_concurrent: Option<NonZeroU32>,
    max_attempts: Option<NonZeroU32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { level = 6 }")]
struct WrittenPack {
    method: Option<Method>,
    level: Option<Spanned<u32>>,
    #[serde(default)]
    accept_count: Vec<Parsed<Selector>>,
    #[serde(default)]
    with: Vec<Parsed<Location>>,
    #[serde(default)]
    overwrite: bool,
    sign: Option<PathBuf>,
    #[serde(default)]
    encrypt_to: Vec<String>,
    max_spread: Option<Parsed<WrittenDuration>>,
    storage_class: Option<String>,
    kms_key: Option<String>,
    upload_cutoff: Option<Parsed<WrittenSize>>,
    upload_chunk_size: Option<Parsed<WrittenSize>>,
    #[serde(default)]
    keep_parts: bool,
}

#[derive(Debug, Clone, Copy)]
struct WrittenDuration(Duration);

impl FromStr for WrittenDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read_duration(text).map(WrittenDuration)
    }
}

#[derive(Debug, Clone, Copy)]
struct WrittenSize(u64);

impl FromStr for WrittenSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read_size(text).map(WrittenSize)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { daily = 7 }")]
struct WrittenKeep {
    last: Option<NonZeroU32>,
    daily: Option<NonZeroU32>,
    weekly: Option<NonZeroU32>,
    monthly: Option<NonZeroU32>,
    yearly: Option<NonZeroU32>,
}

impl<'de> Deserialize<'de> for WrittenQueue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QueueVisitor)
    }
}

struct QueueVisitor;

impl<'de> serde::de::Visitor<'de> for QueueVisitor {
    type Value = WrittenQueue;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FILE[:NAME] of a queue.yaml, or a table")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WrittenQueue, E> {
        text.parse().map(WrittenQueue::File).map_err(E::custom)
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<WrittenQueue, A::Error> {
        let table = serde::de::value::MapAccessDeserializer::new(map);
        QueueNumbers::deserialize(table)
            .map(WrittenQueue::Numbers)
            .map_err(A::Error::custom)
    }
}

impl WrittenApp {
    /// The table with what it leaves out taken from the defaults.
    pub(super) fn or(self, defaults: &WrittenApp) -> Self {
        let defaults = defaults.clone();
        WrittenApp {
            from: self.from.or(defaults.from),
            exports: self.exports.or(defaults.exports),
            archive: self.archive.or(defaults.archive),
            namespaces: self.namespaces.or(defaults.namespaces),
            only: self.only.or(defaults.only),
            exclude: self.exclude.or(defaults.exclude),
            queue: self.queue.or(defaults.queue),
            operation_timeout: self.operation_timeout.or(defaults.operation_timeout),
            snapshot: self.snapshot.or(defaults.snapshot),
            allow_missing: self.allow_missing.or(defaults.allow_missing),
            delete_exports: self.delete_exports.or(defaults.delete_exports),
            pack: self.pack.or(defaults.pack),
            keep: self.keep.or(defaults.keep),
            notify: self.notify.or(defaults.notify),
        }
    }

    /// The backup. `place` is where the table begins.
    pub(super) fn finish(
        self,
        name: &str,
        place: usize,
        folder: &Path,
    ) -> Result<AppConfig, ConfigFault> {
        let needed = |key: &str| (place, format!("[app.{name}]: the key `{key}` is missing"));
        let Parsed(source) = self.from.ok_or_else(|| needed("from"))?;
        let Parsed(exports) = self.exports.ok_or_else(|| needed("exports"))?;
        let Parsed(archive) = self.archive.ok_or_else(|| needed("archive"))?;
        let (queue, queue_file) = self.queue.unwrap_or_default().finish(folder);
        let pack = self.pack.unwrap_or_default();
        let (upload, companions) = (pack.upload(), pack.companions(folder));
        let encrypt_to = pack.encrypt_to(folder);
        let signing_key_file = pack.sign.as_ref().map(|path| folder.join(path));
        let namespaces = self.namespaces.unwrap_or_default();
        let kinds = KindSelection {
            namespaces: namespaces
                .iter()
                .map(|name| Namespace::parse_display(name))
                .collect(),
            only: values(self.only.unwrap_or_default()),
            exclude: values(self.exclude.unwrap_or_default()),
        };
        let keep = self.keep.map(|keep| policy(keep, &archive)).transpose()?;
        let backup = BackupRequest {
            source,
            exports: in_folder(exports, folder),
            archive: in_folder(archive, folder),
            kinds,
            queue,
            operation_timeout: self
                .operation_timeout
                .map_or(OPERATION_TIMEOUT, |Parsed(timeout)| timeout.0),
            snapshot_time: self.snapshot.map(|Parsed(time)| time),
            allow_missing: values(self.allow_missing.unwrap_or_default()),
            delete_exports: self.delete_exports.unwrap_or_default(),
            starts_anew: false,
            pack: pack.finish()?,
        };
        Ok(AppConfig {
            name: name.to_owned(),
            backup,
            queue_file,
            companions,
            encrypt_to,
            signing_key_file,
            upload,
            keep,
            notify: self
                .notify
                .map(|notify| notify_options(notify, folder))
                .transpose()?,
        })
    }
}

impl Default for WrittenQueue {
    fn default() -> Self {
        WrittenQueue::Numbers(QueueNumbers::default())
    }
}

impl WrittenQueue {
    fn finish(self, folder: &Path) -> (QueueOptions, Option<QueueFileRef>) {
        let usual = QueueOptions::default();
        match self {
            WrittenQueue::File(file) => {
                let path = folder.join(file.path);
                (usual, Some(QueueFileRef { path, ..file }))
            }
            WrittenQueue::Numbers(numbers) => {
                let options = QueueOptions {
                    rate: numbers.rate.map_or(usual.rate, |Parsed(rate)| rate),
                    bucket_size: numbers.bucket_size.unwrap_or(usual.bucket_size),
                    max_concurrent: numbers.max_concurrent.unwrap_or(usual.max_concurrent),
                    max_attempts: numbers.max_attempts.unwrap_or(usual.max_attempts),
                    ..usual
                };
                (options, None)
            }
        }
    }
}

impl WrittenPack {
    /// Where the companions are.
    fn companions(&self, folder: &Path) -> Vec<Location> {
        let companions = values(self.with.clone()).into_iter();
        companions.map(|with| in_folder(with, folder)).collect()
    }

    /// The recipients, and the paths of files of recipients.
    fn encrypt_to(&self, folder: &Path) -> Vec<String> {
        let recipients = self.encrypt_to.iter();
        let place = |text: &String| match text.starts_with("age1") {
            true => text.clone(),
            false => folder.join(text).display().to_string(),
        };
        recipients.map(place).collect()
    }

    /// How an archive in a bucket is written.
    fn upload(&self) -> UploadOptions {
        let usual = UploadOptions::default();
        let bytes = |size: Parsed<WrittenSize>| size.0.0;
        let chunk_bytes = self.upload_chunk_size.map(bytes);
        UploadOptions {
            storage_class: self.storage_class.clone(),
            kms_key: self.kms_key.clone(),
            cutoff_bytes: self.upload_cutoff.map_or(usual.cutoff_bytes, bytes),
            chunk_bytes: chunk_bytes.map_or(usual.chunk_bytes, |bytes| {
                usize::try_from(bytes).unwrap_or(usize::MAX)
            }),
            keep_parts: self.keep_parts,
        }
    }

    fn finish(self) -> Result<PackRequest, ConfigFault> {
        let usual = PackRequest::default();
        let level = match self.level {
            Some(level) if !(1..=9).contains(level.get_ref()) => {
                let fault = format!("level: {} is not a number from 1 to 9", level.get_ref());
                return Err((level.span().start, fault));
            }
            level => level.map_or(usual.level, Spanned::into_inner),
        };
        let max_spread = self.max_spread.map(|Parsed(spread)| spread.0);
        Ok(PackRequest {
            wanted: SelectionOptions {
                max_spread: max_spread.unwrap_or(usual.wanted.max_spread),
                ..SelectionOptions::default()
            },
            method: self.method.unwrap_or(usual.method),
            level,
            accept_count: values(self.accept_count),
            overwrite: self.overwrite,
            ..usual
        })
    }
}

fn policy(keep: Spanned<WrittenKeep>, archive: &Location) -> Result<KeepPolicy, ConfigFault> {
    let place = keep.span().start;
    let keep = keep.into_inner();
    let policy = KeepPolicy {
        last: keep.last,
        daily: keep.daily,
        weekly: keep.weekly,
        monthly: keep.monthly,
        yearly: keep.yearly,
    };
    if policy.is_empty() {
        return Err((place, "keep: at least one number is needed".to_owned()));
    }
    if !archive.is_folder_name() {
        let fault = "keep: needs a folder of archives: write `archive` as a folder that ends in /";
        return Err((place, fault.to_owned()));
    }
    Ok(policy)
}

fn notify_options(
    notify: Spanned<WrittenNotify>,
    folder: &Path,
) -> Result<NotifyOptions, ConfigFault> {
    let place = notify.span().start;
    notify.into_inner().finish(place, folder)
}

/// A location that leads on from a folder where it is a relative path.
fn in_folder(location: Location, folder: &Path) -> Location {
    match location {
        Location::Local(path) => Location::Local(folder.join(path)),
        location => location,
    }
}
