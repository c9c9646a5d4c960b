//! One object on its way up: in a single request where it is small, else in a resumable session of
//! our own.
//!
//! Whatever is not confirmed stays in memory, so that a broken connection loses nothing. Nothing
//! stands under the name before the last piece.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE};
use reqwest::Method;
use serde_json::json;

use super::client::{JSON, json_header};
use super::{
    GcsAttemptError, GcsStore, ObjectResource, ObjectResourceBody, RequestUrl, Response, SentBytes,
    UploadKind,
};
use crate::google::retry::RetryLoop;
use crate::store::{ObjectMetadata, ObjectWriter, Store as _, StoreError, WriteOptions};

/// What is sent in one request of a session: a multiple of the 256 KiB that the service asks for.
const PIECE_BYTES: usize = 8 << 20;

/// The checksum of what is sent.
const GOOG_HASH: HeaderName = HeaderName::from_static("x-goog-hash");

/// An object that is being written.
#[derive(Debug)]
pub(super) struct ResumableUpload {
    store: GcsStore,
    name: String,
    making: WriteOptions,
    session: Option<RequestUrl>,
    /// The piece that is on its way, as far as the service has not confirmed it.
    sending: Bytes,
    /// What comes after it. Never empty between two calls of `write`, so that the last piece is
    /// known as such.
    filling: BytesMut,
    /// How much the service has.
    kept: u64,
    crc32c: u32,
    /// What was found under the name when the session was to begin: then nothing is sent, and all
    /// is only compared with it.
    found: Option<Box<ObjectResource>>,
}

/// What one request of a session came to.
enum SessionReply {
    /// There is a session, with nothing in it.
    Started,
    /// The service has that many bytes.
    Persisted(u64),
    /// The object is there.
    Complete(Box<ObjectResource>),
    /// The session is not known any more.
    SessionGone,
    /// Another object has the name.
    NameTaken,
    /// The service will not make it stand: the bytes that it has are not those that were sent.
    Corrupted(String),
}

/// What the last request of a session came to.
enum UploadOutcome {
    /// It made the object.
    Created(Box<ObjectResource>),
    /// The name holds the same bytes already.
    AlreadyThere,
}

impl ResumableUpload {
    pub(super) fn new(store: GcsStore, name: String, making: WriteOptions) -> Self {
        let (sending, filling) = (Bytes::new(), BytesMut::new());
        ResumableUpload {
            store,
            name,
            making,
            session: None,
            sending,
            filling,
            kept: 0,
            crc32c: 0,
            found: None,
        }
    }

    fn len(&self) -> u64 {
        self.kept + self.sending.len() as u64 + self.filling.len() as u64
    }

    fn lost(&self, reason: impl Into<String>) -> StoreError {
        StoreError::UploadLost {
            name: self.store.display_name(&self.name),
            reason: reason.into(),
        }
    }

    fn sent(&self, about: &ObjectMetadata) -> SentBytes {
        SentBytes {
            len: self.len(),
            crc32c: self.crc32c,
            sha256: about.sha256,
        }
    }

    fn taken(&self) -> StoreError {
        taken(self.store.display_name(&self.name))
    }

    /// Sends what is in `sending`, or with `last` all that there is and makes the object stand.
    async fn advance(
        &mut self,
        last: Option<&ObjectMetadata>,
    ) -> Result<Option<UploadOutcome>, StoreError> {
        let cloud = self.store.cloud.clone();
        let shown = self.store.display_name(&self.name);
        let mut retry = cloud.retry_loop(format!("upload of {shown}"));
        let mut ask = false;
        loop {
            match self.step(last.is_some(), ask).await {
                Ok(SessionReply::Complete(resource)) => {
                    return Ok(Some(UploadOutcome::Created(resource)));
                }
                // A session brings nothing through as long as it takes no bytes.
                Ok(SessionReply::Started) => {}
                Ok(SessionReply::Persisted(kept)) => {
                    self.record_persisted(kept, ask, &mut retry).await?;
                    if last.is_none() && self.sending.is_empty() {
                        return Ok(None);
                    }
                    ask = false;
                }
                Ok(SessionReply::SessionGone) => {
                    self.give_session_up(&mut retry).await?;
                    ask = false;
                }
                Ok(SessionReply::Corrupted(found)) => return Err(self.lost(found)),
                Ok(SessionReply::NameTaken) => return self.resolve_taken(last).await,
                Err(failed) => {
                    retry.failed(failed).await?;
                    ask = self.session.is_some();
                }
            }
        }
    }

    /// Lets go of what the service has by now. If that is nothing new, another attempt follows.
    async fn record_persisted(
        &mut self,
        kept: u64,
        was_asked: bool,
        retry: &mut RetryLoop<'_>,
    ) -> Result<(), StoreError> {
        let new = self.newly_persisted(kept)?;
        self.sending.advance(new);
        self.kept = kept;
        if new > 0 {
            retry.progress();
        } else if !was_asked {
            let found = "a piece of which nothing was kept";
            retry.failed(GcsAttemptError::transient(found)).await?;
        }
        Ok(())
    }

    /// How many bytes of the piece that is on its way have arrived.
    fn newly_persisted(&self, kept: u64) -> Result<usize, StoreError> {
        let new = kept
            .checked_sub(self.kept)
            .filter(|new| *new <= self.sending.len() as u64);
        new.map(|new| new as usize).ok_or_else(|| {
            let confirmed = self.kept;
            self.lost(format!(
                "{kept} bytes are kept, after {confirmed} were confirmed"
            ))
        })
    }

    /// Lets another session begin, unless something was confirmed: that is no longer in memory.
    async fn give_session_up(&mut self, retry: &mut RetryLoop<'_>) -> Result<(), StoreError> {
        if self.kept > 0 {
            return Err(self.lost("the upload session has ended"));
        }
        self.session = None;
        let found = "the upload session is lost";
        retry.failed(GcsAttemptError::transient(found)).await
    }

    /// Finds out what it means that the name is taken.
    async fn resolve_taken(
        &mut self,
        last: Option<&ObjectMetadata>,
    ) -> Result<Option<UploadOutcome>, StoreError> {
        if self.making.overwrite {
            // No condition was set: it was the checksum that was refused.
            return Err(self.lost("HTTP 412"));
        }
        let there = match self.store.resource(&self.name).await {
            Ok(there) => there,
            Err(StoreError::Denied { .. }) => return Err(self.taken()),
            // It went meanwhile, or it was the checksum that was refused.
            Err(StoreError::NotFound { .. }) => {
                return Err(self.lost("HTTP 412 for a name that is free"));
            }
            Err(error) => return Err(error),
        };
        match last {
            // An earlier request may have made it: one whose answer was lost, or one of a run that
            // was killed.
            Some(about) if self.store.holds(&there, self.sent(about)).await? => {
                Ok(Some(UploadOutcome::AlreadyThere))
            }
            // Only all of its bytes can tell.
            None if self.kept == 0 && there.len() >= Some(self.len()) => {
                self.compare_only(there);
                Ok(None)
            }
            _ => Err(self.taken()),
        }
    }

    /// Sends nothing more: from now on all is compared with what is there.
    fn compare_only(&mut self, there: ObjectResource) {
        self.kept = self.len();
        (self.sending, self.filling) = (Bytes::new(), BytesMut::new());
        (self.session, self.found) = (None, Some(Box::new(there)));
    }

    /// One request: the begin of the session, the question how much it has, or the next piece.
    async fn step(&mut self, last: bool, ask: bool) -> Result<SessionReply, GcsAttemptError> {
        let shown = self.store.display_name(&self.name);
        let Some(session) = self.session.clone() else {
            return self.start(&shown).await;
        };
        if ask {
            let nothing = Bytes::new();
            let answer = self.send(&session, "bytes */*", nothing, HeaderMap::new());
            return understood(&answer.await?, &shown, false);
        }
        let piece = self.next_piece();
        let is_last = last && self.filling.is_empty();
        let range = content_range(self.kept, piece.len(), is_last);
        let headers = if is_last {
            self.checksum_header()
        } else {
            HeaderMap::new()
        };
        let answer = self.send(&session, &range, piece, headers).await?;
        understood(&answer, &shown, is_last)
    }

    /// The piece that is on its way, or the one after it.
    fn next_piece(&mut self) -> Bytes {
        if self.sending.is_empty() {
            let len = PIECE_BYTES.min(self.filling.len());
            self.sending = self.filling.split_to(len).freeze();
        }
        self.sending.clone()
    }

    /// The service holds the whole against its checksum before it makes it stand.
    fn checksum_header(&self) -> HeaderMap {
        let checksum = format!("crc32c={}", to_base64(self.crc32c));
        HeaderMap::from_iter([(GOOG_HASH, header_value(&checksum))])
    }

    async fn send(
        &self,
        session: &RequestUrl,
        range: &str,
        body: Bytes,
        mut headers: HeaderMap,
    ) -> Result<Response, GcsAttemptError> {
        headers.insert(CONTENT_RANGE, header_value(range));
        self.store
            .cloud
            .call(Method::PUT, session, body, headers)
            .await
    }

    async fn start(&mut self, shown: &str) -> Result<SessionReply, GcsAttemptError> {
        let answer = self.request_session().await?;
        match answer.status {
            200 | 201 => {
                self.session = Some(self.session_address(&answer, shown)?);
                Ok(SessionReply::Started)
            }
            412 => Ok(SessionReply::NameTaken),
            _ => Err(answer.failed(shown, "storage.objects.create")),
        }
    }

    async fn request_session(&self) -> Result<Response, GcsAttemptError> {
        let cloud = &self.store.cloud;
        let full = self.store.full(&self.name);
        let mut query = vec![("uploadType", "resumable"), ("name", full.as_str())];
        let (purpose, nothing) = (UploadKind::Final(&self.making), BTreeMap::new());
        query.extend(purpose.query(&self.store.upload));
        let told = json!(purpose.described(&self.name, &self.store.upload, &nothing)).to_string();
        let address = cloud.upload_address(&self.store.bucket, &query);
        cloud
            .call(Method::POST, &address, told.into(), json_header())
            .await
    }

    /// Where the session is that the service has begun.
    fn session_address(
        &self,
        answer: &Response,
        shown: &str,
    ) -> Result<RequestUrl, GcsAttemptError> {
        let location = answer.headers.get(LOCATION);
        let location = location
            .and_then(|location| location.to_str().ok())
            .ok_or_else(|| GcsAttemptError::transient("the upload session has no address"))?;
        self.store.cloud.session_address(location).ok_or_else(|| {
            GcsAttemptError::Permanent(StoreError::Refused {
                name: shown.to_owned(),
                found: "the address of the upload session is without TLS".to_owned(),
            })
        })
    }

    /// Writes what the archive should say of itself. The sidecar says it too, so that whoever may
    /// only create does without.
    async fn annotate(&self, resource: &ObjectResource, about: &ObjectMetadata) {
        if about.attributes.is_empty() {
            return;
        }
        let shown = self.store.display_name(&self.name);
        let query = [
            ("generation", resource.generation.as_str()),
            ("ifMetagenerationMatch", resource.metageneration.as_str()),
        ];
        let address = self.store.object_address(&self.name, &query);
        let body = Bytes::from(json!({"metadata": about.attributes}).to_string());
        let mut retry = self.store.cloud.retry_loop(format!("metadata of {shown}"));
        loop {
            let failed = match self
                .store
                .cloud
                .call(Method::PATCH, &address, body.clone(), json_header())
                .await
            {
                Ok(answer) if answer.is_success() || answer.status == 412 => return,
                Ok(answer) => answer.failed(&shown, "storage.objects.update"),
                Err(failed) => failed,
            };
            if retry.failed(failed).await.is_err() {
                return;
            }
        }
    }
}

/// Which bytes a request brings; of how many in all, where they are the last ones.
fn content_range(start: u64, len: usize, is_last: bool) -> String {
    let end = start + len as u64;
    let total = if is_last {
        end.to_string()
    } else {
        "*".to_owned()
    };
    if len == 0 {
        format!("bytes */{total}")
    } else {
        format!("bytes {start}-{}/{total}", end - 1)
    }
}

/// What the answer to a PUT means.
fn understood(
    answer: &Response,
    shown: &str,
    is_last: bool,
) -> Result<SessionReply, GcsAttemptError> {
    match answer.status {
        200 | 201 => answer
            .json()
            .map(|resource| SessionReply::Complete(Box::new(resource))),
        308 => Ok(SessionReply::Persisted(persisted_len(answer))),
        404 | 410 => Ok(SessionReply::SessionGone),
        412 => Ok(SessionReply::NameTaken),
        400 if is_last => Ok(SessionReply::Corrupted(answer.refusal())),
        _ => Err(answer.failed(shown, "storage.objects.create")),
    }
}

pub(super) fn taken(name: String) -> StoreError {
    StoreError::AlreadyExists { name }
}

/// How much an answer of 308 says is kept.
fn persisted_len(answer: &Response) -> u64 {
    let range = answer
        .headers
        .get(RANGE)
        .and_then(|range| range.to_str().ok());
    let last: Option<u64> = range.and_then(|range| range.rsplit_once('-')?.1.trim().parse().ok());
    last.map_or(0, |last| last.saturating_add(1))
}

/// What we write of ourselves: numbers, base64 and fixed words.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("numbers, base64 and fixed words are ASCII")
}

/// A content type as a header can carry it. What the service stores is said in JSON, beside it.
fn header_text(content_type: &str) -> &str {
    let is_plain = content_type
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_plain {
        content_type
    } else {
        "application/octet-stream"
    }
}

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
/// An object that is there already is as good if it holds the same bytes.
pub(super) async fn write_single(
    store: &GcsStore,
    name: &str,
    bytes: Bytes,
    sent: SentBytes,
    purpose: UploadKind<'_>,
    about: &ObjectMetadata,
) -> Result<Option<u64>, StoreError> {
    let shown = store.display_name(name);
    let mut retry = store.cloud.retry_loop(format!("upload of {shown}"));
    loop {
        let failed = match try_single(store, name, &bytes, sent.crc32c, purpose, about).await {
            Ok(answer) if answer.is_success() => match answer.json::<ObjectResource>() {
                Ok(resource) => {
                    store.confirm(name, &resource, sent).await?;
                    return Ok(resource.generation());
                }
                Err(failed) => failed,
            },
            // No condition was set: it was the checksum that was refused.
            Ok(answer) if answer.status == 412 && purpose.overwrites() => {
                GcsAttemptError::transient("HTTP 412")
            }
            Ok(answer) if answer.status == 412 => {
                match resolve_single_taken(store, name, sent, purpose).await {
                    Ok(generation) => return Ok(generation),
                    Err(failed) => failed,
                }
            }
            // The bytes were damaged on their way; they are sent again.
            Ok(answer) if answer.status == 400 && !retry.has_failed() => {
                GcsAttemptError::transient(answer.refusal())
            }
            Ok(answer) => answer.failed(&shown, "storage.objects.create"),
            Err(failed) => failed,
        };
        retry.failed(failed).await?;
    }
}

/// The generation of the object that has the name, as far as it is known, where that one is as
/// good.
async fn resolve_single_taken(
    store: &GcsStore,
    name: &str,
    sent: SentBytes,
    purpose: UploadKind<'_>,
) -> Result<Option<u64>, GcsAttemptError> {
    let holds = async |there| store.holds(there, sent).await;
    match store.resource(name).await {
        Ok(there) if holds(&there).await.map_err(GcsAttemptError::Permanent)? => {
            Ok(there.generation())
        }
        // Whoever may not look at parts knows them by their names.
        Err(StoreError::Denied { .. }) if purpose.is_part() => Ok(None),
        Ok(_) | Err(StoreError::Denied { .. }) => {
            Err(GcsAttemptError::Permanent(taken(store.display_name(name))))
        }
        // Nothing has the name: it went meanwhile, or it was the checksum that was refused.
        Err(StoreError::NotFound { .. }) => Err(GcsAttemptError::transient(
            "HTTP 412 for a name that is free",
        )),
        Err(error) => Err(GcsAttemptError::Permanent(error)),
    }
}

/// Sends metadata and bytes in one body of two parts. Each part names its content type: without
/// that of the bytes, which the storage crate leaves out, Google's own test bench falls over.
async fn try_single(
    store: &GcsStore,
    name: &str,
    bytes: &Bytes,
    crc32c: u32,
    purpose: UploadKind<'_>,
    about: &ObjectMetadata,
) -> Result<Response, GcsAttemptError> {
    let options = &store.upload;
    let full = store.full(name);
    let mut query = vec![("uploadType", "multipart"), ("name", full.as_str())];
    query.extend(purpose.query(options));
    let told = ObjectResourceBody {
        crc32c: Some(to_base64(crc32c)),
        ..purpose.described(name, options, &about.attributes)
    };
    let boundary = new_boundary();
    let body = related_body(&boundary, &told, bytes);
    let address = store.cloud.upload_address(&store.bucket, &query);
    let related = format!("multipart/related; boundary={boundary}");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, header_value(&related))]);
    store
        .cloud
        .call_with_pieces(Method::POST, &address, body, headers)
        .await
}

/// Nobody can foresee it, so nothing that is packed can hold it.
fn new_boundary() -> String {
    let [high, low] = [0, 1].map(|half| RandomState::new().hash_one(half));
    format!("kindpack-{high:016x}{low:016x}")
}

/// The body of an upload in one request.
fn related_body(boundary: &str, told: &ObjectResourceBody<'_>, bytes: &Bytes) -> Vec<Bytes> {
    let (content_type, told) = (header_text(told.content_type), json!(told));
    let head = format!(
        "--{boundary}\r\ncontent-type: {JSON}\r\n\r\n{told}\r\n--{boundary}\r\ncontent-type: {content_type}\r\n\r\n"
    );
    let end = format!("\r\n--{boundary}--\r\n");
    vec![head.into(), bytes.clone(), end.into()]
}

/// A CRC-32C as the service spells it.
fn to_base64(crc32c: u32) -> String {
    STANDARD.encode(crc32c.to_be_bytes())
}

#[async_trait]
impl ObjectWriter for ResumableUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes);
        if let Some(found) = &self.found {
            self.kept += bytes.len() as u64;
            let is_longer = found.len() < Some(self.kept);
            return if is_longer { Err(self.taken()) } else { Ok(()) };
        }
        self.filling.extend_from_slice(&bytes);
        while self.found.is_none() && self.filling.len() > PIECE_BYTES {
            self.advance(None).await?;
        }
        Ok(())
    }

    async fn publish(mut self: Box<Self>, about: ObjectMetadata) -> Result<(), StoreError> {
        let sent = self.sent(&about);
        if let Some(found) = self.found.take() {
            let is_same = self.store.holds(&found, sent).await?;
            return if is_same { Ok(()) } else { Err(self.taken()) };
        }
        if self.session.is_none() && self.kept == 0 {
            let bytes = std::mem::take(&mut self.filling).freeze();
            let purpose = UploadKind::Final(&self.making);
            return write_single(&self.store, &self.name, bytes, sent, purpose, &about)
                .await
                .map(|_| ());
        }
        let stored = self.advance(Some(&about)).await?;
        self.session = None;
        if let Some(UploadOutcome::Created(resource)) = stored {
            self.store.confirm(&self.name, &resource, sent).await?;
            self.annotate(&resource, &about).await;
        }
        Ok(())
    }
}

impl Drop for ResumableUpload {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let cloud = self.store.cloud.clone();
        self.store.cloud.defer_cleanup(async move {
            // One try is enough: what is left of a session ends by itself.
            cloud
                .call(Method::DELETE, &session, Bytes::new(), HeaderMap::new())
                .await
                .ok();
        });
    }
}
