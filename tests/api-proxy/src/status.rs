//! Refusals, as an API server words them: a `Status` with the reason that clients decide by.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::request::{Asked, Verb};

/// The body of an answer of this code.
pub(crate) fn body(code: u16, retry_after: Option<u32>, asked: &Asked) -> Bytes {
    let resource = asked.resource.split('/').next().unwrap_or_default();
    let mut details = json!({"name": asked.name, "kind": resource});
    if let (Some(seconds), Value::Object(details)) = (retry_after, &mut details) {
        details.insert("retryAfterSeconds".to_owned(), seconds.into());
    }
    status(code, reason(code, asked.verb), &details).to_string().into()
}

/// The line of a watch whose resourceVersion is too old.
pub(crate) fn expired() -> Bytes {
    let event = json!({"type": "ERROR", "object": status(410, "Expired", &json!({}))});
    format!("{event}\n").into()
}

fn status(code: u16, reason: &str, details: &Value) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "this is a fault",
        "reason": reason,
        "details": details,
        "code": code,
    })
}

/// Those of `k8s.io/apimachinery/pkg/api/errors`.
fn reason(code: u16, verb: Verb) -> &'static str {
    match StatusCode::from_u16(code) {
        Ok(StatusCode::BAD_REQUEST) => "BadRequest",
        Ok(StatusCode::UNAUTHORIZED) => "Unauthorized",
        Ok(StatusCode::FORBIDDEN) => "Forbidden",
        Ok(StatusCode::NOT_FOUND) => "NotFound",
        Ok(StatusCode::CONFLICT) if verb == Verb::Create => "AlreadyExists",
        Ok(StatusCode::CONFLICT) => "Conflict",
        Ok(StatusCode::GONE) => "Expired",
        Ok(StatusCode::UNPROCESSABLE_ENTITY) => "Invalid",
        Ok(StatusCode::TOO_MANY_REQUESTS) => "TooManyRequests",
        Ok(StatusCode::SERVICE_UNAVAILABLE) => "ServiceUnavailable",
        Ok(StatusCode::GATEWAY_TIMEOUT) => "Timeout",
        _ => "InternalError",
    }
}
