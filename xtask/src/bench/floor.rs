//! The floor: the same Secrets and statuses, written by a client that does nothing else.
//!
//! It says what the API server and etcd of this machine cost, so that the rest can be told apart as the operator's own. So it is made
//! under the same conditions: on a stage of its own, as new as that of a cold start; by a client like the operator's with its identity, whose requests the API server queues, and holds to the
//! chart's admission policies, as it does the operator's, and with the bench's watch open.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use okms_operator::{
    api::{OkmsSecret, OkmsSecretStatus, names},
    controller,
};
use serde_json::{Value, json};

use super::{
    layout,
    scene::{NAMESPACE, Scene},
    watch::Synced,
};

/// How many requests are under way at once: as many as the operator reconciles at once.
pub(super) fn concurrency() -> usize {
    usize::from(controller::Config::default().concurrency)
}

/// What the operator made of one object.
pub(super) struct Sample {
    secret: Secret,
    status: Option<OkmsSecretStatus>,
}

impl Sample {
    pub(super) async fn take(client: &Client, namespace: &str) -> Result<Self> {
        let name = layout::name(0);
        let secret = Api::<Secret>::namespaced(client.clone(), namespace).get(&name).await;
        let object = Api::<OkmsSecret>::namespaced(client.clone(), namespace).get(&name).await;
        let status = object.context("reading a status to copy")?.status;
        Ok(Self { secret: secret.context("reading a Secret to copy")?, status })
    }

    /// The Secret as the operator would have written it for another object.
    fn secret(&self, of: &OkmsSecret) -> Secret {
        let from = &self.secret.metadata;
        let owners = from.owner_references.iter().flatten().map(|owner| OwnerReference {
            name: of.name_any(),
            uid: of.uid().unwrap_or_default(),
            ..owner.clone()
        });
        let mut annotations = from.annotations.clone().unwrap_or_default();
        annotations.insert(names::OWNER_ANNOTATION.to_owned(), of.name_any());
        let metadata = ObjectMeta {
            name: of.metadata.name.clone(),
            labels: from.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(owners.collect()),
            ..ObjectMeta::default()
        };
        Secret { metadata, data: self.secret.data.clone(), type_: self.secret.type_.clone(), ..Secret::default() }
    }

    /// The patch of the status, likewise.
    fn status(&self, of: &OkmsSecret) -> Value {
        let metadata = json!({"uid": of.metadata.uid, "resourceVersion": of.metadata.resource_version});
        json!({"metadata": metadata, "status": self.status})
    }
}

/// Creates one Secret and patches one status for each object, and says how long it took until a watch had seen all of them: the same
/// watch as is open while the operator does it.
pub(super) async fn measure(scene: &Scene, sample: &Sample) -> Result<Duration> {
    let objects = Api::<OkmsSecret>::namespaced(scene.client.clone(), NAMESPACE).list(&ListParams::default()).await;
    let objects = objects.context("listing OkmsSecrets")?.items;
    let writer = scene.operators_client().await?;
    let secrets = Api::namespaced(writer.clone(), NAMESPACE);
    let statuses = Api::<OkmsSecret>::namespaced(writer, NAMESPACE);
    let created = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let patched = PatchParams::apply(names::FIELD_MANAGER);
    let synced = Synced::watch(&scene.client, NAMESPACE).await?;
    let begun = Instant::now();
    stream::iter(&objects)
        .map(async |object| {
            secrets.create(&created, &sample.secret(object)).await?;
            let status = Patch::Merge(sample.status(object));
            statuses.patch_status(&object.name_any(), &patched, &status).await?;
            Ok::<_, kube::Error>(())
        })
        .buffer_unordered(concurrency())
        .try_collect::<()>()
        .await
        .context("writing as a plain client")?;
    Ok(synced.all(objects.len()).await?.last.duration_since(begun))
}
