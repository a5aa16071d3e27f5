//! Lists that break, hang, lead in a circle or change their minds: nothing goes unchecked for it, and nothing is concluded from it.

use proptest::prelude::*;

use super::{
    entry::Seen,
    list::{INTERVAL, forget_calls, listing, name, oldest, rested, town_at, town_of},
    town::Town,
    *,
};

#[test]
fn a_list_that_breaks_proves_what_it_showed_and_the_rest_goes_by_path() {
    for kind in
        [FaultKind::Unavailable, FaultKind::Unexpected, FaultKind::Refused, FaultKind::NotFound, FaultKind::TooLarge]
    {
        let mut town = rested(town_at(2.0, 300, INTERVAL));
        town.list.fails = Some((1, fault(kind)));
        let mut down = false;
        for _ in 0..600 {
            town.pass(SECOND);
            down |= *town.ledger.health() != Health::Ready;
            assert!(oldest(&town) <= SECOND * 260, "{:?} after {kind:?}", oldest(&town));
        }
        assert!(!down, "the store is not blamed for {kind:?}");
        assert!(matches!(town.ledger.checks(), Checks::Path(ByPath::Failing | ByPath::Refused)), "{kind:?}");
        assert!(town.pages.len() < 20, "{} pages though the list is broken", town.pages.len());
        assert!(town.ledger.throttled_to() >= Some(SECOND * 190), "the rate holds no more by path");
        town.list.fails = None;
        town.pages.clear();
        town.pass(MINUTE * 75);
        assert_eq!((town.ledger.checks(), town.ledger.throttled_to()), (Checks::List, None), "after {kind:?}");
    }
}

#[test]
fn a_list_in_a_circle_or_that_hangs_ends() {
    let spoil: [fn(&mut Town); 2] = [|town| town.list.circle = true, |town| town.list.latency = town::LIMIT];
    for spoil in spoil {
        let mut town = rested(town_at(2.0, 300, INTERVAL));
        spoil(&mut town);
        town.pass(MINUTE);
        assert!(matches!(town.ledger.checks(), Checks::Path(_)));
        for _ in 0..60 {
            town.pass(SECOND * 10);
            assert!(oldest(&town) <= SECOND * 260, "{:?}", oldest(&town));
        }
        assert!(town.pages.len() < 20, "{} pages", town.pages.len());
    }
}

#[test]
fn a_rate_limit_on_the_list_alone_closes_the_list_alone() {
    for kind in [FaultKind::RateLimited, FaultKind::Tls] {
        let mut town = rested(town_at(2.0, 300, INTERVAL));
        let limited = Fault { retry_after: Some(MINUTE * 10), ..fault(kind) };
        town.list.fails = Some((0, limited));
        while town.ledger.checks() == Checks::List {
            town.pass(SECOND);
        }
        forget_calls(&mut town);
        for _ in 0..590 {
            town.pass(SECOND);
            assert_eq!(town.ledger.health(), &Health::Ready, "{kind:?}");
        }
        assert_eq!(town.ledger.checks(), Checks::Path(ByPath::Failing));
        assert!(town.log.len() > 600 && town.pages.is_empty(), "{} by path, {:?}", town.log.len(), town.pages);
    }
}

#[test]
fn a_rate_limit_on_the_list_has_the_probe_tell_whether_it_is_the_store_s() {
    let mut town = rested(town_at(2.0, 300, INTERVAL));
    let limited = Fault { retry_after: Some(MINUTE * 2), ..fault(FaultKind::RateLimited) };
    town.fails = Some(limited.clone());
    town.list.fails = Some((0, limited));
    while town.ledger.checks() == Checks::List {
        town.pass(SECOND);
    }
    town.pass(SECOND);
    assert!(matches!(town.ledger.health(), Health::Down { .. }));
    assert!(town.log.len() <= 2, "the probe, and one request beside it: {:?}", town.log);
    forget_calls(&mut town);
    town.pass(SECOND * 110);
    assert!(town.log.is_empty() && town.pages.is_empty(), "it asked for rest");
}

#[test]
fn a_list_that_fails_every_other_time_is_left_alone_for_longer_each_time() {
    let mut town = rested(town_at(2.0, 300, INTERVAL));
    let limited = fault(FaultKind::RateLimited);
    let mut trials = 0;
    for _ in 0..3 * 360 {
        town.pass(SECOND * 10);
        if town.ledger.checks() == Checks::List {
            trials += 1;
            town.list.fails = Some((0, limited.clone()));
            while town.ledger.checks() == Checks::List {
                town.pass(SECOND);
            }
            town.list.fails = None;
        }
    }
    assert!((2..=9).contains(&trials), "{trials} in three hours");
}

#[test]
fn what_a_list_that_does_not_move_hides_is_found_within_the_hour() {
    let mut town = listing(300, INTERVAL);
    town.list.stuck = Some(town.secrets.clone());
    let put = [name(3), name(150)];
    for text in &put {
        town.put(text);
    }
    let gone = path(&name(7));
    town.secret(&gone).deactivated = true;
    town.pass(MINUTE * 10);
    assert_eq!(town.ledger.checks(), Checks::List);
    while town.ledger.checks() == Checks::List {
        town.pass(SECOND);
        assert!(town.now.mono - town.start < MINUTE * 85, "the list is still believed");
    }
    assert_eq!(town.ledger.checks(), Checks::Path(ByPath::Unsuitable));
    // One has belied it: the others are found at once, and the list is left alone.
    forget_calls(&mut town);
    town.pass(INTERVAL * 2);
    assert_eq!(put.map(|text| town.held(&text)), [Some(2), Some(2)]);
    assert!(matches!(town.verdict(&name(7)), Verdict::Withdrawn { how: Withdrawal::VersionDeactivated, .. }));
    town.pass(MINUTE * 58);
    assert_eq!((town.ledger.checks(), town.pages.len()), (Checks::Path(ByPath::Unsuitable), 0));
}

#[test]
fn a_list_with_holes_is_followed_to_its_end() {
    let mut town = town_at(2.0, 300, INTERVAL);
    town.list.holes = true;
    town.pass(MINUTE * 20);
    assert_eq!(town.ledger.checks(), Checks::List);
    forget_calls(&mut town);
    town.pass(MINUTE * 5);
    assert!(town.log.is_empty() && town.pages.len() <= 5 * 11, "{} pages", town.pages.len());
}

#[test]
fn the_list_is_walked_first_once_the_store_is_back() {
    let mut town = rested(town_at(2.0, 300, INTERVAL));
    let down = fault(FaultKind::Unavailable);
    let now = town.now;
    town.ledger.breaker.trip(now, &Fault { retry_after: Some(MINUTE * 10), ..down }, &Timing::default());
    town.pass(MINUTE * 9);
    assert!(town.pages.is_empty() && town.log.is_empty());
    town.pass(MINUTE * 2);
    assert!(oldest(&town) <= INTERVAL + SECOND * 5, "{:?}", oldest(&town));
    // The probe.
    assert!(town.log.len() <= 1 && town.ledger.checks() == Checks::List, "{} by path", town.log.len());
}

#[test]
fn a_new_credential_may_list_what_the_old_one_might_not() {
    let mut town = town_of(300, INTERVAL);
    town.list.fails = Some((0, fault(FaultKind::Refused)));
    town.pass(MINUTE * 20);
    assert_eq!(town.ledger.checks(), Checks::Path(ByPath::Refused));
    town.list.fails = None;
    town.pass(MINUTE * 5);
    assert_eq!(town.ledger.checks(), Checks::Path(ByPath::Refused), "an hour is not over");
    town.ledger.propose_credential(town.now);
    town.pass(MINUTE * 2);
    assert_eq!(town.ledger.checks(), Checks::List);
}

#[test]
fn a_page_that_was_asked_for_with_another_credential_says_nothing_of_the_present_one() {
    let mut town = listing(300, INTERVAL);
    town.list.latency = SECOND;
    while town.pages.is_empty() {
        town.pass(SECOND / 10);
    }
    town.list.fails = Some((0, fault(FaultKind::Refused)));
    town.ledger.propose_credential(town.now);
    town.pass(SECOND + SECOND / 5);
    town.list.fails = None;
    town.pass(SECOND * 10);
    assert_eq!(town.ledger.checks(), Checks::List);
    assert!(town.pages.len() == 4 && oldest(&town) < INTERVAL, "the walk began anew: {:?}", town.pages);
}

/// What may happen to a list, or to what is in it.
#[derive(Debug, Clone)]
enum Turn {
    Fails(FaultKind, usize),
    Works,
    Versions(bool),
    Hidden(bool),
    Slow(u64),
    Circle(bool),
    Put(usize),
    Pause(u64),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    use FaultKind::{RateLimited, Refused, Unavailable, Unexpected};
    let kind = prop_oneof![Just(Unavailable), Just(Refused), Just(Unexpected), Just(RateLimited)];
    let turn = prop_oneof![
        (kind, 0..8_usize).prop_map(|(kind, after)| Turn::Fails(kind, after)),
        Just(Turn::Works),
        any::<bool>().prop_map(Turn::Versions),
        any::<bool>().prop_map(Turn::Hidden),
        (20..4000_u64).prop_map(Turn::Slow),
        any::<bool>().prop_map(Turn::Circle),
        (0..400_usize).prop_map(Turn::Put),
        (30..300_u64).prop_map(Turn::Pause),
    ];
    proptest::collection::vec(turn, 4..16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_list_does_everything_is_checked_in_time_and_nothing_is_withdrawn(
        secrets in 20..400_usize,
        intervals in proptest::collection::vec(prop_oneof![Just(10_u64), Just(30), Just(60), Just(300)], 1..4),
        turns in turns(),
    ) {
        let mut town = Town::new(20.0, 8);
        town.list.fails = None;
        for n in 0..secrets {
            town.synced(&name(n), Duration::from_secs(intervals[n % intervals.len()]));
        }
        town.pass(MINUTE * 12);
        // Rates, waits of the store and a walk that is given up come on top of an interval.
        let mut longest: HashMap<Source, Duration> = HashMap::new();
        for turn in turns {
            match turn {
                Turn::Fails(kind, after) => town.list.fails = Some((town.pages.len() + after, fault(kind))),
                Turn::Works => town.list.fails = None,
                Turn::Versions(versions) => town.list.versions = versions,
                Turn::Hidden(hidden) => town.list.hidden = if hidden { vec!["ns-1/".into()] } else { vec![] },
                Turn::Slow(millis) => town.list.latency = Duration::from_millis(millis),
                Turn::Circle(circle) => town.list.circle = circle,
                Turn::Put(n) => if n < secrets { town.put(&name(n)) },
                Turn::Pause(_) => {}
            }
            let seconds = if let Turn::Pause(seconds) = turn { seconds } else { 40 };
            for _ in 0..seconds / 10 {
                town.pass(SECOND * 10);
                for (source, entry) in &town.ledger.entries {
                    let interval = town.ledger.interval_of(source).unwrap();
                    let longest = longest.entry(source.clone()).or_default();
                    *longest = (*longest).max(interval);
                    let age = town.now.mono - entry.checked.unwrap();
                    prop_assert!(age <= *longest * 2 + SECOND * 60, "{source}: {age:?} at {longest:?}");
                    prop_assert!(matches!(entry.seen, Some(Seen::Active { .. })), "{source}: {:?}", entry.seen);
                }
            }
        }
        town.list.fails = None;
        town.pass(MINUTE * 10);
        for n in 0..secrets {
            let current = town.secret(&path(&name(n))).mark.version.get();
            prop_assert_eq!(town.held(&name(n)), Some(current), "{}", n);
        }
    }
}
