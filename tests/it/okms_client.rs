//! The OKMS client against the simulator, over real mTLS: what answers become, and what failures.
//!
//! Most tests run once over HTTP/2 and once over HTTP/1.1: failures surface in different ways.

mod failures;
mod reads;
mod server;
mod tokens;
mod trust;

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use okms_operator::{
    model::{Facts, Path, Reading, Version},
    okms::{Client, ClientOptions, Credential, Endpoint, Error, Identity, Observer, Operation, Outcome, Roots},
};
use okms_sim::{ClientCertificate, Domain, Options, Sim, Validity};

/// Longer than any answer takes that is not held back on purpose.
const PATIENCE: ClientOptions = ClientOptions {
    timeout: Duration::from_secs(20),
    connect_timeout: Duration::from_secs(10),
    connection_lifetime: Duration::from_mins(10),
};

/// A simulator with a client of its first domain.
struct Stage {
    sim: Sim,
    domain: Domain,
    certificate: ClientCertificate,
    client: Client,
    seen: Arc<Seen>,
}

impl Stage {
    async fn new() -> Self {
        Self::with(true, PATIENCE).await
    }

    async fn with(http2: bool, options: ClientOptions) -> Self {
        let sim = Sim::start(Options::default()).await.unwrap();
        sim.with_switches(|switches| switches.http2 = http2);
        let domain = sim.domain();
        let certificate = domain.issue_client_certificate(Validity::days(30)).unwrap();
        let seen = Arc::new(Seen::default());
        let client = client(&sim.endpoint(), &domain, &own_roots(&sim), &certificate, options, &seen);
        Self { sim, domain, certificate, client, seen }
    }

    /// A client of the same domain with another certificate.
    fn client_with(&self, certificate: &ClientCertificate) -> Client {
        client(&self.sim.endpoint(), &self.domain, &own_roots(&self.sim), certificate, PATIENCE, &self.seen)
    }
}

/// What the client told its observer.
#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<(Operation, Outcome)>>,
    handshakes: AtomicUsize,
    clock: Mutex<Vec<bool>>,
}

impl Observer for Seen {
    fn request(&self, operation: Operation, outcome: Outcome, _took: Duration) {
        self.requests.lock().unwrap().push((operation, outcome));
    }

    fn handshake(&self) {
        self.handshakes.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }

    fn clock(&self, differs: bool) {
        self.clock.lock().unwrap().push(differs);
    }
}

impl Seen {
    fn handshakes(&self) -> usize {
        self.handshakes.load(std::sync::atomic::Ordering::SeqCst)
    }
}

fn own_roots(sim: &Sim) -> Roots {
    Roots::Pem(sim.server_ca_pem().into_bytes())
}

fn identity(certificate: &ClientCertificate) -> Identity {
    let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let files = BTreeMap::from([file("tls.crt", &certificate.cert_pem), file("tls.key", &certificate.key_pem)]);
    Identity::from_files(&files).unwrap()
}

fn client(
    endpoint: &str,
    domain: &Domain,
    roots: &Roots,
    certificate: &ClientCertificate,
    options: ClientOptions,
    seen: &Arc<Seen>,
) -> Client {
    client_of(endpoint, domain, roots, &identity(certificate).into(), options, seen)
}

/// A client with any kind of credential.
fn client_of(
    endpoint: &str,
    domain: &Domain,
    roots: &Roots,
    credential: &Credential,
    options: ClientOptions,
    seen: &Arc<Seen>,
) -> Client {
    let endpoint: Endpoint = endpoint.parse().unwrap();
    let okms_id = domain.okms_id().parse().unwrap();
    let observer: Arc<dyn Observer> = Arc::<Seen>::clone(seen);
    Client::new(&endpoint, &okms_id, roots, credential, options, observer).unwrap()
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn version(number: u32) -> Version {
    number.try_into().unwrap()
}

async fn metadata(client: &Client, at: &str) -> Result<Facts, Error> {
    client.metadata(&path(at)).await
}

async fn data(client: &Client, at: &str, pin: Option<u32>) -> Result<Reading, Error> {
    client.data(&path(at), pin.map(version)).await
}

/// Everything that an error could show to anybody.
fn shown(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut next: Option<&dyn StdError> = error.source();
    while let Some(cause) = next {
        text = format!("{text} {cause} {cause:?}");
        next = cause.source();
    }
    text
}
