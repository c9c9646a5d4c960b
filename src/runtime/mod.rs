//! What all long work needs: workers, buffers, and files that appear whole.

pub mod buffers;
pub mod private_files;
pub mod workers;
pub mod working_file;
