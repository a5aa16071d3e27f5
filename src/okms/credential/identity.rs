//! A client certificate and its key ([`Identity`]), from the files of a mounted folder or of a Kubernetes Secret.
//!
//! It says what the certificate tells about itself: the domain, the validity, the id under which OVHcloud knows it. It reads no
//! file and no clock, and whether OKMS accepts the certificate only OKMS can tell. The private key is never shown.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use x509_parser::{
    asn1_rs::{Any, FromDer, Tag},
    certificate::X509Certificate,
    extensions::GeneralName,
};
use zeroize::Zeroizing;

use super::{CredentialError, issued, pem, pkcs12};
use crate::model::OkmsId;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const PKCS12: &str = "client.p12";
const PASSWORD: &str = "password";
const ISSUED: &str = "credential.json";

/// Microsoft's user principal name, the kind of name under which an access certificate carries its domain.
const UPN: &str = "1.3.6.1.4.1.311.20.2.3";

/// A client certificate with its chain and its key.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    fingerprint: [u8; 32],
    domain: Bound,
    serial: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// What a certificate says about domains.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Bound {
    To(OkmsId),
    /// `okms.domain:*`.
    Any,
    Unsaid,
}

impl Identity {
    /// Parses the files of a credential, by name. Files of other names are left alone.
    ///
    /// PKCS#12 may take a second of work, as the file asks for it.
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, CredentialError> {
        let has = |name: &&'static str| files.contains_key(*name);
        let pem = [CERTIFICATE, KEY].into_iter().find(has);
        let forms: Vec<_> = pem.into_iter().chain([PKCS12, ISSUED].into_iter().filter(has)).collect();
        match forms.as_slice() {
            [] if has(&PASSWORD) => Err(CredentialError::Missing { has: PASSWORD, lacks: PKCS12 }),
            [] => Err(CredentialError::Nothing),
            [CERTIFICATE | KEY] => {
                let (chain, key) = (file(files, CERTIFICATE, KEY)?, file(files, KEY, CERTIFICATE)?);
                let (chain, key) = (pem::certificates(chain, CERTIFICATE)?, pem::private_key(key, KEY)?);
                Self::new(chain, &key, (CERTIFICATE, KEY))
            }
            [PKCS12] => {
                let content = file(files, PKCS12, PASSWORD)?;
                let password = files.get(PASSWORD).ok_or(CredentialError::NoPassword)?;
                Self::from_pkcs12(pkcs12::open(content, password)?)
            }
            [ISSUED] => {
                let (chain, key) = issued::parse(file(files, ISSUED, ISSUED)?)?;
                Self::new(chain, &key, issued::PLACES)
            }
            _ => Err(CredentialError::SeveralForms(forms)),
        }
    }

    /// The certificates of PKCS#12 have no order: the first is the one of the key, and what follows signed what is before it.
    fn from_pkcs12(content: pkcs12::Content) -> Result<Self, CredentialError> {
        let pkcs12::Content { key, mut certificates } = content;
        let key = Zeroizing::new(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec())));
        let signing = signing_key(&key, PKCS12)?;
        let own = |certificate: &CertificateDer<'_>| {
            let parsed = X509Certificate::from_der(certificate).ok();
            let public = signing.public_key();
            parsed.zip(public).is_some_and(|((_, parsed), public)| parsed.public_key().raw == public.as_ref())
        };
        let position = certificates.iter().position(own).ok_or(CredentialError::Pkcs12Mismatch)?;
        let mut chain = vec![certificates.swap_remove(position)];
        while let Some(position) = chain.last().and_then(|last| issuer(last, &certificates)) {
            chain.push(certificates.swap_remove(position));
        }
        Self::new(chain, &key, (PKCS12, PKCS12))
    }

    /// `places` are what a message calls the certificate and the key.
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
        places: (&'static str, &'static str),
    ) -> Result<Self, CredentialError> {
        let (certificate, key_place) = places;
        let leaf = chain.first().ok_or(CredentialError::NoCertificate(certificate))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CredentialError::BadCertificate(certificate))?;
        let domain = domain(&parsed);
        let serial = credential_id(parsed.raw_serial());
        let not_before = timestamp(parsed.validity().not_before.timestamp(), Timestamp::MIN);
        let not_after = timestamp(parsed.validity().not_after.timestamp(), Timestamp::MAX);

        let mut digest = Sha256::new();
        // DER tells its own length, so no two pairs of chain and key give the same bytes.
        for certificate in &chain {
            digest.update(certificate);
        }
        digest.update(key.secret_der());
        let fingerprint = digest.finalize().into();

        let certified = CertifiedKey::new(chain, signing_key(key, key_place)?);
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(CredentialError::KeyMismatch { key: key_place, certificate });
            }
            Err(_) => return Err(CredentialError::BadCertificate(certificate)),
        }
        Ok(Self { certified: Arc::new(certified), fingerprint, domain, serial, not_before, not_after })
    }

    /// The domain that the certificate is bound to, for a store that names none.
    pub fn domain(&self) -> Result<&OkmsId, CredentialError> {
        match &self.domain {
            Bound::To(id) => Ok(id),
            Bound::Any => Err(CredentialError::AnyDomain),
            Bound::Unsaid => Err(CredentialError::NoDomain),
        }
    }

    /// The domain that the certificate is bound to; absent for a certificate of several domains (`*`) or of another origin.
    pub fn okms_id(&self) -> Option<&OkmsId> {
        self.domain().ok()
    }

    /// The credential id, under which the control panel lists this certificate: its serial number written as a UUID
    /// (`f18b5e0d-75b8-40a3-9b0e-71ffe5ff03cb`). The serial number of a certificate of another origin may be longer than a UUID: then it
    /// is plain lower-case hex.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether the certificate is within its validity.
    pub fn validity(&self, now: Timestamp) -> Result<(), CredentialError> {
        if now < self.not_before {
            Err(CredentialError::NotYetValid)
        } else if now > self.not_after {
            Err(CredentialError::Expired)
        } else {
            Ok(())
        }
    }

    /// Whether the certificate may be used with this domain: it is bound to it, or to none in particular.
    pub fn belongs_to(&self, okms_id: &OkmsId) -> Result<(), CredentialError> {
        match &self.domain {
            Bound::To(own) if own != okms_id => Err(CredentialError::OtherDomain(own.clone())),
            _ => Ok(()),
        }
    }

    pub(in crate::okms) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// The same certificates and the same key.
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Identity {}

fn file<'a>(
    files: &'a BTreeMap<String, Vec<u8>>,
    name: &'static str,
    with: &'static str,
) -> Result<&'a [u8], CredentialError> {
    let content = files.get(name).ok_or(CredentialError::Missing { has: with, lacks: name })?;
    if content.trim_ascii().is_empty() { Err(CredentialError::Empty(name)) } else { Ok(content) }
}

fn signing_key(key: &PrivateKeyDer<'static>, place: &'static str) -> Result<Arc<dyn SigningKey>, CredentialError> {
    rustls::crypto::aws_lc_rs::sign::any_supported_type(key).map_err(|_| CredentialError::BadKey(place))
}

/// Which of these issued a certificate, by its name. None issued itself: a root is of no use to the other side.
fn issuer(certificate: &CertificateDer<'_>, among: &[CertificateDer<'_>]) -> Option<usize> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    among.iter().position(|other| {
        X509Certificate::from_der(other).is_ok_and(|(_, other)| {
            other.subject().as_raw() == certificate.issuer().as_raw()
                && other.subject().as_raw() != other.issuer().as_raw()
        })
    })
}

/// The domain of an access certificate: its UPN `okms.domain:<id>`, else its common name if that is a UUID (OVHcloud CLI 0.4.4 reads the
/// first, and takes `*` for any; the sample in the access certificate guide has both).
fn domain(certificate: &X509Certificate<'_>) -> Bound {
    let names = certificate.subject_alternative_name().ok().flatten();
    let mut upns = names.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
        GeneralName::OtherName(oid, value) if oid.to_id_string() == UPN => utf8_string(value),
        _ => None,
    });
    match upns.find_map(|upn| upn.strip_prefix("okms.domain:")) {
        Some("*") => Bound::Any,
        Some(id) => id.parse().map_or(Bound::Unsaid, Bound::To),
        None => {
            let id = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok()?.parse().ok());
            id.map_or(Bound::Unsaid, Bound::To)
        }
    }
}

/// The value of an other name: `[0] EXPLICIT UTF8String` (RFC 5280, 4.2.1.6).
fn utf8_string(value: &[u8]) -> Option<&str> {
    let (_, explicit) = Any::from_der(value).ok()?;
    let (_, inner) = Any::from_der(explicit.data).ok()?;
    (inner.tag() == Tag::Utf8String).then(|| std::str::from_utf8(inner.data).ok())?
}

fn credential_id(serial: &[u8]) -> String {
    let significant = serial.iter().position(|byte| *byte != 0).map_or(&[][..], |start| serial.split_at(start).1);
    let hex = significant.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    if hex.len() > 32 {
        return hex;
    }
    let mut id = format!("{hex:0>32}");
    for position in [20, 16, 12, 8] {
        id.insert(position, '-');
    }
    id
}

/// Certificates without an end carry the last second of the year 9999, which is beyond what a [`Timestamp`] holds.
fn timestamp(second: i64, otherwise: Timestamp) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls_pki_types::pem::PemObject;

    use super::*;

    /// The sample of the guide "OKMS access certificate management", whose signature the guide has overwritten and cut.
    const GUIDE: &str = "\
-----BEGIN CERTIFICATE-----\\nMIIBqTCCAVCgAwIBAgIRAPGLXg11uECjmw5x/+X/A8swCgYIKoZIzj0EAwIwFTET\\n\
MBEGA1UEAxMKQ0NNVXNlcnNDQTAeFw0yNDA0MDQxMDI2MjhaFw0yNTA0MDQxMDI2\\nMjhaMC8xLTArBgNVBAMTJGU5MGM1ODQxLWYzOWUtNDk4My04NTk2LTYyZmYwYzUz\\n\
OGI2YjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEXdXjMNGHQA/hPaEsphnOGw\\ni9ZnyZdBGcKDNsmv7ihRVRZxjJ3JICEusleqD4lE27DAAdzbRdqAhpCqsTks+sSj\\n\
ZzBlME4GA1UdEQEB/wREMEKgQAYKKwYBBAGCNxQCA6AyDDBva21zLmRvbWFpbjpl\\nOTBjNTg0MS1mMzllLTQ5ODMtODU5Ni02MmZmMGM1MzhiNmIwEwYDVR0lBAwwCgYI\\n\
KwYBBQUHAwIwCgYIKoZIzj0EAwIDRwAwRAIgdWGYm1UQMg0sTIgROFH5mWiAh/lk\\nDlyP5HhrWyFB9BICIDl5wtUWgCmo6TjOqXXXXXXXXXXXXXXXXXXXXXXXXXXX\\n-----END CERTIFICATE-----";

    #[test]
    fn the_sample_of_the_guide_names_its_domain_and_its_credential() {
        let der = CertificateDer::from_pem_slice(&pem::unescaped(GUIDE.as_bytes())).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(domain(&parsed), Bound::To("e90c5841-f39e-4983-8596-62ff0c538b6b".parse().unwrap()));
        assert_eq!(credential_id(parsed.raw_serial()), "f18b5e0d-75b8-40a3-9b0e-71ffe5ff03cb");
    }

    #[test]
    fn a_certificate_without_an_end_has_a_far_one() {
        assert_eq!(timestamp(253_402_300_799, Timestamp::MAX), Timestamp::MAX);
    }

    #[test]
    fn long_serial_numbers_stay_hex() {
        assert_eq!(credential_id(&[0x01; 17]), "01".repeat(17));
        assert_eq!(credential_id(&[]), "00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn certificates_without_an_order_become_a_chain_from_the_key_up() {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let (root, key) = (authority("root"), KeyPair::generate().unwrap());
        let root_certificate = root.self_signed(&key).unwrap();
        let root = Issuer::new(root, key);
        let (middle, key) = (authority("middle"), KeyPair::generate().unwrap());
        let middle_certificate = middle.signed_by(&key, &root).unwrap();
        let middle = Issuer::new(middle, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::default().signed_by(&key, &middle).unwrap();
        let certificates = [&root_certificate, &middle_certificate, &leaf].map(|it| it.der().clone());
        let content = pkcs12::Content { key: Zeroizing::new(key.serialize_der()), certificates: certificates.into() };
        let identity = Identity::from_pkcs12(content).unwrap();
        assert_eq!(identity.certified.cert, [leaf.der().clone(), middle_certificate.der().clone()]);
    }

    #[test]
    fn a_key_among_foreign_certificates_is_refused() {
        let key = KeyPair::generate().unwrap();
        let foreign = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap();
        let content =
            pkcs12::Content { key: Zeroizing::new(key.serialize_der()), certificates: vec![foreign.der().clone()] };
        assert_eq!(Identity::from_pkcs12(content).err(), Some(CredentialError::Pkcs12Mismatch));
    }
}
