//! What may be deleted, written or said, whatever OKMS said of several sources, and whatever the target is.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::json;

use super::{
    OWNER,
    answers::{Answer, answer, finding, mark, withdrawal},
    claim,
    server::Server,
};
use crate::{
    api::{CreationPolicy, OnKeyConflict, Reason, WithdrawalPolicy, names},
    model::{Finding, Mark, Source, Withdrawal},
    plan::{
        Claim, Condition, Content, Decision, KeyPlan, Known, Place, Snapshot, SourceSet, TargetShape, Templates,
        Wanted, WantedSource, decide,
    },
};

/// A source, what the target was made from, and what OKMS says of it now.
#[derive(Debug, Clone)]
struct Moment {
    optional: bool,
    pin: Option<u32>,
    evidence: Option<Mark>,
    answer: Answer,
    /// The version in the target was taken back, though not the one that is meant now.
    held: Option<Withdrawal>,
}

fn moment() -> impl Strategy<Value = Moment> {
    let text = select(vec![None, Some("{}"), Some(r#"{"v":"1"}"#), Some(r#"{"v":"1"}"#), Some(r#"{"a b":1}"#)]);
    let evidence = option::weighted(0.7, (1_u32..4, 98_i64..103).prop_map(|(version, at)| mark(version, at)));
    let held = option::weighted(0.2, withdrawal());
    let answer = answer(text.prop_map(|text| text.map(str::to_owned)));
    // Often what the target holds is what there is.
    let same = (any::<bool>(), any::<bool>());
    (any::<bool>(), option::weighted(0.3, 1_u32..4), evidence, answer, held, same).prop_map(
        |(optional, pin, evidence, mut answer, held, (same, read))| {
            if let (Answer::Active(version, at, text), Some(evidence), true) = (&mut answer, &evidence, same) {
                (*version, *at) = (evidence.version.get(), evidence.created_at.unwrap().as_second());
                *text = text.take().filter(|_| read);
            }
            Moment { optional, pin, evidence, answer, held }
        },
    )
}

impl Moment {
    fn wanted(&self, n: usize) -> WantedSource {
        let pin = self.pin.map(|pin| pin.try_into().unwrap());
        let source = Source { path: format!("p{n}").parse().unwrap(), pin };
        let (place, prefix) = (Place::Entry(n), format!("P{n}_"));
        WantedSource { place, source, keys: KeyPlan::All, prefix, optional: self.optional }
    }

    /// Whether OKMS proved that what the target holds of this was taken back.
    fn is_proof(&self) -> bool {
        self.evidence.is_some() && (self.answer.is_proof() || self.held.is_some())
    }
}

fn claim_of(moments: &[Moment], policy: CreationPolicy) -> Claim {
    let sources = moments.iter().enumerate().map(|(n, moment)| moment.wanted(n)).collect();
    claim(Wanted {
        sources: SourceSet::from_list(sources).unwrap(),
        on_key_conflict: OnKeyConflict::Error,
        templates: Templates::default(),
        target: TargetShape { name: OWNER.into(), policy, ..TargetShape::default() },
    })
}

/// The target that was made from what the moments say.
fn target(claim: &Claim, evidence: &[Option<Mark>]) -> Secret {
    let data = [("P0_v".to_owned(), ByteString(b"1".to_vec()))].into();
    let content = Content { data, ..Content::default() };
    let mut server = Server::default();
    if claim.merges() {
        let metadata = json!({"name": OWNER, "annotations": { (names::ALLOW_ANNOTATION): OWNER }});
        let theirs = serde_json::from_value(json!({ "metadata": metadata, "data": {"theirs": "eA=="} })).unwrap();
        server.create("somebody", &theirs).unwrap();
        let part = claim.desired(content, evidence, server.read().as_ref());
        server.apply(&claim.owner.field_manager(), &part).unwrap();
    } else {
        server.create(names::FIELD_MANAGER, &claim.desired(content, evidence, None)).unwrap();
    }
    server.read().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 3000 } else { 100_000 }))]

    /// The target is deleted only on proof, with evidence and by a policy that says so; what is written or said to be in step is made
    /// of what can be read, and never goes back.
    #[test]
    fn no_snapshot_deletes_or_claims_too_much(
        mut moments in vec(moment(), 1..5),
        policy in select(vec![CreationPolicy::Owner, CreationPolicy::Orphan, CreationPolicy::Merge]),
        has_target: bool,
        condition in select(vec![Condition::Intact, Condition::Intact, Condition::Drifted, Condition::Unrendered]),
        synced: bool,
        previous in option::of(select(Reason::ALL.to_vec())),
        named: bool,
        stale: bool,
        retain: bool,
    ) {
        if !has_target {
            for moment in &mut moments {
                moment.evidence = None;
            }
        }
        let claim = claim_of(&moments, policy);
        let evidence: Vec<Option<Mark>> = moments.iter().map(|moment| moment.evidence).collect();
        let target = has_target.then(|| target(&claim, &evidence));
        let condition = if has_target { condition } else { Condition::Unrendered };
        let sources = claim.wanted.sources.iter().map(|wanted| &wanted.source);
        let findings: Vec<Finding> =
            sources.zip(&moments).map(|(source, moment)| finding(source, &moment.answer, moment.held)).collect();
        let snapshot = Snapshot {
            claim: &claim,
            policy: if retain { WithdrawalPolicy::Retain } else { WithdrawalPolicy::Delete },
            target: target.as_ref(),
            condition,
            evidence: &evidence,
            synced,
            previous,
            named,
        };
        let is_read = |(moment, mark): (&Moment, &Option<Mark>)| {
            mark.is_none() || matches!(moment.answer, Answer::Active(_, _, Some(_)))
        };
        match decide(&snapshot, &Known::Findings(&findings), stale) {
            Decision::Withdraw { .. } => {
                prop_assert!(has_target && !retain && claim.holds(target.as_ref().unwrap()));
                // What is optional goes alone, unless the target holds nothing else.
                let lasts = |moment: &Moment| !moment.optional || (moment.evidence.is_some() && !moment.is_proof());
                let nothing_left = !moments.iter().any(lasts);
                let takes_all = |moment: &Moment| !moment.optional || nothing_left;
                prop_assert!(moments.iter().any(|moment| moment.is_proof() && takes_all(moment)));
            }
            Decision::Synced { marks } => {
                made_of_what_is_there(&moments, &marks, retain)?;
                let unchanged = marks.iter().zip(&evidence).all(|(mark, held)| match (mark, held) {
                    (Some(mark), Some(held)) => held.is_same_as(mark),
                    (mark, held) => mark.is_none() && held.is_none(),
                });
                let at_rest = condition == Condition::Intact && unchanged && !stale;
                prop_assert!(has_target && (at_rest || moments.iter().zip(&marks).all(is_read)));
            }
            Decision::Write { secret, marks, drops } => {
                made_of_what_is_there(&moments, &marks, retain)?;
                let dropped = marks.iter().zip(&evidence).any(|(mark, held)| mark.is_none() && held.is_some());
                prop_assert_eq!(drops, dropped);
                prop_assert_eq!(&claim.evidence(&secret.metadata), &marks);
                if !moments.iter().zip(&marks).all(is_read) {
                    // Nothing was read: only what is around the content of an intact target may differ.
                    prop_assert!(has_target && condition == Condition::Intact && !stale && !drops);
                    prop_assert!(secret.data.unwrap() == claim.content(target.as_ref().unwrap()).data);
                }
            }
            Decision::Read { marks } => {
                made_of_what_is_there(&moments, &marks, retain)?;
                prop_assert!(!moments.iter().zip(&marks).all(is_read), "all was read");
            }
            Decision::NotRendered { marks, .. } => prop_assert!(moments.iter().zip(&marks).all(is_read)),
            Decision::Keep | Decision::Report { .. } => {}
        }
    }
}

/// Every source that is required gives what OKMS shows now, and what a target held of another is left out only on proof.
fn made_of_what_is_there(moments: &[Moment], marks: &[Option<Mark>], retain: bool) -> Result<(), TestCaseError> {
    prop_assert!(marks.iter().any(Option::is_some), "made of nothing");
    for (moment, made) in moments.iter().zip(marks) {
        match (&moment.answer, made) {
            (Answer::Active(version, at, _), Some(made)) => {
                prop_assert_eq!(made, &mark(*version, *at));
                let back = moment.evidence.is_some_and(|held| match moment.pin {
                    Some(_) => made.is_newer_creation_than(&held),
                    None => made.is_stale_after(&held),
                });
                prop_assert!(!back, "it goes back, or means other content");
            }
            (answer, None) => {
                // One that is too large now may have been taken back as it was.
                let gone = answer.is_proof() || (!answer.is_active() && moment.held.is_some());
                prop_assert!(moment.optional && !answer.is_active());
                prop_assert!(answer.verdict().is_absence() || gone, "a failure is no absence");
                prop_assert!(moment.evidence.is_none() || (gone && !retain), "left out without proof");
            }
            (_, Some(_)) => return Err(TestCaseError::fail("made of what cannot be read")),
        }
    }
    Ok(())
}
