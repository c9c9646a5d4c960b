//! Google's own exports and imports: who starts them, and what becomes of them.
//!
//! Knows exports by their addresses and operations by their names. Must not know archives, plans or
//! journals, nor how an export came to lie at its address.

mod advice;
mod api;
mod client;
mod emulator;
mod emulator_export;
mod export;
mod exporter;
mod label;
mod operation;
mod operations;
mod options;
mod service;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

pub use emulator::EmulatorImporter;
pub use emulator_export::EmulatorExporter;
pub use export::{
    ExportError, ExportErrorClass, ExportRequest, Exporter, FoundOperation, StartedExport,
};
pub use exporter::ServiceExporter;
pub use label::{ExportLabel, Label, plan_id};
#[cfg(feature = "test-util")]
pub(crate) use operation::read_import;
pub use operation::{OperationFailure, OperationProgress, OperationState};
pub use options::ServiceOptions;
pub use service::ServiceImporter;

use crate::datastore::error::DatastoreError;
use crate::google::retry::Backoff;

/// An import that is to be started.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// By which it is found again.
    pub label: Label,
    /// The export's completion marker: `gs://BUCKET/…/NAME.overall_export_metadata`, or an absolute path.
    pub input_url: String,
    /// Bytes of the export.
    pub bytes: u64,
}

/// What came of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartedImport {
    /// Everything is in the target.
    Done,
    /// An operation goes on with it.
    Operation(String),
}

/// From where exports are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportStorage {
    /// From buckets.
    Bucket,
    /// From folders of this machine.
    LocalDir,
    /// From folders of another machine.
    RemoteDir,
}

/// Who imports exports into one project.
///
/// An operation goes on when nobody asks for it any more, and is never called back: what it has
/// written by then would stay.
pub trait Importer: fmt::Debug + Send + Sync {
    /// From where it takes exports.
    fn reads(&self) -> ExportStorage;

    /// Whether an import keeps its numeric ids from being handed to new entities.
    fn reserves_ids(&self) -> bool;

    /// Whether it knows an operation again by the folder that it reads. Then each restore imports
    /// from a folder of its own.
    fn matches_by_folder(&self) -> bool;

    /// A permit of these is held for each import from its start to its end.
    fn concurrency(&self) -> &Arc<Semaphore>;

    /// Starts an import, once, also where the answer to the first try is lost.
    ///
    /// # Errors
    /// [`DatastoreError::Service`] leaves open whether it goes on; after anything else it does not.
    fn start<'a>(
        &'a self,
        import: &'a ImportRequest,
    ) -> BoxFuture<'a, Result<StartedImport, DatastoreError>>;

    /// The operation that a run before this one has started: one that goes on, or else one of the
    /// same restore that has succeeded.
    fn find<'a>(
        &'a self,
        import: &'a ImportRequest,
    ) -> BoxFuture<'a, Result<Option<String>, DatastoreError>>;

    /// Where an operation stands.
    fn poll<'a>(
        &'a self,
        operation: &'a str,
    ) -> BoxFuture<'a, Result<OperationState, DatastoreError>>;

    /// How long to wait between questions after an operation.
    fn poll_backoff(&self) -> Backoff;
}
