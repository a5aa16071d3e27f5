//! What a client sees of each fault, and what took effect. The API server behind the proxy is a stand-in that counts.

#![allow(clippy::unwrap_used, clippy::panic)] // A test ends where it cannot go on, also in its helpers.

use std::convert::Infallible;
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api_proxy::{Fault, FaultKind, Matching, Proxy, Record, Verb};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

/// What the stand-in was asked: method, path and query, whose credentials.
type Heard = Arc<Mutex<Vec<(Method, String, String)>>>;

#[derive(Clone, Default)]
struct Upstream {
    heard: Heard,
    heard_more: Arc<Notify>,
}

impl Upstream {
    fn writes(&self) -> usize {
        self.heard.lock().unwrap().iter().filter(|(method, ..)| *method != Method::GET).count()
    }
}

async fn answer(
    State(upstream): State<Upstream>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let who = headers.get(header::AUTHORIZATION).map(|who| who.to_str().unwrap().to_owned()).unwrap_or_default();
    upstream.heard.lock().unwrap().push((method.clone(), uri.to_string(), who));
    upstream.heard_more.notify_waiters();
    let json = [(header::CONTENT_TYPE, "application/json")];
    if uri.query().is_some_and(|query| query.contains("watch=true")) {
        let events = (1..=3).map(|n| format!("{}\n", json!({"type": "ADDED", "object": config_map(n)})));
        // In pieces that are no events, and then silence.
        let bytes = events.collect::<String>().into_bytes();
        let pieces =
            bytes.chunks(50).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
        return (json, Body::from_stream(stream::iter(pieces).chain(stream::pending()))).into_response();
    }
    let body = if body.is_empty() { config_map(1).to_string().into() } else { body };
    (json, body).into_response()
}

fn config_map(n: u32) -> serde_json::Value {
    let name = format!("it-{n}");
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop", "resourceVersion": n.to_string()}})
}

struct Scene {
    upstream: Upstream,
    proxy: Proxy,
    config_maps: Api<ConfigMap>,
}

async fn scene() -> Scene {
    let upstream = Upstream::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let router = Router::new().fallback(answer).with_state(upstream.clone());
    tokio::spawn(axum::serve(listener, router).into_future());
    let proxy = Proxy::start(with_token(Config::new(url), "of-the-proxy"), 0).await.unwrap();
    let config_maps = client(&proxy, "of-the-caller");
    Scene { upstream, proxy, config_maps }
}

fn with_token(mut config: Config, token: &str) -> Config {
    config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
    config
}

fn client(proxy: &Proxy, token: &str) -> Api<ConfigMap> {
    let mut config = proxy.through(with_token(Config::new("https://elsewhere:1".parse().unwrap()), token));
    config.default_retry = false;
    config.headers.push((header::USER_AGENT, "test/1".parse().unwrap()));
    Api::namespaced(Client::try_from(config).unwrap(), "shop")
}

impl Scene {
    async fn create(&self) -> kube::Result<ConfigMap> {
        let object = serde_json::from_value(config_map(1)).unwrap();
        self.config_maps.create(&PostParams::default(), &object).await
    }

    /// A request that is given up so long after it has arrived.
    async fn create_and_give_up(&self, after: Duration) {
        let patience = async {
            self.proxy.wait_until(|log| log.iter().any(|record| record.verb == Verb::Create)).await;
            tokio::time::sleep(after).await;
        };
        tokio::select! {
            answer = self.create() => panic!("it was answered: {answer:?}"),
            () = patience => {}
        }
    }

    async fn events(&self) -> impl Stream<Item = Result<WatchEvent<ConfigMap>, ()>> + use<> {
        let events = self.config_maps.watch(&WatchParams::default(), "0").await.unwrap();
        events.map_err(drop).boxed()
    }
}

#[tokio::test]
async fn requests_go_on_as_they_are_and_are_written_down() {
    let scene = scene().await;
    assert_eq!(scene.config_maps.get("it-1").await.unwrap().metadata.name.unwrap(), "it-1");
    assert_eq!(scene.create().await.unwrap().metadata.namespace.unwrap(), "shop");
    let path = "/api/v1/namespaces/shop/configmaps";
    let who = "Bearer of-the-caller".to_owned();
    assert_eq!(
        *scene.upstream.heard.lock().unwrap(),
        [(Method::GET, format!("{path}/it-1"), who.clone()), (Method::POST, format!("{path}?"), who),]
    );
    let records = scene.proxy.records();
    let told = records.iter().map(|record| (record.verb, record.name.as_str(), record.upstream, record.took_effect()));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(Verb::Get, "it-1", Some(200), false), (Verb::Create, "it-1", Some(200), true)]
    );
    let of_it = Matching::default().of("configmaps").in_namespace("shop").by("test/");
    assert!(records.iter().all(|record| record.is(&of_it) && record.answered.is_some_and(|(status, _)| status == 200)));
}

#[tokio::test]
async fn who_shows_no_token_is_who_the_proxy_is() {
    let scene = scene().await;
    let kubeconfig = Kubeconfig::from_yaml(&scene.proxy.kubeconfig_yaml(None)).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let config_maps = Api::<ConfigMap>::namespaced(Client::try_from(config).unwrap(), "shop");
    config_maps.get("it-1").await.unwrap();
    assert_eq!(scene.upstream.heard.lock().unwrap()[0].2, "Bearer of-the-proxy");
}

#[tokio::test]
async fn a_status_is_the_api_servers_own_and_nothing_takes_effect() {
    let scene = scene().await;
    for (fault, reason, retry_after) in [
        (Fault::status(409), "AlreadyExists", 0),
        (Fault::status(410), "Expired", 0),
        (Fault::status_retry_after(429, 7), "TooManyRequests", 7),
        (Fault::status(500), "InternalError", 0),
        (Fault::status(503), "ServiceUnavailable", 0),
    ] {
        let id = scene.proxy.fault(fault.hitting(Matching::writes()));
        let kube::Error::Api(status) = scene.create().await.unwrap_err() else { panic!("no Status came") };
        assert_eq!(status.reason, reason);
        assert_eq!(status.details.unwrap().retry_after_seconds, retry_after);
        scene.config_maps.get("it-1").await.unwrap();
        assert_eq!(scene.proxy.log(|records| records[records.len() - 2].faults.clone()), [id]);
        assert!(scene.proxy.clear_fault(id));
    }
    assert_eq!(scene.upstream.writes(), 0);
    scene.create().await.unwrap();
}

#[tokio::test]
async fn a_reset_before_the_effect_has_none_and_one_after_it_has() {
    let scene = scene().await;
    scene.proxy.fault(Fault::new(FaultKind::ResetBeforeEffect).times(1));
    scene.create().await.unwrap_err();
    assert_eq!(scene.upstream.writes(), 0);
    scene.proxy.fault(Fault::new(FaultKind::ResetAfterEffect).times(1));
    scene.create().await.unwrap_err();
    assert_eq!(scene.upstream.writes(), 1);
    let effects = scene.proxy.log(|log| log.iter().map(|it| (it.took_effect(), it.answered)).collect::<Vec<_>>());
    assert_eq!(effects, [(false, None), (true, None)]);
    scene.create().await.unwrap();
}

#[tokio::test]
async fn what_hangs_is_never_answered_and_never_arrives() {
    let scene = scene().await;
    scene.proxy.fault(Fault::new(FaultKind::Hang).times(1));
    scene.create_and_give_up(Duration::from_millis(300)).await;
    scene.create().await.unwrap();
    assert_eq!(scene.upstream.writes(), 1);
}

#[tokio::test]
async fn what_is_delayed_arrives_though_nobody_waits_for_it() {
    let scene = scene().await;
    scene.proxy.fault(Fault::delay(Duration::from_secs(2)).times(1));
    let heard = scene.upstream.heard_more.notified();
    scene.create_and_give_up(Duration::ZERO).await;
    assert_eq!(scene.upstream.writes(), 0);
    timeout(DEADLINE, heard).await.unwrap();
    assert_eq!(scene.upstream.writes(), 1);
}

#[tokio::test]
async fn a_watch_is_cut_after_its_count_of_events() {
    let scene = scene().await;
    scene.proxy.fault(Fault::new(FaultKind::CutWatch { after: 2 }).times(1));
    let events = timeout(DEADLINE, scene.events().await.collect::<Vec<_>>()).await.unwrap();
    let added = events.iter().filter(|event| matches!(event, Ok(WatchEvent::Added(_)))).count();
    assert_eq!(added, 2);
    assert!(events.last().unwrap().is_err(), "it ended as if all was well");
}

#[tokio::test]
async fn a_watch_expires_with_the_api_servers_own_words() {
    let scene = scene().await;
    scene.proxy.fault(Fault::new(FaultKind::ExpireWatch { after: 1 }).times(1));
    let events = timeout(DEADLINE, scene.events().await.collect::<Vec<_>>()).await.unwrap();
    assert!(matches!(&events[..], [Ok(WatchEvent::Added(_)), Ok(WatchEvent::Error(status))] if status.code == 410));
}

#[tokio::test]
async fn open_watches_are_cut_or_expire_at_once() {
    let scene = scene().await;
    for expires in [false, true] {
        let mut events = scene.events().await;
        for _ in 0..3 {
            events.next().await.unwrap().unwrap();
        }
        let others = Matching::watches().of("secrets");
        assert_eq!(scene.proxy.cut_watches(&others), 0);
        let these = Matching::watches().of("configmaps");
        assert_eq!(scene.proxy.open_watches(&these), 1);
        let last = if expires {
            assert_eq!(scene.proxy.expire_watches(&these), 1);
            timeout(DEADLINE, events.next()).await.unwrap().unwrap()
        } else {
            assert_eq!(scene.proxy.cut_watches(&these), 1);
            timeout(DEADLINE, events.next()).await.unwrap().unwrap()
        };
        match last {
            Ok(WatchEvent::Error(status)) if expires => assert_eq!(status.code, 410),
            Err(()) if !expires => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stopped_proxy_refuses_and_serves_again_at_the_same_port() {
    let scene = scene().await;
    let mut events = scene.events().await;
    scene.proxy.stop().await;
    let rest = timeout(DEADLINE, events.by_ref().filter(|event| std::future::ready(event.is_err())).count()).await;
    assert!(rest.is_ok(), "an open watch outlives the proxy");
    scene.create().await.unwrap_err();
    assert_eq!(scene.upstream.writes(), 0);
    scene.proxy.restart().await.unwrap();
    scene.create().await.unwrap();
}

#[tokio::test]
async fn the_log_can_be_waited_for() {
    let scene = scene().await;
    let created = scene.proxy.wait_until(|log| log.iter().any(Record::took_effect));
    let (waited, created) = tokio::join!(timeout(DEADLINE, created), scene.create());
    waited.unwrap();
    created.unwrap();
    scene.proxy.clear_log();
    assert!(scene.proxy.records().is_empty());
}
