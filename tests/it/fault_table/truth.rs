//! Whether what the statuses say is so: each that says Ready is held against the Secret that there is.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::ListParams};
use okms_operator::api::OkmsSecret;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    kept::watched,
    world::{World, eventually, ready_of},
};

/// Watches the objects of a world, whose sources hold in `v` the number of their version, for as long as it is kept.
pub(crate) struct Truth {
    objects: Api<OkmsSecret>,
    /// The versions of objects that were held against their Secrets.
    judged: Arc<Mutex<HashSet<Option<String>>>>,
    lies: Arc<Mutex<Vec<String>>>,
    said: Arc<Mutex<Vec<String>>>,
    /// The versions are withdrawn, so that what was there may go.
    withdrawn: Arc<AtomicBool>,
    _watch: AbortOnDropHandle<()>,
    _judge: AbortOnDropHandle<()>,
}

impl Truth {
    pub(crate) async fn of(world: &World) -> Self {
        let (lies, withdrawn) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (say, mut to_judge) = unbounded_channel();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let written = said.clone();
        let watch = watched(world.objects(), move |object| {
            let status = serde_json::to_string(&object.status).unwrap();
            written.lock().unwrap().push(format!("{}: {status}", object.name_any()));
            drop(say.send(object));
        })
        .await;
        let (found, secrets, may_go) = (lies.clone(), world.secrets(), withdrawn.clone());
        let judged = Arc::<Mutex<HashSet<_>>>::default();
        let done = judged.clone();
        let judge = tokio::spawn(async move {
            while let Some(object) = to_judge.recv().await {
                // While the API server is away nothing can be held against it.
                if let Ok(secret) = secrets.get_opt(&object.target_name()).await
                    && let Some(lie) = lie(&object, secret.as_ref(), may_go.load(Ordering::SeqCst))
                {
                    found.lock().unwrap().push(format!("{}: {lie}", object.name_any()));
                }
                done.lock().unwrap().insert(object.resource_version());
            }
        });
        let (objects, judge) = (world.objects(), AbortOnDropHandle::new(judge));
        Self { objects, lies, said, judged, withdrawn, _watch: watch, _judge: judge }
    }

    pub(crate) fn may_go(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
    }

    /// Everything that was said of an object, in order.
    pub(crate) fn said_of(&self, name: &str) -> Vec<String> {
        let said = self.said.lock().unwrap();
        said.iter().filter(|line| line.starts_with(&format!("{name}: "))).cloned().collect()
    }

    /// Nothing that was said until now is a lie.
    pub(crate) async fn assert(&self, what: &str) {
        eventually("what was said last has been judged", async || {
            let objects = self.objects.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let judged = self.judged.lock().unwrap();
            let mut left = objects.iter().filter(|object| !judged.contains(&object.resource_version()));
            left.next().map_or(Ok(()), |object| Err(object.name_any()))
        })
        .await;
        let lies = self.lies.lock().unwrap();
        assert!(lies.is_empty(), "{what}: {lies:?}");
    }
}

/// What was said before the Secret was read: it may hold something newer, but nothing older.
fn lie(object: &OkmsSecret, secret: Option<&Secret>, may_go: bool) -> Option<String> {
    let (status, reason, _) = ready_of(object)?;
    let version = object.status.as_ref()?.sources.as_ref()?.first()?.version?;
    let held = secret.and_then(|secret| secret.data.as_ref()?.get("v")).map(|value| String::from_utf8_lossy(&value.0));
    match (status.as_str(), held) {
        ("True", None) if may_go => None,
        ("True", None) => Some(format!("Ready at version {version}, and there is no Secret")),
        ("True", Some(held)) if held.parse::<i32>().ok()? < version => {
            Some(format!("Ready at version {version}, and the Secret holds {held}"))
        }
        ("False", Some(_)) if reason == "VersionDeactivated" => Some("withdrawn, and the Secret is there".to_owned()),
        _ => None,
    }
}
