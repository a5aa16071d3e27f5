//! The CRDs as YAML, the same text for the same types.
//!
//! kube derives them; this adds what the derive cannot say. `cargo xtask codegen` writes them to files, `okms-operator crds`
//! prints them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::{CustomResourceExt, Resource};
use serde_json::{Value, json};

use super::okms_secret::NOT_OBSERVED;
use super::{ClusterOkmsStore, OkmsSecret, OkmsStore};

/// File name and YAML of each CRD, sorted by name.
pub fn crds() -> Vec<(String, String)> {
    [ClusterOkmsStore::crd(), OkmsSecret::crd(), OkmsStore::crd()].into_iter().map(document).collect()
}

fn document(mut crd: CustomResourceDefinition) -> (String, String) {
    default_status(&mut crd);
    let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
    let mut crd = serde_json::to_value(&crd).expect("a CRD is plain data");
    tidy(&mut crd);
    if crd.pointer("/spec/names/kind") == Some(&json!(OkmsStore::kind(&()))) {
        without_mount(&mut crd);
    }
    let yaml = serde_saphyr::to_string(&crd).expect("what JSON holds YAML holds too");
    (name, format!("{HEADER}{yaml}"))
}

const HEADER: &str = "# Generated from src/api by `cargo xtask codegen`.\n";

/// A fresh object must not look like one whose current generation was dealt with.
fn default_status(crd: &mut CustomResourceDefinition) {
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let properties = schema.and_then(|schema| schema.properties.as_mut());
        if let Some(status) = properties.and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(json!({ "observedGeneration": NOT_OBSERVED })));
        }
    }
}

/// What is mounted into the operator's pod is for stores of the whole cluster: one of a namespace does not have the field.
fn without_mount(crd: &mut Value) {
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/auth/properties/clientCertificate";
    if let Some(Value::Object(certificate)) = crd.pointer_mut(schema) {
        certificate.remove("x-kubernetes-validations");
        certificate.insert("required".to_owned(), json!(["secretRef"]));
        if let Some(Value::Object(properties)) = certificate.get_mut("properties") {
            properties.remove("mount");
            if let Some(reference) = properties.get_mut("secretRef") {
                reference["description"] = json!("A Secret in the namespace of the store.");
                reference.as_object_mut().map(|reference| reference.remove("nullable"));
            }
        }
    }
}

/// Puts right what the derive leaves behind: the source lines of a description become paragraphs, since `kubectl explain` wraps
/// them itself; bounds, which the Rust type holds as floating point, become the integers that they are; an enum loses its `null`,
/// which the API server does not accept anyway, but would name as a choice.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(description)) = map.get_mut("description") {
                let paragraphs = description.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
                *description = paragraphs.collect::<Vec<_>>().join("\n\n");
            }
            for bound in ["minimum", "maximum"] {
                if let Some(number) = map.get(bound).and_then(Value::as_f64) {
                    #[allow(clippy::cast_possible_truncation)] // Every bound is written as an integer in an attribute.
                    map.insert(bound.to_owned(), json!(number as i64));
                }
            }
            if let Some(Value::Array(choices)) = map.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
                map.remove("nullable");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::names;
    use super::*;

    #[test]
    fn the_committed_files_are_those_of_the_types() {
        for folder in ["crds", "charts/okms-operator/crds"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            let mut files: Vec<_> = std::fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| {
                    (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
                })
                .collect();
            files.sort();
            assert!(files == crds(), "{} is out of date: run `cargo xtask codegen`", folder.display());
        }
    }

    #[test]
    fn the_constants_are_the_names_in_the_crds() {
        for crd in [ClusterOkmsStore::crd(), OkmsSecret::crd(), OkmsStore::crd()] {
            assert_eq!((crd.spec.group.as_str(), crd.spec.versions[0].name.as_str()), (names::GROUP, names::VERSION));
        }
    }

    #[test]
    fn a_store_of_a_namespace_has_no_mount() {
        let (_, yaml) = document(OkmsStore::crd());
        assert!(yaml.contains("secretRef") && !yaml.contains("mount"), "{yaml}");
        let (_, yaml) = document(ClusterOkmsStore::crd());
        assert!(yaml.contains("mount"));
    }

    #[test]
    fn nothing_but_the_status_has_a_default() {
        fn defaults(at: &str, value: &Value, found: &mut Vec<String>) {
            for (key, child) in value.as_object().into_iter().flatten() {
                if key == "default" {
                    found.push(format!("{at}={child}"));
                }
                defaults(&format!("{at}/{key}"), child, found);
            }
        }
        for (name, yaml) in crds() {
            let crd: Value = serde_saphyr::from_str(&yaml).unwrap();
            let mut found = Vec::new();
            defaults("", crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap(), &mut found);
            assert_eq!(found, [r#"/properties/status={"observedGeneration":-1}"#], "{name}");
        }
    }

    #[test]
    fn every_field_is_documented_and_bounded() {
        fn check(at: &str, schema: &Value) {
            let holds = |keyword: &str| schema.get(keyword).is_some();
            match schema.get("type").and_then(Value::as_str) {
                Some("string") => {
                    assert!(
                        holds("maxLength") || holds("enum") || schema["format"] == "date-time",
                        "{at} needs maxLength"
                    );
                }
                Some("array") => {
                    assert!(holds("maxItems"), "{at} needs maxItems");
                    assert!(holds("x-kubernetes-list-type"), "{at} needs a list type");
                    check(&format!("{at}[]"), &schema["items"]);
                }
                Some("object") if holds("additionalProperties") => {
                    assert!(holds("maxProperties"), "{at} needs maxProperties");
                    check(&format!("{at}{{}}"), &schema["additionalProperties"]);
                }
                Some("integer") => {
                    assert!(matches!(schema["format"].as_str(), Some("int32" | "int64")), "{at} needs a format");
                }
                _ => {}
            }
            for (name, child) in schema["properties"].as_object().into_iter().flatten() {
                let at = format!("{at}.{name}");
                assert!(
                    child["description"].as_str().is_some_and(|text| text.ends_with('.')),
                    "{at} needs a description"
                );
                check(&at, child);
            }
        }
        for (_, yaml) in crds() {
            let crd: Value = serde_saphyr::from_str(&yaml).unwrap();
            for part in ["spec", "status"] {
                let pointer = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}");
                check(part, crd.pointer(&pointer).unwrap());
            }
        }
    }

    /// A default in the CRD would be written into the objects of users (see above), so the description is the only place for it.
    #[test]
    fn every_optional_field_of_a_spec_says_what_its_absence_means() {
        fn check(at: &str, schema: &Value, silent: &mut Vec<String>) {
            let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
            for (name, child) in schema["properties"].as_object().into_iter().flatten() {
                let (at, meaning) = (format!("{at}.{name}"), child["description"].as_str().unwrap());
                // Of a choice, the absence of one means that another is given.
                let says = ["Default: ", "Give either ", "Give exactly one of ", "Give at least one"];
                if !required.contains(&&Value::from(name.as_str())) && !says.iter().any(|words| meaning.contains(words))
                {
                    silent.push(at.clone());
                }
                check(&at, child, silent);
            }
            if let Some(items) = schema.get("items") {
                check(&format!("{at}[]"), items, silent);
            }
        }
        let mut silent = Vec::new();
        for (name, yaml) in crds() {
            let crd: Value = serde_saphyr::from_str(&yaml).unwrap();
            let spec = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
            check(&format!("{name}: spec"), spec, &mut silent);
        }
        assert!(silent.is_empty(), "say \"Default: …\" in the description of {silent:#?}");
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        fn messages(value: &Value, found: &mut Vec<String>) {
            for rule in value.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                found.push(rule["message"].as_str().expect("a rule has a message").to_owned());
            }
            match value {
                Value::Object(map) => map.values().for_each(|child| messages(child, found)),
                Value::Array(items) => items.iter().for_each(|child| messages(child, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        for (_, yaml) in crds() {
            messages(&serde_saphyr::from_str(&yaml).unwrap(), &mut found);
        }
        assert!(found.len() > 20, "rules were lost: {found:#?}");
        assert!(found.iter().all(|message| !message.contains('\n') && message.len() > 20), "{found:#?}");
    }
}
