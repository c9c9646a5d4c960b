//! `rehearse`: the proof that a backup restores, and that a broken one does not pass for one.

use crate::support::TestDir;
use crate::support::emulator::{emulator, other_emulator_slot};
use crate::support::fixtures::sets;

#[test]
fn every_fixture_can_be_rehearsed() {
    if emulator("rehearsals").is_none() {
        return;
    }
    let _slot = other_emulator_slot();
    for set in sets() {
        let desk = TestDir::new();
        desk.pack(&set.source);
        let event = desk.json(0, &["rehearse", "set.zip", "--emulator", "datastore"]);
        assert_eq!(event["entities"], set.truth.len(), "{}", set.name);
    }
}

#[test]
fn broken_archive_fails_rehearsal_with_reason() {
    if emulator("rehearsals of broken archives").is_none() {
        return;
    }
    let _slot = other_emulator_slot();
    let set = crate::support::fixtures::managed();
    let desk = TestDir::new();
    desk.pack(&set.source);
    let whole = desk.read("set.zip");
    let len = whole.len();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    // The entries' data fill most of the archive; the manifest and the directory stand at its end.
    let mut broken: Vec<(String, Vec<u8>)> = (1..8)
        .map(|eighth| {
            (
                format!("a bit flipped at {eighth}/8"),
                flipped(len * eighth / 8),
            )
        })
        .collect();
    broken.push(("cut in its middle".to_owned(), whole[..len / 2].to_vec()));
    broken.push(("cut by a byte".to_owned(), whole[..len - 1].to_vec()));
    broken.push(("nothing".to_owned(), Vec::new()));
    broken.push((
        "something before it".to_owned(),
        [b"#!/bin/sh\n", &whole[..]].concat(),
    ));
    broken.push(("no zip".to_owned(), b"PK is how zips begin".to_vec()));
    for (what, bytes) in broken {
        desk.write("broken.zip", bytes);
        let event = desk.json(4, &["rehearse", "broken.zip"]);
        let error = event["error"].as_str().unwrap();
        assert!(
            ["expected", "damaged", "not a zip", "cut off", "is empty"]
                .iter()
                .any(|word| error.contains(word)),
            "{what}: {event}"
        );
    }
}
