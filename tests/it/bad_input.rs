//! Bad input that only the operator can see: each gets its own reason and a sentence that names the field and the remedy, nothing is
//! lost, and nothing is called synced. What the API server refuses by itself is in `admission`.

use futures::future::join_all;
use kube::api::PostParams;
use okms_sim::Validity;
use serde_json::{Value, json};

use crate::{
    kept::{History, Kept},
    world::{World, eventually, holds, ready_of},
};

/// Waits until the object fails for this reason with a sentence that has these words.
pub(crate) async fn fails(world: &World, name: &str, reason: &str, words: &[&str]) {
    eventually(&format!("{name} is {reason}, with {words:?}"), async || match ready_of(&world.object(name).await) {
        Some((status, why, said)) if status == "False" && why == reason && has(&said, words) => Ok(()),
        other => Err(other),
    })
    .await;
}

pub(crate) fn has(said: &str, words: &[&str]) -> bool {
    words.iter().all(|word| said.contains(word))
}

/// Starts an operator that would serve the store `nowhere` too, if it existed.
async fn start_beside_a_store_that_is_missing(world: &mut World) {
    let mut config = world.config();
    config.cluster_stores.push("nowhere".to_owned());
    world.create_store(json!({})).await;
    world.start_with(config);
}

/// An `OkmsSecret` that cannot be done, why, and words of the sentence.
pub(crate) struct Bad {
    pub(crate) name: &'static str,
    pub(crate) spec: Value,
    pub(crate) reason: &'static str,
    words: &'static [&'static str],
}

fn bad(name: &'static str, spec: Value, reason: &'static str, words: &'static [&'static str]) -> Bad {
    Bad { name, spec, reason, words }
}

/// Writes what [`contents`] reads.
pub(crate) fn write_contents(world: &World) {
    let domain = &world.domain;
    world.sim.with_switches(|switches| switches.max_data_bytes = None);
    let [pair, other] = [(); 2].map(|()| domain.issue_client_certificate(Validity::days(1)).unwrap());
    domain.put("db", json!({"user": "app", "password": "one"}));
    domain.put("db", json!({"user": "app", "password": "two"}));
    domain.put("off", json!({"v": "1"}));
    domain.deactivate("off", 1).unwrap();
    domain.put("burnt", json!({"v": "1"}));
    domain.destroy("burnt", 1).unwrap();
    domain.set_max_versions("old", 2).unwrap();
    for version in ["1", "2", "3"] {
        domain.put("old", json!({"v": version}));
    }
    domain.put("empty", json!({}));
    domain.put("null", Value::Null);
    domain.set_metadata("unborn", okms_sim::Metadata::default()).unwrap();
    domain.put("illegal", json!({"db pass": "x", "ok": "y"}));
    domain.put("half-tls", json!({"tls.crt": pair.cert_pem}));
    domain.put("wrong-tls", json!({"tls.crt": pair.cert_pem, "tls.key": other.key_pem}));
    domain.put("registry", json!({".dockerconfigjson": {"registry.example.com": {}}}));
    domain.put("ssh", json!({"key": "x"}));
    domain.put("wide", json!({"blob": "x".repeat(300 * 1024)}));
    domain.put("huge", json!({"blob": "x".repeat(1200 * 1024)}));
}

pub(crate) fn contents() -> Vec<Bad> {
    let typed = |path: &str, of: &str| json!({"path": path, "target": {"type": of}});
    let four = ["a", "b", "c", "d"].map(|to| json!({"to": to, "from": "blob"}));
    vec![
        bad("no-path", json!({"path": "no/where"}), "PathNotFound", &["no secret at no/where", "spec.path"]),
        bad(
            "no-version",
            json!({"path": "db", "version": 7}),
            "VersionNotFound",
            &["db@7 was never made", "the current version is 2", "spec.version"],
        ),
        bad("pruned", json!({"path": "old", "version": 1}), "VersionPruned", &["old@1 was pruned", "spec.version"]),
        bad("off", json!({"path": "off"}), "VersionDeactivated", &["off@1 was deactivated", "Reactivate"]),
        bad(
            "off-pin",
            json!({"path": "off", "version": 1}),
            "VersionDeactivated",
            &["off@1 was deactivated", "Reactivate", "spec.version"],
        ),
        bad("burnt", json!({"path": "burnt"}), "VersionDestroyed", &["burnt@1 was destroyed", "new version"]),
        bad("burnt-pin", json!({"path": "burnt", "version": 1}), "VersionDestroyed", &["destroyed", "spec.version"]),
        bad("empty", json!({"path": "empty"}), "EmptySource", &["empty has no fields", "write at least one"]),
        bad("null", json!({"path": "null"}), "EmptySource", &["null", "has no data", "write"]),
        bad(
            "null-whole",
            json!({"path": "null", "keys": [{"to": "all.json"}]}),
            "EmptySource",
            &["null", "has no data"],
        ),
        bad("unborn", json!({"path": "unborn"}), "NoVersion", &["unborn", "no version", "write one"]),
        bad(
            "field",
            json!({"path": "db", "keys": [{"to": "DB", "from": "passwrod"}]}),
            "KeyNotFound",
            &["db has no \"passwrod\"", "key DB", "\"password\"", "correct from"],
        ),
        bad(
            "optional",
            json!({"path": "db", "keys": [{"to": "A", "from": "none", "optional": true}]}),
            "EmptySource",
            &["db has nothing", "write at least one"],
        ),
        bad(
            "illegal",
            json!({"path": "illegal"}),
            "InvalidKey",
            &["illegal has a field \"db pass\"", "keys: [{to: db_pass, from: \"db pass\"}]"],
        ),
        bad("half-tls", typed("half-tls", "kubernetes.io/tls"), "InvalidForType", &["tls.key is missing", "keys: ["]),
        bad("wrong-tls", typed("wrong-tls", "kubernetes.io/tls"), "InvalidForType", &["tls.key is not the key of"]),
        bad(
            "registry",
            typed("registry", "kubernetes.io/dockerconfigjson"),
            "InvalidForType",
            &["not a registry configuration", "auths"],
        ),
        bad("basic", typed("ssh", "kubernetes.io/basic-auth"), "InvalidForType", &["username and password"]),
        bad("ssh", typed("ssh", "kubernetes.io/ssh-auth"), "InvalidForType", &["ssh-privatekey is missing", "keys: ["]),
        bad("wide", json!({"path": "wide", "keys": four}), "TooLarge", &["key d from wide", "1048576", "split"]),
        bad("huge", json!({"path": "huge"}), "TooLarge", &["huge", "larger than 1 MiB", "split"]),
        bad(
            "no-store",
            json!({"path": "db", "storeRef": {"name": "nowhere"}}),
            "StoreNotFound",
            &["ClusterOkmsStore/nowhere does not exist", "create it, or correct spec.storeRef"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_secret_writes_none() {
    let mut world = World::without_operator("bad-content").await;
    start_beside_a_store_that_is_missing(&mut world).await;
    let history = History::of(&world).await;
    let cases = contents();
    write_contents(&world);
    for case in &cases {
        world.apply(case.name, case.spec.clone()).await;
    }
    join_all(cases.iter().map(|case| fails(&world, case.name, case.reason, case.words))).await;
    world
        .apply(
            "good",
            json!({"path": "db", "keys": [
                {"to": "P", "from": "password"},
                {"to": "Q", "from": "/none", "optional": true},
            ]}),
        )
        .await;
    world.synced("good", &[("P", "two")]).await;
    world.after_checks(30).await;
    for case in &cases {
        assert!(world.secret(case.name).await.is_none(), "{} got a Secret", case.name);
        history.assert_never_ready(case.name).await;
    }
}

/// A synced `OkmsSecret`, what is done to it, and what is said then.
struct Turn {
    name: &'static str,
    spec: Value,
    /// A new version of the secret, which has the name of the object.
    put: Option<Value>,
    /// Or another spec.
    apply: Option<Value>,
    reason: &'static str,
    words: &'static [&'static str],
}

#[tokio::test(flavor = "multi_thread")]
async fn what_turns_bad_leaves_the_secret_as_it_was() {
    let mut world = World::without_operator("bad-turn").await;
    start_beside_a_store_that_is_missing(&mut world).await;
    let domain = &world.domain;
    world.sim.with_switches(|switches| switches.max_data_bytes = None);
    domain.put("off", json!({"v": "1"}));
    domain.deactivate("off", 1).unwrap();
    let other = domain.issue_client_certificate(Validity::days(1)).unwrap();
    let pair = &world.certificate;
    let put = |name, spec: Value, data: Value, reason, words| Turn {
        name,
        spec,
        put: Some(data),
        apply: None,
        reason,
        words,
    };
    let edit =
        |name, spec: Value, reason, words| Turn { name, spec: json!({}), put: None, apply: Some(spec), reason, words };
    let v = |name: &str| json!({"keys": [{"to": name, "from": "v"}]});
    let four = ["a", "b", "c", "d"].map(|to| json!({"to": to, "from": "v"}));
    let tls = json!({"target": {"type": "kubernetes.io/tls"}});
    let turns: Vec<Turn> = vec![
        put("empty", json!({}), json!({}), "EmptySource", &["empty has no fields"]),
        put("null", json!({}), Value::Null, "EmptySource", &["null", "has no data"]),
        put("field", v("V"), json!({"w": "1"}), "KeyNotFound", &["field has no \"v\"", "correct from"]),
        put("illegal", json!({}), json!({"a b": "1"}), "InvalidKey", &["\"a b\"", "keys: ["]),
        put(
            "tls",
            tls,
            json!({"tls.crt": pair.cert_pem, "tls.key": other.key_pem}),
            "InvalidForType",
            &["tls.key is not the key of the first certificate"],
        ),
        put("wide", json!({"keys": four}), json!({"v": "x".repeat(300 * 1024)}), "TooLarge", &["1048576", "split"]),
        put("huge", json!({}), json!({"v": "x".repeat(1200 * 1024)}), "TooLarge", &["larger than 1 MiB", "split"]),
        edit("pin", json!({"version": 7}), "VersionNotFound", &["pin@7 was never made", "spec.version"]),
        edit("path", json!({"path": "elsewhere"}), "PathNotFound", &["no secret at elsewhere", "spec.path"]),
        edit("path-off", json!({"path": "off"}), "VersionDeactivated", &["kept", "not made from there"]),
        edit("pin-off", json!({"path": "off", "version": 1}), "VersionDeactivated", &["kept", "not made from there"]),
        edit("store", json!({"storeRef": {"name": "nowhere"}}), "StoreNotFound", &["spec.storeRef"]),
        edit("taken", json!({"target": {"name": "theirs"}}), "TargetNotOwned", &["Secret theirs exists", "Helm"]),
        edit(
            "taken-ours",
            json!({"target": {"name": "empty"}}),
            "TargetNotOwned",
            &["Secret empty exists", "OkmsSecret empty", "spec.target.name"],
        ),
    ];
    let foreign = json!({
        "metadata": {"name": "theirs", "labels": {"app.kubernetes.io/managed-by": "Helm"}},
        "stringData": {"theirs": "x"},
    });
    let foreign = serde_json::from_value(foreign).unwrap();
    world.secrets().create(&PostParams::default(), &foreign).await.unwrap();

    let mut kept = Vec::new();
    for turn in &turns {
        let data = match turn.name {
            "tls" => json!({"tls.crt": pair.cert_pem, "tls.key": pair.key_pem}),
            _ => json!({"v": "1"}),
        };
        domain.put(turn.name, data);
        let mut spec = turn.spec.clone();
        spec["path"] = json!(turn.name);
        world.apply(turn.name, spec).await;
    }
    for turn in &turns {
        world.ready(turn.name, "True", "Synced").await;
        kept.push(Kept::of(&world, turn.name).await);
    }
    kept.push(Kept::of(&world, "theirs").await);

    for turn in &turns {
        if let Some(data) = &turn.put {
            domain.put(turn.name, data.clone());
        }
        if let Some(spec) = &turn.apply {
            let mut spec = spec.clone();
            let fields = spec.as_object_mut().unwrap();
            fields.entry("path").or_insert_with(|| json!(turn.name));
            world.apply(turn.name, spec).await;
        }
    }
    join_all(turns.iter().map(|turn| fails(&world, turn.name, turn.reason, turn.words))).await;
    // Longer than an answer is believed without another.
    world.after_checks(60).await;
    join_all(turns.iter().map(|turn| fails(&world, turn.name, turn.reason, turn.words))).await;
    for kept in &kept {
        kept.assert(&world, "after it turned bad").await;
    }
    // Mended, each goes on with the Secret that it had.
    for turn in turns.iter().filter(|turn| turn.put.is_some() && turn.name != "tls") {
        domain.put(turn.name, json!({"v": "2"}));
        eventually(&format!("{} is synced again", turn.name), async || {
            let secret = world.secret(turn.name).await.unwrap();
            let value = secret.data.unwrap().into_values().next().unwrap();
            if value.0 == b"2" { Ok(()) } else { Err("the old content") }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_loses_access_keeps_its_secret_unrepaired() {
    let world = World::new("no-access").await;
    world.domain.put("prod/db", json!({"v": "1"}));
    world.apply("db", json!({"path": "prod/db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let kept = Kept::of(&world, "db").await;
    world.patch_store(json!({"spec": {"access": [{"namespaces": [world.name], "paths": ["test/*"]}]}})).await;
    let words = ["does not let namespace", &world.name, "read prod/db", "add a rule to spec.access"];
    fails(&world, "db", "AccessDenied", &words).await;
    world.domain.put("prod/db", json!({"v": "2"}));
    world.apply("other", json!({"path": "test/none"})).await;
    fails(&world, "other", "PathNotFound", &["test/none"]).await;
    world.apply("new", json!({"path": "prod/db"})).await;
    fails(&world, "new", "AccessDenied", &words).await;
    kept.assert(&world, "without access").await;
    assert!(world.secret("new").await.is_none());

    world.patch_store(json!({"spec": {"access": [{"namespaces": [world.name], "paths": ["prod/*"]}]}})).await;
    world.synced("db", &[("v", "2")]).await;
    world.synced("new", &[("v", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_target_name_is_left_alone() {
    let world = World::new("taken").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("first", json!({"path": "db", "target": {"name": "shared"}})).await;
    world.synced("first", &[("v", "1")]).await;
    let kept = Kept::of(&world, "shared").await;
    let history = History::of(&world).await;
    world.domain.put("more", json!({"w": "1"}));
    world.apply("second", json!({"path": "more", "target": {"name": "shared"}})).await;
    fails(&world, "second", "TargetNotOwned", &["Secret shared", "OkmsSecret first", "spec.target.name"]).await;
    world.after_checks(3).await;
    kept.assert(&world, "claimed by a second").await;
    history.assert_never_ready("second").await;
    // Kubernetes deletes its Secret.
    world.delete("first").await;
    world.synced("second", &[("w", "1")]).await;
    assert!(holds(&world.secret("shared").await.unwrap(), &[("w", "1")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_secret_holds_is_watched_while_the_newer_version_makes_none() {
    let world = World::new("held").await;
    world.sim.with_switches(|switches| switches.max_data_bytes = None);
    let newer = [("empty", json!({})), ("huge", json!({"v": "x".repeat(1200 * 1024)}))];
    for (name, _) in &newer {
        world.domain.put(name, json!({"v": "1"}));
        world.apply(name, json!({"path": name})).await;
        world.synced(name, &[("v", "1")]).await;
    }
    let history = History::of(&world).await;
    for (name, data) in newer {
        world.domain.put(name, data);
        let reason = if name == "huge" { "TooLarge" } else { "EmptySource" };
        world.ready(name, "False", reason).await;
        world.domain.destroy(name, 1).unwrap();
        world.gone(name).await;
        eventually("the status says why", async || {
            let seen = history.of_object(name).await;
            if seen.iter().any(|(_, reason)| reason == "VersionDestroyed") { Ok(()) } else { Err(seen) }
        })
        .await;
    }
}
