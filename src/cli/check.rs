//! What `check` is asked.

#![allow(clippy::doc_markdown)] // `--help` prints these comments, and shows no Markdown.

use std::path::PathBuf;

use clap::{ArgGroup, Args, CommandFactory, ValueEnum};

use super::{Cli, namespace, or_ovhcloud};
use crate::{
    controller::check::Subject,
    okms::EndpointPattern,
    process::check::{About, Files, Question},
};

// In lines of at most 80 characters, so that a terminal shows them as they are.
pub(super) const AFTERWORD: &str = "\
Examples:
  The store that most clusters have, where its credential is mounted:
    kubectl exec -n okms-system deploy/okms-operator -- \\
      /okms-operator check --store default

  A store of the namespace shop, and one secret through it:
    okms-operator check --store vault --namespace shop --path prod/shop/db

  An access certificate, before there is a cluster:
    okms-operator check --endpoint https://eu-west-rbx.okms.ovh.net \\
      --cert client.crt --key client.key

Exit codes:
  0  everything is right
  1  something is wrong
  2  wrong command line, or a file cannot be read
  3  no cluster: none configured, or it does not answer
  5  this identity may not read the store";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("subject").required(true).args(["store", "endpoint"]))]
pub(super) struct Check {
    /// The store: a ClusterOkmsStore, or with --namespace an OkmsStore.
    #[arg(long, value_name = "NAME")]
    store: Option<String>,

    /// The namespace of an OkmsStore.
    #[arg(long, value_name = "NAME", requires = "store", value_parser = namespace)]
    namespace: Option<String>,

    /// The operator's own namespace, where a ClusterOkmsStore's secretRef is looked up. Absent: the ServiceAccount's in a pod, else
    /// that of the kubeconfig's context.
    #[arg(
        long, value_name = "NAME", env = "OKMS_OPERATOR_NAMESPACE", value_parser = namespace,
        conflicts_with = "endpoint"
    )]
    operator_namespace: Option<String>,

    /// The folder below which a store finds its mounted credential.
    #[arg(long, value_name = "DIR", env = "OKMS_OPERATOR_MOUNT_ROOT", default_value = "/etc/okms")]
    mount_root: PathBuf,

    /// As for run: where an OkmsStore may send a credential. Give what the operator was given, if it is not OVHcloud's own.
    #[arg(
        long = "allowed-endpoint",
        value_name = "PATTERN",
        env = "OKMS_OPERATOR_ALLOWED_ENDPOINT",
        value_delimiter = ',',
        conflicts_with = "endpoint"
    )]
    allowed_endpoints: Vec<EndpointPattern>,

    /// The address of an OKMS, to try a credential without a store.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,

    /// The client certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "endpoint", requires = "key", conflicts_with = "store")]
    cert: Option<PathBuf>,

    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// A folder with the files that a Secret would have: tls.crt and tls.key, client.p12 and password, or credential.json.
    #[arg(long, value_name = "DIR", requires = "endpoint", conflicts_with_all = ["store", "cert"])]
    credential: Option<PathBuf>,

    /// The certificate authorities of the endpoint, in PEM. Absent: the public roots.
    #[arg(long, value_name = "FILE", requires = "endpoint", conflicts_with = "store")]
    ca: Option<PathBuf>,

    /// The id of the OKMS domain. Absent: that of the certificate.
    #[arg(long, value_name = "UUID", requires = "endpoint", conflicts_with = "store")]
    okms_id: Option<String>,

    /// A secret that shall be readable, such as prod/shop/db: tries both rights that the operator needs, and keeps nothing of it.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,

    /// How to print: text, or json for scripts.
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One object
    Json,
}

impl Check {
    /// The question, or what is missing for one.
    pub(super) fn question(self) -> Result<Question, clap::Error> {
        let about = match (self.store, self.endpoint) {
            (Some(name), _) => About::Store {
                subject: match self.namespace {
                    Some(namespace) => Subject::OkmsStore { namespace, name },
                    None => Subject::ClusterOkmsStore(name),
                },
                own_namespace: self.operator_namespace,
                mount_root: self.mount_root,
                allowed_endpoints: or_ovhcloud(self.allowed_endpoints),
            },
            (None, endpoint) => {
                let credential = match (self.cert, self.key, self.credential) {
                    (Some(certificate), Some(key), _) => Files::Pair { certificate, key },
                    (_, _, Some(folder)) => Files::Folder(folder),
                    _ => {
                        let message = "--endpoint needs a credential: give --cert and --key, or --credential";
                        let mut command = Cli::command();
                        return Err(command.error(clap::error::ErrorKind::MissingRequiredArgument, message));
                    }
                };
                let endpoint = endpoint.unwrap_or_default();
                About::Draft { endpoint, okms_id: self.okms_id, credential, ca: self.ca }
            }
        };
        Ok(Question { about, path: self.path, json: self.output == Output::Json })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Command;

    fn question(arguments: &[&str]) -> Result<Question, clap::Error> {
        let arguments = ["okms-operator", "check"].iter().chain(arguments);
        match Cli::try_parse_from(arguments)?.command {
            Command::Check(check) => check.question(),
            Command::Run(_) | Command::Crds => unreachable!("`check` was asked for"),
        }
    }

    #[test]
    fn a_check_is_about_a_store_or_about_an_endpoint() {
        let about = |arguments: &[&str]| question(arguments).unwrap().about;
        assert!(matches!(
            about(&["--store", "default"]),
            About::Store { subject: Subject::ClusterOkmsStore(name), .. } if name == "default"
        ));
        assert!(matches!(
            about(&["--store", "vault", "--namespace", "shop"]),
            About::Store { subject: Subject::OkmsStore { namespace, .. }, .. } if namespace == "shop"
        ));
        let draft = ["--endpoint", "https://a.example", "--cert", "a", "--key", "b"];
        assert!(matches!(about(&draft), About::Draft { credential: Files::Pair { .. }, .. }));
        let folder = ["--endpoint", "https://a.example", "--credential", "a"];
        assert!(matches!(about(&folder), About::Draft { credential: Files::Folder(_), .. }));
        for wrong in [
            &[][..],
            &["--endpoint", "https://a.example"],
            &["--endpoint", "https://a.example", "--cert", "a"],
            &["--store", "a", "--endpoint", "https://a.example"],
            &["--namespace", "a"],
            &["--store", "a", "--cert", "a", "--key", "b"],
        ] {
            assert_eq!(question(wrong).err().map(|error| error.exit_code()), Some(2), "{wrong:?}");
        }
    }
}
