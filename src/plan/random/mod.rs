//! Tries what this room promises on random specs, secrets and targets, well formed ones and others.
//!
//! [`specs`] and [`answers`] make them, [`server`] is the API server as far as it matters. What is promised is in [`decisions`] (what may
//! be deleted or said), [`writes`] (what is written, and that once is enough), [`whose`] (what is ours) and [`total`] (nothing panics).

mod answers;
mod decisions;
mod server;
mod specs;
mod total;
mod whose;
mod writes;

use super::{Claim, Owner, Wanted};

const OWNER: &str = "db";
const UID: &str = "uid-1";

fn owner() -> Owner {
    Owner { name: OWNER.into(), uid: UID.into() }
}

fn claim(wanted: Wanted) -> Claim {
    let okms_id = "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb".parse().unwrap();
    Claim { owner: owner(), namespace: "shop".into(), wanted, okms_id, predecessors: Vec::new() }
}
