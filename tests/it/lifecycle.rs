//! Objects, stores and the operator itself coming and going, and a Kubernetes API that says no.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use okms_operator::controller::{Config, health::Health};
use okms_sim::Fault;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    tapped,
    world::{World, client_config, eventually, holds, message, ready_of},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_made_again_while_it_syncs_gets_its_secret() {
    let world = World::new("again").await;
    for n in 0..10 {
        world.domain.put(&format!("old/{n}"), json!({"v": "old"}));
        world.domain.put(&format!("new/{n}"), json!({"v": "new"}));
    }
    // Each is deleted at another moment of its first sync.
    for n in 0..10 {
        let name = format!("db-{n}");
        world.apply(&name, json!({"path": format!("old/{n}")})).await;
        if n % 2 == 0 {
            world.after_checks(n / 2).await;
        }
        world.delete(&name).await;
        world.apply(&name, json!({"path": format!("new/{n}")})).await;
    }
    for n in 0..10 {
        let name = format!("db-{n}");
        world.synced(&name, &[("v", "new")]).await;
        let uid = world.object(&name).await.uid();
        eventually(&format!("{name} belongs to the new object"), async || {
            let secret = world.secret(&name).await.ok_or("it is gone")?;
            let owners: Vec<_> = secret.owner_references().iter().map(|owner| Some(owner.uid.clone())).collect();
            if owners == [uid.clone()] && holds(&secret, &[("v", "new")]) { Ok(()) } else { Err("it does not") }
        })
        .await;
    }
    // The old ones are forgotten: nothing asks for their paths any more.
    let before = world.sim.counters();
    world.after_checks(30).await;
    let after = world.sim.counters();
    for n in 0..10 {
        let path = format!("old/{n}");
        assert!(after.on(&path) <= before.on(&path), "{path} is still checked");
    }
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
        world.start().await;
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
    world.start().await;
    for n in 0..20 {
        world.synced(&format!("db-{n}"), &[("v", "1")]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_when_its_watches_are_filled_and_alive_as_long_as_it_runs() {
    let mut world = World::without_operator("health").await;
    let bound = Duration::from_secs(2);
    let config = Config { heartbeat: Duration::from_millis(100), ..world.config() };
    world.start_as(config, world.client.clone(), Health::new(bound)).await;
    let health = world.operator.as_ref().unwrap().health.clone();
    eventually("it is ready", async || if health.is_ready() { Ok(()) } else { Err(health.waits_for()) }).await;
    // At rest, with nothing to look after, for longer than the bound.
    let start = tokio::time::Instant::now();
    eventually("the bound has passed", async || {
        assert!(health.is_live(), "it is not alive at rest");
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
    world.start_as(config, client, Health::default()).await;
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
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]},
        ]),
    )
    .await;
    let mut config = client_config().await;
    config.auth_info.impersonate = Some(user.clone());
    let client = Client::try_from(config).unwrap();
    world.start_as(world.config(), client, Health::default()).await;
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
