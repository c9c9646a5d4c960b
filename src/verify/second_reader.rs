//! Another reader's view of the archive: the `zip` crate must see the same entries.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use bytes::Bytes;

use crate::archive::Container;

/// Compares the entries with those that the `zip` crate sees in the archive's end.
pub(super) fn check_second_reader(container: &Container) -> Option<String> {
    let (offset, tail) = container.tail();
    let tail = TailReader {
        offset,
        bytes: Cursor::new(tail.clone()),
    };
    let title = container.title();
    let archive = match zip::ZipArchive::new(tail) {
        Ok(archive) => archive,
        Err(error) => {
            return Some(format!(
                "{title}: expected a zip that another reader opens, found that it says: {error}"
            ));
        }
    };
    let ours: BTreeSet<&str> = container
        .entries()
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    let theirs: Vec<Cow<'_, str>> = archive.file_names().filter_map(Result::ok).collect();
    let same = ours.len() == theirs.len() && theirs.iter().all(|name| ours.contains(name.as_ref()));
    (!same).then(|| {
        format!(
            "{title}: expected {} entries for every reader, found {} for another one",
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

impl Read for TailReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl Seek for TailReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(start) => {
                let start = start
                    .checked_sub(self.offset)
                    .ok_or_else(|| io::Error::other("a place before the end of the archive"))?;
                SeekFrom::Start(start)
            }
            other => other,
        };
        Ok(self.bytes.seek(to)? + self.offset)
    }
}
