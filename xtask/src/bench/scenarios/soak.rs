//! A steady trickle of changes, for as long as one likes: memory must not grow.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use okms_operator::api::OkmsSecret;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::drift;
use crate::bench::{
    figures::Sheet,
    layout::{self, content},
    scene::{self, NAMESPACE, Scene},
    usage::{Memory, open_files},
    watch::Synced,
};

/// How often something of each kind changes, and the memory is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// How long a soak has to last for its growth to be told: in less, a page more or less is megabytes in an hour.
const TELLING: Duration = Duration::from_mins(20);

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below what an f64 holds exactly")]
pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let process = scene.process()?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut rounds, started) = (0.., Instant::now());
    while started.elapsed() < scene.interval {
        ticks.tick().await;
        change(scene, rounds.next().unwrap_or_default()).await?;
    }

    let (before, files, begun) = (scene.asked().await?, open_files(process)?, Instant::now());
    let mut samples = Vec::new();
    let lasts = scene.soak;
    while begun.elapsed() < lasts {
        ticks.tick().await;
        samples.push((begun.elapsed(), Memory::of(process)?.now));
        change(scene, rounds.next().unwrap_or_default()).await?;
    }
    let intervals = begun.elapsed().div_duration_f64(scene.interval);
    let asked = scene.asked().await?.since(&before);
    let kibibytes: Vec<_> =
        samples.iter().map(|(at, memory)| (at.as_secs_f64() / 3600.0, *memory as f64 / 1024.0)).collect();
    let settled = kibibytes.get(kibibytes.len() / 2..).unwrap_or_default();
    sheet.count("minutes", lasts.as_secs() / 60);
    sheet.count("Secrets of others, 100 KB each, beside it", scene.neighbours);
    sheet.count("rounds of changes, one of each kind", samples.len());
    let (first, last) = samples.first().zip(samples.last()).context("a soak without a sample")?;
    sheet.bytes("memory (RSS) at the beginning", first.1);
    sheet.bytes("memory (RSS) at the end", last.1);
    if lasts >= TELLING {
        sheet.kibibytes_per_hour("growth over the second half, by least squares", slope(settled));
    }
    sheet.count("open files at the beginning", files);
    sheet.count("open files at the end", open_files(process)?);
    sheet.times("OKMS requests per path and interval", asked.calls.all as f64 / scene.layout.paths as f64 / intervals);
    sheet.course(kibibytes.into_iter().map(|(hours, kibibytes)| (hours * 60.0, kibibytes / 1024.0)).collect());
    Synced::watch(&scene.client, NAMESPACE).await?.all(scene.layout.objects).await?;
    // The last version may not have been noticed yet.
    sleep(scene.interval).await;
    Ok(())
}

/// A Secret edited by hand, a new version, a changed spec, and an object made again; of others in each round.
async fn change(scene: &Scene, round: usize) -> Result<()> {
    let api = Api::<OkmsSecret>::namespaced(scene.client.clone(), NAMESPACE);
    let object = |kind: usize| (round * 4 + kind) % scene.layout.objects;
    drift::edited(scene, object(0)).await?;
    scene.simulator.put(&scene.layout.path(object(1)), content(&format!("soak-{round}"))).await?;
    let patch = Patch::Merge(json!({"spec": {"target": {"labels": {"soak": format!("round-{round}")}}}}));
    api.patch(&layout::name(object(2)), &PatchParams::default(), &patch).await.context("changing an OkmsSecret")?;
    let again = object(3);
    api.delete(&layout::name(again), &DeleteParams::default()).await.context("deleting an OkmsSecret")?;
    scene::create(&scene.client, NAMESPACE, [scene.layout.manifest(again)].into_iter()).await
}

/// By how much the second grows with the first, by least squares.
#[expect(clippy::cast_precision_loss, reason = "there are fewer samples than an f64 has exact integers")]
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / count, sum.1 + point.1 / count));
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let alone: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if alone > 0.0 { together / alone } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line_through_the_points() {
        assert!((slope(&[(0.0, 5.0), (1.0, 7.5), (2.0, 9.5), (3.0, 12.0)]) - 2.3).abs() < 1e-9);
        assert!(slope(&[(1.0, 5.0)]).abs() < f64::EPSILON);
    }
}
