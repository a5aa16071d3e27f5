//! Bounds on what a store asks of OKMS.

use std::time::Duration;

use kube::{KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

use super::super::Interval;

/// Bounds on the requests to OKMS.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// How many requests are started in a second, 1 to 1000. Default: 20.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<i32>,

    /// How many requests run at a time, 1 to 64. Default: 8.
    #[schemars(range(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_requests: Option<i32>,

    /// How long one request may take, 1s to 2m. Default: 30s.
    #[x_kube(validation = timeout_range())]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Interval>,
}

fn timeout_range() -> Rule {
    // What is no duration at all is refused by its own rule; here it must not be an error.
    let not_an_interval = format!("!({})", Interval::RULE);
    Rule::new(format!("{not_an_interval} || (duration(self) >= duration('1s') && duration(self) <= duration('2m'))"))
        .message("a timeout is from 1s to 2m: write it like 30s")
}

impl Limits {
    /// Requests started in a second.
    pub fn requests_per_second(&self) -> u32 {
        positive(self.requests_per_second).unwrap_or(20)
    }

    /// Requests under way at a time.
    pub fn concurrent_requests(&self) -> u32 {
        positive(self.concurrent_requests).unwrap_or(8)
    }

    /// For one request, from its start to the last byte of the answer.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(30), Interval::get)
    }
}

fn positive(number: Option<i32>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0)
}
