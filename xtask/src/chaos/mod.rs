//! `cargo xtask chaos`: noise on both sides of a real operator, and a judge who looks at what became of it.
//!
//! [`plan`] makes of a seed what will be done (words: [`action`], [`world`], [`faults`]); [`scene`] sets the stage; [`noise`] carries the
//! plan out through [`okms`], [`kubernetes`], [`api`], [`control_plane`] and [`operators`]; [`watch`] and these write the [`history`]; [`judge`] reads it, and
//! knows nothing else.

mod action;
mod api;
mod control_plane;
mod dice;
mod faults;
mod history;
mod judge;
mod kubernetes;
mod mount;
mod noise;
mod okms;
mod operators;
mod plan;
mod report;
mod scene;
mod watch;
mod world;

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use test_cluster::binaries;
use tokio::{
    task::LocalSet,
    time::{sleep, sleep_until},
};

use self::{judge::Findings, plan::Plan, report::Report, scene::Scene};
use crate::{cargo, stage::STARTED};

/// What needs a person, such as a path that does not exist, is tried again after a time that doubles while it lasts: so long as the noise
/// lasted, and this.
const CONVERGED: Duration = Duration::from_mins(3);

/// A status may say a little more about what has converged.
const SETTLED: Duration = Duration::from_secs(3);

/// How long everything must then stay as it is.
const AT_REST: Duration = Duration::from_secs(5);

/// Makes noise for a while, and has everything judged that happened.
///
/// A control plane, the simulated OKMS, the chart and two operators, of which one leads, with some sixty objects over thirty paths and three
/// stores. Then random changes in OKMS and in Kubernetes, faults of both, kills of the API server and of etcd, kills, restarts and pauses of
/// the operators. When the noise stops, everything has to
/// converge, and a judge who knows only what was on both sides and when holds all of it against the rules: no Secret wrong, lost, touched
/// though foreign, or left behind, and no moment at which Ready=True was false. Ends with 1 if there is a violation.
///
/// The same seed makes the same plan; what happens at the same moment may differ. What was done, what was seen and the operator's logs are
/// in a temporary folder whose name is printed; it stays if something was found.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long the noise lasts; a fraction is fine.
    #[arg(long, value_name = "N", default_value_t = 3.0, value_parser = minutes)]
    minutes: f64,

    /// The same in seconds.
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    seconds: Option<u32>,

    /// What to do, and when. Absent: one that was not tried yet, which is printed.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// Keeps the folder with the logs, also if nothing was found.
    #[arg(long)]
    keep: bool,
}

fn minutes(text: &str) -> Result<f64, &'static str> {
    let day = 24.0 * 60.0;
    text.parse().ok().filter(|minutes| (0.0..=day).contains(minutes)).ok_or("write a number of minutes, such as 1.5")
}

impl Args {
    /// A short run that is always the same.
    pub(crate) fn short() -> Self {
        Self { minutes: 0.0, seconds: Some(30), seed: Some(1), keep: false }
    }

    fn length(&self) -> Duration {
        self.seconds
            .map_or_else(|| Duration::from_secs_f64(self.minutes * 60.0), |seconds| Duration::from_secs(seconds.into()))
    }
}

/// The programs of this workspace.
struct Programs {
    simulator: PathBuf,
    operator: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    binaries::helm_binary()?;
    binaries::prepare()?;
    // With ourselves, whose dependencies are built already: together they need no other features of them.
    let [_, simulator, operator] = cargo::binaries(["xtask", "okms-sim", "okms-operator"], &[])?;
    let programs = Programs { simulator, operator };
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seed = args.seed.unwrap_or_else(now);
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let mut report = Report::begin(seed, args.length())?;
    let played = play(&programs, seed, args.length(), &mut report);
    let outcome = runtime.block_on(LocalSet::new().run_until(played));
    let findings = outcome.with_context(|| report.whereabouts())?;
    report.end(&findings, args.keep)
}

async fn play(programs: &Programs, seed: u64, length: Duration, report: &mut Report) -> Result<Findings> {
    let plan = Plan::new(seed, length);
    report.tell("starting a control plane, the simulated OKMS, the chart");
    let mut scene = Scene::set(programs, seed, report.folder().to_owned()).await?;
    report.record(&scene.recorder);
    let outcome = on_stage(&mut scene, &plan, length, report).await;
    scene.operators.keep().await;
    report.write_history()?;
    // Why it failed matters more than what cannot be asked any more.
    let findings = outcome?;
    report.keep("okms.json", &scene.okms.counters().await?.to_string())?;
    Ok(findings)
}

async fn on_stage(scene: &mut Scene, plan: &Plan, length: Duration, report: &mut Report) -> Result<Findings> {
    scene.okms.list_versions(plan.list_versions).await?;
    report.tell(&format!("{} things that are there at first", plan.before.len()));
    for action in &plan.before {
        let done = noise::perform(scene, action).await?;
        report.did(action, done)?;
    }
    scene.operators.start();
    let deadline = Instant::now() + STARTED;
    while !scene.operators.somebody_leads() {
        sleep(Duration::from_millis(200)).await;
        check(scene).await?;
        if Instant::now() > deadline {
            bail!("no operator leads after {} seconds", STARTED.as_secs());
        }
    }
    report.tell(&format!("noise for {} seconds", length.as_secs()));
    let begun = tokio::time::Instant::now();
    // What is for Kubernetes waits while that is down, and is done in its order then.
    let mut waiting = Vec::new();
    for step in &plan.noise {
        sleep_until(begun + step.at).await;
        waiting.push(&step.action);
        let now: Vec<_> = if scene.plane.is_up() {
            std::mem::take(&mut waiting)
        } else {
            waiting.extract_if(.., |action| !action.is_for_kubernetes()).collect()
        };
        for action in now {
            let done = noise::perform(scene, action).await?;
            report.did(action, done)?;
        }
        check(scene).await?;
        let left = length.saturating_sub(begun.elapsed());
        let leads = scene.operators.somebody_leads();
        report.progress(left, (scene.okms.faults(), scene.api.faults()), scene.operators.up(), leads);
    }
    report.tell("the noise has stopped");
    scene.plane.calm().await?;
    for action in waiting {
        let done = noise::perform(scene, action).await?;
        report.did(action, done)?;
    }
    noise::calm(scene).await?;
    let mut last = converge(scene, report, length, true).await?;
    if last.violations.is_empty() && noise::confirm(scene).await? {
        report.tell("what was held is confirmed");
        last = converge(scene, report, Duration::ZERO, false).await?;
    }
    if last.violations.is_empty() {
        // What has converged stays so. The last writes to arrive are not those of the rest.
        settle(scene).await?;
        let since = jiff::Timestamp::now();
        sleep(AT_REST).await;
        check(scene).await?;
        last = judge::end::judge(&scene.recorder.open(), false);
        last.add(judge::end::judge_rest(&scene.recorder.open(), since));
    }
    report.tell("judging");
    let mut history = scene.recorder.open();
    history.ended = Some(jiff::Timestamp::now());
    let mut findings = judge::judge(&history);
    findings.add(last);
    Ok(findings)
}

/// Lets what is under way arrive. A machine that stands still lets nothing arrive: then it begins anew.
async fn settle(scene: &mut Scene) -> Result<()> {
    const STEP: Duration = Duration::from_millis(100);
    let mut settled = Duration::ZERO;
    while settled < SETTLED {
        let begun = Instant::now();
        sleep(STEP).await;
        check(scene).await?;
        let took = begun.elapsed();
        settled = if took < STEP * 5 { settled + took } else { Duration::ZERO };
    }
    Ok(())
}

/// Waits until everything is as it has to be, or it is too late; answers what is not.
async fn converge(scene: &mut Scene, report: &Report, noise: Duration, held: bool) -> Result<Findings> {
    let begun = Instant::now();
    let mut told = begun;
    loop {
        sleep(Duration::from_millis(500)).await;
        check(scene).await?;
        let left = judge::end::judge(&scene.recorder.open(), held);
        if left.violations.is_empty() || begun.elapsed() > CONVERGED + noise {
            report.tell(&format!("after {} seconds {} left", begun.elapsed().as_secs(), left.violations.len()));
            return Ok(left);
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let first = left.violations.first().map(ToString::to_string).unwrap_or_default();
            report.tell(&format!("{} not there yet, such as {first}", left.violations.len()));
        }
    }
}

/// Fails if something ended that has to run.
async fn check(scene: &mut Scene) -> Result<()> {
    scene.okms.check()?;
    if scene.plane.look().await? {
        // A real one would know nothing from before its start.
        scene.api.forget_watches();
    }
    scene.watches.check().await?;
    scene.operators.look().await
}
