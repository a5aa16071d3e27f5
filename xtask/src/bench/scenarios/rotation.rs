//! The client certificate is replaced while versions change.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::time::sleep;

use crate::bench::{
    figures::Sheet,
    layout::{self, content},
    scene::{NAMESPACE, Scene},
    usage::scrape,
    watch::Arrivals,
};

/// How often it is replaced.
const ROTATIONS: usize = 5;

/// How many versions are written between two.
const CHANGES: usize = 20;

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let arrivals = Arrivals::watch(&scene.client, NAMESPACE);
    let before = (scene.asked().await?, failures(scene).await?);
    let mut took = Vec::new();
    for round in 1..=ROTATIONS {
        scene.rotate().await?;
        let mut written = HashMap::new();
        // Others in each round: those of the last one have just been checked.
        for change in 0..CHANGES {
            let path = (round * CHANGES + change) % scene.layout.paths;
            let at = Instant::now();
            let version = scene.simulator.put(&layout::path(path), content(&format!("rotation-{round}"))).await?;
            written.extend(scene.layout.users(path).map(|object| ((layout::name(object), version), at)));
            sleep(Duration::from_millis(100)).await;
        }
        took.extend(arrivals.of(&written, scene.interval * 12).await?);
    }
    let asked = scene.asked().await?.since(&before.0);
    sheet.count("certificates replaced", ROTATIONS);
    sheet.count("failed OKMS requests", failures(scene).await? - before.1);
    sheet.count("TLS handshakes with OKMS", asked.calls.handshakes);
    sheet.spread(["change to Secret meanwhile, median", "99th percentile", "longest"], took);
    Ok(())
}

/// The requests to OKMS that did not end well, as the operator counts them.
async fn failures(scene: &Scene) -> Result<u64> {
    let metrics = scrape(scene.operators.iter().map(|running| running.operator.address())).await?;
    Ok(metrics.sum("okms_requests_total", |labels| !labels.contains("outcome=\"ok\"")))
}
