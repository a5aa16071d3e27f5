//! One term of this process: everything that is decided, read from OKMS and written happens in one, and ends with it.
//!
//! It begins as after a restart, knowing only what the watches know. At a clean stop what is under way ends with its write, if the API
//! server answers that; when the lease is lost everything is dropped where it stands, since every write would be refused anyway.

use std::{
    fmt::Debug,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;

use super::{
    Base,
    context::{self, Context, Known, Queue},
    metrics::ReconcileOutcome,
    named::Named,
    renders::Renders,
    row::Rows,
    secret,
    store::{self, Stores},
    turns::Return,
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

/// How a term ended.
pub(super) struct Ended {
    pub why: End,
    /// No reconcile is under way whose write may yet arrive.
    pub is_answered: bool,
}

/// Serves until the term ends, or until `cancel`; answers once everything that was under way has ended, or was given up.
pub(super) async fn serve(base: &Base, term: Term, cancel: &CancellationToken) -> Ended {
    let reading = cancel.child_token();
    let context = begin(base, term.clone(), reading.clone());
    let drain = CancellationToken::new();
    let mut serving = reconciling(&context, &drain);
    // First, so that whatever changes from now on is told, and then all that there is.
    base.incumbent.set(Arc::downgrade(&context));
    context.wake_all();
    let heartbeat = AbortOnDropHandle::new(tokio::spawn(heartbeat(context.clone())));
    let why = tokio::select! {
        biased;
        () = cancel.cancelled() => End::Stopped,
        () = term.ended() => End::Lost,
        Some(ended) = serving.join_next() => End::Broken(super::name_of(ended)),
        () = context.feed.broken() => End::Broken("the driver of a store".to_owned()),
    };
    drop(heartbeat);
    reading.cancel();
    if let End::Broken(_) = why {
        // So the drain has an end, as that of a stop has.
        cancel.cancel();
    }
    let is_answered = !matches!(why, End::Lost) && {
        // What is under way ends with its write.
        drain.cancel();
        let all = async { while serving.join_next().await.is_some() {} };
        timeout(LAST_WRITES, all).await.is_ok()
    };
    if is_answered {
        // Whoever leads next is worth more than the last words of this one.
        let _ = timeout(LAST_WORDS, context.events.drained()).await;
    } else {
        serving.shutdown().await;
    }
    context.feed.drained().await;
    // Last, so that a drain can be watched.
    base.incumbent.set(Weak::new());
    Ended { why, is_answered }
}

/// For writes that are under way when the operator is to stop. While an API server does not answer, nobody works.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// For events that still wait when a term has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Everything of the term, new.
fn begin(base: &Base, term: Term, reading: CancellationToken) -> Arc<Context> {
    let known = base.sight.scopes.iter().map(|(name, sight)| {
        let secrets = Queue::of(&sight.secrets, OkmsSecret::is_new);
        let stores = Queue::of(&sight.stores, |_| false);
        (name.clone(), Known { secrets, targets: sight.targets.clone(), claims: sight.claims.clone(), stores })
    });
    let client = &base.client;
    Arc::new_cyclic(|weak: &Weak<Context>| Context {
        term,
        stopping: reading.clone(),
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
        cluster_stores: Queue::of(&base.sight.cluster_stores, |_| false),
        namespaces: base.sight.namespaces.clone(),
        known: known.collect(),
        config: base.config.clone(),
        client: client.clone(),
    })
}

/// The reconciles: each kind is a task that ends when it is told to drain, and has.
fn reconciling(context: &Arc<Context>, drain: &CancellationToken) -> JoinSet<&'static str> {
    let mut serving = JoinSet::new();
    let of_stores = "the reconciles of stores";
    serving.spawn(reconciles(context, &context.cluster_stores, drain, of_stores, reconcile_cluster_store));
    for Known { secrets, stores, .. } in context.known.values() {
        serving.spawn(reconciles(context, secrets, drain, "the reconciles of OkmsSecrets", reconcile_secret));
        serving.spawn(reconciles(context, stores, drain, of_stores, reconcile_okms_store));
    }
    serving
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
    queue: &Queue<K>,
    drain: &CancellationToken,
    what: &'static str,
    reconcile: fn(Arc<K>, Arc<Context>) -> F,
) -> impl Future<Output = &'static str> + Send + use<K, F>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Option<Return>> + Send + 'static,
{
    let (context, queue) = (context.clone(), queue.clone());
    let places = usize::from(context.config.concurrency);
    let turns = queue.turns.clone().take_until(drain.clone().cancelled_owned());
    turns
        .for_each_concurrent(places, move |key| {
            let (context, queue) = (context.clone(), queue.clone());
            async move {
                let object = key.to_ref();
                // Where there is none, such as for the heartbeat, the wake was served as well.
                let back = match queue.objects.get(&object) {
                    Some(object) => reconcile(object, context.clone()).await,
                    None => None,
                };
                queue.done(&object, back);
                context.health.beat();
            }
        })
        .map(move |()| what)
}

async fn reconcile_cluster_store(store: Arc<ClusterOkmsStore>, context: Arc<Context>) -> Option<Return> {
    reconcile_store(api::Store::Cluster(store), context).await
}

async fn reconcile_okms_store(store: Arc<OkmsStore>, context: Arc<Context>) -> Option<Return> {
    reconcile_store(api::Store::Namespaced(store), context).await
}

async fn reconcile_store(store: api::Store, context: Arc<Context>) -> Option<Return> {
    let span = tracing::info_span!("reconcile", store = store.name().full(), id = reconcile_id());
    let work = AssertUnwindSafe(store::reconcile(store, &context)).catch_unwind().instrument(span);
    work.await.unwrap_or(Some(context.config.retry_panicked)).map(Return::from)
}

async fn reconcile_secret(object: Arc<OkmsSecret>, context: Arc<Context>) -> Option<Return> {
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
        return Some(context.config.retry_panicked.into());
    };
    running.ended(ended.outcome);
    ended.again
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
            known.secrets.wake(&ObjectRef::new("").within(namespace));
        }
    }
}
