//! The main job on a real control plane: a secret is synced, kept current, withdrawn, given back, repaired, refused, and survives an
//! outage.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::world::{World, eventually, holds, message};

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_synced_and_follows_its_source() {
    let world = World::new("follow").await;
    world.domain.put("prod/shop/db", json!({"user": "app", "password": "one", "port": 5432}));
    world.apply("db", json!({"path": "prod/shop/db"})).await;
    let secret = world.synced("db", &[("user", "app"), ("password", "one"), ("port", "5432")]).await;
    let source = &secret.annotations()["okms-operator.io/source"];
    assert!(source.contains(r#""path":"prod/shop/db""#) && source.contains(r#""version":1"#), "{source}");
    assert_eq!(secret.owner_references().len(), 1);

    world.domain.put("prod/shop/db", json!({"user": "app", "password": "two"}));
    world.synced("db", &[("user", "app"), ("password", "two")]).await;
    let object = eventually("the status names version 2", async || {
        let object = world.object("db").await;
        let summary = object.status.clone().unwrap().summary;
        if summary.as_deref() == Some("prod/shop/db@2") { Ok(object) } else { Err(summary) }
    })
    .await;
    assert_eq!(message(&object), "Secret db holds prod/shop/db@2");
    assert_eq!(object.status.unwrap().target.unwrap().keys, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_stays_and_shows_that_something_newer_exists() {
    let world = World::new("pin").await;
    world.domain.put("db", json!({"v": "1"}));
    world.domain.put("db", json!({"v": "2"}));
    world.apply("db", json!({"path": "db", "version": 1})).await;
    world.synced("db", &[("v", "1")]).await;
    world.domain.put("db", json!({"v": "3"}));
    eventually("the status shows version 3 as current", async || {
        let sources = world.object("db").await.status.unwrap().sources.unwrap();
        (sources[0].current_version == Some(3) && sources[0].version == Some(1)).then_some(()).ok_or(sources)
    })
    .await;
    world.synced("db", &[("v", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deactivation_removes_the_secret_and_a_reactivation_brings_it_back() {
    let world = World::new("withdraw").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;

    world.domain.deactivate("db", 1).unwrap();
    let object = world.ready("db", "False", "VersionDeactivated").await;
    assert!(
        message(&object).starts_with("db@1 was deactivated in OKMS, so the Secret is deleted"),
        "{}",
        message(&object)
    );
    assert_eq!(object.status.unwrap().sources.unwrap()[0].state.as_deref(), Some("Deactivated"));
    world.gone("db").await;

    world.domain.activate("db", 1).unwrap();
    world.synced("db", &[("v", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_retain_a_withdrawn_secret_is_kept() {
    let world = World::new("retain").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db", "withdrawalPolicy": "Retain"})).await;
    world.synced("db", &[("v", "1")]).await;
    world.domain.destroy("db", 1).unwrap();
    let object = world.ready("db", "False", "VersionDestroyed").await;
    assert!(message(&object).contains("Retain"), "{}", message(&object));
    world.after_checks(3).await;
    assert!(holds(&world.secret("db").await.unwrap(), &[("v", "1")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_is_believed_the_second_time() {
    let world = World::new("deleted").await;
    world.domain.put("db", json!({"v": "1"}));
    world.domain.put("other", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.apply("other", json!({"path": "other"})).await;
    world.synced("db", &[("v", "1")]).await;
    world.domain.delete("db").unwrap();
    world.ready("db", "False", "SecretDeleted").await;
    world.gone("db").await;
    // Made again, it starts at version 1, and is news.
    world.domain.put("db", json!({"v": "again"}));
    world.synced("db", &[("v", "again")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_edits_or_deletes_is_repaired() {
    let world = World::new("drift").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db", "target": {"labels": {"team": "shop"}}})).await;
    world.synced("db", &[("v", "1")]).await;
    let patch = |patch| async {
        world.secrets().patch("db", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };

    patch(json!({"stringData": {"v": "edited", "more": "x"}})).await;
    world.synced("db", &[("v", "1")]).await;

    patch(json!({"metadata": {"labels": {"team": null, "mine": "stays"}}})).await;
    let repaired = eventually("the label is back", async || {
        let secret = world.secret("db").await.unwrap();
        if secret.labels().get("team").is_some() { Ok(secret) } else { Err("it is not") }
    })
    .await;
    assert_eq!(repaired.labels()["mine"], "stays");

    world.secrets().delete("db", &DeleteParams::default()).await.unwrap();
    world.synced("db", &[("v", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_is_refused_until_it_is_gone() {
    let world = World::new("foreign").await;
    world.domain.put("db", json!({"v": "1"}));
    let foreign: Secret = serde_json::from_value(json!({
        "metadata": {"name": "db", "labels": {"app.kubernetes.io/managed-by": "Helm"}},
        "stringData": {"theirs": "x"},
    }))
    .unwrap();
    world.secrets().create(&PostParams::default(), &foreign).await.unwrap();
    world.apply("db", json!({"path": "db"})).await;
    let object = world.ready("db", "False", "TargetNotOwned").await;
    assert!(message(&object).contains("managed by Helm"), "{}", message(&object));
    assert!(holds(&world.secret("db").await.unwrap(), &[("theirs", "x")]));
    world.secrets().delete("db", &DeleteParams::default()).await.unwrap();
    world.synced("db", &[("v", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_loses_nothing_and_the_status_is_true() {
    let world = World::new("outage").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;

    world.sim.stop().await;
    world.store_ready("False", "OkmsUnavailable").await;
    world.apply("new", json!({"path": "db"})).await;
    world.ready("new", "False", "StoreNotReady").await;
    world.ready("db", "False", "StoreNotReady").await;
    assert!(holds(&world.secret("db").await.unwrap(), &[("v", "1")]), "the outage took the Secret");

    world.sim.restart().await.unwrap();
    world.synced("db", &[("v", "1")]).await;
    world.synced("new", &[("v", "1")]).await;
    world.store_ready("True", "Reachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_target_replaces_the_old_one_and_a_changed_type_too() {
    let world = World::new("rename").await;
    world.domain.put("db", json!({"username": "a", "password": "b"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("username", "a"), ("password", "b")]).await;
    world.apply("db", json!({"path": "db", "target": {"name": "renamed"}})).await;
    world.synced("db", &[("username", "a"), ("password", "b")]).await;
    world.gone("db").await;
    let target = json!({"name": "renamed", "type": "kubernetes.io/basic-auth"});
    world.apply("db", json!({"path": "db", "target": target})).await;
    let secret = world.synced("db", &[("username", "a"), ("password", "b")]).await;
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/basic-auth"));
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_nothing_is_read_written_or_deleted() {
    let world = World::new("suspend").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    world.apply("db", json!({"path": "db", "suspend": true})).await;
    world.ready("db", "Unknown", "Suspended").await;
    world.domain.put("db", json!({"v": "2"}));
    world.domain.put("other", json!({"v": "1"}));
    world.apply("other", json!({"path": "other"})).await;
    world.synced("other", &[("v", "1")]).await;
    world.after_checks(3).await;
    assert!(holds(&world.secret("db").await.unwrap(), &[("v", "1")]));
    world.apply("db", json!({"path": "db", "suspend": false})).await;
    world.synced("db", &[("v", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_object_deletes_its_secret() {
    let world = World::new("delete").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    world.delete("db").await;
    world.gone("db").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_somebody_made_of_a_target_is_theirs() {
    let world = World::new("copy").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    let secret = world.synced("db", &[("v", "1")]).await;

    // As with kubectl get -o yaml, another name, and kubectl apply.
    let mut copy = secret.clone();
    copy.metadata.name = Some("copy".to_owned());
    copy.metadata.uid = None;
    copy.metadata.resource_version = None;
    copy.metadata.managed_fields = None;
    world.secrets().create(&PostParams::default(), &copy).await.unwrap();

    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;
    world.apply("db", json!({"path": "db", "target": {"name": "renamed"}})).await;
    world.synced("db", &[("v", "2")]).await;
    world.gone("db").await;
    assert!(holds(&world.secret("copy").await.unwrap(), &[("v", "1")]), "the copy was taken for ours");
}
