//! A target that is ours as a whole: exactly the rendered data, and around it what we put there beside what others did.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Claim, Content, annotation, is_okms_secret, label, type_of, written_by};
use crate::{
    api::{CreationPolicy, names},
    model::Evidence,
};

/// What the annotation of the target says that it was made from.
pub(super) fn evidence(metadata: &ObjectMeta) -> Vec<Evidence> {
    annotation(metadata, names::SOURCE_ANNOTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The Secret as it shall be. What others put on an existing one stays; what we put there and do not want any more goes.
pub(super) fn desired(claim: &Claim, content: Content, evidence: &[Evidence], existing: Option<&Secret>) -> Secret {
    let (owner, shape) = (&claim.owner, claim.shape());
    let old = existing.map(|secret| &secret.metadata);
    let mut labels = existing.map(kept_labels).unwrap_or_default();
    labels.extend(shape.labels.clone());
    labels.extend(content.labels);
    labels.insert(names::MANAGED_LABEL.to_owned(), names::MANAGED_VALUE.to_owned());
    // What was made by somebody else stays managed by whom it says.
    let made_here = existing.is_none_or(|secret| {
        label(&secret.metadata, names::MANAGED_BY_LABEL).is_none_or(|manager| manager == names::MANAGED_BY_VALUE)
            && written_by(&secret.metadata, names::FIELD_MANAGER, &["f:metadata", "f:labels"])
                .contains(names::MANAGED_BY_LABEL)
    });
    if made_here {
        labels.insert(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY_VALUE.to_owned());
    }

    let mut annotations = existing.map(kept_annotations).unwrap_or_default();
    annotations.extend(shape.annotations.clone());
    annotations.extend(content.annotations);
    annotations.insert(names::OWNER_ANNOTATION.to_owned(), owner.name.clone());
    let source = serde_json::to_string(evidence).expect("a list of plain strings and numbers is always JSON");
    annotations.insert(names::SOURCE_ANNOTATION.to_owned(), source);
    if let Some(digest) = claim.wanted.templates.digest() {
        annotations.insert(names::TEMPLATE_ANNOTATION.to_owned(), digest.to_owned());
    }

    let mut references = old.and_then(|metadata| metadata.owner_references.clone()).unwrap_or_default();
    references.retain(|reference| !is_okms_secret(reference));
    if shape.policy == CreationPolicy::Owner {
        references.push(owner.reference());
    }

    // Somebody else may have made it immutable. Where that was us, the spec decides.
    let theirs = existing.filter(|secret| !we_made_immutable(&secret.metadata)).and_then(|secret| secret.immutable);
    Secret {
        metadata: ObjectMeta {
            name: Some(shape.name.clone()),
            namespace: Some(claim.namespace.clone()),
            uid: old.and_then(|metadata| metadata.uid.clone()),
            resource_version: old.and_then(|metadata| metadata.resource_version.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(references),
            finalizers: old.and_then(|metadata| metadata.finalizers.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(shape.type_.as_str().to_owned()),
        data: Some(content.data),
        immutable: shape.immutable.then_some(true).or(theirs),
        string_data: None,
    }
}

/// The Secret as it shall be once it is not a target any more, and stays.
pub(super) fn released(secret: &Secret) -> Secret {
    let mut free = secret.clone();
    free.metadata.labels = Some(kept_labels(secret));
    free.metadata.annotations = Some(kept_annotations(secret));
    free.metadata.owner_references.iter_mut().for_each(|all| all.retain(|reference| !is_okms_secret(reference)));
    free.metadata.managed_fields = None;
    free
}

/// Whether writing `desired` over `existing` would change anything.
pub(super) fn differs(existing: &Secret, desired: &Secret) -> bool {
    let empty = BTreeMap::new();
    let (old, new) = (&existing.metadata, &desired.metadata);
    existing.data.as_ref().unwrap_or(&BTreeMap::new()) != desired.data.as_ref().unwrap_or(&BTreeMap::new())
        || type_of(existing) != type_of(desired)
        || existing.immutable.unwrap_or(false) != desired.immutable.unwrap_or(false)
        || old.labels.as_ref().unwrap_or(&empty) != new.labels.as_ref().unwrap_or(&empty)
        || old.annotations.as_ref().unwrap_or(&empty) != new.annotations.as_ref().unwrap_or(&empty)
        || old.owner_references.as_deref().unwrap_or_default() != new.owner_references.as_deref().unwrap_or_default()
}

/// The labels that others put on a target.
fn kept_labels(secret: &Secret) -> BTreeMap<String, String> {
    without(secret.metadata.labels.clone(), &secret.metadata, "f:labels")
}

/// The annotations that others put on a target.
fn kept_annotations(secret: &Secret) -> BTreeMap<String, String> {
    without(secret.metadata.annotations.clone(), &secret.metadata, "f:annotations")
}

fn without(all: Option<BTreeMap<String, String>>, metadata: &ObjectMeta, field: &str) -> BTreeMap<String, String> {
    let ours = written_by(metadata, names::FIELD_MANAGER, &["f:metadata", field]);
    let mut kept = all.unwrap_or_default();
    kept.retain(|key, _| !ours.contains(key));
    kept
}

fn we_made_immutable(metadata: &ObjectMeta) -> bool {
    written_by(metadata, names::FIELD_MANAGER, &[]).contains("immutable")
}
