//! The stand-in for operations held against Google's own clients of both admin APIs: whatever they
//! expect, it must do.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::fixture::PROJECT;
use crate::support::data::{Made, made};
use crate::support::gcs_server::GcsServer;
use crate::support::operations::{Call, Operations};
use crate::support::python_with;

#[test]
fn googles_admin_clients_find_what_they_expect() {
    let test = "Google's Python clients against the stand-in for operations";
    let packages = "google-cloud-datastore==2.27.0 google-cloud-firestore==2.34.1";
    let modules = "google.cloud.datastore_admin_v1, google.cloud.firestore_admin_v1";
    let Some(python) = python_with(packages, modules, test) else {
        return;
    };
    let service = Operations::start(PROJECT, Arc::new(GcsServer::start(&["exports"])));
    let records = made(PROJECT, "acme", "User", 3, 40);
    let records = records.iter().map(Made::record).collect();
    service.put("", "acme", "User", records);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/admin_client.py");
    let output = Command::new(python)
        .arg(script)
        .env("ADMIN_URL", service.url())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        (service.count(Call::Export), service.count(Call::Import)),
        (3, 3)
    );
}
