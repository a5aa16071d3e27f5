//! Outages that last: an hour without OKMS and ten minutes without the API server, with the durations of the operator shortened. An
//! outage is told in them: so many probes, so many times what the operator may be silent for.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use api_proxy::{Fault, FaultKind, Matching, Record, Verb};
use futures::{StreamExt, future::join_all, stream};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use okms_operator::{
    controller::{self, health::Health},
    election::{self, Timing},
    feed,
};
use okms_sim::{Arrival, Fault as OkmsFault, Operation, Validity};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    kept::Kept,
    proxied::{ANSWER, Proxied},
    world::{World, client_config, eventually, holds, ready_of},
};

/// How many objects live through an hour without OKMS.
const OBJECTS: usize = 120;

/// A minute in production. A machine that stands still for a moment moves what falls into a tenth of it.
const INTERVAL: Duration = Duration::from_secs(6);

/// A minute in production, and so many of them are an hour.
const PROBES_APART: Duration = Duration::from_millis(800);
const PROBES: u64 = 60;

/// Far more than the checks of all objects need: what spreads them is not the rate.
const REQUESTS_PER_SECOND: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_okms_costs_two_statuses_an_object_and_ends_without_a_rush() {
    let mut of = Proxied::new("hour").await;
    // A busy machine is no failure of the API server.
    of.answer = ANSWER * 10;
    let standstills = Standstills::watch();
    of.world.create_store(json!({"limits": {"requestsPerSecond": REQUESTS_PER_SECOND, "concurrentRequests": 8}})).await;
    let mut config = of.world.config();
    config.refresh_interval = INTERVAL;
    config.timing.staleness_floor = INTERVAL * 5;
    config.timing.backoff_cap = PROBES_APART;
    of.start(config, Health::default());
    let names: Vec<String> = (0..OBJECTS).map(|n| format!("o{n}")).collect();
    stream::iter(&names)
        .for_each_concurrent(16, async |name| {
            of.world.domain.put(name, json!({"v": "1"}));
            of.world.apply(name, json!({"path": name})).await;
        })
        .await;
    all_ready(&of.world, "True", "Synced").await;
    let before = all_secrets(&of.world).await;
    assert_eq!(before.len(), OBJECTS);
    of.proxy.clear_log();
    of.world.sim.reset_counters();

    let down = of.world.sim.fault(OkmsFault::status(503));
    all_ready(&of.world, "False", "StoreNotReady").await;
    eventually("an hour has passed", async || {
        let probes = of.world.sim.counters().total();
        if probes >= PROBES { Ok(()) } else { Err(probes) }
    })
    .await;
    let asked = of.world.sim.counters().total();
    // At first everybody whose turn it was, before it was known that it is the store; then its probe.
    assert!(asked < PROBES + 30, "OKMS was asked {asked} times while it was down");
    assert!(all_secrets(&of.world).await == before, "a Secret changed while OKMS was down");

    of.world.sim.clear_fault(down);
    let back = Instant::now();
    all_ready(&of.world, "True", "Synced").await;
    // A whole round of checks later nothing more is to come.
    of.world.after_checks(OBJECTS as u64).await;
    assert!(all_secrets(&of.world).await == before, "a Secret changed when OKMS was back");
    assert_eq!(of.count(&Matching::writes().of("secrets"), |_| true), 0, "a Secret was written");
    let written = names.iter().map(|name| (of.effects("okmssecrets/status", name), name));
    let too_often: Vec<_> = written.filter(|(count, _)| *count > 2).collect();
    assert!(too_often.is_empty(), "statuses written: {too_often:?}");
    assert_eq!(of.world.sim.counters().data_reads, 0, "data was read again");

    let arrivals = of.world.sim.arrivals();
    let found_back = arrivals.iter().map(|arrival| arrival.at).find(|at| *at >= back).unwrap();
    let caught_up = first_checks(&arrivals, &names, back);
    assert_eq!(caught_up.len(), OBJECTS);
    let tenths = busiest(&caught_up, INTERVAL / 10, &standstills.seen());
    let took = caught_up[OBJECTS - 1] - found_back;
    let operator = of.world.operator.as_ref().unwrap();
    assert!(operator.is_alive().await, "the operator would be restarted");
    println!(
        "caught up with {OBJECTS} in {took:?} of an interval of {INTERVAL:?}, {tenths} of them in its busiest tenth"
    );
    assert!(took > INTERVAL * 7 / 10, "all were asked within {took:?}");
    assert!(tenths < OBJECTS / 4, "{tenths} of {OBJECTS} were asked within a tenth of an interval");
    // Wherever the machine stood still nobody is earlier for it.
    for (before, at) in (0..).zip(&caught_up) {
        let after = *at - found_back;
        let even = (after + INTERVAL / 4) * u32::try_from(OBJECTS).unwrap();
        assert!(INTERVAL * before <= even, "{before} of {OBJECTS} were asked within {after:?}");
    }
}

/// When this process stood still, as on a machine that had something else to do: whatever was due then comes at once afterwards.
struct Standstills {
    seen: Arc<Mutex<Vec<Range<Instant>>>>,
    _task: AbortOnDropHandle<()>,
}

impl Standstills {
    /// Far less than it takes to be asked too often.
    const LONG: Duration = Duration::from_millis(100);

    fn watch() -> Self {
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let written = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                let before = Instant::now();
                tokio::time::sleep(Self::LONG / 5).await;
                if before.elapsed() > Self::LONG {
                    written.lock().unwrap().push(before..Instant::now());
                }
            }
        });
        Self { seen, _task: AbortOnDropHandle::new(task) }
    }

    fn seen(&self) -> Vec<Range<Instant>> {
        self.seen.lock().unwrap().clone()
    }
}

async fn all_ready(world: &World, status: &str, reason: &str) {
    eventually(&format!("all are Ready={status} {reason}"), async || {
        let objects = world.objects().list(&ListParams::default()).await.unwrap().items;
        let is = |(is, why, _): (String, String, String)| is == status && why == reason;
        let others = objects.iter().filter(|object| !ready_of(object).is_some_and(is)).count();
        if others == 0 { Ok(()) } else { Err(format!("{others} are not")) }
    })
    .await;
}

async fn all_secrets(world: &World) -> Vec<Secret> {
    let mut secrets = world.secrets().list(&ListParams::default()).await.unwrap().items;
    secrets.sort_by_key(ResourceExt::name_any);
    secrets
}

/// When each path was first checked after a moment, in order.
fn first_checks(arrivals: &[Arrival], names: &[String], after: Instant) -> Vec<Instant> {
    let checks = |name: &str| {
        let mut checks = arrivals.iter().filter(|arrival| arrival.at >= after && arrival.path == name);
        checks.find(|arrival| arrival.operation == Operation::GetSecretsMetadata).map(|arrival| arrival.at)
    };
    let mut firsts: Vec<_> = names.iter().filter_map(|name| checks(name)).collect();
    firsts.sort();
    firsts
}

/// The most that fall into a window of this length, but for those in which what was due in a standstill is made good for.
fn busiest(moments: &[Instant], window: Duration, standstills: &[Range<Instant>]) -> usize {
    let in_window = |from: &Instant| moments.iter().filter(|at| **at >= *from && **at < *from + window).count();
    let is_even =
        |from: &&Instant| !standstills.iter().any(|still| still.start < **from + window && **from < still.end + window);
    moments.iter().filter(is_even).map(in_window).max().unwrap_or_default()
}

/// How long nothing may be served, here, and how many times that the API server is away: in production it is 90 s, and ten minutes.
const LIVENESS: Duration = Duration::from_secs(5);
const AWAY: u32 = 7;

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_without_the_api_server_leave_nothing_that_is_done_too_late() {
    let mut of = Proxied::new("away").await;
    of.world.create_store(json!({})).await;
    let config = controller::Config {
        heartbeat: Duration::from_millis(200),
        backoff_cap: Duration::from_secs(1),
        timing: in_step(&of.world),
        ..of.world.config()
    };
    of.start(config, Health::new(LIVENESS));
    let names = ["kept", "changed", "withdrawn", "back", "edited", "suspended", "retained", "deleted"];
    join_all(names.map(async |name| {
        of.world.domain.put(name, json!({"v": "1"}));
        of.world.apply(name, json!({"path": name})).await;
        of.world.synced(name, &[("v", "1")]).await;
    }))
    .await;
    let [kept, back, suspended, retained] = [
        Kept::of(&of.world, "kept").await,
        Kept::of(&of.world, "back").await,
        Kept::of(&of.world, "suspended").await,
        Kept::of(&of.world, "retained").await,
    ];
    of.proxy.stop().await;
    of.proxy.clear_log();
    let began = Instant::now();
    let (world, domain) = (&of.world, &of.world.domain);
    domain.put("changed", json!({"v": "2"}));
    for name in ["withdrawn", "back", "suspended", "retained"] {
        domain.deactivate(name, 1).unwrap();
    }
    // It has seen all that, and tried.
    some_rounds(&of).await;
    domain.put("changed", json!({"v": "3"}));
    domain.activate("back", 1).unwrap();
    // Others still reach the API server.
    let edit = Patch::Merge(json!({"stringData": {"v": "theirs"}}));
    world.secrets().patch("edited", &PatchParams::apply("somebody"), &edit).await.unwrap();
    spec(world, "suspended", json!({"suspend": true})).await;
    spec(world, "retained", json!({"withdrawalPolicy": "Retain"})).await;
    world.delete("deleted").await;
    eventually("the API server was away for that long", async || {
        some_rounds(&of).await;
        if began.elapsed() > LIVENESS * AWAY { Ok(()) } else { Err(began.elapsed()) }
    })
    .await;
    assert_eq!(of.proxy.records().len(), 0, "something passed");

    // It may write again before it hears what became of its objects.
    let deaf =
        of.proxy.fault(Fault::status(503).hitting(Matching::verbs(&[Verb::List, Verb::Watch]).of("okmssecrets")));
    of.proxy.restart().await.unwrap();
    world.gone("withdrawn").await;
    some_rounds(&of).await;
    of.proxy.clear_fault(deaf);
    world.synced("changed", &[("v", "3")]).await;
    world.synced("back", &[("v", "1")]).await;
    world.synced("edited", &[("v", "1")]).await;
    world.synced("kept", &[("v", "1")]).await;
    world.ready("withdrawn", "False", "VersionDeactivated").await;
    world.gone("withdrawn").await;
    world.ready("suspended", "Unknown", "Suspended").await;
    world.ready("retained", "False", "VersionDeactivated").await;
    some_rounds(&of).await;
    for kept in [kept, back, suspended, retained] {
        kept.assert(world, "the API server was away").await;
    }
    let expected =
        [("changed", 1), ("withdrawn", 1), ("edited", 1), ("kept", 0), ("back", 0), ("suspended", 0), ("retained", 0)];
    for (name, writes) in expected {
        assert_eq!(of.effects("secrets", name), writes, "writes of Secret {name}");
    }
    let statuses = of.count(&Matching::writes().of("okmssecrets/status").named("kept"), Record::took_effect);
    assert_eq!(statuses, 0, "what was in step all the time");
    world.domain.put("kept", json!({"v": "2"}));
    world.synced("kept", &[("v", "2")]).await;
}

/// What was synced is believed for all of the test, however long a check takes.
fn in_step(world: &World) -> feed::Timing {
    feed::Timing { staleness_floor: Duration::from_hours(1), ..world.config().timing }
}

async fn spec(world: &World, name: &str, changes: serde_json::Value) {
    let patch = Patch::Merge(json!({"spec": changes}));
    world.objects().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Lets everything be checked some more times, by an operator that is alive all the while.
async fn some_rounds(of: &Proxied) {
    let before = of.world.sim.counters().on("kept");
    eventually("the checks go on", async || {
        let operator = of.world.operator.as_ref().unwrap();
        assert!(operator.is_alive().await, "the operator would be restarted");
        let made = of.world.sim.counters().on("kept") - before;
        if made >= 5 { Ok(()) } else { Err(made) }
    })
    .await;
}

/// Whoever contends for the Lease of a world under this name, and has it for so long.
fn contender(identity: &str, lease: Duration) -> election::Config {
    let timing = Timing::new(lease, lease * 2 / 3, Duration::from_millis(400)).unwrap();
    election::Config { id: "outage".to_owned(), identity: identity.to_owned(), timing }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_to_stop_waits_not_for_an_answer_that_does_not_come_and_leaves_its_lease_to_run_out() {
    let mut of = Proxied::on(client_config().await, "unanswered").await;
    // Nothing but the stop ends the wait.
    of.answer = Duration::from_hours(1);
    of.world.create_store(json!({})).await;
    // Longer than a machine stands still: a leader that lost its Lease before it is stopped gives it back.
    let lease = Duration::from_secs(20);
    let config = |identity| controller::Config { election: Some(contender(identity, lease)), ..of.world.config() };
    let (first, second) = (config("first"), config("second"));
    of.start(first, Health::default());
    of.world.domain.put("db", json!({"v": "1"}));
    of.world.apply("db", json!({"path": "db"})).await;
    of.world.synced("db", &[("v", "1")]).await;

    let writes = Matching::writes().of("secrets").in_namespace(&of.world.name).named("db");
    let hang = of.proxy.fault(Fault::new(FaultKind::Hang).hitting(writes.clone()));
    of.world.domain.put("db", json!({"v": "2"}));
    of.proxy.wait_until(|records| records.iter().any(|record| record.faults.contains(&hang))).await;
    timeout(Duration::from_mins(2), of.world.stop()).await.expect("it stops, and waits for no answer");
    let leases: Api<Lease> = Api::namespaced(of.world.client.clone(), &of.world.name);
    let holder = leases.get("outage").await.unwrap().spec.unwrap().holder_identity;
    assert_eq!(holder.as_deref(), Some("first"), "what it sent may yet arrive");

    of.proxy.clear_fault(hang);
    of.start(second, Health::default());
    of.world.synced("db", &[("v", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_names_what_the_secret_held_before_a_crash_is_not_believed() {
    let mut of = Proxied::new("untold").await;
    of.answer = ANSWER * 10;
    of.world.create_store(json!({})).await;
    let config = controller::Config { timing: in_step(&of.world), ..of.world.config() };
    of.start(config.clone(), Health::default());
    for name in ["extra", "again"] {
        of.world.domain.put(name, json!({"more": "2"}));
    }
    for name in ["db", "other"] {
        of.world.domain.put(name, json!({"v": "1"}));
        of.world.apply(name, json!({"path": name})).await;
        of.world.synced(name, &[("v", "1")]).await;
    }
    // Without the second source they have as many keys as with it.
    let with = |extra| {
        json!({
            "sources": [{"path": "other"}, {"path": extra, "optional": true}],
            "target": {"template": {"data": {"v": "{{ v }}{{ more | default('') }}"}}},
        })
    };
    of.world.apply("less", with("extra")).await;
    of.world.synced("less", &[("v", "12")]).await;
    of.world.domain.deactivate("again", 1).unwrap();
    of.world.apply("more", with("again")).await;
    of.world.synced("more", &[("v", "1")]).await;

    let statuses = |name| Matching::writes().of("okmssecrets/status").in_namespace(&of.world.name).named(name);
    let untold = ["db", "less", "more"].map(|name| of.proxy.fault(Fault::new(FaultKind::Hang).hitting(statuses(name))));
    of.world.domain.put("db", json!({"v": "2"}));
    of.world.domain.deactivate("extra", 1).unwrap();
    of.world.domain.activate("again", 1).unwrap();
    for (name, values) in [("db", [("v", "2")]), ("less", [("v", "1")]), ("more", [("v", "12")])] {
        eventually("the Secret follows", async || match of.world.secret(name).await {
            Some(secret) if holds(&secret, &values) => Ok(()),
            _ => Err("it does not"),
        })
        .await;
    }
    of.world.kill().await;
    for fault in untold {
        of.proxy.clear_fault(fault);
    }
    let refused = ["db", "other"].map(|path| of.world.sim.fault(OkmsFault::status(403).on_path(path)));
    of.proxy.clear_log();
    of.start(config, Health::default());
    for name in ["db", "less", "more"] {
        of.world.ready(name, "False", "Forbidden").await;
    }
    for fault in refused {
        of.world.sim.clear_fault(fault);
    }
    of.world.synced("db", &[("v", "2")]).await;
    of.world.synced("less", &[("v", "1")]).await;
    of.world.synced("more", &[("v", "12")]).await;
    of.world.synced("other", &[("v", "1")]).await;
    assert_eq!(of.effects("okmssecrets/status", "other"), 0, "what was told is believed");
}

/// In production no leader outlives ten seconds of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_the_api_server_asks_okms_nothing_and_leads_again_after_it() {
    let mut of = Proxied::on(client_config().await, "away-led").await;
    of.world.create_store(json!({})).await;
    let config = controller::Config {
        heartbeat: Duration::from_millis(200),
        election: Some(contender("only", Duration::from_secs(6))),
        timing: in_step(&of.world),
        ..of.world.config()
    };
    of.start(config, Health::new(LIVENESS));
    for name in ["kept", "changed", "withdrawn"] {
        of.world.domain.put(name, json!({"v": "1"}));
        of.world.apply(name, json!({"path": name})).await;
        of.world.synced(name, &[("v", "1")]).await;
    }
    let kept = Kept::of(&of.world, "kept").await;
    of.proxy.stop().await;
    of.proxy.clear_log();
    let (began, counters) = (Instant::now(), || of.world.sim.counters().total());
    let operator = of.world.operator.as_ref().unwrap();
    let (mut asked, mut silent) = (counters(), Instant::now());
    eventually("it does not lead any more", async || {
        assert!(operator.is_alive().await, "the operator would be restarted");
        if asked != counters() {
            (asked, silent) = (counters(), Instant::now());
        }
        let is_over = silent.elapsed() > LIVENESS && began.elapsed() > LIVENESS * 3;
        if is_over { Ok(()) } else { Err((silent.elapsed(), began.elapsed())) }
    })
    .await;
    of.world.domain.put("changed", json!({"v": "2"}));
    of.world.domain.deactivate("withdrawn", 1).unwrap();
    of.proxy.restart().await.unwrap();
    of.world.synced("changed", &[("v", "2")]).await;
    of.world.gone("withdrawn").await;
    of.world.ready("withdrawn", "False", "VersionDeactivated").await;
    of.world.after_checks(10).await;
    kept.assert(&of.world, "the API server was away").await;
    for (name, writes) in [("changed", 1), ("withdrawn", 1), ("kept", 0)] {
        assert_eq!(of.effects("secrets", name), writes, "writes of Secret {name}");
    }
    assert_eq!(of.effects("okmssecrets/status", "kept"), 0, "what was in step all the time");
    assert!(operator.is_alive().await, "the operator would be restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_arrives_late_takes_nothing_back() {
    let mut of = Proxied::new("late").await;
    of.world.create_store(json!({})).await;
    of.start(of.world.config(), Health::default());
    let (world, domain) = (&of.world, &of.world.domain);
    domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;

    let of_status = Matching::verbs(&[Verb::Patch]).of("okmssecrets/status").in_namespace(&world.name);
    let late = of.proxy.fault(Fault::delay(ANSWER * 3).hitting(of_status).times(1));
    domain.deactivate("db", 1).unwrap();
    world.gone("db").await;
    world.ready("db", "False", "VersionDeactivated").await;
    domain.activate("db", 1).unwrap();
    world.synced("db", &[("v", "1")]).await;
    eventually("what was said first has arrived", async || {
        let said = of.proxy.log(|log| log.iter().find(|record| record.faults.contains(&late)).cloned());
        said.ok_or("it was not sent")?.upstream.ok_or("it is on its way")
    })
    .await;
    of.world.after_checks(5).await;
    world.ready("db", "True", "Synced").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_asks_for_patience_is_left_alone() {
    const PATIENCE: u32 = 3;
    let mut of = Proxied::new("patience").await;
    // Whatever else delays an answer.
    of.answer = ANSWER * 10;
    of.world.create_store(json!({})).await;
    of.world.domain.put("one", json!({"v": "1"}));
    let mut config = of.world.config();
    config.backoff_cap = Duration::from_mins(1);
    of.start(config, Health::default());
    let writes = Matching::writes().of("secrets").in_namespace(&of.world.name).named("one");
    // The wait is counted from the answer, however long that took.
    of.proxy.fault(Fault::delay(ANSWER / 2).hitting(writes.clone()).times(2));
    of.proxy.fault(Fault::status_retry_after(429, PATIENCE).hitting(writes.clone()).times(2));
    of.world.apply("one", json!({"path": "one"})).await;
    of.world.synced("one", &[("v", "1")]).await;
    let tried: Vec<Instant> =
        of.proxy.log(|log| log.iter().filter(|record| record.is(&writes)).map(|record| record.at).collect());
    assert_eq!(tried.len(), 3, "two were turned away");
    let apart: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let least = ANSWER / 2 + Duration::from_secs(PATIENCE.into());
    assert!(apart.iter().all(|pause| *pause >= least), "tried again after {apart:?}, and not after {least:?}");
}

/// An object at rest, of an operator that waits for as long as the API server asks.
async fn obedient(name: &str) -> Proxied {
    let mut of = Proxied::new(name).await;
    // A machine that is busy is not to be taken for one that does not answer.
    of.answer = ANSWER * 10;
    of.world.create_store(json!({})).await;
    of.world.domain.put("one", json!({"v": "1"}));
    let mut config = of.world.config();
    config.backoff_cap = Duration::from_hours(1);
    of.start(config, Health::default());
    of.world.apply("one", json!({"path": "one"})).await;
    of.world.synced("one", &[("v", "1")]).await;
    of
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wait_that_the_api_server_asks_for_is_told_at_once() {
    let of = obedient("busy").await;
    let writes = Matching::writes().of("secrets").in_namespace(&of.world.name).named("one");
    of.proxy.clear_log();
    of.proxy.fault(Fault::status_retry_after(429, 3600).hitting(writes.clone()));
    of.world.domain.put("one", json!({"v": "2"}));
    // It does not stay Ready for as long as the API server is left alone.
    of.world.ready("one", "False", "TargetDrifted").await;
    assert_eq!(of.count(&writes, |_| true), 1, "it is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_status_may_not_be_written_for_long_is_looked_after_all_the_same() {
    let of = obedient("mute").await;
    let writes = Matching::writes().of("clusterokmsstores/status").named(&of.world.name);
    let busy = of.proxy.fault(Fault::status_retry_after(429, 3600).hitting(writes));
    for _ in 0..3 {
        let certificate = of.world.domain.issue_client_certificate(Validity::days(30)).unwrap();
        of.world.mount(&certificate);
        eventually("the new certificate is used", async || {
            let used = of.world.sim.counters().by(&certificate.serial);
            if used >= 3 { Ok(()) } else { Err(used) }
        })
        .await;
    }
    let tried = of.proxy.log(|log| log.iter().filter(|record| record.faults.contains(&busy)).count());
    assert_eq!(tried, 1, "the API server is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_a_store_that_another_write_came_before_is_written_once_that_is_seen() {
    let of = obedient("raced").await;
    let sight = Matching::verbs(&[Verb::List, Verb::Watch]).of("clusterokmsstores");
    let unseen = of.proxy.fault(Fault::status(503).hitting(sight.clone()));
    of.proxy.cut_watches(&sight);
    of.world.patch_store(json!({"metadata": {"labels": {"came": "before"}}})).await;
    of.world.sim.stop().await;
    let writes = Matching::writes().of("clusterokmsstores/status").named(&of.world.name);
    eventually("a status comes too late", async || match of.count(&writes, |record| record.upstream == Some(409)) {
        0 => Err("none was refused with 409"),
        _ => Ok(()),
    })
    .await;
    of.proxy.clear_fault(unseen);
    of.world.store_ready("False", "OkmsUnavailable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_fails_in_one_way_and_then_in_another_is_told_once() {
    let mut of = Proxied::new("ways").await;
    of.world.create_store(json!({})).await;
    of.world.domain.put("one", json!({"v": "1"}));
    of.start(controller::Config { backoff_cap: Duration::from_secs(1), ..of.world.config() }, Health::default());
    of.world.apply("one", json!({"path": "one"})).await;
    of.world.synced("one", &[("v", "1")]).await;
    let writes = Matching::writes().of("secrets").in_namespace(&of.world.name).named("one");
    of.proxy.clear_log();
    let fails_with = |code: u16| of.proxy.fault(Fault::status(code).hitting(writes.clone()));
    let is_tried_some_more = async || {
        of.world.ready("one", "False", "TargetDrifted").await;
        let before = of.count(&writes, |_| true);
        eventually("it was tried some more", async || {
            let tried = of.count(&writes, |_| true) - before;
            if tried >= 4 { Ok(()) } else { Err(tried) }
        })
        .await;
    };
    // Each way of failing begins before what it follows, so that no try gets through in between.
    let first = fails_with(503);
    of.world.domain.put("one", json!({"v": "2"}));
    is_tried_some_more().await;
    let second = fails_with(500);
    of.proxy.clear_fault(first);
    is_tried_some_more().await;
    of.proxy.clear_fault(second);
    of.world.synced("one", &[("v", "2")]).await;
    assert_eq!(of.effects("okmssecrets/status", "one"), 2, "that it fails, and that it does not any more");
}
