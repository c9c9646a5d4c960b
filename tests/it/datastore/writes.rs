//! What is sent where nothing goes wrong: in which order, how much at once, how fast.

use std::time::Instant;

use kindpack::datastore::error::DatastoreError;
use kindpack::targets::{StepProgress, Target as _};

use super::fixture::{
    PATIENT, PROJECT, SOURCE, assert_holds, discreet, encoded, notes, restore, run, server, step,
    target, truth,
};
use crate::support::data::{Made, made};
use crate::support::datastore_server::{Call, Deed};

#[test]
fn default_and_named_databases_receive_everything() {
    for database in ["", "archive"] {
        let server = server();
        let entities = notes(700);
        let done = run(restore(
            &target(&server, database, PATIENT),
            &entities,
            database,
            250,
        ))
        .unwrap();
        assert_eq!(
            done,
            StepProgress {
                pieces: 1,
                records: 0,
                entities: 700
            }
        );
        assert_holds(&server, database, &entities, database);
        assert_eq!(server.reserved(), 700);
        let params = if database.is_empty() {
            format!("project_id={PROJECT}")
        } else {
            format!("project_id={PROJECT}&database_id={database}")
        };
        for seen in server.seen().iter().filter(|seen| seen.call != Call::Token) {
            assert_eq!(
                (
                    seen.database.as_str(),
                    seen.params.as_str(),
                    seen.is_message
                ),
                (database, params.as_str(), true)
            );
            assert!(
                seen.authorization.starts_with("Bearer ")
                    && seen.agent.starts_with("kindpack/")
                    && seen.items <= 250,
                "{seen:?}"
            );
        }
        assert_eq!(
            (
                server.count(Call::Commit),
                server.count(Call::ReserveIds),
                server.count(Call::Token)
            ),
            (3, 3, 1)
        );
    }
}

#[test]
fn a_batch_over_the_limits_is_divided() {
    let server = server();
    let (many, large) = (notes(1_001), made(SOURCE, "acme", "Image", 20, 1_000_000));
    run(async {
        let target = target(&server, "", PATIENT);
        restore(&target, &many, "", 5_000).await.unwrap();
        let mut sink = target
            .open(&step("acme", "Image"), StepProgress::default())
            .await
            .unwrap();
        sink.write(encoded(&large, "")).await.unwrap();
        sink.finish().await.unwrap();
    });
    assert_holds(&server, "", &many, "many");
    assert_holds(&server, "", &large, "large");
    let commits: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.call == Call::Commit)
        .collect();
    assert!(
        commits
            .iter()
            .all(|seen| seen.items <= 500 && seen.bytes <= 9 << 20),
        "{commits:?}"
    );
    assert_eq!(commits.len(), 3 + 3, "as few as the limits allow");
}

#[test]
fn oversized_entities_are_named_before_sending() {
    let server = server();
    let mut entities = notes(3);
    entities[1].blob = vec![b'x'; 1_048_488];
    let error = run(restore(&target(&server, "", PATIENT), &entities, "", 500)).unwrap_err();
    assert_eq!(
        discreet(&error),
        "entity 2 of kind Note is too large: property blob has 1048488 bytes, the limit is 1048487"
    );
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn progress_is_ordered_and_within_the_window() {
    const WINDOW: u64 = 8;
    let server = server();
    // The first commit is slow: all that comes later must wait for it.
    server.plan(
        Call::Commit,
        0,
        Deed::Stall(std::time::Duration::from_millis(400)),
    );
    let entities = notes(400);
    run(async {
        let target = target(&server, "", PATIENT);
        let mut sink = target
            .open(&step("acme", "Note"), StepProgress::default())
            .await
            .unwrap();
        let (mut handed, mut last) = (0, StepProgress::default());
        for (number, batch) in encoded(&entities, "").split(10, 1 << 20).enumerate() {
            handed += batch.len() as u64;
            let safe = sink.write(batch).await.unwrap();
            assert!(
                safe >= last && handed - safe.entities <= WINDOW * 10,
                "{safe:?} after {handed}"
            );
            // Whatever is safe is there.
            assert!(server.entities_of("", "acme", "Note").len() as u64 >= safe.entities);
            if number == 19 {
                sink.end_piece();
            }
            assert_eq!(safe.pieces * 200 + safe.records, safe.entities);
            last = safe;
        }
        assert!(last.entities > 0);
        sink.end_piece();
        assert_eq!(
            sink.finish().await.unwrap(),
            StepProgress {
                pieces: 2,
                records: 0,
                entities: 400
            }
        );
    });
    assert_holds(&server, "", &entities, "all");
}

#[test]
fn step_resumes_within_a_piece() {
    let server = server();
    let entities = notes(30);
    run(async {
        let target = target(&server, "", PATIENT);
        let begun = StepProgress {
            pieces: 4,
            records: 10,
            entities: 4_010,
        };
        let mut sink = target.open(&step("acme", "Note"), begun).await.unwrap();
        let mut rest = encoded(&entities, "");
        rest.drop_first(10);
        sink.write(rest).await.unwrap();
        sink.end_piece();
        sink.end_piece();
        assert_eq!(
            sink.finish().await.unwrap(),
            StepProgress {
                pieces: 6,
                records: 0,
                entities: 4_030
            }
        );
    });
    assert_eq!(
        server.entities_of("", "acme", "Note"),
        truth(&entities[10..], "")
    );
}

#[test]
fn last_entity_of_equal_keys_wins() {
    let server = server();
    let entities = notes(60);
    let again = |id: u64, word: &[u8]| Made {
        blob: word.to_vec(),
        ..entities[id as usize - 1].clone()
    };
    // In one batch, in batches that are under way together, and after a slow one.
    server.plan(
        Call::Commit,
        0,
        Deed::Stall(std::time::Duration::from_millis(300)),
    );
    let mut all = entities.clone();
    all.insert(5, again(2, b"second"));
    all.push(again(1, b"last"));
    all.push(again(2, b"last"));
    run(restore(&target(&server, "", PATIENT), &all, "", 10)).unwrap();
    let mut expected = entities.clone();
    expected[0] = again(1, b"last");
    expected[1] = again(2, b"last");
    assert_holds(&server, "", &expected, "the last one of each");
}

#[test]
fn each_kind_ramps_from_500_writes() {
    let server = server();
    let begun = Instant::now();
    run(async {
        let target = target(&server, "", PATIENT);
        for kind in ["Note", "Image"] {
            restore(&target, &made(SOURCE, "", kind, 1_300, 1), "", 100)
                .await
                .unwrap();
        }
    });
    // Whenever one looks, no more has come than the pace allows since the beginning: the bucket of
    // one second, and what flowed in.
    let mut came = 0;
    for seen in server
        .seen()
        .iter()
        .filter(|seen| seen.call == Call::Commit)
    {
        came += seen.items;
        let most = 2.0 * 500.0 + 500.0 * (seen.at - begun).as_secs_f64();
        assert!(came as f64 <= most, "{came} by {:?}", seen.at - begun);
    }
    assert_eq!(came, 2_600);
}

#[test]
fn an_address_without_tls_gets_no_token() {
    let server = server();
    let error = kindpack::targets::CommitTarget::service(
        PROJECT,
        "",
        super::fixture::credentials(&server),
        "http://datastore.example.com",
        PATIENT,
    );
    assert!(matches!(error, Err(DatastoreError::Unauthorized { .. })));
    assert_eq!(server.seen().len(), 0);
}
