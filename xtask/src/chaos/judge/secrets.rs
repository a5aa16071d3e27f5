//! Every change of a Secret that the harness did not make itself, held against the rules: whose it was, what it holds, and if it was
//! deleted, why. The operator's writes carry the version that they were decided about, so whose a Secret was is exact.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Findings, Rule, Violation,
    budget::Budget,
    claims::{Claims, Evidence},
    content, deletion,
    past::Past,
    render::{Data, data_of},
    wanted::{Creation, Wanted},
};
use crate::chaos::{
    action::Key,
    history::{Change, Kind, Present, text, texts},
    world::NAMESPACES,
};

const ANNOTATIONS: &str = "/metadata/annotations";

/// What the harness annotates.
const OWN_ANNOTATIONS: &str = "chaos.example/";

/// Goes through the changes in their order.
#[derive(Default)]
pub(super) struct Watch {
    /// For each Secret, by uid, the keys whose value the harness wrote last.
    own_keys: HashMap<String, BTreeSet<String>>,
    budget: Budget,
}

/// One change of a Secret, with what it was before.
pub(super) struct Seen<'a, 'h> {
    pub(super) past: &'a Past<'h>,
    pub(super) change: &'h Change,
    pub(super) before: Option<&'h Value>,
    /// What else there was at that moment.
    pub(super) present: &'a Present<'h>,
}

impl Seen<'_, '_> {
    pub(super) fn at(&self) -> Timestamp {
        self.change.at
    }

    pub(super) fn key(&self) -> &Key {
        &self.change.key
    }

    pub(super) fn violation(&self, rule: Rule, what: impl Into<String>) -> Violation {
        let when = self.past.history.moment(self.at());
        Violation { rule, object: self.key().clone(), when, what: what.into() }
    }
}

impl Watch {
    pub(super) fn see<'h>(
        &mut self,
        past: &Past<'h>,
        findings: &mut Findings,
        change: &'h Change,
        before: Option<&'h Change>,
        present: &Present<'h>,
    ) {
        if change.kind != Kind::Secret || !NAMESPACES.contains(&change.key.namespace.as_str()) {
            return;
        }
        let before = before.and_then(|before| before.object.as_deref());
        let seen = Seen { past, change, before, present };
        let own = past.history.is_own(change);
        match &change.object {
            None if !own => deletion::judge(&seen, &mut self.budget, findings),
            None => {}
            Some(after) => {
                let keys = self.own_keys.entry(change.uid.clone()).or_default();
                if !own {
                    write(&seen, after, keys, &mut self.budget, findings);
                }
                let (old, new) = (before.map(data_of).unwrap_or_default(), data_of(after));
                let changed = |key: &String| old.get(key) != new.get(key);
                if own {
                    keys.extend(new.keys().filter(|key| changed(key)).cloned());
                } else {
                    keys.retain(|key| !changed(key));
                }
                keys.retain(|key| new.contains_key(key));
            }
        }
    }
}

/// The operator wrote a Secret.
fn write(
    seen: &Seen<'_, '_>,
    after: &Value,
    own_keys: &BTreeSet<String>,
    budget: &mut Budget,
    findings: &mut Findings,
) {
    findings.check(Rule::ForeignTouched, || {
        let (was, is) = (texts(seen.before?, ANNOTATIONS), texts(after, ANNOTATIONS));
        let mut others = was.iter().filter(|(key, _)| key.starts_with(OWN_ANNOTATIONS));
        let (key, _) = others.find(|(key, value)| is.get(*key) != Some(*value))?;
        Some(seen.violation(Rule::ForeignTouched, format!("annotation {key}, which is not ours, is not what it was")))
    });
    let claims = Claims::of(after);
    let was = seen.before.map(Claims::of);
    let (old, new) = (seen.before.map(data_of).unwrap_or_default(), data_of(after));
    if let Some(owner) = claims.owner {
        let object = Key { namespace: seen.key().namespace.clone(), name: owner.to_owned() };
        let specs = seen.past.specs(&object, seen.past.seen_since(seen.at()), seen.at());
        if let Some(was) = &was {
            findings.check(Rule::ForeignTouched, || {
                let let_write = specs.iter().any(|wanted| was.let_whole(owner, &wanted.uid));
                (!let_write).then(|| seen.violation(Rule::ForeignTouched, foreign(owner, seen.before)))
            });
            never_back(seen, &was.evidence, &claims.evidence, findings);
            if was.owner == claims.owner {
                deletion::judge_rest(seen, &specs, &was.evidence, &claims.evidence, findings);
            }
        }
        let content_is_new = old != new || was.is_none_or(|was| was.evidence != claims.evidence);
        findings.check(Rule::WrongContent, || {
            // What was asked for a moment ago explains it as well; of several problems the newest spec's is told.
            let problems = specs.iter().map(|wanted| whole(seen, after, &claims, &new, wanted));
            let problem = problems.reduce(|newest, older| newest.or_else(|problem| older.map_err(|_| problem)));
            let problem = problem.unwrap_or_else(|| Err(format!("no OkmsSecret {object} asked for it")));
            problem.err().map(|problem| seen.violation(Rule::WrongContent, problem))
        });
        if content_is_new {
            let stale = specs
                .iter()
                .map(|wanted| content::is_current(seen.past, wanted, &claims.evidence, seen.at()))
                .reduce(Result::or)
                .and_then(Result::err);
            findings.check(Rule::StaleContent, || stale.map(|stale| seen.violation(Rule::StaleContent, stale)));
        }
        return;
    }
    // What is not claimed as a whole afterwards was released, or has keys merged into it.
    let was = was.unwrap_or_else(|| Claims::of(&Value::Null));
    if let Some(owner) = was.owner {
        released(seen, owner, &old, &new, findings);
        return;
    }
    for (uid, share) in was.shares.iter().filter(|(uid, _)| !claims.shares.contains_key(*uid)) {
        deletion::judge_share(seen, uid, share, budget, findings);
    }
    merged(seen, &was, &claims, (&old, &new), own_keys, findings);
}

/// Whether a Secret is what one spec asks for.
fn whole(seen: &Seen<'_, '_>, after: &Value, claims: &Claims<'_>, data: &Data, wanted: &Wanted) -> Result<(), String> {
    let refuse = |what: String| Err(format!("{what} (generation {} of {})", wanted.generation, wanted.object));
    if wanted.suspended {
        return refuse("it was suspended".to_owned());
    }
    if wanted.target != *seen.key() || wanted.merges() {
        return refuse("it was not the target".to_owned());
    }
    let controller = (wanted.creation == Creation::Owner).then_some(wanted.uid.as_str());
    if claims.controller.map(|(_, uid)| uid) != controller {
        return refuse(format!("it is controlled by {:?}, and not by {controller:?}", claims.controller));
    }
    if text(after, "/type") != wanted.kind {
        return refuse(format!("its type is {}, and not {}", text(after, "/type"), wanted.kind));
    }
    if !content::may_be_read(seen.past, wanted, seen.at()) {
        return refuse("its store did not let it be read".to_owned());
    }
    content::is_rendering(seen.past, wanted, &claims.evidence, data).or_else(refuse)
}

fn never_back(seen: &Seen<'_, '_>, old: &[Evidence], new: &[Evidence], findings: &mut Findings) {
    for new in new.iter().filter(|new| new.pin.is_none()) {
        let same = |old: &&Evidence| old.path == new.path && old.pin.is_none() && old.okms_id == new.okms_id;
        let Some(old) = old.iter().find(same) else { continue };
        findings.check(Rule::WentBack, || {
            let back = new.version < old.version && new.created <= old.created;
            back.then(|| {
                let what = format!("{} went from version {} to {}", new.path, old.version, new.version);
                seen.violation(Rule::WentBack, what)
            })
        });
    }
}

/// A target of a former name that was to outlive its object stays as it is, and is nobody's.
fn released(seen: &Seen<'_, '_>, owner: &str, old: &Data, new: &Data, findings: &mut Findings) {
    let object = Key { namespace: seen.key().namespace.clone(), name: owner.to_owned() };
    let specs = seen.past.specs(&object, seen.past.seen_since(seen.at()), seen.at());
    findings.check(Rule::WrongContent, || {
        let elsewhere = specs.iter().any(|wanted| wanted.target != *seen.key() || wanted.merges());
        let what = match (elsewhere, old == new) {
            (true, true) => return None,
            (false, _) => format!("{owner} gave it up, which it was asked to write"),
            (true, false) => "its data changed when it was released".to_owned(),
        };
        Some(seen.violation(Rule::WrongContent, what))
    });
}

/// Keys were merged into it, or taken out.
fn merged(
    seen: &Seen<'_, '_>,
    was: &Claims<'_>,
    claims: &Claims<'_>,
    (old, new): (&Data, &Data),
    own_keys: &BTreeSet<String>,
    findings: &mut Findings,
) {
    let touched = |key: &&String| old.get(*key) != new.get(*key);
    findings.check(Rule::ForeignKeyTouched, || {
        let key = own_keys.iter().find(touched)?;
        Some(seen.violation(Rule::ForeignKeyTouched, format!("key {key} is not what the harness wrote")))
    });
    if was.shares.is_empty() && claims.shares.is_empty() {
        findings
            .check(Rule::ForeignTouched, || Some(seen.violation(Rule::ForeignTouched, foreign("nobody", seen.before))));
        return;
    }
    for (uid, share) in &claims.shares {
        let added = was.shares.get(uid).is_none_or(|before| before.evidence != share.evidence);
        let object = Key { namespace: seen.key().namespace.clone(), name: share.owner.clone() };
        let mut specs = seen.past.specs(&object, seen.past.seen_since(seen.at()), seen.at());
        let is_left = was.shares.contains_key(uid) && !seen.present.uids(Kind::OkmsSecret).contains(uid);
        if added && share.evidence.is_empty() && is_left {
            // Who was made again under this name writes in its predecessor's name first, without saying of what. What it writes is judged
            // when it does so in its own.
            specs.retain(|wanted| wanted.uid != *uid && wanted.target == *seen.key() && wanted.merges());
            findings.check(Rule::WrongContent, || {
                let what = || format!("{}: nobody of this name merges into it", share.owner);
                specs.is_empty().then(|| seen.violation(Rule::WrongContent, what()))
            });
            continue;
        }
        specs.retain(|wanted| wanted.uid == *uid);
        if added {
            findings.check(Rule::ForeignTouched, || {
                let what = || format!("{} merged into it without consent, {:?}", share.owner, was.allowed);
                (!was.let_part(&share.owner)).then(|| seen.violation(Rule::ForeignTouched, what()))
            });
            findings.check(Rule::WrongContent, || {
                let problems = specs.iter().map(|wanted| {
                    let ours = |(key, _): &(&String, &Vec<u8>)| {
                        wanted.sources.iter().any(|source| key.starts_with(source.prefix.as_str()))
                    };
                    let part = new.iter().filter(ours).map(|(key, value)| (key.clone(), value.clone())).collect();
                    content::is_rendering(seen.past, wanted, &share.evidence, &part)
                });
                let problem = problems.reduce(Result::or).unwrap_or_else(|| Err("nobody asked for it".to_owned()));
                problem.err().map(|problem| seen.violation(Rule::WrongContent, format!("{}: {problem}", share.owner)))
            });
        }
    }
}

fn foreign(by: &str, before: Option<&Value>) -> String {
    let metadata = before.and_then(|before| before.get("metadata"));
    let shown = |name| metadata.and_then(|metadata| metadata.get(name)).cloned().unwrap_or_default();
    format!(
        "OkmsSecret {by} wrote to what was not its own: annotations {}, owners {}",
        shown("annotations"),
        shown("ownerReferences")
    )
}
