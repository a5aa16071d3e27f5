//! Who is let in: certificates, tokens, service accounts, and what they may do.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::{post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Body, DONE, Done, Failure, find};
use crate::domain::ServiceAccount;
use crate::grants::Grants;
use crate::pki::{ClientCertificate, Naming, Validity};
use crate::sim::Sim;

/// The routes of a domain.
pub(super) fn router() -> Router<Arc<Sim>> {
    Router::new()
        .route("/certificates", post(issue_certificate))
        .route("/tokens", post(issue_token))
        .route("/service-accounts", post(issue_service_account))
        .route("/access-tokens/revocations", post(revoke_access_tokens))
        .route("/grants", put(grant))
        .route("/revocations", post(revoke))
}

/// Days, or the exact time; neither: 365 days.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AskedCertificate {
    #[serde(default)]
    naming: Naming,
    days: Option<u32>,
    starts_in: Option<i64>,
    ends_in: Option<i64>,
}

impl AskedCertificate {
    fn validity(&self) -> Result<Validity, Failure> {
        match (self.days, self.starts_in, self.ends_in) {
            (Some(days), None, None) => Ok(Validity::days(days)),
            (None, Some(starts_in), Some(ends_in)) => Ok(Validity { starts_in, ends_in }),
            (None, None, None) => Ok(Validity::default()),
            _ => Err(Failure::bad("give days, or startsIn and endsIn, or none of them")),
        }
    }
}

async fn issue_certificate(
    State(sim): State<Arc<Sim>>,
    Path(domain): Path<String>,
    Body(asked): Body<AskedCertificate>,
) -> Answer<ClientCertificate> {
    Ok(Json(find(&sim, &domain)?.issue_client_certificate_named(asked.naming, asked.validity()?)?))
}

pub(super) async fn issue_foreign_certificate(
    State(sim): State<Arc<Sim>>,
    Body(asked): Body<AskedCertificate>,
) -> Answer<ClientCertificate> {
    Ok(Json(sim.foreign_domain().issue_client_certificate_named(asked.naming, asked.validity()?)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedToken {
    seconds: Option<u64>,
}

async fn issue_token(
    State(sim): State<Arc<Sim>>,
    Path(domain): Path<String>,
    Body(asked): Body<AskedToken>,
) -> Answer<Value> {
    let domain = find(&sim, &domain)?;
    let token = match asked.seconds {
        Some(seconds) => domain.issue_token_for(Duration::from_secs(seconds)),
        None => domain.issue_token(),
    };
    Ok(Json(json!({"token": token})))
}

async fn issue_service_account(State(sim): State<Arc<Sim>>, Path(domain): Path<String>) -> Answer<ServiceAccount> {
    Ok(Json(find(&sim, &domain)?.issue_service_account()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AskedAccount {
    client_id: String,
}

async fn revoke_access_tokens(
    State(sim): State<Arc<Sim>>,
    Path(domain): Path<String>,
    Body(asked): Body<AskedAccount>,
) -> Done {
    find(&sim, &domain)?.revoke_access_tokens(&asked.client_id);
    DONE
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedGrants {
    identity: String,
    grants: Grants,
}

async fn grant(State(sim): State<Arc<Sim>>, Path(domain): Path<String>, Body(asked): Body<AskedGrants>) -> Done {
    find(&sim, &domain)?.grant(&asked.identity, asked.grants)?;
    DONE
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedRevocation {
    identity: String,
}

async fn revoke(State(sim): State<Arc<Sim>>, Path(domain): Path<String>, Body(asked): Body<AskedRevocation>) -> Done {
    find(&sim, &domain)?.revoke(&asked.identity)?;
    DONE
}
