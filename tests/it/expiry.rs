//! A certificate comes to its end: what is said before, when it ends, and after it was replaced. The clocks of the operator and of OKMS
//! are moved.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use okms_operator::{
    api::{StoreStatus, condition},
    controller::{Config, clock::Clock},
};
use okms_sim::Validity;
use serde_json::json;

use crate::world::{World, by_secret, eventually};

struct Clocks<'a> {
    world: &'a World,
    clock: Clock,
}

impl Clocks<'_> {
    fn advance(&self, hours: u64) {
        self.world.sim.advance(Duration::from_secs(hours * 3600));
        self.clock.advance(SignedDuration::from_hours(i64::try_from(hours).unwrap()));
    }

    /// Waits until the condition has this reason, or is not there.
    async fn expiring(&self, reason: Option<&str>) -> StoreStatus {
        eventually(&format!("CredentialsExpiring is {reason:?}"), async || {
            let status = self.world.stores().get(&self.world.name).await.unwrap().status.unwrap_or_default();
            let expiring = condition::find(&status.conditions, "CredentialsExpiring");
            if expiring.map(|condition| condition.reason.as_str()) == reason { Ok(status) } else { Err(status) }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_in_a_secret_is_followed_to_its_end() {
    to_its_end("ends", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_certificate_is_followed_to_its_end() {
    to_its_end("endm", false).await;
}

async fn to_its_end(name: &str, in_secret: bool) {
    let mut world = World::without_operator(name).await;
    let certificate = world.domain.issue_client_certificate(Validity::days(40)).unwrap();
    world.mount(&certificate);
    world.put_credential(&certificate).await;
    world.create_store(if in_secret { by_secret() } else { json!({}) }).await;
    let clock = Clock::default();
    let often = Duration::from_millis(200);
    let config = Config { clock: clock.clone(), clock_check: often, ..world.config() };
    world.start_with(config);
    world.domain.put("db", json!({"v": "1"}));
    world.apply("db", json!({"path": "db"})).await;
    world.synced("db", &[("v", "1")]).await;
    let clocks = Clocks { world: &world, clock };

    world.store_ready("True", "Reachable").await;
    let status = clocks.expiring(None).await;
    let shown = status.certificate.unwrap();
    assert_eq!(shown.serial, certificate.credential_id);
    assert_eq!(shown.not_after.0.as_second(), certificate.not_after.as_second());

    for (days, reason) in [(11, "ExpiresWithin30Days"), (22, "ExpiresWithin7Days"), (6, "ExpiresWithin1Day")] {
        clocks.advance(days * 24);
        let status = clocks.expiring(Some(reason)).await;
        let expiring = condition::find(&status.conditions, "CredentialsExpiring").unwrap();
        assert!(expiring.message.contains("create a new access certificate"), "{}", expiring.message);
        let place = if in_secret { format!("Secret {}/okms-client", world.name) } else { "mounted as".to_owned() };
        assert!(expiring.message.contains(&place), "{}", expiring.message);
        assert_eq!(condition::find(&status.conditions, "Ready").unwrap().status, "True", "it works to the last");
    }
    clocks.advance(36);
    let status = clocks.expiring(Some("Expired")).await;
    assert_eq!(status.certificate.unwrap().serial, certificate.credential_id, "it says which one has ended");
    let words = world.store_ready("False", "InvalidCredential").await;
    assert!(words.contains("the client certificate has expired"), "{words}");
    assert!(world.secret("db").await.is_some());

    // With another one all is well at once.
    let new = world.domain.issue_client_certificate(Validity::days(365)).unwrap();
    world.mount(&new);
    world.put_credential(&new).await;
    world.domain.put("db", json!({"v": "2"}));
    world.store_ready("True", "Reachable").await;
    clocks.expiring(None).await;
    world.synced("db", &[("v", "2")]).await;

    // One event for each step, whatever else was written.
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    eventually("each step has its event", async || {
        let all = events.list(&ListParams::default()).await.unwrap();
        let own = all.iter().filter(|event| {
            event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(world.name.as_str())
        });
        let mut told: Vec<_> = own.filter_map(|event| event.reason.clone()).collect();
        told.retain(|reason| reason.starts_with("Expire"));
        told.sort();
        let expected = ["Expired", "ExpiresWithin1Day", "ExpiresWithin30Days", "ExpiresWithin7Days"];
        if told == expected { Ok(()) } else { Err(told) }
    })
    .await;
}
