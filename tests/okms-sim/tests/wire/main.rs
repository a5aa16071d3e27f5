//! The simulator over the wire: what a client sees that is not the official SDK.
//!
//! `conformance/` asks every operation through the SDK; these tests cover what it does not reach: TLS refusals, both
//! encodings, errors, paging, switches, faults, counters, the admin port.

#![allow(clippy::unwrap_used, clippy::panic)] // Clippy allows them in test functions, not in what these share.

mod admin;
mod client;
mod faults;
mod identity;
mod life;
mod secrets;
mod switches;
mod tokens;

/// A simulator with its documented defaults, its first domain, and a client that may do everything there.
async fn started() -> (okms_sim::Sim, okms_sim::Domain, client::Client) {
    let sim = okms_sim::Sim::start(okms_sim::Options::default()).await.unwrap();
    let domain = sim.domain();
    let client = client::Client::of(&sim, &domain);
    (sim, domain, client)
}
