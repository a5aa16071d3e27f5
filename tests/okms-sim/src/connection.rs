//! Connections: a TCP stream that counts bytes and can end in a reset, and the register of open ones.
//!
//! Ending a connection from outside is done through its `Connection`; the task that serves it looks at nothing else.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::pki::Subject;
use crate::world::locked;

/// One accepted connection.
#[derive(Default)]
pub(crate) struct Connection {
    ended: CancellationToken,
    reset: AtomicBool,
}

impl Connection {
    /// Ends the connection without another word.
    pub(crate) fn close(&self) {
        self.ended.cancel();
    }

    /// Ends the connection with a TCP reset.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
        self.ended.cancel();
    }

    /// After a reset nothing passes any more, whatever the server still tries to send.
    fn alive(&self) -> io::Result<()> {
        if self.reset.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// Bytes of all connections.
#[derive(Default)]
pub(crate) struct Traffic {
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

impl Traffic {
    fn add(counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

struct Open {
    connection: Arc<Connection>,
    serial: String,
}

/// The connections that have a client certificate, for revocation, and the traffic of all.
#[derive(Default)]
pub(crate) struct Connections {
    pub(crate) traffic: Arc<Traffic>,
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Open>>,
}

impl Connections {
    /// Registers a connection for as long as the returned guard lives.
    pub(crate) fn register(&self, connection: &Arc<Connection>, subject: &Subject) -> Registered<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let open = Open { connection: Arc::clone(connection), serial: subject.serial.clone() };
        locked(&self.open).insert(id, open);
        Registered { all: self, id }
    }

    /// Closes every connection of a certificate.
    pub(crate) fn close(&self, serial: &str) {
        for open in locked(&self.open).values() {
            if open.serial == serial {
                open.connection.close();
            }
        }
    }
}

pub(crate) struct Registered<'a> {
    all: &'a Connections,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        locked(&self.all.open).remove(&self.id);
    }
}

/// A TCP stream that counts, and resets on drop if its connection says so.
pub(crate) struct Socket {
    stream: TcpStream,
    connection: Arc<Connection>,
    traffic: Arc<Traffic>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, connection: Arc<Connection>, traffic: Arc<Traffic>) -> Self {
        Self { stream, connection, traffic }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.connection.alive().is_err() {
            // The one way this fails is a socket that is gone already, which the client sees as an end too.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.connection.alive()?;
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        Traffic::add(&self.traffic.bytes_in, buffer.filled().len() - before);
        poll
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.connection.alive()?;
        let poll = Pin::new(&mut self.stream).poll_write(context, buffer);
        if let Poll::Ready(Ok(written)) = &poll {
            Traffic::add(&self.traffic.bytes_out, *written);
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A shutdown would end the stream in order.
        self.connection.alive()?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
