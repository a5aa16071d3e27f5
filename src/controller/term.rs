//! One term of this process: everything that is decided, read from OKMS and written happens in one, and ends with it.
//!
//! It begins as after a restart, knowing only what the watches know. At a clean stop what is under way ends with its write; when the lease
//! is lost everything is dropped where it stands, since every write would be refused anyway.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Debug,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use kube::{
    Resource, ResourceExt,
    runtime::{
        controller::{Action, Config as Pace},
        reflector::ObjectRef,
    },
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;

use super::{
    Base,
    context::{self, Context, Known, Queue, Woken},
    metrics::ReconcileOutcome,
    named::Named,
    renders::Renders,
    row::Rows,
    secret,
    store::{self, Stores},
};
use crate::{
    api::{self, ClusterOkmsStore, OkmsSecret, OkmsStore},
    feed::{self, Feed, Wake},
    k8s::{ConfigMaps, Events, Targets, Term},
    plan::Fingerprinter,
};

/// Why a term ended.
pub(super) enum End {
    /// The operator is to stop.
    Stopped,
    /// Another process may lead now.
    Lost,
    /// Something ended that never does.
    Broken(String),
}

/// Serves until the term ends, or until `cancel`; answers once everything that was under way has ended, or was dropped with the lease.
pub(super) async fn serve(base: &Base, term: Term, cancel: &CancellationToken) -> End {
    let reading = cancel.child_token();
    let (context, woken) = begin(base, term.clone(), reading.clone());
    let drain = CancellationToken::new();
    let mut serving = woken.serve(&context, &drain);
    // First, so that whatever changes from now on is told, and then all that there is.
    base.incumbent.set(Arc::downgrade(&context));
    context.wake_all();
    let heartbeat = AbortOnDropHandle::new(tokio::spawn(heartbeat(context.clone())));
    let end = tokio::select! {
        biased;
        () = cancel.cancelled() => End::Stopped,
        () = term.ended() => End::Lost,
        Some(ended) = serving.join_next() => End::Broken(super::name_of(ended)),
        () = context.feed.broken() => End::Broken("the driver of a store".to_owned()),
    };
    drop(heartbeat);
    reading.cancel();
    if let End::Broken(_) = end {
        // So the drain has an end, as that of a stop has.
        cancel.cancel();
    }
    if matches!(end, End::Lost) {
        serving.shutdown().await;
    } else {
        // What is under way ends with its write.
        drain.cancel();
        while serving.join_next().await.is_some() {}
        // Whoever leads next is worth more than the last words of this one.
        let _ = timeout(LAST_WORDS, context.events.drained()).await;
    }
    context.feed.drained().await;
    // Last, so that a drain can be watched.
    base.incumbent.set(Weak::new());
    end
}

/// For events that still wait when a term has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The wakes of a term, by kind and namespace.
struct AllWoken {
    cluster_stores: Woken<ClusterOkmsStore>,
    scopes: Vec<(Woken<OkmsSecret>, Woken<OkmsStore>)>,
}

/// Everything of the term, new.
fn begin(base: &Base, term: Term, reading: CancellationToken) -> (Arc<Context>, AllWoken) {
    let (cluster_stores, woken_cluster_stores) = Queue::of(&base.sight.cluster_stores);
    let scopes = base.sight.scopes.iter().map(|(name, sight)| {
        let (secrets, woken_secrets) = Queue::of(&sight.secrets);
        let (stores, woken_stores) = Queue::of(&sight.stores);
        let known = Known { secrets, targets: sight.targets.clone(), claims: sight.claims.clone(), stores };
        ((name.clone(), known), (woken_secrets, woken_stores))
    });
    let (known, scopes): (HashMap<_, _>, Vec<_>) = scopes.unzip();
    let client = &base.client;
    let context = Arc::new_cyclic(|weak: &Weak<Context>| Context {
        term,
        feed: Feed::new(base.config.timing.clone(), sink(weak.clone()), reading),
        rows: Rows::default(),
        targets: Targets::new(client.clone()),
        config_maps: ConfigMaps::new(client.clone()),
        events: Events::new(client.clone()),
        fingerprinter: Fingerprinter::new(),
        metrics: base.metrics.clone(),
        health: base.health.clone(),
        stores: Stores::default(),
        named: Named::default(),
        renders: Renders::default(),
        this: weak.clone(),
        cluster_stores,
        namespaces: base.sight.namespaces.clone(),
        known,
        config: base.config.clone(),
        client: client.clone(),
    });
    (context, AllWoken { cluster_stores: woken_cluster_stores, scopes })
}

impl AllWoken {
    /// The reconciles: each kind is a task that ends when it is told to drain, and has.
    fn serve(self, context: &Arc<Context>, drain: &CancellationToken) -> JoinSet<&'static str> {
        let mut serving = JoinSet::new();
        let of_stores = "the reconciles of stores";
        serving.spawn(reconciles(context, self.cluster_stores, drain, of_stores, reconcile_cluster_store));
        for (secrets, stores) in self.scopes {
            serving.spawn(reconciles(context, secrets, drain, "the reconciles of OkmsSecrets", reconcile_secret));
            serving.spawn(reconciles(context, stores, drain, of_stores, reconcile_okms_store));
        }
        serving
    }
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

/// Serves the wakes of one kind of object until it is told to drain, and ends once those under way have ended.
fn reconciles<K, F>(
    context: &Arc<Context>,
    woken: Woken<K>,
    drain: &CancellationToken,
    what: &'static str,
    reconcile: fn(Arc<K>, Arc<Context>) -> F,
) -> impl Future<Output = &'static str> + Send + use<K, F>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, Infallible>> + Send + 'static,
{
    let pace = Pace::default().concurrency(context.config.concurrency);
    let queue = woken.wakes.map(Ok::<_, Infallible>).take_until(drain.clone().cancelled_owned());
    let health = context.health.clone();
    kube::runtime::applier(
        move |object, context| reconcile(object, context).boxed(),
        |_, error: &Infallible, _| match *error {},
        context.clone(),
        woken.objects,
        queue,
        pace,
    )
    // A wake for an object that is not there, such as the heartbeat, was served as well.
    .for_each(move |_| {
        health.beat();
        std::future::ready(())
    })
    .map(move |()| what)
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
