//! Pure decisions: from what is wanted and what was read to the exact data of the native Secret.
//!
//! Nothing here does I/O, waits or reads a clock; every answer depends on its arguments alone.

mod json;
