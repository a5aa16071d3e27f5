//! Connections: a TCP stream that counts bytes and can end in a reset.
//!
//! Ending a connection from outside is done through its `Connection`; the task that serves it looks at nothing else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// One accepted connection.
#[derive(Default)]
pub struct Connection {
    ended: CancellationToken,
    reset: AtomicBool,
}

impl Connection {
    /// Ends the connection without another word.
    pub fn close(&self) {
        self.ended.cancel();
    }

    /// Ends the connection with a TCP reset.
    pub fn reset(&self) {
        self.reset.store(true, Ordering::Release);
        self.ended.cancel();
    }

    /// After a reset nothing passes any more, whatever the server still tries to send.
    fn alive(&self) -> io::Result<()> {
        if self.reset.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// Bytes of all connections.
#[derive(Default)]
pub struct Traffic {
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

impl Traffic {
    fn add(counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A TCP stream that counts, and resets on drop if its connection says so.
pub struct Socket {
    stream: TcpStream,
    connection: Arc<Connection>,
    traffic: Arc<Traffic>,
}

impl Socket {
    pub fn new(stream: TcpStream, connection: Arc<Connection>, traffic: Arc<Traffic>) -> Self {
        // Answers are small; without this each may wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
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
