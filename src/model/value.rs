//! The value of a secret, the one thing that must never be seen.

use std::sync::Arc;

use zeroize::Zeroizing;

/// The data of one version of a secret: the text of a JSON object as OKMS sent it, or `null` for a version that was written without data.
///
/// It is shared, never copied, and overwritten when its last user drops it. It has neither `Debug` nor `Display`, so that it cannot
/// be logged by mistake; a struct that holds one cannot derive them.
#[derive(Clone)]
pub struct Value(Arc<Zeroizing<Vec<u8>>>);

impl Value {
    /// Takes the text of a JSON object. The caller has checked that it is one.
    pub fn from_json_object(text: Zeroizing<Vec<u8>>) -> Self {
        Self(Arc::new(text))
    }

    /// A version that was written without data, which OKMS allows (OpenAPI 2.14.0: `data` is an object or null).
    pub fn null() -> Self {
        Self(Arc::new(Zeroizing::new(b"null".to_vec())))
    }

    pub fn is_null(&self) -> bool {
        self.0.as_slice() == b"null"
    }

    /// The text. Never log it, never put it into an error.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes this holds in memory.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}
