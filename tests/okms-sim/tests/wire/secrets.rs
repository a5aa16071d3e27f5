//! Operations over the wire: encodings, shapes, errors, limits, pages.

use okms_sim::{Action, Grants, Metadata};
use serde_json::{Value, json};

use crate::client::{Answer, Client, answer};
use crate::started;

fn put(max_versions: u32) -> Metadata {
    Metadata { max_versions: Some(max_versions), ..Metadata::default() }
}

#[tokio::test]
async fn both_encodings_read_and_write_the_same_secret() {
    let (_sim, domain, client) = started().await;
    let write = json!({"data": {"k": "v"}});
    for tail in ["v1/secret/data/prod/db", "v1/secret/data/prod%2Fdb"] {
        assert_eq!(client.send("POST", tail, &write).await.status, 200);
    }
    assert_eq!(domain.current_version("prod/db"), Some(2));
    for tail in ["v2/secret/prod/db", "v2/secret/prod%2Fdb"] {
        assert_eq!(client.get(tail).await.json()["path"], "prod/db");
    }
}

#[tokio::test]
async fn a_kv2_read_has_the_documented_shape() {
    let (_sim, domain, client) = started().await;
    domain.put("a", json!({"n": 1}));
    let answer = client.get("v1/secret/data/a").await.json();
    assert!(answer["request_id"].is_string());
    assert_eq!(answer["data"]["data"], json!({"n": 1}));
    let metadata = &answer["data"]["metadata"];
    assert_eq!(metadata["custom_metadata"], Value::Null);
    assert_eq!(metadata["deletion_time"], "");
    assert_eq!(metadata["destroyed"], false);
    assert_eq!(metadata["version"], 1);
    let created = metadata["created_time"].as_str().unwrap();
    assert_eq!(created.len(), "2025-07-22T02:24:06.945319214Z".len());
}

#[tokio::test]
async fn values_come_back_digit_for_digit() {
    let (_sim, _domain, client) = started().await;
    let data = r#"{"a":1.10,"b":123456789012345678901234567890}"#;
    let request = client.request("POST", "v1/secret/data/a");
    let written = request.body(format!(r#"{{"data":{data}}}"#)).send().await;
    assert_eq!(written.unwrap().status(), 200);
    assert!(client.get("v1/secret/data/a").await.text.contains(data));
}

#[tokio::test]
async fn metadata_names_every_version() {
    let (_sim, domain, client) = started().await;
    domain.set_metadata("prod/db", put(2)).unwrap();
    for number in 0..3 {
        domain.put("prod/db", json!({"n": number}));
    }
    domain.deactivate("prod/db", 2).unwrap();
    domain.destroy("prod/db", 3).unwrap();
    let answer = client.get("v1/secret/metadata/prod%2Fdb").await.json();
    let metadata = &answer["data"];
    assert_eq!(metadata["current_version"], 3);
    assert_eq!(metadata["oldest_version"], 2);
    assert_eq!(metadata["max_versions"], 2);
    assert_eq!(metadata["delete_version_after"], "0s");
    assert_eq!(metadata["cas_required"], false);
    let urn = format!("urn:v1:eu:resource:okms:{}/secret/prod%2Fdb", domain.okms_id());
    assert_eq!(metadata["urn"], urn);
    assert!(metadata.get("keys").is_none());
    let versions = metadata["versions"].as_object().unwrap();
    assert_eq!(versions.keys().collect::<Vec<_>>(), ["2", "3"]);
    assert_ne!(versions["2"]["deletion_time"], "");
    assert_eq!(versions["2"]["destroyed"], false);
    assert_eq!(versions["3"]["destroyed"], true);
}

#[tokio::test]
async fn a_withdrawn_version_is_a_404_on_kv2_and_a_200_on_rest_v2() {
    let (sim, domain, client) = started().await;
    domain.put("a", json!({"secret": "canary"}));
    for (state, destroyed) in [("deactivated", false), ("deleted", true)] {
        if destroyed {
            domain.destroy("a", 1).unwrap();
        } else {
            domain.deactivate("a", 1).unwrap();
        }
        for tail in ["v1/secret/data/a", "v1/secret/data/a?version=1"] {
            let answer = client.get(tail).await;
            assert_eq!(answer.status, 404);
            let body = answer.json();
            assert_eq!(body["data"]["data"], Value::Null);
            assert_eq!(body["data"]["metadata"]["destroyed"], destroyed);
            assert_ne!(body["data"]["metadata"]["deletion_time"], "");
            assert_eq!(body["error_code"], 17_125_377);
        }
        let answer = client.get("v2/secret/a?includeData=true").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["version"]["state"], state);
        assert!(!answer.text.contains("canary"));
    }
    assert_eq!(sim.counters().data_reads, 0);
}

#[tokio::test]
async fn what_is_missing_is_a_404_with_the_secret_managers_code() {
    let (_sim, domain, client) = started().await;
    domain.set_metadata("bare", Metadata::default()).unwrap();
    domain.put("a", json!({}));
    for tail in [
        "v1/secret/data/none",
        "v1/secret/metadata/none",
        "v1/secret/subkeys/none",
        "v1/secret/data/bare",
        "v1/secret/data/a?version=2",
        "v2/secret/none",
        "v2/secret/a?version=2",
        "v2/secret/a/version/2",
        "v2/secret/none/version",
    ] {
        let answer = client.get(tail).await;
        assert_eq!((answer.status, answer.code()), (404, 17_125_377), "{tail}");
        let body = answer.json();
        assert!(body["errors"][0].is_string() && body["error_id"].is_string());
        assert!(body["request_id"].is_string() && body.get("data").is_none());
    }
    assert_eq!(client.get("v1/secret/metadata/bare").await.json()["data"]["current_version"], 0);
}

#[tokio::test]
async fn unknown_and_malformed_domains_are_told_apart() {
    let (sim, domain, client) = started().await;
    let unknown = Client::of(&sim, &domain);
    let url = |tail: &str| format!("{}/{tail}", sim.endpoint());
    let get = async |tail: &str| {
        let request = unknown.request("GET", "").build().unwrap();
        let mut request = reqwest::Request::new(request.method().clone(), request.url().clone());
        *request.url_mut() = url(tail).parse().unwrap();
        answer(client.execute(request).await.unwrap()).await.unwrap()
    };
    let id = "00000000-0000-4000-8000-000000000000";
    let answer = get(&format!("api/{id}/v1/secret/config")).await;
    assert_eq!((answer.status, answer.code()), (404, 16_994_305));
    assert_eq!(get("api/nonsense/v1/secret/config").await.status, 400);
    assert_eq!(get("v1/secret/config").await.status, 404);
    let path = format!("/api/{}/v1/secret/config", domain.okms_id());
    assert_eq!(get(&path).await.status, 404, "a double slash after the host");
}

#[tokio::test]
async fn bad_requests_are_refused_without_effect() {
    let (_sim, domain, client) = started().await;
    domain.put("a", json!({}));
    let long = "x".repeat(256);
    let cases = [
        ("POST", "v1/secret/data/a".to_owned(), json!({"data": [1]})),
        ("POST", "v1/secret/data/a".to_owned(), json!({"data": {}, "dat": 1})),
        ("POST", "v1/secret/data/a".to_owned(), json!({"data": {}, "options": {"cas": 2}})),
        ("POST", "v1/secret/data/a".to_owned(), json!({"data": {}, "options": {"cas": "1"}})),
        ("POST", format!("v1/secret/data/{long}"), json!({"data": {}})),
        ("POST", "v1/secret/data/a%20b".to_owned(), json!({"data": {}})),
        ("POST", "v1/secret/data/a//b".to_owned(), json!({"data": {}})),
        ("PATCH", "v1/secret/data/a".to_owned(), json!({"data": null})),
        ("POST", "v1/secret/delete/a".to_owned(), json!({"versions": ["1"]})),
        ("PUT", "v1/secret/destroy/a".to_owned(), json!({})),
        ("POST", "v1/secret/metadata/a".to_owned(), json!({"max_versions": 24_001})),
        ("POST", "v1/secret/metadata/a".to_owned(), json!({"delete_version_after": "soon"})),
        ("POST", "v1/secret/metadata/a".to_owned(), json!({"deactivate_version_after": "1d"})),
        ("POST", "v1/secret/metadata/a".to_owned(), json!({"custom_metadata": {"k": "two words"}})),
        ("POST", "v2/secret".to_owned(), json!({"path": "a", "version": {"data": {}}})),
        ("POST", "v2/secret".to_owned(), json!({"path": "/b", "version": {"data": {}}})),
        ("POST", "v2/secret".to_owned(), json!({"path": "b%2Fc", "version": {"data": {}}})),
        ("POST", "v2/secret".to_owned(), json!({"path": "b", "version": {"data": null}})),
        ("PUT", "v2/secret/a?cas=7".to_owned(), json!({"version": {"data": {}}})),
        ("PUT", "v2/secret/a/version/1".to_owned(), json!({"state": "activated"})),
        ("PUT", "v2/secret/a/version/0".to_owned(), json!({"state": "deleted"})),
        ("POST", "v2/secret/a/version".to_owned(), json!({"data": "text"})),
    ];
    for (method, tail, body) in &cases {
        let answer = client.send(method, tail, body).await;
        assert_eq!(answer.status, 400, "{method} {tail} {body}: {}", answer.text);
        assert!(answer.json()["error_code"].is_i64());
    }
    for tail in ["v1/secret/data/a?version=0", "v1/secret/data/a?version=24001", "v2/secret/a?includeData=1"] {
        assert_eq!(client.get(tail).await.status, 400, "{tail}");
    }
    assert_eq!(domain.current_version("a"), Some(1));
    assert_eq!(domain.current_version("b"), None);
    assert_eq!(client.get("v1/secret/data/a").await.status, 200);
}

#[tokio::test]
async fn data_over_64_kilobytes_is_refused_unless_switched_off() {
    let (sim, domain, client) = started().await;
    // {"data":{"k":"…"}}: eight bytes around the text.
    let write = |bytes: usize| json!({"data": {"k": "x".repeat(bytes - 8)}});
    let size = 64 * 1024;
    assert_eq!(client.send("POST", "v1/secret/data/a", &write(size)).await.status, 200);
    assert_eq!(client.send("POST", "v1/secret/data/a", &write(size + 1)).await.status, 400);
    let create = json!({"path": "b", "version": write(size + 1)});
    assert_eq!(client.send("POST", "v2/secret", &create).await.status, 400);
    sim.with_switches(|switches| switches.max_data_bytes = None);
    let large = write(2 * 1024 * 1024);
    assert_eq!(client.send("POST", "v1/secret/data/a", &large).await.status, 200);
    assert_eq!(domain.current_version("a"), Some(2));
}

#[tokio::test]
async fn success_is_204_without_a_body_where_the_specification_says_so() {
    let (_sim, domain, client) = started().await;
    domain.put("a", json!({}));
    let versions = json!({"versions": [1]});
    for (method, tail, body) in [
        ("POST", "v1/secret/config", json!({"max_versions": 5})),
        ("DELETE", "v1/secret/data/a", json!(null)),
        ("POST", "v1/secret/undelete/a", versions.clone()),
        ("POST", "v1/secret/delete/a", versions.clone()),
        ("PUT", "v1/secret/destroy/a", versions),
        ("POST", "v1/secret/metadata/a", json!({"custom_metadata": {"k": "v"}})),
        ("PATCH", "v1/secret/metadata/a", json!({"custom_metadata": {"k": null}})),
        ("DELETE", "v1/secret/metadata/a", json!(null)),
    ] {
        let answer = client.send(method, tail, &body).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{method} {tail}");
    }
    domain.put("a", json!({}));
    let answer = client.send("DELETE", "v2/secret/a", &json!(null)).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
}

async fn page(client: &Client, tail: &str, size: u32, cursor: Option<&str>) -> Answer {
    let mut request = client.request("GET", tail).header("x-pagination-size", size);
    if let Some(cursor) = cursor {
        request = request.header("x-pagination-cursor", cursor);
    }
    answer(request.send().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn lists_come_in_pages() {
    let (_sim, domain, client) = started().await;
    domain.seed(25, |index| (format!("all/s{index:02}"), json!({})));
    let mut keys = Vec::new();
    let mut sizes = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let answer = page(&client, "v1/secret/metadata/all?list=true", 10, cursor.as_deref()).await;
        let body = answer.json();
        let rows = body["data"]["keys"].as_array().unwrap();
        sizes.push(rows.len());
        keys.extend(rows.iter().map(|key| key.as_str().unwrap().to_owned()));
        cursor = answer.next_cursor();
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(keys, (0..25).map(|index| format!("s{index:02}")).collect::<Vec<_>>());

    let first = page(&client, "v2/secret", 20, None).await;
    let next = page(&client, "v2/secret", 20, first.next_cursor().as_deref()).await;
    assert_eq!(next.json().as_array().unwrap().len(), 5);
    assert_eq!(next.json()[4]["path"], "all/s24");
    for size in [9, 101] {
        assert_eq!(page(&client, "v2/secret", size, None).await.status, 400);
    }
    assert_eq!(page(&client, "v2/secret", 10, Some("no cursor!")).await.status, 400);
}

#[tokio::test]
async fn a_page_that_ends_with_the_list_has_no_cursor() {
    let (_sim, domain, client) = started().await;
    domain.seed(100, |index| (format!("s{index:03}"), json!({})));
    assert_eq!(client.get("v2/secret").await.next_cursor(), None);
    domain.put("t", json!({}));
    let answer = client.get("v2/secret").await;
    assert_eq!(answer.json().as_array().unwrap().len(), 100);
    assert!(answer.next_cursor().is_some());
}

#[tokio::test]
async fn secrets_that_may_not_be_read_make_holes_in_pages_by_switch_only() {
    let (sim, domain, _) = started().await;
    domain.seed(40, |index| {
        let folder = if index % 2 == 0 { "shown" } else { "hidden" };
        (format!("s{index:02}/{folder}"), json!({}))
    });
    let certificate = domain.issue_client_certificate(okms_sim::Validity::days(1)).unwrap();
    let shown: Vec<_> = (0..40).step_by(2).map(|index| format!("s{index:02}/*")).collect();
    let shown: Vec<_> = shown.iter().map(String::as_str).collect();
    let grants = Grants::nothing().and(&[Action::SecretGet], &shown);
    domain.grant(&certificate.serial, grants).unwrap();
    let client = Client::with(&sim, &domain, Some(&certificate));
    let first = page(&client, "v2/secret", 10, None).await;
    let next = page(&client, "v2/secret", 10, first.next_cursor().as_deref()).await;
    assert_eq!(first.json().as_array().unwrap().len(), 10);
    assert_eq!(next.json().as_array().unwrap().len(), 10);
    assert_eq!(next.next_cursor(), None);

    sim.with_switches(|switches| switches.filter_after_paging = true);
    let first = page(&client, "v2/secret", 10, None).await;
    assert_eq!(first.json().as_array().unwrap().len(), 5);
    assert!(first.next_cursor().is_some());
}

#[tokio::test]
async fn the_live_tests_of_the_official_command_line_hold() {
    let (_sim, _domain, client) = started().await;
    let create = json!({
        "path": "s",
        "metadata": {"casRequired": true, "deactivateVersionAfter": "1d", "maxVersions": 10},
        "version": {"data": {"k": 1}},
    });
    let created = client.send("POST", "v2/secret", &create).await.json();
    let metadata = &created["metadata"];
    assert_eq!((&metadata["currentVersion"], &metadata["oldestVersion"]), (&json!(1), &json!(0)));
    assert_eq!(metadata["deactivateVersionAfter"], "1d");
    let time = metadata["createdAt"].as_str().unwrap();
    assert_eq!(time.len(), "2026-01-02T03:04:05Z".len());

    let update = json!({"version": {"data": {"k": 2}}});
    assert_eq!(client.send("PUT", "v2/secret/s", &update).await.status, 400, "cas is required");
    let updated = client.send("PUT", "v2/secret/s?cas=1", &update).await.json();
    assert_eq!(updated["metadata"]["currentVersion"], 2);
    assert!(updated.get("version").is_none());

    let third = client.send("POST", "v2/secret/s/version?cas=2", &json!({"data": {"k": 3}})).await;
    assert_eq!((&third.json()["id"], &third.json()["state"]), (&json!(3), &json!("active")));
    let second = client.get("v2/secret/s?version=2&includeData=true").await.json();
    assert_eq!(second["version"]["data"], json!({"k": 2}));
    assert_eq!(second["metadata"]["currentVersion"], 3);

    let state = json!({"state": "deactivated"});
    assert_eq!(client.send("PUT", "v2/secret/s/version/3", &state).await.status, 200);
    let latest = client.get("v2/secret/s?includeData=true").await.json();
    assert_eq!(latest["version"]["state"], "deactivated");
    assert!(latest["version"].get("data").is_none());
    assert_eq!(latest["metadata"]["currentVersion"], 3);

    let lifted = json!({"metadata": {"casRequired": false}, "version": {"data": {"k": 4}}});
    let lifted = client.send("PUT", "v2/secret/s", &lifted).await.json();
    assert_eq!(lifted["metadata"]["currentVersion"], 4);
    let versions = client.get("v2/secret/s/version").await.json();
    assert_eq!(versions.as_array().unwrap().len(), 4);

    let config = json!({"delete_version_after": "1d", "max_versions": 24});
    assert_eq!(client.send("POST", "v1/secret/config", &config).await.status, 204);
    let config = client.get("v2/secretConfig").await.json();
    assert_eq!((&config["deactivateVersionAfter"], &config["maxVersions"]), (&json!("1d"), &json!(24)));
}

#[tokio::test]
async fn a_secret_can_be_named_like_a_route_if_it_is_encoded() {
    let (_sim, domain, client) = started().await;
    domain.put("a", json!({}));
    domain.put("a/version", json!({}));
    assert_eq!(client.get("v2/secret/a%2Fversion").await.json()["path"], "a/version");
    assert!(client.get("v2/secret/a/version").await.json().is_array());
}
