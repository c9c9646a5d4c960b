//! An exporter, and the list of kinds, at whose calls faults are planned.

use std::sync::Arc;

use async_trait::async_trait;
use kindpack::backup::KindSource;
use kindpack::datastore::admin::{
    ExportError, ExportErrorClass, ExportRequest, Exporter, FoundOperation, OperationState,
    StartedExport,
};
use kindpack::datastore::error::DatastoreError;
use kindpack::datastore::kinds::KindStatistics;
use kindpack::datastore::status::Code;
use kindpack::google::retry::Backoff;
use kindpack::model::{Kind, Namespace};

use super::{Broken, Call, Faults, Spot};

/// How plans name both.
const PLACE: &str = "datastore";

fn spot(call: Call) -> Spot {
    Spot { place: PLACE, call }
}

fn datastore_error(broken: Broken) -> DatastoreError {
    let call = PLACE.to_owned();
    match broken {
        Broken::IsDenied => DatastoreError::Denied {
            call,
            found: "planned".to_owned(),
        },
        Broken::Fails | Broken::IsFull => DatastoreError::Service {
            call,
            tries: 3,
            seconds: 1,
            found: "planned".to_owned(),
            is_emulator: false,
        },
    }
}

/// What comes of a start that goes wrong. A lost one may have been done.
fn start_error(broken: Broken) -> ExportError {
    let retry_after = None;
    let (class, code) = match broken {
        Broken::Fails => (
            ExportErrorClass::MaybeStarted { retry_after },
            Code::DeadlineExceeded,
        ),
        Broken::IsFull => (
            ExportErrorClass::Transient { retry_after },
            Code::ResourceExhausted,
        ),
        Broken::IsDenied => (ExportErrorClass::Permanent, Code::PermissionDenied),
    };
    ExportError {
        call: "export".to_owned(),
        class,
        code,
        message: code.to_string(),
        advice: None,
    }
}

/// An exporter behind planned faults.
#[derive(Debug)]
pub struct FaultExporter {
    pub inner: Arc<dyn Exporter>,
    pub faults: Faults,
}

#[async_trait]
impl Exporter for FaultExporter {
    fn supports_snapshot(&self) -> bool {
        self.inner.supports_snapshot()
    }

    fn has_quota(&self) -> bool {
        self.inner.has_quota()
    }

    async fn start(&self, request: &ExportRequest) -> Result<StartedExport, ExportError> {
        let started = self.inner.start(request);
        let spot = spot(Call::Start);
        self.faults.call(spot, start_error, started).await
    }

    async fn find(
        &self,
        request: &ExportRequest,
    ) -> Result<Option<FoundOperation>, DatastoreError> {
        let found = self.inner.find(request);
        let spot = spot(Call::Find);
        self.faults.call(spot, datastore_error, found).await
    }

    async fn find_after_start(
        &self,
        request: &ExportRequest,
    ) -> Result<Option<FoundOperation>, DatastoreError> {
        let found = self.inner.find_after_start(request);
        let spot = spot(Call::Find);
        self.faults.call(spot, datastore_error, found).await
    }

    async fn poll(&self, operation: &str) -> Result<OperationState, DatastoreError> {
        let polled = self.inner.poll(operation);
        let spot = spot(Call::Poll);
        self.faults.call(spot, datastore_error, polled).await
    }

    fn poll_delays(&self) -> Backoff {
        self.inner.poll_delays()
    }
}

/// A list of kinds behind planned faults.
pub struct FaultKinds<K> {
    pub inner: K,
    pub faults: Faults,
}

#[async_trait]
impl<K: KindSource> KindSource for FaultKinds<K> {
    async fn namespaces(&self) -> Result<Vec<Namespace>, DatastoreError> {
        let namespaces = self.inner.namespaces();
        let spot = spot(Call::Kinds);
        self.faults.call(spot, datastore_error, namespaces).await
    }

    async fn kinds(&self, namespace: &Namespace) -> Result<Vec<Kind>, DatastoreError> {
        let kinds = self.inner.kinds(namespace);
        let spot = spot(Call::Kinds);
        self.faults.call(spot, datastore_error, kinds).await
    }

    async fn statistics(
        &self,
        namespace: &Namespace,
        is_only: bool,
    ) -> Result<Vec<KindStatistics>, DatastoreError> {
        self.inner.statistics(namespace, is_only).await
    }
}
