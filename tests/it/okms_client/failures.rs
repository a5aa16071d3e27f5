//! What can go wrong between a request and its answer, and what kind of failure each is.

use std::time::Duration;

use okms_operator::okms::{ErrorKind, TlsProblem};
use okms_sim::{Fault, FaultKind, Options, Sim};
use serde_json::json;

use super::*;

const CANARY: &str = "canary-7f3a";

const JSON: &str = "application/json";

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::new(FaultKind::Answer { status, headers, body: body.to_owned() })
}

/// Every fault of the simulator that concerns reads, and answers that no OKMS gives.
fn faults() -> Vec<(&'static str, Fault, ErrorKind)> {
    use ErrorKind::{RateLimited, Refused, TooLarge, Unavailable, Unexpected};
    let html = format!("<html>{CANARY}</html>");
    let vast = format!(r#"{{"data":"{}"}}"#, "x".repeat(1024 * 1024));
    let not_found = json!({ "error_code": 17_125_377, "errors": [CANARY], "request_id": "r" }).to_string();
    let withdrawn = json!({ "data": { "metadata": { "version": 1, "destroyed": true } } }).to_string();
    let wrong =
        json!({ "data": { "current_version": CANARY, "data": { "k": CANARY }, "metadata": { "version": CANARY } } });
    let bad_time = json!({ "data": { "data": { "k": CANARY }, "metadata": { "version": 1, "created_time": CANARY },
        "versions": { "1": { "created_time": CANARY } } } });
    vec![
        ("401", Fault::status(401), Refused),
        ("403", Fault::status(403), Refused),
        ("400", Fault::status(400), Unexpected),
        ("409", Fault::status(409), Unexpected),
        ("429", Fault::status(429), RateLimited),
        ("500", Fault::status(500), Unavailable),
        ("503", Fault::status_retry_after(503, "7"), Unavailable),
        ("a reset", Fault::new(FaultKind::ResetBeforeEffect), Unavailable),
        ("a reset after the effect", Fault::new(FaultKind::ResetAfterEffect), Unavailable),
        ("a truncated body", Fault::new(FaultKind::TruncatedBody), Unexpected),
        ("a proxy's 502", Fault::new(FaultKind::HtmlBadGateway), Unavailable),
        ("a missing domain", Fault::new(FaultKind::DomainNotFound), Unexpected),
        ("a 404 page", Fault::answer(404, "text/html", html.clone()), Unexpected),
        ("a 404 page that calls itself JSON", Fault::answer(404, JSON, html.clone()), Unexpected),
        ("a not-found that is no JSON", Fault::answer(404, "text/html", not_found.clone()), Unexpected),
        ("a withdrawal that is no JSON", Fault::answer(404, "text/html", withdrawn), Unexpected),
        ("an empty 404", Fault::answer(404, JSON, ""), Unexpected),
        ("Vault's 404", Fault::answer(404, JSON, r#"{"errors":[]}"#), Unexpected),
        ("a 404 of another part", Fault::answer(404, JSON, r#"{"error_code":17190913}"#), Unexpected),
        ("a gone", Fault::answer(410, JSON, not_found.clone()), Unexpected),
        ("a page", Fault::answer(200, "text/html", html.clone()), Unexpected),
        ("a page that calls itself JSON", Fault::answer(200, JSON, html), Unexpected),
        ("an error with status 200", Fault::answer(200, JSON, not_found), Unexpected),
        ("an empty answer", Fault::answer(200, JSON, ""), Unexpected),
        ("an empty object", Fault::answer(200, JSON, "{}"), Unexpected),
        ("no content", Fault::answer(204, JSON, ""), Unexpected),
        ("wrong types", Fault::answer(200, JSON, wrong.to_string()), Unexpected),
        ("a wrong time", Fault::answer(200, JSON, bad_time.to_string()), Unexpected),
        ("a vast answer", Fault::answer(200, JSON, vast.clone()), TooLarge),
        ("a vast 404", Fault::answer(404, JSON, vast.clone()), TooLarge),
        ("a vast 500", Fault::answer(500, JSON, vast), Unavailable),
        (
            "compressed",
            answer(200, &[("content-type", JSON), ("content-encoding", "gzip")], "\u{1f}\u{8b}x"),
            Unexpected,
        ),
    ]
}

#[tokio::test]
async fn every_fault_has_its_kind_and_shows_nothing_of_the_answer() {
    for http2 in [true, false] {
        let stage = Stage::with(http2, PATIENCE).await;
        stage.domain.put("a", json!({ "password": CANARY }));
        for (what, fault, kind) in faults() {
            let id = stage.sim.fault(fault);
            for error in [
                metadata(&stage.client, "a").await.unwrap_err(),
                data(&stage.client, "a", None).await.err().unwrap(),
                data(&stage.client, "a", Some(1)).await.err().unwrap(),
            ] {
                assert_eq!(error.kind(), kind, "{what}, http2 {http2}: {error:?}");
                assert!(!shown(&error).contains(CANARY), "{what}: {error:?}");
            }
            stage.sim.clear_fault(id);
        }
        metadata(&stage.client, "a").await.expect("nothing is left of the faults");
    }
}

#[tokio::test]
async fn a_fault_of_the_list_is_told_like_any_other() {
    let stage = Stage::new().await;
    for (what, fault, kind) in faults() {
        let id = stage.sim.fault(fault);
        match stage.client.list_root().await {
            Ok(()) => {
                assert!(what.starts_with("wrong t") || what.starts_with("a wrong time"), "{what} was taken for a list");
            }
            Err(error) => assert_eq!(error.kind(), kind, "{what}: {error:?}"),
        }
        stage.sim.clear_fault(id);
    }
}

#[tokio::test]
async fn sentences_are_the_same_each_time() {
    let stage = Stage::new().await;
    for (what, fault, _) in faults() {
        let id = stage.sim.fault(fault);
        let first = metadata(&stage.client, "a").await.unwrap_err();
        let second = metadata(&stage.client, "b").await.unwrap_err();
        assert_eq!(first.to_string(), second.to_string(), "{what}");
        stage.sim.clear_fault(id);
    }
}

#[tokio::test]
async fn a_wait_that_is_asked_for_is_passed_on() {
    let stage = Stage::new().await;
    for (fault, wait) in [
        (Fault::status_retry_after(429, "120"), Some(Duration::from_mins(2))),
        (Fault::status_retry_after(503, "Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO)),
        (Fault::status(429), None),
    ] {
        stage.sim.fault(fault.times(1));
        assert_eq!(metadata(&stage.client, "a").await.unwrap_err().retry_after(), wait);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let stage = Stage::new().await;
    let elsewhere = Sim::start(Options::default()).await.unwrap();
    for status in [301, 302, 307, 308] {
        let location = format!("{}/api/x", elsewhere.endpoint());
        stage.sim.fault(answer(status, &[("location", &location)], "").times(1));
        let error = metadata(&stage.client, "a").await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Unexpected, Some(status)));
        assert!(!shown(&error).contains(&elsewhere.endpoint()), "{error:?}");
    }
    assert_eq!(elsewhere.counters().connections, 0);
}

#[tokio::test]
async fn what_takes_too_long_is_unavailable() {
    for http2 in [true, false] {
        let options = ClientOptions { timeout: Duration::from_millis(300), ..PATIENCE };
        let stage = Stage::with(http2, options).await;
        stage.domain.put("a", json!({}));
        for fault in [Fault::latency(Duration::from_secs(30)), Fault::slow_body(Duration::from_secs(30))] {
            let id = stage.sim.fault(fault);
            let error = metadata(&stage.client, "a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            assert!(error.to_string().contains("time limit"), "{error}");
            stage.sim.clear_fault(id);
        }
    }
}

#[tokio::test]
async fn okms_may_be_down_and_come_back() {
    for http2 in [true, false] {
        let stage = Stage::with(http2, PATIENCE).await;
        stage.domain.put("a", json!({}));
        metadata(&stage.client, "a").await.unwrap();
        stage.sim.stop().await;
        for _ in 0..2 {
            assert_eq!(metadata(&stage.client, "a").await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        let error = metadata(&stage.client, "a").await.unwrap_err();
        assert!(error.to_string().contains("refuses connections"), "{error}");
        stage.sim.restart().await.unwrap();
        metadata(&stage.client, "a").await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_not_okms_is_told_from_one_that_is_down() {
    let stage = Stage::new().await;
    let client_of = |address| {
        let endpoint = format!("https://{address}");
        client(&endpoint, &stage.domain, &server::roots(), &stage.certificate, PATIENCE, &stage.seen)
    };
    let plain = client_of(server::plain(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    assert_eq!(metadata(&plain, "a").await.unwrap_err().kind(), ErrorKind::Tls(TlsProblem::NotTls));

    let silent = client_of(server::plain(b""));
    assert_eq!(metadata(&silent, "a").await.unwrap_err().kind(), ErrorKind::Unavailable);

    let other_protocol = client_of(server::tls(&server::valid(), b"220 mail ready\r\n"));
    let error = metadata(&other_protocol, "a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unexpected, "{error:?}");

    let cut_head = client_of(server::tls(&server::valid(), b"HTTP/1.1 200 OK\r\ncontent-ty"));
    let error = metadata(&cut_head, "a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn what_answers_in_place_of_tls_is_told_apart() {
    let stage = Stage::new().await;
    let problem = async |says: &'static [u8]| {
        let endpoint = format!("https://{}", server::plain(says));
        let client = client(&endpoint, &stage.domain, &server::roots(), &stage.certificate, PATIENCE, &stage.seen);
        metadata(&client, "a").await.unwrap_err()
    };
    // Alerts in the clear, as a server sends them that agrees to nothing: record, version, length, fatal, what.
    for (says, expected) in [
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], TlsProblem::Version),
        (b"\x15\x03\x03\x00\x02\x02\x28", TlsProblem::Parameters),
        (b"\x15\x03\x03\x00\x02\x02\x70", TlsProblem::NameUnknown),
        (b"SSH-2.0-OpenSSH_9.6\r\n", TlsProblem::NotTls),
        (b"220 mail ready\r\n", TlsProblem::NotTls),
    ] {
        let error = problem(says).await;
        assert_eq!(error.kind(), ErrorKind::Tls(expected), "{error:?}");
        assert!(error.to_string().contains("check"), "{error}");
    }
}

#[tokio::test]
async fn a_clock_that_differs_is_noticed_by_any_answer() {
    let stage = Stage::new().await;
    stage.domain.put("a", json!({}));
    let skewed = |seconds| stage.sim.with_switches(|switches| switches.date_skew_seconds = seconds);
    let clock = stage.client.clock();
    assert_eq!((stage.client.clock_offset(), clock.problem()), (None, None));

    skewed(None);
    metadata(&stage.client, "a").await.unwrap();
    assert_eq!(stage.client.clock_offset(), None, "no date says nothing");

    skewed(Some(0));
    metadata(&stage.client, "a").await.unwrap();
    assert_eq!(clock.problem(), None);
    skewed(Some(-3_600));
    stage.sim.fault(Fault::status(503).times(1));
    metadata(&stage.client, "a").await.unwrap_err();
    assert!(stage.client.clock_offset().unwrap().as_mins() <= -59);
    assert!(clock.problem().unwrap().to_string().contains("differ by more than five minutes"));
    metadata(&stage.client, "a").await.unwrap();
    skewed(Some(0));
    metadata(&stage.client, "a").await.unwrap();
    assert_eq!(clock.problem(), None);

    stage.sim.fault(answer(200, &[("date", "Thu, 01 Jan 1970 00:00:00 GMT")], "").times(1));
    metadata(&stage.client, "a").await.unwrap_err();
    assert_eq!(clock.problem(), None, "no server has such a clock");
    assert_eq!(*stage.seen.clock.lock().unwrap(), [false, true, false], "told when it changes");
}

#[tokio::test]
async fn a_refusal_that_is_not_of_okms_leads_to_the_endpoint_first() {
    let stage = Stage::new().await;
    stage.sim.fault(Fault::status(403).times(1));
    let of_okms = metadata(&stage.client, "a").await.unwrap_err().to_string();
    stage.sim.fault(Fault::answer(403, "text/html", "<html>").times(1));
    let other = metadata(&stage.client, "a").await.unwrap_err().to_string();
    assert!(of_okms.contains("the identities of the access certificate") && !of_okms.contains("check the endpoint"));
    assert!(other.starts_with(&of_okms) && other.ends_with("check the endpoint first"), "{other}");
}
