//! One `OkmsSecret`: gather what is there, ask the feed, decide, do it, say it.
//!
//! It never waits for OKMS, and it makes at most one change to the target and one to the status. What it decides is decided in
//! [`crate::plan`]; how it is done stands in [`super::apply`], what is said of it in [`super::report`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta};
use kube::runtime::controller::Action;

use super::{
    context::{Context, object_id},
    metrics::ReconcileOutcome,
    report::Said,
    row::{KnownTarget, Row},
};
use crate::{
    api::{ClusterOkmsStore, Interval, OkmsSecret, Reason, condition},
    feed::{Answer, Ask, Lane, Need, ObjectId, Wish},
    k8s::WriteError,
    model::{Mark, OkmsId, Source, StoreName, Verdict},
    plan::{self, Condition, Decision, Known, Owner, Ownership, Snapshot, Wanted, Written},
};

/// How a reconcile ended, and when to come back if nothing wakes it before.
pub(super) struct Ended {
    pub outcome: ReconcileOutcome,
    pub action: Action,
}

impl Ended {
    pub fn settled(again: Option<Duration>) -> Self {
        Self { outcome: ReconcileOutcome::Settled, action: again.map_or_else(Action::await_change, Action::requeue) }
    }

    fn pending(again: Option<Duration>) -> Self {
        Self { outcome: ReconcileOutcome::Pending, ..Self::settled(again) }
    }

    fn failed(again: Duration) -> Self {
        Self { outcome: ReconcileOutcome::Failed, action: Action::requeue(again) }
    }
}

/// Brings one object up to date.
pub(super) async fn reconcile(object: Arc<OkmsSecret>, context: &Context) -> Ended {
    let id = object_id(&object);
    if object.metadata.deletion_timestamp.is_some() {
        // Kubernetes deletes the target by its owner reference.
        context.feed.forget(&id);
        context.rows.drop(&id.uid);
        return Ended::settled(None);
    }
    let mut row = context.rows.take(&id.uid);
    let now = Instant::now();
    let ended = if let Some(wait) = row.waits(now) {
        Ended::failed(wait)
    } else {
        let generation = object.metadata.generation.unwrap_or(0);
        let mut run = Run { context, object: &object, id: &id, generation, row: &mut row };
        let mut result = run.run().await;
        if let Err(WriteError::Refused(words)) = result {
            result = run.refused(&words).await;
        }
        match result {
            Ok(ended) => {
                row.succeeded();
                ended
            }
            Err(error) => {
                let wait = row.failed(now, &context.config);
                tracing::warn!("trying again: {error}");
                Ended::failed(wait)
            }
        }
    };
    context.rows.put(id.uid.clone(), row);
    if !context.exists(&id) {
        // It went away meanwhile, and what the watch dropped then was there again.
        context.feed.forget(&id);
        context.rows.drop(&id.uid);
    }
    ended
}

/// One run for one object.
pub(super) struct Run<'a> {
    pub context: &'a Context,
    pub object: &'a OkmsSecret,
    pub id: &'a ObjectId,
    pub generation: i64,
    pub row: &'a mut Row,
}

/// The store of the object, ready to be asked.
pub(super) struct Access {
    pub name: StoreName,
    pub okms_id: OkmsId,
    store: Arc<ClusterOkmsStore>,
}

/// Why nothing can be read.
enum Unreadable {
    Said(Said),
    /// The store was not looked at since the operator started.
    NotYet,
}

/// The target as it was found.
pub(super) struct Found {
    /// Absent where there is none, or where it was not read because it is as it was.
    pub secret: Option<Secret>,
    pub condition: Condition,
    /// For each source, what the target was made from.
    pub marks: Vec<Option<Mark>>,
    /// It was not read: the watch shows it as it was last seen.
    remembered: bool,
}

impl Run<'_> {
    async fn run(&mut self) -> Result<Ended, WriteError> {
        if !self.context.serves(&self.object.spec.store_name()) {
            // Another operator looks after it, and writes its status.
            self.stop_reading();
            return Ok(Ended::settled(None));
        }
        if self.object.spec.is_suspended() {
            self.stop_reading();
            self.say(Said::new(Reason::Suspended, "spec.suspend is true: nothing is read, written or deleted")).await?;
            return Ok(Ended::settled(None));
        }
        let (wanted, access) = match self.may_read() {
            Ok(found) => found,
            Err(Unreadable::NotYet) => return self.wait_for_store().await,
            Err(Unreadable::Said(said)) => {
                self.stop_reading();
                self.say(said).await?;
                return Ok(Ended::settled(None));
            }
        };
        if self.row.reads_from.as_ref().is_some_and(|store| *store != access.name) {
            self.stop_reading();
        }
        self.row.reads_from = Some(access.name.clone());
        let owner = Owner { name: self.id.name.to_string(), uid: self.id.uid.to_string() };
        let mut found = match self.remembered(&wanted) {
            Some(found) => found,
            None => match self.look(&wanted, &owner, &access).await? {
                Ok(found) => found,
                Err(said) => return self.not_ours(said).await,
            },
        };
        let mut need = self.need(&wanted, &found);
        loop {
            let answer = self.ask(&access, &wanted, &found, need);
            if let Answer::Pending = answer {
                return self.wait(&found).await;
            }
            if found.remembered && !at_rest(&answer, &wanted, &found.marks) {
                found = match self.look(&wanted, &owner, &access).await? {
                    Ok(found) => found,
                    Err(said) => return self.not_ours(said).await,
                };
                need = self.need(&wanted, &found);
                continue;
            }
            let decision = self.decide(&wanted, &owner, &access, &found, &answer);
            if matches!(decision, Decision::Read) && need == Need::Check && !self.is_unrenderable() {
                need = Need::Data;
                continue;
            }
            self.row.pending = None;
            return self.act(&access, &wanted, &owner, &found, &answer, decision).await;
        }
    }

    /// Nothing is read for the object any more, and nothing of it is kept.
    fn stop_reading(&mut self) {
        if self.row.reads_from.take().is_some() {
            self.context.feed.forget(self.id);
        }
    }

    /// What is wanted, and the store to read it from, if it is there and may be used for these paths.
    fn may_read(&self) -> Result<(Wanted, Access), Unreadable> {
        let refuse = |reason, message| Err(Unreadable::Said(Said::new(reason, message)));
        let wanted = match plan::wanted(self.object) {
            Ok(wanted) => wanted,
            Err(message) => return refuse(Reason::InvalidSpec, message),
        };
        let name = self.object.spec.store_name();
        let Some(store) = self.context.cluster_store(&name) else {
            let message = format!("{name} does not exist: create it, or correct spec.storeRef");
            return refuse(Reason::StoreNotFound, message);
        };
        let rules = store.spec.access.as_deref().unwrap_or_default();
        for wanted in wanted.sources.iter() {
            if !plan::grants(rules, &self.id.namespace, &wanted.source.path) {
                let message = format!(
                    "{name} does not let namespace {} read {}: have its owner add a rule to spec.access",
                    self.id.namespace, wanted.source.path
                );
                return refuse(Reason::AccessDenied, message);
            }
        }
        let Some(domain) = self.context.feed.domain(&name) else {
            // Whoever opens its desk, or finds that it cannot be opened, wakes the store's objects.
            let Some(trouble) = self.context.stores.trouble(&name.name) else { return Err(Unreadable::NotYet) };
            // What was taken back stays so until OKMS says something else.
            if self.previous().is_some_and(Reason::is_withdrawal) {
                return Err(Unreadable::NotYet);
            }
            return refuse(Reason::StoreNotReady, format!("the store is not ready: {trouble}"));
        };
        Ok((wanted, Access { name, okms_id: domain.okms_id, store }))
    }

    /// The target without reading it, if the watch shows it as it was last seen.
    fn remembered(&self, wanted: &Wanted) -> Option<Found> {
        let known = self.row.target.as_ref()?;
        let (uid, version) = (known.uid.as_deref(), known.resource_version.as_deref());
        let same = known.written.generation == self.generation
            && known.name == wanted.target.name
            && self.context.target_is_unchanged(&self.id.namespace, &known.name, uid, version);
        same.then(|| Found { secret: None, condition: Condition::Intact, marks: known.marks.clone(), remembered: true })
    }

    /// Reads the target. The inner error says whose it is.
    async fn look(
        &mut self,
        wanted: &Wanted,
        owner: &Owner,
        access: &Access,
    ) -> Result<Result<Found, Said>, WriteError> {
        let name = &wanted.target.name;
        let sources: Vec<&Source> = wanted.sources.iter().map(|wanted| &wanted.source).collect();
        let Some(secret) = self.context.targets.read(&self.id.namespace, name).await? else {
            let marks = vec![None; sources.len()];
            return Ok(Ok(Found { secret: None, condition: Condition::Unrendered, marks, remembered: false }));
        };
        if let Ownership::Foreign(whose) = plan::ownership(&secret.metadata, owner) {
            return Ok(Err(Said::new(
                Reason::TargetNotOwned,
                format!(
                    "Secret {name} exists already and {whose}, so it is not touched: delete it, or choose another \
                     spec.target.name"
                ),
            )));
        }
        let marks = plan::evidence(&secret.metadata, &access.okms_id, &sources);
        let fingerprint = plan::fingerprint(&self.context.fingerprinter, &secret);
        let written = self.row.target.as_ref().filter(|known| known.name == *name).map(|known| &known.written);
        let condition = plan::condition(&secret, self.generation, written, self.told_keys(), fingerprint);
        if condition == Condition::Intact
            && plan::is_dressed(owner, &self.id.namespace, wanted, &access.okms_id, &secret, &marks)
        {
            self.remember(&secret, marks.clone());
        }
        Ok(Ok(Found { secret: Some(secret), condition, marks, remembered: false }))
    }

    /// Remembers a target that equals the rendering of what it was made from.
    pub(super) fn remember(&mut self, secret: &Secret, marks: Vec<Option<Mark>>) {
        self.row.target = Some(KnownTarget {
            name: secret.metadata.name.clone().unwrap_or_default(),
            uid: secret.metadata.uid.clone(),
            resource_version: secret.metadata.resource_version.clone(),
            written: Written {
                generation: self.generation,
                fingerprint: plan::fingerprint(&self.context.fingerprinter, secret),
            },
            marks,
            keys: secret.data.as_ref().map_or(0, std::collections::BTreeMap::len),
        });
    }

    /// What the status says of this generation.
    fn ready(&self) -> Option<&meta::v1::Condition> {
        let status = self.row.status.as_ref().or(self.object.status.as_ref())?;
        let ready = condition::find(&status.conditions, condition::kind::READY)?;
        (ready.observed_generation == Some(self.generation)).then_some(ready)
    }

    /// The reason that the status shows for this generation.
    pub(super) fn previous(&self) -> Option<Reason> {
        let ready = self.ready()?;
        Reason::ALL.iter().copied().find(|reason| reason.as_str() == ready.reason)
    }

    /// How many keys the status says that the target has, if it shows this generation as synced.
    fn told_keys(&self) -> Option<usize> {
        let status = self.row.status.as_ref().or(self.object.status.as_ref())?;
        let synced = self.previous() == Some(Reason::Synced);
        status.target.as_ref().filter(|_| synced).and_then(|target| usize::try_from(target.keys).ok())
    }

    /// Whether the target was in step with this generation before.
    fn was_synced(&self) -> bool {
        let rendered = self.row.target.as_ref().is_some_and(|known| known.written.generation == self.generation);
        rendered || matches!(self.previous(), Some(Reason::Synced | Reason::TargetDrifted))
    }

    /// This generation was found not to render: it is read again when its sources change, not to find out the same.
    fn is_unrenderable(&self) -> bool {
        self.row.unrenderable == Some(self.generation)
    }

    /// Whether the values are needed whatever a check says.
    fn need(&self, wanted: &Wanted, found: &Found) -> Need {
        let mut sources = wanted.sources.iter().zip(&found.marks);
        let complete =
            found.condition == Condition::Intact && sources.all(|(wanted, held)| held.is_some() || wanted.optional);
        if (complete && !self.row.refused) || self.is_unrenderable() { Need::Check } else { Need::Data }
    }

    fn ask(&self, access: &Access, wanted: &Wanted, found: &Found, need: Need) -> Answer {
        let lane = match found.condition {
            Condition::Intact => Lane::Verify,
            Condition::Drifted => Lane::Drift,
            Condition::Unrendered => Lane::Change,
        };
        let wishes = wanted.sources.iter().zip(&found.marks).map(|(wanted, held)| Wish {
            source: wanted.source.clone(),
            held: *held,
            optional: wanted.optional,
        });
        let ask = Ask {
            object: self.id.clone(),
            generation: self.generation,
            sources: wishes.collect(),
            need,
            interval: self.interval(Some(&access.store)),
            lane,
        };
        self.context.feed.ask(&access.name, &access.okms_id, ask).unwrap_or(Answer::Pending)
    }

    /// The interval in force; absent: only when asked.
    pub(super) fn interval(&self, store: Option<&ClusterOkmsStore>) -> Option<Duration> {
        let config = &self.context.config;
        let asked = self.object.spec.refresh_interval.or_else(|| store?.spec.refresh_interval);
        let asked = asked.map_or(config.refresh_interval, Interval::get);
        (!asked.is_zero()).then(|| asked.max(config.min_refresh_interval))
    }

    /// OKMS has not answered yet. What takes long is told.
    async fn wait(&mut self, found: &Found) -> Result<Ended, WriteError> {
        let config = &self.context.config;
        let (bound, said) = if self.was_synced() {
            if found.condition == Condition::Intact {
                return Ok(Ended::pending(None));
            }
            let message =
                "the Secret was changed or deleted, and OKMS has not answered yet with what to repair it with";
            (config.drift_after, Said::new(Reason::TargetDrifted, message))
        } else if self.previous().is_some() {
            return Ok(Ended::pending(None));
        } else {
            (config.progress_after, Said::new(Reason::Progressing, "waiting for OKMS to answer"))
        };
        self.say_after(bound, said).await
    }

    /// The operator has just started, or the store was just made. What is in step is not called anything else for that.
    async fn wait_for_store(&mut self) -> Result<Ended, WriteError> {
        if self.previous().is_some() {
            return Ok(Ended::pending(None));
        }
        let said = Said::new(Reason::Progressing, "waiting for the store to be looked at");
        self.say_after(self.context.config.progress_after, said).await
    }

    /// Says what is still going on, once it has gone on for so long.
    async fn say_after(&mut self, bound: Duration, said: Said) -> Result<Ended, WriteError> {
        let now = Instant::now();
        let left = bound.saturating_sub(now.duration_since(self.row.pending_since(self.generation, now)));
        if left.is_zero() {
            self.say(said).await?;
            return Ok(Ended::pending(None));
        }
        Ok(Ended::pending(Some(left)))
    }

    async fn not_ours(&mut self, said: Said) -> Result<Ended, WriteError> {
        self.stop_reading();
        self.row.target = None;
        self.say(said).await?;
        Ok(Ended::settled(Some(self.context.config.retry_refused)))
    }

    /// The API server does not let the target be looked at, or what it was called before be deleted. Its words are the only help.
    async fn refused(&mut self, words: &str) -> Result<Ended, WriteError> {
        self.say(Said::new(Reason::TargetRefused, format!("the API server refuses the Secret: {words}"))).await?;
        Ok(Ended::settled(Some(self.context.config.retry_refused)))
    }

    fn decide(&self, wanted: &Wanted, owner: &Owner, access: &Access, found: &Found, answer: &Answer) -> Decision {
        let (known, stale) = match answer {
            Answer::Pending => return Decision::Keep,
            Answer::Down { trouble, stale } => (Known::Down(trouble), *stale),
            Answer::Known { .. } if found.remembered => {
                // At rest: the target is as it was, and so are its sources.
                return Decision::Synced { marks: found.marks.clone() };
            }
            Answer::Known { findings, stale } => (Known::Findings(findings), *stale),
        };
        let policy = self.object.spec.withdrawal_policy.unwrap_or_else(|| access.store.spec.withdrawal_policy());
        let snapshot = Snapshot {
            owner,
            namespace: &self.id.namespace,
            wanted,
            okms_id: &access.okms_id,
            policy,
            target: found.secret.as_ref(),
            condition: found.condition,
            evidence: &found.marks,
            synced: self.was_synced(),
            previous: self.previous(),
        };
        plan::decide(&snapshot, &known, stale)
    }
}

/// Whether nothing follows from an answer for a target that is intact.
fn at_rest(answer: &Answer, wanted: &Wanted, held: &[Option<Mark>]) -> bool {
    match answer {
        Answer::Pending => true,
        // Believed for now.
        Answer::Down { stale, .. } => !stale,
        Answer::Known { findings, stale } => {
            let mut sources = wanted.sources.iter().zip(findings).zip(held);
            !stale
                && sources.all(|((wanted, finding), held)| match (&finding.verdict, held) {
                    (Verdict::Active { mark, .. }, Some(held)) => held.is_same_as(mark),
                    (verdict, None) => wanted.optional && verdict.is_absence(),
                    _ => false,
                })
        }
    }
}
