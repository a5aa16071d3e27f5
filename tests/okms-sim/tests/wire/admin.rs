//! The admin port, and the program that offers it.

use std::process::Stdio;
use std::time::Duration;

use reqwest::{Certificate, Identity, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

/// The program, with the files that it wrote. It is killed when this is dropped.
struct Program {
    child: Child,
    folder: tempfile::TempDir,
    ready: Value,
    http: reqwest::Client,
}

impl Program {
    async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_okms-sim"))
            .arg("--dir")
            .arg(folder.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let ready = serde_json::from_str(&line).unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap();
        Self { child, folder, ready, http }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    async fn admin(&self, method: &str, tail: &str, body: Value) -> (u16, Value) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}{tail}", self.ready["admin"].as_str().unwrap());
        let response = self.http.request(method, url).json(&body).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        (status, body)
    }

    async fn done(&self, method: &str, tail: &str, body: Value) {
        let answer = self.admin(method, tail, body).await;
        assert_eq!(answer, (204, Value::Null), "{method} {tail}");
    }

    fn client(&self, pem: &str) -> reqwest::Client {
        let ca = Certificate::from_pem(self.file("ca.crt").as_bytes()).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([ca])
            .no_proxy()
            .timeout(DEADLINE)
            .identity(Identity::from_pem(pem.as_bytes()).unwrap())
            .build()
            .unwrap()
    }

    fn url(&self, tail: &str) -> String {
        let endpoint = self.ready["endpoint"].as_str().unwrap();
        format!("{endpoint}/api/{}/{tail}", self.file("okms-id"))
    }

    async fn status(&self, client: &reqwest::Client, tail: &str) -> Option<u16> {
        let response = client.get(self.url(tail)).send().await.ok()?;
        Some(response.status().as_u16())
    }
}

#[tokio::test]
async fn the_program_says_where_it_is_and_writes_what_a_client_needs() {
    let program = Program::start(&[]).await;
    assert_eq!(program.ready["ready"], true);
    assert_eq!(program.ready["okmsId"], program.file("okms-id"));
    let token_endpoint = format!("{}/auth/oauth2/token", program.ready["endpoint"].as_str().unwrap());
    assert_eq!(program.ready["tokenEndpoint"], token_endpoint);
    assert!(program.file("tls.key").starts_with("-----BEGIN EC PRIVATE KEY-----"));
    let client = program.client(&(program.file("tls.crt") + &program.file("tls.key")));
    assert_eq!(program.status(&client, "v1/secret/config").await, Some(200));
}

#[tokio::test]
async fn secrets_are_managed_by_the_admin_port() {
    let program = Program::start(&[]).await;
    let client = program.client(&(program.file("tls.crt") + &program.file("tls.key")));
    let secrets = "/domains/first/secrets";
    let secret = json!({"path": "prod/db", "data": {"k": "v"}});
    assert_eq!(program.admin("POST", secrets, secret).await, (200, json!({"version": 1})));
    let read = "v1/secret/data/prod%2Fdb";
    assert_eq!(program.status(&client, read).await, Some(200));

    let state = |state: &str| json!({"path": "prod/db", "state": state});
    let states = format!("{secrets}/state");
    program.done("POST", &states, state("deactivated")).await;
    assert_eq!(program.status(&client, read).await, Some(404));
    program.done("POST", &states, state("active")).await;
    assert_eq!(program.status(&client, read).await, Some(200));

    let metadata = json!({"path": "prod/db", "metadata": {"deleteVersionAfter": "1h"}});
    program.done("POST", &format!("{secrets}/metadata"), metadata).await;
    program.admin("POST", secrets, json!({"path": "prod/db", "data": {}})).await;
    program.done("POST", "/clock", json!({"advanceSeconds": 3_600})).await;
    assert_eq!(program.status(&client, read).await, Some(404));

    program.done("POST", &format!("{secrets}/delete"), json!({"path": "prod/db"})).await;
    assert_eq!(program.status(&client, "v2/secret/prod%2Fdb").await, Some(404));

    let seed = json!({"count": 3_000, "prefix": "many/s"});
    program.done("POST", &format!("{secrets}/seed"), seed).await;
    assert_eq!(program.status(&client, "v2/secret/many%2Fs2999").await, Some(200));
    program.done("PUT", "/domains/first/config", json!({"maxVersions": 3})).await;
}

#[tokio::test]
async fn certificates_and_grants_are_managed_by_the_admin_port() {
    let program = Program::start(&[]).await;
    let id = program.file("okms-id");
    let certificates = format!("/domains/{id}/certificates");
    let issue = async |tail: &str, validity: Value| {
        let (status, issued) = program.admin("POST", tail, validity).await;
        assert_eq!(status, 200);
        let part = |name: &str| issued[name].as_str().unwrap().to_owned();
        (program.client(&(part("certPem") + &part("keyPem"))), part("serial"))
    };
    let config = "v1/secret/config";
    let (client, serial) = issue(&certificates, json!({"days": 1})).await;
    assert_eq!(program.status(&client, config).await, Some(200));

    let nothing = json!({"identity": serial, "grants": [{"actions": ["secret/get"], "paths": ["a/*"]}]});
    program.done("PUT", &format!("/domains/{id}/grants"), nothing).await;
    assert_eq!(program.status(&client, config).await, Some(403));

    program.done("POST", &format!("/domains/{id}/revocations"), json!({"identity": serial})).await;
    assert_eq!(program.status(&client, config).await, None);

    let expired = json!({"startsIn": -7_200, "endsIn": -3_600});
    let (expired, _) = issue(&certificates, expired).await;
    assert_eq!(program.status(&expired, config).await, None);
    let (foreign, _) = issue("/foreign-certificates", json!({})).await;
    assert_eq!(program.status(&foreign, config).await, None);

    let (_, token) = program.admin("POST", "/domains/first/tokens", json!({})).await;
    let http = program.client(&(program.file("tls.crt") + &program.file("tls.key")));
    let token = token["token"].as_str().unwrap();
    let answered = http.get(program.url(config)).bearer_auth(token).send().await.unwrap();
    assert_eq!(answered.status(), 200);
}

#[tokio::test]
async fn faults_switches_and_counters_are_managed_by_the_admin_port() {
    let program = Program::start(&[]).await;
    let client = program.client(&(program.file("tls.crt") + &program.file("tls.key")));
    let config = "v1/secret/config";
    let fault = json!({
        "kind": {"status": {"status": 503, "retryAfter": "1"}},
        "operations": ["GetSecretConfig"],
        "times": 1,
    });
    let (_, set) = program.admin("POST", "/faults", fault).await;
    let (_, listed) = program.admin("GET", "/faults", json!({})).await;
    assert_eq!(listed[0]["id"], set["id"]);
    assert_eq!(program.status(&client, config).await, Some(503));
    assert_eq!(program.status(&client, config).await, Some(200));
    let (status, _) = program.admin("DELETE", &format!("/faults/{}", set["id"]), json!({})).await;
    assert_eq!(status, 404, "its count is used up");

    for kind in [
        json!({"latency": {"milliseconds": 1}}),
        json!({"slowBody": {"milliseconds": 1}}),
        json!("resetBeforeEffect"),
        json!("resetAfterEffect"),
        json!("truncatedBody"),
        json!("htmlBadGateway"),
        json!("domainNotFound"),
        json!({"staleReads": {"versionsBack": 1}}),
        json!("frozenReads"),
        json!("readOnly"),
        json!({"answer": {"status": 404, "headers": {"content-type": "text/plain"}, "body": "no"}}),
    ] {
        let (status, _) = program.admin("POST", "/faults", json!({"kind": kind, "path": "x/*"})).await;
        assert_eq!(status, 200, "{kind}");
    }
    program.done("DELETE", "/faults", json!({})).await;

    let (_, switches) = program.admin("PATCH", "/switches", json!({"deniedStatus": 401})).await;
    assert_eq!((&switches["deniedStatus"], &switches["casStatus"]), (&json!(401), &json!(400)));
    let (status, error) = program.admin("PATCH", "/switches", json!({"nonsense": 1})).await;
    assert_eq!(status, 400);
    assert!(error["error"].as_str().unwrap().contains("nonsense"));

    let (_, counters) = program.admin("GET", "/counters", json!({})).await;
    let expected = json!([{"operation": "GetSecretConfig", "path": "", "count": 2}]);
    assert_eq!((&counters["requests"], &counters["handshakes"]), (&expected, &json!(1)));
    program.done("DELETE", "/counters", json!({})).await;

    program.done("POST", "/stop", json!({})).await;
    assert_eq!(program.status(&client, config).await, None);
    program.done("POST", "/restart", json!({})).await;
    assert_eq!(program.status(&client, config).await, Some(200));
}

#[tokio::test]
async fn the_program_ends_with_its_standard_input_if_asked() {
    let mut program = Program::start(&["--until-stdin-closes"]).await;
    drop(program.child.stdin.take());
    let ended = timeout(DEADLINE, program.child.wait()).await.unwrap().unwrap();
    assert!(ended.success());
}

#[tokio::test]
async fn the_program_refuses_other_addresses_than_loopback() {
    for option in ["--listen", "--admin"] {
        let ended = Command::new(env!("CARGO_BIN_EXE_okms-sim")).args([option, "0.0.0.0:0"]).output();
        let output = timeout(DEADLINE, ended).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("loopback only") && error.lines().count() == 1, "{error}");
    }
}

#[tokio::test]
async fn service_accounts_are_managed_by_the_admin_port() {
    let program = Program::start(&[]).await;
    let (status, account) = program.admin("POST", "/domains/first/service-accounts", json!({})).await;
    assert_eq!(status, 200);
    let (id, secret) = (account["clientId"].as_str().unwrap(), account["clientSecret"].as_str().unwrap());
    let client = program.client(&(program.file("tls.crt") + &program.file("tls.key")));
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}&scope=all");
    let ask = async || {
        let request = client.post(program.ready["tokenEndpoint"].as_str().unwrap()).body(form.clone());
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask().await, 200);
    let grants = json!({"identity": id, "grants": [{"actions": ["secret/get"]}]});
    program.done("PUT", "/domains/first/grants", grants).await;
    program.done("POST", "/domains/first/access-tokens/revocations", json!({"clientId": id})).await;
    program.done("POST", "/domains/first/revocations", json!({"identity": id})).await;
    assert_eq!(ask().await, 401);
}

#[tokio::test]
async fn certificates_of_other_shapes_are_issued_by_the_admin_port() {
    let program = Program::start(&[]).await;
    let certificates = "/domains/first/certificates";
    for asked in [json!({"naming": "anyDomain"}), json!({"naming": "nothing", "days": 1})] {
        assert_eq!(program.admin("POST", certificates, asked).await.0, 200);
    }
    assert_eq!(program.admin("POST", certificates, json!({"days": 1, "startsIn": 0})).await.0, 400);
}
