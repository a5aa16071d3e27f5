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

/// Changes a status from `old` to `new`. The object's uid goes with it, so that an object that was made again under the same name is
/// not told what its predecessor was.
pub async fn patch_status<K: Stated>(
    term: &Term,
    api: &Api<K>,
    object: &K,
    old: Option<&K::Status>,
    new: &K::Status,
) -> Result<(), WriteError> {
    let Some(name) = &object.meta().name else { return Ok(()) };
    let patch = json!({
        "metadata": {"uid": object.meta().uid},
        "status": with_removals(old.map(to_value), to_value(new)),
    });
    term.send(api.patch_status(name, &PatchParams::apply(names::FIELD_MANAGER), &Patch::Merge(&patch))).await.map(drop)
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
