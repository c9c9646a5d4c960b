//! Cloud Storage as Google's own test bench plays it: where it differs from the service, the
//! program must get on with it as well.

use std::path::Path;

use crate::support::fixtures::fixture;
use crate::support::gcs_server::{Call, Deed, GcsServer};
use crate::support::{Run, Running, TestDir, files_below, sound};

/// The legacy fixture has outputs without a byte.
fn bench() -> GcsServer {
    let server = GcsServer::start(&["shop", "vault"]);
    server.be_the_test_bench();
    server.put_folder("shop", "nightly/", Path::new(&fixture("legacy")));
    server
}

fn run(desk: &TestDir, server: &GcsServer, args: &[&str]) -> Run {
    let mut command = desk.kindpack(args);
    command.env("STORAGE_EMULATOR_HOST", server.url()).args([
        "--idle-timeout",
        "2s",
        "--retry-timeout",
        "20s",
    ]);
    sound(Running::start(command).wait(), args)
}

fn ok(desk: &TestDir, server: &GcsServer, args: &[&str]) {
    let ran = run(desk, server, args);
    assert_eq!(ran.code, 0, "kindpack {}: {}", args.join(" "), ran.brief());
}

/// The archive of the same set, packed on this machine.
fn local(desk: &TestDir) -> Vec<u8> {
    desk.expect(0, &["pack", &fixture("legacy"), "local.zip", "--overwrite"]);
    desk.read("local.zip")
}

#[test]
fn empty_objects_without_size_are_handled() {
    let (desk, server) = (TestDir::new(), bench());
    ok(
        &desk,
        &server,
        &["pack", "gs://shop/nightly/", "gs://vault/set.zip"],
    );
    assert_eq!(
        server.get("vault", "set.zip").unwrap().bytes(),
        local(&desk)
    );
    ok(&desk, &server, &["verify", "gs://vault/set.zip"]);
    ok(
        &desk,
        &server,
        &["extract", "gs://vault/set.zip", "gs://vault/again/"],
    );
    ok(&desk, &server, &["extract", "gs://vault/set.zip", "again"]);
    for (name, path) in files_below(&desk.path("again")) {
        assert_eq!(
            server
                .get("vault", &format!("again/{name}"))
                .unwrap()
                .bytes(),
            std::fs::read(path).unwrap(),
            "{name}"
        );
    }
    ok(
        &desk,
        &server,
        &["pack", "gs://vault/again/", "gs://vault/second.zip"],
    );
    assert_eq!(
        server.get("vault", "second.zip").unwrap().bytes(),
        local(&desk)
    );
}

#[test]
fn checksum_412_is_no_taken_name() {
    let (desk, server) = (TestDir::new(), bench());
    // What was damaged on its way goes up again: an archive, then a part of one.
    server.plan(Call::Insert, 0, Deed::CorruptByte(5_000));
    ok(
        &desk,
        &server,
        &["pack", "gs://shop/nightly/", "gs://vault/set.zip"],
    );
    server.plan(Call::Insert, 3, Deed::CorruptByte(5_000));
    ok(
        &desk,
        &server,
        &[
            "pack",
            "gs://shop/nightly/",
            "gs://vault/set.zip",
            "--overwrite",
        ],
    );
    assert_eq!(server.unfired(), []);
    server.forget();
    server.plan(Call::Insert, 1, Deed::CorruptByte(5_000));
    ok(
        &desk,
        &server,
        &[
            "pack",
            "gs://shop/nightly/",
            "gs://vault/parts.zip",
            "--upload-cutoff",
            "8KiB",
            "--upload-chunk-size",
            "8KiB",
        ],
    );
    assert_eq!(server.unfired(), []);
    assert!(server.count(Call::Compose) > 0);
    for name in ["set.zip", "parts.zip"] {
        assert_eq!(
            server.get("vault", name).unwrap().bytes(),
            local(&desk),
            "{name}"
        );
    }
    assert_eq!(
        server.names("vault"),
        ["parts.zip", "parts.zip.sha256", "set.zip", "set.zip.sha256"]
    );
}

#[test]
fn its_refusals_are_understood() {
    let (desk, server) = (TestDir::new(), bench());
    ok(
        &desk,
        &server,
        &["pack", "gs://shop/nightly/", "gs://vault/set.zip"],
    );
    ok(
        &desk,
        &server,
        &["pack", "gs://shop/nightly/", "gs://vault/set.zip"],
    );
    for (code, word, args) in [
        (
            5,
            "already exists",
            &[
                "pack",
                "gs://shop/nightly/",
                "gs://vault/set.zip",
                "--method",
                "store",
            ][..],
        ),
        (
            2,
            "gs://absent",
            &["pack", "gs://absent/nightly/", "gs://vault/other.zip"],
        ),
        (
            2,
            "gs://absent",
            &["pack", "gs://shop/nightly/", "gs://absent/set.zip"],
        ),
        (
            2,
            "gs://vault/absent.zip",
            &["extract", "gs://vault/absent.zip", "folder"],
        ),
    ] {
        let ran = run(&desk, &server, args);
        assert_eq!(
            ran.code,
            code,
            "kindpack {}: {}",
            args.join(" "),
            ran.brief()
        );
        assert!(ran.err.contains(word), "{}", ran.err);
    }
    assert_eq!(server.names("vault"), ["set.zip", "set.zip.sha256"]);
}
