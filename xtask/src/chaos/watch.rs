//! Watches of everything that is judged, as the administrator and directly at the API server: whatever stands in the operator's way does
//! not stand in theirs. They record every change; where one could be missed, the run fails.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, WatchParams},
    core::{ApiResource, DynamicObject, WatchEvent},
};
use serde_json::Value;
use tokio::{task::JoinHandle, time::sleep};

use super::{
    action::Key,
    history::{Change, Kind, Recorder},
};

/// How long no watch may begin: longer than a control plane takes to start.
const SILENT: Duration = Duration::from_mins(4);

/// How long nothing is asked for after a watch that ended.
const AGAIN: Duration = Duration::from_millis(200);

/// The code of what is too old to go on from.
const GONE: u16 = 410;

/// The watches, ended when they are dropped.
pub(super) struct Watches(Vec<(Kind, JoinHandle<Result<()>>)>);

impl Drop for Watches {
    fn drop(&mut self) {
        self.0.iter().for_each(|(_, watch)| watch.abort());
    }
}

impl Watches {
    pub(super) async fn start(client: &Client, recorder: &Recorder) -> Result<Self> {
        let mut watches = Vec::new();
        for kind in Kind::ALL {
            let api = Api::<DynamicObject>::all_with(client.clone(), &resource(kind));
            let listed = api.list(&ListParams::default()).await;
            let listed = listed.with_context(|| format!("listing every {}", kind.name()))?;
            for object in &listed.items {
                record(recorder, kind, object, true)?;
            }
            let version = listed.metadata.resource_version.context("a list has no resourceVersion")?;
            watches.push((kind, tokio::spawn(follow(api, kind, version, recorder.clone()))));
        }
        Ok(Self(watches))
    }

    /// Fails if one of them ended.
    pub(super) async fn check(&mut self) -> Result<()> {
        for (kind, watch) in &mut self.0 {
            if watch.is_finished() {
                watch.await.context("a watch panicked")?.with_context(|| format!("watching every {}", kind.name()))?;
            }
        }
        Ok(())
    }
}

/// What the API server calls a kind.
pub(super) fn resource(kind: Kind) -> ApiResource {
    let (group, version, plural) = match kind {
        Kind::Secret => ("", "v1", "secrets"),
        Kind::Namespace => ("", "v1", "namespaces"),
        Kind::OkmsSecret => ("okms-operator.io", "v1alpha1", "okmssecrets"),
        Kind::ClusterOkmsStore => ("okms-operator.io", "v1alpha1", "clusterokmsstores"),
        Kind::OkmsStore => ("okms-operator.io", "v1alpha1", "okmsstores"),
    };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: kind.name().to_owned(),
        plural: plural.to_owned(),
    }
}

/// Goes on where the last watch ended, so that nothing falls between two. The API server may be dead for a while.
async fn follow(api: Api<DynamicObject>, kind: Kind, mut version: String, recorder: Recorder) -> Result<()> {
    let mut heard = Instant::now();
    loop {
        let events = match api.watch(&WatchParams::default().timeout(280), &version).await {
            Ok(events) => events,
            Err(error) if heard.elapsed() > SILENT => return Err(error).context("beginning a watch"),
            Err(_) => {
                sleep(AGAIN).await;
                continue;
            }
        };
        let mut events = pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    version = record(&recorder, kind, &object, true)?;
                }
                Ok(WatchEvent::Deleted(object)) => version = record(&recorder, kind, &object, false)?,
                Ok(WatchEvent::Bookmark(bookmark)) => version = bookmark.metadata.resource_version,
                // What happened between the last version and now would not be known.
                Ok(WatchEvent::Error(error)) if error.code == GONE => bail!("{error:?}"),
                // The connection ended, or etcd did; the next watch begins where this one ended.
                Ok(WatchEvent::Error(_)) | Err(_) => break,
            }
        }
        heard = Instant::now();
        sleep(AGAIN).await;
    }
}

/// Records a change; answers its resourceVersion.
fn record(recorder: &Recorder, kind: Kind, object: &DynamicObject, exists: bool) -> Result<String> {
    let version = object.resource_version().context("an object has no resourceVersion")?;
    let change = Change {
        version: version.parse().context("a resourceVersion is no number")?,
        at: Timestamp::now(),
        kind,
        key: Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() },
        uid: object.uid().unwrap_or_default(),
        object: exists.then(|| serde_json::to_value(object).map(Arc::<Value>::new)).transpose()?,
    };
    recorder.open().saw(change);
    Ok(version)
}
