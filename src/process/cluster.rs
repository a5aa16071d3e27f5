//! The way to the Kubernetes API: from a kubeconfig, or from inside a pod.
//!
//! kube's client has no deadline for an answer and retries a busy server up to fifteen times, so that one call can last for minutes.
//! Here every answer has a deadline, only the stream of a watch is endless (kube's watcher ends a silent one itself), and nothing is
//! retried: whoever calls knows what to do about a failure, and when.

use std::{
    env,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header::USER_AGENT};
use kube::{
    Client,
    client::{Body, ClientBuilder, DynBody},
    config::{Config, KubeConfigOptions},
};
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Layer, Service};
use tower_http::timeout::DeadlineBody;

use super::Error;

/// To the API server of the same cluster; a connection that takes longer is a lost one.
const CONNECT: Duration = Duration::from_secs(10);

/// Half of what the API server itself grants an ordinary request (`--request-timeout` 1m). The largest are pages of lists, 500
/// objects each.
const ANSWER: Duration = Duration::from_secs(30);

/// A cluster, and how it is called in messages.
pub(super) struct Cluster {
    /// Its default namespace is the `ServiceAccount`'s in a pod, else that of the kubeconfig's context.
    pub(super) client: Client,
    /// `https://10.0.0.1:443`
    pub(super) server: String,
}

impl Cluster {
    /// Finds the cluster; whether it answers is not asked.
    ///
    /// A `KUBECONFIG` that is set is meant, so that it is never passed over in silence for the cluster of the pod.
    pub(super) async fn find() -> Result<Self, Error> {
        let in_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let config = if in_pod && env::var_os("KUBECONFIG").is_none() {
            Config::incluster().map_err(|error| Error::NoCluster(error.into()))?
        } else {
            let options = KubeConfigOptions::default();
            Config::from_kubeconfig(&options).await.map_err(|error| Error::NoCluster(error.into()))?
        };
        Self::new(config)
    }

    fn new(config: Config) -> Result<Self, Error> {
        let server = address(&config.cluster_url);
        Ok(Self { client: client(config, ANSWER)?, server })
    }
}

/// A client with the manners of the operator: every answer comes within this time or is given up, and nothing is retried.
pub fn client(mut config: Config, answer: Duration) -> Result<Client, Error> {
    config.connect_timeout = Some(CONNECT);
    config.default_retry = false;
    let user_agent = HeaderValue::from_static(concat!("okms-operator/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, user_agent));
    let builder = ClientBuilder::try_from(config).map_err(|error| Error::NoCluster(error.into()))?;
    Ok(builder.with_layer(&Deadline(answer)).build())
}

/// The address alone: a URL may hold a user and a password.
fn address(url: &http::Uri) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme_str().unwrap_or("https"), url.host().unwrap_or_default())
}

/// Gives every request this long: for the head of the answer, and, but for watches, as long again for its body.
#[derive(Clone, Copy)]
struct Deadline(Duration);

impl<S> Layer<S> for Deadline {
    type Service = WithDeadline<S>;

    fn layer(&self, service: S) -> WithDeadline<S> {
        WithDeadline { service, limit: self.0 }
    }
}

#[derive(Clone)]
struct WithDeadline<S> {
    service: S,
    limit: Duration,
}

/// The API server did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} seconds", .0.as_secs())]
struct NoAnswer(Duration);

impl<S> Service<Request<Body>> for WithDeadline<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = self.limit;
        let until = Instant::now() + limit;
        let endless = is_watch(&request);
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = timeout_at(until, answer).await.map_err(|_| NoAnswer(limit))??;
            if endless {
                return Ok(response);
            }
            Ok(response.map(|body| Box::new(Box::pin(DeadlineBody::new(limit, body))) as Box<DynBody>))
        })
    }
}

fn is_watch(request: &Request<Body>) -> bool {
    let mut parameters = request.uri().query().unwrap_or_default().split('&');
    parameters.any(|parameter| matches!(parameter, "watch=true" | "watch=1"))
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};
    use futures::{StreamExt, TryStreamExt, stream};
    use k8s_openapi::api::core::v1::Namespace;
    use kube::{Api, api::WatchParams};
    use tokio::net::TcpListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);

    /// A client of an API server that answers as the router says.
    async fn client_of(router: Router) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        super::client(Config::new(url), SHORT).unwrap()
    }

    fn endless_body(first: &'static str) -> axum::body::Body {
        let first = stream::iter([Ok::<_, std::io::Error>(first)]);
        axum::body::Body::from_stream(first.chain(stream::pending()))
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let client = client_of(Router::new().fallback(std::future::pending::<()>)).await;
        let error = client.apiserver_version().await.unwrap_err();
        assert!(error.to_string().contains("no answer within"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_never_ends_is_given_up() {
        let client = client_of(Router::new().fallback(async || endless_body("{"))).await;
        let error = client.apiserver_version().await.unwrap_err();
        assert!(!matches!(error, kube::Error::SerdeError(_)), "{error}");
    }

    #[tokio::test]
    async fn a_watch_may_be_silent_for_longer() {
        let bookmark =
            r#"{"type":"BOOKMARK","object":{"apiVersion":"v1","kind":"Namespace","metadata":{"resourceVersion":"1"}}}"#;
        let body = async move || {
            let first = stream::iter([Ok::<_, std::io::Error>(format!("{bookmark}\n"))]);
            let later = stream::once(async move {
                tokio::time::sleep(SHORT * 3).await;
                Ok(format!("{bookmark}\n"))
            });
            axum::body::Body::from_stream(first.chain(later))
        };
        let client = client_of(Router::new().route("/api/v1/namespaces", get(body))).await;
        let events = Api::<Namespace>::all(client).watch(&WatchParams::default(), "0").await.unwrap();
        assert_eq!(events.try_collect::<Vec<_>>().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_busy_server_is_asked_once() {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&asked);
        let router = Router::new().fallback(async move || {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            StatusCode::SERVICE_UNAVAILABLE
        });
        client_of(router).await.apiserver_version().await.unwrap_err();
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    #[test]
    fn an_address_holds_no_password() {
        assert_eq!(address(&"https://user:pass@host:6443/path".parse().unwrap()), "https://host:6443");
    }
}
