//! What a demo and a benchmark stand on: a cluster, the simulated OKMS, the installed chart, the operator at work.
//!
//! Everything in it ends with the process that made it, whatever way that ends; see `test_cluster::supervise`. Tells nothing:
//! what a user should see of it is shown by who uses it.

pub(crate) mod call;
mod cluster;
pub(crate) mod installation;
pub(crate) mod operator;
mod simulator;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::sleep;

pub(crate) use self::{
    call::Call,
    cluster::{Cluster, Printed},
    installation::Installation,
    operator::Operator,
    simulator::{Calls, Simulator},
};

/// How long a program may take to start. They take well under a second; a busy machine may need longer.
pub(crate) const STARTED: Duration = Duration::from_mins(1);

/// Asks until there is an answer, or until it is too late.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("waited {} seconds for {what}", within.as_secs());
        }
        sleep(Duration::from_millis(20)).await;
    }
}
