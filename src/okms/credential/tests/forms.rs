//! PKCS#12 files that tools have made (`testdata/README.md`), and JSON as the OVHcloud API answers it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PASSWORD: &str = "correct horse";
const TLS_CRT: &str = include_str!("../testdata/tls.crt");
const TLS_KEY: &str = include_str!("../testdata/tls.key");

macro_rules! p12 {
    ($name:literal) => {
        include_bytes!(concat!("../testdata/", $name, ".p12")).as_slice()
    };
}

fn opened(file: &[u8], password: &[u8]) -> Result<Identity, CredentialError> {
    let files = [("client.p12", file.to_vec()), ("password", password.to_vec())];
    Identity::from_files(&files.map(|(name, content)| (name.to_owned(), content)).into())
}

fn issued(json: &str) -> Result<Identity, CredentialError> {
    Identity::from_files(&files(&[(ISSUED, json)]))
}

fn plain() -> Identity {
    parse(TLS_CRT, TLS_KEY).unwrap()
}

#[test]
fn files_of_every_usual_tool_are_opened() {
    for (what, file) in [
        ("OpenSSL", p12!("openssl")),
        ("OpenSSL's -legacy", p12!("legacy")),
        ("RC2 of 128 bit", p12!("rc2-128")),
        ("a mixture", p12!("mixed")),
        ("certificates in the clear", p12!("plain-certificates")),
        ("everything in the clear", p12!("plain")),
        ("without a MAC", p12!("no-mac")),
        ("keytool", p12!("keytool")),
        ("keytool for old readers", p12!("keytool-legacy")),
    ] {
        let identity = opened(file, PASSWORD.as_bytes()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(identity.okms_id().map(OkmsId::as_str), Some(ID), "{what}");
        assert_eq!(identity.serial(), plain().serial(), "{what}");
        assert!(identity == plain(), "{what}: the same certificate and key");
    }
}

#[test]
fn a_chain_is_put_in_order_without_its_root() {
    let identity = opened(p12!("chain"), PASSWORD.as_bytes()).unwrap();
    assert!(identity == plain(), "the only issuer is a root");
}

#[test]
fn passwords_may_be_empty_or_of_any_script() {
    assert!(opened(p12!("empty-password"), b"").is_ok());
    assert!(opened(p12!("unicode-password"), "pässwörd €".as_bytes()).is_ok());
}

#[test]
fn a_password_that_does_not_fit_is_told_from_a_damaged_file() {
    use CredentialError::{BadPassword, BadPkcs12, Empty, Missing, NoPassword, PasswordLineBreak, WrongPassword};
    for file in [p12!("openssl"), p12!("legacy"), p12!("keytool"), p12!("no-mac")] {
        assert_eq!(opened(file, b"incorrect horse").err(), Some(WrongPassword));
        assert_eq!(opened(file, b"").err(), Some(WrongPassword));
        assert_eq!(opened(file, b"correct horse\n").err(), Some(PasswordLineBreak));
    }
    assert_eq!(opened(p12!("openssl"), b"\xff").err(), Some(BadPassword));
    assert_eq!(opened(b" ", b"x").err(), Some(Empty(PKCS12)));
    assert_eq!(opened(TLS_CRT.as_bytes(), b"x").err(), Some(BadPkcs12));
    let (cut, _) = p12!("openssl").split_at(500);
    assert_eq!(opened(cut, PASSWORD.as_bytes()).err(), Some(BadPkcs12));
    assert_eq!(refusal(&[(PKCS12, "x")]), NoPassword);
    assert_eq!(refusal(&[("password", "x")]), Missing { has: "password", lacks: PKCS12 });
}

#[test]
fn what_a_file_lacks_or_has_too_much_of_is_told() {
    use CredentialError::{CostlyPkcs12, Pkcs12WithSeveralKeys, Pkcs12WithoutCertificate, Pkcs12WithoutKey};
    for (file, why) in [
        (p12!("no-key"), Pkcs12WithoutKey),
        (p12!("no-certificate"), Pkcs12WithoutCertificate),
        (p12!("several-keys"), Pkcs12WithSeveralKeys),
        (p12!("costly"), CostlyPkcs12),
    ] {
        assert_eq!(opened(file, PASSWORD.as_bytes()).err(), Some(why));
    }
}

/// The same file with other bytes in the place of the first that look like these.
fn replaced(file: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let position = file.windows(from.len()).position(|window| window == from).unwrap();
    [file.split_at(position).0, to, file.split_at(position + from.len()).1].concat()
}

#[test]
fn unknown_protections_are_not_taken_for_damage() {
    let unsupported = Some(CredentialError::UnsupportedPkcs12);
    let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d];
    let oid = |end: &[u8]| [&rsa[..], end].concat();
    // PBKDF2 becomes something else, as scrypt would be.
    let file = replaced(p12!("no-mac"), &oid(&[1, 5, 12]), &oid(&[1, 5, 99]));
    assert_eq!(opened(&file, PASSWORD.as_bytes()).err(), unsupported);
    let file = replaced(p12!("no-mac"), &oid(&[2, 9]), &oid(&[2, 99]));
    assert_eq!(opened(&file, PASSWORD.as_bytes()).err(), unsupported);
    let sha256 = [0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 1];
    let file = replaced(p12!("openssl"), &sha256, &[0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 99]);
    assert_eq!(opened(&file, PASSWORD.as_bytes()).err(), unsupported, "a MAC");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(opened(&bytes, b"x").is_err());
        prop_assert!(Identity::from_files(&BTreeMap::from([(ISSUED.to_owned(), bytes)])).is_err());
    }

    #[test]
    fn no_change_of_one_byte_makes_it_panic(position in 0_usize..900, byte: u8) {
        let mut file = p12!("no-mac").to_vec();
        file[position] = byte;
        drop(opened(&file, PASSWORD.as_bytes()));
    }
}

/// The answer to the creation of an access certificate, as the guide prints it.
fn answer() -> Value {
    json!({
        "id": "f18b5e0d-75b8-40a3-9b0e-71ffe5ff03cb",
        "name": "my credential",
        "identityURNs": ["urn:v1:eu:identity:account:xx1111-ovh"],
        "status": "READY",
        "fromCSR": false,
        "certificateType": "ECDSA",
        "certificatePEM": TLS_CRT,
        "privateKeyPEM": TLS_KEY,
        "expiredAt": "2027-04-04T10:26:28Z",
    })
}

fn with(field: &str, value: Value) -> String {
    let mut answer = answer();
    answer[field] = value;
    answer.to_string()
}

fn without(answer: &mut Value, field: &str) {
    answer.as_object_mut().unwrap().remove(field);
}

#[test]
fn the_answer_of_the_api_is_taken_as_it_came() {
    let answer = answer();
    let pretty = serde_json::to_string_pretty(&answer).unwrap();
    // PHP and Gson escape more than is needed.
    let escaped = answer.to_string().replace('/', r"\/").replace('=', r"\u003d");
    // What was printed as JSON and pasted into JSON has its line breaks escaped twice.
    let twice = answer.to_string().replace(r"\n", r"\\n");
    for text in [answer.to_string(), pretty, escaped, twice] {
        let identity = issued(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(identity == plain());
    }
}

#[test]
fn what_the_answer_lacks_is_told_with_what_to_do() {
    let mut of_csr = answer();
    without(&mut of_csr, "privateKeyPEM");
    let asked_again = of_csr.to_string();
    of_csr["fromCSR"] = json!(true);
    let mut creating = answer();
    without(&mut creating, "certificatePEM");
    let ready = creating.to_string();
    creating["status"] = json!("CREATING");
    for (text, why, part) in [
        (of_csr.to_string(), CredentialError::KeyOfCsr, "privateKeyPEM"),
        (asked_again, CredentialError::NoKeyField, "creation"),
        (with("privateKeyPEM", Value::Null), CredentialError::NoKeyField, "CSR"),
        (with("privateKeyPEM", json!("")), CredentialError::NoKeyField, "CSR"),
        (creating.to_string(), CredentialError::Creating, "READY"),
        (ready, CredentialError::NoCertificateField, "READY"),
        ("{}".to_owned(), CredentialError::NoCertificateField, "READY"),
        ("{".to_owned(), CredentialError::NotJson, "whole answer"),
        (TLS_CRT.to_owned(), CredentialError::NotJson, "from its first {"),
        ("[]".to_owned(), CredentialError::NotIssued, "certificatePEM"),
        ("null".to_owned(), CredentialError::NotIssued, "certificatePEM"),
        (with("certificatePEM", json!(["x"])), CredentialError::NotIssued, "texts"),
        (" ".to_owned(), CredentialError::Empty(ISSUED), ISSUED),
    ] {
        let error = issued(&text).err().unwrap_or_else(|| panic!("{text}"));
        assert_eq!(error, why, "{text}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn what_is_wrong_inside_of_the_answer_names_the_field() {
    let (certificate, key) = pair();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (field, value) in [
        ("certificatePEM", "x"),
        ("certificatePEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("certificatePEM", &certificate),
        ("privateKeyPEM", "x"),
        ("privateKeyPEM", encrypted),
        ("privateKeyPEM", &key),
    ] {
        let error = issued(&with(field, json!(value))).err().unwrap().to_string();
        assert!(error.contains(field) && error.contains("credential.json"), "{error}");
    }
}

#[test]
fn no_message_holds_anything_of_the_content() {
    const CANARY: &str = "canary-7f3a";
    let p12 = |password: &str| opened(p12!("openssl"), password.as_bytes()).err().unwrap();
    let errors = [
        p12(CANARY),
        p12(&format!("{CANARY}\n")),
        issued(CANARY).err().unwrap(),
        issued(&format!(r#"{{"certificatePEM":{{"{CANARY}":1}}}}"#)).err().unwrap(),
        issued(&with("certificatePEM", json!(CANARY))).err().unwrap(),
        issued(&with("privateKeyPEM", json!(CANARY))).err().unwrap(),
        parse(CANARY, TLS_KEY).err().unwrap(),
        parse(TLS_CRT, CANARY).err().unwrap(),
    ];
    for error in errors {
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    }
}
