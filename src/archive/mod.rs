//! An archive of kindpack, at rest: opened by its end, read by pieces, listed, unpacked.

pub mod catalog;
pub mod checksums;
pub mod deflate;
pub mod entities;
mod file;
pub mod read_ahead;
pub mod unpack;
pub mod zip;

pub use file::{
    ArchiveError, ArchiveFile, Container, PieceRef, READS_PER_DIGEST, Reading, Stored, digest_of,
};
