//! The wire of both API families: which operation a request is, what it needs, what it answers.
//!
//! Pure: a request's parts go in, an answer or a refusal comes out; no socket, no clock, no fault. `route` finds the
//! operation, `kv2` and `v2` answer it, `fields` reads bodies, `page` cuts lists, `answer` and `refusal` are the way out.

pub(crate) mod answer;
mod fields;
mod kv2;
mod operation;
mod page;
pub(crate) mod refusal;
pub(crate) mod route;
mod v2;

use jiff::Timestamp;
use uuid::Uuid;

pub use self::operation::Operation;

use self::answer::Answer;
use self::page::PageRequest;
use self::refusal::{Code, Refusal};
use self::route::Call;
use crate::grants::{Action, Grants};
use crate::path;
use crate::store::{Data, Lifetime, Store, StoreError, Version};
use crate::switches::Switches;

/// Everything that an operation may look at besides its request.
pub(crate) struct Context<'a> {
    pub(crate) okms_id: Uuid,
    pub(crate) store: &'a mut Store,
    pub(crate) grants: &'a Grants,
    pub(crate) switches: &'a Switches,
    pub(crate) now: Timestamp,
    pub(crate) request_id: &'a str,
}

/// The body and the headers that operations read.
pub(crate) struct Payload<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) page_size: Option<&'a str>,
    pub(crate) page_cursor: Option<&'a str>,
}

/// Answers one request of an identity that belongs to the domain.
pub(crate) fn answer(context: &mut Context<'_>, call: &Call, payload: &Payload<'_>) -> Result<Answer, Refusal> {
    let page = PageRequest::parse(payload, context.switches);
    if call.operation.is_kv2() {
        kv2::answer(context, call, payload.body, page)
    } else {
        v2::answer(context, call, payload.body, page)
    }
}

impl Context<'_> {
    /// Refuses unless the identity may do `action` on `path`.
    fn require(&self, action: Action, path: Option<&str>) -> Result<(), Refusal> {
        if self.grants.allow(action, path) {
            Ok(())
        } else {
            Err(Refusal::new(
                self.switches.denied_status,
                Code::IAM_AUTHORIZATION,
                format!("the identity is not allowed {action}"),
            ))
        }
    }

    fn urn(&self, path: &str) -> String {
        let encoded = path::encoded(path);
        format!("urn:v1:eu:resource:okms:{}/secret/{encoded}", self.okms_id)
    }

    /// A store error as the wire shows it.
    fn refusal(&self, error: StoreError) -> Refusal {
        let (status, code, text) = match error {
            StoreError::SecretMissing => (404, Code::SECRET_NOT_FOUND, "the secret does not exist"),
            StoreError::VersionMissing => {
                (404, Code(self.switches.version_missing_error_code), "the version does not exist")
            }
            StoreError::Exists => {
                (self.switches.exists_status, Code::CONFLICT, "a secret with this path exists already")
            }
            StoreError::CasMismatch => {
                (self.switches.cas_status, Code::CONFLICT, "the cas parameter is not the current version")
            }
            StoreError::CasMissing => (self.switches.cas_status, Code::CONFLICT, "the cas parameter is required"),
            StoreError::VersionsExhausted => (400, Code::ARGUMENT, "the secret has no version number left"),
        };
        Refusal::new(status, code, text)
    }

    /// Refuses data over the limit.
    fn within_limit(&self, data: Data) -> Result<Data, Refusal> {
        match self.switches.max_data_bytes {
            Some(limit) if data.len() > limit => Err(Refusal::new(
                self.switches.oversize_status,
                Code::ARGUMENT,
                format!("the data of a version is limited to {limit} bytes"),
            )),
            _ => Ok(data),
        }
    }

    /// When the version was, or visibly will be, deactivated.
    fn deactivated(&self, version: &Version) -> Option<Timestamp> {
        version.deactivated.filter(|&at| at <= self.now || self.switches.show_pending_deletion)
    }
}

/// The text of a lifetime, `"0s"` where none was set.
fn lifetime_text(lifetime: Option<&Lifetime>) -> &str {
    lifetime.map_or("0s", Lifetime::as_str)
}
