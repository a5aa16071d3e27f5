//! Targets that get another name or type: what was there stays until what replaces it is there, and two objects that want each
//! other's names lose nothing.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use api_proxy::{Fault, Matching, Verb};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::DeleteParams,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use okms_operator::controller::{Config, health::Health};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    bad_input::fails,
    kept::Kept,
    merges::merge,
    policy,
    proxied::{ANSWER, Proxied},
    targets::{allow, create, edit, holding},
    world::{World, eventually, holds},
};

/// When Secrets of a world came and went: `+name` and `-name`, in the order of the API server.
struct Comings {
    seen: Arc<Mutex<Vec<String>>>,
    _watch: AbortOnDropHandle<()>,
}

impl Comings {
    /// Starts to watch, and waits until it sees what is there.
    async fn of(world: &World) -> Self {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (written, api): (_, Api<Secret>) = (seen.clone(), world.secrets());
        let (listed, is_listed) = tokio::sync::oneshot::channel();
        let watch = tokio::spawn(async move {
            let mut listed = Some(listed);
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
            while let Some(event) = events.next().await {
                let mut seen = written.lock().unwrap();
                match event {
                    Ok(Event::Apply(secret) | Event::InitApply(secret)) => {
                        let came = format!("+{}", secret.name_any());
                        let known = seen.iter().rfind(|known| known[1..] == came[1..]);
                        if known.is_none_or(|known| *known != came) {
                            seen.push(came);
                        }
                    }
                    Ok(Event::Delete(secret)) => seen.push(format!("-{}", secret.name_any())),
                    // A failed watch starts anew by itself.
                    Ok(Event::Init) | Err(_) => {}
                    Ok(Event::InitDone) => drop(listed.take().map(|listed| listed.send(()))),
                }
            }
        });
        is_listed.await.unwrap();
        Self { seen, _watch: AbortOnDropHandle::new(watch) }
    }

    fn all(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until the last that is seen is this; answers everything.
    async fn until(&self, last: &str) -> Vec<String> {
        eventually(&format!("{last} is seen"), async || {
            let all = self.all();
            if all.last().is_some_and(|seen| seen == last) { Ok(all) } else { Err(all) }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_keeps_the_old_secret_until_the_new_one_is_there() {
    let world = World::new("rename-taken").await;
    world.domain.put("db", json!({"v": "1"}));
    let named = |name: &str| json!({"path": "db", "target": {"name": name}});
    world.apply("db", named("first")).await;
    world.synced("db", &[("v", "1")]).await;
    let first = Kept::of(&world, "first").await;
    for name in ["second", "third"] {
        create(&world, name, json!({"stringData": {"theirs": "x"}})).await;
    }
    let comings = Comings::of(&world).await;

    // The one that is in the way goes.
    let theirs = Kept::of(&world, "second").await;
    world.apply("db", named("second")).await;
    fails(&world, "db", "TargetNotOwned", &["Secret second exists already", "last written by somebody"]).await;
    world.domain.put("other", json!({"v": "1"}));
    world.apply("other", json!({"path": "other"})).await;
    world.synced("other", &[("v", "1")]).await;
    world.after_checks(3).await;
    first.assert(&world, "while its next name is taken").await;
    theirs.assert(&world, "while somebody wants its name").await;
    world.secrets().delete("second", &DeleteParams::default()).await.unwrap();
    world.synced("db", &[("v", "1")]).await;
    let seen = comings.until("-first").await;
    assert_eq!(seen[seen.len() - 3..], ["-second", "+second", "-first"], "{seen:?}");

    // The one that is in the way is given.
    let theirs = Kept::of(&world, "third").await;
    world.apply("db", named("third")).await;
    let command = "kubectl annotate secret third okms-operator.io/allow=db";
    fails(&world, "db", "TargetNotOwned", &["Secret third exists already", command]).await;
    assert!(holds(&world.secret("second").await.unwrap(), &[("v", "1")]));
    edit(&world, "third", "somebody", allow("db")).await;
    let third = world.synced("db", &[("v", "1")]).await;
    assert_eq!(third.uid(), theirs.uid());
    comings.until("-second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_objects_that_swap_their_names_lose_nothing_and_are_told_of_each_other() {
    let world = World::new("swap").await;
    let spec = |path: &str, target: &str| json!({"path": path, "target": {"name": target}});
    for (path, target) in [("a", "x"), ("b", "y")] {
        world.domain.put(path, json!({"v": path}));
        world.apply(path, spec(path, target)).await;
    }
    world.synced("a", &[("v", "a")]).await;
    world.synced("b", &[("v", "b")]).await;
    let kept = [Kept::of(&world, "x").await, Kept::of(&world, "y").await];
    tokio::join!(world.apply("a", spec("a", "y")), world.apply("b", spec("b", "x")));
    fails(&world, "a", "TargetNotOwned", &["Secret y exists", "controlled by OkmsSecret b", "spec.target.name"]).await;
    fails(&world, "b", "TargetNotOwned", &["Secret x exists", "controlled by OkmsSecret a", "spec.target.name"]).await;
    world.domain.put("other", json!({"v": "1"}));
    world.apply("other", json!({"path": "other"})).await;
    world.synced("other", &[("v", "1")]).await;
    world.after_checks(3).await;
    for kept in &kept {
        kept.assert(&world, "while each waits for the other").await;
    }

    // The way out is a third name, which is what they are told.
    world.apply("a", spec("a", "z")).await;
    world.synced("a", &[("v", "a")]).await;
    world.synced("b", &[("v", "b")]).await;
    assert!(holds(&world.secret("x").await.unwrap(), &[("v", "b")]));
    world.gone("y").await;
    world.apply("a", spec("a", "y")).await;
    world.synced("a", &[("v", "a")]).await;
    world.gone("z").await;
    assert!(holds(&world.secret("y").await.unwrap(), &[("v", "a")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_objects_that_merge_swap_their_secrets() {
    let world = World::new("swap-merged").await;
    for target in ["x", "y"] {
        let annotations = allow("a,b")["metadata"]["annotations"].clone();
        let metadata = json!({"name": target, "annotations": annotations});
        create(&world, target, json!({"metadata": metadata, "stringData": {"theirs": target}})).await;
    }
    for (path, target) in [("a", "x"), ("b", "y")] {
        world.domain.put(path, json!({ path: "1" }));
        world.apply(path, merge(path, target)).await;
    }
    holding(&world, "x", &[("theirs", "x"), ("a", "1")]).await;
    holding(&world, "y", &[("theirs", "y"), ("b", "1")]).await;
    tokio::join!(world.apply("a", merge("a", "y")), world.apply("b", merge("b", "x")));
    let x = holding(&world, "x", &[("theirs", "x"), ("b", "1")]).await;
    let y = holding(&world, "y", &[("theirs", "y"), ("a", "1")]).await;
    for (secret, object) in [(x, "b"), (y, "a")] {
        world.ready(object, "True", "Synced").await;
        let ours = format!("merged.okms-operator.io/{}", world.object(object).await.uid().unwrap());
        let shares: Vec<_> = secret.annotations().keys().filter(|key| key.starts_with("merged.")).collect();
        assert_eq!(shares, [&ours]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_type_that_a_policy_refuses_leaves_the_old_secret() {
    let world = World::new("type-refused").await;
    world.domain.put("db", json!({"username": "a", "password": "b"}));
    let data = [("username", "a"), ("password", "b")];
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &data).await;
    let kept = Kept::of(&world, "db").await;
    let comings = Comings::of(&world).await;
    let refused = policy::refuse(&world, "object.type == 'kubernetes.io/basic-auth'", "ask the platform team").await;
    let typed = json!({"path": "db", "target": {"type": "kubernetes.io/basic-auth"}});
    world.apply("db", typed.clone()).await;
    fails(&world, "db", "TargetRefused", &["the API server refuses the Secret", "ask the platform team"]).await;
    world.domain.put("other", json!({"v": "1"}));
    world.apply("other", json!({"path": "other"})).await;
    world.synced("other", &[("v", "1")]).await;
    world.after_checks(3).await;
    kept.assert(&world, "of the type that it had").await;
    assert_eq!(comings.all().iter().filter(|seen| *seen == "-db").count(), 0);
    refused.lift(&world).await;
    let secret = world.synced("db", &data).await;
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/basic-auth"));
}

/// A Secret is not deleted by who may not be there any more to make it again.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_to_stop_begins_no_replacement() {
    let mut of = Proxied::new("type-stop").await;
    of.answer = ANSWER * 10;
    of.world.create_store(json!({})).await;
    of.start(of.world.config(), Health::default());
    of.world.domain.put("db", json!({"username": "a", "password": "b"}));
    let data = [("username", "a"), ("password", "b")];
    of.world.apply("db", json!({"path": "db"})).await;
    of.world.synced("db", &data).await;
    let kept = Kept::of(&of.world, "db").await;

    // First it asks whether it could be made.
    let creates = Matching::verbs(&[Verb::Create]).of("secrets").in_namespace(&of.world.name);
    let late = of.proxy.fault(Fault::delay(ANSWER).hitting(creates).times(1));
    of.world.apply("db", json!({"path": "db", "target": {"type": "kubernetes.io/basic-auth"}})).await;
    of.proxy.wait_until(|records| records.iter().any(|record| record.faults.contains(&late))).await;
    of.world.stop().await;
    kept.assert(&of.world, "it stopped before it began").await;

    of.start(of.world.config(), Health::default());
    let replaced = of.world.synced("db", &data).await;
    assert_eq!(replaced.type_.as_deref(), Some("kubernetes.io/basic-auth"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_is_refused_only_in_earnest_brings_the_old_secret_back_and_waits() {
    let mut world = World::without_operator("type-refused-late").await;
    world.create_store(json!({})).await;
    let pause = Duration::from_secs(4);
    world.start_with(Config { retry_refused: pause, ..world.config() });
    world.domain.put("db", json!({"username": "a", "password": "b"}));
    let data = [("username", "a"), ("password", "b")];
    world.apply("db", json!({"path": "db", "target": {"labels": {"team": "shop"}}})).await;
    world.synced("db", &data).await;
    let comings = Comings::of(&world).await;
    // The trial has another name.
    let of_that_name = "object.metadata.name == 'db' && object.type == 'kubernetes.io/basic-auth'";
    let refused = policy::refuse(&world, of_that_name, "ask the platform team").await;
    let typed = json!({"path": "db", "target": {"type": "kubernetes.io/basic-auth", "labels": {"team": "shop"}}});
    let start = Instant::now();
    world.apply("db", typed).await;
    fails(&world, "db", "TargetRefused", &["the API server refuses the Secret", "ask the platform team"]).await;
    // A new version changes nothing about it either.
    world.domain.put("db", json!({"username": "a", "password": "b"}));
    world.after_checks(6).await;
    fails(&world, "db", "TargetRefused", &["the API server refuses the Secret", "ask the platform team"]).await;
    // It may be away for the moment that an attempt takes.
    let old = eventually("the old one is there", async || world.secret("db").await.ok_or("it is not")).await;
    assert!(holds(&old, &data) && old.labels()["team"] == "shop" && old.owner_references().len() == 1);
    assert_ne!(old.type_.as_deref(), Some("kubernetes.io/basic-auth"));
    let tried = comings.all().iter().filter(|seen| *seen == "-db").count();
    let most = 1 + start.elapsed().as_secs() / pause.as_secs();
    assert!((1..=most).contains(&(tried as u64)), "{tried} times, and not {most}: {:?}", comings.all());
    refused.lift(&world).await;
    eventually("it is replaced", async || {
        let now = world.secret("db").await.and_then(|secret| secret.type_);
        if now.as_deref() == Some("kubernetes.io/basic-auth") { Ok(()) } else { Err(now) }
    })
    .await;
    world.synced("db", &data).await;
}
