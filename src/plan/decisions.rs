//! Tests of [`decide`](super::decide()): a snapshot in, a decision out. What holds of any snapshot is tried in [`random`](super::random).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use zeroize::Zeroizing;

use super::*;
use crate::{
    api::{OnKeyConflict, Reason, WithdrawalPolicy},
    model::{
        Finding, Mark, OkmsId, Source, StoreTrouble, StoreTroubleKind, Trouble, TroubleKind, Value, Verdict, Withdrawal,
    },
};

/// A case under construction: by default an intact, synced target made from `db@1`.
struct Case {
    claim: Claim,
    policy: WithdrawalPolicy,
    target: Option<Secret>,
    condition: Condition,
    evidence: Vec<Option<Mark>>,
    synced: bool,
    previous: Option<Reason>,
    named: bool,
    stale: bool,
}

fn mark(version: u32, second: i64) -> Mark {
    Mark { version: version.try_into().unwrap(), created_at: Some(Timestamp::from_second(second).unwrap()) }
}

fn value(text: &str) -> Value {
    Value::from_json_object(Zeroizing::new(text.as_bytes().to_vec()))
}

fn source(pin: Option<u32>) -> Source {
    Source { path: "db".parse().unwrap(), pin: pin.map(|pin| pin.try_into().unwrap()) }
}

fn content(data: BTreeMap<String, ByteString>) -> Content {
    Content { data, ..Content::default() }
}

fn wanted_source(source: Source, optional: bool) -> WantedSource {
    WantedSource { place: Place::Spec, source, keys: KeyPlan::All, prefix: String::new(), optional }
}

fn active(mark: Mark, text: Option<&str>) -> Verdict {
    Verdict::Active { mark, deactivates_at: None, value: text.map(value) }
}

fn withdrawn(how: Withdrawal, version: u32) -> Verdict {
    Verdict::Withdrawn { how, mark: mark(version, 100) }
}

impl Case {
    fn new(pin: Option<u32>) -> Self {
        let owner = Owner { name: "db".into(), uid: "uid-1".into() };
        let okms_id: OkmsId = "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb".parse().unwrap();
        let shape = TargetShape { name: "db".into(), ..TargetShape::default() };
        let held = mark(1, 100);
        let data: BTreeMap<String, ByteString> = [("v".to_owned(), ByteString(b"1".to_vec()))].into();
        let wanted = Wanted {
            sources: wanted_source(source(pin), false).into(),
            on_key_conflict: OnKeyConflict::Error,
            templates: Templates::default(),
            target: shape,
        };
        let claim = Claim { owner, namespace: "shop".into(), wanted, okms_id, predecessors: Vec::new() };
        let target = claim.desired(content(data), &[Some(held)], None);
        Self {
            claim,
            policy: WithdrawalPolicy::Delete,
            target: Some(target),
            condition: Condition::Intact,
            evidence: vec![Some(held)],
            synced: true,
            previous: Some(Reason::Synced),
            named: true,
            stale: false,
        }
    }

    /// Nothing was ever written.
    fn fresh(pin: Option<u32>) -> Self {
        Self {
            target: None,
            condition: Condition::Unrendered,
            evidence: vec![None],
            synced: false,
            previous: None,
            ..Self::new(pin)
        }
    }

    fn decide(&self, known: &Known<'_>) -> Decision {
        let snapshot = Snapshot {
            claim: &self.claim,
            policy: self.policy,
            target: self.target.as_ref(),
            condition: self.condition,
            evidence: &self.evidence,
            synced: self.synced,
            previous: self.previous,
            named: self.named,
        };
        decide(&snapshot, known, self.stale)
    }

    fn found(&self, verdict: Verdict) -> Decision {
        self.found_with(verdict, None)
    }

    fn found_with(&self, verdict: Verdict, held: Option<Withdrawal>) -> Decision {
        let source = self.claim.wanted.sources.iter().next().unwrap().source.clone();
        self.decide(&Known::Findings(&[Finding { source, verdict, current: None, held }]))
    }

    /// With a second source `smtp`, of which the target was made too, or not.
    fn with_second(mut self, optional: bool, held: bool) -> Self {
        let first = self.claim.wanted.sources.iter().next().unwrap().clone();
        let second = Source { path: "smtp".parse().unwrap(), pin: None };
        self.claim.wanted.sources = SourceSet::new(first, vec![wanted_source(second, optional)]);
        self.evidence.push(held.then(|| mark(1, 100)));
        if let Some(target) = &self.target {
            let data = target.data.clone().unwrap();
            self.target = Some(self.claim.desired(content(data), &self.evidence, None));
        }
        self
    }

    fn found_both(&self, first: Verdict, second: Verdict) -> Decision {
        let sources = self.claim.wanted.sources.iter().map(|wanted| wanted.source.clone());
        let finding = |(source, verdict)| Finding { source, verdict, current: None, held: None };
        let findings: Vec<Finding> = sources.zip([first, second]).map(finding).collect();
        self.decide(&Known::Findings(&findings))
    }

    fn down(&self) -> Decision {
        let trouble = StoreTrouble { kind: StoreTroubleKind::OkmsUnavailable, message: "no answer".into() };
        self.decide(&Known::Down(&trouble))
    }
}

/// What a decision comes to, without its words.
#[derive(Debug, PartialEq)]
enum Gist {
    Keep,
    Read,
    Report(Reason),
    Write,
    Synced,
    Withdraw(Reason),
}

fn gist(decision: &Decision) -> Gist {
    match decision {
        Decision::Keep => Gist::Keep,
        Decision::Read { .. } => Gist::Read,
        Decision::Report { reason, .. } | Decision::NotRendered { reason, .. } => Gist::Report(*reason),
        Decision::Write { .. } => Gist::Write,
        Decision::Synced { .. } => Gist::Synced,
        Decision::Withdraw { reason, .. } => Gist::Withdraw(*reason),
    }
}

#[test]
fn new_content_is_written_and_known_content_is_not() {
    assert_eq!(gist(&Case::fresh(None).found(active(mark(1, 100), Some(r#"{"v":"1"}"#)))), Gist::Write);
    assert_eq!(gist(&Case::new(None).found(active(mark(1, 100), None))), Gist::Synced);
    assert_eq!(gist(&Case::new(None).found(active(mark(2, 200), Some(r#"{"v":"2"}"#)))), Gist::Write);
}

#[test]
fn what_was_written_is_not_written_again() {
    let fresh = Case::fresh(None);
    let verdict = || active(mark(7, 100), Some(r#"{"v":"1","w":[1,2]}"#));
    let Decision::Write { secret, marks, .. } = fresh.found(verdict()) else { panic!("not written") };
    let after = Case { target: Some(*secret), condition: Condition::Intact, evidence: marks, ..Case::new(None) };
    assert_eq!(gist(&after.found(verdict())), Gist::Synced);
}

#[test]
fn the_same_content_under_a_new_version_moves_only_the_annotation() {
    let case = Case::new(None);
    let Decision::Write { secret, .. } = case.found(active(mark(2, 200), Some(r#"{"v":"1"}"#))) else { panic!() };
    assert_eq!(secret.data, case.target.unwrap().data);
    assert!(secret.metadata.annotations.unwrap()["okms-operator.io/source"].contains(r#""version":2"#));
}

#[test]
fn only_a_proven_withdrawal_of_what_the_target_was_made_from_deletes_it() {
    let how = Withdrawal::VersionDeactivated;
    assert_eq!(gist(&Case::new(None).found(withdrawn(how, 1))), Gist::Withdraw(Reason::VersionDeactivated));
    assert_eq!(
        gist(&Case::new(None).found(Verdict::Missing { confirmed: true })),
        Gist::Withdraw(Reason::SecretDeleted)
    );
    let retain = Case { policy: WithdrawalPolicy::Retain, ..Case::new(None) };
    assert_eq!(gist(&retain.found(withdrawn(how, 1))), Gist::Report(Reason::VersionDeactivated));
    let of_other_origin = Case { evidence: vec![None], ..Case::new(None) };
    assert_eq!(gist(&of_other_origin.found(withdrawn(how, 1))), Gist::Report(Reason::VersionDeactivated));
    assert_eq!(gist(&of_other_origin.found(Verdict::Missing { confirmed: true })), Gist::Report(Reason::PathNotFound));
    assert_eq!(
        gist(&Case::new(None).found(Verdict::Missing { confirmed: false })),
        Gist::Report(Reason::WithdrawalUnconfirmed)
    );
}

#[test]
fn a_secret_that_was_deleted_stays_the_reason_after_its_target_is_gone() {
    let case = Case { previous: Some(Reason::SecretDeleted), ..Case::fresh(None) };
    assert_eq!(gist(&case.found(Verdict::Missing { confirmed: true })), Gist::Report(Reason::SecretDeleted));
    assert_eq!(
        gist(&Case::fresh(None).found(Verdict::Missing { confirmed: true })),
        Gist::Report(Reason::PathNotFound)
    );
}

#[test]
fn the_version_in_the_target_counts_when_the_new_one_does_not_render() {
    let broken = || active(mark(2, 200), Some("{}"));
    assert_eq!(gist(&Case::new(None).found(broken())), Gist::Report(Reason::EmptySource));
    assert_eq!(
        gist(&Case::new(None).found_with(broken(), Some(Withdrawal::VersionDestroyed))),
        Gist::Withdraw(Reason::VersionDestroyed)
    );
    let renders = active(mark(2, 200), Some(r#"{"v":"2"}"#));
    assert_eq!(gist(&Case::new(None).found_with(renders, Some(Withdrawal::VersionDestroyed))), Gist::Write);
}

#[test]
fn an_old_answer_and_a_replaced_pin_change_nothing() {
    let held = Case { evidence: vec![Some(mark(5, 500))], ..Case::new(None) };
    let old = active(mark(4, 400), Some(r#"{"v":"4"}"#));
    assert_eq!(gist(&held.found(old)), Gist::Report(Reason::UnexpectedAnswer));
    let again = active(mark(1, 600), Some(r#"{"v":"x"}"#));
    assert_eq!(gist(&held.found(again)), Gist::Write, "made again");
    let of_a_lagging_replica = Verdict::Withdrawn { how: Withdrawal::VersionDeactivated, mark: mark(4, 400) };
    assert_eq!(gist(&held.found(of_a_lagging_replica)), Gist::Report(Reason::UnexpectedAnswer));
    let of_another = Verdict::Withdrawn { how: Withdrawal::VersionDeactivated, mark: mark(1, 600) };
    assert_eq!(gist(&Case::new(Some(1)).found(of_another)), Gist::Report(Reason::PinnedVersionReplaced));
    let pinned = Case::new(Some(1)).found(active(mark(1, 600), None));
    assert_eq!(gist(&pinned), Gist::Report(Reason::PinnedVersionReplaced));
}

#[test]
fn failures_are_told_at_once_unless_a_synced_target_is_believed() {
    assert_eq!(gist(&Case::new(None).down()), Gist::Keep);
    assert_eq!(gist(&Case { stale: true, ..Case::new(None) }.down()), Gist::Report(Reason::StoreNotReady));
    assert_eq!(gist(&Case::fresh(None).down()), Gist::Report(Reason::StoreNotReady));
    let was_without_store = Case { previous: Some(Reason::StoreNotFound), ..Case::new(None) };
    assert_eq!(gist(&was_without_store.down()), Gist::Report(Reason::StoreNotReady), "there is a store now");
    let written_since = Case { named: false, ..Case::new(None) };
    assert_eq!(gist(&written_since.down()), Gist::Report(Reason::StoreNotReady), "the status names something older");
    let drifted = Case { condition: Condition::Drifted, ..Case::new(None) };
    assert_eq!(gist(&drifted.down()), Gist::Report(Reason::TargetDrifted));
    let forbidden = || Verdict::Trouble(Trouble { kind: TroubleKind::Forbidden, message: "403".into() });
    assert_eq!(gist(&Case::new(None).found(forbidden())), Gist::Keep);
    let Decision::Report { reason, message } = Case::fresh(None).found(forbidden()) else { panic!() };
    assert_eq!(reason, Reason::Forbidden);
    assert!(message.contains("okms:apikms:secret/version/getData") && message.contains("/secret/db"), "{message}");
}

#[test]
fn nothing_is_said_to_be_in_step_that_was_not_checked() {
    let stale = Case { stale: true, ..Case::new(None) };
    assert_eq!(gist(&stale.found(active(mark(1, 100), None))), Gist::Report(Reason::OkmsUnavailable));
    let drifted = Case { condition: Condition::Drifted, ..Case::new(None) };
    assert_eq!(gist(&drifted.found(active(mark(1, 100), None))), Gist::Read);
}

#[test]
fn what_is_held_stays_held_until_there_is_another_answer() {
    let held = Case { previous: Some(Reason::WithdrawalHeld), stale: true, ..Case::new(None) };
    assert_eq!(gist(&held.down()), Gist::Keep);
    assert_eq!(gist(&held.found(Verdict::Missing { confirmed: false })), Gist::Keep);
    assert_eq!(gist(&held.found(active(mark(2, 200), Some(r#"{"v":"2"}"#)))), Gist::Write);
}

#[test]
fn a_withdrawn_source_takes_the_whole_target_with_it_whatever_the_other_says() {
    let gone = || withdrawn(Withdrawal::VersionDeactivated, 1);
    let forbidden = || Verdict::Trouble(Trouble { kind: TroubleKind::Forbidden, message: "403".into() });
    for other in [active(mark(1, 100), None), active(mark(2, 200), Some("{}")), Verdict::NoVersion, forbidden()] {
        let case = Case::new(None).with_second(false, true);
        assert_eq!(gist(&case.found_both(other, gone())), Gist::Withdraw(Reason::VersionDeactivated));
    }
}

#[test]
fn an_optional_source_gives_nothing_while_there_is_nothing() {
    let first = || active(mark(1, 100), Some(r#"{"v":"1"}"#));
    for nothing in [
        Verdict::Missing { confirmed: false },
        Verdict::Missing { confirmed: true },
        Verdict::NoVersion,
        Verdict::VersionNotFound,
        withdrawn(Withdrawal::VersionDestroyed, 3),
    ] {
        let fresh = Case::fresh(None).with_second(true, false);
        let Decision::Write { marks, drops, .. } = fresh.found_both(first(), nothing) else { panic!("not written") };
        assert_eq!((marks, drops), (vec![Some(mark(1, 100)), None], false));
    }
    let forbidden = Verdict::Trouble(Trouble { kind: TroubleKind::Forbidden, message: "403".into() });
    let fresh = Case::fresh(None).with_second(true, false);
    assert_eq!(gist(&fresh.found_both(first(), forbidden)), Gist::Report(Reason::Forbidden), "that it fails counts");
    let at_rest = Case::new(None).with_second(true, false);
    let nothing = Verdict::Missing { confirmed: true };
    assert_eq!(gist(&at_rest.found_both(active(mark(1, 100), None), nothing)), Gist::Synced);
}

#[test]
fn what_an_optional_source_gave_goes_once_it_is_proven_to_be_taken_back() {
    let gone = || withdrawn(Withdrawal::VersionDeactivated, 1);
    let case = || Case::new(None).with_second(true, true);
    let first = || active(mark(1, 100), Some(r#"{"v":"1"}"#));
    assert_eq!(gist(&case().found_both(active(mark(1, 100), None), gone())), Gist::Read, "to be made without it");
    let Decision::Write { secret, marks, drops } = case().found_both(first(), gone()) else { panic!("not written") };
    assert_eq!((marks, drops), (vec![Some(mark(1, 100)), None], true));
    assert!(!secret.metadata.annotations.unwrap()["okms-operator.io/source"].contains("smtp"));

    let unproven = Verdict::Missing { confirmed: false };
    assert_eq!(gist(&case().found_both(first(), unproven)), Gist::Report(Reason::WithdrawalUnconfirmed));
    for kept in [Verdict::NoVersion, Verdict::VersionNotFound] {
        assert!(matches!(case().found_both(first(), kept), Decision::Report { .. }), "no proof");
    }
    let retain = Case { policy: WithdrawalPolicy::Retain, ..case() };
    assert_eq!(gist(&retain.found_both(first(), gone())), Gist::Report(Reason::VersionDeactivated));
}

#[test]
fn what_an_optional_source_gave_takes_nothing_along_that_others_gave() {
    let gone = Some(Withdrawal::VersionDestroyed);
    // The second has a new version in place of the one that was taken back, and that makes no Secret.
    let decide = |case: &Case, held_of_first| {
        let sources = case.claim.wanted.sources.iter().map(|wanted| wanted.source.clone());
        let verdicts = [active(mark(1, 100), Some(r#"{"v":"1"}"#)), active(mark(2, 200), Some("[]"))];
        let finding = |((source, verdict), held)| Finding { source, verdict, current: None, held };
        let findings: Vec<Finding> = sources.zip(verdicts).zip([held_of_first, gone]).map(finding).collect();
        gist(&case.decide(&Known::Findings(&findings)))
    };
    let required = Case::new(None).with_second(false, true);
    assert_eq!(decide(&required, None), Gist::Withdraw(Reason::VersionDestroyed));
    let mut case = Case::new(None).with_second(true, true);
    assert!(!matches!(decide(&case, None), Gist::Withdraw(_)), "the first gave something too");
    let sources: Vec<_> =
        case.claim.wanted.sources.iter().map(|wanted| wanted_source(wanted.source.clone(), true)).collect();
    case.claim.wanted.sources = SourceSet::from_list(sources).unwrap();
    assert!(!matches!(decide(&case, None), Gist::Withdraw(_)), "the first gave something, though it need not");
    assert_eq!(decide(&case, gone), Gist::Withdraw(Reason::VersionDestroyed), "nothing is left of what it holds");
}

#[test]
fn where_no_optional_source_is_left_the_target_is_withdrawn() {
    let mut case = Case::new(None).with_second(true, false);
    let sources: Vec<_> =
        case.claim.wanted.sources.iter().map(|wanted| wanted_source(wanted.source.clone(), true)).collect();
    case.claim.wanted.sources = SourceSet::from_list(sources).unwrap();
    let (gone, missing) = (withdrawn(Withdrawal::VersionDestroyed, 1), Verdict::Missing { confirmed: true });
    assert_eq!(gist(&case.found_both(gone, missing)), Gist::Withdraw(Reason::VersionDestroyed));
    let fresh = Case { target: None, condition: Condition::Unrendered, evidence: vec![None, None], ..case };
    let missing = || Verdict::Missing { confirmed: true };
    assert_eq!(gist(&fresh.found_both(missing(), missing())), Gist::Report(Reason::PathNotFound));
}

#[test]
fn a_message_names_the_entry_that_it_is_about() {
    let mut case = Case::fresh(None).with_second(false, false);
    let sources = case.claim.wanted.sources.iter().cloned().enumerate();
    let sources: Vec<_> = sources.map(|(n, source)| WantedSource { place: Place::Entry(n), ..source }).collect();
    case.claim.wanted.sources = SourceSet::from_list(sources).unwrap();
    let missing = Verdict::Missing { confirmed: true };
    let Decision::Report { message, .. } = case.found_both(active(mark(1, 100), Some("{}")), missing) else { panic!() };
    assert!(message.contains("correct spec.sources[1].path"), "{message}");
}
