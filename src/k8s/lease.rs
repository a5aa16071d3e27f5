//! Reads, watches and writes the one Lease that says who leads. What to write, and when, is decided in [`crate::election`].

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use tokio::time::timeout;

use super::{WriteError, watch::Patience};
use crate::api::names;

/// A Lease by its name.
///
/// Its writes take no [`super::Term`], since they are what makes one. They are safe by themselves: a Lease is created only where there is
/// none, and replaced only where it is still the one that was read.
#[derive(Clone)]
pub struct LeaseLock {
    api: Api<Lease>,
    namespace: String,
    name: String,
    /// For each request.
    limit: Duration,
}

impl LeaseLock {
    pub fn new(client: Client, namespace: &str, name: &str, limit: Duration) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, namespace: namespace.to_owned(), name: name.to_owned(), limit }
    }

    /// The Lease as it is now; `None` when there is none.
    pub async fn read(&self) -> Result<Option<Lease>, WriteError> {
        self.within_limit(self.api.get_opt(&self.name)).await
    }

    /// Creates it where there is none, or replaces the one that was read: its resourceVersion is in `lease`.
    pub async fn write(&self, mut lease: Lease) -> Result<Lease, WriteError> {
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        if lease.metadata.resource_version.is_some() {
            return self.within_limit(self.api.replace(&self.name, &params, &lease)).await;
        }
        lease.metadata.name = Some(self.name.clone());
        let create = async {
            self.api.create(&params, &lease).await.map_err(|error| match error {
                // Its namespace: to look at the Lease again does not bring that.
                kube::Error::Api(status) if status.code == 404 => WriteError::Refused(status.message),
                error => error.into(),
            })
        };
        self.within_limit(create).await
    }

    /// Shows the Lease at once, and whenever it has changed. A watch that fails is tried again; it never ends.
    pub fn watch(&self) -> BoxStream<'static, Option<Lease>> {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        let seen = watch_object(self.api.clone(), &self.name).backoff(Patience::default()).filter_map(move |seen| {
            let seen = seen.inspect_err(|error| {
                tracing::warn!(namespace, name, %error, "the watch of the lease failed and is tried again");
            });
            std::future::ready(seen.ok())
        });
        seen.boxed()
    }

    async fn within_limit<T, E>(&self, request: impl Future<Output = Result<T, E>>) -> Result<T, WriteError>
    where
        WriteError: From<E>,
    {
        match timeout(self.limit, request).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(WriteError::unavailable(format!("no answer within {:?}", self.limit))),
        }
    }
}
