//! Keys that are merged into a Secret of somebody else: with consent, beside theirs and those of others, and never more than that.

use std::time::Duration;

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    events::v1::Event,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    bad_input::fails,
    kept::Kept,
    targets::{allow, create, edit, holding},
    world::{World, eventually, holds},
};

pub(crate) fn merge(path: &str, target: &str) -> Value {
    json!({"path": path, "target": {"name": target, "creationPolicy": "Merge"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_merged_into_a_secret_of_somebody_else_with_consent() {
    let mut world = World::new("merge").await;
    world.domain.put("a", json!({"a": "1"}));
    world.domain.put("b", json!({"b": "1", "c": "1"}));
    world.apply("a", merge("a", "app")).await;
    fails(&world, "a", "TargetMissing", &["no Secret app to merge into", "okms-operator.io/allow: a"]).await;
    create(&world, "app", json!({"stringData": {"theirs": "x"}})).await;
    fails(&world, "a", "TargetNotOwned", &["kubectl annotate secret app okms-operator.io/allow=a"]).await;
    edit(&world, "app", "somebody", allow("a,b")).await;
    holding(&world, "app", &[("theirs", "x"), ("a", "1")]).await;
    world.ready("a", "True", "Synced").await;
    assert_eq!(world.object("a").await.status.unwrap().target.unwrap().keys, 1);

    // Two live together, each follows its own source, and nothing is written at rest.
    world.apply("b", merge("b", "app")).await;
    let secret = holding(&world, "app", &[("theirs", "x"), ("a", "1"), ("b", "1"), ("c", "1")]).await;
    assert!(secret.owner_references().is_empty() && secret.labels()["okms-operator.io/managed"] == "true");
    world.ready("b", "True", "Synced").await;
    let version = world.secret("app").await.unwrap().resource_version();
    world.after_checks(6).await;
    assert_eq!(world.secret("app").await.unwrap().resource_version(), version, "written at rest");
    world.domain.put("b", json!({"b": "2"}));
    holding(&world, "app", &[("theirs", "x"), ("a", "1"), ("b", "2")]).await;

    // Theirs is theirs, ours is repaired, also by a new operator.
    edit(&world, "app", "somebody", json!({"stringData": {"theirs": "y", "more": "z"}})).await;
    edit(&world, "app", "somebody", json!({"data": {"a": null}})).await;
    holding(&world, "app", &[("theirs", "y"), ("more", "z"), ("a", "1"), ("b", "2")]).await;
    world.stop().await;
    edit(&world, "app", "somebody", json!({"data": {"b": null}})).await;
    let reads = world.sim.counters().data_reads;
    world.start();
    holding(&world, "app", &[("theirs", "y"), ("more", "z"), ("a", "1"), ("b", "2")]).await;
    world.ready("a", "True", "Synced").await;
    world.after_checks(4).await;
    assert_eq!(world.sim.counters().data_reads - reads, 1, "what is intact is believed without reading it");

    // A withdrawal takes what was made from it, and nothing else.
    world.domain.deactivate("b", 2).unwrap();
    fails(&world, "b", "VersionDeactivated", &["its keys are removed"]).await;
    holding(&world, "app", &[("theirs", "y"), ("more", "z"), ("a", "1")]).await;
    world.after_checks(4).await;
    fails(&world, "b", "VersionDeactivated", &["its keys are removed"]).await;
    world.domain.activate("b", 2).unwrap();
    holding(&world, "app", &[("theirs", "y"), ("more", "z"), ("a", "1"), ("b", "2")]).await;

    // With another target the keys move.
    create(&world, "next", json!({"metadata": {"name": "next", "annotations": {"okms-operator.io/allow": "b"}}})).await;
    world.apply("b", merge("b", "next")).await;
    holding(&world, "next", &[("b", "2")]).await;
    let secret = holding(&world, "app", &[("theirs", "y"), ("more", "z"), ("a", "1")]).await;
    assert_eq!(secret.annotations().keys().filter(|key| key.starts_with("merged.")).count(), 1);

    // What was merged stays when its object goes, and its successor takes it over.
    let before = Kept::of(&world, "app").await;
    world.delete("a").await;
    world.domain.put("a", json!({"a": "2"}));
    world.after_checks(2).await;
    before.assert(&world, "without its object").await;
    world.apply("a", merge("a", "app")).await;
    let secret = holding(&world, "app", &[("theirs", "y"), ("more", "z"), ("a", "2")]).await;
    world.ready("a", "True", "Synced").await;
    assert_eq!(secret.uid(), before.uid());
    let secret = world.secret("app").await.unwrap();
    assert_eq!(secret.annotations().keys().filter(|key| key.starts_with("merged.")).count(), 1);

    // Consent can be taken back: what is there stays, and is not touched.
    edit(&world, "app", "somebody", allow("b")).await;
    fails(&world, "a", "TargetNotOwned", &["okms-operator.io/allow=a"]).await;
    holding(&world, "app", &[("theirs", "y"), ("more", "z"), ("a", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_belongs_to_somebody_else_is_not_taken() {
    let world = World::new("merge-conflict").await;
    world.domain.put("a", json!({"user": "ours", "other": "1"}));
    create(
        &world,
        "app",
        json!({"metadata": {"name": "app", "annotations": {"okms-operator.io/allow": "a"}},
        "stringData": {"user": "theirs"}}),
    )
    .await;
    world.apply("a", merge("a", "app")).await;
    fails(&world, "a", "TargetConflict", &["data.user", "belong to somebody", "keys or prefix"]).await;
    holding(&world, "app", &[("user", "theirs")]).await;
    edit(&world, "app", "somebody", json!({"data": {"user": null}})).await;
    holding(&world, "app", &[("user", "ours"), ("other", "1")]).await;
    world.ready("a", "True", "Synced").await;
    // Somebody takes a key of ours.
    edit(&world, "app", "kubectl-edit", json!({"stringData": {"user": "theirs"}})).await;
    fails(&world, "a", "TargetConflict", &["data.user", "belong to kubectl-edit"]).await;
    holding(&world, "app", &[("user", "theirs"), ("other", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_merged_into_the_target_of_another_object() {
    let world = World::new("merge-target").await;
    world.domain.put("a", json!({"a": "1"}));
    world.domain.put("b", json!({"b": "1"}));
    world.apply("a", json!({"path": "a"})).await;
    world.synced("a", &[("a", "1")]).await;
    edit(&world, "a", "somebody", allow("b,a")).await;
    world.apply("b", merge("b", "a")).await;
    fails(&world, "b", "TargetNotOwned", &["is the target of OkmsSecret a"]).await;
    world.apply("a", merge("a", "a")).await;
    fails(&world, "a", "TargetNotOwned", &["is the target of OkmsSecret a"]).await;
    assert!(holds(&world.secret("a").await.unwrap(), &[("a", "1")]));
}

pub(crate) fn consenting(name: &str, data: &Value) -> Value {
    json!({"metadata": {"name": name, "annotations": {"okms-operator.io/allow": "a"}}, "stringData": data})
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_to_add_keys_is_none_to_take_the_secret_over() {
    let world = World::new("merge-to-owner").await;
    world.domain.put("a", json!({"a": "1"}));
    create(&world, "app", consenting("app", &json!({"theirs": "x"}))).await;
    world.apply("a", merge("a", "app")).await;
    holding(&world, "app", &[("theirs", "x"), ("a", "1")]).await;
    world.apply("a", json!({"path": "a", "target": {"name": "app"}})).await;
    fails(&world, "a", "TargetNotOwned", &["holds keys that OkmsSecret a merges into it"]).await;
    holding(&world, "app", &[("theirs", "x"), ("a", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_merged_before_is_withdrawn_by_the_successor() {
    let world = World::new("merge-successor").await;
    world.domain.put("a", json!({"a": "1"}));
    create(&world, "app", consenting("app", &json!({"theirs": "x"}))).await;
    world.apply("a", merge("a", "app")).await;
    holding(&world, "app", &[("theirs", "x"), ("a", "1")]).await;
    world.ready("a", "True", "Synced").await;
    world.delete("a").await;
    world.domain.deactivate("a", 1).unwrap();
    world.apply("a", merge("a", "app")).await;
    fails(&world, "a", "VersionDeactivated", &["its keys are removed"]).await;
    holding(&world, "app", &[("theirs", "x")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_was_interrupted_is_finished() {
    let world = World::new("merge-half").await;
    world.domain.put("a", json!({"a": "1"}));
    create(&world, "app", consenting("app", &json!({"theirs": "x"}))).await;
    world.apply("a", merge("a", "app")).await;
    world.ready("a", "True", "Synced").await;
    // As if a predecessor had not been taken out.
    let part = json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "MQ=="}, "metadata": {
        "name": "app", "labels": {"okms-operator.io/managed": "true"},
        "annotations": {"merged.okms-operator.io/gone": r#"{"owner":"a","sources":[]}"#},
    }});
    let params = PatchParams::apply("okms-operator/gone");
    world.secrets().patch("app", &params, &Patch::Apply(part)).await.unwrap();
    world.domain.put("a", json!({"a": "2"}));
    holding(&world, "app", &[("theirs", "x"), ("a", "2")]).await;
    world.ready("a", "True", "Synced").await;
    let secret = world.secret("app").await.unwrap();
    assert!(!secret.annotations().contains_key("merged.okms-operator.io/gone"));

    // What names a living object is not taken over from it.
    world.domain.put("b", json!({"b": "1"}));
    edit(&world, "app", "somebody", allow("a,b")).await;
    world.apply("b", merge("b", "app")).await;
    holding(&world, "app", &[("theirs", "x"), ("a", "2"), ("b", "1")]).await;
    let alive = format!("merged.okms-operator.io/{}", world.object("b").await.uid().unwrap());
    let lie = json!({"metadata": {"annotations": {alive: r#"{"owner":"a","sources":[]}"#}}});
    edit(&world, "app", "somebody", lie).await;
    world.domain.put("a", json!({"a": "3"}));
    holding(&world, "app", &[("theirs", "x"), ("a", "3"), ("b", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_secret_that_was_merged_into_is_left_alone() {
    let world = World::new("merge-copy").await;
    world.domain.put("a", json!({"a": "1"}));
    create(&world, "app", consenting("app", &json!({"theirs": "x"}))).await;
    world.apply("a", merge("a", "app")).await;
    let app = holding(&world, "app", &[("theirs", "x"), ("a", "1")]).await;
    let metadata = json!({"name": "copy", "labels": app.labels(), "annotations": app.annotations()});
    let copy = create(&world, "copy", json!({"metadata": metadata, "data": app.data})).await;
    world.domain.put("a", json!({"a": "2"}));
    holding(&world, "app", &[("theirs", "x"), ("a", "2")]).await;
    world.after_checks(4).await;
    assert_eq!(world.secret("copy").await.unwrap().resource_version(), copy.resource_version());
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.name);
    let deleted = events.list(&ListParams::default()).await.unwrap().items;
    assert!(deleted.iter().all(|event| event.reason.as_deref() != Some("Deleted")), "nothing was deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_not_read_again_on_every_event() {
    let mut world = World::without_operator("refused-events").await;
    world.create_store(json!({})).await;
    let config = okms_operator::controller::Config { retry_refused: Duration::from_mins(10), ..world.config() };
    world.start_with(config);
    world.domain.put("a", json!({"user": "ours"}));
    create(&world, "app", consenting("app", &json!({"user": "theirs"}))).await;
    world.apply("a", merge("a", "app")).await;
    fails(&world, "a", "TargetConflict", &["data.user"]).await;
    let reads = world.sim.counters().data_reads;
    for n in 0..20 {
        edit(&world, "app", "somebody", json!({"metadata": {"annotations": {"note": n.to_string()}}})).await;
        world.after_checks(1).await;
    }
    let more = world.sim.counters().data_reads - reads;
    assert!(more <= 2, "{more} reads for twenty annotations");
    fails(&world, "a", "TargetConflict", &["data.user"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_a_policy_that_quote_what_is_theirs_are_not_repeated() {
    let world = World::new("quoting").await;
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["secrets"]});
    let validation = json!({"expression": "!has(object.data.a)", "message": "refused",
        "messageExpression": "'refused, because of ' + string(object.data['theirs'])"});
    let policy = json!({"metadata": {"name": world.name}, "spec": {"failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]}, "validations": [validation]}});
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": world.name}});
    let binding = json!({"metadata": {"name": world.name}, "spec": {"policyName": world.name,
        "validationActions": ["Deny"], "matchResources": {"namespaceSelector": selector}}});
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    create(&world, "app", consenting("app", &json!({"theirs": "foreign-canary-0123456789"}))).await;
    eventually("the policy holds", async || {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let trial = json!({"stringData": {"a": "x"}});
        let result = world.secrets().patch("app", &params, &Patch::Merge(trial)).await;
        result.err().map(drop).ok_or("it does not")
    })
    .await;
    world.domain.put("a", json!({"a": "1"}));
    world.apply("a", merge("a", "app")).await;
    fails(&world, "a", "TargetRefused", &["not repeated here"]).await;
}
