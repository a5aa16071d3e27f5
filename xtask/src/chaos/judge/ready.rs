//! Every moment at which a status said Ready=True: the Secret had to equal the rendering of exactly the versions that the status names,
//! and these must not have been overtaken for longer than the staleness bound.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Findings, Rule, Violation,
    calm::later,
    late,
    okms::Version,
    past::Past,
    render::{Data, data_of, render},
    wanted::{Source, Wanted},
};
use crate::chaos::{
    action::Key,
    history::{Change, Kind, Present, text},
};

/// How long a status may say what is not so any more, while the operator can work: a Secret and a status are two writes, and what
/// somebody does by hand is found within seconds.
const NOTICED: Duration = Duration::from_secs(10);

/// The shortest time for which a synced object is believed while it cannot be checked.
const BELIEVED: Duration = Duration::from_mins(5);

/// A retry that is under way, and the clocks of a busy machine.
const SLACK: Duration = Duration::from_secs(15);

/// Goes through the changes in their order.
#[derive(Default)]
pub(super) struct Watch {
    /// Since when a status has been wrong, and how.
    wrong: HashMap<Key, (Timestamp, String)>,
    /// The status that is in force, where it says Ready=True.
    said: HashMap<Key, Said>,
}

/// What a status said.
struct Said {
    since: Timestamp,
    wanted: Wanted,
    sources: Vec<Named>,
    interval: Duration,
}

#[derive(PartialEq)]
struct Named {
    version: Option<u32>,
    active: bool,
}

impl Watch {
    /// `present` is what there is after the change.
    pub(super) fn see<'h>(&mut self, past: &Past<'h>, findings: &mut Findings, change: &Change, present: &Present<'h>) {
        match change.kind {
            Kind::OkmsSecret => {
                let before = self.leave(past, findings, &change.key, change.at);
                if let Some(mut said) = change.object.as_deref().and_then(|object| Said::of(object, change.at)) {
                    if let Some(before) = before.filter(|before| before.is_same(&said)) {
                        said.since = before.since;
                    }
                    self.said.insert(change.key.clone(), said);
                }
                self.look(past, findings, &change.key, change.at, present);
            }
            Kind::Secret => {
                let about: Vec<Key> = self
                    .said
                    .values()
                    .filter(|said| said.wanted.target == change.key)
                    .map(|said| said.wanted.object.clone())
                    .collect();
                for object in about {
                    self.look(past, findings, &object, change.at, present);
                }
            }
            _ => {}
        }
    }

    /// The history ends.
    pub(super) fn end(&mut self, past: &Past<'_>, findings: &mut Findings, present: &Present<'_>, at: Timestamp) {
        let objects: Vec<Key> = self.said.keys().cloned().collect();
        for object in objects {
            self.look(past, findings, &object, at, present);
            self.right(past, findings, &object, at);
            self.leave(past, findings, &object, at);
        }
    }

    /// Holds what is said of an object against what there is now.
    fn look(&mut self, past: &Past<'_>, findings: &mut Findings, object: &Key, at: Timestamp, present: &Present<'_>) {
        let problem = self.said.get(object).and_then(|said| {
            *findings.checks.entry(Rule::FalseReady).or_default() += 1;
            said.problem(past, present.object(Kind::Secret, &said.wanted.target), at)
        });
        match problem {
            Some(problem) => drop(self.wrong.entry(object.clone()).or_insert((at, problem))),
            None => self.right(past, findings, object, at),
        }
    }

    /// Nothing wrong is said of an object any more.
    fn right(&mut self, past: &Past<'_>, findings: &mut Findings, object: &Key, at: Timestamp) {
        let Some((since, problem)) = self.wrong.remove(object) else { return };
        let lasted = past.working.between(since, at);
        if lasted > NOTICED {
            findings.violations.push(Violation {
                rule: Rule::FalseReady,
                object: object.clone(),
                when: past.history.moment(since),
                what: format!("{problem}; that stood so until {}", past.history.moment(at)),
            });
        }
    }

    /// A status is replaced: how old was what it said?
    fn leave(&mut self, past: &Past<'_>, findings: &mut Findings, object: &Key, at: Timestamp) -> Option<Said> {
        let said = self.said.remove(object)?;
        if said.interval.is_zero() {
            return Some(said);
        }
        for (source, named) in said.wanted.sources.iter().zip(&said.sources) {
            let (Some(version), true) = (named.version, named.active) else { continue };
            let contents = past.truth.contents(&source.path, version, at);
            let meant = contents.iter().filter_map(|content| past.truth.last_meant(&source.path, source.pin, content));
            let violation = |rule, what| {
                let when = past.history.moment(at);
                Some(Violation { rule, object: object.clone(), when, what })
            };
            let Some(meant) = meant.max() else {
                let what = format!("{}@{version} never was what the source means", source.path);
                findings.check(Rule::StaleReady, || violation(Rule::StaleReady, what));
                continue;
            };
            // A new leader believes for as long again.
            let believed = past.history.starts.iter().copied().filter(|start| *start <= at).max();
            let until = later(meant.max(believed.unwrap_or(meant)), BELIEVED.max(said.interval * 3) + SLACK);
            let stood = || {
                let moment = |at| past.history.moment(at);
                format!("{}@{version} was overtaken at {} and named until {}", source.path, moment(meant), moment(at))
            };
            findings.check(Rule::StaleReady, || (at > until).then(|| violation(Rule::StaleReady, stood())).flatten());
            let span = (meant.max(said.since), at);
            findings.check(Rule::Late, || {
                late::excess(past, &said.wanted, said.interval, Duration::ZERO, span)
                    .and_then(|_| violation(Rule::Late, stood()))
            });
        }
        Some(said)
    }
}

impl Said {
    /// What an `OkmsSecret` says of its present generation, if that is Ready=True.
    fn of(object: &Value, since: Timestamp) -> Option<Self> {
        let wanted = Wanted::of(object);
        let ready = condition(object, "Ready")?;
        let seen = |value: &Value| value.get("observedGeneration").and_then(Value::as_i64) == Some(wanted.generation);
        if text(ready, "/status") != "True" || !seen(ready) || !seen(object.get("status")?) {
            return None;
        }
        let sources = object.pointer("/status/sources").and_then(Value::as_array);
        let sources = sources.into_iter().flatten().map(|source| Named {
            version: source.get("version").and_then(Value::as_u64).and_then(|version| u32::try_from(version).ok()),
            active: text(source, "/state") == "Active",
        });
        Some(Self {
            since,
            sources: sources.collect(),
            interval: duration(text(object, "/status/refreshInterval")),
            wanted,
        })
    }

    /// Whether something else than what is said was changed.
    fn is_same(&self, other: &Self) -> bool {
        (&self.wanted.uid, self.wanted.generation) == (&other.wanted.uid, other.wanted.generation)
            && self.sources == other.sources
    }

    /// In what the Secret is not what is said of it.
    fn problem(&self, past: &Past<'_>, secret: Option<&Value>, at: Timestamp) -> Option<String> {
        let wanted = &self.wanted;
        let told: Vec<_> = wanted
            .sources
            .iter()
            .zip(&self.sources)
            .map(|(source, named)| format!("{}@{:?}", source.path, named.version))
            .collect();
        let told = told.join(", ");
        let Some(secret) = secret else {
            return Some(format!("there is no Secret {}, said to hold {told}", wanted.target));
        };
        if self.sources.len() != wanted.sources.len() {
            return Some(format!("of {} sources the status names {told}", wanted.sources.len()));
        }
        let data = data_of(secret);
        let choices: Vec<Vec<Option<&Version>>> =
            wanted.sources.iter().zip(&self.sources).map(|(source, named)| choices(past, source, named, at)).collect();
        let mut last = "there is no such version".to_owned();
        for reading in readings(&choices) {
            let contents: Vec<_> = reading.iter().map(|version| version.map(|version| &*version.content)).collect();
            match render(wanted, &contents) {
                Ok(rendered) if holds(wanted, &rendered, &data) => return None,
                Ok(rendered) => last = super::content::difference(&rendered, &data),
                Err(reason) => last = format!("they make no Secret: {reason}"),
            }
        }
        Some(format!("Secret {} is not the rendering of {told}: {last}", wanted.target))
    }
}

fn holds(wanted: &Wanted, rendered: &Data, data: &Data) -> bool {
    if wanted.merges() { rendered.iter().all(|(key, value)| data.get(key) == Some(value)) } else { rendered == data }
}

/// The contents that a source may have given, by what the status says of it: a secret that was made again has a version of each number
/// again, and most probably the newest is meant.
fn choices<'p>(past: &'p Past<'_>, source: &Source, named: &Named, at: Timestamp) -> Vec<Option<&'p Version>> {
    let contents = named.version.map(|version| past.truth.contents(&source.path, version, at)).unwrap_or_default();
    let nothing = source.optional.then_some(None);
    contents.into_iter().rev().map(Some).chain(nothing).collect()
}

/// One choice for each source, in all combinations.
fn readings<'c, 'p>(choices: &'c [Vec<Option<&'p Version>>]) -> impl Iterator<Item = Vec<Option<&'p Version>>> + 'c {
    let all: usize = choices.iter().map(Vec::len).product();
    (0..all).map(move |mut number| {
        let mut reading = Vec::with_capacity(choices.len());
        for choices in choices {
            reading.extend(choices.get(number % choices.len()));
            number /= choices.len();
        }
        reading
    })
}

pub(super) fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().find(|condition| text(condition, "/type") == kind)
}

/// Such as `30s` or `1h30m`.
pub(super) fn duration(text: &str) -> Duration {
    let mut rest = text;
    let mut seconds = 0;
    while let Some(unit) = rest.find(|character: char| !character.is_ascii_digit()) {
        let (number, tail) = rest.split_at(unit);
        let factor = match tail.chars().next() {
            Some('h') => 3600,
            Some('m') => 60,
            _ => 1,
        };
        seconds += number.parse::<u64>().unwrap_or_default() * factor;
        rest = tail.get(1..).unwrap_or_default();
    }
    Duration::from_secs(seconds)
}
