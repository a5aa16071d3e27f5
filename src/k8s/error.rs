//! How a write can fail, as far as the next step depends on it.

use std::{error::Error as _, iter};

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
    #[error("the API server does not answer: {0}")]
    Unavailable(String),
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(status) => match status.code {
                404 | 409 => Self::Conflict,
                // Not its words: a webhook that fails may quote what it was asked about.
                408 | 429 | 500.. => Self::Unavailable(format!("status {} {}", status.code, status.reason)),
                _ => Self::Refused(sentence(&status)),
            },
            // It quotes what it could not read.
            Error::SerdeError(_) => Self::Unavailable("its answer cannot be understood".to_owned()),
            other => Self::Unavailable(causes(&other)),
        }
    }
}

/// The error and everything below it, in one line.
fn causes(error: &Error) -> String {
    let below = iter::successors(error.source(), |&error| error.source());
    below.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The API server's own words; an admission policy's sentence is the only thing that helps here.
fn sentence(status: &Status) -> String {
    if status.message.is_empty() { status.reason.clone() } else { status.message.clone() }
}
