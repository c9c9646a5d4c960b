//! What goes wrong on the way: what passes is come over, what does not is told, and nothing is lost
//! in either case.

use std::time::Duration;

use futures_util::future::join_all;
use kindpack::datastore::error::DatastoreError;
use kindpack::targets::{StepProgress, Target as _, TargetError};

use super::fixture::{
    HASTY, PATIENT, assert_holds, discreet, notes, restore, run, server, step, target, truth,
};
use crate::support::datastore_server::{Call, Deed};

#[test]
fn whatever_passes_is_come_over_and_everything_arrives() {
    const DEEDS: [Deed; 13] = [
        Deed::Status(409),
        Deed::Status(429),
        Deed::Status(500),
        Deed::Status(503),
        Deed::Status(504),
        Deed::RetryAfter(503, 1),
        Deed::RetryAfter(429, 0),
        Deed::RetryInfo(429, 30),
        Deed::FrontEnd(502),
        Deed::FrontEnd(503),
        Deed::Cut,
        Deed::LoseAnswer,
        Deed::Stall(Duration::from_millis(20)),
    ];
    let entities = notes(60);
    let entities = &entities;
    let cases = [Call::Commit, Call::ReserveIds]
        .into_iter()
        .flat_map(|call| DEEDS.map(|deed| (call, deed)));
    let tried = cases.map(|(call, deed)| async move {
        let server = server();
        server.plan(call, 1, deed);
        let restored = restore(&target(&server, "", PATIENT), entities, "", 20).await;
        restored.unwrap_or_else(|error| panic!("{call:?} {deed:?}: {error}"));
        assert_holds(&server, "", entities, &format!("{call:?} {deed:?}"));
        assert_eq!(server.reserved(), 60, "{call:?} {deed:?}");
        assert!(server.count(call) > 3, "{call:?} {deed:?}: tried again");
    });
    run(join_all(tried));
}

#[test]
fn what_the_service_asks_for_is_waited_for() {
    for deed in [Deed::RetryAfter(429, 1), Deed::RetryInfo(503, 1_100)] {
        let server = server();
        server.plan(Call::Commit, 0, deed);
        run(restore(&target(&server, "", PATIENT), &notes(5), "", 500)).unwrap();
        let commits: Vec<_> = server
            .seen()
            .into_iter()
            .filter(|seen| seen.call == Call::Commit)
            .collect();
        assert!(
            commits[1].at - commits[0].at >= Duration::from_secs(1),
            "{deed:?}"
        );
    }
}

#[test]
fn contended_or_overloaded_commits_are_halved() {
    let entities = notes(100);
    for status in [429, 503, 504] {
        let server = server();
        server.plan(Call::Commit, 0, Deed::Status(status));
        run(restore(&target(&server, "", PATIENT), &entities, "", 500)).unwrap();
        let items: Vec<usize> = server
            .seen()
            .iter()
            .filter(|seen| seen.call == Call::Commit)
            .map(|seen| seen.items)
            .collect();
        assert_eq!(items, [100, 50, 50], "{status}");
    }
    let server = server();
    server.plan_many(Call::Commit, 0, usize::MAX, Deed::Contention(30));
    run(restore(&target(&server, "", PATIENT), &entities, "", 500)).unwrap();
    assert_holds(&server, "", &entities, "contention");
    let items: Vec<usize> = server
        .seen()
        .iter()
        .filter(|seen| seen.call == Call::Commit)
        .map(|seen| seen.items)
        .collect();
    assert_eq!(items, [100, 50, 25, 25, 50, 25, 25]);
}

#[test]
fn broken_connection_does_not_halve_commits() {
    let server = server();
    server.plan(Call::Commit, 0, Deed::LoseAnswer);
    server.plan(Call::Commit, 1, Deed::FrontEnd(502));
    run(restore(&target(&server, "", PATIENT), &notes(100), "", 500)).unwrap();
    let items: Vec<usize> = server
        .seen()
        .iter()
        .filter(|seen| seen.call == Call::Commit)
        .map(|seen| seen.items)
        .collect();
    assert_eq!(items, [100, 100, 100]);
}

#[test]
fn dead_service_gives_up_with_details() {
    let stall = Deed::Stall(Duration::from_secs(60));
    let deeds = [
        Deed::Status(503),
        Deed::Status(429),
        Deed::FrontEnd(502),
        Deed::Cut,
        stall,
    ];
    run(join_all(deeds.map(|deed| async move {
        let server = server();
        server.plan_many(Call::Commit, 0, usize::MAX, deed);
        let error = restore(&target(&server, "", HASTY), &notes(1), "", 500)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                TargetError::Datastore(DatastoreError::Service { tries: 2.., .. })
            ),
            "{deed:?}: {error:?}"
        );
        let words = discreet(&error);
        assert!(
            words.starts_with("commit of project shop-test at http://127.0.0.1:"),
            "{words}"
        );
    })));
    // It does not ask to be waited for longer than there is time.
    let server = server();
    server.plan(Call::Commit, 0, Deed::RetryAfter(503, 3_600));
    let error = run(restore(&target(&server, "", PATIENT), &notes(1), "", 500)).unwrap_err();
    assert!(
        matches!(
            error,
            TargetError::Datastore(DatastoreError::Service { tries: 1, .. })
        ),
        "{error:?}"
    );
}

#[test]
fn commit_needs_an_answer_per_mutation() {
    let server = server();
    server.plan(Call::Commit, 0, Deed::HalfAnswer);
    let entities = notes(100);
    run(restore(&target(&server, "", PATIENT), &entities, "", 500)).unwrap();
    assert_holds(&server, "", &entities, "sent again");
    assert_eq!(server.count(Call::Commit), 2);
}

#[test]
fn datastore_token_refused_once_is_renewed() {
    let server = server();
    server.plan(Call::Commit, 0, Deed::Status(401));
    let entities = notes(100);
    run(restore(&target(&server, "", PATIENT), &entities, "", 10)).unwrap();
    assert_holds(&server, "", &entities, "renewed");
    assert!(server.count(Call::Token) >= 2);

    let server = super::fixture::server();
    server.plan_many(Call::Commit, 0, usize::MAX, Deed::Status(401));
    let error = run(restore(
        &target(&server, "", PATIENT),
        &entities[..1],
        "",
        10,
    ))
    .unwrap_err();
    assert!(
        matches!(
            error,
            TargetError::Datastore(DatastoreError::Unauthorized { .. })
        ),
        "{error:?}"
    );
    discreet(&error);
    assert_eq!(
        (server.count(Call::Commit), server.count(Call::Token)),
        (2, 2)
    );
}

#[test]
fn missing_write_permission_fails_at_once() {
    let server = server();
    server.deny();
    let error = run(restore(&target(&server, "", PATIENT), &notes(1), "", 10)).unwrap_err();
    assert!(
        matches!(error, TargetError::Datastore(DatastoreError::Denied { .. })),
        "{error:?}"
    );
    assert!(discreet(&error).contains("PERMISSION_DENIED: Missing or insufficient permissions"));
    assert_eq!(server.count(Call::Commit), 1);
    // Also who may write, but not reserve ids.
    let server = super::fixture::server();
    server.plan_many(Call::ReserveIds, 0, usize::MAX, Deed::Status(403));
    let error = run(restore(&target(&server, "", PATIENT), &notes(1), "", 10)).unwrap_err();
    assert!(
        discreet(&error).starts_with("reserveIds of project"),
        "{error:?}"
    );
}

#[test]
fn rejected_entity_is_named_and_others_restored() {
    let server = server();
    server.poison("Note", "777");
    let entities = notes(1_000);
    let error = run(restore(&target(&server, "", PATIENT), &entities, "", 500)).unwrap_err();
    let TargetError::EntityRejected { number: 777, .. } = &error else {
        panic!("{error:?}")
    };
    let words = discreet(&error);
    assert_eq!(
        words,
        "the target refuses entity 777 of kind Note: HTTP 400 INVALID_ARGUMENT: something in it is not allowed"
    );
    assert!(server.count(Call::Commit) < 2 + 2 * 10, "found by halving");
    let held = server.entities_of("", "acme", "Note");
    assert_eq!(held[..776], truth(&entities[..776], ""));
}

#[test]
fn missing_database_is_reported_as_service_says() {
    let server = server();
    let error = run(restore(
        &target(&server, "nosuch", PATIENT),
        &notes(1),
        "nosuch",
        10,
    ))
    .unwrap_err();
    assert!(
        matches!(
            error,
            TargetError::Datastore(DatastoreError::Refused { .. })
        ),
        "{error:?}"
    );
    let words = discreet(&error);
    assert!(
        words.contains("project shop-test/nosuch") && words.contains("does not exist"),
        "{words}"
    );
}

#[test]
fn abandoned_step_sends_nothing_more() {
    let server = server();
    // One more, and the sink would wait for the first.
    server.plan_many(Call::Commit, 0, 7, Deed::Stall(Duration::from_secs(60)));
    run(async {
        let target = target(&server, "", PATIENT);
        let mut sink = target
            .open(&step("acme", "Note"), StepProgress::default())
            .await
            .unwrap();
        for batch in super::fixture::encoded(&notes(70), "").split(10, 1 << 20) {
            sink.write(batch).await.unwrap();
        }
        while server.count(Call::Commit) < 7 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(sink);
        // Whatever is asked now is asked after everything that the step has sent.
        assert_eq!(target.count(&step("acme", "Note").pair).await.unwrap(), 0);
    });
    assert_eq!(server.count(Call::Commit), 7);
}
