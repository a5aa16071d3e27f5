//! Objects whose path does not exist: they are told so, and cost next to nothing.

use std::time::Instant;

use anyhow::Result;
use tokio::time::sleep;

use super::at_most;
use crate::bench::{
    figures::Sheet,
    scene::{self, NAMESPACE, Scene},
    watch,
};

/// A tenth of the others, but no more than these.
const MOST: usize = 1000;

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below what an f64 holds exactly")]
pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let objects = at_most(scene.layout.objects.div_ceil(10), MOST);
    let name = |object: usize| format!("missing-{object}");
    let manifest = |object| scene.layout.further(0, &name(object), &format!("prod/missing/{object}"));
    let manifests = (0..objects).map(manifest);
    let begun = Instant::now();
    scene::create(&scene.client, NAMESPACE, manifests).await?;
    let told = watch::with_reason(&scene.client, NAMESPACE, "PathNotFound", objects).await?;
    sheet.count("objects without a path", objects);
    sheet.seconds("until all are told PathNotFound", told.duration_since(begun));
    let before = scene.asked().await?;
    let begun = Instant::now();
    sleep(scene.interval * 4).await;
    let asked = scene.asked().await?.since(&before);
    let others = scene.layout.paths as f64 * begun.elapsed().as_secs_f64() / scene.interval.as_secs_f64();
    let more = (asked.calls.all as f64 - others).max(0.0) / objects as f64;
    sheet.times("OKMS requests for each in four intervals, beyond what the others take", more);
    sheet.count("Kubernetes writes meanwhile", asked.requests.writes());
    scene::delete(&scene.client, NAMESPACE, (0..objects).map(name)).await
}
