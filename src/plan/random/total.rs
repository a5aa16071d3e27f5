//! Nothing panics, whatever somebody wrote into a spec or a Secret and whatever OKMS sent.

use k8s_openapi::api::core::v1::Secret;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value as Tree, json};

use super::{
    answers::{Answer, answer, finding, withdrawal},
    claim,
    specs::{any_spec, object, spec},
};
use crate::{
    api::{Reason, WithdrawalPolicy},
    model::{StoreTrouble, StoreTroubleKind},
    plan::{
        Condition, Content, Decision, Fingerprinter, Known, Snapshot, Written, claimants, decide, other_writer,
        source_state, taken_out, wanted,
    },
};

fn tree() -> impl Strategy<Value = Tree> {
    let names = || select(vec!["f:data", "f:metadata", "f:labels", "f:annotations", "f:v", "f:team", ".", "k:{}", "v"]);
    let leaf = prop_oneof![Just(json!({})), Just(Tree::Null), any::<i64>().prop_map(Tree::from), Just(json!(["f:v"]))];
    leaf.prop_recursive(4, 16, 3, move |inner| {
        vec((names(), inner), 0..3)
            .prop_map(|all| all.into_iter().map(|(name, tree)| (name.to_owned(), tree)).collect())
    })
}

/// A Secret with anything in it, and in particular in the places that are read.
fn any_secret() -> impl Strategy<Value = Secret> {
    let text = || {
        prop_oneof![
            any::<String>(),
            select(vec!["db", "true", "[]", "{", "[{\"okmsId\":1}]", "{\"owner\":\"db\",\"sources\":[{}]}"])
                .prop_map(str::to_owned),
            Just(
                r#"[{"okmsId":"1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb","path":"a","version":2,"createdAt":"x"}]"#.into()
            ),
            Just(r#"[{"okmsId":"1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb","path":"a","version":2}]"#.into()),
        ]
    };
    let keys = select(vec![
        "okms-operator.io/owner",
        "okms-operator.io/source",
        "okms-operator.io/template",
        "okms-operator.io/allow",
        "okms-operator.io/managed",
        "merged.okms-operator.io/uid-1",
        "merged.okms-operator.io/",
        "team",
    ]);
    let texts = move || {
        vec((keys.clone(), text()), 0..5).prop_map(|all| all.into_iter().map(|(key, text)| (key.to_owned(), text)))
    };
    let manager = option::of(select(vec!["okms-operator", "okms-operator/uid-1", "somebody", ""]));
    let managers = vec((manager, option::of(tree())), 0..3);
    let data = vec(("[a-zV.]{0,3}", vec(any::<u8>(), 0..4)), 0..4);
    let type_ = option::of(select(vec!["Opaque", "", "example.com/x", "kubernetes.io/tls", "helm.sh/x"]));
    (texts(), texts(), managers, data, type_, option::of(any::<bool>())).prop_map(
        |(labels, annotations, managers, data, type_, immutable)| {
            let mut secret = Secret { type_: type_.map(str::to_owned), immutable, ..Secret::default() };
            secret.data = Some(data.into_iter().map(|(key, bytes)| (key, k8s_openapi::ByteString(bytes))).collect());
            secret.metadata.labels = Some(labels.collect());
            secret.metadata.annotations = Some(annotations.collect());
            let managers =
                managers.into_iter().map(|(manager, fields)| json!({"manager": manager, "fieldsV1": fields}));
            secret.metadata.managed_fields = Some(managers.map(|one| serde_json::from_value(one).unwrap()).collect());
            secret
        },
    )
}

/// Of data too that is no JSON, and no text.
fn any_answer() -> impl Strategy<Value = Answer> {
    answer(option::of(prop_oneof![super::answers::data(), any::<String>(), Just("[".repeat(10_000))]))
}

proptest! {
    #[test]
    fn any_spec_is_wanted_or_said_to_be_wrong(spec in any_spec()) {
        match wanted(&object(spec.clone())) {
            Ok(wanted) => {
                let given = spec.sources.map_or(1, |sources| sources.len());
                prop_assert_eq!(wanted.sources.iter().count(), given);
            }
            Err(message) => prop_assert!(message.starts_with("spec"), "{} names no field", message),
        }
    }

    #[test]
    fn any_secret_and_any_answer_lead_to_a_decision(
        spec in spec(),
        secret in option::of(any_secret()),
        answers in vec((any_answer(), option::of(withdrawal())), 5),
        intact in any::<bool>(),
        previous in option::of(select(Reason::ALL.to_vec())),
        named: bool,
        told in option::of(0_usize..4),
        (synced, stale, retain, down) in any::<(bool, bool, bool, bool)>(),
    ) {
        let mut claim = claim(wanted(&spec).unwrap());
        let fingerprinter = Fingerprinter::new();
        let mut evidence = vec![None; claim.wanted.sources.iter().count()];
        let mut condition = Condition::Unrendered;
        if let Some(secret) = &secret {
            let fingerprint = claim.fingerprint(&fingerprinter, secret);
            let written = intact.then_some(Written { generation: 1, fingerprint });
            condition = claim.condition(secret, 1, written.as_ref(), told, fingerprint);
            evidence = claim.evidence(&secret.metadata);
            claim.find_predecessors(secret, |_| retain);
            let _ = (claim.ownership(secret), claim.leftover(secret), claim.has_share(secret), claim.holds(secret));
            let _ = (claimants(&secret.metadata), other_writer(&secret.metadata));
            let desired = claim.desired(Content::default(), &evidence, Some(secret));
            let _ = (claim.differs(secret, &desired), claim.is_dressed(secret, &evidence), taken_out(secret));
        }
        let sources = claim.wanted.sources.iter().map(|wanted| &wanted.source);
        let findings: Vec<_> =
            sources.zip(&answers).map(|(source, (answer, held))| finding(source, answer, *held)).collect();
        for finding in &findings {
            let _ = source_state(finding, retain);
        }
        let trouble = StoreTrouble { kind: StoreTroubleKind::OkmsUnavailable, message: "no answer".into() };
        let known = if down { Known::Down(&trouble) } else { Known::Findings(&findings) };
        let snapshot = Snapshot {
            claim: &claim,
            policy: if retain { WithdrawalPolicy::Retain } else { WithdrawalPolicy::Delete },
            target: secret.as_ref(),
            condition,
            evidence: &evidence,
            synced,
            previous,
            named,
        };
        let decision = decide(&snapshot, &known, stale);
        if let Decision::Report { message, .. } | Decision::Withdraw { message, .. } = &decision {
            prop_assert!(!message.is_empty());
        }
        // While nothing is known nothing changes.
        let nothing_done = matches!(decision, Decision::Keep | Decision::Report { .. });
        prop_assert!(!down || nothing_done);
    }
}
