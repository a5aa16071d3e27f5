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
#[cfg(test)]
mod random;
mod render;
mod secret_type;
mod target;
mod template;
mod wanted;

pub use access::{Namespace, grants};
pub use decide::{ACTIVE, Decision, Known, Snapshot, decide, source_state};
pub use fingerprint::{Fingerprint, Fingerprinter};
pub use parse::wanted;
pub use render::{MAX_DATA_SIZE, RenderError, RenderErrorKind, Rendering, render};
pub use secret_type::SecretType;
pub use target::{
    Claim, Condition, Content, Leftover, Owner, Ownership, Written, claimants, keep_claimants, other_writer, taken_out,
    type_of,
};
pub use template::{
    FunctionDoc, FunctionKind, Renderer, TemplateError, TemplateErrorKind, functions as template_functions,
};
pub use wanted::{
    KeyPlan, KeyRule, ParseError, Place, SecretKey, Selector, SourceSet, TargetShape, Templates, Wanted, WantedSource,
};
