//! The operator at work as the chart lets it, limited to its namespaces: with Roles there instead of rights over the cluster, and under its
//! policies. With rights over the cluster it works so in every other test ([`super::operator`]).

use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use okms_operator::controller::health::Health;
use serde_json::json;

use super::installed;
use crate::{
    bad_input::fails,
    merges::{consenting, merge},
    targets::{allow, create, edit, holding},
    world::{World, eventually, holds},
};

/// A world whose operator has the Roles of its namespace, and whose writes are held to the policies.
async fn limited(name: &str) -> World {
    let mut world = World::without_operator(name).await;
    world.create_store(json!({})).await;
    let values =
        format!(r#"watchNamespaces=["{}"],namespacedStores.allowedEndpoints=["https://127.0.0.1:*"]"#, world.name);
    let installation = installed(&world, &values).await;
    let client = installation.client().await;
    // It is who it is meant to be.
    let elsewhere: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), "default");
    let stray = serde_json::from_value(json!({"metadata": {"name": "stray"}})).unwrap();
    let refused = elsewhere.create(&PostParams { dry_run: true, ..PostParams::default() }, &stray).await.unwrap_err();
    assert!(refused.to_string().contains(&installation.user()), "{refused}");
    world.start_as(world.config(), client, Health::default());
    world
}

/// What was done to targets, as events tell it.
async fn told(world: &World, reason: &str) {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.name);
    eventually(&format!("an event tells {reason}"), async || {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let reasons: Vec<_> = all.into_iter().filter_map(|event| event.reason).collect();
        if reasons.iter().any(|told| told == reason) { Ok(()) } else { Err(reasons) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_lives_its_whole_life_under_the_policies() {
    let world = limited("work").await;
    world.store_ready("True", "Reachable").await;
    let password = |n: u32| json!({"username": "a", "password": n.to_string()});
    let data = |n: &'static str| [("username", "a"), ("password", n)];

    // Made, and made to follow.
    world.domain.put("db", password(1));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &data("1")).await;
    told(&world, "Created").await;
    world.domain.put("db", password(2));
    world.synced("db", &data("2")).await;
    told(&world, "Updated").await;

    // Repaired: its data, its label, its annotation, and itself.
    edit(&world, "db", "somebody", json!({"stringData": {"password": "theirs"}})).await;
    holding(&world, "db", &data("2")).await;
    told(&world, "Repaired").await;
    for harm in [
        json!({"metadata": {"labels": {"okms-operator.io/managed": null}}}),
        json!({"metadata": {"annotations": {"okms-operator.io/owner": null}}}),
    ] {
        edit(&world, "db", "somebody", harm).await;
        eventually("it is marked again", async || {
            let secret = world.secret("db").await.ok_or("it is gone")?;
            let marked = secret.labels().contains_key("okms-operator.io/managed");
            let says = secret.annotations().get("okms-operator.io/owner").is_some_and(|owner| owner == "db");
            if marked && says { Ok(()) } else { Err("it is not") }
        })
        .await;
    }

    // Replaced: another type, and then what was immutable.
    world.apply("db", json!({"path": "db", "target": {"type": "kubernetes.io/basic-auth", "immutable": true}})).await;
    eventually("it has the type", async || {
        let secret = world.secret("db").await.ok_or("it is away")?;
        if secret.type_.as_deref() == Some("kubernetes.io/basic-auth") { Ok(()) } else { Err("it has not") }
    })
    .await;
    told(&world, "Replaced").await;
    world.domain.put("db", password(3));
    world.synced("db", &data("3")).await;

    // Renamed, and renamed as an orphan, which stays.
    world.apply("db", json!({"path": "db", "target": {"name": "second"}})).await;
    world.synced("db", &data("3")).await;
    world.gone("db").await;
    told(&world, "Deleted").await;
    world.apply("db", json!({"path": "db", "target": {"name": "second", "creationPolicy": "Orphan"}})).await;
    world.ready("db", "True", "Synced").await;
    world.apply("db", json!({"path": "db", "target": {"name": "third", "creationPolicy": "Orphan"}})).await;
    world.synced("db", &data("3")).await;
    eventually("the orphan is nobody's", async || {
        let orphan = world.secret("second").await.expect("an orphan was deleted");
        if orphan.annotations().is_empty() { Ok(()) } else { Err("it is not") }
    })
    .await;

    // Withdrawn, and back again.
    world.domain.deactivate("db", 3).unwrap();
    fails(&world, "db", "VersionDeactivated", &["the Secret is deleted"]).await;
    world.gone("third").await;
    world.domain.activate("db", 3).unwrap();
    world.synced("db", &data("3")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_others_are_used_as_far_as_they_allow_it_under_the_policies() {
    let world = limited("work-others").await;
    world.domain.put("a", json!({"a": "1"}));

    // Adopted with consent.
    create(&world, "theirs", json!({"stringData": {"theirs": "x"}})).await;
    world.apply("adopts", json!({"path": "a", "target": {"name": "theirs"}})).await;
    fails(&world, "adopts", "TargetNotOwned", &["okms-operator.io/allow=adopts"]).await;
    edit(&world, "theirs", "somebody", allow("adopts")).await;
    world.synced("adopts", &[("a", "1")]).await;
    world.delete("adopts").await;
    world.gone("theirs").await;

    // Merged into, left for another, withdrawn, and taken over by a successor.
    for name in ["app", "next"] {
        create(&world, name, consenting(name, &json!({"theirs": "x"}))).await;
    }
    world.apply("a", merge("a", "app")).await;
    holding(&world, "app", &[("theirs", "x"), ("a", "1")]).await;
    world.apply("a", merge("a", "next")).await;
    holding(&world, "next", &[("theirs", "x"), ("a", "1")]).await;
    let left = holding(&world, "app", &[("theirs", "x")]).await;
    assert!(!left.annotations().keys().any(|key| key.starts_with("merged.")));
    world.ready("a", "True", "Synced").await;
    world.delete("a").await;
    world.domain.put("a", json!({"a": "2"}));
    world.apply("a", merge("a", "next")).await;
    holding(&world, "next", &[("theirs", "x"), ("a", "2")]).await;
    world.ready("a", "True", "Synced").await;
    world.domain.deactivate("a", 2).unwrap();
    fails(&world, "a", "VersionDeactivated", &["its keys are removed"]).await;
    assert!(holds(&world.secret("next").await.unwrap(), &[("theirs", "x")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_namespace_works_with_the_roles_of_that_namespace() {
    let world = limited("work-own").await;
    world.put_credential(&world.certificate).await;
    world.create_okms_store(&world.name, "vault", json!({})).await;
    world.okms_store_ready(&world.name, "vault", "True", "Reachable").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db", "storeRef": {"kind": "OkmsStore", "name": "vault"}})).await;
    world.synced("db", &[("v", "1")]).await;
}
