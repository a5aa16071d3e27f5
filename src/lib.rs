//! okms-operator keeps native Kubernetes Secrets equal to secrets in `OVHcloud` OKMS Secret Manager.
//!
//! # The tour
//!
//! ```text
//!  OKMS <──── feed: one ledger per store ─── wakes ──┐      what is wanted, when it is due, what was last seen;
//!             lanes, budget, breaker, withdrawals    v      the only place that calls OKMS
//!  watches ─────────────> reconcile: gather ─> plan (pure) ─> apply ─> report
//!  OkmsSecrets, stores, target metadata                      │          └ status and event, only on a change
//!                                                            └ the one write, only on a difference
//! ```
//!
//! Follow one `OkmsSecret` from its spec to its Secret:
//!
//! 1. [`api`] is what a user writes and reads: the custom resources, the rules that the API server holds them to, the reasons of
//!    their conditions. [`model`] has the words for what it means: a path, a version, a source, a finding.
//! 2. [`controller`] is woken for it, gathers what is known, asks the feed, and has the decision carried out.
//! 3. [`feed`] answers at once, with what is known or with *pending*. Its ledger, a state machine without I/O, decides what to ask
//!    OKMS and when; its driver does the asking, through [`okms`], the client of the KV2 API.
//! 4. [`plan`] decides, as a pure function of what was gathered: what the Secret should hold, whether it may be touched, what the
//!    status says.
//! 5. [`k8s`] carries that out: one guarded write, the status, an event.
//! 6. [`election`] says whether this process may write at all: every write asks its [`k8s::Term`].
//! 7. [`process`] is around all of it: start, probes, metrics, the end. [`cli`] is the command line of the binary.
//!
//! # The rule between rooms
//!
//! Each of these modules is a room, and may use only the rooms that a table in `tests/it/rooms.rs` allows it: what decides does no
//! I/O, what calls OKMS knows no Kubernetes, and what writes to Kubernetes knows no OKMS.

pub mod api;
pub mod cli;
pub mod controller;
pub mod election;
pub mod feed;
pub mod k8s;
pub mod model;
pub mod okms;
pub mod plan;
pub mod process;
