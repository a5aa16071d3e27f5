//! Checks that somebody asks for by an annotation, and objects that are checked in no other way.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    bad_input::fails,
    targets::create,
    world::{World, eventually, holds},
};

async fn ask(world: &World, name: &str, value: &str) {
    let patch = json!({"metadata": {"annotations": {"okms-operator.io/refresh": value}}});
    world.objects().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn handled(world: &World, name: &str, value: &str) {
    eventually(&format!("refresh {value} of {name} is handled"), async || {
        let handled = world.object(name).await.status.unwrap().last_handled_refresh;
        if handled.as_deref() == Some(value) { Ok(()) } else { Err(handled) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_an_interval_is_checked_when_somebody_asks() {
    let world = World::new("ask").await;
    world.domain.put("db", json!({"v": "1"}));
    world.domain.put("busy", json!({"v": "1"}));
    world.apply("db", json!({"path": "db", "refreshInterval": "0s"})).await;
    world.apply("busy", json!({"path": "busy"})).await;
    world.synced("db", &[("v", "1")]).await;
    assert_eq!(world.object("db").await.status.unwrap().refresh_interval.as_deref(), Some("0s"));

    world.domain.put("db", json!({"v": "2"}));
    let before = world.sim.counters().on("db");
    world.after_checks(6).await;
    assert_eq!(world.sim.counters().on("db"), before, "checked without being asked");
    ask(&world, "db", "first").await;
    world.synced("db", &[("v", "2")]).await;
    handled(&world, "db", "first").await;

    // Nothing new: it was looked at, nothing was read or written.
    let counters = world.sim.counters();
    let secret = world.secret("db").await.unwrap().metadata.resource_version;
    let restarted = world.object("db").await.status.unwrap().last_sync_time;
    ask(&world, "db", "second").await;
    handled(&world, "db", "second").await;
    assert_eq!(world.sim.counters().on("db"), counters.on("db") + 1);
    assert_eq!(world.sim.counters().data_reads, counters.data_reads);
    assert_eq!(world.secret("db").await.unwrap().metadata.resource_version, secret);
    assert_eq!(world.object("db").await.status.unwrap().last_sync_time, restarted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_is_not_asked_again_after_a_restart_and_is_answered_in_an_outage() {
    let mut world = World::new("ask-restart").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db", "refreshInterval": "1h"})).await;
    ask(&world, "db", "now").await;
    handled(&world, "db", "now").await;
    world.synced("db", &[("v", "1")]).await;
    world.stop().await;
    world.start();
    world.after_checks(2).await;
    world.store_ready("True", "Reachable").await;
    let before = world.sim.counters().on("db");
    world.sim.stop().await;
    ask(&world, "db", "down").await;
    handled(&world, "db", "down").await;
    assert!(holds(&world.secret("db").await.unwrap(), &[("v", "1")]));
    world.sim.restart().await.unwrap();
    world.store_ready("True", "Reachable").await;
    // What could not be looked at is looked at when it can be.
    eventually("it is checked after all", async || {
        let checks = world.sim.counters().on("db") - before;
        if checks > 0 { Ok(()) } else { Err(checks) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_are_one_check_in_a_while() {
    let mut world = World::without_operator("ask-much").await;
    world.create_store(json!({})).await;
    let pause = Duration::from_secs(3);
    world.start_with(okms_operator::controller::Config { min_refresh_request: pause, ..world.config() });
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db", "refreshInterval": "0s"})).await;
    world.synced("db", &[("v", "1")]).await;
    let before = world.sim.counters().on("db");
    let begun = Instant::now();
    for n in 0..20 {
        ask(&world, "db", &format!("ask-{n}")).await;
    }
    handled(&world, "db", "ask-19").await;
    let checks = world.sim.counters().on("db") - before;
    let most = 2 + begun.elapsed().as_secs() / pause.as_secs();
    assert!((1..=most).contains(&checks), "{checks} checks for twenty requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_is_handled_when_the_object_is_looked_at_and_not_before() {
    let mut world = World::without_operator("ask-blocked").await;
    world.create_store(json!({})).await;
    let mut config = world.config();
    let late = format!("{}-late", world.name);
    config.cluster_stores.push(late.clone());
    world.start_with(config);
    world.domain.put("db", json!({"v": "1"}));
    let spec = |changes: Value| {
        let mut spec = json!({"path": "db", "refreshInterval": "0s"});
        spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        spec
    };

    // Suspended: nobody looks.
    world.apply("suspended", spec(json!({}))).await;
    world.synced("suspended", &[("v", "1")]).await;
    world.apply("suspended", spec(json!({"suspend": true}))).await;
    world.ready("suspended", "Unknown", "Suspended").await;
    ask(&world, "suspended", "while suspended").await;
    // Somebody else's target: that is looked at, and said; OKMS is not asked.
    create(&world, "foreign", json!({"stringData": {"theirs": "x"}})).await;
    world.apply("foreign", spec(json!({}))).await;
    fails(&world, "foreign", "TargetNotOwned", &["Secret foreign exists"]).await;
    // A store that is not there, likewise.
    world.apply("storeless", spec(json!({"storeRef": {"name": late}}))).await;
    fails(&world, "storeless", "StoreNotFound", &[&late]).await;
    let asked = world.sim.counters().on("db");
    for name in ["foreign", "storeless"] {
        ask(&world, name, "while blocked").await;
        handled(&world, name, "while blocked").await;
    }
    fails(&world, "foreign", "TargetNotOwned", &["Secret foreign exists"]).await;
    fails(&world, "storeless", "StoreNotFound", &[&late]).await;
    assert_eq!(world.sim.counters().on("db"), asked, "asked for nothing");
    let suspended = world.object("suspended").await.status.unwrap();
    assert_eq!(suspended.last_handled_refresh, None, "handled while nobody looks");

    // Once nothing is in the way, each is checked, whoever asked.
    world.domain.put("db", json!({"v": "2"}));
    world.apply("suspended", spec(json!({}))).await;
    world.secrets().delete("foreign", &DeleteParams::default()).await.unwrap();
    world.create_store_named(&late, json!({})).await;
    for name in ["suspended", "foreign", "storeless"] {
        world.synced(name, &[("v", "2")]).await;
    }
    handled(&world, "suspended", "while suspended").await;
}
