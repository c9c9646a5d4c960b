//! The right to be the only restore of this user and machine into a target: a file that is locked
//! as long as the restore runs.
//!
//! Knows how targets are spelled, so that one target by two names is one. Must not know what a
//! restore does. The lock is the system's: it ends with the process, however that ends, and the
//! file that stays behind means nothing.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::model::address::is_this_machine;
use crate::model::{Sha256, TargetPlace, TargetSpec, Timestamp};
use crate::runtime::private_files::{create_private_folders, private_file_options};

/// Longer files are none of ours.
const MAX_HOLDER_BYTES: u64 = 64 << 10;

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOwner {
    /// The process.
    pub pid: u32,
    /// The plan that it runs.
    pub plan: String,
    /// Since when.
    pub since: Timestamp,
}

/// A lease; it ends when this is dropped.
#[derive(Debug)]
pub struct TargetLock(#[expect(dead_code, reason = "the lock is held by the open file")] File);

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(test, derive(strum::VariantNames))]
pub enum LeaseError {
    /// Another restore goes into the same target.
    #[error("{target} is locked by another restore{}", owner_text(.holder.as_ref()))]
    Held {
        /// The target.
        target: String,
        /// Who holds it, where the file says so.
        holder: Option<LockOwner>,
    },
    /// The file cannot be used.
    #[error("{deed} {path} failed: {source}")]
    Io {
        /// The file.
        path: String,
        /// What was tried.
        deed: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn owner_text(holder: Option<&LockOwner>) -> String {
    match holder {
        Some(LockOwner { pid, plan, since }) => {
            format!(": process {pid} runs {plan} since {since}")
        }
        None => String::new(),
    }
}

/// Takes the lease of a target. `folder` is where this user's leases are.
///
/// # Errors
/// [`LeaseError`].
pub fn acquire(
    folder: &Path,
    target: &TargetSpec,
    holder: &LockOwner,
) -> Result<TargetLock, LeaseError> {
    let path = lease_path(folder, target);
    let failed = |deed| {
        let path = &path;
        move |source| io_error(path, deed, source)
    };
    create_private_folders(folder).map_err(failed("creating the folder of"))?;
    let mut file = open_lease(&path).map_err(failed("opening"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(held(file, target)),
        Err(TryLockError::Error(source)) => {
            return Err(failed("locking")(source));
        }
    }
    write_holder(&mut file, holder).map_err(failed("writing"))?;
    Ok(TargetLock(file))
}

/// Where the lease of a target is: a name of its own for each target.
fn lease_path(folder: &Path, target: &TargetSpec) -> PathBuf {
    let digest = Sha256(sha2::Sha256::digest(place_of(target)).into()).to_string();
    let name: String = digest.chars().take(32).collect();
    folder.join(format!("{name}.lease"))
}

fn open_lease(path: &Path) -> io::Result<File> {
    let mut options = private_file_options();
    options.read(true).write(true);
    options.create(true).truncate(false).open(path)
}

fn io_error(path: &Path, deed: &'static str, source: io::Error) -> LeaseError {
    let path = path.display().to_string();
    LeaseError::Io { path, deed, source }
}

/// The error of a lease that another process has. Who holds it may be about to write it: then
/// nobody is named.
fn held(file: File, target: &TargetSpec) -> LeaseError {
    let mut text = String::new();
    file.take(MAX_HOLDER_BYTES).read_to_string(&mut text).ok();
    LeaseError::Held {
        target: target.to_string(),
        holder: serde_json::from_str(&text).ok(),
    }
}

fn write_holder(file: &mut File, holder: &LockOwner) -> io::Result<()> {
    let text = serde_json::to_string(holder).expect("texts and numbers can be written as JSON");
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

/// One spelling for each target: names of this machine are one, so are those of a default database,
/// and paths are absolute.
fn place_of(target: &TargetSpec) -> String {
    match target.place() {
        TargetPlace::Emulator { project, host } => {
            format!("emulator:{project}@{}", place_of_host(host.unwrap_or("")))
        }
        TargetPlace::Service { project, database } => {
            let database = if database.is_empty() {
                "(default)"
            } else {
                database
            };
            format!("datastore:{}/{database}", project.to_lowercase())
        }
        TargetPlace::Folder { path } => {
            format!("path:{}", real_path(Path::new(path)).display())
        }
    }
}

fn place_of_host(address: &str) -> String {
    let address = address.to_lowercase();
    let Some((host, port)) = address.rsplit_once(':') else {
        return address;
    };
    let name = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.');
    let is_here = is_this_machine(name) || name.ends_with(".localhost");
    if is_here {
        format!("here:{port}")
    } else {
        format!("{name}:{port}")
    }
}

/// A path without links, as far as it is there.
fn real_path(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path
        .ancestors()
        .find_map(|there| Some((there, there.canonicalize().ok()?)));
    match there {
        Some((there, real)) => path.strip_prefix(there).map_or_else(
            |_| real.clone(),
            |rest| real.join(rest).components().collect(),
        ),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: u32) -> LockOwner {
        LockOwner {
            pid,
            plan: "plan.json".to_owned(),
            since: Timestamp::from_micros(1_763_805_600_000_000).unwrap(),
        }
    }

    #[test]
    fn aliases_of_a_target_share_one_lock() {
        let place = |text: &str| place_of(&text.parse().unwrap());
        for (one, other) in [
            (
                "emulator:shop@localhost:8081",
                "emulator:shop@127.0.0.1:8081",
            ),
            ("emulator:shop@[::1]:8081", "emulator:shop@127.0.0.9:8081"),
            ("emulator:shop@LOCALHOST:8081", "emulator:shop@0.0.0.0:8081"),
            ("datastore:shop", "datastore:shop/(default)"),
            ("datastore:Shop", "datastore:shop"),
            ("dir:/var/out", "dir:/var/out/"),
            ("dir:/var/out", "ndjson:/var/./out"),
        ] {
            assert_eq!(place(one), place(other), "{one} {other}");
        }
        for (one, other) in [
            (
                "emulator:shop@localhost:8081",
                "emulator:shop@localhost:8082",
            ),
            (
                "emulator:shop@localhost:8081",
                "emulator:shop2@localhost:8081",
            ),
            ("emulator:shop@10.0.0.1:8081", "emulator:shop@10.0.0.2:8081"),
            ("datastore:shop", "datastore:shop/orders"),
            ("dir:/var/out", "dir:/var/out2"),
        ] {
            assert_ne!(place(one), place(other), "{one} {other}");
        }
    }

    #[test]
    fn second_owner_is_refused_until_release() {
        let folder = tempfile::tempdir().unwrap();
        let target: TargetSpec = "emulator:shop@localhost:8081".parse().unwrap();
        let first = acquire(folder.path(), &target, &holder(7)).unwrap();
        let error = acquire(
            folder.path(),
            &"emulator:shop@127.0.0.1:8081".parse().unwrap(),
            &holder(8),
        )
        .unwrap_err()
        .to_string();
        assert_eq!(
            error,
            "emulator:shop@127.0.0.1:8081 is locked by another restore: process 7 runs plan.json since 2025-11-22T10:00:00Z"
        );
        acquire(
            folder.path(),
            &"emulator:other@localhost:8081".parse().unwrap(),
            &holder(9),
        )
        .unwrap();
        drop(first);
        acquire(folder.path(), &target, &holder(8)).unwrap();
    }
}
