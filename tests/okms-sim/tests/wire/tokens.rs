//! The token endpoint, the clock that answers show, and the certificates that a server may show.

use std::time::Duration;

use okms_sim::{Action, Domain, Fault, Grants, Naming, Operation, ServerCertificate, ServiceAccount, Sim, Validity};
use serde_json::{Value, json};

use crate::client::{Answer, Client, answer, causes};

const SECRET: &str = "v1/secret/data/prod%2Fdb";

struct Stage {
    sim: Sim,
    domain: Domain,
    account: ServiceAccount,
    client: Client,
}

async fn started() -> Stage {
    let (sim, domain, _) = crate::started().await;
    domain.put("prod/db", json!({}));
    let client = Client::with(&sim, &domain, None);
    let account = domain.issue_service_account();
    Stage { sim, domain, account, client }
}

impl Stage {
    async fn ask(&self, form: String) -> Answer {
        let request = self.client.post(&self.sim.token_endpoint()).body(form);
        answer(request.send().await.unwrap()).await.unwrap()
    }

    async fn token(&self) -> Answer {
        self.ask(form(&self.account.client_id, &self.account.client_secret, "all")).await
    }

    async fn fresh(&self) -> String {
        self.token().await.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn read(&self, token: &str) -> u16 {
        let request = self.client.request("GET", SECRET).bearer_auth(token);
        answer(request.send().await.unwrap()).await.unwrap().status
    }
}

fn form(id: &str, secret: &str, scope: &str) -> String {
    format!("grant_type=client_credentials&client_id={id}&client_secret={secret}&scope={scope}")
}

fn refusal(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.json()["error"].clone())
}

#[tokio::test]
async fn a_service_account_gets_a_token_that_reads() {
    let stage = started().await;
    let answer = stage.token().await;
    let body = answer.json();
    assert_eq!((answer.status, &body["token_type"], &body["scope"]), (200, &json!("Bearer"), &json!("all")));
    assert_eq!(body["expires_in"], 3599);
    assert_eq!(stage.read(body["access_token"].as_str().unwrap()).await, 200);
    let counters = stage.sim.counters();
    assert_eq!(counters.of("PostOAuth2Token"), 1);
    assert_eq!(counters.by(&stage.account.client_id), 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_for_a_token_has_its_code() {
    let stage = started().await;
    let (id, secret) = (&stage.account.client_id, &stage.account.client_secret);
    for (form, status, code) in [
        (form(id, secret, ""), 400, "invalid_scope"),
        (form(id, secret, "read"), 400, "invalid_scope"),
        (form(id, "wrong", "all"), 401, "invalid_client"),
        (form("wrong", secret, "all"), 401, "invalid_client"),
        (form(id, secret, "all").replace("client_credentials", "password"), 400, "unsupported_grant_type"),
        ("scope=all".to_owned(), 400, "invalid_request"),
        ("{}".to_owned(), 400, "invalid_request"),
    ] {
        assert_eq!(refusal(&stage.ask(form.clone()).await), (status, json!(code)), "{form}");
    }
    stage.sim.with_switches(|switches| switches.invalid_client_status = 400);
    assert_eq!(refusal(&stage.ask(form(id, "wrong", "all")).await), (400, json!("invalid_client")));
    stage.domain.revoke(id).unwrap();
    assert_eq!(refusal(&stage.token().await), (400, json!("invalid_client")));
}

#[tokio::test]
async fn tokens_end_by_the_simulators_clock_or_are_revoked() {
    let stage = started().await;
    stage.sim.with_switches(|switches| switches.token_seconds = Some(60));
    let token = stage.fresh().await;
    assert_eq!(stage.read(&token).await, 200);
    stage.sim.advance(Duration::from_secs(61));
    assert_eq!(stage.read(&token).await, 401);

    let token = stage.fresh().await;
    stage.domain.revoke_access_tokens(&stage.account.client_id);
    assert_eq!(stage.read(&token).await, 401);

    let token = stage.fresh().await;
    stage.domain.revoke(&stage.account.client_id).unwrap();
    assert_eq!(stage.read(&token).await, 401);
}

#[tokio::test]
async fn a_life_may_be_left_out_or_be_over() {
    let stage = started().await;
    stage.sim.with_switches(|switches| switches.token_seconds = None);
    assert!(stage.token().await.json().get("expires_in").is_none());
    stage.sim.with_switches(|switches| switches.token_seconds = Some(-1));
    assert_eq!(stage.token().await.json()["expires_in"], -1);
}

#[tokio::test]
async fn a_token_may_do_what_its_account_may() {
    let stage = started().await;
    let token = stage.fresh().await;
    stage.domain.grant(&stage.account.client_id, Grants::of(&[Action::SecretGet])).unwrap();
    assert_eq!(stage.read(&token).await, 403);
    stage.domain.grant(&stage.account.client_id, Grants::read_only()).unwrap();
    assert_eq!(stage.read(&token).await, 200);
}

#[tokio::test]
async fn faults_hit_the_token_endpoint_like_any_operation() {
    let stage = started().await;
    let token = stage.fresh().await;
    let fault = Fault::status_retry_after(429, "7").on(&[Operation::PostOAuth2Token]).times(1);
    stage.sim.fault(fault);
    assert_eq!(stage.read(&token).await, 200, "it is not meant");
    let answer = stage.token().await;
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(stage.token().await.status, 200);
}

#[tokio::test]
async fn the_date_is_a_switch_and_does_not_follow_the_clock() {
    let stage = started().await;
    let date = async || {
        let answer = stage.client.get(SECRET).await;
        let text = answer.headers.get("date")?.to_str().unwrap().to_owned();
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&text).unwrap();
        Some(date.duration_since(jiff::Timestamp::now()).as_secs())
    };
    stage.sim.advance(Duration::from_hours(24));
    assert!(date().await.unwrap().abs() < 60);
    stage.sim.with_switches(|switches| switches.date_skew_seconds = Some(-3_600));
    assert!((date().await.unwrap() + 3_600).abs() < 60);
    stage.sim.with_switches(|switches| switches.date_skew_seconds = None);
    assert_eq!(date().await, None);
    stage.sim.with_switches(|switches| switches.date_skew_seconds = Some(0));
    let headers = [("date", "nonsense")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    stage.sim.fault(Fault::new(okms_sim::FaultKind::Answer { status: 200, headers, body: String::new() }));
    assert_eq!(stage.client.get(SECRET).await.headers["date"], "nonsense");
}

#[tokio::test]
async fn the_server_shows_the_certificate_that_a_switch_says() {
    let (sim, domain, _) = crate::started().await;
    let why = async |certificate| {
        sim.with_switches(|switches| switches.server_certificate = certificate);
        Client::of(&sim, &domain).try_get("v1/secret/config").await.err().map(|error| causes(&error))
    };
    for (certificate, part) in [
        (ServerCertificate::Expired, "expired"),
        (ServerCertificate::NotYetValid, "not valid yet"),
        (ServerCertificate::OtherName, "not valid for name"),
        (ServerCertificate::OtherAuthority, "invalid peer certificate"),
        (ServerCertificate::OtherPurpose, "invalid peer certificate"),
    ] {
        let why = why(certificate).await.unwrap();
        assert!(why.contains(part), "{certificate:?}: {why}");
    }
    assert_eq!(why(ServerCertificate::Valid).await, None);
}

#[tokio::test]
async fn a_client_certificate_can_be_required() {
    let (sim, domain, client) = crate::started().await;
    sim.with_switches(|switches| switches.certificate_required = true);
    let error = Client::with(&sim, &domain, None).try_get("v1/secret/config").await.err().unwrap();
    assert!(causes(&error).contains("CertificateRequired"), "{}", causes(&error));
    assert_eq!(client.get("v1/secret/config").await.status, 200);
}

#[tokio::test]
async fn certificates_may_name_any_domain_or_none() {
    let (sim, domain, _) = crate::started().await;
    let neighbour = sim.add_domain();
    for (naming, elsewhere) in
        [(Naming::Documented, 403), (Naming::AnyDomain, 200), (Naming::SubjectOnly, 403), (Naming::Nothing, 403)]
    {
        let certificate = domain.issue_client_certificate_named(naming, Validity::days(1)).unwrap();
        let status = async |domain| Client::with(&sim, domain, Some(&certificate)).get("v1/secret/config").await.status;
        assert_eq!((status(&domain).await, status(&neighbour).await), (200, elsewhere), "{naming:?}");
    }
}
