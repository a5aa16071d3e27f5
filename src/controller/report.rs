//! Says in the status, and in events, what was found and done. The only code that writes the status of an `OkmsSecret`.

use jiff::Timestamp;
use kube::{Api, Resource};

use super::{row::ToWarn, secret::Run};
use crate::{
    api::{
        Interval, OkmsSecretStatus, Reason, SourceSpec, SourceStatus, TargetChange, TargetStatus,
        condition::{self, Statement, Status, kind},
    },
    k8s::WriteError,
    model::{Finding, Mark, Version},
    plan,
};

/// What is to be said of an object.
#[derive(Clone)]
pub(super) struct Said {
    reason: Reason,
    message: String,
    /// What is known of the sources now; absent: nothing newer than what the status says.
    sources: Option<Vec<SourceStatus>>,
    pub target_is_gone: bool,
    /// Said while something is still going on: what somebody asked for is not done yet.
    meanwhile: bool,
}

impl Said {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { reason, message, sources: None, target_is_gone: false, meanwhile: false }
    }

    /// What is said while something is still going on.
    pub fn meanwhile(reason: Reason, message: impl Into<String>) -> Self {
        Self { meanwhile: true, ..Self::new(reason, message) }
    }

    /// Adds what was found out about the sources; `held` is what the target was made from.
    pub fn about(mut self, findings: Option<&[Finding]>, held: &[Option<Mark>]) -> Self {
        self.sources = findings.map(|findings| {
            findings.iter().zip(held).map(|(finding, held)| source_status(finding, held.as_ref())).collect()
        });
        self
    }
}

/// A version as the status has it.
fn number(version: Version) -> i32 {
    i32::try_from(version.get()).unwrap_or(i32::MAX)
}

fn source_status(finding: &Finding, held: Option<&Mark>) -> SourceStatus {
    let version =
        held.map(|mark| mark.version).or(finding.verdict.mark().map(|mark| mark.version)).or(finding.source.pin);
    let (state, deactivates_at) = match plan::source_state(finding, held.is_some()) {
        Some((state, at)) => (Some(state.to_owned()), at.map(condition::time)),
        None => (None, None),
    };
    SourceStatus {
        path: finding.source.path.to_string(),
        version: version.map(number),
        current_version: finding.current.map(number),
        state,
        deactivates_at,
    }
}

impl Run<'_> {
    /// Takes in what the watch shows of the status.
    pub(super) fn catch_up(&mut self) {
        self.row.status.catch_up(self.object.status.as_ref());
        self.warn();
    }

    /// Whether the status names as active what the target was made from, and nothing else. It does not where somebody wrote the target and
    /// then no status any more.
    pub(super) fn names(&self, held: &[Option<Mark>]) -> bool {
        let sources = self.last_status().and_then(|status| status.sources.as_deref()).unwrap_or_default();
        let names = |(source, held): (&SourceStatus, &Option<Mark>)| {
            let named = source.version.filter(|_| source.state.as_deref() == Some(plan::ACTIVE));
            named == held.map(|held| number(held.version))
        };
        sources.len() == held.len() && sources.iter().zip(held).all(names)
    }

    /// The status as it is.
    pub(super) fn last_status(&self) -> Option<&OkmsSecretStatus> {
        self.row.status.or(self.object.status.as_ref())
    }

    /// Writes the status, if it changes, and an event where something begins to fail.
    pub(super) async fn say(&mut self, said: Said) -> Result<(), WriteError> {
        let old = self.last_status();
        let new = self.status(old.cloned().unwrap_or_default(), &said);
        if old == Some(&new) {
            self.row.unsaid = None;
            return Ok(());
        }
        let before = old.and_then(|status| condition::find(&status.conditions, kind::READY));
        let begins = before.is_none_or(|ready| ready.reason != said.reason.as_str());
        let fails = !matches!(said.reason, Reason::Synced | Reason::Progressing | Reason::Suspended);
        let began = (begins && fails).then_some(said.reason);
        if said.meanwhile {
            self.row.to_warn.meanwhile = began;
        } else {
            self.row.to_warn = ToWarn { said: began, meanwhile: None };
        }
        self.write_status(new).await?;
        self.row.unsaid = None;
        tracing::info!(reason = said.reason.as_str(), "{}", said.message);
        self.warn();
        Ok(())
    }

    /// Tells of what began to fail, now that the status says it.
    fn warn(&mut self) {
        let status = self.row.status.or(self.object.status.as_ref());
        let Some(ready) = status.and_then(|status| condition::find(&status.conditions, kind::READY)) else { return };
        if self.row.to_warn.take(&ready.reason) {
            let reference = self.object.object_ref(&());
            self.context.events.failing(&self.context.term, reference, &ready.reason, &ready.message);
        }
    }

    pub(super) async fn write_status(&mut self, new: OkmsSecretStatus) -> Result<(), WriteError> {
        let context = self.context;
        let api = Api::namespaced(context.client.clone(), &self.id.namespace);
        match self.row.status.write(&context.term, &api, self.object, new).await {
            Err(WriteError::Conflict) => Err(WriteError::Outdated),
            written => written,
        }
    }

    /// Tells people what was done to the target.
    pub(super) fn tell_change(&self, change: TargetChange, note: &str) {
        tracing::info!(change = change.as_str(), "{note}");
        self.context.events.changed(&self.context.term, self.object.object_ref(&()), change, note);
    }

    fn status(&self, mut status: OkmsSecretStatus, said: &Said) -> OkmsSecretStatus {
        let now = Timestamp::now();
        let name = self.object.store_name();
        let store = self.context.store(&name);
        status.observed_generation = self.generation;
        status.store = Some(name.to_string());
        status.refresh_interval =
            Some(self.interval(store.as_ref()).map_or(Interval::from_secs(0), Interval::from).to_string());
        if let Some(sources) = &said.sources {
            status.sources = Some(sources.clone());
        }
        status.summary = Some(summary(status.sources.as_deref(), &self.object.spec.sources()));
        let keys = match &self.row.target {
            _ if said.target_is_gone => 0,
            Some(known) => known.keys,
            None => status.target.as_ref().and_then(|target| usize::try_from(target.keys).ok()).unwrap_or(0),
        };
        status.target =
            Some(TargetStatus { name: self.object.target_name(), keys: i32::try_from(keys).unwrap_or(i32::MAX) });
        if let Some(changed) = self.row.changed {
            status.last_sync_time = Some(condition::time(changed));
        }
        if let Some(refresh) = self.row.refresh.as_ref().filter(|_| !said.meanwhile) {
            status.last_handled_refresh = Some(refresh.value.clone());
        }
        let ready = match said.reason {
            Reason::Synced => Status::True,
            Reason::Suspended => Status::Unknown,
            _ => Status::False,
        };
        let statement = Statement { status: ready, reason: said.reason.as_str(), message: said.message.clone() };
        condition::set_ready(&mut status.conditions, statement, said.reason.progress(), self.generation, now);
        status
    }
}

/// The first source with its version, where it is known, and how many more there are.
fn summary(known: Option<&[SourceStatus]>, asked: &[SourceSpec]) -> String {
    let known = known.unwrap_or_default();
    let first = match known.first() {
        Some(SourceStatus { path, version: Some(version), .. }) => format!("{path}@{version}"),
        Some(source) => source.path.clone(),
        None => asked.first().map(|source| source.path.clone()).unwrap_or_default(),
    };
    match known.len().max(asked.len()) {
        0 | 1 => first,
        more => format!("{first} +{}", more - 1),
    }
}
