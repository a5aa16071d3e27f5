//! Does what was decided about one `OkmsSecret`: writes, replaces or deletes the target, and then says so.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{
    gather::{Access, Found},
    report::Said,
    row::Refused,
    secret::{Ended, Run},
};
use crate::{
    api::{Interval, Reason, TargetChange},
    feed::{Admission, Answer},
    k8s::WriteError,
    model::{Finding, Mark, Verdict},
    plan::{self, Claim, Condition, Decision, Leftover, Templates},
};

impl Run<'_> {
    pub(super) async fn act(
        &mut self,
        access: &Access,
        claim: &Claim,
        found: &Found,
        answer: &Answer,
        decision: Decision,
    ) -> Result<Ended, WriteError> {
        let findings = match answer {
            Answer::Known { findings, .. } => Some(findings.as_slice()),
            Answer::Down { .. } | Answer::Pending => None,
        };
        // A failure says nothing of what was withdrawn; any other answer that withdraws nothing takes it back.
        let answered = findings.is_some_and(|findings| !findings.iter().any(|finding| finding.verdict.is_trouble()));
        let withdraws = match &decision {
            Decision::Withdraw { .. } | Decision::Keep | Decision::Read { .. } => true,
            Decision::Write { drops, .. } => *drops,
            Decision::Report { .. } | Decision::NotRendered { .. } | Decision::Synced { .. } => false,
        };
        // Nor does a not-found that is no proof yet: it may be the one by which a withdrawal was held.
        let unproven = |finding: &Finding| matches!(finding.verdict, Verdict::Missing { confirmed: false });
        if answered && !withdraws && !findings.is_some_and(|findings| findings.iter().any(unproven)) {
            self.context.feed.clear_withdrawal(&access.name, self.id);
        }
        if let Decision::Write { drops: true, .. } = &decision {
            self.still_in_force(access).await?;
        }
        let again = match decision {
            Decision::Keep => {
                self.context.feed.settle(&access.name, self.id, &found.marks);
                self.acknowledge_refresh().await?;
                None
            }
            Decision::Read { .. } => self.keep(access, claim, found, findings).await?,
            Decision::Report { reason, message } => {
                if found.secret.is_none() && reason.is_withdrawal() {
                    self.row.is_in_step(None);
                }
                if answered {
                    self.context.feed.settle(&access.name, self.id, &found.marks);
                }
                let mut said = Said::new(reason, message).about(findings, &found.marks);
                said.target_is_gone = found.secret.is_none() && !found.remembered;
                self.say(said).await?;
                None
            }
            Decision::NotRendered { reason, message, marks } => {
                self.row.unrenderable = Some(Box::new((self.made_by(claim), marks)));
                self.context.feed.settle(&access.name, self.id, &found.marks);
                self.say(Said::new(reason, message).about(findings, &found.marks)).await?;
                None
            }
            Decision::Synced { marks } => {
                if let Some(secret) = &found.secret {
                    self.remember(claim, secret, marks.clone());
                }
                self.synced(access, claim, findings, marks, None).await?;
                None
            }
            Decision::Write { drops: true, .. } if !self.may_withdraw(access) => {
                self.held(access, found, findings).await?;
                None
            }
            Decision::Write { marks, .. }
                if self.rests(claim, found).is_some() || (self.writes_again(claim, &marks) && !self.may_repair()) =>
            {
                self.keep(access, claim, found, findings).await?
            }
            Decision::Write { secret, marks, drops } => match self.write(claim, found, &secret).await {
                Ok((written, change)) => {
                    if drops {
                        self.count_withdrawal(access);
                    }
                    if self.writes_again(claim, &marks) {
                        self.row.fight.repaired(Instant::now(), &self.context.config);
                    }
                    self.remember(claim, &written, marks.clone());
                    self.synced(access, claim, findings, marks, change).await?;
                    None
                }
                Err(WriteError::Conflict) if found.supposed => {
                    self.row.in_the_way = true;
                    Some(Duration::ZERO)
                }
                Err(error) => Some(self.not_written(access, claim, found, findings, error, &secret).await?),
            },
            Decision::Withdraw { reason, message } => {
                self.withdraw(access, claim, found, findings, reason, message).await?
            }
        };
        Ok(Ended::settled(again))
    }

    /// The target should be written, and is not now: because of what was said already, or because somebody keeps undoing it, which is
    /// said here.
    async fn keep(
        &mut self,
        access: &Access,
        claim: &Claim,
        found: &Found,
        findings: Option<&[Finding]>,
    ) -> Result<Option<Duration>, WriteError> {
        self.context.feed.settle(&access.name, self.id, &found.marks);
        let config = &self.context.config;
        if self.row.fight.rests(Instant::now(), config).is_none() {
            self.acknowledge_refresh().await?;
            return Ok(self.rests(claim, found));
        }
        let name = &claim.wanted.target.name;
        let who = found.secret.as_ref().and_then(|secret| plan::other_writer(&secret.metadata));
        let message = format!(
            "{} keeps undoing what is written to Secret {name}, so it is written only once in {} from now on: stop it, or choose \
             another spec.target.name",
            who.unwrap_or("somebody"),
            Interval::from(config.conflict_window)
        );
        self.say(Said::new(Reason::TargetConflict, message).about(findings, &found.marks)).await?;
        Ok(self.rests(claim, found))
    }

    /// Whether this was written before: somebody has undone it.
    fn writes_again(&self, claim: &Claim, marks: &[Option<Mark>]) -> bool {
        self.row.target.as_ref().is_some_and(|known| {
            known.made_by == self.made_by(claim) && known.name == claim.wanted.target.name && known.marks == marks
        })
    }

    fn may_repair(&mut self) -> bool {
        self.row.fight.may_repair(Instant::now(), &self.context.config)
    }

    /// Says why the target was not written, and answers when to try again.
    async fn not_written(
        &mut self,
        access: &Access,
        claim: &Claim,
        found: &Found,
        findings: Option<&[Finding]>,
        error: WriteError,
        desired: &Secret,
    ) -> Result<Duration, WriteError> {
        let (reason, message) = match error {
            WriteError::Refused(words) => {
                let secrets = [Some(desired), found.secret.as_ref()];
                let words = redacted(words, &claim.wanted.templates, secrets.into_iter().flatten());
                (Reason::TargetRefused, format!("the API server refuses the Secret: {words}"))
            }
            WriteError::Contested { managers, fields } => (
                Reason::TargetConflict,
                format!(
                    "{} of the Secret belong to {}, and are not taken from there: remove them there, or give the keys other names \
                     with keys or prefix",
                    first_ten(&fields),
                    first_ten(&managers)
                ),
            ),
            error => return Err(self.in_doubt(error)),
        };
        let config = &self.context.config;
        let name = &claim.wanted.target.name;
        // What was put back, after a replacement was refused, is another Secret.
        let now = self.context.targets.read(&self.id.namespace, name).await?;
        self.row.refused = Some(Box::new(Refused {
            made_by: self.made_by(claim),
            at: Instant::now(),
            resource_version: now.and_then(|secret| secret.metadata.resource_version),
        }));
        self.context.feed.settle(&access.name, self.id, &found.marks);
        self.say(Said::new(reason, message).about(findings, &found.marks)).await?;
        Ok(config.retry_refused)
    }

    /// A write that was not answered may have been made.
    fn in_doubt(&mut self, error: WriteError) -> WriteError {
        if let WriteError::Unavailable { .. } = error {
            self.row.perhaps_changed = Some(Timestamp::now());
        }
        error
    }

    /// Makes the target what it shall be. Answers what it is now, and what was done where its content changed.
    async fn write(
        &self,
        claim: &Claim,
        found: &Found,
        desired: &Secret,
    ) -> Result<(Secret, Option<TargetChange>), WriteError> {
        let (targets, term, namespace) = (&self.context.targets, &self.context.term, &self.id.namespace);
        let name = &claim.wanted.target.name;
        let Some(existing) = &found.secret else {
            let written = targets.create(term, namespace, desired).await?;
            let known = self.row.target.as_ref().is_some_and(|known| known.name == *name);
            return Ok((written, Some(if known { TargetChange::Repaired } else { TargetChange::Created })));
        };
        let empty = BTreeMap::new();
        let content = claim.content(existing).data != *desired.data.as_ref().unwrap_or(&empty);
        let change = match found.condition {
            Condition::Drifted => Some(TargetChange::Repaired),
            Condition::Intact if !content => None,
            _ => Some(TargetChange::Updated),
        };
        if claim.merges() {
            return Ok((self.merge(claim, existing, desired).await?, change));
        }
        let frozen = existing.immutable == Some(true);
        if plan::type_of(existing) != plan::type_of(desired) || (frozen && (content || desired.immutable != Some(true)))
        {
            return Ok((self.replace(claim, existing, desired).await?, Some(TargetChange::Replaced)));
        }
        Ok((targets.replace(term, namespace, name, desired).await?, change))
    }

    /// Deletes a Secret and creates it anew, because Kubernetes does not let it be changed in place.
    ///
    /// What would be refused is refused while the old one is still there, and should the API server change its mind, the old one is put
    /// back.
    async fn replace(&self, claim: &Claim, existing: &Secret, desired: &Secret) -> Result<Secret, WriteError> {
        let (targets, term, namespace) = (&self.context.targets, &self.context.term, &self.id.namespace);
        let desired = claim.afresh(desired);
        targets.would_create(term, namespace, &desired).await?;
        if !term.lasts(REPLACED) || self.context.stopping.is_cancelled() {
            return Err(WriteError::Postponed(
                "the operator is about to stop or its Lease is not renewed, and a Secret is not deleted that may not be made again"
                    .to_owned(),
            ));
        }
        targets.delete(term, namespace, existing).await?;
        let result = targets.create(term, namespace, &desired).await;
        if let Err(WriteError::Refused(_)) = &result {
            targets.create(term, namespace, &claim.put_back(existing)).await?;
        }
        result
    }

    /// Adds our keys to a Secret of somebody else.
    ///
    /// An `OkmsSecret` that was deleted and made again finds keys that belong to its predecessor. It has them written in its
    /// predecessor's name first, so that both own the same, and then leaves them to itself: at no moment are they missing. Where that
    /// was interrupted, both own the same already.
    async fn merge(&self, claim: &Claim, existing: &Secret, desired: &Secret) -> Result<Secret, WriteError> {
        let (targets, term, namespace) = (&self.context.targets, &self.context.term, &self.id.namespace);
        let mut desired = desired.clone();
        let shared = claim.has_share(existing);
        for predecessor in &claim.predecessors {
            let mut part = if shared {
                plan::taken_out(existing)
            } else {
                claim.in_the_name_of(predecessor, desired.data.clone().unwrap_or_default(), existing)
            };
            part.metadata.resource_version.clone_from(&desired.metadata.resource_version);
            let written = targets.apply(term, namespace, &predecessor.field_manager(), &part).await?;
            desired.metadata.resource_version = written.metadata.resource_version;
        }
        let mut written = targets.apply(term, namespace, &claim.owner.field_manager(), &desired).await?;
        for predecessor in claim.predecessors.iter().filter(|_| !shared) {
            let manager = predecessor.field_manager();
            written = targets.apply(term, namespace, &manager, &plan::taken_out(&written)).await?;
        }
        Ok(written)
    }

    /// The target is what it shall be: frees what waited for it, removes what a renamed target left behind, says so.
    async fn synced(
        &mut self,
        access: &Access,
        claim: &Claim,
        findings: Option<&[Finding]>,
        held: Vec<Option<Mark>>,
        change: Option<TargetChange>,
    ) -> Result<(), WriteError> {
        self.row.unrenderable = None;
        self.row.refused = None;
        self.row.is_in_step(change.map(|_| Timestamp::now()));
        self.context.feed.settle(&access.name, self.id, &held);
        let name = &claim.wanted.target.name;
        let sources: Vec<String> = claim
            .wanted
            .sources
            .iter()
            .zip(&held)
            .filter_map(|(wanted, mark)| Some(format!("{}@{}", wanted.source.path, mark.as_ref()?.version)))
            .collect();
        let sources = sources.join(", ");
        if let Some(change) = change {
            self.tell_change(change, &format!("Secret {name} holds {sources}"));
            self.observe_latency(change, &held);
        }
        for old in self.context.other_targets(&self.id.namespace, &claim.owner, name) {
            if self.leave(access, claim, &old).await? {
                self.tell_change(TargetChange::Deleted, &format!("Secret {old} was replaced by {name}"));
            }
        }
        self.say(Said::new(Reason::Synced, format!("Secret {name} holds {sources}")).about(findings, &held)).await
    }

    /// New content that the operator saw happen reached its Secret.
    fn observe_latency(&self, change: TargetChange, held: &[Option<Mark>]) {
        let newest = held.iter().flatten().filter_map(|mark| mark.created_at).max();
        if let (TargetChange::Updated, Some(created)) = (change, newest)
            && let Ok(after) = Duration::try_from(Timestamp::now().duration_since(created))
        {
            self.context.metrics.change_reached_secret(after);
        }
    }

    /// Whether the store's budget lets something be taken away now.
    fn may_withdraw(&self, access: &Access) -> bool {
        // Also where the spec was edited since, which confirms nothing.
        let was_held = self.last_ready().is_some_and(|ready| ready.reason == Reason::WithdrawalHeld.as_str());
        self.context.feed.admit_withdrawal(&access.name, self.id, was_held) == Admission::Granted
    }

    fn count_withdrawal(&self, access: &Access) {
        if let Some(metrics) = self.context.stores.metrics(&access.name) {
            metrics.withdrawal();
        }
    }

    async fn held(&mut self, access: &Access, found: &Found, findings: Option<&[Finding]>) -> Result<(), WriteError> {
        let message = format!(
            "the Secret is kept, although its source was withdrawn, because too many are at once: look at {} and confirm \
             there (spec.maxWithdrawalsPerHour)",
            access.name
        );
        self.context.feed.settle(&access.name, self.id, &found.marks);
        self.say(Said::new(Reason::WithdrawalHeld, message).about(findings, &found.marks)).await
    }

    async fn withdraw(
        &mut self,
        access: &Access,
        claim: &Claim,
        found: &Found,
        findings: Option<&[Finding]>,
        reason: Reason,
        message: String,
    ) -> Result<Option<Duration>, WriteError> {
        if found.secret.is_some() {
            // Before the budget, which what is not done is not to use up.
            self.still_in_force(access).await?;
        }
        if !self.may_withdraw(access) {
            self.held(access, found, findings).await?;
            return Ok(None);
        }
        let mut message = message;
        let held_by =
            found.secret.as_ref().filter(|_| !claim.merges()).map(ResourceExt::finalizers).unwrap_or_default();
        if !held_by.is_empty() {
            message = format!("{message}; it is still there until its finalizers are removed: {}", first_ten(held_by));
        }
        let gone = held_by.is_empty();
        // One that is being deleted already needs nothing more.
        let goes = |secret: &&Secret| secret.metadata.deletion_timestamp.is_some() && !claim.merges();
        if let Some(secret) = found.secret.as_ref().filter(|secret| !goes(secret)) {
            match self.take_away(claim, secret).await {
                Ok(()) => {}
                Err(WriteError::Refused(words)) => {
                    let words = redacted(words, &claim.wanted.templates, [secret]);
                    let message =
                        format!("the source was withdrawn, but the API server refuses to delete the Secret: {words}");
                    self.say(Said::new(Reason::TargetRefused, message).about(findings, &found.marks)).await?;
                    return Ok(Some(self.context.config.retry_refused));
                }
                Err(error) => return Err(self.in_doubt(error)),
            }
            self.count_withdrawal(access);
            self.tell_change(TargetChange::Deleted, &message);
        }
        self.row.target = None;
        self.row.is_in_step(found.secret.as_ref().map(|_| Timestamp::now()));
        self.context.feed.settle(&access.name, self.id, &vec![None; found.marks.len()]);
        let mut said = Said::new(reason, message).about(findings, &found.marks);
        said.target_is_gone = gone;
        self.row.unsaid = Some(Box::new((self.generation, said.clone())));
        self.say(said).await?;
        Ok(None)
    }

    /// Takes what is claimed out of the cluster: the Secret, or our keys of it.
    async fn take_away(&self, claim: &Claim, secret: &Secret) -> Result<(), WriteError> {
        let (targets, term, namespace) = (&self.context.targets, &self.context.term, &self.id.namespace);
        if !claim.merges() {
            return targets.delete(term, namespace, secret).await;
        }
        let mut part = plan::taken_out(secret);
        for owner in std::iter::once(&claim.owner).chain(&claim.predecessors) {
            let written = targets.apply(term, namespace, &owner.field_manager(), &part).await?;
            part.metadata.resource_version = written.metadata.resource_version;
        }
        Ok(())
    }

    /// Leaves a target of a former name; answers whether something was deleted.
    async fn leave(&self, access: &Access, claim: &Claim, name: &str) -> Result<bool, WriteError> {
        let (targets, term, namespace) = (&self.context.targets, &self.context.term, &self.id.namespace);
        let Some(secret) = targets.read(namespace, name).await? else { return Ok(false) };
        let leftover = claim.leftover(&secret);
        if let Leftover::Delete | Leftover::TakeOut = leftover {
            self.still_in_force(access).await?;
        }
        let left = match &leftover {
            Leftover::NotOurs => return Ok(false),
            Leftover::Delete => targets.delete(term, namespace, &secret).await,
            Leftover::Release(free) => targets.replace(term, namespace, name, free).await.map(drop),
            Leftover::TakeOut => {
                let manager = claim.owner.field_manager();
                targets.apply(term, namespace, &manager, &plan::taken_out(&secret)).await.map(drop)
            }
        };
        let deleted = !matches!(leftover, Leftover::Release(_));
        left.map(|()| deleted).map_err(|error| match error {
            WriteError::Refused(words) => WriteError::Refused(redacted(words, &claim.wanted.templates, [&secret])),
            error => error,
        })
    }
}

/// How long leadership has to last at least where something is deleted to be made again: longer than both take where the API server works,
/// and shorter than what is left of any term that is renewed, however short its durations were chosen.
const REPLACED: Duration = Duration::from_millis(500);

/// The first ten, and how many more there are.
fn first_ten(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let first: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// The API server's words, unless they hold something of the Secret, or of what templates made of it: an admission policy may quote what it
/// refuses.
fn redacted<'s>(words: String, templates: &Templates, secrets: impl IntoIterator<Item = &'s Secret>) -> String {
    let quotes_one = |secret: &Secret| {
        let mut data = secret.data.iter().flatten();
        let made = |templates: &BTreeMap<String, String>, all: Option<&BTreeMap<String, String>>| {
            templates.keys().filter_map(|key| all?.get(key)).any(|value| quotes(&words, value.as_bytes()))
        };
        data.any(|(_, value)| {
            let encoded = serde_json::to_string(value).unwrap_or_default();
            quotes(&words, &value.0) || quotes(&words, encoded.trim_matches(['"', '=']).as_bytes())
        }) || made(&templates.labels, secret.metadata.labels.as_ref())
            || made(&templates.annotations, secret.metadata.annotations.as_ref())
    };
    if secrets.into_iter().any(quotes_one) {
        "its sentence is not repeated here, because it quotes the content".to_owned()
    } else {
        words
    }
}

/// Whether the words hold the value, or enough of it in a row: what is long may be quoted in part.
fn quotes(words: &str, value: &[u8]) -> bool {
    let length = value.len().min(LONGEST_CHANCE);
    let parts: HashSet<&[u8]> = words.as_bytes().windows(length.max(1)).collect();
    length >= SHORTEST_QUOTE && value.windows(length).any(|part| parts.contains(part))
}

/// Shorter values are found in any text by chance.
const SHORTEST_QUOTE: usize = 4;

/// What words and a value have in common by chance, such as `kubernetes.io/`, is not longer than this.
const LONGEST_CHANCE: usize = 16;

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn words_that_quote_the_content_are_not_repeated() {
        let secret = Secret {
            data: Some([("password".to_owned(), ByteString(b"hunter2-hunter2".to_vec()))].into()),
            ..Secret::default()
        };
        let none = Templates::default();
        let kept = |words: &str| redacted(words.to_owned(), &none, [&secret]) == words;
        assert!(kept("exceeded quota: secrets=10"));
        assert!(!kept("denied: password is hunter2-hunter2"));
        assert!(!kept("denied: {\"password\":\"aHVudGVyMi1odW50ZXIy\"}"));
        let long = Secret {
            data: Some([("ca.crt".to_owned(), ByteString("0123456789abcdefghij".repeat(9).into()))].into()),
            ..Secret::default()
        };
        assert!(redacted("denied: ca.crt is 89abcdefghij0123…".into(), &none, [&long]).contains("not repeated"));
        assert!(!redacted("denied: ca.crt is 0123456789".into(), &none, [&long]).contains("not repeated"), "by chance");
    }

    #[test]
    fn words_that_quote_what_a_template_made_of_the_content_are_not_repeated() {
        let named = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let mut secret = Secret::default();
        secret.metadata.labels =
            Some([named("tier", "hunter2"), named("team", "shop")].into_iter().flatten().collect());
        secret.metadata.annotations = Some(named("url", "db://hunter2@host"));
        let templates = Templates {
            labels: named("tier", "{{ password }}"),
            annotations: named("url", "db://{{ password }}@host"),
            ..Templates::default()
        };
        let kept = |words: &str| redacted(words.to_owned(), &templates, [&secret]) == words;
        assert!(!kept("denied: label tier is hunter2"));
        assert!(!kept("denied: annotation url is db://hunter2@host"));
        assert!(kept("denied: label team is shop"), "which stands in the spec");
    }
}
