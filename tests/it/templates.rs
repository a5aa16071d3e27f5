//! Templates: what they make of the keys that the sources give, ConfigMaps that hold them, and what becomes of one that is wrong or
//! made to do harm.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use okms_operator::controller::Config;
use serde_json::{Value, json};

use crate::{
    bad_input::fails,
    kept::{History, Kept},
    world::{World, eventually, holds},
};

fn made(path: &str, template: impl Into<Value>) -> Value {
    let template: Value = template.into();
    json!({"path": path, "target": {"template": template}})
}

async fn put_map(world: &World, name: &str, data: Value) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    maps(world).patch(name, &PatchParams::apply("test").force(), &Patch::Apply(map)).await.unwrap();
}

fn maps(world: &World) -> Api<ConfigMap> {
    Api::namespaced(world.client.clone(), &world.name)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_of_the_keys_of_the_sources() {
    let world = World::new("template").await;
    world.domain.put("db", json!({"user": "app", "password": "p@ss/word", "tls.crt": "PEM", "port": 5432}));
    let url = "postgres://{{ user }}:{{ password | urlencode }}@db:{{ port }}/shop";
    let template = json!({"data": {"url": url, "copy.pem": "{{ data['tls.crt'] }}\n"}});
    world.apply("replace", made("db", template.clone())).await;
    let made_data = [("url", "postgres://app:p%40ss%2Fword@db:5432/shop"), ("copy.pem", "PEM\n")];
    world.synced("replace", &made_data).await;

    let mut merge = template;
    merge["mode"] = json!("Merge");
    merge["data"]["user"] = json!("{{ user | upper }}");
    world.apply("merge", made("db", merge)).await;
    let given = [("password", "p@ss/word"), ("tls.crt", "PEM"), ("port", "5432"), ("user", "APP")];
    world.synced("merge", &[made_data.as_slice(), &given].concat()).await;

    world.domain.put("db", json!({"user": "app", "password": "new", "tls.crt": "PEM", "port": 5432}));
    world.synced("replace", &[("url", "postgres://app:new@db:5432/shop"), ("copy.pem", "PEM\n")]).await;
    // Another template is another spec.
    world.apply("replace", made("db", json!({"data": {"user": "{{ user }}"}}))).await;
    world.synced("replace", &[("user", "app")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_hashed_the_same_each_time_and_differently_for_each_object() {
    let mut world = World::new("htpasswd").await;
    world.domain.put("web", json!({"user": "app", "password": "one"}));
    let template = json!({"data": {"auth": "{{ htpasswd(user, password) }}\n"}});
    world.apply("web", made("web", template.clone())).await;
    world.ready("web", "True", "Synced").await;
    let first = Kept::of(&world, "web").await;
    let text = |secret: Option<k8s_openapi::api::core::v1::Secret>| secret.unwrap().data.unwrap()["auth"].clone();
    assert!(text(world.secret("web").await).0.starts_with(b"app:$2y$10$"));
    // The same content under a new version, and with a new operator.
    world.domain.put("web", json!({"user": "app", "password": "one"}));
    eventually("version 2 is in the target", async || {
        let summary = world.object("web").await.status.unwrap().summary;
        if summary.as_deref() == Some("web@2") { Ok(()) } else { Err(summary) }
    })
    .await;
    first.assert(&world, "with the same password").await;
    world.stop().await;
    world.start();
    world.after_checks(4).await;
    first.assert(&world, "after a restart").await;
    world.apply("other", made("web", template)).await;
    world.ready("other", "True", "Synced").await;
    assert!(text(world.secret("web").await) != text(world.secret("other").await), "one salt for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_and_annotations_are_made_too_and_repaired() {
    let mut world = World::new("template-labels").await;
    world.domain.put("db", json!({"user": "app", "password": "one", "note": "two words"}));
    let metadata = json!({"labels": {"db-user": "{{ user }}"}, "annotations": {"example.com/hint": "{{ note }}!"}});
    world.apply("db", made("db", json!({ "metadata": metadata }))).await;
    let data = [("user", "app"), ("password", "one"), ("note", "two words")];
    let secret = world.synced("db", &data).await;
    assert_eq!(secret.labels()["db-user"], "app");
    assert_eq!(secret.annotations()["example.com/hint"], "two words!");
    let label = async |world: &World, value: &str| {
        eventually(&format!("the label is {value}"), async || {
            let secret = world.secret("db").await.unwrap();
            let found = secret.labels().get("db-user").cloned();
            if found.as_deref() == Some(value) { Ok(()) } else { Err(found) }
        })
        .await;
    };
    let patch = |patch: Value| {
        let (api, params) = (world.secrets(), PatchParams::default());
        async move { api.patch("db", &params, &Patch::Merge(patch)).await.unwrap() }
    };
    patch(json!({"metadata": {"labels": {"db-user": "edited"}}})).await;
    label(&world, "app").await;
    patch(json!({"metadata": {"labels": {"db-user": null}}})).await;
    label(&world, "app").await;
    world.domain.put("db", json!({"user": "next", "password": "one", "note": "two words"}));
    label(&world, "next").await;
    world.ready("db", "True", "Synced").await;

    // What nobody touched is believed after a restart; what somebody did is not.
    world.stop().await;
    let reads = world.sim.counters().data_reads;
    world.start();
    world.after_checks(4).await;
    assert_eq!(world.sim.counters().data_reads, reads);
    world.stop().await;
    let params = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
    let edit = json!({"metadata": {"labels": {"db-user": "edited"}}});
    world.secrets().patch("db", &params, &Patch::Merge(edit)).await.unwrap();
    world.start();
    label(&world, "next").await;

    world.domain.put("db", json!({"user": "two words", "password": "one", "note": "x"}));
    fails(&world, "db", "TemplateFailed", &["the template of label db-user makes no value of a label"]).await;
    label(&world, "next").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_of_a_config_map_are_followed() {
    let mut world = World::new("template-from").await;
    world.domain.put("db", json!({"password": "one"}));
    let from = json!({"templateFrom": [{"configMap": {"name": "app"}}]});
    world.apply("db", made("db", from)).await;
    fails(&world, "db", "TemplateFailed", &["ConfigMap app", "does not exist", "templateFrom"]).await;
    assert!(world.secret("db").await.is_none());

    put_map(&world, "app", json!({"a.conf": "a={{ password }}", "b.conf": "b={{ password }}"})).await;
    world.synced("db", &[("a.conf", "a=one"), ("b.conf", "b=one")]).await;
    put_map(&world, "app", json!({"a.conf": "A={{ password }}"})).await;
    world.synced("db", &[("a.conf", "A=one")]).await;

    // At rest neither is read again, by this operator or the next; what changed while none was there is noticed.
    let version = world.secret("db").await.unwrap().resource_version();
    let reads = world.sim.counters().data_reads;
    world.stop().await;
    world.start();
    world.after_checks(4).await;
    assert_eq!(
        (world.secret("db").await.unwrap().resource_version(), world.sim.counters().data_reads),
        (version, reads)
    );
    world.stop().await;
    put_map(&world, "app", json!({"a.conf": "again={{ password }}"})).await;
    world.start();
    world.synced("db", &[("a.conf", "again=one")]).await;

    // One that is wrong, or gone, takes nothing; what is withdrawn meanwhile goes all the same.
    put_map(&world, "app", json!({"a.conf": "{{ passwrod }}"})).await;
    let words = ["the template of key a.conf, line 1, column 4", "passwrod", "password"];
    fails(&world, "db", "TemplateFailed", &words).await;
    assert!(holds(&world.secret("db").await.unwrap(), &[("a.conf", "again=one")]));
    maps(&world).delete("app", &DeleteParams::default()).await.unwrap();
    fails(&world, "db", "TemplateFailed", &["ConfigMap app", "does not exist"]).await;
    assert!(holds(&world.secret("db").await.unwrap(), &[("a.conf", "again=one")]));
    world.domain.deactivate("db", 1).unwrap();
    fails(&world, "db", "VersionDeactivated", &["the Secret is deleted"]).await;
    world.gone("db").await;
    world.domain.activate("db", 1).unwrap();
    put_map(&world, "app", json!({"a.conf": "{{ password }}", "illegal": "x", "b.conf": "{{ password }}"})).await;

    // Chosen keys, and one of the spec.
    let from = json!({"templateFrom": [{"configMap": {"name": "app", "keys": ["b.conf"]}}], "data": {"c": "c"}});
    world.apply("db", made("db", from)).await;
    world.synced("db", &[("b.conf", "one"), ("c", "c")]).await;
    for (template, reason, words) in [
        (
            json!({"templateFrom": [{"configMap": {"name": "app", "keys": ["none"]}}]}),
            "TemplateFailed",
            ["ConfigMap app has no key none", "templateFrom"],
        ),
        (
            json!({"templateFrom": [{"configMap": {"name": "app"}}], "data": {"b.conf": "x"}}),
            "KeyConflict",
            ["ConfigMap app has a template of the key b.conf", "template.data"],
        ),
    ] {
        world.apply("db", made("db", template)).await;
        fails(&world, "db", reason, &words).await;
        assert!(holds(&world.secret("db").await.unwrap(), &[("b.conf", "one"), ("c", "c")]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_make_the_keys_that_are_merged_into_a_secret_of_somebody_else() {
    let world = World::new("template-merge").await;
    world.domain.put("db", json!({"password": "one"}));
    put_map(&world, "app", json!({"a.conf": "a={{ password }}"})).await;
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"theirs": "x"},
        "metadata": {"name": "app", "annotations": {"okms-operator.io/allow": "db"}}});
    world.secrets().patch("app", &PatchParams::apply("somebody"), &Patch::Apply(theirs)).await.unwrap();
    let template = json!({"templateFrom": [{"configMap": {"name": "app"}}],
        "metadata": {"annotations": {"example.com/db": "{{ password }}"}}});
    let target = json!({"name": "app", "creationPolicy": "Merge", "template": template});
    world.apply("db", json!({"path": "db", "target": target})).await;
    let holding = async |data: &[(&str, &str)]| {
        eventually("the Secret holds the data", async || {
            world.secret("app").await.filter(|secret| holds(secret, data)).ok_or("it does not")
        })
        .await
    };
    let secret = holding(&[("theirs", "x"), ("a.conf", "a=one")]).await;
    assert_eq!(secret.annotations()["example.com/db"], "one");
    put_map(&world, "app", json!({"a.conf": "A={{ password }}"})).await;
    holding(&[("theirs", "x"), ("a.conf", "A=one")]).await;
    world.ready("db", "True", "Synced").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_wrong_or_made_to_do_harm_is_named_and_takes_nothing() {
    let world = World::new("bad-template").await;
    let big = "x".repeat(1000);
    world.domain.put("db", json!({"password": "canary-7f3a", "big": big, "list": "a,b"}));
    world.apply("db", made("db", json!({"data": {"k": "{{ password }}"}}))).await;
    world.synced("db", &[("k", "canary-7f3a")]).await;
    let kept = Kept::of(&world, "db").await;
    let doubled = "{% set x = big %}".to_owned() + &"{% set x = x ~ x %}".repeat(40) + "{{ x }}";
    let loops = "{% for a in data %}{% for b in data %}".repeat(12) + "x" + &"{% endfor %}{% endfor %}".repeat(12);
    let nested = format!("{{{{ {}1 }}}}", "-".repeat(60_000));
    let output = "{{ big }}".repeat(7_000);
    for (template, words) in [
        ("{{ passwrod }}", vec!["line 1, column 4", "passwrod", "password"]),
        ("a\nb {{ data['none'] }}", vec!["line 2", "none"]),
        ("{{ password | b64 }}", vec!["line 1", "b64", "b64encode"]),
        ("{{ open('/etc/passwd') }}", vec!["line 1", "open"]),
        ("{% include 'x' %}", vec!["line 1"]),
        ("{{ password", vec!["line 1"]),
        ("{% for x in data %}", vec!["line 1"]),
        ("{{ password | fromjson }}", vec!["line 1, column 15", "not JSON"]),
        ("{{ 'x' * 1000000000 }}", vec!["line 1"]),
        ("{{ password | indent(1000000000) }}", vec!["line 1", "indent"]),
        (doubled.as_str(), vec!["too much"]),
        (loops.as_str(), vec![]),
        (nested.as_str(), vec![]),
    ] {
        world.apply("db", made("db", json!({"data": {"k": template}}))).await;
        let said = fails_with(&world, "TemplateFailed").await;
        let all = ["the template of key k"].into_iter().chain(words);
        for word in all {
            assert!(said.contains(word), "{template:.80}: {word} is missing from: {said}");
        }
        assert!(!said.contains("canary"), "{said}");
        kept.assert(&world, &said).await;
    }
    world.apply("db", made("db", json!({"data": {"k": output}}))).await;
    let said = fails_with(&world, "TooLarge").await;
    assert!(said.contains("the template of key k"), "{said}");
    kept.assert(&world, "too large").await;
    world.apply("db", made("db", json!({"data": {"k": "{{ password }}"}}))).await;
    world.synced("db", &[("k", "canary-7f3a")]).await;
}

/// Waits until `db` fails for this reason; answers the sentence.
async fn fails_with(world: &World, reason: &str) -> String {
    let object = world.ready("db", "False", reason).await;
    crate::world::message(&object)
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_templates_keep_nobody_else_waiting() {
    let world = World::new("heavy").await;
    world.domain.put("web", json!({"password": "one"}));
    world.domain.put("light", json!({"v": "1"}));
    world.apply("light", json!({"path": "light"})).await;
    world.synced("light", &[("v", "1")]).await;
    // Each takes as long as templates can.
    let lines = "{{ htpasswd('user', password) }}\n".repeat(16);
    for n in 0..12 {
        world.apply(&format!("heavy-{n}"), made("web", json!({"data": {"auth": lines}}))).await;
    }
    world.secrets().delete("light", &DeleteParams::default()).await.unwrap();
    world.synced("light", &[("v", "1")]).await;
    let mut done = 0;
    for n in 0..12 {
        done += usize::from(world.secret(&format!("heavy-{n}")).await.is_some());
    }
    assert!(done < 12, "the repair waited for all of them");
    for n in 0..12 {
        world.ready(&format!("heavy-{n}"), "True", "Synced").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_gone_and_waits_to_be_rendered_is_not_called_synced() {
    let mut world = World::without_operator("queue").await;
    world.create_store(json!({})).await;
    world.start_with(Config { drift_after: Duration::ZERO, conflict_repairs: 1000, ..world.config() });
    world.domain.put("web", json!({"password": "one"}));
    world.apply("light", made("web", json!({"data": {"v": "{{ password }}"}}))).await;
    world.synced("light", &[("v", "one")]).await;
    let history = History::of(&world).await;
    let lines = "{{ htpasswd('user', password) }}\n".repeat(16);
    for n in 0..12 {
        world.apply(&format!("heavy-{n}"), made("web", json!({"data": {"auth": lines}}))).await;
    }
    let drifted = ("False".to_owned(), "TargetDrifted".to_owned());
    eventually("its status says that it is gone", async || {
        if history.of_object("light").await.contains(&drifted) {
            return Ok(());
        }
        // It may have its turn at once, between two of the others.
        let _ = world.secrets().delete("light", &DeleteParams::default()).await;
        Err(history.of_object("light").await)
    })
    .await;
    world.synced("light", &[("v", "one")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_templates_than_are_read_are_refused() {
    let world = World::new("many-templates").await;
    world.domain.put("db", json!({"password": "one"}));
    put_map(&world, "big", json!({"small": "{{ password }}", "unused": "x".repeat(600_000)})).await;
    world.apply("db", made("db", json!({"templateFrom": [{"configMap": {"name": "big"}}]}))).await;
    fails(&world, "db", "TemplateFailed", &["ConfigMap big", "more than 524288 bytes", "choose keys"]).await;
    let chosen = json!({"templateFrom": [{"configMap": {"name": "big", "keys": ["small"]}}]});
    world.apply("db", made("db", chosen)).await;
    world.synced("db", &[("small", "one")]).await;
}
