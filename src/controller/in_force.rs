//! Whether what a deletion follows from is still in force. A watch may be behind: by minutes, after the API server was out of reach.
//!
//! What is written from an old spec is written anew from the next one. What is taken away is missed at once, so the API server itself is
//! asked before; that happens seldom enough.

use kube::{Api, Resource, core::PartialObjectMeta};
use serde::de::DeserializeOwned;

use super::{gather::Access, secret::Run};
use crate::{api::Store, k8s::WriteError};

impl Run<'_> {
    /// Fails if the object or its store is not what this run began with, or if the store names another domain than the one that was read:
    /// a new one is in use only once it has proven itself.
    pub(super) async fn still_in_force(&self, access: &Access) -> Result<(), WriteError> {
        let said = access.store.connection();
        let named = self.context.feed.domain(&access.name).is_some_and(|domain| {
            domain.okms_id == access.okms_id
                && said.endpoint.parse() == Ok(domain.endpoint)
                && said.okms_id.as_ref().is_none_or(|named| named.parse() == Ok(domain.okms_id))
        });
        if !named {
            return Err(WriteError::Postponed(format!(
                "{} names another domain than the one that it is still read from, so nothing is deleted until the new one works \
                 (spec.endpoint, spec.okmsId)",
                access.name
            )));
        }
        let client = || self.context.client.clone();
        let namespace = &self.id.namespace;
        let object = as_known(&Api::namespaced(client(), namespace), self.object).await?;
        let store = match &access.store {
            Store::Cluster(store) => as_known(&Api::all(client()), store.as_ref()).await?.is_some(),
            Store::Namespaced(store) => {
                as_known(&Api::namespaced(client(), namespace), store.as_ref()).await?.is_some()
            }
        };
        // A store that is being deleted is in use until it is gone.
        let object = object.is_some_and(|object| object.metadata.deletion_timestamp.is_none());
        if object && store { Ok(()) } else { Err(WriteError::Outdated) }
    }
}

/// The object as it is now, if its spec is the one that is known.
async fn as_known<K>(api: &Api<K>, known: &K) -> Result<Option<PartialObjectMeta<K>>, WriteError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let Some(name) = &known.meta().name else { return Ok(None) };
    let now: Option<PartialObjectMeta<K>> = api.get_metadata_opt(name).await?;
    Ok(now.filter(|now| now.metadata.uid == known.meta().uid && now.metadata.generation == known.meta().generation))
}
