//! Many namespaces at one store, where each answer takes its time. Time is an argument; nothing waits.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;

/// What the client gives up after.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// A store that answers as the test says, and objects of many namespaces that are reconciled as the ledger wakes them.
///
/// An object is named after its only source, and its namespace is the first segment of that.
pub(super) struct Town {
    pub start: Instant,
    pub now: Now,
    pub ledger: Ledger,
    /// How long answers take; those of paths below a prefix of `hanging` never come.
    pub latency: Duration,
    pub hanging: Vec<String>,
    /// Who asked for what and when, data or not.
    pub log: Vec<(Duration, Path)>,
    created: Timestamp,
    answers: BinaryHeap<Reverse<(Instant, u64)>>,
    under_way: HashMap<u64, Request>,
    asks: HashMap<ObjectId, Ask>,
}

pub(super) fn id_of(text: &str) -> ObjectId {
    let (namespace, _) = text.split_once('/').unwrap();
    ObjectId { uid: text.into(), namespace: namespace.into(), name: text.into() }
}

impl Town {
    pub fn new(requests_per_second: f64, concurrent_requests: usize) -> Self {
        let now = start();
        let limits = Limits { requests_per_second, concurrent_requests, withdrawals: WithdrawalLimit::Percent(20) };
        let mut town = Self {
            start: now.mono,
            now,
            ledger: Ledger::new(now, limits, Timing::default(), Before::default(), Account::new(Arc::default(), false)),
            latency: Duration::from_millis(50),
            hanging: Vec::new(),
            log: Vec::new(),
            created: now.wall,
            answers: BinaryHeap::new(),
            under_way: HashMap::new(),
            asks: HashMap::new(),
        };
        town.ledger.propose_credential(now);
        town.pass(SECOND);
        assert!(town.ledger.take_promoted().is_some());
        town.log.clear();
        town
    }

    fn mark(&self) -> Mark {
        Mark { version: version(1), created_at: Some(self.created) }
    }

    /// An object that has its target already, as after a start.
    pub fn synced(&mut self, text: &str, interval: Duration) {
        let held = Some(self.mark());
        self.ask(text, held, Need::Check, Some(interval), Lane::Verify);
    }

    /// An object that somebody has just applied.
    pub fn applied(&mut self, text: &str, interval: Duration) {
        self.ask(text, None, Need::Data, Some(interval), Lane::Change);
    }

    fn ask(&mut self, text: &str, held: Option<Mark>, need: Need, interval: Option<Duration>, lane: Lane) {
        let source = Source { path: path(text), pin: None };
        let sources = vec![Wish { source, held, optional: false }];
        let object = id_of(text);
        let ask = Ask { object: object.clone(), generation: 1, refresh: 0, sources, need, interval, lane };
        self.ledger.ask(self.now, ask.clone());
        self.asks.insert(object, ask);
    }

    /// Somebody annotates an object.
    pub fn refresh(&mut self, text: &str) {
        let ask = self.asks.get_mut(&id_of(text)).unwrap();
        ask.refresh += 1;
        self.ledger.ask(self.now, ask.clone());
    }

    /// Lets time pass from one event to the next.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        loop {
            let todo = self.ledger.poll(self.now);
            for request in todo.requests {
                self.begin(request);
            }
            for id in todo.wakes {
                self.reconcile(&id);
            }
            let answer = self.answers.peek().map(|Reverse((at, _))| *at);
            let next = [answer, todo.next].into_iter().flatten().min().unwrap_or(end).min(end);
            let step = next.saturating_duration_since(self.now.mono);
            self.now.mono += step;
            self.now.wall += step;
            let mut answered = false;
            while let Some(Reverse((at, ticket))) = self.answers.peek().copied()
                && at <= self.now.mono
            {
                self.answers.pop();
                self.end(ticket);
                answered = true;
            }
            if self.now.mono >= end && !answered {
                return;
            }
        }
    }

    fn begin(&mut self, request: Request) {
        let mut took = self.latency;
        if let Call::Metadata(path) | Call::Data(path, _) = &request.call {
            if self.hanging.iter().any(|prefix| path.as_str().starts_with(prefix.as_str())) {
                took = LIMIT;
            }
            self.log.push((self.now.mono - self.start, path.clone()));
        }
        self.answers.push(Reverse((self.now.mono + took, request.ticket)));
        self.under_way.insert(request.ticket, request);
    }

    fn end(&mut self, ticket: u64) {
        let request = self.under_way.remove(&ticket).unwrap();
        let facts = VersionFacts { created_at: Some(self.created), ..VersionFacts::default() };
        let outcome = match &request.call {
            Call::Metadata(path) | Call::Data(path, _)
                if self.hanging.iter().any(|prefix| path.as_str().starts_with(prefix.as_str())) =>
            {
                Outcome::Failed(fault(FaultKind::Unavailable))
            }
            Call::Root => Outcome::Root,
            Call::Metadata(_) => Outcome::Metadata(Facts {
                current: Some(version(1)),
                versions: Some([(version(1), facts)].into()),
                ..Facts::default()
            }),
            Call::Data(..) => {
                let value = Value::from_json_object(Zeroizing::new(br#"{"v":1}"#.to_vec()));
                Outcome::Data(Reading::Data { mark: self.mark(), facts, value })
            }
        };
        self.ledger.answer(self.now, &request, outcome);
    }

    fn reconcile(&mut self, id: &ObjectId) {
        let Some(ask) = self.asks.get_mut(id) else { return };
        let Answer::Known { findings, .. } = self.ledger.ask(self.now, ask.clone()) else { return };
        if let Verdict::Active { mark, .. } = &findings[0].verdict {
            ask.sources[0].held = Some(*mark);
            (ask.need, ask.lane) = (Need::Check, Lane::Verify);
            self.ledger.settle(id, &[Some(*mark)]);
        }
    }

    /// When requests for paths below a prefix began.
    pub fn times(&self, prefix: &str) -> Vec<Duration> {
        self.log.iter().filter(|(_, path)| path.as_str().starts_with(prefix)).map(|(at, _)| *at).collect()
    }

    /// The longest time in which a path was not asked for, from `from` on.
    pub fn longest_gap(&self, text: &str, from: Duration) -> Duration {
        let mut last = from;
        let mut longest = Duration::ZERO;
        for at in self.times(text).into_iter().filter(|at| *at >= from).chain([self.now.mono - self.start]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        longest
    }

    /// The most requests within any ten seconds.
    pub fn most_in_ten_seconds(&self) -> usize {
        let times: Vec<Duration> = self.log.iter().map(|(at, _)| *at).collect();
        let within = |n: usize| times[n..].iter().take_while(|at| **at < times[n] + SECOND * 10).count();
        (0..times.len()).step_by(7).map(within).max().unwrap_or(0)
    }
}
