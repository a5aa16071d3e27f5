//! Doctored histories: the judge has to catch each lie, and to say nothing of what is true.

mod afterwards;
mod deletion;
mod statuses;
mod writes;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::chaos::{
    action::VersionState,
    history::{Change, Kind, OkmsChange, Trouble, Troubled, What},
    kubernetes::base64,
};

const NAMESPACE: &str = "chaos-a";
const PATH: &str = "team/p00";
const UID: &str = "uid-of-db";

fn at(seconds: f64) -> Timestamp {
    calm::later(Timestamp::from_second(2_000_000_000).unwrap(), Duration::from_secs_f64(seconds))
}

fn key(name: &str) -> Key {
    Key { namespace: NAMESPACE.to_owned(), name: name.to_owned() }
}

fn content(password: &str) -> Value {
    json!({"password": password})
}

/// A history that is made up.
struct Story {
    history: History,
    version: u64,
    generation: i64,
    spec: Value,
}

impl Story {
    /// A namespace, a store that shares everything with it, and `OkmsSecret` db, which reads one path.
    fn new(spec: Value) -> Self {
        let mut history = History::new("domain".to_owned());
        history.begun = at(0.0);
        history.starts.push(at(0.0));
        let mut made_up = Self { history, version: 0, generation: 1, spec };
        let cluster_wide = |name: &str| Key { namespace: String::new(), name: name.to_owned() };
        made_up.change(
            0.0,
            Kind::Namespace,
            cluster_wide(NAMESPACE),
            "ns",
            Some(json!({"metadata": {"name": NAMESPACE}})),
        );
        let shared = json!({
            "kind": "ClusterOkmsStore",
            "spec": {"refreshInterval": "2s", "access": [{"namespaces": [NAMESPACE], "paths": ["*"]}]},
        });
        made_up.change(0.0, Kind::ClusterOkmsStore, cluster_wide("default"), "store", Some(shared));
        made_up.okms(1.0, What::Put { version: 1, data: Arc::new(content("one")) });
        made_up.object(1.0, None);
        made_up
    }

    fn change(&mut self, second: f64, kind: Kind, key: Key, uid: &str, object: Option<Value>) -> u64 {
        self.version += 1;
        let change = Change {
            version: self.version,
            at: at(second),
            kind,
            key,
            uid: uid.to_owned(),
            object: object.map(Arc::new),
        };
        self.history.saw(change);
        self.version
    }

    fn okms(&mut self, second: f64, what: What) {
        self.history.okms.push(OkmsChange { from: at(second), to: at(second + 0.01), path: PATH.to_owned(), what });
    }

    /// The object, with the status of these conditions.
    fn object(&mut self, second: f64, status: Option<Value>) {
        let object = json!({
            "metadata": {"namespace": NAMESPACE, "name": "db", "uid": UID, "generation": self.generation},
            "spec": self.spec,
            "status": status.unwrap_or_else(|| json!({"observedGeneration": -1})),
        });
        self.change(second, Kind::OkmsSecret, key("db"), UID, Some(object));
    }

    fn edit(&mut self, second: f64, spec: Value) {
        self.generation += 1;
        self.spec = spec;
        self.object(second, None);
    }

    /// Ready=True with this version.
    fn synced(&mut self, second: f64, version: u32) {
        self.said(second, "True", "Synced", version);
    }

    fn said(&mut self, second: f64, status: &str, reason: &str, version: u32) {
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "observedGeneration": self.generation});
        self.object(
            second,
            Some(json!({
                "observedGeneration": self.generation,
                "conditions": [ready],
                "sources": [{"path": PATH, "version": version, "state": "Active"}],
                "refreshInterval": "2s",
            })),
        );
    }

    /// The target, as the operator writes it from a version that was created at a second.
    fn target(&mut self, second: f64, name: &str, version: u32, created: f64, data: &Value) -> u64 {
        self.target_of(second, name, &[(PATH, version, created)], data)
    }

    /// The same from several paths.
    fn target_of(&mut self, second: f64, name: &str, sources: &[(&str, u32, f64)], data: &Value) -> u64 {
        let source = |(path, version, created): &(&str, u32, f64)| {
            let created = at(*created).to_string();
            json!({"okmsId": "domain", "path": path, "version": version, "createdAt": created})
        };
        let source: Value = sources.iter().map(source).collect();
        let secret = json!({
            "metadata": {
                "annotations": {"okms-operator.io/owner": "db", "okms-operator.io/source": source.to_string()},
                "labels": {"okms-operator.io/managed": "true"},
                "ownerReferences": [{
                    "apiVersion": "okms-operator.io/v1alpha1", "kind": "OkmsSecret", "name": "db", "uid": UID, "controller": true,
                }],
            },
            "type": "Opaque",
            "data": encoded(data),
        });
        self.change(second, Kind::Secret, key(name), &format!("uid-of-{name}"), Some(secret))
    }

    fn gone(&mut self, second: f64, name: &str) {
        self.change(second, Kind::Secret, key(name), &format!("uid-of-{name}"), None);
    }

    /// A Secret that the harness made.
    fn foreign(&mut self, second: f64, name: &str, data: &Value, allow: &str) {
        let secret = json!({"metadata": {"annotations": {"okms-operator.io/allow": allow}}, "data": encoded(data)});
        let version = self.change(second, Kind::Secret, key(name), &format!("uid-of-{name}"), Some(secret));
        self.history.own_writes.insert(version);
    }

    /// What the judge calls it.
    fn rules(&self) -> Vec<Rule> {
        let mut rules: Vec<_> = judge(&self.history).violations.iter().map(|violation| violation.rule).collect();
        rules.dedup();
        rules
    }

    fn rules_of_the_end(&self) -> Vec<Rule> {
        end::judge(&self.history, false).violations.iter().map(|violation| violation.rule).collect()
    }

    /// Trouble with these paths; with none, all of it.
    fn trouble(&mut self, trouble: Trouble, paths: &[&str], from: f64, to: f64) {
        let paths = (!paths.is_empty()).then(|| paths.iter().map(|path| (*path).to_owned()).collect());
        self.history.troubles.push(Troubled { trouble, paths, from: at(from), to: Some(at(to)) });
    }

    /// Something happens elsewhere, so that the history goes on until then.
    fn passes(&mut self, second: f64) {
        self.foreign(second, "elsewhere", &json!({"own": second.to_string()}), "");
    }
}

fn encoded(data: &Value) -> Value {
    let fields = data.as_object().into_iter().flatten();
    Value::Object(fields.map(|(key, value)| (key.clone(), base64(value.as_str().unwrap_or_default()))).collect())
}

fn spec() -> Value {
    json!({"path": PATH})
}

/// A Secret that is synced to version 1.
fn synced() -> Story {
    let mut story = Story::new(spec());
    story.target(2.0, "db", 1, 1.0, &content("one"));
    story.synced(2.1, 1);
    story
}

/// The same, with version 2 written at second 10.
fn moved_on() -> Story {
    let mut story = synced();
    story.okms(10.0, What::Put { version: 2, data: Arc::new(content("two")) });
    story
}

#[test]
fn nothing_is_said_of_what_is_right() {
    let mut story = moved_on();
    story.target(11.0, "db", 2, 10.0, &content("two"));
    story.synced(11.1, 2);
    story.passes(60.0);
    assert_eq!(story.rules(), []);
    assert_eq!(story.rules_of_the_end(), []);
    let findings = judge(&story.history);
    for rule in [Rule::WrongContent, Rule::StaleContent, Rule::WentBack, Rule::FalseReady, Rule::StaleReady, Rule::Late]
    {
        assert!(findings.checks.contains_key(&rule), "{rule}");
    }
}
