//! The world as the plan knows it: what OKMS holds, and what the `OkmsSecret`s ask for. Only the plan changes it; what the operator
//! makes of it is no part of it, so it is the same for a seed whatever happens in a run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    action::{Key, VersionState},
    dice::Dice,
};

/// The namespaces of the noise.
pub(super) const NAMESPACES: [&str; 5] = ["chaos-a", "chaos-b", "chaos-c", "chaos-d", "chaos-e"];

/// The one with a store of its own.
pub(super) const WITH_STORE: &str = "chaos-a";

/// The stores, as kind and name.
pub(super) const DEFAULT: &str = "ClusterOkmsStore/default";
pub(super) const SECOND: &str = "ClusterOkmsStore/second";
pub(super) const OWN: &str = "OkmsStore/own";

/// How many versions OKMS keeps when nobody said otherwise.
const KEPT_VERSIONS: usize = 10;

pub(super) const FOREIGN_NAMES: [&str; 4] = ["foreign-0", "foreign-1", "foreign-2", "foreign-3"];
pub(super) const HOST_NAMES: [&str; 2] = ["host-0", "host-1"];

/// All paths that are ever used; some of them hold nothing at first.
pub(super) fn paths() -> Vec<String> {
    (0..30).map(|index| format!("{}/p{index:02}", if index < 22 { "team" } else { "shared" })).collect()
}

#[derive(Default)]
pub(super) struct Versions {
    pub(super) current: u32,
    pub(super) states: BTreeMap<u32, VersionState>,
    pub(super) newest: Value,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) okms: BTreeMap<String, Versions>,
    pub(super) objects: BTreeMap<Key, Spec>,
    /// How often somebody laid hands on a Secret: from the fifth time on within ten minutes, the operator takes it for a fight.
    pub(super) hands: BTreeMap<Key, usize>,
    pub(super) deleted_stores: BTreeSet<&'static str>,
    counter: usize,
}

impl World {
    /// A number that was not given before.
    pub(super) fn number(&mut self) -> usize {
        self.counter += 1;
        self.counter
    }

    /// A new version of a secret, and its content.
    pub(super) fn put(&mut self, path: &str, data: Value) -> Value {
        let secret = self.okms.entry(path.to_owned()).or_default();
        secret.current += 1;
        secret.states.insert(secret.current, VersionState::Active);
        while secret.states.len() > KEPT_VERSIONS {
            secret.states.pop_first();
        }
        secret.newest = data.clone();
        data
    }

    /// The content of a version that never was before: complete, or, seldom, without a field or without any.
    pub(super) fn content(&mut self, dice: &mut Dice, path: &str) -> Value {
        let number = self.number();
        if dice.percent(2) {
            return json!({});
        }
        let mut data = json!({
            "user": format!("user-{number}"),
            "password": format!("{path}#{number}"),
            "port": number,
            "tls": {"ca": format!("ca-{number}"), "depth": [number, {"b": 1, "a": null}]},
            // Base64 of "blob-" and one byte more.
            "blob": format!("YmxvYi0{}", ["A", "E", "I", "M"][number % 4]),
        });
        if let (true, Some(fields)) = (dice.percent(8), data.as_object_mut()) {
            fields.remove("password");
        }
        data
    }
}

/// One source of an `OkmsSecret`.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) pin: Option<u32>,
    pub(super) prefix: Option<String>,
    pub(super) optional: bool,
    pub(super) keys: Option<Value>,
}

#[derive(Clone)]
pub(super) struct Spec {
    /// One source stands without a list.
    pub(super) sources: Vec<Source>,
    pub(super) listed: bool,
    pub(super) store: &'static str,
    pub(super) on_conflict: Option<&'static str>,
    pub(super) interval: Option<&'static str>,
    pub(super) policy: Option<&'static str>,
    pub(super) suspend: bool,
    pub(super) target: Option<String>,
    pub(super) creation: Option<&'static str>,
    pub(super) kind: Option<&'static str>,
    pub(super) immutable: bool,
    pub(super) template: Option<Value>,
}

impl Spec {
    pub(super) fn merges(&self) -> bool {
        self.creation == Some("Merge")
    }

    pub(super) fn target<'a>(&'a self, name: &'a str) -> &'a str {
        self.target.as_deref().unwrap_or(name)
    }

    pub(super) fn to_json(&self) -> Value {
        let mut spec = Map::new();
        let mut set = |name: &str, value: Option<Value>| value.map(|value| spec.insert(name.to_owned(), value));
        if self.store != DEFAULT {
            let (kind, name) = self.store.split_once('/').unwrap_or_default();
            set("storeRef", Some(json!({"kind": kind, "name": name})));
        }
        if self.listed {
            let sources = self.sources.iter().map(Source::to_json).collect();
            set("sources", Some(sources));
        } else if let Some(source) = self.sources.first() {
            for (name, value) in source.to_json().as_object().into_iter().flatten() {
                set(name, Some(value.clone()));
            }
        }
        set("onKeyConflict", self.on_conflict.map(Value::from));
        set("refreshInterval", self.interval.map(Value::from));
        set("withdrawalPolicy", self.policy.map(Value::from));
        set("suspend", self.suspend.then_some(Value::Bool(true)));
        let mut target = Map::new();
        let mut set = |name: &str, value: Option<Value>| value.map(|value| target.insert(name.to_owned(), value));
        set("name", self.target.clone().map(Value::from));
        set("creationPolicy", self.creation.map(Value::from));
        set("type", self.kind.map(Value::from));
        set("immutable", self.immutable.then_some(Value::Bool(true)));
        set("template", self.template.clone());
        if !target.is_empty() {
            spec.insert("target".to_owned(), Value::Object(target));
        }
        Value::Object(spec)
    }
}

impl Source {
    fn to_json(&self) -> Value {
        let mut source = Map::from_iter([("path".to_owned(), json!(self.path))]);
        let mut set = |name: &str, value: Option<Value>| value.map(|value| source.insert(name.to_owned(), value));
        set("version", self.pin.map(Value::from));
        set("prefix", self.prefix.clone().map(Value::from));
        set("keys", self.keys.clone());
        set("optional", self.optional.then_some(Value::Bool(true)));
        Value::Object(source)
    }
}

/// Rules for keys, as somebody might write them; with a prefix they bear other names.
pub(super) fn some_keys(dice: &mut Dice) -> Option<Value> {
    let all = [
        json!({"to": "USER", "from": "user"}),
        json!({"to": "PASSWORD", "from": "password"}),
        json!({"to": "ca.crt", "from": "/tls/ca"}),
        json!({"to": "maybe", "from": "nothing-of-this-name", "optional": true}),
        json!({"to": "config.json"}),
        json!({"to": "blob", "from": "blob", "decode": "Base64"}),
        json!({"to": "deep", "from": "/tls/depth"}),
    ];
    let chosen: Vec<_> = all.into_iter().filter(|_| dice.percent(40)).collect();
    (!chosen.is_empty()).then_some(Value::Array(chosen))
}

const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
const DOCKER: &str = "kubernetes.io/dockerconfigjson";

/// What a content may be made to fit, or not.
pub(super) fn some_type(dice: &mut Dice) -> Option<&'static str> {
    dice.pick(&["chaos.example/typed", BASIC_AUTH, BASIC_AUTH, DOCKER]).copied()
}

/// What makes text of the fields; seldom of one that there is not.
pub(super) fn some_template(dice: &mut Dice) -> Option<Value> {
    let texts = [
        json!({"application.properties": "user={{ user }}\npassword={{ password }}\n"}),
        json!({"url": "db://{{ user | upper }}:{{ password | b64encode }}@host:{{ data['port'] }}/"}),
        json!({"more": "{{ nothing | default('none') }}", "user": "{{ user | trim }}!"}),
        json!({"ca.json": "{{ tls }}", "twice": "{{ port }}{{ port }}"}),
        json!({"lost": "{{ nothing }}"}),
    ];
    let weights: Vec<_> = [4, 3, 3, 3, 1].into_iter().zip(&texts).collect();
    let mut template = json!({"data": dice.weighted(&weights)?});
    if let (true, Some(fields)) = (dice.percent(50), template.as_object_mut()) {
        fields.insert("mode".to_owned(), json!("Merge"));
    }
    Some(template)
}

/// The configuration of a registry, or something else under its name.
fn some_registry(dice: &mut Dice) -> Option<Value> {
    const RIGHT: &str = r#"{"auths": {"r.example.com": {"username": "{{ user }}", "password": "{{ password }}"}}}"#;
    let text = dice.pick(&[RIGHT, RIGHT, RIGHT, r#"{"auths": "{{ user }}"}"#, "{{ user }}"])?;
    Some(json!({"data": {".dockerconfigjson": text}}))
}

/// A spec that the API server takes.
pub(super) fn some_spec(dice: &mut Dice, world: &World, object: &Key) -> Spec {
    let store = match dice.below(10) {
        0..2 => SECOND,
        2..4 if object.namespace == WITH_STORE => OWN,
        _ => DEFAULT,
    };
    let merges = dice.percent(12);
    let several = dice.percent(30);
    let count = if several { 2 + dice.below(2) } else { 1 };
    let last_wins = several && dice.percent(30);
    let mut sources: Vec<Source> = Vec::new();
    for index in 0..count {
        let path = some_path(dice);
        // The API server lets a path be named twice, but nothing is gained by it.
        if sources.iter().any(|source| source.path == path) {
            continue;
        }
        let prefix = match (merges, several) {
            (true, _) => Some(format!("{}_{index}_", object.name)),
            (false, true) if !last_wins && dice.percent(95) => Some(format!("S{index}_")),
            _ => None,
        };
        let optional = several && dice.percent(40);
        sources.push(Source { pin: some_pin(dice, world, &path), path, prefix, optional, keys: None });
    }
    for source in &mut sources {
        source.keys = if dice.percent(35) { some_keys(dice) } else { None };
    }
    let plain = !several && !merges && sources.iter().all(|source| source.keys.is_none());
    let template = if plain && dice.percent(25) { some_template(dice) } else { None };
    let kind = if !merges && dice.percent(12) { some_type(dice) } else { None };
    if let (Some(BASIC_AUTH), [source]) = (kind, sources.as_mut_slice())
        && dice.percent(70)
    {
        source.keys = Some(json!([{"to": "username", "from": "user"}, {"to": "password", "from": "password"}]));
    }
    let template = if kind == Some(DOCKER) && plain { some_registry(dice) } else { template };
    let name = if merges {
        dice.pick(&HOST_NAMES).map(|host| (*host).to_owned())
    } else if dice.percent(12) {
        dice.pick(&FOREIGN_NAMES).map(|foreign| (*foreign).to_owned())
    } else {
        None
    };
    Spec {
        sources,
        listed: several,
        store,
        on_conflict: last_wins.then_some("LastWins"),
        interval: some_interval(dice),
        policy: some_policy(dice),
        suspend: false,
        target: name,
        creation: if merges { Some("Merge") } else { some_creation(dice) },
        kind,
        immutable: !merges && dice.percent(6),
        template,
    }
}

pub(super) fn some_path(dice: &mut Dice) -> String {
    dice.pick(&paths()).cloned().unwrap_or_default()
}

/// Mostly none; else a version that is there, or one that is not.
pub(super) fn some_pin(dice: &mut Dice, world: &World, path: &str) -> Option<u32> {
    if !dice.percent(25) {
        return None;
    }
    let current = world.okms.get(path).map_or(0, |secret| secret.current);
    let highest = usize::try_from(current).unwrap_or(0) + usize::from(dice.percent(10));
    u32::try_from(1 + dice.below(highest)).ok()
}

pub(super) fn some_interval(dice: &mut Dice) -> Option<&'static str> {
    dice.weighted(&[(6, None), (2, Some("1s")), (1, Some("5s")), (1, Some("0s"))]).flatten()
}

pub(super) fn some_policy(dice: &mut Dice) -> Option<&'static str> {
    dice.weighted(&[(5, None), (3, Some("Delete")), (2, Some("Retain"))]).flatten()
}

pub(super) fn some_creation(dice: &mut Dice) -> Option<&'static str> {
    dice.weighted(&[(6, None), (1, Some("Owner")), (2, Some("Orphan"))]).flatten()
}
