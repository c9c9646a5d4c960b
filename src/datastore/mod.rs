//! A client of Datastore, for the service and for the emulator.

pub mod admin;
pub mod app_engine;
pub(crate) mod client;
mod connection;
pub mod emulator;
pub mod emulator_product;
pub mod error;
pub(crate) mod grpc;
pub mod kinds;
pub mod limits;
mod query;
pub mod status;
