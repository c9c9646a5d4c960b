//! The zip container: strict structure reader, sealing writer, and the pieces that entries are cut
//! into.
//!
//! Knows bytes and numbers only: the floor above fetches ranges and hands them in, and carries away
//! what is written here. It must not know stores, kinds or what an entry is about; it does no I/O.
//!
//! Writing: [`Sealer`] gives the bytes around the data, [`Deflater`] the data. Reading:
//! [`tail_len`], [`locate`], [`parse_directory`], and for each entry [`check_local_header`], its
//! data by [`Inflater`] where it has pieces, [`check_descriptor`].

mod layout;
mod name;
mod pieces;
mod record;
mod rule;
mod seal;
mod structure;
mod walk;

#[cfg(test)]
mod testing;

pub use name::check_name;
pub use pieces::{
    DataError, Deflater, INFLATE_ROOM_BYTES, Inflater, STREAM_END, deflate_piece, deflate_room,
    inflate_piece,
};
pub use rule::{Rule, Violation};
pub use seal::{EntryHead, SealError, Sealer};
pub use structure::{
    DirectoryEntry, DirectoryPlace, Limits, LocalHeader, MAX_DIRECTORY_LEN_BYTES, Profile,
    check_descriptor, check_local_header, locate, parse_directory, tail_len,
};
