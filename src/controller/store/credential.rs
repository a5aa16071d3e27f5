//! Reads what a store refers to: its credential and its certificate authorities.
//!
//! A mounted credential is read through the `..data` link that a kubelet swaps, so that certificate and key are of one generation.

use std::{collections::BTreeMap, io, path::Path as FilePath};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;

use super::{super::Context, problem::Problem};
use crate::{
    api::{Auth, CaSource, KeyRef, Store},
    model::OkmsId,
    okms::{Identity, Roots},
};

/// The largest credential file that is read, in bytes: a certificate chain has some kilobytes, a Secret at most this.
const MAX_FILE: u64 = 1 << 20;

/// Reads on behalf of one store: what a `ClusterOkmsStore` names is in the operator's own namespace, what an `OkmsStore` names in the
/// store's.
pub(super) struct Reader<'a> {
    context: &'a Context,
    namespace: &'a str,
    /// For a store of the whole cluster.
    shared: bool,
}

impl<'a> Reader<'a> {
    pub fn new(context: &'a Context, store: &'a Store) -> Self {
        Self { context, namespace: namespace_of(context, store), shared: matches!(store, Store::Cluster(_)) }
    }

    /// The client certificate, valid now and for its domain.
    pub async fn identity(&self, auth: &Auth, okms_id: Option<&OkmsId>) -> Result<Identity, Problem> {
        let auth = auth.client_certificate.clone().unwrap_or_default();
        let (what, files) = match (&auth.mount, &auth.secret_ref) {
            // What is mounted belongs to the whole cluster; the CRD of the other kind has no such field.
            (Some(mount), None) if self.shared => {
                let folder = self.context.config.mount_root.join(mount);
                (format!("the mounted credential {mount}"), mounted(mount, &folder)?)
            }
            (None, Some(reference)) => {
                let what = format!("Secret {}/{}", self.namespace, reference.name);
                (what.clone(), self.secret(&reference.name, &what).await?)
            }
            _ => {
                let message = "spec.auth.clientCertificate: give exactly one of mount and secretRef";
                return Err(Problem::spec(message.to_owned()));
            }
        };
        let checked = Identity::from_files(&files).and_then(|identity| {
            identity.validity(self.context.config.clock.now())?;
            okms_id.map_or(Ok(()), |okms_id| identity.belongs_to(okms_id))?;
            Ok(identity)
        });
        checked.map_err(|error| Problem::credential(format!("{what}: {error}")))
    }

    /// Whose signature on a server certificate is trusted. `field` is where the spec says it.
    pub async fn roots(&self, field: &str, ca: Option<&CaSource>) -> Result<Roots, Problem> {
        let Some(ca) = ca else { return Ok(Roots::Web) };
        let pem = match (&ca.pem, &ca.config_map_ref, &ca.secret_ref) {
            (Some(pem), None, None) => pem.clone().into_bytes(),
            (None, Some(reference), None) => self.config_map(field, reference).await?,
            (None, None, Some(reference)) => self.secret_key(field, reference).await?,
            _ => {
                return Err(Problem::spec(format!("{field}: give exactly one of pem, configMapRef and secretRef")));
            }
        };
        Ok(Roots::Pem(pem))
    }

    async fn secret(&self, name: &str, what: &str) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), self.namespace);
        match api.get_opt(name).await {
            Ok(Some(secret)) => {
                Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
            }
            Ok(None) => Err(Problem::gone(format!("{what} does not exist: create it, or correct the store"))),
            Err(error) => Err(unavailable(what, &error)),
        }
    }

    async fn secret_key(&self, field: &str, reference: &KeyRef) -> Result<Vec<u8>, Problem> {
        let what = format!("Secret {}/{}", self.namespace, reference.name);
        let mut files = self.secret(&reference.name, &what).await?;
        files.remove(&reference.key).ok_or_else(|| missing_key(&what, field, &reference.key))
    }

    async fn config_map(&self, field: &str, reference: &KeyRef) -> Result<Vec<u8>, Problem> {
        let what = format!("ConfigMap {}/{}", self.namespace, reference.name);
        let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), self.namespace);
        match api.get_opt(&reference.name).await {
            Ok(Some(map)) => {
                let text = map.data.unwrap_or_default().remove(&reference.key);
                text.map(String::into_bytes).ok_or_else(|| missing_key(&what, field, &reference.key))
            }
            Ok(None) => Err(Problem::gone(format!("{what} does not exist: create it, or correct {field}"))),
            Err(error) => Err(unavailable(&what, &error)),
        }
    }
}

/// Where what a store names is looked up.
pub(super) fn namespace_of<'a>(context: &'a Context, store: &'a Store) -> &'a str {
    match store {
        Store::Cluster(_) => &context.config.namespace,
        Store::Namespaced(store) => store.metadata.namespace.as_deref().unwrap_or_default(),
    }
}

fn missing_key(what: &str, field: &str, key: &str) -> Problem {
    Problem::credential(format!("{what} has no key {key}: add it, or correct {field}"))
}

fn mounted(mount: &str, folder: &FilePath) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let gone = || {
        Problem::gone(format!(
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

fn unreadable(mount: &str, error: &io::Error) -> Problem {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let message = format!("the mounted credential {mount} may not be read: let the operator's user read its files");
        return Problem::credential(message);
    }
    Problem::Unknown(format!("the mounted credential {mount} cannot be read: {}", error.kind()))
}

fn unavailable(what: &str, error: &kube::Error) -> Problem {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            Problem::credential(format!("{what} may not be read: grant the operator get on it"))
        }
        _ => Problem::Unknown(format!("{what} cannot be read, because the Kubernetes API does not answer")),
    }
}
