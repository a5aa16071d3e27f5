//! The control plane that the tests share, with the CRDs of the types installed, and kubectl to talk to it.
//!
//! What a test makes in it has a namespace, or a name, of its own. A test that needs the cluster for itself starts another.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
};

use serde_json::Value;
use test_cluster::ControlPlane;

/// The shared control plane. The first call starts it and installs the CRDs.
pub(crate) fn shared() -> &'static ControlPlane {
    static READY: OnceLock<&ControlPlane> = OnceLock::new();
    READY.get_or_init(|| {
        let cluster = ControlPlane::shared().unwrap();
        install_crds(cluster);
        cluster
    })
}

/// Installs the CRDs of the types, and waits until they are served.
pub(crate) fn install_crds(cluster: &ControlPlane) {
    for (name, yaml) in okms_operator::api::crds() {
        kubectl(cluster, &["apply", "--server-side", "-f", "-"], &yaml).succeeded();
        let crd = name.trim_end_matches(".yaml").rsplit('_').next().unwrap();
        let crd = format!("crd/{crd}.okms-operator.io");
        kubectl(cluster, &["wait", "--for=condition=Established", "--timeout=60s", &crd], "").succeeded();
    }
}

/// What a command printed.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The standard output of a command that must succeed.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert!(self.ok, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The standard error of a command that must fail.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert!(!self.ok, "it did not fail: {}", self.stdout);
        self.stderr
    }
}

/// Runs kubectl as the administrator, with `input` as its standard input.
pub(crate) fn kubectl(cluster: &ControlPlane, arguments: &[&str], input: &str) -> Output {
    let mut command = cluster.command(cluster.kubectl());
    command.args(arguments);
    run(command, input)
}

/// Runs kubectl and reads its JSON.
pub(crate) fn kubectl_json(cluster: &ControlPlane, arguments: &[&str]) -> Value {
    let output = kubectl(cluster, &[arguments, &["-o", "json"]].concat(), "").succeeded();
    serde_json::from_str(&output).unwrap()
}

pub(crate) fn run(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Beside the reading, since a program may answer before it has read everything. One that reads nothing says so itself.
    let output = thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output().unwrap()
    });
    Output {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
