//! How a write can fail, as far as the next step depends on it.

use std::{collections::BTreeSet, error::Error as _, iter, time::Duration};

use kube::{
    Error,
    core::{Status, response::StatusCause},
};

/// Why a write was not made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The object is not what the decision was made about: look again.
    #[error("the object changed in the meantime")]
    Conflict,
    /// The decision was made about something older than the API server has, because a watch is behind: it wakes the object when it is not.
    #[error("the object changed in the meantime, which the operator has not been told yet")]
    Outdated,
    /// Fields of an applied part belong to others.
    #[error("{} of it belong to {}", fields.join(", "), managers.join(", "))]
    Contested { managers: Vec<String>, fields: Vec<String> },
    /// The API server does not want it, now and later.
    #[error("the API server refuses it: {0}")]
    Refused(String),
    /// This process does not lead, or not any more: whoever does looks after it.
    #[error("this process does not lead any more")]
    NotLeading,
    /// Nothing was sent: what the write follows from is not certain now.
    #[error("{0}")]
    Postponed(String),
    /// The API server cannot be reached, or is busy.
    #[error("the API server does not answer: {why}")]
    Unavailable { why: String, retry_after: Option<Duration> },
}

/// The API server answered with a failure and `Retry-After`, which is how it turns requests away that are too many (429), and asks for
/// patience while it starts or stops (503).
#[derive(Debug, thiserror::Error)]
#[error("status {status}, with the request to try again after {} s", retry_after.as_secs())]
pub struct Busy {
    pub status: u16,
    pub retry_after: Duration,
}

impl WriteError {
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable { why: why.into(), retry_after: None }
    }

    /// How long the API server asked to be left alone, of which no more than `most` is granted.
    pub fn retry_after(&self, most: Duration) -> Duration {
        if let Self::Unavailable { retry_after: Some(asked), .. } = self { most.min(*asked) } else { Duration::ZERO }
    }
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(status) => match status.code {
                409 if !contests(&status).is_empty() => contested(&status),
                404 | 409 => Self::Conflict,
                // Not its words: a webhook that fails may quote what it was asked about.
                408 | 429 | 500.. => Self::unavailable(format!("status {} {}", status.code, status.reason)),
                _ => Self::Refused(sentence(&status)),
            },
            // It quotes what it could not read.
            Error::SerdeError(_) => Self::unavailable("its answer cannot be understood"),
            Error::Service(error) if error.is::<Busy>() => {
                let retry_after = error.downcast_ref().map(|busy: &Busy| busy.retry_after);
                Self::Unavailable { why: error.to_string(), retry_after }
            }
            other => Self::unavailable(causes(&other)),
        }
    }
}

fn contests(status: &Status) -> Vec<&StatusCause> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.filter(|cause| cause.reason == "FieldManagerConflict").collect()
}

/// Each cause names a field and, in a sentence such as `conflict with "kubectl-edit" using v1`, its manager.
fn contested(status: &Status) -> WriteError {
    let causes = contests(status);
    let managers = causes.iter().filter_map(|cause| cause.message.split('"').nth(1)).map(str::to_owned);
    let managers: BTreeSet<String> = managers.collect();
    let fields = causes.iter().map(|cause| cause.field.trim_start_matches('.').to_owned()).collect();
    WriteError::Contested { managers: managers.into_iter().collect(), fields }
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
