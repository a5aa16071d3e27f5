//! Refusals: status, code and sentence of a request that does not succeed.
//!
//! The layout of codes is that of okms-sdk-go's `errors.go`: major (8 bits), minor (8), category (4), application
//! code (12). Codes marked "by layout" follow it but were seen nowhere; which status carries which code is not published
//! for most. Sentences are ours, and never carry a value.

use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::Answer;

/// An OKMS error code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Code(pub(crate) i32);

impl Code {
    /// CCM, IAM, authorization.
    pub(crate) const IAM_AUTHORIZATION: Self = Self(16_924_673);
    /// CCM, domain, not found.
    pub(crate) const DOMAIN_NOT_FOUND: Self = Self(16_994_305);
    /// CCM, secret manager, not found: the one code whose meaning a published client relies on.
    pub(crate) const SECRET_NOT_FOUND: Self = Self(17_125_377);
    /// REST, general, internal.
    pub(crate) const INTERNAL: Self = Self(50_401_281);
    /// REST, general, argument.
    pub(crate) const ARGUMENT: Self = Self(50_405_377);
    /// REST, general, not found; by layout.
    pub(crate) const NOT_FOUND: Self = Self(50_417_665);
    /// REST, general, unavailable.
    pub(crate) const UNAVAILABLE: Self = Self(50_425_858);
    /// REST, general, too many requests.
    pub(crate) const TOO_MANY_REQUESTS: Self = Self(50_434_049);
    /// REST, general, conflict.
    pub(crate) const CONFLICT: Self = Self(50_438_145);
    /// REST, authentication provider, authentication.
    pub(crate) const AUTHENTICATION: Self = Self(50_475_011);

    /// The code that fits a status best.
    pub(crate) const fn for_status(status: u16) -> Self {
        match status {
            401 => Self::AUTHENTICATION,
            403 => Self::IAM_AUTHORIZATION,
            404 => Self::NOT_FOUND,
            409 | 412 => Self::CONFLICT,
            429 => Self::TOO_MANY_REQUESTS,
            502..=504 => Self::UNAVAILABLE,
            500.. => Self::INTERNAL,
            _ => Self::ARGUMENT,
        }
    }
}

pub(crate) struct Refusal {
    status: u16,
    code: Code,
    text: String,
    /// Version metadata beside the error, where the specification has it. Never the data of a secret.
    data: Option<Value>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: Code, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into(), data: None }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(400, Code::ARGUMENT, text)
    }

    pub(crate) fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// `ErrorResponse`, or the same with `data`.
    pub(crate) fn into_answer(self, request_id: &str) -> Answer {
        let mut body = json!({
            "error_id": Uuid::new_v4(),
            "error_code": self.code.0,
            "errors": [self.text],
            "request_id": request_id,
        });
        if let (Some(data), Some(body)) = (self.data, body.as_object_mut()) {
            body.insert("data".to_owned(), data);
        }
        Answer::json(self.status, &body)
    }
}
