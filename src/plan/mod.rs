//! Pure decisions: from what is wanted and what was read to the exact data of the native Secret.
//!
//! Nothing here does I/O, waits or reads a clock; every answer depends on its arguments alone.

mod json;
#[cfg(test)]
mod properties;
mod render;
mod secret_type;
mod wanted;

pub use render::{MAX_DATA_SIZE, RenderError, RenderErrorKind, Rendering, render};
pub use secret_type::SecretType;
pub use wanted::{KeyPlan, KeyRule, ParseError, SecretKey, Selector, SourceSet, TargetShape, Wanted, WantedSource};
