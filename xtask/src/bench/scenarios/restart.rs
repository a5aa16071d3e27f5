//! The operator is ended and started again with everything synced.

use std::time::Instant;

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
    for running in scene.operators.drain(..) {
        running.operator.stop().await?;
    }
    let before = scene.asked().await?;
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
    let took = begun.elapsed();
    let asked = scene.asked().await?.since(&before);
    sheet.seconds("until it is ready", ready);
    sheet.seconds("until every path is checked", took);
    sheet.count("OKMS requests", asked.calls.all);
    sheet.count("of them with data", asked.calls.with_data);
    sheet.count("Secrets read", asked.requests.by_verb.get("GET secrets").copied().unwrap_or_default());
    sheet.count("Kubernetes writes on Secrets, statuses and events", asked.requests.writes());
    sheet.bytes("most memory (RSS)", Memory::of(scene.process()?)?.most);
    Ok(())
}
