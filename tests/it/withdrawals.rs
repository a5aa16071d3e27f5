//! What may delete a Secret, and what may not: only what was made from the source that was taken back, also while the operator was
//! down, and not too much at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use okms_operator::{
    api::condition,
    controller::{Config, health::Health},
};
use okms_sim::{Fault, Validity};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    bad_input::{fails, has},
    kept::Kept,
    merges::merge,
    tapped::{self, Fate},
    targets::{allow, create, holding},
    world::{World, client_config, eventually, message, ready_of},
};

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
    world.start();

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
    world.start();
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
        async move { api.list(&ListParams::default()).await.unwrap().items.len() }
    };
    eventually("ten are gone", async || match secrets(&world).await {
        7 => Ok(()),
        left => Err(left),
    })
    .await;
    // The store's status may be there before that of the last of them.
    let waiting = eventually("four are told that they are held", async || {
        let objects = world.objects().list(&ListParams::default()).await.unwrap().items;
        let is_held = |object: &&_| ready_of(object).is_some_and(|(_, reason, _)| reason == "WithdrawalHeld");
        let waiting: Vec<String> = objects.iter().filter(is_held).map(ResourceExt::name_any).collect();
        if waiting.len() == 4 { Ok(waiting) } else { Err(waiting) }
    })
    .await;
    let words = ["the Secret is kept", "too many", &world.name, "spec.maxWithdrawalsPerHour"];
    join_all(waiting.iter().map(|name| fails(&world, name, "WithdrawalHeld", &words))).await;

    // The set grows: the first id goes on naming what it named, and nothing else.
    world.domain.deactivate(&name(14), 1).unwrap();
    world.domain.deactivate(&name(15), 1).unwrap();
    let second = held(&world, 6).await;
    assert_ne!(first, second);
    confirm(&world, &first).await;
    eventually("those that it named are gone", async || match secrets(&world).await {
        3 => Ok(()),
        left => Err(left),
    })
    .await;
    world.after_checks(20).await;
    assert_eq!((secrets(&world).await, held(&world, 2).await), (3, second.clone()), "it let others go");

    // Neither an outage nor a restart, nor both, lets them go.
    world.sim.stop().await;
    world.store_ready("False", "OkmsUnavailable").await;
    fails(&world, &name(16), "StoreNotReady", &[]).await;
    world.stop().await;
    world.start();
    world.store_ready("False", "OkmsUnavailable").await;
    world.sim.restart().await.unwrap();
    world.ready(&name(16), "True", "Synced").await;
    assert_eq!(held(&world, 2).await, second, "the same set has the same id");
    world.after_checks(20).await;
    assert_eq!(secrets(&world).await, 3, "a restart let some go");

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

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_secret_that_somebody_deletes_has_no_keys() {
    let world = World::new("retained-gone").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db", "withdrawalPolicy": "Retain"})).await;
    world.synced("db", &[("v", "1")]).await;
    world.domain.deactivate("db", 1).unwrap();
    world.ready("db", "False", "VersionDeactivated").await;
    world.secrets().delete("db", &DeleteParams::default()).await.unwrap();
    eventually("the status counts no keys", async || {
        let status = world.objects().get("db").await.unwrap().status.unwrap();
        match status.target.map(|target| target.keys) {
            Some(0) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_is_good_for_one_set_and_outlives_a_restart() {
    let mut world = World::new("episode").await;
    let name = |n: usize| format!("s{n:02}");
    for n in 0..13 {
        world.domain.put(&name(n), json!({"v": "1"}));
        world.apply(&name(n), json!({"path": name(n)})).await;
    }
    join_all((0..13).map(async |n| world.synced(&name(n), &[("v", "1")]).await)).await;
    for n in 0..10 {
        world.domain.deactivate(&name(n), 1).unwrap();
    }
    join_all((0..10).map(async |n| world.gone(&name(n)).await)).await;
    // The budget is used up, so that these are held.
    let rest = [10, 11, 12].map(name);
    for name in &rest {
        world.domain.deactivate(name, 1).unwrap();
    }
    let first = held(&world, 3).await;
    confirm(&world, &first).await;
    join_all(rest.iter().map(|name| world.gone(name))).await;

    // They come back, and go again; the annotation was left where it is.
    for name in &rest {
        world.domain.activate(name, 1).unwrap();
    }
    join_all(rest.iter().map(|name| world.synced(name, &[("v", "1")]))).await;
    let [edited, paused, left] = &rest;
    world.domain.delete(edited).unwrap();
    world.domain.deactivate(paused, 1).unwrap();
    world.domain.deactivate(left, 1).unwrap();
    let second = held(&world, 3).await;
    assert_ne!(first, second);
    // What is done to an OkmsSecret meanwhile confirms nothing. Edited, it belongs to the same set.
    let label = json!({"path": edited, "target": {"labels": {"edited": "yes"}}});
    world.apply(edited, label).await;
    world.ready(edited, "False", "WithdrawalHeld").await;
    assert_eq!(held(&world, 3).await, second);
    // Suspended, it is not told of, and is new to the set when it comes back.
    world.apply(paused, json!({"path": paused, "suspend": true})).await;
    world.ready(paused, "Unknown", "Suspended").await;
    assert_eq!(held(&world, 2).await, second);
    world.apply(paused, json!({"path": paused})).await;
    world.ready(paused, "False", "WithdrawalHeld").await;
    let (used, second) = (second, held(&world, 3).await);
    assert_ne!(used, second);
    world.after_checks(20).await;
    world.stop().await;
    world.start();
    world.after_checks(20).await;
    assert_eq!(held(&world, 3).await, second, "the same set has the same id after a restart");
    for name in &rest {
        assert!(world.secret(name).await.is_some(), "{name} went by a confirmation that was used before");
    }

    // Confirmed, but the operator ends before it can do anything about it.
    world.kill().await;
    let annotations = json!({"okms-operator.io/confirm-withdrawal": second});
    world.patch_store(json!({"metadata": {"annotations": annotations}})).await;
    world.start();
    join_all(rest.iter().map(|name| world.gone(name))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_merged_is_withdrawn_while_somebody_else_keeps_writing() {
    let mut world = World::without_operator("merge-busy").await;
    world.create_store(json!({})).await;
    // Every other write of the operator takes so long that one of somebody else's comes before it.
    let written_to = format!("PATCH /api/v1/namespaces/{}/secrets/app", world.name);
    let tries = AtomicU64::new(0);
    let client = tapped::unreliable(client_config().await, move |request| {
        let is_late = request == written_to && tries.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        Fate::Late(if is_late { Duration::from_millis(500) } else { Duration::ZERO })
    });
    // Else what is left of the time for a test may be one long wait.
    let config = Config { backoff_cap: Duration::from_secs(1), ..world.config() };
    world.start_as(config, client, Health::default());
    let annotations = allow("a,b")["metadata"]["annotations"].clone();
    let metadata = json!({"name": "app", "annotations": annotations});
    create(&world, "app", json!({"metadata": metadata, "stringData": {"theirs": "0"}})).await;
    for name in ["a", "b"] {
        world.domain.put(name, json!({ name: "1" }));
        world.apply(name, merge(name, "app")).await;
        world.ready(name, "True", "Synced").await;
    }
    holding(&world, "app", &[("theirs", "0"), ("a", "1"), ("b", "1")]).await;

    let secrets = world.secrets();
    let writes = Arc::new(AtomicU64::new(0));
    let written = writes.clone();
    let busy = AbortOnDropHandle::new(tokio::spawn(async move {
        let params = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
        for n in 1_u64.. {
            let theirs = Patch::Merge(json!({"stringData": {"theirs": n.to_string()}}));
            secrets.patch("app", &params, &theirs).await.unwrap();
            written.store(n, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }));
    let beside = async |keys: &[&str]| {
        eventually(&format!("{keys:?} are there beside theirs"), async || {
            let written = writes.load(Ordering::SeqCst);
            let data = world.secret("app").await.unwrap().data.unwrap();
            let ours: Vec<&str> = data.keys().map(String::as_str).filter(|key| *key != "theirs").collect();
            let theirs: u64 = String::from_utf8(data["theirs"].0.clone()).unwrap().parse().unwrap();
            assert!(theirs >= written, "what somebody wrote was undone: {theirs} and not {written}");
            if ours == keys { Ok(()) } else { Err(format!("{ours:?}")) }
        })
        .await;
    };
    // As many in an hour as a small store may: each counts once, however often it is tried.
    for _ in 0..5 {
        for name in ["a", "b"] {
            world.domain.deactivate(name, 1).unwrap();
        }
        for name in ["a", "b"] {
            fails(&world, name, "VersionDeactivated", &["its keys are removed"]).await;
        }
        beside(&[]).await;
        for name in ["a", "b"] {
            world.domain.activate(name, 1).unwrap();
        }
        beside(&["a", "b"]).await;
        for name in ["a", "b"] {
            world.ready(name, "True", "Synced").await;
        }
    }
    drop(busy);
    let metrics = world.operator.as_ref().unwrap().metrics.encode();
    assert!(!metrics.contains("okms_operator_reconciles_total{outcome=\"conflicted\"} 0"), "nobody was in the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_told_as_one_though_its_status_could_not_be_written_at_first() {
    let mut world = World::without_operator("untold").await;
    world.create_store(json!({})).await;
    let status = format!("PATCH /apis/okms-operator.io/v1alpha1/namespaces/{}/okmssecrets/db/status", world.name);
    let (mute, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (is_mute, loses) = (mute.clone(), lost.clone());
    let client = tapped::unreliable(client_config().await, move |request| {
        if request == status && is_mute.load(Ordering::SeqCst) {
            loses.fetch_add(1, Ordering::SeqCst);
            return Fate::Lost;
        }
        Fate::Late(Duration::ZERO)
    });
    let config = Config { backoff_cap: Duration::from_secs(1), ..world.config() };
    world.start_as(config, client, Health::default());
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    mute.store(true, Ordering::SeqCst);
    world.domain.delete("db").unwrap();
    world.gone("db").await;
    eventually("its status was tried twice", async || match lost.load(Ordering::SeqCst) {
        tried @ ..2 => Err(tried),
        _ => Ok(()),
    })
    .await;
    // Nothing more can be found out.
    world.sim.fault(Fault::status(503));
    mute.store(false, Ordering::SeqCst);
    fails(&world, "db", "SecretDeleted", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_secret_that_a_finalizer_keeps_is_said_to_be_there_and_deleted_once() {
    let world = World::new("finalizer").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let change = async |metadata: serde_json::Value| {
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        world.secrets().patch("db", &PatchParams::default(), &patch).await.unwrap();
    };
    change(json!({"finalizers": ["example.com/hold"]})).await;
    world.domain.deactivate("db", 1).unwrap();
    fails(&world, "db", "VersionDeactivated", &["still there", "finalizers", "example.com/hold"]).await;
    let deleted = || {
        let text = world.operator.as_ref().unwrap().metrics.encode();
        let mut counts = text.lines().filter(|line| line.starts_with("okms_withdrawals_total{"));
        counts.next().and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
    };
    assert_eq!(deleted().as_deref(), Some("1"));
    change(json!({"annotations": {"example.com/touched": "yes"}})).await;
    world.after_checks(3).await;
    assert_eq!(deleted().as_deref(), Some("1"), "it is deleted again");
    change(json!({"finalizers": null})).await;
    world.gone("db").await;
    eventually("the status says that it is gone", async || {
        let said = message(&world.object("db").await);
        if said.contains("still there") { Err(said) } else { Ok(()) }
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

/// The domain that the store named before takes the source back, while what it names now does not work.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_on_the_word_of_a_domain_that_its_store_does_not_name_any_more() {
    let mut world = World::new("elsewhere").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    let secret = world.synced("db", &[("v", "1")]).await;
    let elsewhere = world.sim.add_domain().okms_id();
    world.patch_store(json!({"spec": {"okmsId": elsewhere}})).await;
    eventually("the store says that it cannot be used as it stands", async || {
        let status = world.stores().get(&world.name).await.unwrap().status;
        let ready = status.as_ref().and_then(|status| condition::find(&status.conditions, "Ready"));
        if ready.is_some_and(|ready| ready.status == "False") { Ok(()) } else { Err(status) }
    })
    .await;
    world.domain.deactivate("db", 1).unwrap();
    fails(&world, "db", "StoreNotReady", &["provide one of the domain in okmsId"]).await;
    assert_eq!(world.secret("db").await.unwrap().metadata.uid, secret.metadata.uid);

    world.patch_store(json!({"spec": {"okmsId": null}})).await;
    world.ready("db", "False", "VersionDeactivated").await;
    assert!(world.secret("db").await.is_none());
    world.stop().await;
}
