//! Two operators, two processes, one Lease: the chart's arguments, roles and policies, an API server that writes down who changed what,
//! and whatever ends a leader.
//!
//! What they did is judged by that log alone ([`audit`]): each of them has a token of its own, which the API server names.

mod audit;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use okms_operator::{
    api::OkmsSecret,
    controller::{
        Config,
        election::{self, Timing},
        health::Health,
    },
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_cluster::ControlPlane;

use self::audit::Audit;
use crate::{
    chart, cluster,
    process::{self, Running},
    world::{World, client, config_of, eventually},
};

/// How many objects there are, each with a path of its own.
const OBJECTS: usize = 4;

/// A control plane that writes down what is changed.
fn audited() -> &'static ControlPlane {
    static AUDITED: OnceLock<ControlPlane> = OnceLock::new();
    AUDITED.get_or_init(|| {
        let cluster = ControlPlane::start_audited().unwrap();
        cluster::install_crds(&cluster);
        cluster
    })
}

/// A world with an installation of the chart in its namespace, whose pods are processes here.
struct Scene {
    world: World,
    /// What the chart calls its objects, the Lease too.
    name: String,
    arguments: Vec<String>,
}

/// A process that is one of the pods.
struct Replica {
    running: Running,
    /// As the API server names its token.
    credential: String,
    _home: TempDir,
}

impl Scene {
    async fn set(name: &str, values: &str) -> Self {
        let cluster = tokio::task::spawn_blocking(audited).await.unwrap();
        let world = World::on(Client::try_from(config_of(cluster).await).unwrap(), name).await;
        let (release, values) = (world.name.clone(), values.to_owned());
        let arguments = tokio::task::spawn_blocking(move || install(cluster, &release, &values)).await.unwrap();
        world.create_store(json!({"refreshInterval": "1s"})).await;
        for n in 0..OBJECTS {
            world.domain.put(&path(n), json!({"v": "1"}));
            world.apply(&object(n), json!({"path": path(n)})).await;
        }
        Self { name: format!("{}-okms-operator", world.name), world, arguments }
    }

    /// Starts a replica, and waits until it is ready.
    async fn start(&self) -> Replica {
        let (namespace, account, arguments) = (self.world.name.clone(), self.name.clone(), self.arguments.clone());
        let mounts = self.world.mounts.path().to_owned();
        let start = move || {
            let (cluster, home) = (audited(), TempDir::new().unwrap());
            let arguments_of_token = ["create", "token", &account, "-n", &namespace, "--duration=1h"];
            let token = cluster::kubectl(cluster, &arguments_of_token, "").succeeded().trim().to_owned();
            let kubeconfig = process::kubeconfig_of(&home, cluster, &format!("token: {token}"));
            let mut command = process::operator(&home);
            command.args(arguments).args(["--namespace", &namespace]).env("KUBECONFIG", kubeconfig);
            command.env("OKMS_OPERATOR_MOUNT_ROOT", mounts);
            let running = Running::start(&mut command);
            running.eventually_answers("/readyz", "200 OK");
            Replica { running, credential: credential(&token), _home: home }
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    /// Waits until the Lease names this replica, and it says so itself.
    async fn led_by(&self, replica: &Replica) {
        let leases = leases(&self.world.client, &self.world.name);
        eventually("it leads", async || {
            let holder = holder(&leases, &self.name).await;
            let says = replica.running.get("/metrics").contains("okms_leader 1\n");
            if holder == replica.running.identity && says { Ok(()) } else { Err((holder, says)) }
        })
        .await;
    }

    /// Waits until all objects are synced at this version.
    async fn synced(&self, version: u32) {
        for n in 0..OBJECTS {
            eventually(&format!("{} is at version {version}", object(n)), async || {
                let object = self.world.object(&object(n)).await;
                let summary = summary(&object);
                if summary == format!("{}@{version}", path(n)) { Ok(()) } else { Err(summary) }
            })
            .await;
        }
    }

    fn put(&self, version: u32) {
        for n in 0..OBJECTS {
            self.world.domain.put(&path(n), json!({"v": version.to_string()}));
        }
    }

    fn audit(&self) -> Audit {
        Audit::read(&audited().audit_log(), &self.world.name)
    }
}

fn summary(object: &OkmsSecret) -> String {
    object.status.as_ref().and_then(|status| status.summary.clone()).unwrap_or_default()
}

fn object(n: usize) -> String {
    format!("db-{n}")
}

fn path(n: usize) -> String {
    format!("prod/db-{n}")
}

/// Installs the chart in a namespace that exists; answers what its pods are started with.
fn install(cluster: &ControlPlane, release: &str, values: &str) -> Vec<String> {
    let limits = format!(r#"store.create=false,watchNamespaces=["{release}"],clusterStores=["{release}"]"#);
    let arguments = ["--set-json", &limits, "--set-json", r#"minRefreshInterval="1s""#, "--set-json", values];
    let rendered = chart::render(release, release, &arguments).succeeded();
    cluster::kubectl(cluster, &["apply", "--server-side", "-f", "-"], &rendered).succeeded();
    let mut objects = rendered.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    let deployment = objects.find(|object| object["kind"] == "Deployment").unwrap();
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().clone();
    let arguments = arguments.iter().map(|argument| argument.as_str().unwrap().to_owned());
    // What differs outside a pod is said by variables.
    let differs = |argument: &String| {
        argument == "run" || argument.starts_with("--listen=") || argument.starts_with("--mount-root=")
    };
    arguments.filter(|argument| !differs(argument)).collect()
}

/// How the API server calls a token in its audit log: by the id that is in it.
fn credential(token: &str) -> String {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    format!("JTI={}", claims["jti"].as_str().unwrap())
}

fn leases(client: &Client, namespace: &str) -> Api<Lease> {
    Api::namespaced(client.clone(), namespace)
}

async fn holder(leases: &Api<Lease>, name: &str) -> String {
    let lease = leases.get_opt(name).await.unwrap().and_then(|lease| lease.spec);
    lease.and_then(|spec| spec.holder_identity).unwrap_or_default()
}

/// What the chart says if nobody says otherwise.
const DEFAULTS: &str = "{}";

/// As short as is sure to be renewed on a machine that also compiles.
const SHORT: &str = r#"leaderElection={"leaseDuration":"8s","renewDeadline":"6s","retryPeriod":"1s"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_hands_over_and_the_other_finds_everything_in_step() {
    let scene = Scene::set("stopped", &format!("leaderElection={DEFAULTS}")).await;
    let first = scene.start().await;
    scene.led_by(&first).await;
    scene.synced(1).await;
    let second = scene.start().await;
    let metrics = second.running.get("/metrics");
    assert!(metrics.contains("okms_leader 0\n"), "{metrics}");

    let credential = first.credential.clone();
    tokio::task::spawn_blocking(move || first.running.stop()).await.unwrap();
    scene.led_by(&second).await;
    // It looks at everything, and has nothing to write.
    scene.world.after_checks(3 * OBJECTS as u64).await;
    let audit = scene.audit();
    assert_eq!(audit.written_by(&second.credential), Vec::<String>::new());
    assert_eq!(audit.last_of(&credential).what, "update leases", "it released after its last write");
    let hand_over = audit.hand_over(&credential, &second.credential);
    assert!(hand_over < Duration::from_secs(10), "{hand_over:?}: it waited for the lease to run out");
    eprintln!("clean stop: another one leads {hand_over:?} after the release");

    // The next one is stopped in the middle of its work, which another one goes on with.
    let third = scene.start().await;
    scene.put(2);
    eventually("some are at version 2", async || {
        let objects = scene.world.objects().list(&ListParams::default()).await.unwrap();
        let summaries: Vec<String> = objects.iter().map(summary).collect();
        if summaries.iter().any(|summary| summary.ends_with("@2")) { Ok(()) } else { Err(summaries) }
    })
    .await;
    let credential = second.credential.clone();
    tokio::task::spawn_blocking(move || second.running.stop()).await.unwrap();
    scene.led_by(&third).await;
    scene.synced(2).await;
    let audit = scene.audit();
    assert_eq!(audit.last_of(&credential).what, "update leases", "it released after its last write");
    audit.assert_one_leader_at_a_time();
    audit.assert_nothing_is_written_twice();
    assert_eq!(audit.count("create secrets"), OBJECTS);
    assert_eq!(audit.count("update secrets"), OBJECTS);
    assert_eq!(audit.count("patch okmssecrets/status"), 2 * OBJECTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_once_its_lease_has_run_out() {
    let scene = Scene::set("killed", &format!("leaderElection={DEFAULTS}")).await;
    let first = scene.start().await;
    scene.led_by(&first).await;
    let mut second = scene.start().await;
    scene.synced(1).await;

    // In the middle of its work.
    scene.put(2);
    first.running.signal(Signal::KILL);
    let killed = Instant::now();
    scene.led_by(&second).await;
    eprintln!("killed leader: another one leads {:?} later", killed.elapsed());
    scene.synced(2).await;

    let audit = scene.audit();
    let lease = audit.hand_over(&first.credential, &second.credential);
    assert!(lease >= Timing::default().lease_duration(), "{lease:?}: the lease had not run out");
    audit.assert_one_leader_at_a_time();
    audit.assert_nothing_is_written_twice();
    assert_eq!(audit.count("create secrets"), OBJECTS);
    assert!(second.running.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_writes_nothing_more_and_can_lead_again() {
    let scene = Scene::set("paused", SHORT).await;
    let mut first = scene.start().await;
    scene.led_by(&first).await;
    let mut second = scene.start().await;
    scene.synced(1).await;

    // In the middle of its work, which goes on while it sleeps.
    scene.put(2);
    first.running.signal(Signal::STOP);
    scene.put(3);
    scene.led_by(&second).await;
    scene.synced(3).await;
    scene.put(4);
    first.running.signal(Signal::CONT);
    first.running.eventually_answers("/metrics", "okms_leader 0\n");
    first.running.eventually_answers("/readyz", "200 OK");
    for version in 5..8 {
        scene.synced(version - 1).await;
        scene.put(version);
    }
    scene.synced(7).await;
    let audit = scene.audit();
    audit.assert_one_leader_at_a_time();
    assert_eq!(audit.written_after_its_term(&first.credential), Vec::<String>::new());
    let metrics = first.running.get("/metrics");
    assert!(!metrics.contains("okms_requests_total{"), "a standby asks OKMS nothing: {metrics}");

    // Nobody restarts, and the one that slept leads again.
    let credential = second.credential.clone();
    assert!(first.running.runs() && second.running.runs());
    // At rest, so that it is known what is to be written afterwards: nothing.
    scene.world.after_checks(3 * OBJECTS as u64).await;
    tokio::task::spawn_blocking(move || second.running.stop()).await.unwrap();
    scene.led_by(&first).await;
    scene.put(8);
    scene.synced(8).await;
    let audit = scene.audit();
    audit.assert_one_leader_at_a_time();
    audit.assert_nothing_is_written_twice();
    assert_eq!(audit.count("create secrets"), OBJECTS);
    eprintln!("clean stop: another one leads {:?} after the release", audit.hand_over(&credential, &first.credential));
    assert!(first.running.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_ready_and_asks_okms_nothing() {
    let scene = Scene::set("standby", SHORT).await;
    let leases = leases(&scene.world.client, &scene.world.name);
    let mut lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": scene.name},
        "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 3600, "leaseTransitions": 7},
    }))
    .unwrap();
    lease = leases.create(&PostParams::default(), &lease).await.unwrap();
    let replica = scene.start().await;
    for page in ["/readyz", "/livez"] {
        assert!(replica.running.get(page).contains("200 OK"), "{page}");
    }
    let metrics = replica.running.get("/metrics");
    assert!(metrics.contains("okms_leader 0\n") && !metrics.contains("okms_secrets{"), "{metrics}");
    assert_eq!(scene.world.sim.counters().total(), 0);
    assert_eq!(scene.audit().written_by(&replica.credential), Vec::<String>::new());

    // As a holder releases it: one that was merely emptied is its holder's for another hour.
    let spec = lease.spec.as_mut().unwrap();
    (spec.holder_identity, spec.lease_duration_seconds) = (Some(String::new()), Some(1));
    leases.replace(&scene.name, &PostParams::default(), &lease).await.unwrap();
    scene.led_by(&replica).await;
    scene.synced(1).await;
    let spec = leases.get(&scene.name).await.unwrap().spec.unwrap();
    assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(8), Some(8)));
    assert!(replica.running.get("/metrics").contains("okms_secrets{"));
}

/// In this process, and with the Lease taken away by hand: everything of the term goes with it, and nothing of it is missed.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_robbed_of_its_lease_stands_by_until_it_may_lead_again() {
    let mut world = World::without_operator("robbed").await;
    world.create_store(json!({})).await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    let timing = Timing::new(Duration::from_secs(8), Duration::from_secs(6), Duration::from_millis(500)).unwrap();
    let election = election::Config { id: "robbed".to_owned(), identity: "me".to_owned(), timing };
    let config = Config { election: Some(election), ..world.config() };
    // The roles of the chart name another Lease.
    world.start_as(config, client().await, Health::default());
    world.synced("db", &[("v", "1")]).await;

    let leases = leases(&world.client, &world.name);
    let hold = async |holder: &str, seconds: u32| {
        let patch = json!({"spec": {"holderIdentity": holder, "leaseDurationSeconds": seconds}});
        leases.patch("robbed", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    let leads = |world: &World| world.operator.as_ref().unwrap().metrics.encode().contains("okms_leader 1\n");
    hold("a thief", 3600).await;
    eventually("it stands by", async || if leads(&world) { Err("it leads") } else { Ok(()) }).await;
    assert!(world.operator.as_ref().unwrap().health.is_ready() && world.operator.as_ref().unwrap().health.is_live());

    // What changes now is nobody's business, on either side. What was on its way is there by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calls = world.sim.counters().total();
    world.domain.put("db", json!({"v": "2"}));
    world.domain.put("new", json!({"v": "3"}));
    world.apply("new", json!({"path": "new"})).await;
    world.secrets().delete("db", &DeleteParams::default()).await.unwrap();
    // Several times as long as whoever leads would take.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.sim.counters().total(), calls);

    // As a holder releases it.
    hold("", 1).await;
    eventually("it leads", async || if leads(&world) { Ok(()) } else { Err("it stands by") }).await;
    world.synced("db", &[("v", "2")]).await;
    world.synced("new", &[("v", "3")]).await;
    world.stop().await;
    assert_eq!(holder(&leases, "robbed").await, "", "it is released");
}
