//! A client certificate and its key ([`Identity`]), parsed from the files of a mounted folder or of a Kubernetes Secret.
//!
//! It says what the certificate tells about itself: the domain, the validity, the id under which OVHcloud knows it. It reads no
//! file and no clock, and whether OKMS accepts the certificate only OKMS can tell. The private key is never shown.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};
use x509_parser::{
    asn1_rs::{Any, FromDer, Tag},
    certificate::X509Certificate,
    extensions::GeneralName,
};
use zeroize::Zeroizing;

use crate::model::OkmsId;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const PKCS12: &str = "client.p12";
const ISSUED: &str = "credential.json";

/// Microsoft's user principal name, the kind of name under which an access certificate carries its domain.
const UPN: &str = "1.3.6.1.4.1.311.20.2.3";

/// Why a credential cannot be used. Each message says what to do and holds nothing of the credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("the credential has no {CERTIFICATE} and no {KEY}: provide both, in PEM")]
    Nothing,
    #[error("the credential has several forms at once ({}): keep one of them", .0.join(", "))]
    SeveralForms(Vec<&'static str>),
    #[error("the credential is given as {0}, which is not supported yet: provide {CERTIFICATE} and {KEY}")]
    Unsupported(&'static str),
    #[error("the credential has no {0}: provide both {CERTIFICATE} and {KEY}, in PEM")]
    Missing(&'static str),
    #[error("{0} is empty: provide both {CERTIFICATE} and {KEY}, in PEM")]
    Empty(&'static str),
    #[error("{CERTIFICATE} holds no certificate in PEM: it must begin with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    #[error("{CERTIFICATE} is damaged: a certificate in it cannot be read")]
    BadCertificate,
    #[error("{KEY} holds no private key in PEM: it must begin with -----BEGIN … PRIVATE KEY-----")]
    NoKey,
    #[error("{KEY} is encrypted: provide it decrypted, as `openssl pkey -in {KEY} -out decrypted.key` writes it")]
    EncryptedKey,
    #[error("{KEY} is damaged, or of a kind that TLS does not use: provide the EC or RSA key of the certificate")]
    BadKey,
    #[error(
        "{KEY} is not the key of the first certificate in {CERTIFICATE}: provide the two that were issued together"
    )]
    KeyMismatch,
    #[error("the client certificate has expired: create a new access certificate and replace it")]
    Expired,
    #[error("the client certificate is not valid yet: check the clock of the node, or wait")]
    NotYetValid,
    #[error("the client certificate is of OKMS domain {0}: provide one of the domain in okmsId")]
    OtherDomain(OkmsId),
}

/// A client certificate with its chain and its key.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    fingerprint: [u8; 32],
    okms_id: Option<OkmsId>,
    serial: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Identity {
    /// Parses the files of a credential, by name. Files of other names are left alone.
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, CredentialError> {
        let has = |name: &&'static str| files.contains_key(*name);
        let pem = [CERTIFICATE, KEY].into_iter().find(has);
        let forms: Vec<_> = pem.into_iter().chain([PKCS12, ISSUED].into_iter().filter(has)).collect();
        match forms.as_slice() {
            [] => Err(CredentialError::Nothing),
            [CERTIFICATE | KEY] => Self::from_pem(file(files, CERTIFICATE)?, file(files, KEY)?),
            [other] => Err(CredentialError::Unsupported(other)),
            _ => Err(CredentialError::SeveralForms(forms)),
        }
    }

    fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, CredentialError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&unescaped(certificate))
            .collect::<Result<_, _>>()
            .map_err(|_| CredentialError::BadCertificate)?;
        let leaf = chain.first().ok_or(CredentialError::NoCertificate)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CredentialError::BadCertificate)?;
        let okms_id = domain(&parsed);
        let serial = credential_id(parsed.raw_serial());
        let not_before = timestamp(parsed.validity().not_before.timestamp(), Timestamp::MIN);
        let not_after = timestamp(parsed.validity().not_after.timestamp(), Timestamp::MAX);

        let key = private_key(&unescaped(key))?;
        let mut digest = Sha256::new();
        // DER tells its own length, so no two pairs of chain and key give the same bytes.
        for certificate in &chain {
            digest.update(certificate);
        }
        digest.update(key.secret_der());
        let fingerprint = digest.finalize().into();

        let certified = CertifiedKey::new(chain, signing_key(&key)?);
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(CredentialError::KeyMismatch),
            Err(_) => return Err(CredentialError::BadCertificate),
        }
        Ok(Self { certified: Arc::new(certified), fingerprint, okms_id, serial, not_before, not_after })
    }

    /// The domain that the certificate is bound to; absent for a certificate of several domains (`*`) or of another origin.
    pub fn okms_id(&self) -> Option<&OkmsId> {
        self.okms_id.as_ref()
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
        match &self.okms_id {
            Some(own) if own != okms_id => Err(CredentialError::OtherDomain(own.clone())),
            _ => Ok(()),
        }
    }

    pub(super) fn certified_key(&self) -> Arc<CertifiedKey> {
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

fn file<'a>(files: &'a BTreeMap<String, Vec<u8>>, name: &'static str) -> Result<&'a [u8], CredentialError> {
    let content = files.get(name).ok_or(CredentialError::Missing(name))?;
    if content.trim_ascii().is_empty() { Err(CredentialError::Empty(name)) } else { Ok(content) }
}

/// PEM with its lines apart. The OVHcloud API prints PEM inside JSON, so what people paste may have `\n` in two characters.
fn unescaped(pem: &[u8]) -> Zeroizing<Vec<u8>> {
    // As long as the input from the start, so that it never grows and leaves no copy of a key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(pem.len()));
    let mut rest = pem;
    while let Some((byte, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(br"\n") {
            text.push(b'\n');
            rest = tail;
        } else {
            text.push(*byte);
            rest = tail;
        }
    }
    text
}

/// SEC1 (as OVHcloud makes them), PKCS#8 or PKCS#1.
fn private_key(pem: &[u8]) -> Result<Zeroizing<PrivateKeyDer<'static>>, CredentialError> {
    let contains = |needle: &[u8]| pem.windows(needle.len()).any(|window| window == needle);
    if contains(b"ENCRYPTED PRIVATE KEY-----") || contains(b"Proc-Type: 4,ENCRYPTED") {
        return Err(CredentialError::EncryptedKey);
    }
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(Zeroizing::new(key)),
        Err(rustls_pki_types::pem::Error::NoItemsFound) => Err(CredentialError::NoKey),
        Err(_) => Err(CredentialError::BadKey),
    }
}

fn signing_key(key: &PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, CredentialError> {
    rustls::crypto::aws_lc_rs::sign::any_supported_type(key).map_err(|_| CredentialError::BadKey)
}

/// The domain of an access certificate: its UPN `okms.domain:<id>`, else its common name if that is a UUID (OVHcloud CLI 0.4.4 reads the
/// first; the sample in the access certificate guide has both).
fn domain(certificate: &X509Certificate<'_>) -> Option<OkmsId> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let mut upns = names.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
        GeneralName::OtherName(oid, value) if oid.to_id_string() == UPN => utf8_string(value),
        _ => None,
    });
    if let Some(id) = upns.find_map(|upn| upn.strip_prefix("okms.domain:")) {
        return id.parse().ok();
    }
    certificate.subject().iter_common_name().find_map(|name| name.as_str().ok()?.parse().ok())
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
mod tests;
