//! Why a request to OKMS brought nothing: one opaque [`Error`] with a kind to decide by, a sentence to show, and a cause to log.
//!
//! The sentence is stable and made here: it holds no time, no id and no text of the answer, so that it can stand in a status. This
//! file also holds the order in which an answer that is not a success is judged: by its status first, by its body only where the
//! status leaves a choice (404).

use std::{error::Error as StdError, fmt, io, time::Duration};

use super::{tls::TlsProblem, wire::Refusal};

/// What to do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The Secret Manager of this domain says that it has no such secret, or no such version.
    NotFound,
    /// 401 or 403: the identity is not known, or may not do this. Which of the two OKMS sends when is not documented.
    Refused,
    /// 429.
    RateLimited,
    /// No answer, or a 5xx one: later it may work.
    Unavailable,
    /// No trust between the two sides, in either direction.
    Tls(TlsProblem),
    /// The answer is over the size limit.
    TooLarge,
    /// An answer that OKMS would not give: another server, a proxy's page, a broken answer.
    Unexpected,
}

impl ErrorKind {
    /// The name as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Tls(_) => "tls",
            Self::TooLarge => "too_large",
            Self::Unexpected => "unexpected",
        }
    }
}

/// A request that brought nothing.
///
/// `Display` is one stable sentence that says what happened and, where somebody can act, what to do. The cause, for logs, is
/// `source()`. Neither ever holds anything of the body of an answer.
pub struct Error(Box<Inner>);

struct Inner {
    reason: Reason,
    status: Option<u16>,
    retry_after: Option<Duration>,
    request_id: Option<String>,
    of_okms: bool,
    source: Option<reqwest::Error>,
}

/// What happened, one for each sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Reason {
    #[error("OKMS has no such secret or version")]
    NotFound,
    #[error(
        "OKMS refuses the request (status {0}): check the identities of the access certificate and their IAM policies"
    )]
    Refused(u16),
    #[error("OKMS asks to slow down (status 429)")]
    RateLimited,
    #[error("OKMS answers with status {0}")]
    ServerError(u16),
    #[error("the host name of the endpoint cannot be resolved")]
    Unresolved,
    #[error("no connection to the endpoint: it refuses connections")]
    ConnectionRefused,
    #[error("no connection to the endpoint: it is not reachable")]
    Unreachable,
    #[error("no connection to the endpoint within the time limit")]
    ConnectTimeout,
    #[error("OKMS does not answer within the time limit")]
    Timeout,
    #[error("the connection broke before OKMS had answered")]
    Broken,
    #[error("{0}")]
    Tls(TlsProblem),
    #[error("the answer is larger than 1 MiB: split the secret")]
    TooLarge,
    #[error("the endpoint redirects elsewhere (status {0}), which OKMS never does: check the endpoint")]
    Redirect(u16),
    #[error("the endpoint answers with status {0}, which OKMS does not send here: check the endpoint and okmsId")]
    Status(u16),
    #[error("not found, but by something else than the Secret Manager of this domain: check the endpoint and okmsId")]
    ForeignNotFound,
    #[error("the endpoint does not answer in JSON: check that it is the address of an OKMS REST endpoint")]
    NotJson,
    #[error("the endpoint does not answer in HTTP: check that it is the address of an OKMS REST endpoint")]
    NotHttp,
    #[error("the answer was cut short")]
    Truncated,
    #[error("{0}")]
    Malformed(Malformed),
}

/// What is wrong with the body of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
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
    fn kind(self) -> ErrorKind {
        match self {
            Self::NotFound => ErrorKind::NotFound,
            Self::Refused(_) => ErrorKind::Refused,
            Self::RateLimited => ErrorKind::RateLimited,
            Self::ServerError(_)
            | Self::Unresolved
            | Self::ConnectionRefused
            | Self::Unreachable
            | Self::ConnectTimeout
            | Self::Timeout
            | Self::Broken => ErrorKind::Unavailable,
            Self::Tls(problem) => ErrorKind::Tls(problem),
            Self::TooLarge => ErrorKind::TooLarge,
            Self::Redirect(_)
            | Self::Status(_)
            | Self::ForeignNotFound
            | Self::NotJson
            | Self::NotHttp
            | Self::Truncated
            | Self::Malformed(_) => ErrorKind::Unexpected,
        }
    }

    /// What a status other than 200 and 404 means.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            300..=399 => Self::Redirect(status),
            401 | 403 => Self::Refused(status),
            408 => Self::Timeout,
            429 => Self::RateLimited,
            500..=599 => Self::ServerError(status),
            _ => Self::Status(status),
        }
    }

    /// What went wrong below HTTP. `answering` once the head of an answer is there.
    fn of_transport(error: &reqwest::Error, answering: bool) -> Self {
        if let Some(problem) = causes(error).find_map(TlsProblem::of) {
            return Self::Tls(problem);
        }
        let io = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        let hyper = causes(error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
        if error.is_timeout() {
            return if error.is_connect() { Self::ConnectTimeout } else { Self::Timeout };
        }
        if error.is_dns() {
            return Self::Unresolved;
        }
        match io {
            Some(io::ErrorKind::ConnectionRefused) => return Self::ConnectionRefused,
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

/// The error and everything below it, looking also into I/O errors, which hide what they wrap from `source()`.
pub(super) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| error.source())
    })
}

impl Error {
    pub(super) fn new(reason: Reason) -> Self {
        Self(Box::new(Inner {
            reason,
            status: None,
            retry_after: None,
            request_id: None,
            of_okms: false,
            source: None,
        }))
    }

    pub(super) fn transport(error: reqwest::Error, answering: bool) -> Self {
        let mut this = Self::new(Reason::of_transport(&error, answering));
        this.0.source = Some(error.without_url());
        this
    }

    /// Whether the connection broke after its handshake, as far as this side could see.
    pub(super) fn is_broken_connection(&self) -> bool {
        self.0.reason == Reason::Broken && self.0.source.as_ref().is_some_and(|source| !source.is_connect())
    }

    /// The same failure, once it is known that trust is what was missing.
    pub(super) fn because(mut self, problem: TlsProblem) -> Self {
        self.0.reason = Reason::Tls(problem);
        self
    }

    pub(super) fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(super) fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.0.retry_after = retry_after;
        self
    }

    fn with_request_id(mut self, request_id: Option<String>) -> Self {
        self.0.request_id = request_id;
        self
    }

    pub(super) fn with_refusal(mut self, refusal: Refusal) -> Self {
        self.0.of_okms = refusal.is_of_okms();
        self.with_request_id(refusal.request_id)
    }

    pub fn kind(&self) -> ErrorKind {
        self.0.reason.kind()
    }

    /// Whether the body was an error of OKMS itself, and not, say, the page of a proxy.
    pub fn is_of_okms(&self) -> bool {
        self.0.of_okms
    }

    /// How long OKMS asks to wait, where it said so. At most a day.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The id under which OVHcloud's support finds the request. Not stable: for logs and events, not for a status.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.reason.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("reason", &self.0.reason)
            .field("status", &self.0.status)
            .field("retry_after", &self.0.retry_after)
            .field("request_id", &self.0.request_id)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_alone_never_means_that_a_secret_is_gone() {
        for status in 100..600 {
            assert_ne!(Reason::of_status(status).kind(), ErrorKind::NotFound, "{status}");
        }
    }

    #[test]
    fn statuses_have_their_kinds() {
        for (status, kind) in [
            (204, ErrorKind::Unexpected),
            (301, ErrorKind::Unexpected),
            (308, ErrorKind::Unexpected),
            (400, ErrorKind::Unexpected),
            (401, ErrorKind::Refused),
            (403, ErrorKind::Refused),
            (410, ErrorKind::Unexpected),
            (429, ErrorKind::RateLimited),
            (500, ErrorKind::Unavailable),
            (502, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
        ] {
            assert_eq!(Reason::of_status(status).kind(), kind, "{status}");
        }
    }

    #[tokio::test]
    async fn a_host_name_that_does_not_resolve_is_named() {
        struct Nowhere;
        impl reqwest::dns::Resolve for Nowhere {
            fn resolve(&self, _name: reqwest::dns::Name) -> reqwest::dns::Resolving {
                Box::pin(async { Err(io::Error::other("no such name").into()) })
            }
        }
        let client = reqwest::Client::builder()
            .dns_resolver(std::sync::Arc::new(Nowhere))
            .tls_certs_only(Vec::new())
            .no_proxy()
            .build()
            .unwrap();
        let error = client.get("https://okms.example").send().await.unwrap_err();
        assert_eq!(Reason::of_transport(&error, false), Reason::Unresolved);
    }

    #[test]
    fn the_cause_inside_an_io_error_is_found() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, alert));
        assert_eq!(causes(&wrapped).find_map(TlsProblem::of), Some(TlsProblem::ClientRevoked));
    }
}
