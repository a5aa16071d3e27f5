//! The API server, as far as it matters to a target: it keeps one Secret, and who wrote which of its fields.
//!
//! After `fieldmanager` of apimachinery: an update owns what it changed, an apply owns what it names and gives up what it does not name
//! any more; what changes hands by force does not happen here, since the operator never forces.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta},
};
use serde_json::{Map, Value as Tree, json};

use crate::plan::type_of;

/// The place of a field, such as `f:data`, `f:password`.
type Field = Vec<String>;

#[derive(Default)]
pub(super) struct Server {
    secret: Option<Secret>,
    managers: BTreeMap<String, BTreeSet<Field>>,
    writes: u32,
}

/// Why the API server does not take something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The Secret is not what was read, or is there already.
    Conflict,
    /// Kubernetes does not let this be changed.
    Immutable,
    /// Somebody else has fields of the same name.
    Contested,
}

impl Server {
    /// The Secret, as a client reads it.
    pub(super) fn read(&self) -> Option<Secret> {
        let mut secret = self.secret.clone()?;
        secret.metadata.managed_fields = Some(self.managers.iter().map(|(name, fields)| entry(name, fields)).collect());
        Some(secret)
    }

    pub(super) fn writes(&self) -> u32 {
        self.writes
    }

    /// POST.
    pub(super) fn create(&mut self, manager: &str, secret: &Secret) -> Result<(), Refusal> {
        if self.secret.is_some() || secret.metadata.uid.is_some() || secret.metadata.resource_version.is_some() {
            return Err(Refusal::Conflict);
        }
        self.managers.clear();
        let mut secret = secret.clone();
        secret.metadata.uid = Some(format!("secret-{}", self.writes));
        self.managers.insert(manager.to_owned(), fields(&secret).into_keys().collect());
        self.store(secret);
        Ok(())
    }

    /// DELETE.
    pub(super) fn delete(&mut self, secret: &Secret) -> Result<(), Refusal> {
        self.is_same(&secret.metadata)?;
        self.secret = None;
        Ok(())
    }

    /// PUT, and every other change but an apply.
    pub(super) fn update(&mut self, manager: &str, secret: &Secret) -> Result<(), Refusal> {
        let old = self.is_same(&secret.metadata)?.clone();
        let frozen = old.immutable == Some(true) && (old.data != secret.data || secret.immutable != Some(true));
        if type_of(&old) != type_of(secret) || frozen {
            return Err(Refusal::Immutable);
        }
        let (before, now) = (fields(&old), fields(secret));
        let unchanged = |field: &Field| before.get(field) == now.get(field);
        for (name, theirs) in &mut self.managers {
            theirs.retain(|field| now.contains_key(field) && (unchanged(field) || name == manager));
        }
        let ours = self.managers.entry(manager.to_owned()).or_default();
        ours.extend(now.keys().filter(|field| !unchanged(field)).cloned());
        let mut secret = secret.clone();
        secret.metadata.uid = old.metadata.uid;
        self.store(secret);
        Ok(())
    }

    /// Server-side apply, without force.
    pub(super) fn apply(&mut self, manager: &str, part: &Secret) -> Result<(), Refusal> {
        let mut merged = self.is_same(&part.metadata)?.clone();
        let (is, wanted) = (fields(&merged), fields(part));
        let contested = |field: &&Field| {
            let others = self.managers.iter().any(|(name, theirs)| name != manager && theirs.contains(*field));
            others && is.get(*field) != wanted.get(*field)
        };
        if wanted.keys().any(|field| contested(&field)) {
            return Err(Refusal::Contested);
        }
        let before = self.managers.insert(manager.to_owned(), wanted.keys().cloned().collect()).unwrap_or_default();
        for field in before.iter().filter(|field| !self.managers.values().any(|theirs| theirs.contains(*field))) {
            remove(&mut merged, field);
        }
        merged.data.get_or_insert_default().extend(part.data.clone().unwrap_or_default());
        let (into, from) = (&mut merged.metadata, part.metadata.clone());
        into.labels.get_or_insert_default().extend(from.labels.unwrap_or_default());
        into.annotations.get_or_insert_default().extend(from.annotations.unwrap_or_default());
        self.store(merged);
        Ok(())
    }

    fn is_same(&self, metadata: &ObjectMeta) -> Result<&Secret, Refusal> {
        let same = |secret: &&Secret| {
            secret.metadata.uid == metadata.uid && secret.metadata.resource_version == metadata.resource_version
        };
        self.secret.as_ref().filter(same).ok_or(Refusal::Conflict)
    }

    fn store(&mut self, mut secret: Secret) {
        self.writes += 1;
        secret.metadata.resource_version = Some(self.writes.to_string());
        secret.metadata.managed_fields = None;
        secret.type_ = Some(type_of(&secret).to_owned());
        self.managers.retain(|_, fields| !fields.is_empty());
        self.secret = Some(secret);
    }
}

/// Every field of a Secret and what it holds.
fn fields(secret: &Secret) -> BTreeMap<Field, Tree> {
    let field = |place: &[&str], key: &str| -> Field {
        let key = format!("f:{key}");
        place.iter().map(|part| (*part).to_owned()).chain([key]).collect()
    };
    let metadata = &secret.metadata;
    let data = secret.data.iter().flatten().map(|(key, value)| (field(&["f:data"], key), json!(value)));
    let labels =
        metadata.labels.iter().flatten().map(|(key, value)| (field(&["f:metadata", "f:labels"], key), json!(value)));
    let annotations = metadata.annotations.iter().flatten();
    let annotations = annotations.map(|(key, value)| (field(&["f:metadata", "f:annotations"], key), json!(value)));
    let owners = metadata.owner_references.iter().flatten();
    let owners = owners.map(|owner| (field(&["f:metadata", "f:ownerReferences"], &owner.uid), json!(owner)));
    let immutable = secret.immutable.map(|immutable| (field(&[], "immutable"), json!(immutable)));
    data.chain(labels).chain(annotations).chain(owners).chain(immutable).collect()
}

fn remove(secret: &mut Secret, field: &Field) {
    let key = field.last().and_then(|key| key.strip_prefix("f:")).unwrap_or_default();
    match field.get(1).map(String::as_str) {
        Some("f:labels") => drop(secret.metadata.labels.as_mut().and_then(|labels| labels.remove(key))),
        Some("f:annotations") => drop(secret.metadata.annotations.as_mut().and_then(|all| all.remove(key))),
        _ => drop(secret.data.as_mut().and_then(|data| data.remove(key))),
    }
}

/// What a client reads of one manager.
fn entry(manager: &str, fields: &BTreeSet<Field>) -> ManagedFieldsEntry {
    let mut tree = Map::new();
    for field in fields {
        let mut node = &mut tree;
        for part in field {
            node = node.entry(part.clone()).or_insert_with(|| json!({})).as_object_mut().unwrap();
        }
    }
    let (manager, fields_v1) = (Some(manager.to_owned()), Some(FieldsV1(Tree::Object(tree))));
    ManagedFieldsEntry { manager, fields_v1, ..ManagedFieldsEntry::default() }
}
