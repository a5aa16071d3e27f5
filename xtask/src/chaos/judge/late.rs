//! Whether what a status says lags behind what OKMS holds: longer than two checks take, while nothing stood in the way of this object's
//! own paths. A fault on another path excuses nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Findings, Rule, Violation,
    calm::{Recovery, between, earlier},
    okms::Meaning,
    past::{Past, SLOW},
    ready::{condition, duration},
    render::render,
    wanted::Wanted,
};
use crate::chaos::{
    action::Key,
    history::{Change, Kind, text},
};

/// How much longer than two intervals a change may take to arrive where nothing stands in its way.
const ARRIVES: Duration = Duration::from_secs(20);

/// Reasons that follow from what OKMS holds or answers. Others, such as that the target is somebody else's, may hold at any time.
const OF_OKMS: [&str; 20] = [
    "Progressing",
    "StoreNotReady",
    "OkmsUnavailable",
    "UnexpectedAnswer",
    "Forbidden",
    "PathNotFound",
    "VersionNotFound",
    "NoVersion",
    "SecretDeleted",
    "VersionDeactivated",
    "VersionDestroyed",
    "VersionPruned",
    "WithdrawalUnconfirmed",
    "KeyNotFound",
    "KeyConflict",
    "DecodeFailed",
    "EmptySource",
    "TemplateFailed",
    "InvalidForType",
    "InvalidKey",
];

/// Those after which OKMS is asked again more and more seldom.
const SLOWLY: [&str; 5] = ["PathNotFound", "VersionNotFound", "NoVersion", "SecretDeleted", "WithdrawalUnconfirmed"];

/// How much too long something was so, if it was: the time that counted, where it is more than what is allowed.
pub(super) fn excess(
    past: &Past<'_>,
    wanted: &Wanted,
    interval: Duration,
    more: Duration,
    (since, at): (Timestamp, Timestamp),
) -> Option<Duration> {
    let allowed = interval * 2 + ARRIVES + more;
    // Most of what is asked is not even old enough for that.
    let counted = (between(since, at) > allowed).then(|| past.untroubled(&wanted.paths()).between(since, at))?;
    (counted > allowed).then_some(counted)
}

/// Goes through the changes in their order, and holds every status that says what is wrong in OKMS against what was in OKMS.
#[derive(Default)]
pub(super) struct Watch(HashMap<Key, Unready>);

/// A status that is not Ready=True.
struct Unready {
    since: Timestamp,
    uid: String,
    generation: i64,
    reason: String,
    object: Arc<Value>,
}

impl Watch {
    pub(super) fn see(&mut self, past: &Past<'_>, findings: &mut Findings, change: &Change) {
        if change.kind != Kind::OkmsSecret {
            return;
        }
        let before = self.0.remove(&change.key);
        if let Some(before) = &before {
            before.judge(past, findings, change.at);
        }
        let Some(mut now) = Unready::of(change) else { return };
        if let Some(before) = before
            && (&before.uid, before.generation, &before.reason) == (&now.uid, now.generation, &now.reason)
        {
            now.since = before.since;
        }
        self.0.insert(change.key.clone(), now);
    }

    /// The history ends.
    pub(super) fn end(&self, past: &Past<'_>, findings: &mut Findings, at: Timestamp) {
        for unready in self.0.values() {
            unready.judge(past, findings, at);
        }
    }
}

impl Unready {
    fn of(change: &Change) -> Option<Self> {
        let object = change.object.as_ref()?;
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64)?;
        let ready = condition(object, "Ready")?;
        let reason = text(ready, "/reason");
        let observed = ready.get("observedGeneration").and_then(Value::as_i64) == Some(generation);
        (observed && text(ready, "/status") == "False" && OF_OKMS.contains(&reason)).then(|| Self {
            since: change.at,
            uid: change.uid.clone(),
            generation,
            reason: reason.to_owned(),
            object: Arc::clone(object),
        })
    }

    fn judge(&self, past: &Past<'_>, findings: &mut Findings, at: Timestamp) {
        let wanted = Wanted::of(&self.object);
        let interval = duration(text(&self.object, "/status/refreshInterval"));
        if interval.is_zero() || wanted.suspended {
            return;
        }
        let Some(readable) = readable_since(past, &wanted, at) else { return };
        let more = if SLOWLY.contains(&self.reason.as_str()) {
            let missing = wanted.sources.iter().map(|source| past.missing_before(&source.path, source.pin, readable));
            Recovery::waits(SLOW, missing.max().unwrap_or_default())
        } else {
            Duration::ZERO
        };
        let since = readable.max(self.since);
        findings.check(Rule::Late, || {
            excess(past, &wanted, interval, more, (since, at)).map(|counted| Violation {
                rule: Rule::Late,
                object: wanted.object.clone(),
                when: past.history.moment(at),
                what: format!(
                    "{} stood for {} s in which all of {} could be read, since {}",
                    self.reason,
                    counted.as_secs(),
                    wanted.paths().join(", "),
                    past.history.moment(since)
                ),
            })
        });
    }
}

/// Since when, until a moment, every source has given something, and all of them together a Secret, whatever the versions were; nothing
/// where they give none at that moment, or it cannot be told.
fn readable_since(past: &Past<'_>, wanted: &Wanted, at: Timestamp) -> Option<Timestamp> {
    let mut since = None;
    let mut moment = at;
    while let Some((begins, begun)) = readable(past, wanted, moment) {
        since = Some(begun);
        if begins <= past.history.begun {
            break;
        }
        moment = earlier(begins, Duration::from_nanos(1));
    }
    since
}

/// The earliest and the latest moment at which what makes a Secret at a moment may have become so.
fn readable(past: &Past<'_>, wanted: &Wanted, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let mut since = (Timestamp::MIN, Timestamp::MIN);
    let mut contents = Vec::new();
    for source in &wanted.sources {
        let (era, begun) = past.truth.at(&source.path, at)?;
        let Meaning::Active(version) = era.meaning(source.pin) else { return None };
        since = since.max((era.from, begun));
        contents.push(Some(&*version.content));
    }
    render(wanted, &contents).is_ok().then_some(since)
}
