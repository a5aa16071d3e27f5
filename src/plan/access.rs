//! Who may read what through a shared store: the rules of `spec.access`.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};

use crate::{
    api::AccessRule,
    model::{Path, glob},
};

/// A namespace as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Namespace<'a> {
    pub name: &'a str,
    /// Absent where they are not known: then no selector selects it.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// Whether some rule grants the path to the namespace. Without rules nobody has access.
pub fn grants(rules: &[AccessRule], namespace: Namespace<'_>, path: &Path) -> bool {
    rules
        .iter()
        .any(|rule| selects(rule, namespace) && rule.paths.iter().any(|grant| matches_path(grant, path.as_str())))
}

/// Whether the rule is about the namespace: what it says of names and of labels must both hold, and it must say something.
fn selects(rule: &AccessRule, namespace: Namespace<'_>) -> bool {
    let named = rule.namespaces.as_ref().filter(|names| !names.is_empty());
    let named = named.map(|names| names.iter().any(|pattern| glob::matches(pattern, namespace.name)));
    let labelled = rule.namespace_selector.as_ref().map(|selector| {
        // An empty selector, which the CRD refuses, would select everything; and so would one that excludes no value.
        let mut conditions = selector.match_expressions.iter().flatten();
        let compares = |operator: &str| matches!(operator, "In" | "NotIn");
        let sound = conditions.all(|condition| {
            !compares(&condition.operator) || condition.values.as_ref().is_some_and(|values| !values.is_empty())
        });
        let selector = Selector::try_from(selector.clone()).ok().filter(|selector| sound && !selector.selects_all());
        selector.zip(namespace.labels).is_some_and(|(selector, labels)| selector.matches(labels))
    });
    match (named, labelled) {
        (None, None) => false,
        (named, labelled) => named.unwrap_or(true) && labelled.unwrap_or(true),
    }
}

/// Exact; `x/*`: everything below x; `*`: everything.
fn matches_path(grant: &str, path: &str) -> bool {
    match grant.strip_suffix('*') {
        None => grant == path,
        Some("") => true,
        Some(folder) => folder.ends_with('/') && path.len() > folder.len() && path.starts_with(folder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(namespaces: &[&str], paths: &[&str], namespace: &str, path: &str) -> bool {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let rule = AccessRule { namespaces: Some(owned(namespaces)), paths: owned(paths), ..AccessRule::default() };
        grants(&[rule], Namespace { name: namespace, labels: None }, &path.parse().unwrap())
    }

    /// Whether a rule with this selector, and these names if any, is about namespace `shop` with these labels.
    fn selected(selector: serde_json::Value, names: Option<&[&str]>, labels: Option<&[(&str, &str)]>) -> bool {
        let rule = AccessRule {
            namespaces: names.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            namespace_selector: Some(serde_json::from_value(selector).unwrap()),
            paths: vec!["*".to_owned()],
        };
        let labels: Option<BTreeMap<String, String>> =
            labels.map(|labels| labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
        let namespace = Namespace { name: "shop", labels: labels.as_ref() };
        grants(&[rule], namespace, &"p".parse().unwrap())
    }

    #[test]
    fn a_selector_is_held_against_the_labels() {
        use serde_json::json;
        let tier = |tier: &'static str| [("tier", tier)];
        let gold = || json!({"matchLabels": {"tier": "gold"}});
        assert!(selected(gold(), None, Some(&tier("gold"))));
        assert!(!selected(gold(), None, Some(&tier("lead"))) && !selected(gold(), None, Some(&[])));
        let not_lead = || json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["lead"]}]});
        assert!(selected(not_lead(), None, Some(&tier("gold"))) && selected(not_lead(), None, Some(&[])));
        assert!(!selected(not_lead(), None, Some(&tier("lead"))));
        let exists = json!({"matchExpressions": [{"key": "tier", "operator": "Exists", "values": []}]});
        assert!(selected(exists.clone(), None, Some(&tier("gold"))) && !selected(exists, None, Some(&[])));
        assert!(!selected(not_lead(), None, None), "a namespace whose labels are not known is not selected");
    }

    #[test]
    fn names_and_labels_must_both_match() {
        let gold = || serde_json::json!({"matchLabels": {"tier": "gold"}});
        let labels: Option<&[_]> = Some(&[("tier", "gold")]);
        assert!(selected(gold(), Some(&["sh*"]), labels));
        assert!(!selected(gold(), Some(&["team-*"]), labels));
        assert!(!selected(gold(), Some(&["sh*"]), Some(&[("tier", "lead")])));
        assert!(selected(gold(), Some(&[]), labels), "an empty list says nothing");
    }

    #[test]
    fn a_selector_that_selects_everything_or_cannot_be_understood_selects_nothing() {
        let labels: Option<&[_]> = Some(&[("tier", "gold")]);
        for selector in [
            serde_json::json!({}),
            serde_json::json!({"matchExpressions": [{"key": "tier", "operator": "Is", "values": ["gold"]}]}),
            serde_json::json!({"matchExpressions": [{"key": "tier", "operator": "NotIn"}]}),
            serde_json::json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": []}]}),
        ] {
            assert!(!selected(selector.clone(), None, labels), "{selector}");
        }
    }

    #[test]
    fn no_rule_grants_nothing() {
        let shop = Namespace { name: "shop", labels: None };
        assert!(!grants(&[], shop, &"a".parse().unwrap()));
        assert!(!granted(&[], &["*"], "shop", "a"));
        assert!(!granted(&["*"], &[], "shop", "a"));
    }

    #[test]
    fn namespaces_are_names_or_globs() {
        for (pattern, yes, no) in [
            ("shop", vec!["shop"], vec!["shop-2", "xshop", ""]),
            ("team-*", vec!["team-", "team-a"], vec!["team", "xteam-a"]),
            ("*-prod", vec!["a-prod", "-prod"], vec!["a-prod-2"]),
            ("a*b*c", vec!["abc", "a1b2c", "abbc"], vec!["ac", "acb", "ab"]),
            ("a*a", vec!["aa", "aba"], vec!["a"]),
            ("*", vec!["x"], vec![]),
        ] {
            for name in yes {
                assert!(granted(&[pattern], &["*"], name, "p"), "{pattern} does not match {name}");
            }
            for name in no {
                assert!(!granted(&[pattern], &["*"], name, "p"), "{pattern} matches {name}");
            }
        }
    }

    #[test]
    fn a_grant_below_a_folder_is_not_a_prefix() {
        assert!(granted(&["*"], &["prod/shop/*"], "n", "prod/shop/db"));
        assert!(granted(&["*"], &["prod/shop/*"], "n", "prod/shop/a/b"));
        assert!(!granted(&["*"], &["prod/shop/*"], "n", "prod/shop"));
        assert!(!granted(&["*"], &["prod/shop/*"], "n", "prod/shopping/db"));
        assert!(!granted(&["*"], &["prod/shop*"], "n", "prod/shopping"), "no other use of * means anything");
        assert!(granted(&["*"], &["shared/ca"], "n", "shared/ca"));
        assert!(!granted(&["*"], &["shared/ca"], "n", "shared/ca/x"));
    }
}
