//! kindpack gathers the finished per-kind exports of Datastore into one checksummed zip, and
//! restores them kind by kind.
//!
//! [`mod@backup`] exports every kind of a Datastore and makes an archive of the exports.
//! [`mod@pack`] finds the exports in a listing and writes them into one [`archive`];
//! [`mod@verify`] reads an archive to its last byte, and [`mod@extract`] writes its entries back as
//! objects. [`mod@plan`] puts the kinds in order for one target; [`mod@restore`] carries the plan
//! out step by step, with a journal, into one of the [`targets`]. [`mod@report`] makes one page of
//! an archive, a plan or a restore, to look at.
//!
//! Pack a folder, verify the archive, and plan a restore of it:
//!
//! ```
//! use std::sync::Arc;
//!
//! use kindpack::pack::ArchiveName;
//! use kindpack::plan::{ArchiveRef, Choices, Environment};
//! use kindpack::progress::NoProgress;
//! use kindpack::runtime::workers::Workers;
//! use kindpack::store::DirStore;
//! use kindpack::verify::VerifyScope;
//! use kindpack::{Archive, PackRequest, Store, pack, plan, verify};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let exports = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/shop/exports");
//! # let backups = folder.path();
//! let source: Arc<dyn Store> = Arc::new(DirStore::new(exports));
//! let dest: Arc<dyn Store> = Arc::new(DirStore::new(backups));
//! let workers = Workers::new(2, 256 << 20);
//!
//! let name = ArchiveName::Explicit("backup.zip".to_owned());
//! let request = PackRequest::default();
//! let packed = pack(&source, &dest, name, &request, &workers, &NoProgress).await?;
//! assert_eq!(packed.entities, 445);
//!
//! let object = dest.stat("backup.zip").await?;
//! let title = "backup.zip".to_owned();
//! let everything = VerifyScope::Full;
//! let report =
//!     verify(dest.clone(), object.clone(), title.clone(), everything, &workers, &NoProgress).await?;
//! assert!(report.problems.is_empty());
//!
//! let archive = Archive::open(dest, object, title.clone()).await?;
//! let sha256 = packed.sealed.ok_or("nothing was written")?.sha256;
//! let archive_ref = ArchiveRef { location: title, sha256, generation: None };
//! let choices = Choices::new("ndjson:restored".parse()?);
//! let plan = plan(archive.manifest(), &archive_ref, &choices, &Environment::default())?;
//! assert_eq!(plan.steps.len(), 18);
//! # Ok(())
//! # }
//! ```
//!
//! `docs/architecture.md` shows all modules in their layers.

pub mod archive;
pub mod backup;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod datastore;
pub mod encryption;
#[doc(hidden)]
pub mod entity;
#[doc(hidden)]
pub mod export;
pub mod extract;
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod google;
pub mod model;
#[doc(hidden)]
pub mod notify;
pub mod pack;
pub mod plan;
pub mod progress;
#[doc(hidden)]
pub mod prune;
pub mod report;
pub mod restore;
pub mod runtime;
pub mod signature;
pub mod store;
pub mod targets;
#[doc(hidden)]
pub mod transform;
pub mod verify;

pub use archive::{Archive, ArchiveError};
pub use backup::{BackupError, BackupRequest, backup};
pub use extract::{ExtractError, extract};
pub use pack::{PackError, PackRequest, pack};
pub use plan::{Plan, PlanError, plan};
pub use restore::{RestoreError, RestoreRequest, restore};
pub use store::{Store, StoreError};
pub use targets::{Target, TargetError};
pub use verify::{VerifyError, verify};
