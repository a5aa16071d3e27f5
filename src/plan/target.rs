//! The target as it is: whose it is, what it was made from, and whether it still is what was last written.
//!
//! The rule that holds throughout: a label proves nothing. A Secret is ours when its owner annotation names our `OkmsSecret`, or it is
//! controlled by exactly that object, and nobody else controls it.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::{Fingerprint, Fingerprinter, TargetShape, Wanted};
use crate::{
    api::names,
    model::{Evidence, Mark, OkmsId, Source},
};

/// Which `OkmsSecret` a target belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    pub uid: String,
}

impl Owner {
    const KIND: &'static str = "OkmsSecret";

    fn api_version() -> String {
        format!("{}/{}", names::GROUP, names::VERSION)
    }

    /// The reference by which Kubernetes deletes the target with its `OkmsSecret`. It does not block that deletion.
    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::api_version(),
            kind: Self::KIND.to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }
}

/// Whether a Secret may be written, and if not, whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    Ours,
    /// The sentence says who has it.
    Foreign(String),
}

/// Judges a Secret that has the name of a target.
pub fn ownership(metadata: &ObjectMeta, owner: &Owner) -> Ownership {
    let annotated = annotation(metadata, names::OWNER_ANNOTATION);
    let controller = metadata.owner_references.iter().flatten().find(|reference| reference.controller == Some(true));
    match (controller, annotated) {
        // A copy of our own reference, or a reference to an object of our name that was restored under another uid.
        (Some(reference), annotated) if is_okms_secret(reference) && reference.name == owner.name => {
            let same = reference.uid == owner.uid;
            match annotated {
                Some(name) if name != owner.name => Ownership::Foreign(format!("it belongs to OkmsSecret {name}")),
                None if !same => Ownership::Foreign(format!("it is controlled by another OkmsSecret {}", owner.name)),
                _ => Ownership::Ours,
            }
        }
        (Some(reference), _) => {
            Ownership::Foreign(format!("it is controlled by {} {}", reference.kind, reference.name))
        }
        (None, Some(name)) if name == owner.name => Ownership::Ours,
        (None, Some(name)) => Ownership::Foreign(format!("it belongs to OkmsSecret {name}")),
        (None, None) => Ownership::Foreign(match label(metadata, names::MANAGED_BY_LABEL) {
            Some(manager) => format!("it is managed by {manager}"),
            None => match last_manager(metadata) {
                Some(manager) => format!("it was last written by {manager}"),
                None => "it was made by somebody else".to_owned(),
            },
        }),
    }
}

fn is_okms_secret(reference: &OwnerReference) -> bool {
    reference.kind == Owner::KIND && reference.api_version.split('/').next() == Some(names::GROUP)
}

fn last_manager(metadata: &ObjectMeta) -> Option<&str> {
    let fields = metadata.managed_fields.iter().flatten();
    fields.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.as_deref()
}

/// What the `source` annotation says for each of the given sources: the content that the target was made from, where it was made
/// from exactly this source of this domain. Nothing else may ever be the ground for a deletion.
pub fn evidence(metadata: &ObjectMeta, okms_id: &OkmsId, sources: &[&Source]) -> Vec<Option<Mark>> {
    let written: Vec<Evidence> = annotation(metadata, names::SOURCE_ANNOTATION)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let of = |source: &Source| written.iter().find(|one| one.names(okms_id, source)).map(|one| one.mark);
    sources.iter().map(|source| of(source)).collect()
}

/// What is known of the target when a decision is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It equals the rendering of what its evidence names, for the present spec.
    Intact,
    /// It was rendered for the present spec and somebody changed its content since.
    Drifted,
    /// It has to be rendered: it is absent, or of another spec, or nothing shows that it is not.
    Unrendered,
}

/// What was last written, as the operator remembers it.
#[derive(Clone, PartialEq, Eq)]
pub struct Written {
    /// The generation of the `OkmsSecret` that was rendered.
    pub generation: i64,
    pub fingerprint: Fingerprint,
}

/// Judges the content of a target that is ours.
///
/// `written` is what this process wrote or has judged before. Without it, after a restart, `told` is the number of keys that the
/// target has by its status, where that shows this generation as synced. Then the target is believed if it has as many and nobody but
/// us wrote one of them, as the API server's own record of managers tells. (That record shows who wrote a key, not who removed one.)
pub fn condition(
    secret: &Secret,
    generation: i64,
    written: Option<&Written>,
    told: Option<usize>,
    fingerprint: Fingerprint,
) -> Condition {
    match written {
        Some(written) if written.generation != generation => Condition::Unrendered,
        Some(written) if written.fingerprint == fingerprint => Condition::Intact,
        Some(_) => Condition::Drifted,
        None => match told {
            None => Condition::Unrendered,
            Some(keys) if keys == size(secret) && only_we_wrote_data(&secret.metadata) => Condition::Intact,
            Some(_) => Condition::Drifted,
        },
    }
}

/// Whether everything around the data is as it shall be, too.
pub fn is_dressed(
    owner: &Owner,
    namespace: &str,
    wanted: &Wanted,
    okms_id: &OkmsId,
    secret: &Secret,
    marks: &[Option<Mark>],
) -> bool {
    let complete = wanted.sources.iter().zip(marks).all(|(source, mark)| mark.is_some() || source.optional);
    complete && {
        let data = secret.data.clone().unwrap_or_default();
        let made_from = made_from(wanted, okms_id, marks);
        !differs(secret, &desired(owner, namespace, &wanted.target, data, &made_from, Some(secret)))
    }
}

/// What the annotation says of a target that is made from these versions.
pub(super) fn made_from(wanted: &Wanted, okms_id: &OkmsId, marks: &[Option<Mark>]) -> Vec<Evidence> {
    let sources = wanted.sources.iter().map(|wanted| &wanted.source).zip(marks);
    sources
        .filter_map(|(source, mark)| {
            let (okms_id, path) = (okms_id.clone(), source.path.clone());
            Some(Evidence { okms_id, path, pin: source.pin, mark: (*mark)? })
        })
        .collect()
}

fn size(secret: &Secret) -> usize {
    secret.data.as_ref().map_or(0, BTreeMap::len)
}

/// A keyed hash of type and data.
pub fn fingerprint(fingerprinter: &Fingerprinter, secret: &Secret) -> Fingerprint {
    static NOTHING: BTreeMap<String, ByteString> = BTreeMap::new();
    fingerprinter.of(secret.type_.as_deref().unwrap_or("Opaque"), secret.data.as_ref().unwrap_or(&NOTHING))
}

/// Whether nobody but the operator ever wrote the data of this Secret, as the API server recorded it.
pub fn only_we_wrote_data(metadata: &ObjectMeta) -> bool {
    let mut writers = metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:data").is_some()))
        .peekable();
    writers.peek().is_some() && writers.all(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER))
}

/// The Secret as it shall be. What others put on an existing one stays; what we put there and do not want any more goes.
pub fn desired(
    owner: &Owner,
    namespace: &str,
    shape: &TargetShape,
    data: BTreeMap<String, ByteString>,
    evidence: &[Evidence],
    existing: Option<&Secret>,
) -> Secret {
    let old = existing.map(|secret| &secret.metadata);
    let kept = |of: fn(&ObjectMeta) -> &Option<BTreeMap<String, String>>, field: &str| {
        let ours = old.map(|metadata| written_by_us(metadata, field)).unwrap_or_default();
        let mut kept = old.and_then(|metadata| of(metadata).clone()).unwrap_or_default();
        kept.retain(|key, _| !ours.contains(key));
        kept
    };
    let mut labels = kept(|metadata| &metadata.labels, "f:labels");
    labels.extend(shape.labels.clone());
    labels.insert(names::MANAGED_LABEL.to_owned(), names::MANAGED_VALUE.to_owned());
    labels.insert(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY_VALUE.to_owned());

    let mut annotations = kept(|metadata| &metadata.annotations, "f:annotations");
    annotations.extend(shape.annotations.clone());
    annotations.insert(names::OWNER_ANNOTATION.to_owned(), owner.name.clone());
    let source = serde_json::to_string(evidence).expect("a list of plain strings and numbers is always JSON");
    annotations.insert(names::SOURCE_ANNOTATION.to_owned(), source);

    let mut references = old.and_then(|metadata| metadata.owner_references.clone()).unwrap_or_default();
    references.retain(|reference| !is_okms_secret(reference));
    references.push(owner.reference());

    Secret {
        metadata: ObjectMeta {
            name: Some(shape.name.clone()),
            namespace: Some(namespace.to_owned()),
            uid: old.and_then(|metadata| metadata.uid.clone()),
            resource_version: old.and_then(|metadata| metadata.resource_version.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(references),
            finalizers: old.and_then(|metadata| metadata.finalizers.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(shape.type_.as_str().to_owned()),
        data: Some(data),
        immutable: existing.and_then(|secret| secret.immutable),
        string_data: None,
    }
}

/// Whether writing `desired` over `existing` would change anything.
pub fn differs(existing: &Secret, desired: &Secret) -> bool {
    let empty = BTreeMap::new();
    let (old, new) = (&existing.metadata, &desired.metadata);
    existing.data.as_ref().unwrap_or(&BTreeMap::new()) != desired.data.as_ref().unwrap_or(&BTreeMap::new())
        || existing.type_.as_deref().unwrap_or("Opaque") != desired.type_.as_deref().unwrap_or("Opaque")
        || old.labels.as_ref().unwrap_or(&empty) != new.labels.as_ref().unwrap_or(&empty)
        || old.annotations.as_ref().unwrap_or(&empty) != new.annotations.as_ref().unwrap_or(&empty)
        || old.owner_references.as_deref().unwrap_or_default() != new.owner_references.as_deref().unwrap_or_default()
}

/// The keys of a metadata map that our field manager wrote, as the API server recorded it.
fn written_by_us(metadata: &ObjectMeta, field: &str) -> Vec<String> {
    metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER))
        .filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:metadata")?.get(field)?.as_object())
        .flat_map(|fields| fields.keys().filter_map(|key| key.strip_prefix("f:")).map(str::to_owned))
        .collect()
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { name: "db".into(), uid: "uid-1".into() }
    }

    fn metadata(annotation: Option<&str>, reference: Option<OwnerReference>) -> ObjectMeta {
        ObjectMeta {
            annotations: annotation.map(|name| [(names::OWNER_ANNOTATION.to_owned(), name.to_owned())].into()),
            owner_references: reference.map(|reference| vec![reference]),
            ..ObjectMeta::default()
        }
    }

    fn reference(kind: &str, group: &str, name: &str, uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: format!("{group}/v1"),
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    fn is_ours(annotation: Option<&str>, controller: Option<OwnerReference>) -> bool {
        ownership(&metadata(annotation, controller), &owner()) == Ownership::Ours
    }

    #[test]
    fn ours_is_what_names_us_and_nobody_else_controls() {
        let of = |name, uid| Some(reference("OkmsSecret", names::GROUP, name, uid));
        assert!(is_ours(Some("db"), None));
        assert!(is_ours(Some("db"), of("db", "uid-1")));
        assert!(is_ours(Some("db"), of("db", "uid-of-a-restored-backup")));
        assert!(is_ours(None, of("db", "uid-1")), "the annotation was stripped");
    }

    #[test]
    fn every_near_miss_is_foreign() {
        let of = |kind, group, name, uid| Some(reference(kind, group, name, uid));
        assert!(!is_ours(None, None));
        assert!(!is_ours(Some("other"), None));
        assert!(!is_ours(Some("other"), of("OkmsSecret", names::GROUP, "db", "uid-1")));
        assert!(!is_ours(Some("db"), of("OkmsSecret", names::GROUP, "other", "uid-2")));
        assert!(!is_ours(Some("db"), of("OkmsSecret", "example.org", "db", "uid-1")));
        assert!(!is_ours(Some("db"), of("Certificate", "cert-manager.io", "db", "uid-1")));
        assert!(!is_ours(None, of("OkmsSecret", names::GROUP, "db", "uid-2")));
    }

    #[test]
    fn a_label_alone_proves_nothing() {
        let labels = [(names::MANAGED_LABEL.to_owned(), names::MANAGED_VALUE.to_owned())].into();
        let metadata = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
        assert!(matches!(ownership(&metadata, &owner()), Ownership::Foreign(_)));
    }

    #[test]
    fn evidence_is_only_what_names_this_domain_path_and_pin() {
        let okms_id: OkmsId = "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb".parse().unwrap();
        let other: OkmsId = "2f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb".parse().unwrap();
        let text = format!(r#"[{{"okmsId":"{okms_id}","path":"db","pin":7,"version":7}}]"#);
        let metadata = ObjectMeta {
            annotations: Some([(names::SOURCE_ANNOTATION.to_owned(), text)].into()),
            ..ObjectMeta::default()
        };
        let source = |path: &str, pin: Option<u32>| Source {
            path: path.parse().unwrap(),
            pin: pin.map(|pin| pin.try_into().unwrap()),
        };
        let found = |okms_id, source| evidence(&metadata, okms_id, &[&source])[0].is_some();
        assert!(found(&okms_id, source("db", Some(7))));
        assert!(!found(&okms_id, source("db", Some(8))), "a mistyped pin");
        assert!(!found(&okms_id, source("db", None)));
        assert!(!found(&okms_id, source("dbx", Some(7))), "an edited path");
        assert!(!found(&other, source("db", Some(7))), "a store pointed at another domain");
    }
}
