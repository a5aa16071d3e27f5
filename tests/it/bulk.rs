//! Many secrets of one store, checked by the list of all secrets: what it costs, counted at the server, and that nothing is lost by it.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::ListParams};
use okms_operator::{
    api::{ChecksStatus, condition},
    controller::Config,
    feed::Timing,
};
use okms_sim::{Action, Counters, Fault, Grants, Operation};
use serde_json::json;

use crate::world::{World, eventually};

const SECRETS: usize = 300;

/// A walk may take half of it: longer than a machine may stand still.
const INTERVAL: Duration = Duration::from_secs(12);

/// A world with three hundred secrets in one namespace, which are as old as a list is believed about in no time. `versions`: the list has them.
async fn world_of(name: &str, versions: bool) -> World {
    let mut world = World::without_operator(name).await;
    world.sim.with_switches(|switches| switches.list_versions = versions);
    world.domain.seed(SECRETS, |n| (path(n), json!({"v": "1"})));
    world.create_store(json!({})).await;
    let usual = world.config();
    let config = Config {
        refresh_interval: INTERVAL,
        timing: Timing {
            staleness_floor: Duration::from_secs(30),
            list_after: Duration::from_secs(2),
            walk_first: Duration::from_secs(1),
            // However many were in vain, a test does not wait long for the next.
            walk_cap: Duration::from_secs(8),
            ..usual.timing.clone()
        },
        ..usual
    };
    world.start_with(config);
    for n in 0..SECRETS {
        world.apply(&object(n), json!({"path": path(n)})).await;
    }
    eventually("every Secret is there", async || {
        let there = secrets(&world).await.len();
        if there >= SECRETS { Ok(()) } else { Err(there) }
    })
    .await;
    world
}

fn path(n: usize) -> String {
    format!("prod/{n:03}")
}

fn object(n: usize) -> String {
    format!("db-{n:03}")
}

async fn secrets(world: &World) -> Vec<Secret> {
    let made = ListParams::default().labels("okms-operator.io/managed=true");
    world.secrets().list(&made).await.unwrap().items
}

/// Waits until the store says that checks go this way; answers why.
async fn checks(world: &World, by: &str) -> String {
    eventually(&format!("checks go by {by}"), async || {
        match world.stores().get(&world.name).await.unwrap().status.and_then(|status| status.checks) {
            Some(ChecksStatus { by: is, message }) if is == by => Ok(message),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// Waits until the store says that checks go by path, for this reason.
async fn by_path_since(world: &World, reason: &str) {
    eventually(reason, async || {
        let message = checks(world, "Path").await;
        if message.contains(reason) { Ok(()) } else { Err(message) }
    })
    .await;
}

/// Waits until so many more pages were asked for; answers what was asked meanwhile.
async fn pages(world: &World, more: u64) -> (Counters, Counters) {
    let before = world.sim.counters();
    let after = eventually(&format!("{more} more pages"), async || {
        let now = world.sim.counters();
        let made = now.of("ListSecretV2") - before.of("ListSecretV2");
        if made >= more { Ok(now) } else { Err(made) }
    })
    .await;
    (before, after)
}

fn asked(operation: &str, (before, after): &(Counters, Counters)) -> u64 {
    after.of(operation) - before.of(operation)
}

async fn all_ready(world: &World) {
    eventually("every object is Ready", async || {
        let objects = world.objects().list(&ListParams::default()).await.unwrap().items;
        let ready = |object: &&okms_operator::api::OkmsSecret| {
            let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            condition::find(conditions, "Ready").is_some_and(|ready| ready.status == "True")
        };
        let unready = objects.iter().find(|object| !ready(object)).map(ResourceExt::name_any);
        unready.map_or(Ok(()), Err)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_secrets_cost_three_calls_a_round_and_what_changes_is_found_by_path() {
    let world = world_of("bulk", true).await;
    checks(&world, "List").await;
    all_ready(&world).await;
    let versions =
        |secrets: Vec<Secret>| secrets.into_iter().filter_map(|it| it.resource_version()).collect::<BTreeSet<_>>();

    // At rest: a list of three pages, and nothing else. What was made last is believed of a list after one more check by path.
    eventually("the list shows all", async || match asked("GetSecretsMetadata", &pages(&world, 3).await) {
        0 => Ok(()),
        checks => Err(checks),
    })
    .await;
    let (written, start) = (versions(secrets(&world).await), tokio::time::Instant::now());
    let counted = pages(&world, 9).await;
    assert!(start.elapsed() >= INTERVAL * 2, "three rounds took only {:?}", start.elapsed());
    assert_eq!(asked("GetSecretsMetadata", &counted), 0, "checks by path beside the list");
    assert_eq!(counted.1.data_reads, counted.0.data_reads);
    assert_eq!(versions(secrets(&world).await), written, "a Secret was written at rest");

    // A new version.
    world.domain.put(&path(150), json!({"v": "2"}));
    world.synced(&object(150), &[("v", "2")]).await;
    let after = world.sim.counters();
    assert_eq!(after.data_reads - counted.1.data_reads, 1);
    let others = (0..SECRETS).filter(|n| *n != 150).map(path);
    assert_eq!(others.map(|path| after.on(&path) - counted.1.on(&path)).sum::<u64>(), 0);

    // A deactivation, which the list leaves to the path to prove.
    world.domain.deactivate(&path(7), 1).unwrap();
    world.gone(&object(7)).await;
    world.ready(&object(7), "False", "VersionDeactivated").await;
    let gone = world.sim.counters();
    assert!(gone.of_on("GetSecretsMetadata", &path(7)) > after.of_on("GetSecretsMetadata", &path(7)));
    assert_eq!(secrets(&world).await.len(), SECRETS - 1);

    // And back.
    world.domain.activate(&path(7), 1).unwrap();
    world.synced(&object(7), &[("v", "1")]).await;
    checks(&world, "List").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_list_leaves_out_is_looked_at_by_path_and_kept() {
    let world = world_of("filtered", true).await;
    checks(&world, "List").await;
    // The list goes on without it, and by path it is refused.
    let shown: Vec<String> = (1..SECRETS).map(path).collect();
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let grants = Grants::nothing().and(&[Action::SecretGet, Action::VersionGetData], &shown);
    world.domain.grant(&world.certificate.serial, grants).unwrap();
    world.sim.with_switches(|switches| switches.filter_after_paging = true);
    world.ready(&object(0), "False", "Forbidden").await;
    assert!(world.secret(&object(0)).await.is_some(), "a refusal deletes nothing");
    world.domain.grant(&world.certificate.serial, Grants::everything()).unwrap();
    world.ready(&object(0), "True", "Synced").await;
    assert_eq!(secrets(&world).await.len(), SECRETS);
    checks(&world, "List").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_versions_or_refused_leaves_everything_to_the_paths() {
    let world = world_of("no-list", false).await;
    by_path_since(&world, "does not show enough of them").await;
    world.store_ready("True", "Reachable").await;
    world.domain.put(&path(3), json!({"v": "2"}));
    world.synced(&object(3), &[("v", "2")]).await;
    world.domain.deactivate(&path(4), 1).unwrap();
    world.gone(&object(4)).await;
    all_but(&world, 4).await;

    world.sim.fault(Fault::status(403).on(&[Operation::ListSecretV2]));
    by_path_since(&world, "OKMS refuses the list").await;
    world.store_ready("True", "Reachable").await;
    world.domain.put(&path(3), json!({"v": "3"}));
    world.synced(&object(3), &[("v", "3")]).await;
    all_but(&world, 4).await;
}

/// Waits until the objects are Ready, one excepted.
async fn all_but(world: &World, but: usize) {
    for n in (0..SECRETS).filter(|n| *n != but).step_by(37) {
        world.ready(&object(n), "True", "Synced").await;
    }
}
