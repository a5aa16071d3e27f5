//! What a Secret has to hold: the judge's own rendering, of as much of DESIGN as the noise makes use of.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::wanted::{Source, Wanted};

pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// Renders the contents of the sources that contribute; else the reason why they make no Secret.
pub(super) fn render(wanted: &Wanted, contents: &[Option<&Value>]) -> Result<Data, &'static str> {
    let mut data = Data::new();
    for (source, content) in wanted.sources.iter().zip(contents) {
        let Some(content) = content else { continue };
        for (key, value) in keys(source, content)? {
            if data.insert(key, value).is_some() && !wanted.last_wins {
                return Err("KeyConflict");
            }
        }
    }
    if let Some(template) = &wanted.template {
        let texts = template.get("data").and_then(Value::as_object);
        let mut made = Data::new();
        for (key, text) in texts.into_iter().flatten() {
            made.insert(key.clone(), fill(text.as_str().unwrap_or_default(), &data)?);
        }
        if template.get("mode").and_then(Value::as_str) == Some("Merge") {
            data.extend(made);
        } else {
            data = made;
        }
    }
    if data.is_empty() {
        return Err("EmptySource");
    }
    if fits(&wanted.kind, &data) { Ok(data) } else { Err("InvalidForType") }
}

/// Whether the content is what a type asks for.
fn fits(kind: &str, data: &Data) -> bool {
    match kind {
        "kubernetes.io/basic-auth" => data.contains_key("username") || data.contains_key("password"),
        "kubernetes.io/dockerconfigjson" => {
            let json = data.get(".dockerconfigjson").and_then(|text| serde_json::from_slice::<Value>(text).ok());
            json.is_some_and(|json| json.get("auths").is_some_and(Value::is_object))
        }
        _ => true,
    }
}

fn keys(source: &Source, content: &Value) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    let Some(rules) = &source.keys else {
        let fields = content.as_object().filter(|fields| !fields.is_empty() || source.optional).ok_or("EmptySource")?;
        return Ok(fields.iter().map(|(field, value)| (format!("{}{field}", source.prefix), bytes(value))).collect());
    };
    let mut keys = Vec::new();
    for rule in rules {
        let word = |name| rule.get(name).and_then(Value::as_str);
        let key = format!("{}{}", source.prefix, word("to").unwrap_or_default());
        let Some(from) = word("from") else {
            keys.push((key, bytes(content)));
            continue;
        };
        match content.get(from).or_else(|| content.pointer(from)) {
            Some(value) if word("decode").is_some() => {
                keys.push((key, BASE64_STANDARD.decode(bytes(value)).map_err(|_| "DecodeFailed")?));
            }
            Some(value) => keys.push((key, bytes(value))),
            None if rule.get("optional") == Some(&Value::Bool(true)) => {}
            None => return Err("KeyNotFound"),
        }
    }
    Ok(keys)
}

/// A text as it is, anything else as compact JSON with its keys in order.
fn bytes(value: &Value) -> Vec<u8> {
    value.as_str().map_or_else(|| value.to_string().into_bytes(), |text| text.as_bytes().to_vec())
}

/// Puts values where `{{ name }}` stands, or `{{ name | filter }}`.
fn fill(text: &str, data: &Data) -> Result<Vec<u8>, &'static str> {
    let mut filled = Vec::new();
    let mut rest = text;
    while let Some((before, name, after)) = rest
        .split_once("{{")
        .and_then(|(before, after)| after.split_once("}}").map(|(name, after)| (before, name, after)))
    {
        filled.extend_from_slice(before.as_bytes());
        filled.extend(filtered(name, data).ok_or("TemplateFailed")?);
        rest = after;
    }
    filled.extend_from_slice(rest.as_bytes());
    Ok(filled)
}

/// A value, after what is asked to be done to it; nothing where there is none.
fn filtered(expression: &str, data: &Data) -> Option<Vec<u8>> {
    let mut words = expression.split('|').map(str::trim);
    let name = words.next()?;
    let name = name.strip_prefix("data['").and_then(|name| name.strip_suffix("']")).unwrap_or(name);
    let value = data.get(name).cloned();
    words.try_fold(value, |value, filter| {
        Some(match filter {
            "upper" => Some(value?.to_ascii_uppercase()),
            "trim" => Some(value?.trim_ascii().to_vec()),
            "b64encode" => Some(BASE64_STANDARD.encode(value?).into_bytes()),
            _ => {
                let default = filter.strip_prefix("default('").and_then(|text| text.strip_suffix("')"))?;
                Some(value.unwrap_or_else(|| default.as_bytes().to_vec()))
            }
        })
    })?
}

/// The data of a Secret as the API server has it.
pub(super) fn data_of(secret: &Value) -> Data {
    let data = secret.get("data").and_then(Value::as_object);
    let decoded = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    data.into_iter().flatten().map(|(key, value)| (key.clone(), decoded(value))).collect()
}
