//! What tools that wait for an object make of its status: kstatus, by its own Go library (`tests/kstatus`), and `kubectl wait`.
//!
//! Everything is driven by the real operator, and kstatus is asked about objects as the API server showed them. [`reasons`] asks about
//! every reason there is, [`moments`] about the life of an object from its creation to its end. Here is how kstatus is asked.

mod moments;
mod reasons;

use std::{
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, TypeMeta},
};
use okms_operator::{
    api::{ClusterOkmsStore, OkmsSecret},
    controller::Config,
};
use serde::Deserialize;
use serde_json::Value;
use test_cluster::binaries;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cluster,
    kept::watched,
    world::{World, eventually},
};

/// What kstatus says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Verdict {
    /// It is what it shall be: whoever waits for it goes on.
    Current,
    /// It is not yet, and may become so by itself: whoever waits for it waits on.
    InProgress,
    /// It will not become so by itself: whoever waits for it gives up.
    Failed,
    /// It is being deleted.
    Terminating,
}

/// Asks kstatus about objects; one verdict each, in their order.
fn judge(objects: &[Value]) -> Vec<Verdict> {
    #[derive(Deserialize)]
    struct Line {
        status: Verdict,
    }
    let input = objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let program = || cluster::run(Command::new(binaries::kstatus_binary().unwrap()), &input).succeeded();
    let output = tokio::task::block_in_place(program);
    let verdicts: Vec<_> = output.lines().map(|line| serde_json::from_str::<Line>(line).unwrap().status).collect();
    assert_eq!(verdicts.len(), objects.len(), "{output}");
    verdicts
}

/// The reason of the Ready condition, once that is about the present generation.
fn reason(object: &Value) -> Option<&str> {
    let (status, metadata) = (object.get("status")?, object.get("metadata")?);
    if status.get("observedGeneration")? != metadata.get("generation")? {
        return None;
    }
    let conditions = status.get("conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Ready")?.get("reason")?.as_str()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Each version of the objects of one kind that the API server showed, as it showed them.
struct Record {
    seen: Arc<Mutex<Vec<Value>>>,
    _watch: AbortOnDropHandle<()>,
}

impl Record {
    async fn of_secrets(world: &World) -> Self {
        Self::of::<OkmsSecret>(raw_objects(world), String::new()).await
    }

    async fn of_stores(world: &World) -> Self {
        Self::of::<ClusterOkmsStore>(raw_stores(world), world.name.clone()).await
    }

    async fn of<K: Resource<DynamicType = ()>>(api: Api<DynamicObject>, prefix: String) -> Self {
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let written = seen.clone();
        let watch = watched(api, move |mut object: DynamicObject| {
            if object.name_any().starts_with(&prefix) {
                // A list leaves out what all of its items are.
                object.types = Some(TypeMeta::resource::<K>());
                written.lock().unwrap().push(serde_json::to_value(object).unwrap());
            }
        })
        .await;
        Self { seen, _watch: watch }
    }

    fn all(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until an object was seen for this reason; answers it as it was then, the last time.
    async fn shows(&self, object: &str, why: &str) -> Value {
        eventually(&format!("{object} is {why}"), async || {
            let own: Vec<Value> = self.all().into_iter().filter(|seen| name(seen) == object).collect();
            let reasons: Vec<_> = own.iter().map(|seen| reason(seen).map(ToOwned::to_owned)).collect();
            own.into_iter().rfind(|seen| reason(seen) == Some(why)).ok_or(reasons)
        })
        .await
    }

    /// Counts only what is seen from now on.
    fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

fn raw_objects(world: &World) -> Api<DynamicObject> {
    Api::namespaced_with(world.client.clone(), &world.name, &ApiResource::erase::<OkmsSecret>(&()))
}

fn raw_stores(world: &World) -> Api<DynamicObject> {
    Api::all_with(world.client.clone(), &ApiResource::erase::<ClusterOkmsStore>(&()))
}

async fn raw(api: &Api<DynamicObject>, name: &str) -> Value {
    serde_json::to_value(api.get(name).await.unwrap()).unwrap()
}

/// An operator that says early what takes long.
fn impatient(world: &World, stores: &[String]) -> Config {
    let cluster_stores = [stores, std::slice::from_ref(&world.name)].concat();
    let mut config = Config { cluster_stores, progress_after: Duration::from_millis(100), ..world.config() };
    // Long enough for a status to be written before a not-found is confirmed.
    config.timing.confirm_after = Duration::from_secs(15);
    config
}

/// Longer than an impatient operator waits in silence, shorter than a request may take.
const SLOW: Duration = Duration::from_secs(3);
