//! Tells people, beside the status, what was done to a target and when something began to fail.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use super::Term;
use crate::api::{TargetChange, names};

/// Publishes events. One that cannot be published is logged and forgotten: nothing depends on it.
pub struct Events {
    client: Client,
    reporter: Reporter,
}

impl Events {
    pub fn new(client: Client) -> Self {
        Self { client, reporter: Reporter { controller: names::FIELD_MANAGER.to_owned(), instance: None } }
    }

    /// The target was changed.
    pub async fn changed(&self, term: &Term, object: &ObjectReference, change: TargetChange, note: String) {
        self.publish(term, object, EventType::Normal, change.as_str(), note).await;
    }

    /// Something began to fail.
    pub async fn failing(&self, term: &Term, object: &ObjectReference, reason: &str, note: String) {
        self.publish(term, object, EventType::Warning, reason, note).await;
    }

    async fn publish(&self, _: &Term, object: &ObjectReference, type_: EventType, reason: &str, note: String) {
        let note = note.chars().take(MAX_NOTE).collect();
        let event =
            Event { type_, reason: reason.to_owned(), note: Some(note), action: "Sync".to_owned(), secondary: None };
        // A recorder that lives on counts events of one reason into a series and keeps the note of the first.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        if let Err(error) = recorder.publish(&event, object).await {
            tracing::warn!(reason, error = %error, "an event could not be published");
        }
    }
}

/// The longest note that the API server takes (events.k8s.io/v1), in bytes; notes are ASCII but for names of users.
const MAX_NOTE: usize = 1000;
