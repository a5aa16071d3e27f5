//! With whom a shared store is shared: names, labels and paths, as they are at the moment; and that no spelling of a path is a way
//! around a rule.

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use okms_operator::api::OkmsSecret;
use proptest::{
    prelude::{Strategy, any, prop, prop_oneof},
    strategy::{Just, ValueTree},
    test_runner::{Config as Runs, TestRunner},
};
use serde_json::{Value, json};

use crate::world::{World, eventually, message, ready_of};

/// Whether namespace and path are granted, by another way of reading the rules: that of a person.
const MATRIX: &[(&str, &[(&str, bool)])] = &[
    (
        "a",
        &[("exact/one", true), ("exact/one/below", false), ("exact/on", false), ("below/x", false), ("other", false)],
    ),
    ("b", &[("exact/one", false), ("below", false), ("below/x", true), ("below/x/y", true), ("belowx/y", false)]),
    ("team-c", &[("exact/one", false), ("below/x", true), ("glob/x", true), ("glob", false), ("other", false)]),
    ("gold", &[("exact/one", false), ("labelled/x", true), ("glob/x", false), ("both/x", false), ("other", false)]),
    ("team-gold", &[("labelled/x", true), ("glob/x", true), ("both/x", true), ("exact/one", false), ("other", false)]),
    ("all", &[("exact/one", true), ("below/x", true), ("both/x", true), ("other", true), ("Other", true)]),
    ("none", &[("exact/one", false), ("below/x", false), ("glob/x", false), ("both/x", false), ("other", false)]),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_reads_what_the_rules_grant_it_and_nothing_else() {
    let mut world = World::without_operator("matrix").await;
    let mut names = BTreeMap::new();
    for (suffix, _) in MATRIX {
        let gold = if suffix.contains("gold") { json!({"tier": "gold"}) } else { json!({}) };
        names.insert(*suffix, world.another_namespace(suffix, gold).await);
    }
    let name = |suffix: &str| names.get(suffix).unwrap().clone();
    let team = format!("{}-team-*", world.name);
    let gold = json!({"matchLabels": {"tier": "gold"}});
    world
        .create_store(json!({"access": [
            {"namespaces": [name("a")], "paths": ["exact/one"]},
            {"namespaces": [name("b"), name("team-c")], "paths": ["below/*"]},
            {"namespaces": [team], "paths": ["glob/*"]},
            {"namespaceSelector": gold, "paths": ["labelled/*"]},
            {"namespaces": [team], "namespaceSelector": gold, "paths": ["both/*"]},
            {"namespaces": [name("all")], "paths": ["*"]},
        ]}))
        .await;
    let mut config = world.config();
    config.watch_namespaces = names.values().cloned().collect();
    world.start_with(config);

    for (suffix, paths) in MATRIX {
        for (n, (path, _)) in paths.iter().enumerate() {
            world.domain.put(path, json!({"path": path}));
            world.apply_in(&name(suffix), &format!("s{n}"), json!({"path": path})).await;
        }
    }
    for (suffix, paths) in MATRIX {
        for (n, (path, granted)) in paths.iter().enumerate() {
            let (namespace, object) = (name(suffix), format!("s{n}"));
            let (status, reason) = if *granted { ("True", "Synced") } else { ("False", "AccessDenied") };
            world.ready_in(&namespace, &object, status, reason).await;
            let secret = world.secrets_in(&namespace).get_opt(&object).await.unwrap();
            assert_eq!(secret.is_some(), *granted, "{suffix} and {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_follows_the_labels_of_the_namespace() {
    let world = World::without_operator("labels").await;
    world.label_namespace(&world.name, json!({"tier": "gold"})).await;
    lost_and_given_back(
        world,
        json!([{"namespaceSelector": {"matchLabels": {"tier": "gold"}}, "paths": ["*"]}]),
        async |world| world.label_namespace(&world.name, json!({"tier": null})).await,
        async |world| world.label_namespace(&world.name, json!({"tier": "gold"})).await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_follows_the_rules_of_the_store() {
    let world = World::without_operator("rules").await;
    let rule = json!([{"namespaces": [world.name], "paths": ["db"]}]);
    let back = rule.clone();
    lost_and_given_back(
        world,
        rule,
        async |world| world.patch_store(json!({"spec": {"access": []}})).await,
        async |world| world.patch_store(json!({"spec": {"access": back.clone()}})).await,
    )
    .await;
}

/// Access that is lost leaves the Secret as it is, unread and unrepaired; given back, all is made good at once.
async fn lost_and_given_back(mut world: World, access: Value, take: impl AsyncFn(&World), give: impl AsyncFn(&World)) {
    world.create_store(json!({ "access": access })).await;
    world.start();
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;

    take(&world).await;
    let denied = world.ready("db", "False", "AccessDenied").await;
    assert!(message(&denied).contains("have its owner add a rule to spec.access"), "{}", message(&denied));
    let calls = world.sim.counters().on("db");
    world.domain.put("db", json!({"v": "2"}));
    edit(&world).await;
    // Whatever wakes the object, it is not read: the annotation asks for a check.
    let ask = json!({"metadata": {"annotations": {"okms-operator.io/refresh": "now"}}});
    world.objects().patch("db", &PatchParams::default(), &Patch::Merge(ask)).await.unwrap();
    eventually("the request is handled", async || {
        let status = world.object("db").await.status.unwrap();
        if status.last_handled_refresh.as_deref() == Some("now") { Ok(()) } else { Err(status) }
    })
    .await;
    world.ready("db", "False", "AccessDenied").await;
    let secret = world.secret("db").await.expect("the target is kept");
    assert_eq!(value(&secret), "edited", "it is not repaired either");
    assert_eq!(world.sim.counters().on("db"), calls, "nothing is read without access");

    give(&world).await;
    world.synced("db", &[("v", "2")]).await;
}

async fn edit(world: &World) {
    let patch = Patch::Merge(json!({"stringData": {"v": "edited"}}));
    world.secrets().patch("db", &PatchParams::default(), &patch).await.unwrap();
}

fn value(secret: &Secret) -> String {
    String::from_utf8(secret.data.as_ref().unwrap().get("v").unwrap().0.clone()).unwrap()
}

/// What nobody was granted.
const THEIRS: &str = "theirs/prod/db";

/// Ways to write `parts` that some layer might take for the same path.
fn spelling(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
    let joint = prop_oneof![
        24 => Just("/".to_owned()),
        1 => Just("//".to_owned()),
        1 => Just("%2F".to_owned()),
        1 => Just("%2f".to_owned()),
        1 => Just("%252F".to_owned()),
        1 => Just("\\".to_owned()),
        1 => Just("/./".to_owned()),
        1 => Just("/../".to_owned()),
        1 => Just("/%2e%2e/".to_owned()),
        1 => Just("/x/../".to_owned()),
        2 => Just(":".to_owned()),
        2 => Just("/x/".to_owned()),
        2 => Just("/.../".to_owned()),
        1 => Just("\u{2215}".to_owned()),
    ];
    let edge = prop_oneof![
        24 => Just(String::new()),
        1 => Just("/".to_owned()),
        1 => Just("./".to_owned()),
        1 => Just("../".to_owned()),
        1 => Just(" ".to_owned()),
        1 => Just("%00".to_owned()),
        1 => Just("?version=1".to_owned()),
        1 => Just("#".to_owned()),
        1 => Just("mine/../".to_owned()),
        1 => Just("mine/..%2f".to_owned()),
        4 => Just("mine/".to_owned()),
    ];
    let joints = prop::collection::vec(joint, parts.len());
    let upper = prop::collection::vec(any::<bool>(), 16);
    (edge.clone(), joints, edge, upper).prop_map(move |(before, joints, after, upper)| {
        let mut text = before;
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                text += joints.get(n).unwrap();
            }
            let mixed = part.chars().zip(upper.iter().cycle());
            text.extend(mixed.map(|(c, upper)| if *upper && n % 2 == 1 { c.to_ascii_uppercase() } else { c }));
        }
        text + &after
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_reaches_beyond_the_grant() {
    let world = World::without_operator("spell").await;
    world.create_store(json!({"access": [{"namespaces": [world.name], "paths": ["mine/*"]}]})).await;
    let mut world = world;
    world.start();
    world.domain.put(THEIRS, json!({"v": "theirs"}));
    world.domain.put("mine/db", json!({"v": "mine"}));

    let mut runner = TestRunner::new(Runs::default());
    let spellings = prop_oneof![
        3 => spelling(&["theirs", "prod", "db"]),
        1 => spelling(&["mine", "theirs", "prod", "db"]),
        1 => spelling(&["mine", "db"]),
    ];
    let mut texts: Vec<String> = (0..300).map(|_| spellings.new_tree(&mut runner).unwrap().current()).collect();
    texts.push(THEIRS.to_owned());
    texts.sort();
    texts.dedup();
    let objects = world.objects();
    let created = join_all(texts.iter().enumerate().map(async |(n, path)| {
        let object: OkmsSecret = serde_json::from_value(json!({
            "apiVersion": "okms-operator.io/v1alpha1",
            "kind": "OkmsSecret",
            "metadata": {"name": format!("s{n}")},
            "spec": {"path": path, "storeRef": {"name": world.name}},
        }))
        .unwrap();
        objects.create(&PostParams::default(), &object).await.is_ok().then(|| (format!("s{n}"), path.clone()))
    }))
    .await;
    let created: Vec<_> = created.into_iter().flatten().collect();
    assert!(created.len() >= 10 && created.len() < texts.len(), "{} of {}", created.len(), texts.len());
    for (name, path) in &created {
        let granted = path.starts_with("mine/");
        eventually(&format!("{path} is told"), async || {
            let object = world.object(name).await;
            match ready_of(&object) {
                Some((_, reason, _)) if !granted && reason == "AccessDenied" => Ok(()),
                Some((_, reason, _)) if granted && matches!(reason.as_str(), "Synced" | "PathNotFound") => Ok(()),
                other => Err(other),
            }
        })
        .await;
        let secret = world.secret(name).await;
        assert!(secret.is_none_or(|secret| value(&secret) == "mine"), "{path} brought something else");
    }
    // The judge: what the simulator was asked for, in its own decoding.
    let beyond: Vec<_> = world
        .sim
        .counters()
        .requests
        .into_keys()
        .filter(|(_, path)| !path.is_empty() && !path.starts_with("mine/"))
        .collect();
    assert!(beyond.is_empty(), "{beyond:?}");
}
