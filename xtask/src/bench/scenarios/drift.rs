//! What people do to targets by hand.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::sleep;

use super::{GLANCE, at_most};
use crate::bench::{
    figures::Sheet,
    layout,
    scene::{self, NAMESPACE, Scene},
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
    sheet.few(["one edited Secret is repaired after, median", "longest"], took);

    let objects = at_most(scene.layout.objects, STORM);
    let before = scene.asked().await?;
    let again = MadeAgain::watch(&scene.client, NAMESPACE).await?;
    let begun = Instant::now();
    let names = (0..objects).map(layout::name);
    scene::delete_each::<Secret>(&scene.client, NAMESPACE, names.clone()).await.context("deleting Secrets")?;
    let deleted = begun.elapsed();
    let last = again.all(names, REPAIRED).await?;
    let asked = scene.asked().await?.since(&before);
    sheet.count("Secrets deleted at once", objects);
    sheet.seconds("to delete them", deleted);
    sheet.seconds("until all are there again", last.duration_since(begun));
    sheet.count("OKMS requests with data", asked.calls.with_data);
    // What is told of the repairs is not part of what comes next.
    sleep(scene.interval).await;
    Ok(())
}

/// Edits the Secret of an object, and says how long it took to be as it was.
pub(super) async fn edited(scene: &Scene, object: usize) -> Result<Duration> {
    edit(&Api::namespaced(scene.client.clone(), NAMESPACE), &layout::name(object)).await
}

/// Edits a Secret, and says how long it took, from before the request, until that was undone.
async fn edit(api: &Api<Secret>, name: &str) -> Result<Duration> {
    const EDITED: &str = "edited";
    let is_edited = |secret: &Secret| {
        let password = secret.data.as_ref().and_then(|data| data.get("password"));
        password.is_some_and(|password| password.0 == EDITED.as_bytes())
    };
    let patch = Patch::Merge(json!({"stringData": {"password": EDITED}}));
    let begun = Instant::now();
    api.patch(name, &PatchParams::default(), &patch).await.context("editing a Secret")?;
    loop {
        let now = api.get(name).await.context("reading a Secret")?;
        if !is_edited(&now) {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > REPAIRED {
            bail!("Secret {name} was not repaired");
        }
        sleep(GLANCE).await;
    }
}
