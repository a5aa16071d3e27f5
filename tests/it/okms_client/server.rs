//! Servers that are not OKMS: each answers its first connections with fixed bytes and hangs up.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, LazyLock, Mutex},
    thread,
};

use okms_operator::okms::Roots;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { pem, issuer: Issuer::new(params, key) }
});

/// The authority of these servers' certificates.
pub(super) fn roots() -> Roots {
    Roots::Pem(AUTHORITY.pem.clone().into_bytes())
}

/// A certificate for the address that these servers listen on.
pub(super) fn valid() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
    params
}

/// A server without TLS that says these bytes.
pub(super) fn plain(says: &'static [u8]) -> SocketAddr {
    serve(move |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(says);
    })
}

/// The kinds of the handshakes that a server had.
pub(super) type Kinds = Arc<Mutex<Vec<HandshakeKind>>>;

/// A server with this certificate that says these bytes.
pub(super) fn tls(certificate: &CertificateParams, says: &'static [u8]) -> SocketAddr {
    tls_watched(certificate, says).0
}

/// The same, telling of its handshakes. It lets clients resume a session.
pub(super) fn tls_watched(certificate: &CertificateParams, says: &'static [u8]) -> (SocketAddr, Kinds) {
    let kinds = Kinds::default();
    let told = Arc::clone(&kinds);
    let key = KeyPair::generate().unwrap();
    let certificate = certificate.signed_by(&key, &AUTHORITY.issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let address = serve(move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
        // A client that does not trust the certificate ends this; then nobody listens to the rest.
        let _ = stream.read(&mut [0; 1024]);
        told.lock().unwrap().extend(stream.conn.handshake_kind());
        let _ = stream.write_all(says);
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    (address, kinds)
}

/// A server that knows no client, says so, and hangs up at once, with whatever the client said meanwhile unread.
pub(super) fn refusing(alpn: &[u8], version: &'static SupportedProtocolVersion) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let certificate = valid().signed_by(&key, &AUTHORITY.issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut known = RootCertStore::empty();
    known.add(CertificateDer::from_pem_slice(AUTHORITY.pem.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(known), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = Arc::new(config);
    serve(move |mut stream| {
        let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let refused = connection.complete_io(&mut stream);
        assert!(refused.is_err(), "a client of another authority is let in");
        while connection.wants_write() && connection.write_tls(&mut stream).is_ok() {}
    })
}

/// Serves the connections of one test: few, one after the other. The thread ends with the process.
fn serve(answer: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
    address
}
