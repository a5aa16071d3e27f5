//! The binary as a script sees it: exit codes, and one line that says what to do.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use test_cluster::ControlPlane;

use crate::cluster::{self, shared};

/// On a machine that also compiles.
const DEADLINE: Duration = Duration::from_mins(2);

#[test]
fn without_a_cluster_it_says_how_to_name_one() {
    let home = TempDir::new().unwrap();
    let (code, line) = fails(&mut operator(&home));
    assert_eq!(code, 3, "{line}");
    assert!(line.contains("set KUBECONFIG"), "{line}");
}

/// In a pod too: a cluster that was meant is never exchanged for another one.
#[test]
fn a_kubeconfig_that_is_not_there_is_not_passed_over() {
    let home = TempDir::new().unwrap();
    let missing = home.path().join("missing");
    let in_pod = [("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", "1")];
    let (code, line) = fails(operator(&home).env("KUBECONFIG", &missing).envs(in_pod));
    assert_eq!(code, 3, "{line}");
    assert!(line.contains(missing.to_str().unwrap()), "{line}");
}

#[test]
fn a_cluster_that_does_not_answer_is_named() {
    let home = TempDir::new().unwrap();
    // Taken and let go: nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = format!("http://127.0.0.1:{port}");
    let (code, line) = fails(operator(&home).env("KUBECONFIG", kubeconfig(&home, &server, "", "token: none")));
    assert_eq!(code, 3, "{line}");
    assert!(line.contains(&server) && line.contains("refused"), "{line}");
}

#[test]
fn without_crds_it_says_how_to_install_them_and_with_them_it_serves_until_a_signal() {
    // One of its own: in the shared one they are installed, and an operator that looks at everything would disturb other tests.
    let cluster = ControlPlane::start().unwrap();
    let home = TempDir::new().unwrap();
    let (code, line) = fails(operator(&home).env("KUBECONFIG", cluster.kubeconfig()));
    assert_eq!(code, 4, "{line}");
    assert!(line.contains("okmssecrets and okmsstores and clusterokmsstores of okms-operator.io/v1alpha1"), "{line}");
    assert!(line.contains("okms-operator crds | kubectl apply --server-side -f -"), "{line}");

    install_crds(&cluster);
    let running = Running::start(operator(&home).env("KUBECONFIG", cluster.kubeconfig()));
    running.eventually_answers("/readyz", "200 OK");
    running.eventually_answers("/livez", "200 OK");
    let metrics = running.get("/metrics");
    assert!(
        metrics.contains("okms_operator_build_info{") && metrics.contains("process_cpu_seconds_total"),
        "{metrics}"
    );
    assert_eq!(core_limit(running.child.id()), "0 0");
    running.stop();
}

#[test]
fn missing_rights_are_listed_with_who_lacks_them() {
    let cluster = shared();
    kubectl(cluster, &["create", "namespace", "process-rights"], "");
    kubectl(cluster, &["create", "serviceaccount", "poor", "--namespace=process-rights"], "");
    let home = TempDir::new().unwrap();
    let token = kubectl(cluster, &["create", "token", "poor", "--namespace=process-rights"], "");
    let kubeconfig = kubeconfig_of(&home, cluster, &format!("token: {}", token.trim()));
    let mut operator = operator(&home);
    let (code, line) = fails(operator.args(["--watch-namespace", "process-rights"]).env("KUBECONFIG", &kubeconfig));
    assert_eq!(code, 5, "{line}");
    for part in [
        "system:serviceaccount:process-rights:poor may not",
        "list, watch okmssecrets of okms-operator.io in namespace process-rights;",
        "patch okmssecrets/status of okms-operator.io in namespace process-rights;",
        "list, watch clusterokmsstores of okms-operator.io;",
        "patch clusterokmsstores/status of okms-operator.io;",
        "get, list, watch, create, update, patch, delete secrets in namespace process-rights;",
        "get, list, watch, create, update leases of coordination.k8s.io in namespace default (for its leader election",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn an_identity_that_the_cluster_does_not_know_is_a_matter_of_rights() {
    let home = TempDir::new().unwrap();
    let kubeconfig = kubeconfig_of(&home, shared(), "token: unknown");
    let (code, line) = fails(operator(&home).env("KUBECONFIG", kubeconfig));
    assert_eq!(code, 5, "{line}");
    assert!(line.contains("does not accept the operator's identity"), "{line}");
}

#[test]
fn a_port_that_is_taken_names_the_flag() {
    let home = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut operator = operator(&home);
    let (code, line) = fails(operator.args(["--listen", &address]).env("KUBECONFIG", shared().kubeconfig()));
    assert_eq!(code, 1, "{line}");
    assert!(line.contains(&address) && line.contains("--listen"), "{line}");
}

/// A stop during the start finds nothing to drain.
#[test]
fn a_signal_stops_it_while_the_cluster_is_silent() {
    let home = TempDir::new().unwrap();
    // Accepts connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", silent.local_addr().unwrap());
    let mut command = operator(&home);
    command.env("KUBECONFIG", kubeconfig(&home, &server, "", "token: none"));
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut child = Ended(child);
    // Once it asks the cluster it holds its signals.
    silent.set_nonblocking(true).unwrap();
    let _connection = eventually("it asks the cluster", || {
        assert_eq!(child.0.try_wait().unwrap(), None, "it ended");
        silent.accept().ok()
    });
    signal(&child.0, Signal::TERM);
    let status = wait(&mut child.0);
    assert!(status.success(), "{status}");
}

/// `okms-operator run` that knows nothing of the machine it runs on, and listens on loopback only.
pub(crate) fn operator(home: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_okms-operator"));
    command.arg("run").env_clear().env("HOME", home.path()).env("OKMS_OPERATOR_LISTEN", "127.0.0.1:0");
    command.env("OKMS_OPERATOR_MOUNT_ROOT", home.path());
    command
}

/// Runs to the end, which must be a failure that says one thing, in one line. Returns the exit code and that line.
fn fails(command: &mut Command) -> (i32, String) {
    let mut child = Ended(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let code = wait(&mut child.0).code().expect("it ends by itself");
    let mut said = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    let [line] = errors[..] else { panic!("one line was expected:\n{said}") };
    (code, line.to_owned())
}

/// An operator that works.
pub(crate) struct Running {
    child: Ended,
    address: String,
    /// Who it is in the Lease.
    pub(crate) identity: String,
    said: JoinHandle<Vec<String>>,
}

impl Running {
    /// Waits until it serves.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = Ended(command.stderr(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let mut identity = String::new();
        let address = lines.by_ref().find_map(|line| {
            let fields: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            said.push(line);
            if let Some(own) = fields["identity"].as_str() {
                own.clone_into(&mut identity);
            }
            let serves = fields["message"].as_str()?.starts_with("serving");
            serves.then(|| fields["address"].as_str().expect("the line has the address").to_owned())
        });
        let address = address.unwrap_or_else(|| panic!("it ended before it served:\n{}", said.join("\n")));
        // What it says from now on is read as it comes, so that it is never held up by a full pipe.
        let said = thread::spawn(move || said.into_iter().chain(lines).collect());
        Self { child, address, identity, said }
    }

    /// The whole answer, head included.
    pub(crate) fn get(&self, path: &str) -> String {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn eventually_answers(&self, path: &str, text: &str) {
        eventually(&format!("{path} answers {text}"), || self.get(path).contains(text).then_some(()));
    }

    pub(crate) fn signal(&self, what: Signal) {
        signal(&self.child, what);
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_none()
    }

    /// Stops it as a kubelet would, which must be a clean end.
    pub(crate) fn stop(mut self) {
        signal(&self.child.0, Signal::TERM);
        let status = wait(&mut self.child.0);
        assert!(status.success(), "{status}:\n{}", self.said.join().unwrap().join("\n"));
    }
}

/// A child that does not outlive its test.
struct Ended(Child);

impl std::ops::Deref for Ended {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait(child: &mut Child) -> ExitStatus {
    eventually("it ends", || child.try_wait().unwrap())
}

fn eventually<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = seen() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within two minutes: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The soft and the hard limit, as Linux tells them.
fn core_limit(process: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// By the command that the operator tells people.
fn install_crds(cluster: &ControlPlane) {
    let crds = run(Command::new(env!("CARGO_BIN_EXE_okms-operator")).arg("crds"));
    kubectl(cluster, &["apply", "--server-side", "-f", "-"], &crds);
    kubectl(cluster, &["wait", "--for=condition=Established", "--timeout=60s", "-f", "-"], &crds);
}

fn kubectl(cluster: &ControlPlane, arguments: &[&str], input: &str) -> String {
    cluster::kubectl(cluster, arguments, input).succeeded()
}

/// Runs to the end, which must be a success, and returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A kubeconfig for somebody else than the administrator.
pub(crate) fn kubeconfig_of(home: &TempDir, cluster: &ControlPlane, user: &str) -> String {
    let ca = home.path().join("ca.crt");
    fs::write(&ca, cluster.ca_pem()).unwrap();
    kubeconfig(home, cluster.server_url(), &format!(", certificate-authority: {}", ca.display()), user)
}

fn kubeconfig(home: &TempDir, server: &str, ca: &str, user: &str) -> String {
    let file: &Path = &home.path().join("kubeconfig");
    let content = format!(
        "apiVersion: v1
kind: Config
current-context: it
clusters: [{{name: it, cluster: {{server: '{server}'{ca}}}}}]
users: [{{name: it, user: {{{user}}}}}]
contexts: [{{name: it, context: {{cluster: it, user: it, namespace: default}}}}]
"
    );
    fs::write(file, content).unwrap();
    file.to_str().unwrap().to_owned()
}
