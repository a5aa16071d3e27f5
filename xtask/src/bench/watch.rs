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
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use okms_operator::api::{OkmsSecret, condition, names};
use serde_json::Value;
use tokio::{task::JoinHandle, time::timeout};

use super::INTERVAL;
use crate::stage::eventually;

/// How long all objects may take. Thousands take seconds; what takes longer than this is stuck.
const ALL_SYNCED: Duration = Duration::from_mins(10);

/// Waits until so many objects of a namespace are synced, and returns when that was.
pub(super) async fn all_synced(client: &Client, namespace: &str, objects: usize) -> Result<Instant> {
    let api = Api::<OkmsSecret>::namespaced(client.clone(), namespace);
    let mut changes = pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
    let mut synced = HashSet::new();
    let all = async {
        while synced.len() < objects {
            match changes.next().await.context("the watch of OkmsSecrets ended")? {
                Ok(object) if is_synced(&object) => drop(synced.insert(object.name_any())),
                Ok(object) => drop(synced.remove(&object.name_any())),
                // The watch comes back by itself.
                Err(error) => eprintln!("the watch of OkmsSecrets: {error}"),
            }
        }
        Ok(Instant::now())
    };
    let outcome = timeout(ALL_SYNCED, all).await;
    outcome.with_context(|| format!("of {objects} objects, {} are synced after {ALL_SYNCED:?}", synced.len()))?
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
    pub(super) async fn of(&self, written: &HashMap<(String, u64), Instant>) -> Result<Vec<Duration>> {
        let missing = || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            written.keys().filter(|change| !seen.contains_key(change)).count()
        };
        let waited = eventually("every new version to arrive", INTERVAL * 12, async || {
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

/// The version that a Secret was made from.
fn version(secret: &PartialObjectMeta<Secret>) -> Option<u64> {
    let source: Value = serde_json::from_str(secret.annotations().get(names::SOURCE_ANNOTATION)?).ok()?;
    source.pointer("/0/version")?.as_u64()
}
