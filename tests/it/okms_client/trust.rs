//! Who trusts whom: certificates of the server and of the client, good and bad.

use std::time::Duration;

use okms_operator::okms::{CredentialError, ErrorKind, TlsProblem};
use okms_sim::{CertificateRefusal, Naming, RevokedConnections, ServerCertificate};
use rustls::{
    HandshakeKind,
    version::{TLS12, TLS13},
};
use serde_json::json;

use super::*;

fn tls_problem(result: Result<Facts, Error>) -> TlsProblem {
    let error = result.expect_err("the two sides do not trust each other");
    match error.kind() {
        ErrorKind::Tls(problem) => {
            assert_eq!(error.to_string(), problem.to_string());
            problem
        }
        other => panic!("{other:?}: {error:?}"),
    }
}

#[tokio::test]
async fn an_identity_tells_what_the_domain_knows_of_it() {
    let stage = Stage::new().await;
    let identity = identity(&stage.certificate);
    assert_eq!(identity.okms_id().map(ToString::to_string), Some(stage.domain.okms_id()));
    assert_eq!(identity.serial(), stage.certificate.credential_id);
    assert_eq!(identity.not_after().as_second(), stage.certificate.not_after.as_second());
    let other = stage.sim.add_domain().okms_id().parse().unwrap();
    assert!(matches!(identity.belongs_to(&other), Err(CredentialError::OtherDomain(_))));
}

#[tokio::test]
async fn a_server_of_an_unknown_ca_is_not_trusted() {
    let stage = Stage::new().await;
    for roots in [Roots::Web, server::roots()] {
        let endpoint = stage.sim.endpoint();
        let client = client(&endpoint, &stage.domain, &roots, &stage.certificate, PATIENCE, &stage.seen);
        assert_eq!(tls_problem(metadata(&client, "a").await), TlsProblem::ServerUnknownCa);
    }
    assert_eq!(stage.sim.counters().total(), 0);
    assert_eq!(stage.seen.handshakes(), 0);
}

#[tokio::test]
async fn a_server_certificate_must_fit_its_name_and_time() {
    for http2 in [true, false] {
        let stage = Stage::with(http2, PATIENCE).await;
        stage.domain.put("a", json!({}));
        let mut sentences = std::collections::BTreeSet::new();
        for (certificate, problem) in [
            (ServerCertificate::OtherName, TlsProblem::ServerNameMismatch),
            (ServerCertificate::Expired, TlsProblem::ServerExpired),
            (ServerCertificate::NotYetValid, TlsProblem::ServerNotYetValid),
            (ServerCertificate::OtherAuthority, TlsProblem::ServerUnknownCa),
            (ServerCertificate::OtherPurpose, TlsProblem::ServerUnfit),
        ] {
            stage.sim.with_switches(|switches| switches.server_certificate = certificate);
            assert_eq!(tls_problem(metadata(&stage.client, "a").await), problem);
            assert!(sentences.insert(problem.to_string()));
        }
        stage.sim.with_switches(|switches| switches.server_certificate = ServerCertificate::Valid);
        metadata(&stage.client, "a").await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_says_so_to_a_token() {
    for http2 in [true, false] {
        let stage = Stage::with(http2, PATIENCE).await;
        stage.domain.put("a", json!({}));
        stage.sim.with_switches(|switches| switches.certificate_required = true);
        let token = okms_operator::okms::Token::new(stage.domain.issue_token().as_bytes()).unwrap();
        let (endpoint, roots) = (stage.sim.endpoint(), own_roots(&stage.sim));
        let client = client_of(&endpoint, &stage.domain, &roots, &token.into(), PATIENCE, &stage.seen);
        for _ in 0..5 {
            assert_eq!(tls_problem(metadata(&client, "a").await), TlsProblem::ClientRequired);
        }
        metadata(&stage.client, "a").await.unwrap();
    }
}

#[tokio::test]
async fn the_answer_of_the_api_is_a_credential_as_it_stands() {
    let stage = Stage::new().await;
    stage.domain.put("a", json!({}));
    let answer = json!({
        "id": stage.certificate.credential_id,
        "status": "READY",
        "fromCSR": false,
        "certificatePEM": stage.certificate.cert_pem,
        "privateKeyPEM": stage.certificate.key_pem,
    });
    let files = BTreeMap::from([("credential.json".to_owned(), answer.to_string().into_bytes())]);
    let issued = Identity::from_files(&files).unwrap();
    assert!(issued == identity(&stage.certificate));
    let (endpoint, roots) = (stage.sim.endpoint(), own_roots(&stage.sim));
    let client = client_of(&endpoint, &stage.domain, &roots, &issued.into(), PATIENCE, &stage.seen);
    metadata(&client, "a").await.unwrap();
    assert_eq!(stage.sim.counters().by(&stage.certificate.serial), 1);
}

#[tokio::test]
async fn certificates_that_do_not_name_one_domain_read_from_the_one_that_is_named() {
    let stage = Stage::new().await;
    stage.domain.put("a", json!({}));
    for (naming, why) in [
        (Naming::SubjectOnly, None),
        (Naming::AnyDomain, Some(CredentialError::AnyDomain)),
        (Naming::Nothing, Some(CredentialError::NoDomain)),
    ] {
        let certificate = stage.domain.issue_client_certificate_named(naming, Validity::days(1)).unwrap();
        assert_eq!(identity(&certificate).domain().err(), why);
        metadata(&stage.client_with(&certificate), "a").await.unwrap();
    }
}

#[tokio::test]
async fn a_client_certificate_that_is_refused_is_told_from_an_outage() {
    for http2 in [true, false] {
        let stage = Stage::with(http2, PATIENCE).await;
        let issue = |domain: &Domain, validity| domain.issue_client_certificate(validity).unwrap();
        let revoked = issue(&stage.domain, Validity::days(1));
        stage.domain.revoke(&revoked.serial).unwrap();
        for (certificate, problem) in [
            (issue(&stage.sim.foreign_domain(), Validity::days(1)), TlsProblem::ClientBad),
            (issue(&stage.domain, Validity::expired()), TlsProblem::ClientExpired),
            (revoked, TlsProblem::ClientRevoked),
        ] {
            let client = stage.client_with(&certificate);
            for _ in 0..5 {
                assert_eq!(tls_problem(metadata(&client, "a").await), problem);
            }
        }
        assert_eq!(stage.sim.counters().total(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_heard_from_a_server_that_hangs_up_at_once() {
    let stage = Stage::new().await;
    for (alpn, version) in [(&b"h2"[..], &TLS13), (b"http/1.1", &TLS13), (b"h2", &TLS12), (b"http/1.1", &TLS12)] {
        let endpoint = format!("https://{}", server::refusing(alpn, version));
        for _ in 0..25 {
            let client = client(&endpoint, &stage.domain, &server::roots(), &stage.certificate, PATIENCE, &stage.seen);
            assert_eq!(tls_problem(metadata(&client, "a").await), TlsProblem::ClientUnknown, "{version:?}");
        }
    }
}

#[tokio::test]
async fn every_connection_shows_the_certificates_anew() {
    let stage = Stage::new().await;
    let says = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (address, kinds) = server::tls_watched(&server::valid(), says);
    let endpoint = format!("https://{address}");
    let client = client(&endpoint, &stage.domain, &server::roots(), &stage.certificate, PATIENCE, &stage.seen);
    for _ in 0..3 {
        assert_eq!(metadata(&client, "a").await.unwrap_err().status(), Some(404));
    }
    assert_eq!(*kinds.lock().unwrap(), [HandshakeKind::Full; 3]);
}

#[tokio::test]
async fn a_client_certificate_may_be_refused_by_status_instead() {
    let stage = Stage::new().await;
    stage.sim.with_switches(|switches| switches.certificate_refusal = CertificateRefusal::Forbidden);
    let foreign = stage.sim.foreign_domain().issue_client_certificate(Validity::days(1)).unwrap();
    let error = metadata(&stage.client_with(&foreign), "a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("IAM"), "{error}");
}

#[tokio::test]
async fn a_revocation_ends_the_open_connection() {
    for http2 in [true, false] {
        let stage = Stage::with(http2, PATIENCE).await;
        stage.domain.put("a", json!({}));
        metadata(&stage.client, "a").await.unwrap();
        stage.domain.revoke(&stage.certificate.serial).unwrap();
        // The end of the old connection may be noticed only by the request on it.
        let first = metadata(&stage.client, "a").await.unwrap_err().kind();
        assert!(matches!(first, ErrorKind::Unavailable | ErrorKind::Tls(TlsProblem::ClientRevoked)), "{first:?}");
        assert_eq!(tls_problem(metadata(&stage.client, "a").await), TlsProblem::ClientRevoked);
    }
}

#[tokio::test]
async fn a_revocation_is_noticed_when_a_connection_has_lived_its_time() {
    let lifetimes = [(PATIENCE.timeout, 4, true), (Duration::from_mins(10), 1, false)];
    for (connection_lifetime, handshakes, noticed) in lifetimes {
        let stage = Stage::with(true, ClientOptions { connection_lifetime, ..PATIENCE }).await;
        stage.sim.with_switches(|switches| switches.revoked_connections = RevokedConnections::Keep);
        stage.domain.put("a", json!({}));
        for _ in 0..4 {
            metadata(&stage.client, "a").await.unwrap();
        }
        assert_eq!(stage.seen.handshakes(), handshakes);
        stage.domain.revoke(&stage.certificate.serial).unwrap();
        assert_eq!(metadata(&stage.client, "a").await.is_err(), noticed);
    }
}

#[tokio::test]
async fn requests_under_way_end_on_the_connection_they_began_on() {
    let stage = Stage::with(true, ClientOptions { connection_lifetime: PATIENCE.timeout, ..PATIENCE }).await;
    stage.domain.put("a", json!({}));
    let slow = okms_sim::Fault::latency(Duration::from_millis(500)).on_path("a").times(1);
    stage.sim.fault(slow);
    let (first, second) = tokio::join!(metadata(&stage.client, "a"), metadata(&stage.client, "a"));
    assert!(first.is_ok() && second.is_ok());
}
