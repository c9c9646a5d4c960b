//! Entries of an archive laid down as objects of a store, each held against its digest before it gets its name.
//!
//! Knows archives and stores. Must not know which entries are wanted, nor what for.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, pin_mut};

use crate::archive_file::{ArchiveError, ArchiveFile};
use crate::inspect::{self, Content, Inspection};
use crate::model::{EntryItem, EntryRole};
use crate::store::{About, Making, ObjectWriter, Store, StoreError};
use crate::workers::{WorkerLost, Workers};

/// Why not everything was laid down.
#[derive(Debug, thiserror::Error)]
pub enum LayError {
    /// The archive cannot be read, or is damaged.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store cannot be written, or a name there is taken.
    #[error(transparent)]
    Dest(StoreError),
    /// A fault of kindpack's own.
    #[error(transparent)]
    Worker(#[from] WorkerLost),
}

/// What is told of the work.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// So many more bytes are written.
    Bytes(u64),
    /// An object stands under its name.
    Object(&'a str, &'a EntryItem),
}

/// How objects are laid down.
#[derive(Debug, Clone, Copy)]
pub struct Laying {
    /// Whether what has the name is replaced.
    pub overwrite: bool,
    /// What is written behind the bytes of an entry.
    pub ending: fn(&EntryItem) -> Bytes,
}

impl Laying {
    /// The bytes of the entries, under free names.
    pub const AS_THEY_ARE: Laying = Laying { overwrite: false, ending: |_| Bytes::new() };
}

/// Writes each entry as the object of the name beside it, finish marks last: they come when everything that they stand for is there.
///
/// # Errors
/// [`LayError`]. Objects that were finished before an error stay; none is half written.
pub async fn lay(
    archive: &Arc<ArchiveFile>,
    dest: &dyn Store,
    mut entries: Vec<(EntryItem, String)>,
    laying: Laying,
    workers: &Workers,
    told: &mut (dyn FnMut(Told<'_>) + Send),
) -> Result<(), LayError> {
    entries.sort_by_key(|(item, _)| item.role == EntryRole::ExportMetadata);
    let (items, names): (Vec<EntryItem>, Vec<String>) = entries.into_iter().unzip();
    let pieces = archive.read(&items, 0, workers, |piece, raw| (inspect::piece(&raw, piece.offset, Content::Opaque), raw));
    pin_mut!(pieces);
    let mut open: Option<Box<dyn ObjectWriter>> = None;
    let mut inspection = Inspection::default();
    while let Some((piece, part)) = pieces.next().await {
        let (part, raw) = part?;
        let (Some(item), Some(name)) = (items.get(piece.entry), names.get(piece.entry)) else { continue };
        let ending = (laying.ending)(item);
        let mut writer = match open.take() {
            Some(writer) => writer,
            None => {
                let expected_len = item.bytes + ending.len() as u64;
                let making = Making { overwrite: laying.overwrite, expected_len, content_encoding: item.content_encoding.clone() };
                dest.create(name, making).await.map_err(LayError::Dest)?
            }
        };
        let copy = raw.clone();
        let (hashed, written) = tokio::join!(Workers::aside(move || inspection.hashed(&copy, Content::Opaque)), writer.write(raw));
        inspection = hashed?;
        written.map_err(LayError::Dest)?;
        inspection.join(part);
        told(Told::Bytes(piece.len as u64));
        if !piece.last {
            open = Some(writer);
            continue;
        }
        let found = std::mem::take(&mut inspection).finish().sha256;
        if found != item.sha256 {
            let fault = format!("expected sha256 {}, found {found}", item.sha256);
            return Err(ArchiveError::Data { entry: item.name.clone(), fault }.into());
        }
        if !ending.is_empty() {
            writer.write(ending).await.map_err(LayError::Dest)?;
        }
        writer.publish(About::default()).await.map_err(LayError::Dest)?;
        told(Told::Object(name, item));
    }
    Ok(())
}
