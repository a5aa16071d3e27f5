//! With whom a `ClusterOkmsStore` is shared: rules of namespaces and paths. What they grant is decided in [`crate::plan::grants`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Lets the given namespaces read the given paths.
#[derive(KubeSchema, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "(has(self.namespaces) && self.namespaces.size() > 0) || has(self.namespaceSelector)",
    "say who may read these paths: in namespaces by name, such as [shop, 'team-*'], or ['*'] for every namespace; in \
     namespaceSelector by labels; with both, both must match"
))]
pub struct AccessRule {
    /// Names of namespaces, or globs such as team-*, at most 64. Give at least one of namespaces and namespaceSelector; with
    /// both, both must match.
    #[schemars(schema_with = "namespace_patterns")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,

    /// Labels of namespaces, as they are at the moment. Give at least one of namespaces and namespaceSelector; with both, both
    /// must match.
    #[schemars(schema_with = "label_selector")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,

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

/// Kubernetes's own shape, with the rules that it has elsewhere in code.
fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "x-kubernetes-validations": [{
            "rule": "(has(self.matchLabels) && self.matchLabels.size() > 0) || \
                (has(self.matchExpressions) && self.matchExpressions.size() > 0)",
            "message": "an empty namespaceSelector would mean every namespace: name a label, or write namespaces: ['*']",
        }],
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that the namespace has, with these values, at most 16. Default: none is asked for.",
                "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "type": "array",
                "description": "Conditions on labels, at most 16; all must hold. Default: none.",
                "maxItems": 16,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "x-kubernetes-validations": [{
                        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
                        "message": "In and NotIn need values, Exists and DoesNotExist must have none",
                    }],
                    "properties": {
                        "key": {
                            "type": "string",
                            "description": "The label.",
                            "minLength": 1,
                            "maxLength": 317,
                        },
                        "operator": {
                            "type": "string",
                            "description": "How the label is compared with the values.",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "type": "array",
                            "description": "The values of In and NotIn, at most 64. Default: none.",
                            "maxItems": 64,
                            "x-kubernetes-list-type": "atomic",
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                },
            },
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
