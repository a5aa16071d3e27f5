//! The judge. It knows what was on both sides and when, and the rules of DESIGN; it knows nothing of how the operator works, and uses
//! none of its code.
//!
//! [`secrets`] holds every change of a Secret against the rules, [`ready`] and [`late`] every moment of every status, and [`end`] what is
//! left when the noise has stopped. What the history cannot tell apart is never held against the operator: a moment is blamed only if nothing that
//! was possible at that moment explains it.

mod budget;
mod calm;
mod claims;
mod content;
mod deletion;
pub(super) mod end;
mod late;
mod okms;
mod past;
mod ready;
mod render;
mod secrets;
#[cfg(test)]
mod tests;
mod wanted;

use std::{collections::BTreeMap, fmt, time::Duration};

use self::past::Past;
use super::{
    action::Key,
    history::{History, Moment, Present},
    world,
};

/// Something that must not be.
pub(super) struct Violation {
    pub(super) rule: Rule,
    pub(super) object: Key,
    pub(super) when: Moment,
    /// What was expected and what was seen.
    pub(super) what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// A Secret of somebody else is never touched.
    ForeignTouched,
    /// Keys of others in a Secret that is merged into stay.
    ForeignKeyTouched,
    /// A target is deleted only on proof, or because nobody asks for it any more.
    DeletedWithoutProof,
    /// No more targets of a store are withdrawn than it allows, or a person confirmed.
    OverBudget,
    /// A target always holds exactly one rendering of the versions that it names, and was asked for.
    WrongContent,
    /// What is written was current when it was read.
    StaleContent,
    /// A version never goes back.
    WentBack,
    /// Ready=True holds.
    FalseReady,
    /// Ready=True is not left standing beyond the staleness bound.
    StaleReady,
    /// A change arrives while nothing stands in its way.
    Late,
    /// What is left in the end is what has to be.
    NotConverged,
    /// Nothing that nobody asks for is left.
    LeftBehind,
    /// Nothing is written where nothing changes.
    NotAtRest,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ForeignTouched => "a foreign Secret was touched",
            Self::ForeignKeyTouched => "a foreign key was touched",
            Self::DeletedWithoutProof => "a target was deleted without proof",
            Self::OverBudget => "too many targets were withdrawn",
            Self::WrongContent => "a target was written that is no rendering",
            Self::StaleContent => "a target was written from an old version",
            Self::WentBack => "a version went back",
            Self::FalseReady => "Ready=True was false",
            Self::StaleReady => "Ready=True was stale",
            Self::Late => "a change came late",
            Self::NotConverged => "an object did not converge",
            Self::LeftBehind => "something was left behind",
            Self::NotAtRest => "something was written at rest",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}: {}", self.object, self.when, self.rule, self.what)
    }
}

/// What came out.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) violations: Vec<Violation>,
    /// How often each rule was held against something: a rule that is never tried proves nothing.
    pub(super) checks: BTreeMap<Rule, usize>,
}

impl Findings {
    /// Those of another part of the judge.
    pub(super) fn add(&mut self, other: Self) {
        self.violations.extend(other.violations);
        for (rule, count) in other.checks {
            *self.checks.entry(rule).or_default() += count;
        }
    }

    fn check(&mut self, rule: Rule, violation: impl FnOnce() -> Option<Violation>) {
        *self.checks.entry(rule).or_default() += 1;
        self.violations.extend(violation());
    }
}

/// For how long the operator could work, and for how long nothing stood in its way to a path, on average: what has to be done within a
/// bound is held against the operator only then.
pub(super) fn calm(history: &History) -> (Duration, Duration) {
    let past = Past::new(history);
    let end = history.ended.unwrap_or(history.begun);
    let paths = world::paths();
    let of_path = |path: &String| past.untroubled(&[path.as_str()]).between(history.begun, end);
    let together: Duration = paths.iter().map(of_path).sum();
    let number = u32::try_from(paths.len()).unwrap_or(u32::MAX).max(1);
    (past.working.between(history.begun, end), together / number)
}

/// Judges everything that happened; [`end::judge`] judges what is left.
pub(super) fn judge(history: &History) -> Findings {
    let past = Past::new(history);
    let mut findings = Findings::default();
    let mut present = Present::default();
    let mut secrets = secrets::Watch::default();
    let mut ready = ready::Watch::default();
    let mut late = late::Watch::default();
    for change in &past.order {
        let mut after = present.clone();
        let before = after.take(change);
        secrets.see(&past, &mut findings, change, before, &present);
        present = after;
        ready.see(&past, &mut findings, change, &present);
        late.see(&past, &mut findings, change);
    }
    if let Some(last) = past.order.iter().map(|change| change.at).max() {
        let at = history.ended.unwrap_or(last);
        ready.end(&past, &mut findings, &present, at);
        late.end(&past, &mut findings, at);
    }
    findings
}
