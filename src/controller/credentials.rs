//! Reads what a store refers to: the files of its client certificate and its CA bundle.
//!
//! A mounted credential is read through the `..data` link that a kubelet swaps, so that certificate and key are of one generation.

use std::{collections::BTreeMap, io, path::Path as FilePath};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use crate::{
    api::{CaSource, ClientCertificateAuth, KeyRef},
    model::OkmsId,
    okms::{Identity, Roots},
};

/// The largest credential file that is read, in bytes: a certificate chain has some kilobytes, a Secret at most this.
const MAX_FILE: u64 = 1 << 20;

/// Something that a store refers to cannot be used. The sentence names it and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CredentialProblem {
    /// It is not there: what was read from it before may not be used any more.
    #[error("{0}")]
    Gone(String),
    /// It is there and cannot be used: what was read from it before may still be.
    #[error("{0}")]
    Unusable(String),
    /// It cannot be looked at now.
    #[error("{0}")]
    Unknown(String),
}

/// The client certificate of a store, valid now and for its domain.
pub(super) async fn identity(
    client: &Client,
    namespace: &str,
    mount_root: &FilePath,
    auth: &ClientCertificateAuth,
    okms_id: Option<&OkmsId>,
) -> Result<Identity, CredentialProblem> {
    let (what, files) = match (&auth.mount, &auth.secret_ref) {
        (Some(mount), None) => {
            let folder = mount_root.join(mount);
            (format!("the mounted credential {mount}"), mounted(mount, &folder)?)
        }
        (None, Some(reference)) => {
            let what = format!("Secret {namespace}/{}", reference.name);
            (what.clone(), secret(client, namespace, &reference.name, &what).await?)
        }
        _ => {
            return Err(CredentialProblem::Unusable(
                "spec.auth.clientCertificate: give exactly one of mount and secretRef".to_owned(),
            ));
        }
    };
    let checked = Identity::from_files(&files).and_then(|identity| {
        identity.validity(Timestamp::now())?;
        okms_id.map_or(Ok(()), |okms_id| identity.belongs_to(okms_id))?;
        Ok(identity)
    });
    checked.map_err(|error| CredentialProblem::Unusable(format!("{what}: {error}")))
}

/// Whose signature on the server certificate a store trusts.
pub(super) async fn roots(client: &Client, namespace: &str, ca: Option<&CaSource>) -> Result<Roots, CredentialProblem> {
    let Some(ca) = ca else { return Ok(Roots::Web) };
    let pem = match (&ca.pem, &ca.config_map_ref, &ca.secret_ref) {
        (Some(pem), None, None) => pem.clone().into_bytes(),
        (None, Some(reference), None) => config_map(client, namespace, reference).await?,
        (None, None, Some(reference)) => {
            let what = format!("Secret {namespace}/{}", reference.name);
            let mut files = secret(client, namespace, &reference.name, &what).await?;
            files.remove(&reference.key).ok_or_else(|| missing_key(&what, &reference.key))?
        }
        _ => {
            let message = "spec.ca: give exactly one of pem, configMapRef and secretRef".to_owned();
            return Err(CredentialProblem::Unusable(message));
        }
    };
    Ok(Roots::Pem(pem))
}

fn missing_key(what: &str, key: &str) -> CredentialProblem {
    CredentialProblem::Unusable(format!("{what} has no key {key}: add it, or correct spec.ca"))
}

fn mounted(mount: &str, folder: &FilePath) -> Result<BTreeMap<String, Vec<u8>>, CredentialProblem> {
    let gone = || {
        CredentialProblem::Gone(format!(
            "nothing is mounted for spec.auth.clientCertificate.mount {mount}: mount a Secret with tls.crt and tls.key there, \
             as the chart's values do"
        ))
    };
    // One generation: the link is resolved once, and the files are read from where it pointed.
    let folder = match folder.join("..data").canonicalize() {
        Ok(generation) => generation,
        Err(error) if error.kind() == io::ErrorKind::NotFound => folder.to_owned(),
        Err(error) => return Err(unreadable(mount, &error)),
    };
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
        Err(error) => return Err(unreadable(mount, &error)),
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(mount, &error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let metadata = std::fs::metadata(entry.path()).map_err(|error| unreadable(mount, &error))?;
        if metadata.is_file() && metadata.len() <= MAX_FILE {
            let content = std::fs::read(entry.path()).map_err(|error| unreadable(mount, &error))?;
            files.insert(name, content);
        }
    }
    if files.is_empty() { Err(gone()) } else { Ok(files) }
}

fn unreadable(mount: &str, error: &io::Error) -> CredentialProblem {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let message = format!("the mounted credential {mount} may not be read: let the operator's user read its files");
        return CredentialProblem::Unusable(message);
    }
    CredentialProblem::Unknown(format!("the mounted credential {mount} cannot be read: {}", error.kind()))
}

async fn secret(
    client: &Client,
    namespace: &str,
    name: &str,
    what: &str,
) -> Result<BTreeMap<String, Vec<u8>>, CredentialProblem> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match api.get_opt(name).await {
        Ok(Some(secret)) => {
            Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
        }
        Ok(None) => Err(CredentialProblem::Gone(format!("{what} does not exist: create it, or correct the store"))),
        Err(error) => Err(unavailable(what, &error)),
    }
}

async fn config_map(client: &Client, namespace: &str, reference: &KeyRef) -> Result<Vec<u8>, CredentialProblem> {
    let what = format!("ConfigMap {namespace}/{}", reference.name);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    match api.get_opt(&reference.name).await {
        Ok(Some(map)) => {
            let text = map.data.unwrap_or_default().remove(&reference.key);
            text.map(String::into_bytes).ok_or_else(|| missing_key(&what, &reference.key))
        }
        Ok(None) => Err(CredentialProblem::Gone(format!("{what} does not exist: create it, or correct spec.ca"))),
        Err(error) => Err(unavailable(&what, &error)),
    }
}

fn unavailable(what: &str, error: &kube::Error) -> CredentialProblem {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            CredentialProblem::Unusable(format!("{what} may not be read: grant the operator get on it"))
        }
        _ => CredentialProblem::Unknown(format!("{what} cannot be read, because the Kubernetes API does not answer")),
    }
}
