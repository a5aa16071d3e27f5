//! OKMS, or what stands before it, answers with everything but what was asked for: no Secret goes, nothing is called synced that is not,
//! and all goes on by itself once it is over.

use std::time::Duration;

use futures::{StreamExt, future::join_all, stream};
use okms_sim::{Fault, FaultKind};
use serde_json::json;

use crate::{
    kept::{History, Kept},
    world::{World, eventually, ready_of},
};

/// Longer than a request may take in these tests.
const LONG: Duration = Duration::from_secs(4);

/// A fault by name, and what it means: for the store, if everything is hit, and for an object, if its path alone is.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) fault: Fault,
    pub(crate) of_store: &'static str,
    pub(crate) of_path: &'static str,
}

fn case(name: &'static str, fault: Fault, of_store: &'static str, of_path: &'static str) -> Case {
    Case { name, fault, of_store, of_path }
}

pub(crate) fn cases() -> Vec<Case> {
    let (down, odd) = ("OkmsUnavailable", "UnexpectedAnswer");
    let login = "<html><body><form action=/login>Please log in</form></body></html>";
    let json = "application/json";
    let metadata = r#"{"data":{"current_version":1,"versions":{"1":{"created_time":"2026-01-01T00:00:00Z"#;
    let redirect = Fault::new(FaultKind::Answer {
        status: 302,
        headers: [("location".to_owned(), "https://127.0.0.1:1/".to_owned())].into(),
        body: String::new(),
    });
    vec![
        case("s400", Fault::status(400), odd, odd),
        case("s401", Fault::status(401), "Refused", "Forbidden"),
        // An identity that may do nothing is known all the same: the store works, each path is forbidden.
        case("s403", Fault::status(403), "", "Forbidden"),
        case("s404", Fault::status(404), odd, odd),
        case("s409", Fault::status(409), odd, odd),
        case("s429", Fault::status(429), "RateLimited", ""),
        case("s429-later", Fault::status_retry_after(429, "1"), "RateLimited", ""),
        case("s500", Fault::status(500), down, down),
        case("s502", Fault::status(502), down, down),
        case("s503", Fault::status(503), down, down),
        case("s503-later", Fault::status_retry_after(503, "1"), down, down),
        case("latency", Fault::latency(LONG), down, down),
        case("slow-body", Fault::slow_body(LONG), down, down),
        case("reset-before", Fault::new(FaultKind::ResetBeforeEffect), down, ""),
        case("reset-after", Fault::new(FaultKind::ResetAfterEffect), down, ""),
        case("truncated", Fault::new(FaultKind::TruncatedBody), odd, odd),
        case("html-502", Fault::new(FaultKind::HtmlBadGateway), down, down),
        case("no-domain", Fault::new(FaultKind::DomainNotFound), odd, odd),
        case("vault-404", Fault::answer(404, json, r#"{"errors":[]}"#), odd, odd),
        case("html-404", Fault::answer(404, "text/html", "<h1>Not Found</h1>"), odd, odd),
        case("html-403", Fault::answer(403, "text/html", "<h1>Forbidden</h1>"), "Refused", "Forbidden"),
        case("empty-object", Fault::answer(200, json, "{}"), odd, odd),
        case("empty-data", Fault::answer(200, json, r#"{"data":{}}"#), "", odd),
        case("array", Fault::answer(200, json, "[]"), odd, odd),
        case("null", Fault::answer(200, json, "null"), odd, odd),
        case("nothing", Fault::answer(200, json, ""), odd, odd),
        case("no-content", Fault::answer(204, json, ""), odd, odd),
        case("cut", Fault::answer(200, json, metadata), odd, odd),
        case("login", Fault::answer(200, "text/html", login), odd, odd),
        case("text", Fault::answer(200, "text/plain", r#"{"data":{"keys":[]}}"#), odd, odd),
        case("redirect", redirect, odd, odd),
    ]
}

/// Waits until the object is Ready=False for this reason, or for any if none is named.
async fn not_ready(world: &World, name: &str, reason: &str) {
    eventually(&format!("{name} is Ready=False {reason}"), async || match ready_of(&world.object(name).await) {
        Some((status, why, _)) if status == "False" && (reason.is_empty() || why == reason) => Ok(()),
        other => Err(other),
    })
    .await;
}

async fn world(name: &str) -> World {
    let mut world = World::without_operator(name).await;
    world.create_store(json!({"limits": {"timeout": "1s", "requestsPerSecond": 500, "concurrentRequests": 64}})).await;
    world.start();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_everything_loses_nothing_and_is_told() {
    // A few at a time: each has an operator and a simulator of its own.
    stream::iter(cases()).for_each_concurrent(8, everything_fails).await;
}

async fn everything_fails(case: Case) {
    let what = case.name;
    let world = world(&format!("all-{what}")).await;
    for name in ["db", "new"] {
        world.domain.put(name, json!({"v": "1"}));
    }
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let kept = Kept::of(&world, "db").await;
    let history = History::of(&world).await;

    let fault = world.sim.fault(case.fault);
    world.apply("new", json!({"path": "new"})).await;
    if !case.of_store.is_empty() {
        world.store_ready("False", case.of_store).await;
    }
    let of_objects = if case.of_store.is_empty() { case.of_path } else { "StoreNotReady" };
    not_ready(&world, "new", of_objects).await;
    not_ready(&world, "db", of_objects).await;
    world.after_checks(3).await;
    kept.assert(&world, what).await;
    history.assert_never_ready("new").await;
    assert!(world.secret("new").await.is_none(), "{what}: a Secret was made of nothing");

    world.sim.clear_fault(fault);
    for name in ["db", "new"] {
        world.synced(name, &[("v", "1")]).await;
    }
    world.store_ready("True", "Reachable").await;
    kept.assert(&world, what).await;
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_one_path_is_that_objects_alone() {
    let world = world("one-path").await;
    let cases: Vec<Case> = cases().into_iter().filter(|case| !case.of_path.is_empty()).collect();
    let fresh = |case: &Case| format!("{}-new", case.name);
    world.domain.put("control", json!({"v": "1"}));
    // Believed for longer than a machine may stand still, though its path is checked as often as the others.
    world.apply("control", json!({"path": "control", "refreshInterval": "10s"})).await;
    world.apply("often", json!({"path": "control"})).await;
    for case in &cases {
        for name in [case.name.to_owned(), fresh(case)] {
            world.domain.put(&name, json!({"v": "1"}));
        }
        world.apply(case.name, json!({"path": case.name})).await;
    }
    join_all(cases.iter().map(|case| world.synced(case.name, &[("v", "1")]))).await;
    let kept = join_all(cases.iter().map(|case| Kept::of(&world, case.name))).await;
    world.synced("control", &[("v", "1")]).await;
    let history = History::of(&world).await;

    for case in &cases {
        world.sim.fault(case.fault.clone().on_path(case.name));
        world.sim.fault(case.fault.clone().on_path(&fresh(case)));
        world.apply(&fresh(case), json!({"path": fresh(case)})).await;
    }
    join_all(cases.iter().map(async |case| {
        not_ready(&world, &fresh(case), case.of_path).await;
        not_ready(&world, case.name, case.of_path).await;
    }))
    .await;
    world.domain.put("control", json!({"v": "2"}));
    world.synced("control", &[("v", "2")]).await;
    world.store_ready("True", "Reachable").await;
    for (case, kept) in cases.iter().zip(&kept) {
        kept.assert(&world, case.name).await;
        history.assert_never_ready(&fresh(case)).await;
    }
    let troubled: Vec<_> =
        history.of_object("control").await.into_iter().filter(|(status, _)| status != "True").collect();
    assert!(troubled.is_empty(), "the faults of others reached a path that works: {troubled:?}");

    world.sim.clear_faults();
    join_all(cases.iter().map(async |case| {
        world.synced(case.name, &[("v", "1")]).await;
        world.synced(&fresh(case), &[("v", "1")]).await;
    }))
    .await;
    for (case, kept) in cases.iter().zip(&kept) {
        kept.assert(&world, case.name).await;
    }
}

/// A 429 is the store's, and a reset breaks the connection that others use as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_one_path_that_reaches_others_loses_nothing_either() {
    let cases: Vec<Case> =
        cases().into_iter().filter(|case| case.of_path.is_empty() && !case.of_store.is_empty()).collect();
    join_all(cases.into_iter().map(async |case| {
        let what = case.name;
        let world = world(&format!("one-{what}")).await;
        for name in ["db", "control", "new"] {
            world.domain.put(name, json!({"v": "1"}));
        }
        for name in ["db", "control"] {
            world.apply(name, json!({"path": name})).await;
            world.synced(name, &[("v", "1")]).await;
        }
        let kept = [Kept::of(&world, "db").await, Kept::of(&world, "control").await];
        let history = History::of(&world).await;
        for path in ["db", "new"] {
            world.sim.fault(case.fault.clone().on_path(path));
        }
        world.apply("new", json!({"path": "new"})).await;
        not_ready(&world, "new", "").await;
        not_ready(&world, "db", "").await;
        world.after_checks(5).await;
        history.assert_never_ready("new").await;
        world.sim.clear_faults();
        for name in ["db", "new", "control"] {
            world.synced(name, &[("v", "1")]).await;
        }
        for kept in kept {
            kept.assert(&world, what).await;
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version_whose_data_cannot_be_had_is_told_after_the_bound() {
    let world = world("unread").await;
    let data = [okms_sim::Operation::GetSecretRequest];
    let cases: Vec<Case> = cases()
        .into_iter()
        .filter(|case| {
            matches!(case.name, "s403" | "s500" | "latency" | "truncated" | "vault-404" | "login" | "html-404")
        })
        .collect();
    for case in &cases {
        world.domain.put(case.name, json!({"v": "1"}));
        world.apply(case.name, json!({"path": case.name})).await;
    }
    join_all(cases.iter().map(|case| world.synced(case.name, &[("v", "1")]))).await;
    let kept = join_all(cases.iter().map(|case| Kept::of(&world, case.name))).await;
    for case in &cases {
        world.sim.fault(case.fault.clone().on_path(case.name).on(&data));
        world.domain.put(case.name, json!({"v": "2"}));
    }
    // The checks go well all the time.
    join_all(cases.iter().map(|case| not_ready(&world, case.name, case.of_path))).await;
    for (case, kept) in cases.iter().zip(&kept) {
        kept.assert(&world, case.name).await;
    }
    world.sim.clear_faults();
    join_all(cases.iter().map(|case| world.synced(case.name, &[("v", "2")]))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_is_not_believed() {
    let world = world("lag").await;
    for name in ["current", "pinned", "gone"] {
        world.domain.put(name, json!({"v": "1"}));
        world.domain.put(name, json!({"v": "2"}));
    }
    world.apply("current", json!({"path": "current"})).await;
    world.apply("pinned", json!({"path": "pinned", "version": 2})).await;
    world.synced("current", &[("v", "2")]).await;
    world.synced("pinned", &[("v", "2")]).await;
    let kept = [Kept::of(&world, "current").await, Kept::of(&world, "pinned").await];

    let lag = world.sim.fault(Fault::stale_reads(1));
    not_ready(&world, "current", "UnexpectedAnswer").await;
    not_ready(&world, "pinned", "").await;
    world.after_checks(5).await;
    for kept in &kept {
        kept.assert(&world, "an older version was shown").await;
    }
    world.sim.clear_fault(lag);
    world.synced("current", &[("v", "2")]).await;
    world.synced("pinned", &[("v", "2")]).await;
    for kept in &kept {
        kept.assert(&world, "after the lag").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_still_or_takes_no_writes_is_read_as_it_is() {
    let mut world = World::without_operator("still").await;
    world.create_store(json!({})).await;
    let mut config = world.config();
    // A machine that stands still for a moment is no failure.
    config.timing.staleness_floor = Duration::from_mins(1);
    world.start_with(config);
    for name in ["frozen", "late"] {
        world.domain.put(name, json!({"v": "1"}));
    }
    world.apply("frozen", json!({"path": "frozen"})).await;
    world.synced("frozen", &[("v", "1")]).await;
    let kept = Kept::of(&world, "frozen").await;

    world.sim.fault(Fault::new(FaultKind::ReadOnly));
    world.domain.put("frozen", json!({"v": "2"}));
    world.synced("frozen", &[("v", "2")]).await;
    world.sim.clear_faults();

    world.sim.fault(Fault::new(FaultKind::FrozenReads));
    let history = History::of(&world).await;
    world.domain.put("frozen", json!({"v": "3"}));
    world.domain.delete("late").unwrap();
    world.apply("late", json!({"path": "late"})).await;
    world.synced("late", &[("v", "1")]).await;
    world.after_checks(10).await;
    assert!(history.of_object("frozen").await.iter().all(|(status, _)| status == "True"));
    world.sim.clear_faults();
    world.synced("frozen", &[("v", "3")]).await;
    world.ready("late", "False", "SecretDeleted").await;
    world.gone("late").await;
    let now = world.secret("frozen").await.unwrap();
    assert_eq!(now.metadata.uid, kept.uid());
}
