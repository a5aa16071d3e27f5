//! How HTTP is spoken with either server ([`Line`]): with time limits, and without redirects, proxies, retries and compression.
//!
//! What is asked, and what an answer means, is said elsewhere.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::{ClientOptions, Observer, handshakes::CountHandshakes};

const USER_AGENT: &str = concat!("okms-operator/", env!("CARGO_PKG_VERSION"));

/// How long an unused connection is kept: longer than the usual refresh interval of a minute, shorter than most servers would.
const IDLE: Duration = Duration::from_secs(90);

/// After half of the usual time limit without an answer, HTTP/2 is asked whether the other side is still there. So a dead connection
/// costs the requests on it, and no later ones.
const PING_AFTER: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections to one server, none of which becomes older than its lifetime.
pub(super) struct Line {
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) options: ClientOptions,
    pub(super) observer: Arc<dyn Observer>,
    current: Mutex<Connections>,
}

struct Connections {
    client: reqwest::Client,
    opened: Instant,
}

impl Line {
    pub(super) fn new(
        tls: rustls::ClientConfig,
        options: ClientOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, reqwest::Error> {
        let tls = Arc::new(tls);
        let current = Mutex::new(open(&tls, options, &observer)?);
        Ok(Self { tls, options, observer, current })
    }

    /// The connections in use, or new ones if those have become too old. Requests under way end on the connections they began on.
    pub(super) fn connections(&self) -> Result<reqwest::Client, reqwest::Error> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Early enough for the last request on them to end within their lifetime.
        if current.opened.elapsed() >= self.options.connection_lifetime.saturating_sub(self.options.timeout) {
            *current = open(&self.tls, self.options, &self.observer)?;
        }
        Ok(current.client.clone())
    }
}

fn open(
    tls: &Arc<rustls::ClientConfig>,
    options: ClientOptions,
    observer: &Arc<dyn Observer>,
) -> Result<Connections, reqwest::Error> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(rustls::ClientConfig::clone(tls))
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(USER_AGENT)
        .default_headers(HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]))
        .timeout(options.timeout)
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(IDLE)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .connector_layer(CountHandshakes(Arc::clone(observer)))
        .build()?;
    Ok(Connections { client, opened: Instant::now() })
}
