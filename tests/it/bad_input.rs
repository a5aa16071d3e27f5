//! Bad input that only the operator can see: each gets its own reason and a sentence that names the field and the remedy, nothing is
//! lost, and nothing is called synced. What the API server refuses by itself is in `admission`.

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use okms_sim::{Sim, Validity};
use serde_json::{Value, json};

use crate::{
    cluster,
    kept::{History, Kept},
    world::{World, eventually, holds, message, ready_of},
};

/// Waits until the object fails for this reason with a sentence that has these words.
async fn fails(world: &World, name: &str, reason: &str, words: &[&str]) {
    eventually(&format!("{name} is {reason}, with {words:?}"), async || match ready_of(&world.object(name).await) {
        Some((status, why, said)) if status == "False" && why == reason && has(&said, words) => Ok(()),
        other => Err(other),
    })
    .await;
}

fn has(said: &str, words: &[&str]) -> bool {
    words.iter().all(|word| said.contains(word))
}

/// Starts an operator that would serve the store `nowhere` too, if it existed.
async fn start_beside_a_store_that_is_missing(world: &mut World) {
    let mut config = world.config();
    config.cluster_stores.push("nowhere".to_owned());
    world.create_store(json!({})).await;
    world.start_with(config).await;
}

/// An `OkmsSecret` that cannot be done, why, and words of the sentence.
struct Bad {
    name: &'static str,
    spec: Value,
    reason: &'static str,
    words: &'static [&'static str],
}

fn bad(name: &'static str, spec: Value, reason: &'static str, words: &'static [&'static str]) -> Bad {
    Bad { name, spec, reason, words }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_secret_writes_none() {
    let mut world = World::without_operator("bad-content").await;
    start_beside_a_store_that_is_missing(&mut world).await;
    let history = History::of(&world);
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
    let typed = |path: &str, of: &str| json!({"path": path, "target": {"type": of}});
    let four = ["a", "b", "c", "d"].map(|to| json!({"to": to, "from": "blob"}));
    let cases = vec![
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
            &["db has nothing", "make one required"],
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
    ];
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
        history.assert_never_ready(case.name);
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
    let history = History::of(&world);
    world.domain.put("more", json!({"w": "1"}));
    world.apply("second", json!({"path": "more", "target": {"name": "shared"}})).await;
    fails(&world, "second", "TargetNotOwned", &["Secret shared", "OkmsSecret first", "spec.target.name"]).await;
    world.after_checks(3).await;
    kept.assert(&world, "claimed by a second").await;
    history.assert_never_ready("second");
    world.delete("first").await;
    world.secrets().delete("shared", &DeleteParams::default()).await.unwrap();
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
    let history = History::of(&world);
    for (name, data) in newer {
        world.domain.put(name, data);
        let reason = if name == "huge" { "TooLarge" } else { "EmptySource" };
        world.ready(name, "False", reason).await;
        world.domain.destroy(name, 1).unwrap();
        world.gone(name).await;
        eventually("the status says why", async || {
            let seen = history.of_object(name);
            if seen.iter().any(|(_, reason)| reason == "VersionDestroyed") { Ok(()) } else { Err(seen) }
        })
        .await;
    }
}

/// A store that cannot work: its spec, why, and words of its sentence.
struct BadStore {
    name: &'static str,
    spec: Value,
    reason: &'static str,
    words: &'static [&'static str],
}

async fn put_secret(world: &World, name: &str, files: &[(&str, &str)]) {
    let data: BTreeMap<_, _> = files.iter().copied().collect();
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}, "stringData": data})).unwrap();
    world.secrets().create(&PostParams::default(), &secret).await.unwrap();
}

/// A port of this machine where something answers, but not in TLS.
async fn plain_http() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    format!("https://{address}")
}

/// A port where connections are taken and nothing is ever said.
async fn silence() -> (String, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    (format!("https://{}", listener.local_addr().unwrap()), listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_work_says_why_and_works_once_mended() {
    let mut world = World::without_operator("bad-store").await;
    let history = History::of(&world);
    let another_sim = Sim::start(okms_sim::Options::default()).await.unwrap();
    let neighbour = world.sim.add_domain().issue_client_certificate(Validity::days(1)).unwrap();
    let foreign = world.sim.foreign_domain().issue_client_certificate(Validity::days(1)).unwrap();
    let expired = world.domain.issue_client_certificate(Validity::expired()).unwrap();
    let early = world.domain.issue_client_certificate(Validity::not_yet()).unwrap();
    let good = world.certificate.clone();
    let okms_id = world.domain.okms_id();
    let (silent, _listener) = silence().await;

    let pair = |certificate: &okms_sim::ClientCertificate| {
        [("tls.crt", certificate.cert_pem.clone()), ("tls.key", certificate.key_pem.clone())]
    };
    let secrets: Vec<(&str, Vec<(&str, String)>)> = vec![
        ("nothing", vec![]),
        ("hollow", vec![("tls.crt", String::new()), ("tls.key", good.key_pem.clone())]),
        ("half", vec![("tls.crt", good.cert_pem.clone())]),
        ("junk", vec![("tls.crt", "hello".to_owned()), ("tls.key", good.key_pem.clone())]),
        ("unmatched", vec![("tls.crt", good.cert_pem.clone()), ("tls.key", neighbour.key_pem.clone())]),
        ("expired", pair(&expired).to_vec()),
        ("early", pair(&early).to_vec()),
        ("neighbour", pair(&neighbour).to_vec()),
        ("foreign", pair(&foreign).to_vec()),
        ("double", [pair(&good).to_vec(), vec![("client.p12", "x".to_owned())]].concat()),
    ];
    for (name, files) in &secrets {
        let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_str())).collect();
        put_secret(&world, &format!("{name}-credential"), &files).await;
    }
    world.mount_files_at("double", &[("tls.crt", &good.cert_pem), ("credential.json", "{}")]);
    world.mount_files_at("unmatched", &[("tls.crt", &good.cert_pem), ("tls.key", &neighbour.key_pem)]);
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.name);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let map = json!({"metadata": {"name": "authorities"}, "data": {"empty": "", "broken": broken}});
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();

    let by_secret = |name: &str| {
        let reference = json!({"name": format!("{name}-credential")});
        json!({"auth": {"clientCertificate": {"mount": null, "secretRef": reference}}})
    };
    let by_mount = |mount: &str| json!({"auth": {"clientCertificate": {"mount": mount}}});
    let at = |endpoint: &str| json!({"endpoint": endpoint});
    let with_ca = |key: &str| json!({"ca": {"pem": null, "configMapRef": {"name": "authorities", "key": key}}});
    let bad = |name, spec, reason, words| BadStore { name, spec, reason, words };
    let plane = tokio::task::spawn_blocking(cluster::shared).await.unwrap();
    let (unusable, untrusted, other) = ("InvalidCredential", "TlsFailed", "OkmsUnavailable");
    let cases = vec![
        bad("absent", by_secret("absent"), unusable, &["/absent-credential does not exist", "create it"]),
        bad("nothing", by_secret("nothing"), unusable, &["/nothing", "no tls.crt and no tls.key", "provide both"]),
        bad("hollow", by_secret("hollow"), unusable, &["/hollow", "tls.crt is empty", "provide"]),
        bad("half", by_secret("half"), unusable, &["/half", "no tls.key", "provide"]),
        bad("junk", by_secret("junk"), unusable, &["/junk", "tls.crt holds no certificate", "-----BEGIN CERTIFICATE"]),
        bad("unmatched", by_secret("unmatched"), unusable, &["tls.key is not the key of the first", "provide"]),
        bad("expired", by_secret("expired"), unusable, &["/expired", "has expired", "replace it"]),
        bad("early", by_secret("early"), unusable, &["/early", "not valid yet", "check the clock"]),
        bad(
            "neighbour",
            merged(by_secret("neighbour"), json!({"okmsId": okms_id})),
            unusable,
            &["is of OKMS domain", "provide one of the domain in okmsId"],
        ),
        bad("foreign", by_secret("foreign"), untrusted, &["client certificate is refused", "check"]),
        bad("double", by_secret("double"), unusable, &["several forms", "tls.crt, client.p12", "keep one"]),
        bad("mount-absent", by_mount("absent"), unusable, &["nothing is mounted", "mount absent", "mount a Secret"]),
        bad("mount-double", by_mount("double"), unusable, &["several forms", "tls.crt, credential.json", "keep one"]),
        bad("mount-unmatched", by_mount("unmatched"), unusable, &["credential unmatched", "tls.key is not the key"]),
        bad("nobody", at("https://127.0.0.1:1"), other, &["no connection", "refuses connections"]),
        bad("silent", at(&silent), other, &["within the time limit"]),
        bad("plain", at(&plain_http().await), untrusted, &["handshake fails", "check that the endpoint"]),
        bad(
            "kubernetes",
            merged(at(plane.server_url()), json!({"ca": {"pem": plane.ca_pem()}})),
            "Refused",
            &["refuses the request", "check the identities"],
        ),
        bad("region", at(&another_sim.endpoint()), untrusted, &["not signed by a trusted CA", "ca"]),
        bad(
            "wrong-ca",
            json!({"ca": {"pem": another_sim.server_ca_pem()}}),
            untrusted,
            &["not signed by a trusted CA", "put the CA of the endpoint into ca"],
        ),
        bad("web-ca", json!({"ca": null}), untrusted, &["not signed by a trusted CA", "put the CA"]),
        bad("empty-ca", with_ca("empty"), unusable, &["spec.ca", "holds no certificate", "must be PEM"]),
        bad("broken-ca", with_ca("broken"), unusable, &["spec.ca", "damaged"]),
        bad(
            "no-ca-key",
            with_ca("absent"),
            unusable,
            &["/authorities has no key absent", "add it, or correct spec.ca"],
        ),
        bad(
            "no-ca-map",
            json!({"ca": {"pem": null, "configMapRef": {"name": "none", "key": "ca"}}}),
            unusable,
            &["/none does not exist", "create it, or correct spec.ca"],
        ),
    ];

    let prefix = world.name.clone();
    let store = |name: &str| format!("{prefix}-{name}");
    let mut config = world.config();
    config.cluster_stores = cases.iter().map(|case| store(case.name)).collect();
    world.domain.put("db", json!({"v": "1"}));
    for case in &cases {
        let limits = json!({"limits": {"timeout": "1s"}});
        world.create_store_named(&store(case.name), merged(limits, case.spec.clone())).await;
        world.apply(case.name, json!({"path": "db", "storeRef": {"name": store(case.name)}})).await;
    }
    world.start_with(config).await;

    join_all(cases.iter().map(async |case| {
        let said = world.store_named_ready(&store(case.name), "False", case.reason).await;
        assert!(has(&said, case.words), "{}: {:?} are not all in {said:?}", case.name, case.words);
        fails(&world, case.name, "StoreNotReady", &["the store is not ready", &said]).await;
        assert!(world.secret(case.name).await.is_none(), "{} got a Secret", case.name);
    }))
    .await;
    for case in &cases {
        history.assert_never_ready(case.name);
        let stored = world.stores().get(&store(case.name)).await.unwrap();
        assert!(stored.status.unwrap().certificate.is_none(), "{} shows a certificate in use", case.name);
    }

    let spec = json!({
        "endpoint": world.sim.endpoint(),
        "auth": {"clientCertificate": {"mount": world.name, "secretRef": null}},
        "ca": {"pem": world.sim.server_ca_pem(), "configMapRef": null},
    });
    join_all(cases.iter().map(async |case| {
        world.patch_store_named(&store(case.name), json!({"spec": spec})).await;
        world.store_named_ready(&store(case.name), "True", "Reachable").await;
        world.synced(case.name, &[("v", "1")]).await;
    }))
    .await;
}

fn merged(mut one: Value, more: Value) -> Value {
    for (field, value) in more.as_object().unwrap() {
        one[field] = value.clone();
    }
    one
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_outlives_the_store_and_the_credential_that_it_came_through() {
    let world = World::new("lost-store").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let kept = Kept::of(&world, "db").await;

    world.mount_files(&[]);
    world.store_ready("False", "InvalidCredential").await;
    fails(&world, "db", "StoreNotReady", &["nothing is mounted"]).await;
    kept.assert(&world, "without a credential").await;
    world.mount(&world.certificate);
    world.synced("db", &[("v", "1")]).await;

    world.stores().delete(&world.name, &DeleteParams::default()).await.unwrap();
    fails(&world, "db", "StoreNotFound", &[&world.name, "does not exist"]).await;
    kept.assert(&world, "without its store").await;
    world.create_store(json!({})).await;
    world.synced("db", &[("v", "1")]).await;
    kept.assert(&world, "with its store again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_withdrawn_while_the_operator_was_down_is_withdrawn_after_its_start() {
    let mut world = World::new("down").await;
    let names = ["off", "burnt", "deleted", "pruned", "retained", "stays"];
    for name in names {
        world.domain.set_max_versions(name, 2).unwrap();
        world.domain.put(name, json!({"v": "1"}));
        let pin = (name == "pruned").then_some(1);
        let policy = (name == "retained").then_some("Retain");
        let mut spec = json!({"path": name});
        if let Some(pin) = pin {
            spec["version"] = json!(pin);
        }
        if let Some(policy) = policy {
            spec["withdrawalPolicy"] = json!(policy);
        }
        world.apply(name, spec).await;
    }
    join_all(names.map(|name| world.synced(name, &[("v", "1")]))).await;
    let kept = [Kept::of(&world, "retained").await, Kept::of(&world, "stays").await];
    world.stop().await;

    world.domain.deactivate("off", 1).unwrap();
    world.domain.destroy("burnt", 1).unwrap();
    world.domain.delete("deleted").unwrap();
    world.domain.put("pruned", json!({"v": "2"}));
    world.domain.put("pruned", json!({"v": "3"}));
    world.domain.deactivate("retained", 1).unwrap();
    world.start().await;

    fails(&world, "off", "VersionDeactivated", &["off@1 was deactivated", "the Secret is deleted"]).await;
    fails(&world, "burnt", "VersionDestroyed", &["burnt@1 was destroyed", "the Secret is deleted"]).await;
    fails(&world, "deleted", "SecretDeleted", &["deleted was deleted", "the Secret is deleted"]).await;
    fails(&world, "pruned", "VersionPruned", &["pruned@1 was pruned", "spec.version"]).await;
    fails(&world, "retained", "VersionDeactivated", &["kept", "Retain"]).await;
    for name in ["off", "burnt", "deleted", "pruned"] {
        world.gone(name).await;
    }
    world.ready("stays", "True", "Synced").await;
    for kept in kept {
        kept.assert(&world, "after the start").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_pointed_at_another_domain_deletes_nothing() {
    let mut world = World::new("elsewhere").await;
    // In the other domain the first path does not exist, the second is withdrawn, the third is another secret.
    let elsewhere = world.sim.add_domain();
    elsewhere.put("off", json!({"v": "other"}));
    elsewhere.deactivate("off", 1).unwrap();
    let names = ["none", "off"];
    for name in names {
        world.domain.put(name, json!({"v": "1"}));
        world.apply(name, json!({"path": name})).await;
    }
    join_all(names.map(|name| world.synced(name, &[("v", "1")]))).await;
    let kept = [Kept::of(&world, "none").await, Kept::of(&world, "off").await];
    let intact = async |what: &str, world: &World| {
        for kept in &kept {
            kept.assert(world, what).await;
        }
    };

    // The certificate is still of the first.
    world.patch_store(json!({"spec": {"okmsId": elsewhere.okms_id()}})).await;
    let said = world.store_ready("False", "InvalidCredential").await;
    assert!(has(&said, &["is of OKMS domain", &world.domain.okms_id(), "okmsId"]), "{said}");
    join_all(names.map(|name| fails(&world, name, "StoreNotReady", &["is of OKMS domain"]))).await;
    intact("with the certificate of the former domain", &world).await;

    world.mount(&elsewhere.issue_client_certificate(Validity::days(30)).unwrap());
    world.store_ready("True", "Reachable").await;
    fails(&world, "none", "PathNotFound", &["no secret at none"]).await;
    fails(&world, "off", "VersionDeactivated", &["off@1 was deactivated", "kept", "not made from there"]).await;
    world.after_checks(10).await;
    intact("in the other domain", &world).await;
    world.stop().await;
    world.start().await;
    world.after_checks(10).await;
    fails(&world, "none", "PathNotFound", &["no secret at none"]).await;
    fails(&world, "off", "VersionDeactivated", &["kept"]).await;
    intact("in the other domain, after a restart", &world).await;

    world.mount(&world.certificate);
    world.patch_store(json!({"spec": {"okmsId": null}})).await;
    join_all(names.map(|name| world.synced(name, &[("v", "1")]))).await;
    intact("back in the first domain", &world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_withdrawals_at_once_wait_for_a_person() {
    let mut world = World::new("budget").await;
    let name = |n: usize| format!("s{n:02}");
    for n in 0..17 {
        world.domain.put(&name(n), json!({"v": "1"}));
        world.apply(&name(n), json!({"path": name(n)})).await;
    }
    join_all((0..17).map(async |n| world.synced(&name(n), &[("v", "1")]).await)).await;
    for n in 0..14 {
        world.domain.deactivate(&name(n), 1).unwrap();
    }
    // Ten go, as ten of a small store always may; the rest is held.
    let first = held(&world, 4).await;
    let secrets = |world: &World| {
        let api = world.secrets();
        async move { api.list(&kube::api::ListParams::default()).await.unwrap().items.len() }
    };
    eventually("ten are gone", async || match secrets(&world).await {
        7 => Ok(()),
        left => Err(left),
    })
    .await;
    let waiting: Vec<String> = world
        .objects()
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
        .items
        .iter()
        .filter(|object| ready_of(object).is_some_and(|(_, reason, _)| reason == "WithdrawalHeld"))
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(waiting.len(), 4);
    let words = ["the Secret is kept", "too many", &world.name, "spec.maxWithdrawalsPerHour"];
    join_all(waiting.iter().map(|name| fails(&world, name, "WithdrawalHeld", &words))).await;

    // The set grows, so that the first id does not name it any more.
    world.domain.deactivate(&name(14), 1).unwrap();
    world.domain.deactivate(&name(15), 1).unwrap();
    let second = held(&world, 6).await;
    assert_ne!(first, second);
    confirm(&world, &first).await;
    world.after_checks(20).await;
    assert_eq!((secrets(&world).await, held(&world, 6).await), (7, second.clone()), "an outdated id let some go");

    // Neither an outage nor a restart, nor both, lets them go.
    world.sim.stop().await;
    world.store_ready("False", "OkmsUnavailable").await;
    fails(&world, &name(16), "StoreNotReady", &[]).await;
    world.stop().await;
    world.start().await;
    world.store_ready("False", "OkmsUnavailable").await;
    world.sim.restart().await.unwrap();
    world.ready(&name(16), "True", "Synced").await;
    assert_eq!(held(&world, 6).await, second, "the same set has the same id");
    world.after_checks(20).await;
    assert_eq!(secrets(&world).await, 7, "a restart let some go");

    confirm(&world, &second).await;
    eventually("the held ones are gone", async || match secrets(&world).await {
        1 => Ok(()),
        left => Err(left),
    })
    .await;
    for name in &waiting {
        fails(&world, name, "VersionDeactivated", &["the Secret is deleted"]).await;
    }
    eventually("nothing is held any more", async || {
        let status = world.stores().get(&world.name).await.unwrap().status.unwrap();
        if status.withdrawal_held.is_none() { Ok(()) } else { Err(status.withdrawal_held) }
    })
    .await;
}

/// Waits until the store shows so many held withdrawals, and answers their id. The condition says how to confirm it.
async fn held(world: &World, count: i32) -> String {
    eventually(&format!("{count} withdrawals are held"), async || {
        let status = world.stores().get(&world.name).await.unwrap().status.unwrap();
        let held = status.withdrawal_held.filter(|held| held.count == count);
        let said = status.conditions.iter().find(|condition| condition.type_ == "WithdrawalHeld");
        match (held, said) {
            (Some(held), Some(said)) if has(&said.message, &[&held.id, "confirm", "kubectl annotate"]) => Ok(held.id),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// Confirms an id as a person would, and waits until the operator has looked at it.
async fn confirm(world: &World, id: &str) {
    let timeout = format!("{}s", 6 + rand::random::<u8>() % 50);
    let annotations = json!({"okms-operator.io/confirm-withdrawal": id});
    world
        .patch_store(json!({"metadata": {"annotations": annotations}, "spec": {"limits": {"timeout": timeout}}}))
        .await;
    let generation = world.stores().get(&world.name).await.unwrap().metadata.generation;
    eventually("the store was looked at", async || {
        let status = world.stores().get(&world.name).await.unwrap().status.unwrap();
        if Some(status.observed_generation) == generation { Ok(()) } else { Err(status.observed_generation) }
    })
    .await;
}
