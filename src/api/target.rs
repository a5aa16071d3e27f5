//! The Secret that an `OkmsSecret` writes: its name, type, owner, and the templates that make it.
//!
//! The rules here refuse what the operator may never write, or what nobody could apply. Next: [`crate::plan`], which parses it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The Secret to write.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.creationPolicy) || self.creationPolicy != 'Merge' || (!has(self.type) && !has(self.immutable) && \
     !has(self.labels) && !(has(self.template) && has(self.template.metadata) && has(self.template.metadata.labels)))",
    "with creationPolicy Merge only keys are added to a Secret of somebody else: remove type, immutable and labels, \
     which are theirs"
))]
pub struct TargetSpec {
    /// The name of the Secret. Default: the name of the OkmsSecret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "!format.dns1123Subdomain().validate(self).hasValue()",
        "the name of a Secret has only lower-case letters, digits, '-' and '.', and begins and ends with a letter or \
         digit: choose another, such as db-credentials"
    ))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// The type of the Secret: Opaque, kubernetes.io/tls, kubernetes.io/dockerconfigjson, kubernetes.io/basic-auth,
    /// kubernetes.io/ssh-auth, or a type of your own outside kubernetes.io and helm.sh. Default: Opaque. Changing it deletes
    /// the Secret and creates it again.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "self in ['kubernetes.io/tls', 'kubernetes.io/dockerconfigjson', 'kubernetes.io/basic-auth', \
         'kubernetes.io/ssh-auth'] || !self.matches('^([^/]*kubernetes[.]io|helm[.]sh)/')",
        "use Opaque, kubernetes.io/tls, kubernetes.io/dockerconfigjson, kubernetes.io/basic-auth, \
         kubernetes.io/ssh-auth, or a type of your own outside kubernetes.io and helm.sh: other types have a meaning \
         to the cluster"
    ))]
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,

    /// Labels for the Secret, at most 64. Those of okms-operator.io, kubernetes.io and helm.sh are reserved. Default: none.
    #[schemars(schema_with = "label_map")]
    #[x_kube(validation = NOT_RESERVED, validation = LEGAL_KEYS)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,

    /// Annotations for the Secret, at most 64. Those of okms-operator.io, kubernetes.io and helm.sh are reserved. Default:
    /// none.
    #[schemars(schema_with = "annotation_map")]
    #[x_kube(validation = NOT_RESERVED, validation = LEGAL_KEYS)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,

    /// Whether Kubernetes refuses every change of the content, so that the Secret is deleted and created again when it has to
    /// change. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,

    /// Owner: the Secret is the operator's, and is deleted with the OkmsSecret. Orphan: the same, but it outlives the
    /// OkmsSecret. Merge: only the keys of the OkmsSecret are written, into a Secret that exists and carries the annotation
    /// okms-operator.io/allow with the name of the OkmsSecret; they outlive it. Default: Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_policy: Option<CreationPolicy>,

    /// Makes keys, labels and annotations of the Secret from the keys that the sources give. Default: those keys as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateSpec>,
}

/// Templates of the Secret, in the language of Jinja: {{ password }} is the value of the key password, and so is
/// {{ data.password }}.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.data) || has(self.templateFrom) || has(self.metadata)",
    "say what to make: data (a key and its template), templateFrom (a ConfigMap of templates) or metadata"
))]
pub struct TemplateSpec {
    /// Keys of the Secret and their templates, at most 64, such as application.properties: "password={{ password }}".
    /// Default: none.
    #[schemars(schema_with = "template_map")]
    #[x_kube(validation = (
        "self.all(key, key.matches('^[-._a-zA-Z0-9]+$') && key != '.' && !key.startsWith('..'))",
        "a key of a Secret has only the characters a-z A-Z 0-9 - _ '.' and neither is '.' nor begins with '..': choose \
         another name for it, such as application.properties"
    ))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<BTreeMap<String, String>>,

    /// ConfigMaps of the same namespace that hold templates, at most 8: each of their keys becomes a key of the Secret. When one
    /// changes, the Secret is made anew. Default: none.
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_from: Option<Vec<TemplateSource>>,

    /// Labels and annotations of the Secret with a template as their value. They can be read by whoever may list Secrets:
    /// keep passwords out of them. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,

    /// Replace: the Secret has only the keys that are made by templates. Merge: also those that the sources give, unless a template
    /// makes the same. Default: Replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<TemplateMode>,
}

/// Where templates come from.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSource {
    /// A ConfigMap of the same namespace.
    pub config_map: TemplateConfigMap,
}

/// Names a ConfigMap and its keys that are templates.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateConfigMap {
    /// The name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (
        "!format.dns1123Subdomain().validate(self).hasValue()",
        "write the name of a ConfigMap in the same namespace: lower-case letters, digits, '-' and '.'"
    ))]
    pub name: String,

    /// The keys that are templates, at most 64. Default: every key.
    #[schemars(schema_with = "config_map_keys")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
}

/// Labels and annotations that are templates.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels for the Secret, at most 16. Those of okms-operator.io, kubernetes.io and helm.sh are reserved. Default: none.
    #[schemars(schema_with = "metadata_templates")]
    #[x_kube(validation = NOT_RESERVED, validation = LEGAL_KEYS)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,

    /// Annotations for the Secret, at most 16. Those of okms-operator.io, kubernetes.io and helm.sh are reserved. Default:
    /// none.
    #[schemars(schema_with = "metadata_templates")]
    #[x_kube(validation = NOT_RESERVED, validation = LEGAL_KEYS)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What becomes of the keys that the sources give.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum TemplateMode {
    #[default]
    Replace,
    Merge,
}

/// Whose the Secret is.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum CreationPolicy {
    #[default]
    Owner,
    Orphan,
    Merge,
}

/// No label or annotation whose meaning belongs to us, to Kubernetes or to Helm.
///
/// The message cannot name the key: the API server estimates the cost of a message made from keys of unknown length as too high.
const NOT_RESERVED: (&str, &str) = (
    "!self.exists(key, key.matches('^([^/]*[.])?okms-operator[.]io/|^[^/]*kubernetes[.]io/|^helm[.]sh/'))",
    "keys of okms-operator.io, kubernetes.io and helm.sh are reserved: remove them, or use a prefix of your own",
);

const LEGAL_KEYS: (&str, &str) = (
    "self.all(key, !format.qualifiedName().validate(key).hasValue())",
    "a key is a name such as team or example.com/team: up to 63 letters, digits, '-', '_' and '.', perhaps after a DNS \
     name and a slash",
);

fn label_map(_: &mut SchemaGenerator) -> Schema {
    text_map(&json_schema!({
        "type": "string",
        "maxLength": 63,
        "x-kubernetes-validations": [{
            "rule": "!format.labelValue().validate(self).hasValue()",
            "message": "a label's value has up to 63 letters, digits, '-', '_' and '.', and begins and ends with a \
                letter or digit: use an annotation for other text",
        }],
    }))
}

/// Kubernetes allows 256 KiB for all annotations of an object together.
fn annotation_map(_: &mut SchemaGenerator) -> Schema {
    text_map(&json_schema!({"type": "string", "maxLength": 16384}))
}

fn text_map(values: &Schema) -> Schema {
    map_of(64, values)
}

fn map_of(most: u32, values: &Schema) -> Schema {
    json_schema!({"type": "object", "nullable": true, "maxProperties": most, "additionalProperties": values})
}

/// A template is at most as long as the renderer takes.
fn template_map(_: &mut SchemaGenerator) -> Schema {
    text_map(&json_schema!({"type": "string", "maxLength": 65536}))
}

fn metadata_templates(_: &mut SchemaGenerator) -> Schema {
    map_of(16, &json_schema!({"type": "string", "maxLength": 4096}))
}

fn config_map_keys(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "nullable": true,
        "maxItems": 64,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "string",
            "maxLength": 253,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')",
                "message": "a key of a ConfigMap has only the characters a-z A-Z 0-9 - _ and '.'",
            }],
        },
    })
}
