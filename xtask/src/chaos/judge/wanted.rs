//! What an `OkmsSecret` asks for: the judge's own reading of the spec, by DESIGN's table of defaults and of nothing else.

use serde_json::Value;

use crate::chaos::{action::Key, history::text};

pub(super) struct Wanted {
    pub(super) object: Key,
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) store: (String, String),
    pub(super) sources: Vec<Source>,
    pub(super) last_wins: bool,
    pub(super) interval: Option<String>,
    /// Absent: the store's.
    policy: Option<String>,
    pub(super) suspended: bool,
    pub(super) target: Key,
    pub(super) creation: Creation,
    pub(super) kind: String,
    pub(super) template: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Creation {
    Owner,
    Orphan,
    Merge,
}

pub(super) struct Source {
    pub(super) path: String,
    pub(super) pin: Option<u32>,
    pub(super) prefix: String,
    pub(super) optional: bool,
    pub(super) keys: Option<Vec<Value>>,
}

impl Wanted {
    /// From an `OkmsSecret` as the API server has it.
    pub(super) fn of(object: &Value) -> Self {
        let key = Key {
            namespace: text(object, "/metadata/namespace").to_owned(),
            name: text(object, "/metadata/name").to_owned(),
        };
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let or = |pointer, default: &str| {
            let given = text(spec, pointer);
            if given.is_empty() { default.to_owned() } else { given.to_owned() }
        };
        let listed = spec.get("sources").and_then(Value::as_array);
        Self {
            uid: text(object, "/metadata/uid").to_owned(),
            generation: object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default(),
            store: (or("/storeRef/kind", "ClusterOkmsStore"), or("/storeRef/name", "default")),
            sources: listed.map_or_else(|| vec![Source::of(spec)], |listed| listed.iter().map(Source::of).collect()),
            last_wins: text(spec, "/onKeyConflict") == "LastWins",
            interval: spec.get("refreshInterval").and_then(Value::as_str).map(str::to_owned),
            policy: spec.get("withdrawalPolicy").and_then(Value::as_str).map(str::to_owned),
            suspended: spec.get("suspend") == Some(&Value::Bool(true)),
            target: Key { namespace: key.namespace.clone(), name: or("/target/name", &key.name) },
            creation: match text(spec, "/target/creationPolicy") {
                "Merge" => Creation::Merge,
                "Orphan" => Creation::Orphan,
                _ => Creation::Owner,
            },
            kind: or("/target/type", "Opaque"),
            template: spec.pointer("/target/template").cloned(),
            object: key,
        }
    }

    pub(super) fn merges(&self) -> bool {
        self.creation == Creation::Merge
    }

    /// Whether what is withdrawn goes, as the spec, or else the store, says.
    pub(super) fn deletes(&self, store: Option<&Value>) -> bool {
        let stores = store.map_or("", |store| text(store, "/spec/withdrawalPolicy"));
        self.policy.as_deref().unwrap_or(stores) != "Retain"
    }

    /// The paths that it reads.
    pub(super) fn paths(&self) -> Vec<&str> {
        self.sources.iter().map(|source| source.path.as_str()).collect()
    }

    pub(super) fn source(&self, path: &str, pin: Option<u32>) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path && source.pin == pin)
    }
}

impl Source {
    fn of(value: &Value) -> Self {
        let pin = value.get("version").and_then(Value::as_u64);
        Self {
            path: text(value, "/path").to_owned(),
            pin: pin.and_then(|pin| u32::try_from(pin).ok()),
            prefix: text(value, "/prefix").to_owned(),
            optional: value.get("optional") == Some(&Value::Bool(true)),
            keys: value.get("keys").and_then(Value::as_array).cloned(),
        }
    }
}

/// What a store lets a namespace with these labels read: only of a shared one is that a question.
pub(super) fn grants(store: &Value, namespace: &Value, path: &str) -> bool {
    if text(store, "/kind") == "OkmsStore" {
        return true;
    }
    let rules = store.pointer("/spec/access").and_then(Value::as_array);
    rules.into_iter().flatten().any(|rule| {
        let patterns = strings(rule, "/namespaces");
        // Of globs, only those that end with a star are used.
        let is_name = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(begin) => text(namespace, "/metadata/name").starts_with(begin),
            None => *pattern == text(namespace, "/metadata/name"),
        };
        let named = patterns.is_empty() || patterns.iter().any(is_name);
        let asked = rule.pointer("/namespaceSelector/matchLabels").and_then(Value::as_object);
        let labels = namespace.pointer("/metadata/labels");
        let labelled = asked
            .into_iter()
            .flatten()
            .all(|(label, value)| labels.and_then(|labels| labels.get(label)) == Some(value));
        let granted = strings(rule, "/paths").iter().any(|grant| match grant.strip_suffix('*') {
            Some(folder) => path.starts_with(folder),
            None => *grant == path,
        });
        (asked.is_some() || !patterns.is_empty()) && named && labelled && granted
    })
}

fn strings<'v>(value: &'v Value, pointer: &str) -> Vec<&'v str> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}
