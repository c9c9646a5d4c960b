//! The calls of a project, each over the protocol that serves it best.
//!
//! Knows what a service speaks; must not know what is written or asked.

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::grpc::{self, Grpc};
use super::http::{Answer, Http};
use super::patience::{patiently, rejected};
use crate::entity::{app_engine, v1};
use crate::target::TargetError;

/// A project of a Datastore service.
#[derive(Debug)]
pub(super) struct Api {
    http: Http,
    /// None where gRPC is not spoken; found out when it is first wanted.
    grpc: OnceCell<Option<Grpc>>,
}

impl Api {
    pub(super) fn new(base: String, project: String) -> Result<Self, TargetError> {
        Ok(Api { http: Http::new(base, project)?, grpc: OnceCell::new() })
    }

    pub(super) fn project(&self) -> &str {
        self.http.project()
    }

    async fn grpc(&self) -> Option<&Grpc> {
        let connect = || Grpc::connect(self.http.base(), v1::lookup_of_nothing(self.project()).into());
        self.grpc.get_or_init(connect).await.as_ref()
    }

    /// Sends a commit. Upserts may be sent twice, so it is tried again whatever became of the first try.
    pub(super) async fn commit(&self, body: Bytes) -> Result<(), TargetError> {
        let Some(grpc) = self.grpc().await else { return self.http.commit(body).await };
        let attempt = || async {
            match grpc.call(grpc::COMMIT, body.clone()).await {
                Err(status) if grpc::may_pass(&status) => Err(grpc::words_of(&status)),
                answer => Ok(answer),
            }
        };
        match patiently(&self.http.call("commit"), attempt).await? {
            Ok(_) => Ok(()),
            Err(status) => Err(rejected(self.http.call("commit"), &format!("gRPC {:?}", status.code()), status.message())),
        }
    }

    /// Sends a JSON call that only reads.
    pub(super) async fn json(&self, method: &str, body: &Value) -> Result<Answer, TargetError> {
        self.http.json(method, body).await
    }

    /// Sends a call of App Engine's interface, once; none where it is not served.
    pub(super) async fn app_engine(&self, body: Vec<u8>) -> Option<Bytes> {
        self.grpc().await?.call(app_engine::CALL, body.into()).await.ok()
    }
}
