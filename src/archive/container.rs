//! The zip of an archive: its tail and directory, and one entry as a stream.
//!
//! Every read is strict: local headers and descriptors are held against the directory.

use std::cmp::Ordering;
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;

use async_compression::tokio::bufread::DeflateDecoder;
use bytes::Bytes;
use futures_util::stream;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _};
use tokio::sync::OnceCell;
use tokio_util::io::StreamReader;

use crate::archive::deflate::DataError;
use crate::archive::error::ArchiveError;
use crate::archive::zip::{self, DirectoryEntry, DirectoryPlace, Rule, Strictness, Violation};
use crate::model::{Method, PIECE_LEN_BYTES};
use crate::store::{ObjectInfo, Store, StoreError, read_exact};

/// Manifests longer than this are not kept beside what is made of them.
const MAX_MANIFEST_HELD_BYTES: usize = 8 << 20;

/// How a zip with entries begins.
const ZIP_BEGINNING: &[u8] = b"PK\x03\x04";

/// What is read first of an archive in a bucket.
const REMOTE_TAIL_BYTES: u64 = 512 << 10;

/// The container of an archive: its directory, read and found sound.
#[derive(Debug)]
pub struct Container {
    store: Arc<dyn Store>,
    object: ObjectInfo,
    title: String,
    profile: Strictness,
    /// The end of the archive, directory included, as it was read.
    tail: Bytes,
    entries: Vec<DirectoryEntry>,
    /// Whether the end came as it is stored, where that was asked.
    tail_is_sound: OnceCell<bool>,
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
        profile: Strictness,
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

    /// Reads the end and the directory once, whatever comes of it.
    pub(super) async fn open_once(
        store: Arc<dyn Store>,
        object: ObjectInfo,
        title: String,
        profile: Strictness,
    ) -> Result<Self, ArchiveError> {
        let (tail, place) = read_tail(store.as_ref(), &object, &title, profile).await?;
        let Some(directory) = place.in_tail(&tail, object.len) else {
            return Err(ArchiveError::Store(StoreError::Changed {
                name: store.display_name(&object.name),
            }));
        };
        let entries = zip::parse_directory(directory, &place, profile)
            .map_err(|violation| refusal(&title, violation))?;
        Ok(Container {
            store,
            object,
            title,
            profile,
            tail,
            entries,
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
        match self.held_range(offset, len) {
            Some(range) => Ok(self.tail.slice(range)),
            None => self.read_stored(offset, len).await,
        }
    }

    async fn read_stored(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        read_exact(self.store.as_ref(), &self.object, offset, len).await
    }

    /// Where bytes of the archive are in its end, if they belong to it.
    fn held_range(&self, offset: u64, len: usize) -> Option<Range<usize>> {
        let skip = offset.checked_sub(self.tail().0)?;
        let start = usize::try_from(skip).ok()?;
        let range = start..start.checked_add(len)?;
        (range.end <= self.tail.len()).then_some(range)
    }

    /// Keeps the archive's end from `offset` on, read at once.
    async fn extend_tail(&mut self, offset: u64) -> Result<(), ArchiveError> {
        let start = self.tail().0;
        if let Some(missing @ 1..) = start.checked_sub(offset) {
            let missing = usize::try_from(missing).expect("a manifest that is kept is short");
            let before = self.read_stored(offset, missing).await?;
            self.tail = [before, std::mem::take(&mut self.tail)].concat().into();
        }
        Ok(())
    }

    /// Reads the end once more, where an entry contradicts the directory: it may be the directory
    /// that was damaged on its way.
    pub(super) async fn check_tail(&self) -> Result<(), StoreError> {
        let read = || self.has_same_tail();
        if *self.tail_is_sound.get_or_try_init(read).await? {
            return Ok(());
        }
        Err(StoreError::Service {
            call: format!("read of {}", self.title),
            tries: 1,
            seconds: 0,
            found: "the directory of the zip arrived damaged".to_owned(),
        })
    }

    async fn has_same_tail(&self) -> Result<bool, StoreError> {
        let (offset, tail) = self.tail();
        let read = self.read_stored(offset, tail.len()).await?;
        Ok(read == *tail)
    }

    /// Reads the manifest, which is stored as it is. A short one is kept from then on; a long one
    /// is in memory only until it is dropped.
    pub(super) async fn read_manifest(
        &mut self,
        entry: &DirectoryEntry,
    ) -> Result<Bytes, ArchiveError> {
        let len = usize::try_from(entry.end_offset - entry.header_offset)
            .expect("a manifest is of bounded length");
        if len <= MAX_MANIFEST_HELD_BYTES {
            self.extend_tail(entry.header_offset).await?;
        }
        let read = self.fetch(entry.header_offset, len).await?;
        let data = self.stored_data(entry, &read)?;
        check_crc32(entry, crc32fast::hash(&data))?;
        Ok(data)
    }

    /// The data of an entry that is stored, from all bytes of its extent.
    fn stored_data(&self, entry: &DirectoryEntry, extent: &Bytes) -> Result<Bytes, ArchiveError> {
        let local = zip::check_local_header(entry, extent, self.profile)
            .map_err(|violation| self.broken(violation))?;
        let begin = usize::try_from(local.data_offset - entry.header_offset)
            .expect("a header is in memory");
        let end = usize::try_from(entry.compressed_len)
            .ok()
            .and_then(|len| begin.checked_add(len))
            .filter(|end| *end <= extent.len());
        let Some(end) = end else {
            let error = DataError::TooShort {
                expected: entry.compressed_len,
                found: extent.len().saturating_sub(begin) as u64,
            };
            return Err(ArchiveError::data(&entry.name, error));
        };
        zip::check_descriptor(entry, &extent.slice(end..), self.profile)
            .map_err(|violation| self.broken(violation))?;
        Ok(extent.slice(begin..end))
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
            let len = (self.object.len - offset).min(PIECE_LEN_BYTES as u64);
            let read = self.fetch(offset, len as usize).await?;
            offset += read.len() as u64;
            take(read);
        }
        Ok(())
    }

    pub(super) fn broken(&self, violation: Violation) -> ArchiveError {
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
        let (start, end) = self.data_range(entry).await?;
        let data = self.range(start, end);
        let mut read = EntryCheck {
            entry,
            crc32: crc32fast::Hasher::new(),
            len: 0,
            sink,
        };
        match entry.method {
            Method::Store => read
                .copy(pin!(data))
                .await
                .map_err(|error| stream_error(entry, error))?,
            Method::Deflate => read.inflate(Box::pin(data)).await?,
        }
        read.finish()
    }

    /// Where the data of an entry begin and end, its header and descriptor checked.
    async fn data_range(&self, entry: &DirectoryEntry) -> Result<(u64, u64), ArchiveError> {
        let header = self
            .fetch(entry.header_offset, entry.header_max_len() as usize)
            .await?;
        let local = zip::check_local_header(entry, &header, self.profile)
            .map_err(|violation| self.broken(violation))?;
        let data_end = local.data_offset + entry.compressed_len;
        let descriptor = self.fetch(data_end, local.descriptor_len as usize).await?;
        zip::check_descriptor(entry, &descriptor, self.profile)
            .map_err(|violation| self.broken(violation))?;
        Ok((local.data_offset, data_end))
    }
}

/// Reads an archive's last bytes, the directory included, and where in them the directory is.
async fn read_tail(
    store: &dyn Store,
    object: &ObjectInfo,
    title: &str,
    profile: Strictness,
) -> Result<(Bytes, DirectoryPlace), ArchiveError> {
    let end_len = zip::tail_len(object.len);
    // A service answers a longer range in the same time: mostly directory and manifest come
    // along.
    let tail_len = if store.is_remote() {
        object.len.min(REMOTE_TAIL_BYTES).max(end_len)
    } else {
        end_len
    };
    let mut tail = read_exact(store, object, object.len - tail_len, tail_len as usize).await?;
    let end = tail.slice(tail.len() - end_len as usize..);
    let place = match zip::locate(&end, object.len, profile) {
        Ok(place) => place,
        Err(violation) if violation.rule == Rule::EndRecord => {
            return Err(no_zip(store, object, title).await?);
        }
        Err(violation) => return Err(refusal(title, violation)),
    };
    if place.in_tail(&tail, object.len).is_none() {
        // The directory is bounded by the rule that located it.
        let len = (object.len - place.offset) as usize;
        tail = read_exact(store, object, place.offset, len).await?;
    }
    Ok((tail, place))
}

/// What is said of bytes that do not end as a zip does, by how they begin.
async fn no_zip(
    store: &dyn Store,
    object: &ObjectInfo,
    title: &str,
) -> Result<ArchiveError, StoreError> {
    let archive = title.to_owned();
    if object.len == 0 {
        return Ok(ArchiveError::Empty { archive });
    }
    let len = object.len.min(ZIP_BEGINNING.len() as u64) as usize;
    let beginning = read_exact(store, object, 0, len).await?;
    Ok(match *beginning == *ZIP_BEGINNING {
        true => ArchiveError::NoZipEnd { archive },
        false => ArchiveError::NotAZip { archive },
    })
}

fn refusal(title: &str, violation: Violation) -> ArchiveError {
    let archive = title.to_owned();
    match violation.rule {
        Rule::EndRecord => ArchiveError::NotAZip { archive },
        _ => ArchiveError::Structure { archive, violation },
    }
}

fn check_crc32(entry: &DirectoryEntry, found: u32) -> Result<(), ArchiveError> {
    let expected = entry.crc32;
    if found == expected {
        return Ok(());
    }
    let error = DataError::WrongCrc32 { expected, found };
    Err(ArchiveError::data(&entry.name, error))
}

/// An error of a stream that may be the store's, or of the deflated data.
fn stream_error(entry: &DirectoryEntry, error: io::Error) -> ArchiveError {
    match error.downcast::<StoreError>() {
        Ok(error) => ArchiveError::Store(error),
        Err(error) => ArchiveError::Data {
            entry: entry.name.clone(),
            fault: format!("the deflate stream is damaged: {error}"),
        },
    }
}

/// Hands on the bytes of an entry, and checks their length and checksum.
struct EntryCheck<'a> {
    entry: &'a DirectoryEntry,
    crc32: crc32fast::Hasher,
    len: u64,
    sink: &'a mut (dyn FnMut(&[u8]) + Send),
}

impl EntryCheck<'_> {
    /// Hands on all bytes of a stream, and stops as soon as there are more than the entry claims.
    async fn copy(&mut self, mut from: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while self.len <= self.entry.len {
            let got = from.read(&mut buffer).await?;
            if got == 0 {
                break;
            }
            self.len += got as u64;
            let (bytes, _) = buffer.split_at(got);
            self.crc32.update(bytes);
            (self.sink)(bytes);
        }
        Ok(())
    }

    /// Inflates a stream, which must end where its bytes do.
    async fn inflate(&mut self, data: Pin<Box<impl AsyncBufRead>>) -> Result<(), ArchiveError> {
        let entry = self.entry;
        let mut inflating = pin!(DeflateDecoder::new(data));
        self.copy(inflating.as_mut())
            .await
            .map_err(|error| stream_error(entry, error))?;
        let mut rest = [0; 1];
        let rest_len = inflating
            .get_mut()
            .get_mut()
            .read(&mut rest)
            .await
            .map_err(|error| stream_error(entry, error))?;
        if rest_len == 0 {
            return Ok(());
        }
        Err(ArchiveError::data(
            &entry.name,
            DataError::EndsEarly {
                compressed_len: entry.compressed_len,
            },
        ))
    }

    /// Compares what was read with what the directory says.
    fn finish(self) -> Result<(), ArchiveError> {
        let (expected, found) = (self.entry.len, self.len);
        let error = match found.cmp(&expected) {
            Ordering::Greater => DataError::TooLong { expected },
            Ordering::Less => DataError::TooShort { expected, found },
            Ordering::Equal => return check_crc32(self.entry, self.crc32.finalize()),
        };
        Err(ArchiveError::data(&self.entry.name, error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use async_trait::async_trait;

    use super::*;
    use crate::archive::deflate::{Deflater, STREAM_END};
    use crate::archive::zip::{EntryHead, ZipWriter};
    use crate::store::{DirStore, ObjectWriter, WriteOptions};

    const CONTENT: &[u8] = b"bytes of an entry, bytes of an entry, bytes of an entry";

    /// What an archive claims of its last entry, and what its data are.
    #[derive(Clone)]
    struct Claim {
        method: Method,
        data: Vec<u8>,
        len: u64,
        crc32: u32,
    }

    impl Claim {
        fn stored() -> Self {
            Claim {
                method: Method::Store,
                data: CONTENT.to_vec(),
                len: CONTENT.len() as u64,
                crc32: crc32fast::hash(CONTENT),
            }
        }

        fn deflated() -> Self {
            let mut data = Vec::new();
            Deflater::new(6).append(0, CONTENT, &mut data).unwrap();
            data.extend_from_slice(&STREAM_END);
            Claim {
                method: Method::Deflate,
                data,
                ..Claim::stored()
            }
        }

        /// An archive of two entries, of which this is the last one.
        fn archive(&self) -> Vec<u8> {
            let (mut writer, mut archive) = (ZipWriter::default(), Vec::new());
            Claim::stored().write("first", &mut writer, &mut archive);
            self.write("entry", &mut writer, &mut archive);
            archive.extend(writer.finish().unwrap());
            archive
        }

        fn write(&self, name: &str, writer: &mut ZipWriter, archive: &mut Vec<u8>) {
            let head = EntryHead {
                name,
                method: self.method,
                modified: None,
            };
            let packed_len = self.data.len() as u64;
            let begun = writer.begin_known(head, self.crc32, self.len, packed_len);
            archive.extend(begun.unwrap());
            archive.extend_from_slice(&self.data);
            writer.data(packed_len).unwrap();
            archive.extend(writer.end(self.crc32, self.len).unwrap());
        }
    }

    async fn open(folder: &tempfile::TempDir, archive: &[u8]) -> Result<Container, ArchiveError> {
        std::fs::write(folder.path().join("x.zip"), archive).unwrap();
        let store: Arc<dyn Store> = Arc::new(DirStore::new(folder.path()));
        let object = store.stat("x.zip").await.unwrap();
        Container::open(store, object, "x.zip".to_owned(), Strictness::OwnFormat).await
    }

    /// The bytes of the last entry, or what is wrong with it.
    async fn read(claim: &Claim) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let container = open(&folder, &claim.archive()).await.unwrap();
        let mut found = Vec::new();
        let mut sink = |bytes: &[u8]| found.extend_from_slice(bytes);
        let entry = &container.entries()[1];
        let read = container.read_entry(entry, &mut sink).await;
        read.map_err(|error| error.to_string())?;
        Ok(found)
    }

    #[tokio::test]
    async fn entry_is_read_from_both_methods() {
        for claim in [Claim::stored(), Claim::deflated()] {
            assert_eq!(read(&claim).await.unwrap(), CONTENT);
        }
    }

    #[tokio::test]
    async fn false_claims_of_an_entry_are_refused() {
        type Edit = fn(&mut Claim);
        let edits: [(Edit, &str); 6] = [
            (|claim| claim.crc32 ^= 1, "expected crc32 "),
            (|claim| claim.len += 1, "unpacks to 55 bytes instead of 56"),
            (|claim| claim.len -= 1, "unpacks to more than 54 bytes"),
            (|claim| claim.len = 0, "unpacks to more than 0 bytes"),
            (
                |claim| claim.data.push(0),
                "the deflate stream ends before its ",
            ),
            (
                |claim| claim.data.truncate(claim.data.len() - 1),
                "the deflate stream is damaged: ",
            ),
        ];
        for (edit, fault) in edits {
            let mut claim = Claim::deflated();
            edit(&mut claim);
            let refused = read(&claim).await.unwrap_err();
            assert!(refused.starts_with("entry entry is damaged: "), "{refused}");
            assert!(refused.contains(fault), "{refused}, not {fault}");
        }
        let mut stored = Claim::stored();
        stored.data[7] ^= 1;
        assert!(read(&stored).await.unwrap_err().contains("expected crc32 "));
    }

    #[tokio::test]
    async fn manifest_is_read_and_kept_with_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut claim = Claim::stored();
        claim.data = vec![b'm'; 200_000];
        (claim.len, claim.crc32) = (200_000, crc32fast::hash(&claim.data));
        let archive = claim.archive();
        let mut container = open(&folder, &archive).await.unwrap();
        let (offset, tail) = container.tail();
        assert!(offset > 0 && tail[..] == archive[offset as usize..]);
        let entry = container.entries()[1].clone();
        let manifest = container.read_manifest(&entry).await.unwrap();
        assert!(manifest == claim.data);
        let (offset, tail) = container.tail();
        assert!(offset == entry.header_offset && tail[..] == archive[offset as usize..]);

        claim.crc32 ^= 1;
        let mut container = open(&folder, &claim.archive()).await.unwrap();
        let entry = container.entries()[1].clone();
        let refused = container.read_manifest(&entry).await.unwrap_err();
        assert!(refused.is_damage() && refused.to_string().contains("crc32"));
    }

    #[tokio::test]
    async fn archive_is_handed_on_from_any_byte() {
        let folder = tempfile::tempdir().unwrap();
        let mut claim = Claim::stored();
        claim.data = (0..PIECE_LEN_BYTES + 100_000)
            .map(|at| (at % 251) as u8)
            .collect();
        claim.len = claim.data.len() as u64;
        claim.crc32 = crc32fast::hash(&claim.data);
        assert!(read(&claim).await.unwrap() == claim.data);
        let archive = claim.archive();
        let container = open(&folder, &archive).await.unwrap();
        let held = container.tail().0;
        for offset in [0, 1, held - 1, held, held + 1, archive.len() as u64] {
            let mut found = Vec::new();
            let take = |bytes: Bytes| found.extend_from_slice(&bytes);
            container.read_from(offset, take).await.unwrap();
            assert!(found == archive[offset as usize..], "{offset}");
        }
        let last = archive.len() as u64 - 1;
        assert!(container.held_range(last, 1).is_some());
        assert!(container.held_range(last, 2).is_none());
        assert!(container.held_range(held - 1, 1).is_none());
    }

    #[tokio::test]
    async fn end_that_arrived_damaged_is_recognized() {
        let folder = tempfile::tempdir().unwrap();
        let mut container = open(&folder, &Claim::stored().archive()).await.unwrap();
        container.check_tail().await.unwrap();
        assert_eq!(
            (container.title(), container.object().name.as_str()),
            ("x.zip", "x.zip")
        );
        let mut arrived = container.tail.to_vec();
        arrived[0] ^= 1;
        (container.tail, container.tail_is_sound) = (arrived.into(), OnceCell::new());
        let refused = container.check_tail().await.unwrap_err().to_string();
        assert!(
            refused.contains("the directory of the zip arrived damaged"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn directory_longer_than_the_end_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, mut archive) = (ZipWriter::default(), Vec::new());
        for number in 0..2_000 {
            Claim::stored().write(&format!("entry-{number}"), &mut writer, &mut archive);
        }
        archive.extend(writer.finish().unwrap());
        let container = open(&folder, &archive).await.unwrap();
        assert_eq!(container.entries().len(), 2_000);
        let (offset, tail) = container.tail();
        assert!(tail.len() > 65_633 && tail[..] == archive[offset as usize..]);
    }

    /// A store that damages the bytes of its first read.
    #[derive(Debug)]
    struct DamagingStore {
        files: DirStore,
        is_remote: bool,
        reads: AtomicUsize,
    }

    #[async_trait]
    impl Store for DamagingStore {
        async fn list(&self) -> Result<Vec<ObjectInfo>, StoreError> {
            self.files.list().await
        }

        async fn stat(&self, name: &str) -> Result<ObjectInfo, StoreError> {
            self.files.stat(name).await
        }

        async fn read(
            &self,
            object: &ObjectInfo,
            offset: u64,
            len: usize,
        ) -> Result<Bytes, StoreError> {
            let mut bytes = self.files.read(object, offset, len).await?.to_vec();
            if self.reads.fetch_add(1, Relaxed) == 0 {
                bytes.fill(0);
            }
            Ok(bytes.into())
        }

        async fn check_names(&self, names: &[&str]) -> Result<(), StoreError> {
            self.files.check_names(names).await
        }

        async fn create(
            &self,
            name: &str,
            options: WriteOptions,
        ) -> Result<Box<dyn ObjectWriter>, StoreError> {
            self.files.create(name, options).await
        }

        async fn remove(&self, object: &ObjectInfo) -> Result<(), StoreError> {
            self.files.remove(object).await
        }

        async fn delete_unchanged(&self, object: &ObjectInfo) -> Result<(), StoreError> {
            self.files.delete_unchanged(object).await
        }

        fn display_name(&self, name: &str) -> String {
            self.files.display_name(name)
        }

        fn is_remote(&self) -> bool {
            self.is_remote
        }
    }

    #[tokio::test]
    async fn end_damaged_on_its_way_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.zip"), Claim::stored().archive()).unwrap();
        for is_remote in [true, false] {
            let store = Arc::new(DamagingStore {
                files: DirStore::new(folder.path()),
                is_remote,
                reads: AtomicUsize::new(0),
            });
            let object = store.stat("x.zip").await.unwrap();
            let title = "x.zip".to_owned();
            let opened = Container::open(store.clone(), object, title, Strictness::AnyZip).await;
            assert_eq!(opened.is_ok(), is_remote);
            // The end, the beginning, and once more the end.
            assert_eq!(store.reads.load(Relaxed), 2 + usize::from(is_remote));
        }
    }

    #[tokio::test]
    async fn no_zip_and_broken_zip_differ() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Claim::stored().archive();
        let cut = open(&folder, &archive[..archive.len() - 1]).await;
        assert!(matches!(cut, Err(ArchiveError::NoZipEnd { .. })));
        let other = open(&folder, &archive[1..archive.len() - 1]).await;
        assert!(matches!(other, Err(ArchiveError::NotAZip { .. })));
        let empty = open(&folder, b"").await;
        assert!(matches!(empty, Err(ArchiveError::Empty { .. })));
        let shifted = open(&folder, &[&b"x"[..], &archive].concat()).await;
        assert!(matches!(shifted, Err(ArchiveError::Structure { .. })));
    }
}
