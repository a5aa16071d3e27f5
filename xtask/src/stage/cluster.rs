//! The cluster of a demo or a benchmark: a control plane of its own, or, where somebody asked for it by name, one that is there.
//!
//! Either way it is one kubeconfig file in a folder of ours, which kubectl, Helm and the bench use. The user's own kubeconfig
//! is read, and never written.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use test_cluster::{ControlPlane, binaries, supervise::Folder};
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    Call,
    call::{Program, kubectl},
};
use crate::{run, workspace};

pub(crate) struct Cluster {
    /// Ends it when it is dropped; nothing where the cluster is somebody else's.
    control_plane: Option<ControlPlane>,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    helm: PathBuf,
    /// For the caches of kubectl and Helm: in the home folder they would outlive the cluster.
    home: PathBuf,
}

/// What a call printed.
pub(crate) struct Printed {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Cluster {
    /// Starts a control plane.
    pub(crate) fn start(folder: &Folder) -> Result<Self> {
        Self::of(folder, ControlPlane::start()?)
    }

    /// The same of a control plane that was started.
    pub(crate) fn of(folder: &Folder, control_plane: ControlPlane) -> Result<Self> {
        let kubeconfig = write_kubeconfig(folder, control_plane.kubeconfig_yaml())?;
        Self::with(folder, kubeconfig, Some(control_plane))
    }

    /// The cluster of a context of the user's kubeconfig.
    pub(crate) fn existing(folder: &Folder, context: &str) -> Result<Self> {
        // Where the user is: KUBECONFIG may be a relative path.
        let mut view = std::process::Command::new(binaries::kubectl_binary()?);
        view.args(["config", "view", "--raw", "--minify", "--flatten", "--context", context]);
        let kubeconfig = run::output(&mut view).with_context(|| format!("looking for the context {context}"))?;
        let kubeconfig = write_kubeconfig(folder, &kubeconfig)?;
        Self::with(folder, kubeconfig, None)
    }

    fn with(folder: &Folder, kubeconfig: PathBuf, control_plane: Option<ControlPlane>) -> Result<Self> {
        let home = folder.path().join("home");
        Ok(Self {
            control_plane,
            kubeconfig,
            kubectl: binaries::kubectl_binary()?,
            helm: binaries::helm_binary()?,
            home,
        })
    }

    /// Nothing where the cluster is somebody else's.
    pub(crate) fn into_control_plane(self) -> Option<ControlPlane> {
        self.control_plane
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.control_plane.is_some()
    }

    /// The administrator's.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub(crate) fn kubectl(&self) -> &Path {
        &self.kubectl
    }

    /// Runs a call to its end, however that is.
    pub(crate) async fn run(&self, call: &Call) -> Result<Printed> {
        let program = match call.program {
            Program::Kubectl => &self.kubectl,
            Program::Helm => &self.helm,
        };
        let mut command = Command::new(program);
        command.args(&call.arguments).current_dir(workspace::root());
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", self.home.join("kube"));
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.home.join(name));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let mut stdin = child.stdin.take().context("the program has no standard input")?;
        stdin.write_all(call.input.as_bytes()).await.context("writing what a program reads")?;
        drop(stdin);
        let output = child.wait_with_output().await.context("waiting for a program")?;
        Ok(Printed {
            ok: output.status.success(),
            stdout: String::from_utf8(output.stdout).context("a program printed something that is no text")?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a call that must succeed, and returns what it printed.
    pub(crate) async fn succeed(&self, call: &Call) -> Result<String> {
        let printed = self.run(call).await?;
        if !printed.ok {
            bail!("`{}` failed: {}", call.lines(usize::MAX).join("\n"), printed.stderr.trim());
        }
        Ok(printed.stdout)
    }

    /// An object as `kubectl get <words> -o json` shows it; nothing where it is not there.
    pub(crate) async fn get(&self, words: &str) -> Result<Option<Value>> {
        let call = kubectl("get").words(words).words("--ignore-not-found -o json");
        let printed = self.succeed(&call).await?;
        if printed.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&printed).map(Some).context("kubectl printed something that is no JSON")
    }

    /// A kubeconfig for this cluster with a token instead of the administrator's identity.
    pub(crate) async fn kubeconfig_with(&self, token: &str, namespace: &str) -> Result<String> {
        let printed = self.succeed(&kubectl("config view --raw --minify --flatten -o json")).await?;
        let ours: Value = serde_json::from_str(&printed).context("kubectl printed a kubeconfig that is no JSON")?;
        let cluster = ours.pointer("/clusters/0").context("the kubeconfig names no cluster")?;
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [{"name": "operator", "user": {"token": token.trim()}}],
            "contexts": [{
                "name": "operator",
                "context": {"cluster": cluster.get("name"), "user": "operator", "namespace": namespace},
            }],
            "current-context": "operator",
        });
        Ok(kubeconfig.to_string())
    }
}

fn write_kubeconfig(folder: &Folder, content: &str) -> Result<PathBuf> {
    let path = folder.path().join("kubeconfig");
    fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
