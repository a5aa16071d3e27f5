//! How long OKMS asks to be left alone, by `Retry-After`.

use std::collections::HashSet;

use super::{town::Town, *};

fn limited(seconds: u64) -> Fault {
    Fault { retry_after: Some(Duration::from_secs(seconds)), ..fault(FaultKind::RateLimited) }
}

fn unavailable(seconds: u64) -> Fault {
    Fault { retry_after: Some(Duration::from_secs(seconds)), ..fault(FaultKind::Unavailable) }
}

/// How long nothing is asked after the first answer with this fault.
fn rest_after(all: &Fault) -> Duration {
    let mut world = World::new();
    for n in 0..10 {
        world.put(&format!("p{n}"));
        world.sync(&format!("o{n}"), &format!("p{n}"));
    }
    world.faults.insert("*".into(), all.clone());
    while world.calls.is_empty() {
        world.pass(SECOND);
    }
    // A path, and the probe that tells whose fault it is.
    world.pass(SECOND);
    world.calls.clear();
    world.faults.clear();
    let begun = world.now.mono;
    while world.calls.is_empty() {
        world.pass(SECOND / 2);
    }
    world.now.mono - begun + SECOND
}

#[test]
fn the_store_is_left_alone_as_long_as_it_asks_up_to_fifteen_minutes() {
    for fault in [limited, unavailable] {
        for (asked, least) in [(60, 60), (840, 840), (900, 900), (7200, 900), (86_400, 900)] {
            let rest = rest_after(&fault(asked));
            let least = Duration::from_secs(least);
            assert!(rest + SECOND * 2 >= least && rest <= least + SECOND * 12, "{rest:?} after {asked} were asked for");
        }
    }
}

/// Two paths that are being checked.
fn two_under_way() -> (World, Vec<Request>) {
    let mut world = World::new();
    for path in ["a", "b"] {
        world.put(path);
        world.sync(path, path);
    }
    world.now.mono += MINUTE * 2;
    let requests = world.ledger.poll(world.now).requests;
    assert_eq!(requests.len(), 2);
    (world, requests)
}

fn assert_rests_for_five_minutes(mut world: World) {
    world.calls.clear();
    world.pass(SECOND * 299);
    assert!(world.calls.is_empty(), "{:?}", world.calls);
    world.pass(SECOND * 15);
    assert!(!world.calls.is_empty() && *world.ledger.health() == Health::Ready);
}

#[test]
fn a_longer_rest_that_is_asked_for_later_counts() {
    let (mut world, requests) = two_under_way();
    world.ledger.answer(world.now, &requests[0], Outcome::Failed(limited(10)));
    world.ledger.answer(world.now, &requests[1], Outcome::Failed(limited(300)));
    assert_rests_for_five_minutes(world);
}

#[test]
fn a_failure_of_the_whole_store_does_not_end_the_rest_that_a_path_asked_for() {
    let (mut world, requests) = two_under_way();
    // Whose failure it is has not been found out yet.
    world.ledger.answer(world.now, &requests[0], Outcome::Failed(unavailable(300)));
    world.ledger.answer(world.now, &requests[1], Outcome::Failed(fault(FaultKind::Tls)));
    assert!(matches!(world.ledger.health(), Health::Down { .. }));
    assert_rests_for_five_minutes(world);
}

#[test]
fn a_probe_that_began_before_does_not_end_the_rest() {
    let (mut world, requests) = two_under_way();
    world.ledger.answer(world.now, &requests[0], Outcome::Failed(fault(FaultKind::Unavailable)));
    let probe = world.ledger.poll(world.now).requests;
    assert_eq!(probe.len(), 1);
    world.ledger.answer(world.now, &requests[1], Outcome::Failed(limited(300)));
    let outcome = world.reply(&probe[0].call);
    world.ledger.answer(world.now, &probe[0], outcome);
    assert!(matches!(world.ledger.health(), Health::Down { .. }));
    assert_rests_for_five_minutes(world);
}

#[test]
fn one_path_is_left_alone_as_long_as_it_asks_even_if_somebody_wants_it_checked() {
    let mut world = World::new();
    for path in ["db", "other"] {
        world.put(path);
        world.sync(path, path);
    }
    let held = Some(world.mark("db", 1));
    world.faults.insert("db".into(), unavailable(600));
    while !world.calls.contains(&Call::Metadata(path("db"))) {
        world.pass(SECOND);
    }
    let on_db = |world: &World| world.calls.iter().filter(|call| **call == Call::Metadata(path("db"))).count();
    let before = on_db(&world);
    let begun = world.now.mono;
    world.faults.clear();
    for refresh in 1..10 {
        let sources = vec![Wish { source: Source { path: path("db"), pin: None }, held, optional: false }];
        let (object, need, interval, lane) = (object("db"), Need::Check, Some(MINUTE), Lane::Verify);
        let answer = world.ledger.ask(
            world.now,
            Ask { object, generation: 1, unchanged_for: Duration::ZERO, refresh, sources, need, interval, lane },
        );
        let Answer::Known { findings, .. } = answer else { panic!("it is known why it cannot be checked") };
        assert!(findings[0].verdict.is_trouble());
        world.pass(MINUTE);
        assert_eq!(on_db(&world), before, "asked after {:?}", world.now.mono - begun);
    }
    assert_eq!(*world.ledger.health(), Health::Ready, "the others are asked");
    world.wakes.clear();
    world.pass(MINUTE * 2);
    assert!(on_db(&world) > before && world.wakes.contains(&object("db")));
}

#[test]
fn a_read_that_is_to_rest_does_not_end_the_checks() {
    let mut world = World::new();
    world.put("db");
    world.put("other");
    world.sync("b", "other");
    let old = world.sync("a", "db");
    world.put("db");
    world.faults.insert("data of db".into(), unavailable(900));
    world.pass(MINUTE * 5);
    assert_eq!(world.data_calls(), 1);
    assert!(world.metadata_calls() >= 8, "{} checks", world.metadata_calls());
    world.deactivate("db", 1);
    world.pass(MINUTE * 2);
    let Answer::Known { findings, .. } = world.ask("a", "db", Some(old), Need::Check) else { panic!() };
    assert_eq!(findings[0].held, Some(Withdrawal::VersionDeactivated));
    world.faults.clear();
    world.pass(MINUTE * 7);
    assert_eq!(world.data_calls(), 1);
    world.pass(MINUTE * 3);
    assert!(world.data_calls() >= 2, "and is made once OKMS is ready for it");
}

#[test]
fn what_was_refused_may_be_asked_again_by_whoever_comes_once_the_rest_that_okms_asked_for_is_over() {
    let mut world = World::new();
    let db = Source { path: path("db"), pin: None };
    for path in ["db", "other"] {
        world.put(path);
        world.sync(path, path);
    }
    world.faults.insert("db".into(), Fault { retry_after: Some(SECOND * 2), ..fault(FaultKind::Refused) });
    while world.ledger.entries[&db].problem.is_none() {
        world.pass(SECOND);
    }
    world.faults.clear();
    world.pass(SECOND * 3);
    world.calls.clear();
    // By itself it is asked much later.
    let held = Some(world.mark("db", 1));
    let sources = vec![Wish { source: db.clone(), held, optional: false }];
    let (object, need, interval, lane) = (object("db"), Need::Check, Some(MINUTE), Lane::Verify);
    let ask = Ask { object, generation: 1, unchanged_for: Duration::ZERO, refresh: 1, sources, need, interval, lane };
    world.ledger.ask(world.now, ask);
    world.pass(SECOND);
    assert!(world.calls.contains(&Call::Metadata(path("db"))), "{:?}", world.calls);
}

#[test]
fn what_fell_due_during_a_rest_is_no_herd_afterwards() {
    let mut town = Town::new(20.0, 8);
    for n in 0..600 {
        town.synced(&format!("ns-{}/{n}", n % 7), MINUTE);
    }
    town.pass(MINUTE * 5);
    let now = town.now;
    town.ledger.breaker.trip(now, &limited(900), &Timing::default());
    let begun = now.mono - town.start;
    town.pass(MINUTE * 20);
    let after = town.log.iter().filter_map(|(at, _)| at.checked_sub(begun)).filter(|at| *at > SECOND * 2);
    let after: Vec<Duration> = after.collect();
    assert!(after[0] >= MINUTE * 15, "asked after {:?}", after[0]);
    let first = after[0];
    for (seconds, most) in [(1, 18), (2, 33), (10, 155)] {
        let count = after.iter().filter(|at| **at < first + SECOND * seconds).count();
        assert!(count <= most, "{count} requests in the first {seconds} s");
    }
    // What is to be checked at the end of the minute is asked for in the second after that.
    let soon = begun + first..begun + first + MINUTE + SECOND * 2;
    let checked: HashSet<_> = town.log.iter().filter(|(at, _)| soon.contains(at)).map(|(_, path)| path).collect();
    assert_eq!(checked.len(), 600, "and all were checked within a minute");
}

#[test]
fn what_an_outage_brought_together_is_apart_again_an_interval_later() {
    const PATHS: usize = 100;
    let mut world = World::new();
    for n in 0..PATHS {
        world.put(&format!("p{n}"));
        world.sync(&format!("o{n}"), &format!("p{n}"));
    }
    world.pass(MINUTE * 3);
    world.faults.insert("*".into(), fault(FaultKind::Unavailable));
    world.pass(MINUTE * 20);
    world.faults.clear();
    while *world.ledger.health() != Health::Ready {
        world.pass(SECOND);
    }
    world.pass(MINUTE * 2);
    // Calls in each second of two intervals.
    let seconds: Vec<usize> = (0..120)
        .map(|_| {
            world.calls.clear();
            world.pass(SECOND);
            world.metadata_calls()
        })
        .collect();
    assert!(seconds.iter().sum::<usize>() >= PATHS * 2 - PATHS / 10, "all are checked in their turn");
    let busiest = seconds.windows(10).map(|ten| ten.iter().sum::<usize>()).max().unwrap();
    assert!(busiest < PATHS * 6 / 10, "{busiest} of {PATHS} in a sixth of an interval");
}

#[test]
fn checks_of_an_interval_are_made_in_company() {
    let names: Vec<String> = (0..200).map(|n| format!("o{n}")).collect();
    let mut world = failures::at_rest(&names, MINUTE);
    let (mut made, mut moments) = (0, 0);
    for _ in 0..1200 {
        world.calls.clear();
        world.now.mono += MINUTE / 1200;
        world.now.wall += MINUTE / 1200;
        world.run();
        made += world.calls.len();
        moments += usize::from(!world.calls.is_empty());
    }
    assert!((200..=210).contains(&made), "{made} checks in a minute");
    assert!(moments <= 121, "{made} checks at {moments} moments");
}

#[test]
fn what_is_checked_in_one_storm_is_not_checked_together_from_then_on() {
    let names: Vec<String> = (0..200).map(|n| format!("o{n}")).collect();
    let mut world = failures::at_rest(&names, MINUTE);
    world.calls.clear();
    for name in &names {
        let mark = world.mark(name, 1);
        world.ask(name, name, Some(mark), Need::Data);
    }
    world.pass(SECOND);
    assert_eq!(world.metadata_calls(), 200, "the storm");
    for name in &names {
        let mark = world.mark(name, 1);
        world.ask(name, name, Some(mark), Need::Data);
        world.ledger.settle(&object(name), &[Some(mark)]);
    }
    for _ in 0..20 {
        world.calls.clear();
        world.pass(MINUTE / 10);
        // They were spread over half an interval before.
        assert!(world.metadata_calls() < 80, "{} checks in a tenth of an interval", world.metadata_calls());
    }
}
