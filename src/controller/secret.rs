//! One `OkmsSecret`: gather what is there, ask the feed, decide, do it, say it.
//!
//! It never waits for OKMS, and it makes at most one change to the target and one to the status. What is there is gathered in
//! [`super::gather`]; what it decides is decided in [`crate::plan`]; how it is done stands in [`super::apply`], what is said of it in
//! [`super::report`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta;

use super::{
    context::{Context, object_id},
    gather::{Access, Found, Unreadable},
    metrics::ReconcileOutcome,
    named::Reference,
    report::Said,
    row::Row,
    turns::Return,
};
use crate::{
    api::{Interval, OkmsSecret, Reason, Store, condition},
    feed::{Answer, Ask, Lane, Need, ObjectId, Wish},
    k8s::WriteError,
    model::{Mark, Verdict},
    plan::{self, Claim, Condition, Decision, Known, Snapshot, Wanted},
};

/// How a reconcile ended, and when to come back if nothing wakes it before.
pub(super) struct Ended {
    pub outcome: ReconcileOutcome,
    /// When to look again though nothing wakes the object.
    pub again: Option<Return>,
}

impl Ended {
    pub fn settled(again: Option<Duration>) -> Self {
        Self { outcome: ReconcileOutcome::Settled, again: again.map(Return::from) }
    }

    fn pending(again: Option<Duration>) -> Self {
        Self { outcome: ReconcileOutcome::Pending, again: again.map(Return::from) }
    }

    fn held_back(after: Duration) -> Self {
        Self { outcome: ReconcileOutcome::Pending, again: Some(Return { after, held_back: true }) }
    }

    fn conflicted(again: Duration) -> Self {
        Self { outcome: ReconcileOutcome::Conflicted, again: Some(again.into()) }
    }

    fn failed(again: Duration) -> Self {
        Self { outcome: ReconcileOutcome::Failed, again: Some(again.into()) }
    }

    /// The same, but no later than this.
    fn within(mut self, bound: Option<Duration>) -> Self {
        self.again = self.again.into_iter().chain(bound.map(Return::from)).min_by_key(|again| again.after);
        self
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
    if let Some(store) = &row.reads_from {
        context.feed.came(store, &id);
    }
    let now = Instant::now();
    let ended = if let Some(wait) = row.retries.waits(now) {
        Ended::failed(wait)
    } else {
        let generation = object.metadata.generation.unwrap_or(0);
        let mut run = Run { context, object: &object, id: &id, generation, row: &mut row, look_again: None };
        run.catch_up();
        let refresh = run.take_refresh(now);
        // Those of before go only after what is still followed is followed again, so that no watch is made anew.
        let before = std::mem::take(&mut run.row.follows);
        let mut result = run.run().await;
        drop(before);
        if let Err(WriteError::Refused(words)) = result {
            result = run.refused(&words).await;
        }
        match result {
            Ok(ended) => {
                // One that only waits for OKMS proves nothing about the Kubernetes API.
                if !matches!(ended.outcome, ReconcileOutcome::Pending) {
                    run.row.succeeded();
                }
                ended.within(refresh).within(run.look_again)
            }
            // Whoever leads now does what is left, and this process starts anew when it leads again.
            Err(WriteError::NotLeading) => Ended::pending(None),
            Err(WriteError::Conflict) if let Some(pause) = run.row.conflicted() => Ended::conflicted(pause),
            Err(error) => {
                let retry_after = error.retry_after(context.config.backoff_cap);
                // From the answer on, which may have come long after the start.
                let wait = run.row.retries.failed(Instant::now(), retry_after, &context.config);
                tracing::warn!("trying again: {error}");
                run.cannot_tell(&error).await;
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
    /// When to come back, because something that matters cannot be followed.
    pub look_again: Option<Duration>,
}

impl Run<'_> {
    async fn run(&mut self) -> Result<Ended, WriteError> {
        // Whatever else comes of this run, it does not wait for that any more.
        let waiting = self.row.waits_to_render.take();
        let store = self.object.store_name();
        if self.row.reads_from.take_if(|before| *before != store).is_some() {
            self.context.feed.forget(self.id);
        }
        if !self.context.serves(&store) {
            // Another operator looks after it, and writes its status.
            return Ok(Ended::settled(None));
        }
        self.row.reads_from = Some(store);
        // Whatever else can be found out now: the target is gone, and the status does not say so yet.
        if let Some(unsaid) = self.row.unsaid.take()
            && unsaid.0 == self.generation
        {
            self.row.unsaid = Some(unsaid.clone());
            self.say(unsaid.1).await?;
        }
        if self.object.spec.is_suspended() {
            self.stop_reading();
            let said = "spec.suspend is true: nothing is read, written or deleted";
            self.say(Said::meanwhile(Reason::Suspended, said)).await?;
            return Ok(Ended::settled(None));
        }
        let (mut claim, access) = match self.may_read() {
            Ok(found) => found,
            Err(Unreadable::NotYet) => return self.wait_for_store().await,
            Err(Unreadable::Said(said)) => {
                self.stop_reading();
                self.say(said).await?;
                return Ok(Ended::settled(None));
            }
        };
        self.add_templates(&mut claim).await?;
        let mut found = match self.remembered(&claim).or_else(|| self.supposed(&claim)) {
            Some(found) => found,
            None => match self.look(&mut claim).await? {
                Ok(found) => found,
                Err(said) => return self.not_ours(&claim, said).await,
            },
        };
        let mut need = self.need(&claim, &found);
        let mut turn = None;
        loop {
            let answer = self.ask(&access, &claim.wanted, &found, need);
            if let Answer::Pending = answer {
                drop(turn);
                return self.wait(&access, &found).await;
            }
            if found.remembered && !at_rest(&answer, &claim.wanted, &found.marks) {
                found = match self.look(&mut claim).await? {
                    Ok(found) => found,
                    Err(said) => return self.not_ours(&claim, said).await,
                };
                need = self.need(&claim, &found);
                continue;
            }
            if turn.is_none() && !claim.wanted.templates.is_empty() && !found.remembered {
                turn = self.context.renders.turn(&self.id.namespace);
                if turn.is_none() {
                    let mut waiting = waiting.unwrap_or_else(|| self.context.renders.wait(&self.id.namespace));
                    let again = waiting.come_again();
                    self.row.waits_to_render = Some(waiting);
                    return Ok(self.wait_to_render(&found).await?.within(Some(again)));
                }
            }
            let decision = self.decide(&claim, &access, &found, &answer);
            if let Decision::Read { marks } = &decision
                && need == Need::Check
                && !self.is_unrenderable(&claim, marks)
                && self.rests(&claim, &found).is_none()
            {
                need = Need::Data;
                continue;
            }
            drop(turn);
            self.row.pending = None;
            return self.act(&access, &claim, &found, &answer, decision).await;
        }
    }

    /// Nothing is read for the object for now.
    fn stop_reading(&self) {
        self.context.feed.pause(self.id);
    }

    /// What the status says, of whatever generation.
    pub(super) fn last_ready(&self) -> Option<&meta::v1::Condition> {
        condition::find(&self.last_status()?.conditions, condition::kind::READY)
    }

    /// What the status says of this generation.
    fn ready(&self) -> Option<&meta::v1::Condition> {
        self.last_ready().filter(|ready| ready.observed_generation == Some(self.generation))
    }

    /// The reason that the status shows for this generation.
    pub(super) fn previous(&self) -> Option<Reason> {
        let ready = self.ready()?;
        Reason::ALL.iter().copied().find(|reason| reason.as_str() == ready.reason)
    }

    /// Whether the target was in step with this generation before.
    fn was_synced(&self) -> bool {
        let rendered = self.row.target.as_ref().is_some_and(|known| known.written.generation == self.generation);
        rendered || matches!(self.previous(), Some(Reason::Synced | Reason::TargetDrifted))
    }

    /// These were found not to render, and that is what the status says: they are not read again to find out the same.
    fn is_unrenderable(&self, claim: &Claim, marks: &[Option<Mark>]) -> bool {
        let known =
            self.row.unrenderable.as_deref().is_some_and(|(made_by, unrenderable)| {
                *made_by == self.made_by(claim) && unrenderable.as_slice() == marks
            });
        known && self.previous().is_some_and(Reason::is_about_content)
    }

    /// How long the target is left as it is: somebody keeps undoing what is written, or the API server refuses it.
    pub(super) fn rests(&self, claim: &Claim, found: &Found) -> Option<Duration> {
        let (now, config) = (Instant::now(), &self.context.config);
        let version = found.secret.as_ref().and_then(|secret| secret.metadata.resource_version.as_deref());
        let refused = self.row.refused.as_deref();
        let refused = refused.and_then(|refused| {
            let made_by = self.made_by(claim);
            let goes = found.secret.is_none() && self.context.is_going(&self.id.namespace);
            let in_vain = goes && refused.made_by == made_by;
            if in_vain { Some(config.retry_refused) } else { refused.rests(&made_by, version, now, config) }
        });
        refused.max(self.row.fight.rests(now, config))
    }

    /// Whether the values are needed whatever a check says.
    fn need(&self, claim: &Claim, found: &Found) -> Need {
        let mut sources = claim.wanted.sources.iter().zip(&found.marks);
        let complete =
            found.condition == Condition::Intact && sources.all(|(wanted, held)| held.is_some() || wanted.optional);
        // Where it may not be written now, or may not render, a check tells first what there is.
        let in_vain = self.rests(claim, found).is_some() || self.row.unrenderable.is_some();
        if complete || in_vain { Need::Check } else { Need::Data }
    }

    fn ask(&self, access: &Access, wanted: &Wanted, found: &Found, need: Need) -> Answer {
        let wishes = wanted.sources.iter().zip(&found.marks).map(|(wanted, held)| Wish {
            source: wanted.source.clone(),
            held: *held,
            optional: wanted.optional,
        });
        let ask = Ask {
            object: self.id.clone(),
            generation: self.generation,
            unchanged_for: self.unchanged_for(),
            refresh: self.row.refreshes,
            sources: wishes.collect(),
            need,
            interval: self.interval(Some(&access.store)),
            lane: self.lane(found),
        };
        self.context.feed.ask(&access.name, &access.okms_id, ask).unwrap_or(Answer::Pending)
    }

    fn lane(&self, found: &Found) -> Lane {
        match found.condition {
            Condition::Intact => Lane::Verify,
            Condition::Drifted => Lane::Drift,
            Condition::Unrendered if self.was_synced() => Lane::Drift,
            Condition::Unrendered => Lane::Change,
        }
    }

    /// How long the object has certainly been as it is, by the API server's clock, which tells whole seconds. Only of a spec that was
    /// never changed it is known when it was written.
    fn unchanged_for(&self) -> Duration {
        let created = self.object.metadata.creation_timestamp.as_ref().filter(|_| self.generation == 1);
        let age = created.and_then(|created| Duration::try_from(Timestamp::now().duration_since(created.0)).ok());
        age.unwrap_or_default().saturating_sub(Duration::from_secs(1))
    }

    /// The interval in force; absent: only when asked.
    pub(super) fn interval(&self, store: Option<&Store>) -> Option<Duration> {
        let config = &self.context.config;
        let asked = self.object.spec.refresh_interval.or_else(|| store?.connection().refresh_interval);
        let asked = asked.map_or(config.refresh_interval, Interval::get);
        (!asked.is_zero()).then(|| asked.max(config.min_refresh_interval))
    }

    /// OKMS has not answered yet. What takes long is told.
    async fn wait(&mut self, access: &Access, found: &Found) -> Result<Ended, WriteError> {
        let config = &self.context.config;
        if self.lane(found) == Lane::Change && self.context.feed.holds_back(&access.name, self.id) {
            // Nor was it asked: to tell each of those who wait for a turn would have all of them wait longer, and so would many looks.
            let now = Instant::now();
            let pending = self.row.pending(self.generation, now);
            pending.asked = None;
            return Ok(Ended::held_back(config.progress_after.max(now.duration_since(pending.since))));
        }
        let (bound, said) = if self.was_synced() {
            match (found.condition, &found.secret) {
                (Condition::Intact, _) => return Ok(Ended::pending(None)),
                (Condition::Unrendered, Some(_)) => {
                    let said = Said::meanwhile(Reason::Progressing, "waiting for OKMS to answer");
                    return self.say_unanswered_after(config.progress_after, said).await;
                }
                _ => {}
            }
            let message =
                "the Secret was changed or deleted, and OKMS has not answered yet with what to repair it with";
            (config.drift_after, Said::meanwhile(Reason::TargetDrifted, message))
        } else if self.previous().is_some_and(Reason::is_about_okms) {
            // That was its last answer.
            return Ok(Ended::pending(None));
        } else {
            (config.progress_after, Said::meanwhile(Reason::Progressing, "waiting for OKMS to answer"))
        };
        self.say_unanswered_after(bound, said).await
    }

    /// It is not its turn to render. What takes long is told.
    async fn wait_to_render(&mut self, found: &Found) -> Result<Ended, WriteError> {
        let config = &self.context.config;
        let (bound, said) = match (self.was_synced(), found.condition, &found.secret) {
            (true, Condition::Drifted, _) | (true, Condition::Unrendered, None) => {
                let message = "the Secret was changed or deleted, and waits for its turn to be rendered again";
                (config.drift_after, Said::meanwhile(Reason::TargetDrifted, message))
            }
            (false, ..) if self.previous().is_none_or(|reason| reason == Reason::Progressing) => {
                (config.progress_after, Said::meanwhile(Reason::Progressing, "waiting for its turn to be rendered"))
            }
            _ => return Ok(Ended::pending(None)),
        };
        self.say_after(bound, said).await
    }

    /// The operator has just started, or the store was just made. What is in step is not called anything else for that.
    async fn wait_for_store(&mut self) -> Result<Ended, WriteError> {
        if self.previous().is_some() {
            return Ok(Ended::pending(None));
        }
        let said = Said::meanwhile(Reason::Progressing, "waiting for the store to be looked at");
        self.say_after(self.context.config.progress_after, said).await
    }

    /// Says what is still going on, once it has gone on for so long.
    async fn say_after(&mut self, bound: Duration, said: Said) -> Result<Ended, WriteError> {
        let now = Instant::now();
        let left = bound.saturating_sub(now.duration_since(self.row.pending(self.generation, now).since));
        self.say_when(left, said).await
    }

    /// The same, of something that OKMS was asked for. Where many wait for a turn it may be asked late, and its answer is near: from shortly
    /// before the bound on it has to have been asked all the time.
    async fn say_unanswered_after(&mut self, bound: Duration, said: Said) -> Result<Ended, WriteError> {
        let (now, soon) = (Instant::now(), self.context.config.progress_after / 10);
        let pending = self.row.pending(self.generation, now);
        let before = bound.saturating_sub(soon).saturating_sub(now.duration_since(pending.since));
        if !before.is_zero() {
            return Ok(Ended::pending(Some(before)));
        }
        let asked = *pending.asked.get_or_insert(now);
        self.say_when(soon.saturating_sub(now.duration_since(asked)), said).await
    }

    async fn say_when(&mut self, left: Duration, said: Said) -> Result<Ended, WriteError> {
        if left.is_zero() {
            self.say(said).await?;
            return Ok(Ended::pending(None));
        }
        Ok(Ended::pending(Some(left)))
    }

    /// The target is somebody else's, or is not there: it is followed until that changes.
    async fn not_ours(&mut self, claim: &Claim, said: Said) -> Result<Ended, WriteError> {
        let name = claim.wanted.target.name.clone();
        self.follow(&Reference::Secret { namespace: self.id.namespace.clone(), name });
        self.stop_reading();
        self.row.target = None;
        self.say(said).await?;
        Ok(Ended::settled(Some(self.context.config.retry_refused)))
    }

    /// The Kubernetes API failed again: what the status says of the target may not be true any more.
    async fn cannot_tell(&mut self, error: &WriteError) {
        // What was taken back, or is held, is known by that after a restart.
        let lasts = self.previous().is_some_and(Reason::is_withdrawal);
        // A watch may be behind, and somebody who keeps writing be in the way. What has to be waited for is told before, and not after.
        let config = &self.context.config;
        let told_after = match error {
            WriteError::Unavailable { .. } if error.retry_after(config.backoff_cap) > config.backoff_first * 2 => 1,
            WriteError::Unavailable { .. } | WriteError::Postponed(_) | WriteError::Conflict => 2,
            WriteError::Outdated => 3,
            WriteError::Contested { .. } | WriteError::Refused(_) | WriteError::NotLeading => return,
        };
        if lasts || self.row.retries.failures() < told_after {
            return;
        }
        let message = format!("the Secret cannot be looked at or written now: {error}");
        // That it does not answer in another way is no news.
        if let WriteError::Unavailable { why, .. } = error
            && let Some((known, _)) = message.rsplit_once(why.as_str())
            && self.ready().is_some_and(|ready| ready.message.starts_with(known))
        {
            return;
        }
        let reason = if self.was_synced() { Reason::TargetDrifted } else { Reason::Progressing };
        let said = Said::meanwhile(reason, message);
        if let Err(error) = self.say(said).await {
            tracing::warn!("nor can that be told: {error}");
        }
    }

    /// The API server does not let the target be looked at, or what it was called before be deleted. Its words are the only help.
    async fn refused(&mut self, words: &str) -> Result<Ended, WriteError> {
        self.say(Said::new(Reason::TargetRefused, format!("the API server refuses the Secret: {words}"))).await?;
        Ok(Ended::settled(Some(self.context.config.retry_refused)))
    }

    fn decide(&self, claim: &Claim, access: &Access, found: &Found, answer: &Answer) -> Decision {
        let (known, stale) = match answer {
            Answer::Pending => return Decision::Keep,
            Answer::Down { trouble, stale } => (Known::Down(trouble), *stale),
            Answer::Known { .. } if found.remembered => {
                // At rest: the target is as it was, and so are its sources.
                return Decision::Synced { marks: found.marks.clone() };
            }
            Answer::Known { findings, stale } => (Known::Findings(findings), *stale),
        };
        let policy =
            self.object.spec.withdrawal_policy.unwrap_or_else(|| access.store.connection().withdrawal_policy());
        let snapshot = Snapshot {
            claim,
            policy,
            target: found.secret.as_ref(),
            condition: found.condition,
            evidence: &found.marks,
            synced: self.was_synced(),
            previous: self.previous(),
            named: self.names(&found.marks),
        };
        if claim.wanted.templates.is_empty() {
            return plan::decide(&snapshot, &known, stale);
        }
        // Templates may take as long as hashes of passwords do: what else this thread has to do goes on elsewhere.
        tokio::task::block_in_place(|| plan::decide(&snapshot, &known, stale))
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
