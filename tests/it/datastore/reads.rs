//! What is asked of the target: counts, and whether every entity is as it should be.

use kindpack::model::KindRef;
use kindpack::targets::Target as _;

use super::fixture::{HASTY, PATIENT, discreet, notes, restore, run, server, target, truth};
use crate::support::datastore_server::{Call, Deed};

#[test]
fn the_service_counts_by_itself_also_after_trouble() {
    for database in ["", "archive"] {
        let server = server();
        let target = target(&server, database, PATIENT);
        run(async {
            restore(&target, &notes(95), database, 500).await.unwrap();
            for deed in [
                Deed::Status(503),
                Deed::Cut,
                Deed::HalfAnswer,
                Deed::FrontEnd(502),
            ] {
                server.plan(
                    Call::RunAggregationQuery,
                    server.count(Call::RunAggregationQuery),
                    deed,
                );
                assert_eq!(
                    target.count(&KindRef::new("acme", "Note")).await.unwrap(),
                    95,
                    "{deed:?}"
                );
            }
            assert_eq!(target.count(&KindRef::new("", "Note")).await.unwrap(), 0);
        });
        assert_eq!(server.count(Call::RunQuery), 0);
    }
}

#[test]
fn refused_count_is_no_empty_target() {
    let server = server();
    server.deny();
    let error = run(target(&server, "", HASTY).count(&KindRef::new("acme", "Note"))).unwrap_err();
    assert!(
        discreet(&error).starts_with("runAggregationQuery of project"),
        "{error:?}"
    );
    let missing = run(target(&server, "nosuch", HASTY).count(&KindRef::new("acme", "Note")));
    assert!(missing.is_err());
}

#[test]
fn every_entity_is_compared_including_deferred() {
    let server = server();
    let target = target(&server, "", PATIENT);
    let entities = notes(130);
    run(async {
        restore(&target, &entities, "", 500).await.unwrap();
        assert_eq!(
            target.differing(truth(&entities, "")).await.unwrap(),
            Some(0)
        );
        assert!(server.count(Call::Lookup) > 1, "some were deferred");
        let mut wanted = truth(&entities, "");
        wanted[7]["properties"]["n"]["integerValue"] = "0".into();
        server.remove("", &wanted[70]["key"]);
        server.plan(
            Call::Lookup,
            server.count(Call::Lookup) + 1,
            Deed::Status(503),
        );
        assert_eq!(target.differing(wanted).await.unwrap(), Some(2));
    });
}
