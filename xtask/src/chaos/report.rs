//! What a person is told while it runs and at the end, and what is kept in a folder so that a failure can be read.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    action::Action,
    history::{History, Kind, Recorder, What},
    judge::{self, Findings},
};

/// How often progress is told.
const EVERY: Duration = Duration::from_secs(5);

pub(super) struct Report {
    seed: u64,
    length: Duration,
    begun: Instant,
    told: Instant,
    folder: PathBuf,
    actions: BufWriter<File>,
    counts: BTreeMap<&'static str, usize>,
    /// There was nothing to do it to.
    in_vain: usize,
    recorder: Option<Recorder>,
}

impl Report {
    pub(super) fn begin(seed: u64, length: Duration) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("okms-chaos-log-").tempdir().context("making a folder for logs")?;
        let folder = folder.keep();
        let actions = File::create(folder.join("actions.log")).context("creating the log of actions")?;
        let report = Self {
            seed,
            length,
            begun: Instant::now(),
            told: Instant::now(),
            folder,
            actions: BufWriter::new(actions),
            counts: BTreeMap::new(),
            in_vain: 0,
            recorder: None,
        };
        report.tell(&format!("seed {seed}; logs in {}", report.folder.display()));
        Ok(report)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn record(&mut self, recorder: &Recorder) {
        self.recorder = Some(recorder.clone());
    }

    pub(super) fn tell(&self, what: &str) {
        eprintln!("chaos {:>4} s: {what}", self.begun.elapsed().as_secs());
    }

    /// An action was carried out, or there was nothing to do it to.
    pub(super) fn did(&mut self, action: &Action, done: bool) -> Result<()> {
        let now = jiff::Timestamp::now();
        let moment = self.recorder.as_ref().map(|recorder| recorder.open().moment(now).to_string());
        let vain = if done { "" } else { " (in vain)" };
        writeln!(self.actions, "{:>10} {action}{vain}", moment.unwrap_or_default())
            .context("writing the log of actions")?;
        *self.counts.entry(action.kind()).or_default() += 1;
        self.in_vain += usize::from(!done);
        Ok(())
    }

    /// The faults of OKMS and of Kubernetes that are in force, and the operators that run.
    pub(super) fn progress(
        &mut self,
        left: Duration,
        (okms, kubernetes): (usize, usize),
        operators: usize,
        leads: bool,
    ) {
        if self.told.elapsed() < EVERY {
            return;
        }
        self.told = Instant::now();
        let done: usize = self.counts.values().sum();
        let leads = if leads { "" } else { ", none of which leads" };
        self.tell(&format!(
            "{} s left, {done} actions, in force {okms} faults of OKMS and {kubernetes} of Kubernetes, {operators} operators{leads}",
            left.as_secs()
        ));
    }

    pub(super) fn whereabouts(&self) -> String {
        format!("seed {}, logs in {}", self.seed, self.folder.display())
    }

    /// Keeps a file beside the logs.
    pub(super) fn keep(&self, name: &str, content: &str) -> Result<()> {
        fs::write(self.folder.join(name), content).with_context(|| format!("writing {name}"))
    }

    /// Writes everything that was seen, one change a line.
    pub(super) fn write_history(&mut self) -> Result<()> {
        self.actions.flush().context("writing the log of actions")?;
        let Some(recorder) = &self.recorder else { return Ok(()) };
        let history = recorder.open();
        self.keep("history.log", &lines(&history).join("\n"))
    }

    /// Tells what came out. Everything in it is made up, so the values are shown.
    #[expect(clippy::print_stdout, reason = "the summary is what was asked for")]
    pub(super) fn end(&self, findings: &Findings, keep: bool) -> Result<()> {
        println!(
            "\nchaos with seed {}, {} s of noise, {} s in all",
            self.seed,
            self.length.as_secs(),
            self.begun.elapsed().as_secs()
        );
        println!("\ndone");
        for (kind, count) in &self.counts {
            println!("{count:>8} {kind}");
        }
        println!("{:>8} of these in vain, because there was nothing to do it to", self.in_vain);
        if let Some(recorder) = &self.recorder {
            let history = recorder.open();
            let by_operator = history.cluster.iter().filter(|change| !history.is_own(change));
            let count = |kind| by_operator.clone().filter(|change| change.kind == kind).count();
            println!("\nseen");
            println!("{:>8} changes of Secrets that were not ours", count(Kind::Secret));
            println!("{:>8} statuses", count(Kind::OkmsSecret));
            println!("{:>8} times that an operator began to lead", history.starts.len());
            let (working, untroubled) = judge::calm(&history);
            println!("{:>8} s in which an operator could work, after what it takes to recover", working.as_secs());
            println!("{:>8} s of these in which a path could be read, too, on average", untroubled.as_secs());
        }
        println!("\njudged");
        for (rule, count) in &findings.checks {
            println!("{count:>8} times whether {rule}");
        }
        if findings.violations.is_empty() {
            println!("\nno violation");
            if !keep {
                // Nobody needs it any more, and a folder that cannot be removed is no failure.
                drop(fs::remove_dir_all(&self.folder));
            }
            return Ok(());
        }
        println!("\n{} violations", findings.violations.len());
        let list: Vec<_> = findings.violations.iter().map(|violation| format!("  {violation}")).collect();
        println!("{}", list.join("\n"));
        self.keep("violations.log", &list.join("\n"))?;
        bail!("{} violations; {}", findings.violations.len(), self.whereabouts())
    }
}

fn lines(history: &History) -> Vec<String> {
    let mut lines = Vec::new();
    for change in &history.okms {
        let what = match &change.what {
            What::Put { version, data } => format!("version {version} {data}"),
            What::State { version, state } => format!("version {version} {}", state.word()),
            What::Delete => "deleted".to_owned(),
        };
        lines.push((change.to, format!("OKMS {} {what}", change.path)));
    }
    for troubled in &history.troubles {
        lines.push((troubled.from, format!("trouble begins: {:?}", troubled.trouble)));
        lines.extend(troubled.to.map(|to| (to, format!("trouble ends: {:?}", troubled.trouble))));
    }
    for change in history.in_order() {
        let who = if history.is_own(change) { "by us" } else { "seen" };
        let mut object = change.object.as_deref().cloned();
        if let Some(metadata) =
            object.as_mut().and_then(|object| object.get_mut("metadata")).and_then(|metadata| metadata.as_object_mut())
        {
            metadata.remove("managedFields");
        }
        let object = object.map_or_else(|| "deleted".to_owned(), |object| object.to_string());
        let (kind, key) = (change.kind.name(), &change.key);
        lines.push((change.at, format!("{kind} {key} {who} #{} {object}", change.version)));
    }
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(at, line)| format!("{:>10} {line}", history.moment(at).to_string())).collect()
}
