//! Whether what a deletion follows from is still in force. A watch may be behind: by minutes, after the API server was out of reach.
//!
//! What is written from an old spec is written anew from the next one. What is taken away is missed at once, so the API server itself is
//! asked before; that happens seldom enough.

use kube::{Api, Resource, core::PartialObjectMeta};
use serde::de::DeserializeOwned;

use super::{gather::Access, secret::Run};
use crate::{api::Store, k8s::WriteError};

impl Run<'_> {
    /// Fails if the object or its store is not what this run began with.
    pub(super) async fn still_in_force(&self, access: &Access) -> Result<(), WriteError> {
        let client = || self.context.client.clone();
        let namespace = &self.id.namespace;
        let object = is_as_known(&Api::namespaced(client(), namespace), self.object).await?;
        let store = match &access.store {
            Store::Cluster(store) => is_as_known(&Api::all(client()), store.as_ref()).await?,
            Store::Namespaced(store) => is_as_known(&Api::namespaced(client(), namespace), store.as_ref()).await?,
        };
        if object && store { Ok(()) } else { Err(WriteError::Conflict) }
    }
}

async fn is_as_known<K>(api: &Api<K>, known: &K) -> Result<bool, WriteError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let Some(name) = &known.meta().name else { return Ok(false) };
    let now: Option<PartialObjectMeta<K>> = api.get_metadata_opt(name).await?;
    Ok(now.is_some_and(|now| {
        let (now, known) = (now.metadata, known.meta());
        now.uid == known.uid && now.generation == known.generation && now.deletion_timestamp.is_none()
    }))
}
