//! Counts TLS connections: a layer around the connector of `reqwest`, which hands out a connection once its handshake is over.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use tower::{Layer, Service};

use super::Observer;

#[derive(Clone)]
pub(super) struct CountHandshakes(pub(super) Arc<dyn Observer>);

impl<S> Layer<S> for CountHandshakes {
    type Service = Counted<S>;

    fn layer(&self, connector: S) -> Counted<S> {
        Counted { connector, observer: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
pub(super) struct Counted<S> {
    connector: S,
    observer: Arc<dyn Observer>,
}

impl<S, R> Service<R> for Counted<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let observer = Arc::clone(&self.observer);
        self.connector
            .call(request)
            .inspect(move |made| {
                if made.is_ok() {
                    observer.handshake();
                }
            })
            .boxed()
    }
}
