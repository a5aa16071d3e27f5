//! Looks for canaries in everything that anybody may see, and for that has everything logged that can be.

use std::{
    io, panic,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::Event;
use kube::{Api, Resource, api::ListParams};
use okms_operator::process::telemetry::{self, LogFormat};
use serde::{Serialize, de::DeserializeOwned};
use tracing::{
    Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

use crate::world::World;

/// A value to look for.
#[derive(Clone)]
pub(super) struct Canary(pub String);

impl Canary {
    pub(super) fn new() -> Self {
        Self(format!("canary-{}", uuid::Uuid::new_v4().simple()))
    }

    /// How the value, or a good part of it, looks as text, in base64 (at each of the three places where it can begin in a longer text),
    /// in hexadecimal, and as Rust prints bytes.
    fn forms(&self) -> Vec<String> {
        let part = &self.0.as_bytes()[7..31];
        let hex = part.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let bytes = part.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let base64 = (0..3).map(|shift| {
            let text = BASE64_STANDARD.encode([&b"xxx"[..shift], part].concat());
            // What stands at the ends depends on the neighbours.
            text[4..text.len() - 4].to_owned()
        });
        let mut forms: Vec<String> = base64.collect();
        forms.extend([String::from_utf8(part.to_vec()).unwrap(), hex.to_uppercase(), hex, bytes]);
        forms
    }
}

/// Where the canaries are that got out, one line for each.
fn found(canaries: &[Canary], place: &str, text: &str) -> Vec<String> {
    let mut hits = Vec::new();
    for form in canaries.iter().flat_map(Canary::forms) {
        if let Some(at) = text.find(&form) {
            let (before, after) = text.split_at(at);
            let start = before.rfind('\n').map_or(0, |end| end + 1);
            let end = after.find('\n').unwrap_or(after.len());
            hits.push(format!("{place}: {}{}", &before[start..], &after[..end]));
        }
    }
    hits
}

/// Everything that this process logged since the first canary test began, as the operator's own logging writes it at its finest.
pub(super) static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
    let log: Arc<Mutex<Vec<u8>>> = Arc::default();
    let writer = log.clone();
    let shipped =
        telemetry::subscriber(LogFormat::Text, "trace".parse().unwrap(), false, move || Lines(writer.clone()));
    tracing::subscriber::set_global_default(shipped.with(Bomb)).unwrap();
    // The operator's hook writes to the log; the one of the test harness goes on to say which test failed.
    let harness = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        telemetry::log_panic(info);
        if info.payload_as_str().is_none_or(|text| !text.starts_with("unexpected")) {
            harness(info);
        }
    }));
    log
});

pub(super) fn log() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned()
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A panic in the midst of a reconcile, without a hook for it in the operator: it goes off where a log line names the marked Secret.
struct Bomb;

/// What the panic says, as `unwrap` would say what it did not expect.
pub(super) static CHARGE: Mutex<Option<(String, String)>> = Mutex::new(None);
pub(super) static EXPLOSIONS: AtomicU32 = AtomicU32::new(0);

impl<S: Subscriber> Layer<S> for Bomb {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        if !event.metadata().target().starts_with("okms_operator::controller") {
            return;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let mut charge = CHARGE.lock().unwrap();
        if charge.as_ref().is_some_and(|(mark, _)| message.0.contains(mark)) {
            let (_, value) = charge.take().unwrap();
            drop(charge);
            EXPLOSIONS.fetch_add(1, Ordering::SeqCst);
            panic!("unexpected value: {value}");
        }
    }
}

/// Everything of this kind in the namespace, as JSON, without the data of Secrets.
async fn listed<K>(api: Api<K>) -> String
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let list = api.list(&ListParams::default()).await.unwrap();
    let mut list = serde_json::to_value(list).unwrap();
    for item in list["items"].as_array_mut().unwrap() {
        item.as_object_mut().unwrap().remove("data");
    }
    list.to_string()
}

/// All that the world lets anybody see but the data of its Secrets.
async fn visible(world: &World) -> Vec<(&'static str, String)> {
    let namespaced = |name| (world.client.clone(), name);
    let (client, name) = namespaced(&world.name);
    // What somebody pasted into a spec is theirs to see; what was said of it is not.
    let stores = listed(world.okms_stores(&world.name)).await;
    let store = world.stores().get_opt(&world.name).await.unwrap();
    vec![
        ("log", log()),
        ("events", listed(Api::<Event>::namespaced(client, name)).await),
        ("OkmsSecrets", listed(world.objects()).await),
        ("metadata of Secrets", listed(world.secrets()).await),
        ("OkmsStores", stores),
        ("store", serde_json::to_string(&store).unwrap()),
        ("metrics", world.operator.as_ref().unwrap().metrics.encode()),
    ]
}

pub(super) async fn hits(world: &World, canaries: &[Canary]) -> Vec<String> {
    visible(world).await.iter().flat_map(|(place, text)| found(canaries, place, text)).collect()
}
