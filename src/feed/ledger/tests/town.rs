//! Many namespaces at one store, where each answer takes its time. Time is an argument; nothing waits.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;
use crate::model::Listed;

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
    /// What every request ends with.
    pub fails: Option<Fault>,
    /// Who asked for what and when, data or not.
    pub log: Vec<(Duration, Path)>,
    /// When pages of the list were asked for.
    pub pages: Vec<Duration>,
    pub list: List,
    /// Every secret of the domain, in the order of the list.
    pub secrets: BTreeMap<Path, Secret>,
    /// Whether the store's status was to be written, since this was last looked at.
    pub store_changed: bool,
    created: Timestamp,
    answers: BinaryHeap<Reverse<(Instant, u64)>>,
    under_way: HashMap<u64, Request>,
    asks: HashMap<ObjectId, Ask>,
}

/// What the domain's list is like. As it is by default, it is refused.
pub(super) struct List {
    /// Rows have their versions.
    pub versions: bool,
    /// What pages end with instead, from the n-th of all pages on.
    pub fails: Option<(usize, Fault)>,
    /// Only rows below these prefixes are left out.
    pub hidden: Vec<String>,
    /// How long a page takes.
    pub latency: Duration,
    /// Every third page is empty, and has a next one.
    pub holes: bool,
    /// The second page names itself as the next one.
    pub circle: bool,
    /// It shows what was there then, for ever.
    pub stuck: Option<BTreeMap<Path, Secret>>,
}

/// A secret with one version, or the current one of some.
#[derive(Clone, Copy)]
pub(super) struct Secret {
    pub mark: Mark,
    pub deactivated: bool,
    pub deactivates_at: Option<Timestamp>,
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
            fails: None,
            log: Vec::new(),
            pages: Vec::new(),
            list: List {
                versions: true,
                fails: Some((0, fault(FaultKind::Refused))),
                hidden: Vec::new(),
                latency: Duration::from_millis(50),
                holes: false,
                circle: false,
                stuck: None,
            },
            secrets: BTreeMap::new(),
            store_changed: false,
            created: now.wall - Duration::from_hours(24) + Duration::from_nanos(123_456_789),
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

    /// The secret at a path, which is made if it is not there.
    pub fn secret(&mut self, path: &Path) -> &mut Secret {
        let mark = Mark { version: version(1), created_at: Some(self.created) };
        let secret = Secret { mark, deactivated: false, deactivates_at: None };
        self.secrets.entry(path.clone()).or_insert(secret)
    }

    /// Somebody puts a new version.
    pub fn put(&mut self, text: &str) {
        let now = self.now.wall;
        let secret = self.secret(&path(text));
        secret.mark = Mark { version: version(secret.mark.version.get() + 1), created_at: Some(now) };
    }

    /// The version in the target of an object.
    pub fn held(&self, text: &str) -> Option<u32> {
        self.asks[&id_of(text)].sources[0].held.map(|mark| mark.version.get())
    }

    /// What the object was last told.
    pub fn verdict(&mut self, text: &str) -> Verdict {
        let ask = self.asks[&id_of(text)].clone();
        match self.ledger.ask(self.now, ask) {
            Answer::Known { findings, .. } => findings[0].verdict.clone(),
            _ => panic!("{text} is not known"),
        }
    }

    /// Somebody applies an object that has its target, with another source than its path.
    pub fn ask_for(&mut self, text: &str, source: Source, interval: Option<Duration>) {
        let held = Some(self.secret(&source.path).mark);
        let sources = vec![Wish { source, held, optional: false }];
        let (object, need, lane) = (id_of(text), Need::Check, Lane::Verify);
        let ask = Ask {
            object: object.clone(),
            generation: 1,
            unchanged_for: Duration::ZERO,
            refresh: 0,
            sources,
            need,
            interval,
            lane,
        };
        self.ledger.ask(self.now, ask.clone());
        self.asks.insert(object, ask);
    }

    /// An object that has its target already, as after a start.
    pub fn synced(&mut self, text: &str, interval: Duration) {
        let held = Some(self.secret(&path(text)).mark);
        self.ask(text, held, Need::Check, Some(interval), Lane::Verify);
    }

    /// An object that somebody has just applied.
    pub fn applied(&mut self, text: &str, interval: Duration) {
        self.ask(text, None, Need::Data, Some(interval), Lane::Change);
    }

    fn ask(&mut self, text: &str, held: Option<Mark>, need: Need, interval: Option<Duration>, lane: Lane) {
        let source = Source { path: path(text), pin: None };
        self.secret(&source.path);
        let sources = vec![Wish { source, held, optional: false }];
        let object = id_of(text);
        let ask = Ask {
            object: object.clone(),
            generation: 1,
            unchanged_for: Duration::ZERO,
            refresh: 0,
            sources,
            need,
            interval,
            lane,
        };
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
            self.store_changed |= todo.store_changed;
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
        if let Call::Page(_) = &request.call {
            took = self.list.latency;
            self.pages.push(self.now.mono - self.start);
        }
        self.answers.push(Reverse((self.now.mono + took, request.ticket)));
        self.under_way.insert(request.ticket, request);
    }

    fn end(&mut self, ticket: u64) {
        let request = self.under_way.remove(&ticket).unwrap();
        let secret = match &request.call {
            Call::Metadata(path) | Call::Data(path, _) => self.secrets.get(path).copied(),
            Call::Root | Call::Page(_) => None,
        };
        let outcome = match &request.call {
            _ if self.fails.is_some() => Outcome::Failed(self.fails.clone().unwrap()),
            Call::Metadata(path) | Call::Data(path, _)
                if self.hanging.iter().any(|prefix| path.as_str().starts_with(prefix.as_str())) =>
            {
                Outcome::Failed(fault(FaultKind::Unavailable))
            }
            Call::Root => Outcome::Root,
            Call::Page(cursor) => self.page(cursor.as_ref()),
            Call::Metadata(_) | Call::Data(..) => match secret {
                None => Outcome::Failed(fault(FaultKind::NotFound)),
                Some(secret) => self.tell(secret, matches!(request.call, Call::Data(..))),
            },
        };
        self.ledger.answer(self.now, &request, outcome);
    }

    fn tell(&self, secret: Secret, data: bool) -> Outcome {
        let Secret { mark, deactivated, deactivates_at } = secret;
        let deletion_time = if deactivated { Some(self.now.wall - SECOND) } else { deactivates_at };
        let facts = VersionFacts { created_at: mark.created_at, deletion_time, destroyed: false };
        if data && deactivated {
            return Outcome::Data(Reading::Unreadable { version: mark.version, facts });
        }
        if data {
            let value = Value::from_json_object(Zeroizing::new(br#"{"v":1}"#.to_vec()));
            return Outcome::Data(Reading::Data { mark, facts, value });
        }
        let versions = Some([(mark.version, facts)].into());
        Outcome::Metadata(Facts { current: Some(mark.version), versions, ..Facts::default() })
    }

    /// A hundred secrets after a cursor, as the list shows them: times in whole seconds, and nothing of what is hidden.
    fn page(&self, cursor: Option<&Cursor>) -> Outcome {
        if let Some((from, fault)) = &self.list.fails
            && self.pages.len() > *from
        {
            return Outcome::Failed(fault.clone());
        }
        let after = cursor.map(|cursor| cursor.as_str().split('#').next().unwrap().to_owned()).unwrap_or_default();
        if self.list.holes && self.pages.len() % 3 == 1 {
            return Outcome::Page(Page {
                next: Cursor::new(&format!("{after}#{}", self.pages.len())),
                secrets: vec![],
            });
        }
        let secrets = self.list.stuck.as_ref().unwrap_or(&self.secrets);
        let mut rows = secrets.iter().filter(|(path, _)| path.as_str() > after.as_str());
        let page: Vec<_> = rows.by_ref().take(100).collect();
        let next = self.list.circle.then(|| Cursor::new("circle").unwrap()).or_else(|| {
            let (last, _) = rows.next().and(page.last())?;
            Cursor::new(last.as_str())
        });
        let hidden = |path: &Path| self.list.hidden.iter().any(|prefix| path.as_str().starts_with(prefix));
        let shown =
            page.into_iter().filter(|(path, secret)| self.list.versions && !secret.deactivated && !hidden(path));
        let second = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap();
        let secrets = shown.map(|(path, secret)| Listed {
            path: path.clone(),
            version: secret.mark.version,
            created_at: second(secret.mark.created_at.unwrap()),
            deactivates_at: secret.deactivates_at.map(second),
        });
        Outcome::Page(Page { secrets: secrets.collect(), next })
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
