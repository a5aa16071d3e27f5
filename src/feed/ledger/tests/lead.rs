//! Reads are a little ahead of the reconciles, and no further.

use super::*;
use crate::feed::ledger::room::LEAD;

/// What may be under way when the last of them is full.
const UNDER_WAY: usize = 4;

/// More than are read ahead, each with a path of its own, of which nobody comes back yet who asked.
fn crowd(world: &mut World, namespace: &str) -> Vec<(String, ObjectId)> {
    let names = (0..3 * LEAD).map(|n| format!("{namespace}/{n}"));
    let crowd: Vec<_> = names.map(|name| (name.clone(), of(namespace, &name))).collect();
    for (text, id) in &crowd {
        world.put(text);
        assert!(matches!(ask(world, id, text), Answer::Pending));
    }
    crowd
}

fn of(namespace: &str, name: &str) -> ObjectId {
    ObjectId { namespace: namespace.into(), ..object(name) }
}

/// What is asked of the current version of a path by who has nothing of it.
fn new(id: &ObjectId, text: &str) -> Ask {
    let source = Source { path: path(text), pin: None };
    Ask {
        object: id.clone(),
        generation: 1,
        unchanged_for: Duration::ZERO,
        refresh: 0,
        sources: vec![Wish { source, held: None, optional: false }],
        need: Need::Data,
        interval: None,
        lane: Lane::Change,
    }
}

/// The same by who was synced, and whose target is not as it was any more.
fn drifted(id: &ObjectId, text: &str, held: Mark) -> Ask {
    let mut ask = Ask { lane: Lane::Drift, ..new(id, text) };
    ask.sources[0].held = Some(held);
    ask
}

fn ask(world: &mut World, id: &ObjectId, text: &str) -> Answer {
    world.ledger.ask(world.now, new(id, text))
}

/// Whoever was woken comes, and writes.
fn serve(world: &mut World) -> usize {
    let woken = std::mem::take(&mut world.wakes);
    for id in &woken {
        assert!(world.ledger.came(id), "{id:?} was not waited for");
        let Answer::Known { findings, .. } = ask(world, id, &id.name) else { panic!("{id:?} was woken for nothing") };
        let Verdict::Active { mark, value: Some(_), .. } = &findings[0].verdict else { panic!("no value for {id:?}") };
        world.ledger.settle(id, &[Some(*mark)]);
    }
    woken.len()
}

fn read(world: &World, text: &str) -> bool {
    world.calls.iter().any(|call| matches!(call, Call::Data(read, _) if *read == path(text)))
}

#[test]
fn what_was_applied_is_read_once_however_long_it_takes_to_write_it() {
    let mut world = World::new();
    let crowd = crowd(&mut world, "busy");
    let mut done = 0;
    // A second for each write of a few.
    for _ in 0..crowd.len() {
        world.pass(SECOND);
        let all = std::mem::take(&mut world.wakes);
        let (now, later) = all.split_at(all.len().min(3));
        world.wakes = now.to_vec();
        done += serve(&mut world);
        world.wakes = later.to_vec();
        assert!(later.len() <= LEAD + UNDER_WAY, "{} values wait", later.len());
    }
    assert_eq!((done, world.data_calls()), (crowd.len(), crowd.len()));
    assert_eq!((world.ledger.account.room().awaited(), world.ledger.account.room().taken()), (0, (0, 0)));
}

#[test]
fn who_waits_for_a_turn_holds_up_nobody_else() {
    let mut world = World::new();
    let [drift, news] = ["drift", "news"].map(|name| {
        world.put(name);
        world.sync(name, name)
    });
    let crowd = crowd(&mut world, "ns");
    world.pass(MINUTE / 2);
    let ahead = world.data_calls();
    assert!((LEAD..=LEAD + UNDER_WAY).contains(&ahead), "{ahead} are read ahead");
    assert!(world.ledger.account.room().is_ahead());

    // In the same namespace: what is there already.
    world.calls.clear();
    world.put("news");
    let repair = drifted(&object("drift"), "drift", drift);
    let check = Ask { need: Need::Check, refresh: 1, lane: Lane::Verify, ..drifted(&object("news"), "news", news) };
    for ask in [repair, check] {
        world.ledger.ask(world.now, ask);
    }
    world.pass(SECOND);
    assert!(read(&world, "drift") && read(&world, "news"), "{:?}", world.calls);
    // In another one: what is new.
    world.put("calm/new");
    ask(&mut world, &of("calm", "calm/new"), "calm/new");
    world.pass(SECOND);
    assert!(read(&world, "calm/new"));
    assert!(world.calls.iter().all(|call| *call != Call::Data(path(&crowd.last().unwrap().0), None)));
}

#[test]
fn what_is_repaired_keeps_nobody_from_applying() {
    let mut world = World::new();
    let names: Vec<String> = (0..2 * LEAD).map(|n| format!("o{n}")).collect();
    for name in &names {
        world.put(name);
        let mark = world.mark(name, 1);
        world.ledger.ask(world.now, drifted(&object(name), name, mark));
    }
    world.pass(SECOND * 40);
    assert_eq!(world.data_calls(), names.len(), "nobody comes for what is read");
    world.put("new");
    ask(&mut world, &object("new"), "new");
    world.pass(SECOND);
    assert!(read(&world, "new"));
}

#[test]
fn what_the_check_of_another_has_shown_is_read_in_its_turn() {
    let mut world = World::new();
    let crowd = crowd(&mut world, "ns");
    world.pass(SECOND * 20);
    // All versions of a path are checked with one request, and what stands in line for a check of its own needs a read after that.
    let pinned = |world: &mut World, text: &str, number: u32| {
        let id = object(&format!("{text} {number}"));
        let mut ask = new(&id, text);
        ask.sources[0].source.pin = Some(version(number));
        world.ledger.ask(world.now, ask);
    };
    for text in (0..10).map(|n| format!("between/{n}")).chain(["pinned".into(), "pinned".into()]) {
        world.put(&text);
    }
    pinned(&mut world, "pinned", 1);
    (0..10).for_each(|n| pinned(&mut world, &format!("between/{n}"), 1));
    pinned(&mut world, "pinned", 2);
    world.pass(SECOND * 5);
    assert!(!read(&world, "pinned"), "it is not its turn");
    for _ in 0..crowd.len() {
        world.pass(SECOND);
        for id in std::mem::take(&mut world.wakes) {
            world.ledger.came(&id);
            if id.name.starts_with("ns/") {
                ask(&mut world, &id, &id.name);
            }
        }
    }
    let versions = [1, 2].map(|number| Call::Data(path("pinned"), Some(version(number))));
    assert!(versions.iter().all(|call| world.calls.contains(call)), "both are read");
}

#[test]
fn what_waits_for_its_turn_is_checked_and_repaired_for_those_who_hold_it() {
    let mut world = World::new();
    for name in ["shared", "changed"] {
        world.put(name);
    }
    let (shared, changed) = (world.sync("b", "shared"), world.sync("c", "changed"));
    crowd(&mut world, "ns");
    world.pass(SECOND * 20);
    // A new object on the path of one that is synced, and one whose spec changes: both behind the crowd.
    ask(&mut world, &object("a"), "shared");
    let changed = Ask { generation: 2, lane: Lane::Change, ..drifted(&object("c"), "changed", changed) };
    world.ledger.ask(world.now, changed);
    assert!(world.ledger.holds_back(&object("a")) && world.ledger.holds_back(&object("c")));
    world.calls.clear();
    // The one that is synced is edited by hand, and is not behind anybody.
    world.ledger.ask(world.now, drifted(&object("b"), "shared", shared));
    world.pass(SECOND);
    assert!(read(&world, "shared") && world.wakes.contains(&object("b")), "{:?}", world.calls);
    assert!(world.wakes.contains(&object("a")), "what is there is for everybody");
    let checks = |world: &World| world.calls.iter().filter(|call| **call == Call::Metadata(path("changed"))).count();
    assert_eq!(checks(&world), 1, "what it still holds is checked at once");
    world.pass(SECOND * 35);
    assert!(world.ledger.account.room().is_ahead() && !read(&world, "changed"), "the crowd is still there");
}

#[test]
fn who_was_woken_and_is_gone_or_does_not_come_is_not_waited_for() {
    let mut world = World::new();
    let crowd = crowd(&mut world, "ns");
    world.pass(SECOND * 20);
    let woken = std::mem::take(&mut world.wakes);
    for (n, id) in woken.iter().enumerate() {
        match n % 3 {
            0 => drop(world.ledger.forget(id)),
            1 => drop(world.ledger.pause(id)),
            // Its value expires, and it is read again once it comes.
            _ => {}
        }
    }
    let before = world.data_calls();
    world.pass(SECOND * 20);
    let now = world.data_calls();
    assert!(now > before && now <= before + LEAD, "{before} and then {now} were read");
    for _ in 0..crowd.len() {
        world.pass(SECOND);
        serve(&mut world);
    }
    for id in &woken {
        world.ledger.came(id);
        ask(&mut world, id, &id.name);
    }
    for _ in 0..crowd.len() {
        world.pass(SECOND);
        serve(&mut world);
    }
    let lacking: Vec<_> = crowd.iter().filter(|(text, _)| !read(&world, text)).collect();
    assert!(lacking.is_empty(), "{lacking:?}");
    assert_eq!(world.ledger.account.room().awaited(), 0);
}

#[test]
fn a_store_that_waits_for_all_that_it_may_leaves_one_to_each_namespace_of_another() {
    let (mut one, room) = (World::new(), Arc::<Room>::default());
    let account = Account::new(room.clone(), false);
    one.ledger = Ledger::new(one.now, one.ledger.limits.clone(), Timing::default(), Before::default(), account);
    one.ledger.propose_credential(one.now);
    crowd(&mut one, "a");
    one.pass(MINUTE / 2);
    assert!(room.awaited() >= LEAD);
    let mut other = World::new();
    let account = Account::new(room.clone(), false);
    other.ledger = Ledger::new(other.now, other.ledger.limits.clone(), Timing::default(), Before::default(), account);
    other.ledger.propose_credential(other.now);
    for namespace in ["a", "b"] {
        crowd(&mut other, namespace);
    }
    other.pass(SECOND * 10);
    let read = other.wakes.len();
    assert!((2..=2 * UNDER_WAY).contains(&read), "{read} of two namespaces");
    let before = room.awaited();
    let next = other.ledger.poll(other.now).next.unwrap();
    drop(one);
    assert!(room.awaited() < before && room.awaited() == read, "{} of {before} are left", room.awaited());
    assert!(
        next <= other.now.mono + SECOND,
        "it sees that without anything else happening: {:?}",
        next - other.now.mono
    );
    other.pass(SECOND * 10);
    assert!(other.wakes.len() >= LEAD, "the first had as much");
}
