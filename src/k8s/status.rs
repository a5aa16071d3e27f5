//! Writes statuses, and only where they change.

use std::fmt::Debug;

use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
    core::object::HasStatus,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Term, WriteError};
use crate::api::names;

/// What is known of the status of one object beyond what the watch shows, which may be older.
#[derive(Debug)]
pub struct LastStatus<S> {
    /// As it was last written, and the version of the object that has it; until the watch shows it.
    written: Option<Box<(S, Option<String>)>>,
    /// One whose write was not answered well: if the watch shows it, it was written.
    attempted: Option<Box<S>>,
}

impl<S> Default for LastStatus<S> {
    fn default() -> Self {
        Self { written: None, attempted: None }
    }
}

impl<S: Serialize + PartialEq> LastStatus<S> {
    /// Takes in what the watch shows. That was written, whatever became of the answer.
    pub fn catch_up(&mut self, shown: Option<&S>) {
        let arrived = self.attempted.take_if(|attempted| Some(&**attempted) == shown).is_some();
        self.written.take_if(|written| arrived || Some(&written.0) == shown);
    }

    /// The status as it is, where the watch shows this one.
    pub fn or<'a>(&'a self, shown: Option<&'a S>) -> Option<&'a S> {
        self.written.as_deref().map(|(status, _)| status).or(shown)
    }

    /// Whether the watch does not show yet what was written.
    pub fn is_ahead(&self) -> bool {
        self.written.is_some()
    }

    /// Writes the status of an object, which the watch shows so. Its uid goes with it, so that an object that was made again under the same
    /// name is not told what its predecessor was. So does the version that has the status before: a write that was given up, and arrives
    /// after a later one, must not take that back.
    pub async fn write<K>(&mut self, term: &Term, api: &Api<K>, object: &K, new: S) -> Result<(), WriteError>
    where
        K: Resource<DynamicType = ()> + HasStatus<Status = S> + Clone + DeserializeOwned + Debug,
    {
        let meta = object.meta();
        let Some(name) = &meta.name else { return Ok(()) };
        let (old, version) = match self.written.as_deref() {
            Some((status, version)) => (Some(status), version.as_ref()),
            None => (object.status(), meta.resource_version.as_ref()),
        };
        let patch = json!({
            "metadata": {"uid": meta.uid, "resourceVersion": version},
            "status": with_removals(old.map(to_value), to_value(&new)),
        });
        let params = PatchParams::apply(names::FIELD_MANAGER);
        match term.send(api.patch_status(name, &params, &Patch::Merge(&patch))).await {
            Ok(written) => {
                *self =
                    Self { written: Some(Box::new((new, written.meta().resource_version.clone()))), attempted: None };
                Ok(())
            }
            Err(error) => {
                match error {
                    // It has another one by now, which the watch will show.
                    WriteError::Conflict => self.written = None,
                    _ => self.attempted = Some(Box::new(new)),
                }
                Err(error)
            }
        }
    }
}

fn to_value<S: Serialize>(status: &S) -> Value {
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
    fn what_was_written_counts_until_the_watch_shows_it() {
        let mut last = LastStatus { written: Some(Box::new((2, Some("7".to_owned())))), attempted: None };
        last.catch_up(Some(&1));
        assert_eq!((last.or(Some(&1)), last.is_ahead()), (Some(&2), true), "it shows an older one");
        last.catch_up(Some(&2));
        assert_eq!((last.or(Some(&3)), last.is_ahead()), (Some(&3), false));
    }

    #[test]
    fn what_the_watch_shows_was_written_though_the_answer_was_lost() {
        let mut last = LastStatus { written: Some(Box::new((2, Some("7".to_owned())))), attempted: Some(Box::new(3)) };
        last.catch_up(Some(&1));
        assert_eq!(last.or(Some(&1)), Some(&2));
        last.catch_up(Some(&3));
        assert_eq!((last.or(Some(&3)), last.is_ahead(), last.attempted.is_some()), (Some(&3), false, false));
    }

    #[test]
    fn what_is_not_wanted_any_more_is_removed() {
        let patch = with_removals(Some(json!({"a": 1, "b": {"c": 2}})), json!({"a": 3}));
        assert_eq!(patch, json!({"a": 3, "b": null}));
    }
}
