//! The register of open connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use loopback::{Connection, Traffic};

use crate::pki::Subject;
use crate::world::locked;

struct Open {
    connection: Arc<Connection>,
    serial: String,
}

/// The connections that have a client certificate, for revocation, and the traffic of all.
#[derive(Default)]
pub(crate) struct Connections {
    pub(crate) traffic: Arc<Traffic>,
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Open>>,
}

impl Connections {
    /// Registers a connection for as long as the returned guard lives.
    pub(crate) fn register(&self, connection: &Arc<Connection>, subject: &Subject) -> Registered<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let open = Open { connection: Arc::clone(connection), serial: subject.serial.clone() };
        locked(&self.open).insert(id, open);
        Registered { all: self, id }
    }

    /// Closes every connection of a certificate.
    pub(crate) fn close(&self, serial: &str) {
        for open in locked(&self.open).values() {
            if open.serial == serial {
                open.connection.close();
            }
        }
    }
}

pub(crate) struct Registered<'a> {
    all: &'a Connections,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        locked(&self.all.open).remove(&self.id);
    }
}
