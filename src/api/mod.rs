//! The custom resources: their types, the rules that the API server holds them to, their conditions and reasons.
//!
//! Nothing here calls an API, reads a clock or decides anything. A field's documentation is what `kubectl explain` prints, so it is
//! written for users. Fields under `spec` have no defaults in the schema, because a `GitOps` tool would see them as drift: what an
//! absent field means is said by a method. Start with [`OkmsSecretSpec`] and [`Connection`]; [`crds`] makes the YAML.

pub mod condition;
mod crd;
mod interval;
pub mod names;
// KubeSchema copies each struct, `pub` included, into a function; and `kubectl explain` shows no Markdown.
#[allow(unreachable_pub, clippy::doc_markdown)]
mod okms_secret;
mod reason;
#[allow(unreachable_pub, clippy::doc_markdown)]
mod store;
#[allow(unreachable_pub, clippy::doc_markdown)]
mod target;

pub use crd::crds;
pub use interval::{Interval, IntervalError};
pub use okms_secret::{
    Decode, KeySpec, OkmsSecret, OkmsSecretSpec, OkmsSecretStatus, OnKeyConflict, SourceSpec, SourceStatus, StoreRef,
    StoreRefKind, TargetStatus, WithdrawalPolicy,
};
pub use reason::{Reason, StoreReason, TargetChange};
pub use store::{
    AccessRule, Auth, CaSource, CertificateStatus, ChecksStatus, ClientCertificateAuth, ClusterOkmsStore,
    ClusterOkmsStoreSpec, Connection, IsStore, KeyRef, Limits, OAuth2Auth, OkmsStore, OkmsStoreSpec, SecretRef, Store,
    StoreStatus, TokenAuth, WithdrawalHeld, WithdrawalLimit,
};
pub use target::{
    CreationPolicy, TargetSpec, TemplateConfigMap, TemplateMetadata, TemplateMode, TemplateSource, TemplateSpec,
};
