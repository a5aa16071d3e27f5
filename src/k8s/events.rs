//! Tells people, beside the status, what was done to a target and when something began to fail.
//!
//! Nothing depends on an event, so nobody waits for one: they are sent in the background, a few at a time, so that they do not keep the
//! API server from the writes that matter while thousands of objects are synced.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Term, WriteError};
use crate::api::{TargetChange, names};

/// Publishes events. One that cannot be published is logged and forgotten.
pub struct Events {
    queue: Mutex<Option<mpsc::Sender<Note>>>,
    sending: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// An event that waits to be sent.
struct Note {
    term: Term,
    event: Event,
    about: ObjectReference,
}

impl Events {
    /// Sends in the background until it is dropped or [drained](Events::drained).
    pub fn new(client: Client) -> Self {
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        let reporter = Reporter { controller: names::FIELD_MANAGER.to_owned(), instance: None };
        let waiting = stream::unfold(waiting, async |mut waiting| Some((waiting.recv().await?, waiting)));
        let sending = waiting.for_each_concurrent(AT_ONCE, move |Note { term, event, about }| {
            send(term, client.clone(), reporter.clone(), event, about)
        });
        let sending = AbortOnDropHandle::new(tokio::spawn(sending));
        Self { queue: Mutex::new(Some(queue)), sending: Mutex::new(Some(sending)) }
    }

    /// The target was changed.
    pub fn changed(&self, term: &Term, about: ObjectReference, change: TargetChange, note: &str) {
        self.publish(term, about, EventType::Normal, change.as_str(), note);
    }

    /// Something began to fail.
    pub fn failing(&self, term: &Term, about: ObjectReference, reason: &str, note: &str) {
        self.publish(term, about, EventType::Warning, reason, note);
    }

    /// Takes no more, and waits until all that waited are sent.
    pub async fn drained(&self) {
        lock(&self.queue).take();
        let sending = lock(&self.sending).take();
        if let Some(sending) = sending {
            // It cannot have been aborted, and a panic in it has lost events, which is no reason not to end well.
            let _ = sending.await;
        }
    }

    fn publish(&self, term: &Term, about: ObjectReference, type_: EventType, reason: &str, note: &str) {
        let note = note.chars().take(MAX_NOTE).collect();
        let event =
            Event { type_, reason: reason.to_owned(), note: Some(note), action: "Sync".to_owned(), secondary: None };
        if let Some(queue) = lock(&self.queue).as_ref()
            && queue.try_send(Note { term: term.clone(), event, about }).is_err()
        {
            tracing::warn!(reason, "an event is not published, because too many wait to be sent");
        }
    }
}

async fn send(term: Term, client: Client, reporter: Reporter, event: Event, about: ObjectReference) {
    // A recorder that lives on counts events of one reason into a series and keeps the note of the first.
    let recorder = Recorder::new(client, reporter);
    match term.send(recorder.publish(&event, &about)).await {
        // Whoever leads tells what it does.
        Ok(()) | Err(WriteError::NotLeading) => {}
        Err(error) => tracing::warn!(reason = event.reason, error = %error, "an event could not be published"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest note that the API server takes (events.k8s.io/v1), in bytes; notes are ASCII but for names of users.
const MAX_NOTE: usize = 1000;

/// How many are sent at once: an eighth of the objects that are reconciled at once by default.
const AT_ONCE: usize = 2;

/// How many wait at most, each some hundred bytes. Ten thousand objects that are synced at once write three times as long as their
/// events take.
const MOST_WAITING: usize = 4096;
