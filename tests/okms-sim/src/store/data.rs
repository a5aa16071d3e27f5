//! The value of a version: JSON text, kept digit for digit.
//!
//! Pure, and without `Debug`: a value never reaches a log. Numbers are never parsed, so `1.10` and integers beyond 64
//! bits come back as they were written, also after a merge.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

type Object<'a> = BTreeMap<String, &'a RawValue>;

#[derive(Clone)]
pub(crate) struct Data(Arc<RawValue>);

impl Data {
    pub(crate) fn new(raw: &RawValue) -> Self {
        Self(Arc::from(raw.to_owned()))
    }

    /// From a JSON value made in this process.
    pub(crate) fn from_value(value: &serde_json::Value) -> Self {
        Self(Arc::from(to_raw_value(value).expect("a JSON value has string keys only, so it serializes")))
    }

    pub(crate) fn is_object(&self) -> bool {
        self.0.get().starts_with('{')
    }

    pub(crate) fn is_null(&self) -> bool {
        self.0.get() == "null"
    }

    /// Bytes of the JSON text.
    pub(crate) fn len(&self) -> usize {
        self.0.get().len()
    }

    /// This value with `patch` merged in (RFC 7396). With `null_removes` off, a `null` is stored.
    pub(crate) fn merged(&self, patch: &RawValue, null_removes: bool) -> Self {
        Self(Arc::from(merge(Some(&self.0), patch, null_removes)))
    }

    /// The same keys with null leaves, to `depth` levels (0: all). Arrays count as leaves.
    pub(crate) fn subkeys(&self, depth: u32) -> serde_json::Value {
        subkeys(&self.0, depth.checked_sub(1))
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

fn object(raw: &RawValue) -> Option<Object<'_>> {
    serde_json::from_str(raw.get()).ok()
}

fn merge(target: Option<&RawValue>, patch: &RawValue, null_removes: bool) -> Box<RawValue> {
    let Some(patch) = object(patch) else {
        return patch.to_owned();
    };
    let old = target.and_then(object).unwrap_or_default();
    let mut merged: BTreeMap<&str, Box<RawValue>> =
        old.iter().map(|(key, value)| (key.as_str(), (*value).to_owned())).collect();
    for (key, value) in &patch {
        if null_removes && value.get() == "null" {
            merged.remove(key.as_str());
        } else {
            let before = old.get(key).copied();
            merged.insert(key, merge(before, value, null_removes));
        }
    }
    to_raw_value(&merged).expect("the keys are strings and the values are JSON already")
}

fn subkeys(raw: &RawValue, levels_below: Option<u32>) -> serde_json::Value {
    let Some(fields) = object(raw) else {
        return serde_json::Value::Null;
    };
    let leaf = |_: &RawValue| serde_json::Value::Null;
    fields
        .into_iter()
        .map(|(key, value)| {
            let below = match levels_below {
                Some(0) => leaf(value),
                Some(levels) => subkeys(value, Some(levels - 1)),
                None => subkeys(value, None),
            };
            (key, below)
        })
        .collect()
}
