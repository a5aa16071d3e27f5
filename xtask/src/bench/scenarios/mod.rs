//! What is measured: each scenario is a module that does one thing to the stage and notes its figures.
//!
//! They run in the order of [`Scenario`], each on what the one before it left: everything synced and at rest.

mod burst;
mod by_list;
mod changes;
mod cold_start;
mod drift;
mod failover;
mod fan_out;
mod missing;
mod neighbours;
mod newcomers;
mod outage;
mod rate_limit;
mod rest;
mod restart;
mod rotation;
mod soak;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    figures::Figures,
    floor,
    scene::{FirstSync, Scene},
    usage::Memory,
};

/// A scenario, by the name that the command line knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scenario {
    /// From nothing to all synced, and the floor below that. Always made, since everything else needs it.
    ColdStart,
    /// Nothing changes, for a while.
    Rest,
    /// New versions, one after the other, each timed until it is in its Secret.
    Changes,
    /// A new version of one path that many objects use.
    FanOut,
    /// Many specs changed at once.
    Burst,
    /// One Secret edited by hand, several times; then many deleted at once.
    Drift,
    /// Objects whose path does not exist, a tenth of the others.
    Missing,
    /// New objects: one by one, then as many as there are at once while others change, at most 5,000.
    Newcomers,
    /// The client certificate replaced while versions change.
    Rotation,
    /// OKMS answers 429 for a minute.
    RateLimit,
    /// OKMS answers 503 for longer than the staleness bound.
    Outage,
    /// The operator ended and started again with everything synced.
    Restart,
    /// Nothing changes, and the list of OKMS shows enough to check by.
    ByList,
    /// 5,000 Secrets of 100 KB that are nobody's, and the operator started again beside them. They stay for the soak.
    Neighbours,
    /// A steady trickle of changes, for as long as `--soak` says.
    Soak,
    /// A second operator, and the leader killed; then another, and the leader stopped.
    Failover,
}

impl Scenario {
    /// All, in the order in which they are measured.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// What the command line calls it.
    pub(super) fn name(self) -> String {
        let name = self.to_possible_value().map(|value| value.get_name().to_owned());
        name.expect("no scenario is hidden from the command line")
    }

    /// Its heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::ColdStart => "Cold start",
            Self::Rest => "Rest",
            Self::Changes => "Change to Secret",
            Self::FanOut => "Fan-out",
            Self::Burst => "Burst of spec changes",
            Self::Drift => "Drift",
            Self::Missing => "Missing paths",
            Self::Newcomers => "Newcomers",
            Self::Rotation => "Rotation",
            Self::RateLimit => "OKMS rate limits",
            Self::Outage => "OKMS is down",
            Self::Restart => "Restart",
            Self::ByList => "Rest, by the list of OKMS",
            Self::Neighbours => "Secrets of others",
            Self::Soak => "Soak",
            Self::Failover => "Failover",
        }
    }

    /// Does it, and notes what came of it.
    pub(super) async fn measure(self, scene: &mut Scene, figures: &mut Figures) -> Result<()> {
        let mut sheet = figures.sheet(self, scene.layout.objects);
        match self {
            Self::ColdStart => {
                cold_start::measure(scene, &mut sheet).await?;
                // The first checks are bunched; one interval spreads them.
                sleep(scene.interval).await;
            }
            Self::Rest => rest::measure(scene, &mut sheet).await?,
            Self::Changes => changes::measure(scene, &mut sheet).await?,
            Self::FanOut => fan_out::measure(scene, &mut sheet).await?,
            Self::Burst => burst::measure(scene, &mut sheet).await?,
            Self::Drift => drift::measure(scene, &mut sheet).await?,
            Self::Missing => missing::measure(scene, &mut sheet).await?,
            Self::Newcomers => newcomers::measure(scene, &mut sheet).await?,
            Self::Rotation => rotation::measure(scene, &mut sheet).await?,
            Self::RateLimit => rate_limit::measure(scene, &mut sheet).await?,
            Self::Outage => outage::measure(scene, &mut sheet).await?,
            Self::Restart => restart::measure(scene, &mut sheet).await?,
            Self::ByList => by_list::measure(scene, &mut sheet).await?,
            Self::Neighbours => neighbours::measure(scene, &mut sheet).await?,
            Self::Soak => soak::measure(scene, &mut sheet).await?,
            Self::Failover => {
                neighbours::clear(scene).await?;
                failover::measure(scene, &mut sheet).await?;
            }
        }
        let memory = Memory::of(scene.process()?)?;
        figures.sheet(self, scene.layout.objects).bytes("memory (RSS) afterwards", memory.now);
        Ok(())
    }
}

/// The floor below a cold start, on a stage where no operator was.
pub(super) async fn measure_floor(scene: &Scene, first_sync: &FirstSync, figures: &mut Figures) -> Result<()> {
    let floor = floor::measure(scene, &first_sync.sample).await?;
    let mut sheet = figures.sheet(Scenario::ColdStart, scene.layout.objects);
    sheet.seconds("the floor: a plain client", floor);
    sheet.share("the floor's part of all synced", floor.as_secs_f64() / first_sync.took.as_secs_f64());
    Ok(())
}

/// A part of the objects, so that a scenario lasts seconds and not minutes.
fn at_most(objects: usize, most: usize) -> usize {
    objects.min(most)
}

/// Where something is looked at again and again.
const GLANCE: Duration = Duration::from_millis(5);
