//! TLS as OKMS does it: a client certificate is asked for, not required, and a wrong one ends the handshake.
//!
//! Which certificate the server itself shows is a switch. The chain and the validity are rustls's own work; on top come the domain and revocation. Sessions are never resumed,
//! because a resumed one would skip all of that. What an accepted certificate may do is decided per request, in
//! `exchange`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
};

use crate::pki::{Authority, Subject};
use crate::switches::{CertificateRefusal, ServerCertificate};
use crate::world::World;

/// The two configurations of one server: with and without HTTP/2.
pub(crate) struct ServerConfigs {
    pub(crate) with_http2: Arc<ServerConfig>,
    pub(crate) http1_only: Arc<ServerConfig>,
}

impl ServerConfigs {
    pub(crate) fn new(world: &Arc<World>, server: &Authority) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Arc::new(Verifier::new(world, &provider)?);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Shown::new(world, server)?));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1_only = Arc::new(config.clone());
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Self { with_http2: Arc::new(config), http1_only })
    }
}

/// The server's certificates, of which a switch says which is shown.
struct Shown {
    world: Arc<World>,
    certificates: BTreeMap<ServerCertificate, Arc<CertifiedKey>>,
}

impl Shown {
    fn new(world: &Arc<World>, server: &Authority) -> Result<Self> {
        let stranger = Authority::server()?;
        let mut certificates = BTreeMap::new();
        for kind in ServerCertificate::ALL {
            let authority = if kind == ServerCertificate::OtherAuthority { &stranger } else { server };
            let (certificate, key) = authority.issue_server(kind)?;
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
            certificates.insert(kind, Arc::new(CertifiedKey::new(vec![certificate], key)));
        }
        Ok(Self { world: Arc::clone(world), certificates })
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificates.get(&self.world.switches().server_certificate).cloned()
    }
}

struct Verifier {
    world: Arc<World>,
    chain: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    fn new(world: &Arc<World>, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(world.users_authority().der().clone())?;
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .allow_unauthenticated()
            .build()?;
        Ok(Self { world: Arc::clone(world), chain })
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.world.switches().certificate_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _real_time: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let subject = Subject::parse(certificate).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let now = self.world.clock.now().as_second();
        let refused_here = match self.world.switches().certificate_refusal {
            CertificateRefusal::Tls => true,
            CertificateRefusal::Forbidden => false,
        };
        // Where requests are to be refused instead, the chain is checked at a time at which the certificate is valid.
        let at = if refused_here { now } else { now.max(subject.not_before).min(subject.not_after) };
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(at).unwrap_or(0)));
        let verified = self.chain.verify_client_cert(certificate, intermediates, at).map_err(|error| match error {
            // A runbook saw the alert "bad certificate" for a certificate of another region; rustls says unknown CA.
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                CertificateError::NotValidForName.into()
            }
            other => other,
        })?;
        if refused_here {
            match self.world.certificate(&subject.serial) {
                None => return Err(CertificateError::NotValidForName.into()),
                Some((_, identity)) if identity.revoked => return Err(CertificateError::Revoked.into()),
                Some(_) => {}
            }
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
