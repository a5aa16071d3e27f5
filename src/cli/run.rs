//! What `run` is told.

#![allow(clippy::doc_markdown)] // `--help` prints these comments, and shows no Markdown.

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgAction, Args, CommandFactory, ValueEnum};

use super::{Cli, namespace, or_ovhcloud};
use crate::{
    api::Interval,
    controller::{NamespacedStores, election::Timing},
    okms::EndpointPattern,
    process::{
        EXIT_CODES,
        start::{LeaderElection, Options},
        telemetry::{LogFilter, LogFormat},
    },
};

// In lines of at most 80 characters, so that a terminal shows them as they are.
const EXAMPLES: &str = "\
Examples:
  From a shell, for one namespace, with the credentials of stores in ./okms:
    export KUBECONFIG=~/.kube/dev
    okms-operator run --watch-namespace shop --mount-root ./okms \\
      --listen 127.0.0.1:8080 --log-format text

  In a pod without the chart, where variables are easier to set than flags:
    env:
    - {name: OKMS_OPERATOR_WATCH_NAMESPACE, value: 'shop,team-a'}
    - {name: OKMS_OPERATOR_LOG_FILTER, value: 'info,okms_operator=debug'}";

pub(super) fn afterword() -> String {
    format!("{EXAMPLES}\n\n{EXIT_CODES}")
}

#[derive(Debug, Args)]
pub(super) struct Run {
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

impl Run {
    pub(super) fn options(self) -> Result<Options, clap::Error> {
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

    /// How long a leader that cannot renew its lease goes on. Longer than the retry period by more than a fifth.
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
    use clap::Parser;

    use super::*;
    use crate::cli::Command;

    fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
        let arguments = ["okms-operator", "run"].iter().chain(arguments);
        match Cli::try_parse_from(arguments)?.command {
            Command::Run(run) => run.options(),
            Command::Check(_) | Command::Crds => unreachable!("`run` was asked for"),
        }
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

    #[test]
    fn help_tells_examples_and_exit_codes_as_they_are_written() {
        let mut command = Cli::command().term_width(80);
        command.build();
        let help = command.find_subcommand_mut("run").unwrap().render_long_help().to_string();
        for text in [EXIT_CODES, EXAMPLES] {
            assert!(help.contains(text), "{help}");
        }
    }
}
