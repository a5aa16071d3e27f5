//! Whether a Secret may be written, and if not, whose it is.
//!
//! The rule that holds throughout: a label proves nothing. A Secret is ours when its owner annotation names our `OkmsSecret`, or it is
//! controlled by exactly that object, and nobody else controls it. Consent, by an annotation that people set, opens what is nobody's;
//! it never opens another `OkmsSecret`'s target, what a controller owns, or a type that means something to the cluster.

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Owner, annotation, is_okms_secret, label, merged, type_of};
use crate::{api::names, plan::SecretType};

/// Whether a Secret may be written, and if not, whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    Ours,
    /// It is not ours yet, and may be taken over.
    Consented,
    /// The clause says who has it.
    Foreign {
        whose: String,
        may_consent: bool,
    },
}

/// Judges a Secret that has the name of a target, for a claim to the whole of it.
pub(super) fn of_whole(secret: &Secret, owner: &Owner) -> Ownership {
    let metadata = &secret.metadata;
    if let Some(refused) = forbidden_type(secret) {
        return refused;
    }
    let annotated = annotation(metadata, names::OWNER_ANNOTATION);
    let controller = metadata.owner_references.iter().flatten().find(|reference| reference.controller == Some(true));
    match (controller, annotated) {
        // A copy of our own reference, or a reference to an object of our name that was restored under another uid.
        (Some(reference), annotated) if is_okms_secret(reference) && reference.name == owner.name => {
            let same = reference.uid == owner.uid;
            match annotated {
                Some(name) if name != owner.name => foreign(format!("belongs to OkmsSecret {name}")),
                None if !same => foreign(format!("is controlled by another OkmsSecret {}", owner.name)),
                _ => Ownership::Ours,
            }
        }
        (Some(reference), _) => foreign(format!("is controlled by {} {}", reference.kind, reference.name)),
        (None, Some(name)) if name == owner.name => Ownership::Ours,
        (None, Some(name)) => foreign(format!("belongs to OkmsSecret {name}")),
        // Consent to add keys is none to take over what they were added to.
        (None, None) => match merged::owners(metadata).into_iter().next() {
            Some(other) => foreign(format!("holds keys that OkmsSecret {other} merges into it")),
            None if allows(metadata, owner) => Ownership::Consented,
            None => Ownership::Foreign { whose: maker(metadata), may_consent: true },
        },
    }
}

/// The same for a claim to some keys of it, which always needs consent.
pub(super) fn of_part(secret: &Secret, owner: &Owner) -> Ownership {
    let metadata = &secret.metadata;
    if let Some(refused) = forbidden_type(secret) {
        return refused;
    }
    let controller = metadata.owner_references.iter().flatten().find(|reference| reference.controller == Some(true));
    match (annotation(metadata, names::OWNER_ANNOTATION), controller) {
        (Some(name), _) => foreign(format!("is the target of OkmsSecret {name}")),
        (None, Some(reference)) => foreign(format!("is controlled by {} {}", reference.kind, reference.name)),
        (None, None) if allows(metadata, owner) => Ownership::Ours,
        (None, None) => Ownership::Foreign { whose: maker(metadata), may_consent: true },
    }
}

fn foreign(whose: String) -> Ownership {
    Ownership::Foreign { whose, may_consent: false }
}

/// What Kubernetes or Helm reads must not be written by whatever route.
fn forbidden_type(secret: &Secret) -> Option<Ownership> {
    let type_ = type_of(secret);
    let forbidden = type_.parse::<SecretType>().is_err();
    forbidden.then(|| foreign(format!("is of type {type_}, which means something to the cluster")))
}

/// Whether somebody who may write the Secret gave it to this `OkmsSecret`.
fn allows(metadata: &ObjectMeta, owner: &Owner) -> bool {
    let allowed = annotation(metadata, names::ALLOW_ANNOTATION).unwrap_or_default();
    allowed.split(',').any(|name| name.trim() == owner.name)
}

fn maker(metadata: &ObjectMeta) -> String {
    if let Some(manager) = label(metadata, names::MANAGED_BY_LABEL) {
        return format!("is managed by {manager}");
    }
    let entries = metadata.managed_fields.iter().flatten();
    let last = entries.max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    match last.and_then(|entry| entry.manager.as_deref()) {
        Some(manager) => format!("was last written by {manager}"),
        None => "was made by somebody else".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    fn owner() -> Owner {
        Owner { name: "db".into(), uid: "uid-1".into() }
    }

    fn secret(annotations: &[(&str, &str)], reference: Option<OwnerReference>) -> Secret {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let metadata = ObjectMeta {
            annotations: Some(annotations),
            owner_references: reference.map(|reference| vec![reference]),
            ..ObjectMeta::default()
        };
        Secret { metadata, ..Secret::default() }
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
        let annotations: Vec<_> = annotation.into_iter().map(|name| (names::OWNER_ANNOTATION, name)).collect();
        of_whole(&secret(&annotations, controller), &owner()) == Ownership::Ours
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
        let secret = Secret { metadata, ..Secret::default() };
        assert!(matches!(of_whole(&secret, &owner()), Ownership::Foreign { .. }));
    }

    #[test]
    fn consent_opens_what_is_nobodys_and_nothing_else() {
        for (allowed, consents) in
            [("db", true), ("other, db", true), ("", false), ("other", false), ("db2", false), ("*", false)]
        {
            let open = secret(&[(names::ALLOW_ANNOTATION, allowed)], None);
            assert_eq!(of_whole(&open, &owner()) == Ownership::Consented, consents, "{allowed}");
            assert_eq!(of_part(&open, &owner()) == Ownership::Ours, consents, "{allowed}");
        }
        let allow = (names::ALLOW_ANNOTATION, "db");
        let controlled = Some(reference("Certificate", "cert-manager.io", "web", "uid-3"));
        let merged = (r"merged.okms-operator.io/uid-2", r#"{"owner":"other","sources":[]}"#);
        for closed in [
            secret(&[allow, (names::OWNER_ANNOTATION, "other")], None),
            secret(&[allow], controlled),
            Secret { type_: Some("kubernetes.io/service-account-token".to_owned()), ..secret(&[allow], None) },
        ] {
            assert!(matches!(of_whole(&closed, &owner()), Ownership::Foreign { may_consent: false, .. }));
            assert!(matches!(of_part(&closed, &owner()), Ownership::Foreign { may_consent: false, .. }));
        }
        let shared = secret(&[allow, merged], None);
        assert!(matches!(of_whole(&shared, &owner()), Ownership::Foreign { may_consent: false, .. }));
        assert_eq!(of_part(&shared, &owner()), Ownership::Ours, "two may merge into one");
    }

    #[test]
    fn a_type_that_means_something_to_the_cluster_is_never_ours() {
        for type_ in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"] {
            let named = secret(&[(names::OWNER_ANNOTATION, "db"), (names::ALLOW_ANNOTATION, "db")], None);
            let named = Secret { type_: Some(type_.to_owned()), ..named };
            assert!(matches!(of_whole(&named, &owner()), Ownership::Foreign { .. }), "{type_}");
        }
    }
}
