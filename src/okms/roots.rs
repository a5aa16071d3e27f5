//! Whose signature on a server certificate is trusted ([`Roots`]): the public roots, or the bundle of a CA's certificates.
//!
//! A bundle is read whole or not at all: a certificate that was left out would show as an outage on the day on which it is needed.

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::credential::unescaped;

/// Whose signature on the server certificate is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// The public roots that Mozilla trusts, as bundled with this build.
    #[default]
    Web,
    /// Exactly these CA certificates, in PEM, and no public root. Text between them is commentary, as OpenSSL prints it.
    Pem(Vec<u8>),
}

/// Why a CA bundle cannot be used. Each message says what to do and holds nothing of the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    #[error("the CA bundle holds no certificate: it must be PEM that begins with -----BEGIN CERTIFICATE-----")]
    Empty,
    #[error("the CA bundle is damaged: certificate number {0} in it cannot be read; replace it, or remove it")]
    Damaged(usize),
    #[error(
        "the CA bundle holds something else than certificates: leave only blocks that begin with -----BEGIN CERTIFICATE-----, and \
         text between them"
    )]
    OtherBlocks,
    #[error(
        "the CA bundle holds a private key, which does not belong there: remove it, and consider the key to be known to others"
    )]
    PrivateKey,
}

impl Roots {
    /// Whether there is something to trust.
    pub fn check(&self) -> Result<(), RootsError> {
        self.store().map(drop)
    }

    pub(super) fn store(&self) -> Result<RootCertStore, RootsError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::Web => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Self::Pem(text) => {
                add(&mut store, text)?;
                if store.is_empty() {
                    return Err(RootsError::Empty);
                }
            }
        }
        Ok(store)
    }
}

/// Adds the certificates of a bundle.
fn add(store: &mut RootCertStore, text: &[u8]) -> Result<(), RootsError> {
    // Asked of the text, since a key may be damaged or of a kind that has no name here, and is out of place all the same.
    if count(text, b"PRIVATE KEY-----") > 0 {
        return Err(RootsError::PrivateKey);
    }
    let text = unescaped(text);
    let mut number = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        number += 1;
        let certificate = certificate.map_err(|_| RootsError::Damaged(number))?;
        store.add(certificate).map_err(|_| RootsError::Damaged(number))?;
    }
    // The reader passes over blocks of other kinds.
    if number == count(&text, b"-----BEGIN ") { Ok(()) } else { Err(RootsError::OtherBlocks) }
}

fn count(text: &[u8], needle: &[u8]) -> usize {
    text.windows(needle.len()).filter(|window| *window == needle).count()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn authority() -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn length(text: &str) -> Result<usize, RootsError> {
        Roots::Pem(text.as_bytes().to_vec()).store().map(|store| store.len())
    }

    fn block(label: &str, content: &str) -> String {
        format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n")
    }

    #[test]
    fn the_public_roots_are_there() {
        assert!(Roots::Web.store().unwrap().len() > 50);
    }

    #[test]
    fn a_bundle_may_have_text_around_its_certificates() {
        let (one, other) = (authority(), authority());
        let text = format!("Certificate:\n    Data:\n        Version: 3 (0x2)\n{one}\n# the other\n\n{other} \n");
        assert_eq!(length(&text), Ok(2));
        assert_eq!(length(&text.replace('\n', "\r\n")), Ok(2));
        assert_eq!(length(&one.replace('\n', "\\n")), Ok(1), "as the OVHcloud API prints it inside of JSON");
    }

    #[test]
    fn a_bundle_without_certificates_is_none() {
        for text in ["", "\n", "some text", "MIIB"] {
            assert_eq!(length(text), Err(RootsError::Empty), "{text}");
        }
    }

    #[test]
    fn a_damaged_certificate_is_told_by_its_number() {
        let good = authority();
        for bad in [
            block("CERTIFICATE", "AAAA"),
            block("CERTIFICATE", "%%%"),
            block("CERTIFICATE", ""),
            "-----BEGIN CERTIFICATE-----\nAAAA\n".to_owned(),
            "-----BEGIN CERTIFICATE---\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        ] {
            assert_eq!(length(&bad), Err(RootsError::Damaged(1)), "{bad}");
            assert_eq!(length(&format!("{good}{good}{bad}")), Err(RootsError::Damaged(3)), "{bad}");
        }
        let unended = good.replace("-----END CERTIFICATE-----", "");
        assert_eq!(length(&format!("{unended}{good}")), Err(RootsError::Damaged(1)));
    }

    #[test]
    fn a_private_key_is_refused_wherever_it_stands() {
        let key = KeyPair::generate().unwrap().serialize_pem();
        for text in [key.clone(), format!("{}{key}", authority()), block("ENCRYPTED PRIVATE KEY", "%")] {
            assert_eq!(length(&text), Err(RootsError::PrivateKey));
        }
    }

    #[test]
    fn blocks_of_other_kinds_are_not_passed_over() {
        for label in ["TRUSTED CERTIFICATE", "CERTIFICATE REQUEST", "X509 CRL", "PUBLIC KEY"] {
            assert_eq!(length(&format!("{}{}", authority(), block(label, "AAAA"))), Err(RootsError::OtherBlocks));
        }
    }
}
