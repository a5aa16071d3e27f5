//! Wires the rooms together: watches wake reconciles, a reconcile gathers, asks the feed, decides, applies and reports.
//!
//! Here is the only place where Kubernetes and OKMS meet. [`run`] starts it; [`secret`] is what happens to one `OkmsSecret`,
//! [`store`] what happens to one store.

mod apply;
mod config;
mod context;
mod credentials;
mod gather;
pub mod health;
pub mod metrics;
mod named;
mod refresh;
mod report;
pub mod rights;
mod row;
mod secret;
mod store;

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
};

use futures::{
    FutureExt, StreamExt,
    channel::mpsc::{UnboundedReceiver, unbounded},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        controller::{Action, Config as Pace},
        reflector::{ObjectRef, Store},
        watcher::{Config as Selection, watcher},
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use self::config::Config;
use self::{
    context::{Context, Known, TargetMeta},
    health::Health,
    metrics::{Metrics, ReconcileOutcome, Snapshot, StoreSnapshot},
    named::Named,
    row::Rows,
    store::Stores,
};
use crate::{
    api::{ClusterOkmsStore, OkmsSecret, Reason, condition, names},
    feed::{self, Feed, Wake},
    k8s::{ConfigMaps, Events, Scope, Seen, Targets, Term, Watch},
    plan::{self, Fingerprinter},
};

/// A part of the operator that never ends by itself has ended.
#[derive(Debug, thiserror::Error)]
#[error("{0} ended unexpectedly")]
pub struct Error(String);

/// Runs the operator until it is cancelled; answers once everything that was under way has ended.
pub async fn run(
    config: Config,
    client: Client,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let scopes: Vec<Scope> = match config.watch_namespaces.as_slice() {
        [] => vec![Scope::Cluster],
        some => some.iter().map(|namespace| Scope::Namespace(namespace.as_str().into())).collect(),
    };
    // Each watch is a task that never ends; the reconciles are tasks that end when they are cancelled and drained.
    let mut watches: JoinSet<&'static str> = JoinSet::new();
    let mut drivers: JoinSet<&'static str> = JoinSet::new();

    let (wake_stores, store_wakes) = unbounded();
    let stores: Watch<ClusterOkmsStore> = Watch::default();
    let mut known = HashMap::new();
    let mut opened = Vec::new();
    for scope in scopes {
        let (secrets, targets): (Watch<OkmsSecret>, Watch<TargetMeta>) = (Watch::default(), Watch::default());
        let (wakes, woken) = unbounded();
        let name = match &scope {
            Scope::Cluster => String::new(),
            Scope::Namespace(namespace) => namespace.to_string(),
        };
        known.insert(name, Known { secrets: secrets.store.clone(), targets: targets.store.clone(), wakes });
        opened.push((scope, secrets, targets, woken));
    }

    let context = Arc::new_cyclic(|weak: &Weak<Context>| Context {
        term: Term::of_the_only_instance(),
        feed: Feed::new(config.timing.clone(), sink(weak.clone()), cancel.child_token()),
        rows: Rows::default(),
        targets: Targets::new(client.clone()),
        config_maps: ConfigMaps::new(client.clone()),
        events: Events::new(client.clone()),
        fingerprinter: Fingerprinter::new(),
        metrics: metrics.clone(),
        health: health.clone(),
        stores: Stores::default(),
        named: Named::default(),
        this: weak.clone(),
        cluster_stores: stores.store.clone(),
        wake_stores,
        known,
        config,
        client: client.clone(),
    });
    let weak = Arc::downgrade(&context);
    metrics.on_scrape(move || weak.upgrade().map_or_else(Snapshot::default, |context| snapshot(&context)));

    let held = health.hold_ready("the watch of ClusterOkmsStores");
    let stores_store = stores.store.clone();
    watches.spawn(watch_stores(context.clone(), stores, held));
    let mut filled: Vec<(Store<OkmsSecret>, Store<TargetMeta>)> = Vec::new();
    let mut queues = Vec::new();
    for (scope, secrets, targets, woken) in opened {
        filled.push((secrets.store.clone(), targets.store.clone()));
        queues.push((secrets.store.clone(), woken));
        let held = health.hold_ready("the watch of OkmsSecrets");
        watches.spawn(watch_secrets(context.clone(), scope.clone(), secrets, held));
        let held = health.hold_ready("the watch of target Secrets");
        watches.spawn(watch_targets(context.clone(), scope, targets, held));
    }

    // Nothing is decided before everything is known: a half-filled store looks like deletions.
    let all_filled = async {
        for (secrets, targets) in &filled {
            let _ = secrets.wait_until_ready().await;
            let _ = targets.wait_until_ready().await;
        }
        let _ = stores_store.wait_until_ready().await;
    };
    tokio::select! {
        () = all_filled => {}
        () = cancel.cancelled() => return Ok(()),
        Some(ended) = watches.join_next() => return Err(unexpected(ended)),
    }

    drivers.spawn(serve(
        context.clone(),
        stores_store,
        store_wakes,
        cancel.clone(),
        "the reconciles of stores",
        reconcile_store,
    ));
    for (store, woken) in queues {
        drivers.spawn(serve(
            context.clone(),
            store,
            woken,
            cancel.clone(),
            "the reconciles of OkmsSecrets",
            reconcile_secret,
        ));
    }
    let heartbeat = tokio::spawn(heartbeat(context.clone()));
    let result = tokio::select! {
        // First: once cancelled, the reconciles end too, which may be noticed at the same moment and is then no failure.
        biased;
        () = cancel.cancelled() => Ok(()),
        Some(ended) = watches.join_next() => Err(unexpected(ended)),
        Some(ended) = drivers.join_next() => Err(unexpected(ended)),
        () = context.feed.broken() => Err(Error("the driver of a store".to_owned())),
    };
    heartbeat.abort();
    cancel.cancel();
    // What is under way ends with its write; the watches have nothing to finish.
    while drivers.join_next().await.is_some() {}
    watches.shutdown().await;
    context.feed.drained().await;
    result
}

fn unexpected(ended: Result<&'static str, tokio::task::JoinError>) -> Error {
    Error(ended.map_or_else(|_| "a task that panicked".to_owned(), str::to_owned))
}

/// Passes the feed's wakes on.
fn sink(context: Weak<Context>) -> feed::WakeSink {
    Arc::new(move |wake| {
        let Some(context) = context.upgrade() else { return };
        match wake {
            Wake::Object(id) => context.wake(&id.namespace, &id.name),
            Wake::Store(store) => context.wake_store(&store.name),
        }
    })
}

async fn watch_stores(
    context: Arc<Context>,
    watch: Watch<ClusterOkmsStore>,
    held: health::ReadyHandle,
) -> &'static str {
    let mut held = Some(held);
    let events = watcher(Api::<ClusterOkmsStore>::all(context.client.clone()), Selection::default());
    watch
        .follow("ClusterOkmsStores", events, |seen| match seen {
            Seen::There { now, .. } => context.wake_store(&now.name_any()),
            Seen::Gone(store) => store::gone(&context, &store.name_any()),
            Seen::Listed => {
                held.take();
                store::sweep(&context);
            }
        })
        .await;
    "the watch of ClusterOkmsStores"
}

async fn watch_secrets(
    context: Arc<Context>,
    scope: Scope,
    watch: Watch<OkmsSecret>,
    held: health::ReadyHandle,
) -> &'static str {
    let mut held = Some(held);
    let events = watcher(scope.api::<OkmsSecret>(context.client.clone()), Selection::default());
    watch
        .follow("OkmsSecrets", events, |seen| match seen {
            Seen::There { now, .. } => context.wake(&now.namespace().unwrap_or_default(), &now.name_any()),
            Seen::Gone(object) => {
                let id = context::object_id(object);
                context.feed.forget(&id);
                context.rows.drop(&id.uid);
            }
            // A watch that was interrupted has missed deletions.
            Seen::Listed => {
                held.take();
                sweep(&context);
            }
        })
        .await;
    "the watch of OkmsSecrets"
}

/// Forgets what belongs to objects that are gone.
fn sweep(context: &Context) {
    let live: HashSet<Arc<str>> = context.all_secrets().filter_map(|object| object.uid()).map(Arc::from).collect();
    context.rows.retain(&live);
    context.feed.retain(&live);
}

async fn watch_targets(
    context: Arc<Context>,
    scope: Scope,
    watch: Watch<TargetMeta>,
    held: health::ReadyHandle,
) -> &'static str {
    let mut held = Some(held);
    let selection = Selection::default().labels(&format!("{}={}", names::MANAGED_LABEL, names::MANAGED_VALUE));
    let api: Api<PartialObjectMeta<Secret>> = scope.api(context.client.clone());
    watch
        .follow("target Secrets", watcher(api, selection), |seen| match seen {
            Seen::There { now, before } => {
                wake_claimants(&context, now);
                // Whoever is not named any more has the most to hear of it.
                if let Some(before) = before {
                    wake_claimants(&context, before);
                }
            }
            Seen::Gone(meta) => wake_claimants(&context, meta),
            Seen::Listed => drop(held.take()),
        })
        .await;
    "the watch of target Secrets"
}

/// Has every `OkmsSecret` looked at that a target names.
fn wake_claimants(context: &Context, meta: &TargetMeta) {
    let namespace = meta.namespace().unwrap_or_default();
    for owner in plan::claimants(&meta.metadata) {
        context.wake(&namespace, &owner);
    }
}

/// Serves the wakes of one kind of object until it is cancelled, and ends once those under way have ended.
async fn serve<K, F>(
    context: Arc<Context>,
    store: Store<K>,
    wakes: UnboundedReceiver<ObjectRef<K>>,
    cancel: CancellationToken,
    what: &'static str,
    reconcile: fn(Arc<K>, Arc<Context>) -> F,
) -> &'static str
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, Infallible>> + Send + 'static,
{
    let pace = Pace::default().concurrency(context.config.concurrency);
    let queue = wakes.map(Ok::<_, Infallible>).take_until(cancel.cancelled_owned());
    let health = context.health.clone();
    kube::runtime::applier(
        move |object, context| reconcile(object, context).boxed(),
        |_, error: &Infallible, _| match *error {},
        context,
        store,
        queue,
        pace,
    )
    // A wake for an object that is not there, such as the heartbeat, was served as well.
    .for_each(|_| {
        health.beat();
        std::future::ready(())
    })
    .await;
    what
}

async fn reconcile_store(store: Arc<ClusterOkmsStore>, context: Arc<Context>) -> Result<Action, Infallible> {
    let span = tracing::info_span!("reconcile", store = store.name_any(), id = reconcile_id());
    let work = AssertUnwindSafe(store::reconcile(store, &context)).catch_unwind().instrument(span);
    Ok(work.await.unwrap_or_else(|_| Action::requeue(context.config.retry_panicked)))
}

async fn reconcile_secret(object: Arc<OkmsSecret>, context: Arc<Context>) -> Result<Action, Infallible> {
    let running = context.metrics.reconcile();
    let span =
        tracing::info_span!("reconcile", namespace = object.namespace(), name = object.name_any(), id = reconcile_id());
    let id = context::object_id(&object);
    let work = AssertUnwindSafe(secret::reconcile(object, &context)).catch_unwind().instrument(span);
    let Ok(ended) = work.await else {
        // Its row is lost with it, and so is the memory of which store it reads from.
        context.feed.forget(&id);
        running.ended(ReconcileOutcome::Panicked);
        return Ok(Action::requeue(context.config.retry_panicked));
    };
    running.ended(ended.outcome);
    Ok(ended.action())
}

/// Ties together the lines that one reconcile logs.
fn reconcile_id() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// Sends a wake through every queue, to prove that it is served. There is no object of that name.
async fn heartbeat(context: Arc<Context>) {
    loop {
        tokio::time::sleep(context.config.heartbeat).await;
        for (namespace, known) in &context.known {
            let _ = known.wakes.unbounded_send(ObjectRef::new("").within(namespace));
        }
    }
}

/// The state of the operator for a scrape.
fn snapshot(context: &Context) -> Snapshot {
    let mut secrets = HashMap::new();
    for object in context.all_secrets() {
        let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        if let Some(ready) = condition::find(conditions, condition::kind::READY)
            && let Some(reason) = Reason::ALL.iter().find(|reason| reason.as_str() == ready.reason)
        {
            let status = match ready.status.as_str() {
                "True" => condition::Status::True,
                "False" => condition::Status::False,
                _ => condition::Status::Unknown,
            };
            *secrets.entry((status, *reason)).or_default() += 1;
        }
    }
    let stores = context.cluster_stores.state().into_iter().filter_map(|object| {
        let name = object.name_any();
        let standing = context.feed.standing(&store::name_of(&name));
        context.serves(&store::name_of(&name)).then(|| StoreSnapshot {
            store: store::name_of(&name),
            ready: standing.as_ref().is_some_and(|standing| standing.health == feed::Health::Ready),
            sources: standing.as_ref().map(|standing| standing.sources.clone()).unwrap_or_default(),
            oldest_check: standing.as_ref().and_then(|standing| standing.oldest_check),
            certificate_expires: context.stores.certificate_expires(&name),
            withdrawals_held: standing.and_then(|standing| standing.held).map_or(0, |(_, count)| count),
        })
    });
    Snapshot { stores: stores.collect(), secrets }
}
