//! A tenant against the others: somebody with `edit` and the chart's role for stores in one namespace, beside another team at a store that
//! both use. Whatever it makes there, nothing from outside its grant reaches it, nobody else loses anything, and its own store lends it
//! nothing of the shared one.
//!
//! The judge does not ask the operator: it looks at the Secrets, and at what the simulator was asked for. Every value here is named after
//! the path that it stands at.

use futures::future::join_all;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Secret},
    events::v1::Event,
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use okms_operator::api::{OkmsSecret, OkmsStore};
use okms_sim::{Action, Fault, Grants, Operation, Options, Sim};
use serde_json::{Value, json};

use crate::world::{CREDENTIAL, World, client_config, eventually, holds, ready_of};

const API: &str = "okms-operator.io/v1alpha1";
const OWNER: &str = "okms-operator.io/owner";
const SOURCE: &str = "okms-operator.io/source";
const ALLOW: &str = "okms-operator.io/allow";
const MANAGED: &str = "okms-operator.io/managed";

/// What nobody but the other team was granted, and what nobody was.
const BEYOND: &[&str] = &["theirs/db", "theirs/kept", "theirs/hangs", "theirs/unread", "nobodys/db", "mine"];

/// What an OKMS administrator did not grant to the tenant's own identity.
const UNGRANTED: &str = "ungranted/db";

/// Two teams at one store, one of which is the attacker.
struct Town {
    world: World,
    mine: String,
    theirs: String,
    /// The attacker, in the eyes of the API server.
    mallory: Client,
}

impl Town {
    async fn new(name: &str) -> Self {
        let mut world = World::without_operator(name).await;
        let mine = world.another_namespace("mine", json!({"tier": "gold"})).await;
        let theirs = world.another_namespace("theirs", json!({})).await;
        let mallory = tenant(&world, &mine).await;
        for path in
            BEYOND.iter().chain(&[UNGRANTED, "gold/db", "gold/hangs", "mine/db", "mine/other", "own/db", "shared/ca"])
        {
            world.domain.put(path, json!({"v": value_at(path)}));
        }
        world
            .create_store(json!({"access": [
                {"namespaces": [mine], "paths": ["mine/*", "shared/ca"]},
                {"namespaceSelector": {"matchLabels": {"tier": "gold"}}, "namespaces": [mine], "paths": ["gold/*"]},
                {"namespaces": [theirs], "paths": ["theirs/*", "shared/ca"]},
            ]}))
            .await;
        // The operator's own namespace has a credential under the name that a store of a namespace would look for.
        world.put_credential(&world.certificate).await;
        let mut config = world.config();
        config.watch_namespaces = vec![mine.clone(), theirs.clone()];
        world.start_with(config);
        Self { world, mine, theirs, mallory }
    }

    fn objects(&self) -> Api<OkmsSecret> {
        Api::namespaced(self.mallory.clone(), &self.mine)
    }

    fn stores(&self) -> Api<OkmsStore> {
        Api::namespaced(self.mallory.clone(), &self.mine)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.mallory.clone(), &self.mine)
    }

    /// The attacker applies an `OkmsSecret`.
    async fn asks(&self, name: &str, mut spec: Value) {
        let fields = spec.as_object_mut().unwrap();
        fields.entry("storeRef").or_insert_with(|| json!({"name": self.world.name}));
        let object = json!({"apiVersion": API, "kind": "OkmsSecret", "metadata": {"name": name}, "spec": spec});
        let params = PatchParams::apply("mallory").force();
        self.objects().patch(name, &params, &Patch::Apply(object)).await.unwrap();
    }

    /// The attacker makes a Secret, in the name of any field manager.
    async fn forges(&self, name: &str, manager: &str, labels: Value, annotations: Value) -> Secret {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "stringData": {"forged": "by mallory"},
        });
        let params = PatchParams::apply(manager).force();
        self.secrets().patch(name, &params, &Patch::Apply(secret)).await.unwrap()
    }

    async fn tells(&self, name: &str, reason: &str) -> String {
        eventually(&format!("{name} is told {reason}"), async || {
            match ready_of(&self.objects().get(name).await.unwrap()) {
                Some((_, why, message)) if why == reason => Ok(message),
                other => Err(other),
            }
        })
        .await
    }

    /// So long as a new object of each team comes to its end, everything before it was looked at, too.
    async fn goes_on(&self, round: &str) {
        let (name, path) = (format!("goes-on-{round}"), "mine/other");
        self.asks(&name, json!({"path": path})).await;
        self.world.apply_in(&self.theirs, &name, json!({"path": "shared/ca"})).await;
        self.tells(&name, "Synced").await;
        self.world.ready_in(&self.theirs, &name, "True", "Synced").await;
        self.world.after_checks(4).await;
    }

    /// What somebody reads who looks at everything in the attacker's namespace.
    async fn everything(&self) -> String {
        let (client, all) = (self.world.client.clone(), ListParams::default());
        let mut text = String::new();
        for secret in Api::<Secret>::namespaced(client.clone(), &self.mine).list(&all).await.unwrap() {
            for (key, value) in secret.data.iter().flatten() {
                text.extend([key, "=", &String::from_utf8_lossy(&value.0), "\n"]);
            }
            text += &serde_json::to_string(&secret.metadata).unwrap();
        }
        for object in self.objects().list(&all).await.unwrap() {
            text += &serde_json::to_string(&object).unwrap();
        }
        for store in self.stores().list(&all).await.unwrap() {
            text += &serde_json::to_string(&store).unwrap();
        }
        for event in Api::<Event>::namespaced(client, &self.mine).list(&all).await.unwrap() {
            text += &serde_json::to_string(&event).unwrap();
        }
        text + &self.world.operator.as_ref().unwrap().metrics.encode()
    }

    /// The judge of values.
    async fn assert_holds_nothing_of(&self, paths: &[&str]) {
        let everything = self.everything().await;
        for path in paths {
            let value = value_at(path);
            assert!(!everything.contains(&value), "{value} got out: {everything}");
        }
    }

    /// The judge of requests: as many as before, on everything that the attacker may not have asked for.
    fn asked(&self) -> Vec<(String, String, u64)> {
        let requests = self.world.sim.counters().requests;
        let beyond = requests.into_iter().filter(|((_, path), _)| BEYOND.contains(&path.as_str()));
        beyond.map(|((operation, path), count)| (operation, path, count)).collect()
    }

    /// The other team has its Secret, which its own object made of a path that is never asked for by itself.
    async fn settle_theirs(&self) -> Secret {
        let spec = json!({"path": "theirs/db", "refreshInterval": "0s"});
        self.world.apply_in(&self.theirs, "db", spec).await;
        self.world.ready_in(&self.theirs, "db", "True", "Synced").await;
        self.their_secret().await
    }

    async fn their_secret(&self) -> Secret {
        self.world.secrets_in(&self.theirs).get("db").await.unwrap()
    }

    fn evidence(&self, path: &str) -> String {
        json!([{"okmsId": self.world.domain.okms_id(), "path": path, "version": 1, "createdAt": "2020-01-01T00:00:00Z"}])
            .to_string()
    }
}

fn value_at(path: &str) -> String {
    format!("value-at-{}-only", path.replace('/', "-"))
}

/// Somebody with `edit` and the role for stores, in one namespace.
async fn tenant(world: &World, namespace: &str) -> Client {
    for role in ["edit", "guarded-okms-operator-store-editor"] {
        let binding = json!({
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}],
        });
        let api: Api<RoleBinding> = Api::namespaced(world.client.clone(), namespace);
        api.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    }
    let mut config = client_config().await;
    config.headers.push(("impersonate-user".parse().unwrap(), "mallory".parse().unwrap()));
    config.headers.push(("impersonate-group".parse().unwrap(), "system:authenticated".parse().unwrap()));
    let client = Client::try_from(config).unwrap();
    let (objects, stores) = (
        Api::<OkmsSecret>::namespaced(client.clone(), namespace),
        Api::<OkmsStore>::namespaced(client.clone(), namespace),
    );
    eventually("the roles are bound and aggregated", async || {
        objects.list(&ListParams::default()).await?;
        stores.list(&ListParams::default()).await
    })
    .await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn no_object_or_forgery_of_a_tenant_reaches_beyond_its_grant() {
    let town = Town::new("forger").await;
    // Nor has it other ways there.
    let namespaces: Api<Namespace> = Api::all(town.mallory.clone());
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "theirs"}}}));
    assert!(namespaces.patch(&town.mine, &PatchParams::default(), &label).await.is_err());
    let elsewhere: Api<OkmsSecret> = Api::namespaced(town.mallory.clone(), &town.theirs);
    assert!(elsewhere.list(&ListParams::default()).await.is_err());

    let theirs = town.settle_theirs().await;
    let uid = town.world.objects_in(&town.theirs).get("db").await.unwrap().uid().unwrap();
    // A value that stays in memory for who reads it, since the other source of that object does not come.
    town.world.sim.fault(Fault::latency(std::time::Duration::from_hours(1)).on_path("theirs/hangs"));
    let both = json!({"sources": [{"path": "theirs/kept", "prefix": "a-"}, {"path": "theirs/hangs"}], "refreshInterval": "0s"});
    town.world.apply_in(&town.theirs, "kept", both).await;
    let map = json!({"metadata": {"name": "templates"}, "data": {"v": value_at("nobodys/db")}});
    let maps: Api<ConfigMap> = Api::namespaced(town.world.client.clone(), &town.theirs);
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    town.goes_on("before").await;
    let before: Vec<_> =
        town.asked().into_iter().filter(|(_, path, _)| path != "theirs/hangs" && path != "theirs/kept").collect();

    // What the target says of itself is only what somebody wrote there.
    let managed = || json!({MANAGED: "true"});
    let owned = |owner: &str, path: &str| json!({OWNER: owner, SOURCE: town.evidence(path)});
    let share =
        json!({"owner": "merges", "sources": serde_json::from_str::<Value>(&town.evidence("theirs/db")).unwrap()});
    for (name, manager, labels, annotations) in [
        ("forged-evidence", "okms-operator", managed(), owned("forged-evidence", "theirs/db")),
        ("forged-other", "okms-operator", managed(), owned("denied", "theirs/unread")),
        ("forged-theirs", "okms-operator", managed(), owned("db", "theirs/db")),
        ("merged", "mallory", json!({}), json!({ALLOW: "merges"})),
    ] {
        town.forges(name, manager, labels, annotations).await;
    }
    // As if an object of theirs had merged into a Secret of the attacker's.
    let annotations = json!({ALLOW: "merges", format!("merged.okms-operator.io/{uid}"): share.to_string()});
    town.forges("merged-theirs", &format!("okms-operator/{uid}"), managed(), annotations).await;

    let text = "{{ v }}{{ data['v'] }}";
    let denied = [
        ("denied", json!({"path": "theirs/db"})),
        ("pinned", json!({"path": "theirs/db", "version": 1})),
        ("kept", json!({"path": "theirs/kept"})),
        ("nowhere", json!({"path": "theirs/nothing-is-there"})),
        ("folder", json!({"path": "mine"})),
        (
            "one-of-two",
            json!({"sources": [{"path": "mine/db"}, {"path": "theirs/db", "prefix": "x-", "optional": true}]}),
        ),
        ("last-wins", json!({"sources": [{"path": "theirs/kept"}, {"path": "mine/db"}], "onKeyConflict": "LastWins"})),
        ("whole", json!({"path": "nobodys/db", "keys": [{"to": "all"}]})),
        (
            "rendered",
            json!({"path": "theirs/db", "target": {"template": {"data": {"v": text}, "metadata": {"labels": {"v": text}}}}}),
        ),
        ("forged-evidence", json!({"path": "theirs/db"})),
        ("forged-theirs", json!({"path": "theirs/db", "target": {"name": "forged-theirs"}})),
        ("merges", json!({"path": "theirs/db", "target": {"name": "merged", "creationPolicy": "Merge"}})),
        (
            "orphan",
            json!({"path": "theirs/unread", "target": {"creationPolicy": "Orphan"}, "withdrawalPolicy": "Retain"}),
        ),
    ];
    join_all(denied.iter().map(async |(name, spec)| town.asks(name, spec.clone()).await)).await;
    let mut said = Vec::new();
    for (name, _) in &denied {
        said.push(town.tells(name, "AccessDenied").await);
    }
    // What is not granted is told in the same words, whether it is there or not.
    assert_eq!(said[0].replace("theirs/db", "it"), said[3].replace("theirs/nothing-is-there", "it"));

    // What is granted brings no more than itself: neither by names of another namespace's things, nor by keys of others.
    town.asks(
        "from-map",
        json!({"path": "mine/db", "target": {"template": {"templateFrom": [{"configMap": {"name": "templates"}}]}}}),
    )
    .await;
    assert!(town.tells("from-map", "TemplateFailed").await.contains("does not exist"));
    town.asks("merges", json!({"path": "mine/db", "target": {"name": "merged-theirs", "creationPolicy": "Merge"}}))
        .await;
    town.tells("merges", "Synced").await;
    let annotate = json!({"metadata": {"annotations": {"okms-operator.io/refresh": "now"}}});
    let refresh = Patch::Merge(&annotate);
    for name in ["denied", "kept", "one-of-two"] {
        town.objects().patch(name, &PatchParams::default(), &refresh).await.unwrap();
    }
    // One that may, then another one of its name that may not.
    town.asks("again", json!({"path": "mine/db"})).await;
    town.tells("again", "Synced").await;
    town.objects().delete("again", &DeleteParams::default()).await.unwrap();
    town.asks("again", json!({"path": "theirs/db"})).await;
    town.tells("again", "AccessDenied").await;
    town.goes_on("after").await;

    town.assert_holds_nothing_of(BEYOND).await;
    let after: Vec<_> =
        town.asked().into_iter().filter(|(_, path, _)| path != "theirs/hangs" && path != "theirs/kept").collect();
    assert_eq!(after, before, "something was asked for that only the attacker wants");
    let left = town.their_secret().await;
    assert_eq!((left.uid(), left.resource_version()), (theirs.uid(), theirs.resource_version()));
    // What the attacker made itself is as it made it.
    for name in ["forged-evidence", "forged-other", "forged-theirs", "merged"] {
        assert!(holds(&town.secrets().get(name).await.unwrap(), &[("forged", "by mallory")]), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_when_a_grant_is_lost_is_not_delivered() {
    let town = Town::new("late").await;
    let hangs = town.world.sim.fault(
        Fault::latency(std::time::Duration::from_hours(1)).on_path("gold/hangs").on(&[Operation::GetSecretRequest]),
    );
    // One value is here, and held for the other.
    town.asks("late", json!({"sources": [{"path": "gold/db"}, {"path": "gold/hangs", "prefix": "x-"}]})).await;
    town.world
        .sim
        .wait_until(|counters| {
            ["gold/db", "gold/hangs"].iter().all(|path| counters.of_on("GetSecretRequest", path) > 0)
        })
        .await;
    town.world.label_namespace(&town.mine, json!({"tier": null})).await;
    town.tells("late", "AccessDenied").await;
    town.world.sim.clear_fault(hangs);
    let asked = |town: &Town| ["gold/db", "gold/hangs"].map(|path| town.world.sim.counters().on(path));
    town.goes_on("one").await;
    let before = asked(&town);
    // It asks on, by all that wakes it.
    town.asks("late", json!({"sources": [{"path": "gold/db"}]})).await;
    town.asks("later", json!({"path": "gold/db"})).await;
    town.tells("late", "AccessDenied").await;
    town.tells("later", "AccessDenied").await;
    town.goes_on("two").await;
    assert_eq!(asked(&town), before, "asked for without a grant");
    town.assert_holds_nothing_of(&["gold/db", "gold/hangs"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_tenant_lends_it_nothing_of_the_shared_one() {
    let town = Town::new("lender").await;
    let world = &town.world;
    let theirs = town.settle_theirs().await;
    let before = town.asked();

    // The tenant's own identity at the same OKMS may read only what OKMS grants to it.
    let token = world.domain.issue_token();
    let grants = Grants::nothing().and(&[Action::SecretGet, Action::VersionGetData], &["own/*"]);
    world.domain.grant(&token, grants).unwrap();
    let secret = json!({"metadata": {"name": "token"}, "stringData": {"token": token}});
    town.secrets().create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    // A server of the tenant's own, at an address that is allowed.
    let trap = Sim::start(Options::default()).await.unwrap();
    let make = async |name: &str, change: Value| {
        let store = json!({"apiVersion": API, "kind": "OkmsStore", "metadata": {"name": name}, "spec": {
            "endpoint": world.sim.endpoint(),
            "okmsId": world.domain.okms_id(),
            "auth": {"token": {"secretRef": {"name": "token", "key": "token"}}},
            "ca": {"pem": world.sim.server_ca_pem()},
        }});
        let (stores, params) = (town.stores(), PatchParams::default());
        stores.create(&PostParams::default(), &serde_json::from_value(store).unwrap()).await.unwrap();
        // What the schema does not know is dropped.
        stores.patch(name, &params, &Patch::Merge(json!({"spec": change}))).await
    };
    let with = |certificate: Value| json!({"auth": {"token": null, "clientCertificate": certificate}});
    let by_secret = |namespace: &str| with(json!({"secretRef": {"name": CREDENTIAL, "namespace": namespace}}));
    let trapped = || json!({"endpoint": trap.endpoint(), "ca": {"pem": trap.server_ca_pem()}});
    // It has the name of the shared one, too.
    make(&world.name, json!({})).await.unwrap();
    make("no-credential", by_secret(&town.mine)).await.unwrap();
    make("of-the-operator", by_secret(&world.name)).await.unwrap();
    make("trap", trapped()).await.unwrap();
    make("mounted", with(json!({"mount": world.name}))).await.unwrap_err();

    let by = |name: &str, path: &str| json!({"storeRef": {"kind": "OkmsStore", "name": name}, "path": path});
    for (name, spec, reason) in [
        ("own", by(&world.name, "own/db"), "Synced"),
        ("ungranted", by(&world.name, UNGRANTED), "Forbidden"),
        ("no-credential", by("no-credential", UNGRANTED), "StoreNotReady"),
        ("of-the-operator", by("of-the-operator", UNGRANTED), "StoreNotReady"),
        ("trap", by("trap", UNGRANTED), "StoreNotReady"),
    ] {
        town.asks(name, spec).await;
        town.tells(name, reason).await;
    }
    for name in ["no-credential", "of-the-operator"] {
        let words = world.okms_store_ready(&town.mine, name, "False", "InvalidCredential").await;
        assert!(words.contains(&format!("Secret {}/{CREDENTIAL} does not exist", town.mine)), "{words}");
    }

    // What was read through one store is of no use at the other, however fast an object moves, and wherever it stops.
    let shared = |path: &str| json!({"storeRef": {"kind": "ClusterOkmsStore", "name": world.name}, "path": path});
    for round in 0..5 {
        for (name, path, end) in [("hops", "theirs/db", "AccessDenied"), ("hops-too", UNGRANTED, "AccessDenied")] {
            town.asks(name, by(&world.name, "own/db")).await;
            town.asks(name, shared(path)).await;
            town.asks(name, shared("mine/db")).await;
            town.asks(name, by(&world.name, UNGRANTED)).await;
            if round % 2 == 0 {
                town.asks(name, shared("mine/db")).await;
            }
            town.asks(name, shared(path)).await;
            town.tells(name, end).await;
        }
    }
    town.asks("hops", by(&world.name, UNGRANTED)).await;
    town.tells("hops", "Forbidden").await;
    // The store goes, and comes back under its name with another server behind it.
    town.stores().delete(&world.name, &DeleteParams::default()).await.unwrap();
    town.tells("own", "StoreNotFound").await;
    make(&world.name, trapped()).await.unwrap();
    town.tells("own", "StoreNotReady").await;
    town.goes_on("after").await;

    let beyond: Vec<&str> = BEYOND.iter().copied().chain([UNGRANTED]).collect();
    town.assert_holds_nothing_of(&beyond).await;
    assert_eq!(town.asked(), before, "something was asked for that only the attacker wants");
    let identities = trap.counters().identities;
    assert!(!identities.contains_key(&world.certificate.serial), "the shared credential was shown to {identities:?}");
    let left = town.their_secret().await;
    assert_eq!((left.uid(), left.resource_version()), (theirs.uid(), theirs.resource_version()));
    // Nobody else was kept from anything.
    world.domain.put("theirs/db", json!({"v": "new"}));
    let refresh = Patch::Merge(json!({"metadata": {"annotations": {"okms-operator.io/refresh": "now"}}}));
    world.objects_in(&town.theirs).patch("db", &PatchParams::default(), &refresh).await.unwrap();
    eventually("the other team has what is new", async || {
        let secret = town.their_secret().await;
        if holds(&secret, &[("v", "new")]) { Ok(()) } else { Err("not yet") }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_withdrawals_of_a_tenant_hold_up_none_of_others() {
    let town = Town::new("drain").await;
    town.settle_theirs().await;
    let objects: Vec<String> = (0..12).map(|n| format!("drain-{n}")).collect();
    for name in &objects {
        town.forges(
            name,
            "okms-operator",
            json!({MANAGED: "true"}),
            json!({OWNER: name, SOURCE: town.evidence(&format!("mine/{name}"))}),
        )
        .await;
        town.asks(name, json!({"path": format!("mine/{name}")})).await;
    }
    for name in &objects {
        eventually(&format!("{name} is over"), async || match ready_of(&town.objects().get(name).await.unwrap()) {
            Some((_, why, _)) if why == "SecretDeleted" || why == "WithdrawalHeld" => Ok(()),
            other => Err(other),
        })
        .await;
    }
    town.world.domain.deactivate("theirs/db", 1).unwrap();
    let refresh = Patch::Merge(json!({"metadata": {"annotations": {"okms-operator.io/refresh": "now"}}}));
    town.world.objects_in(&town.theirs).patch("db", &PatchParams::default(), &refresh).await.unwrap();
    town.world.ready_in(&town.theirs, "db", "False", "VersionDeactivated").await;
}
