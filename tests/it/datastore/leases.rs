//! Two restores into one project: the second one is refused, whatever becomes of the first.

use std::time::Duration;

use kindpack::datastore::error::DatastoreError;
use kindpack::model::{KindRef, LEASE_KIND};
use kindpack::targets::{
    CommitTarget, KeySet, Lease, ServiceTimes, StepProgress, Target as _, TargetError,
};
use serde_json::{Value, json};

use super::fixture::{PATIENT, PROJECT, discreet, run, server, step, target};
use crate::support::datastore_server::{Call, DatastoreServer, Deed};

/// Renewed every two seconds; even a loaded machine does that in time.
const SHORT: ServiceTimes = ServiceTimes {
    lease: Duration::from_secs(6),
    ..PATIENT
};

fn marks(server: &DatastoreServer, database: &str) -> Vec<Value> {
    server.entities_of(database, "", LEASE_KIND)
}

async fn take(target: &CommitTarget, holder: &str) -> Result<Lease, TargetError> {
    target.lease(holder).await.map(Option::unwrap)
}

async fn wait_until(ready: impl Fn() -> bool) {
    let ready = async {
        while !ready() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ready)
        .await
        .expect("what was waited for did not come");
}

/// A mark of somebody else, until then.
fn put_mark(server: &DatastoreServer, holder: &str, until: &str) {
    server.put(
        "",
        &json!({
            "key": {"partitionId": {"projectId": PROJECT}, "path": [{"kind": LEASE_KIND, "name": "restore"}]},
            "properties": {
                "holder": {"stringValue": holder, "excludeFromIndexes": true},
                "token": {"stringValue": "theirs", "excludeFromIndexes": true},
                "expires": {"timestampValue": until, "excludeFromIndexes": true},
            },
        }),
    );
}

#[test]
fn second_restore_learns_owner_and_expiry() {
    for database in ["", "archive"] {
        let server = server();
        let (first, second) = (
            target(&server, database, PATIENT),
            target(&server, database, PATIENT),
        );
        run(async {
            let lease = take(&first, "ann on red").await.unwrap();
            assert!(!lease.is_lost());
            let properties = marks(&server, database)[0]["properties"].clone();
            assert!(
                properties
                    .as_object()
                    .unwrap()
                    .values()
                    .all(|value| value["excludeFromIndexes"] == true),
                "{properties}"
            );
            let error = take(&second, "bob on blue").await.unwrap_err();
            let TargetError::Locked { holder, until, .. } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(
                (holder.as_str(), until.to_string().as_str()),
                (
                    "ann on red",
                    properties["expires"]["timestampValue"].as_str().unwrap()
                )
            );
            assert!(
                discreet(&error).contains("is locked by another restore: ann on red, until"),
                "{error}"
            );
            // The other database of the project is another target.
            let other = if database.is_empty() { "archive" } else { "" };
            take(&target(&server, other, PATIENT), "bob on blue")
                .await
                .unwrap()
                .release()
                .await;
            lease.release().await;
            assert_eq!(marks(&server, database), [Value::Null; 0]);
            take(&second, "bob on blue").await.unwrap().release().await;
        });
    }
}

#[test]
fn expired_or_own_lease_is_taken_over() {
    let server = server();
    put_mark(&server, "ann on red", "2013-10-12T06:37:42Z");
    run(async {
        let lease = take(&target(&server, "", PATIENT), "bob on blue")
            .await
            .unwrap();
        assert_eq!(
            marks(&server, "")[0]["properties"]["holder"]["stringValue"],
            "bob on blue"
        );
        // Killed, and typed again.
        drop(lease);
        let again = take(&target(&server, "", PATIENT), "bob on blue")
            .await
            .unwrap();
        again.release().await;
        assert_eq!(marks(&server, "").len(), 0);
    });
}

#[test]
fn the_services_clock_decides_and_not_ours() {
    let server = server();
    let tomorrow = jiff::Timestamp::now() + Duration::from_secs(86_400);
    put_mark(&server, "ann on red", &tomorrow.to_string());
    let target = target(&server, "", PATIENT);
    run(async {
        assert!(matches!(
            take(&target, "bob on blue").await,
            Err(TargetError::Locked { .. })
        ));
        server.set_ahead(Duration::from_secs(2 * 86_400));
        let lease = take(&target, "bob on blue").await.unwrap();
        let until: jiff::Timestamp =
            marks(&server, "")[0]["properties"]["expires"]["timestampValue"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
        assert!(until > tomorrow);
        lease.release().await;
    });
}

#[test]
fn lease_is_renewed_until_another_takes_it() {
    let server = server();
    let target = target(&server, "", SHORT);
    run(async {
        let lease = take(&target, "ann on red").await.unwrap();
        let begun = server.count(Call::Commit);
        server.plan(Call::Commit, begun, Deed::LoseAnswer);
        server.plan(
            Call::Lookup,
            server.count(Call::Lookup) + 1,
            Deed::Status(503),
        );
        wait_until(|| server.count(Call::Commit) >= begun + 2).await;
        assert!(!lease.is_lost());
        put_mark(&server, "bob on blue", "2999-01-01T00:00:00Z");
        wait_until(|| lease.is_lost()).await;
        lease.release().await;
        assert_eq!(
            marks(&server, "")[0]["properties"]["holder"]["stringValue"],
            "bob on blue",
            "what is not ours stays"
        );
    });
}

#[test]
fn unrenewable_lease_is_lost_at_expiry() {
    let server = server();
    let target = target(
        &server,
        "",
        ServiceTimes {
            lease: Duration::from_millis(600),
            ..PATIENT
        },
    );
    run(async {
        let lease = take(&target, "ann on red").await.unwrap();
        server.plan_many(
            Call::Commit,
            server.count(Call::Commit),
            usize::MAX,
            Deed::Status(503),
        );
        wait_until(|| server.unfired().is_empty()).await;
        wait_until(|| lease.is_lost()).await;
    });
}

#[test]
fn lost_answers_leave_one_lease_owner() {
    for (call, deed) in [
        (Call::Commit, Deed::LoseAnswer),
        (Call::Commit, Deed::Cut),
        (Call::Commit, Deed::Status(409)),
        (Call::Commit, Deed::HalfAnswer),
        (Call::Commit, Deed::Status(401)),
        (Call::Lookup, Deed::HalfAnswer),
        (Call::Lookup, Deed::FrontEnd(502)),
    ] {
        let server = server();
        server.plan(call, 0, deed);
        run(async {
            let lease = take(&target(&server, "", PATIENT), "ann on red")
                .await
                .unwrap_or_else(|error| panic!("{call:?} {deed:?}: {error}"));
            assert!(
                matches!(
                    take(&target(&server, "", PATIENT), "bob").await,
                    Err(TargetError::Locked { .. })
                ),
                "{call:?} {deed:?}"
            );
            lease.release().await;
            assert_eq!(marks(&server, "").len(), 0, "{call:?} {deed:?}");
        });
    }
}

#[test]
fn one_of_many_gets_the_lease() {
    let server = server();
    run(async {
        let targets: Vec<CommitTarget> = (0..6).map(|_| target(&server, "", PATIENT)).collect();
        let names: Vec<String> = (0..6).map(|number| format!("restore {number}")).collect();
        let taken = futures_util::future::join_all(
            targets
                .iter()
                .zip(&names)
                .map(|(target, name)| take(target, name)),
        )
        .await;
        let errors: Vec<String> = taken
            .iter()
            .filter_map(|taken| taken.as_ref().err().map(ToString::to_string))
            .collect();
        assert_eq!(errors.len(), 5, "{errors:?}");
        assert!(
            errors
                .iter()
                .all(|error| error.contains("is locked by another restore")),
            "{errors:?}"
        );
    });
}

#[test]
fn lease_needs_write_permission() {
    let server = server();
    server.deny();
    let error = run(take(&target(&server, "", PATIENT), "ann on red")).unwrap_err();
    assert!(
        matches!(error, TargetError::Datastore(DatastoreError::Denied { .. })),
        "{error:?}"
    );
    discreet(&error);
}

#[test]
fn lease_entity_is_never_counted_or_deleted() {
    let server = server();
    let target = target(&server, "", PATIENT);
    let pair = KindRef::new("", LEASE_KIND);
    run(async {
        let lease = take(&target, "ann on red").await.unwrap();
        assert_eq!(target.count(&pair).await.unwrap(), 0);
        assert_eq!(
            target
                .delete_others(&pair, &KeySet::new(0, 1))
                .await
                .unwrap(),
            0
        );
        let opened = target
            .open(&step("", LEASE_KIND), StepProgress::default())
            .await;
        assert!(matches!(opened, Err(TargetError::Refused { .. })));
        assert_eq!(marks(&server, "").len(), 1);
        lease.release().await;
    });
}
