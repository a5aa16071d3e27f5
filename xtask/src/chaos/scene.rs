//! Sets the stage: a control plane, the simulated OKMS, the installed chart, three stores, the namespaces.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use kube::{
    Client,
    config::{Config, KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use test_cluster::{ControlPlane, supervise::Folder};

use super::{
    Programs,
    action::Key,
    api::Api,
    control_plane::Plane,
    history::{History, Kind, Recorder},
    kubernetes::{Kubernetes, base64},
    mount::Mount,
    okms::Okms,
    operators::{Operators, Recipe},
    watch::Watches,
    world::{NAMESPACES, WITH_STORE},
};
use crate::stage::{Cluster, Installation, Simulator, operator};

/// The label that the stores' access rules ask for.
pub(super) const ADMITTED: &str = "chaos.example/admitted";

/// Everything that the noise is made on.
pub(super) struct Scene {
    pub(super) recorder: Recorder,
    pub(super) okms: Okms,
    pub(super) kubernetes: Kubernetes,
    pub(super) operators: Operators,
    pub(super) api: Api,
    pub(super) mount: Mount,
    pub(super) watches: Watches,
    /// The spec of the second store, which the noise deletes and makes again.
    pub(super) second: Value,
    // Ended after everything that runs on them.
    pub(super) plane: Plane,
    _folder: Folder,
}

impl Scene {
    pub(super) async fn set(programs: &Programs, seed: u64, logs: PathBuf) -> Result<Self> {
        let folder = Folder::create("okms-chaos-")?;
        let cluster = Cluster::of(&folder, ControlPlane::start_remembering()?)?;
        let simulator = Simulator::start(&folder, &programs.simulator).await?;
        install(&folder, &cluster, &simulator).await?;
        let config = config(&cluster).await?;
        let client = Client::try_from(config.clone()).context("making a client")?;
        let read = |name| fs::read_to_string(simulator.file(name)).with_context(|| format!("reading {name}"));
        let (okms_id, ca, endpoint) = (read("okms-id")?, read("ca.crt")?, simulator.endpoint().to_owned());
        let recorder = Recorder::new(History::new(okms_id.trim().to_owned()));
        let watches = Watches::start(&client, &recorder).await?;
        let kubernetes = Kubernetes::new(client, recorder.clone());
        let mut okms = Okms::new(simulator, recorder.clone());
        let mut mount = Mount::new(operator::mount_credential(&folder, &cluster).await?);
        mount.rotate(&mut okms).await?;
        let second = second(&endpoint, &ca);
        stores(&kubernetes, &mut okms, &second).await?;
        let token = cluster.succeed(&operator::token()).await?;
        let api = Api::start(config, seed, recorder.clone()).await?;
        let recipe = Recipe {
            binary: programs.operator.clone(),
            kubeconfig: api.kubeconfig(&token),
            arguments: operator::arguments(&cluster, mount.root()).await?,
        };
        let operators = Operators::new(recorder.clone(), recipe, logs)?;
        let plane = cluster.into_control_plane().context("the control plane is not ours")?;
        let plane = Plane::new(plane, recorder.clone());
        Ok(Self { recorder, okms, kubernetes, operators, api, mount, watches, second, plane, _folder: folder })
    }
}

async fn install(folder: &Folder, cluster: &Cluster, simulator: &Simulator) -> Result<()> {
    // So often that a run of a minute shows something, and with a time limit that hanging requests reach.
    let more = "  refreshInterval: 2s\n  limits: {requestsPerSecond: 200, concurrentRequests: 16, timeout: 4s}\n";
    let rest = "logLevel: 'info,okms_operator::feed=debug'\nminRefreshInterval: 1s\n\
        namespacedStores: {allowedEndpoints: ['https://127.0.0.1:*']}\n\
        leaderElection: {leaseDuration: 4s, renewDeadline: 3s, retryPeriod: 1s}\n";
    let installation = Installation::new(folder, simulator, "nobody", "*", more, rest)?;
    let mut calls = Installation::preparations(simulator);
    calls.extend([installation.install(), Installation::without_pods()]);
    for call in &calls {
        cluster.succeed(call).await?;
    }
    Ok(())
}

async fn config(cluster: &Cluster) -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).context("reading the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    config.context("understanding the kubeconfig")
}

/// The access rule that the stores have: the namespaces of the noise, while they have the label.
pub(super) fn access(paths: &[String]) -> Value {
    json!([{"namespaces": ["chaos-*"], "namespaceSelector": {"matchLabels": {ADMITTED: "true"}}, "paths": paths}])
}

fn second(endpoint: &str, ca: &str) -> Value {
    json!({
        "endpoint": endpoint,
        "auth": {"clientCertificate": {"mount": "default"}},
        "ca": {"pem": ca},
        "refreshInterval": "3s",
        "withdrawalPolicy": "Retain",
        "maxWithdrawalsPerHour": "100%",
        "limits": {"requestsPerSecond": 200, "concurrentRequests": 16, "timeout": "4s"},
        "access": access(&["*".to_owned()]),
    })
}

async fn stores(kubernetes: &Kubernetes, okms: &mut Okms, second: &Value) -> Result<()> {
    let cluster_wide = |name: &str| Key { namespace: String::new(), name: name.to_owned() };
    for namespace in NAMESPACES {
        let labelled = json!({"metadata": {"labels": {ADMITTED: "true"}}});
        kubernetes.create(Kind::Namespace, &cluster_wide(namespace), labelled).await?;
    }
    let access = json!({"spec": {"access": access(&["*".to_owned()])}});
    kubernetes.merge(Kind::ClusterOkmsStore, &cluster_wide("default"), &access).await?;
    kubernetes.create(Kind::ClusterOkmsStore, &cluster_wide("second"), json!({"spec": second})).await?;

    let own = okms.issue().await?;
    let in_namespace = |name: &str| Key { namespace: WITH_STORE.to_owned(), name: name.to_owned() };
    let credential = json!({"data": {"tls.crt": base64(&own.chain), "tls.key": base64(&own.key)}});
    kubernetes.create(Kind::Secret, &in_namespace("okms-client"), credential).await?;
    let store = json!({"spec": {
        "endpoint": second.get("endpoint"),
        "auth": {"clientCertificate": {"secretRef": {"name": "okms-client"}}},
        "ca": second.get("ca"),
        "refreshInterval": "2s",
    }});
    kubernetes.create(Kind::OkmsStore, &in_namespace("own"), store).await?;
    Ok(())
}
