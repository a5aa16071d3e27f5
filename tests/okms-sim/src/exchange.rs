//! One request and its answer: faults, who asks, the operation, the way back.
//!
//! The only place where the pure parts (`wire`, `store`, `fault`) meet hyper. Which operation needs which right is said in
//! `wire`; here it is only found out whose rights they are.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::sleep;
use uuid::Uuid;

use crate::body::Body;
use crate::connection::Connection;
use crate::fault::{Canned, Plan, Reset};
use crate::pki::Subject;
use crate::switches::{CertificateRefusal, Switches};
use crate::wire::answer::Answer;
use crate::wire::refusal::{Code, Refusal};
use crate::wire::route::{Call, route};
use crate::wire::{Context, Operation, Payload, answer};
use crate::world::{DomainState, Identity, World, locked};

/// What a request body may have before it is refused unread; the limit of a secret's data is far below.
const MAX_BODY: usize = 8 * 1024 * 1024;

const PAGE_SIZE: HeaderName = HeaderName::from_static("x-pagination-size");
const PAGE_CURSOR: HeaderName = HeaderName::from_static("x-pagination-cursor");
const PAGE_CURSOR_NEXT: HeaderName = HeaderName::from_static("x-pagination-cursor-next");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");

/// The other end of a connection.
pub(crate) struct Peer {
    pub(crate) subject: Option<Subject>,
    pub(crate) connection: Arc<Connection>,
}

pub(crate) async fn exchange(
    world: Arc<World>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let switches = world.switches();
    let request_id = Uuid::new_v4().to_string();
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let routed = route(&head.method, head.uri.path(), query, &switches);
    let plan = arrive(&world, &peer, &head, routed.as_ref().ok());

    if !plan.latency.is_zero() {
        sleep(plan.latency).await;
    }
    if plan.reset == Some(Reset::BeforeEffect) {
        return vanish(&peer).await;
    }
    let mut response = if let Some(canned) = plan.canned {
        canned_response(canned, &request_id)
    } else {
        let answered = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => routed.and_then(|call| {
                let body = body.to_bytes();
                perform(&world, &peer, &head.headers, &call, &body, &plan, &switches, &request_id)
            }),
            Err(_) => {
                Err(Refusal::new(switches.oversize_status, Code::ARGUMENT, "the body is too large or did not arrive"))
            }
        };
        let answer = answered.unwrap_or_else(|refusal| refusal.into_answer(&request_id));
        world.counters().answer(answer.status, answer.has_data);
        response(answer)
    };
    if plan.reset == Some(Reset::AfterEffect) {
        return vanish(&peer).await;
    }
    if switches.request_id_header
        && let Ok(value) = HeaderValue::from_str(&request_id)
    {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if let Some(over) = plan.slow_body {
        response = response.map(|body| body.slowed(over));
    }
    if plan.truncated {
        response = response.map(Body::truncated);
    }
    Ok(response)
}

/// Counts the request and finds what happens to it.
fn arrive(world: &World, peer: &Peer, head: &http::request::Parts, call: Option<&Call>) -> Plan {
    let identity = match (&peer.subject, token(&head.headers)) {
        (_, Some(_)) => "token",
        (Some(subject), None) => subject.serial.as_str(),
        (None, None) => "anonymous",
    };
    let operation = call.map_or(Operation::Unknown, |call| call.operation);
    let path = call.map_or(Some(head.uri.path()), Call::path);
    world.counters().request(operation, path, identity);
    world.faults().take(call.map(|call| call.okms_id), operation, path)
}

/// Resets the connection; the request's own future ends with it.
async fn vanish(peer: &Peer) -> Result<Response<Body>, Infallible> {
    peer.connection.reset();
    pending().await
}

#[allow(clippy::too_many_arguments)] // Each is one part of one request; a struct would name them once more.
fn perform(
    world: &World,
    peer: &Peer,
    headers: &HeaderMap,
    call: &Call,
    body: &[u8],
    plan: &Plan,
    switches: &Switches,
    request_id: &str,
) -> Result<Answer, Refusal> {
    let (domain, identity) = authorized(world, peer, headers, call.okms_id, switches)?;
    let mut store = locked(&domain.store);
    let mut shown = None;
    if call.operation.is_read() {
        if let Some(frozen) = plan.frozen.as_ref().and_then(|all| all.get(&call.okms_id)) {
            shown = Some(frozen.clone());
        }
        if let (Some(back), Some(path)) = (plan.versions_back, call.path()) {
            shown.get_or_insert_with(|| store.clone()).rewind(path, back);
        }
    }
    let mut context = Context {
        okms_id: call.okms_id,
        store: shown.as_mut().unwrap_or(&mut store),
        grants: &identity.grants,
        switches,
        now: world.clock.now(),
        request_id,
    };
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let payload = Payload { body, page_size: text(&PAGE_SIZE), page_cursor: text(&PAGE_CURSOR) };
    answer(&mut context, call, &payload)
}

/// The bearer token, or the one of Vault's header.
fn token(headers: &HeaderMap) -> Option<&str> {
    match headers.get(AUTHORIZATION) {
        Some(value) => Some(bearer(value).unwrap_or_default()),
        None => headers.get(VAULT_TOKEN)?.to_str().ok(),
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The domain in the path and the rights of who asks. A token, where one is sent, decides over the certificate.
fn authorized(
    world: &World,
    peer: &Peer,
    headers: &HeaderMap,
    okms_id: Uuid,
    switches: &Switches,
) -> Result<(Arc<DomainState>, Identity), Refusal> {
    let unauthenticated = |text: &str| Refusal::new(401, Code::AUTHENTICATION, text.to_owned());
    let now = world.clock.now();
    let domain =
        || world.domain(okms_id).ok_or_else(|| Refusal::new(404, Code::DOMAIN_NOT_FOUND, "the domain does not exist"));
    if let Some(token) = token(headers) {
        let (owner, identity) = world
            .token(token)
            .filter(|(_, identity)| !identity.revoked && now < identity.not_after)
            .ok_or_else(|| unauthenticated("the token is not valid"))?;
        let domain = domain()?;
        return if owner == okms_id {
            Ok((domain, identity))
        } else {
            let status = switches.foreign_token_status;
            let text = "the token is of another domain";
            Err(Refusal::new(status, Code::for_status(status), text))
        };
    }
    let subject =
        peer.subject.as_ref().ok_or_else(|| unauthenticated("neither a token nor a client certificate was sent"))?;
    let domain = domain()?;
    let forbidden = |text: &str| Refusal::new(403, Code::IAM_AUTHORIZATION, text.to_owned());
    if subject.okms_id != okms_id {
        return Err(forbidden("the client certificate is of another domain"));
    }
    let identity =
        world.identity(okms_id, &subject.serial).ok_or_else(|| forbidden("the client certificate is unknown"))?;
    // In the other setting the handshake has decided, once for the connection.
    if switches.certificate_refusal == CertificateRefusal::Forbidden {
        let valid = (subject.not_before..=subject.not_after).contains(&now.as_second());
        if identity.revoked || !valid {
            return Err(forbidden("the client certificate is revoked or not valid now"));
        }
    }
    Ok((domain, identity))
}

fn response(answer: Answer) -> Response<Body> {
    let mut response = match answer.body {
        Some(bytes) => with_type("application/json", bytes),
        None => Response::new(Body::empty()),
    };
    *response.status_mut() = status(answer.status);
    if let Some(cursor) = answer.next_cursor
        && let Ok(value) = HeaderValue::from_str(&cursor)
    {
        response.headers_mut().insert(PAGE_CURSOR_NEXT, value);
    }
    response
}

fn with_type(content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(bytes.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn canned_response(canned: Canned, request_id: &str) -> Response<Body> {
    match canned {
        Canned::Status { status, retry_after } => {
            let refusal = Refusal::new(status, Code::for_status(status), "this is a fault");
            let mut response = response(refusal.into_answer(request_id));
            if let Some(value) = retry_after.and_then(|text| HeaderValue::from_str(&text).ok()) {
                response.headers_mut().insert(RETRY_AFTER, value);
            }
            response
        }
        Canned::HtmlBadGateway => {
            let page = "<html><head><title>502 Bad Gateway</title></head>\
                        <body><h1>502 Bad Gateway</h1></body></html>";
            let mut response = with_type("text/html", page);
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
        Canned::DomainNotFound => {
            let refusal = Refusal::new(404, Code::DOMAIN_NOT_FOUND, "the domain does not exist");
            response(refusal.into_answer(request_id))
        }
        Canned::Answer { status: code, headers, body } => {
            let mut response = Response::new(Body::whole(body.into()));
            *response.status_mut() = status(code);
            for (name, value) in headers {
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                    response.headers_mut().append(name, value);
                }
            }
            response
        }
    }
}

/// Statuses come from switches and faults too; what is none becomes a 500.
fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
