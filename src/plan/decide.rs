//! What to do about one `OkmsSecret`, from what is wanted, what OKMS said and what the target is: the heart of the operator.
//!
//! It decides and does nothing. It never decides to delete unless OKMS proved the withdrawal *and* the target's own evidence names
//! what was withdrawn, and it never says `Synced` of a target that does not equal the rendering of the versions it shows.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::{Claim, Condition, Content, Place, RenderErrorKind, WantedSource, render};
use crate::{
    api::{Reason, WithdrawalPolicy},
    model::{Finding, Mark, Source, StoreTrouble, Trouble, TroubleKind, Verdict, Withdrawal, iam},
};

/// Everything that a decision depends on.
pub struct Snapshot<'a> {
    pub claim: &'a Claim,
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
    /// The status names the versions that the target was made from.
    pub named: bool,
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
    /// The target is to be made of these, and the values were not read for that: ask for them.
    Read { marks: Vec<Option<Mark>> },
    /// Say this; the target stays as it is.
    Report { reason: Reason, message: String },
    /// These do not make the target. Say why; it stays as it is.
    NotRendered { reason: Reason, message: String, marks: Vec<Option<Mark>> },
    /// Write the target, which differs from this; then it is synced. `marks`: what it is made from then, for each source that
    /// contributes. `drops`: what an optional source gave is taken away, which the store's budget for withdrawals has to allow.
    Write { secret: Box<Secret>, marks: Vec<Option<Mark>>, drops: bool },
    /// The target is what it shall be.
    Synced { marks: Vec<Option<Mark>> },
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
        let believed = self.synced && self.previous == Some(Reason::Synced) && self.named;
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
        let parts: Vec<Result<Option<Mark>, Decision>> = self
            .sources(findings)
            .map(|(wanted, finding, evidence)| self.contribution(wanted, finding, evidence, stale))
            .collect();
        // What was taken back leaves the cluster, whatever keeps another source from being read.
        if parts.iter().any(Result::is_err) {
            let mut stops: Vec<Decision> = parts.into_iter().filter_map(Result::err).collect();
            let first = stops.iter().position(|stop| matches!(stop, Decision::Withdraw { .. })).unwrap_or(0);
            return stops.swap_remove(first);
        }
        let marks: Vec<Option<Mark>> = parts.into_iter().flatten().collect();
        if marks.iter().all(Option::is_none) {
            return self.nothing_left(findings, stale);
        }
        let contributing =
            self.claim.wanted.sources.iter().zip(findings).zip(&marks).filter(|(_, mark)| mark.is_some());
        let readings: Option<Vec<_>> =
            contributing.map(|((wanted, finding), _)| Some((wanted, value(finding)?))).collect();
        let Some(readings) = readings else { return self.without_values(findings, marks, stale) };
        match render(&self.claim.wanted, &readings, &self.claim.salt()) {
            Ok(rendering) => self.write(marks, rendering.into_content()),
            // If what the target still holds was withdrawn, that counts.
            Err(error) => {
                let (reason, message) = (reason_of(error.kind), error.message);
                let held = self.held_withdrawn(findings);
                held.unwrap_or(Decision::NotRendered { reason, message, marks })
            }
        }
    }

    fn sources<'f>(
        &'f self,
        findings: &'f [Finding],
    ) -> impl Iterator<Item = (&'f WantedSource, &'f Finding, Option<Mark>)> {
        let sources = self.claim.wanted.sources.iter().zip(findings).zip(self.evidence);
        sources.map(|((wanted, finding), evidence)| (wanted, finding, *evidence))
    }

    /// What a source gives to the Secret: the content of this mark, or nothing, where it is optional; else what follows from that.
    fn contribution(
        &self,
        wanted: &WantedSource,
        finding: &Finding,
        evidence: Option<Mark>,
        stale: bool,
    ) -> Result<Option<Mark>, Decision> {
        let stop = self.unless_active(wanted, finding, evidence, stale);
        match (stop, &finding.verdict) {
            (None, Verdict::Active { mark, .. }) => Ok(Some(*mark)),
            // What was never read from there is not missed, and what was goes once OKMS has proved that it was taken back.
            (Some(Decision::Withdraw { .. }), _) if wanted.optional => Ok(None),
            (Some(_), verdict) if wanted.optional && evidence.is_none() && verdict.is_absence() => Ok(None),
            (Some(decision), _) => Err(decision),
            (None, _) => Ok(None),
        }
    }

    /// Every source is optional, and none of them has anything to give: that is a withdrawal of what was there.
    fn nothing_left(&self, findings: &[Finding], stale: bool) -> Decision {
        let stops = self
            .sources(findings)
            .filter_map(|(wanted, finding, evidence)| self.unless_active(wanted, finding, evidence, stale));
        let mut stops: Vec<Decision> = stops.collect();
        let first = stops.iter().position(|stop| matches!(stop, Decision::Withdraw { .. })).unwrap_or(0);
        if stops.is_empty() { Decision::Keep } else { stops.swap_remove(first) }
    }

    /// What follows when a source is anything but a version that can be read; `None` when it is one.
    fn unless_active(
        &self,
        wanted: &WantedSource,
        finding: &Finding,
        evidence: Option<Mark>,
        stale: bool,
    ) -> Option<Decision> {
        let (place, source) = (wanted.place, &finding.source);
        let report = |reason, message| Some(Decision::Report { reason, message });
        if let (Some(mark), Some(held)) = (finding.verdict.mark(), &evidence)
            && let Some(decision) = unless_current(place, finding, mark, held)
        {
            return Some(decision);
        }
        match &finding.verdict {
            Verdict::Trouble(trouble) if trouble.kind == TroubleKind::TooLarge => {
                // It was read, and is not to be had: that is known at once, as of a secret that does not render.
                let message = format!("{}: {}", source.path, trouble.message);
                let held = self.replaced_in_vain(wanted, finding, evidence);
                Some(held.unwrap_or(Decision::Report { reason: Reason::TooLarge, message }))
            }
            Verdict::Trouble(trouble) => Some(self.trouble(source, trouble, stale)),
            Verdict::Withdrawn { how, .. } => Some(self.withdraw(place, source, *how, finding, evidence.is_some())),
            Verdict::Missing { confirmed: true } if evidence.is_some() => {
                Some(self.withdraw(place, source, Withdrawal::SecretDeleted, finding, true))
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
                Some(self.withdraw(place, source, Withdrawal::SecretDeleted, finding, false))
            }
            Verdict::Missing { .. } => report(
                Reason::PathNotFound,
                format!("OKMS has no secret at {}: correct {place}.path, or create the secret", source.path),
            ),
            Verdict::NoVersion => report(
                Reason::NoVersion,
                format!("the secret {} exists in OKMS but has no version: write one", source.path),
            ),
            Verdict::VersionNotFound if evidence.is_some() => report(
                Reason::VersionNotFound,
                format!(
                    "{source}, which the Secret was made from, is not there any more{}: if {} was made again, correct \
                     {place}.version; the Secret is kept",
                    current(finding),
                    source.path
                ),
            ),
            Verdict::VersionNotFound => report(
                Reason::VersionNotFound,
                format!("{source} was never made{}: correct {place}.version", current(finding)),
            ),
            Verdict::Active { .. } => None,
        }
    }

    fn trouble(&self, source: &Source, trouble: &Trouble, stale: bool) -> Decision {
        let message = || match trouble.kind {
            TroubleKind::Forbidden => format!(
                "OKMS refuses to read {}: grant {} and {} on urn:v1:*:resource:okms:{}/secret/{} to the identity of the \
                 store's credential ({})",
                source.path,
                iam::CHECK_ACTION,
                iam::READ_ACTION,
                self.claim.okms_id,
                source.path.encoded(),
                iam::GUIDE
            ),
            TroubleKind::OkmsUnavailable | TroubleKind::UnexpectedAnswer | TroubleKind::TooLarge => {
                format!("{} cannot be read, while other paths can: {}", source.path, trouble.message)
            }
        };
        self.unless_believed(stale, trouble.kind.into(), message)
    }

    fn withdraw(
        &self,
        place: Place,
        source: &Source,
        how: Withdrawal,
        finding: &Finding,
        proven_origin: bool,
    ) -> Decision {
        let reason = Reason::from(how);
        let said = withdrawn(source, how, finding);
        let deleted =
            if self.claim.merges() { "so its keys are removed from the Secret" } else { "so the Secret is deleted" };
        let no_secret = || format!("{said}, {deleted}{}", undo(how, place, &finding.source));
        match (self.target.filter(|secret| self.claim.holds(secret)), self.policy) {
            // The same sentence as when the Secret was deleted, so that the status does not change once more.
            (None, WithdrawalPolicy::Delete) => Decision::Report { reason, message: no_secret() },
            (None, WithdrawalPolicy::Retain) => Decision::Report {
                reason,
                message: format!("{said}, and there is no Secret to retain{}", undo(how, place, &finding.source)),
            },
            (Some(_), WithdrawalPolicy::Retain) => Decision::Report {
                reason,
                message: format!("{said}; the Secret is kept as it is, because withdrawalPolicy is Retain"),
            },
            (Some(_), WithdrawalPolicy::Delete) if !proven_origin => Decision::Report {
                reason,
                message: format!("{said}; the Secret is kept, because it was not made from there"),
            },
            (Some(_), WithdrawalPolicy::Delete) => Decision::Withdraw { reason, message: no_secret() },
        }
    }

    /// Nothing was read, because the target was said to hold these versions already, or because they were found not to render.
    fn without_values(&self, findings: &[Finding], marks: Vec<Option<Mark>>, stale: bool) -> Decision {
        if let Some(decision) = self.held_withdrawn(findings) {
            return decision;
        }
        let (mut holds, mut drops) = (true, false);
        for (mark, held) in marks.iter().zip(self.evidence) {
            match (mark, held) {
                (Some(mark), Some(held)) => holds &= held.is_same_as(mark),
                (Some(_), None) => holds = false,
                (None, Some(_)) => drops = true,
                (None, None) => {}
            }
        }
        if !holds || drops || self.condition != Condition::Intact {
            return Decision::Read { marks };
        }
        if stale {
            return Decision::Report {
                reason: Reason::OkmsUnavailable,
                message: "the sources could not be checked for too long; the Secret is kept".to_owned(),
            };
        }
        // Only what is around the data may differ.
        let content = self.target.map(|secret| self.claim.content(secret)).unwrap_or_default();
        self.write(marks, content)
    }

    fn write(&self, marks: Vec<Option<Mark>>, content: Content) -> Decision {
        let drops = marks.iter().zip(self.evidence).any(|(mark, held)| mark.is_none() && held.is_some());
        let secret = self.claim.desired(content, &marks, self.target);
        match self.target {
            Some(existing) if !self.claim.differs(existing, &secret) => Decision::Synced { marks },
            _ => Decision::Write { secret: Box::new(secret), marks, drops },
        }
    }

    /// What follows when versions that the target holds were taken back, while what is meant now makes no Secret. One of an optional source
    /// takes nothing along that others gave: then the target goes only if all that it holds was taken back.
    fn held_withdrawn(&self, findings: &[Finding]) -> Option<Decision> {
        let gone = |optional: bool| {
            let sources = self.sources(findings).filter(move |(wanted, ..)| wanted.optional == optional);
            sources.map(|(wanted, finding, evidence)| self.replaced_in_vain(wanted, finding, evidence))
        };
        if let Some(decision) = gone(false).flatten().next() {
            return Some(decision);
        }
        let lasts = |(wanted, finding, evidence): (&WantedSource, &Finding, Option<Mark>)| {
            let is_proof = matches!(finding.verdict, Verdict::Withdrawn { .. } | Verdict::Missing { confirmed: true });
            !wanted.optional || (evidence.is_some() && finding.held.is_none() && !is_proof)
        };
        if self.sources(findings).any(lasts) { None } else { gone(true).flatten().next() }
    }

    /// What follows for one source when the version of it that the target holds was taken back, and is not the one meant now.
    fn replaced_in_vain(&self, wanted: &WantedSource, finding: &Finding, evidence: Option<Mark>) -> Option<Decision> {
        let source = Source { path: finding.source.path.clone(), pin: Some(evidence?.version) };
        Some(self.withdraw(wanted.place, &source, finding.held?, finding, true))
    }
}

/// What follows when the content that OKMS shows, readable or withdrawn, is not what became of the content in the target: `None`
/// when it is.
fn unless_current(place: Place, finding: &Finding, mark: &Mark, held: &Mark) -> Option<Decision> {
    let source = &finding.source;
    if source.pin.is_some() && mark.is_newer_creation_than(held) {
        let message = format!(
            "{} was deleted in OKMS and made again, so {source} now means other content; the Secret is kept. To take the \
             new content, delete the Secret or change {place}.version",
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
        RenderErrorKind::TemplateFailed => Reason::TemplateFailed,
        RenderErrorKind::TooLarge => Reason::TooLarge,
        RenderErrorKind::InvalidForType => Reason::InvalidForType,
        RenderErrorKind::EmptySource => Reason::EmptySource,
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

/// What brings the Secret back. A new version does nothing for a pin.
fn undo(how: Withdrawal, place: Place, source: &Source) -> String {
    match (how, source.pin) {
        (Withdrawal::VersionDeactivated, None) => {
            ". Reactivate the version or write a new one to have it back".to_owned()
        }
        (Withdrawal::VersionDeactivated, Some(_)) => {
            format!(". Reactivate the version or change {place}.version to have it back")
        }
        (Withdrawal::VersionDestroyed, None) | (Withdrawal::SecretDeleted, _) => {
            ". Write a new version to have it back".to_owned()
        }
        (Withdrawal::VersionDestroyed, Some(_)) | (Withdrawal::VersionPruned, _) => {
            format!(". Change {place}.version to have it back")
        }
    }
}

fn current(finding: &Finding) -> String {
    finding.current.map(|current| format!("; the current version is {current}")).unwrap_or_default()
}

/// The state of a source that OKMS gives out, in a status.
pub const ACTIVE: &str = "Active";

/// How the state of a source is shown in a status, with the time at which it will end. `held`: the target was made from it.
pub fn source_state(finding: &Finding, held: bool) -> Option<(&'static str, Option<Timestamp>)> {
    match &finding.verdict {
        Verdict::Active { deactivates_at, .. } => Some((ACTIVE, *deactivates_at)),
        Verdict::Withdrawn { how: Withdrawal::VersionDeactivated, .. } => Some(("Deactivated", None)),
        Verdict::Withdrawn { how: Withdrawal::VersionDestroyed, .. } => Some(("Destroyed", None)),
        Verdict::Withdrawn { .. } => Some(("Deleted", None)),
        Verdict::Missing { confirmed: true } if held => Some(("Deleted", None)),
        _ => None,
    }
}
