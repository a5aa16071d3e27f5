//! Finds out whether a connection broke because the server does not accept the client certificate.
//!
//! With TLS 1.3 the client's side of the handshake is over before the server has seen the certificate. A refusal then arrives as an alert
//! on a connection that is in use already, where it is easily lost: a server that hangs up at once resets the connection before the alert is
//! read, and HTTP/2 forgets what kind of error ended a connection. So a broken connection gets a second look: another one that says
//! nothing and only listens, on which an alert cannot be lost.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{Endpoint, Observer, error::causes, tls::TlsProblem};

/// How long an alert may take after the handshake: a round trip and the check of a certificate, each several times over. Most
/// servers that accept the certificate speak first with HTTP/2; with HTTP/1.1 they are silent, and this is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// The problem that a server tells of a connection on which nothing is said; `None` if it tells none.
pub(super) async fn listen(
    endpoint: &Endpoint,
    config: &Arc<ClientConfig>,
    observer: &dyn Observer,
    limit: Duration,
) -> Option<TlsProblem> {
    let heard = async {
        let name = endpoint.server_name();
        let stream = TcpStream::connect((name.to_str().as_ref(), endpoint.port())).await?;
        let mut stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await?;
        observer.handshake();
        match timeout(PATIENCE, stream.read(&mut [0])).await {
            Ok(heard) => heard.map(drop),
            Err(_silence) => Ok(()),
        }
    };
    let error = timeout(limit, heard).await.ok()?.err()?;
    causes(&error).find_map(TlsProblem::of)
}
