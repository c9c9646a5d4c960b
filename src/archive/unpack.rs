//! Entries of an archive laid down as objects of a store, each held against its digest before it
//! gets its name; small ones in batches.
//!
//! Knows archives and stores. Must not know which entries are wanted, nor what for.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, pin_mut};
use sha2::Digest as _;

use crate::archive::{Archive, ArchiveError, Piece, PieceReading};
use crate::model::{EntryInfo, EntryRole, Sha256};
use crate::runtime::workers::{WorkerPanicked, Workers};
use crate::store::{ObjectMetadata, ObjectWriter, SmallObject, Store, StoreError, WriteOptions};

/// Objects up to this length are laid down in batches: making them costs less than handing them
/// over one by one.
const SMALL_BYTES: usize = 256 << 10;

/// What a batch weighs and holds at the most.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_OBJECTS: usize = 64;

/// Batches that are laid down at once in a folder.
const BATCHES: usize = 3;

/// Batches that are laid down at once in a bucket, where each object is a request.
const REMOTE_BATCHES: usize = 8;

/// Which part of the memory for buffers may hold objects that are on their way to DEST, each of
/// them twice.
const UNDER_WAY_SHARE: u64 = 8;

/// Why not everything was laid down.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive cannot be read, or is damaged.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store cannot be written, or a name there is taken.
    #[error(transparent)]
    Dest(StoreError),
    /// A fault of kindpack's own.
    #[error(transparent)]
    Worker(#[from] WorkerPanicked),
}

/// What is told of the work.
#[derive(Debug, Clone, Copy)]
pub enum UnpackEvent<'a> {
    /// So many more bytes of entries are read and held against their digests, or written.
    Bytes(u64),
    /// An object of that length stands under its name.
    Object(&'a str, u64),
}

/// How objects are laid down.
#[derive(Debug, Clone, Copy)]
pub struct UnpackOptions {
    /// Whether what has the name is replaced.
    pub overwrite: bool,
    /// What is written behind the bytes of an entry.
    pub ending: fn(&EntryInfo) -> Bytes,
}

impl UnpackOptions {
    /// The bytes of the entries, under free names.
    pub const AS_THEY_ARE: UnpackOptions = UnpackOptions {
        overwrite: false,
        ending: |_| Bytes::new(),
    };
}

/// A small object that is made, not taken from the archive.
#[derive(Debug, Clone)]
pub struct GeneratedObject {
    /// Its name.
    pub name: String,
    /// All of its bytes.
    pub bytes: Vec<u8>,
    /// Whether it is a finish mark.
    pub is_mark: bool,
}

/// What is to be laid down: entries under the names beside them, and small objects of another
/// making.
#[derive(Debug, Default)]
pub struct UnpackPlan {
    /// The entries.
    pub entries: Vec<(EntryInfo, String)>,
    /// What is made.
    pub made: Vec<GeneratedObject>,
    /// Names that finish marks vouch for, whoever laid them down.
    pub vouched_for: Vec<String>,
}

/// Writes all of a load. Finish marks come when everything that they vouch for is there for good.
///
/// # Errors
/// [`UnpackError`]. Objects that were finished before an error stay; none is half written.
pub async fn lay(
    archive: &Arc<Archive>,
    dest: &dyn Store,
    load: UnpackPlan,
    laying: UnpackOptions,
    workers: &Workers,
    told: &mut (dyn FnMut(UnpackEvent<'_>) + Send),
) -> Result<(), UnpackError> {
    let (marks, entries): (Vec<_>, Vec<_>) = load
        .entries
        .into_iter()
        .partition(|(item, _)| item.role == EntryRole::ExportMetadata);
    let (made_marks, made): (Vec<GeneratedObject>, Vec<GeneratedObject>) =
        load.made.into_iter().partition(|made| made.is_mark);
    let is_marked = !(marks.is_empty() && made_marks.is_empty());
    let is_anything = is_marked || !(entries.is_empty() && made.is_empty());
    let mut layer = Unpacker {
        dest,
        laying,
        told,
        batch: ObjectBatch::default(),
        under_way: FuturesUnordered::new(),
        under_way_bytes: 0,
        under_way_max_bytes: workers.memory() / UNDER_WAY_SHARE,
    };
    layer.entries(archive, entries, workers).await?;
    layer.write_generated(made).await?;
    if is_anything {
        dest.sync(&load.vouched_for)
            .await
            .map_err(UnpackError::Dest)?;
    }
    if is_marked {
        let names = marks
            .iter()
            .map(|(_, name)| name.clone())
            .chain(made_marks.iter().map(|made| made.name.clone()));
        let names: Vec<String> = names.collect();
        layer.entries(archive, marks, workers).await?;
        layer.write_generated(made_marks).await?;
        dest.sync(&names).await.map_err(UnpackError::Dest)?;
    }
    Ok(())
}

/// Small objects that are whole.
#[derive(Debug, Default)]
struct ObjectBatch {
    objects: Vec<SmallObject>,
    bytes: usize,
}

/// Names and lengths of objects that were laid down.
type WrittenObject = Vec<(String, u64)>;

/// A large object that is being written, and the digest of what it has so far.
type OpenObject = (Box<dyn ObjectWriter>, sha2::Sha256);

/// Objects on their way to DEST.
struct Unpacker<'a> {
    dest: &'a dyn Store,
    laying: UnpackOptions,
    told: &'a mut (dyn FnMut(UnpackEvent<'_>) + Send),
    batch: ObjectBatch,
    under_way: FuturesUnordered<BoxFuture<'a, Result<WrittenObject, StoreError>>>,
    /// Bytes of what is under way, and what they should stay below.
    under_way_bytes: u64,
    under_way_max_bytes: u64,
}

impl Unpacker<'_> {
    /// Lays entries down under their names, each held against its digest before. What a service
    /// gave damaged is read from its beginning once more.
    async fn entries(
        &mut self,
        archive: &Arc<Archive>,
        entries: Vec<(EntryInfo, String)>,
        workers: &Workers,
    ) -> Result<(), UnpackError> {
        let damaged = self
            .try_entries(
                archive,
                entries,
                workers,
                archive.container().store().is_remote(),
            )
            .await?;
        self.try_entries(archive, damaged, workers, false)
            .await
            .map(drop)
    }

    /// Lays entries down. Gives those back that are damaged, where another reading may help: where
    /// they have several pieces, for a single one is read again at once.
    async fn try_entries(
        &mut self,
        archive: &Arc<Archive>,
        entries: Vec<(EntryInfo, String)>,
        workers: &Workers,
        may_come_again: bool,
    ) -> Result<Vec<(EntryInfo, String)>, UnpackError> {
        let (items, names): (Vec<EntryInfo>, Vec<String>) = entries.into_iter().unzip();
        let pieces = archive.read(&items, 0, workers, |piece, raw| {
            PieceReading::Sound((
                piece
                    .is_whole()
                    .then(|| Sha256(sha2::Sha256::digest(&raw).into())),
                raw,
            ))
        });
        pin_mut!(pieces);
        let mut open = None;
        let mut damaged = BTreeSet::new();
        loop {
            let next = tokio::select! {
                Some(laid) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.report(laid.map_err(UnpackError::Dest)?);
                    continue;
                }
                next = pieces.next() => next,
            };
            let Some((piece, read)) = next else { break };
            let (Some(item), Some(name)) = (items.get(piece.entry), names.get(piece.entry)) else {
                continue;
            };
            let may_come_again = may_come_again && !piece.is_whole();
            let (whole, raw) = match read {
                Err(error) if error.is_damage() && may_come_again => {
                    damaged.insert(piece.entry);
                    open = None;
                    continue;
                }
                read => read?,
            };
            if damaged.contains(&piece.entry) {
                continue;
            }
            let small = whole.filter(|_| raw.len() <= SMALL_BYTES || self.dest.is_remote());
            if let Some(sha256) = small {
                self.add_small(item, name, raw, sha256).await?;
            } else if !self
                .write_piece(&mut open, (item, name), (piece, whole, raw), may_come_again)
                .await?
            {
                damaged.insert(piece.entry);
            }
        }
        self.drain().await?;
        let entry = |number: usize| Some((items.get(number)?.clone(), names.get(number)?.clone()));
        Ok(damaged.into_iter().filter_map(entry).collect())
    }

    /// How an entry is made as an object, `ending_len` bytes of its own after it.
    fn making(&self, item: &EntryInfo, ending_len: usize) -> WriteOptions {
        WriteOptions {
            overwrite: self.laying.overwrite,
            expected_len: item.bytes + ending_len as u64,
            content_encoding: item.content_encoding.clone(),
            content_type: item.content_type.clone(),
            sync_later: true,
        }
    }

    /// Adds an entry that is whole to the batch.
    async fn add_small(
        &mut self,
        item: &EntryInfo,
        name: &str,
        raw: Bytes,
        sha256: Sha256,
    ) -> Result<(), UnpackError> {
        check_digest(item, sha256)?;
        (self.told)(UnpackEvent::Bytes(raw.len() as u64));
        let ending = (self.laying.ending)(item);
        self.add(SmallObject {
            name: name.to_owned(),
            making: self.making(item, ending.len()),
            bytes: joined(raw, &ending),
        })
        .await
    }

    /// Writes the next piece of a large entry; `whole` is the digest of one that has no other
    /// piece. Says no where the entry turned out to be damaged and may be read again.
    async fn write_piece(
        &mut self,
        open: &mut Option<OpenObject>,
        (item, name): (&EntryInfo, &str),
        (piece, whole, raw): (Piece, Option<Sha256>, Bytes),
        may_come_again: bool,
    ) -> Result<bool, UnpackError> {
        let ending = (self.laying.ending)(item);
        let (mut writer, sha256) = match open.take() {
            Some(open) => open,
            None => {
                self.drain().await?;
                let making = self.making(item, ending.len());
                let writer = self.dest.create(name, making).await;
                (writer.map_err(UnpackError::Dest)?, sha2::Sha256::new())
            }
        };
        let copy = raw.clone();
        let hashed = async {
            if whole.is_some() {
                return Ok(sha256);
            }
            Workers::run_blocking(move || sha256.chain_update(&copy)).await
        };
        let (hashed, written) = tokio::join!(hashed, writer.write(raw));
        written.map_err(UnpackError::Dest)?;
        (self.told)(UnpackEvent::Bytes(piece.len as u64));
        let sha256 = hashed?;
        if !piece.last {
            *open = Some((writer, sha256));
            return Ok(true);
        }
        let found = whole.unwrap_or_else(|| Sha256(sha256.finalize().into()));
        match check_digest(item, found) {
            Err(_) if may_come_again => return Ok(false),
            held => held?,
        }
        if !ending.is_empty() {
            writer.write(ending).await.map_err(UnpackError::Dest)?;
        }
        writer
            .publish(ObjectMetadata::default())
            .await
            .map_err(UnpackError::Dest)?;
        self.report(vec![(name.to_owned(), item.bytes)]);
        Ok(true)
    }

    async fn write_generated(&mut self, made: Vec<GeneratedObject>) -> Result<(), UnpackError> {
        for GeneratedObject { name, bytes, .. } in made {
            let making = WriteOptions {
                overwrite: self.laying.overwrite,
                expected_len: bytes.len() as u64,
                sync_later: true,
                ..WriteOptions::default()
            };
            self.add(SmallObject {
                name,
                bytes: bytes.into(),
                making,
            })
            .await?;
        }
        self.drain().await
    }

    async fn add(&mut self, object: SmallObject) -> Result<(), UnpackError> {
        self.batch.bytes += object.bytes.len();
        self.batch.objects.push(object);
        if self.batch.bytes >= BATCH_BYTES || self.batch.objects.len() >= BATCH_OBJECTS {
            self.send().await
        } else {
            Ok(())
        }
    }

    async fn send(&mut self) -> Result<(), UnpackError> {
        let batches = if self.dest.is_remote() {
            REMOTE_BATCHES
        } else {
            BATCHES
        };
        let ObjectBatch { objects, bytes } = std::mem::take(&mut self.batch);
        while (self.under_way.len() >= batches
            || self.under_way_bytes + bytes as u64 > self.under_way_max_bytes)
            && let Some(laid) = self.under_way.next().await
        {
            self.report(laid.map_err(UnpackError::Dest)?);
        }
        self.under_way_bytes += bytes as u64;
        let laid: WrittenObject = objects
            .iter()
            .map(|object| (object.name.clone(), object.bytes.len() as u64))
            .collect();
        let create = self.dest.create_all(objects);
        self.under_way
            .push(Box::pin(async move { create.await.map(|()| laid) }));
        Ok(())
    }

    /// Waits until all that was added is laid down.
    async fn drain(&mut self) -> Result<(), UnpackError> {
        if !self.batch.objects.is_empty() {
            self.send().await?;
        }
        while let Some(laid) = self.under_way.next().await {
            self.report(laid.map_err(UnpackError::Dest)?);
        }
        Ok(())
    }

    fn report(&mut self, laid: WrittenObject) {
        self.under_way_bytes = self
            .under_way_bytes
            .saturating_sub(laid.iter().map(|(_, bytes)| bytes).sum());
        laid.iter()
            .for_each(|(name, bytes)| (self.told)(UnpackEvent::Object(name, *bytes)));
    }
}

fn joined(bytes: Bytes, ending: &Bytes) -> Bytes {
    if ending.is_empty() {
        return bytes;
    }
    let mut joined = BytesMut::with_capacity(bytes.len() + ending.len());
    joined.extend_from_slice(&bytes);
    joined.extend_from_slice(ending);
    joined.freeze()
}

fn check_digest(item: &EntryInfo, found: Sha256) -> Result<(), UnpackError> {
    if found == item.sha256 {
        return Ok(());
    }
    let fault = format!("expected sha256 {}, found {found}", item.sha256);
    Err(ArchiveError::Data {
        entry: item.name.clone(),
        fault,
    }
    .into())
}
