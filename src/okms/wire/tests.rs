//! What the parsers take, what they refuse, and what they promise of any bytes at all.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn version(number: u32) -> Version {
    Version::try_from(number).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn meta(data: &serde_json::Value) -> Result<Facts, Malformed> {
    metadata(json!({ "request_id": "x", "data": data }).to_string().as_bytes())
}

/// A data answer, taken apart where it holds a value.
fn read(body: &str, asked: Option<u32>) -> Result<(u32, VersionFacts, Option<String>), Malformed> {
    Ok(match data(body.as_bytes(), asked.map(version))? {
        Reading::Data { mark, facts, value } => {
            let text = String::from_utf8(value.expose().to_vec()).unwrap();
            (mark.version.get(), facts, Some(text))
        }
        Reading::Unreadable { version, facts } => (version.get(), facts, None),
    })
}

fn not_found(body: &serde_json::Value, asked: Option<u32>) -> Result<Option<(u32, VersionFacts)>, Malformed> {
    Ok(unreadable(body.to_string().as_bytes(), asked.map(version))?.map(|reading| match reading {
        Reading::Unreadable { version, facts } => (version.get(), facts),
        Reading::Data { .. } => unreachable!("a not-found has no data"),
    }))
}

#[test]
fn metadata_as_the_specification_prints_it_is_understood() {
    let facts = meta(&json!({
        "cas_required": false, "created_time": "2026-01-01T00:00:00Z", "current_version": 3, "custom_metadata": null,
        "urn": "urn:v1:eu:resource:okms:x/secret/a", "delete_version_after": "0s", "max_versions": 10,
        "oldest_version": 2, "updated_time": "2026-01-01T00:00:00Z",
        "versions": {
            "2": { "created_time": "2026-01-02T03:04:05.123456789Z", "deletion_time": "", "destroyed": true },
            "3": { "created_time": "2026-01-03T00:00:00+02:00", "deletion_time": "2026-01-04T00:00:00Z", "destroyed": false },
        },
    }))
    .unwrap();
    let second =
        VersionFacts { created_at: Some(at("2026-01-02T03:04:05.123456789Z")), deletion_time: None, destroyed: true };
    let third = VersionFacts {
        created_at: Some(at("2026-01-02T22:00:00Z")),
        deletion_time: Some(at("2026-01-04T00:00:00Z")),
        destroyed: false,
    };
    assert_eq!(
        facts,
        Facts {
            current: Some(version(3)),
            oldest: Some(version(2)),
            versions: Some(BTreeMap::from([(version(2), second), (version(3), third)])),
        }
    );
}

#[test]
fn every_field_of_metadata_may_be_absent_or_null_or_zero() {
    let none = Facts::default();
    let empty = Facts { versions: Some(BTreeMap::new()), ..Facts::default() };
    assert_eq!(meta(&json!({ "current_version": 0, "oldest_version": 0 })).unwrap(), none);
    assert_eq!(meta(&json!({ "created_time": "", "current_version": null, "versions": null })).unwrap(), none);
    assert_eq!(meta(&json!({ "versions": {}, "keys": null })).unwrap(), empty);
    let bare = meta(&json!({ "current_version": 1, "versions": { "1": null } })).unwrap();
    assert_eq!(bare.versions, Some(BTreeMap::from([(version(1), VersionFacts::default())])));
    let nulls = json!({ "created_time": null, "deletion_time": null, "destroyed": null });
    let nulls = meta(&json!({ "current_version": 1, "versions": { "1": nulls } })).unwrap();
    assert_eq!(nulls, bare);
}

#[test]
fn a_time_that_was_never_set_is_no_deactivation() {
    let facts = |time: &str| meta(&json!({ "versions": { "1": { "deletion_time": time } } })).unwrap();
    let never = Some(BTreeMap::from([(version(1), VersionFacts::default())]));
    for time in [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00.000Z",
        "0001-01-01T00:09:21+00:09:21",
        "0001-01-01T00:00:00+02:00",
    ] {
        assert_eq!(facts(time).versions, never, "{time}");
    }
    assert_ne!(facts("0002-01-01T00:00:00Z").versions, never);
    assert_eq!(facts("0001-12-31T23:59:59Z").versions, never);
}

#[test]
fn what_is_not_metadata_is_not_taken_for_metadata() {
    for body in ["{}", r#"{"data":null}"#, r#"{"data":{}}"#, r#"{"data":{"keys":["a","b/"]}}"#, r#"{"errors":[]}"#] {
        assert_eq!(metadata(body.as_bytes()), Err(Malformed::NotMetadata), "{body}");
    }
    for body in
        ["", "null", "[]", "<html>", r#"{"data":[]}"#, r#"{"data":"x"}"#, r#"[{"data":{}}]"#, r#"{"data":{"vers"#]
    {
        assert_eq!(metadata(body.as_bytes()), Err(Malformed::NotAsDescribed), "{body}");
    }
}

#[test]
fn a_number_or_time_that_cannot_be_is_an_error_and_never_none() {
    for data in [
        json!({ "current_version": 24_001 }),
        json!({ "current_version": -1 }),
        json!({ "current_version": "1" }),
        json!({ "current_version": 1, "oldest_version": 24_001 }),
        json!({ "versions": { "0": {} } }),
        json!({ "versions": { "24001": {} } }),
        json!({ "versions": { "01": {} } }),
        json!({ "versions": { "one": {} } }),
        json!({ "versions": { "1": { "deletion_time": "yesterday" } } }),
        json!({ "versions": { "1": { "deletion_time": "2026-02-30T00:00:00Z" } } }),
        json!({ "versions": { "1": { "deletion_time": "2026-01-01T00:00:00" } } }),
        json!({ "versions": { "1": { "deletion_time": 0 } } }),
        json!({ "versions": { "1": { "destroyed": "false" } } }),
    ] {
        assert_eq!(meta(&data), Err(Malformed::NotAsDescribed), "{data}");
    }
}

#[test]
fn data_is_kept_letter_by_letter() {
    let text = r#"{ "b": 1.50, "a": [ 12345678901234567890 ], "b": "\u0041\ud800" }"#;
    let body = format!(
        r#"{{"request_id":null,"data":{{"data": {text} ,"metadata":{{"created_time":"2026-01-02T03:04:05Z","version":2}}}}}}"#
    );
    let facts = VersionFacts { created_at: Some(at("2026-01-02T03:04:05Z")), ..VersionFacts::default() };
    assert_eq!(read(&body, None), Ok((2, facts, Some(text.to_owned()))));
    assert_eq!(read(&body, Some(2)), Ok((2, facts, Some(text.to_owned()))));
    for null in [r#"{"data":{"data":null,"metadata":{"version":1}}}"#, r#"{"data":{"metadata":{"version":1}}}"#] {
        assert_eq!(read(null, None), Ok((1, VersionFacts::default(), Some("null".to_owned()))));
    }
    let empty = r#"{"data":{"data":{},"metadata":{"version":1}}}"#;
    assert_eq!(read(empty, None), Ok((1, VersionFacts::default(), Some("{}".to_owned()))));
}

#[test]
fn a_data_answer_that_is_not_as_it_should_be_is_an_error() {
    for (body, malformed) in [
        (r"{}", Malformed::NoData),
        (r#"{"data":null}"#, Malformed::NoData),
        (r#"{"data":{"data":null}}"#, Malformed::NoVersion),
        (r#"{"data":{"data":[],"metadata":{"version":2}}}"#, Malformed::NotObject),
        (r#"{"data":{"data":"x","metadata":{"version":2}}}"#, Malformed::NotObject),
        (r#"{"data":{"data":{}}}"#, Malformed::NoVersion),
        (r#"{"data":{"data":{},"metadata":{"version":0}}}"#, Malformed::NoVersion),
        (r#"{"data":{"data":{},"metadata":{"version":3}}}"#, Malformed::OtherVersion),
        (r#"{"data":{"data":{},"metadata":{"version":24001}}}"#, Malformed::NotAsDescribed),
        (r#"{"data":{"data":{},"metadata":{"version":2,"destroyed":true}}}"#, Malformed::Contradiction),
        (r#"{"data":{"data":{"x":},"metadata":{"version":2}}}"#, Malformed::NotAsDescribed),
        (r#"{"data":{"data":{},"metadata":{"version":2}}"#, Malformed::NotAsDescribed),
        (r#"{"data":{"data":{},"metadata":{"version":2}}} x"#, Malformed::NotAsDescribed),
        (r#"{"data":{"data":{},"data":{},"metadata":{"version":2}}}"#, Malformed::NotAsDescribed),
    ] {
        assert_eq!(read(body, Some(2)), Err(malformed), "{body}");
    }
}

#[test]
fn null_data_of_a_version_that_is_gone_is_unreadable() {
    let destroyed = r#"{"data":{"data":null,"metadata":{"version":2,"destroyed":true}}}"#;
    let facts = VersionFacts { destroyed: true, ..VersionFacts::default() };
    assert_eq!(read(destroyed, None), Ok((2, facts, None)));
    let deleted = r#"{"data":{"data":null,"metadata":{"version":2,"deletion_time":"2026-01-01T00:00:00Z"}}}"#;
    let facts = VersionFacts { deletion_time: Some(at("2026-01-01T00:00:00Z")), ..VersionFacts::default() };
    assert_eq!(read(deleted, None), Ok((2, facts, None)));
}

#[test]
fn a_not_found_with_metadata_tells_of_a_version_that_is_gone() {
    let body =
        |metadata| json!({ "error_code": 17_125_377, "errors": [], "data": { "data": null, "metadata": metadata } });
    let deleted = json!({ "version": 2, "deletion_time": "2026-01-01T00:00:00Z", "destroyed": false });
    let facts = VersionFacts { deletion_time: Some(at("2026-01-01T00:00:00Z")), ..VersionFacts::default() };
    assert_eq!(not_found(&body(deleted.clone()), Some(2)), Ok(Some((2, facts))));
    assert_eq!(not_found(&body(deleted.clone()), None), Ok(Some((2, facts))));
    assert_eq!(not_found(&body(deleted), Some(1)), Err(Malformed::OtherVersion));
    assert_eq!(not_found(&body(json!({ "destroyed": true })), None), Err(Malformed::NoVersion));
    assert_eq!(not_found(&body(json!({ "version": 2, "deletion_time": "" })), None), Err(Malformed::ActiveNotFound));
    let with_data = json!({ "data": { "data": {}, "metadata": { "version": 2, "destroyed": true } } });
    assert_eq!(not_found(&with_data, None), Err(Malformed::Contradiction));
}

#[test]
fn a_not_found_whose_metadata_says_nothing_is_judged_by_its_code() {
    let blank = json!({ "version": 0, "created_time": "", "deletion_time": "", "destroyed": false });
    for data in [json!(null), json!({}), json!({ "metadata": null }), json!({ "data": null, "metadata": blank })] {
        assert_eq!(not_found(&json!({ "error_code": 17_125_377, "data": data }), Some(2)), Ok(None), "{data}");
    }
}

#[test]
fn only_the_secret_manager_can_say_not_found() {
    let says = |body: &str| Refusal::parse(body.as_bytes()).is_not_found();
    assert!(says(r#"{"error_id":"x","error_code":17125377,"errors":["secret"],"request_id":"y"}"#));
    assert!(says(r#"{"error_code":17125378}"#), "another case of the same category");
    for (other, what) in [
        (r#"{"error_code":16994305}"#, "the domain"),
        (r#"{"error_code":17190913}"#, "another part of CCM"),
        (r#"{"error_code":17121281}"#, "another category"),
        (r#"{"error_code":33902593}"#, "another service"),
        (r#"{"errors":[]}"#, "Vault"),
        (r#"{"error_code":null}"#, "nobody"),
        (r#"{"error_code":"17125377"}"#, "a text"),
        (r#"{"error_code":17125377.5}"#, "a fraction"),
        (r#"[17125377,"x"]"#, "a list"),
        ("<html>17125377</html>", "a page"),
        ("", "nothing"),
    ] {
        assert!(!says(other), "{what}");
    }
}

#[test]
fn a_request_id_is_kept_only_if_it_is_one() {
    let id = |text: &str| Refusal::parse(json!({ "request_id": text }).to_string().as_bytes()).request_id;
    assert_eq!(id("OKMS.7298c8ee-46ad-44a9"), Some("OKMS.7298c8ee-46ad-44a9".to_owned()));
    assert_eq!(id("a b"), None);
    assert_eq!(id(""), None);
    assert_eq!(id(&"x".repeat(65)), None);
}

#[test]
fn a_list_is_an_object_with_or_without_keys() {
    for body in [r#"{"data":{"keys":["a"]}}"#, r#"{"data":{"keys":[]}}"#, r#"{"data":{"keys":null}}"#, r#"{"data":{}}"#]
    {
        assert_eq!(list(body.as_bytes()), Ok(()), "{body}");
    }
    assert_eq!(list(b"{}"), Err(Malformed::NotList));
    assert_eq!(list(br#"{"data":{"keys":"a"}}"#), Err(Malformed::NotAsDescribed));
}

/// JSON made of the names and values that answers are made of, put together in any way.
/// What a list shows, as path, version and whether it ends.
fn rows(body: &serde_json::Value) -> Vec<(String, u32, bool)> {
    let listed = secrets(body.to_string().as_bytes()).unwrap();
    listed.into_iter().map(|it| (it.path.to_string(), it.version.get(), it.deactivates_at.is_some())).collect()
}

fn row(path: &str, current: u32, version: &serde_json::Value) -> serde_json::Value {
    json!({ "path": path, "metadata": { "currentVersion": current, "createdAt": "2026-01-01T00:00:00Z" }, "version": version })
}

#[test]
fn a_list_shows_what_is_active_at_its_current_version_and_nothing_else() {
    let version = |id: u32, state: &str| json!({ "id": id, "state": state, "createdAt": "2026-01-02T05:04:05+02:00" });
    let ends = json!({ "id": 1, "state": "active", "createdAt": "2026-01-02T03:04:05Z", "deactivatedAt": "2027-01-01T00:00:00Z" });
    let endless = json!({ "id": 1, "state": "active", "createdAt": "2026-01-02T03:04:05Z", "deactivatedAt": "" });
    let body = json!([
        row("lower", 3, &version(3, "active")),
        row("upper", 3, &version(3, "ACTIVE")),
        row("ends", 1, &ends),
        row("endless", 1, &endless),
        row("deactivated", 3, &version(3, "deactivated")),
        row("deleted", 3, &version(3, "deleted")),
        row("unheard-of", 3, &version(3, "archived")),
        row("older", 4, &version(3, "active")),
        row("none", 3, &json!(null)),
        row("timeless", 3, &json!({ "id": 3, "state": "active", "createdAt": null })),
        row("never", 3, &json!({ "id": 3, "state": "active", "createdAt": "0001-01-01T00:00:00Z" })),
        row("odd time", 3, &json!({ "id": 3, "state": "active", "createdAt": "yesterday" })),
        row("a/../b", 3, &version(3, "active")),
        json!({ "path": "no-version", "metadata": { "currentVersion": 1 } }),
        json!({ "path": "no-metadata", "version": version(1, "active") }),
        json!("text"),
        json!(null),
    ]);
    let shown = [("lower", 3, false), ("upper", 3, false), ("ends", 1, true), ("endless", 1, false)];
    assert_eq!(rows(&body), shown.map(|(path, version, ends)| (path.to_owned(), version, ends)));
    assert_eq!(secrets(body.to_string().as_bytes()).unwrap()[0].created_at, at("2026-01-02T03:04:05Z"));
}

#[test]
fn what_is_no_list_of_secrets_is_not_taken_for_an_empty_one() {
    assert!(secrets(b"[]").unwrap().is_empty());
    for body in ["", "{}", "null", "\"\"", r#"{"data":{"keys":[]}}"#, "[{}"] {
        assert_eq!(secrets(body.as_bytes()), Err(Malformed::NotList), "{body}");
    }
}

fn answers() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        (-1i64..30_000).prop_map(|n| json!(n)),
        prop_oneof!["", "2026-01-01T00:00:00Z", "9999-99-99", "canary"].prop_map(|s| json!(s)),
    ];
    let name = prop::sample::select(vec![
        "data",
        "metadata",
        "versions",
        "version",
        "1",
        "2",
        "24001",
        "current_version",
        "oldest_version",
        "created_time",
        "deletion_time",
        "destroyed",
        "keys",
        "error_code",
        "request_id",
    ]);
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

/// What every parser promises of every body.
fn check(body: &[u8], asked: Option<Version>) {
    let _ = (metadata(body), list(body), Refusal::parse(body));
    for reading in [data(body, asked).ok(), unreadable(body, asked).ok().flatten()].into_iter().flatten() {
        let version = match reading {
            Reading::Data { mark, facts, value } => {
                assert!(!facts.destroyed);
                let text = value.expose();
                assert!((text.starts_with(b"{") && text.ends_with(b"}")) || text == b"null");
                mark.version
            }
            Reading::Unreadable { version, facts } => {
                assert!(facts.destroyed || facts.deletion_time.is_some());
                version
            }
        };
        assert!(asked.is_none_or(|asked| asked == version));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(body: Vec<u8>, number in 1u32..=24_000) {
        let _ = secrets(&body);
        check(&body, None);
        check(&body, Some(version(number)));
    }

    #[test]
    fn any_mixture_of_known_fields_keeps_what_the_parser_promises(body in answers(), number in 1u32..4) {
        let whole = json!({ "data": body }).to_string();
        check(whole.as_bytes(), None);
        check(whole.as_bytes(), Some(version(number)));
        let (cut, _) = whole.as_bytes().split_at(whole.len() / 2);
        check(cut, None);
    }

    #[test]
    fn a_code_means_not_found_by_its_service_part_and_category_alone(code: u32) {
        let refusal = Refusal { code: Some(code.into()), request_id: None };
        let expected = code >> 24 == 1 && (code >> 16) & 0xff == 5 && (code >> 12) & 0xf == 5;
        prop_assert_eq!(refusal.is_not_found(), expected);
        let ours = Refusal { code: Some((0x1055 << 12 | code & 0xfff).into()), request_id: None };
        prop_assert!(ours.is_not_found());
    }
}
