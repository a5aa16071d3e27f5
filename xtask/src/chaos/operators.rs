//! The operator's processes: started, killed, terminated, paused. Each run of one has a log of its own, which outlives the stage.
//!
//! Two run at a time, of which one leads. While none does, nobody can be blamed for what is not done: [`Operators::look`] records that.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal, kill_process};
use test_cluster::supervise::Folder;
use tokio::{
    task::{JoinHandle, spawn_local},
    time::Instant,
};

use super::history::{Recorder, Trouble, TroubleId};
use crate::stage::Operator;

/// How many processes there should be.
const REPLICAS: usize = 2;

/// The operator gives the work under way 25 seconds.
const DRAINED: Duration = Duration::from_secs(40);

/// One that is paused, or has too much to do, does not say whether it leads.
const ANSWERS: Duration = Duration::from_millis(500);

/// How a process is started.
#[derive(Clone)]
pub(super) struct Recipe {
    pub(super) binary: PathBuf,
    pub(super) kubeconfig: String,
    pub(super) arguments: Vec<String>,
}

pub(super) struct Operators {
    recorder: Recorder,
    recipe: Recipe,
    logs: PathBuf,
    http: reqwest::Client,
    running: Vec<Running>,
    starting: Vec<JoinHandle<Result<Started>>>,
    /// The number of the one that leads.
    leader: Option<usize>,
    /// The numbers of those that have led.
    led: BTreeSet<usize>,
    /// That none does.
    leaderless: Option<TroubleId>,
    started: usize,
}

struct Started {
    operator: Operator,
    // Dropped after the process in it.
    _folder: Folder,
}

struct Running {
    number: usize,
    started: Started,
    paused: bool,
    /// When it was told to end.
    ending: Option<Instant>,
}

impl Operators {
    pub(super) fn new(recorder: Recorder, recipe: Recipe, logs: PathBuf) -> Result<Self> {
        let leaderless = Some(recorder.open().trouble_begins(Trouble::Operator));
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWERS).build().context("making an HTTP client")?;
        Ok(Self {
            recorder,
            recipe,
            logs,
            http,
            running: Vec::new(),
            starting: Vec::new(),
            leader: None,
            led: BTreeSet::new(),
            leaderless,
            started: 0,
        })
    }

    /// The number of processes that run and move.
    pub(super) fn up(&self) -> usize {
        self.running.iter().filter(|running| !running.paused && running.ending.is_none()).count()
    }

    pub(super) fn somebody_leads(&self) -> bool {
        self.leader.is_some()
    }

    /// Has as many run as there should be. It does not wait for them: they may wait for the API server.
    pub(super) fn start(&mut self) {
        let staying = self.running.iter().filter(|running| running.ending.is_none()).count();
        for _ in staying + self.starting.len()..REPLICAS {
            let recipe = self.recipe.clone();
            self.starting.push(spawn_local(async move {
                let folder = Folder::create("okms-chaos-operator-")?;
                let operator =
                    Operator::start_with(&folder, &recipe.kubeconfig, &recipe.binary, &recipe.arguments).await?;
                Ok(Started { operator, _folder: folder })
            }));
        }
    }

    /// Looks who runs and who leads. Fails if a process ended that nobody ended.
    pub(super) async fn look(&mut self) -> Result<()> {
        let mut again = false;
        for index in (0..self.starting.len()).rev() {
            if !self.starting.get(index).is_some_and(JoinHandle::is_finished) {
                continue;
            }
            match self.starting.swap_remove(index).await.context("starting an operator")? {
                Ok(started) => {
                    self.started += 1;
                    let number = self.started;
                    self.running.push(Running { number, started, paused: false, ending: None });
                }
                // A pod whose operator does not find its API server is started again.
                Err(_) if self.recorder.open().was_troubled(Trouble::Kubernetes, recently()) => again = true,
                Err(error) => return Err(error).context("an operator does not start"),
            }
        }
        if again {
            self.start();
        }
        self.bury()?;
        self.ask_who_leads().await;
        Ok(())
    }

    /// Lets those go that have ended.
    fn bury(&mut self) -> Result<()> {
        let mut index = 0;
        while let Some(running) = self.running.get_mut(index) {
            match (running.started.operator.check(), running.ending) {
                (Ok(()), Some(since)) if since.elapsed() > DRAINED => {
                    bail!("an operator does not end when it is told to")
                }
                (Ok(()), _) => index += 1,
                (Err(_), Some(_)) => {
                    running.keep_log(&self.logs);
                    self.running.remove(index);
                }
                (Err(error), None) => return Err(error).context("nobody ended the operator"),
            }
        }
        Ok(())
    }

    async fn ask_who_leads(&mut self) {
        let mut leader = None;
        for running in self.running.iter().filter(|running| !running.paused) {
            let url = format!("http://{}/metrics", running.started.operator.address());
            let Ok(answer) = self.http.get(url).send().await else { continue };
            let text = answer.text().await.unwrap_or_default();
            if text.lines().any(|line| line.trim_end() == "okms_leader 1") {
                leader = Some(running.number);
            }
        }
        if leader == self.leader {
            return;
        }
        if leader.is_none() {
            self.leaderless();
            return;
        }
        let is_first = leader.is_some_and(|leader| self.led.insert(leader));
        let mut history = self.recorder.open();
        if let Some(trouble) = self.leaderless.take() {
            history.trouble_ends(trouble);
        }
        let now = Timestamp::now();
        history.starts.push(now);
        if is_first {
            history.terms.push(now);
        }
        self.leader = leader;
    }

    /// The one that leads, or else any that runs.
    fn leader(&mut self) -> Option<&mut Running> {
        let leader = self.leader;
        let index = self.running.iter().position(|running| Some(running.number) == leader).unwrap_or(0);
        self.running.get_mut(index)
    }

    /// Nobody leads from now on, as far as is known.
    fn leaderless(&mut self) {
        if self.leader.take().is_some() {
            self.leaderless = Some(self.recorder.open().trouble_begins(Trouble::Operator));
        }
    }

    /// SIGKILL to the leader.
    pub(super) fn kill(&mut self) -> Result<bool> {
        let Some(running) = self.leader() else { return Ok(false) };
        running.signal(Signal::KILL)?;
        running.ending = Some(Instant::now());
        self.leaderless();
        Ok(true)
    }

    /// SIGKILL to one that stands by.
    pub(super) fn kill_standby(&mut self) -> Result<bool> {
        let leader = self.leader;
        let mut others = self.running.iter_mut().filter(|running| Some(running.number) != leader);
        let Some(running) = others.next() else { return Ok(false) };
        running.signal(Signal::KILL)?;
        running.ending = Some(Instant::now());
        Ok(true)
    }

    /// SIGTERM to the leader.
    pub(super) fn terminate(&mut self) -> Result<bool> {
        let Some(running) = self.leader() else { return Ok(false) };
        running.signal(Signal::TERM)?;
        running.signal(Signal::CONT)?;
        running.ending = Some(Instant::now());
        self.leaderless();
        Ok(true)
    }

    /// SIGSTOP to the leader.
    pub(super) fn pause(&mut self) -> Result<bool> {
        let Some(running) = self.leader() else { return Ok(false) };
        running.signal(Signal::STOP)?;
        running.paused = true;
        self.leaderless();
        Ok(true)
    }

    /// SIGCONT to all.
    pub(super) fn go_on(&mut self) -> Result<()> {
        for running in self.running.iter_mut().filter(|running| running.paused) {
            running.signal(Signal::CONT)?;
            running.paused = false;
        }
        Ok(())
    }

    /// Keeps the logs of those that run, and what they count.
    pub(super) async fn keep(&self) {
        for running in &self.running {
            running.keep_log(&self.logs);
            let url = format!("http://{}/metrics", running.started.operator.address());
            if let Ok(answer) = self.http.get(url).send().await
                && let Ok(text) = answer.text().await
            {
                drop(fs::write(self.logs.join(format!("metrics-{}.txt", running.number)), text));
            }
        }
    }
}

/// Since when a fault may be why a process did not start: an operator waits for its first answer for 20 seconds.
fn recently() -> Timestamp {
    Timestamp::now().saturating_sub(SignedDuration::from_secs(30)).unwrap_or(Timestamp::MIN)
}

impl Running {
    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.started.operator.id();
        let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) else { bail!("{id} is no process id") };
        match kill_process(id, signal) {
            // It was told to end, and has.
            Err(rustix::io::Errno::SRCH) if self.ending.is_some() => Ok(()),
            outcome => outcome.context("sending the operator a signal"),
        }
    }

    fn keep_log(&self, logs: &std::path::Path) {
        let log = logs.join(format!("operator-{}.log", self.number));
        // Without it a failure is harder to read, and not less true.
        drop(fs::copy(self.started.operator.log(), log));
    }
}
