//! Deleting what the archive does not hold: exactly of one kind and namespace, page by page.

use kindpack::datastore::error::DatastoreError;
use kindpack::model::KindRef;
use kindpack::targets::{KeySet, Target as _, TargetError};
use serde_json::{Value, json};

use super::fixture::{
    HASTY, PATIENT, PROJECT, discreet, encoded, notes, restore, run, server, target,
};
use crate::support::datastore_server::{Call, DatastoreServer, Deed};

/// An entity of nobody's, by its path of kinds and names.
fn entity(database: &str, namespace: &str, path: &[(&str, &str)]) -> Value {
    let mut partition = json!({"projectId": PROJECT});
    for (field, id) in [("databaseId", database), ("namespaceId", namespace)] {
        if !id.is_empty() {
            partition[field] = id.into();
        }
    }
    let path: Vec<Value> = path
        .iter()
        .map(|(kind, name)| json!({"kind": kind, "name": name}))
        .collect();
    json!({"key": {"partitionId": partition, "path": path}, "properties": {}})
}

/// What must go: other names, other ids, entities below others. And what must stay, though it is
/// near.
fn fill(server: &DatastoreServer, database: &str) -> usize {
    let put = |namespace: &str, path: &[(&str, &str)]| {
        server.put(database, &entity(database, namespace, path))
    };
    for number in 0..110 {
        put("acme", &[("Note", &format!("other {number}"))]);
        put(
            "acme",
            &[("Shelf", "a"), ("Note", &format!("below {number}"))],
        );
    }
    put("", &[("Note", "of the default namespace")]);
    put("beta", &[("Note", "of another namespace")]);
    put("acme", &[("Notes", "of another kind")]);
    put(
        "acme",
        &[("Note", "other 1"), ("Page", "below one that goes")],
    );
    220
}

#[test]
fn replace_deletes_only_stale_entities() {
    for (database, parts) in [("", 1), ("archive", 3)] {
        let server = server();
        let target = target(&server, database, PATIENT);
        let others = fill(&server, database);
        let entities = notes(90);
        run(async {
            restore(&target, &entities, database, 500).await.unwrap();
            let hashes: Vec<u64> = encoded(&entities, database)
                .iter()
                .map(|(_, hash)| hash)
                .collect();
            server.plan(Call::RunQuery, 1, Deed::Status(503));
            server.plan(Call::RunQuery, 3, Deed::HalfAnswer);
            server.plan(
                Call::Commit,
                server.count(Call::Commit) + 1,
                Deed::LoseAnswer,
            );
            let mut deleted = 0;
            for part in 0..parts {
                let mut keep = KeySet::new(part, parts);
                hashes.iter().for_each(|hash| keep.insert(*hash));
                deleted += target
                    .delete_others(&KindRef::new("acme", "Note"), &keep)
                    .await
                    .unwrap();
            }
            assert_eq!(deleted, others as u64);
        });
        super::fixture::assert_holds(&server, database, &entities, "the archive's own stay");
        assert_eq!(server.entities(database).len(), 90 + 4, "and what is near");
    }
}

#[test]
fn unreadable_keys_delete_nothing() {
    let server = server();
    fill(&server, "");
    server.plan_many(Call::RunQuery, 0, usize::MAX, Deed::Status(503));
    let error =
        run(target(&server, "", HASTY)
            .delete_others(&KindRef::new("acme", "Note"), &KeySet::new(0, 1)))
        .unwrap_err();
    assert!(
        matches!(
            error,
            TargetError::Datastore(DatastoreError::Service { .. })
        ),
        "{error:?}"
    );
    discreet(&error);
    assert_eq!(
        (server.count(Call::Commit), server.entities("").len()),
        (0, 224)
    );
}
