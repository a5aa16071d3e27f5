//! TLS to OKMS: whom we trust ([`Roots`]), who we are, and what it means when one side does not trust the other ([`TlsProblem`]).
//!
//! The cryptography is named here, so nothing depends on a default of the process. Sessions are never resumed: each connection shows
//! the certificates anew, so that a revoked one is noticed when its connection ends.

use std::{error::Error as StdError, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    sign::SingleCertAndKey,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{Identity, client::BuildError};

/// Whose signature on the server certificate is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// The public roots that Mozilla trusts, as bundled with this build.
    #[default]
    Web,
    /// Exactly these CA certificates, in PEM, and no public root.
    Pem(Vec<u8>),
}

impl Roots {
    fn store(&self) -> Result<RootCertStore, BuildError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::Web => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Self::Pem(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|_| BuildError::MalformedCa)?;
                    store.add(certificate).map_err(|_| BuildError::MalformedCa)?;
                }
                if store.is_empty() {
                    return Err(BuildError::EmptyCa);
                }
            }
        }
        Ok(store)
    }
}

/// The settings of every connection of one client: TLS 1.2 or newer, HTTP/2 preferred.
pub(super) fn config(roots: &Roots, identity: &Identity) -> Result<ClientConfig, BuildError> {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(BuildError::Tls)?
        .with_root_certificates(roots.store()?)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What stands between the two sides. Each message says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TlsProblem {
    #[error(
        "the server certificate is not signed by a trusted CA: put the CA of the endpoint into ca, or remove ca if its certificate is public"
    )]
    ServerUnknownCa,
    #[error("the server certificate is for another host name: check the endpoint")]
    ServerNameMismatch,
    #[error(
        "the server certificate has expired: check the clock of the node, then ask the owner of the endpoint to renew it"
    )]
    ServerExpired,
    #[error("the server certificate is not valid yet: check the clock of the node")]
    ServerNotYetValid,
    #[error("the client certificate is refused as expired: create a new access certificate and replace it")]
    ClientExpired,
    #[error("the client certificate is refused as revoked: create a new access certificate and replace it")]
    ClientRevoked,
    #[error("the client certificate is refused: check that it is an access certificate of this OKMS domain and region")]
    ClientRefused,
    #[error("the TLS handshake fails: check that the endpoint is the address of an OKMS REST endpoint")]
    Other,
}

impl TlsProblem {
    /// What one error of a chain tells, if it is of TLS at all.
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        error.downcast_ref().map(Self::of_rustls)
    }

    fn of_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                // The latter: the right issuer's name with another key, as after the CA was made again.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::ServerUnknownCa,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::ServerNameMismatch
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::ServerExpired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::ServerNotYetValid,
                _ => Self::Other,
            },
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            _ => Self::Other,
        }
    }

    /// An alert that a server sends about a certificate can only be about ours.
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateExpired => Self::ClientExpired,
            AlertDescription::CertificateRevoked => Self::ClientRevoked,
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired => Self::ClientRefused,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn alerts_about_the_client_certificate_have_their_problems() {
        for (alert, problem) in [
            (AlertDescription::BadCertificate, TlsProblem::ClientRefused),
            (AlertDescription::CertificateExpired, TlsProblem::ClientExpired),
            (AlertDescription::CertificateRevoked, TlsProblem::ClientRevoked),
            (AlertDescription::UnknownCA, TlsProblem::ClientRefused),
            (AlertDescription::AccessDenied, TlsProblem::ClientRefused),
        ] {
            assert_eq!(TlsProblem::of(&rustls::Error::AlertReceived(alert)), Some(problem));
        }
    }

    #[test]
    fn an_error_that_is_not_of_tls_says_nothing_about_tls() {
        assert_eq!(TlsProblem::of(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }

    #[test]
    fn a_ca_bundle_holds_a_certificate_or_is_refused() {
        let store = |pem: &[u8]| Roots::Pem(pem.to_vec()).store();
        assert!(matches!(store(b""), Err(BuildError::EmptyCa)));
        assert!(matches!(store(b"some text"), Err(BuildError::EmptyCa)));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(store(broken), Err(BuildError::MalformedCa)));
        assert!(!Roots::Web.store().unwrap().is_empty());
    }
}
