//! The simulator over the wire: what a client sees that is not the official SDK.
//!
//! `conformance/` asks every operation through the SDK; these tests cover what it does not reach: TLS refusals, both
//! encodings, errors, paging, switches, faults, counters, the admin port.

#![allow(clippy::unwrap_used, clippy::panic)]

mod client;
mod identity;

/// A simulator with its documented defaults.
async fn start() -> okms_sim::Sim {
    okms_sim::Sim::start(okms_sim::Options::default())
        .await
        .unwrap()
}
