//! What has to be once the noise has stopped, every fault is over and an operator runs: for each `OkmsSecret` the status and the Secret
//! that follow from its spec, its store and OKMS as they are now, and nothing beside that.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Findings, Rule, Violation,
    calm::later,
    claims::{Claims, Evidence, evidence_of},
    okms::{Meaning, Version},
    past::{Past, namespace_key, store_of},
    ready::condition,
    render::{Data, data_of, render},
    wanted::{Creation, Source, Wanted, grants},
};
use crate::chaos::{
    action::Key,
    history::{Change, History, Kind, Present, text},
    world::NAMESPACES,
};

/// What an object has to come to.
enum Expected {
    /// Ready=True, with exactly this data.
    Synced(Data),
    /// Not Ready, for one of these reasons.
    Otherwise(Vec<&'static str>),
    /// Gone or held, and not Ready: what the target was made from was withdrawn.
    Withdrawn(Vec<&'static str>),
}

/// Judges what there is now. `held`: what exceeds a budget may still be held.
pub(in crate::chaos) fn judge(history: &History, held: bool) -> Findings {
    let past = Past::new(history);
    let present = history.present();
    let mut findings = Findings::default();
    let objects = present.all(Kind::OkmsSecret).filter(|object| is_ours(&object.key));
    for object in objects {
        let Some(value) = object.object.as_deref() else { continue };
        let wanted = Wanted::of(value);
        let last = End { past: &past, present: &present, wanted: &wanted, object: value, held };
        findings.check(Rule::NotConverged, || {
            last.problem().map(|what| violation(&past, object, Rule::NotConverged, what))
        });
    }
    for secret in present.all(Kind::Secret).filter(|secret| is_ours(&secret.key)) {
        findings.check(Rule::LeftBehind, || {
            left_behind(&past, &present, secret).map(|what| violation(&past, secret, Rule::LeftBehind, what))
        });
    }
    findings
}

/// Judges that nothing was written since a moment: everything had converged then, and nothing changed any more.
pub(in crate::chaos) fn judge_rest(history: &History, since: Timestamp) -> Findings {
    let past = Past::new(history);
    let mut findings = Findings::default();
    for change in past.order.iter().filter(|change| matches!(change.kind, Kind::Secret | Kind::OkmsSecret)) {
        findings.check(Rule::NotAtRest, || {
            let what = format!("a {} was written that was as it had to be", change.kind.name());
            (change.at > since && is_ours(&change.key)).then(|| violation(&past, change, Rule::NotAtRest, what))
        });
    }
    findings
}

fn is_ours(key: &Key) -> bool {
    NAMESPACES.contains(&key.namespace.as_str())
}

fn violation(past: &Past<'_>, change: &Change, rule: Rule, what: String) -> Violation {
    Violation { rule, object: change.key.clone(), when: past.history.moment(change.at), what }
}

struct End<'a, 'h> {
    past: &'a Past<'h>,
    present: &'a Present<'h>,
    wanted: &'a Wanted,
    object: &'a Value,
    held: bool,
}

impl End<'_, '_> {
    fn problem(&self) -> Option<String> {
        let ready = condition(self.object, "Ready");
        let reason = ready.map_or("", |ready| text(ready, "/reason"));
        let status = ready.map_or("", |ready| text(ready, "/status"));
        let observed = self.object.pointer("/status/observedGeneration").and_then(Value::as_i64);
        if observed != Some(self.wanted.generation) {
            return Some(format!("generation {} was not looked at, only {observed:?}", self.wanted.generation));
        }
        // Somebody asked for a check, which is made ten seconds after the last one at the earliest.
        let asked = text(self.object, "/metadata/annotations/okms-operator.io~1refresh");
        if !self.wanted.suspended && !asked.is_empty() && asked != text(self.object, "/status/lastHandledRefresh") {
            return Some(format!("the check {asked} was not made"));
        }
        let said = ready.map_or("", |ready| text(ready, "/message"));
        let other = |expected: &[&str]| {
            let known = expected.contains(&reason) && status != "True";
            (!known).then(|| format!("expected one of {}, seen {reason}={status}: {said}", expected.join(", ")))
        };
        match self.expected() {
            // What an optional source does not give any more goes within the same budget.
            Expected::Synced(_) if self.held && reason == "WithdrawalHeld" && self.drops_something() => None,
            Expected::Synced(data) => {
                if (status, reason) != ("True", "Synced") {
                    return Some(format!("expected Synced, seen {reason}={status}: {said}"));
                }
                let secret = self.target().map(data_of).unwrap_or_default();
                let same = if self.wanted.merges() {
                    data.iter().all(|(key, value)| secret.get(key) == Some(value))
                } else {
                    data == secret
                };
                (!same).then(|| format!("its Secret differs, {}", super::content::difference(&data, &secret)))
            }
            Expected::Otherwise(reasons) => other(&reasons),
            Expected::Withdrawn(mut reasons) => {
                if self.held && reason == "WithdrawalHeld" && status != "True" {
                    return None;
                }
                if self.holds_something() {
                    return Some(format!(
                        "what it was made from is withdrawn, and the Secret is there: {reason}={status}: {said}"
                    ));
                }
                // What it was made from is forgotten with it.
                reasons.push("PathNotFound");
                other(&reasons)
            }
        }
    }

    fn target(&self) -> Option<&Value> {
        self.present.object(Kind::Secret, &self.wanted.target)
    }

    fn claims(&self) -> Option<Claims<'_>> {
        self.target().map(Claims::of)
    }

    /// Whether the target, or a share of it, is there and is this object's.
    fn holds_something(&self) -> bool {
        let Some(claims) = self.claims() else { return false };
        if self.wanted.merges() {
            claims.shares.contains_key(self.wanted.uid.as_str())
        } else {
            claims.owner == Some(self.wanted.object.name.as_str())
        }
    }

    fn expected(&self) -> Expected {
        let wanted = self.wanted;
        if wanted.suspended {
            return Expected::Otherwise(vec!["Suspended"]);
        }
        let (kind, store) = store_of(wanted);
        let Some(store) = self.present.object(kind, &store) else { return Expected::Otherwise(vec!["StoreNotFound"]) };
        let namespace = self.present.object(Kind::Namespace, &namespace_key(&wanted.object.namespace));
        let namespace = namespace.unwrap_or(&Value::Null);
        if !wanted.sources.iter().all(|source| grants(store, namespace, &source.path)) {
            return Expected::Otherwise(vec!["AccessDenied"]);
        }
        if let Some(reasons) = self.not_writable() {
            return Expected::Otherwise(reasons);
        }
        self.by_okms(store)
    }

    /// Why the Secret of the target's name must be left alone.
    fn not_writable(&self) -> Option<Vec<&'static str>> {
        let (wanted, name) = (self.wanted, self.wanted.object.name.as_str());
        let Some((secret, claims)) = self.target().zip(self.claims()) else {
            return wanted.merges().then(|| vec!["TargetMissing"]);
        };
        let foreign = if wanted.merges() {
            !claims.let_part(name)
        } else {
            // What somebody gave away is changed in place only.
            let given = claims.owner.is_none() && claims.controller.is_none();
            let unlike = text(secret, "/type") != wanted.kind || secret.get("immutable") == Some(&Value::Bool(true));
            !claims.let_whole(name, &wanted.uid) || (given && unlike)
        };
        foreign.then(|| vec!["TargetNotOwned"])
    }

    /// Whether the target was made from something that is withdrawn.
    fn drops_something(&self) -> bool {
        self.wanted.sources.iter().any(|source| {
            let meaning = self.past.truth.last(&source.path).map_or(Meaning::Missing, |era| era.meaning(source.pin));
            let claims = self.claims();
            let held = claims.iter().flat_map(|claims| self.evidence(claims)).any(|one| one.path == source.path);
            held && !matches!(meaning, Meaning::Active(_))
        })
    }

    /// What this object's part of the target was made from.
    fn evidence<'c>(&self, claims: &'c Claims<'_>) -> &'c [Evidence] {
        if self.wanted.merges() {
            claims.shares.get(self.wanted.uid.as_str()).map(|share| share.evidence.as_slice()).unwrap_or_default()
        } else {
            claims.evidence.as_slice()
        }
    }

    /// `held`: what the target was made from. `deletes`: what is withdrawn goes.
    fn gives(&self, source: &Source, held: Option<&Evidence>, deletes: bool) -> Gives<'_> {
        let era = self.past.truth.last(&source.path);
        // A pin that now means other content than what is held.
        let remade = |version: &Version| {
            let created = held.and_then(|held| held.created);
            source.pin.is_some() && created.is_some_and(|created| created < version.created.0)
        };
        let (reason, is_withdrawal) = match era.map_or(Meaning::Missing, |era| era.meaning(source.pin)) {
            Meaning::Active(version) if !remade(version) => return Gives::Content(version),
            Meaning::Active(_) => return Gives::Stop(vec!["PinnedVersionReplaced"], false),
            Meaning::Withdrawn(reason) => {
                let secret = era.and_then(|era| era.secret.as_ref());
                let version = secret.zip(source.pin).and_then(|(secret, pin)| secret.version(pin));
                if version.is_some_and(remade) {
                    return Gives::Stop(vec!["PinnedVersionReplaced"], false);
                }
                (reason, true)
            }
            Meaning::Missing => (if held.is_some() { "SecretDeleted" } else { "PathNotFound" }, held.is_some()),
            Meaning::VersionNotFound => ("VersionNotFound", false),
        };
        if source.optional {
            // With Retain what it gave stays, and so does everything else.
            let stays = held.is_some() && !(deletes && is_withdrawal);
            return if stays { Gives::Stop(vec![reason], false) } else { Gives::Nothing };
        }
        // The reason outlives the target that was deleted for it.
        let reasons = if reason == "PathNotFound" { vec![reason, "SecretDeleted"] } else { vec![reason] };
        Gives::Stop(reasons, is_withdrawal && held.is_some() && deletes)
    }

    fn by_okms(&self, store: &Value) -> Expected {
        let wanted = self.wanted;
        let claims = self.claims();
        let evidence = claims.as_ref().map(|claims| self.evidence(claims)).unwrap_or_default();
        let held = |source: &Source| evidence_of(evidence, source);
        let deletes = wanted.deletes(Some(store));
        let (mut reasons, mut withdrawn) = (Vec::new(), false);
        let mut contents: Vec<Option<&Version>> = Vec::new();
        for source in &wanted.sources {
            match self.gives(source, held(source), deletes) {
                Gives::Content(version) => contents.push(Some(version)),
                Gives::Nothing => contents.push(None),
                Gives::Stop(why, is_withdrawal) => {
                    contents.push(None);
                    reasons.extend(why);
                    withdrawn |= is_withdrawal;
                }
            }
        }
        if withdrawn {
            return Expected::Withdrawn(reasons);
        }
        if !reasons.is_empty() {
            return Expected::Otherwise(reasons);
        }
        if contents.iter().all(Option::is_none) {
            let all = [
                "VersionDeactivated",
                "VersionDestroyed",
                "VersionPruned",
                "SecretDeleted",
                "PathNotFound",
                "VersionNotFound",
            ];
            let all = all.to_vec();
            return if deletes && !evidence.is_empty() { Expected::Withdrawn(all) } else { Expected::Otherwise(all) };
        }
        let contents: Vec<_> = contents.iter().map(|version| version.map(|version| &*version.content)).collect();
        match render(wanted, &contents) {
            Ok(data) => Expected::Synced(data),
            // What the target still holds may be withdrawn meanwhile.
            Err(reason) => Expected::Otherwise(vec![
                reason,
                "VersionDeactivated",
                "VersionDestroyed",
                "SecretDeleted",
                "WithdrawalHeld",
            ]),
        }
    }
}

/// What a source gives to its target.
enum Gives<'t> {
    Content(&'t Version),
    /// It is optional.
    Nothing,
    /// It stops the whole, for one of these reasons; and takes what was made from it away, where it was withdrawn.
    Stop(Vec<&'static str>, bool),
}

/// Whether a Secret is what somebody deleted or renamed left behind.
fn left_behind(past: &Past<'_>, present: &Present<'_>, secret: &Change) -> Option<String> {
    let value = secret.object.as_deref()?;
    let claims = Claims::of(value);
    if let Some((name, uid)) = claims.controller
        && present.by_uid(Kind::OkmsSecret, uid).is_none()
    {
        return Some(format!("it is controlled by OkmsSecret {name}, which is gone"));
    }
    for uid in claims.shares.keys() {
        let Some(object) = present.by_uid(Kind::OkmsSecret, uid).and_then(|object| object.object.as_deref()) else {
            continue;
        };
        if is_synced(object) && Wanted::of(object).target != secret.key {
            return Some(format!(
                "it still has keys of OkmsSecret {}, which has another target",
                text(object, "/metadata/name")
            ));
        }
    }
    let owner = Key { namespace: secret.key.namespace.clone(), name: claims.owner?.to_owned() };
    let object = present.object(Kind::OkmsSecret, &owner)?;
    let wanted = Wanted::of(object);
    // Without the label it is not found.
    let labelled = text(value, "/metadata/labels/okms-operator.io~1managed") == "true";
    let touched = is_touched(past, secret);
    let elsewhere = wanted.target != secret.key && !wanted.merges();
    let left = elsewhere && is_synced(object) && labelled && !touched && claims.controller.is_some();
    if left {
        return Some(format!("it was the target of {owner}, which is {} now", wanted.target));
    }
    let orphan = wanted.target == secret.key && wanted.creation == Creation::Orphan && is_synced(object);
    (orphan && claims.controller.is_some()).then(|| format!("it is to outlive {owner}, and would go with it"))
}

/// Whether somebody else may have written the data since the operator last wrote: then it is theirs. The API server tells the second.
fn is_touched(past: &Past<'_>, secret: &Change) -> bool {
    let (mut own, mut operator, mut data) = (None, Timestamp::MIN, Data::new());
    let changes = past.between(Kind::Secret, &secret.key, Timestamp::MIN, Timestamp::MAX);
    for change in changes.iter().filter(|change| change.uid == secret.uid) {
        let now = change.object.as_deref().map(data_of).unwrap_or_default();
        if !past.history.is_own(change) {
            operator = change.at;
        } else if now != data {
            own = Some(change.at);
        }
        data = now;
    }
    own.is_some_and(|own| later(own, Duration::from_secs(2)) >= operator)
}

fn is_synced(object: &Value) -> bool {
    let ready = condition(object, "Ready");
    let generation = |value: &Value, place| value.pointer(place).and_then(Value::as_i64);
    ready.is_some_and(|ready| text(ready, "/status") == "True")
        && generation(object, "/status/observedGeneration") == generation(object, "/metadata/generation")
}
