//! The zip container: a strict reader of its structure, and a writer.
//!
//! Knows bytes and numbers only: the caller fetches ranges and hands them in, and takes away what is
//! written here. It does no I/O.
//!
//! Writing: [`ZipWriter`] gives the bytes around the data, [`Deflater`] the data. Reading:
//! [`tail_len`], [`locate`], [`parse_directory`], and for each entry [`check_local_header`], its
//! data by [`Inflater`] where it has pieces, [`check_descriptor`].
//!
//! [`Deflater`]: super::deflate::Deflater
//! [`Inflater`]: super::deflate::Inflater

mod directory;
mod end;
mod extra;
mod headers;
mod local;
mod name;
mod record;
mod rule;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use directory::{DirectoryEntry, parse_directory};
pub use end::{DirectoryPlace, MAX_DIRECTORY_LEN_BYTES, locate, tail_len};
pub use local::{LocalHeader, check_descriptor, check_local_header};
pub use name::{check_name, check_places};
pub use rule::{Rule, Strictness, Violation};
pub use writer::{EntryHead, ZipWriteError, ZipWriter};
