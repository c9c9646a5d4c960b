//! A large object in parts that go up several at a time and are joined under the final name at the end.
//!
//! A part is named by the digest of its bytes, so that whoever makes the same archive again finds what is there already. Parts lie in
//! `kindpack-parts/NAME/` beside the archive.

use std::collections::{BTreeMap, HashMap};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use sha2::Digest as _;
use tokio::task::JoinSet;

use super::upload::{JSON, confirm, write_single};
use super::{Failed, GcsStore, Patience, Purpose, Resource};
use crate::model::Sha256;
use crate::store::{About, Making, ObjectInfo, ObjectWriter, Store as _, StoreError};

/// Where parts lie, beside their archive.
const FOLDER: &str = "kindpack-parts/";

/// What the service joins in one call.
const JOINED_AT_ONCE: usize = 32;

/// Parts and joins that are under way at once. Parts are in memory while they are.
const AT_ONCE: usize = 4;

/// Reads that are under way at once while the joined object is read back, and how long each is.
const READ_BACK: (usize, u64) = (4, 4 << 20);

/// Parts of an archive of which no new one came for so long were left behind: whoever packs makes new ones all the time, and no wait between two
/// of them is allowed to last so long.
const ABANDONED_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// A piece of the object as it lies in the bucket.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    generation: Option<u64>,
    len: u64,
    crc32c: u32,
}

/// An object that is being written in parts.
#[derive(Debug)]
pub(super) struct PartsWriter {
    store: GcsStore,
    name: String,
    making: Making,
    /// Parts that were there before us, by name.
    known: HashMap<String, Part>,
    /// The next part, as far as it is filled.
    filling: BytesMut,
    begun: usize,
    done: BTreeMap<usize, Part>,
    uploading: JoinSet<Result<(usize, Part), StoreError>>,
}

impl PartsWriter {
    pub(super) async fn begin(store: GcsStore, name: String, making: Making) -> Result<Self, StoreError> {
        // Whoever may not list uploads everything.
        let listed = match store.resources(&format!("{FOLDER}{name}/")).await {
            Err(StoreError::Denied { .. }) => Vec::new(),
            listed => listed?,
        };
        let known = listed.into_iter().filter_map(|resource| {
            let part = Part {
                name: resource.name.strip_prefix(&store.prefix)?.to_owned(),
                generation: Some(resource.generation()?),
                len: resource.len()?,
                crc32c: resource.crc32c()?,
            };
            Some((part.name.clone(), part))
        });
        let known = known.collect();
        Ok(PartsWriter { store, name, making, known, filling: BytesMut::new(), begun: 0, done: BTreeMap::new(), uploading: JoinSet::new() })
    }

    /// Sends what is filled as the next part, once there is room.
    async fn send_part(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        while self.uploading.len() >= AT_ONCE {
            self.join_next().await?;
        }
        let (number, store, folder) = (self.begun, self.store.clone(), format!("{FOLDER}{}/", self.name));
        self.begun += 1;
        let hashed = bytes.clone();
        let digest = tokio::task::spawn_blocking(move || (Sha256(sha2::Sha256::digest(&hashed).into()), crc32c::crc32c(&hashed))).await;
        let (sha256, crc32c) = digest.map_err(|error| StoreError::Io {
            name: self.name.clone(),
            deed: "cannot hash a part",
            source: std::io::Error::other(error),
        })?;
        let name = format!("{folder}{sha256}");
        let len = bytes.len() as u64;
        if let Some(known) = self.known.get(&name).filter(|known| (known.len, known.crc32c) == (len, crc32c)) {
            self.done.insert(number, known.clone());
            return Ok(());
        }
        self.uploading.spawn(async move {
            let generation = write_single(&store, &name, bytes, crc32c, Purpose::Part, &About::default()).await?;
            Ok((number, Part { name, generation, len, crc32c }))
        });
        Ok(())
    }

    async fn join_next(&mut self) -> Result<(), StoreError> {
        if let Some(joined) = self.uploading.join_next().await {
            let joined = joined.map_err(|error| StoreError::Io {
                name: self.name.clone(),
                deed: "cannot send a part",
                source: std::io::Error::other(error),
            })?;
            let (number, part) = joined?;
            self.done.insert(number, part);
        }
        Ok(())
    }

    async fn finish(mut self, about: About) -> Result<(), StoreError> {
        let rest = std::mem::take(&mut self.filling).freeze();
        if !rest.is_empty() || self.begun == 0 {
            self.send_part(rest).await?;
        }
        while !self.uploading.is_empty() {
            self.join_next().await?;
        }
        let mut made: Vec<Part> = self.done.values().cloned().collect();
        let mut level = made.clone();
        while level.len() > JOINED_AT_ONCE {
            let groups: Vec<Vec<Part>> = level.chunks(JOINED_AT_ONCE).map(<[Part]>::to_vec).collect();
            level = stream::iter(groups.into_iter().map(|group| self.join_group(group))).buffered(AT_ONCE).try_collect().await?;
            made.extend(level.iter().cloned());
        }
        let whole = joined(self.name.clone(), &level);
        let resource = self.compose(&whole, &level, Purpose::Final(&self.making), &about).await?;
        confirm(&self.store, &self.name, &resource, whole.len, whole.crc32c).await?;
        if let Some(sha256) = about.sha256 {
            self.read_back(&resource, sha256).await?;
        }
        if !self.store.cloud.options().keep_parts {
            remove_all(&self.store, made.into_iter().map(|part| (part.name, part.generation)).collect()).await;
            remove_abandoned(&self.store, &self.name, &resource).await;
        }
        Ok(())
    }

    /// Joins up to 32 parts to a larger one, named by what it holds.
    async fn join_group(&self, group: Vec<Part>) -> Result<Part, StoreError> {
        let names: String = group.iter().map(|part| format!("{}\n", part.name)).collect();
        let name = format!("{FOLDER}{}/joined-{}", self.name, Sha256(sha2::Sha256::digest(names).into()));
        let part = joined(name, &group);
        if let Some(known) = self.known.get(&part.name).filter(|known| (known.len, known.crc32c) == (part.len, part.crc32c)) {
            return Ok(known.clone());
        }
        let resource = self.compose(&part, &group, Purpose::Part, &About::default()).await?;
        confirm(&self.store, &part.name, &resource, part.len, part.crc32c).await?;
        Ok(Part { generation: resource.generation(), ..part })
    }

    async fn compose(&self, whole: &Part, sources: &[Part], purpose: Purpose<'_>, about: &About) -> Result<Resource, StoreError> {
        let shown = self.store.shown(&whole.name);
        let options = self.store.cloud.options();
        let address = self.store.object_address(&whole.name, "/compose", &purpose.query(options));
        let sources: Vec<_> = sources
            .iter()
            .map(|part| match part.generation {
                Some(generation) => json!({"name": self.store.full(&part.name), "generation": generation.to_string()}),
                None => json!({"name": self.store.full(&part.name)}),
            })
            .collect();
        let destination = purpose.described(&whole.name, options, &about.attributes);
        let body = Bytes::from(json!({"sourceObjects": sources, "destination": destination}).to_string());
        let mut patience = Patience::new(&self.store.cloud, format!("joining of {} objects to {shown}", sources.len()));
        loop {
            let shape = |request: RequestBuilder| request.header(http::header::CONTENT_TYPE, JSON);
            let failed = match self.store.cloud.call(Method::POST, &address, body.clone(), shape).await {
                Ok(answer) if answer.status == 200 => match answer.json() {
                    Ok(resource) => return Ok(resource),
                    Err(failed) => failed,
                },
                // The name is taken; or a part is gone, which another pack of the same set took away when it was done. What stands there may be ours.
                Ok(answer) if matches!(answer.status, 404 | 412) => {
                    let may_be_ours = purpose.is_part() || patience.has_failed() || answer.status == 404;
                    return match self.store.resource(&whole.name).await {
                        Ok(there) if may_be_ours && there.len() == Some(whole.len) && there.crc32c() == Some(whole.crc32c) => Ok(there),
                        Err(StoreError::NotFound { .. }) => {
                            Err(StoreError::Lost { name: shown, found: "that parts of it are gone".to_owned() })
                        }
                        Ok(_) | Err(StoreError::Denied { .. }) if !purpose.overwrites() => {
                            Err(StoreError::Exists { name: shown, found: "another object there" })
                        }
                        Ok(_) | Err(StoreError::Denied { .. }) => {
                            Err(StoreError::Lost { name: shown, found: "that parts of it are gone".to_owned() })
                        }
                        Err(error) => Err(error),
                    };
                }
                Ok(answer) => answer.failed(&shown, "storage.objects.create (and storage.objects.get on its parts)"),
                Err(failed) => failed,
            };
            patience.failed(failed).await?;
        }
    }

    /// Holds what is stored against the digest that is published. Whoever may not read it relies on the CRC-32C.
    async fn read_back(&self, resource: &Resource, expected: Sha256) -> Result<(), StoreError> {
        let mut found = self.digest_of(resource).await?;
        if found.is_some_and(|found| found != expected) {
            // It may be the reading that went wrong.
            found = self.digest_of(resource).await?;
        }
        match found.filter(|found| *found != expected) {
            None => Ok(()),
            Some(found) => {
                self.store.delete(&self.name, resource.generation()).await?;
                Err(StoreError::WrongDigest { name: self.store.shown(&self.name), expected, found })
            }
        }
    }

    /// SHA-256 of what is stored; none for whoever may not read it.
    async fn digest_of(&self, resource: &Resource) -> Result<Option<Sha256>, StoreError> {
        let lost = |_: Failed| StoreError::Changed { name: self.store.shown(&self.name) };
        let object: ObjectInfo = self.store.info(resource.clone()).map_err(lost)?;
        let (at_once, step) = READ_BACK;
        let reads = (0..object.len.div_ceil(step)).map(|number| {
            let offset = number * step;
            self.store.read(&object, offset, (object.len - offset).min(step) as usize)
        });
        let mut reads = stream::iter(reads).buffered(at_once);
        let mut sha256 = sha2::Sha256::new();
        loop {
            match reads.try_next().await {
                Ok(Some(bytes)) => sha256.update(&bytes),
                Ok(None) => break,
                Err(StoreError::Denied { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
            tokio::task::yield_now().await;
        }
        Ok(Some(Sha256(sha256.finalize().into())))
    }
}

/// Takes objects away. What cannot be taken away does no harm, and after the first of these nothing more is tried: for each the patience is long.
async fn remove_all(store: &GcsStore, objects: Vec<(String, Option<u64>)>) {
    let removals = objects.into_iter().map(|(name, generation)| async move { store.delete(&name, generation).await });
    stream::iter(removals).buffer_unordered(2 * AT_ONCE).try_for_each(|()| std::future::ready(Ok(()))).await.ok();
}

/// Takes away what an earlier pack has left of `name`, which stands by now as `whole`, and what others left behind long ago.
pub(super) async fn remove_abandoned(store: &GcsStore, name: &str, whole: &Resource) {
    let mut folders: BTreeMap<String, Vec<Resource>> = BTreeMap::new();
    for part in store.resources(FOLDER).await.unwrap_or_default() {
        // The name of an archive may hold slashes, that of a part does not.
        if let Some((folder, _)) = part.name.rsplit_once('/') {
            folders.entry(folder.to_owned()).or_default().push(part);
        }
    }
    let own = store.full(&format!("{FOLDER}{name}"));
    let time = |resource: &Resource| resource.updated.parse::<jiff::Timestamp>().ok();
    let Some(now) = time(whole) else { return };
    let is_left = |folder: &String, parts: &[Resource]| {
        let newest = parts.iter().map(time).max().flatten();
        // Under a name that stands nobody but an overwriting pack goes on, and that one has made newer parts.
        let age = if *folder == own { jiff::SignedDuration::ZERO } else { ABANDONED_AFTER };
        newest.is_some_and(|newest| now.duration_since(newest) >= age)
    };
    let left = folders.iter().filter(|(folder, parts)| is_left(folder, parts)).flat_map(|(_, parts)| parts);
    let left = left.filter_map(|part| Some((part.name.strip_prefix(&store.prefix)?.to_owned(), part.generation())));
    remove_all(store, left.collect()).await;
}

/// What parts make together.
fn joined(name: String, parts: &[Part]) -> Part {
    let crc32c =
        parts.iter().fold(0, |crc32c, part| crc32c::crc32c_combine(crc32c, part.crc32c, usize::try_from(part.len).unwrap_or(usize::MAX)));
    Part { name, generation: None, len: parts.iter().map(|part| part.len).sum(), crc32c }
}

impl ObjectWriter for PartsWriter {
    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let upload_chunk_bytes = self.store.cloud.options().upload_chunk_bytes;
            let mut rest = bytes;
            while !rest.is_empty() {
                // All of its room at once: a buffer that grows is copied, and twice as large at the end.
                self.filling.reserve(upload_chunk_bytes.saturating_sub(self.filling.len()));
                let room = upload_chunk_bytes.saturating_sub(self.filling.len()).min(rest.len());
                self.filling.extend_from_slice(&rest.split_to(room));
                if self.filling.len() >= upload_chunk_bytes {
                    let part = std::mem::take(&mut self.filling).freeze();
                    self.send_part(part).await?;
                }
            }
            Ok(())
        })
    }

    fn publish(self: Box<Self>, about: About) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(self.finish(about))
    }
}
