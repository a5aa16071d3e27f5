//! Counters and the log: what clients asked for, when, and what it cost.
//!
//! Only ever grow, until reset. Nothing in here is a value of a secret; paths are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde::Serialize;

use crate::wire::Operation;

/// A copy of the counters at one moment.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Requests by operationId and path (empty: no path), counted on arrival, faults or not.
    #[serde(serialize_with = "rows")]
    pub requests: BTreeMap<(String, String), u64>,
    /// Requests by identity: the serial of the certificate, the client id of the service account, or `token`, or `anonymous`.
    pub identities: BTreeMap<String, u64>,
    /// Answers by status; resets are not among them.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers that carried the data of a secret.
    pub data_reads: u64,
    /// TCP connections accepted.
    pub connections: u64,
    /// TLS handshakes completed.
    pub handshakes: u64,
    /// TLS handshakes that failed, whoever gave up.
    pub handshakes_refused: u64,
    /// Bytes received and sent on TCP, TLS included.
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Counters {
    /// Requests of an operation, on all paths.
    pub fn of(&self, operation: &str) -> u64 {
        self.requests.iter().filter(|((name, _), _)| name == operation).map(|(_, count)| count).sum()
    }

    /// Requests on a path, of all operations.
    pub fn on(&self, path: &str) -> u64 {
        self.requests.iter().filter(|((_, requested), _)| requested == path).map(|(_, count)| count).sum()
    }

    /// Requests of an operation on a path.
    pub fn of_on(&self, operation: &str, path: &str) -> u64 {
        self.requests.get(&(operation.to_owned(), path.to_owned())).copied().unwrap_or(0)
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Requests with the certificate of this serial, or with an access token of this service account.
    pub fn by(&self, serial: &str) -> u64 {
        self.identities.get(serial).copied().unwrap_or(0)
    }

    pub(crate) fn request(&mut self, operation: Operation, path: Option<&str>, identity: &str) {
        let key = (operation.to_string(), path.unwrap_or_default().to_owned());
        *self.requests.entry(key).or_default() += 1;
        *self.identities.entry(identity.to_owned()).or_default() += 1;
    }

    pub(crate) fn answer(&mut self, status: u16, has_data: bool) {
        *self.statuses.entry(status).or_default() += 1;
        self.data_reads += u64::from(has_data);
    }
}

/// How many arrivals are remembered; the oldest are forgotten first.
const REMEMBERED: usize = 1 << 16;

/// One request, as it arrived, faults or not.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Instant,
    pub operation: Operation,
    /// Empty: no path.
    pub path: String,
}

/// The last requests, in the order of their arrival.
#[derive(Default)]
pub(crate) struct Arrivals(VecDeque<Arrival>);

impl Arrivals {
    pub(crate) fn add(&mut self, operation: Operation, path: Option<&str>) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        let path = path.unwrap_or_default().to_owned();
        self.0.push_back(Arrival { at: Instant::now(), operation, path });
    }

    pub(crate) fn all(&self) -> Vec<Arrival> {
        self.0.iter().cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

fn rows<S: serde::Serializer>(requests: &BTreeMap<(String, String), u64>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        operation: &'a str,
        path: &'a str,
        count: u64,
    }
    serializer.collect_seq(requests.iter().map(|((operation, path), &count)| Row { operation, path, count }))
}
