//! A large archive in a bucket: how many requests, how many bytes and how much memory each command takes.
//!
//! `cargo bench --bench cloud` packs a gibibyte that cannot be deflated (`KINDPACK_BENCH_MIB` says another size) from a bucket to a bucket of the
//! tests' own server, and reads it where it lies. `docs/performance.md` says what was found.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "a benchmark may fail loudly")]

#[path = "../tests/gcs_server/mod.rs"]
mod gcs_server;
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gcs_server::GcsServer;
use kindpack::model::Pair;
use support::data;

const ARCHIVE: &str = "gs://vault/sets/set.zip";

fn main() {
    let mib: u64 = std::env::var("KINDPACK_BENCH_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(1024);
    let folder = tempfile::tempdir().unwrap();
    let server = GcsServer::start(&["shop", "vault"]);
    for number in 0..8_u64 {
        let kind = format!("Kind{number}");
        let records: Vec<Vec<u8>> = data::made("shop", "", &kind, mib / 8, 1 << 20).iter().map(data::Made::record).collect();
        let started = data::STARTED_MICROS + i64::try_from(number).unwrap() * 60_000_000;
        data::write_export(&folder.path().join("exports"), &Pair::new("", kind.as_str()), started, &records, 1);
        server.put_folder("shop", "nightly/", &folder.path().join("exports"));
        std::fs::remove_dir_all(folder.path().join("exports")).unwrap();
    }
    println!("{:24} {:>8} {:>10} {:>10} {:>10} {:>8}", "command", "requests", "MiB down", "MiB up", "peak MiB", "seconds");
    let commands: [&[&str]; 8] = [
        &["pack", "gs://shop/nightly/", ARCHIVE],
        &["pack", "gs://shop/nightly/", ARCHIVE, "--overwrite", "--upload-cutoff", "1TiB"],
        &["list", ARCHIVE],
        &["plan", ARCHIVE, "--target", "ndjson:out"],
        &["verify", "--quick", ARCHIVE],
        &["verify", ARCHIVE],
        &["cat", ARCHIVE, "Kind3"],
        &["extract", ARCHIVE, "gs://vault/back/"],
    ];
    for args in commands {
        server.forget();
        let (seconds, peak_mib) = run(folder.path(), &server, args);
        let seen = server.seen();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (down, up) = (seen.iter().map(|seen| seen.sent).sum(), seen.iter().map(|seen| seen.received).sum());
        let what: Vec<&str> = args.iter().copied().filter(|arg| !arg.starts_with("gs://") && !arg.contains(':')).collect();
        println!("{:24.24} {:>8} {:>10.2} {:>10.2} {peak_mib:>10} {seconds:>8.1}", what.join(" "), seen.len(), mib(down), mib(up));
    }
}

/// Runs a command to its end; its seconds, and the MiB that it had in memory at most.
fn run(folder: &Path, server: &GcsServer, args: &[&str]) -> (f64, u64) {
    let begun = Instant::now();
    let mut command = Command::new(support::PROGRAM);
    command.args(args).arg("--no-progress").current_dir(folder).env("STORAGE_EMULATOR_HOST", server.url());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut peak_kib = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak_kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default().max(peak_kib);
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success(), "{args:?}: {ended}");
            return (begun.elapsed().as_secs_f64(), peak_kib >> 10);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
