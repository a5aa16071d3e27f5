//! The simulator's handle: start, stop, domains, faults, switches, counters.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loopback::{Port, Server};
use uuid::Uuid;

use crate::counters::{Arrival, Counters};
use crate::domain::Domain;
use crate::fault::{Fault, FaultId};
use crate::pki::Authority;
use crate::server;
use crate::switches::Switches;
use crate::tls::ServerConfigs;
use crate::world::{DomainState, World, locked};

/// How a simulator starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Loopback only; port 0 takes a free one.
    pub listen: SocketAddr,
    pub switches: Switches,
    /// The first domain's id; `None`: a new one.
    pub okms_id: Option<Uuid>,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), switches: Switches::default(), okms_id: None }
    }
}

/// A running simulator: one region's data plane. It ends when it is dropped.
pub struct Sim {
    world: Arc<World>,
    tls: Arc<ServerConfigs>,
    server_ca_pem: String,
    port: Port,
    server: Mutex<Option<Server>>,
    domain: Domain,
}

impl Sim {
    /// Starts a simulator with one domain, on the tokio runtime of the caller.
    pub async fn start(options: Options) -> Result<Self> {
        ensure!(options.listen.ip().is_loopback(), "the simulator listens on loopback only, not on {}", options.listen);
        let server_authority = Authority::server().context("making the server's authority")?;
        let users_authority = Authority::users().context("making the authority of users")?;
        let world = Arc::new(World::new(users_authority, options.switches));
        let tls = ServerConfigs::new(&world, &server_authority).context("setting TLS up")?;
        let port = Port::keep(options.listen).with_context(|| format!("binding {}", options.listen))?;
        let domain = hosted(&world, options.okms_id.unwrap_or_else(Uuid::new_v4));
        let sim = Self {
            world,
            tls: Arc::new(tls),
            server_ca_pem: server_authority.pem(),
            port,
            server: Mutex::new(None),
            domain,
        };
        sim.restart().await?;
        Ok(sim)
    }

    /// `https://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.port.address())
    }

    /// Where service accounts get their access tokens: on the same port, though OVHcloud has another host for it.
    pub fn token_endpoint(&self) -> String {
        format!("{}{}", self.endpoint(), crate::token::PATH)
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The authority of the server's certificate.
    pub fn server_ca_pem(&self) -> String {
        self.server_ca_pem.clone()
    }

    /// The first domain, made at the start.
    pub fn domain(&self) -> Domain {
        self.domain.clone()
    }

    /// One more domain of this region.
    pub fn add_domain(&self) -> Domain {
        hosted(&self.world, Uuid::new_v4())
    }

    /// A domain of another region: its certificates are genuine, and refused here.
    pub fn foreign_domain(&self) -> Domain {
        Domain::new(Arc::clone(&self.world), DomainState::new(Uuid::new_v4()))
    }

    /// The domain of this id.
    pub fn find_domain(&self, okms_id: Uuid) -> Option<Domain> {
        let state = self.world.domain(okms_id)?;
        Some(Domain::new(Arc::clone(&self.world), state))
    }

    pub fn domains(&self) -> Vec<Domain> {
        self.world.domains().into_iter().map(|state| Domain::new(Arc::clone(&self.world), state)).collect()
    }

    /// Sets a fault; it stays until its count is used up or it is cleared.
    pub fn fault(&self, fault: Fault) -> FaultId {
        self.world.add_fault(fault)
    }

    /// Clears one fault; `false` if it was gone already.
    pub fn clear_fault(&self, id: FaultId) -> bool {
        self.world.faults().remove(id)
    }

    pub fn clear_faults(&self) {
        self.world.faults().clear();
    }

    /// The faults that are set, with what is left of their counts.
    pub fn faults(&self) -> Vec<(FaultId, Fault)> {
        self.world.faults().list()
    }

    pub fn switches(&self) -> Switches {
        Switches::clone(&self.world.switches())
    }

    /// Changes switches; requests that begin later see it.
    pub fn with_switches(&self, change: impl FnOnce(&mut Switches)) {
        self.world.with_switches(change);
    }

    pub fn counters(&self) -> Counters {
        let traffic = &self.world.connections.traffic;
        let mut counters = self.world.counters();
        counters.bytes_in = traffic.bytes_in.load(Ordering::Relaxed);
        counters.bytes_out = traffic.bytes_out.load(Ordering::Relaxed);
        counters
    }

    /// The last requests, in the order of their arrival, since the counters were reset.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.world.arrivals()
    }

    /// Waits until the counters meet a condition. It has no deadline of its own: wrap it in one.
    pub async fn wait_until(&self, mut condition: impl FnMut(&Counters) -> bool) {
        loop {
            let changed = self.world.counted.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change falls between the two.
            changed.as_mut().enable();
            if condition(&self.counters()) {
                return;
            }
            changed.await;
        }
    }

    pub fn reset_counters(&self) {
        let traffic = &self.world.connections.traffic;
        self.world.count(|counters| *counters = Counters::default());
        self.world.forget_arrivals();
        traffic.bytes_in.store(0, Ordering::Relaxed);
        traffic.bytes_out.store(0, Ordering::Relaxed);
    }

    /// Moves the simulator's clock forward: lifetimes of versions, certificates and tokens. Never back.
    pub fn advance(&self, by: Duration) {
        self.world.clock.advance(by);
    }

    /// Ends the listener and all connections; connecting is refused until [`Sim::restart`]. The port stays ours.
    pub async fn stop(&self) {
        let server = locked(&self.server).take();
        if let Some(server) = server {
            server.stop().await;
        }
    }

    /// Listens again on the same port, with the same domains. Ends what ran before.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await;
        let listener = self.port.listen().with_context(|| format!("listening on {}", self.port.address()))?;
        let server = server::start(&self.world, &self.tls, listener);
        *locked(&self.server) = Some(server);
        Ok(())
    }
}

fn hosted(world: &Arc<World>, okms_id: Uuid) -> Domain {
    let state = DomainState::new(okms_id);
    world.add_domain(Arc::clone(&state));
    Domain::new(Arc::clone(world), state)
}
