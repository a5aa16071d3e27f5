//! The target as it is and as it shall be: whose it is, what it was made from, whether it still is what was last written.
//!
//! A [`Claim`] is what one `OkmsSecret` claims of one Secret: the whole of it (`Owner`, `Orphan`), or some of the keys of a Secret
//! that is somebody else's (`Merge`). Everything is asked of the claim, so that nobody else has to tell the two apart:
//! [`ownership`] says whether it may be written, [`whole`] and [`merged`] what it looks like.

mod merged;
mod ownership;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference},
};

pub use self::ownership::Ownership;
use super::{Fingerprint, Fingerprinter, TargetShape, Wanted};
use crate::{
    api::{CreationPolicy, names},
    model::{Evidence, Mark, OkmsId, Source},
};

/// Which `OkmsSecret` a target belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    pub uid: String,
}

impl Owner {
    const KIND: &'static str = "OkmsSecret";

    fn api_version() -> String {
        format!("{}/{}", names::GROUP, names::VERSION)
    }

    /// The reference by which Kubernetes deletes the target with its `OkmsSecret`. It does not block that deletion.
    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::api_version(),
            kind: Self::KIND.to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    /// Who writes what is merged into a Secret: each `OkmsSecret` has its own keys there.
    pub fn field_manager(&self) -> String {
        format!("{}/{}", names::FIELD_MANAGER, self.uid)
    }

    /// The annotation of a Secret that this `OkmsSecret` merges into.
    pub fn merged_annotation(&self) -> String {
        format!("{}{}", names::MERGED_ANNOTATION_PREFIX, self.uid)
    }
}

/// What is known of the target when a decision is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It equals the rendering of what its evidence names, for the present spec.
    Intact,
    /// It was rendered for the present spec and somebody changed its content since.
    Drifted,
    /// It has to be rendered: it is absent, or of another spec, or nothing shows that it is not.
    Unrendered,
}

/// What was last written, as the operator remembers it.
#[derive(Clone, PartialEq, Eq)]
pub struct Written {
    /// The generation of the `OkmsSecret` that was rendered.
    pub generation: i64,
    pub fingerprint: Fingerprint,
}

/// What a rendering makes of a Secret. It has no `Debug`, like everything that holds values.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Content {
    pub data: BTreeMap<String, ByteString>,
    /// Those that are made by templates.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What one `OkmsSecret` claims of its target.
#[derive(Debug, Clone)]
pub struct Claim {
    pub owner: Owner,
    pub namespace: String,
    pub wanted: Wanted,
    pub okms_id: OkmsId,
    /// `OkmsSecret`s of this name that are gone, and whose keys are still in the target: what is merged outlives its object.
    pub predecessors: Vec<Owner>,
}

impl Claim {
    fn shape(&self) -> &TargetShape {
        &self.wanted.target
    }

    /// Whether only some keys of the Secret are claimed.
    pub fn merges(&self) -> bool {
        self.shape().policy == CreationPolicy::Merge
    }

    /// Whether something of what is claimed is in the Secret.
    pub fn holds(&self, secret: &Secret) -> bool {
        !self.merges() || !self.predecessors.is_empty() || self.has_share(secret)
    }

    /// Whether this `OkmsSecret` itself, not one before it, has merged something.
    pub fn has_share(&self, secret: &Secret) -> bool {
        annotation(&secret.metadata, &self.owner.merged_annotation()).is_some()
            || !merged::keys(&secret.metadata, &self.owner).is_empty()
    }

    /// Looks who of this name has keys in the target, and is not `alive` any more: their keys are taken over.
    pub fn find_predecessors(&mut self, secret: &Secret, alive: impl Fn(&str) -> bool) {
        if self.merges() {
            self.predecessors = merged::namesakes(&secret.metadata, &self.owner);
            self.predecessors.retain(|namesake| !alive(&namesake.uid));
        }
    }

    /// What to apply in the name of a predecessor, so that it has the same keys as this claim.
    pub fn in_the_name_of(&self, predecessor: &Owner, data: BTreeMap<String, ByteString>, secret: &Secret) -> Secret {
        let claim = Self { owner: predecessor.clone(), ..self.clone() };
        claim.desired(Content { data, ..Content::default() }, &[], Some(secret))
    }

    /// Whether the Secret that has the name of the target may be written.
    pub fn ownership(&self, secret: &Secret) -> Ownership {
        if self.merges() { ownership::of_part(secret, &self.owner) } else { ownership::of_whole(secret, &self.owner) }
    }

    /// What the target says for each of the sources: the content that it was made from, where it was made from exactly this source
    /// of this domain. Nothing else may ever be the ground for a deletion.
    pub fn evidence(&self, metadata: &ObjectMeta) -> Vec<Option<Mark>> {
        let written = if self.merges() { merged::evidence(metadata, self) } else { whole::evidence(metadata) };
        let of = |source: &Source| written.iter().find(|one| one.names(&self.okms_id, source)).map(|one| one.mark);
        self.wanted.sources.iter().map(|wanted| of(&wanted.source)).collect()
    }

    /// What makes hashed passwords of templates differ between objects.
    pub fn salt(&self) -> String {
        format!("{}/{}", self.namespace, self.owner.name)
    }

    /// The content of the Secret that is claimed.
    pub fn content(&self, secret: &Secret) -> Content {
        let mut data = secret.data.clone().unwrap_or_default();
        if self.merges() {
            let ours = merged::keys(&secret.metadata, &self.owner);
            data.retain(|key, _| ours.contains(key));
        }
        let made = |all: &Option<BTreeMap<String, String>>, templates: &BTreeMap<String, String>| {
            let all = all.iter().flatten().filter(|(key, _)| templates.contains_key(*key));
            all.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let (metadata, templates) = (&secret.metadata, &self.wanted.templates);
        Content {
            data,
            labels: made(&metadata.labels, &templates.labels),
            annotations: made(&metadata.annotations, &templates.annotations),
        }
    }

    /// Whether nobody but the operator ever wrote the claimed content, as the API server recorded it.
    ///
    /// What is merged has a manager of its own: a key that somebody else changes is not claimed by it any more.
    fn only_we_wrote(&self, metadata: &ObjectMeta) -> bool {
        let manager = if self.merges() { self.owner.field_manager() } else { names::FIELD_MANAGER.to_owned() };
        let wrote = |field: &str, templates: &BTreeMap<String, String>| {
            let ours = written_by(metadata, &manager, &["f:metadata", field]);
            templates.keys().all(|key| ours.contains(key))
        };
        let templates = &self.wanted.templates;
        (self.merges() || only_we_wrote_data(metadata))
            && wrote("f:labels", &templates.labels)
            && wrote("f:annotations", &templates.annotations)
    }

    /// A keyed hash of what is claimed.
    pub fn fingerprint(&self, fingerprinter: &Fingerprinter, secret: &Secret) -> Fingerprint {
        fingerprinter.of(type_of(secret), &self.content(secret))
    }

    /// What the templates that are not in the spec were when the target was made by them.
    fn made_by(&self, metadata: &ObjectMeta) -> Option<String> {
        if self.merges() {
            merged::made_by(metadata, &self.owner)
        } else {
            annotation(metadata, names::TEMPLATE_ANNOTATION).map(str::to_owned)
        }
    }

    /// Judges the content of a target that is ours.
    ///
    /// `written` is what this process wrote or has judged before. Without it, after a restart, `told` is the number of keys that the
    /// target has by its status, where that shows this generation as synced. Then the target is believed if it has as many and
    /// nobody but us wrote one of them, as the API server's own record of managers tells. (That record shows who wrote a key, not who
    /// removed one.)
    pub fn condition(
        &self,
        secret: &Secret,
        generation: i64,
        written: Option<&Written>,
        told: Option<usize>,
        fingerprint: Fingerprint,
    ) -> Condition {
        if self.made_by(&secret.metadata).as_deref() != self.wanted.templates.digest() {
            return Condition::Unrendered;
        }
        match written {
            Some(written) if written.generation != generation => Condition::Unrendered,
            Some(written) if written.fingerprint == fingerprint => Condition::Intact,
            Some(_) => Condition::Drifted,
            None => match told {
                None => Condition::Unrendered,
                Some(keys) if keys == self.content(secret).data.len() && self.only_we_wrote(&secret.metadata) => {
                    Condition::Intact
                }
                Some(_) => Condition::Drifted,
            },
        }
    }

    /// The Secret as it shall be: complete, or as much of it as is claimed.
    pub fn desired(&self, content: Content, marks: &[Option<Mark>], existing: Option<&Secret>) -> Secret {
        let evidence = self.made_from(marks);
        if self.merges() {
            merged::desired(self, content, &evidence, existing)
        } else {
            whole::desired(self, content, &evidence, existing)
        }
    }

    /// The Secret as it shall be, where the one that is there has to be deleted for it.
    ///
    /// What others put on the old one, or that somebody froze it, goes with that: the API server would take the operator for its author
    /// on the new one, which would remove it with the next write.
    pub fn afresh(&self, desired: &Secret) -> Secret {
        self.desired(self.content(desired), &self.evidence(&desired.metadata), None)
    }

    /// A Secret of ours that was deleted, as it was, to be made again. What would keep the API server from taking it is put right: a mark
    /// that somebody removed, and owners of somebody else's, which an admission policy lets only them set.
    pub fn put_back(&self, deleted: &Secret) -> Secret {
        let mut secret = deleted.clone();
        let metadata = &mut secret.metadata;
        metadata.uid = None;
        metadata.resource_version = None;
        metadata.creation_timestamp = None;
        metadata.managed_fields = None;
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(names::MANAGED_LABEL.to_owned(), names::MANAGED_VALUE.to_owned());
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(names::OWNER_ANNOTATION.to_owned(), self.owner.name.clone());
        if let Some(owners) = &mut metadata.owner_references {
            owners.retain(|owner| owner.uid == self.owner.uid);
        }
        secret
    }

    /// Whether writing `desired` over `existing` would change anything.
    pub fn differs(&self, existing: &Secret, desired: &Secret) -> bool {
        if self.merges() { merged::differs(existing, desired, self) } else { whole::differs(existing, desired) }
    }

    /// Whether everything around the data is as it shall be, too.
    pub fn is_dressed(&self, secret: &Secret, marks: &[Option<Mark>]) -> bool {
        let complete = self.wanted.sources.iter().zip(marks).all(|(source, mark)| mark.is_some() || source.optional);
        complete && !self.differs(secret, &self.desired(self.content(secret), marks, Some(secret)))
    }

    /// What the target says of itself when it is made from these versions.
    pub(super) fn made_from(&self, marks: &[Option<Mark>]) -> Vec<Evidence> {
        let sources = self.wanted.sources.iter().map(|wanted| &wanted.source).zip(marks);
        sources
            .filter_map(|(source, mark)| {
                let (okms_id, path) = (self.okms_id.clone(), source.path.clone());
                Some(Evidence { okms_id, path, pin: source.pin, mark: (*mark)? })
            })
            .collect()
    }
}

/// What becomes of a Secret that is not the target any more, because the target has another name now.
#[derive(Debug, Clone, PartialEq)]
pub enum Leftover {
    /// It is not, or not only, ours.
    NotOurs,
    Delete,
    /// It stays, and is nobody's: this is written instead.
    Release(Box<Secret>),
    /// Our keys are taken out.
    TakeOut,
}

impl Claim {
    /// Judges a Secret of another name that says that it belongs to this `OkmsSecret`.
    ///
    /// A copy that somebody made of a target carries our annotations as well, but it was not us who wrote its data.
    pub fn leftover(&self, secret: &Secret) -> Leftover {
        let metadata = &secret.metadata;
        if !merged::keys(metadata, &self.owner).is_empty() {
            return Leftover::TakeOut;
        }
        let ours = ownership::of_whole(secret, &self.owner) == Ownership::Ours && only_we_wrote_data(metadata);
        // What it was counts, not what the target is now: an orphan was promised to stay.
        let mut references = metadata.owner_references.iter().flatten();
        let owned = references.any(|reference| is_okms_secret(reference) && reference.name == self.owner.name);
        match (ours, owned) {
            (false, _) => Leftover::NotOurs,
            (true, true) => Leftover::Delete,
            (true, false) => Leftover::Release(Box::new(whole::released(secret))),
        }
    }
}

/// What to apply in the name of a claim that merges, so that nothing of it is left in the Secret.
pub fn taken_out(secret: &Secret) -> Secret {
    merged::nothing(secret)
}

/// Who else wrote to the Secret last, as the API server recorded it.
pub fn other_writer(metadata: &ObjectMeta) -> Option<&str> {
    let others = metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.manager.as_deref().is_some_and(|manager| !manager.starts_with(names::FIELD_MANAGER)));
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.as_deref()
}

/// The name of every `OkmsSecret` that a change of this target may matter to.
pub fn claimants(metadata: &ObjectMeta) -> BTreeSet<String> {
    let annotated = annotation(metadata, names::OWNER_ANNOTATION).map(str::to_owned);
    let references = metadata.owner_references.iter().flatten().filter(|reference| is_okms_secret(reference));
    annotated
        .into_iter()
        .chain(references.map(|reference| reference.name.clone()))
        .chain(merged::owners(metadata))
        .collect()
}

/// Takes off what [`claimants`] does not go by, and what it would find twice.
pub fn keep_claimants(metadata: &mut ObjectMeta) {
    let owners: Vec<OwnerReference> =
        metadata.owner_references.take().into_iter().flatten().filter(is_okms_secret).collect();
    let referred = |owner: &String| owners.iter().any(|reference| reference.name == *owner);
    let needed = |key: &str, value: &String| match key {
        names::OWNER_ANNOTATION => !referred(value),
        key => key.starts_with(names::MERGED_ANNOTATION_PREFIX),
    };
    let annotations = metadata.annotations.take().into_iter().flatten();
    let annotations: BTreeMap<String, String> = annotations.filter(|(key, value)| needed(key, value)).collect();
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    metadata.owner_references = (!owners.is_empty()).then_some(owners);
}

/// The type of a Secret; the API server never leaves it out.
pub fn type_of(secret: &Secret) -> &str {
    secret.type_.as_deref().unwrap_or("Opaque")
}

/// Whether nobody but us wrote the data since we last did, as the API server recorded it. What others wrote before that was looked at
/// then, and stays in their name where it was the same already.
fn only_we_wrote_data(metadata: &ObjectMeta) -> bool {
    let entries = || metadata.managed_fields.iter().flatten();
    let holds = |entry: &ManagedFieldsEntry, place: &[&str]| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| place.iter().try_fold(fields, |fields, name| fields.get(name)).is_some())
    };
    let evidence = ["f:metadata", "f:annotations", &format!("f:{}", names::SOURCE_ANNOTATION)];
    let ours = entries().filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER));
    let Some(last) = ours.filter(|entry| holds(entry, &evidence)).filter_map(|entry| entry.time.as_ref()).max() else {
        return false;
    };
    let mut others = entries().filter(|entry| entry.manager.as_deref() != Some(names::FIELD_MANAGER));
    others.all(|entry| !holds(entry, &["f:data"]) || entry.time.as_ref().is_some_and(|time| time < last))
}

fn is_okms_secret(reference: &OwnerReference) -> bool {
    reference.kind == Owner::KIND && reference.api_version.split('/').next() == Some(names::GROUP)
}

/// The names of the fields at this place that a manager wrote, as the API server recorded it.
fn written_by(metadata: &ObjectMeta, manager: &str, place: &[&str]) -> BTreeSet<String> {
    metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.manager.as_deref() == Some(manager))
        .filter_map(|entry| {
            let fields = &entry.fields_v1.as_ref()?.0;
            place.iter().try_fold(fields, |fields, name| fields.get(name))?.as_object()
        })
        .flat_map(|fields| fields.keys().filter_map(|key| key.strip_prefix("f:")).map(str::to_owned))
        .collect()
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}
