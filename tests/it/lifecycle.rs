//! Objects, stores and the operator itself coming and going, and a Kubernetes API that says no.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api_proxy::{Fault as ApiFault, FaultKind as ApiFaultKind, Matching, Verb};
use k8s_openapi::api::{
    core::v1::Namespace,
    events::v1::Event,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use okms_operator::{
    api::OkmsSecret,
    controller::{Config, health::Health},
};
use okms_sim::Fault;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    proxied::Proxied,
    tapped::{self, Fate},
    world::{World, client_config, eventually, holds, message, ready_of},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_leaves_nothing_behind_in_the_operator() {
    let mut world = World::without_operator("namespace").await;
    let doomed = format!("{}-doomed", world.name);
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace = json!({"metadata": {"name": doomed}});
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    world.create_store(json!({"access": [{"namespaces": [world.name, doomed], "paths": ["*"]}]})).await;
    let (client, requests) = tapped::recording(client_config().await);
    let config = Config { watch_namespaces: vec![world.name.clone(), doomed.clone()], ..world.config() };
    world.start_as(config, client, Health::default());
    world.domain.put("stays", json!({"v": "1"}));
    world.apply("stays", json!({"path": "stays"})).await;
    let path = |n: usize| format!("doomed/{n}");
    let objects: Api<OkmsSecret> = Api::namespaced(world.client.clone(), &doomed);
    for n in 0..100 {
        world.domain.put(&path(n), json!({"v": "1"}));
        let object = json!({
            "apiVersion": "okms-operator.io/v1alpha1",
            "kind": "OkmsSecret",
            "metadata": {"name": format!("db-{n}")},
            "spec": {"path": path(n), "storeRef": {"name": world.name}},
        });
        objects.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }
    eventually("all are synced", async || {
        let all = objects.list(&ListParams::default()).await.unwrap();
        let synced = all.iter().filter(|object| ready_of(object).is_some_and(|(_, reason, _)| reason == "Synced"));
        let synced = synced.count();
        if synced == 100 { Ok(()) } else { Err(synced) }
    })
    .await;
    assert_eq!(sources(&world), 101);

    requests.lock().unwrap().clear();
    namespaces.delete(&doomed, &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", async || match namespaces.get_opt(&doomed).await.unwrap() {
        None => Ok(()),
        Some(namespace) => Err(namespace.status),
    })
    .await;
    // Whatever was deleted first, nobody fights for it.
    let created = format!("POST /api/v1/namespaces/{doomed}/secrets");
    let tried = requests.lock().unwrap().iter().filter(|request| **request == created).count();
    assert!(tried <= 2 * 100, "{tried} times a Secret was to be made in a namespace that goes");
    eventually("its sources are forgotten", async || match sources(&world) {
        1 => Ok(()),
        left => Err(left),
    })
    .await;
    // A check that was under way then may be counted later.
    world.after_checks(3).await;
    requests.lock().unwrap().clear();
    let (before, failed) = (world.sim.counters(), reconciles_that_failed(&world));
    world.after_checks(5).await;
    let after = world.sim.counters();
    for n in 0..100 {
        assert_eq!(after.on(&path(n)), before.on(&path(n)), "{} is still checked", path(n));
    }
    assert_eq!(reconciles_that_failed(&world), failed);
    // Its watches are all that is left of it.
    let watches = ["/secrets", "/okmssecrets"].map(|kind| format!("/namespaces/{doomed}{kind}"));
    let rest: Vec<String> = requests.lock().unwrap().clone();
    let rest: Vec<_> = rest.iter().filter(|request| request.contains(&doomed)).collect();
    let is_watch = |request: &&&String| request.starts_with("GET ") && watches.iter().any(|end| request.ends_with(end));
    assert!(rest.iter().all(|request| is_watch(&request)), "{rest:?}");
    world.domain.put("stays", json!({"v": "2"}));
    world.synced("stays", &[("v", "2")]).await;
}

/// How many sources the operator follows.
fn sources(world: &World) -> usize {
    let text = world.operator.as_ref().unwrap().metrics.encode();
    let counts =
        text.lines().filter(|line| line.starts_with("okms_sources{")).filter_map(|line| line.split(' ').nth(1));
    counts.map(|count| count.parse::<usize>().unwrap()).sum()
}

fn reconciles_that_failed(world: &World) -> usize {
    let text = world.operator.as_ref().unwrap().metrics.encode();
    let mut counts =
        text.lines().filter_map(|line| line.strip_prefix("okms_operator_reconciles_total{outcome=\"failed\"} "));
    counts.next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_made_again_serves_its_objects_again() {
    let world = World::new("store").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    let secret = world.synced("db", &[("v", "1")]).await;

    world.stores().delete(&world.name, &DeleteParams::default()).await.unwrap();
    world.ready("db", "False", "StoreNotFound").await;
    assert_eq!(world.secret("db").await.unwrap().metadata, secret.metadata, "the Secret was touched");
    world.domain.put("db", json!({"v": "2"}));
    world.create_store(json!({})).await;
    world.synced("db", &[("v", "2")]).await;
    world.store_ready("True", "Reachable").await;

    // Without a pause between the two, nothing goes wrong either.
    for content in ["3", "4", "5"] {
        world.stores().delete(&world.name, &DeleteParams::default()).await.unwrap();
        world.create_store(json!({})).await;
        world.domain.put("db", json!({"v": content}));
        world.synced("db", &[("v", content)]).await;
        world.store_ready("True", "Reachable").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_target_belongs_to_one_object() {
    let world = World::new("claim").await;
    world.domain.put("one", json!({"v": "one"}));
    world.domain.put("two", json!({"v": "two"}));
    world.apply("first", json!({"path": "one", "target": {"name": "db"}})).await;
    world.synced("first", &[("v", "one")]).await;
    world.apply("second", json!({"path": "two", "target": {"name": "db"}})).await;
    let second = world.ready("second", "False", "TargetNotOwned").await;
    assert!(message(&second).contains("OkmsSecret first"), "{}", message(&second));
    world.after_checks(3).await;
    assert!(holds(&world.secret("db").await.unwrap(), &[("v", "one")]));

    world.delete("first").await;
    world.synced("second", &[("v", "two")]).await;

    // Both at once: one of them gets it, and it holds what that one says.
    for name in ["left", "right"] {
        world.domain.put(name, json!({"v": name}));
    }
    tokio::join!(
        world.apply("left", json!({"path": "left", "target": {"name": "both"}})),
        world.apply("right", json!({"path": "right", "target": {"name": "both"}})),
    );
    eventually("one has it, the other is told", async || {
        let reasons = [world.object("left").await, world.object("right").await]
            .map(|object| ready_of(&object).map(|(_, reason, _)| reason).unwrap_or_default());
        let mut sorted = reasons.clone();
        sorted.sort();
        if sorted != ["Synced", "TargetNotOwned"] {
            return Err(reasons);
        }
        let winner = if reasons[0] == "Synced" { "left" } else { "right" };
        let secret = world.secret("both").await.unwrap();
        if holds(&secret, &[("v", winner)]) { Ok(()) } else { Err(reasons) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_the_work_is_clean() {
    let mut world = World::without_operator("drain").await;
    world.create_store(json!({})).await;
    // Requests are under way whenever it is stopped.
    world.sim.fault(Fault::latency(Duration::from_millis(100)));
    for n in 0..20 {
        world.domain.put(&format!("db/{n}"), json!({"v": "1"}));
        world.apply(&format!("db-{n}"), json!({"path": format!("db/{n}")})).await;
    }
    for calls in [0, 1, 5, 15, 30] {
        let before = world.sim.counters().total();
        world.start();
        eventually(&format!("{calls} calls"), async || {
            let made = world.sim.counters().total() - before;
            if made >= calls { Ok(()) } else { Err(made) }
        })
        .await;
        tokio::time::timeout(Duration::from_secs(30), world.stop()).await.expect("it ends");
        // Whatever was written is whole.
        for secret in world.secrets().list(&ListParams::default()).await.unwrap() {
            assert!(holds(&secret, &[("v", "1")]), "{}", secret.name_any());
        }
    }
    world.start();
    for n in 0..20 {
        world.synced(&format!("db-{n}"), &[("v", "1")]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_when_its_watches_are_filled_and_alive_as_long_as_it_runs() {
    let mut world = World::without_operator("health").await;
    let bound = Duration::from_secs(2);
    let config = Config { heartbeat: Duration::from_millis(100), ..world.config() };
    world.start_as(config, world.client.clone(), Health::new(bound));
    let operator = world.operator.as_ref().unwrap();
    let health = operator.health.clone();
    eventually("it is ready", async || if health.is_ready() { Ok(()) } else { Err(health.waits_for()) }).await;
    // At rest, with nothing to look after, for longer than the bound.
    let start = tokio::time::Instant::now();
    eventually("the bound has passed", async || {
        assert!(operator.is_alive().await, "it is not alive at rest");
        if start.elapsed() > bound * 2 { Ok(()) } else { Err(start.elapsed()) }
    })
    .await;
    world.kill().await;
    eventually("it is told dead", async || if health.is_live() { Err("alive") } else { Ok(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_reconcile_is_caught_counted_and_tried_again() {
    let mut world = World::without_operator("panic").await;
    world.create_store(json!({})).await;
    world.domain.put("db", json!({"v": "1"}));
    // The panic is that of a part of the client, in the middle of a write.
    let (left, unlucky) = (Arc::new(AtomicUsize::new(2)), format!("POST /api/v1/namespaces/{}/secrets", world.name));
    let client = tapped::client(client_config().await, move |request| {
        let hit =
            request == unlucky && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        assert!(!hit, "the test wants a panic here");
    });
    let config = Config { retry_panicked: Duration::from_millis(200), ..world.config() };
    world.start_as(config, client, Health::default());
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let metrics = world.operator.as_ref().unwrap().metrics.encode();
    assert!(metrics.contains("okms_operator_reconciles_total{outcome=\"panicked\"} 2\n"), "{metrics}");
    // It goes on as before.
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_the_right_to_write_says_so_until_it_has_it() {
    let mut world = World::without_operator("rights").await;
    world.create_store(json!({})).await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    let user = format!("operator-of-{}", world.name);
    let (admin, name) = (world.client.clone(), world.name.clone());
    let grant = async |what: &str, rules: Value| grant(&admin, &format!("{name}-{what}"), &user, rules).await;
    grant(
        "watch",
        json!([
            {"apiGroups": ["okms-operator.io"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["secrets", "namespaces"], "verbs": ["list", "watch"]},
        ]),
    )
    .await;
    let mut config = client_config().await;
    config.auth_info.impersonate = Some(user.clone());
    let client = Client::try_from(config).unwrap();
    world.start_as(world.config(), client, Health::default());
    let said = async |verb: &str| {
        let object = world.ready("db", "False", "TargetRefused").await;
        let words = format!("User \"{user}\" cannot {verb} resource \"secrets\"");
        if message(&object).contains(&words) { Ok(()) } else { Err(message(&object)) }
    };
    eventually("it may not read", async || said("get").await).await;
    grant("get", json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}])).await;
    eventually("it may not create", async || said("create").await).await;
    grant("create", json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}])).await;
    world.synced("db", &[("v", "1")]).await;

    world.domain.put("db", json!({"v": "2"}));
    eventually("it may not update", async || said("update").await).await;
    grant("update", json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["update"]}])).await;
    world.synced("db", &[("v", "2")]).await;

    world.domain.deactivate("db", 2).unwrap();
    eventually("it may not delete", async || said("delete").await).await;
    grant("delete", json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["delete"]}])).await;
    world.ready("db", "False", "VersionDeactivated").await;
    world.gone("db").await;
    world.stop().await;
}

/// Lets a user do this, everywhere.
async fn grant(client: &Client, name: &str, user: &str, rules: Value) {
    create::<ClusterRole>(client, json!({"metadata": {"name": name}, "rules": rules})).await;
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    create::<ClusterRoleBinding>(client, binding).await;
}

async fn create<K>(client: &Client, object: Value)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::<K>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_warned_of_once_though_the_answer_to_its_status_is_lost() {
    let mut world = World::without_operator("warned").await;
    let client = tapped::unreliable(client_config().await, |request| {
        if request.starts_with("PATCH") && request.ends_with("/status") {
            Fate::AnswerLost(Duration::ZERO)
        } else {
            Fate::Late(Duration::ZERO)
        }
    });
    world.start_as(world.config(), client, Health::default());
    world.create_store(json!({})).await;
    world.store_ready("True", "Reachable").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db", "keys": [{"to": "v", "from": "w"}]})).await;
    world.ready("db", "False", "KeyNotFound").await;
    warned_once(&world, &world.name, "db", "KeyNotFound").await;
    world.after_checks(3).await;
    let said = message(&world.object("db").await);
    assert_eq!(warned_once(&world, &world.name, "db", "KeyNotFound").await, said);

    world.sim.fault(Fault::status(503));
    let said = world.store_ready("False", "OkmsUnavailable").await;
    // What has no namespace has its events in this one.
    assert_eq!(warned_once(&world, "default", &world.name, "OkmsUnavailable").await, said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_warned_of_though_its_status_is_seen_only_after_another_was_tried() {
    let mut of = Proxied::new("warned-late").await;
    of.world.create_store(json!({})).await;
    of.start(Config { backoff_cap: Duration::from_secs(1), ..of.world.config() }, Health::default());
    let (world, proxy) = (&of.world, &of.proxy);
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db", "keys": [{"to": "v", "from": "v"}]})).await;
    world.synced("db", &[("v", "1")]).await;
    let sight = Matching::verbs(&[Verb::List, Verb::Watch]).of("okmssecrets");
    let statuses = Matching::writes().of("okmssecrets/status").in_namespace(&world.name).named("db");
    proxy.fault(ApiFault::status(503).hitting(sight.clone()));
    proxy.fault(ApiFault::new(ApiFaultKind::ResetAfterEffect).hitting(statuses.clone()));
    proxy.cut_watches(&sight);
    world.domain.put("db", json!({"w": "2"}));
    eventually("a second status was refused, after the first", async || {
        let refused = of.count(&statuses, |record| record.upstream == Some(409));
        if refused >= 2 { Ok(()) } else { Err(refused) }
    })
    .await;
    proxy.clear_faults();
    world.ready("db", "False", "KeyNotFound").await;
    warned_once(world, &world.name, "db", "KeyNotFound").await;
}

/// Waits until there is one event about an object with this reason, and answers its note.
async fn warned_once(world: &World, namespace: &str, name: &str, reason: &str) -> String {
    let events: Api<Event> = Api::namespaced(world.client.clone(), namespace);
    eventually(&format!("{name} is warned of: {reason}"), async || {
        let all = events.list(&ListParams::default().fields(&format!("regarding.name={name}"))).await.unwrap().items;
        let notes = all.into_iter().filter(|event| event.reason.as_deref() == Some(reason));
        match notes.map(|event| event.note.unwrap()).collect::<Vec<_>>().as_slice() {
            [note] => Ok(note.clone()),
            others => Err(others.to_vec()),
        }
    })
    .await
}
