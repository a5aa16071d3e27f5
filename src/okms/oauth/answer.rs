//! What a token endpoint answers (RFC 6749, 5.1 and 5.2), by its status, its headers and its body: the part that does no I/O.
//!
//! Nothing of a body but the token goes anywhere: of a refusal only the code is looked at, and only known ones are told.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::okms::{
    Error, answer, credential,
    error::{Failure, Reason, Server, TokenProblem},
    json_text,
};

/// The largest answer that is read, in bytes. A token has one or two kilobytes.
pub(super) const LIMIT: usize = 64 * 1024;

/// How long a token is taken to live that does not say so: short, since OVHcloud's live an hour.
const UNSAID: Duration = Duration::from_mins(10);

/// The longest life that is believed.
const LONGEST: Duration = Duration::from_hours(24);

/// A token as it came.
pub(super) struct Fresh {
    /// `Bearer …`
    pub(super) header: HeaderValue,
    /// From when it was asked for.
    pub(super) life: Duration,
}

/// An answer of whatever status.
pub(super) struct TokenAnswer {
    status: u16,
    json: bool,
    retry_after: Option<Duration>,
}

impl TokenAnswer {
    /// An answer that came at `now`.
    pub(super) fn new(status: u16, headers: &HeaderMap, now: Timestamp) -> Self {
        Self { status, json: answer::is_json(headers), retry_after: answer::retry_after(headers, now) }
    }

    /// Whether the body says more than the status does.
    pub(super) fn wants_body(&self) -> bool {
        matches!(self.status, 200 | 400 | 401 | 403)
    }

    /// The token, if it is one.
    pub(super) fn token(&self, body: &[u8]) -> Result<Fresh, Error> {
        let reason = match self.status {
            200 if !self.json => Reason::Of(Server::TokenEndpoint, Failure::NotJson),
            200 => match parse(body) {
                Ok(fresh) => return Ok(fresh),
                Err(problem) => Reason::Token(problem),
            },
            400 | 401 | 403 if self.json && object(body).is_some() => {
                let code = object(body).and_then(|body| body.error).and_then(json_text::ascii).unwrap_or_default();
                let code = std::str::from_utf8(&code).unwrap_or_default();
                Reason::Token(TokenProblem::of_code(code, self.status))
            }
            status => Reason::Of(Server::TokenEndpoint, Failure::of_status(status)),
        };
        Err(Error::new(reason).with_status(self.status).with_retry_after(self.retry_after))
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    access_token: Option<&'a RawValue>,
    #[serde(borrow)]
    token_type: Option<&'a RawValue>,
    #[serde(borrow)]
    expires_in: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// A JSON object. `serde` alone would also take an array for a struct.
fn object(body: &[u8]) -> Option<Body<'_>> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let Body { access_token, token_type, expires_in, error } = serde_json::from_slice(body).ok()?;
    let said = |field: Option<&'_ RawValue>| field.is_some_and(|field| field.get() != "null");
    Some(Body {
        access_token: access_token.filter(|field| said(Some(field))),
        token_type: token_type.filter(|field| said(Some(field))),
        expires_in: expires_in.filter(|field| said(Some(field))),
        error: error.filter(|field| said(Some(field))),
    })
}

fn parse(body: &[u8]) -> Result<Fresh, TokenProblem> {
    let Body { access_token, token_type, expires_in, error } = object(body).ok_or(TokenProblem::NotAsDescribed)?;
    let Some(token) = access_token else {
        let code = error.and_then(json_text::ascii);
        return Err(code.map_or(TokenProblem::Missing, |code| {
            TokenProblem::of_code(std::str::from_utf8(&code).unwrap_or_default(), 200)
        }));
    };
    let token = json_text::ascii(token).ok_or(TokenProblem::Characters)?;
    if token.is_empty() {
        return Err(TokenProblem::Missing);
    }
    let header = credential::bearer(&token).ok_or(TokenProblem::Characters)?;
    let is_bearer = |kind| json_text::ascii(kind).is_some_and(|kind| kind.eq_ignore_ascii_case(b"Bearer"));
    if !token_type.is_none_or(is_bearer) {
        return Err(TokenProblem::OtherType);
    }
    Ok(Fresh { header, life: expires_in.map_or(Ok(UNSAID), life)? })
}

/// Seconds; some servers write them as a text.
fn life(expires_in: &RawValue) -> Result<Duration, TokenProblem> {
    let seconds: f64 = expires_in.get().trim_matches('"').parse().map_err(|_| TokenProblem::NotAsDescribed)?;
    if seconds.is_nan() {
        return Err(TokenProblem::NotAsDescribed);
    }
    if seconds <= 0.0 {
        return Err(TokenProblem::Expired);
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};

    use super::*;
    use crate::okms::ErrorKind;

    const CANARY: &str = "canary-7f3a";

    fn answer(status: u16, content_type: &str, body: &str) -> Result<Fresh, Error> {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap())]);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        TokenAnswer::new(status, &headers, Timestamp::UNIX_EPOCH).token(body.as_bytes())
    }

    fn ok(body: &str) -> Fresh {
        answer(200, "application/json;charset=UTF-8", body).unwrap_or_else(|error| panic!("{body}: {error}"))
    }

    #[test]
    fn a_token_is_read_with_its_life() {
        for (body, seconds) in [
            (r#"{"access_token":"t","token_type":"Bearer","expires_in":3599,"scope":"all"}"#, 3599),
            (r#"{"access_token":"t","token_type":"bearer","expires_in":"3599"}"#, 3599),
            (r#"{"access_token":"t","expires_in":1e9}"#, 24 * 3600),
            (r#"{"access_token":"t","expires_in":99999999999999999999999999}"#, 24 * 3600),
            (r#"{"access_token":"t","expires_in":null}"#, 600),
            (r#"{"access_token":"t"}"#, 600),
        ] {
            let fresh = ok(body);
            assert_eq!((fresh.header.as_bytes(), fresh.life.as_secs()), (&b"Bearer t"[..], seconds), "{body}");
            assert!(fresh.header.is_sensitive());
        }
    }

    #[test]
    fn everything_else_has_its_own_sentence_and_shows_nothing() {
        let json = "application/json";
        let coded =
            |code: &str| format!(r#"{{"error":"{code}","error_description":"{CANARY}","error_uri":"{CANARY}"}}"#);
        let token = |token: &str, rest: &str| format!(r#"{{"access_token":"{token}","scope":"{CANARY}"{rest}}}"#);
        let page = format!("<html>{CANARY}</html>");
        let mut sentences = std::collections::BTreeSet::new();
        for (status, kind, body, part, expected) in [
            (200, "text/html", page.clone(), "not answer in JSON", ErrorKind::Unexpected),
            (200, json, page.clone(), "something else than a token", ErrorKind::Unexpected),
            (200, json, format!(r#"{{"x":"{CANARY}"}}"#), "without an access_token", ErrorKind::Unexpected),
            (200, json, token(&format!("{CANARY} x"), ""), "characters", ErrorKind::Unexpected),
            (200, json, token(CANARY, r#","token_type":"mac""#), "Bearer", ErrorKind::Unexpected),
            (200, json, token(CANARY, r#","expires_in":0"#), "expired already", ErrorKind::Unexpected),
            (400, json, coded("invalid_request"), "invalid_request", ErrorKind::Unexpected),
            (401, json, coded("invalid_client"), "invalid_client", ErrorKind::Refused),
            (400, json, coded("invalid_grant"), "invalid_grant", ErrorKind::Refused),
            (400, json, coded("unauthorized_client"), "unauthorized_client", ErrorKind::Refused),
            (400, json, coded("unsupported_grant_type"), "unsupported_grant_type", ErrorKind::Unexpected),
            (400, json, coded("invalid_scope"), "invalid_scope", ErrorKind::Refused),
            (400, json, coded("temporarily_unavailable"), "cannot answer now", ErrorKind::Unavailable),
            (400, json, coded(CANARY), "does not know", ErrorKind::Refused),
            (400, "text/html", page.clone(), "status 400", ErrorKind::Unexpected),
            (404, json, page.clone(), "status 404", ErrorKind::Unexpected),
            (302, "text/html", String::new(), "redirects", ErrorKind::Unexpected),
            (429, json, String::new(), "slow down", ErrorKind::RateLimited),
            (502, "text/html", page, "status 502", ErrorKind::Unavailable),
        ] {
            let error = answer(status, kind, &body).err().unwrap_or_else(|| panic!("{body}"));
            let sentence = error.to_string();
            assert!(
                sentence.contains(part) && sentence.contains("token endpoint") || part.contains("unauthorized"),
                "{sentence}"
            );
            assert_eq!(error.kind(), expected, "{sentence}");
            assert_eq!((error.status(), error.retry_after()), (Some(status), Some(Duration::from_secs(7))));
            assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
            assert!(sentences.insert(sentence), "{body} has a sentence of its own");
        }
        for expires_in in ["-1", "0", "-1e300"] {
            let body = format!(r#"{{"access_token":"t","expires_in":{expires_in}}}"#);
            assert!(answer(200, json, &body).err().unwrap().to_string().contains("expired already"));
        }
    }
}
