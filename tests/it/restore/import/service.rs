//! Imports into a stand-in for the real service: each kind once, whatever happens on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_auth::credentials::user_account;
use kindpack::datastore::admin::{Importer, ServiceImporter, ServiceOptions};
use kindpack::datastore::error::DatastoreError;
use kindpack::google::Credentials;
use kindpack::model::{KindRef, Timestamp};
use kindpack::plan::Step;
use kindpack::restore::import::{ImportError, Staging};
use kindpack::store::{GcsClient, GcsOptions, Location, StoreError, StoreRegistry};
use serde_json::json;

use crate::restore::import::fixture::{Earlier, ImportFixture, PATIENCE, Told};
use crate::support::TestDir;
use crate::support::data::{self, Made};
use crate::support::gcs_server::{Call as Gcs, GcsServer, Right};
use crate::support::operations::{Api, Call, Deed, End, Operations};

const BUCKET: &str = "staging";

/// A project of the service, a bucket to stage in, and an archive with two kinds for it.
struct Site {
    bench: ImportFixture,
    gcs: Arc<GcsServer>,
    service: Operations,
    options: ServiceOptions,
    /// None for the default one.
    database: Option<&'static str>,
}

fn options() -> ServiceOptions {
    let (first_pause, longest_pause) = (Duration::from_millis(1), Duration::from_millis(5));
    ServiceOptions {
        starts: 1_000,
        settle_time: Duration::from_millis(50),
        first_pause,
        longest_pause,
        ..ServiceOptions::default()
    }
}

impl Site {
    fn new() -> Self {
        let desk = TestDir::new();
        for (number, kind) in ["Note", "Image"].into_iter().enumerate() {
            let records: Vec<Vec<u8>> = data::made("shop", "", kind, 60, 200)
                .iter()
                .map(Made::record)
                .collect();
            let started = data::STARTED_MICROS + number as i64 * 60_000_000;
            data::write_export(
                &desk.path("exports"),
                &KindRef::new("", kind),
                started,
                &records,
                2,
            );
        }
        desk.pack("exports");
        let gcs = Arc::new(GcsServer::start(&[BUCKET]));
        gcs.put(BUCKET, "restores/of somebody else", "kept");
        let service = Operations::start("shop-test", gcs.clone());
        Site {
            bench: ImportFixture::of_desk(desk, "datastore:shop-test"),
            gcs,
            service,
            options: options(),
            database: None,
        }
    }

    /// The same for a named database.
    fn with_database() -> Self {
        Site {
            database: Some("orders"),
            ..Site::new()
        }
    }

    fn importer(&self) -> Arc<dyn Importer> {
        Arc::new(
            ServiceImporter::new(
                "shop-test",
                self.database,
                &self.service.url(),
                None,
                self.options.clone(),
            )
            .unwrap(),
        )
    }

    fn staging(&self, importer: &Arc<dyn Importer>) -> Staging {
        let options = GcsOptions {
            retry_timeout: Duration::from_millis(200),
            ..GcsOptions::default()
        };
        let stores = StoreRegistry::with(GcsClient::at(&self.gcs.url(), true, options));
        let place: Location = format!("gs://{BUCKET}/restores").parse().unwrap();
        Staging::choose(Some(&place), "unused".as_ref(), importer.as_ref(), &stores).unwrap()
    }

    fn step(&self) -> &Step {
        self.bench.step("Note")
    }

    /// Imports the kind Note.
    fn import(&self) -> Result<(), ImportError> {
        self.import_after(Earlier::default())
    }

    fn import_after(&self, earlier: Earlier) -> Result<(), ImportError> {
        let importer = self.importer();
        let imported =
            self.bench
                .import_after(self.step(), &importer, &self.staging(&importer), earlier)?;
        assert_eq!((imported.entities, imported.left), (60, None));
        Ok(())
    }

    /// Begins the import of the kind Note and is cut.
    fn cut(&self) -> String {
        let importer = self.importer();
        let staging = self.staging(&importer);
        self.bench.block_on(async {
            let started = self
                .bench
                .start(
                    self.step(),
                    &importer,
                    &staging,
                    Earlier::default(),
                    &Told::default(),
                )
                .await
                .unwrap();
            started.operation().unwrap().to_owned()
        })
    }

    /// What is staged.
    fn staged(&self) -> Vec<String> {
        self.gcs
            .names(BUCKET)
            .into_iter()
            .filter(|name| !name.ends_with("of somebody else"))
            .collect()
    }

    /// The kind was imported so often, every planned fault happened, and nothing stays staged.
    #[track_caller]
    fn assert_imported(&self, times: usize, what: &str) {
        let started = self.service.started();
        assert_eq!(started.len(), times, "{what}: {started:?}");
        assert!(
            started.iter().all(|operation| operation.entities == 60),
            "{what}"
        );
        assert_eq!(self.service.unfired(), [], "{what}");
        assert_eq!(self.staged(), [""; 0], "{what}");
        assert_eq!(
            self.gcs.names(BUCKET).len(),
            1,
            "{what}: what is of somebody else stays"
        );
    }
}

#[test]
fn step_is_staged_unchanged_and_removed() {
    let site = Site::new();
    site.service.course(3, End::Succeeds);
    let importer = site.importer();
    let staging = site.staging(&importer);
    let told = Told::default();
    let id = site.step().id;
    site.bench.block_on(async {
        let started = site
            .bench
            .start(site.step(), &importer, &staging, Earlier::default(), &told)
            .await
            .unwrap();
        let operations = site.service.started();
        assert_eq!(started.operation(), Some(operations[0].name.as_str()));

        let plan = site.bench.plan.sha256().to_string()[..16].to_owned();
        let folder = format!("restores/kindpack-{plan}/step-{id}/");
        let name = operations[0]
            .input_url
            .strip_prefix(&format!("gs://{BUCKET}/{folder}"))
            .unwrap();
        let (title, base) = name.split_once('/').unwrap();
        assert_eq!(base, format!("{title}.overall_export_metadata"));
        let labels = [
            ("kindpack_plan", plan),
            ("kindpack_step", id.to_string()),
            ("kindpack_run", "1763805601234567".to_owned()),
        ];
        assert_eq!(
            operations[0].labels,
            labels.map(|(name, value)| (name.to_owned(), value)).into()
        );

        let export = site.bench.desk.path("exports").join(title);
        let files = crate::support::files_below(&export);
        assert_eq!(files.len(), 4);
        let staged: BTreeMap<String, Vec<u8>> = site
            .staged()
            .into_iter()
            .map(|name| (name.clone(), site.gcs.get(BUCKET, &name).unwrap().bytes()))
            .collect();
        let expected: BTreeMap<String, Vec<u8>> = files
            .iter()
            .map(|(name, path)| {
                (
                    format!("{folder}{title}/{name}"),
                    std::fs::read(path).unwrap(),
                )
            })
            .collect();
        assert!(
            staged == expected,
            "{:?} of {:?}",
            staged.keys(),
            expected.keys()
        );

        started.finish(PATIENCE, &told).await.unwrap();
    });
    site.assert_imported(1, "once");
    let told = told.entities.into_inner().unwrap();
    assert!(told.len() > 2, "progress is told: {told:?}");
    assert_eq!(told.iter().sum::<u64>(), 60);
}

#[test]
fn import_with_lost_answer_starts_once() {
    for deed in [
        Deed::LoseAnswer,
        Deed::AnswerStatus(500),
        Deed::AnswerStatus(503),
        Deed::AnswerStatus(504),
        Deed::AnswerNonsense,
    ] {
        let site = Site::new();
        site.service.plan(Call::Import, 0, deed);
        site.import().unwrap();
        assert_eq!(site.service.count(Call::Import), 1, "{deed:?}");
        site.assert_imported(1, &format!("{deed:?}"));
    }
    // The listing may show it late.
    let mut site = Site::new();
    site.options.settle_time = Duration::from_secs(60);
    site.service
        .plan(Call::Import, 0, Deed::LoseAnswerAndHide(4));
    site.import().unwrap();
    site.assert_imported(1, "late");
}

#[test]
fn operation_of_another_restore_is_not_adopted() {
    let mut site = Site::new();
    site.import().unwrap();
    site.bench.run = Timestamp::from_micros(1_763_900_000_000_000).unwrap();
    site.service.plan(Call::Import, 1, Deed::LoseAnswer);
    site.import().unwrap();
    site.assert_imported(2, "two restores");
}

#[test]
fn what_was_certainly_not_started_is_started_again() {
    for deed in [
        Deed::Cut,
        Deed::Status(500),
        Deed::Status(503),
        Deed::Status(429),
        Deed::RetryAfter(429, 0),
        Deed::RetryAfter(503, 0),
    ] {
        let site = Site::new();
        site.service.plan_many(Call::Import, 0..3, deed);
        site.import().unwrap();
        assert_eq!(site.service.count(Call::Import), 4, "{deed:?}");
        site.assert_imported(1, &format!("{deed:?}"));
    }
}

#[test]
fn questions_that_fail_are_asked_again() {
    for deed in [
        Deed::Cut,
        Deed::LoseAnswer,
        Deed::Status(503),
        Deed::RetryAfter(429, 0),
    ] {
        let site = Site::new();
        site.service.course(4, End::Succeeds);
        site.service.plan_many(Call::Get, 1..3, deed);
        site.service.plan(Call::List, 0, deed);
        site.import().unwrap();
        site.assert_imported(1, &format!("{deed:?}"));
    }
}

#[test]
fn failed_operation_is_reported_without_quotes() {
    let words = "The value of property \"mail\" is longer than 1500 bytes: \"ann@example.com\".";
    for (end, told) in [
        (End::Fails(words), "of property \"mail\" is longer"),
        (End::IsCancelled, "cancelled"),
    ] {
        let site = Site::new();
        site.service.course(1, end);
        let error = site.import().unwrap_err();
        assert!(matches!(error, ImportError::Failed { .. }), "{error:?}");
        let error = error.to_string();
        assert!(
            error.contains(told) && error.contains("operations/ASA0") && !error.contains("ann@"),
            "{error}"
        );
        site.assert_imported(1, told);
        // The same call starts it anew: nothing of the failed one goes on.
        site.service.course(1, End::Succeeds);
        let operation = Some(site.service.started()[0].name.clone());
        site.import_after(Earlier {
            begun: true,
            operation,
        })
        .unwrap();
        site.assert_imported(2, told);
    }
}

#[test]
fn cut_run_resumes_without_second_start() {
    for (named, ended) in [(false, false), (true, false), (false, true), (true, true)] {
        let site = Site::new();
        site.service
            .course(if ended { 0 } else { 5 }, End::Succeeds);
        let operation = site.cut();
        assert_eq!(site.staged().len(), 4, "what goes on is still read");
        let earlier = Earlier {
            begun: true,
            operation: named.then_some(operation),
        };
        site.import_after(earlier).unwrap();
        site.assert_imported(1, &format!("{named} {ended}"));
    }
}

#[test]
fn operation_is_found_without_filter() {
    for takes_filters in [true, false] {
        let site = Site::new();
        let importer = site.importer();
        let staging = site.staging(&importer);
        for _ in 0..5 {
            site.bench
                .import(site.bench.step("Image"), &importer, &staging)
                .unwrap();
        }
        if !takes_filters {
            site.service.refuse_filters();
        }
        site.service.course(3, End::Succeeds);
        let operation = site.cut();
        let earlier = Earlier {
            begun: true,
            operation: None,
        };
        site.import_after(earlier).unwrap();
        let started = site.service.started();
        assert_eq!((started.len(), &started[5].name), (6, &operation));
    }
}

#[test]
fn only_running_foreign_operations_count() {
    for (end, times) in [(End::Succeeds, 2), (End::Never, 1)] {
        let mut site = Site::new();
        site.service.course(0, end);
        site.cut();
        site.service.course(0, End::Succeeds);
        if end == End::Succeeds {
            site.import_after(Earlier {
                begun: true,
                operation: None,
            })
            .unwrap();
        }
        site.bench.run = Timestamp::from_micros(1_763_900_000_000_000).unwrap();
        std::thread::scope(|scope| {
            let going_on = scope.spawn(|| {
                site.import_after(Earlier {
                    begun: true,
                    operation: None,
                })
            });
            if end == End::Never {
                // It is requested, as the one that is to be waited for.
                let asked = || site.service.count(Call::Get) > 2;
                while !asked() && !going_on.is_finished() {
                    std::thread::yield_now();
                }
                site.service.end_all();
            }
            going_on.join().unwrap().unwrap();
        });
        site.assert_imported(times, &format!("{end:?}"));
    }
}

#[test]
fn forgotten_operation_is_started_again() {
    for name in [
        "projects/shop-test/operations/gone",
        "projects/another/operations/ASA0-_x",
        "nonsense/../x",
    ] {
        let site = Site::new();
        site.import_after(Earlier {
            begun: true,
            operation: Some(name.to_owned()),
        })
        .unwrap();
        site.assert_imported(1, name);
    }
}

#[test]
fn front_end_404_is_not_believed() {
    let site = Site::new();
    site.service.course(3, End::Succeeds);
    let operation = Some(site.cut());
    let earlier = Earlier {
        begun: true,
        operation,
    };
    for number in [0, 2] {
        site.service.plan(Call::Get, number, Deed::FrontEnd(404));
        let error = site.import_after(earlier.clone()).unwrap_err();
        assert!(
            matches!(
                error,
                ImportError::Datastore(DatastoreError::Refused { .. })
            ),
            "{error:?}"
        );
        assert_eq!(site.staged().len(), 4, "what goes on is still read");
    }
    site.import_after(earlier).unwrap();
    site.assert_imported(1, "after the front end");
}

#[test]
fn admin_token_refused_once_is_renewed() {
    for (wanted, renewed) in [("CANARY-TOKEN-2", true), ("CANARY-TOKEN-9", false)] {
        let site = Site::new();
        site.service.wants_token(wanted);
        let key = json!({
            "type": "authorized_user", "client_id": "CANARY-CLIENT", "client_secret": "CANARY-SECRET", "refresh_token": "CANARY-REFRESH",
            "token_uri": format!("{}/token", site.gcs.url()),
        });
        let credentials = Credentials::with_factory(move || {
            user_account::Builder::new(key.clone())
                .build()
                .map_err(|_| "none")
        });
        let importer = ServiceImporter::new(
            "shop-test",
            None,
            &site.service.url(),
            Some(Arc::new(credentials)),
            options(),
        );
        let importer: Arc<dyn Importer> = Arc::new(importer.unwrap());
        let staging = site.staging(&importer);
        let imported = site.bench.import(site.step(), &importer, &staging);
        assert_eq!(site.gcs.count(Gcs::Token), 2, "{wanted}");
        if renewed {
            imported.unwrap();
            site.assert_imported(1, wanted);
        } else {
            let error = imported.unwrap_err();
            assert!(
                matches!(
                    error,
                    ImportError::Datastore(DatastoreError::Unauthorized { .. })
                ),
                "{error:?}"
            );
            assert!(!format!("{error:?}").contains("CANARY"), "{error:?}");
            assert_eq!(site.service.started().len(), 0);
        }
    }
}

#[test]
fn earlier_staging_is_reused_or_replaced() {
    let site = Site::new();
    site.service
        .plan_many(Call::Import, 0..1_000_000, Deed::Status(503));
    let mut short = site;
    short.options.retry_timeout = Duration::from_millis(50);
    let error = short.import().unwrap_err();
    assert!(
        matches!(
            error,
            ImportError::Datastore(DatastoreError::Service { .. })
        ),
        "{error:?}"
    );
    assert_eq!(short.service.started().len(), 0);
    let staged = short.staged();
    assert_eq!(staged.len(), 4, "after what may pass, it stays");

    let service = Operations::start("shop-test", short.gcs.clone());
    let site = Site {
        service,
        options: options(),
        ..short
    };
    let output = staged
        .iter()
        .find(|name| name.ends_with("output-1"))
        .unwrap();
    let mut damaged = site.gcs.get(BUCKET, output).unwrap().bytes();
    damaged[20] ^= 1;
    site.gcs.put(BUCKET, output, damaged);
    site.gcs.forget();
    site.import_after(Earlier {
        begun: true,
        operation: None,
    })
    .unwrap();
    assert_eq!(
        site.gcs.count(Gcs::Insert),
        1,
        "only what differs goes up again"
    );
    site.assert_imported(1, "staged before");
}

#[test]
fn missing_import_permission_is_named() {
    for permission in [
        "datastore.databases.import",
        "datastore.operations.list",
        "datastore.operations.get",
    ] {
        let site = Site::new();
        site.service.deny(permission);
        let error = site.import().unwrap_err();
        assert!(
            matches!(error, ImportError::Datastore(DatastoreError::Denied { .. })),
            "{error:?}"
        );
        assert!(error.to_string().contains(permission), "{error}");
        assert_eq!(
            site.service.started().len(),
            usize::from(permission.ends_with("get"))
        );
    }
    let site = Site::new();
    site.service.wants_token("some");
    let error = site.import().unwrap_err();
    assert!(
        matches!(
            error,
            ImportError::Datastore(DatastoreError::Unauthorized { .. })
        ),
        "{error:?}"
    );
    assert_eq!(site.service.started().len(), 0);
}

#[test]
fn what_the_service_refuses_leaves_nothing_staged() {
    let site = Site::new();
    site.service.plan(Call::Import, 0, Deed::Status(400));
    let error = site.import().unwrap_err();
    assert!(
        matches!(
            error,
            ImportError::Datastore(DatastoreError::Refused { .. })
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("HTTP 400"), "{error}");
    site.assert_imported(0, "refused");
}

#[test]
fn concurrent_imports_stay_within_limit() {
    let mut site = Site::new();
    site.options.at_once = 1;
    site.service.course(5, End::Succeeds);
    let importer = site.importer();
    let staging = site.staging(&importer);
    site.bench.block_on(async {
        let told = Told::default();
        let run = async |kind: &str| {
            let started = site
                .bench
                .start(
                    site.bench.step(kind),
                    &importer,
                    &staging,
                    Earlier::default(),
                    &told,
                )
                .await
                .unwrap();
            started.finish(PATIENCE, &told).await.unwrap()
        };
        tokio::join!(run("Note"), run("Image"));
    });
    assert_eq!(site.service.most_at_once(), 1);
    site.assert_imported(2, "one after the other");
}

#[test]
fn missing_bucket_rights_stop_the_import() {
    let right = |permission: &'static str| Right {
        permission,
        prefix: "restores/".to_owned(),
    };
    let (get, list, create) = (
        right("storage.objects.get"),
        right("storage.objects.list"),
        right("storage.objects.create"),
    );
    let site = Site::new();
    site.gcs.allow_only(vec![get.clone(), list.clone()]);
    let error = site.import().unwrap_err();
    assert!(
        matches!(error, ImportError::Staging(StoreError::Denied { .. })),
        "{error:?}"
    );
    assert_eq!(site.service.started().len(), 0);

    let site = Site::new();
    site.gcs.allow_only(vec![get, list, create]);
    let importer = site.importer();
    let imported = site
        .bench
        .import(site.step(), &importer, &site.staging(&importer))
        .unwrap();
    assert!(
        imported
            .left
            .is_some_and(|left| left.contains("storage.objects.delete"))
    );
    assert_eq!(site.service.started().len(), 1);
}

#[test]
fn damaged_archive_is_noticed_before_import() {
    let site = Site::new();
    let mut bytes = site.bench.desk.read("set.zip");
    let at = bytes
        .windows(8)
        .rposition(|window| window == b"output-1")
        .unwrap()
        + 40;
    // The name stands in the local header before the data, and in the directory at the end; the
    // data are damaged.
    let local = bytes
        .windows(8)
        .position(|window| window == b"output-1")
        .unwrap()
        + 40;
    assert!(local < at);
    bytes[local] ^= 0x55;
    site.bench.desk.write("set.zip", &bytes);
    let Site {
        bench,
        gcs,
        service,
        options,
        database,
    } = site;
    let site = Site {
        bench: ImportFixture::of_desk(bench.desk, "datastore:shop-test"),
        gcs,
        service,
        options,
        database,
    };
    let importer = site.importer();
    let staging = site.staging(&importer);
    let errors: Vec<ImportError> = site
        .bench
        .plan
        .steps
        .iter()
        .filter_map(|step| site.bench.import(step, &importer, &staging).err())
        .collect();
    assert!(
        matches!(errors.as_slice(), [ImportError::Archive(_)]),
        "{errors:?}"
    );
    site.assert_imported(1, "only the sound one");
}

#[test]
fn named_database_imports_by_firestore_admin() {
    let site = Site::with_database();
    site.import().unwrap();
    let operation = &site.service.started()[0];
    assert_eq!(
        (operation.api, operation.database.as_str()),
        (Api::FirestoreAdmin, "orders")
    );
    assert!(
        operation
            .name
            .starts_with("projects/shop-test/databases/orders/operations/")
    );
    assert!(
        operation.input_url.contains("/run-1763805601234567/"),
        "{}",
        operation.input_url
    );
    site.assert_imported(1, "by Firestore Admin");
}

#[test]
fn named_database_import_is_found_by_its_folder() {
    // A lost answer, and a run that was cut before the journal named the operation.
    let site = Site::with_database();
    site.service.plan(Call::Import, 0, Deed::LoseAnswer);
    site.import().unwrap();
    site.assert_imported(1, "lost answer");
    let site = Site::with_database();
    site.service.course(5, End::Succeeds);
    site.cut();
    let earlier = Earlier {
        begun: true,
        operation: None,
    };
    site.import_after(earlier.clone()).unwrap();
    site.assert_imported(1, "cut");
    // Another restore by the same plan imports anew.
    let mut site = Site::with_database();
    site.import().unwrap();
    site.bench.run = Timestamp::from_micros(1_763_900_000_000_000).unwrap();
    site.import_after(earlier).unwrap();
    site.assert_imported(2, "another restore");
}

#[test]
fn operation_is_not_waited_for_forever() {
    let site = Site::new();
    site.service.course(0, End::Never);
    let importer = site.importer();
    let staging = site.staging(&importer);
    let error = site.bench.block_on(async {
        let told = Told::default();
        let started = site
            .bench
            .start(site.step(), &importer, &staging, Earlier::default(), &told)
            .await
            .unwrap();
        started.finish(Duration::from_millis(30), &told).await
    });
    let error = error.unwrap_err();
    assert!(
        matches!(error, ImportError::OperationTimeout { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("operations/ASA0-_x"), "{error}");
    assert_eq!(site.staged().len(), 4, "what goes on is still read");
    // The same call goes on with it.
    site.service.end_all();
    let operation = Some(site.service.started()[0].name.clone());
    let earlier = Earlier {
        begun: true,
        operation,
    };
    site.import_after(earlier).unwrap();
    site.assert_imported(1, "gone on with");
}
