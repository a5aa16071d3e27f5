//! The floor: the same Secrets and statuses, written by a client that does nothing else.
//!
//! It says what the API server and etcd of this machine cost, so that the rest can be told apart as the operator's own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use okms_operator::{api::OkmsSecret, controller};
use serde_json::json;

use super::{
    layout::{self, Layout},
    scene,
};

/// How many requests are under way at once: as many as the operator reconciles at once.
pub(super) fn concurrency() -> usize {
    usize::from(controller::Config::default().concurrency)
}

/// Creates one Secret and patches one status for each object, copied from what the operator wrote, and says how long that took.
pub(super) async fn measure(client: &Client, from: &str, to: &str, layout: Layout) -> Result<Duration> {
    let name = layout::name(0);
    let secret =
        Api::<Secret>::namespaced(client.clone(), from).get(&name).await.context("reading a Secret to copy")?;
    let object = Api::<OkmsSecret>::namespaced(client.clone(), from).get(&name).await;
    let status = json!({"status": object.context("reading a status to copy")?.status});
    let owners = scene::create_objects(client, to, layout).await?;

    let secrets = Api::<Secret>::namespaced(client.clone(), to);
    let statuses = Api::<OkmsSecret>::namespaced(client.clone(), to);
    let begun = Instant::now();
    stream::iter(owners)
        .map(async |owner| {
            let copy = copy(&secret, &owner);
            secrets.create(&PostParams::default(), &copy).await?;
            statuses.patch_status(&owner.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await?;
            Ok::<_, kube::Error>(())
        })
        .buffer_unordered(concurrency())
        .try_collect::<()>()
        .await
        .context("writing as a plain client")?;
    Ok(begun.elapsed())
}

/// The Secret as the operator would have written it for another object.
fn copy(secret: &Secret, owner: &OkmsSecret) -> Secret {
    let metadata = ObjectMeta {
        name: owner.metadata.name.clone(),
        labels: secret.metadata.labels.clone(),
        annotations: secret.metadata.annotations.clone(),
        owner_references: owner.controller_owner_ref(&()).map(|reference| vec![reference]),
        ..ObjectMeta::default()
    };
    Secret { metadata, data: secret.data.clone(), type_: secret.type_.clone(), ..Secret::default() }
}
