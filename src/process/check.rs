//! `okms-operator check`: finds what is to be looked at, has the controller look, and prints what it found.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path as FilePath, PathBuf},
};

use super::{Error, cluster::Cluster};
use crate::controller::{
    Config, EndpointPattern, NamespacedStores,
    check::{self, Draft, Report, Subject},
};

/// What a user asks.
#[derive(Clone)]
pub struct Question {
    pub about: About,
    /// A secret that shall be readable.
    pub path: Option<String>,
    pub json: bool,
}

#[derive(Clone)]
pub enum About {
    Store {
        subject: Subject,
        /// Where a `ClusterOkmsStore`'s Secrets are; absent: as for `run`.
        own_namespace: Option<String>,
        mount_root: PathBuf,
        /// The endpoints and token endpoints that a store of a namespace may name.
        allowed_endpoints: Vec<EndpointPattern>,
    },
    Draft {
        endpoint: String,
        okms_id: Option<String>,
        credential: Files,
        ca: Option<PathBuf>,
    },
}

/// Where the files of a credential are.
#[derive(Debug, Clone)]
pub enum Files {
    Pair {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// With the names that they have in a Secret.
    Folder(PathBuf),
}

/// Answers whether everything is right.
pub fn run(question: &Question) -> Result<bool, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let report = runtime.block_on(look(question))?;
    let printed = if question.json { as_json(&report) } else { report.to_string() };
    io::stdout().write_all(printed.as_bytes()).map_err(Error::Output)?;
    Ok(report.is_right())
}

async fn look(question: &Question) -> Result<Report, Error> {
    let path = question.path.as_ref().map(|path| path.parse()).transpose();
    let path = path.map_err(|error| Error::Argument { name: "--path", source: Box::new(error) })?;
    match &question.about {
        About::Draft { endpoint, okms_id, credential, ca } => {
            let files = credential.read()?;
            let ca = ca.as_ref().map(|file| read("--ca", file)).transpose()?;
            let draft = Draft { endpoint: endpoint.clone(), okms_id: okms_id.clone(), files, ca };
            Ok(check::draft(&Config::default(), &draft, path.as_ref()).await)
        }
        About::Store { subject, own_namespace, mount_root, allowed_endpoints } => {
            let cluster = Cluster::find().await?;
            let namespace = own_namespace.clone().unwrap_or_else(|| cluster.client.default_namespace().to_owned());
            let stores =
                NamespacedStores { allowed_endpoints: allowed_endpoints.clone(), ..NamespacedStores::default() };
            let config = Config {
                namespace,
                mount_root: mount_root.clone(),
                namespaced_stores: Some(stores),
                ..Config::default()
            };
            let report = check::store(&cluster.client, &config, subject, path.as_ref()).await;
            report.map_err(|error| super::preflight::failed(&cluster, error))
        }
    }
}

impl Files {
    fn read(&self) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        match self {
            Self::Pair { certificate, key } => Ok(BTreeMap::from([
                ("tls.crt".to_owned(), read("--cert", certificate)?),
                ("tls.key".to_owned(), read("--key", key)?),
            ])),
            Self::Folder(folder) => {
                let unreadable = |source: io::Error| Error::Argument { name: "--credential", source: Box::new(source) };
                let mut files = BTreeMap::new();
                for entry in fs::read_dir(folder).map_err(unreadable)? {
                    let entry = entry.map_err(unreadable)?;
                    if let Ok(name) = entry.file_name().into_string()
                        && entry.path().is_file()
                    {
                        files.insert(name, read("--credential", &entry.path())?);
                    }
                }
                Ok(files)
            }
        }
    }
}

fn read(name: &'static str, file: &FilePath) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|error| {
        let source = format!("{} cannot be read: {error}", file.display());
        Error::Argument { name, source: source.into() }
    })
}

/// One object, for scripts.
fn as_json(report: &Report) -> String {
    let json = serde_json::json!({
        "subject": report.subject, "right": report.is_right(), "findings": report.findings,
    });
    format!("{json:#}\n")
}
