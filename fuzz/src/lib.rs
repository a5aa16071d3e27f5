//! What the fuzz targets share: the canary that no error may hold, and the parts of an input.
//!
//! Inputs are text as far as they can be, so that seeds can be read and written by people. Next: the targets, in `fuzz_targets/`.

pub mod grammar;

/// Stands for a secret. Digits, so that it is a number, a text, a Base64 text and a part of any of these; in 64 bits, so that it is
/// an integer too.
pub const CANARY: &str = "7734599301826457";

/// How many bytes of the canary in a row are a leak. An error may have been cut within it.
const PART: usize = 8;

/// Whether a text holds a part of the canary.
pub fn leaks(text: &[u8]) -> bool {
    text.windows(PART).any(|window| CANARY.as_bytes().windows(PART).any(|part| part == window))
}

/// Puts the canary where an input says `@`.
pub fn planted(text: &[u8]) -> Vec<u8> {
    let pieces: Vec<_> = text.split(|byte| *byte == b'@').collect();
    pieces.join(CANARY.as_bytes())
}

/// Fails, with all that is known, where an error holds a part of the canary.
#[track_caller]
pub fn assert_silent(error: &impl std::fmt::Debug, message: &str) {
    assert!(!leaks(message.as_bytes()), "an error holds a value: {message}");
    assert!(!leaks(format!("{error:?}").as_bytes()), "the Debug of an error holds a value: {error:?}");
}
