//! What people can do: with stores of a namespace, which send a credential to where whoever makes them says, and with the roles that the chart
//! adds to those of every cluster.

use kube::Client;
use serde_json::{Value, json};

use super::{ALL_NAMESPACES, attempt::Attempt, installed};
use crate::{
    cluster::{self, kubectl},
    world::{World, eventually},
};

const GROUP: &str = "/apis/okms-operator.io/v1alpha1";

/// The addresses that an installation is given.
const ALLOWED: &[&str] = &[
    "https://*.okms.ovh.net",
    "https://www.ovh.com",
    "https://*.example.com:*",
    "https://OKMS.example.org:8443",
    "https://a-*.corp.example",
    "https://[2001:db8::1]:8443",
];

fn in_namespace(world: &World, rest: &str) -> String {
    format!("{GROUP}/namespaces/{}/{rest}", world.name)
}

pub(crate) fn store(name: &str, endpoint: &str, token_endpoint: Option<&str>) -> Value {
    let auth = match token_endpoint {
        None => json!({"clientCertificate": {"secretRef": {"name": "x"}}}),
        Some(address) => json!({"oauth2": {"secretRef": {"name": "x"}, "tokenEndpoint": address}}),
    };
    json!({"apiVersion": "okms-operator.io/v1alpha1", "kind": "OkmsStore", "metadata": {"name": name},
        "spec": {"endpoint": endpoint, "okmsId": "1f0c3a5e-75b8-40a3-9b0e-71ffe5ff03cb", "auth": auth}})
}

fn make(world: &World, store: Value) -> Attempt {
    Attempt::create(in_namespace(world, "okmsstores"), store)
}

/// Makes it in earnest, as an administrator.
async fn exists(world: &World, store: &Value) {
    let (namespace, store) = (world.name.clone(), store.to_string());
    let create = move || kubectl(cluster::shared(), &["create", "-n", &namespace, "-f", "-"], &store).succeeded();
    tokio::task::spawn_blocking(create).await.unwrap();
}

async fn limited(world: &World, values: Value) -> String {
    let watched = json!([world.name]);
    let installation = installed(world, &format!("watchNamespaces={watched},namespacedStores={values}")).await;
    let denial = format!("ValidatingAdmissionPolicy '{}-stores'", installation.name);
    let evil = make(world, store("evil", "https://evil.example", None));
    eventually("the policy of stores is in force", async || match evil.make(&world.client).await {
        Err(said) if said.contains(&denial) => Ok(()),
        other => Err(other),
    })
    .await;
    if values["enabled"] != false {
        installation.assert_is_sound(&world.client, "stores").await;
    }
    denial
}

/// What becomes of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    /// By the policy.
    Denied,
    /// By the rules of the kind, before any policy is asked: that is no address.
    Unsound,
}

use Fate::{Denied, Taken, Unsound};

async fn hold(client: &Client, denial: &str, what: &str, attempt: &Attempt, expected: Fate) {
    let outcome = attempt.make(client).await;
    let fate = match &outcome {
        Ok(()) => Some(Taken),
        Err(said) if said.contains(denial) => Some(Denied),
        Err(said) if said.starts_with("422") => Some(Unsound),
        Err(_) => None,
    };
    assert_eq!(fate, Some(expected), "{what}: {outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_namespace_sends_its_credential_to_an_allowed_address_only() {
    let world = World::without_operator("stores").await;
    exists(&world, &store("old", "https://before.example", None)).await;
    let denial = limited(&world, json!({"allowedEndpoints": ALLOWED})).await;

    for (endpoint, expected) in [
        ("https://eu-west-rbx.okms.ovh.net", Taken),
        ("https://eu-west-rbx.okms.ovh.net/", Taken),
        ("https://eu-west-rbx.okms.ovh.net:443", Taken),
        ("https://EU-West-rbx.OKMS.ovh.net", Taken),
        ("https://eu-west-rbx.okms.ovh.net:8443", Denied),
        ("https://eu.west-rbx.okms.ovh.net", Denied),
        ("https://okms.ovh.net", Denied),
        ("https://evilokms.ovh.net", Denied),
        ("https://evil-okms.ovh.net", Denied),
        ("https://x.okms-ovh.net", Denied),
        ("https://x.okms.ovh.net.evil.example", Denied),
        ("https://x.okms.ovh.net:443@evil.example", Unsound),
        ("https://evil.example/x.okms.ovh.net", Unsound),
        ("https://a.example.com", Taken),
        ("https://a.example.com:1", Taken),
        ("https://a.example.com:65535/", Taken),
        ("https://example.com:1", Denied),
        ("https://okms.example.org:8443", Taken),
        ("https://okms.example.org", Denied),
        ("https://okms.example.org:84430", Denied),
        ("https://a-1.corp.example", Taken),
        ("https://b-1.corp.example", Denied),
        ("https://a-1.b.corp.example", Denied),
        ("https://[2001:db8::1]:8443", Taken),
        ("https://[2001:db8::2]:8443", Denied),
        ("https://evil.example", Denied),
    ] {
        hold(&world.client, &denial, endpoint, &make(&world, store("new", endpoint, None)), expected).await;
    }

    for (address, expected) in [
        ("https://www.ovh.com/auth/oauth2/token", Taken),
        ("https://WWW.ovh.com:443/auth/oauth2/token", Taken),
        ("https://www.ovh.com", Unsound),
        ("https://www.ovh.com:8443/auth/oauth2/token", Denied),
        ("https://www.ovh.com.evil.example/auth/oauth2/token", Denied),
        ("https://www.ovh.com@evil.example/auth/oauth2/token", Unsound),
        ("https://www.ovh.com:443@evil.example/", Unsound),
        ("https://www.ovh.com\\@evil.example/", Unsound),
        ("https://www.ovh.com\\.evil.example/", Unsound),
        ("https://www.ovh.com#@evil.example/", Unsound),
        ("https://www.ovh.com?@evil.example/", Unsound),
        ("https://evil.example/https://www.ovh.com/", Unsound),
        ("https://evil.example\nhttps://www.ovh.com/", Unsound),
        ("https://www.ovh.com/\n", Unsound),
        (" https://www.ovh.com/", Unsound),
        ("http://www.ovh.com/auth/oauth2/token", Unsound),
        ("//www.ovh.com/auth/oauth2/token", Unsound),
    ] {
        let store = store("new", "https://eu-west-rbx.okms.ovh.net", Some(address));
        hold(&world.client, &denial, address, &make(&world, store), expected).await;
    }

    // It holds for changes too. What an older list allowed may stay, as it is.
    exists(&world, &store("new", "https://eu-west-rbx.okms.ovh.net", None)).await;
    let evil = json!({"spec": {"endpoint": "https://evil.example"}});
    let label = json!({"metadata": {"labels": {"team": "shop"}}});
    let interval = json!({"spec": {"refreshInterval": "5m"}});
    for (what, name, patch, expected) in [
        ("another address", "new", &evil, Denied),
        ("another interval", "new", &interval, Taken),
        ("a label on an old one", "old", &label, Taken),
        ("another interval of an old one", "old", &interval, Denied),
    ] {
        let path = in_namespace(&world, &format!("okmsstores/{name}"));
        hold(&world.client, &denial, what, &Attempt::patch(path, patch.clone()), expected).await;
    }

    // And only where this operator serves.
    let elsewhere =
        Attempt::create(format!("{GROUP}/namespaces/default/okmsstores"), store("x", "https://evil.example", None));
    assert_eq!(elsewhere.make(&world.client).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_stores_of_namespaces_are_switched_off_none_can_be_made() {
    let world = World::without_operator("stores-off").await;
    exists(&world, &store("old", "https://eu-west-rbx.okms.ovh.net", None)).await;
    let denial = limited(&world, json!({"enabled": false})).await;
    let refused = make(&world, store("new", "https://eu-west-rbx.okms.ovh.net", None)).make(&world.client).await;
    let said = refused.unwrap_err();
    assert!(said.contains(&denial) && said.contains("switched off") && said.contains("ClusterOkmsStore"), "{said}");
    // What is there can be changed, and go.
    let path = in_namespace(&world, "okmsstores/old");
    let changed = Attempt::patch(&path, json!({"spec": {"refreshInterval": "5m"}}));
    assert_eq!(changed.make(&world.client).await, Ok(()));
    assert_eq!(Attempt::delete(&path).make(&world.client).await, Ok(()));
}

/// Gives somebody a role of the cluster in the namespace of a world.
async fn bind(world: &World, role: &str, user: &str) {
    let (namespace, role, user) = (world.name.clone(), format!("--clusterrole={role}"), user.to_owned());
    let bind = move || {
        let arguments = ["create", "rolebinding", &user, "-n", &namespace, &role, &format!("--user={user}")];
        kubectl(cluster::shared(), &arguments, "").succeeded();
    };
    tokio::task::spawn_blocking(bind).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_edits_a_namespace_uses_stores_and_makes_none() {
    let world = World::without_operator("tenant").await;
    world.create_store(json!({})).await;
    world.apply("db", json!({"path": "db"})).await;
    exists(&world, &store("own", "https://eu-west-rbx.okms.ovh.net", None)).await;
    let installation = installed(&world, ALL_NAMESPACES).await;
    bind(&world, "edit", "editor").await;
    bind(&world, "view", "viewer").await;
    bind(&world, &format!("{}-store-editor", installation.name), "store-editor").await;

    let db = in_namespace(&world, "okmssecrets/db");
    let own = in_namespace(&world, "okmsstores/own");
    let shared = format!("{GROUP}/clusterokmsstores/{}", world.name);
    let object = json!({"apiVersion": "okms-operator.io/v1alpha1", "kind": "OkmsSecret", "metadata": {"name": "new"},
        "spec": {"path": "db"}});
    let ask = || Attempt::create(in_namespace(&world, "okmssecrets"), object.clone());
    let connect = || make(&world, store("new", "https://eu-west-rbx.okms.ovh.net", None));
    let mut for_all = store("new", "https://eu-west-rbx.okms.ovh.net", None);
    for_all["kind"] = json!("ClusterOkmsStore");
    let status = || json!({"status": {"summary": "x"}});
    let interval = || json!({"spec": {"refreshInterval": "5m"}});
    eventually("the roles are aggregated", async || {
        ask().by("editor", &[]).make(&world.client).await?;
        connect().by("store-editor", &[]).make(&world.client).await?;
        Attempt::read(&own).by("viewer", &[]).make(&world.client).await
    })
    .await;
    for (who, what, attempt, may) in [
        ("editor", "asks for a secret", ask(), true),
        ("editor", "changes what it asked for", Attempt::patch(&db, interval()), true),
        ("editor", "takes it back", Attempt::delete(&db), true),
        ("editor", "says that it is synced", Attempt::patch(format!("{db}/status"), status()), false),
        ("editor", "looks at a store", Attempt::read(&own), true),
        ("editor", "makes a store", connect(), false),
        (
            "editor",
            "points a store elsewhere",
            Attempt::patch(&own, json!({"spec": {"endpoint": "https://a.example"}})),
            false,
        ),
        ("editor", "removes a store", Attempt::delete(&own), false),
        ("editor", "says that a store is ready", Attempt::patch(format!("{own}/status"), status()), false),
        ("editor", "looks at a store of the cluster", Attempt::read(&shared), false),
        (
            "editor",
            "makes a store of the cluster",
            Attempt::create(format!("{GROUP}/clusterokmsstores"), for_all),
            false,
        ),
        ("editor", "gives itself access", Attempt::patch(&shared, json!({"spec": {"access": []}})), false),
        ("editor", "says that it is ready", Attempt::patch(format!("{shared}/status"), status()), false),
        ("viewer", "looks at a store", Attempt::read(&own), true),
        ("viewer", "asks for a secret", ask(), false),
        ("viewer", "makes a store", connect(), false),
        ("store-editor", "makes a store", connect(), true),
        ("store-editor", "changes it", Attempt::patch(&own, interval()), true),
        ("store-editor", "says that it is ready", Attempt::patch(format!("{own}/status"), status()), false),
        ("store-editor", "asks for a secret", ask(), false),
    ] {
        let outcome = attempt.by(who, &[]).make(&world.client).await;
        let holds = if may { outcome.is_ok() } else { outcome.as_ref().is_err_and(|said| said.starts_with("403")) };
        assert!(holds, "{who} {what}: {outcome:?}");
    }
}
