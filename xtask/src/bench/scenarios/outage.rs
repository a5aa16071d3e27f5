//! OKMS answers 503 for longer than the staleness bound, so that everything is told.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::time::sleep;

use super::rate_limit;
use crate::bench::{
    figures::Sheet,
    scene::{NAMESPACE, Scene},
    watch,
};

/// The bound is five minutes, or three intervals.
const LASTS: Duration = Duration::from_secs(330);

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let before = scene.asked().await?;
    scene.simulator.post("/faults", &json!({"kind": {"status": {"status": 503}}})).await?;
    sleep(LASTS.max(scene.interval * 4)).await;
    let objects = scene.layout.objects;
    watch::with_reason(&scene.client, NAMESPACE, "StoreNotReady", objects).await?;
    let asked = scene.asked().await?.since(&before);
    sheet.count("OKMS requests meanwhile", asked.calls.all);
    sheet.count("Kubernetes writes on Secrets", asked.requests.on("secrets"));
    rate_limit::recovers(scene, sheet).await?;
    watch::Synced::watch(&scene.client, NAMESPACE).await?.all(objects).await?;
    let asked = scene.asked().await?.since(&before).requests;
    let statuses = asked.on("okmssecrets");
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below what an f64 holds exactly")]
    sheet.times("status writes for each object, recovery included", statuses as f64 / objects as f64);
    sheet.count("Secrets deleted, recovery included", asked.of("DELETE", "secrets"));
    let ended = scene.operators.iter_mut().filter_map(|running| running.operator.check().err());
    sheet.count("operators that ended", ended.count());
    Ok(())
}
