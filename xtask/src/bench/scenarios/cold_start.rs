//! From nothing to all synced: the objects are there, no Secret is.

use std::time::Instant;

use anyhow::Result;

use crate::bench::{
    figures::Sheet,
    floor::Sample,
    scene::{FirstSync, NAMESPACE, Scene},
    usage::{Memory, processor_time},
    watch,
};

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let objects = scene.layout.objects;
    let before = scene.asked().await?;
    let synced = watch::Synced::watch(&scene.client, NAMESPACE).await?;
    let begun = Instant::now();
    scene.start_operator().await?;
    let moments = synced.all(objects).await?;
    let took = moments.last.duration_since(begun);
    let asked = scene.asked().await?.since(&before);
    let process = scene.process()?;
    sheet.seconds("first Secret synced", moments.first.duration_since(begun));
    sheet.seconds("all synced", took);
    scene.first_sync = Some(FirstSync { took, sample: Sample::take(&scene.client, NAMESPACE).await? });
    sheet.count("OKMS requests", asked.calls.all);
    sheet.count("of them with data", asked.calls.with_data);
    let writes = asked.requests.on("secrets") + asked.requests.on("okmssecrets");
    sheet.count("Kubernetes writes on Secrets and statuses", writes);
    sheet.seconds("processor time of the operator", processor_time(process)?);
    sheet.bytes("most memory (RSS)", Memory::of(process)?.most);
    Ok(())
}
