//! The HTTP/1.1 server under all stand-ins. It has a thread of its own, so that it answers while a
//! test waits for the program, and it can break a connection at any byte.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// The body of an answer. An error in it breaks the connection.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// An answer; an error breaks the connection.
pub type Answer = io::Result<Response<Body>>;

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl HttpServer {
    /// Takes an address; port 0 stands for any free port.
    pub fn bind(address: &str) -> TcpListener {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    /// Answers every request to `listener`.
    pub fn serve<F, A>(listener: TcpListener, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || run(listener, answer, stopped));
        HttpServer {
            address,
            stop: Some(stop),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }
}

fn run<F, A>(listener: TcpListener, answer: F, stopped: tokio::sync::oneshot::Receiver<()>)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let accepting = async {
            loop {
                let Ok((socket, _)) = listener.accept().await else {
                    continue;
                };
                socket.set_nodelay(true).ok();
                let answer = answer.clone();
                tokio::spawn(async move {
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service_fn(answer))
                        .await
                        .ok();
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            _ = stopped => {}
        }
    });
    runtime.shutdown_timeout(Duration::ZERO);
}

/// What breaks a connection without an answer.
pub fn cut() -> io::Error {
    io::Error::other("cut by plan")
}

/// A body that is sent whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Reads a request's body to its end.
pub async fn read_body(body: Incoming) -> io::Result<Bytes> {
    Ok(body.collect().await.map_err(io::Error::other)?.to_bytes())
}

/// An answer with these headers and a body that is sent whole.
pub fn respond(
    status: u16,
    headers: impl IntoIterator<Item = (&'static str, String)>,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(full(body)).unwrap()
}
