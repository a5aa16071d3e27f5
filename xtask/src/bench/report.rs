//! The tables and the plots, with the facts of the machine without which their numbers mean nothing, and the document that they go into.

use std::{collections::BTreeSet, fmt::Write, fs, thread, time::Duration};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{
    figures::{Figure, Figures, Section},
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

/// What has to be known beside the figures.
#[derive(Default)]
pub(super) struct Facts {
    /// The API server's version.
    pub(super) kubernetes: String,
    pub(super) interval: Duration,
    /// How long the soak lasts.
    pub(super) soak: Duration,
    pub(super) runs: usize,
    /// What other work took of the processors before each run, in percent.
    pub(super) other_work: Vec<u64>,
}

/// The text of what was measured.
pub(super) fn of(facts: &Facts, figures: &Figures) -> Result<String> {
    let mut text = machine(facts)?;
    for section in &figures.sections {
        table(&mut text, section, facts);
        for (objects, course) in &section.courses {
            draw_course(&mut text, *objects, course);
        }
    }
    for plot in PLOTS {
        plot.draw(&mut text, figures);
    }
    Ok(text)
}

/// A heading, the command that measures it, and the figures.
fn table(text: &mut String, section: &Section, facts: &Facts) {
    let sizes: BTreeSet<usize> = section.figures.iter().flat_map(Figure::sizes).collect();
    let row = |text: &mut String, name: &str, cell: &dyn Fn(usize) -> String| {
        let cells = sizes.iter().map(|size| cell(*size)).collect::<Vec<_>>().join(" | ");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {name} | {cells} |");
    };
    let _ = writeln!(text, "### {}\n\n`{}`\n", section.scenario.title(), command(section.scenario, &sizes, facts));
    row(text, "OkmsSecrets", &|size| size.to_string());
    row(text, "---", &|_| "---:".to_owned());
    for figure in &section.figures {
        row(text, figure.name, &|size| figure.cell(size));
    }
    text.push('\n');
}

/// What a person types for one section.
fn command(scenario: Scenario, sizes: &BTreeSet<usize>, facts: &Facts) -> String {
    let sizes = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut command = format!("cargo xtask bench --objects {sizes} --scenarios {}", scenario.name());
    // Writing to a String cannot fail.
    let _ = write!(command, " --interval {}", facts.interval.as_secs());
    if scenario == Scenario::Soak {
        let _ = write!(command, " --soak {}", facts.soak.as_secs() / 60);
    }
    if facts.runs > 1 {
        let _ = write!(command, " --runs {}", facts.runs);
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
fn machine(facts: &Facts) -> Result<String> {
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
    let other = facts.other_work.iter().max().copied().unwrap_or_default();
    Ok(format!(
        "{date}, okms-operator {version} at {commit}, release build, {rustc}; {cores} cores of {model}, {memory} MiB, Linux {kernel}; \
         Kubernetes {kubernetes}, its control plane and the simulated OKMS on the same cores. Each source is checked every {interval} s; \
         {at_once} objects are reconciled, or written by the plain client, at once. Measured {runs}; other work took at most {other} % of \
         the processors before.\n\n",
        date = Timestamp::now().strftime("%Y-%m-%d"),
        version = env!("CARGO_PKG_VERSION"),
        commit = commit.trim(),
        rustc = rustc.trim(),
        memory = memory / 1024,
        kernel = kernel.trim(),
        kubernetes = facts.kubernetes,
        interval = facts.interval.as_secs(),
        at_once = floor::concurrency(),
        runs = match facts.runs {
            1 => "once".to_owned(),
            runs => format!("{runs} times, the table shows medians with their range"),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let facts =
            Facts { interval: Duration::from_secs(30), soak: Duration::from_mins(5), runs: 3, ..Facts::default() };
        let sizes = BTreeSet::from([100, 1000]);
        let expected = "cargo xtask bench --objects 100,1000 --scenarios fan-out --interval 30 --runs 3";
        assert_eq!(command(Scenario::FanOut, &sizes, &facts), expected);
        assert!(command(Scenario::Soak, &sizes, &facts).contains("--scenarios soak --interval 30 --soak 5"));
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
    fn the_document_has_a_place_for_the_table() {
        let document = fs::read_to_string(workspace::root().join(DOCUMENT)).unwrap();
        assert!(replaced(&document, "").is_some());
    }
}
