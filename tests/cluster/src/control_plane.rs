//! Starts a control plane and waits until it serves.
//!
//! What ends it is [`crate::supervise`]; where its programs come from is [`crate::binaries`]. Never uses a cluster that
//! somebody else runs, and never a port that others on the network can reach.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    binaries::Binaries,
    pki::Pki,
    supervise::{Folder, Process},
};

/// It takes 5 seconds on two idle cores; a machine that also compiles may take many times that.
const DEADLINE: Duration = Duration::from_mins(3);

/// How often readiness is asked for while waiting.
const POLL: Duration = Duration::from_millis(200);

/// A free port is found by binding it and letting it go, so another process may be faster. That is rare: few tries do.
const TRIES: u32 = 3;

/// The controllers that tests need: garbage collection and namespace deletion, service accounts with tokens, Deployments
/// (their objects, no pods run), aggregated roles.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
    serviceaccount-token-controller,deployment-controller,replicaset-controller,clusterrole-aggregation-controller,\
    validatingadmissionpolicy-status-controller";

const AUDIT_POLICY: &str = "audit-policy.yaml";
const AUDIT_LOG: &str = "audit.log";

/// What changes something, once it is done.
const WRITES: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, verbs: [get, list, watch]}
# Questions that are asked by creating something that is not kept.
- {level: None, resources: [{group: authentication.k8s.io}, {group: authorization.k8s.io}]}
- {level: Request}
";

/// A running control plane, ended when it is dropped or its owner is gone.
#[derive(Debug)]
pub struct ControlPlane {
    // Ended in this order: the folder last.
    controller_manager: Process,
    apiserver: Process,
    etcd: Process,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    server_url: String,
    ca_pem: String,
    kubeconfig_yaml: String,
    folder: Folder,
}

/// The processes of a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
}

impl ControlPlane {
    /// Starts one and waits until it is ready. Blocks: for minutes where it has to be built first.
    pub fn start() -> Result<Self> {
        Self::begin(false)
    }

    /// Starts one whose API server writes down who changed what, and with what: see [`ControlPlane::audit_log`].
    pub fn start_audited() -> Result<Self> {
        Self::begin(true)
    }

    fn begin(audited: bool) -> Result<Self> {
        let binaries = Binaries::find()?;
        let mut tries = 1;
        loop {
            match Starting::new(&binaries, audited)?.finish(&binaries) {
                Err(error) if tries < TRIES && error.to_string().contains("address already in use") => {
                    tries += 1;
                }
                outcome => return outcome.context("starting a Kubernetes control plane"),
            }
        }
    }

    /// The one that a whole process shares, started at the first call and ended with the process.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
        // Every caller is told the same reason, so it is kept as text: errors cannot be cloned.
        let shared = SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:#}")));
        shared.as_ref().map_err(|reason| anyhow!("{reason}"))
    }

    /// A file with the administrator's kubeconfig. It stands alone: keys and certificates are inside.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The content of [`ControlPlane::kubeconfig`].
    pub fn kubeconfig_yaml(&self) -> &str {
        &self.kubeconfig_yaml
    }

    /// `https://127.0.0.1:<port>`
    pub fn server_url(&self) -> &str {
        &self.server_url
    }

    /// The authority that the API server's certificate is checked with.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The kubectl of the same version.
    pub fn kubectl(&self) -> PathBuf {
        self.kubectl.clone()
    }

    /// A command (kubectl, Helm) that talks to this control plane as its administrator.
    ///
    /// Its caches are in the control plane's folder: in the home folder they would outlive it, and a later control plane on
    /// the same port would be taken for this one.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let home = self.folder.path().join("home");
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", home.join("kube"));
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, home.join(name));
        }
        command
    }

    /// The file of an audited control plane with every request that changes something, one audit event in each line. A request is in it
    /// before it is answered.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.path().join(AUDIT_LOG)
    }

    /// The file that receives a process's output.
    pub fn log(&self, of: Component) -> &Path {
        let process = match of {
            Component::Etcd => &self.etcd,
            Component::ApiServer => &self.apiserver,
            Component::ControllerManager => &self.controller_manager,
        };
        process.log()
    }
}

/// A control plane whose processes are not all up.
struct Starting {
    folder: Folder,
    ports: Ports,
    ca_pem: String,
    kubeconfig_yaml: String,
    audited: bool,
    deadline: Instant,
}

impl Starting {
    /// Writes what the processes read.
    fn new(binaries: &Binaries, audited: bool) -> Result<Self> {
        let folder = Folder::create("test-cluster-")?;
        let ports = Ports::free()?;
        let pki = Pki::generate().context("making the keys of the control plane")?;
        let kubeconfig_yaml = kubeconfig(&ports.server_url(), &pki);
        for (name, content) in [
            ("ca.crt", &pki.ca),
            ("server.crt", &pki.server.certificate),
            ("server.key", &pki.server.key),
            ("tokens.key", &pki.tokens.0),
            ("tokens.pub", &pki.tokens.1),
            ("kubeconfig", &kubeconfig_yaml),
            (AUDIT_POLICY, &WRITES.to_owned()),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        }
        for binary in [&binaries.etcd, &binaries.apiserver, &binaries.controller_manager, &binaries.kubectl] {
            if !binary.is_file() {
                bail!("{} is not there", binary.display());
            }
        }
        let deadline = Instant::now() + DEADLINE;
        Ok(Self { folder, ports, ca_pem: pki.ca, kubeconfig_yaml, audited, deadline })
    }

    /// Starts the processes and waits for each. (The API server waits for etcd by itself, and restarts nothing.)
    fn finish(self, binaries: &Binaries) -> Result<ControlPlane> {
        let mut etcd = self.folder.run("etcd", &self.etcd(binaries))?;
        let mut apiserver = self.folder.run("kube-apiserver", &self.apiserver(binaries))?;
        self.wait("the API server", self.ports.apiserver, "/readyz", binaries, &mut [&mut etcd, &mut apiserver])?;
        let mut manager = self.folder.run("kube-controller-manager", &self.controller_manager(binaries))?;
        let all = &mut [&mut etcd, &mut apiserver, &mut manager];
        self.wait("the controller manager", self.ports.controller_manager, "/healthz", binaries, all)?;
        Ok(ControlPlane {
            controller_manager: manager,
            apiserver,
            etcd,
            kubectl: binaries.kubectl.clone(),
            kubeconfig: self.file("kubeconfig"),
            server_url: self.ports.server_url(),
            ca_pem: self.ca_pem,
            kubeconfig_yaml: self.kubeconfig_yaml,
            folder: self.folder,
        })
    }

    fn etcd(&self, binaries: &Binaries) -> Command {
        let clients = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peers = format!("http://127.0.0.1:{}", self.ports.etcd_peers);
        let mut command = Command::new(&binaries.etcd);
        command.arg("--data-dir").arg(self.file("etcd"));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        // Nobody reads the data after a crash.
        command.arg("--unsafe-no-fsync");
        command
    }

    fn apiserver(&self, binaries: &Binaries) -> Command {
        let mut command = Command::new(&binaries.apiserver);
        command.args(["--etcd-servers", &format!("http://127.0.0.1:{}", self.ports.etcd)]);
        command.args(["--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"]);
        command.args(["--secure-port", &self.ports.apiserver.to_string()]);
        command.arg("--tls-cert-file").arg(self.file("server.crt"));
        command.arg("--tls-private-key-file").arg(self.file("server.key"));
        command.arg("--client-ca-file").arg(self.file("ca.crt"));
        command.arg("--service-account-key-file").arg(self.file("tokens.pub"));
        command.arg("--service-account-signing-key-file").arg(self.file("tokens.key"));
        command.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
        command.args(["--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.0.0.0/24"]);
        // It would hold back pods until their ServiceAccount exists; no pods run here.
        command.args(["--disable-admission-plugins", "ServiceAccount"]);
        if self.audited {
            command.arg("--audit-policy-file").arg(self.file(AUDIT_POLICY));
            command.arg("--audit-log-path").arg(self.file(AUDIT_LOG));
            command.args(["--audit-log-mode", "blocking"]);
        }
        command
    }

    fn controller_manager(&self, binaries: &Binaries) -> Command {
        let mut command = Command::new(&binaries.controller_manager);
        command.arg("--kubeconfig").arg(self.file("kubeconfig"));
        command.arg("--service-account-private-key-file").arg(self.file("tokens.key"));
        command.arg("--root-ca-file").arg(self.file("ca.crt"));
        command.args(["--leader-elect=false", "--bind-address", "127.0.0.1"]);
        command.args(["--secure-port", &self.ports.controller_manager.to_string()]);
        // Without these it would write a certificate of its own below /var/run.
        command.arg("--tls-cert-file").arg(self.file("server.crt"));
        command.arg("--tls-private-key-file").arg(self.file("server.key"));
        command.args(["--controllers", CONTROLLERS]);
        command
    }

    /// Waits until a path answers well, or one of the processes ended, or it is too late.
    fn wait(
        &self,
        what: &str,
        port: u16,
        path: &str,
        binaries: &Binaries,
        processes: &mut [&mut Process],
    ) -> Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let server = format!("https://{address}");
        let mut answer = "it does not listen".to_owned();
        while Instant::now() < self.deadline {
            processes.iter_mut().try_for_each(|process| process.check())?;
            // Cheaper to ask than a kubectl is to start.
            if TcpStream::connect_timeout(&address, POLL).is_ok() {
                let output = Command::new(&binaries.kubectl)
                    .args(["get", "--raw", path, "--server", &server, "--request-timeout", "5s", "--kubeconfig"])
                    .arg(self.file("kubeconfig"))
                    .output()
                    .context("running kubectl")?;
                if output.status.success() {
                    return Ok(());
                }
                answer = String::from_utf8_lossy(&output.stderr).into_owned();
            }
            thread::sleep(POLL);
        }
        bail!("{what} was not ready within {} minutes: {}", DEADLINE.as_secs() / 60, answer.trim())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The loopback ports of one control plane.
struct Ports {
    etcd: u16,
    etcd_peers: u16,
    apiserver: u16,
    controller_manager: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        let bind = || TcpListener::bind(("127.0.0.1", 0)).context("finding a free port");
        // All are held until the last is found, so that they differ.
        let listeners = [bind()?, bind()?, bind()?, bind()?];
        let port = |listener: &TcpListener| Ok::<_, anyhow::Error>(listener.local_addr()?.port());
        let [etcd, etcd_peers, apiserver, controller_manager] = &listeners;
        Ok(Self {
            etcd: port(etcd)?,
            etcd_peers: port(etcd_peers)?,
            apiserver: port(apiserver)?,
            controller_manager: port(controller_manager)?,
        })
    }

    fn server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.apiserver)
    }
}

fn kubeconfig(server: &str, pki: &Pki) -> String {
    let ca = BASE64_STANDARD.encode(&pki.ca);
    let certificate = BASE64_STANDARD.encode(&pki.admin.certificate);
    let key = BASE64_STANDARD.encode(&pki.admin.key);
    format!(
        "apiVersion: v1
kind: Config
current-context: test-cluster
clusters:
- name: test-cluster
  cluster: {{server: '{server}', certificate-authority-data: {ca}}}
users:
- name: admin
  user: {{client-certificate-data: {certificate}, client-key-data: {key}}}
contexts:
- name: test-cluster
  context: {{cluster: test-cluster, user: admin, namespace: default}}
"
    )
}
