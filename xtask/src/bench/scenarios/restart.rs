//! The operator is ended and started again with everything synced.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    bench::{
        figures::Sheet,
        scene::Scene,
        usage::{Memory, scrape},
    },
    stage::eventually,
};

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    stop(scene).await?;
    let before = scene.asked().await?;
    let took = start(scene).await?;
    let asked = scene.asked().await?.since(&before);
    sheet.seconds("until it is ready", took.ready);
    sheet.seconds("until every path is checked", took.checked);
    sheet.count("OKMS requests", asked.calls.all);
    sheet.count("of them with data", asked.calls.with_data);
    sheet.count("Secrets read", asked.requests.of("GET", "secrets"));
    sheet.count("Kubernetes writes on Secrets, statuses and events", asked.requests.writes());
    sheet.bytes("most memory (RSS)", Memory::of(scene.process()?)?.most);
    Ok(())
}

/// How long a start took.
pub(super) struct Took {
    ready: Duration,
    /// Until every path was checked.
    pub(super) checked: Duration,
}

/// Ends every operator as a kubelet does.
pub(super) async fn stop(scene: &mut Scene) -> Result<()> {
    for running in scene.operators.drain(..) {
        running.operator.stop().await?;
    }
    Ok(())
}

/// Starts one, and waits until it has checked every path.
pub(super) async fn start(scene: &mut Scene) -> Result<Took> {
    let begun = Instant::now();
    scene.start_operator().await?;
    let ready = begun.elapsed();
    let paths = scene.layout.paths as u64;
    eventually("every path to be checked", scene.interval * 12, async || {
        let metrics = scrape(scene.operators.iter().map(|running| running.operator.address())).await?;
        let checked = metrics.sum("okms_sources", |labels| labels.contains("state=\"Active\""));
        Ok((checked >= paths).then_some(()))
    })
    .await?;
    Ok(Took { ready, checked: begun.elapsed() })
}
