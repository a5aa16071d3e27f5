//! Reads what a store refers to: its credential and its certificate authorities.
//!
//! A mounted credential is read through the `..data` link that a kubelet swaps, so that certificate and key are of one generation.

use std::{
    collections::BTreeMap,
    io,
    path::Path as FilePath,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{super::Config, problem::Problem};
use crate::{
    api::{Auth, CaSource, ClientCertificateAuth, KeyRef, OAuth2Auth, SecretRef, Store, TokenAuth},
    model::OkmsId,
    okms::{Credential, CredentialError, Identity, Roots, ServiceAccount, Token, TokenEndpoint},
};

/// The largest credential file that is read, in bytes: a certificate chain has some kilobytes, a Secret at most this.
const MAX_FILE: u64 = 1 << 20;

/// Reads on behalf of one store: what a `ClusterOkmsStore` names is in the operator's own namespace, what an `OkmsStore` names in the
/// store's.
pub(in crate::controller) struct Reader<'a> {
    client: &'a Client,
    config: &'a Config,
    namespace: &'a str,
    /// For a store of the whole cluster.
    shared: bool,
    parsed: Parsed,
}

/// What came of the files that were last parsed: PKCS#12 is made to be costly to open, whether or not the password is right, and
/// files are looked at every few seconds.
#[derive(Clone, Default)]
pub(super) struct Parsed(Arc<Mutex<Option<OfFiles>>>);

#[derive(Clone)]
struct OfFiles {
    digest: [u8; 32],
    parsed: Result<Identity, CredentialError>,
}

impl Parsed {
    async fn identity(&self, files: BTreeMap<String, Vec<u8>>) -> Result<Identity, CredentialError> {
        let digest = digest(&files);
        if let Some(known) = self.lock().as_ref().filter(|known| known.digest == digest) {
            return known.parsed.clone();
        }
        let parsed = tokio::task::spawn_blocking(move || Identity::from_files(&files)).await;
        // The task does nothing that panics; should it all the same, so does this one.
        let parsed = parsed.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        *self.lock() = Some(OfFiles { digest, parsed: parsed.clone() });
        parsed
    }

    fn lock(&self) -> MutexGuard<'_, Option<OfFiles>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(files: &BTreeMap<String, Vec<u8>>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (name, content) in files {
        for part in [name.as_bytes(), content] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
    }
    digest.finalize().into()
}

impl<'a> Reader<'a> {
    pub fn new(client: &'a Client, config: &'a Config, store: &'a Store) -> Self {
        let shared = matches!(store, Store::Cluster(_));
        Self { client, config, namespace: namespace_of(config, store), shared, parsed: Parsed::default() }
    }

    /// Remembers there what it parses.
    pub(super) fn remembering(self, parsed: Parsed) -> Self {
        Self { parsed, ..self }
    }

    /// What the store authenticates with; a certificate is valid now, and for the domain that the spec names.
    pub async fn credential(&self, auth: &Auth, okms_id: Option<&OkmsId>) -> Result<Credential, Problem> {
        match (&auth.client_certificate, &auth.token, &auth.oauth2) {
            (Some(auth), None, None) => Ok(self.identity(auth, okms_id).await?.into()),
            (None, Some(auth), None) => self.token(auth).await,
            (None, None, Some(auth)) => self.service_account(auth).await,
            _ => {
                let message = "spec.auth: give exactly one of clientCertificate, token and oauth2";
                Err(Problem::spec(message.to_owned()))
            }
        }
    }

    /// Whether what a store authenticated with is still there, whatever it holds now.
    pub(super) async fn present(&self, auth: &Auth) -> Result<(), Problem> {
        match (&auth.client_certificate, &auth.token, &auth.oauth2) {
            (Some(auth), ..) => self.files(auth).await.map(drop),
            (_, Some(TokenAuth { secret_ref: KeyRef { name, .. } }), _)
            | (.., Some(OAuth2Auth { secret_ref: SecretRef { name }, .. })) => {
                self.secret(name, &format!("Secret {}/{name}", self.namespace)).await.map(drop)
            }
            (None, None, None) => Ok(()),
        }
    }

    /// The files of a client certificate, and how a message calls where they are.
    async fn files(&self, auth: &ClientCertificateAuth) -> Result<(String, BTreeMap<String, Vec<u8>>), Problem> {
        match (&auth.mount, &auth.secret_ref) {
            // What is mounted belongs to the whole cluster; the CRD of the other kind has no such field.
            (Some(mount), None) if self.shared => {
                if !is_folder_name(mount) {
                    return Err(Problem::spec(
                        "spec.auth.clientCertificate.mount: give the name of one folder below the operator's mount root, of \
                         lower-case letters, digits and '-'"
                            .to_owned(),
                    ));
                }
                let folder = self.config.mount_root.join(mount);
                Ok((format!("the mounted credential {mount}"), mounted(mount, &folder)?))
            }
            (None, Some(reference)) => {
                let what = format!("Secret {}/{}", self.namespace, reference.name);
                let files = self.secret(&reference.name, &what).await?;
                Ok((what, files))
            }
            _ => {
                let message = "spec.auth.clientCertificate: give exactly one of mount and secretRef";
                Err(Problem::spec(message.to_owned()))
            }
        }
    }

    async fn identity(&self, auth: &ClientCertificateAuth, okms_id: Option<&OkmsId>) -> Result<Identity, Problem> {
        let (what, files) = self.files(auth).await?;
        let checked = self.parsed.identity(files).await.and_then(|identity| {
            identity.validity(self.config.clock.now())?;
            okms_id.map_or(Ok(()), |okms_id| identity.belongs_to(okms_id))?;
            Ok(identity)
        });
        checked.map_err(|error| Problem::credential(format!("{what}: {error}")))
    }

    async fn token(&self, auth: &TokenAuth) -> Result<Credential, Problem> {
        let KeyRef { name, key } = &auth.secret_ref;
        let bytes = Zeroizing::new(self.secret_key("spec.auth.token.secretRef", &auth.secret_ref).await?);
        let token = Token::new(&bytes)
            .map_err(|error| Problem::credential(format!("key {key} of Secret {}/{name}: {error}", self.namespace)))?;
        Ok(token.into())
    }

    async fn service_account(&self, auth: &OAuth2Auth) -> Result<Credential, Problem> {
        let endpoint = token_endpoint(auth)?;
        let what = format!("Secret {}/{}", self.namespace, auth.secret_ref.name);
        let files = self.secret(&auth.secret_ref.name, &what).await?;
        let roots = self.roots("spec.auth.oauth2.ca", auth.ca.as_ref()).await?;
        let account = ServiceAccount::from_files(&files, endpoint, roots)
            .map_err(|error| Problem::credential(format!("{what}: {error}")))?;
        Ok(account.into())
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
        let roots = Roots::Pem(pem);
        roots.check().map_err(|error| Problem::credential(format!("{field}: {error}")))?;
        Ok(roots)
    }

    async fn secret(&self, name: &str, what: &str) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
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
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.namespace);
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

/// As the CRD has it: a name that leads nowhere else.
fn is_folder_name(mount: &str) -> bool {
    !mount.is_empty() && mount.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Where a service account gets its access tokens.
pub(super) fn token_endpoint(auth: &OAuth2Auth) -> Result<TokenEndpoint, Problem> {
    auth.token_endpoint.parse().map_err(|error| Problem::spec(format!("spec.auth.oauth2.tokenEndpoint: {error}")))
}

/// Where what a store names is looked up.
pub(super) fn namespace_of<'a>(config: &'a Config, store: &'a Store) -> &'a str {
    match store {
        Store::Cluster(_) => &config.namespace,
        Store::Namespaced(store) => store.metadata.namespace.as_deref().unwrap_or_default(),
    }
}

fn missing_key(what: &str, field: &str, key: &str) -> Problem {
    Problem::credential(format!("{what} has no key {key}: add it, or correct {field}"))
}

/// How often a folder is read again that was swapped meanwhile. A kubelet does so once a minute at most.
const MOST_SWAPS: usize = 8;

fn mounted(mount: &str, folder: &FilePath) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let link = folder.join("..data");
    for _ in 0..MOST_SWAPS {
        // One generation: the link is read once, and the files from where it pointed.
        let generation = match link.read_link() {
            Ok(generation) => generation,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                return files_in(mount, folder);
            }
            Err(error) => return Err(unreadable(mount, &error)),
        };
        let files = files_in(mount, &folder.join(&generation));
        // Once it points elsewhere the kubelet removes what it pointed to, so that what was read may be a part of it, or nothing.
        if link.read_link().is_ok_and(|now| now == generation) {
            return files;
        }
    }
    Err(Problem::Unknown(format!("the mounted credential {mount} changes while it is read")))
}

fn files_in(mount: &str, folder: &FilePath) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let gone = || {
        Problem::gone(format!(
            "nothing is mounted for spec.auth.clientCertificate.mount {mount}: mount a Secret with the client certificate there, \
             as the chart's values do"
        ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_leads_nowhere_but_into_a_folder() {
        assert!(is_folder_name("default") && is_folder_name("okms-2"));
        for mount in ["", ".", "..", "../etc", "a/b", "/etc", "a\\b", "A", "a b", "a\0"] {
            assert!(!is_folder_name(mount), "{mount:?}");
        }
    }

    #[test]
    fn a_folder_that_is_swapped_while_it_is_read_is_read_whole() {
        use std::{fs, os::unix::fs::symlink, sync::atomic::AtomicBool, sync::atomic::Ordering};
        let folder = tempfile::tempdir().unwrap();
        // As a kubelet does it: a new folder, the link renamed onto the old one, the old folder removed.
        let swap = |root: &FilePath, n: usize| {
            let generation = root.join(format!("..{n}"));
            fs::create_dir(&generation).unwrap();
            for file in ["tls.crt", "tls.key"] {
                fs::write(generation.join(file), n.to_string()).unwrap();
            }
            symlink(format!("..{n}"), root.join("..data_tmp")).unwrap();
            fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
            if n > 0 {
                fs::remove_dir_all(root.join(format!("..{}", n - 1))).unwrap();
            }
        };
        swap(folder.path(), 0);
        let (done, root) = (Arc::new(AtomicBool::new(false)), folder.path().to_owned());
        let swapping = std::thread::spawn({
            let done = done.clone();
            move || (1..2000).take_while(|_| !done.load(Ordering::Relaxed)).for_each(|n| swap(&root, n))
        });
        while !swapping.is_finished() {
            match mounted("default", folder.path()) {
                Ok(files) => {
                    assert_eq!(files.keys().collect::<Vec<_>>(), ["tls.crt", "tls.key"]);
                    assert_eq!(files["tls.crt"], files["tls.key"]);
                }
                Err(Problem::Unknown(_)) => {}
                Err(problem) => {
                    done.store(true, Ordering::Relaxed);
                    panic!("{problem:?}");
                }
            }
        }
        swapping.join().unwrap();
        assert!(mounted("default", folder.path()).is_ok());
    }

    #[tokio::test]
    async fn what_cannot_be_parsed_is_tried_once() {
        let files =
            || BTreeMap::from([("tls.crt".to_owned(), b"none".to_vec()), ("tls.key".to_owned(), b"none".to_vec())]);
        let parsed = Parsed::default();
        let problem = parsed.identity(files()).await.err().unwrap();
        // Shows whether what is remembered is asked.
        parsed.lock().as_mut().expect("it is remembered").parsed = Err(CredentialError::CostlyPkcs12);
        assert_ne!(problem, CredentialError::CostlyPkcs12);
        assert_eq!(parsed.identity(files()).await.err(), Some(CredentialError::CostlyPkcs12));
        assert_eq!(parsed.identity(BTreeMap::new()).await.err(), Some(CredentialError::Nothing));
    }

    #[test]
    fn other_files_are_another_credential() {
        let files = |files: &[(&str, &str)]| -> BTreeMap<String, Vec<u8>> {
            files.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
        };
        let one = digest(&files(&[("a", "bc")]));
        assert_eq!(one, digest(&files(&[("a", "bc")])));
        for other in [&[("ab", "c")][..], &[("a", "b")], &[("a", "bc"), ("d", "")], &[("a", ""), ("b", "c")]] {
            assert_ne!(one, digest(&files(other)), "{other:?}");
        }
    }
}
