//! The words of the field as values, and how each is spelled in selectors, in JSON and to people.
//!
//! Knows no bytes of exports, no zip, no store. Everything here is plain data: no I/O, no clock.

pub mod address;
pub mod control;
mod digest;
mod file_name;
pub(crate) mod glob;
mod kind;
mod kind_counts;
mod manifest;
mod nearest;
mod sample;
mod selector;
mod target_spec;
mod time;
mod units;

pub use digest::{Crc32c, Sha256};
pub use file_name::{file_name, folded, pair_names, shortened, truncate_name};
pub use kind::{DEFAULT_NAMESPACE, Kind, KindRef, LEASE_KIND, Namespace};
pub use kind_counts::KindCounts;
pub use manifest::{
    AcceptedCount, BackupInfo, COMPANIONS_FOLDER, EXPORTS_FOLDER, EmptyExport, EntryInfo,
    EntryRole, ExportFormat, ExportTimes, KindInfo, MANIFEST_FORMAT, MANIFEST_NAME, Manifest,
    Method, MissingKind, PIECE_LEN_BYTES, PackOptions, SUMS_NAME, ToolInfo, Totals,
};
pub use nearest::{UnmatchedSelector, nearest_name};
pub use sample::{Sample, SampleError};
pub use selector::{Selector, SelectorError};
pub(crate) use target_spec::read_address;
pub use target_spec::{TargetPlace, TargetSpec, TargetSpecError};
pub use time::{TimeError, Timestamp, spelled_duration};
pub use units::{read_duration, read_size};
