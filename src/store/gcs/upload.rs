//! One object on its way up: in a single request where it is small, else in a resumable session of our own.
//!
//! Whatever is not confirmed stays in memory, so that a broken connection loses nothing. Nothing stands under the name before the last piece.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use reqwest::Method;
use serde_json::json;

use super::{Answer, Described, Failed, GcsStore, Patience, Resource, USER_AGENT, crate_error};
use crate::store::{About, ObjectWriter, StoreError};

/// What is sent in one request of a session: a multiple of the 256 KiB that the service asks for.
const PIECE_BYTES: usize = 8 << 20;

/// An upload of that many bytes may take a second longer than an empty one.
const SLOWEST_BYTES_A_SECOND: u64 = 128 << 10;

/// An object that is being written.
#[derive(Debug)]
pub(super) struct Upload {
    store: GcsStore,
    name: String,
    overwrite: bool,
    session: Option<Address>,
    /// What the service has not confirmed yet.
    waiting: BytesMut,
    /// How much it has.
    kept: u64,
    crc32c: u32,
}

/// Whoever has it may write: it is shown nowhere.
struct Address(String);

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address(…)")
    }
}

/// What one request of a session came to.
enum Step {
    /// There is a session, with nothing in it.
    Begun,
    /// The service has that many bytes.
    Kept(u64),
    /// The object is there.
    Finished(Box<Resource>),
    /// The session is not known any more.
    Gone,
    /// Another object has the name.
    Taken,
}

impl Upload {
    pub(super) fn new(store: GcsStore, name: String, overwrite: bool) -> Self {
        Upload { store, name, overwrite, session: None, waiting: BytesMut::new(), kept: 0, crc32c: 0 }
    }

    fn len(&self) -> u64 {
        self.kept + self.waiting.len() as u64
    }

    /// Sends until little enough is waiting, or with `last` until the object is there.
    async fn advance(&mut self, last: bool) -> Result<Option<Resource>, StoreError> {
        let advanced = self.try_advance(last).await;
        if advanced.is_err()
            && let Some(Address(session)) = self.session.take()
        {
            // One try is enough: what is left of a session ends by itself.
            self.store.cloud.call(Method::DELETE, &session, |request| request).await.ok();
        }
        advanced
    }

    async fn try_advance(&mut self, last: bool) -> Result<Option<Resource>, StoreError> {
        let cloud = self.store.cloud.clone();
        let shown = self.store.shown(&self.name);
        let mut patience = Patience::new(&cloud, format!("upload of {shown}"));
        let mut ask = false;
        loop {
            match self.step(last, ask).await {
                Ok(Step::Finished(resource)) => return Ok(Some(*resource)),
                Ok(Step::Begun) => {}
                Ok(Step::Kept(kept)) => {
                    let Some(new) = kept.checked_sub(self.kept).filter(|new| *new <= self.waiting.len() as u64) else {
                        return Err(StoreError::Rejected {
                            name: shown,
                            found: format!("{kept} bytes kept of {} that were sent", self.len()),
                        });
                    };
                    drop(self.waiting.split_to(new as usize));
                    self.kept = kept;
                    if new > 0 {
                        patience.progress();
                    } else if !ask {
                        patience.failed(Failed::passing("a piece of which nothing was kept")).await?;
                    }
                    ask = false;
                    if !last && self.waiting.len() <= PIECE_BYTES {
                        return Ok(None);
                    }
                }
                Ok(Step::Gone) if self.kept == 0 => {
                    self.session = None;
                    ask = false;
                    patience.failed(Failed::passing("an upload session that was lost")).await?;
                }
                Ok(Step::Gone) => {
                    // What was confirmed is no longer in memory.
                    return Err(StoreError::Service {
                        call: format!("upload of {shown}"),
                        tries: 1,
                        seconds: 0,
                        found: "an upload session that was lost".to_owned(),
                    });
                }
                Ok(Step::Taken) if last && patience.has_failed() => {
                    // Our own try may have come through although its answer did not.
                    let there = self.store.resource(&self.name).await?;
                    if there.len() == Some(self.len()) && there.crc32c() == Some(self.crc32c) {
                        return Ok(Some(there));
                    }
                    return Err(StoreError::Exists { name: shown, found: "another object there" });
                }
                Ok(Step::Taken) => return Err(StoreError::Exists { name: shown, found: "another object there" }),
                Err(failed) => {
                    patience.failed(failed).await?;
                    ask = self.session.is_some();
                }
            }
        }
    }

    /// One request: the begin of the session, the question how much it has, or the next piece.
    async fn step(&mut self, last: bool, ask: bool) -> Result<Step, Failed> {
        let shown = self.store.shown(&self.name);
        let Some(Address(session)) = &self.session else { return self.begin(&shown).await };
        let piece = Bytes::copy_from_slice(self.waiting.get(..PIECE_BYTES).unwrap_or(&self.waiting));
        let end = self.kept + piece.len() as u64;
        let total = if last && piece.len() == self.waiting.len() { end.to_string() } else { "*".to_owned() };
        let (range, body) = match piece.len() {
            _ if ask => ("bytes */*".to_owned(), Bytes::new()),
            0 => (format!("bytes */{total}"), Bytes::new()),
            _ => (format!("bytes {}-{}/{total}", self.kept, end - 1), piece),
        };
        let answer = self
            .store
            .cloud
            .call(Method::PUT, session, |request| request.header("content-range", range).header("content-length", body.len()).body(body));
        let answer = answer.await?;
        match answer.status {
            200 | 201 => answer.json().map(|resource| Step::Finished(Box::new(resource))),
            308 => Ok(Step::Kept(kept(&answer))),
            404 | 410 => Ok(Step::Gone),
            412 => Ok(Step::Taken),
            _ => Err(answer.failed(&shown, "storage.objects.create")),
        }
    }

    async fn begin(&mut self, shown: &str) -> Result<Step, Failed> {
        let options = self.store.cloud.options();
        let full = self.store.full(&self.name);
        let mut query = vec![("uploadType", "resumable"), ("name", full.as_str())];
        query.extend((!self.overwrite).then_some(("ifGenerationMatch", "0")));
        query.extend(options.kms_key.as_deref().map(|key| ("kmsKeyName", key)));
        let storage_class = options.storage_class.as_deref();
        let told = Described { content_type: content_type(&self.name), storage_class, metadata: &BTreeMap::new() };
        let told = json!(told).to_string();
        let address = self.store.cloud.upload_address(&self.store.bucket, &query);
        let answer = self.store.cloud.call(Method::POST, &address, |request| request.header("content-type", "application/json").body(told));
        let answer = answer.await?;
        let location = answer.headers.get(http::header::LOCATION).and_then(|location| location.to_str().ok());
        match (answer.status, location) {
            (200 | 201, Some(location)) => {
                self.session = Some(Address(location.to_owned()));
                Ok(Step::Begun)
            }
            (200 | 201, None) => Err(Failed::passing("an upload session without an address")),
            (412, _) => Ok(Step::Taken),
            _ => Err(answer.failed(shown, "storage.objects.create")),
        }
    }

    /// Writes what the archive should say of itself. The sidecar says it too, so that whoever may only create does without.
    async fn annotate(&self, resource: &Resource, about: &About) {
        if about.attributes.is_empty() {
            return;
        }
        let shown = self.store.shown(&self.name);
        let query = [("generation", resource.generation.as_str()), ("ifMetagenerationMatch", resource.metageneration.as_str())];
        let address = self.store.object_address(&self.name, "", &query);
        let body = json!({"metadata": about.attributes}).to_string();
        let mut patience = Patience::new(&self.store.cloud, format!("metadata of {shown}"));
        loop {
            let call = self
                .store
                .cloud
                .call(Method::PATCH, &address, |request| request.header("content-type", "application/json").body(body.clone()));
            let failed = match call.await {
                Ok(answer) if answer.is_success() || answer.status == 412 => return,
                Ok(answer) => answer.failed(&shown, "storage.objects.update"),
                Err(failed) => failed,
            };
            if patience.failed(failed).await.is_err() {
                return;
            }
        }
    }
}

/// How much an answer of 308 says is kept.
fn kept(answer: &Answer) -> u64 {
    let range = answer.headers.get(http::header::RANGE).and_then(|range| range.to_str().ok());
    let last: Option<u64> = range.and_then(|range| range.rsplit_once('-')?.1.trim().parse().ok());
    last.map_or(0, |last| last.saturating_add(1))
}

pub(super) fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "zip")) => "application/zip",
        Some((_, "json")) => "application/json",
        Some((_, "sha256")) => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Writes an object in a single request, and tells its generation.
///
/// An object that is there already is taken for ours if `may_be_there` or an earlier try failed, and its length and checksum are the same.
pub(super) async fn write_single(
    store: &GcsStore,
    name: &str,
    bytes: Bytes,
    overwrite: bool,
    is_part: bool,
    about: &About,
) -> Result<Option<u64>, StoreError> {
    let shown = store.shown(name);
    let cloud = &store.cloud;
    let crc32c = crc32c::crc32c(&bytes);
    let time = cloud.options().idle_time + std::time::Duration::from_secs(bytes.len() as u64 / SLOWEST_BYTES_A_SECOND);
    let mut patience = Patience::new(cloud, format!("upload of {shown}"));
    loop {
        let tried = async {
            let session = cloud.session().await?;
            let mut write = session
                .storage
                .write_object(store.bucket_resource(), store.full(name), bytes.clone())
                .set_content_type(content_type(name))
                .with_known_crc32c(crc32c)
                .with_resumable_upload_threshold(usize::MAX)
                .with_user_agent(USER_AGENT);
            if !about.attributes.is_empty() {
                write = write.set_metadata(about.attributes.clone());
            }
            if !overwrite {
                write = write.set_if_generation_match(0);
            }
            let options = cloud.options();
            if let Some(class) = options.storage_class.as_ref().filter(|_| !is_part) {
                write = write.set_storage_class(class);
            }
            if let Some(key) = &options.kms_key {
                write = write.set_kms_key(key);
            }
            if let Some(payer) = &options.billing_project {
                write = write.with_quota_project(payer);
            }
            let written = tokio::time::timeout(time, write.send_unbuffered()).await;
            written
                .map_err(|_| Failed::passing(format!("no answer within {} s", time.as_secs())))
                .map(|written| written.map_err(|error| (error.http_status_code(), crate_error(&error, &shown, "storage.objects.create"))))
        };
        let failed = match tried.await {
            Ok(Ok(object)) => return Ok(u64::try_from(object.generation).ok()),
            Ok(Err((Some(412), _))) => match store.resource(name).await {
                Ok(there)
                    if (is_part || patience.has_failed()) && there.len() == Some(bytes.len() as u64) && there.crc32c() == Some(crc32c) =>
                {
                    return Ok(there.generation());
                }
                // Whoever may not look at parts knows them by their names.
                Err(StoreError::Denied { .. }) if is_part => return Ok(None),
                Ok(_) | Err(StoreError::Denied { .. }) => {
                    Failed::Finally(StoreError::Exists { name: shown.clone(), found: "another object there" })
                }
                Err(error) => Failed::Finally(error),
            },
            // The bytes were damaged on their way; they are sent again.
            Ok(Err((Some(400), _))) if !patience.has_failed() => Failed::passing("HTTP 400"),
            Ok(Err((_, failed))) | Err(failed) => failed,
        };
        patience.failed(failed).await?;
    }
}

impl ObjectWriter for Upload {
    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes);
            self.waiting.extend_from_slice(&bytes);
            if self.waiting.len() > PIECE_BYTES {
                self.advance(false).await?;
            }
            Ok(())
        })
    }

    fn publish(mut self: Box<Self>, about: About) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            if self.session.is_none() && self.kept == 0 && self.waiting.len() <= PIECE_BYTES {
                let bytes = std::mem::take(&mut self.waiting).freeze();
                return write_single(&self.store, &self.name, bytes, self.overwrite, false, &about).await.map(|_| ());
            }
            let Some(resource) = self.advance(true).await? else { return Ok(()) };
            self.session = None;
            confirm(&self.store, &self.name, &resource, self.len(), self.crc32c).await?;
            self.annotate(&resource, &about).await;
            Ok(())
        })
    }
}

/// Holds what is stored against what was sent; an object that differs is taken away again.
pub(super) async fn confirm(store: &GcsStore, name: &str, told: &Resource, len: u64, crc32c: u32) -> Result<(), StoreError> {
    let is_ours = |resource: &Resource| resource.len() == Some(len) && resource.crc32c() == Some(crc32c);
    if is_ours(told) {
        return Ok(());
    }
    // Before it is taken away, the object itself is asked: what answers an upload may be short of words.
    let there = store.resource(name).await?;
    if is_ours(&there) {
        return Ok(());
    }
    // Whatever another one has put there meanwhile is not ours to take.
    if told.generation().is_none_or(|generation| there.generation() == Some(generation)) {
        store.delete(name, there.generation()).await?;
    }
    Err(StoreError::Corrupt { name: store.shown(name), expected: crc32c, found: there.crc32c().unwrap_or_default() })
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(Address(session)) = self.session.take() else { return };
        let cloud = self.store.cloud.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { cloud.call(Method::DELETE, &session, |request| request).await.is_ok() });
        }
    }
}
