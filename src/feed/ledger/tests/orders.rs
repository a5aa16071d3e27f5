//! Random orders of events. Whatever happened: once OKMS works again, everybody is in step with it, and nothing is left over.

use proptest::{collection::vec, prelude::*};

use super::*;

const PATHS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Event {
    /// An object asks, as a reconcile does: by number, with a new generation or not, its target drifted or not.
    Reconcile(usize, bool, bool),
    Forget(usize),
    /// Starts requests and leaves them on their way.
    Start,
    /// Answers one of the requests on their way, or lets it fail.
    Answer(usize, Option<FaultKind>),
    Wait(u64),
    Put(usize),
    Deactivate(usize),
    Delete(usize),
    Propose,
    Reject,
    Disconnect,
    Limits(bool),
}

/// The objects: path, pin and interval of each.
fn wish(n: usize) -> (&'static str, Option<u32>, Option<Duration>) {
    [("a", None, Some(MINUTE)), ("a", Some(1), Some(MINUTE * 10)), ("b", None, None), ("b", None, Some(SECOND * 10))]
        .get(n)
        .copied()
        .unwrap_or(("c", None, Some(MINUTE)))
}

/// What a controller remembers of its objects: what the target of each was made from.
struct Cluster {
    world: World,
    held: BTreeMap<usize, Option<Mark>>,
    generations: BTreeMap<usize, i64>,
    on_the_way: Vec<Request>,
    proposed: bool,
}

impl Cluster {
    fn new() -> Self {
        let mut world = World::new();
        for text in PATHS {
            world.put(text);
        }
        Self { world, held: BTreeMap::new(), generations: BTreeMap::new(), on_the_way: Vec::new(), proposed: true }
    }

    /// What the controller does with an answer, as far as the books notice.
    fn reconcile(&mut self, n: usize, drifted: bool) {
        let (text, pin, interval) = wish(n);
        let held = self.held.get(&n).copied().flatten();
        let need = if drifted || held.is_none() { Need::Data } else { Need::Check };
        let id = object(&n.to_string());
        let ask = Ask {
            object: id.clone(),
            generation: self.generations.get(&n).copied().unwrap_or(0),
            unchanged_for: Duration::ZERO,
            refresh: 0,
            sources: vec![Wish { source: Source { path: path(text), pin: pin.map(version) }, held, optional: false }],
            need,
            interval,
            lane: Lane::Change,
        };
        let held = match self.world.ledger.ask(self.world.now, ask) {
            Answer::Pending => return,
            Answer::Down { .. } => held,
            Answer::Known { findings, .. } => match &findings[0].verdict {
                Verdict::Active { mark, value: Some(_), .. } => Some(*mark),
                Verdict::Withdrawn { .. } | Verdict::Missing { confirmed: true } => None,
                _ => held,
            },
        };
        self.held.insert(n, held);
        self.world.ledger.settle(&id, &[held]);
    }

    /// Reconciles whom the books wake.
    fn serve(&mut self) {
        for id in std::mem::take(&mut self.world.wakes) {
            let n = id.name.parse().unwrap();
            if self.held.contains_key(&n) {
                self.reconcile(n, false);
            }
        }
    }

    fn start(&mut self) {
        let todo = self.world.ledger.poll(self.world.now);
        self.world.wakes.extend(todo.wakes);
        self.on_the_way.extend(todo.requests);
        self.serve();
    }

    fn answer(&mut self, request: &Request, fault_of: Option<FaultKind>) {
        let outcome = fault_of.map_or_else(|| self.world.reply(&request.call), |kind| Outcome::Failed(fault(kind)));
        self.world.ledger.answer(self.world.now, request, outcome);
    }

    fn happen(&mut self, event: &Event) {
        let trouble = || StoreTrouble { kind: StoreTroubleKind::InvalidCredential, message: "x".into() };
        let now = self.world.now;
        match *event {
            Event::Reconcile(n, changed, drifted) => {
                *self.generations.entry(n).or_default() += i64::from(changed);
                self.held.entry(n).or_default();
                self.reconcile(n, drifted || changed);
            }
            Event::Forget(n) => {
                self.world.ledger.forget(&object(&n.to_string()));
                self.held.remove(&n);
            }
            Event::Start => self.start(),
            Event::Answer(n, fault_of) => {
                if !self.on_the_way.is_empty() {
                    let request = self.on_the_way.remove(n % self.on_the_way.len());
                    self.answer(&request, fault_of);
                    self.start();
                }
            }
            Event::Wait(seconds) => {
                self.world.now.mono += SECOND * u32::try_from(seconds).unwrap();
                self.world.now.wall += SECOND * u32::try_from(seconds).unwrap();
                self.start();
            }
            Event::Put(n) => {
                self.world.put(PATHS[n]);
            }
            Event::Deactivate(n) => {
                if let Some(current) = self.world.okms.get(&path(PATHS[n])).and_then(|facts| facts.current) {
                    self.world.deactivate(PATHS[n], current.get());
                }
            }
            Event::Delete(n) => {
                self.world.okms.remove(&path(PATHS[n]));
                // What is made again is made later.
                self.world.now.mono += SECOND;
                self.world.now.wall += SECOND;
            }
            Event::Propose => {
                self.world.ledger.propose_credential(now);
                self.proposed = true;
            }
            Event::Reject => {
                self.world.ledger.reject_credential(now, trouble());
                self.proposed = self.world.ledger.breaker.is_connected();
            }
            Event::Disconnect => {
                self.world.ledger.disconnect(now, trouble());
                self.proposed = false;
            }
            Event::Limits(few) => {
                let rate = if few { 1.0 } else { 20.0 };
                let concurrent_requests = if few { 1 } else { 8 };
                let withdrawals = WithdrawalLimit::Percent(20);
                self.world
                    .ledger
                    .set_limits(now, Limits { requests_per_second: rate, concurrent_requests, withdrawals });
            }
        }
    }

    /// Everything works from now on; so much time passes.
    fn recover(&mut self, time: Duration) {
        if !self.proposed {
            self.happen(&Event::Propose);
        }
        for request in std::mem::take(&mut self.on_the_way) {
            self.answer(&request, None);
        }
        for _ in 0..time.as_secs() {
            self.world.pass(SECOND);
            self.serve();
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let kind = prop_oneof![
        Just(FaultKind::NotFound),
        Just(FaultKind::Refused),
        Just(FaultKind::RateLimited),
        Just(FaultKind::Unavailable),
        Just(FaultKind::Tls),
        Just(FaultKind::TooLarge),
        Just(FaultKind::Unexpected),
    ];
    let event = prop_oneof![
        6 => (0..5_usize, prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(n, changed, drifted)| Event::Reconcile(n, changed, drifted)),
        1 => (0..5_usize).prop_map(Event::Forget),
        4 => Just(Event::Start),
        8 => (0..8_usize, proptest::option::of(kind)).prop_map(|(n, fault)| Event::Answer(n, fault)),
        5 => (0..90_u64).prop_map(Event::Wait),
        2 => (0..3_usize).prop_map(Event::Put),
        1 => (0..3_usize).prop_map(Event::Deactivate),
        1 => (0..3_usize).prop_map(Event::Delete),
        1 => Just(Event::Propose),
        1 => Just(Event::Reject),
        1 => Just(Event::Disconnect),
        1 => any::<bool>().prop_map(Event::Limits),
    ];
    vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_everybody_is_in_step_in_the_end(events in events()) {
        let mut cluster = Cluster::new();
        for event in &events {
            cluster.happen(event);
        }
        // The slowest retry is after eleven minutes; then a value may be read once more.
        cluster.recover(MINUTE * 30);
        let Cluster { mut world, held, .. } = cluster;
        world.calls.clear();
        let cheap = world.ledger.entries.values().all(|entry| entry.mode == entry::Mode::Metadata);
        world.pass(MINUTE * 15);
        prop_assert!(world.wakes.is_empty(), "no rest: {:?}", world.wakes);
        prop_assert!(!cheap || world.data_calls() == 0, "data is read at rest: {:?}", world.calls);
        prop_assert_eq!(world.ledger.health(), &Health::Ready);
        prop_assert!(world.ledger.breaker.suspects.is_empty());
        prop_assert!(world.ledger.flights.is_empty());
        for (source, entry) in &world.ledger.entries {
            prop_assert!(!entry.busy, "{} is busy for ever", source);
            prop_assert!(entry.value.is_none(), "the value of {} was left over", source);
            let asked: Vec<_> = entry.users.iter().map(|id| world.ledger.objects[id].interval).collect();
            let checked = entry.checked.expect("it was checked");
            if asked.iter().any(Option::is_some) {
                let age = world.now.mono - checked;
                prop_assert!(age <= MINUTE * 12, "{} was last checked {:?} ago", source, age);
            }
        }
        for (n, held) in held {
            let (text, pin, interval) = wish(n);
            let object = &world.ledger.objects[&object(&n.to_string())];
            prop_assert!(object.open_round().is_none(), "{} waits for ever", n);
            if interval.is_none() {
                continue;
            }
            let facts = world.okms.get(&path(text));
            let meant = facts.and_then(|facts| pin.map(version).or(facts.current));
            let active = meant.filter(|number| {
                let facts = &facts.unwrap().versions.as_ref().unwrap()[number];
                facts.state(world.now.wall) == crate::model::State::Active
            });
            // A pin whose secret was made again keeps what it has.
            if pin.is_none() || active.is_none() {
                prop_assert_eq!(held.map(|mark| mark.version), active, "object {} of {}", n, text);
            }
        }
        prop_assert!(world.ledger.timers.len() <= 40, "{} timers", world.ledger.timers.len());
    }
}
