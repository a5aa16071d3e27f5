//! Stores of a namespace: whom they serve, where they may point, how many there may be.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use okms_operator::controller::{Config, NamespacedStores, health::Health};
use okms_sim::{Fault, Options, Sim};
use serde_json::{Value, json};

use crate::{
    tapped::{self, Fate},
    world::{CREDENTIAL, World, client_config, eventually, message},
};

fn by_own(store: &str, path: &str) -> Value {
    json!({"storeRef": {"kind": "OkmsStore", "name": store}, "path": path})
}

/// A world with a credential in its namespace and an operator, but without a store.
async fn world(name: &str, change: impl FnOnce(&World, &mut Config)) -> World {
    let mut world = World::without_operator(name).await;
    world.put_credential(&world.certificate).await;
    let mut config = world.config();
    change(&world, &mut config);
    world.start_with(config);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_namespace_serves_the_objects_of_that_namespace_alone() {
    let mut world = World::without_operator("own").await;
    let other = world.another_namespace("other", json!({})).await;
    let mut config = world.config();
    config.watch_namespaces.push(other.clone());
    world.start_with(config);
    world.put_credential(&world.certificate).await;
    world.domain.put("db", json!({"v": "1"}));
    world.create_okms_store(&world.name, "vault", json!({})).await;
    world.okms_store_ready(&world.name, "vault", "True", "Reachable").await;

    world.apply("db", by_own("vault", "db")).await;
    world.synced("db", &[("v", "1")]).await;
    let status = world.object("db").await.status.unwrap();
    assert_eq!(status.store.as_deref(), Some("OkmsStore/vault"));
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;

    // The same reference means nothing elsewhere: it has no field for a namespace.
    world.apply_in(&other, "db", by_own("vault", "db")).await;
    let stranger = world.ready_in(&other, "db", "False", "StoreNotFound").await;
    assert!(message(&stranger).contains("OkmsStore/vault does not exist"), "{}", message(&stranger));
    assert!(world.secrets_in(&other).get_opt("db").await.unwrap().is_none());

    // Nor is a credential looked for anywhere but in the store's own namespace, though the operator's own has one of that name.
    world.create_okms_store(&other, "vault", json!({})).await;
    let words = world.okms_store_ready(&other, "vault", "False", "InvalidCredential").await;
    assert!(words.contains(&format!("Secret {other}/okms-client does not exist")), "{words}");
    assert!(world.secrets_in(&other).get_opt("db").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_namespace_points_only_where_the_operator_allows() {
    let world = world("allowed", |world, config| {
        let allowed_endpoints = vec![world.sim.endpoint().parse().unwrap()];
        config.namespaced_stores = Some(NamespacedStores { allowed_endpoints, ..NamespacedStores::default() });
    })
    .await;
    let elsewhere = Sim::start(Options::default()).await.unwrap();
    let ca = json!({"pem": elsewhere.server_ca_pem()});
    world.create_okms_store(&world.name, "vault", json!({"endpoint": elsewhere.endpoint(), "ca": ca})).await;
    let words = world.okms_store_ready(&world.name, "vault", "False", "NotAllowed").await;
    assert!(words.contains("spec.endpoint") && words.contains("--allowed-endpoint"), "{words}");
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", by_own("vault", "db")).await;
    let waits = world.ready("db", "False", "StoreNotReady").await;
    assert!(message(&waits).contains("--allowed-endpoint"), "{}", message(&waits));

    let patch = |endpoint: String, ca: &str| json!({"spec": {"endpoint": endpoint, "ca": {"pem": ca}}});
    let stores = world.okms_stores(&world.name);
    let right = patch(world.sim.endpoint(), &world.sim.server_ca_pem());
    stores.patch("vault", &PatchParams::default(), &Patch::Merge(&right)).await.unwrap();
    world.okms_store_ready(&world.name, "vault", "True", "Reachable").await;
    world.synced("db", &[("v", "1")]).await;

    // What works is not a way there either: the credential stays where it was allowed to go, and from then on goes nowhere.
    let wrong = patch(elsewhere.endpoint(), &elsewhere.server_ca_pem());
    stores.patch("vault", &PatchParams::default(), &Patch::Merge(&wrong)).await.unwrap();
    world.okms_store_ready(&world.name, "vault", "False", "NotAllowed").await;
    assert_eq!(elsewhere.counters().connections, 0, "a connection is a way to hand over a credential");
    assert!(world.secret("db").await.is_some(), "the target is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_stores_of_a_namespace_are_served_and_the_next_gets_a_place_that_is_free() {
    let world = world("many", |_, config| {
        let settings = config.namespaced_stores.as_mut().unwrap();
        settings.max_per_namespace = 2;
    })
    .await;
    for name in ["first", "second", "third"] {
        world.create_okms_store(&world.name, name, json!({})).await;
        // A creation time has whole seconds; among those of one second the name decides.
        let (status, reason) = if name == "third" { ("False", "NotAllowed") } else { ("True", "Reachable") };
        world.okms_store_ready(&world.name, name, status, reason).await;
    }
    let words = world.okms_store_ready(&world.name, "third", "False", "NotAllowed").await;
    assert!(words.contains("more than 2 OkmsStores") && words.contains("--max-stores-per-namespace"), "{words}");
    world.okms_stores(&world.name).delete("first", &DeleteParams::default()).await.unwrap();
    world.okms_store_ready(&world.name, "third", "True", "Reachable").await;
    world.okms_store_ready(&world.name, "second", "True", "Reachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_serves_no_stores_of_namespaces_says_so() {
    let world = world("off", |_, config| config.namespaced_stores = None).await;
    world.create_okms_store(&world.name, "vault", json!({})).await;
    let words = world.okms_store_ready(&world.name, "vault", "False", "NotAllowed").await;
    assert!(words.contains("--namespaced-stores") && words.contains("ClusterOkmsStore"), "{words}");
    world.apply("db", by_own("vault", "db")).await;
    let object = world.ready("db", "False", "StoreNotReady").await;
    assert!(message(&object).contains("--namespaced-stores"), "{}", message(&object));
    assert_eq!(world.sim.counters().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_move_from_the_shared_store_to_one_of_their_own_and_back() {
    let world = World::new("move").await;
    world.put_credential(&world.certificate).await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    world.create_okms_store(&world.name, &world.name, json!({})).await;
    world.apply("db", by_own(&world.name, "db")).await;
    world.synced("db", &[("v", "1")]).await;
    let uid = world.secret("db").await.unwrap().metadata.uid;
    assert_eq!(world.object("db").await.status.unwrap().store, Some(format!("OkmsStore/{}", world.name)));
    world.okms_stores(&world.name).delete(&world.name, &DeleteParams::default()).await.unwrap();
    world.ready("db", "False", "StoreNotFound").await;
    world.apply("db", json!({"path": "db", "storeRef": {"kind": "ClusterOkmsStore", "name": world.name}})).await;
    world.synced("db", &[("v", "1")]).await;
    assert_eq!(world.secret("db").await.unwrap().metadata.uid, uid, "it is the same Secret all the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_that_is_not_served_refers_to_is_not_watched() {
    let mut world = World::without_operator("unserved").await;
    world.put_credential(&world.certificate).await;
    let mut config = world.config();
    config.namespaced_stores.as_mut().unwrap().max_per_namespace = 1;
    let (client, requests) = tapped::recording(client_config().await);
    world.start_as(config, client, Health::default());
    world.create_okms_store(&world.name, "first", json!({})).await;
    world.okms_store_ready(&world.name, "first", "True", "Reachable").await;
    // Nothing else has a ConfigMap here.
    let looked = || requests.lock().unwrap().iter().any(|request| request.contains("/configmaps"));
    let ca = json!({"pem": null, "configMapRef": {"name": "ca", "key": "ca.crt"}});
    for n in 0..3 {
        // A creation time has whole seconds; among those of one second the name decides.
        let name = format!("second-{n}");
        world.create_okms_store(&world.name, &name, json!({"ca": ca.clone()})).await;
        world.okms_store_ready(&world.name, &name, "False", "NotAllowed").await;
    }
    assert!(!looked(), "each watch is a request that the API server holds open, and anybody may make many stores");

    world.okms_stores(&world.name).delete("first", &DeleteParams::default()).await.unwrap();
    world.okms_store_ready(&world.name, "second-0", "False", "InvalidCredential").await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.name);
    let map = json!({"metadata": {"name": "ca"}, "data": {"ca.crt": world.sim.server_ca_pem()}});
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    world.okms_store_ready(&world.name, "second-0", "True", "Reachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_held_while_it_is_deleted_is_looked_after_until_it_is_gone() {
    let mut world = world("held", |_, _| {}).await;
    world.domain.put("db", json!({"v": "1"}));
    world.create_okms_store(&world.name, "vault", json!({})).await;
    world.apply("db", by_own("vault", "db")).await;
    world.synced("db", &[("v", "1")]).await;

    let stores = world.okms_stores(&world.name);
    let finalizers = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
    stores.patch("vault", &PatchParams::default(), &finalizers(json!(["example.com/hold"]))).await.unwrap();
    stores.delete("vault", &DeleteParams::default()).await.unwrap();
    world.stop().await;
    world.start();
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;

    world.secrets().delete(CREDENTIAL, &DeleteParams::default()).await.unwrap();
    world.okms_store_ready(&world.name, "vault", "False", "InvalidCredential").await;
    world.ready("db", "False", "StoreNotReady").await;
    stores.patch("vault", &PatchParams::default(), &finalizers(Value::Null)).await.unwrap();
    world.ready("db", "False", "StoreNotFound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_whose_answer_was_lost_is_put_right_when_what_it_says_is_over() {
    let mut world = World::without_operator("lost").await;
    world.create_store(json!({})).await;
    let status = format!("PATCH /apis/okms-operator.io/v1alpha1/clusterokmsstores/{}/status", world.name);
    let armed = Arc::new(AtomicBool::new(false));
    let loses = armed.clone();
    // OKMS is back before that.
    let noticed = Duration::from_secs(8);
    let client = tapped::unreliable(client_config().await, move |request| {
        if request == status && loses.swap(false, Ordering::SeqCst) {
            return Fate::AnswerLost(noticed);
        }
        Fate::Late(Duration::ZERO)
    });
    world.start_as(world.config(), client, Health::default());
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    world.store_ready("True", "Reachable").await;
    armed.store(true, Ordering::SeqCst);
    let down = world.sim.fault(Fault::status(503));
    world.store_ready("False", "OkmsUnavailable").await;
    assert!(!armed.load(Ordering::SeqCst), "its answer was not lost");
    world.sim.clear_fault(down);
    world.store_ready("True", "Reachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_cannot_be_written_is_tried_less_and_less_often() {
    let mut world = World::without_operator("unwritten").await;
    world.create_store(json!({})).await;
    let status = format!("PATCH /apis/okms-operator.io/v1alpha1/clusterokmsstores/{}/status", world.name);
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let counted = attempts.clone();
    let client = tapped::unreliable(client_config().await, move |request| {
        if request == status {
            counted.lock().unwrap().push(Instant::now());
            return Fate::Lost;
        }
        Fate::Late(Duration::ZERO)
    });
    let config = Config { backoff_first: Duration::from_millis(500), ..world.config() };
    world.start_as(config, client, Health::default());
    let tried = eventually("it was tried six times", async || {
        let tried = attempts.lock().unwrap().clone();
        if tried.len() >= 6 { Ok(tried) } else { Err(tried.len()) }
    })
    .await;
    // What else wakes the store, while it is looked at for the first time, comes at the beginning. A wait has a fifth of jitter.
    for n in [3, 4] {
        let (waited, least) = (tried[n + 1] - tried[n], Duration::from_millis(400) * (1 << n));
        assert!(waited >= least, "{waited:?} before attempt {}, and not {least:?}", n + 2);
    }
}
