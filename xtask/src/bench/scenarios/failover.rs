//! Two operators, of which one leads, and the leader goes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::drift;
use crate::bench::{figures::Sheet, scene::Scene};

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    sheet.seconds("after SIGKILL, until an edited Secret is repaired", without_leader(scene, Signal::KILL).await?);
    sheet.seconds("after SIGTERM, until an edited Secret is repaired", without_leader(scene, Signal::TERM).await?);
    Ok(())
}

/// Has the leader end, which is the one that was started first, and says how long nobody repaired anything.
async fn without_leader(scene: &mut Scene, signal: Signal) -> Result<Duration> {
    scene.start_operator().await?;
    let id = i32::try_from(scene.process()?).ok().and_then(Pid::from_raw).context("no process id")?;
    let begun = Instant::now();
    kill_process(id, signal).context("sending the leader a signal")?;
    drift::edited(scene, 0).await?;
    let took = begun.elapsed();
    scene.operators.remove(0);
    Ok(took)
}
