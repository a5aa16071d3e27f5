//! The tables and the plots, with the facts of the machine without which their numbers mean nothing, and the document that they go into.

use std::{collections::BTreeSet, fmt::Write, fs, io::ErrorKind, thread};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    figures::{Figure, Figures, Made, Section},
    floor,
    scenarios::Scenario,
    usage::kibibytes,
};
use crate::{run, workspace};

/// The document, below the workspace's root.
const DOCUMENT: &str = "docs/benchmarks.md";

/// What stands between these lines of the document is written by us.
const BEGIN: &str = "<!-- written by `cargo xtask bench --write` -->";
const END: &str = "<!-- until here -->";

/// What the document's tables are made of, below the workspace's root: a [`Record`] of each machine.
const RECORD: &str = "docs/benchmarks.json";

/// Everything that was measured on one machine: figures of two are not to be compared.
#[derive(Serialize, Deserialize)]
struct Record {
    machine: Machine,
    figures: Figures,
}

/// What figures were measured on.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// `2 cores of AMD EPYC, 23 GiB`
    hardware: String,
    /// What ran there beside the operator, and what built it.
    software: String,
}

/// The text of what was measured.
pub(super) fn of(machine: &Machine, figures: &Figures) -> String {
    let Machine { hardware, software } = machine;
    let mut text = format!(
        "{hardware}; {software}, its control plane and the simulated OKMS on the same cores. {} objects are reconciled, or written by the \
         plain client, at once. Where a figure was measured more than once, it is the median, with the range.\n\n",
        floor::concurrency()
    );
    for section in &figures.sections {
        table(&mut text, section);
        for (objects, course) in &section.courses {
            draw_course(&mut text, *objects, course);
        }
    }
    for plot in PLOTS {
        plot.draw(&mut text, figures);
    }
    text
}

/// A heading, the command that measures it, and the figures.
fn table(text: &mut String, section: &Section) {
    let sizes: BTreeSet<usize> = section.figures.iter().flat_map(Figure::sizes).collect();
    let row = |text: &mut String, name: &str, cell: &dyn Fn(usize) -> String| {
        let cells = sizes.iter().map(|size| cell(*size)).collect::<Vec<_>>().join(" | ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {name} | {cells} |");
    };
    let _ = writeln!(text, "### {}\n", section.scenario.title());
    for (made, sizes) in together(section) {
        let command = command(section.scenario, &sizes, made);
        let Made { date, commit, other_work, .. } = made;
        let _ = writeln!(text, "`{command}` on {date} at {commit}; other work before: {other_work} %\n");
    }
    row(text, "OkmsSecrets", &|size| size.to_string());
    row(text, "---", &|_| "---:".to_owned());
    for figure in &section.figures {
        row(text, &figure.name, &|size| figure.cell(size));
    }
    text.push('\n');
}

/// The numbers of objects that were measured together.
fn together(section: &Section) -> Vec<(&Made, BTreeSet<usize>)> {
    let mut groups: Vec<(&Made, BTreeSet<usize>)> = Vec::new();
    for (size, made) in &section.made {
        match groups.iter_mut().find(|(known, _)| *known == made) {
            Some((_, sizes)) => _ = sizes.insert(*size),
            None => groups.push((made, BTreeSet::from([*size]))),
        }
    }
    groups
}

/// What a person types for one section.
fn command(scenario: Scenario, sizes: &BTreeSet<usize>, made: &Made) -> String {
    let sizes = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut command = format!("cargo xtask bench --objects {sizes} --scenarios {}", scenario.name());
    // Writing to a String cannot fail.
    let _ = write!(command, " --interval {}", made.interval);
    if scenario == Scenario::Soak {
        let _ = write!(command, " --soak {}", made.soak);
    }
    if made.runs > 1 {
        let _ = write!(command, " --runs {}", made.runs);
    }
    command
}

/// How many points of a course are drawn: a viewer has no room for more.
const POINTS: usize = 60;

/// Memory over time, as Mermaid. The points are as far apart as their line has them.
fn draw_course(text: &mut String, objects: usize, course: &[(f64, f64)]) {
    let Some((first, last)) = course.first().zip(course.last()).map(|(first, last)| (first.0, last.0)) else { return };
    let most = course.iter().map(|(_, value)| *value).fold(1.0, f64::max).ceil();
    let drawn = course.iter().step_by(course.len().div_ceil(POINTS));
    let values = drawn.map(|(_, value)| format!("{value:.1}")).collect::<Vec<_>>().join(", ");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "```mermaid\nxychart-beta\n    title \"Memory (RSS) with {objects} OkmsSecrets\"\n    \
         x-axis \"minutes\" {first:.1} --> {last:.1}\n    y-axis \"MiB\" 0 --> {most:.0}\n    line [{values}]\n```\n"
    );
}

/// A figure over the number of objects, beside another.
struct Plot {
    title: &'static str,
    axis: &'static str,
    scenario: Scenario,
    lines: &'static [&'static str],
}

const PLOTS: [Plot; 2] = [
    Plot {
        title: "From nothing to all synced (bars), and the floor below it (line)",
        axis: "seconds",
        scenario: Scenario::ColdStart,
        lines: &["all synced", "the floor: a plain client"],
    },
    Plot { title: "Memory at rest", axis: "MiB", scenario: Scenario::Rest, lines: &["memory (RSS) afterwards"] },
];

impl Plot {
    /// As Mermaid, which the usual viewers of Markdown draw: the first figure in bars, the others as lines.
    fn draw(&self, text: &mut String, figures: &Figures) {
        let series: Vec<_> = self.lines.iter().map(|line| figures.series(self.scenario, line)).collect();
        let Some(sizes) = series.first().filter(|series| series.len() > 1) else { return };
        let most = series.iter().flatten().map(|(_, value)| *value).fold(1.0, f64::max);
        let sizes: Vec<String> = sizes.iter().map(|(size, _)| size.to_string()).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "```mermaid\nxychart-beta\n    title \"{}\"", self.title);
        let _ = writeln!(
            text,
            "    x-axis \"OkmsSecrets\" [{}]\n    y-axis \"{}\" 0 --> {most:.0}",
            sizes.join(", "),
            self.axis
        );
        for (number, values) in series.iter().enumerate() {
            let values: Vec<String> = values.iter().map(|(_, value)| format!("{value:.2}")).collect();
            let _ = writeln!(text, "    {} [{}]", if number == 0 { "bar" } else { "line" }, values.join(", "));
        }
        text.push_str("```\n\n");
    }
}

/// Adds the figures to those that are on record of this machine, and puts those of all machines into the document.
pub(super) fn write(machine: Machine, figures: Figures) -> Result<()> {
    let [record, document] = [RECORD, DOCUMENT].map(|name| workspace::root().join(name));
    let mut records: Vec<Record> = match fs::read(&record) {
        Ok(known) => serde_json::from_slice(&known).with_context(|| format!("{RECORD} is not a record: remove it"))?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {RECORD}")),
    };
    add(&mut records, machine, figures);
    let text = fs::read_to_string(&document).with_context(|| format!("reading {DOCUMENT}"))?;
    let text = replaced(&text, &of_all(&records)).with_context(|| format!("{DOCUMENT} has no place for the table"))?;
    fs::write(&document, text).with_context(|| format!("writing {DOCUMENT}"))?;
    let records = serde_json::to_string_pretty(&records)?;
    fs::write(&record, records + "\n").with_context(|| format!("writing {RECORD}"))?;
    eprintln!("wrote {RECORD} and {DOCUMENT}");
    Ok(())
}

/// What other software did on the same machine is not kept.
fn add(records: &mut Vec<Record>, machine: Machine, figures: Figures) {
    match records.iter_mut().find(|record| record.machine.hardware == machine.hardware) {
        Some(known) if known.machine == machine => known.figures.update(figures),
        Some(known) => *known = Record { machine, figures },
        None => records.push(Record { machine, figures }),
    }
}

/// The text of what was measured on each machine.
fn of_all(records: &[Record]) -> String {
    let of_one = |(number, record): (usize, &Record)| {
        format!("## Machine {}\n\n{}", number + 1, of(&record.machine, &record.figures))
    };
    records.iter().enumerate().map(of_one).collect()
}

/// The document with another table.
fn replaced(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", table.trim()))
}

/// The machine, and the versions of what runs there beside the operator.
pub(super) fn machine(kubernetes: &str) -> Result<Machine> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let cores = thread::available_parallelism().context("counting the processor's cores")?;
    let processors = read("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let memory = kibibytes(&read("/proc/meminfo")?, "MemTotal:").context("/proc/meminfo has no MemTotal")?;
    // What is left of it is not the same after each start.
    let gibibytes = memory / 1024 / 1024;
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let rustc = run::output(run::program("rustc").arg("--version"))?;
    let rustc = rustc.trim();
    // Without what names a build of the same version.
    let kernel = kernel.trim().split_once('-').map_or(kernel.trim(), |(version, _)| version);
    Ok(Machine {
        hardware: format!("{cores} cores of {model}, {gibibytes} GiB"),
        software: format!("release builds with {rustc}; Linux {kernel}; Kubernetes {kubernetes}"),
    })
}

/// The commit that is measured.
pub(super) fn commit() -> String {
    let git = |arguments: &[&str]| run::output(run::program("git").args(arguments));
    let Ok(commit) = git(&["describe", "--always"]) else { return "unknown".to_owned() };
    // The tables of a run before make no other code of it.
    let changes = git(&["status", "--porcelain", "--", ":(top)", ":(top,exclude)docs/benchmarks.*"]);
    let dirty = if changes.is_ok_and(|changes| changes.trim().is_empty()) { "" } else { "-dirty" };
    format!("{}{dirty}", commit.trim())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn machine(hardware: &str, software: &str) -> Machine {
        Machine { hardware: hardware.to_owned(), software: software.to_owned() }
    }

    #[test]
    fn a_figure_over_several_sizes_is_plotted() {
        let mut figures = Figures::default();
        let mut text = String::new();
        let [plot, _] = PLOTS;
        for (objects, seconds) in [(100, 1), (1000, 4)] {
            let mut sheet = figures.sheet(Scenario::ColdStart, objects);
            sheet.seconds("all synced", Duration::from_secs(seconds));
            sheet.seconds("the floor: a plain client", Duration::from_secs(seconds / 2));
        }
        plot.draw(&mut text, &figures);
        assert!(text.contains("x-axis \"OkmsSecrets\" [100, 1000]"), "{text}");
        assert!(text.contains("bar [1.00, 4.00]\n    line [0.00, 2.00]\n"), "{text}");
    }

    #[test]
    fn each_section_has_its_command() {
        let made = Made { interval: 30, soak: 5, runs: 3, ..Made::default() };
        let sizes = BTreeSet::from([100, 1000]);
        let expected = "cargo xtask bench --objects 100,1000 --scenarios fan-out --interval 30 --runs 3";
        assert_eq!(command(Scenario::FanOut, &sizes, &made), expected);
        assert!(command(Scenario::Soak, &sizes, &made).contains("--scenarios soak --interval 30 --soak 5"));
    }

    #[test]
    fn a_course_is_thinned_to_what_can_be_drawn() {
        let mut text = String::new();
        let course: Vec<_> = (0..1000).map(|point| (f64::from(point) / 10.0, 20.0)).collect();
        draw_course(&mut text, 100, &course);
        assert!(text.contains("x-axis \"minutes\" 0.0 --> 99.9\n    y-axis \"MiB\" 0 --> 20"), "{text}");
        assert_eq!(text.matches("20.0").count(), 59);
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
    fn what_was_measured_apart_is_told_apart() {
        let mut figures = Figures::default();
        for (objects, commit) in [(100, "a"), (1000, "b"), (5000, "a")] {
            let mut sheet = figures.sheet(Scenario::Rest, objects);
            sheet.count("calls", objects);
            sheet.made(Made { date: "today".to_owned(), commit: commit.to_owned(), ..Made::default() });
        }
        let text = of(&machine("one", "Linux"), &figures);
        assert!(text.contains("--objects 100,5000 --scenarios rest --interval 0` on today at a;"), "{text}");
        assert!(text.contains("--objects 1000 --scenarios rest --interval 0` on today at b;"), "{text}");
        assert!(text.contains("| OkmsSecrets | 100 | 1000 | 5000 |"), "{text}");
    }

    #[test]
    fn each_machine_keeps_its_figures() {
        let figures = |size: usize| {
            let mut figures = Figures::default();
            figures.sheet(Scenario::Rest, size).count("calls", size);
            figures.sheet(Scenario::Rest, size).made(Made::default());
            figures
        };
        let mut records = Vec::new();
        for (hardware, size) in [("one", 100), ("another", 5000), ("one", 1000)] {
            add(&mut records, machine(hardware, "Linux"), figures(size));
        }
        let written = serde_json::to_string(&records).unwrap();
        let read: Vec<Record> = serde_json::from_str(&written).unwrap();
        let series = |record: &Record| record.figures.series(Scenario::Rest, "calls");
        assert_eq!(
            read.iter().map(series).collect::<Vec<_>>(),
            [vec![(100, 100.0), (1000, 1000.0)], vec![(5000, 5000.0)]]
        );
        let text = of_all(&read);
        let (one, another) = text.split_once("## Machine 2\n\nanother; Linux, ").unwrap();
        assert!(
            one.starts_with("## Machine 1\n\none; Linux, ") && one.contains("| OkmsSecrets | 100 | 1000 |"),
            "{text}"
        );
        assert!(another.contains("| OkmsSecrets | 5000 |"), "{text}");
        add(&mut records, machine("one", "a newer Linux"), figures(100));
        assert_eq!(records.iter().map(series).collect::<Vec<_>>(), [[(100, 100.0)], [(5000, 5000.0)]]);
    }

    #[test]
    fn the_document_has_a_place_for_the_table() {
        let document = fs::read_to_string(workspace::root().join(DOCUMENT)).unwrap();
        assert!(replaced(&document, "").is_some());
    }
}
