//! What the harness does to the cluster, as its administrator, and the record of which changes were its own.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::DynamicObject,
};
use serde_json::{Value, json};

use super::{
    action::{Hand, Key},
    history::{Kind, Recorder},
    watch::resource,
};

/// As the API server records who wrote.
const MANAGER: &str = "chaos";

pub(super) struct Kubernetes {
    client: Client,
    recorder: Recorder,
}

impl Kubernetes {
    pub(super) fn new(client: Client, recorder: Recorder) -> Self {
        Self { client, recorder }
    }

    fn api(&self, kind: Kind, key: &Key) -> Api<DynamicObject> {
        let (client, resource) = (self.client.clone(), resource(kind));
        if key.namespace.is_empty() {
            Api::all_with(client, &resource)
        } else {
            Api::namespaced_with(client, &key.namespace, &resource)
        }
    }

    /// Creates an object; `false` where one is there.
    pub(super) async fn create(&self, kind: Kind, key: &Key, mut object: Value) -> Result<bool> {
        let resource = resource(kind);
        let fields = object.as_object_mut().context("an object is a JSON object")?;
        fields.insert("apiVersion".to_owned(), json!(resource.api_version));
        fields.insert("kind".to_owned(), json!(resource.kind));
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        let metadata = metadata.as_object_mut().context("metadata is a JSON object")?;
        metadata.insert("name".to_owned(), json!(key.name));
        if !key.namespace.is_empty() {
            metadata.insert("namespace".to_owned(), json!(key.namespace));
        }
        let object: DynamicObject = serde_json::from_value(object).context("making an object")?;
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let created = self.api(kind, key).create(&parameters, &object).await;
        self.wrote(created, &format!("creating {} {key}", kind.name()))
    }

    /// A merge patch; `false` where there is no such object.
    pub(super) async fn merge(&self, kind: Kind, key: &Key, patch: &Value) -> Result<bool> {
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = self.api(kind, key).patch(&key.name, &parameters, &Patch::Merge(patch)).await;
        self.wrote(patched, &format!("patching {} {key}", kind.name()))
    }

    /// Puts another spec in the place of the one that is there.
    pub(super) async fn set_spec(&self, kind: Kind, key: &Key, spec: &Value) -> Result<bool> {
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = serde_json::from_value(json!([{"op": "replace", "path": "/spec", "value": spec}]));
        let patch = Patch::Json::<()>(patch.context("making a patch")?);
        let patched = self.api(kind, key).patch(&key.name, &parameters, &patch).await;
        self.wrote(patched, &format!("changing the spec of {} {key}", kind.name()))
    }

    pub(super) async fn get(&self, kind: Kind, key: &Key) -> Result<Option<Value>> {
        let object = self.api(kind, key).get_opt(&key.name).await;
        let object = object.with_context(|| format!("reading {} {key}", kind.name()))?;
        object.map(serde_json::to_value).transpose().context("understanding an object")
    }

    pub(super) async fn delete(&self, kind: Kind, key: &Key) -> Result<bool> {
        let Some(object) = self.api(kind, key).get_opt(&key.name).await.context("looking what to delete")? else {
            return Ok(false);
        };
        let uid = object.uid();
        // Whose deletion it was must be known, so another object of the name is not meant.
        let preconditions = Preconditions { uid: uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match self.api(kind, key).delete(&key.name, &parameters).await {
            Ok(_) => {
                self.recorder.open().own_deletions.extend(uid);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("deleting {} {key}", kind.name())),
        }
    }

    /// Remembers a write as the harness's own. What was not there, or was there already, is no failure: the operator changes things too.
    fn wrote(&self, outcome: kube::Result<DynamicObject>, what: &str) -> Result<bool> {
        match outcome {
            Ok(object) => {
                let version = object.resource_version().and_then(|version| version.parse::<u64>().ok());
                self.recorder.open().own_writes.extend(version);
                Ok(true)
            }
            // Such as an immutable Secret that somebody tries to edit.
            Err(kube::Error::Api(status)) if [404, 409, 422].contains(&status.code) => Ok(false),
            Err(error) => Err(error).context(what.to_owned()),
        }
    }

    /// Lays hands on a Secret. Every edit sets an annotation that it never had, so that each is a change of its own.
    pub(super) async fn hand(&self, secret: &Key, how: Hand) -> Result<bool> {
        let edited = |number: usize| json!({"chaos.example/edit": number.to_string()});
        let patch = match how {
            Hand::Delete => return self.delete(Kind::Secret, secret).await,
            Hand::ChangeValue(number) | Hand::RemoveKey(number) => {
                let Some(object) = self.get(Kind::Secret, secret).await? else { return Ok(false) };
                let keys: BTreeMap<_, _> =
                    object.get("data").and_then(Value::as_object).into_iter().flatten().collect();
                let Some((key, _)) = keys.iter().nth(number % keys.len().max(1)) else { return Ok(false) };
                let value =
                    if matches!(how, Hand::RemoveKey(_)) { Value::Null } else { base64(&format!("hand-{number}")) };
                json!({"metadata": {"annotations": edited(number)}, "data": {key.as_str(): value}})
            }
            Hand::AddKey(number) => {
                let key = format!("hand-{number}");
                json!({"metadata": {"annotations": edited(number)}, "data": {&key: base64(&key)}})
            }
            Hand::StripOwnership(number) => json!({"metadata": {
                "annotations": {"chaos.example/edit": number.to_string(), "okms-operator.io/owner": null},
                "labels": {"okms-operator.io/managed": null},
                "ownerReferences": null,
            }}),
            Hand::StripLabel(number) => {
                json!({"metadata": {"annotations": edited(number), "labels": {"okms-operator.io/managed": null}}})
            }
            Hand::Annotate(number) => json!({"metadata": {"annotations": edited(number)}}),
        };
        self.merge(Kind::Secret, secret, &patch).await
    }
}

/// A value as a Secret has it.
pub(super) fn base64(text: &str) -> Value {
    use base64::{Engine, prelude::BASE64_STANDARD};
    json!(BASE64_STANDARD.encode(text))
}
