//! Certificates in OKMS's shape: the authority of a region, client certificates, the server's own certificate.
//!
//! The shape of a client certificate is that of the sample in OVHcloud's guide "Access certificates": issuer
//! `CN=CCMUsersCA`, subject `CN=<okmsId>`, serial number = credential id, P-256, one *critical* subject
//! alternative name (a Microsoft user principal name `okms.domain:<okmsId>`), extended key usage client
//! authentication, and nothing else. The generated key is SEC1 PEM. Who is let in is decided in `tls`, not here.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::switches::ServerCertificate;

/// When a client certificate is valid, relative to the simulator's clock. OKMS allows 1 to 365 days.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Validity {
    /// Seconds from now to the begin; negative: in the past.
    pub starts_in: i64,
    /// Seconds from now to the end; negative: expired already.
    pub ends_in: i64,
}

impl Validity {
    const DAY: i64 = 86_400;

    /// From an hour ago (clocks differ) for so many days.
    pub const fn days(days: u32) -> Self {
        Self { starts_in: -3_600, ends_in: days as i64 * Self::DAY }
    }

    /// Ended a minute ago, after a day.
    pub const fn expired() -> Self {
        Self { starts_in: -Self::DAY, ends_in: -60 }
    }

    /// Begins in an hour.
    pub const fn not_yet() -> Self {
        Self { starts_in: 3_600, ends_in: Self::DAY }
    }
}

impl Default for Validity {
    fn default() -> Self {
        Self::days(365)
    }
}

/// What a client certificate says of domains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Naming {
    /// Subject `CN=<okmsId>` and the principal name `okms.domain:<okmsId>`, as documented.
    #[default]
    Documented,
    /// The principal name `okms.domain:*`, which OVHcloud's command line knows of. Every domain of the region lets it in.
    AnyDomain,
    /// No principal name; the subject alone names the domain.
    SubjectOnly,
    /// Neither names a domain.
    Nothing,
}

/// A client certificate with its key. It has no `Debug`: the key is a secret, even here.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificate {
    /// The certificate alone, without its issuer.
    pub cert_pem: String,
    /// `EC PRIVATE KEY` (SEC1).
    pub key_pem: String,
    /// 32 lower-case hexadecimal digits; the credential id without its dashes.
    pub serial: String,
    /// The credential id, as the control plane prints it.
    pub credential_id: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// What a client certificate says about its holder.
pub(crate) struct Subject {
    pub(crate) serial: String,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl Subject {
    pub(crate) fn parse(der: &CertificateDer<'_>) -> Result<Self> {
        let (_, certificate) = X509Certificate::from_der(der).context("the certificate is not valid DER")?;
        let serial = certificate
            .raw_serial()
            .iter()
            .skip_while(|byte| **byte == 0)
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        Ok(Self {
            serial,
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// A certificate authority: certificate and key.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The issuer of access certificates.
    pub(crate) fn users() -> Result<Self> {
        Self::new("CCMUsersCA")
    }

    /// The issuer of the simulator's own server certificate. The real one's name is not published.
    pub(crate) fn server() -> Result<Self> {
        Self::new("OKMS simulator server CA")
    }

    fn new(common_name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// A server certificate, for the loopback names if nothing else is asked for.
    pub(crate) fn issue_server(
        &self,
        kind: ServerCertificate,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name("localhost");
        params.subject_alt_names =
            vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)), SanType::DnsName("localhost".try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        match kind {
            ServerCertificate::Valid | ServerCertificate::OtherAuthority => {}
            ServerCertificate::Expired => params.not_after = date_time_ymd(2020, 1, 1),
            ServerCertificate::NotYetValid => params.not_before = date_time_ymd(4000, 1, 1),
            ServerCertificate::OtherName => {
                params.subject_alt_names = vec![SanType::DnsName("okms.example".try_into()?)];
            }
            ServerCertificate::OtherPurpose => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((certificate.der().clone(), PrivateKeyDer::Pkcs8(key)))
    }

    pub(crate) fn issue_client(
        &self,
        okms_id: Uuid,
        naming: Naming,
        validity: Validity,
        now: Timestamp,
    ) -> Result<ClientCertificate> {
        let credential = credential_id();
        let not_before = now.checked_add(SignedDuration::from_secs(validity.starts_in))?;
        let not_after = now.checked_add(SignedDuration::from_secs(validity.ends_in))?;
        let mut params = CertificateParams::default();
        let subject = match naming {
            Naming::Documented | Naming::SubjectOnly => okms_id.to_string(),
            Naming::AnyDomain => "*".to_owned(),
            Naming::Nothing => "okms-client".to_owned(),
        };
        params.distinguished_name = distinguished_name(&subject);
        params.serial_number = Some(SerialNumber::from_slice(credential.as_bytes()));
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(not_before.as_second().try_into()?);
        params.not_after = epoch + Duration::from_secs(not_after.as_second().try_into()?);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.custom_extensions = match naming {
            Naming::Documented => vec![domain_name(&okms_id.to_string())?],
            Naming::AnyDomain => vec![domain_name("*")?],
            Naming::SubjectOnly | Naming::Nothing => Vec::new(),
        };
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ClientCertificate {
            cert_pem: certificate.pem(),
            key_pem: sec1_pem(&key)?,
            serial: credential.simple().to_string(),
            credential_id: credential.to_string(),
            not_before,
            not_after,
        })
    }
}

/// A credential id whose first byte is not zero, so that every way to print the serial has 32 digits.
fn credential_id() -> Uuid {
    loop {
        let id = Uuid::new_v4();
        if id.as_bytes().first().is_some_and(|&byte| byte != 0) {
            return id;
        }
    }
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// The critical subject alternative name. rcgen can write the name but not mark it critical beside a subject, so the
/// extension's content is put together here.
fn domain_name(domain: &str) -> Result<CustomExtension> {
    /// 1.3.6.1.4.1.311.20.2.3, Microsoft's user principal name.
    const PRINCIPAL_NAME: [u8; 10] = [0x2b, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3];
    const SUBJECT_ALTERNATIVE_NAME: [u64; 4] = [2, 5, 29, 17];
    let value = tlv(0x0c, format!("okms.domain:{domain}").as_bytes())?;
    let other_name = [tlv(0x06, &PRINCIPAL_NAME)?, tlv(0xa0, &value)?].concat();
    let names = tlv(0x30, &tlv(0xa0, &other_name)?)?;
    let mut extension = CustomExtension::from_oid_content(&SUBJECT_ALTERNATIVE_NAME, names);
    extension.set_criticality(true);
    Ok(extension)
}

/// One DER element of at most 127 bytes.
fn tlv(tag: u8, content: &[u8]) -> Result<Vec<u8>> {
    let length = u8::try_from(content.len())
        .ok()
        .filter(|&length| length < 0x80)
        .ok_or_else(|| anyhow!("a DER element of {} bytes needs a long length", content.len()))?;
    Ok([&[tag, length], content].concat())
}

fn sec1_pem(key: &KeyPair) -> Result<String> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.serialized_der())
        .map_err(|rejected| anyhow!("reading back a generated key: {rejected}"))?;
    let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der()?;
    let text = BASE64_STANDARD.encode(der.as_ref());
    let mut pem = String::from("-----BEGIN EC PRIVATE KEY-----\n");
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END EC PRIVATE KEY-----\n");
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject;
    use x509_parser::extensions::{GeneralName, ParsedExtension};

    use super::*;

    fn issued() -> (Uuid, ClientCertificate) {
        let okms_id = Uuid::new_v4();
        let authority = Authority::users().unwrap();
        let certificate =
            authority.issue_client(okms_id, Naming::Documented, Validity::default(), Timestamp::now()).unwrap();
        (okms_id, certificate)
    }

    #[test]
    fn a_client_certificate_has_the_documented_shape() {
        let (okms_id, issued) = issued();
        let der = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();

        assert_eq!(certificate.issuer().to_string(), "CN=CCMUsersCA");
        assert_eq!(certificate.subject().to_string(), format!("CN={okms_id}"));
        assert_eq!(certificate.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.2");
        let oids: Vec<_> = certificate
            .extensions()
            .iter()
            .map(|extension| (extension.oid.to_id_string(), extension.critical))
            .collect();
        assert_eq!(oids.len(), 2, "{oids:?}");
        assert!(oids.contains(&("2.5.29.37".to_owned(), false)), "{oids:?}");
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);

        let names =
            certificate.extensions().iter().find(|extension| extension.oid.to_id_string() == "2.5.29.17").unwrap();
        assert!(names.critical);
        let ParsedExtension::SubjectAlternativeName(names) = names.parsed_extension() else {
            panic!("the extension does not parse as a subject alternative name");
        };
        let [GeneralName::OtherName(oid, value)] = names.general_names.as_slice() else {
            panic!("expected exactly one other name");
        };
        assert_eq!(oid.to_id_string(), "1.3.6.1.4.1.311.20.2.3");
        assert!(value.ends_with(format!("okms.domain:{okms_id}").as_bytes()));
    }

    #[test]
    fn the_serial_is_the_credential_id() {
        let (_, issued) = issued();
        let der = CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).unwrap();
        let subject = Subject::parse(&der).unwrap();
        assert_eq!(subject.serial, issued.serial);
        assert_eq!(issued.serial, issued.credential_id.replace('-', ""));
        assert_eq!(subject.not_after, issued.not_after.as_second());
    }

    #[test]
    fn the_key_is_sec1_and_names_its_curve() {
        let (_, issued) = issued();
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let PrivateKeyDer::Sec1(key) = key else {
            panic!("the key is not SEC1");
        };
        let prime256v1 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let der = key.secret_sec1_der();
        assert!(der.windows(prime256v1.len()).any(|window| window == prime256v1));
    }
}
