//! Watches: each is a reflector of its own with its own backoff. One that fails is retried; it never delays another.

use std::{collections::HashMap, fmt::Debug, hash::Hash, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store, store::Writer},
        utils::Backoff,
        watcher::{self, DefaultBackoff, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use crate::api::names;

/// How a watch that fails is tried again: as kube does it by default, but sooner. That waits for up to a minute (30 s, and as much again
/// at random), in which whoever has lost sight of what there is repairs nothing, though an outage may have ended long ago.
#[derive(Default)]
pub(super) struct Patience(DefaultBackoff);

impl Patience {
    /// A handful of requests in this time, one for each kind that is watched, are nothing to an API server.
    const LONGEST: Duration = Duration::from_secs(10);
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next()?.min(Self::LONGEST))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Where namespaced objects are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespace(Arc<str>),
}

impl Scope {
    pub fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::Cluster => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }
}

/// What a watch saw.
#[derive(Debug)]
pub enum Seen<'a, K> {
    /// It is there, new or changed; what it was `before`, where it was there already.
    There {
        now: &'a K,
        before: Option<&'a K>,
    },
    Gone(&'a K),
    /// Everything that there is has been seen: whatever else is remembered is gone.
    Listed,
}

/// One watch and the objects that it knows.
pub struct Watch<K: 'static + Resource + Clone>
where
    K::DynamicType: Hash + Eq + Clone + Default,
{
    pub store: Store<K>,
    writer: Writer<K>,
}

impl<K> Default for Watch<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Hash + Eq + Clone + Default,
{
    fn default() -> Self {
        let (store, writer) = reflector::store();
        Self { store, writer }
    }
}

impl<K> Watch<K>
where
    K: Resource + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Hash + Eq + Clone + Default,
{
    /// Follows a stream of watch events for ever, telling of each what it means, once the store shows it. `slim` takes off what nobody
    /// looks at: thousands of objects are kept.
    pub async fn follow(
        self,
        what: &'static str,
        events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
        slim: fn(&mut K),
        mut tell: impl FnMut(Seen<'_, K>) + Send,
    ) {
        let events = events.backoff(Patience::default()).modify(|object| {
            let meta = object.meta_mut();
            meta.managed_fields = None;
            // Others' may be large, and what kubectl last applied to a Secret holds its values.
            if let Some(annotations) = &mut meta.annotations {
                annotations.retain(|name, _| names::is_ours(name));
            }
            slim(object);
        });
        let (store, mut writer) = (self.store, self.writer);
        let mut stream = std::pin::pin!(events);
        while let Some(event) = stream.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(watch = what, %error, "a watch failed and is tried again");
                    continue;
                }
            };
            match &event {
                Event::Init | Event::InitApply(_) => writer.apply_watcher_event(&event),
                // The store takes over a list when that has come to its end.
                Event::InitDone => {
                    let before = store.state();
                    writer.apply_watcher_event(&event);
                    listed(&before, &store.state(), &mut tell);
                    tell(Seen::Listed);
                }
                Event::Apply(now) => {
                    let before = store.get(&ObjectRef::from_obj(now));
                    writer.apply_watcher_event(&event);
                    tell(Seen::There { now, before: before.as_deref() });
                }
                Event::Delete(object) => {
                    writer.apply_watcher_event(&event);
                    tell(Seen::Gone(object));
                }
            }
        }
    }
}

/// Tells of what is new or changed in a list.
fn listed<K: Resource>(before: &[Arc<K>], now: &[Arc<K>], tell: &mut impl FnMut(Seen<'_, K>)) {
    let known: HashMap<&str, &K> =
        before.iter().filter_map(|object| Some((object.meta().uid.as_deref()?, &**object))).collect();
    for now in now {
        let before = now.meta().uid.as_deref().and_then(|uid| known.get(uid).copied());
        if before.is_none_or(|before| before.meta().resource_version != now.meta().resource_version) {
            tell(Seen::There { now, before });
        }
    }
}

/// Watches one object by its name, without its content, and tells whenever it may have changed.
pub async fn watch_named<K>(client: Client, namespace: String, name: String, mut changed: impl FnMut() + Send)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    // There may be hundreds of them, so these are left at what kube does.
    let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => changed(),
            Err(error) => {
                tracing::warn!(namespace, name, %error, "the watch of an object failed and is tried again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use k8s_openapi::api::core::v1::Secret;
    use kube::ResourceExt;

    use super::*;

    fn secret(name: &str, version: u32) -> Secret {
        let mut secret = Secret::default();
        (secret.metadata.name, secret.metadata.namespace) = (Some(name.to_owned()), Some("shop".to_owned()));
        (secret.metadata.uid, secret.metadata.resource_version) = (Some(name.to_owned()), Some(version.to_string()));
        secret
    }

    #[test]
    fn no_watch_is_left_alone_for_long() {
        let waits: Vec<_> = Patience::default().take(20).collect();
        let first = waits.first().unwrap();
        assert!((Duration::from_millis(500)..Duration::from_secs(2)).contains(first), "{first:?}");
        assert!(waits.iter().all(|wait| *wait <= Patience::LONGEST), "{waits:?}");
        assert_eq!(waits.last(), Some(&Patience::LONGEST));
    }

    /// A list comes in pages, and whoever is told of something looks at it in the store, maybe before the next page has come.
    #[tokio::test]
    async fn whoever_is_told_of_something_finds_it_in_the_store() {
        let watch = Watch::<Secret>::default();
        let store = watch.store.clone();
        let shown = |secret: &Secret| format!("{}{}", secret.name_any(), secret.resource_version().unwrap());
        let mut told = Vec::new();
        let events = [
            Event::Init,
            Event::InitApply(secret("a", 1)),
            Event::InitApply(secret("b", 1)),
            Event::InitDone,
            Event::Apply(secret("a", 2)),
            // One that broke off.
            Event::Init,
            Event::InitApply(secret("d", 3)),
            Event::Init,
            Event::InitApply(secret("a", 2)),
            Event::InitApply(secret("b", 3)),
            Event::InitApply(secret("c", 4)),
            Event::InitDone,
            Event::Delete(secret("b", 3)),
        ];
        let events = stream::iter(events.map(Ok));
        let tell = |seen: Seen<'_, Secret>| {
            told.push(match seen {
                Seen::There { now, before } => {
                    let in_store = store.get(&ObjectRef::from_obj(now));
                    assert_eq!(in_store.as_deref(), Some(now), "not there yet");
                    format!("{} was {}", shown(now), before.map_or("not there".to_owned(), shown))
                }
                Seen::Gone(object) => format!("{} is gone", shown(object)),
                Seen::Listed => format!("{} listed", store.state().len()),
            });
        };
        watch.follow("Secrets", events, |_| {}, tell).await;
        // In which order a list is told does not matter.
        let mut told: Vec<_> = told.split_inclusive(|line| line.ends_with("listed")).map(<[String]>::to_vec).collect();
        for part in &mut told {
            part.sort_unstable();
        }
        let expected = [
            ["2 listed", "a1 was not there", "b1 was not there"].as_slice(),
            &["3 listed", "a2 was a1", "b3 was b1", "c4 was not there"],
            &["b3 is gone"],
        ];
        assert_eq!(told, expected);
    }
}
