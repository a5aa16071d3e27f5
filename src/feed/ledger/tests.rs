//! The ledger against orders of events that a network produces only once in a while. Time is an argument; nothing waits.

use std::{collections::BTreeMap, time::Duration};

use zeroize::Zeroizing;

use super::*;
use crate::model::{StoreTroubleKind, TroubleKind, Value, Verdict, VersionFacts, Withdrawal};

mod failures;
mod fairness;
mod lead;
mod list;
mod liveness;
mod orders;
mod rest;
mod room;
mod several;
mod town;
mod unruly;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// A ledger with a clock that the test moves, and an OKMS that answers as the test says.
struct World {
    now: Now,
    ledger: Ledger,
    /// What OKMS has: path to its facts.
    okms: BTreeMap<Path, Facts>,
    /// Faults by path, of the root list under "", of everything under "*", of data alone under "data of <path>".
    faults: BTreeMap<String, Fault>,
    /// Versions whose data cannot be read, while their metadata can.
    unreadable: BTreeMap<Path, (Version, Fault)>,
    /// Data answers tell another time of creation than metadata answers.
    contradicts: bool,
    calls: Vec<Call>,
    wakes: Vec<ObjectId>,
}

fn version(number: u32) -> Version {
    Version::try_from(number).unwrap()
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn fault(kind: FaultKind) -> Fault {
    Fault { kind, message: format!("{kind:?}"), retry_after: None }
}

fn object(name: &str) -> ObjectId {
    ObjectId { uid: format!("uid-{name}").into(), namespace: "ns".into(), name: name.into() }
}

fn start() -> Now {
    Now { mono: Instant::now(), wall: Timestamp::from_second(2_000_000_000).unwrap() }
}

impl World {
    fn new() -> Self {
        let now = start();
        let limits =
            Limits { requests_per_second: 20.0, concurrent_requests: 8, withdrawals: WithdrawalLimit::Percent(20) };
        let mut world = Self {
            now,
            ledger: Ledger::new(now, limits, Timing::default(), Before::default(), Account::new(Arc::default(), false)),
            okms: BTreeMap::new(),
            faults: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            contradicts: false,
            calls: Vec::new(),
            wakes: Vec::new(),
        };
        world.ledger.propose_credential(now);
        world.run();
        assert!(world.ledger.take_promoted().is_some());
        world
    }

    fn mark(&self, text: &str, number: u32) -> Mark {
        let created_at = self.okms[&path(text)].versions.as_ref().unwrap()[&version(number)].created_at;
        Mark { version: version(number), created_at }
    }

    fn put(&mut self, text: &str) -> u32 {
        let created_at = Some(self.now.wall);
        let facts = self
            .okms
            .entry(path(text))
            .or_insert_with(|| Facts { versions: Some(BTreeMap::new()), ..Facts::default() });
        let number = facts.current.map_or(1, |current| current.get() + 1);
        facts.current = Some(version(number));
        facts
            .versions
            .as_mut()
            .unwrap()
            .insert(version(number), VersionFacts { created_at, ..VersionFacts::default() });
        number
    }

    fn deactivate(&mut self, text: &str, number: u32) {
        let facts = self.okms.get_mut(&path(text)).unwrap();
        facts.versions.as_mut().unwrap().get_mut(&version(number)).unwrap().deletion_time = Some(self.now.wall);
    }

    /// Answers requests until there are none left at this moment.
    fn run(&mut self) {
        for _ in 0..1000 {
            let todo = self.ledger.poll(self.now);
            self.wakes.extend(todo.wakes);
            if todo.requests.is_empty() {
                return;
            }
            for request in todo.requests {
                let outcome = self.reply(&request.call);
                self.calls.push(request.call.clone());
                self.ledger.answer(self.now, &request, outcome);
            }
        }
        panic!("the ledger asks for ever");
    }

    fn reply(&self, call: &Call) -> Outcome {
        let key = match call {
            Call::Root => String::new(),
            // Worlds of a few paths: where there are many, the list is refused.
            Call::Page(_) => return Outcome::Failed(fault(FaultKind::Refused)),
            Call::Metadata(path) | Call::Data(path, _) => path.to_string(),
        };
        let of_data = matches!(call, Call::Data(..)).then(|| format!("data of {key}"));
        let faults = [of_data.as_ref(), Some(&key), Some(&"*".to_owned())].map(|key| self.faults.get(key?));
        if let Some(fault) = faults.into_iter().flatten().next() {
            return Outcome::Failed(fault.clone());
        }
        match call {
            Call::Root => Outcome::Root,
            Call::Page(_) => unreachable!("answered above"),
            Call::Metadata(path) => match self.okms.get(path) {
                Some(facts) => Outcome::Metadata(facts.clone()),
                None => Outcome::Failed(fault(FaultKind::NotFound)),
            },
            Call::Data(path, number) => {
                let Some(facts) = self.okms.get(path) else { return Outcome::Failed(fault(FaultKind::NotFound)) };
                let number = number.or(facts.current).unwrap();
                if let Some((_, fault)) = self.unreadable.get(path).filter(|(unreadable, _)| *unreadable == number) {
                    return Outcome::Failed(fault.clone());
                }
                let Some(&facts) = facts.versions.as_ref().unwrap().get(&number) else {
                    return Outcome::Failed(fault(FaultKind::NotFound));
                };
                if facts.state(self.now.wall) != crate::model::State::Active {
                    return Outcome::Data(Reading::Unreadable { version: number, facts });
                }
                let created_at = facts.created_at.map(|at| if self.contradicts { at + SECOND } else { at });
                let mark = Mark { version: number, created_at };
                let value = Value::from_json_object(Zeroizing::new(format!(r#"{{"v":{number}}}"#).into_bytes()));
                Outcome::Data(Reading::Data { mark, facts, value })
            }
        }
    }

    /// Lets time pass in steps of the ledger's own timers.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        loop {
            self.run();
            let next = self.ledger.poll(self.now).next.filter(|next| *next <= end).unwrap_or(end);
            let step =
                next.max(self.now.mono + Duration::from_millis(1)).min(end).saturating_duration_since(self.now.mono);
            self.now.mono += step;
            self.now.wall += step;
            if self.now.mono >= end {
                self.run();
                return;
            }
        }
    }

    /// Lets time pass until somebody is woken.
    fn until_woken(&mut self) {
        for _ in 0..3600 {
            if !self.wakes.is_empty() {
                return;
            }
            self.pass(SECOND);
        }
        panic!("nobody was woken within an hour");
    }

    fn ask(&mut self, name: &str, text: &str, held: Option<Mark>, need: Need) -> Answer {
        self.ask_pinned(name, text, None, held, need)
    }

    /// Asks whether all is as it was.
    fn ask_every(&mut self, name: &str, text: &str, held: Option<Mark>, interval: Option<Duration>) -> Answer {
        let sources = vec![Wish { source: Source { path: path(text), pin: None }, held, optional: false }];
        let (object, need) = (object(name), Need::Check);
        self.ledger.ask(
            self.now,
            Ask {
                object,
                generation: 1,
                unchanged_for: Duration::ZERO,
                refresh: 0,
                sources,
                need,
                interval,
                lane: Lane::Verify,
            },
        )
    }

    fn ask_pinned(&mut self, name: &str, text: &str, pin: Option<u32>, held: Option<Mark>, need: Need) -> Answer {
        let source = Source { path: path(text), pin: pin.map(version) };
        self.ledger.ask(
            self.now,
            Ask {
                object: object(name),
                generation: 1,
                unchanged_for: Duration::ZERO,
                refresh: 0,
                sources: vec![Wish { source, held, optional: false }],
                need,
                interval: Some(MINUTE),
                lane: Lane::Change,
            },
        )
    }

    /// One in which `db`, for which the object `a` asks, is refused, while `other` can be read.
    fn with_a_refused_path() -> Self {
        let mut world = Self::new();
        world.put("db");
        world.put("other");
        world.sync("b", "other");
        world.faults.insert("db".into(), fault(FaultKind::Refused));
        world.ask("a", "db", None, Need::Data);
        world
    }

    /// Asks for the data, for an object that is checked only when asked.
    fn ask_once(&mut self, name: &str, text: &str) -> Answer {
        let ask = Ask {
            object: object(name),
            generation: 1,
            unchanged_for: Duration::ZERO,
            refresh: 0,
            sources: vec![Wish { source: Source { path: path(text), pin: None }, held: None, optional: false }],
            need: Need::Data,
            interval: None,
            lane: Lane::Change,
        };
        self.ledger.ask(self.now, ask)
    }

    /// Brings an object to rest at the current version of a path.
    fn sync(&mut self, name: &str, text: &str) -> Mark {
        assert!(matches!(self.ask(name, text, None, Need::Data), Answer::Pending));
        self.until_woken();
        let Answer::Known { findings, .. } = self.ask(name, text, None, Need::Data) else { panic!("not known") };
        let Verdict::Active { mark, value: Some(_), .. } = &findings[0].verdict else { panic!("no value") };
        self.ledger.settle(&object(name), &[Some(*mark)]);
        self.calls.clear();
        self.wakes.clear();
        *mark
    }

    fn verdict(&mut self, name: &str, text: &str, held: Option<Mark>) -> Verdict {
        match self.ask(name, text, held, Need::Check) {
            Answer::Known { findings, .. } => findings[0].verdict.clone(),
            Answer::Pending => panic!("pending"),
            Answer::Down { trouble, .. } => panic!("down: {trouble:?}"),
        }
    }

    fn metadata_calls(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call, Call::Metadata(_))).count()
    }

    fn data_calls(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call, Call::Data(..))).count()
    }
}

#[test]
fn fifty_objects_on_one_path_cost_one_check_an_interval_and_one_read_a_version() {
    let mut world = World::new();
    world.put("db");
    let names: Vec<String> = (0..50).map(|n| format!("o{n}")).collect();
    for name in &names {
        world.sync(name, "db");
    }
    world.pass(MINUTE);
    world.calls.clear();
    world.pass(MINUTE * 10);
    assert_eq!((world.metadata_calls(), world.data_calls(), world.wakes.len()), (10, 0, 0));

    world.put("db");
    world.pass(MINUTE);
    assert_eq!((world.data_calls(), world.wakes.len()), (1, 50));
}

#[test]
fn a_new_version_is_handed_over_with_its_value_and_freed_when_everybody_has_settled() {
    let mut world = World::new();
    world.put("db");
    let old = world.sync("a", "db");
    world.put("db");
    world.pass(MINUTE);
    assert_eq!(world.wakes, [object("a")]);
    let Verdict::Active { mark, value, .. } = world.verdict("a", "db", Some(old)) else { panic!() };
    assert_eq!(mark.version.get(), 2);
    assert!(value.is_some());
    world.ledger.settle(&object("a"), &[Some(mark)]);
    assert!(world.ledger.entries.values().all(|entry| entry.value.is_none()), "a value outlived its last user");
}

#[test]
fn a_value_that_nobody_fetches_is_dropped_after_a_minute() {
    let mut world = World::new();
    world.put("db");
    world.ask("a", "db", None, Need::Data);
    world.run();
    assert!(world.ledger.entries.values().any(|entry| entry.value.is_some()));
    // The reconcile took it and then could not write it: the round stays, the value does not.
    world.ask("a", "db", None, Need::Data);
    world.pass(MINUTE + SECOND);
    assert!(world.ledger.entries.values().all(|entry| entry.value.is_none()));
    assert!(matches!(world.ask("a", "db", None, Need::Data), Answer::Pending), "it is read again when asked for again");
}

#[test]
fn a_restart_with_everything_synced_checks_once_and_reads_nothing() {
    let mut world = World::new();
    world.put("db");
    let mark = world.mark("db", 1);
    for n in 0..50 {
        assert!(matches!(world.ask(&format!("o{n}"), "db", Some(mark), Need::Check), Answer::Pending));
    }
    world.run();
    assert_eq!((world.metadata_calls(), world.data_calls()), (1, 0));
    assert!(matches!(world.verdict("o7", "db", Some(mark)), Verdict::Active { value: None, .. }));
}

#[test]
fn a_restart_onto_a_newer_version_reads_it() {
    let mut world = World::new();
    world.put("db");
    let old = world.mark("db", 1);
    world.put("db");
    world.ask("a", "db", Some(old), Need::Check);
    world.run();
    assert!(matches!(world.verdict("a", "db", Some(old)), Verdict::Active { value: Some(_), .. }));
}

#[test]
fn a_deactivation_is_told_without_reading_data() {
    let mut world = World::new();
    world.put("db");
    let mark = world.sync("a", "db");
    world.deactivate("db", 1);
    world.pass(MINUTE);
    assert_eq!((world.wakes.len(), world.data_calls()), (1, 0));
    let verdict = world.verdict("a", "db", Some(mark));
    assert!(matches!(verdict, Verdict::Withdrawn { how: Withdrawal::VersionDeactivated, .. }));
}

#[test]
fn a_lagging_replica_is_no_news() {
    let mut world = World::new();
    world.put("db");
    let lagging = world.okms.clone();
    world.now.wall += SECOND;
    world.put("db");
    let mark = world.sync("a", "db");
    assert_eq!(mark.version.get(), 2);
    let fresh = std::mem::replace(&mut world.okms, lagging);
    world.pass(MINUTE * 2);
    assert!(world.wakes.is_empty(), "an older version woke the object");
    world.okms = fresh;
    world.pass(MINUTE * 2);
    assert!(world.wakes.is_empty() && world.data_calls() == 0);
}

#[test]
fn a_secret_made_again_starts_at_one_and_is_news() {
    let mut world = World::new();
    world.put("db");
    world.put("db");
    let old = world.sync("a", "db");
    world.okms.clear();
    world.now.wall += SECOND;
    world.put("db");
    world.pass(MINUTE);
    assert_eq!(world.wakes.first(), Some(&object("a")));
    let Verdict::Active { mark, value: Some(_), .. } = world.verdict("a", "db", Some(old)) else { panic!() };
    assert_eq!(mark.version.get(), 1);
}

#[test]
fn the_version_in_the_target_is_watched_after_a_newer_one_did_not_render() {
    let mut world = World::new();
    world.put("db");
    let old = world.sync("a", "db");
    world.put("db");
    world.pass(MINUTE);
    world.verdict("a", "db", Some(old));
    // It did not render: the target still holds version 1.
    world.ledger.settle(&object("a"), &[Some(old)]);
    world.wakes.clear();
    world.pass(MINUTE * 3);
    assert_eq!((world.wakes.len(), world.data_calls()), (0, 1), "the same failure is not rendered again");
    world.deactivate("db", 1);
    world.pass(MINUTE);
    let Answer::Known { findings, .. } = world.ask("a", "db", Some(old), Need::Check) else { panic!() };
    assert_eq!(findings[0].held, Some(Withdrawal::VersionDeactivated));
}

#[test]
fn a_request_for_a_check_forgets_nothing_that_is_known() {
    let mut world = World::new();
    world.put("db");
    world.put("other");
    world.sync("b", "other");
    let held = world.sync("a", "db");
    let ask = |refresh| Ask {
        object: object("a"),
        generation: 1,
        unchanged_for: Duration::ZERO,
        refresh,
        sources: vec![Wish { source: Source { path: path("db"), pin: None }, held: Some(held), optional: false }],
        need: Need::Check,
        interval: Some(MINUTE),
        lane: Lane::Verify,
    };
    world.okms.remove(&path("db"));
    let mut confirmed = false;
    // Somebody asks every ten seconds, and the second not-found still comes fifteen seconds after the first.
    for refresh in 1..5 {
        assert!(matches!(world.ledger.ask(world.now, ask(refresh)), Answer::Pending), "an old check counted");
        world.wakes.clear();
        world.until_woken();
        let Answer::Known { findings, .. } = world.ledger.ask(world.now, ask(refresh)) else { panic!("not known") };
        confirmed |= matches!(findings[0].verdict, Verdict::Missing { confirmed: true });
        world.ledger.settle(&object("a"), &[Some(held)]);
        world.pass(SECOND * 10);
    }
    assert!(confirmed);
}

/// A store that works, and the request that is to prove a new credential.
fn proving() -> (World, Request) {
    let mut world = World::new();
    world.put("db");
    world.sync("a", "db");
    world.ledger.propose_credential(world.now);
    let todo = world.ledger.poll(world.now);
    let [request] = todo.requests.as_slice() else { panic!() };
    (world, request.clone())
}

#[test]
fn a_candidate_credential_is_proven_before_it_is_used() {
    let (mut world, request) = proving();
    assert!(request.candidate.is_some() && world.ledger.take_promoted().is_none());
    world.ledger.answer(world.now, &request, Outcome::Failed(fault(FaultKind::Tls)));
    assert_eq!(*world.ledger.health(), Health::Ready, "the old one is still in use");
    assert!(world.ledger.rejected_candidate().is_some());
    let mut promoted = false;
    for _ in 0..100 {
        world.now.mono += SECOND;
        let todo = world.ledger.poll(world.now);
        promoted |= world.ledger.take_promoted().is_some();
        for request in todo.requests {
            let outcome = world.reply(&request.call);
            world.ledger.answer(world.now, &request, outcome);
        }
    }
    assert!(promoted && world.ledger.rejected_candidate().is_none());
}

#[test]
fn a_candidate_that_may_not_see_what_the_one_in_use_sees_is_rejected() {
    let (mut world, request) = proving();
    assert!(matches!(&request.call, Call::Metadata(path) if path.as_str() == "db"));
    world.ledger.answer(world.now, &request, Outcome::Failed(fault(FaultKind::Refused)));
    assert!(world.ledger.rejected_candidate().is_some() && world.ledger.take_promoted().is_none());
    assert_eq!(*world.ledger.health(), Health::Ready);
}

#[test]
fn where_nothing_works_a_candidate_that_may_not_see_one_path_is_better_than_nothing() {
    let (mut world, request) = proving();
    // Meanwhile the one in use stops working.
    world.ledger.breaker.trip(world.now, &fault(FaultKind::Tls), &Timing::default());
    world.ledger.answer(world.now, &request, Outcome::Failed(fault(FaultKind::Refused)));
    let todo = world.ledger.poll(world.now);
    let root = todo.requests.iter().find(|request| request.candidate.is_some()).expect("it is asked again");
    assert_eq!(root.call, Call::Root);
    world.ledger.answer(world.now, root, Outcome::Root);
    assert!(world.ledger.take_promoted().is_some());
}

#[test]
fn more_sources_than_the_budget_holds_stretch_the_interval() {
    let mut world = World::new();
    for n in 0..1800 {
        let text = format!("p{n}");
        world.put(&text);
        let mark = world.mark(&text, 1);
        world.ask(&format!("o{n}"), &text, Some(mark), Need::Check);
    }
    assert_eq!(world.ledger.throttled_to(), Some(MINUTE * 2));
    world.pass(MINUTE * 5);
    world.calls.clear();
    world.pass(MINUTE * 4);
    let calls = world.calls.len();
    assert!((3200..=3700).contains(&calls), "{calls} calls in four minutes");
}

#[test]
fn an_object_without_an_interval_is_checked_only_when_asked() {
    let mut world = World::new();
    world.put("db");
    let mark = world.mark("db", 1);
    let ask = Ask {
        object: object("a"),
        generation: 1,
        unchanged_for: Duration::ZERO,
        refresh: 0,
        sources: vec![Wish { source: Source { path: path("db"), pin: None }, held: Some(mark), optional: false }],
        need: Need::Check,
        interval: None,
        lane: Lane::Change,
    };
    world.ledger.ask(world.now, ask);
    world.run();
    assert_eq!(world.metadata_calls(), 1);
    world.pass(MINUTE * 60);
    assert_eq!(world.metadata_calls(), 1);
    assert_eq!(world.ledger.sources(), (BTreeMap::from([("Active", 1)]), None), "nor is a check late");
}

#[test]
fn what_is_forgotten_leaves_nothing_behind() {
    let mut world = World::new();
    world.put("db");
    world.sync("a", "db");
    world.ledger.forget(&object("a"));
    world.pass(MINUTE * 10);
    assert!(world.calls.is_empty());
    assert!(world.ledger.entries.is_empty() && world.ledger.objects.is_empty() && world.ledger.timers.is_empty());
}
