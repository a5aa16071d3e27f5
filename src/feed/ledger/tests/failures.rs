//! Whose failure it is, and what goes on beside it.

use super::{
    super::entry::{Entry, Seen},
    *,
};

/// A world in which OKMS did not find the secret that "a" was made from, for the first time.
fn missing_once() -> (World, Mark) {
    let mut world = World::new();
    world.put("db");
    let mark = world.sync("a", "db");
    world.okms.clear();
    world.until_woken();
    assert!(matches!(world.verdict("a", "db", Some(mark)), Verdict::Missing { confirmed: false }));
    (world, mark)
}

#[test]
fn a_not_found_counts_only_when_seen_twice_while_the_store_works() {
    let (mut world, mark) = missing_once();
    world.faults.insert(String::new(), fault(FaultKind::Unavailable));
    world.pass(SECOND * 20);
    assert!(matches!(world.ledger.health(), Health::Down { .. }), "the probe failed");
    assert!(matches!(world.verdict("a", "db", Some(mark)), Verdict::Missing { confirmed: false }));
    world.faults.clear();
    world.pass(MINUTE * 2);
    assert!(matches!(world.verdict("a", "db", Some(mark)), Verdict::Missing { confirmed: true }));
}

#[test]
fn a_not_found_does_not_confirm_another() {
    // The probe asks the path that was last told, which is not the one that is missed first.
    for last in ["db", "other"] {
        let mut world = World::new();
        for path in ["db", "other"] {
            world.put(path);
            world.sync(path, path);
        }
        world.pass(MINUTE);
        while world.calls.last() != Some(&Call::Metadata(path(last))) {
            world.pass(SECOND);
        }
        world.okms.clear();
        world.faults.insert(String::new(), fault(FaultKind::Unavailable));
        world.pass(MINUTE * 5);
        assert!(matches!(world.ledger.health(), Health::Down { .. }), "the root failed");
        let confirmed = |entry: &Entry| matches!(entry.seen, Some(Seen::Missing { confirmed: true, .. }));
        assert!(!world.ledger.entries.values().any(confirmed));
        world.faults.clear();
        world.pass(MINUTE * 5);
        assert!(world.ledger.entries.values().all(confirmed), "now the root shows that OKMS works");
    }
}

#[test]
fn a_not_found_is_asked_again_after_fifteen_seconds_whatever_the_interval() {
    let (mut world, mark) = missing_once();
    world.calls.clear();
    let asked_at = world.now.mono;
    while world.metadata_calls() == 0 {
        world.pass(SECOND);
    }
    assert!(world.now.mono - asked_at <= SECOND * 16);
    assert!(matches!(world.verdict("a", "db", Some(mark)), Verdict::Missing { confirmed: true }));
}

#[test]
fn a_refused_path_is_that_objects_alone_while_the_probe_succeeds() {
    let mut world = World::with_a_refused_path();
    world.run();
    let Answer::Known { findings, .. } = world.ask("a", "db", None, Need::Data) else { panic!() };
    assert!(matches!(&findings[0].verdict, Verdict::Trouble(trouble) if trouble.kind == TroubleKind::Forbidden));
    assert_eq!(*world.ledger.health(), Health::Ready);
    world.faults.clear();
    world.wakes.clear();
    world.pass(MINUTE);
    assert!(world.wakes.contains(&object("a")), "it is tried again by itself");
}

#[test]
fn metadata_refused_but_data_granted_is_a_working_source() {
    let mut world = World::new();
    world.put("db");
    world.ask("a", "db", None, Need::Data);
    let todo = world.ledger.poll(world.now);
    let [request] = todo.requests.as_slice() else { panic!() };
    world.ledger.answer(world.now, request, Outcome::Failed(fault(FaultKind::Refused)));
    world.run();
    let Answer::Known { findings, .. } = world.ask("a", "db", None, Need::Data) else { panic!() };
    assert!(matches!(findings[0].verdict, Verdict::Active { value: Some(_), .. }));
    assert_eq!(findings[0].current, None, "a data answer does not tell whether something newer exists");
}

/// The cheap check was refused, and so was everything else: that shows nothing of single rights.
#[test]
fn a_refusal_of_everything_leaves_the_cheap_check_behind() {
    let mut world = World::new();
    let names: Vec<String> = (0..20).map(|n| format!("o{n}")).collect();
    let mut marks = Vec::new();
    for name in &names {
        world.put(name);
        marks.push(world.sync(name, name));
    }
    let refreshed = |world: &mut World, name: &str, held: Mark| {
        let sources = vec![Wish { source: Source { path: path(name), pin: None }, held: Some(held), optional: false }];
        let (object, need, interval, lane) = (object(name), Need::Check, Some(MINUTE), Lane::Verify);
        let ask =
            Ask { object, generation: 1, unchanged_for: Duration::ZERO, refresh: 1, sources, need, interval, lane };
        world.ledger.ask(world.now, ask)
    };
    world.faults.insert("*".into(), fault(FaultKind::Refused));
    // Somebody wants all of them to be checked at once, so that many are refused before it is known that it is the store.
    for (name, mark) in names.iter().zip(&marks) {
        refreshed(&mut world, name, *mark);
    }
    world.pass(MINUTE * 2);
    assert!(matches!(world.ledger.health(), Health::Down { trouble } if trouble.kind == StoreTroubleKind::Refused));
    world.faults.clear();
    world.calls.clear();
    world.pass(MINUTE * 3);
    assert_eq!(world.data_calls(), 0, "{:?}", world.calls);
    for (name, mark) in names.iter().zip(marks) {
        let Answer::Known { findings, .. } = refreshed(&mut world, name, mark) else { panic!("{name} is not known") };
        assert_eq!(findings[0].current, Some(version(1)), "{name}");
    }
}

/// With the right to data alone, and an OKMS that takes fewer requests than there are objects.
#[test]
fn where_only_data_may_be_read_a_rate_limit_starves_nobody() {
    let mut world = World::new();
    let names: Vec<String> = (0..20).map(|n| format!("o{n}")).collect();
    for name in &names {
        world.put(name);
        let mark = world.mark(name, 1);
        world.ask(name, name, Some(mark), Need::Check);
    }
    let (begun, mut asked) = (world.now.mono, 0);
    while world.now.mono < begun + 5 * MINUTE {
        let todo = world.ledger.poll(world.now);
        for request in &todo.requests {
            asked += 1;
            let outcome = match &request.call {
                _ if asked % 10 == 0 => Outcome::Failed(fault(FaultKind::RateLimited)),
                Call::Metadata(_) => Outcome::Failed(fault(FaultKind::Refused)),
                call => world.reply(call),
            };
            world.ledger.answer(world.now, request, outcome);
        }
        let pause = todo.next.map_or(SECOND, |next| next.saturating_duration_since(world.now.mono));
        let pause = if todo.requests.is_empty() { pause.max(Duration::from_millis(1)) } else { Duration::ZERO };
        (world.now.mono, world.now.wall) = (world.now.mono + pause, world.now.wall + pause);
    }
    for name in &names {
        let entry = &world.ledger.entries[&Source { path: path(name), pin: None }];
        assert!(entry.checked.is_some(), "{name} was not read in {asked} requests");
    }
}

#[test]
fn when_the_probe_fails_too_it_is_the_store_and_nothing_else_is_asked() {
    let mut world = World::new();
    world.put("db");
    let mark = world.sync("a", "db");
    world.faults.insert("*".into(), fault(FaultKind::Unavailable));
    world.pass(MINUTE * 4);
    assert!(
        matches!(world.ledger.health(), Health::Down { trouble } if trouble.kind == StoreTroubleKind::OkmsUnavailable)
    );
    assert!(world.wakes.is_empty(), "a synced object is believed within the bound");
    assert!(world.calls.len() < 20, "{} calls: the breaker did not open", world.calls.len());
    world.pass(MINUTE * 2);
    assert_eq!(world.wakes, [object("a")], "and told once when the bound is crossed");
    assert!(matches!(world.ask("a", "db", Some(mark), Need::Check), Answer::Down { stale: true, .. }));
    world.wakes.clear();
    world.faults.clear();
    world.until_woken();
    assert!(matches!(world.verdict("a", "db", Some(mark)), Verdict::Active { .. }));
    world.wakes.clear();
    world.pass(MINUTE * 10);
    assert!(world.wakes.is_empty(), "and once on recovery");
}

#[test]
fn an_object_that_asks_before_it_was_checked_again_is_not_told_that_the_store_is_back() {
    let mut world = World::new();
    for text in ["db", "other"] {
        world.put(text);
    }
    let held = [world.sync("a", "db"), world.sync("b", "other")];
    world.faults.insert("*".into(), fault(FaultKind::Unavailable));
    world.pass(MINUTE * 10);
    let down = |answer| matches!(answer, Answer::Down { stale: true, .. });
    assert!(down(world.ask("a", "db", Some(held[0]), Need::Check)));
    assert!(down(world.ask("b", "other", Some(held[1]), Need::Check)));
    world.faults.clear();
    world.wakes.clear();
    while world.wakes.is_empty() {
        // Whatever wakes it, its own status for one, it has nothing to say until it was checked.
        for (name, text, held) in [("a", "db", held[0]), ("b", "other", held[1])] {
            let answer = world.ask(name, text, Some(held), Need::Check);
            assert!(!matches!(answer, Answer::Known { stale: true, .. }), "{name} is told that it was not checked");
        }
        world.pass(SECOND / 10);
    }
    world.pass(MINUTE * 2);
    assert!(matches!(world.verdict("a", "db", Some(held[0])), Verdict::Active { .. }));
    assert!(matches!(world.verdict("b", "other", Some(held[1])), Verdict::Active { .. }));
}

#[test]
fn a_new_object_hears_of_a_broken_store_at_once() {
    let mut world = World::new();
    world.put("db");
    world.faults.insert("*".into(), fault(FaultKind::Tls));
    world.ask("a", "db", None, Need::Data);
    world.run();
    assert_eq!(world.wakes, [object("a")]);
    assert!(matches!(world.ask("a", "db", None, Need::Data), Answer::Down { stale: false, .. }));
    world.faults.clear();
    world.wakes.clear();
    world.pass(MINUTE);
    assert!(world.wakes.contains(&object("a")));
}

#[test]
fn retry_after_is_obeyed_up_to_its_cap() {
    let mut world = World::new();
    world.put("db");
    world.sync("a", "db");
    let asked = Fault { retry_after: Some(MINUTE * 5), ..fault(FaultKind::RateLimited) };
    world.faults.insert("*".into(), asked);
    world.pass(MINUTE);
    world.calls.clear();
    world.pass(MINUTE * 4);
    assert!(world.calls.is_empty(), "OKMS asked for five minutes of rest: {:?}", world.calls);
    world.pass(MINUTE + SECOND * 12);
    assert!(!world.calls.is_empty());
}

#[test]
fn a_newer_version_that_cannot_be_read_makes_the_older_one_stale_and_does_not_end_its_checks() {
    let mut world = World::new();
    world.put("db");
    let old = world.sync("a", "db");
    world.put("db");
    world.faults.insert("data of db".into(), fault(FaultKind::Unavailable));
    world.pass(MINUTE * 4);
    let held = |world: &mut World| match world.ask("a", "db", Some(old), Need::Check) {
        Answer::Known { findings, stale } => (findings[0].held, stale),
        _ => panic!("not known"),
    };
    assert_eq!(held(&mut world), (None, false), "within the bound");
    world.pass(MINUTE * 3);
    assert_eq!(held(&mut world), (None, true), "the checks went well, but the target is old");
    world.deactivate("db", 1);
    world.pass(MINUTE * 2);
    assert_eq!(held(&mut world).0, Some(Withdrawal::VersionDeactivated));
    world.faults.clear();
    world.wakes.clear();
    // A value that nobody fetches would be dropped again.
    world.until_woken();
    assert!(matches!(world.verdict("a", "db", Some(old)), Verdict::Active { value: Some(_), .. }));
}

#[test]
fn a_version_that_is_too_large_is_checked_on_and_given_up_for_the_next_one() {
    let mut world = World::new();
    world.put("db");
    let old = world.sync("a", "db");
    world.put("db");
    world.faults.insert("data of db".into(), fault(FaultKind::TooLarge));
    world.pass(MINUTE * 60);
    let trouble =
        |verdict: Verdict| matches!(verdict, Verdict::Trouble(trouble) if trouble.kind == TroubleKind::TooLarge);
    assert!(trouble(world.verdict("a", "db", Some(old))));
    world.calls.clear();
    world.pass(MINUTE * 60);
    assert!(trouble(world.verdict("a", "db", Some(old))));
    assert!((50..=70).contains(&world.metadata_calls()), "{} checks in an hour", world.metadata_calls());
    assert!((4..=7).contains(&world.data_calls()), "{} reads in an hour", world.data_calls());
    world.put("db");
    world.faults.clear();
    world.pass(MINUTE);
    let Verdict::Active { mark, value: Some(_), .. } = world.verdict("a", "db", Some(old)) else { panic!() };
    assert_eq!(mark.version.get(), 3);
}

#[test]
fn a_path_that_answered_well_before_and_fails_now_does_not_take_the_store_with_it() {
    let mut world = World::new();
    world.put("a");
    world.put("b");
    world.sync("b", "b");
    world.sync("a", "a");
    world.faults.insert("a".into(), fault(FaultKind::Unavailable));
    world.faults.insert("b".into(), fault(FaultKind::Unavailable));
    for _ in 0..10 {
        world.pass(MINUTE);
        assert_eq!(*world.ledger.health(), Health::Ready);
    }
}

#[test]
fn others_who_ask_meanwhile_do_not_make_a_refusal_last_longer() {
    let mut world = World::new();
    world.faults.insert("db".to_owned(), fault(FaultKind::Refused));
    let objects: Vec<String> = (0..10).map(|n| format!("o{n}")).collect();
    for name in &objects {
        world.pass(SECOND);
        world.ask(name, "db", None, Need::Data);
        world.run();
        world.ask(name, "db", None, Need::Data);
        world.ledger.settle(&object(name), &[None]);
    }
    world.faults.clear();
    world.put("db");
    world.wakes.clear();
    world.pass(40 * SECOND);
    for name in &objects {
        assert!(world.wakes.contains(&object(name)), "{name} does not hear of it: {:?}", world.wakes);
    }
}

#[test]
fn new_credentials_that_are_refused_too_do_not_make_a_refusal_last_longer() {
    let mut world = World::new();
    world.put("db");
    world.faults.insert("db".to_owned(), fault(FaultKind::Refused));
    world.ask("a", "db", None, Need::Data);
    for _ in 0..6 {
        world.pass(SECOND);
        world.ledger.propose_credential(world.now);
        world.run();
        assert!(world.ledger.take_promoted().is_some());
    }
    world.faults.clear();
    world.wakes.clear();
    world.pass(40 * SECOND);
    assert!(world.wakes.contains(&object("a")), "it does not hear that it may read: {:?}", world.calls);
}

#[test]
fn who_asks_in_a_row_does_not_put_the_next_check_off() {
    let mut world = World::new();
    world.faults.insert("forbidden".to_owned(), fault(FaultKind::Refused));
    for path in ["missing", "forbidden"] {
        for _ in 0..6 {
            world.pass(Duration::from_millis(100));
            world.ask(path, path, None, Need::Data);
            world.run();
            world.ask(path, path, None, Need::Data);
            world.ledger.settle(&object(path), &[None]);
        }
    }
    world.faults.clear();
    world.put("missing");
    world.put("forbidden");
    world.wakes.clear();
    world.pass(40 * SECOND);
    let woken = |name: &str| world.wakes.iter().any(|id| &*id.name == name);
    assert!(woken("missing") && woken("forbidden"), "{:?}", world.wakes);
}

#[test]
fn what_was_blamed_on_a_path_before_an_outage_is_asked_again_after_it_and_not_told() {
    let mut world = World::new();
    for text in ["db", "other"] {
        world.put(text);
    }
    let (mark, other) = (world.sync("a", "db"), world.sync("b", "other"));
    world.faults.insert("db".into(), fault(FaultKind::Unavailable));
    world.until_woken();
    assert!(
        matches!(world.verdict("a", "db", Some(mark)), Verdict::Trouble(_)),
        "while the store works it is the path's"
    );
    world.faults.insert("*".into(), fault(FaultKind::Unavailable));
    world.pass(MINUTE * 10);
    assert!(matches!(world.ledger.health(), Health::Down { .. }));
    world.faults.clear();
    for _ in 0..1200 {
        for (name, text, held) in [("a", "db", mark), ("b", "other", other)] {
            if let Answer::Known { findings, .. } = world.ask(name, text, Some(held), Need::Check) {
                assert!(matches!(findings[0].verdict, Verdict::Active { .. }), "{name} is told of what is over");
            }
        }
        world.pass(SECOND / 10);
    }
    assert!(matches!(world.verdict("a", "db", Some(mark)), Verdict::Active { .. }));
}

#[test]
fn a_failure_is_a_paths_own_only_once_a_later_request_went_well() {
    let mut world = World::new();
    for text in ["a", "b", "c"] {
        world.put(text);
        world.sync(text, text);
    }
    for text in ["a", "b", "c"] {
        assert!(matches!(world.ask(text, text, None, Need::Data), Answer::Pending));
    }
    let checks = world.ledger.poll(world.now).requests;
    let of = |text: &str| checks.iter().find(|request| request.call == Call::Metadata(path(text))).unwrap();
    let pass = |world: &mut World| world.now.mono += Duration::from_millis(10);
    let unavailable = || Outcome::Failed(fault(FaultKind::Unavailable));

    pass(&mut world);
    let good = world.reply(&of("b").call);
    world.ledger.answer(world.now, of("b"), good);
    world.ledger.answer(world.now, of("a"), unavailable());
    assert!(matches!(world.ask("a", "a", None, Need::Data), Answer::Pending), "the other one may have been the last");

    // It works once more for the probe; what fails while that is under way is still in doubt.
    let requests = world.ledger.poll(world.now).requests;
    let probe = requests.into_iter().find(|request| matches!(request.call, Call::Metadata(_))).unwrap();
    pass(&mut world);
    world.ledger.answer(world.now, of("c"), unavailable());
    let good = world.reply(&probe.call);
    world.ledger.answer(world.now, &probe, good);
    let Answer::Known { findings, .. } = world.ask("a", "a", None, Need::Data) else { panic!("the probe showed it") };
    assert!(findings[0].verdict.is_trouble());
    assert!(matches!(world.ask("c", "c", None, Need::Data), Answer::Pending), "it failed after the probe had begun");

    world.faults.insert("*".into(), fault(FaultKind::Unavailable));
    world.run();
    for text in ["a", "c"] {
        assert!(matches!(world.ask(text, text, None, Need::Data), Answer::Down { .. }), "{text}");
    }
}

/// A store that may be asked for as much as one likes, with objects at rest.
pub(super) fn at_rest(names: &[String], interval: Duration) -> World {
    let mut world = World::new();
    let limits =
        Limits { requests_per_second: 1000.0, concurrent_requests: 100, withdrawals: WithdrawalLimit::Percent(20) };
    world.ledger.set_limits(world.now, limits);
    for name in names {
        world.put(name);
        let mark = world.mark(name, 1);
        world.ask_every(name, name, Some(mark), Some(interval));
    }
    world.run();
    for name in names {
        let mark = world.mark(name, 1);
        world.ask_every(name, name, Some(mark), Some(interval));
        world.ledger.settle(&object(name), &[Some(mark)]);
    }
    world.pass(interval);
    world.wakes.clear();
    world
}

/// Lets OKMS be down for so long, and then until the probe has seen that it is back.
fn outage(world: &mut World, lasts: Duration) {
    world.faults.insert("*".into(), fault(FaultKind::Unavailable));
    world.pass(lasts);
    world.faults.clear();
    while *world.ledger.health() != Health::Ready {
        world.pass(SECOND / 10);
    }
    world.calls.clear();
}

#[test]
fn what_fell_due_while_okms_was_down_is_checked_over_one_interval() {
    let names: Vec<String> = (0..200).map(|n| format!("o{n}")).collect();
    let mut world = at_rest(&names, MINUTE);
    outage(&mut world, MINUTE * 2);
    let mut tenths = Vec::new();
    for _ in 0..10 {
        world.calls.clear();
        world.pass(MINUTE / 10);
        tenths.push(world.metadata_calls());
    }
    assert!(tenths.iter().sum::<usize>() >= 200, "{tenths:?}");
    assert!(tenths.iter().all(|calls| *calls < 50), "{tenths:?}");
    assert!(world.wakes.is_empty(), "nobody was told anything");
}

#[test]
fn who_was_told_that_okms_is_down_hears_within_a_minute_that_it_is_back() {
    let names: Vec<String> = (0..20).map(|n| format!("o{n}")).collect();
    let mut world = at_rest(&names, MINUTE * 10);
    world.faults.insert("*".into(), fault(FaultKind::Unavailable));
    world.pass(MINUTE * 45);
    for name in &names {
        let mark = world.mark(name, 1);
        let answer = world.ask_every(name, name, Some(mark), Some(MINUTE * 10));
        assert!(matches!(answer, Answer::Down { stale: true, .. }));
    }
    outage(&mut world, MINUTE);
    world.wakes.clear();
    world.pass(MINUTE);
    assert_eq!(world.wakes.len(), names.len());
}

#[test]
fn what_an_outage_left_is_checked_before_it_is_stale() {
    let names: Vec<String> = (0..200).map(|n| format!("o{n}")).collect();
    let mut world = at_rest(&names, MINUTE * 2);
    // Some were last checked almost two minutes before it, and are believed for six.
    outage(&mut world, MINUTE * 3);
    world.pass(MINUTE * 3);
    assert!(world.wakes.is_empty(), "{} were told that they could not be checked for too long", world.wakes.len());
}

#[test]
fn who_asks_after_an_outage_does_not_make_it_a_rush() {
    let names: Vec<String> = (0..200).map(|n| format!("o{n}")).collect();
    let mut world = at_rest(&names, MINUTE);
    outage(&mut world, MINUTE * 2);
    for name in &names {
        let mark = world.mark(name, 1);
        world.ask_every(name, name, Some(mark), Some(MINUTE));
    }
    world.pass(SECOND);
    assert!(world.calls.len() < 30, "{} checks in a second", world.calls.len());
}

#[test]
fn a_not_found_is_confirmed_as_soon_as_okms_is_back() {
    let (mut world, mark) = missing_once();
    outage(&mut world, SECOND * 20);
    world.pass(SECOND);
    assert!(matches!(world.verdict("a", "db", Some(mark)), Verdict::Missing { confirmed: true }));
}

#[test]
fn an_answer_that_cannot_be_is_its_paths_own_without_asking_the_probe() {
    let mut world = World::new();
    world.put("db");
    let older = world.okms.clone();
    world.pass(MINUTE);
    world.put("db");
    world.sync("a", "db");
    world.okms = older;
    world.faults.insert(String::new(), fault(FaultKind::Unavailable));
    world.ask("a", "db", None, Need::Data);
    world.pass(SECOND);
    let Answer::Known { findings, .. } = world.ask("a", "db", None, Need::Data) else { panic!("it is not told") };
    assert!(matches!(&findings[0].verdict, Verdict::Trouble(trouble) if trouble.kind == TroubleKind::UnexpectedAnswer));
    assert_eq!(*world.ledger.health(), Health::Ready);
}
