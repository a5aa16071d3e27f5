//! Several secrets of OKMS that become one native Secret: what each gives, what happens where two give the same, and what becomes of
//! the whole when one of them is taken back, is missing, or cannot be read.

use std::sync::{Arc, Mutex};

use futures::future::join_all;
use k8s_openapi::ByteString;
use kube::ResourceExt;
use okms_sim::{Action, Fault, FaultKind, Grants, Validity};
use serde_json::{Value, json};

use crate::{
    bad_input::fails,
    kept::{Kept, watched},
    world::{World, eventually, holds},
};

/// The data of a Secret, as text.
type Contents = Vec<(String, String)>;

#[tokio::test(flavor = "multi_thread")]
async fn several_secrets_become_one_and_each_is_followed() {
    let world = World::new("several").await;
    world.domain.put("db", json!({"user": "app", "password": "one"}));
    world.domain.put("smtp", json!({"user": "mail", "key": "aGk="}));
    let keys = json!([{"to": "KEY", "from": "key", "decode": "Base64"}, {"to": "all.json"}]);
    let sources = json!([
        {"path": "db"},
        {"path": "smtp", "prefix": "SMTP_", "keys": keys},
        {"path": "db", "version": 1, "keys": [{"to": "first-password", "from": "password"}]},
    ]);
    world.apply("app", json!({ "sources": sources })).await;
    let (hi, ho) = (r#"{"key":"aGk=","user":"mail"}"#, r#"{"key":"aG8=","user":"mail"}"#);
    let data = |password, key, all| {
        [("user", "app"), ("password", password), ("first-password", "one"), ("SMTP_KEY", key), ("SMTP_all.json", all)]
    };
    let secret = world.synced("app", &data("one", "hi", hi)).await;
    let evidence: Value = serde_json::from_str(&secret.annotations()["okms-operator.io/source"]).unwrap();
    let named: Vec<_> = evidence.as_array().unwrap().iter().map(|one| (&one["path"], &one["pin"])).collect();
    assert_eq!(named, [(&json!("db"), &json!(null)), (&json!("smtp"), &json!(null)), (&json!("db"), &json!(1))]);
    let status = world.object("app").await.status.unwrap();
    assert_eq!(status.summary.as_deref(), Some("db@1 +2"));
    assert_eq!(status.sources.unwrap().len(), 3);

    world.domain.put("smtp", json!({"user": "mail", "key": "aG8="}));
    world.synced("app", &data("one", "ho", ho)).await;
    world.domain.put("db", json!({"user": "app", "password": "two"}));
    world.synced("app", &data("two", "ho", ho)).await;

    world.domain.deactivate("smtp", 2).unwrap();
    fails(&world, "app", "VersionDeactivated", &["smtp@2 was deactivated", "the Secret is deleted"]).await;
    world.gone("app").await;
    world.domain.activate("smtp", 2).unwrap();
    world.synced("app", &data("two", "ho", ho)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_with_one_key_are_refused_unless_the_last_shall_win() {
    let world = World::new("conflict").await;
    world.domain.put("a", json!({"user": "a", "host": "h"}));
    world.domain.put("b", json!({"user": "b"}));
    let spec = json!({"sources": [{"path": "a"}, {"path": "b"}]});
    world.apply("app", spec.clone()).await;
    let words = ["the key user comes from a and from b", "prefix", "onKeyConflict"];
    fails(&world, "app", "KeyConflict", &words).await;
    assert!(world.secret("app").await.is_none());
    let mut wins = spec;
    wins["onKeyConflict"] = json!("LastWins");
    world.apply("app", wins).await;
    world.synced("app", &[("user", "b"), ("host", "h")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_source_comes_and_goes_and_a_failing_one_fails_the_whole() {
    let mut world = World::new("optional").await;
    world.domain.put("db", json!({"v": "1"}));
    let sources = json!([{"path": "db"}, {"path": "more", "optional": true}]);
    world.apply("app", json!({ "sources": sources })).await;
    world.synced("app", &[("v", "1")]).await;

    world.domain.put("more", json!({"w": "1"}));
    world.synced("app", &[("v", "1"), ("w", "1")]).await;
    world.domain.deactivate("more", 1).unwrap();
    world.synced("app", &[("v", "1")]).await;
    eventually("the status shows the states of both", async || {
        let sources = world.object("app").await.status.unwrap().sources.unwrap();
        let states: Vec<_> = sources.iter().map(|source| source.state.as_deref().unwrap_or_default()).collect();
        if states == ["Active", "Deactivated"] { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await;
    world.domain.activate("more", 1).unwrap();
    world.synced("app", &[("v", "1"), ("w", "1")]).await;

    // It goes while nobody looks.
    world.stop().await;
    world.domain.delete("more").unwrap();
    world.start();
    world.synced("app", &[("v", "1")]).await;
    world.domain.put("more", json!({"w": "2"}));
    world.synced("app", &[("v", "1"), ("w", "2")]).await;
    let kept = Kept::of(&world, "app").await;

    // Refused is not missing: what was read from there stays, and a new object is not made without it.
    let grants = Grants::nothing().and(&[Action::SecretGet, Action::VersionGetData], &["db"]);
    world.domain.grant(&world.certificate.serial, grants).unwrap();
    world.apply("new", json!({ "sources": sources })).await;
    fails(&world, "new", "Forbidden", &["refuses to read more"]).await;
    assert!(world.secret("new").await.is_none());
    fails(&world, "app", "Forbidden", &["refuses to read more"]).await;
    kept.assert(&world, "refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_retain_what_an_optional_source_gave_stays() {
    let world = World::new("optional-retain").await;
    world.domain.put("db", json!({"v": "1"}));
    world.domain.put("more", json!({"w": "1"}));
    let sources = json!([{"path": "db"}, {"path": "more", "optional": true}]);
    world.patch_store(json!({"spec": {"withdrawalPolicy": "Retain"}})).await;
    world.apply("app", json!({ "sources": sources })).await;
    world.synced("app", &[("v", "1"), ("w", "1")]).await;
    world.domain.deactivate("more", 1).unwrap();
    fails(&world, "app", "VersionDeactivated", &["more@1", "Retain"]).await;
    assert!(holds(&world.secret("app").await.unwrap(), &[("v", "1"), ("w", "1")]));
    // The store's policy changes without a new generation of the object.
    world.patch_store(json!({"spec": {"withdrawalPolicy": "Delete"}})).await;
    world.synced("app", &[("v", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_last_optional_source_goes_the_secret_goes() {
    let world = World::new("all-optional").await;
    world.domain.put("a", json!({"v": "1"}));
    let sources = json!([{"path": "a", "optional": true}, {"path": "b", "optional": true}]);
    world.apply("app", json!({ "sources": sources })).await;
    world.synced("app", &[("v", "1")]).await;
    world.domain.deactivate("a", 1).unwrap();
    fails(&world, "app", "VersionDeactivated", &["a@1", "the Secret is deleted"]).await;
    world.gone("app").await;
    world.domain.put("b", json!({"w": "1"}));
    world.synced("app", &[("w", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_optional_sources_gave_goes_within_the_budget_for_withdrawals() {
    let world = World::new("optional-budget").await;
    world.domain.put("db", json!({"v": "1"}));
    let names: Vec<String> = (0..12).map(|n| format!("s{n:02}")).collect();
    for name in &names {
        world.domain.put(name, json!({"w": "1"}));
        let sources = json!([{"path": "db"}, {"path": name, "optional": true}]);
        world.apply(name, json!({ "sources": sources })).await;
    }
    join_all(names.iter().map(|name| world.synced(name, &[("v", "1"), ("w", "1")]))).await;
    for name in &names {
        world.domain.deactivate(name, 1).unwrap();
    }
    let id = eventually("two are held", async || {
        let status = world.stores().get(&world.name).await.unwrap().status.unwrap();
        status.withdrawal_held.filter(|held| held.count == 2).map(|held| held.id).ok_or("they are not")
    })
    .await;
    let smaller = eventually("ten have lost what was deactivated", async || {
        let secrets = join_all(names.iter().map(|name| world.secret(name))).await;
        let smaller = secrets.iter().flatten().filter(|secret| holds(secret, &[("v", "1")])).count();
        if smaller == 10 { Ok(smaller) } else { Err(smaller) }
    })
    .await;
    assert_eq!(smaller, 10);
    world.patch_store(json!({"metadata": {"annotations": {"okms-operator.io/confirm-withdrawal": id}}})).await;
    join_all(names.iter().map(|name| world.synced(name, &[("v", "1")]))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_and_its_key_in_two_paths_never_stand_mixed() {
    let world = World::new("pair").await;
    let pairs = [(); 4].map(|()| world.domain.issue_client_certificate(Validity::days(1)).unwrap());
    let put = |n: usize| {
        world.domain.put("web/crt", json!({"crt": pairs[n].cert_pem}));
        world.domain.put("web/key", json!({"key": pairs[n].key_pem}));
    };
    put(0);
    let sources = json!([
        {"path": "web/crt", "keys": [{"to": "tls.crt", "from": "crt"}]},
        {"path": "web/key", "keys": [{"to": "tls.key", "from": "key"}]},
    ]);
    world.apply("web", json!({"sources": sources, "target": {"type": "kubernetes.io/tls"}})).await;
    let data = |n: usize| [("tls.crt", pairs[n].cert_pem.as_str()), ("tls.key", pairs[n].key_pem.as_str())];
    world.synced("web", &data(0)).await;
    for n in 1..pairs.len() {
        put(n);
        world.synced("web", &data(n)).await;
    }
    // Half a rotation is told, and the whole pair that was there stays.
    world.domain.put("web/crt", json!({"crt": pairs[0].cert_pem}));
    fails(&world, "web", "InvalidForType", &["web/crt, web/key", "tls.key is not the key of the first certificate"])
        .await;
    assert!(holds(&world.secret("web").await.unwrap(), &data(3)));
    world.domain.put("web/key", json!({"key": pairs[0].key_pem}));
    world.synced("web", &data(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_not_what_is_to_be_decoded_is_named() {
    let world = World::new("decode").await;
    world.domain.put("store", json!({"jks": "/u3+7Q==", "bad": "not base64!", "number": 7}));
    let key = |from: &str, decode: &str| json!([{"to": "k", "from": from, "decode": decode}]);
    world.apply("good", json!({"path": "store", "keys": key("jks", "Base64")})).await;
    eventually("the bytes are there", async || {
        let bytes = world.secret("good").await.and_then(|secret| secret.data?.remove("k"));
        bytes.filter(|bytes| bytes.0 == [0xfe, 0xed, 0xfe, 0xed]).map(drop).ok_or("they are not")
    })
    .await;
    world.apply("auto", json!({"path": "store", "keys": key("bad", "Auto")})).await;
    world.synced("auto", &[("k", "not base64!")]).await;
    for (name, from, decode) in [("bad", "bad", "Base64"), ("number", "number", "Base64"), ("url", "jks", "Base64URL")]
    {
        world.apply(name, json!({"path": "store", "keys": key(from, decode)})).await;
        fails(&world, name, "DecodeFailed", &[&format!("\"{from}\" of store"), "the key k", decode, "correct it"])
            .await;
        assert!(world.secret(name).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kept_it_from_rendering_may_go_away_with_its_source() {
    let world = World::new("unrenderable").await;
    world.domain.put("a", json!({"a": "1"}));
    world.domain.put("b", json!({"b": "1"}));
    let sources = json!([{"path": "a"}, {"path": "b", "optional": true}]);
    world.apply("app", json!({ "sources": sources })).await;
    world.synced("app", &[("a", "1"), ("b", "1")]).await;
    world.domain.put("b", json!({"a": "2"}));
    fails(&world, "app", "KeyConflict", &["the key a comes from a and from b"]).await;
    // Never written.
    world.apply("new", json!({ "sources": sources })).await;
    fails(&world, "new", "KeyConflict", &["the key a comes from a and from b"]).await;
    world.domain.delete("b").unwrap();
    world.synced("app", &[("a", "1")]).await;
    world.synced("new", &[("a", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_render_is_said_again_after_what_came_between() {
    let world = World::new("said-again").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    world.apply("db", json!({"path": "db", "keys": [{"to": "x", "from": "missing"}]})).await;
    fails(&world, "db", "KeyNotFound", &["missing"]).await;
    let access = |namespace: &str| json!({"spec": {"access": [{"namespaces": [namespace], "paths": ["*"]}]}});
    world.patch_store(access("nobody")).await;
    fails(&world, "db", "AccessDenied", &[]).await;
    world.patch_store(access(&world.name)).await;
    fails(&world, "db", "KeyNotFound", &["missing"]).await;
    world.sim.stop().await;
    fails(&world, "db", "StoreNotReady", &[]).await;
    world.sim.restart().await.unwrap();
    fails(&world, "db", "KeyNotFound", &["missing"]).await;
    // And it is not read again and again to find out the same.
    let reads = world.sim.counters().data_reads;
    world.after_checks(6).await;
    assert_eq!(world.sim.counters().data_reads, reads);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_named_twice_is_read_once_and_gives_both_their_keys() {
    let world = World::new("twice").await;
    world.domain.put("db", json!({"user": "app", "password": "one"}));
    let sources = json!([
        {"path": "db", "keys": [{"to": "USER", "from": "user"}]},
        {"path": "db", "prefix": "COPY_", "keys": [{"to": "PASSWORD", "from": "password"}], "optional": true},
    ]);
    let before = world.sim.counters().data_reads;
    world.apply("app", json!({ "sources": sources })).await;
    let data = |password| [("USER", "app"), ("COPY_PASSWORD", password)];
    world.synced("app", &data("one")).await;
    assert_eq!(world.sim.counters().data_reads - before, 1);
    let status = world.object("app").await.status.unwrap();
    let shown: Vec<_> = status.sources.unwrap().into_iter().map(|source| (source.path, source.version)).collect();
    assert_eq!(shown, [("db".to_owned(), Some(1)), ("db".to_owned(), Some(1))]);

    world.domain.put("db", json!({"user": "app", "password": "two"}));
    world.synced("app", &data("two")).await;
    assert_eq!(world.sim.counters().data_reads - before, 2);
    // One of the two is required.
    world.domain.deactivate("db", 2).unwrap();
    fails(&world, "app", "VersionDeactivated", &["db@2 was deactivated", "the Secret is deleted"]).await;
    world.gone("app").await;
    world.domain.activate("db", 2).unwrap();
    world.synced("app", &data("two")).await;

    // It is followed as long as one of them is there.
    world.apply("app", json!({"sources": [sources[1], {"path": "other", "optional": true}]})).await;
    world.synced("app", &data("two")[1..]).await;
    world.domain.put("db", json!({"user": "app", "password": "three"}));
    world.synced("app", &data("three")[1..]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_secrets_that_change_together_are_written_together() {
    let world = World::new("sixteen").await;
    let path = |n: usize| format!("part/{n:02}");
    let put = |changed: &[usize], value: &str| {
        // At one moment, as far as OKMS shows.
        let frozen = world.sim.fault(Fault::new(FaultKind::FrozenReads));
        for n in changed {
            world.domain.put(&path(*n), json!({ "v": value }));
        }
        world.sim.clear_fault(frozen);
    };
    let all: Vec<usize> = (0..16).collect();
    put(&all, "0");
    let sources: Vec<_> = all.iter().map(|n| json!({"path": path(*n), "prefix": format!("P{n:02}_")})).collect();
    world.apply("app", json!({ "sources": sources })).await;
    let mut expected = vec!["0".to_owned(); 16];
    let data = |values: &[String]| -> Vec<(String, String)> {
        values.iter().enumerate().map(|(n, value)| (format!("P{n:02}_v"), value.clone())).collect()
    };
    let synced = async |values: &[String]| {
        let data = data(values);
        let data: Vec<_> = data.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        world.synced("app", &data).await;
    };
    synced(&expected).await;

    // What the Secret held, each time that it was written.
    let held: Arc<Mutex<Vec<Contents>>> = Arc::default();
    let written = held.clone();
    let _watch = watched(world.secrets(), move |secret| {
        let text = |bytes: ByteString| String::from_utf8(bytes.0).unwrap();
        let data = secret.data.unwrap().into_iter().map(|(key, value)| (key, text(value))).collect();
        written.lock().unwrap().push(data);
    })
    .await;
    let rounds: [&[usize]; 4] = [&[0, 3, 5, 8, 15], &all, &[7], &[1, 2, 3, 4, 5, 6]];
    let mut history = vec![data(&expected)];
    for (round, changed) in rounds.iter().enumerate() {
        let value = (round + 1).to_string();
        put(changed, &value);
        for n in *changed {
            expected[*n].clone_from(&value);
        }
        synced(&expected).await;
        history.push(data(&expected));
    }
    world.after_checks(32).await;
    eventually("every write was seen", async || {
        let seen = held.lock().unwrap().clone();
        if seen.last() == history.last() { Ok(()) } else { Err(seen.len()) }
    })
    .await;
    // Neither a mix, nor a second write of the same.
    assert_eq!(*held.lock().unwrap(), history);
}
