//! What the operator costs: at rest nothing but one data-free call per path and interval, one data read per new version, and next to
//! nothing for a restart.
//!
//! Writes are counted twice: by the resourceVersions of everything the operator could have written, and by the API server's own count
//! of the requests it served. The second counts whatever anybody does, so it has a control plane to itself.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use api_proxy::{Fault as ApiFault, Matching, Record};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Event, Namespace, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use okms_operator::{
    api::OkmsSecret,
    controller::{Config, health::Health},
};
use serde_json::json;
use test_cluster::ControlPlane;

use crate::{
    cluster,
    proxied::Proxied,
    tapped,
    world::{World, by_secret, client_config, config_of, eventually, holds, ready_of},
};

/// As many objects as the issue asks for.
const OBJECTS: usize = 50;

/// The refresh interval that a world's operator has.
const INTERVAL: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn fifty_objects_on_one_path_cost_one_call_per_interval_and_no_write() {
    let cluster = tokio::task::spawn_blocking(|| {
        let cluster = ControlPlane::start().unwrap();
        cluster::install_crds(&cluster);
        cluster
    });
    let cluster = cluster.await.unwrap();
    let mut world = World::on(Client::try_from(config_of(&cluster).await).unwrap(), "cost").await;
    world.domain.put("shared/db", json!({"v": "1"}));
    world.create_store(json!({})).await;
    let mut config = world.config();
    // A machine that stands still for a moment is no failure, of which a status would tell.
    config.timing.staleness_floor = Duration::from_mins(1);
    world.start_with(config);
    for n in 0..OBJECTS {
        world.apply(&format!("db-{n}"), json!({"path": "shared/db"})).await;
    }
    all_synced(&world, 1, "1").await;
    world.store_ready("True", "Reachable").await;

    let before = settled(&world).await;
    let (writes, calls, start) = (Served::by(&world.client).await, world.sim.counters(), Instant::now());
    world.after_checks(8).await;
    let (took, at_rest) = (start.elapsed(), world.sim.counters());
    // The first may be due, and come late: then the second comes after half an interval.
    assert!(took >= INTERVAL * 13 / 2, "eight calls took only {took:?}: more than one per interval");
    assert_eq!(at_rest.of("GetSecretsMetadata") - calls.of("GetSecretsMetadata"), at_rest.total() - calls.total());
    assert_eq!(at_rest.data_reads, calls.data_reads, "data was read at rest");
    assert_eq!(audit(&world).await, before);
    assert_eq!(Served::by(&world.client).await.writes(), writes.writes());

    // A new version is read once, and written once to each target and each status.
    world.domain.put("shared/db", json!({"v": "2"}));
    all_synced(&world, 2, "2").await;
    settled(&world).await;
    assert_eq!(world.sim.counters().data_reads - at_rest.data_reads, 1);
    let after = Served::by(&world.client).await;
    let objects = u64::try_from(OBJECTS).unwrap();
    for (verb, resource, count) in
        [("PUT", "secrets", objects), ("PATCH", "okmssecrets/status", objects), ("POST", "events", objects)]
    {
        assert_eq!(after.of(verb, resource) - writes.of(verb, resource), count, "{verb} {resource}");
    }
    assert_eq!(after.total_writes() - writes.total_writes(), 3 * objects);

    // A new version with the same content moves what says where it is from, and nothing else.
    let synced_at = last_sync_times(&world).await;
    world.domain.put("shared/db", json!({"v": "2"}));
    all_synced(&world, 3, "2").await;
    settled(&world).await;
    let same = Served::by(&world.client).await;
    assert_eq!(same.of("POST", "events"), after.of("POST", "events"), "an event tells a change that was none");
    assert_eq!(last_sync_times(&world).await, synced_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_costs_one_read_one_create_one_status_and_one_event() {
    let mut world = World::without_operator("first").await;
    world.create_store(json!({})).await;
    let (client, requests) = tapped::recording(client_config().await);
    // Long, so that everything that is asked is asked because of the first sync, and none is told that it waits.
    let long = Duration::from_mins(10);
    let config = Config { refresh_interval: long, progress_after: long, ..world.config() };
    world.start_as(config, client, Health::default());
    // By the metadata of the first path a new credential would be proven.
    world.domain.put("first", json!({"v": "1"}));
    world.apply("first", json!({"path": "first"})).await;
    world.synced("first", &[("v", "1")]).await;
    let names: Vec<String> = (0..20).map(|n| format!("new-{n}")).collect();
    for name in &names {
        world.domain.put(name, json!({"v": name}));
    }
    let calls = world.sim.counters();
    requests.lock().unwrap().clear();
    for name in &names {
        world.apply(name, json!({"path": name})).await;
    }
    for name in &names {
        world.synced(name, &[("v", name)]).await;
    }
    let count = |asked: &str| requests.lock().unwrap().iter().filter(|request| request.starts_with(asked)).count();
    let events = format!("POST /apis/events.k8s.io/v1/namespaces/{}/events", world.name);
    eventually("every event is sent", async || match count(&events) {
        20 => Ok(()),
        sent => Err(sent),
    })
    .await;
    let secrets = format!("/api/v1/namespaces/{}/secrets", world.name);
    let statuses = format!("PATCH /apis/okms-operator.io/v1alpha1/namespaces/{}/okmssecrets", world.name);
    assert_eq!(count(&format!("POST {secrets}")), 20);
    assert_eq!(count(&statuses), 20);
    let asked = requests.lock().unwrap().clone();
    for name in &names {
        let told = asked.iter().position(|request| *request == format!("{statuses}/{name}/status")).unwrap();
        let looked = asked[..told].contains(&format!("GET {secrets}/{name}"));
        assert!(!looked, "{name}: what is new is not looked for before it is made");
    }
    let after = world.sim.counters();
    assert_eq!((after.data_reads - calls.data_reads, after.total() - calls.total()), (20, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_that_takes_longer_than_a_value_is_kept_reads_each_once_and_tells_each_once() {
    const MANY: usize = 900;
    let mut of = Proxied::new("long").await;
    of.answer = Duration::from_mins(1);
    of.world.create_store(json!({})).await;
    let names: Vec<String> = (0..MANY).map(|n| format!("o{n}")).collect();
    stream::iter(&names)
        .for_each_concurrent(16, async |name| {
            of.world.domain.put(name, json!({"v": name}));
            of.world.apply(name, json!({"path": name})).await;
        })
        .await;
    // Thirty-two a second, of sixteen at once.
    of.proxy.fault(ApiFault::delay(Duration::from_millis(500)).hitting(Matching::writes().of("secrets")));
    let mut config = Config {
        refresh_interval: Duration::from_mins(10),
        progress_after: Duration::from_secs(15),
        ..of.world.config()
    };
    // Shorter than it takes for all, and several times as long as for what is read ahead.
    config.timing.value_ttl = Duration::from_secs(25);
    let (start, kept) = (Instant::now(), config.timing.value_ttl);
    of.start(config, Health::default());
    for some in (50..=MANY).step_by(50) {
        eventually(&format!("{some} are told"), async || {
            let told = of.count(&Matching::writes().of("okmssecrets/status"), Record::took_effect);
            if told >= some { Ok(()) } else { Err(told) }
        })
        .await;
    }
    eventually("all are synced", async || {
        let objects = of.world.objects().list(&ListParams::default()).await.unwrap();
        let synced = objects.iter().filter(|object| is_synced_at(object, 1)).count();
        if synced == MANY { Ok(()) } else { Err(synced) }
    })
    .await;
    assert!(start.elapsed() > kept, "it took less time than a value is kept");
    assert_eq!(of.world.sim.counters().data_reads, u64::try_from(MANY).unwrap());
    for (resource, what) in [("secrets", "writes of its Secret"), ("okmssecrets/status", "statuses")] {
        for name in &names {
            assert_eq!(of.effects(resource, name), 1, "{what} of {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_everything_synced_writes_nothing_and_reads_no_data() {
    let mut world = World::without_operator("restart").await;
    world.domain.put("one", json!({"v": "1"}));
    world.domain.put("two", json!({"v": "1"}));
    // By a Secret, which takes longer to read than a file: the objects are there before their store is.
    world.put_credential(&world.certificate).await;
    world.create_store(by_secret()).await;
    // Long, so that what is asked after a start is asked because of the start.
    let mut config = Config { refresh_interval: Duration::from_mins(1), ..world.config() };
    config.timing.staleness_floor = Duration::from_mins(1);
    world.start_with(config.clone());
    for n in 0..OBJECTS {
        let path = if n % 2 == 0 { "one" } else { "two" };
        world.apply(&format!("db-{n}"), json!({"path": path})).await;
    }
    all_synced(&world, 1, "1").await;
    world.store_ready("True", "Reachable").await;
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.name);
    eventually("every event is there", async || {
        let there = events.list(&ListParams::default()).await.unwrap().items.len();
        if there >= OBJECTS { Ok(()) } else { Err(there) }
    })
    .await;
    world.kill().await;

    let (before, calls) = (audit(&world).await, world.sim.counters());
    let (client, requests) = tapped::recording(client_config().await);
    world.start_as(config, client, Health::default());
    eventually("every object was looked at and told of its check", async || {
        let settled = reconciles(&world, "settled");
        if settled >= OBJECTS { Ok(()) } else { Err(settled) }
    })
    .await;

    let after = world.sim.counters();
    assert_eq!(after.data_reads, calls.data_reads, "data was read");
    for path in ["one", "two"] {
        assert_eq!(after.on(path) - calls.on(path), 1, "checks of {path}");
    }
    assert_eq!(after.total() - calls.total(), 3, "the probe, and a check for each path");
    assert_eq!(audit(&world).await, before);
    let requests = requests.lock().unwrap().clone();
    let writes: Vec<&String> = requests.iter().filter(|request| !request.starts_with("GET ")).collect();
    assert!(writes.is_empty(), "{writes:?}");
    for n in 0..OBJECTS {
        let path = format!("GET /api/v1/namespaces/{}/secrets/db-{n}", world.name);
        let reads = requests.iter().filter(|request| **request == path).count();
        assert!(reads <= 1, "{reads} times {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_to_targets_while_the_operator_was_down_is_repaired() {
    let mut world = World::new("meanwhile").await;
    world.domain.put("db", json!({"user": "app", "password": "one"}));
    let names = ["edited", "stripped", "relabelled", "disowned", "deleted", "untouched"];
    for name in names {
        world.apply(name, json!({"path": "db", "target": {"labels": {"team": "shop"}}})).await;
    }
    let data = [("user", "app"), ("password", "one")];
    for name in names {
        world.synced(name, &data).await;
    }
    world.stop().await;
    let untouched = world.secret("untouched").await;
    let merge = |name: &'static str, changes: serde_json::Value| {
        let secrets = world.secrets();
        async move { secrets.patch(name, &PatchParams::default(), &Patch::Merge(changes)).await.unwrap() }
    };
    merge("edited", json!({"stringData": {"password": "edited"}})).await;
    merge("stripped", json!({"data": {"password": null}})).await;
    merge("relabelled", json!({"metadata": {"labels": {"team": null}}})).await;
    merge("disowned", json!({"metadata": {"ownerReferences": null}})).await;
    world.secrets().delete("deleted", &DeleteParams::default()).await.unwrap();

    world.start();
    for name in names {
        eventually(&format!("{name} is as it was"), async || {
            let secret = world.secret(name).await.ok_or("it is not there")?;
            if !holds(&secret, &data) {
                return Err("it holds other data");
            }
            if secret.labels().get("team").is_none() {
                return Err("it lacks its label");
            }
            if secret.owner_references().len() == 1 { Ok(()) } else { Err("it has no owner") }
        })
        .await;
        world.synced(name, &data).await;
    }
    assert_eq!(world.secret("untouched").await, untouched);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_and_the_current_version_of_a_path_share_their_checks() {
    let world = World::new("share").await;
    for path in ["one", "two"] {
        for version in 1..=3 {
            world.domain.put(path, json!({"v": version.to_string()}));
        }
        for n in 0..3 {
            world.apply(&format!("{path}-{n}"), json!({"path": path})).await;
            world.apply(&format!("{path}-pin-{n}"), json!({"path": path, "version": n + 1})).await;
        }
    }
    for path in ["one", "two"] {
        for n in 0..3 {
            world.synced(&format!("{path}-{n}"), &[("v", "3")]).await;
            world.synced(&format!("{path}-pin-{n}"), &[("v", &(n + 1).to_string())]).await;
        }
    }
    world.after_checks(4).await;
    let (before, start) = (world.sim.counters(), Instant::now());
    world.after_checks(10).await;
    let (took, after) = (start.elapsed(), world.sim.counters());
    assert!(took >= INTERVAL * 7 / 2, "ten calls for two paths took only {took:?}");
    assert_eq!(after.of("GetSecretsMetadata") - before.of("GetSecretsMetadata"), after.total() - before.total());
    for path in ["one", "two"] {
        assert!(after.on(path) - before.on(path) >= 4, "{path} was checked {} times", after.on(path) - before.on(path));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_namespaces_are_served_and_no_others() {
    let mut world = World::without_operator("spaces").await;
    let names = ["a", "b", "c"].map(|letter| format!("{}-{letter}", world.name));
    for name in &names {
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::<Namespace>::all(world.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    }
    let [a, b, unserved] = &names;
    world.create_store(json!({"access": [{"namespaces": [format!("{}-*", world.name)], "paths": ["shared/*"]}]})).await;
    world.start_with(Config { watch_namespaces: vec![a.clone(), b.clone()], ..world.config() });
    world.domain.put("shared/db", json!({"v": "1"}));
    let per_namespace = 10;
    for namespace in &names {
        for n in 0..per_namespace {
            let object = json!({
                "apiVersion": "okms-operator.io/v1alpha1",
                "kind": "OkmsSecret",
                "metadata": {"name": format!("db-{n}")},
                "spec": {"path": "shared/db", "storeRef": {"name": world.name}},
            });
            let api: Api<OkmsSecret> = Api::namespaced(world.client.clone(), namespace);
            api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        }
    }
    for version in ["1", "2"] {
        world.domain.put("shared/db", json!({"v": version}));
        for namespace in [a, b] {
            let api: Api<Secret> = Api::namespaced(world.client.clone(), namespace);
            eventually(&format!("all of {namespace} hold {version}"), async || {
                let secrets = api.list(&ListParams::default()).await.unwrap().items;
                let there = secrets.iter().filter(|secret| holds(secret, &[("v", version)])).count();
                if there == per_namespace { Ok(()) } else { Err(there) }
            })
            .await;
        }
    }
    let api: Api<Secret> = Api::namespaced(world.client.clone(), unserved);
    assert!(api.list(&ListParams::default()).await.unwrap().items.is_empty());
    let objects: Api<OkmsSecret> = Api::namespaced(world.client.clone(), unserved);
    for object in objects.list(&ListParams::default()).await.unwrap() {
        let status = object.status.as_ref().unwrap();
        assert_eq!(status.observed_generation, -1, "{} was looked at", object.name_any());
    }
}

/// Waits until every object of the world is synced at this version, with this content.
async fn all_synced(world: &World, version: i32, content: &str) {
    eventually(&format!("all objects hold version {version}"), async || {
        let objects = world.objects().list(&ListParams::default()).await.unwrap().items;
        let secrets =
            world.secrets().list(&ListParams::default().labels("okms-operator.io/managed=true")).await.unwrap();
        let told = objects.iter().filter(|object| is_synced_at(object, version)).count();
        let there = secrets.iter().filter(|secret| holds(secret, &[("v", content)])).count();
        if (told, there) == (OBJECTS, OBJECTS) { Ok(()) } else { Err((told, there)) }
    })
    .await;
}

/// Waits until nothing is written any more, as events are behind what they tell, and answers the versions of everything.
async fn settled(world: &World) -> BTreeMap<String, String> {
    eventually("nothing is written for two checks", async || {
        let before = audit(world).await;
        world.after_checks(2).await;
        if audit(world).await == before { Ok(before) } else { Err("something was") }
    })
    .await
}

fn is_synced_at(object: &OkmsSecret, version: i32) -> bool {
    let synced = ready_of(object).is_some_and(|(status, reason, _)| status == "True" && reason == "Synced");
    let sources = object.status.as_ref().and_then(|status| status.sources.as_ref());
    synced && sources.is_some_and(|sources| sources.iter().all(|source| source.version == Some(version)))
}

async fn last_sync_times(world: &World) -> Vec<String> {
    let objects = world.objects().list(&ListParams::default()).await.unwrap();
    objects.iter().map(|object| format!("{:?}", object.status.as_ref().unwrap().last_sync_time)).collect()
}

/// How many reconciles of the running operator ended so.
fn reconciles(world: &World, outcome: &str) -> usize {
    let series = format!("okms_operator_reconciles_total{{outcome=\"{outcome}\"}} ");
    let text = world.operator.as_ref().unwrap().metrics.encode();
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

/// The resourceVersions of everything in a world that the operator may write.
async fn audit(world: &World) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut note = |kind: &str, metadata: &ObjectMeta| {
        let name = format!("{kind}/{}", metadata.name.as_deref().unwrap());
        versions.insert(name, metadata.resource_version.clone().unwrap());
    };
    let all = ListParams::default();
    world.objects().list(&all).await.unwrap().iter().for_each(|object| note("OkmsSecret", &object.metadata));
    world.secrets().list(&all).await.unwrap().iter().for_each(|secret| note("Secret", &secret.metadata));
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.name);
    events.list(&all).await.unwrap().iter().for_each(|event| note("Event", &event.metadata));
    // Events of a store, which has no namespace, are in this one.
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let of_store = ListParams::default().fields(&format!("involvedObject.name={}", world.name));
    events.list(&of_store).await.unwrap().iter().for_each(|event| note("Event", &event.metadata));
    note("ClusterOkmsStore", &world.stores().get(&world.name).await.unwrap().metadata);
    versions
}

/// The requests that an API server has served, as it counts them itself: by verb and resource.
#[derive(Debug, PartialEq, Eq)]
struct Served(BTreeMap<(String, String), u64>);

impl Served {
    async fn by(client: &Client) -> Self {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = client.request_text(request).await.unwrap();
        let mut served = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
            let (labels, count) = line.rsplit_once("} ").unwrap();
            let label = |name: &str| {
                let value = labels.split(',').find_map(|label| label.strip_prefix(name)).unwrap();
                value.trim_matches(['=', '"']).to_owned()
            };
            let (resource, subresource) = (label("resource"), label("subresource"));
            let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, printed as a float")]
            let count = count.parse::<f64>().unwrap() as u64;
            *served.entry((label("verb"), resource)).or_default() += count;
        }
        assert!(!served.is_empty(), "the API server counts nothing");
        Self(served)
    }

    fn of(&self, verb: &str, resource: &str) -> u64 {
        self.0.get(&(verb.to_owned(), resource.to_owned())).copied().unwrap_or(0)
    }

    /// Everything that changes something of what the operator may write.
    fn writes(&self) -> BTreeMap<(String, String), u64> {
        let reads = ["GET", "LIST", "WATCH"];
        let ours = ["okmssecrets", "clusterokmsstores", "secrets", "events"];
        let is_write = |(verb, resource): &(String, String)| {
            !reads.contains(&verb.as_str()) && ours.iter().any(|ours| resource.split('/').next() == Some(ours))
        };
        self.0.iter().filter(|(key, _)| is_write(key)).map(|(key, count)| (key.clone(), *count)).collect()
    }

    fn total_writes(&self) -> u64 {
        self.writes().values().sum()
    }
}
