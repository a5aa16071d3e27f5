//! The access certificate as the OVHcloud API answers it, stored as it came (`credential.json`).
//!
//! Only three of its fields are looked at besides the status; none of its text gets into a message.

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{CredentialError, pem};
use crate::okms::json_text;

const CERTIFICATE: &str = "certificatePEM of credential.json";
const KEY: &str = "privateKeyPEM of credential.json";

/// The names by which a message calls the two.
pub(super) const PLACES: (&str, &str) = (CERTIFICATE, KEY);

/// The answer to the creation of an access certificate (`okms.CredentialCreation` of the OVHcloud API).
#[derive(Deserialize)]
struct Issued<'a> {
    #[serde(borrow, rename = "certificatePEM")]
    certificate: Option<&'a RawValue>,
    #[serde(borrow, rename = "privateKeyPEM")]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(rename = "fromCSR")]
    from_csr: Option<bool>,
}

/// Its certificates and its key.
pub(super) fn parse(
    json: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, Zeroizing<PrivateKeyDer<'static>>), CredentialError> {
    let Issued { certificate, key, status, from_csr } =
        serde_json::from_slice(json).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => CredentialError::NotIssued,
            _ => CredentialError::NotJson,
        })?;
    let certificate = text(certificate)?;
    let Some(certificate) = certificate else {
        let status = text(status)?;
        return Err(match status.as_deref() {
            Some(status) if status.eq_ignore_ascii_case(b"CREATING") => CredentialError::Creating,
            _ => CredentialError::NoCertificateField,
        });
    };
    let Some(key) = text(key)? else {
        return Err(if from_csr == Some(true) { CredentialError::KeyOfCsr } else { CredentialError::NoKeyField });
    };
    Ok((pem::certificates(&certificate, CERTIFICATE)?, pem::private_key(&key, KEY)?))
}

/// The text of a field; `None` where it is absent, null or empty.
fn text(field: Option<&RawValue>) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
    let Some(field) = field.filter(|field| field.get() != "null") else { return Ok(None) };
    let text = json_text::ascii(field).ok_or(CredentialError::NotIssued)?;
    Ok(Some(text).filter(|text| !text.trim_ascii().is_empty()))
}
