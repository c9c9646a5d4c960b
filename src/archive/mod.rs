//! An archive of kindpack, at rest: opened by its end, read by pieces, listed, unpacked.

pub mod catalog;
pub mod checksums;
mod container;
pub mod deflate;
mod digest;
pub mod entities;
mod error;
pub mod existing;
mod manifest;
mod pieces;
pub mod read_ahead;
pub mod signed;
pub mod unpack;
pub mod zip;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;

pub use container::Container;
pub use digest::{READS_PER_DIGEST, digest_of};
pub use error::ArchiveError;
pub use pieces::{Piece, PieceReading, RawBytes};

use crate::model::{
    EntryInfo, KindInfo, KindRef, MANIFEST_NAME, Manifest, Selector, UnmatchedSelector,
};
use crate::runtime::workers::Workers;
use crate::store::{ObjectInfo, Store};
use pieces::PieceReader;
use zip::Strictness;

/// An archive of kindpack, opened.
#[derive(Debug)]
pub struct Archive {
    reader: Arc<PieceReader>,
    manifest: Manifest,
    /// The numbers of the manifest's kinds by namespace and kind, in which a pair is found by
    /// binary search.
    kinds_in_order: Vec<u32>,
    /// Entries that the manifest lists more than once: exports of several pairs.
    shared: HashSet<String>,
}

impl Archive {
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
        let opened = Archive::open_once(store.clone(), object.clone(), title.clone()).await;
        match opened {
            Err(error) if error.is_damage() && store.is_remote() => {
                Archive::open_once(store, object, title).await
            }
            opened => opened,
        }
    }

    async fn open_once(
        store: Arc<dyn Store>,
        object: ObjectInfo,
        title: String,
    ) -> Result<Self, ArchiveError> {
        let mut container = open_container(store, object, title).await?;
        let entry = manifest::find(container.title(), container.entries())?;
        let bytes = container.read_manifest(&entry).await?;
        let manifest = manifest::parse(container.title(), &bytes)?;
        drop(bytes);
        let mut kinds_in_order: Vec<u32> = (0..).take(manifest.kinds.len()).collect();
        kinds_in_order.sort_by_key(|number| {
            manifest
                .kinds
                .get(*number as usize)
                .map(|item| (&item.namespace, &item.kind))
        });
        let reader = Arc::new(PieceReader::new(container));
        let shared = manifest::check(&manifest, &reader)?;
        Ok(Archive {
            reader,
            manifest,
            kinds_in_order,
            shared,
        })
    }

    /// What the archive holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's item of one pair.
    pub fn kind(&self, pair: &KindRef) -> Option<&KindInfo> {
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
    pub fn is_shared(&self, entry: &EntryInfo) -> bool {
        self.shared.contains(&entry.name)
    }

    /// The archive's container.
    pub fn container(&self) -> &Container {
        &self.reader.container
    }

    /// CRC-32 of an entry, as the directory has it.
    pub fn crc32(&self, name: &str) -> Option<u32> {
        self.reader.entry(name).map(|entry| entry.crc32)
    }

    /// The pairs that some selector chooses; all of them where there is no selector. A selector
    /// that chooses none is given back.
    pub fn choose(&self, selectors: &[Selector]) -> Result<Vec<&KindInfo>, UnmatchedSelector> {
        let kinds = || self.manifest.kinds.iter();
        let is_idle = |selector: &&Selector| !kinds().any(|kind| selector.matches(&kind.pair()));
        if let Some(idle) = selectors.iter().find(is_idle) {
            let pairs = kinds().map(KindInfo::pair);
            return Err(UnmatchedSelector::new(idle, pairs));
        }
        let matches = |kind: &KindInfo| selectors.iter().any(|each| each.matches(&kind.pair()));
        let chosen = kinds().filter(|kind| selectors.is_empty() || matches(kind));
        Ok(chosen.collect())
    }

    /// Entries as they follow each other in the archive.
    pub fn in_order(&self, mut items: Vec<EntryInfo>) -> Vec<EntryInfo> {
        items.sort_by_key(|item| {
            self.reader
                .entry(&item.name)
                .map(|entry| entry.header_offset)
        });
        items
    }

    /// Reads entries piece by piece, does `work` with each on a worker, and gives the answers in
    /// order. The first `skip` pieces are left out.
    ///
    /// A piece that is damaged gives an error in its place, and the others still come. Where the
    /// store fails nothing comes after its error: each of the others would be tried for as long.
    pub fn read<'a, T: Send + 'static>(
        &'a self,
        items: &'a [EntryInfo],
        skip: u64,
        workers: &'a Workers,
        work: impl Fn(Piece, Bytes) -> PieceReading<T> + Clone + Send + Sync + 'static,
    ) -> impl Stream<Item = (Piece, Result<T, ArchiveError>)> + 'a {
        let work = move |piece, raw, _| work(piece, raw);
        self.read_with(items, skip, workers, work)
    }

    /// As [`Archive::read`], and `work` also gets the archive's own bytes of each piece: with
    /// the header before the first one, and what comes after the last one.
    pub fn read_with<'a, T: Send + 'static>(
        &'a self,
        items: &'a [EntryInfo],
        skip: u64,
        workers: &'a Workers,
        work: impl Fn(Piece, Bytes, RawBytes) -> PieceReading<T> + Clone + Send + Sync + 'static,
    ) -> impl Stream<Item = (Piece, Result<T, ArchiveError>)> + 'a {
        self.reader.read(items, skip, workers, work)
    }

    /// Begins to read the outputs of pairs that will be read one after the other: the first bytes
    /// of each pair, those of several where they follow each other. Of a small pair that is all.
    /// From this machine nothing is read ahead.
    pub fn read_ahead(&self, pairs: impl IntoIterator<Item = KindRef>, workers: &Workers) {
        if !self.container().store().is_remote() {
            return;
        }
        let kinds: HashMap<KindRef, &KindInfo> = self
            .manifest
            .kinds
            .iter()
            .map(|kind| (kind.pair(), kind))
            .collect();
        let outputs = pairs
            .into_iter()
            .filter_map(|pair| kinds.get(&pair).map(|kind| kind.outputs()));
        self.reader.read_ahead(outputs, workers);
    }
}

/// Opens the container of an archive.
async fn open_container(
    store: Arc<dyn Store>,
    object: ObjectInfo,
    title: String,
) -> Result<Container, ArchiveError> {
    let (again, other, name) = (store.clone(), object.clone(), title.clone());
    let opened = Container::open_once(again, other, name, Strictness::OwnFormat).await;
    let Err(error @ ArchiveError::Structure { .. }) = opened else {
        return opened;
    };
    // A zip of somebody else breaks rules that only kindpack's archives keep, and so may a later
    // format: both say more than the rule.
    match Container::open_once(store, object, title, Strictness::AnyZip).await {
        Ok(foreign) if !has_manifest(&foreign) => Ok(foreign),
        Ok(foreign) => Err(newer_format(foreign).await.unwrap_or(error)),
        Err(_) => Err(error),
    }
}

/// Where a container is not the one of this version, its end may be anything: no more than this is
/// read of it.
const MAX_NEWER_MANIFEST_BYTES: u64 = 64 << 20;

/// The refusal of an archive that a later version made.
async fn newer_format(mut container: Container) -> Option<ArchiveError> {
    let entry = manifest::find(container.title(), container.entries()).ok()?;
    let end = container.object().len;
    if end - entry.header_offset > MAX_NEWER_MANIFEST_BYTES {
        return None;
    }
    let bytes = container.read_manifest(&entry).await.ok()?;
    let checked = manifest::check_format(container.title(), &bytes);
    let error = checked.err()?;
    matches!(error, ArchiveError::NewerFormat { .. }).then_some(error)
}

fn has_manifest(container: &Container) -> bool {
    let mut entries = container.entries().iter();
    entries.any(|entry| entry.name == MANIFEST_NAME)
}
