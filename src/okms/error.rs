//! Why a request brought nothing: one opaque [`Error`] with a kind to decide by, a sentence to show, and a cause to log.
//!
//! The sentence is stable and made here: it holds no time, no id of a request and no text of an answer, so that it can stand in a
//! status. What can happen is listed in `reason`, what a token endpoint says in `token`.

mod reason;
mod token;

use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

pub(super) use self::{
    reason::{Failure, Malformed, Reason, Server},
    token::TokenProblem,
};
use super::{domain_urn, tls::TlsProblem, wire::Refusal};
use crate::model::{OkmsId, iam};

/// What to do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The Secret Manager of this domain says that it has no such secret, or no such version.
    NotFound,
    /// 401 or 403: the identity is not known, or may not do this. Which of the two OKMS sends when is not documented. Also what a token
    /// endpoint says of a service account that it does not know.
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
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    reason: Reason,
    /// Whose refusal it is, where it is one of OKMS.
    asker: Option<Asker>,
    action: Option<&'static str>,
    status: Option<u16>,
    retry_after: Option<Duration>,
    request_id: Option<String>,
    of_okms: bool,
    source: Option<Arc<reqwest::Error>>,
}

/// Who asked, and what domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) kind: AskerKind,
    pub(super) okms_id: OkmsId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskerKind {
    Certificate,
    Token,
    ServiceAccount,
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
            asker: None,
            action: None,
            status: None,
            retry_after: None,
            request_id: None,
            of_okms: false,
            source: None,
        }))
    }

    pub(super) fn transport(server: Server, error: reqwest::Error, answering: bool) -> Self {
        let mut this = Self::new(Reason::Of(server, Failure::of_transport(&error, answering)));
        this.0.source = Some(Arc::new(error.without_url()));
        this
    }

    /// Whether the connection broke after its handshake, as far as this side could see.
    pub(super) fn is_broken_connection(&self) -> bool {
        self.0.reason == Reason::Of(Server::Okms, Failure::Broken)
            && self.0.source.as_ref().is_some_and(|source| !source.is_connect())
    }

    /// The same failure, once it is known that trust is what was missing.
    pub(super) fn because(mut self, problem: TlsProblem) -> Self {
        self.0.reason = Reason::Of(Server::Okms, Failure::Tls(problem));
        self
    }

    /// The same failure, with whose request it was. Only a refusal tells.
    pub(super) fn asked_by(mut self, asker: &Asker, action: Option<&'static str>) -> Self {
        if matches!(self.0.reason, Reason::Refused(_)) {
            self.0.asker = Some(asker.clone());
            self.0.action = action;
        }
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

    /// The IAM action that the request needs, where OKMS refused it.
    pub fn iam_action(&self) -> Option<&'static str> {
        self.0.action
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
        match (self.0.reason, &self.0.asker) {
            (Reason::Refused(status), Some(asker)) => asker.refusal(status, self.0.of_okms, f),
            (reason, _) => reason.fmt(f),
        }
    }
}

impl Asker {
    /// What OKMS refuses to one request it often refuses to all, so the sentence names everything that reading needs.
    fn refusal(&self, status: u16, of_okms: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whose, known) = match self.kind {
            AskerKind::Certificate => ("the identities of the access certificate", ""),
            AskerKind::Token => ("the user of the token", "that the token was not revoked and has not ended, and "),
            AskerKind::ServiceAccount => ("the service account", "that it was not deleted, and "),
        };
        let known = if status == 401 { known } else { "" };
        let elsewhere =
            if of_okms { "" } else { "; this does not look like an answer of OKMS, so check the endpoint first" };
        write!(
            f,
            "OKMS refuses the request (status {status}): check {known}that an IAM policy allows {whose} \
             {} and {} on {} ({}){elsewhere}",
            iam::CHECK_ACTION,
            iam::READ_ACTION,
            domain_urn(&self.okms_id),
            iam::GUIDE
        )
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("reason", &self.0.reason)
            .field("asker", &self.0.asker)
            .field("status", &self.0.status)
            .field("retry_after", &self.0.retry_after)
            .field("request_id", &self.0.request_id)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
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
        assert_eq!(Failure::of_transport(&error, false), Failure::Unresolved);
    }

    #[tokio::test]
    async fn what_the_kernel_says_of_the_way_is_told() {
        for (kind, failure) in [
            (io::ErrorKind::NetworkUnreachable, Failure::NoRoute),
            (io::ErrorKind::HostUnreachable, Failure::NoRoute),
            (io::ErrorKind::TimedOut, Failure::ConnectTimeout),
            (io::ErrorKind::ConnectionRefused, Failure::ConnectionRefused),
            (io::ErrorKind::PermissionDenied, Failure::Unreachable),
        ] {
            let client = reqwest::Client::builder()
                .tls_certs_only(Vec::new())
                .no_proxy()
                .connector_layer(tower::util::MapErrLayer::new(move |_| io::Error::from(kind).into()))
                .build()
                .unwrap();
            // Nobody listens there; what is said of it is replaced.
            let error = client.get("https://127.0.0.1:1").send().await.unwrap_err();
            assert_eq!(Failure::of_transport(&error, false), failure, "{error:?}");
        }
    }

    #[test]
    fn the_cause_inside_an_io_error_is_found() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, alert));
        assert_eq!(causes(&wrapped).find_map(TlsProblem::of), Some(TlsProblem::ClientRevoked));
    }

    #[test]
    fn each_failure_names_the_server_that_it_is_of() {
        for failure in [
            Failure::RateLimited,
            Failure::ServerError(503),
            Failure::Unresolved,
            Failure::ConnectionRefused,
            Failure::NoRoute,
            Failure::Unreachable,
            Failure::ConnectTimeout,
            Failure::Timeout,
            Failure::Broken,
            Failure::Tls(TlsProblem::ServerExpired),
            Failure::Tls(TlsProblem::ServerUnknownCa),
            Failure::Tls(TlsProblem::NotTls),
            Failure::Redirect(301),
            Failure::Status(404),
            Failure::NotJson,
            Failure::NotHttp,
            Failure::Truncated,
        ] {
            let of_okms = Error::new(Reason::Of(Server::Okms, failure)).to_string();
            let of_tokens = Error::new(Reason::Of(Server::TokenEndpoint, failure)).to_string();
            assert!(!of_okms.contains("token"), "{of_okms}");
            assert!(of_tokens.contains("token endpoint") && !of_tokens.contains("OKMS"), "{of_tokens}");
        }
    }

    #[test]
    fn a_refusal_names_what_to_grant_to_whom_on_what() {
        let okms_id: OkmsId = "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb".parse().unwrap();
        for (kind, whose) in [
            (AskerKind::Certificate, "access certificate"),
            (AskerKind::Token, "user of the token"),
            (AskerKind::ServiceAccount, "service account"),
        ] {
            for status in [401, 403] {
                let asker = Asker { kind, okms_id: okms_id.clone() };
                let error = Error::new(Reason::Refused(status)).asked_by(&asker, Some("action"));
                let sentence = error.to_string();
                for part in [
                    whose,
                    "IAM",
                    "okms:apikms:secret/get",
                    "okms:apikms:secret/version/getData",
                    "urn:v1:*:resource:okms:1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb",
                    "https://help.ovhcloud.com/",
                ] {
                    assert!(sentence.contains(part), "{part}: {sentence}");
                }
                assert_eq!((error.kind(), error.iam_action()), (ErrorKind::Refused, Some("action")));
            }
        }
    }

    #[test]
    fn only_codes_of_oauth_are_told() {
        assert_eq!(TokenProblem::of_code("invalid_client", 401), TokenProblem::InvalidClient);
        assert_eq!(TokenProblem::of_code("canary", 400), TokenProblem::Refused(400));
    }
}
