//! What the binary does: the start in its order, and everything that a process has only once.
//!
//! 1. no core dumps, since memory holds values of secrets; logs; signals;
//! 2. the way to the cluster;
//! 3. the questions whether the operator can work there;
//! 4. the operator, until the first signal; then its drain, until the second.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use rustix::{
    process::{Resource, Rlimit, setrlimit},
    system::uname,
};
use tokio_util::sync::CancellationToken;

use super::{
    Config, Error, Operator,
    cluster::Cluster,
    preflight::{self, Places},
    shutdown::Signals,
    telemetry::{self, LogFilter, LogFormat},
};
use crate::controller::{
    self, NamespacedStores,
    election::{self, Timing},
};

/// What a user can turn.
#[derive(Debug, Clone)]
pub struct Options {
    /// Absent: the `ServiceAccount`'s in a pod, else that of the kubeconfig's context.
    pub namespace: Option<String>,
    /// Empty: all.
    pub watch_namespaces: Vec<String>,
    /// Empty: all.
    pub cluster_stores: Vec<String>,
    /// Absent: the stores of namespaces are not served.
    pub namespaced_stores: Option<NamespacedStores>,
    pub mount_root: PathBuf,
    pub listen: SocketAddr,
    pub log_format: LogFormat,
    pub log_filter: LogFilter,
    pub min_refresh_interval: Duration,
    /// Absent: this process is the only instance there is.
    pub leader_election: Option<LeaderElection>,
}

/// The election in which this process stands.
#[derive(Debug, Clone)]
pub struct LeaderElection {
    /// The name of the Lease.
    pub id: String,
    pub timing: Timing,
}

/// The work is waiting for others. More threads hand each other what one would do at once: a check at rest then costs a sixth more
/// processor time. What computes for long gets a thread of its own where it does.
const WORKERS: usize = 1;

/// Runs an operator as this process, until it is told to stop.
pub fn run(options: Options) -> Result<(), Error> {
    let no_dumps = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    telemetry::init(options.log_format, options.log_filter.clone());
    if let Err(error) = no_dumps {
        tracing::warn!(%error, "cannot switch core dumps off");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(Error::Runtime)?;
    let outcome = runtime.block_on(until_stopped(options));
    // Without waiting for what still runs: after a drain nothing does, and after anything else it must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn until_stopped(options: Options) -> Result<(), Error> {
    let signals = Signals::hold()?;
    let cancel = CancellationToken::new();
    tokio::select! {
        outcome = operate(options, &cancel) => outcome,
        second = signals.obey(&cancel) => Err(second),
    }
}

async fn operate(options: Options, cancel: &CancellationToken) -> Result<(), Error> {
    let ready = async {
        let cluster = Cluster::find().await?;
        let namespace = options.namespace.clone().unwrap_or_else(|| cluster.client.default_namespace().to_owned());
        let lease = options.leader_election.as_ref().map(|election| (namespace.as_str(), election.id.as_str()));
        preflight::check(&cluster, &Places { watched: &options.watch_namespaces, lease }).await?;
        Ok((cluster, namespace))
    };
    // A stop during the start finds nothing to drain.
    let Some((cluster, namespace)) = cancel.run_until_cancelled(ready).await.transpose()? else { return Ok(()) };
    let election = options.leader_election.map(|election| {
        let LeaderElection { id, timing } = election;
        election::Config { id, identity: identity(), timing }
    });
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster = cluster.server,
        namespace,
        watch_namespaces = ?options.watch_namespaces,
        identity = election.as_ref().map(|election| &election.identity),
        "starting",
    );
    let config = Config {
        controller: controller::Config {
            namespace,
            watch_namespaces: options.watch_namespaces,
            cluster_stores: options.cluster_stores,
            namespaced_stores: options.namespaced_stores,
            mount_root: options.mount_root,
            min_refresh_interval: options.min_refresh_interval,
            election,
            ..controller::Config::default()
        },
        listen: Some(options.listen),
        ..Config::default()
    };
    Operator::run(config, cluster.client, cancel.clone()).await?;
    tracing::info!("stopped");
    Ok(())
}

/// What this process is called in a Lease: in a pod after the pod, and never as another one, a restarted container included.
fn identity() -> String {
    format!("{}_{:016x}", uname().nodename().to_string_lossy(), rand::random::<u64>())
}
