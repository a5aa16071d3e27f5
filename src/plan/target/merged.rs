//! Keys that an `OkmsSecret` adds to a Secret of somebody else, by server-side apply under a manager of its own.
//!
//! The API server records which keys that manager wrote: these, and no others, are ours. An annotation for each `OkmsSecret` says what its
//! keys were made from.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Deserialize, Serialize};

use super::{Claim, Content, Owner, annotation, label, written_by};
use crate::{api::names, model::Evidence};

/// What the annotation says.
#[derive(Serialize, Deserialize)]
struct Share {
    owner: String,
    sources: Vec<Evidence>,
    /// A hash of the templates that are not in the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    template: Option<String>,
}

/// What the annotations of the target say that our keys, and those of our predecessors, were made from.
pub(super) fn evidence(metadata: &ObjectMeta, claim: &Claim) -> Vec<Evidence> {
    let owners = std::iter::once(&claim.owner).chain(&claim.predecessors);
    owners.filter_map(|owner| share(metadata, owner)).flat_map(|share| share.sources).collect()
}

/// What the templates that are not in the spec were when our keys were made by them.
pub(super) fn made_by(metadata: &ObjectMeta, owner: &Owner) -> Option<String> {
    share(metadata, owner)?.template
}

fn share(metadata: &ObjectMeta, owner: &Owner) -> Option<Share> {
    annotation(metadata, &owner.merged_annotation()).and_then(parse).filter(|share| share.owner == owner.name)
}

/// The names of all `OkmsSecret`s that merge into the Secret.
pub(super) fn owners(metadata: &ObjectMeta) -> Vec<String> {
    let annotations = metadata.annotations.iter().flatten();
    let shares = annotations.filter(|(key, _)| key.starts_with(names::MERGED_ANNOTATION_PREFIX));
    shares.filter_map(|(_, text)| parse(text)).map(|share| share.owner).collect()
}

fn parse(text: &str) -> Option<Share> {
    serde_json::from_str(text).ok()
}

/// There is one, where an object was made again; each costs three writes, and whoever may edit the Secret may forge any number.
const MAX_NAMESAKES: usize = 16;

/// Those that say that they are, or were, an `OkmsSecret` of our name, and have keys in the Secret.
pub(super) fn namesakes(metadata: &ObjectMeta, owner: &Owner) -> Vec<Owner> {
    let annotations = metadata.annotations.iter().flatten();
    let shares = annotations.filter_map(|(key, text)| Some((key.strip_prefix(names::MERGED_ANNOTATION_PREFIX)?, text)));
    shares
        .filter(|(uid, text)| *uid != owner.uid && parse(text).is_some_and(|share| share.owner == owner.name))
        .map(|(uid, _)| Owner { name: owner.name.clone(), uid: uid.to_owned() })
        .filter(|namesake| !keys(metadata, namesake).is_empty())
        .take(MAX_NAMESAKES)
        .collect()
}

/// The keys that are ours.
pub(super) fn keys(metadata: &ObjectMeta, owner: &Owner) -> BTreeSet<String> {
    written_by(metadata, &owner.field_manager(), &["f:data"])
}

/// What to apply. Its uid and resourceVersion are those that the decision was made about, so that it can neither create a Secret nor
/// change another one.
pub(super) fn desired(claim: &Claim, content: Content, evidence: &[Evidence], existing: Option<&Secret>) -> Secret {
    let (owner, shape) = (&claim.owner, claim.shape());
    let template = claim.wanted.templates.digest().map(str::to_owned);
    let ours = Share { owner: owner.name.clone(), sources: evidence.to_vec(), template };
    let ours = serde_json::to_string(&ours).expect("plain strings and numbers are always JSON");
    let mut annotations = shape.annotations.clone();
    annotations.extend(content.annotations);
    annotations.insert(owner.merged_annotation(), ours);
    Secret {
        metadata: ObjectMeta {
            labels: Some([(names::MANAGED_LABEL.to_owned(), names::MANAGED_VALUE.to_owned())].into()),
            annotations: Some(annotations),
            ..identity(claim, existing)
        },
        data: Some(content.data),
        ..Secret::default()
    }
}

/// What to apply so that nothing of ours is left.
pub(super) fn nothing(secret: &Secret) -> Secret {
    let ObjectMeta { name, namespace, uid, resource_version, .. } = secret.metadata.clone();
    let metadata = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
    Secret { metadata, ..Secret::default() }
}

fn identity(claim: &Claim, existing: Option<&Secret>) -> ObjectMeta {
    let old = existing.map(|secret| &secret.metadata);
    ObjectMeta {
        name: Some(claim.shape().name.clone()),
        namespace: Some(claim.namespace.clone()),
        uid: old.and_then(|metadata| metadata.uid.clone()),
        resource_version: old.and_then(|metadata| metadata.resource_version.clone()),
        ..ObjectMeta::default()
    }
}

/// Whether applying `desired` would change anything, or something is left to be taken over.
pub(super) fn differs(existing: &Secret, desired: &Secret, claim: &Claim) -> bool {
    let owner = &claim.owner;
    let (old, new) = (&existing.metadata, &desired.metadata);
    let manager = owner.field_manager();
    let wanted_data = desired.data.clone().unwrap_or_default();
    let wanted_annotations = new.annotations.clone().unwrap_or_default();
    let has = |key: &String, value| existing.data.as_ref().and_then(|data| data.get(key)) == Some(value);
    let ours = keys(old, owner);
    let said = written_by(old, &manager, &["f:metadata", "f:annotations"]);
    !claim.predecessors.is_empty()
        || !ours.iter().eq(wanted_data.keys())
        || !wanted_data.iter().all(|(key, value)| has(key, value))
        || !said.iter().eq(wanted_annotations.keys())
        || !wanted_annotations.iter().all(|(key, value)| annotation(old, key) == Some(value))
        || label(old, names::MANAGED_LABEL) != Some(names::MANAGED_VALUE)
}
