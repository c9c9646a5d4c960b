//! What all long work needs: workers, buffers, feeds of bytes, and files that appear whole.

pub mod buffers;
pub mod feed;
pub mod private_files;
pub mod workers;
pub mod working_file;
