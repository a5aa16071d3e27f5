//! What reconciles share: the watches' stores, the feed, the rows, and the ways to wake one another.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};

use super::{
    Config,
    health::Health,
    metrics::Metrics,
    named::{Follow, Named, Reference},
    renders::Renders,
    row::Rows,
    store::Stores,
};
use crate::{
    api::{ClusterOkmsStore, OkmsSecret, names},
    feed::{Feed, ObjectId},
    k8s::{ConfigMaps, Events, Targets, Term},
    model::{StoreKind, StoreName},
    plan::{Fingerprinter, Owner},
};

/// Metadata of targets, as the watch knows it.
pub(super) type TargetMeta = PartialObjectMeta<Secret>;

/// The objects of one namespace, or of all.
pub(super) struct Known {
    pub secrets: Store<OkmsSecret>,
    pub targets: Store<TargetMeta>,
    pub wakes: UnboundedSender<ObjectRef<OkmsSecret>>,
}

pub(super) struct Context {
    pub config: Config,
    pub client: Client,
    pub term: Term,
    pub feed: Feed,
    pub rows: Rows,
    pub targets: Targets,
    pub config_maps: ConfigMaps,
    pub events: Events,
    pub fingerprinter: Fingerprinter,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub stores: Stores,
    pub named: Named,
    pub renders: Renders,
    /// For the tasks that outlive the call that starts them, and are owned by what is here.
    pub this: Weak<Context>,
    pub cluster_stores: Store<ClusterOkmsStore>,
    pub wake_stores: UnboundedSender<ObjectRef<ClusterOkmsStore>>,
    /// By namespace; under "" where all namespaces are served.
    pub known: HashMap<String, Known>,
}

impl Context {
    /// The objects among which one of this namespace is found.
    pub fn known(&self, namespace: &str) -> Option<&Known> {
        self.known.get(namespace).or_else(|| self.known.get(""))
    }

    pub fn all_secrets(&self) -> impl Iterator<Item = Arc<OkmsSecret>> {
        self.known.values().flat_map(|known| known.secrets.state())
    }

    /// Has an `OkmsSecret` looked at. Where the channel is closed the operator is ending.
    pub fn wake(&self, namespace: &str, name: &str) {
        if let Some(known) = self.known(namespace) {
            let _ = known.wakes.unbounded_send(ObjectRef::new(name).within(namespace));
        }
    }

    pub fn wake_store(&self, name: &str) {
        let _ = self.wake_stores.unbounded_send(ObjectRef::new(name));
    }

    /// Has every object that reads from a store looked at.
    pub fn wake_users(&self, store: &StoreName) {
        for object in self.all_secrets().filter(|object| object.spec.store_name() == *store) {
            self.wake(&object.namespace().unwrap_or_default(), &object.name_any());
        }
    }

    /// Follows an object of a namespace for those `OkmsSecret`s there that depend on it, which are looked at when it changes.
    pub fn follow(&self, reference: &Reference) -> Option<Follow> {
        let (weak, followed) = (self.this.clone(), reference.clone());
        self.named.follow(&self.client, reference, move || {
            let Some(context) = weak.upgrade() else { return };
            let namespace = followed.namespace();
            let Some(known) = context.known(namespace) else { return };
            for object in known.secrets.state_filter(|object| followed.matters_to(object)) {
                context.wake(namespace, &object.name_any());
            }
        })
    }

    /// Whether a store, and what reads from it, is this operator's business.
    pub fn serves(&self, store: &StoreName) -> bool {
        let only = &self.config.cluster_stores;
        only.is_empty() || only.iter().any(|served| **served == *store.name)
    }

    /// The store that an object names, where there is one.
    pub fn cluster_store(&self, name: &StoreName) -> Option<Arc<ClusterOkmsStore>> {
        match name.kind {
            StoreKind::ClusterOkmsStore => self.cluster_stores.get(&ObjectRef::new(&name.name)),
        }
    }

    /// Whether the object is still there, and not another one of its name.
    pub fn exists(&self, id: &ObjectId) -> bool {
        let found = self
            .known(&id.namespace)
            .and_then(|known| known.secrets.get(&ObjectRef::new(&id.name).within(&id.namespace)));
        found.is_some_and(|object| object.metadata.uid.as_deref() == Some(&*id.uid))
    }

    /// Whether there is an `OkmsSecret` with this uid.
    pub fn is_alive(&self, uid: &str) -> bool {
        self.all_secrets().any(|object| object.metadata.uid.as_deref() == Some(uid))
    }

    /// Targets, but for `except`, that say they belong to an `OkmsSecret` of this name: what a renamed target leaves behind.
    pub fn other_targets(&self, namespace: &str, owner: &Owner, except: &str) -> Vec<String> {
        let Some(known) = self.known(namespace) else { return Vec::new() };
        known
            .targets
            .state_filter(|meta| {
                let annotations = meta.annotations();
                meta.metadata.namespace.as_deref() == Some(namespace)
                    && meta.metadata.name.as_deref() != Some(except)
                    && (annotations.get(names::OWNER_ANNOTATION) == Some(&owner.name)
                        || annotations.contains_key(&owner.merged_annotation()))
            })
            .iter()
            .map(|meta| meta.name_any())
            .collect()
    }

    /// Whether the watch shows the target exactly as it was last seen, so that it need not be read.
    pub fn target_is_unchanged(&self, namespace: &str, name: &str, uid: Option<&str>, version: Option<&str>) -> bool {
        let Some(known) = self.known(namespace) else { return false };
        let seen = known.targets.get(&ObjectRef::new(name).within(namespace));
        seen.is_some_and(|seen| seen.meta().uid.as_deref() == uid && seen.meta().resource_version.as_deref() == version)
    }
}

/// How the feed knows an object.
pub(super) fn object_id(object: &OkmsSecret) -> ObjectId {
    ObjectId {
        uid: object.uid().unwrap_or_default().into(),
        namespace: object.namespace().unwrap_or_default().into(),
        name: object.name_any().into(),
    }
}
