//! Values of secrets are in the Secrets and nowhere else: not in logs at their finest, events, statuses, metrics or what a panic prints,
//! whatever goes wrong. Each value here is a canary; the searches are shown to find one.
//!
//! [`search`] looks for canaries, [`shaped`] is about what is made of several secrets, by templates, or together with somebody else,
//! [`credentials`] about what the operator authenticates with.

mod credentials;
mod search;
mod shaped;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{LazyLock, atomic::Ordering},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use okms_sim::{Fault, FaultKind, Operation};
use serde_json::{Value, json};

use self::search::{CHARGE, Canary, EXPLOSIONS, LOG, hits, log};
use crate::{
    policy,
    world::{World, eventually, message, ready_of},
};

/// A policy that quotes what it refuses, as badly as one can, for every Secret of the namespace whose name begins with `refused-`.
async fn refuse_and_quote(world: &World) {
    let quote = |then: &str, quoted: &str| {
        json!({
            "expression": format!("!object.metadata.name.startsWith('refused-{then}')"),
            "message": "refused",
            "messageExpression": format!("'refused, because of ' + {quoted}"),
        })
    };
    let validations = json!([
        quote("whole", "object.data['v']"),
        quote("part", "object.data['v'].substring(8, 48)"),
        quote("silent", "'its name'"),
    ]);
    policy::create(world, validations).await;
    // It is in force once it refuses, and does quote.
    let trial: Secret =
        serde_json::from_value(json!({"metadata": {"name": "refused-whole"}, "stringData": {"v": "what it quotes, in base64, but not at an end"}}))
            .unwrap();
    eventually("the policy refuses and quotes", async || match policy::dry_run(world, &trial).await {
        Err(kube::Error::Api(status))
            if status.message.contains(&BASE64_STANDARD.encode("what it quotes, in base64, but not at an end")) =>
        {
            Ok(())
        }
        other => Err(format!("{:?}", other.map(drop))),
    })
    .await;
}

/// The secrets of the world: path, data with canaries, the spec beside the path, and the reason that comes of it.
fn secrets(canary: &mut impl FnMut() -> String) -> Vec<(&'static str, Value, Value, &'static str)> {
    let typed = |of: &str| json!({"target": {"type": of}});
    let long = canary().repeat(30_000);
    vec![
        ("good", json!({"v": canary(), "deep": {"er": [canary()]}}), json!({}), "Synced"),
        ("illegal", json!({"not a key": canary(), "v": canary()}), json!({}), "InvalidKey"),
        ("missing", json!({"v": canary()}), json!({"keys": [{"to": "v", "from": "w"}]}), "KeyNotFound"),
        ("deeper", json!({"v": {"w": canary()}}), json!({"keys": [{"to": "v", "from": "/v/x"}]}), "KeyNotFound"),
        ("tls", json!({"tls.crt": canary(), "tls.key": canary()}), typed("kubernetes.io/tls"), "InvalidForType"),
        (
            "pem",
            json!({
                "tls.crt": format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", canary()),
                "tls.key": format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", canary()),
            }),
            typed("kubernetes.io/tls"),
            "InvalidForType",
        ),
        ("registry", json!({".dockerconfigjson": canary()}), typed("kubernetes.io/dockerconfigjson"), "InvalidForType"),
        ("basic", json!({"user": canary()}), typed("kubernetes.io/basic-auth"), "InvalidForType"),
        ("wide", json!({"v": long}), json!({"keys": [{"to": "a", "from": "v"}, {"to": "b", "from": "v"}]}), "TooLarge"),
        ("refused-whole", json!({"v": canary()}), json!({}), "TargetRefused"),
        ("refused-part", json!({"v": canary()}), json!({}), "TargetRefused"),
        ("refused-silent", json!({"v": canary()}), json!({}), "TargetRefused"),
    ]
}

/// Bodies with a value where none should be: what the operator cannot read, it must not repeat.
fn odd_answers(canary: &mut impl FnMut() -> String) -> Vec<Fault> {
    let mut bodies = Vec::new();
    for (status, content_type) in
        [(200, "application/json"), (200, "text/html"), (404, "application/json"), (500, "text/plain")]
    {
        let value = canary();
        bodies.extend([
            (status, content_type, value.clone()),
            (status, content_type, format!("{{\"data\":{{\"current_version\":\"{value}\"}}}}")),
            (
                status,
                content_type,
                format!(
                    "{{\"data\":{{\"data\":{{\"v\":\"{value}\\ud800\"}},\"metadata\":{{\"version\":\"{value}\"}}}}}}"
                ),
            ),
            (status, content_type, format!("{{\"errors\":[\"{value}\"],\"error_code\":\"{value}\"}}")),
            (status, content_type, format!("{{\"data\":{{\"data\":{{\"v\":\"{value}\"}}")),
            (
                status,
                content_type,
                format!(
                    "{{\"data\":{{\"current_version\":1,\"versions\":{{\"1\":{{\"deletion_time\":\"{value}\"}}}}}}}}"
                ),
            ),
        ]);
    }
    let answers = bodies.into_iter().map(|(status, content_type, body)| Fault::answer(status, content_type, body));
    let value = canary();
    let headers = ["location", "content-type", "www-authenticate", "retry-after"];
    let headers = headers.map(|name| (name.to_owned(), value.clone())).into();
    answers.chain([Fault::new(FaultKind::Answer { status: 307, headers, body: value })]).collect()
}

fn faults() -> Vec<Fault> {
    let statuses = [400, 401, 403, 404, 409, 429, 500, 502, 503].map(Fault::status);
    let kinds = [
        FaultKind::ResetBeforeEffect,
        FaultKind::ResetAfterEffect,
        FaultKind::TruncatedBody,
        FaultKind::HtmlBadGateway,
        FaultKind::DomainNotFound,
        FaultKind::StaleReads { versions_back: 1 },
        FaultKind::FrozenReads,
        FaultKind::ReadOnly,
    ];
    let slow = [Fault::latency(Duration::from_secs(3)), Fault::slow_body(Duration::from_secs(3))];
    statuses.into_iter().chain(kinds.map(Fault::new)).chain(slow).collect()
}

/// A world full of canaries.
async fn aviary(canaries: &mut Vec<Canary>) -> World {
    LazyLock::force(&LOG);
    let mut world = World::without_operator("canary").await;
    world.sim.with_switches(|switches| switches.max_data_bytes = None);
    world.create_store(json!({"limits": {"timeout": "1s"}})).await;
    refuse_and_quote(&world).await;
    let mut canary = || {
        let canary = Canary::new();
        canaries.push(canary.clone());
        canary.0
    };
    let secrets = secrets(&mut canary);
    for (path, data, ..) in &secrets {
        world.domain.put(path, data.clone());
    }
    // What JSON allows and Unicode does not.
    let body = format!(
        "{{\"data\":{{\"data\":{{\"v\":\"{}\\ud800\"}},\"metadata\":{{\"version\":1,\"created_time\":\"\"}}}}}}",
        canary()
    );
    world.domain.put("surrogate", json!({"v": "x"}));
    let data = [Operation::GetSecretRequest];
    world.sim.fault(Fault::answer(200, "application/json", body).on_path("surrogate").on(&data));
    world.start();
    for (path, _, spec, _) in &secrets {
        let mut spec = spec.clone();
        spec["path"] = json!(path);
        world.apply(path, spec).await;
    }
    world.apply("surrogate", json!({"path": "surrogate"})).await;
    let reasons = secrets.iter().map(|(path, .., reason)| (*path, *reason)).chain([("surrogate", "DecodeFailed")]);
    join_all(reasons.map(async |(name, reason)| {
        eventually(&format!("{name} is {reason}"), async || match ready_of(&world.object(name).await) {
            Some((_, why, _)) if why == reason => Ok(()),
            other => Err(other),
        })
        .await;
    }))
    .await;
    world.sim.clear_faults();
    // The client's private key is a secret too.
    let key: String = world.certificate.key_pem.lines().filter(|line| !line.starts_with("---")).collect();
    canaries.push(Canary(key));
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_gets_out_whatever_goes_wrong() {
    let mut canaries = Vec::new();
    let world = aviary(&mut canaries).await;

    // Words of an API server that quote nothing are passed on, since nothing else would help.
    assert!(message(&world.object("refused-silent").await).contains("refused, because of its name"));
    for name in ["refused-whole", "refused-part"] {
        let said = message(&world.object(name).await);
        assert!(said.contains("refuses the Secret") && said.contains("not repeated"), "{said}");
    }
    assert!(hits(&world, &canaries).await.is_empty(), "{:#?}", hits(&world, &canaries).await);

    // A quota is the other admission that everybody has.
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"count/secrets": "1"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).unwrap();
    Api::<ResourceQuota>::namespaced(world.client.clone(), &world.name)
        .create(&PostParams::default(), &quota)
        .await
        .unwrap();

    let mut canary = || {
        let canary = Canary::new();
        canaries.push(canary.clone());
        canary.0
    };
    // Each on a path of its own, all at once; then, one after the other, some that hit everything.
    let odd = odd_answers(&mut canary);
    let fresh: Vec<String> = (0..).map(|n| format!("fresh-{n}")).take(faults().len() + odd.len()).collect();
    for (path, fault) in fresh.iter().zip(faults().into_iter().chain(odd.clone())) {
        world.domain.put(path, json!({"v": canary()}));
        world.sim.fault(fault.on_path(path));
        world.apply(path, json!({"path": path})).await;
    }
    join_all(fresh.iter().map(async |name| {
        eventually(&format!("{name} has a status"), async || ready_of(&world.object(name).await).ok_or("none")).await;
    }))
    .await;
    world.sim.clear_faults();
    for fault in odd.into_iter().step_by(4) {
        world.domain.put("good", json!({"v": canary()}));
        let fault = world.sim.fault(fault);
        let made = world.sim.counters().total();
        eventually("the fault was met", async || {
            let met = world.sim.counters().total() - made;
            if met >= 2 { Ok(()) } else { Err(met) }
        })
        .await;
        world.sim.clear_fault(fault);
    }
    world.store_ready("True", "Reachable").await;
    world.ready("good", "True", "Synced").await;
    let hits = hits(&world, &canaries).await;
    assert!(hits.is_empty(), "{hits:#?}");
    assert!(log().contains("okms_operator::feed::driver") && log().contains("DEBUG"), "the log is not at its finest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_reconcile_is_survived_and_shows_no_value() {
    LazyLock::force(&LOG);
    let world = World::new("panic").await;
    let canary = Canary::new();
    world.domain.put("boom", json!({"v": canary.0}));
    world.domain.put("calm", json!({"v": "1"}));
    let mark = format!("boom-{}", world.name);
    *CHARGE.lock().unwrap() = Some((format!("Secret {mark} holds"), canary.0.clone()));
    world.apply("boom", json!({"path": "boom", "target": {"name": mark}})).await;
    eventually("the reconcile panicked", async || match EXPLOSIONS.load(Ordering::SeqCst) {
        0 => Err("not yet"),
        _ => Ok(()),
    })
    .await;
    // Others are served, and so is the object itself when it changes.
    world.apply("calm", json!({"path": "calm"})).await;
    world.synced("calm", &[("v", "1")]).await;
    world.apply("boom", json!({"path": "boom", "target": {"name": mark, "labels": {"a": "b"}}})).await;
    world.synced("boom", &[("v", &canary.0)]).await;
    let metrics = world.operator.as_ref().unwrap().metrics.encode();
    assert!(metrics.contains("okms_operator_reconciles_total{outcome=\"panicked\"} 1"), "{metrics}");
    assert!(log().contains("panicked: this is a bug"), "the panic was not logged");
    let hits = hits(&world, &[canary]).await;
    assert!(hits.is_empty(), "{hits:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_searches_find_a_canary_where_there_is_one() {
    LazyLock::force(&LOG);
    let world = World::new("loud").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let places = |hits: &[String]| -> Vec<String> {
        let mut places: Vec<_> = hits.iter().map(|hit| hit.split(':').next().unwrap().to_owned()).collect();
        places.dedup();
        places
    };

    let canary = Canary::new();
    assert!(hits(&world, std::slice::from_ref(&canary)).await.is_empty());
    tracing::trace!(target: "okms_operator::feed", value = canary.0, "logged on purpose");
    assert_eq!(places(&hits(&world, &[canary]).await), ["log"]);

    for in_form in [
        |text: &str| BASE64_STANDARD.encode(text),
        |text: &str| BASE64_STANDARD.encode(format!("{{\"password\":\"{text}\"}}")),
        |text: &str| text.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02X}")),
        |text: &str| format!("{:?}", text.as_bytes()),
        |text: &str| format!("denied: {text}"),
    ] {
        let canary = Canary::new();
        let annotations = json!({"metadata": {"annotations": {"note": in_form(&canary.0)}}});
        world.objects().patch("db", &PatchParams::default(), &Patch::Merge(&annotations)).await.unwrap();
        world.secrets().patch("db", &PatchParams::default(), &Patch::Merge(&annotations)).await.unwrap();
        assert_eq!(places(&hits(&world, &[canary]).await), ["OkmsSecrets", "metadata of Secrets"]);
    }

    let canary = Canary::new();
    let said = panic::catch_unwind(AssertUnwindSafe(|| panic!("unexpected: {}", canary.0)));
    assert!(said.is_err());
    assert!(hits(&world, &[canary]).await.is_empty(), "the shipped hook shows what a panic says");
}
