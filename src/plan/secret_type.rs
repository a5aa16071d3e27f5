//! The types of Secret that the operator writes, and what the content of each must be.
//!
//! The checks are made before a write, so that a user reads which key is missing instead of a refusal by the API server, or of a server
//! that cannot start with half a certificate. No message says anything of a value but what is wrong with it.

use std::{fmt, str::FromStr, sync::Arc};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::Zeroizing;

use super::{
    ParseError,
    json::{Json, Object},
};

/// The `type` of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum SecretType {
    #[default]
    Opaque,
    Tls,
    DockerConfigJson,
    BasicAuth,
    SshAuth,
    /// Any type that means nothing to Kubernetes or Helm.
    Other(Arc<str>),
}

impl SecretType {
    /// The longest type that is taken, in characters, all of which are ASCII. Kubernetes has no limit of its own.
    pub const MAX_LENGTH: usize = 253;

    pub fn as_str(&self) -> &str {
        match self {
            Self::Opaque => "Opaque",
            Self::Tls => "kubernetes.io/tls",
            Self::DockerConfigJson => "kubernetes.io/dockerconfigjson",
            Self::BasicAuth => "kubernetes.io/basic-auth",
            Self::SshAuth => "kubernetes.io/ssh-auth",
            Self::Other(text) => text,
        }
    }

    /// Says what keeps content from being a Secret of this type; `get` gives the value of a key.
    ///
    /// Which keys a type needs is what the API server asks for (`ValidateSecret`); that a TLS pair matches, and that a registry
    /// configuration has `auths`, is asked for by what uses them.
    pub(super) fn check<'a>(&self, get: impl Fn(&str) -> Option<&'a [u8]>) -> Result<(), String> {
        let need = |key: &str| {
            get(key)
                .ok_or_else(|| {
                    format!(
                        "the key {key} is missing: name it with keys: [{{to: {key}, from: <field>}}], or make it with a template"
                    )
                })
        };
        match self {
            Self::Opaque | Self::Other(_) => Ok(()),
            Self::Tls => check_pair(need("tls.crt")?, need("tls.key")?).map_err(str::to_owned),
            Self::DockerConfigJson => check_registries(need(".dockerconfigjson")?).map_err(str::to_owned),
            Self::BasicAuth => get("username").map_or_else(|| need("password"), Ok).map(drop).map_err(|_| {
                "the keys username and password are both missing: name at least one with \
                 keys: [{to: username, from: <field>}, {to: password, from: <field>}], or make it with a template"
                    .to_owned()
            }),
            Self::SshAuth => match need("ssh-privatekey")? {
                [] => {
                    Err("the key ssh-privatekey is empty: put the private key into the field it is made of".to_owned())
                }
                _ => Ok(()),
            },
        }
    }
}

impl FromStr for SecretType {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let known = [Self::Opaque, Self::Tls, Self::DockerConfigJson, Self::BasicAuth, Self::SshAuth];
        if let Some(known) = known.into_iter().find(|known| known.as_str() == text) {
            return Ok(known);
        }
        if text.is_empty() || text.len() > Self::MAX_LENGTH || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ParseError("a type of a Secret has 1 to 253 visible ASCII characters and no space"));
        }
        match text.split_once('/') {
            Some((domain, _)) if domain.ends_with("kubernetes.io") || domain == "helm.sh" => Err(ParseError(
                "types below kubernetes.io/ and helm.sh/ belong to Kubernetes and Helm: use Opaque, a type of your own, or \
                 kubernetes.io/tls, kubernetes.io/dockerconfigjson, kubernetes.io/basic-auth or kubernetes.io/ssh-auth",
            )),
            _ => Ok(Self::Other(text.into())),
        }
    }
}

impl fmt::Display for SecretType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Checks that a chain is one of X.509 certificates, the first of which was made for this key.
///
/// No library's error reaches the message: that of a broken PEM quotes the PEM.
fn check_pair(chain: &[u8], key: &[u8]) -> Result<(), &'static str> {
    const NOT_A_CHAIN: &str = "tls.crt is not a chain of certificates in PEM: it must hold one or more sections \
                               -----BEGIN CERTIFICATE-----, that of the server first";
    const NOT_A_KEY: &str = "tls.key is not a private key that can be used: it must hold one in PEM, not encrypted, \
                             RSA of 2048 bits or more, ECDSA P-256, P-384 or P-521, or Ed25519";

    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| NOT_A_CHAIN)?;
    let certificates: Vec<_> =
        chain.iter().map(|der| X509Certificate::from_der(der)).collect::<Result<_, _>>().map_err(|_| NOT_A_CHAIN)?;
    let Some((_, leaf)) = certificates.first() else { return Err(NOT_A_CHAIN) };

    let key = Zeroizing::new(PrivateKeyDer::from_pem_slice(key).map_err(|_| NOT_A_KEY)?);
    let key = any_supported_type(&key).map_err(|_| NOT_A_KEY)?;
    let public = key.public_key().ok_or(NOT_A_KEY)?;
    if public.as_ref() == leaf.public_key().raw {
        Ok(())
    } else {
        Err(
            "tls.key is not the key of the first certificate in tls.crt: use a pair, and put the certificate of the server first",
        )
    }
}

/// Checks that a registry configuration is a JSON object whose `auths` is one too.
fn check_registries(text: &[u8]) -> Result<(), &'static str> {
    let has_auths = Object::parse(text).is_ok_and(|object| matches!(object.find("auths"), Some(Json::Object(_))));
    has_auths.then_some(()).ok_or(
        ".dockerconfigjson is not a registry configuration: it must hold JSON such as \
         {\"auths\": {\"registry.example.com\": {\"auth\": \"...\"}}}",
    )
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512,
        PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm,
    };

    use super::*;

    /// A self-signed certificate and its key, both PEM.
    fn pair(algorithm: &'static SignatureAlgorithm) -> (String, String) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate =
            CertificateParams::new(vec!["web.example.com".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn check(type_: &SecretType, data: &[(&str, &str)]) -> Result<(), String> {
        type_.check(|key| data.iter().find(|(name, _)| *name == key).map(|(_, text)| text.as_bytes()))
    }

    fn check_tls(crt: &str, key: &str) -> Result<(), String> {
        check(&SecretType::Tls, &[("tls.crt", crt), ("tls.key", key)])
    }

    #[test]
    fn types_of_kubernetes_and_helm_are_refused_but_for_those_made_for_users() {
        for (text, type_) in [
            ("Opaque", SecretType::Opaque),
            ("kubernetes.io/tls", SecretType::Tls),
            ("kubernetes.io/dockerconfigjson", SecretType::DockerConfigJson),
            ("kubernetes.io/basic-auth", SecretType::BasicAuth),
            ("kubernetes.io/ssh-auth", SecretType::SshAuth),
            ("example.com/api-key", SecretType::Other("example.com/api-key".into())),
            ("opaque", SecretType::Other("opaque".into())),
        ] {
            assert_eq!(text.parse(), Ok(type_.clone()));
            assert_eq!(type_.as_str(), text);
        }
        let long = "a".repeat(254);
        for bad in [
            "",
            "a b",
            "é",
            &long,
            "kubernetes.io/service-account-token",
            "kubernetes.io/dockercfg",
            "bootstrap.kubernetes.io/token",
            "helm.sh/release.v1",
        ] {
            assert!(bad.parse::<SecretType>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_matching_pair_of_any_usual_algorithm_is_taken() {
        for algorithm in
            [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512, &PKCS_ED25519, &PKCS_RSA_SHA256]
        {
            let (crt, key) = pair(algorithm);
            assert_eq!(check_tls(&crt, &key), Ok(()), "{algorithm:?}");
        }
    }

    #[test]
    fn the_first_certificate_is_the_one_that_must_match() {
        let ((crt, key), (issuer, other_key)) = (pair(&PKCS_ECDSA_P256_SHA256), pair(&PKCS_ECDSA_P256_SHA256));
        let chain = format!("Bag Attributes\n{crt}\n{issuer}");
        assert_eq!(check_tls(&chain, &key), Ok(()));
        assert!(
            check_tls(&chain, &other_key)
                .is_err_and(|problem| problem.starts_with("tls.key is not the key of the first"))
        );
    }

    #[test]
    fn a_broken_certificate_or_key_is_named() {
        let (crt, key) = pair(&PKCS_ECDSA_P256_SHA256);
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for chain in ["", "canary", junk, &key, &crt[..crt.len() - 10], &format!("{crt}{junk}")] {
            assert!(check_tls(chain, &key).is_err_and(|problem| problem.starts_with("tls.crt is not")), "{chain}");
        }
        for bad in ["", "canary", &crt, &key[..key.len() - 10], &key.replace("PRIVATE", "PUBLIC")] {
            assert!(check_tls(&crt, bad).is_err_and(|problem| problem.starts_with("tls.key is not a private key")));
        }
        assert!(
            check(&SecretType::Tls, &[("tls.crt", &crt)])
                .is_err_and(|problem| problem.contains("the key tls.key is missing"))
        );
    }

    #[test]
    fn a_registry_configuration_has_auths() {
        let check = |text| check(&SecretType::DockerConfigJson, &[(".dockerconfigjson", text)]);
        assert_eq!(check(r#"{"auths":{"registry.example.com":{"auth":"eDp5"}}}"#), Ok(()));
        for bad in ["", "canary", "[]", "{}", r#"{"auths":"x"}"#, r#"{"registry.example.com":{"auth":"eDp5"}}"#] {
            assert!(check(bad).is_err_and(|problem| problem.starts_with(".dockerconfigjson is not")), "{bad}");
        }
    }

    #[test]
    fn each_type_asks_for_its_keys() {
        assert!(
            check(&SecretType::DockerConfigJson, &[])
                .is_err_and(|problem| problem.contains("the key .dockerconfigjson is missing"))
        );
        assert!(
            check(&SecretType::BasicAuth, &[("user", "x")])
                .is_err_and(|problem| problem.contains("username and password"))
        );
        assert_eq!(check(&SecretType::BasicAuth, &[("username", "")]), Ok(()));
        assert_eq!(check(&SecretType::BasicAuth, &[("password", "x")]), Ok(()));
        assert!(
            check(&SecretType::SshAuth, &[])
                .is_err_and(|problem| problem.contains("the key ssh-privatekey is missing"))
        );
        assert!(check(&SecretType::SshAuth, &[("ssh-privatekey", "")]).is_err_and(|problem| problem.contains("empty")));
        assert_eq!(check(&SecretType::SshAuth, &[("ssh-privatekey", "x")]), Ok(()));
        for free in [SecretType::Opaque, SecretType::Other("example.com/x".into())] {
            assert_eq!(check(&free, &[]), Ok(()));
        }
    }
}
