//! `cargo xtask demo`: the operator's main job, told on real objects.
//!
//! Here: the set-up, the end, what is told about them. What happens in between is [`story`].

mod story;
mod teller;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use test_cluster::{binaries, supervise::Folder};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use self::{story::Story, teller::Teller};
use crate::{
    cargo,
    stage::{
        Cluster, Installation, Operator, Simulator,
        call::kubectl,
        installation::{NAME, NAMESPACE},
        operator,
    },
};

/// The namespace of the application team in the story.
const SHOP: &str = "shop";

/// How much of the operator's log is shown when a step was not as told.
const LINES_OF_A_LOG: usize = 20;

/// Shows the operator at work: a control plane, a simulated OKMS, the chart, and a story on real objects.
///
/// What it needs is built first: up to 15 minutes the first time, seconds later. Everything runs on this machine, listens on loopback
/// only, and is gone at the end. Every kubectl and Helm line that is shown really runs. Ends with 1 if a step is not as told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leaves everything running at the end, to play with; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,

    /// Uses the cluster of this context of your kubeconfig instead of a control plane of its own.
    ///
    /// The chart is installed there, and at the end removed with its CRDs and the namespaces okms-operator-system and shop. Where any of
    /// these is there already, nothing is changed. The simulated OKMS and the operator run on this machine all the same.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// The programs of this workspace.
struct Programs {
    simulator: PathBuf,
    operator: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let begun = Instant::now();
    let tell = Teller::new();
    tell.title("okms-operator keeps Kubernetes Secrets equal to the secrets in OVHcloud OKMS.");
    tell.say("What is needed is built first: minutes the first time, seconds later.");
    let programs = build(args)?;
    tell.came("built", Some(begun.elapsed()));
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(perform(args, &tell, &programs, begun))
}

fn build(args: &Args) -> Result<Programs> {
    binaries::helm_binary()?;
    if args.context.is_some() {
        binaries::kubectl_binary()?;
    } else {
        binaries::prepare()?;
    }
    // With ourselves, whose dependencies are built already: together they need no other features of them.
    let [_, simulator, operator] = cargo::binaries(["xtask", "okms-sim", "okms-operator"], &[])?;
    Ok(Programs { simulator, operator })
}

async fn perform(args: &Args, tell: &Teller, programs: &Programs, begun: Instant) -> Result<()> {
    let folder = Folder::create("okms-demo-")?;
    tell.title("A cluster");
    let cluster = match &args.context {
        None => own_cluster(&folder, tell)?,
        Some(context) => existing_cluster(&folder, tell, context).await?,
    };
    let told = tokio::select! {
        biased;
        () = interrupted() => Err(anyhow!("interrupted")),
        told = play(tell, programs, &folder, &cluster) => told,
    };
    let result = match told {
        Ok(running) => {
            tell.title(&format!("All of it was as told. ({:.0} s)", begun.elapsed().as_secs_f64()));
            if args.keep { keep(tell, &cluster, running).await } else { Ok(()) }
        }
        Err(error) => Err(error),
    };
    if cluster.is_ours() {
        return result;
    }
    // Whatever happened before: and that is what matters more.
    let removed = remove(&cluster, tell).await;
    result.and(removed)
}

fn own_cluster(folder: &Folder, tell: &Teller) -> Result<Cluster> {
    let begun = Instant::now();
    let cluster = Cluster::start(folder)?;
    tell.came(
        "a real Kubernetes control plane runs: etcd, kube-apiserver and kube-controller-manager",
        Some(begun.elapsed()),
    );
    tell.say("It has no nodes, so no pod runs in it. The operator will run as a process on this machine.");
    Ok(cluster)
}

async fn existing_cluster(folder: &Folder, tell: &Teller, context: &str) -> Result<Cluster> {
    let cluster = Cluster::existing(folder, context)?;
    tell.say(&format!(
        "In the cluster of the context {context}, the chart is installed (CRDs, cluster roles, the namespace {NAMESPACE}), and a \
         namespace {SHOP} is made. At the end all of it is removed. The operator and the simulated OKMS run on this machine."
    ));
    let crds = cluster.succeed(&kubectl("get crd -o name")).await?;
    if crds.contains("okms-operator.io") {
        bail!(
            "okms-operator.io's CRDs are in that cluster already; the demo would remove them at its end: take another"
        );
    }
    for namespace in [NAMESPACE, SHOP] {
        if cluster.get(&format!("namespace {namespace}")).await?.is_some() {
            bail!(
                "the namespace {namespace} is in that cluster already; the demo would remove it at its end: take another"
            );
        }
    }
    Ok(cluster)
}

/// What runs beside the cluster.
struct Running {
    operator: Operator,
    simulator: Simulator,
}

async fn play(tell: &Teller, programs: &Programs, folder: &Folder, cluster: &Cluster) -> Result<Running> {
    tell.title("A simulated OKMS");
    let begun = Instant::now();
    let simulator = Simulator::start(folder, &programs.simulator).await?;
    tell.came(&format!("it serves {}, for clients with a certificate", simulator.endpoint()), Some(begun.elapsed()));
    install(tell, folder, cluster, &simulator).await?;
    let operator = start_operator(tell, programs, folder, cluster).await?;

    let story = Story { tell, cluster, simulator: &simulator };
    if let Err(error) = story.tell().await {
        tell.title("Not as told. What the cluster and the operator's log say:");
        drop(tell.show_any(cluster, &kubectl("get okmssecrets,secrets")).await);
        let log = fs::read_to_string(operator.log()).unwrap_or_default();
        let mut last: Vec<_> = log.lines().rev().take(LINES_OF_A_LOG).collect();
        last.reverse();
        tell.quote(&last.join("\n"));
        return Err(error);
    }
    Ok(Running { operator, simulator })
}

async fn install(tell: &Teller, folder: &Folder, cluster: &Cluster, simulator: &Simulator) -> Result<()> {
    tell.title("The chart, with Helm");
    tell.say(
        "An administrator gives the cluster the client certificate of an OKMS domain, and says which namespace may read which \
         paths. The intervals are short only so that this demo is.",
    );
    for call in Installation::preparations(simulator) {
        tell.show(cluster, call).await?;
    }
    let installation = Installation::new(
        folder,
        simulator,
        SHOP,
        "prod/shop/*",
        "  refreshInterval: 1s      # by default 1m\n",
        "minRefreshInterval: 1s     # by default 10s\n",
    )?;
    tell.say("values.yaml:");
    tell.quote(&installation.values);
    let begun = Instant::now();
    let install = installation.install();
    tell.typed(&install);
    cluster.succeed(&install).await?;
    tell.came("the CRDs, the operator's rights and the store `default` are in the cluster", Some(begun.elapsed()));
    tell.say("Its Deployment makes way for the process that this demo starts instead:");
    tell.show(cluster, Installation::without_pods()).await?;
    Ok(())
}

async fn start_operator(tell: &Teller, programs: &Programs, folder: &Folder, cluster: &Cluster) -> Result<Operator> {
    tell.title("The operator");
    tell.say(&format!(
        "It is a process on this machine with the arguments of the chart's Deployment. To the cluster it is the chart's \
         ServiceAccount {NAME}: it has a token of it, and no other rights. The credential is laid out in a folder as a kubelet \
         would mount it."
    ));
    let token = operator::token();
    tell.typed(&token);
    let token = cluster.succeed(&token).await?;
    let mounted = operator::mount_credential(folder, cluster).await?;
    let begun = Instant::now();
    let operator = Operator::start(folder, cluster, &programs.operator, &token, mounted.root()).await?;
    tell.came("okms-operator runs, and is ready", Some(begun.elapsed()));
    let since = Instant::now();
    tell.show(cluster, kubectl("wait clusterokmsstore/default --for=condition=Ready --timeout=2m")).await?;
    tell.came("it reaches OKMS with the certificate", Some(since.elapsed()));
    Ok(operator)
}

/// Leaves everything running until somebody ends it.
async fn keep(tell: &Teller, cluster: &Cluster, mut running: Running) -> Result<()> {
    tell.title("Everything is left running. Ctrl-C ends it.");
    tell.quote(&format!(
        "export KUBECONFIG={}
alias kubectl={}
# OKMS's administrator is the simulator's admin port (tests/okms-sim/README.md):
curl --json '{{\"path\": \"prod/shop/db\", \"data\": {{\"password\": \"mine\"}}}}' \\
  {}/domains/first/secrets
curl http://{}/metrics
tail -f {}",
        cluster.kubeconfig().display(),
        cluster.kubectl().display(),
        running.simulator.admin(),
        running.operator.address(),
        running.operator.log().display(),
    ));
    loop {
        running.simulator.check()?;
        running.operator.check()?;
        tokio::select! {
            () = interrupted() => return Ok(()),
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Takes out of somebody else's cluster what was brought into it.
async fn remove(cluster: &Cluster, tell: &Teller) -> Result<()> {
    tell.title("Cleaning up");
    let mut calls = vec![kubectl("delete namespace --ignore-not-found --timeout=5m").arg(SHOP)];
    calls.extend(Installation::removal());
    let mut failed = false;
    for call in calls {
        failed |= !tell.show_any(cluster, &call).await?.ok;
    }
    if failed {
        bail!("not everything could be removed from the cluster");
    }
    Ok(())
}

/// Ctrl-C, or being told to end otherwise.
async fn interrupted() {
    let next = async |kind| match signal(kind) {
        Ok(mut signals) => drop(signals.recv().await),
        // Without a handler the signal ends this process, and its end ends the rest.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = next(SignalKind::interrupt()) => {}
        () = next(SignalKind::terminate()) => {}
        () = next(SignalKind::hangup()) => {}
    }
}
