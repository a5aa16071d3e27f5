//! The admin server: `/livez` and `/readyz` for the kubelet, `/metrics` for Prometheus.
//!
//! It only reads, takes no input, and tells nothing about any secret. It keeps answering while the operator drains.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::controller::{
    health::Health,
    metrics::{CONTENT_TYPE, Metrics},
};

/// How long requests that are being answered may hold up the end of the process.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

const PAGES: &str = "\
/livez    200 while the operator serves what wakes it, or stands by
/readyz   200 once its watches are filled
/metrics  for Prometheus
";

/// Holds its port, and answers once it is served.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
}

impl Server {
    pub async fn bind(address: SocketAddr, metrics: &Arc<Metrics>, health: &Arc<Health>) -> Result<Self, Error> {
        let cannot_listen = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .with_state(Arc::clone(health))
            .route("/metrics", get(expose))
            .with_state(Arc::clone(metrics))
            .fallback(async || (StatusCode::NOT_FOUND, PAGES));
        Ok(Self { listener, address, router })
    }

    /// With the port that was taken where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `cancel`.
    pub async fn serve(self, cancel: CancellationToken) {
        tracing::info!(address = %self.address, "serving /livez, /readyz and /metrics");
        let serve = axum::serve(self.listener, self.router).with_graceful_shutdown(cancel.clone().cancelled_owned());
        let out_of_time = async {
            cancel.cancelled().await;
            sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            // It ends only when told to: errors of single connections are dealt with inside.
            _ = serve.into_future() => {}
            () = out_of_time => {}
        }
    }
}

async fn livez(State(health): State<Arc<Health>>) -> Response {
    if health.is_live() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "what wakes the operator is no longer served\n").into_response()
    }
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let missing = health.waits_for();
    if missing.is_empty() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", "))).into_response()
    }
}

async fn expose(State(metrics): State<Arc<Metrics>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.encode()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    struct Running {
        address: SocketAddr,
        health: Arc<Health>,
        cancel: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(liveness: Duration) -> Running {
        let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Health::new(liveness)));
        let server = Server::bind(([127, 0, 0, 1], 0).into(), &metrics, &health).await.unwrap();
        let (address, cancel) = (server.address(), CancellationToken::new());
        Running { address, health, task: tokio::spawn(server.serve(cancel.clone())), cancel }
    }

    impl Running {
        async fn get(&self, path: &str) -> (u16, String, String) {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let response = client.get(format!("http://{}{path}", self.address)).send().await.unwrap();
            let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
            (response.status().as_u16(), content_type, response.text().await.unwrap())
        }
    }

    #[tokio::test]
    async fn readyz_names_what_is_missing() {
        let server = start(Duration::from_hours(1)).await;
        let watch = server.health.hold_ready("the watch of Secrets");
        let (status, _, body) = server.get("/readyz").await;
        assert_eq!((status, body.as_str()), (503, "waiting for the watch of Secrets\n"));
        drop(watch);
        assert_eq!(server.get("/readyz").await.0, 200);
    }

    #[tokio::test]
    async fn livez_fails_once_nothing_is_served() {
        assert_eq!(start(Duration::from_hours(1)).await.get("/livez").await.0, 200);
        assert_eq!(start(Duration::ZERO).await.get("/livez").await.0, 503);
    }

    #[tokio::test]
    async fn metrics_are_what_their_type_says() {
        let (status, content_type, body) = start(Duration::ZERO).await.get("/metrics").await;
        assert_eq!((status, content_type.as_str()), (200, CONTENT_TYPE));
        assert!(body.contains("okms_operator_build_info{") && body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn anything_else_lists_what_there_is() {
        let (status, _, body) = start(Duration::ZERO).await.get("/healthz").await;
        assert_eq!(status, 404);
        assert!(["/livez", "/readyz", "/metrics"].iter().all(|page| body.contains(page)), "{body}");
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_the_flag() {
        let server = start(Duration::ZERO).await;
        let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Health::default()));
        let line = Server::bind(server.address, &metrics, &health).await.err().unwrap().line();
        assert!(line.contains(&server.address.to_string()) && line.contains("--listen"), "{line}");
    }

    #[tokio::test]
    async fn it_ends_when_told_to_though_a_client_lingers() {
        let server = start(Duration::ZERO).await;
        let _lingering = tokio::net::TcpStream::connect(server.address).await.unwrap();
        server.cancel.cancel();
        timeout(Duration::from_mins(1), server.task).await.expect("it ends").unwrap();
    }
}
