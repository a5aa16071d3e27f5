//! OKMS answers 429 for a minute.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::json;
use tokio::time::sleep;

use crate::bench::{
    figures::Sheet,
    layout::{self, content},
    scene::{NAMESPACE, Scene},
    watch::Arrivals,
};

const LASTS: Duration = Duration::from_mins(1);

/// What it says.
const RETRY_AFTER: &str = "10";

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let before = scene.asked().await?;
    let kind = json!({"status": {"status": 429, "retryAfter": RETRY_AFTER}});
    scene.simulator.post("/faults", &json!({"kind": kind})).await?;
    sleep(LASTS).await;
    let asked = scene.asked().await?.since(&before);
    sheet.count("OKMS requests in that minute", asked.calls.all);
    sheet.count("Kubernetes writes on Secrets and statuses meanwhile", asked.requests.writes());
    recovers(scene, sheet).await
}

/// Ends every fault of OKMS, and looks at how it goes on.
pub(super) async fn recovers(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let arrivals = Arrivals::watch(&scene.client, NAMESPACE);
    let at = Instant::now();
    let version = scene.simulator.put(&layout::path(0), content("recovered")).await?;
    scene.simulator.delete_json("/faults").await?;
    let before = scene.asked().await?;
    sleep(Duration::from_secs(1)).await;
    let herd = scene.asked().await?.since(&before);
    let written: HashMap<_, _> = scene.layout.users(0).map(|object| ((layout::name(object), version), at)).collect();
    let took = arrivals.of(&written, scene.interval * 12).await?;
    sheet.count("OKMS requests in the second after it", herd.calls.all);
    sheet.seconds("until a change of meanwhile is in its Secret", took.into_iter().max().unwrap_or_default());
    Ok(())
}
