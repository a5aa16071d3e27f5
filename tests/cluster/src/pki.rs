//! The keys of a control plane: one authority, a serving certificate for loopback, an administrator, a key for tokens.
//!
//! Made anew for every control plane and never stored outside its folder. Knows no process and no path.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// All of it as PEM. No `Debug`: it holds private keys.
pub(crate) struct Pki {
    pub(crate) ca: String,
    pub(crate) server: Identity,
    /// In group `system:masters`, which may do anything.
    pub(crate) admin: Identity,
    /// Signs the tokens of service accounts; the second half checks them.
    pub(crate) tokens: (String, String),
}

/// A certificate and its private key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pki {
    pub(crate) fn generate() -> Result<Self> {
        let mut params = named("test-cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);

        let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let mut server = CertificateParams::new(names.map(str::to_owned))?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let mut admin = named("admin");
        admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
        let tokens = KeyPair::generate()?;
        Ok(Self {
            ca,
            server: issue(server, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?,
            admin: issue(admin, ExtendedKeyUsagePurpose::ClientAuth, &issuer)?,
            tokens: (tokens.serialize_pem(), tokens.public_key_pem()),
        })
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn issue(
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<Identity> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    Ok(Identity { certificate: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}
