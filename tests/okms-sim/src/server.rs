//! The data plane's server: shakes hands, serves HTTP/1.1 and HTTP/2.
//!
//! What a request means is `exchange`'s business.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use loopback::{Connection, Server, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::exchange::{Peer, exchange};
use crate::pki::Subject;
use crate::tls::ServerConfigs;
use crate::world::World;

/// A client that does not shake hands in this time is gone.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a refused client may take to read why.
const ALERT_DEADLINE: Duration = Duration::from_secs(1);

/// Serves on a listener until the returned server is stopped or dropped.
pub(crate) fn start(world: &Arc<World>, tls: &Arc<ServerConfigs>, listener: TcpListener) -> Server {
    let (world, tls) = (Arc::clone(world), Arc::clone(tls));
    Server::start(listener, move |stream| {
        world.count(|counters| counters.connections += 1);
        serve(Arc::clone(&world), Arc::clone(&tls), stream)
    })
}

async fn serve(world: Arc<World>, tls: Arc<ServerConfigs>, stream: TcpStream) {
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
