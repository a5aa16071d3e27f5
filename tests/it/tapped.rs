//! A client of Kubernetes whose requests a test sees: to count them, or to break whoever waits for the answer.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{Layer, Service};

/// Is shown each request, such as `GET /api/v1/namespaces/shop/secrets/db`, in the task that waits for its answer.
type Tap = Arc<dyn Fn(&str) + Send + Sync>;

/// A client that shows its requests to `tap` before it sends them.
pub(crate) fn client(config: Config, tap: impl Fn(&str) + Send + Sync + 'static) -> Client {
    ClientBuilder::try_from(config).unwrap().with_layer(&Tapping(Arc::new(tap))).build()
}

/// A client that writes down its requests.
pub(crate) fn recording(config: Config) -> (Client, Arc<Mutex<Vec<String>>>) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let record = requests.clone();
    (client(config, move |request| record.lock().unwrap().push(request.to_owned())), requests)
}

struct Tapping(Tap);

impl<S> Layer<S> for Tapping {
    type Service = Tapped<S>;

    fn layer(&self, inner: S) -> Tapped<S> {
        Tapped { inner, tap: self.0.clone() }
    }
}

struct Tapped<S> {
    inner: S,
    tap: Tap,
}

impl<S> Service<http::Request<Body>> for Tapped<S>
where
    S: Service<http::Request<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let shown = format!("{} {}", request.method(), request.uri().path());
        let tap = self.tap.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            tap(&shown);
            answer.await
        })
    }
}
