//! `--sign` and `verify --trusted`, with keys of our own and with the stock `minisign`.

use std::fs;
use std::process::Command;

use minisign::KeyPair;
use serde_json::Value;

use crate::support::fixtures::legacy;
use crate::support::{Run, Running, TestDir, outside_program, sound};

/// A desk with the key pair `NAME.key` and `NAME.pub`, without a password.
fn write_key(desk: &TestDir, name: &str) {
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    write_pair(desk, name, &pair);
}

fn write_pair(desk: &TestDir, name: &str, pair: &KeyPair) {
    let secret = pair.sk.to_box(None).unwrap().into_string();
    desk.write(&format!("{name}.key"), secret);
    let public = pair.pk.to_box().unwrap().into_string();
    desk.write(&format!("{name}.pub"), public);
}

/// A desk with a signed archive and two key pairs.
fn desk() -> TestDir {
    let desk = TestDir::new();
    write_key(&desk, "own");
    write_key(&desk, "other");
    pack_signed(&desk, 0, &[]);
    desk
}

fn pack_signed(desk: &TestDir, code: i32, options: &[&str]) -> Value {
    let source = legacy().source.clone();
    let args = ["pack", &source, "set.zip", "--sign", "own.key"];
    desk.json(code, &[&args[..], options].concat())
}

fn verify_trusted(desk: &TestDir, code: i32, key: &str) -> Value {
    desk.json(code, &["verify", "set.zip", "--trusted", key])
}

fn flip(desk: &TestDir, name: &str, at: usize) {
    let mut bytes = desk.read(name);
    bytes[at] ^= 1;
    desk.write(name, bytes);
}

#[test]
fn signed_archive_is_the_unsigned_one() {
    let desk = desk();
    let signed = desk.read("set.zip");
    fs::remove_file(desk.path("set.zip")).unwrap();
    desk.pack(&legacy().source);
    assert!(desk.read("set.zip") == signed);
    assert!(
        !desk.path("set.zip.minisig").exists(),
        "the signature of a removed archive"
    );
}

#[test]
fn good_signature_names_key_and_archive() {
    let desk = desk();
    let public = String::from_utf8(desk.read("own.pub")).unwrap();
    let done = verify_trusted(&desk, 0, "own.pub");
    let key = done["signature"]["key"].as_str().unwrap();
    assert!(public.lines().next().unwrap().ends_with(key), "{public}");
    let comment = done["signature"]["trusted_comment"].as_str().unwrap();
    assert!(comment.starts_with("file:set.zip\tbackup:2"), "{comment}");
    let run = desk.expect(0, &["verify", "set.zip", "--quick", "--trusted", "own.pub"]);
    assert!(
        run.text().starts_with("OK") && run.text().contains(key),
        "{}",
        run.text()
    );
    assert_eq!(
        desk.json(0, &["verify", "set.zip"])["signature"],
        Value::Null
    );
}

#[test]
fn missing_signature_is_incomplete() {
    let desk = desk();
    fs::remove_file(desk.path("set.zip.minisig")).unwrap();
    let failed = verify_trusted(&desk, 3, "own.pub");
    assert!(failed["error"].as_str().unwrap().contains("minisig"));
}

#[test]
fn wrong_signatures_are_damage() {
    let desk = desk();
    verify_trusted(&desk, 4, "other.pub");
    let signature = desk.read("set.zip.minisig");
    for at in [60, 100, signature.len() - 40] {
        flip(&desk, "set.zip.minisig", at);
        verify_trusted(&desk, 4, "own.pub");
        desk.write("set.zip.minisig", &signature);
    }
    for text in ["", "not a signature\n", &"long\n".repeat(100_000)] {
        desk.write("set.zip.minisig", text);
        verify_trusted(&desk, 4, "own.pub");
    }
    desk.write("set.zip.minisig", &signature);
    flip(&desk, "set.zip", 1000);
    verify_trusted(&desk, 4, "own.pub");
}

#[test]
fn other_files_are_refused_as_keys() {
    let desk = TestDir::new();
    write_key(&desk, "own");
    desk.write("none.key", "untrusted comment: none\nAAAA\n");
    let source = legacy().source.clone();
    for key in ["none.key", "own.pub", "nowhere.key", "/dev/zero"] {
        desk.json(2, &["pack", &source, "set.zip", "--sign", key]);
        assert!(!desk.path("set.zip").exists(), "{key}");
    }
    pack_signed(&desk, 0, &[]);
    for key in ["none.key", "own.key", "nowhere.pub"] {
        verify_trusted(&desk, 2, key);
    }
}

#[test]
fn packing_again_completes_the_signature() {
    let desk = desk();
    let signature = desk.read("set.zip.minisig");
    let done = pack_signed(&desk, 0, &[]);
    assert_eq!(done["was_there"], true);
    assert!(
        desk.read("set.zip.minisig") == signature,
        "a good one stays"
    );
    fs::remove_file(desk.path("set.zip.minisig")).unwrap();
    pack_signed(&desk, 0, &[]);
    verify_trusted(&desk, 0, "own.pub");
}

#[test]
fn foreign_signature_is_replaced_only_with_overwrite() {
    let desk = desk();
    fs::copy(desk.path("other.key"), desk.path("own.key")).unwrap();
    let failed = pack_signed(&desk, 5, &[]);
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("set.zip.minisig is a signature"), "{error}");
    verify_trusted(&desk, 0, "own.pub");
    pack_signed(&desk, 0, &["--overwrite"]);
    verify_trusted(&desk, 0, "other.pub");
}

#[test]
fn replaced_archive_loses_its_signature() {
    let desk = desk();
    let source = legacy().source.clone();
    let again = ["pack", &source, "set.zip", "--overwrite"];
    desk.json(0, &again);
    verify_trusted(&desk, 0, "own.pub");
    desk.json(0, &[&again[..], &["--level", "1"]].concat());
    assert!(!desk.path("set.zip.minisig").exists());
}

fn pack_with_password(desk: &TestDir, variable: &str, value: &str) -> Run {
    let source = legacy().source.clone();
    let args = ["pack", &source, "set.zip", "--sign", "own.key"];
    let mut command = desk.kindpack(&args);
    command.env(variable, value);
    sound(Running::start(command).wait(), &args)
}

#[test]
fn password_comes_from_the_environment_or_a_file() {
    let desk = TestDir::new();
    let password = Some("correct horse".to_owned());
    let pair = KeyPair::generate_encrypted_keypair(password).unwrap();
    write_pair(&desk, "own", &pair);
    let failed = pack_signed(&desk, 2, &[]);
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("a password protects"), "{error}");
    let run = pack_with_password(&desk, "KINDPACK_SIGN_PASSWORD", "wrong horse");
    assert_eq!(run.code, 2, "{}", run.brief());
    assert!(!run.err.contains("wrong horse"), "{}", run.err);
    desk.write("password", "correct horse\n");
    for (variable, value) in [
        ("KINDPACK_SIGN_PASSWORD", "correct horse"),
        ("KINDPACK_SIGN_PASSWORD_FILE", "password"),
    ] {
        fs::remove_file(desk.path("set.zip.minisig")).ok();
        let run = pack_with_password(&desk, variable, value);
        assert_eq!(run.code, 0, "{}", run.brief());
        verify_trusted(&desk, 0, "own.pub");
    }
}

/// Runs the stock `minisign`; whether it is content.
fn minisign(desk: &TestDir, args: &[&str]) -> bool {
    let program = outside_program("minisign", &["minisign"], "signatures").unwrap();
    let output = Command::new(program)
        .args(args)
        .current_dir(desk.work())
        .output();
    output.unwrap().status.success()
}

fn has_minisign() -> bool {
    outside_program("minisign", &["minisign"], "the stock minisign").is_some()
}

#[test]
fn stock_minisign_accepts_our_signature() {
    if !has_minisign() {
        return;
    }
    let desk = TestDir::new();
    let pair = ["-p", "own.pub", "-s", "own.key"];
    assert!(minisign(&desk, &[&["-G", "-W"][..], &pair].concat()));
    pack_signed(&desk, 0, &[]);
    let check = ["-V", "-p", "own.pub", "-m", "set.zip"];
    assert!(minisign(&desk, &check));
    flip(&desk, "set.zip", 2000);
    assert!(!minisign(&desk, &check));
}

#[test]
fn stock_minisign_signature_is_trusted() {
    if !has_minisign() {
        return;
    }
    let desk = desk();
    let sign = ["-S", "-s", "own.key", "-m", "set.zip"];
    assert!(minisign(&desk, &[&sign[..], &["-t", "by hand"]].concat()));
    let done = verify_trusted(&desk, 0, "own.pub");
    assert_eq!(done["signature"]["trusted_comment"], "by hand");
    assert!(minisign(&desk, &[&sign[..], &["-l"]].concat()));
    let failed = verify_trusted(&desk, 4, "own.pub");
    assert!(failed["error"].as_str().unwrap().contains("legacy"));
}
