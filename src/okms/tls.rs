//! TLS: who we are, whom we trust, and what it means when one side does not trust the other ([`TlsProblem`]).
//!
//! The cryptography is named here, so nothing depends on a default of the process. Sessions are never resumed: each connection shows
//! the certificates anew, so that a revoked one is noticed when its connection ends.

use std::{error::Error as StdError, fmt, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, PeerIncompatible,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    sign::SingleCertAndKey,
};

use super::{Identity, Roots, client::BuildError, error::Server};

/// The settings of every connection of one client: TLS 1.2 or newer, HTTP/2 preferred. Without an identity no certificate is shown.
pub(super) fn config(roots: &Roots, identity: Option<&Identity>) -> Result<ClientConfig, BuildError> {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(BuildError::Tls)?
        .with_root_certificates(roots.store()?);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What stands between the two sides. Each message says what to do; `Display` tells it of OKMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsProblem {
    ServerUnknownCa,
    ServerNameMismatch,
    ServerExpired,
    ServerNotYetValid,
    /// It is none for a server, or cannot be read.
    ServerUnfit,
    /// The server has no certificate for this name and says so before it shows one.
    NameUnknown,
    ClientExpired,
    ClientRevoked,
    /// Of a CA that the other side does not know.
    ClientUnknown,
    /// Refused without a better reason: OKMS says so of a certificate of another region.
    ClientBad,
    /// One is asked for, and none was shown.
    ClientRequired,
    /// No version of TLS that both sides take.
    Version,
    /// Nothing else that both sides take.
    Parameters,
    NotTls,
    Other,
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Server::Okms)
    }
}

impl TlsProblem {
    /// The sentence of this problem with one of the servers.
    pub(super) fn write(self, f: &mut fmt::Formatter<'_>, server: Server) -> fmt::Result {
        let place = server.place();
        // Which server's certificate it is goes without saying for OKMS.
        let (of, ca) = match server {
            Server::Okms => ("", "ca"),
            Server::TokenEndpoint => (" of the token endpoint", "the ca of auth.oauth2"),
        };
        match self {
            Self::ServerUnknownCa => write!(
                f,
                "the server certificate{of} is not signed by a trusted CA: put the CA of {place} into {ca}, or remove {ca} if its \
                 certificate is public"
            ),
            Self::ServerNameMismatch => {
                write!(f, "the server certificate{of} is for another host name: check the address of {place}")
            }
            Self::ServerExpired => write!(
                f,
                "the server certificate{of} has expired: check the clock of the node, then ask the owner of {place} to renew it"
            ),
            Self::ServerNotYetValid => {
                write!(f, "the server certificate{of} is not valid yet: check the clock of the node")
            }
            Self::ServerUnfit => write!(
                f,
                "the server certificate{of} is damaged, or not made for a server: ask the owner of {place} to replace it"
            ),
            Self::NameUnknown => {
                write!(f, "the server does not know the host name of {place}: check the address of {place}")
            }
            Self::ClientExpired => f.write_str(
                "the client certificate is refused as expired: check the clock of the node, then create a new access certificate \
                 and replace it",
            ),
            Self::ClientRevoked => f.write_str(
                "the client certificate is refused as revoked: create a new access certificate and replace it",
            ),
            Self::ClientUnknown => f.write_str(
                "the client certificate is refused as one of an unknown CA: provide an access certificate that OVHcloud issued",
            ),
            Self::ClientBad => f.write_str(
                "the client certificate is refused: check that it is an access certificate of this OKMS domain and region",
            ),
            Self::ClientRequired => write!(
                f,
                "{place} asks for a client certificate and got none: use one in auth.clientCertificate, or check the address of {place}"
            ),
            Self::Version => write!(
                f,
                "{place} speaks no version of TLS that is safe: TLS 1.2 or 1.3 is needed; check what stands between it and the cluster"
            ),
            Self::Parameters => write!(
                f,
                "{place} has no way of encryption in common with the operator: check what stands between it and the cluster"
            ),
            Self::NotTls => write!(
                f,
                "{place} does not speak TLS: check its port, and what stands between it and the cluster"
            ),
            Self::Other => write!(f, "the TLS handshake with {place} fails: check that its address is the right one"),
        }
    }

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
                _ => Self::ServerUnfit,
            },
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Self::Version,
            rustls::Error::PeerIncompatible(_) => Self::Parameters,
            _ => Self::Other,
        }
    }

    /// An alert that a server sends about a certificate can only be about ours. A server that wants one and got none says so with TLS
    /// 1.3; with TLS 1.2 it says only that there is no agreement.
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateExpired => Self::ClientExpired,
            AlertDescription::CertificateRevoked => Self::ClientRevoked,
            AlertDescription::UnknownCA => Self::ClientUnknown,
            AlertDescription::CertificateRequired => Self::ClientRequired,
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => Self::ClientBad,
            AlertDescription::ProtocolVersion => Self::Version,
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Self::Parameters,
            AlertDescription::UnrecognisedName => Self::NameUnknown,
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
            (AlertDescription::BadCertificate, TlsProblem::ClientBad),
            (AlertDescription::CertificateExpired, TlsProblem::ClientExpired),
            (AlertDescription::CertificateRevoked, TlsProblem::ClientRevoked),
            (AlertDescription::UnknownCA, TlsProblem::ClientUnknown),
            (AlertDescription::AccessDenied, TlsProblem::ClientBad),
            (AlertDescription::CertificateRequired, TlsProblem::ClientRequired),
        ] {
            assert_eq!(TlsProblem::of(&rustls::Error::AlertReceived(alert)), Some(problem));
        }
    }

    #[test]
    fn an_error_that_is_not_of_tls_says_nothing_about_tls() {
        assert_eq!(TlsProblem::of(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }

    #[test]
    fn what_is_not_about_certificates_has_its_problems_too() {
        use rustls::{Error, InvalidMessage, PeerIncompatible};
        for (error, problem) in [
            (Error::AlertReceived(AlertDescription::ProtocolVersion), TlsProblem::Version),
            (PeerIncompatible::ServerDoesNotSupportTls12Or13.into(), TlsProblem::Version),
            (PeerIncompatible::NoCipherSuitesInCommon.into(), TlsProblem::Parameters),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), TlsProblem::Parameters),
            (Error::AlertReceived(AlertDescription::UnrecognisedName), TlsProblem::NameUnknown),
            (InvalidMessage::InvalidContentType.into(), TlsProblem::NotTls),
            (CertificateError::InvalidPurpose.into(), TlsProblem::ServerUnfit),
            (CertificateError::BadEncoding.into(), TlsProblem::ServerUnfit),
            (Error::DecryptError, TlsProblem::Other),
        ] {
            assert_eq!(TlsProblem::of(&error), Some(problem), "{error}");
        }
    }
}
