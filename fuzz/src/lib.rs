//! What must hold for any bytes: nothing panics, and what a reader accepts means the same to another
//! reader, or to the same one after it was written again.
//!
//! libFuzzer looks for bytes for which it does not (`fuzz_targets/`), and `tests/it/fuzz_corpus.rs`
//! tries all that are in `corpus/`.

mod answers;
mod archives;
mod checksums;
mod documents;
mod exports;
#[allow(clippy::duplicate_mod, reason = "the tests have it, too")]
#[path = "../../tests/it/support/memory_store.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod memory_store;
mod signatures;

pub use answers::answers;
pub use archives::{archive, manifest};
pub use documents::{config, journal, plan, queue_file};
pub use exports::{entity, log, metadata};
pub use signatures::signature;

/// What is tried with bytes.
pub type Target = fn(&[u8]);

/// All targets by their names.
pub const TARGETS: [(&str, Target); 11] = [
    ("answers", answers),
    ("archive", archive),
    ("config", config),
    ("entity", entity),
    ("journal", journal),
    ("log", log),
    ("manifest", manifest),
    ("metadata", metadata),
    ("plan", plan),
    ("queue_file", queue_file),
    ("signature", signature),
];

/// Runs what waits for a store or a worker.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without I/O").block_on(work)
}
