//! `kindpack backup`, from a list of kinds to a verified archive.

mod apps;
mod emulator;
mod notified;
mod options;
mod proxy;
mod service;
