//! `ClusterOkmsStore`: a connection to one OKMS domain, and with whom it is shared.
//!
//! As for [`super::OkmsSecretSpec`], the rules refuse at admission what can never work; the types stay plain text.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::okms_secret::NOT_OBSERVED;
use super::{Interval, WithdrawalPolicy, condition};

/// A connection to one OKMS domain, shared with the namespaces that its access rules name.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "okms-operator.io",
    version = "v1alpha1",
    kind = "ClusterOkmsStore",
    plural = "clusterokmsstores",
    shortname = "cokst",
    category = "okms",
    status = "ClusterOkmsStoreStatus",
    derive = "PartialEq",
    doc = "A connection to one OKMS domain, shared with the namespaces that its access rules name.",
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status", "description": "Whether secrets can be read through it."}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason", "description": "Why it is, or is not, ready."}"#,
    printcolumn = r#"{"name": "Endpoint", "type": "string", "jsonPath": ".spec.endpoint", "description": "The OKMS that it reads."}"#,
    printcolumn = r#"{"name": "Expires", "type": "string", "jsonPath": ".status.certificate.notAfter", "description": "When the client certificate ends."}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterOkmsStoreSpec {
    /// The address of the region's OKMS, such as https://eu-west-rbx.okms.ovh.net. It is https, and has no path: the id of the
    /// domain goes into okmsId.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(
        validation = (
            "self.startsWith('https://')",
            "an endpoint begins with https://: write it like https://eu-west-rbx.okms.ovh.net"
        ),
        validation = (
            "!self.matches('^https://[^/]*/api(/|$)')",
            "an endpoint does not contain /api/<id>: write only https:// and the host, and the id as okmsId"
        ),
        validation = (
            "!self.startsWith('https://') || self.matches('^https://[^/]*/api(/|$)') || \
             self.matches(r'^https://([a-zA-Z0-9.-]+|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})?/?$')",
            "an endpoint is only https://, a host and perhaps a port, without user, path, query or fragment: write it \
             like https://eu-west-rbx.okms.ovh.net"
        ),
    )]
    pub endpoint: String,

    /// The id of the OKMS domain, a UUID. Default: read from the client certificate.
    #[schemars(length(max = 36))]
    #[x_kube(validation = (
        "self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')",
        "an OKMS domain id is a UUID such as 1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb: copy it from the control panel, or \
         leave it out to read it from the certificate"
    ))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub okms_id: Option<String>,

    /// How the operator proves who it is.
    pub auth: Auth,

    /// The certificate authority of the endpoint, in PEM. Default: the public roots that browsers trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,

    /// How often the sources of this store's OkmsSecrets are checked, unless they say otherwise, such as 30s or 1m. 0s: only
    /// when the spec of an OkmsSecret or its annotation okms-operator.io/refresh changes. Default: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<Interval>,

    /// What becomes of a Secret when its source is deactivated, destroyed, deleted or pruned in OKMS, unless its OkmsSecret
    /// says otherwise: Delete deletes it, Retain keeps it as it is. Default: Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal_policy: Option<WithdrawalPolicy>,

    /// Bounds on the requests to OKMS: requestsPerSecond, concurrentRequests and timeout. Default: those of its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,

    /// How many Secrets may be deleted within an hour because their sources were withdrawn: a number, or a percentage of the
    /// store's Secrets such as "20%"; never less than 10. What exceeds it waits until it is confirmed. Default: 20%.
    #[schemars(schema_with = "int_or_percentage")]
    #[x_kube(validation = (
        "type(self) == int ? self >= 0 : self.matches('^([0-9]|[1-9][0-9]|100)%$')",
        "write a number such as 50, or a percentage from \"0%\" to \"100%\""
    ))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_withdrawals_per_hour: Option<IntOrString>,

    /// Which namespaces may read which paths, at most 128 rules; any of them may allow it. Default: nobody may read anything.
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Vec<AccessRule>>,
}

/// How the operator proves who it is.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// With an OKMS access certificate (mTLS), from exactly one of mount and secretRef. Either holds tls.crt and tls.key,
    /// in PEM, also with escaped line breaks, as the OVHcloud API prints them. A changed certificate is taken up without a
    /// restart.
    pub client_certificate: ClientCertificateAuth,
}

/// Where the client certificate and its key come from.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.mount) != has(self.secretRef)",
    "say where the client certificate is, by exactly one of mount (a folder below /etc/okms in the operator's pod) \
     and secretRef (a Secret in the operator's namespace)"
))]
pub struct ClientCertificateAuth {
    /// A folder below the operator's mount root (/etc/okms), such as default for /etc/okms/default. Give either mount or
    /// secretRef.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "mount is the name of one folder below the operator's mount root: lower-case letters, digits and '-', such as \
         default"
    ))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,

    /// A Secret in the operator's own namespace. Give either mount or secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// Names a Secret in the operator's own namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (OBJECT_NAME, OBJECT_NAME_MESSAGE))]
    pub name: String,
}

/// Names one key of a ConfigMap or Secret in the operator's own namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The name of the object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (OBJECT_NAME, OBJECT_NAME_MESSAGE))]
    pub name: String,

    /// The key in it, such as ca.crt.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "self.matches('^[-._a-zA-Z0-9]*$')",
        "a key has only the characters a-z A-Z 0-9 - _ and '.', such as ca.crt"
    ))]
    pub key: String,
}

const OBJECT_NAME: &str = "!format.dns1123Subdomain().validate(self).hasValue()";
const OBJECT_NAME_MESSAGE: &str = "a name has only lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit; it is looked \
     up in the operator's own namespace";

/// Where the certificate authority of the endpoint comes from.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.pem), has(self.configMapRef), has(self.secretRef)].filter(given, given).size() == 1",
    "give the certificate authority by exactly one of pem, configMapRef and secretRef, or leave ca out to trust the \
     public roots"
))]
pub struct CaSource {
    /// The certificates themselves, at most 64 KiB. Give exactly one of pem, configMapRef and secretRef.
    #[schemars(length(min = 1, max = 65536))]
    #[x_kube(
        validation = (
            "self.contains('-----BEGIN CERTIFICATE-----')",
            "paste the certificate authority in PEM, beginning with -----BEGIN CERTIFICATE-----"
        ),
        validation = (
            "!self.contains('PRIVATE KEY-----')",
            "a certificate authority is public: remove the private key"
        ),
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,

    /// A key of a ConfigMap in the operator's own namespace. Give exactly one of pem, configMapRef and secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyRef>,

    /// A key of a Secret in the operator's own namespace. Give exactly one of pem, configMapRef and secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyRef>,
}

/// Bounds on the requests to OKMS.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// How many requests are started in a second, 1 to 1000. Default: 20.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<i32>,

    /// How many requests run at a time, 1 to 64. Default: 8.
    #[schemars(range(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_requests: Option<i32>,

    /// How long one request may take, 1s to 2m. Default: 30s.
    #[x_kube(validation = timeout_range())]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Interval>,
}

fn timeout_range() -> Rule {
    // What is no duration at all is refused by its own rule; here it must not be an error.
    let not_an_interval = format!("!({})", Interval::RULE);
    Rule::new(format!("{not_an_interval} || (duration(self) >= duration('1s') && duration(self) <= duration('2m'))"))
        .message("a timeout is from 1s to 2m: write it like 30s")
}

/// Lets the given namespaces read the given paths.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.namespaces) && self.namespaces.size() > 0",
    "say in namespaces who may read these paths, such as [shop, 'team-*'], or ['*'] for every namespace"
))]
pub struct AccessRule {
    /// Names of namespaces, or globs such as team-*, at most 64. Give at least one.
    #[schemars(schema_with = "namespace_patterns")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,

    /// The paths they may read, at most 64: exact, such as shared/ca; everything below one, such as prod/shop/*; or * for
    /// everything.
    #[schemars(schema_with = "path_grants")]
    pub paths: Vec<String>,
}

fn namespace_patterns(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "nullable": true,
        "maxItems": 64,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "string",
            "maxLength": 63,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[a-z0-9*]([-a-z0-9*]*[a-z0-9*])?$')",
                "message": "a namespace is a name or a glob such as team-*: lower-case letters, digits, '-' and '*'",
            }],
        },
    })
}

fn path_grants(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "x-kubernetes-list-type": "atomic",
        "x-kubernetes-validations": [{
            "rule": "self.size() > 0",
            "message": "say which paths they may read, such as ['prod/shop/*'], or ['*'] for everything",
        }],
        "items": {
            "type": "string",
            "maxLength": 257,
            "x-kubernetes-validations": [
                {
                    "rule": r"self.matches(r'^([\w.:=@-]+/)*([\w.:=@-]+|[*])$')",
                    "message": "a path is exact like shared/ca, everything below one like prod/shop/*, or * for \
                        everything: no other use of '*', no leading, trailing or double slash",
                },
                {
                    "rule": "!self.matches('(^|/)[.][.]?(/|$)')",
                    "message": "a path has no '.' or '..' segment: write the full path of the secret",
                },
            ],
        },
    })
}

fn int_or_percentage(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 4, "nullable": true})
}

/// How much may be withdrawn within an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithdrawalLimit {
    Count(u32),
    /// Of the store's targets, 0 to 100.
    Percent(u32),
}

impl WithdrawalLimit {
    /// What holds where the store says nothing, or nothing that can be understood.
    pub const DEFAULT: Self = Self::Percent(20);
}

impl ClusterOkmsStoreSpec {
    pub fn withdrawal_policy(&self) -> WithdrawalPolicy {
        self.withdrawal_policy.unwrap_or_default()
    }

    pub fn withdrawal_limit(&self) -> WithdrawalLimit {
        let limit = match &self.max_withdrawals_per_hour {
            Some(IntOrString::Int(count)) => u32::try_from(*count).ok().map(WithdrawalLimit::Count),
            Some(IntOrString::String(text)) => text
                .strip_suffix('%')
                .and_then(|number| number.parse().ok())
                .filter(|percent| *percent <= 100)
                .map(WithdrawalLimit::Percent),
            None => None,
        };
        limit.unwrap_or(WithdrawalLimit::DEFAULT)
    }
}

/// What the operator found out about the store.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterOkmsStoreStatus {
    /// The metadata.generation that this status speaks of; -1: not looked at yet.
    pub observed_generation: i64,

    /// Ready: whether secrets can be read through the store. The others exist only while true: Reconciling, Stalled,
    /// CredentialsExpiring, CredentialsRejected, Throttled, WithdrawalHeld.
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

    /// Withdrawals that wait to be confirmed. To confirm, set the annotation okms-operator.io/confirm-withdrawal to the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal_held: Option<WithdrawalHeld>,
}

/// As the CRD defaults it: an object that nobody looked at yet never counts as done.
impl Default for ClusterOkmsStoreStatus {
    fn default() -> Self {
        Self {
            observed_generation: NOT_OBSERVED,
            conditions: Vec::new(),
            okms_id: None,
            certificate: None,
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

    /// Its serial number, in hexadecimal.
    #[schemars(length(max = 128))]
    pub serial: String,
}

fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(max_withdrawals: &str) -> ClusterOkmsStoreSpec {
        let text = format!(
            r#"{{"endpoint": "https://eu-west-rbx.okms.ovh.net", "auth": {{"clientCertificate": {{"mount": "default"}}}}
                 {max_withdrawals}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_withdrawal_limit_is_a_number_or_a_percentage() {
        for (text, limit) in [
            ("", WithdrawalLimit::DEFAULT),
            (r#", "maxWithdrawalsPerHour": 50"#, WithdrawalLimit::Count(50)),
            (r#", "maxWithdrawalsPerHour": "5%""#, WithdrawalLimit::Percent(5)),
            (r#", "maxWithdrawalsPerHour": "101%""#, WithdrawalLimit::DEFAULT),
            (r#", "maxWithdrawalsPerHour": -1"#, WithdrawalLimit::DEFAULT),
        ] {
            assert_eq!(spec(text).withdrawal_limit(), limit, "{text}");
        }
    }

    #[test]
    fn a_withdrawn_secret_is_deleted_unless_the_store_says_otherwise() {
        assert_eq!(spec("").withdrawal_policy(), WithdrawalPolicy::Delete);
        assert_eq!(spec(r#", "withdrawalPolicy": "Retain""#).withdrawal_policy(), WithdrawalPolicy::Retain);
    }
}
