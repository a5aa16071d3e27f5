//! The chart, installed with Helm as its README says: the calls that do it, and those that undo it.

use std::fs;

use anyhow::{Context, Result};
use test_cluster::supervise::Folder;

use super::{
    Call, Simulator,
    call::{helm, kubectl},
};

/// The namespace of the release.
pub(crate) const NAMESPACE: &str = "okms-operator-system";

/// The Secret with the client certificate.
pub(crate) const CREDENTIAL: &str = "okms-client";

/// The `ServiceAccount` and the Deployment that the release makes.
pub(crate) const NAME: &str = "okms-operator";

/// What the chart is told.
pub(crate) struct Installation {
    /// `values.yaml`.
    pub(crate) values: String,
    file: String,
}

impl Installation {
    /// Prepares an installation that lets one namespace read `paths`; `more` follows below `store:` in the values, and `rest` after it.
    pub(crate) fn new(
        folder: &Folder,
        simulator: &Simulator,
        namespace: &str,
        paths: &str,
        more: &str,
        rest: &str,
    ) -> Result<Self> {
        let values = format!(
            "store:
  endpoint: {}
  credentialSecret: {CREDENTIAL}
  ca: {{configMapRef: {{name: okms-ca, key: ca.crt}}}}
  access:
  - {{namespaces: [{namespace}], paths: [\"{paths}\"]}}
{more}{rest}",
            simulator.endpoint(),
        );
        let path = folder.path().join("values.yaml");
        fs::write(&path, &values).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { values, file: path.display().to_string() })
    }

    /// What a user does first: a namespace with the credential and the authority of the endpoint.
    pub(crate) fn preparations(simulator: &Simulator) -> Vec<Call> {
        let file = |option: &str, name| format!("{option}={}", simulator.file(name));
        vec![
            kubectl("create namespace").arg(NAMESPACE),
            kubectl("create secret tls")
                .words(CREDENTIAL)
                .words("-n")
                .arg(NAMESPACE)
                .arg(file("--cert", "tls.crt"))
                .arg(file("--key", "tls.key")),
            kubectl("create configmap okms-ca -n").arg(NAMESPACE).arg(file("--from-file", "ca.crt")),
        ]
    }

    pub(crate) fn install(&self) -> Call {
        helm("install").arg(NAME).words("charts/okms-operator -n").arg(NAMESPACE).arg(format!("--values={}", self.file))
    }

    /// The operator is to run on this machine, so the pods of the Deployment must not.
    pub(crate) fn without_pods() -> Call {
        kubectl("scale deployment").arg(NAME).words("--replicas=0 -n").arg(NAMESPACE)
    }

    /// Helm leaves the CRDs and the namespace.
    pub(crate) fn removal() -> Vec<Call> {
        let crds = okms_operator::api::crds();
        let crds = crds.into_iter().filter_map(|(file, _)| {
            let (group, plural) = file.trim_end_matches(".yaml").split_once('_')?;
            Some(format!("{plural}.{group}"))
        });
        vec![
            helm("uninstall").arg(NAME).words("-n").arg(NAMESPACE).words("--ignore-not-found"),
            crds.fold(kubectl("delete crd --ignore-not-found"), Call::arg),
            kubectl("delete namespace --ignore-not-found").arg(NAMESPACE),
        ]
    }
}
