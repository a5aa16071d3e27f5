//! A namespace, or a store, that has much to do, hangs or is told to wait delays nobody else. What happens in which order is counted at
//! the simulator; no test measures time.

use futures::{StreamExt, future::join_all, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use okms_operator::{
    api::OkmsSecret,
    controller::{Config, health::Health},
};
use okms_sim::{Arrival, Counters, Fault, Operation, Options, Sim, Validity};
use serde_json::{Value, json};

use crate::{
    tapped,
    world::{World, client_config, eventually, holds},
};

/// What no test waits for.
const FOR_EVER: std::time::Duration = std::time::Duration::from_hours(1);

/// A namespace beside that of a world.
struct Space {
    name: String,
    objects: Api<OkmsSecret>,
    secrets: Api<Secret>,
}

impl Space {
    async fn new(world: &World, suffix: &str) -> Self {
        let name = format!("{}-{suffix}", world.name);
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::<Namespace>::all(world.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let objects = Api::namespaced(world.client.clone(), &name);
        Self { secrets: Api::namespaced(world.client.clone(), &name), name, objects }
    }

    /// Creates objects of these names, each on the path of its name, several at a time.
    async fn apply_all(&self, world: &World, names: &[String], interval: &str) {
        let create = async |name: &String| {
            let object = json!({
                "apiVersion": "okms-operator.io/v1alpha1",
                "kind": "OkmsSecret",
                "metadata": {"name": name},
                "spec": {"path": format!("crowd/{name}"), "refreshInterval": interval, "storeRef": {"name": world.name}},
            });
            let object = serde_json::from_value(object).unwrap();
            self.objects.create(&PostParams::default(), &object).await.unwrap();
        };
        stream::iter(names).for_each_concurrent(8, create).await;
    }

    async fn all_there(&self, count: usize) {
        eventually(&format!("{count} Secrets are in {}", self.name), async || {
            let there = self.secrets.list_metadata(&ListParams::default()).await.unwrap().items.len();
            if there == count { Ok(()) } else { Err(there) }
        })
        .await;
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("o{n}")).collect()
}

/// A world whose operator serves a crowd's namespace as well.
async fn world(name: &str, limits: Value) -> (World, Space) {
    let mut world = World::without_operator(name).await;
    let crowd = Space::new(&world, "crowd").await;
    let access = json!([{"namespaces": [world.name, crowd.name], "paths": ["*"]}]);
    world.create_store(json!({"access": access, "limits": limits})).await;
    let config = Config { watch_namespaces: vec![world.name.clone(), crowd.name.clone()], ..world.config() };
    world.start_with(config);
    (world, crowd)
}

fn on_crowd(counters: &Counters) -> u64 {
    counters.requests.iter().filter(|((_, path), _)| path.starts_with("crowd/")).map(|(_, count)| count).sum()
}

/// How many requests were made after so many, when it could be known what to read, until the data of a path was read. All are counted
/// since the counters were reset.
async fn requests_until_read(sim: &Sim, before: usize, path: &str) -> usize {
    let is_read = |arrival: &Arrival| arrival.operation == Operation::GetSecretRequest && arrival.path == path;
    eventually(&format!("the data of {path} is read"), async || {
        let arrivals = sim.arrivals();
        let read = arrivals.iter().position(is_read).ok_or(arrivals.len());
        read.map(|read| (read + 1).saturating_sub(before))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_in_one_namespace_delays_nothing_in_another() {
    let (world, crowd) = world("crowd", json!({"requestsPerSecond": 20})).await;
    let names = names(200);
    for name in &names {
        world.domain.put(&format!("crowd/{name}"), json!({"v": "1"}));
    }
    // Ten times as many checks as there may be, after two requests for each.
    crowd.apply_all(&world, &names, "1s").await;
    world.domain.put("small", json!({"v": "1"}));
    world.sim.reset_counters();
    world.apply("small", json!({"path": "small"})).await;
    let before = world.sim.arrivals().len();
    let made = requests_until_read(&world.sim, before, "small").await;
    assert!(made <= 60, "{made} requests came before those for a new object");
    world.synced("small", &[("v", "1")]).await;

    // Checked every second, so every twenty requests.
    world.sim.reset_counters();
    world.domain.put("small", json!({"v": "2"}));
    let made = requests_until_read(&world.sim, 0, "small").await;
    assert!(made <= 80, "{made} requests came before a new version was seen and read");
    world.synced("small", &[("v", "2")]).await;
    let before = world.sim.counters();
    world.after_checks(200).await;
    let after = world.sim.counters();
    let checks = after.on("small") - before.on("small");
    assert!(checks >= 5, "{checks} of 200 requests were for the one that is to be checked every second");
    assert!(on_crowd(&after) - on_crowd(&before) >= 100, "and the others are served too");
    world.patch_store(json!({"spec": {"limits": {"requestsPerSecond": 500}}})).await;
    crowd.all_there(names.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_new_objects_delays_no_repair_in_their_own_namespace() {
    let mut world = World::new("flood").await;
    let old: Vec<String> = (0..10).map(|n| format!("old-{n}")).collect();
    for name in &old {
        world.domain.put(name, json!({"v": "1"}));
        world.apply(name, json!({"path": name})).await;
    }
    join_all(old.iter().map(|name| world.synced(name, &[("v", "1")]))).await;
    world.stop().await;
    for name in &old {
        let edit = Patch::Merge(json!({"stringData": {"v": "edited"}}));
        world.secrets().patch(name, &PatchParams::default(), &edit).await.unwrap();
    }
    for name in names(300) {
        world.domain.put(&name, json!({"v": "1"}));
        world.apply(&name, json!({"path": name})).await;
    }
    let (client, requests) = tapped::recording(client_config().await);
    // One at a time, so that the order of the requests is that of the turns.
    world.start_as(Config { concurrency: 1, ..world.config() }, client, Health::default());
    join_all(old.iter().map(|name| world.synced(name, &[("v", "1")]))).await;

    let secrets = format!("/api/v1/namespaces/{}/secrets", world.name);
    let requests = requests.lock().unwrap().clone();
    let repaired = requests.iter().rposition(|request| request.starts_with(&format!("PUT {secrets}/old-"))).unwrap();
    let created = requests[..repaired].iter().filter(|request| **request == format!("POST {secrets}")).count();
    assert!(created <= 100, "{created} new Secrets were created before the last of ten repairs");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_for_a_check_in_one_namespace_delay_nothing_in_another() {
    let (world, crowd) = world("burst", json!({})).await;
    let names = names(150);
    for name in &names {
        world.domain.put(&format!("crowd/{name}"), json!({"v": "1"}));
    }
    crowd.apply_all(&world, &names, "1h").await;
    for path in ["old", "new"] {
        world.domain.put(path, json!({"v": "1"}));
    }
    world.apply("old", json!({"path": "old"})).await;
    world.synced("old", &[("v", "1")]).await;
    crowd.all_there(names.len()).await;

    world.patch_store(json!({"spec": {"limits": {"requestsPerSecond": 10}}})).await;
    eventually("the limit is in force", async || {
        let store = world.stores().get(&world.name).await.unwrap();
        let observed = store.status.map(|status| status.observed_generation);
        if observed == store.metadata.generation { Ok(()) } else { Err(observed) }
    })
    .await;
    let annotate = async |name: &String| {
        let patch = json!({"metadata": {"annotations": {"okms-operator.io/refresh": "now"}}});
        crowd.objects.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    stream::iter(&names).for_each_concurrent(16, annotate).await;
    world.sim.reset_counters();
    world.apply("new", json!({"path": "new"})).await;
    world.domain.put("old", json!({"v": "2"}));
    let before = world.sim.arrivals().len();
    let made = requests_until_read(&world.sim, before, "new").await;
    assert!(made <= 40, "{made} requests came before those for a new object");
    let made = requests_until_read(&world.sim, before, "old").await;
    assert!(made <= 60, "{made} requests came before a new version was seen and read");
    world.synced("new", &[("v", "1")]).await;
    world.synced("old", &[("v", "2")]).await;
    // Everybody who asked was heard.
    eventually("all were checked", async || {
        let objects = crowd.objects.list(&ListParams::default()).await.unwrap().items;
        let handled = |object: &&OkmsSecret| {
            object.status.as_ref().and_then(|status| status.last_handled_refresh.as_deref()) == Some("now")
        };
        let handled = objects.iter().filter(handled).count();
        if handled == names.len() { Ok(()) } else { Err(handled) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_whose_paths_hang_delays_nothing_in_another() {
    // Each request that hangs holds one of the eight places for half a minute.
    let limits = json!({"requestsPerSecond": 50, "concurrentRequests": 8, "timeout": "30s"});
    let (world, crowd) = world("hang", limits).await;
    let names = names(60);
    for name in &names {
        world.domain.put(&format!("crowd/{name}"), json!({"v": "1"}));
    }
    world.domain.put("calm", json!({"v": "0"}));
    world.apply("calm", json!({"path": "calm"})).await;
    world.synced("calm", &[("v", "0")]).await;
    world.sim.fault(Fault::latency(FOR_EVER).on_path("crowd/*"));
    crowd.apply_all(&world, &names, "1s").await;
    eventually("it hangs", async || {
        let asked = on_crowd(&world.sim.counters());
        if asked >= 3 { Ok(()) } else { Err(asked) }
    })
    .await;

    let before = world.sim.counters();
    for version in 1..=8 {
        let name = format!("new-{version}");
        world.domain.put(&name, json!({"v": "1"}));
        world.apply(&name, json!({"path": name})).await;
        world.domain.put("calm", json!({"v": version.to_string()}));
        world.synced(&name, &[("v", "1")]).await;
        world.synced("calm", &[("v", &version.to_string())]).await;
    }
    // Had each of these had to wait for the end of what hangs, that would have been asked anew each time.
    let hung = on_crowd(&world.sim.counters()) - on_crowd(&before);
    assert!(hung <= 30, "{hung} requests hung meanwhile");
    world.store_ready("True", "Reachable").await;

    world.sim.clear_faults();
    crowd.all_there(names.len()).await;
}

/// A store of an OKMS of its own.
async fn another_store(world: &World, name: &str, sim: &Sim) {
    let certificate = sim.domain().issue_client_certificate(Validity::days(30)).unwrap();
    let files = [("tls.crt", certificate.cert_pem.as_str()), ("tls.key", certificate.key_pem.as_str())];
    world.mount_files_at(name, &files);
    let store = json!({
        "endpoint": sim.endpoint(),
        "auth": {"clientCertificate": {"mount": name}},
        "ca": {"pem": sim.server_ca_pem()},
    });
    world.create_store_named(name, store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_delays_no_other() {
    let data = [Operation::GetSecretRequest];
    let faults = [
        ("hangs", Fault::latency(FOR_EVER)),
        ("hangs-data", Fault::latency(FOR_EVER).on(&data)),
        // Some hundred bytes in an hour.
        ("drips", Fault::slow_body(FOR_EVER)),
        ("drips-data", Fault::slow_body(FOR_EVER).on(&data)),
    ];
    join_all(faults.map(async |(what, fault)| {
        let sim = Sim::start(Options::default()).await.unwrap();
        let (mut world, _crowd) = world(what, json!({"timeout": "30s"})).await;
        let bad = format!("{}-bad", world.name);
        world.stop().await;
        another_store(&world, &bad, &sim).await;
        let mut config = world.config();
        config.cluster_stores.push(bad.clone());
        world.start_with(config);
        world.store_named_ready(&bad, "True", "Reachable").await;
        sim.fault(fault);
        for n in 0..20 {
            sim.domain().put(&format!("bad-{n}"), json!({"v": "1"}));
            world.domain.put(&format!("good-{n}"), json!({"v": "1"}));
            world.apply(&format!("bad-{n}"), json!({"path": format!("bad-{n}"), "storeRef": {"name": bad}})).await;
        }
        sim.wait_until(|counters| (0..20).any(|n| counters.on(&format!("bad-{n}")) > 0)).await;
        for n in 0..20 {
            world.apply(&format!("good-{n}"), json!({"path": format!("good-{n}")})).await;
        }
        join_all((0..20).map(async |n| world.synced(&format!("good-{n}"), &[("v", "1")]).await)).await;
        world.domain.put("good-7", json!({"v": "2"}));
        world.synced("good-7", &[("v", "2")]).await;
        assert!(world.secret("bad-7").await.is_none(), "{what}: nothing hung");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_and_a_path_are_left_alone_as_long_as_okms_asks() {
    let sim = Sim::start(Options::default()).await.unwrap();
    let (mut world, _crowd) = world("rest", json!({})).await;
    let limited = format!("{}-limited", world.name);
    world.stop().await;
    another_store(&world, &limited, &sim).await;
    let mut config = world.config();
    config.cluster_stores.push(limited.clone());
    world.start_with(config);
    for name in ["good", "rests"] {
        world.domain.put(name, json!({"v": "1"}));
        world.apply(name, json!({"path": name})).await;
        world.synced(name, &[("v", "1")]).await;
    }
    sim.domain().put("limited", json!({"v": "1"}));
    world.apply("limited", json!({"path": "limited", "storeRef": {"name": limited}})).await;
    world.synced("limited", &[("v", "1")]).await;

    // A moment, and it goes on.
    sim.fault(Fault::status_retry_after(429, "4").times(1));
    world.store_named_ready(&limited, "False", "RateLimited").await;
    world.store_named_ready(&limited, "True", "Reachable").await;
    sim.domain().put("limited", json!({"v": "2"}));
    world.synced("limited", &[("v", "2")]).await;

    // An hour. What is asked of the other store shows that time passes.
    sim.fault(Fault::status_retry_after(429, "3600").times(1));
    world.sim.fault(Fault::status_retry_after(503, "3600").on_path("rests").times(1));
    world.store_named_ready(&limited, "False", "RateLimited").await;
    eventually("the path has had its answer", async || {
        let left = world.sim.faults().len();
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    let was = |path: &str| world.sim.counters().on(path);
    eventually("its answer was understood", async || {
        let (rests, good) = (was("rests"), was("good"));
        world.after_checks(3).await;
        if was("rests") == rests && was("good") > good { Ok(()) } else { Err(was("rests")) }
    })
    .await;
    let (stands, rests) = (sim.counters().total(), was("rests"));
    let patch = json!({"metadata": {"annotations": {"okms-operator.io/refresh": "now"}}});
    for name in ["rests", "limited"] {
        world.objects().patch(name, &PatchParams::default(), &Patch::Merge(patch.clone())).await.unwrap();
    }
    world.apply("new", json!({"path": "limited", "storeRef": {"name": limited}})).await;
    world.after_checks(8).await;
    world.ready("new", "False", "StoreNotReady").await;
    world.ready("rests", "False", "OkmsUnavailable").await;
    assert_eq!(sim.counters().total(), stands, "the store was asked while it was to be left alone");
    assert_eq!(was("rests"), rests, "the path was asked while it was to be left alone");
    assert!(holds(&world.secret("rests").await.unwrap(), &[("v", "1")]));
    world.ready("good", "True", "Synced").await;
    world.domain.put("good", json!({"v": "2"}));
    world.synced("good", &[("v", "2")]).await;
}
