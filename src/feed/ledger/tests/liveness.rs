//! Nothing waits for ever: after each of these orders of events every source is checked again, and everybody hears of it.

use super::*;

impl World {
    /// Takes the requests that are to be started now, without answering them.
    fn started(&mut self) -> Vec<Request> {
        let todo = self.ledger.poll(self.now);
        self.wakes.extend(todo.wakes);
        todo.requests
    }

    fn answer(&mut self, request: &Request, outcome: Outcome) {
        self.ledger.answer(self.now, request, outcome);
    }

    fn advance(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall += time;
    }

    /// Whether each path is checked within a few intervals from now.
    fn assert_checked(&mut self, paths: &[&str]) {
        self.calls.clear();
        self.pass(MINUTE * 5);
        for text in paths {
            let checked = self.calls.iter().any(|call| *call == Call::Metadata(path(text)));
            assert!(checked, "{text} is never checked again: {:?}", self.calls);
        }
    }
}

#[test]
fn an_object_that_was_believed_while_the_store_was_down_is_checked_once_it_is_back() {
    let mut world = World::new();
    world.put("db");
    let mark = world.mark("db", 1);
    world.faults.insert("*".into(), fault(FaultKind::Unavailable));
    world.ledger.disconnect(world.now, StoreTrouble { kind: StoreTroubleKind::OkmsUnavailable, message: "x".into() });
    world.ledger.propose_credential(world.now);
    world.run();
    assert!(matches!(world.ask("a", "db", Some(mark), Need::Check), Answer::Down { .. }));
    // The reconcile keeps what there is.
    world.ledger.settle(&object("a"), &[Some(mark)]);
    world.faults.clear();
    world.assert_checked(&["db"]);
}

#[test]
fn a_source_is_checked_on_after_a_read_that_failed_once() {
    let mut world = World::new();
    world.put("db");
    world.ask("a", "db", None, Need::Data);
    let check = world.started().remove(0);
    let outcome = world.reply(&check.call);
    world.answer(&check, outcome);
    let read = world.started().remove(0);
    assert!(matches!(read.call, Call::Data(..)));
    world.answer(&read, Outcome::Failed(fault(FaultKind::Unavailable)));
    world.wakes.clear();
    world.pass(SECOND * 5);
    let Verdict::Active { mark, value: Some(_), .. } = world.verdict("a", "db", None) else { panic!("not read") };
    world.ledger.settle(&object("a"), &[Some(mark)]);
    world.assert_checked(&["db"]);
}

#[test]
fn a_version_that_cannot_be_read_does_not_hide_the_next_one() {
    let mut world = World::new();
    world.put("db");
    let mark = world.sync("a", "db");
    world.put("db");
    world.unreadable.insert(path("db"), (version(2), fault(FaultKind::TooLarge)));
    world.pass(MINUTE * 10);
    world.put("db");
    world.wakes.clear();
    world.pass(MINUTE * 2);
    assert!(world.wakes.contains(&object("a")), "version 3 was never noticed");
    assert!(matches!(world.verdict("a", "db", Some(mark)), Verdict::Active { mark, .. } if mark.version.get() == 3));
}

#[test]
fn a_new_version_that_cannot_be_read_is_not_hidden_behind_the_bound_for_ever() {
    let mut world = World::new();
    world.put("db");
    let mark = world.sync("a", "db");
    world.put("db");
    world.unreadable.insert(path("db"), (version(2), fault(FaultKind::Refused)));
    world.pass(MINUTE * 7);
    let answer = world.ask("a", "db", Some(mark), Need::Check);
    assert!(matches!(answer, Answer::Known { stale: true, .. }), "it is known for minutes that the target is outdated");
}

#[test]
fn a_check_that_falls_due_during_a_slow_read_is_made_after_it() {
    let mut world = World::new();
    world.put("db");
    world.ask("a", "db", None, Need::Data);
    let check = world.started().remove(0);
    let outcome = world.reply(&check.call);
    world.answer(&check, outcome);
    let read = world.started().remove(0);
    world.advance(MINUTE * 2);
    assert!(world.started().is_empty());
    let outcome = world.reply(&read.call);
    world.answer(&read, outcome);
    let Verdict::Active { mark, value: Some(_), .. } = world.verdict("a", "db", None) else { panic!("not read") };
    world.ledger.settle(&object("a"), &[Some(mark)]);
    world.assert_checked(&["db"]);
}

#[test]
fn what_was_suspected_is_asked_again_after_the_store_was_rate_limited() {
    let mut world = World::new();
    for text in ["a", "b"] {
        world.put(text);
        world.sync(text, text);
    }
    world.advance(MINUTE * 2);
    let mut requests = world.started();
    assert_eq!(requests.len(), 2);
    world.answer(&requests.remove(0), Outcome::Failed(fault(FaultKind::Unavailable)));
    // The probe is on its way; before it is back, another request is told to slow down.
    world.answer(&requests.remove(0), Outcome::Failed(fault(FaultKind::RateLimited)));
    world.assert_checked(&["a", "b"]);
}

#[test]
fn what_was_suspected_is_asked_again_after_the_credential_was_away() {
    let mut world = World::new();
    world.put("a");
    world.sync("a", "a");
    world.advance(MINUTE * 2);
    let request = world.started().remove(0);
    world.answer(&request, Outcome::Failed(fault(FaultKind::Unavailable)));
    world.ledger.disconnect(world.now, StoreTrouble { kind: StoreTroubleKind::InvalidCredential, message: "x".into() });
    world.pass(SECOND);
    world.ledger.propose_credential(world.now);
    world.assert_checked(&["a"]);
}

#[test]
fn a_source_shared_with_an_object_without_an_interval_is_checked_at_the_interval_of_the_other() {
    let mut world = World::new();
    world.put("db");
    let mark = world.mark("db", 1);
    world.ask_every("a", "db", Some(mark), None);
    world.run();
    world.ask_every("a", "db", Some(mark), None);
    world.ledger.settle(&object("a"), &[Some(mark)]);
    world.pass(MINUTE * 30);
    world.ask_every("b", "db", Some(mark), Some(MINUTE));
    world.assert_checked(&["db"]);
}

#[test]
fn a_shorter_interval_holds_at_once() {
    let mut world = World::new();
    world.put("db");
    let mark = world.mark("db", 1);
    world.ask_every("a", "db", Some(mark), Some(MINUTE * 600));
    world.run();
    world.ask_every("a", "db", Some(mark), Some(MINUTE * 600));
    world.ledger.settle(&object("a"), &[Some(mark)]);
    world.pass(MINUTE);
    world.ask_every("a", "db", Some(mark), Some(MINUTE));
    world.assert_checked(&["db"]);
    world.faults.insert("*".into(), fault(FaultKind::Unavailable));
    world.wakes.clear();
    world.pass(MINUTE * 7);
    assert_eq!(world.wakes, [object("a")], "and so does the bound that follows from it");
}

#[test]
fn an_answer_from_long_ago_is_no_answer_to_who_comes_now() {
    let mut world = World::new();
    assert!(matches!(world.ask("a", "db", None, Need::Data), Answer::Pending));
    world.pass(MINUTE * 30);
    assert!(matches!(world.verdict("a", "db", None), Verdict::Missing { confirmed: true }));
    world.put("db");
    let mark = world.mark("db", 1);
    world.advance(MINUTE * 5);
    assert!(matches!(world.ask("b", "db", Some(mark), Need::Check), Answer::Pending), "the secret is there since");
    world.run();
    assert!(matches!(world.verdict("b", "db", Some(mark)), Verdict::Active { .. }));
}

#[test]
fn an_answer_to_a_credential_of_before_says_nothing_about_the_present_one() {
    let mut world = World::new();
    world.put("a");
    world.sync("a", "a");
    world.advance(MINUTE * 2);
    let old = world.started().remove(0);
    world.ledger.propose_credential(world.now);
    world.run();
    assert!(!world.ledger.is_proving());
    world.answer(&old, Outcome::Failed(fault(FaultKind::Tls)));
    assert_eq!(*world.ledger.health(), Health::Ready);
    world.assert_checked(&["a"]);
}

#[test]
fn the_same_news_of_a_credential_is_told_once() {
    let mut world = World::new();
    let trouble = || StoreTrouble { kind: StoreTroubleKind::InvalidCredential, message: "x".into() };
    let told = |world: &mut World| world.ledger.poll(world.now).store_changed;
    for act in [Ledger::reject_credential, Ledger::disconnect, Ledger::reject_credential] {
        act(&mut world.ledger, world.now, trouble());
        let _ = told(&mut world);
        act(&mut world.ledger, world.now, trouble());
        assert!(!told(&mut world), "the store would be woken by its own report, for ever");
    }
}

#[test]
fn metadata_and_data_that_never_agree_are_not_asked_for_ever() {
    let mut world = World::new();
    world.put("db");
    world.ask("a", "db", None, Need::Data);
    world.contradicts = true;
    world.pass(MINUTE * 2);
    assert!(world.calls.len() < 60, "{} calls in two minutes", world.calls.len());
    world.contradicts = false;
    world.wakes.clear();
    world.pass(MINUTE * 2);
    assert!(world.wakes.contains(&object("a")));
}

#[test]
fn a_path_that_was_refused_goes_back_to_the_cheap_check() {
    let mut world = World::with_a_refused_path();
    world.pass(MINUTE * 2);
    world.faults.clear();
    world.pass(MINUTE * 5);
    let Verdict::Active { mark, .. } = world.verdict("a", "db", None) else { panic!("not read") };
    world.ledger.settle(&object("a"), &[Some(mark)]);
    world.calls.clear();
    world.pass(MINUTE * 5);
    assert!(world.data_calls() == 0 && world.metadata_calls() > 5, "{:?}", world.calls);
}

#[test]
fn a_path_that_is_granted_again_is_checked_by_metadata_from_the_next_turn_on() {
    let mut world = World::with_a_refused_path();
    world.run();
    world.faults.clear();
    // So the refused check of another version of the path leaves it, if it comes before it is known that the store works.
    world.ledger.entries.get_mut(&Source { path: path("db"), pin: None }).unwrap().mode = super::entry::Mode::Data;
    world.wakes.clear();
    world.until_woken();
    let Verdict::Active { mark, .. } = world.verdict("a", "db", None) else { panic!("not read") };
    world.ledger.settle(&object("a"), &[Some(mark)]);
    world.calls.clear();
    world.pass(MINUTE * 3 / 2);
    assert!(world.data_calls() == 0 && world.calls.contains(&Call::Metadata(path("db"))), "{:?}", world.calls);
}

#[test]
fn a_check_that_failed_again_while_it_was_not_known_whose_failure_the_first_was_is_made_again() {
    let mut world = World::new();
    world.put("db");
    let mark = world.sync("a", "db");
    world.advance(MINUTE * 2);
    let check = world.started().remove(0);
    world.answer(&check, Outcome::Failed(fault(FaultKind::Unexpected)));
    let probe = world.started().remove(0);
    assert_eq!(probe.call, Call::Root);
    // It goes well for somebody else in between.
    world.advance(SECOND);
    world.ask("c", "db", Some(mark), Need::Check);
    world.run();
    world.advance(MINUTE * 2);
    let check = world.started().remove(0);
    assert_eq!(check.call, Call::Metadata(path("db")));
    world.answer(&check, Outcome::Failed(fault(FaultKind::Unexpected)));
    world.answer(&probe, Outcome::Root);
    world.assert_checked(&["db"]);
}

#[test]
fn a_not_found_in_doubt_is_over_once_the_secret_was_found() {
    let mut world = World::new();
    world.put("db");
    let mark = world.sync("a", "db");
    world.faults.insert("db".into(), fault(FaultKind::NotFound));
    world.until_woken();
    world.advance(SECOND * 20);
    let check = world.started().remove(0);
    world.answer(&check, Outcome::Failed(fault(FaultKind::NotFound)));
    let probe = world.started().remove(0);
    assert_eq!(probe.call, Call::Root);
    // Somebody else, for whom that answer is too old, has it found before it is known whether the store works.
    world.faults.clear();
    world.advance(MINUTE);
    world.ask("c", "db", Some(mark), Need::Check);
    world.run();
    world.answer(&probe, Outcome::Root);
    assert!(matches!(world.verdict("a", "db", Some(mark)), Verdict::Active { .. }));
}

/// An object that is checked only when asked, what was read for it, and what is done with that.
fn asked_once() -> (World, Request) {
    let mut world = World::new();
    for text in ["db", "other"] {
        world.put(text);
    }
    world.ask_once("a", "db");
    let check = world.started().remove(0);
    let facts = world.reply(&check.call);
    world.answer(&check, facts);
    let read = world.started().remove(0);
    assert!(matches!(read.call, Call::Data(..)));
    world.sync("b", "other");
    world.advance(SECOND);
    (world, read)
}

#[test]
fn what_goes_before_it_is_read_is_missed_without_an_interval_too() {
    let (mut world, read) = asked_once();
    world.answer(&read, Outcome::Failed(fault(FaultKind::NotFound)));
    world.faults.insert("data of db".into(), fault(FaultKind::NotFound));
    world.pass(MINUTE);
    world.faults.clear();
    world.deactivate("db", 1);
    world.pass(MINUTE * 5);
    let Answer::Known { findings, .. } = world.ask_once("a", "db") else { panic!("not known") };
    assert!(matches!(findings[0].verdict, Verdict::Withdrawn { .. }));
}

#[test]
fn what_a_check_reads_is_there_though_a_read_before_it_failed() {
    let (mut world, read) = asked_once();
    world.answer(&read, Outcome::Failed(fault(FaultKind::TooLarge)));
    world.advance(MINUTE);
    let read = world.started().remove(0);
    world.answer(&read, Outcome::Failed(fault(FaultKind::NotFound)));
    let check = world.started().remove(0);
    assert_eq!(check.call, Call::Metadata(path("db")));
    world.answer(&check, Outcome::Failed(fault(FaultKind::Refused)));
    world.wakes.clear();
    world.run();
    assert_eq!(world.wakes, [object("a")]);
    let Answer::Known { findings, .. } = world.ask_once("a", "db") else { panic!("not known") };
    assert!(matches!(findings[0].verdict, Verdict::Active { value: Some(_), .. }));
}

#[test]
fn a_read_that_failed_is_no_fault_of_the_path_once_it_was_asked_again() {
    for withdrawn in [false, true] {
        let (mut world, read) = asked_once();
        world.answer(&read, Outcome::Failed(fault(FaultKind::Unexpected)));
        let probe = world.started().remove(0);
        assert_eq!(probe.call, Call::Root);
        if withdrawn {
            world.deactivate("db", 1);
        }
        world.advance(SECOND);
        // For somebody else, before it is known whose failure it was.
        world.ask("c", "db", None, Need::Data);
        world.run();
        world.advance(SECOND);
        world.answer(&probe, Outcome::Root);
        let Answer::Known { findings, .. } = world.ask_once("a", "db") else { panic!("not known: {withdrawn}") };
        match &findings[0].verdict {
            Verdict::Active { value: Some(_), .. } if !withdrawn => {}
            Verdict::Withdrawn { .. } if withdrawn => {}
            _ => panic!("something else is known: {withdrawn}"),
        }
    }
}

#[test]
fn data_beside_a_time_of_deletion_is_active_whatever_our_clock_says() {
    let mut world = World::new();
    world.put("db");
    world.ask("a", "db", None, Need::Data);
    let check = world.started().remove(0);
    world.answer(&check, Outcome::Failed(fault(FaultKind::Refused)));
    let read = world.started().remove(0);
    let Outcome::Data(Reading::Data { mark, facts, value }) = world.reply(&read.call) else { panic!() };
    let facts = VersionFacts { deletion_time: Some(world.now.wall - SECOND), ..facts };
    world.answer(&read, Outcome::Data(Reading::Data { mark, facts, value }));
    assert!(matches!(world.verdict("a", "db", None), Verdict::Active { value: Some(_), .. }));
}

#[test]
fn a_broken_path_at_rest_wakes_nobody() {
    let mut world = World::new();
    world.put("other");
    world.sync("b", "other");
    world.ask("a", "db", None, Need::Data);
    world.pass(MINUTE);
    world.ask("a", "db", None, Need::Data);
    world.ledger.settle(&object("a"), &[None]);
    world.wakes.clear();
    world.pass(MINUTE * 60);
    assert!(world.wakes.is_empty(), "{} wakes", world.wakes.len());
}

#[test]
fn timers_do_not_grow_with_the_generations_of_an_object() {
    let mut world = World::new();
    world.put("db");
    let mark = world.mark("db", 1);
    for generation in 0..50 {
        world.advance(SECOND);
        world.ledger.ask(
            world.now,
            Ask {
                object: object("a"),
                generation,
                unchanged_for: Duration::ZERO,
                refresh: 0,
                sources: vec![Wish {
                    source: Source { path: path("db"), pin: None },
                    held: Some(mark),
                    optional: false,
                }],
                need: Need::Check,
                interval: Some(MINUTE),
                lane: Lane::Change,
            },
        );
        world.run();
    }
    assert!(world.ledger.timers.len() <= 3, "{} timers", world.ledger.timers.len());
}

#[test]
fn a_value_is_read_even_where_checks_take_longer_than_their_interval() {
    let mut world = World::new();
    world.put("db");
    world.sync("a", "db");
    world.put("db");
    let mut read = false;
    for _ in 0..10 {
        world.advance(MINUTE);
        for request in world.started() {
            // Every answer takes two intervals.
            world.advance(MINUTE * 2);
            let outcome = world.reply(&request.call);
            world.answer(&request, outcome);
            read |= matches!(request.call, Call::Data(..));
        }
    }
    assert!(read, "version 2 was never read");
}

#[test]
fn a_credential_that_fails_like_the_one_before_is_news_all_the_same() {
    let mut world = World::new();
    world.ledger.disconnect(world.now, StoreTrouble { kind: StoreTroubleKind::InvalidCredential, message: "x".into() });
    for n in 0..3 {
        world.ledger.propose_credential(world.now);
        assert!(world.ledger.is_proving());
        let probe = world.started().remove(0);
        world.answer(&probe, Outcome::Failed(fault(FaultKind::Tls)));
        assert!(!world.ledger.is_proving());
        assert!(world.ledger.poll(world.now).store_changed, "until then, the status says that {n} is being tried");
    }
}
