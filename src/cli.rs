//! The command line: what can be turned, by a flag or by an environment variable, and how it is explained.
//!
//! Everything is parsed into a type here; nothing is decided. `run` goes on in [`crate::process::start`].

#![allow(clippy::doc_markdown)] // `--help` prints these comments, and shows no Markdown.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{ArgAction, ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::{
    api::{self, Interval},
    controller::{NamespacedStores, check::Subject, election::Timing},
    okms::EndpointPattern,
    process::{
        EXIT_CODES,
        check::{self, About, Files, Question},
        start::{self, LeaderElection, Options},
        telemetry::{LogFilter, LogFormat},
    },
};

/// Keeps Kubernetes Secrets equal to the secrets in OVHcloud OKMS Secret Manager.
#[derive(Debug, Parser)]
#[command(name = "okms-operator", version, arg_required_else_help = true, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps, on the cluster that KUBECONFIG points at:
  okms-operator crds | kubectl apply --server-side -f -
  okms-operator run";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator, in a pod or from a shell.
    ///
    /// The cluster is the one that KUBECONFIG points at; else, in a pod, the pod's own, with the rights of its ServiceAccount; else
    /// that of ~/.kube/config. What to read from OKMS, and with which credentials, is said by the objects in the cluster
    /// (ClusterOkmsStore, OkmsSecret), not here.
    ///
    /// Of several that are started alike, one leads and works; the others stand by (--leader-elect).
    ///
    /// The first SIGTERM or SIGINT lets the work under way end, for at most 25 seconds, and another process lead; the second ends the
    /// process at once.
    #[command(after_long_help = run_afterword())]
    Run(Box<Run>),

    /// Look at a store as the operator does, and say what is right and what is wrong.
    ///
    /// A store of the cluster that KUBECONFIG points at, or in a pod of the pod's own; or, with --endpoint, what is not a store yet. It
    /// reads the store and its credential, asks OKMS for its list, and with --path for one secret. It changes nothing, and shows no
    /// value. What is mounted into the operator's pod is there only: run it there with kubectl exec.
    #[command(after_long_help = CHECK_AFTERWORD)]
    Check(Box<Check>),

    /// Print the custom resource definitions of this release as YAML.
    ///
    /// For `kubectl apply --server-side -f -`. The Helm chart brings the same.
    Crds,
}

// In lines of at most 80 characters, so that a terminal shows them as they are.
const RUN_EXAMPLES: &str = "\
Examples:
  From a shell, for one namespace, with the credentials of stores in ./okms:
    export KUBECONFIG=~/.kube/dev
    okms-operator run --watch-namespace shop --mount-root ./okms \\
      --listen 127.0.0.1:8080 --log-format text

  In a pod, where variables are easier to set than flags:
    env:
    - {name: OKMS_OPERATOR_WATCH_NAMESPACE, value: 'shop,team-a'}
    - {name: OKMS_OPERATOR_LOG_FILTER, value: 'info,okms_operator=debug'}";

fn run_afterword() -> String {
    format!("{RUN_EXAMPLES}\n\n{EXIT_CODES}")
}

const CHECK_AFTERWORD: &str = "\
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
struct Check {
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
    fn question(self) -> Result<Question, clap::Error> {
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

#[derive(Debug, Args)]
struct Run {
    /// The operator's own namespace, where a ClusterOkmsStore's secretRef is looked up. Absent: the ServiceAccount's in a pod, else
    /// that of the kubeconfig's context.
    #[arg(long, value_name = "NAME", env = "OKMS_OPERATOR_NAMESPACE", value_parser = namespace)]
    namespace: Option<String>,

    /// Only look at OkmsSecrets of this namespace; may be repeated, or hold several separated by commas. Absent: all namespaces.
    #[arg(
        long = "watch-namespace",
        value_name = "NAME",
        env = "OKMS_OPERATOR_WATCH_NAMESPACE",
        value_delimiter = ',',
        value_parser = namespace
    )]
    watch_namespaces: Vec<String>,

    /// Only serve this ClusterOkmsStore and the OkmsSecrets that read from it; may be repeated, or hold several separated by
    /// commas. Absent: all. Where several operators share a cluster, each store is to be served by one of them.
    #[arg(long = "cluster-store", value_name = "NAME", env = "OKMS_OPERATOR_CLUSTER_STORE", value_delimiter = ',')]
    cluster_stores: Vec<String>,

    /// Whether the stores of namespaces (OkmsStore) are served. false: only ClusterOkmsStores are, and the others are told so.
    #[arg(
        long,
        value_name = "BOOL",
        env = "OKMS_OPERATOR_NAMESPACED_STORES",
        default_value_t = true,
        action = ArgAction::Set
    )]
    namespaced_stores: bool,

    /// An endpoint, or token endpoint, that an OkmsStore may name, as https://host[:port]; '*' stands for any characters between two
    /// dots of the host, or for any port. May be repeated, or hold several separated by commas. Absent: OVHcloud's own,
    /// https://*.okms.ovh.net, https://*.okms.ovh.us, https://www.ovh.com, https://ca.ovh.com and https://us.ovhcloud.com. A
    /// ClusterOkmsStore may name any.
    #[arg(
        long = "allowed-endpoint",
        value_name = "PATTERN",
        env = "OKMS_OPERATOR_ALLOWED_ENDPOINT",
        value_delimiter = ','
    )]
    allowed_endpoints: Vec<EndpointPattern>,

    /// How many OkmsStores of a namespace are served, the oldest first.
    #[arg(
        long,
        value_name = "NUMBER",
        env = "OKMS_OPERATOR_MAX_STORES_PER_NAMESPACE",
        default_value_t = NamespacedStores::default().max_per_namespace
    )]
    max_stores_per_namespace: usize,

    /// The folder below which a store finds its mounted credential: `mount: default` means DIR/default.
    #[arg(long, value_name = "DIR", env = "OKMS_OPERATOR_MOUNT_ROOT", default_value = "/etc/okms")]
    mount_root: PathBuf,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS:PORT", env = "OKMS_OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// How log lines are written; they go to stderr.
    #[arg(long, value_name = "FORMAT", env = "OKMS_OPERATOR_LOG_FORMAT", default_value = "json")]
    log_format: LogFormat,

    /// What is logged: a level (error, warn, info, debug, trace), or levels by module, as in info,okms_operator=debug. Libraries
    /// that could log what they transport stay below warn.
    #[arg(long, value_name = "FILTER", env = "OKMS_OPERATOR_LOG_FILTER", default_value = "info")]
    log_filter: LogFilter,

    /// The shortest interval at which anything is checked; what asks for a shorter one is stretched to it, and says so.
    #[arg(
        long,
        value_name = "DURATION",
        env = "OKMS_OPERATOR_MIN_REFRESH_INTERVAL",
        default_value = "10s",
        value_parser = shortest_interval
    )]
    min_refresh_interval: Interval,

    #[command(flatten)]
    election: ElectionArgs,
}

#[derive(Debug, Args)]
struct ElectionArgs {
    /// Whether this process works only while it leads among its replicas, and stands by otherwise. false: it is the only one that
    /// runs, which nobody checks.
    #[arg(
        long = "leader-elect",
        value_name = "BOOL",
        env = "OKMS_OPERATOR_LEADER_ELECT",
        default_value_t = true,
        action = ArgAction::Set
    )]
    enabled: bool,

    /// The name of the Lease, in the operator's own namespace, by which replicas elect their leader. Operators of one namespace that
    /// serve different things need different ones: with the same, all but one stand by.
    #[arg(
        long = "leader-election-id",
        value_name = "NAME",
        env = "OKMS_OPERATOR_LEADER_ELECTION_ID",
        default_value = "okms-operator",
        value_parser = lease_name
    )]
    id: String,

    /// How long the others wait for a leader that is not heard of any more. Longer than the renew deadline.
    #[arg(
        long = "leader-election-lease-duration",
        value_name = "DURATION",
        env = "OKMS_OPERATOR_LEADER_ELECTION_LEASE_DURATION",
        default_value = "15s"
    )]
    lease_duration: Interval,

    /// How long a leader that cannot renew its lease goes on. Longer than the retry period.
    #[arg(
        long = "leader-election-renew-deadline",
        value_name = "DURATION",
        env = "OKMS_OPERATOR_LEADER_ELECTION_RENEW_DEADLINE",
        default_value = "10s"
    )]
    renew_deadline: Interval,

    /// How often the leader renews its lease.
    #[arg(
        long = "leader-election-retry-period",
        value_name = "DURATION",
        env = "OKMS_OPERATOR_LEADER_ELECTION_RETRY_PERIOD",
        default_value = "2s"
    )]
    retry_period: Interval,
}

impl ElectionArgs {
    /// Absent: none.
    fn election(&self) -> Result<Option<LeaderElection>, clap::Error> {
        let [lease, renew, retry] = [self.lease_duration, self.renew_deadline, self.retry_period].map(Interval::get);
        let timing = Timing::new(lease, renew, retry).map_err(|error| {
            let message = format!("the times of the leader election (--leader-election-…) make none: {error}");
            Cli::command().error(clap::error::ErrorKind::ValueValidation, message)
        })?;
        Ok(self.enabled.then(|| LeaderElection { id: self.id.clone(), timing }))
    }
}

/// The binary: parses its arguments, does what they say, and says in one line why that failed.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(run) => match run.options().map(start::run) {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => {
                complain(&error.line());
                ExitCode::from(error.exit_code())
            }
            Err(error) => error.exit(),
        },
        Command::Check(question) => match question.question().as_ref().map(check::run) {
            Ok(Ok(true)) => ExitCode::SUCCESS,
            Ok(Ok(false)) => ExitCode::FAILURE,
            Ok(Err(error)) => {
                complain(&error.line());
                ExitCode::from(error.exit_code())
            }
            Err(error) => error.exit(),
        },
        Command::Crds => match print_crds() {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => {
                complain(&format!("cannot print: {error}"));
                ExitCode::FAILURE
            }
        },
    }
}

/// If even this cannot be written, the exit code says it alone.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "error: {line}");
}

fn print_crds() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (_, yaml) in api::crds() {
        write!(out, "---\n{yaml}")?;
    }
    out.flush()
}

impl Run {
    fn options(self) -> Result<Options, clap::Error> {
        let leader_election = self.election.election()?;
        let run = self;
        Ok(Options {
            namespace: run.namespace,
            watch_namespaces: run.watch_namespaces,
            cluster_stores: run.cluster_stores,
            namespaced_stores: run.namespaced_stores.then(|| NamespacedStores {
                allowed_endpoints: or_ovhcloud(run.allowed_endpoints),
                max_per_namespace: run.max_stores_per_namespace,
            }),
            mount_root: run.mount_root,
            listen: run.listen,
            log_format: run.log_format,
            log_filter: run.log_filter,
            min_refresh_interval: run.min_refresh_interval.get(),
            leader_election,
        })
    }
}

impl ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Json, Self::Text]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(match self {
            Self::Json => clap::builder::PossibleValue::new("json").help("One JSON object for each line"),
            Self::Text => clap::builder::PossibleValue::new("text").help("For people"),
        })
    }
}

fn or_ovhcloud(patterns: Vec<EndpointPattern>) -> Vec<EndpointPattern> {
    if patterns.is_empty() { EndpointPattern::ovhcloud() } else { patterns }
}

/// A DNS label (RFC 1123), as Kubernetes wants the names of namespaces.
fn namespace(text: &str) -> Result<String, &'static str> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_sound =
        (1..=63).contains(&text.len()) && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-');
    if is_sound {
        Ok(text.to_owned())
    } else {
        Err("write the name of a namespace: lower-case letters, digits and dashes")
    }
}

/// A DNS subdomain (RFC 1123), as Kubernetes wants the names of most objects.
fn lease_name(text: &str) -> Result<String, &'static str> {
    if text.len() <= 253 && text.split('.').all(|label| namespace(label).is_ok()) {
        Ok(text.to_owned())
    } else {
        Err("write a name as Kubernetes takes it: lower-case letters, digits, dashes and dots")
    }
}

fn shortest_interval(text: &str) -> Result<Interval, &'static str> {
    match text.parse::<Interval>() {
        Ok(interval) if interval >= Interval::from_secs(1) => Ok(interval),
        _ => Err("write a duration of at least 1s, in hours, minutes and whole seconds, such as 10s or 1m30s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
        let arguments = ["okms-operator", "run"].iter().chain(arguments);
        match Cli::try_parse_from(arguments)?.command {
            Command::Run(run) => run.options(),
            Command::Check(_) | Command::Crds => unreachable!("`run` was asked for"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_has_to_be_said() {
        let options = options(&[]).unwrap();
        assert_eq!(options.namespace, None);
        assert!(options.watch_namespaces.is_empty());
        assert_eq!(options.mount_root, PathBuf::from("/etc/okms"));
        assert_eq!(options.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(options.log_format, LogFormat::Json);
        assert_eq!(options.min_refresh_interval.as_secs(), 10);
        let election = options.leader_election.unwrap();
        assert_eq!((election.id.as_str(), election.timing), ("okms-operator", Timing::default()));
    }

    #[test]
    fn leader_election_can_be_turned_and_switched_off() {
        assert!(options(&["--leader-elect=false"]).unwrap().leader_election.is_none());
        let turned = ["--leader-election-id=a.b", "--leader-election-lease-duration=1m"];
        let election = options(&turned).unwrap().leader_election.unwrap();
        assert_eq!((election.id.as_str(), election.timing.lease_duration().as_secs()), ("a.b", 60));
    }

    #[test]
    fn namespaces_can_be_repeated_or_separated_by_commas() {
        let options = options(&["--watch-namespace", "shop", "--watch-namespace", "team-a,team-b"]).unwrap();
        assert_eq!(options.watch_namespaces, ["shop", "team-a", "team-b"]);
    }

    #[test]
    fn the_stores_of_namespaces_are_held_to_ovhcloud_unless_said_otherwise() {
        let stores = |arguments: &[&str]| options(arguments).unwrap().namespaced_stores;
        assert_eq!(stores(&[]), Some(NamespacedStores::default()));
        assert_eq!(stores(&["--namespaced-stores", "false"]), None);
        let own = stores(&["--allowed-endpoint", "https://a.example,https://b.example:*"]).unwrap();
        assert_eq!(own.allowed_endpoints.len(), 2);
    }

    #[test]
    fn every_flag_is_an_environment_variable_too() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        let flags = run.get_arguments().filter(|argument| argument.get_id() != "help");
        for flag in flags {
            let name = flag.get_long().unwrap();
            let variable = format!("OKMS_OPERATOR_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(flag.get_env().and_then(|env| env.to_str()), Some(variable.as_str()), "--{name}");
        }
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_to_write() {
        for (flag, value, hint) in [
            ("--watch-namespace", "Shop", "lower-case"),
            ("--namespace", "", "lower-case"),
            ("--min-refresh-interval", "0s", "at least 1s"),
            ("--min-refresh-interval", "10", "such as 10s"),
            ("--allowed-endpoint", "http://okms.example", "write https:// and a host"),
            ("--namespaced-stores", "no", "true, false"),
            ("--log-filter", "inof", "info"),
            ("--log-format", "xml", "json"),
            ("--listen", "8080", "--listen"),
            ("--leader-elect", "no", "true, false"),
            ("--leader-election-id", "Okms", "lower-case"),
            ("--leader-election-id", "okms..operator", "dashes and dots"),
            ("--leader-election-lease-duration", "10s", "longer than the renew deadline"),
            ("--leader-election-renew-deadline", "2s", "longer than the retry period"),
            ("--leader-election-retry-period", "0s", "longer than nothing"),
        ] {
            let error = options(&[flag, value]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{flag} {value}");
            assert!(error.to_string().contains(hint), "{flag} {value}: {error}");
        }
    }

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

    #[test]
    fn help_tells_examples_and_exit_codes_as_they_are_written() {
        let mut command = Cli::command().term_width(80);
        command.build();
        let help = command.find_subcommand_mut("run").unwrap().render_long_help().to_string();
        for text in [EXIT_CODES, RUN_EXAMPLES] {
            assert!(help.contains(text), "{help}");
        }
    }
}
