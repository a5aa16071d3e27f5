//! What happened, one for each sentence ([`Reason`]), and what kind of failure that is.
//!
//! The order in which an answer that is not a success is judged is here too: by its status first, by its body only where the status
//! leaves a choice (404). The sentences are stable and made here: no time, no id and no text of an answer is in them.

use std::{error::Error as StdError, fmt, io};

use super::{ErrorKind, TokenProblem, causes};
use crate::okms::tls::TlsProblem;

/// Which of the two servers a failure is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::okms) enum Server {
    Okms,
    TokenEndpoint,
}

impl Server {
    /// What its address is called.
    pub(in crate::okms) fn place(self) -> &'static str {
        match self {
            Self::Okms => "the endpoint",
            Self::TokenEndpoint => "the token endpoint",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Okms => "OKMS",
            Self::TokenEndpoint => "the token endpoint",
        }
    }

    fn what_it_should_be(self) -> &'static str {
        match self {
            Self::Okms => "an OKMS REST endpoint",
            Self::TokenEndpoint => "an OAuth 2.0 token endpoint",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::okms) enum Reason {
    #[error("OKMS has no such secret or version")]
    NotFound,
    /// The sentence of a whole refusal is the error's, which knows whose it is.
    #[error("OKMS refuses the request (status {0}): check the IAM policies of the credential's identities")]
    Refused(u16),
    #[error("the answer is larger than 1 MiB: split the secret")]
    TooLarge,
    #[error("not found, but by something else than the Secret Manager of this domain: check the endpoint and okmsId")]
    ForeignNotFound,
    #[error("{0}")]
    Malformed(Malformed),
    #[error("{0}")]
    Token(TokenProblem),
    #[error("{}", Sentence(*.0, *.1))]
    Of(Server, Failure),
}

/// What can happen with either server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::okms) enum Failure {
    RateLimited,
    ServerError(u16),
    Unresolved,
    ConnectionRefused,
    NoRoute,
    Unreachable,
    ConnectTimeout,
    Timeout,
    Broken,
    Tls(TlsProblem),
    Redirect(u16),
    Status(u16),
    NotJson,
    NotHttp,
    Truncated,
}

/// What is wrong with the body of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::okms) enum Malformed {
    #[error("the answer is not JSON as OKMS sends it")]
    NotAsDescribed,
    #[error("OKMS answered something else than metadata")]
    NotMetadata,
    #[error("OKMS answered something else than a list")]
    NotList,
    #[error("OKMS answered without data")]
    NoData,
    #[error("OKMS answered data that is not a JSON object")]
    NotObject,
    #[error("OKMS answered without the number of the version")]
    NoVersion,
    #[error("OKMS answered with another version than the one asked for")]
    OtherVersion,
    #[error("OKMS answered data of a version that it calls destroyed or not found")]
    Contradiction,
    #[error("OKMS answered that an active version is not found")]
    ActiveNotFound,
}

impl Reason {
    pub(in crate::okms) fn kind(self) -> ErrorKind {
        match self {
            Self::NotFound => ErrorKind::NotFound,
            Self::Refused(_) => ErrorKind::Refused,
            Self::TooLarge => ErrorKind::TooLarge,
            Self::ForeignNotFound | Self::Malformed(_) => ErrorKind::Unexpected,
            Self::Token(problem) => problem.kind(),
            Self::Of(_, failure) => failure.kind(),
        }
    }

    /// What a status of OKMS other than 200 and 404 means.
    pub(in crate::okms) fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Refused(status),
            _ => Self::Of(Server::Okms, Failure::of_status(status)),
        }
    }
}

impl Failure {
    fn kind(self) -> ErrorKind {
        match self {
            Self::RateLimited => ErrorKind::RateLimited,
            Self::ServerError(_)
            | Self::Unresolved
            | Self::ConnectionRefused
            | Self::NoRoute
            | Self::Unreachable
            | Self::ConnectTimeout
            | Self::Timeout
            | Self::Broken => ErrorKind::Unavailable,
            Self::Tls(problem) => ErrorKind::Tls(problem),
            Self::Redirect(_) | Self::Status(_) | Self::NotJson | Self::NotHttp | Self::Truncated => {
                ErrorKind::Unexpected
            }
        }
    }

    /// What a status means that is no success.
    pub(in crate::okms) fn of_status(status: u16) -> Self {
        match status {
            300..=399 => Self::Redirect(status),
            408 => Self::Timeout,
            429 => Self::RateLimited,
            500..=599 => Self::ServerError(status),
            _ => Self::Status(status),
        }
    }

    /// What went wrong below HTTP. `answering` once the head of an answer is there.
    pub(in crate::okms) fn of_transport(error: &reqwest::Error, answering: bool) -> Self {
        if let Some(problem) = causes(error).find_map(TlsProblem::of) {
            return Self::Tls(problem);
        }
        let io = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        let hyper = causes(error).find_map(|cause: &(dyn StdError + 'static)| cause.downcast_ref::<hyper::Error>());
        if error.is_timeout() {
            return if error.is_connect() { Self::ConnectTimeout } else { Self::Timeout };
        }
        if error.is_dns() {
            return Self::Unresolved;
        }
        match io {
            Some(io::ErrorKind::ConnectionRefused) => return Self::ConnectionRefused,
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown) => {
                return Self::NoRoute;
            }
            // The kernel gave up.
            Some(io::ErrorKind::TimedOut) if error.is_connect() => return Self::ConnectTimeout,
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe) => {
                return Self::Broken;
            }
            Some(io::ErrorKind::UnexpectedEof) if !answering => return Self::Broken,
            _ if error.is_connect() => return Self::Unreachable,
            _ => {}
        }
        if hyper.is_some_and(hyper::Error::is_parse) {
            return Self::NotHttp;
        }
        if answering { Self::Truncated } else { Self::Broken }
    }
}

/// What happened with a server, as a sentence.
struct Sentence(Server, Failure);

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(server, failure) = *self;
        let (place, name) = (server.place(), server.name());
        match failure {
            Failure::RateLimited => write!(f, "{name} asks to slow down (status 429)"),
            Failure::ServerError(status) => write!(f, "{name} answers with status {status}"),
            Failure::Unresolved => {
                write!(f, "the host name of {place} cannot be resolved: check it, and the DNS of the cluster")
            }
            Failure::ConnectionRefused => write!(f, "no connection to {place}: it refuses connections"),
            Failure::NoRoute => {
                write!(f, "no route to {place}: check network policies, firewalls and the way out of the cluster")
            }
            Failure::Unreachable => write!(f, "no connection to {place}: it is not reachable"),
            Failure::ConnectTimeout => {
                write!(f, "no connection to {place} within the time limit: check network policies and firewalls")
            }
            Failure::Timeout => write!(f, "{name} does not answer within the time limit"),
            Failure::Broken => write!(f, "the connection broke before {name} had answered"),
            Failure::Tls(problem) => problem.write(f, server),
            Failure::Redirect(status) => match server {
                Server::Okms => write!(
                    f,
                    "the endpoint redirects elsewhere (status {status}), which OKMS never does: check the endpoint"
                ),
                Server::TokenEndpoint => write!(
                    f,
                    "the token endpoint redirects elsewhere (status {status}), which is not followed: check its address"
                ),
            },
            Failure::Status(status) => match server {
                Server::Okms => write!(
                    f,
                    "the endpoint answers with status {status}, which OKMS does not send here: check the endpoint and okmsId"
                ),
                Server::TokenEndpoint => write!(
                    f,
                    "the token endpoint answers with status {status}: check that it is the address of {}",
                    server.what_it_should_be()
                ),
            },
            Failure::NotJson => {
                write!(
                    f,
                    "{place} does not answer in JSON: check that it is the address of {}",
                    server.what_it_should_be()
                )
            }
            Failure::NotHttp => {
                write!(
                    f,
                    "{place} does not answer in HTTP: check that it is the address of {}",
                    server.what_it_should_be()
                )
            }
            Failure::Truncated => match server {
                Server::Okms => f.write_str("the answer was cut short"),
                Server::TokenEndpoint => f.write_str("the answer of the token endpoint was cut short"),
            },
        }
    }
}
