//! Client certificates as people provide them, good and bad. Those in other forms than PEM are in `forms`.

mod forms;

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber};
use x509_parser::asn1_rs::{Any, FromDer};

use super::*;
use crate::model::OkmsId;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const PKCS12: &str = "client.p12";
const ISSUED: &str = "credential.json";

const ID: &str = "e90c5841-f39e-4983-8596-62ff0c538b6b";
const OTHER_ID: &str = "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb";

fn files(content: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    content.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn parse(certificate: &str, key: &str) -> Result<Identity, CredentialError> {
    Identity::from_files(&files(&[(CERTIFICATE, certificate), (KEY, key)]))
}

fn refusal(content: &[(&str, &str)]) -> CredentialError {
    Identity::from_files(&files(content)).err().expect("a refusal")
}

/// A self-signed certificate of this common name, with this user principal name, for this key.
fn certificate(common_name: &str, upn: Option<&str>, key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xff]));
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let oid = vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
    params.subject_alt_names = upn.map(|upn| SanType::OtherName((oid, upn.into()))).into_iter().collect();
    params.self_signed(key).unwrap().pem()
}

fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (certificate(ID, Some(&format!("okms.domain:{ID}")), &key), key.serialize_pem())
}

/// The key inside a PKCS#8 envelope: SEC1 for an EC key, PKCS#1 for an RSA key.
fn bare_pem(key: &KeyPair, label: &str) -> String {
    let der = key.serialize_der();
    let (_, envelope) = Any::from_der(&der).unwrap();
    let (rest, _version) = Any::from_der(envelope.data).unwrap();
    let (rest, _algorithm) = Any::from_der(rest).unwrap();
    let (_, inner) = Any::from_der(rest).unwrap();
    let base64 = BASE64_STANDARD.encode(inner.data);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn keys_of_every_usual_encoding_are_taken() {
    let ec = KeyPair::generate().unwrap();
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    for (what, key, pem) in [
        ("EC in PKCS#8", &ec, ec.serialize_pem()),
        ("EC in SEC1", &ec, bare_pem(&ec, "EC PRIVATE KEY")),
        ("RSA in PKCS#8", &rsa, rsa.serialize_pem()),
        ("RSA in PKCS#1", &rsa, bare_pem(&rsa, "RSA PRIVATE KEY")),
    ] {
        let identity = parse(&certificate(ID, None, key), &pem);
        assert!(identity.is_ok(), "{what}: {:?}", identity.err());
    }
}

#[test]
fn an_identity_says_what_its_certificate_says() {
    let (certificate, key) = pair();
    let identity = parse(&certificate, &key).unwrap();
    assert_eq!(identity.okms_id().map(OkmsId::as_str), Some(ID));
    assert_eq!(identity.serial(), "00000000-0000-0000-0000-000000000aff");
    assert_eq!(identity.not_before().to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(identity.not_after().to_string(), "2027-01-01T00:00:00Z");
}

#[test]
fn the_domain_is_the_upn_and_else_a_common_name_that_is_an_id() {
    let key = KeyPair::generate().unwrap();
    let of = |name, upn: Option<&str>| {
        let identity = parse(&certificate(name, upn, &key), &key.serialize_pem()).unwrap();
        identity.okms_id().map(ToString::to_string)
    };
    let domain_upn = format!("okms.domain:{OTHER_ID}");
    assert_eq!(of(ID, Some(&domain_upn)).as_deref(), Some(OTHER_ID));
    assert_eq!(of(ID, Some("okms.domain:*")), None, "of several domains");
    assert_eq!(of(ID, Some("somebody@example.com")).as_deref(), Some(ID), "a name of another use");
    assert_eq!(of(ID, None).as_deref(), Some(ID));
    assert_eq!(of("somebody", None), None);
}

#[test]
fn why_a_certificate_names_no_domain_is_told() {
    let key = KeyPair::generate().unwrap();
    let why = |name, upn: Option<&str>| {
        let identity = parse(&certificate(name, upn, &key), &key.serialize_pem()).unwrap();
        identity.domain().cloned().err()
    };
    assert_eq!(why("somebody", Some("okms.domain:*")), Some(CredentialError::AnyDomain));
    assert_eq!(why(ID, Some("okms.domain:*")), Some(CredentialError::AnyDomain), "whatever its name is");
    assert_eq!(why("somebody", None), Some(CredentialError::NoDomain));
    assert_eq!(why(ID, Some("okms.domain:x")), Some(CredentialError::NoDomain));
    assert_eq!(why(ID, None), None);
    for error in [CredentialError::AnyDomain, CredentialError::NoDomain] {
        assert!(error.to_string().contains("okmsId"), "{error}");
    }
}

#[test]
fn a_certificate_of_another_domain_is_told_from_one_of_any() {
    let (ours, other) = (ID.parse().unwrap(), OTHER_ID.parse().unwrap());
    let (certificate_of_ours, key) = pair();
    let identity = parse(&certificate_of_ours, &key).unwrap();
    assert_eq!(identity.belongs_to(&ours), Ok(()));
    assert_eq!(identity.belongs_to(&other), Err(CredentialError::OtherDomain(ours)));
    let key = KeyPair::generate().unwrap();
    let anywhere = parse(&certificate("*", Some("okms.domain:*"), &key), &key.serialize_pem()).unwrap();
    assert_eq!(anywhere.belongs_to(&other), Ok(()));
}

#[test]
fn validity_is_judged_at_the_given_time() {
    let (certificate, key) = pair();
    let identity = parse(&certificate, &key).unwrap();
    let at = |time: &str| identity.validity(time.parse().unwrap());
    assert_eq!(at("2025-12-31T23:59:59Z"), Err(CredentialError::NotYetValid));
    assert_eq!(at("2026-01-01T00:00:00Z"), Ok(()));
    assert_eq!(at("2027-01-01T00:00:00Z"), Ok(()));
    assert_eq!(at("2027-01-01T00:00:01Z"), Err(CredentialError::Expired));
}

#[test]
fn pem_as_the_api_prints_it_is_understood() {
    let (certificate, key) = pair();
    let plain = parse(&certificate, &key).unwrap();
    for escaped in ["\\n", "\\r\\n"] {
        let as_printed = |pem: &str| pem.replace("\r\n", "\n").replace('\n', escaped);
        assert!(parse(&as_printed(&certificate), &as_printed(&key)).unwrap() == plain, "{escaped}");
    }
}

#[test]
fn the_chain_is_kept_in_its_order() {
    let (certificate, key) = pair();
    let (issuer, _) = pair();
    let identity = parse(&format!("{certificate}\n{issuer}"), &key).unwrap();
    assert_eq!(identity.certified_key().cert.len(), 2);
    let swapped = parse(&format!("{issuer}\n{certificate}"), &key).err();
    assert_eq!(swapped, Some(CredentialError::KeyMismatch { key: KEY, certificate: CERTIFICATE }));
}

#[test]
fn identities_are_equal_when_certificate_and_key_are() {
    let (certificate, key) = pair();
    let identity = parse(&certificate, &key).unwrap();
    assert!(identity == parse(&format!("# a comment\n{certificate}"), &key).unwrap());
    let key = KeyPair::from_pem(&key).unwrap();
    let renewed = parse(&super::tests::certificate(ID, None, &key), &key.serialize_pem()).unwrap();
    assert!(identity != renewed);
}

#[test]
fn what_is_missing_or_empty_is_named() {
    let (certificate, key) = pair();
    assert_eq!(refusal(&[]), CredentialError::Nothing);
    assert_eq!(refusal(&[("ca.crt", "x")]), CredentialError::Nothing);
    assert_eq!(refusal(&[(CERTIFICATE, &certificate)]), CredentialError::Missing { has: CERTIFICATE, lacks: KEY });
    assert_eq!(refusal(&[(KEY, &key)]), CredentialError::Missing { has: KEY, lacks: CERTIFICATE });
    assert_eq!(refusal(&[(CERTIFICATE, " \n"), (KEY, &key)]), CredentialError::Empty(CERTIFICATE));
    assert_eq!(refusal(&[(CERTIFICATE, &certificate), (KEY, "")]), CredentialError::Empty(KEY));
}

#[test]
fn several_forms_at_once_are_named() {
    let (certificate, key) = pair();
    let pem = [(CERTIFICATE, certificate.as_str()), (KEY, key.as_str())];
    let both = refusal(&[pem[0], pem[1], (PKCS12, "x")]);
    assert_eq!(both, CredentialError::SeveralForms(vec![CERTIFICATE, PKCS12]));
    assert!(both.to_string().contains("tls.crt, client.p12"), "{both}");
    assert_eq!(refusal(&[(KEY, "x"), (ISSUED, "{}")]), CredentialError::SeveralForms(vec![KEY, ISSUED]));
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    let (certificate, key) = pair();
    let (_, foreign) = pair();
    let broken = |label: &str, base64: &str| format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n");
    let encrypted = broken("ENCRYPTED PRIVATE KEY", "AAAA");
    let old_encrypted = broken("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA");
    for (certificate, key, why) in [
        ("not pem", key.as_str(), CredentialError::NoCertificate(CERTIFICATE)),
        (key.as_str(), key.as_str(), CredentialError::NoCertificate(CERTIFICATE)),
        (&broken("CERTIFICATE", "AAAA"), &key, CredentialError::BadCertificate(CERTIFICATE)),
        (&broken("CERTIFICATE", "%%%"), &key, CredentialError::BadCertificate(CERTIFICATE)),
        (&certificate, "not pem", CredentialError::NoKey(KEY)),
        (&certificate, &certificate, CredentialError::NoKey(KEY)),
        (&certificate, &broken("PRIVATE KEY", "AAAA"), CredentialError::BadKey(KEY)),
        (&certificate, &broken("EC PRIVATE KEY", "%%%"), CredentialError::BadKey(KEY)),
        (&certificate, &encrypted, CredentialError::EncryptedKey(KEY)),
        (&certificate, &old_encrypted, CredentialError::EncryptedKey(KEY)),
        (&certificate, &foreign, CredentialError::KeyMismatch { key: KEY, certificate: CERTIFICATE }),
    ] {
        assert_eq!(parse(certificate, key).err(), Some(why));
    }
}
