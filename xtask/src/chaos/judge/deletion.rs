//! Why a Secret may be deleted that the harness did not delete: nobody is left whose it was, its object has another target now, it had to
//! be made again, or OKMS had withdrawn what it was made from.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Findings, Rule,
    budget::Budget,
    calm::later,
    claims::{Claims, Evidence, Share, evidence_of},
    content,
    okms::Meaning,
    past::{Past, store_of},
    render::render,
    secrets::Seen,
    wanted::{Source, Wanted},
};
use crate::chaos::{
    action::{Key, VersionState},
    history::{Kind, text},
};

/// The second not-found comes at least this long after the first.
const CONFIRMED_AFTER: Duration = Duration::from_secs(15);

/// How long ago the first of two not-founds may be.
const FIRST_NOT_FOUND: Duration = Duration::from_mins(3);

/// What explains a deletion.
enum Reason {
    /// The object has another target now.
    Left,
    /// It cannot be changed in place.
    Replaced,
    /// OKMS withdrew what it was made from. Of which store.
    Withdrawn((Kind, Key)),
}

pub(super) fn judge(seen: &Seen<'_, '_>, budget: &mut Budget, findings: &mut Findings) {
    let Some(secret) = seen.before else { return };
    let claims = Claims::of(secret);
    if is_collected(seen, secret) {
        return;
    }
    let owner = claims.owner.or(claims.controller.map(|(name, _)| name));
    let object = Key { namespace: seen.key().namespace.clone(), name: owner.unwrap_or_default().to_owned() };
    let specs = seen.past.specs(&object, seen.past.seen_since(seen.at()), seen.at());
    findings.check(Rule::ForeignTouched, || {
        let may = specs.iter().any(|wanted| claims.let_whole(&object.name, &wanted.uid) && claims.owner.is_some());
        (!may && owner.is_none())
            .then(|| seen.violation(Rule::ForeignTouched, "it was nobody's target, and was deleted"))
    });
    if owner.is_none() {
        return;
    }
    let reasons = specs.iter().map(|wanted| explained(seen, secret, &claims, wanted));
    let reason = reasons.reduce(Result::or).unwrap_or_else(|| Err(format!("no OkmsSecret {object} was there")));
    if let Ok(Reason::Withdrawn(store)) = &reason {
        budget.withdrawn(seen, store, findings);
    }
    findings.check(Rule::DeletedWithoutProof, || {
        reason.err().map(|problem| seen.violation(Rule::DeletedWithoutProof, problem))
    });
}

/// The keys that an object had merged into a Secret were taken out.
pub(super) fn judge_share(seen: &Seen<'_, '_>, uid: &str, share: &Share, budget: &mut Budget, findings: &mut Findings) {
    if !seen.present.uids(Kind::OkmsSecret).contains(uid) {
        return;
    }
    let object = Key { namespace: seen.key().namespace.clone(), name: share.owner.clone() };
    let mut specs = seen.past.specs(&object, seen.past.seen_since(seen.at()), seen.at());
    specs.retain(|wanted| wanted.uid == uid);
    let reasons = specs.iter().map(|wanted| {
        if wanted.suspended {
            return Err(format!("{} was suspended", wanted.object));
        }
        if wanted.target != *seen.key() || !wanted.merges() {
            return Ok(Reason::Left);
        }
        withdrawn(seen.past, wanted, &share.evidence, seen.at()).map(|()| Reason::Withdrawn(store_of(wanted)))
    });
    let reason = reasons.reduce(Result::or).unwrap_or_else(|| Err(format!("no OkmsSecret {object} was there")));
    if let Ok(Reason::Withdrawn(store)) = &reason {
        budget.withdrawn(seen, store, findings);
    }
    findings.check(Rule::DeletedWithoutProof, || {
        let what = |problem| format!("the keys of {object} were taken out: {problem}");
        reason.err().map(|problem| seen.violation(Rule::DeletedWithoutProof, what(problem)))
    });
}

/// What optional sources gave was taken out of a target that stays.
pub(super) fn judge_rest(
    seen: &Seen<'_, '_>,
    specs: &[Wanted],
    left: &[Evidence],
    named: &[Evidence],
    findings: &mut Findings,
) {
    findings.check(Rule::DeletedWithoutProof, || {
        let reasons = specs.iter().map(|wanted| let_go(seen, wanted, left, named));
        reasons.reduce(Result::or)?.err().map(|problem| seen.violation(Rule::DeletedWithoutProof, problem))
    });
}

/// Whether OKMS had withdrawn what is not named any more and still asked for.
fn let_go(seen: &Seen<'_, '_>, wanted: &Wanted, left: &[Evidence], named: &[Evidence]) -> Result<(), String> {
    let is_dropped = |source: &&Source| evidence_of(left, source).is_some() && evidence_of(named, source).is_none();
    let since = seen.past.seen_since(seen.at());
    for source in wanted.sources.iter().filter(is_dropped) {
        if !seen.past.stores(wanted, since, seen.at()).any(|store| wanted.deletes(Some(store))) {
            return Err(format!("what {} gave was to be retained", source.path));
        }
        if !is_withdrawn(seen.past, wanted, source, left, seen.at()) {
            return Err(format!("what {} gave was taken out, and was not withdrawn", source.path));
        }
    }
    Ok(())
}

/// Whether Kubernetes itself may have deleted it: it had owners, and none of them is left.
fn is_collected(seen: &Seen<'_, '_>, secret: &Value) -> bool {
    let references = secret.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let living = seen.present.uids(Kind::OkmsSecret);
    references.is_some_and(|references| {
        !references.is_empty() && references.iter().all(|reference| !living.contains(text(reference, "/uid")))
    })
}

fn explained(seen: &Seen<'_, '_>, secret: &Value, claims: &Claims<'_>, wanted: &Wanted) -> Result<Reason, String> {
    if wanted.suspended {
        return Err(format!("{} was suspended", wanted.object));
    }
    if wanted.target != *seen.key() || wanted.merges() {
        return left(seen, claims, wanted).map(|()| Reason::Left);
    }
    let frozen = secret.get("immutable") == Some(&Value::Bool(true));
    if text(secret, "/type") != wanted.kind || frozen {
        // It is made again at once; that it is, is seen when everything has to be there.
        return Ok(Reason::Replaced);
    }
    withdrawn(seen.past, wanted, &claims.evidence, seen.at()).map(|()| Reason::Withdrawn(store_of(wanted)))
}

/// A target of a former name goes after the new one is there.
fn left(seen: &Seen<'_, '_>, claims: &Claims<'_>, wanted: &Wanted) -> Result<(), String> {
    if claims.controller.is_none_or(|(_, uid)| uid != wanted.uid) {
        return Err(format!("it was the target of {} before, and was to outlive it", wanted.object));
    }
    let since = seen.past.seen_since(seen.at());
    let targets = seen.past.between(Kind::Secret, &wanted.target, since, seen.at());
    let there = targets.iter().any(|target| target.object.is_some());
    if there { Ok(()) } else { Err(format!("the new target {} was not there", wanted.target)) }
}

/// Whether OKMS had withdrawn what it was made from.
fn withdrawn(past: &Past<'_>, wanted: &Wanted, evidence: &[Evidence], at: Timestamp) -> Result<(), String> {
    let since = past.seen_since(at);
    let stores: Vec<_> = past.stores(wanted, since, at).collect();
    if !stores.iter().any(|store| wanted.deletes(Some(store))) {
        return Err("what is withdrawn was to be retained".to_owned());
    }
    if !content::may_be_read(past, wanted, at) {
        return Err("its store did not let it be read".to_owned());
    }
    let made_from = |source: &&Source| evidence_of(evidence, source).is_some();
    let (required, optional): (Vec<_>, Vec<_>) =
        wanted.sources.iter().filter(made_from).partition(|source| !source.optional);
    let none_required = wanted.sources.iter().all(|source| source.optional);
    let gone = |source: &&Source| is_withdrawn(past, wanted, source, evidence, at);
    let proven = required.iter().any(gone) || (none_required && !optional.is_empty() && optional.iter().all(gone));
    if proven {
        return Ok(());
    }
    Err(format!(
        "nothing of {} was withdrawn since {}",
        content::named(evidence),
        past.history.moment(past.read_since(wanted, at))
    ))
}

fn is_withdrawn(past: &Past<'_>, wanted: &Wanted, source: &Source, evidence: &[Evidence], at: Timestamp) -> bool {
    let since = if past.is_never_checked(wanted, at) { Timestamp::MIN } else { past.read_since(wanted, at) };
    let mut eras = past.truth.between(&source.path, since, at);
    eras.any(|era| match era.meaning(source.pin) {
        Meaning::Withdrawn(_) => true,
        Meaning::Missing => was_missing_twice(past, source, evidence, at),
        // A pin that is gone with its secret, which was made again.
        Meaning::VersionNotFound => false,
        // What the target holds counts as long as nothing can replace it.
        Meaning::Active(active) => {
            let held = evidence_of(evidence, source);
            let held_is_gone = held.is_some_and(|held| {
                let held = era.secret.as_ref().and_then(|secret| secret.version(held.version));
                held.is_none_or(|held| held.state != VersionState::Active)
            });
            let contents: Vec<_> = wanted
                .sources
                .iter()
                .map(|one| (one.path == source.path).then_some(&*active.content).or_else(|| newest(past, one)))
                .collect();
            held_is_gone && (render(wanted, &contents).is_err() || contents.iter().any(Option::is_none))
        }
    })
}

fn newest<'p>(past: &'p Past<'_>, source: &Source) -> Option<&'p Value> {
    match past.truth.last(&source.path)?.meaning(source.pin) {
        Meaning::Active(version) => Some(&*version.content),
        _ => None,
    }
}

/// Whether the secret that it was made from may have been found missing, and once more long enough after that.
fn was_missing_twice(past: &Past<'_>, source: &Source, evidence: &[Evidence], at: Timestamp) -> bool {
    let held = evidence_of(evidence, source);
    let made = held.and_then(|held| held.created).unwrap_or(Timestamp::MIN);
    let first = past.working.before(at, FIRST_NOT_FOUND).max(made);
    let mut eras = past.truth.between(&source.path, first, at).filter(|era| era.secret.is_none() && era.from > made);
    eras.next().is_some_and(|era| later(era.from, CONFIRMED_AFTER) <= at)
}
