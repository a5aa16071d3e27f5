//! One namespace delays nobody else, whatever it has: much, urgent things, or paths that hang.

use proptest::{collection::vec, prelude::*};

use super::{
    town::{LIMIT, Town},
    *,
};

/// What a check may be late beside one other namespace: a turn, and what is under way.
const LATE: Duration = Duration::from_secs(2);

fn crowd(town: &mut Town, namespace: &str, objects: usize) {
    for n in 0..objects {
        town.synced(&format!("{namespace}/{n}"), MINUTE);
    }
}

#[test]
fn ten_thousand_objects_do_not_stretch_the_interval_of_one() {
    let mut town = Town::new(20.0, 8);
    crowd(&mut town, "big", 10_000);
    town.synced("small/0", MINUTE);
    town.pass(MINUTE * 60);
    let longest = town.longest_gap("small/0", Duration::ZERO);
    assert!(longest <= MINUTE + LATE, "the one was not asked for {longest:?}");
    let of_big = town.times("big/").len();
    assert!((54_000..=57_000).contains(&of_big), "{of_big} requests of fifteen a second and those of the start");
    assert!(town.most_in_ten_seconds() <= 220, "{} in ten seconds", town.most_in_ten_seconds());
    let told = town.ledger.throttled_to().unwrap();
    assert_eq!(told, SECOND * 670, "ten thousand, at what the one leaves of fifteen a second");
    let mut last: HashMap<&Path, Duration> = HashMap::new();
    for (at, path) in &town.log {
        last.insert(path, *at);
    }
    let oldest = (town.now.mono - town.start).saturating_sub(*last.values().min().unwrap());
    assert!(oldest <= told + MINUTE, "a check is {oldest:?} old, and the status says {told:?}");
}

#[test]
fn a_thousand_refreshes_delay_nobody_else() {
    let mut town = Town::new(20.0, 8);
    crowd(&mut town, "busy", 1000);
    crowd(&mut town, "calm", 200);
    town.pass(MINUTE * 10);
    let begun = town.now.mono - town.start;
    // Again and again, as often as it may be asked for.
    for round in 0..60 {
        for n in 0..1000 {
            town.refresh(&format!("busy/{n}"));
        }
        town.pass(SECOND * 5);
        let applied = town.now.mono - town.start;
        town.applied(&format!("calm/new-{round}"), MINUTE * 60);
        town.pass(SECOND * 5);
        let asked = town.times(&format!("calm/new-{round}"));
        assert!(asked[0] <= applied + SECOND, "a new object was read after {:?}", asked[0].saturating_sub(applied));
    }
    for n in 0..200 {
        let longest = town.longest_gap(&format!("calm/{n}"), begun);
        assert!(longest <= MINUTE + LATE, "calm/{n} was not asked for {longest:?}");
    }
    assert!(town.most_in_ten_seconds() <= 220);
}

#[test]
fn ten_thousand_new_objects_delay_nobody_else_and_not_for_ever_what_else_is_there() {
    let mut town = Town::new(20.0, 8);
    crowd(&mut town, "busy", 60);
    crowd(&mut town, "calm", 60);
    town.pass(MINUTE * 5);
    let begun = town.now.mono - town.start;
    for n in 0..10_000 {
        town.applied(&format!("busy/new-{n}"), MINUTE * 60);
    }
    town.pass(SECOND * 30);
    town.applied("calm/new", MINUTE);
    let applied = town.now.mono - town.start;
    town.pass(MINUTE * 10);
    assert!(town.times("calm/new")[0] <= applied + SECOND);
    for n in 0..60 {
        let longest = town.longest_gap(&format!("calm/{n}"), begun);
        assert!(longest <= MINUTE + LATE, "calm/{n} was not asked for {longest:?}");
        let longest = town.longest_gap(&format!("busy/{n}"), begun);
        assert!(longest <= MINUTE * 2, "busy/{n} was not asked for {longest:?}");
    }
    let new = town.times("busy/new").len();
    assert!(new >= 10_000, "only {new} of the twenty a second served who needs them");
}

#[test]
fn a_namespace_whose_paths_hang_delays_nobody_else() {
    for (places, late) in [(2, SECOND), (3, SECOND), (8, SECOND), (32, SECOND)] {
        let mut town = Town::new(20.0, places);
        crowd(&mut town, "calm", 100);
        crowd(&mut town, "stuck", 300);
        town.pass(MINUTE * 10);
        town.hanging.push("stuck/".to_owned());
        let begun = town.now.mono - town.start;
        for n in 0..100 {
            town.applied(&format!("stuck/new-{n}"), MINUTE);
        }
        for round in 0..20 {
            town.pass(SECOND * 15);
            let applied = town.now.mono - town.start;
            town.applied(&format!("calm/new-{round}"), MINUTE * 60);
            town.pass(SECOND * 15);
            let asked = town.times(&format!("calm/new-{round}"));
            assert!(
                asked[0] <= applied + late,
                "at {places} places, asked after {:?}",
                asked[0].saturating_sub(applied)
            );
        }
        for n in 0..100 {
            let longest = town.longest_gap(&format!("calm/{n}"), begun);
            assert!(longest <= MINUTE + LATE, "at {places} places, calm/{n} was not asked for {longest:?}");
        }
        assert_eq!(*town.ledger.health(), Health::Ready);
        assert!(town.times("stuck/").iter().any(|at| *at > begun + MINUTE * 9), "what hangs is tried on");
        // Once it hangs no more it is asked as before.
        town.hanging.clear();
        town.pass(MINUTE * 5);
        let healed = town.now.mono - town.start;
        town.pass(MINUTE * 10);
        let longest = town.longest_gap("stuck/7", healed);
        assert!(longest <= MINUTE + LATE, "at {places} places, after all stuck/7 was not asked for {longest:?}");
    }
}

#[test]
fn many_namespaces_whose_paths_hang_take_half_of_the_places() {
    let mut town = Town::new(20.0, 8);
    crowd(&mut town, "calm", 100);
    for n in 0..20 {
        crowd(&mut town, &format!("stuck-{n}"), 20);
    }
    town.pass(MINUTE * 10);
    town.hanging.push("stuck-".to_owned());
    // At first they are taken for quick, until the first of them have reached the limit.
    town.pass(LIMIT * 2);
    let begun = town.now.mono - town.start;
    town.pass(MINUTE * 20);
    for n in 0..100 {
        let longest = town.longest_gap(&format!("calm/{n}"), begun);
        assert!(longest <= MINUTE + LATE, "calm/{n} was not asked for {longest:?}");
    }
}

#[test]
fn the_only_place_is_held_by_what_hangs_for_no_longer_than_the_limit() {
    let mut town = Town::new(20.0, 1);
    crowd(&mut town, "calm", 5);
    crowd(&mut town, "stuck", 50);
    town.pass(MINUTE * 10);
    town.hanging.push("stuck/".to_owned());
    let begun = town.now.mono - town.start;
    town.pass(MINUTE * 30);
    for n in 0..5 {
        let longest = town.longest_gap(&format!("calm/{n}"), begun);
        assert!(longest <= MINUTE + LIMIT * 6, "calm/{n} was not asked for {longest:?}");
    }
}

#[test]
fn a_path_that_several_read_is_asked_in_the_turn_of_whoever_comes_first() {
    let mut town = Town::new(20.0, 8);
    crowd(&mut town, "busy", 60);
    town.synced("calm/own", MINUTE);
    town.pass(MINUTE * 2);
    for n in 0..10_000 {
        town.applied(&format!("busy/new-{n}"), MINUTE * 60);
    }
    town.secret(&path("busy/shared"));
    // It waits in the crowd of one, and then in the other as well.
    let shared = |namespace: &str| ObjectId { namespace: namespace.into(), ..super::town::id_of("busy/shared") };
    let wish = Wish { source: Source { path: path("busy/shared"), pin: None }, held: None, optional: false };
    let ask = |object| Ask {
        object,
        generation: 1,
        unchanged_for: Duration::ZERO,
        refresh: 0,
        sources: vec![wish.clone()],
        need: Need::Data,
        interval: Some(MINUTE),
        lane: Lane::Change,
    };
    town.ledger.ask(town.now, ask(ObjectId { uid: "one".into(), ..shared("busy") }));
    town.ledger.ask(town.now, ask(ObjectId { uid: "two".into(), ..shared("calm") }));
    let begun = town.now.mono - town.start;
    town.pass(SECOND * 5);
    let asked = town.times("busy/shared");
    assert!(asked.len() == 1 && asked[0] <= begun + SECOND, "{asked:?}: read once for both");
}

#[test]
fn what_comes_and_goes_while_the_store_is_down_leaves_nothing_in_the_queues() {
    let mut world = World::new();
    world.put("db");
    world.sync("a", "db");
    world.faults.insert("*".into(), fault(FaultKind::Tls));
    world.pass(MINUTE);
    for n in 0..5000 {
        let name = format!("o{n}");
        world.ask(&name, &name, None, Need::Data);
        world.ledger.forget(&object(&name));
    }
    let (waiting, queued) = world.ledger.lanes.size();
    assert!(waiting <= 1 && queued <= 100, "{waiting} wait, {queued} are queued");
}

#[test]
fn a_namespace_that_went_while_its_requests_hung_is_forgotten() {
    let mut town = Town::new(20.0, 8);
    town.hanging.push("gone-".to_owned());
    for n in 0..3 {
        town.applied(&format!("gone-{n}/0"), MINUTE);
    }
    town.pass(SECOND * 5);
    for n in 0..3 {
        town.ledger.forget(&super::town::id_of(&format!("gone-{n}/0")));
    }
    town.pass(LIMIT * 2);
    assert_eq!(town.ledger.budget.places().remembered(), 0);
}

#[test]
fn ten_thousand_objects_on_one_path_are_told_of_a_new_version_in_time() {
    // What is looked at for each of them for each of them would take minutes here.
    let mut world = World::new();
    world.put("db");
    let old = world.mark("db", 1);
    let names: Vec<String> = (0..10_000).map(|n| format!("o{n}")).collect();
    for name in &names {
        world.ask(name, "db", Some(old), Need::Check);
    }
    world.run();
    for name in &names {
        world.ask(name, "db", Some(old), Need::Check);
    }
    world.put("db");
    world.wakes.clear();
    world.pass(MINUTE);
    assert_eq!(world.wakes.len(), names.len());
    let new = world.mark("db", 2);
    for name in names.iter().rev() {
        assert!(matches!(world.verdict(name, "db", Some(old)), Verdict::Active { value: Some(_), .. }));
        world.ledger.settle(&object(name), &[Some(new)]);
    }
    assert_eq!(world.data_calls(), 1);
    assert!(world.ledger.entries.values().all(|entry| entry.value.is_none()));
    for name in &names {
        if world.ledger.admit_withdrawal(world.now, &object(name), false) == Admission::Granted {
            world.ledger.settle(&object(name), &[None]);
        }
    }
    assert_eq!((world.ledger.targets.all(), world.ledger.held_withdrawals().unwrap().1), (8000, 8000));
    let held = &object(names.last().unwrap());
    assert!(world.ledger.pause(held));
    world.now.mono += MINUTE * 120;
    let admission = world.ledger.admit_withdrawal(world.now, held, false);
    assert_eq!(admission, Admission::Held, "nor does time together with a pause release it");
    for name in &names {
        world.ledger.forget(&object(name));
    }
    assert_eq!((world.ledger.targets.all(), world.ledger.held_withdrawals()), (0, None));
}

/// Objects and interval of each namespace.
fn namespaces() -> impl Strategy<Value = Vec<(usize, u64)>> {
    let few = (1..10_usize, 60..600_u64);
    let many = (50..1500_usize, 10..120_u64);
    vec(prop_oneof![4 => few, 1 => many], 3..60)
}

/// Runs an hour and holds every namespace to its share.
fn hold(namespaces: &[(usize, u64)], hour: Duration) -> Result<(), TestCaseError> {
    let mut town = Town::new(20.0, 8);
    for (n, (objects, interval)) in namespaces.iter().enumerate() {
        for object in 0..*objects {
            town.synced(&format!("ns-{n}/{object}"), SECOND * u32::try_from(*interval).unwrap());
        }
    }
    // Until all were asked for the first time.
    let all: usize = namespaces.iter().map(|(objects, _)| objects).sum();
    town.pass(SECOND * u32::try_from(all / 15 + 60).unwrap());
    let begun = town.now.mono - town.start;
    town.pass(hour);
    let seconds = hour.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let float = |n: usize| n as f64;
    let equal = 15.0 / float(namespaces.len());
    // A turn of everybody, and one more for what came before.
    let late = SECOND.mul_f64(2.0 * float(namespaces.len()) / 15.0 + 2.0);
    let mut checks: HashMap<&Path, Vec<Duration>> = HashMap::new();
    for (at, path) in town.log.iter().filter(|(at, _)| *at >= begun) {
        checks.entry(path).or_default().push(*at);
    }
    let mut asked = 0.0;
    for (n, (objects, interval)) in namespaces.iter().enumerate() {
        let interval = SECOND * u32::try_from(*interval).unwrap();
        let asks = float(*objects) / interval.as_secs_f64();
        asked += asks;
        let got =
            checks.iter().filter(|(path, _)| path.as_str().starts_with(&format!("ns-{n}/"))).map(|(_, c)| c.len());
        let got = float(got.sum()) / seconds;
        prop_assert!(
            got >= asks.min(equal) * 0.9 - float(*objects) / seconds,
            "{n} got {got} of {asks}, equal {equal}"
        );
        let asked_of: Vec<Duration> = town.times(&format!("ns-{n}/"));
        let floor = town.ledger.shares.floor(&format!("ns-{n}").as_str().into());
        for object in 0..*objects {
            let text = format!("ns-{n}/{object}");
            let own = checks.get(&path(&text)).cloned().unwrap_or_default();
            let bound = if floor.is_zero() { interval + late } else { interval.max(floor).mul_f64(1.5) + late };
            let mut last = begun;
            for at in own.into_iter().chain([begun + hour]) {
                let gap = at.saturating_sub(last);
                // Later than that only for its own namespace, whose sources may fall due together: that was served at its share all
                // the time.
                let due = last + interval;
                let meanwhile = asked_of.iter().filter(|asked| (due..=at).contains(*asked)).count();
                let share = equal * 0.9 * at.saturating_sub(due).as_secs_f64();
                let own_fault = floor.is_zero() && float(meanwhile) >= share && gap <= bound + interval.mul_f64(0.1);
                prop_assert!(
                    gap <= bound || own_fault,
                    "{text} was not asked for {gap:?}, bound {bound:?}, floor {floor:?}; {meanwhile} others meanwhile, {share}"
                );
                last = at;
            }
        }
    }
    let total = float(town.log.iter().filter(|(at, _)| *at >= begun).count()) / seconds;
    prop_assert!(total <= 15.1, "{total} a second");
    prop_assert!(total >= asked.min(15.0) * 0.93 - 0.1, "{total} a second of {asked}");
    prop_assert!(town.most_in_ten_seconds() <= 220);
    Ok(())
}

#[test]
fn two_hundred_namespaces_get_what_they_ask_for_or_equal_shares() {
    let namespaces: Vec<(usize, u64)> = (0..200).map(|n| if n % 20 == 0 { (400, 60) } else { (2, 300) }).collect();
    hold(&namespaces, MINUTE * 60).unwrap();
}

/// Its 298 sources fall due unevenly, which once was taken for a delay by the others.
#[test]
fn whose_own_sources_fall_due_together_waits_for_those_alone() {
    hold(&[(298, 100), (146, 39), (964, 41)], MINUTE * 20).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_asks_for_less_than_an_equal_share_is_not_delayed(namespaces in namespaces()) {
        hold(&namespaces, MINUTE * 20)?;
    }
}
