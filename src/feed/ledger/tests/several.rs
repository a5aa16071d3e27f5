//! Several sources of one object, and several versions of one path.

use super::*;

#[test]
fn two_pins_and_the_current_version_of_one_path_share_its_checks() {
    let mut world = World::new();
    world.put("db");
    world.put("db");
    for (name, pin) in [("a", Some(1)), ("b", Some(2)), ("c", None)] {
        let held = world.mark("db", pin.unwrap_or(2));
        world.ask_pinned(name, "db", pin, Some(held), Need::Check);
    }
    world.run();
    world.pass(MINUTE);
    world.calls.clear();
    world.pass(MINUTE * 10);
    assert!(world.metadata_calls() <= 11, "{} checks", world.metadata_calls());
}

#[test]
fn two_sources_of_one_rendering_are_both_checked_after_the_trigger() {
    let mut world = World::new();
    world.put("crt");
    world.put("key");
    let wishes = |crt, key| {
        vec![
            Wish { source: Source { path: path("crt"), pin: None }, held: crt, optional: false },
            Wish { source: Source { path: path("key"), pin: None }, held: key, optional: false },
        ]
    };
    let ask = |sources, need| Ask {
        object: object("tls"),
        generation: 1,
        unchanged_for: Duration::ZERO,
        refresh: 0,
        sources,
        need,
        interval: Some(MINUTE),
        lane: Lane::Change,
    };
    let now = world.now;
    world.ledger.ask(now, ask(wishes(None, None), Need::Data));
    world.run();
    let Answer::Known { findings, .. } = world.ledger.ask(now, ask(wishes(None, None), Need::Data)) else { panic!() };
    assert!(findings.iter().all(|finding| matches!(finding.verdict, Verdict::Active { value: Some(_), .. })));
    let held = [Some(world.mark("crt", 1)), Some(world.mark("key", 1))];
    world.ledger.settle(&object("tls"), &held);
    world.put("crt");
    world.put("key");
    world.wakes.clear();
    world.pass(MINUTE);
    let Answer::Known { findings, .. } = world.ledger.ask(world.now, ask(wishes(held[0], held[1]), Need::Check)) else {
        panic!("not known");
    };
    let versions: Vec<_> = findings
        .iter()
        .map(|finding| match &finding.verdict {
            Verdict::Active { mark, value: Some(_), .. } => mark.version.get(),
            _ => 0,
        })
        .collect();
    assert_eq!(versions, [2, 2]);
}

#[test]
fn the_others_are_read_without_an_optional_source_which_is_checked_at_its_interval() {
    let mut world = World::new();
    world.put("db");
    let ask = |optional| Ask {
        object: object("a"),
        generation: 1,
        unchanged_for: Duration::ZERO,
        refresh: 0,
        sources: vec![
            Wish { source: Source { path: path("db"), pin: None }, held: None, optional: false },
            Wish { source: Source { path: path("more"), pin: None }, held: None, optional },
        ],
        need: Need::Data,
        interval: Some(MINUTE),
        lane: Lane::Change,
    };
    world.ledger.ask(world.now, ask(true));
    world.until_woken();
    let Answer::Known { findings, .. } = world.ledger.ask(world.now, ask(true)) else { panic!("not known") };
    let Verdict::Active { mark, value: Some(_), .. } = &findings[0].verdict else { panic!("not read") };
    assert!(matches!(findings[1].verdict, Verdict::Missing { .. }));
    world.ledger.settle(&object("a"), &[Some(*mark), None]);
    world.calls.clear();
    world.pass(MINUTE * 60);
    assert!((100..=130).contains(&world.metadata_calls()), "{} checks in an hour", world.metadata_calls());
    world.put("more");
    world.wakes.clear();
    world.until_woken();
}

#[test]
fn what_is_new_is_read_without_being_checked_first_once_something_was_checked() {
    let mut world = World::new();
    for text in ["first", "second", "third"] {
        world.put(text);
    }
    world.sync("a", "first");
    world.ask("b", "second", None, Need::Data);
    world.ask_pinned("c", "third", Some(1), None, Need::Data);
    world.run();
    let of = |text: &str| {
        let is_of = |call: &&Call| matches!(call, Call::Metadata(of) | Call::Data(of, _) if *of == path(text));
        world.calls.iter().filter(is_of).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("second"), [Call::Data(path("second"), None)]);
    assert_eq!(of("third"), [Call::Metadata(path("third")), Call::Data(path("third"), Some(version(1)))]);
    let Answer::Known { findings, .. } = world.ask("b", "second", None, Need::Data) else { panic!("not known") };
    assert_eq!(findings[0].current, Some(version(1)), "as a check would have told");
    for (name, text) in [("b", "second"), ("c", "third")] {
        let mark = world.mark(text, 1);
        world.ask_pinned(name, text, (name == "c").then_some(1), None, Need::Data);
        world.ledger.settle(&object(name), &[Some(mark)]);
    }
    world.calls.clear();
    world.pass(MINUTE * 3);
    assert!(world.calls.iter().all(|call| matches!(call, Call::Metadata(_))), "{:?}", world.calls);
}

#[test]
fn what_is_new_and_may_not_be_read_is_told_so() {
    let mut world = World::new();
    for text in ["first", "second"] {
        world.put(text);
    }
    world.sync("a", "first");
    world.faults.insert("data of second".into(), fault(FaultKind::Refused));
    world.ask("b", "second", None, Need::Data);
    world.run();
    let forbidden = |world: &mut World| match world.ask("b", "second", None, Need::Data) {
        Answer::Known { findings, .. } => {
            matches!(&findings[0].verdict, Verdict::Trouble(trouble) if trouble.kind == TroubleKind::Forbidden)
        }
        _ => false,
    };
    assert!(forbidden(&mut world));
    world.pass(MINUTE * 5);
    assert!(forbidden(&mut world), "metadata may be seen, which does not help");
    world.faults.clear();
    world.pass(MINUTE * 11);
    assert!(matches!(world.verdict("b", "second", None), Verdict::Active { value: Some(_), .. }));
}

#[test]
fn who_was_there_before_the_last_check_reads_without_another_one() {
    let mut world = World::new();
    world.put("db");
    world.sync("a", "db");
    world.now.mono += SECOND * 5;
    let ask = |name: &str, unchanged_for| Ask {
        object: object(name),
        generation: 1,
        unchanged_for,
        refresh: 0,
        sources: vec![Wish { source: Source { path: path("db"), pin: None }, held: None, optional: false }],
        need: Need::Data,
        interval: Some(MINUTE),
        lane: Lane::Change,
    };
    let mut calls_of = |name: &str, unchanged_for| {
        world.ledger.ask(world.now, ask(name, unchanged_for));
        world.run();
        let mark = world.mark("db", 1);
        world.ledger.ask(world.now, ask(name, unchanged_for));
        world.ledger.settle(&object(name), &[Some(mark)]);
        std::mem::take(&mut world.calls)
    };
    let read = Call::Data(path("db"), Some(version(1)));
    assert_eq!(calls_of("old", SECOND * 10), std::slice::from_ref(&read));
    assert_eq!(
        calls_of("new", SECOND),
        [Call::Metadata(path("db")), read],
        "it may be there because of what came since"
    );
}

#[test]
fn of_several_that_are_new_none_is_read_before_all_are_checked() {
    let mut world = World::new();
    for text in ["first", "crt", "key"] {
        world.put(text);
    }
    world.sync("a", "first");
    let wish = |text| Wish { source: Source { path: path(text), pin: None }, held: None, optional: false };
    let ask = Ask {
        object: object("tls"),
        generation: 1,
        unchanged_for: Duration::ZERO,
        refresh: 0,
        sources: vec![wish("crt"), wish("key")],
        need: Need::Data,
        interval: Some(MINUTE),
        lane: Lane::Change,
    };
    world.ledger.ask(world.now, ask);
    world.run();
    let kinds: Vec<bool> = world.calls.iter().map(|call| matches!(call, Call::Metadata(_))).collect();
    assert_eq!(kinds[..2], [true, true], "{:?}", world.calls);
}
