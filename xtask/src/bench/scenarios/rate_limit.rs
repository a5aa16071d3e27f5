//! OKMS answers 429 for a minute.

use std::{
    collections::HashMap,
    pin::pin,
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
    let (herd, caught_up) =
        tokio::try_join!(a_second(scene, before), catch_up(scene, before, arrivals.of(&written, scene.interval * 12)))?;
    sheet.count("OKMS requests in the second after it", herd);
    sheet.seconds("until a change of meanwhile is in its Secret", caught_up.took.into_iter().max().unwrap_or_default());
    sheet.share("most paths checked in a tenth of an interval afterwards", share(caught_up.most, scene.layout.paths));
    Ok(())
}

/// How many requests OKMS gets in the second that begins now.
async fn a_second(scene: &Scene, before: u64) -> Result<u64> {
    sleep(Duration::from_secs(1)).await;
    Ok(scene.simulator.calls().await?.all - before)
}

struct CaughtUp {
    took: Vec<Duration>,
    /// The most requests in a tenth of an interval.
    most: u64,
}

/// Waits for what has to arrive and an interval longer: by then everything that fell due was asked.
async fn catch_up(
    scene: &Scene,
    mut before: u64,
    arriving: impl Future<Output = Result<Vec<Duration>>>,
) -> Result<CaughtUp> {
    let mut arriving = pin!(arriving);
    let mut ends = interval(scene.interval / TENTHS);
    // The first one is now.
    ends.tick().await;
    let (mut took, mut most, mut left) = (None, 0, TENTHS);
    while left > 0 {
        tokio::select! {
            arrived = &mut arriving, if took.is_none() => took = Some(arrived?),
            _ = ends.tick() => {
                let now = scene.simulator.calls().await?.all;
                most = most.max(now - before);
                before = now;
                left -= u32::from(took.is_some());
            }
        }
    }
    Ok(CaughtUp { took: took.unwrap_or_default(), most })
}

/// What part of all this is: of paths that are checked evenly, a tenth in each tenth of the interval.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below what an f64 holds exactly")]
fn share(part: u64, all: usize) -> f64 {
    part as f64 / all as f64
}
