//! One number of objects: a cluster and an OKMS of its own, and everything that is measured there, in this order: from nothing to
//! all synced, at rest, changes, the floor.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client,
    api::PostParams,
    config::{Config, KubeConfigOptions, Kubeconfig},
};
use okms_operator::api::OkmsSecret;
use serde_json::{Value, json};
use test_cluster::supervise::Folder;
use tokio::time::{sleep, sleep_until};

use super::{
    CHANGES_PER_SECOND, INTERVAL, INTERVALS_AT_REST, Programs, floor, progress,
    usage::{Memory, Requests, other_work, processor_time},
    watch::{self, Arrivals},
};
use crate::stage::{Calls, Cluster, Installation, Operator, Simulator, call::kubectl, operator};

/// Where the operator's objects are.
const NAMESPACE: &str = "bench";

/// Where a plain client writes the same.
const FLOOR: &str = "floor";

/// So that OKMS's limit, which is somebody else's choice, is not what is measured.
const LIMITS: &str = "  limits: {requestsPerSecond: 1000, concurrentRequests: 64}\n";

/// What came out for one number of objects.
pub(super) struct Measured {
    pub(super) objects: usize,
    /// What other work took of the processors before, in percent.
    pub(super) other_work: u64,
    /// The API server's version.
    pub(super) kubernetes: String,
    /// From the start of the operator's process to the last object's Ready=True.
    pub(super) first_sync: Duration,
    pub(super) first_calls: Calls,
    pub(super) floor: Duration,
    pub(super) at_rest: AtRest,
    /// How long each change took to its Secret, ascending.
    pub(super) changes: Vec<Duration>,
    /// After everything.
    pub(super) memory: Memory,
}

/// Over [`INTERVALS_AT_REST`] intervals.
pub(super) struct AtRest {
    pub(super) calls: Calls,
    pub(super) requests: Requests,
    pub(super) processor: Duration,
    pub(super) elapsed: Duration,
    pub(super) memory: Memory,
}

/// Sets the stage, measures, and ends everything.
pub(super) async fn measure(programs: &Programs, objects: usize, rounds: usize) -> Result<Measured> {
    let other_work = other_work().await?;
    progress(objects, "starting a control plane and the simulated OKMS");
    let folder = Folder::create("okms-bench-")?;
    let cluster = Cluster::start(&folder)?;
    let simulator = Simulator::start(&folder, &programs.simulator).await?;
    install(&folder, &cluster, &simulator).await?;
    let client = client(&cluster).await?;
    let kubernetes = client.apiserver_version().await.context("asking for the API server's version")?.git_version;

    progress(objects, "creating the objects");
    simulator.seed(&path(""), objects, content("0")).await?;
    create_objects(&client, NAMESPACE, objects).await?;
    let token = cluster.succeed(&operator::token()).await?;
    let mounts = operator::mount_credential(&folder, &cluster).await?;

    progress(objects, "from nothing to all synced");
    let begun = Instant::now();
    let operator = Operator::start(&folder, &cluster, &programs.operator, &token, &mounts).await?;
    let first_sync = watch::all_synced(&client, NAMESPACE, objects).await?.duration_since(begun);
    let first_calls = simulator.calls().await?;

    // The first checks are bunched; one interval spreads them.
    sleep(INTERVAL).await;
    progress(objects, &format!("at rest, for {INTERVALS_AT_REST} intervals"));
    let at_rest = at_rest(&client, &simulator, operator.id()).await?;

    progress(objects, &format!("{} changes", objects * rounds));
    let mut changes = change(&client, &simulator, objects, rounds).await?;
    changes.sort();
    let memory = Memory::of(operator.id())?;
    drop(operator);

    progress(objects, "the floor");
    let floor = floor::measure(&client, NAMESPACE, FLOOR, objects).await?;
    Ok(Measured { objects, other_work, kubernetes, first_sync, first_calls, floor, at_rest, changes, memory })
}

async fn install(folder: &Folder, cluster: &Cluster, simulator: &Simulator) -> Result<()> {
    let interval = format!("  refreshInterval: {}s\n", INTERVAL.as_secs());
    let installation = Installation::new(folder, simulator, NAMESPACE, "*", &(interval + LIMITS), "")?;
    let mut calls = Installation::preparations(simulator);
    calls.extend([installation.install(), Installation::without_pods()]);
    calls.extend([NAMESPACE, FLOOR].map(|namespace| kubectl("create namespace").arg(namespace)));
    for call in &calls {
        cluster.succeed(call).await?;
    }
    Ok(())
}

async fn client(cluster: &Cluster) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).context("reading the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.context("understanding the kubeconfig")?).context("making a client")
}

/// The name of an object and of its Secret.
pub(super) fn name(index: usize) -> String {
    format!("secret-{index}")
}

fn path(index: &str) -> String {
    format!("prod/bench/{index}")
}

/// What a database's secret usually holds.
fn content(password: &str) -> Value {
    json!({
        "host": "postgresql-1f0c3a5e.database.cloud.ovh.net",
        "port": 20184,
        "user": "shop",
        "password": format!("{password:-<32}"),
        "ca": "-".repeat(1024),
    })
}

/// Creates the `OkmsSecret`s of a namespace, each with a path of its own.
pub(super) async fn create_objects(client: &Client, namespace: &str, objects: usize) -> Result<Vec<OkmsSecret>> {
    let api = Api::<OkmsSecret>::namespaced(client.clone(), namespace);
    stream::iter(0..objects)
        .map(async |index| {
            let object: OkmsSecret = serde_json::from_value(json!({
                "apiVersion": "okms-operator.io/v1alpha1",
                "kind": "OkmsSecret",
                "metadata": {"name": name(index)},
                "spec": {"path": path(&index.to_string())},
            }))?;
            Ok::<_, anyhow::Error>(api.create(&PostParams::default(), &object).await?)
        })
        .buffer_unordered(floor::concurrency())
        .try_collect()
        .await
        .context("creating OkmsSecrets")
}

async fn at_rest(client: &Client, simulator: &Simulator, operator: u32) -> Result<AtRest> {
    let (calls, requests) = (simulator.calls().await?, Requests::so_far(client).await?);
    let (processor, begun) = (processor_time(operator)?, Instant::now());
    sleep(INTERVAL * INTERVALS_AT_REST).await;
    let (elapsed, processor) = (begun.elapsed(), processor_time(operator)?.saturating_sub(processor));
    Ok(AtRest {
        calls: simulator.calls().await?.since(calls),
        requests: Requests::so_far(client).await?.since(&requests),
        processor,
        elapsed,
        memory: Memory::of(operator)?,
    })
}

/// Writes a new version of every secret, spread evenly over an interval or longer, and times each until it is in its Secret; several
/// times.
async fn change(client: &Client, simulator: &Simulator, objects: usize, rounds: usize) -> Result<Vec<Duration>> {
    let arrivals = Arrivals::watch(client, NAMESPACE);
    let spread = INTERVAL.max(Duration::from_secs(1) * u32::try_from(objects / CHANGES_PER_SECOND)?);
    let mut took = Vec::new();
    for round in 1..=rounds {
        let begun = tokio::time::Instant::now();
        let mut written = HashMap::new();
        for index in 0..objects {
            let when = spread.mul_f64(fraction(index, objects));
            sleep_until(begun + when).await;
            // Before the request: what the simulator takes is not subtracted.
            let at = Instant::now();
            let version = simulator.put(&path(&index.to_string()), content(&round.to_string())).await?;
            written.insert((name(index), version), at);
        }
        took.extend(arrivals.of(&written).await?);
    }
    Ok(took)
}

#[expect(clippy::cast_precision_loss, reason = "there are fewer objects than an f64 has exact integers")]
fn fraction(index: usize, of: usize) -> f64 {
    index as f64 / of as f64
}
