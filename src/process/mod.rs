//! Runs an operator: the start in its order, the admin server beside it, the end.
//!
//! [`Operator::run`] is one operator without anything global, so that a test runs many in one process. What a process has only once
//! (logs, signals, core dumps, the way to the cluster) belongs to [`start`], which the binary uses. Nothing here knows what the
//! operator does.

pub mod admin;
pub mod check;
mod cluster;
mod error;
mod preflight;
mod shutdown;
pub mod start;
pub mod telemetry;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use kube::Client;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub use self::error::{EXIT_CODES, Error};
use crate::controller::{
    self,
    health::{Health, LIVENESS_BOUND},
    metrics::Metrics,
};

/// How long a stop may take: five seconds less than a pod gets by default (`terminationGracePeriodSeconds` 30), so that the
/// process says what it was waiting for before it is killed.
pub const DRAIN: Duration = Duration::from_secs(25);

/// Everything that an operator can be told.
#[derive(Debug, Clone)]
pub struct Config {
    pub controller: controller::Config,
    /// Where `/livez`, `/readyz` and `/metrics` are served; absent: nowhere. Port 0 takes a free one, see [`Operator::address`].
    pub listen: Option<SocketAddr>,
    /// How long a stop may take in all: what is not answered is given up long before, and something hangs if that did not end it.
    pub drain: Duration,
    /// How long nothing may be served before `/livez` fails.
    pub liveness: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { controller: controller::Config::default(), listen: None, drain: DRAIN, liveness: LIVENESS_BOUND }
    }
}

/// An operator that is about to work: it holds its port.
pub struct Operator {
    config: Config,
    client: Client,
    admin: Option<admin::Server>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl Operator {
    /// Works until `cancel`, then drains; every other end is an error.
    ///
    /// Dropping the future ends the operator where it stands.
    pub async fn run(config: Config, client: Client, cancel: CancellationToken) -> Result<(), Error> {
        Self::prepare(config, client).await?.work(cancel).await
    }

    /// Takes the port, so that its address is known before the work begins.
    pub async fn prepare(config: Config, client: Client) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::new());
        let health = Arc::new(Health::new(config.liveness));
        let admin = match config.listen {
            Some(address) => Some(admin::Server::bind(address, &metrics, &health).await?),
            None => None,
        };
        Ok(Self { config, client, admin, metrics, health })
    }

    /// Where the admin server listens, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::Server::address)
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Works until `cancel`, then drains.
    pub async fn work(self, cancel: CancellationToken) -> Result<(), Error> {
        let Self { config, client, admin, metrics, health } = self;
        let controller = controller::run(config.controller, client, metrics, health, cancel.clone());
        // It answers to the last, so that a drain can be watched.
        let admin_cancel = CancellationToken::new();
        // A task of its own, like the controller: work that never yields must not keep probes from being answered.
        let admin = admin.map(|server| AbortOnDropHandle::new(tokio::spawn(server.serve(admin_cancel.clone()))));
        let outcome = supervise(controller, &cancel, config.drain).await;
        admin_cancel.cancel();
        if let Some(admin) = admin {
            admin.await.map_err(|_| Error::Panicked)?;
        }
        outcome
    }
}

/// Ends well only if the controller does after `cancel`, and within `drain` of it.
async fn supervise(
    controller: impl Future<Output = Result<(), controller::Error>> + Send + 'static,
    cancel: &CancellationToken,
    drain: Duration,
) -> Result<(), Error> {
    // A task catches a panic, so that it is an end and not a hang.
    let controller = AbortOnDropHandle::new(tokio::spawn(controller));
    let out_of_time = async {
        cancel.cancelled().await;
        sleep(drain).await;
    };
    tokio::select! {
        ended = controller => match ended {
            Ok(Ok(())) if cancel.is_cancelled() => Ok(()),
            Ok(Ok(())) => Err(Error::EndedEarly),
            Ok(Err(error)) => Err(Error::Controller(error)),
            Err(_) => Err(Error::Panicked),
        },
        () = out_of_time => Err(Error::DrainTimeout { after: drain }),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    fn cancelled() -> CancellationToken {
        let cancel = CancellationToken::new();
        cancel.cancel();
        cancel
    }

    #[tokio::test]
    async fn a_controller_that_ends_when_told_to_is_a_clean_stop() {
        let cancel = CancellationToken::new();
        let told = cancel.clone();
        let controller = async move {
            told.cancelled().await;
            Ok(())
        };
        let (outcome, ()) = tokio::join!(supervise(controller, &cancel, LONG), async { cancel.cancel() });
        outcome.unwrap();
    }

    #[tokio::test]
    async fn a_controller_that_ends_by_itself_is_a_failure() {
        let outcome = supervise(async { Ok(()) }, &CancellationToken::new(), LONG).await;
        assert!(matches!(outcome, Err(Error::EndedEarly)), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_controller_that_panics_is_a_failure_even_while_draining() {
        for cancel in [CancellationToken::new(), cancelled()] {
            let outcome = supervise(async { panic!("on purpose") }, &cancel, LONG).await;
            assert!(matches!(outcome, Err(Error::Panicked)), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn two_operators_in_one_process_share_nothing() {
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let config = Config { listen: Some(([127, 0, 0, 1], 0).into()), ..Config::default() };
        let one = Operator::prepare(config.clone(), client.clone()).await.unwrap();
        let other = Operator::prepare(config, client).await.unwrap();
        assert_ne!(one.address(), other.address());
        one.metrics().change_reached_secret(LONG);
        assert!(one.metrics().encode().contains("okms_change_to_secret_seconds_count 1\n"));
        assert!(other.metrics().encode().contains("okms_change_to_secret_seconds_count 0\n"));
    }

    #[tokio::test]
    async fn a_drain_has_an_end() {
        let outcome = supervise(pending(), &cancelled(), Duration::from_millis(10)).await;
        assert!(matches!(outcome, Err(Error::DrainTimeout { .. })), "{outcome:?}");
    }
}
