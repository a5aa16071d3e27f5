//! What is there when one `OkmsSecret` is looked at: the store it may read from, and its target.
//!
//! It reads, and decides nothing but whether there is something to decide about.

use k8s_openapi::api::core::v1::Secret;

use super::{
    named::Reference,
    report::Said,
    row::{KnownTarget, MadeBy},
    secret::Run,
};
use crate::{
    api::{Reason, Store},
    k8s::WriteError,
    model::{Mark, OkmsId, Path, StoreName},
    plan::{self, Claim, Condition, Namespace, Owner, Ownership, Wanted, Written},
};

/// The store of the object, ready to be asked.
pub(super) struct Access {
    pub name: StoreName,
    pub okms_id: OkmsId,
    pub store: Store,
}

/// Why nothing can be read.
pub(super) enum Unreadable {
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
    pub remembered: bool,
    /// It was not read, because nothing speaks for it: that none is in the way shows when it is created.
    pub supposed: bool,
}

impl Found {
    /// Nothing of the claim is there.
    fn nothing(claim: &Claim) -> Self {
        Self::unrendered(claim, None)
    }

    /// The claim was never written to what is there, whatever that says of itself.
    fn unrendered(claim: &Claim, secret: Option<Secret>) -> Self {
        let marks = vec![None; claim.wanted.sources.iter().count()];
        Self { secret, condition: Condition::Unrendered, marks, remembered: false, supposed: false }
    }
}

impl Run<'_> {
    /// What is claimed, and the store to read it from, if it is there and may be used for these paths.
    pub(super) fn may_read(&self) -> Result<(Claim, Access), Unreadable> {
        let refuse = |reason, message| Err(Unreadable::Said(Said::new(reason, message)));
        let wanted = match plan::wanted(self.object) {
            Ok(wanted) => wanted,
            Err(message) => return refuse(Reason::InvalidSpec, message),
        };
        let name = self.object.store_name();
        let Some(store) = self.context.store(&name) else {
            let message = format!("{name} does not exist: create it, or correct spec.storeRef");
            return refuse(Reason::StoreNotFound, message);
        };
        if let Some(path) = self.denied(&store, &wanted) {
            let message = format!(
                "{name} does not let namespace {} read {path}: have its owner add a rule to spec.access",
                self.id.namespace
            );
            return refuse(Reason::AccessDenied, message);
        }
        let Some(domain) = self.context.feed.domain(&name) else {
            // Whoever opens its desk, or finds that it cannot be opened, wakes the store's objects.
            let Some(trouble) = self.context.stores.trouble(&name) else { return Err(Unreadable::NotYet) };
            // What was taken back stays so until OKMS says something else.
            if self.previous().is_some_and(Reason::is_withdrawal) {
                return Err(Unreadable::NotYet);
            }
            return refuse(Reason::StoreNotReady, format!("the store is not ready: {trouble}"));
        };
        let claim = Claim {
            owner: Owner { name: self.id.name.to_string(), uid: self.id.uid.to_string() },
            namespace: self.id.namespace.to_string(),
            wanted,
            okms_id: domain.okms_id.clone(),
            predecessors: Vec::new(),
        };
        Ok((claim, Access { name, okms_id: domain.okms_id, store }))
    }

    /// The first path that the store does not let the object's namespace read, as its labels are now.
    fn denied<'a>(&self, store: &Store, wanted: &'a Wanted) -> Option<&'a Path> {
        // A store of a namespace is one of this namespace, and all of its own.
        let Store::Cluster(store) = store else { return None };
        let rules = store.spec.access.as_deref().unwrap_or_default();
        let labels = self.context.labels_of(&self.id.namespace);
        let namespace = Namespace { name: &self.id.namespace, labels: labels.as_ref() };
        wanted.sources.iter().map(|wanted| &wanted.source.path).find(|path| !plan::grants(rules, namespace, path))
    }

    /// The target without reading it, if the watch shows it as it was last seen.
    pub(super) fn remembered(&self, claim: &Claim) -> Option<Found> {
        let known = self.row.target.as_ref()?;
        let (uid, version) = (known.uid.as_deref(), known.resource_version.as_deref());
        let same = known.made_by == self.made_by(claim)
            && known.name == claim.wanted.target.name
            && self.context.target_is_unchanged(&self.id.namespace, &known.name, uid, version);
        same.then(|| Found {
            secret: None,
            condition: Condition::Intact,
            marks: known.marks.clone(),
            remembered: true,
            supposed: false,
        })
    }

    /// Nothing, without looking, where the object is new and the watch shows no target of its name. A Secret that is not labelled as a
    /// target may be there all the same: creating ours then fails, and it is looked at.
    pub(super) fn supposed(&self, claim: &Claim) -> Option<Found> {
        // What is written here stays known where the watch does not show it yet.
        let is_new =
            self.object.is_new() && !self.row.status.is_ahead() && self.row.target.is_none() && !self.row.in_the_way;
        let (namespace, name) = (&self.id.namespace, &claim.wanted.target.name);
        let absent = is_new && !claim.merges() && !self.context.shows_target(namespace, name);
        absent.then(|| Found { supposed: true, ..Found::nothing(claim) })
    }

    /// Reads the target. The inner error says why it is left alone.
    pub(super) async fn look(&mut self, claim: &mut Claim) -> Result<Result<Found, Said>, WriteError> {
        let Some(secret) = self.context.targets.read(&self.id.namespace, &claim.wanted.target.name).await? else {
            if claim.merges() {
                let name = &claim.wanted.target.name;
                let message = format!(
                    "there is no Secret {name} to merge into (spec.target.creationPolicy): create it, with the annotation \
                     okms-operator.io/allow: {}",
                    claim.owner.name
                );
                return Ok(Err(Said::new(Reason::TargetMissing, message)));
            }
            return Ok(Ok(Found::nothing(claim)));
        };
        match claim.ownership(&secret) {
            Ownership::Ours => {}
            Ownership::Consented => {
                if let Some(said) = unlike(&secret, claim) {
                    return Ok(Err(said));
                }
                return Ok(Ok(Found::unrendered(claim, Some(secret))));
            }
            Ownership::Foreign { whose, may_consent } => return Ok(Err(not_owned(claim, &whose, may_consent))),
        }
        claim.find_predecessors(&secret, |uid| self.context.is_alive(uid));
        let marks = claim.evidence(&secret.metadata);
        let fingerprint = claim.fingerprint(&self.context.fingerprinter, &secret);
        let written =
            self.row.target.as_ref().filter(|known| known.name == claim.wanted.target.name).map(|known| &known.written);
        let condition = claim.condition(&secret, self.generation, written, self.told_keys(), fingerprint);
        if condition == Condition::Intact && claim.is_dressed(&secret, &marks) {
            self.remember(claim, &secret, marks.clone());
        }
        Ok(Ok(Found { secret: Some(secret), condition, marks, remembered: false, supposed: false }))
    }

    /// Remembers a target that equals the rendering of what it was made from.
    pub(super) fn remember(&mut self, claim: &Claim, secret: &Secret, marks: Vec<Option<Mark>>) {
        self.row.target = Some(KnownTarget {
            name: secret.metadata.name.clone().unwrap_or_default(),
            uid: secret.metadata.uid.clone(),
            resource_version: secret.metadata.resource_version.clone(),
            written: Written {
                generation: self.generation,
                fingerprint: claim.fingerprint(&self.context.fingerprinter, secret),
            },
            marks,
            keys: claim.content(secret).data.len(),
            made_by: self.made_by(claim),
        });
    }

    /// Adds the templates of `ConfigMap`s to what is wanted, and follows these.
    pub(super) async fn add_templates(&mut self, claim: &mut Claim) -> Result<(), WriteError> {
        let asked: Vec<_> = self.object.spec.template_config_maps().collect();
        let (mut maps, mut size) = (Vec::with_capacity(asked.len()), 0);
        for map in &asked {
            self.follow(&Reference::ConfigMap { namespace: self.id.namespace.clone(), name: map.name.clone() });
            let held = match self.context.config_maps.read(&self.id.namespace, &map.name).await {
                Ok(Some(mut held)) => {
                    // What is not asked for is not kept, not even while the others are read.
                    held.retain(|key, _| map.keys.as_ref().is_none_or(|keys| keys.contains(key)));
                    size += held.values().map(String::len).sum::<usize>();
                    if size > MAX_TEMPLATES {
                        held.clear();
                        Err(format!(
                            "with ConfigMap {} the templates have more than {MAX_TEMPLATES} bytes: choose keys in templateFrom",
                            map.name
                        ))
                    } else {
                        Ok(held)
                    }
                }
                Ok(None) => Err(format!(
                    "ConfigMap {} with templates does not exist: create it in the same namespace, or correct templateFrom",
                    map.name
                )),
                Err(WriteError::Refused(_)) => Err(format!(
                    "ConfigMap {} with templates may not be read: grant the operator get, list and watch on configmaps",
                    map.name
                )),
                Err(error) => return Err(error),
            };
            maps.push(held);
        }
        let maps = asked.iter().zip(maps).map(|(map, held)| (map.name.as_str(), map.keys.as_deref(), held));
        claim.wanted.templates.add(maps);
        Ok(())
    }

    /// Has the object looked at when this one changes; if that cannot be, now and then.
    pub(super) fn follow(&mut self, reference: &Reference) {
        match self.context.follow(reference) {
            Some(follow) => self.row.follows.push(follow),
            None => self.look_again = Some(self.context.config.retry_refused),
        }
    }

    /// What the target is made by, beside its sources.
    pub(super) fn made_by(&self, claim: &Claim) -> MadeBy {
        let added = claim.wanted.templates.added.as_ref();
        MadeBy {
            generation: self.generation,
            okms_id: claim.okms_id.clone(),
            templates: added.map(|added| added.digest.clone()),
        }
    }

    /// How many keys the status says that the target has, if it shows this generation as synced.
    fn told_keys(&self) -> Option<usize> {
        let status = self.last_status()?;
        let synced = self.previous() == Some(Reason::Synced);
        status.target.as_ref().filter(|_| synced).and_then(|target| usize::try_from(target.keys).ok())
    }
}

/// The most bytes of templates from ConfigMaps for one Secret. A ConfigMap may have a mebibyte, and as many objects as are
/// reconciled at once hold theirs.
const MAX_TEMPLATES: usize = 512 * 1024;

/// A Secret that was given to us is changed, never replaced: why that cannot be done.
fn unlike(secret: &Secret, claim: &Claim) -> Option<Said> {
    let (name, is, wanted) = (&claim.wanted.target.name, plan::type_of(secret), claim.wanted.target.type_.as_str());
    let problem = if is != wanted {
        format!("its type is {is} and not {wanted}: correct spec.target.type, or delete the Secret")
    } else if secret.immutable == Some(true) {
        "it is immutable: delete the Secret".to_owned()
    } else {
        return None;
    };
    Some(Said::new(Reason::TargetNotOwned, format!("Secret {name} may be taken over, but {problem}")))
}

fn not_owned(claim: &Claim, whose: &str, may_consent: bool) -> Said {
    let (name, owner) = (&claim.wanted.target.name, &claim.owner.name);
    let consent = format!("kubectl annotate secret {name} okms-operator.io/allow={owner}");
    let remedy = match (claim.merges(), may_consent) {
        (false, false) => "delete it, or choose another spec.target.name".to_owned(),
        (false, true) => format!("delete it, choose another spec.target.name, or have it taken over with: {consent}"),
        (true, false) => "choose another spec.target.name".to_owned(),
        (true, true) => format!("choose another spec.target.name, or let keys be added to it with: {consent}"),
    };
    Said::new(
        Reason::TargetNotOwned,
        format!("Secret {name} exists already and {whose}, so it is not touched: {remedy}"),
    )
}
