//! The operator's way of asking the API server.
//!
//! kube's client has no deadline for an answer and retries a busy server up to fifteen times, so that one call can last for minutes.
//! Here every answer has a deadline, only the stream of a watch is endless (kube's watcher ends a silent one itself), and nothing is
//! retried: whoever calls knows what to do about a failure, and when. For that it is told what a busy server asks for ([`Busy`]), which
//! kube's errors leave out.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{
    HeaderValue, Request, Response,
    header::{RETRY_AFTER, USER_AGENT},
};
use kube::{
    Client, Error,
    client::{Body, ClientBuilder, DynBody},
    config::Config,
};
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Layer, Service};
use tower_http::timeout::DeadlineBody;

use super::Busy;

/// To the API server of the same cluster; a connection that takes longer is a lost one.
const CONNECT: Duration = Duration::from_secs(10);

/// A client with the manners of the operator: every answer comes within this time, or half of it where a status is written, or is
/// given up, and nothing is retried. A failure that has a `Retry-After` is a [`Error::Service`] of [`Busy`].
pub fn client(mut config: Config, answer: Duration) -> Result<Client, Error> {
    config.connect_timeout = Some(CONNECT);
    config.default_retry = false;
    let user_agent = HeaderValue::from_static(concat!("okms-operator/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, user_agent));
    Ok(ClientBuilder::try_from(config)?.with_layer(&Deadline(answer)).build())
}

/// Gives every request this long, and statuses half: for the head of the answer, and, but for watches, as long again for its body.
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
        let limit = if is_of_status(&request) { self.limit / 2 } else { self.limit };
        let until = Instant::now() + limit;
        let endless = is_watch(&request);
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = timeout_at(until, answer).await.map_err(|_| NoAnswer(limit))??;
            if let Some(busy) = busy(&response) {
                return Err(busy.into());
            }
            if endless {
                return Ok(response);
            }
            Ok(response.map(|body| Box::new(Box::pin(DeadlineBody::new(limit, body))) as Box<DynBody>))
        })
    }
}

/// By the rule of client-go: a 429, or a failure of the server, that says in how many seconds to try again.
fn busy<B>(response: &Response<B>) -> Option<Busy> {
    let status = response.status();
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    let retry_after = Duration::from_secs(seconds);
    (status.as_u16() == 429 || status.is_server_error()).then_some(Busy { status: status.as_u16(), retry_after })
}

fn is_watch(request: &Request<Body>) -> bool {
    let mut parameters = request.uri().query().unwrap_or_default().split('&');
    parameters.any(|parameter| matches!(parameter, "watch=true" | "watch=1"))
}

/// Until a status is written it says what was true before, and seldom does a webhook stand in the way of one.
fn is_of_status(request: &Request<Body>) -> bool {
    request.uri().path().ends_with("/status")
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};
    use futures::{StreamExt, TryStreamExt, stream};
    use k8s_openapi::api::core::v1::Namespace;
    use kube::{
        Api,
        api::{Patch, PatchParams, WatchParams},
    };
    use tokio::net::TcpListener;

    use super::{super::WriteError, *};

    const SHORT: Duration = Duration::from_secs(1);

    /// For what is answered, on a machine that may stand still for a moment.
    const LONG: Duration = Duration::from_secs(5);

    /// A client of an API server that answers as the router says.
    async fn client_of(router: Router, patience: Duration) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        super::client(Config::new(url), patience).unwrap()
    }

    fn endless_body(first: &'static str) -> axum::body::Body {
        let first = stream::iter([Ok::<_, std::io::Error>(first)]);
        axum::body::Body::from_stream(first.chain(stream::pending()))
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let client = client_of(Router::new().fallback(std::future::pending::<()>), SHORT).await;
        let error = client.apiserver_version().await.unwrap_err();
        assert!(error.to_string().contains("no answer within"), "{error}");
    }

    #[tokio::test]
    async fn a_status_is_given_up_sooner() {
        let client = client_of(Router::new().fallback(std::future::pending::<()>), SHORT).await;
        let namespaces = Api::<Namespace>::all(client);
        let waited = |error: Error| match error {
            Error::Service(error) => error.downcast_ref::<NoAnswer>().map(|NoAnswer(limit)| *limit),
            _ => None,
        };
        let (change, how) = (Patch::Merge(serde_json::json!({})), PatchParams::default());
        assert_eq!(waited(namespaces.patch("default", &how, &change).await.unwrap_err()), Some(SHORT));
        assert_eq!(waited(namespaces.patch_status("default", &how, &change).await.unwrap_err()), Some(SHORT / 2));
    }

    #[tokio::test]
    async fn what_a_busy_server_asks_for_is_told() {
        let turned_away = async |status: u16| {
            let answer = (StatusCode::from_u16(status).unwrap(), [(RETRY_AFTER, "7")], "Too many requests");
            let client = client_of(Router::new().fallback(async move || answer), LONG).await;
            WriteError::from(client.apiserver_version().await.unwrap_err())
        };
        for status in [429, 503] {
            let error = turned_away(status).await;
            assert_eq!(error.retry_after(Duration::MAX), Duration::from_secs(7));
            assert_eq!(error.retry_after(Duration::from_secs(5)), Duration::from_secs(5));
            assert!(error.to_string().contains(&format!("status {status}")), "{error}");
        }
        assert_eq!(turned_away(403).await.retry_after(Duration::MAX), Duration::ZERO);
    }

    #[tokio::test]
    async fn an_answer_that_never_ends_is_given_up() {
        let client = client_of(Router::new().fallback(async || endless_body("{")), SHORT).await;
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
                tokio::time::sleep(LONG * 2).await;
                Ok(format!("{bookmark}\n"))
            });
            axum::body::Body::from_stream(first.chain(later))
        };
        let client = client_of(Router::new().route("/api/v1/namespaces", get(body)), LONG).await;
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
        client_of(router, LONG).await.apiserver_version().await.unwrap_err();
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}
