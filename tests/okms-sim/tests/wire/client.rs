//! A small HTTP client for one domain, and its answers.

use std::time::Duration;

use okms_sim::{ClientCertificate, Domain, Sim, Validity};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Certificate, Identity, Method, Response};
use serde_json::Value;

/// Longer than any test may take to answer, shorter than a human's patience.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.headers[CONTENT_TYPE], "application/json");
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn code(&self) -> i64 {
        self.json()["error_code"].as_i64().unwrap()
    }

    pub(crate) fn next_cursor(&self) -> Option<String> {
        let value = self.headers.get("x-pagination-cursor-next")?;
        Some(value.to_str().unwrap().to_owned())
    }
}

impl Client {
    /// With a fresh certificate of the domain, which may do everything.
    pub(crate) fn of(sim: &Sim, domain: &Domain) -> Self {
        let certificate = domain.issue_client_certificate(Validity::days(1)).unwrap();
        Self::with(sim, domain, Some(&certificate))
    }

    pub(crate) fn with(sim: &Sim, domain: &Domain, certificate: Option<&ClientCertificate>) -> Self {
        Self::build(sim, domain, certificate, |builder| builder)
    }

    pub(crate) fn build(
        sim: &Sim,
        domain: &Domain,
        certificate: Option<&ClientCertificate>,
        change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Self {
        let ca = Certificate::from_pem(sim.server_ca_pem().as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder()
            .tls_certs_only([ca])
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE);
        if let Some(certificate) = certificate {
            let pem = format!("{}{}", certificate.cert_pem, certificate.key_pem);
            builder = builder.identity(Identity::from_pem(pem.as_bytes()).unwrap());
        }
        Self { http: change(builder).build().unwrap(), base: format!("{}/api/{}", sim.endpoint(), domain.okms_id()) }
    }

    pub(crate) fn request(&self, method: &str, tail: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}/{tail}", self.base))
    }

    /// A form for somewhere else than the domain.
    pub(crate) fn post(&self, url: &str) -> reqwest::RequestBuilder {
        self.http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded")
    }

    pub(crate) async fn execute(&self, request: reqwest::Request) -> reqwest::Result<Response> {
        self.http.execute(request).await
    }

    pub(crate) async fn try_get(&self, tail: &str) -> reqwest::Result<Answer> {
        answer(self.request("GET", tail).send().await?).await
    }

    pub(crate) async fn get(&self, tail: &str) -> Answer {
        self.try_get(tail).await.unwrap()
    }

    pub(crate) async fn send(&self, method: &str, tail: &str, body: &Value) -> Answer {
        let request = self.request(method, tail).json(body);
        answer(request.send().await.unwrap()).await.unwrap()
    }
}

pub(crate) async fn answer(response: Response) -> reqwest::Result<Answer> {
    Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), text: response.text().await? })
}

/// All messages of an error and its causes.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
