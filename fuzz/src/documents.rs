//! What kindpack and people write: plans, journals, queues, configurations.

use std::path::Path;

use kindpack::backup::{QueueOptions, QueueSettings};
use kindpack::config::Config;
use kindpack::fuzzing;
use kindpack::plan::{ArchiveRef, Environment, Plan, profile};
use kindpack::restore::journal;

use super::archives::sound_manifest;

/// A plan: what is read is the same when it was written again, and can be held against an archive.
pub fn plan(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    Plan::parse(text).ok();
    // Its seal would stop nearly every change.
    if let Some(plan) = fuzzing::sealed_plan(text) {
        assert_eq!(Plan::parse(&plan.to_json()).as_ref(), Ok(&plan));
        let archive: ArchiveRef = plan.head.archive.clone();
        plan.check_against(sound_manifest(), &archive, &Environment::default())
            .ok();
    }
}

/// A journal of a restore, then the journal of a backup: what counts of it is read as the same again.
pub fn journal(bytes: &[u8]) {
    check_journal(bytes);
    // Its checksums would stop nearly every change.
    let lines = bytes.split(|byte| *byte == b'\n');
    let with_checksums: Vec<u8> = lines.flat_map(with_checksum).collect();
    check_journal(&with_checksums);
    fuzzing::replay_backup_journal(bytes);
}

fn check_journal(bytes: &[u8]) {
    let Ok(read) = journal::read(bytes) else {
        return;
    };
    let valid = bytes.get(..read.valid_len as usize);
    let again = journal::read(valid.expect("no longer than the journal"));
    let again = again.expect("what counts can be read");
    assert!(!again.torn && again.valid_len == read.valid_len);
    assert_eq!((again.opened, again.steps), (read.opened, read.steps));
}

/// A line with the checksum that it should have, in place of the one that it has.
fn with_checksum(line: &[u8]) -> Vec<u8> {
    const CRC_LEN: usize = r#"{"crc":"00000000","#.len();
    let body = line.get(CRC_LEN..).unwrap_or(line);
    let crc = format!(r#"{{"crc":"{:08x}","#, crc32c::crc32c(body));
    [crc.as_bytes(), body, b"\n"].concat()
}

/// A `queue.yaml`.
pub fn queue_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for name in [None, Some("default")] {
        let settings = QueueSettings::read(text, name);
        settings.map(|it| it.over(QueueOptions::default())).ok();
    }
}

/// A `kindpack.toml`, an order file, a file of redaction rules.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(mut config) = Config::read(text, "kindpack.toml", Path::new("/etc/kindpack")) {
        config.profiles().ok();
        config.choose_apps(&[]).ok();
        let names: Vec<String> = config.profile_names().map(str::to_owned).collect();
        for name in names {
            config.take_profile(&name).ok();
        }
    }
    profile::order(text, "order.toml").ok();
    profile::rules(text, "rules.txt").ok();
}
