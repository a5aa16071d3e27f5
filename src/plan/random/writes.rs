//! What is written comes from the sources and templates and from nowhere else, and once it is written there is nothing left to do.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value as Tree, json};

use super::{
    OWNER, UID,
    answers::{Answer, answer, data, finding},
    claim,
    server::{Refusal, Server},
    specs::spec,
};
use crate::{
    api::{CreationPolicy, OkmsSecret, Reason, TemplateMode, WithdrawalPolicy, names},
    model::{Finding, Mark},
    plan::{
        Claim, Condition, Decision, Fingerprinter, KeyPlan, Known, Ownership, Snapshot, Written, decide, taken_out,
        type_of, wanted,
    },
};

/// A spec, what OKMS says of its sources, and what somebody did to the Secret before.
#[derive(Debug, Clone)]
struct Step {
    spec: OkmsSecret,
    answers: Vec<Answer>,
    edits: Vec<Edit>,
    retain: bool,
}

#[derive(Debug, Clone, Copy)]
enum Edit {
    Set(&'static str),
    Remove(&'static str),
    Label,
    Unlabel,
    Annotate,
    Strip,
    Disown,
    Freeze,
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    let good =
        (1_u32..4, data()).prop_map(|(version, data)| Answer::Active(version, 100 + i64::from(version), Some(data)));
    let answer = prop_oneof![6 => good, 1 => answer(data().prop_map(Some))];
    let edits = [
        Edit::Set("v"),
        Edit::Set("theirs"),
        Edit::Remove("v"),
        Edit::Label,
        Edit::Unlabel,
        Edit::Annotate,
        Edit::Strip,
        Edit::Disown,
        Edit::Freeze,
        Edit::Delete,
    ];
    (spec(), vec(answer, 5), vec(select(edits.to_vec()), 0..3), prop::bool::weighted(0.2))
        .prop_map(|(spec, answers, edits, retain)| Step { spec, answers, edits, retain })
}

/// One object, its Secret, and what the operator remembers of it.
#[derive(Default)]
struct Scene {
    server: Server,
    generation: i64,
    fingerprinter: Fingerprinter,
    written: Option<Written>,
    /// What the status says.
    previous: Option<Reason>,
}

impl Scene {
    /// One where somebody else has a Secret, and lets it be written.
    fn with_theirs(consent: bool) -> Self {
        let mut scene = Self::default();
        let annotations = if consent { json!({ (names::ALLOW_ANNOTATION): OWNER }) } else { json!({}) };
        let theirs = json!({"metadata": {"name": OWNER, "annotations": annotations}, "data": {"theirs": "eA=="}});
        scene.server.create("somebody", &serde_json::from_value(theirs).unwrap()).unwrap();
        scene
    }

    fn edit(&mut self, edit: Edit) {
        let Some(mut secret) = self.server.read() else { return };
        let metadata = &mut secret.metadata;
        let (labels, annotations) =
            (metadata.labels.get_or_insert_default(), metadata.annotations.get_or_insert_default());
        match edit {
            Edit::Set(key) => drop(secret.data.get_or_insert_default().insert(key.into(), ByteString(b"x".to_vec()))),
            Edit::Remove(key) => drop(secret.data.get_or_insert_default().remove(key)),
            Edit::Label => drop(labels.insert("team".into(), "theirs".into())),
            Edit::Unlabel => labels.clear(),
            Edit::Annotate => drop(annotations.insert("mine".into(), "theirs".into())),
            Edit::Strip => annotations.retain(|key, _| key == names::ALLOW_ANNOTATION),
            Edit::Disown => metadata.owner_references = None,
            Edit::Freeze => secret.immutable = Some(true),
            Edit::Delete => return self.server.delete(&secret).unwrap(),
        }
        // What is immutable stays as it is.
        let _ = self.server.update("somebody", &secret);
    }

    /// What is decided, as the controller has it decided; nothing where the Secret is not to be touched.
    fn decide(&self, claim: &Claim, findings: &[Finding], retain: bool) -> Option<Decision> {
        let target = self.server.read();
        let (mut condition, mut evidence) = (Condition::Unrendered, vec![None; findings.len()]);
        match &target {
            None if claim.merges() => return None,
            None => {}
            Some(secret) => {
                evidence = claim.evidence(&secret.metadata);
                match claim.ownership(secret) {
                    Ownership::Foreign { .. } => return None,
                    Ownership::Consented => {
                        let unlike = type_of(secret) != claim.wanted.target.type_.as_str();
                        if unlike || secret.immutable == Some(true) {
                            return None;
                        }
                    }
                    Ownership::Ours => {
                        let fingerprint = claim.fingerprint(&self.fingerprinter, secret);
                        condition = claim.condition(secret, self.generation, self.written.as_ref(), None, fingerprint);
                    }
                }
            }
        }
        let snapshot = Snapshot {
            claim,
            policy: if retain { WithdrawalPolicy::Retain } else { WithdrawalPolicy::Delete },
            target: target.as_ref(),
            condition,
            evidence: &evidence,
            synced: self.previous == Some(Reason::Synced),
            previous: self.previous,
            named: true,
        };
        Some(decide(&snapshot, &Known::Findings(findings), false))
    }

    /// Writes as the controller does.
    fn write(&mut self, claim: &Claim, secret: &Secret) -> Result<(), Refusal> {
        let manager = names::FIELD_MANAGER;
        match self.server.read() {
            None => self.server.create(manager, secret)?,
            Some(_) if claim.merges() => self.server.apply(&claim.owner.field_manager(), secret)?,
            Some(old) => match self.server.update(manager, secret) {
                Err(Refusal::Immutable) => {
                    self.server.delete(&old).unwrap();
                    self.server.create(manager, &claim.afresh(secret))?;
                }
                result => result?,
            },
        }
        let secret = self.server.read().unwrap();
        let fingerprint = claim.fingerprint(&self.fingerprinter, &secret);
        self.written = Some(Written { generation: self.generation, fingerprint });
        self.previous = Some(Reason::Synced);
        Ok(())
    }

    fn take_away(&mut self, claim: &Claim) {
        let secret = self.server.read().unwrap();
        if claim.merges() {
            self.server.apply(&claim.owner.field_manager(), &taken_out(&secret)).unwrap();
        } else {
            self.server.delete(&secret).unwrap();
        }
    }
}

/// The same source has the same answer, however often it is named.
fn findings(claim: &Claim, answers: &[Answer]) -> Vec<Finding> {
    let sources: Vec<_> = claim.wanted.sources.iter().map(|wanted| &wanted.source).collect();
    let answer_to = |source| &answers[sources.iter().position(|known| *known == source).unwrap()];
    sources.iter().map(|source| finding(source, answer_to(*source), None)).collect()
}

/// Every key that the sources with a mark, or templates, give.
fn given(claim: &Claim, answers: &[Finding], marks: &[Option<Mark>]) -> BTreeSet<String> {
    let templates = &claim.wanted.templates;
    let mut keys: BTreeSet<String> = templates.data.keys().map(ToString::to_string).collect();
    if !keys.is_empty() && templates.mode == TemplateMode::Replace {
        return keys;
    }
    for ((wanted, finding), _) in claim.wanted.sources.iter().zip(answers).zip(marks).filter(|(_, mark)| mark.is_some())
    {
        let crate::model::Verdict::Active { value: Some(value), .. } = &finding.verdict else { continue };
        match &wanted.keys {
            KeyPlan::Selected(rules) => keys.extend(rules.iter().map(|rule| rule.to.to_string())),
            KeyPlan::All => {
                let tree: Tree = serde_json::from_slice(value.expose()).unwrap();
                let fields = tree.as_object().into_iter().flatten();
                keys.extend(fields.map(|(name, _)| format!("{}{name}", wanted.prefix)));
            }
        }
    }
    keys
}

/// What is in the Secret and is not claimed.
fn theirs(scene: &Scene, claim: &Claim) -> BTreeMap<String, ByteString> {
    let Some(secret) = scene.server.read().filter(|_| claim.merges()) else { return BTreeMap::new() };
    let ours = claim.content(&secret).data;
    secret.data.unwrap_or_default().into_iter().filter(|(key, _)| !ours.contains_key(key)).collect()
}

/// Whether that is still there. It may be claimed now too, where both say the same.
fn is_there(scene: &Scene, theirs: &BTreeMap<String, ByteString>) -> bool {
    let data = scene.server.read().and_then(|secret| secret.data).unwrap_or_default();
    theirs.iter().all(|(key, value)| data.get(key) == Some(value))
}

fn what_is_written_is_written_once(steps: &[Step], mut scene: Scene) -> Result<(), TestCaseError> {
    for step in steps {
        step.edits.iter().for_each(|edit| scene.edit(*edit));
        scene.generation += 1;
        let claim = claim(wanted(&step.spec).unwrap());
        let checked: Vec<Answer> = step.answers.iter().map(Answer::checked).collect();
        let (answers, checked) = (findings(&claim, &step.answers), findings(&claim, &checked));
        let (writes, theirs) = (scene.server.writes(), theirs(&scene, &claim));
        match scene.decide(&claim, &answers, step.retain) {
            Some(Decision::Write { secret, marks, .. }) => {
                let keys: BTreeSet<String> = secret.data.iter().flatten().map(|(key, _)| key.clone()).collect();
                prop_assert!(!keys.is_empty() && keys.is_subset(&given(&claim, &answers, &marks)), "{keys:?}");
                let refused = scene.write(&claim, &secret);
                prop_assert!(is_there(&scene, &theirs), "what is somebody else's changed");
                if let Err(refusal) = refused {
                    prop_assert_eq!((refusal, claim.merges()), (Refusal::Contested, true));
                    prop_assert_eq!(scene.server.writes(), writes);
                    continue;
                }
                let now = scene.server.read().unwrap();
                prop_assert!(claim.is_dressed(&now, &marks));
                prop_assert_eq!(&claim.evidence(&now.metadata), &marks);
                let owned = now.metadata.owner_references.iter().flatten().filter(|owner| owner.uid == UID).count();
                prop_assert_eq!(owned, usize::from(claim.wanted.target.policy == CreationPolicy::Owner));
                for again in [&answers, &checked] {
                    let Some(Decision::Synced { marks: again }) = scene.decide(&claim, again, step.retain) else {
                        return Err(TestCaseError::fail("it is to be written again"));
                    };
                    prop_assert_eq!(&again, &marks);
                }
            }
            Some(Decision::Withdraw { reason, message }) => {
                scene.take_away(&claim);
                prop_assert!(is_there(&scene, &theirs), "what is somebody else's changed");
                prop_assert!(scene.server.read().is_none_or(|secret| claim.merges() && !claim.holds(&secret)));
                (scene.written, scene.previous) = (None, Some(reason));
                match scene.decide(&claim, &answers, step.retain) {
                    // Where there are several, another may be next to be named.
                    Some(Decision::Report { message: then, .. }) => {
                        prop_assert!(then == message || answers.len() > 1, "{then:?} and not {message:?}");
                    }
                    Some(Decision::Keep) | None => {}
                    Some(_) => return Err(TestCaseError::fail("something is to be done once more")),
                }
            }
            Some(Decision::Synced { .. }) => scene.previous = Some(Reason::Synced),
            Some(Decision::Report { reason, .. } | Decision::NotRendered { reason, .. }) => {
                scene.previous = Some(reason);
            }
            Some(Decision::Keep | Decision::Read { .. }) | None => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 1000 } else { 20_000 }))]

    #[test]
    fn what_is_written_is_given_and_written_once(
        steps in vec(step(), 1..5),
        theirs in proptest::option::of(prop::bool::weighted(0.8)),
    ) {
        what_is_written_is_written_once(&steps, theirs.map_or_else(Scene::default, Scene::with_theirs))?;
    }
}
