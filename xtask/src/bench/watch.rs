//! What the bench sees of the cluster: when every object is synced, and when each version arrived in its Secret.
//!
//! By watches, as any client could: nothing is asked of the operator itself.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use okms_operator::api::{OkmsSecret, condition, names};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use crate::stage::eventually;

/// How long all objects may take. Thousands take seconds; what takes longer than this is stuck.
const PATIENCE: Duration = Duration::from_mins(10);

/// A watch over the `OkmsSecret`s of a namespace: which of them are as they should be, and since when.
pub(super) struct Synced {
    since: Arc<Mutex<HashMap<String, Instant>>>,
    watch: JoinHandle<()>,
}

/// When the first object was seen as it should be, and when the last.
pub(super) struct Moments {
    pub(super) first: Instant,
    pub(super) last: Instant,
}

impl Drop for Synced {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Synced {
    /// Has seen what is there when it returns, so that listing it is no part of what is measured.
    pub(super) async fn watch(client: &Client, namespace: &str) -> Result<Self> {
        Self::watch_for(client, namespace, is_synced).await
    }

    async fn watch_for(
        client: &Client,
        namespace: &str,
        holds: impl Fn(&OkmsSecret) -> bool + Send + 'static,
    ) -> Result<Self> {
        let api = Api::<OkmsSecret>::namespaced(client.clone(), namespace);
        let since = Arc::new(Mutex::new(HashMap::new()));
        let record = Arc::clone(&since);
        let (listed, list) = oneshot::channel();
        let watch = tokio::spawn(async move {
            let mut listed = Some(listed);
            let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
            while let Some(event) = events.next().await {
                let mut since = lock(&record);
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) if holds(&object) => {
                        since.entry(object.name_any()).or_insert_with(Instant::now);
                    }
                    Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
                        since.remove(&object.name_any());
                    }
                    Ok(Event::Init) => {}
                    Ok(Event::InitDone) => {
                        if let Some(listed) = listed.take() {
                            // Nobody waits any more when it took too long.
                            let _ = listed.send(());
                        }
                    }
                    // The watch comes back by itself.
                    Err(error) => eprintln!("the watch of OkmsSecrets: {error}"),
                }
            }
        });
        let synced = Self { since, watch };
        timeout(PATIENCE, list).await.context("listing OkmsSecrets")?.context("the watch of OkmsSecrets ended")?;
        Ok(synced)
    }

    /// Waits until so many objects are synced at their present generation.
    pub(super) async fn all(&self, objects: usize) -> Result<Moments> {
        self.until(|since| since.len() >= objects).await.with_context(|| format!("of {objects} objects"))?;
        Ok(moments(lock(&self.since).values()))
    }

    /// Waits until all of these are, and says since when each is.
    pub(super) async fn each(&self, names: &[String]) -> Result<Vec<Instant>> {
        self.until(|since| names.iter().all(|name| since.contains_key(name))).await?;
        let since = lock(&self.since);
        Ok(names.iter().filter_map(|name| since.get(name).copied()).collect())
    }

    /// Whether all of these are.
    pub(super) fn are(&self, names: &[String]) -> bool {
        let since = lock(&self.since);
        names.iter().all(|name| since.contains_key(name))
    }

    async fn until(&self, reached: impl Fn(&HashMap<String, Instant>) -> bool) -> Result<()> {
        let waited = eventually("objects to be as they should", PATIENCE, async || {
            if self.watch.is_finished() {
                bail!("the watch of OkmsSecrets ended");
            }
            Ok(reached(&lock(&self.since)).then_some(()))
        });
        waited.await.with_context(|| format!("{} are as they should be", lock(&self.since).len()))
    }
}

fn moments<'a>(since: impl Iterator<Item = &'a Instant> + Clone) -> Moments {
    let now = Instant::now();
    Moments { first: since.clone().min().copied().unwrap_or(now), last: since.max().copied().unwrap_or(now) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until so many objects of a namespace are not ready for this reason, and returns when that was.
pub(super) async fn with_reason(
    client: &Client,
    namespace: &str,
    reason: &'static str,
    objects: usize,
) -> Result<Instant> {
    let holds = move |object: &OkmsSecret| {
        let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        condition::find(conditions, "Ready").is_some_and(|ready| ready.reason == reason)
    };
    Ok(Synced::watch_for(client, namespace, holds).await?.all(objects).await?.last)
}

fn is_synced(object: &OkmsSecret) -> bool {
    let Some(status) = &object.status else { return false };
    Some(status.observed_generation) == object.metadata.generation
        && condition::find(&status.conditions, "Ready").is_some_and(|ready| ready.status == "True")
}

/// When which version was first seen in which Secret.
type Seen = HashMap<(String, u64), Instant>;

/// A watch over the Secrets of a namespace. Metadata is enough: the operator writes the version together with the data.
pub(super) struct Arrivals {
    seen: Arc<Mutex<Seen>>,
    watch: JoinHandle<()>,
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Arrivals {
    pub(super) fn watch(client: &Client, namespace: &str) -> Self {
        let api = Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace);
        let seen = Arc::new(Mutex::new(Seen::new()));
        let record = Arc::clone(&seen);
        let watch = tokio::spawn(async move {
            let changes = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
            let mut changes = pin!(changes);
            while let Some(change) = changes.next().await {
                let now = Instant::now();
                if let Some((secret, version)) =
                    change.ok().and_then(|secret| Some((secret.name_any(), version(&secret)?)))
                {
                    lock(&record).entry((secret, version)).or_insert(now);
                }
            }
        });
        Self { seen, watch }
    }

    /// Waits until all of these have arrived, and says how long each took.
    pub(super) async fn of(
        &self,
        written: &HashMap<(String, u64), Instant>,
        within: Duration,
    ) -> Result<Vec<Duration>> {
        let missing = || {
            let seen = lock(&self.seen);
            written.keys().filter(|change| !seen.contains_key(change)).count()
        };
        let waited = eventually("every new version to arrive", within, async || {
            if self.watch.is_finished() {
                bail!("the watch of Secrets ended");
            }
            Ok((missing() == 0).then_some(()))
        })
        .await;
        waited.with_context(|| format!("{} of {} did not", missing(), written.len()))?;
        let seen = lock(&self.seen);
        let took = written.iter().filter_map(|(change, begun)| Some(seen.get(change)?.duration_since(*begun)));
        Ok(took.collect())
    }

    /// How many of these were seen before this moment.
    pub(super) fn before(&self, moment: Instant, written: &HashMap<(String, u64), Instant>) -> usize {
        let seen = lock(&self.seen);
        written.keys().filter(|change| seen.get(change).is_some_and(|at| *at < moment)).count()
    }
}

/// The Secrets of a namespace by their uids, to see which are made again.
pub(super) struct MadeAgain {
    api: Api<PartialObjectMeta<Secret>>,
    before: HashSet<String>,
}

impl MadeAgain {
    pub(super) async fn watch(client: &Client, namespace: &str) -> Result<Self> {
        let api = Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace);
        let before = api.list_metadata(&ListParams::default()).await.context("listing Secrets")?;
        let before = before.into_iter().filter_map(|secret| secret.metadata.uid).collect();
        Ok(Self { api, before })
    }

    /// Waits until there is another Secret of each of these names, and returns when that was.
    pub(super) async fn all(self, names: impl Iterator<Item = String>, within: Duration) -> Result<Instant> {
        let mut missing: HashSet<String> = names.collect();
        let mut changes = pin!(watcher(self.api, watcher::Config::default()).default_backoff().applied_objects());
        let all = async {
            while !missing.is_empty() {
                let Ok(secret) = changes.next().await.context("the watch of Secrets ended")? else { continue };
                if secret.metadata.uid.as_ref().is_some_and(|uid| !self.before.contains(uid)) {
                    missing.remove(&secret.name_any());
                }
            }
            Ok(Instant::now())
        };
        let outcome = timeout(within, all).await;
        outcome.with_context(|| format!("{} Secrets were not made again within {within:?}", missing.len()))?
    }
}

/// The version that a Secret was made from.
fn version(secret: &PartialObjectMeta<Secret>) -> Option<u64> {
    let source: Value = serde_json::from_str(secret.annotations().get(names::SOURCE_ANNOTATION)?).ok()?;
    source.pointer("/0/version")?.as_u64()
}
