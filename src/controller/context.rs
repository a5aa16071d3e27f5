//! What the reconciles of one term share: the watches' stores, the feed, the rows, and the ways to wake one another.
//!
//! A [`Context`] is made for a term and goes with it, so that a process that leads again knows no more than one that has just started.
//! What the watches know ([`Sight`]) lasts as long as the process.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, Weak},
};

use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::reflector::{self, ObjectRef},
};
use tokio_util::sync::CancellationToken;

use super::{
    Config,
    claims::Claims,
    health::Health,
    metrics::Metrics,
    named::{Follow, Named, Reference},
    renders::Renders,
    row::Rows,
    store::Stores,
    turns::{Key, Return, Turns, Why},
};
use crate::{
    api::{ClusterOkmsStore, OkmsSecret, OkmsStore, Store},
    feed::{Feed, ObjectId},
    k8s::{ConfigMaps, Events, Scope, Targets, Term},
    model::StoreName,
    plan::{self, Fingerprinter, Owner},
};

/// Metadata of targets, as the watch knows it.
pub(super) type TargetMeta = PartialObjectMeta<Secret>;

/// Metadata of namespaces: access rules select them by their labels.
pub(super) type NamespaceMeta = PartialObjectMeta<Namespace>;

/// What all watches know.
pub(super) struct Sight {
    pub cluster_stores: reflector::Store<ClusterOkmsStore>,
    pub namespaces: reflector::Store<NamespaceMeta>,
    /// By namespace; under "" where all namespaces are served.
    pub scopes: HashMap<String, ScopeSight>,
}

/// What the watches of one namespace know, or of all.
pub(super) struct ScopeSight {
    pub secrets: reflector::Store<OkmsSecret>,
    pub targets: reflector::Store<TargetMeta>,
    pub claims: Arc<Claims>,
    pub stores: reflector::Store<OkmsStore>,
}

/// Whom the watches tell: the context of the term, while this process leads. What they saw before is in [`Sight`], and is looked at
/// when the term begins.
#[derive(Clone, Default)]
pub(super) struct Incumbent(Arc<RwLock<Weak<Context>>>);

impl Incumbent {
    pub fn context(&self) -> Option<Arc<Context>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    pub fn set(&self, context: Weak<Context>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = context;
    }
}

/// What a watch knows of one kind of object that is reconciled, and whose turn it is to be looked at. A clone is the same.
#[derive(Clone)]
pub(super) struct Queue<K: Resource<DynamicType = ()> + Clone + 'static> {
    pub objects: reflector::Store<K>,
    pub turns: Turns,
    /// Whether nothing was ever said of an object.
    is_new: fn(&K) -> bool,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Queue<K> {
    pub fn of(objects: &reflector::Store<K>, is_new: fn(&K) -> bool) -> Self {
        Self { objects: objects.clone(), turns: Turns::default(), is_new }
    }

    /// Has objects looked at for a reason that they share.
    fn wake_each(&self, objects: impl IntoIterator<Item = Arc<K>>, last_change: impl Fn(&K) -> u64) {
        for object in objects {
            let why =
                if (self.is_new)(&object) { Why::New } else { Why::Everybody { last_change: last_change(&object) } };
            self.turns.wake(Key::of(&ObjectRef::from_obj(&*object)), why);
        }
    }

    /// Has an object looked at.
    pub fn wake(&self, object: &ObjectRef<K>) {
        self.turns.wake(Key::of(object), self.why(object));
    }

    /// An object was looked at, and is to be again after so long, unless something wakes it before: then what that look says counts.
    pub fn done(&self, object: &ObjectRef<K>, back: Option<Return>) {
        let why = if back.is_some_and(|back| back.held_back) { Why::HeldBack } else { self.why(object) };
        self.turns.done(Key::of(object), why, back.map(|back| back.after));
    }

    fn why(&self, object: &ObjectRef<K>) -> Why {
        let is_new = self.objects.get(object).is_some_and(|object| (self.is_new)(&object));
        if is_new { Why::New } else { Why::Happened }
    }
}

/// The objects of one namespace, or of all.
pub(super) struct Known {
    pub secrets: Queue<OkmsSecret>,
    pub targets: reflector::Store<TargetMeta>,
    pub claims: Arc<Claims>,
    pub stores: Queue<OkmsStore>,
}

impl Known {
    /// Has `OkmsSecret`s looked at for a reason that they share.
    fn wake_each(&self, secrets: Vec<Arc<OkmsSecret>>) {
        self.secrets.wake_each(secrets, |object| self.last_change(object));
    }

    /// Where the last change of an object, or of its target, stands among those of all: later ones have higher versions. When a target was
    /// deleted that the status says is there nobody can know; it may have been just now.
    fn last_change(&self, object: &OkmsSecret) -> u64 {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let target = self.targets.get(&ObjectRef::new(&object.target_name()).within(namespace));
        let told = object.status.as_ref().and_then(|status| status.target.as_ref());
        match target {
            Some(target) => version(&target.metadata).max(version(&object.metadata)),
            None if told.is_some_and(|told| told.keys > 0) => u64::MAX,
            None => version(&object.metadata),
        }
    }
}

/// The resourceVersion as the number that it is in every cluster that stores its objects in etcd: good for an order, and for nothing else.
fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

pub(super) struct Context {
    pub config: Arc<Config>,
    pub client: Client,
    pub term: Term,
    /// The operator is to stop: nothing is begun that has a second step.
    pub stopping: CancellationToken,
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
    pub cluster_stores: Queue<ClusterOkmsStore>,
    pub namespaces: reflector::Store<NamespaceMeta>,
    /// By namespace; under "" where all namespaces are served.
    pub known: HashMap<String, Known>,
}

impl Context {
    /// The objects among which one of this namespace is found.
    pub fn known(&self, namespace: &str) -> Option<&Known> {
        self.known.get(namespace).or_else(|| self.known.get(""))
    }

    pub fn all_secrets(&self) -> impl Iterator<Item = Arc<OkmsSecret>> {
        self.known.values().flat_map(|known| known.secrets.objects.state())
    }

    pub fn all_stores(&self) -> impl Iterator<Item = Store> {
        let shared = self.cluster_stores.objects.state().into_iter().map(Store::Cluster);
        let own = self.known.values().flat_map(|known| known.stores.objects.state());
        shared.chain(own.map(Store::Namespaced))
    }

    /// How many objects wait for their turn to be looked at.
    pub fn waiting(&self) -> usize {
        let own = self.known.values().map(|known| known.secrets.turns.waiting() + known.stores.turns.waiting());
        self.cluster_stores.turns.waiting() + own.sum::<usize>()
    }

    /// The stores of one namespace, in the order in which they were made.
    pub fn stores_of(&self, namespace: &str) -> Vec<Arc<OkmsStore>> {
        let mut stores = self.known(namespace).map_or_else(Vec::new, |known| {
            known.stores.objects.state_filter(|store| store.metadata.namespace.as_deref() == Some(namespace))
        });
        stores.sort_by(|one, other| {
            let (one, other) = (&one.metadata, &other.metadata);
            (&one.creation_timestamp, &one.name).cmp(&(&other.creation_timestamp, &other.name))
        });
        stores
    }

    /// Whether a namespace is being deleted: nothing can be made there any more.
    pub fn is_going(&self, namespace: &str) -> bool {
        let namespace = self.namespaces.get(&ObjectRef::new(namespace));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// The labels that a namespace has now; absent where there is no such namespace.
    pub fn labels_of(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        let namespace = self.namespaces.get(&ObjectRef::new(namespace))?;
        Some(namespace.labels().clone())
    }

    /// Has an `OkmsSecret` looked at.
    pub fn wake(&self, namespace: &str, name: &str) {
        if let Some(known) = self.known(namespace) {
            known.secrets.wake(&ObjectRef::new(name).within(namespace));
        }
    }

    /// Has every `OkmsSecret` of a scope looked at.
    pub fn wake_scope(&self, scope: &Scope) {
        let namespace = match scope {
            Scope::Cluster => "",
            Scope::Namespace(namespace) => namespace,
        };
        if let Some(known) = self.known(namespace) {
            known.wake_each(known.secrets.objects.state());
        }
    }

    /// Has every `OkmsSecret` of a namespace looked at.
    pub fn wake_namespace(&self, namespace: &str) {
        let Some(known) = self.known(namespace) else { return };
        let of_it = |object: &OkmsSecret| object.metadata.namespace.as_deref() == Some(namespace);
        known.wake_each(known.secrets.objects.state_filter(of_it));
    }

    pub fn wake_store(&self, store: &StoreName) {
        match store {
            StoreName::ClusterOkmsStore(name) => self.cluster_stores.wake(&ObjectRef::new(name)),
            StoreName::OkmsStore { namespace, name } => {
                if let Some(known) = self.known(namespace) {
                    known.stores.wake(&ObjectRef::new(name).within(namespace));
                }
            }
        }
    }

    /// Has everything looked at that there is.
    pub fn wake_all(&self) {
        self.cluster_stores.wake_each(self.cluster_stores.objects.state(), |store| version(&store.metadata));
        for known in self.known.values() {
            known.stores.wake_each(known.stores.objects.state(), |store| version(&store.metadata));
            known.wake_each(known.secrets.objects.state());
        }
    }

    /// Has every object that reads from a store looked at.
    pub fn wake_users(&self, store: &StoreName) {
        for known in self.known.values() {
            known.wake_each(known.secrets.objects.state_filter(|object| object.names(store)));
        }
    }

    /// Follows an object of a namespace for those `OkmsSecret`s there that depend on it, which are looked at when it changes.
    pub fn follow(&self, reference: &Reference) -> Option<Follow> {
        let (weak, followed) = (self.this.clone(), reference.clone());
        self.named.follow(&self.client, reference, move || {
            let Some(context) = weak.upgrade() else { return };
            let namespace = followed.namespace();
            let Some(known) = context.known(namespace) else { return };
            for object in known.secrets.objects.state_filter(|object| followed.matters_to(object)) {
                context.wake(namespace, &object.name_any());
            }
        })
    }

    /// Whether a store, and what reads from it, is this operator's business.
    pub fn serves(&self, store: &StoreName) -> bool {
        match store {
            StoreName::ClusterOkmsStore(name) => {
                let only = &self.config.cluster_stores;
                only.is_empty() || only.iter().any(|served| **served == **name)
            }
            StoreName::OkmsStore { namespace, .. } => self.known(namespace).is_some(),
        }
    }

    /// The store of this name, where there is one.
    pub fn store(&self, name: &StoreName) -> Option<Store> {
        match name {
            StoreName::ClusterOkmsStore(name) => {
                self.cluster_stores.objects.get(&ObjectRef::new(name)).map(Store::Cluster)
            }
            StoreName::OkmsStore { namespace, name } => self
                .known(namespace)?
                .stores
                .objects
                .get(&ObjectRef::new(name).within(namespace))
                .map(Store::Namespaced),
        }
    }

    /// Whether the object is still there, and not another one of its name.
    pub fn exists(&self, id: &ObjectId) -> bool {
        let found = self
            .known(&id.namespace)
            .and_then(|known| known.secrets.objects.get(&ObjectRef::new(&id.name).within(&id.namespace)));
        found.is_some_and(|object| object.metadata.uid.as_deref() == Some(&*id.uid))
    }

    /// Whether there is an `OkmsSecret` with this uid.
    pub fn is_alive(&self, uid: &str) -> bool {
        self.all_secrets().any(|object| object.metadata.uid.as_deref() == Some(uid))
    }

    /// Targets, but for `except`, that say they belong to an `OkmsSecret` of this name: what a renamed target leaves behind.
    pub fn other_targets(&self, namespace: &str, owner: &Owner, except: &str) -> Vec<String> {
        let Some(known) = self.known(namespace) else { return Vec::new() };
        let names = |meta: &TargetMeta| plan::claimants(&meta.metadata).contains(&owner.name);
        let itself = known.targets.get(&ObjectRef::new(except).within(namespace)).is_some_and(|meta| names(&meta));
        if known.claims.of(namespace, &owner.name) <= u32::from(itself) {
            return Vec::new();
        }
        known
            .targets
            .state_filter(|meta| {
                meta.metadata.namespace.as_deref() == Some(namespace)
                    && meta.metadata.name.as_deref() != Some(except)
                    && names(meta)
            })
            .iter()
            .map(|meta| meta.name_any())
            .collect()
    }

    /// Whether the watch shows a target of this name.
    pub fn shows_target(&self, namespace: &str, name: &str) -> bool {
        self.known(namespace).is_some_and(|known| known.targets.get(&ObjectRef::new(name).within(namespace)).is_some())
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

#[cfg(test)]
mod tests {
    use std::iter;

    use futures::{FutureExt, StreamExt};
    use kube::runtime::{reflector::store::Writer, watcher::Event};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn store<K>(objects: impl IntoIterator<Item = Value>) -> reflector::Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static,
    {
        let mut writer = Writer::<K>::default();
        for object in objects {
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(object).unwrap()));
        }
        writer.as_reader()
    }

    fn meta(name: &str, version: u32) -> Value {
        json!({"name": name, "namespace": "shop", "resourceVersion": version.to_string()})
    }

    fn object(name: &str, version: u32, keys: i32) -> Value {
        let target = format!("{name}-target");
        json!({
            "apiVersion": "okms-operator.io/v1alpha1", "kind": "OkmsSecret", "metadata": meta(name, version),
            "spec": {"path": name, "target": {"name": target}},
            "status": {"observedGeneration": 1, "conditions": [], "target": {"name": target, "keys": keys}},
        })
    }

    #[tokio::test]
    async fn what_changed_last_is_looked_at_first() {
        let objects = [
            object("as-ever", 10, 1),
            object("edited", 11, 1),
            object("respecified", 1000, 1),
            object("deleted", 12, 1),
            object("without", 13, 0),
        ];
        let targets = [("as-ever", 20), ("edited", 2000), ("respecified", 21)];
        let targets = targets.map(|(name, version)| json!({"metadata": meta(&format!("{name}-target"), version)}));
        let known = Known {
            secrets: Queue::of(&store(objects), OkmsSecret::is_new),
            targets: store(targets),
            claims: Arc::default(),
            stores: Queue::of(&store([]), |_| false),
        };
        known.wake_each(known.secrets.objects.state());
        let order = iter::from_fn(|| known.secrets.turns.clone().next().now_or_never()?);
        let order: Vec<_> = order.map(|key| key.to_ref::<OkmsSecret>().name).collect();
        assert_eq!(order, ["deleted", "edited", "respecified", "as-ever", "without"]);
    }
}
