//! A prefix of a bucket as a store.
//!
//! Objects are read by `google-cloud-storage`, pinned to the generation that was listed, with an
//! idle time and a bounded resume of our own; listing, metadata, joining and deleting are JSON
//! calls; what is written goes up in one create-only request, in one resumable session, or in parts
//! that are joined. Which of the service's calls are sound, and why these: `docs/cloud-storage.md`.

mod client;
mod multipart;
mod proof;
mod upload;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use google_cloud_storage::model_ext::ReadRange;
use google_cloud_storage::read_object::ReadObjectResponse;
use http::HeaderMap;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use client::{GcsClient, GcsOptions, UploadOptions};

use super::{AT_ONCE, ObjectInfo, ObjectWriter, Store, StoreError, WriteOptions, stat_each};
use crate::google::{TokenSource, USER_AGENT};
use crate::progress::{RequestOutcome, RequestReport};
use crate::runtime::buffers::Buffer;
use crate::store::name_limits::NameFault;
use client::{GcsAttemptError, ObjectResource, RequestUrl, Response, crate_error, segment};
use proof::SentBytes;

/// The longest name of an object.
const MAX_NAME_BYTES: usize = 1_024;

/// What is asked of every object.
const FIELDS: &str =
    "name,size,generation,metageneration,crc32c,updated,contentEncoding,contentType,metadata";

/// Objects below a prefix of a bucket.
#[derive(Debug, Clone)]
pub struct GcsStore {
    cloud: Arc<GcsClient>,
    bucket: String,
    /// Empty, or ending in `/`.
    prefix: String,
    upload: Arc<UploadOptions>,
}

/// What an object is written for.
#[derive(Debug, Clone, Copy)]
enum UploadKind<'a> {
    /// To stand under its own name.
    Final(&'a WriteOptions),
    /// To be a part, named by what it holds: whatever is there is as good.
    Part,
}

impl<'a> UploadKind<'a> {
    fn is_part(self) -> bool {
        matches!(self, UploadKind::Part)
    }

    /// Whether it may take the place of another.
    fn overwrites(self) -> bool {
        matches!(self, UploadKind::Final(making) if making.overwrite)
    }

    /// What is asked of every request that makes an object stand.
    fn query(self, options: &'a UploadOptions) -> Vec<(&'static str, &'a str)> {
        let free = (!self.overwrites()).then_some(("ifGenerationMatch", "0"));
        free.into_iter()
            .chain(options.kms_key.as_deref().map(|key| ("kmsKeyName", key)))
            .collect()
    }

    /// What is said of the object besides its bytes.
    fn described(
        self,
        name: &str,
        options: &'a UploadOptions,
        metadata: &'a BTreeMap<String, String>,
    ) -> ObjectResourceBody<'a> {
        ObjectResourceBody {
            content_type: match self {
                UploadKind::Final(WriteOptions {
                    content_type: Some(content_type),
                    ..
                }) => content_type,
                _ => upload::content_type(name),
            },
            content_encoding: match self {
                UploadKind::Part => None,
                UploadKind::Final(making) => making.content_encoding.as_deref(),
            },
            // The service gives a joined object the class of its parts, which must all have the
            // same one.
            storage_class: options.storage_class.as_deref(),
            metadata,
            crc32c: None,
        }
    }
}

/// What is said of a new object besides its bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectResourceBody<'a> {
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_class: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    /// What the service is to hold the bytes against, where it is known beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    crc32c: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListPage {
    items: Vec<ObjectResource>,
    next_page_token: Option<String>,
}

impl GcsStore {
    /// What lies below `folder` of a bucket; the whole bucket where it is empty.
    pub fn new(cloud: Arc<GcsClient>, bucket: impl Into<String>, folder: &str) -> Self {
        let slash = if folder.is_empty() || folder.ends_with('/') {
            ""
        } else {
            "/"
        };
        GcsStore {
            cloud,
            bucket: bucket.into(),
            prefix: format!("{folder}{slash}"),
            upload: Arc::default(),
        }
    }

    /// The same, where objects are written so.
    #[must_use]
    pub fn with_upload(self, upload: Arc<UploadOptions>) -> Self {
        GcsStore { upload, ..self }
    }

    /// The name in the bucket.
    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The name in the form of the storage crate.
    fn bucket_resource(&self) -> String {
        format!("projects/_/buckets/{}", self.bucket)
    }

    /// What names an object in an address.
    fn object_path(&self, name: &str) -> String {
        format!("/o/{}", segment(&self.full(name)))
    }

    fn object_address(&self, name: &str, query: &[(&str, &str)]) -> RequestUrl {
        let path = self.object_path(name);
        self.cloud.address("object", &self.bucket, &path, query)
    }

    fn compose_address(&self, name: &str, query: &[(&str, &str)]) -> RequestUrl {
        let path = format!("{}/compose", self.object_path(name));
        self.cloud.address("compose", &self.bucket, &path, query)
    }

    /// Refuses a name that no object can have, before anything is sent for it.
    fn check_name(&self, name: &str) -> Result<(), StoreError> {
        if self.prefix.len() + name.len() <= MAX_NAME_BYTES {
            return Ok(());
        }
        Err(StoreError::UnsupportedName {
            name: self.display_name(name),
            fault: NameFault::Object {
                most: MAX_NAME_BYTES,
            },
        })
    }

    fn info(&self, resource: ObjectResource) -> Result<ObjectInfo, GcsAttemptError> {
        let (Some(len), Some(version)) = (resource.len(), resource.generation()) else {
            return Err(GcsAttemptError::transient(
                "the answer lacks size or generation",
            ));
        };
        let name = resource
            .name
            .strip_prefix(&self.prefix)
            .unwrap_or(&resource.name)
            .to_owned();
        let crc32c = resource.crc32c();
        let content_encoding = resource
            .content_encoding
            .filter(|encoding| !encoding.is_empty() && encoding != "identity");
        Ok(ObjectInfo {
            name,
            len,
            version,
            crc32c,
            content_encoding,
            content_type: resource.content_type.filter(|kind| !kind.is_empty()),
            attributes: resource.metadata,
        })
    }

    /// As `info`, for what is not asked again; `name` is what was requested.
    fn listed_info(&self, name: &str, resource: ObjectResource) -> Result<ObjectInfo, StoreError> {
        self.info(resource).map_err(|_| StoreError::Refused {
            name: self.display_name(name),
            found: "the answer lacks size or generation".to_owned(),
        })
    }

    /// One try of a page of a listing.
    async fn page(&self, prefix: &str, token: Option<&str>) -> Result<ListPage, GcsAttemptError> {
        let full = self.full(prefix);
        let fields = format!("items({FIELDS}),nextPageToken");
        let mut query = vec![
            ("prefix", full.as_str()),
            ("maxResults", "1000"),
            ("fields", fields.as_str()),
        ];
        query.extend(token.map(|token| ("pageToken", token)));
        let address = self.cloud.address("list", &self.bucket, "/o", &query);
        let answer = self
            .cloud
            .call(Method::GET, &address, Bytes::new(), HeaderMap::new())
            .await?;
        self.read_page(prefix, &answer)
    }

    /// What an answer says of a page of a listing.
    fn read_page(&self, prefix: &str, answer: &Response) -> Result<ListPage, GcsAttemptError> {
        match answer.status {
            200 => answer.json(),
            _ => Err(answer.failed(&self.display_name(prefix), "storage.objects.list")),
        }
    }

    fn infos(&self, resources: Vec<ObjectResource>) -> Result<Vec<ObjectInfo>, GcsAttemptError> {
        let resources = resources.into_iter();
        resources.map(|resource| self.info(resource)).collect()
    }

    /// The objects of a page, and the token of the next one.
    async fn info_page(
        &self,
        prefix: &str,
        token: Option<&str>,
    ) -> Result<(Vec<ObjectInfo>, Option<String>), GcsAttemptError> {
        let page = self.page(prefix, token).await?;
        Ok((self.infos(page.items)?, page.next_page_token))
    }

    /// Every object whose name begins with `prefix` below this store's own, ordered by name.
    async fn resources(&self, prefix: &str) -> Result<Vec<ObjectResource>, StoreError> {
        let mut retry = self
            .cloud
            .retry_loop(format!("list of {}", self.display_name(prefix)));
        let mut all = BTreeMap::new();
        let mut token: Option<String> = None;
        loop {
            match self.page(prefix, token.as_deref()).await {
                Ok(page) => {
                    let known = all.len();
                    all.extend(
                        page.items
                            .into_iter()
                            .map(|resource| (resource.name.clone(), resource)),
                    );
                    token = page.next_page_token.filter(|token| !token.is_empty());
                    if token.is_none() {
                        return Ok(all.into_values().collect());
                    }
                    // An empty page may stand before others; pages that go on without anything new
                    // are no listing.
                    if all.len() > known {
                        retry.progress();
                    } else {
                        retry.no_progress("pages without a new object").await?;
                    }
                }
                Err(failed) => retry.failed(failed).await?,
            }
        }
    }

    /// What a listing has of some names. `None` where so many others stand between them that to ask
    /// for each takes fewer requests.
    async fn listed(
        &self,
        names: &[String],
    ) -> Result<Option<HashMap<String, ObjectInfo>>, StoreError> {
        let prefix = common_prefix(names);
        let wanted: HashSet<&str> = names.iter().map(String::as_str).collect();
        let mut retry = self
            .cloud
            .retry_loop(format!("list of {}", self.display_name(prefix)));
        let mut found = HashMap::new();
        let mut token: Option<String> = None;
        let mut pages_left = names.len() / AT_ONCE;
        while pages_left > 0 {
            match self.info_page(prefix, token.as_deref()).await {
                Ok((infos, next)) => {
                    retry.progress();
                    pages_left -= 1;
                    let infos = infos
                        .into_iter()
                        .filter(|info| wanted.contains(info.name.as_str()));
                    found.extend(infos.map(|info| (info.name.clone(), info)));
                    token = next.filter(|token| !token.is_empty());
                    if token.is_none() {
                        return Ok(Some(found));
                    }
                }
                Err(failed) => retry.failed(failed).await?,
            }
        }
        Ok(None)
    }

    async fn resource(&self, name: &str) -> Result<ObjectResource, StoreError> {
        let shown = self.display_name(name);
        let address = self.object_address(name, &[("fields", FIELDS)]);
        let mut retry = self.cloud.retry_loop(format!("look at {shown}"));
        loop {
            let told = self
                .cloud
                .call(Method::GET, &address, Bytes::new(), HeaderMap::new())
                .await
                .and_then(|answer| match answer.status {
                    200 => answer.json::<ObjectResource>(),
                    _ => Err(answer.failed(&shown, "storage.objects.get")),
                });
            match told {
                Ok(resource) => return Ok(resource),
                Err(failed) => retry.failed(failed).await?,
            }
        }
    }

    /// Reads a range, in as many attempts as it takes.
    async fn read_once(
        &self,
        object: &ObjectInfo,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, StoreError> {
        let shown = self.display_name(&object.name);
        let mut retry = self.cloud.retry_loop(format!("read of {shown}"));
        let mut out = Buffer::with_room(len);
        while out.len() < len {
            let before = out.len();
            let (start, left) = (offset + before as u64, (len - before) as u64);
            let tried = self.read_some(object, start, left, &mut out).await;
            if out.len() > before {
                retry.progress();
            }
            if let Err(failed) = tried {
                retry.failed(failed).await?;
            }
        }
        Ok(out.freeze())
    }

    /// One try of a read; what came before it failed stays in `out`.
    async fn read_some(
        &self,
        object: &ObjectInfo,
        offset: u64,
        len: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), GcsAttemptError> {
        let begun = Instant::now();
        let tried = self.try_read_some(object, offset, len, out).await;
        let outcome = if tried.is_ok() {
            RequestOutcome::Done
        } else {
            RequestOutcome::Failed
        };
        RequestReport {
            method: "GET",
            resource: "object bytes",
            outcome,
            duration: begun.elapsed(),
        }
        .trace();
        tried
    }

    async fn try_read_some(
        &self,
        object: &ObjectInfo,
        offset: u64,
        len: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), GcsAttemptError> {
        let (source, storage) = self.cloud.storage().await?;
        let attempt = ReadAttempt::new(self, object, source)?;
        let mut read = storage
            .read_object(self.bucket_resource(), self.full(&object.name))
            .set_generation(attempt.generation)
            .set_read_range(ReadRange::segment(offset, len))
            .with_user_agent(USER_AGENT);
        if let Some(payer) = &self.cloud.options().billing_project {
            read = read.with_quota_project(payer.clone());
        }
        let answer = attempt.within_idle_time(read.send()).await?;
        let answer = answer.map_err(|error| attempt.failed(&error))?;
        attempt.receive(answer, out, out.len() as u64 + len).await
    }

    /// Deletes an object, or exactly one generation of it, of which a bucket with versioning keeps
    /// none then; none there is as good.
    async fn delete(&self, name: &str, generation: Option<u64>) -> Result<(), StoreError> {
        let shown = self.display_name(name);
        let generation = generation.map(|generation| generation.to_string());
        let query: Vec<_> = generation
            .as_deref()
            .map(|generation| ("generation", generation))
            .into_iter()
            .collect();
        let address = self.object_address(name, &query);
        let mut retry = self.cloud.retry_loop(format!("delete of {shown}"));
        loop {
            match self
                .cloud
                .call(Method::DELETE, &address, Bytes::new(), HeaderMap::new())
                .await
            {
                Ok(answer) if answer.is_success() || matches!(answer.status, 404 | 412) => {
                    return Ok(());
                }
                Ok(answer) => {
                    retry
                        .failed(answer.failed(&shown, "storage.objects.delete"))
                        .await?
                }
                Err(failed) => retry.failed(failed).await?,
            }
        }
    }
}

impl GcsStore {
    /// Deletes an object if its current generation is the listed one.
    async fn delete_current(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        let shown = self.display_name(&object.name);
        let generation = object.version.to_string();
        let address =
            self.object_address(&object.name, &[("ifGenerationMatch", generation.as_str())]);
        let mut retry = self.cloud.retry_loop(format!("delete of {shown}"));
        loop {
            let answer = self
                .cloud
                .call(Method::DELETE, &address, Bytes::new(), HeaderMap::new())
                .await;
            let failed = match answer {
                Ok(answer) if answer.is_success() => return Ok(()),
                // An earlier attempt did it, and its answer was lost.
                Ok(answer) if answer.status == 404 && retry.has_failed() => return Ok(()),
                Ok(answer) => match answer.failed(&shown, "storage.objects.delete") {
                    GcsAttemptError::Permanent(StoreError::Refused { name, .. })
                        if answer.status == 412 =>
                    {
                        GcsAttemptError::Permanent(StoreError::Changed { name })
                    }
                    failed => failed,
                },
                Err(failed) => failed,
            };
            retry.failed(failed).await?;
        }
    }
}

/// What can be shown of a page of a listing, or of its refusal: for `fuzzing`.
#[cfg(feature = "test-util")]
pub(crate) fn read_listing(status: u16, body: Bytes) -> String {
    let cloud = GcsClient::at("http://127.0.0.1:9", true, GcsOptions::default());
    let store = GcsStore::new(Arc::new(cloud), "bucket", "");
    let answer = Response::without_token(status, body);
    let page = store.read_page("", &answer);
    match page.and_then(|page| store.infos(page.items)) {
        Ok(infos) => format!("{} objects", infos.len()),
        Err(error) => format!("{error:?}"),
    }
}

/// Whether it is an empty object whose name ends in a slash: so consoles mark a folder.
fn is_folder_mark(resource: &ObjectResource) -> bool {
    resource.name.ends_with('/') && resource.len() == Some(0)
}

/// One try of a read, of the generation that was listed.
struct ReadAttempt<'a> {
    object: &'a ObjectInfo,
    shown: String,
    generation: i64,
    source: TokenSource,
    idle: Duration,
}

impl<'a> ReadAttempt<'a> {
    fn new(
        store: &GcsStore,
        object: &'a ObjectInfo,
        source: TokenSource,
    ) -> Result<Self, GcsAttemptError> {
        let shown = store.display_name(&object.name);
        let generation = i64::try_from(object.version).map_err(|_| {
            GcsAttemptError::Permanent(StoreError::Changed {
                name: shown.clone(),
            })
        })?;
        Ok(ReadAttempt {
            object,
            shown,
            generation,
            source,
            idle: store.cloud.options().idle_timeout,
        })
    }

    fn changed(&self) -> GcsAttemptError {
        GcsAttemptError::Permanent(StoreError::Changed {
            name: self.shown.clone(),
        })
    }

    fn failed(&self, error: &google_cloud_storage::Error) -> GcsAttemptError {
        match error.http_status_code() {
            // The generation that was listed is no longer there.
            Some(404 | 412 | 416) => self.changed(),
            _ => crate_error(self.source, error, &self.shown, "storage.objects.get"),
        }
    }

    /// What comes before the service is silent for too long.
    async fn within_idle_time<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, GcsAttemptError> {
        tokio::time::timeout(self.idle, work).await.map_err(|_| {
            GcsAttemptError::transient(format!("nothing within {} s", self.idle.as_secs_f64()))
        })
    }

    /// Appends the answer to `out`, which holds `wanted` bytes then.
    async fn receive(
        &self,
        mut answer: ReadObjectResponse,
        out: &mut Vec<u8>,
        wanted: u64,
    ) -> Result<(), GcsAttemptError> {
        let told = answer.object();
        let is_same_len = u64::try_from(told.size).ok() == Some(self.object.len);
        if told.generation != self.generation || !is_same_len {
            return Err(self.changed());
        }
        while let Some(bytes) = self.within_idle_time(answer.next()).await? {
            let bytes = bytes.map_err(|error| self.failed(&error))?;
            if out.len() as u64 + bytes.len() as u64 > wanted {
                // Something on the way passes over ranges and gives the object from its first byte.
                // It may have done so before.
                out.clear();
                return Err(GcsAttemptError::transient("more bytes than were requested"));
            }
            out.extend_from_slice(&bytes);
        }
        if (out.len() as u64) < wanted {
            let found = "fewer bytes than were requested";
            return Err(GcsAttemptError::transient(found));
        }
        Ok(())
    }
}

/// What all names begin with.
fn common_prefix(names: &[String]) -> &str {
    let Some((first, others)) = names.split_first() else {
        return "";
    };
    let shared = |other: &String| {
        first
            .char_indices()
            .zip(other.chars())
            .find(|((_, a), b)| a != b)
            .map_or(first.len().min(other.len()), |((at, _), _)| at)
    };
    let len = others.iter().map(shared).min().unwrap_or(first.len());
    first
        .get(..len)
        .expect("a difference begins with a character")
}

#[async_trait]
impl Store for GcsStore {
    async fn list(&self) -> Result<Vec<ObjectInfo>, StoreError> {
        let resources = self.resources("").await?;
        if resources.is_empty() {
            return Err(StoreError::NotFound {
                name: self.display_name(""),
                what: "folder: no object has a name that begins with it",
            });
        }
        resources
            .into_iter()
            .filter(|resource| !is_folder_mark(resource))
            .map(|resource| self.listed_info("", resource))
            .collect()
    }

    async fn stat(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        self.check_name(name)?;
        self.listed_info(name, self.resource(name).await?)
    }

    async fn stat_all(&self, names: &[String]) -> Result<Vec<Option<ObjectInfo>>, StoreError> {
        let listed = match self.listed(names).await {
            // Whoever may look at objects need not be allowed to list them.
            Err(StoreError::Denied { .. }) => None,
            listed => listed?,
        };
        match listed {
            Some(mut listed) => Ok(names.iter().map(|name| listed.remove(name)).collect()),
            None => stat_each(self, names).await,
        }
    }

    async fn read(
        &self,
        object: &ObjectInfo,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, StoreError> {
        let shown = self.display_name(&object.name);
        if object
            .len
            .checked_sub(offset)
            .is_none_or(|rest| rest < len as u64)
        {
            return Err(StoreError::Changed { name: shown });
        }
        let mut read_again = false;
        loop {
            let bytes = self.read_once(object, offset, len).await?;
            // Only of a whole object the service's own checksum can be asked.
            let is_whole = len as u64 == object.len;
            let found = crc32c::crc32c(&bytes);
            match object
                .crc32c
                .filter(|expected| is_whole && *expected != found)
            {
                None => return Ok(bytes),
                Some(expected) if read_again => {
                    return Err(StoreError::Corrupt {
                        name: shown,
                        expected,
                        found,
                    });
                }
                Some(_) => read_again = true,
            }
        }
    }

    async fn check_names(&self, names: &[&str]) -> Result<(), StoreError> {
        names.iter().try_for_each(|name| self.check_name(name))
    }

    async fn create(
        &self,
        name: &str,
        making: WriteOptions,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.check_name(name)?;
        let options = &self.upload;
        let is_large = making.expected_len > options.cutoff_bytes.max(options.chunk_bytes as u64);
        if is_large && self.check_name(&multipart::longest_name(name)).is_ok() {
            let writer =
                multipart::MultipartWriter::begin(self.clone(), name.to_owned(), making).await?;
            return Ok(Box::new(writer) as Box<dyn ObjectWriter>);
        }
        Ok(Box::new(upload::ResumableUpload::new(
            self.clone(),
            name.to_owned(),
            making,
        )) as Box<dyn ObjectWriter>)
    }

    async fn remove(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        self.delete(&object.name, Some(object.version)).await
    }

    async fn delete_unchanged(&self, object: &ObjectInfo) -> Result<(), StoreError> {
        self.delete_current(object).await
    }

    fn display_name(&self, name: &str) -> String {
        format!("gs://{}/{}{name}", self.bucket, self.prefix)
    }

    async fn remove_leftovers(&self, object: &ObjectInfo) {
        if !self.upload.keep_parts
            && let Ok(whole) = self.resource(&object.name).await
        {
            multipart::delete_abandoned(self, &object.name, &whole).await;
        }
    }

    fn is_remote(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_prefix_ends_between_characters() {
        let prefix = |names: &[&str]| {
            common_prefix(
                &names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>(),
            )
            .to_owned()
        };
        assert_eq!(prefix(&["a/b/1", "a/b/22", "a/bc"]), "a/b");
        // The letters share their first byte.
        assert_eq!(prefix(&["käse", "köln"]), "k");
        assert_eq!(prefix(&["one"]), "one");
        assert_eq!(prefix(&["one", "one more"]), "one");
        assert_eq!(prefix(&["x", "y"]), "");
        assert_eq!(prefix(&[]), "");
    }
}
