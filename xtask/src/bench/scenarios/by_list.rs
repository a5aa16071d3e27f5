//! Nothing changes, and the list of OKMS shows enough to check by: pages are asked for in place of paths.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::{Api, api::ListParams};
use okms_operator::api::ClusterOkmsStore;
use serde_json::json;
use tokio::time::sleep;

use super::{
    rest::{INTERVALS, Quiet},
    restart,
};
use crate::bench::{figures::Sheet, scene::Scene};

/// A list is not believed about what is younger: the clocks may differ.
const OLD_ENOUGH: Duration = Duration::from_mins(10);

pub(super) async fn measure(scene: &mut Scene, sheet: &mut Sheet<'_>) -> Result<()> {
    sleep(OLD_ENOUGH.saturating_sub(scene.seeded.elapsed())).await;
    restart_with_list(scene, true).await?;
    // The first walk shows what the list is worth, and what was checked by path before that has its turn in a walk later.
    sleep(scene.interval * INTERVALS).await;
    let Quiet { asked, processor } = Quiet::of(scene).await?;
    sheet.count("paths", scene.layout.paths);
    sheet.count("stores", scene.layout.stores);
    sheet.count("stores that say they are checked by the list", by_list(scene).await?);
    sheet.count("pages of lists in an interval", asked.calls.pages / u64::from(INTERVALS));
    sheet.count("all OKMS requests in an interval, with the audits by path", asked.calls.all / u64::from(INTERVALS));
    sheet.count("OKMS requests with data", asked.calls.with_data);
    sheet.count("Kubernetes writes on Secrets, statuses and events", asked.requests.writes());
    sheet.seconds("processor time in a minute", processor);
    restart_with_list(scene, false).await
}

/// The others found that pages are no cheaper than paths.
async fn by_list(scene: &Scene) -> Result<usize> {
    let stores = Api::<ClusterOkmsStore>::all(scene.client.clone()).list(&ListParams::default()).await;
    let ways = stores.context("listing stores")?.items.into_iter().filter_map(|store| store.status?.checks);
    Ok(ways.filter(|checks| checks.by == "List").count())
}

/// An operator that finds another list than before: what one learned of a list it believes for a while.
async fn restart_with_list(scene: &mut Scene, shows_versions: bool) -> Result<()> {
    restart::stop(scene).await?;
    scene.simulator.patch_json("/switches", &json!({"listVersions": shows_versions})).await?;
    restart::start(scene).await.map(drop)
}
