//! What the tests of the container share: an archive sealed from values, and a reader that goes the
//! whole strict way over bytes in memory.

use std::collections::HashMap;

use super::*;
use crate::archive::deflate::{Deflater, Inflater, STREAM_END};
use crate::model::{Method, Timestamp};

pub(super) const MODIFIED: &str = "2013-10-12T06:37:42Z";

pub(super) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn head(name: &str, method: Method) -> EntryHead<'_> {
    EntryHead {
        name,
        method,
        modified: Some(time(MODIFIED)),
    }
}

/// How an entry is put into a test's archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Stored,
    Known,
    Streamed,
}

/// A sealed archive, and what its manifest would say of its pieces: compressed and raw length of
/// each, by entry.
#[derive(Default)]
pub(super) struct Sealed {
    pub(super) bytes: Vec<u8>,
    pub(super) pieces: HashMap<String, Vec<(usize, usize)>>,
}

/// Deflates `raw` in pieces of `piece_len` bytes: the data of an entry, and the lengths of its
/// pieces.
pub(super) fn deflated(raw: &[u8], piece_len: usize) -> (Vec<u8>, Vec<(usize, usize)>) {
    let (mut deflater, mut data, mut pieces) = (Deflater::new(6), Vec::new(), Vec::new());
    for (number, piece) in (0..).zip(raw.chunks(piece_len)) {
        let before = data.len();
        deflater.append(number, piece, &mut data).unwrap();
        pieces.push((data.len() - before, piece.len()));
    }
    data.extend_from_slice(&STREAM_END);
    (data, pieces)
}

pub(super) fn seal(entries: &[(&str, Form, &[u8])]) -> Sealed {
    let (mut sealer, mut sealed) = (ZipWriter::default(), Sealed::default());
    for (name, form, raw) in entries {
        let crc32 = crc32fast::hash(raw);
        let len = raw.len() as u64;
        let (data, pieces) = if *form == Form::Stored {
            (raw.to_vec(), Vec::new())
        } else {
            deflated(raw, 64)
        };
        sealed.bytes.extend(match form {
            Form::Stored => sealer
                .begin_known(head(name, Method::Store), crc32, len, len)
                .unwrap(),
            Form::Known => sealer
                .begin_known(head(name, Method::Deflate), crc32, len, data.len() as u64)
                .unwrap(),
            Form::Streamed => sealer
                .begin_streamed(head(name, Method::Deflate), len)
                .unwrap(),
        });
        sealed.bytes.extend_from_slice(&data);
        sealer.data(data.len() as u64).unwrap();
        sealed.bytes.extend(sealer.end(crc32, len).unwrap());
        assert_eq!(sealer.offset(), sealed.bytes.len() as u64);
        sealed.pieces.insert((*name).to_owned(), pieces);
    }
    sealed.bytes.extend(sealer.finish().unwrap());
    sealed
}

pub(super) fn range(archive: &[u8], offset: u64, len: u64) -> &[u8] {
    &archive[offset as usize..][..len as usize]
}

/// Structure of the whole archive: end, directory, each local header and descriptor. Gives where
/// each entry's data begin.
pub(super) fn read_structure(
    archive: &[u8],
    profile: Strictness,
) -> Result<Vec<(DirectoryEntry, u64)>, Violation> {
    let archive_len = archive.len() as u64;
    let tail = range(
        archive,
        archive_len - tail_len(archive_len),
        tail_len(archive_len),
    );
    let place = locate(tail, archive_len, profile)?;
    let entries = parse_directory(range(archive, place.offset, place.len), &place, profile)?;
    let mut read = Vec::new();
    for entry in entries {
        let local = check_local_header(
            &entry,
            range(archive, entry.header_offset, entry.header_max_len()),
            profile,
        )?;
        let descriptor = range(
            archive,
            local.data_offset + entry.compressed_len,
            local.descriptor_len,
        );
        check_descriptor(&entry, descriptor, profile)?;
        read.push((entry, local.data_offset));
    }
    Ok(read)
}

/// Names and bytes of a sealed archive, whose pieces are known, or the first thing that is wrong.
pub(super) fn read_sealed(
    archive: &[u8],
    pieces: &HashMap<String, Vec<(usize, usize)>>,
    inflater: &mut Inflater,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut read = Vec::new();
    for (entry, data_offset) in
        read_structure(archive, Strictness::OwnFormat).map_err(|violation| violation.to_string())?
    {
        let mut data = range(archive, data_offset, entry.compressed_len);
        let mut bytes = Vec::new();
        if entry.method == Method::Store {
            bytes.extend_from_slice(data);
        } else {
            for (compressed_len, len) in pieces
                .get(&entry.name)
                .ok_or("an entry that the manifest does not know")?
            {
                let (piece, rest) = data
                    .split_at_checked(*compressed_len)
                    .ok_or("an entry shorter than its pieces")?;
                inflater
                    .append(piece, *len, &mut bytes)
                    .map_err(|error| error.to_string())?;
                data = rest;
            }
            if data != STREAM_END {
                return Err("no end of the stream behind the pieces".to_owned());
            }
        }
        if bytes.len() as u64 != entry.len || crc32fast::hash(&bytes) != entry.crc32 {
            return Err(format!("{}: another checksum", entry.name));
        }
        read.push((entry.name, bytes));
    }
    Ok(read)
}
