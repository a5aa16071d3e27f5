//! When to ask for a token, and which one to send meanwhile ([`Books`]): a state machine without I/O; `now` is an argument.
//!
//! A token is renewed when four fifths of its life are over. The old one stays in use until it ends, whatever happens to the renewal.
//! After a failure there is a pause before the next request, in which nothing but the failure is told.

use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::answer::Fresh;
use crate::okms::Error;

/// The first pause after a failure, doubled with each further one up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The longest wait that the token endpoint may ask for.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// How long it is believed that no new token helps against a 401, after one did not. OKMS may answer a missing right by 401 too, and such
/// a path is asked for again and again.
const FUTILE: Duration = Duration::from_mins(5);

/// A token to send.
#[derive(Clone)]
pub(in crate::okms) struct Grant {
    header: HeaderValue,
    /// Later tokens have higher numbers.
    number: u64,
}

impl Grant {
    /// The value of `Authorization`.
    pub(in crate::okms) fn header(&self) -> &HeaderValue {
        &self.header
    }
}

/// What whoever has to send a token needs.
pub(super) enum Need {
    /// Nothing: this is good.
    Nothing(Grant),
    /// This is good, and should be renewed.
    Soon(Grant),
    /// A new one.
    Now,
    /// It failed just now.
    Patience(Error),
}

/// What to do about a token that was not accepted.
pub(super) enum Verdict {
    /// No other token would be.
    Final,
    /// There is a newer one.
    Other(Grant),
    Renew,
    /// A new one is needed, and could not be had just now.
    Patience(Error),
}

/// What is known of the tokens of one account.
#[derive(Default)]
pub(super) struct Books {
    held: Option<Held>,
    number: u64,
    failures: u32,
    failed: Option<Failed>,
    futile_until: Option<Instant>,
}

struct Held {
    grant: Grant,
    came: Instant,
    renew: Instant,
    ends: Instant,
}

struct Failed {
    error: Error,
    until: Instant,
}

impl Books {
    pub(super) fn need(&self, now: Instant) -> Need {
        let failure = self.failure(now);
        match &self.held {
            Some(held) if now < held.renew => Need::Nothing(held.grant.clone()),
            Some(held) if now < held.ends && failure.is_some() => Need::Nothing(held.grant.clone()),
            Some(held) if now < held.ends => Need::Soon(held.grant.clone()),
            _ => failure.map_or(Need::Now, Need::Patience),
        }
    }

    /// OKMS did not accept a token, for a request that began at `asked`.
    pub(super) fn refused(&self, refused: &Grant, asked: Instant, now: Instant) -> Verdict {
        let held = self.held.as_ref();
        if let Some(held) = held.filter(|held| held.grant.number > refused.number) {
            return Verdict::Other(held.grant.clone());
        }
        let is_new = held.is_some_and(|held| held.grant.number == refused.number && held.came >= asked);
        if is_new || self.futile_until.is_some_and(|until| now < until) {
            return Verdict::Final;
        }
        self.failure(now).map_or(Verdict::Renew, Verdict::Patience)
    }

    /// Whether a token that was had after a refusal was accepted.
    pub(super) fn tried(&mut self, accepted: bool, now: Instant) {
        self.futile_until = (!accepted).then(|| now + FUTILE);
    }

    /// A request for a token ended that began at `asked`. `chance` is from 0 to 1.
    pub(super) fn renewed(
        &mut self,
        result: Result<Fresh, Error>,
        asked: Instant,
        now: Instant,
        chance: f32,
    ) -> Result<Grant, Error> {
        match result {
            Ok(Fresh { header, life }) => {
                self.number += 1;
                let grant = Grant { header, number: self.number };
                let (renew, ends) = (asked + life * 4 / 5, asked + life);
                self.held = Some(Held { grant: grant.clone(), came: now, renew, ends });
                (self.failures, self.failed) = (0, None);
                Ok(grant)
            }
            Err(error) => {
                let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(16));
                // Half of it by chance, so that many clients do not come back at once.
                let pause = doubled.min(LONGEST_PAUSE).mul_f32(0.5 + chance.clamp(0.0, 1.0) / 2.0);
                let asked_for = error.retry_after().unwrap_or_default().min(LONGEST_WAIT);
                self.failures = self.failures.saturating_add(1);
                self.failed = Some(Failed { error: error.clone(), until: now + pause.max(asked_for) });
                Err(error)
            }
        }
    }

    /// The last failure, as long as nothing is asked because of it. Where it asked for a wait, it asks for what is left of that: whoever
    /// is told now counts from now.
    fn failure(&self, now: Instant) -> Option<Error> {
        let Failed { error, until } = self.failed.as_ref().filter(|failed| now < failed.until)?;
        Some(error.clone().with_retry_after(error.retry_after().map(|_| *until - now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::okms::error::{Failure, Reason, Server};

    const HOUR: Duration = Duration::from_hours(1);

    fn fresh(token: &'static str) -> Fresh {
        Fresh { header: HeaderValue::from_static(token), life: HOUR }
    }

    fn failure() -> Error {
        Error::new(Reason::Of(Server::TokenEndpoint, Failure::ServerError(503)))
    }

    fn text(grant: &Grant) -> &str {
        grant.header().to_str().unwrap()
    }

    /// What is needed, as a word.
    fn need(books: &Books, now: Instant) -> String {
        match books.need(now) {
            Need::Nothing(grant) => text(&grant).to_owned(),
            Need::Soon(grant) => format!("{}, soon another", text(&grant)),
            Need::Now => "now".to_owned(),
            Need::Patience(_) => "patience".to_owned(),
        }
    }

    fn verdict(books: &Books, refused: &Grant, asked: Instant, now: Instant) -> String {
        match books.refused(refused, asked, now) {
            Verdict::Final => "final".to_owned(),
            Verdict::Other(grant) => text(&grant).to_owned(),
            Verdict::Renew => "renew".to_owned(),
            Verdict::Patience(_) => "patience".to_owned(),
        }
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_mins(minutes)
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life() {
        let (mut books, start) = (Books::default(), Instant::now());
        assert_eq!(need(&books, start), "now");
        books.renewed(Ok(fresh("a")), start, start + minutes(1), 0.0).unwrap();
        assert_eq!(need(&books, start + minutes(47)), "a");
        assert_eq!(need(&books, start + minutes(48)), "a, soon another", "counted from when it was asked for");
        books.renewed(Ok(fresh("b")), start + minutes(48), start + minutes(48), 0.0).unwrap();
        assert_eq!(need(&books, start + minutes(59)), "b");
        assert_eq!(need(&books, start + minutes(48) + HOUR), "now");
    }

    #[test]
    fn a_failing_renewal_leaves_the_old_token_in_use_until_it_ends() {
        let (mut books, start) = (Books::default(), Instant::now());
        books.renewed(Ok(fresh("a")), start, start, 0.0).unwrap();
        let at = start + minutes(50);
        books.renewed(Err(failure()), at, at, 1.0).err().unwrap();
        assert_eq!(need(&books, at), "a", "and the token endpoint is left alone");
        assert_eq!(need(&books, at + Duration::from_secs(1)), "a, soon another");
        let at = start + HOUR;
        books.renewed(Err(failure()), at, at, 1.0).err().unwrap();
        assert_eq!(need(&books, at), "patience");
    }

    #[test]
    fn pauses_grow_to_a_minute_and_end_with_a_success() {
        let (mut books, mut now) = (Books::default(), Instant::now());
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            books.renewed(Err(failure()), now, now, 1.0).err().unwrap();
            assert_eq!(need(&books, now + Duration::from_secs(seconds) - Duration::from_millis(1)), "patience");
            now += Duration::from_secs(seconds);
            assert_eq!(need(&books, now), "now");
        }
        books.renewed(Ok(fresh("a")), now, now, 1.0).unwrap();
        now += HOUR;
        books.renewed(Err(failure()), now, now, 0.0).err().unwrap();
        assert_eq!(need(&books, now + Duration::from_millis(500)), "now", "half of the first pause at least");
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_within_an_hour() {
        let (mut books, now) = (Books::default(), Instant::now());
        for (asked_for, kept) in [(minutes(2), minutes(2)), (HOUR * 20, HOUR)] {
            books.renewed(Err(failure().with_retry_after(Some(asked_for))), now, now, 0.0).err().unwrap();
            assert_eq!(need(&books, now + kept - Duration::from_secs(1)), "patience");
            let Need::Patience(error) = books.need(now + kept / 4) else { panic!("it is asked again") };
            assert_eq!(error.retry_after(), Some(kept * 3 / 4), "no longer than the endpoint asked for");
            assert_eq!(need(&books, now + kept), "now");
        }
    }

    #[test]
    fn a_token_that_is_not_accepted_is_renewed_once() {
        let (mut books, start) = (Books::default(), Instant::now());
        let first = books.renewed(Ok(fresh("a")), start, start, 0.0).unwrap();
        let later = start + minutes(1);
        assert_eq!(verdict(&books, &first, start, later), "final", "it was fetched for this very request");
        assert_eq!(verdict(&books, &first, later, later), "renew");
        let second = books.renewed(Ok(fresh("b")), later, later, 0.0).unwrap();
        assert_eq!(verdict(&books, &first, start, later), "b", "somebody else has renewed it");
        books.tried(false, later);
        assert_eq!(verdict(&books, &second, later + minutes(1), later + minutes(4)), "final");
        assert_eq!(verdict(&books, &second, later + minutes(1), later + minutes(5)), "renew");
        books.tried(true, later + minutes(5));
        assert_eq!(verdict(&books, &second, later + minutes(5), later + minutes(6)), "renew");
    }

    #[test]
    fn a_refusal_does_not_hammer_a_token_endpoint_that_fails() {
        let (mut books, start) = (Books::default(), Instant::now());
        let grant = books.renewed(Ok(fresh("a")), start, start, 0.0).unwrap();
        let later = start + minutes(1);
        books.renewed(Err(failure()), later, later, 1.0).err().unwrap();
        assert_eq!(verdict(&books, &grant, later, later), "patience");
    }
}
