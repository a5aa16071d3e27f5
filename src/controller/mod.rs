//! Wires the rooms together: watches wake reconciles, a reconcile gathers, asks the feed, decides, applies and reports.
//!
//! Here is the only place where Kubernetes and OKMS meet. [`run`] starts it; [`secret`] is what happens to one `OkmsSecret`,
//! [`store`] what happens to one store.

mod apply;
pub mod check;
pub mod clock;
mod config;
mod context;
mod gather;
pub mod health;
pub mod metrics;
mod named;
mod refresh;
mod renders;
mod report;
pub mod rights;
mod row;
mod secret;
mod store;
mod watches;

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Debug,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
};

use futures::{
    FutureExt, StreamExt,
    channel::mpsc::{UnboundedReceiver, unbounded},
    future::{BoxFuture, join_all},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        controller::{Action, Config as Pace},
        reflector::{ObjectRef, Store},
    },
};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;

pub use self::config::{Config, NamespacedStores};
use self::{
    context::{Context, Known, NamespaceMeta, Queue, TargetMeta},
    health::Health,
    metrics::{Metrics, ReconcileOutcome, Snapshot, StoreSnapshot},
    named::Named,
    renders::Renders,
    row::Rows,
    store::Stores,
};
pub use crate::okms::EndpointPattern;
use crate::{
    api::{self, ClusterOkmsStore, IsStore, OkmsSecret, OkmsStore, Reason, condition},
    feed::{self, Feed, Wake},
    k8s::{ConfigMaps, Events, Scope, Targets, Term, Watch},
    plan::Fingerprinter,
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
    let (cluster_stores, opened_cluster_stores) = open::<ClusterOkmsStore>();
    let namespaces: Watch<NamespaceMeta> = Watch::default();
    let (known, opened): (HashMap<_, _>, Vec<_>) = scopes(&config).into_iter().map(open_scope).unzip();

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
        renders: Renders::default(),
        this: weak.clone(),
        cluster_stores,
        namespaces: namespaces.store.clone(),
        known,
        config,
        client: client.clone(),
    });
    let weak = Arc::downgrade(&context);
    metrics.on_scrape(move || weak.upgrade().map_or_else(Snapshot::default, |context| snapshot(&context)));

    let mut work = Work::new(&context, &cancel);
    let held = work.hold(&namespaces, "the watch of Namespaces");
    work.watching.spawn(watches::namespaces(context.clone(), namespaces, held));
    work.stores(Api::all(client.clone()), opened_cluster_stores, reconcile_cluster_store);
    for Opened { scope, secrets, targets, stores } in opened {
        let held = work.hold(&secrets.watch, "the watch of OkmsSecrets");
        work.serve("the reconciles of OkmsSecrets", &secrets.watch, secrets.woken, reconcile_secret);
        work.watching.spawn(watches::secrets(context.clone(), scope.clone(), secrets.watch, held));
        let held = work.hold(&targets, "the watch of target Secrets");
        work.watching.spawn(watches::targets(context.clone(), scope.clone(), targets, held));
        work.stores(scope.api(client.clone()), stores, reconcile_okms_store);
    }

    let Work { mut watching, filled, serving, .. } = work;
    tokio::select! {
        _ = join_all(filled) => {}
        () = cancel.cancelled() => return Ok(()),
        Some(ended) = watching.join_next() => return Err(unexpected(ended)),
    }

    let mut drivers: JoinSet<&'static str> = serving.into_iter().collect();
    let heartbeat = tokio::spawn(heartbeat(context.clone()));
    let result = tokio::select! {
        // First: once cancelled, the reconciles end too, which may be noticed at the same moment and is then no failure.
        biased;
        () = cancel.cancelled() => Ok(()),
        Some(ended) = watching.join_next() => Err(unexpected(ended)),
        Some(ended) = drivers.join_next() => Err(unexpected(ended)),
        () = context.feed.broken() => Err(Error("the driver of a store".to_owned())),
    };
    heartbeat.abort();
    cancel.cancel();
    // What is under way ends with its write; the watches have nothing to finish.
    while drivers.join_next().await.is_some() {}
    context.events.drained().await;
    watching.shutdown().await;
    context.feed.drained().await;
    result
}

fn scopes(config: &Config) -> Vec<Scope> {
    match config.watch_namespaces.as_slice() {
        [] => vec![Scope::Cluster],
        some => some.iter().map(|namespace| Scope::Namespace(namespace.as_str().into())).collect(),
    }
}

/// What is opened for one kind of object that is reconciled, beside its [`Queue`]: what fills it, and the wakes that are to be served.
struct OpenedQueue<K: Resource<DynamicType = ()> + Clone + 'static> {
    watch: Watch<K>,
    woken: UnboundedReceiver<ObjectRef<K>>,
}

/// What is opened for one namespace, or for all.
struct Opened {
    scope: Scope,
    secrets: OpenedQueue<OkmsSecret>,
    targets: Watch<TargetMeta>,
    stores: OpenedQueue<OkmsStore>,
}

fn open<K>() -> (Queue<K>, OpenedQueue<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let watch: Watch<K> = Watch::default();
    let (wakes, woken) = unbounded();
    (Queue { objects: watch.store.clone(), wakes }, OpenedQueue { watch, woken })
}

fn open_scope(scope: Scope) -> ((String, Known), Opened) {
    let name = match &scope {
        Scope::Cluster => String::new(),
        Scope::Namespace(namespace) => namespace.to_string(),
    };
    let (secrets, opened_secrets) = open();
    let targets: Watch<TargetMeta> = Watch::default();
    let (stores, opened_stores) = open();
    let known = Known { secrets, targets: targets.store.clone(), stores };
    ((name, known), Opened { scope, secrets: opened_secrets, targets, stores: opened_stores })
}

/// What the operator consists of while it runs.
struct Work<'a> {
    context: &'a Arc<Context>,
    cancel: &'a CancellationToken,
    /// Each watch is a task that never ends.
    watching: JoinSet<&'static str>,
    /// Nothing is decided before everything is known: a half-filled store looks like deletions.
    filled: Vec<BoxFuture<'static, ()>>,
    /// The reconciles end when they are cancelled and drained.
    serving: Vec<BoxFuture<'static, &'static str>>,
}

impl<'a> Work<'a> {
    fn new(context: &'a Arc<Context>, cancel: &'a CancellationToken) -> Self {
        Self { context, cancel, watching: JoinSet::new(), filled: Vec::new(), serving: Vec::new() }
    }

    /// Holds everything back until the watch has seen what there is.
    fn hold<K>(&mut self, watch: &Watch<K>, what: &'static str) -> health::ReadyHandle
    where
        K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    {
        let store = watch.store.clone();
        self.filled.push(async move { drop(store.wait_until_ready().await) }.boxed());
        self.context.health.hold_ready(what)
    }

    fn serve<K, F>(
        &mut self,
        what: &'static str,
        watch: &Watch<K>,
        woken: UnboundedReceiver<ObjectRef<K>>,
        reconcile: fn(Arc<K>, Arc<Context>) -> F,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
        F: Future<Output = Result<Action, Infallible>> + Send + 'static,
    {
        let (context, cancel) = (self.context.clone(), self.cancel.clone());
        self.serving.push(serve(context, watch.store.clone(), woken, cancel, what, reconcile).boxed());
    }

    /// Watches and serves one kind of store.
    fn stores<K, F>(&mut self, api: Api<K>, opened: OpenedQueue<K>, reconcile: fn(Arc<K>, Arc<Context>) -> F)
    where
        K: IsStore + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        F: Future<Output = Result<Action, Infallible>> + Send + 'static,
    {
        let held = self.hold(&opened.watch, "the watch of stores");
        self.serve("the reconciles of stores", &opened.watch, opened.woken, reconcile);
        self.watching.spawn(watches::stores(self.context.clone(), api, opened.watch, held));
    }
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
            Wake::Store(store) => context.wake_store(&store),
        }
    })
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
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
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

async fn reconcile_cluster_store(store: Arc<ClusterOkmsStore>, context: Arc<Context>) -> Result<Action, Infallible> {
    reconcile_store(api::Store::Cluster(store), context).await
}

async fn reconcile_okms_store(store: Arc<OkmsStore>, context: Arc<Context>) -> Result<Action, Infallible> {
    reconcile_store(api::Store::Namespaced(store), context).await
}

async fn reconcile_store(store: api::Store, context: Arc<Context>) -> Result<Action, Infallible> {
    let span = tracing::info_span!("reconcile", store = store.name().full(), id = reconcile_id());
    let work = AssertUnwindSafe(store::reconcile(store, &context)).catch_unwind().instrument(span);
    Ok(work.await.unwrap_or_else(|_| Action::requeue(context.config.retry_panicked)))
}

async fn reconcile_secret(object: Arc<OkmsSecret>, context: Arc<Context>) -> Result<Action, Infallible> {
    let running = context.metrics.reconcile();
    let span =
        tracing::info_span!("reconcile", namespace = object.namespace(), name = object.name_any(), id = reconcile_id());
    let id = context::object_id(&object);
    // A task of its own: all reconciles are polled by one, in which a long one would keep the others waiting.
    let work = {
        let context = context.clone();
        async move { secret::reconcile(object, &context).await }
    };
    let work = AbortOnDropHandle::new(tokio::spawn(work.instrument(span)));
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
            known.secrets.wake(ObjectRef::new("").within(namespace));
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
    let stores = context.all_stores().map(|store| store.name()).filter(|name| context.serves(name)).map(|name| {
        let standing = context.feed.standing(&name);
        StoreSnapshot {
            ready: standing.as_ref().is_some_and(|standing| standing.health == feed::Health::Ready),
            sources: standing.as_ref().map(|standing| standing.sources.clone()).unwrap_or_default(),
            oldest_check: standing.as_ref().and_then(|standing| standing.oldest_check),
            certificate_expires: context.stores.certificate_expires(&name),
            withdrawals_held: standing.and_then(|standing| standing.held).map_or(0, |(_, count)| count),
            store: name,
        }
    });
    Snapshot { stores: stores.collect(), secrets }
}
