//! Everything that a store may authenticate with, read from Kubernetes by the real operator: it works, it is replaced in use, and what is
//! wrong with it is said by field and key.

use jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use okms_operator::api::condition;
use okms_sim::{Fault, Metadata, Naming, Operation, Validity};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rustls_pki_types::{CertificateDer, PrivateSec1KeyDer, pem::PemObject};
use serde_json::{Value, json};

use crate::world::{World, eventually, message};

/// Every way in, with the Secret that holds it and the `auth` of the store.
struct Way {
    name: &'static str,
    /// By base64, as a Secret has it.
    secret: Value,
    auth: Value,
}

const SECRET: &str = "identity";

fn ways(world: &World) -> Vec<Way> {
    let certificate = world.domain.issue_client_certificate(Validity::days(90)).unwrap();
    let by_certificate = || json!({"clientCertificate": {"secretRef": {"name": SECRET}}});
    let escaped = |pem: &str| pem.replace('\n', "\\n");
    let issued = json!({
        "id": certificate.credential_id, "status": "READY", "fromCSR": false,
        "certificatePEM": certificate.cert_pem, "privateKeyPEM": certificate.key_pem,
    });
    let account = world.domain.issue_service_account();
    let endpoint = json!({
        "secretRef": {"name": SECRET},
        "tokenEndpoint": world.sim.token_endpoint(),
        "ca": {"pem": world.sim.server_ca_pem()},
    });
    vec![
        Way {
            name: "pem",
            secret: text(json!({"tls.crt": certificate.cert_pem, "tls.key": certificate.key_pem})),
            auth: by_certificate(),
        },
        Way {
            name: "escaped",
            secret: text(json!({"tls.crt": escaped(&certificate.cert_pem), "tls.key": escaped(&certificate.key_pem)})),
            auth: by_certificate(),
        },
        Way {
            name: "pkcs12",
            secret: json!({"data": {
                "client.p12": base64(&pkcs12(&certificate.cert_pem, &certificate.key_pem, "s3cret pass")),
                "password": base64(b"s3cret pass"),
            }}),
            auth: by_certificate(),
        },
        Way { name: "json", secret: text(json!({"credential.json": issued.to_string()})), auth: by_certificate() },
        Way {
            name: "token",
            secret: text(json!({"token": world.domain.issue_token()})),
            auth: json!({"token": {"secretRef": {"name": SECRET, "key": "token"}}}),
        },
        Way {
            name: "oauth2",
            secret: text(json!({"clientId": account.client_id, "clientSecret": account.client_secret})),
            auth: json!({ "oauth2": endpoint }),
        },
    ]
}

#[expect(clippy::needless_pass_by_value, reason = "it is called with json!")]
fn text(data: Value) -> Value {
    json!({ "stringData": data })
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes)
}

fn pkcs12(certificate: &str, key: &str, password: &str) -> Vec<u8> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    // SEC1, as OVHcloud makes it; PKCS#12 holds PKCS#8.
    let key = PrivateSec1KeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let curve = &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let pair = aws_lc_rs::signature::EcdsaKeyPair::from_private_key_der(curve, key.secret_sec1_der()).unwrap();
    let key = PrivateKey::from_der(pair.to_pkcs8v1().unwrap().as_ref()).unwrap();
    let chain = PrivateKeyChain::new("1", key, vec![Certificate::from_der(&certificate).unwrap()]);
    let mut store = KeyStore::new();
    store.add_entry("access", KeyStoreEntry::PrivateKeyChain(chain));
    store.writer(password).write().unwrap()
}

async fn put(world: &World, mut secret: Value) {
    let fields = secret.as_object_mut().unwrap();
    fields.insert("apiVersion".to_owned(), json!("v1"));
    fields.insert("kind".to_owned(), json!("Secret"));
    fields.insert("metadata".to_owned(), json!({"name": SECRET}));
    // Another form leaves nothing of the last behind.
    let _ = world.secrets().delete(SECRET, &DeleteParams::default()).await;
    world.secrets().create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
}

/// This way, and none of the others, as a merge says it.
fn alone(auth: &Value) -> Value {
    let every = ["clientCertificate", "token", "oauth2"];
    let mut fields: serde_json::Map<_, _> = every.iter().map(|way| ((*way).to_owned(), Value::Null)).collect();
    fields.extend(auth.as_object().unwrap().clone());
    Value::Object(fields)
}

async fn set_auth(world: &World, store: &str, auth: &Value) {
    let patch = Patch::Merge(json!({"spec": {"auth": alone(auth)}}));
    world.okms_stores(&world.name).patch(store, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_authenticates_in_every_way_and_changes_from_one_to_the_next() {
    let mut world = World::without_operator("ways").await;
    world.start();
    let ways = ways(&world);
    let first = ways.first().unwrap();
    put(&world, first.secret.clone()).await;
    world.create_okms_store(&world.name, "vault", json!({"auth": first.auth, "okmsId": world.domain.okms_id()})).await;
    world.domain.put("db", json!({"v": "0"}));
    world.apply("db", json!({"storeRef": {"kind": "OkmsStore", "name": "vault"}, "path": "db"})).await;
    for (n, way) in ways.iter().enumerate() {
        put(&world, way.secret.clone()).await;
        set_auth(&world, "vault", &way.auth).await;
        world.okms_store_ready(&world.name, "vault", "True", "Reachable").await;
        world.domain.put("db", json!({"v": format!("{n} by {}", way.name)}));
        world.synced("db", &[("v", &format!("{n} by {}", way.name))]).await;
        let status = world.okms_stores(&world.name).get("vault").await.unwrap().status.unwrap();
        let by_certificate = way.auth.get("clientCertificate").is_some();
        assert_eq!(status.certificate.is_some(), by_certificate, "{}", way.name);
    }
    // Every token and secret went only where it belongs, and none of it into a status.
    let object = serde_json::to_string(&world.okms_stores(&world.name).get("vault").await.unwrap().status).unwrap();
    assert!(!object.contains("sim."), "{object}");
}

/// A way that is spoilt: by what is in the Secret or in the spec, for which reason, and words of the message.
struct Spoilt {
    way: &'static str,
    secret: Option<Value>,
    auth: Option<Value>,
    fault: Option<Fault>,
    reason: &'static str,
    words: &'static [&'static str],
}

fn spoilt(world: &World, ways: &[Way]) -> Vec<Spoilt> {
    let unusable = "InvalidCredential";
    let bad_secret =
        |way, secret, words| Spoilt { way, secret: Some(secret), auth: None, fault: None, reason: unusable, words };
    let faulty = |fault: Fault, reason, words| {
        let fault = Some(fault.on(&[Operation::PostOAuth2Token]));
        Spoilt { way: "oauth2", secret: None, auth: None, fault, reason, words }
    };
    let any = world.domain.issue_client_certificate_named(Naming::AnyDomain, Validity::days(9)).unwrap();
    let p12 = |password: &str| {
        json!({"data": {
            "client.p12": base64(&pkcs12(&any.cert_pem, &any.key_pem, "right")), "password": base64(password.as_bytes()),
        }})
    };
    let oauth2 = ways.iter().find(|way| way.name == "oauth2").unwrap();
    let account = world.domain.issue_service_account();
    let mut elsewhere = oauth2.auth.clone();
    elsewhere["oauth2"]["tokenEndpoint"] = json!("https://login.example.com/token");
    let mut untrusted = oauth2.auth.clone();
    untrusted["oauth2"].as_object_mut().unwrap().remove("ca");
    vec![
        bad_secret("pkcs12", p12("wrong"), &["password does not open client.p12"]),
        bad_secret("pkcs12", text(json!({"client.p12": "x"})), &["without its password"]),
        bad_secret("pkcs12", text(json!({"client.p12": "x", "password": "x"})), &["client.p12 is damaged"]),
        bad_secret("json", text(json!({"credential.json": "{"})), &["credential.json is not JSON"]),
        bad_secret("json", text(json!({"credential.json": "{}"})), &["credential.json", "certificatePEM"]),
        bad_secret(
            "token",
            text(json!({"token": "a\n"})),
            &["key token of Secret", "ends with a line break", "printf"],
        ),
        bad_secret("token", text(json!({"token": "a\nb"})), &["has a line break in it"]),
        bad_secret("token", text(json!({"token": ""})), &["is empty"]),
        bad_secret("token", text(json!({"tokn": "a"})), &["has no key token", "spec.auth.token.secretRef"]),
        Spoilt {
            reason: "Refused",
            ..bad_secret("token", text(json!({"token": "unknown"})), &["okms:apikms:secret/get"])
        },
        bad_secret("oauth2", text(json!({"clientId": "x"})), &["has no clientSecret"]),
        bad_secret("oauth2", text(json!({"clientId": "x", "clientSecret": "y\n"})), &["clientSecret", "line break"]),
        Spoilt {
            reason: "Refused",
            ..bad_secret(
                "oauth2",
                text(json!({"clientId": account.client_id, "clientSecret": "wrong"})),
                &["invalid_client", "clientId and clientSecret"],
            )
        },
        Spoilt {
            way: "oauth2",
            secret: None,
            auth: Some(elsewhere),
            fault: None,
            reason: "NotAllowed",
            words: &["spec.auth.oauth2.tokenEndpoint", "--allowed-endpoint"],
        },
        Spoilt {
            way: "oauth2",
            secret: None,
            auth: Some(untrusted),
            fault: None,
            reason: "TlsFailed",
            words: &["token endpoint", "not signed by a trusted CA"],
        },
        faulty(Fault::answer(200, "text/html", "<html>log in</html>"), "UnexpectedAnswer", &["token endpoint", "JSON"]),
        faulty(Fault::status(503), "OkmsUnavailable", &["token endpoint", "503"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_identity_is_said_and_ends_when_it_is_put_right() {
    let mut world = World::without_operator("spoilt").await;
    world.start();
    let ways = ways(&world);
    world.domain.put("db", json!({"v": "1"}));
    for (n, case) in spoilt(&world, &ways).into_iter().enumerate() {
        let way = ways.iter().find(|way| way.name == case.way).unwrap();
        if let Some(fault) = case.fault {
            world.sim.fault(fault);
        }
        put(&world, case.secret.unwrap_or_else(|| way.secret.clone())).await;
        let auth = case.auth.as_ref().unwrap_or(&way.auth);
        let (store, object) = (format!("vault-{n}"), format!("db-{n}"));
        world
            .create_okms_store(&world.name, &store, json!({"auth": alone(auth), "okmsId": world.domain.okms_id()}))
            .await;
        let words = world.okms_store_ready(&world.name, &store, "False", case.reason).await;
        assert!(case.words.iter().all(|expected| words.contains(expected)), "{n}, {}: {words}", case.way);
        world.apply(&object, json!({"storeRef": {"kind": "OkmsStore", "name": store}, "path": "db"})).await;
        let waits = world.ready(&object, "False", "StoreNotReady").await;
        assert!(case.words.iter().all(|expected| message(&waits).contains(expected)), "{}", message(&waits));

        world.sim.clear_faults();
        put(&world, way.secret.clone()).await;
        set_auth(&world, &store, &way.auth).await;
        world.okms_store_ready(&world.name, &store, "True", "Reachable").await;
        world.synced(&object, &[("v", "1")]).await;
        world.delete(&object).await;
        world.okms_stores(&world.name).delete(&store, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_any_domain_needs_to_be_told_which() {
    let mut world = World::without_operator("any").await;
    world.start();
    let any = world.domain.issue_client_certificate_named(Naming::AnyDomain, Validity::days(90)).unwrap();
    world.put_credential(&any).await;
    world.create_okms_store(&world.name, "vault", json!({})).await;
    let words = world.okms_store_ready(&world.name, "vault", "False", "InvalidCredential").await;
    assert!(words.contains("okms.domain:*") && words.contains("okmsId"), "{words}");
    let patch = Patch::Merge(json!({"spec": {"okmsId": world.domain.okms_id()}}));
    world.okms_stores(&world.name).patch("vault", &PatchParams::default(), &patch).await.unwrap();
    world.okms_store_ready(&world.name, "vault", "True", "Reachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_differs_is_told_beside_what_works() {
    let world = World::new("skew").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let skewed = async |is: bool| {
        eventually(&format!("ClockSkewed is there: {is}"), async || {
            let status = world.stores().get(&world.name).await.unwrap().status.unwrap();
            let skewed = condition::find(&status.conditions, "ClockSkewed");
            if skewed.is_some() == is { Ok(skewed.map(|skewed| skewed.message.clone())) } else { Err(status) }
        })
        .await
    };
    skewed(false).await;
    world.sim.with_switches(|switches| switches.date_skew_seconds = Some(-3600));
    let words = skewed(true).await.unwrap();
    assert!(words.contains("more than five minutes"), "{words}");
    world.store_ready("True", "Reachable").await;
    // A new certificate that is never answered knows nothing of clocks, and the one in use still does.
    let revoked = world.domain.issue_client_certificate(Validity::days(90)).unwrap();
    world.domain.revoke(&revoked.serial).unwrap();
    world.mount(&revoked);
    eventually("the new one is rejected", async || {
        let status = world.stores().get(&world.name).await.unwrap().status.unwrap();
        let rejected = condition::find(&status.conditions, "CredentialsRejected").is_some();
        let skewed = condition::find(&status.conditions, "ClockSkewed").is_some();
        if rejected { Ok(skewed) } else { Err(status) }
    })
    .await
    .then_some(())
    .expect("the clock of the one in use counts");
    world.mount(&world.certificate);
    // Ours is ahead: what is planned is not a fact yet where OKMS is.
    let planned = Metadata { delete_version_after: Some("15s".to_owned()), ..Metadata::default() };
    world.domain.set_metadata("plan", planned).unwrap();
    world.domain.put("plan", json!({"v": "1"}));
    let until = Timestamp::now() + SignedDuration::from_secs(15);
    world.apply("plan", json!({"path": "plan"})).await;
    world.synced("plan", &[("v", "1")]).await;
    eventually(
        "our clock says that it is deactivated",
        async || {
            if Timestamp::now() > until { Ok(()) } else { Err(until) }
        },
    )
    .await;
    world.after_checks(6).await;
    world.synced("plan", &[("v", "1")]).await;
    world.sim.with_switches(|switches| switches.date_skew_seconds = Some(30));
    skewed(false).await;
    world.gone("plan").await;
}
