//! Pages: `X-Pagination-Size` and `X-Pagination-Cursor` in, `X-Pagination-Cursor-Next` out.
//!
//! A cursor is the base64url of the last key delivered (OpenAPI 2.14.0 says base64url, not of what). What
//! an identity may see of a list is `Context::page`'s business.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::Payload;
use super::refusal::Refusal;
use crate::switches::{ListOrder, Switches};

const MIN_SIZE: usize = 10;
const DEFAULT_SIZE: usize = 100;

pub(crate) struct Page {
    size: usize,
    after: Option<String>,
    order: ListOrder,
}

impl Page {
    pub(crate) fn parse(payload: &Payload<'_>, switches: &Switches) -> Result<Self, Refusal> {
        let largest = switches.max_page_size;
        let size = match payload.page_size {
            None => DEFAULT_SIZE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|size| (MIN_SIZE..=largest).contains(size))
                .ok_or_else(|| Refusal::argument(format!("a page has {MIN_SIZE} to {largest} entries")))?,
        };
        let after = payload
            .page_cursor
            .map(|cursor| {
                BASE64_URL_SAFE_NO_PAD
                    .decode(cursor)
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .ok_or_else(|| Refusal::argument("the page cursor is not one of this server"))
            })
            .transpose()?;
        Ok(Self { size, after, order: switches.list_order })
    }

    /// The page's part of `keys`, which ascend, and the cursor of the next page.
    pub(crate) fn cut(&self, mut keys: Vec<String>) -> (Vec<String>, Option<String>) {
        if self.order == ListOrder::Descending {
            keys.reverse();
        }
        if let Some(after) = &self.after {
            keys.retain(|key| match self.order {
                ListOrder::Ascending => key > after,
                ListOrder::Descending => key < after,
            });
        }
        let more = keys.len() > self.size;
        keys.truncate(self.size);
        let cursor = keys.last().filter(|_| more).map(|last| BASE64_URL_SAFE_NO_PAD.encode(last));
        (keys, cursor)
    }
}
