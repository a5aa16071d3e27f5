//! What the attempts are made on: an `OkmsSecret`, and Secrets of everybody.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::{Value, json};

use crate::{guard::attempt::Attempt, world::World};

pub(super) const MANAGED: &str = "okms-operator.io/managed";
pub(super) const OWNER: &str = "okms-operator.io/owner";
pub(super) const ALLOW: &str = "okms-operator.io/allow";
pub(super) const SHARE: &str = "merged.okms-operator.io/uid-1";
pub(super) const OTHER_SHARE: &str = "merged.okms-operator.io/uid-2";

#[derive(Clone)]
pub(super) struct Scene {
    pub(super) namespace: String,
    /// A reference to the `OkmsSecret` `db` as the controller, and one to a ConfigMap.
    pub(super) db: Value,
    pub(super) boss: Value,
}

impl Scene {
    pub(super) async fn set(world: &World) -> Self {
        let db = world.apply("db", json!({"path": "db"})).await.uid();
        let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.name);
        let boss = serde_json::from_value(json!({"metadata": {"name": "boss"}})).unwrap();
        let boss = maps.create(&PostParams::default(), &boss).await.unwrap().uid();
        let db = json!({"apiVersion": "okms-operator.io/v1alpha1", "kind": "OkmsSecret", "name": "db", "uid": db,
            "controller": true});
        let boss = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "boss", "uid": boss, "controller": true});

        for (name, is_labelled, annotations, controller) in [
            ("theirs", false, json!({}), None),
            ("labelled", true, json!({}), None),
            ("owned", true, json!({OWNER: "db"}), Some(&db)),
            ("orphan", true, json!({OWNER: "db", ALLOW: "db"}), None),
            ("unlabelled", false, json!({OWNER: "db"}), None),
            ("stripped", false, json!({}), Some(&db)),
            ("big", true, json!({OWNER: "db"}), None),
            ("release", true, json!({OWNER: "db", ALLOW: "db"}), None),
            ("allowing", false, json!({ALLOW: "other, db"}), None),
            ("merged", true, json!({ALLOW: "db", SHARE: "{}", OTHER_SHARE: "{}"}), None),
            ("unforgiving", true, json!({SHARE: "{}"}), None),
            ("controlled", false, json!({ALLOW: "db"}), Some(&boss)),
            ("taken", true, json!({OWNER: "db"}), Some(&boss)),
            ("taken-merged", true, json!({SHARE: "{}"}), Some(&boss)),
        ] {
            let labels = if is_labelled { json!({MANAGED: "true"}) } else { json!({}) };
            let references: Vec<_> = controller.into_iter().collect();
            let type_ = if name == "release" { "helm.sh/release.v1" } else { "Opaque" };
            let value = if name == "big" { "x".repeat(1_000_000) } else { "x".to_owned() };
            let secret = json!({
                "metadata": {"name": name, "labels": labels, "annotations": annotations, "ownerReferences": references},
                "type": type_,
                "stringData": {"v": value, "more": "y"},
            });
            let secret = serde_json::from_value(secret).unwrap();
            world.secrets().create(&PostParams::default(), &secret).await.unwrap();
        }
        Self { namespace: world.name.clone(), db, boss }
    }

    pub(super) fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.namespace)
    }

    pub(super) fn secret(&self, name: &str) -> String {
        format!("{}/{name}", self.secrets())
    }

    /// Creates a target, with these changes.
    pub(super) fn create(&self, changes: &Value) -> Attempt {
        let mut target = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "new",
                "labels": {MANAGED: "true"},
                "annotations": {OWNER: "db"},
                "ownerReferences": [self.db],
            },
            "stringData": {"v": "x"},
        });
        change(&mut target, changes);
        Attempt::create(self.secrets(), target)
    }
}

/// As a merge patch does.
fn change(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                if value.is_null() {
                    into.remove(key);
                } else {
                    change(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}
