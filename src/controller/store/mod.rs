//! Looks after one store of either kind: reads its credential, opens its desk in the feed, writes its status.
//!
//! It never waits for OKMS. A changed credential is handed to the feed, which proves it before it uses it and wakes the store when it
//! knows. What a client is made of is found out in [`proposal`], what it is read from in [`credential`].

mod credential;
mod expiry;
mod problem;
mod proposal;
mod row;
mod status;

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use jiff::Timestamp;

pub(super) use self::{
    credential::Reader,
    expiry::{Stage, stage},
    problem::Problem,
    proposal::{Asked, allowed, options_of, own_domain},
    row::Stores,
};
use self::{
    proposal::{admitted, may_go_on, next_look, proposal},
    row::{Proposal, Said},
};
use super::{
    context::{Context, object_id},
    metrics::StoreMetrics,
    named::Reference,
};
use crate::{
    api::{
        Auth, Reason, Store,
        condition::{self, kind},
        names,
    },
    feed::{Before, Domain, Limits, WithdrawalLimit},
    k8s::WriteError,
    model::{StoreName, StoreTrouble, StoreTroubleKind},
    okms::{Client, Observer, Operation, Outcome},
};

/// A store is gone: nothing is asked through it any more.
pub(super) fn gone(context: &Context, store: &StoreName) {
    context.feed.close(store);
    context.stores.drop(store);
    context.wake_users(store);
    // Another one may have its place.
    wake_neighbours(context, store);
}

/// Has the stores of the same namespace looked at: how many are served is counted.
pub(super) fn wake_neighbours(context: &Context, store: &StoreName) {
    let (Some(namespace), Some(settings)) = (store.namespace(), &context.config.namespaced_stores) else { return };
    // The last that is served, and the first that is not: nobody else's place changes by one.
    for other in context.stores_of(namespace).into_iter().take(settings.max_per_namespace.saturating_add(1)) {
        context.wake_store(&Store::Namespaced(other).name());
    }
}

/// Forgets what belongs to stores that are gone: a watch that was interrupted has missed deletions.
pub(super) fn sweep(context: &Context) {
    for name in context.stores.known() {
        if context.store(&name).is_none() {
            gone(context, &name);
        }
    }
}

/// Brings one store up to date, and answers when to look again though nothing wakes it.
pub(super) async fn reconcile(store: Store, context: &Arc<Context>) -> Option<Duration> {
    let name = store.name();
    if !context.serves(&name) {
        return None;
    }
    let uid = store.metadata().uid.clone().unwrap_or_default();
    if context.stores.with(&name, |row| row.heard.as_ref().is_some_and(|(known, _)| *known != uid)) {
        // It was made again under its name, and the watch did not see that it had gone.
        gone(context, &name);
    }
    // One that is being deleted, and held by somebody's finalizer, is in use until it is gone: it is looked after like any other.
    context.stores.with(&name, |row| {
        if row.heard.is_none() {
            // After a restart the one in use is the one that was.
            row.certificate = store.status().and_then(|status| status.certificate.clone());
        }
    });
    let Connected { looked, next } = connect(context, &store).await;
    if let Some(id) =
        store.metadata().annotations.as_ref().and_then(|all| all.get(names::CONFIRM_WITHDRAWAL_ANNOTATION))
    {
        context.feed.confirm_withdrawals(&name, id);
    }
    let heard = Some((uid, store.generation()));
    if context.stores.with(&name, |row| std::mem::replace(&mut row.heard, heard.clone())) != heard {
        // Access, intervals and policies may have changed.
        context.wake_users(&name);
    }
    let waits = context.stores.with(&name, |row| row.retries.waits(Instant::now()));
    let written = if waits.is_none() { status::write(context, &store, looked).await } else { Ok(()) };
    if context.store(&name).is_none() {
        // It went away meanwhile, and what the watch dropped then was there again.
        gone(context, &name);
        return None;
    }
    // Whatever keeps the status from being written, what it tells of goes on.
    let again = match (waits, written) {
        (Some(wait), _) => wait,
        (None, Ok(())) => {
            context.stores.with(&name, |row| row.retries.succeeded());
            return Some(next);
        }
        (None, Err(WriteError::NotLeading)) => return None,
        // What the watch brings of it may come before.
        (None, Err(WriteError::Conflict)) => context.config.backoff(0),
        (None, Err(error)) => {
            tracing::warn!(store = name.full(), error = %error, "the status of a store could not be written");
            let retry_after = error.retry_after(context.config.backoff_cap);
            // From the answer on, which may have come long after the start.
            context.stores.with(&name, |row| row.retries.failed(Instant::now(), retry_after, &context.config))
        }
    };
    Some(next.min(again))
}

/// What came of looking at what a store refers to.
struct Connected {
    /// Whether it could be looked at.
    looked: bool,
    /// When to look again.
    next: Duration,
}

/// Reads the credential and hands it over if it is another one.
async fn connect(context: &Arc<Context>, store: &Store) -> Connected {
    let name = store.name();
    let (config, auth) = (&context.config, &store.connection().auth);
    // What was found to work since is in use, also where something else comes before anybody was told.
    if context.feed.standing(&name).is_some_and(|standing| standing.uses_newest()) {
        context.stores.with(&name, |row| {
            if row.trouble.is_none() {
                row.settle();
            }
        });
    }
    // While what the spec says now is not used, what it said before is.
    let before = context.stores.with(&name, |row| row.proven.as_ref().map(|proven| proven.said.auth.clone()));
    let before = before.filter(|before| before != auth);
    let certificates = [Some(auth), before.as_ref()].into_iter().flatten().map(|auth| &auth.client_certificate);
    let mounted = certificates.flatten().any(|certificate| certificate.mount.is_some());
    // Nothing tells when a mounted file changes, or when a clock is set.
    let poll = if mounted { config.credential_poll } else { config.clock_check };
    let proposal = match admitted(context, store) {
        Ok(asked) => {
            // Before it is read, so that no change is missed.
            watch_references(context, store, before.as_ref());
            if let Some(before) = &before
                && let Err(Problem::Stop(trouble)) = Reader::new(&context.client, config, store).present(before).await
            {
                unusable(context, store, trouble, true);
            }
            proposal(context, store, asked).await
        }
        Err(problem) => {
            // Each watch is a request that the API server holds open: whoever makes stores beyond what is served gets none.
            context.stores.with(&name, |row| row.watches.clear());
            Err(problem)
        }
    };
    if !matches!(proposal, Err(Problem::Unknown(_))) {
        context.stores.with(&name, |row| row.unread_since = None);
    }
    let (looked, again) = match proposal {
        Ok(proposal) => {
            open(context, store, &proposal.domain);
            propose(context, store, proposal);
            (true, poll)
        }
        Err(problem) => {
            tracing::debug!(store = name.full(), ?problem, "a store cannot be connected");
            match problem {
                Problem::Stop(trouble) => {
                    unusable(context, store, trouble, true);
                    (true, poll)
                }
                Problem::Unusable(trouble) => {
                    unusable(context, store, trouble, !may_go_on(context, store));
                    // Nothing tells when a certificate becomes valid.
                    (true, poll.min(config.retry_refused))
                }
                Problem::Unknown(message) => (unread(context, store, message), config.credential_poll),
            }
        }
    };
    let until_expiry = context.stores.with(&name, |row| {
        let ends = row.certificate.as_ref()?.not_after.0;
        expiry::next(ends, config.clock.now())
    });
    Connected { looked, next: again.min(next_look(context, until_expiry)) }
}

/// What the store refers to cannot be looked at now. What is in use stays so; but where nothing is, because the operator has just started,
/// what was said before is believed only for so long. Answers whether something else is said by now.
fn unread(context: &Context, store: &Store, message: String) -> bool {
    let name = store.name();
    let since = context.stores.with(&name, |row| *row.unread_since.get_or_insert_with(Instant::now));
    let believed = since.elapsed() < context.config.timing.staleness_floor;
    if believed || context.feed.domain(&name).is_some() {
        return false;
    }
    unusable(context, store, StoreTrouble { kind: StoreTroubleKind::InvalidCredential, message }, true);
    true
}

/// What the store is to be connected with now cannot be used. `stops`: neither can what was used before.
fn unusable(context: &Context, store: &Store, trouble: StoreTrouble, stops: bool) {
    let name = store.name();
    let news = context.stores.with(&name, |row| {
        let ends = stops && row.proposed.is_some();
        if stops {
            row.proposed = None;
            row.proven = None;
        }
        row.trouble.replace(trouble.clone()).as_ref() != Some(&trouble) || ends
    });
    // The feed wakes the store whenever it is told something.
    if !news {
        return;
    }
    if stops {
        context.feed.disconnect(&name, trouble);
    } else {
        context.feed.reject(&name, trouble);
    }
    context.wake_users(&name);
}

fn open(context: &Arc<Context>, store: &Store, domain: &Domain) {
    let limits = store.limits();
    let limits = Limits {
        requests_per_second: limits.requests_per_second().into(),
        concurrent_requests: limits.concurrent_requests() as usize,
        withdrawals: match store.connection().withdrawal_limit() {
            crate::api::WithdrawalLimit::Count(count) => WithdrawalLimit::Number(count as usize),
            crate::api::WithdrawalLimit::Percent(percent) => {
                WithdrawalLimit::Percent(u8::try_from(percent).unwrap_or(100))
            }
        },
    };
    // What was held of another domain has to be confirmed anew.
    let status = store.status().filter(|status| status.okms_id.as_deref() == Some(domain.okms_id.to_string().as_str()));
    let told = status.and_then(|status| status.withdrawal_held.as_ref());
    let told = told.map(|held| (held.id.clone(), usize::try_from(held.count).unwrap_or(0)));
    let name = store.name();
    let moves = context.feed.domain(&name).is_some();
    if context.feed.open(&name, domain, limits, || withdrawals_before(context, &name, told.filter(|_| !moves))) {
        context.stores.with(&name, |row| {
            row.proposed = None;
            row.proven = None;
            if moves {
                row.certificate = None;
            }
        });
        context.wake_users(&name);
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
    for object in context.all_secrets().filter(|object| object.names(store)) {
        let status = object.status.as_ref();
        let Some(ready) = status.and_then(|status| condition::find(&status.conditions, kind::READY)) else { continue };
        if ready.reason == Reason::WithdrawalHeld.as_str() {
            before.held.push(object_id(&object));
            continue;
        }
        // An object that was not Ready for another reason before has that transition; what it was deleted is the last change of its target.
        let synced = status.and_then(|status| status.last_sync_time.as_ref());
        let changed = [Some(&ready.last_transition_time), synced];
        if withdrawn.contains(&ready.reason.as_str()) && changed.into_iter().flatten().any(|at| at.0 > an_hour_ago) {
            before.granted.push(object_id(&object));
        }
    }
    before
}

fn propose(context: &Arc<Context>, store: &Store, proposal: Proposal) {
    let name = store.name();
    let metrics = context.stores.with(&name, |row| {
        row.said = Some(Said::by(store));
        // After a trouble the feed has to hear that it is over, even if what comes is what was there before.
        if row.trouble.is_none() && row.proposed.as_ref() == Some(&proposal) {
            return None;
        }
        Some(row.metrics.get_or_insert_with(|| context.metrics.store(&name)).clone())
    });
    let Some(metrics) = metrics else { return };
    let Proposal { domain, roots, credential, options } = &proposal;
    let observer = Arc::new(Observe { metrics, store: name.clone(), context: Arc::downgrade(context) });
    match Client::new(&domain.endpoint, &domain.okms_id, roots, credential, *options, observer) {
        Ok(client) => {
            context.stores.with(&name, |row| {
                row.clock = client.clock();
                row.proposed = Some(proposal);
                row.trouble = None;
            });
            context.feed.propose(&name, client);
        }
        Err(error) => {
            // What is in the credential and in the bundles was checked before: what is left is not of the store's making.
            let trouble = StoreTrouble { kind: StoreTroubleKind::InvalidCredential, message: error.to_string() };
            unusable(context, store, trouble, false);
        }
    }
}

/// Follows, by name, what the store refers to now, and what it authenticated with `before` where that is in use; and no others.
fn watch_references(context: &Arc<Context>, store: &Store, before: Option<&Auth>) {
    let (connection, name) = (store.connection(), store.name());
    let namespace: Arc<str> = credential::namespace_of(&context.config, store).into();
    let secret = |name: &str| Reference::Secret { namespace: namespace.clone(), name: name.to_owned() };
    let config_map = |name: &str| Reference::ConfigMap { namespace: namespace.clone(), name: name.to_owned() };
    let mut wanted: Vec<Reference> = Vec::new();
    for auth in [Some(&connection.auth), before].into_iter().flatten() {
        let certificate = auth.client_certificate.as_ref().and_then(|auth| auth.secret_ref.as_ref());
        let token = auth.token.as_ref().map(|auth| &auth.secret_ref.name);
        let service_account = auth.oauth2.as_ref().map(|auth| &auth.secret_ref.name);
        let names = [certificate.map(|reference| &reference.name), token, service_account];
        wanted.extend(names.into_iter().flatten().map(|name| secret(name)));
    }
    let service_account = connection.auth.oauth2.as_ref();
    let authorities = [connection.ca.as_ref(), service_account.and_then(|auth| auth.ca.as_ref())];
    for ca in authorities.into_iter().flatten() {
        wanted.extend(ca.secret_ref.as_ref().map(|reference| secret(&reference.name)));
        wanted.extend(ca.config_map_ref.as_ref().map(|reference| config_map(&reference.name)));
    }
    context.stores.with(&name, |row| {
        row.watches.retain(|reference, _| wanted.contains(reference));
        for reference in wanted {
            row.watches.entry(reference.clone()).or_insert_with(|| {
                // Weak, because the task is owned by what the context owns.
                let (weak, name) = (Arc::downgrade(context), name.clone());
                reference.watch(context.client.clone(), move || {
                    if let Some(context) = weak.upgrade() {
                        context.stores.reference_changed(&name);
                        context.wake_store(&name);
                    }
                })
            });
        }
    });
}

/// Passes what a client tells on to the metrics of its store, and what the status speaks of to the store.
struct Observe {
    metrics: Arc<StoreMetrics>,
    store: StoreName,
    context: Weak<Context>,
}

impl Observer for Observe {
    fn request(&self, operation: Operation, outcome: Outcome, took: Duration) {
        self.metrics.request(operation.as_str(), outcome.as_str(), took);
    }

    fn handshake(&self) {
        self.metrics.handshake();
    }

    fn clock(&self, _: bool) {
        if let Some(context) = self.context.upgrade() {
            context.wake_store(&self.store);
        }
    }
}
