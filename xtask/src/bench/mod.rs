//! `cargo xtask bench`: what the operator costs and how fast it is, measured on this machine.
//!
//! [`scene`] sets the stage for one number of objects, [`scenarios`] are what is done and measured on it, [`floor`] makes the same writes
//! with a plain client, [`usage`] reads what the system and the API server count, [`figures`] keeps it, [`report`] writes it down.

mod figures;
mod floor;
mod layout;
mod report;
mod scenarios;
mod scene;
mod usage;
mod watch;

use std::{env, os::unix::process::CommandExt, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};
use jiff::Timestamp;
use test_cluster::binaries;

use self::{
    figures::{Figures, Made},
    scenarios::Scenario,
    scene::Scene,
};
use crate::{cargo, musl};

/// Measures the operator: a control plane, the simulated OKMS, release builds, as many objects as you say.
///
/// A run of all scenarios takes about half an hour for each number of objects, after the builds. Nothing else should run on the
/// machine. What is measured, and how, is in docs/benchmarks.md.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many objects; several numbers are measured one after the other.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [100, 1000], value_parser = positive)]
    objects: Vec<usize>,

    /// What is measured, in this order; the cold start always is.
    #[arg(long = "scenarios", value_name = "NAME,…", value_delimiter = ',')]
    scenarios: Vec<Scenario>,

    /// How often everything is measured: the table shows the median and the range.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    runs: usize,

    /// How often each source is checked, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(10..=3600))]
    interval: u64,

    /// How long the soak lasts, in minutes.
    #[arg(long, value_name = "MINUTES", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    soak: u64,

    /// Measures the static program of the container image, with musl and its allocator, and not one that is built like the bench.
    #[arg(long, conflicts_with = "write")]
    musl: bool,

    /// Measures 100 objects, at an interval of 10 seconds, and only what takes seconds: about two minutes.
    #[arg(long, conflicts_with_all = ["objects", "scenarios", "runs", "interval", "soak", "write"])]
    quick: bool,

    /// Writes the tables into docs/benchmarks.md, beside what was measured before on the same machine. The cold start is written only
    /// where it was named.
    #[arg(long)]
    write: bool,
}

fn positive(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|objects| *objects > 0).ok_or("write a number above 0, such as 100")
}

/// The programs of this workspace, optimized.
struct Programs {
    simulator: PathBuf,
    operator: PathBuf,
}

/// What is to be measured.
struct Plan {
    objects: Vec<usize>,
    scenarios: Vec<Scenario>,
    runs: usize,
    interval: Duration,
    soak: Duration,
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        return run_optimized();
    }
    binaries::helm_binary()?;
    binaries::prepare()?;
    let [simulator, mut operator] = cargo::binaries(["okms-sim", "okms-operator"], &["--release"])?;
    if args.musl {
        operator = cargo::binary("okms-operator", &["--release", "--target", &musl::prepare()?])?;
    }
    let programs = Programs { simulator, operator };
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let plan = args.plan();
    let (mut kubernetes, mut figures) = (String::new(), Figures::default());
    let outcome = runtime.block_on(measure(&programs, &plan, &mut kubernetes, &mut figures));
    // What was measured before something failed may have taken hours.
    let machine = report::machine(&kubernetes)?;
    println!("{}", report::of(&machine, &figures));
    outcome?;
    if args.write {
        figures.sections.retain(|section| args.names(section.scenario));
        report::write(machine, figures)?;
    }
    Ok(())
}

/// Becomes the same command in a release build: what the bench takes of the processors, the operator and the plain client go without.
fn run_optimized() -> Result<()> {
    let xtask = cargo::binary("xtask", &["--release"])?;
    let error = Command::new(xtask).args(env::args_os().skip(1)).exec();
    Err(error).context("running the release build of the bench")
}

async fn measure(programs: &Programs, plan: &Plan, kubernetes: &mut String, figures: &mut Figures) -> Result<()> {
    let mut made = plan.made();
    for run in 1..=plan.runs {
        for objects in &plan.objects {
            let tell = |what: &str| eprintln!("bench {objects}, run {run} of {}: {what}", plan.runs);
            made.other_work = made.other_work.max(usage::other_work().await?);
            tell("setting the stage");
            let mut scene = Scene::set(programs, *objects, plan).await?;
            *kubernetes = scene.kubernetes().await?;
            for scenario in &plan.scenarios {
                tell(scenario.title());
                figures.sheet(*scenario, *objects).made(made.clone());
                scenario.measure(&mut scene, figures).await.with_context(|| scenario.title().to_owned())?;
            }
            let first_sync = scene.first_sync.take();
            drop(scene);
            if let Some(first_sync) = first_sync {
                tell("the floor");
                let scene = Scene::set(programs, *objects, plan).await?;
                scenarios::measure_floor(&scene, &first_sync, figures).await?;
            }
        }
    }
    Ok(())
}

impl Plan {
    fn made(&self) -> Made {
        Made {
            date: Timestamp::now().strftime("%Y-%m-%d").to_string(),
            commit: report::commit(),
            runs: self.runs,
            interval: self.interval.as_secs(),
            soak: self.soak.as_secs() / 60,
            other_work: 0,
        }
    }
}

impl Args {
    /// Whether a scenario was asked for by name, or all were.
    fn names(&self, scenario: Scenario) -> bool {
        self.scenarios.is_empty() || self.scenarios.contains(&scenario)
    }

    fn plan(&self) -> Plan {
        if self.quick {
            use Scenario::{Burst, ColdStart, Drift, FanOut, Rest, Restart};
            let scenarios = vec![ColdStart, Rest, FanOut, Burst, Drift, Restart];
            let interval = Duration::from_secs(10);
            return Plan { objects: vec![100], scenarios, runs: 1, interval, soak: Duration::ZERO };
        }
        let chosen = |scenario: &Scenario| *scenario == Scenario::ColdStart || self.names(*scenario);
        Plan {
            objects: self.objects.clone(),
            scenarios: Scenario::all().filter(chosen).collect(),
            runs: self.runs,
            interval: Duration::from_secs(self.interval),
            soak: Duration::from_mins(self.soak),
        }
    }
}
