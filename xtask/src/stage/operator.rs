//! The operator as a process on this machine, with the arguments of the chart's Deployment and the identity and the rights of the
//! chart's `ServiceAccount`.
//!
//! No kubelet runs where there are no nodes. What it would do is done here: fetch the token, lay out the mounted Secret.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use test_cluster::supervise::{Folder, Process};

use super::{
    Call, Cluster, STARTED,
    call::kubectl,
    eventually,
    installation::{CREDENTIAL, NAME, NAMESPACE},
};

/// What a kubelet gives it.
const STOPPED: Duration = Duration::from_secs(30);

/// Tells its own process id before it becomes the operator.
const TELL_ID: &str = r#"echo "$$" >"$0" && exec "$@""#;

/// A running operator, ended when it is dropped.
pub(crate) struct Operator {
    process: Process,
    id: u32,
    address: SocketAddr,
}

/// The request for the operator's token. A day, so that a demo that is kept does not end over lunch; a cluster may grant less.
pub(crate) fn token() -> Call {
    kubectl("create token").arg(NAME).words("--duration=24h -n").arg(NAMESPACE)
}

/// The folder with the mounted credential, laid out as a kubelet does it: files are links into a folder that is swapped by one link.
pub(crate) struct Mounted {
    root: PathBuf,
    /// How often it was swapped.
    number: usize,
}

/// Does a kubelet's work for the Secret that the Deployment mounts.
pub(crate) async fn mount_credential(folder: &Folder, cluster: &Cluster) -> Result<Mounted> {
    let secret = cluster.get(&format!("secret {CREDENTIAL} -n {NAMESPACE}")).await?;
    let secret = secret.context("the Secret with the credential is not there")?;
    let data = secret.get("data").and_then(Value::as_object).context("the Secret with the credential is empty")?;
    let mut mounted = Mounted { root: folder.path().join("mounts"), number: 0 };
    fs::create_dir_all(mounted.folder()).context("making the mounted folder")?;
    let mut files = Vec::new();
    for (name, value) in data {
        let value = BASE64_STANDARD.decode(value.as_str().unwrap_or_default());
        files.push((name.as_str(), value.with_context(|| format!("decoding {name}"))?));
        let link = mounted.folder().join(name);
        symlink(Path::new("..data").join(name), link).with_context(|| format!("linking {name}"))?;
    }
    let files: Vec<_> = files.iter().map(|(name, value)| (*name, value.as_slice())).collect();
    mounted.swap(&files)?;
    Ok(mounted)
}

impl Mounted {
    /// Below which each mount is a folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self) -> PathBuf {
        self.root.join("default")
    }

    /// Puts other files in place of those of the same names.
    pub(crate) fn swap(&mut self, files: &[(&str, impl AsRef<[u8]>)]) -> Result<()> {
        self.number += 1;
        let (folder, next) = (format!("..{}", self.number), self.folder().join("..data_tmp"));
        fs::create_dir(self.folder().join(&folder)).context("making the next mounted folder")?;
        for (name, content) in files {
            let path = self.folder().join(&folder).join(name);
            fs::write(path, content).with_context(|| format!("writing the mounted {name}"))?;
        }
        symlink(&folder, &next).context("linking the next mounted folder")?;
        fs::rename(&next, self.folder().join("..data")).context("swapping the mounted folder")
    }
}

impl Operator {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(
        folder: &Folder,
        cluster: &Cluster,
        binary: &Path,
        token: &str,
        mounts: &Path,
    ) -> Result<Self> {
        let kubeconfig = cluster.kubeconfig_with(token, NAMESPACE).await?;
        Self::start_with(folder, &kubeconfig, binary, &arguments(cluster, mounts).await?).await
    }

    /// The same with another way to the cluster.
    pub(crate) async fn start_with(
        folder: &Folder,
        kubeconfig_text: &str,
        binary: &Path,
        arguments: &[String],
    ) -> Result<Self> {
        let kubeconfig = folder.path().join("operator.kubeconfig");
        fs::write(&kubeconfig, kubeconfig_text).context("writing a kubeconfig")?;
        let id_file = folder.path().join("operator.pid");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", TELL_ID]).arg(&id_file).arg(binary).args(arguments);
        command.env("KUBECONFIG", kubeconfig);
        for name in ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"] {
            command.env_remove(name);
        }
        let mut process = folder.run("okms-operator", &command)?;
        let log = process.log().to_owned();
        let address = eventually("the operator's address", STARTED, async || {
            process.check()?;
            Ok(address(&fs::read_to_string(&log).unwrap_or_default()))
        })
        .await?;
        let id = fs::read_to_string(&id_file).context("reading the operator's process id")?;
        let id = id.trim().parse().context("the operator's process id is no number")?;
        let mut operator = Self { process, id, address };
        operator.wait_until_ready().await?;
        Ok(operator)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let http = reqwest::Client::builder().no_proxy().build().context("making an HTTP client")?;
        let url = format!("http://{}/readyz", self.address);
        eventually("the operator to be ready", STARTED, async || {
            self.process.check()?;
            let ready = http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
            Ok(ready.then_some(()))
        })
        .await
    }

    /// Stops it as a kubelet does, and waits until it has ended: its work and its Lease are left in order, as a kill does not leave them.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let id = i32::try_from(self.id).ok().and_then(Pid::from_raw).context("the operator's process id is none")?;
        kill_process(id, Signal::TERM).context("stopping the operator")?;
        eventually("the operator to end", STOPPED, async || Ok(self.process.check().is_err().then_some(()))).await
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    pub(crate) fn log(&self) -> &Path {
        self.process.log()
    }

    /// Of the process.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Where `/metrics` is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Those of the Deployment, but for what differs outside a pod: where it listens, where the credentials are, which namespace is its own.
pub(crate) async fn arguments(cluster: &Cluster, mounts: &Path) -> Result<Vec<String>> {
    let deployment = cluster.get(&format!("deployment {NAME} -n {NAMESPACE}")).await?;
    let deployment = deployment.context("the chart made no Deployment")?;
    let arguments = deployment.pointer("/spec/template/spec/containers/0/args").and_then(Value::as_array);
    let arguments = arguments.context("the chart's Deployment has no arguments")?;
    let differs = |argument: &str| ["--listen=", "--mount-root="].iter().any(|option| argument.starts_with(option));
    let arguments = arguments.iter().filter_map(Value::as_str).filter(|argument| !differs(argument));
    let mut arguments: Vec<_> = arguments.map(str::to_owned).collect();
    if arguments.first().is_none_or(|command| command != "run") {
        bail!("the chart's Deployment does not call `run`");
    }
    arguments.push("--listen=127.0.0.1:0".to_owned());
    arguments.push(format!("--mount-root={}", mounts.display()));
    arguments.push(format!("--namespace={NAMESPACE}"));
    Ok(arguments)
}

/// Where it serves, as its log (JSON, the chart's default) says.
fn address(log: &str) -> Option<SocketAddr> {
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find_map(|line| line.get("address")?.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_log() {
        let log = r#"{"level":"INFO","message":"starting"}
            {"level":"INFO","message":"serving /livez","address":"127.0.0.1:4711"}"#;
        assert_eq!(address(log), Some(SocketAddr::from(([127, 0, 0, 1], 4711))));
        assert_eq!(address("no JSON"), None);
    }
}
