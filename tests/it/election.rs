//! Contenders for one Lease of a real API server, over connections on which requests come late, are answered late, or not at all.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use okms_operator::{
    election::{Config, Election, Leadership, Terms, Timing},
    k8s::Term,
};
use rand::RngExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    tapped::{self, Fate},
    world::{client, client_config, eventually},
};

const NAMESPACE: &str = "default";

/// Short, so that much happens; what a leader of these times is late for, it is late for.
fn timing() -> Timing {
    Timing::new(Duration::from_secs(2), Duration::from_millis(1200), Duration::from_millis(200)).unwrap()
}

fn terms(client: Client, id: &str, identity: String) -> Terms {
    terms_of(client, Config { id: id.to_owned(), identity, timing: timing() })
}

fn terms_of(client: Client, config: Config) -> Terms {
    Terms::Elected(Box::new(Election::new(client, NAMESPACE, config, Duration::from_secs(1), || {})))
}

async fn led(terms: &Terms) -> Leadership {
    terms.next(&CancellationToken::new()).await.unwrap()
}

/// What becomes of a request about the Lease, and, now and then, of a whole second of them.
fn fate() -> Fate {
    let mut rng = rand::rng();
    let wait = |most: u64| Duration::from_millis(rand::rng().random_range(0..most));
    match rng.random_range(0..10) {
        0 => Fate::Late(wait(1500)),
        1 => Fate::AnsweredLate(wait(1500)),
        2 => Fate::AnswerLost(Duration::ZERO),
        3 => Fate::Lost,
        _ => Fate::Late(wait(20)),
    }
}

/// The terms of all contenders, and whether two of them ever ran at once.
#[derive(Default)]
struct Watcher {
    terms: Mutex<Vec<Term>>,
    done: AtomicBool,
}

impl Watcher {
    /// Looks until it is done. A term that has ended does not run again: one that runs before and after another was seen to run did so at
    /// the same time.
    fn look(&self) {
        while !self.done.load(Ordering::Relaxed) {
            let terms = self.terms.lock().unwrap().clone();
            let running: Vec<&Term> = terms.iter().filter(|term| term.is_running()).collect();
            let again: Vec<&&Term> = running.iter().filter(|term| term.is_running()).collect();
            assert!(again.len() <= 1, "two lead at once");
            self.terms.lock().unwrap().retain(Term::is_running);
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_badly_they_reach_the_api_server_never_two_lead_at_once() {
    const CONTENDERS: usize = 3;
    const TERMS: usize = 12;
    let id = format!("chaos-{:06x}", rand::random::<u32>() & 0xff_ffff);
    let watcher = Arc::new(Watcher::default());
    let (served, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let looking = {
        let watcher = watcher.clone();
        std::thread::spawn(move || watcher.look())
    };
    let mut contenders = tokio::task::JoinSet::new();
    for n in 0..CONTENDERS {
        let client = tapped::unreliable(client_config().await, |request| {
            if request.contains("/leases") { fate() } else { Fate::Late(Duration::ZERO) }
        });
        let terms = terms(client, &id, format!("contender-{n}"));
        let (watcher, served, lost) = (watcher.clone(), served.clone(), lost.clone());
        contenders.spawn(async move {
            loop {
                let leadership = led(&terms).await;
                let term = leadership.term().clone();
                watcher.terms.lock().unwrap().push(term.clone());
                let work = Duration::from_millis(rand::rng().random_range(0..3000));
                let is_lost = tokio::time::timeout(work, term.ended()).await.is_ok();
                let dice = rand::rng().random_range(0..3);
                match dice {
                    _ if is_lost => _ = lost.fetch_add(1, Ordering::Relaxed),
                    // As one that dies does.
                    0 => drop(leadership),
                    _ => leadership.release().await,
                }
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // Somebody else touches the Lease too, so that who leads meets conflicts.
    let meddler = tokio::spawn({
        let (leases, id): (Api<Lease>, _) = (Api::namespaced(client().await, NAMESPACE), id.clone());
        async move {
            loop {
                let patch = json!({"metadata": {"annotations": {"touched": rand::random::<u32>().to_string()}}});
                let _ = leases.patch(&id, &PatchParams::default(), &Patch::Merge(patch)).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    });
    eventually("all have led and lost, again and again", async || {
        let counts = (served.load(Ordering::Relaxed), lost.load(Ordering::Relaxed));
        let over = looking.is_finished();
        if over || counts.0 >= TERMS && counts.1 >= 2 { Ok(()) } else { Err(counts) }
    })
    .await;
    meddler.abort();
    contenders.shutdown().await;
    watcher.done.store(true, Ordering::Relaxed);
    looking.join().expect("never two led at once");
}

/// What `/livez` of a standby goes by.
#[tokio::test(flavor = "multi_thread")]
async fn who_stands_by_is_seen_to_turn() {
    let id = format!("turns-{:06x}", rand::random::<u32>() & 0xff_ffff);
    let config = |identity: &str| Config { id: id.clone(), identity: identity.to_owned(), timing: Timing::default() };
    let leader = led(&terms_of(client().await, config("leader"))).await;
    let turns = Arc::new(AtomicUsize::new(0));
    let (config, turned) = (config("other"), turns.clone());
    let turn = Duration::from_millis(50);
    let count = move || _ = turned.fetch_add(1, Ordering::Relaxed);
    let other = Terms::Elected(Box::new(Election::new(client().await, NAMESPACE, config, turn, count)));
    let seen = eventually("it turns again and again", async || {
        let turns = turns.load(Ordering::Relaxed);
        if turns > 20 { Ok(turns) } else { Err(turns) }
    });
    tokio::select! {
        seen = seen => assert!(seen > 20 && leader.term().is_running()),
        _ = led(&other) => panic!("two lead at once"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_taken_up_at_once_and_a_silent_leader_when_its_lease_has_run_out() {
    let id = format!("release-{:06x}", rand::random::<u32>() & 0xff_ffff);
    let first = terms(client().await, &id, "first".to_owned());
    let second = terms(client().await, &id, "second".to_owned());
    let leadership = led(&first).await;
    let term = leadership.term().clone();
    let (other, ()) = tokio::join!(led(&second), async {
        assert!(term.is_running());
        leadership.release().await;
        assert!(!term.is_running());
    });
    assert!(other.term().is_running());

    // It dies without a word.
    let died = std::time::Instant::now();
    drop(other);
    let leadership = led(&first).await;
    assert!(leadership.term().is_running());
    // Less what had passed since its last renewal.
    let least = timing().lease_duration().saturating_sub(timing().renew_deadline());
    assert!(died.elapsed() >= least, "{:?}", died.elapsed());
    let leases: Api<Lease> = Api::namespaced(client().await, NAMESPACE);
    let spec = leases.get(&id).await.unwrap().spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("first"), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_stopped_while_its_claim_is_under_way_lets_go_of_what_it_gets() {
    let id = format!("stopped-{:06x}", rand::random::<u32>() & 0xff_ffff);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let slow = tapped::unreliable(client_config().await, move |request| {
        if request.starts_with("POST") {
            stopping.cancel();
        }
        Fate::AnsweredLate(Duration::from_millis(200))
    });
    // In production's, an answer is not too late because a machine is busy.
    let config = Config { id: id.clone(), identity: "stopped".to_owned(), timing: Timing::default() };
    let leadership = terms_of(slow, config).next(&stop).await.expect("the claim was answered");
    leadership.release().await;
    let leases: Api<Lease> = Api::namespaced(client().await, NAMESPACE);
    assert_eq!(leases.get(&id).await.unwrap().spec.unwrap().holder_identity.as_deref(), Some(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_stopped_before_it_hears_of_its_claim_lets_go_of_what_it_got() {
    let id = format!("unheard-{:06x}", rand::random::<u32>() & 0xff_ffff);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let lossy = tapped::unreliable(client_config().await, move |request| {
        if request.starts_with("POST") {
            stopping.cancel();
            return Fate::AnswerLost(Duration::ZERO);
        }
        Fate::Late(Duration::ZERO)
    });
    let config = Config { id: id.clone(), identity: "stopped".to_owned(), timing: Timing::default() };
    assert!(terms_of(lossy, config).next(&stop).await.is_none(), "it leads without knowing that it does");
    let leases: Api<Lease> = Api::namespaced(client().await, NAMESPACE);
    assert_eq!(leases.get(&id).await.unwrap().spec.unwrap().holder_identity.as_deref(), Some(""));
}
