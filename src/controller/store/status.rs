//! Says in a store's status, and in events, how the store stands. The only code that writes the status of a store.
//!
//! `Ready` speaks of the spec of the generation that it names. While what is in use is that of an older one, because the present one
//! cannot be used, `Ready` is False, though everything that was read before goes on being read.

use std::mem;

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Api, Resource};

use super::{super::Context, expiry, row::Row};
use crate::{
    api::{
        ChecksStatus, Interval, Store, StoreReason, StoreStatus, WithdrawalHeld,
        condition::{self, Statement, Status, kind},
        names,
    },
    feed::{ByPath, Checks, Health, Standing},
    k8s::WriteError,
    model::StoreTrouble,
};

/// Writes the status if it changes. `looked`: what the store refers to could be looked at.
pub(super) async fn write(context: &Context, store: &Store, looked: bool) -> Result<(), WriteError> {
    let name = store.name();
    let standing = context.feed.standing(&name);
    let domain = context.feed.domain(&name);
    let generation = store.generation();
    let (old, new) = context.stores.with(&name, |row| {
        row.status.catch_up(store.status());
        let old = row.status.or(store.status()).cloned();
        let observed = old.as_ref().is_some_and(|old| old.observed_generation == generation);
        let unknown = standing.as_ref().is_none_or(|standing| standing.health == Health::Unproven);
        if unknown && row.trouble.is_none() && observed {
            // The operator started, and nothing speaks against what its predecessor said.
            return (old.clone(), old.unwrap_or_default());
        }
        if let Some(standing) = &standing
            && standing.health == Health::Ready
        {
            if standing.proving || !looked {
                if !row.uses_what_is_said_by(store) {
                    // Nothing is said of this generation before it is known.
                    return (old.clone(), old.unwrap_or_default());
                }
            } else if standing.rejected.is_none() && row.trouble.is_none() {
                row.settle();
            }
        } else if !looked && !observed && old.is_some() {
            // What is wrong with the generation before says nothing of this one.
            return (old.clone(), old.unwrap_or_default());
        }
        let mut status = old.clone().unwrap_or_default();
        status.observed_generation = generation;
        status.okms_id = domain.map(|domain| domain.okms_id.to_string());
        status.certificate.clone_from(&row.certificate);
        let answered = standing.as_ref().filter(|standing| standing.health != Health::Unproven);
        status.checks = answered.map(|standing| checks(standing.checks));
        status.withdrawal_held = standing
            .as_ref()
            .and_then(|standing| standing.held.clone())
            .map(|(id, count)| WithdrawalHeld { id, count: i32::try_from(count).unwrap_or(i32::MAX) });
        set_conditions(context, store, &mut status, row, standing.as_ref());
        (old, status)
    });
    context.stores.with(&name, |row| row.to_warn.extend(failing(old.as_ref(), &new)));
    if old.as_ref() == Some(&new) {
        tell(context, store, &new);
        return Ok(());
    }
    let (term, client) = (&context.term, context.client.clone());
    let (mut last, heard) = context.stores.with(&name, |row| (mem::take(&mut row.status), row.heard.clone()));
    let written = match store {
        Store::Cluster(store) => last.write(term, &Api::all(client), &**store, new.clone()).await,
        Store::Namespaced(store) => {
            let namespace = store.metadata.namespace.as_deref().unwrap_or_default();
            last.write(term, &Api::namespaced(client, namespace), &**store, new.clone()).await
        }
    };
    context.stores.with(&name, |row| {
        // Of one that was made again meanwhile nothing is known.
        if row.heard == heard {
            row.status = last;
        }
    });
    written?;
    tell(context, store, &new);
    Ok(())
}

fn set_conditions(context: &Context, store: &Store, status: &mut StoreStatus, row: &Row, standing: Option<&Standing>) {
    let now = context.config.clock.now();
    let generation = status.observed_generation;
    let in_use = standing.is_some_and(|standing| standing.health == Health::Ready);
    let rejected = standing.and_then(|standing| standing.rejected.as_ref()).or(row.trouble.as_ref().filter(|_| in_use));
    let of_this_spec = row.uses_what_is_said_by(store);

    let (ready, reason, message) = ready(standing, row.trouble.as_ref(), rejected.filter(|_| !of_this_spec));
    let statement = Statement { status: ready, reason: reason.as_str(), message };
    condition::set_ready(&mut status.conditions, statement, reason.progress(), generation, now);

    let rejected = rejected.map(|trouble| {
        let message = format!("the change is not taken up, and what was in use stays so: {}", trouble.message);
        (StoreReason::from(trouble.kind).as_str(), message)
    });
    let expiring = status.certificate.as_ref().and_then(|certificate| {
        let not_after = certificate.not_after.0;
        let stage = expiry::stage(not_after, now)?;
        let ends = if stage == expiry::Stage::Expired { "has ended" } else { "ends" };
        let message = format!(
            "the client certificate {ends} at {not_after}: create a new access certificate, and put it in the place of the old \
             one ({})",
            place(context, store)
        );
        Some((stage.reason(), message))
    });
    let throttled = standing.and_then(|standing| standing.throttled_to).map(|interval| {
        let interval = Interval::from(interval);
        let limit = match store {
            Store::Cluster(_) => "spec.limits.requestsPerSecond",
            Store::Namespaced(_) => "the operator's limit on requests for a store of a namespace",
        };
        (
            "TooManySources",
            format!("{limit} cannot hold the intervals asked for: some sources are checked only every {interval}"),
        )
    });
    let held = status.withdrawal_held.as_ref().map(|held| {
        let message = format!(
            "more Secrets would be deleted within an hour than maxWithdrawalsPerHour allows; look at the OkmsSecrets that are \
             WithdrawalHeld, then confirm with: kubectl annotate --overwrite {} {}={}",
            command_name(store),
            names::CONFIRM_WITHDRAWAL_ANNOTATION,
            held.id
        );
        ("BudgetExceeded", message)
    });
    let clock = row.proven.as_ref().map_or(&row.clock, |proven| &proven.clock);
    let clock = clock.problem().map(|problem| ("ClocksDiffer", problem.to_string()));
    for (kind, said) in [
        (kind::CLOCK_SKEWED, clock),
        (kind::CREDENTIALS_EXPIRING, expiring),
        (kind::CREDENTIALS_REJECTED, rejected),
        (kind::THROTTLED, throttled),
        (kind::WITHDRAWAL_HELD, held),
    ] {
        match said {
            Some((reason, message)) => {
                let statement = Statement { status: Status::True, reason, message };
                condition::set(&mut status.conditions, kind, statement, generation, now);
            }
            None => condition::clear(&mut status.conditions, kind),
        }
    }
}

fn checks(way: Checks) -> ChecksStatus {
    let (by, message) = match way {
        Checks::List => {
            ("List", "the list of secrets shows at once which of them are unchanged; the others are looked at by path")
        }
        Checks::Path(ByPath::Cheaper) => (
            "Path",
            "so few paths are followed, or the list of secrets has so many others, that it would not save enough",
        ),
        Checks::Path(ByPath::Unsuitable) => (
            "Path",
            "the list of secrets does not show enough of them with their version to tell that they are unchanged",
        ),
        Checks::Path(ByPath::Refused) => (
            "Path",
            "OKMS refuses the list of secrets, or answers it in a way that is not understood; it is tried again within about an hour",
        ),
        Checks::Path(ByPath::Failing) => {
            ("Path", "the list of secrets broke off or took too long; it is tried again, after an hour at the latest")
        }
    };
    ChecksStatus { by: by.to_owned(), message: message.to_owned() }
}

/// `unused`: what this generation of the spec says is not in use, but what an older one said.
fn ready(
    standing: Option<&Standing>,
    trouble: Option<&StoreTrouble>,
    unused: Option<&StoreTrouble>,
) -> (Status, StoreReason, String) {
    let health = standing.map_or(&Health::Unproven, |standing| &standing.health);
    match (health, unused, trouble) {
        (Health::Ready, Some(trouble), _) => {
            let message = format!("{}; until then what the store said before stays in use", trouble.message);
            (Status::False, trouble.kind.into(), message)
        }
        (Health::Ready, None, _) => {
            (Status::True, StoreReason::Reachable, "OKMS answers and accepts the credential".to_owned())
        }
        // What was wrong before says nothing of what is being tried now.
        (Health::Down { .. }, _, None) if standing.is_some_and(|standing| standing.proving) => waiting(),
        (Health::Down { trouble }, ..) | (Health::Unproven, _, Some(trouble)) => {
            (Status::False, trouble.kind.into(), trouble.message.clone())
        }
        (Health::Unproven, _, None) => waiting(),
    }
}

fn waiting() -> (Status, StoreReason, String) {
    (Status::False, StoreReason::Progressing, "waiting for the first answer of OKMS".to_owned())
}

/// Where people put a credential of the store.
fn place(context: &Context, store: &Store) -> String {
    let auth = store.connection().auth.client_certificate.as_ref();
    match auth.map(|auth| (&auth.mount, &auth.secret_ref)) {
        Some((Some(mount), _)) => format!("the Secret that is mounted as {mount}"),
        Some((_, Some(reference))) => {
            format!("Secret {}/{}", super::credential::namespace_of(&context.config, store), reference.name)
        }
        _ => "where spec.auth says".to_owned(),
    }
}

/// What kubectl calls the store.
fn command_name(store: &Store) -> String {
    let name = store.name();
    let kind = name.kind().to_lowercase();
    match name.namespace() {
        Some(namespace) => format!("{kind} {} -n {namespace}", name.name()),
        None => format!("{kind} {}", name.name()),
    }
}

/// The conditions that begin to fail: the store stopped working, a credential was not taken, or comes to its end.
fn failing(old: Option<&StoreStatus>, new: &StoreStatus) -> impl Iterator<Item = &'static str> {
    let before = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let kinds = [kind::READY, kind::CREDENTIALS_EXPIRING, kind::CREDENTIALS_REJECTED, kind::CLOCK_SKEWED];
    kinds.into_iter().filter(|kind| {
        condition::find(&new.conditions, kind).is_some_and(|now| {
            fails(kind, now) && condition::find(before, kind).is_none_or(|before| before.reason != now.reason)
        })
    })
}

fn fails(kind: &str, condition: &Condition) -> bool {
    let failure = if kind == kind::READY { "False" } else { "True" };
    condition.status == failure && condition.reason != StoreReason::Progressing.as_str()
}

/// Tells of what began to fail, now that the status says it.
fn tell(context: &Context, store: &Store, status: &StoreStatus) {
    let name = store.name();
    for kind in context.stores.with(&name, |row| mem::take(&mut row.to_warn)) {
        let Some(now) = condition::find(&status.conditions, kind).filter(|now| fails(kind, now)) else { continue };
        tracing::warn!(store = name.full(), condition = kind, reason = now.reason, "{}", now.message);
        let reference: ObjectReference = match store {
            Store::Cluster(store) => store.object_ref(&()),
            Store::Namespaced(store) => store.object_ref(&()),
        };
        context.events.failing(&context.term, reference, &now.reason, &now.message);
    }
}
