//! The only room that calls OKMS: what is wanted from each store, when it is due, and what came of it.

pub mod ledger;
