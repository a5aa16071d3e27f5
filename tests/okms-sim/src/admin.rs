//! The admin port: the in-process interface as JSON over plain HTTP on loopback.
//!
//! One handler per call of [`Sim`] or [`Domain`]; nothing is decided here. No authentication, and therefore never on any
//! other address. The README lists the routes.

mod identities;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::counters::Counters;
use crate::domain::{Domain, DomainError, Metadata};
use crate::fault::{Fault, FaultId};
use crate::sim::Sim;
use crate::switches::Switches;

/// A running admin port. It ends when it is dropped.
pub struct Admin {
    address: SocketAddr,
    _running: DropGuard,
}

impl Admin {
    pub async fn start(sim: Arc<Sim>, listen: SocketAddr) -> Result<Self> {
        ensure!(listen.ip().is_loopback(), "the admin port listens on loopback only, not on {listen}");
        let listener = TcpListener::bind(listen).await.with_context(|| format!("binding the admin port {listen}"))?;
        let address = listener.local_addr()?;
        let stopped = CancellationToken::new();
        let serving = axum::serve(listener, router(sim)).with_graceful_shutdown(stopped.clone().cancelled_owned());
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the admin port ended");
            }
        });
        Ok(Self { address, _running: stopped.drop_guard() })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn router(sim: Arc<Sim>) -> Router {
    let domain = Router::new()
        .merge(identities::router())
        .route("/config", put(set_config))
        .route("/secrets", post(put_secret))
        .route("/secrets/seed", post(seed))
        .route("/secrets/state", post(set_state))
        .route("/secrets/metadata", post(set_metadata))
        .route("/secrets/delete", post(delete));
    Router::new()
        .route("/domains", get(domains).post(add_domain))
        .nest("/domains/{domain}", domain)
        .route("/foreign-certificates", post(identities::issue_foreign_certificate))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/faults/{id}", axum::routing::delete(clear_fault))
        .route("/switches", get(switches).patch(change_switches))
        .route("/counters", get(counters).delete(reset_counters))
        .route("/clock", post(advance))
        .route("/stop", post(stop))
        .route("/restart", post(restart))
        .with_state(sim)
}

/// An error as JSON: `{"error": "…"}`.
struct Failure(StatusCode, String);

impl Failure {
    fn missing(text: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, text.into())
    }

    fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
    }
}

impl From<DomainError> for Failure {
    fn from(error: DomainError) -> Self {
        match error {
            DomainError::BadDuration | DomainError::VersionsExhausted => Self::bad(error.to_string()),
            DomainError::SecretMissing | DomainError::VersionMissing | DomainError::UnknownIdentity => {
                Self::missing(error.to_string())
            }
        }
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self(rejection.status(), rejection.body_text())
    }
}

/// A JSON body whose refusal is JSON, too.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(Failure))]
struct Body<T>(T);

type Answer<T> = Result<Json<T>, Failure>;
type Done = Result<StatusCode, Failure>;

const DONE: Done = Ok(StatusCode::NO_CONTENT);

/// A domain by its id, or `first`.
fn find(sim: &Sim, name: &str) -> Result<Domain, Failure> {
    if name == "first" {
        return Ok(sim.domain());
    }
    name.parse()
        .ok()
        .and_then(|okms_id| sim.find_domain(okms_id))
        .ok_or_else(|| Failure::missing("no domain has this id"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownDomain {
    okms_id: Uuid,
}

impl From<&Domain> for ShownDomain {
    fn from(domain: &Domain) -> Self {
        Self { okms_id: domain.uuid() }
    }
}

async fn domains(State(sim): State<Arc<Sim>>) -> Json<Vec<ShownDomain>> {
    Json(sim.domains().iter().map(ShownDomain::from).collect())
}

async fn add_domain(State(sim): State<Arc<Sim>>) -> Json<ShownDomain> {
    Json(ShownDomain::from(&sim.add_domain()))
}

async fn set_config(State(sim): State<Arc<Sim>>, Path(domain): Path<String>, Body(config): Body<Metadata>) -> Done {
    find(&sim, &domain)?.set_config(&config)?;
    DONE
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedSecret {
    path: String,
    data: Value,
}

async fn put_secret(
    State(sim): State<Arc<Sim>>,
    Path(domain): Path<String>,
    Body(asked): Body<AskedSecret>,
) -> Answer<Value> {
    let version = find(&sim, &domain)?.try_put(&asked.path, &asked.data)?;
    Ok(Json(json!({"version": version})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedSeed {
    count: usize,
    prefix: String,
    data: Option<Value>,
}

/// Paths `<prefix>0`, `<prefix>1`, …; where no data is given, `{"value": "<the number>"}`.
async fn seed(State(sim): State<Arc<Sim>>, Path(domain): Path<String>, Body(asked): Body<AskedSeed>) -> Done {
    find(&sim, &domain)?.seed(asked.count, |index| {
        let data = asked.data.clone();
        let data = data.unwrap_or_else(|| json!({"value": index.to_string()}));
        (format!("{}{index}", asked.prefix), data)
    });
    DONE
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum AskedState {
    Active,
    Deactivated,
    Deleted,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedVersion {
    path: String,
    /// The current one if absent.
    version: Option<u32>,
    state: AskedState,
}

async fn set_state(State(sim): State<Arc<Sim>>, Path(domain): Path<String>, Body(asked): Body<AskedVersion>) -> Done {
    let domain = find(&sim, &domain)?;
    let version = match asked.version {
        Some(version) => version,
        None => domain.current_version(&asked.path).ok_or(DomainError::SecretMissing)?,
    };
    match asked.state {
        AskedState::Active => domain.activate(&asked.path, version)?,
        AskedState::Deactivated => domain.deactivate(&asked.path, version)?,
        AskedState::Deleted => domain.destroy(&asked.path, version)?,
    }
    DONE
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedMetadata {
    path: String,
    metadata: Metadata,
}

async fn set_metadata(
    State(sim): State<Arc<Sim>>,
    Path(domain): Path<String>,
    Body(asked): Body<AskedMetadata>,
) -> Done {
    find(&sim, &domain)?.set_metadata(&asked.path, asked.metadata)?;
    DONE
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedDeletion {
    path: String,
}

async fn delete(State(sim): State<Arc<Sim>>, Path(domain): Path<String>, Body(asked): Body<AskedDeletion>) -> Done {
    find(&sim, &domain)?.delete(&asked.path)?;
    DONE
}

#[derive(Serialize)]
struct ShownFault {
    id: FaultId,
    fault: Fault,
}

async fn faults(State(sim): State<Arc<Sim>>) -> Json<Vec<ShownFault>> {
    let faults = sim.faults().into_iter();
    Json(faults.map(|(id, fault)| ShownFault { id, fault }).collect())
}

async fn add_fault(State(sim): State<Arc<Sim>>, Body(fault): Body<Fault>) -> Json<Value> {
    Json(json!({"id": sim.fault(fault)}))
}

async fn clear_fault(State(sim): State<Arc<Sim>>, Path(id): Path<u64>) -> Done {
    if sim.clear_fault(FaultId::from(id)) { DONE } else { Err(Failure::missing("no fault has this id")) }
}

async fn clear_faults(State(sim): State<Arc<Sim>>) -> StatusCode {
    sim.clear_faults();
    StatusCode::NO_CONTENT
}

async fn switches(State(sim): State<Arc<Sim>>) -> Json<Switches> {
    Json(sim.switches())
}

/// Changes the switches named in the body, and shows all.
async fn change_switches(
    State(sim): State<Arc<Sim>>,
    Body(change): Body<serde_json::Map<String, Value>>,
) -> Answer<Switches> {
    let mut all: serde_json::Map<_, _> = convert(json!(sim.switches()))?;
    all.extend(change);
    let changed: Switches = convert(Value::Object(all))?;
    sim.with_switches(|switches| *switches = changed.clone());
    Ok(Json(changed))
}

fn convert<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| Failure::bad(error.to_string()))
}

async fn counters(State(sim): State<Arc<Sim>>) -> Json<Counters> {
    Json(sim.counters())
}

async fn reset_counters(State(sim): State<Arc<Sim>>) -> StatusCode {
    sim.reset_counters();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AskedAdvance {
    advance_seconds: u64,
}

async fn advance(State(sim): State<Arc<Sim>>, Body(asked): Body<AskedAdvance>) -> StatusCode {
    sim.advance(Duration::from_secs(asked.advance_seconds));
    StatusCode::NO_CONTENT
}

async fn stop(State(sim): State<Arc<Sim>>) -> StatusCode {
    sim.stop().await;
    StatusCode::NO_CONTENT
}

async fn restart(State(sim): State<Arc<Sim>>) -> Done {
    sim.restart().await?;
    DONE
}
