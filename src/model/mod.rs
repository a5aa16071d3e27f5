//! The words that every other room speaks: paths, versions, sources, values and what was found out about them.
//!
//! Nothing here does I/O, reads a clock or knows Kubernetes or HTTP. Types are parsed once, at the edge, and cannot be wrong
//! afterwards. Start with [`Source`] (what is asked for) and [`Finding`] (what came of it).

mod finding;
pub mod glob;
pub mod iam;
mod listing;
mod source;
mod store;
mod value;

pub use finding::{Facts, Finding, Reading, State, Trouble, TroubleKind, Verdict, VersionFacts, Withdrawal};
pub use listing::{Cursor, Listed, Page};
pub use source::{Evidence, Mark, OkmsId, ParseError, Path, Source, Version};
pub use store::{StoreName, StoreTrouble, StoreTroubleKind};
pub use value::Value;
