//! Nothing changes.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use crate::bench::{
    figures::Sheet,
    scene::{Asked, Scene},
    usage::processor_time,
};

/// For how many intervals.
pub(super) const INTERVALS: u32 = 4;

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below what an f64 holds exactly")]
pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let Quiet { asked, processor } = Quiet::of(scene).await?;
    let intervals = f64::from(INTERVALS);
    sheet.times("OKMS requests per path and interval", asked.calls.all as f64 / scene.layout.paths as f64 / intervals);
    sheet.count("OKMS requests with data", asked.calls.with_data);
    sheet.count("TLS handshakes with OKMS", asked.calls.handshakes);
    sheet.count("Kubernetes requests of the operator", asked.requests.by_operator);
    sheet.count("Kubernetes writes on Secrets, statuses and events", asked.requests.writes());
    sheet.seconds("processor time in a minute", processor);
    Ok(())
}

/// What an operator does in some intervals in which nothing changes.
pub(super) struct Quiet {
    pub(super) asked: Asked,
    /// In a minute.
    pub(super) processor: Duration,
}

impl Quiet {
    pub(super) async fn of(scene: &Scene) -> Result<Self> {
        let process = scene.process()?;
        let (before, processor, begun) = (scene.asked().await?, processor_time(process)?, Instant::now());
        sleep(scene.interval * INTERVALS).await;
        let asked = scene.asked().await?.since(&before);
        let (used, minutes) =
            (processor_time(process)?.saturating_sub(processor), begun.elapsed().as_secs_f64() / 60.0);
        Ok(Self { asked, processor: used.div_f64(minutes) })
    }
}
