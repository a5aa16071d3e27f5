//! The client of one OKMS domain with one identity ([`Client`]): three requests, all of them reads.
//!
//! It never retries, never follows a redirect, never asks a proxy, never unpacks a compressed answer and never changes anything in
//! OKMS. Who asks when, and again, is the feed's business. What an answer says is decided in `answer`, what a failure is in `error`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    RequestBuilder,
    header::{ACCEPT, HeaderMap, HeaderValue},
};
use tokio::time::Instant;

use super::{
    Answer, Endpoint, Error, Identity, Observer, Operation, Outcome, Roots, handshakes::CountHandshakes, second_look,
    tls,
};
use crate::model::{Facts, OkmsId, Path, Reading, Version};

const USER_AGENT: &str = concat!("okms-operator/", env!("CARGO_PKG_VERSION"));

/// How long an unused connection is kept: longer than the usual refresh interval of a minute, shorter than most servers would.
const IDLE: Duration = Duration::from_secs(90);

/// After half of the usual time limit without an answer, HTTP/2 is asked whether the other side is still there. So a dead connection
/// costs the requests on it, and no later ones.
const PING_AFTER: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limits of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// For a whole request, from the start to the last byte of the answer.
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
    #[error("the CA bundle holds no certificate: it must be PEM that begins with -----BEGIN CERTIFICATE-----")]
    EmptyCa,
    #[error("the CA bundle is damaged: a certificate in it cannot be read")]
    MalformedCa,
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

/// Reads secrets from one OKMS domain as one identity.
///
/// # Guarantees
///
/// Every call ends within the time limit. No connection lives longer than its lifetime. A value is held in memory that is
/// overwritten when it is dropped; no error and no call of the observer says anything of it.
pub struct Client {
    /// `<endpoint>/api/<okmsId>/v1/secret`
    base: String,
    settings: Settings,
    connections: Mutex<Connections>,
}

impl Client {
    /// Nothing is sent yet: whether the endpoint is one, and knows the identity, shows with the first request.
    pub fn new(
        endpoint: &Endpoint,
        okms_id: &OkmsId,
        roots: &Roots,
        identity: &Identity,
        options: ClientOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, BuildError> {
        let tls = Arc::new(tls::config(roots, identity)?);
        let settings = Settings { endpoint: endpoint.clone(), tls, options, observer };
        let connections = Mutex::new(settings.open().map_err(BuildError::Http)?);
        Ok(Self { base: format!("{endpoint}/api/{okms_id}/v1/secret"), settings, connections })
    }

    /// What OKMS knows of a secret without its data: KV2 `GET metadata/{path}`.
    pub async fn metadata(&self, path: &Path) -> Result<Facts, Error> {
        self.observed(Operation::Metadata, async {
            self.answer(self.get(&format!("metadata/{}", path.encoded()))?).await?.metadata()
        })
        .await
    }

    /// The data of one version, or of the current one: KV2 `GET data/{path}`.
    ///
    /// The metadata comes as OKMS sent it. Its deletion time is to be compared with the clock by whoever has one: beside data it is
    /// a plan, beside a refusal it is a fact.
    pub async fn data(&self, path: &Path, version: Option<Version>) -> Result<Reading, Error> {
        self.observed(Operation::Data, async {
            let query = version.map(|version| format!("?version={version}")).unwrap_or_default();
            self.answer(self.get(&format!("data/{}{query}", path.encoded()))?).await?.data(version)
        })
        .await
    }

    /// Whether the domain answers: KV2 `GET metadata?list=true`, for a page of the smallest size.
    ///
    /// A domain without secrets is fine. How it is told is not documented: an empty list and a not-found of the Secret Manager both count.
    pub async fn list_root(&self) -> Result<(), Error> {
        self.observed(Operation::List, async {
            let request = self.get("metadata?list=true")?.header("X-Pagination-Size", "10");
            self.answer(request).await?.list()
        })
        .await
    }

    async fn observed<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        let result = request.await;
        self.settings.observer.request(operation, Outcome::from(&result), start.elapsed());
        result
    }

    fn get(&self, path_and_query: &str) -> Result<RequestBuilder, Error> {
        Ok(self.connections()?.get(format!("{}/{path_and_query}", self.base)))
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Answer, Error> {
        let start = Instant::now();
        match request.send().await {
            Ok(response) => Answer::read(response).await,
            Err(error) => Err(self.explained(Error::transport(error, false), start).await),
        }
    }

    /// The error with what the server has to say of our certificate, should that be why the connection broke.
    async fn explained(&self, error: Error, start: Instant) -> Error {
        if !error.is_broken_connection() {
            return error;
        }
        let Settings { endpoint, tls, options, observer } = &self.settings;
        let limit = options.timeout.saturating_sub(start.elapsed());
        match second_look::listen(endpoint, tls, observer.as_ref(), limit).await {
            Some(problem) => error.because(problem),
            None => error,
        }
    }

    /// The connections in use, or new ones if those have become too old. Requests under way end on the connections they began on.
    fn connections(&self) -> Result<reqwest::Client, Error> {
        let mut current = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if current.opened.elapsed() >= self.settings.renewal() {
            *current = self.settings.open().map_err(|error| Error::transport(error, false))?;
        }
        Ok(current.client.clone())
    }
}

/// What connections are made with.
struct Settings {
    endpoint: Endpoint,
    tls: Arc<rustls::ClientConfig>,
    options: ClientOptions,
    observer: Arc<dyn Observer>,
}

struct Connections {
    client: reqwest::Client,
    opened: Instant,
}

impl Settings {
    fn open(&self) -> Result<Connections, reqwest::Error> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls::ClientConfig::clone(&self.tls))
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(USER_AGENT)
            .default_headers(HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]))
            .timeout(self.options.timeout)
            .connect_timeout(self.options.connect_timeout)
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(PING_AFTER)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .connector_layer(CountHandshakes(Arc::clone(&self.observer)))
            .build()?;
        Ok(Connections { client, opened: Instant::now() })
    }

    /// The age at which connections are left: early enough for the last request on them to end within their lifetime.
    fn renewal(&self) -> Duration {
        self.options.connection_lifetime.saturating_sub(self.options.timeout)
    }
}
