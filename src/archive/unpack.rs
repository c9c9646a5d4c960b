//! Entries of an archive laid down as objects of a store, each held against its digest before it
//! gets its name; small ones in batches.
//!
//! Knows archives and stores. Must not know which entries are wanted, nor what for.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _, pin_mut};
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
#[cfg_attr(test, derive(strum::VariantNames))]
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
    /// A large object of that name is written from now on.
    Started(&'a str),
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
    /// Whether it is a completion marker.
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
    /// Names that completion markers cover, including those that were there before.
    pub vouched_for: Vec<String>,
}

/// Writes all of a load. Completion markers come when everything that they vouch for is there for good.
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
    let vouched_for = load.vouched_for;
    let (data, marks) = UnpackStep::split(load.entries, load.made);
    let mut layer = Unpacker::new(dest, laying, workers, told);
    let (has_data, has_marks) = (!data.is_empty(), !marks.is_empty());
    layer.step(archive, data, workers).await?;
    if has_data || has_marks {
        layer.sync(&vouched_for).await?;
    }
    if has_marks {
        let names = marks.names();
        layer.step(archive, marks, workers).await?;
        layer.sync(&names).await?;
    }
    Ok(())
}

/// Entries and objects that are laid down before anything that comes after them.
struct UnpackStep {
    entries: Vec<(EntryInfo, String)>,
    made: Vec<GeneratedObject>,
}

impl UnpackStep {
    /// The data, and the completion markers that come after them.
    fn split(entries: Vec<(EntryInfo, String)>, made: Vec<GeneratedObject>) -> (Self, Self) {
        let is_mark = |item: &EntryInfo| item.role == EntryRole::ExportMetadata;
        let (marks, data) = entries.into_iter().partition(|(item, _)| is_mark(item));
        let (made_marks, made) = made.into_iter().partition(|made| made.is_mark);
        (
            UnpackStep::new(data, made),
            UnpackStep::new(marks, made_marks),
        )
    }

    fn new(entries: Vec<(EntryInfo, String)>, made: Vec<GeneratedObject>) -> Self {
        UnpackStep { entries, made }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.made.is_empty()
    }

    fn names(&self) -> Vec<String> {
        let entries = self.entries.iter().map(|(_, name)| name);
        let made = self.made.iter().map(|made| &made.name);
        entries.chain(made).cloned().collect()
    }
}

/// The digest of a piece that is all of its entry, and its bytes.
type PieceWithDigest = (Option<Sha256>, Bytes);

fn digest_whole(piece: Piece, raw: Bytes) -> PieceReading<PieceWithDigest> {
    let digest = || Sha256(sha2::Sha256::digest(&raw).into());
    let whole = piece.is_whole().then(digest);
    PieceReading::Sound((whole, raw))
}

/// An entry, and the name that it gets.
type NamedEntry<'a> = (&'a EntryInfo, &'a str);

/// One reading of entries, and what it found of them.
struct UnpackPass<'a> {
    items: &'a [EntryInfo],
    names: &'a [String],
    /// Whether what is damaged may be read again.
    may_come_again: bool,
    damaged: BTreeSet<usize>,
    open: Option<OpenObject>,
}

impl<'a> UnpackPass<'a> {
    fn new(items: &'a [EntryInfo], names: &'a [String], may_come_again: bool) -> Self {
        UnpackPass {
            items,
            names,
            may_come_again,
            damaged: BTreeSet::new(),
            open: None,
        }
    }

    fn entry(&self, number: usize) -> Option<NamedEntry<'a>> {
        Some((self.items.get(number)?, self.names.get(number)?))
    }

    /// Whether another reading of the piece's entry may help; a single piece was read again at once.
    fn may_read_again(&self, piece: Piece) -> bool {
        self.may_come_again && !piece.is_whole()
    }

    fn mark_damaged(&mut self, piece: Piece) {
        self.damaged.insert(piece.entry);
        self.open = None;
    }

    fn into_damaged(self) -> Vec<(EntryInfo, String)> {
        let damaged = self.damaged.iter();
        let entries = damaged.filter_map(|number| self.entry(*number));
        entries
            .map(|(item, name)| (item.clone(), name.to_owned()))
            .collect()
    }
}

/// Small objects that are whole.
#[derive(Debug, Default)]
struct ObjectBatch {
    objects: Vec<SmallObject>,
    bytes: usize,
}

/// Names and lengths of objects that were laid down.
type WrittenObject = Vec<(String, u64)>;

impl ObjectBatch {
    fn push(&mut self, object: SmallObject) {
        self.bytes += object.bytes.len();
        self.objects.push(object);
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.objects.len() >= BATCH_OBJECTS
    }

    /// What is reported of them once they are laid down.
    fn written(&self) -> WrittenObject {
        let objects = self.objects.iter();
        objects
            .map(|object| (object.name.clone(), object.bytes.len() as u64))
            .collect()
    }
}

/// A large object that is being written, and the digest of its bytes.
struct OpenObject {
    writer: Box<dyn ObjectWriter>,
    sha256: sha2::Sha256,
    /// The digest of all of it, where that was made before it is written.
    whole: Option<Sha256>,
}

impl OpenObject {
    fn new(writer: Box<dyn ObjectWriter>) -> Self {
        OpenObject {
            writer,
            sha256: sha2::Sha256::new(),
            whole: None,
        }
    }

    async fn write_piece(&mut self, raw: Bytes, whole: Option<Sha256>) -> Result<(), UnpackError> {
        self.whole = whole;
        match whole {
            Some(_) => self.write(raw).await,
            None => self.write_hashed(raw).await,
        }
    }

    /// Writes bytes and adds them to the digest, side by side.
    async fn write_hashed(&mut self, raw: Bytes) -> Result<(), UnpackError> {
        let (sha256, copy) = (std::mem::take(&mut self.sha256), raw.clone());
        let hashed = Workers::run_blocking(move || sha256.chain_update(&copy));
        let (hashed, written) = tokio::join!(hashed, self.writer.write(raw));
        written.map_err(UnpackError::Dest)?;
        self.sha256 = hashed?;
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), UnpackError> {
        let written = self.writer.write(bytes).await;
        written.map_err(UnpackError::Dest)
    }

    fn take_digest(&mut self) -> Sha256 {
        let sha256 = std::mem::take(&mut self.sha256);
        self.whole
            .unwrap_or_else(|| Sha256(sha256.finalize().into()))
    }

    /// Writes what comes after the entry's bytes, and gives the object its name.
    async fn publish(mut self, ending: Bytes) -> Result<(), UnpackError> {
        if !ending.is_empty() {
            self.write(ending).await?;
        }
        let published = self.writer.publish(ObjectMetadata::default()).await;
        published.map_err(UnpackError::Dest)
    }
}

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

impl<'a> Unpacker<'a> {
    fn new(
        dest: &'a dyn Store,
        laying: UnpackOptions,
        workers: &Workers,
        told: &'a mut (dyn FnMut(UnpackEvent<'_>) + Send),
    ) -> Self {
        Unpacker {
            dest,
            laying,
            told,
            batch: ObjectBatch::default(),
            under_way: FuturesUnordered::new(),
            under_way_bytes: 0,
            under_way_max_bytes: workers.memory() / UNDER_WAY_SHARE,
        }
    }

    async fn step(
        &mut self,
        archive: &Arc<Archive>,
        step: UnpackStep,
        workers: &Workers,
    ) -> Result<(), UnpackError> {
        self.entries(archive, step.entries, workers).await?;
        self.write_generated(step.made).await
    }

    async fn sync(&self, names: &[String]) -> Result<(), UnpackError> {
        let synced = self.dest.sync(names).await;
        synced.map_err(UnpackError::Dest)
    }

    /// Lays entries down under their names, each held against its digest before. What a service
    /// gave damaged is read from its beginning once more.
    async fn entries(
        &mut self,
        archive: &Arc<Archive>,
        entries: Vec<(EntryInfo, String)>,
        workers: &Workers,
    ) -> Result<(), UnpackError> {
        let is_remote = archive.container().store().is_remote();
        let first = self.try_entries(archive, entries, workers, is_remote);
        let damaged = first.await?;
        let second = self.try_entries(archive, damaged, workers, false);
        second.await.map(drop)
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
        let pieces = archive.read(&items, 0, workers, digest_whole);
        pin_mut!(pieces);
        let mut pass = UnpackPass::new(&items, &names, may_come_again);
        while let Some((piece, read)) = self.next_of(&mut pieces).await? {
            self.take_piece(&mut pass, piece, read).await?;
        }
        self.drain().await?;
        Ok(pass.into_damaged())
    }

    /// The next of `pieces`. Reports what is laid down while it is waited for.
    async fn next_of<T>(
        &mut self,
        pieces: &mut (impl Stream<Item = T> + Unpin),
    ) -> Result<Option<T>, UnpackError> {
        loop {
            tokio::select! {
                Some(laid) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.report(laid.map_err(UnpackError::Dest)?);
                }
                next = pieces.next() => return Ok(next),
            }
        }
    }

    /// Lays down what was read of an entry, unless the entry is damaged.
    async fn take_piece(
        &mut self,
        pass: &mut UnpackPass<'_>,
        piece: Piece,
        read: Result<PieceWithDigest, ArchiveError>,
    ) -> Result<(), UnpackError> {
        match read {
            Err(error) if error.is_damage() && pass.may_read_again(piece) => {
                pass.mark_damaged(piece);
            }
            Err(error) => return Err(error.into()),
            Ok(_) if pass.damaged.contains(&piece.entry) => {}
            Ok(read) => self.add_piece(pass, piece, read).await?,
        }
        Ok(())
    }

    async fn add_piece(
        &mut self,
        pass: &mut UnpackPass<'_>,
        piece: Piece,
        (whole, raw): PieceWithDigest,
    ) -> Result<(), UnpackError> {
        let Some(entry) = pass.entry(piece.entry) else {
            return Ok(());
        };
        let is_small = raw.len() <= SMALL_BYTES || self.dest.is_remote();
        match whole.filter(|_| is_small) {
            Some(sha256) => self.add_small(entry, raw, sha256).await,
            None => self.write_piece(pass, entry, piece, (whole, raw)).await,
        }
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
        (item, name): NamedEntry<'_>,
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
    /// piece.
    async fn write_piece(
        &mut self,
        pass: &mut UnpackPass<'_>,
        entry: NamedEntry<'_>,
        piece: Piece,
        (whole, raw): PieceWithDigest,
    ) -> Result<(), UnpackError> {
        let mut object = match pass.open.take() {
            Some(open) => open,
            None => self.begin(entry).await?,
        };
        object.write_piece(raw, whole).await?;
        (self.told)(UnpackEvent::Bytes(piece.len as u64));
        if piece.last {
            return self.end_object(pass, entry, piece, object).await;
        }
        pass.open = Some(object);
        Ok(())
    }

    /// Begins a large object once all that came before it is laid down.
    async fn begin(&mut self, (item, name): NamedEntry<'_>) -> Result<OpenObject, UnpackError> {
        (self.told)(UnpackEvent::Started(name));
        self.drain().await?;
        let ending = (self.laying.ending)(item);
        let making = self.making(item, ending.len());
        let writer = self.dest.create(name, making).await;
        Ok(OpenObject::new(writer.map_err(UnpackError::Dest)?))
    }

    /// Gives a large object its name, unless its entry is damaged.
    async fn end_object(
        &mut self,
        pass: &mut UnpackPass<'_>,
        (item, name): NamedEntry<'_>,
        piece: Piece,
        mut object: OpenObject,
    ) -> Result<(), UnpackError> {
        match check_digest(item, object.take_digest()) {
            Err(_) if pass.may_read_again(piece) => {
                pass.mark_damaged(piece);
                return Ok(());
            }
            held => held?,
        }
        object.publish((self.laying.ending)(item)).await?;
        self.report(vec![(name.to_owned(), item.bytes)]);
        Ok(())
    }

    async fn write_generated(&mut self, made: Vec<GeneratedObject>) -> Result<(), UnpackError> {
        for made in made {
            let object = self.small_object(made);
            self.add(object).await?;
        }
        self.drain().await
    }

    fn small_object(&self, made: GeneratedObject) -> SmallObject {
        let making = WriteOptions {
            overwrite: self.laying.overwrite,
            expected_len: made.bytes.len() as u64,
            sync_later: true,
            ..WriteOptions::default()
        };
        let (name, bytes) = (made.name, made.bytes.into());
        SmallObject {
            name,
            bytes,
            making,
        }
    }

    async fn add(&mut self, object: SmallObject) -> Result<(), UnpackError> {
        self.batch.push(object);
        if self.batch.is_full() {
            return self.send().await;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), UnpackError> {
        let batch = std::mem::take(&mut self.batch);
        self.make_room(batch.bytes as u64).await?;
        self.under_way_bytes += batch.bytes as u64;
        let laid = batch.written();
        let create = self.dest.create_all(batch.objects);
        self.under_way
            .push(Box::pin(async move { create.await.map(|()| laid) }));
        Ok(())
    }

    /// Waits until another batch of that many bytes may be under way.
    async fn make_room(&mut self, bytes: u64) -> Result<(), UnpackError> {
        while !self.has_room(bytes)
            && let Some(laid) = self.under_way.next().await
        {
            self.report(laid.map_err(UnpackError::Dest)?);
        }
        Ok(())
    }

    fn has_room(&self, bytes: u64) -> bool {
        let batches = match self.dest.is_remote() {
            true => REMOTE_BATCHES,
            false => BATCHES,
        };
        self.under_way.len() < batches && self.under_way_bytes + bytes <= self.under_way_max_bytes
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
        let bytes = laid.iter().map(|(_, bytes)| bytes).sum();
        self.under_way_bytes = self.under_way_bytes.saturating_sub(bytes);
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

fn check_digest(item: &EntryInfo, found: Sha256) -> Result<(), ArchiveError> {
    if found == item.sha256 {
        return Ok(());
    }
    let fault = format!("expected sha256 {}, found {found}", item.sha256);
    let entry = item.name.clone();
    Err(ArchiveError::Data { entry, fault })
}
