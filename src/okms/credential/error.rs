//! Why a credential cannot be used ([`CredentialError`]): one sentence for each mistake, with what to do about it.
//!
//! A sentence names the file or the field, and never holds anything of its content.

use crate::model::OkmsId;

/// Why a credential cannot be used. Each message says what to do and holds nothing of the credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error(
        "the credential has no client certificate: provide tls.crt and tls.key in PEM, or client.p12 and password, or the API's answer \
         as credential.json"
    )]
    Nothing,
    #[error("the credential has several forms at once ({}): keep one of them", .0.join(", "))]
    SeveralForms(Vec<&'static str>),
    #[error("the credential has {has} and no {lacks}: provide both, or another form of it alone")]
    Missing { has: &'static str, lacks: &'static str },
    #[error("{0} is empty: provide its content")]
    Empty(&'static str),

    #[error("{0} holds no certificate in PEM: it must begin with -----BEGIN CERTIFICATE-----")]
    NoCertificate(&'static str),
    #[error("{0} is damaged: a certificate in it cannot be read")]
    BadCertificate(&'static str),
    #[error("{0} holds no private key in PEM: it must begin with -----BEGIN … PRIVATE KEY-----")]
    NoKey(&'static str),
    #[error("{0} is encrypted: provide the key decrypted, as `openssl pkey -in encrypted.key -out tls.key` writes it")]
    EncryptedKey(&'static str),
    #[error(
        "the private key in {0} is damaged, or of a kind that TLS does not use: provide the EC or RSA key of the certificate"
    )]
    BadKey(&'static str),
    #[error(
        "{key} is not the key of the first certificate in {certificate}: provide the two that were issued together"
    )]
    KeyMismatch { key: &'static str, certificate: &'static str },

    #[error(
        "credential.json is not JSON: store the whole answer of the OVHcloud API, from its first {{ to its last }}"
    )]
    NotJson,
    #[error(
        "credential.json is not what the OVHcloud API answers for an access certificate: its certificatePEM and privateKeyPEM \
         must be texts"
    )]
    NotIssued,
    #[error(
        "the access certificate in credential.json is not made yet (status CREATING): ask the OVHcloud API for it again until its \
         status is READY, then add its certificatePEM, and keep the privateKeyPEM of the first answer"
    )]
    Creating,
    #[error("credential.json has no certificatePEM: store the answer for an access certificate whose status is READY")]
    NoCertificateField,
    #[error(
        "credential.json has no privateKeyPEM, because its certificate was made from a CSR: add the key that the CSR was made with \
         as privateKeyPEM, or provide tls.crt and tls.key in place of credential.json"
    )]
    KeyOfCsr,
    #[error(
        "credential.json has no privateKeyPEM, which OVHcloud shows only in the answer to the creation: store that answer, or create \
         a new access certificate; if this one was made from a CSR, add the key of the CSR as privateKeyPEM"
    )]
    NoKeyField,

    #[error("client.p12 comes without its password: add it as password, without a line break; empty if there is none")]
    NoPassword,
    #[error("password does not open client.p12: check that they belong together")]
    WrongPassword,
    #[error("password ends with a line break, without which it opens client.p12: store it as `printf %s` writes it")]
    PasswordLineBreak,
    #[error("password is not text in UTF-8: provide the password of client.p12")]
    BadPassword,
    #[error(
        "client.p12 is damaged, or no PKCS#12 file: export it again, as `openssl pkcs12 -export -in tls.crt -inkey tls.key -out \
         client.p12` writes it"
    )]
    BadPkcs12,
    #[error(
        "client.p12 is protected in a way that is not supported: export it again with AES-256-CBC and a SHA-256 MAC, as `openssl \
         pkcs12 -export` does by itself"
    )]
    UnsupportedPkcs12,
    #[error(
        "client.p12 asks for too much work to open: export it again with fewer iterations, as openssl does by itself"
    )]
    CostlyPkcs12,
    #[error(
        "client.p12 holds no private key: export it together with the key, as `openssl pkcs12 -export -in tls.crt -inkey tls.key` \
         does"
    )]
    Pkcs12WithoutKey,
    #[error("client.p12 holds several private keys: export the one of the access certificate alone")]
    Pkcs12WithSeveralKeys,
    #[error("client.p12 holds no certificate: export the key together with its certificate")]
    Pkcs12WithoutCertificate,
    #[error(
        "the private key in client.p12 is the key of none of its certificates: export the two that were issued together"
    )]
    Pkcs12Mismatch,

    #[error("the client certificate has expired: create a new access certificate and replace it")]
    Expired,
    #[error("the client certificate is not valid yet: check the clock of the node, or wait")]
    NotYetValid,
    #[error("the client certificate is of OKMS domain {0}: provide one of the domain in okmsId")]
    OtherDomain(OkmsId),
    #[error("the client certificate is for any OKMS domain (okms.domain:*): say in okmsId which one to read from")]
    AnyDomain,
    #[error(
        "the client certificate names no OKMS domain: say in okmsId which one to read from, and check that it is an access \
         certificate of OVHcloud"
    )]
    NoDomain,

    #[error("the credential has no {0}: add it")]
    NoText(&'static str),
    #[error("{0} is empty: provide it")]
    EmptyText(&'static str),
    #[error("{0} ends with a line break: store it without, as `printf %s` writes it, and not as echo does")]
    FinalLineBreak(&'static str),
    #[error("{0} has a line break in it: provide it in one line, and nothing else beside it")]
    LineBreak(&'static str),
    #[error("{0} has a space or a tab in it: provide it alone, without quotes, a name or `Bearer` before it")]
    Whitespace(&'static str),
    #[error("{0} has characters that do not belong there: it consists of visible ASCII characters only")]
    Characters(&'static str),
}
