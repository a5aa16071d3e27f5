//! The proof that this process may write.
//!
//! A [`Term`] runs until a moment that its [`Tenure`] moves on with each renewal of the lease, and ends for good when that is over. It is
//! asked right before a request is sent, on a clock that a pause does not stop, so that a process that slept through the end of its term
//! finds it ended, whoever else has noticed by then.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Moment, WriteError};

/// Leadership for a while. Every function that writes to the cluster takes one, so that no write can be added without it.
#[derive(Debug, Clone)]
pub struct Term(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// A [`Moment`], in nanoseconds.
    until: AtomicU64,
    ended: CancellationToken,
}

impl Term {
    /// For a process that was told to be the only instance there is. It does not end.
    pub fn of_the_only_instance() -> Self {
        Self(Arc::new(Shared { until: AtomicU64::new(u64::MAX), ended: CancellationToken::new() }))
    }

    pub fn is_running(&self) -> bool {
        self.until().is_some()
    }

    /// Whether it runs for so long, if nothing is renewed.
    pub fn lasts(&self, time: Duration) -> bool {
        self.until().is_some_and(|until| Moment::now().until(until) > time)
    }

    /// Until when it runs, if nothing is renewed; `None` once it has ended.
    fn until(&self) -> Option<Moment> {
        if self.0.ended.is_cancelled() {
            return None;
        }
        let until = Moment::from_nanos(self.0.until.load(Ordering::Acquire));
        if Moment::now() < until {
            return Some(until);
        }
        // For good: nobody may find it running who comes later.
        self.0.ended.cancel();
        None
    }

    /// Waits until it has ended. Needs nobody who ends it.
    pub async fn ended(&self) {
        while let Some(until) = self.until() {
            tokio::select! {
                () = self.0.ended.cancelled() => {}
                () = sleep(Moment::now().until(until)) => {}
            }
        }
    }

    /// Sends a request if the term runs, and gives it up when the term ends: it may have arrived or not.
    pub(super) async fn send<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, WriteError> {
        let (mut request, mut ended) = (pin!(request), pin!(self.ended()));
        // Looked at before each step, because a request waits for a connection, and for a token, before it is sent.
        poll_fn(|context| {
            if ended.as_mut().poll(context).is_ready() || !self.is_running() {
                return Poll::Ready(Err(WriteError::NotLeading));
            }
            request.as_mut().poll(context).map_err(WriteError::from)
        })
        .await
    }
}

/// Who holds this decides how long a [`Term`] runs. Dropping it ends the term.
#[derive(Debug)]
pub struct Tenure(Term);

impl Tenure {
    pub fn new(until: Moment) -> Self {
        Self(Term(Arc::new(Shared { until: AtomicU64::new(until.to_nanos()), ended: CancellationToken::new() })))
    }

    pub fn term(&self) -> &Term {
        &self.0
    }

    /// Until when the term runs; `None` once it has ended.
    pub fn until(&self) -> Option<Moment> {
        self.0.until()
    }

    /// Has the term run on. One that has ended stays so.
    pub fn extend(&self, until: Moment) {
        if self.0.is_running() {
            self.0.0.until.fetch_max(until.to_nanos(), Ordering::AcqRel);
        }
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.0.0.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    fn tenure(time: Duration) -> Tenure {
        Tenure::new(Moment::now() + time)
    }

    #[tokio::test]
    async fn a_running_term_sends_what_is_to_be_sent() {
        assert_eq!(Term::of_the_only_instance().send(ready(Ok(1))).await.unwrap(), 1);
        let tenure = tenure(LONG);
        assert_eq!(tenure.term().send(ready(Ok(1))).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn after_its_end_nothing_is_even_begun() {
        let never = || async { panic!("it was begun") };
        let (over, dropped) = (tenure(Duration::ZERO), tenure(LONG).term().clone());
        for term in [over.term(), &dropped] {
            let sent: Result<(), _> = term.send(never()).await;
            assert!(matches!(sent, Err(WriteError::NotLeading)));
            term.ended().await;
        }
    }

    #[tokio::test]
    async fn what_is_under_way_is_given_up_at_the_end() {
        let tenure = tenure(LONG);
        let term = tenure.term().clone();
        let (sent, ()) = tokio::join!(term.send(pending::<Result<(), _>>()), async { drop(tenure) });
        assert!(matches!(sent, Err(WriteError::NotLeading)));
        // By the clock alone, though nobody ends it.
        let short = Tenure::new(Moment::now() + Duration::from_millis(1));
        assert!(matches!(short.term().send(pending::<Result<(), _>>()).await, Err(WriteError::NotLeading)));
    }

    #[tokio::test]
    async fn a_renewal_extends_what_runs_and_revives_nothing() {
        let running = tenure(LONG);
        let until = running.until().unwrap();
        running.extend(until + LONG);
        assert_eq!(running.until(), Some(until + LONG));
        running.extend(until);
        assert_eq!(running.until(), Some(until + LONG), "a late answer takes nothing back");

        let over = tenure(Duration::ZERO);
        over.extend(Moment::now() + LONG);
        assert_eq!(over.until(), None);
    }
}
