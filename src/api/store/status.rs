//! What the operator found out about a store of either kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::super::{condition, okms_secret::NOT_OBSERVED};

/// What the operator found out about the store.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// The metadata.generation that this status speaks of; -1: not looked at yet.
    pub observed_generation: i64,

    /// Ready: whether secrets can be read through the store. The others exist only while true: Reconciling, Stalled,
    /// CredentialsExpiring, CredentialsRejected, ClockSkewed, Throttled, WithdrawalHeld.
    #[schemars(schema_with = "condition::schema")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,

    /// The id of the OKMS domain in use.
    #[schemars(length(max = 36))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub okms_id: Option<String>,

    /// The client certificate in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,

    /// Which way secrets without a pinned version are checked while nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<ChecksStatus>,

    /// Withdrawals that wait to be confirmed. To confirm, set the annotation okms-operator.io/confirm-withdrawal to the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal_held: Option<WithdrawalHeld>,
}

/// As the CRD defaults it: an object that nobody looked at yet never counts as done.
impl Default for StoreStatus {
    fn default() -> Self {
        Self {
            observed_generation: NOT_OBSERVED,
            conditions: Vec::new(),
            okms_id: None,
            certificate: None,
            checks: None,
            withdrawal_held: None,
        }
    }
}

/// The client certificate in use.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// When it ends.
    #[schemars(schema_with = "time")]
    pub not_after: Time,

    /// Its serial number written as a UUID, which is the id under which OVHcloud lists it.
    #[schemars(length(max = 128))]
    pub serial: String,
}

fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// Which way secrets are checked while nothing changes.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChecksStatus {
    /// List: by the list of all secrets, 100 with each call; what it does not show unchanged is looked at by its path. Path: by one call for
    /// each path.
    #[schemars(schema_with = "by")]
    pub by: String,

    /// Why.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// An open set.
fn by(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 32})
}

/// Withdrawals that wait to be confirmed.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WithdrawalHeld {
    /// What to confirm; it changes when more are held.
    #[schemars(length(max = 64))]
    pub id: String,

    /// How many Secrets are held.
    pub count: i32,
}
