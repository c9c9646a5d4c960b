//! An archive where it lies: opened by its end, read piece by piece, side by side, in order.
//!
//! Knows stores and the container. Every read is strict: local headers, descriptors and pieces are
//! held against directory and manifest whoever reads them. Must not know what is done with the
//! bytes.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

use async_compression::tokio::bufread::DeflateDecoder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use sha2::Digest as _;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _};
use tokio::sync::OnceCell;
use tokio_util::io::StreamReader;

use crate::archive::deflate::{self, DataError, STREAM_END};
use crate::archive::read_ahead::ReadAhead;
use crate::archive::zip::{self, DirectoryEntry, Limits, Profile, Rule, Violation};
use crate::export::inspect::join_crc32c;
use crate::model::{
    Crc32c, EntryItem, KindItem, MANIFEST_FORMAT, MANIFEST_NAME, Manifest, Method, PIECE_LEN_BYTES,
    Pair, SUMS_NAME, Selector, Sha256,
};
use crate::runtime::buffers::Buffer;
use crate::runtime::workers::{WorkerLost, Workers};
use crate::store::{ObjectInfo, Store, StoreError};

/// Manifests longer than this are refused: they are held in memory.
const MANIFEST_MAX_BYTES: u64 = 1 << 30;

/// Manifests longer than this are not kept beside what is made of them.
const MANIFEST_HELD_MAX_BYTES: usize = 8 << 20;

/// What is read first of an archive in a bucket.
const REMOTE_TAIL_BYTES: u64 = 512 << 10;

/// What a piece in flight may weigh: inflated, deflated, and what is made of it.
const PIECE_FOOTPRINT_BYTES: u64 = 4 * PIECE_LEN_BYTES as u64;

/// What a piece can deflate to at the most: nine bits for each byte, which the fastest level needs
/// for data that cannot be deflated.
const DEFLATED_PIECE_MAX_BYTES: usize = PIECE_LEN_BYTES + (PIECE_LEN_BYTES >> 3) + 4096;

/// Small pieces that follow each other are read and worked on together up to this length: by itself
/// each costs more to hand over than to read.
const BATCH_BYTES: u64 = 1 << 20;

/// What may lie between two pieces of a batch, and is read in vain.
const BATCH_GAP_BYTES: u64 = 16 << 10;

/// Which part of the memory for buffers may hold what was read ahead.
const AHEAD_SHARE: u64 = 8;

/// A local header with the longest name and all extra fields that kindpack writes.
const HEADER_MAX_BYTES: u64 = 30 + 65_535 + 64;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No zip ends where the archive ends.
    #[error("{archive}: not a zip, or cut off at the end")]
    NotAZip {
        /// The archive.
        archive: String,
    },
    /// The container breaks a rule.
    #[error("{archive}: {violation}")]
    Structure {
        /// The archive.
        archive: String,
        /// The rule and what broke it.
        violation: Violation,
    },
    /// There is no manifest where it must be.
    #[error("{archive}: expected manifest.json, stored, as the last entry, found {found}")]
    NoManifest {
        /// The archive.
        archive: String,
        /// What stands there.
        found: String,
    },
    /// The manifest cannot be read.
    #[error("{archive}: manifest.json: expected {expected}, found {found}")]
    BadManifest {
        /// The archive.
        archive: String,
        /// What it should hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// An entry's data are not what they must be.
    #[error("entry {entry} is damaged: {fault}")]
    Data {
        /// The entry.
        entry: String,
        /// What is wrong.
        fault: String,
    },
    /// A worker was lost.
    #[error(transparent)]
    Worker(#[from] WorkerLost),
}

impl ArchiveError {
    fn data(entry: &str, error: DataError) -> Self {
        ArchiveError::Data {
            entry: entry.to_owned(),
            fault: error.to_string(),
        }
    }

    /// Whether bytes are not what they must be. They may have been damaged on their way.
    pub fn is_damage(&self) -> bool {
        !matches!(self, ArchiveError::Store(_) | ArchiveError::Worker(_))
    }
}

/// The container of an archive: its directory, read and found sound.
#[derive(Debug)]
pub struct Container {
    store: Arc<dyn Store>,
    object: ObjectInfo,
    title: String,
    profile: Profile,
    /// The end of the archive, directory included, as it was read.
    tail: Bytes,
    entries: Vec<DirectoryEntry>,
    ahead: ReadAhead,
    /// Whether the end came as it is stored, where that was asked.
    tail_is_sound: OnceCell<bool>,
}

/// An archive of kindpack, opened.
#[derive(Debug)]
pub struct ArchiveFile {
    container: Container,
    by_name: HashMap<String, usize>,
    manifest: Manifest,
    /// The numbers of the manifest's kinds by namespace and kind, in which a pair is found by
    /// halving.
    kinds_in_order: Vec<u32>,
    /// Entries that the manifest lists more than once: exports of several pairs.
    shared: HashSet<String>,
}

/// A piece that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceRef {
    /// Which of the entries that were asked for.
    pub entry: usize,
    /// Where the piece begins in its entry, inflated.
    pub offset: u64,
    /// Its length, inflated.
    pub len: usize,
    /// Whether it ends its entry.
    pub last: bool,
    compressed_offset: u64,
    compressed_len: u64,
    /// The checksum of the entry's data in the zip, where the manifest has one.
    packed_crc32c: Option<Crc32c>,
    /// Which of the directory's entries.
    place: usize,
}

impl PieceRef {
    /// Whether it is all of its entry.
    pub fn is_whole(&self) -> bool {
        self.offset == 0 && self.last
    }
}

/// What is made of a piece, and whether the piece itself is sound as far as that shows.
#[derive(Debug)]
pub enum Reading<T> {
    /// Nothing is wrong with the piece.
    Sound(T),
    /// The piece is not what it must be. From a service it is read once more: it may have been
    /// damaged on its way.
    Doubtful(T),
}

impl<T> Reading<T> {
    fn is_sound(&self) -> bool {
        matches!(self, Reading::Sound(_))
    }

    fn into_inner(self) -> T {
        match self {
            Reading::Sound(inner) | Reading::Doubtful(inner) => inner,
        }
    }
}

impl<T, E> From<Result<T, E>> for Reading<Result<T, E>> {
    fn from(result: Result<T, E>) -> Self {
        if result.is_ok() {
            Reading::Sound(result)
        } else {
            Reading::Doubtful(result)
        }
    }
}

/// A piece with what came of it, and the checksum of what it was made of.
type Answer<T> = (PieceRef, Result<(T, u32), ArchiveError>);

/// Bytes of an archive as they lie there.
#[derive(Debug)]
pub struct Stored {
    /// Where they begin.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

impl Container {
    /// Reads the end of an archive and its directory.
    ///
    /// # Errors
    /// [`ArchiveError::Structure`] names the rule that is broken.
    pub async fn open(
        store: Arc<dyn Store>,
        object: ObjectInfo,
        title: String,
        profile: Profile,
    ) -> Result<Self, ArchiveError> {
        let opened =
            Container::open_once(store.clone(), object.clone(), title.clone(), profile).await;
        match opened {
            Err(error) if error.is_damage() && store.is_remote() => {
                Container::open_once(store, object, title, profile).await
            }
            opened => opened,
        }
    }

    async fn open_once(
        store: Arc<dyn Store>,
        object: ObjectInfo,
        title: String,
        profile: Profile,
    ) -> Result<Self, ArchiveError> {
        let broken = |violation: Violation| match violation.rule {
            Rule::EndRecord => ArchiveError::NotAZip {
                archive: title.clone(),
            },
            _ => ArchiveError::Structure {
                archive: title.clone(),
                violation,
            },
        };
        let end_len = zip::tail_len(object.len);
        // A service answers a longer range in the same time: mostly directory and manifest come
        // along.
        let tail_len = if store.is_remote() {
            object.len.min(REMOTE_TAIL_BYTES).max(end_len)
        } else {
            end_len
        };
        let mut tail = store
            .read(&object, object.len - tail_len, tail_len as usize)
            .await?;
        let end = tail.slice(tail.len() - end_len as usize..);
        let place = zip::locate(&end, object.len, profile).map_err(broken)?;
        if place.in_tail(&tail, object.len).is_none() {
            // The directory is bounded by the rule that located it.
            tail = store
                .read(&object, place.offset, (object.len - place.offset) as usize)
                .await?;
        }
        let directory = place.in_tail(&tail, object.len).unwrap_or_default();
        let entries =
            zip::parse_directory(directory, &place, profile, &Limits::NONE).map_err(broken)?;
        let ahead = ReadAhead::new(store.clone(), object.clone());
        Ok(Container {
            store,
            object,
            title,
            profile,
            tail,
            entries,
            ahead,
            tail_is_sound: OnceCell::new(),
        })
    }

    /// The entries, in the directory's order.
    pub fn entries(&self) -> &[DirectoryEntry] {
        &self.entries
    }

    /// What the archive is called in messages.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The archive as its store lists it.
    pub fn object(&self) -> &ObjectInfo {
        &self.object
    }

    /// The store that holds the archive.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The archive's last bytes from some offset on, directory included: what a second reader needs
    /// to see the same entries.
    pub fn tail(&self) -> (u64, &Bytes) {
        (self.object.len - self.tail.len() as u64, &self.tail)
    }

    /// Bytes of the archive, from memory where they belong to its end.
    async fn fetch(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let (start, tail) = self.tail();
        let held = offset
            .checked_sub(start)
            .and_then(|skip| usize::try_from(skip).ok());
        match held
            .and_then(|skip| Some(skip..skip.checked_add(len)?))
            .filter(|range| range.end <= tail.len())
        {
            Some(range) => Ok(tail.slice(range)),
            None => self.store.read(&self.object, offset, len).await,
        }
    }

    /// Holds the archive's end from `offset` on, read at once.
    async fn hold_from(&mut self, offset: u64) -> Result<(), ArchiveError> {
        let start = self.tail().0;
        if let Some(missing) = start.checked_sub(offset).filter(|missing| *missing > 0) {
            let before = self
                .store
                .read(
                    &self.object,
                    offset,
                    usize::try_from(missing).unwrap_or(usize::MAX),
                )
                .await?;
            self.tail = [before, std::mem::take(&mut self.tail)].concat().into();
        }
        Ok(())
    }

    /// Reads the end once more, where an entry contradicts the directory: it may be the directory
    /// that was damaged on its way.
    async fn check_tail(&self) -> Result<(), StoreError> {
        let (offset, tail) = self.tail();
        let read =
            || async { Ok(self.store.read(&self.object, offset, tail.len()).await? == *tail) };
        if *self.tail_is_sound.get_or_try_init(read).await? {
            return Ok(());
        }
        let (call, found) = (
            format!("read of {}", self.title),
            "a directory that was damaged on its way".to_owned(),
        );
        Err(StoreError::Service {
            call,
            tries: 1,
            seconds: 0,
            found,
        })
    }

    /// Reads the manifest, which is stored as it is. A short one is held from then on; a long one
    /// is in memory only until it is dropped.
    async fn read_manifest(&mut self, entry: &DirectoryEntry) -> Result<Bytes, ArchiveError> {
        let len = usize::try_from(entry.end_offset.saturating_sub(entry.header_offset))
            .unwrap_or(usize::MAX);
        if len <= MANIFEST_HELD_MAX_BYTES {
            self.hold_from(entry.header_offset).await?;
        }
        let read = self.fetch(entry.header_offset, len).await?;
        let local = zip::check_local_header(entry, &read, self.profile)
            .map_err(|violation| self.broken(violation))?;
        let begin = usize::try_from(local.data_offset.saturating_sub(entry.header_offset))
            .unwrap_or(usize::MAX);
        let end = usize::try_from(entry.compressed_len)
            .ok()
            .and_then(|len| begin.checked_add(len))
            .filter(|end| *end <= read.len());
        let Some(end) = end else {
            let error = DataError::TooShort {
                expected: entry.compressed_len,
                found: read.len().saturating_sub(begin) as u64,
            };
            return Err(ArchiveError::data(&entry.name, error));
        };
        let descriptor = read.get(end..).unwrap_or_default();
        zip::check_descriptor(entry, descriptor, self.profile)
            .map_err(|violation| self.broken(violation))?;
        let data = read.slice(begin..end);
        match crc32fast::hash(&data) {
            found if found != entry.crc32 => Err(ArchiveError::data(
                &entry.name,
                DataError::WrongCrc32 {
                    expected: entry.crc32,
                    found,
                },
            )),
            _ => Ok(data),
        }
    }

    /// Hands on the archive's bytes from `offset` to its end, a piece at a time.
    ///
    /// # Errors
    /// What the store says.
    pub async fn read_from(
        &self,
        offset: u64,
        mut take: impl FnMut(Bytes),
    ) -> Result<(), StoreError> {
        let mut offset = offset;
        while offset < self.object.len {
            let read = self
                .fetch(
                    offset,
                    (self.object.len - offset).min(PIECE_LEN_BYTES as u64) as usize,
                )
                .await?;
            offset += read.len() as u64;
            take(read);
        }
        Ok(())
    }

    fn broken(&self, violation: Violation) -> ArchiveError {
        ArchiveError::Structure {
            archive: self.title.clone(),
            violation,
        }
    }

    /// The archive's bytes from `start` to `end`, as a stream that holds one read at a time.
    fn range(&self, start: u64, end: u64) -> impl AsyncBufRead {
        let reads = stream::unfold(start, move |offset| async move {
            let len = end.saturating_sub(offset).min(PIECE_LEN_BYTES as u64);
            if len == 0 {
                return None;
            }
            let read = self
                .fetch(offset, len as usize)
                .await
                .map_err(io::Error::other);
            Some((read, offset + len))
        });
        StreamReader::new(Box::pin(reads))
    }

    /// Reads one entry from its first to its last byte as one stream, without pieces, and hands its
    /// bytes on.
    ///
    /// Header, descriptor, both lengths, checksum and the end of the deflate stream are checked; no
    /// more is inflated than is claimed.
    ///
    /// # Errors
    /// [`ArchiveError::Structure`] and [`ArchiveError::Data`].
    pub async fn read_entry(
        &self,
        entry: &DirectoryEntry,
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<(), ArchiveError> {
        let header = self
            .fetch(entry.header_offset, entry.header_max_len() as usize)
            .await?;
        let local = zip::check_local_header(entry, &header, self.profile)
            .map_err(|violation| self.broken(violation))?;
        let data_end = local.data_offset + entry.compressed_len;
        let descriptor = self.fetch(data_end, local.descriptor_len as usize).await?;
        zip::check_descriptor(entry, &descriptor, self.profile)
            .map_err(|violation| self.broken(violation))?;

        let data = self.range(local.data_offset, data_end);
        let failed = |error: io::Error| match error.downcast::<StoreError>() {
            Ok(error) => ArchiveError::Store(error),
            Err(error) => ArchiveError::Data {
                entry: entry.name.clone(),
                fault: format!("expected a sound deflate stream, found {error}"),
            },
        };
        let mut crc32 = crc32fast::Hasher::new();
        let mut len = 0;
        let mut take = |bytes: &[u8]| {
            crc32.update(bytes);
            sink(bytes);
        };
        match entry.method {
            Method::Store => copy(pin!(data), entry.len, &mut len, &mut take)
                .await
                .map_err(failed)?,
            Method::Deflate => {
                let mut inflating = pin!(DeflateDecoder::new(Box::pin(data)));
                copy(inflating.as_mut(), entry.len, &mut len, &mut take)
                    .await
                    .map_err(failed)?;
                let mut rest = [0; 1];
                let behind = inflating
                    .get_mut()
                    .get_mut()
                    .read(&mut rest)
                    .await
                    .map_err(failed)?;
                if behind > 0 {
                    return Err(ArchiveError::data(
                        &entry.name,
                        DataError::EndsEarly {
                            compressed_len: entry.compressed_len,
                        },
                    ));
                }
            }
        }
        let found = crc32.finalize();
        if len > entry.len {
            return Err(ArchiveError::data(
                &entry.name,
                DataError::TooLong {
                    expected: entry.len,
                },
            ));
        }
        if len < entry.len {
            return Err(ArchiveError::data(
                &entry.name,
                DataError::TooShort {
                    expected: entry.len,
                    found: len,
                },
            ));
        }
        if found != entry.crc32 {
            return Err(ArchiveError::data(
                &entry.name,
                DataError::WrongCrc32 {
                    expected: entry.crc32,
                    found,
                },
            ));
        }
        Ok(())
    }
}

/// Hands on all bytes of a stream, and stops as soon as there are more than `claimed`.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    claimed: u64,
    len: &mut u64,
    take: &mut (dyn FnMut(&[u8]) + Send),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while *len <= claimed {
        let got = from.read(&mut buffer).await?;
        if got == 0 {
            break;
        }
        *len += got as u64;
        take(buffer.get(..got).unwrap_or_default());
    }
    Ok(())
}

impl ArchiveFile {
    /// Opens an archive: its end, its directory, its manifest, and that the two agree. No other
    /// entry is read.
    ///
    /// # Errors
    /// [`ArchiveError`], with the rule or the field that is broken.
    pub async fn open(
        store: Arc<dyn Store>,
        object: ObjectInfo,
        title: String,
    ) -> Result<Self, ArchiveError> {
        let opened = ArchiveFile::open_once(store.clone(), object.clone(), title.clone()).await;
        match opened {
            Err(error) if error.is_damage() && store.is_remote() => {
                ArchiveFile::open_once(store, object, title).await
            }
            opened => opened,
        }
    }

    async fn open_once(
        store: Arc<dyn Store>,
        object: ObjectInfo,
        title: String,
    ) -> Result<Self, ArchiveError> {
        let mut container = match Container::open_once(
            store.clone(),
            object.clone(),
            title.clone(),
            Profile::Sealed,
        )
        .await
        {
            // A zip of somebody else breaks rules that only kindpack's archives keep; that it lacks
            // a manifest says more.
            Err(error @ ArchiveError::Structure { .. }) => {
                match Container::open_once(store, object, title, Profile::AnyZip).await {
                    Ok(other)
                        if other
                            .entries
                            .iter()
                            .all(|entry| entry.name != MANIFEST_NAME) =>
                    {
                        other
                    }
                    _ => return Err(error),
                }
            }
            container => container?,
        };
        let archive = || container.title.clone();
        let last = match container.entries.last() {
            Some(last)
                if last.name == MANIFEST_NAME
                    && last.method == Method::Store
                    && last.len <= MANIFEST_MAX_BYTES =>
            {
                last
            }
            Some(last) => {
                return Err(ArchiveError::NoManifest {
                    archive: archive(),
                    found: format!("{:?}, {:?} of {} bytes", last.name, last.method, last.len),
                });
            }
            None => {
                return Err(ArchiveError::NoManifest {
                    archive: archive(),
                    found: "no entry at all".to_owned(),
                });
            }
        };
        let last = last.clone();
        let bytes = container.read_manifest(&last).await?;
        let archive = || container.title.clone();
        let bad = |expected: &str, found: String| ArchiveError::BadManifest {
            archive: archive(),
            expected: expected.to_owned(),
            found,
        };
        #[derive(serde::Deserialize)]
        struct Format {
            format: String,
        }
        let Format { format } =
            serde_json::from_slice(&bytes).map_err(|error| bad("a manifest", error.to_string()))?;
        if format != MANIFEST_FORMAT {
            return Err(bad(
                &format!("format {MANIFEST_FORMAT:?}"),
                format!("{format:?}"),
            ));
        }
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| bad("a manifest", error.to_string()))?;
        drop(bytes);
        let mut kinds_in_order: Vec<u32> = (0..).take(manifest.kinds.len()).collect();
        kinds_in_order.sort_by_key(|number| {
            manifest
                .kinds
                .get(*number as usize)
                .map(|item| (&item.namespace, &item.kind))
        });
        let by_name = container
            .entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (entry.name.clone(), index))
            .collect();
        let mut archive = ArchiveFile {
            container,
            by_name,
            manifest,
            kinds_in_order,
            shared: HashSet::new(),
        };
        archive.shared = archive.check_manifest()?;
        Ok(archive)
    }

    /// Whether manifest and directory tell of the same entries. Gives the entries that are listed
    /// more than once.
    fn check_manifest(&self) -> Result<HashSet<String>, ArchiveError> {
        let bad = |expected: String, found: String| {
            Err(ArchiveError::BadManifest {
                archive: self.container.title.clone(),
                expected,
                found,
            })
        };
        let manifest = &self.manifest;
        let mut listed: HashMap<&str, &EntryItem> = HashMap::new();
        let mut shared = HashSet::new();
        let under_kinds = manifest.kinds.iter().flat_map(|kind| &kind.entries).chain(
            manifest
                .empty_exports
                .iter()
                .flat_map(|export| &export.entries),
        );
        for item in under_kinds
            .chain(&manifest.companions)
            .chain([&manifest.sums])
        {
            if let Some(other) = listed.insert(&item.name, item) {
                if other != item {
                    return bad(
                        format!("one description of {:?}", item.name),
                        format!("{} bytes and {} bytes", other.bytes, item.bytes),
                    );
                }
                if !shared.contains(&item.name) {
                    shared.insert(item.name.clone());
                }
                continue;
            }
            let Some(entry) = self
                .by_name
                .get(&item.name)
                .and_then(|index| self.container.entries.get(*index))
            else {
                return bad(
                    "entries that are in the archive".to_owned(),
                    format!("{:?}, which is not", item.name),
                );
            };
            let piece = PIECE_LEN_BYTES as u64;
            let pieces = if entry.method == Method::Deflate {
                item.bytes.div_ceil(piece)
            } else {
                0
            };
            let compressed = match entry.method {
                Method::Store => item.bytes,
                Method::Deflate => {
                    item.pieces.iter().map(|len| u64::from(*len)).sum::<u64>()
                        + STREAM_END.len() as u64
                }
            };
            // What is read at once is bounded by what a piece can deflate to, whatever the manifest
            // says.
            if let Some(long) = item
                .pieces
                .iter()
                .find(|len| **len as usize > DEFLATED_PIECE_MAX_BYTES)
            {
                return bad(
                    format!(
                        "pieces of {:?} of at most {DEFLATED_PIECE_MAX_BYTES} bytes",
                        item.name
                    ),
                    long.to_string(),
                );
            }
            if entry.sealed_data_offset() - entry.header_offset > HEADER_MAX_BYTES {
                return bad(
                    format!("data of {:?} behind its header", item.name),
                    format!("them at {}", entry.sealed_data_offset()),
                );
            }
            if item.bytes != entry.len
                || compressed != entry.compressed_len
                || pieces != item.pieces.len() as u64
            {
                let found = format!(
                    "{} bytes in {} pieces of {compressed}",
                    item.bytes,
                    item.pieces.len()
                );
                return bad(
                    format!(
                        "{:?} of {} bytes, deflated to {}",
                        item.name, entry.len, entry.compressed_len
                    ),
                    found,
                );
            }
        }
        for entry in &self.container.entries {
            if entry.name != MANIFEST_NAME && !listed.contains_key(entry.name.as_str()) {
                return bad(
                    "every entry of the archive".to_owned(),
                    format!("no word of {:?}", entry.name),
                );
            }
        }
        if manifest.sums.name != SUMS_NAME || listed.len() + 1 != self.container.entries.len() {
            return bad(
                format!("{SUMS_NAME} and each entry once"),
                format!(
                    "{} entries of {}",
                    listed.len() + 1,
                    self.container.entries.len()
                ),
            );
        }
        Ok(shared)
    }

    /// What the archive holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's item of one pair.
    pub fn kind(&self, pair: &Pair) -> Option<&KindItem> {
        let item = |number: &u32| self.manifest.kinds.get(*number as usize);
        let order = |number: &u32| {
            item(number)
                .map(|item| (&item.namespace, &item.kind))
                .cmp(&Some((&pair.namespace, &pair.kind)))
        };
        let found = self.kinds_in_order.binary_search_by(order).ok()?;
        self.kinds_in_order.get(found).and_then(item)
    }

    /// Whether the manifest lists an entry more than once.
    pub fn is_shared(&self, entry: &EntryItem) -> bool {
        self.shared.contains(&entry.name)
    }

    /// The archive's container.
    pub fn container(&self) -> &Container {
        &self.container
    }

    fn entry(&self, name: &str) -> Option<&DirectoryEntry> {
        self.container.entries.get(*self.by_name.get(name)?)
    }

    /// CRC-32 of an entry, as the directory has it.
    pub fn crc32(&self, name: &str) -> Option<u32> {
        self.entry(name).map(|entry| entry.crc32)
    }

    /// The pairs that some selector chooses; all of them where there is no selector. A selector
    /// that chooses none is given back.
    pub fn choose<'a>(&self, selectors: &'a [Selector]) -> Result<Vec<&KindItem>, &'a Selector> {
        let kinds = &self.manifest.kinds;
        if let Some(idle) = selectors
            .iter()
            .find(|selector| !kinds.iter().any(|kind| selector.matches(&kind.pair())))
        {
            return Err(idle);
        }
        Ok(kinds
            .iter()
            .filter(|kind| {
                selectors.is_empty()
                    || selectors
                        .iter()
                        .any(|selector| selector.matches(&kind.pair()))
            })
            .collect())
    }

    /// Entries as they follow each other in the archive.
    pub fn in_order(&self, mut items: Vec<EntryItem>) -> Vec<EntryItem> {
        items.sort_by_key(|item| self.entry(&item.name).map(|entry| entry.header_offset));
        items
    }

    fn pieces(&self, index: usize, item: &EntryItem) -> Vec<PieceRef> {
        let Some(&place) = self.by_name.get(&item.name) else {
            return Vec::new();
        };
        let Some(entry) = self.container.entries.get(place) else {
            return Vec::new();
        };
        let count = item.bytes.div_ceil(PIECE_LEN_BYTES as u64).max(1);
        let mut compressed_offset = entry.sealed_data_offset();
        (0..count)
            .map(|number| {
                let offset = number * PIECE_LEN_BYTES as u64;
                let len = (item.bytes - offset).min(PIECE_LEN_BYTES as u64);
                let compressed_len = match entry.method {
                    Method::Store => len,
                    Method::Deflate => item
                        .pieces
                        .get(number as usize)
                        .copied()
                        .map_or(0, u64::from),
                };
                let last = number + 1 == count;
                let (len, packed_crc32c) = (len as usize, item.packed_crc32c);
                let piece = PieceRef {
                    entry: index,
                    offset,
                    len,
                    last,
                    compressed_offset,
                    compressed_len,
                    packed_crc32c,
                    place,
                };
                compressed_offset += compressed_len;
                piece
            })
            .collect()
    }

    fn pieces_of<'a>(
        &'a self,
        items: impl IntoIterator<Item = &'a EntryItem> + 'a,
    ) -> impl Iterator<Item = PieceRef> + 'a {
        items
            .into_iter()
            .enumerate()
            .flat_map(|(index, item)| self.pieces(index, item))
    }

    /// Reads entries piece by piece, does `work` with each on a worker, and gives the answers in
    /// order. The first `skip` pieces are left out.
    ///
    /// A piece that is damaged gives an error in its place, and the others still come. Where the
    /// store fails nothing comes after its error: each of the others would be tried for as long.
    pub fn read<'a, T: Send + 'static>(
        self: &'a Arc<Self>,
        items: &'a [EntryItem],
        skip: u64,
        workers: &'a Workers,
        work: impl Fn(PieceRef, Bytes) -> Reading<T> + Clone + Send + Sync + 'static,
    ) -> impl Stream<Item = (PieceRef, Result<T, ArchiveError>)> + 'a {
        let work = move |piece, raw, _| work(piece, raw);
        self.read_with(items, skip, workers, work)
    }

    /// As [`ArchiveFile::read`], and `work` also gets the archive's own bytes of each piece: with
    /// the header before the first one, and what stands behind the last one.
    pub fn read_with<'a, T: Send + 'static>(
        self: &'a Arc<Self>,
        items: &'a [EntryItem],
        skip: u64,
        workers: &'a Workers,
        work: impl Fn(PieceRef, Bytes, Stored) -> Reading<T> + Clone + Send + Sync + 'static,
    ) -> impl Stream<Item = (PieceRef, Result<T, ArchiveError>)> + 'a {
        let pieces = self.pieces_of(items);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let jobs = self.batches(pieces.skip(skip)).map(move |batch| {
            let (archive, workers, work) = (self.clone(), workers.clone(), work.clone());
            let first = batch.first().copied();
            let task = tokio::spawn(async move { archive.read_batch(batch, &workers, work).await });
            async move {
                let lost = |lost| {
                    first
                        .map(|piece| (piece, Err(ArchiveError::Worker(WorkerLost(lost)))))
                        .into_iter()
                        .collect()
                };
                task.await.unwrap_or_else(lost)
            }
        });
        let mut packed = Packed::default();
        stream::iter(jobs)
            .buffered(workers.window(PIECE_FOOTPRINT_BYTES))
            .flat_map(stream::iter)
            .map(move |(piece, read)| {
                let mut join = |crc32c| {
                    items
                        .get(piece.entry)
                        .map_or(Ok(()), |item| packed.join(item, piece, crc32c))
                };
                (
                    piece,
                    read.and_then(|(done, crc32c)| join(crc32c).map(|()| done)),
                )
            })
    }

    /// Begins to read the outputs of pairs that will be read one after the other: the first bytes
    /// of each pair, those of several where they follow each other. Of a small pair that is all.
    /// From this machine nothing is read ahead.
    pub fn read_ahead(&self, pairs: impl IntoIterator<Item = Pair>, workers: &Workers) {
        if !self.container.store.is_remote() {
            return;
        }
        let kinds: HashMap<Pair, &KindItem> = self
            .manifest
            .kinds
            .iter()
            .map(|kind| (kind.pair(), kind))
            .collect();
        let spans = pairs.into_iter().filter_map(|pair| {
            let batch = self
                .batches(self.pieces_of(kinds.get(&pair)?.outputs()))
                .next()?;
            Some(self.span(*batch.first()?).0..self.span(*batch.last()?).1)
        });
        let mut joined: Vec<Range<u64>> = Vec::new();
        for span in spans {
            match joined.last_mut() {
                Some(last)
                    if span
                        .start
                        .checked_sub(last.end)
                        .is_some_and(|gap| gap <= BATCH_GAP_BYTES)
                        && span.end - last.start <= BATCH_BYTES =>
                {
                    last.end = span.end;
                }
                _ => joined.push(span),
            }
        }
        self.container
            .ahead
            .begin(joined, workers.memory() / AHEAD_SHARE);
    }

    /// Pieces as they are read together: those that are small and lie behind each other, and each
    /// other one alone.
    fn batches<'a>(
        &'a self,
        pieces: impl Iterator<Item = PieceRef> + 'a,
    ) -> impl Iterator<Item = Vec<PieceRef>> + 'a {
        let mut pieces = pieces.peekable();
        std::iter::from_fn(move || {
            let first = pieces.next()?;
            let (start, mut end) = self.span(first);
            let (mut batch, mut inflated) = (vec![first], first.len as u64);
            while let Some(next) = pieces.next_if(|next| {
                let (next_start, next_end) = self.span(*next);
                next_start
                    .checked_sub(end)
                    .is_some_and(|gap| gap <= BATCH_GAP_BYTES)
                    && next_end
                        .saturating_sub(start)
                        .max(inflated + next.len as u64)
                        <= BATCH_BYTES
            }) {
                (end, inflated) = (self.span(next).1, inflated + next.len as u64);
                batch.push(next);
            }
            Some(batch)
        })
    }

    /// Where a piece lies in the archive. The first one brings its entry's header along, the last
    /// one what stands behind the data: no byte of the archive is passed over.
    fn span(&self, piece: PieceRef) -> (u64, u64) {
        let entry = self.container.entries.get(piece.place);
        let start = entry
            .filter(|_| piece.offset == 0)
            .map_or(piece.compressed_offset, |entry| entry.header_offset);
        let end = entry
            .filter(|_| piece.last)
            .map_or(piece.compressed_offset + piece.compressed_len, |entry| {
                entry.end_offset
            });
        (start, end)
    }

    /// Reads pieces at once, and works on them one after the other. What a service gives damaged is
    /// read once more.
    async fn read_batch<T: Send + 'static>(
        self: Arc<Self>,
        batch: Vec<PieceRef>,
        workers: &Workers,
        work: impl Fn(PieceRef, Bytes, Stored) -> Reading<T> + Clone + Send + 'static,
    ) -> Vec<Answer<T>> {
        let (Some(first), Some(last)) = (batch.first().copied(), batch.last().copied()) else {
            return Vec::new();
        };
        let (start, end) = (self.span(first).0, self.span(last).1);
        let len = end
            .checked_sub(start)
            .and_then(|len| usize::try_from(len).ok())
            .unwrap_or_default();
        let (store, object) = (&self.container.store, &self.container.object);
        let read = match self.container.ahead.take(start, len).await {
            Some(read) => read,
            None => store.read(object, start, len).await,
        };
        let read = match read {
            Ok(read) => read,
            // A file that cannot be read in one place may be read in the others: each piece has its
            // own answer.
            Err(StoreError::Io { .. }) if batch.len() > 1 => {
                let mut answers = Vec::new();
                for piece in batch {
                    answers.extend(
                        Box::pin(self.clone().read_batch(vec![piece], workers, work.clone())).await,
                    );
                }
                return answers;
            }
            Err(error) => return vec![(first, Err(error.into()))],
        };
        let mut answers = self
            .work_on(batch, start, read, workers, work.clone())
            .await;
        let is_doubtful = |(_, answer): &Answer<Reading<T>>| match answer {
            Ok((reading, _)) => !reading.is_sound(),
            Err(error) => error.is_damage(),
        };
        let doubtful: Vec<PieceRef> = answers
            .iter()
            .filter(|answer| is_doubtful(answer))
            .map(|(piece, _)| *piece)
            .collect();
        if store.is_remote()
            && let Some(first) = doubtful.first().copied()
        {
            match store.read(object, start, len).await {
                Ok(read) => {
                    let mut again = self
                        .work_on(doubtful, start, read, workers, work)
                        .await
                        .into_iter()
                        .peekable();
                    for answer in &mut answers {
                        if let Some(other) = again.next_if(|other| other.0 == answer.0) {
                            *answer = other;
                        }
                    }
                    if answers
                        .iter()
                        .any(|(_, answer)| matches!(answer, Err(ArchiveError::Structure { .. })))
                        && let Err(error) = self.container.check_tail().await
                    {
                        return vec![(first, Err(error.into()))];
                    }
                }
                Err(error) => {
                    answers.truncate(
                        answers
                            .iter()
                            .position(|(piece, _)| *piece == first)
                            .unwrap_or_default(),
                    );
                    answers.push((first, Err(error.into())));
                }
            }
        }
        answers
            .into_iter()
            .map(|(piece, answer)| {
                (
                    piece,
                    answer.map(|(reading, crc32c)| (reading.into_inner(), crc32c)),
                )
            })
            .collect()
    }

    /// Works on pieces whose bytes were read from `start` on.
    async fn work_on<T: Send + 'static>(
        self: &Arc<Self>,
        pieces: Vec<PieceRef>,
        start: u64,
        read: Bytes,
        workers: &Workers,
        work: impl Fn(PieceRef, Bytes, Stored) -> Reading<T> + Send + 'static,
    ) -> Vec<Answer<Reading<T>>> {
        let (archive, first) = (self.clone(), pieces.first().copied());
        let worked = workers.run(move || {
            let mut answers = Vec::with_capacity(pieces.len());
            for piece in pieces {
                let (from, to) = archive.span(piece);
                let within = |place: u64| {
                    place
                        .checked_sub(start)
                        .and_then(|place| usize::try_from(place).ok())
                        .filter(|place| *place <= read.len())
                };
                let bytes = within(from)
                    .zip(within(to))
                    .filter(|(from, to)| from <= to)
                    .map(|(from, to)| read.slice(from..to));
                let unwrapped =
                    archive.unwrap_piece(piece, from, &bytes.clone().unwrap_or_default());
                let stored = Stored {
                    offset: from,
                    bytes: bytes.unwrap_or_default(),
                };
                let answer = unwrapped.map(|(raw, crc32c)| {
                    let is_as_packed = archive.is_as_packed(piece, &raw, crc32c);
                    match work(piece, raw, stored) {
                        Reading::Sound(reading) if !is_as_packed => {
                            (Reading::Doubtful(reading), crc32c)
                        }
                        reading => (reading, crc32c),
                    }
                });
                answers.push((piece, answer));
            }
            answers
        });
        worked.await.unwrap_or_else(|lost| {
            first
                .map(|piece| (piece, Err(lost.into())))
                .into_iter()
                .collect()
        })
    }

    /// Whether a piece that is all of its entry has the checksum of its entry. Whoever reads the
    /// entry holds the checksums against one another, and reports what differs; this only shows
    /// whether it is worth to read once more.
    fn is_as_packed(&self, piece: PieceRef, raw: &[u8], crc32c: u32) -> bool {
        if !piece.is_whole() || !self.container.store.is_remote() {
            return true;
        }
        match (piece.packed_crc32c, self.container.entries.get(piece.place)) {
            (Some(expected), _) => expected.0 == crc32c,
            (None, Some(entry)) => crc32fast::hash(raw) == entry.crc32,
            (None, None) => true,
        }
    }

    /// From the bytes that were read to the bytes of the piece, and the CRC-32C of what they were
    /// made of.
    fn unwrap_piece(
        &self,
        piece: PieceRef,
        start: u64,
        read: &Bytes,
    ) -> Result<(Bytes, u32), ArchiveError> {
        let Some(entry) = self.container.entries.get(piece.place) else {
            return Err(ArchiveError::data(
                "",
                DataError::TooShort {
                    expected: piece.compressed_len,
                    found: 0,
                },
            ));
        };
        let broken = |violation| self.container.broken(violation);
        if piece.offset == 0 {
            let local = zip::check_local_header(entry, read, Profile::Sealed).map_err(broken)?;
            if local.data_offset != piece.compressed_offset {
                let fault = format!(
                    "expected its data at {}, found them at {}",
                    piece.compressed_offset, local.data_offset
                );
                return Err(ArchiveError::Data {
                    entry: entry.name.clone(),
                    fault,
                });
            }
        }
        let skip = usize::try_from(piece.compressed_offset - start).unwrap_or(usize::MAX);
        let short = || {
            ArchiveError::data(
                &entry.name,
                DataError::TooShort {
                    expected: piece.compressed_len,
                    found: read.len() as u64,
                },
            )
        };
        let len = usize::try_from(piece.compressed_len).map_err(|_| short())?;
        let end = skip
            .checked_add(len)
            .filter(|end| *end <= read.len())
            .ok_or_else(short)?;
        if piece.last {
            let ending: &[u8] = if entry.method == Method::Deflate && entry.len > 0 {
                &STREAM_END
            } else {
                &[]
            };
            let behind = read.get(end..).unwrap_or_default();
            let Some(descriptor) = behind.strip_prefix(ending) else {
                return Err(ArchiveError::data(
                    &entry.name,
                    DataError::NoStreamEnd {
                        compressed_len: entry.compressed_len,
                    },
                ));
            };
            zip::check_descriptor(entry, descriptor, Profile::Sealed).map_err(broken)?;
        }
        let compressed = read.slice(skip..end);
        match entry.method {
            Method::Store => Ok((compressed, 0)),
            Method::Deflate => {
                let crc32c = crc32c::crc32c(&compressed);
                let crc32c = if piece.last {
                    crc32c::crc32c_append(crc32c, &STREAM_END)
                } else {
                    crc32c
                };
                let mut raw = Buffer::of_len(piece.len + deflate::INFLATE_ROOM_BYTES);
                deflate::inflate_piece(&compressed, piece.len, &mut raw)
                    .map_err(|error| ArchiveError::data(&entry.name, error))?;
                raw.truncate(piece.len);
                Ok((raw.freeze(), crc32c))
            }
        }
    }
}

/// The checksum over the pieces of an entry as they lie in the zip, joined in order.
#[derive(Debug, Default)]
struct Packed {
    crc32c: u32,
    /// Where the next piece begins if nothing was left out.
    next_offset: u64,
}

impl Packed {
    fn join(&mut self, item: &EntryItem, piece: PieceRef, crc32c: u32) -> Result<(), ArchiveError> {
        if piece.offset == 0 {
            *self = Packed::default();
        } else if piece.offset != self.next_offset {
            // The entry's beginning was not read: there is nothing to compare.
            return Ok(());
        }
        let ending = if piece.last {
            STREAM_END.len() as u64
        } else {
            0
        };
        self.crc32c = join_crc32c(self.crc32c, crc32c, piece.compressed_len + ending);
        self.next_offset = piece.offset + piece.len as u64;
        match item.packed_crc32c.filter(|_| piece.last) {
            Some(expected) if expected.0 != self.crc32c => {
                let fault = format!(
                    "expected crc32c {expected} of its data in the zip, found {}",
                    Crc32c(self.crc32c)
                );
                Err(ArchiveError::Data {
                    entry: item.name.clone(),
                    fault,
                })
            }
            _ => Ok(()),
        }
    }
}

/// Pieces of an object that are read at once for its digest.
pub const READS_PER_DIGEST: u64 = 2;

/// SHA-256 of a whole object, read piece by piece. What differs from the store's own checksum is
/// read once more.
///
/// # Errors
/// What the store says; [`StoreError::Corrupt`] where its checksum still differs.
pub async fn digest_of(store: &dyn Store, object: &ObjectInfo) -> Result<Sha256, StoreError> {
    let (sha256, found) = digests_of(store, object).await?;
    let Some(expected) = object.crc32c.filter(|expected| *expected != found) else {
        return Ok(sha256);
    };
    match digests_of(store, object).await? {
        (sha256, found) if found == expected => Ok(sha256),
        (_, found) => Err(StoreError::Corrupt {
            name: store.shown(&object.name),
            expected,
            found,
        }),
    }
}

/// SHA-256 and CRC-32C of a whole object.
async fn digests_of(store: &dyn Store, object: &ObjectInfo) -> Result<(Sha256, u32), StoreError> {
    let (mut sha256, mut crc32c) = (sha2::Sha256::new(), 0);
    let reads = (0..object.len.div_ceil(PIECE_LEN_BYTES as u64)).map(|number| {
        let offset = number * PIECE_LEN_BYTES as u64;
        store.read(
            object,
            offset,
            (object.len - offset).min(PIECE_LEN_BYTES as u64) as usize,
        )
    });
    let mut reads = stream::iter(reads).buffered(READS_PER_DIGEST as usize);
    while let Some(bytes) = reads.try_next().await? {
        let hashed = Workers::aside(move || {
            (
                sha256.chain_update(&bytes),
                crc32c::crc32c_append(crc32c, &bytes),
            )
        });
        (sha256, crc32c) = hashed.await.map_err(|lost| StoreError::Io {
            name: object.name.clone(),
            deed: "cannot hash it",
            source: io::Error::other(lost),
        })?;
    }
    Ok((Sha256(sha256.finalize().into()), crc32c))
}
