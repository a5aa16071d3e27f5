//! The dull half of a desk: makes the requests that the ledger names, hands back what came of them, passes on the wakes.
//!
//! It decides nothing. One task per store; each request is a task of its own that ends by the client's own deadline.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::FutureExt;
use tokio::{sync::Notify, task::JoinSet, time::sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Domain, Wake, WakeSink,
    ledger::{Call, Fault, FaultKind, Ledger, Now, Outcome, Request},
    now,
};
use crate::{
    model::{StoreName, StoreTrouble},
    okms::{Client, Error, ErrorKind},
};

/// The ledger and the clients of one store.
pub(super) struct Desk {
    store: StoreName,
    pub(super) domain: Domain,
    ledger: Mutex<Ledger>,
    clients: Mutex<Clients>,
    stirred: Notify,
    cancel: CancellationToken,
}

#[derive(Default)]
struct Clients {
    current: Option<Arc<Client>>,
    /// With the number that the ledger knows it by.
    candidate: Option<(u64, Arc<Client>)>,
}

impl Desk {
    pub(super) fn new(store: StoreName, domain: Domain, ledger: Ledger, cancel: CancellationToken) -> Self {
        Self { store, domain, ledger: Mutex::new(ledger), clients: Mutex::default(), stirred: Notify::new(), cancel }
    }

    /// A reconcile that panicked with the lock in hand has left whole books: every change of the ledger is one call.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the driver look at the ledger.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// The moment, by the clock of OKMS too where that is known.
    pub(super) fn now(&self) -> Now {
        now(self.clients().current.as_ref().and_then(|client| client.clock_offset()))
    }

    pub(super) fn close(&self) {
        self.cancel.cancel();
    }

    pub(super) fn propose(&self, now: Now, client: Client) {
        let mut ledger = self.ledger();
        let number = ledger.propose_credential(now);
        self.clients().candidate = Some((number, Arc::new(client)));
    }

    pub(super) fn disconnect(&self, now: Now, trouble: StoreTrouble) {
        let mut ledger = self.ledger();
        *self.clients() = Clients::default();
        ledger.disconnect(now, trouble);
    }

    /// A request ended. A credential that has proven itself by it is the one in use before anybody can propose another.
    fn answer(&self, now: Now, request: &Request, outcome: Outcome) {
        let mut ledger = self.ledger();
        ledger.answer(now, request, outcome);
        if let Some(number) = ledger.take_promoted() {
            self.promote(number);
        }
    }

    fn promote(&self, number: u64) {
        let mut clients = self.clients();
        if let Some((_, candidate)) = clients.candidate.take_if(|(proposed, _)| *proposed == number) {
            clients.current = Some(candidate);
        }
    }

    fn client(&self, candidate: Option<u64>) -> Option<Arc<Client>> {
        let clients = self.clients();
        match candidate {
            None => clients.current.clone(),
            Some(number) => {
                clients.candidate.as_ref().filter(|(own, _)| *own == number).map(|(_, client)| client.clone())
            }
        }
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one desk until it is closed.
pub(super) async fn run(desk: Arc<Desk>, sink: WakeSink) {
    let mut calls: JoinSet<(Request, Outcome)> = JoinSet::new();
    loop {
        let todo = desk.ledger().poll(desk.now());
        for id in todo.wakes {
            sink(Wake::Object(id));
        }
        if todo.store_changed {
            sink(Wake::Store(desk.store.clone()));
        }
        for request in todo.requests {
            let client = desk.client(request.candidate);
            calls.spawn(async move {
                let outcome = AssertUnwindSafe(call(client, &request.call)).catch_unwind().await;
                (request, outcome.unwrap_or_else(|_| failed("the request to OKMS ended abnormally")))
            });
        }
        let pause = async {
            match todo.next {
                Some(next) => sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = desk.cancel.cancelled() => return,
            () = desk.stirred.notified() => {}
            () = pause => {}
            Some(Ok((request, outcome))) = calls.join_next() => {
                desk.answer(desk.now(), &request, outcome);
                // What was asked together is answered together, and looked at once.
                while let Some(Ok((request, outcome))) = calls.try_join_next() {
                    desk.answer(desk.now(), &request, outcome);
                }
            }
        }
    }
}

async fn call(client: Option<Arc<Client>>, call: &Call) -> Outcome {
    let Some(client) = client else {
        // The credential went away between the decision and the call.
        return failed("the credential was removed");
    };
    let result = match call {
        Call::Metadata(path) => client.metadata(path).await.map(Outcome::Metadata),
        Call::Data(path, version) => client.data(path, *version).await.map(Outcome::Data),
        Call::Page(cursor) => client.page(cursor.as_ref()).await.map(Outcome::Page),
        Call::Root => match client.list_root().await {
            // An identity that may not list is known all the same. A 403 of a proxy shows nothing.
            Err(error) if error.status() == Some(403) && error.is_of_okms() => Ok(Outcome::Root),
            result => result.map(|()| Outcome::Root),
        },
    };
    result.unwrap_or_else(|error| {
        tracing::debug!(
            kind = error.kind().as_str(),
            status = error.status(),
            request_id = error.request_id(),
            cause = std::error::Error::source(&error).map(tracing::field::display),
            "{error}"
        );
        Outcome::Failed(fault(&error))
    })
}

fn failed(message: &str) -> Outcome {
    Outcome::Failed(Fault { kind: FaultKind::Unavailable, message: message.to_owned(), retry_after: None })
}

fn fault(error: &Error) -> Fault {
    let kind = match error.kind() {
        ErrorKind::NotFound => FaultKind::NotFound,
        ErrorKind::Refused => FaultKind::Refused,
        ErrorKind::RateLimited => FaultKind::RateLimited,
        ErrorKind::Unavailable => FaultKind::Unavailable,
        ErrorKind::Tls(_) => FaultKind::Tls,
        ErrorKind::TooLarge => FaultKind::TooLarge,
        ErrorKind::Unexpected => FaultKind::Unexpected,
    };
    Fault { kind, message: error.to_string(), retry_after: error.retry_after() }
}
