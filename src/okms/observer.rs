//! What the client tells of its own work, for metrics. It says what was done and how it ended, never of which secret.

use std::time::Duration;

use super::ErrorKind;
use crate::model::iam;

/// Told of every request and handshake. Called on the path of the request: it must return at once.
pub trait Observer: Send + Sync {
    /// A request ended, with the time from its start to the last byte that was read of its answer.
    fn request(&self, operation: Operation, outcome: Outcome, took: Duration);
    /// A new TLS connection was made, to OKMS or to a token endpoint.
    fn handshake(&self);
    /// The clock of OKMS is now known to differ from ours by more than [`Clock`](super::Clock) tolerates, or not to. Told when that
    /// changes, and once in the beginning.
    fn clock(&self, _differs: bool) {}
}

/// The requests that this client makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// KV2 `GET metadata/{path}`: versions and their states, no data.
    Metadata,
    /// KV2 `GET data/{path}`: the data of one version.
    Data,
    /// KV2 `GET metadata?list=true`: whether the domain answers at all.
    List,
    /// REST v2 `GET secret`: a page of the list of all secrets with their versions, no data.
    Page,
    /// `POST` to the token endpoint of a service account: a new access token.
    Token,
}

impl Operation {
    pub const ALL: [Self; 5] = [Self::Metadata, Self::Data, Self::List, Self::Page, Self::Token];

    /// The name as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Data => "data",
            Self::List => "list",
            Self::Page => "page",
            Self::Token => "token",
        }
    }

    /// The IAM action that this needs (OpenAPI 2.14.0). Everybody may ask for a token.
    pub fn iam_action(self) -> Option<&'static str> {
        match self {
            Self::Metadata | Self::List | Self::Page => Some(iam::CHECK_ACTION),
            Self::Data => Some(iam::READ_ACTION),
            Self::Token => None,
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With an answer that means something, [`Reading::Unreadable`](crate::model::Reading::Unreadable) included.
    Answered,
    Failed(ErrorKind),
}

impl Outcome {
    /// The name as a metric label, one of eight.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "ok",
            Self::Failed(kind) => kind.as_str(),
        }
    }
}

impl<T> From<&Result<T, super::Error>> for Outcome {
    fn from(result: &Result<T, super::Error>) -> Self {
        match result {
            Ok(_) => Self::Answered,
            Err(error) => Self::Failed(error.kind()),
        }
    }
}
