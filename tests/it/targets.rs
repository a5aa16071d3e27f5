//! Whose the target is: created, adopted with consent, merged into, orphaned, immutable, renamed, fought over. What is somebody
//! else's stays theirs.

use std::time::Duration;

use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    bad_input::fails,
    kept::Kept,
    merges::consenting,
    world::{World, eventually, holds},
};

/// Creates a Secret as somebody else does.
pub(crate) async fn create(world: &World, name: &str, fields: Value) -> Secret {
    let mut secret = json!({"metadata": {"name": name}});
    secret.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let params = PostParams { field_manager: Some("somebody".to_owned()), ..PostParams::default() };
    world.secrets().create(&params, &serde_json::from_value(secret).unwrap()).await.unwrap()
}

/// Changes a Secret as somebody else does.
pub(crate) async fn edit(world: &World, name: &str, by: &str, patch: Value) {
    let params = PatchParams { field_manager: Some(by.to_owned()), ..PatchParams::default() };
    world.secrets().patch(name, &params, &Patch::Merge(patch)).await.unwrap();
}

pub(crate) fn allow(names: &str) -> Value {
    json!({"metadata": {"annotations": {"okms-operator.io/allow": names}}})
}

/// Waits until the Secret holds exactly this.
pub(crate) async fn holding(world: &World, name: &str, data: &[(&str, &str)]) -> Secret {
    eventually(&format!("Secret {name} holds the data"), async || {
        world.secret(name).await.filter(|secret| holds(secret, data)).ok_or("it does not")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_outlives_its_object_and_is_found_again() {
    let world = World::new("orphan").await;
    world.domain.put("db", json!({"v": "1"}));
    let spec = json!({"path": "db", "target": {"creationPolicy": "Orphan"}});
    world.apply("db", spec.clone()).await;
    let secret = world.synced("db", &[("v", "1")]).await;
    assert!(secret.owner_references().is_empty());
    let kept = Kept::of(&world, "db").await;
    world.delete("db").await;
    world.apply("other", json!({"path": "db"})).await;
    world.synced("other", &[("v", "1")]).await;
    kept.assert(&world, "without its object").await;

    world.apply("db", spec).await;
    world.ready("db", "True", "Synced").await;
    kept.assert(&world, "with another object of its name").await;
    world.domain.put("db", json!({"v": "2"}));
    let secret = world.synced("db", &[("v", "2")]).await;
    assert_eq!(secret.uid(), kept.uid());

    // From now on it goes with its object.
    world.apply("db", json!({"path": "db"})).await;
    eventually("the Secret is owned", async || {
        let owned = world.secret("db").await.unwrap().owner_references().len();
        if owned == 1 { Ok(()) } else { Err(owned) }
    })
    .await;
    world.delete("db").await;
    world.gone("db").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_orphan_stays_and_is_nobodys() {
    let world = World::new("renamed-orphan").await;
    world.domain.put("db", json!({"v": "1"}));
    let target = |name: &str| json!({"name": name, "creationPolicy": "Orphan", "labels": {"team": "shop"}});
    world.apply("db", json!({"path": "db", "target": target("old")})).await;
    world.synced("db", &[("v", "1")]).await;
    edit(&world, "old", "somebody", json!({"metadata": {"labels": {"mine": "stays"}}})).await;
    world.apply("db", json!({"path": "db", "target": target("new")})).await;
    world.synced("db", &[("v", "1")]).await;
    let old = eventually("the old one is released", async || {
        let old = world.secret("old").await.ok_or("it is gone")?;
        if old.annotations().is_empty() { Ok(old) } else { Err("it is not") }
    })
    .await;
    assert!(holds(&old, &[("v", "1")]));
    assert_eq!(old.labels().keys().collect::<Vec<_>>(), ["mine"]);
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;
    assert!(holds(&world.secret("old").await.unwrap(), &[("v", "1")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_objects_with_one_target_do_not_share_it() {
    let world = World::new("two").await;
    world.domain.put("a", json!({"v": "a"}));
    world.domain.put("b", json!({"v": "b"}));
    for (first, second) in [("Owner", "Orphan"), ("Orphan", "Owner")] {
        let name = format!("app-{}", first.to_lowercase());
        let target = |policy: &str| json!({"name": name, "creationPolicy": policy});
        let one = format!("{name}-one");
        world.apply(&one, json!({"path": "a", "target": target(first)})).await;
        world.synced(&one, &[("v", "a")]).await;
        let two = format!("{name}-two");
        world.apply(&two, json!({"path": "b", "target": target(second)})).await;
        let whose = format!("OkmsSecret {one}");
        fails(&world, &two, "TargetNotOwned", &[&name, &whose, "choose another spec.target.name"]).await;
        // Consent is for what is nobody's.
        edit(&world, &name, "somebody", allow(&two)).await;
        world.after_checks(5).await;
        fails(&world, &two, "TargetNotOwned", &[&whose]).await;
        world.synced(&one, &[("v", "a")]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_adopted_with_consent_only() {
    let world = World::new("adopt").await;
    world.domain.put("db", json!({"v": "1"}));
    create(&world, "db", json!({"stringData": {"theirs": "x"}, "type": "Opaque"})).await;
    let kept = Kept::of(&world, "db").await;
    world.apply("db", json!({"path": "db"})).await;
    let command = "kubectl annotate secret db okms-operator.io/allow=db";
    fails(&world, "db", "TargetNotOwned", &["last written by somebody", command]).await;
    kept.assert(&world, "without consent").await;
    edit(&world, "db", "somebody", allow("someone-else")).await;
    world.after_checks(0).await;
    fails(&world, "db", "TargetNotOwned", &[command]).await;
    kept.assert(&world, "with consent for another").await;

    edit(&world, "db", "somebody", allow("other, db")).await;
    let secret = world.synced("db", &[("v", "1")]).await;
    assert_eq!(secret.uid(), kept.uid(), "it was made again");
    assert_eq!(secret.owner_references().len(), 1);
    // Ours from now on, without the annotation too.
    edit(&world, "db", "somebody", json!({"metadata": {"annotations": {"okms-operator.io/allow": null}}})).await;
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_adopted_as_it_is_is_not_replaced() {
    let world = World::new("adopt-unlike").await;
    world.domain.put("db", json!({"username": "a", "password": "b"}));
    let consent = allow("db")["metadata"]["annotations"].clone();
    let typed = json!({"metadata": {"name": "db", "annotations": consent}, "stringData": {"username": "x"},
        "type": "kubernetes.io/basic-auth"});
    create(&world, "db", typed).await;
    let kept = Kept::of(&world, "db").await;
    world.apply("db", json!({"path": "db"})).await;
    fails(&world, "db", "TargetNotOwned", &["its type is kubernetes.io/basic-auth", "spec.target.type"]).await;
    kept.assert(&world, "of another type").await;
    world.apply("db", json!({"path": "db", "target": {"type": "kubernetes.io/basic-auth"}})).await;
    world.synced("db", &[("username", "a"), ("password", "b")]).await;

    let consent = allow("frozen")["metadata"]["annotations"].clone();
    let frozen = json!({"metadata": {"name": "frozen", "annotations": consent}, "stringData": {"v": "x"},
        "immutable": true});
    create(&world, "frozen", frozen).await;
    let kept = Kept::of(&world, "frozen").await;
    world.apply("frozen", json!({"path": "db"})).await;
    fails(&world, "frozen", "TargetNotOwned", &["immutable", "delete the Secret"]).await;
    kept.assert(&world, "immutable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kubernetes_or_a_controller_owns_is_out_of_reach_by_every_route() {
    let world = World::new("forbidden").await;
    world.domain.put("db", json!({"v": "1"}));
    let boss = serde_json::from_value(json!({"metadata": {"name": "boss"}})).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.name);
    let boss = maps.create(&PostParams::default(), &boss).await.unwrap();
    let controller = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "boss",
        "uid": boss.uid().unwrap(), "controller": true}]);
    let token = json!({"type": "bootstrap.kubernetes.io/token", "stringData": {"token-id": "abcdef"}});
    let release = json!({"type": "helm.sh/release.v1", "stringData": {"release": "x"}});
    for (name, fields, whose) in [
        ("token", token, "is of type bootstrap.kubernetes.io/token"),
        ("release", release, "is of type helm.sh/release.v1"),
        ("controlled", json!({"stringData": {"x": "y"}}), "is controlled by ConfigMap boss"),
    ] {
        // With every sign of being ours that somebody could put there.
        let annotations = json!({"okms-operator.io/allow": "db,merge", "okms-operator.io/owner": "db"});
        let mut metadata = json!({"name": name, "labels": {"okms-operator.io/managed": "true"}});
        metadata["annotations"] =
            if name == "controlled" { allow("db,merge")["metadata"]["annotations"].clone() } else { annotations };
        if name == "controlled" {
            metadata["ownerReferences"] = controller.clone();
        }
        let mut fields = fields;
        fields["metadata"] = metadata;
        create(&world, name, fields).await;
        let kept = Kept::of(&world, name).await;
        world.apply("db", json!({"path": "db", "target": {"name": name}})).await;
        fails(&world, "db", "TargetNotOwned", &[name, whose]).await;
        world.apply("merge", json!({"path": "db", "target": {"name": name, "creationPolicy": "Merge"}})).await;
        fails(&world, "merge", "TargetNotOwned", &[name, whose]).await;
        kept.assert(&world, whose).await;
        world.secrets().delete(name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_target_is_replaced_when_it_has_to_change() {
    let world = World::new("immutable").await;
    world.domain.put("db", json!({"v": "1"}));
    let frozen = json!({"path": "db", "target": {"immutable": true}});
    world.apply("db", frozen).await;
    let first = world.synced("db", &[("v", "1")]).await;
    assert_eq!(first.immutable, Some(true));
    world.domain.put("db", json!({"v": "2"}));
    let second = world.synced("db", &[("v", "2")]).await;
    assert!(second.immutable == Some(true) && second.uid() != first.uid());
    // A label may change in place.
    world.apply("db", json!({"path": "db", "target": {"immutable": true, "labels": {"team": "shop"}}})).await;
    world.ready("db", "True", "Synced").await;
    let third = world.secret("db").await.unwrap();
    assert!(third.uid() == second.uid() && third.labels()["team"] == "shop");
    world.apply("db", json!({"path": "db"})).await;
    world.ready("db", "True", "Synced").await;
    let thawed = world.secret("db").await.unwrap();
    assert!(thawed.immutable != Some(true) && holds(&thawed, &[("v", "2")]));
    // Somebody freezes it: it stays so until it has to change.
    edit(&world, "db", "somebody", json!({"immutable": true})).await;
    world.domain.put("db", json!({"v": "3"}));
    world.synced("db", &[("v", "3")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_refuses_leaves_what_was_there() {
    let world = World::new("refused").await;
    world.domain.put("db", json!({"username": "a", "password": "b"}));
    let data = [("username", "a"), ("password", "b")];
    world.apply("db", json!({"path": "db", "target": {"immutable": true}})).await;
    world.synced("db", &data).await;
    let kept = Kept::of(&world, "db").await;
    crate::kept::quota(&world, 1).await;
    // Another type, another name, other content: none of them fits beside the old one.
    for spec in [
        json!({"path": "db", "target": {"type": "kubernetes.io/basic-auth"}}),
        json!({"path": "db", "target": {"name": "renamed"}}),
        json!({"path": "db", "keys": [{"to": "x", "from": "username"}], "target": {"immutable": true}}),
    ] {
        world.apply("db", spec.clone()).await;
        fails(&world, "db", "TargetRefused", &["exceeded quota"]).await;
        kept.assert(&world, &spec.to_string()).await;
    }
    crate::kept::no_quota(&world).await;
    world.synced("db", &[("x", "a")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_keeps_undoing_is_named_and_not_fought() {
    let mut world = World::without_operator("fight").await;
    world.create_store(json!({})).await;
    world.start_with(okms_operator::controller::Config { conflict_window: Duration::from_secs(20), ..world.config() });
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let mut undone = 0;
    eventually("it is given up", async || {
        let object = world.object("db").await;
        let (_, reason, said) = crate::world::ready_of(&object).unwrap();
        if reason == "TargetConflict" {
            assert!(said.contains("other-tool keeps undoing") && said.contains("db"), "{said}");
            return Ok(());
        }
        let secret = world.secret("db").await.unwrap();
        if holds(&secret, &[("v", "1")]) {
            undone += 1;
            edit(&world, "db", "other-tool", json!({"stringData": {"v": "theirs"}})).await;
        }
        Err(reason)
    })
    .await;
    assert_eq!(undone, 6, "five repairs, and then none");
    assert!(holds(&world.secret("db").await.unwrap(), &[("v", "theirs")]));
    // It stops, and after a while all is well by itself.
    world.synced("db", &[("v", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_not_called_synced() {
    let world = World::new("unwritable").await;
    for name in ["changed", "deleted", "new"] {
        world.domain.put(name, json!({"v": "1"}));
    }
    for name in ["changed", "deleted"] {
        world.apply(name, json!({"path": name})).await;
        world.synced(name, &[("v", "1")]).await;
    }
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(world.client.clone());
    let rule =
        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]});
    // Nobody listens there, and what it is asked about must not pass without it.
    let hook = json!({
        "metadata": {"name": world.name},
        "webhooks": [{
            "name": "gone.example.com", "rules": [rule], "failurePolicy": "Fail", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.name}},
        }],
    });
    hooks.create(&PostParams::default(), &serde_json::from_value(hook).unwrap()).await.unwrap();
    eventually("writes of Secrets fail", async || {
        let trial = json!({"metadata": {"name": "trial"}});
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let result = world.secrets().create(&params, &serde_json::from_value(trial).unwrap()).await;
        result.err().map(drop).ok_or("they do not")
    })
    .await;
    world.domain.put("changed", json!({"v": "2"}));
    world.secrets().delete("deleted", &DeleteParams::default()).await.unwrap();
    world.apply("new", json!({"path": "new"})).await;
    for (name, reason) in [("changed", "TargetDrifted"), ("deleted", "TargetDrifted"), ("new", "Progressing")] {
        fails(&world, name, reason, &["cannot be looked at or written now", "500"]).await;
    }
    hooks.delete(&world.name, &DeleteParams::default()).await.unwrap();
    world.synced("changed", &[("v", "2")]).await;
    world.synced("deleted", &[("v", "1")]).await;
    world.synced("new", &[("v", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_stays_whatever_comes_after_it() {
    let world = World::new("orphan-stays").await;
    world.domain.put("a", json!({"a": "1"}));
    let orphan = |name: &str| json!({"path": "a", "target": {"name": name, "creationPolicy": "Orphan"}});
    // Another policy and another name at once.
    world.apply("a", orphan("first")).await;
    world.synced("a", &[("a", "1")]).await;
    world.apply("a", json!({"path": "a", "target": {"name": "second"}})).await;
    world.synced("a", &[("a", "1")]).await;
    // Another object of the same name.
    world.apply("b", orphan("third")).await;
    world.synced("b", &[("a", "1")]).await;
    world.delete("b").await;
    world.apply("b", json!({"path": "a", "target": {"name": "fourth"}})).await;
    world.synced("b", &[("a", "1")]).await;
    for name in ["first", "third"] {
        eventually(&format!("{name} is nobody's"), async || {
            let secret = world.secret(name).await.expect("an orphan was deleted");
            if secret.annotations().is_empty() { Ok(()) } else { Err("it is not") }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_adopted_as_it_was_is_believed_after_a_restart() {
    let mut world = World::new("adopt-equal").await;
    world.domain.put("a", json!({"v": "1"}));
    let mut theirs = consenting("a", &json!({"v": "1"}));
    theirs["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "Helm"});
    create(&world, "a", theirs).await;
    // Later than what they wrote, by the clock of the API server, which counts seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.apply("a", json!({"path": "a"})).await;
    let secret = world.synced("a", &[("v", "1")]).await;
    assert_eq!(secret.labels()["app.kubernetes.io/managed-by"], "Helm", "who made it, made it");
    world.stop().await;
    let reads = world.sim.counters().data_reads;
    world.start();
    world.after_checks(4).await;
    assert_eq!(world.sim.counters().data_reads, reads);
    // Renamed, it goes: it is ours.
    world.apply("a", json!({"path": "a", "target": {"name": "renamed"}})).await;
    world.synced("a", &[("v", "1")]).await;
    world.gone("a").await;
}
