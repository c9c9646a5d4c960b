//! Archives in a bucket: how many requests, how many bytes, how much memory and how long each
//! command takes.
//!
//! `cargo bench --bench cloud` packs a gibibyte that cannot be deflated (`KINDPACK_BENCH_MIB` says
//! another size, 0 none) from a bucket to a bucket of the tests' own server, and reads it where it
//! is stored. Then it packs many small objects (`KINDPACK_BENCH_OBJECTS`, 6,000) from a server that
//! answers late (`KINDPACK_BENCH_DELAY_MS`, 30), and compares each command with a plain client in
//! the same run. `docs/performance.md` says what was found.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark may fail loudly"
)]

#[allow(
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a part of what the tests share"
)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use kindpack::model::KindRef;
use support::data;
use support::gcs_server::GcsServer;

const ARCHIVE: &str = "gs://vault/sets/set.zip";

/// Requests of the plain client that are in flight at once.
const AT_ONCE: usize = 64;

fn main() {
    let number_of = |variable, default| {
        std::env::var(variable)
            .ok()
            .and_then(|number| number.parse().ok())
            .unwrap_or(default)
    };
    match number_of("KINDPACK_BENCH_MIB", 1024) {
        0 => {}
        mib => one_large_archive(mib),
    }
    many_small_objects(
        number_of("KINDPACK_BENCH_OBJECTS", 6_000),
        Duration::from_millis(number_of("KINDPACK_BENCH_DELAY_MS", 30)),
    );
}

fn one_large_archive(mib: u64) {
    let folder = tempfile::tempdir().unwrap();
    let server = GcsServer::start(&["shop", "vault"]);
    for number in 0..8 {
        put_export(&server, folder.path(), "nightly/", number, mib / 8, 1 << 20);
    }
    let commands: [&[&str]; 8] = [
        &["pack", "gs://shop/nightly/", ARCHIVE],
        &[
            "pack",
            "gs://shop/nightly/",
            ARCHIVE,
            "--overwrite",
            "--upload-cutoff",
            "1TiB",
        ],
        &["list", ARCHIVE],
        &["plan", ARCHIVE, "--target", "ndjson:out"],
        &["verify", "--quick", ARCHIVE],
        &["verify", ARCHIVE],
        &["cat", ARCHIVE, "Kind3"],
        &["extract", ARCHIVE, "gs://vault/back/"],
    ];
    head("");
    for args in commands {
        let measured = measure(&server, || run(folder.path(), &server, args));
        assert_eq!(measured.code, 0, "{args:?}");
        println!("{:24.24} {}", shown(args), measured.row());
    }
}

/// Exports of one kind each, three objects an export.
fn many_small_objects(objects: u64, delay: Duration) {
    let folder = tempfile::tempdir().unwrap();
    let server = GcsServer::start(&["shop", "vault"]);
    server.page(1_000);
    for number in 0..objects / 3 {
        put_export(&server, folder.path(), "nightly/", number, 2, 300);
    }
    put_export(&server, folder.path(), "other/", 0, 3, 300);
    server.delay(delay);
    println!(
        "\n{objects} small objects, {} ms a request; a plain client reads them {AT_ONCE} at once",
        delay.as_millis()
    );
    let plain = measure(&server, || (0, read_plainly(&server), 0));
    head("ratio");
    println!("{:24.24} {} {:>8.2}", "plain client", plain.row(), 1.0);
    // The name is taken by the same set, or by another one.
    let commands: [(&[&str], &[i32]); 9] = [
        (&["pack", "gs://shop/nightly/", ARCHIVE], &[0]),
        (&["pack", "gs://shop/nightly/", ARCHIVE], &[0, 5]),
        (&["pack", "gs://shop/other/", ARCHIVE], &[5]),
        (&["list", ARCHIVE], &[0]),
        (&["verify", ARCHIVE], &[0]),
        (&["extract", ARCHIVE, "gs://vault/back/"], &[0]),
        (&["extract", ARCHIVE, "gs://vault/back/"], &[0]),
        (&["cat", ARCHIVE, "*"], &[0]),
        (&["restore", ARCHIVE, "--target", "ndjson:out"], &[0]),
    ];
    let mut before = String::new();
    for (args, codes) in commands {
        let measured = measure(&server, || run(folder.path(), &server, args));
        assert!(
            codes.contains(&measured.code),
            "{args:?}: exit {}",
            measured.code
        );
        let again = if shown(args) == before { " again" } else { "" };
        before = shown(args);
        let what = format!("{before}{again}, exit {}", measured.code);
        println!(
            "{what:24.24} {} {:>8.2}",
            measured.row(),
            measured.seconds / plain.seconds
        );
    }
}

/// Puts an export of one kind below a prefix: so many entities with blobs of so many bytes.
fn put_export(
    server: &GcsServer,
    folder: &Path,
    prefix: &str,
    number: u64,
    entities: u64,
    blob_len: usize,
) {
    let kind = format!("Kind{number}");
    let records: Vec<Vec<u8>> = data::made("shop", "", &kind, entities, blob_len)
        .iter()
        .map(data::Made::record)
        .collect();
    let started = data::STARTED_MICROS + i64::try_from(number).unwrap() * 1_000_000;
    data::write_export(
        &folder.join("exports"),
        &KindRef::new("", kind.as_str()),
        started,
        &records,
        1,
    );
    server.put_folder("shop", prefix, &folder.join("exports"));
    std::fs::remove_dir_all(folder.join("exports")).unwrap();
}

/// Reads every object of the set and does nothing with it; the seconds that this takes.
fn read_plainly(server: &GcsServer) -> f64 {
    let names = server
        .names("shop")
        .into_iter()
        .filter(|name| name.starts_with("nightly/"));
    let addresses: Vec<String> = names
        .map(|name| {
            format!(
                "{}/storage/v1/b/shop/o/{}?alt=media",
                server.url(),
                name.replace('/', "%2F")
            )
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let begun = Instant::now();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let read = |address| {
            let client = client.clone();
            async move {
                client
                    .get::<String>(address)
                    .send()
                    .await
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap()
            }
        };
        stream::iter(addresses)
            .map(read)
            .buffer_unordered(AT_ONCE)
            .for_each(|_| async {})
            .await;
    });
    begun.elapsed().as_secs_f64()
}

/// What a command took.
struct Measured {
    code: i32,
    requests: usize,
    mib_down: f64,
    mib_up: f64,
    peak_mib: u64,
    seconds: f64,
}

impl Measured {
    fn row(&self) -> String {
        let Measured {
            requests,
            mib_down,
            mib_up,
            peak_mib,
            seconds,
            ..
        } = self;
        format!("{requests:>8} {mib_down:>10.2} {mib_up:>10.2} {peak_mib:>10} {seconds:>8.1}")
    }
}

fn head(more: &str) {
    println!(
        "{:24} {:>8} {:>10} {:>10} {:>10} {:>8} {more:>8}",
        "command", "requests", "MiB down", "MiB up", "peak MiB", "seconds"
    );
}

/// The words of a command, without places.
fn shown(args: &[&str]) -> String {
    let words: Vec<&str> = args
        .iter()
        .copied()
        .filter(|arg| !arg.starts_with("gs://") && !arg.contains(':'))
        .collect();
    words.join(" ")
}

/// Does something that gives an exit code, its seconds and the MiB that it had in memory at most.
fn measure(server: &GcsServer, work: impl FnOnce() -> (i32, f64, u64)) -> Measured {
    server.forget();
    let (code, seconds, peak_mib) = work();
    let seen = server.seen();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (down, up) = (
        seen.iter().map(|seen| seen.sent).sum(),
        seen.iter().map(|seen| seen.received).sum(),
    );
    Measured {
        code,
        requests: seen.len(),
        mib_down: mib(down),
        mib_up: mib(up),
        peak_mib,
        seconds,
    }
}

/// Runs a command to its end.
fn run(folder: &Path, server: &GcsServer, args: &[&str]) -> (i32, f64, u64) {
    let begun = Instant::now();
    let mut command = Command::new(support::PROGRAM);
    command
        .args(args)
        .arg("--no-progress")
        .current_dir(folder)
        .env("STORAGE_EMULATOR_HOST", server.url());
    command.env("XDG_STATE_HOME", folder.join("state"));
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak_kib = 0;
    loop {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak_kib = line
            .and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or_default()
            .max(peak_kib);
        if let Some(ended) = child.try_wait().unwrap() {
            return (
                ended.code().unwrap_or(-1),
                begun.elapsed().as_secs_f64(),
                peak_kib >> 10,
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
