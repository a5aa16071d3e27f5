//! OKMS answers 429 for a minute.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::json;
use tokio::time::{interval, sleep};

use crate::bench::{
    figures::Sheet,
    layout::{self, content},
    scene::{NAMESPACE, Scene},
    watch::Arrivals,
};

const LASTS: Duration = Duration::from_mins(1);

/// How finely is looked at how what fell due meanwhile is spread.
const TENTHS: u32 = 10;

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
    let before = scene.simulator.calls().await?.all;
    let written: HashMap<_, _> = scene.layout.users(0).map(|object| ((layout::name(object), version), at)).collect();
    let (herd, parts, took) = tokio::try_join!(
        a_second(scene, before),
        parts_of_an_interval(scene, before),
        arrivals.of(&written, scene.interval * 12),
    )?;
    sheet.count("OKMS requests in the second after it", herd);
    sheet.count("OKMS requests in the interval after it", parts.iter().sum::<u64>());
    sheet.share("of them in the busiest tenth of that interval", busiest(&parts));
    sheet.seconds("until a change of meanwhile is in its Secret", took.into_iter().max().unwrap_or_default());
    Ok(())
}

/// How many requests OKMS gets in the second that begins now.
async fn a_second(scene: &Scene, before: u64) -> Result<u64> {
    sleep(Duration::from_secs(1)).await;
    Ok(scene.simulator.calls().await?.all - before)
}

/// How many requests OKMS gets in each tenth of the interval that begins now.
async fn parts_of_an_interval(scene: &Scene, mut before: u64) -> Result<Vec<u64>> {
    let mut ends = interval(scene.interval / TENTHS);
    // The first one is now.
    ends.tick().await;
    let mut parts = Vec::new();
    for _ in 0..TENTHS {
        ends.tick().await;
        let now = scene.simulator.calls().await?.all;
        parts.push(now - before);
        before = now;
    }
    Ok(parts)
}

/// The part of all that is in the largest: a tenth, where they are spread evenly over ten.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below what an f64 holds exactly")]
fn busiest(parts: &[u64]) -> f64 {
    let (most, all) = (parts.iter().max().copied().unwrap_or_default(), parts.iter().sum::<u64>());
    if all == 0 { 0.0 } else { most as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_part_is_a_share_of_all() {
        assert!((busiest(&[1, 4, 3]) - 0.5).abs() < f64::EPSILON);
        assert!(busiest(&[0, 0]).abs() < f64::EPSILON);
    }
}
