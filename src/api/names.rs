//! Every name that a cluster sees: API group, labels, annotations, field manager. Names are for good.

/// The API group of the custom resources.
pub const GROUP: &str = "okms-operator.io";

/// The version of the API group.
pub const VERSION: &str = "v1alpha1";

/// Who writes, as managed fields and events show it.
pub const FIELD_MANAGER: &str = "okms-operator";

/// Label of every target, and the selector of the watch over targets. It finds candidates; it proves nothing.
pub const MANAGED_LABEL: &str = "okms-operator.io/managed";

/// The value of [`MANAGED_LABEL`].
pub const MANAGED_VALUE: &str = "true";

/// Annotation of a target: the name of the `OkmsSecret` that it belongs to.
pub const OWNER_ANNOTATION: &str = "okms-operator.io/owner";

/// Annotation of a target: what it was made from, a JSON list of [`crate::model::Evidence`].
pub const SOURCE_ANNOTATION: &str = "okms-operator.io/source";

/// Annotation of a target that was made by templates of a `ConfigMap`: a hash of their text.
pub const TEMPLATE_ANNOTATION: &str = "okms-operator.io/template";

/// Annotations of a Secret that keys are merged into: this and the uid of the `OkmsSecret`, for each one that does.
pub const MERGED_ANNOTATION_PREFIX: &str = "merged.okms-operator.io/";

/// Annotation that people set on a Secret: the names of the `OkmsSecret`s that may take it over, separated by commas.
pub const ALLOW_ANNOTATION: &str = "okms-operator.io/allow";

/// Annotation that people set on an `OkmsSecret`, to any new value: check it now.
pub const REFRESH_ANNOTATION: &str = "okms-operator.io/refresh";

/// Annotation that people set on a store: the id of the held withdrawals that may go ahead.
pub const CONFIRM_WITHDRAWAL_ANNOTATION: &str = "okms-operator.io/confirm-withdrawal";

/// Label of every Secret that the operator created.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY_VALUE: &str = "okms-operator";

/// The name of the store that is used where none is named.
pub const DEFAULT_STORE: &str = "default";

/// Whether an annotation, or a label, is one of the operator's own.
pub fn is_ours(name: &str) -> bool {
    name.split_once('/').is_some_and(|(prefix, _)| prefix == GROUP || prefix.ends_with(".okms-operator.io"))
}
