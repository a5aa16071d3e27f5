//! Reads and writes target Secrets. The only code in this program that writes a Secret.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};

use super::{Term, WriteError};
use crate::api::names;

/// Target Secrets of all namespaces that the operator serves.
pub struct Targets {
    client: Client,
}

impl Targets {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The Secret as it is now; `None` when there is none.
    pub async fn read(&self, namespace: &str, name: &str) -> Result<Option<Secret>, WriteError> {
        Ok(self.api(namespace).get_opt(name).await?)
    }

    /// Creates a Secret that does not exist.
    pub async fn create(&self, term: &Term, namespace: &str, secret: &Secret) -> Result<Secret, WriteError> {
        term.send(self.api(namespace).create(&params(), secret)).await
    }

    /// Replaces a Secret that is still the one that was read: its uid and resourceVersion are in `secret`.
    pub async fn replace(
        &self,
        term: &Term,
        namespace: &str,
        name: &str,
        secret: &Secret,
    ) -> Result<Secret, WriteError> {
        debug_assert!(secret.metadata.uid.is_some() && secret.metadata.resource_version.is_some());
        term.send(self.api(namespace).replace(name, &params(), secret)).await
    }

    /// Applies a part of a Secret that is still the one that was read, in the name of a manager that owns no other part. What others
    /// own is never taken from them.
    pub async fn apply(
        &self,
        term: &Term,
        namespace: &str,
        manager: &str,
        part: &Secret,
    ) -> Result<Secret, WriteError> {
        let (Some(name), Some(_), Some(_)) = (&part.metadata.name, &part.metadata.uid, &part.metadata.resource_version)
        else {
            return Err(WriteError::Conflict);
        };
        term.send(self.api(namespace).patch(name, &PatchParams::apply(manager), &Patch::Apply(part))).await
    }

    /// Asks the API server and its admission policies whether they would take this Secret as a new one, without creating it.
    ///
    /// A Secret of that name exists, so it is tried under a generated one.
    pub async fn would_create(&self, term: &Term, namespace: &str, secret: &Secret) -> Result<(), WriteError> {
        let mut trial = secret.clone();
        trial.metadata.generate_name = trial.metadata.name.take().map(|name| format!("{name}-"));
        trial.metadata.uid = None;
        trial.metadata.resource_version = None;
        let params = PostParams { dry_run: true, ..params() };
        term.send(self.api(namespace).create(&params, &trial)).await.map(drop)
    }

    /// Deletes exactly the Secret that was read, and not one that has changed or taken its name since.
    pub async fn delete(&self, term: &Term, namespace: &str, secret: &Secret) -> Result<(), WriteError> {
        let (Some(name), Some(uid), Some(resource_version)) =
            (&secret.metadata.name, &secret.metadata.uid, &secret.metadata.resource_version)
        else {
            return Err(WriteError::Conflict);
        };
        let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: Some(resource_version.clone()) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        term.send(self.api(namespace).delete(name, &params)).await.map(drop)
    }

    fn api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Reads ConfigMaps with templates.
pub struct ConfigMaps {
    client: Client,
}

impl ConfigMaps {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// What the ConfigMap holds as text; `None` when there is none.
    pub async fn read(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, String>>, WriteError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await?.map(|map| map.data.unwrap_or_default()))
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
