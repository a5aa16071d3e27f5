//! The simulator's own life: stop and restart, many at once, thousands of secrets.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Client;
use crate::started;

#[tokio::test]
async fn stopped_it_refuses_connections_and_restarted_it_has_everything() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({"k": "v"}));
    let endpoint = sim.endpoint();
    assert_eq!(client.get("v2/secret/a").await.status, 200);
    sim.stop().await;
    assert!(client.try_get("v2/secret/a").await.is_err());
    let error = Client::of(&sim, &domain).try_get("v2/secret/a").await.err().unwrap();
    assert!(error.is_connect(), "{error:?}");
    domain.put("a", json!({"k": "w"}));
    sim.restart().await.unwrap();
    assert_eq!(sim.endpoint(), endpoint);
    let read = client.get("v1/secret/data/a").await.json();
    assert_eq!(read["data"]["data"], json!({"k": "w"}));
}

#[tokio::test]
async fn a_dropped_simulator_is_gone() {
    let (sim, _domain, client) = started().await;
    assert_eq!(client.get("v1/secret/config").await.status, 200);
    drop(sim);
    assert!(client.try_get("v1/secret/config").await.is_err());
}

#[tokio::test]
async fn simulators_know_nothing_of_each_other() {
    let (first, domain, client) = started().await;
    let (_second, ..) = started().await;
    domain.put("a", json!({}));
    assert_eq!(client.get("v2/secret/a").await.status, 200);
    let other = first.add_domain();
    assert_eq!(Client::of(&first, &other).get("v2/secret/a").await.status, 404);
}

#[tokio::test]
async fn ten_thousand_secrets_are_seeded_in_a_second_and_listed() {
    let (_sim, domain, client) = started().await;
    let seed = |_| {
        let before = Instant::now();
        domain.seed(10_000, |index| (format!("team-{}/s{index}", index % 7), json!({"n": index})));
        before.elapsed()
    };
    // The best of three, since the machine may be busy with something else.
    let took = (0..3).map(seed).min().unwrap();
    assert!(took < Duration::from_secs(1), "seeding took {took:?}");
    let root = client.get("v1/secret/metadata").await.json();
    assert_eq!(root["data"]["keys"].as_array().unwrap().len(), 7);
    assert!(client.get("v2/secret").await.next_cursor().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_parallel_are_all_counted() {
    let (sim, domain, client) = started().await;
    domain.seed(50, |index| (format!("s{index}"), json!({"n": index})));
    let reads = (0..200).map(|index| {
        let path = format!("v1/secret/data/s{}", index % 50);
        let client = &client;
        async move { client.get(&path).await.status }
    });
    let statuses = futures::future::join_all(reads).await;
    assert!(statuses.iter().all(|&status| status == 200));
    let counters = sim.counters();
    assert_eq!((counters.of("GetSecretRequest"), counters.data_reads), (200, 200));
    assert_eq!(counters.on("s7"), 4);
    sim.reset_counters();
    assert_eq!(sim.counters().total(), 0);
}

#[tokio::test]
async fn tests_can_wait_for_counters() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({}));
    let waiting = sim.wait_until(|counters| counters.of_on("GetSecretV2", "a") == 2);
    let asking = async {
        client.get("v2/secret/a").await;
        client.get("v2/secret/a").await;
    };
    let both = futures::future::join(waiting, asking);
    tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
}
