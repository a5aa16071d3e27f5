//! What [`render`] promises for every secret and every set of rules, tried on random ones.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*};
use serde_json::Value as Tree;
use zeroize::Zeroizing;

use super::*;
use crate::{
    api::{Decode, OnKeyConflict},
    model::{Path, Source, Value},
};

/// Planted in every string and number of a secret; not in names, which messages may show.
const CANARY: &str = "77345993";

/// The text of a JSON object, written in any of the ways that JSON allows: spaces, escapes, repeated names, numbers of all forms.
fn object() -> impl Strategy<Value = String> {
    vec((name(), json()), 0..6).prop_map(write_object)
}

fn json() -> impl Strategy<Value = String> {
    let leaf =
        prop_oneof![string(), number(), Just("null".to_owned()), Just("true".to_owned()), Just(" false ".to_owned())];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!(" [{}\n]", items.join(" ,"))),
            vec((name(), inner), 0..4).prop_map(write_object),
        ]
    })
}

fn write_object(fields: Vec<(String, String)>) -> String {
    let fields: Vec<_> = fields.into_iter().map(|(name, value)| format!("{}\t:{value}", Tree::from(name))).collect();
    format!("{{{} }}", fields.join(",\n"))
}

/// Few enough that they repeat and that pointers hit; some legal as keys, some not.
fn name() -> impl Strategy<Value = String> {
    let odd = vec!["", "0", "1", "~", "a/b", "/a", "/a/0", "tls.crt", "..", "a b"];
    prop_oneof![4 => "[ab]{1,2}", 1 => prop::sample::select(odd).prop_map(str::to_owned)]
}

/// Digits that no arithmetic would give back as they are.
fn number() -> impl Strategy<Value = String> {
    let form = format!("-?[1-9]{CANARY}[0-9]{{0,20}}(\\.[0-9]{{1,9}})?([eE][+-]?[0-9]{{1,2}})?");
    proptest::string::string_regex(&form).unwrap()
}

fn string() -> impl Strategy<Value = String> {
    (any::<String>(), any::<bool>()).prop_map(|(text, escaped)| {
        let text = format!("{CANARY}{text}");
        if !escaped {
            return Tree::from(text).to_string();
        }
        let units: Vec<_> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{}\"", units.concat())
    })
}

fn plan() -> impl Strategy<Value = KeyPlan> {
    prop_oneof![Just(KeyPlan::All), vec(rule(), 0..4).prop_map(KeyPlan::Selected)]
}

fn rule() -> impl Strategy<Value = KeyRule> {
    let from = option::of(prop_oneof![name(), pointer(), any::<String>()]);
    let decode = prop::sample::select(vec![None, Some(Decode::Base64), Some(Decode::Base64Url), Some(Decode::Auto)]);
    ("[a-c.]{1,3}", from, any::<bool>(), decode).prop_filter_map("an illegal key", |(to, from, optional, decode)| {
        let from = from.map_or(Selector::Whole, Selector::Field);
        Some(KeyRule { to: to.parse().ok()?, from, optional, decode })
    })
}

fn pointer() -> impl Strategy<Value = String> {
    vec(name(), 1..4).prop_map(|tokens| {
        let tokens = tokens.into_iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1")));
        tokens.collect()
    })
}

fn type_() -> impl Strategy<Value = SecretType> {
    use SecretType::{BasicAuth, DockerConfigJson, Opaque, SshAuth, Tls};
    prop_oneof![4 => Just(Opaque), 1 => prop::sample::select(vec![Tls, DockerConfigJson, BasicAuth, SshAuth])]
}

fn path() -> Path {
    "prod/shop".parse().unwrap()
}

fn render_all(secrets: &[(KeyPlan, String)], type_: &SecretType) -> Result<Rendering, RenderError> {
    let wanted = |keys: &KeyPlan| source(keys.clone());
    let value = |text: &str| Value::from_json_object(Zeroizing::new(text.as_bytes().to_vec()));
    let sources: Vec<_> = secrets.iter().map(|(keys, text)| (wanted(keys), value(text))).collect();
    let sources: Vec<_> = sources.iter().map(|(wanted, value)| (wanted, value)).collect();
    render(&of_type(type_), &sources, "shop/db")
}

fn source(keys: KeyPlan) -> WantedSource {
    let source = Source { path: path(), pin: None };
    WantedSource { place: Place::Spec, source, keys, prefix: String::new(), optional: false }
}

fn of_type(type_: &SecretType) -> Wanted {
    let target = TargetShape { type_: type_.clone(), ..TargetShape::default() };
    let templates = Templates::default();
    Wanted { sources: source(KeyPlan::All).into(), on_key_conflict: OnKeyConflict::Error, templates, target }
}

fn select(to: &str, from: Selector) -> KeyPlan {
    KeyPlan::Selected(vec![KeyRule { to: to.parse().unwrap(), from, optional: true, decode: None }])
}

/// The one key of a rendering of one rule, or `None` where the secret does not have that part.
fn pick(text: &str, from: Selector) -> Option<String> {
    let rendering = render_all(&[(select("key", from), text.to_owned())], &SecretType::Opaque).ok()?;
    Some(String::from_utf8(rendering.get("key").unwrap().to_vec()).unwrap())
}

proptest! {
    #[test]
    fn a_key_comes_from_a_source_and_is_never_left_out(secrets in vec((plan(), object()), 1..3)) {
        let mut required = BTreeSet::new();
        let mut possible = BTreeSet::new();
        for (keys, text) in &secrets {
            let tree: Tree = serde_json::from_str(text).unwrap();
            match keys {
                KeyPlan::All => required.extend(tree.as_object().unwrap().keys().cloned()),
                KeyPlan::Selected(rules) => for rule in rules {
                    (if rule.optional { &mut possible } else { &mut required }).insert(rule.to.to_string());
                },
            }
        }
        if let Ok(rendering) = render_all(&secrets, &SecretType::Opaque) {
            let keys: BTreeSet<_> = rendering.keys().map(ToString::to_string).collect();
            prop_assert!(!keys.is_empty());
            prop_assert!(keys.is_superset(&required));
            prop_assert!(keys.is_subset(&(&required | &possible)));
        }
    }

    #[test]
    fn an_error_holds_no_part_of_a_value(secrets in vec((plan(), object()), 0..3), type_ in type_()) {
        if let Err(error) = render_all(&secrets, &type_) {
            prop_assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
            prop_assert!(secrets.is_empty() || error.message.contains(path().as_str()), "names no path: {error}");
        }
    }

    #[test]
    fn any_bytes_give_an_answer(text in vec(any::<u8>(), 0..64), keys in plan(), type_ in type_()) {
        let wanted = source(keys);
        let is_object = serde_json::from_slice::<Tree>(&text).is_ok_and(|tree| tree.is_object());
        let value = Value::from_json_object(Zeroizing::new(text));
        let result = render(&of_type(&type_), &[(&wanted, &value)], "shop/db");
        prop_assert!(is_object || result.is_err_and(|error| error.kind == RenderErrorKind::DecodeFailed));
    }

    #[test]
    fn compact_json_means_what_was_written(text in object()) {
        let compact = pick(&text, Selector::Whole).unwrap();
        prop_assert_eq!(serde_json::from_str::<Tree>(&compact).unwrap(), serde_json::from_str::<Tree>(&text).unwrap());
    }

    #[test]
    fn compact_json_stays_as_it_is_when_made_again(text in object()) {
        let compact = pick(&text, Selector::Whole).unwrap();
        prop_assert_eq!(pick(&compact, Selector::Whole).unwrap(), compact);
    }

    #[test]
    fn a_number_keeps_its_digits(number in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,5})?") {
        let text = format!("{{\"a\": [ {number} ], \"n\":{number}}}");
        prop_assert_eq!(pick(&text, Selector::Field("n".to_owned())), Some(number.clone()));
        prop_assert_eq!(pick(&text, Selector::Whole), Some(format!("{{\"a\":[{number}],\"n\":{number}}}")));
    }

    #[test]
    fn a_selector_finds_what_serde_json_finds(text in object(), from in prop_oneof![name(), pointer()]) {
        let tree: Tree = serde_json::from_str(&text).unwrap();
        let expected = tree.get(&from).or_else(|| tree.pointer(&from).filter(|_| !from.is_empty()));
        match (pick(&text, Selector::Field(from)), expected) {
            (Some(ours), Some(Tree::String(theirs))) => prop_assert_eq!(&ours, theirs),
            (Some(ours), Some(theirs)) => prop_assert_eq!(&serde_json::from_str::<Tree>(&ours).unwrap(), theirs),
            (ours, theirs) => prop_assert!(ours.is_none() && theirs.is_none()),
        }
    }
}
