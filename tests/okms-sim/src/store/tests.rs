//! The store's behaviour, without a network and with a clock of its own.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn data(value: &serde_json::Value) -> Data {
    Data::from_value(value)
}

fn text(data: &Data) -> String {
    serde_json::to_string(data).unwrap()
}

fn settings(change: SettingsChange) -> MetadataChange {
    MetadataChange { settings: change, custom: CustomChange::Keep }
}

fn keep(max_versions: u32) -> MetadataChange {
    settings(SettingsChange { max_versions: Some(max_versions), ..SettingsChange::default() })
}

#[test]
fn versions_count_from_one_and_are_never_reused() {
    let mut store = Store::default();
    assert_eq!(store.write("a", data(&json!({})), None, at(0)), Ok(1));
    assert_eq!(store.write("a", data(&json!({})), None, at(1)), Ok(2));
    store.set_state("a", 2, State::Deleted, at(2)).unwrap();
    assert_eq!(store.write("a", data(&json!({})), None, at(3)), Ok(3));
}

#[test]
fn pruning_drops_the_oldest_and_only_then_names_it() {
    let mut store = Store::default();
    store.set_metadata("a", keep(2), true, at(0)).unwrap();
    for second in 1..=2 {
        store.write("a", data(&json!({})), None, at(second)).unwrap();
    }
    assert_eq!(store.get("a").unwrap().oldest, 0);
    store.write("a", data(&json!({})), None, at(3)).unwrap();
    let secret = store.get("a").unwrap();
    assert_eq!(secret.oldest, 2);
    assert_eq!(secret.versions.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert!(matches!(secret.version(Some(1)), Err(StoreError::VersionMissing)));
}

#[test]
fn ten_versions_are_kept_by_default_and_zero_means_the_default() {
    for max in [None, Some(0)] {
        let mut store = Store::default();
        let change = SettingsChange { max_versions: max, ..SettingsChange::default() };
        store.set_metadata("a", settings(change), true, at(0)).unwrap();
        for second in 0..12 {
            store.write("a", data(&json!({})), None, at(second)).unwrap();
        }
        assert_eq!(store.get("a").unwrap().versions.len(), 10);
    }
}

#[test]
fn deactivation_hides_the_value_and_activation_brings_it_back() {
    let mut store = Store::default();
    store.write("a", data(&json!({"k": 1})), None, at(0)).unwrap();
    store.set_state("a", 1, State::Deactivated, at(5)).unwrap();
    let version = store.get("a").unwrap().version(None).unwrap().1.clone();
    assert_eq!(version.state(at(5)), State::Deactivated);
    assert_eq!(version.deactivated, Some(at(5)));
    assert!(version.data(at(5)).is_none());

    store.set_state("a", 1, State::Active, at(6)).unwrap();
    let version = store.get("a").unwrap().version(None).unwrap().1.clone();
    assert_eq!(version.deactivated, None);
    assert_eq!(version.data(at(6)).map(text).as_deref(), Some(r#"{"k":1}"#));
}

#[test]
fn a_destroyed_version_stays_destroyed() {
    let mut store = Store::default();
    store.write("a", data(&json!({"k": 1})), None, at(0)).unwrap();
    store.set_state("a", 1, State::Deleted, at(1)).unwrap();
    for state in [State::Active, State::Deactivated] {
        store.set_state("a", 1, state, at(2)).unwrap();
        let version = store.get("a").unwrap().version(None).unwrap().1.clone();
        assert_eq!(version.state(at(2)), State::Deleted);
        assert!(version.data(at(2)).is_none());
    }
}

#[test]
fn a_lifetime_deactivates_when_it_ends_and_not_before() {
    let mut store = Store::default();
    store.set_config(SettingsChange { lifetime: Lifetime::parse("1m30s"), ..SettingsChange::default() });
    store.write("a", data(&json!({})), None, at(0)).unwrap();
    let version = store.get("a").unwrap().version(None).unwrap().1.clone();
    assert_eq!(version.state(at(89)), State::Active);
    assert_eq!(version.state(at(90)), State::Deactivated);
    assert_eq!(version.deactivated, Some(at(90)));
}

#[test]
fn a_secrets_zero_lifetime_wins_over_the_domains() {
    let mut store = Store::default();
    store.set_config(SettingsChange { lifetime: Lifetime::parse("1s"), ..SettingsChange::default() });
    let never = SettingsChange { lifetime: Lifetime::parse("0s"), ..SettingsChange::default() };
    store.set_metadata("a", settings(never), true, at(0)).unwrap();
    store.write("a", data(&json!({})), None, at(0)).unwrap();
    let version = store.get("a").unwrap().version(None).unwrap().1.clone();
    assert_eq!(version.state(at(100)), State::Active);
}

#[test]
fn durations_are_those_of_the_control_panel() {
    let created = at(0);
    let seconds =
        |text| Lifetime::parse(text).and_then(|lifetime| lifetime.end(created)).map(|end| end.duration_since(created));
    assert_eq!(seconds("1d"), Some(SignedDuration::from_hours(24)));
    assert_eq!(seconds("10h30m10s"), Some(SignedDuration::from_secs(37_810)));
    assert_eq!(seconds("0s"), None);
    for wrong in ["", "1", "s", "1w", "-1s", "1.5h", " 1s", "1d ", "99999999999999999999d"] {
        assert!(Lifetime::parse(wrong).is_none(), "{wrong:?} was accepted");
    }
}

#[test]
fn check_and_set_compares_with_the_current_version() {
    let mut store = Store::default();
    let mut write = |cas| store.write("a", data(&json!({})), cas, at(0));
    assert_eq!(write(Some(1)), Err(StoreError::CasMismatch));
    assert_eq!(write(Some(0)), Ok(1));
    assert_eq!(write(Some(0)), Err(StoreError::CasMismatch));
    assert_eq!(write(Some(1)), Ok(2));
    assert_eq!(write(None), Ok(3));
}

#[test]
fn a_refused_write_leaves_no_trace() {
    let mut store = Store::default();
    let refused = store.write("a", data(&json!({})), Some(7), at(0));
    assert_eq!(refused, Err(StoreError::CasMismatch));
    assert!(matches!(store.get("a"), Err(StoreError::SecretMissing)));
}

#[test]
fn an_update_applies_settings_before_it_checks_cas() {
    let mut store = Store::default();
    let required = |required| settings(SettingsChange { cas_required: Some(required), ..SettingsChange::default() });
    store.create("a", data(&json!({})), required(true), at(0)).unwrap();
    let update = |metadata| Update { metadata, data: Some(data(&json!({}))), cas: None };
    assert_eq!(store.update("a", update(None), at(1)), Err(StoreError::CasMissing));
    store.update("a", update(Some(required(false))), at(2)).unwrap();
    assert_eq!(store.get("a").unwrap().current, 2);
}

#[test]
fn metadata_alone_makes_no_version_and_moves_the_update_time() {
    let mut store = Store::default();
    store.write("a", data(&json!({})), None, at(0)).unwrap();
    store.set_metadata("a", keep(3), false, at(9)).unwrap();
    let secret = store.get("a").unwrap();
    assert_eq!((secret.current, secret.updated), (1, at(9)));
}

#[test]
fn a_secret_made_again_starts_at_version_one() {
    let mut store = Store::default();
    for second in 0..3 {
        store.write("a", data(&json!({})), None, at(second)).unwrap();
    }
    store.delete("a").unwrap();
    assert_eq!(store.delete("a"), Err(StoreError::SecretMissing));
    assert_eq!(store.write("a", data(&json!({})), None, at(9)), Ok(1));
    assert_eq!(store.get("a").unwrap().created, at(9));
}

#[test]
fn lists_show_one_level_and_mark_folders() {
    let mut store = Store::default();
    for path in ["prod/db", "prod/mail/smtp", "prod", "prod-old/x", "top"] {
        store.write(path, data(&json!({})), None, at(0)).unwrap();
    }
    let list = |folder: &str| store.children(folder, |_| true).into_iter().collect::<Vec<_>>();
    assert_eq!(list(""), ["prod", "prod-old/", "prod/", "top"]);
    assert_eq!(list("prod"), ["db", "mail/"]);
    assert!(list("top").is_empty());
    let visible = store.children("", |path| path == "prod/db");
    assert_eq!(visible.into_iter().collect::<Vec<_>>(), ["prod/"]);
}

#[test]
fn a_merge_follows_rfc_7396_and_keeps_digits() {
    let raw = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    let before = Data::new(&raw(r#"{"a":{"b":1.10,"c":2},"d":123456789012345678901234567890}"#));
    let patch = raw(r#"{"a":{"c":null,"e":[1]},"f":null}"#);
    assert_eq!(text(&before.merged(&patch, true)), r#"{"a":{"b":1.10,"e":[1]},"d":123456789012345678901234567890}"#);
    assert_eq!(
        text(&before.merged(&raw(r#"{"f":null}"#), false)),
        r#"{"a":{"b":1.10,"c":2},"d":123456789012345678901234567890,"f":null}"#
    );
}

#[test]
fn subkeys_end_at_the_depth() {
    let value = data(&json!({"a": {"b": {"c": 1}}, "d": [1]}));
    assert_eq!(value.subkeys(0), json!({"a": {"b": {"c": null}}, "d": null}));
    assert_eq!(value.subkeys(1), json!({"a": null, "d": null}));
    assert_eq!(value.subkeys(2), json!({"a": {"b": null}, "d": null}));
}

#[test]
fn a_lagging_replica_shows_an_older_version() {
    let mut store = Store::default();
    for second in 0..3 {
        store.write("a", data(&json!({})), None, at(second)).unwrap();
    }
    store.rewind("a", 1);
    let secret = store.get("a").unwrap();
    assert_eq!((secret.current, secret.updated), (2, at(1)));
    store.rewind("a", 9);
    assert_eq!(store.get("a").unwrap().current, 1);
}
