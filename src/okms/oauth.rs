//! The access tokens of a service account ([`AccessTokens`]): fetched when needed, kept while they are good, renewed before they end.
//!
//! At most one request for a token is under way; whoever needs one waits for it, and nobody who gives up ends it for the others. When
//! to ask is decided in `books`, what an answer says in `answer`. A token is never shown, and is overwritten when nobody uses it any more.

mod answer;
mod books;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use tokio::time::{Instant, timeout_at};

use super::{
    ClientOptions, Error, Observer, Operation, Outcome, ServiceAccount,
    body::{self, BodyError},
    client::BuildError,
    connection::Line,
    error::{Failure, Reason, Server, TokenProblem},
    tls,
};
use answer::{Fresh, LIMIT, TokenAnswer};
pub(super) use books::Grant;
use books::{Books, Need, Verdict};

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Where the tokens of one service account come from.
pub(super) struct AccessTokens(Arc<Inner>);

struct Inner {
    account: ServiceAccount,
    line: Line,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    books: Books,
    renewal: Option<Renewal>,
}

/// The one request for a token that is under way, for as many as wait for it.
type Renewal = Shared<BoxFuture<'static, Result<Grant, Error>>>;

impl AccessTokens {
    /// Nothing is asked yet.
    pub(super) fn new(
        account: &ServiceAccount,
        options: ClientOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, BuildError> {
        let tls = tls::config(account.roots(), None).map_err(|error| match error {
            BuildError::Roots(error) => BuildError::TokenRoots(error),
            other => other,
        })?;
        let line = Line::new(tls, options, observer).map_err(BuildError::Http)?;
        Ok(Self(Arc::new(Inner { account: account.clone(), line, state: Mutex::default() })))
    }

    /// A token that should be good. Waits for one only where there is none.
    pub(super) async fn grant(&self, deadline: Instant) -> Result<Grant, Error> {
        let renewal = {
            let mut state = self.0.state();
            match state.books.need(Instant::now()) {
                Need::Nothing(grant) => return Ok(grant),
                Need::Soon(grant) => {
                    // It goes on by itself.
                    drop(self.renewal(&mut state));
                    return Ok(grant);
                }
                Need::Patience(error) => return Err(error),
                Need::Now => self.renewal(&mut state),
            }
        };
        wait(renewal, deadline).await
    }

    /// Another token, after OKMS did not accept this one for a request that began at `asked`; `None` if there is none that could help.
    pub(super) async fn after_refusal(
        &self,
        refused: &Grant,
        asked: Instant,
        deadline: Instant,
    ) -> Result<Option<Grant>, Error> {
        let renewal = {
            let mut state = self.0.state();
            match state.books.refused(refused, asked, Instant::now()) {
                Verdict::Final => return Ok(None),
                Verdict::Other(grant) => return Ok(Some(grant)),
                Verdict::Patience(error) => return Err(error),
                Verdict::Renew => self.renewal(&mut state),
            }
        };
        wait(renewal, deadline).await.map(Some)
    }

    /// Whether the token that [`AccessTokens::after_refusal`] gave did help.
    pub(super) fn tried(&self, accepted: bool) {
        self.0.state().books.tried(accepted, Instant::now());
    }

    /// The request under way, or a new one. It is a task of its own, so it ends whether or not anybody waits.
    fn renewal(&self, state: &mut State) -> Renewal {
        // One that has ended, and did not say so here, has been given up with its runtime.
        if let Some(renewal) = state.renewal.as_ref().filter(|renewal| renewal.peek().is_none()) {
            return renewal.clone();
        }
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(async move { inner.renew().await });
        let renewal = task.map(|ended| ended.unwrap_or_else(|_| Err(abandoned()))).boxed().shared();
        state.renewal = Some(renewal.clone());
        renewal
    }
}

async fn wait(renewal: Renewal, deadline: Instant) -> Result<Grant, Error> {
    let timeout = |_| Err(Error::new(Reason::Of(Server::TokenEndpoint, Failure::Timeout)));
    timeout_at(deadline, renewal).await.unwrap_or_else(timeout)
}

fn abandoned() -> Error {
    Error::new(Reason::Token(TokenProblem::Abandoned))
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew(&self) -> Result<Grant, Error> {
        let start = Instant::now();
        let result = AssertUnwindSafe(self.ask()).catch_unwind().await.unwrap_or_else(|_| Err(abandoned()));
        self.line.observer.request(Operation::Token, Outcome::from(&result), start.elapsed());
        if let Err(error) = &result {
            tracing::debug!(
                kind = error.kind().as_str(),
                status = error.status(),
                cause = std::error::Error::source(error).map(tracing::field::display),
                "{error}"
            );
        }
        let mut state = self.state();
        state.renewal = None;
        state.books.renewed(result, start, Instant::now(), rand::random())
    }

    /// One request for a token.
    async fn ask(&self) -> Result<Fresh, Error> {
        let of_transport = |error, answering| Error::transport(Server::TokenEndpoint, error, answering);
        let connections = self.line.connections().map_err(|error| of_transport(error, false))?;
        let url = self.account.token_endpoint().url().clone();
        let request = connections.post(url).header(CONTENT_TYPE, FORM).body(self.account.form());
        let response = request.send().await.map_err(|error| of_transport(error, false))?;
        let answer = TokenAnswer::new(response.status().as_u16(), response.headers(), Timestamp::now());
        if !answer.wants_body() {
            return answer.token(&[]);
        }
        match body::read(response, LIMIT).await {
            Ok(body) => answer.token(&body),
            Err(BodyError::TooLarge) => Err(Error::new(Reason::Token(TokenProblem::TooLarge))),
            Err(BodyError::Transport(error)) => Err(of_transport(error, true)),
        }
    }
}
