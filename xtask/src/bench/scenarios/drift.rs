//! What people do to targets by hand.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::sleep;

use super::{GLANCE, at_most};
use crate::bench::{
    figures::Sheet,
    floor, layout,
    scene::{NAMESPACE, Scene},
    watch::MadeAgain,
};

/// How many are edited, one after the other.
const EDITS: usize = 20;

/// How many are deleted at once.
const STORM: usize = 1000;

/// Far longer than any repair takes.
const REPAIRED: Duration = Duration::from_mins(2);

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let api = Api::<Secret>::namespaced(scene.client.clone(), NAMESPACE);
    let mut took = Vec::new();
    for object in 0..at_most(scene.layout.objects, EDITS) {
        took.push(edit(&api, &layout::name(object)).await?);
    }
    sheet.spread(["one edited Secret, median", "99th percentile", "longest"], took);

    let objects = at_most(scene.layout.objects, STORM);
    let before = scene.asked().await?;
    let again = MadeAgain::watch(&scene.client, NAMESPACE).await?;
    let begun = Instant::now();
    stream::iter(0..objects)
        .map(async |object| api.delete(&layout::name(object), &DeleteParams::default()).await)
        .buffer_unordered(floor::concurrency())
        .try_for_each(async |_| Ok(()))
        .await
        .context("deleting Secrets")?;
    let deleted = begun.elapsed();
    let last = again.all((0..objects).map(layout::name), REPAIRED).await?;
    let asked = scene.asked().await?.since(&before);
    sheet.count("Secrets deleted at once", objects);
    sheet.seconds("to delete them", deleted);
    sheet.seconds("until all are there again", last.duration_since(begun));
    sheet.count("OKMS requests with data", asked.calls.with_data);
    // What is told of the repairs is not part of what comes next.
    sleep(scene.interval).await;
    Ok(())
}

/// Edits one Secret, and says how long it took to be as it was.
pub(super) async fn edited(scene: &Scene) -> Result<Duration> {
    edit(&Api::namespaced(scene.client.clone(), NAMESPACE), &layout::name(0)).await
}

/// Edits a Secret, and says how long it took to be as it was.
async fn edit(api: &Api<Secret>, name: &str) -> Result<Duration> {
    let data = |secret: &Secret| secret.data.clone();
    let good = api.get(name).await.context("reading a Secret")?;
    let patch = Patch::Merge(json!({"stringData": {"password": "edited"}}));
    api.patch(name, &PatchParams::default(), &patch).await.context("editing a Secret")?;
    let begun = Instant::now();
    loop {
        let now = api.get(name).await.context("reading a Secret")?;
        if data(&now) == data(&good) {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > REPAIRED {
            bail!("Secret {name} was not repaired");
        }
        sleep(GLANCE).await;
    }
}
