//! The documentation, held to what is true: the API server takes every manifest that a page shows, Helm takes every file of values,
//! every recipe makes the Secret that stands under it, and the web shop of the examples gets all that it needs.
//!
//! A block that no test can look at is a mistake in the page: it would be the one that nobody notices when it stops working.

mod blocks;
mod recipes;
mod web_shop;

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::Value;

use crate::{
    chart,
    cluster::{self, kubectl},
};
use blocks::{Block, Content};

/// Every page that shows manifests, and every example, below the root.
fn files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("README.md"), PathBuf::from("charts/okms-operator/README.md")];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(blocks::root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md" || extension == "yaml") {
                files.push(path);
            }
        }
    }
    files
}

/// What is wrong with a block of YAML, with its place.
fn complaint(block: &Block) -> Option<String> {
    let refused = match block.content() {
        Err(why) => return Some(format!("{}: {why}", block.place())),
        Ok(Content::Values) => {
            let folder = tempfile::tempdir().unwrap();
            let values = folder.path().join("values.yaml");
            std::fs::write(&values, &block.text).unwrap();
            let output = chart::template(&["--values", values.to_str().unwrap()]);
            (!output.ok).then_some(output.stderr)
        }
        Ok(Content::Manifests(objects)) => {
            make_namespaces(&objects);
            let arguments =
                ["apply", "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-"];
            let output = kubectl(cluster::shared(), &arguments, &block.text);
            (!output.ok).then_some(output.stderr)
        }
    };
    refused.map(|why| format!("{}: {}", block.place(), why.trim()))
}

/// A dry run makes no namespace, and what is in one needs it; a Pod needs its service account too.
fn make_namespaces(objects: &[Value]) {
    let named: BTreeSet<_> = objects.iter().filter_map(|object| object["metadata"]["namespace"].as_str()).collect();
    for name in named {
        let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        kubectl(cluster::shared(), &["apply", "--server-side", "-f", "-"], &namespace).succeeded();
        let wait = ["wait", "serviceaccount/default", "-n", name, "--for=create", "--timeout=60s"];
        kubectl(cluster::shared(), &wait, "").succeeded();
    }
}

#[test]
fn every_manifest_and_every_file_of_values_is_taken() {
    let blocks: Vec<_> = files().iter().flat_map(blocks::read).collect();
    let yaml: Vec<_> = blocks.iter().filter(|block| block.language == "yaml").collect();
    let pages = ["README.md", "charts/okms-operator/README.md", "docs/recipes.md", "docs/templates.md"];
    for file in pages.into_iter().chain(["docs/examples/okmssecret.yaml", "docs/examples/web-shop.yaml"]) {
        assert!(yaml.iter().any(|block| block.file == file), "no block of {file} was found");
    }
    let complaints: Vec<_> = yaml.into_iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_broken_block_is_named_by_file_and_line() {
    let object =
        "apiVersion: okms-operator.io/v1alpha1\nkind: OkmsSecret\nmetadata: {name: db, namespace: shop}\nspec:";
    let values =
        "# values.yaml\nstore: {endpoint: 'https://x', credentialSecret: x, access: [{namespaces: [a], paths: [a]}]";
    for (yaml, words) in [
        (format!("{object} {{path: a}}"), None),
        (format!("{object} {{paht: a}}"), Some(".spec.paht")),
        (format!("{object} {{path: /a}}"), Some("write it like prod/shop/db")),
        (format!("{object} {{path: a}}\n---\n{object} {{path: /a}}"), Some("write it like prod/shop/db")),
        (format!("{object} {{path: a, path: b}}"), Some("YAML")),
        (object.replace("OkmsSecret", "OkmsSekret"), Some("no matches for kind")),
        (object.replace("kind: OkmsSecret\n", ""), Some("neither a manifest")),
        ("store: {create: false}".to_owned(), Some("neither a manifest")),
        (format!("{values}}}"), None),
        (format!("{values}, endpont: x}}"), Some("'endpont' not allowed")),
        (format!("# values.yaml\n{object} {{path: a}}"), Some("not allowed")),
    ] {
        let page = format!("# Title\n\n* An item:\n\n  ```yaml\n  {}\n  ```\n", yaml.replace('\n', "\n  "));
        let [block] =
            blocks::parse("page.md", &page).unwrap().try_into().unwrap_or_else(|_| panic!("not one block: {page}"));
        match (complaint(&block), words) {
            (None, None) => {}
            (Some(why), Some(words)) if why.starts_with("page.md:5: ") && why.contains(words) => {}
            (other, words) => panic!("{yaml}\n{other:?} instead of {words:?}"),
        }
    }
}
