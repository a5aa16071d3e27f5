//! How a write can fail, as far as the next step depends on it.

use kube::{Error, core::Status};

/// Why a write was not made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The object is not what the decision was made about: look again.
    #[error("the object changed in the meantime")]
    Conflict,
    /// The API server does not want it, now and later.
    #[error("the API server refuses it: {0}")]
    Refused(String),
    /// The API server cannot be reached, or is busy.
    #[error("the API server does not answer")]
    Unavailable(#[source] Box<Error>),
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(status) => match status.code {
                404 | 409 => Self::Conflict,
                408 | 429 | 500.. => Self::Unavailable(Box::new(Error::Api(status))),
                _ => Self::Refused(sentence(&status)),
            },
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

/// The API server's own words; an admission policy's sentence is the only thing that helps here.
fn sentence(status: &Status) -> String {
    if status.message.is_empty() { status.reason.clone() } else { status.message.clone() }
}
