//! Checks by the list of all secrets: what they cost, and what they show. What becomes of everything when the list fails is in
//! [`super::unruly`].

use super::{bulk::is_settled, entry::Mode, town::Town, *};

pub(super) const INTERVAL: Duration = Duration::from_secs(30);

/// A town at rest whose domain has a list, and in it `secrets` that some of seven namespaces follow.
pub(super) fn town_of(secrets: usize, interval: Duration) -> Town {
    town_at(20.0, secrets, interval)
}

pub(super) fn town_at(requests_per_second: f64, secrets: usize, interval: Duration) -> Town {
    let mut town = Town::new(requests_per_second, 8);
    town.list.fails = None;
    for n in 0..secrets {
        town.synced(&name(n), interval);
    }
    town
}

pub(super) fn name(n: usize) -> String {
    format!("ns-{}/{n:05}", n % 7)
}

/// The same, once it checks by the list.
pub(super) fn listing(secrets: usize, interval: Duration) -> Town {
    rested(town_of(secrets, interval))
}

pub(super) fn rested(mut town: Town) -> Town {
    town.pass(MINUTE * 20);
    assert_eq!(town.ledger.checks(), Checks::List);
    forget_calls(&mut town);
    town
}

/// What is asked of a list that hides something is tested by itself.
fn without_audits(mut town: Town) -> Town {
    town.ledger.timing.audit_every = Duration::from_hours(1000);
    town
}

pub(super) fn forget_calls(town: &mut Town) {
    town.log.clear();
    town.pages.clear();
    town.store_changed = false;
}

/// How long ago the source that waits longest was last checked.
pub(super) fn oldest(town: &Town) -> Duration {
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
    let mut town = rested(without_audits(town_at(2.0, 300, INTERVAL)));
    for n in [0, 150, 299] {
        town.put(&name(n));
    }
    town.pass(INTERVAL + SECOND * 5);
    for n in [0, 150, 299] {
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
    town.pass(town.latency);
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
        let most = if way == Checks::List { 120 * 21 + 100 } else { 120 * 100 + 120 };
        assert!(calls <= most, "{calls} calls in an hour beside {others}");
        assert!(town.log.len() <= 105 || town.pages.len() <= 100, "{} pages of trials", town.pages.len());
        assert!(!town.store_changed, "there is nothing to tell");
    }
}

#[test]
fn sources_that_are_checked_more_often_than_a_walk_pays_go_by_path() {
    let mut town = without_audits(town_of(3000, MINUTE));
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
    let mut town = without_audits(town_of(300, INTERVAL));
    for n in 0..300 {
        town.synced(&format!("seldom/{n}"), MINUTE * 10);
    }
    town.pass(MINUTE * 30);
    forget_calls(&mut town);
    town.pass(MINUTE * 10);
    assert!(town.log.is_empty(), "{} checks by path", town.log.len());
    assert!((6 * 19..=6 * 20).contains(&town.pages.len()), "{} pages", town.pages.len());
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
    // A fifth for audits too, which come sooner the first time.
    assert_eq!(town.ledger.audit_every().as_secs(), 2000 * 10 / 3);
    assert!(town.log.len() <= 600 && town.pages.len() <= 20 * 10, "{}, {} pages", town.log.len(), town.pages.len());
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

#[test]
fn what_the_list_shows_unchanged_is_checked_by_path_once_an_hour() {
    let mut town = listing(300, INTERVAL);
    town.pass(MINUTE * 60);
    forget_calls(&mut town);
    for _ in 0..12 {
        let begun = town.log.len();
        town.pass(MINUTE * 5);
        assert!(town.log.len() - begun <= 100, "{} at once", town.log.len() - begun);
    }
    assert_eq!((town.ledger.checks(), town.ledger.throttled_to()), (Checks::List, None));
    assert!((295..=305).contains(&town.log.len()), "{} checks by path in an hour", town.log.len());
    for n in 0..300 {
        assert!(!town.times(&name(n)).is_empty(), "{n}");
    }
    assert!((3 * 117..=3 * 120).contains(&town.pages.len()), "{} pages", town.pages.len());
}

#[test]
fn a_new_credential_is_proven_by_a_path_that_is_in_use() {
    let mut town = town_of(100, INTERVAL);
    town.synced("gone/a", INTERVAL);
    let mut town = rested(town);
    town.refresh("gone/a");
    town.pass(SECOND);
    assert_eq!(town.log.len(), 1, "what was last checked by path is that");
    town.ledger.forget(&town::id_of("gone/a"));
    town.secrets.remove(&path("gone/a"));
    town.pass(INTERVAL + SECOND * 5);
    forget_calls(&mut town);
    town.ledger.propose_credential(town.now);
    town.pass(SECOND);
    let [(_, proven)] = town.log.as_slice() else { panic!("{:?}", town.log) };
    assert!(proven.as_str().starts_with("ns-"), "{proven}");
}

#[test]
fn nothing_goes_stale_since_walks_begin() {
    let mut town = town_at(2.0, 700, INTERVAL);
    for n in 0..100 {
        let text = format!("pins/{n}");
        town.ask_for(&text, Source { path: path(&text), pin: Some(version(1)) }, Some(INTERVAL));
    }
    town.list.fails = Some((0, fault(FaultKind::Refused)));
    town.pass(MINUTE * 60);
    assert!(matches!(town.ledger.checks(), Checks::Path(_)));
    assert!(town.ledger.throttled_to() > Some(SECOND * 400), "{:?}", town.ledger.throttled_to());
    town.list.fails = None;
    town.ledger.propose_credential(town.now);
    for _ in 0..180 {
        town.pass(SECOND * 10);
        let stale = town.ledger.objects.values().filter(|object| town.ledger.stale_at(object) <= Some(town.now.mono));
        assert_eq!(stale.count(), 0, "{:?} after they began", town.ledger.checks());
    }
    assert_eq!(town.ledger.checks(), Checks::List);
}
