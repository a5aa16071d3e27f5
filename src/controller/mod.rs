//! Wires the rooms together: watches wake reconciles, a reconcile gathers, asks the feed, decides, applies and reports.
//!
//! Here is the only place where Kubernetes and OKMS meet. [`run`] starts the watches, which last as long as the process, and serves the
//! terms in which it leads, one after the other; [`term`] is one of them, [`secret`] what happens to one `OkmsSecret`, [`store`] what
//! happens to one store.

mod apply;
pub mod check;
mod claims;
pub mod clock;
mod config;
mod context;
mod gather;
pub mod health;
mod in_force;
pub mod metrics;
mod named;
mod refresh;
mod renders;
mod report;
mod retries;
pub mod rights;
mod row;
mod secret;
mod snapshot;
mod store;
mod term;
mod turns;
mod watches;

use std::{fmt::Debug, pin::pin, sync::Arc};

use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::config::{Config, NamespacedStores};
use self::{
    claims::Claims,
    context::{Context, Incumbent, ScopeSight, Sight},
    health::{Health, ReadyHandle},
    metrics::{Metrics, Snapshot},
    snapshot::snapshot,
    term::{End, Ended},
};
use crate::{
    api::{IsStore, OkmsSecret, OkmsStore},
    election::{Election, Terms},
    k8s::{Scope, Watch},
};
pub use crate::{election, okms::EndpointPattern};

/// A part of the operator that never ends by itself has ended.
#[derive(Debug, thiserror::Error)]
#[error("{0} ended unexpectedly")]
pub struct Error(String);

/// What lasts as long as the process, whoever leads.
struct Base {
    config: Arc<Config>,
    client: Client,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    sight: Sight,
    incumbent: Incumbent,
}

/// Runs the operator until it is cancelled; answers once everything that was under way has ended, and another may lead, or was given up.
pub async fn run(
    config: Config,
    client: Client,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let mut watches = Watches::new(&client, &health);
    let sight = watches.start(&config);
    let Watches { incumbent, mut watching, filled, .. } = watches;
    metrics.on_scrape({
        let incumbent = incumbent.clone();
        move || incumbent.context().map_or_else(Snapshot::default, |context| snapshot(&context))
    });
    let base = Base { config: Arc::new(config), client, metrics, health, sight, incumbent };
    let mut terms = pin!(serve_terms(&base, filled, &cancel));
    let result = tokio::select! {
        biased;
        result = &mut terms => result,
        Some(ended) = watching.join_next() => {
            // So the drain has an end, as that of a stop has.
            cancel.cancel();
            terms.await.and(Err(Error(name_of(ended))))
        }
    };
    // They have nothing to finish.
    watching.shutdown().await;
    result
}

/// Serves the terms of this process until it is cancelled.
async fn serve_terms(
    base: &Base,
    filled: Vec<BoxFuture<'static, ()>>,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    // Whoever cannot see yet what there is stands not for election.
    if cancel.run_until_cancelled(join_all(filled)).await.is_none() {
        return Ok(());
    }
    let terms = terms(base);
    while let Some(leadership) = terms.next(cancel).await {
        base.metrics.leads(true);
        let Ended { why, is_answered } = term::serve(base, leadership.term().clone(), cancel).await;
        base.metrics.leads(false);
        let end = match why {
            End::Lost => continue,
            End::Stopped => Ok(()),
            End::Broken(what) => Err(Error(what)),
        };
        if is_answered {
            leadership.release().await;
        } else {
            tracing::warn!("what was under way was not answered and may yet arrive, so a lease is left to run out");
        }
        return end;
    }
    Ok(())
}

fn terms(base: &Base) -> Terms {
    let Some(config) = &base.config.election else { return Terms::OnlyInstance };
    let health = base.health.clone();
    let (client, namespace) = (base.client.clone(), &base.config.namespace);
    let election = Election::new(client, namespace, config.clone(), base.config.heartbeat, move || health.beat());
    Terms::Elected(Box::new(election))
}

/// The watches of the process.
struct Watches<'a> {
    client: &'a Client,
    health: &'a Arc<Health>,
    incumbent: Incumbent,
    /// Each is a task that never ends.
    watching: JoinSet<&'static str>,
    /// Nothing is decided before everything is known: a half-filled store looks like deletions.
    filled: Vec<BoxFuture<'static, ()>>,
}

impl<'a> Watches<'a> {
    fn new(client: &'a Client, health: &'a Arc<Health>) -> Self {
        Self { client, health, incumbent: Incumbent::default(), watching: JoinSet::new(), filled: Vec::new() }
    }

    fn start(&mut self, config: &Config) -> Sight {
        let namespaces = Watch::default();
        let sight = Sight {
            namespaces: namespaces.store.clone(),
            cluster_stores: self.stores(Api::all(self.client.clone())),
            scopes: scopes(config).into_iter().map(|scope| self.scope(&scope)).collect(),
        };
        let held = self.hold(&namespaces, "the watch of Namespaces");
        self.watching.spawn(watches::namespaces(self.incumbent.clone(), self.client.clone(), namespaces, held));
        sight
    }

    fn scope(&mut self, scope: &Scope) -> (String, ScopeSight) {
        let name = match scope {
            Scope::Cluster => String::new(),
            Scope::Namespace(namespace) => namespace.to_string(),
        };
        let (secrets, targets) = (Watch::<OkmsSecret>::default(), Watch::default());
        let stores = self.stores::<OkmsStore>(scope.api(self.client.clone()));
        let claims = Arc::<Claims>::default();
        let sight = ScopeSight {
            secrets: secrets.store.clone(),
            targets: targets.store.clone(),
            claims: claims.clone(),
            stores,
        };
        let held = self.hold(&secrets, "the watch of OkmsSecrets");
        let (incumbent, client) = (self.incumbent.clone(), self.client.clone());
        self.watching.spawn(watches::secrets(incumbent, client, scope.clone(), secrets, held));
        let held = self.hold(&targets, "the watch of target Secrets");
        let (incumbent, client) = (self.incumbent.clone(), self.client.clone());
        self.watching.spawn(watches::targets(incumbent, client, scope.clone(), targets, claims, held));
        (name, sight)
    }

    /// Watches one kind of store.
    fn stores<K>(&mut self, api: Api<K>) -> kube::runtime::reflector::Store<K>
    where
        K: IsStore + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let watch = Watch::default();
        let objects = watch.store.clone();
        let held = self.hold(&watch, "the watch of stores");
        self.watching.spawn(watches::stores(self.incumbent.clone(), api, watch, held));
        objects
    }

    /// Holds everything back until the watch has seen what there is.
    fn hold<K>(&mut self, watch: &Watch<K>, what: &'static str) -> ReadyHandle
    where
        K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    {
        let store = watch.store.clone();
        self.filled.push(async move { drop(store.wait_until_ready().await) }.boxed());
        self.health.hold_ready(what)
    }
}

fn scopes(config: &Config) -> Vec<Scope> {
    match config.watch_namespaces.as_slice() {
        [] => vec![Scope::Cluster],
        some => some.iter().map(|namespace| Scope::Namespace(namespace.as_str().into())).collect(),
    }
}

/// What has ended that never does.
fn name_of(ended: Result<&'static str, JoinError>) -> String {
    ended.map_or_else(|_| "a task that panicked".to_owned(), str::to_owned)
}
