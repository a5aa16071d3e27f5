//! `cargo xtask bench`: what the operator costs and how fast it is, measured on this machine.
//!
//! [`scene`] sets the stage for one number of objects and measures, [`floor`] does the same writes with a plain client, [`usage`] reads
//! what the system and the API server count, [`report`] makes the table.

mod floor;
mod report;
mod scene;
mod usage;
mod watch;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use test_cluster::binaries;

use crate::cargo;

/// How often each source is checked. The shortest interval that the operator allows by default, so the dearest.
const INTERVAL: Duration = Duration::from_secs(10);

/// For how many intervals the operator is watched at rest.
const INTERVALS_AT_REST: u32 = 3;

/// How many changes are made in a second, at most. Each is three writes to the API server (Secret, status, event): more of them, and its
/// queue would be what is measured on a small machine.
const CHANGES_PER_SECOND: usize = 20;

/// At least so many changes are timed, unless it is to be quick, so that a 99th percentile means something.
const CHANGES: usize = 500;

/// Measures the operator: a control plane, the simulated OKMS, release builds, as many objects as you say.
///
/// Takes about three minutes for 100 objects and as long for 1000, after the builds. Nothing else should run on the machine. What is
/// measured, and how, is in docs/benchmarks.md.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many objects, each with a path of its own; several numbers are measured one after the other.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [100, 1000], value_parser = positive)]
    objects: Vec<usize>,

    /// Measures 100 objects only, unless told otherwise, and changes each of them once: about a minute and a half.
    #[arg(long)]
    quick: bool,

    /// Writes the table into docs/benchmarks.md.
    #[arg(long, conflicts_with = "quick")]
    write: bool,
}

fn positive(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|objects| *objects > 0).ok_or("write a number of objects, such as 100")
}

/// The programs of this workspace, optimized.
struct Programs {
    simulator: PathBuf,
    operator: PathBuf,
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn run(args: &Args) -> Result<()> {
    binaries::helm_binary()?;
    binaries::prepare()?;
    let [simulator, operator] = cargo::binaries(["okms-sim", "okms-operator"], &["--release"])?;
    let programs = Programs { simulator, operator };
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let mut measured = Vec::new();
    for objects in args.sizes() {
        let rounds = if args.quick { 1 } else { CHANGES.div_ceil(objects) };
        measured.push(runtime.block_on(scene::measure(&programs, objects, rounds))?);
    }
    let table = report::of(&measured)?;
    println!("{table}");
    if args.write {
        report::write(&table)?;
    }
    Ok(())
}

impl Args {
    fn sizes(&self) -> Vec<usize> {
        let default = [100, 1000];
        if self.quick && self.objects == default { vec![100] } else { self.objects.clone() }
    }
}

/// Tells the person who waits what is being done.
fn progress(objects: usize, what: &str) {
    eprintln!("bench {objects}: {what}");
}
