//! Checks by the list of all secrets: what they cost, what they show, and what becomes of everything when the list fails.

use proptest::prelude::*;

use super::{
    bulk::is_settled,
    entry::{Mode, Seen},
    town::Town,
    *,
};

const INTERVAL: Duration = Duration::from_secs(30);

/// A town at rest whose domain has a list, and in it `secrets` that some of seven namespaces follow.
fn town_of(secrets: usize, interval: Duration) -> Town {
    town_at(20.0, secrets, interval)
}

fn town_at(requests_per_second: f64, secrets: usize, interval: Duration) -> Town {
    let mut town = Town::new(requests_per_second, 8);
    town.list.fails = None;
    for n in 0..secrets {
        town.synced(&name(n), interval);
    }
    town
}

fn name(n: usize) -> String {
    format!("ns-{}/{n:05}", n % 7)
}

/// The same, once it checks by the list.
fn listing(secrets: usize, interval: Duration) -> Town {
    rested(town_of(secrets, interval))
}

fn rested(mut town: Town) -> Town {
    town.pass(MINUTE * 20);
    assert_eq!(town.ledger.checks(), Checks::List);
    forget_calls(&mut town);
    town
}

fn forget_calls(town: &mut Town) {
    town.log.clear();
    town.pages.clear();
    town.store_changed = false;
}

/// How long ago the source that waits longest was last checked.
fn oldest(town: &Town) -> Duration {
    town.now.mono - town.ledger.sources().1.unwrap()
}

#[test]
fn three_thousand_paths_cost_thirty_calls_a_round() {
    let mut town = listing(3000, INTERVAL);
    for _ in 0..600 {
        town.pass(SECOND);
        assert!(oldest(&town) <= INTERVAL + SECOND * 3, "{:?}", oldest(&town));
    }
    assert!((19 * 30..=20 * 30).contains(&town.pages.len()), "{} pages in twenty rounds", town.pages.len());
    assert!(town.log.is_empty(), "and {} checks by path", town.log.len());
    assert_eq!(town.ledger.throttled_to(), None, "the rate holds what is asked for");
    assert!(!town.store_changed, "there is nothing to tell");
}

#[test]
fn as_long_as_there_is_no_such_list_the_rate_holds_no_more_than_it_does() {
    let mut town = town_at(2.0, 300, INTERVAL);
    town.list.versions = false;
    town.pass(MINUTE * 20);
    assert_eq!(town.ledger.checks(), Checks::Path(ByPath::Unsuitable));
    forget_calls(&mut town);
    for _ in 0..60 {
        town.pass(MINUTE);
        assert!(oldest(&town) <= SECOND * 300, "{:?}", oldest(&town));
    }
    assert!(town.pages.len() <= 3 * 4, "{} pages in an hour, of a list that shows nothing", town.pages.len());
    assert!(town.log.len() > 300 * 15, "{} checks in an hour", town.log.len());
    // Three hundred, three in two seconds.
    assert!((Some(SECOND * 200)..=Some(SECOND * 210)).contains(&town.ledger.throttled_to()));
    assert!(!town.store_changed, "there is nothing to tell");
}

#[test]
fn few_paths_are_checked_by_path() {
    let mut town = town_of(15, INTERVAL);
    town.pass(MINUTE * 30);
    assert_eq!((town.ledger.checks(), town.pages.len()), (Checks::Path(ByPath::Cheaper), 0));
}

#[test]
fn a_new_version_is_read_within_an_interval() {
    let mut town = listing(3000, INTERVAL);
    for n in [0, 1500, 2999] {
        town.put(&name(n));
    }
    town.pass(INTERVAL + SECOND * 5);
    for n in [0, 1500, 2999] {
        assert_eq!(town.held(&name(n)), Some(2));
    }
    // Each by two calls: by the list alone nothing is news.
    assert_eq!(town.log.len(), 6, "{:?}", town.log);
    forget_calls(&mut town);
    town.pass(MINUTE * 5);
    let asked = town.times(&name(0)).len();
    assert!((9..=11).contains(&asked), "too young for a list, it was checked {asked} times by path");
    town.pass(MINUTE * 7);
    forget_calls(&mut town);
    town.pass(MINUTE * 5);
    assert!(town.log.is_empty() && !town.pages.is_empty(), "{:?}", town.log);
}

#[test]
fn a_deactivation_is_found_by_path() {
    let mut town = listing(300, INTERVAL);
    let gone = path(&name(7));
    town.secret(&gone).deactivated = true;
    town.pass(INTERVAL + SECOND * 5);
    assert!(matches!(town.verdict(&name(7)), Verdict::Withdrawn { how: Withdrawal::VersionDeactivated, .. }));
    assert!(town.log.iter().all(|(_, path)| *path == gone) && !town.log.is_empty(), "{:?}", town.log);
    assert_eq!(town.ledger.checks(), Checks::List);
}

#[test]
fn a_secret_that_is_deleted_is_missing_by_path_and_not_by_the_list() {
    let mut town = listing(300, INTERVAL);
    let gone = path(&name(7));
    town.secrets.remove(&gone);
    while town.times(&name(7)).is_empty() {
        town.pass(SECOND);
    }
    assert!(matches!(town.verdict(&name(7)), Verdict::Missing { confirmed: false }));
    town.pass(SECOND * 20);
    assert!(matches!(town.verdict(&name(7)), Verdict::Missing { confirmed: true }));
}

#[test]
fn what_the_list_leaves_out_is_looked_at_by_path() {
    let mut town = town_of(700, INTERVAL);
    town.list.hidden = vec!["ns-3/".into()];
    town.pass(MINUTE * 20);
    assert_eq!(town.ledger.checks(), Checks::List);
    forget_calls(&mut town);
    town.pass(MINUTE * 10);
    assert!(town.log.iter().all(|(_, path)| path.as_str().starts_with("ns-3/")));
    let expected = 100 * 20;
    assert!((expected - 110..=expected + 110).contains(&town.log.len()), "{}", town.log.len());
    for n in 0..700 {
        let verdict = town.verdict(&name(n));
        assert!(matches!(verdict, Verdict::Active { .. }), "a list proves nothing of {n}");
    }
}

#[test]
fn a_pin_and_an_end_that_nears_are_looked_at_by_path() {
    let mut town = town_of(100, INTERVAL);
    let pinned = Source { path: path("pins/a"), pin: Some(version(1)) };
    town.ask_for("pins/a", pinned, Some(INTERVAL));
    // The end is known on both sides, and as long as it is to come the list is believed.
    let ends = path("ends/a");
    let end = town.now.wall + MINUTE * 40;
    town.secret(&ends).deactivates_at = Some(end + Duration::from_millis(500));
    town.synced("ends/a", INTERVAL);
    town.pass(MINUTE * 20);
    forget_calls(&mut town);
    town.pass(MINUTE * 10);
    assert!((19..=21).contains(&town.times("pins/a").len()), "{:?}", town.times("pins/a"));
    assert!(town.times("ends/a").is_empty(), "{:?}", town.times("ends/a"));
    assert_eq!(town.log.len(), town.times("pins/a").len(), "{:?}", town.log);
    town.pass(MINUTE * 15);
    assert!(matches!(town.verdict("ends/a"), Verdict::Withdrawn { how: Withdrawal::VersionDeactivated, .. }));
}

#[test]
fn where_only_data_may_be_read_the_list_is_not_asked() {
    let mut town = town_of(100, INTERVAL);
    town.pass(MINUTE);
    for entry in town.ledger.entries.values_mut() {
        entry.mode = Mode::Data;
        entry.by_data = 0;
    }
    town.pass(MINUTE);
    assert!(town.ledger.entries.values().all(|entry| !entry.settled), "an answer with data has told of them");
}

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
            assert!(oldest(&town) <= SECOND * 240, "{:?} after {kind:?}", oldest(&town));
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
            assert!(oldest(&town) <= SECOND * 240, "{:?}", oldest(&town));
        }
        assert!(town.pages.len() < 20, "{} pages", town.pages.len());
    }
}

#[test]
fn a_rate_limit_on_the_list_is_one_of_the_store() {
    let mut town = listing(3000, INTERVAL);
    let limited = Fault { retry_after: Some(SECOND * 120), ..fault(FaultKind::RateLimited) };
    town.list.fails = Some((0, limited));
    while *town.ledger.health() == Health::Ready {
        town.pass(SECOND);
    }
    forget_calls(&mut town);
    town.pass(SECOND * 115);
    assert!(town.log.is_empty() && town.pages.is_empty(), "it asked for rest");
    town.pass(SECOND * 30);
    assert_eq!((town.ledger.health(), town.ledger.checks()), (&Health::Ready, Checks::Path(ByPath::Failing)));
    assert!(!town.log.is_empty() && town.pages.is_empty(), "the list is left alone for longer");
}

#[test]
fn a_list_with_holes_is_followed_to_its_end() {
    let mut town = town_of(3000, INTERVAL);
    town.list.holes = true;
    town.pass(MINUTE * 20);
    assert_eq!(town.ledger.checks(), Checks::List);
    forget_calls(&mut town);
    town.pass(MINUTE * 5);
    assert!(town.log.is_empty() && town.pages.len() <= 46 * 10, "{} pages", town.pages.len());
}

#[test]
fn a_list_of_many_others_is_walked_only_where_that_is_cheaper() {
    for (others, way) in [(2_000, Checks::List), (20_000, Checks::Path(ByPath::Cheaper))] {
        let mut town = Town::new(20.0, 8);
        town.list.fails = None;
        for n in 0..others {
            town.secret(&path(&format!("others/{n}")));
        }
        for n in 0..100 {
            town.synced(&name(n), INTERVAL);
        }
        town.pass(MINUTE * 20);
        assert_eq!(town.ledger.checks(), way, "beside {others}");
        forget_calls(&mut town);
        town.pass(MINUTE * 60);
        let calls = town.pages.len() + town.log.len();
        let most = if way == Checks::List { 120 * 21 } else { 120 * 100 + 120 };
        assert!(calls <= most, "{calls} calls in an hour beside {others}");
        assert!(town.log.len() < 100 || town.pages.len() <= 100, "{} pages of trials", town.pages.len());
        assert!(!town.store_changed, "there is nothing to tell");
    }
}

#[test]
fn sources_that_are_checked_more_often_than_a_walk_pays_go_by_path() {
    let mut town = town_of(3000, MINUTE);
    for n in 0..20 {
        town.synced(&format!("often/{n}"), SECOND * 10);
    }
    town.pass(MINUTE * 30);
    assert_eq!(town.ledger.checks(), Checks::List);
    forget_calls(&mut town);
    let begun = town.now.mono - town.start;
    town.pass(MINUTE * 10);
    assert!((31 * 9..=31 * 10).contains(&town.pages.len()), "{} pages", town.pages.len());
    assert!(town.log.iter().all(|(_, path)| path.as_str().starts_with("often/")));
    let checks = town.log.len();
    assert!((20 * 48..=20 * 60).contains(&checks), "{checks} checks of twenty sources in ten minutes");
    for n in 0..20 {
        let gap = town.longest_gap(&format!("often/{n}"), begun);
        assert!(gap <= SECOND * 21, "{gap:?}: neither by path nor by the list");
    }
    assert!(!town.store_changed);
}

#[test]
fn one_walk_shows_longer_intervals_too() {
    let mut town = town_of(1000, INTERVAL);
    for n in 0..1000 {
        town.synced(&format!("seldom/{n}"), MINUTE * 10);
    }
    town.pass(MINUTE * 30);
    forget_calls(&mut town);
    town.pass(MINUTE * 10);
    assert!(town.log.is_empty(), "{} checks by path", town.log.len());
    assert!((20 * 19..=20 * 20).contains(&town.pages.len()), "{} pages", town.pages.len());
}

#[test]
fn intervals_are_stretched_to_what_walks_make_possible() {
    let mut town = town_at(2.0, 2000, SECOND * 10);
    town.pass(MINUTE * 90);
    assert_eq!(town.ledger.checks(), Checks::List);
    // Twenty pages, and a fifth of three calls in two seconds for them.
    assert_eq!(town.ledger.throttled_to(), Some(SECOND * 70));
    forget_calls(&mut town);
    for _ in 0..60 {
        town.pass(SECOND * 10);
        assert!(oldest(&town) <= SECOND * 100, "{:?}", oldest(&town));
    }
    assert!(town.log.is_empty() && town.pages.len() <= 20 * 10, "{} pages", town.pages.len());
}

#[test]
fn walks_leave_the_rate_to_those_who_have_more_to_do() {
    let mut town = listing(3000, INTERVAL);
    for n in 0..2000 {
        town.applied(&format!("big/{n}"), INTERVAL);
    }
    town.pass(MINUTE);
    for n in 0..10 {
        town.applied(&format!("small-{n}/a"), INTERVAL);
    }
    town.pass(SECOND * 10);
    for n in 0..10 {
        assert_eq!(town.held(&format!("small-{n}/a")), Some(1));
    }
    for _ in 0..30 {
        town.pass(SECOND * 10);
        let listed = town.ledger.entries.iter().filter(|(source, _)| source.path.as_str().starts_with("ns-"));
        let oldest = listed.map(|(_, entry)| town.now.mono - entry.checked.unwrap()).max().unwrap();
        assert!(oldest <= INTERVAL * 2, "{oldest:?} beside one who applies much");
    }
    assert_eq!(town.ledger.checks(), Checks::List);
}

#[test]
fn who_asks_for_a_check_gets_one_by_path_at_once() {
    let mut town = listing(300, MINUTE * 5);
    town.pass(SECOND * 20);
    forget_calls(&mut town);
    town.refresh(&name(3));
    town.pass(SECOND);
    assert_eq!((town.times(&name(3)).len(), town.pages.len()), (1, 0));
}

#[test]
fn a_shorter_interval_holds_at_once_beside_the_list() {
    let mut town = listing(300, MINUTE);
    town.synced(&name(3), SECOND * 10);
    forget_calls(&mut town);
    let begun = town.now.mono - town.start;
    town.pass(MINUTE * 5);
    let gap = town.longest_gap(&name(3), begun);
    assert!(gap <= SECOND * 21, "{gap:?}");
}

#[test]
fn the_list_is_walked_first_once_the_store_is_back() {
    let mut town = listing(3000, INTERVAL);
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
fn what_is_not_followed_any_more_is_not_walked_for() {
    let mut town = listing(300, INTERVAL);
    for n in 5..300 {
        town.ledger.forget(&town::id_of(&name(n)));
    }
    town.pass(MINUTE * 2);
    forget_calls(&mut town);
    town.pass(MINUTE * 10);
    assert_eq!((town.ledger.checks(), town.pages.len()), (Checks::Path(ByPath::Cheaper), 0));
    assert!((95..=105).contains(&town.log.len()), "{} checks of five", town.log.len());
}

#[test]
fn a_list_is_not_believed_of_what_is_younger_than_clocks_may_differ() {
    let mark = |at: &str| Mark { version: version(1), created_at: at.parse().ok() };
    let began = |at: &str| at.parse::<Timestamp>().ok();
    let after = Timing::default().list_after;
    let created = mark("2026-01-02T03:04:05.5Z");
    assert!(is_settled(&created, began("2026-01-02T03:14:05.5Z"), after));
    assert!(!is_settled(&created, began("2026-01-02T03:14:05.4Z"), after));
    assert!(!is_settled(&created, began("2026-01-02T03:00:00Z"), after), "it comes from the future");
    assert!(!is_settled(&Mark { created_at: None, ..created }, began("2026-01-02T03:14:06Z"), after));
    assert!(!is_settled(&created, None, after));
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
