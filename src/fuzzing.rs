//! What fuzzing reads and nothing outside the crate could reach: readers that need a seal, a store
//! or a client first. `fuzz/` and `tests/it/fuzz_corpus.rs` call it.

use crate::backup;
use crate::datastore;
use crate::plan::Plan;
use crate::store::gcs;

/// A plan whose seal is the right one, whatever the text says.
pub fn sealed_plan(text: &str) -> Option<Plan> {
    let mut plan: Plan = serde_json::from_str(text).ok()?;
    plan.seal = plan.head.digest();
    Plan::parse(&plan.to_json()).ok()
}

/// Replays the segments of a backup's journal, one a line, up to the first that is none or cannot
/// have happened.
pub fn replay_backup_journal(segments: &[u8]) {
    backup::replay_segments(segments.split(|byte| *byte == b'\n'));
}

/// What can be shown of a listing of Cloud Storage, or of its refusal.
pub fn read_listing(status: u16, body: &[u8]) -> String {
    gcs::read_listing(status, body.to_vec().into())
}

/// What can be shown of an import of Datastore Admin; none where it is no import. The words about
/// an export hold nobody's data.
pub fn read_import(body: &[u8]) -> Option<String> {
    datastore::admin::read_import(body)
}

/// Reads a page of a query, and its entities as statistics.
pub fn read_query_page(body: &[u8]) {
    datastore::kinds::read_statistics(body);
}
