//! The data plane's server: accepts connections, shakes hands, serves HTTP/1.1 and HTTP/2.
//!
//! Ends its connections when it is stopped or dropped. What a request means is `exchange`'s business.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, Socket};
use crate::exchange::{Peer, exchange};
use crate::pki::Subject;
use crate::tls::ServerConfigs;
use crate::world::World;

/// A client that does not shake hands in this time is gone.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a refused client may take to read why.
const ALERT_DEADLINE: Duration = Duration::from_secs(1);

/// How long to wait when the process cannot accept, which means that it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const BACKLOG: u32 = 1024;

/// A port kept for this simulator, also while nothing listens on it.
pub(crate) struct Port {
    address: SocketAddr,
    /// Bound and not listening: connections are refused, and nobody else is given the port.
    _kept: TcpSocket,
}

impl Port {
    pub(crate) fn keep(address: SocketAddr) -> io::Result<Self> {
        let kept = bound(address)?;
        Ok(Self { address: kept.local_addr()?, _kept: kept })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        bound(self.address)?.listen(BACKLOG)
    }
}

/// A socket that shares its port with others of this simulator.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A server that runs until it is stopped or dropped.
pub(crate) struct Server {
    stopped: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    pub(crate) fn start(world: &Arc<World>, tls: &Arc<ServerConfigs>, listener: TcpListener) -> Self {
        let server = Self { stopped: CancellationToken::new(), tasks: TaskTracker::new() };
        let accepting =
            accept(Arc::clone(world), Arc::clone(tls), listener, server.stopped.clone(), server.tasks.clone());
        server.tasks.spawn(accepting);
        server
    }

    /// Closes the listener and every connection, and returns when that is done.
    pub(crate) async fn stop(self) {
        self.stopped.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}

async fn accept(
    world: Arc<World>,
    tls: Arc<ServerConfigs>,
    listener: TcpListener,
    stopped: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stopped.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                world.count(|counters| counters.connections += 1);
                let served = serve(Arc::clone(&world), Arc::clone(&tls), stream);
                let stopped = stopped.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        biased; // Nothing is answered after the end.
                        () = stopped.cancelled() => {}
                        () = served => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(world: Arc<World>, tls: Arc<ServerConfigs>, stream: TcpStream) {
    // Answers are small; without this each may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let connection = Arc::new(Connection::default());
    let traffic = Arc::clone(&world.connections.traffic);
    let socket = Socket::new(stream, Arc::clone(&connection), traffic);
    let config = if world.switches().http2 { &tls.with_http2 } else { &tls.http1_only };
    let shaking = TlsAcceptor::from(Arc::clone(config)).accept(socket).into_fallible();
    let stream = match timeout(HANDSHAKE_DEADLINE, shaking).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, socket))) => {
            world.count(|counters| counters.handshakes_refused += 1);
            tracing::debug!(%error, "refused a handshake");
            let _ = timeout(ALERT_DEADLINE, part(socket)).await;
            return;
        }
        Err(_) => {
            world.count(|counters| counters.handshakes_refused += 1);
            return;
        }
    };
    world.count(|counters| counters.handshakes += 1);
    let subject = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(|certificate| Subject::parse(certificate).ok());
    let peer = Arc::new(Peer { subject, connection });
    let _registered = peer.subject.as_ref().map(|subject| world.connections.register(&peer.connection, subject));
    let service = service_fn(|request| exchange(Arc::clone(&world), Arc::clone(&peer), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // A switch says what the date is.
    builder.http1().auto_date_header(false);
    builder.http2().auto_date_header(false);
    tokio::select! {
        biased; // Nothing is answered after the end.
        () = peer.connection.ended() => {}
        served = builder.serve_connection(TokioIo::new(stream), service) => {
            if let Err(error) = served {
                tracing::debug!(error, "a connection ended");
            }
        }
    }
}

/// Lets the client read the alert: closing a socket with unread input would reset it.
async fn part(mut socket: Socket) -> io::Result<()> {
    socket.shutdown().await?;
    let mut unread = [0; 1024];
    while socket.read(&mut unread).await? > 0 {}
    Ok(())
}
