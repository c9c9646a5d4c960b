//! The wire: requests in, faults where they are planned, answers out.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};

use super::super::http_server::{self, Body, cut};
use super::api::{self, Answer, Asked};
use super::{Call, Deed, Seen, State};

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A request that is being served, until this is dropped: at its answer, or when its client goes
/// away.
struct Active {
    state: Arc<Mutex<State>>,
    held: bool,
}

impl Active {
    fn new(state: Arc<Mutex<State>>) -> Self {
        lock(&state).active += 1;
        Active { state, held: false }
    }

    async fn wait(&mut self) {
        self.held = true;
        lock(&self.state).held += 1;
        while !lock(&self.state).released {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Never ends by itself: it is dropped with the connection.
    async fn hold(&mut self) -> Result<Response<Body>, io::Error> {
        self.held = true;
        lock(&self.state).held += 1;
        std::future::pending().await
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.active -= 1;
        state.held -= usize::from(self.held);
    }
}

pub(super) async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Body>, io::Error> {
    let mut active = Active::new(state.clone());
    let lock = || lock(&state);
    let (head, mut body) = request.into_parts();
    let mut asked = Asked::new(&head);
    let (index, deed) = {
        let mut state = lock();
        state.seen.push(Seen {
            call: asked.call,
            name: asked.name.clone(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            received: 0,
            status: 0,
            sent: 0,
            agent: asked.header("user-agent").unwrap_or_default().to_owned(),
            has_token: asked.header("authorization").is_some(),
        });
        let index = state.seen.len() - 1;
        (index, state.faults.next(asked.call))
    };
    if deed == Some(Deed::CutBefore) {
        return Err(cut());
    }
    let mut received = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(io::Error::other)?;
        if let Ok(data) = frame.into_data() {
            received.extend_from_slice(&data);
        }
        if let Some(Deed::CutInBody(after)) = deed
            && received.len() as u64 >= after
        {
            return Err(cut());
        }
    }
    {
        let mut state = lock();
        if let Some(seen) = state.seen.get_mut(index) {
            seen.received = received.len() as u64;
        }
    }
    asked.body = received.into();
    let delay = lock().delay;
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
    let answer = match deed {
        Some(Deed::CutInBody(_) | Deed::CutAfterBody) => return Err(cut()),
        Some(Deed::Stall(time)) => {
            tokio::time::sleep(time).await;
            return Err(cut());
        }
        Some(Deed::Status(status)) => Answer::trouble(status),
        Some(Deed::RetryAfter(status, seconds)) => {
            Answer::trouble(status).header("retry-after", seconds)
        }
        Some(Deed::KeepPart(len)) => {
            if matches!(asked.call, Call::Put) {
                asked.keep_only(len);
                api::answer(&mut lock(), &asked);
            }
            return Err(cut());
        }
        Some(Deed::LoseAnswer) => {
            api::answer(&mut lock(), &asked);
            return Err(cut());
        }
        Some(Deed::AnswerLess(len)) => {
            asked.keep_only(len);
            api::answer(&mut lock(), &asked)
        }
        Some(Deed::CorruptByte(_) | Deed::CorruptEnd(_)) => {
            let at = match deed {
                Some(Deed::CorruptByte(at)) => at,
                Some(Deed::CorruptEnd(before)) => (asked.body.len() as u64).saturating_sub(before),
                _ => 0,
            };
            let uploads = matches!(asked.call, Call::Put | Call::Insert);
            if uploads {
                asked.body = corrupt(&[asked.body.clone()], at).concat().into();
            }
            let mut answer = api::answer(&mut lock(), &asked);
            if !uploads {
                answer.body = corrupt(&answer.body, at);
            }
            answer
        }
        Some(Deed::LoseSession(status)) => {
            asked.lose_session(&mut lock());
            Answer::error(status, "planned")
        }
        Some(Deed::Replace) => {
            asked.replace(&mut lock());
            api::answer(&mut lock(), &asked)
        }
        Some(Deed::Vanish) => {
            asked.vanish(&mut lock());
            api::answer(&mut lock(), &asked)
        }
        Some(Deed::Twice) => {
            api::answer(&mut lock(), &asked);
            api::answer(&mut lock(), &asked)
        }
        Some(Deed::MorePages(after)) => api::answer(&mut lock(), &asked).with_more_pages(after),
        Some(Deed::WholeObject) => {
            asked.forget_range();
            api::answer(&mut lock(), &asked)
        }
        Some(Deed::SessionElsewhere) => {
            let mut state = lock();
            let answer = api::answer(&mut state, &asked);
            answer.with_session_at(&state.base, &state.session_base)
        }
        Some(Deed::Wait) => {
            active.wait().await;
            api::answer(&mut lock(), &asked)
        }
        Some(Deed::HoldBefore) => return active.hold().await,
        Some(Deed::HoldAfter) => {
            api::answer(&mut lock(), &asked);
            return active.hold().await;
        }
        Some(Deed::BreakDownload(_) | Deed::StallDownload(..) | Deed::CutBefore) | None => {
            api::answer(&mut lock(), &asked)
        }
    };
    if let Some(seen) = lock().seen.get_mut(index) {
        seen.status = answer.status;
        seen.sent = answer.len();
    }
    Ok(respond(answer, deed, head.method == hyper::Method::HEAD))
}

fn corrupt(pieces: &[Bytes], at: u64) -> Vec<Bytes> {
    let mut bytes = pieces.concat();
    let len = bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at as usize % len) {
        *byte ^= 0x40;
    }
    vec![bytes.into()]
}

fn respond(answer: Answer, deed: Option<Deed>, head_only: bool) -> Response<Body> {
    let len = answer.len();
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    if answer.status != 204 {
        response = response.header("content-length", len);
    }
    let (limit, pause) = match deed {
        Some(Deed::BreakDownload(after)) => (Some(after), Duration::ZERO),
        Some(Deed::StallDownload(after, pause)) => (Some(after), pause),
        _ => (None, Duration::ZERO),
    };
    let body = if head_only {
        http_server::full(Bytes::new())
    } else if let Some(limit) = limit {
        let bytes: Bytes = answer.body.concat().into();
        let part = bytes.slice(..(limit as usize).min(bytes.len().saturating_sub(1)));
        // What comes before the break is to arrive: it is flushed before the connection is dropped.
        let pause = pause.max(Duration::from_millis(20));
        let frames = stream::unfold(0, move |step| {
            let part = part.clone();
            async move {
                match step {
                    0 => Some((Ok(Frame::data(part)), 1)),
                    1 => {
                        tokio::time::sleep(pause).await;
                        Some((Err(cut()), 2))
                    }
                    _ => None,
                }
            }
        });
        StreamBody::new(frames).boxed_unsync()
    } else {
        StreamBody::new(stream::iter(
            answer.body.into_iter().map(|piece| Ok(Frame::data(piece))),
        ))
        .boxed_unsync()
    };
    response.body(body).unwrap()
}
