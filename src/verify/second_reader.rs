//! Another reader's view of the archive: the `zip` crate must see the same entries.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use bytes::Bytes;

use crate::archive::Container;

/// Compares the entries with those that the `zip` crate sees in the archive's end.
pub(super) fn check_second_reader(container: &Container) -> Option<String> {
    let title = container.title();
    match zip::ZipArchive::new(TailReader::new(container)) {
        Ok(archive) => compare_names(container, &archive),
        Err(error) => Some(format!(
            "{title}: another zip reader does not open it: {error}"
        )),
    }
}

fn compare_names(container: &Container, other: &zip::ZipArchive<TailReader>) -> Option<String> {
    let entries = container.entries().iter();
    let ours: BTreeSet<&str> = entries.map(|entry| entry.name.as_str()).collect();
    let theirs: Vec<Cow<'_, str>> = other.file_names().filter_map(Result::ok).collect();
    let same = ours.len() == theirs.len() && theirs.iter().all(|name| ours.contains(name.as_ref()));
    (!same).then(|| {
        format!(
            "{}: another zip reader sees other entries: expected {}, found {}",
            container.title(),
            ours.len(),
            theirs.len()
        )
    })
}

/// The end of an archive, readable and seekable; what comes before it cannot be read.
struct TailReader {
    offset: u64,
    bytes: Cursor<Bytes>,
}

impl TailReader {
    fn new(container: &Container) -> Self {
        let (offset, tail) = container.tail();
        let bytes = Cursor::new(tail.clone());
        TailReader { offset, bytes }
    }

    /// A place of the archive as one of its end.
    fn within(&self, place: u64) -> io::Result<u64> {
        let before = || io::Error::other("a place before the end of the archive");
        place.checked_sub(self.offset).ok_or_else(before)
    }
}

impl Read for TailReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl Seek for TailReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(start) => SeekFrom::Start(self.within(start)?),
            other => other,
        };
        Ok(self.bytes.seek(to)? + self.offset)
    }
}
