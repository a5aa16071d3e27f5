//! One request and its answer: written down, faults, the way to the API server and back.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, TE, TRANSFER_ENCODING,
    UPGRADE, USER_AGENT,
};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use loopback::Connection;

use crate::fault::Instead;
use crate::log::RecordId;
use crate::proxy::{State, locked};
use crate::request::{Asked, Verb};
use crate::status;
use crate::watch::{BoxError, Events};

/// An API server takes 3 MiB.
const MAX_BODY: usize = 8 * 1024 * 1024;

pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) async fn exchange(
    state: Arc<State>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let agent = head.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default().to_owned();
    let mut asked = Asked::parse(&head.method, head.uri.path(), head.uri.query().unwrap_or_default());
    let vanish = || {
        connection.reset();
        // It cannot be sent any more.
        Response::new(whole(Bytes::new()))
    };
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else { return Ok(vanish()) };
    let body = body.to_bytes();
    if asked.verb == Verb::Create {
        asked.name_from(&body);
    }
    let now = Instant::now();
    let plan = locked(&state.faults).take(&asked, &agent, now);
    let id = locked(&state.log).arrived(asked.clone(), agent.clone(), &plan, now);
    state.logged.notify_waiters();

    match plan.instead {
        Some(Instead::Hang) => pending().await,
        Some(Instead::ResetBeforeEffect) => {
            tokio::time::sleep(plan.delay).await;
            return Ok(vanish());
        }
        Some(Instead::Status { code, retry_after }) => {
            tokio::time::sleep(plan.delay).await;
            let response = refusal(code, retry_after, &asked);
            state.answered(id, response.status());
            return Ok(response);
        }
        Some(Instead::ResetAfterEffect) | None => {}
    }
    let request = Request::from_parts(head, kube::client::Body::from(body));
    let forwarded = forward(Arc::clone(&state), id, request, plan.delay);
    let response = if asked.verb == Verb::Watch {
        forwarded.await
    } else {
        // A task of its own: what was sent arrives, whether or not its sender waits for the answer.
        tokio::spawn(forwarded).await.unwrap_or_else(|_| Err("forwarding panicked".into()))
    };
    let response = match response {
        Ok(response) if plan.instead.is_none() => response,
        Ok(_) => return Ok(vanish()),
        Err(error) => {
            tracing::debug!(error, "the API server cannot be reached");
            return Ok(vanish());
        }
    };
    state.answered(id, response.status());
    if asked.verb == Verb::Watch && response.status().is_success() {
        let registered = state.watches.register(asked, agent);
        return Ok(response.map(|inner| Events::new(inner, connection, registered, plan.end).boxed_unsync()));
    }
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// Sends a request on to the API server, after a pause.
async fn forward(
    state: Arc<State>,
    id: RecordId,
    request: Request<kube::client::Body>,
    delay: Duration,
) -> Result<Response<kube::client::Body>, BoxError> {
    tokio::time::sleep(delay).await;
    let (head, body) = request.into_parts();
    let mut forwarded =
        Request::builder().method(head.method).uri(head.uri.path_and_query().map_or("/", |it| it.as_str()));
    for (name, value) in &head.headers {
        // Those of the connection are hyper's own business.
        if ![CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE].contains(name) {
            forwarded = forwarded.header(name, value);
        }
    }
    let client = if head.headers.contains_key(AUTHORIZATION) { &state.for_tokens } else { &state.for_others };
    let mut response = client.send(forwarded.body(body)?).await?;
    for name in [CONNECTION, TRANSFER_ENCODING] {
        response.headers_mut().remove(name);
    }
    state.change(id, |record| record.upstream = Some(response.status().as_u16()));
    Ok(response)
}

fn refusal(code: u16, retry_after: Option<u32>, asked: &Asked) -> Response<Body> {
    let mut response = Response::new(whole(status::body(code, retry_after, asked)));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
