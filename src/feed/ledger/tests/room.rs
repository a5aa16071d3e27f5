//! Values in memory: bounded for all stores together, and whoever needs several gets them.

use proptest::{collection::vec, prelude::*};

use super::*;

const MOST: usize = 16 << 20;
const LARGEST: usize = 1 << 20;

/// Stores that share one room. Each object is in one store and needs several sources, whose values are of some size.
struct Shelf {
    now: Now,
    room: Arc<Room>,
    stores: Vec<Ledger>,
    created: Timestamp,
    under_way: Vec<(usize, Request)>,
    /// Store, sources and whether it has its target.
    objects: Vec<(usize, Vec<Path>, bool)>,
    /// So many of the first objects are of one namespace, and what they write is never taken by the API server.
    stubborn: usize,
    /// By size: to make one and to overwrite it takes longer than all else here.
    values: HashMap<usize, Value>,
}

impl Shelf {
    fn new(stores: usize) -> Self {
        Self::of(&vec![false; stores])
    }

    /// With a store for each of these, which says whether it is one of a namespace.
    fn of(stores: &[bool]) -> Self {
        let now = start();
        let room = Arc::<Room>::default();
        let limits =
            Limits { requests_per_second: 1000.0, concurrent_requests: 16, withdrawals: WithdrawalLimit::Percent(20) };
        let open = |of_namespace: &bool| {
            let account = Account::new(room.clone(), *of_namespace);
            let mut ledger = Ledger::new(now, limits.clone(), Timing::default(), Before::default(), account);
            ledger.propose_credential(now);
            ledger
        };
        let stores = stores.iter().map(open).collect();
        let (under_way, objects, values) = (Vec::new(), Vec::new(), HashMap::new());
        Self { now, room: room.clone(), stores, created: now.wall, under_way, objects, stubborn: 0, values }
    }

    fn id(&self, n: usize) -> ObjectId {
        ObjectId {
            uid: format!("uid-{n:04}").into(),
            namespace: if n < self.stubborn { "stubborn".into() } else { format!("ns-{}", n % 3).into() },
            name: n.to_string().as_str().into(),
        }
    }

    fn add(&mut self, store: usize, sources: Vec<Path>) {
        self.objects.push((store, sources, false));
        self.reconcile(self.objects.len() - 1);
    }

    /// Asks, and settles where everything is there.
    fn reconcile(&mut self, n: usize) {
        let id = self.id(n);
        let (store, sources, done) = &self.objects[n];
        let mark = Mark { version: version(1), created_at: Some(self.created) };
        let held = done.then_some(mark);
        let wish = |path: &Path| Wish { source: Source { path: path.clone(), pin: None }, held, optional: false };
        let ask = Ask {
            object: id.clone(),
            generation: 1,
            unchanged_for: Duration::ZERO,
            refresh: 0,
            sources: sources.iter().map(wish).collect(),
            need: if *done { Need::Check } else { Need::Data },
            interval: None,
            lane: Lane::Change,
        };
        let ledger = &mut self.stores[*store];
        let Answer::Known { findings, .. } = ledger.ask(self.now, ask) else { return };
        let complete =
            findings.iter().all(|finding| matches!(&finding.verdict, Verdict::Active { value: Some(_), .. }));
        if complete && n >= self.stubborn {
            ledger.settle(&id, &vec![Some(mark); findings.len()]);
            self.objects[n].2 = true;
        }
    }

    /// Starts what may start, and wakes whom it may concern.
    fn poll(&mut self) {
        for store in 0..self.stores.len() {
            let todo = self.stores[store].poll(self.now);
            self.stores[store].take_promoted();
            self.under_way.extend(todo.requests.into_iter().map(|request| (store, request)));
            for id in todo.wakes {
                self.reconcile(id.name.parse().unwrap());
            }
        }
        let (reads, kept) = self.room.taken();
        assert!(reads * LARGEST + kept <= MOST, "{reads} reads and {kept} bytes");
    }

    fn answer(&mut self, n: usize, size: usize) {
        let (store, request) = self.under_way.remove(n);
        let facts = VersionFacts { created_at: Some(self.created), ..VersionFacts::default() };
        let mark = Mark { version: version(1), created_at: Some(self.created) };
        let outcome = match &request.call {
            Call::Page(_) => Outcome::Failed(fault(FaultKind::Refused)),
            Call::Root => Outcome::Root,
            Call::Metadata(_) => Outcome::Metadata(Facts {
                current: Some(version(1)),
                versions: Some([(version(1), facts)].into()),
                ..Facts::default()
            }),
            Call::Data(..) => {
                let make = || {
                    let text = format!(r#"{{"v":"{}"}}"#, "x".repeat(size.saturating_sub(8)));
                    Value::from_json_object(Zeroizing::new(text.into_bytes()))
                };
                let value = self.values.entry(size).or_insert_with(make).clone();
                Outcome::Data(Reading::Data { mark, facts, value })
            }
        };
        self.stores[store].answer(self.now, &request, outcome);
    }

    fn step(&mut self, by: Duration) {
        self.now.mono += by;
        self.now.wall += by;
        self.poll();
    }

    fn done(&self) -> usize {
        self.objects.iter().filter(|(_, _, done)| *done).count()
    }

    /// What is held for whom, when nothing is waited for.
    fn assert_empty(&self) {
        assert_eq!((self.room.taken(), self.room.awaited()), ((0, 0), 0));
    }
}

#[test]
fn objects_that_each_need_much_of_the_room_get_it_one_after_the_other() {
    let mut shelf = Shelf::new(1);
    shelf.poll();
    shelf.answer(0, 0);
    // Sixteen sources each, as many as there may be, of the largest size that OKMS takes: 40 MiB in all.
    for n in 0..40 {
        shelf.add(0, (0..16).map(|source| path(&format!("{n}/{source}"))).collect());
    }
    let mut passed = Duration::ZERO;
    while shelf.done() < 40 {
        shelf.step(SECOND / 10);
        passed += SECOND / 10;
        while !shelf.under_way.is_empty() {
            shelf.answer(0, 64 << 10);
        }
        assert!(passed < MINUTE, "{} of 40 are done", shelf.done());
    }
    shelf.step(SECOND);
    shelf.assert_empty();
}

#[test]
fn a_store_that_hangs_leaves_room_to_the_others() {
    let mut shelf = Shelf::new(3);
    shelf.poll();
    while !shelf.under_way.is_empty() {
        shelf.answer(0, 0);
    }
    for n in 0..60 {
        shelf.add(n % 3, (0..3).map(|source| path(&format!("{n}/{source}"))).collect());
    }
    // The first two stores answer no read any more.
    for _ in 0..300 {
        shelf.step(SECOND / 10);
        while let Some(n) =
            shelf.under_way.iter().position(|(store, request)| *store == 2 || !matches!(request.call, Call::Data(..)))
        {
            shelf.answer(n, 64 << 10);
        }
    }
    assert_eq!(shelf.done(), 20, "all of the third");
    let stuck = shelf.under_way.len();
    assert!((2..=8).contains(&stuck), "{stuck} reads hang");
    // A store that is closed gives back what it had.
    shelf.stores.truncate(0);
    shelf.assert_empty();
}

#[test]
fn stores_of_namespaces_that_hang_leave_room_to_a_shared_one_however_many_they_are() {
    let hostile = 20;
    let mut stores = vec![true; hostile];
    stores.push(false);
    let mut shelf = Shelf::of(&stores);
    shelf.poll();
    while !shelf.under_way.is_empty() {
        shelf.answer(0, 0);
    }
    for n in 0..hostile * 20 {
        shelf.add(n % hostile, (0..16).map(|source| path(&format!("{n}/{source}"))).collect());
    }
    // What hangs ends with the client's time limit, and at that moment its store may start the next.
    let mut begun: HashMap<(usize, u64), Duration> = HashMap::new();
    let mut passed = Duration::ZERO;
    let mut wanted = 0;
    while passed < MINUTE * 5 {
        shelf.step(SECOND / 4);
        passed += SECOND / 4;
        if passed > MINUTE && wanted < 20 {
            shelf.add(hostile, vec![path(&format!("shared/{wanted}"))]);
            wanted += 1;
        }
        let mut n = 0;
        while let Some((store, request)) = shelf.under_way.get(n).cloned() {
            let since = *begun.entry((store, request.ticket)).or_insert(passed);
            let hangs = store < hostile && matches!(request.call, Call::Data(..));
            if !hangs {
                shelf.answer(n, 1 << 10);
            } else if passed >= since + SECOND * 30 {
                shelf.under_way.remove(n);
                let outcome = Outcome::Failed(fault(FaultKind::Unavailable));
                shelf.stores[store].answer(shelf.now, &request, outcome);
                shelf.poll();
            } else {
                n += 1;
            }
        }
    }
    assert_eq!(shelf.done(), wanted, "all of the shared store");
}

#[test]
fn a_value_larger_than_usual_is_kept_where_there_is_room_and_else_waits() {
    let mut shelf = Shelf::new(1);
    shelf.poll();
    shelf.answer(0, 0);
    for n in 0..12 {
        shelf.add(0, (0..3).map(|source| path(&format!("{n}/{source}"))).collect());
    }
    // 36 MiB in all; what finds no room is read again after a while.
    let mut passed = Duration::ZERO;
    while shelf.done() < 12 {
        shelf.step(SECOND);
        passed += SECOND;
        while !shelf.under_way.is_empty() {
            shelf.answer(0, LARGEST);
        }
        assert!(passed < MINUTE * 120, "{} of 12 are done", shelf.done());
    }
    shelf.step(MINUTE * 2);
    shelf.assert_empty();
}

#[test]
fn whoever_tries_in_vain_for_ever_leaves_the_memory_to_others() {
    const STUBBORN: usize = 30;
    let mut shelf = Shelf { stubborn: STUBBORN, ..Shelf::new(1) };
    shelf.poll();
    shelf.answer(0, 0);
    for n in 0..STUBBORN {
        shelf.add(0, (0..16).map(|source| path(&format!("in-vain/{n}/{source}"))).collect());
    }
    let mut waiting: Vec<(usize, Duration)> = Vec::new();
    let mut longest = Duration::ZERO;
    let mut passed = Duration::ZERO;
    while passed < MINUTE * 4 {
        if passed.as_secs().is_multiple_of(5) {
            (0..STUBBORN).for_each(|n| shelf.reconcile(n));
            if passed > MINUTE && passed < MINUTE * 3 {
                waiting.push((shelf.objects.len(), passed));
                shelf.add(0, vec![path(&format!("other/{}", passed.as_secs()))]);
            }
        }
        for _ in 0..8 {
            shelf.step(SECOND / 8);
            while !shelf.under_way.is_empty() {
                shelf.answer(0, 64 << 10);
            }
        }
        passed += SECOND;
        waiting.retain(|(n, since)| {
            let done = shelf.objects[*n].2;
            longest = if done { longest.max(passed.saturating_sub(*since)) } else { longest };
            !done
        });
    }
    assert!(waiting.is_empty() && longest < MINUTE / 2, "{} wait, {longest:?}", waiting.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever sets of sources are wanted together, shared with whom, and in which order the answers come.
    #[test]
    fn nobody_waits_for_ever_for_room(
        objects in vec((0..2_usize, vec(0..40_usize, 1..17)), 1..60),
        order in vec(any::<prop::sample::Index>(), 64),
        stalls in vec(0..90_u64, 64),
    ) {
        let mut shelf = Shelf::new(2);
        shelf.poll();
        for (store, sources) in objects {
            shelf.add(store, sources.into_iter().map(|n| path(&format!("p/{n}"))).collect());
        }
        for (index, stall) in order.iter().zip(&stalls) {
            shelf.poll();
            if !shelf.under_way.is_empty() {
                let n = index.index(shelf.under_way.len());
                shelf.answer(n, 64 << 10);
            }
            // Now and then nothing comes for so long that values expire.
            shelf.step(Duration::from_secs(stall.saturating_sub(60)));
        }
        for _ in 0..600 {
            while !shelf.under_way.is_empty() {
                shelf.answer(0, 64 << 10);
            }
            shelf.step(SECOND / 2);
        }
        prop_assert_eq!(shelf.done(), shelf.objects.len());
        shelf.step(MINUTE * 2);
        prop_assert_eq!((shelf.room.taken(), shelf.room.awaited()), ((0, 0), 0));
    }
}
