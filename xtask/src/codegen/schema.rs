//! The fields of every kind, read from the schemas of the CRDs: what users may write, and what is refused.
//!
//! A keyword of a schema that is not understood here is an error, so that no limit is left out of the reference unseen.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// A kind of custom resource.
pub(super) struct Kind {
    pub(super) name: String,
    pub(super) api_version: String,
    pub(super) namespaced: bool,
    pub(super) short_names: Vec<String>,
    /// The fields that `--field-selector` takes.
    pub(super) selectable: Vec<String>,
    pub(super) meaning: String,
    pub(super) spec: Part,
    pub(super) status: Part,
}

/// `spec` or `status`.
pub(super) struct Part {
    /// What holds for the whole of it.
    pub(super) limits: Vec<String>,
    /// Every field, however deep, each before those in it.
    pub(super) fields: Vec<Field>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Such as `spec.sources[].path`.
    pub(super) path: String,
    pub(super) type_: String,
    /// Wherever the object that holds it is given.
    pub(super) required: bool,
    /// The description, without its default.
    pub(super) meaning: String,
    pub(super) default: Option<String>,
    pub(super) limits: Vec<String>,
}

/// Every kind, that of the application teams first.
pub(super) fn kinds() -> Result<Vec<Kind>> {
    let crds = okms_operator::api::crds();
    let kinds = crds.iter().map(|(name, yaml)| {
        let crd = serde_saphyr::from_str(yaml).with_context(|| format!("reading {name}"))?;
        kind(&crd).with_context(|| format!("the CRD in {name}"))
    });
    let mut kinds = kinds.collect::<Result<Vec<_>>>()?;
    kinds.sort_by_key(|kind| kind.name != "OkmsSecret");
    Ok(kinds)
}

fn kind(crd: &Value) -> Result<Kind> {
    let version = &crd["spec"]["versions"][0];
    let part = |name: &str| part(name, &version["schema"]["openAPIV3Schema"]["properties"][name]);
    let json_paths = version["selectableFields"].as_array().into_iter().flatten();
    Ok(Kind {
        name: text(&crd["spec"]["names"]["kind"]),
        api_version: format!("{}/{}", text(&crd["spec"]["group"]), text(&version["name"])),
        namespaced: crd["spec"]["scope"] == "Namespaced",
        short_names: crd["spec"]["names"]["shortNames"].as_array().into_iter().flatten().map(text).collect(),
        selectable: json_paths.map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned()).collect(),
        meaning: text(&version["schema"]["openAPIV3Schema"]["properties"]["spec"]["description"]),
        spec: part("spec")?,
        status: part("status")?,
    })
}

fn part(name: &str, schema: &Value) -> Result<Part> {
    let mut fields = Vec::new();
    let schema = object(name, schema)?;
    inside(name, schema, &mut fields)?;
    Ok(Part { limits: limits(name, schema)?, fields })
}

/// Collects the fields in an object, or in the entries of a list or map.
fn inside(at: &str, schema: &Map<String, Value>, fields: &mut Vec<Field>) -> Result<()> {
    for (suffix, keyword) in [("[]", "items"), ("{}", "additionalProperties")] {
        if let Some(entry) = schema.get(keyword) {
            let at = format!("{at}{suffix}");
            inside(&at, object(&at, entry)?, fields)?;
        }
    }
    let required = strings(schema.get("required"));
    for (name, child) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{at}.{name}");
        let child = object(&path, child)?;
        let (meaning, default) = without_default(child.get("description").and_then(Value::as_str).unwrap_or_default());
        fields.push(Field {
            type_: type_of(&path, child)?,
            required: required.contains(name),
            meaning,
            default,
            limits: limits(&path, child)?,
            path: path.clone(),
        });
        inside(&path, child, fields)?;
    }
    Ok(())
}

fn type_of(at: &str, schema: &Map<String, Value>) -> Result<String> {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return Ok("integer or string".to_owned());
    }
    let entries = |keyword: &str| Ok::<_, anyhow::Error>(format!("{}s", type_of(at, object(at, &schema[keyword])?)?));
    Ok(match schema.get("type").and_then(Value::as_str) {
        Some("string") if schema.get("format").is_some_and(|format| format == "date-time") => "time".to_owned(),
        Some("array") if schema.contains_key("items") => format!("list of {}", entries("items")?),
        Some("object") if schema.contains_key("additionalProperties") => {
            format!("map of {}", entries("additionalProperties")?)
        }
        Some(type_ @ ("string" | "integer" | "boolean" | "object")) => type_.to_owned(),
        other => bail!("{at} is of a type that the reference does not know: {other:?}"),
    })
}

/// Keywords that limit nothing which is not said elsewhere: the type, what is in it, and how the API server merges it.
const SILENT: [&str; 12] = [
    "additionalProperties",
    "default",
    "description",
    "format",
    "items",
    "nullable",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];

/// What is refused, as the CRD says it.
fn limits(at: &str, schema: &Map<String, Value>) -> Result<Vec<String>> {
    let mut limits = Vec::new();
    let mut known = Vec::from(SILENT);
    let ranges = [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", "character"),
        ("minItems", "maxItems", "entry"),
        ("minProperties", "maxProperties", "entry"),
    ];
    for (least, most, unit) in ranges {
        known.extend([least, most]);
        limits.extend(range(schema.get(least), schema.get(most), unit));
    }
    known.push("enum");
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        limits.push(format!("one of {}", choices.iter().map(text).collect::<Vec<_>>().join(", ")));
    }
    known.push("x-kubernetes-list-map-keys");
    let keys = strings(schema.get("x-kubernetes-list-map-keys"));
    if !keys.is_empty() {
        limits.push(format!("no two entries with the same {}", keys.join(" and ")));
    }
    known.push("x-kubernetes-validations");
    for rule in schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
        limits.push(rule["message"].as_str().with_context(|| format!("a rule of {at} has no message"))?.to_owned());
    }
    for (keyword, which) in [("items", "each entry"), ("additionalProperties", "each value")] {
        if let Some(entry) = schema.get(keyword) {
            limits.extend(self::limits(at, object(at, entry)?)?.iter().map(|limit| format!("{which}: {limit}")));
        }
    }
    if let Some(unknown) = schema.keys().find(|keyword| !known.contains(&keyword.as_str())) {
        bail!("the reference does not know what {unknown} means, at {at}: teach it in xtask/src/codegen/schema.rs");
    }
    Ok(limits)
}

fn range(least: Option<&Value>, most: Option<&Value>, unit: &str) -> Option<String> {
    let numbers = match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => return None,
    };
    let plural = match unit {
        "" => return Some(numbers),
        "entry" => "entries".to_owned(),
        unit => format!("{unit}s"),
    };
    Some(format!("{numbers} {plural}"))
}

/// A description without the sentence that begins with "Default:", and what that says.
fn without_default(description: &str) -> (String, Option<String>) {
    const BEGIN: &str = "Default: ";
    let Some((before, rest)) = description.split_once(BEGIN) else { return (description.to_owned(), None) };
    let (default, after) = rest.split_once(". ").unwrap_or((rest.trim_end_matches('.'), ""));
    (format!("{before}{after}").trim().to_owned(), Some(default.to_owned()))
}

fn object<'a>(at: &str, schema: &'a Value) -> Result<&'a Map<String, Value>> {
    schema.as_object().with_context(|| format!("{at} has no schema"))
}

fn strings(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().map(text).collect()
}

/// The text of a string, or of what else stands where one is expected.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(schema: &Value) -> Result<Vec<Field>> {
        Ok(part("spec", schema)?.fields)
    }

    #[test]
    fn every_field_is_found_however_deep_with_what_limits_it() {
        let rule = json!([{"rule": "true", "message": "write it otherwise"}]);
        let found = fields(&json!({
            "type": "object",
            "required": ["list"],
            "properties": {
                "list": {
                    "description": "A list. Default: none. More of it.",
                    "type": "array", "maxItems": 16, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["to"],
                    "items": {
                        "type": "object",
                        "x-kubernetes-validations": rule,
                        "properties": {"to": {"description": "A key.", "type": "string", "minLength": 1, "maxLength": 9}},
                    },
                },
                "map": {
                    "description": "A map. Default: empty.",
                    "type": "object",
                    "additionalProperties": {"type": "string", "enum": ["A", "B"]},
                },
            },
        }))
        .unwrap();
        let field = |path: &str, type_: &str, meaning: &str, default: Option<&str>, limits: &[&str]| Field {
            path: path.to_owned(),
            type_: type_.to_owned(),
            required: path == "spec.list",
            meaning: meaning.to_owned(),
            default: default.map(str::to_owned),
            limits: limits.iter().map(|limit| (*limit).to_owned()).collect(),
        };
        let of_list = ["at most 16 entries", "no two entries with the same to", "each entry: write it otherwise"];
        let expected = [
            field("spec.list", "list of objects", "A list. More of it.", Some("none"), &of_list),
            field("spec.list[].to", "string", "A key.", None, &["1 to 9 characters"]),
            field("spec.map", "map of strings", "A map.", Some("empty"), &["each value: one of A, B"]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_understood_is_not_left_out() {
        let schema = json!({"properties": {"a": {"type": "string", "pattern": "^a$"}}});
        assert!(fields(&schema).unwrap_err().to_string().contains("what pattern means, at spec.a"));
        assert!(fields(&json!({"properties": {"a": {}}})).unwrap_err().to_string().contains("spec.a is of a type"));
    }

    #[test]
    fn every_kind_is_read() {
        let kinds = kinds().unwrap();
        assert_eq!(kinds[0].name, "OkmsSecret");
        assert_eq!(kinds.len(), okms_operator::api::crds().len());
        assert!(kinds.iter().all(|kind| !kind.spec.fields.is_empty() && !kind.status.fields.is_empty()));
    }
}
