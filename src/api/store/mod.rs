//! The two kinds of store: [`ClusterOkmsStore`], which is shared by rules, and [`OkmsStore`], which belongs to its namespace.
//!
//! As for [`super::OkmsSecretSpec`], the rules refuse at admission what can never work; the types stay plain text. What both kinds
//! say is a [`Connection`]; [`Store`] is either of them.

mod access;
mod auth;
mod connection;
mod limits;
mod status;

use std::sync::Arc;

use kube::{CustomResource, KubeSchema, Resource, ResourceExt, core::ObjectMeta};
use serde::{Deserialize, Serialize};

pub use self::{
    access::AccessRule,
    auth::{Auth, CaSource, ClientCertificateAuth, KeyRef, OAuth2Auth, SecretRef, TokenAuth},
    connection::{Connection, WithdrawalLimit},
    limits::Limits,
    status::{CertificateStatus, ChecksStatus, StoreStatus, WithdrawalHeld},
};
use crate::model::StoreName;

/// A connection to one OKMS domain, shared with the namespaces that its access rules name.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "okms-operator.io",
    version = "v1alpha1",
    kind = "ClusterOkmsStore",
    plural = "clusterokmsstores",
    shortname = "cokst",
    category = "okms",
    status = "StoreStatus",
    derive = "PartialEq",
    doc = "A connection to one OKMS domain, shared with the namespaces that its access rules name.",
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status", "description": "Whether secrets can be read through it."}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason", "description": "Why it is, or is not, ready."}"#,
    printcolumn = r#"{"name": "Endpoint", "type": "string", "jsonPath": ".spec.endpoint", "description": "The OKMS that it reads."}"#,
    printcolumn = r#"{"name": "Expires", "type": "string", "jsonPath": ".status.certificate.notAfter", "description": "When the client certificate ends."}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (DOMAIN_KNOWN, DOMAIN_KNOWN_MESSAGE))]
pub struct ClusterOkmsStoreSpec {
    #[serde(flatten)]
    pub connection: Connection,

    /// Bounds on the requests to OKMS: requestsPerSecond, concurrentRequests and timeout. Default: those of its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,

    /// Which namespaces may read which paths, at most 128 rules; any of them may allow it. Default: nobody may read anything.
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Vec<AccessRule>>,
}

/// A connection to one OKMS domain for the OkmsSecrets of its own namespace.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "okms-operator.io",
    version = "v1alpha1",
    kind = "OkmsStore",
    plural = "okmsstores",
    shortname = "okst",
    category = "okms",
    namespaced,
    status = "StoreStatus",
    derive = "PartialEq",
    doc = "A connection to one OKMS domain for the OkmsSecrets of its own namespace.",
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status", "description": "Whether secrets can be read through it."}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason", "description": "Why it is, or is not, ready."}"#,
    printcolumn = r#"{"name": "Endpoint", "type": "string", "jsonPath": ".spec.endpoint", "description": "The OKMS that it reads."}"#,
    printcolumn = r#"{"name": "Expires", "type": "string", "jsonPath": ".status.certificate.notAfter", "description": "When the client certificate ends."}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (DOMAIN_KNOWN, DOMAIN_KNOWN_MESSAGE))]
pub struct OkmsStoreSpec {
    #[serde(flatten)]
    pub connection: Connection,
}

const DOMAIN_KNOWN: &str = "has(self.okmsId) || has(self.auth.clientCertificate)";
const DOMAIN_KNOWN_MESSAGE: &str = "a token or a service account names no OKMS domain: give its id, a UUID, as okmsId";

/// What is a store.
pub trait IsStore: Resource<DynamicType = ()> {
    fn store_name(&self) -> StoreName;
}

impl IsStore for ClusterOkmsStore {
    fn store_name(&self) -> StoreName {
        StoreName::ClusterOkmsStore(self.name_any().into())
    }
}

impl IsStore for OkmsStore {
    fn store_name(&self) -> StoreName {
        StoreName::OkmsStore { namespace: self.namespace().unwrap_or_default().into(), name: self.name_any().into() }
    }
}

/// A store of either kind.
#[derive(Debug, Clone)]
pub enum Store {
    Cluster(Arc<ClusterOkmsStore>),
    Namespaced(Arc<OkmsStore>),
}

impl Store {
    pub fn name(&self) -> StoreName {
        match self {
            Self::Cluster(store) => store.store_name(),
            Self::Namespaced(store) => store.store_name(),
        }
    }

    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Cluster(store) => &store.metadata,
            Self::Namespaced(store) => &store.metadata,
        }
    }

    pub fn generation(&self) -> i64 {
        self.metadata().generation.unwrap_or(0)
    }

    pub fn connection(&self) -> &Connection {
        match self {
            Self::Cluster(store) => &store.spec.connection,
            Self::Namespaced(store) => &store.spec.connection,
        }
    }

    /// The limits that its owner may set: those of a namespace's store are the operator's.
    pub fn limits(&self) -> Limits {
        match self {
            Self::Cluster(store) => store.spec.limits.clone().unwrap_or_default(),
            Self::Namespaced(_) => Limits::default(),
        }
    }

    pub fn status(&self) -> Option<&StoreStatus> {
        match self {
            Self::Cluster(store) => store.status.as_ref(),
            Self::Namespaced(store) => store.status.as_ref(),
        }
    }
}
