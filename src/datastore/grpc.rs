//! The calls over gRPC, which the emulator answers itself: what comes over HTTP it sends to its own
//! gRPC side, through one thread.
//!
//! Knows methods and bodies. Must not know what is in them.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::status::Code;
use crate::google::http::{MAX_RESPONSE_BYTES, no_answer_within};
use crate::progress::{RequestOutcome, RequestReport};

/// `Commit` of the API that is `v1` over HTTP as well.
pub(crate) const COMMIT: &str = "/google.datastore.v1.Datastore/Commit";

/// `Lookup` of the same API. Empty, it shows whether gRPC is spoken at all.
pub(crate) const LOOKUP: &str = "/google.datastore.v1.Datastore/Lookup";

/// A service on this machine answers at once, or does not know the protocol.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call came to nothing.
#[derive(Debug)]
pub(crate) enum GrpcError {
    /// The connection broke, or somebody between gave up.
    Broken(String),
    /// The service does not want it.
    Refused {
        code: Code,
        /// In its own words, which may quote keys and values.
        message: String,
    },
}

/// No connection can be made.
#[derive(Debug)]
pub(crate) struct ConnectError;

/// A service that speaks gRPC.
#[derive(Clone)]
pub(crate) struct GrpcClient {
    channel: Channel,
    /// How long one call may take, answer included.
    call_timeout: Duration,
}

impl fmt::Debug for GrpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").finish_non_exhaustive()
    }
}

impl GrpcClient {
    /// The service at `base`; none where gRPC is not spoken. `lookup` is a request for no keys.
    ///
    /// # Errors
    /// [`ConnectError`]: a service that is about to start may speak it.
    pub(crate) async fn connect(
        base: &str,
        call_timeout: Duration,
        lookup: Bytes,
    ) -> Result<Option<Self>, ConnectError> {
        let Ok(endpoint) = Endpoint::from_shared(base.to_owned()) else {
            return Ok(None);
        };
        let endpoint = endpoint.connect_timeout(PROBE_TIMEOUT);
        let grpc = GrpcClient {
            channel: endpoint.connect().await.map_err(|_| ConnectError)?,
            call_timeout,
        };
        let answer = tokio::time::timeout(PROBE_TIMEOUT, grpc.call(LOOKUP, lookup)).await;
        Ok(answer.is_ok_and(|answer| answer.is_ok()).then_some(grpc))
    }

    /// Makes one call, once. Waiting for the connection, for the answer and for its end have one
    /// limit together: the channel's own limit covers only the beginning of an answer.
    pub(crate) async fn call(&self, method: &'static str, body: Bytes) -> Result<Bytes, GrpcError> {
        let start = Instant::now();
        let unary = tokio::time::timeout(self.call_timeout, self.unary(method, body));
        let answer = unary
            .await
            .unwrap_or_else(|_| Err(GrpcError::Broken(no_answer_within(self.call_timeout))));
        RequestReport {
            method: "gRPC",
            resource: method.rsplit('/').next().unwrap_or(method),
            outcome: if answer.is_ok() {
                RequestOutcome::Done
            } else {
                RequestOutcome::Failed
            },
            duration: start.elapsed(),
        }
        .trace();
        answer
    }

    async fn unary(&self, method: &'static str, body: Bytes) -> Result<Bytes, GrpcError> {
        let mut client = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_RESPONSE_BYTES);
        client
            .ready()
            .await
            .map_err(|error| GrpcError::from_status(&Status::from_error(error.into())))?;
        let answer = client
            .unary(
                Request::new(body),
                PathAndQuery::from_static(method),
                RawCodec,
            )
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| GrpcError::from_status(&status))
    }
}

impl GrpcError {
    fn from_status(status: &Status) -> Self {
        let mut cause = status.source();
        while let Some(inner) = cause.and_then(Error::source) {
            cause = Some(inner);
        }
        let code = Code::from_number(i32::from(status.code()).unsigned_abs().into());
        match cause {
            Some(cause) => GrpcError::Broken(format!("gRPC {:?}: {cause}", status.code())),
            None if code == Code::Other => GrpcError::Broken(format!("gRPC {:?}", status.code())),
            None => GrpcError::Refused {
                code,
                message: status.message().to_owned(),
            },
        }
    }
}

/// Messages that were encoded before, and are decoded later.
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    use super::*;

    /// A service that answers lookups, and begins the answer of a commit where `begins` says so.
    async fn serve(begins: bool) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| async move {
                let is_lookup = request.uri().path() == LOOKUP;
                if !is_lookup && !begins {
                    std::future::pending::<()>().await;
                }
                let mut trailers = hyper::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let frames = [
                    Frame::data(Bytes::from_static(&[0; 5])),
                    Frame::trailers(trailers),
                ];
                let body =
                    futures_util::stream::unfold(frames.into_iter(), move |mut left| async move {
                        if !is_lookup {
                            std::future::pending::<()>().await;
                        }
                        left.next().map(|frame| (Ok::<_, Infallible>(frame), left))
                    });
                Ok::<_, Infallible>(
                    Response::builder()
                        .header("content-type", "application/grpc")
                        .body(StreamBody::new(body))
                        .unwrap(),
                )
            });
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await
                .ok();
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn calls_without_an_answer_end() {
        for begins in [false, true] {
            let limit = Duration::from_millis(200);
            let grpc = GrpcClient::connect(&serve(begins).await, limit, Bytes::new())
                .await
                .unwrap()
                .expect("lookups are answered");
            match grpc.call(COMMIT, Bytes::new()).await {
                Err(GrpcError::Broken(found)) => assert_eq!(found, "no answer within 0.2 s"),
                other => panic!("begins: {begins}: {other:?}"),
            }
        }
    }
}
