//! Switches: each changes what its documentation says, and nothing was so before.

use std::time::Duration;

use okms_sim::{EmptyList, ListOrder, Metadata, OddPaths};
use serde_json::{Value, json};

use crate::started;

#[tokio::test]
async fn statuses_of_refusals_can_be_chosen() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({}));
    sim.with_switches(|switches| {
        switches.cas_status = 412;
        switches.exists_status = 409;
        switches.oversize_status = 413;
        switches.bad_path_status = 404;
        switches.max_data_bytes = Some(10);
    });
    let cas = json!({"data": {}, "options": {"cas": 0}});
    assert_eq!(client.send("POST", "v1/secret/data/a", &cas).await.status, 412);
    let create = json!({"path": "a", "version": {"data": {}}});
    assert_eq!(client.send("POST", "v2/secret", &create).await.status, 409);
    let large = json!({"data": {"k": "0123456789"}});
    assert_eq!(client.send("POST", "v1/secret/data/a", &large).await.status, 413);
    assert_eq!(client.get("v1/secret/data/a%20b").await.status, 404);
}

#[tokio::test]
async fn vaults_ways_can_be_taken() {
    let (sim, domain, client) = started().await;
    domain.put("a/b", json!({}));
    let write = json!({"data": {}});
    let versions = json!({"versions": ["1"]});
    let guide = json!({"deactivate_version_after": "1d"});
    let calls = [
        ("PUT", "v1/secret/data/a%2Fb", &write),
        ("LIST", "v1/secret/metadata/a", &Value::Null),
        ("POST", "v1/secret/delete/a%2Fb", &versions),
        ("POST", "v1/secret/metadata/a%2Fb", &guide),
        ("GET", "v1/auth/token/lookup-self", &Value::Null),
    ];
    for (method, tail, body) in calls {
        assert!(client.send(method, tail, body).await.status >= 400, "{method} {tail}");
    }
    sim.with_switches(|switches| {
        switches.vault_verbs = true;
        switches.string_versions = true;
        switches.deactivate_version_after = true;
        switches.token_lookup_self = true;
    });
    for (method, tail, body) in calls {
        assert!(client.send(method, tail, body).await.status < 300, "{method} {tail}");
    }
    let itself = client.get("v1/auth/token/lookup-self").await.json();
    assert_eq!(itself["data"], json!({"type": "service", "ttl": 0, "expire_time": null}));
}

#[tokio::test]
async fn an_empty_list_has_three_faces() {
    let (sim, _domain, client) = started().await;
    let list = "v1/secret/metadata/none?list=true";
    assert_eq!(client.get(list).await.json()["data"], json!({"keys": []}));
    sim.with_switches(|switches| switches.empty_list = EmptyList::Null);
    assert_eq!(client.get(list).await.json()["data"], json!({"keys": null}));
    sim.with_switches(|switches| switches.empty_list = EmptyList::NotFound);
    assert_eq!(client.get(list).await.status, 404);
}

#[tokio::test]
async fn lists_can_run_backwards_over_pages() {
    let (sim, domain, client) = started().await;
    domain.seed(150, |index| (format!("s{index:03}"), json!({})));
    sim.with_switches(|switches| switches.list_order = ListOrder::Descending);
    let first = client.get("v2/secret").await;
    assert_eq!(first.json()[0]["path"], "s149");
    let request = client.request("GET", "v2/secret").header("x-pagination-cursor", first.next_cursor().unwrap());
    let next: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(next[0]["path"], "s049");
    assert_eq!(next.as_array().unwrap().len(), 50);
}

#[tokio::test]
async fn rows_of_a_list_can_have_their_current_version() {
    let (sim, domain, client) = started().await;
    for path in ["active", "active", "ended"] {
        domain.put(path, json!({"k": "v"}));
    }
    domain.deactivate("ended", 1).unwrap();
    domain.set_metadata("empty", Metadata::default()).unwrap();
    let rows = client.get("v2/secret").await.json();
    assert!(rows.as_array().unwrap().iter().all(|row| row.get("version").is_none()), "{rows}");

    sim.with_switches(|switches| switches.list_versions = true);
    let rows = client.get("v2/secret").await.json();
    let alone = client.get("v2/secret/active").await.json();
    assert_eq!(rows[0], alone);
    assert_eq!((&rows[0]["version"]["id"], &rows[0]["version"]["state"]), (&json!(2), &json!("active")));
    assert!(rows[0]["version"].get("data").is_none());
    assert_eq!((&rows[1]["path"], &rows[1]["version"]), (&json!("empty"), &Value::Null));
    assert_eq!(rows[2]["version"]["state"], "deactivated");
    assert_eq!(sim.counters().of("ListSecretV2"), 2);
    assert_eq!(sim.counters().data_reads, 0);
}

#[tokio::test]
async fn odd_slashes_can_be_dropped() {
    let (sim, domain, client) = started().await;
    domain.put("a/b", json!({}));
    let odd = "v1/secret/metadata/a/?list=true";
    assert_eq!(client.get(odd).await.status, 400);
    sim.with_switches(|switches| switches.odd_paths = OddPaths::Clean);
    assert_eq!(client.get(odd).await.json()["data"]["keys"], json!(["b"]));
    assert_eq!(client.get("v2/secret/a//b").await.json()["path"], "a/b");
}

#[tokio::test]
async fn bodies_can_be_read_leniently_and_nulls_left_out() {
    let (sim, _domain, client) = started().await;
    sim.with_switches(|switches| {
        switches.strict_bodies = false;
        switches.omit_nulls = true;
    });
    let write = json!({"data": {}, "unknown": 1, "options": {"also": 2}});
    let written = client.send("POST", "v1/secret/data/a", &write).await;
    assert_eq!(written.status, 200);
    assert!(written.json()["data"].get("custom_metadata").is_none());
}

#[tokio::test]
async fn a_pending_deletion_can_be_hidden() {
    let (sim, domain, client) = started().await;
    let lifetime = Metadata { delete_version_after: Some("1h".to_owned()), ..Metadata::default() };
    domain.set_metadata("a", lifetime).unwrap();
    domain.put("a", json!({}));
    let read = async || client.get("v1/secret/data/a").await;
    let shown = read().await.json()["data"]["metadata"]["deletion_time"].clone();
    assert_ne!(shown, "");
    sim.with_switches(|switches| switches.show_pending_deletion = false);
    assert_eq!(read().await.json()["data"]["metadata"]["deletion_time"], "");
    sim.advance(Duration::from_hours(2));
    let ended = read().await;
    assert_eq!(ended.status, 404);
    assert_eq!(ended.json()["data"]["metadata"]["deletion_time"], shown);
}

#[tokio::test]
async fn the_codes_of_unreadable_versions_can_be_chosen() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({}));
    domain.deactivate("a", 1).unwrap();
    sim.with_switches(|switches| {
        switches.withdrawn_error_code = 1;
        switches.version_missing_error_code = 2;
    });
    assert_eq!(client.get("v1/secret/data/a").await.code(), 1);
    assert_eq!(client.get("v1/secret/data/a?version=2").await.code(), 2);
    assert_eq!(client.get("v1/secret/data/none").await.code(), 17_125_377);
}

#[tokio::test]
async fn nulls_in_a_patch_can_be_kept() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({"k": 1, "l": 2}));
    sim.with_switches(|switches| switches.merge_null_removes = false);
    let patch = json!({"data": {"k": null}});
    assert_eq!(client.send("PATCH", "v1/secret/data/a", &patch).await.status, 200);
    let read = client.get("v1/secret/data/a").await.json();
    assert_eq!(read["data"]["data"], json!({"k": null, "l": 2}));
}

#[tokio::test]
async fn metadata_need_not_create_and_may_warn() {
    let (sim, domain, client) = started().await;
    sim.with_switches(|switches| {
        switches.metadata_creates = false;
        switches.warnings = vec!["take care".to_owned()];
    });
    let change = json!({"max_versions": 3});
    assert_eq!(client.send("POST", "v1/secret/metadata/a", &change).await.status, 404);
    domain.put("a", json!({}));
    let warned = client.send("POST", "v1/secret/metadata/a", &change).await;
    assert_eq!((warned.status, warned.json()), (200, json!({"warnings": ["take care"]})));
}

#[tokio::test]
async fn http2_can_be_switched_off_and_the_request_id_sent() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({}));
    let send = async |client: &crate::client::Client| client.request("GET", "v2/secret/a").send().await.unwrap();
    let response = send(&client).await;
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert!(!response.headers().contains_key("x-request-id"));
    sim.with_switches(|switches| {
        switches.http2 = false;
        switches.request_id_header = true;
    });
    let response = send(&crate::client::Client::of(&sim, &domain)).await;
    assert_eq!(response.version(), reqwest::Version::HTTP_11);
    assert!(response.headers().contains_key("x-request-id"));
}
