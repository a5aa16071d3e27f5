//! Canaries in what stores authenticate with, whole and spoilt, and in what a token endpoint answers.

use std::sync::LazyLock;

use futures::future::join_all;
use okms_sim::{Fault, Operation};
use serde_json::{Value, json};

use super::search::{Canary, LOG, hits};
use crate::world::{World, eventually};

/// A credential with canaries: the files of its Secret, and the `auth` that names it.
fn spoilt(lay: &mut impl FnMut() -> String) -> Vec<(Value, Value)> {
    let certificate = || json!({"clientCertificate": {"secretRef": {"name": "it"}}});
    let token = || json!({"clientCertificate": null, "token": {"secretRef": {"name": "it", "key": "token"}}});
    let pem = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    vec![
        (json!({"tls.crt": lay(), "tls.key": lay()}), certificate()),
        (json!({"tls.crt": pem("CERTIFICATE", &lay()), "tls.key": pem("PRIVATE KEY", &lay())}), certificate()),
        (json!({"tls.crt": lay(), "tls.key": pem("ENCRYPTED PRIVATE KEY", &lay())}), certificate()),
        (json!({"client.p12": lay(), "password": lay()}), certificate()),
        (json!({"client.p12": lay(), "password": format!("{}\n", lay())}), certificate()),
        (json!({"credential.json": lay()}), certificate()),
        (json!({"credential.json": format!("{{\"privateKeyPEM\": \"{}\"", lay())}), certificate()),
        (
            json!({"credential.json": json!({"certificatePEM": lay(), "privateKeyPEM": lay(), "name": lay()}).to_string()}),
            certificate(),
        ),
        (json!({"token": lay()}), token()),
        (json!({"token": format!("{}\n", lay())}), token()),
        (json!({"token": format!("Bearer {}", lay())}), token()),
        (json!({"token": format!("{}\u{e9}", lay())}), token()),
    ]
}

/// What a token endpoint may answer, with canaries where a careless client would quote them.
fn answers(lay: &mut impl FnMut() -> String) -> Vec<Fault> {
    let json = "application/json";
    let mut answers = vec![
        Fault::answer(200, "text/html", format!("<html>{}</html>", lay())),
        Fault::answer(200, json, lay()),
        Fault::answer(200, json, json!({"access_token": format!("{}\n", lay()), "expires_in": 60}).to_string()),
        Fault::answer(200, json, json!({"access_token": lay(), "expires_in": lay()}).to_string()),
        Fault::answer(200, json, json!({"access_token": lay(), "expires_in": -1}).to_string()),
        Fault::answer(200, json, json!({"access_token": lay(), "token_type": lay(), "expires_in": 60}).to_string()),
        // A token that OKMS does not know.
        Fault::answer(200, json, json!({"access_token": lay(), "token_type": "Bearer", "expires_in": 60}).to_string()),
    ];
    for status in [400, 401, 403, 500, 503] {
        for code in ["invalid_client".to_owned(), lay()] {
            let body = json!({"error": code, "error_description": lay(), "error_uri": lay()});
            answers.push(Fault::answer(status, json, body.to_string()));
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_the_operator_authenticates_with_gets_out() {
    LazyLock::force(&LOG);
    let mut world = World::without_operator("canary-id").await;
    let mut config = world.config();
    config.namespaced_stores.as_mut().unwrap().max_per_namespace = usize::MAX;
    world.start_with(config);
    let mut canaries = Vec::new();
    let mut lay = || {
        let canary = Canary::new();
        canaries.push(canary.clone());
        canary.0
    };
    let spoilt = spoilt(&mut lay);
    let answers = answers(&mut lay);

    let id = world.domain.okms_id();
    join_all(spoilt.into_iter().enumerate().map(async |(n, (files, mut auth))| {
        let name = format!("s{n}");
        for reference in auth.as_object_mut().unwrap().values_mut() {
            if reference.is_object() {
                reference["secretRef"]["name"] = json!(name);
            }
        }
        world.put_files_in(&world.name, &name, files).await;
        world.create_okms_store(&world.name, &name, json!({"auth": auth, "okmsId": id})).await;
        told(&world, &name).await;
    }))
    .await;

    // One after the other, since they hit everything. What works in the end has used tokens that nobody may see either.
    let account = world.domain.issue_service_account();
    canaries.push(Canary(format!("secret-{}", account.client_secret)));
    let files = json!({"clientId": account.client_id, "clientSecret": account.client_secret});
    world.put_files_in(&world.name, "account", files).await;
    for (n, fault) in answers.into_iter().enumerate() {
        let fault = world.sim.fault(fault.on(&[Operation::PostOAuth2Token]));
        let name = format!("a{n}");
        let auth = json!({"clientCertificate": null, "oauth2": {
            "secretRef": {"name": "account"},
            "tokenEndpoint": world.sim.token_endpoint(),
            "ca": {"pem": world.sim.server_ca_pem()},
        }});
        world.create_okms_store(&world.name, &name, json!({"auth": auth, "okmsId": id})).await;
        told(&world, &name).await;
        world.sim.clear_fault(fault);
    }
    world.okms_store_ready(&world.name, "a0", "True", "Reachable").await;
    let hits = hits(&world, &canaries).await;
    assert!(hits.is_empty(), "{hits:#?}");
    // Such are the tokens of the simulator.
    assert!(!super::log().contains("sim."), "an access token was logged");
}

/// Waits until the store says that it does not work.
async fn told(world: &World, name: &str) {
    eventually(&format!("{name} is told"), async || {
        let status = world.okms_stores(&world.name).get(name).await.unwrap().status.unwrap_or_default();
        let ready = okms_operator::api::condition::find(&status.conditions, "Ready").cloned();
        if ready.as_ref().is_some_and(|ready| ready.reason != "Progressing") { Ok(()) } else { Err(ready) }
    })
    .await;
}
