use super::*;

async fn names(store: &DirStore) -> Vec<String> {
    store
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|object| object.name)
        .collect()
}

#[tokio::test]
async fn name_is_free_until_published() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    let mut writer = store
        .create("a/b.zip", WriteOptions::default())
        .await
        .unwrap();
    writer.write(Bytes::from_static(b"half")).await.unwrap();
    assert!(matches!(
        store.stat("a/b.zip").await,
        Err(StoreError::NotFound { .. })
    ));
    drop(writer);
    assert_eq!(names(&store).await, [""; 0]);

    write_object(&store, "a/b.zip", Bytes::from_static(b"whole"), false)
        .await
        .unwrap();
    assert_eq!(names(&store).await, ["a/b.zip"]);
}

#[tokio::test]
async fn taken_name_stays_unless_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    write_object(&store, "x", Bytes::from_static(b"first"), false)
        .await
        .unwrap();
    let refused = write_object(&store, "x", Bytes::from_static(b"second"), false).await;
    assert!(
        matches!(refused, Err(StoreError::AlreadyExists { .. })),
        "{refused:?}"
    );
    assert_eq!(
        read_object(&store, &store.stat("x").await.unwrap())
            .await
            .unwrap(),
        "first"
    );
    write_object(&store, "x", Bytes::from_static(b"third"), true)
        .await
        .unwrap();
    assert_eq!(
        read_object(&store, &store.stat("x").await.unwrap())
            .await
            .unwrap(),
        "third"
    );
    assert_eq!(names(&store).await, ["x"]);
}

#[tokio::test]
async fn second_writer_of_a_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    std::fs::write(folder.path().join(".x.partial"), "of somebody else").unwrap();
    let [first, second] = [
        store.create("x", WriteOptions::default()).await,
        store.create("x", WriteOptions::default()).await,
    ];
    first
        .unwrap()
        .publish(ObjectMetadata::default())
        .await
        .unwrap();
    let refused = second.unwrap().publish(ObjectMetadata::default()).await;
    assert!(
        matches!(refused, Err(StoreError::AlreadyExists { .. })),
        "{refused:?}"
    );
    assert_eq!(names(&store).await, [".x.partial", "x"]);
    assert_eq!(
        std::fs::read(folder.path().join(".x.partial")).unwrap(),
        b"of somebody else"
    );
}

#[tokio::test]
async fn names_that_a_store_cannot_hold_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    let (long, longest) = ("x".repeat(256), "x/".repeat(2_048));
    for names in [vec!["a", &long], vec![&longest], vec!["a/b", "a"]] {
        let refused = store.check_names(&names).await;
        assert!(
            matches!(refused, Err(StoreError::UnsupportedName { .. })),
            "{refused:?}"
        );
    }
    store
        .check_names(&["a/b", "a-b", &long[1..]])
        .await
        .unwrap();
}

#[tokio::test]
async fn changed_object_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    write_object(&store, "x", Bytes::from_static(b"first"), false)
        .await
        .unwrap();
    let listed = store.stat("x").await.unwrap();
    assert_eq!(store.read(&listed, 1, 3).await.unwrap(), "irs");
    assert!(matches!(
        store.read(&listed, 3, 3).await,
        Err(StoreError::Changed { .. })
    ));
    write_object(&store, "x", Bytes::from_static(b"other"), true)
        .await
        .unwrap();
    assert!(matches!(
        store.read(&listed, 0, 5).await,
        Err(StoreError::Changed { .. })
    ));
}

#[tokio::test]
async fn link_to_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
    let error = DirStore::new(folder.path()).list().await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(" is a link to a folder, which is not followed"),
        "{error}"
    );
    assert_eq!(
        DirStore::new(folder.path()).list_folder().await.unwrap(),
        []
    );
    std::fs::remove_file(folder.path().join("link")).unwrap();
    for target in ["gone", "link"] {
        std::os::unix::fs::symlink(target, folder.path().join("link")).unwrap();
        let error = DirStore::new(folder.path()).list().await.unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("link is a link that cannot be followed"),
            "{error}"
        );
        assert_eq!(
            DirStore::new(folder.path()).list_folder().await.unwrap(),
            []
        );
        std::fs::remove_file(folder.path().join("link")).unwrap();
    }
    assert!(matches!(
        DirStore::new("/nonexistent/x").list().await,
        Err(StoreError::NotFound { .. })
    ));
}

#[tokio::test]
async fn only_an_unchanged_file_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    let write = |text: &'static str| write_object(&store, "a", Bytes::from(text), true);
    write("first").await.unwrap();
    let first = store.stat("a").await.unwrap();
    write("second").await.unwrap();
    let deleted = store.delete_unchanged(&first).await;
    assert!(matches!(deleted, Err(StoreError::Changed { .. })));
    let second = store.stat("a").await.unwrap();
    store.delete_unchanged(&second).await.unwrap();
    let deleted = store.delete_unchanged(&second).await;
    assert!(matches!(deleted, Err(StoreError::NotFound { .. })));
}

#[test]
fn locations_say_what_was_expected() {
    assert_eq!(
        "gs://b/a/c".parse(),
        Ok(Location::Bucket {
            bucket: "b".into(),
            name: "a/c".into()
        })
    );
    assert_eq!(
        "gs://b".parse(),
        Ok(Location::Bucket {
            bucket: "b".into(),
            name: String::new()
        })
    );
    assert_eq!(
        "gs:///x".parse::<Location>(),
        Err(LocationError::NoBucket("gs:///x".into()))
    );
    assert_eq!(
        "s3://b/x".parse::<Location>(),
        Err(LocationError::OtherScheme("s3://b/x".into()))
    );
    assert!("out/".parse::<Location>().unwrap().is_folder_name());
    assert_eq!(
        "2026-11-22T07:07:42_609/a".parse(),
        Ok(Location::Local("2026-11-22T07:07:42_609/a".into()))
    );
}

fn small(name: String, bytes: &'static [u8]) -> SmallObject {
    let making = WriteOptions {
        sync_later: true,
        ..WriteOptions::default()
    };
    SmallObject {
        name,
        bytes: Bytes::from_static(bytes),
        making,
    }
}

#[tokio::test]
async fn many_small_objects_are_handled_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    // Few are settled one by one, many at once.
    for count in [3, 100] {
        let made: Vec<String> = (0..count)
            .map(|number| format!("{count}/{}/{number}", number % 3))
            .collect();
        store
            .create_all(
                made.iter()
                    .map(|name| small(name.clone(), b"small"))
                    .collect(),
            )
            .await
            .unwrap();
        store.sync(&made).await.unwrap();
        let asked: Vec<String> = made
            .iter()
            .cloned()
            .chain(["nowhere/at all".to_owned()])
            .collect();
        let there: Vec<ObjectInfo> = store
            .stat_all(&asked)
            .await
            .unwrap()
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(
            there.iter().map(|object| &object.name).collect::<Vec<_>>(),
            made.iter().collect::<Vec<_>>()
        );
        let parts: Vec<ReadRange> = there
            .into_iter()
            .map(|object| ReadRange {
                object,
                offset: 1,
                len: 3,
            })
            .collect();
        assert!(
            store
                .read_all(&parts)
                .await
                .unwrap()
                .into_iter()
                .all(|read| read == "mal")
        );
    }
    assert!(matches!(
        store.sync(&["nowhere/at all".to_owned()]).await,
        Err(StoreError::NotFound { .. })
    ));
}

#[tokio::test]
async fn small_objects_never_replace_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    write_object(&store, "b", Bytes::from_static(b"first"), false)
        .await
        .unwrap();
    let wanted = ["a", "b", "c"].map(str::to_owned);
    let refused = store
        .create_all(wanted.map(|name| small(name, b"second")).into())
        .await;
    assert!(
        matches!(refused, Err(StoreError::AlreadyExists { .. })),
        "{refused:?}"
    );
    assert_eq!(
        read_object(&store, &store.stat("b").await.unwrap())
            .await
            .unwrap(),
        "first"
    );
    assert_eq!(names(&store).await, ["a", "b"]);
}
