//! Writes statuses, and only where they change.

use std::fmt::Debug;

use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Term, WriteError};
use crate::api::names;

/// An object whose status is to be written.
pub trait Stated: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug {
    type Status: Serialize + PartialEq;
}

impl Stated for crate::api::OkmsSecret {
    type Status = crate::api::OkmsSecretStatus;
}

impl Stated for crate::api::ClusterOkmsStore {
    type Status = crate::api::StoreStatus;
}

impl Stated for crate::api::OkmsStore {
    type Status = crate::api::StoreStatus;
}

/// Changes a status from `old` to `new`; answers the version of the object that has it. The object's uid goes with it, so that an
/// object that was made again under the same name is not told what its predecessor was. So does `version`, where it is given, the one
/// that has the old status: a write that was given up, and arrives after a later one, must not take that back.
pub async fn patch_status<K: Stated>(
    term: &Term,
    api: &Api<K>,
    object: &K,
    version: Option<&str>,
    old: Option<&K::Status>,
    new: &K::Status,
) -> Result<Option<String>, WriteError> {
    let Some(name) = &object.meta().name else { return Ok(None) };
    let mut metadata = json!({"uid": object.meta().uid});
    if let (Some(version), Value::Object(metadata)) = (version, &mut metadata) {
        metadata.insert("resourceVersion".to_owned(), version.into());
    }
    let patch = json!({
        "metadata": metadata,
        "status": with_removals(old.map(to_value), to_value(new)),
    });
    let params = PatchParams::apply(names::FIELD_MANAGER);
    let written = term.send(api.patch_status(name, &params, &Patch::Merge(&patch))).await?;
    Ok(written.meta().resource_version.clone())
}

fn to_value(status: &impl Serialize) -> Value {
    serde_json::to_value(status).expect("a status is a plain struct with string keys")
}

/// A merge patch removes only what it names: what is there and not wanted any more is set to null.
fn with_removals(old: Option<Value>, new: Value) -> Value {
    match (old, new) {
        (Some(Value::Object(old)), Value::Object(mut new)) => {
            for (key, _) in old {
                new.entry(key).or_insert(Value::Null);
            }
            Value::Object(new)
        }
        (_, new) => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wanted_any_more_is_removed() {
        let patch = with_removals(Some(json!({"a": 1, "b": {"c": 2}})), json!({"a": 3}));
        assert_eq!(patch, json!({"a": 3, "b": null}));
    }
}
