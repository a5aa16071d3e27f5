//! Secrets that change all the time, and whoever writes down each failure that their objects show.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};
use okms_operator::api::OkmsSecret;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    kept::watched,
    world::{World, eventually, ready_of},
};

/// How many secrets change all the time.
pub(crate) const LOAD: usize = 8;

/// How fast they do.
const PACE: Duration = Duration::from_millis(300);

/// Objects whose secrets get new versions all the time.
pub(crate) struct Load {
    done: Arc<AtomicBool>,
    task: JoinHandle<u32>,
}

impl Load {
    pub(crate) async fn start(world: &World) -> Self {
        for n in 0..LOAD {
            world.domain.put(&format!("load/{n}"), json!({"v": "1"}));
            world.apply(&format!("db-{n}"), json!({"path": format!("load/{n}")})).await;
        }
        for n in 0..LOAD {
            world.synced(&format!("db-{n}"), &[("v", "1")]).await;
        }
        let done = Arc::new(AtomicBool::new(false));
        let (domain, over) = (world.domain.clone(), done.clone());
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            let mut version = 1;
            while !over.load(Ordering::Relaxed) {
                pace.tick().await;
                version += 1;
                for n in 0..LOAD {
                    domain.put(&format!("load/{n}"), json!({"v": version.to_string()}));
                }
            }
            version
        });
        Self { done, task }
    }

    /// Ends it; answers the last version that was written.
    pub(crate) async fn stop(self) -> u32 {
        self.done.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Every status of an `OkmsSecret` that does not say Synced, as the watch shows them one by one, and every warning.
pub(crate) struct Failures {
    seen: Arc<Mutex<Vec<String>>>,
    watch: AbortOnDropHandle<()>,
    /// The resourceVersions of the objects that the watch showed, to know how far it is.
    last: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Failures {
    pub(crate) async fn watch(world: &World) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let last = Arc::new(Mutex::new(BTreeMap::new()));
        let (failures, shown) = (seen.clone(), last.clone());
        let watch = watched(world.objects(), move |object| {
            note(&object, &failures);
            let metadata = object.metadata;
            shown.lock().unwrap().insert(metadata.name.unwrap(), metadata.resource_version.unwrap());
        });
        Self { seen, watch: watch.await, last }
    }

    async fn caught_up(&self, world: &World) {
        eventually("the watch shows what there is", async || {
            let objects = world.objects().list(&ListParams::default()).await.unwrap();
            let shown = self.last.lock().unwrap();
            let behind = objects.iter().find(|object| {
                shown.get(object.metadata.name.as_ref().unwrap()) != object.metadata.resource_version.as_ref()
            });
            behind.map_or(Ok(()), |object| Err(object.metadata.name.clone()))
        })
        .await;
    }

    /// Everything that was seen until now.
    pub(crate) async fn seen(self, world: &World) -> Vec<String> {
        self.caught_up(world).await;
        self.watch.abort();
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        let events: Api<Event> = Api::namespaced(world.client.clone(), &world.name);
        for event in events.list(&ListParams::default()).await.unwrap() {
            if event.type_.as_deref() != Some("Normal") {
                seen.push(format!("{:?}: {:?}", event.reason, event.message));
            }
        }
        seen
    }
}

fn note(object: &OkmsSecret, failures: &Mutex<Vec<String>>) {
    match ready_of(object) {
        Some((status, reason, _)) if status == "True" && reason == "Synced" => {}
        other => failures.lock().unwrap().push(format!("{:?}: {other:?}", object.metadata.name)),
    }
}
