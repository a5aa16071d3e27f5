//! Certificates and keys in PEM, as people paste them.
//!
//! It parses, and judges nothing: whether key and certificate belong together is `identity`'s business.

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::CredentialError;

/// All certificates of a PEM file, in their order. `place` is what a message calls the file.
pub(super) fn certificates(pem: &[u8], place: &'static str) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&unescaped(pem))
        .collect::<Result<_, _>>()
        .map_err(|_| CredentialError::BadCertificate(place))?;
    if chain.is_empty() { Err(CredentialError::NoCertificate(place)) } else { Ok(chain) }
}

/// The private key: SEC1 (as OVHcloud makes them), PKCS#8 or PKCS#1.
pub(super) fn private_key(
    pem: &[u8],
    place: &'static str,
) -> Result<Zeroizing<PrivateKeyDer<'static>>, CredentialError> {
    let pem = unescaped(pem);
    let contains = |needle: &[u8]| pem.windows(needle.len()).any(|window| window == needle);
    if contains(b"ENCRYPTED PRIVATE KEY-----") || contains(b"Proc-Type: 4,ENCRYPTED") {
        return Err(CredentialError::EncryptedKey(place));
    }
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Ok(Zeroizing::new(key)),
        Err(rustls_pki_types::pem::Error::NoItemsFound) => Err(CredentialError::NoKey(place)),
        Err(_) => Err(CredentialError::BadKey(place)),
    }
}

/// PEM with its lines apart. The OVHcloud API prints PEM inside JSON, so what people paste may have `\n` in two characters.
pub(in crate::okms) fn unescaped(pem: &[u8]) -> Zeroizing<Vec<u8>> {
    // As long as the input from the start, so that it never grows and leaves no copy of a key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(pem.len()));
    let mut rest = pem;
    while let Some((byte, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(br"\n") {
            text.push(b'\n');
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix(br"\r") {
            rest = tail;
        } else {
            text.push(*byte);
            rest = tail;
        }
    }
    text
}
