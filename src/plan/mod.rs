//! Pure decisions: from what is wanted and what was read to the exact data of the native Secret.
//!
//! Nothing here does I/O, waits, reads a clock or draws a random number but the key of [`Fingerprinter`]; every answer depends on its
//! arguments alone. Start with [`Wanted`] (what an `OkmsSecret` asks for), then [`render()`] (the data that makes of it).

mod access;
mod decide;
#[cfg(test)]
mod decisions;
mod decode;
mod fingerprint;
mod json;
mod parse;
#[cfg(test)]
mod properties;
mod render;
mod secret_type;
mod target;
mod wanted;

pub use access::grants;
pub use decide::{Decision, Known, Snapshot, decide, source_state};
pub use fingerprint::{Fingerprint, Fingerprinter};
pub use parse::wanted;
pub use render::{MAX_DATA_SIZE, RenderError, RenderErrorKind, Rendering, render};
pub use secret_type::SecretType;
pub use target::{
    Condition, Owner, Ownership, Written, condition, desired, differs, evidence, fingerprint, is_dressed,
    only_we_wrote_data, ownership,
};
pub use wanted::{
    KeyPlan, KeyRule, ParseError, Place, SecretKey, Selector, SourceSet, TargetShape, Wanted, WantedSource,
};
