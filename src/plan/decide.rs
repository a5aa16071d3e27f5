//! What to do about one `OkmsSecret`, from what is wanted, what OKMS said and what the target is: the heart of the operator.
//!
//! It decides and does nothing. It never decides to delete unless OKMS proved the withdrawal *and* the target's own evidence names
//! what was withdrawn, and it never says `Synced` of a target that does not equal the rendering of the versions it shows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::{Condition, Owner, RenderErrorKind, Wanted, desired, differs, render, target::made_from};
use crate::{
    api::{Reason, WithdrawalPolicy},
    model::{Finding, Mark, OkmsId, Source, StoreTrouble, Trouble, TroubleKind, Verdict, Withdrawal},
};

/// Everything that a decision depends on.
pub struct Snapshot<'a> {
    pub owner: &'a Owner,
    pub namespace: &'a str,
    pub wanted: &'a Wanted,
    pub okms_id: &'a OkmsId,
    pub policy: WithdrawalPolicy,
    /// The target, where one exists and is ours.
    pub target: Option<&'a Secret>,
    pub condition: Condition,
    /// For each source, what the target was made from.
    pub evidence: &'a [Option<Mark>],
    /// The status shows this generation as synced.
    pub synced: bool,
    /// The reason that the status shows for this generation.
    pub previous: Option<Reason>,
}

/// What OKMS said, as far as it is known.
pub enum Known<'a> {
    Down(&'a StoreTrouble),
    Findings(&'a [Finding]),
}

/// What to do, and what to say of it once it is done.
pub enum Decision {
    /// Nothing is known that the status does not say already.
    Keep,
    /// Say this; the target stays as it is.
    Report { reason: Reason, message: String },
    /// Write the target, which differs from this; then it is synced.
    Write { secret: Box<Secret>, marks: Vec<Mark> },
    /// The target is what it shall be.
    Synced { marks: Vec<Mark> },
    /// Delete the target, if the store's budget for withdrawals allows it; then say this.
    Withdraw { reason: Reason, message: String },
}

/// Decides. `stale`: the sources were not checked well for longer than may be.
pub fn decide(snapshot: &Snapshot<'_>, known: &Known<'_>, stale: bool) -> Decision {
    match known {
        Known::Down(trouble) => snapshot
            .unless_believed(stale, Reason::StoreNotReady, || format!("the store is not ready: {}", trouble.message)),
        Known::Findings(findings) => snapshot.judge(findings, stale),
    }
}

impl Snapshot<'_> {
    /// A failure to look is told at once, but for a target that was synced and is intact, which is believed for a while.
    fn unless_believed(&self, stale: bool, reason: Reason, message: impl FnOnce() -> String) -> Decision {
        // Only a statement that is true is left standing: what else the status says, may have ended meanwhile.
        let believed = self.synced && self.previous == Some(Reason::Synced);
        match self.condition {
            // What was taken back stays so until OKMS says something else, and what is held is known by it after a restart.
            _ if self.previous.is_some_and(Reason::is_withdrawal) => Decision::Keep,
            Condition::Intact if believed && !stale => Decision::Keep,
            Condition::Drifted if self.synced => Decision::Report {
                reason: Reason::TargetDrifted,
                message: format!("the Secret was changed and cannot be repaired now: {}", message()),
            },
            _ => Decision::Report { reason, message: message() },
        }
    }

    fn is_held(&self) -> bool {
        self.target.is_some() && self.previous == Some(Reason::WithdrawalHeld)
    }

    fn judge(&self, findings: &[Finding], stale: bool) -> Decision {
        for (finding, evidence) in findings.iter().zip(self.evidence) {
            if let Some(decision) = self.unless_active(finding, *evidence, stale) {
                return decision;
            }
        }
        let marks: Vec<Mark> = findings.iter().filter_map(mark).collect();
        let values: Option<Vec<_>> =
            self.wanted.sources.iter().zip(findings).map(|(wanted, finding)| Some((wanted, value(finding)?))).collect();
        let Some(values) = values else { return self.without_values(findings, marks, stale) };
        match render(&values, &self.wanted.target.type_) {
            Ok(rendering) => self.write(marks, rendering.into_data()),
            Err(error) => self.not_rendered(findings, self.evidence, reason_of(error.kind), error.message),
        }
    }

    /// What follows when a source is anything but a version that can be read; `None` when it is one.
    fn unless_active(&self, finding: &Finding, evidence: Option<Mark>, stale: bool) -> Option<Decision> {
        let source = &finding.source;
        let report = |reason, message| Some(Decision::Report { reason, message });
        if let (Some(mark), Some(held)) = (finding.verdict.mark(), &evidence)
            && let Some(decision) = unless_current(finding, mark, held)
        {
            return Some(decision);
        }
        match &finding.verdict {
            Verdict::Trouble(trouble) if trouble.kind == TroubleKind::TooLarge => {
                // It was read, and is not to be had: that is known at once, as of a secret that does not render.
                let message = format!("{}: {}", source.path, trouble.message);
                Some(self.not_rendered(std::slice::from_ref(finding), &[evidence], Reason::TooLarge, message))
            }
            Verdict::Trouble(trouble) => Some(self.trouble(source, trouble, stale)),
            Verdict::Withdrawn { how, .. } => Some(self.withdraw(source, *how, finding, evidence.is_some())),
            Verdict::Missing { confirmed: true } if evidence.is_some() => {
                Some(self.withdraw(source, Withdrawal::SecretDeleted, finding, true))
            }
            Verdict::Missing { .. } if evidence.is_some() && self.is_held() => Some(Decision::Keep),
            Verdict::Missing { .. } if evidence.is_some() => report(
                Reason::WithdrawalUnconfirmed,
                format!(
                    "OKMS says that it has no secret at {}; the Secret is kept until a second answer confirms it",
                    source.path
                ),
            ),
            // The target went with the secret that it was made from: that stays the reason until there is a secret again.
            Verdict::Missing { .. } if self.previous == Some(Reason::SecretDeleted) => {
                Some(self.withdraw(source, Withdrawal::SecretDeleted, finding, false))
            }
            Verdict::Missing { .. } => report(
                Reason::PathNotFound,
                format!("OKMS has no secret at {}: correct spec.path, or create the secret", source.path),
            ),
            Verdict::NoVersion => report(
                Reason::NoVersion,
                format!("the secret {} exists in OKMS but has no version: write one", source.path),
            ),
            Verdict::VersionNotFound if evidence.is_some() => report(
                Reason::VersionNotFound,
                format!(
                    "{source}, which the Secret was made from, is not there any more{}: if {} was made again, correct \
                     spec.version; the Secret is kept",
                    current(finding),
                    source.path
                ),
            ),
            Verdict::VersionNotFound => report(
                Reason::VersionNotFound,
                format!("{source} was never made{}: correct spec.version", current(finding)),
            ),
            Verdict::Active { .. } => None,
        }
    }

    fn trouble(&self, source: &Source, trouble: &Trouble, stale: bool) -> Decision {
        let message = || match trouble.kind {
            TroubleKind::Forbidden => format!(
                "OKMS refuses to read {}: grant okms:apikms:secret/get and okms:apikms:secret/version/getData on \
                 urn:v1:*:resource:okms:{}/secret/{} to the identity of the store's certificate",
                source.path,
                self.okms_id,
                source.path.encoded()
            ),
            TroubleKind::OkmsUnavailable | TroubleKind::UnexpectedAnswer | TroubleKind::TooLarge => {
                format!("{} cannot be read, while other paths can: {}", source.path, trouble.message)
            }
        };
        self.unless_believed(stale, trouble.kind.into(), message)
    }

    fn withdraw(&self, source: &Source, how: Withdrawal, finding: &Finding, proven_origin: bool) -> Decision {
        let reason = Reason::from(how);
        let said = withdrawn(source, how, finding);
        match (self.target, self.policy) {
            // The same sentence as when the Secret was deleted, so that the status does not change once more.
            (None, WithdrawalPolicy::Delete) => {
                Decision::Report { reason, message: no_secret(&said, how, &finding.source) }
            }
            (None, WithdrawalPolicy::Retain) => Decision::Report {
                reason,
                message: format!("{said}, and there is no Secret to retain{}", undo(how, &finding.source)),
            },
            (Some(_), WithdrawalPolicy::Retain) => Decision::Report {
                reason,
                message: format!("{said}; the Secret is kept as it is, because withdrawalPolicy is Retain"),
            },
            (Some(_), WithdrawalPolicy::Delete) if !proven_origin => Decision::Report {
                reason,
                message: format!("{said}; the Secret is kept, because it was not made from there"),
            },
            (Some(_), WithdrawalPolicy::Delete) => {
                Decision::Withdraw { reason, message: no_secret(&said, how, &finding.source) }
            }
        }
    }

    /// Nothing was read, because the target was said to hold these versions already, or because they were found not to render.
    fn without_values(&self, findings: &[Finding], marks: Vec<Mark>, stale: bool) -> Decision {
        if let Some(decision) = self.held_withdrawn(findings, self.evidence) {
            return decision;
        }
        let holds = marks.iter().zip(self.evidence).all(|(mark, held)| held.is_some_and(|held| held.is_same_as(mark)));
        if !holds || self.condition != Condition::Intact {
            return Decision::Keep;
        }
        if stale {
            return Decision::Report {
                reason: Reason::OkmsUnavailable,
                message: "the sources could not be checked for too long; the Secret is kept".to_owned(),
            };
        }
        // Only what is around the data may differ.
        let data = self.target.and_then(|secret| secret.data.clone()).unwrap_or_default();
        self.write(marks, data)
    }

    fn write(&self, marks: Vec<Mark>, data: BTreeMap<String, ByteString>) -> Decision {
        let evidence = made_from(self.wanted, self.okms_id, &marks);
        let secret = desired(self.owner, self.namespace, &self.wanted.target, data, &evidence, self.target);
        match self.target {
            Some(existing) if !differs(existing, &secret) => Decision::Synced { marks },
            _ => Decision::Write { secret: Box::new(secret), marks },
        }
    }

    /// The new content does not render. If what the target still holds was withdrawn, that counts.
    fn not_rendered(
        &self,
        findings: &[Finding],
        evidence: &[Option<Mark>],
        reason: Reason,
        message: String,
    ) -> Decision {
        self.held_withdrawn(findings, evidence).unwrap_or(Decision::Report { reason, message })
    }

    /// What follows when a version that the target holds, while the one meant now cannot replace it, was taken back.
    fn held_withdrawn(&self, findings: &[Finding], evidence: &[Option<Mark>]) -> Option<Decision> {
        findings.iter().zip(evidence).find_map(|(finding, evidence)| {
            let source = Source { path: finding.source.path.clone(), pin: Some(evidence.as_ref()?.version) };
            Some(self.withdraw(&source, finding.held?, finding, true))
        })
    }
}

/// What follows when the content that OKMS shows, readable or withdrawn, is not what became of the content in the target: `None`
/// when it is.
fn unless_current(finding: &Finding, mark: &Mark, held: &Mark) -> Option<Decision> {
    let source = &finding.source;
    if source.pin.is_some() && mark.is_newer_creation_than(held) {
        let message = format!(
            "{} was deleted in OKMS and made again, so {source} now means other content; the Secret is kept. To take the \
             new content, delete the Secret or change spec.version",
            source.path
        );
        return Some(Decision::Report { reason: Reason::PinnedVersionReplaced, message });
    }
    if source.pin.is_none() && mark.is_stale_after(held) {
        let message = format!(
            "OKMS shows {}@{}, older than version {} that the Secret was made from; the Secret is kept",
            source.path, mark.version, held.version
        );
        return Some(Decision::Report { reason: Reason::UnexpectedAnswer, message });
    }
    None
}

fn reason_of(kind: RenderErrorKind) -> Reason {
    match kind {
        RenderErrorKind::KeyNotFound => Reason::KeyNotFound,
        RenderErrorKind::InvalidKey => Reason::InvalidKey,
        RenderErrorKind::KeyConflict => Reason::KeyConflict,
        RenderErrorKind::DecodeFailed => Reason::DecodeFailed,
        RenderErrorKind::TooLarge => Reason::TooLarge,
        RenderErrorKind::InvalidForType => Reason::InvalidForType,
        RenderErrorKind::EmptySource => Reason::EmptySource,
    }
}

fn mark(finding: &Finding) -> Option<Mark> {
    match &finding.verdict {
        Verdict::Active { mark, .. } => Some(*mark),
        _ => None,
    }
}

fn value(finding: &Finding) -> Option<&crate::model::Value> {
    match &finding.verdict {
        Verdict::Active { value, .. } => value.as_ref(),
        _ => None,
    }
}

/// One clause that says what was taken back.
fn withdrawn(source: &Source, how: Withdrawal, finding: &Finding) -> String {
    let version = match (&finding.verdict, source.pin) {
        (_, Some(pin)) => format!("{}@{pin}", source.path),
        (Verdict::Withdrawn { mark, .. }, None) => format!("{}@{}", source.path, mark.version),
        _ => source.path.to_string(),
    };
    match how {
        Withdrawal::VersionDeactivated => format!("{version} was deactivated in OKMS"),
        Withdrawal::VersionDestroyed => format!("{version} was destroyed in OKMS"),
        Withdrawal::VersionPruned => format!("{version} was pruned in OKMS to make room for newer versions"),
        Withdrawal::SecretDeleted => format!("the secret {} was deleted in OKMS", source.path),
    }
}

/// The same sentence when the Secret is deleted and ever after, so that the status does not change once more.
fn no_secret(said: &str, how: Withdrawal, source: &Source) -> String {
    format!("{said}, so the Secret is deleted{}", undo(how, source))
}

/// What brings the Secret back. A new version does nothing for a pin.
fn undo(how: Withdrawal, source: &Source) -> &'static str {
    match (how, source.pin) {
        (Withdrawal::VersionDeactivated, None) => ". Reactivate the version or write a new one to have it back",
        (Withdrawal::VersionDeactivated, Some(_)) => ". Reactivate the version or change spec.version to have it back",
        (Withdrawal::VersionDestroyed, None) | (Withdrawal::SecretDeleted, _) => {
            ". Write a new version to have it back"
        }
        (Withdrawal::VersionDestroyed, Some(_)) | (Withdrawal::VersionPruned, _) => {
            ". Change spec.version to have it back"
        }
    }
}

fn current(finding: &Finding) -> String {
    finding.current.map(|current| format!("; the current version is {current}")).unwrap_or_default()
}

/// How the state of a source is shown in a status, with the time at which it will end.
pub fn source_state(finding: &Finding) -> Option<(&'static str, Option<Timestamp>)> {
    match &finding.verdict {
        Verdict::Active { deactivates_at, .. } => Some(("Active", *deactivates_at)),
        Verdict::Withdrawn { how: Withdrawal::VersionDeactivated, .. } => Some(("Deactivated", None)),
        Verdict::Withdrawn { how: Withdrawal::VersionDestroyed, .. } => Some(("Destroyed", None)),
        Verdict::Withdrawn { .. } | Verdict::Missing { confirmed: true } => Some(("Deleted", None)),
        _ => None,
    }
}
