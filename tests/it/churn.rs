//! Two hours of rotations, one a minute, compressed: a new certificate comes as soon as the last is in use.

use std::time::Duration;

use okms_operator::{api::condition, controller::Config};
use okms_sim::{ClientCertificate, Validity};
use serde_json::json;

use crate::{
    load::{Failures, LOAD, Load},
    world::{World, by_secret, eventually},
};

/// One a minute for two hours.
const ROTATIONS: usize = 120;

/// The ways in which each tenth is bad.
#[derive(Debug, Clone, Copy)]
enum Bad {
    OtherKey,
    Expired,
    OtherDomain,
    Revoked,
    Garbage,
}

const BAD: [Bad; 5] = [Bad::OtherKey, Bad::Expired, Bad::OtherDomain, Bad::Revoked, Bad::Garbage];

impl Bad {
    async fn put(self, world: &World) {
        let issue = |validity| world.domain.issue_client_certificate(validity).unwrap();
        let sound = issue(Validity::days(30));
        let files = |certificate: &ClientCertificate| (certificate.cert_pem.clone(), certificate.key_pem.clone());
        let (certificate, key) = match self {
            Self::OtherKey => (sound.cert_pem, issue(Validity::days(30)).key_pem),
            Self::Expired => files(&issue(Validity { starts_in: -7200, ends_in: -3600 })),
            Self::OtherDomain => files(&world.sim.add_domain().issue_client_certificate(Validity::days(30)).unwrap()),
            Self::Revoked => {
                world.domain.revoke(&sound.serial).unwrap();
                files(&sound)
            }
            Self::Garbage => ("no certificate".to_owned(), "no key".to_owned()),
        };
        world.put_credential_files(json!({"tls.crt": certificate, "tls.key": key})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hours_of_rotations_of_which_one_in_ten_is_bad_fail_no_sync() {
    let mut world = World::without_operator("churn").await;
    world.put_credential(&world.certificate).await;
    world.create_store(by_secret()).await;
    let often = Duration::from_millis(100);
    let mut config = Config { min_refresh_interval: often, refresh_interval: often, ..world.config() };
    // A machine that stands still for a moment is no failure.
    config.timing.staleness_floor = Duration::from_mins(1);
    world.start_with(config);
    let load = Load::start(&world).await;
    let failures = Failures::watch(&world).await;
    let handshakes = world.sim.counters().handshakes;

    let mut bad = BAD.into_iter().cycle();
    for n in 1..=ROTATIONS {
        if n % 10 == 0 {
            let bad = bad.next().unwrap();
            bad.put(&world).await;
            shown(&world, &format!("{bad:?} is rejected"), |rejected, _| rejected).await;
            continue;
        }
        let new = world.domain.issue_client_certificate(Validity::days(30)).unwrap();
        world.put_credential(&new).await;
        shown(&world, "the new certificate is in use", |rejected, serial| {
            !rejected && serial == Some(new.credential_id.as_str())
        })
        .await;
    }
    let versions = load.stop().await;
    for n in 0..LOAD {
        world.synced(&format!("db-{n}"), &[("v", &versions.to_string())]).await;
    }
    assert_eq!(failures.seen(&world).await, Vec::<String>::new());
    let handshakes = world.sim.counters().handshakes - handshakes;
    println!("{ROTATIONS} rotations, {versions} versions of {LOAD} secrets, {handshakes} TLS handshakes");
    // A proof of each certificate, retried with backoff for those that are refused, and one connection of its own for each in use.
    assert!(handshakes <= 6 * u64::try_from(ROTATIONS).unwrap(), "{handshakes} handshakes");
}

async fn shown(world: &World, what: &str, is: impl Fn(bool, Option<&str>) -> bool) {
    eventually(what, async || {
        let status = world.stores().get(&world.name).await.unwrap().status.unwrap_or_default();
        let rejected = condition::find(&status.conditions, "CredentialsRejected").is_some();
        let serial = status.certificate.as_ref().map(|certificate| certificate.serial.as_str());
        if is(rejected, serial) { Ok(()) } else { Err(status) }
    })
    .await;
}
