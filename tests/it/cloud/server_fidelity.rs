//! The test server held against Google's own clients, in Python and on the command line: whatever
//! they expect of the service, the server must do.

use std::path::Path;
use std::process::Command;

use crate::support::gcs_server::{Call, Deed, GcsServer};
use crate::support::{Run, Running, TestDir, outside_program, python_with};

#[test]
fn googles_python_client_finds_what_it_expects() {
    let test = "Google's Python client against the test server";
    let Some(python) = python_with("google-cloud-storage==3.17.1", "google.cloud.storage", test)
    else {
        return;
    };
    let server = GcsServer::start(&["shop"]);
    // The client must come over a fault of each sort, as it does with the service.
    server.plan(Call::List, 1, Deed::Status(503));
    server.plan(Call::Put, 1, Deed::AnswerLess(256 << 10));
    server.plan(Call::Read, 1, Deed::Status(503));
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/gcs_server/client.py");
    let output = Command::new(python)
        .arg(script)
        .env("STORAGE_EMULATOR_HOST", server.url())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(server.unfired(), []);
    assert!(
        server.count(Call::List) > 3,
        "a listing of 7 objects has several pages"
    );
    assert!(
        server.count(Call::Put) > 3,
        "a resumable upload has several pieces"
    );
    let whole = server.get("shop", "whole").unwrap();
    assert_eq!(
        (whole.components, whole.md5, whole.len()),
        (Some(3), None, 9)
    );
}

/// Bytes that differ wherever one looks.
fn uneven(len: u32) -> Vec<u8> {
    (0..len)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

#[test]
fn gcloud_finds_what_it_expects() {
    let Some(gcloud) = outside_program(
        "gcloud",
        &["gcloud"],
        "gcloud storage against the test server",
    ) else {
        return;
    };
    let server = GcsServer::start(&["shop"]);
    let desk = TestDir::new();
    let endpoint = format!("{}/storage/v1/", server.url());
    let run = |args: &[&str]| -> Run {
        let mut command = desk.program(&gcloud, &["storage"]);
        let settings = [
            ("API_ENDPOINT_OVERRIDES_STORAGE", endpoint.as_str()),
            ("AUTH_DISABLE_CREDENTIALS", "true"),
            ("COMPONENT_MANAGER_DISABLE_UPDATE_CHECK", "true"),
            ("CORE_CHECK_GCE_METADATA", "false"),
            ("CORE_DISABLE_PROMPTS", "true"),
            ("CORE_DISABLE_USAGE_REPORTING", "true"),
            ("CORE_PROJECT", "test"),
            ("STORAGE_PARALLEL_COMPOSITE_UPLOAD_ENABLED", "false"),
            ("STORAGE_PROCESS_COUNT", "1"),
            ("STORAGE_RESUMABLE_THRESHOLD", "1Mi"),
            ("STORAGE_SLICED_OBJECT_DOWNLOAD_COMPONENT_SIZE", "1Mi"),
            ("STORAGE_SLICED_OBJECT_DOWNLOAD_THRESHOLD", "1Mi"),
            ("STORAGE_THREAD_COUNT", "2"),
        ];
        command.envs(settings.map(|(name, value)| (format!("CLOUDSDK_{name}"), value)));
        command.env("CLOUDSDK_CONFIG", desk.home().join("gcloud"));
        // Nothing may leave the machine.
        command
            .envs(["http_proxy", "https_proxy"].map(|name| (name, "http://127.0.0.1:9")))
            .env("no_proxy", "127.0.0.1");
        command.args(args);
        let ran = Running::start(command).wait();
        assert_eq!(
            ran.code,
            0,
            "gcloud storage {}: {}",
            args.join(" "),
            ran.brief()
        );
        ran
    };
    let (small, large) = (b"a few words".to_vec(), uneven(3_300_000));
    desk.write("up/small", &small);
    desk.write("up/more/small too", &small);
    desk.write("up/large", &large);

    server.plan(Call::Put, 0, Deed::KeepPart(512 << 10));
    run(&["cp", "--recursive", &desk.text_path("up"), "gs://shop/"]);
    assert_eq!(
        server.names("shop"),
        ["up/large", "up/more/small too", "up/small"]
    );
    assert_eq!(server.get("shop", "up/large").unwrap().bytes(), large);
    assert_eq!(server.get("shop", "up/small").unwrap().bytes(), small);
    assert!(
        server.count(Call::Insert) >= 2,
        "small files go up in one request each"
    );
    assert!(
        server.count(Call::Begin) == 1 && server.count(Call::Put) >= 2,
        "a large one goes up in a session, and goes on where it was cut"
    );

    // Pages are of three objects.
    for number in 0..4 {
        server.put("shop", &format!("up/one more {number}"), "x");
    }
    let listed = run(&["ls", "gs://shop/up/**"]);
    let listed = listed.text();
    let mut listed: Vec<_> = listed.lines().collect();
    listed.sort_unstable();
    let expected: Vec<_> = server
        .names("shop")
        .iter()
        .map(|name| format!("gs://shop/{name}"))
        .collect();
    assert_eq!(listed, expected);
    assert!(
        server.count(Call::List) > 2,
        "a listing of seven objects has several pages"
    );

    run(&["cp", "gs://shop/up/large", &desk.text_path("large")]);
    assert_eq!(desk.read("large"), large);
    let ranges = server
        .seen()
        .iter()
        .filter(|seen| seen.call == Call::Read && seen.status == 206)
        .count();
    assert!(ranges >= 2, "a large object comes down in slices");
    assert_eq!(
        run(&["cat", "--range=1000000-1000099", "gs://shop/up/large"]).out,
        large[1_000_000..=1_000_099]
    );

    run(&["rm", "gs://shop/up/large"]);
    assert_eq!(server.unfired(), []);
    assert_eq!(
        server.get("shop", "up/large").map(|object| object.len()),
        None
    );
}
