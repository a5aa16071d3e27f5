//! A port that is kept, and a server that accepts on it until it is stopped or dropped.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long to wait when the process cannot accept, which means that it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const BACKLOG: u32 = 1024;

/// A port kept for one server, also while nothing listens on it.
pub struct Port {
    address: SocketAddr,
    /// Bound and not listening: connections are refused, and nobody else is given the port.
    _kept: TcpSocket,
}

impl Port {
    /// Port 0 takes a free one.
    pub fn keep(address: SocketAddr) -> io::Result<Self> {
        let kept = bound(address)?;
        Ok(Self { address: kept.local_addr()?, _kept: kept })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn listen(&self) -> io::Result<TcpListener> {
        bound(self.address)?.listen(BACKLOG)
    }
}

/// A socket that shares its port with others of this process.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A server that runs until it is stopped or dropped.
pub struct Server {
    stopped: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Has every connection served by a task of its own, on the tokio runtime of the caller.
    pub fn start<F, S>(listener: TcpListener, serve: F) -> Self
    where
        F: Fn(TcpStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let server = Self { stopped: CancellationToken::new(), tasks: TaskTracker::new() };
        server.tasks.spawn(accept(listener, serve, server.stopped.clone(), server.tasks.clone()));
        server
    }

    /// Closes the listener and every connection, and returns when that is done.
    pub async fn stop(self) {
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

async fn accept<F, S>(listener: TcpListener, serve: F, stopped: CancellationToken, tasks: TaskTracker)
where
    F: Fn(TcpStream) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            () = stopped.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let served = serve(stream);
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
