//! The proxy's handle: start, stop, faults, the log.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube::config::AuthInfo;
use kube::{Client, Config};
use loopback::{Connection, Port, Server, Socket, Traffic};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::exchange::exchange;
use crate::fault::{End, Fault, FaultId, Faults, Matching};
use crate::log::{Log, Record, RecordId};
use crate::tls::Tls;
use crate::watch::Watches;

/// A client that does not shake hands in this time is gone.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// What the exchanges share.
pub(crate) struct State {
    /// To the API server, for those that show a token: whose certificate the connection has would otherwise count first.
    pub(crate) for_tokens: Client,
    pub(crate) for_others: Client,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) log: Mutex<Log>,
    pub(crate) logged: Notify,
    pub(crate) watches: Arc<Watches>,
    traffic: Arc<Traffic>,
}

impl State {
    pub(crate) fn answered(&self, id: RecordId, status: StatusCode) {
        let now = Instant::now();
        self.change(id, |record| record.answered = Some((status.as_u16(), now)));
    }

    /// Changes a record, and wakes who waits for the log.
    pub(crate) fn change(&self, id: RecordId, change: impl FnOnce(&mut Record)) {
        locked(&self.log).change(id, change);
        self.logged.notify_waiters();
    }
}

/// A running proxy. It ends when it is dropped.
pub struct Proxy {
    state: Arc<State>,
    tls: Tls,
    port: Port,
    server: Mutex<Option<Server>>,
}

impl Proxy {
    /// Starts a proxy in front of an API server, on the tokio runtime of the caller. Whoever shows no token is who `upstream` is.
    pub async fn start(mut upstream: Config, seed: u64) -> Result<Self> {
        upstream.default_retry = false;
        let for_others = Client::try_from(upstream.clone()).context("making a client of the API server")?;
        upstream.auth_info = AuthInfo::default();
        let for_tokens = Client::try_from(upstream).context("making a client of the API server")?;
        let state = State {
            for_tokens,
            for_others,
            faults: Mutex::new(Faults::new(seed)),
            log: Mutex::default(),
            logged: Notify::new(),
            watches: Arc::default(),
            traffic: Arc::default(),
        };
        let port = Port::keep(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("binding a port")?;
        let tls = Tls::generate().context("making the proxy's certificate")?;
        let proxy = Self { state: Arc::new(state), tls, port, server: Mutex::new(None) };
        proxy.restart().await?;
        Ok(proxy)
    }

    /// `https://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("https://{}", self.port.address())
    }

    /// The authority of the proxy's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.tls.authority_pem
    }

    /// The same client's configuration, by way of the proxy.
    #[must_use]
    pub fn through(&self, mut config: Config) -> Config {
        config.cluster_url = self.url().parse().expect("an address with a port is a URL");
        config.root_cert = Some(vec![self.tls.authority.to_vec()]);
        config.root_cert_file = None;
        config.tls_server_name = None;
        config
    }

    /// A kubeconfig for whoever has this token; without one, for who the proxy itself is.
    pub fn kubeconfig_yaml(&self, token: Option<&str>) -> String {
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {
                "server": self.url(),
                "certificate-authority-data": BASE64_STANDARD.encode(self.ca_pem()),
            }}],
            "users": [{"name": "proxy", "user": {"token": token}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy", "namespace": "default"}}],
        });
        // JSON is YAML.
        kubeconfig.to_string()
    }

    /// Sets a fault; it stays until its count or its time is used up or it is cleared.
    pub fn fault(&self, fault: Fault) -> FaultId {
        locked(&self.state.faults).add(fault, Instant::now())
    }

    /// Clears one fault; `false` if it was gone already. Requests that hang hang on.
    pub fn clear_fault(&self, id: FaultId) -> bool {
        locked(&self.state.faults).remove(id)
    }

    pub fn clear_faults(&self) {
        locked(&self.state.faults).clear();
    }

    /// The faults that are set, with what is left of their counts.
    pub fn faults(&self) -> Vec<(FaultId, Fault)> {
        locked(&self.state.faults).list()
    }

    /// Resets the connections of open watches; answers how many there were.
    pub fn cut_watches(&self, matching: &Matching) -> usize {
        self.state.watches.end(matching, End::Cut)
    }

    /// Tells open watches that what they go on from is too old (410), and ends them; answers how many there were.
    pub fn expire_watches(&self, matching: &Matching) -> usize {
        self.state.watches.end(matching, End::Expired)
    }

    /// How many watches are open.
    pub fn open_watches(&self, matching: &Matching) -> usize {
        self.state.watches.count(matching)
    }

    /// Reads the log: the requests in the order of their arrival.
    pub fn log<T>(&self, read: impl FnOnce(&[Record]) -> T) -> T {
        read(locked(&self.state.log).records())
    }

    pub fn records(&self) -> Vec<Record> {
        self.log(<[Record]>::to_vec)
    }

    pub fn clear_log(&self) {
        locked(&self.state.log).clear();
    }

    /// Waits until the log meets a condition. It has no deadline of its own: wrap it in one.
    pub async fn wait_until(&self, mut condition: impl FnMut(&[Record]) -> bool) {
        loop {
            let logged = self.state.logged.notified();
            tokio::pin!(logged);
            // Registered before looking, so that no change falls between the two.
            logged.as_mut().enable();
            if self.log(&mut condition) {
                return;
            }
            logged.await;
        }
    }

    /// Ends the listener and all connections; connecting is refused until [`Proxy::restart`]. The port stays ours.
    pub async fn stop(&self) {
        let server = locked(&self.server).take();
        if let Some(server) = server {
            server.stop().await;
        }
    }

    /// Listens again on the same port. Ends what ran before.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await;
        let listener = self.port.listen().with_context(|| format!("listening on {}", self.port.address()))?;
        let (state, tls) = (Arc::clone(&self.state), TlsAcceptor::from(Arc::clone(&self.tls.server)));
        let server = Server::start(listener, move |stream| serve(Arc::clone(&state), tls.clone(), stream));
        *locked(&self.server) = Some(server);
        Ok(())
    }
}

async fn serve(state: Arc<State>, tls: TlsAcceptor, stream: TcpStream) {
    let connection = Arc::new(Connection::default());
    let socket = Socket::new(stream, Arc::clone(&connection), Arc::clone(&state.traffic));
    let stream = match timeout(HANDSHAKE_DEADLINE, tls.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a handshake failed"),
        Err(_) => return,
    };
    let service = service_fn(|request| exchange(Arc::clone(&state), Arc::clone(&connection), request));
    let builder = auto::Builder::new(TokioExecutor::new());
    tokio::select! {
        biased; // Nothing is answered after the end.
        () = connection.ended() => {}
        served = builder.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = served {
                tracing::debug!(error, "a connection ended");
            }
        }
    }
}

/// A lock whose holder panicked is taken over: every change to what it guards is complete in one step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
