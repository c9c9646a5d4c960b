//! The container: what other programs read in ours, and what we say of zips of others.

mod corpus;
mod other_readers;
