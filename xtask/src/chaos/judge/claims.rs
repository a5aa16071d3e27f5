//! Whose a Secret is, by what it says of itself: DESIGN's words, read anew.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::wanted::Source;
use crate::chaos::history::{text, texts};

const OWNER: &str = "okms-operator.io/owner";
const SOURCE: &str = "okms-operator.io/source";
const ALLOW: &str = "okms-operator.io/allow";
const MERGED: &str = "merged.okms-operator.io/";

/// What a Secret says of itself.
pub(super) struct Claims<'s> {
    /// Its owner annotation.
    pub(super) owner: Option<&'s str>,
    /// The `OkmsSecret` that controls it, by name and uid.
    pub(super) controller: Option<(&'s str, &'s str)>,
    /// Somebody else's controller.
    pub(super) foreign_controller: bool,
    pub(super) allowed: Vec<&'s str>,
    /// What is merged into it: by the uid of the `OkmsSecret`.
    pub(super) shares: BTreeMap<&'s str, Share>,
    pub(super) evidence: Vec<Evidence>,
}

pub(super) struct Share {
    pub(super) owner: String,
    pub(super) evidence: Vec<Evidence>,
}

/// What a Secret was made from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Evidence {
    pub(super) okms_id: String,
    pub(super) path: String,
    pub(super) pin: Option<u32>,
    pub(super) version: u32,
    pub(super) created: Option<Timestamp>,
}

/// What evidence names for a source.
pub(super) fn evidence_of<'e>(evidence: &'e [Evidence], source: &Source) -> Option<&'e Evidence> {
    evidence.iter().find(|one| one.path == source.path && one.pin == source.pin)
}

impl<'s> Claims<'s> {
    pub(super) fn of(secret: &'s Value) -> Self {
        let annotations = texts(secret, "/metadata/annotations");
        let references = secret.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let controller = references.into_iter().flatten().find(|one| one.get("controller") == Some(&Value::Bool(true)));
        let ours = controller.filter(|controller| {
            text(controller, "/kind") == "OkmsSecret"
                && text(controller, "/apiVersion").starts_with("okms-operator.io/")
        });
        let shares = annotations.iter().filter_map(|(key, share)| {
            let share: Value = serde_json::from_str(share).ok()?;
            let evidence = evidence(share.get("sources")?);
            Some((key.strip_prefix(MERGED)?, Share { owner: text(&share, "/owner").to_owned(), evidence }))
        });
        let source = annotations.get(SOURCE).and_then(|source| serde_json::from_str(source).ok());
        Self {
            owner: annotations.get(OWNER).copied(),
            controller: ours.map(|ours| (text(ours, "/name"), text(ours, "/uid"))),
            foreign_controller: controller.is_some() && ours.is_none(),
            allowed: annotations.get(ALLOW).map(|names| names.split(',').map(str::trim).collect()).unwrap_or_default(),
            shares: shares.collect(),
            evidence: source.map(|source: Value| evidence(&source)).unwrap_or_default(),
        }
    }

    /// Whether an `OkmsSecret` of this name and uid may write the whole of it.
    pub(super) fn let_whole(&self, name: &str, uid: &str) -> bool {
        if self.foreign_controller || self.controller.is_some_and(|(controller, _)| controller != name) {
            return false;
        }
        match (self.owner, self.controller) {
            (Some(owner), _) => owner == name,
            (None, Some((_, controller))) => controller == uid,
            (None, None) => self.shares.is_empty() && self.allowed.contains(&name),
        }
    }

    /// Whether an `OkmsSecret` of this name may add keys to it.
    pub(super) fn let_part(&self, name: &str) -> bool {
        self.owner.is_none() && self.controller.is_none() && !self.foreign_controller && self.allowed.contains(&name)
    }
}

fn evidence(list: &Value) -> Vec<Evidence> {
    let number =
        |value: &Value, name| value.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let list = list.as_array().into_iter().flatten();
    list.map(|one| Evidence {
        okms_id: text(one, "/okmsId").to_owned(),
        path: text(one, "/path").to_owned(),
        pin: number(one, "pin"),
        version: number(one, "version").unwrap_or_default(),
        created: text(one, "/createdAt").parse().ok(),
    })
    .collect()
}
