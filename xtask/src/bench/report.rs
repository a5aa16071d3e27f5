//! The table, with the facts of the machine without which its numbers mean nothing, and the document that it goes into.

use std::{fmt::Write, fs, thread, time::Duration};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{
    INTERVAL, INTERVALS_AT_REST, floor,
    scene::Measured,
    usage::{Requests, kibibytes},
};
use crate::{run, stage::Calls, workspace};

/// The document, below the workspace's root.
const DOCUMENT: &str = "docs/benchmarks.md";

/// What stands between these lines of the document is written by us.
const BEGIN: &str = "<!-- written by `cargo xtask bench --write` -->";
const END: &str = "<!-- until here -->";

/// The table of what was measured.
pub(super) fn of(measured: &[Measured]) -> Result<String> {
    let kubernetes = measured.first().map_or("unknown", |measured| &measured.kubernetes);
    let mut table = facts(kubernetes)?;
    let columns = |of: &dyn Fn(&Measured) -> String| measured.iter().map(of).collect::<Vec<_>>().join(" | ");
    let mut row = |name: &str, of: &dyn Fn(&Measured) -> String| {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| {name} | {} |", columns(of));
    };
    row("OkmsSecrets, each with a path of its own", &|measured| measured.objects.to_string());
    row("---", &|_| "---:".to_owned());
    row("other work on the machine before", &|measured| format!("{} %", measured.other_work));
    row("**from nothing to all synced**", &|measured| seconds(measured.first_sync));
    row(&format!("the floor: a plain client, {} at once", floor::concurrency()), &|measured| seconds(measured.floor));
    row("times the floor", &|measured| {
        format!("{:.1}", measured.first_sync.as_secs_f64() / measured.floor.as_secs_f64())
    });
    row("OKMS requests (with data)", &|measured| calls(measured.first_calls));
    row(&format!("**at rest**, {INTERVALS_AT_REST} intervals: OKMS requests (with data)"), &|measured| {
        calls(measured.at_rest.calls)
    });
    row("Kubernetes requests of the operator", &|measured| measured.at_rest.requests.by_operator.to_string());
    row("of everybody, on what it touches", &|measured| requests(&measured.at_rest.requests));
    row("processor, of one core", &|measured| {
        let share = measured.at_rest.processor.as_secs_f64() / measured.at_rest.elapsed.as_secs_f64();
        format!("{:.1} %", share * 100.0)
    });
    row("**change to Secret**, median", &|measured| seconds(percentile(&measured.changes, 50)));
    row("99th percentile", &|measured| seconds(percentile(&measured.changes, 99)));
    row("longest", &|measured| seconds(percentile(&measured.changes, 100)));
    row("changes", &|measured| measured.changes.len().to_string());
    row("**memory** (RSS) at rest", &|measured| mebibytes(measured.at_rest.memory.now));
    row("most, changes included", &|measured| mebibytes(measured.memory.most));
    Ok(table)
}

/// Puts the table into the document.
pub(super) fn write(table: &str) -> Result<()> {
    let path = workspace::root().join(DOCUMENT);
    let document = fs::read_to_string(&path).with_context(|| format!("reading {DOCUMENT}"))?;
    let document = replaced(&document, table).with_context(|| format!("{DOCUMENT} has no place for the table"))?;
    fs::write(&path, document).with_context(|| format!("writing {DOCUMENT}"))?;
    eprintln!("wrote {DOCUMENT}");
    Ok(())
}

/// The document with another table.
fn replaced(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", table.trim()))
}

/// The machine, the versions and the day.
fn facts(kubernetes: &str) -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let cores = thread::available_parallelism().context("counting the processor's cores")?;
    let processors = read("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let memory = kibibytes(&read("/proc/meminfo")?, "MemTotal:").context("/proc/meminfo has no MemTotal")?;
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let rustc = run::output(run::program("rustc").arg("--version"))?;
    let commit = run::output(run::program("git").args(["describe", "--always", "--dirty"]));
    let commit = commit.unwrap_or_else(|_| "unknown".to_owned());
    Ok(format!(
        "{date}, okms-operator {version} at {commit}, release build, {rustc}; {cores} cores of {model}, {memory} MiB, Linux {kernel}; \
         Kubernetes {kubernetes}, its control plane and the simulated OKMS on the same cores. Each source is checked every {interval} s.\n\n",
        date = Timestamp::now().strftime("%Y-%m-%d"),
        version = env!("CARGO_PKG_VERSION"),
        commit = commit.trim(),
        rustc = rustc.trim(),
        memory = memory / 1024,
        kernel = kernel.trim(),
        interval = INTERVAL.as_secs(),
    ))
}

/// The smallest value that so many percent of the (ascending) values do not exceed.
fn percentile(ascending: &[Duration], percent: usize) -> Duration {
    let rank = (ascending.len() * percent).div_ceil(100).saturating_sub(1);
    ascending.get(rank).copied().unwrap_or_default()
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn calls(calls: Calls) -> String {
    format!("{} ({})", calls.all, calls.with_data)
}

fn requests(requests: &Requests) -> String {
    let counts = requests.by_verb.iter().map(|(verb, count)| format!("{count} {verb}")).collect::<Vec<_>>();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<_> = (1..=200).map(Duration::from_secs).collect();
        assert_eq!(percentile(&values, 50), Duration::from_secs(100));
        assert_eq!(percentile(&values, 99), Duration::from_secs(198));
        assert_eq!(percentile(&values, 100), Duration::from_secs(200));
        assert_eq!(percentile(&values[..1], 50), Duration::from_secs(1));
    }

    #[test]
    fn only_the_table_is_replaced() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replaced(&document, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replaced(&new, "new"), Some(new.clone()));
        assert_eq!(replaced("no place", "new"), None);
    }

    #[test]
    fn the_document_has_a_place_for_the_table() {
        let document = fs::read_to_string(workspace::root().join(DOCUMENT)).unwrap();
        assert!(replaced(&document, "").is_some());
    }
}
