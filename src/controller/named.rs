//! Watches over single objects, by their name: what a store refers to, ConfigMaps with templates, Secrets that are in the way.
//!
//! Each is watched without its content, and only as long as somebody holds its [`Follow`]; those who follow the same object share one
//! watch.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use tokio_util::task::AbortOnDropHandle;

use crate::{api::OkmsSecret, k8s::watch_named};

/// An object that something depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Reference {
    Secret { namespace: Arc<str>, name: String },
    ConfigMap { namespace: Arc<str>, name: String },
}

impl Reference {
    pub fn namespace(&self) -> &str {
        match self {
            Self::Secret { namespace, .. } | Self::ConfigMap { namespace, .. } => namespace,
        }
    }

    /// Whether the object is a target, or has templates, of this `OkmsSecret`.
    pub fn matters_to(&self, object: &OkmsSecret) -> bool {
        let here = object.metadata.namespace.as_deref() == Some(self.namespace());
        here && match self {
            Self::Secret { name, .. } => object.target_name() == *name,
            Self::ConfigMap { name, .. } => object.spec.template_config_maps().any(|map| map.name == *name),
        }
    }

    /// Calls `changed` when the object may have changed.
    pub fn watch(self, client: Client, changed: impl FnMut() + Send + 'static) -> Watch {
        Watch::new(match self {
            Self::Secret { namespace, name } => {
                tokio::spawn(watch_named::<Secret>(client, namespace.to_string(), name, changed))
            }
            Self::ConfigMap { namespace, name } => {
                tokio::spawn(watch_named::<ConfigMap>(client, namespace.to_string(), name, changed))
            }
        })
    }
}

/// Watches until it is dropped.
pub(super) type Watch = AbortOnDropHandle<()>;

/// Keeps an object followed until it is dropped.
pub(super) type Follow = Arc<Watch>;

/// The watches that are shared.
#[derive(Default)]
pub(super) struct Named(Mutex<HashMap<Reference, Weak<Watch>>>);

impl Named {
    /// Follows an object; `None` where too many are followed already, and it has to be looked at now and then instead.
    pub fn follow(
        &self,
        client: &Client,
        reference: &Reference,
        changed: impl FnMut() + Send + 'static,
    ) -> Option<Follow> {
        let mut watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(follow) = watches.get(reference).and_then(Weak::upgrade) {
            return Some(follow);
        }
        watches.retain(|_, watch| watch.strong_count() > 0);
        let of_namespace = watches.keys().filter(|other| other.namespace() == reference.namespace()).count();
        if watches.len() >= MAX_WATCHES || of_namespace >= MAX_WATCHES_OF_A_NAMESPACE {
            return None;
        }
        let follow = Arc::new(reference.clone().watch(client.clone(), changed));
        watches.insert(reference.clone(), Arc::downgrade(&follow));
        Some(follow)
    }
}

/// Each is a request that the API server holds open. Those of a cluster in order are a handful; this many are trouble, for which
/// looking once a minute is good enough.
const MAX_WATCHES: usize = 256;

/// So that no namespace takes them all.
const MAX_WATCHES_OF_A_NAMESPACE: usize = 32;
