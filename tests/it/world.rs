//! One test's world: a namespace of its own, a simulated OKMS of its own, a store, and an operator in this process that serves these
//! and nothing else.
//!
//! Times that people wait for in production are shortened here; every wait is for a state, with a deadline that only a hang reaches.

use std::{collections::BTreeMap, fmt::Debug, path::Path, sync::Arc, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
};
use kube::{
    Api, Client, Config as KubeConfig,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::ObjectMeta,
};
use okms_operator::{
    api::{ClusterOkmsStore, OkmsSecret, OkmsStore, condition},
    controller::{self, NamespacedStores, health::Health, metrics::Metrics},
    feed::Timing,
};
use okms_sim::{ClientCertificate, Domain, Options, Sim, Validity};
use serde_json::{Value, json};
use test_cluster::ControlPlane;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{cluster, guard};

/// Long enough for a busy machine, short enough to end a hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// The Secret with the credential of a store [`by_secret`].
pub(crate) const CREDENTIAL: &str = "okms-client";

/// Has a store take its credential from the Secret of [`World::put_credential`] instead of a mount.
pub(crate) fn by_secret() -> Value {
    json!({"auth": {"clientCertificate": {"mount": null, "secretRef": {"name": CREDENTIAL}}}})
}

/// Everything that one test has for itself.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) domain: Domain,
    pub(crate) client: Client,
    /// What its operator reaches Kubernetes with: the rights of the chart, and no more, where the control plane is the shared one.
    pub(crate) rights: Client,
    /// The namespace of the test, and the name of its store.
    pub(crate) name: String,
    pub(crate) mounts: tempfile::TempDir,
    pub(crate) certificate: ClientCertificate,
    pub(crate) operator: Option<Operator>,
}

/// A running operator.
pub(crate) struct Operator {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), controller::Error>>,
}

impl Operator {
    /// Stops it as SIGTERM would, and waits until it has drained.
    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Whether it has not ended by itself.
    pub(crate) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }

    /// Whether nobody would restart it. After a moment in which the whole machine stood still its heartbeat is as late as who asks.
    pub(crate) async fn is_alive(&self) -> bool {
        for _ in 0..20 {
            if self.health.is_live() {
                return self.is_running();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// Ends it as a SIGKILL would: nothing is finished.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        self.cancel.cancel();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(operator) = &self.operator {
            operator.cancel.cancel();
        }
    }
}

impl World {
    /// A world with a store that may read everything, and an operator at work.
    pub(crate) async fn new(name: &str) -> Self {
        let mut world = Self::without_operator(name).await;
        world.create_store(json!({})).await;
        world.start();
        world
    }

    /// A world with a namespace and a mounted credential, but without a store.
    pub(crate) async fn without_operator(name: &str) -> Self {
        let mut world = Self::on(client().await, name).await;
        world.rights = guard::operator().await;
        world
    }

    /// The same, on the control plane of this client.
    pub(crate) async fn on(client: Client, name: &str) -> Self {
        let sim = Sim::start(Options::default()).await.unwrap();
        let domain = sim.domain();
        let certificate = domain.issue_client_certificate(Validity::days(30)).unwrap();
        let name = format!("{name}-{:08x}", rand::random::<u32>());
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let (rights, mounts) = (client.clone(), tempfile::tempdir().unwrap());
        let world = Self { sim, domain, client, rights, name, mounts, certificate, operator: None };
        world.mount(&world.certificate);
        world
    }

    /// Puts a certificate where the store's mount is, as a kubelet does: a new folder, and a link that is swapped.
    pub(crate) fn mount(&self, certificate: &ClientCertificate) {
        let files = [("tls.crt", certificate.cert_pem.as_str()), ("tls.key", certificate.key_pem.as_str())];
        self.mount_files(&files);
    }

    pub(crate) fn mount_files(&self, files: &[(&str, &str)]) {
        self.mount_files_at(&self.name, files);
    }

    /// The same for another mount.
    pub(crate) fn mount_files_at(&self, mount: &str, files: &[(&str, &str)]) {
        swap(&self.mounts.path().join(mount), files);
    }

    /// Puts a certificate into the Secret that a store [`by_secret`] refers to.
    pub(crate) async fn put_credential(&self, certificate: &ClientCertificate) {
        self.put_credential_files(json!({"tls.crt": certificate.cert_pem, "tls.key": certificate.key_pem})).await;
    }

    pub(crate) async fn put_credential_files(&self, files: Value) {
        self.put_files_in(&self.name, CREDENTIAL, files).await;
    }

    /// Puts a Secret with these files into a namespace.
    pub(crate) async fn put_files_in(&self, namespace: &str, name: &str, files: Value) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": files});
        let params = PatchParams::apply("test").force();
        self.secrets_in(namespace).patch(name, &params, &Patch::Apply(secret)).await.unwrap();
    }

    /// How the operator behaves in tests.
    pub(crate) fn config(&self) -> controller::Config {
        controller::Config {
            namespace: self.name.clone(),
            watch_namespaces: vec![self.name.clone()],
            cluster_stores: vec![self.name.clone()],
            namespaced_stores: Some(NamespacedStores {
                allowed_endpoints: vec!["https://127.0.0.1:*".parse().unwrap()],
                ..NamespacedStores::default()
            }),
            mount_root: self.mounts.path().to_owned(),
            min_refresh_interval: Duration::from_secs(1),
            refresh_interval: Duration::from_secs(1),
            progress_after: Duration::from_millis(1500),
            credential_poll: Duration::from_millis(200),
            retry_refused: Duration::from_secs(1),
            backoff_first: Duration::from_millis(100),
            timing: Timing {
                staleness_floor: Duration::from_secs(4),
                confirm_after: Duration::from_secs(1),
                slow_first: Duration::from_millis(500),
                slow_cap: Duration::from_secs(2),
                backoff_first: Duration::from_millis(100),
                backoff_cap: Duration::from_secs(1),
                ..Timing::default()
            },
            ..controller::Config::default()
        }
    }

    pub(crate) fn start(&mut self) {
        self.start_with(self.config());
    }

    pub(crate) fn start_with(&mut self, config: controller::Config) {
        self.start_as(config, self.rights.clone(), Health::default());
    }

    /// Starts an operator that reaches Kubernetes through a client of its own.
    pub(crate) fn start_as(&mut self, config: controller::Config, client: Client, health: Health) {
        let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(health));
        let cancel = CancellationToken::new();
        let run = controller::run(config, client, metrics.clone(), health.clone(), cancel.clone());
        let task = tokio::spawn(run);
        self.operator = Some(Operator { metrics, health, cancel, task });
    }

    pub(crate) async fn stop(&mut self) {
        self.operator.take().unwrap().stop().await;
    }

    pub(crate) async fn kill(&mut self) {
        self.operator.take().unwrap().kill().await;
    }

    /// Creates the store of this world; `changes` are merged into its spec.
    pub(crate) async fn create_store(&self, changes: Value) -> ClusterOkmsStore {
        self.create_store_named(&self.name, changes).await
    }

    /// Creates another store like that of this world; the operator serves it if its configuration names it.
    pub(crate) async fn create_store_named(&self, name: &str, changes: Value) -> ClusterOkmsStore {
        let mut store = json!({
            "apiVersion": "okms-operator.io/v1alpha1",
            "kind": "ClusterOkmsStore",
            "metadata": {"name": name},
            "spec": {
                "endpoint": self.sim.endpoint(),
                "auth": {"clientCertificate": {"mount": self.name}},
                "ca": {"pem": self.sim.server_ca_pem()},
                "limits": {"requestsPerSecond": 500, "concurrentRequests": 16, "timeout": "5s"},
                "access": [{"namespaces": [self.name], "paths": ["*"]}],
            },
        });
        merge(store.get_mut("spec").unwrap(), changes);
        self.stores().create(&PostParams::default(), &serde_json::from_value(store).unwrap()).await.unwrap()
    }

    pub(crate) async fn patch_store(&self, patch: Value) {
        self.patch_store_named(&self.name, patch).await;
    }

    pub(crate) async fn patch_store_named(&self, name: &str, patch: Value) {
        self.stores().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Creates a store of a namespace, with the credential of [`World::put_credential`]; `changes` are merged into its spec.
    pub(crate) async fn create_okms_store(&self, namespace: &str, name: &str, changes: Value) -> OkmsStore {
        let mut store = json!({
            "apiVersion": "okms-operator.io/v1alpha1",
            "kind": "OkmsStore",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "endpoint": self.sim.endpoint(),
                "auth": {"clientCertificate": {"secretRef": {"name": CREDENTIAL}}},
                "ca": {"pem": self.sim.server_ca_pem()},
            },
        });
        merge(store.get_mut("spec").unwrap(), changes);
        let api = self.okms_stores(namespace);
        api.create(&PostParams::default(), &serde_json::from_value(store).unwrap()).await.unwrap()
    }

    /// Another namespace of this world; the operator looks at it if its configuration names it.
    pub(crate) async fn another_namespace(&self, suffix: &str, labels: Value) -> String {
        let name = format!("{}-{suffix}", self.name);
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        });
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
        name
    }

    /// Gives a namespace these labels; one that is null goes.
    pub(crate) async fn label_namespace(&self, name: &str, labels: Value) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Creates an `OkmsSecret` with this spec, which gets the store of this world where it names none.
    pub(crate) async fn apply(&self, name: &str, spec: Value) -> OkmsSecret {
        self.apply_in(&self.name, name, spec).await
    }

    /// The same in another namespace.
    pub(crate) async fn apply_in(&self, namespace: &str, name: &str, mut spec: Value) -> OkmsSecret {
        let fields = spec.as_object_mut().unwrap();
        fields.entry("storeRef").or_insert_with(|| json!({"name": self.name}));
        let object = json!({
            "apiVersion": "okms-operator.io/v1alpha1",
            "kind": "OkmsSecret",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        });
        let params = PatchParams::apply("test").force();
        self.objects_in(namespace).patch(name, &params, &Patch::Apply(object)).await.unwrap()
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.objects().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) fn objects(&self) -> Api<OkmsSecret> {
        self.objects_in(&self.name)
    }

    pub(crate) fn objects_in(&self, namespace: &str) -> Api<OkmsSecret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn okms_stores(&self, namespace: &str) -> Api<OkmsStore> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn stores(&self) -> Api<ClusterOkmsStore> {
        Api::all(self.client.clone())
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        self.secrets_in(&self.name)
    }

    pub(crate) fn secrets_in(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) async fn object(&self, name: &str) -> OkmsSecret {
        self.objects().get(name).await.unwrap()
    }

    pub(crate) async fn secret(&self, name: &str) -> Option<Secret> {
        self.secrets().get_opt(name).await.unwrap()
    }

    /// Waits until the object is synced at its present generation and its target holds this data.
    pub(crate) async fn synced(&self, name: &str, data: &[(&str, &str)]) -> Secret {
        self.ready(name, "True", "Synced").await;
        let target = self.object(name).await.target_name();
        eventually(&format!("Secret {target} holds the data"), async || {
            self.secret(&target).await.filter(|secret| holds(secret, data)).ok_or_else(|| "it does not".to_owned())
        })
        .await
    }

    /// Waits until the object's Ready condition is this, for its present generation; answers the object.
    pub(crate) async fn ready(&self, name: &str, status: &str, reason: &str) -> OkmsSecret {
        self.ready_in(&self.name, name, status, reason).await
    }

    /// The same in another namespace.
    pub(crate) async fn ready_in(&self, namespace: &str, name: &str, status: &str, reason: &str) -> OkmsSecret {
        eventually(&format!("{name} in {namespace} is Ready={status} {reason}"), async || {
            let object = self.objects_in(namespace).get(name).await.unwrap();
            match ready_of(&object) {
                Some((is, why, _)) if is == status && why == reason => Ok(object),
                other => Err(format!("{other:?}, and the operator waits for {:?}", self.waits_for())),
            }
        })
        .await
    }

    /// What the operator that runs here, if any, has not seen yet.
    fn waits_for(&self) -> Option<Vec<String>> {
        self.operator.as_ref().map(|operator| operator.health.waits_for())
    }

    /// Waits until the store's Ready condition is this; answers its message.
    pub(crate) async fn store_ready(&self, status: &str, reason: &str) -> String {
        self.store_named_ready(&self.name, status, reason).await
    }

    /// The same for another store.
    pub(crate) async fn store_named_ready(&self, name: &str, status: &str, reason: &str) -> String {
        eventually(&format!("store {name} is Ready={status} {reason}"), async || {
            let store = self.stores().get(name).await.unwrap();
            let conditions = store.status.map(|status| status.conditions).unwrap_or_default();
            match condition::find(&conditions, "Ready") {
                Some(ready) if ready.status == status && ready.reason == reason => Ok(ready.message.clone()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Waits until the Ready condition of a store of a namespace is this, for its present generation; answers its message.
    pub(crate) async fn okms_store_ready(&self, namespace: &str, name: &str, status: &str, reason: &str) -> String {
        eventually(&format!("OkmsStore {namespace}/{name} is Ready={status} {reason}"), async || {
            let store = self.okms_stores(namespace).get(name).await.unwrap();
            let known = store.status.unwrap_or_default();
            match condition::find(&known.conditions, "Ready") {
                Some(ready)
                    if ready.status == status
                        && ready.reason == reason
                        && ready.observed_generation == store.metadata.generation =>
                {
                    Ok(ready.message.clone())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Waits until the Secret is gone.
    pub(crate) async fn gone(&self, name: &str) {
        eventually(&format!("Secret {name} is gone"), async || match self.secret(name).await {
            None => Ok(()),
            Some(_) => Err("it is there".to_owned()),
        })
        .await;
    }

    /// Lets the operator make this many more requests to OKMS: so long as it checks, it has looked.
    pub(crate) async fn after_checks(&self, checks: u64) {
        let before = self.sim.counters().total();
        eventually(&format!("{checks} more requests"), async || {
            let made = self.sim.counters().total() - before;
            if made >= checks { Ok(()) } else { Err(format!("{made}")) }
        })
        .await;
    }
}

/// Status, reason and message of the Ready condition, once it is about the present generation.
pub(crate) fn ready_of(object: &OkmsSecret) -> Option<(String, String, String)> {
    let status = object.status.as_ref()?;
    let ready = condition::find(&status.conditions, "Ready")?;
    let current = status.observed_generation == object.metadata.generation?;
    current.then(|| (ready.status.clone(), ready.reason.clone(), ready.message.clone()))
}

/// The message of the Ready condition.
pub(crate) fn message(object: &OkmsSecret) -> String {
    ready_of(object).map(|(_, _, message)| message).unwrap_or_default()
}

/// Whether the data of a Secret is exactly this.
pub(crate) fn holds(secret: &Secret, data: &[(&str, &str)]) -> bool {
    let expected: BTreeMap<String, ByteString> =
        data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
    secret.data.clone().unwrap_or_default() == expected
}

/// Asks until the answer is there. The last refusal is shown when the deadline passes.
pub(crate) async fn eventually<T, E: Debug>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let start = tokio::time::Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(refusal) if start.elapsed() > DEADLINE => panic!("not within {DEADLINE:?}: {what}; last: {refusal:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A client of the shared control plane.
pub(crate) async fn client() -> Client {
    Client::try_from(client_config().await).unwrap()
}

/// What a client of the shared control plane is made from.
pub(crate) async fn client_config() -> KubeConfig {
    config_of(tokio::task::spawn_blocking(cluster::shared).await.unwrap()).await
}

pub(crate) async fn config_of(cluster: &ControlPlane) -> KubeConfig {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    KubeConfig::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

/// Swaps the content of a mounted folder, in one step.
fn swap(folder: &Path, files: &[(&str, &str)]) {
    let generation = format!("..{:08x}", rand::random::<u32>());
    std::fs::create_dir_all(folder.join(&generation)).unwrap();
    for (name, content) in files {
        std::fs::write(folder.join(&generation).join(name), content).unwrap();
    }
    let link = folder.join("..data_tmp");
    std::os::unix::fs::symlink(&generation, &link).unwrap();
    std::fs::rename(link, folder.join("..data")).unwrap();
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, changes) => *into = changes,
    }
}
