//! `--encrypt-to` and `--identity`, with keys of our own and with the stock `age`.

use std::fs;
use std::process::Command;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;

use crate::support::fixtures::legacy;
use crate::support::{TestDir, outside_program};

const ARCHIVE: &str = "set.zip.age";

/// Writes the identity `NAME.txt`; gives its recipient.
fn write_identity(desk: &TestDir, name: &str) -> String {
    let identity = Identity::generate();
    let secret = identity.to_string();
    let recipient = identity.to_public().to_string();
    let text = format!("# public key: {recipient}\n{}\n", secret.expose_secret());
    desk.write(&format!("{name}.txt"), text);
    recipient
}

/// A desk with an encrypted archive and two identities.
fn desk() -> TestDir {
    let desk = TestDir::new();
    let own = write_identity(&desk, "own");
    write_identity(&desk, "other");
    desk.write("recipients", format!("# who may read\n{own}\n"));
    encrypt(&desk, 0, &[]);
    desk
}

fn encrypt(desk: &TestDir, code: i32, options: &[&str]) -> serde_json::Value {
    let source = legacy().source.clone();
    let args = ["pack", &source, "set.zip", "--encrypt-to", "recipients"];
    desk.json(code, &[&args[..], options].concat())
}

/// Every command that reads an archive.
fn readers() -> Vec<Vec<&'static str>> {
    vec![
        vec!["list", ARCHIVE],
        vec!["verify", ARCHIVE],
        vec!["verify", ARCHIVE, "--quick"],
        vec!["cat", ARCHIVE, "User"],
        vec!["extract", ARCHIVE, "out"],
        vec!["plan", ARCHIVE, "--target", "ndjson:there"],
        vec!["restore", ARCHIVE, "--target", "ndjson:there"],
    ]
}

#[test]
fn encrypted_archive_takes_the_place_of_the_plain_one() {
    let desk = desk();
    assert!(!desk.path("set.zip").exists());
    assert!(desk.read(ARCHIVE).starts_with(b"age-encryption.org/v1\n"));
    let run = desk.expect(0, &["verify", ARCHIVE, "--identity", "own.txt"]);
    assert!(run.text().starts_with("OK"), "{}", run.text());
    let sums = Command::new("sha256sum")
        .args(["-c", "set.zip.age.sha256"])
        .current_dir(desk.work())
        .output()
        .unwrap();
    assert!(sums.status.success());
}

#[test]
fn every_reader_needs_the_identity() {
    let desk = desk();
    for args in readers() {
        let failed = desk.run(&args);
        assert_eq!(failed.code, 5, "{args:?}: {}", failed.brief());
        assert!(
            failed.err.contains("--identity"),
            "{args:?}: {}",
            failed.err
        );
        let wrong = desk.run(&[&args[..], &["--identity", "other.txt"]].concat());
        assert_eq!(wrong.code, 5, "{args:?}: {}", wrong.brief());
        let read = desk.run(&[&args[..], &["--identity", "own.txt"]].concat());
        assert_eq!(read.code, 0, "{args:?}: {}", read.brief());
    }
}

#[test]
fn readers_find_what_a_plain_archive_holds() {
    let desk = desk();
    desk.pack(&legacy().source);
    for (plain, encrypted) in [
        (&["list", "set.zip"][..], &["list", ARCHIVE][..]),
        (&["cat", "set.zip", "*"], &["cat", ARCHIVE, "*"]),
    ] {
        let with = [encrypted, &["--identity", "own.txt"]].concat();
        assert!(desk.expect(0, plain).out == desk.expect(0, &with).out);
    }
}

#[test]
fn plan_of_encrypted_archive_is_run_later() {
    let desk = desk();
    let identity = ["--identity", "other.txt", "--identity", "own.txt"];
    desk.plan(ARCHIVE, "ndjson:there", "plan.json", &identity);
    assert_eq!(desk.run(&["restore", "plan.json"]).code, 5);
    let restore = ["restore", "plan.json"];
    desk.json(0, &[&restore[..], &identity].concat());
}

#[test]
fn newest_encrypted_archive_is_found_and_listed() {
    let desk = TestDir::new();
    let recipient = write_identity(&desk, "own");
    let source = legacy().source.clone();
    desk.json(0, &["pack", &source, "vault/", "--encrypt-to", &recipient]);
    let identity = ["--identity", "own.txt"];
    desk.json(0, &[&["verify", "vault/"][..], &identity].concat());
    let sealed = |options: &[&str]| {
        let args = [&["archives", "vault/", "--json"][..], options].concat();
        let events = desk.expect(0, &args).events();
        events[0]["sealed"].as_bool().unwrap()
    };
    assert!(!sealed(&[]) && sealed(&identity));
    let prune = ["prune", "vault/", "--keep-last", "1"];
    assert_eq!(desk.json(0, &prune)["left"], 1);
    assert_eq!(desk.json(0, &[&prune[..], &identity].concat())["kept"], 1);
}

#[test]
fn damage_is_found_wherever_it_is() {
    let desk = desk();
    let whole = desk.read(ARCHIVE);
    let len = whole.len();
    let mut damaged: Vec<Vec<u8>> = [3, 60, 120, 230, len / 2, len - 1]
        .into_iter()
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        })
        .collect();
    damaged.extend([0, 20, len / 2, len - 1].map(|cut| whole[..cut].to_vec()));
    damaged.push([&whole[..], b"more"].concat());
    for (number, bytes) in damaged.into_iter().enumerate() {
        desk.write(ARCHIVE, bytes);
        let run = desk.run(&["verify", ARCHIVE, "--identity", "own.txt"]);
        // A changed recipient fits nobody.
        assert!(matches!(run.code, 4 | 5), "{number}: {}", run.brief());
        assert!(run.code == 4 || number < 4, "{number}: {}", run.brief());
    }
}

#[test]
fn encryption_that_is_impossible_is_an_error() {
    let desk = desk();
    desk.write("empty", "# nobody\n");
    let secret = String::from_utf8(desk.read("own.txt")).unwrap();
    let secret = secret.lines().last().unwrap().to_owned();
    let source = legacy().source.clone();
    for to in ["empty", "nowhere", "age1nonsense", "", "own.txt", &secret] {
        let args = ["pack", &source, "new.zip", "--encrypt-to", to];
        let run = desk.run(&args);
        assert_eq!(run.code, 2, "{to:?}: {}", run.brief());
        assert!(!run.err.contains("SECRET-KEY-1"), "{}", run.err);
        let run = desk.run(&[&args[..], &["--encrypt-to", "recipients"]].concat());
        assert_eq!(run.code, 2, "{to:?}: {}", run.brief());
    }
    desk.json(2, &["pack", &source, "new.zip.age"]);
    assert!(!desk.path("new.zip").exists() && !desk.path("new.zip.age").exists());
    for file in ["empty", "nowhere", "recipients"] {
        desk.json(2, &["list", ARCHIVE, "--identity", file]);
    }
}

#[test]
fn encrypting_the_same_set_again_changes_nothing() {
    let desk = desk();
    let (archive, sidecar) = (desk.read(ARCHIVE), desk.read("set.zip.age.sha256"));
    assert_eq!(encrypt(&desk, 0, &[])["was_there"], true);
    assert!(desk.read(ARCHIVE) == archive && desk.read("set.zip.age.sha256") == sidecar);
    encrypt(&desk, 5, &["--level", "1"]);
    assert!(desk.read(ARCHIVE) == archive);
    encrypt(&desk, 0, &["--overwrite"]);
    assert!(desk.read(ARCHIVE) != archive, "encrypted anew");
}

#[test]
fn signature_of_encrypted_archive_needs_no_identity_to_check() {
    let desk = desk();
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    desk.write("sign.key", pair.sk.to_box(None).unwrap().into_string());
    desk.write("sign.pub", pair.pk.to_box().unwrap().into_string());
    let verify = ["verify", ARCHIVE, "--identity", "own.txt"];
    let verify = [&verify[..], &["--trusted", "sign.pub"]].concat();
    desk.json(3, &verify);
    encrypt(&desk, 0, &["--sign", "sign.key"]);
    desk.json(0, &verify);
    encrypt(&desk, 0, &["--sign", "sign.key", "--overwrite"]);
    desk.json(0, &verify);
    assert!(desk.path("set.zip.age.minisig").exists());
}

fn has_age() -> bool {
    outside_program("age", &["age"], "the stock age").is_some()
}

/// Runs the stock `age`; whether it is content.
fn age(desk: &TestDir, args: &[&str]) -> bool {
    let mut command = Command::new("age");
    let output = command.args(args).current_dir(desk.work()).output();
    output.unwrap().status.success()
}

#[test]
fn stock_age_decrypts_our_archive() {
    if !has_age() {
        return;
    }
    let desk = desk();
    assert!(age(
        &desk,
        &["-d", "-i", "own.txt", "-o", "out.zip", ARCHIVE]
    ));
    desk.pack(&legacy().source);
    assert!(desk.read("out.zip") == desk.read("set.zip"));
    assert!(!age(
        &desk,
        &["-d", "-i", "other.txt", "-o", "none.zip", ARCHIVE]
    ));
}

#[test]
fn archive_of_stock_age_is_read() {
    if !has_age() {
        return;
    }
    let desk = desk();
    fs::remove_file(desk.path(ARCHIVE)).unwrap();
    fs::remove_file(desk.path("set.zip.age.sha256")).unwrap();
    desk.pack(&legacy().source);
    assert!(age(&desk, &["-R", "recipients", "-o", ARCHIVE, "set.zip"]));
    desk.json(0, &["verify", ARCHIVE, "--identity", "own.txt"]);
    desk.json(5, &["verify", ARCHIVE, "--identity", "other.txt"]);
}
