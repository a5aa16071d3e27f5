//! Does what was decided about one `OkmsSecret`: writes, replaces or deletes the target, and then says so.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;

use super::{
    report::Said,
    secret::{Access, Ended, Found, Run},
};
use crate::{
    api::{Reason, TargetChange},
    feed::{Admission, Answer},
    k8s::WriteError,
    model::{Finding, Mark},
    plan::{self, Condition, Decision, Owner, Ownership, Wanted},
};

impl Run<'_> {
    pub(super) async fn act(
        &mut self,
        access: &Access,
        wanted: &Wanted,
        owner: &Owner,
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
            Decision::Withdraw { .. } | Decision::Keep | Decision::Read => true,
            Decision::Write { drops, .. } => *drops,
            Decision::Report { .. } | Decision::Synced { .. } => false,
        };
        if answered && !withdraws {
            self.context.feed.clear_withdrawal(&access.name, self.id);
        }
        let again = match decision {
            Decision::Keep | Decision::Read => {
                self.context.feed.settle(&access.name, self.id, &found.marks);
                None
            }
            Decision::Report { reason, message } => {
                if does_not_render(reason) {
                    self.row.unrenderable = Some(self.generation);
                }
                if answered {
                    self.context.feed.settle(&access.name, self.id, &found.marks);
                }
                self.say(Said::new(reason, message).about(findings, &found.marks)).await?;
                None
            }
            Decision::Synced { marks } => {
                if let Some(secret) = &found.secret {
                    self.remember(secret, marks.clone());
                }
                self.synced(access, wanted, owner, findings, marks, None).await?;
                None
            }
            Decision::Write { drops: true, .. } if !self.may_withdraw(access) => {
                self.held(access, found, findings).await?;
                None
            }
            Decision::Write { secret, marks, .. } => match self.write(wanted, found, &secret).await {
                Ok((written, change)) => {
                    self.remember(&written, marks.clone());
                    self.synced(access, wanted, owner, findings, marks, change).await?;
                    None
                }
                Err(WriteError::Refused(words)) => {
                    self.row.refused = true;
                    self.context.feed.settle(&access.name, self.id, &found.marks);
                    let message = format!("the API server refuses the Secret: {}", without_values(words, &secret));
                    self.say(Said::new(Reason::TargetRefused, message).about(findings, &found.marks)).await?;
                    Some(self.context.config.retry_refused)
                }
                Err(error) => return Err(error),
            },
            Decision::Withdraw { reason, message } => self.withdraw(access, found, findings, reason, message).await?,
        };
        Ok(Ended::settled(again))
    }

    /// Makes the target what it shall be. Answers what it is now, and what was done where its content changed.
    async fn write(
        &self,
        wanted: &Wanted,
        found: &Found,
        desired: &Secret,
    ) -> Result<(Secret, Option<TargetChange>), WriteError> {
        let (targets, term, namespace) = (&self.context.targets, &self.context.term, &self.id.namespace);
        let name = &wanted.target.name;
        let Some(existing) = &found.secret else {
            let written = targets.create(term, namespace, desired).await?;
            let known = self.row.target.as_ref().is_some_and(|known| known.name == *name);
            return Ok((written, Some(if known { TargetChange::Repaired } else { TargetChange::Created })));
        };
        let empty = BTreeMap::new();
        let content = existing.data.as_ref().unwrap_or(&empty) != desired.data.as_ref().unwrap_or(&empty);
        let other_type = existing.type_.as_deref().unwrap_or("Opaque") != wanted.target.type_.as_str();
        if other_type || (content && existing.immutable == Some(true)) {
            // Neither can be changed in place. What would be refused is refused while the old one is still there.
            targets.would_create(namespace, desired).await?;
            targets.delete(term, namespace, existing).await?;
            let mut fresh = desired.clone();
            fresh.metadata.uid = None;
            fresh.metadata.resource_version = None;
            return Ok((targets.create(term, namespace, &fresh).await?, Some(TargetChange::Replaced)));
        }
        let written = targets.replace(term, namespace, name, desired).await?;
        let change = match found.condition {
            Condition::Drifted => Some(TargetChange::Repaired),
            Condition::Intact if !content => None,
            _ => Some(TargetChange::Updated),
        };
        Ok((written, change))
    }

    /// The target is what it shall be: frees what waited for it, removes what a renamed target left behind, says so.
    async fn synced(
        &mut self,
        access: &Access,
        wanted: &Wanted,
        owner: &Owner,
        findings: Option<&[Finding]>,
        held: Vec<Option<Mark>>,
        change: Option<TargetChange>,
    ) -> Result<(), WriteError> {
        self.row.unrenderable = None;
        self.row.refused = false;
        self.context.feed.settle(&access.name, self.id, &held);
        let name = &wanted.target.name;
        let sources: Vec<String> = wanted
            .sources
            .iter()
            .zip(&held)
            .filter_map(|(wanted, mark)| Some(format!("{}@{}", wanted.source.path, mark.as_ref()?.version)))
            .collect();
        let sources = sources.join(", ");
        if let Some(change) = change {
            self.tell_change(change, format!("Secret {name} holds {sources}")).await;
            self.observe_latency(change, &held);
        }
        for old in self.context.other_targets(&self.id.namespace, &owner.name, name) {
            if self.delete_if_ours(&old, owner).await?.is_some() {
                self.tell_change(TargetChange::Deleted, format!("Secret {old} was replaced by {name}")).await;
            }
        }
        let mut said = Said::new(Reason::Synced, format!("Secret {name} holds {sources}")).about(findings, &held);
        said.content_changed = change.is_some();
        self.say(said).await
    }

    /// New content that the operator saw happen reached its Secret.
    fn observe_latency(&self, change: TargetChange, held: &[Option<Mark>]) {
        let newest = held.iter().flatten().filter_map(|mark| mark.created_at).max();
        if let (TargetChange::Updated, Some(created)) = (change, newest)
            && let Ok(after) = Duration::try_from(jiff::Timestamp::now().duration_since(created))
        {
            self.context.metrics.change_reached_secret(after);
        }
    }

    /// Whether the store's budget lets something be taken away now.
    fn may_withdraw(&self, access: &Access) -> bool {
        let was_held = self.previous() == Some(Reason::WithdrawalHeld);
        self.context.feed.admit_withdrawal(&access.name, self.id, was_held) == Admission::Granted
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
        found: &Found,
        findings: Option<&[Finding]>,
        reason: Reason,
        message: String,
    ) -> Result<Option<Duration>, WriteError> {
        if !self.may_withdraw(access) {
            self.held(access, found, findings).await?;
            return Ok(None);
        }
        if let Some(secret) = &found.secret {
            match self.context.targets.delete(&self.context.term, &self.id.namespace, secret).await {
                Ok(()) => {}
                Err(WriteError::Refused(words)) => {
                    let words = without_values(words, secret);
                    let message =
                        format!("the source was withdrawn, but the API server refuses to delete the Secret: {words}");
                    self.say(Said::new(Reason::TargetRefused, message).about(findings, &found.marks)).await?;
                    return Ok(Some(self.context.config.retry_refused));
                }
                Err(error) => return Err(error),
            }
            if let Some(metrics) = self.context.stores.metrics(&access.name.name) {
                metrics.withdrawal();
            }
            self.tell_change(TargetChange::Deleted, message.clone()).await;
        }
        self.row.target = None;
        self.context.feed.settle(&access.name, self.id, &vec![None; found.marks.len()]);
        let mut said = Said::new(reason, message).about(findings, &found.marks);
        said.target_is_gone = true;
        said.content_changed = true;
        self.say(said).await?;
        Ok(None)
    }

    /// Deletes a target of a former name, if it is ours. A copy that somebody made of a target carries our annotations as well, but
    /// it was not us who wrote its data.
    async fn delete_if_ours(&self, name: &str, owner: &Owner) -> Result<Option<()>, WriteError> {
        let Some(secret) = self.context.targets.read(&self.id.namespace, name).await? else { return Ok(None) };
        if plan::ownership(&secret.metadata, owner) != Ownership::Ours || !plan::only_we_wrote_data(&secret.metadata) {
            return Ok(None);
        }
        let deleted = self.context.targets.delete(&self.context.term, &self.id.namespace, &secret).await;
        deleted.map(Some).map_err(|error| match error {
            WriteError::Refused(words) => WriteError::Refused(without_values(words, &secret)),
            error => error,
        })
    }
}

/// Reasons that stay until the source or the spec changes.
fn does_not_render(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::KeyNotFound
            | Reason::InvalidKey
            | Reason::KeyConflict
            | Reason::DecodeFailed
            | Reason::TooLarge
            | Reason::InvalidForType
            | Reason::EmptySource
    )
}

/// The API server's words, unless they hold something of the Secret: an admission policy may quote what it refuses.
fn without_values(words: String, secret: &Secret) -> String {
    let quotes = secret.data.iter().flatten().any(|(_, value)| {
        let encoded = serde_json::to_string(value).unwrap_or_default();
        quotes(&words, &value.0) || quotes(&words, encoded.trim_matches(['"', '=']).as_bytes())
    });
    if quotes { "its sentence is not repeated here, because it quotes the content".to_owned() } else { words }
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
        let kept = |words: &str| without_values(words.to_owned(), &secret) == words;
        assert!(kept("exceeded quota: secrets=10"));
        assert!(!kept("denied: password is hunter2-hunter2"));
        assert!(!kept("denied: {\"password\":\"aHVudGVyMi1odW50ZXIy\"}"));
        let long = Secret {
            data: Some([("ca.crt".to_owned(), ByteString("0123456789abcdefghij".repeat(9).into()))].into()),
            ..Secret::default()
        };
        assert!(without_values("denied: ca.crt is 89abcdefghij0123…".into(), &long).contains("not repeated"));
        assert!(!without_values("denied: ca.crt is 0123456789".into(), &long).contains("not repeated"), "by chance");
    }
}
