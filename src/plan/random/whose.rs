//! A Secret is ours only if it says so and nobody else has it, whatever else stands in its metadata.

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::json;

use super::{OWNER, UID, claim, owner, specs::object};
use crate::{
    api::{CreationPolicy, names},
    plan::{Claim, Leftover, Ownership, SecretType, claimants, keep_claimants, type_of, wanted},
};

fn secret() -> impl Strategy<Value = Secret> {
    let name = || select(vec!["db", "db", "other", "db2", "DB", ""]);
    let reference = (
        select(vec!["OkmsSecret", "OkmsSecret", "Certificate"]),
        select(vec!["okms-operator.io/v1alpha1", "okms-operator.io/v9", "example.com/v1", "okms-operator.io.evil/v1"]),
        name(),
        select(vec!["uid-1", "uid-2"]),
    );
    let reference = reference
        .prop_map(|(kind, version, name, uid)| json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid}));
    // The API server takes one controller at most.
    let controller = option::of(reference.clone().prop_map(|mut reference| {
        reference["controller"] = json!(true);
        reference
    }));
    let allow = select(vec![None, Some("db"), Some("other, db"), Some("other"), Some("*"), Some("db2")]);
    let merged = (
        select(vec!["uid-1", "uid-2"]),
        select(vec![r#"{"owner":"db","sources":[]}"#, r#"{"owner":"other","sources":[]}"#, "{", r#"{"owner":7}"#]),
    );
    let manager = select(vec!["okms-operator", "okms-operator", "okms-operator/uid-1", "somebody"]);
    let types = vec!["Opaque", "Opaque", "example.com/x", "helm.sh/release.v1", "kubernetes.io/service-account-token"];
    (
        option::of(name()),
        vec(reference, 0..2),
        controller,
        allow,
        option::of(merged),
        (select(types), vec((manager, 0..3), 0..3), any::<bool>()),
    )
        .prop_map(|(owner, mut references, controller, allow, merged, (type_, managers, managed))| {
            references.extend(controller);
            let mut annotations = json!({"source": "[]"});
            if let Some(owner) = owner {
                annotations[names::OWNER_ANNOTATION] = json!(owner);
            }
            if let Some(allow) = allow {
                annotations[names::ALLOW_ANNOTATION] = json!(allow);
            }
            if let Some((uid, share)) = merged {
                annotations[format!("{}{uid}", names::MERGED_ANNOTATION_PREFIX)] = json!(share);
            }
            let labels = if managed { json!({ (names::MANAGED_LABEL): "true" }) } else { json!({}) };
            let managers: Vec<_> = managers
                .iter()
                .map(|(manager, second)| {
                    let mut fields = json!({"f:data": {"f:v": {}}});
                    if *manager == names::FIELD_MANAGER {
                        fields["f:metadata"] =
                            json!({"f:annotations": {format!("f:{}", names::SOURCE_ANNOTATION): {}}});
                    }
                    let time = format!("2026-01-02T03:04:0{second}Z");
                    json!({"manager": manager, "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields})
                })
                .collect();
            let metadata = json!({"name": "db", "annotations": annotations, "labels": labels,
                "ownerReferences": references, "managedFields": managers});
            serde_json::from_value(json!({"metadata": metadata, "type": type_, "data": {"v": "eA=="}})).unwrap()
        })
}

fn of(policy: CreationPolicy) -> Claim {
    let spec = json!({"path": "a", "target": {"creationPolicy": policy}});
    claim(wanted(&object(serde_json::from_value(spec).unwrap())).unwrap())
}

/// What the metadata says, taken apart without the code that is tried.
struct Says {
    owner: Option<String>,
    controller: Option<(String, String, String)>,
    allows: bool,
    /// Who merges into it.
    merge: Vec<String>,
    harmless: bool,
}

impl Says {
    fn of(secret: &Secret) -> Self {
        let tree = serde_json::to_value(&secret.metadata).unwrap();
        let references = tree["ownerReferences"].as_array().cloned().unwrap_or_default();
        let text = |of: &serde_json::Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
        let controller = references.iter().find(|reference| reference["controller"] == true).map(|reference| {
            let (group, kind) = (text(reference, "apiVersion"), text(reference, "kind"));
            let ours = group.starts_with("okms-operator.io/") && kind == "OkmsSecret";
            (if ours { "ours".to_owned() } else { kind }, text(reference, "name"), text(reference, "uid"))
        });
        let annotations = &tree["annotations"];
        let merges = annotations.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("merged."));
        let shares: Vec<&str> = merges.filter_map(|(_, share)| share.as_str()).collect();
        Self {
            owner: annotations["okms-operator.io/owner"].as_str().map(str::to_owned),
            controller,
            allows: ["db", "other, db"].iter().any(|names| annotations["okms-operator.io/allow"] == *names),
            merge: ["db", "other"]
                .into_iter()
                .filter(|name| shares.iter().any(|share| share.contains(&format!(r#""owner":"{name}""#))))
                .map(str::to_owned)
                .collect(),
            harmless: ["Opaque", "example.com/x"].contains(&type_of(secret)),
        }
    }

    fn is_named(&self) -> bool {
        self.owner.as_deref() == Some(OWNER)
    }

    /// Controlled by an object of our name, or by nobody.
    fn is_free_of_others(&self) -> bool {
        self.controller.as_ref().is_none_or(|(kind, name, _)| kind == "ours" && name == OWNER)
    }

    fn is_controlled_by_us(&self) -> bool {
        self.is_free_of_others() && self.controller.as_ref().is_some_and(|(.., uid)| uid == UID)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_whole_is_ours_only_if_it_says_so_and_nobody_else_has_it(secret in secret()) {
        let says = Says::of(&secret);
        for policy in [CreationPolicy::Owner, CreationPolicy::Orphan] {
            let ownership = of(policy).ownership(&secret);
            let ours = says.harmless
                && says.is_free_of_others()
                && (says.is_named() || (says.owner.is_none() && says.is_controlled_by_us()));
            prop_assert_eq!(ownership == Ownership::Ours, ours, "{:?}", &ownership);
            let given = says.harmless && says.owner.is_none() && says.controller.is_none();
            let given = given && says.allows && says.merge.is_empty();
            prop_assert_eq!(ownership == Ownership::Consented, given, "{:?}", &ownership);
        }
    }

    #[test]
    fn a_part_is_ours_only_with_consent_to_what_nobody_has(secret in secret()) {
        let says = Says::of(&secret);
        let ownership = of(CreationPolicy::Merge).ownership(&secret);
        let ours = says.harmless && says.allows && says.owner.is_none() && says.controller.is_none();
        prop_assert_eq!(ownership == Ownership::Ours, ours, "{:?}", &ownership);
        prop_assert!(ownership != Ownership::Consented);
    }

    #[test]
    fn what_a_renamed_target_leaves_is_deleted_only_if_it_is_ours_and_only_we_wrote_it(secret in secret()) {
        let says = Says::of(&secret);
        let entries = || secret.metadata.managed_fields.iter().flatten();
        let is_ours = |entry: &&ManagedFieldsEntry| entry.manager.as_deref() == Some(names::FIELD_MANAGER);
        let last = entries().filter(is_ours).map(|entry| entry.time.clone()).max();
        let only_we = last.is_some_and(|last| entries().filter(|entry| !is_ours(entry)).all(|entry| entry.time < last));
        let mut references = secret.metadata.owner_references.iter().flatten();
        let owned = references.any(|reference| {
            reference.kind == "OkmsSecret"
                && reference.api_version.starts_with("okms-operator.io/")
                && reference.name == OWNER
        });
        let has_keys = entries().any(|entry| entry.manager.as_deref() == Some(&owner().field_manager()));
        for policy in [CreationPolicy::Owner, CreationPolicy::Orphan, CreationPolicy::Merge] {
            let ours = (says.is_named() || says.is_controlled_by_us()) && says.is_free_of_others() && says.harmless;
            match of(policy).leftover(&secret) {
                Leftover::Delete => prop_assert!(ours && only_we && owned),
                Leftover::Release(free) => {
                    prop_assert!(ours && only_we && !owned);
                    prop_assert!(free.data == secret.data && free.type_ == secret.type_);
                }
                Leftover::TakeOut => prop_assert!(has_keys),
                Leftover::NotOurs => {}
            }
        }
    }

    #[test]
    fn whoever_a_secret_names_is_woken(secret in secret()) {
        let (says, woken) = (Says::of(&secret), claimants(&secret.metadata));
        prop_assert!(says.owner.is_none_or(|owner| woken.contains(&owner)));
        prop_assert!(says.controller.is_none_or(|(kind, name, _)| kind != "ours" || woken.contains(&name)));
        prop_assert!(says.merge.iter().all(|name| woken.contains(name)));
        let mut kept = secret.metadata.clone();
        keep_claimants(&mut kept);
        prop_assert_eq!(claimants(&kept), woken);
        // Only what may be written at all has a type of ours.
        prop_assert_eq!(says.harmless, type_of(&secret).parse::<SecretType>().is_ok());
    }
}
