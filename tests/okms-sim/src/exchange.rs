//! One request and its answer: faults, who asks, the operation, the way back.
//!
//! The only place where the pure parts (`wire`, `store`, `fault`, `token`) meet hyper. Which operation needs which right is said in
//! `wire`; here it is only found out whose rights they are.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use loopback::Connection;
use tokio::time::sleep;
use uuid::Uuid;

use crate::body::Body;
use crate::fault::{Canned, Plan, Reset};
use crate::pki::Subject;
use crate::switches::{CertificateRefusal, Switches};
use crate::token;
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
    let (head, body) = request.into_parts();
    let exchange = Exchange {
        switches: world.switches(),
        world: &world,
        peer: &peer,
        headers: &head.headers,
        request_id: Uuid::new_v4().to_string(),
    };
    let query = head.uri.query().unwrap_or_default();
    let asked = if head.uri.path() == token::PATH && head.method == Method::POST {
        Asked::Token
    } else {
        Asked::Secrets(route(&head.method, head.uri.path(), query, &exchange.switches))
    };
    let plan = exchange.arrive(head.uri.path(), &asked);
    if !plan.latency.is_zero() {
        sleep(plan.latency).await;
    }
    if plan.reset == Some(Reset::BeforeEffect) {
        return Ok(exchange.vanish());
    }
    let (response, has_data) = if let Some(canned) = &plan.canned {
        (canned_response(canned, &exchange.request_id), false)
    } else {
        let answer = exchange.answer(asked, body, &plan).await;
        let has_data = answer.has_data;
        (response(answer), has_data)
    };
    if plan.reset == Some(Reset::AfterEffect) {
        return Ok(exchange.vanish());
    }
    world.count(|counters| counters.answer(response.status().as_u16(), has_data));
    Ok(exchange.leave(response, &plan))
}

/// What the steps of one exchange share.
struct Exchange<'a> {
    world: &'a World,
    peer: &'a Peer,
    headers: &'a HeaderMap,
    switches: Arc<Switches>,
    request_id: String,
}

/// What is asked for.
enum Asked {
    /// An access token, of the control plane.
    Token,
    /// An operation of the data plane, or what is none.
    Secrets(Result<Call, Refusal>),
}

/// Who asks: a token with its domain, or a certificate that shook hands.
enum Caller<'a> {
    Token(Uuid, Identity),
    Certificate(&'a Subject),
}

impl Exchange<'_> {
    /// Counts the request and finds what happens to it.
    fn arrive(&self, raw_path: &str, asked: &Asked) -> Plan {
        let identity = match (&self.peer.subject, token(self.headers)) {
            (_, Some(token)) => {
                let account = self.world.token(token).and_then(|(_, identity)| identity.account);
                account.unwrap_or_else(|| "token".to_owned())
            }
            (Some(subject), None) => subject.serial.clone(),
            (None, None) => "anonymous".to_owned(),
        };
        let (okms_id, operation, path) = match asked {
            Asked::Token => (None, Operation::PostOAuth2Token, None),
            Asked::Secrets(Ok(call)) => (Some(call.okms_id), call.operation, call.path()),
            Asked::Secrets(Err(_)) => (None, Operation::Unknown, Some(raw_path)),
        };
        self.world.arrived(operation, path, &identity);
        self.world.faults().take(okms_id, operation, path)
    }

    /// Resets the connection. What is returned cannot be sent any more.
    fn vanish(&self) -> Response<Body> {
        self.peer.connection.reset();
        Response::new(Body::empty())
    }

    async fn answer(&self, asked: Asked, body: Incoming, plan: &Plan) -> Answer {
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| {
            let text = "the body is too large or did not arrive";
            Refusal::new(self.switches.oversize_status, Code::ARGUMENT, text)
        });
        let answered = body.and_then(|body| match asked {
            Asked::Token => Ok(token::answer(self.world, &self.switches, &body.to_bytes())),
            Asked::Secrets(call) => self.perform(&call?, &body.to_bytes(), plan),
        });
        answered.unwrap_or_else(|refusal| refusal.into_answer(&self.request_id))
    }

    fn perform(&self, call: &Call, body: &[u8], plan: &Plan) -> Result<Answer, Refusal> {
        let (domain, identity) = self.authorized(call.okms_id)?;
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
            switches: &self.switches,
            now: self.world.clock.now(),
            request_id: &self.request_id,
        };
        let text = |name: &HeaderName| self.headers.get(name).and_then(|value| value.to_str().ok());
        let payload = Payload { body, page_size: text(&PAGE_SIZE), page_cursor: text(&PAGE_CURSOR) };
        answer(&mut context, call, &payload)
    }

    /// The domain in the path and the rights of who asks.
    fn authorized(&self, okms_id: Uuid) -> Result<(Arc<DomainState>, Identity), Refusal> {
        let caller = self.caller()?;
        let domain = self
            .world
            .domain(okms_id)
            .ok_or_else(|| Refusal::new(404, Code::DOMAIN_NOT_FOUND, "the domain does not exist"))?;
        let identity = match caller {
            Caller::Token(owner, identity) if owner == okms_id => identity,
            Caller::Token(..) => return Err(self.foreign_token()),
            Caller::Certificate(subject) => self.certificate(subject, okms_id)?,
        };
        Ok((domain, identity))
    }

    /// Who asks. A token, where one is sent, decides over the certificate.
    fn caller(&self) -> Result<Caller<'_>, Refusal> {
        let unauthenticated = |text: &str| Refusal::new(401, Code::AUTHENTICATION, text.to_owned());
        if let Some(token) = token(self.headers) {
            let now = self.world.clock.now();
            self.world
                .token(token)
                .filter(|(_, identity)| !identity.revoked && now < identity.not_after)
                .map(|(owner, identity)| Caller::Token(owner, identity))
                .ok_or_else(|| unauthenticated("the token is not valid"))
        } else {
            let subject = self.peer.subject.as_ref();
            subject
                .map(Caller::Certificate)
                .ok_or_else(|| unauthenticated("neither a token nor a client certificate was sent"))
        }
    }

    fn foreign_token(&self) -> Refusal {
        let status = self.switches.foreign_token_status;
        let code = match status {
            404 => Code::DOMAIN_NOT_FOUND,
            _ => Code::for_status(status),
        };
        Refusal::new(status, code, "the token is of another domain")
    }

    fn certificate(&self, subject: &Subject, okms_id: Uuid) -> Result<Identity, Refusal> {
        let forbidden = |text: &str| Refusal::new(403, Code::IAM_AUTHORIZATION, text.to_owned());
        let (owner, identity) =
            self.world.certificate(&subject.serial).ok_or_else(|| forbidden("the client certificate is unknown"))?;
        if owner != okms_id && !identity.anywhere {
            return Err(forbidden("the client certificate is of another domain"));
        }
        // In the other setting the handshake has decided, once for the connection.
        if self.switches.certificate_refusal == CertificateRefusal::Forbidden {
            let now = self.world.clock.now().as_second();
            if identity.revoked || !(subject.not_before..=subject.not_after).contains(&now) {
                return Err(forbidden("the client certificate is revoked or not valid now"));
            }
        }
        Ok(identity)
    }

    /// The last touches of switches and faults.
    fn leave(&self, mut response: Response<Body>, plan: &Plan) -> Response<Body> {
        if self.switches.request_id_header
            && let Ok(value) = HeaderValue::from_str(&self.request_id)
        {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        if let Some(date) = self.switches.date_skew_seconds.and_then(date) {
            // A fault may have set one.
            response.headers_mut().entry(DATE).or_insert(date);
        }
        if let Some(over) = plan.slow_body {
            response = response.map(|body| body.slowed(over));
        }
        if plan.truncated {
            response = response.map(Body::truncated);
        }
        response
    }
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

/// The real time, moved by so many seconds.
fn date(skew: i64) -> Option<HeaderValue> {
    let time = Timestamp::now().checked_add(SignedDuration::from_secs(skew)).ok()?;
    let text = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()?;
    HeaderValue::try_from(text).ok()
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

fn canned_response(canned: &Canned, request_id: &str) -> Response<Body> {
    match canned {
        Canned::Status { status, retry_after } => {
            let refusal = Refusal::new(*status, Code::for_status(*status), "this is a fault");
            let mut response = response(refusal.into_answer(request_id));
            if let Some(value) = retry_after.as_ref().and_then(|text| HeaderValue::from_str(text).ok()) {
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
            let mut response = Response::new(Body::whole(body.clone().into()));
            *response.status_mut() = status(*code);
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
