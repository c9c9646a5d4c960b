//! Pieces of an entry: each is deflated and inflated independently, so that cores can share an entry.
//!
//! libdeflate compresses a piece, and `block_walker.rs` finds its final block, which is then made
//! one that others follow. What cannot be walked is deflated by zlib.

mod block_walker;
mod pieces;

pub use pieces::{
    DataError, Deflater, INFLATE_ROOM_BYTES, Inflater, STREAM_END, deflate_piece, deflate_room,
    inflate_piece,
};
