//! New `OkmsSecret`s: one by one at rest; then thousands at once, and what becomes meanwhile of single ones of another namespace and of
//! changes.

use std::{
    collections::HashMap,
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::at_most;
use crate::bench::{
    figures::Sheet,
    layout::{self, Layout, content},
    scene::{self, NAMESPACE, NEWCOMERS, Scene},
    watch::{Arrivals, Synced},
};

/// How many are created one by one.
const ALONE: usize = 20;

/// How many are created at once: as many as there are, but no more than these.
const FLOOD: usize = 5000;

/// While they are synced there is one change, and a single new one in another namespace, as often as this: too little to slow the flood …
const EVERY: Duration = Duration::from_millis(200);

/// … and so often at most.
const SINGLES: usize = 200;

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    alone(scene, sheet).await?;
    flooded(scene, sheet).await?;
    // What was synced at once is checked at once, and what is left is to be at rest.
    sleep(scene.interval).await;
    Ok(())
}

async fn alone(scene: &Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let newcomers = Newcomers::of(scene, NAMESPACE, "alone", ALONE).await?;
    let synced = Synced::watch(&scene.client, NAMESPACE).await?;
    let mut took = Vec::new();
    for number in 0..ALONE {
        let at = Instant::now();
        newcomers.clone().create(number..number + 1).await?;
        let since = synced.each(&newcomers.names(number..number + 1)).await?;
        took.extend(since.into_iter().map(|since| since.duration_since(at)));
    }
    sheet.count("OkmsSecrets created at rest, one after the other", took.len());
    sheet.few(["until each is Ready, median", "longest until it is Ready"], took);
    newcomers.delete(scene).await
}

async fn flooded(scene: &Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let objects = at_most(scene.layout.objects, FLOOD);
    let flood = Newcomers::of(scene, NAMESPACE, "flood", objects).await?;
    let singles = Newcomers::of(scene, NEWCOMERS, "amid", SINGLES).await?;
    let synced = Synced::watch(&scene.client, NAMESPACE).await?;
    let synced_singles = Synced::watch(&scene.client, NEWCOMERS).await?;
    let arrivals = Arrivals::watch(&scene.client, NAMESPACE);
    let names = flood.names(0..objects);

    let begun = Instant::now();
    let creating = tokio::spawn(flood.clone().create(0..objects));
    let (mut changed, mut created) = (HashMap::new(), Vec::new());
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..at_most(scene.layout.paths, SINGLES) {
        ticks.tick().await;
        if synced.are(&names) {
            break;
        }
        let at = Instant::now();
        let version = scene.simulator.put(&layout::path(number), content("amid")).await?;
        changed.extend(scene.layout.users(number).map(|object| ((layout::name(object), version), at)));
        created.push(Instant::now());
        singles.clone().create(number..number + 1).await?;
    }
    creating.await.context("creating a flood")??;
    let end = synced.each(&names).await?.into_iter().max().unwrap_or(begun);
    sheet.count("OkmsSecrets created at once", objects);
    sheet.seconds("until all of them are Ready", end.duration_since(begun));

    // What began when the flood had ended, since the last look, shows nothing of it.
    let all = changed.len();
    changed.retain(|_, at| *at < end);
    sheet.count("changes of others that were written meanwhile", changed.len());
    sheet.count("changes that came too late to count", all - changed.len());
    let took = arrivals.of(&changed, scene.interval * 12).await?;
    sheet.count("changes that were in their Secret before the end", arrivals.before(end, &changed));
    sheet.few(["change to Secret meanwhile, median", "longest change to Secret"], took);

    let all = created.len();
    created.retain(|at| *at < end);
    sheet.count("single OkmsSecrets created meanwhile", created.len());
    sheet.count("single ones that came too late to count", all - created.len());
    let since = synced_singles.each(&singles.names(0..created.len())).await?;
    sheet.count("single ones that were Ready before the end", since.iter().filter(|since| **since < end).count());
    let took = since.into_iter().zip(created).map(|(since, at)| since.duration_since(at)).collect();
    sheet.few(["until a single one is Ready, median", "longest until a single one is Ready"], took);

    flood.delete(scene).await?;
    singles.delete(scene).await
}

/// So many `OkmsSecret`s of one name, with a path each.
#[derive(Clone)]
struct Newcomers {
    client: kube::Client,
    namespace: &'static str,
    layout: Layout,
    name: &'static str,
    count: usize,
}

impl Newcomers {
    /// Their paths exist from now on, and none of them does yet.
    async fn of(scene: &Scene, namespace: &'static str, name: &'static str, count: usize) -> Result<Self> {
        scene.simulator.seed(&prefix(name), count, content("0")).await?;
        Ok(Self { client: scene.client.clone(), namespace, layout: scene.layout, name, count })
    }

    fn names(&self, numbers: Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("{}-{number}", self.name)).collect()
    }

    async fn create(self, numbers: Range<usize>) -> Result<()> {
        let (names, prefix) = (self.names(numbers.clone()), prefix(self.name));
        let manifests =
            numbers.zip(names).map(|(number, name)| self.layout.further(number, &name, &format!("{prefix}{number}")));
        scene::create(&self.client, self.namespace, manifests).await
    }

    /// With their paths, which would be in every list.
    async fn delete(&self, scene: &Scene) -> Result<()> {
        scene::delete(&self.client, self.namespace, self.names(0..self.count).into_iter()).await?;
        for number in 0..self.count {
            scene.simulator.delete(&format!("{}{number}", prefix(self.name))).await?;
        }
        Ok(())
    }
}

fn prefix(name: &str) -> String {
    format!("prod/{name}/")
}
