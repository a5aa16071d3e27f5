//! Who may read what through a shared store: the rules of `spec.access`.

use crate::{api::AccessRule, model::Path};

/// Whether some rule grants the path to the namespace. Without rules nobody has access.
pub fn grants(rules: &[AccessRule], namespace: &str, path: &Path) -> bool {
    rules.iter().any(|rule| {
        let names = rule.namespaces.iter().flatten().any(|pattern| matches_name(pattern, namespace));
        names && rule.paths.iter().any(|grant| matches_path(grant, path.as_str()))
    })
}

/// `*` stands for any number of characters.
fn matches_name(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
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
        let rule = AccessRule { namespaces: Some(owned(namespaces)), paths: owned(paths) };
        grants(&[rule], namespace, &path.parse().unwrap())
    }

    #[test]
    fn no_rule_grants_nothing() {
        assert!(!grants(&[], "shop", &"a".parse().unwrap()));
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
