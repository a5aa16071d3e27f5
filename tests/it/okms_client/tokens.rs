//! Tokens and service accounts: what requests authenticate with besides a client certificate.

use std::time::Duration;

use futures::future::join_all;
use okms_operator::okms::{ErrorKind, ServiceAccount, TlsProblem, Token};
use okms_sim::{Action, Fault, FaultKind, Grants, ServerCertificate};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::*;

const CANARY: &str = "canary-7f3a";
const DEADLINE: Duration = Duration::from_mins(1);
const TOKEN: okms_sim::Operation = okms_sim::Operation::PostOAuth2Token;

/// A simulator with a client that is a service account.
struct Robot {
    sim: Sim,
    domain: Domain,
    account: okms_sim::ServiceAccount,
    seen: Arc<Seen>,
    client: Client,
}

impl Robot {
    async fn new() -> Self {
        Self::with(PATIENCE, |_| {}).await
    }

    async fn with(options: ClientOptions, switch: impl FnOnce(&mut okms_sim::Switches)) -> Self {
        let sim = Sim::start(Options::default()).await.unwrap();
        sim.with_switches(switch);
        let domain = sim.domain();
        domain.put("a", json!({ "k": "v" }));
        let account = domain.issue_service_account();
        let seen = Arc::new(Seen::default());
        let credential = credential(&account, &sim.token_endpoint(), own_roots(&sim));
        let client = client_of(&sim.endpoint(), &domain, &own_roots(&sim), &credential, options, &seen);
        Self { sim, domain, account, seen, client }
    }

    fn client_at(&self, token_endpoint: &str, roots: Roots) -> Client {
        let credential = credential(&self.account, token_endpoint, roots);
        let roots = own_roots(&self.sim);
        client_of(&self.sim.endpoint(), &self.domain, &roots, &credential, PATIENCE, &self.seen)
    }

    /// The same account in a client that has asked nothing yet.
    fn another_client(&self) -> Client {
        self.client_at(&self.sim.token_endpoint(), own_roots(&self.sim))
    }

    fn tokens(&self) -> u64 {
        self.sim.counters().of("PostOAuth2Token")
    }

    async fn asks(&self) {
        self.client.metadata(&path("a")).await.unwrap();
    }
}

fn credential(account: &okms_sim::ServiceAccount, token_endpoint: &str, roots: Roots) -> Credential {
    let (id, secret) = (account.client_id.as_bytes(), account.client_secret.as_bytes());
    ServiceAccount::new(id, secret, token_endpoint.parse().unwrap(), roots).unwrap().into()
}

fn token_client(sim: &Sim, domain: &Domain, token: &str, seen: &Arc<Seen>) -> Client {
    let credential = Token::new(token.as_bytes()).unwrap().into();
    client_of(&sim.endpoint(), domain, &own_roots(sim), &credential, PATIENCE, seen)
}

#[tokio::test]
async fn a_token_reads_without_a_client_certificate() {
    for http2 in [true, false] {
        let stage = Stage::with(http2, PATIENCE).await;
        stage.domain.put("a", json!({}));
        let token = stage.domain.issue_token();
        let client = token_client(&stage.sim, &stage.domain, &token, &stage.seen);
        metadata(&client, "a").await.unwrap();
        data(&client, "a", None).await.unwrap();
        client.list_root().await.unwrap();
        assert_eq!((stage.sim.counters().by("token"), stage.sim.counters().total()), (3, 3));

        stage.domain.revoke(&token).unwrap();
        let error = metadata(&client, "a").await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(401)));
        assert!(error.to_string().contains("that the token was not revoked"), "{error}");
        assert!(!shown(&error).contains(&token));
    }
}

#[tokio::test]
async fn a_token_without_rights_is_told_what_to_grant() {
    let stage = Stage::new().await;
    stage.domain.put("a", json!({}));
    let token = stage.domain.issue_token();
    stage.domain.grant(&token, Grants::of(&[Action::SecretGet])).unwrap();
    let client = token_client(&stage.sim, &stage.domain, &token, &stage.seen);
    let error = data(&client, "a", None).await.err().unwrap();
    assert_eq!(error.iam_action(), Some("okms:apikms:secret/version/getData"));
    let urn = format!("urn:v1:*:resource:okms:{}", stage.domain.okms_id());
    for part in ["the user of the token", "okms:apikms:secret/get", "secret/version/getData", &urn, "https://help.ovh"]
    {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn a_service_account_fetches_one_token_and_keeps_it() {
    let stage = Robot::new().await;
    for _ in 0..3 {
        stage.asks().await;
    }
    data(&stage.client, "a", None).await.unwrap();
    assert_eq!((stage.tokens(), stage.sim.counters().by(&stage.account.client_id)), (1, 4));
    let requests = stage.seen.requests.lock().unwrap();
    let tokens: Vec<_> = requests.iter().filter(|(operation, _)| *operation == Operation::Token).collect();
    assert_eq!(tokens, [&(Operation::Token, Outcome::Answered)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_at_once_share_one_token() {
    let stage = Robot::new().await;
    stage.sim.fault(Fault::latency(Duration::from_millis(300)).on(&[TOKEN]));
    let results = join_all((0..50).map(|_| metadata(&stage.client, "a"))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(stage.tokens(), 1);

    // The same when it ends for all of them.
    stage.domain.revoke_access_tokens(&stage.account.client_id);
    let results = join_all((0..50).map(|_| metadata(&stage.client, "a"))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(stage.tokens(), 2);
}

#[tokio::test]
async fn who_gives_up_waiting_does_not_end_it_for_the_others() {
    let stage = Robot::new().await;
    stage.sim.fault(Fault::latency(Duration::from_millis(500)).on(&[TOKEN]).times(1));
    assert!(timeout(Duration::from_millis(100), metadata(&stage.client, "a")).await.is_err(), "it gave up");
    stage.asks().await;
    assert_eq!(stage.tokens(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let stage = Robot::with(PATIENCE, |switches| switches.token_seconds = Some(30)).await;
    let start = Instant::now();
    timeout(DEADLINE, async {
        while stage.tokens() < 2 {
            stage.asks().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert!(start.elapsed() >= Duration::from_secs(24), "not before four fifths of its life");
    assert_eq!(stage.sim.counters().statuses.get(&401), None, "no request had to find out");
}

#[tokio::test]
async fn a_failing_renewal_keeps_the_token_in_use() {
    let stage = Robot::with(PATIENCE, |switches| switches.token_seconds = Some(40)).await;
    stage.asks().await;
    stage.sim.fault(Fault::status(503).on(&[TOKEN]));
    timeout(DEADLINE, async {
        while stage.tokens() < 2 {
            stage.asks().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    stage.asks().await;
    stage.sim.clear_faults();
    // It comes back by itself, and the requests meanwhile do not notice.
    timeout(DEADLINE, async {
        while stage
            .seen
            .requests
            .lock()
            .unwrap()
            .iter()
            .filter(|it| **it == (Operation::Token, Outcome::Answered))
            .count()
            < 2
        {
            stage.asks().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_token_that_is_not_accepted_any_more_is_renewed_and_the_request_repeated() {
    let stage = Robot::new().await;
    stage.asks().await;
    // It ends earlier than it said.
    stage.sim.advance(Duration::from_hours(2));
    stage.asks().await;
    assert_eq!(stage.tokens(), 2);
    assert_eq!(stage.sim.counters().statuses.get(&401), Some(&1));
}

#[tokio::test]
async fn a_refusal_of_a_new_token_is_final_and_not_asked_again() {
    let stage = Robot::new().await;
    stage.domain.grant(&stage.account.client_id, Grants::nothing()).unwrap();
    stage.sim.with_switches(|switches| switches.denied_status = 401);
    let refused = async || metadata(&stage.client, "a").await.unwrap_err();
    assert_eq!(refused().await.status(), Some(401));
    assert_eq!(stage.tokens(), 1, "it was fetched for this request");
    for _ in 0..10 {
        let error = refused().await;
        assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(401)));
        assert!(error.to_string().contains("the service account"), "{error}");
    }
    assert_eq!(stage.tokens(), 2, "one more, which did not help, is enough");
}

fn page() -> String {
    format!("<html>{CANARY}</html>")
}

fn coded(status: u16, code: &str) -> Fault {
    let body = json!({ "error": code, "error_description": CANARY }).to_string();
    Fault::answer(status, "application/json", body)
}

fn token(body: &serde_json::Value) -> Fault {
    Fault::answer(200, "application/json", body.to_string())
}

/// What a token endpoint may do, what kind of failure that is, and a part of the sentence.
fn failures() -> Vec<(Fault, ErrorKind, &'static str)> {
    use ErrorKind::{RateLimited, Refused, Unavailable, Unexpected};
    let vast = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(100_000));
    let redirect = FaultKind::Answer {
        status: 302,
        headers: [("location".to_owned(), format!("https://{CANARY}.example/"))].into(),
        body: String::new(),
    };
    vec![
        (Fault::answer(200, "text/html", page()), Unexpected, "does not answer in JSON"),
        (Fault::answer(400, "text/html", page()), Unexpected, "status 400"),
        (Fault::new(FaultKind::HtmlBadGateway), Unavailable, "status 502"),
        (Fault::status(404), Unexpected, "status 404"),
        (Fault::new(redirect), Unexpected, "redirects elsewhere"),
        (coded(401, "invalid_client"), Refused, "(invalid_client)"),
        (coded(400, "invalid_scope"), Refused, "(invalid_scope)"),
        (coded(400, "unauthorized_client"), Refused, "(unauthorized_client)"),
        (coded(400, "invalid_grant"), Refused, "(invalid_grant)"),
        (coded(400, "invalid_request"), Unexpected, "(invalid_request)"),
        (coded(400, "unsupported_grant_type"), Unexpected, "(unsupported_grant_type)"),
        (coded(403, CANARY), Refused, "does not know"),
        (Fault::status(503), Unavailable, "status 503"),
        (Fault::status_retry_after(429, "7"), RateLimited, "slow down"),
        (Fault::new(FaultKind::ResetBeforeEffect), Unavailable, "broke before the token endpoint"),
        (Fault::new(FaultKind::TruncatedBody), Unexpected, "cut short"),
        (Fault::answer(200, "application/json", vast), Unexpected, "64 KiB"),
        (Fault::answer(200, "application/json", page()), Unexpected, "something else than a token"),
        (token(&json!({ "scope": CANARY })), Unexpected, "without an access_token"),
        (token(&json!({ "access_token": format!("{CANARY}\n") })), Unexpected, "characters"),
        (token(&json!({ "access_token": CANARY, "token_type": "MAC" })), Unexpected, "another type than Bearer"),
        (token(&json!({ "access_token": CANARY, "expires_in": 0 })), Unexpected, "expired already"),
        (token(&json!({ "access_token": CANARY, "expires_in": -5 })), Unexpected, "expired already"),
    ]
}

#[tokio::test]
async fn every_failure_of_the_token_endpoint_has_its_kind_and_shows_nothing_of_the_answer() {
    for http2 in [true, false] {
        let stage = Robot::with(PATIENCE, |switches| switches.http2 = http2).await;
        for (fault, kind, part) in failures() {
            let id = stage.sim.fault(fault.on(&[TOKEN]));
            // A client of its own: one that has just failed does not ask again.
            let first = metadata(&stage.another_client(), "a").await.unwrap_err();
            let second = metadata(&stage.another_client(), "a").await.unwrap_err();
            assert_eq!(first.kind(), kind, "{first:?}");
            assert!(first.to_string().contains(part), "{part}: {first}");
            assert!(first.to_string().contains("token endpoint") || part.contains("unauthorized"), "{first}");
            assert_eq!(first.to_string(), second.to_string());
            for secret in [CANARY, &stage.account.client_secret] {
                assert!(!shown(&first).contains(secret), "{first:?}");
            }
            stage.sim.clear_fault(id);
        }
        assert_eq!(stage.sim.counters().of("GetSecretsMetadata"), 0, "nothing is asked without a token");
        metadata(&stage.another_client(), "a").await.expect("nothing is left of the faults");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused_by_the_real_rules_too() {
    let mut stage = Robot::new().await;
    stage.account.client_secret = "wrong".to_owned();
    let error = metadata(&stage.another_client(), "a").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(401)));
    assert!(error.to_string().contains("invalid_client") && !error.is_of_okms(), "{error}");
}

#[tokio::test]
async fn a_token_endpoint_that_fails_is_left_alone_for_a_while() {
    let stage = Robot::new().await;
    stage.sim.fault(Fault::status_retry_after(503, "3600").on(&[TOKEN]));
    let results = join_all((0..20).map(|_| metadata(&stage.client, "a"))).await;
    for error in results.into_iter().map(Result::unwrap_err) {
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Unavailable, Some(Duration::from_hours(1))));
    }
    for _ in 0..20 {
        assert_eq!(metadata(&stage.client, "a").await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(stage.tokens(), 1);
}

#[tokio::test]
async fn a_token_endpoint_that_does_not_answer_takes_the_time_limit_and_no_more() {
    let options = ClientOptions { timeout: Duration::from_millis(500), ..PATIENCE };
    let stage = Robot::with(options, |_| {}).await;
    stage.sim.fault(Fault::latency(Duration::from_mins(1)).on(&[TOKEN]));
    let error = timeout(DEADLINE, metadata(&stage.client, "a")).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("the token endpoint does not answer within the time limit"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_with_the_tls_of_the_token_endpoint_is_told_of_it() {
    let stage = Robot::new().await;
    let elsewhere = Sim::start(Options::default()).await.unwrap();
    for (certificate, problem) in [
        (ServerCertificate::Expired, TlsProblem::ServerExpired),
        (ServerCertificate::NotYetValid, TlsProblem::ServerNotYetValid),
        (ServerCertificate::OtherName, TlsProblem::ServerNameMismatch),
        (ServerCertificate::OtherAuthority, TlsProblem::ServerUnknownCa),
        (ServerCertificate::OtherPurpose, TlsProblem::ServerUnfit),
    ] {
        elsewhere.with_switches(|switches| switches.server_certificate = certificate);
        let client = stage.client_at(&elsewhere.token_endpoint(), own_roots(&elsewhere));
        let error = metadata(&client, "a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls(problem));
        assert!(error.to_string().contains("the token endpoint"), "{error}");
        assert_ne!(error.to_string(), problem.to_string());
    }
    elsewhere.with_switches(|switches| switches.server_certificate = ServerCertificate::Valid);
    let client = stage.client_at(&elsewhere.token_endpoint(), own_roots(&stage.sim));
    let error = metadata(&client, "a").await.unwrap_err();
    assert!(error.to_string().contains("into the ca of auth.oauth2"), "{error}");

    elsewhere.stop().await;
    let client = stage.client_at(&elsewhere.token_endpoint(), own_roots(&elsewhere));
    let error = metadata(&client, "a").await.unwrap_err();
    assert_eq!(error.to_string(), "no connection to the token endpoint: it refuses connections");

    let plain = format!("https://{}/token", server::plain(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let error = metadata(&stage.client_at(&plain, Roots::Web), "a").await.unwrap_err();
    assert!(error.to_string().contains("the token endpoint does not speak TLS"), "{error}");
}

#[tokio::test]
async fn a_secret_goes_to_its_token_endpoint_only() {
    let stage = Robot::new().await;
    let elsewhere = Sim::start(Options::default()).await.unwrap();
    for status in [301, 302, 303, 307, 308] {
        let headers = [("location".to_owned(), elsewhere.token_endpoint())].into();
        let fault = Fault::new(FaultKind::Answer { status, headers, body: String::new() });
        stage.sim.fault(fault.on(&[TOKEN]).times(1));
        assert_eq!(metadata(&stage.another_client(), "a").await.unwrap_err().kind(), ErrorKind::Unexpected);
    }
    assert_eq!(elsewhere.counters().connections, 0);
}
