//! `docs/examples/`: for each kind manifests in which every field of its spec appears. Written by people, shown in the reference.
//!
//! That every field appears is tested here; that the API server takes each of them, in `tests/it/docs.rs`.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// Below the workspace's root.
pub(super) const FOLDER: &str = "docs/examples";

/// The manifests of a kind, one YAML document for each set of fields that exclude each other.
pub(super) fn read(folder: &Path, kind: &str) -> Result<String> {
    let name = format!("{}.yaml", kind.to_lowercase());
    let path = folder.join(&name);
    fs::read_to_string(&path)
        .with_context(|| format!("{FOLDER}/{name} must hold manifests in which every field of {kind} appears"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::schema::kinds;
    use super::*;
    use crate::workspace;

    /// The paths of all fields in a value, as the reference writes them.
    fn paths(at: &str, value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let at = format!("{at}.{name}");
                    paths(&at, value, found);
                    found.insert(at);
                }
            }
            Value::Array(entries) => entries.iter().for_each(|entry| paths(&format!("{at}[]"), entry, found)),
            _ => {}
        }
    }

    #[test]
    fn every_field_of_a_spec_appears_in_the_example_of_its_kind() {
        for kind in kinds().unwrap() {
            let text = read(&workspace::root().join(FOLDER), &kind.name).unwrap();
            let mut found = BTreeSet::new();
            for document in text.split("\n---\n") {
                let object: Value = serde_saphyr::from_str(document).unwrap();
                assert_eq!(object["kind"], kind.name.as_str(), "each kind has a file of its own");
                paths("spec", &object["spec"], &mut found);
            }
            let missing = kind.spec.fields.iter().map(|field| &field.path).filter(|path| !found.contains(*path));
            let missing: Vec<_> = missing.collect();
            assert!(
                missing.is_empty(),
                "{FOLDER}/{}.yaml shows every field but {missing:#?}: write them into one of its manifests, and run \
                 `cargo xtask codegen`",
                kind.name.to_lowercase()
            );
        }
    }
}
