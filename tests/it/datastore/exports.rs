//! Exports by Google's emulator, and by both admin APIs of the stand-in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_auth::credentials::user_account;
use kindpack::datastore::admin::{
    EmulatorExporter, ExportErrorClass, ExportLabel, ExportRequest, Exporter, OperationState,
    ServiceExporter, ServiceOptions, StartedExport,
};
use kindpack::datastore::kinds::KindReader;
use kindpack::datastore::status::Code;
use kindpack::export::log;
use kindpack::google::Credentials;
use kindpack::model::{Kind, Namespace, Timestamp};
use serde_json::json;

use super::fixture::{PROJECT, credentials, run, server};
use crate::support::data::{Made, made};
use crate::support::emulator::emulator;
use crate::support::gcs_server::{Call as Gcs, GcsServer};
use crate::support::operations::{Api, Call, Deed, End, Operations};
use crate::support::{TestDir, files_below};

const BUCKET: &str = "exports";

/// A project with entities in three places, and a bucket to export into.
struct Site {
    gcs: Arc<GcsServer>,
    service: Operations,
}

fn options() -> ServiceOptions {
    ServiceOptions {
        settle_time: Duration::from_millis(50),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        retry_timeout: Duration::from_secs(20),
        ..ServiceOptions::default()
    }
}

fn request(namespace: &str, kind: &str, folder: &str) -> ExportRequest {
    ExportRequest {
        label: ExportLabel::new("20261122063742", 7),
        namespace: Namespace::new(namespace),
        kind: Kind::new(kind),
        output_prefix: folder.to_owned(),
        snapshot_time: None,
    }
}

/// A request into the bucket.
fn cloud_request(namespace: &str, kind: &str) -> ExportRequest {
    request(namespace, kind, &format!("gs://{BUCKET}/nightly/{kind}"))
}

impl Site {
    fn new() -> Self {
        let gcs = Arc::new(GcsServer::start(&[BUCKET]));
        let service = Operations::start(PROJECT, gcs.clone());
        for (database, namespace, count) in [("", "", 5), ("", "acme", 3), ("orders", "", 2)] {
            let records = made(PROJECT, namespace, "User", count, 40);
            let records = records.iter().map(Made::record).collect();
            service.put(database, namespace, "User", records);
        }
        Site { gcs, service }
    }

    fn by_datastore_admin(&self) -> ServiceExporter {
        ServiceExporter::with_datastore_admin(PROJECT, &self.service.url(), None, options())
            .unwrap()
    }

    fn by_firestore_admin(&self, database: Option<&str>) -> ServiceExporter {
        let url = self.service.url();
        ServiceExporter::with_firestore_admin(PROJECT, database, &url, None, options()).unwrap()
    }

    /// One of each API.
    fn exporters(&self) -> [ServiceExporter; 2] {
        [self.by_datastore_admin(), self.by_firestore_admin(None)]
    }
}

/// Starts an export and waits for its end.
async fn export(exporter: &dyn Exporter, request: &ExportRequest) -> OperationState {
    let StartedExport::Operation(operation) = exporter.start(request).await.unwrap() else {
        panic!("the service exports by operations");
    };
    for _ in 0..10 {
        match exporter.poll(&operation).await.unwrap() {
            OperationState::Running(_) => {}
            state => return state,
        }
    }
    panic!("{operation} does not end");
}

#[test]
fn service_exports_one_kind_of_one_namespace() {
    let site = Site::new();
    let named = site.by_firestore_admin(Some("orders"));
    let [datastore, firestore] = site.exporters();
    let exporters: [(&dyn Exporter, &str, u64); 3] = [
        (&datastore, "acme", 3),
        (&firestore, "acme", 3),
        (&named, "", 2),
    ];
    for (number, (exporter, namespace, entities)) in exporters.into_iter().enumerate() {
        let folder = format!("nightly/{number}/User");
        let request = request(namespace, "User", &format!("gs://{BUCKET}/{folder}"));
        assert_eq!(run(export(exporter, &request)), OperationState::Succeeded);
        let operation = &site.service.started()[number];
        assert_eq!(operation.filter.kinds, ["User"]);
        assert_eq!(operation.filter.namespaces, [namespace]);
        assert_eq!(
            (operation.entities, operation.output_prefix.as_str()),
            (entities, request.output_prefix.as_str())
        );
        let names = site.gcs.names(BUCKET);
        assert!(
            names.contains(&format!("{folder}/User.overall_export_metadata")),
            "{names:?}"
        );
        let output = names
            .iter()
            .find(|name| name.starts_with(&folder) && name.ends_with("output-0"));
        let output = site.gcs.get(BUCKET, output.unwrap()).unwrap().bytes();
        assert_eq!(log::read_all(&output).unwrap().len() as u64, entities);
        let found = run(exporter.find(&request)).unwrap().unwrap();
        assert_eq!(
            (found.name.as_str(), found.state),
            (operation.name.as_str(), OperationState::Succeeded)
        );
    }
    let labels = &site.service.started()[0].labels;
    assert_eq!(labels["kindpack_backup"], "20261122063742");
    assert_eq!(labels["kindpack_export"], "7");
    assert_eq!(site.service.started()[2].database, "orders");
}

#[test]
fn operation_is_found_by_label_and_prefix() {
    let site = Site::new();
    for exporter in site.exporters() {
        let mut first = cloud_request("", "User");
        run(exporter.start(&first)).unwrap();
        // Another attempt and another export of the same backup are others.
        first.output_prefix += "~2";
        assert_eq!(run(exporter.find(&first)).unwrap(), None);
        run(exporter.start(&first)).unwrap();
        let found = run(exporter.find(&first)).unwrap().unwrap();
        assert_eq!(
            Some(found.name),
            site.service.started().last().map(|last| last.name.clone())
        );
        assert!(matches!(found.state, OperationState::Running(_)));
    }
    let mut other = cloud_request("", "User");
    other.label = ExportLabel::new("20261122063742", 8);
    let [datastore, _] = site.exporters();
    assert_eq!(run(datastore.find(&other)).unwrap(), None);
    site.service.refuse_filters();
    assert!(
        run(datastore.find(&cloud_request("", "User")))
            .unwrap()
            .is_some()
    );
}

#[test]
fn lost_answer_leaves_an_operation_to_find() {
    for deed in [
        Deed::LoseAnswer,
        Deed::AnswerStatus(503),
        Deed::AnswerNonsense,
        Deed::LoseAnswerAndHide(3),
    ] {
        for number in 0..2 {
            let site = Site::new();
            site.service.plan(Call::Export, 0, deed);
            let exporter = &site.exporters()[number];
            let request = cloud_request("", "User");
            let error = run(exporter.start(&request)).unwrap_err();
            assert!(
                matches!(error.class, ExportErrorClass::MaybeStarted { .. }),
                "{error:?}"
            );
            let found = run(exporter.find_after_start(&request)).unwrap();
            assert_eq!(
                found.map(|found| found.name),
                Some(site.service.started()[0].name.clone()),
                "{deed:?}"
            );
            assert_eq!(
                site.service.count(Call::Export),
                1,
                "a start is one attempt"
            );
        }
    }
}

#[test]
fn refusals_decide_about_another_attempt() {
    let transient = |seconds: Option<u64>| ExportErrorClass::Transient {
        retry_after: seconds.map(Duration::from_secs),
    };
    let unsure = ExportErrorClass::MaybeStarted { retry_after: None };
    let permanent = ExportErrorClass::Permanent;
    for (deed, class, code, advised) in [
        (
            Deed::RetryAfter(429, 9),
            transient(Some(9)),
            Code::ResourceExhausted,
            "",
        ),
        (
            Deed::Refuse(
                409,
                "The transaction could not be committed. Please try again.",
            ),
            transient(None),
            Code::Aborted,
            "",
        ),
        (Deed::Status(503), unsure, Code::Unavailable, ""),
        (Deed::Status(504), unsure, Code::DeadlineExceeded, ""),
        (
            Deed::Refuse(500, "ApplicationError: 105"),
            unsure,
            Code::Internal,
            "",
        ),
        (
            Deed::Refuse(400, "ApplicationError: 6"),
            unsure,
            Code::InvalidArgument,
            "",
        ),
        (
            Deed::Refuse(
                403,
                "This API method requires billing to be enabled. Please enable billing on project #shop",
            ),
            permanent,
            Code::PermissionDenied,
            "Enable billing",
        ),
        (
            Deed::Refuse(
                403,
                "service-1@gcp-sa-firestore.iam.gserviceaccount.com does not have storage.buckets.get access to the Google Cloud Storage bucket.",
            ),
            permanent,
            Code::PermissionDenied,
            "Grant the role Storage Admin",
        ),
        (
            Deed::Refuse(403, "Missing or insufficient permissions."),
            permanent,
            Code::PermissionDenied,
            "roles/datastore.importExportAdmin",
        ),
        (
            Deed::Refuse(
                400,
                "Bucket b is in location us. This database can only operate on buckets spanning location asia.",
            ),
            permanent,
            Code::InvalidArgument,
            "Use a bucket in the location",
        ),
        (
            Deed::Refuse(404, "The database orders does not exist for project shop"),
            permanent,
            Code::NotFound,
            "Correct the project",
        ),
        (Deed::FrontEnd(404), permanent, Code::Unimplemented, ""),
    ] {
        let site = Site::new();
        site.service.plan(Call::Export, 0, deed);
        let error = run(site.by_datastore_admin().start(&cloud_request("", "User"))).unwrap_err();
        assert_eq!(
            (error.class, error.code),
            (class, code),
            "{deed:?}: {error:?}"
        );
        let advice = error.advice.clone().unwrap_or_default();
        assert_eq!(advice.is_empty(), advised.is_empty(), "{deed:?}: {advice}");
        assert!(advice.contains(advised), "{deed:?}: {advice}");
        assert!(
            error
                .to_string()
                .starts_with("export of project shop-test at "),
            "{error}"
        );
        assert_eq!(
            site.service.count(Call::Export),
            1,
            "a start is one attempt"
        );
    }
}

#[test]
fn failed_operation_has_code_and_advice() {
    let site = Site::new();
    for (end, code, is_transient) in [
        (
            End::FailsAs(14, "The service is temporarily unavailable."),
            Code::Unavailable,
            true,
        ),
        (
            End::FailsAs(
                7,
                "service-1@gcp-sa-firestore.iam.gserviceaccount.com does not have storage.objects.create access",
            ),
            Code::PermissionDenied,
            false,
        ),
        (End::IsCancelled, Code::Other, false),
    ] {
        site.service.course(1, end);
        for exporter in site.exporters() {
            let state = run(export(&exporter, &cloud_request("", "User")));
            let OperationState::Failed(failure) = state else {
                panic!("{state:?}");
            };
            assert_eq!(
                (failure.code, failure.is_transient),
                (code, is_transient),
                "{failure:?}"
            );
            assert_eq!(
                failure.advice.is_some(),
                code == Code::PermissionDenied,
                "{failure:?}"
            );
        }
    }
    let names = site.gcs.names(BUCKET);
    assert!(
        !names
            .iter()
            .any(|name| name.ends_with(".overall_export_metadata")),
        "{names:?}"
    );
}

#[test]
fn snapshot_time_is_for_firestore_admin_only() {
    let site = Site::new();
    let [datastore, firestore] = site.exporters();
    assert!(firestore.supports_snapshot() && !datastore.supports_snapshot());
    let mut request = cloud_request("", "User");
    request.snapshot_time = Timestamp::from_micros(1_763_805_600_000_000);
    run(firestore.start(&request)).unwrap();
    let started = site.service.started();
    assert_eq!(
        started[0].filter.snapshot_time.as_deref(),
        Some("2025-11-22T10:00:00Z")
    );
    assert_eq!(started[0].api, Api::FirestoreAdmin);
    let error = run(datastore.start(&request)).unwrap_err();
    assert_eq!(error.class, ExportErrorClass::Permanent);
    assert_eq!(
        site.service.started().len(),
        1,
        "nothing is sent without it"
    );
    request.snapshot_time = Timestamp::from_micros(1_763_805_601_000_000);
    let error = run(firestore.start(&request)).unwrap_err();
    assert!(
        error
            .advice
            .is_some_and(|advice| advice.contains("point-in-time recovery"))
    );
}

#[test]
fn one_address_serves_queries_and_exports() {
    let server = server();
    let gcs = Arc::new(GcsServer::start(&[BUCKET]));
    let operations = Arc::new(Operations::new(PROJECT, gcs.clone()));
    let entities = made(PROJECT, "acme", "User", 4, 8);
    entities
        .iter()
        .for_each(|entity| server.put("", &entity.json()));
    let records = entities.iter().map(Made::record).collect();
    operations.put("", "acme", "User", records);
    server.serve_operations(operations.clone());
    let (credentials, url) = (credentials(&server), server.url());
    let time = Duration::from_secs(20);
    run(async {
        let reader =
            KindReader::with_service(PROJECT, None, &url, credentials.clone(), time, time).unwrap();
        let namespaces = reader.namespaces().await.unwrap();
        assert_eq!(namespaces, [Namespace::new("acme")]);
        let kinds = reader.kinds(&namespaces[0]).await.unwrap();
        let exporter =
            ServiceExporter::with_datastore_admin(PROJECT, &url, Some(credentials), options())
                .unwrap();
        let request = cloud_request("acme", kinds[0].as_str());
        let state = export(&exporter, &request).await;
        assert_eq!(state, OperationState::Succeeded);
    });
    assert_eq!(operations.started()[0].entities, 4);
}

#[test]
fn running_operations_are_limited_by_the_service() {
    let site = Site::new();
    site.service.limit_running(2);
    let exporter = site.by_datastore_admin();
    for kind in ["A", "B"] {
        run(exporter.start(&cloud_request("", kind))).unwrap();
    }
    let error = run(exporter.start(&cloud_request("", "C"))).unwrap_err();
    assert_eq!(
        error.class,
        ExportErrorClass::Transient { retry_after: None }
    );
    assert_eq!(error.code, Code::ResourceExhausted);
    let started = site.service.started();
    assert!(started[0].started_at <= started[1].started_at);
}

#[test]
fn token_that_is_not_accepted_is_renewed_once() {
    for (wanted, is_renewed) in [("CANARY-TOKEN-2", true), ("CANARY-TOKEN-9", false)] {
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
        let credentials = Some(Arc::new(credentials));
        let url = site.service.url();
        let exporter = ServiceExporter::with_datastore_admin(PROJECT, &url, credentials, options());
        let started = run(exporter.unwrap().start(&cloud_request("", "User")));
        assert_eq!(site.gcs.count(Gcs::Token), 2, "{wanted}");
        assert_eq!(started.is_ok(), is_renewed, "{started:?}");
        if let Err(error) = started {
            assert_eq!(
                (error.class, error.code),
                (ExportErrorClass::Permanent, Code::Unauthenticated)
            );
            assert!(!format!("{error:?}").contains("CANARY"), "{error:?}");
        }
    }
}

#[test]
fn emulator_exports_odd_kinds_but_no_slash() {
    let Some(emulator) = emulator("exports of the emulator") else {
        return;
    };
    let project = emulator.fresh_project();
    let exporter = EmulatorExporter::new(&emulator.host, &project).unwrap();
    let kinds = ["My Kind", "a:b", "50%", "顧客", "with/slash"];
    for kind in kinds {
        let key = json!({"partitionId": {"projectId": project, "namespaceId": "acme"}, "path": [{"kind": kind, "name": "a"}]});
        let mutations = json!([{"upsert": {"key": key, "properties": {}}}]);
        emulator.call(
            &project,
            "commit",
            &json!({"mode": "NON_TRANSACTIONAL", "mutations": mutations}),
        );
    }
    let desk = TestDir::new();
    for (number, kind) in kinds.into_iter().enumerate() {
        let folder = desk.path(&format!("exports/{number}"));
        let request = request("acme", kind, folder.to_str().unwrap());
        let started = run(exporter.start(&request));
        if kind.contains('/') {
            let error = started.unwrap_err();
            assert_eq!(error.class, ExportErrorClass::Permanent, "{error:?}");
            assert!(
                error
                    .advice
                    .is_some_and(|advice| advice.contains("--exclude"))
            );
            continue;
        }
        assert_eq!(started.unwrap(), StartedExport::Done);
        assert_eq!(entities_below(&folder), 1, "{kind}");
        let error = run(exporter.start(&request)).unwrap_err();
        assert_eq!(
            error.class,
            ExportErrorClass::Permanent,
            "the folder is there already"
        );
        assert!(
            error
                .advice
                .is_some_and(|advice| advice.contains("another place"))
        );
    }
}

/// Records of the outputs of an export.
fn entities_below(folder: &Path) -> usize {
    let outputs = files_below(folder);
    let outputs = outputs.iter().filter(|(name, _)| name.contains("output-"));
    outputs
        .map(|(_, path)| log::read_all(&std::fs::read(path).unwrap()).unwrap().len())
        .sum()
}
