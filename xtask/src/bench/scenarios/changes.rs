//! New versions, spread evenly, each timed from before the request that writes it until a watch shows it in its Secrets.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::time::sleep_until;

use super::at_most;
use crate::bench::{
    figures::Sheet,
    layout::{self, content},
    scene::{NAMESPACE, Scene},
    watch::Arrivals,
};

/// At most so many in a second. Each is three writes to the API server (Secret, status, event) for each object that uses the path: more of
/// them, and its queue would be what is measured on a small machine.
const IN_A_SECOND: usize = 20;

/// So that a 99th percentile means something.
const MOST: usize = 1000;

const LEAST: usize = 500;

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    let arrivals = Arrivals::watch(&scene.client, NAMESPACE);
    let paths = at_most(scene.layout.paths, MOST);
    let spread = scene.interval.max(Duration::from_secs(1) * u32::try_from(paths / IN_A_SECOND)?);
    let mut took = Vec::new();
    for round in 1..=LEAST.div_ceil(paths) {
        let begun = tokio::time::Instant::now();
        let mut written = HashMap::new();
        for path in 0..paths {
            sleep_until(begun + spread.mul_f64(fraction(path, paths))).await;
            // Before the request: what the simulator takes is not subtracted.
            let at = Instant::now();
            let version = scene.simulator.put(&layout::path(path), content(&round.to_string())).await?;
            written.extend(scene.layout.users(path).map(|object| ((layout::name(object), version), at)));
        }
        took.extend(arrivals.of(&written, scene.interval * 12).await?);
    }
    sheet.count("changes", took.len());
    sheet.spread(["median", "99th percentile", "longest"], took);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "there are fewer objects than an f64 has exact integers")]
fn fraction(index: usize, of: usize) -> f64 {
    index as f64 / of as f64
}
