//! What a client is to be made of: from what a store says, and what it refers to, to a [`Proposal`], or why not.

use std::time::Duration;

use super::{
    super::{Config, Context, NamespacedStores},
    credential::{Reader, token_endpoint},
    problem::Problem,
    row::{Proposal, Proven},
};
use crate::{
    api::{OkmsStore, Store},
    feed::Domain,
    model::OkmsId,
    okms::{ClientOptions, Credential, Endpoint},
};

/// What the spec names, if the operator may serve such a store at all. It looks at nothing that the store refers to.
pub(super) fn admitted(context: &Context, store: &Store) -> Result<Asked, Problem> {
    let asked = Asked::of(store)?;
    if let Store::Namespaced(own) = store {
        let namespace = own.metadata.namespace.as_deref().unwrap_or_default();
        let others = context.stores_of(namespace);
        let older = others.iter().take_while(|other| other.metadata.uid != own.metadata.uid).count();
        permitted(&context.config, own, &asked.endpoint, older)?;
    }
    Ok(asked)
}

/// What a client is to be made of, by the present spec and credential.
pub(super) async fn proposal(context: &Context, store: &Store, asked: Asked) -> Result<Proposal, Problem> {
    let (name, config, ca) = (store.name(), &context.config, &store.connection().ca);
    let (parsed, (authorities, since)) =
        context.stores.with(&name, |row| (row.parsed.clone(), row.authorities.get(ca.as_ref(), config.clock_check)));
    let reader = Reader::new(&context.client, config, store).remembering(parsed);
    let credential = reader.credential(&store.connection().auth, asked.okms_id.as_ref()).await?;
    let roots = if let Some(known) = authorities {
        known
    } else {
        let read = reader.roots("spec.ca", ca.as_ref()).await?;
        context.stores.with(&name, |row| row.authorities.read(ca.clone(), read.clone(), since));
        read
    };
    let okms_id = match asked.okms_id {
        Some(id) => id,
        None => domain_of(context, store, &asked.endpoint, &credential)?,
    };
    let domain = Domain { endpoint: asked.endpoint, okms_id };
    Ok(Proposal { domain, roots, credential, options: options_of(store) })
}

/// What the spec names.
pub(in crate::controller) struct Asked {
    pub endpoint: Endpoint,
    /// Absent: the one of the certificate.
    pub okms_id: Option<OkmsId>,
}

impl Asked {
    pub fn of(store: &Store) -> Result<Self, Problem> {
        let connection = store.connection();
        let spec = |field: &str, error: &dyn std::fmt::Display| Problem::spec(format!("spec.{field}: {error}"));
        let endpoint = connection.endpoint.parse().map_err(|error| spec("endpoint", &error))?;
        let okms_id = connection.okms_id.as_ref().map(|id| id.parse());
        let okms_id = okms_id.transpose().map_err(|error| spec("okmsId", &error))?;
        Ok(Self { endpoint, okms_id })
    }
}

/// The time limits that a store asks for.
pub(in crate::controller) fn options_of(store: &Store) -> ClientOptions {
    let timeout = store.limits().timeout();
    let connect_timeout = timeout.min(ClientOptions::default().connect_timeout);
    ClientOptions { timeout, connect_timeout, ..ClientOptions::default() }
}

/// Whether the operator may serve a store of a namespace: its owner chooses where a credential goes, and how many there are.
/// `older`: how many of its namespace come before it.
fn permitted(config: &Config, store: &OkmsStore, endpoint: &Endpoint, older: usize) -> Result<(), Problem> {
    let Some(settings) = &config.namespaced_stores else {
        return Err(Problem::not_allowed(
            "this operator serves no stores of namespaces (--namespaced-stores): read from a ClusterOkmsStore"
                .to_owned(),
        ));
    };
    let most = settings.max_per_namespace;
    if older >= most {
        return Err(Problem::not_allowed(format!(
            "namespace {} has more than {most} OkmsStores, of which the oldest are served: delete one that is not needed, or \
             have whoever installed the operator raise --max-stores-per-namespace",
            store.metadata.namespace.as_deref().unwrap_or_default()
        )));
    }
    allowed(settings, store, endpoint)
}

/// Whether a store of a namespace names only addresses that it may send a credential to.
pub(in crate::controller) fn allowed(
    settings: &NamespacedStores,
    store: &OkmsStore,
    endpoint: &Endpoint,
) -> Result<(), Problem> {
    let allowed = |field: &str, host: &str, port: u16| {
        if settings.allowed_endpoints.iter().any(|pattern| pattern.matches(host, port)) {
            return Ok(());
        }
        Err(Problem::not_allowed(format!(
            "{field}: https://{host}:{port} is not among the endpoints that stores of namespaces may name: correct it, or have \
             whoever installed the operator add it with --allowed-endpoint"
        )))
    };
    allowed("spec.endpoint", endpoint.host(), endpoint.port())?;
    if let Some(auth) = &store.spec.connection.auth.oauth2 {
        let endpoint = token_endpoint(auth)?;
        allowed("spec.auth.oauth2.tokenEndpoint", endpoint.host(), endpoint.port())?;
    }
    Ok(())
}

/// The domain that a credential names, for a store whose spec names none.
pub(in crate::controller) fn own_domain(credential: &Credential) -> Result<&OkmsId, Problem> {
    let Some(identity) = credential.identity() else {
        let message = "a token or a service account names no OKMS domain: give its id in spec.okmsId";
        return Err(Problem::spec(message.to_owned()));
    };
    identity.domain().map_err(|error| Problem::credential(error.to_string()))
}

/// The domain that a certificate names, for a store whose spec names none.
///
/// Once one of its certificates was in use, a certificate of another domain does not move the store there; only its spec does, by
/// okmsId or by another endpoint. An edit of anything else is no consent to that.
fn domain_of(
    context: &Context,
    store: &Store,
    endpoint: &Endpoint,
    credential: &Credential,
) -> Result<OkmsId, Problem> {
    let own = own_domain(credential)?;
    let bound: Option<OkmsId> = context.stores.with(&store.name(), |row| {
        if let Some(Proven { said, used, .. }) = &row.proven {
            let bound = said.leaves_domain_to_certificate() && used.domain.endpoint == *endpoint;
            return bound.then(|| used.domain.okms_id.clone());
        }
        // Nothing proved to work since the operator started, or since the credential went away.
        let status = row.status.or(store.status())?;
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
        row.proven.as_ref().map(|proven| &proven.used).is_some_and(|used| {
            connection.endpoint.parse().is_ok_and(|endpoint: Endpoint| endpoint == used.domain.endpoint)
                && connection
                    .okms_id
                    .as_ref()
                    .is_none_or(|id| id.parse().is_ok_and(|id: OkmsId| id == used.domain.okms_id))
                && used.credential.identity().is_none_or(|identity| identity.validity(now).is_ok())
        })
    })
}

/// When to look at a store again, because of the times that its certificates carry.
pub(super) fn next_look(context: &Context, until_expiry: Option<Duration>) -> Duration {
    until_expiry.map_or(context.config.clock_check, |wait| wait.min(context.config.clock_check))
}
