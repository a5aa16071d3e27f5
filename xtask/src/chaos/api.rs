//! The operator's way to the API server: a proxy with faults. The harness itself does not take it.

use std::collections::BTreeMap;

use anyhow::Result;
use api_proxy::{Fault, FaultId, Matching, Proxy};
use kube::Config;

use super::history::{Recorder, Trouble};

pub(super) struct Api {
    proxy: Proxy,
    recorder: Recorder,
    /// The faults that are set, by the plan's name.
    faults: BTreeMap<u32, FaultId>,
}

impl Api {
    pub(super) async fn start(config: Config, seed: u64, recorder: Recorder) -> Result<Self> {
        Ok(Self { proxy: Proxy::start(config, seed).await?, recorder, faults: BTreeMap::new() })
    }

    /// For a client with a token.
    pub(super) fn kubeconfig(&self, token: &str) -> String {
        self.proxy.kubeconfig_yaml(Some(token.trim()))
    }

    pub(super) fn fault(&mut self, id: u32, fault: Fault) {
        self.recorder.open().trouble_begins(Trouble::Kubernetes);
        self.faults.insert(id, self.proxy.fault(fault));
    }

    pub(super) fn end_fault(&mut self, id: u32) {
        if let Some(set) = self.faults.remove(&id) {
            self.proxy.clear_fault(set);
            self.recorder.open().trouble_ends(Trouble::Kubernetes);
        }
    }

    pub(super) fn cut_watches(&self) {
        self.for_a_moment();
        self.proxy.cut_watches(&Matching::default());
    }

    pub(super) fn expire_watches(&self) {
        self.for_a_moment();
        self.proxy.expire_watches(&Matching::default());
    }

    /// A watch that ended begins again after a while.
    fn for_a_moment(&self) {
        let mut history = self.recorder.open();
        history.trouble_begins(Trouble::Kubernetes);
        history.trouble_ends(Trouble::Kubernetes);
    }

    /// How many faults are in force.
    pub(super) fn faults(&self) -> usize {
        self.faults.len()
    }

    /// Ends every fault.
    pub(super) fn calm(&mut self) {
        for id in self.faults.keys().copied().collect::<Vec<_>>() {
            self.end_fault(id);
        }
        self.proxy.clear_faults();
    }
}
