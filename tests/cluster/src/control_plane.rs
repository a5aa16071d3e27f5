//! Starts a control plane and waits until it serves; kills one of its processes and starts it again.
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

/// What a process says that does not get its port.
const IN_USE: &str = "address already in use";

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
    // Ended in this order: the folder, which is the site's, last. Absent: killed.
    controller_manager: Option<Process>,
    apiserver: Option<Process>,
    etcd: Option<Process>,
    site: Site,
}

/// The processes of a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
}

impl Component {
    const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

impl ControlPlane {
    /// Starts one and waits until it is ready. Blocks: for minutes where it has to be built first.
    pub fn start() -> Result<Self> {
        Self::begin(Options::default())
    }

    /// Starts one whose API server writes down who changed what, and with what: see [`ControlPlane::audit_log`].
    pub fn start_audited() -> Result<Self> {
        Self::begin(Options { audited: true, ..Options::default() })
    }

    /// Starts one that forgets nothing: a watch may begin at any resourceVersion there ever was, also after a death of the API server.
    pub fn start_remembering() -> Result<Self> {
        Self::begin(Options { remembers: true, ..Options::default() })
    }

    fn begin(options: Options) -> Result<Self> {
        let binaries = Binaries::find()?;
        let mut tries = 1;
        loop {
            match Self::at(Site::new(binaries.clone(), options)?) {
                Err(error) if tries < TRIES && error.to_string().contains(IN_USE) => tries += 1,
                outcome => return outcome.context("starting a Kubernetes control plane"),
            }
        }
    }

    fn at(site: Site) -> Result<Self> {
        let mut plane = Self { controller_manager: None, apiserver: None, etcd: None, site };
        // Both at once: the API server waits for etcd by itself, and restarts nothing.
        plane.launch(Component::Etcd)?;
        plane.launch(Component::ApiServer)?;
        plane.wait(Component::ApiServer)?;
        plane.launch(Component::ControllerManager)?;
        plane.wait(Component::ControllerManager)?;
        Ok(plane)
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
        &self.site.kubeconfig
    }

    /// The content of [`ControlPlane::kubeconfig`].
    pub fn kubeconfig_yaml(&self) -> &str {
        &self.site.kubeconfig_yaml
    }

    /// `https://127.0.0.1:<port>`
    pub fn server_url(&self) -> &str {
        &self.site.server_url
    }

    /// The authority that the API server's certificate is checked with.
    pub fn ca_pem(&self) -> &str {
        &self.site.ca_pem
    }

    /// The kubectl of the same version.
    pub fn kubectl(&self) -> PathBuf {
        self.site.binaries.kubectl.clone()
    }

    /// A command (kubectl, Helm) that talks to this control plane as its administrator.
    ///
    /// Its caches are in the control plane's folder: in the home folder they would outlive it, and a later control plane on
    /// the same port would be taken for this one.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let home = self.site.file("home");
        command.env("KUBECONFIG", &self.site.kubeconfig).env("KUBECACHEDIR", home.join("kube"));
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, home.join(name));
        }
        command
    }

    /// The file of an audited control plane with every request that changes something, one audit event in each line. A request is in it
    /// before it is answered.
    pub fn audit_log(&self) -> PathBuf {
        self.site.file(AUDIT_LOG)
    }

    /// The file that receives a process's output.
    pub fn log(&self, of: Component) -> PathBuf {
        self.site.folder.log(of.name())
    }

    /// Ends a process as SIGKILL does, and returns when it is gone. What it stored stays.
    pub fn kill(&mut self, component: Component) {
        drop(self.process(component).take());
    }

    /// Starts a process that was killed, at the same port and with the same data, and waits until it serves. Blocks.
    ///
    /// An API server that runs while etcd is away is waited for with etcd.
    pub fn revive(&mut self, component: Component) -> Result<()> {
        let mut tries = 1;
        let what = || format!("starting {} again", component.name());
        loop {
            self.launch(component).with_context(what)?;
            let serves = match self.wait(component) {
                Ok(()) if component == Component::Etcd && self.apiserver.is_some() => self.wait(Component::ApiServer),
                outcome => outcome,
            };
            match serves {
                // Somebody's outgoing connection had the port meanwhile.
                Err(error) if tries < TRIES && error.to_string().contains(IN_USE) => tries += 1,
                outcome => return outcome.with_context(what),
            }
        }
    }

    fn process(&mut self, component: Component) -> &mut Option<Process> {
        match component {
            Component::Etcd => &mut self.etcd,
            Component::ApiServer => &mut self.apiserver,
            Component::ControllerManager => &mut self.controller_manager,
        }
    }

    fn launch(&mut self, component: Component) -> Result<()> {
        let command = match component {
            Component::Etcd => self.site.etcd(),
            Component::ApiServer => self.site.apiserver(),
            Component::ControllerManager => self.site.controller_manager(),
        };
        let process = self.site.folder.run(component.name(), &command)?;
        *self.process(component) = Some(process);
        Ok(())
    }

    /// Waits until a process serves, or one of those that run ended, or it is too late.
    fn wait(&mut self, for_which: Component) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        let mut running = [&mut self.etcd, &mut self.apiserver, &mut self.controller_manager];
        loop {
            running.iter_mut().filter_map(|process| process.as_mut()).try_for_each(Process::check)?;
            let Err(answer) = self.site.is_ready(for_which)? else { return Ok(()) };
            if Instant::now() >= deadline {
                let minutes = DEADLINE.as_secs() / 60;
                bail!("{} was not ready within {minutes} minutes: {}", for_which.name(), answer.trim());
            }
            thread::sleep(POLL);
        }
    }
}

/// How an API server differs from the usual.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    /// It writes down who changed what.
    audited: bool,
    /// Nothing old is dropped.
    remembers: bool,
}

/// Where a control plane is: its folder, with what its processes read, and its ports.
#[derive(Debug)]
struct Site {
    binaries: Binaries,
    folder: Folder,
    ports: Ports,
    server_url: String,
    ca_pem: String,
    kubeconfig: PathBuf,
    kubeconfig_yaml: String,
    options: Options,
}

impl Site {
    /// Writes what the processes read.
    fn new(binaries: Binaries, options: Options) -> Result<Self> {
        let folder = Folder::create("test-cluster-")?;
        let ports = Ports::free()?;
        let pki = Pki::generate().context("making the keys of the control plane")?;
        let server_url = format!("https://127.0.0.1:{}", ports.apiserver);
        let kubeconfig_yaml = kubeconfig(&server_url, &pki);
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
        let kubeconfig = folder.path().join("kubeconfig");
        Ok(Self { binaries, folder, ports, server_url, ca_pem: pki.ca, kubeconfig, kubeconfig_yaml, options })
    }

    fn etcd(&self) -> Command {
        let clients = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peers = format!("http://127.0.0.1:{}", self.ports.etcd_peers);
        let mut command = Command::new(&self.binaries.etcd);
        command.arg("--data-dir").arg(self.file("etcd"));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        // Nobody reads the data after a crash of the machine; after one of the process, all that was written is there.
        command.arg("--unsafe-no-fsync");
        command
    }

    fn apiserver(&self) -> Command {
        let mut command = Command::new(&self.binaries.apiserver);
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
        if self.options.remembers {
            // A cache begins with what there is when the API server starts; etcd has all that was not compacted.
            command.args(["--watch-cache=false", "--etcd-compaction-interval=0"]);
        }
        if self.options.audited {
            command.arg("--audit-policy-file").arg(self.file(AUDIT_POLICY));
            command.arg("--audit-log-path").arg(self.file(AUDIT_LOG));
            command.args(["--audit-log-mode", "blocking"]);
        }
        command
    }

    fn controller_manager(&self) -> Command {
        let mut command = Command::new(&self.binaries.controller_manager);
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

    /// Whether a process answers well; else, what it says.
    fn is_ready(&self, component: Component) -> Result<Result<(), String>> {
        let (port, path) = match component {
            // It listens once it serves.
            Component::Etcd => (self.ports.etcd, None),
            Component::ApiServer => (self.ports.apiserver, Some("/readyz")),
            Component::ControllerManager => (self.ports.controller_manager, Some("/healthz")),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        // Cheaper to ask than a kubectl is to start.
        if TcpStream::connect_timeout(&address, POLL).is_err() {
            return Ok(Err("it does not listen".to_owned()));
        }
        let Some(path) = path else { return Ok(Ok(())) };
        let output = Command::new(&self.binaries.kubectl)
            .args(["get", "--raw", path, "--server", &format!("https://{address}"), "--request-timeout", "5s"])
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .output()
            .context("running kubectl")?;
        Ok(if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The loopback ports of one control plane.
#[derive(Debug)]
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
