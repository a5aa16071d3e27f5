//! Who is let in: client certificates, tokens, grants.

use std::time::Duration;

use okms_sim::{Action, CertificateRefusal, ClientCertificate, Domain, Grants, RevokedConnections, Sim, Validity};
use serde_json::json;

use crate::client::{Client, answer, causes};

const SECRET: &str = "v1/secret/data/prod%2Fdb";

async fn started() -> (Sim, Domain) {
    let (sim, domain, _) = crate::started().await;
    domain.put("prod/db", json!({"password": "hunter2"}));
    (sim, domain)
}

/// The handshake is refused, and the client can read why.
async fn refused_by_tls(sim: &Sim, domain: &Domain, certificate: &ClientCertificate, why: &str) {
    let client = Client::with(sim, domain, Some(certificate));
    let error = client.try_get(SECRET).await.err().expect("the handshake is refused");
    let error = causes(&error);
    assert!(error.contains(why), "{error}");
}

#[tokio::test]
async fn a_certificate_of_the_domain_reads() {
    let (sim, domain) = started().await;
    let client = Client::of(&sim, &domain);
    let answer = client.get(SECRET).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["data"]["data"], json!({"password": "hunter2"}));
    let counters = sim.counters();
    assert_eq!(counters.of_on("GetSecretRequest", "prod/db"), 1);
    assert_eq!((counters.handshakes, counters.data_reads), (1, 1));
    assert!(counters.bytes_in > 0 && counters.bytes_out > 0);
}

#[tokio::test]
async fn tls_1_2_works_too() {
    let (sim, domain) = started().await;
    let certificate = domain.issue_client_certificate(Validity::days(1)).unwrap();
    let client = Client::build(&sim, &domain, Some(&certificate), |builder| {
        builder.tls_version_max(reqwest::tls::Version::TLS_1_2)
    });
    assert_eq!(client.get(SECRET).await.status, 200);
}

#[tokio::test]
async fn bad_certificates_are_refused_in_the_handshake() {
    let (sim, domain) = started().await;
    let issue = |domain: &Domain, validity| domain.issue_client_certificate(validity).unwrap();

    let foreign = issue(&sim.foreign_domain(), Validity::days(1));
    refused_by_tls(&sim, &domain, &foreign, "BadCertificate").await;

    let (other_region, ..) = crate::started().await;
    let stranger = issue(&other_region.domain(), Validity::days(1));
    refused_by_tls(&sim, &domain, &stranger, "BadCertificate").await;

    let expired = issue(&domain, Validity::expired());
    refused_by_tls(&sim, &domain, &expired, "CertificateExpired").await;

    let not_yet = issue(&domain, Validity::not_yet());
    refused_by_tls(&sim, &domain, &not_yet, "CertificateExpired").await;

    let revoked = issue(&domain, Validity::days(1));
    domain.revoke(&revoked.serial).unwrap();
    refused_by_tls(&sim, &domain, &revoked, "CertificateRevoked").await;

    assert_eq!(sim.counters().handshakes_refused, 5);
}

#[tokio::test]
async fn the_clock_ends_a_certificate() {
    let (sim, domain) = started().await;
    let certificate = domain.issue_client_certificate(Validity::days(2)).unwrap();
    assert_eq!(Client::with(&sim, &domain, Some(&certificate)).get(SECRET).await.status, 200);
    sim.advance(Duration::from_hours(72));
    refused_by_tls(&sim, &domain, &certificate, "CertificateExpired").await;
}

#[tokio::test]
async fn with_the_switch_bad_certificates_get_a_403() {
    let (sim, domain) = started().await;
    sim.with_switches(|switches| switches.certificate_refusal = CertificateRefusal::Forbidden);
    let revoked = domain.issue_client_certificate(Validity::days(1)).unwrap();
    domain.revoke(&revoked.serial).unwrap();
    let certificates = [
        sim.foreign_domain().issue_client_certificate(Validity::days(1)).unwrap(),
        domain.issue_client_certificate(Validity::expired()).unwrap(),
        domain.issue_client_certificate(Validity::not_yet()).unwrap(),
        revoked,
    ];
    for certificate in &certificates {
        let answer = Client::with(&sim, &domain, Some(certificate)).get(SECRET).await;
        assert_eq!((answer.status, answer.code()), (403, 16_924_673));
    }
}

#[tokio::test]
async fn a_certificate_of_a_neighbour_domain_is_forbidden() {
    let (sim, domain) = started().await;
    let neighbour = sim.add_domain();
    let certificate = neighbour.issue_client_certificate(Validity::days(1)).unwrap();
    let answer = Client::with(&sim, &domain, Some(&certificate)).get(SECRET).await;
    assert_eq!((answer.status, answer.code()), (403, 16_924_673));
}

#[tokio::test]
async fn revocation_closes_open_connections() {
    let (sim, domain) = started().await;
    let certificate = domain.issue_client_certificate(Validity::days(1)).unwrap();
    let client = Client::with(&sim, &domain, Some(&certificate));
    assert_eq!(client.get(SECRET).await.status, 200);
    domain.revoke(&certificate.serial).unwrap();
    assert!(client.try_get(SECRET).await.is_err());
}

#[tokio::test]
async fn with_the_switch_open_connections_survive_revocation() {
    let (sim, domain) = started().await;
    sim.with_switches(|switches| switches.revoked_connections = RevokedConnections::Keep);
    let certificate = domain.issue_client_certificate(Validity::days(1)).unwrap();
    let client = Client::with(&sim, &domain, Some(&certificate));
    assert_eq!(client.get(SECRET).await.status, 200);
    domain.revoke(&certificate.serial).unwrap();
    assert_eq!(client.get(SECRET).await.status, 200);
    assert_eq!(sim.counters().by(&certificate.serial), 2);
}

#[tokio::test]
async fn tokens_work_in_both_headers_and_no_identity_does_not() {
    let (sim, domain) = started().await;
    let client = Client::with(&sim, &domain, None);
    let nobody = client.get(SECRET).await;
    assert_eq!((nobody.status, nobody.code()), (401, 50_475_011));

    let token = domain.issue_token();
    let with = async |name: &str, value: String| {
        let request = client.request("GET", SECRET).header(name, value);
        answer(request.send().await.unwrap()).await.unwrap().status
    };
    assert_eq!(with("authorization", format!("Bearer {token}")).await, 200);
    assert_eq!(with("x-vault-token", token.clone()).await, 200);
    assert_eq!(with("authorization", "Bearer wrong".to_owned()).await, 401);
    assert_eq!(with("authorization", format!("Basic {token}")).await, 401);

    let neighbour = sim.add_domain().issue_token();
    assert_eq!(with("x-vault-token", neighbour).await, 403);
    let short = domain.issue_token_for(Duration::from_mins(1));
    sim.advance(Duration::from_secs(61));
    assert_eq!(with("x-vault-token", short).await, 401);
    domain.revoke(&token).unwrap();
    assert_eq!(with("x-vault-token", token).await, 401);
}

#[tokio::test]
async fn an_identity_does_what_it_is_granted_and_nothing_else() {
    let (sim, domain) = started().await;
    domain.put("test/db", json!({}));
    let certificate = domain.issue_client_certificate(Validity::days(1)).unwrap();
    let grants =
        Grants::nothing().and(&[Action::SecretGet, Action::VersionGetData], &["prod/*"]).and(&[Action::ConfigGet], &[]);
    domain.grant(&certificate.serial, grants).unwrap();
    let client = Client::with(&sim, &domain, Some(&certificate));

    for (tail, status) in [
        (SECRET, 200),
        ("v2/secret/prod%2Fdb?includeData=true", 200),
        ("v1/secret/config", 200),
        ("v1/secret/data/test%2Fdb", 403),
        ("v1/secret/metadata/test%2Fdb", 403),
        ("v1/secret/subkeys/prod%2Fdb", 403),
    ] {
        assert_eq!(client.get(tail).await.status, status, "{tail}");
    }
    let write = json!({"data": {}});
    assert_eq!(client.send("POST", SECRET, &write).await.status, 403);
    let root = client.get("v1/secret/metadata").await.json();
    assert_eq!(root["data"]["keys"], json!(["prod/"]));

    sim.with_switches(|switches| switches.denied_status = 401);
    assert_eq!(client.get("v1/secret/data/test%2Fdb").await.status, 401);
}
