//! What templates promise whatever they are: they end, and no error holds any part of a value.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// Planted in every value; not in the names of keys, which messages may show.
const CANARY: &str = "77345993";

/// Pieces of templates, joined at random: most make an error, and that is what is looked at.
fn template() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => expression().prop_map(|expression| format!("{{{{ {expression} }}}}")),
        1 => "[a-z {}%#\n-]{0,6}",
        1 => (expression(), expression()).prop_map(|(one, two)| format!("{{% if {one} %}}{{{{ {two} }}}}{{% endif %}}")),
        1 => (expression(), expression()).prop_map(|(one, two)| format!("{{% for x in {one} %}}{{{{ {two} }}}}{{% endfor %}}")),
        1 => (expression(), expression()).prop_map(|(one, two)| format!("{{% for x, y in {one} if {two} %}}{{{{ x }}}}{{% else %}}{{% endfor %}}")),
        1 => expression().prop_map(|expression| format!("{{% set x = {expression} %}}")),
        1 => expression().prop_map(|expression| format!("{{% set x | {expression} %}}{{{{ text }}}}{{% endset %}}")),
    ];
    vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

fn expression() -> impl Strategy<Value = String> {
    let names = vec!["text", "json", "pem", "number", "bytes", "data", "x", "y", "loop", "nope", "htpasswd"];
    let leaf = prop_oneof![
        5 => select(names).prop_map(str::to_owned),
        1 => select(vec!["1", "-3", "2.5", "'a'", "''", "none", "true", "[]", "{}"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 24, 3, |inner| {
        let call = (select(functions().map(FunctionDoc::name).collect::<Vec<_>>()), vec(inner.clone(), 0..3));
        let call = call.prop_map(|(name, args)| format!("{name}({})", args.join(", ")));
        let operators =
            vec!["~", "+", "-", "*", "/", "==", "!=", "<", ">=", "in", "not in", "and", "or", "|", "is", "."];
        prop_oneof![
            (inner.clone(), call.clone()).prop_map(|(subject, call)| format!("({subject}) | {call}")),
            (inner.clone(), call.clone()).prop_map(|(subject, call)| format!("({subject}) is {call}")),
            call,
            (inner.clone(), select(operators), inner.clone())
                .prop_map(|(one, sign, two)| format!("{one} {sign} {two}")),
            (inner.clone(), inner.clone()).prop_map(|(of, at)| format!("({of})[{at}]")),
            (inner.clone(), inner.clone()).prop_map(|(of, at)| format!("({of})[{at}:]")),
            inner.clone().prop_map(|of| format!("({of}).a")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("[{one}, {two}]")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("{{{one}: {two}}}")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one} if {two})")),
            inner.prop_map(|of| format!("not {of}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 2000 } else { 50_000 }))]

    #[test]
    fn no_error_holds_any_part_of_a_value(template in template(), kept in any::<String>()) {
        let text = format!("{CANARY}{kept}");
        let json = format!(r#"{{"a": ["{CANARY}", {{"k{CANARY}": 1{CANARY}.50}}], "{CANARY}": null}}"#);
        let pem = format!("-----BEGIN {CANARY}-----\n{CANARY}\n-----END {CANARY}-----\n");
        let bytes = [CANARY.as_bytes(), b"\xFF"].concat();
        let data = [
            ("text", text.as_bytes()),
            ("json", json.as_bytes()),
            ("pem", pem.as_bytes()),
            ("number", CANARY.as_bytes()),
            ("bytes", &bytes),
        ];
        let mut renderer = Renderer::new(data, "shop/web");
        // Twice, because the second has what the first left of the budget.
        for _ in 0..2 {
            if let Err(error) = renderer.render("t", &template) {
                prop_assert!(!error.message.contains(CANARY) && !format!("{error:?}").contains(CANARY), "{}", error);
                prop_assert!(error.message.starts_with("t, line ") || error.message.starts_with("t: "), "{}", error);
                prop_assert!(error.message.len() < 800, "{}", error);
            }
        }
    }

    #[test]
    fn any_text_is_a_template_or_an_error(template in "[{}%# a-z'\"|.()\\[\\]\n\\\\-]{0,80}") {
        let _ = Renderer::new([("a", b"1".as_slice())], "").render("t", &template);
    }

    #[test]
    fn the_same_keys_give_the_same_text(template in template()) {
        let data = [("text", b"a,b".as_slice()), ("json", b"{\"a\": [1]}"), ("pem", b""), ("number", b"7"), ("bytes", b"\xFF")];
        let render = || Renderer::new(data, "shop/web").render("t", &template).map(|text| text.to_string());
        prop_assert_eq!(render(), render());
    }
}
