//! Faults: what a client sees of each, and what took effect.

use std::time::{Duration, Instant};

use okms_sim::{Domain, Fault, FaultKind, Operation, Sim, Validity};
use serde_json::json;

use crate::client::{Client, causes};
use crate::started;

const READ: &str = "v1/secret/data/a";

/// Connections break in ways that differ between the two protocols: each such test runs with both.
fn both_protocols(sim: &Sim, domain: &Domain) -> [Client; 2] {
    let certificate = domain.issue_client_certificate(Validity::days(1)).unwrap();
    [
        Client::with(sim, domain, Some(&certificate)),
        Client::build(sim, domain, Some(&certificate), reqwest::ClientBuilder::http1_only),
    ]
}

#[tokio::test]
async fn a_status_comes_with_and_without_retry_after_and_runs_out() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({}));
    sim.fault(Fault::status_retry_after(429, "7").times(1));
    sim.fault(Fault::status(500).times(1));
    let throttled = client.get(READ).await;
    assert_eq!((throttled.status, throttled.code()), (429, 50_434_049));
    assert_eq!(throttled.headers["retry-after"], "7");
    let broken = client.get(READ).await;
    assert_eq!((broken.status, broken.code()), (500, 50_401_281));
    assert!(!broken.headers.contains_key("retry-after"));
    assert_eq!(client.get(READ).await.status, 200);
    assert_eq!(sim.counters().of("GetSecretRequest"), 3);
    let counters = sim.counters();
    assert_eq!(counters.data_reads, 1);
    assert_eq!(counters.statuses.into_iter().collect::<Vec<_>>(), [(200, 1), (429, 1), (500, 1)]);
}

#[tokio::test]
async fn a_fault_keeps_to_its_path_operation_and_domain() {
    let (sim, domain, client) = started().await;
    let neighbour = sim.add_domain();
    for domain in [&domain, &neighbour] {
        domain.put("a", json!({}));
        domain.put("b/c", json!({}));
    }
    let fault = Fault::status(503).on_path("b/*").on(&[Operation::GetSecretRequest]).in_domain(domain.uuid());
    let id = sim.fault(fault);
    assert_eq!(client.get("v1/secret/data/b%2Fc").await.status, 503);
    assert_eq!(client.get("v1/secret/metadata/b%2Fc").await.status, 200);
    assert_eq!(client.get(READ).await.status, 200);
    assert_eq!(client.get("v1/secret/config").await.status, 200);
    let other = Client::of(&sim, &neighbour);
    assert_eq!(other.get("v1/secret/data/b%2Fc").await.status, 200);
    assert!(sim.clear_fault(id));
    assert_eq!(client.get("v1/secret/data/b%2Fc").await.status, 200);
}

#[tokio::test]
async fn latency_and_a_slow_body_take_their_time() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({"k": "some text that makes a few pieces"}));
    let each = Duration::from_millis(150);
    sim.fault(Fault::latency(each).times(1));
    sim.fault(Fault::slow_body(each).times(1));
    let before = Instant::now();
    let answer = client.get(READ).await;
    assert!(before.elapsed() >= 2 * each, "{:?}", before.elapsed());
    assert_eq!(answer.json()["data"]["data"]["k"], "some text that makes a few pieces");
}

#[tokio::test]
async fn a_reset_before_the_effect_writes_nothing() {
    let (sim, domain, _) = started().await;
    for client in both_protocols(&sim, &domain) {
        sim.fault(Fault::new(FaultKind::ResetBeforeEffect).times(1));
        let write = client.request("POST", READ).json(&json!({"data": {}}));
        assert!(write.send().await.is_err());
        assert_eq!(domain.current_version("a"), None);
    }
}

#[tokio::test]
async fn a_reset_after_the_effect_has_written() {
    let (sim, domain, _) = started().await;
    for (client, version) in both_protocols(&sim, &domain).into_iter().zip(1..) {
        sim.fault(Fault::new(FaultKind::ResetAfterEffect).times(1));
        let write = client.request("POST", READ).json(&json!({"data": {}}));
        assert!(write.send().await.is_err());
        assert_eq!(domain.current_version("a"), Some(version));
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_on_tcp() {
    let (sim, domain, _) = started().await;
    let [_, client] = both_protocols(&sim, &domain);
    sim.fault(Fault::new(FaultKind::ResetBeforeEffect));
    let error = causes(&client.try_get(READ).await.err().unwrap());
    assert!(error.to_lowercase().contains("reset"), "{error}");
}

#[tokio::test]
async fn a_truncated_body_begins_well_and_ends_in_an_error() {
    let (sim, domain, _) = started().await;
    domain.put("a", json!({"k": "x".repeat(10_000)}));
    for client in both_protocols(&sim, &domain) {
        sim.fault(Fault::new(FaultKind::TruncatedBody).times(1));
        let mut response = client.request("GET", READ).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut received = 0;
        let error = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => received += chunk.len(),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        assert!(error.is_some(), "the body ended as if it were whole");
        assert!((4_000..9_000).contains(&received), "{received} bytes");
    }
}

#[tokio::test]
async fn answers_of_others_look_like_theirs() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({}));
    sim.fault(Fault::new(FaultKind::HtmlBadGateway).times(1));
    let page = client.get(READ).await;
    assert_eq!((page.status, page.headers["content-type"].to_str().unwrap()), (502, "text/html"));
    sim.fault(Fault::new(FaultKind::DomainNotFound).times(1));
    let wrong = client.get(READ).await;
    assert_eq!((wrong.status, wrong.code()), (404, 16_994_305));
    sim.fault(Fault::answer(404, "application/json", r#"{"errors":[]}"#).times(1));
    let vault = client.get(READ).await;
    assert_eq!((vault.status, vault.json()), (404, json!({"errors": []})));
}

#[tokio::test]
async fn stale_reads_lag_by_versions_on_every_read() {
    let (sim, domain, client) = started().await;
    for number in 1..=3 {
        domain.put("a", json!({"n": number}));
    }
    sim.fault(Fault::stale_reads(1).on_path("a"));
    let read = client.get(READ).await.json();
    assert_eq!(read["data"]["data"], json!({"n": 2}));
    let metadata = client.get("v1/secret/metadata/a").await.json();
    assert_eq!(metadata["data"]["current_version"], 2);
    assert!(metadata["data"]["versions"].get("3").is_none());
    assert_eq!(client.get("v2/secret/a").await.json()["metadata"]["currentVersion"], 2);
    let write = client.send("POST", READ, &json!({"data": {}})).await.json();
    assert_eq!(write["data"]["version"], 4, "writes do not lag");
    sim.clear_faults();
    assert_eq!(client.get("v2/secret/a").await.json()["metadata"]["currentVersion"], 4);
}

#[tokio::test]
async fn frozen_reads_show_the_moment_of_the_fault() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({"n": 1}));
    domain.put("gone", json!({}));
    sim.fault(Fault::new(FaultKind::FrozenReads));
    domain.put("a", json!({"n": 2}));
    domain.deactivate("a", 1).unwrap();
    domain.delete("gone").unwrap();
    assert_eq!(client.get(READ).await.json()["data"]["data"], json!({"n": 1}));
    assert_eq!(client.get("v1/secret/metadata").await.json()["data"]["keys"], json!(["a", "gone"]));
    sim.clear_faults();
    assert_eq!(client.get(READ).await.json()["data"]["data"], json!({"n": 2}));
    assert_eq!(client.get("v1/secret/metadata").await.json()["data"]["keys"], json!(["a"]));
}

#[tokio::test]
async fn in_read_only_mode_reads_work_and_writes_do_not() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({}));
    sim.fault(Fault::new(FaultKind::ReadOnly));
    assert_eq!(client.get(READ).await.status, 200);
    let write = client.send("POST", READ, &json!({"data": {}})).await;
    assert_eq!((write.status, write.code()), (503, 50_425_858));
    assert_eq!(domain.current_version("a"), Some(1));
}
