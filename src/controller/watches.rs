//! What the operator watches, and whom a change wakes.
//!
//! Each watch never ends by itself; it gives up its hold on readiness once everything that there is has been seen. It goes on whoever
//! leads, and wakes somebody only while this process does.

use std::{collections::HashSet, fmt::Debug, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::watcher::{Config as Selection, watcher},
};
use serde::de::DeserializeOwned;

use super::{
    claims::Claims,
    context::{Context, Incumbent, NamespaceMeta, TargetMeta, object_id},
    health::ReadyHandle,
    store,
};
use crate::{
    api::{IsStore, OkmsSecret, names},
    k8s::{Scope, Seen, Watch},
    plan,
};

pub(super) async fn stores<K>(incumbent: Incumbent, api: Api<K>, watch: Watch<K>, held: ReadyHandle) -> &'static str
where
    K: IsStore + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut held = Some(held);
    let tell = |context: &Context, seen: Seen<'_, K>| match seen {
        Seen::There { now, before: Some(_) } => context.wake_store(&now.store_name()),
        Seen::There { now, before: None } => {
            context.wake_store(&now.store_name());
            store::wake_neighbours(context, &now.store_name());
        }
        Seen::Gone(store) => store::gone(context, &store.store_name()),
        Seen::Listed => store::sweep(context),
    };
    watch
        .follow("stores", watcher(api, Selection::default()), |_| {}, |seen| to(&incumbent, &mut held, seen, tell))
        .await;
    "the watch of stores"
}

/// Access rules select namespaces by their labels as they are now.
pub(super) async fn namespaces(
    incumbent: Incumbent,
    client: Client,
    watch: Watch<NamespaceMeta>,
    held: ReadyHandle,
) -> &'static str {
    let mut held = Some(held);
    let api: Api<NamespaceMeta> = Api::all(client);
    let tell = |context: &Context, seen: Seen<'_, NamespaceMeta>| match seen {
        Seen::There { now, before } => {
            if before.is_none_or(|before| before.labels() != now.labels()) {
                context.wake_namespace(&now.name_any());
            }
        }
        Seen::Gone(_) | Seen::Listed => {}
    };
    watch
        .follow("Namespaces", watcher(api, Selection::default()), |_| {}, |seen| to(&incumbent, &mut held, seen, tell))
        .await;
    "the watch of Namespaces"
}

pub(super) async fn secrets(
    incumbent: Incumbent,
    client: Client,
    scope: Scope,
    watch: Watch<OkmsSecret>,
    held: ReadyHandle,
) -> &'static str {
    let mut held = Some(held);
    let events = watcher(scope.api::<OkmsSecret>(client), Selection::default());
    let tell = |context: &Context, seen: Seen<'_, OkmsSecret>| match seen {
        Seen::There { now, .. } => context.wake(&now.namespace().unwrap_or_default(), &now.name_any()),
        Seen::Gone(object) => {
            let id = object_id(object);
            context.feed.forget(&id);
            context.rows.drop(&id.uid);
        }
        // A watch that was interrupted has missed deletions.
        Seen::Listed => sweep(context),
    };
    watch.follow("OkmsSecrets", events, slim_secret, |seen| to(&incumbent, &mut held, seen, tell)).await;
    "the watch of OkmsSecrets"
}

/// Forgets what belongs to objects that are gone.
fn sweep(context: &Context) {
    let live: HashSet<Arc<str>> = context.all_secrets().filter_map(|object| object.uid()).map(Arc::from).collect();
    context.rows.retain(&live);
    context.feed.retain(&live);
}

pub(super) async fn targets(
    incumbent: Incumbent,
    client: Client,
    scope: Scope,
    watch: Watch<TargetMeta>,
    claims: Arc<Claims>,
    held: ReadyHandle,
) -> &'static str {
    let mut held = Some(held);
    let of = scope.clone();
    let selection = Selection::default().labels(&format!("{}={}", names::MANAGED_LABEL, names::MANAGED_VALUE));
    let api: Api<PartialObjectMeta<Secret>> = scope.api(client);
    let tell = |context: &Context, seen: Seen<'_, TargetMeta>| match seen {
        Seen::There { now, before } => {
            wake_claimants(context, now);
            // Whoever is not named any more has the most to hear of it.
            if let Some(before) = before {
                wake_claimants(context, before);
            }
        }
        Seen::Gone(meta) => wake_claimants(context, meta),
        // A watch that was interrupted has missed deletions, and of what is gone nothing says any more whom it named.
        Seen::Listed => context.wake_scope(&of),
    };
    let all = watch.store.clone();
    let seen = |seen: Seen<'_, TargetMeta>| {
        claims.see(&seen, &all);
        to(&incumbent, &mut held, seen, tell);
    };
    watch.follow("target Secrets", watcher(api, selection), slim_target, seen).await;
    "the watch of target Secrets"
}

/// Of an `OkmsSecret` nobody looks at the labels, and what was read from JSON has room to grow that is never used.
fn slim_secret(object: &mut OkmsSecret) {
    object.metadata.labels = None;
    if let Some(status) = &mut object.status {
        status.conditions.shrink_to_fit();
        if let Some(sources) = &mut status.sources {
            sources.shrink_to_fit();
        }
    }
}

/// Of a target only whom it names is looked at; what it was made from is read with the whole.
fn slim_target(target: &mut TargetMeta) {
    target.types = None;
    target.metadata.labels = None;
    plan::keep_claimants(&mut target.metadata);
}

/// Tells whoever leads here of what was seen, and lets go of readiness when all was.
fn to<K>(
    incumbent: &Incumbent,
    held: &mut Option<ReadyHandle>,
    seen: Seen<'_, K>,
    tell: impl Fn(&Context, Seen<'_, K>),
) {
    if matches!(seen, Seen::Listed) {
        held.take();
    }
    if let Some(context) = incumbent.context() {
        tell(&context, seen);
    }
}

/// Has every `OkmsSecret` looked at that a target names.
fn wake_claimants(context: &Context, meta: &TargetMeta) {
    let namespace = meta.namespace().unwrap_or_default();
    for owner in plan::claimants(&meta.metadata) {
        context.wake(&namespace, &owner);
    }
}
