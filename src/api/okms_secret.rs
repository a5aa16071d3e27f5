//! `OkmsSecret`: which secret of OKMS becomes which native Secret.
//!
//! The rules here refuse at admission what can never work, with a sentence that says what to do instead. They repeat what
//! [`crate::model`] parses; the types stay plain text, so that one object that slipped past an older CRD cannot break the watch
//! over all of them.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::model::StoreName;

use super::{Interval, TargetSpec, TemplateConfigMap, condition, names};

/// Keeps one native Secret equal to one or several secrets in OVHcloud OKMS Secret Manager.
///
/// The Secret is created in the namespace of the OkmsSecret, follows new versions of its sources, and goes away when a
/// source is deactivated or deleted (see withdrawalPolicy) or, unless creationPolicy says otherwise, when the OkmsSecret is
/// deleted.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "okms-operator.io",
    version = "v1alpha1",
    kind = "OkmsSecret",
    plural = "okmssecrets",
    shortname = "oks",
    category = "okms",
    namespaced,
    status = "OkmsSecretStatus",
    derive = "PartialEq",
    doc = "Keeps one native Secret equal to one or several secrets in OVHcloud OKMS Secret Manager.",
    selectable = ".status.store",
    selectable = ".status.target.name",
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status", "description": "Whether the Secret equals its source."}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason", "description": "Why it is, or is not, ready."}"#,
    printcolumn = r#"{"name": "Store", "type": "string", "jsonPath": ".status.store", "description": "The store that it is read from."}"#,
    printcolumn = r#"{"name": "Source", "type": "string", "jsonPath": ".status.summary", "description": "The path and version that the Secret was made from."}"#,
    printcolumn = r#"{"name": "Target", "type": "string", "jsonPath": ".status.target.name", "description": "The Secret."}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "has(self.path) != has(self.sources)",
        "give exactly one of path (one secret, such as path: prod/shop/db) and sources (a list of several)"
    ),
    validation = (
        "!has(self.sources) || (!has(self.version) && !has(self.keys) && !has(self.prefix))",
        "version, keys and prefix beside sources would belong to no source: write them into the entries of sources"
    ),
)]
pub struct OkmsSecretSpec {
    /// The store to read from. Default: the ClusterOkmsStore named "default".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<StoreRef>,

    /// The path of the secret in OKMS, such as prod/shop/db: 1 to 255 of the characters a-z A-Z 0-9 _ . : / = @ -, segments
    /// separated by single slashes. Give either path or sources.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = PATH_ALPHABET, validation = PATH_SLASHES, validation = PATH_DOTS)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,

    /// Pins the secret to this version, 1 to 24000. Default: follow the current version.
    #[schemars(range(min = 1, max = 24000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,

    /// Which fields of the secret become which keys of the Secret; at most 256. Default: every top-level field becomes a key
    /// under its own name.
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["to".into()]), validation = KEYS_GIVEN)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<KeySpec>>,

    /// Put before the name of every key that the secret gives, also of those under keys, such as DB_: up to 128 of the characters
    /// a-z A-Z 0-9 - _ and '.'. Default: nothing.
    #[schemars(length(max = 128))]
    #[x_kube(validation = PREFIX_ALPHABET)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,

    /// Several secrets that become one Secret, at most 16. All are read after the change that made it necessary, so that a
    /// certificate and its key in two paths change together. Give either path or sources.
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = (
            "self.size() > 0",
            "name at least one source, or leave sources out and give path"
        ),
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<SourceSpec>>,

    /// What happens when two sources give the same key: Error writes nothing and names both, LastWins takes that of the later
    /// source. Default: Error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_key_conflict: Option<OnKeyConflict>,

    /// How often the source is checked for a new version or a deactivation, such as 30s, 1m or 1h30m. 0s: not by itself, but
    /// when the spec changes, when the annotation okms-operator.io/refresh of the OkmsSecret gets another value, when the
    /// Secret has to be repaired, when another OkmsSecret has the same path checked, and when the operator starts or another
    /// replica leads; to stay on a version, pin it. Default: the store's refreshInterval. What is below the operator's own
    /// minimum (10s, unless it was installed with another) is stretched to it; status.refreshInterval shows the interval in
    /// force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<Interval>,

    /// What becomes of the Secret when its source is deactivated, destroyed, deleted or pruned in OKMS: Delete deletes it,
    /// Retain keeps it as it is, also the keys that an optional source gave. Default: the store's withdrawalPolicy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal_policy: Option<WithdrawalPolicy>,

    /// While true, nothing is read, written or deleted for this object, and its Ready condition is Unknown. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// The Secret to write. Default: one of type Opaque with the name of the OkmsSecret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetSpec>,
}

const PATH_ALPHABET: (&str, &str) = (
    "self.matches('^[a-zA-Z0-9_.:/=@-]*$')",
    "a path has only the characters a-z A-Z 0-9 _ . : / = @ -: write it as it is in OKMS, not percent-encoded",
);
const PATH_SLASHES: (&str, &str) = (
    "!self.startsWith('/') && !self.endsWith('/') && !self.contains('//')",
    "a path has no leading, trailing or double slash: write it like prod/shop/db",
);
const PATH_DOTS: (&str, &str) =
    ("!self.matches('(^|/)[.][.]?(/|$)')", "a path has no '.' or '..' segment: write the full path of the secret");
const KEYS_GIVEN: (&str, &str) =
    ("self.size() > 0", "name at least one key, or leave keys out: then every field of the secret becomes a key");
const PREFIX_ALPHABET: (&str, &str) = (
    "self.matches('^[-._a-zA-Z0-9]*$') && self != '.' && !self.startsWith('..')",
    "a prefix has only the characters a-z A-Z 0-9 - _ '.', as the keys that it begins, and neither is '.' nor begins with '..': \
     write one such as DB_",
);

/// One secret of several that become one Secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceSpec {
    /// The path of the secret in OKMS, such as prod/shop/db: 1 to 255 of the characters a-z A-Z 0-9 _ . : / = @ -, segments
    /// separated by single slashes.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = PATH_ALPHABET, validation = PATH_SLASHES, validation = PATH_DOTS)]
    pub path: String,

    /// Pins the secret to this version, 1 to 24000. Default: follow the current version.
    #[schemars(range(min = 1, max = 24000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,

    /// Which fields of the secret become which keys of the Secret; at most 256. Default: every top-level field becomes a key
    /// under its own name.
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["to".into()]), validation = KEYS_GIVEN)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<KeySpec>>,

    /// Put before the name of every key that the secret gives, also of those under keys, such as SMTP_: up to 128 of the
    /// characters a-z A-Z 0-9 - _ and '.'. Default: nothing.
    #[schemars(length(max = 128))]
    #[x_kube(validation = PREFIX_ALPHABET)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,

    /// Whether the source contributes nothing, instead of failing the whole, while OKMS has no such secret or took it back. With
    /// withdrawalPolicy Retain, what it gave before it was taken back stays. One that cannot be read still fails the whole.
    /// Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// What happens when two sources give the same key.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum OnKeyConflict {
    #[default]
    Error,
    LastWins,
}

/// Names a store.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// The kind of the store: ClusterOkmsStore, or OkmsStore for one of the same namespace. Default: ClusterOkmsStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<StoreRefKind>,

    /// The name of the store. Default: default.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "!format.dns1123Subdomain().validate(self).hasValue()",
        "write the name of a store as kubectl get clusterokmsstores or kubectl get okmsstores shows it: lower-case letters, \
         digits, '-' and '.'"
    ))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The kinds of store.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum StoreRefKind {
    #[default]
    ClusterOkmsStore,
    OkmsStore,
}

/// One key of the Secret and what it is made from.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.decode) || has(self.from)",
    "decode works on one field: name the field in from, or leave decode out"
))]
pub struct KeySpec {
    /// The key in the Secret, such as DB_PASSWORD or tls.crt: 1 to 253 of the characters a-z A-Z 0-9 - _ and '.'.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "self.matches('^[-._a-zA-Z0-9]*$') && self != '.' && !self.startsWith('..')",
        "a key of a Secret has only the characters a-z A-Z 0-9 - _ '.' and neither is '.' nor begins with '..': choose \
         another name for it, such as DB_PASSWORD"
    ))]
    pub to: String,

    /// The field of the secret: its name or, where there is no field of this name, a JSON pointer (RFC 6901) such as /tls/ca.
    /// Default: the whole secret, as JSON.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,

    /// Whether the key is left out when the secret has no such field; otherwise that is an error. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,

    /// How the field is decoded before it becomes the key: Base64 (the standard alphabet), Base64URL, or Auto, which tries
    /// Base64, then Base64URL, and else takes the text as it is. Auto also decodes a plain text that happens to be Base64.
    /// Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<Decode>,
}

/// How a field is decoded.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Decode {
    Base64,
    #[serde(rename = "Base64URL")]
    Base64Url,
    Auto,
}

/// What becomes of a Secret whose source was withdrawn.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum WithdrawalPolicy {
    #[default]
    Delete,
    Retain,
}

/// What the operator found and did.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OkmsSecretStatus {
    /// The metadata.generation that this status speaks of; -1: not looked at yet.
    pub observed_generation: i64,

    /// Ready: whether the Secret equals exactly the source versions shown here. Reconciling and Stalled exist only while true.
    #[schemars(schema_with = "condition::schema")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,

    /// The store that was read from, such as ClusterOkmsStore/default.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,

    /// The sources in short: the first as path@version, and how many more, such as prod/shop/db@7 +1.
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,

    /// Every source and the version of it that the Secret was made from.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<SourceStatus>>,

    /// The Secret that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,

    /// The interval in force.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<String>,

    /// When the content of the Secret last changed; not when it was last checked.
    #[schemars(schema_with = "optional_time")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,

    /// The value of the annotation okms-operator.io/refresh that was last acted on.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_refresh: Option<String>,
}

/// As the CRD defaults it: an object that nobody looked at yet never counts as done.
impl Default for OkmsSecretStatus {
    fn default() -> Self {
        Self {
            observed_generation: NOT_OBSERVED,
            conditions: Vec::new(),
            store: None,
            summary: None,
            sources: None,
            target: None,
            refresh_interval: None,
            last_sync_time: None,
            last_handled_refresh: None,
        }
    }
}

/// The `observedGeneration` of an object that no operator has looked at.
pub(super) const NOT_OBSERVED: i64 = -1;

/// One source and what is known of it.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The path in OKMS.
    #[schemars(length(max = 255))]
    pub path: String,

    /// The version that the Secret was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,

    /// The current version in OKMS; newer than version where that is pinned to an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<i32>,

    /// The state of the version in OKMS: Active, Deactivated, Destroyed or Deleted; others may be added.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,

    /// When OKMS is going to deactivate the version.
    #[schemars(schema_with = "optional_time")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deactivates_at: Option<Time>,
}

/// The Secret that was written.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// The name of the Secret.
    #[schemars(length(max = 253))]
    pub name: String,

    /// How many keys it has; with creationPolicy Merge, how many of them are those of the OkmsSecret.
    pub keys: i32,
}

/// A moment, without the description that Kubernetes has for the type.
fn optional_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "nullable": true})
}

impl OkmsSecret {
    /// Whether nothing was ever said of it.
    pub fn is_new(&self) -> bool {
        self.status.as_ref().is_none_or(|status| status.observed_generation == NOT_OBSERVED)
    }

    /// The store to read from. One of a namespace is one of the object's own: a reference cannot name another.
    pub fn store_name(&self) -> StoreName {
        let store = self.spec.store_ref.as_ref();
        let name = store.and_then(|store| store.name.as_deref()).unwrap_or(names::DEFAULT_STORE).into();
        match store.and_then(|store| store.kind).unwrap_or_default() {
            StoreRefKind::ClusterOkmsStore => StoreName::ClusterOkmsStore(name),
            StoreRefKind::OkmsStore => {
                StoreName::OkmsStore { namespace: self.namespace().unwrap_or_default().into(), name }
            }
        }
    }
}

impl OkmsSecret {
    /// Whether this is the store to read from: [`Self::store_name`] without making a name.
    pub fn names(&self, store: &StoreName) -> bool {
        let reference = self.spec.store_ref.as_ref();
        let name = reference.and_then(|store| store.name.as_deref()).unwrap_or(names::DEFAULT_STORE);
        let kind = reference.and_then(|store| store.kind).unwrap_or_default();
        **store.name() == *name
            && match store.namespace() {
                None => kind == StoreRefKind::ClusterOkmsStore,
                Some(namespace) => {
                    kind == StoreRefKind::OkmsStore && self.metadata.namespace.as_deref() == Some(&**namespace)
                }
            }
    }
}

impl OkmsSecretSpec {
    /// What is read: the entries of `sources`, or the one that `path` and what stands beside it mean.
    pub fn sources(&self) -> Cow<'_, [SourceSpec]> {
        match (&self.sources, &self.path) {
            (Some(sources), _) => Cow::Borrowed(sources),
            (None, Some(path)) => Cow::Owned(vec![SourceSpec {
                path: path.clone(),
                version: self.version,
                keys: self.keys.clone(),
                prefix: self.prefix.clone(),
                optional: None,
            }]),
            (None, None) => Cow::Borrowed(&[]),
        }
    }

    /// The ConfigMaps that templates come from.
    pub fn template_config_maps(&self) -> impl Iterator<Item = &TemplateConfigMap> {
        let template = self.target.as_ref().and_then(|target| target.template.as_ref());
        let sources = template.and_then(|template| template.template_from.as_ref());
        sources.into_iter().flatten().map(|source| &source.config_map)
    }

    pub fn is_suspended(&self) -> bool {
        self.suspend.unwrap_or(false)
    }
}

impl SourceSpec {
    pub fn is_optional(&self) -> bool {
        self.optional.unwrap_or(false)
    }
}

impl KeySpec {
    pub fn is_optional(&self) -> bool {
        self.optional.unwrap_or(false)
    }
}

impl OkmsSecret {
    /// The name of the Secret to write.
    pub fn target_name(&self) -> String {
        let named = self.spec.target.as_ref().and_then(|target| target.name.clone());
        named.unwrap_or_else(|| self.name_any())
    }

    /// The type of the Secret to write.
    pub fn target_type(&self) -> &str {
        self.spec.target.as_ref().and_then(|target| target.type_.as_deref()).unwrap_or("Opaque")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: &str) -> OkmsSecret {
        OkmsSecret::new("db", serde_json::from_str(spec).unwrap())
    }

    #[test]
    fn only_a_path_is_needed() {
        let object = object(r#"{"path": "prod/shop/db"}"#);
        assert_eq!(object.store_name().to_string(), "ClusterOkmsStore/default");
        assert_eq!((object.target_name().as_str(), object.target_type()), ("db", "Opaque"));
        assert!(!object.spec.is_suspended());
        assert_eq!(serde_json::to_string(&object.spec).unwrap(), r#"{"path":"prod/shop/db"}"#);
    }

    #[test]
    fn what_is_said_wins_over_what_is_meant_by_absence() {
        let object = object(
            r#"{"path": "a", "storeRef": {"name": "other"}, "suspend": true,
                "target": {"name": "db-credentials", "type": "kubernetes.io/tls"}}"#,
        );
        assert_eq!(object.store_name().to_string(), "ClusterOkmsStore/other");
        assert_eq!((object.target_name().as_str(), object.target_type()), ("db-credentials", "kubernetes.io/tls"));
        assert!(object.spec.is_suspended());
    }

    #[test]
    fn a_fresh_status_counts_as_not_looked_at() {
        let fresh: OkmsSecretStatus = serde_json::from_str(r#"{"observedGeneration": -1}"#).unwrap();
        assert_eq!(fresh, OkmsSecretStatus::default());
        assert_eq!(serde_json::to_string(&fresh).unwrap(), r#"{"observedGeneration":-1}"#);
    }
}
