//! No token, no session address and nothing of a credentials file is printed, whatever happens and
//! however much is requested.

use crate::cloud::fixture::{ARCHIVE, BucketFixture, SOURCE, discreet};
use crate::support::gcs_server::{Call, Deed};
use crate::support::{Run, Running, sound};

const MODES: [&[&str]; 4] = [&[], &["-vv"], &["--json"], &["-vv", "--json"]];

/// Runs a command of somebody who has credentials.
fn signed_in(shop: &BucketFixture, args: &[&str]) -> Run {
    let mut command = shop.signed_in(args);
    command
        .args(["--retry-timeout", "3s"])
        .env("RUST_LOG", "trace");
    discreet(sound(Running::start(command).wait(), args))
}

/// A session of several requests; `little` a single one.
fn shops() -> [BucketFixture; 2] {
    [
        BucketFixture::of_kinds(&[("Note", 5, 100)]),
        BucketFixture::of_kinds(&[("Image", 9, 1_000_000)]),
    ]
}

#[test]
fn good_runs_print_no_secret() {
    for shop in shops() {
        for mode in MODES {
            shop.clear();
            let run = |args: &[&str]| shop.expect(0, &[args, mode].concat());
            run(&["pack", SOURCE, ARCHIVE]);
            run(&[
                "pack",
                SOURCE,
                ARCHIVE,
                "--overwrite",
                "--upload-cutoff",
                "1",
                "--upload-chunk-size",
                "1MiB",
            ]);
            run(&["list", ARCHIVE]);
            run(&["verify", ARCHIVE]);
            run(&["plan", ARCHIVE, "--target", "ndjson:out", "-o", "plan.json"]);
            run(&["restore", "plan.json"]);
            for name in ["plan.json", "plan.json.journal", "out"] {
                std::fs::remove_file(shop.path(name)).ok();
                std::fs::remove_dir_all(shop.path(name)).ok();
            }
        }
    }
}

#[test]
fn failing_runs_print_no_secret() {
    let [little, much] = shops();
    let cases = [
        (&little, Call::List),
        (&little, Call::Stat),
        (&little, Call::Read),
        (&little, Call::Insert),
        (&much, Call::Begin),
        (&much, Call::Put),
    ];
    for (shop, call) in cases {
        for (deed, mode) in [
            Deed::Status(503),
            Deed::Status(401),
            Deed::Status(403),
            Deed::CutBefore,
        ]
        .into_iter()
        .zip(MODES)
        {
            let shop = shop.another();
            shop.server.plan_many(call, 0, usize::MAX, deed);
            // Whoever may not look at the archive's name packs all the same.
            let code = if (call, deed) == (Call::Stat, Deed::Status(403)) {
                0
            } else {
                6
            };
            shop.expect(
                code,
                &[&["pack", SOURCE, ARCHIVE, "--retry-timeout", "1s"], mode].concat(),
            );
            let with_address = shop
                .server
                .seen()
                .iter()
                .any(|seen| seen.query.contains("CANARY"));
            assert_eq!(
                with_address,
                call == Call::Put,
                "the secret is there to be told"
            );
        }
    }
}

#[test]
fn invalid_credentials_are_reported_without_content() {
    let [shop, _] = shops();
    let files = [
        "CANARY, which is no JSON",
        r#"{"type": "CANARY"}"#,
        r#"{"type": "service_account", "client_email": "CANARY", "private_key_id": "CANARY", "private_key": "-----BEGIN PRIVATE KEY-----CANARY-----END PRIVATE KEY-----", "project_id": "p"}"#,
        r#"{"type": "authorized_user", "client_id": "CANARY"}"#,
    ];
    for (file, mode) in files.into_iter().zip(MODES) {
        shop.desk.write("key.json", file);
        let run = signed_in(&shop, &[&["list", ARCHIVE][..], mode].concat());
        assert!(
            run.code == 6 && run.err.contains("credentials"),
            "{file}: {}",
            run.brief()
        );
    }
    std::fs::remove_file(shop.path("key.json")).unwrap();
    let run = signed_in(&shop, &["list", ARCHIVE]);
    assert!(
        run.code == 6 && run.err.contains("credentials"),
        "{}",
        run.brief()
    );
}

#[test]
fn tokens_are_used_and_renewed_and_never_printed() {
    for shop in shops() {
        shop.server.wants_token();
        for (number, mode) in MODES.into_iter().enumerate() {
            shop.clear();
            // The completion marker, the metadata and an output.
            shop.server.plan(Call::Read, number % 3, Deed::Status(401));
            let run = signed_in(&shop, &[&["pack", SOURCE, ARCHIVE], mode].concat());
            assert_eq!(run.code, 0, "{}", run.brief());
            assert_eq!(shop.server.unfired(), []);
            assert_eq!(
                shop.server.count(Call::Token),
                2,
                "one, and another one after it was not accepted"
            );
            let run = signed_in(&shop, &[&["verify", ARCHIVE], mode].concat());
            assert_eq!(run.code, 0, "{}", run.brief());
        }
        shop.assert_packed();
        // Nobody gives a token any more.
        shop.server.forget();
        shop.server
            .plan_many(Call::Token, 0, usize::MAX, Deed::Status(400));
        let run = signed_in(&shop, &["list", ARCHIVE, "--verbose"]);
        assert!(
            run.code == 6 && run.err.contains("credentials"),
            "{}",
            run.brief()
        );
    }
}
