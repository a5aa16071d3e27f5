//! Checks that somebody asks for, by setting the annotation `okms-operator.io/refresh` of an `OkmsSecret` to a new value.
//!
//! Each new value is acted on once, at most one in ten seconds and object; the status then shows it as `lastHandledRefresh`.

use std::time::{Duration, Instant};

use super::{row::Refresh, secret::Run};
use crate::{api::names, k8s::WriteError};

impl Run<'_> {
    /// Takes up what is asked for, if that is new; answers how long it still has to wait.
    pub(super) fn take_refresh(&mut self, now: Instant) -> Option<Duration> {
        let asked = self.object.metadata.annotations.as_ref()?.get(names::REFRESH_ANNOTATION)?;
        let asked: String = asked.chars().take(MAX_SHOWN).collect();
        let handled = self.last_status().and_then(|status| status.last_handled_refresh.as_ref());
        if handled == Some(&asked) || self.row.refresh.as_ref().is_some_and(|refresh| refresh.value == asked) {
            return None;
        }
        let last = self.row.refresh.as_ref().map(|refresh| refresh.at);
        let bound = self.context.config.min_refresh_request;
        if let Some(wait) = last.and_then(|last| bound.checked_sub(now.duration_since(last)))
            && !wait.is_zero()
        {
            return Some(wait);
        }
        self.row.refresh = Some(Box::new(Refresh { value: asked, at: now }));
        self.row.refreshes = self.row.refreshes.wrapping_add(1);
        None
    }

    /// What was asked for has been looked at, whatever came of it.
    pub(super) async fn acknowledge_refresh(&mut self) -> Result<(), WriteError> {
        let Some(refresh) = &self.row.refresh else { return Ok(()) };
        let mut new = self.last_status().cloned().unwrap_or_default();
        if new.last_handled_refresh.as_ref() == Some(&refresh.value) {
            return Ok(());
        }
        new.last_handled_refresh = Some(refresh.value.clone());
        self.write_status(new).await
    }
}

/// The longest value that a status shows, in characters; of a longer one the beginning counts.
const MAX_SHOWN: usize = 256;
