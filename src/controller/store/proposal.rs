//! What a client is to be made of: from what a store says, and what it refers to, to a [`Proposal`], or why not.

use std::time::Duration;

use super::{super::Context, credential::Reader, problem::Problem, row::Proposal};
use crate::{
    api::{OkmsStore, Store},
    feed::Domain,
    model::OkmsId,
    okms::{ClientOptions, Endpoint, Identity},
};

/// What a client is to be made of, by the present spec and credential.
pub(super) async fn proposal(context: &Context, store: &Store) -> Result<Proposal, Problem> {
    let connection = store.connection();
    let endpoint: Endpoint =
        connection.endpoint.parse().map_err(|error| Problem::spec(format!("spec.endpoint: {error}")))?;
    if let Store::Namespaced(store) = store {
        permitted(context, store, &endpoint)?;
    }
    let asked = connection.okms_id.as_ref().map(|id| id.parse());
    let asked = asked.transpose().map_err(|error| Problem::spec(format!("spec.okmsId: {error}")))?;
    let reader = Reader::new(context, store);
    let identity = reader.identity(&connection.auth, asked.as_ref()).await?;
    let roots = reader.roots("spec.ca", connection.ca.as_ref()).await?;
    let okms_id = match asked {
        Some(id) => id,
        None => domain_of(context, store, &identity)?,
    };
    let timeout = store.limits().timeout();
    let connect_timeout = timeout.min(ClientOptions::default().connect_timeout);
    let options = ClientOptions { timeout, connect_timeout, ..ClientOptions::default() };
    Ok(Proposal { domain: Domain { endpoint, okms_id }, roots, identity, options })
}

/// Whether the operator may serve a store of a namespace: its owner chooses where a credential goes, and how many there are.
fn permitted(context: &Context, store: &OkmsStore, endpoint: &Endpoint) -> Result<(), Problem> {
    let Some(settings) = &context.config.namespaced_stores else {
        return Err(Problem::not_allowed(
            "this operator serves no stores of namespaces (--namespaced-stores)".to_owned(),
        ));
    };
    let namespace = store.metadata.namespace.as_deref().unwrap_or_default();
    let most = settings.max_per_namespace;
    let older =
        context.stores_of(namespace).iter().take_while(|other| other.metadata.uid != store.metadata.uid).count();
    if older >= most {
        return Err(Problem::not_allowed(format!(
            "namespace {namespace} has more than {most} OkmsStores, of which the oldest are served: delete one that is not \
             needed, or have whoever installed the operator raise --max-stores-per-namespace"
        )));
    }
    if !settings.allowed_endpoints.iter().any(|pattern| pattern.matches(endpoint.host(), endpoint.port())) {
        return Err(Problem::not_allowed(format!(
            "spec.endpoint: {endpoint} is not among the endpoints that stores of namespaces may name: correct it, or have \
             whoever installed the operator add it with --allowed-endpoint"
        )));
    }
    Ok(())
}

/// The domain that a certificate names, for a store whose spec names none.
///
/// Once one of its certificates was in use, a certificate of another domain does not move the store there; only its spec does.
fn domain_of(context: &Context, store: &Store, identity: &Identity) -> Result<OkmsId, Problem> {
    let Some(own) = identity.okms_id() else {
        let message = "the client certificate names no OKMS domain: give its id in spec.okmsId";
        return Err(Problem::credential(message.to_owned()));
    };
    let bound: Option<OkmsId> = context.stores.with(&store.name(), |row| {
        let status = row.status.as_ref().or(store.status())?;
        let holds = row.certificate.is_some() && status.observed_generation == store.generation();
        status.okms_id.as_deref().filter(|_| holds)?.parse().ok()
    });
    match bound {
        Some(bound) if bound != *own => Err(Problem::credential(format!(
            "the client certificate is of OKMS domain {own}, and this store reads from {bound}: provide one of that domain, or \
             set spec.okmsId to {own} to read from the other"
        ))),
        _ => Ok(own.clone()),
    }
}

/// Whether what is in use may stay in use while what the store says now is unusable: it has not expired itself, and the spec does
/// not name another endpoint or domain by now.
pub(super) fn may_go_on(context: &Context, store: &Store) -> bool {
    let connection = store.connection();
    let now = context.config.clock.now();
    context.stores.with(&store.name(), |row| {
        row.proven.as_ref().is_some_and(|(_, used)| {
            connection.endpoint.parse().is_ok_and(|endpoint: Endpoint| endpoint == used.domain.endpoint)
                && connection
                    .okms_id
                    .as_ref()
                    .is_none_or(|id| id.parse().is_ok_and(|id: OkmsId| id == used.domain.okms_id))
                && used.identity.validity(now).is_ok()
        })
    })
}

/// When to look at a store again, because of the times that its certificates carry.
pub(super) fn next_look(context: &Context, until_expiry: Option<Duration>) -> Duration {
    until_expiry.map_or(context.config.clock_check, |wait| wait.min(context.config.clock_check))
}
