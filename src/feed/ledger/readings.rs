//! What is known for an object at a moment, and whether that makes a difference to it.

use std::time::{Duration, Instant};

use super::{
    Answer, Lane, Ledger, Now, ObjectId, Timer, Wish,
    breaker::Health,
    entry::Seen,
    object::{Object, Round, Said, Told, has_trouble},
};
use crate::model::{Finding, Mark, Source, Verdict};

impl Ledger {
    /// What is known for an object at this moment.
    pub(super) fn evaluate(&self, now: Now, id: &ObjectId) -> Answer {
        let Some(object) = self.objects.get(id) else { return Answer::Pending };
        let stale = self.stale_at(object).is_some_and(|moment| moment <= now.mono);
        let at_rest = object.open_round().is_none();
        let verdicts: Option<Vec<Finding>> =
            object.wishes.iter().map(|wish| self.finding(now, object, wish, stale)).collect();
        let known = verdicts.and_then(|findings| self.with_values(object, findings));
        match (&self.breaker.health, known) {
            (Health::Down { trouble }, None) => Answer::Down { trouble: trouble.clone(), stale },
            (Health::Down { trouble }, Some(_)) if stale => Answer::Down { trouble: trouble.clone(), stale },
            // The store is back, but nothing was checked yet: the object hears of it when it was.
            (_, Some(findings)) if stale && object.was_told_down() && at_rest && !has_trouble(&findings) => {
                Answer::Pending
            }
            (_, Some(findings)) => Answer::Known { findings, stale },
            (_, None) => Answer::Pending,
        }
    }

    /// The finding for one source, without a value; `None` while it is not known.
    fn finding(&self, now: Now, object: &Object, wish: &Wish, stale: bool) -> Option<Finding> {
        let entry = self.entries.get(&wish.source)?;
        let asked_since =
            |moment: Instant| object.round.is_none_or(|round| round.since.is_none_or(|since| moment >= since));
        let verdict = match &entry.problem {
            Some(problem)
                if stale || (object.open_round().is_some() && (asked_since(problem.at) || problem.rests(now.mono))) =>
            {
                Verdict::Trouble(problem.trouble.clone())
            }
            _ => {
                let checked = entry.checked.filter(|checked| asked_since(*checked));
                checked.and(entry.seen.as_ref())?.verdict()
            }
        };
        let held = entry.withdrawal_of(wish.held.as_ref());
        Some(Finding { source: wish.source.clone(), verdict, current: entry.current, held })
    }

    /// Adds the values that the object waits for; `None` while one is missing. Where nothing can be rendered none is needed.
    fn with_values(&self, object: &Object, mut findings: Vec<Finding>) -> Option<Vec<Finding>> {
        let renders = object.wishes.iter().zip(&findings).all(|(wish, finding)| match &finding.verdict {
            Verdict::Active { .. } => true,
            verdict => wish.optional && verdict.is_absence(),
        });
        if object.round_with_data().is_none() || !renders {
            return Some(findings);
        }
        for finding in &mut findings {
            if let Verdict::Active { mark, value, .. } = &mut finding.verdict {
                *value = Some(self.entries.get(&finding.source)?.value_of(mark)?.clone());
            }
        }
        Some(findings)
    }

    /// When the object may not be believed any more, unless it is checked before.
    pub(super) fn stale_at(&self, object: &Object) -> Option<Instant> {
        let bound = self.staleness_bound(object)?;
        let entries = object.wishes.iter().filter_map(|wish| self.entries.get(&wish.source));
        // Where floors have fallen since, the next check comes as late as it was scheduled.
        let checks = entries.map(|entry| (entry.checked, bound.max(entry.floor * 3)));
        // Good checks do not help while what they showed cannot be read.
        let unread = object.open_round().filter(|round| round.data).map(|round| (round.since, bound));
        let believed = |(moment, bound): (Option<Instant>, Duration)| {
            moment.map_or(object.enlisted, |at| at.max(object.enlisted)) + bound
        };
        checks.chain(unread).map(believed).min()
    }

    /// Watches for the users of a source becoming stale, which may be sooner than before.
    pub(super) fn rearm_users(&mut self, now: Now, source: &Source) {
        let users: Vec<ObjectId> =
            self.entries.get(source).into_iter().flat_map(|entry| entry.users.iter()).cloned().collect();
        for id in users {
            self.rearm_stale(now, &id);
        }
    }

    /// Watches for the object becoming stale.
    pub(super) fn rearm_stale(&mut self, now: Now, id: &ObjectId) {
        let Some(object) = self.objects.get(id) else { return };
        let Some(moment) = self.stale_at(object).filter(|moment| *moment > now.mono) else { return };
        // A timer that is too early looks again; so a check that ends well moves none.
        if object.watched.is_some_and(|watched| watched <= moment) {
            return;
        }
        let timer = Timer::Stale(id.clone());
        if let Some(old) = object.watched {
            self.timers.remove(&(old, timer.clone()));
        }
        self.timers.insert((moment, timer));
        if let Some(object) = self.objects.get_mut(id) {
            object.watched = Some(moment);
        }
    }

    /// Wakes an object if it would now be told something else, or if what it waits for is there.
    pub(super) fn review(&mut self, now: Now, id: &ObjectId, trigger: Option<Instant>) {
        self.start_round_on_news(id, trigger);
        let answer = self.evaluate(now, id);
        let Some(object) = self.objects.get(id) else { return };
        let told = Told::of(&answer);
        let wake = match &answer {
            Answer::Pending => false,
            Answer::Known { findings, .. } if object.open_round().is_some() && !has_trouble(findings) => true,
            _ => object.told != told,
        };
        let is_value = |finding: &&Finding| matches!(finding.verdict, Verdict::Active { value: Some(_), .. });
        if let Answer::Known { findings, .. } = &answer
            && wake
            && object.lane == Lane::Change
            && let Some(finding) = findings.iter().find(is_value)
        {
            self.lead.woken(&id.namespace, &finding.source);
        }
        if wake {
            self.todo.wakes.push(id.clone());
        }
        // What it waits for may have been found busy when it was due.
        self.demand(now, id);
    }

    /// New content, which the target does not hold and the object was not told of, starts a round of readings, all of them made
    /// after the one that showed it.
    pub(super) fn start_round_on_news(&mut self, id: &ObjectId, trigger: Option<Instant>) {
        if !self.has_news(id) {
            return;
        }
        if let Some(object) = self.objects.get_mut(id)
            && object.round.is_none_or(|round| !round.data || round.delivered.is_some())
        {
            let since = object.round.and_then(|round| round.since).max(trigger);
            object.round = Some(Round { since, data: true, delivered: None });
            object.lane = Lane::News;
        }
    }

    /// Whether some source means content that the target does not hold and that the object was not told of.
    fn has_news(&self, id: &ObjectId) -> bool {
        let Some(object) = self.objects.get(id) else { return false };
        object.wishes.iter().enumerate().any(|(n, wish)| {
            let Some(Seen::Active { mark, .. }) = self.entries.get(&wish.source).and_then(|entry| entry.seen.as_ref())
            else {
                return false;
            };
            let held = wish.held.is_some_and(|held| {
                // A pin whose version was made again stays as it is: that is told, not read.
                mark.is_same_as(&held) || (wish.source.pin.is_some() && mark.is_newer_creation_than(&held))
            });
            let told = matches!(object.told_of(n), Some(Said::Active(told, _)) if told.is_same_as(mark));
            !held && !told
        })
    }

    /// The shortest interval of the users of a source.
    pub(super) fn interval_of(&self, source: &Source) -> Option<Duration> {
        let entry = self.entries.get(source)?;
        Some(entry.shortest_interval()?.max(self.floor_of_entry(entry)))
    }

    /// What targets were made from this source.
    pub(super) fn held_of<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = Mark> + 'a {
        self.wishes_for(source).filter_map(|wish| wish.held)
    }

    /// Whether somebody can do without this source.
    pub(super) fn is_optional(&self, source: &Source) -> bool {
        self.wishes_for(source).any(|wish| wish.optional)
    }

    fn wishes_for<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = &'a Wish> + 'a {
        let users = self.entries.get(source).into_iter().flat_map(|entry| entry.users.iter());
        users
            .filter_map(|id| self.objects.get(id))
            .flat_map(move |object| object.wishes.iter().filter(move |wish| wish.source == *source))
    }
}
