//! The integration tests: the real API server, Helm, the real operator, the simulator. One binary, so that one control plane
//! serves them all.

#![allow(clippy::unwrap_used, clippy::panic)] // A test ends where it cannot go on, also in its helpers.

mod access;
mod admission;
mod again;
mod bad_input;
mod bad_store;
mod bulk;
mod canary;
mod chart;
mod check;
mod churn;
mod cluster;
mod costs;
mod credentials;
mod docs;
mod drift;
mod election;
mod expiry;
mod failover;
mod fairness;
mod fault_table;
mod faults;
mod guard;
mod identities;
mod kept;
mod kstatus;
mod lifecycle;
mod load;
mod merges;
mod moves;
mod okms_client;
mod okms_stores;
mod outages;
mod policy;
mod process;
mod proxied;
mod refresh;
mod rooms;
mod sources;
mod story;
mod tapped;
mod targets;
mod templates;
mod tenant;
mod withdrawals;
mod world;
