//! Who may write: leader election over a Lease, as client-go does it.
//!
//! [`Terms::next`] waits until this process leads and answers with a [`Leadership`], whose [`Term`] every write asks. What to do about the
//! Lease is decided in [`decide`], without I/O; the loops here are dull: they do it, and tell what came of it. Nothing here knows what the
//! operator does in its term.
//!
//! Whoever leads acts for `renew_deadline` from the start of its last good renewal, whoever waits does so for `lease_duration` from when
//! it saw the last change. The second is longer, so there is a gap in which nobody writes, and never two who do.

mod decide;
mod timing;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use rand::RngExt;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use self::timing::{Disorder, Timing};
use self::{
    decide::{Contend, Hold, Known, Me, Shown, claim, contend, hold, released},
    timing::JITTER,
};
use crate::k8s::{LeaseLock, Moment, Tenure, Term, WriteError};

/// What an election is about.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of the Lease, in the operator's own namespace. Operators with the same one are replicas of each other.
    pub id: String,
    /// Who this process is in the Lease. No other process may have the same, not even a later one of the same pod.
    pub identity: String,
    pub timing: Timing,
}

/// Where a process has its terms from.
pub enum Terms {
    /// It was told that it is alone.
    OnlyInstance,
    Elected(Box<Election>),
}

impl Terms {
    /// Waits until this process leads, or until `stop`. What it asked for by then it may get all the same, and has to release.
    pub async fn next(&self, stop: &CancellationToken) -> Option<Leadership> {
        match self {
            Self::OnlyInstance if stop.is_cancelled() => None,
            Self::OnlyInstance => Some(Leadership { term: Term::of_the_only_instance(), holding: None }),
            Self::Elected(election) => election.win(stop).await,
        }
    }
}

/// This process leads, until its term ends. Dropping it ends the term where it stands.
pub struct Leadership {
    term: Term,
    holding: Option<Holding>,
}

struct Holding {
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Leadership {
    pub fn term(&self) -> &Term {
        &self.term
    }

    /// Lets another process lead at once. Everything that writes must have ended.
    pub async fn release(self) {
        if let Some(Holding { stop, task }) = self.holding {
            stop.cancel();
            // One that panicked has ended the term, and left the Lease to run out.
            let _ = task.await;
        }
    }
}

/// One who contends for a Lease.
pub struct Election {
    lease: LeaseLock,
    me: Me,
    /// Told of each turn of the loop that waits to lead, so that it is seen to turn …
    alive: Arc<dyn Fn() + Send + Sync>,
    /// … which it does at least this often.
    turn: Duration,
}

impl Election {
    pub fn new(
        client: Client,
        namespace: &str,
        config: Config,
        turn: Duration,
        alive: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let Config { id, identity, timing } = config;
        // So that one request that hangs leaves time for another.
        let limit = timing.renew_deadline() / 2;
        let lease = LeaseLock::new(client, namespace, &id, limit);
        Self { lease, me: Me { identity, timing }, alive: Arc::new(alive), turn }
    }

    /// Contends until it leads, or until `stop`. A claim is not broken off: it may have arrived, and would keep everybody waiting for as long
    /// as a lease lasts.
    async fn win(&self, stop: &CancellationToken) -> Option<Leadership> {
        let mut known = Known::default();
        let mut claimed = false;
        let mut stands_by_for = None;
        let mut watch = self.lease.watch();
        while !stop.is_cancelled() {
            (self.alive)();
            let now = Moment::now();
            match contend(&self.me, &known, now) {
                Contend::Look => _ = stop.run_until_cancelled(self.look(&mut known)).await,
                Contend::Take => {
                    claimed = true;
                    if self.claim(&mut known).await {
                        let tenure = Tenure::new(now + self.me.timing.renew_deadline());
                        // An answer that came too late is as good as none.
                        if tenure.until().is_some() {
                            tracing::info!(identity = self.me.identity, "leading");
                            return Some(self.hold(tenure, known));
                        }
                    }
                }
                Contend::Wait(until) => {
                    let holder = known.holder().map(str::to_owned);
                    if holder.is_some() && holder != stands_by_for {
                        tracing::info!(leader = holder, "standing by");
                        stands_by_for = holder;
                    }
                    let pause = Moment::now().until(until).min(self.turn);
                    tokio::select! {
                        Some(lease) = watch.next() => self.shown(&mut known, lease),
                        () = sleep(pause) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
        // What was claimed, and answered too late or not at all, may be ours: nobody else is to wait for it to run out.
        if claimed || known.shown == Shown::Nothing {
            self.look(&mut known).await;
        }
        if known.holder() == Some(&self.me.identity) {
            self.release(&known.shown).await;
        }
        None
    }

    /// The watch shows the Lease. Where it was let go, not everybody grasps for it in the same moment.
    fn shown(&self, known: &mut Known, lease: Option<Lease>) {
        let before = known.holder().map(str::to_owned);
        known.saw(lease, Moment::now());
        if before.is_some() && known.holder().is_none() {
            known.rests_until = Moment::now() + self.me.timing.retry_period().mul_f64(jitter(0.0, SCATTER));
        }
    }

    async fn look(&self, known: &mut Known) {
        let begun = Moment::now();
        match self.lease.read().await {
            Ok(lease) => known.saw(lease, Moment::now()),
            Err(error) => self.failed(known, begun, &error),
        }
    }

    /// Takes or renews the Lease; answers whether that is known to have worked.
    async fn claim(&self, known: &mut Known) -> bool {
        let begun = Moment::now();
        match self.lease.write(claim(&self.me, &known.shown, Timestamp::now())).await {
            Ok(lease) => {
                known.saw(Some(lease), Moment::now());
                known.rests_until = begun + self.me.timing.retry_period();
                true
            }
            Err(error) => {
                self.failed(known, begun, &error);
                false
            }
        }
    }

    /// What was sent may have arrived or not, and what is there is not what was thought: it has to be looked at.
    fn failed(&self, known: &mut Known, begun: Moment, error: &WriteError) {
        known.shown = Shown::Nothing;
        let (from, rest) = match error {
            // Somebody was faster: there is something to see.
            WriteError::Conflict => (Moment::now(), jitter(0.0, SCATTER)),
            error => {
                tracing::warn!(%error, "the lease cannot be read or written, and is tried again");
                // What was not answered in time has rested enough.
                (begun, jitter(1.0, JITTER))
            }
        };
        known.rests_until = from + self.me.timing.retry_period().mul_f64(rest);
    }

    /// Renews in a task of its own, so that nothing that is done in the term can hold it up.
    fn hold(&self, tenure: Tenure, known: Known) -> Leadership {
        let (term, stop) = (tenure.term().clone(), CancellationToken::new());
        let holder =
            Self { lease: self.lease.clone(), me: self.me.clone(), alive: self.alive.clone(), turn: self.turn };
        let stopped = stop.clone();
        let task = tokio::spawn(async move { holder.renew(tenure, known, stopped).await });
        Leadership { term, holding: Some(Holding { stop, task: AbortOnDropHandle::new(task) }) }
    }

    /// Renews until the term is lost, or until `stop`, and then releases.
    async fn renew(&self, tenure: Tenure, mut known: Known, stop: CancellationToken) {
        loop {
            let now = Moment::now();
            match hold(&self.me, &known, tenure.until(), stop.is_cancelled(), now) {
                Hold::Look => self.look(&mut known).await,
                Hold::Renew => {
                    if self.claim(&mut known).await {
                        tenure.extend(now + self.me.timing.renew_deadline());
                    }
                }
                Hold::Wait(until) => {
                    let pause = sleep(now.until(until));
                    if stop.is_cancelled() {
                        pause.await;
                    } else {
                        tokio::select! {
                            () = pause => {}
                            () = stop.cancelled() => {}
                        }
                    }
                }
                Hold::Release => {
                    drop(tenure);
                    return self.release(&known.shown).await;
                }
                Hold::Lost => {
                    tracing::warn!(identity = self.me.identity, leader = known.holder(), "not leading any more");
                    return;
                }
            }
        }
    }

    async fn release(&self, shown: &Shown) {
        let Shown::There(lease) = shown else { return };
        match self.lease.write(released(lease, Timestamp::now())).await {
            Ok(_) => tracing::info!(identity = self.me.identity, "the lease is released"),
            Err(error) => tracing::warn!(%error, "the lease could not be released, and runs out by itself"),
        }
    }
}

/// Within which part of a retry period those who saw the Lease let go try to take it.
const SCATTER: f64 = 0.2;

fn jitter(least: f64, most: f64) -> f64 {
    rand::rng().random_range(least..most)
}
