//! The client of one OKMS domain with one credential ([`Client`]): four requests, all of them reads.
//!
//! It never follows a redirect, never asks a proxy, never unpacks a compressed answer and never changes anything in OKMS. It repeats a
//! request in one case only: the access token of a service account is not accepted any more, and there is a new one. Who asks when, and
//! again, is the feed's business. What an answer says is decided in `answer`, what a failure is in `error`, which token is sent in `oauth`.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use tokio::time::Instant;

use super::{
    Answer, Clock, Credential, Endpoint, Error, Observer, Operation, Outcome, Roots, RootsError,
    connection::Line,
    error::{Asker, AskerKind, Server},
    oauth::AccessTokens,
    second_look, tls,
};
use crate::model::{Cursor, Facts, OkmsId, Page, Path, Reading, Version};

/// How many entries a page is to have, 10 to 100, and where it begins (OpenAPI 2.14.0).
const PAGE_SIZE: &str = "X-Pagination-Size";
const PAGE_CURSOR: &str = "X-Pagination-Cursor";

/// The time limits of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// For a whole request, from the start to the last byte of the answer, a new access token included.
    pub timeout: Duration,
    /// For the connection and its TLS handshake, a part of the above.
    pub connect_timeout: Duration,
    /// How long a connection may live, so that a revoked certificate does not work on for as long as there are requests.
    pub connection_lifetime: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            connection_lifetime: Duration::from_mins(10),
        }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("{0}")]
    Roots(#[from] RootsError),
    #[error("for the token endpoint: {0}")]
    TokenRoots(#[source] RootsError),
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

/// Reads secrets from one OKMS domain with one credential.
///
/// # Guarantees
///
/// Every call ends within the time limit. No connection lives longer than its lifetime. A value is held in memory that is
/// overwritten when it is dropped; no error and no call of the observer says anything of it, or of the credential.
pub struct Client {
    /// `<endpoint>/api/<okmsId>`
    base: String,
    endpoint: Endpoint,
    asker: Asker,
    authorization: Authorization,
    line: Line,
    clock: Clock,
}

/// What a request carries besides what TLS has shown.
enum Authorization {
    Nothing,
    Token(HeaderValue),
    AccessTokens(AccessTokens),
}

impl Client {
    /// Nothing is sent yet: whether the endpoint is one, and knows the credential, shows with the first request.
    pub fn new(
        endpoint: &Endpoint,
        okms_id: &OkmsId,
        roots: &Roots,
        credential: &Credential,
        options: ClientOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, BuildError> {
        let (kind, authorization) = match credential {
            Credential::Certificate(_) => (AskerKind::Certificate, Authorization::Nothing),
            Credential::Token(token) => (AskerKind::Token, Authorization::Token(token.header())),
            Credential::ServiceAccount(account) => {
                let tokens = AccessTokens::new(account, options, Arc::clone(&observer))?;
                (AskerKind::ServiceAccount, Authorization::AccessTokens(tokens))
            }
        };
        let tls = tls::config(roots, credential.identity())?;
        Ok(Self {
            base: format!("{endpoint}/api/{okms_id}"),
            endpoint: endpoint.clone(),
            asker: Asker { kind, okms_id: okms_id.clone() },
            authorization,
            line: Line::new(tls, options, observer).map_err(BuildError::Http)?,
            clock: Clock::default(),
        })
    }

    /// What OKMS knows of a secret without its data: KV2 `GET metadata/{path}`.
    pub async fn metadata(&self, path: &Path) -> Result<Facts, Error> {
        let tail = format!("v1/secret/metadata/{}", path.encoded());
        self.observed(Operation::Metadata, async { self.get(&tail, &[]).await?.metadata() }).await
    }

    /// The data of one version, or of the current one: KV2 `GET data/{path}`.
    ///
    /// The metadata comes as OKMS sent it. Its deletion time is to be compared with the clock by whoever has one: beside data it is
    /// a plan, beside a refusal it is a fact.
    pub async fn data(&self, path: &Path, version: Option<Version>) -> Result<Reading, Error> {
        let query = version.map(|version| format!("?version={version}")).unwrap_or_default();
        let tail = format!("v1/secret/data/{}{query}", path.encoded());
        self.observed(Operation::Data, async { self.get(&tail, &[]).await?.data(version) }).await
    }

    /// Whether the domain answers: KV2 `GET metadata?list=true`, for a page of the smallest size.
    ///
    /// A domain without secrets is fine. How it is told is not documented: an empty list and a not-found of the Secret Manager both count.
    pub async fn list_root(&self) -> Result<(), Error> {
        let tail = "v1/secret/metadata?list=true";
        self.observed(Operation::List, async { self.get(tail, &[(PAGE_SIZE, "10")]).await?.list() }).await
    }

    /// A page of the list of all secrets, the first or the one at a cursor: REST v2 `GET secret`, of the largest size.
    ///
    /// It has the secrets that the identity may get; whether it shows their versions is not documented.
    pub async fn page(&self, cursor: Option<&Cursor>) -> Result<Page, Error> {
        let mut headers = vec![(PAGE_SIZE, "100")];
        headers.extend(cursor.map(|cursor| (PAGE_CURSOR, cursor.as_str())));
        self.observed(Operation::Page, async { self.get("v2/secret", &headers).await?.page() }).await
    }

    /// By how much the clock of OKMS is ahead of ours; `None` before an answer has said so.
    pub fn clock_offset(&self) -> Option<SignedDuration> {
        self.clock.offset()
    }

    /// The clock of OKMS as this client sees it, for whoever wants to look at it later.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    async fn observed<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        let result = request.await.map_err(|error| error.asked_by(&self.asker, operation.iam_action()));
        self.line.observer.request(operation, Outcome::from(&result), start.elapsed());
        result
    }

    /// The answer to a request, which may take all of the time limit.
    async fn get(&self, tail: &str, headers: &[(&str, &str)]) -> Result<Answer, Error> {
        let start = Instant::now();
        let deadline = start + self.line.options.timeout;
        let tokens = match &self.authorization {
            Authorization::Nothing => return self.send(tail, headers, None, deadline).await,
            Authorization::Token(token) => return self.send(tail, headers, Some(token), deadline).await,
            Authorization::AccessTokens(tokens) => tokens,
        };
        let grant = tokens.grant(deadline).await?;
        let answer = self.send(tail, headers, Some(grant.header()), deadline).await?;
        if !answer.is_unauthorized() {
            return Ok(answer);
        }
        match tokens.after_refusal(&grant, start, deadline).await? {
            Some(renewed) => {
                let answer = self.send(tail, headers, Some(renewed.header()), deadline).await?;
                tokens.tried(!answer.is_unauthorized());
                Ok(answer)
            }
            None => Ok(answer),
        }
    }

    async fn send(
        &self,
        tail: &str,
        headers: &[(&str, &str)],
        authorization: Option<&HeaderValue>,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let of_transport = |error| Error::transport(Server::Okms, error, false);
        let connections = self.line.connections().map_err(of_transport)?;
        let limit = deadline.saturating_duration_since(Instant::now());
        let mut request = connections.get(format!("{}/{tail}", self.base)).timeout(limit);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let asked = Timestamp::now();
        match request.send().await {
            Ok(response) => {
                if let Some(differs) = self.clock.note(response.headers(), asked, Timestamp::now()) {
                    self.line.observer.clock(differs);
                }
                Answer::read(response).await
            }
            Err(error) => Err(self.explained(of_transport(error), deadline).await),
        }
    }

    /// The error with what the server has to say of our certificate, should that be why the connection broke.
    async fn explained(&self, error: Error, deadline: Instant) -> Error {
        if !error.is_broken_connection() {
            return error;
        }
        let Line { tls, observer, .. } = &self.line;
        let limit = deadline.saturating_duration_since(Instant::now());
        match second_look::listen(&self.endpoint, tls, observer.as_ref(), limit).await {
            Some(problem) => error.because(problem),
            None => error,
        }
    }
}
