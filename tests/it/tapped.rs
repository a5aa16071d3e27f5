//! A client of Kubernetes whose requests a test sees: to count them, to break whoever waits for the answer, or to lose them.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tokio::time::sleep;
use tower::{BoxError, Layer, Service};

/// Is shown each request, such as `GET /api/v1/namespaces/shop/secrets/db`, in the task that waits for its answer.
type Tap = Arc<dyn Fn(&str) + Send + Sync>;

/// A client that shows its requests to `tap` before it sends them.
pub(crate) fn client(config: Config, tap: impl Fn(&str) + Send + Sync + 'static) -> Client {
    let tapping = Tapping { tap: Arc::new(tap), garbles: Arc::new(|_| false) };
    ClientBuilder::try_from(config).unwrap().with_layer(&tapping).build()
}

/// A client some of whose requests arrive so that the API server can make nothing of them, and says so.
pub(crate) fn garbling(config: Config, garbles: impl Fn(&str) -> bool + Send + Sync + 'static) -> Client {
    let tapping = Tapping { tap: Arc::new(|_| {}), garbles: Arc::new(garbles) };
    ClientBuilder::try_from(config).unwrap().with_layer(&tapping).build()
}

/// A client that writes down its requests.
pub(crate) fn recording(config: Config) -> (Client, Arc<Mutex<Vec<String>>>) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let record = requests.clone();
    (client(config, move |request| record.lock().unwrap().push(request.to_owned())), requests)
}

type Garbles = Arc<dyn Fn(&str) -> bool + Send + Sync>;

struct Tapping {
    tap: Tap,
    garbles: Garbles,
}

impl<S> Layer<S> for Tapping {
    type Service = Tapped<S>;

    fn layer(&self, inner: S) -> Tapped<S> {
        Tapped { inner, tap: self.tap.clone(), garbles: self.garbles.clone() }
    }
}

struct Tapped<S> {
    inner: S,
    tap: Tap,
    garbles: Garbles,
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

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let shown = format!("{} {}", request.method(), request.uri().path());
        if (self.garbles)(&shown) {
            // Which has to have a body.
            *request.method_mut() = http::Method::PUT;
        }
        let tap = self.tap.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            tap(&shown);
            answer.await
        })
    }
}

/// What becomes of a request on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// It arrives so much later.
    Late(Duration),
    /// It arrives, and its answer comes so much later.
    AnsweredLate(Duration),
    /// It arrives, and its answer does not, which is noticed so much later.
    AnswerLost(Duration),
    /// It does not arrive.
    Lost,
}

/// A client whose requests meet a fate. One that is given up while it is late arrives all the same.
pub(crate) fn unreliable(config: Config, fate: impl Fn(&str) -> Fate + Send + Sync + 'static) -> Client {
    let losing = Losing { fate: Arc::new(fate) };
    ClientBuilder::try_from(config).unwrap().with_layer(&losing).build()
}

#[derive(Clone)]
struct Losing {
    fate: Arc<dyn Fn(&str) -> Fate + Send + Sync>,
}

impl<S> Layer<S> for Losing {
    type Service = Lossy<S>;

    fn layer(&self, inner: S) -> Lossy<S> {
        Lossy { inner, losing: self.clone() }
    }
}

struct Lossy<S> {
    inner: S,
    losing: Losing,
}

impl<S> Service<http::Request<Body>> for Lossy<S>
where
    S: Service<http::Request<Body>, Error = BoxError>,
    S::Response: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let fate = (self.losing.fate)(&format!("{} {}", request.method(), request.uri().path()));
        let answer = self.inner.call(request);
        // A task of its own, because what is on its way cannot be called back.
        let answer = tokio::spawn(async move {
            match fate {
                Fate::Late(by) => {
                    sleep(by).await;
                    answer.await
                }
                Fate::AnsweredLate(by) => {
                    let answer = answer.await;
                    sleep(by).await;
                    answer
                }
                Fate::AnswerLost(by) => {
                    answer.await?;
                    sleep(by).await;
                    Err("the answer is lost".into())
                }
                Fate::Lost => Err("the request is lost".into()),
            }
        });
        Box::pin(async move { answer.await? })
    }
}
