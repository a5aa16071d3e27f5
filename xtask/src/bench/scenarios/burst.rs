//! Many specs changed at once: each object is rendered anew and says so for its new generation.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::at_most;
use crate::bench::{
    figures::Sheet,
    scene::{NAMESPACE, Scene},
    watch::Synced,
};

const MOST: usize = 1000;

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let objects = at_most(scene.layout.objects, MOST);
    let before = scene.asked().await?;
    let begun = Instant::now();
    scene.patch(objects, &json!({"spec": {"target": {"labels": {"burst": "yes"}}}})).await?;
    let patched = begun.elapsed();
    let last = Synced::watch(&scene.client, NAMESPACE).await?.all(scene.layout.objects).await?.last;
    let asked = scene.asked().await?.since(&before);
    sheet.count("specs changed", objects);
    sheet.seconds("to change them", patched);
    sheet.seconds("until all are synced again", last.duration_since(begun));
    sheet.count("OKMS requests", asked.calls.all);
    Ok(())
}
