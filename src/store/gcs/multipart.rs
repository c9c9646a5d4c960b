//! A large object in parts that go up several at a time and are joined under the final name at the
//! end.
//!
//! A part is named by the digest of its bytes, so that whoever makes the same archive again finds
//! what is there already. Parts lie in `kindpack-parts/NAME/` beside the archive.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::json;
use sha2::Digest as _;
use tokio::task::{JoinError, JoinSet};

use super::client::json_header;
use super::upload::{taken, write_single};
use super::{GcsStore, ObjectResource, SentBytes, UploadKind};
use crate::model::Sha256;
use crate::progress::Event;
use crate::store::{ObjectMetadata, ObjectWriter, Store as _, StoreError, WriteOptions};

/// Where parts lie, beside their archive.
const FOLDER: &str = "kindpack-parts/";

/// How the name of parts that are joined begins.
const JOINED: &str = "joined-";

/// What the service joins in one call.
const JOINED_AT_ONCE: usize = 32;

/// Parts and joins that are under way at once. Parts are in memory while they are.
const AT_ONCE: usize = 4;

/// Parts of an archive of which no new one came for so long were left behind: whoever packs makes
/// new ones all the time, and no wait between two of them is allowed to last so long.
const ABANDONED_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// A piece of the object as it lies in the bucket.
#[derive(Debug, Clone)]
struct UploadedPart {
    name: String,
    generation: Option<u64>,
    len: u64,
    crc32c: u32,
}

impl UploadedPart {
    /// A part that is there.
    fn of(store: &GcsStore, resource: ObjectResource) -> Option<UploadedPart> {
        let name = resource.name.strip_prefix(&store.prefix)?.to_owned();
        Some(UploadedPart {
            name,
            generation: Some(resource.generation()?),
            len: resource.len()?,
            crc32c: resource.crc32c()?,
        })
    }

    fn sent(&self) -> SentBytes {
        SentBytes {
            len: self.len,
            crc32c: self.crc32c,
            sha256: None,
        }
    }
}

/// What joining came to.
enum ComposeOutcome {
    /// This call made the object.
    Created(ObjectResource),
    /// The name holds the same bytes already.
    AlreadyThere(ObjectResource),
}

/// An object that is being written in parts.
#[derive(Debug)]
pub(super) struct MultipartWriter {
    store: GcsStore,
    name: String,
    making: WriteOptions,
    /// Parts that were there before us, by name.
    known: HashMap<String, UploadedPart>,
    /// The next part, as far as it is filled.
    filling: BytesMut,
    begun: usize,
    done: BTreeMap<usize, UploadedPart>,
    uploading: JoinSet<Result<(usize, UploadedPart), StoreError>>,
}

impl MultipartWriter {
    pub(super) async fn begin(
        store: GcsStore,
        name: String,
        making: WriteOptions,
    ) -> Result<Self, StoreError> {
        // Whoever may not list uploads everything.
        let listed = match store.resources(&format!("{FOLDER}{name}/")).await {
            Err(StoreError::Denied { .. }) => Vec::new(),
            listed => listed?,
        };
        let known = listed
            .into_iter()
            .filter_map(|resource| UploadedPart::of(&store, resource));
        let known = known.map(|part| (part.name.clone(), part)).collect();
        Ok(MultipartWriter {
            store,
            name,
            making,
            known,
            filling: BytesMut::new(),
            begun: 0,
            done: BTreeMap::new(),
            uploading: JoinSet::new(),
        })
    }

    /// Sends what is filled as the next part, once there is room.
    async fn send_part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        while self.uploading.len() >= AT_ONCE {
            self.join_next().await?;
        }
        let number = self.begun;
        self.begun += 1;
        let part = self.describe_part(&bytes).await?;
        if let Some(known) = self.same_part(&part) {
            self.done.insert(number, known);
            return Ok(());
        }
        let store = self.store.clone();
        self.uploading
            .spawn(async move { Ok((number, upload_part(&store, part, bytes).await?)) });
        Ok(())
    }

    /// The part that holds these bytes, named by their digest.
    async fn describe_part(&self, bytes: &Bytes) -> Result<UploadedPart, StoreError> {
        let hashed = bytes.clone();
        let digests = tokio::task::spawn_blocking(move || {
            let sha256 = Sha256(sha2::Sha256::digest(&hashed).into());
            (sha256, crc32c::crc32c(&hashed))
        });
        let digests = digests.await;
        let (sha256, crc32c) =
            digests.map_err(|error| self.lost_task("hashing a part of", error))?;
        Ok(UploadedPart {
            name: format!("{FOLDER}{}/{sha256}", self.name),
            generation: None,
            len: bytes.len() as u64,
            crc32c,
        })
    }

    /// A part of the same name and bytes that was there before us.
    fn same_part(&self, part: &UploadedPart) -> Option<UploadedPart> {
        let known = self.known.get(&part.name)?;
        ((known.len, known.crc32c) == (part.len, part.crc32c)).then(|| known.clone())
    }

    fn lost_task(&self, deed: &'static str, error: JoinError) -> StoreError {
        StoreError::Io {
            name: self.name.clone(),
            deed,
            source: std::io::Error::other(error),
        }
    }

    async fn join_next(&mut self) -> Result<(), StoreError> {
        if let Some(joined) = self.uploading.join_next().await {
            let (number, part) =
                joined.map_err(|error| self.lost_task("sending a part of", error))??;
            self.done.insert(number, part);
        }
        Ok(())
    }

    async fn finish(mut self, about: ObjectMetadata) -> Result<(), StoreError> {
        let parts = self.finish_parts().await?;
        let whole = joined(self.name.clone(), &parts);
        let sent = SentBytes {
            sha256: about.sha256,
            ..whole.sent()
        };
        let mut made = parts
            .iter()
            .map(|part| (part.name.clone(), part.clone()))
            .collect();
        let stored = match self.join_all(&whole, parts, &mut made, sent, &about).await {
            Err(lost @ StoreError::UploadLost { .. }) if !self.making.overwrite => {
                self.find_other_pack(sent, lost).await
            }
            stored => stored,
        };
        if let Err(StoreError::AlreadyExists { .. }) = &stored {
            // Whoever came first is done with its parts, and nobody will ever need these.
            self.delete_made(std::mem::take(&mut made)).await;
        }
        let resource = self.prove(stored?, sent).await?;
        if self.delete_made(made).await {
            delete_abandoned(&self.store, &self.name, &resource).await;
        }
        Ok(())
    }

    /// Sends the rest, and waits for all parts.
    async fn finish_parts(&mut self) -> Result<Vec<UploadedPart>, StoreError> {
        let rest = std::mem::take(&mut self.filling).freeze();
        if !rest.is_empty() || self.begun == 0 {
            self.send_part(rest).await?;
        }
        while !self.uploading.is_empty() {
            self.join_next().await?;
        }
        Ok(std::mem::take(&mut self.done).into_values().collect())
    }

    /// Another pack of the same set may be done by now, and has deleted the parts.
    async fn find_other_pack(
        &self,
        sent: SentBytes,
        lost: StoreError,
    ) -> Result<ComposeOutcome, StoreError> {
        match self.store.resource(&self.name).await {
            Ok(there) if self.store.holds(&there, sent).await? => {
                Ok(ComposeOutcome::AlreadyThere(there))
            }
            Ok(_) => Err(taken(self.store.display_name(&self.name))),
            Err(_) => Err(lost),
        }
    }

    /// Holds what this call made against what was sent.
    async fn prove(
        &self,
        stored: ComposeOutcome,
        sent: SentBytes,
    ) -> Result<ObjectResource, StoreError> {
        match stored {
            ComposeOutcome::AlreadyThere(resource) => Ok(resource),
            ComposeOutcome::Created(resource) => {
                self.store.confirm(&self.name, &resource, sent).await?;
                self.read_back(&resource, sent).await?;
                Ok(resource)
            }
        }
    }

    /// Joins parts to larger ones until one call makes the whole. What may be there of them,
    /// whether it succeeds or not, is added to `made`.
    async fn join_all(
        &self,
        whole: &UploadedPart,
        mut level: Vec<UploadedPart>,
        made: &mut BTreeMap<String, UploadedPart>,
        sent: SentBytes,
        about: &ObjectMetadata,
    ) -> Result<ComposeOutcome, StoreError> {
        while level.len() > JOINED_AT_ONCE {
            let groups: Vec<(UploadedPart, Vec<UploadedPart>)> = level
                .chunks(JOINED_AT_ONCE)
                .map(|group| (self.part_of_group(group), group.to_vec()))
                .collect();
            made.extend(
                groups
                    .iter()
                    .map(|(part, _)| (part.name.clone(), part.clone())),
            );
            let mut joins = stream::iter(
                groups
                    .into_iter()
                    .map(|(part, group)| self.join_group(part, group)),
            )
            .buffered(AT_ONCE);
            level = Vec::new();
            while let Some(part) = joins.try_next().await? {
                made.insert(part.name.clone(), part.clone());
                level.push(part);
            }
        }
        self.compose(whole, &level, sent, UploadKind::Final(&self.making), about)
            .await
    }

    /// The part that up to 32 parts are joined to, named by what it holds.
    fn part_of_group(&self, group: &[UploadedPart]) -> UploadedPart {
        let names: String = group
            .iter()
            .map(|part| format!("{}\n", part.name))
            .collect();
        joined(
            format!(
                "{FOLDER}{}/{JOINED}{}",
                self.name,
                Sha256(sha2::Sha256::digest(names).into())
            ),
            group,
        )
    }

    async fn join_group(
        &self,
        part: UploadedPart,
        group: Vec<UploadedPart>,
    ) -> Result<UploadedPart, StoreError> {
        if let Some(known) = self.same_part(&part) {
            return Ok(known);
        }
        let (ComposeOutcome::Created(resource) | ComposeOutcome::AlreadyThere(resource)) = self
            .compose(
                &part,
                &group,
                part.sent(),
                UploadKind::Part,
                &ObjectMetadata::default(),
            )
            .await?;
        self.store
            .confirm(&part.name, &resource, part.sent())
            .await?;
        Ok(UploadedPart {
            generation: resource.generation(),
            ..part
        })
    }

    async fn compose(
        &self,
        whole: &UploadedPart,
        sources: &[UploadedPart],
        sent: SentBytes,
        purpose: UploadKind<'_>,
        about: &ObjectMetadata,
    ) -> Result<ComposeOutcome, StoreError> {
        let shown = self.store.display_name(&whole.name);
        let cloud = &self.store.cloud;
        let query = purpose.query(&self.store.upload);
        let address = self.store.compose_address(&whole.name, &query);
        let body = self.compose_body(whole, sources, purpose, about);
        let count = sources.len();
        let mut retry = cloud.retry_loop(format!("joining of {count} objects to {shown}"));
        loop {
            let answer = cloud.call(Method::POST, &address, body.clone(), json_header());
            let failed = match answer.await {
                Ok(answer) if answer.status == 200 => match answer.json() {
                    Ok(resource) => return Ok(ComposeOutcome::Created(resource)),
                    Err(failed) => failed,
                },
                Ok(answer) if matches!(answer.status, 404 | 412) => {
                    return self.resolve_taken(whole, sent, purpose).await;
                }
                Ok(answer) => answer.failed(
                    &shown,
                    "storage.objects.create, or storage.objects.get on its parts,",
                ),
                Err(failed) => failed,
            };
            retry.failed(failed).await?;
        }
    }

    fn compose_body(
        &self,
        whole: &UploadedPart,
        sources: &[UploadedPart],
        purpose: UploadKind<'_>,
        about: &ObjectMetadata,
    ) -> Bytes {
        let sources: Vec<_> = sources
            .iter()
            .map(|part| match part.generation {
                Some(generation) => json!({"name": self.store.full(&part.name), "generation": generation.to_string()}),
                None => json!({"name": self.store.full(&part.name)}),
            })
            .collect();
        let options = &self.store.upload;
        let destination = purpose.described(&whole.name, options, &about.attributes);
        Bytes::from(json!({"sourceObjects": sources, "destination": destination}).to_string())
    }

    /// Finds out what it means that the name is taken, or that a part is gone, which another pack
    /// of the same set deleted when it was done. What is there may be the same: by an earlier
    /// request whose answer was lost, by an earlier run that was killed, or by the other pack.
    async fn resolve_taken(
        &self,
        whole: &UploadedPart,
        sent: SentBytes,
        purpose: UploadKind<'_>,
    ) -> Result<ComposeOutcome, StoreError> {
        let name = self.store.display_name(&whole.name);
        match self.store.resource(&whole.name).await {
            Ok(there) if self.store.holds(&there, sent).await? => {
                Ok(ComposeOutcome::AlreadyThere(there))
            }
            Ok(_) | Err(StoreError::Denied { .. }) if !purpose.overwrites() => Err(taken(name)),
            Ok(_) | Err(StoreError::Denied { .. } | StoreError::NotFound { .. }) => {
                Err(StoreError::UploadLost {
                    name,
                    reason: "parts of it are gone".to_owned(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Holds what is stored against the digest that is published.
    async fn read_back(
        &self,
        resource: &ObjectResource,
        sent: SentBytes,
    ) -> Result<(), StoreError> {
        let Some(expected) = sent.sha256 else {
            return Ok(());
        };
        let Some(found) = self.store.wrong_digest(resource, expected).await? else {
            return Ok(());
        };
        self.store.delete(&self.name, resource.generation()).await?;
        Err(StoreError::WrongDigest {
            name: self.store.display_name(&self.name),
            expected,
            found,
        })
    }

    /// Deletes the parts of an object that is done with, unless they are to stay; says whether all
    /// are gone.
    async fn delete_made(&self, made: BTreeMap<String, UploadedPart>) -> bool {
        !self.store.upload.keep_parts && delete_all(&self.store, made.into_values().collect()).await
    }
}

/// Sends a part, which whoever made the same archive may have sent before.
async fn upload_part(
    store: &GcsStore,
    part: UploadedPart,
    bytes: Bytes,
) -> Result<UploadedPart, StoreError> {
    let (sent, about) = (part.sent(), ObjectMetadata::default());
    let generation = write_single(store, &part.name, bytes, sent, UploadKind::Part, &about).await?;
    Ok(UploadedPart { generation, ..part })
}

/// Deletes parts, and reports those that stay; says whether all are gone.
async fn delete_all(store: &GcsStore, parts: Vec<UploadedPart>) -> bool {
    let (count, len) = (
        parts.len() as u64,
        parts.iter().map(|part| part.len).sum::<u64>(),
    );
    let has_failed = AtomicBool::new(false);
    let delete = |part: UploadedPart| {
        let has_failed = &has_failed;
        async move {
            // For each of them a service that deletes nothing would be tried for long.
            if has_failed.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let deleted = store.delete(&part.name, part.generation).await;
            has_failed.fetch_or(deleted.is_err(), Ordering::Relaxed);
            deleted.map(|()| Some(part.len))
        }
    };
    let (mut gone, mut gone_bytes, mut reason) = (0, 0, None);
    let mut deletions = stream::iter(parts)
        .map(delete)
        .buffer_unordered(2 * AT_ONCE);
    while let Some(deleted) = deletions.next().await {
        match deleted {
            Ok(Some(len)) => (gone, gone_bytes) = (gone + 1, gone_bytes + len),
            Ok(None) => {}
            Err(error) => reason = reason.or(Some(error.to_string())),
        }
    }
    let Some(reason) = reason else { return true };
    store.cloud.observer().event(Event::PartsLeft {
        folder: store.display_name(FOLDER),
        objects: count - gone,
        bytes: len - gone_bytes,
        reason,
    });
    false
}

/// Deletes what an earlier pack has left of `name`, which stands by now as `whole`, and what others
/// left behind long ago.
pub(super) async fn delete_abandoned(store: &GcsStore, name: &str, whole: &ObjectResource) {
    let mut folders: BTreeMap<String, Vec<ObjectResource>> = BTreeMap::new();
    // Whoever may not list leaves them.
    for part in store.resources(FOLDER).await.unwrap_or_default() {
        // The name of an archive may hold slashes, that of a part does not.
        if let Some((folder, _)) = part.name.rsplit_once('/') {
            folders.entry(folder.to_owned()).or_default().push(part);
        }
    }
    let own = store.full(&format!("{FOLDER}{name}"));
    let Some(now) = time_of(whole) else { return };
    let is_left = |folder: &String, parts: &[ObjectResource]| {
        // Under a name that stands nobody but an overwriting pack goes on, and that one has made
        // newer parts.
        let age = if *folder == own {
            jiff::SignedDuration::ZERO
        } else {
            ABANDONED_AFTER
        };
        let newest = parts.iter().map(time_of).max().flatten();
        newest.is_some_and(|newest| now.duration_since(newest) >= age)
    };
    let left = folders
        .into_iter()
        .filter(|(folder, parts)| is_left(folder, parts))
        .flat_map(|(_, parts)| parts)
        .filter_map(|part| UploadedPart::of(store, part));
    delete_all(store, left.collect()).await;
}

/// When an object was changed last.
fn time_of(resource: &ObjectResource) -> Option<jiff::Timestamp> {
    resource.updated.parse().ok()
}

/// The longest name that a part of an object can get.
pub(super) fn longest_name(name: &str) -> String {
    format!("{FOLDER}{name}/{JOINED}{}", Sha256([0; 32]))
}

/// What parts make together.
fn joined(name: String, parts: &[UploadedPart]) -> UploadedPart {
    let crc32c = parts.iter().fold(0, |crc32c, part| {
        crc32c::crc32c_combine(
            crc32c,
            part.crc32c,
            usize::try_from(part.len).expect("a part was in memory"),
        )
    });
    UploadedPart {
        name,
        generation: None,
        len: parts.iter().map(|part| part.len).sum(),
        crc32c,
    }
}

#[async_trait]
impl ObjectWriter for MultipartWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let chunk_bytes = self.store.upload.chunk_bytes;
        let mut rest = bytes;
        while !rest.is_empty() {
            // All of its room at once: a buffer that grows is copied, and twice as large at the
            // end.
            self.filling
                .reserve(chunk_bytes.saturating_sub(self.filling.len()));
            let room = chunk_bytes
                .saturating_sub(self.filling.len())
                .min(rest.len());
            self.filling.extend_from_slice(&rest.split_to(room));
            if self.filling.len() >= chunk_bytes {
                let part = std::mem::take(&mut self.filling).freeze();
                self.send_part(part).await?;
            }
        }
        Ok(())
    }

    async fn publish(self: Box<Self>, about: ObjectMetadata) -> Result<(), StoreError> {
        self.finish(about).await
    }
}
