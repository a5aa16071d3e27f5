//! What to do next about the Lease: pure decisions from what it shows, when that was seen first, and the time.
//!
//! They follow client-go. Whether a holder still lives is judged by how long its record has been the same in front of one's own eyes;
//! the times that stand in the Lease, by whatever clock, are written for people and never compared.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};

use super::Timing;
use crate::k8s::Moment;

/// A contender: how it is called in the Lease, and by which times it goes.
#[derive(Debug, Clone)]
pub(super) struct Me {
    pub identity: String,
    pub timing: Timing,
}

/// What the Lease showed last.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Shown {
    /// Nothing that holds: it was never looked at, or a write may or may not have changed it.
    #[default]
    Nothing,
    Absent,
    There(Box<Lease>),
}

/// Everything that a contender remembers.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub shown: Shown,
    /// The record that was seen last and was not emptied by hand, and since when it has been the same.
    record: Option<(LeaseSpec, Moment)>,
    /// Nothing is sent before this, but for a release.
    pub rests_until: Moment,
}

/// What somebody does who does not lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contend {
    Look,
    /// Write [`claim`]: there is no Lease, nobody holds it, or whoever held it has let it run out.
    Take,
    /// Somebody else leads, at least until then.
    Wait(Moment),
}

/// What somebody does who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Look,
    /// Write [`claim`].
    Renew,
    Wait(Moment),
    /// Write [`released`]: all work has ended.
    Release,
    /// The term is over, or the Lease is somebody else's, or nobody's: nothing may be written any more.
    Lost,
}

pub(super) fn contend(me: &Me, known: &Known, now: Moment) -> Contend {
    if now < known.rests_until {
        return Contend::Wait(known.rests_until);
    }
    match &known.shown {
        Shown::Nothing => Contend::Look,
        Shown::There(lease) if holder(lease) == Some(&me.identity) => Contend::Take,
        // One that somebody deleted, or emptied, is its holder's all the same, until that has noticed.
        Shown::There(_) | Shown::Absent => match known.held_by_others_until(me) {
            Some(until) if now < until => Contend::Wait(until),
            _ => Contend::Take,
        },
    }
}

/// `until`: when the term ends; `None` where it has. `stops`: all work has ended, and another may lead.
pub(super) fn hold(me: &Me, known: &Known, until: Option<Moment>, stops: bool, now: Moment) -> Hold {
    let Some(until) = until.filter(|until| now < *until) else { return Hold::Lost };
    let rests = now < known.rests_until;
    match &known.shown {
        Shown::There(lease) if holder(lease) != Some(&me.identity) => Hold::Lost,
        Shown::There(_) if stops => Hold::Release,
        // There is nothing to release.
        Shown::Absent if stops => Hold::Lost,
        _ if rests => Hold::Wait(known.rests_until.min(until)),
        Shown::Nothing => Hold::Look,
        Shown::Absent | Shown::There(_) => Hold::Renew,
    }
}

impl Known {
    /// The Lease was read, written or shown by the watch.
    pub(super) fn saw(&mut self, lease: Option<Lease>, now: Moment) {
        let Some(lease) = lease else {
            self.shown = Shown::Absent;
            return;
        };
        let record = lease.spec.clone().unwrap_or_default();
        let emptied = holder(&lease).is_none() && record.lease_duration_seconds != Some(RELEASED_FOR);
        if !emptied && self.record.as_ref().is_none_or(|(before, _)| *before != record) {
            self.record = Some((record, now));
        }
        self.shown = Shown::There(Box::new(lease));
    }

    /// Who holds the Lease, as far as is known.
    pub(super) fn holder(&self) -> Option<&str> {
        match &self.shown {
            Shown::There(lease) => holder(lease),
            Shown::Nothing | Shown::Absent => None,
        }
    }

    fn held_by_others_until(&self, me: &Me) -> Option<Moment> {
        let (record, since) = self.record.as_ref()?;
        let holder = record.holder_identity.as_deref().filter(|holder| !holder.is_empty())?;
        // A holder that says nothing sensible of how long it wants to be believed is believed as long as one like us.
        let seconds = record.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        (holder != me.identity).then(|| *since + duration.unwrap_or(me.timing.lease_duration()))
    }
}

/// Who holds a Lease; `None` where it was released.
fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// The Lease as one's own, from what is there: taken, or renewed.
pub(super) fn claim(me: &Me, shown: &Shown, clock: Timestamp) -> Lease {
    let mut lease = match shown {
        Shown::There(lease) => (**lease).clone(),
        Shown::Nothing | Shown::Absent => Lease::default(),
    };
    let renews = holder(&lease) == Some(&me.identity);
    let spec = lease.spec.get_or_insert_default();
    if !renews {
        // As client-go counts: the first holder is no transition.
        let transitions = spec.lease_transitions.map_or(0, |before| before.saturating_add(1));
        spec.lease_transitions = Some(transitions);
        spec.holder_identity = Some(me.identity.clone());
    }
    if !renews || spec.acquire_time.is_none() {
        spec.acquire_time = Some(MicroTime(clock));
    }
    spec.lease_duration_seconds = Some(me.timing.lease_seconds());
    spec.renew_time = Some(MicroTime(clock));
    lease
}

/// How long a released Lease says that it is held, in seconds: what tells it from one that somebody emptied.
const RELEASED_FOR: i32 = 1;

/// The Lease as nobody's. Like client-go: who waits for it anyhow waits no longer than a second.
pub(super) fn released(lease: &Lease, clock: Timestamp) -> Lease {
    let mut lease = lease.clone();
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(RELEASED_FOR);
    spec.acquire_time = Some(MicroTime(clock));
    spec.renew_time = Some(MicroTime(clock));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Me {
        Me { identity: "me".to_owned(), timing: Timing::default() }
    }

    fn at(seconds: u64) -> Moment {
        Moment::after_boot(Duration::from_secs(seconds))
    }

    fn record(holder: &str, renewed: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    fn saw(lease: Option<Lease>, when: u64) -> Known {
        let mut known = Known::default();
        known.saw(lease, at(when));
        known
    }

    #[test]
    fn who_does_not_lead_takes_what_is_free() {
        for (what, lease) in [
            ("there is none", None),
            ("it was released", Some(record("", 0))),
            ("it has no holder", Some(Lease { spec: Some(LeaseSpec::default()), ..Lease::default() })),
            ("it is empty", Some(Lease::default())),
            ("it is ours from before", Some(record("me", 0))),
        ] {
            assert_eq!(contend(&me(), &saw(lease, 100), at(100)), Contend::Take, "{what}");
        }
        assert_eq!(contend(&me(), &Known::default(), at(100)), Contend::Look, "nothing is known");
    }

    #[test]
    fn a_holder_is_believed_for_its_lease_from_when_it_was_seen_to_change() {
        let mut known = saw(Some(record("other", 0)), 100);
        assert_eq!(contend(&me(), &known, at(100)), Contend::Wait(at(115)));
        known.saw(Some(record("other", 0)), at(110));
        assert_eq!(contend(&me(), &known, at(114)), Contend::Wait(at(115)), "looking again changes nothing");
        known.saw(Some(record("other", 10)), at(114));
        assert_eq!(contend(&me(), &known, at(115)), Contend::Wait(at(129)), "it renewed");
        assert_eq!(contend(&me(), &known, at(129)), Contend::Take);
    }

    /// Neither clocks that are wrong, nor one that was set, matter: times in the Lease are not compared with any.
    #[test]
    fn the_times_in_a_lease_are_not_believed() {
        for renewed in [0, 4_000_000_000, -4_000_000_000] {
            let known = saw(Some(record("other", renewed)), 100);
            assert_eq!(contend(&me(), &known, at(114)), Contend::Wait(at(115)), "{renewed}");
            assert_eq!(contend(&me(), &known, at(115)), Contend::Take, "{renewed}");
        }
        // A record that goes back is a sign of life all the same.
        let mut known = saw(Some(record("other", 50)), 100);
        known.saw(Some(record("other", 40)), at(110));
        assert_eq!(contend(&me(), &known, at(115)), Contend::Wait(at(125)));
    }

    #[test]
    fn how_long_a_holder_is_believed_it_says_itself() {
        for (says, until) in [(Some(60), 160), (Some(1), 101), (None, 115), (Some(0), 115), (Some(-7), 115)] {
            let mut lease = record("other", 0);
            lease.spec.as_mut().unwrap().lease_duration_seconds = says;
            assert_eq!(contend(&me(), &saw(Some(lease), 100), at(100)), Contend::Wait(at(until)), "{says:?}");
        }
    }

    #[test]
    fn a_deleted_lease_is_its_holders_until_that_could_have_renewed_it() {
        let mut known = saw(Some(record("other", 0)), 100);
        known.saw(None, at(105));
        assert_eq!(contend(&me(), &known, at(105)), Contend::Wait(at(115)));
        assert_eq!(contend(&me(), &known, at(115)), Contend::Take);
        let mut released = saw(Some(record("", 0)), 100);
        released.saw(None, at(105));
        assert_eq!(contend(&me(), &released, at(105)), Contend::Take);
    }

    #[test]
    fn an_emptied_lease_is_its_holders_until_that_has_noticed() {
        let mut known = saw(Some(record("other", 0)), 100);
        known.saw(Some(record("", 0)), at(105));
        assert_eq!(contend(&me(), &known, at(105)), Contend::Wait(at(115)));
        assert_eq!(contend(&me(), &known, at(115)), Contend::Take);
        known.saw(Some(released(&record("other", 0), Timestamp::UNIX_EPOCH)), at(106));
        assert_eq!(contend(&me(), &known, at(106)), Contend::Take, "its holder released it");
    }

    #[test]
    fn a_change_of_hands_is_waited_for_anew() {
        let mut known = saw(Some(record("one", 0)), 100);
        known.saw(Some(record("two", 0)), at(114));
        assert_eq!(contend(&me(), &known, at(116)), Contend::Wait(at(129)));
    }

    /// After a conflict, or an answer that was lost, what the Lease shows is not known any more; what was seen of its holder is.
    #[test]
    fn after_a_failed_write_it_looks_first_and_forgets_nothing() {
        let mut known = saw(Some(record("other", 0)), 100);
        (known.shown, known.rests_until) = (Shown::Nothing, at(117));
        assert_eq!(contend(&me(), &known, at(116)), Contend::Wait(at(117)));
        assert_eq!(contend(&me(), &known, at(117)), Contend::Look);
        known.saw(Some(record("other", 0)), at(117));
        assert_eq!(contend(&me(), &known, at(117)), Contend::Take, "it did not renew meanwhile");
    }

    /// A machine that slept: the clock counts that, so whoever leads is not where it was.
    #[test]
    fn after_a_sleep_the_holder_has_lost_and_a_contender_may_take() {
        let mine = saw(Some(record("me", 0)), 100);
        assert_eq!(hold(&me(), &mine, Some(at(110)), false, at(9_999)), Hold::Lost);
        let others = saw(Some(record("other", 0)), 100);
        assert_eq!(contend(&me(), &others, at(9_999)), Contend::Take);
    }

    #[test]
    fn who_leads_renews_and_rests_between() {
        let mut known = saw(Some(record("me", 0)), 100);
        assert_eq!(hold(&me(), &known, Some(at(110)), false, at(101)), Hold::Renew);
        known.rests_until = at(102);
        assert_eq!(hold(&me(), &known, Some(at(110)), false, at(101)), Hold::Wait(at(102)));
        assert_eq!(hold(&me(), &known, Some(at(110)), false, at(102)), Hold::Renew);
        known.rests_until = at(200);
        assert_eq!(hold(&me(), &known, Some(at(110)), false, at(102)), Hold::Wait(at(110)), "no longer than the term");
        (known.shown, known.rests_until) = (Shown::Nothing, at(0));
        assert_eq!(hold(&me(), &known, Some(at(110)), false, at(102)), Hold::Look);
        known.saw(None, at(103));
        assert_eq!(hold(&me(), &known, Some(at(110)), false, at(103)), Hold::Renew, "somebody deleted it");
    }

    #[test]
    fn who_led_has_lost_when_its_term_is_over_whatever_the_lease_shows() {
        let late = saw(Some(record("me", 0)), 111);
        assert_eq!(hold(&me(), &late, Some(at(110)), false, at(111)), Hold::Lost, "the answer came late");
        assert_eq!(hold(&me(), &late, Some(at(110)), true, at(110)), Hold::Lost);
        assert_eq!(hold(&me(), &late, None, false, at(0)), Hold::Lost);
    }

    #[test]
    fn who_led_has_lost_when_the_lease_is_not_its_own() {
        for lease in [record("other", 0), record("", 0), Lease::default()] {
            let mut known = saw(Some(lease), 100);
            known.rests_until = at(200);
            for stops in [false, true] {
                assert_eq!(hold(&me(), &known, Some(at(110)), stops, at(101)), Hold::Lost);
            }
        }
    }

    #[test]
    fn who_stops_releases_at_once_what_is_its_own() {
        let mut known = saw(Some(record("me", 0)), 100);
        known.rests_until = at(102);
        assert_eq!(hold(&me(), &known, Some(at(110)), true, at(101)), Hold::Release);
        known.shown = Shown::Nothing;
        assert_eq!(hold(&me(), &known, Some(at(110)), true, at(102)), Hold::Look, "a write may have failed");
        known.saw(None, at(102));
        assert_eq!(hold(&me(), &known, Some(at(110)), true, at(102)), Hold::Lost, "there is none");
    }

    #[test]
    fn a_claim_counts_changes_of_hands_and_keeps_what_others_put_there() {
        let now = Timestamp::from_second(1000).unwrap();
        let spec = |lease: &Lease| lease.spec.clone().unwrap();
        let first = spec(&claim(&me(), &Shown::Absent, now));
        assert_eq!((first.holder_identity.as_deref(), first.lease_transitions), (Some("me"), Some(0)));
        assert_eq!((first.lease_duration_seconds, first.acquire_time), (Some(15), Some(MicroTime(now))));

        let mut there = record("other", 0);
        there.metadata.resource_version = Some("7".to_owned());
        there.metadata.labels = Some([("team".to_owned(), "shop".to_owned())].into());
        there.spec.as_mut().unwrap().lease_transitions = Some(3);
        let taken = claim(&me(), &Shown::There(there.clone().into()), now);
        assert_eq!(taken.metadata, there.metadata);
        assert_eq!(spec(&taken).lease_transitions, Some(4));

        let later = Timestamp::from_second(1002).unwrap();
        let renewed = spec(&claim(&me(), &Shown::There(taken.into()), later));
        assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(4), Some(MicroTime(now))));
        assert_eq!(renewed.renew_time, Some(MicroTime(later)));
    }

    #[test]
    fn a_released_lease_is_free_at_once() {
        let now = Timestamp::from_second(1000).unwrap();
        let free = released(&record("me", 0), now);
        assert_eq!(free.spec.as_ref().unwrap().lease_duration_seconds, Some(1));
        let other = Me { identity: "other".to_owned(), ..me() };
        assert_eq!(contend(&other, &saw(Some(free), 100), at(100)), Contend::Take);
    }
}
