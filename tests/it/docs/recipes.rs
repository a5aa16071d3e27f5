//! Runs the recipes of `docs/recipes.md`: every section is one, and its blocks are what happens, in their order.
//!
//! | block | what happens |
//! |---|---|
//! | `json`, after a paragraph with "`the/path` in OKMS" | it is written to this path |
//! | `yaml` of an `OkmsSecret` | it is applied |
//! | `yaml` of a Secret with the annotation `okms-operator.io/allow` | somebody else makes it |
//! | `yaml` of another Secret | the Secret of this name becomes exactly this |
//! | `yaml` of a ConfigMap | somebody else makes or changes it |
//! | `console` of kubectl | it is run until it prints what stands there |
//! | `yaml` of anything else | nothing; but the Secrets and keys that it uses must be those of the recipe |
//!
//! The namespace and the store are those of the test, whatever the page says. A text in `<…>` stands for one that is made here, and
//! `<bcrypt of …>` for any hash of this password.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use okms_sim::Validity;
use serde_json::{Value, json};

use super::blocks::{self, Block};
use crate::{
    cluster,
    world::{World, eventually, ready_of},
};

const PAGE: &str = "docs/recipes.md";

/// What only the owner of a Secret writes; see `yaml` above.
const ALLOW: &str = "okms-operator.io/allow";

/// One section of the page.
struct Recipe {
    title: String,
    steps: Vec<Step>,
}

struct Step {
    place: String,
    action: Action,
}

enum Action {
    /// Writes to a path in OKMS.
    Put(String, Value),
    /// Applies an `OkmsSecret`.
    Apply(Value),
    /// Makes a Secret as somebody else.
    Make(Value),
    /// Makes or changes a ConfigMap as somebody else.
    Configure(Value),
    /// Waits for a Secret.
    Expect(Value),
    /// Runs a command and waits for what it prints.
    Run(String, String),
    /// A manifest that uses a Secret.
    Use(Value),
}

fn recipes() -> Vec<Recipe> {
    let mut recipes: Vec<Recipe> = Vec::new();
    for block in blocks::read(&PAGE.into()) {
        if recipes.last().is_none_or(|recipe| recipe.title != block.section) {
            recipes.push(Recipe { title: block.section.clone(), steps: Vec::new() });
        }
        let place = block.place();
        let steps = &mut recipes.last_mut().unwrap().steps;
        steps.extend(actions(&block).into_iter().map(|action| Step { place: place.clone(), action }));
    }
    recipes
}

fn actions(block: &Block) -> Vec<Action> {
    let place = block.place();
    match block.language.as_str() {
        "json" => {
            let before = block.lead.split_once("` in OKMS").and_then(|(before, _)| before.rsplit_once('`'));
            let (_, path) = before.unwrap_or_else(|| panic!("{place}: say above it \"`the/path` in OKMS\""));
            let data = serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{place}: {error}"));
            vec![Action::Put(path.to_owned(), data)]
        }
        "console" => {
            let shown = block.text.strip_prefix("$ ").and_then(|text| text.split_once('\n'));
            let (command, output) =
                shown.unwrap_or_else(|| panic!("{place}: it is not `$ `, a command, what it prints"));
            vec![Action::Run(command.to_owned(), output.trim_end().to_owned())]
        }
        "yaml" => block
            .manifests()
            .into_iter()
            .map(|object| match object["kind"].as_str().unwrap() {
                "OkmsSecret" => Action::Apply(object),
                "Secret" if object["metadata"]["annotations"][ALLOW].is_string() => Action::Make(object),
                "Secret" => Action::Expect(object),
                "ConfigMap" => Action::Configure(object),
                _ => Action::Use(object),
            })
            .collect(),
        language => panic!("{place}: a recipe has no use for a block of {language}"),
    }
}

/// What the placeholders of the page stand for, in one run.
struct Placeholders(BTreeMap<&'static str, String>);

impl Placeholders {
    fn new(world: &World) -> Self {
        let pair = world.domain.issue_client_certificate(Validity::days(1)).unwrap();
        // Without the line break at its end, which a page shows where there is one.
        let pem = |text: &str| text.trim_end().to_owned();
        // The operator does not read it; a file of several lines is what it is.
        let ssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\nBBBB\n-----END OPENSSH PRIVATE KEY-----\n".to_owned();
        Self(BTreeMap::from([
            ("<certificate in PEM>", pem(&pair.cert_pem)),
            ("<certificate of the authority in PEM>", pem(&world.sim.server_ca_pem())),
            ("<private key in PEM>", pem(&pair.key_pem)),
            ("<private key of SSH>", ssh),
        ]))
    }

    fn fill(&self, place: &str, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let filled = self.0.iter().fold(text.clone(), |text, (name, filled)| text.replace(name, filled));
                let left = filled.split_once('<').map(|(_, left)| left);
                assert!(
                    left.is_none_or(|left| left.starts_with(BCRYPT)),
                    "{place}: {text} has none of {:?}",
                    self.0.keys()
                );
                json!(filled)
            }
            Value::Array(items) => items.iter().map(|item| self.fill(place, item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| (name.clone(), self.fill(place, value)));
                Value::Object(fields.collect())
            }
            other => other.clone(),
        }
    }
}

/// What a page writes after `<` for a hash, before the password.
const BCRYPT: &str = "bcrypt of ";

/// A real text as the page writes it: with `<bcrypt of …>` for each hash that is one of the password that stands there on the page.
fn with_hashes_named(page: &[u8], real: &[u8]) -> Option<Vec<u8>> {
    const LENGTH: usize = 60;
    let (mut page, mut real) = (std::str::from_utf8(page).ok()?, std::str::from_utf8(real).ok()?);
    let mut named = String::new();
    while let Some((before, rest)) = page.split_once(&format!("<{BCRYPT}")) {
        let (password, after) = rest.split_once('>')?;
        let (hash, left) = real.strip_prefix(before)?.split_at_checked(LENGTH)?;
        if !bcrypt::verify(password, hash).unwrap_or(false) {
            return None;
        }
        write!(named, "{before}<{BCRYPT}{password}>").unwrap();
        (page, real) = (after, left);
    }
    Some((named + real).into_bytes())
}

#[test]
fn only_a_hash_of_the_password_on_the_page_passes_for_it() {
    let hash = |password: &str| bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap().to_string();
    let (one, two) = (hash("one"), hash("two"));
    let page = "a:<bcrypt of one>\nb:<bcrypt of two>\n";
    let as_shown =
        |real: &str| with_hashes_named(page.as_bytes(), real.as_bytes()).is_some_and(|real| real == page.as_bytes());
    assert!(as_shown(&format!("a:{one}\nb:{two}\n")));
    for wrong in
        ["", "a:", page, &format!("a:{two}\nb:{one}\n"), &format!("a:{one}\nb:{two}"), &format!("a:{one}\nc:{two}\n")]
    {
        assert!(!as_shown(wrong), "{wrong}");
    }
    assert_eq!(with_hashes_named(b"plain", b"other").as_deref(), Some(b"other".as_slice()));
}

/// A Secret as a page shows it, to compare with a real one.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    type_: String,
    data: BTreeMap<String, Vec<u8>>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Shown {
    fn of_page(place: &str, secret: &Value) -> Self {
        let texts = |fields: &Value| -> BTreeMap<String, String> {
            serde_json::from_value(fields.clone()).unwrap_or_else(|error| panic!("{place}: {error}"))
        };
        let optional = |fields: &Value| if fields.is_null() { BTreeMap::new() } else { texts(fields) };
        let mut data: BTreeMap<_, _> =
            optional(&secret["stringData"]).into_iter().map(|(key, text)| (key, text.into_bytes())).collect();
        for (key, text) in optional(&secret["data"]) {
            data.insert(key, BASE64_STANDARD.decode(text).unwrap_or_else(|error| panic!("{place}: {error}")));
        }
        Self {
            type_: secret["type"].as_str().unwrap_or_else(|| panic!("{place}: say the type of the Secret")).to_owned(),
            data,
            labels: optional(&secret["metadata"]["labels"]),
            annotations: optional(&secret["metadata"]["annotations"]),
        }
    }

    /// A real one, without the labels and annotations that pages do not show.
    fn of_cluster(secret: &Secret) -> Self {
        let shown = |all: &BTreeMap<String, String>| {
            let shown = all.iter().filter(|(name, _)| {
                !name.contains("okms-operator.io/") && name.as_str() != "app.kubernetes.io/managed-by"
            });
            shown.map(|(name, text)| (name.clone(), text.clone())).collect()
        };
        Self {
            type_: secret.type_.clone().unwrap_or_default(),
            data: secret.data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone())).collect(),
            labels: shown(secret.labels()),
            annotations: shown(secret.annotations()),
        }
    }

    /// Says in what the real one differs.
    fn difference(&self, mut real: Self) -> Option<String> {
        for (key, page) in &self.data {
            if let Some(bytes) = real.data.get_mut(key)
                && let Some(named) = with_hashes_named(page, bytes)
            {
                *bytes = named;
            }
        }
        let text = |bytes: Option<&Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let keys: BTreeSet<_> = self.data.keys().chain(real.data.keys()).collect();
        let differing = keys.into_iter().find(|key| self.data.get(*key) != real.data.get(*key));
        if let Some(key) = differing {
            let (page, cluster) = (text(self.data.get(key)), text(real.data.get(key)));
            return Some(format!("{key} is {cluster:?} and not {page:?}"));
        }
        (*self != real).then(|| format!("it is {real:?} and not {self:?}"))
    }
}

async fn run(number: usize, recipe: &Recipe) {
    let world = World::new(&format!("recipe-{number}")).await;
    let placeholders = Placeholders::new(&world);
    // Which OkmsSecret makes which Secret.
    let mut makers = BTreeMap::new();
    for Step { place, action } in &recipe.steps {
        match action {
            Action::Put(path, data) => {
                world.domain.put(path, placeholders.fill(place, data));
            }
            Action::Apply(object) => {
                let name = object["metadata"]["name"].as_str().unwrap();
                let mut spec = object["spec"].clone();
                spec["storeRef"] = json!({"name": world.name});
                let object = world.apply(name, spec).await;
                makers.insert(object.target_name(), name);
            }
            Action::Make(secret) => {
                let mut secret = secret.clone();
                secret["metadata"]["namespace"] = json!(world.name);
                let secret = serde_json::from_value(secret).unwrap_or_else(|error| panic!("{place}: {error}"));
                world.secrets().create(&PostParams::default(), &secret).await.unwrap();
            }
            Action::Configure(map) => {
                let name = map["metadata"]["name"].as_str().unwrap();
                let mut map = map.clone();
                map["metadata"]["namespace"] = json!(world.name);
                let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.name);
                maps.patch(name, &PatchParams::apply("somebody").force(), &Patch::Apply(map)).await.unwrap();
            }
            Action::Expect(secret) => {
                let name = secret["metadata"]["name"].as_str().unwrap();
                let Some(maker) = makers.get(name) else {
                    panic!("{place}: no OkmsSecret above makes the Secret {name}")
                };
                let expected = Shown::of_page(place, &placeholders.fill(place, secret));
                eventually(&format!("{place}: the Secret {name} is as shown"), async || {
                    match ready_of(&world.object(maker).await) {
                        Some((status, ..)) if status == "True" => {}
                        other => return Err(format!("the OkmsSecret {maker} is {other:?}")),
                    }
                    let real = world.secret(name).await.ok_or("it is not there")?;
                    expected.difference(Shown::of_cluster(&real)).map_or(Ok(()), Err)
                })
                .await;
            }
            Action::Run(command, output) => {
                let arguments = arguments(place, command, &world.name);
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                eventually(&format!("{place}: {command} prints {output}"), async || {
                    let printed = cluster::kubectl(cluster::shared(), &arguments, "");
                    if printed.ok && printed.stdout.trim_end() == output { Ok(()) } else { Err(printed) }
                })
                .await;
            }
            Action::Use(_) => {}
        }
    }
}

/// The arguments of a kubectl command, in the namespace of the test.
fn arguments(place: &str, command: &str, namespace: &str) -> Vec<String> {
    // What stands between quotes is one word.
    let mut words: Vec<String> = Vec::new();
    for (n, part) in command.split('\'').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    assert_eq!(words.remove(0), "kubectl", "{place}: only kubectl is run here");
    let at = words.iter().position(|word| word == "-n").unwrap_or_else(|| panic!("{place}: say the namespace with -n"));
    namespace.clone_into(&mut words[at + 1]);
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recipe_makes_the_secret_that_it_shows() {
    let recipes = recipes();
    assert!(recipes.len() >= 10, "recipes were lost");
    join_all(recipes.iter().enumerate().map(|(number, recipe)| run(number, recipe))).await;
}

#[test]
fn every_recipe_is_one_that_can_fail() {
    for Recipe { title, steps } in recipes() {
        let last = |is: fn(&Action) -> bool| steps.iter().rposition(|step| is(&step.action));
        let put = last(|action| matches!(action, Action::Put(..)));
        let applied = last(|action| matches!(action, Action::Apply(_)));
        let configured = last(|action| matches!(action, Action::Configure(_)));
        let expected = last(|action| matches!(action, Action::Expect(_)));
        assert!(!title.is_empty(), "{PAGE}: a block is in no section");
        assert!(put.is_some(), "{PAGE}: {title}: nothing is in OKMS");
        assert!(applied.is_some(), "{PAGE}: {title}: there is no OkmsSecret");
        assert!(
            expected > put.max(applied).max(configured),
            "{PAGE}: {title}: no Secret is shown after the last change"
        );
    }
}

/// The Secrets, and keys of them, that a manifest uses.
fn used(value: &Value, found: &mut Vec<(String, Option<String>)>) {
    let mut note = |name: &Value, key: Option<&Value>| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        found.extend(text(name).map(|name| (name, key.and_then(text))));
    };
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                match field.as_str() {
                    "secretKeyRef" => note(&value["name"], Some(&value["key"])),
                    "secretRef" => note(&value["name"], None),
                    "nginx.ingress.kubernetes.io/auth-secret" => note(value, Some(&json!("auth"))),
                    "secretName" => {
                        note(value, None);
                        for item in fields.get("items").and_then(Value::as_array).into_iter().flatten() {
                            note(value, Some(&item["key"]));
                        }
                    }
                    "imagePullSecrets" => {
                        value.as_array().into_iter().flatten().for_each(|one| note(&one["name"], None));
                    }
                    _ => {}
                }
            }
            fields.values().for_each(|value| used(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| used(item, found)),
        _ => {}
    }
}

#[test]
fn what_uses_a_recipe_names_what_it_makes() {
    let mut uses = 0;
    for Recipe { steps, .. } in recipes() {
        let mut made: Vec<(String, BTreeSet<String>)> = Vec::new();
        for Step { place, action } in &steps {
            match action {
                Action::Expect(secret) => {
                    let keys = ["stringData", "data"].map(|part| secret[part].as_object().into_iter().flatten());
                    let keys = keys.into_iter().flatten().map(|(key, _)| key.clone()).collect();
                    made.push((secret["metadata"]["name"].as_str().unwrap().to_owned(), keys));
                }
                Action::Use(object) => {
                    let mut found = Vec::new();
                    used(object, &mut found);
                    assert!(!found.is_empty(), "{place}: it uses no Secret");
                    for (name, key) in found {
                        let there = made
                            .iter()
                            .any(|(made, keys)| *made == name && key.as_ref().is_none_or(|key| keys.contains(key)));
                        assert!(there, "{place}: nothing above makes the Secret {name} with {key:?}");
                        uses += 1;
                    }
                }
                _ => {}
            }
        }
    }
    assert!(uses > 5, "uses were lost");
}
