//! Plans that kindpack keeps itself, with their journals: of restores in one go, and plans that
//! came through a pipe.
//!
//! They are in the state folder, each under a name that stands for archive, target and choices: so
//! the same command finds them again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::Digest as _;

use crate::model::Sha256;
use crate::plan::Plan;
use crate::restore::journal::file::JournalFile;
use crate::store::{DirStore, StoreError, write_object};

/// Plans longer than this are refused: they are held in memory. One of a million kinds fits.
pub const MAX_PLAN_BYTES: u64 = 1 << 30;

/// How long a plan is kept after its restore has finished.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Hex digits of a plan's name.
const KEY_DIGITS: usize = 32;

/// Where the journal of a plan is kept.
pub fn journal_of(plan: &Path) -> PathBuf {
    let mut name = plan.as_os_str().to_owned();
    name.push(".journal");
    PathBuf::from(name)
}

/// Where a plan is kept, below the state folder.
pub fn path_of(folder: &Path, plan: &Plan) -> PathBuf {
    folder.join(format!("{}.json", key_of(plan)))
}

/// The plan that an earlier run of the same restore has kept. It goes on as it is: its journal
/// names it, wherever the archive is now and whichever version made it.
pub fn read(path: &Path, plan: &Plan) -> Option<Plan> {
    let is_small = fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_PLAN_BYTES);
    let kept = is_small
        .then(|| fs::read_to_string(path).ok())?
        .and_then(|text| Plan::parse(&text).ok())?;
    (key_of(&kept) == key_of(plan)).then_some(kept)
}

/// Keeps a plan.
pub async fn write(path: &Path, plan: &Plan) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().expect("path_of gives the plan a name");
    let name = name.to_string_lossy();
    write_object(
        &DirStore::new(folder),
        &name,
        plan.to_json().into_bytes().into(),
        true,
    )
    .await
    .map(drop)
}

/// Removes the plans, but for that of `current`, whose restores have finished or never begun, and
/// were last used long ago. What cannot be removed or read stays.
pub fn remove_old(folder: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path != current && is_kept_plan(path))
    {
        let journal = journal_of(&path);
        let last_used = [&journal, &path]
            .iter()
            .filter_map(|path| fs::metadata(path).ok()?.modified().ok())
            .max();
        if last_used.is_none_or(|time| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|age| age > MAX_AGE)
        }) {
            // While it is open nobody else writes the journal.
            let Ok(Some(open)) = JournalFile::open_existing(&journal) else {
                if !journal.exists() {
                    fs::remove_file(&path).ok();
                }
                continue;
            };
            if open.journal().finished.is_some() || open.journal().opened.is_none() {
                fs::remove_file(&path).ok();
                fs::remove_file(&journal).ok();
            }
        }
    }
}

fn is_kept_plan(path: &Path) -> bool {
    let key = path.file_stem().map(|stem| stem.to_string_lossy());
    let is_key = key.is_some_and(|key| {
        key.len() == KEY_DIGITS && key.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    is_key && path.extension().is_some_and(|end| end == "json")
}

/// A name for archive, target and choices together: all that the plan says besides where the
/// archive is and who made the plan.
fn key_of(plan: &Plan) -> String {
    let mut plan = plan.clone();
    plan.head.archive.location.clear();
    plan.head.archive.generation = None;
    plan.head.tool.clear();
    plan.seal = Sha256([0; 32]);
    let digest = Sha256(sha2::Sha256::digest(plan.to_json()).into()).to_string();
    digest.chars().take(KEY_DIGITS).collect()
}
