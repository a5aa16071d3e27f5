//! What the harness does to the simulated OKMS, and the record of what OKMS held when.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    action::VersionState,
    history::{OkmsChange, Recorder, Trouble, TroubleId, What},
    world,
};
use crate::stage::Simulator;

pub(super) struct Okms {
    simulator: Simulator,
    recorder: Recorder,
    /// The serials of the certificates that may be in use.
    identities: Vec<String>,
    forbidden: Vec<String>,
    /// That these are.
    forbiddance: Option<TroubleId>,
    /// The faults that are set, by the plan's name.
    faults: BTreeMap<u32, (u64, TroubleId)>,
    /// That it refuses connections.
    stopped: Option<TroubleId>,
}

/// A client certificate with its key.
pub(super) struct Certificate {
    pub(super) chain: String,
    pub(super) key: String,
    pub(super) serial: String,
}

impl Okms {
    pub(super) fn new(simulator: Simulator, recorder: Recorder) -> Self {
        Self {
            simulator,
            recorder,
            identities: Vec::new(),
            forbidden: Vec::new(),
            forbiddance: None,
            faults: BTreeMap::new(),
            stopped: None,
        }
    }

    pub(super) fn check(&mut self) -> Result<()> {
        self.simulator.check()
    }

    /// Has the list of all secrets show current versions, or not: whether the real one does is unknown.
    pub(super) async fn list_versions(&self, listed: bool) -> Result<()> {
        self.simulator.patch_json("/switches", &json!({"listVersions": listed})).await
    }

    pub(super) async fn put(&self, path: &str, data: &Value) -> Result<()> {
        let from = Timestamp::now();
        let version = self.simulator.put(path, data.clone()).await?;
        let version = u32::try_from(version).context("a version has more than 32 bits")?;
        self.changed(from, path, What::Put { version, data: Arc::new(data.clone()) });
        Ok(())
    }

    pub(super) async fn set_state(&self, path: &str, version: u32, state: VersionState) -> Result<()> {
        let from = Timestamp::now();
        self.simulator.set_state(path, version.into(), state.word()).await?;
        self.changed(from, path, What::State { version, state });
        Ok(())
    }

    pub(super) async fn delete(&self, path: &str) -> Result<()> {
        let from = Timestamp::now();
        self.simulator.delete(path).await?;
        self.changed(from, path, What::Delete);
        Ok(())
    }

    fn changed(&self, from: Timestamp, path: &str, what: What) {
        let change = OkmsChange { from, to: Timestamp::now(), path: path.to_owned(), what };
        self.recorder.open().okms.push(change);
    }

    /// Issues a certificate that may do what the others may.
    pub(super) async fn issue(&mut self) -> Result<Certificate> {
        let issued = self.simulator.post("/domains/first/certificates", &json!({})).await?;
        let field = |name: &str| {
            let value = issued.get(name).and_then(Value::as_str).map(str::to_owned);
            value.with_context(|| format!("a certificate without {name}"))
        };
        let certificate = Certificate { chain: field("certPem")?, key: field("keyPem")?, serial: field("serial")? };
        self.identities.push(certificate.serial.clone());
        self.grant(&certificate.serial).await?;
        Ok(certificate)
    }

    pub(super) async fn revoke(&mut self, serial: &str) -> Result<()> {
        self.identities.retain(|identity| identity != serial);
        self.simulator.post("/domains/first/revocations", &json!({"identity": serial})).await.map(drop)
    }

    pub(super) async fn forbid(&mut self, paths: &[String]) -> Result<()> {
        // What was forbidden is so until the last identity is told otherwise.
        let begun =
            (!paths.is_empty()).then(|| self.recorder.open().trouble_begins_of(Trouble::Grants, Some(paths.to_vec())));
        let over = std::mem::replace(&mut self.forbiddance, begun);
        self.forbidden = paths.to_vec();
        for identity in self.identities.clone() {
            self.grant(&identity).await?;
        }
        if let Some(over) = over {
            self.recorder.open().trouble_ends(over);
        }
        Ok(())
    }

    pub(super) fn forbids(&self) -> bool {
        !self.forbidden.is_empty()
    }

    async fn grant(&self, identity: &str) -> Result<()> {
        let mut paths = world::paths();
        if self.forbids() {
            paths.retain(|path| !self.forbidden.contains(path));
        } else {
            paths.clear();
        }
        let actions = ["okms:apikms:secret/get", "okms:apikms:secret/version/getData"];
        let grants = json!([{"actions": actions, "paths": paths}]);
        self.simulator.put_json("/domains/first/grants", &json!({"identity": identity, "grants": grants})).await
    }

    pub(super) async fn fault(&mut self, id: u32, fault: &Value) -> Result<()> {
        let (trouble, paths) = meaning(fault);
        let trouble = self.recorder.open().trouble_begins_of(trouble, paths);
        let set = self.simulator.post("/faults", fault).await?;
        let set = set.get("id").and_then(Value::as_u64).context("a fault without an id")?;
        self.faults.insert(id, (set, trouble));
        Ok(())
    }

    pub(super) async fn end_fault(&mut self, id: u32) -> Result<()> {
        match self.faults.remove(&id) {
            Some((set, trouble)) => {
                self.simulator.delete_json(&format!("/faults/{set}")).await?;
                self.recorder.open().trouble_ends(trouble);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) async fn stop(&mut self) -> Result<()> {
        self.stopped = Some(self.recorder.open().trouble_begins(Trouble::Okms));
        self.simulator.stop().await
    }

    pub(super) async fn restart(&mut self) -> Result<()> {
        self.simulator.restart().await?;
        if let Some(trouble) = self.stopped.take() {
            self.recorder.open().trouble_ends(trouble);
        }
        Ok(())
    }

    /// How many faults are in force.
    pub(super) fn faults(&self) -> usize {
        self.faults.len() + usize::from(self.stopped.is_some()) + usize::from(self.forbids())
    }

    /// What the simulator was asked for, and how it answered.
    pub(super) async fn counters(&self) -> Result<Value> {
        self.simulator.get("/counters").await
    }

    /// Ends every fault.
    pub(super) async fn calm(&mut self) -> Result<()> {
        for id in self.faults.keys().copied().collect::<Vec<_>>() {
            self.end_fault(id).await?;
        }
        self.forbid(&[]).await?;
        if self.stopped.is_some() { self.restart().await } else { Ok(()) }
    }
}

/// What a fault keeps from being read, and how that is taken.
fn meaning(fault: &Value) -> (Trouble, Option<Vec<String>>) {
    let status = fault.pointer("/kind/status/status").and_then(Value::as_u64);
    // Who is to slow down asks for nothing else either, and what hangs takes the place of what would not.
    let spreads =
        status == Some(429) || ["/kind/latency", "/kind/slowBody"].iter().any(|kind| fault.pointer(kind).is_some());
    let path = fault.get("path").and_then(Value::as_str).filter(|_| !spreads);
    let trouble = match status {
        Some(401 | 403) => Trouble::Grants,
        _ if fault.pointer("/kind/staleReads").is_some() => Trouble::Lag,
        _ => Trouble::Okms,
    };
    (trouble, path.map(|path| vec![path.to_owned()]))
}
