//! The credential of a store while it is in use: replaced under load, replaced by a bad one, removed, and given back; its CA, its
//! limits and its endpoint likewise.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use okms_operator::{
    api::{StoreStatus, condition},
    controller::{Config, health::Health},
};
use okms_sim::{Action, ClientCertificate, Fault, Grants, Options, RevokedConnections, Sim, Validity};
use serde_json::{Value, json};

use crate::{
    kept::watched,
    load::{Failures, LOAD, Load},
    tapped::{self, Fate},
    world::{CREDENTIAL, World, by_secret, client_config, eventually, ready_of},
};

/// How often a credential is replaced under load.
const ROTATIONS: usize = 4;

#[derive(Clone, Copy, PartialEq)]
enum By {
    Mount,
    Secret,
}

impl By {
    async fn put(self, world: &World, certificate: &ClientCertificate) {
        match self {
            Self::Mount => world.mount(certificate),
            Self::Secret => world.put_credential(certificate).await,
        }
    }

    async fn put_files(self, world: &World, certificate: &str, key: &str) {
        match self {
            Self::Mount => world.mount_files(&[("tls.crt", certificate), ("tls.key", key)]),
            Self::Secret => world.put_credential_files(json!({"tls.crt": certificate, "tls.key": key})).await,
        }
    }

    async fn remove(self, world: &World) {
        match self {
            Self::Mount => std::fs::remove_dir_all(world.mounts.path().join(&world.name)).unwrap(),
            Self::Secret => {
                world.secrets().delete(CREDENTIAL, &DeleteParams::default()).await.unwrap();
            }
        }
    }

    /// A world whose store takes its credential this way, and an operator at work.
    async fn world(self, name: &str) -> World {
        let mut world = self.without_operator(name).await;
        world.start();
        world
    }

    async fn without_operator(self, name: &str) -> World {
        let world = World::without_operator(name).await;
        self.put(&world, &world.certificate).await;
        world.create_store(if self == Self::Secret { by_secret() } else { json!({}) }).await;
        world
    }
}

/// How the operator behaves where no sync may fail: a machine that stands still for a moment is no failure.
fn patient(world: &World) -> Config {
    let mut config = world.config();
    config.timing.staleness_floor = Duration::from_mins(1);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_certificates_are_replaced_under_load_without_a_failed_sync() {
    replaced_under_load(By::Mount, "rotatem", RevokedConnections::Close).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_in_a_secret_are_replaced_under_load_without_a_failed_sync() {
    replaced_under_load(By::Secret, "rotates", RevokedConnections::Keep).await;
}

async fn replaced_under_load(by: By, name: &str, revoked: RevokedConnections) {
    let mut world = by.without_operator(name).await;
    world.sim.with_switches(|switches| switches.revoked_connections = revoked);
    let often = Duration::from_millis(100);
    world.start_with(Config { min_refresh_interval: often, refresh_interval: often, ..patient(&world) });
    let load = Load::start(&world).await;
    // Long enough for requests to be under way whenever a certificate is revoked.
    world.sim.fault(Fault::latency(Duration::from_millis(150)));
    let failures = Failures::watch(&world).await;

    let mut old = world.certificate.clone();
    for _ in 0..ROTATIONS {
        let new = world.domain.issue_client_certificate(Validity::days(30)).unwrap();
        by.put(&world, &new).await;
        status(&world, "the new certificate is in use", |status| serial(status) == Some(&new.credential_id)).await;
        world.domain.revoke(&old.serial).unwrap();
        let before = world.sim.counters().by(&new.serial);
        eventually("the new one is used", async || {
            let more = world.sim.counters().by(&new.serial) - before;
            if more >= 3 * u64::try_from(LOAD).unwrap() { Ok(()) } else { Err(more) }
        })
        .await;
        old = new;
    }
    let versions = load.stop().await;
    for n in 0..LOAD {
        world.synced(&format!("db-{n}"), &[("v", &versions.to_string())]).await;
    }
    assert_eq!(failures.seen(&world).await, Vec::<String>::new());
    assert_eq!(world.sim.counters().by("anonymous"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_certificate_in_a_mount_leaves_the_one_in_use() {
    bad_ones_leave_the_one_in_use(By::Mount, "badm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_certificate_in_a_secret_leaves_the_one_in_use() {
    bad_ones_leave_the_one_in_use(By::Secret, "bads").await;
}

async fn bad_ones_leave_the_one_in_use(by: By, name: &str) {
    let mut world = by.without_operator(name).await;
    world.start_with(patient(&world));
    world.domain.put("db", json!({"v": "0"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "0")]).await;
    status(&world, "the certificate is shown", |status| serial(status) == Some(&world.certificate.credential_id)).await;
    let failures = Failures::watch(&world).await;

    let good = world.certificate.clone();
    let spare = world.domain.issue_client_certificate(Validity::days(30)).unwrap();
    let expired = world.domain.issue_client_certificate(Validity::expired()).unwrap();
    let revoked = world.domain.issue_client_certificate(Validity::days(30)).unwrap();
    world.domain.revoke(&revoked.serial).unwrap();
    let other_domain = world.sim.add_domain();
    let stranger = other_domain.issue_client_certificate(Validity::days(30)).unwrap();
    // What the store must not come to read.
    other_domain.put("db", json!({"v": "of another domain"}));
    for (n, (certificate, key, reason, words)) in [
        ("garbage", "garbage", "InvalidCredential", "tls.crt holds no certificate in PEM"),
        (&good.cert_pem, &spare.key_pem, "InvalidCredential", "tls.key is not the key of the first certificate"),
        (&stranger.cert_pem, &stranger.key_pem, "InvalidCredential", "is of OKMS domain"),
        (&expired.cert_pem, &expired.key_pem, "InvalidCredential", "the client certificate has expired"),
        (&revoked.cert_pem, &revoked.key_pem, "TlsFailed", "the client certificate is refused"),
    ]
    .into_iter()
    .enumerate()
    {
        by.put_files(&world, certificate, key).await;
        let told = status(&world, &format!("it says {words}"), |status| {
            condition::find(&status.conditions, "CredentialsRejected")
                .is_some_and(|rejected| rejected.reason == reason && rejected.message.contains(words))
        })
        .await;
        let ready = condition::find(&told.conditions, "Ready").unwrap();
        assert_eq!((&*ready.status, &*ready.reason), ("True", "Reachable"), "{words}");
        assert_eq!(serial(&told), Some(&good.credential_id), "{words}");
        let text = serde_json::to_string(&told).unwrap();
        assert!(!text.contains("PRIVATE"), "{text}");

        // The old one goes on to work, whatever else is edited meanwhile.
        world.patch_store(json!({"spec": {"maxWithdrawalsPerHour": n + 20}})).await;
        let edited = world.stores().get(&world.name).await.unwrap().metadata.generation.unwrap();
        let told = status(&world, "the edit was looked at", |status| status.observed_generation == edited).await;
        assert_eq!(told.okms_id.as_deref(), Some(&*world.domain.okms_id()), "{words}");
        assert_eq!(serial(&told), Some(&good.credential_id), "{words}");
        let content = (n + 1).to_string();
        world.domain.put("db", json!({"v": content}));
        world.synced("db", &[("v", &content)]).await;

        by.put(&world, &good).await;
        status(&world, "all is well again", |status| {
            condition::find(&status.conditions, "CredentialsRejected").is_none()
        })
        .await;
    }
    assert_eq!(world.sim.counters().by(&stranger.serial), 0, "a certificate of another domain was shown");
    by.put(&world, &spare).await;
    status(&world, "the spare one is in use", |status| serial(status) == Some(&spare.credential_id)).await;
    assert_eq!(failures.seen(&world).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_mount_stops_the_calls_and_keeps_the_secrets() {
    removed_and_given_back(By::Mount, "gonem").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_credential_stops_the_calls_and_keeps_the_secrets() {
    removed_and_given_back(By::Secret, "gones").await;
}

async fn removed_and_given_back(by: By, name: &str) {
    let mut world = by.world(name).await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;

    by.remove(&world).await;
    let message = world.store_ready("False", "InvalidCredential").await;
    assert!(message.contains("mounted") || message.contains("does not exist"), "{message}");
    // What was under way has ended by the time that the object is not believed any more, after four intervals.
    let calls = world.sim.counters().total();
    world.domain.put("db", json!({"v": "2"}));
    let object = world.ready("db", "False", "StoreNotReady").await;
    assert!(ready_of(&object).unwrap().2.contains(&message), "{object:?}");
    assert!(world.sim.counters().total() <= calls + 1, "OKMS was called without a credential");
    assert!(world.secret("db").await.is_some());

    // An operator that starts without the credential knows as much.
    world.stop().await;
    world.start();
    world.apply("new", json!({"path": "db"})).await;
    let object = world.ready("new", "False", "StoreNotReady").await;
    assert!(ready_of(&object).unwrap().2.contains(&message), "{object:?}");
    assert!(world.secret("db").await.is_some());

    by.put(&world, &world.certificate).await;
    world.synced("db", &[("v", "2")]).await;
    world.synced("new", &[("v", "2")]).await;
    world.store_ready("True", "Reachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_is_not_called_broken_before_it_was_tried() {
    let mut world = World::without_operator("mended").await;
    let revoked = world.domain.issue_client_certificate(Validity::days(30)).unwrap();
    world.domain.revoke(&revoked.serial).unwrap();
    let files = json!({"tls.crt": revoked.cert_pem, "tls.key": revoked.key_pem});
    world.put_files_in(&world.name, "revoked", files).await;
    world.put_credential(&world.certificate).await;
    let spec = |name: &str| {
        let auth = json!({"clientCertificate": {"mount": null, "secretRef": {"name": name}}});
        json!({"auth": auth, "limits": {"timeout": "20s"}})
    };
    world.create_store(spec("revoked")).await;
    world.start();
    world.store_ready("False", "TlsFailed").await;

    let statuses = Arc::<Mutex<Vec<StoreStatus>>>::default();
    let (written, name) = (statuses.clone(), world.name.clone());
    let _watch = watched(world.stores(), move |store| {
        written.lock().unwrap().extend(store.status.filter(|_| store.metadata.name.as_ref() == Some(&name)));
    })
    .await;
    let slow = world.sim.fault(Fault::latency(Duration::from_secs(8)));
    world.patch_store(json!({"spec": spec(CREDENTIAL)})).await;
    let told = eventually("the new spec was looked at", async || {
        let statuses = statuses.lock().unwrap();
        statuses.iter().find(|status| status.observed_generation == 2).cloned().ok_or_else(|| statuses.clone())
    })
    .await;
    let ready = condition::find(&told.conditions, "Ready").unwrap();
    assert_eq!((&*ready.status, &*ready.reason), ("False", "Progressing"), "{told:?}");
    assert!(condition::find(&told.conditions, "Stalled").is_none(), "{told:?}");
    world.sim.clear_fault(slow);
    world.store_ready("True", "Reachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_in_use_and_deleted_stops_the_calls_though_the_spec_names_another() {
    let mut world = World::without_operator("moved-on").await;
    world.put_credential(&world.certificate).await;
    let revoked = world.domain.issue_client_certificate(Validity::days(30)).unwrap();
    world.domain.revoke(&revoked.serial).unwrap();
    world.put_files_in(&world.name, "garbage", json!({"tls.crt": "x", "tls.key": "y"})).await;
    let files = json!({"tls.crt": revoked.cert_pem, "tls.key": revoked.key_pem});
    world.put_files_in(&world.name, "revoked", files).await;
    let named = |name: &str| json!({"spec": {"auth": {"clientCertificate": {"secretRef": {"name": name}}}}});
    world.create_store(by_secret()).await;
    world.start();
    for (n, (other, reason)) in [("garbage", "InvalidCredential"), ("revoked", "TlsFailed")].into_iter().enumerate() {
        let content = n.to_string();
        world.domain.put("db", json!({"v": content}));
        world.apply("db", json!({"path": "db"})).await;
        world.synced("db", &[("v", &content)]).await;

        world.patch_store(named(other)).await;
        world.store_ready("False", reason).await;
        world.domain.put("db", json!({"v": "on"}));
        world.synced("db", &[("v", "on")]).await;

        world.secrets().delete(CREDENTIAL, &DeleteParams::default()).await.unwrap();
        world.ready("db", "False", "StoreNotReady").await;
        let calls = world.sim.counters().by(&world.certificate.serial);
        world.domain.put("db", json!({"v": "after"}));
        // Several times as long as it takes without that.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.sim.counters().by(&world.certificate.serial), calls);

        world.put_credential(&world.certificate).await;
        world.patch_store(named(CREDENTIAL)).await;
        world.store_ready("True", "Reachable").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_in_a_config_map_is_followed() {
    let mut world = World::without_operator("ca").await;
    let other = Sim::start(Options::default()).await.unwrap();
    let (right, wrong) = (world.sim.server_ca_pem(), other.server_ca_pem());
    put_ca(&world, &right).await;
    let ca = json!({"pem": null, "configMapRef": {"name": "ca", "key": "ca.crt"}});
    world.create_store(json!({"ca": ca})).await;
    let (client, requests) = tapped::recording(client_config().await);
    world.start_as(patient(&world), client, Health::default());
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let failures = Failures::watch(&world).await;

    // The mounted files are looked at all the time, the CA is not.
    let read = format!("GET /api/v1/namespaces/{}/configmaps/ca", world.name);
    let reads = || requests.lock().unwrap().iter().filter(|request| **request == read).count();
    for _ in 0..3 {
        let renewed = world.domain.issue_client_certificate(Validity::days(60)).unwrap();
        world.mount(&renewed);
        eventually("the new certificate is used", async || match world.sim.counters().by(&renewed.serial) {
            0 => Err("it is not"),
            _ => Ok(()),
        })
        .await;
    }
    // At the start, and once more when its watch has begun.
    assert!((1..=2).contains(&reads()), "the CA was read {} times though nothing changed", reads());

    let handshakes = world.sim.counters().handshakes;
    put_ca(&world, &format!("{wrong}{right}")).await;
    eventually("a bundle with both is used", async || {
        let more = world.sim.counters().handshakes - handshakes;
        if more > 0 { Ok(()) } else { Err(more) }
    })
    .await;
    for (pem, reason, words) in [
        (wrong.as_str(), "TlsFailed", "not signed by a trusted CA"),
        ("garbage", "InvalidCredential", "spec.ca: the CA bundle holds no certificate"),
    ] {
        put_ca(&world, pem).await;
        status(&world, &format!("it says {words}"), |status| {
            condition::find(&status.conditions, "CredentialsRejected")
                .is_some_and(|rejected| rejected.reason == reason && rejected.message.contains(words))
        })
        .await;
        put_ca(&world, &right).await;
        status(&world, "all is well again", |status| {
            condition::find(&status.conditions, "CredentialsRejected").is_none()
        })
        .await;
    }
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;
    assert_eq!(failures.seen(&world).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_the_endpoint_of_a_store_are_edited_in_use() {
    let world = World::new("edit").await;
    for path in ["one", "two", "three"] {
        world.domain.put(path, json!({"v": "1"}));
        world.apply(path, json!({"path": path})).await;
    }
    for path in ["one", "two", "three"] {
        world.synced(path, &[("v", "1")]).await;
    }
    world.patch_store(json!({"spec": {"limits": {"requestsPerSecond": 1, "timeout": "3s"}}})).await;
    status(&world, "it is throttled", |status| condition::find(&status.conditions, "Throttled").is_some()).await;
    world.patch_store(json!({"spec": {"limits": {"requestsPerSecond": 500, "timeout": "5s"}}})).await;
    status(&world, "it is not any more", |status| condition::find(&status.conditions, "Throttled").is_none()).await;
    world.store_ready("True", "Reachable").await;

    // The domain moves to another endpoint, with a CA and certificates of its own.
    let okms_id = Some(world.domain.uuid());
    let moved = Sim::start(Options { okms_id, ..Options::default() }).await.unwrap();
    for path in ["one", "two", "three"] {
        for version in 1..=2 {
            moved.domain().put(path, json!({"v": version.to_string()}));
        }
    }
    let certificate = moved.domain().issue_client_certificate(Validity::days(30)).unwrap();
    world.patch_store(json!({"spec": {"endpoint": moved.endpoint(), "ca": {"pem": moved.server_ca_pem()}}})).await;
    world.store_ready("False", "TlsFailed").await;
    world.mount(&certificate);
    for path in ["one", "two", "three"] {
        world.synced(path, &[("v", "2")]).await;
    }
    let calls = world.sim.counters().total();
    status(&world, "the new certificate is shown", |status| serial(status) == Some(&certificate.credential_id)).await;
    let before = moved.counters().total();
    eventually("the new endpoint is checked", async || {
        let more = moved.counters().total() - before;
        if more >= 6 { Ok(()) } else { Err(more) }
    })
    .await;
    assert_eq!(world.sim.counters().total(), calls, "the old endpoint is still called");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_whose_identity_may_read_nothing_is_not_used_until_it_may() {
    let mut world = By::Secret.without_operator("norights").await;
    world.start_with(patient(&world));
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let failures = Failures::watch(&world).await;
    let powerless = world.domain.issue_client_certificate(Validity::days(90)).unwrap();
    world.domain.grant(&powerless.serial, Grants::nothing()).unwrap();
    world.put_credential(&powerless).await;
    status(&world, "it is rejected", |status| {
        condition::find(&status.conditions, "CredentialsRejected")
            .is_some_and(|rejected| rejected.reason == "Refused" && rejected.message.contains("okms:apikms:secret/get"))
    })
    .await;
    world.store_ready("True", "Reachable").await;
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;

    world.domain.grant(&powerless.serial, Grants::read_only()).unwrap();
    status(&world, "it is in use", |status| serial(status) == Some(&powerless.credential_id)).await;
    world.domain.put("db", json!({"v": "3"}));
    world.synced("db", &[("v", "3")]).await;
    assert_eq!(failures.seen(&world).await, Vec::<String>::new());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_stays_so_though_it_was_replaced_before_anybody_was_told_that_it_works() {
    let mut world = World::without_operator("untold").await;
    world.put_credential(&world.certificate).await;
    world.create_store(by_secret()).await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    // While a status is being written, nothing else of the store is looked at.
    let status_of_store = format!("/clusterokmsstores/{}/status", world.name);
    let client = tapped::unreliable(client_config().await, move |request| {
        let is_late = request.starts_with("PATCH") && request.ends_with(&status_of_store);
        Fate::AnsweredLate(if is_late { Duration::from_secs(3) } else { Duration::ZERO })
    });
    world.start_as(world.config(), client, Health::default());
    world.synced("db", &[("v", "1")]).await;
    let powerless = world.domain.issue_client_certificate(Validity::days(90)).unwrap();
    world.domain.grant(&powerless.serial, Grants::nothing()).unwrap();
    world.put_credential(&powerless).await;
    status(&world, "it is rejected", |status| condition::find(&status.conditions, "CredentialsRejected").is_some())
        .await;
    world.store_ready("True", "Reachable").await;
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_of_a_store_before_a_restart_is_believed_only_for_so_long() {
    let mut world = By::Secret.world("unread").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    world.stop().await;
    // The API server answers everything but the credential.
    let answers = Arc::new(AtomicBool::new(false));
    let (gives, path) = (answers.clone(), format!("GET /api/v1/namespaces/{}/secrets/{CREDENTIAL}", world.name));
    let config = client_config().await;
    let client = tapped::garbling(config, move |request| request == path && !gives.load(Ordering::Relaxed));
    world.start_as(world.config(), client, Health::default());
    let words = world.store_ready("False", "InvalidCredential").await;
    assert!(words.contains("cannot be read, because the Kubernetes API does not answer"), "{words}");
    world.ready("db", "False", "StoreNotReady").await;
    answers.store(true, Ordering::Relaxed);
    world.store_ready("True", "Reachable").await;
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_something_else_is_not_blamed_for_a_credential_that_is_not_used() {
    let world = By::Secret.world("blame").await;
    world.store_ready("True", "Reachable").await;
    By::Secret.put_files(&world, "no certificate", "no key").await;
    let rejected = |status: &StoreStatus| condition::find(&status.conditions, "CredentialsRejected").is_some();
    status(&world, "it is rejected", rejected).await;
    world.patch_store(json!({"spec": {"refreshInterval": "2s"}})).await;
    let generation = world.stores().get(&world.name).await.unwrap().metadata.generation.unwrap();
    let status = status(&world, "the edit is looked at", |status| status.observed_generation == generation).await;
    assert!(rejected(&status));
    assert_eq!(condition::find(&status.conditions, "Ready").unwrap().status, "True");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_may_only_read_data_replace_one_another() {
    let mut world = By::Secret.world("dataonly").await;
    let data_only = || Grants::of(&[Action::VersionGetData]);
    world.domain.grant(&world.certificate.serial, data_only()).unwrap();
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let new = world.domain.issue_client_certificate(Validity::days(90)).unwrap();
    world.domain.grant(&new.serial, data_only()).unwrap();
    world.put_credential(&new).await;
    status(&world, "it is in use", |status| serial(status) == Some(&new.credential_id)).await;
    world.domain.put("db", json!({"v": "2"}));
    world.synced("db", &[("v", "2")]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_spec_that_does_not_work_is_not_ready_though_the_old_one_goes_on() {
    let world = World::new("badspec").await;
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let right = world.sim.server_ca_pem();
    let other = Sim::start(Options::default()).await.unwrap();
    let unreadable = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    for (n, (spec, reason)) in [
        // Proven by the handshake not to work, known without one, and not even there.
        (json!({"ca": {"pem": other.server_ca_pem()}}), "TlsFailed"),
        (json!({"ca": {"pem": unreadable}}), "InvalidCredential"),
        (json!({"ca": {"pem": null, "secretRef": {"name": "nowhere", "key": "ca.crt"}}}), "InvalidCredential"),
    ]
    .into_iter()
    .enumerate()
    {
        world.patch_store(json!({ "spec": spec })).await;
        let status = status(&world, "the changed spec is not ready", |status| {
            let ready = condition::find(&status.conditions, "Ready").unwrap();
            (ready.status.as_str(), ready.reason.as_str()) == ("False", reason)
        })
        .await;
        let generation = world.stores().get(&world.name).await.unwrap().metadata.generation;
        assert_eq!(Some(status.observed_generation), generation);
        let series = format!("okms_store_ready{{store=\"ClusterOkmsStore/{}\"}} 0\n", world.name);
        eventually("so says the metric", async || {
            let metrics = world.operator.as_ref().unwrap().metrics.encode();
            if metrics.contains(&series) { Ok(()) } else { Err(metrics) }
        })
        .await;
        if n < 2 {
            let ready = condition::find(&status.conditions, "Ready").unwrap();
            assert!(ready.message.contains("what the store said before stays in use"), "{}", ready.message);
            assert!(condition::find(&status.conditions, "CredentialsRejected").is_some());
            world.domain.put("db", json!({"v": format!("{n}")}));
            world.synced("db", &[("v", &n.to_string())]).await;
        }
        world.patch_store(json!({"spec": {"ca": {"pem": right, "secretRef": null}}})).await;
        world.store_ready("True", "Reachable").await;
    }
    // What changes nothing of the connection is not held up by it.
    world.patch_store(json!({"spec": {"refreshInterval": "2s"}})).await;
    status(&world, "the spec is looked at", |status| status.observed_generation == 8).await;
    world.store_ready("True", "Reachable").await;
}

fn serial(status: &StoreStatus) -> Option<&String> {
    status.certificate.as_ref().map(|certificate| &certificate.serial)
}

/// Waits until the status of the store is so.
async fn status(world: &World, what: &str, is: impl Fn(&StoreStatus) -> bool) -> StoreStatus {
    eventually(what, async || {
        let status = world.stores().get(&world.name).await.unwrap().status.unwrap_or_default();
        if is(&status) { Ok(status) } else { Err(status) }
    })
    .await
}

async fn put_ca(world: &World, pem: &str) {
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.name);
    let map: Value =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": pem}});
    maps.patch("ca", &PatchParams::apply("test").force(), &Patch::Apply(map)).await.unwrap();
}
