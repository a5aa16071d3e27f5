//! One path that many objects use gets a new version.

use std::{collections::HashMap, time::Instant};

use anyhow::Result;

use super::at_most;
use crate::bench::{
    figures::Sheet,
    layout::{PREFIX, content},
    scene::{self, NAMESPACE, Scene},
    watch::{Arrivals, Synced},
};

const MOST: usize = 500;

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let objects = at_most(scene.layout.objects, MOST);
    let path = format!("{PREFIX}shared");
    scene.simulator.put(&path, content("0")).await?;
    let name = |object: usize| format!("shared-{object}");
    let manifests = (0..objects).map(|object| scene.layout.further(0, &name(object), &path));
    let synced = Synced::watch(&scene.client, NAMESPACE).await?;
    scene::create(&scene.client, NAMESPACE, manifests).await?;
    synced.all(scene.layout.objects + objects).await?;

    let arrivals = Arrivals::watch(&scene.client, NAMESPACE);
    let before = scene.asked().await?;
    let at = Instant::now();
    let version = scene.simulator.put(&path, content("1")).await?;
    let written: HashMap<_, _> = (0..objects).map(|object| ((name(object), version), at)).collect();
    let took = arrivals.of(&written, scene.interval * 12).await?;
    let asked = scene.asked().await?.since(&before);
    let (first, last) =
        (took.iter().min().copied().unwrap_or_default(), took.iter().max().copied().unwrap_or_default());
    sheet.count("objects on the path", objects);
    sheet.seconds("from the first Secret with the new version to the last", last.saturating_sub(first));
    sheet.seconds("from the new version to the last Secret, with the wait for its check", last);
    sheet.count("OKMS requests with data", asked.calls.with_data);
    sheet.count("Kubernetes writes on Secrets", asked.requests.on("secrets"));
    scene::delete(&scene.client, NAMESPACE, (0..objects).map(name)).await
}
