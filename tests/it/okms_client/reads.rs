//! What OKMS holds, as the client tells it.

use okms_operator::{
    model::{Mark, Page, Reading, State, VersionFacts},
    okms::{ErrorKind, Operation, Outcome},
};
use okms_sim::{Action, EmptyList, Fault, Grants, Metadata};
use serde_json::json;

use super::*;

fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The version and the text of a reading of data.
fn value(reading: Reading) -> (u32, String) {
    match reading {
        Reading::Data { mark, value, .. } => (mark.version.get(), String::from_utf8(value.expose().to_vec()).unwrap()),
        Reading::Unreadable { version, .. } => panic!("version {version} cannot be read"),
    }
}

fn unreadable(reading: &Reading) -> (u32, VersionFacts) {
    match reading {
        Reading::Unreadable { version, facts } => (version.get(), *facts),
        Reading::Data { mark, .. } => panic!("version {} can be read", mark.version),
    }
}

#[tokio::test]
async fn a_secret_is_read_over_both_protocols() {
    for http2 in [true, false] {
        let stage = Stage::with(http2, PATIENCE).await;
        stage.domain.put("prod/shop/db", json!({ "user": "shop" }));
        stage.domain.put("prod/shop/db", json!({ "user": "shop", "port": 5432 }));

        let facts = metadata(&stage.client, "prod/shop/db").await.unwrap();
        assert_eq!((facts.current, facts.oldest), (Some(version(2)), None));
        let versions = facts.versions.unwrap();
        assert_eq!(versions.keys().copied().collect::<Vec<_>>(), [version(1), version(2)]);
        assert!(versions.values().all(|facts| facts.state(now()) == State::Active && facts.created_at.is_some()));
        assert_eq!(stage.sim.counters().data_reads, 0, "metadata moves no data");

        let current = value(data(&stage.client, "prod/shop/db", None).await.unwrap());
        assert_eq!(current, (2, r#"{"port":5432,"user":"shop"}"#.to_owned()));
        let first = value(data(&stage.client, "prod/shop/db", Some(1)).await.unwrap());
        assert_eq!(first, (1, r#"{"user":"shop"}"#.to_owned()));
    }
}

#[tokio::test]
async fn requests_share_a_connection_and_are_counted() {
    let stage = Stage::new().await;
    stage.domain.put("a", json!({}));
    for _ in 0..3 {
        metadata(&stage.client, "a").await.unwrap();
    }
    data(&stage.client, "a", None).await.unwrap();
    stage.client.list_root().await.unwrap();
    metadata(&stage.client, "b").await.unwrap_err();

    let ok = |operation| (operation, Outcome::Answered);
    let seen = stage.seen.requests.lock().unwrap().clone();
    let missing = (Operation::Metadata, Outcome::Failed(ErrorKind::NotFound));
    let meta = ok(Operation::Metadata);
    assert_eq!(seen, [meta, meta, meta, ok(Operation::Data), ok(Operation::List), missing]);
    assert_eq!((stage.seen.handshakes(), stage.sim.counters().handshakes), (1, 1));
}

#[tokio::test]
async fn all_secrets_are_listed_page_by_page() {
    for http2 in [true, false] {
        let stage = Stage::with(http2, PATIENCE).await;
        stage.sim.with_switches(|switches| switches.list_versions = true);
        stage.domain.seed(250, |n| (format!("prod/{n:03}"), json!({ "v": "1" })));
        stage.domain.put("prod/007", json!({ "v": "2" }));
        stage.domain.deactivate("prod/008", 1).unwrap();
        let (mut listed, mut cursor, mut sizes) = (Vec::new(), None, Vec::new());
        loop {
            let page = stage.client.page(cursor.as_ref()).await.unwrap();
            sizes.push(page.secrets.len());
            listed.extend(page.secrets);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(sizes, [99, 100, 50], "the deactivated one proves nothing");
        let seventh = listed.iter().find(|it| it.path == path("prod/007")).unwrap();
        assert_eq!(seventh.version, version(2));
        let facts = metadata(&stage.client, "prod/007").await.unwrap().versions.unwrap()[&version(2)];
        let by_path = Mark { version: version(2), created_at: facts.created_at };
        assert!(seventh.shows(&by_path) && seventh.ends_at(facts.deletion_time));
        assert_eq!((stage.sim.counters().of("ListSecretV2"), stage.sim.counters().data_reads), (3, 0));
        let seen = stage.seen.requests.lock().unwrap().clone();
        assert!(seen.starts_with(&[(Operation::Page, Outcome::Answered); 3]));
    }
}

#[tokio::test]
async fn a_list_without_versions_shows_nothing_and_one_that_is_none_is_an_error() {
    let stage = Stage::new().await;
    stage.domain.put("a", json!({}));
    assert_eq!(stage.client.page(None).await.unwrap(), Page::default());
    for (fault, kind) in [
        (Fault::status(403), ErrorKind::Refused),
        (Fault::status(404), ErrorKind::Unexpected),
        (Fault::status(429), ErrorKind::RateLimited),
        (Fault::status(503), ErrorKind::Unavailable),
        (Fault::answer(200, "application/json", "{}"), ErrorKind::Unexpected),
        (Fault::answer(200, "text/html", "[]"), ErrorKind::Unexpected),
    ] {
        stage.sim.fault(fault.on(&[okms_sim::Operation::ListSecretV2]).times(1));
        assert_eq!(stage.client.page(None).await.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn a_deactivated_or_destroyed_version_is_shown_by_metadata_and_by_data() {
    let stage = Stage::new().await;
    for _ in 0..3 {
        stage.domain.put("a", json!({ "k": "v" }));
    }
    stage.domain.deactivate("a", 2).unwrap();
    stage.domain.destroy("a", 3).unwrap();

    let facts = metadata(&stage.client, "a").await.unwrap();
    assert_eq!(facts.current, Some(version(3)), "the current version stays what it was");
    let states = facts.versions.unwrap().values().map(|facts| facts.state(now())).collect::<Vec<_>>();
    assert_eq!(states, [State::Active, State::Deactivated, State::Destroyed]);

    let (number, facts) = unreadable(&data(&stage.client, "a", Some(2)).await.unwrap());
    assert_eq!((number, facts.state(now())), (2, State::Deactivated));
    for pin in [None, Some(3)] {
        let (number, facts) = unreadable(&data(&stage.client, "a", pin).await.unwrap());
        assert_eq!((number, facts.state(now())), (3, State::Destroyed));
    }
    stage.domain.activate("a", 2).unwrap();
    assert_eq!(value(data(&stage.client, "a", Some(2)).await.unwrap()).0, 2);
}

#[tokio::test]
async fn a_not_found_with_metadata_counts_whatever_its_code() {
    let stage = Stage::new().await;
    stage.domain.put("a", json!({ "k": "v" }));
    stage.domain.deactivate("a", 1).unwrap();
    for code in [17_125_377, 50_405_377, 0] {
        stage.sim.with_switches(|switches| switches.withdrawn_error_code = code);
        assert_eq!(unreadable(&data(&stage.client, "a", None).await.unwrap()).0, 1, "{code}");
    }
}

#[tokio::test]
async fn a_deletion_that_is_planned_leaves_the_version_readable() {
    let stage = Stage::new().await;
    let lifetime = Metadata { delete_version_after: Some("1h".to_owned()), ..Metadata::default() };
    stage.domain.set_metadata("a", lifetime).unwrap();
    stage.domain.put("a", json!({}));
    let Reading::Data { facts, .. } = data(&stage.client, "a", None).await.unwrap() else {
        panic!("the version cannot be read")
    };
    assert_eq!(facts.state(now()), State::Active);
    assert_eq!(facts.state(facts.deletion_time.unwrap()), State::Deactivated);
}

#[tokio::test]
async fn a_missing_secret_is_not_found_and_so_is_a_missing_version() {
    let stage = Stage::new().await;
    stage.domain.put("deleted", json!({}));
    stage.domain.put("there", json!({}));
    stage.domain.delete("deleted").unwrap();
    for at in ["deleted", "never"] {
        assert_eq!(metadata(&stage.client, at).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(data(&stage.client, at, None).await.err().unwrap().kind(), ErrorKind::NotFound);
    }
    let error = data(&stage.client, "there", Some(9)).await.err().unwrap();
    assert_eq!((error.kind(), error.status()), (ErrorKind::NotFound, Some(404)));
    assert!(error.request_id().is_some());
}

#[tokio::test]
async fn pruned_versions_show_in_the_oldest() {
    let stage = Stage::new().await;
    stage.domain.put("a", json!({}));
    stage.domain.set_max_versions("a", 2).unwrap();
    for _ in 0..3 {
        stage.domain.put("a", json!({}));
    }
    let facts = metadata(&stage.client, "a").await.unwrap();
    assert_eq!((facts.current, facts.oldest), (Some(version(4)), Some(version(3))));
}

#[tokio::test]
async fn odd_contents_are_told_apart() {
    let stage = Stage::new().await;
    for (at, content) in [("empty", json!({})), ("null", json!(null)), ("list", json!([1])), ("text", json!("x"))] {
        stage.domain.put(at, content);
    }
    assert_eq!(value(data(&stage.client, "empty", None).await.unwrap()), (1, "{}".to_owned()));
    assert_eq!(value(data(&stage.client, "null", None).await.unwrap()), (1, "null".to_owned()));
    for (at, says) in [("list", "not a JSON object"), ("text", "not a JSON object")] {
        let error = data(&stage.client, at, None).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unexpected, "{at}");
        assert!(error.to_string().contains(says), "{error}");
    }
    stage.domain.set_metadata("versionless", Metadata::default()).unwrap();
    assert_eq!(metadata(&stage.client, "versionless").await.unwrap().current, None);
}

#[tokio::test]
async fn null_fields_may_be_left_out() {
    let stage = Stage::new().await;
    stage.sim.with_switches(|switches| switches.omit_nulls = true);
    stage.domain.put("a", json!({ "k": null }));
    assert_eq!(metadata(&stage.client, "a").await.unwrap().current, Some(version(1)));
    assert_eq!(value(data(&stage.client, "a", None).await.unwrap()).1, r#"{"k":null}"#);
    stage.domain.destroy("a", 1).unwrap();
    assert!(unreadable(&data(&stage.client, "a", None).await.unwrap()).1.destroyed);
}

#[tokio::test]
async fn another_version_than_the_one_asked_for_is_not_taken() {
    let stage = Stage::new().await;
    let body = r#"{"data":{"data":{},"metadata":{"version":2}}}"#;
    stage.sim.fault(Fault::answer(200, "application/json", body));
    assert_eq!(data(&stage.client, "a", Some(1)).await.err().unwrap().kind(), ErrorKind::Unexpected);
    assert_eq!(value(data(&stage.client, "a", Some(2)).await.unwrap()).0, 2);
}

#[tokio::test]
async fn the_root_is_listed_however_an_empty_list_looks() {
    let stage = Stage::new().await;
    for empty_list in [EmptyList::Array, EmptyList::Null, EmptyList::NotFound] {
        stage.sim.with_switches(|switches| switches.empty_list = empty_list);
        stage.client.list_root().await.unwrap();
    }
    stage.domain.seed(30, |n| (format!("s{n}"), json!({})));
    stage.client.list_root().await.unwrap();
    assert_eq!(stage.sim.counters().of("ListSecretsMetadata"), 4);
}

#[tokio::test]
async fn each_request_needs_one_right_only() {
    let stage = Stage::new().await;
    stage.domain.put("a", json!({}));
    let grant = |actions: &[Action]| stage.domain.grant(&stage.certificate.serial, Grants::of(actions)).unwrap();

    grant(&[Action::SecretGet]);
    metadata(&stage.client, "a").await.unwrap();
    assert_eq!(data(&stage.client, "a", None).await.err().unwrap().kind(), ErrorKind::Refused);

    grant(&[Action::VersionGetData]);
    data(&stage.client, "a", None).await.unwrap();
    for denied in [401, 403] {
        stage.sim.with_switches(|switches| switches.denied_status = denied);
        let error = metadata(&stage.client, "a").await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(denied)));
    }
}
