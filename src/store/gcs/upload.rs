//! One object on its way up: in a single request where it is small, else in a resumable session of our own.
//!
//! Whatever is not confirmed stays in memory, so that a broken connection loses nothing. Nothing stands under the name before the last piece.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{Answer, Described, Failed, GcsStore, Patience, Purpose, Resource};
use crate::store::{About, Making, ObjectWriter, Store as _, StoreError};

/// What is sent in one request of a session: a multiple of the 256 KiB that the service asks for.
const PIECE_BYTES: usize = 8 << 20;

/// An object that is being written.
#[derive(Debug)]
pub(super) struct Upload {
    store: GcsStore,
    name: String,
    making: Making,
    session: Option<Address>,
    /// The piece that is on its way, as far as the service has not confirmed it.
    sending: Bytes,
    /// What comes after it. Never empty between two calls of `write`, so that the last piece is known as such.
    filling: BytesMut,
    /// How much the service has.
    kept: u64,
    crc32c: u32,
}

/// Whoever has it may write: it is shown nowhere.
#[derive(Clone)]
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
    /// The service will not make it stand: the bytes that it has are not those that were sent.
    Spoilt(String),
}

impl Upload {
    pub(super) fn new(store: GcsStore, name: String, making: Making) -> Self {
        let (sending, filling) = (Bytes::new(), BytesMut::new());
        Upload { store, name, making, session: None, sending, filling, kept: 0, crc32c: 0 }
    }

    fn len(&self) -> u64 {
        self.kept + self.sending.len() as u64 + self.filling.len() as u64
    }

    fn lost(&self, found: impl Into<String>) -> StoreError {
        StoreError::Lost { name: self.store.shown(&self.name), found: found.into() }
    }

    /// Sends what is in `sending`, or with `last` all that there is and makes the object stand.
    async fn advance(&mut self, last: bool) -> Result<Option<Resource>, StoreError> {
        let advanced = self.try_advance(last).await;
        if advanced.is_err()
            && let Some(Address(session)) = self.session.take()
        {
            // One try is enough: what is left of a session ends by itself.
            self.store.cloud.call(Method::DELETE, &session, Bytes::new(), |request| request).await.ok();
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
                Ok(Step::Begun) => patience.progress(),
                Ok(Step::Kept(kept)) => {
                    let Some(new) = kept.checked_sub(self.kept).filter(|new| *new <= self.sending.len() as u64) else {
                        return Err(self.lost(format!("{kept} bytes kept where {} were confirmed before", self.kept)));
                    };
                    self.sending.advance(new as usize);
                    self.kept = kept;
                    if new > 0 {
                        patience.progress();
                    } else if !ask {
                        patience.failed(Failed::passing("a piece of which nothing was kept")).await?;
                    }
                    ask = false;
                    if !last && self.sending.is_empty() {
                        return Ok(None);
                    }
                }
                Ok(Step::Gone) if self.kept == 0 => {
                    self.session = None;
                    ask = false;
                    patience.failed(Failed::passing("an upload session that was lost")).await?;
                }
                // What was confirmed is no longer in memory.
                Ok(Step::Gone) => return Err(self.lost("a session that the service does not know any more")),
                Ok(Step::Spoilt(found)) => return Err(self.lost(found)),
                Ok(Step::Taken) if last && patience.has_failed() => {
                    // Our own try may have come through although its answer did not.
                    return match self.store.resource(&self.name).await {
                        Ok(there) if there.len() == Some(self.len()) && there.crc32c() == Some(self.crc32c) => Ok(Some(there)),
                        Ok(_) | Err(StoreError::Denied { .. }) => Err(taken(shown)),
                        Err(StoreError::NotFound { .. }) => Err(self.lost("HTTP 412 for a name that is free")),
                        Err(error) => Err(error),
                    };
                }
                Ok(Step::Taken) => return Err(taken(shown)),
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
        let Some(session) = self.session.clone() else { return self.begin(&shown).await };
        if ask {
            let answer = self.put(&session, "bytes */*".to_owned(), Bytes::new(), |request| request).await?;
            return understood(&answer, &shown, false);
        }
        if self.sending.is_empty() {
            let len = PIECE_BYTES.min(self.filling.len());
            self.sending = self.filling.split_to(len).freeze();
        }
        let piece = self.sending.clone();
        let end = self.kept + piece.len() as u64;
        let is_last = last && self.filling.is_empty();
        let total = if is_last { end.to_string() } else { "*".to_owned() };
        let range = if piece.is_empty() { format!("bytes */{total}") } else { format!("bytes {}-{}/{total}", self.kept, end - 1) };
        // The service holds the whole against its checksum before it makes it stand.
        let hash = is_last.then(|| format!("crc32c={}", spelled(self.crc32c)));
        let shape = |request: RequestBuilder| match hash {
            Some(hash) => request.header("x-goog-hash", hash),
            None => request,
        };
        let answer = self.put(&session, range, piece, shape).await?;
        understood(&answer, &shown, is_last)
    }

    async fn put(
        &self,
        Address(session): &Address,
        range: String,
        body: Bytes,
        shape: impl FnOnce(RequestBuilder) -> RequestBuilder + Send,
    ) -> Result<Answer, Failed> {
        let shape = |request: RequestBuilder| shape(request.header(http::header::CONTENT_RANGE, range));
        self.store.cloud.call(Method::PUT, session, body, shape).await
    }

    async fn begin(&mut self, shown: &str) -> Result<Step, Failed> {
        let options = self.store.cloud.options();
        let full = self.store.full(&self.name);
        let mut query = vec![("uploadType", "resumable"), ("name", full.as_str())];
        let (purpose, nothing) = (Purpose::Final(&self.making), BTreeMap::new());
        query.extend(purpose.query(options));
        let told = json!(purpose.described(&self.name, options, &nothing)).to_string();
        let address = self.store.cloud.upload_address(&self.store.bucket, &query);
        let shape = |request: RequestBuilder| request.header(http::header::CONTENT_TYPE, JSON);
        let answer = self.store.cloud.call(Method::POST, &address, told.into(), shape).await?;
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
        let body = Bytes::from(json!({"metadata": about.attributes}).to_string());
        let mut patience = Patience::new(&self.store.cloud, format!("metadata of {shown}"));
        loop {
            let shape = |request: RequestBuilder| request.header(http::header::CONTENT_TYPE, JSON);
            let failed = match self.store.cloud.call(Method::PATCH, &address, body.clone(), shape).await {
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

/// What the answer to a PUT means.
fn understood(answer: &Answer, shown: &str, is_last: bool) -> Result<Step, Failed> {
    match answer.status {
        200 | 201 => answer.json().map(|resource| Step::Finished(Box::new(resource))),
        308 => Ok(Step::Kept(kept(answer))),
        404 | 410 => Ok(Step::Gone),
        412 => Ok(Step::Taken),
        400 if is_last => Ok(Step::Spoilt(format!("HTTP 400 {}", answer.words()))),
        _ => Err(answer.failed(shown, "storage.objects.create")),
    }
}

fn taken(name: String) -> StoreError {
    StoreError::Exists { name, found: "another object there" }
}

/// How much an answer of 308 says is kept.
fn kept(answer: &Answer) -> u64 {
    let range = answer.headers.get(http::header::RANGE).and_then(|range| range.to_str().ok());
    let last: Option<u64> = range.and_then(|range| range.rsplit_once('-')?.1.trim().parse().ok());
    last.map_or(0, |last| last.saturating_add(1))
}

/// The content type of all that is said to the service.
pub(super) const JSON: &str = "application/json";

pub(super) fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "zip")) => "application/zip",
        Some((_, "json")) => JSON,
        Some((_, "sha256")) => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Writes an object in a single request, and tells its generation as far as that is known.
///
/// An object that is there already is taken for ours if it is a part or an earlier try failed, and its length and checksum are the same.
pub(super) async fn write_single(
    store: &GcsStore,
    name: &str,
    bytes: Bytes,
    crc32c: u32,
    purpose: Purpose<'_>,
    about: &About,
) -> Result<Option<u64>, StoreError> {
    let shown = store.shown(name);
    let mut patience = Patience::new(&store.cloud, format!("upload of {shown}"));
    loop {
        let failed = match try_single(store, name, &bytes, crc32c, purpose, about).await {
            Ok(answer) if answer.is_success() => match answer.json::<Resource>() {
                Ok(resource) => {
                    confirm(store, name, &resource, bytes.len() as u64, crc32c).await?;
                    return Ok(resource.generation());
                }
                Err(failed) => failed,
            },
            // No condition was set: it was the checksum that was refused.
            Ok(answer) if answer.status == 412 && purpose.overwrites() => Failed::passing("HTTP 412"),
            Ok(answer) if answer.status == 412 => match store.resource(name).await {
                Ok(there)
                    if (purpose.is_part() || patience.has_failed())
                        && there.len() == Some(bytes.len() as u64)
                        && there.crc32c() == Some(crc32c) =>
                {
                    return Ok(there.generation());
                }
                // Whoever may not look at parts knows them by their names.
                Err(StoreError::Denied { .. }) if purpose.is_part() => return Ok(None),
                Ok(_) | Err(StoreError::Denied { .. }) => Failed::Finally(taken(shown.clone())),
                // Nothing has the name: it went meanwhile, or it was the checksum that was refused.
                Err(StoreError::NotFound { .. }) => Failed::passing("HTTP 412 for a name that is free"),
                Err(error) => Failed::Finally(error),
            },
            // The bytes were damaged on their way; they are sent again.
            Ok(answer) if answer.status == 400 && !patience.has_failed() => Failed::passing("HTTP 400"),
            Ok(answer) => answer.failed(&shown, "storage.objects.create"),
            Err(failed) => failed,
        };
        patience.failed(failed).await?;
    }
}

/// Sends metadata and bytes in one body of two parts. Each part names its content type: without that of the bytes, which the storage crate leaves
/// out, Google's own test bench falls over.
async fn try_single(
    store: &GcsStore,
    name: &str,
    bytes: &Bytes,
    crc32c: u32,
    purpose: Purpose<'_>,
    about: &About,
) -> Result<Answer, Failed> {
    let options = store.cloud.options();
    let full = store.full(name);
    let mut query = vec![("uploadType", "multipart"), ("name", full.as_str())];
    query.extend(purpose.query(options));
    let told = Described { crc32c: Some(spelled(crc32c)), ..purpose.described(name, options, &about.attributes) };
    let (content_type, told) = (told.content_type, json!(told));
    // Nobody can foresee it, so nothing that is packed can hold it.
    let [high, low] = [0, 1].map(|half| RandomState::new().hash_one(half));
    let boundary = format!("kindpack-{high:016x}{low:016x}");
    let head = format!("--{boundary}\r\ncontent-type: {JSON}\r\n\r\n{told}\r\n--{boundary}\r\ncontent-type: {content_type}\r\n\r\n");
    let body = vec![head.into(), bytes.clone(), format!("\r\n--{boundary}--\r\n").into()];
    let address = store.cloud.upload_address(&store.bucket, &query);
    let shape = |request: RequestBuilder| request.header(http::header::CONTENT_TYPE, format!("multipart/related; boundary={boundary}"));
    store.cloud.call_in_pieces(Method::POST, &address, body, shape).await
}

/// A CRC-32C as the service spells it.
fn spelled(crc32c: u32) -> String {
    STANDARD.encode(crc32c.to_be_bytes())
}

impl ObjectWriter for Upload {
    fn write<'a>(&'a mut self, bytes: Bytes) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes);
            self.filling.extend_from_slice(&bytes);
            while self.filling.len() > PIECE_BYTES {
                self.advance(false).await?;
            }
            Ok(())
        })
    }

    fn publish(mut self: Box<Self>, about: About) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            if self.session.is_none() && self.kept == 0 {
                let bytes = std::mem::take(&mut self.filling).freeze();
                let purpose = Purpose::Final(&self.making);
                return write_single(&self.store, &self.name, bytes, self.crc32c, purpose, &about).await.map(|_| ());
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
        self.store.cloud.part_with(async move {
            cloud.call(Method::DELETE, &session, Bytes::new(), |request| request).await.ok();
        });
    }
}
