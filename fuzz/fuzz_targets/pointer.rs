//! Any text as a secret's JSON and any rules: a pointer finds what it should, only what was asked for becomes a key, no error holds a
//! value.
//!
//! An input is made of parts with a NUL between them. The first is a byte of settings, then there are three for each source: the
//! text of the secret; the prefix; and the rules, one on a line, such as `0ca.crt=/tls/ca`, with a digit for their settings before the
//! key. Without rules every field becomes a key, without `=` the rule takes the whole secret.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use libfuzzer_sys::{Corpus, fuzz_target};
use okms_operator::{
    api::OkmsSecret,
    model::Value,
    plan::{self, MAX_DATA_SIZE, RenderError, Wanted, WantedSource},
};
use okms_operator_fuzz::{CANARY, assert_silent, leaks};
use serde_json::{Value as Tree, json};
use zeroize::Zeroizing;

const TYPES: [&str; 8] = [
    "Opaque",
    "Opaque",
    "Opaque",
    "kubernetes.io/tls",
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/basic-auth",
    "kubernetes.io/ssh-auth",
    "example.com/own",
];

/// A part of a secret, as a spec selects it.
#[derive(Clone)]
struct Rule {
    to: String,
    from: Option<String>,
    optional: bool,
    decode: Option<&'static str>,
}

struct Source {
    text: Vec<u8>,
    prefix: String,
    rules: Option<Vec<Rule>>,
}

type Data = BTreeMap<String, Vec<u8>>;

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((settings, sources)) = parse(input) else { return Corpus::Reject };
    let conflict = if settings & 1 == 0 { "Error" } else { "LastWins" };
    let type_ = TYPES[usize::from(settings >> 2 & 7)];
    let Some(wanted) = wanted(&sources, conflict, type_) else { return Corpus::Keep };

    let one = render(&wanted, &sources);
    assert!(one == render(&wanted, &sources), "the same secrets made something else");
    match &one {
        Ok(data) => {
            assert!(!data.is_empty());
            assert!(data.values().map(Vec::len).sum::<usize>() <= MAX_DATA_SIZE);
            if let Some(asked) = asked(&sources) {
                assert!(data.keys().all(|key| asked.contains(key)), "a key that nobody asked for");
            }
        }
        Err(error) => {
            assert_silent(error, &error.message);
            assert!(error.message.contains("prod/"), "names no path: {error}");
        }
    }
    for source in &sources {
        for rule in source.rules.iter().flatten() {
            check_pointer(source, rule);
        }
    }
    Corpus::Keep
});

/// What one rule finds is what `serde_json` finds: a field of this very name, else what it points at.
fn check_pointer(source: &Source, rule: &Rule) {
    let alone = |decode| {
        let rule = Rule { to: "k".to_owned(), optional: true, decode, ..rule.clone() };
        let source = Source { text: source.text.clone(), prefix: String::new(), rules: Some(vec![rule]) };
        let sources = [source];
        let wanted = wanted(&sources, "Error", "Opaque").expect("k is a key");
        render(&wanted, &sources).ok().and_then(|mut data| data.remove("k"))
    };
    let found = alone(None);
    // What it does not take is taken here, and what it does for features of its own is not.
    let Some(tree) = tree(&source.text).filter(Tree::is_object) else { return };
    let expected = match &rule.from {
        None => Some(&tree),
        Some(from) => tree.get(from).or_else(|| tree.pointer(from).filter(|_| is_pointer(from))),
    };
    match (&found, expected) {
        (Some(ours), Some(Tree::String(theirs))) => assert_eq!(ours, theirs.as_bytes()),
        (Some(ours), Some(theirs)) => assert_eq!(&serde_json::from_slice::<Tree>(ours).expect("JSON"), theirs),
        (None, None) => {}
        (ours, theirs) => panic!("{:?}: found {}, but {}", rule.from, ours.is_some(), theirs.is_some()),
    }
    if let (Some(Tree::String(text)), Some(_)) = (expected, &rule.from) {
        check_decoding(text, rule.decode, alone(rule.decode));
    }
}

/// Whether this is a pointer of RFC 6901, but the empty one, which is the whole. `serde_json` passes over a `~` that escapes nothing.
fn is_pointer(from: &str) -> bool {
    from.starts_with('/') && from.split('~').skip(1).all(|after| after.starts_with(['0', '1']))
}

/// What was decoded is the same text when it is encoded, but for padding and white space.
fn check_decoding(text: &str, how: Option<&str>, decoded: Option<Vec<u8>>) {
    let bare: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bare = bare.trim_end_matches('=');
    let is_base64 = |bytes: &Vec<u8>| BASE64_STANDARD_NO_PAD.encode(bytes) == bare;
    let is_base64url = |bytes: &Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(bytes) == bare;
    match (how, decoded) {
        (Some("Base64"), decoded) => assert!(decoded.is_none_or(|bytes| is_base64(&bytes))),
        (Some("Base64URL"), decoded) => assert!(decoded.is_none_or(|bytes| is_base64url(&bytes))),
        (Some(_), Some(bytes)) => {
            assert!(bytes == text.as_bytes() || is_base64(&bytes) || is_base64url(&bytes));
        }
        (None, Some(bytes)) => assert_eq!(bytes, text.as_bytes()),
        (_, None) => panic!("a text was there, and is not any more"),
    }
}

/// `None` where the canary is in what errors may show.
fn parse(input: &[u8]) -> Option<(u8, Vec<Source>)> {
    let mut parts = input.split(|byte| *byte == 0);
    let settings = *parts.next()?.first()?;
    let mut sources = Vec::new();
    while let (Some(text), Some(prefix), Some(rules)) = (parts.next(), parts.next(), parts.next()) {
        let (prefix, rules) = (String::from_utf8_lossy(prefix).into_owned(), String::from_utf8_lossy(rules));
        let shown = [text, prefix.as_bytes(), rules.as_bytes()];
        if sources.len() == 4 || shown.iter().any(|text| leaks(text)) {
            return None;
        }
        let text = if settings & 2 == 0 { planted(text) } else { text.to_vec() };
        let rules = (!rules.is_empty()).then(|| rules.split('\n').take(8).map(parse_rule).collect());
        sources.push(Source { text, prefix, rules });
    }
    Some((settings, sources)).filter(|(_, sources)| !sources.is_empty())
}

fn parse_rule(line: &str) -> Rule {
    let settings = line.bytes().next().unwrap_or_default();
    let line = line.strip_prefix(|c: char| c.is_ascii()).unwrap_or(line);
    let (to, from) = line.split_once('=').map_or((line, None), |(to, from)| (to, Some(from.to_owned())));
    let decode = [None, Some("Base64"), Some("Base64URL"), Some("Auto")][usize::from(settings >> 1 & 3)];
    Rule { to: to.to_owned(), optional: settings & 1 == 1, decode: decode.filter(|_| from.is_some()), from }
}

/// Puts the canary at the beginning of strings that are values: what stands behind `:` or `[` is no name, or this is no JSON.
fn planted(text: &[u8]) -> Vec<u8> {
    let mut planted = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        planted.push(*byte);
        if *byte == b'"' && text[..at].last().is_some_and(|before| b":[".contains(before)) {
            planted.extend_from_slice(CANARY.as_bytes());
        }
    }
    planted
}

/// Through the same parser as what people write; `None` where that refuses it.
fn wanted(sources: &[Source], on_key_conflict: &str, type_: &str) -> Option<Wanted> {
    let rule =
        |rule: &Rule| json!({ "to": rule.to, "from": rule.from, "optional": rule.optional, "decode": rule.decode });
    let source = |(number, source): (usize, &Source)| {
        let keys = source.rules.as_ref().map(|rules| rules.iter().map(rule).collect::<Vec<_>>());
        json!({ "path": format!("prod/{number}"), "prefix": source.prefix, "keys": keys, "optional": number == 2 })
    };
    let object = json!({
        "apiVersion": "okms-operator.io/v1alpha1",
        "kind": "OkmsSecret",
        "metadata": { "name": "db", "namespace": "shop" },
        "spec": {
            "sources": sources.iter().enumerate().map(source).collect::<Vec<_>>(),
            "onKeyConflict": on_key_conflict,
            "target": { "type": type_ },
        },
    });
    let object: OkmsSecret = serde_json::from_value(object).expect("the types of an OkmsSecret");
    plan::wanted(&object).ok()
}

fn render(wanted: &Wanted, sources: &[Source]) -> Result<Data, RenderError> {
    let values: Vec<_> =
        sources.iter().map(|source| Value::from_json_object(Zeroizing::new(source.text.clone()))).collect();
    let readings: Vec<(&WantedSource, &Value)> = wanted.sources.iter().zip(&values).collect();
    let rendering = plan::render(wanted, &readings, "shop/db")?;
    Ok(rendering.into_content().data.into_iter().map(|(key, bytes)| (key, bytes.0)).collect())
}

/// The keys that the sources may become; `None` where that is not known.
fn asked(sources: &[Source]) -> Option<BTreeSet<String>> {
    let mut asked = BTreeSet::new();
    for source in sources {
        match &source.rules {
            Some(rules) => asked.extend(rules.iter().map(|rule| format!("{}{}", source.prefix, rule.to))),
            None if source.text == b"null" => {}
            None => {
                let tree = tree(&source.text)?;
                asked.extend(tree.as_object()?.keys().map(|name| format!("{}{name}", source.prefix)));
            }
        }
    }
    Some(asked)
}

/// What `serde_json` makes of a text; not of one with the names that it uses itself.
fn tree(text: &[u8]) -> Option<Tree> {
    let own = text.windows(12).any(|window| window == b"$serde_json:");
    serde_json::from_slice(text).ok().filter(|_| !own)
}
