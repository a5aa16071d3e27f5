//! Canaries in what is made of several secrets, by templates, by decoding, and together with somebody else.

use std::{sync::LazyLock, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use okms_operator::{controller::Config, plan};
use serde_json::{Value, json};

use super::search::{Canary, LOG, hits};
use crate::{
    policy,
    targets::{allow, create, edit},
    world::{World, eventually, holds, message, ready_of},
};

/// Makes canaries and remembers them.
#[derive(Default)]
struct Nest(Vec<Canary>);

impl Nest {
    fn lay(&mut self) -> String {
        let canary = Canary::new();
        self.0.push(canary.clone());
        canary.0
    }
}

/// Waits until the status of an object is about what there is; answers the reason.
async fn settled(world: &World, name: &str) -> String {
    eventually(&format!("{name} has a status"), async || match ready_of(&world.object(name).await) {
        Some((_, reason, _)) if reason != "Progressing" => Ok(reason),
        other => Err(other),
    })
    .await
}

async fn fails_for(world: &World, name: &str, reason: &str) -> String {
    message(&world.ready(name, "False", reason).await)
}

/// What a template can be applied to: each holds a canary, and is wrong in its own way.
fn perches(nest: &mut Nest) -> Value {
    json!({
        "v": nest.lay(),
        "broken": format!("{{\"k\": \"{}\", {}", nest.lay(), nest.lay()),
        "json": format!("{{\"k\": [\"{}\"], \"{}\": 1}}", nest.lay(), nest.lay()),
        "pem": format!("-----BEGIN {}-----\n{}\n-----END X-----\n", nest.lay(), nest.lay()),
        "list": format!("{},{}", nest.lay(), nest.lay()),
    })
}

/// Templates that are wrong, or apply something to what it is not for.
fn templates() -> Vec<String> {
    let written = [
        "{{ nope }}",
        "{{ v | nope }}",
        "{{ v.nope.nope }}",
        "{{ data[v] }}",
        "{{ data[v].x }}",
        "{{ (json | fromjson)[v] }}",
        "{{ (json | fromjson).nope.nope }}",
        "{{ json | fromjson }}",
        "{{ [v][9] }}",
        "{{ {v: v}.x.y }}",
        "{{ v[0][1].x }}",
        "{{ v / 2 }}",
        "{{ v + 1 }}",
        "{{ v * 3 }}",
        "{{ -v }}",
        "{{ v < 1 }}",
        "{{ v in 1 }}",
        "{{ v(1) }}",
        "{{ v | b64encode | fromjson }}",
        "{{ (v ~ '\u{e9}') | b64decode }}",
        "{{ v | indent(v) }}",
        "{{ v | replace(1, v) }}",
        "{% for x in v %}{{ x.y }}{% endfor %}",
        "{% for x, y in list | split(',') %}{{ x }}{% endfor %}",
        "{% for x in json | fromjson %}{{ x.nope.y }}{% endfor %}",
        "{% set x = v ~ v %}{{ x",
        "{% set x = list %}{% set x = x ~ x %}{% set x = x ~ x %}{{ x | fromjson }}",
        "{% if v > 1 %}{% endif %}",
        "{{ htpasswd(v, v ~ v ~ v) }}",
        "{{ htpasswd('a:' ~ v, v) }}",
        "{{ v }}{{ nope }}",
        "{% include v %}",
        "{{ 'x' * v }}",
    ];
    let each = plan::template_functions().flat_map(|function| {
        let name = function.name();
        [
            format!("{{{{ v | {name} }}}}{{{{ broken | {name}(v) }}}}{{{{ nope }}}}"),
            format!("{{{{ pem | {name}(list, v, json, v, v) }}}}"),
            format!("{{{{ {name}(broken) }}}}{{{{ {name}(v, broken) }}}}{{{{ nope }}}}"),
            format!("{{{{ (json | fromjson) | {name} }}}}{{{{ nope }}}}"),
            format!("{{% if (broken is {name}(v)) and nope %}}{{% endif %}}"),
        ]
    });
    written.into_iter().map(str::to_owned).chain(each).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_gets_out_of_a_template_that_is_wrong() {
    LazyLock::force(&LOG);
    let world = World::new("canary-template").await;
    let mut nest = Nest::default();
    world.domain.put("perches", perches(&mut nest));
    let templates = templates();
    // Each makes a key in a spec; some make labels, or stand in a ConfigMap.
    let spec = |template: &Value| json!({"path": "perches", "target": {"template": template}});
    let mut names = Vec::new();
    for (n, text) in templates.iter().enumerate() {
        let name = format!("data-{n}");
        world.apply(&name, spec(&json!({"data": {"k": text}}))).await;
        names.push(name);
    }
    for (n, text) in templates.iter().enumerate().step_by(5) {
        let name = format!("map-{n}");
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": text}});
        let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.name);
        maps.patch(&name, &PatchParams::apply("test"), &Patch::Apply(map)).await.unwrap();
        world.apply(&name, spec(&json!({"templateFrom": [{"configMap": {"name": name}}]}))).await;
        names.push(name);
    }
    for (n, text) in
        ["{{ v ~ ' ' }}", "{{ v }}{{ nope }}", "{{ list }}", "{{ pem }}", "{{ v | nope }}"].iter().enumerate()
    {
        let name = format!("label-{n}");
        world.apply(&name, spec(&json!({"metadata": {"labels": {"example.com/k": text}}}))).await;
        names.push(name);
    }
    let reasons = join_all(names.iter().map(|name| settled(&world, name))).await;
    let failed = reasons.iter().filter(|reason| *reason == "TemplateFailed").count();
    assert!(failed > names.len() * 3 / 4, "only {failed} of {} templates are wrong: {reasons:?}", names.len());
    let found = hits(&world, &nest.0).await;
    assert!(found.is_empty(), "{found:#?}");

    // The hunt would find what a template lets out: here one that is asked to.
    let template = json!({"metadata": {"annotations": {"example.com/k": "{{ v }}"}}});
    world.apply("loud", spec(&template)).await;
    world.ready("loud", "True", "Synced").await;
    let found = hits(&world, &nest.0).await;
    assert!(!found.is_empty() && found.iter().all(|hit| hit.starts_with("metadata of Secrets")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_gets_out_of_several_secrets_that_make_none() {
    LazyLock::force(&LOG);
    let world = World::new("canary-several").await;
    world.sim.with_switches(|switches| switches.max_data_bytes = None);
    let mut nest = Nest::default();
    let long = nest.lay().repeat(20_000);
    for (path, data) in [
        ("a", json!({"v": nest.lay(), "deep": {"er": [nest.lay()]}, "tls.crt": nest.lay()})),
        ("b", json!({"v": nest.lay(), "odd name": nest.lay(), "tls.key": nest.lay()})),
        ("long", json!({ "v": long })),
        ("number", json!({"v": 12})),
    ] {
        world.domain.put(path, data);
    }
    let key = |from: &str, decode: &str| json!([{"to": "k", "from": from, "decode": decode}]);
    let v = |path: &str, prefix: &str| json!({"path": path, "prefix": prefix, "keys": [{"to": "v", "from": "v"}]});
    let (tls, twice) = (json!({"type": "kubernetes.io/tls"}), |prefix: &str| json!([v("a", prefix), v("b", prefix)]));
    let cases = [
        ("base64", json!({"path": "a", "keys": key("v", "Base64")}), "DecodeFailed"),
        ("base64-url", json!({"path": "a", "keys": key("v", "Base64URL")}), ""),
        ("base64-deep", json!({"path": "a", "keys": key("/deep/er/0", "Base64")}), "DecodeFailed"),
        ("base64-object", json!({"path": "a", "keys": key("deep", "Auto")}), "DecodeFailed"),
        ("base64-number", json!({"path": "number", "keys": key("v", "Base64")}), "DecodeFailed"),
        ("conflict", json!({"sources": twice("")}), "KeyConflict"),
        ("prefixed", json!({"sources": twice("SAME_")}), "KeyConflict"),
        ("illegal", json!({"sources": [v("a", ""), {"path": "b", "prefix": "B_"}]}), "InvalidKey"),
        (
            "missing",
            json!({"sources": [v("a", ""), {"path": "b", "keys": [{"to": "w", "from": "/v/w"}]}]}),
            "KeyNotFound",
        ),
        (
            "pair",
            json!({"sources": [
            {"path": "a", "keys": [{"to": "tls.crt", "from": "tls.crt"}]},
            {"path": "b", "keys": [{"to": "tls.key", "from": "tls.key"}]},
        ], "target": tls}),
            "InvalidForType",
        ),
        ("wide", json!({"sources": [v("long", "A_"), v("long", "B_")], "onKeyConflict": "LastWins"}), "TooLarge"),
    ];
    for (name, spec, _) in &cases {
        world.apply(name, spec.clone()).await;
    }
    for (name, _, reason) in &cases {
        let is = settled(&world, name).await;
        assert!(reason.is_empty() || is == *reason, "{name} is {is} and not {reason}");
    }
    let found = hits(&world, &nest.0).await;
    assert!(found.is_empty(), "{found:#?}");
}

/// A policy that quotes what it refuses: all that is said of Secrets with such a label, as they are to be and as they were.
async fn refuse_and_quote(world: &World) -> policy::Policy {
    let refused = |label: &str, quoted: &str| {
        json!({
            "expression": format!("!has(object.metadata.labels) || !('{label}' in object.metadata.labels)"),
            "message": "refused",
            "messageExpression": format!("'refused, because of ' + {quoted}"),
        })
    };
    let all = json!([
        refused("quote-new", "object.data['v']"),
        refused("quote-old", "oldObject.data['v']"),
        refused("quote-theirs", "oldObject.data['theirs']"),
    ]);
    policy::create(world, all).await
}

/// Waits until somebody who changes the Secret reads this in the refusal: the policy is in force, and quotes.
async fn quotes(world: &World, name: &str, encoded: &str) {
    eventually(&format!("a change of {name} is refused with its content"), async || {
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"by": "test"}}}));
        match world.secrets().patch(name, &dry, &patch).await {
            Err(kube::Error::Api(status)) if status.message.contains(encoded) => Ok(()),
            other => Err(format!("{:?}", other.map(drop))),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_gets_out_of_what_is_shared_fought_over_or_refused() {
    LazyLock::force(&LOG);
    let mut world = World::without_operator("canary-shared").await;
    world.create_store(json!({})).await;
    world.start_with(Config { conflict_window: Duration::from_hours(1), ..world.config() });
    let mut nest = Nest::default();
    let put = |world: &World, path: &str, value: &str| world.domain.put(path, json!({ "v": value }));
    let make_theirs = async |world: &World, name: &str, data: Value| {
        let annotations = allow(name)["metadata"]["annotations"].clone();
        let metadata = json!({"name": name, "annotations": annotations});
        create(world, name, json!({"metadata": metadata, "stringData": data})).await;
    };
    let merge = |path: &str| json!({"path": path, "target": {"creationPolicy": "Merge"}});

    // A key of somebody else, of which the API server says whose it is.
    put(&world, "contested", &nest.lay());
    make_theirs(&world, "contested", json!({"v": nest.lay()})).await;
    world.apply("contested", merge("contested")).await;
    assert!(fails_for(&world, "contested", "TargetConflict").await.contains("data.v"));

    // A fight, in which somebody writes values of their own again and again.
    put(&world, "fought", &nest.lay());
    world.apply("fought", json!({"path": "fought"})).await;
    world.ready("fought", "True", "Synced").await;
    let ours = nest.0.last().unwrap().0.clone();
    eventually("it is given up", async || {
        let object = world.object("fought").await;
        if ready_of(&object).is_some_and(|(_, reason, _)| reason == "TargetConflict") {
            return Ok(());
        }
        if holds(&world.secret("fought").await.unwrap(), &[("v", &ours)]) {
            edit(&world, "fought", "other-tool", json!({"stringData": {"v": nest.lay()}})).await;
        }
        Err(message(&object))
    })
    .await;

    // Refusals that quote what is to be written, what was there, and what is somebody else's.
    let cases = [
        ("new-whole", "quote-new", false),
        ("old-whole", "quote-old", false),
        ("new-merged", "quote-new", true),
        ("old-merged", "quote-old", true),
        ("theirs-merged", "quote-theirs", true),
        ("old-orphan", "quote-old", false),
    ];
    for (name, _, merged) in cases {
        put(&world, name, &nest.lay());
        if merged {
            make_theirs(&world, name, json!({"theirs": nest.lay()})).await;
        }
        let orphan = || json!({"path": name, "target": {"creationPolicy": "Orphan"}});
        let spec = match name {
            "old-orphan" => orphan(),
            _ if merged => merge(name),
            _ => json!({"path": name}),
        };
        world.apply(name, spec).await;
        world.ready(name, "True", "Synced").await;
    }
    for (name, label, _) in cases {
        // Before there is the policy, which would refuse this too.
        edit(&world, name, "somebody", json!({"metadata": {"labels": { label: "yes" }}})).await;
    }
    refuse_and_quote(&world).await;
    for (name, label, _) in cases {
        let data = world.secret(name).await.unwrap().data.unwrap();
        let quoted = if label == "quote-theirs" { &data["theirs"] } else { &data["v"] };
        quotes(&world, name, serde_json::to_value(quoted).unwrap().as_str().unwrap()).await;
        put(&world, name, &nest.lay());
    }
    for (name, ..) in cases {
        let said = fails_for(&world, name, "TargetRefused").await;
        assert!(said.contains("refuses the Secret") && said.contains("not repeated"), "{name}: {said}");
    }
    // And what is taken back, which is refused likewise.
    for (name, ..) in cases.iter().filter(|(.., merged)| *merged) {
        world.domain.deactivate(name, 2).unwrap();
        eventually(&format!("{name} cannot be withdrawn"), async || {
            let said = message(&world.object(name).await);
            if said.contains("source was withdrawn") { Ok(()) } else { Err(said) }
        })
        .await;
    }
    // And what is given up under its former name.
    let renamed = json!({"path": "old-orphan", "target": {"creationPolicy": "Orphan", "name": "renamed"}});
    let generation = world.apply("old-orphan", renamed).await.metadata.generation;
    eventually("the former target of old-orphan cannot be given up", async || {
        let object = world.object("old-orphan").await;
        let said = message(&object);
        let is_of_it = object.status.is_some_and(|status| Some(status.observed_generation) == generation);
        if is_of_it && said.contains("not repeated") { Ok(()) } else { Err(said) }
    })
    .await;
    let found = hits(&world, &nest.0).await;
    assert!(found.is_empty(), "{found:#?}");
}
