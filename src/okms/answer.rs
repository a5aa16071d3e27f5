//! What an answer says, by its status, its headers and its body ([`Answer`]): the part of the client that does no I/O.
//!
//! It never says *not found* but where the Secret Manager did, and puts nothing of a body but the id of the request into an error.
//! What the bodies mean is decided in `wire`, what a status alone means in `error`; here they are put together.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use zeroize::Zeroizing;

use super::{
    Error,
    body::{self, BodyError},
    error::{Failure, Malformed, Reason, Server},
    wire::{self, Refusal},
};
use crate::model::{Cursor, Facts, Page, Reading, Version};

/// Names the page after this one, in the answer to a list (OpenAPI 2.14.0).
const NEXT_CURSOR: &str = "x-pagination-cursor-next";

/// The longest `Retry-After` that is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// An answer of whatever status, read to its end. It holds values, so it has no `Debug`.
pub struct Answer {
    status: u16,
    json: bool,
    retry_after: Option<Duration>,
    next: Next,
    body: Zeroizing<Vec<u8>>,
}

/// Whether a page of a list has a next one. The last has no such header; one that is empty is taken for none.
enum Next {
    None,
    At(Cursor),
    Unreadable,
}

impl Answer {
    /// An answer without a body, that came at `now`.
    pub fn new(status: u16, headers: &HeaderMap, now: Timestamp) -> Self {
        let (json, retry_after, next) = (is_json(headers), retry_after(headers, now), Next::of(headers));
        Self { status, json, retry_after, next, body: Zeroizing::default() }
    }

    #[must_use]
    pub fn with_body(self, body: Zeroizing<Vec<u8>>) -> Self {
        Self { body, ..self }
    }

    pub(super) async fn read(response: reqwest::Response) -> Result<Self, Error> {
        let this = Self::new(response.status().as_u16(), response.headers(), Timestamp::now());
        match body::read(response, body::LIMIT).await {
            Ok(body) => Ok(this.with_body(body)),
            // The status says enough. The body would only have told the id of the request.
            Err(_) if !matches!(this.status, 200 | 404) => Ok(this),
            Err(BodyError::TooLarge) => Err(Error::new(Reason::TooLarge).with_status(this.status)),
            Err(BodyError::Transport(error)) => {
                Err(Error::transport(Server::Okms, error, true).with_status(this.status))
            }
        }
    }

    /// Of `GET metadata/{path}`.
    pub fn metadata(self) -> Result<Facts, Error> {
        match self.status {
            200 => self.parsed(wire::metadata),
            _ => Err(self.refused()),
        }
    }

    /// Of `GET data/{path}`, for the version asked for or, without one, the current version.
    pub fn data(self, asked: Option<Version>) -> Result<Reading, Error> {
        match self.status {
            200 => self.parsed(|body| wire::data(body, asked)),
            404 if self.json => match wire::unreadable(&self.body, asked) {
                Ok(Some(reading)) => Ok(reading),
                Ok(None) => Err(self.refused()),
                Err(malformed) => Err(self.error(Reason::Malformed(malformed))),
            },
            _ => Err(self.refused()),
        }
    }

    /// Of `GET metadata?list=true`: that it is one, or that there is nothing to list.
    pub fn list(self) -> Result<(), Error> {
        match self.status {
            200 => self.parsed(wire::list),
            404 if self.is_not_found() => Ok(()),
            _ => Err(self.refused()),
        }
    }

    /// Of REST v2 `GET secret`.
    pub fn page(mut self) -> Result<Page, Error> {
        if self.status != 200 {
            return Err(self.refused());
        }
        let next = match std::mem::replace(&mut self.next, Next::None) {
            Next::None => None,
            Next::At(cursor) => Some(cursor),
            // Without it nobody would know how much of the list is missing.
            Next::Unreadable => return Err(self.error(Reason::Malformed(Malformed::NotAsDescribed))),
        };
        self.parsed(|body| Ok(Page { secrets: wire::secrets(body)?, next }))
    }

    /// Whether the credential is not accepted, or not for this: OKMS may say either by this status.
    pub(super) fn is_unauthorized(&self) -> bool {
        self.status == 401
    }

    fn parsed<T>(self, parse: impl FnOnce(&[u8]) -> Result<T, Malformed>) -> Result<T, Error> {
        if !self.json {
            return Err(self.error(Reason::Of(Server::Okms, Failure::NotJson)));
        }
        parse(&self.body).map_err(|malformed| self.error(Reason::Malformed(malformed)))
    }

    /// The error that an answer without success is.
    fn refused(&self) -> Error {
        self.error(match self.status {
            404 if self.is_not_found() => Reason::NotFound,
            404 => Reason::ForeignNotFound,
            status => Reason::of_status(status),
        })
    }

    /// Whether the Secret Manager, and nothing before it, says that there is no such thing.
    fn is_not_found(&self) -> bool {
        self.status == 404 && self.json && Refusal::parse(&self.body).is_not_found()
    }

    fn error(&self, reason: Reason) -> Error {
        Error::new(reason)
            .with_status(self.status)
            .with_retry_after(self.retry_after)
            .with_refusal(Refusal::parse(&self.body))
    }
}

impl Next {
    fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(NEXT_CURSOR).filter(|value| !value.is_empty()) else { return Self::None };
        value.to_str().ok().and_then(Cursor::new).map_or(Self::Unreadable, Self::At)
    }
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json")
}

/// Seconds or a date (RFC 9110, 10.2.3). What is neither is as good as absent.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let until = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(until.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn with(name: reqwest::header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-10-21T07:28:00Z".parse().unwrap();
        for (text, wait) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Wed, 21 Oct 2026 07:30:00 GMT", Some(120)),
            ("Wed, 21 Oct 2026 07:00:00 GMT", Some(0)),
            ("99999999999", Some(24 * 3600)),
            ("Wed, 01 Jan 9000 00:00:00 GMT", Some(24 * 3600)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(&with(RETRY_AFTER, text), now), wait.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn only_json_is_json() {
        for (content_type, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/html", false),
            ("text/json", false),
            ("application/jsonp", false),
        ] {
            assert_eq!(is_json(&with(CONTENT_TYPE, content_type)), json, "{content_type}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
