//! The wire: requests in, faults where they are planned, answers out.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use hyper::body::Incoming;
use hyper::{Request, Response};

use super::super::http_server::{self, Body, cut};
use super::super::operations;
use super::api::{self, Answer, Asked};
use super::{Call, Deed, Seen, State};

/// The service takes requests of 10 MiB.
const REQUEST_MAX_BYTES: usize = 10 << 20;

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(super) async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let body = http_server::read_body(body).await?;
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let is_message = header("content-type") == "application/x-protobuf";
    let operations = lock(&state).operations.clone();
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let reply = operations.and_then(|operations| {
        operations.answer(head.method.as_str(), path, &header("authorization"), &body)
    });
    if let Some(reply) = reply {
        return operations::respond_to(reply);
    }
    let Some(asked) = Asked::parse(head.method.as_str(), head.uri.path(), is_message, &body) else {
        return Ok(respond(Answer::front_end(404)));
    };
    let (index, deed) = {
        let mut state = lock(&state);
        state.seen.push(Seen {
            call: asked.call,
            at: Instant::now(),
            items: asked.items(),
            database: asked.database().to_owned(),
            authorization: header("authorization"),
            params: header("x-goog-request-params"),
            agent: header("user-agent"),
            is_message,
            bytes: body.len(),
            status: 0,
        });
        let index = state.seen.len() - 1;
        let deed = state.faults.next_if(
            asked.call,
            |deed| !matches!(deed, Deed::Contention(max) if asked.items() <= max),
        );
        if deed == Some(Deed::Status(401)) {
            state.revoked.insert(header("authorization"));
        }
        (index, deed)
    };
    let done = || {
        let mut state = lock(&state);
        if body.len() > REQUEST_MAX_BYTES {
            return asked.refuse(
                400,
                "Request payload size exceeds the limit: 10485760 bytes.",
            );
        }
        api::answer(
            &mut state,
            &asked,
            &header("authorization"),
            &header("x-goog-request-params"),
        )
    };
    let answer = match deed {
        None => done(),
        Some(Deed::Status(status)) => asked.trouble(status, None),
        Some(Deed::RetryAfter(status, seconds)) => asked
            .trouble(status, None)
            .header("retry-after", seconds.to_string()),
        Some(Deed::RetryInfo(status, millis)) => asked.trouble(status, Some(millis)),
        Some(Deed::FrontEnd(status)) => Answer::front_end(status),
        Some(Deed::Contention(_)) => asked.trouble(409, None),
        Some(Deed::Cut) => return Err(cut()),
        Some(Deed::LoseAnswer) => {
            done();
            return Err(cut());
        }
        Some(Deed::Stall(time)) => {
            tokio::time::sleep(time).await;
            return Err(cut());
        }
        Some(Deed::HalfAnswer) => {
            let mut answer = done();
            answer.body.truncate(answer.body.len() / 2);
            answer
        }
    };
    if let Some(seen) = lock(&state).seen.get_mut(index) {
        seen.status = answer.status;
    }
    Ok(respond(answer))
}

fn respond(answer: Answer) -> Response<Body> {
    http_server::respond(answer.status, answer.headers, answer.body)
}

/// [`Call::Token`] and those of the service, by the last word of the address.
pub(super) fn call_of(method: &str) -> Option<Call> {
    Some(match method {
        "commit" => Call::Commit,
        "lookup" => Call::Lookup,
        "runQuery" => Call::RunQuery,
        "runAggregationQuery" => Call::RunAggregationQuery,
        "reserveIds" => Call::ReserveIds,
        "allocateIds" => Call::AllocateIds,
        _ => return None,
    })
}
