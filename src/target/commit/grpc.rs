//! The calls over gRPC, which the emulator answers itself: what comes over HTTP it sends to its own gRPC side, through one thread.
//!
//! Knows methods and bodies. Must not know what is in them.

use std::error::Error;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::CALL_TIMEOUT;

/// `Commit` of the API that is `v1` over HTTP as well.
pub(super) const COMMIT: &str = "/google.datastore.v1.Datastore/Commit";

/// What is asked to see whether gRPC is spoken at all.
const LOOKUP: &str = "/google.datastore.v1.Datastore/Lookup";

/// A service on this machine answers at once, or does not know the protocol.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// A service that speaks gRPC.
#[derive(Debug, Clone)]
pub(super) struct Grpc {
    channel: Channel,
}

impl Grpc {
    /// The service at `base`; none where gRPC is not spoken. `lookup` is a request for no keys.
    pub(super) async fn connect(base: &str, lookup: Bytes) -> Option<Self> {
        let endpoint = Endpoint::from_shared(base.to_owned()).ok()?.connect_timeout(PROBE_TIMEOUT).timeout(CALL_TIMEOUT);
        let grpc = Grpc { channel: endpoint.connect().await.ok()? };
        let answer = tokio::time::timeout(PROBE_TIMEOUT, grpc.call(LOOKUP, lookup)).await.ok()?;
        answer.ok().map(|_| grpc)
    }

    /// Makes one call, once.
    pub(super) async fn call(&self, method: &'static str, body: Bytes) -> Result<Bytes, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let answer = client.unary(Request::new(body), PathAndQuery::from_static(method), AsItIs).await?;
        Ok(answer.into_inner())
    }
}

/// Whether the same call may succeed later.
pub(super) fn may_pass(status: &Status) -> bool {
    use Code::{Aborted, Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown};
    matches!(status.code(), Aborted | Cancelled | DeadlineExceeded | Internal | ResourceExhausted | Unavailable | Unknown)
}

/// What came instead of an answer. A service's own words may hold values, so only what broke the connection is told besides the code.
pub(super) fn words_of(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(inner) = cause.and_then(Error::source) {
        cause = Some(inner);
    }
    let code = format!("gRPC {:?}", status.code());
    cause.map_or_else(|| code.clone(), |cause| format!("{code}: {cause}"))
}

/// Messages that were encoded before, and are decoded later.
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = AsItIs;
    type Decoder = AsItIs;

    fn encoder(&mut self) -> AsItIs {
        AsItIs
    }

    fn decoder(&mut self) -> AsItIs {
        AsItIs
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
