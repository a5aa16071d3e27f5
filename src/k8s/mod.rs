//! Executes plans against Kubernetes: watches, the one write to a target, statuses, events.
//!
//! It decides nothing and knows no OKMS. Every write takes a [`Term`], the proof that this process may write, and asks it right before it
//! is sent; only the writes of the lease, which make a term, do without. Every write to a target carries the uid and resourceVersion of
//! the target that the decision was made about: a late or paused writer loses.

mod client;
mod error;
mod events;
mod lease;
mod moment;
mod status;
mod targets;
mod term;
mod watch;

pub use client::client;
pub use error::{Busy, WriteError};
pub use events::Events;
pub use lease::LeaseLock;
pub use moment::Moment;
pub use status::LastStatus;
pub use targets::{ConfigMaps, Targets};
pub use term::{Tenure, Term};
pub use watch::{Scope, Seen, Watch, watch_named};
