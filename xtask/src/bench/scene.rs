//! The stage of one run: a cluster and an OKMS of its own, so many objects, the operator as a process.

use std::{
    fmt::Debug,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Secret, serde::de::DeserializeOwned};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::{Config, KubeConfigOptions, Kubeconfig},
};
use okms_operator::api::{ClusterOkmsStore, OkmsSecret};
use serde_json::{Value, json};
use test_cluster::supervise::Folder;

use super::{
    Plan, Programs,
    floor::{self, Sample},
    layout::{self, Layout},
    usage::Requests,
};
use crate::stage::{Calls, Cluster, Installation, Operator, Simulator, call::kubectl, installation, operator};

/// Where the operator's objects are.
pub(super) const NAMESPACE: &str = "bench";

/// Where Secrets are that are nobody's.
pub(super) const NEIGHBOURS: &str = "neighbours";

/// Here are single ones, while thousands are new in the first.
pub(super) const NEWCOMERS: &str = "bench-newcomers";

/// So that OKMS's limit, which is somebody else's choice, is not what is measured.
const LIMITS: &str = "  limits: {requestsPerSecond: 1000, concurrentRequests: 64}\n";

/// For one answer of the API server.
const ANSWER: Duration = Duration::from_secs(30);

/// What a run is made on. The operators end before what they run on.
pub(super) struct Scene {
    pub(super) operators: Vec<Running>,
    pub(super) client: Client,
    pub(super) simulator: Simulator,
    pub(super) layout: Layout,
    pub(super) interval: Duration,
    /// How long a soak lasts.
    pub(super) soak: Duration,
    /// How many large Secrets there are that are nobody's.
    pub(super) neighbours: usize,
    pub(super) first_sync: Option<FirstSync>,
    /// When the secrets in OKMS were made.
    pub(super) seeded: Instant,
    launch: Launch,
    mounted: operator::Mounted,
    _cluster: Cluster,
    _folder: Folder,
}

/// How long a first sync took, and what it made.
pub(super) struct FirstSync {
    pub(super) took: Duration,
    pub(super) sample: Sample,
}

/// What an operator is started with, made ready before: fetching it takes kubectl longer than the operator takes to start.
struct Launch {
    binary: PathBuf,
    kubeconfig: String,
    arguments: Vec<String>,
}

/// A running operator, with a folder of its own for its log.
pub(super) struct Running {
    pub(super) operator: Operator,
    _folder: Folder,
}

impl Scene {
    /// Everything but an operator.
    pub(super) async fn set(programs: &Programs, objects: usize, plan: &Plan) -> Result<Self> {
        let folder = Folder::create("okms-bench-")?;
        let cluster = Cluster::start(&folder)?;
        let simulator = Simulator::start(&folder, &programs.simulator).await?;
        install(&folder, &cluster, &simulator, plan.interval).await?;
        let client = client(&cluster).await?;
        let token = cluster.succeed(&operator::token()).await?;
        let mounted = operator::mount_credential(&folder, &cluster).await?;
        let layout = Layout::of(objects);
        simulator.seed(layout::PREFIX, layout.paths, layout::content("0")).await?;
        let seeded = Instant::now();
        add_stores(&client, layout).await?;
        create(&client, NAMESPACE, (0..objects).map(|object| layout.manifest(object))).await?;
        let launch = Launch {
            binary: programs.operator.clone(),
            kubeconfig: cluster.kubeconfig_with(&token, installation::NAMESPACE).await?,
            arguments: operator::arguments(&cluster, mounted.root()).await?,
        };
        Ok(Self {
            operators: Vec::new(),
            client,
            simulator,
            layout,
            interval: plan.interval,
            soak: plan.soak,
            neighbours: 0,
            first_sync: None,
            seeded,
            launch,
            mounted,
            _cluster: cluster,
            _folder: folder,
        })
    }

    /// Starts one more operator, and waits until it is ready.
    pub(super) async fn start_operator(&mut self) -> Result<()> {
        let folder = Folder::create("okms-bench-operator-")?;
        let Launch { binary, kubeconfig, arguments } = &self.launch;
        let operator = Operator::start_with(&folder, kubeconfig, binary, arguments).await?;
        self.operators.push(Running { operator, _folder: folder });
        Ok(())
    }

    /// A client with the operator's identity and manners: the API server is to treat a plain client like it.
    pub(super) async fn operators_client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::from_yaml(&self.launch.kubeconfig).context("reading the operator's kubeconfig")?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        okms_operator::k8s::client(config.context("understanding the operator's kubeconfig")?, ANSWER)
            .context("making a client like the operator's")
    }

    /// The process that was started first.
    pub(super) fn process(&self) -> Result<u32> {
        Ok(self.operators.first().context("no operator runs")?.operator.id())
    }

    pub(super) async fn kubernetes(&self) -> Result<String> {
        Ok(self.client.apiserver_version().await.context("asking for the API server's version")?.git_version)
    }

    /// What was asked of OKMS and of Kubernetes so far.
    pub(super) async fn asked(&self) -> Result<Asked> {
        Ok(Asked { calls: self.simulator.calls().await?, requests: Requests::so_far(&self.client).await? })
    }

    /// Replaces the client certificate by another one of the same rights.
    pub(super) async fn rotate(&mut self) -> Result<()> {
        let issued = self.simulator.post("/domains/first/certificates", &json!({})).await?;
        let pem = |name: &str| issued.get(name).and_then(Value::as_str).context("a certificate without its PEM");
        self.mounted.swap(&[("tls.crt", pem("certPem")?), ("tls.key", pem("keyPem")?)])
    }

    /// Merges a patch into the first so many objects.
    pub(super) async fn patch(&self, objects: usize, patch: &Value) -> Result<()> {
        let api = Api::<OkmsSecret>::namespaced(self.client.clone(), NAMESPACE);
        stream::iter(0..objects)
            .map(async |object| api.patch(&layout::name(object), &PatchParams::default(), &Patch::Merge(patch)).await)
            .buffer_unordered(floor::concurrency())
            .try_for_each(async |_| Ok(()))
            .await
            .context("changing OkmsSecrets")
    }
}

/// Requests to both sides.
pub(super) struct Asked {
    pub(super) calls: Calls,
    pub(super) requests: Requests,
}

impl Asked {
    /// Those since then.
    pub(super) fn since(&self, then: &Self) -> Self {
        Self { calls: self.calls.since(then.calls), requests: self.requests.since(&then.requests) }
    }
}

async fn install(folder: &Folder, cluster: &Cluster, simulator: &Simulator, interval: Duration) -> Result<()> {
    let interval = format!("  refreshInterval: {}s\n", interval.as_secs());
    let namespaces = format!("{NAMESPACE}*");
    let installation = Installation::new(folder, simulator, &namespaces, "*", &(interval + LIMITS), "")?;
    let mut calls = Installation::preparations(simulator);
    calls.extend([installation.install(), Installation::without_pods()]);
    calls.extend([NAMESPACE, NEIGHBOURS, NEWCOMERS].map(|namespace| kubectl("create namespace").arg(namespace)));
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

/// Makes stores like the one of the chart.
async fn add_stores(client: &Client, layout: Layout) -> Result<()> {
    let api = Api::<ClusterOkmsStore>::all(client.clone());
    let like = api.get("default").await.context("reading the store that the chart made")?;
    for name in layout.further_stores() {
        let store = ClusterOkmsStore::new(&name, like.spec.clone());
        api.create(&PostParams::default(), &store).await.with_context(|| format!("creating store {name}"))?;
    }
    Ok(())
}

/// Creates `OkmsSecret`s, several at once.
pub(super) async fn create(client: &Client, namespace: &str, manifests: impl Iterator<Item = Value>) -> Result<()> {
    let api = Api::<OkmsSecret>::namespaced(client.clone(), namespace);
    stream::iter(manifests)
        .map(async |manifest| {
            let object: OkmsSecret = serde_json::from_value(manifest)?;
            api.create(&PostParams::default(), &object).await?;
            Ok::<_, anyhow::Error>(())
        })
        .buffer_unordered(floor::concurrency())
        .try_collect()
        .await
        .context("creating OkmsSecrets")
}

/// Deletes `OkmsSecret`s and their Secrets, several at once. Those would go by themselves, but so slowly (the garbage collector makes
/// 20 requests in a second) that it would go on while the next thing is measured.
pub(super) async fn delete(
    client: &Client,
    namespace: &str,
    names: impl Iterator<Item = String> + Clone,
) -> Result<()> {
    delete_each::<OkmsSecret>(client, namespace, names.clone()).await.context("deleting OkmsSecrets")?;
    delete_each::<Secret>(client, namespace, names).await.context("deleting their Secrets")
}

/// Deletes objects that may be gone already.
pub(super) async fn delete_each<K>(
    client: &Client,
    namespace: &str,
    names: impl Iterator<Item = String>,
) -> Result<(), kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    stream::iter(names)
        .map(async |name| match api.delete(&name, &DeleteParams::default()).await {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        })
        .buffer_unordered(floor::concurrency())
        .try_collect()
        .await
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
