//! Looks after one store: reads its credential, opens its desk in the feed, writes its status.
//!
//! It never waits for OKMS. A changed credential is handed to the feed, which proves it before it uses it and wakes the store when it
//! knows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::{Api, ResourceExt, runtime::controller::Action};

use super::{
    context::{Context, object_id},
    credentials::{self, CredentialProblem},
    metrics::StoreMetrics,
    named::{Reference, Watch},
};
use crate::{
    api::{
        CertificateStatus, ClusterOkmsStore, ClusterOkmsStoreStatus, Interval, Reason, StoreReason, WithdrawalHeld,
        condition::{self, Statement, Status, kind},
        names,
    },
    feed::{Before, Domain, Health, Limits, Standing, WithdrawalLimit},
    k8s::patch_status,
    model::{OkmsId, StoreKind, StoreName, StoreTrouble, StoreTroubleKind},
    okms::{Client, ClientOptions, Endpoint, Identity, Observer, Operation, Outcome, Roots},
};

/// What is remembered of each store, by name.
#[derive(Default)]
pub(super) struct Stores(Mutex<HashMap<Arc<str>, StoreRow>>);

#[derive(Default)]
struct StoreRow {
    /// What was last handed to the feed.
    proposed: Option<Proposal>,
    /// The certificate in use.
    certificate: Option<CertificateStatus>,
    /// Why what the spec says now cannot be used.
    trouble: Option<StoreTrouble>,
    /// The uid and generation that the store's objects last heard of.
    heard: Option<(String, i64)>,
    status: Option<ClusterOkmsStoreStatus>,
    /// The watches over what the store refers to.
    watches: HashMap<Reference, Watch>,
    metrics: Option<Arc<StoreMetrics>>,
}

/// Everything that a client is made of.
#[derive(Clone, PartialEq)]
struct Proposal {
    domain: Domain,
    roots: Roots,
    identity: Identity,
    options: ClientOptions,
}

impl Stores {
    fn with<T>(&self, name: &str, act: impl FnOnce(&mut StoreRow) -> T) -> T {
        act(self.lock().entry(name.into()).or_default())
    }

    /// Why what the spec of a store says cannot be used.
    pub fn trouble(&self, name: &str) -> Option<String> {
        self.lock().get(name)?.trouble.as_ref().map(|trouble| trouble.message.clone())
    }

    /// Counters of a store.
    pub fn metrics(&self, name: &str) -> Option<Arc<StoreMetrics>> {
        self.lock().get(name).and_then(|row| row.metrics.clone())
    }

    /// When the certificate in use ends.
    pub fn certificate_expires(&self, name: &str) -> Option<Timestamp> {
        self.lock().get(name)?.certificate.as_ref().map(|certificate| certificate.not_after.0)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, StoreRow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn name_of(store: &str) -> StoreName {
    StoreName { kind: StoreKind::ClusterOkmsStore, name: store.into() }
}

/// A store is gone: nothing is asked through it any more.
pub(super) fn gone(context: &Context, store: &str) {
    context.feed.close(&name_of(store));
    context.stores.lock().remove(store);
    context.wake_users(&name_of(store));
}

/// Forgets what belongs to stores that are gone: a watch that was interrupted has missed deletions.
pub(super) fn sweep(context: &Context) {
    let known: Vec<Arc<str>> = context.stores.lock().keys().cloned().collect();
    for name in known {
        if context.cluster_store(&name_of(&name)).is_none() {
            gone(context, &name);
        }
    }
}

/// Brings one store up to date.
pub(super) async fn reconcile(store: Arc<ClusterOkmsStore>, context: &Arc<Context>) -> Action {
    let name = store.name_any();
    if store.metadata.deletion_timestamp.is_some() || !context.serves(&name_of(&name)) {
        return Action::await_change();
    }
    context.stores.with(&name, |row| {
        if row.heard.is_none() {
            // After a restart the one in use is the one that was.
            row.certificate = store.status.as_ref().and_then(|status| status.certificate.clone());
        }
    });
    watch_references(context, &store, &name);
    let next = connect(context, &store, &name).await;
    if let Some(id) = store.annotations().get(names::CONFIRM_WITHDRAWAL_ANNOTATION) {
        context.feed.confirm_withdrawals(&name_of(&name), id);
    }
    let heard = Some((store.uid().unwrap_or_default(), store.metadata.generation.unwrap_or(0)));
    if context.stores.with(&name, |row| std::mem::replace(&mut row.heard, heard.clone())) != heard {
        // Access, intervals and policies may have changed.
        context.wake_users(&name_of(&name));
    }
    let written = write_status(context, &store, &name).await;
    if context.cluster_store(&name_of(&name)).is_none() {
        // It went away meanwhile, and what the watch dropped then was there again.
        gone(context, &name);
        return Action::await_change();
    }
    match written {
        Ok(()) => next.map_or_else(Action::await_change, Action::requeue),
        Err(error) => {
            tracing::warn!(store = name, error = %error, "the status of a store could not be written");
            Action::requeue(context.config.backoff_first)
        }
    }
}

/// Reads the credential and hands it over if it is another one. Answers when to look again.
async fn connect(context: &Arc<Context>, store: &ClusterOkmsStore, name: &str) -> Option<Duration> {
    let auth = &store.spec.auth.client_certificate;
    let poll = auth.mount.is_some().then_some(context.config.credential_poll);
    match proposal(context, store, name).await {
        Ok(proposal) => {
            open(context, store, name, &proposal.domain);
            let expires = proposal.identity.not_after();
            propose(context, name, proposal);
            let until_expiry = expires.duration_since(Timestamp::now()).unsigned_abs();
            Some(poll.unwrap_or(until_expiry).min(until_expiry) + Duration::from_millis(1))
        }
        Err(problem) => {
            tracing::debug!(store = name, %problem, "the credential of a store cannot be used");
            let (message, gone, again) = match problem {
                CredentialProblem::Gone(message) => (message, true, poll),
                // Nothing tells when a certificate becomes valid.
                CredentialProblem::Unusable(message) => {
                    (message, !may_go_on(context, store, name), poll.or(Some(context.config.retry_refused)))
                }
                CredentialProblem::Unknown(_) => return Some(context.config.credential_poll),
            };
            unusable(context, name, message, gone);
            again
        }
    }
}

/// What the store is to be connected with now cannot be used. `gone`: neither can what was used before.
fn unusable(context: &Context, name: &str, message: String, gone: bool) {
    let store = name_of(name);
    let trouble = StoreTrouble { kind: StoreTroubleKind::InvalidCredential, message };
    let news = context.stores.with(name, |row| {
        let ends = gone && row.proposed.is_some();
        if gone {
            row.proposed = None;
            row.certificate = None;
        }
        row.trouble.replace(trouble.clone()).as_ref() != Some(&trouble) || ends
    });
    // The feed wakes the store whenever it is told something.
    if !news {
        return;
    }
    if gone {
        context.feed.disconnect(&store, trouble);
    } else {
        context.feed.reject(&store, trouble);
    }
    context.wake_users(&store);
}

/// Whether the credential in use may stay in use while the new one is unusable: it has not expired itself, and the spec does not
/// name another endpoint or domain by now.
fn may_go_on(context: &Context, store: &ClusterOkmsStore, name: &str) -> bool {
    let spec = &store.spec;
    context.stores.with(name, |row| {
        row.proposed.as_ref().is_some_and(|used| {
            spec.endpoint.parse().is_ok_and(|endpoint: Endpoint| endpoint == used.domain.endpoint)
                && spec.okms_id.as_ref().is_none_or(|id| id.parse().is_ok_and(|id: OkmsId| id == used.domain.okms_id))
                && used.identity.validity(Timestamp::now()).is_ok()
        })
    })
}

/// What a client is to be made of, by the present spec and credential.
async fn proposal(context: &Context, store: &ClusterOkmsStore, name: &str) -> Result<Proposal, CredentialProblem> {
    let spec = &store.spec;
    let config = &context.config;
    let unusable = CredentialProblem::Unusable;
    let endpoint = spec.endpoint.parse().map_err(|error| unusable(format!("spec.endpoint: {error}")))?;
    let asked = spec.okms_id.as_ref().map(|id| id.parse());
    let asked = asked.transpose().map_err(|error| unusable(format!("spec.okmsId: {error}")))?;
    let (client, auth) = (&context.client, &spec.auth.client_certificate);
    let identity = credentials::identity(client, &config.namespace, &config.mount_root, auth, asked.as_ref()).await?;
    let roots = credentials::roots(client, &config.namespace, spec.ca.as_ref()).await?;
    let okms_id = match asked {
        Some(id) => id,
        None => domain_of(context, store, name, &identity)?,
    };
    let timeout = spec.limits.as_ref().and_then(|limits| limits.timeout).map_or(Duration::from_secs(30), Interval::get);
    let options = ClientOptions {
        timeout,
        connect_timeout: timeout.min(ClientOptions::default().connect_timeout),
        ..ClientOptions::default()
    };
    Ok(Proposal { domain: Domain { endpoint, okms_id }, roots, identity, options })
}

/// The domain that a certificate names, for a store whose spec names none.
///
/// Once one of its certificates was in use, a certificate of another domain does not move the store there; only its spec does.
fn domain_of(
    context: &Context,
    store: &ClusterOkmsStore,
    name: &str,
    identity: &Identity,
) -> Result<OkmsId, CredentialProblem> {
    let unusable = CredentialProblem::Unusable;
    let Some(own) = identity.okms_id() else {
        return Err(unusable("the client certificate names no OKMS domain: give its id in spec.okmsId".to_owned()));
    };
    let bound: Option<OkmsId> = context.stores.with(name, |row| {
        let status = row.status.as_ref().or(store.status.as_ref())?;
        let holds = row.certificate.is_some() && Some(status.observed_generation) == store.metadata.generation;
        status.okms_id.as_deref().filter(|_| holds)?.parse().ok()
    });
    match bound {
        Some(bound) if bound != *own => Err(unusable(format!(
            "the client certificate is of OKMS domain {own}, and this store reads from {bound}: provide one of that domain, or \
             set spec.okmsId to {own} to read from the other"
        ))),
        _ => Ok(own.clone()),
    }
}

fn open(context: &Arc<Context>, store: &ClusterOkmsStore, name: &str, domain: &Domain) {
    let limits = store.spec.limits.as_ref();
    let number = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0);
    let limits = Limits {
        requests_per_second: number(limits.and_then(|limits| limits.requests_per_second)).unwrap_or(20).into(),
        concurrent_requests: number(limits.and_then(|limits| limits.concurrent_requests)).unwrap_or(8) as usize,
        withdrawals: match store.spec.withdrawal_limit() {
            crate::api::WithdrawalLimit::Count(count) => WithdrawalLimit::Number(count as usize),
            crate::api::WithdrawalLimit::Percent(percent) => {
                WithdrawalLimit::Percent(u8::try_from(percent).unwrap_or(100))
            }
        },
    };
    // What was held of another domain has to be confirmed anew.
    let told = store.status.as_ref().and_then(|status| status.withdrawal_held.as_ref());
    let told = told.map(|held| (held.id.clone(), usize::try_from(held.count).unwrap_or(0)));
    let store = name_of(name);
    let moves = context.feed.domain(&store).is_some();
    if context.feed.open(&store, domain, limits, || withdrawals_before(context, &store, told.filter(|_| !moves))) {
        context.stores.with(name, |row| {
            row.proposed = None;
            if moves {
                row.certificate = None;
            }
        });
        context.wake_users(&store);
    }
}

/// Which targets of a store were withdrawn within the last hour, and which are held, as their conditions tell. `told` is what the
/// store's status tells.
fn withdrawals_before(context: &Context, store: &StoreName, told: Option<(String, usize)>) -> Before {
    let an_hour_ago = Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let withdrawn =
        [Reason::VersionDeactivated, Reason::VersionDestroyed, Reason::VersionPruned, Reason::SecretDeleted]
            .map(Reason::as_str);
    let mut before = Before { told, ..Before::default() };
    for object in context.all_secrets().filter(|object| object.spec.store_name() == *store) {
        let status = object.status.as_ref();
        let Some(ready) = status.and_then(|status| condition::find(&status.conditions, kind::READY)) else { continue };
        if ready.reason == Reason::WithdrawalHeld.as_str() {
            before.held.push(object_id(&object));
        } else if withdrawn.contains(&ready.reason.as_str()) && ready.last_transition_time.0 > an_hour_ago {
            before.granted += 1;
        }
    }
    before
}

fn propose(context: &Arc<Context>, name: &str, proposal: Proposal) {
    let store = name_of(name);
    let metrics = context.stores.with(name, |row| {
        // After a trouble the feed has to hear that it is over, even if what comes is what was there before.
        if row.trouble.is_none() && row.proposed.as_ref() == Some(&proposal) {
            return None;
        }
        Some(row.metrics.get_or_insert_with(|| context.metrics.store(&store)).clone())
    });
    let Some(metrics) = metrics else { return };
    let Proposal { domain, roots, identity, options } = &proposal;
    let observer = Arc::new(CountRequests(metrics));
    match Client::new(&domain.endpoint, &domain.okms_id, roots, identity, *options, observer) {
        Ok(client) => {
            context.stores.with(name, |row| {
                row.proposed = Some(proposal);
                row.trouble = None;
            });
            context.feed.propose(&store, client);
        }
        Err(error) => unusable(context, name, format!("spec.ca: {error}"), false),
    }
}

/// Follows, by name, what the store refers to now, and no others.
fn watch_references(context: &Arc<Context>, store: &ClusterOkmsStore, name: &str) {
    let spec = &store.spec;
    let ca = spec.ca.as_ref();
    let namespace: Arc<str> = context.config.namespace.as_str().into();
    let secret = |name: &String| Reference::Secret { namespace: namespace.clone(), name: name.clone() };
    let config_map = |name: &String| Reference::ConfigMap { namespace: namespace.clone(), name: name.clone() };
    let wanted: Vec<Reference> = [
        spec.auth.client_certificate.secret_ref.as_ref().map(|reference| secret(&reference.name)),
        ca.and_then(|ca| ca.secret_ref.as_ref()).map(|reference| secret(&reference.name)),
        ca.and_then(|ca| ca.config_map_ref.as_ref()).map(|reference| config_map(&reference.name)),
    ]
    .into_iter()
    .flatten()
    .collect();
    context.stores.with(name, |row| {
        row.watches.retain(|reference, _| wanted.contains(reference));
        for reference in wanted {
            row.watches.entry(reference.clone()).or_insert_with(|| {
                // Weak, because the task is owned by what the context owns.
                let (weak, name) = (Arc::downgrade(context), name.to_owned());
                reference.watch(context.client.clone(), move || {
                    if let Some(context) = weak.upgrade() {
                        context.wake_store(&name);
                    }
                })
            });
        }
    });
}

async fn write_status(context: &Context, store: &ClusterOkmsStore, name: &str) -> Result<(), crate::k8s::WriteError> {
    let standing = context.feed.standing(&name_of(name));
    let domain = context.feed.domain(&name_of(name));
    let generation = store.metadata.generation.unwrap_or(0);
    let (old, new) = context.stores.with(name, |row| {
        let old = row.status.clone().or_else(|| store.status.clone());
        let unknown = standing.as_ref().is_none_or(|standing| standing.health == Health::Unproven);
        if unknown && row.trouble.is_none() && old.as_ref().is_some_and(|old| old.observed_generation == generation) {
            // The operator started, and nothing speaks against what its predecessor said.
            return (old.clone(), old.unwrap_or_default());
        }
        if let (Some(proposed), Some(standing)) = (&row.proposed, &standing)
            && standing.health == Health::Ready
            && !standing.proving
            && standing.rejected.is_none()
        {
            row.certificate = Some(CertificateStatus {
                not_after: condition::time(proposed.identity.not_after()),
                serial: proposed.identity.serial().to_owned(),
            });
        }
        let mut status = old.clone().unwrap_or_default();
        status.observed_generation = generation;
        status.okms_id = domain.map(|domain| domain.okms_id.to_string());
        status.certificate.clone_from(&row.certificate);
        status.withdrawal_held = standing
            .as_ref()
            .and_then(|standing| standing.held.clone())
            .map(|(id, count)| WithdrawalHeld { id, count: i32::try_from(count).unwrap_or(i32::MAX) });
        set_conditions(&mut status, standing.as_ref(), row.trouble.as_ref());
        (old, status)
    });
    if old.as_ref() == Some(&new) {
        return Ok(());
    }
    let api: Api<ClusterOkmsStore> = Api::all(context.client.clone());
    patch_status(&context.term, &api, store, old.as_ref(), &new).await?;
    context.stores.with(name, |row| row.status = Some(new));
    Ok(())
}

fn set_conditions(status: &mut ClusterOkmsStoreStatus, standing: Option<&Standing>, trouble: Option<&StoreTrouble>) {
    let (now, generation) = (Timestamp::now(), status.observed_generation);
    let health = standing.map_or(&Health::Unproven, |standing| &standing.health);
    let (ready, reason, message) = match (health, trouble) {
        (Health::Ready, _) => {
            (Status::True, StoreReason::Reachable, "OKMS answers and accepts the credential".to_owned())
        }
        (Health::Down { trouble }, _) | (Health::Unproven, Some(trouble)) => {
            (Status::False, trouble.kind.into(), trouble.message.clone())
        }
        (Health::Unproven, None) => {
            (Status::False, StoreReason::Progressing, "waiting for the first answer of OKMS".to_owned())
        }
    };
    let statement = Statement { status: ready, reason: reason.as_str(), message };
    condition::set_ready(&mut status.conditions, statement, reason.progress(), generation, now);

    let in_use = standing.is_some_and(|standing| standing.health == Health::Ready);
    let rejected = standing.and_then(|standing| standing.rejected.as_ref()).or(trouble.filter(|_| in_use));
    let rejected = rejected.map(|trouble| {
        let message = format!("the new credential is not used, the old one still is: {}", trouble.message);
        (StoreReason::from(trouble.kind).as_str(), message)
    });
    let throttled = standing.and_then(|standing| standing.throttled_to).map(|interval| {
        let interval = Interval::from(interval);
        let message = format!(
            "spec.limits.requestsPerSecond cannot hold the intervals asked for: sources are checked every {interval}"
        );
        ("TooManySources", message)
    });
    let held = status.withdrawal_held.as_ref().map(|held| {
        let message = format!(
            "more Secrets would be deleted within an hour than maxWithdrawalsPerHour allows; look at the OkmsSecrets that are \
             WithdrawalHeld, then confirm with: kubectl annotate --overwrite clusterokmsstore NAME {}={}",
            names::CONFIRM_WITHDRAWAL_ANNOTATION,
            held.id
        );
        ("BudgetExceeded", message)
    });
    for (kind, said) in
        [(kind::CREDENTIALS_REJECTED, rejected), (kind::THROTTLED, throttled), (kind::WITHDRAWAL_HELD, held)]
    {
        match said {
            Some((reason, message)) => {
                let statement = Statement { status: Status::True, reason, message };
                condition::set(&mut status.conditions, kind, statement, generation, now);
            }
            None => condition::clear(&mut status.conditions, kind),
        }
    }
}

/// Passes what the client tells on to the metrics of the store.
struct CountRequests(Arc<StoreMetrics>);

impl Observer for CountRequests {
    fn request(&self, operation: Operation, outcome: Outcome, took: Duration) {
        self.0.request(operation.as_str(), outcome.as_str(), took);
    }

    fn handshake(&self) {
        self.0.handshake();
    }
}
