//! `cargo xtask test`: everything that CI runs, in the order in which a mistake is cheapest to find.
//!
//! Knows the order, the times and the summary; a step that is more than one command has a module of its own.

mod chart;
mod conformance;
mod musl;

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::builder::PossibleValuesParser;
use test_cluster::binaries;

use crate::{cargo::cargo, chaos, codegen, run::run as run_command};

/// Runs everything that CI runs, and stops at the first failure.
///
/// Cold, on two cores, that is up to 40 minutes, of which ten build Kubernetes and Helm, once.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs this step only; may be repeated. `--list` names them.
    #[arg(long, value_name = "STEP", value_parser = PossibleValuesParser::new(STEPS.map(|step| step.name)))]
    only: Vec<String>,

    /// Lists the steps and runs none.
    #[arg(long)]
    list: bool,
}

struct Step {
    name: &'static str,
    /// What holds when it passes.
    proves: &'static str,
    run: fn() -> Result<()>,
}

const STEPS: [Step; 9] = [
    Step { name: "fmt", proves: "the code is formatted", run: fmt },
    Step { name: "clippy", proves: "clippy has no complaint", run: clippy },
    Step { name: "codegen", proves: "generated files are what the code generates", run: codegen },
    Step { name: "programs", proves: "etcd, Kubernetes, Helm and kstatus are built", run: programs },
    Step { name: "tests", proves: "unit and integration tests pass", run: tests },
    Step { name: "chaos", proves: "a short run of noise leaves nothing wrong behind", run: chaos },
    Step { name: "chart", proves: "the Helm chart renders, without a warning", run: chart::run },
    Step { name: "conformance", proves: "OVHcloud's own SDK accepts the simulator", run: conformance::run },
    Step { name: "musl", proves: "the static binary starts in an empty root", run: musl::run },
];

fn fmt() -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run_command(cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny=warnings"]))
}

fn codegen() -> Result<()> {
    codegen::run(&codegen::Args { check: true })
}

/// Before the tests, which would build them just as well: their time is told apart, and no test waits for minutes.
fn programs() -> Result<()> {
    binaries::prepare()?;
    binaries::helm_binary()?;
    binaries::kstatus_binary()?;
    Ok(())
}

fn tests() -> Result<()> {
    run_command(cargo().args(["test", "--workspace"]))
}

/// Always the same noise: what fails here is to be found again.
fn chaos() -> Result<()> {
    chaos::run(&chaos::Args::short())
}

#[expect(clippy::print_stdout, reason = "the list and the summary are what was asked for")]
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        for Step { name, proves, .. } in &STEPS {
            println!("{name:<12} {proves}");
        }
        return Ok(());
    }
    let chosen = |step: &&Step| args.only.is_empty() || args.only.iter().any(|name| name == step.name);
    let report = Report::of(STEPS.iter().filter(chosen));
    println!("\n{report}");
    if let Some(failed) = report.failed() {
        bail!("step `{failed}` failed; to run it alone: cargo xtask test --only {failed}");
    }
    Ok(())
}

/// What became of each step, in their order.
struct Report(Vec<(&'static str, Outcome)>);

enum Outcome {
    Passed(Duration),
    Failed(Duration),
    /// One before it failed.
    NotRun,
}

impl Report {
    /// Runs the steps up to the first that fails.
    fn of<'a>(steps: impl Iterator<Item = &'a Step>) -> Self {
        let mut report = Self(Vec::new());
        for step in steps {
            let outcome = if report.failed().is_some() { Outcome::NotRun } else { step.outcome() };
            report.0.push((step.name, outcome));
        }
        report
    }

    fn failed(&self) -> Option<&'static str> {
        let mut failed = self.0.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
        failed.next().map(|(name, _)| *name)
    }
}

impl Step {
    fn outcome(&self) -> Outcome {
        eprintln!("\n== {}: {} ==", self.name, self.proves);
        let begun = Instant::now();
        match (self.run)() {
            Ok(()) => Outcome::Passed(begun.elapsed()),
            Err(error) => {
                eprintln!("error: {error:#}");
                Outcome::Failed(begun.elapsed())
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut passed, mut failed, mut total) = (0, 0, Duration::ZERO);
        for (name, outcome) in &self.0 {
            match outcome {
                Outcome::Passed(time) => {
                    passed += 1;
                    total += *time;
                    writeln!(f, "{name:<12} {:>8.1} s  passed", time.as_secs_f64())?;
                }
                Outcome::Failed(time) => {
                    failed += 1;
                    total += *time;
                    writeln!(f, "{name:<12} {:>8.1} s  failed", time.as_secs_f64())?;
                }
                Outcome::NotRun => writeln!(f, "{name:<12} {:>8}    not run", "-")?,
            }
        }
        writeln!(f, "{:<12} {:>8.1} s", "together", total.as_secs_f64())?;
        write!(f, "{passed} passed, {failed} failed")
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    const PASSES: Step = Step { name: "passes", proves: "", run: || Ok(()) };
    const FAILS: Step = Step { name: "fails", proves: "", run: || Err(anyhow!("on purpose")) };

    #[test]
    fn the_summary_ends_with_the_numbers() {
        let report = Report::of([PASSES, PASSES].iter());
        assert!(report.to_string().ends_with("\n2 passed, 0 failed"));
        assert_eq!(report.failed(), None);
    }

    #[test]
    fn nothing_runs_after_a_failure() {
        let never = Step { name: "never", proves: "", run: || unreachable!("a step failed before") };
        let report = Report::of([PASSES, FAILS, never].iter());
        assert!(report.to_string().ends_with("\n1 passed, 1 failed"));
        assert!(report.to_string().contains("not run"));
        assert_eq!(report.failed(), Some("fails"));
    }
}
