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

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

pub use self::operation::Operation;

use self::answer::Answer;
use self::page::Page;
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

/// Whether a secret may be shown.
type Visible<'a> = &'a dyn Fn(&str) -> bool;

/// The body and the headers that operations read.
pub(crate) struct Payload<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) page_size: Option<&'a str>,
    pub(crate) page_cursor: Option<&'a str>,
}

/// Answers one request of an identity that belongs to the domain.
pub(crate) fn answer(context: &mut Context<'_>, call: &Call, payload: &Payload<'_>) -> Result<Answer, Refusal> {
    if call.operation.is_kv2() { kv2::answer(context, call, payload) } else { v2::answer(context, call, payload) }
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

    /// One page of a list, and the cursor of the next. `list` makes the whole list of what a predicate admits, ascending.
    /// Secrets that the identity may not `get` are left out before the page is cut, unless the switch says after.
    fn page(
        &self,
        payload: &Payload<'_>,
        list: impl Fn(Visible<'_>) -> BTreeSet<String>,
    ) -> Result<(Vec<String>, Option<String>), Refusal> {
        let page = Page::parse(payload, self.switches)?;
        let shown = list(&|path| self.grants.allow(Action::SecretGet, Some(path)));
        if self.switches.filter_after_paging {
            let (mut keys, cursor) = page.cut(list(&|_| true).into_iter().collect());
            keys.retain(|key| shown.contains(key));
            Ok((keys, cursor))
        } else {
            Ok(page.cut(shown.into_iter().collect()))
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
