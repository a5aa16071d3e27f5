//! Tests of [`render`](super::render()): sources in, the content of a Secret or a sentence out.

use super::*;
use crate::{
    model::Source,
    plan::{Place, SecretType, TargetShape},
};

fn source(path: &str, keys: KeyPlan) -> WantedSource {
    let source = Source { path: path.parse().unwrap(), pin: None };
    WantedSource { place: Place::Spec, source, keys, prefix: String::new(), optional: false }
}

fn render(readings: &[(&WantedSource, &Value)], type_: &SecretType) -> Result<Rendering, RenderError> {
    render_with(readings, OnKeyConflict::Error, type_)
}

fn render_with(
    readings: &[(&WantedSource, &Value)],
    on_key_conflict: OnKeyConflict,
    type_: &SecretType,
) -> Result<Rendering, RenderError> {
    let first = source("unused", KeyPlan::All);
    let target = TargetShape { type_: type_.clone(), ..TargetShape::default() };
    let templates = Templates::default();
    super::render(&Wanted { sources: first.into(), on_key_conflict, templates, target }, readings, "shop/db")
}

/// `to: from`, or `to` alone for the whole secret; a `?` at the end makes it optional.
fn selected(rules: &[&str]) -> KeyPlan {
    KeyPlan::Selected(rules.iter().map(|rule| parse_rule(rule)).collect())
}

fn parse_rule(rule: &str) -> KeyRule {
    let (text, optional) = rule.strip_suffix('?').map_or((rule, false), |text| (text, true));
    let (to, from) =
        text.split_once(": ").map_or((text, Selector::Whole), |(to, from)| (to, Selector::Field(from.into())));
    KeyRule { to: to.parse().unwrap(), from, optional, decode: None }
}

fn value(text: &str) -> Value {
    Value::from_json_object(Zeroizing::new(text.as_bytes().to_vec()))
}

fn data(rendering: &Rendering) -> Vec<(&str, &str)> {
    let text = |key: &SecretKey| std::str::from_utf8(rendering.get(key.as_str()).unwrap()).unwrap();
    rendering.data.keys().map(|key| (key.as_str(), text(key))).collect()
}

fn one(text: &str, keys: KeyPlan) -> Result<Rendering, RenderError> {
    render(&[(&source("prod/db", keys), &value(text))], &SecretType::Opaque)
}

fn refusal(result: Result<Rendering, RenderError>) -> (RenderErrorKind, String) {
    let error = result.err().expect("the rendering was refused");
    (error.kind, error.message)
}

#[test]
fn without_keys_every_field_is_a_key() {
    let text = r#"{"user":"admin","password":"p\"\n\u00e9","port":5432,"rate":1.0,"none":null,"tls":{"b":[1, 2],"a":true},"empty":""}"#;
    let rendering = one(text, KeyPlan::All).ok().unwrap();
    assert_eq!(
        data(&rendering),
        [
            ("empty", ""),
            ("none", "null"),
            ("password", "p\"\né"),
            ("port", "5432"),
            ("rate", "1.0"),
            ("tls", r#"{"a":true,"b":[1,2]}"#),
            ("user", "admin"),
        ]
    );
}

#[test]
fn keys_take_a_field_a_pointer_or_the_whole() {
    let text = r#"{"password":"x","tls":{"ca":"PEM"},"hosts":["a","b"]}"#;
    let keys = selected(&[
        "DB_PASSWORD: password",
        "ca.crt: /tls/ca",
        "host: /hosts/1",
        "all.json",
        "again: password",
        "no: nothing?",
    ]);
    let rendering = one(text, keys).ok().unwrap();
    assert_eq!(
        data(&rendering),
        [
            ("DB_PASSWORD", "x"),
            ("again", "x"),
            ("all.json", r#"{"hosts":["a","b"],"password":"x","tls":{"ca":"PEM"}}"#),
            ("ca.crt", "PEM"),
            ("host", "b"),
        ]
    );
}

#[test]
fn several_sources_become_one_secret() {
    let (db, smtp) = (source("prod/db", KeyPlan::All), source("prod/smtp", selected(&["SMTP_USER: user"])));
    let rendering =
        render(&[(&db, &value(r#"{"user":"a"}"#)), (&smtp, &value(r#"{"user":"b"}"#))], &SecretType::Opaque)
            .ok()
            .unwrap();
    assert_eq!(data(&rendering), [("SMTP_USER", "b"), ("user", "a")]);
}

#[test]
fn the_data_for_kubernetes_is_the_rendering() {
    let written = one(r#"{"a":"1","b":true}"#, KeyPlan::All).ok().unwrap().into_content().data;
    let expected = [("a", "1"), ("b", "true")].map(|(key, text)| (key.to_owned(), ByteString(text.into())));
    assert_eq!(written, BTreeMap::from(expected));
}

#[test]
fn a_missing_required_key_names_path_key_and_the_fields_there_are() {
    let (kind, message) = refusal(one(r#"{"password":"canary","user":"canary"}"#, selected(&["DB: passwrod"])));
    assert_eq!(kind, RenderErrorKind::KeyNotFound);
    assert_eq!(
        message,
        r#"prod/db has no "passwrod" for the key DB (its fields are "password", "user"): correct from, or make the key optional"#
    );
    let (_, message) = refusal(one("{}", selected(&["DB: password"])));
    assert!(message.contains("it has no fields"), "{message}");
    for from in ["server.host", "server/host"] {
        let (_, message) = refusal(one(r#"{"server":{"host":"canary"}}"#, selected(&[&format!("H: {from}")])));
        assert!(message.contains(r#"where a field within another is named like "/server/host""#), "{message}");
    }
}

#[test]
fn many_and_long_names_are_cut() {
    let fields: Vec<_> = (10..30).map(|n| format!("\"{n}{}\":1", "é".repeat(100))).collect();
    let (_, message) = refusal(one(&format!("{{{}}}", fields.join(",")), selected(&["DB: x"])));
    assert!(message.contains(&format!("\"10{}…\", \"11", "é".repeat(62))), "{message}");
    for (part, shown) in [("\"19", true), ("\"20", false), (" and 10 more", true)] {
        assert_eq!(message.contains(part), shown, "{part}: {message}");
    }
}

#[test]
fn an_illegal_field_name_is_refused_with_a_key_to_use() {
    let (kind, message) = refusal(one(r#"{"z z":1,"ok":1,"db pass":1}"#, KeyPlan::All));
    assert_eq!(kind, RenderErrorKind::InvalidKey);
    assert!(message.contains(r#"prod/db has a field "db pass""#), "the first in order: {message}");
    assert!(message.contains(r#"keys: [{to: db_pass, from: "db pass"}]"#), "{message}");
    assert!(one(r#"{"z z":1,"ok":1}"#, selected(&["z: z z"])).is_ok(), "the remedy works");
}

#[test]
fn one_key_from_two_places_is_a_conflict() {
    let (db, smtp) = (source("prod/db", KeyPlan::All), source("prod/smtp", selected(&["user: login?"])));
    let (a, b) = (value(r#"{"user":"a"}"#), value(r#"{"login":"b"}"#));
    let (kind, message) = refusal(render(&[(&db, &a), (&smtp, &b)], &SecretType::Opaque));
    assert_eq!(kind, RenderErrorKind::KeyConflict);
    assert_eq!(
        message,
        "the key user comes from prod/db and from prod/smtp: give one of them another name with keys or prefix, or set onKeyConflict to LastWins"
    );
    assert!(
        render(&[(&db, &a), (&smtp, &a)], &SecretType::Opaque).is_ok(),
        "an optional key that is not there conflicts with nothing"
    );

    let (kind, message) = refusal(one(r#"{"a":1,"b":2}"#, selected(&["x: a", "x: b"])));
    assert_eq!(kind, RenderErrorKind::KeyConflict);
    assert!(message.contains("comes twice from prod/db"), "{message}");
}

#[test]
fn the_last_source_wins_where_that_is_asked_for() {
    let (db, smtp) = (source("prod/db", KeyPlan::All), source("prod/smtp", KeyPlan::All));
    let (a, b) = (value(r#"{"user":"a","host":"h"}"#), value(r#"{"user":"b"}"#));
    let rendering = render_with(&[(&db, &a), (&smtp, &b)], OnKeyConflict::LastWins, &SecretType::Opaque);
    assert_eq!(data(&rendering.ok().unwrap()), [("host", "h"), ("user", "b")]);
    let large = value(&format!(r#"{{"user":"{}"}}"#, "x".repeat(MAX_DATA_SIZE)));
    assert!(
        render_with(&[(&db, &large), (&smtp, &large)], OnKeyConflict::LastWins, &SecretType::Opaque).is_ok(),
        "what was replaced does not count"
    );
}

#[test]
fn a_prefix_stands_before_every_key_of_its_source() {
    let smtp = WantedSource { prefix: "SMTP_".to_owned(), ..source("prod/smtp", KeyPlan::All) };
    let text = value(r#"{"USER":"a"}"#);
    assert_eq!(data(&render(&[(&smtp, &text)], &SecretType::Opaque).ok().unwrap()), [("SMTP_USER", "a")]);
    let dot = WantedSource { prefix: ".".to_owned(), ..smtp };
    let (kind, message) = refusal(render(&[(&dot, &value(r#"{".x":"a"}"#))], &SecretType::Opaque));
    assert_eq!(kind, RenderErrorKind::InvalidKey, "{message}");
}

#[test]
fn a_field_is_decoded_where_that_is_asked_for() {
    let keys = |from: &str, decode| {
        let rule = parse_rule(&format!("k: {from}"));
        KeyPlan::Selected(vec![KeyRule { decode: Some(decode), ..rule }])
    };
    let text = r#"{"good":"aGk=","bad":"canary!","number":7}"#;
    let rendering = one(text, keys("good", Decode::Base64)).ok().unwrap();
    assert_eq!(data(&rendering), [("k", "hi")]);
    for from in ["bad", "number"] {
        let (kind, message) = refusal(one(text, keys(from, Decode::Base64)));
        assert_eq!(kind, RenderErrorKind::DecodeFailed);
        assert_eq!(
            message,
            format!("\"{from}\" of prod/db, for the key k, is not Base64: correct it, or the decode of the key")
        );
    }
    assert!(one(text, keys("bad", Decode::Auto)).is_ok(), "Auto leaves what it cannot decode");
}

#[test]
fn an_optional_source_without_content_gives_nothing() {
    let empty = WantedSource { optional: true, ..source("prod/none", KeyPlan::All) };
    let db = source("prod/db", KeyPlan::All);
    let (none, text) = (Value::null(), value(r#"{"a":"1"}"#));
    for nothing in [&none, &value("{}")] {
        let rendering = render(&[(&empty, nothing), (&db, &text)], &SecretType::Opaque).ok().unwrap();
        assert_eq!(data(&rendering), [("a", "1")]);
        assert_eq!(
            refusal(render(&[(&empty, nothing)], &SecretType::Opaque)).0,
            RenderErrorKind::EmptySource,
            "all of nothing is nothing"
        );
    }
}

#[test]
fn nothing_is_never_rendered() {
    let (kind, message) = refusal(one("{}", KeyPlan::All));
    assert_eq!(
        (kind, message.as_str()),
        (RenderErrorKind::EmptySource, "prod/db has no fields: write at least one into it")
    );
    let (kind, message) = refusal(one(r#"{"a":1}"#, selected(&["x: b?"])));
    assert_eq!(kind, RenderErrorKind::EmptySource);
    assert!(message.starts_with("prod/db has nothing for any of the keys"), "{message}");
    assert_eq!(refusal(render(&[], &SecretType::Opaque)).0, RenderErrorKind::EmptySource);
    assert!(one("{}", selected(&["all.json"])).is_ok(), "the whole of an empty secret is {{}}");
}

#[test]
fn the_values_may_have_exactly_the_bytes_that_kubernetes_takes() {
    let text = |size: usize| format!(r#"{{"a":"{}","b":"12"}}"#, "x".repeat(size - 2));
    assert!(one(&text(MAX_DATA_SIZE), KeyPlan::All).is_ok());
    let (kind, message) = refusal(one(&text(MAX_DATA_SIZE + 1), KeyPlan::All));
    assert_eq!(kind, RenderErrorKind::TooLarge);
    assert!(message.contains("key b from prod/db") && message.contains("1048577 bytes, and 1048576"), "{message}");
}

#[test]
fn a_text_that_is_not_a_usable_object_is_refused() {
    assert_eq!(refusal(one("[1]", KeyPlan::All)).0, RenderErrorKind::DecodeFailed);
    assert_eq!(refusal(one(r#"{"a":"\ud800"}"#, KeyPlan::All)).0, RenderErrorKind::DecodeFailed);
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert_eq!(refusal(one(&deep, KeyPlan::All)).0, RenderErrorKind::TooLarge);
}

#[test]
fn the_type_has_the_last_word() {
    let web = source("prod/web", KeyPlan::All);
    let (kind, message) = refusal(render(&[(&web, &value(r#"{"cert":"canary"}"#))], &SecretType::Tls));
    assert_eq!(kind, RenderErrorKind::InvalidForType);
    assert_eq!(
        message,
        "prod/web makes no Secret of type kubernetes.io/tls: the key tls.crt is missing: \
         name it with keys: [{to: tls.crt, from: <field>}], or make it with a template (keys now: cert)"
    );
}
