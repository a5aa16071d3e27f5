//! What a failure must not do: take a Secret, or call something synced that is not.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use okms_operator::api::OkmsSecret;
use serde::de::DeserializeOwned;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    policy,
    world::{DEADLINE, World, eventually, ready_of},
};

/// A Secret as it was, to be compared with what is there later.
pub(crate) struct Kept(Secret);

impl Kept {
    pub(crate) async fn of(world: &World, name: &str) -> Self {
        Self(world.secret(name).await.unwrap_or_else(|| panic!("there is no Secret {name} yet")))
    }

    pub(crate) fn uid(&self) -> Option<String> {
        self.0.uid()
    }

    /// The same Secret (not one made again) with the same data.
    #[track_caller]
    pub(crate) fn assert_is(&self, now: Option<&Secret>, what: &str) {
        let now = now.unwrap_or_else(|| panic!("{what}: Secret {} was deleted", self.0.name_any()));
        assert_eq!(now.uid(), self.0.uid(), "{what}: Secret {} was made again", self.0.name_any());
        // Compared, not printed: a failed `assert_eq` would show the values.
        assert!(now.data == self.0.data, "{what}: the data of Secret {} changed", self.0.name_any());
    }

    pub(crate) async fn assert(&self, world: &World, what: &str) {
        self.assert_is(world.secret(&self.0.name_any()).await.as_ref(), what);
    }
}

/// Shows each version of these objects to `see`, from now on and for as long as the handle is kept.
pub(crate) async fn watched<K>(api: Api<K>, see: impl Fn(K) + Send + 'static) -> AbortOnDropHandle<()>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let (begun, begins) = oneshot::channel();
    let watch = tokio::spawn(async move {
        let (mut begun, mut shown) = (Some(begun), HashMap::new());
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    // A watch that starts anew shows again what it has shown.
                    let version = object.resource_version();
                    if shown.insert((object.namespace(), object.name_any()), version.clone()) != Some(version) {
                        see(object);
                    }
                }
                Ok(Event::InitDone) => drop(begun.take().map(|begun| begun.send(()))),
                // A failed watch starts anew by itself.
                Ok(Event::Init | Event::Delete(_)) | Err(_) => {}
            }
        }
    });
    timeout(DEADLINE, begins).await.expect("the watch begins").expect("a watch does not end");
    AbortOnDropHandle::new(watch)
}

/// Every Ready condition that the `OkmsSecret`s of a namespace had, in order.
pub(crate) struct History {
    objects: Api<OkmsSecret>,
    seen: Arc<Mutex<Vec<OkmsSecret>>>,
    _watch: AbortOnDropHandle<()>,
}

impl History {
    pub(crate) async fn of(world: &World) -> Self {
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let written = seen.clone();
        let watch = watched(world.objects(), move |object| written.lock().unwrap().push(object)).await;
        Self { objects: world.objects(), seen, _watch: watch }
    }

    /// Status and reason of an object up to now, each as often as it was written.
    pub(crate) async fn of_object(&self, name: &str) -> Vec<(String, String)> {
        eventually(&format!("the watch has shown {name} as it is"), async || {
            let now = self.objects.get(name).await.map_err(|error| error.to_string())?.resource_version();
            let seen = self.seen.lock().unwrap();
            let own: Vec<_> = seen.iter().filter(|object| object.name_any() == name).collect();
            if own.iter().any(|object| object.resource_version() == now) {
                return Ok(own.into_iter().filter_map(ready_of).map(|(status, reason, _)| (status, reason)).collect());
            }
            Err(format!("{} versions", own.len()))
        })
        .await
    }

    pub(crate) async fn assert_never_ready(&self, name: &str) {
        let seen = self.of_object(name).await;
        assert!(!seen.is_empty(), "nothing was said of {name}");
        assert!(seen.iter().all(|(status, _)| status != "True"), "{name} was Ready=True: {seen:?}");
    }
}

/// Lets the namespace have so many Secrets and no more, and waits until the API server holds it to that.
pub(crate) async fn quota(world: &World, most: u32) {
    let resource = "count/secrets";
    let hard = serde_json::json!({ resource: most.to_string() });
    let quota = serde_json::json!({"metadata": {"name": QUOTA}, "spec": {"hard": hard}});
    let api = quotas(world);
    api.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    // No controller counts here, so the count is written as it would: the API server refuses only by what it reads there.
    let status = serde_json::json!({"status": {"hard": hard, "used": { resource: most.to_string() }}});
    api.patch_status(QUOTA, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let trial: Secret = serde_json::from_value(serde_json::json!({"metadata": {"name": "beyond-the-quota"}})).unwrap();
    eventually("the quota is in force", async || match policy::dry_run(world, &trial).await {
        Err(kube::Error::Api(status)) if status.message.contains("exceeded quota") => Ok(()),
        other => Err(format!("{:?}", other.map(drop))),
    })
    .await;
}

pub(crate) async fn no_quota(world: &World) {
    quotas(world).delete(QUOTA, &DeleteParams::default()).await.unwrap();
}

const QUOTA: &str = "quota";

fn quotas(world: &World) -> Api<ResourceQuota> {
    Api::namespaced(world.client.clone(), &world.name)
}
