//! What the bench sees of the cluster: when every object is synced, and when each version arrived in its Secret.
//!
//! By watches, as any client could: nothing is asked of the operator itself.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
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
        watcher::{self, watcher},
    },
};
use okms_operator::api::{OkmsSecret, condition, names};
use serde_json::Value;
use tokio::{task::JoinHandle, time::timeout};

use crate::stage::eventually;

/// How long all objects may take. Thousands take seconds; what takes longer than this is stuck.
const PATIENCE: Duration = Duration::from_mins(10);

/// A watch over the `OkmsSecret`s of a namespace.
pub(super) struct Synced(Api<OkmsSecret>);

/// When the first object was seen as it should be, and when the last.
pub(super) struct Moments {
    pub(super) first: Instant,
    pub(super) last: Instant,
}

impl Synced {
    pub(super) fn watch(client: &Client, namespace: &str) -> Self {
        Self(Api::namespaced(client.clone(), namespace))
    }

    /// Waits until so many objects are synced at their present generation.
    pub(super) async fn all(self, objects: usize) -> Result<Moments> {
        self.until(objects, is_synced).await
    }

    async fn until(self, objects: usize, holds: impl Fn(&OkmsSecret) -> bool) -> Result<Moments> {
        let mut changes = pin!(watcher(self.0, watcher::Config::default()).default_backoff().applied_objects());
        let (mut first, mut there) = (None, HashSet::new());
        let all = async {
            while there.len() < objects {
                match changes.next().await.context("the watch of OkmsSecrets ended")? {
                    Ok(object) if holds(&object) => {
                        first.get_or_insert_with(Instant::now);
                        there.insert(object.name_any());
                    }
                    Ok(object) => drop(there.remove(&object.name_any())),
                    // The watch comes back by itself.
                    Err(error) => eprintln!("the watch of OkmsSecrets: {error}"),
                }
            }
            let last = Instant::now();
            Ok(Moments { first: first.unwrap_or(last), last })
        };
        let outcome = timeout(PATIENCE, all).await;
        outcome.with_context(|| {
            format!("of {objects} objects, {} are as they should be after {PATIENCE:?}", there.len())
        })?
    }
}

/// Waits until so many objects of a namespace are not ready for this reason, and returns when that was.
pub(super) async fn with_reason(client: &Client, namespace: &str, reason: &str, objects: usize) -> Result<Instant> {
    let holds = |object: &OkmsSecret| {
        let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        condition::find(conditions, "Ready").is_some_and(|ready| ready.reason == reason)
    };
    Ok(Synced::watch(client, namespace).until(objects, holds).await?.last)
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
                    let mut seen = record.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.entry((secret, version)).or_insert(now);
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
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
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
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let took = written.iter().filter_map(|(change, begun)| Some(seen.get(change)?.duration_since(*begun)));
        Ok(took.collect())
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
